"""Finding the walks that the running code stands inside of, at its edges."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Self

import anyio
import pytest
import trio

from tocsin import SrcuChain, WouldDeadlockError
from tocsin.ancestry import (
    _frame_of,
    _hosts,
    blocked_tasks,
    enclosing_walks,
    own_walks,
    thread_walks,
)
from tocsin.bands import ASYNC_WALKS, CONCURRENCY
from tocsin.careful_calls import SYNC_WALKS

from .flavours import ASYNC


def nothing(event: Any, data: Any) -> None:
    return None


def look(chain: Any) -> list[Any]:
    return [*own_walks(chain, ASYNC_WALKS), *enclosing_walks(chain, ASYNC_WALKS)]


def test_without_an_event_loop_the_frames_alone_tell() -> None:
    chain = SrcuChain[Any, Any]("chain")
    seen: list[Any] = []
    assert look(chain) == []
    chain.register_nowait(lambda event, data: seen.extend(look(chain)))
    with pytest.raises(StopIteration):
        chain.call(1, None).send(None)
    assert len(seen) == 2
    assert seen[0] is seen[1]


def test_a_callback_of_the_loop_itself_belongs_to_no_task() -> None:
    chain, seen = SrcuChain[Any, Any]("chain"), []

    async def main() -> None:
        done = asyncio.Event()

        def callback() -> None:
            done.set()
            seen.append(look(chain))

        asyncio.get_running_loop().call_soon(callback)
        await done.wait()

    anyio.run(main)
    assert seen == [[]]


def test_what_has_no_frame_is_no_walk() -> None:
    assert _frame_of(object()) is None
    assert thread_walks(object(), SYNC_WALKS) == {}


@pytest.mark.anyio
@pytest.mark.parametrize("flavour", ASYNC)
async def test_no_alarm_through_a_thread_that_stands_in_another_chain(flavour: Any) -> None:
    chain, other = flavour("chain"), SrcuChain[Any, Any]("other")
    release, log = anyio.Event(), []

    async def slow(event: Any, data: Any) -> None:
        await release.wait()
        log.append("walk")

    async def unregister() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(chain.unregister, block)
            await anyio.wait_all_tasks_blocked()
            release.set()
        log.append("unregistered")

    block = await chain.register(slow)
    await other.register(lambda event, data: anyio.from_thread.run(unregister), thread=True)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, 1, None)
        await anyio.wait_all_tasks_blocked()
        await other.call(1, None)
    assert log == ["walk", "unregistered"]


@pytest.mark.anyio
@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_group_that_is_entered_by_hand_is_not_claimed(flavour: Any) -> None:
    """Nothing on the callback's frame says that it will wait for that group."""
    chain, log = flavour("chain"), []

    async def child(block: Any) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await chain.unregister(block)
        log.append("gave up" if scope.cancelled_caught else "unregistered")

    async def callback(event: Any, data: Any) -> None:
        group = anyio.create_task_group()
        await group.__aenter__()
        group.start_soon(child, block)
        await anyio.wait_all_tasks_blocked()
        scopes[0].cancel()
        await group.__aexit__(None, None, None)

    scopes: list[anyio.CancelScope] = []
    block = await chain.register(callback)
    await chain.call(1, None)
    assert log == ["gave up"]
    assert block.chain is None


@pytest.mark.anyio
@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_deadlock_through_two_threads_is_seen(flavour: Any) -> None:
    """Each hop leads to the task whose thread it came from, not to itself."""
    outer, inner, errors = flavour("outer"), SrcuChain[Any, Any]("inner"), list[Any]()

    async def unregister() -> None:
        try:
            with anyio.fail_after(20):
                await outer.unregister(block)
        except WouldDeadlockError as error:
            errors.append(error)

    block = await outer.register(
        lambda event, data: anyio.from_thread.run(inner.call, "x", None), thread=True
    )
    await inner.register(lambda event, data: anyio.from_thread.run(unregister), thread=True)
    await outer.call("x", None)
    assert len(errors) == 1
    assert block.chain is outer


class Service:
    """A manager of the user's own, which enters a task group by hand."""

    async def __aenter__(self) -> Self:
        self.group = anyio.create_task_group()
        await self.group.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        return await self.group.__aexit__(*error)


@pytest.mark.anyio
@pytest.mark.parametrize("flavour", ASYNC)
@pytest.mark.parametrize("holder", ["service", "exit stack"])
async def test_a_group_that_somebody_entered_on_behalf_of_the_callback_is_seen(
    flavour: Any, holder: str
) -> None:
    chain, errors, done = flavour("chain"), list[Any](), anyio.Event()

    async def unregister() -> None:
        try:
            with anyio.fail_after(20):
                await chain.unregister(block)
        except WouldDeadlockError as error:
            errors.append(error)
        done.set()

    async def callback(event: Any, data: Any) -> None:
        if holder == "service":
            async with Service() as service:
                service.group.start_soon(unregister)
                await done.wait()
            return
        stack = AsyncExitStack()
        group = await stack.enter_async_context(anyio.create_task_group())
        group.start_soon(unregister)
        await done.wait()
        await stack.aclose()

    block = await chain.register(callback)
    await chain.call(1, None)
    assert len(errors) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("flavour", ASYNC)
async def test_no_alarm_where_a_manager_in_the_callback_only_keeps_an_outer_group(
    flavour: Any,
) -> None:
    chain, log = flavour("chain"), []
    release = anyio.Event()

    class Keeper:
        def __init__(self, group: Any) -> None:
            self.group = group

        async def __aenter__(self) -> None:
            self.group.start_soon(unregister)

        async def __aexit__(self, *error: Any) -> None:
            return None

    async def unregister() -> None:
        await chain.unregister(block)
        log.append("unregistered")

    async def callback(event: Any, group: Any) -> None:
        async with Keeper(group):
            await anyio.wait_all_tasks_blocked()
            release.set()
        log.append("callback")

    block = await chain.register(callback)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, 1, group)
        await release.wait()
    assert log == ["callback", "unregistered"]


@pytest.mark.parametrize("keeps", ["manager", "nursery"])
def test_a_trio_nursery_is_a_group_too(keeps: str) -> None:
    chain, errors, done = SrcuChain[Any, Any]("chain"), list[Any](), trio.Event()

    class Keeper:
        async def __aenter__(self) -> Any:
            manager = trio.open_nursery()
            nursery = await manager.__aenter__()
            self.kept = manager if keeps == "manager" else nursery
            self.leave = manager.__aexit__
            return nursery

        async def __aexit__(self, *error: Any) -> Any:
            return await self.leave(*error)

    async def unregister() -> None:
        with pytest.raises(WouldDeadlockError) as caught, anyio.fail_after(20):
            await chain.unregister(block)
        errors.append(caught.value)
        done.set()

    async def callback(event: Any, data: Any) -> None:
        async with Keeper() as nursery:
            nursery.start_soon(unregister)
            await done.wait()

    block = chain.register_nowait(callback)
    anyio.run(chain.call, 1, None, backend="trio")
    assert len(errors) == 1


@pytest.mark.parametrize("native", [False, True])
def test_a_native_nursery_of_the_callback_is_seen(native: bool) -> None:
    chain, errors = SrcuChain[Any, Any]("chain"), list[Any]()

    async def unregister() -> None:
        with pytest.raises(WouldDeadlockError) as caught, anyio.fail_after(20):
            await chain.unregister(block)
        errors.append(caught.value)

    async def callback(event: Any, data: Any) -> None:
        if native:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(unregister)
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(unregister)

    block = chain.register_nowait(callback)
    anyio.run(chain.call, 1, None, backend="trio")
    assert len(errors) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_child_of_an_outer_group_that_the_callback_starts_is_waited_for(
    flavour: Any,
) -> None:
    chain, errors = flavour("chain"), list[Any]()

    async def child(*, task_status: Any) -> None:
        with pytest.raises(WouldDeadlockError) as caught:
            await chain.unregister(block)
        errors.append(caught.value)
        task_status.started()

    async def callback(event: Any, group: Any) -> None:
        with anyio.fail_after(20):
            await group.start(child)

    block = await chain.register(callback)
    async with anyio.create_task_group() as group:
        await chain.call(1, group)
    assert len(errors) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("hosted", [False, True])
@pytest.mark.parametrize("flavour", ASYNC)
async def test_no_alarm_for_a_child_that_said_it_has_started(flavour: Any, hosted: bool) -> None:
    chain, log = flavour("chain"), []
    release = anyio.Event()

    async def child(*, task_status: Any) -> None:
        task_status.started()
        await chain.unregister(block)
        log.append("unregistered")

    async def callback(event: Any, group: Any) -> None:
        await group.start(child)
        await release.wait()
        log.append("callback")

    async def let_go() -> None:
        await anyio.wait_all_tasks_blocked()
        release.set()

    block = await chain.register(callback)
    async with anyio.create_task_group() as group:
        group.start_soon(let_go)
        if hosted:
            await chain.call(1, group)
        else:
            group.start_soon(chain.call, 1, group)
    assert log == ["callback", "unregistered"]


@pytest.mark.anyio
@pytest.mark.parametrize("flavour", ASYNC)
async def test_no_alarm_inside_a_start_of_somebody_elses_that_keeps_an_outer_group(
    flavour: Any,
) -> None:
    chain, log = flavour("chain"), []
    release = anyio.Event()

    class Service:
        def __init__(self, group: Any) -> None:
            self.group = group

        async def start(self) -> None:
            self.group.start_soon(unregister)
            await release.wait()

    async def unregister() -> None:
        await chain.unregister(block)
        log.append("unregistered")

    async def callback(event: Any, group: Any) -> None:
        await Service(group).start()
        log.append("callback")

    block = await chain.register(callback)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, 1, group)
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert log == ["callback", "unregistered"]


@pytest.mark.anyio
@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_child_that_a_worker_starts_in_the_group_of_its_host_is_waited_for(
    flavour: Any,
) -> None:
    """The parent of the child is the worker, until it has started."""
    chain, errors = flavour("chain"), list[Any]()

    async def child(*, task_status: Any) -> None:
        with pytest.raises(WouldDeadlockError) as caught:
            await chain.unregister(block)
        errors.append(caught.value)
        task_status.started()

    async def callback(event: Any, group: Any) -> None:
        with anyio.fail_after(20):
            await group.start(child)

    async def worker(group: Any) -> None:
        await chain.call(1, group)

    async def worker_without_a_scope(event: Any, group: Any) -> None:
        await group.start(child)

    block = await chain.register(callback)
    async with anyio.create_task_group() as group:
        group.start_soon(worker, group)
    await chain.unregister(block)
    block = await chain.register(worker_without_a_scope)
    async with anyio.create_task_group() as group:
        group.start_soon(worker, group)
    assert len(errors) == 2


@pytest.mark.anyio
async def test_the_parent_of_a_task_is_among_the_few_that_are_looked_at_first() -> None:
    async def child() -> None:
        me = anyio.get_current_task()
        assert me.parent_id in [id(one) for one in _hosts(me)]

    async with anyio.create_task_group() as group:
        with anyio.CancelScope():
            group.start_soon(child)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_holds_a_group_out_of_sight_is_not_claimed_to_be_blocked(backend: str) -> None:
    seen: list[Any] = []

    async def child() -> None:
        seen.extend(blocked_tasks(CONCURRENCY))

    async def main() -> None:
        group = anyio.create_task_group()
        await group.__aenter__()
        group.start_soon(child)
        await anyio.wait_all_tasks_blocked()
        await group.__aexit__(None, None, None)

    anyio.run(main, backend=backend)
    assert len(seen) == 1


async def refusals_in_a_grandchild(chain: Any) -> list[WouldDeadlockError]:
    """Unregister in a task of a task of the callback."""
    errors = list[WouldDeadlockError]()

    async def grandchild() -> None:
        with pytest.raises(WouldDeadlockError) as caught:
            await chain.unregister(block)
        errors.append(caught.value)

    async def child() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(grandchild)

    async def callback(event: Any, data: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(child)

    block = await chain.register(callback)
    await chain.call("event")
    return errors


@pytest.mark.anyio
@pytest.mark.parametrize("flavour", ASYNC)
async def test_parents_are_found_without_a_look_at_all_tasks(
    flavour: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(anyio, "get_running_tasks")
    assert len(await refusals_in_a_grandchild(flavour("chain"))) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("flavour", ASYNC)
async def test_parents_are_found_by_their_number_where_nothing_else_tells_them(
    flavour: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What anyio keeps for itself may be another in its next version."""
    monkeypatch.setattr("tocsin.ancestry._hosts", lambda child: iter(()))
    assert len(await refusals_in_a_grandchild(flavour("chain"))) == 1
