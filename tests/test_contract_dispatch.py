"""D1 to D5, D9, D13, D14 and D16, on every flavour, with either colour, on both backends."""

from __future__ import annotations

import errno
import gc
import weakref
from contextlib import suppress
from typing import Any
from unittest.mock import MagicMock

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin import (
    NOTIFY_BAD,
    NOTIFY_DONE,
    NOTIFY_OK,
    NOTIFY_STOP,
    AtomicChain,
    InvalidResultError,
    NotifierBlock,
    RawChain,
    VetoError,
    WouldDeadlockError,
    notifier_from_errno,
)

from .flavours import ASYNC, FLAVOURS, WAY_IDS, WAYS, NoNoteError, Rig, maybe_await

pytestmark = pytest.mark.anyio
every_way = pytest.mark.parametrize(("flavour", "colour", "walk"), WAYS, ids=WAY_IDS)
every_flavour = pytest.mark.parametrize("flavour", FLAVOURS)


@pytest.fixture
def rig(flavour: Any, colour: str, walk: str) -> Rig:
    return Rig(flavour, colour=colour, walk=walk)


# D1 order


@every_way
async def test_d1_higher_priority_runs_first_and_equal_ones_in_order_of_registration(
    rig: Rig,
) -> None:
    for name, priority in [("a", 0), ("b", 5), ("c", 0), ("d", -3), ("e", 5), ("f", 10**30)]:
        await rig.add(name, priority=priority)
    await rig.call(1, None)
    assert rig.drain() == ["f", "b", "e", "a", "c", "d"]
    assert [block.name for block in rig.chain.blocks] == ["f", "b", "e", "a", "c", "d"]
    assert [block.name for block in rig.chain] == ["f", "b", "e", "a", "c", "d"]


@every_flavour
async def test_d1_a_block_registered_again_goes_to_the_end_of_its_priority(flavour: Any) -> None:
    rig = Rig(flavour)
    first = await rig.add("first")
    await rig.add("second")
    await rig.unregister(first)
    await rig.register(first)
    await rig.call(1, None)
    assert rig.drain() == ["second", "first"]


@given(st.lists(st.integers(-3, 3), max_size=12))
@settings(max_examples=60)
def test_d1_holds_after_each_registration(priorities: list[int]) -> None:
    chain = FLAVOURS[0]("chain")
    for number, priority in enumerate(priorities):
        chain.register(lambda event, data: None, name=f"b{number}", priority=priority)
        expected = sorted(range(number + 1), key=lambda one: (-priorities[one], one))
        assert [block.name for block in chain.blocks] == [f"b{one}" for one in expected]


# D2 view; nobody joins a BlockingChain in mid-walk at all, see test_locks.py

JOINABLE = [(way, name) for way, name in zip(WAYS, WAY_IDS, strict=True) if "Blocking" not in name]


@pytest.mark.parametrize(
    ("flavour", "colour", "walk"), [way for way, _ in JOINABLE], ids=[name for _, name in JOINABLE]
)
@pytest.mark.parametrize("newcomer_priority", [5, 0, -5])
async def test_d2_a_block_added_in_mid_walk_is_not_called_by_that_walk(
    rig: Rig, newcomer_priority: int
) -> None:
    def add(event: int, data: Any) -> None:
        if event == 1:
            rig.chain.subscriber(priority=newcomer_priority)(rig.callback("new"))

    await rig.add("first", add)
    await rig.add("last", priority=-10)
    await rig.call(1, None)
    assert rig.drain() == ["first", "last"]
    await rig.call(2, None)
    assert sorted(rig.drain()) == ["first", "last", "new"]


# D3 removal


@every_way
@pytest.mark.parametrize("victim", ["earlier", "itself", "next", "later", "last"])
async def test_d3_a_block_removed_before_its_turn_is_not_called(rig: Rig, victim: str) -> None:
    blocks: dict[str, Any] = {}

    def remove(event: Any, data: Any) -> None:
        rig.chain.unregister_nosync(blocks[victim])

    for name in ["earlier", "itself", "next", "later", "last"]:
        blocks[name] = await rig.add(name, remove if name == "itself" else None)
    await rig.call(1, None)
    before = ["earlier", "itself"]
    after = [name for name in ["next", "later", "last"] if name != victim]
    assert rig.drain() == before + after
    assert blocks[victim] not in rig.chain
    await rig.call(2, None) if victim == "itself" else None
    assert victim not in rig.drain()


@every_way
async def test_d3_holds_for_every_walk_that_began_earlier(rig: Rig) -> None:
    victim = await rig.add("victim", priority=-1)

    async def nest(event: int, data: Any) -> None:
        if event < 3:
            await rig.call(event + 1, None)
        else:
            rig.chain.unregister_nosync(victim)

    def nest_sync(event: int, data: Any) -> None:
        if event < 3:
            rig.chain.call(event + 1, None)
        else:
            rig.chain.unregister_nosync(victim)

    if (
        rig.colour == "sync"
        and rig.prefix + "call" == "call"
        and not hasattr(rig.chain, "_binding")
    ):
        await rig.add("nest", nest_sync)
    else:
        rig.colour = "async"
        if rig.chain.__class__.__name__ == "RawChain":
            rig.prefix = "a"
        await rig.add("nest", nest)
    await rig.call(1, None)
    assert "victim" not in rig.drain()


@every_way
async def test_d3_holds_after_the_victim_was_registered_again(rig: Rig) -> None:
    """The new registration is seen by later walks only, also when its place in the order moved."""
    blocks: dict[str, Any] = {}

    def again(event: int, data: Any) -> None:
        if event == 1:
            rig.chain.unregister_nosync(blocks["victim"])
            if rig.chain.__class__.__name__ != "BlockingChain":
                rig.chain.register_nowait(blocks["victim"])
                rig.chain.unregister_nosync(blocks["other"])

    blocks["first"] = await rig.add("first", again)
    for name in ["victim", "other", "x", "y"]:
        blocks[name] = await rig.add(name)
    await rig.call(1, None)
    log = rig.drain()
    assert "victim" not in log
    if rig.chain.__class__.__name__ != "BlockingChain":
        assert log == ["first", "x", "y"]
        await rig.call(2, None)
        assert rig.drain() == ["first", "x", "y", "victim"]


@every_way
async def test_d3_holds_on_a_route_of_an_event(rig: Rig) -> None:
    victim = await rig.add("victim", events=[1], priority=-1)
    await rig.add("remover", lambda event, data: rig.chain.unregister_nosync(victim), events=1)
    await rig.add("rest", priority=-2)
    await rig.call(1, None)
    assert rig.drain() == ["remover", "rest"]


# D4 result


@every_way
async def test_d4_the_last_result_is_the_result(rig: Rig) -> None:
    assert await rig.call(1, None) == NOTIFY_DONE
    for result in [2, NOTIFY_OK, 0, 5, None, 23]:
        await rig.add(f"gives_{result}", result)
        assert await rig.call(1, None) == (result or 0)
    report = await rig.call_report(1, None)
    assert [call.result for call in report.calls] == [2, 1, 0, 5, 0, 23]
    assert report.result == 23
    assert report.stopped_by is None
    report.raise_for_veto()


class OtherInt(int):
    pass


@every_way
@pytest.mark.parametrize("result", [True, False, OtherInt(3), NOTIFY_OK, 10**20])
async def test_d4_any_int_is_a_result(rig: Rig, result: int) -> None:
    await rig.add("first", result)
    await rig.add("second", lambda event, data: event)
    assert await rig.call(7, None) == 7
    assert rig.drain() == ["first", "second"]


class Andable:
    """Behaves like an int under the stop test, and is none."""

    def __and__(self, other: object) -> int:
        return 0


class Raising:
    def __and__(self, other: object) -> int:
        raise ZeroDivisionError


@every_way
@pytest.mark.parametrize("position", ["only", "first", "last"])
@pytest.mark.parametrize(
    "result",
    [
        "",
        "secret",
        {},
        1.5,
        1.0,
        0.0,
        object(),
        MagicMock(),
        MagicMock(spec=int),
        Andable(),
        Raising(),
    ],
    ids=lambda one: type(one).__name__ + str(one)[:6],
)
async def test_d4_what_is_no_int_is_an_error_that_names_the_block(
    rig: Rig, result: Any, position: str
) -> None:
    if position == "last":
        await rig.add("before", NOTIFY_OK)
    block = await rig.add("culprit", result)
    if position == "first":
        await rig.add("behind", NOTIFY_OK)
    with pytest.raises(InvalidResultError, match=r"'culprit'.*'chain'") as caught:
        await rig.call(1, None)
    assert "secret" not in str(caught.value)
    assert "behind" not in rig.log
    await rig.unregister(block)
    assert await rig.call(1, None) in (NOTIFY_OK, NOTIFY_DONE)


@every_way
async def test_d4_a_coroutine_is_closed_not_leaked(rig: Rig) -> None:
    async def never() -> int:
        raise AssertionError

    leaked = never()
    rig.chain.register_nowait(lambda event, data: leaked, name="leaker")
    with pytest.raises(InvalidResultError, match="async"):
        await rig.call(1, None)
    with pytest.raises(RuntimeError, match=r"cannot reuse|closed"):
        leaked.send(None)


@every_way
async def test_d4_an_awaitable_that_cannot_be_closed_is_an_error_too(rig: Rig) -> None:
    class Awaitable:
        def __await__(self) -> Any:
            raise AssertionError

    rig.chain.register_nowait(lambda event, data: Awaitable(), name="leaker")
    with pytest.raises(InvalidResultError, match="leaker"):
        await rig.call(1, None)


@every_way
async def test_d4_a_removed_block_leaves_the_result_as_it_was(rig: Rig) -> None:
    victim = await rig.add("victim", 99, priority=-1)

    def remove(event: Any, data: Any) -> int:
        rig.chain.unregister_nosync(victim)
        return 5

    await rig.add("remover", remove)
    assert await rig.call(1, None) == 5


class OddInt(int):
    """An int all the same, though its own arithmetic fails."""

    def __and__(self, other: object) -> int:
        raise RuntimeError("no arithmetic")


class Proxy:
    """Like an unbound proxy object: every look at an attribute raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name} here")


@every_way
async def test_d4_an_int_subclass_counts_whatever_its_operators_do(rig: Rig) -> None:
    await rig.add("plain", lambda event, data: OddInt(1))
    await rig.add("stop", lambda event, data: OddInt(NOTIFY_STOP))
    await rig.add("behind")
    assert await rig.call(1, None) == NOTIFY_STOP
    report = await rig.call_robust_report(1, 2, None)
    assert report.stopped_by.name == "stop"
    assert rig.drain() == ["plain", "stop", "plain", "stop", "plain"]


@every_way
async def test_d4_an_answer_that_cannot_be_looked_at_is_no_result(rig: Rig) -> None:
    await rig.add("proxy", lambda event, data: Proxy())
    for call in (rig.call, rig.call_report):
        with pytest.raises(InvalidResultError, match=r"'proxy'.*Proxy"):
            await call(1, None)


# D5 stop


@every_way
@pytest.mark.parametrize(
    "result", [NOTIFY_STOP, NOTIFY_BAD, 0x8000, -16, -1, notifier_from_errno(-16)]
)
async def test_d5_the_stop_bit_ends_the_walk(rig: Rig, result: int) -> None:
    await rig.add("before", NOTIFY_OK)
    stopper = await rig.add("stopper", result)
    await rig.add("behind")
    assert await rig.call(1, None) == result
    assert rig.drain() == ["before", "stopper"]
    report = await rig.call_report(1, None)
    assert (report.stopped_by, report.result, report.nr_calls) == (stopper, result, 2)
    with pytest.raises(VetoError) as caught:
        report.raise_for_veto()
    assert (caught.value.block, caught.value.result) == (stopper, result)


@every_way
async def test_d5_a_value_without_the_stop_bit_does_not_end_it(rig: Rig) -> None:
    await rig.add("first", 0x7FFF)
    await rig.add("second", -40000)
    assert await rig.call(1, None) == -40000


@every_way
@pytest.mark.parametrize("policy", ["raise", "collect", "isolate"])
async def test_d5_a_raised_veto_counts_as_its_result_under_every_policy(
    flavour: Any, colour: str, walk: str, policy: str
) -> None:
    rig = Rig(flavour, colour=colour, walk=walk, errors=policy)
    stopper = await rig.add("stopper", VetoError(errno.EBUSY, "the disk is mounted"))
    await rig.add("behind")
    assert await rig.call(1, None) == notifier_from_errno(-errno.EBUSY)
    assert rig.drain() == ["stopper"]
    report = await rig.call_report(1, None)
    with pytest.raises(VetoError, match="the disk is mounted") as caught:
        report.raise_for_veto()
    assert (caught.value.errno, caught.value.block) == (errno.EBUSY, stopper)


# D9 exceptions


@every_way
async def test_d9_raise_ends_the_walk_with_a_note_that_names_the_place(rig: Rig) -> None:
    await rig.add("first")
    await rig.add("culprit", ValueError("boom"), priority=-4)
    await rig.add("behind", priority=-5)
    for call in (rig.call, rig.call_report):
        with pytest.raises(ValueError, match="boom") as caught:
            await call(1, "secret")
        (note,) = caught.value.__notes__[-1:]
        assert "'culprit'" in note
        assert "'chain'" in note
        assert "priority -4" in note
        assert "position 2 of 3" in note
        assert "secret" not in note
        assert rig.drain() == ["first", "culprit"]


@every_way
async def test_d9_the_note_tells_the_line_of_a_lambda(rig: Rig) -> None:
    rig.chain.register_nowait(lambda event, data: 1 // 0)
    with pytest.raises(ZeroDivisionError) as caught:
        await rig.call(1, None)
    assert "test_contract_dispatch.py:" in caught.value.__notes__[0]


@every_way
async def test_d9_collect_runs_all_then_raises_one_group(
    flavour: Any, colour: str, walk: str
) -> None:
    rig = Rig(flavour, colour=colour, walk=walk, errors="collect")
    await rig.add("a", ValueError("a"))
    await rig.add("b", NOTIFY_OK)
    await rig.add("c", "no result")
    await rig.add("d", KeyError("d"))
    for call in (rig.call, rig.call_report):
        with pytest.raises(ExceptionGroup, match="'chain'") as caught:
            await call(1, None)
        assert [type(one) for one in caught.value.exceptions] == [
            ValueError,
            InvalidResultError,
            KeyError,
        ]
        assert all(one.__notes__ for one in caught.value.exceptions)
        assert rig.drain() == ["a", "b", "c", "d"]
    await rig.add("stop", NOTIFY_STOP, priority=1)
    assert await rig.call(1, None) == NOTIFY_STOP


@every_way
async def test_d9_isolate_goes_on_and_counts_it_as_done(
    flavour: Any, colour: str, walk: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(flavour, colour=colour, walk=walk, errors="isolate")
    await rig.add("ok", NOTIFY_OK)
    await rig.add("bad", ValueError("boom"))
    assert await rig.call(1, "secret") == NOTIFY_DONE
    await rig.add("last", 7)
    rig.drain()
    assert await rig.call(1, "secret") == 7
    assert rig.drain() == ["ok", "bad", "last"]
    report = await rig.call_report(1, "secret")
    assert [type(call.exception) for call in report.calls] == [type(None), ValueError, type(None)]
    assert "'bad'" in caplog.text
    assert "boom" in caplog.text
    assert "secret" not in caplog.text


@every_way
@pytest.mark.parametrize("policy", ["raise", "collect", "isolate"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_d9_other_base_exceptions_always_pass(
    flavour: Any, colour: str, walk: str, policy: str, error: type[BaseException]
) -> None:
    rig = Rig(flavour, colour=colour, walk=walk, errors=policy)
    raised = error()
    await rig.add("culprit", raised)
    await rig.add("behind")
    for call in (rig.call, rig.call_report):
        with pytest.raises(error) as caught:
            await call(1, None)
        assert caught.value is raised
        assert not hasattr(raised, "__notes__")
    assert rig.drain() == ["culprit", "culprit"]
    assert rig.chain.statistics().walks_running == 0


class OddNotesError(Exception):
    __notes__ = 5  # type: ignore[assignment]


@every_way
@pytest.mark.parametrize("made", [NoNoteError(3), OddNotesError("odd")])
@pytest.mark.parametrize("policy", ["raise", "collect", "isolate"])
async def test_d9_an_exception_that_takes_no_note_is_treated_as_any_other(
    flavour: Any, colour: str, walk: str, made: Exception, policy: str
) -> None:
    rig = Rig(flavour, colour=colour, walk=walk, errors=policy)
    await rig.add("bad", made, priority=1)
    await rig.add("behind")
    for call in (rig.call, rig.call_report):
        if policy == "isolate":
            await call(1, None)
        else:
            with pytest.raises(Exception) as caught:
                await call(1, None)
            group = caught.value
            assert (group.exceptions if isinstance(group, ExceptionGroup) else (group,)) == (made,)
        assert rig.drain() == ["bad", *["behind"] * (policy != "raise")]


@every_flavour
async def test_d9_a_recursion_error_that_went_through_two_chains_has_one_note(
    flavour: Any,
) -> None:
    one, two = flavour("one"), flavour("two")
    for here, there in ((one, two), (two, one)):
        here.register_nowait(
            lambda event, data, there=there: there.call(event, data), is_async=flavour in ASYNC
        )
    with pytest.raises(RecursionError) as caught:
        await maybe_await(one.call(1, None))
    assert len(caught.value.__notes__) == 1


@every_way
async def test_d9_a_type_error_of_the_callback_is_its_own(rig: Rig) -> None:
    await rig.add("ok", NOTIFY_OK)
    await rig.add("culprit", TypeError("mine"))
    with pytest.raises(TypeError, match="mine"):
        await rig.call(1, None)


@every_way
async def test_d9_stop_iteration_is_not_eaten(rig: Rig) -> None:
    def sync(event: Any, data: Any) -> None:
        raise StopIteration(1)

    rig.chain.register_nowait(sync)
    expected = (
        StopIteration
        if rig.chain.__class__.__name__ in ("AtomicChain", "RawChain")
        else RuntimeError
    )
    with pytest.raises((expected, RuntimeError)):
        await rig.call(1, None)


# D13 re-entrancy


@every_flavour
async def test_d13_nested_calls_run_depth_first(flavour: Any) -> None:
    rig = Rig(
        flavour, colour="async" if flavour.__name__ in ("BlockingChain", "SrcuChain") else "sync"
    )

    def nest(event: int, data: Any) -> Any:
        rig.log[-1] = f"a{event}"
        return rig.chain.call(event + 1, None) if event < 3 else None

    def leaf(event: int, data: Any) -> None:
        rig.log[-1] = f"b{event}"

    await rig.add("a", nest)
    await rig.add("b", leaf)
    await rig.call(1, None)
    assert rig.drain() == ["a1", "a2", "a3", "b3", "b2", "b1"]


@every_way
async def test_d13_unbounded_recursion_is_a_recursion_error_and_the_chain_is_usable_after(
    rig: Rig,
) -> None:
    limit = {"on": True}

    call = getattr(rig.chain, f"{rig.prefix}call")

    async def again(event: Any, data: Any) -> None:
        if limit["on"]:
            await call(event, data)  # no frame between, in which recursion may end before the await

    def again_sync(event: Any, data: Any) -> None:
        if limit["on"]:
            rig.chain.call(event, data)

    sync = rig.chain.__class__.__name__ in ("AtomicChain", "RawChain") and rig.prefix == ""
    rig.chain.register_nowait(again_sync if sync else again, name="again")
    with pytest.raises(RecursionError) as caught:
        await rig.call(1, None)
    assert len(getattr(caught.value, "__notes__", ["none"])) == 1
    limit["on"] = False
    assert await rig.call(1, None) == NOTIFY_DONE
    assert rig.chain.statistics().walks_running == 0
    await rig.unregister(rig.chain.blocks[0])


# D14 strong references


@every_flavour
async def test_d14_the_chain_holds_its_blocks(flavour: Any) -> None:
    rig = Rig(flavour)
    kept = weakref.ref(await rig.add("kept"))
    gc.collect()
    assert kept() is not None
    await rig.call(1, None)
    assert rig.drain() == ["kept"]


@every_way
async def test_d14_an_unregistered_block_is_released_at_once(rig: Rig) -> None:
    class Block(NotifierBlock[Any, Any, Any]):
        def notifier_call(self, event: Any, data: Any) -> None:
            return None

    for options in ({}, {"once": True}, {"events": [1]}):
        block: Any = Block(**options)
        gone = weakref.ref(block)
        await rig.register(block)
        await rig.call(2, None)
        await rig.unregister(block) if block.chain else None
        del block
        assert gone() is None


@every_way
async def test_d14_what_is_called_is_released_with_its_block(
    flavour: Any, colour: str, walk: str
) -> None:
    """Also where one callback is in several blocks, whose slots then differ from it."""
    for options in wrapping_options(flavour, colour):
        await see_released(Rig(flavour, colour=colour, walk=walk), options)


def wrapping_options(flavour: Any, colour: str) -> list[dict[str, Any]]:
    """Give the options with which something else than the callback is called, and none."""
    options: list[dict[str, Any]] = [{}, {"once": True}]
    if colour == "async":
        options.append({"timeout": 9})
    elif flavour in ASYNC:
        options.append({"thread": True})
    return options


async def see_released(rig: Rig, options: dict[str, Any]) -> None:
    callback = rig.callback("called")
    gone = weakref.ref(callback)
    gc.collect()
    gc.disable()
    try:
        blocks = [await rig.register(callback, **options) for _ in range(3)]
        await rig.call(1, None)
        assert rig.drain() == ["called"] * 3
        for block in blocks:
            await rig.unregister(block) if block.chain else None
        del blocks, block, callback
        if "thread" in options:  # the worker lets go of its last job before it takes this one
            await anyio.to_thread.run_sync(int)
        assert gone() is None
    finally:
        gc.enable()


@every_way
async def test_d14_or_when_the_last_walk_that_began_before_has_ended(rig: Rig) -> None:
    victims = [await rig.add("victim", priority=-1)]
    gone = weakref.ref(victims[0])
    seen = []

    def remove(event: Any, data: Any) -> None:
        if victims:
            rig.chain.unregister_nosync(victims.pop())
        seen.append(gone() is not None)

    await rig.add("remover", remove)
    await rig.call(1, None)
    assert gone() is None
    assert len(seen) == 1


@every_way
@pytest.mark.parametrize("policy", ["raise", "collect", "isolate"])
@pytest.mark.parametrize("does", [ValueError("x"), VetoError(errno.EBUSY), "no result", None])
async def test_d14_holds_after_a_callback_failed(
    flavour: Any, colour: str, walk: str, policy: str, does: Any
) -> None:
    """No reference cycle through a traceback keeps a walk, and so its blocks, alive."""
    rig = Rig(flavour, colour=colour, walk=walk, errors=policy)

    class Block(NotifierBlock[Any, Any, Any]):
        def notifier_call(self, event: Any, data: Any) -> Any:
            if isinstance(does, Exception):
                raise type(does)(*does.args)
            return does

    gc.disable()
    try:
        for call, arguments in [
            ("call", (1, None)),
            ("call_report", (1, None)),
            ("call_robust", (1, 2, None)),
        ]:
            block: Any = Block()
            gone = weakref.ref(block)
            await rig.register(block)
            with suppress(ValueError, InvalidResultError, ExceptionGroup):
                await getattr(rig, call)(*arguments)
            await rig.unregister(block)
            del block
            assert gone() is None, call
    finally:
        gc.enable()


@pytest.mark.parametrize("flavour", ASYNC)
@pytest.mark.parametrize("policy", ["collect", "isolate"])
async def test_d14_holds_for_a_walk_that_was_looked_at_by_somebody_who_would_wait(
    flavour: Any, policy: str
) -> None:
    class Failing(NotifierBlock[Any, Any, Any]):
        def notifier_call(self, event: Any, data: Any) -> None:
            raise ValueError

    async def look(event: Any, data: Any) -> None:
        with pytest.raises(WouldDeadlockError):
            await chain.unregister(looking)

    chain, failing = flavour("chain", errors=policy), Failing()
    await chain.register(failing)
    looking = await chain.register(look)
    gc.collect()
    gc.disable()
    try:
        with suppress(ExceptionGroup):
            await chain.call(1, None)
        await chain.unregister(failing)
        await anyio.lowlevel.checkpoint()
        reference = weakref.ref(failing)
        del failing
        assert reference() is None
    finally:
        gc.enable()


@every_way
async def test_d14_a_veto_of_an_inner_registration_is_freed_with_its_handler(rig: Rig) -> None:
    inner = RawChain[Any, Any]("inner", replay=lambda: [("present", None)])

    def register(event: Any, data: Any) -> None:
        inner.register(lambda event, data: notifier_from_errno(-errno.EBUSY))

    await rig.add("registering", register)
    gc.collect()
    gc.disable()
    try:
        try:
            await rig.call(1, None)
        except VetoError as error:
            raised = weakref.ref(error)
        assert raised() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("flavour", ASYNC)
@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt])
async def test_d14_holds_for_a_robust_walk_that_was_looked_at(flavour: Any, raised: Any) -> None:
    class Failing(NotifierBlock[Any, Any, Any]):
        def notifier_call(self, event: Any, data: Any) -> None:
            raise raised

    async def look(event: Any, data: Any) -> None:
        with pytest.raises(WouldDeadlockError):
            await chain.unregister(looking)

    chain, failing = flavour("chain"), Failing()
    looking = await chain.register(look)
    await chain.register(failing)
    gc.collect()
    gc.disable()
    try:
        with suppress(ValueError, KeyboardInterrupt):
            await chain.call_robust(1, 2, None)
        await chain.unregister(failing)
        await anyio.lowlevel.checkpoint()
        reference = weakref.ref(failing)
        del failing
        assert reference() is None
    finally:
        gc.enable()


def test_d14_holds_for_a_walk_that_was_looked_at_through_its_thread() -> None:
    class Failing(NotifierBlock[Any, Any, Any]):
        def notifier_call(self, event: Any, data: Any) -> None:
            raise ValueError

    chain, failing = AtomicChain[Any, Any]("chain", errors="isolate"), Failing()
    chain.register(failing)
    chain.register(lambda event, data: chain.statistics() and None)
    gc.collect()
    gc.disable()
    try:
        chain.call(1, None)
        chain.unregister(failing)
        reference = weakref.ref(failing)
        del failing
        assert reference() is None
    finally:
        gc.enable()


@every_way
@pytest.mark.parametrize("number", [1, 2])
async def test_d4_blocks_removed_at_the_end_leave_the_result_as_it_was(
    rig: Rig, number: int
) -> None:
    def remove(event: Any, data: Any) -> int:
        for block in rig.chain.blocks[1:]:
            rig.chain.unregister_nosync(block)
        return 7

    await rig.add("remover", remove)
    for _ in range(number):
        await rig.add("removed", NOTIFY_OK)
    assert await rig.call(1, None) == 7
    assert rig.drain() == ["remover"]


@every_way
async def test_a_block_with_once_is_off_before_it_runs(rig: Rig) -> None:
    seen: list[Any] = []
    block: Any = await rig.add(
        "once", lambda event, data: seen.append((block.chain, len(rig.chain))), once=True
    )
    await rig.call(1, None)
    assert seen == [(None, 0)]


@every_way
@pytest.mark.parametrize("call", ["call_report", "call_robust_report"])
async def test_a_report_tells_what_each_callback_took(
    rig: Rig, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1.0  # less than what is taken

    def take(seconds: float) -> Any:
        def spend(event: Any, data: Any) -> None:
            nonlocal clock
            clock += seconds

        return spend

    monkeypatch.setattr("tocsin.careful.perf_counter", lambda: clock)
    for name, seconds in (("slow", 2.0), ("quick", 0.25), ("none", 0.0)):
        await rig.add(name, take(seconds))
    arguments = (1, 2, None) if "robust" in call else (1, None)
    report = await getattr(rig, call)(*arguments)
    assert [one.duration for one in report.calls] == [2.0, 0.25, 0.0]


# D16 duplicates


@every_way
async def test_d16_the_same_callback_in_two_blocks_is_two_subscribers(rig: Rig) -> None:
    callback = rig.callback("twice")
    first = await rig.register(callback)
    second = await rig.register(callback)
    assert first is not second
    await rig.call(1, None)
    assert rig.drain() == ["twice", "twice"]
    await rig.unregister(first)
    await rig.call(1, None)
    assert rig.drain() == ["twice"]
    await rig.unregister(second)
    assert rig.chain.is_empty


@every_way
async def test_d16_of_two_blocks_of_one_callback_the_right_one_is_removed_in_mid_walk(
    rig: Rig,
) -> None:
    callback = rig.callback("twice")
    await rig.register(callback, priority=3)
    second = await rig.register(callback, priority=-3)
    await rig.add("remover", lambda event, data: rig.chain.unregister_nosync(second))
    await rig.call(1, None)
    assert rig.drain() == ["twice", "remover"]


@every_way
async def test_two_bound_methods_of_one_object_are_two_subscribers(rig: Rig) -> None:
    heard = []

    class Listener:
        def one(self, event: Any, data: Any) -> None:
            heard.append("one")

        def two(self, event: Any, data: Any) -> None:
            heard.append("two")

    listener = Listener()
    await rig.register(listener.one)
    await rig.register(listener.two)
    await rig.call(1, None)
    assert heard == ["one", "two"]


# call_report


@every_way
async def test_a_report_is_limited_by_the_number_of_callbacks_called(rig: Rig) -> None:
    for name in "abc":
        await rig.add(name, NOTIFY_OK)
    for limit, called in [
        (0, ""),
        (1, "a"),
        (2, "ab"),
        (3, "abc"),
        (9, "abc"),
        (-1, "abc"),
        (-7, "abc"),
    ]:
        report = await rig.call_report(4, None, limit=limit)
        assert "".join(rig.drain()) == called
        assert report.nr_calls == len(report.calls) == len(called)
        assert report.event == 4
        assert report.result == (NOTIFY_OK if called else NOTIFY_DONE)
        assert all(call.duration >= 0 for call in report.calls)


@pytest.mark.parametrize("errors", ["collect", "isolate"])
@every_way
async def test_a_report_tells_what_a_failure_took(
    flavour: Any, colour: str, walk: str, errors: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, clock = Rig(flavour, colour=colour, walk=walk, errors=errors), 1.0

    def fail(event: Any, data: Any) -> None:
        nonlocal clock
        clock += 2.5
        raise VetoError(errno.EBUSY) if errors == "collect" else ValueError

    monkeypatch.setattr("tocsin.careful.perf_counter", lambda: clock)
    await rig.add("failing", fail)
    report = await rig.call_report(1, None)
    assert [one.duration for one in report.calls] == [2.5]


async def test_a_report_is_limited_however_high_the_limit() -> None:
    chain = RawChain[Any, Any]("chain")
    for _ in range(302):
        chain.register(lambda event, data: None)
    assert chain.call_report(1, None, limit=300).nr_calls == 300


@every_way
async def test_a_removed_block_is_not_counted_by_a_report(rig: Rig) -> None:
    victim = await rig.add("victim", priority=-1)
    await rig.add("remover", lambda event, data: rig.chain.unregister_nosync(victim))
    await rig.add("last", priority=-2)
    report = await rig.call_report(1, None, limit=2)
    assert [call.block.name for call in report.calls] == ["remover", "last"]


async def test_the_helpers_are_awaited_on_a_real_loop() -> None:
    assert anyio.get_current_task().id


# events


@every_way
async def test_events_are_matched_by_equality(rig: Rig) -> None:
    await rig.add("one", events=1)
    await rig.add("set", events=[frozenset({"a"})])
    await rig.add("all")
    for event, heard in [
        (1, ["one", "all"]),
        (1.0, ["one", "all"]),
        ({"a"}, ["set", "all"]),  # unhashable, and yet equal to a named event
        ({"b"}, ["all"]),
        ([], ["all"]),
        ("1", ["all"]),
    ]:
        await rig.call(event, None)
        assert rig.drain() == heard
        await rig.call_report(event, None)
        assert rig.drain() == heard
