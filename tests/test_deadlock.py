"""WouldDeadlockError: raised at once where a wait for oneself is certain, and nowhere else."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tocsin import AtomicChain, BlockingChain, RawChain, SrcuChain, WouldDeadlockError

from .flavours import ASYNC, FLAVOURS, SYNC, maybe_await

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.anyio
every_async = pytest.mark.parametrize("flavour", ASYNC)


def nothing(event: Any, data: Any) -> None:
    return None


class Scene:
    """A chain with a victim; its callback runs ``inside``, ``attempt`` would wait for itself."""

    def __init__(self, flavour: Any) -> None:
        self.chain = flavour("chain")
        self.refused: list[str] = []
        self.done: list[str] = []
        self.victim: Any = None

    async def attempt(self) -> None:
        """Try everything that would wait for a walk that holds the victim."""
        if self.victim is None:
            return
        works: dict[str, Callable[[], Awaitable[Any]]] = {
            "unregister": lambda: self.chain.unregister(self.victim),
            "synchronize": self.chain.synchronize,
            "set_filter": lambda: self.chain.set_filter(lambda block: block is not self.victim),
        }
        if isinstance(self.chain, BlockingChain):
            works["register"] = lambda: self.chain.register(nothing)
        for name, work in works.items():
            try:
                with anyio.fail_after(20):
                    await work()
                self.done.append(name)
            except WouldDeadlockError:
                self.refused.append(name)

    async def play(self, inside: Callable[[], Any], **options: Any) -> None:
        async def callback(event: Any, data: Any) -> None:
            await maybe_await(inside())

        def threaded(event: Any, data: Any) -> None:
            inside()

        await self.chain.register(threaded if options else callback, **options)
        self.victim = await self.chain.register(nothing, priority=-1)
        await self.chain.call(1, None)
        assert self.done == []
        assert self.refused[:3] == ["unregister", "synchronize", "set_filter"]
        assert self.victim in self.chain
        assert self.chain.statistics() == (2, 0, 0, 0)
        await self.chain.unregister(self.victim)


@pytest.fixture
def scene(flavour: Any) -> Scene:
    return Scene(flavour)


@every_async
async def test_in_the_same_task(scene: Scene) -> None:
    await scene.play(scene.attempt)


@every_async
async def test_in_a_task_group_opened_in_the_callback(scene: Scene) -> None:
    async def inside() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(scene.attempt)

    await scene.play(inside)


@every_async
async def test_in_a_task_group_that_waits_for_another_task_too(scene: Scene) -> None:
    async def inside() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(scene.attempt)
            await anyio.wait_all_tasks_blocked()

    await scene.play(inside)


@every_async
async def test_in_a_grandchild(scene: Scene) -> None:
    async def child() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(scene.attempt)

    async def inside() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(child)

    await scene.play(inside)


@every_async
async def test_in_a_group_held_by_an_exit_stack_or_a_context_manager(scene: Scene) -> None:
    @asynccontextmanager
    async def wrapped() -> AsyncIterator[Any]:
        async with anyio.create_task_group() as group:
            yield group

    async def inside() -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(anyio.lowlevel.checkpoint)
            group = await stack.enter_async_context(wrapped())
            group.start_soon(scene.attempt)
            await anyio.wait_all_tasks_blocked()

    await scene.play(inside)


@every_async
async def test_in_a_group_held_by_an_async_generator(scene: Scene) -> None:
    async def generate() -> AsyncIterator[int]:
        async with anyio.create_task_group() as group:
            group.start_soon(scene.attempt)
            await anyio.wait_all_tasks_blocked()
        yield 1

    async def inside() -> None:
        async for _ in generate():
            pass

    await scene.play(inside)


@every_async
async def test_through_a_walk_of_another_chain(scene: Scene) -> None:
    other = SrcuChain[Any, Any]("other")

    async def through(event: Any, data: Any) -> None:
        await scene.attempt()

    await other.register(through)
    await scene.play(lambda: other.call(1, None))


@every_async
async def test_through_a_thread(scene: Scene) -> None:
    await scene.play(lambda: anyio.from_thread.run(scene.attempt), thread=True)


@every_async
async def test_through_a_thread_into_a_task_group(scene: Scene) -> None:
    async def group() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(scene.attempt)

    await scene.play(lambda: anyio.from_thread.run(group), thread=True)


@every_async
async def test_no_alarm_for_a_worker_of_the_callers_own_group(scene: Scene) -> None:
    """The callback starts it, but in a group that was open before, for which nothing waits."""
    release = anyio.Event()

    async def start(event: Any, group: Any) -> None:
        if event == "start":
            group.start_soon(scene.attempt)
            await anyio.wait_all_tasks_blocked()
            assert scene.refused == scene.done == []
        await release.wait()

    await scene.chain.register(start)
    scene.victim = await scene.chain.register(nothing, priority=-1)
    async with anyio.create_task_group() as group:
        group.start_soon(scene.chain.call, "start", group)
        await anyio.wait_all_tasks_blocked()
        assert scene.refused == []
        release.set()
    assert scene.refused == []
    assert scene.done[:3] == ["unregister", "synchronize", "set_filter"]


@every_async
async def test_no_alarm_for_a_worker_of_the_host_of_the_walk(scene: Scene) -> None:
    """The walk runs in the very task that opened the group, within its body."""
    release = anyio.Event()

    async def wait(event: Any, data: Any) -> None:
        await release.wait()

    await scene.chain.register(wait)
    scene.victim = await scene.chain.register(nothing, priority=-1)

    async def worker() -> None:
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as inner:
            inner.start_soon(scene.attempt)
            await anyio.wait_all_tasks_blocked()
            assert scene.refused == scene.done == []
            release.set()

    async with anyio.create_task_group() as group:
        group.start_soon(worker)
        await scene.chain.call(1, None)
    assert scene.refused == []


async def test_srcu_no_alarm_for_a_block_that_the_own_walk_never_held() -> None:
    chain = SrcuChain[Any, Any]("chain")
    seen = []

    async def callback(event: Any, data: Any) -> None:
        async with chain.registered(nothing) as block:
            seen.append(block)
        await chain.unregister(await chain.register(nothing))

    await chain.register(callback)
    await chain.call(1, None)
    assert len(seen) == 1
    assert len(chain) == 1


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_native_asyncio_tasks_are_not_recognised(eager: bool) -> None:
    """There unregister_nosync is right; a task that nobody waits for must get no false alarm."""
    chain = SrcuChain[Any, Any]("chain")
    tasks = []
    factory = getattr(asyncio, "eager_task_factory", None)

    async def callback(event: Any, data: Any) -> None:
        tasks.append(asyncio.ensure_future(chain.unregister(victim)))
        await anyio.lowlevel.checkpoint()

    await chain.register(callback)
    victim = await chain.register(nothing, priority=-1)
    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory if eager else None)
    try:
        await chain.call(1, None)
        await tasks[0]
    finally:
        loop.set_task_factory(None)
    assert victim.chain is None


# The table of what is legal inside a callback, one cell each


async def outcome(work: Callable[[], Any]) -> str:
    try:
        await maybe_await(work())
    except WouldDeadlockError:
        return "WouldDeadlockError"
    except anyio.WouldBlock:
        return "WouldBlock"
    return "legal"


def sync_outcome(work: Callable[[], Any]) -> str:
    try:
        work()
    except WouldDeadlockError:
        return "WouldDeadlockError"
    except anyio.WouldBlock:
        return "WouldBlock"
    return "legal"


LEGAL = "legal"
DEADLOCK = "WouldDeadlockError"
BLOCK = "WouldBlock"
TABLE = {
    #                          Atomic    Raw    Blocking  SRCU
    "register": (LEGAL, LEGAL, DEADLOCK, LEGAL),
    "unregister": (LEGAL, LEGAL, DEADLOCK, DEADLOCK),
    "register_nowait": (LEGAL, LEGAL, BLOCK, LEGAL),
    "unregister_nowait": (LEGAL, LEGAL, BLOCK, BLOCK),
    "unregister_nosync": (LEGAL, LEGAL, LEGAL, LEGAL),
    "call": (LEGAL, LEGAL, LEGAL, LEGAL),
    "set_filter": (LEGAL, LEGAL, DEADLOCK, DEADLOCK),
    "set_filter_nowait": (None, None, BLOCK, BLOCK),
    "only": (LEGAL, LEGAL, LEGAL, LEGAL),
    "synchronize": (DEADLOCK, None, DEADLOCK, DEADLOCK),
}
CELLS = [
    (member, flavour, expected)
    for member, row in TABLE.items()
    for flavour, expected in zip(
        [AtomicChain, RawChain, BlockingChain, SrcuChain], row, strict=True
    )
    if expected is not None
]
SYNC_MEMBERS = {
    "register_nowait",
    "unregister_nowait",
    "unregister_nosync",
    "set_filter_nowait",
    "only",
}


def works(chain: Any, victim: Any) -> dict[str, Callable[[], Any]]:
    def only() -> None:
        with chain.only():
            pass

    return {
        "register": lambda: chain.register(nothing),
        "unregister": lambda: chain.unregister(victim),
        "register_nowait": lambda: chain.register_nowait(nothing),
        "unregister_nowait": lambda: chain.unregister_nowait(victim),
        "unregister_nosync": lambda: chain.unregister_nosync(victim),
        "call": lambda: chain.call("inner", None),
        "set_filter": lambda: chain.set_filter(lambda block: block is not victim),
        "set_filter_nowait": lambda: chain.set_filter_nowait(lambda block: block is not victim),
        "only": only,
        "synchronize": lambda: chain.synchronize(),
    }


@pytest.mark.parametrize(("member", "flavour", "expected"), CELLS)
async def test_inside_a_callback_of_its_own(member: str, flavour: Any, expected: str) -> None:
    chain = flavour("chain")
    seen = []

    def sync(event: Any, data: Any) -> None:
        if event == "outer":
            seen.append(sync_outcome(works(chain, victim)[member]))

    async def coloured(event: Any, data: Any) -> None:
        if event == "outer":
            seen.append(await outcome(works(chain, victim)[member]))

    is_sync = flavour in SYNC or member in SYNC_MEMBERS
    await maybe_await(chain.register(sync if is_sync else coloured))
    victim = await maybe_await(chain.register(nothing, priority=-1))
    with anyio.fail_after(20):
        await maybe_await(chain.call("outer", None))
    assert seen == [expected]
    assert (victim.chain is None) == (expected == LEGAL and member.startswith("unregister"))


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_outside_a_callback_all_of_it_is_legal(flavour: Any) -> None:
    for member in TABLE:
        chain = flavour("chain")
        victim = await maybe_await(chain.register(nothing))
        if hasattr(chain, member):
            assert await outcome(works(chain, victim)[member]) == LEGAL
