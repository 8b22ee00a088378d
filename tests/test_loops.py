"""Which event loop an async chain belongs to."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest

from tocsin import AtomicChain, BlockingChain, Bus, RawChain, SrcuChain, WrongLoopError
from tocsin.loops import LoopBinding, running_loop
from tocsin.pacing import CHECKPOINT_EVERY

from .flavours import ASYNC

BACKENDS = ["asyncio", "trio"]
every_async = pytest.mark.parametrize("flavour", ASYNC)
every_backend = pytest.mark.parametrize("backend", BACKENDS)


def nothing(event: Any, data: Any) -> None:
    return None


@every_async
@pytest.mark.parametrize("first", BACKENDS)
@pytest.mark.parametrize("second", BACKENDS)
def test_a_chain_made_at_import_time_works_under_one_run_after_another(
    flavour: Any, first: str, second: str
) -> None:
    chain = flavour("chain")
    kept = chain.register_nowait(nothing)

    async def use() -> None:
        assert await chain.call(1, None) == 0
        block = await chain.register(nothing)
        await chain.unregister(block)
        await chain.synchronize()
        async with chain.registered(nothing):
            assert len(chain) == 2

    for backend in (first, second, first):
        anyio.run(use, backend=backend)
        chain.unregister_nowait(chain.register_nowait(nothing))
    assert chain.blocks == (kept,)


@every_async
@every_backend
def test_a_chain_may_go_to_another_thread_when_its_loop_is_closed(
    flavour: Any, backend: str
) -> None:
    chain, errors = flavour("chain"), list[BaseException]()

    async def use() -> None:
        block = await chain.register(nothing)
        await chain.call(1, None)
        chain.unregister_nosync(block)

    def run() -> None:
        try:
            anyio.run(use, backend=backend)
        except Exception as error:
            errors.append(error)

    run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    run()
    assert errors == []


@every_async
@every_backend
def test_another_loop_is_refused_while_the_first_is_open(flavour: Any, backend: str) -> None:
    chain = flavour("chain")
    errors: list[str] = []

    async def intrude() -> None:
        block = chain.blocks[0]
        for member, arguments in (
            ("register", (nothing,)),
            ("unregister", (block,)),
            ("synchronize", ()),
            ("set_filter", (None,)),
        ):
            try:
                await getattr(chain, member)(*arguments)
            except WrongLoopError as error:
                errors.append(str(error))
        sync_intrude()

    def sync_intrude() -> None:
        block = chain.blocks[0]
        for member, argument in (
            ("register_nowait", nothing),
            ("unregister_nowait", block),
            ("unregister_nosync", block),
            ("set_filter_nowait", None),
        ):
            try:
                getattr(chain, member)(argument)
            except WrongLoopError as error:
                errors.append(str(error))

    async def main() -> None:
        await chain.register(nothing)
        await anyio.to_thread.run_sync(sync_intrude)
        assert len(errors) == 4
        for other in BACKENDS:
            await anyio.to_thread.run_sync(partial(anyio.run, intrude, backend=other))
        assert len(errors) == 4 + 2 * 8
        assert all("'chain'" in error for error in errors)
        assert len(chain) == 1

    anyio.run(main, backend=backend)


@every_async
@every_backend
@pytest.mark.parametrize("elsewhere", ["thread", *BACKENDS])
def test_a_filter_is_not_changed_from_another_thread_or_loop(
    flavour: Any, backend: str, elsewhere: str
) -> None:
    bus, other = Bus("bus"), Bus("other")
    first, chain = bus.add(SrcuChain[Any, Any]("first")), bus.add(flavour("chain"))
    other.set_filters({"chain": "nobody"})

    def intrude() -> None:
        with pytest.raises(WrongLoopError, match="'chain'"), chain.only("nobody"):
            pytest.fail("it was entered")
        with pytest.raises(WrongLoopError, match="'chain'"):
            bus.set_filters({"first": "nobody", "chain": "nobody"})
        with pytest.raises(WrongLoopError, match="'chain'"):
            other.add(chain)

    async def intrude_in_a_loop() -> None:
        intrude()

    async def main() -> None:
        block = await chain.register(nothing)
        if elsewhere == "thread":
            await anyio.to_thread.run_sync(intrude)
        else:
            intruder = partial(anyio.run, intrude_in_a_loop, backend=elsewhere)
            await anyio.to_thread.run_sync(intruder)
        assert chain.blocks == (block,)
        assert first.filter is chain.filter is None
        assert "chain" not in other
        with chain.only("nobody"):  # the chain's own loop may
            assert chain.is_empty
        bus.set_filters({"chain": "nobody"})
        assert chain.parked == (block,)

    anyio.run(main, backend=backend)


@every_async
@every_backend
def test_a_walk_that_would_have_to_wait_in_the_wrong_loop_is_refused(
    flavour: Any, backend: str
) -> None:
    chain = flavour("chain", checkpoint_every=1)

    async def intrude() -> None:
        with pytest.raises(WrongLoopError):
            await chain.call(1, None)

    async def main() -> None:
        await chain.call(1, None)
        await anyio.to_thread.run_sync(lambda: anyio.run(intrude, backend=backend))

    anyio.run(main, backend=backend)


@every_backend
def test_a_reader_that_would_queue_in_the_wrong_loop_is_refused(backend: str) -> None:
    chain, entered = BlockingChain[Any, Any]("chain"), anyio.Event()

    async def hang(event: Any, data: Any) -> None:
        entered.set()
        while not chain.statistics().writers_waiting:
            await anyio.lowlevel.checkpoint()
        await anyio.to_thread.run_sync(lambda: anyio.run(intrude, backend=backend))

    async def intrude() -> None:
        with pytest.raises(WrongLoopError):
            await chain.call(1, None)

    async def main() -> None:
        await chain.register(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(chain.call, 1, None)
            await entered.wait()
            group.start_soon(chain.register, nothing)

    anyio.run(main, backend=backend)


@every_async
@every_backend
def test_registering_without_a_running_loop_never_binds(flavour: Any, backend: str) -> None:
    chain = flavour("chain")

    def elsewhere() -> None:
        chain.unregister_nowait(chain.register_nowait(nothing))

    elsewhere()
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()

    async def main() -> None:
        chain.register_nowait(nothing)
        await chain.call(1, None)

    anyio.run(main, backend=backend)
    assert len(chain) == 1


@every_async
def test_the_loops_own_thread_may_register_while_it_does_not_run(flavour: Any) -> None:
    chain = flavour("chain")
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(chain.register(nothing))
        chain.unregister_nowait(chain.register_nowait(nothing))
        loop.run_until_complete(chain.call(1, None))
        errors: list[BaseException] = []

        def elsewhere() -> None:
            try:
                chain.register_nowait(nothing)
            except WrongLoopError as error:
                errors.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(errors) == 1
    finally:
        loop.close()


def abandon(chain: Any, *works: Any) -> list[Any]:
    """Start tasks in an asyncio loop, then close it while they are pending."""
    loop = asyncio.new_event_loop()

    async def start() -> list[Any]:
        tasks = []
        for work in works:
            tasks.append(asyncio.ensure_future(work()))
            await asyncio.sleep(0)
        return tasks

    tasks = loop.run_until_complete(start())
    loop.close()
    for task in tasks:
        task._log_destroy_pending = False
    return tasks


@every_async
@pytest.mark.parametrize("waiting", ["unregister", "synchronize"])
@pytest.mark.parametrize("used_before", [False, True])
@every_backend
def test_waiters_of_a_closed_loop_are_forgotten(
    flavour: Any, waiting: str, used_before: bool, backend: str
) -> None:
    """A loop that is closed with tasks pending must not leave the chain locked."""
    chain = flavour("chain")

    async def hang(event: Any, data: Any) -> None:
        if event == "hang":
            await asyncio.sleep(3600)

    block = chain.register_nowait(hang)
    works = [
        lambda: chain.call("hang", None),
        lambda: chain.unregister(block) if waiting == "unregister" else chain.synchronize(),
        lambda: chain.call(2, None),
    ]
    tasks = abandon(chain, *works)
    assert chain.statistics().writers_waiting == 1

    async def use() -> None:
        for _ in range(CHECKPOINT_EVERY):  # so that it has looked at its event loop
            assert await chain.call(1, None) == 0
        chain.register_nowait(nothing) if not chain.statistics().walks_running else None

    if used_before and flavour is BlockingChain:
        anyio.run(use, backend=backend)
        assert chain.statistics().writers_waiting == 0
    for coroutine in filter(None, (task.get_coro() for task in tasks)):  # one that ended has none
        with suppress(RuntimeError):  # a cancel scope cannot be left without a loop
            coroutine.close()
    assert chain.statistics().walks_running == chain.statistics().writers_waiting == 0
    anyio.run(use, backend=backend)


def test_an_abandoned_writer_that_ends_later_frees_nobody_elses_lock() -> None:
    """It holds the lock in the middle of a replay when its loop is closed."""
    chain = BlockingChain[Any, Any]("chain", replay=lambda: [("present", None)])
    log: list[str] = []

    async def hang(event: Any, data: Any) -> None:
        await asyncio.Event().wait()

    tasks = abandon(chain, partial(chain.register, hang), partial(chain.call, 2, None))

    async def main() -> None:
        inside, go = asyncio.Event(), asyncio.Event()

        async def newcomer(event: Any, data: Any) -> None:
            inside.set()
            await go.wait()
            log.append("registered")

        async def call() -> None:
            await chain.call(1, None)
            log.append("called")

        async with asyncio.TaskGroup() as group:
            group.create_task(chain.register(newcomer, events=["present"]))
            await inside.wait()
            tasks.clear()
            gc.collect()
            group.create_task(call())
            for _ in range(10):
                await asyncio.sleep(0)
            assert log == []
            go.set()

    asyncio.run(main())
    assert log == ["registered", "called"]


def test_an_abandoned_reader_that_ends_later_is_not_counted_twice() -> None:
    """It has been granted its turn, and its loop is closed before it runs."""
    chain = BlockingChain[Any, Any]("chain", replay=lambda: [("present", None)])
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *context: None)  # tasks that were pending
    go, tasks = asyncio.Event(), list[Any]()

    async def stop_the_loop(event: Any, data: Any) -> None:
        await go.wait()
        loop.stop()

    async def main() -> None:
        tasks.append(loop.create_task(chain.register(stop_the_loop, events=["present"])))
        await asyncio.sleep(0)
        tasks.append(loop.create_task(chain.call(1, None)))
        await asyncio.sleep(0)
        go.set()

    tasks.append(loop.create_task(main()))
    loop.run_forever()
    loop.close()

    async def again() -> None:
        await chain.register(nothing, events=["other"])
        tasks.clear()
        gc.collect()
        async with asyncio.timeout(20):
            await chain.register(nothing, events=["other"])

    asyncio.run(again())
    assert chain.statistics().writers_waiting == 0


def test_atomic_and_raw_know_no_loop() -> None:
    for flavour in (AtomicChain, RawChain):
        chain: Any = flavour("chain")
        block = chain.register(nothing)

        async def use(chain: Any = chain) -> int:
            return int(chain.call(1, None))

        anyio.run(use)
        thread = threading.Thread(target=chain.unregister, args=(block,))
        thread.start()
        thread.join()
        assert chain.is_empty


def test_a_binding_is_free_again_when_its_loop_is_closed() -> None:
    binding = LoopBinding()
    moved = []

    async def bind() -> None:
        moved.append(binding.bind(running_loop(), "chain"))
        moved.append(binding.bind(running_loop(), "chain"))
        binding.check("chain")

    for backend in BACKENDS:
        anyio.run(bind, backend=backend)
        binding.check("chain")
    assert moved == [False, False, True, False]
    thread = threading.Thread(target=binding.check, args=("chain",))
    thread.start()
    thread.join()
    assert running_loop() is None


def test_no_loop_is_looked_for_where_none_can_be() -> None:
    program = (
        "import sys, tocsin\n"
        "chain = tocsin.SrcuChain('chain')\n"
        "chain.register_nowait(lambda event, data: None)\n"
        "assert not {'anyio', 'asyncio', 'trio'} & set(sys.modules), sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_where_neither_asyncio_nor_trio_is_imported_no_loop_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in BACKENDS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert running_loop() is None
