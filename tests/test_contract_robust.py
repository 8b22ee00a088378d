"""D10: a robust call rolls back exactly those that had agreed, whatever ended its first pass."""

from __future__ import annotations

import errno
from typing import Any

import anyio
import pytest

from tocsin import (
    NOTIFY_BAD,
    NOTIFY_DONE,
    NOTIFY_OK,
    NOTIFY_STOP,
    RollbackError,
    SrcuChain,
    VetoError,
    notifier_from_errno,
)

from .flavours import WAY_IDS, WAYS, NoNoteError, Rig

pytestmark = pytest.mark.anyio
every_way = pytest.mark.parametrize(("flavour", "colour", "walk"), WAYS, ids=WAY_IDS)
ASYNC_WAYS = [(way, name) for way, name in zip(WAYS, WAY_IDS, strict=True) if way[1] == "async"]
every_async_way = pytest.mark.parametrize(
    ("flavour", "colour", "walk"),
    [way for way, _ in ASYNC_WAYS],
    ids=[name for _, name in ASYNC_WAYS],
)
UP, DOWN = "up", "down"
BUSY = notifier_from_errno(-errno.EBUSY)


@pytest.fixture
def policy() -> str:
    return "raise"


@pytest.fixture
def rig(flavour: Any, colour: str, walk: str, policy: str) -> Rig:
    return Rig(flavour, colour=colour, walk=walk, errors=policy)


async def agree(rig: Rig, name: str, down: Any = None, **options: Any) -> Any:
    """Add a block that agrees on the way up and does ``down`` on the way down."""

    def act(event: Any, data: Any) -> Any:
        rig.log[-1] = f"{name}:{event}"
        if event == UP:
            return NOTIFY_OK
        if isinstance(down, BaseException):
            raise down
        return down(event, data) if callable(down) else down

    return await rig.add(name, act, **options)


@every_way
@pytest.mark.parametrize(
    "result", [NOTIFY_STOP, NOTIFY_BAD, BUSY, -16, VetoError(errno.EBUSY, "no")]
)
async def test_d10_those_ahead_of_the_stopping_block_hear_the_rollback(
    rig: Rig, result: Any
) -> None:
    first, second = await agree(rig, "a"), await agree(rig, "b")
    stopper = await rig.add("stopper", result)
    await agree(rig, "behind")
    report = await rig.call_robust_report(UP, DOWN, None)
    assert rig.drain() == ["a:up", "b:up", "stopper", "a:down", "b:down"]
    assert report.rolled_back == (first, second)
    assert report.stopped_by is stopper
    expected = BUSY if isinstance(result, VetoError) else result
    assert report.result == expected
    assert await rig.call_robust(UP, DOWN, None) == expected
    with pytest.raises(VetoError):
        report.raise_for_veto()


@every_way
async def test_d10_reverse_rolls_back_last_first(rig: Rig) -> None:
    for name in "abc":
        await agree(rig, name)
    await rig.add("stopper", NOTIFY_BAD)
    await rig.call_robust(UP, DOWN, None, reverse=True)
    assert rig.drain() == ["a:up", "b:up", "c:up", "stopper", "c:down", "b:down", "a:down"]


@every_way
async def test_d10_nothing_is_rolled_back_without_a_stop_or_behind_the_first_block(
    rig: Rig,
) -> None:
    assert await rig.call_robust(UP, DOWN, None) == NOTIFY_DONE
    block = await agree(rig, "a")
    report = await rig.call_robust_report(UP, DOWN, None)
    assert (report.result, report.rolled_back, rig.drain()) == (NOTIFY_OK, (), ["a:up"])
    await rig.unregister(block)
    await rig.add("stopper", NOTIFY_BAD)
    await agree(rig, "b")
    report = await rig.call_robust_report(UP, DOWN, None)
    assert (report.result, report.rolled_back, rig.drain()) == (NOTIFY_BAD, (), ["stopper"])


@every_way
@pytest.mark.parametrize("down", [NOTIFY_BAD, VetoError(errno.EPERM)])
async def test_d10_a_stop_bit_ends_the_rollback(rig: Rig, down: Any) -> None:
    await agree(rig, "a")
    await agree(rig, "b", down)
    await agree(rig, "c")
    await rig.add("stopper", NOTIFY_STOP)
    assert await rig.call_robust(UP, DOWN, None) == NOTIFY_STOP
    assert rig.drain() == ["a:up", "b:up", "c:up", "stopper", "a:down", "b:down"]


@every_way
async def test_d10_an_exception_ends_the_first_pass_and_is_raised_after_the_rollback(
    rig: Rig,
) -> None:
    await agree(rig, "a")
    await agree(rig, "b")
    await rig.add("culprit", ValueError("boom"))
    with pytest.raises(ValueError, match="boom") as caught:
        await rig.call_robust(UP, DOWN, None)
    assert rig.drain() == ["a:up", "b:up", "culprit", "a:down", "b:down"]
    assert "'culprit'" in caught.value.__notes__[0]


@every_way
async def test_d10_under_raise_the_rollbacks_failures_are_notes(rig: Rig) -> None:
    await agree(rig, "a", KeyError("secret"))
    await agree(rig, "b")
    await rig.add("culprit", ValueError("boom"))
    with pytest.raises(ValueError, match="boom") as caught:
        await rig.call_robust(UP, DOWN, None)
    assert rig.drain()[-2:] == ["a:down", "b:down"]
    assert any("KeyError" in note and "'a'" in note for note in caught.value.__notes__)
    assert not any("secret" in note for note in caught.value.__notes__)


@every_way
@pytest.mark.parametrize("policy", ["collect"])
async def test_d10_under_collect_all_failures_are_in_a_group(rig: Rig) -> None:
    await agree(rig, "a", KeyError("a"))
    await rig.add("culprit", ValueError("boom"))
    await agree(rig, "behind")
    with pytest.raises(ExceptionGroup) as caught:
        await rig.call_robust(UP, DOWN, None)
    assert [type(one) for one in caught.value.exceptions] == [ValueError, KeyError]
    assert rig.drain() == ["a:up", "culprit", "a:down"]


@every_way
@pytest.mark.parametrize("policy", ["isolate"])
async def test_d10_under_isolate_all_failures_are_logged_and_the_result_is_bad(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    a = await agree(rig, "a", KeyError("a"))
    b = await agree(rig, "b")
    culprit = await rig.add("culprit", ValueError("boom"))
    report = await rig.call_robust_report(UP, DOWN, None)
    assert (report.result, report.stopped_by, report.rolled_back) == (NOTIFY_BAD, culprit, (a, b))
    assert "'culprit'" in caplog.text
    assert "KeyError" in caplog.text


@every_way
@pytest.mark.parametrize("policy", ["raise", "collect", "isolate"])
async def test_d10_after_a_mere_stop_failures_of_the_rollback_are_a_group_with_the_result(
    rig: Rig,
) -> None:
    await agree(rig, "a", KeyError("a"))
    await agree(rig, "b", "no result")
    await agree(rig, "c")
    await rig.add("stopper", BUSY)
    with pytest.raises(RollbackError) as caught:
        await rig.call_robust(UP, DOWN, None)
    assert caught.value.result == BUSY
    assert [type(one).__name__ for one in caught.value.exceptions] == [
        "KeyError",
        "InvalidResultError",
    ]
    assert rig.drain()[-3:] == ["a:down", "b:down", "c:down"]
    part, rest = caught.value.split(KeyError)
    assert isinstance(part, RollbackError)
    assert part.result == BUSY
    assert rest is not None


@every_way
@pytest.mark.parametrize("policy", ["raise", "collect", "isolate"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_d10_other_base_exceptions_roll_back_and_pass(
    rig: Rig, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    await agree(rig, "a", KeyError("a"))
    await agree(rig, "b")
    await rig.add("culprit", error())
    with pytest.raises(error):
        await rig.call_robust(UP, DOWN, None)
    assert rig.drain() == ["a:up", "b:up", "culprit", "a:down", "b:down"]
    assert "KeyError" in caplog.text


@every_way
async def test_d10_a_base_exception_in_the_rollback_passes_at_once(rig: Rig) -> None:
    await agree(rig, "a", KeyboardInterrupt())
    await agree(rig, "b")
    await rig.add("stopper", NOTIFY_BAD)
    with pytest.raises(KeyboardInterrupt):
        await rig.call_robust(UP, DOWN, None)
    assert rig.drain()[-1] == "a:down"
    assert rig.chain.statistics().walks_running == 0


@every_way
async def test_d10_a_closed_coroutine_gets_no_rollback(rig: Rig) -> None:
    await agree(rig, "a")
    await rig.add("closed", GeneratorExit())
    with pytest.raises(GeneratorExit):
        await rig.call_robust(UP, DOWN, None)
    assert rig.drain() == ["a:up", "closed"]


@every_way
async def test_d10_a_block_gone_since_does_not_hear_the_rollback(rig: Rig) -> None:
    await agree(rig, "a")
    gone = await agree(rig, "gone")
    await agree(rig, "c")

    def leave_and_stop(event: Any, data: Any) -> int:
        rig.chain.unregister_nosync(gone)
        return NOTIFY_BAD

    await rig.add("stopper", leave_and_stop)
    report = await rig.call_robust_report(UP, DOWN, None)
    assert rig.drain() == ["a:up", "gone:up", "c:up", "stopper", "a:down", "c:down"]
    assert [block.name for block in report.rolled_back] == ["a", "c"]


@every_way
async def test_d10_a_block_that_leaves_while_failing_does_not_shift_the_rollback(rig: Rig) -> None:
    """The kernel, which counts, would call the failing block here and miss another."""
    first = await agree(rig, "first")
    await agree(rig, "second")

    def fail(event: Any, data: Any) -> int:
        rig.chain.unregister_nosync(first)
        return NOTIFY_BAD

    await rig.add("failing", fail)
    await rig.call_robust(UP, DOWN, None)
    assert rig.drain() == ["first:up", "second:up", "failing", "second:down"]


@every_way
async def test_d10_a_spent_block_does_not_hear_the_rollback(rig: Rig) -> None:
    await agree(rig, "once", once=True)
    await agree(rig, "b")
    await rig.add("stopper", NOTIFY_BAD)
    await rig.call_robust(UP, DOWN, None)
    assert rig.drain() == ["once:up", "b:up", "stopper", "b:down"]


@every_way
async def test_d10_a_block_that_does_not_listen_to_the_rollback_event_does_not_hear_it(
    rig: Rig,
) -> None:
    await agree(rig, "up_only", events=UP)
    await agree(rig, "both", events=[UP, DOWN])
    await agree(rig, "down_only", events=DOWN)
    await agree(rig, "all")
    await rig.add("stopper", NOTIFY_BAD)
    await rig.call_robust(UP, DOWN, None)
    assert rig.drain() == ["up_only:up", "both:up", "all:up", "stopper", "both:down", "all:down"]


@every_way
async def test_d10_a_block_removed_in_the_rollback_does_not_hear_it(rig: Rig) -> None:
    blocks: dict[str, Any] = {}
    await agree(rig, "a", lambda event, data: rig.chain.unregister_nosync(blocks["b"]))
    blocks["b"] = await agree(rig, "b")
    await agree(rig, "c")
    await rig.add("stopper", NOTIFY_BAD)
    await rig.call_robust(UP, DOWN, None)
    assert rig.drain()[-2:] == ["a:down", "c:down"]


@every_way
async def test_d10_one_event_may_serve_both_ways(rig: Rig) -> None:
    await rig.add("a", NOTIFY_OK)
    await rig.add("stopper", NOTIFY_BAD)
    await rig.call_robust(UP, UP, None)
    assert rig.drain() == ["a", "stopper", "a"]


@every_async_way
async def test_d10_cancellation_rolls_back_shielded_and_passes(rig: Rig) -> None:
    async def slow_down(event: Any, data: Any) -> None:
        await anyio.lowlevel.checkpoint()
        rig.log.append("undone")

    await agree(rig, "a", slow_down)
    await agree(rig, "b", slow_down)
    running = anyio.Event()

    async def hang(event: Any, data: Any) -> None:
        running.set()
        await anyio.sleep_forever()

    await rig.add("hanging", hang)
    async with anyio.create_task_group() as group:
        group.start_soon(rig.call_robust, UP, DOWN, None)
        await running.wait()
        group.cancel_scope.cancel()
    assert rig.drain() == ["a:up", "b:up", "hanging", "a:down", "undone", "b:down", "undone"]
    assert rig.chain.statistics().walks_running == 0


@every_async_way
async def test_d10_a_timeout_holds_in_the_rollback_too(rig: Rig) -> None:
    await agree(rig, "a", lambda event, data: anyio.sleep_forever(), timeout=0.01)
    await agree(rig, "b")
    await rig.add("stopper", NOTIFY_BAD)
    with pytest.raises(RollbackError) as caught:
        await rig.call_robust(UP, DOWN, None)
    assert [type(one) for one in caught.value.exceptions] == [TimeoutError]
    assert rig.drain()[-1] == "b:down"


def test_d10_without_an_event_loop_the_rollback_is_driven_as_well() -> None:
    """A coroutine driven by hand: nothing in it suspends."""
    rig = Rig(SrcuChain, colour="async")
    rig.chain.register_nowait(rig.callback("a"))
    rig.chain.register_nowait(rig.callback("stopper", NOTIFY_BAD))
    with pytest.raises(StopIteration) as ended:
        rig.chain.call_robust(UP, DOWN, None).send(None)
    assert ended.value.value == NOTIFY_BAD
    assert rig.drain() == ["a", "stopper", "a"]


@every_way
@pytest.mark.parametrize("policy", ["raise", "collect", "isolate"])
async def test_d10_an_exception_that_takes_no_note_is_rolled_back_as_any_other(
    rig: Rig, policy: str
) -> None:
    failed, failed_too = NoNoteError(1), NoNoteError(2)
    await agree(rig, "first", failed_too)
    await agree(rig, "second")
    await rig.add("bad", failed)
    if policy == "isolate":
        assert await rig.call_robust(UP, DOWN, None) == NOTIFY_BAD
    elif policy == "collect":
        with pytest.raises(ExceptionGroup) as group:
            await rig.call_robust(UP, DOWN, None)
        assert group.value.exceptions == (failed, failed_too)
    else:
        with pytest.raises(NoNoteError) as alone:
            await rig.call_robust(UP, DOWN, None)
        assert alone.value is failed
    assert rig.drain() == ["first:up", "second:up", "bad", "first:down", "second:down"]


@every_way
async def test_d10_a_veto_in_the_rollback_is_no_failure_whatever_it_says_it_equals(
    rig: Rig,
) -> None:
    class AgreeableError(VetoError):
        __hash__ = VetoError.__hash__

        def __eq__(self, other: object) -> bool:
            return True

    await agree(rig, "fails", ValueError())
    await agree(rig, "vetoes", AgreeableError(errno.EBUSY))
    await rig.add("culprit", KeyError("culprit"))
    with pytest.raises(KeyError) as caught:
        await rig.call_robust(UP, DOWN, None)
    notes = [one for one in caught.value.__notes__ if one.startswith("in the rollback")]
    assert [note.split()[3] for note in notes] == ["ValueError"]
