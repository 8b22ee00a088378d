"""A bus keeps chains under their names, and the filters that an operator wants on them."""

from __future__ import annotations

import errno
import subprocess
import sys
from contextlib import suppress
from itertools import zip_longest
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tocsin import (
    AnyChain,
    AtomicChain,
    BlockingChain,
    Bus,
    BusError,
    ChainExistsError,
    ChainInUseError,
    ChainNotFoundError,
    FilterError,
    InvalidTypeError,
    NameFilter,
    ObservedCall,
    Observer,
    RawChain,
    RegistrationVetoedError,
    Scope,
    ScopeClosedError,
    SrcuChain,
    TocsinError,
    VetoError,
    WrongLoopError,
)

FLAVOURS = [AtomicChain, BlockingChain, RawChain, SrcuChain]


def good(event: Any, data: Any) -> None:
    """Do nothing."""


def bad(event: Any, data: Any) -> None:
    """Do nothing."""


@pytest.fixture
def bus() -> Bus:
    return Bus("main")


def names(blocks: Any) -> list[str]:
    return [block.name for block in blocks]


# Names.


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_add_gives_the_same_chain_and_keeps_it_under_its_name(bus: Bus, flavour: Any) -> None:
    chain = flavour("orders")
    assert bus.add(chain) is chain
    assert bus["orders"] is chain
    assert bus.get("orders") is chain
    assert bus.get("orders", flavour) is chain
    assert bus.get("orders", flavour[str, int]) is chain


def test_a_bus_is_a_collection_of_chains(bus: Bus) -> None:
    assert bus
    assert len(bus) == 0
    one, two = bus.add(AtomicChain("one")), bus.add(RawChain("two"))
    assert tuple(bus) == (one, two)
    assert len(bus) == 2
    assert "one" in bus
    assert one in bus
    assert AtomicChain("one") not in bus
    assert "three" not in bus
    assert repr(bus) == "<Bus 'main' 2 chains>"


def test_a_name_is_used_once(bus: Bus) -> None:
    chain = bus.add(AtomicChain("orders"))
    with pytest.raises(ChainExistsError, match="bus 'main' has a chain 'orders' already") as caught:
        bus.add(SrcuChain("orders"))
    assert bus["orders"] is chain
    error = caught.value
    assert (error.errno, error.bus, error.name) == (errno.EEXIST, bus, "orders")
    assert isinstance(error, BusError)
    assert isinstance(error, TocsinError)


def test_an_unknown_name_is_answered_with_the_nearest_known_ones(bus: Bus) -> None:
    bus.add(AtomicChain("orders"))
    with pytest.raises(ChainNotFoundError) as caught:
        bus["order"]
    assert str(caught.value) == "bus 'main' has no chain 'order'; did you mean 'orders'?"
    assert caught.value.errno == errno.ENOENT
    assert isinstance(caught.value, KeyError)
    with pytest.raises(
        ChainNotFoundError, match=r"^bus 'main' has no chain 'ORDERS'; did you mean 'orders'\?$"
    ):
        bus.get("ORDERS")
    with pytest.raises(
        ChainNotFoundError, match=r"^bus 'main' has no chain 'zebra'; there is 'orders'$"
    ):
        bus.get("zebra", AtomicChain)
    with pytest.raises(ChainNotFoundError, match=r"^bus 'none' has no chain 'zebra'$"):
        Bus("none").get("zebra")
    with pytest.raises(ChainNotFoundError):
        bus.remove("zebra")


def test_a_chain_of_another_flavour_is_refused(bus: Bus) -> None:
    bus.add(AtomicChain("orders"))
    with pytest.raises(InvalidTypeError, match="is of flavour AtomicChain, not SrcuChain"):
        bus.get("orders", SrcuChain)
    with pytest.raises(InvalidTypeError, match="is of flavour AtomicChain, not SrcuChain"):
        bus.get("orders", SrcuChain[str, int])


def test_only_chains_are_taken_and_a_bus_has_a_name(bus: Bus) -> None:
    with pytest.raises(InvalidTypeError, match=r"takes chains, not str; did you mean"):
        bus.add("orders")  # type: ignore[type-var]
    with pytest.raises(InvalidTypeError, match="a bus's name must be a str"):
        Bus("")
    assert len(bus) == 0


def test_two_buses_share_nothing() -> None:
    one, two = Bus("one"), Bus("two")
    one.set_filters({"orders": "good"})
    one.add(AtomicChain("orders"))
    chain = two.add(AtomicChain("orders"))
    assert chain.filter is None
    assert chain not in one


def test_a_chain_is_not_added_under_a_closed_scope(bus: Bus) -> None:
    scope = Scope("gone")
    scope.close()
    with scope.ambient(), pytest.raises(ScopeClosedError):
        bus.add(AtomicChain("orders"))
    assert len(bus) == 0


def test_chains_may_be_added_while_somebody_goes_through_them(bus: Bus) -> None:
    bus.add(AtomicChain("one"))
    for chain in bus:
        bus.add(AtomicChain(f"{chain.name} more"))
        bus.remove(chain.name)
    assert [chain.name for chain in bus] == ["one more"]


@pytest.fixture
def waiting(bus: Bus) -> Replayed:
    """A chain whose only block is parked, until it is added to the bus."""
    bus.set_filters({"orders": "hears"})
    return Replayed()


class Replayed:
    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.does: Any = bool
        self.chain = AtomicChain[str, int](
            "orders", filter=NameFilter(["nobody"]), replay=lambda: [("up", 1)]
        )
        self.block = self.chain.register(self.hear, name="hears")

    def hear(self, event: str, data: int) -> None:
        self.heard.append((event, data))
        self.does()


def test_whom_the_filter_of_the_bus_admits_hears_the_replay(bus: Bus, waiting: Replayed) -> None:
    bus.add(waiting.chain)
    assert waiting.heard == [("up", 1)]
    assert waiting.chain.blocks == (waiting.block,)


def test_a_chain_added_while_another_of_its_name_is_replayed_stays(
    bus: Bus, waiting: Replayed
) -> None:
    other, tape = AtomicChain[str]("orders"), Tape()
    bus.observe(tape)
    former = waiting.chain.filter
    waiting.does = lambda: bus.add(other)
    with pytest.raises(ChainExistsError):
        bus.add(waiting.chain)
    assert tuple(bus) == (other,)
    assert waiting.chain.filter is former
    assert waiting.block.is_parked
    bus.observe(tape).detach()
    waiting.chain.call("up", 1)
    other.call("up")
    assert tape.said == ["orders"]


def test_a_chain_added_while_it_is_replayed_itself_is_added_once(
    bus: Bus, waiting: Replayed
) -> None:
    def add() -> None:
        if len(waiting.heard) == 1:
            bus.add(waiting.chain)

    waiting.does = add
    with pytest.raises(ChainExistsError):
        bus.add(waiting.chain)
    assert tuple(bus) == (waiting.chain,)
    assert waiting.chain.blocks == (waiting.block,)


# Removing.


def test_a_chain_with_blocks_active_or_parked_is_not_removed(bus: Bus) -> None:
    chain = bus.add(AtomicChain("orders"))
    block = chain.register(good)
    for chosen in (None, NameFilter(())):
        chain.set_filter(chosen)
        with pytest.raises(ChainInUseError, match="on it are still good") as caught:
            bus.remove("orders")
        assert caught.value.errno == errno.EBUSY
        assert "orders" in bus
    chain.unregister(block)
    bus.remove("orders")
    assert "orders" not in bus
    assert bus.add(AtomicChain("orders")) is not chain


def test_who_keeps_a_chain_on_the_bus_is_named(bus: Bus) -> None:
    chain = bus.add(AtomicChain("orders", filter=~NameFilter(["third"])))
    for name in ("first", "second", "third"):
        chain.register(good, name=name)
    with pytest.raises(ChainInUseError, match="on it are still first, second, third; unregister"):
        bus.remove("orders")


# Filters.


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_filters_hold_for_chains_present_and_to_come(bus: Bus, flavour: Any) -> None:
    present, other = bus.add(flavour("present")), bus.add(flavour("other"))
    for chain in (present, other):
        chain.register_nowait(good)
        chain.register_nowait(bad)
    bus.set_filters({"present": "good", "future": "bad"})
    future = bus.add(flavour("future"))
    future.register_nowait(good)
    future.register_nowait(bad)
    assert (names(present), names(present.parked)) == (["good"], ["bad"])
    assert (names(future), names(future.parked)) == (["bad"], ["good"])
    assert names(other) == ["good", "bad"]


def test_a_filter_is_text_a_callable_or_none(bus: Bus) -> None:
    chain = bus.add(AtomicChain("orders"))
    chain.register(good)
    bus.set_filters({"orders": lambda block: block.name == "bad"})
    assert names(chain.parked) == ["good"]
    bus.set_filters({"orders": None})
    assert names(chain) == ["good"]
    bus.set_filters({"orders": ~NameFilter(["good"])})
    assert names(chain.parked) == ["good"]
    bus.set_filters({"orders": "  "})
    assert chain.filter is None
    assert names(chain) == ["good"]


def test_the_bus_has_the_last_word_on_the_filter_of_a_chain_that_comes(bus: Bus) -> None:
    bus.set_filters({"one": None, "two": "good"})
    one = bus.add(AtomicChain("one", filter=NameFilter(["bad"])))
    two = bus.add(AtomicChain("two", filter=NameFilter(["bad"])))
    three = bus.add(AtomicChain("three", filter=NameFilter(["bad"])))
    assert one.filter is None
    assert isinstance(two.filter, NameFilter)
    assert two.filter.names == ("good",)
    assert isinstance(three.filter, NameFilter)
    assert three.filter.names == ("bad",)


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (",a:b:c", FilterError, "bus 'main', chain 'two': no valid entry is left"),
        (
            42,
            InvalidTypeError,
            "the filter of chain 'two' must be text, a callable or None",
        ),
    ],
)
def test_a_wrong_filter_changes_nothing(
    bus: Bus, wrong: Any, kind: type[Exception], message: str
) -> None:
    chain = bus.add(AtomicChain("one"))
    with pytest.raises(kind, match=message):
        bus.set_filters({"one": "good", "two": wrong, "three": "good"})
    assert chain.filter is None
    assert bus.add(AtomicChain("three")).filter is None


def test_filters_are_all_or_nothing_when_a_replay_is_vetoed(bus: Bus) -> None:
    def veto(event: str, data: Any) -> None:
        raise VetoError(errno.EBUSY)

    one = bus.add(AtomicChain[str]("one"))
    two = bus.add(AtomicChain[str]("two", filter=NameFilter(()), replay=lambda: [("up", None)]))
    one.register(good)
    block = two.register(veto)
    former = two.filter
    with pytest.raises(RegistrationVetoedError):
        bus.set_filters({"one": "bad", "two": "veto", "three": "bad"})
    assert names(one) == ["good"]
    assert one.filter is None
    assert two.filter is former
    assert block.is_parked
    assert bus.add(AtomicChain("three")).filter is None


@pytest.mark.anyio
@pytest.mark.parametrize("flavour", [BlockingChain, SrcuChain])
async def test_filters_wait_for_nobody(bus: Bus, flavour: Any) -> None:
    chain = bus.add(flavour("orders"))
    entered, leave = anyio.Event(), anyio.Event()
    finished: list[str] = []

    async def slow(event: str, data: Any) -> None:
        entered.set()
        await leave.wait()
        finished.append(event)

    await chain.register(slow)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "first")
        await entered.wait()
        bus.set_filters({"orders": "nobody"})
        assert names(chain.parked) == ["slow"]
        leave.set()
    await chain.call("second")
    assert finished == ["first"]


def test_importing_tocsin_leaves_the_heavy_libraries_alone() -> None:
    heavy = "anyio asyncio trio structlog inspect dataclasses click difflib importlib.util ast"
    code = f"import sys, tocsin; print([m for m in {heavy.split()!r} if m in sys.modules])"
    before = f"import sys; print([m for m in {heavy.split()!r} if m in sys.modules])"
    found, there = (
        subprocess.run(
            [sys.executable, "-c", one], capture_output=True, text=True, check=True
        ).stdout
        for one in (code, before)
    )
    assert found == there  # an editable installation imports some by itself


@pytest.mark.parametrize("wrong", ["orders=a", None, [("orders", "a")]])
def test_filters_are_given_by_the_names_of_chains(bus: Bus, wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match="takes filters by the names of chains, as in"):
        bus.set_filters(wrong)


def test_filters_are_remembered_from_call_to_call_and_after_a_chain_has_left(bus: Bus) -> None:
    bus.set_filters({"one": "a"})
    bus.set_filters({"two": "b"})
    for _ in range(2):
        assert bus.add(AtomicChain("one")).filter is not None
        bus.remove("one")


def test_a_filter_is_for_a_name(bus: Bus) -> None:
    with pytest.raises(InvalidTypeError, match="name of a chain to filter must be a str"):
        bus.set_filters({1: "a"})  # type: ignore[dict-item]


def test_what_is_no_name_is_not_found(bus: Bus) -> None:
    wrong: Any = []
    for look in (bus.get, bus.remove, bus.__getitem__):
        with pytest.raises(ChainNotFoundError, match="has no chain <list>"):
            look(wrong)
    assert wrong not in bus


def test_a_flavour_is_a_class(bus: Bus) -> None:
    bus.add(SrcuChain("orders"))
    with pytest.raises(InvalidTypeError, match="must be a chain class, such as SrcuChain, not 'Sr"):
        bus.get("orders", "SrcuChain")  # type: ignore[call-overload]
    protocol: Any = AnyChain
    for kind in (protocol, object, Bus):
        with pytest.raises(InvalidTypeError, match="must be a chain class, such as SrcuChain, not"):
            bus.get("orders", kind)


# Filters out of the environment.


def from_env(monkeypatch: pytest.MonkeyPatch, text: str) -> Bus:
    monkeypatch.setenv("TOCSIN_FILTERS", text)
    return Bus.from_env("main")


def test_filters_come_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = from_env(monkeypatch, "one=good, main.*, ; two = bad;one=b?d;three=; three = ;")
    filters = {
        name: bus.add(AtomicChain(name, filter=NameFilter(["own"]))).filter
        for name in ("one", "two", "three", "four")
    }
    assert {name: repr(one) for name, one in filters.items()} == {
        "one": "NameFilter(['good', 'main.*', 'b?d'])",
        "two": "NameFilter(['bad'])",
        "three": "None",
        "four": "NameFilter(['own'])",
    }
    assert bus.name == "main"


def test_an_environment_without_filters_filters_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOCSIN_FILTERS", raising=False)
    for bus in (Bus.from_env("main"), from_env(monkeypatch, ""), from_env(monkeypatch, " \n")):
        assert bus.snapshot().unmatched_filters == ()


def test_the_variable_may_be_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_FILTERS", "one=good")
    monkeypatch.setenv("TOCSIN_FILTERS", "two=good")
    assert Bus.from_env("main", "SHOP_FILTERS").snapshot().unmatched_filters == ("one",)
    assert Bus.from_env("main", variable="UNSET").snapshot().unmatched_filters == ()


NO = "is not of the form CHAIN=NAME,NAME"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one=a;two", "'two' is not of the form CHAIN=NAME,NAME"),
        ("=a", "'=a' is not of the form CHAIN=NAME,NAME"),
        (" ; ", "no entry is left of the filters ' ; '; leave the text blank for no filters"),
        ("one=a;two=,", "'two=,' names no block; leave out the comma for no filter"),
        ("one=a;one=,", "'one=,' names no block"),
        ("one=a:b:c", f"'one=a:b:c' {NO}: 'a:b:c' cannot name a block, for a colon stands"),
        ("one=a;one=x:y:z", f"'one=x:y:z' {NO}: 'x:y:z' cannot name a block, for a colon stands"),
        ("one=a,two=b", f"'one=a,two=b' {NO}: 'two=b' cannot name a block, for it has an equals"),
        ("one=a\ntwo=b", f"'one=a\\ntwo=b' {NO}: 'a\\ntwo=b' cannot name a block, for it has an"),
        ("one=a b, c", f"'one=a b, c' {NO}: 'a b' cannot name a block, for it has a comma or "),
    ],
)
def test_malformed_filters_of_the_environment_are_named_with_their_variable(
    monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    with pytest.raises(FilterError) as caught:
        from_env(monkeypatch, text)
    assert str(caught.value).startswith(f"environment variable TOCSIN_FILTERS: {said}")


@pytest.mark.parametrize("wrong", ["", None, 3])
def test_a_variable_has_a_name(wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match="the name of an environment variable must be"):
        Bus.from_env("main", wrong)


def test_a_kind_of_bus_comes_out_of_the_environment_as_that_kind() -> None:
    class Platform(Bus):
        """One of its own."""

    assert isinstance(Platform.from_env("main"), Platform)


# Observers.


class Tape(Observer):
    def __init__(self) -> None:
        self.said: list[str] = []

    def call_started(self, call: ObservedCall) -> None:
        self.said.append(call.chain.name)


def test_an_observer_of_a_bus_hears_chains_present_and_to_come(bus: Bus) -> None:
    tape = Tape()
    present = bus.add(AtomicChain[str]("present"))
    observation = bus.observe(tape)
    future = bus.add(AtomicChain[str]("future"))
    for chain in (present, future, AtomicChain[str]("elsewhere")):
        chain.call("up")
    assert tape.said == ["present", "future"]
    observation.detach()
    observation.detach()
    bus.add(AtomicChain[str]("later")).call("up")
    present.call("up")
    assert tape.said == ["present", "future"]
    assert not observation.is_attached


def test_each_observer_of_a_bus_hears_of_a_chain_to_come(bus: Bus) -> None:
    first, second = Tape(), Tape()
    bus.observe(first)
    bus.observe(second)
    bus.add(AtomicChain[str]("chain")).call("up")
    assert (first.said, second.said) == (["chain"], ["chain"])


def test_a_chain_that_leaves_the_bus_is_observed_no_longer(bus: Bus) -> None:
    tape, own = Tape(), Tape()
    with bus.observe(tape):
        chain = bus.add(AtomicChain[str]("chain"))
        chain.observe(own)
        bus.remove("chain")
        chain.call("up")
        bus.add(chain).call("up")
    chain.call("up")
    assert (tape.said, own.said) == (["chain"], ["chain"] * 3)


def test_an_observer_that_raises_is_detached_from_that_chain_alone(bus: Bus) -> None:
    class Picky(Tape):
        def call_started(self, call: ObservedCall) -> None:
            super().call_started(call)
            if call.chain.name == "bad":
                raise ValueError

    picky = Picky()
    good_chain, bad_chain = bus.add(AtomicChain[str]("good")), bus.add(AtomicChain[str]("bad"))
    bus.observe(picky)
    with capture_logs():
        for chain in (bad_chain, good_chain, bad_chain, good_chain):
            chain.call("up")
    assert picky.said == ["bad", "good", "good"]
    bus.remove("bad")


def test_what_cannot_observe_a_bus_is_refused(bus: Bus) -> None:
    with pytest.raises(InvalidTypeError, match="an observer must be a tocsin"):
        bus.observe("me")  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_a_bus_is_observed_from_the_thread_of_its_chains(bus: Bus) -> None:
    atomic = bus.add(AtomicChain[str]("atomic"))
    chain = bus.add(SrcuChain[str]("chain"))
    await chain.call("up")
    tape = Tape()
    with pytest.raises(WrongLoopError):
        await anyio.to_thread.run_sync(bus.observe, tape)
    atomic.call("up")
    assert tape.said == []
    with bus.observe(tape):
        other = SrcuChain[str]("other")
        await other.call("up")
        with pytest.raises(WrongLoopError):
            await anyio.to_thread.run_sync(bus.add, other)
        assert other not in bus
        await chain.call("up")
    assert tape.said == ["chain"]


@pytest.mark.anyio
async def test_a_chain_is_filtered_from_its_own_thread(bus: Bus) -> None:
    heard: list[str] = []
    first = bus.add(AtomicChain[str]("first", filter=NameFilter(()), replay=lambda: [("up", None)]))
    first.register(lambda event, data: heard.append(event), name="hears")
    second = bus.add(SrcuChain[str]("second"))
    await second.call("up")
    with pytest.raises(WrongLoopError):
        await anyio.to_thread.run_sync(bus.set_filters, {"first": None, "second": "a"})
    assert (heard, second.filter) == ([], None)
    bus.set_filters({"third": "a"})
    third = SrcuChain[str]("third")
    await third.call("up")
    with pytest.raises(WrongLoopError):
        await anyio.to_thread.run_sync(bus.add, third)
    assert (third in bus, third.filter) == (False, None)


# Two buses.

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "filter", "register", "unregister"]),
        st.sampled_from(["one", "two", "three"]),
    ),
    max_size=20,
)


def act(bus: Bus, action: str, name: str) -> None:
    """Do something with a bus, if it can be done."""
    if action == "filter":
        bus.set_filters({name: "bad"})
    elif action == "add":
        with suppress(ChainExistsError):
            bus.add(AtomicChain(name))
    elif name in bus and action == "register":
        bus.get(name, AtomicChain).register(good)
    elif name in bus and action == "unregister":
        for block in bus.get(name, AtomicChain).blocks[:1]:
            bus[name].unregister_nosync(block)
    else:
        with suppress(ChainNotFoundError, ChainInUseError):
            bus.remove(name)


@given(ACTIONS, ACTIONS)
def test_whatever_is_done_with_one_bus_another_does_not_notice(mine: Any, other: Any) -> None:
    one, two, alone = Bus("main"), Bus("main"), Bus("main")
    for first, second in zip_longest(mine, other):
        if first:
            act(one, *first)
            act(alone, *first)
        if second:
            act(two, *second)
    assert one.snapshot() == alone.snapshot()
