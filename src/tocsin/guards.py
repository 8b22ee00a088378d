"""How the two async flavours are guarded: a write lock over all, or a grace period afterwards."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._typing import DataT, EventT
from .admission import replace_base
from .ancestry import enclosing_walks, own_walks
from .async_base import REPLAYS, AsyncChain
from .bands import ASYNC_WALKS
from .errors import TocsinError
from .locks import ReaderWriterLock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from .block import AnyBlock
    from .view import Snapshot

__all__ = ["Graced", "Guarded"]


class Guarded(AsyncChain[EventT, DataT]):
    """An async chain whose writers exclude its walks. Not for direct use."""

    __slots__ = ("_rwlock",)

    _rwlock: ReaderWriterLock

    def _set_up(self) -> None:
        self._rwlock = ReaderWriterLock(lambda: not self._is_walked(), self._changed)

    def _changed(self) -> None:
        lock = self._rwlock
        self._waiting = self._grace.waiting + lock.waiting
        if lock.is_closed:
            self._close_door()
        else:
            self._open_door()

    def _refill(self) -> None:
        super()._refill()
        if self._rwlock.is_closed:
            self._close_door()

    async def _check_leaving(self, block: AnyBlock) -> None:
        """Refuse to unregister what is not here, or to wait for oneself."""
        self._bind()
        try:
            self._require(block)
            self._refuse_any_walk("unregistering from", "use unregister_nosync()")
        except TocsinError:
            await self._pace()  # refused again and again, a caller still yields (D11)
            raise

    async def _begin_write(self, what: str) -> ReaderWriterLock:
        """Take the write lock and give it, refusing to wait for oneself."""
        self._bind()
        self._refuse_any_walk(what, "do it after the call")
        return await self._acquire_write()

    async def _acquire_write(self) -> ReaderWriterLock:
        """Take the write lock and give it: in the end, if the loop is closed, there is another."""
        lock = self._rwlock
        if not lock.acquire_write_nowait():
            self._tell_waiting()
            await lock.acquire_write()
        return lock

    @contextmanager
    def _written_nowait(self) -> Generator[None]:
        self._check_caller()
        if not self._rwlock.acquire_write_nowait():
            from anyio import WouldBlock

            raise WouldBlock
        try:
            yield
        finally:
            self._rwlock.release_write()

    def _refuse_any_walk(self, what: str, instead: str) -> None:
        busy = self._rwlock.writing or self._is_walked()
        if busy and any(True for _ in enclosing_walks(self, ASYNC_WALKS | REPLAYS)):
            self._would_deadlock(what, instead)

    def _refuse_own_walk(
        self,
        block: AnyBlock,
        what: str = "unregistering from",
        instead: str = "use unregister_nosync()",
    ) -> None:
        if self._table.has(block):  # to take it off is to wait for all walks
            self._refuse_any_walk(what, instead)
        else:
            super()._refuse_own_walk(block, what, instead)

    async def _admit(self) -> None:
        """Queue, unless the gate is open or this is a nested call."""
        if self._rwlock.is_closed:
            self._bind()  # which opens the gate when it was closed in a loop that is gone
        if not self._rwlock.is_closed or any(True for _ in own_walks(self, ASYNC_WALKS)):
            return
        if self._rwlock.writing and any(True for _ in enclosing_walks(self, REPLAYS)):
            self._would_deadlock("calling", "a replay cannot call its own chain")
        await self._rwlock.acquire_read()

    def _reader_left(self) -> None:
        if self._rwlock.is_due() or self._grace.is_due():
            self._wake()

    def _wake_due(self) -> None:
        super()._wake_due()
        self._rwlock.wake()

    def _writers_waiting(self) -> int:
        return self._grace.waiting + self._rwlock.writers_waiting

    def _forget_waiters(self) -> None:
        self._rwlock.forget()
        self._set_up()
        super()._forget_waiters()


class Graced(AsyncChain[EventT, DataT]):
    """An async chain whose writers wait for earlier walks. Not for direct use."""

    __slots__ = ()

    async def _check_leaving(self, block: AnyBlock) -> list[Snapshot]:
        """Refuse as `Guarded` does; give the snapshots whose walks may be in the block."""
        self._bind()
        try:
            self._require(block)
            holders = self._readers_of(block)
            self._refuse_to_wait_for(holders)
        except TocsinError:
            await self._pace()
            raise
        return holders

    def _to_be_parked(self, filter: Callable[[AnyBlock], bool] | None) -> list[AnyBlock]:  # noqa: A002
        return self._with_filters(replace_base(self._check_filter(filter)))[0]

    def _refuse_running(self, blocks: Iterable[AnyBlock]) -> None:
        if any(self._may_be_running(block) for block in blocks):
            from anyio import WouldBlock

            raise WouldBlock
