"""`call_concurrent`: the blocks of one priority together, one priority after another.

Owns what runs at the same time; each block is still walked by the careful walk, alone, so that the
rules about results and exceptions stand in one place. A *band* is the blocks of one priority. Its
sync callbacks run first, inline and in order; then its async ones start, in order, each in a task
of its own with a copy of the context. The band ends before the next one begins.

The task group is held below the frame of `ConcurrentCalls.call_concurrent`, where `ancestry` looks
for it: a callback that would wait for its own call is refused, as in every other walk.
"""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, Any, overload

from ._typing import DataT, EventT, Generic
from .careful import Walk
from .careful_calls import CarefulAsyncCalls
from .errors import InvalidTypeError, InvalidValueError, add_note
from .walk import AsyncCalls, adrive, drive
from .wording import as_int, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType

    from .view import Snapshot

__all__ = ["ASYNC_WALKS", "CONCURRENCY", "ConcurrentCalls"]


class ConcurrentCalls(Generic[EventT, DataT]):
    """``call_concurrent``, for a chain whose walks are async and counted."""

    __slots__ = ()

    if TYPE_CHECKING:
        _errors: str

        @property
        def name(self) -> str: ...  # noqa: D102
        async def _begin_walk(self, event: object) -> Snapshot: ...
        def _end_walk(self, items: Snapshot) -> None: ...

    @overload
    async def call_concurrent(
        self: ConcurrentCalls[EventT, None], event: EventT, *, limit: int | None = None
    ) -> int: ...
    @overload
    async def call_concurrent(
        self, event: EventT, data: DataT, *, limit: int | None = None
    ) -> int: ...
    async def call_concurrent(
        self, event: Any, data: Any = None, *, limit: int | None = None
    ) -> int:
        """Like `call`, with the blocks of equal priority running together.

        Priorities are still in order: a band of equal priority ends before the next one begins, and
        a stop in it ends the call there. The result of a band is that of its first stop in chain
        order, else of its last block. Sync callbacks run inline first; each async one in a task of
        its own, with a copy of the context. ``limit`` bounds how many of these run at once, from 1;
        ``None`` means no bound. With ``errors="raise"`` the first exception cancels the band and
        comes as itself; else the policies are those of `call`. Cancellation reaches all.

        Raises `InvalidTypeError` or `InvalidValueError` for the limit, else as `call`. A checkpoint
        where anything is async. Legal inside a callback.
        """
        _check_limit(self.name, limit)
        items = await self._begin_walk(event)
        walk: Any
        try:
            walk = Walk(self, items, event, policy=self._errors, kind="concurrent")
            await _run_bands(walk, data, limit)
            return walk.report().result  # type: ignore[no-any-return]
        finally:
            self._end_walk(items)
            walk = None  # it may hold exceptions, whose tracebacks hold this frame


def _check_limit(name: str, limit: object) -> None:
    if limit is None:
        return
    what = f"chain {name!r}: the limit of a concurrent call"
    number = as_int(limit)
    if number is None or isinstance(limit, bool):
        raise InvalidTypeError(f"{what} must be an int or None, not {type(limit).__name__}")
    if number < 1:
        raise InvalidValueError(
            f"{what} must be 1 or more, not {shown(limit)}; None means no bound"
        )


async def _run_bands(walk: Walk, data: object, limit: int | None) -> None:
    blocks = walk.items.blocks
    with walk:
        for _, band in groupby(range(len(blocks)), lambda place: blocks[place].priority):
            parts = [walk.part(position) for position in band]
            for part in parts:
                if not part.awaits_any:
                    drive(part, data)
            awaiting = [part for part in parts if part.awaits_any]
            if awaiting:
                await _Together(awaiting, limit).run(data)
            walk.absorb(parts)
            if walk.stopped_by is not None:
                return


class _Together:
    """Runs async blocks in a task group; the first exception that comes out cancels the others."""

    def __init__(self, parts: Sequence[Walk], limit: int | None) -> None:
        from anyio import Semaphore, create_task_group

        self._number = len(parts)
        self._parts = iter(parts)
        self._group = create_task_group()
        self._free = Semaphore(limit or len(parts), fast_acquire=True)
        self._failure: BaseException | None = None

    async def run(self, data: object) -> None:
        try:
            async with self._group as group:
                for _ in range(self._number):
                    await self._free.acquire()
                    group.start_soon(self._run_next, data)
        finally:
            failure, self._failure = self._failure, None
            try:
                if failure is not None:
                    raise failure
            finally:
                del failure, self  # a traceback may hold this frame

    async def _run_next(self, data: object) -> None:
        # Not handed to the task: trio starts tasks in any order, blocks come in that of the chain.
        part = next(self._parts)
        try:
            if self._failure is None:  # else it had not begun when the band was cancelled
                await adrive(part, data)
        except BaseException as error:
            if _is_cancelled(error):
                raise
            self._fail(error)
        finally:
            self._free.release()
            del part, self

    def _fail(self, error: BaseException) -> None:
        """Keep the first exception; what is no `Exception` goes before those that are."""
        first, later = self._failure, error
        if isinstance(first, Exception) and not isinstance(error, Exception):
            first, later = error, first
        if first is None:
            self._failure = error
            self._group.cancel_scope.cancel()
        else:
            self._failure = first
            said = f"while the band was cancelled, {type(later).__name__} came"
            add_note(first, "; ".join([said, *_notes_of(later)]))


def _notes_of(error: BaseException) -> list[str]:
    with suppress(Exception):  # whatever the attributes of somebody's exception do
        return [str(note) for note in error.__notes__]
    return []


def _is_cancelled(error: BaseException) -> bool:
    """Say whether this is a cancellation that was asked for, and not one that was just raised."""
    from anyio import current_effective_deadline, get_cancelled_exc_class

    return (
        isinstance(error, get_cancelled_exc_class()) and current_effective_deadline() == -math.inf
    )


ASYNC_WALKS: frozenset[CodeType] = frozenset(
    walk.__code__
    for walk in (
        AsyncCalls.call,
        AsyncCalls._areport,
        CarefulAsyncCalls.call_robust_report,
        ConcurrentCalls.call_concurrent,
    )
)
"""The code of every async walk; its ``items``, once set, is the snapshot that it is counted on."""

CONCURRENCY: CodeType = _Together.run.__code__
"""The code that holds the tasks of a band, and does nothing else until they have ended."""
