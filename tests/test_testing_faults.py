"""`inject_errors`: callbacks fail where a test wants them to, and nothing else changes."""

from __future__ import annotations

import errno
import math
import signal
import sys
import threading
from asyncio import CancelledError, current_task
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from anyio.from_thread import start_blocking_portal
from structlog.testing import capture_logs

from tocsin import (
    NOTIFY_BAD,
    NOTIFY_DONE,
    NOTIFY_OK,
    AtomicChain,
    BlockingChain,
    InvalidTypeError,
    InvalidValueError,
    NotifierBlock,
    NotRegisteredError,
    RawChain,
    RegistrationVetoedError,
    SrcuChain,
    VetoError,
    notifier_from_errno,
)
from tocsin.testing import Cancel, Delay, inject_errors

from .flavours import (
    ASYNC,
    FLAVOURS,
    SYNC,
    WAY_IDS,
    WAYS,
    Held,
    Rig,
    blocked_loop,
    maybe_await,
)

if TYPE_CHECKING:
    from tocsin.testing import Outcome

pytestmark = pytest.mark.anyio
BUSY = notifier_from_errno(-errno.EBUSY)


class BoomError(Exception):
    pass


class PickyError(Exception):
    def __init__(self, what: object) -> None:
        super().__init__(what)


@pytest.fixture(params=WAYS, ids=WAY_IDS)
def rig(request: pytest.FixtureRequest) -> Rig:
    flavour, colour, walk = request.param
    return Rig(flavour, colour=colour, walk=walk)


# What happens.


async def test_an_errno_is_the_result_in_the_place_of_the_callback(rig: Rig) -> None:
    block = await rig.add("a")
    with inject_errors(rig.chain, {"event": -errno.EBUSY}) as faults:
        report = await rig.call_report("event", None)
        assert (report.result, report.stopped_by) == (BUSY, block)
        with pytest.raises(VetoError, match=r"'a' with STOP \(EBUSY\)"):
            report.raise_for_veto()
    assert (rig.log, faults.injected) == ([], 1)
    assert await rig.call("event", None) == NOTIFY_DONE
    assert (rig.log, faults.injected) == (["a"], 1)


async def test_other_events_are_not_concerned(rig: Rig) -> None:
    await rig.add("a")
    with inject_errors(rig.chain, {"event": -errno.EBUSY, "none": 0}) as faults:
        for event in ("other", "none", ["unhashable"]):
            assert await rig.call(event, None) == NOTIFY_DONE
    assert (rig.log, faults.injected) == (["a", "a", "a"], 0)


async def test_an_event_is_found_by_equality(rig: Rig) -> None:
    await rig.add("a")
    with inject_errors(rig.chain, {("a", 1): -errno.EBUSY, 2: -errno.EIO}):
        assert await rig.call(("a", True), None) == BUSY
        assert await rig.call(2.0, None) == notifier_from_errno(-errno.EIO)


@pytest.mark.parametrize("failure", [BoomError, BoomError("once more"), KeyboardInterrupt])
async def test_an_exception_is_raised_by_the_block(rig: Rig, failure: Any) -> None:
    await rig.add("a")
    await rig.add("b", priority=-1)
    kind = failure if isinstance(failure, type) else type(failure)
    with inject_errors(rig.chain, {"event": failure}, block=rig.chain.blocks[1]) as faults:
        for _ in range(3):
            with pytest.raises(kind) as caught:
                await rig.call("event", None)
            if kind is BoomError:
                [note] = caught.value.__notes__
                assert "block 'b'" in note
                assert "position 2 of 2" in note
    assert (rig.log, faults.injected) == (["a"] * 3, 3)


async def test_an_instance_that_is_raised_again_does_not_grow(rig: Rig) -> None:
    await rig.add("a")
    failure, lengths = BoomError(), set()
    with inject_errors(rig.chain, {"event": failure}):
        for _ in range(3):
            with pytest.raises(BoomError):
                await rig.call("event", None)
            trace, length = failure.__traceback__, 0
            while trace is not None:
                trace, length = trace.tb_next, length + 1
            lengths.add(length)
    assert len(lengths) == 1


async def test_a_veto_with_words_can_be_injected(rig: Rig) -> None:
    await rig.add("a")
    with inject_errors(rig.chain, {"event": VetoError(errno.EBUSY, "not now")}):
        report = await rig.call_report("event", None)
    with pytest.raises(VetoError, match="not now"):
        report.raise_for_veto()


async def test_a_delayed_callback_begins_later(rig: Rig) -> None:
    await rig.add("a", NOTIFY_OK)
    with inject_errors(rig.chain, {"event": Delay(0.01)}) as faults:
        report = await rig.call_report("event", None)
    assert (report.result, rig.log, faults.injected) == (NOTIFY_OK, ["a"], 1)
    assert report.calls[0].duration >= 0.009


async def test_a_delay_uses_up_the_timeout_of_its_block() -> None:
    rig = Rig(SrcuChain, colour="async")
    await rig.add("a", timeout=0.01)
    with inject_errors(rig.chain, {"event": Delay(60)}), pytest.raises(TimeoutError):
        await rig.call("event", None)
    assert rig.log == []


@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_block_of_a_worker_thread_fails_there(flavour: type[Any]) -> None:
    rig, threads = Rig(flavour), []

    class HereError(Exception):
        def __init__(self) -> None:
            threads.append(threading.get_ident())

    await rig.add("a", thread=True)
    with inject_errors(rig.chain, {"event": HereError}):
        with pytest.raises(HereError):
            await rig.call("event", None)
        with inject_errors(rig.chain, {"event": Delay(0.001)}, times=1) as delay:
            with pytest.raises(HereError):  # behind the delay
                await rig.call("event", None)
    *_, last = threads
    assert last != threading.get_ident()
    assert delay.injected == 1
    await rig.call("event", None)
    assert rig.log == ["a"]


@pytest.mark.parametrize("flavour", [*ASYNC, RawChain])
async def test_a_cancellation_comes_from_the_scope_around_the_call(flavour: type[Any]) -> None:
    rig = Rig(flavour, colour="async", walk="acall" if flavour is RawChain else "call")
    for name in "abc":
        await rig.add(name)
    block = rig.chain.blocks[1]
    with anyio.CancelScope() as outer:
        with anyio.CancelScope() as scope:
            with inject_errors(rig.chain, {"up": Cancel(scope)}, block=block) as faults:
                await rig.call_robust("up", "down", None)
        assert scope.cancelled_caught
    assert not outer.cancel_called
    assert (rig.log, faults.injected) == (["a", "a"], 1)  # heard, and was rolled back


async def test_a_cancellation_that_does_not_reach_the_callback_lets_it_go_on() -> None:
    rig = Rig(SrcuChain, colour="async")
    await rig.add("a")
    with anyio.CancelScope() as elsewhere:
        pass
    with inject_errors(rig.chain, {"event": Cancel(elsewhere)}):
        assert await rig.call("event", None) == NOTIFY_DONE
    assert elsewhere.cancel_called
    assert rig.log == ["a"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio cancels nothing but scopes
async def test_a_native_task_can_be_what_is_cancelled() -> None:
    rig = Rig(SrcuChain, colour="async")
    await rig.add("a")
    task = current_task()
    assert task is not None
    with inject_errors(rig.chain, {"event": Cancel(task)}), pytest.raises(CancelledError):
        await rig.call("event", None)
    task.uncancel()
    assert rig.log == []


async def test_sync_callbacks_of_a_mixed_chain_are_passed_by_when_a_call_is_cancelled() -> None:
    chain, log = SrcuChain[str, Any]("chain"), []

    async def slow(event: str, data: object) -> None:
        log.append("slow")

    await chain.register(lambda event, data: log.append("quick"), priority=1, name="quick")
    await chain.register(slow)
    with anyio.CancelScope() as scope:
        with inject_errors(chain, {"event": Cancel(scope)}, times=1) as faults:
            await chain.call("event", None)
    assert scope.cancelled_caught
    assert (log, faults.injected) == (["quick"], 1)


@pytest.mark.parametrize(("policy", "result"), [("isolate", NOTIFY_DONE), ("collect", None)])
async def test_what_is_raised_meets_the_policy_of_the_chain(
    policy: str, result: int | None
) -> None:
    for flavour in FLAVOURS:
        rig = Rig(flavour, errors=policy)
        await rig.add("a")
        with capture_logs(), inject_errors(rig.chain, {"event": BoomError}):
            if result is None:
                with pytest.raises(ExceptionGroup) as caught:
                    await rig.call("event", None)
                assert caught.group_contains(BoomError)
            else:
                assert await rig.call("event", None) == result


async def test_a_rollback_can_fail_too(rig: Rig) -> None:
    failing = await rig.add("a")
    await rig.add("b", BUSY)
    with inject_errors(rig.chain, {"down": BoomError}, block=failing):
        with pytest.raises(ExceptionGroup) as caught:
            await rig.call_robust("up", "down", None)
    assert caught.group_contains(BoomError)
    assert rig.log == ["a", "b"]


@pytest.mark.parametrize("flavour", ASYNC)
async def test_one_block_of_a_band_can_fail(flavour: type[Any]) -> None:
    rig = Rig(flavour, colour="async")
    for name in "abc":
        await rig.add(name)
    with inject_errors(rig.chain, {"event": -errno.EBUSY}, block=rig.chain.blocks[1]):
        assert await rig.call_concurrent("event", None) == BUSY
    assert sorted(rig.log) == ["a", "c"]


# Whose callback, and how often.


class Array:
    """An event that gives no plain answer when it is compared."""

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")

    __hash__ = object.__hash__


async def test_an_event_is_told_from_others_by_identity_if_it_must(rig: Rig) -> None:
    array, nan = Array(), float("nan")
    await rig.add("a", lambda event, data: NOTIFY_OK)
    with inject_errors(rig.chain, {array: -errno.EBUSY}), inject_errors(rig.chain, {nan: -5}):
        assert await rig.call(array, None) == BUSY
        assert await rig.call(Array(), None) == NOTIFY_OK
        assert await rig.call(nan, None) == notifier_from_errno(-5)


async def test_only_the_chosen_block_fails(rig: Rig) -> None:
    for name in "abc":
        await rig.add(name)
    for place, block in enumerate(rig.chain.blocks):
        rig.log.clear()
        with inject_errors(rig.chain, {"up": -errno.EBUSY}, block=block):
            report = await rig.call_robust_report("up", "down", None)
        before = rig.chain.blocks[:place]
        assert (report.stopped_by, report.rolled_back) == (block, before)
        assert rig.log == [one.name for one in before] * 2


async def test_with_no_block_chosen_it_is_the_first_to_hear_the_event_who_fails(rig: Rig) -> None:
    await rig.add("deaf", events="other")
    block = await rig.add("b")
    await rig.add("c")
    with inject_errors(rig.chain, {"event": -errno.EBUSY}):
        assert (await rig.call_report("event", None)).stopped_by is block


async def test_a_block_that_comes_later_fails_as_well(rig: Rig) -> None:
    with inject_errors(rig.chain, {"event": -errno.EBUSY}) as faults:
        assert await rig.call("event", None) == NOTIFY_DONE
        block = await rig.add("late")
        assert (await rig.call_report("event", None)).stopped_by is block
    assert faults.injected == 1
    assert await rig.call("event", None) == NOTIFY_DONE
    assert rig.log == ["late"]


async def test_a_chosen_block_fails_again_when_it_has_left_and_come_back(rig: Rig) -> None:
    block = await rig.add("a")
    with inject_errors(rig.chain, {"event": -errno.EBUSY}, block=block) as faults:
        await rig.unregister(block)
        assert await rig.call("event", None) == NOTIFY_DONE
        await rig.register(block)
        assert await rig.call("event", None) == BUSY
        await rig.unregister(block)
    await rig.register(block)
    assert await rig.call("event", None) == NOTIFY_DONE
    assert (rig.log, faults.injected) == (["a"], 1)


async def test_a_parked_block_fails_once_it_is_admitted(rig: Rig) -> None:
    block = await rig.add("a")
    with rig.chain.only():
        muted = inject_errors(rig.chain, {"event": -errno.EBUSY}, block=block)
        with muted as faults:
            assert await rig.call("event", None) == NOTIFY_DONE
            assert faults.injected == 0
            await rig.set_filter(None)
    with inject_errors(rig.chain, {"event": -errno.EBUSY}, block=block):
        with rig.chain.only():
            assert await rig.call("event", None) == NOTIFY_DONE
        assert await rig.call("event", None) == BUSY
    assert rig.log == []
    assert await rig.call("event", None) == NOTIFY_DONE
    assert rig.log == ["a"]


async def test_each_event_fails_so_many_times(rig: Rig) -> None:
    await rig.add("a")
    with inject_errors(rig.chain, {"x": -errno.EBUSY, "y": -errno.EBUSY}, times=2) as faults:
        results = [await rig.call(event, None) for event in "xxxyyy"]
    assert results == [BUSY, BUSY, NOTIFY_DONE] * 2
    assert faults.injected == 4
    assert repr(faults) == "<Injection 4 injected>"


async def test_a_block_with_once_is_spent_by_its_failure(rig: Rig) -> None:
    block = await rig.add("a", once=True)
    with inject_errors(rig.chain, {"event": -errno.EBUSY}, block=block):
        assert await rig.call("event", None) == BUSY
    assert block.chain is None
    await rig.call("event", None)
    assert rig.log == []


async def test_a_block_with_once_still_runs_but_once_after_injections(rig: Rig) -> None:
    await rig.add("a", once=True)
    with inject_errors(rig.chain, {"other": -errno.EBUSY}):
        pass
    for _ in range(2):
        await rig.call("event", None)
    assert rig.log == ["a"]


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_a_block_that_is_the_state_fails_like_any_other(flavour: type[Any]) -> None:
    class Counter(NotifierBlock[Any, Any, None]):
        __slots__ = ("count",)

        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def notifier_call(self, event: Any, data: Any) -> None:
            self.count += 1

    rig, counter = Rig(flavour), Counter()
    await rig.register(counter)
    with inject_errors(rig.chain, {"event": -errno.EBUSY}):
        assert await rig.call("event", None) == BUSY
    assert counter._nb_slot is None  # it does not hold itself
    await rig.call("event", None)
    assert counter.count == 1


@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_callback_that_only_says_it_is_async_fails_and_goes_on(flavour: type[Any]) -> None:
    rig = Rig(flavour, colour="async")

    def late(event: Any, data: Any) -> Any:
        return rig.callback("late")(event, data)

    await rig.register(late, is_async=True)
    with inject_errors(rig.chain, {"event": -errno.EBUSY}, times=1):
        assert [await rig.call("event", None) for _ in range(2)] == [BUSY, NOTIFY_DONE]
    assert rig.log == ["late"]


async def test_the_same_callback_in_two_blocks_fails_in_one_of_them(rig: Rig) -> None:
    callback = rig.callback("a")
    for _ in range(2):
        await rig.register(callback)
    first, second = rig.chain.blocks
    with inject_errors(rig.chain, {"event": -errno.EBUSY}, block=second):
        report = await rig.call_report("event", None)
    assert [call.block for call in report.calls] == [first, second]
    assert report.stopped_by is second


async def test_a_newcomer_can_fail_at_the_replay_and_is_not_registered() -> None:
    for flavour in FLAVOURS:
        rig = Rig(flavour, replay=lambda: [("added", None)])
        with inject_errors(rig.chain, {"added": -errno.ENODEV}) as faults:
            with pytest.raises(RegistrationVetoedError):
                await rig.add("a")
        assert (len(rig.chain), faults.injected) == (0, 1)


# When.


@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_walk_that_has_begun_is_not_concerned(flavour: type[Any]) -> None:
    chain, held, results = flavour("chain"), Held(), list[int]()
    await chain.register(held)
    await chain.register(lambda event, data: NOTIFY_OK, priority=-1)

    async def call() -> None:
        results.append(await chain.call("event", None))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await held.entered.wait()
        with inject_errors(chain, {"event": -errno.EBUSY}) as faults:
            held.release.set()
            await anyio.wait_all_tasks_blocked()
    assert (results, faults.injected) == ([NOTIFY_OK], 0)


@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_walk_that_began_inside_meets_nothing_once_it_is_left(flavour: type[Any]) -> None:
    chain, held, results = flavour("chain"), Held(), list[int]()
    await chain.register(held)
    last = await chain.register(lambda event, data: NOTIFY_OK, priority=-1)

    async def call() -> None:
        results.append(await chain.call("event", None))

    async with anyio.create_task_group() as tasks:
        with inject_errors(chain, {"event": -errno.EBUSY}, block=last) as faults:
            tasks.start_soon(call)
            await held.entered.wait()
        held.release.set()
    assert (results, faults.injected) == ([NOTIFY_OK], 0)


async def test_d3_one_that_is_taken_off_in_mid_walk_does_not_fail_either(rig: Rig) -> None:
    last = await rig.add("b", priority=-1)
    await rig.add("a", lambda event, data: rig.chain.unregister_nosync(last))
    with inject_errors(rig.chain, {"event": -errno.EBUSY}, block=last) as faults:
        assert await rig.call("event", None) == NOTIFY_DONE
    assert faults.injected == 0


async def test_injections_may_be_nested_and_the_inner_one_strikes(rig: Rig) -> None:
    await rig.add("a")
    with inject_errors(rig.chain, {"event": -errno.EBUSY}) as outer:
        with inject_errors(rig.chain, {"event": -errno.EIO}, times=1) as inner:
            with inject_errors(rig.chain, {"event": Delay(0)}) as delay:
                first = await rig.call("event", None)
                assert first == notifier_from_errno(-errno.EIO)
                assert await rig.call("event", None) == BUSY
    assert (outer.injected, inner.injected, delay.injected) == (1, 1, 2)
    assert rig.log == []


async def test_injections_may_be_left_in_any_order(rig: Rig) -> None:
    await rig.add("a")
    first = inject_errors(rig.chain, {"event": -errno.EBUSY})
    second = inject_errors(rig.chain, {"event": -errno.EIO})
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert await rig.call("event", None) == notifier_from_errno(-errno.EIO)
    second.__exit__(None, None, None)
    assert await rig.call("event", None) == NOTIFY_DONE


def test_a_function_that_is_decorated_fails_anew_each_time() -> None:
    chain = AtomicChain[str]("chain")
    chain.register(lambda event, data: NOTIFY_OK)

    @inject_errors(chain, {"event": -errno.EBUSY}, times=1)  # type: ignore[operator]
    def call_twice() -> list[int]:
        return [chain.call("event") for _ in range(2)]

    for _ in range(2):
        assert call_twice() == [BUSY, NOTIFY_OK]
    assert chain.call("event") == NOTIFY_OK


async def test_leaving_by_an_exception_ends_it(rig: Rig) -> None:
    await rig.add("a")
    with pytest.raises(BoomError):
        with inject_errors(rig.chain, {"event": BoomError}):
            await rig.call("event", None)
    assert await rig.call("event", None) == NOTIFY_DONE


async def test_it_may_be_entered_and_left_inside_a_callback(rig: Rig) -> None:
    inside = inject_errors(rig.chain, {"event": -errno.EBUSY})

    def begin(event: Any, data: Any) -> None:
        inside.__enter__()

    await rig.add("a", begin, events="begin")
    await rig.add("b", lambda event, data: inside.__exit__(None, None, None), events="end")
    await rig.add("c")
    results = [await rig.call(event, None) for event in ("begin", "event", "end", "event")]
    assert results == [NOTIFY_DONE, BUSY, NOTIFY_DONE, NOTIFY_DONE]


async def test_afterwards_a_walk_calls_the_callbacks_themselves(rig: Rig) -> None:
    callback = rig.callback("a")
    block = await rig.register(callback)
    await rig.call("event", None)
    with inject_errors(rig.chain, {"event": -errno.EBUSY}):
        await rig.call("event", None)
    await rig.call("event", None)
    assert block._nb_slot is callback
    assert [*rig.chain._items] == [callback]
    assert block.callback is callback


# Threads and signals.


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_sync_test_can_inject_into_a_chain_of_another_thread(
    flavour: type[Any], anyio_backend_name: str
) -> None:
    chain = flavour("chain")

    async def call() -> Any:
        return await maybe_await(chain.call("event", None))

    chain.register_nowait(lambda event, data: NOTIFY_OK)
    with start_blocking_portal(anyio_backend_name) as portal:
        for _ in range(2):  # the chain has a loop in the second round
            with inject_errors(chain, {"event": -errno.EBUSY}, times=1) as faults:
                assert [portal.call(call) for _ in range(2)] == [BUSY, NOTIFY_OK]
            assert faults.injected == 1
            assert portal.call(call) == NOTIFY_OK


@pytest.mark.parametrize("has_begun", [False, True])
def test_nothing_fails_after_an_entering_that_was_interrupted(
    monkeypatch: pytest.MonkeyPatch, anyio_backend_name: str, has_begun: bool
) -> None:
    rig = Rig(SrcuChain)
    with start_blocking_portal(anyio_backend_name) as portal:
        with blocked_loop(portal, rig) as held, monkeypatch.context() as patch:

            def interrupted(made: Future[Any], timeout: float) -> Any:
                if has_begun:
                    held.release.set()
                    wait([made])
                raise KeyboardInterrupt

            patch.setattr(Future, "result", interrupted)
            with pytest.raises(KeyboardInterrupt):
                inject_errors(rig.chain, {"event": -errno.EBUSY}).__enter__()
        assert portal.call(rig.call, "event", None) == NOTIFY_DONE
    assert has_begun or rig.chain._table.wrappers == ()


@pytest.mark.parametrize("flavour", SYNC)
def test_a_number_of_times_holds_for_racing_threads(flavour: type[Any]) -> None:
    chain, results, barrier = flavour("chain"), list[int](), threading.Barrier(4)
    chain.register(lambda event, data: NOTIFY_OK)

    def call() -> None:
        barrier.wait(10)
        results.extend(chain.call("event", None) for _ in range(200))

    with inject_errors(chain, {"event": -errno.EBUSY}, times=100) as faults:
        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert results.count(BUSY) == faults.injected == 100
    assert len(results) == 800


def test_a_signal_handler_may_inject_and_call_in_the_middle_of_a_call() -> None:
    chain = AtomicChain[str, Any]("chain")
    chain.register(lambda event, data: signal.raise_signal(signal.SIGUSR1), events="outer")
    chain.register(lambda event, data: NOTIFY_OK, events="inner")
    results = []

    def handler(number: int, frame: object) -> None:
        with inject_errors(chain, {"inner": -errno.EBUSY}):
            results.append(chain.call("inner", None))

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with inject_errors(chain, {"outer": Delay(0)}) as faults:
            assert chain.call("outer", None) == NOTIFY_DONE
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (results, faults.injected) == ([BUSY], 1)


# What is given.


@pytest.mark.parametrize(
    ("given", "used"),
    [(-5000, -4095), (-4096, -4095), (-4095, -4095), (5, 0), (4294967284, 0), (-1, -1)],
)
async def test_an_errno_is_clamped_as_in_the_kernel_and_the_log_says_so(
    given: int, used: int
) -> None:
    chain = AtomicChain[str, Any]("chain")
    chain.register(lambda event, data: NOTIFY_OK)
    with capture_logs() as logs, inject_errors(chain, {"event": given}) as faults:
        assert chain.call("event", None) == notifier_from_errno(used)
    assert faults.injected == bool(used)
    told = [(entry["given"], entry["used"], entry["log_level"]) for entry in logs]
    assert told == ([] if given == used else [(str(given), used, "warning")])


def test_the_log_has_a_hint_for_an_errno_without_its_sign() -> None:
    chain = AtomicChain[str, Any]("chain")
    with capture_logs() as logs:
        for given in (errno.EBUSY, 4095, 4096, -4096):
            inject_errors(chain, {"event": given})
    hints = [entry["event"].partition("did you mean ")[2] for entry in logs]
    assert hints == ["-16?", "-4095?", "", ""]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("EBUSY", "takes an errno such as -errno.EBUSY, .* not str"),
        (None, "not NoneType"),
        (True, "not bool"),
        (-1.0, "not float"),
        (NOTIFY_BAD, "not NotifyResult"),
        (int, "not type"),
        (PickyError, "PickyError cannot be raised without arguments; give an instance"),
    ],
)
def test_what_is_no_outcome_is_refused(outcome: Any, said: str) -> None:
    with pytest.raises(InvalidTypeError, match=f"chain 'chain' at event event.*{said}"):
        inject_errors(SrcuChain("chain"), {"event": outcome})


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, 10**10, 10**400])
def test_a_delay_that_no_clock_can_count_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidValueError, match="a Delay"):
        Delay(seconds)


@pytest.mark.parametrize("scope", [None, anyio.CancelScope, object()])
def test_only_what_can_be_cancelled_can_be_cancelled(scope: Any) -> None:
    with pytest.raises(InvalidTypeError, match="takes the cancel scope that is around the call"):
        Cancel(scope)


def test_a_delay_needs_seconds() -> None:
    with pytest.raises(InvalidTypeError, match="a Delay must be seconds, not str"):
        Delay("1")  # type: ignore[arg-type]


@pytest.mark.parametrize("times", [0, -1, sys.maxsize + 1])
def test_a_number_of_times_below_1_is_refused(times: int) -> None:
    with pytest.raises(InvalidValueError, match="chain 'chain': times must be from 1 to"):
        inject_errors(SrcuChain("chain"), {}, times=times)


@pytest.mark.parametrize("times", [1.0, True, "1"])
def test_a_number_of_times_is_an_int(times: Any) -> None:
    with pytest.raises(InvalidTypeError, match="chain 'chain': times must be an int or None"):
        inject_errors(SrcuChain("chain"), {}, times=times)


def test_what_is_no_chain_no_mapping_and_no_block_is_refused() -> None:
    chain: Any = SrcuChain("chain")
    wrong: Any = "wrong"
    with pytest.raises(InvalidTypeError, match="takes a chain, not str"):
        inject_errors(wrong, {})
    with pytest.raises(InvalidTypeError, match=r"takes outcomes by event, .* not str"):
        inject_errors(chain, wrong)
    with pytest.raises(InvalidTypeError, match=r"the block that register gave you, .* not str"):
        inject_errors(chain, {}, block=wrong)


def test_a_block_that_is_not_on_the_chain_is_refused() -> None:
    chain, other = AtomicChain[str, Any]("chain"), AtomicChain[str, Any]("other")
    block = other.register(lambda event, data: None, name="stray")
    with pytest.raises(NotRegisteredError, match="'stray' is not on chain 'chain'; it is on 'oth"):
        inject_errors(chain, {"event": -1}, block=block)


async def test_a_block_that_has_gone_before_the_context_is_entered_is_refused(rig: Rig) -> None:
    block = await rig.add("a")
    faults = inject_errors(rig.chain, {"event": -1}, block=block)
    await rig.unregister(block)
    table = rig.chain._table
    with pytest.raises(NotRegisteredError, match="'a' is not on chain 'chain'"), faults:
        raise AssertionError
    assert rig.chain._table is table


async def test_a_cancellation_where_nothing_is_async_is_refused() -> None:
    chain = BlockingChain[str, Any]("mixed")
    block = await chain.register(lambda event, data: None, name="quick")
    outcomes: dict[str, Outcome] = {"event": Cancel(anyio.CancelScope())}
    with pytest.raises(InvalidValueError, match="can reach into block 'quick', which is sync"):
        inject_errors(chain, outcomes, block=block)
    with pytest.raises(InvalidValueError, match="can reach into a chain of sync callbacks"):
        inject_errors(AtomicChain("chain"), outcomes)


async def test_nothing_has_changed_when_something_was_refused(rig: Rig) -> None:
    await rig.add("a")
    table = rig.chain._table
    with pytest.raises(InvalidTypeError):
        inject_errors(rig.chain, {"event": -1, "other": "wrong"})  # type: ignore[dict-item]
    assert rig.chain._table is table
