"""What each callback's outcome means: the contract's D4, D5, D9 and D10 in one place.

A `Walk` is the record of one careful walk. It is driven from outside, by `walk.drive` or
`walk.adrive`: iterating it gives the slot to call next, `returned` or `raised` takes the outcome.
So the rules stand here once, for sync and async walks alike, and the fast loops need none of them:
they hand over to a `Walk` at the first thing out of the ordinary.

Knows no event loop, no lock and no data of an event.

Invariants: ``position`` is the index, in the snapshot, of the slot given last; ``calls`` has one
entry for each callback that was entered.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from . import _log
from .block import where
from .callables import close_coroutine
from .errors import InvalidResultError, InvalidTypeError, RollbackError, VetoError, add_note
from .observer import Watch
from .report import BlockCall, CallReport
from .results import NOTIFY_BAD, NOTIFY_DONE, NOTIFY_STOP_MASK, NotifyResult
from .view import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from ._typing import Slot
    from .block import AnyBlock
    from .protocol import Named
    from .view import Snapshot

__all__ = ["PLAIN_INTS", "POLICIES", "Walk", "is_result", "note_failure", "takes_note"]

POLICIES = ("raise", "collect", "isolate")
PLAIN_INTS = frozenset((int, NotifyResult, bool))
"""The types of nearly every result; any other is looked at by `is_result`."""


class Walk:
    """One careful walk over a snapshot, or over ``positions`` of it."""

    position: int
    _started: float
    _duration: float

    def __init__(
        self,
        chain: Named,
        items: Snapshot,
        event: object,
        *,
        policy: str,
        limit: int = -1,
        positions: Sequence[int] | None = None,
        result: int | None = None,
        defer: bool = False,
        kind: str = "call",
    ) -> None:
        _check_limit(chain, limit)
        self.chain = chain
        self.items = items
        self.event = event
        self.result: int = NOTIFY_DONE if result is None else result
        self.calls: list[BlockCall] = []
        self.called: list[int] = []
        self.failures: list[Exception] = []
        self.failure: BaseException | None = None
        self.stopped_by: AnyBlock | None = None
        self._policy = policy
        self._limit = limit
        self._positions = range(len(items)) if positions is None else positions
        self._defer = defer
        self._is_over = limit == 0
        self._watch: Watch | None = None
        if items.observers:
            self._watch = Watch.over(items.observers, chain, event, kind)

    def __enter__(self) -> None:
        """Tell the observers, if there are any, that the walk begins."""
        if self._watch is not None:
            self._watch.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Tell the observers how the walk ended."""
        if self._watch is not None:
            self._watch.end(self.result if error is None else None, error)

    def __iter__(self) -> Iterator[Slot]:
        """Give the slots to call, until the walk is over."""
        for position in self._positions:
            if self._is_over:
                return
            self.position = position
            if self._watch is not None and self.items.holds(position):
                self._watch.tell("callback_started", self.block)
            self._started = perf_counter()
            yield self.items[position]

    @property
    def awaits(self) -> bool:
        """Whether the slot given last gives an awaitable."""
        return bool(self.items.kinds[self.position])

    @property
    def block(self) -> AnyBlock:
        """The block of the slot given last."""
        return self.items.blocks[self.position]

    @classmethod
    def take_over(
        cls,
        chain: Named,
        items: Snapshot,
        event: object,
        policy: str,
        slot: object,
        result: Any,
        failure: Exception | None,
    ) -> Self:
        """Take over from a fast loop, at an outcome that it does not know what to do with."""
        walk = cls(chain, items, event, policy=policy, result=result if is_result(result) else None)
        walk.position = items.place_of(slot)
        walk._positions = range(walk.position + 1, len(items))
        walk._started = perf_counter()
        try:
            if isinstance(failure, Skipped):
                return walk
            if failure is None or not _is_plain(result):
                walk.returned(result)  # a stop test that fails is the result's fault
            elif walk.raised(failure):
                raise failure
            return walk
        finally:
            del walk, failure  # a traceback may hold this frame

    def returned(self, result: Any) -> None:
        """Take a callback's result (D4, D5)."""
        self._duration = perf_counter() - self._started
        if result is None:
            result = NOTIFY_DONE
        elif not is_result(result):
            self._refuse(result)
            return
        self._answer(result, None)

    def _answer(self, result: int, veto: VetoError | None) -> None:
        if self._watch is not None:
            self._watch.tell("callback_returned", self.block, result, self._duration)
        self._enter(result, veto)

    def _refuse(self, result: object) -> None:
        error = invalid_result(self.chain, self.block, result)
        try:
            if self.raised(error):
                raise error
        finally:
            del error  # its traceback holds this frame

    def raised(self, error: BaseException) -> bool:
        """Take a callback's exception (D9, D10); say whether it has to propagate now."""
        self._duration = perf_counter() - self._started
        if isinstance(error, VetoError) and error.counts_as_result:
            self._answer(error.result, error)
            return False
        if self._watch is not None:
            self._watch.tell("callback_raised", self.block, error, self._duration)
        if isinstance(error, Exception):
            note_failure(self.chain, self.items, self.position, error)
            return self._take_exception(error)
        # A closed coroutine can do nothing more; all else waits for the rollback.
        return not self._defer or isinstance(error, GeneratorExit) or not self._fail(error)

    def _take_exception(self, error: Exception) -> bool:
        if self._defer:
            return not self._fail(error)
        if self._policy == "raise":
            return True
        if self._policy == "collect":
            self.failures.append(error)
        else:
            warn_isolated(self.chain, self.block, error)
        self._enter(NOTIFY_DONE, error)
        return False

    def _fail(self, error: BaseException) -> bool:
        self.failure = error
        self._enter(NOTIFY_BAD, error)
        return True

    def _enter(self, result: int, exception: BaseException | None) -> None:
        self.calls.append(BlockCall(self.block, result, exception, self._duration))
        self.called.append(self.position)
        self.result = result
        if int.__and__(result, NOTIFY_STOP_MASK):  # whatever a subclass makes of "&"
            self.stopped_by, self._is_over = self.block, True
        elif len(self.calls) == self._limit:
            self._is_over = True

    def report(self, rolled_back: Iterable[AnyBlock] = ()) -> CallReport:
        """End an ordinary walk: give its report, or raise what it collected."""
        if self.failures:
            raise ExceptionGroup(f"callbacks of chain {self.chain.name!r} raised", self.failures)
        calls = tuple(self.calls)
        return CallReport(
            self.event, self.result, len(calls), self.stopped_by, calls, tuple(rolled_back)
        )

    # The parts of a concurrent call.

    def part(self, position: int) -> Walk:
        """Give a walk over one block alone, which the observers take for a part of this one."""
        made = Walk(self.chain, self.items, self.event, policy=self._policy, positions=(position,))
        made._watch = None if self._watch is None else self._watch.part()
        return made

    def absorb(self, parts: Sequence[Walk]) -> None:
        """Take over how a band ended: with its first stop, else as its last block."""
        called = [part for part in parts if part.calls]
        for part in called:
            self.failures += part.failures
        stops = [part for part in called if part.stopped_by is not None]
        for decisive in stops[:1] or called:  # the last of these counts
            self.result, self.stopped_by = decisive.result, decisive.stopped_by

    # The second pass of a robust call (D10).

    def rollback(self, event: object, *, reverse: bool) -> Walk | None:
        """Give the walk that rolls this one back, or ``None`` when it was not stopped."""
        if self.stopped_by is None:
            return None
        heard = [one for one in self.called[:-1] if self.items.blocks[one].hears(event)]
        positions = heard[::-1] if reverse else heard
        return Walk(
            self.chain, self.items, event, policy="collect", positions=positions, kind="rollback"
        )

    @property
    def awaits_any(self) -> bool:
        """Whether any of the slots gives an awaitable."""
        return any(self.items.kinds[position] for position in self._positions)

    def report_robust(self, undone: Walk | None) -> CallReport:
        """End a robust call: give its report, or raise as the policy says."""
        if undone is None:
            return self.report()
        failure, self.failure = self.failure, None
        try:
            if failure is not None:
                self._surface(failure, undone)
            elif undone.failures:
                raise RollbackError(
                    f"a call of chain {self.chain.name!r} was stopped, and its rollback failed",
                    undone.failures,
                    self.result,
                )
            return self.report(call.block for call in undone.calls)
        finally:
            del failure, undone, self  # a traceback may hold this frame

    def _surface(self, failure: BaseException, undone: Walk) -> None:
        """Let out what ended the first pass; with ``isolate`` it is only logged."""
        try:
            if not isinstance(failure, Exception):
                undone.warn_failures()  # who cancels does not look at notes
                self.calls.clear()
                raise failure
            if self._policy == "collect":
                raise ExceptionGroup(
                    f"a robust call of chain {self.chain.name!r} failed",
                    [failure, *undone.failures],
                )
            if self._policy == "isolate":
                warn_isolated(self.chain, self.block, failure)
                undone.warn_failures()
                return
            for position, call in zip(undone.called, undone.calls, strict=True):
                if undone.has_failed(call):
                    kind, place = type(call.exception), _place(self.chain, self.items, position)
                    add_note(failure, f"in the rollback, {kind.__name__} was {place}")
            self.calls.clear()
            raise failure
        finally:
            del failure, undone, self  # a traceback may hold this frame

    def warn_failures(self) -> None:
        """Log what raised in a rollback."""
        for call in self.calls:
            if self.has_failed(call):
                warn_isolated(self.chain, call.block, call.exception)

    def has_failed(self, call: BlockCall) -> bool:
        """Say whether what was raised there is a failure, and no veto."""
        return any(call.exception is error for error in self.failures)


def _check_limit(chain: Named, limit: object) -> None:
    if not issubclass(type(limit), int):
        raise InvalidTypeError(
            f"chain {chain.name!r}: limit must be an int, not {type(limit).__name__}"
        )


def is_result(result: object) -> bool:
    """Say whether a callback may give this: an int, not something that only behaves like one."""
    return issubclass(type(result), int)


def invalid_result(chain: Named, block: AnyBlock, result: object) -> InvalidResultError:
    """Make the error for a callback's answer that is no result; close a coroutine (D4)."""
    hint = "give an int, such as NOTIFY_OK, or None"
    close_coroutine(result)
    if hasattr(type(result), "__await__"):  # of the type: its own attributes may do anything
        hint = "make the callback async def, or pass is_async=True on a chain that awaits"
    return InvalidResultError(
        f"block {block.name!r}{where(block)} on chain {chain.name!r} gave "
        f"{type(result).__name__}, which is no result; {hint}"
    )


def takes_note(policy: str, error: Exception, result: object) -> bool:
    """Say whether a fast loop may let this exception pass, once it has its note.

    ``result`` is the latest one; when that is of an odd type, it is itself the failure.
    """
    return policy == "raise" and not isinstance(error, Skipped | VetoError) and _is_plain(result)


def _is_plain(result: object) -> bool:
    """Say whether a fast loop would have gone on after this result."""
    return result is None or type(result) in PLAIN_INTS


def note_failure(chain: Named, items: Snapshot, position: int, error: Exception) -> None:
    """Tell an exception where it was raised; a RecursionError only once, at the innermost."""
    if isinstance(error, RecursionError) and hasattr(error, "__notes__"):
        return
    add_note(error, _place(chain, items, position), once=True)


def _place(chain: Named, items: Snapshot, position: int) -> str:
    block = items.blocks[position]
    return (
        f"raised by block {block.name!r}{where(block)} of chain {chain.name!r}, "
        f"priority {block.priority}, position {position + 1} of {len(items)}"
    )


def warn_isolated(chain: Named, block: AnyBlock, error: BaseException | None) -> None:
    """Log an exception that goes no further."""
    _log.warn(
        "isolated an exception of a callback", chain=chain.name, block=block.name, error=error
    )
