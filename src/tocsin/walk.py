"""The walk: the only module that loops over callbacks.

Two fast loops, sync and async, do what nearly every call needs and nothing else. At the first thing
out of the ordinary (an exception, a block that is gone, a result of an odd type) they hand over to
a careful walk, which knows the rules, at the place that they have reached. Reports, limits and
robust calls are careful from the start: `careful_calls` makes those of the loops below.

Forces that shaped the fast loops:

- What callbacks mostly give is told by identity, at no cost that could be measured; what is left is
  looked at closely, so that no non-int passes as a result, whatever it makes of ``&`` (D4).
- No two slots of a snapshot are one object, so the one that raised tells its place, and a position
  costs nothing until somebody asks for it.
- The async loop exists three times, for sync, async and mixed callbacks: one test before the loop
  is cheaper than one in each turn. Its function is longer than thirty lines for that reason.
- ``for items in self._turns: break`` reads the snapshot and draws on the checkpoint budget (D11) in
  one step; an exhausted iterator means "look closer": the budget is used up, or a writer is about.
- Whatever makes a walk look closer is in one number, the snapshot's ``mode``.

Invariant: between reading the snapshot and counting the reader nothing suspends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from ._typing import DataT, EventT, Generic
from .careful import PLAIN_INTS, Walk, note_failure, takes_note
from .errors import AsyncCallbackError
from .results import NOTIFY_DONE, NOTIFY_OK, NOTIFY_STOP_MASK
from .view import CLOSED, GUARDED, MIXED, Skipped

if TYPE_CHECKING:
    from itertools import repeat
    from types import CodeType

    from .report import CallReport
    from .table import Table
    from .view import Snapshot

__all__ = ["UNCOUNTED", "AsyncCalls", "SyncCalls", "adrive", "drive"]

OK, DONE, ZERO = NOTIFY_OK, NOTIFY_DONE, 0
"""What callbacks mostly give: told by identity, which is quicker than any arithmetic."""


def drive(walk: Walk, data: object) -> Walk:
    """Run a careful walk over sync callbacks."""
    try:
        with walk:
            for slot in walk:
                try:
                    result = slot(walk.event, data)
                except Skipped:
                    continue
                except BaseException as error:
                    if walk.raised(error):
                        raise
                else:
                    walk.returned(result)
        return walk
    finally:
        del walk  # it may hold an exception, whose traceback holds this frame


async def adrive(walk: Walk, data: object) -> Walk:
    """Run a careful walk over sync and async callbacks."""
    try:
        with walk:
            for slot in walk:
                try:
                    result = slot(walk.event, data)
                    if walk.awaits:
                        result = await result
                except Skipped:
                    continue
                except BaseException as error:
                    if walk.raised(error):
                        raise
                else:
                    walk.returned(result)
        return walk
    finally:
        del walk  # it may hold an exception, whose traceback holds this frame


def passes(
    chain: SyncCalls[Any, Any] | AsyncCalls[Any, Any],
    items: Snapshot,
    slot: object,
    result: Any,
    error: Exception,
) -> bool:
    """Say whether a fast loop may let this exception pass, giving it its note."""
    if slot is None:  # a signal handler's, before the first callback
        return True
    if not takes_note(chain._errors, error, result):
        return False
    note_failure(chain, items, items.place_of(slot), error)
    return True


class SyncCalls(Generic[EventT, DataT]):
    """`call`, for a chain whose walks are sync and take no lock."""

    __slots__ = ()

    if TYPE_CHECKING:
        _errors: str
        _items: Snapshot
        _table: Table

        def _open(self, event: object) -> Snapshot: ...
        @property
        def name(self) -> str: ...  # noqa: D102

    @overload
    def call(self: SyncCalls[EventT, None], event: EventT) -> int: ...
    @overload
    def call(self, event: EventT, data: DataT) -> int: ...
    def call(self, event: Any, data: Any = None) -> int:  # noqa: C901 - see the module
        """Call the blocks in order until one stops the walk; give the last result.

        An empty chain gives `NOTIFY_DONE`. Raises what a callback raised, as ``errors=`` says (D9);
        `InvalidResultError` for an answer that is no result; on a `RawChain`, `AsyncCallbackError`
        when an async block is on it. Never blocks and takes no lock; legal inside a callback.
        Source: ``*_notifier_call_chain()``.
        """
        items: Any = self._items
        if items.mode:
            try:
                items = routes[event] if event in (routes := items.routes) else items.rest
            except Exception:  # unhashable, or worse
                items = CLOSED
            if items.mode or items.table.awaiting:  # also where nobody of this route awaits (D7)
                items = self._select(event)
                if items.observers:
                    return self._report(items, event, data, -1).result
        result: Any = None
        call: Any = None
        failures: list[Exception]
        try:
            for call in items:
                result = call(event, data)
                if result is None or result is OK or result is ZERO or result is DONE:
                    continue
                if result & NOTIFY_STOP_MASK or type(result) not in PLAIN_INTS:
                    break
            else:
                return NOTIFY_DONE if result is None else result
            if type(result) in PLAIN_INTS:
                return result  # type: ignore[no-any-return]
            failures = []
        except Exception as error:
            if passes(self, items, call, result, error):
                raise
            failures = [error]
        return self._resume(items, event, data, call, result, failures)

    def _resume(
        self,
        items: Snapshot,
        event: Any,
        data: Any,
        slot: object,
        result: Any,
        failures: list[Exception],
    ) -> int:
        """Go on carefully, at an outcome that the fast loop does not know what to do with."""
        walk: Any
        failure = failures.pop() if failures else None  # that no frame above holds it
        if type(failure) is Skipped and slot is items[-1]:
            return NOTIFY_DONE if result is None else result
        try:
            walk = Walk.take_over(self, items, event, self._errors, slot, result, failure)
            return drive(walk, data).report().result
        finally:
            walk = failure = None  # their traceback holds this frame

    def _report(self, items: Snapshot, event: Any, data: Any, limit: int) -> CallReport:
        """Walk carefully."""
        return drive(Walk(self, items, event, policy=self._errors, limit=limit), data).report()

    def _select(self, event: object) -> Snapshot:
        """Give the snapshot for an event; refuse before any callback ran (D7)."""
        if self._table.awaiting:
            names = ", ".join(repr(one.name) for one in self._table.members if one.is_async)
            raise AsyncCallbackError(
                f"chain {self.name!r} has async blocks ({names}), so call() cannot run it; "
                f"use acall()"
            )
        return self._open(event)


class AsyncCalls(Generic[EventT, DataT]):
    """`call`, for a chain whose walks are async; sync callbacks run inline."""

    __slots__ = ()

    if TYPE_CHECKING:
        _errors: str
        _turns: repeat[Snapshot]
        _waiting: int

        @property
        def name(self) -> str: ...  # noqa: D102
        async def _enter(self) -> Snapshot: ...
        def _route(self, event: object) -> Snapshot: ...
        def _end_walk(self, items: Snapshot) -> None: ...
        def _reader_left(self) -> None: ...

    @overload
    async def call(self: AsyncCalls[EventT, None], event: EventT) -> int: ...
    @overload
    async def call(self, event: EventT, data: DataT) -> int: ...
    async def call(self, event: Any, data: Any = None) -> int:  # noqa: C901 - see the module
        """Call the blocks in order until one stops the walk; give the last result.

        An empty chain gives `NOTIFY_DONE`. Raises what a callback raised, as ``errors=`` says (D9),
        and `InvalidResultError` for an answer that is no result. A checkpoint at least once in
        ``checkpoint_every`` calls, before the first callback (D11); on a `BlockingChain` it waits
        while a writer waits or works. Legal inside a callback.
        Source: ``*_notifier_call_chain()``.
        """
        items: Any
        for items in self._turns:  # noqa: B007
            break
        else:
            items = await self._enter()
        mode = items.mode
        if mode == GUARDED:
            try:
                items = routes[event] if event in (routes := items.routes) else items.rest
            except Exception:  # unhashable, or worse
                items = CLOSED
            if items.mode == GUARDED:
                items = self._route(event)
                if items.observers:
                    items.readers += 1
                    return (await self._areport(items, event, data, -1)).result
            mode = items.mode
        result: Any = None
        call: Any = None
        failures: list[Exception]
        if not mode:  # a walk that cannot suspend need not be counted
            try:
                try:
                    for call in items:
                        result = call(event, data)
                        if result is None or result is OK or result is ZERO or result is DONE:
                            continue
                        if result & NOTIFY_STOP_MASK or type(result) not in PLAIN_INTS:
                            break
                    else:
                        return NOTIFY_DONE if result is None else result
                    if type(result) in PLAIN_INTS:
                        return result  # type: ignore[no-any-return]
                    failures = []
                except Exception as error:
                    if passes(self, items, call, result, error):
                        raise
                    failures = [error]
                return await self._aresume(items, event, data, call, result, failures)
            finally:
                if self._waiting:
                    items = None  # this walk is over: `ancestry` must not take it for one
                    self._reader_left()
        items.readers += 1
        try:
            try:
                if mode != MIXED:
                    for call in items:
                        result = await call(event, data)
                        if result is None or result is OK or result is ZERO or result is DONE:
                            continue
                        if result & NOTIFY_STOP_MASK or type(result) not in PLAIN_INTS:
                            break
                    else:
                        return NOTIFY_DONE if result is None else result
                else:
                    for call, awaits in zip(items, items.kinds, strict=False):
                        result = await call(event, data) if awaits else call(event, data)
                        if result is None or result is OK or result is ZERO or result is DONE:
                            continue
                        if result & NOTIFY_STOP_MASK or type(result) not in PLAIN_INTS:
                            break
                    else:
                        return NOTIFY_DONE if result is None else result
                if type(result) in PLAIN_INTS:
                    return result  # type: ignore[no-any-return]
                failures = []
            except Exception as error:
                if passes(self, items, call, result, error):
                    raise
                failures = [error]
            return await self._aresume(items, event, data, call, result, failures)
        finally:
            items.readers -= 1
            if self._waiting and not items.readers:  # the last of them
                self._reader_left()

    async def _aresume(
        self,
        items: Snapshot,
        event: Any,
        data: Any,
        slot: object,
        result: Any,
        failures: list[Exception],
    ) -> int:
        """Go on carefully, at an outcome that the fast loops do not know what to do with."""
        walk: Any
        failure = failures.pop() if failures else None  # that no frame above holds it
        if type(failure) is Skipped and slot is items[-1]:
            return NOTIFY_DONE if result is None else result
        try:
            walk = Walk.take_over(self, items, event, self._errors, slot, result, failure)
            return (await adrive(walk, data)).report().result
        finally:
            walk = failure = None  # their traceback holds this frame

    async def _areport(self, items: Snapshot, event: Any, data: Any, limit: int) -> CallReport:
        """Walk carefully, the reader being counted already."""
        walk: Any
        try:
            walk = await adrive(Walk(self, items, event, policy=self._errors, limit=limit), data)
            return walk.report()  # type: ignore[no-any-return]
        finally:
            self._end_walk(items)
            walk = None  # it may hold exceptions, see drive()


UNCOUNTED: frozenset[CodeType] = frozenset((AsyncCalls.call.__code__,))
"""The code of the async walk that is not counted where its snapshot is all sync."""
