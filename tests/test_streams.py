"""`stream` and `wait_for`: a chain's events, awaited."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from structlog.testing import capture_logs

from tocsin import (
    NOTIFY_DONE,
    NOTIFY_OK,
    AtomicChain,
    BlockingChain,
    NameFilter,
    RawChain,
    Scope,
    SrcuChain,
    Stream,
    StreamOverflowError,
    StreamStatistics,
    WouldDeadlockError,
)

from .flavours import ASYNC, Held, maybe_await
from .hostile import Boundless, OddStr

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

STREAMING: list[Any] = [AtomicChain, BlockingChain, SrcuChain]


@pytest.fixture(params=STREAMING)
def chain(request: pytest.FixtureRequest) -> Any:
    return request.param("chain")


@pytest.fixture(params=ASYNC)
def async_chain(request: pytest.FixtureRequest) -> Any:
    return request.param("chain")


async def call(chain: Any, *events: Any) -> None:
    for event in events:
        await maybe_await(chain.call(event, f"data of {event}"))


async def read(stream: Any, number: int) -> list[Any]:
    return [(await anext(stream))[0] for _ in range(number)]


async def waiting(stream: Any, number: int) -> None:
    """Let others run until so many producers wait for room."""
    with anyio.fail_after(30):
        while stream.statistics().producers_waiting != number:
            await checkpoint()


async def test_a_stream_gives_events_and_data_in_order(chain: Any) -> None:
    async with chain.stream() as stream:
        assert isinstance(stream, Stream)
        await call(chain, 1, 2, 3)
        seen = [await anext(stream) for _ in range(3)]
    assert seen == [(number, f"data of {number}") for number in (1, 2, 3)]


async def test_a_reader_that_waits_is_woken_by_the_next_event(chain: Any) -> None:
    seen: list[Any] = []

    async def reader() -> None:
        async with chain.stream() as stream:
            async for event, _ in stream:
                seen.append(event)
                if event == 3:
                    break

    async with anyio.create_task_group() as group:
        group.start_soon(reader)
        for number in (1, 2, 3):
            await anyio.wait_all_tasks_blocked()
            await call(chain, number)
    assert seen == [1, 2, 3]


async def test_events_and_where_choose_what_is_heard(chain: Any) -> None:
    def where(event: int, data: str) -> bool:
        return data != "data of 2"

    async with chain.stream(events=[1, 2, 3], where=where) as stream:
        await call(chain, 0, 1, 2, 3, 4)
        assert await read(stream, 2) == [1, 3]
        assert stream.statistics() == StreamStatistics(0, 100, 2, 0, 0)


async def test_the_block_has_the_priority_and_name_that_were_given(chain: Any) -> None:
    async with chain.stream(priority=7, name="watcher"), chain.stream():
        assert [(block.name, block.priority) for block in chain] == [("watcher", 7), ("stream", 0)]


async def test_a_stream_gives_no_result(chain: Any) -> None:
    await maybe_await(chain.register(lambda event, data: 1))
    async with chain.stream():
        assert await maybe_await(chain.call("up", None)) == NOTIFY_DONE
    async with chain.stream(priority=1):
        assert await maybe_await(chain.call("up", None)) == NOTIFY_OK


async def test_a_filtered_stream_hears_nothing(chain: Any) -> None:
    await maybe_await(chain.set_filter(NameFilter(["other"])))
    async with chain.stream() as stream:
        await call(chain, 1)
        assert chain.parked[0].name == "stream"
        assert stream.statistics().received == 0
    assert chain.parked == ()


async def test_two_streams_hear_the_same(chain: Any) -> None:
    async with chain.stream() as one, chain.stream() as other:
        await call(chain, 1, 2)
        assert await read(one, 2) == await read(other, 2) == [1, 2]


async def test_several_tasks_share_one_stream(chain: Any) -> None:
    seen: list[Any] = []

    async def worker(stream: Any) -> None:
        seen.append((await anext(stream))[0])

    async with chain.stream() as stream, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(worker, stream)
        await anyio.wait_all_tasks_blocked()
        await call(chain, 1, 2, 3)
    assert sorted(seen) == [1, 2, 3]


# However it ends, nothing is left.


async def leave_by_break(stream: Any, chain: Any) -> None:
    async for _ in stream:
        break


async def leave_by_an_error(stream: Any, chain: Any) -> None:
    await anext(stream)
    raise ZeroDivisionError


async def leave_by_cancelling_oneself(stream: Any, chain: Any) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await checkpoint()
    await anext(stream)


async def leave_without_reading(stream: Any, chain: Any) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    "leave",
    [leave_by_break, leave_by_an_error, leave_by_cancelling_oneself, leave_without_reading],
)
async def test_no_subscription_is_left(chain: Any, leave: Callable[..., Any]) -> None:
    try:
        async with chain.stream() as stream:
            await call(chain, 1)
            await leave(stream, chain)
    except ZeroDivisionError:
        pass
    assert chain.is_empty
    assert chain.statistics().walks_running == 0
    await call(chain, 2)


@pytest.mark.parametrize("whole", [False, True])
async def test_a_cancelled_reader_leaves_no_subscription(chain: Any, whole: bool) -> None:
    async def reader() -> None:
        async with chain.stream() as stream:
            async for _ in stream:
                pass

    async with anyio.create_task_group() as outer, anyio.create_task_group() as inner:
        inner.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        assert len(chain) == 1
        (outer if whole else inner).cancel_scope.cancel()
    assert chain.is_empty


async def test_a_stream_that_is_left_while_cancelled_is_off(chain: Any) -> None:
    with anyio.CancelScope() as scope:
        async with chain.stream():
            scope.cancel()
            await checkpoint()
    assert chain.is_empty


async def test_a_stream_cancelled_on_its_way_in_is_off(async_chain: Any) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        for _ in range(600):
            async with async_chain.stream():
                pass
    assert async_chain.is_empty


async def test_nothing_of_a_stream_is_kept(chain: Any) -> None:
    class Thing:
        pass

    thing = Thing()
    there = weakref.ref(thing)
    async with chain.stream() as stream:
        await maybe_await(chain.call("up", thing))
    gone = weakref.ref(stream)
    del stream, thing
    gc.collect()
    assert (there(), gone()) == (None, None)


# Leaving waits for nobody.


async def test_leaving_does_not_wait_for_the_call_that_brought_the_event(async_chain: Any) -> None:
    slow = Held()
    await async_chain.register(slow, is_async=True, priority=-1)
    async with anyio.create_task_group() as group:
        async with async_chain.stream() as stream:
            group.start_soon(call, async_chain, 1)
            with anyio.fail_after(30):
                assert await read(stream, 1) == [1]
        assert len(async_chain) == 1
        assert not slow.release.is_set()

        async def produce() -> None:
            while async_chain.statistics().blocks < 2:
                await checkpoint()
            await call(async_chain, 2)

        if isinstance(async_chain, SrcuChain):
            group.start_soon(produce)
            with anyio.fail_after(30):
                assert (await async_chain.wait_for())[0] == 2
        slow.release.set()


async def test_leaving_one_stream_does_not_wait_for_another_that_is_full(async_chain: Any) -> None:
    async with anyio.create_task_group() as group:
        async with async_chain.stream(max_buffer_size=2) as full:
            async with async_chain.stream(max_buffer_size=2) as left:
                for number in range(9):
                    group.start_soon(call, async_chain, number)
                await waiting(full, 7)
                with anyio.fail_after(30):
                    assert len(await read(left, 2)) == 2
            assert len(async_chain) == 1


async def test_a_handler_may_wait_for_the_answer_to_its_own_request() -> None:
    chain = SrcuChain[str, int]("chain")
    answered: list[int] = []

    @chain.subscriber(events="request")
    async def handle(event: str, number: int) -> None:
        await chain.wait_for("reply", lambda event, other: other == number)
        answered.append(number)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in (1, 2):
                group.start_soon(chain.call, "request", number)
            await anyio.wait_all_tasks_blocked()
            await chain.call("reply", 2)
            while answered != [2]:
                await checkpoint()
            await chain.call("reply", 1)
    assert answered == [2, 1]


async def test_wait_for_gives_the_first_of_two_events_that_come_at_once(chain: Any) -> None:
    found: list[Any] = []

    async def wait() -> None:
        found.append((await chain.wait_for(priority=5, name="me"))[0])

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert [(block.name, block.priority) for block in chain] == [("me", 5)]
        await call(chain, 1, 2, 3)
    assert found == [1]


# Overflow.


@pytest.mark.parametrize(("overflow", "kept"), [("drop_oldest", [3, 4]), ("drop_newest", [1, 2])])
async def test_a_full_stream_drops_and_counts_and_warns_once(
    chain: Any, overflow: Any, kept: list[int]
) -> None:
    with capture_logs() as logs:
        async with chain.stream(max_buffer_size=2, overflow=overflow) as stream:
            await call(chain, 1, 2, 3, 4)
            assert stream.statistics() == StreamStatistics(2, 2, 4, 2, 0)
            assert await read(stream, 2) == kept
            assert stream.statistics() == StreamStatistics(0, 2, 4, 2, 0)
            assert len(logs) == 1
            await call(chain, 5, 6, 7)
            assert len(logs) == 2
            for number in range(8, 12):  # a reader that is never done
                await read(stream, 1)
                await call(chain, number, number)
    assert [(log["event"], log["chain"], log["stream"]) for log in logs] == [
        ("a stream drops events", "chain", "stream")
    ] * 2


async def test_an_atomic_chain_drops_the_oldest_unless_told_otherwise() -> None:
    chain = AtomicChain[int, str]("chain")
    with capture_logs() as logs:
        async with chain.stream(max_buffer_size=1) as stream:
            await call(chain, 1, 2)
            assert await read(stream, 1) == [2]
    assert len(logs) == 1


async def test_a_full_stream_raises_in_the_call(chain: Any) -> None:
    async with chain.stream(max_buffer_size=1, overflow="raise") as stream:
        await call(chain, 1)
        message = "the stream 'stream' of chain 'chain' is full, 1 events wait to be read; read"
        with pytest.raises(StreamOverflowError, match=message):
            await call(chain, 2)
        assert await read(stream, 1) == [1]
        await call(chain, 3)
        assert await read(stream, 1) == [3]
        assert stream.statistics() == StreamStatistics(0, 1, 2, 0, 0)


async def test_a_full_stream_lets_the_call_wait(async_chain: Any) -> None:
    done: list[int] = []

    async def produce() -> None:
        for number in range(5):
            await call(async_chain, number)
            done.append(number)

    async with async_chain.stream(max_buffer_size=2) as stream, anyio.create_task_group() as group:
        group.start_soon(produce)
        await waiting(stream, 1)
        assert done == [0, 1]
        assert stream.statistics() == StreamStatistics(2, 2, 2, 0, 1)
        assert await read(stream, 5) == [0, 1, 2, 3, 4]
    assert done == [0, 1, 2, 3, 4]


async def test_waiting_producers_come_in_the_order_in_which_they_began(async_chain: Any) -> None:
    async with async_chain.stream(max_buffer_size=1) as stream, anyio.create_task_group() as group:
        await call(async_chain, 0)
        for number in range(1, 5):
            group.start_soon(call, async_chain, number)
            await waiting(stream, number)
        assert await read(stream, 5) == [0, 1, 2, 3, 4]


async def test_leaving_lets_the_producers_go_that_wait(async_chain: Any) -> None:
    async with anyio.create_task_group() as group:
        async with async_chain.stream(max_buffer_size=1) as stream:
            for number in range(4):
                group.start_soon(call, async_chain, number)
            await waiting(stream, 3)
        assert async_chain.is_empty
    assert async_chain.statistics().walks_running == 0


async def test_a_where_that_takes_its_own_block_off_hears_nothing(chain: Any) -> None:
    def leave(event: int, data: str) -> bool:
        chain.unregister_nosync(chain.blocks[0])
        return True

    for overflow in ("raise", "drop_oldest", None):
        async with chain.stream(where=leave, overflow=overflow) as stream:
            await call(chain, 1)
            assert stream.statistics()[2:4] == (0, 0)
            assert [event async for event, _ in stream] == []
            assert chain.is_empty


async def test_a_cancelled_producer_gives_up_its_place(async_chain: Any) -> None:
    async with async_chain.stream(max_buffer_size=1) as stream:
        await call(async_chain, 1)
        async with anyio.create_task_group() as group:
            group.start_soon(call, async_chain, 2)
            await waiting(stream, 1)
            group.cancel_scope.cancel()
        assert stream.statistics() == StreamStatistics(1, 1, 1, 0, 0)
        assert await read(stream, 1) == [1]


async def test_the_reader_itself_does_not_wait_for_itself(async_chain: Any) -> None:
    async with async_chain.stream(max_buffer_size=2) as stream:
        await call(async_chain, 1, 2)
        message = "the stream 'stream' of chain 'chain' is full, and the task that reads it would"
        for _ in range(2):
            with anyio.fail_after(30), pytest.raises(WouldDeadlockError, match=message):
                await call(async_chain, 3)
        assert await read(stream, 2) == [1, 2]
        await call(async_chain, 4, 5)
        with anyio.fail_after(30), pytest.raises(WouldDeadlockError):
            await call(async_chain, 6)


async def test_the_reader_does_not_wait_for_itself_in_a_concurrent_call(async_chain: Any) -> None:
    async with async_chain.stream(max_buffer_size=1) as stream:
        await call(async_chain, 1)
        for _ in range(2):
            for limit in (None, 1):
                with anyio.fail_after(30), pytest.raises(WouldDeadlockError, match="is full, and"):
                    await async_chain.call_concurrent(2, "", limit=limit)
            assert await read(stream, 1) == [1]
            await call(async_chain, 1)


async def test_the_reader_does_not_wait_for_itself_behind_a_thread(async_chain: Any) -> None:
    other = SrcuChain[int, Any]("other")
    errors: list[BaseException] = []

    def back(event: int, data: Any) -> None:
        try:
            anyio.from_thread.run(async_chain.call, event, "")
        except WouldDeadlockError as error:
            errors.append(error)

    await other.register(back, thread=True)
    async with async_chain.stream(max_buffer_size=1):
        await call(async_chain, 1)
        with anyio.fail_after(30):
            await other.call(2, None)
    assert len(errors) == 1


async def test_a_producer_in_a_group_of_the_reader_may_wait_for_it(async_chain: Any) -> None:
    async with async_chain.stream(max_buffer_size=1) as stream, anyio.create_task_group() as group:
        group.start_soon(call, async_chain, 1, 2, 3, 4)
        with anyio.fail_after(30):
            assert await read(stream, 4) == [1, 2, 3, 4]


async def test_who_has_read_once_may_wait_for_another_reader(async_chain: Any) -> None:
    go = anyio.Event()

    async def slow_reader(stream: Any) -> None:
        await read(stream, 1)
        await go.wait()
        await read(stream, 4)

    with anyio.fail_after(30):
        async with async_chain.stream(max_buffer_size=1) as stream:
            async with anyio.create_task_group() as group:
                group.start_soon(slow_reader, stream)
                await anyio.wait_all_tasks_blocked()
                await call(async_chain, 1)
                await anyio.wait_all_tasks_blocked()
                await call(async_chain, 2)
                assert await read(stream, 1) == [2]
                await call(async_chain, 3)
                group.start_soon(call, async_chain, 4, 5)
                await waiting(stream, 1)
                go.set()
                await call(async_chain, 6)


async def test_a_reader_that_has_ended_is_none(async_chain: Any) -> None:
    async with async_chain.stream(max_buffer_size=1) as stream:
        async with anyio.create_task_group() as group:
            group.start_soon(read, stream, 1)
            await call(async_chain, 1)
        await call(async_chain, 2)
        with anyio.fail_after(30), pytest.raises(WouldDeadlockError):
            await call(async_chain, 3)


async def test_others_wait_in_order_while_nobody_has_begun_to_read(async_chain: Any) -> None:
    async with anyio.create_task_group() as group:
        async with async_chain.stream(max_buffer_size=1) as stream:
            await call(async_chain, 0)
            for number in range(1, 6):
                group.start_soon(call, async_chain, number)
                await waiting(stream, number)
            assert await read(stream, 6) == [0, 1, 2, 3, 4, 5]


async def test_who_opens_a_stream_for_another_task_may_wait_for_that(async_chain: Any) -> None:
    seen: list[Any] = []

    async def reader(stream: Any) -> None:
        seen.extend(await read(stream, 5))

    with anyio.fail_after(30):
        async with async_chain.stream(max_buffer_size=1) as stream:
            async with anyio.create_task_group() as group:
                group.start_soon(reader, stream)
                await call(async_chain, 1, 2, 3, 4, 5)
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("overflow", ["wait", "drop_oldest", "drop_newest", "raise"])
async def test_a_stream_that_nobody_reads_never_grows_past_its_buffer(
    chain: Any, overflow: Any
) -> None:
    if isinstance(chain, AtomicChain) and overflow == "wait":
        with pytest.raises(ValueError, match="overflow='wait' would block its calls"):
            chain.stream(overflow=overflow)
        return
    async with anyio.create_task_group() as group:
        async with chain.stream(max_buffer_size=3, overflow=overflow) as stream:

            async def produce(number: int) -> None:
                try:
                    await call(chain, number)
                except StreamOverflowError:
                    return

            with capture_logs():
                for number in range(50):
                    group.start_soon(produce, number)
                await anyio.wait_all_tasks_blocked()
            state = stream.statistics()
            assert state.buffered == 3
            expected = {"wait": (3, 0, 47), "raise": (3, 0, 0)}.get(overflow, (50, 47, 0))
            assert state[2:] == expected


# Threads.


async def test_producers_may_be_other_threads() -> None:
    chain = AtomicChain[int, int]("chain")
    number, each = 4, 200

    def produce(thread: int) -> None:
        for count in range(each):
            chain.call(thread, count)

    seen: dict[int, list[int]] = {thread: [] for thread in range(number)}
    async with chain.stream(max_buffer_size=number * each) as stream:
        async with anyio.create_task_group() as group:
            for thread in range(number):
                group.start_soon(anyio.to_thread.run_sync, produce, thread)
            with anyio.fail_after(60):
                for _ in range(number * each):
                    thread, count = await anext(stream)
                    seen[thread].append(count)
        assert stream.statistics() == StreamStatistics(0, 800, 800, 0, 0)
    assert all(counts == list(range(each)) for counts in seen.values())


async def test_no_event_of_many_threads_is_unaccounted_for() -> None:
    chain = AtomicChain[int, int]("chain")
    read_in_all = 0

    def produce() -> None:
        for count in range(500):
            chain.call(1, count)

    async with chain.stream(max_buffer_size=5) as stream:
        with capture_logs():
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(anyio.to_thread.run_sync, produce)
                while chain.statistics().walks_running or read_in_all < 5:
                    await anext(stream)
                    read_in_all += 1
        state = stream.statistics()
    assert state.received == 1500
    assert state.dropped + state.buffered + read_in_all == 1500
    assert state.buffered <= 5


@pytest.mark.parametrize("overflow", ["drop_oldest", "raise"])
def test_a_stream_whose_loop_is_gone_takes_itself_off(overflow: Any) -> None:
    chain = AtomicChain[int, None]("chain")
    loop = asyncio.new_event_loop()
    stream = chain.stream(max_buffer_size=2, overflow=overflow)
    loop.run_until_complete(stream.__aenter__())
    loop.close()
    with capture_logs() as logs:
        for number in range(4):
            chain.call(number, None)
    assert chain.is_empty
    assert logs == []


def test_a_reader_whose_loop_is_gone_takes_its_stream_off() -> None:
    chain = AtomicChain[int, None]("chain")
    loop = asyncio.new_event_loop()
    stream = chain.stream()
    loop.run_until_complete(stream.__aenter__())
    task = loop.create_task(anext(stream))
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    chain.call(1, None)
    assert chain.is_empty
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.get_coro().close()


def test_the_stream_of_a_reader_whose_loop_is_gone_can_be_taken_off_in_another() -> None:
    chain = SrcuChain[int, None]("chain")
    loop = asyncio.new_event_loop()
    stream = chain.stream()
    loop.run_until_complete(stream.__aenter__())
    task = loop.create_task(anext(stream))
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    async def take_off() -> None:
        chain.unregister_nosync(chain.blocks[0])

    anyio.run(take_off)
    assert chain.is_empty
    assert stream._buffer._sender.statistics().open_send_streams == 0  # type: ignore[attr-defined]
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.get_coro().close()
    anyio.run(stream.__aexit__, None, None, None)


def test_a_stream_that_is_left_behind_with_a_producer_is_closed() -> None:
    chain = SrcuChain[int, None]("chain")
    loop = asyncio.new_event_loop()
    stream = chain.stream(max_buffer_size=1)
    loop.run_until_complete(stream.__aenter__())
    loop.run_until_complete(chain.call(1, None))
    task = loop.create_task(chain.call(2, None))
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0))
    assert stream.statistics().producers_waiting == 1
    loop.close()

    anyio.run(chain.call, 3, None)
    assert chain.is_empty
    assert stream._buffer._sender.statistics().open_send_streams == 0  # type: ignore[attr-defined]
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.get_coro().close()


def test_a_stream_whose_trio_run_has_ended_takes_itself_off() -> None:
    chain = AtomicChain[int, None]("chain")

    async def enter() -> None:
        await chain.stream(max_buffer_size=1).__aenter__()

    anyio.run(enter, backend="trio")
    chain.call(1, None)
    chain.call(2, None)
    assert chain.is_empty


def test_two_threads_may_find_out_together_that_the_loop_is_gone() -> None:
    chain = AtomicChain[int, None]("chain")
    both = threading.Barrier(2)

    def where(event: int, data: None) -> bool:
        if event == 2:
            both.wait(30)
        return True

    async def enter() -> None:
        await chain.stream(max_buffer_size=1, where=where).__aenter__()

    anyio.run(enter, backend="trio")
    chain.call(1, None)
    failures: list[BaseException] = []

    def produce() -> None:
        try:
            chain.call(2, None)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=produce) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert chain.is_empty
    assert failures == []


# When somebody else takes the block off.


async def test_a_stream_ends_when_its_block_is_taken_off(chain: Any) -> None:
    scope = Scope("owner")
    with scope.ambient():
        stream = chain.stream()
        async with stream:
            await call(chain, 1, 2)
            scope.close()
            seen = [event async for event, _ in stream]
            assert [event async for event, _ in stream] == []
    assert seen == [1, 2]


async def test_a_waiting_reader_is_woken_when_its_block_is_taken_off(chain: Any) -> None:
    seen: list[Any] = []

    async def reader() -> None:
        async with chain.stream() as stream:
            seen.extend([event async for event, _ in stream])
        seen.append("over")

    async with anyio.create_task_group() as group:
        group.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        await call(chain, 1)
        chain.unregister_nosync(chain.blocks[0])
    assert seen == [1, "over"]


async def test_who_waited_for_room_when_the_block_was_taken_off_is_still_heard(
    async_chain: Any,
) -> None:
    async with async_chain.stream(max_buffer_size=1) as stream, anyio.create_task_group() as group:
        await call(async_chain, 0)
        for number in range(1, 4):
            group.start_soon(call, async_chain, number)
            await waiting(stream, number)
        async_chain.unregister_nosync(async_chain.blocks[0])
        await call(async_chain, "late")
        assert [event async for event, _ in stream] == [0, 1, 2, 3]
        assert stream.statistics() == StreamStatistics(0, 1, 4, 0, 0)


@pytest.mark.parametrize("rounds", range(4))
async def test_who_had_come_to_a_full_block_that_was_taken_off_is_still_heard(
    async_chain: Any, rounds: int
) -> None:
    seen: list[Any] = []

    async def take_off() -> None:
        for _ in range(rounds):
            await checkpoint()
        async_chain.unregister_nosync(block)

    async def reader(stream: Any) -> None:
        await checkpoint()
        await checkpoint()
        seen.extend([event async for event, _ in stream])

    async with async_chain.stream(max_buffer_size=1) as stream:
        block = async_chain.blocks[0]
        await call(async_chain, 1)
        async with anyio.create_task_group() as group:
            group.start_soon(take_off)
            group.start_soon(reader, stream)
            await call(async_chain, 2)
        assert len(seen) == stream.statistics().received == 2


async def test_a_stream_taken_off_ends_when_all_who_waited_for_room_were_cancelled(
    async_chain: Any,
) -> None:
    async with async_chain.stream(max_buffer_size=1) as stream:
        await call(async_chain, 1)
        async with anyio.create_task_group() as group:
            for number in range(2):
                group.start_soon(call, async_chain, number)
            await waiting(stream, 2)
            async_chain.unregister_nosync(async_chain.blocks[0])
            group.cancel_scope.cancel()
        assert [event async for event, _ in stream] == [1]


async def test_waiting_for_an_event_ends_when_the_block_is_taken_off(chain: Any) -> None:
    ended: list[str] = []

    async def reader() -> None:
        try:
            await chain.wait_for()
        except anyio.EndOfStream:
            ended.append("ended")

    async with anyio.create_task_group() as group:
        group.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        chain.unregister_nosync(chain.blocks[0])
    assert ended == ["ended"]


async def test_the_loop_of_another_reader_ends_when_the_stream_is_left(chain: Any) -> None:
    told: list[str] = []

    async def reader(stream: Any) -> None:
        async for _ in stream:
            pass
        told.append("over")
        with pytest.raises(anyio.ClosedResourceError):
            await anext(stream)

    async with anyio.create_task_group() as group:
        async with chain.stream() as stream:
            group.start_soon(reader, stream)
            await anyio.wait_all_tasks_blocked()
    assert told == ["over"]


# wait_for


async def test_wait_for_gives_the_first_event_that_fits(chain: Any) -> None:
    found: list[Any] = []

    async def wait() -> None:
        found.append(await chain.wait_for([2, 3], lambda event, data: event != 2))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        with capture_logs() as logs:
            await call(chain, 1, 2, 3, 3, 3)
    assert found == [(3, "data of 3")]
    assert chain.is_empty
    assert logs == []


async def test_several_may_wait_for_the_same_event(chain: Any) -> None:
    found: list[Any] = []

    async def wait() -> None:
        found.append(await chain.wait_for())

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await call(chain, 1)
    assert found == [(1, "data of 1")] * 3
    assert chain.is_empty


async def test_waiting_for_an_event_can_be_cancelled(chain: Any) -> None:
    with anyio.move_on_after(0.001) as scope:
        await chain.wait_for("never")
    assert scope.cancelled_caught
    assert chain.is_empty


# Bad input.


@pytest.mark.parametrize("size", [0, -1])
async def test_a_buffer_below_one_is_refused(chain: Any, size: int) -> None:
    message = f"chain 'chain': a stream needs a max_buffer_size of 1 or more, not {size}"
    with pytest.raises(ValueError, match=message):
        chain.stream(max_buffer_size=size)


@pytest.mark.parametrize("size", [sys.maxsize + 1, 10**5000], ids=["long", "endless"])
async def test_a_buffer_without_end_is_refused(chain: Any, size: int) -> None:
    with pytest.raises(ValueError, match=f"a max_buffer_size of at most {sys.maxsize}, not "):
        chain.stream(max_buffer_size=size)


async def test_a_buffer_has_the_size_of_the_plain_int(chain: Any) -> None:
    async with chain.stream(max_buffer_size=Boundless(2), overflow="drop_newest") as stream:
        await call(chain, *range(9))
        assert stream.statistics() == StreamStatistics(2, 2, 9, 7, 0)


async def test_an_overflow_that_says_it_is_any_of_them_is_refused(chain: Any) -> None:
    with pytest.raises(ValueError, match="with overflow='never' there is not"):
        chain.stream(overflow=OddStr("never"))


@pytest.mark.parametrize("size", [True, 1.5, "9", None, float("inf")])
async def test_a_buffer_size_that_is_no_int_is_refused(chain: Any, size: Any) -> None:
    with pytest.raises(TypeError, match="a stream needs an int as max_buffer_size, not"):
        chain.stream(max_buffer_size=size)


async def test_an_overflow_that_there_is_not_is_refused(chain: Any) -> None:
    message = "overflow='grow' there is not; use one of wait, drop_oldest, drop_newest, raise"
    with pytest.raises(ValueError, match=message):
        chain.stream(overflow="grow")


def test_an_atomic_chain_cannot_wait() -> None:
    with pytest.raises(ValueError, match="chain 'chain': overflow='wait' would block its calls"):
        AtomicChain("chain").stream(overflow="wait")


async def _where(event: Any, data: Any) -> bool:
    return True


@pytest.mark.parametrize("where", [3, _where])
async def test_a_where_that_cannot_decide_is_refused(chain: Any, where: Any) -> None:
    with pytest.raises(TypeError, match="where= of a stream must be a plain function where"):
        chain.stream(where=where)


async def test_unhashable_events_are_refused(chain: Any) -> None:
    with pytest.raises(TypeError, match="events must be hashable"):
        chain.stream(events=[[1]])
    with pytest.raises(TypeError, match="events must be hashable"):
        await chain.wait_for([{}])


async def test_what_where_raises_comes_out_of_the_call(chain: Any) -> None:
    async with chain.stream(where=lambda event, data: 1 / event):
        with pytest.raises(ZeroDivisionError):
            await call(chain, 0)


async def test_a_stream_is_read_inside_of_its_context(chain: Any) -> None:
    stream = chain.stream()
    message = "the stream 'stream' of chain 'chain' is not open; iterate inside of: async with"
    with pytest.raises(anyio.ClosedResourceError, match=message):
        await anext(stream)
    async with stream:
        await call(chain, 1)
        reading = stream._buffer
    with pytest.raises(anyio.ClosedResourceError, match=message):
        await anext(stream)
    with pytest.raises(anyio.ClosedResourceError):
        await reading.get()
    with pytest.raises(ValueError, match="of chain 'chain' was entered before; make another one"):
        await stream.__aenter__()


async def test_a_stream_that_cannot_be_registered_is_closed(async_chain: Any) -> None:
    scope = Scope("closed")
    scope.close()
    stream = async_chain.stream()
    with scope.ambient(), pytest.raises(Exception, match="scope 'closed' is closed"):
        await stream.__aenter__()
    assert async_chain.is_empty


async def test_a_stream_on_a_blocking_chain_in_its_own_callback_is_refused() -> None:
    chain = BlockingChain[str, None]("chain")
    errors: list[BaseException] = []

    async def listen(event: str, data: None) -> None:
        try:
            await chain.wait_for()
        except WouldDeadlockError as error:
            errors.append(error)

    await chain.register(listen)
    await chain.call("up")
    assert len(errors) == 1


async def test_a_replay_that_does_not_fit_into_a_stream_is_refused_with_words() -> None:
    for flavour in ASYNC:
        chain = flavour("chain", replay=lambda: [(number, None) for number in range(5)])
        message = "of chain 'chain' is full of what the chain replays to it, and nobody can read"
        with anyio.fail_after(30), pytest.raises(WouldDeadlockError, match=message):
            async with chain.stream(max_buffer_size=4):
                pass
        assert chain.is_empty
        async with chain.stream(max_buffer_size=4, overflow="drop_newest") as stream:
            with capture_logs():
                assert await read(stream, 4) == [0, 1, 2, 3]


async def test_a_where_that_gives_something_to_await_is_refused(chain: Any) -> None:
    async with chain.stream(where=lambda event, data: _where(event, data)):
        with pytest.raises(TypeError, match="its where= gave coroutine, not a bool"):
            await call(chain, 1)


@pytest.mark.parametrize("flavour", ASYNC)
@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("overflow", ["wait", "drop_oldest"])
def test_a_stream_of_a_loop_that_was_closed_takes_itself_off(
    flavour: Any, reads: bool, overflow: Any
) -> None:
    chain = flavour("chain")
    loop = asyncio.new_event_loop()
    stream = chain.stream(max_buffer_size=2, overflow=overflow)
    loop.run_until_complete(stream.__aenter__())
    reading = stream.__anext__()
    if reads:
        task = loop.create_task(reading)
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()

    async def produce() -> None:
        with anyio.fail_after(30):
            await call(chain, 1, 2, 3, 4)
        assert chain.is_empty

    asyncio.run(produce())
    reading.close()


async def test_every_reading_is_a_checkpoint(chain: Any) -> None:
    async with chain.stream() as stream:
        await call(chain, 1, 2)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(stream)
        assert scope.cancelled_caught
        assert stream.statistics().buffered == 2


async def test_what_has_come_is_counted_at_once(chain: Any) -> None:
    async with chain.stream() as stream, anyio.create_task_group() as group:
        group.start_soon(read, stream, 1)
        await anyio.wait_all_tasks_blocked()
        await call(chain, 1)
        assert stream.statistics().received == 1


async def test_a_cancelled_reading_leaves_nothing_behind() -> None:
    chain = AtomicChain[int, None]("chain")
    async with chain.stream() as stream:
        readers: Any = stream._buffer._readers  # type: ignore[attr-defined]
        async with anyio.create_task_group() as group:
            group.start_soon(anext, stream)
            await anyio.wait_all_tasks_blocked()
            assert len(readers) == 1
            group.cancel_scope.cancel()
        assert readers == []


def test_a_signal_that_comes_while_a_reader_looks_wakes_it() -> None:
    async def main() -> None:
        chain = AtomicChain[int, None]("chain")

        class Handling(list[Any]):
            """A list of readers into whose growing a handler comes."""

            def append(self, reader: Any) -> None:
                chain.call(1, None)
                super().append(reader)
                chain.call(2, None)

        async with chain.stream() as stream:
            stream._buffer._readers = Handling()  # type: ignore[attr-defined]
            with anyio.fail_after(30):
                assert await read(stream, 2) == [1, 2]

    anyio.run(main)


def test_what_a_signal_drops_in_the_middle_of_a_drop_is_counted() -> None:
    async def main() -> None:
        chain = AtomicChain[int, None]("chain")
        async with chain.stream(max_buffer_size=1) as stream:
            buffer: Any = stream._buffer
            drop, handled = buffer._drop, iter([2, 3])

            def interrupted() -> None:
                drop()
                for number in handled:
                    chain.call(number, None)

            buffer._drop = interrupted
            with capture_logs():
                chain.call(0, None)
                chain.call(1, None)
            assert stream.statistics() == StreamStatistics(1, 1, 4, 3, 0)

    anyio.run(main)


async def test_a_stream_hears_the_replay_of_the_present_state() -> None:
    for flavour in STREAMING:
        chain = flavour("chain", replay=lambda: [("a", 1), ("b", 2)])
        async with chain.stream() as stream:
            assert await read(stream, 2) == ["a", "b"]


def test_a_raw_chain_has_no_stream() -> None:
    assert not hasattr(RawChain("chain"), "stream")
    assert not hasattr(RawChain("chain"), "call_concurrent")


def test_a_stream_says_what_it_is() -> None:
    said = repr(SrcuChain("chain").stream(max_buffer_size=5))
    assert said == (
        "<Stream 'stream' of 'chain': StreamStatistics(buffered=0, max_buffer_size=5, received=0, "
        "dropped=0, producers_waiting=0)>"
    )
