"""`registrations_restored`: afterwards a chain or a bus is as before, whatever happened inside."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from anyio.from_thread import start_blocking_portal
from structlog.testing import capture_logs

from tocsin import (
    NOTIFY_DONE,
    AlreadyRegisteredError,
    AtomicChain,
    BlockingChain,
    Bus,
    InvalidTypeError,
    NameFilter,
    NotifierBlock,
    Observer,
    RawChain,
    Scope,
    SrcuChain,
    loops,
)
from tocsin.testing import Recorder, inject_errors, registrations_restored, threads

from .flavours import ASYNC, FLAVOURS, Held, Rig, blocked_loop

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


@pytest.fixture(params=FLAVOURS)
async def rig(request: pytest.FixtureRequest, anyio_backend: str) -> Rig:
    return Rig(request.param)


def state(chain: Any) -> tuple[Any, ...]:
    """Give all that has to be restored, and all that must fit together with it."""
    for block in (*chain.blocks, *chain.parked):
        assert block.chain is chain
    row = (*chain.blocks, *chain.parked)
    return chain.blocks, chain.parked, chain.filter, [(one.owner, one._nb_sequence) for one in row]


def kept(chain: Any, **more: Any) -> Any:
    """Check that a chain is restored in fact."""
    return checked(chain, [chain], **more)


@contextmanager
def checked(
    target: Any, chains: list[Any], *, error: type[Exception] | None = None
) -> Iterator[None]:
    before = [state(chain) for chain in chains]
    with suppress(*([error] if error else [])), registrations_restored(target):
        yield
        if error is not None:
            raise error
    assert [state(chain) for chain in chains] == before


# Membership and order.


async def test_a_block_that_was_registered_inside_is_off_and_is_never_entered_again(
    rig: Rig,
) -> None:
    with kept(rig.chain):
        added = await rig.add("added")
        await rig.call(1, None)
    await rig.call(1, None)
    assert rig.drain() == ["added"]
    assert added.chain is None
    await rig.register(added)  # and can be registered again


async def test_a_block_that_was_taken_off_inside_is_back_at_its_old_place(rig: Rig) -> None:
    blocks = [await rig.add(name) for name in "abc"]
    high = await rig.add("high", priority=1)
    with kept(rig.chain):
        await rig.unregister(blocks[1])
        rig.chain.unregister_nosync(high)
        await rig.call(1, None)
        assert rig.drain() == ["a", "c"]
    await rig.call(1, None)
    assert rig.drain() == ["high", "a", "b", "c"]
    assert blocks[1].chain is rig.chain


async def test_a_block_that_was_registered_again_inside_is_back_at_its_old_place(rig: Rig) -> None:
    blocks = [await rig.add(name) for name in "abc"]
    with kept(rig.chain):
        for block in blocks[:2]:
            await rig.unregister(block)
            await rig.register(block)
        await rig.call(1, None)
        assert rig.drain() == ["c", "a", "b"]
    await rig.call(1, None)
    assert rig.drain() == ["a", "b", "c"]
    await rig.unregister(blocks[0])
    with kept(rig.chain):
        await rig.add("d")
    assert rig.chain.blocks == tuple(blocks[1:])


async def test_places_that_were_asked_for_are_kept(rig: Rig) -> None:
    blocks = {name: await rig.add(name) for name in "abc"}
    first = await rig.add("first", before="b")
    with kept(rig.chain):
        await rig.unregister(first)
        await rig.unregister(blocks["a"])
        await rig.add("intruder", before="c", after="b")
    await rig.call(1, None)
    assert rig.drain() == ["a", "first", "b", "c"]


async def test_an_exception_inside_passes_and_all_is_restored(rig: Rig) -> None:
    gone = await rig.add("gone")
    with kept(rig.chain, error=KeyError):
        await rig.unregister(gone)
        await rig.add("added")


async def test_a_chain_that_nobody_has_changed_stays_as_it_is(rig: Rig) -> None:
    await rig.add("a", events=[1])
    with kept(rig.chain):
        await rig.call(1, None)
    await rig.call(1, None)
    await rig.call(2, None)
    assert rig.drain() == ["a", "a"]


async def test_nested_contexts_each_restore_what_they_found(rig: Rig) -> None:
    first = await rig.add("first")
    with kept(rig.chain):
        second = await rig.add("second")
        with kept(rig.chain):
            await rig.unregister(first)
            await rig.unregister(second)
        assert rig.chain.blocks == (first, second)
    assert rig.chain.blocks == (first,)


async def test_events_and_async_callbacks_are_found_by_the_calls_afterwards(rig: Rig) -> None:
    flavour = type(rig.chain)
    rig.colour = "async" if flavour in ASYNC else "sync"
    routed = await rig.add("routed", events=["placed"])
    with kept(rig.chain):
        await rig.unregister(routed)
        await rig.add("added", events=["sent"])
        await rig.call("sent", None)
    for event in ("placed", "sent"):
        await rig.call(event, None)
    assert rig.drain() == ["added", "routed"]


async def test_who_stays_inside_is_not_counted_twice(anyio_backend: str) -> None:
    chain, slow = RawChain[int, None]("chain"), Rig(RawChain, colour="async").callback("slow")
    block = chain.register(slow)
    with registrations_restored(chain):
        pass
    chain.unregister(block)
    assert chain.call(1, None) == NOTIFY_DONE


# Walks under way.


@pytest.mark.parametrize("flavour", ASYNC)
async def test_d3_a_walk_that_began_inside_does_not_reach_who_was_added(flavour: Any) -> None:
    chain, held, added = flavour("chain"), Held(), Recorder[Any, Any]()
    kept_block = await chain.register(Recorder[Any, Any](name="kept"))
    async with anyio.create_task_group() as group:
        with registrations_restored(chain):
            await chain.register(held, priority=1)
            await chain.register(added)
            group.start_soon(chain.call, 1, None)
            await held.entered.wait()
        assert chain.blocks == (kept_block,)
        held.release.set()
    added.assert_not_called()
    kept_block.assert_called_once_with(1)
    assert chain.statistics().walks_running == 0


@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_walk_under_way_does_not_come_back_to_who_comes_back(flavour: Any) -> None:
    chain, held = flavour("chain"), Held()
    holder = await chain.register(held, priority=1)
    gone = await chain.register(Recorder[Any, Any]())
    async with anyio.create_task_group() as group:
        with registrations_restored(chain):
            group.start_soon(chain.call, 1, None)
            await held.entered.wait()
            chain.unregister_nosync(gone)
        held.release.set()
    gone.assert_not_called()
    assert chain.blocks == (holder, gone)
    await chain.call(1, None)
    gone.assert_called_once_with(1)


async def test_it_is_legal_inside_a_callback(rig: Rig) -> None:
    other = await rig.add("other")

    def undo(event: Any, data: Any) -> None:
        if event == 1:
            with kept(rig.chain):
                rig.chain.unregister_nosync(other)

    await rig.add("undo", undo, priority=1)
    await rig.call(1, None)
    assert rig.drain() == ["undo"]  # taken off, the other one is gone from this walk
    await rig.call(2, None)
    assert rig.drain() == ["undo", "other"]


# Filters.


async def test_filter_and_parked_blocks_are_as_before(rig: Rig) -> None:
    for name in ("a", "b", "c"):
        await rig.add(name)
    await rig.set_filter(NameFilter(["a"]))
    parked = rig.chain.parked
    with kept(rig.chain):
        await rig.set_filter(~NameFilter(["a"]))
        await rig.unregister(parked[1])
        await rig.add("later")
    await rig.call(1, None)
    assert rig.drain() == ["a"]
    await rig.set_filter(None)
    await rig.call(1, None)
    assert rig.drain() == ["a", "b", "c"]


async def test_d3_who_is_parked_again_is_not_called_by_a_walk_under_way(rig: Rig) -> None:
    log = rig.log
    await rig.add("parked", lambda event, data: log.append("heard"))
    await rig.set_filter(NameFilter(["undo"]))
    stack = ExitStack()
    stack.enter_context(registrations_restored(rig.chain))
    await rig.set_filter(None)
    await rig.add("undo", lambda event, data: stack.close(), priority=1)
    await rig.call(1, None)
    assert rig.drain() == ["undo"]
    assert len(rig.chain.parked) == 1


async def test_a_layer_that_was_begun_inside_ends_with_it(rig: Rig) -> None:
    await rig.add("a")
    with ExitStack() as stack:
        with kept(rig.chain):
            stack.enter_context(rig.chain.only())
            assert rig.chain.is_empty
        assert len(rig.chain) == 1
    assert len(rig.chain) == 1


async def test_a_layer_around_it_stays(rig: Rig) -> None:
    await rig.add("a")
    with rig.chain.only():
        with kept(rig.chain):
            await rig.add("b")
        assert rig.chain.is_empty
    assert [block.name for block in rig.chain] == ["a"]


async def test_a_layer_that_was_left_inside_stays_away(rig: Rig) -> None:
    blocks = [await rig.add(name) for name in ("a", "b", "c")]
    await rig.set_filter(~NameFilter(["c"]))
    watcher = Watcher()
    with ExitStack() as stack:
        stack.enter_context(rig.chain.only("a"))
        with registrations_restored(rig.chain):
            stack.close()
            await rig.unregister(blocks[1])
            rig.chain.observe(watcher)
    assert rig.chain.blocks == tuple(blocks[:2])
    assert rig.chain.parked == (blocks[2],)
    assert watcher.seen == [("registered", "b")]
    assert rig.chain.unmatched_names == ()
    await rig.add("later")
    await rig.call(1, None)
    assert rig.drain() == ["a", "b", "later"]


async def test_whom_a_layer_around_it_leaves_out_stays_parked(rig: Rig) -> None:
    await rig.add("a")
    with ExitStack() as stack, rig.chain.only():
        stack.enter_context(rig.chain.only("a"))
        with registrations_restored(rig.chain):
            stack.close()
        assert rig.chain.is_empty
    assert len(rig.chain) == 1


async def test_a_filter_that_fails_leaves_parked_whom_a_layer_that_was_left_had_parked(
    rig: Rig,
) -> None:
    fails = False

    def admits(block: Any) -> bool:
        if fails:
            raise KeyError(block.name)
        return True

    await rig.set_filter(admits)
    parked = await rig.add("a")
    with ExitStack() as stack, capture_logs() as logs:
        stack.enter_context(rig.chain.only())
        with registrations_restored(rig.chain):
            stack.close()
            fails = True
    assert rig.chain.parked == (parked,)
    assert [entry["event"] for entry in logs] == ["a block stays parked: a filter failed"]


@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_block_in_a_worker_thread_runs_again_after_it_was_parked_and_is_back(
    flavour: Any,
) -> None:
    chain = flavour("chain")
    recorder = await chain.register(Recorder[Any, Any](thread=True))
    await chain.call(1, None)
    with kept(chain):
        await chain.set_filter(NameFilter(()))
    await chain.call(2, None)
    recorder.assert_order(1, 2)


# Blocks of a special kind, and where they have been.


async def test_a_spent_block_with_once_is_back_and_may_run_again(rig: Rig) -> None:
    await rig.add("once", once=True)
    for _ in range(2):
        with kept(rig.chain):
            await rig.call(1, None)
            await rig.call(1, None)
            assert rig.chain.is_empty
        assert rig.drain() == ["once"]


async def test_a_block_with_once_that_was_only_parked_still_runs_once(rig: Rig) -> None:
    await rig.add("once", once=True)
    with kept(rig.chain):
        await rig.set_filter(NameFilter(()))
    for _ in range(2):
        await rig.call(1, None)
    assert rig.drain() == ["once"]


async def test_owners_are_as_before(rig: Rig) -> None:
    first, second = Scope("first"), Scope("second")
    owned = [first.register_nowait(rig.chain, rig.callback(name), name=name) for name in ("a", "b")]
    free = await rig.add("free")
    with kept(rig.chain):
        await rig.unregister(owned[0])
        second.adopt(owned[1])
        first.adopt(free)
        second.register_nowait(rig.chain, rig.callback("added"))
    assert set(first.blocks) == {*owned}
    assert second.blocks == ()
    first.close()
    assert rig.chain.blocks == (free,)


async def test_a_block_whose_scope_was_closed_inside_is_back_without_an_owner(rig: Rig) -> None:
    scope = Scope("module")
    block = scope.register_nowait(rig.chain, rig.callback("a"))
    with registrations_restored(rig.chain):
        scope.close()
    assert rig.chain.blocks == (block,)
    assert block.owner is None
    assert scope.blocks == ()


async def test_a_block_that_has_moved_to_another_chain_leaves_that(rig: Rig) -> None:
    moved, elsewhere = await rig.add("moved"), type(rig.chain)("elsewhere")
    with kept(rig.chain):
        await rig.unregister(moved)
        elsewhere.register_nowait(moved)
    assert elsewhere.is_empty
    assert moved.chain is rig.chain


async def test_blocks_that_two_chains_of_a_bus_have_exchanged_are_back(rig: Rig) -> None:
    bus, other = Bus("bus"), type(rig.chain)("other")
    bus.add(rig.chain)
    bus.add(other)
    one, two = await rig.add("one"), other.register_nowait(rig.callback("two"))
    with checked(bus, [rig.chain, other]):
        rig.chain.unregister_nosync(one)
        other.unregister_nosync(two)
        rig.chain.register_nowait(two)
        other.register_nowait(one)


@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_block_that_is_being_registered_at_that_moment_is_named(flavour: Any) -> None:
    chain = flavour("chain")
    entered, go_on = anyio.Event(), anyio.Event()

    async def slow(event: Any, data: Any) -> None:
        entered.set()
        await go_on.wait()

    elsewhere = flavour("elsewhere", replay=lambda: [(1, None)])
    await chain.register(lambda event, data: None, name="stays")
    busy = await chain.register(slow, name="busy")
    last = await chain.register(lambda event, data: None, name="last")
    async with anyio.create_task_group() as group:
        with pytest.raises(AlreadyRegisteredError, match="'busy' is not back on chain") as caught:
            with registrations_restored(chain):
                for block in chain.blocks:
                    await chain.unregister(block)
                group.start_soon(elsewhere.register, busy)
                await entered.wait()
        assert caught.value.block is busy
        go_on.set()
    assert [block.name for block in chain] == ["stays", "last"]
    assert elsewhere.blocks == (busy,)
    assert last.chain is chain


@pytest.mark.parametrize("flavour", [AtomicChain, *ASYNC])
async def test_a_stream_that_was_opened_inside_ends_and_one_that_was_left_stays_away(
    flavour: Any,
) -> None:
    chain = flavour("chain")
    recorder = chain.register_nowait(Recorder[Any, Any]())
    async with chain.stream() as outer:
        with registrations_restored(chain):
            inner = await chain.stream().__aenter__()
            await outer.__aexit__(None, None, None)
        assert [pair async for pair in inner] == []
        await inner.__aexit__(None, None, None)
    assert chain.blocks == (recorder,)
    assert [block.chain for block in chain] == [chain]


# Observers are told.


class Watcher(Observer):
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def registered(self, chain: Any, block: Any) -> None:
        self.seen.append(("registered", block.name))

    def unregistered(self, chain: Any, block: Any) -> None:
        self.seen.append(("unregistered", block.name))

    def parked(self, chain: Any, block: Any) -> None:
        self.seen.append(("parked", block.name))


async def test_observers_stay_and_are_told(rig: Rig) -> None:
    await rig.set_filter(~NameFilter(["parked", "gone"]))
    await rig.add("kept")
    active, _ = await rig.add("active"), await rig.add("parked")
    gone = await rig.add("gone")
    inside = Watcher()
    with kept(rig.chain):
        await rig.unregister(active)
        await rig.unregister(gone)
        await rig.set_filter(None)
        await rig.add("added")
        rig.chain.observe(inside)
    assert inside.seen == [
        ("unregistered", "added"),
        ("registered", "active"),
        ("parked", "parked"),
        ("parked", "gone"),
    ]
    await rig.add("later")
    assert inside.seen[-1] == ("registered", "later")


async def test_an_injection_around_it_holds_for_who_comes_back(rig: Rig) -> None:
    gone = await rig.add("gone")
    with inject_errors(rig.chain, {1: KeyError}):
        with kept(rig.chain):
            await rig.unregister(gone)
        with pytest.raises(KeyError):
            await rig.call(1, None)
    await rig.call(1, None)
    assert rig.drain() == ["gone"]


# A bus.


async def test_all_chains_of_a_bus_are_restored(rig: Rig) -> None:
    bus, other = Bus("bus"), AtomicChain[Any, Any]("other")
    bus.add(rig.chain)
    bus.add(other)
    await rig.add("a")
    other.register(lambda event, data: None)
    with checked(bus, [rig.chain, other]):
        await rig.unregister(rig.chain.blocks[0])
        other.register(lambda event, data: None, priority=5)
        bus.set_filters({"other": NameFilter(()), "chain": NameFilter(())})


async def test_which_chains_are_on_a_bus_and_its_filters_are_restored() -> None:
    bus, watcher = Bus("bus"), Watcher()
    stays, goes, replaced = (AtomicChain[Any, Any](name) for name in ("stays", "goes", "replaced"))
    for chain in (stays, goes, replaced):
        bus.add(chain)
    bus.set_filters({"future": "a,b"})
    bus.observe(watcher)
    stranger = AtomicChain[Any, Any]("replaced")
    with registrations_restored(bus):
        bus.remove("goes")
        bus.remove("replaced")
        bus.add(stranger)
        bus.add(AtomicChain[Any, Any]("future"))
        bus.set_filters({"stays": NameFilter(()), "distant": "a"})
    assert list(bus) == [stays, goes, replaced]
    assert bus.snapshot().unmatched_filters == ("future",)
    assert bus["replaced"] is replaced
    for chain in (stays, goes, replaced):
        chain.register(Recorder[Any, Any](name=f"on_{chain.name}"))
    assert [name for _, name in watcher.seen] == ["on_stays", "on_goes", "on_replaced"]
    stranger.register(Recorder[Any, Any]())
    assert len(watcher.seen) == 3


@pytest.mark.parametrize("wrong", [None, "chain", NotifierBlock, Scope("scope")])
def test_what_is_no_chain_and_no_bus_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match="takes a chain or a bus, not"):
        registrations_restored(wrong).__enter__()


# Threads.


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_sync_test_restores_a_chain_whose_loop_runs_in_another_thread(
    flavour: Any, anyio_backend: str
) -> None:
    rig = Rig(flavour)
    with start_blocking_portal(anyio_backend) as portal:
        for name in ("a", "b"):
            portal.call(rig.add, name)
        with kept(rig.chain):
            portal.call(rig.unregister, rig.chain.blocks[0])
            portal.call(rig.add, "added")
            portal.call(rig.call, 1, None)
        portal.call(rig.call, 1, None)
        assert rig.drain() == ["b", "added", "a", "b"]


@pytest.mark.parametrize("flavour", ASYNC)
def test_the_loop_of_the_chain_does_it_so_that_nothing_happens_at_the_same_time(
    flavour: Any, anyio_backend: str
) -> None:
    chain, edited_by = flavour("chain"), []

    class Where(Observer):
        def unregistered(self, chain: Any, block: Any) -> None:
            edited_by.append(threading.get_ident())

    with start_blocking_portal(anyio_backend) as portal:
        chain.observe(Where())
        with registrations_restored(chain):
            portal.call(chain.register, lambda event, data: None)
        assert edited_by == [portal.call(threading.get_ident)]


@pytest.mark.parametrize("flavour", ASYNC)
def test_the_loop_of_a_chain_takes_the_observers_of_a_bus_on_and_off(
    flavour: Any, anyio_backend: str
) -> None:
    edited = list[tuple[str, int]]()

    class Told(flavour):  # type: ignore[misc]
        def _edit(self, *given: Any) -> Any:
            edited.append((self.name, threading.get_ident()))
            return super()._edit(*given)

    bus, goes, stranger = Bus("bus"), Told("goes"), Told("stranger")
    bus.observe(Watcher())
    with start_blocking_portal(anyio_backend) as portal:
        loop = portal.call(threading.get_ident)
        for chain in (goes, stranger):
            portal.call(chain.call, 1)  # now it belongs to that loop
        portal.call(bus.add, goes)
        with registrations_restored(bus):
            portal.call(bus.remove, "goes")
            portal.call(bus.add, stranger)
            edited.clear()
        assert {("stranger", loop), ("goes", loop)} == {*edited}
        assert [*bus] == [goes]


@pytest.mark.parametrize("flavour", ASYNC)
def test_a_chain_whose_loop_has_ended_is_restored_at_once(flavour: Any, anyio_backend: str) -> None:
    rig = Rig(flavour)
    with start_blocking_portal(anyio_backend) as portal:
        portal.call(rig.add, "a")
        stack = ExitStack()
        stack.enter_context(kept(rig.chain))
        portal.call(rig.add, "b")
    stack.close()


def test_a_loop_that_ends_at_that_moment_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    rig = Rig(SrcuChain)

    def ended(loop: object, call: object) -> None:
        raise RuntimeError("the loop is closed")

    monkeypatch.setattr(threads, "soon", ended)
    with start_blocking_portal(anyio_backend) as portal:
        portal.call(rig.add, "a")
        with kept(rig.chain):
            portal.call(rig.add, "b")


def test_an_event_loop_that_stands_still_in_another_thread_is_no_danger() -> None:
    import asyncio

    rig, loop = Rig(SrcuChain), asyncio.new_event_loop()

    def run() -> None:
        loop.run_until_complete(rig.add("a"))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    try:
        with kept(rig.chain):
            rig.chain._remove(rig.chain.blocks[0])
    finally:
        loop.close()


def test_a_blocked_event_loop_in_another_thread_is_an_error_and_restores_the_chain_later(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    rig = Rig(BlockingChain)
    monkeypatch.setattr(threads, "PATIENCE", 0.01)
    with start_blocking_portal(anyio_backend) as portal:
        stack = ExitStack()
        stack.enter_context(registrations_restored(rig.chain))
        message = r"chain 'chain': its event loop, in another"
        with blocked_loop(portal, rig), pytest.raises(TimeoutError, match=message):
            stack.close()
        assert rig.chain.is_empty


def test_a_chain_is_restored_though_the_loop_of_one_that_a_block_moved_to_is_blocked(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    chain, other = AtomicChain[Any, Any]("chain"), Rig(SrcuChain)
    moves, keeps, comes = (Recorder[Any, Any](name=name) for name in ("moves", "keeps", "comes"))

    chain.register(moves)
    chain.register(keeps)
    with start_blocking_portal(anyio_backend) as portal:
        stack = ExitStack()
        stack.enter_context(registrations_restored(chain))
        chain.unregister(moves)
        chain.unregister(keeps)
        chain.register(comes)
        portal.call(other.chain.register, moves)
        with blocked_loop(portal, other):
            monkeypatch.setattr(threads, "PATIENCE", 0.01)
            with pytest.raises(TimeoutError):
                stack.close()
            assert [*chain.blocks] == [keeps]
        assert moves not in other.chain


def test_a_restore_whose_waiting_is_interrupted_is_made_all_the_same(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    rig = Rig(SrcuChain)

    def interrupted(made: Future[Any], timeout: float) -> Any:
        raise KeyboardInterrupt

    with start_blocking_portal(anyio_backend) as portal:
        stack = ExitStack()
        stack.enter_context(registrations_restored(rig.chain))
        with blocked_loop(portal, rig), monkeypatch.context() as patch:
            patch.setattr(Future, "result", interrupted)
            with pytest.raises(KeyboardInterrupt):
                stack.close()
        assert rig.chain.is_empty


def test_a_blocked_event_loop_is_an_error_and_nothing_begins_later(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    rig = Rig(SrcuChain)

    with start_blocking_portal(anyio_backend) as portal:
        with blocked_loop(portal, rig):
            monkeypatch.setattr(threads, "PATIENCE", 0.01)
            with pytest.raises(TimeoutError), inject_errors(rig.chain, {1: KeyError}):
                raise AssertionError
        assert portal.call(rig.call, 1, None) == NOTIFY_DONE


def test_what_fails_when_a_blocked_event_loop_goes_on_is_logged(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    rig = Rig(SrcuChain)

    def fail() -> None:
        raise KeyError("no")

    with start_blocking_portal(anyio_backend) as portal, capture_logs() as logged:
        with blocked_loop(portal, rig):
            monkeypatch.setattr(threads, "PATIENCE", 0.01)
            for do in fail, list:
                with pytest.raises(TimeoutError):
                    threads.in_its_thread(rig.chain, do, is_undo=True)
    (line,) = logged
    assert (line["event"], line["chain"]) == ("a chain was not brought back late", "chain")
    assert line["exc_info"][0] is KeyError


def test_a_bus_is_restored_though_the_loop_of_one_chain_is_blocked(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    bus, rig, watcher = Bus("bus"), Rig(SrcuChain), Watcher()
    here, there = AtomicChain[Any, Any]("here"), rig.chain

    bus.add(here)
    bus.observe(watcher)
    with start_blocking_portal(anyio_backend) as portal:
        stack = ExitStack()
        stack.enter_context(registrations_restored(bus))
        portal.call(bus.add, there)
        bus.remove("here")
        with blocked_loop(portal, rig):
            monkeypatch.setattr(threads, "PATIENCE", 0.01)
            with pytest.raises(TimeoutError):
                stack.close()
            assert [*bus] == [here]
        watcher.seen.clear()
        portal.call(rig.add, "later")
        here.register(Recorder[Any, Any](name="seen"))
    assert watcher.seen == [("registered", "seen")]


def test_what_has_begun_when_patience_ends_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    rig, begun, go_on = Rig(SrcuChain), threading.Event(), threading.Event()
    soon, cancel = loops.soon, Future.cancel

    def soon_and_begun(loop: Any, call: Any) -> None:
        soon(loop, call)
        assert begun.wait(30)

    def cancel_in_vain(future: Any) -> bool:
        cancelled = cancel(future)
        go_on.set()
        return cancelled

    def slow() -> str:
        begun.set()
        assert go_on.wait(30)
        return "done"

    with start_blocking_portal(anyio_backend) as portal:
        portal.call(rig.add, "a")
        monkeypatch.setattr(threads, "PATIENCE", 0.0)
        monkeypatch.setattr(threads, "soon", soon_and_begun)
        monkeypatch.setattr(Future, "cancel", cancel_in_vain)
        assert threads.in_its_thread(rig.chain, slow) == "done"


def test_an_undoing_that_has_begun_when_patience_ends_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    rig, begun, go_on = Rig(SrcuChain), threading.Event(), threading.Event()
    soon, running = loops.soon, Future.running

    def soon_and_begun(loop: Any, call: Any) -> None:
        soon(loop, call)
        assert begun.wait(30)

    def is_running(future: Any) -> bool:
        go_on.set()
        return running(future)

    def slow() -> str:
        begun.set()
        assert go_on.wait(30)
        return "done"

    with start_blocking_portal(anyio_backend) as portal:
        portal.call(rig.add, "a")
        monkeypatch.setattr(threads, "PATIENCE", 0.0)
        monkeypatch.setattr(threads, "soon", soon_and_begun)
        monkeypatch.setattr(Future, "running", is_running)
        assert threads.in_its_thread(rig.chain, slow, is_undo=True) == "done"


def test_what_fails_in_the_event_loop_is_raised_where_it_was_asked_for(anyio_backend: str) -> None:
    rig = Rig(SrcuChain)

    def fail() -> None:
        raise KeyError("no")

    with start_blocking_portal(anyio_backend) as portal:
        portal.call(rig.add, "a")
        with pytest.raises(KeyError, match="no"):
            threads.in_its_thread(rig.chain, fail)
        assert portal.call(rig.call, 1, None) == 0


async def test_a_bus_of_chains_with_different_loops_is_restored(anyio_backend: str) -> None:
    bus, here, there = Bus("bus"), Rig(SrcuChain), Rig(SrcuChain)
    there.chain = SrcuChain("there")
    bus.add(here.chain)
    bus.add(there.chain)
    moved = await here.add("moved")

    def test() -> None:
        with start_blocking_portal(anyio_backend) as portal:
            portal.call(there.add, "a")
            with checked(bus, [here.chain, there.chain]):
                portal.call(there.add, "b")
                anyio.from_thread.run_sync(here.chain.unregister_nosync, moved)
                portal.call(there.chain.register, moved)

    await anyio.to_thread.run_sync(test)
    assert moved.chain is here.chain


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_many_blocks_are_restored(flavour: Any) -> None:
    rig = Rig(flavour)
    blocks = [
        rig.chain.register_nowait(lambda event, data: None, name=f"b{number}", priority=number % 3)
        for number in range(100)
    ]
    with kept(rig.chain):
        for block in blocks[::2]:
            rig.chain.unregister_nosync(block)
        for block in blocks[::4]:
            rig.chain.register_nowait(block)
        for _ in range(20):
            rig.chain.register_nowait(lambda event, data: None)
