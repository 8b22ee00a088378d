"""A scope owns registrations and takes them all off, on every flavour."""

from __future__ import annotations

import contextvars
import threading
import weakref
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from tocsin import (
    AlreadyRegisteredError,
    AtomicChain,
    BlockingChain,
    InvalidTypeError,
    InvalidValueError,
    NotifierBlock,
    Scope,
    ScopeClosedError,
    SrcuChain,
    WouldDeadlockError,
    WrongLoopError,
)
from tocsin.scopes import ambient_scope

from .flavours import ASYNC, FLAVOURS, Held, Rig, maybe_await

pytestmark = pytest.mark.anyio


def hear(event: Any, data: Any) -> None:
    """Do nothing."""


@pytest.fixture(params=FLAVOURS)
async def rig(request: pytest.FixtureRequest, anyio_backend: str) -> Rig:
    return Rig(request.param)


# Registering under a scope.


async def test_a_scope_owns_what_is_registered_through_it(rig: Rig) -> None:
    scope = Scope("owner")
    first = await scope.register(rig.chain, hear, name="first", priority=1)
    second = scope.register_nowait(rig.chain, NotifierBlock(hear, name="second"))
    await rig.add("stranger")
    assert scope.blocks == (first, second)
    assert [block.owner for block in rig.chain.blocks] == [scope, scope, None]
    assert (first.priority, first.name) == (1, "first")
    assert repr(scope) == "<Scope 'owner' 2 blocks>"


async def test_what_the_chain_refuses_is_not_owned(rig: Rig) -> None:
    scope = Scope("owner")
    taken = await rig.add("taken")
    with pytest.raises(AlreadyRegisteredError):
        await scope.register(rig.chain, taken)
    with pytest.raises(InvalidTypeError):
        scope.register_nowait(rig.chain, hear, priority="high")  # type: ignore[arg-type]
    assert (scope.blocks, taken.owner) == ((), None)


async def test_closing_takes_everything_off_last_first(rig: Rig) -> None:
    off: list[str] = []

    class Watched(Scope):
        def forget(self, block: Any) -> None:
            off.append(block.name)
            super().forget(block)

    scope = Watched("owner")
    for name in ("a", "b", "c"):
        await scope.register(rig.chain, hear, name=name)
    stranger = await rig.add("stranger")
    scope.close()
    assert off == ["c", "b", "a"]
    assert rig.chain.blocks == (stranger,)
    assert (scope.blocks, scope.is_closed, repr(scope)) == ((), True, "<Scope 'owner' closed>")
    scope.close()
    await scope.aclose()


async def test_waiting_for_the_end_goes_last_first_over_several_chains() -> None:
    off: list[str] = []

    class Watched(Scope):
        def forget(self, block: Any) -> None:
            off.append(block.name)
            super().forget(block)

    async with Watched("owner") as scope:
        for flavour in FLAVOURS:
            await scope.register(flavour("chain"), hear, name=flavour.__name__)
    assert off == ["SrcuChain", "BlockingChain", "RawChain", "AtomicChain"]


async def test_registering_under_a_closed_scope_is_refused(rig: Rig) -> None:
    scope = Scope("owner")
    block = await rig.add("adopted")
    scope.close()
    with pytest.raises(ScopeClosedError, match="scope 'owner' is closed; register what must"):
        await scope.register(rig.chain, hear)
    with pytest.raises(ScopeClosedError):
        scope.register_nowait(rig.chain, hear)
    with pytest.raises(ScopeClosedError):
        scope.adopt(block)
    with pytest.raises(ScopeClosedError):
        scope.__enter__()
    with scope.ambient(), pytest.raises(ScopeClosedError):
        await rig.add("late")
    assert rig.chain.blocks == (block,)


async def test_a_scope_forgets_a_block_that_was_unregistered_elsewhere(rig: Rig) -> None:
    scope = Scope("owner")
    gone = await scope.register(rig.chain, hear)
    await rig.unregister(gone)
    assert (scope.blocks, gone.owner) == ((), None)
    await rig.register(gone)
    scope.close()
    assert rig.chain.blocks == (gone,)


async def test_a_scope_forgets_a_block_that_is_spent(rig: Rig) -> None:
    async with Scope("owner") as scope:
        await rig.add("once", once=True)
        await rig.call(1, None)
        assert scope.blocks == ()


async def test_a_block_that_is_gone_when_its_turn_comes_does_not_matter(rig: Rig) -> None:
    """Somebody else may win the race between looking and unregistering."""

    class Raced(Scope):
        def forget(self, block: Any) -> None:
            super().forget(block)
            for other in self.blocks:
                rig.chain.unregister_nosync(other)

    closes: list[Any] = [Scope.aclose, Scope.close]
    for close in closes:
        scope = Raced("owner")
        for name in ("a", "b", "c"):
            await scope.register(rig.chain, hear, name=name)
        await maybe_await(close(scope))
        assert (rig.chain.blocks, scope.blocks) == ((), ())


async def test_forgetting_a_strangers_block_leaves_it_to_its_owner(rig: Rig) -> None:
    scope = Scope("owner")
    block = await scope.register(rig.chain, hear)
    Scope("stranger").forget(block)
    assert scope.blocks == (block,)
    scope.forget(block)
    assert (block.owner, block.chain) == (None, rig.chain)


# Adopting.


async def test_adopting_moves_a_block_from_its_former_owner(rig: Rig) -> None:
    former, later = Scope("former"), Scope("later")
    block = await former.register(rig.chain, hear)
    later.adopt(block)
    assert (former.blocks, later.blocks, block.owner) == ((), (block,), later)
    later.adopt(block)
    former.close()
    assert rig.chain.blocks == (block,)
    later.close()
    assert rig.chain.is_empty


def test_only_a_registered_block_can_be_adopted() -> None:
    scope = Scope("owner")
    block = NotifierBlock(hear)
    with pytest.raises(InvalidValueError, match="'owner' cannot adopt block 'hear': it is on no"):
        scope.adopt(block)
    wrong: Any = hear
    with pytest.raises(InvalidTypeError, match="adopt the block that register gave you"):
        scope.adopt(wrong)
    assert (scope.blocks, block.owner) == ((), None)


async def test_a_scope_that_closes_while_it_adopts_keeps_nothing() -> None:
    chain = AtomicChain[Any]("chain")
    scope = Scope("owner")

    class Former(Scope):
        def forget(self, block: Any) -> None:
            super().forget(block)
            scope.close()  # as another thread might

    block = Former("former").register_nowait(chain, hear)
    with pytest.raises(ScopeClosedError):
        scope.adopt(block)
    assert (scope.blocks, block.owner, block.chain) == ((), None, chain)


# Ambient.


async def test_an_ambient_scope_owns_what_anybody_registers_inside(rig: Rig) -> None:
    scope = Scope("owner")
    with scope.ambient() as same:
        assert same is scope
        inside = await rig.add("inside")

        @rig.chain.subscriber
        def decorated(event: Any, data: Any) -> None: ...

    outside = await rig.add("outside")
    assert scope.blocks == (inside, decorated)
    assert outside.owner is None
    assert not scope.is_closed


async def test_the_innermost_ambient_scope_owns(rig: Rig) -> None:
    outer, inner = Scope("outer"), Scope("inner")
    with outer.ambient():
        with inner.ambient():
            first = await rig.add("first")
        second = await rig.add("second")
        third = await inner.register(rig.chain, hear)
    assert (outer.blocks, inner.blocks) == ((second,), (first, third))


async def test_a_scope_that_was_entered_twice_is_ambient_no_more(rig: Rig) -> None:
    scope = Scope("twice")
    with scope, scope:
        block = await rig.add("a")
        assert block.owner is scope
    assert ambient_scope() is None
    assert (await rig.add("b")).owner is None


async def test_child_tasks_inherit_the_ambient_scope(rig: Rig) -> None:
    async with Scope("owner") as scope, anyio.create_task_group() as tasks:
        tasks.start_soon(rig.add, "child")
        await anyio.wait_all_tasks_blocked()
        assert [block.name for block in scope.blocks] == ["child"]
    assert rig.chain.is_empty


async def test_worker_threads_inherit_it_and_bare_threads_do_not() -> None:
    chain = AtomicChain[Any]("chain")
    async with Scope("owner") as scope:
        worker = await anyio.to_thread.run_sync(chain.register, hear)
        bare = threading.Thread(target=lambda: chain.register(hear, name="bare"))
        bare.start()
        await anyio.to_thread.run_sync(bare.join)
        assert scope.blocks == (worker,)
    assert [block.name for block in chain.blocks] == ["bare"]


# Context managers.


async def test_with_is_ambient_and_closes(rig: Rig) -> None:
    with Scope("owner") as scope:
        await rig.add("inside")
        assert scope.blocks == rig.chain.blocks
    outside = await rig.add("outside")
    assert rig.chain.blocks == (outside,)
    assert scope.is_closed


async def test_everything_comes_off_after_an_error_too(rig: Rig) -> None:
    with pytest.raises(KeyError), Scope("owner"):
        await rig.add("inside")
        raise KeyError
    assert rig.chain.is_empty
    with pytest.raises(KeyError):
        async with Scope("owner"):
            await rig.add("inside")
            raise KeyError
    assert rig.chain.is_empty


async def test_everything_comes_off_when_the_task_is_cancelled(rig: Rig) -> None:
    with anyio.CancelScope() as cancelled:
        async with Scope("owner"):
            await rig.add("a")
            await rig.add("b")
            cancelled.cancel()
            await anyio.sleep_forever()
    assert rig.chain.is_empty


async def test_a_scope_that_is_left_in_another_context_closes_all_the_same(rig: Rig) -> None:
    with_scope = Scope("owner")
    contextvars.copy_context().run(with_scope.__enter__)
    await with_scope.register(rig.chain, hear)
    contextvars.copy_context().run(with_scope.__exit__, None, None, None)
    assert rig.chain.is_empty
    outside = await rig.add("outside")
    assert outside.owner is None


@pytest.mark.parametrize("flavour", ASYNC)
async def test_async_with_waits_until_nothing_of_it_is_running(flavour: Any) -> None:
    rig = Rig(flavour, colour="async")
    running, go = anyio.Event(), anyio.Event()

    async def slow(event: Any, data: Any) -> None:
        running.set()
        await go.wait()
        rig.log.append("slow ends")

    async def own() -> None:
        async with Scope("owner"):
            await rig.add("first")
            await rig.add("slow", slow)
            tasks.start_soon(rig.call, 1, None)
            await running.wait()
        rig.log.append("left")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(own)
        await anyio.wait_all_tasks_blocked()
        assert rig.drain() == ["first", "slow"]
        go.set()
    assert rig.drain() == ["slow ends", "left"]
    assert rig.chain.is_empty


@pytest.mark.parametrize("flavour", ASYNC)
async def test_with_does_not_wait(flavour: Any) -> None:
    rig = Rig(flavour, colour="async")
    slow = Held()

    async with anyio.create_task_group() as tasks:
        with Scope("owner"):
            await rig.add("slow", slow)
            tasks.start_soon(rig.call, 1, None)
            await slow.entered.wait()
        assert rig.chain.is_empty
        slow.release.set()


async def test_async_with_waits_for_atomic_callbacks_in_other_threads() -> None:
    chain = AtomicChain[int]("chain")
    running, go = threading.Event(), threading.Event()
    log: list[str] = []

    def slow(event: int, data: None) -> None:
        running.set()
        go.wait()
        log.append("slow ends")

    async def own() -> None:
        async with Scope("owner"):
            chain.register(slow)
            caller.start()
            await anyio.to_thread.run_sync(running.wait)
        log.append("left")

    caller = threading.Thread(target=chain.call, args=(1,))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(own)
        await anyio.to_thread.run_sync(running.wait)
        await anyio.wait_all_tasks_blocked()
        assert log == []
        go.set()
    caller.join()
    assert log == ["slow ends", "left"]


@pytest.mark.parametrize("wrong", ["", None, 5])
def test_a_scope_needs_a_name(wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match="scope's name"):
        Scope(wrong)


@pytest.mark.parametrize("wrong", ["orders", None])
async def test_a_scope_registers_on_chains_only(wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match="scope 'owner' registers on a chain, not"):
        Scope("owner").register_nowait(wrong, hear)
    with pytest.raises(InvalidTypeError, match="scope 'owner' registers on a chain, not"):
        await Scope("owner").register(wrong, hear)


async def test_a_cancelled_close_no_longer_waits_for_a_thread() -> None:
    chain, scope = AtomicChain[int]("chain"), Scope("owner")
    entered, finish = threading.Event(), threading.Event()

    def slow(event: int, data: None) -> None:
        entered.set()
        assert finish.wait(30)

    scope.register_nowait(chain, slow)
    caller = threading.Thread(target=chain.call, args=(1,))
    caller.start()
    try:
        await anyio.to_thread.run_sync(entered.wait)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scope.aclose)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert chain.is_empty
        assert caller.is_alive()
    finally:
        finish.set()
        caller.join()


async def test_a_scope_takes_nothing_more_while_it_waits() -> None:
    chain, scope, held = SrcuChain[Any, Any]("chain"), Scope("owner"), Held()
    await scope.register(chain, held)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(chain.call, 1, None)
        await held.entered.wait()
        tasks.start_soon(scope.aclose)
        await anyio.wait_all_tasks_blocked()
        assert scope.is_closed
        with pytest.raises(ScopeClosedError):
            await scope.register(chain, hear)
        held.release.set()


def test_a_closed_scope_leaves_the_block_that_it_cannot_adopt_to_its_owner() -> None:
    chain, owner, closed = AtomicChain[Any, Any]("chain"), Scope("owner"), Scope("closed")
    block = owner.register_nowait(chain, hear)
    closed.close()
    with pytest.raises(ScopeClosedError):
        closed.adopt(block)
    assert block.owner is owner
    assert owner.blocks == (block,)


async def test_closing_from_a_callback_in_a_thread_would_wait_for_itself() -> None:
    chain, scope, errors = AtomicChain[int]("chain"), Scope("owner"), list[Any]()

    def close(event: int, data: None) -> None:
        try:
            anyio.from_thread.run(scope.aclose)
        except WouldDeadlockError as error:
            errors.append(error)

    block = scope.register_nowait(chain, close)
    await anyio.to_thread.run_sync(chain.call, 1)
    assert "'chain'" in str(errors[0])
    assert block.chain is None


def test_closing_from_a_callback_that_runs_a_loop_would_wait_for_itself(
    anyio_backend: str,
) -> None:
    chain, scope, errors = AtomicChain[int]("chain"), Scope("owner"), list[Any]()

    def close(event: int, data: None) -> None:
        try:
            anyio.run(scope.aclose, backend=anyio_backend)
        except WouldDeadlockError as error:
            errors.append(error)

    scope.register_nowait(chain, close)
    chain.call(1)
    assert len(errors) == 1


async def test_closing_from_another_thread_waits_for_the_walk() -> None:
    """Both threads are in `from_thread.run`; only one of them is inside a walk of the chain."""
    chain, scope, log = AtomicChain[int]("chain"), Scope("owner"), list[str]()
    entered, go = anyio.Event(), anyio.Event()

    async def wait() -> None:
        entered.set()
        await go.wait()

    def slow(event: int, data: None) -> None:
        anyio.from_thread.run(wait)
        log.append("slow ends")

    def close() -> None:
        anyio.from_thread.run(scope.aclose)
        log.append("closed")

    scope.register_nowait(chain, slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, chain.call, 1)
        await entered.wait()
        tasks.start_soon(anyio.to_thread.run_sync, close)
        while chain.blocks:
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        assert log == []
        go.set()
    assert log == ["slow ends", "closed"]


@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_cancelled_wait_has_taken_everything_off(flavour: Any) -> None:
    rig = Rig(flavour, colour="async")
    slow = Held()

    async with anyio.create_task_group() as tasks:
        scope = Scope("owner")
        await scope.register(rig.chain, rig.callback("first"))
        await scope.register(rig.chain, rig.callback("slow", slow))
        tasks.start_soon(rig.call, 1, None)
        await slow.entered.wait()
        with anyio.move_on_after(0) as cancelled:
            await scope.aclose()
        assert cancelled.cancelled_caught
        assert (rig.chain.blocks, scope.blocks, scope.is_closed) == ((), (), True)
        slow.release.set()


# Closing where it cannot wait, or not unregister.


@pytest.mark.parametrize("flavour", ASYNC)
async def test_closing_inside_its_own_callback_is_refused_when_all_is_off(flavour: Any) -> None:
    rig = Rig(flavour, colour="async")
    scope = Scope("owner")

    async def closes(event: Any, data: Any) -> None:
        with pytest.raises(WouldDeadlockError):
            await scope.aclose()

    await scope.register(rig.chain, rig.callback("closes", closes))
    await rig.call(1, None)
    assert rig.drain() == ["closes"]
    assert rig.chain.is_empty


@pytest.mark.parametrize("flavour", ASYNC)
async def test_several_refusals_come_as_a_group(flavour: Any) -> None:
    rig = Rig(flavour, colour="async")
    scope = Scope("owner")

    async def closes(event: Any, data: Any) -> None:
        with pytest.raises(ExceptionGroup, match="closing scope 'owner' failed") as caught:
            await scope.aclose()
        assert [type(one) for one in caught.value.exceptions] == [WouldDeadlockError] * 2

    await scope.register(rig.chain, rig.callback("closes", closes))
    await scope.register(rig.chain, rig.callback("behind"))
    await rig.call(1, None)
    assert rig.drain() == ["closes"]
    assert rig.chain.is_empty


@pytest.mark.parametrize("flavour", [BlockingChain, SrcuChain])
async def test_a_foreign_thread_closes_what_it_can(flavour: Any) -> None:
    here, anywhere = flavour("here"), AtomicChain[Any]("anywhere")
    scope = Scope("owner")
    await scope.register(anywhere, hear)
    kept = await scope.register(here, hear)
    failures: list[BaseException] = []

    def close() -> None:
        try:
            scope.close()
        except WrongLoopError as error:
            failures.append(error)

    thread = threading.Thread(target=close)
    thread.start()
    await anyio.to_thread.run_sync(thread.join)
    assert len(failures) == 1
    assert (anywhere.blocks, here.blocks, scope.blocks) == ((), (kept,), (kept,))
    await scope.aclose()
    assert here.is_empty


def test_a_scope_needs_no_event_loop() -> None:
    chain = SrcuChain[Any]("chain")
    with Scope("owner") as scope:
        scope.register_nowait(chain, hear)
        assert len(chain) == 1
    assert chain.is_empty


# Blocks that left their chain while they were running


@pytest.mark.parametrize("flavour", [BlockingChain, SrcuChain])
@pytest.mark.parametrize("how", ["once", "unregister_nosync"])
async def test_closing_waits_for_a_block_that_left_while_it_was_running(
    flavour: Any, how: str
) -> None:
    chain = flavour("chain")
    release, log = anyio.Event(), []

    async def slow(event: Any, data: Any) -> None:
        await release.wait()
        log.append("callback")

    async def use_scope() -> None:
        async with Scope("scope") as scope:
            block = await chain.register(slow, once=how == "once")
            group.start_soon(chain.call, 1, None)
            await anyio.wait_all_tasks_blocked()
            if how != "once":
                chain.unregister_nosync(block)
            assert scope.blocks == ()
        log.append("closed")

    async with anyio.create_task_group() as group:
        group.start_soon(use_scope)
        await anyio.wait_all_tasks_blocked()
        assert log == []
        release.set()
    assert log == ["callback", "closed"]


async def test_closing_in_a_callback_of_a_block_that_left_would_deadlock_and_says_so() -> None:
    chain, scope = SrcuChain[Any, Any]("chain"), Scope("scope")

    async def close(event: Any, data: Any) -> None:
        with pytest.raises(WouldDeadlockError):
            await scope.aclose()

    block = await scope.register(chain, close, once=True)
    await chain.call(1, None)
    assert block.chain is None
    assert scope.is_closed


async def test_a_scope_forgets_blocks_that_left_and_have_ended() -> None:
    chain, scope = AtomicChain[Any, Any]("chain"), Scope("scope")
    gone: list[weakref.ref[Any]] = []
    for _ in range(3):
        block = scope.register_nowait(chain, lambda event, data: None, once=True)
        gone.append(weakref.ref(block))
        chain.call(1, None)
        del block
    assert [one() for one in gone] == [None, None, None]
    await scope.aclose()


async def test_a_scope_keeps_no_list_of_those_that_have_ended() -> None:
    chain, scope = AtomicChain[Any, Any]("chain"), Scope("scope")
    for _ in range(5):
        scope.register_nowait(chain, hear, once=True)
        chain.call(1, None)
        assert len(scope._left) <= 1
    await scope.aclose()
    assert scope._left == []


def test_closing_waits_for_a_walk_of_another_thread_that_a_block_left() -> None:
    chain, scope = AtomicChain[Any, Any]("chain"), Scope("scope")
    entered, release, log = threading.Event(), threading.Event(), []

    def slow(event: Any, data: Any) -> None:
        entered.set()
        assert release.wait(30)
        log.append("callback")

    async def close() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(scope.aclose)
            await anyio.wait_all_tasks_blocked()
            release.set()
        log.append("closed")

    scope.register_nowait(chain, slow, once=True)
    thread = threading.Thread(target=chain.call, args=(1, None))
    thread.start()
    try:
        assert entered.wait(30)
        anyio.run(close)
    finally:
        release.set()
        thread.join()
    assert log == ["callback", "closed"]
