"""The calls that are careful from the start: reports, limits and robust calls.

They have no loop of their own: each makes a `Walk` and has `walk.drive` or `walk.adrive` run it. So
whatever they promise beyond `call` is a question put to the `Walk` afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from ._typing import DataT, EventT
from .careful import Walk
from .loops import shield
from .walk import AsyncCalls, SyncCalls, adrive, drive

if TYPE_CHECKING:
    from types import CodeType

    from .report import CallReport
    from .view import Snapshot

__all__ = ["SYNC_WALKS", "CarefulAsyncCalls", "CarefulSyncCalls"]


class CarefulSyncCalls(SyncCalls[EventT, DataT]):
    """All calls of a chain whose walks are sync and take no lock."""

    __slots__ = ()

    @overload
    def call_report(
        self: CarefulSyncCalls[EventT, None], event: EventT, *, limit: int = -1
    ) -> CallReport: ...
    @overload
    def call_report(self, event: EventT, data: DataT, *, limit: int = -1) -> CallReport: ...
    def call_report(self, event: Any, data: Any = None, *, limit: int = -1) -> CallReport:
        """Like `call`, telling who was called, with what result and for how long.

        ``limit`` bounds the number of callbacks called; a negative one means no limit.
        Source: ``notifier_call_chain(nl, val, v, nr_to_call, nr_calls)``.
        """
        return self._report(self._select(event), event, data, limit)

    @overload
    def call_robust(
        self: CarefulSyncCalls[EventT, None],
        event: EventT,
        rollback_event: EventT,
        *,
        reverse: bool = False,
    ) -> int: ...
    @overload
    def call_robust(
        self, event: EventT, rollback_event: EventT, data: DataT, *, reverse: bool = False
    ) -> int: ...
    def call_robust(
        self, event: Any, rollback_event: Any, data: Any = None, *, reverse: bool = False
    ) -> int:
        """Like `call`, but when the walk is stopped, those that had agreed hear ``rollback_event``.

        They hear it in chain order, as in the kernel, or with ``reverse`` last first. Gives the
        result of the one that stopped. An exception stops it too, and surfaces as ``errors=`` says;
        failures of the rollback itself raise `RollbackError` (D10). Context as `call`.
        Source: ``notifier_call_chain_robust()``.
        """
        return self.call_robust_report(event, rollback_event, data, reverse=reverse).result

    @overload
    def call_robust_report(
        self: CarefulSyncCalls[EventT, None],
        event: EventT,
        rollback_event: EventT,
        *,
        reverse: bool = False,
    ) -> CallReport: ...
    @overload
    def call_robust_report(
        self, event: EventT, rollback_event: EventT, data: DataT, *, reverse: bool = False
    ) -> CallReport: ...
    def call_robust_report(
        self, event: Any, rollback_event: Any, data: Any = None, *, reverse: bool = False
    ) -> CallReport:
        """Like `call_robust`, with a report whose ``rolled_back`` names who was rolled back."""
        items = self._select(event)
        walk: Any
        try:
            walk = drive(Walk(self, items, event, policy=self._errors, defer=True), data)
            undone = walk.rollback(rollback_event, reverse=reverse)
            return walk.report_robust(undone and drive(undone, data))  # type: ignore[no-any-return]
        finally:
            walk = undone = None  # they may hold exceptions, see drive()


class CarefulAsyncCalls(AsyncCalls[EventT, DataT]):
    """All calls of a chain whose walks are async; sync callbacks run inline."""

    __slots__ = ()

    if TYPE_CHECKING:

        async def _begin_walk(self, event: object) -> Snapshot: ...

    @overload
    async def call_report(
        self: CarefulAsyncCalls[EventT, None], event: EventT, *, limit: int = -1
    ) -> CallReport: ...
    @overload
    async def call_report(self, event: EventT, data: DataT, *, limit: int = -1) -> CallReport: ...
    async def call_report(self, event: Any, data: Any = None, *, limit: int = -1) -> CallReport:
        """Like `call`, telling who was called, with what result and for how long.

        ``limit`` bounds the number of callbacks called; a negative one means no limit.
        Source: ``notifier_call_chain(nl, val, v, nr_to_call, nr_calls)``.
        """
        return await self._areport(await self._begin_walk(event), event, data, limit)

    @overload
    async def call_robust(
        self: CarefulAsyncCalls[EventT, None],
        event: EventT,
        rollback_event: EventT,
        *,
        reverse: bool = False,
    ) -> int: ...
    @overload
    async def call_robust(
        self, event: EventT, rollback_event: EventT, data: DataT, *, reverse: bool = False
    ) -> int: ...
    async def call_robust(
        self, event: Any, rollback_event: Any, data: Any = None, *, reverse: bool = False
    ) -> int:
        """Like `call`, but when the walk is stopped, those that had agreed hear ``rollback_event``.

        They hear it in chain order, as in the kernel, or with ``reverse`` last first, shielded from
        cancellation. Gives the result of the one that stopped. An exception or a cancellation stops
        it too, and surfaces as ``errors=`` says; failures of the rollback itself raise
        `RollbackError` (D10). Context as `call`. Source: ``notifier_call_chain_robust()``.
        """
        made = self.call_robust_report(event, rollback_event, data, reverse=reverse)
        return (await made).result

    @overload
    async def call_robust_report(
        self: CarefulAsyncCalls[EventT, None],
        event: EventT,
        rollback_event: EventT,
        *,
        reverse: bool = False,
    ) -> CallReport: ...
    @overload
    async def call_robust_report(
        self, event: EventT, rollback_event: EventT, data: DataT, *, reverse: bool = False
    ) -> CallReport: ...
    async def call_robust_report(
        self, event: Any, rollback_event: Any, data: Any = None, *, reverse: bool = False
    ) -> CallReport:
        """Like `call_robust`, with a report whose ``rolled_back`` names who was rolled back."""
        items = await self._begin_walk(event)
        walk: Any
        try:
            walk = await adrive(Walk(self, items, event, policy=self._errors, defer=True), data)
            undone = walk.rollback(rollback_event, reverse=reverse)
            if undone is not None:
                with shield(needed=undone.awaits_any):
                    await adrive(undone, data)
            return walk.report_robust(undone)  # type: ignore[no-any-return]
        finally:
            self._end_walk(items)
            walk = undone = None  # they may hold exceptions, see drive()


SYNC_WALKS: frozenset[CodeType] = frozenset(
    walk.__code__
    for walk in (
        SyncCalls.call,
        CarefulSyncCalls.call_report,
        CarefulSyncCalls.call_robust_report,
    )
)
"""The code of every sync walk. A frame of it is a walk; its ``self`` is the chain."""
