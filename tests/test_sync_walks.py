"""A walk of sync callbacks alone is counted by nobody, and no promise is the worse for it.

It cannot suspend, so whoever asks while it runs was called from it: by driving a coroutine by hand,
by a task that starts eagerly, by an event loop that runs inside a callback.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tocsin import BlockingChain, RawChain, Scope, SrcuChain, WouldDeadlockError

from .flavours import ASYNC

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

every_async = pytest.mark.parametrize("flavour", ASYNC)
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


def nothing(event: Any, data: Any) -> None:
    return None


def waits(chain: Any, victim: Any) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
    """Give what has to wait for a walk that holds the victim."""
    works: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "unregister": lambda: chain.unregister(victim),
        "synchronize": chain.synchronize,
        "set_filter": lambda: chain.set_filter(lambda block: block is not victim),
    }
    if isinstance(chain, BlockingChain):
        works["register"] = lambda: chain.register(nothing)
    return works


def start_eagerly(coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start a task in the middle of another one's step, as the eager task factory does."""
    loop: Any = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        return asyncio.Task(coro, loop=loop, eager_start=True)
    task: Any = asyncio.tasks._PyTask(coro, loop=loop)  # type: ignore[attr-defined,unused-ignore]
    loop._ready.pop()  # its first step, which is taken here
    within_another_task(task._Task__step)
    return task  # type: ignore[no-any-return]


def run_nested(turns: int) -> None:
    """Let the event loop go on for some turns, as patches that nest event loops do."""
    loop: Any = asyncio.get_running_loop()
    for _ in range(turns):
        loop.call_soon(nothing, None, None)  # so that it does not wait for anything
        within_another_task(loop._run_once)


def within_another_task(step: Callable[[], object]) -> None:
    """Take a step of another task, this one being in the middle of its own."""
    loop = asyncio.get_running_loop()
    caller: Any = asyncio.current_task(loop)
    asyncio.tasks._leave_task(loop, caller)
    try:
        step()
    finally:
        asyncio.tasks._enter_task(loop, caller)


@pytest.mark.anyio
@pytest.mark.parametrize("member", ["unregister", "synchronize", "set_filter", "register"])
@every_async
async def test_what_is_driven_by_hand_in_a_callback_would_wait_for_itself(
    flavour: Any, member: str
) -> None:
    chain, errors = flavour("chain"), list[Any]()

    def callback(event: Any, data: Any) -> None:
        work = waits(chain, victim).get(member)
        if work is not None:
            with pytest.raises(WouldDeadlockError) as caught:
                work().send(None)
            errors.append(caught.value)

    await chain.register(callback)
    victim = await chain.register(nothing, priority=-1)
    await chain.call("event")
    assert len(errors) == (member in waits(chain, victim))
    assert chain.blocks[1:] == (victim,)
    assert chain.statistics() == (2, 0, 0, 0)


@every_async
def test_so_would_it_without_an_event_loop(flavour: Any) -> None:
    chain, seen = flavour("chain"), list[int]()

    def callback(event: Any, data: Any) -> None:
        with pytest.raises(WouldDeadlockError):
            chain.unregister(block).send(None)
        seen.append(chain.statistics().walks_running)

    block = chain.register_nowait(callback)
    with pytest.raises(StopIteration):
        chain.call("event").send(None)
    assert seen == [1]
    assert block in chain


@pytest.mark.anyio
@on_asyncio
@pytest.mark.parametrize("member", ["unregister", "synchronize", "set_filter", "register"])
@every_async
async def test_a_task_that_starts_eagerly_in_a_callback_waits_for_its_end(
    flavour: Any, member: str
) -> None:
    chain, log = flavour("chain"), list[str]()
    tasks: list[asyncio.Task[Any]] = []

    async def wait() -> None:
        await waits(chain, victim)[member]()
        log.append(member)

    def callback(event: Any, data: Any) -> None:
        if member in waits(chain, victim):
            tasks.append(start_eagerly(wait()))
            assert chain.statistics().walks_running == 1
            assert len(chain) == (2 if isinstance(chain, BlockingChain) else len(chain))
        log.append("callback")

    await chain.register(callback)
    victim = await chain.register(nothing, priority=-1)
    await chain.call("event")
    assert log == ["callback"]
    for task in tasks:
        await task
        assert log == ["callback", member]
    assert chain.statistics().walks_running == 0


@pytest.mark.anyio
@on_asyncio
@every_async
async def test_an_event_loop_that_runs_in_a_callback_does_not_end_the_wait_for_it(
    flavour: Any,
) -> None:
    chain, log = flavour("chain"), list[str]()
    tasks: list[asyncio.Task[Any]] = []

    async def unregister() -> None:
        await chain.unregister(block)
        log.append("unregistered")

    def callback(event: Any, data: Any) -> None:
        tasks.append(asyncio.ensure_future(unregister()))
        run_nested(5)
        log.append("callback")

    block = await chain.register(callback)
    await chain.call("event")
    await tasks[0]
    assert log == ["callback", "unregistered"]


@pytest.mark.anyio
@on_asyncio
async def test_blocking_no_registration_overlaps_a_walk_because_an_inner_one_ends() -> None:
    chain = BlockingChain[Any, Any]("chain")
    tasks: list[asyncio.Task[Any]] = []
    seen = []

    def callback(event: Any, data: Any) -> None:
        if event == "outer":
            tasks.append(start_eagerly(chain.register(nothing)))
            for inner in chain.call("inner"), chain.call_report("inner"):
                with pytest.raises(StopIteration):
                    inner.send(None)
            run_nested(3)
        seen.append((event, len(chain)))

    await chain.register(callback)
    await chain.call("outer")
    await tasks[0]
    assert seen == [("inner", 1), ("inner", 1), ("outer", 1)]
    assert len(chain) == 2


@pytest.mark.anyio
@on_asyncio
async def test_srcu_an_eager_wait_that_is_cancelled_has_taken_effect() -> None:
    chain, tasks = SrcuChain[Any, Any]("chain"), list[asyncio.Task[Any]]()

    def callback(event: Any, data: Any) -> None:
        tasks.append(start_eagerly(chain.unregister(block)))
        tasks[0].cancel()

    block = await chain.register(callback)
    await chain.call("event")
    await asyncio.wait(tasks)
    assert tasks[0].cancelled()
    assert block.chain is None


@pytest.mark.anyio
@every_async
async def test_a_walk_whose_exception_somebody_keeps_is_over(flavour: Any) -> None:
    """The traceback holds the frame of the walk, and that its snapshot."""

    class KeptError(Exception):
        pass

    def callback(event: Any, data: Any) -> None:
        raise KeptError

    chain = flavour("chain")
    block = await chain.register(callback)
    with pytest.raises(KeptError) as kept:
        await chain.call("event")
    with anyio.fail_after(20):
        await chain.unregister(block)
        await chain.synchronize()
    assert kept.value.__traceback__ is not None
    assert chain.statistics() == (0, 0, 0, 0)


@pytest.mark.anyio
async def test_a_scope_closed_by_hand_in_an_acall_would_wait_for_itself() -> None:
    chain, scope, seen = RawChain[Any, Any]("chain"), Scope("plugin"), []

    def callback(event: Any, data: Any) -> None:
        with pytest.raises(WouldDeadlockError):
            scope.aclose().send(None)
        seen.append(event)

    scope.register_nowait(chain, callback)
    await chain.acall("event")
    assert seen == ["event"]
    await scope.aclose()
    assert chain.is_empty


@pytest.mark.anyio
@every_async
async def test_the_nowait_forms_would_block_in_a_call_and_in_one_within_it(flavour: Any) -> None:
    chain, depth = flavour("chain"), []

    def callback(event: Any, data: Any) -> None:
        depth.append(event)
        if event == "outer":
            with pytest.raises(StopIteration):
                chain.call("inner").send(None)
        with pytest.raises(anyio.WouldBlock):
            chain.unregister_nowait(block)
        assert chain.statistics().walks_running == len(depth)
        depth.pop()

    block = await chain.register(callback)
    await chain.call("outer")
    chain.unregister_nowait(block)
