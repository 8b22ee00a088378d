"""`AsyncChain`: what the two async flavours share beyond `Chain`.

Owns the event loop that the chain belongs to, and the waiting for walks that are under way.
"""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from ._typing import DataT, EventT
from .admission import replace_base
from .bands import ConcurrentCalls
from .base import Chain
from .buffers import LoopBuffer
from .careful_calls import CarefulAsyncCalls
from .errors import InvalidValueError, NotRegisteredError, TocsinError
from .loops import LoopBinding, running_loop
from .pacing import CHECKPOINT_EVERY, Paced
from .report import ChainStatistics
from .streams import Streaming
from .waits import Awaited
from .walk import adrive
from .wording import as_int, shown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from typing import Unpack

    from ._typing import AnyResult
    from .block import AnyBlock, NotifierBlock
    from .options import BlockOptions
    from .table import Table
    from .view import Snapshot

__all__ = ["REPLAYS", "AsyncChain"]


class AsyncChain(
    Awaited,
    Paced,
    Chain[EventT, DataT],
    CarefulAsyncCalls[EventT, DataT],
    ConcurrentCalls[EventT, DataT],
    Streaming[EventT, DataT],
):
    """What `BlockingChain` and `SrcuChain` share. Not for direct use."""

    __slots__ = ("_binding", "_budget", "_checkpoint_every", "_grace", "_turns", "_waiting")

    _buffer_type = LoopBuffer

    def __init__(
        self,
        name: str,
        *,
        errors: str = "raise",
        filter: Callable[[AnyBlock], bool] | None = None,  # noqa: A002 - the option's name
        replay: Callable[[], Iterable[tuple[EventT, DataT]]] | None = None,
        checkpoint_every: int = CHECKPOINT_EVERY,
    ) -> None:
        super().__init__(name, errors=errors, filter=filter, replay=replay)
        if not 0 < (as_int(checkpoint_every) or 0) <= sys.maxsize:
            raise InvalidValueError(
                f"chain {name!r}: checkpoint_every must be an int from 1 to {sys.maxsize}, not "
                f"{shown(checkpoint_every)}"
            )
        self._binding = LoopBinding()
        self._start_waits()
        self._start_budget(checkpoint_every)

    def _show(self, table: Table, items: Snapshot) -> None:
        super()._show(table, items)
        self._renew_turns()

    def _closed(self) -> None:
        super()._closed()
        self._renew_turns()

    def _changed(self) -> None:
        """Take note that somebody waits, or does no longer."""
        self._waiting = self._grace.waiting

    # The event loop.

    def _bind(self) -> object | None:
        loop = running_loop()
        if self._binding.bind(loop, self._name):
            self._forget_waiters()
        return loop

    def _check_caller(self) -> None:
        self._binding.check(self._name)

    def _forget_waiters(self) -> None:
        """Drop those whose event loop was closed while they waited."""
        self._grace.forget()

    # Waiting for walks.

    def _reader_left(self) -> None:
        if self._grace.is_due():
            self._wake()

    def _wake(self) -> None:
        """Wake those who are due, unless they went down with their event loop."""
        if self._binding.is_abandoned:
            self._forget_waiters()
        else:
            self._wake_due()

    def _wake_due(self) -> None:
        self._grace.wake()

    async def synchronize(self) -> None:
        """Return when every walk that was running when this was called has ended.

        Later walks are not waited for. Raises `WouldDeadlockError` inside a walk of this chain,
        `WrongLoopError`. A checkpoint when it has to wait. Source: ``synchronize_srcu()``.
        """
        self._bind()
        try:
            self._refuse_to_synchronize()
        except TocsinError:
            await self._pace()
            raise
        # The walks under way hold older snapshots from now on, which get no new readers.
        self._edit(lambda _draft: None)
        await self._wait_out(self._readers_of())
        await self._pace()

    # Registering and unregistering.

    async def _register(
        self, target: Any, options: BlockOptions, *, unique_priority: bool
    ) -> AnyBlock:
        """Register, waiting for nothing but a replay to an async callback."""
        block = self._coerce(target, options)
        claim = self._begin(block, unique_priority=unique_priority)
        try:
            if claim.admitted and self._replay is not None:
                await self._replay_each(block)
            self._join(claim)
        except BaseException:
            self._abandon(block)
            raise
        return block

    async def _replay_each(self, block: AnyBlock) -> None:
        for walk, data in self._replay_walks(block):
            items = walk.items  # by which `ancestry` knows that user code runs in here
            await adrive(walk, data)
            del items

    async def _set_filter(self, admitted: Callable[[AnyBlock], bool] | None) -> list[AnyBlock]:
        """Replace the filter, replaying to whom it admits; give whom it parked, perhaps running."""
        layers = replace_base(self._check_filter(admitted))
        heard: dict[int, AnyBlock] = {}
        # Again and again, since others may register meanwhile.
        while unheard := self._unheard(self._with_filters(layers)[1], heard):
            for block in unheard:
                if self._table.is_parked(block):  # not taken off by what another one heard
                    await self._replay_each(block)
                heard[id(block)] = block
        return self._refilter(layers)

    async def _unregister_and_wait(self, block: AnyBlock) -> None:
        """Take a block off and know that it is not running, as a scope wants it."""
        await cast("Any", self).unregister(block)

    def registered(
        self,
        target: NotifierBlock[EventT, DataT, AnyResult] | Callable[[EventT, DataT], AnyResult],
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> AbstractAsyncContextManager[NotifierBlock[EventT, DataT, AnyResult]]:
        """Register for as long as the context is open.

        Leaving always takes the block off, cancelled or not, and does not mind if it is gone.
        Errors and context as ``register`` and ``unregister``.
        """
        return self._registered(target, options, unique_priority=unique_priority)

    @asynccontextmanager
    async def _registered(
        self, target: Any, options: BlockOptions, *, unique_priority: bool
    ) -> AsyncGenerator[AnyBlock]:
        me = cast("Any", self)
        block: AnyBlock = await me.register(target, unique_priority=unique_priority, **options)
        try:
            yield block
        finally:
            try:
                with suppress(NotRegisteredError):
                    await me.unregister(block)
            finally:
                self._take_off(block)

    def unregister_nosync(self, block: NotifierBlock[EventT, DataT, Any]) -> None:
        """Take a block off: never entered again, without waiting for a callback that is running.

        Raises `NotRegisteredError`, `WrongLoopError`. Sync; legal inside a callback of any flavour.
        """
        self._check_caller()
        self._remove(block)

    def statistics(self) -> ChainStatistics:
        """Give the state of the chain at this moment."""
        table, running = self._table, self._count_walks()
        writers = self._writers_waiting()
        return ChainStatistics(len(table.members), len(table.parked), running, writers)

    def _writers_waiting(self) -> int:
        return self._grace.waiting


REPLAYS = frozenset((AsyncChain._replay_each.__code__,))
"""The code that runs a newcomer's callback before it joins."""
