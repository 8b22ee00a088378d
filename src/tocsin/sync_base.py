"""`SyncChain`: what the two flavours with sync members share beyond `Chain`."""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ._typing import DataT, EventT
from .ancestry import thread_walks
from .base import Chain
from .errors import InvalidTypeError, InvalidValueError, WouldDeadlockError
from .report import ChainStatistics
from .walk import SYNC_WALKS, SyncCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from types import FrameType
    from typing import Unpack

    from ._typing import SyncResult
    from .block import AnyBlock, BlockOptions, NotifierBlock

__all__ = ["SyncChain", "wait_for_threads"]

_POLL = 0.0001  # seconds between two looks at the threads' frames, at first


class SyncChain(Chain[EventT, DataT], SyncCalls[EventT, DataT]):
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
        running = len(thread_walks(self, SYNC_WALKS))
        running += sum(one.readers for one in table.snapshots())
        return ChainStatistics(len(table.members), len(table.parked), running, 0)


def wait_for_threads(chain: SyncChain[Any, Any], timeout: float | None) -> None:
    """Wait until the walks of ``chain`` that are running now have ended, in all threads."""
    if not (timeout is None or isinstance(timeout, (int, float))):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidTypeError(
            f"chain {chain.name!r}: a timeout must be seconds, not {type(timeout).__name__}"
        )
    deadline = None if timeout is None else time.monotonic() + timeout
    waited: dict[FrameType, int] = thread_walks(chain, SYNC_WALKS)
    if get_ident() in waited.values():
        raise WouldDeadlockError(
            f"synchronizing chain {chain.name!r} would wait for the walk that this code runs in; "
            f"do it after the call"
        )
    pause = _POLL
    while waited:
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(
                f"chain {chain.name!r}: {len(waited)} walks still ran after {timeout} s"
            )
        time.sleep(pause)  # looking again is what costs the walks nothing: they signal nobody
        pause = min(pause * 2, 100 * _POLL)
        running = thread_walks(chain, SYNC_WALKS)
        waited = {frame: ident for frame, ident in waited.items() if frame in running}
