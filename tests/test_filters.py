"""The name filter: read as operators write it, closed when in doubt, and live on every chain."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import anyio
import pytest

from tocsin import (
    NOTIFY_BAD,
    NOTIFY_DONE,
    NOTIFY_OK,
    AlreadyRegisteredError,
    AtomicChain,
    FilterError,
    InvalidTypeError,
    InvalidValueError,
    NameFilter,
    NotifierBlock,
    NotRegisteredError,
    PriorityInUseError,
    RegistrationVetoedError,
    Scope,
    SrcuChain,
    TocsinError,
    WouldDeadlockError,
)

from .flavours import ASYNC, FLAVOURS, SYNC, Held, Rig
from .hostile import Boundless

pytestmark = pytest.mark.anyio


def hear(event: Any, data: Any) -> int:
    return NOTIFY_OK


def named(*names: str) -> list[NotifierBlock[Any, Any, Any]]:
    return [NotifierBlock(hear, name=name) for name in names]


def admitted(by: Any, *names: str) -> list[str]:
    return [block.name for block in named(*names) if by(block)]


def must(parsed: NameFilter | None) -> NameFilter:
    assert parsed is not None
    return parsed


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What is logged."""
    from tocsin import _log

    said: list[dict[str, object]] = []
    monkeypatch.setattr(_log, "warn", lambda event, **fields: said.append({"": event, **fields}))
    return said


# The filter itself.


def test_an_allowlist_admits_those_it_names_and_nobody_else() -> None:
    assert admitted(NameFilter(("a", "c")), "a", "b", "c", "aa") == ["a", "c"]


def test_an_empty_allowlist_admits_nobody() -> None:
    assert admitted(NameFilter(()), "a", "b") == []


def test_a_glob_matches_names() -> None:
    assert admitted(NameFilter(["metrics_*"]), "metrics_disk", "metrics", "my_metrics_x") == [
        "metrics_disk"
    ]
    assert admitted(NameFilter(["[ab]?"]), "a1", "b", "c1", "A1") == ["a1"]


def test_an_entry_with_a_colon_looks_at_the_module_too() -> None:
    assert admitted(NameFilter([f"{__name__}:a"]), "a", "b") == ["a"]
    assert admitted(NameFilter(["elsewhere:a"]), "a") == []
    assert admitted(NameFilter([f"{__name__}:*"]), "a", "b") == ["a", "b"]
    assert admitted(NameFilter(["*:b"]), "a", "b") == ["b"]
    assert admitted(NameFilter([__name__ + "*"]), "a") == []


def test_a_default_name_can_be_named_by_an_entry() -> None:
    assert NameFilter(["hear"])(NotifierBlock(hear))
    assert NameFilter(["<lambda>"])(NotifierBlock(lambda event, data: None))


def test_the_negation_is_the_denylist() -> None:
    deny = ~NameFilter(["a", "m_*"])
    assert admitted(deny, "a", "b", "m_1") == ["b"]
    assert admitted(~deny, "a", "b", "m_1") == ["a", "m_1"]
    assert deny.names == (~deny).names == ("a", "m_*")


def test_the_negation_of_nobody_is_everybody() -> None:
    assert admitted(~NameFilter(()), "a", "b") == ["a", "b"]


def test_a_filter_shows_its_entries() -> None:
    one = NameFilter(["a", "b", "a"])
    assert one.names == ("a", "b")
    assert repr(one) == "NameFilter(['a', 'b'])"
    assert repr(~one) == "~NameFilter(['a', 'b'])"
    assert one.discarded == ()


def test_a_filter_tells_the_entries_that_name_nobody() -> None:
    one = NameFilter(["a", "typo", "m_*", "elsewhere:a"])
    assert one.unmatched(named("a", "b")) == ("typo", "m_*", "elsewhere:a")


@pytest.mark.parametrize(
    "wrong",
    ["", "a,b", "a b", " a", "a\n", ":a", "a:", "a:b:c", 3, None, [], b"a"],
    ids=repr,
)
def test_an_invalid_entry_is_an_error_that_names_it(wrong: Any) -> None:
    with pytest.raises(FilterError) as caught:
        NameFilter(["fine", wrong])
    said = f"<{type(wrong).__name__}>" if isinstance(wrong, list | bytes) else repr(wrong)
    assert said in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TocsinError)


def test_a_str_is_not_taken_for_a_collection_of_names() -> None:
    with pytest.raises(FilterError, match=r"did you mean NameFilter\.parse\('a,b'\)\?"):
        NameFilter("a,b")


@pytest.mark.parametrize("wrong", [None, 3, ["a"], b"a"], ids=repr)
def test_text_that_is_no_str_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match=f"not {type(wrong).__name__}; for a collection"):
        NameFilter.parse(wrong)


@pytest.mark.parametrize("wrong", [None, 3], ids=repr)
def test_names_that_are_no_collection_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match=f"names, not {type(wrong).__name__}"):
        NameFilter(wrong)


@pytest.mark.parametrize("wrong", ["a", 3, [1], ("a", None)], ids=repr)
def test_known_names_that_are_no_collection_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match=f"known names .* not {type(wrong).__name__}"):
        NameFilter.parse("a", known=wrong)


@pytest.mark.parametrize(
    "make",
    [
        lambda limit: NameFilter(["a"], limit=limit),
        lambda limit: NameFilter.parse("a", limit=limit),
        lambda limit: NameFilter.parse("", limit=limit),
        lambda limit: NameFilter.from_env("TOCSIN_UNSET", limit=limit),
    ],
    ids=["names", "parse", "parse blank", "from_env"],
)
def test_a_limit_is_an_int_from_0(make: Any) -> None:
    for wrong in ("3", True, 1.0):
        with pytest.raises(InvalidTypeError, match=f"limit .* not {type(wrong).__name__}"):
            make(wrong)
    with pytest.raises(InvalidValueError, match="0 or more, not -1"):
        make(-1)


def test_a_surplus_entry_is_an_error_that_names_it() -> None:
    assert NameFilter(list("abca"), limit=3).names == ("a", "b", "c")
    assert NameFilter(["a", "b"], limit=3).names == ("a", "b")
    many = [f"a{number}" for number in range(300)]
    assert NameFilter(many, limit=int("300")).names == tuple(many)
    with pytest.raises(FilterError, match=r"4 entries .* limit of 3; .* 'd'"):
        NameFilter(list("abcd"), limit=3)


def test_a_module_and_name_names_nobody_in_the_modules_beside_it() -> None:
    def make(module: str) -> NotifierBlock[Any, Any, Any]:
        def probe(event: Any, data: Any) -> None:
            return None

        probe.__module__, probe.__qualname__ = module, "probe"
        return NotifierBlock(probe)

    blocks = {module: make(module) for module in ("a", "m", "m1", "z")}
    admits = NameFilter(["m:probe"])
    assert [module for module, block in blocks.items() if admits(block)] == ["m"]


def test_a_limit_is_that_of_the_plain_int(warnings: list[Any]) -> None:
    assert must(NameFilter.parse("a,b,c", limit=Boundless(2))).names == ("a", "b")
    with pytest.raises(FilterError, match="3 entries is over its limit of 2"):
        NameFilter(list("abc"), limit=Boundless(2))


def test_what_an_operator_writes_is_limited_however_high_the_limit(warnings: list[Any]) -> None:
    parsed = must(NameFilter.parse(",".join(f"a{number}" for number in range(301)), limit=300))
    assert len(parsed.names) == 300
    assert parsed.discarded == ("a300",)


# As operators write it.


@pytest.mark.parametrize("blank", ["", " ", " \t\n"])
def test_blank_text_is_no_filter(blank: str, warnings: list[Any]) -> None:
    assert NameFilter.parse(blank) is None
    assert warnings == []


def test_text_is_read_leniently(warnings: list[Any]) -> None:
    parsed = must(NameFilter.parse(" a, ,b ,,m_*,"))
    assert (parsed.names, parsed.discarded, warnings) == (("a", "b", "m_*"), (), [])


def test_what_cannot_be_used_is_discarded_with_a_warning(warnings: list[Any]) -> None:
    parsed = must(NameFilter.parse("a,x y,b,a,c,d", limit=3, known=["a", "b", "c", "d"]))
    assert parsed.names == ("a", "b", "c")
    assert parsed.discarded == ("x y", "a", "d")
    assert [(one["entry"], one["why"]) for one in warnings] == [
        ("x y", "it has a comma or white space in it"),
        ("a", "it was given before"),
        ("d", "it is past the limit of 3"),
    ]
    assert (~parsed).discarded == (~~parsed).discarded == parsed.discarded


def test_unknown_entries_are_discarded_when_the_names_are_known(warnings: list[Any]) -> None:
    parsed = must(NameFilter.parse("a,typo,m_*,z_*", known={"a", "m_1"}))
    assert (parsed.names, parsed.discarded) == (("a", "m_*"), ("typo", "z_*"))
    assert {one["why"] for one in warnings} == {"it names nothing known"}
    assert must(NameFilter.parse("later")).names == ("later",)


def test_discarded_entries_use_up_no_place(warnings: list[Any]) -> None:
    parsed = must(NameFilter.parse("a,a,x y,b", limit=2))
    assert parsed.names == ("a", "b")


def test_a_seventeenth_entry_leaves_the_filter_on(warnings: list[Any]) -> None:
    names = [f"n{number}" for number in range(17)]
    parsed = must(NameFilter.parse(",".join(names), limit=16))
    assert parsed.names == tuple(names[:16])
    assert parsed.discarded == ("n16",)
    assert admitted(parsed, *names) == names[:16]


@pytest.mark.parametrize("text", ["x y", ":", "a:b:c, ,x y"])
def test_text_without_a_valid_entry_is_an_error_and_not_no_filter(
    text: str, warnings: list[Any]
) -> None:
    with pytest.raises(FilterError, match="no valid entry is left"):
        NameFilter.parse(text)
    assert warnings


@pytest.mark.parametrize("text", [",", " , ,\t", ",,"])
def test_text_of_commas_alone_fails_closed(text: str) -> None:
    """As ``$A,$B`` gives it with both unset."""
    with pytest.raises(FilterError, match="no valid entry is left"):
        NameFilter.parse(text)


def test_text_that_a_limit_of_0_leaves_empty_is_an_error(warnings: list[Any]) -> None:
    with pytest.raises(FilterError, match="no valid entry is left"):
        NameFilter.parse("a", limit=0)
    assert NameFilter((), limit=0).names == ()


def test_text_that_names_only_unknown_blocks_is_an_error(warnings: list[Any]) -> None:
    with pytest.raises(FilterError, match="no valid entry"):
        NameFilter.parse("a,b", known=())


def test_a_glob_may_have_brackets() -> None:
    block = NotifierBlock(hear, name="disk1")
    assert NameFilter(["disk[0-9]"])(block)
    assert not NameFilter(["disk[a-z]"])(block)


def test_a_filter_cannot_be_changed() -> None:
    for given in (NameFilter(["a"]), ~NameFilter(["a"])):
        for name in ("names", "discarded"):
            with pytest.raises(AttributeError):
                setattr(given, name, ("b",))


@pytest.mark.parametrize("wrong", [None, 5, b"FILTER"])
def test_a_variable_has_a_name(wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match=f"name of a variable, not {type(wrong).__name__}"):
        NameFilter.from_env(wrong)


def test_a_filter_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, warnings: list[Any]
) -> None:
    monkeypatch.delenv("SOME_FILTER", raising=False)
    assert NameFilter.from_env("SOME_FILTER") is None
    monkeypatch.setitem(os.environ, "SOME_FILTER", " ")
    assert NameFilter.from_env("SOME_FILTER") is None
    monkeypatch.setitem(os.environ, "SOME_FILTER", ",")
    with pytest.raises(FilterError, match=r"variable SOME_FILTER: no valid entry is left of .*','"):
        NameFilter.from_env("SOME_FILTER")
    monkeypatch.setitem(os.environ, "SOME_FILTER", "a,b,c")
    parsed = must(NameFilter.from_env("SOME_FILTER", limit=2, known=["a", "b"]))
    assert (parsed.names, parsed.discarded) == (("a", "b"), ("c",))


def test_a_bad_environment_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, warnings: list[Any]
) -> None:
    monkeypatch.setitem(os.environ, "SOME_FILTER", "x y")
    with pytest.raises(FilterError, match=r"^environment variable SOME_FILTER: no valid entry"):
        NameFilter.from_env("SOME_FILTER")


# On chains.


@pytest.fixture(params=FLAVOURS)
async def rig(request: pytest.FixtureRequest, anyio_backend: str) -> Rig:
    return Rig(request.param)


def names(blocks: Any) -> list[str]:
    return [block.name for block in blocks]


async def add_all(rig: Rig, *given: str, **options: Any) -> list[NotifierBlock[Any, Any, Any]]:
    return [await rig.add(name, NOTIFY_OK, **options) for name in given]


async def heard(rig: Rig, event: Any = 1) -> list[str]:
    """Call the chain; give who was called, having seen that the chain says the same."""
    rig.drain()
    await rig.call(event, None)
    log = rig.drain()
    assert log == names(rig.chain.blocks)
    return log


async def test_a_parked_block_is_never_called(rig: Rig) -> None:
    await rig.set_filter(NameFilter(["a"]))
    a, b = await add_all(rig, "a", "b")
    assert await heard(rig) == ["a"]
    assert (rig.chain.blocks, rig.chain.parked) == ((a,), (b,))
    assert (b.chain, b.is_parked, a.is_parked) == (rig.chain, True, False)
    assert a in rig.chain
    assert b not in rig.chain
    assert len(rig.chain) == 1
    assert rig.chain.statistics()[:2] == (1, 1)
    assert repr(rig.chain).endswith("1 blocks, 1 parked>")


async def test_the_filter_can_be_given_with_the_chain() -> None:
    for flavour in FLAVOURS:
        rig = Rig(flavour, filter=NameFilter(["a"]))
        await add_all(rig, "b", "a")
        assert await heard(rig) == ["a"]
        assert rig.chain.filter.names == ("a",)


async def test_a_chain_whose_blocks_are_all_parked_gives_done(rig: Rig) -> None:
    await rig.set_filter(NameFilter(()))
    await add_all(rig, "a")
    assert rig.chain.is_empty
    assert await rig.call(1, None) == NOTIFY_DONE


async def test_a_parked_block_holds_no_place(rig: Rig) -> None:
    await rig.set_filter(NameFilter(["a", "b"]))
    await add_all(rig, "parked", priority=5)
    await add_all(rig, "a", priority=5, unique_priority=True)
    with pytest.raises(PriorityInUseError):
        await add_all(rig, "b", priority=5, unique_priority=True)
    await add_all(rig, "another", priority=5, unique_priority=True)
    assert names(rig.chain.parked) == ["parked", "another"]


async def test_a_parked_double_is_already_registered(rig: Rig) -> None:
    await rig.set_filter(NameFilter(()))
    (parked,) = await add_all(rig, "parked")
    for options in ({}, {"unique_priority": True}):
        with pytest.raises(AlreadyRegisteredError, match="parked there by its filter"):
            await rig.register(parked, **options)
    assert rig.chain.parked == (parked,)


async def test_unregistering_a_parked_block_is_silent(rig: Rig) -> None:
    await rig.set_filter(NameFilter(()))
    (parked,) = await add_all(rig, "parked")
    assert await rig.unregister(parked) is None
    assert (rig.chain.parked, parked.chain, parked.is_parked) == ((), None, False)
    with pytest.raises(NotRegisteredError):
        await rig.unregister(parked)
    await rig.set_filter(None)
    assert await heard(rig) == []


async def test_a_block_from_before_the_filter_can_be_unregistered(rig: Rig) -> None:
    (before,) = await add_all(rig, "before")
    await rig.set_filter(NameFilter(()))
    await rig.unregister(before)
    assert (rig.chain.blocks, rig.chain.parked) == ((), ())


async def test_set_filter_is_live(rig: Rig) -> None:
    a, b, c = await add_all(rig, "a", "b", "c")
    for wanted, expected in [
        (NameFilter(["b"]), ["b"]),
        (~NameFilter(["b"]), ["a", "c"]),
        (None, ["a", "b", "c"]),
        (lambda block: block is c, ["c"]),
        (NameFilter(()), []),
        (None, ["a", "b", "c"]),
    ]:
        await rig.set_filter(wanted)
        assert rig.chain.filter is wanted
        assert await heard(rig) == expected
        assert {*rig.chain.blocks, *rig.chain.parked} == {a, b, c}


async def test_an_admitted_block_takes_its_place_by_its_original_order(rig: Rig) -> None:
    await rig.set_filter(NameFilter(["b", "d", "high"]))
    await add_all(rig, "a", "b", "c", "d")
    await add_all(rig, "high", "higher", priority=1)
    await add_all(rig, "e")
    assert await heard(rig) == ["high", "b", "d"]
    await rig.set_filter(~NameFilter(["a"]))
    assert await heard(rig) == ["high", "higher", "b", "c", "d", "e"]
    await rig.set_filter(None)
    assert await heard(rig) == ["high", "higher", "a", "b", "c", "d", "e"]


async def test_an_admission_never_asks_for_unique_priority(rig: Rig) -> None:
    await rig.set_filter(NameFilter(["a"]))
    await add_all(rig, "parked", "a", priority=5, unique_priority=True)
    await rig.set_filter(None)
    assert await heard(rig) == ["parked", "a"]


async def test_set_filter_is_all_or_nothing(rig: Rig) -> None:
    before = NameFilter(["a", "b"])
    await add_all(rig, "a", "b", "c")
    await rig.set_filter(before)

    def fails(block: NotifierBlock[Any, Any, Any]) -> bool:
        if block.name == "b":
            raise LookupError
        return block.name == "c"

    with pytest.raises(LookupError):
        await rig.set_filter(fails)
    assert rig.chain.filter is before
    assert await heard(rig) == ["a", "b"]


async def test_a_filter_that_fails_on_a_newcomer_leaves_the_chain_as_it_was(rig: Rig) -> None:
    block = NotifierBlock(hear)
    await rig.set_filter(lambda block: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        await rig.register(block)
    assert (block.chain, rig.chain.blocks, rig.chain.parked) == (None, (), ())
    await rig.set_filter(None)
    await rig.register(block)


@pytest.mark.parametrize("wrong", ["a,b", 3, ["a"]], ids=repr)
async def test_something_that_is_no_filter_is_refused(rig: Rig, wrong: Any) -> None:
    await add_all(rig, "a")
    with pytest.raises(InvalidTypeError, match=r"chain 'chain'.*did you mean NameFilter\.parse"):
        await rig.set_filter(wrong)
    assert rig.chain.filter is None
    assert await heard(rig) == ["a"]


async def test_a_filter_touches_only_its_own_chain(rig: Rig) -> None:
    other = Rig(type(rig.chain))
    await add_all(rig, "a")
    await add_all(other, "a")
    await rig.set_filter(NameFilter(()))
    with rig.chain.only():
        assert (await heard(rig), await heard(other)) == ([], ["a"])
    assert (other.chain.filter, other.chain.parked) == (None, ())


async def test_events_and_once_go_with_an_admitted_block(rig: Rig) -> None:
    await rig.set_filter(NameFilter(()))
    await add_all(rig, "up", events="up")
    await add_all(rig, "once", once=True)
    await rig.call("up", None)
    assert rig.drain() == []
    await rig.set_filter(None)
    await rig.call("down", None)
    assert rig.drain() == ["once"]
    await rig.call("up", None)
    assert rig.drain() == ["up"]
    await rig.set_filter(NameFilter(()))
    await rig.call("up", None)
    assert rig.drain() == []
    assert names(rig.chain.parked) == ["up"]


async def test_a_scope_owns_parked_blocks_too(rig: Rig) -> None:
    await rig.set_filter(NameFilter(()))
    async with Scope("owner") as scope:
        (parked,) = await add_all(rig, "parked")
        assert scope.blocks == (parked,)
        await rig.set_filter(None)
        await rig.set_filter(NameFilter(()))
        assert parked.owner is scope
    assert rig.chain.parked == ()


# unmatched_names.


async def test_entries_that_name_nobody_are_seen(rig: Rig) -> None:
    await rig.set_filter(NameFilter(["a", "typo", "m_*"]))
    assert rig.chain.unmatched_names == ("a", "typo", "m_*")
    await add_all(rig, "a", "b")
    assert rig.chain.unmatched_names == ("typo", "m_*")
    with rig.chain.only("a", "other", "typo"):
        assert rig.chain.unmatched_names == ("typo", "m_*", "other")
    await rig.set_filter(~NameFilter(["b", "tipo"]))
    assert rig.chain.unmatched_names == ("tipo",)
    await rig.set_filter(lambda block: True)
    assert rig.chain.unmatched_names == ()
    await rig.set_filter(None)
    assert rig.chain.unmatched_names == ()


async def test_an_entry_that_names_a_parked_block_is_matched(rig: Rig) -> None:
    await add_all(rig, "a")
    await rig.set_filter(~NameFilter(["a"]))
    assert rig.chain.unmatched_names == ()


# Layers of only().


async def test_only_adds_a_layer_for_as_long_as_it_is_open(rig: Rig) -> None:
    await add_all(rig, "a", "b", "c")
    with rig.chain.only("a", "c"):
        assert await heard(rig) == ["a", "c"]
        with rig.chain.only("b", "c"):
            assert await heard(rig) == ["c"]
        assert await heard(rig) == ["a", "c"]
    assert await heard(rig) == ["a", "b", "c"]


async def test_only_nobody_mutes(rig: Rig) -> None:
    await add_all(rig, "a")
    with rig.chain.only():
        assert await heard(rig) == []
    assert await heard(rig) == ["a"]


async def test_only_does_not_open_what_the_filter_closes(rig: Rig) -> None:
    await rig.set_filter(NameFilter(["a"]))
    await add_all(rig, "a", "b")
    with rig.chain.only("b"):
        assert await heard(rig) == []
        assert rig.chain.filter.names == ("a",)
        await rig.set_filter(None)
        assert await heard(rig) == ["b"]
    assert await heard(rig) == ["a", "b"]


@pytest.mark.parametrize("first", [0, 1])
async def test_layers_may_be_left_in_any_order(rig: Rig, first: int) -> None:
    await add_all(rig, "a", "b", "c")
    layers = [rig.chain.only("a", "b"), rig.chain.only("b", "c")]
    for layer in layers:
        layer.__enter__()
    assert await heard(rig) == ["b"]
    layers[first].__exit__(None, None, None)
    assert await heard(rig) == [["b", "c"], ["a", "b"]][first]
    layers[1 - first].__exit__(None, None, None)
    assert await heard(rig) == ["a", "b", "c"]


async def test_equal_layers_are_left_one_at_a_time(rig: Rig) -> None:
    await add_all(rig, "a", "b")
    with rig.chain.only("a"):
        with rig.chain.only("a"):
            pass
        assert await heard(rig) == ["a"]


async def test_a_layer_is_left_after_an_error_too(rig: Rig) -> None:
    await add_all(rig, "a")
    with pytest.raises(KeyError), rig.chain.only():
        raise KeyError
    assert await heard(rig) == ["a"]


async def test_a_newcomer_under_a_layer_is_parked_until_it_is_left(rig: Rig) -> None:
    with rig.chain.only("a"):
        await add_all(rig, "b", "a")
        assert await heard(rig) == ["a"]
    assert await heard(rig) == ["b", "a"]


async def test_a_block_unregistered_under_a_layer_does_not_come_back(rig: Rig) -> None:
    a, b = await add_all(rig, "a", "b")
    with rig.chain.only("a"):
        await rig.unregister(a)
        await rig.unregister(b)
    assert (rig.chain.blocks, rig.chain.parked) == ((), ())


async def test_an_invalid_name_for_only_is_an_error_and_adds_no_layer(rig: Rig) -> None:
    await add_all(rig, "a")
    with pytest.raises(FilterError), rig.chain.only("a,b"):
        raise AssertionError
    assert await heard(rig) == ["a"]


# In the middle of a walk.


async def test_a_block_that_is_muted_before_its_turn_is_not_called(rig: Rig) -> None:
    with ExitStack() as stack:
        mute = rig.chain.only("first")
        await rig.add("first", lambda event, data: stack.enter_context(mute))
        await add_all(rig, "second")
        await rig.call(1, None)
        assert rig.drain() == ["first"]
    assert names(rig.chain.blocks) == ["first", "second"]


@pytest.mark.parametrize("flavour", SYNC)
async def test_a_block_that_is_filtered_out_before_its_turn_is_not_called(flavour: Any) -> None:
    rig = Rig(flavour)
    await rig.add("first", lambda event, data: rig.chain.set_filter(NameFilter(["first"])))
    await add_all(rig, "second")
    assert await rig.call(1, None) == NOTIFY_DONE
    assert rig.drain() == ["first"]


async def test_a_block_that_is_admitted_in_mid_walk_is_not_called_by_it(rig: Rig) -> None:
    muted = rig.chain.only("first")
    muted.__enter__()
    await rig.add("first", lambda event, data: muted.__exit__(None, None, None))
    await add_all(rig, "second")
    await rig.call(1, None)
    assert rig.drain() == ["first"]
    assert names(rig.chain.blocks) == ["first", "second"]


@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_filter_that_would_wait_for_its_own_walk_is_refused(flavour: Any) -> None:
    rig = Rig(flavour, colour="async")

    async def narrows(event: Any, data: Any) -> None:
        with pytest.raises(WouldDeadlockError):
            await rig.set_filter(NameFilter(()))
        with pytest.raises(anyio.WouldBlock):
            rig.chain.set_filter_nowait(NameFilter(()))

    await rig.add("narrows", narrows)
    await rig.call(1, None)
    assert rig.chain.filter is None
    assert names(rig.chain.blocks) == ["narrows"]


async def test_srcu_filters_inside_a_walk_that_holds_none_of_the_parked() -> None:
    rig = Rig(SrcuChain, colour="async")
    await add_all(rig, "bystander", events="other")

    async def narrows(event: Any, data: Any) -> None:
        rig.chain.set_filter_nowait(~NameFilter(["nobody"]))
        await rig.set_filter(NameFilter(["narrows"]))

    await rig.add("narrows", narrows, events="this")
    await rig.call("this", None)
    assert names(rig.chain.parked) == ["bystander"]


@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_block_that_set_filter_parked_is_not_running_when_it_returns(flavour: Any) -> None:
    rig = Rig(flavour, colour="async")
    running, go = anyio.Event(), anyio.Event()

    async def slow(event: Any, data: Any) -> None:
        running.set()
        await go.wait()
        rig.log.append("slow ends")

    await rig.add("slow", slow)

    async def narrow() -> None:
        await rig.set_filter(NameFilter(()))
        rig.log.append("narrowed")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.call, 1, None)
        await running.wait()
        with pytest.raises(anyio.WouldBlock):
            rig.chain.set_filter_nowait(NameFilter(()))
        tasks.start_soon(narrow)
        await anyio.wait_all_tasks_blocked()
        assert rig.drain() == ["slow"]
        go.set()
    assert rig.drain() == ["slow ends", "narrowed"]


async def test_d3_a_filter_waits_for_every_block_that_it_parks() -> None:
    chain, slow, log = SrcuChain[str, Any]("chain"), {"a": Held(), "b": Held()}, list[str]()
    for name, callback in slow.items():
        await chain.register(callback, name=name, events=[name])

    async def narrow() -> None:
        await chain.set_filter(NameFilter(()))
        log.append("narrowed")

    async with anyio.create_task_group() as tasks:
        for name in slow:
            tasks.start_soon(chain.call, name, None)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(narrow)
        await anyio.wait_all_tasks_blocked()
        for name, callback in slow.items():
            log.append(f"{name} ends")
            callback.release.set()
            await anyio.wait_all_tasks_blocked()
    assert log == ["a ends", "b ends", "narrowed"]


@pytest.mark.parametrize("flavour", ASYNC)
async def test_set_filter_nowait_waits_for_one_of_many_as_little(flavour: Any) -> None:
    chain, slow = flavour("chain"), Held()
    for name, callback in (("idle", Held()), ("running", slow), ("idle_too", Held())):
        await chain.register(callback, name=name, events=[name])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(chain.call, "running", None)
        await slow.entered.wait()
        with pytest.raises(anyio.WouldBlock):
            chain.set_filter_nowait(NameFilter(()))
        assert names(chain.blocks) == ["idle", "running", "idle_too"]
        slow.release.set()


@pytest.mark.parametrize("flavour", ASYNC)
async def test_set_filter_nowait_needs_no_event_loop_and_does_the_same(flavour: Any) -> None:
    rig = Rig(flavour)
    await add_all(rig, "a", "b")
    rig.chain.set_filter_nowait(NameFilter(["b"]))
    assert await heard(rig) == ["b"]


@pytest.mark.parametrize("flavour", ASYNC)
async def test_only_waits_for_nobody(flavour: Any) -> None:
    rig, slow = Rig(flavour, colour="async"), Held()
    await rig.add("slow", slow)
    await add_all(rig, "behind")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.call, 1, None)
        await slow.entered.wait()
        with rig.chain.only("slow"):
            slow.release.set()
            await anyio.wait_all_tasks_blocked()
    assert rig.drain() == ["slow"]


# With a replay.


def replaying(flavour: Any, **options: Any) -> Rig:
    return Rig(flavour, replay=lambda: [("present", None)], **options)


@pytest.fixture(params=FLAVOURS)
async def replayed(request: pytest.FixtureRequest, anyio_backend: str) -> Rig:
    return replaying(request.param)


async def test_a_parked_block_hears_the_replay_when_it_is_admitted(replayed: Rig) -> None:
    await replayed.set_filter(NameFilter(()))
    await add_all(replayed, "a")
    assert replayed.drain() == []
    await replayed.set_filter(None)
    assert replayed.drain() == ["a"]
    await replayed.set_filter(None)
    assert replayed.drain() == []
    with replayed.chain.only():
        assert replayed.drain() == []
    assert replayed.drain() == ["a"]


async def test_a_block_that_vetoes_its_admission_leaves_everything_as_it_was(replayed: Rig) -> None:
    before = NameFilter(["c"])
    await replayed.set_filter(before)
    await add_all(replayed, "a", "c")
    await replayed.add("b", NOTIFY_BAD)
    with pytest.raises(RegistrationVetoedError):
        await replayed.set_filter(~NameFilter(["c"]))
    assert replayed.chain.filter is before
    assert await heard(replayed) == ["c"]
    assert names(replayed.chain.parked) == ["a", "b"]


async def test_a_block_that_vetoes_its_return_stays_parked_with_a_warning(
    replayed: Rig, warnings: list[Any]
) -> None:
    with replayed.chain.only():
        await add_all(replayed, "a")
        await replayed.add("b", NOTIFY_BAD)
    assert (names(replayed.chain.blocks), names(replayed.chain.parked)) == (["a"], ["b"])
    assert [(one[""], one["chain"], one["block"]) for one in warnings] == [
        ("a block stays parked: its replay failed", "chain", "b")
    ]


@pytest.mark.parametrize("flavour", ASYNC)
async def test_an_async_block_hears_the_replay_of_its_admission(flavour: Any) -> None:
    rig = replaying(flavour, colour="async", filter=NameFilter(()))
    await add_all(rig, "a")
    with pytest.raises(anyio.WouldBlock):
        rig.chain.set_filter_nowait(None)
    assert names(rig.chain.parked) == ["a"]
    await rig.set_filter(None)
    assert rig.drain() == ["a"]
    with rig.chain.only():
        pass
    assert rig.drain() == []  # leaving waits for nobody
    assert await heard(rig) == ["a"]


def test_a_filter_needs_no_event_loop() -> None:
    chain = AtomicChain[Any]("chain", filter=NameFilter(["a"]))
    chain.register(hear, name="b")
    assert chain.is_empty
