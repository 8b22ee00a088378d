"""The async walk of a `RawChain`: the code of `CarefulAsyncCalls` under the names ``acall*``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, overload

from ._typing import DataT, EventT, Generic
from .careful_calls import CarefulAsyncCalls

if TYPE_CHECKING:
    from .report import CallReport

__all__ = ["RawCalls"]


class RawCalls(Generic[EventT, DataT]):
    """``acall`` and its kin, for a chain that has what `CarefulAsyncCalls` asks for."""

    __slots__ = ()

    _areport = CarefulAsyncCalls._areport
    _aresume = CarefulAsyncCalls._aresume

    @overload
    async def acall(self: RawCalls[EventT, None], event: EventT) -> int: ...
    @overload
    async def acall(self, event: EventT, data: DataT) -> int: ...
    async def acall(self, event: Any, data: Any = None) -> int:
        """Like `BlockingChain.call`, without its lock. A checkpoint once in 512 calls."""
        return await CarefulAsyncCalls.call(cast("Any", self), event, data)

    @overload
    async def acall_report(
        self: RawCalls[EventT, None], event: EventT, *, limit: int = -1
    ) -> CallReport: ...
    @overload
    async def acall_report(self, event: EventT, data: DataT, *, limit: int = -1) -> CallReport: ...
    async def acall_report(self, event: Any, data: Any = None, *, limit: int = -1) -> CallReport:
        """Like `BlockingChain.call_report`, without its lock."""
        return await CarefulAsyncCalls.call_report(cast("Any", self), event, data, limit=limit)

    @overload
    async def acall_robust(
        self: RawCalls[EventT, None],
        event: EventT,
        rollback_event: EventT,
        *,
        reverse: bool = False,
    ) -> int: ...
    @overload
    async def acall_robust(
        self, event: EventT, rollback_event: EventT, data: DataT, *, reverse: bool = False
    ) -> int: ...
    async def acall_robust(
        self, event: Any, rollback_event: Any, data: Any = None, *, reverse: bool = False
    ) -> int:
        """Like `BlockingChain.call_robust`, without its lock."""
        made = self.acall_robust_report(event, rollback_event, data, reverse=reverse)
        return (await made).result

    @overload
    async def acall_robust_report(
        self: RawCalls[EventT, None],
        event: EventT,
        rollback_event: EventT,
        *,
        reverse: bool = False,
    ) -> CallReport: ...
    @overload
    async def acall_robust_report(
        self, event: EventT, rollback_event: EventT, data: DataT, *, reverse: bool = False
    ) -> CallReport: ...
    async def acall_robust_report(
        self, event: Any, rollback_event: Any, data: Any = None, *, reverse: bool = False
    ) -> CallReport:
        """Like `BlockingChain.call_robust_report`, without its lock."""
        return await CarefulAsyncCalls.call_robust_report(
            cast("Any", self), event, rollback_event, data, reverse=reverse
        )
