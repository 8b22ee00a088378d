"""The reader/writer lock of BlockingChain: order, batches, patience, nested calls."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tocsin import AlreadyRegisteredError, BlockingChain, NotRegisteredError, WouldDeadlockError
from tocsin.locks import GracePeriods, ReaderWriterLock
from tocsin.view import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


def nothing(event: Any, data: Any) -> None:
    return None


class Traffic:
    """A chain whose callback logs an event and waits for that event's gate."""

    def __init__(self) -> None:
        self.chain = BlockingChain[Any, Any]("chain")
        self.log: list[Any] = []
        self.gates: dict[Any, anyio.Event] = {}

    async def callback(self, event: Any, data: Any) -> None:
        self.log.append(event)
        if event in self.gates:
            await self.gates[event].wait()

    async def open(self) -> Traffic:
        await self.chain.register(self.callback)
        return self

    async def write(self, name: str) -> None:
        await self.chain.register(nothing, name=name)
        self.log.append(name)


@pytest.fixture
def endless_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.locks.PATIENCE", math.inf)


@pytest.mark.usefixtures("endless_patience")
async def test_the_lock_serves_in_order_of_arrival_and_readers_in_batches() -> None:
    traffic = await Traffic().open()
    traffic.gates = {one: anyio.Event() for one in ("r1", "r2", "r3")}
    async with anyio.create_task_group() as group:
        for step in ("r1", "w1", "r2", "r3", "w2", "r4"):
            if step[0] == "r":
                group.start_soon(traffic.chain.call, step, None)
            else:
                group.start_soon(traffic.write, step)
            await anyio.wait_all_tasks_blocked()
        assert traffic.log == ["r1"]
        assert traffic.chain.statistics() == (1, 0, 1, 2)
        traffic.gates["r1"].set()
        await anyio.wait_all_tasks_blocked()
        assert traffic.log[:2] == ["r1", "w1"]
        assert sorted(traffic.log[2:]) == ["r2", "r3"]
        traffic.gates["r2"].set()
        await anyio.wait_all_tasks_blocked()
        assert "w2" not in traffic.log
        traffic.gates["r3"].set()
        await anyio.wait_all_tasks_blocked()
        assert traffic.log[-2:] == ["w2", "r4"]
    assert len(traffic.chain) == 3


@pytest.mark.usefixtures("endless_patience")
@pytest.mark.parametrize("every", [1, 2])
async def test_calls_queue_behind_a_writer_though_their_budget_is_filled_meanwhile(
    every: int,
) -> None:
    traffic = Traffic()
    traffic.chain = BlockingChain[Any, Any]("chain", checkpoint_every=every)
    await traffic.open()
    traffic.gates = {"r1": anyio.Event()}
    async with anyio.create_task_group() as group:
        group.start_soon(traffic.chain.call, "r1", None)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(traffic.write, "w1")
        await anyio.wait_all_tasks_blocked()
        for _ in range(5):
            group.start_soon(traffic.chain.call, "behind", None)
        await anyio.wait_all_tasks_blocked()
        assert traffic.log == ["r1"]
        traffic.gates["r1"].set()
    assert traffic.log == ["r1", "w1", *["behind"] * 5]


async def test_d2_a_walk_excludes_registration() -> None:
    traffic = await Traffic().open()
    traffic.gates = {"r": anyio.Event()}
    async with anyio.create_task_group() as group:
        group.start_soon(traffic.chain.call, "r", None)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(traffic.write, "w")
        await anyio.wait_all_tasks_blocked()
        assert len(traffic.chain) == 1
        traffic.gates["r"].set()
    assert traffic.log == ["r", "w"]


async def test_an_uncontended_lock_costs_no_await() -> None:
    chain = BlockingChain[Any, Any]("chain")
    await chain.call(1, None)
    block = chain.register_nowait(nothing)
    for coroutine in (chain.call(1, None), chain.register(nothing), chain.unregister(block)):
        with pytest.raises(StopIteration):
            coroutine.send(None)


def test_what_is_refused_at_once_leaves_the_lock_free() -> None:
    chain = BlockingChain[Any, Any]("chain")
    block = chain.register_nowait(nothing)
    with pytest.raises(AlreadyRegisteredError):
        chain.register_nowait(block)
    chain.unregister_nowait(block)
    with pytest.raises(NotRegisteredError):
        chain.unregister_nowait(block)
    chain.set_filter_nowait(None)
    assert chain.is_empty


@pytest.mark.usefixtures("endless_patience")
async def test_a_nested_call_is_admitted_while_a_writer_waits() -> None:
    chain, log = BlockingChain[Any, Any]("chain"), []
    entered = anyio.Event()

    async def nest(event: Any, data: Any) -> None:
        if event == "outer":
            entered.set()
            await anyio.wait_all_tasks_blocked()
            assert chain.statistics().writers_waiting == 1
            await chain.call("inner", None)
            await chain.call_report("inner", None)
            await chain.call_robust("inner", "down", None)
        log.append(event)

    await chain.register(nest)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "outer", None)
        await entered.wait()
        group.start_soon(chain.register, nothing)
    assert log == ["inner", "inner", "inner", "outer"]
    assert len(chain) == 2


@pytest.mark.parametrize("spawn", ["task group", "nested chain", "thread"])
async def test_no_call_deadlocks_behind_a_waiting_writer_whatever_spawned_it(spawn: str) -> None:
    chain, log = BlockingChain[Any, Any]("chain"), []
    other = BlockingChain[Any, Any]("other")

    entered = anyio.Event()

    async def until_the_writer_waits() -> None:
        entered.set()
        while not chain.statistics().writers_waiting:
            await anyio.lowlevel.checkpoint()

    async def nest(event: Any, data: Any) -> None:
        if event == "outer":
            await until_the_writer_waits()
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(chain.call, "inner", None)
        log.append(event)

    async def through_another(event: Any, data: Any) -> None:
        await chain.call("inner", None)

    async def nest_through(event: Any, data: Any) -> None:
        if event == "outer":
            await until_the_writer_waits()
            await other.call(1, None)
        log.append(event)

    def nest_thread(event: Any, data: Any) -> None:
        if event == "outer":
            anyio.from_thread.run(until_the_writer_waits)
            anyio.from_thread.run(chain.call, "inner", None)
        log.append(event)

    await other.register(through_another)
    if spawn == "thread":
        await chain.register(nest_thread, thread=True)
    else:
        await chain.register(nest if spawn == "task group" else nest_through)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(chain.call, "outer", None)
            await entered.wait()
            group.start_soon(chain.register, nothing)
    assert log[-1] == "outer"
    assert set(log[:-1]) == {"inner"}
    assert chain.statistics() == (2, 0, 0, 0)


async def test_a_writer_is_not_starved_by_readers_that_keep_coming() -> None:
    chain = BlockingChain[Any, Any]("chain")
    done = False

    async def short(event: Any, data: Any) -> None:
        await anyio.lowlevel.checkpoint()

    async def call_for_ever() -> None:
        while not done:
            await chain.call(1, None)

    await chain.register(short)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(call_for_ever)
            for _ in range(20):
                await chain.unregister(await chain.register(nothing))
            done = True


async def test_a_replay_cannot_use_its_own_chain_while_it_holds_the_lock() -> None:
    errors: list[WouldDeadlockError] = []

    async def newcomer(event: Any, data: Any) -> None:
        for work in (chain.call(1, None), chain.register(nothing), chain.set_filter(None)):
            try:
                await work
            except WouldDeadlockError as error:
                errors.append(error)
        async with anyio.create_task_group() as group:
            group.start_soon(nested)
        with pytest.raises(anyio.WouldBlock):
            chain.register_nowait(nothing)

    async def nested() -> None:
        with pytest.raises(WouldDeadlockError):
            await chain.call(1, None)

    chain = BlockingChain[Any, Any]("chain", replay=lambda: [("now", None)])
    await chain.register(newcomer)
    assert len(errors) == 3
    assert len(chain) == 1


async def test_others_wait_while_a_replay_holds_the_lock() -> None:
    replaying, release, log = anyio.Event(), anyio.Event(), []

    async def newcomer(event: Any, data: Any) -> None:
        if event == "replayed":
            replaying.set()
            await release.wait()
        log.append(event)

    chain = BlockingChain[Any, Any]("chain", replay=lambda: [("replayed", None)])
    async with anyio.create_task_group() as group:
        group.start_soon(chain.register, newcomer)
        await replaying.wait()
        group.start_soon(chain.call, "called", None)
        await anyio.wait_all_tasks_blocked()
        assert log == []
        release.set()
    assert log == ["replayed", "called"]


# The parts on their own


class Readers:
    def __init__(self) -> None:
        self.count = 0
        self.lock = ReaderWriterLock(lambda: not self.count, lambda: None)

    async def read(self, log: list[str], name: str) -> None:
        if self.lock.is_closed:
            await self.lock.acquire_read()
        log.append(name)
        self.lock.wake()

    async def write(self, log: list[str], name: str) -> None:
        await self.lock.acquire_write()
        log.append(name)
        self.lock.release_write()


async def test_an_impatient_writer_lets_only_the_readers_behind_it_pass() -> None:
    readers, log = Readers(), list[str]()
    readers.count = 1
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for name in ("w1", "r1", "w2", "r2"):
                work = readers.read if name[0] == "r" else readers.write
                group.start_soon(work, log, name)
                await anyio.wait_all_tasks_blocked()
            while len(log) < 2:  # both pass while the walk that keeps w1 waiting goes on
                await anyio.lowlevel.checkpoint()
            assert sorted(log) == ["r1", "r2"]
            readers.count = 0
            readers.lock.wake()
    assert log[2:] == ["w1", "w2"]
    assert readers.lock.waiting == 0


class Impatience:
    """In place of `anyio.move_on_after`: a time is over at once, until it is ``enough``."""

    def __init__(self, enough: int, meanwhile: Callable[[], None]) -> None:
        self.times: list[float] = []
        self.enough = enough
        self.meanwhile = meanwhile

    def __call__(self, seconds: float) -> anyio.CancelScope:
        self.times.append(seconds)
        if len(self.times) < self.enough:
            return anyio.CancelScope(deadline=-math.inf)
        self.meanwhile()
        return anyio.CancelScope()


async def test_a_writers_patience_begins_with_50_ms_and_doubles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readers, log = Readers(), list[str]()
    readers.count = 1

    def leave() -> None:
        readers.count = 0
        readers.lock.wake()

    monkeypatch.setattr(anyio, "move_on_after", patience := Impatience(5, leave))
    await readers.write(log, "w")
    assert patience.times == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert log == ["w"]


async def test_a_writer_that_lost_patience_finds_out_that_the_last_walk_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readers, log = Readers(), list[str]()
    readers.count = 1

    class Once(Impatience):
        def __call__(self, seconds: float) -> anyio.CancelScope:
            readers.count = 0  # and tells nobody
            assert not self.times, "it waits again"
            return super().__call__(seconds)

    monkeypatch.setattr(anyio, "move_on_after", Once(2, readers.lock.wake))
    await readers.write(log, "w")
    assert log == ["w"]


async def test_a_writer_finds_out_that_the_lock_is_free_by_the_time_it_queues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readers, log = Readers(), list[str]()
    readers.count = 1
    assert not readers.lock.acquire_write_nowait()
    readers.count = 0
    monkeypatch.setattr(anyio, "move_on_after", patience := Impatience(1, lambda: None))
    await readers.write(log, "w")
    assert log == ["w"]
    assert patience.times == []


async def test_who_queues_before_an_impatient_writer_does_not_pass() -> None:
    readers, log = Readers(), list[str]()
    readers.count = 1
    async with anyio.create_task_group() as group:
        for name in ("w1", "r1", "w2", "r2"):
            work = readers.read if name[0] == "r" else readers.write
            group.start_soon(work, log, name)
            while readers.lock.waiting < int(name[1]) * 2 - (name[0] == "w"):
                await anyio.lowlevel.checkpoint()
        *_, second, _ = readers.lock._queue
        readers.lock._let_readers_pass(second)
        assert [one.is_writer for one in readers.lock._queue] == [True, False, True]
        group.cancel_scope.cancel()


@pytest.mark.usefixtures("endless_patience")
async def test_the_end_of_a_walk_of_sync_callbacks_wakes_the_writer_behind_it() -> None:
    traffic = Traffic()
    traffic.gates = {"slow": anyio.Event()}
    await traffic.chain.register(traffic.callback, events="slow")
    await traffic.chain.register(lambda event, data: traffic.log.append(event), events="quick")
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for step in ("slow", "w1", "quick", "w2"):
                if step[0] == "w":
                    group.start_soon(traffic.write, step)
                else:
                    group.start_soon(traffic.chain.call, step, None)
                await anyio.wait_all_tasks_blocked()
            traffic.gates["slow"].set()
    assert traffic.log == ["slow", "w1", "quick", "w2"]


@pytest.mark.usefixtures("endless_patience")
async def test_a_writer_and_who_synchronizes_may_wait_for_one_walk() -> None:
    traffic = await Traffic().open()
    traffic.gates = {"r": anyio.Event()}
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(traffic.chain.call, "r", None)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(traffic.chain.synchronize)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(traffic.write, "w")
            await anyio.wait_all_tasks_blocked()
            assert traffic.chain.statistics().writers_waiting == 2
            traffic.gates["r"].set()
    assert traffic.log == ["r", "w"]
    assert traffic.chain.statistics().writers_waiting == 0


@pytest.mark.usefixtures("endless_patience")
async def test_d12_a_call_cancelled_while_it_queues_leaves_the_queue() -> None:
    traffic = await Traffic().open()
    traffic.gates = {"r1": anyio.Event()}
    async with anyio.create_task_group() as group:
        group.start_soon(traffic.chain.call, "r1", None)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(traffic.write, "w1")
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as cancelled:
            cancelled.start_soon(traffic.chain.call, "r2", None)
            await anyio.wait_all_tasks_blocked()
            cancelled.cancel_scope.cancel()
        traffic.gates["r1"].set()
    assert traffic.log == ["r1", "w1"]
    traffic.chain.register_nowait(nothing)  # or it would wait for the one that is gone


async def test_forgotten_waiters_do_not_come_back() -> None:
    readers, log = Readers(), list[str]()
    readers.count = 1
    async with anyio.create_task_group() as group:
        for name in ("w1", "r1"):
            group.start_soon(readers.read if name[0] == "r" else readers.write, log, name)
            await anyio.wait_all_tasks_blocked()
        readers.lock.forget()
        assert not readers.lock.is_closed
        group.cancel_scope.cancel()
    assert log == []
    readers.count = 0
    assert readers.lock.acquire_write_nowait()


async def test_a_grace_period_says_when_somebody_waits_when_it_is_due_and_when_nobody_does() -> (
    None
):
    heard: list[int] = []
    snapshot, periods = Snapshot(), GracePeriods(lambda: heard.append(periods.waiting))
    snapshot.readers = 1
    async with anyio.create_task_group() as group:
        group.start_soon(periods.wait, [snapshot])
        await anyio.wait_all_tasks_blocked()
        assert not periods.is_due()
        snapshot.readers = 0
        assert periods.is_due()
        periods.wake()
    assert heard == [1, 0]
    assert not periods.is_due()


async def test_forgetting_who_waits_says_that_nobody_does() -> None:
    heard: list[int] = []
    snapshot, periods = Snapshot(), GracePeriods(lambda: heard.append(periods.waiting))
    snapshot.readers = 1
    async with anyio.create_task_group() as group:
        group.start_soon(periods.wait, [snapshot])
        await anyio.wait_all_tasks_blocked()
        periods.forget()
        assert heard == [1, 0]
        group.cancel_scope.cancel()


async def test_a_forgotten_grace_period_ends_with_its_task() -> None:
    snapshot, periods = Snapshot(), GracePeriods(lambda: None)
    await periods.wait([snapshot])
    snapshot.readers = 1
    async with anyio.create_task_group() as group:
        group.start_soon(periods.wait, [snapshot])
        await anyio.wait_all_tasks_blocked()
        periods.forget()
        assert periods.waiting == 0
        group.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["reader", "writer"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_one_cancelled_natively_at_the_moment_of_its_grant_gives_it_back(kind: str) -> None:
    """Cancel scopes leave a task alone whose event is set already; `Task.cancel` does not."""
    readers, log = Readers(), list[str]()
    readers.count = 1
    writer = asyncio.ensure_future(readers.write(log, "writer"))
    await anyio.wait_all_tasks_blocked()
    task = writer
    if kind == "reader":
        task = asyncio.ensure_future(readers.read(log, "reader"))
        await anyio.wait_all_tasks_blocked()
        readers.lock._let_readers_pass(readers.lock._queue[0])
    else:
        readers.count = 0
        readers.lock.wake()
        assert readers.lock.writing
    task.cancel()
    await asyncio.wait([task])
    assert log == []
    readers.count = 0
    readers.lock.wake()
    await asyncio.wait([writer])
    assert readers.lock.acquire_write_nowait()
