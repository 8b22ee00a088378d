"""`SyncChain`: what the two flavours with sync members share beyond `Chain`; and threads."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any

from ._typing import DataT, EventT
from .ancestry import thread_walks, waits_for_us
from .base import Chain
from .careful_calls import SYNC_WALKS, CarefulSyncCalls
from .checks import check_seconds
from .errors import InvalidValueError
from .report import ChainStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from types import FrameType
    from typing import Unpack

    from ._typing import SyncResult
    from .block import AnyBlock, NotifierBlock
    from .options import BlockOptions
    from .table import Table
    from .view import Snapshot

__all__ = ["SyncChain", "Threaded", "wait_for_threads"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0001, 0.01  # seconds between two looks at the threads' frames


class SyncChain(Chain[EventT, DataT], CarefulSyncCalls[EventT, DataT]):
    """What `AtomicChain` and `RawChain` share. Not for direct use."""

    __slots__ = ()

    def _check_allowed(self, block: AnyBlock) -> None:
        if block.thread:
            raise InvalidValueError(
                f"chain {self._name!r}: block {block.name!r} has thread=True, which needs a "
                f"BlockingChain or SrcuChain"
            )

    def registered(
        self,
        target: NotifierBlock[EventT, DataT, SyncResult] | Callable[[EventT, DataT], SyncResult],
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> AbstractContextManager[NotifierBlock[EventT, DataT, SyncResult]]:
        """Register for as long as the context is open.

        Leaving always takes the block off, and does not mind if it is gone. Errors and context as
        ``register``.
        """
        return self._registered(target, options, unique_priority=unique_priority)

    @contextmanager
    def _registered(
        self, target: Any, options: BlockOptions, *, unique_priority: bool
    ) -> Generator[AnyBlock]:
        block = self._register_now(target, options, unique_priority=unique_priority)
        try:
            yield block
        finally:
            self._take_off(block)

    def statistics(self) -> ChainStatistics:
        """Give the state of the chain at this moment, walks in all threads counted."""
        table = self._table
        return ChainStatistics(len(table.members), len(table.parked), self._count_walks(), 0)

    def _count_walks(self) -> int:
        return len(thread_walks(self, SYNC_WALKS))


class Threaded(SyncChain[EventT, DataT]):
    """A sync chain whose walks and writers may be in any thread. Not for direct use."""

    __slots__ = ()

    def _set_up(self) -> None:
        self._lock = RLock()  # a signal handler may write in the middle of a write

    def _offer(self, table: Table, items: Snapshot) -> None:
        # A walk does not wait for a writer; what it made, it then has for itself.
        lock: Any = self._lock
        if lock.acquire(blocking=False):
            try:
                self._show(table, items)
            finally:
                lock.release()

    def _may_be_running(self, block: AnyBlock) -> bool:  # noqa: ARG002 - of walks, frames tell
        return bool(self.statistics().walks_running)

    def _refuse_own_walk(
        self,
        block: AnyBlock,  # noqa: ARG002 - any walk may be in it
        what: str = "unregistering from",
        instead: str = "use unregister_nosync()",
    ) -> None:
        if waits_for_us(thread_walks(self, SYNC_WALKS)):
            self._would_deadlock(what, instead)

    async def _wait_for(self, block: AnyBlock) -> None:
        if self._may_be_running(block):
            self._refuse_own_walk(block)
            from anyio import to_thread

            await to_thread.run_sync(partial(wait_for_threads, self, None), abandon_on_cancel=True)


def wait_for_threads(chain: SyncChain[Any, Any], timeout: float | None) -> None:
    """Wait until the walks of ``chain`` that are running now have ended, in all threads.

    A walk tells nobody that it ends, which would cost every call something; so their frames are
    looked for again and again, at growing intervals.
    """
    deadline = _deadline(chain, timeout)
    waited: dict[FrameType, int] = thread_walks(chain, SYNC_WALKS)
    try:
        if waits_for_us(waited):
            chain._would_deadlock("synchronizing", "do it after the call")
        if waited:
            chain._tell_waiting()
        pause = _FIRST_PAUSE
        while waited:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"chain {chain.name!r}: {len(waited)} walks still ran after {timeout} s"
                )
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)
            for ended in waited.keys() - thread_walks(chain, SYNC_WALKS):
                del waited[ended]
    finally:
        waited.clear()  # an error's traceback holds this frame, which must not hold theirs


def _deadline(chain: SyncChain[Any, Any], timeout: float | None) -> float:
    """Give the moment, by the monotonic clock, at which a wait of so many seconds is over."""
    if timeout is None:
        return math.inf
    what = f"chain {chain.name!r}: the timeout"
    check_seconds(timeout, what)
    if not timeout >= 0:
        raise InvalidValueError(f"{what} must be 0 s or more, not {timeout}")
    return time.monotonic() + timeout
