"""The four chains. They share everything but their protection, and stand here for comparison.

============================  ==================  ====================  =============  ============
inside a callback of its own  Atomic              Blocking              Raw            SRCU
============================  ==================  ====================  =============  ============
``register``                  legal               WouldDeadlockError    legal          legal
``unregister``                legal               WouldDeadlockError    legal          legal (a)
``*_nowait``                  as the plain ones   WouldBlock            as the plain   WouldBlock(b)
``unregister_nosync``         legal               legal                 legal          legal
nested ``call``, concurrent   legal (c)           legal                 legal (c)      legal
``synchronize``               WouldDeadlockError  WouldDeadlockError    -              WouldDeadlock
``set_filter``                legal               WouldDeadlockError    legal          legal (a)
``only``, ``observe``         legal               legal                 legal          legal
``stream`` (entering it)      legal               WouldDeadlockError    -              legal
----------------------------  ------------------  --------------------  -------------  ------------
protection of the table       a lock for writers  a reader/writer lock  the caller's   snapshots
callable from                 any thread, signal  one event loop        as the caller  one event
                              handlers                                  locks          loop
============================  ==================  ====================  =============  ============

(a) ``WouldDeadlockError`` when this task's own walk may hold the block.
(b) Where the plain one would wait.
(c) There is no ``call_concurrent``.

Source: ``kernel/notifier.c``, ``include/linux/notifier.h``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from ._typing import DataT, EventT
from .ancestry import thread_walks
from .buffers import ThreadBuffer
from .careful_calls import SYNC_WALKS
from .errors import AsyncCallbackError
from .guards import Graced, Guarded
from .pacing import CHECKPOINT_EVERY, Paced
from .raw_calls import RawCalls
from .streams import Streaming
from .sync_base import SyncChain, Threaded, wait_for_threads
from .waits import Awaited

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias, Unpack

    from ._typing import AnyResult, SyncResult, SyncResultT
    from .block import AnyBlock, NotifierBlock
    from .options import BlockOptions
    from .table import Table
    from .view import Snapshot

    SyncBlock: TypeAlias = NotifierBlock[EventT, DataT, SyncResult]
    SyncTarget: TypeAlias = SyncBlock[EventT, DataT] | Callable[[EventT, DataT], SyncResult]
    AnyTarget: TypeAlias = (
        NotifierBlock[EventT, DataT, AnyResult] | Callable[[EventT, DataT], AnyResult]
    )

__all__ = ["AtomicChain", "BlockingChain", "RawChain", "SrcuChain"]


class AtomicChain(Threaded[EventT, DataT], Streaming[EventT, DataT]):
    """Sync callbacks that must not block; callable from any thread and any signal handler.

    Writers take a lock, walks take none. Every member is legal inside a callback, except
    `synchronize`, and in a signal handler that interrupts one of them.
    Source: ``struct atomic_notifier_head``.
    """

    __slots__ = ()

    _buffer_type = ThreadBuffer

    def _check_allowed(self, block: AnyBlock) -> None:
        super()._check_allowed(block)
        if block.is_async:
            raise AsyncCallbackError(
                f"block {block.name!r} is async, and AtomicChain {self._name!r} calls sync "
                f"callbacks only; take a SrcuChain or BlockingChain"
            )

    def register(
        self,
        target: SyncTarget[EventT, DataT],
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> SyncBlock[EventT, DataT]:
        """Put a block, or a callback with block options, on the chain; give its block.

        ``unique_priority`` refuses a priority that another active block has. Raises
        `AlreadyRegisteredError`, `PriorityInUseError`, `AsyncCallbackError`,
        `RegistrationVetoedError`, `ScopeClosedError`, `InvalidTypeError` or `InvalidValueError`;
        then the chain is as it was. Source: ``atomic_notifier_chain_register[_unique_prio]()``.
        """
        return self._register_now(target, options, unique_priority=unique_priority)

    def unregister(self, block: NotifierBlock[EventT, DataT, Any]) -> None:
        """Take a block off: never entered again.

        A call that another thread has begun counts as running; `synchronize` waits for it. Raises
        `NotRegisteredError`. Source: ``atomic_notifier_chain_unregister()``, which waits.
        """
        self._remove(block)

    register_nowait = register
    unregister_nowait = unregister
    unregister_nosync = unregister

    if TYPE_CHECKING:  # narrower than what the flavours share: no async callbacks

        @overload  # type: ignore[override]
        def subscriber(
            self, callback: Callable[[EventT, DataT], SyncResultT], /
        ) -> NotifierBlock[EventT, DataT, SyncResultT]: ...
        @overload
        def subscriber(
            self, /, *, unique_priority: bool = False, **options: Unpack[BlockOptions]
        ) -> Callable[
            [Callable[[EventT, DataT], SyncResultT]], NotifierBlock[EventT, DataT, SyncResultT]
        ]: ...
        def subscriber(self, *args: Any, **options: Any) -> Any: ...  # noqa: D102 # pyright: ignore[reportIncompatibleMethodOverride]

    def synchronize(self, *, timeout: float | None = None) -> None:
        """Return when every walk that was running when this was called has ended, in any thread.

        ``timeout`` in seconds, 0 or more, ``None`` for no bound; past it a `TimeoutError`. Inside
        a walk of this thread a `WouldDeadlockError`. Looks at the threads' frames, so walks pay
        nothing for it; blocks this thread meanwhile. Source: ``synchronize_rcu()``.
        """
        wait_for_threads(self, timeout)

    def set_filter(self, filter: Callable[[AnyBlock], bool] | None) -> None:  # noqa: A002
        """Replace the filter, or remove it with ``None``; every block is looked at anew.

        All or nothing. A block that becomes parked is never entered again; one that is admitted
        takes its place by its original order of registration, after a replay where the chain has
        one; when it vetoes that, `RegistrationVetoedError` is raised and nothing changes.
        """
        self._set_filter_now(filter)


class BlockingChain(Guarded[EventT, DataT]):
    """Sync and async callbacks under a reader/writer lock: no registration overlaps a walk.

    Walks share, writers exclude; first come, first served. Used from one event loop.
    Source: ``struct blocking_notifier_head``.
    """

    __slots__ = ()

    async def register(
        self,
        target: AnyTarget[EventT, DataT],
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> NotifierBlock[EventT, DataT, AnyResult]:
        """Put a block, or a callback with block options, on the chain; give its block.

        Waits until no walk is running. ``unique_priority`` refuses a priority that another active
        block has. Raises `WouldDeadlockError` inside a walk of this chain, else as
        `SrcuChain.register`. Source: ``blocking_notifier_chain_register[_unique_prio]()``.
        """
        if not self._draw():
            await self._pause()
        lock = await self._begin_write("registering on")
        try:
            return await self._register(target, options, unique_priority=unique_priority)
        finally:
            lock.release_write()

    async def unregister(self, block: NotifierBlock[EventT, DataT, Any]) -> None:
        """Take a block off: not running, never again; no walk overlaps the change.

        Cancelled while it waits, it acts as `unregister_nosync`. Raises `NotRegisteredError`,
        `WouldDeadlockError` inside a walk of this chain, `WrongLoopError`. A checkpoint when it
        has to wait. Source: ``blocking_notifier_chain_unregister()``.
        """
        await self._check_leaving(block)
        try:
            lock = await self._acquire_write()
        except BaseException:
            self._take_off(block)
            raise
        try:
            self._remove(block)
        finally:
            lock.release_write()
        if not self._draw():
            await self._pause()

    def register_nowait(
        self,
        target: AnyTarget[EventT, DataT],
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> NotifierBlock[EventT, DataT, AnyResult]:
        """Like `register`, at once, or `anyio.WouldBlock`. Sync; needs no running event loop."""
        with self._written_nowait():
            return self._register_now(target, options, unique_priority=unique_priority)

    def unregister_nowait(self, block: NotifierBlock[EventT, DataT, Any]) -> None:
        """Like `unregister`, at once, or `anyio.WouldBlock`. Sync; needs no running event loop."""
        self._require(block)
        with self._written_nowait():
            self._remove(block)

    async def set_filter(self, filter: Callable[[AnyBlock], bool] | None) -> None:  # noqa: A002
        """Replace the filter as `AtomicChain.set_filter` does, waiting until no walk is running.

        Raises `WouldDeadlockError` inside a walk of this chain, `WrongLoopError`.
        """
        await self._pace()
        lock = await self._begin_write("filtering")
        try:
            await self._set_filter(filter)
        finally:
            lock.release_write()

    def set_filter_nowait(self, filter: Callable[[AnyBlock], bool] | None) -> None:  # noqa: A002
        """Like `set_filter`, at once, or `anyio.WouldBlock`. Sync."""
        with self._written_nowait():
            self._set_filter_now(filter)


class RawChain(Awaited, Paced, SyncChain[EventT, DataT], RawCalls[EventT, DataT]):
    """No protection of its own: the caller holds whatever lock is needed.

    `call` runs sync callbacks; `acall` and its kin are the async walk over both kinds. Every member
    is legal inside a callback. Source: ``struct raw_notifier_head``.
    """

    __slots__ = ("_budget", "_checkpoint_every", "_grace", "_turns", "_waiting")

    def _set_up(self) -> None:
        self._start_waits()
        self._start_budget(CHECKPOINT_EVERY)

    def _show(self, table: Table, items: Snapshot) -> None:
        super()._show(table, items)
        self._renew_turns()

    def _closed(self) -> None:
        super()._closed()
        self._renew_turns()

    def _count_walks(self) -> int:
        return super()._count_walks() + len(thread_walks(self, SYNC_WALKS))

    def _refuse_awaiting(self, block: AnyBlock) -> None:
        if block.is_async:
            raise AsyncCallbackError(
                f"block {block.name!r} is async, and a RawChain cannot await its replay: chain "
                f"{self._name!r} has one; register it on a chain without, or on a SrcuChain"
            )

    def register(
        self,
        target: AnyTarget[EventT, DataT],
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> NotifierBlock[EventT, DataT, AnyResult]:
        """Put a block, or a callback with block options, on the chain; give its block.

        An async callback is for `acall`; on a chain with a replay it is an `AsyncCallbackError`,
        since nobody could await that. Else as `AtomicChain.register`.
        Source: ``raw_notifier_chain_register()``.
        """
        return self._register_now(target, options, unique_priority=unique_priority)

    def unregister(self, block: NotifierBlock[EventT, DataT, Any]) -> None:
        """Take a block off: never entered again. Raises `NotRegisteredError`.

        Source: ``raw_notifier_chain_unregister()``.
        """
        self._remove(block)

    register_nowait = register
    unregister_nowait = unregister
    unregister_nosync = unregister

    def set_filter(self, filter: Callable[[AnyBlock], bool] | None) -> None:  # noqa: A002
        """Replace the filter as `AtomicChain.set_filter` does."""
        self._set_filter_now(filter)


class SrcuChain(Graced[EventT, DataT]):
    """Sync and async callbacks over a snapshot: walks never wait, writers publish a copy.

    Used from one event loop. Source: ``struct srcu_notifier_head``.
    """

    __slots__ = ()

    async def register(
        self,
        target: AnyTarget[EventT, DataT],
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> NotifierBlock[EventT, DataT, AnyResult]:
        """Put a block, or a callback with block options, on the chain; give its block.

        ``unique_priority`` refuses a priority that another active block has. Waits for nothing but
        a replay to an async callback. Raises `AlreadyRegisteredError`, `PriorityInUseError`,
        `RegistrationVetoedError`, `ScopeClosedError`, `WrongLoopError`, `InvalidTypeError` or
        `InvalidValueError`; then the chain is as it was. Draws on the checkpoint budget.
        Source: ``srcu_notifier_chain_register()``.
        """
        self._bind()
        if not self._draw():
            await self._pause()
        return await self._register(target, options, unique_priority=unique_priority)

    async def unregister(self, block: NotifierBlock[EventT, DataT, Any]) -> None:
        """Take a block off: not running, never again, when this returns.

        Waits only for walks that began before and may still hold the block. Cancelled while it
        waits, it has taken effect. Raises `NotRegisteredError`, `WrongLoopError`, and
        `WouldDeadlockError` inside such a walk. A checkpoint when it has to wait.
        Source: ``srcu_notifier_chain_unregister()``.
        """
        holders = await self._check_leaving(block)
        self._remove(block)
        if holders:
            await self._wait_out(holders)
        if not self._draw():
            await self._pause()

    def register_nowait(
        self,
        target: AnyTarget[EventT, DataT],
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> NotifierBlock[EventT, DataT, AnyResult]:
        """Like `register`, at once, or `anyio.WouldBlock`. Sync; needs no running event loop."""
        self._check_caller()
        return self._register_now(target, options, unique_priority=unique_priority)

    def unregister_nowait(self, block: NotifierBlock[EventT, DataT, Any]) -> None:
        """Like `unregister`, at once, or `anyio.WouldBlock`. Sync; needs no running event loop."""
        self._check_caller()
        self._require(block)
        self._refuse_running([block])
        self._remove(block)

    async def set_filter(self, filter: Callable[[AnyBlock], bool] | None) -> None:  # noqa: A002
        """Replace the filter as `AtomicChain.set_filter` does.

        When it returns, no block that it parked is running. Raises `WouldDeadlockError` inside a
        walk that may hold one of these, `WrongLoopError`.
        """
        self._bind()
        await self._pace()
        for block in self._to_be_parked(filter):
            self._refuse_own_walk(block, "filtering", "use only()")
        for block in await self._set_filter(filter):
            await self._wait_for(block)

    def set_filter_nowait(self, filter: Callable[[AnyBlock], bool] | None) -> None:  # noqa: A002
        """Like `set_filter`, at once, or `anyio.WouldBlock`. Sync."""
        self._check_caller()
        self._refuse_running(self._to_be_parked(filter))
        self._set_filter_now(filter)
