"""`call_concurrent`: the blocks of one priority together, one priority after another."""

from __future__ import annotations

import errno
import gc
import weakref
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from tocsin import (
    NOTIFY_BAD,
    NOTIFY_DONE,
    NOTIFY_OK,
    NOTIFY_STOP,
    BlockingChain,
    InvalidResultError,
    Observer,
    VetoError,
    WouldDeadlockError,
    notifier_from_errno,
)

from .flavours import ASYNC, Held, NoNoteError

pytestmark = pytest.mark.anyio


@pytest.fixture(params=ASYNC)
def flavour(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def chain(flavour: Any) -> Any:
    return flavour("chain")


def gives(result: Any, log: list[Any] | None = None) -> Any:
    async def give(event: Any, data: Any) -> Any:
        if log is not None:
            log.append(data)
        await anyio.lowlevel.checkpoint()
        if isinstance(result, BaseException):
            raise result
        return result

    return give


async def test_blocks_of_one_priority_run_at_the_same_time(chain: Any) -> None:
    helds = [Held() for _ in range(3)]
    for held in helds:
        await chain.register(held, is_async=True)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call_concurrent, "up")
        with anyio.fail_after(30):
            for held in helds:
                await held.entered.wait()
        for held in helds:
            held.release.set()


async def test_a_priority_ends_before_the_next_one_begins(chain: Any) -> None:
    first, second, last = Held(), Held(), Held()
    for held, priority in ((last, 0), (first, 1), (second, 1)):
        await chain.register(held, is_async=True, priority=priority)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call_concurrent, "up")
        await first.entered.wait()
        await second.entered.wait()
        second.release.set()
        await anyio.wait_all_tasks_blocked()
        assert not last.entered.is_set()
        first.release.set()
        with anyio.fail_after(30):
            await last.entered.wait()
        last.release.set()


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], NOTIFY_DONE),
        ([NOTIFY_OK, None], NOTIFY_DONE),
        ([None, NOTIFY_OK], NOTIFY_OK),
        ([NOTIFY_STOP, NOTIFY_OK], NOTIFY_STOP),
        ([NOTIFY_OK, NOTIFY_BAD, NOTIFY_STOP], NOTIFY_BAD),
        ([NOTIFY_OK, VetoError(errno.EBUSY)], notifier_from_errno(-errno.EBUSY)),
    ],
)
@pytest.mark.parametrize("colour", ["sync", "async", "mixed"])
async def test_the_result_is_that_of_the_first_stop_in_chain_order_else_of_the_last(
    chain: Any, results: list[Any], expected: int, colour: str
) -> None:
    def sync(result: Any) -> Any:
        def give(event: Any, data: Any) -> Any:
            if isinstance(result, VetoError):
                raise result
            return result

        return give

    for number, result in enumerate(results):
        is_sync = colour == "sync" or (colour == "mixed" and number % 2)
        await chain.register((sync if is_sync else gives)(result))
    assert await chain.call_concurrent("up") == expected


async def test_the_result_does_not_depend_on_who_is_ready_first(chain: Any) -> None:
    slow = Held()

    async def slowly(event: Any, data: Any) -> int:
        await slow(event, data)
        return NOTIFY_BAD

    async def quickly(event: Any, data: Any) -> int:
        slow.release.set()
        return NOTIFY_STOP

    await chain.register(slowly)
    await chain.register(quickly)
    assert await chain.call_concurrent("up") == NOTIFY_BAD


async def test_a_stop_lets_its_band_end_and_keeps_the_next_from_beginning(chain: Any) -> None:
    log: list[Any] = []
    await chain.register(gives(NOTIFY_STOP, log), priority=1)
    await chain.register(gives(NOTIFY_OK, log), priority=1)
    await chain.register(gives(NOTIFY_OK, log), priority=0)
    assert await chain.call_concurrent("up", 1) == NOTIFY_STOP
    assert log == [1, 1]


async def test_sync_callbacks_run_inline_and_before_the_async_ones(chain: Any) -> None:
    log: list[str] = []
    task = anyio.get_current_task()

    def sync(event: Any, data: Any) -> None:
        assert anyio.get_current_task() == task
        log.append("sync")

    async def first(event: Any, data: Any) -> None:
        assert anyio.get_current_task() != task
        log.append("async")

    for callback in (first, sync, first, sync):
        await chain.register(callback)
    await chain.call_concurrent("up")
    assert log == ["sync", "sync", "async", "async"]


async def test_async_callbacks_begin_in_chain_order(chain: Any) -> None:
    log: list[int] = []

    def note(number: int) -> Any:
        async def callback(event: Any, data: Any) -> None:
            log.append(number)
            await anyio.lowlevel.checkpoint()

        return callback

    for number in range(20):
        await chain.register(note(number))
    for limit in (None, 1, 3):
        await chain.call_concurrent("up", limit=limit)
        assert log == list(range(20))
        log.clear()


variable: ContextVar[str] = ContextVar("variable")


async def test_each_async_callback_has_a_copy_of_the_context(chain: Any) -> None:
    seen: list[str] = []

    async def look(event: Any, data: Any) -> None:
        seen.append(variable.get())
        variable.set("changed")
        await anyio.lowlevel.checkpoint()

    variable.set("outer")
    for _ in range(3):
        await chain.register(look)
    await chain.call_concurrent("up", limit=1)
    assert seen == ["outer"] * 3
    assert variable.get() == "outer"


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_no_more_than_the_limit_run_at_once(chain: Any, limit: int) -> None:
    running = most = 0

    async def callback(event: Any, data: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        running -= 1

    for _ in range(7):
        await chain.register(callback)
    await chain.call_concurrent("up", limit=limit)
    assert most == limit


@pytest.mark.parametrize(
    ("limit", "error", "message"),
    [
        (0, ValueError, "chain 'chain': the limit of a concurrent call must be 1 or more, not 0"),
        (-1, ValueError, "must be 1 or more, not -1; None means no bound"),
        (True, TypeError, "must be an int or None, not bool"),
        ("2", TypeError, "must be an int or None, not str"),
    ],
)
async def test_a_limit_that_makes_no_sense_is_refused(
    chain: Any, limit: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await chain.call_concurrent("up", limit=limit)


# D9: the three policies.


async def test_d9_raise_lets_the_first_exception_cancel_the_band(chain: Any) -> None:
    held = Held()
    cancelled: list[str] = []

    async def wait(event: Any, data: Any) -> None:
        try:
            await held(event, data)
        except BaseException:
            cancelled.append("cancelled")
            raise

    async def fail(event: Any, data: Any) -> None:
        await held.entered.wait()
        raise ValueError("no")

    log: list[Any] = []
    await chain.register(wait, priority=1)
    await chain.register(fail, name="fail", priority=1)
    await chain.register(gives(None, log))
    with pytest.raises(ValueError, match="no") as caught:
        await chain.call_concurrent("up")
    assert caught.value.__notes__ == [
        "raised by block 'fail' of chain 'chain', priority 1, position 2 of 3"
    ]
    assert (cancelled, log) == (["cancelled"], [])
    assert chain.statistics().walks_running == 0


async def test_d9_raise_begins_nothing_async_after_a_sync_failure(chain: Any) -> None:
    def fail(event: Any, data: Any) -> None:
        raise ValueError("no")

    log: list[Any] = []
    await chain.register(gives(None, log))
    await chain.register(fail)
    with pytest.raises(ValueError, match="no"):
        await chain.call_concurrent("up")
    assert log == []


async def test_d9_what_is_raised_while_the_band_is_cancelled_is_noted(chain: Any) -> None:
    held = Held()

    async def trip(event: Any, data: Any) -> None:
        try:
            await held(event, data)
        finally:
            raise KeyError("tripped")

    async def fail(event: Any, data: Any) -> None:
        await held.entered.wait()
        raise ValueError("no")

    await chain.register(trip, name="trip")
    await chain.register(fail, name="fail")
    with pytest.raises(ValueError, match="no") as caught:
        await chain.call_concurrent("up")
    assert caught.value.__notes__[1] == (
        "while the band was cancelled, KeyError came; raised by block 'trip' of chain 'chain', "
        "priority 0, position 1 of 2"
    )


async def test_d9_who_has_not_begun_when_the_band_fails_is_not_entered(chain: Any) -> None:
    entered: list[str] = []

    async def fail(event: Any, data: Any) -> None:
        raise ValueError("no")

    async def note(event: Any, data: Any) -> None:
        entered.append(data)

    await chain.register(fail)
    await chain.register(note)
    with pytest.raises(ValueError, match="no"):
        await chain.call_concurrent("up", "data")
    assert entered == []


async def test_d9_a_failure_with_odd_attributes_spoils_no_other(chain: Any) -> None:
    class OddError(Exception):
        def __getattribute__(self, name: str) -> Any:
            if name == "__notes__":
                raise RuntimeError("no notes")
            return super().__getattribute__(name)

    held = Held()

    async def trip(event: Any, data: Any) -> None:
        try:
            await held(event, data)
        finally:
            raise OddError

    async def fail(event: Any, data: Any) -> None:
        await held.entered.wait()
        raise ValueError("no")

    await chain.register(trip)
    await chain.register(fail)
    with pytest.raises(ValueError, match="no") as caught:
        await chain.call_concurrent("up")
    assert caught.value.__notes__[1:] == ["while the band was cancelled, OddError came"]


async def test_d4_a_block_that_is_skipped_leaves_the_result_as_it_was(chain: Any) -> None:
    held = Held()

    async def first(event: Any, data: Any) -> int:
        await held(event, data)
        return NOTIFY_OK

    await chain.register(first)
    last = await chain.register(gives(NOTIFY_BAD))
    results: list[int] = []

    async def call() -> None:
        results.append(await chain.call_concurrent("up", limit=1))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await held.entered.wait()
        chain.unregister_nosync(last)
        held.release.set()
    assert results == [NOTIFY_OK]


async def test_d9_collect_runs_all_bands_and_raises_one_group_in_chain_order(flavour: Any) -> None:
    chain = flavour("chain", errors="collect")
    log: list[Any] = []
    first, second, third = ValueError("1"), NoNoteError(2), KeyError("3")
    await chain.register(gives(third, log), priority=0)
    await chain.register(gives(first, log), priority=1)
    await chain.register(gives(None, log), priority=1)
    await chain.register(gives(second, log), priority=1)
    with pytest.raises(ExceptionGroup) as caught:
        await chain.call_concurrent("up")
    assert caught.value.exceptions == (first, second, third)
    assert len(log) == 4


async def test_d9_isolate_logs_and_goes_on(flavour: Any) -> None:
    chain = flavour("chain", errors="isolate")
    await chain.register(gives(NOTIFY_OK))
    await chain.register(gives(ValueError("no")), name="bad")
    with capture_logs() as logs:
        assert await chain.call_concurrent("up") == NOTIFY_DONE
    assert [(log["chain"], log["block"]) for log in logs] == [("chain", "bad")]


async def test_d4_an_answer_that_is_no_result_is_the_blocks_exception(chain: Any) -> None:
    await chain.register(gives("yes"), name="wrong")
    with pytest.raises(InvalidResultError, match="block 'wrong'"):
        await chain.call_concurrent("up")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_d9_an_interruption_passes_as_itself(
    flavour: Any, error: type[BaseException]
) -> None:
    for policy in ("raise", "collect", "isolate"):
        chain = flavour("chain", errors=policy)
        held = Held()

        async def fail(event: Any, data: Any, held: Held = held) -> None:
            await held.entered.wait()
            raise error

        async def trip(event: Any, data: Any, held: Held = held) -> None:
            try:
                await held(event, data)
            finally:
                raise ValueError

        await chain.register(trip)
        await chain.register(fail)
        with pytest.raises(error):
            await chain.call_concurrent("up")


async def test_d9_an_interruption_goes_before_an_earlier_exception(chain: Any) -> None:
    held = Held()

    async def trip(event: Any, data: Any) -> None:
        try:
            await held(event, data)
        finally:
            raise KeyboardInterrupt

    async def fail(event: Any, data: Any) -> None:
        await held.entered.wait()
        raise ValueError("no")

    await chain.register(trip)
    await chain.register(fail)
    with pytest.raises(KeyboardInterrupt) as caught:
        await chain.call_concurrent("up")
    assert "while the band was cancelled, ValueError came" in caught.value.__notes__[-1]


# D12: cancellation.


async def test_d12_cancellation_reaches_all(chain: Any) -> None:
    helds = [Held() for _ in range(3)]
    left: list[int] = []

    def callback(number: int) -> Any:
        async def wait(event: Any, data: Any) -> None:
            try:
                await helds[number](event, data)
            finally:
                left.append(number)

        return wait

    for number in range(3):
        await chain.register(callback(number))
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call_concurrent, "up")
        for held in helds:
            await held.entered.wait()
        group.cancel_scope.cancel()
    assert sorted(left) == [0, 1, 2]
    assert chain.statistics().walks_running == 0
    await chain.register(gives(None))


async def test_d12_a_failure_while_the_caller_is_cancelled_is_not_lost(chain: Any) -> None:
    held = Held()

    async def trip(event: Any, data: Any) -> None:
        try:
            await held(event, data)
        finally:
            raise ValueError("tripped")

    await chain.register(trip)
    errors: list[BaseException] = []

    async def call() -> None:
        try:
            await chain.call_concurrent("up")
        except ValueError as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await held.entered.wait()
        group.cancel_scope.cancel()
    assert [str(error) for error in errors] == ["tripped"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_d12_a_cancellation_that_a_callback_just_raises_comes_out(chain: Any) -> None:
    from asyncio import CancelledError

    log: list[Any] = []
    await chain.register(gives(CancelledError()), priority=1)
    await chain.register(gives(None, log))
    with pytest.raises(CancelledError):
        await chain.call_concurrent("up")
    assert log == []


async def test_d11_a_call_of_an_empty_chain_is_cancelled_before_long(chain: Any) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        for _ in range(513):
            await chain.call_concurrent("up")
    assert scope.cancelled_caught


# D2, D3, D14, and the other rules of a walk.


async def test_d3_a_block_removed_before_its_turn_is_not_called(chain: Any) -> None:
    log: list[Any] = []

    def remove(event: Any, data: Any) -> None:
        for block in (neighbour, later):
            chain.unregister_nosync(block)

    neighbour = await chain.register(gives(NOTIFY_BAD, log), priority=1)
    await chain.register(remove, priority=1)
    later = await chain.register(gives(NOTIFY_BAD, log))
    await chain.register(gives(NOTIFY_OK))
    assert await chain.call_concurrent("up") == NOTIFY_OK
    assert log == []


async def test_d3_a_block_removed_while_it_waits_for_the_limit_is_not_called(chain: Any) -> None:
    held = Held()
    log: list[Any] = []
    await chain.register(held, is_async=True)
    waiting = await chain.register(gives(None, log))
    async with anyio.create_task_group() as group:

        async def call() -> None:
            await chain.call_concurrent("up", limit=1)

        group.start_soon(call)
        await held.entered.wait()
        chain.unregister_nosync(waiting)
        held.release.set()
    assert log == []


async def test_a_block_with_once_runs_once_in_two_concurrent_calls(chain: Any) -> None:
    log: list[Any] = []
    await chain.register(gives(None, log), once=True)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(chain.call_concurrent, "up")
    assert len(log) == 1


async def test_a_timeout_holds_in_a_concurrent_call(chain: Any) -> None:
    await chain.register(Held(), is_async=True, timeout=0.001)
    with pytest.raises(TimeoutError):
        await chain.call_concurrent("up")


async def test_events_and_threads_work_in_a_concurrent_call(chain: Any) -> None:
    log: list[Any] = []
    await chain.register(lambda event, data: log.append("thread"), thread=True, events="up")
    await chain.register(gives(NOTIFY_OK, log), events="down")
    assert await chain.call_concurrent("up", 1) == NOTIFY_DONE
    assert log == ["thread"]


async def test_a_callback_that_would_wait_for_its_own_call_is_refused(chain: Any) -> None:
    errors: list[BaseException] = []

    async def leave(event: Any, data: Any) -> None:
        for wait in (lambda: chain.unregister(block), chain.synchronize):
            try:
                await wait()
            except WouldDeadlockError as error:
                errors.append(error)

    block = await chain.register(leave)
    with anyio.fail_after(30):
        await chain.call_concurrent("up")
    assert len(errors) == 2


async def test_an_unregister_waits_for_a_concurrent_call(chain: Any) -> None:
    held = Held()
    block = await chain.register(held, is_async=True)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call_concurrent, "up")
        await held.entered.wait()
        with anyio.move_on_after(0.001) as scope:
            await chain.unregister(block)
        assert scope.cancelled_caught
        held.release.set()


async def test_a_nested_call_runs_while_a_writer_waits(chain: Any) -> None:
    held = Held()
    log: list[Any] = []

    async def nest(event: Any, data: Any) -> None:
        if event == "up":
            await held(event, data)
            await chain.call_concurrent("nested")
        else:
            log.append(event)

    block = await chain.register(nest)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call_concurrent, "up")
        await held.entered.wait()
        group.start_soon(chain.unregister, block)
        with anyio.fail_after(30):
            while not chain.statistics().writers_waiting:
                await anyio.lowlevel.checkpoint()
        held.release.set()
    assert log == ["nested"] * isinstance(chain, BlockingChain)  # on SRCU the block is off
    assert chain.is_empty


async def test_a_concurrent_call_is_observed_as_one_call(chain: Any) -> None:
    said: list[Any] = []

    class Tape(Observer):
        def call_started(self, call: Any) -> None:
            said.append((call.kind, call.depth))

        def callback_started(self, call: Any, block: Any) -> None:
            said.append((">", block.name, call.depth))

        def call_finished(self, call: Any, result: Any, error: Any, duration: float) -> None:
            said.append(("end", result))

    inner = type(chain)("inner")

    async def nest(event: Any, data: Any) -> None:
        await inner.call("in")

    await chain.register(nest, name="nest")
    await chain.register(gives(NOTIFY_OK), name="ok")
    chain.observe(Tape())
    inner.observe(Tape())
    await chain.call_concurrent("up")
    assert [line for line in said if line[0] != ">"] == [
        ("concurrent", 0),
        ("call", 1),
        ("end", NOTIFY_DONE),
        ("end", NOTIFY_OK),
    ]
    assert [line[1] for line in said if line[0] == ">"] == ["nest", "ok"]


@pytest.mark.parametrize("policy", ["raise", "collect"])
async def test_d14_what_was_raised_is_freed_with_the_error(flavour: Any, policy: str) -> None:
    class Thing:
        pass

    chain = flavour("chain", errors=policy)
    thing = Thing()
    there = weakref.ref(thing)

    async def fail(event: Any, data: Any) -> None:
        raise ValueError("no")

    await chain.register(fail)
    gc.disable()
    try:
        try:
            await chain.call_concurrent("up", thing)
        except (ValueError, ExceptionGroup):
            del thing
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        freed = there() is None
    finally:
        gc.enable()
    assert freed
