"""``before=`` and ``after=``: the order within a priority (D1)."""

from __future__ import annotations

import errno
import weakref
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin import (
    AtomicChain,
    BlockingChain,
    NameFilter,
    NotifierBlock,
    OrderConflictError,
    RawChain,
    RegistrationError,
    SrcuChain,
)

from .flavours import WAY_IDS, WAYS, Rig

pytestmark = pytest.mark.anyio


@pytest.fixture(params=WAYS, ids=WAY_IDS)
async def rig(request: pytest.FixtureRequest, anyio_backend: str) -> Rig:
    flavour, colour, walk = request.param
    return Rig(flavour, colour=colour, walk=walk)


def names(chain: Any) -> str:
    return " ".join(block.name for block in chain.blocks)


async def heard(rig: Rig, event: object = "up") -> str:
    await rig.call(event, None)
    return " ".join(rig.drain())


async def test_d1_before_and_after_order_blocks_of_one_priority(rig: Rig) -> None:
    await rig.add("a")
    await rig.add("b", before="a")
    await rig.add("c")
    await rig.add("d", after=["c", "a"])
    await rig.add("e", before=("b",))
    assert await heard(rig) == "e b a c d"
    assert names(rig.chain) == "e b a c d"


async def test_d1_a_constraint_holds_against_blocks_that_come_later(rig: Rig) -> None:
    await rig.add("early", after="late", before="never")
    await rig.add("other")
    assert await heard(rig) == "early other"
    late = await rig.add("late")
    assert await heard(rig) == "other late early"
    await rig.unregister(late)
    assert await heard(rig) == "early other"


async def test_d1_a_constraint_holds_for_every_bearer_of_a_name(rig: Rig) -> None:
    await rig.add("log")
    await rig.add("x", before="log")
    await rig.add("log")
    assert await heard(rig) == "x log log"


async def test_d1_a_qualified_name_means_the_bearer_of_that_module_only(rig: Rig) -> None:
    await rig.add("a", before=f"{__name__}:b")
    await rig.add("b", after="tests.flavours:c")
    await rig.add("c", before="elsewhere:a")
    assert names(rig.chain) == "a c b"


async def test_d1_blocks_that_ask_for_nothing_keep_their_order(rig: Rig) -> None:
    for name in "abcdefgh":
        await rig.add(name, before="c" if name == "g" else ())
    assert names(rig.chain) == "a b g c d e f h"
    for name in "xyz":
        await rig.add(name, after="d" if name == "y" else ())
    assert names(rig.chain) == "a b g c d e f h x y z"
    await rig.add("early", before="e", after="y")
    assert names(rig.chain) == "a b g c d f h x y early e z"


async def test_d1_who_asks_moves_and_the_others_stay(rig: Rig) -> None:
    for name in ("auth", "log", "handler"):
        await rig.add(name)
    await rig.add("plugin", before="auth")
    assert names(rig.chain) == "plugin auth log handler"
    await rig.add("other", before="plugin")
    await rig.add("third", before="plugin")
    assert names(rig.chain) == "other third plugin auth log handler"


async def test_d1_a_block_that_waits_for_a_later_one_comes_right_after_it(rig: Rig) -> None:
    await rig.add("waits", after="late")
    for name in ("b", "late", "c"):
        await rig.add(name)
    assert names(rig.chain) == "b late waits c"


async def test_d1_sync_and_async_blocks_may_change_places(rig: Rig) -> None:
    log: list[str] = []

    async def slow(event: Any, data: Any) -> None:
        log.append("slow")

    if not isinstance(rig.chain, SrcuChain | BlockingChain) and rig.prefix != "a":
        return  # sync callbacks only
    await rig.register(slow, name="slow")
    await rig.register(lambda event, data: log.append("quick"), name="quick", before="slow")
    await rig.register(slow, name="first", before="quick")
    for event in ("up", "down"):
        await rig.call(event, None)
    assert log == ["slow", "quick", "slow"] * 2


async def test_d14_a_block_that_asked_is_released_when_it_is_gone(rig: Rig) -> None:
    await rig.add("a")
    block = await rig.add("b", before="a")
    there = weakref.ref(block)
    await rig.unregister(block)
    del block
    assert there() is None
    await rig.add("c")


async def test_d1_the_order_of_an_event_is_that_of_the_chain(rig: Rig) -> None:
    await rig.add("a", events="up")
    await rig.add("b")
    await rig.add("c", before="a", events="down")
    await rig.add("d", events=["up", "down"], after="b")
    await rig.add("e", events="up", before="b")
    assert names(rig.chain) == "c a e b d"
    assert [await heard(rig, event) for event in ("up", "down", "other")] == [
        "a e b d",
        "c b d",
        "b",
    ]


async def test_d1_a_constraint_that_a_priority_grants_is_fine(rig: Rig) -> None:
    await rig.add("low", priority=-1, after="high")
    await rig.add("high", priority=1, before="low")
    assert names(rig.chain) == "high low"


@pytest.mark.parametrize("first", [0, 1])
async def test_d1_a_contradiction_with_a_priority_is_refused(rig: Rig, first: int) -> None:
    asking = {"name": "asking", "priority": 1, "after": "asked"}
    asked = {"name": "asked", "priority": 0}
    options = [(asking, asked), (asked, asking)][first]
    one = await rig.register(rig.callback("x"), **options[0])
    with pytest.raises(OrderConflictError) as caught:
        await rig.register(rig.callback("y"), **options[1])
    assert str(caught.value) == (
        f"block '{options[1]['name']}' cannot be registered on chain 'chain': block 'asking' of "
        "priority 1 asks to come after block 'asked' of priority 0; higher priority runs first, so "
        "change one of these"
    )
    assert {block.name for block in caught.value.blocks} == {"asking", "asked"}
    assert caught.value.block in caught.value.blocks
    assert rig.chain.blocks == (one,)


async def test_d1_asking_to_come_before_a_higher_priority_is_refused(rig: Rig) -> None:
    await rig.add("high", priority=1)
    message = "block 'low' of priority 0 asks to come before block 'high' of priority 1; higher"
    with pytest.raises(OrderConflictError, match=message):
        await rig.add("low", before="high")


async def test_d1_a_circle_is_refused_naming_its_members_and_nobody_else(rig: Rig) -> None:
    await rig.add("bystander", after="a")
    a = await rig.add("a", before="b")
    b = await rig.add("b", before="c")
    with pytest.raises(OrderConflictError) as caught:
        await rig.add("c", before="a")
    error = caught.value
    assert isinstance(error, RegistrationError)
    assert (error.errno, error.chain) == (errno.EINVAL, rig.chain)
    assert set(error.blocks) == {a, b, error.block}
    said = str(error).partition("they ask for ")[2]
    assert said.endswith("; leave out one of these")
    circle = said.partition(";")[0].split(" before ")
    assert circle in [
        [f"'{name}'" for name in turn]
        for turn in (["a", "b", "c", "a"], ["b", "c", "a", "b"], ["c", "a", "b", "c"])
    ]
    assert names(rig.chain) == "a bystander b"
    assert error.block.chain is None


async def test_d1_a_refused_block_can_be_registered_when_the_conflict_is_gone(rig: Rig) -> None:
    a = await rig.add("a", before="b")
    b = NotifierBlock(rig.callback("b"), before="a")
    with pytest.raises(OrderConflictError):
        await rig.register(b)
    await rig.unregister(a)
    await rig.register(b)
    assert names(rig.chain) == "b"


async def test_d1_a_conflict_with_a_parked_block_is_found_at_registration(rig: Rig) -> None:
    await rig.set_filter(NameFilter(["b"]))
    await rig.add("a", before="b")
    with pytest.raises(OrderConflictError):
        await rig.add("b", before="a")
    await rig.set_filter(None)
    assert names(rig.chain) == "a"


async def test_d1_a_parked_block_asks_for_nothing_until_it_is_admitted(rig: Rig) -> None:
    await rig.add("a", after="p")
    await rig.add("p", after="b")
    await rig.add("b")
    await rig.add("c")
    assert names(rig.chain) == "b p a c"
    with rig.chain.only("a", "b", "c"):
        assert names(rig.chain) == "a b c"
        assert await heard(rig) == "a b c"
    assert await heard(rig) == "b p a c"


async def test_d1_an_admitted_block_of_which_nobody_speaks_takes_its_place(rig: Rig) -> None:
    await rig.add("a", after="d")
    for name in "bpd":
        await rig.add(name)
    assert names(rig.chain) == "b p d a"
    with rig.chain.only("a", "b", "d"):
        assert names(rig.chain) == "b d a"
    assert names(rig.chain) == "b p d a"
    assert await heard(rig) == "b p d a"


async def test_d1_a_removed_block_is_not_entered_though_the_order_had_been_changed(
    rig: Rig,
) -> None:
    async def leave(event: Any, data: Any) -> None:
        rig.chain.unregister_nosync(last)

    def leave_sync(event: Any, data: Any) -> None:
        rig.chain.unregister_nosync(last)

    last = await rig.add("last")
    await rig.register(leave if rig.colour == "async" else leave_sync, name="leave", before="last")
    await rig.add("x", before="leave")
    assert await heard(rig) == "x"
    assert names(rig.chain) == "x leave"


@pytest.mark.parametrize("option", ["before", "after"])
@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("me", ValueError, "{}= of block 'me' names the block itself; leave 'me' out"),
        (f"{__name__}:me", ValueError, "names the block itself"),
        (["x", "log_*"], ValueError, "{}= of block 'me': 'log_[*]' cannot be a block's name"),
        ("a,b", ValueError, "'a,b' cannot be a block's name"),
        ("", ValueError, "'' cannot be a block's name"),
        ("metrics_*:log", ValueError, "'metrics_[*]' cannot be a block's name"),
        (":log", ValueError, "'' cannot be a block's name"),
        ("a b:log", ValueError, "'a b' cannot be a block's name"),
        ("m:a:b", ValueError, "'a:b' cannot be a block's name"),
        (3, TypeError, "{}= of block 'me' takes names of blocks, not int"),
        ([3], TypeError, "{}= of block 'me': a block's name must be a str, not int"),
        (None, TypeError, "takes names of blocks, not NoneType"),
    ],
)
def test_a_constraint_that_makes_no_sense_is_refused(
    option: str, names: Any, error: type[Exception], message: str
) -> None:
    def me(event: Any, data: Any) -> None: ...

    with pytest.raises(error, match=message.format(option)):
        NotifierBlock(me, name="me", **{option: names})


def test_before_and_after_the_same_block_is_refused() -> None:
    with pytest.raises(ValueError, match="block 'x' cannot come both before and after a, b"):
        NotifierBlock(print, name="x", before=["b", "a", "c"], after=["a", "b"])


def test_a_block_tells_whom_it_asks_to_come_before_and_after() -> None:
    block = NotifierBlock(print, before="a", after=["b", "m:c", "b"])
    assert (block.before, block.after) == (("a",), ("b", "m:c"))
    assert NotifierBlock(print, before=(name for name in "ab")).before == ("a", "b")
    assert (NotifierBlock(print).before, NotifierBlock(print).after) == ((), ())


# The property: whatever happens, the order is the one that is described.

NAMES = "abcdef"
name_lists = st.lists(st.sampled_from(NAMES), max_size=2, unique=True)
step = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(NAMES), st.integers(0, 1), name_lists, name_lists),
    st.tuples(st.just("remove"), st.integers(0, 20)),
    st.tuples(st.just("filter"), st.lists(st.sampled_from(NAMES), unique=True) | st.none()),
)


def _wants(blocks: list[Any], index: int) -> int:
    targets = [one for one, other in enumerate(blocks) if other.name in blocks[index].before]
    return min([index, *(_wants(blocks, one) for one in targets)])


def _pairs(blocks: list[Any]) -> list[tuple[int, int]]:
    """Give the pairs of places of which the first has to stand before the second."""
    return [
        (one, other)
        for one, first in enumerate(blocks)
        for other, second in enumerate(blocks)
        if second.name in first.before or first.name in second.after
    ]


def _expected(blocks: list[Any]) -> list[Any] | None:
    """Give the order by brute force; ``None`` where there is none."""
    made: list[Any] = []
    for priority in sorted({block.priority for block in blocks}, reverse=True):
        band = [block for block in blocks if block.priority == priority]
        pairs = _pairs(band)
        orders = [
            order
            for order in permutations(range(len(band)))
            if all(order.index(one) < order.index(other) for one, other in pairs)
        ]
        if not orders:
            return None
        wants = [(_wants(band, index), index) for index in range(len(band))]
        best = min(orders, key=lambda order: [wants[index] for index in order])
        made += [band[index] for index in best]
    for one, other in _pairs(made):
        if made[one].priority < made[other].priority:
            return None
    return made


@settings(max_examples=300)
@given(st.lists(step, max_size=14), st.sampled_from([RawChain, SrcuChain]))
def test_the_order_is_valid_and_each_block_stands_where_it_asks_to(
    steps: list[Any], flavour: Any
) -> None:
    chain = flavour("chain")
    here: list[NotifierBlock[Any, Any, Any]] = []
    for what, *details in steps:
        if what == "add":
            name, priority, before, after = details
            before = [one for one in before if one != name]
            after = [one for one in after if one != name and one not in before]
            block = NotifierBlock(
                lambda e, d: None,
                name=name,
                priority=priority,
                before=before,
                after=after,
                events="up" if name in "ab" else None,
            )
            if _expected([*here, block]) is not None:
                chain.register_nowait(block)
                here.append(block)
            else:
                with pytest.raises(OrderConflictError) as caught:
                    chain.register_nowait(block)
                assert block in caught.value.blocks
                assert _expected(list(caught.value.blocks)) is None
        elif what == "remove" and here:
            chain.unregister_nosync(here.pop(details[0] % len(here)))
        elif what == "filter":
            wanted = None if details[0] is None else NameFilter(details[0])
            getattr(chain, "set_filter_nowait", chain.set_filter)(wanted)
        active = [block for block in here if chain.filter is None or chain.filter(block)]
        assert list(chain.blocks) == _expected(active)
        assert set(chain.parked) == set(here) - set(active)
        for event in ("up", "down"):
            walked = chain._open(event).blocks
            assert walked == [block for block in chain.blocks if block.hears(event)]


@given(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=8),
    name_lists,
    st.booleans(),
    st.integers(0, 8),
)
def test_one_who_asks_leaves_the_order_of_all_others_as_it_is(
    present: list[str], asked: list[str], is_before: bool, place: int
) -> None:
    chain = RawChain[str, None]("chain")
    for number, name in enumerate([*present[:place], None, *present[place:]]):
        options: Any = {"name": name, "events": None if number % 2 else "up"}
        if name is None:
            options = {"name": "asking", "before" if is_before else "after": asked}
        chain.register(lambda event, data: None, **options)
    order = [block.name for block in chain]
    position = order.index("asking")
    assert order[:position] + order[position + 1 :] == present
    bearers = [index for index, name in enumerate(present) if name in asked]
    place = min(place, len(present))
    if is_before:
        assert position == min([place, *bearers])
    else:
        assert position == max([place, *(index + 1 for index in bearers)])


def test_many_blocks_that_each_ask_are_ordered_in_good_time() -> None:
    chain = RawChain[str, None]("chain")
    for number in range(100):
        chain.register(
            lambda event, data: None, name=f"n{number}", after=f"n{number + 1}", before="last"
        )
    assert [block.name for block in chain] == [f"n{number}" for number in reversed(range(100))]


def test_d1_what_a_parked_block_asks_counts_for_a_newcomer() -> None:
    chain = AtomicChain[Any, Any]("chain", filter=lambda block: block.name != "asks")
    chain.register(lambda event, data: None, name="asks", before="log")
    with pytest.raises(OrderConflictError):
        chain.register(lambda event, data: None, name="log", priority=9)
