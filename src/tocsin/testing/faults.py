"""`inject_errors`: failures put into callbacks, to see what becomes of those around them.

The kernel's notifier-error-inject is a block of its own, whose priority decides how many have heard
an event before it fails. Here a block that is on the chain fails itself, as if the failure stood in
the first line of its callback: so it is this block that reports, notes and rollback name, and it
fails inside of its options, its ``timeout``, ``once`` and ``thread`` among them.

Owns the outcomes, how often they strike, and how a chain takes up and drops what is wrapped around
its callbacks. A walk knows nothing of it: it goes through slots that are made anew, for a change in
which nobody comes and nobody goes.

Invariant: once an `Injection` is closed it lets every callback through, also in a walk that began
before.

Source: ``lib/notifier-error-inject.c``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from threading import TIMEOUT_MAX, RLock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

from tocsin import _log
from tocsin.base import Chain
from tocsin.block import NotifierBlock
from tocsin.chains import AtomicChain
from tocsin.checks import check_seconds
from tocsin.errors import InvalidTypeError, InvalidValueError
from tocsin.report import describe_event
from tocsin.results import NotifyResult, notifier_from_errno
from tocsin.slots import make_slot
from tocsin.wording import as_int, shown

from .raising import check_class, fresh
from .threads import in_its_thread

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from contextlib import AbstractContextManager

    from tocsin._typing import Slot, Wrapper
    from tocsin.block import AnyBlock
    from tocsin.protocol import AnyChain
    from tocsin.table import Table

__all__ = ["Cancel", "Delay", "Injection", "Outcome", "inject_errors"]

_MAX_ERRNO = 4095  # what the kernel can pack into a pointer, and so the most that it injects


@dataclass(frozen=True)
class Delay:
    """An outcome for `inject_errors`: the callback begins so many seconds later.

    0 or more, at most 292 years. An async callback sleeps; a sync one blocks its thread, and the
    event loop with it, unless it has ``thread=True``. `InvalidTypeError` or `InvalidValueError`.
    """

    seconds: float

    def __post_init__(self) -> None:
        check_seconds(self.seconds, "a Delay")
        if not 0 <= self.seconds <= TIMEOUT_MAX:
            raise InvalidValueError(
                f"a Delay must be from 0 to {TIMEOUT_MAX:.0f} s, not {self.seconds}"
            )


class Cancellable(Protocol):
    """What can be cancelled: a cancel scope of anyio or trio, a task of asyncio."""

    def cancel(self) -> object:
        """Cancel it."""
        ...


@dataclass(frozen=True)
class Cancel:
    """An outcome for `inject_errors`: ``scope`` is cancelled while the callback begins.

    A call inside that scope is then cancelled at this very block, in the way of its backend. Where
    the scope does not reach the callback (it is not around the call, or there is a shield between)
    it goes on. ``scope`` is an `anyio.CancelScope`, such as a task group's, or whatever else has
    ``cancel()``, such as a task of asyncio; else `InvalidTypeError`. Async callbacks only.
    """

    scope: Cancellable

    def __post_init__(self) -> None:
        if isinstance(self.scope, type) or not callable(getattr(self.scope, "cancel", None)):
            raise InvalidTypeError(
                f"Cancel takes the cancel scope that is around the call, not "
                f"{_type_of(self.scope)}; see anyio.CancelScope"
            )


Outcome: TypeAlias = int | BaseException | type[BaseException] | Delay | Cancel
"""What can happen in the place of a callback, or before it."""


class Injection:
    """What `inject_errors` gives: how many failures it has injected.

    May be asked in any thread, and after the context was left.
    """

    __slots__ = ("_block", "_injected", "_is_open", "_lock", "_rows")

    def __init__(
        self, outcomes: Mapping[object, Outcome], block: AnyBlock | None, times: int | None
    ) -> None:
        tickets = () if times is None else (times,)
        self._rows = [_Row(*one, repeat(None, *tickets)) for one in outcomes.items()]
        self._block = block
        self._injected = 0
        self._is_open = True
        self._lock = RLock()  # other threads may walk, and signal handlers of this one

    @property
    def injected(self) -> int:
        """How many there were, delays and cancellations included."""
        return self._injected

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._injected} injected>"

    def _close(self) -> None:
        self._is_open = False

    def _wrap(self, block: AnyBlock, slot: Slot) -> Slot:
        """Give what is called in the place of a block's callback."""
        if self._block is not None and block is not self._block:
            return slot
        return self._wrap_async(slot) if block.is_async else self._wrap_sync(slot)

    def _wrap_sync(self, slot: Slot) -> Slot:
        def faulty(event: Any, data: Any) -> Any:
            outcome = self._take(event, is_async=False)
            if isinstance(outcome, Delay):
                time.sleep(outcome.seconds)
            elif outcome is not None:
                return _fail(outcome)
            return slot(event, data)

        return faulty

    def _wrap_async(self, slot: Slot) -> Slot:
        import anyio.lowlevel

        async def faulty(event: Any, data: Any) -> Any:
            outcome = self._take(event, is_async=True)
            if isinstance(outcome, Delay):
                await anyio.sleep(outcome.seconds)
            elif isinstance(outcome, Cancel):
                outcome.scope.cancel()
                await anyio.lowlevel.checkpoint()
            elif outcome is not None:
                return _fail(outcome)
            return await slot(event, data)

        return faulty

    def _take(self, event: object, *, is_async: bool) -> Outcome | None:
        """Give what is to happen now, and count it; ``None`` for nothing."""
        row = next((row for row in self._rows if _is(event, row.event)), None)
        if row is None or not self._is_open or (isinstance(row.outcome, Cancel) and not is_async):
            return None
        if next(row.tickets, _SPENT) is _SPENT:  # one step, for which racing calls contend
            return None
        with self._lock:
            self._injected += 1
        return row.outcome


class _Row(NamedTuple):
    """What happens at one event, and how often it still may."""

    event: object
    outcome: Outcome
    tickets: Iterator[None]


_SPENT = object()


def _is(event: object, key: object) -> bool:
    """Say whether they are one or equal; what has no truth value, as an array's, is not."""
    try:
        return (event,) == (key,)
    except Exception:
        return False


def _fail(outcome: Any) -> int:
    """Give a result with the errno, or raise the exception."""
    if isinstance(outcome, int):
        return notifier_from_errno(outcome)
    raise fresh(outcome)


def inject_errors(
    chain: AnyChain,
    outcomes: Mapping[Any, Outcome],
    *,
    block: AnyBlock | None = None,
    times: int | None = None,
) -> AbstractContextManager[Injection]:
    """Have callbacks of a chain fail at these events, for as long as the context is open.

    ``outcomes`` says what happens at an event, as if it stood in the first line of the callback:

    - an errno, 0 or negative, as in the kernel: the callback is not run, and its result carries the
      errno. It is clamped to -4095..0, with a warning when that changes it; 0 is no failure.
    - an exception, an instance or a class: it is raised.
    - `Delay`: the callback begins later.
    - `Cancel`: a cancel scope is cancelled, and with it the call.

    ``block`` is whose callback fails; ``None`` means that of every block, also of those that come
    later, so that it is the first that hears the event who fails. ``times``, from 1, is how often
    this happens for each event; ``None`` means every time. Of two injections that strike at once,
    the one that was entered last does, and a delay leads on to the other.

    Calls of every kind, rollbacks and replays are concerned. Walks that have begun when it is
    entered are not; once it is left, no walk is any more. Injections may be nested and left in any
    order. Entering and leaving are sync, wait for no callback, and are legal in a callback and in
    any thread: where the event loop of an async chain runs in another one, it is that loop which
    does it, with a `TimeoutError` when it is blocked for ten seconds: then nothing was entered, or
    it is left with no callback failing any more, and the loop tidies up as soon as it goes on.

    Raises `InvalidTypeError` or `InvalidValueError`, for a `Cancel` too where nothing is async, and
    `NotRegisteredError` for a block that is not on the chain, also when the context is entered.
    Source: ``notifier_err_inject_init()``.
    """
    if not isinstance(chain, Chain):
        raise InvalidTypeError(f"inject_errors() takes a chain, not {_type_of(chain)}")
    times = _check_times(chain, times)
    checked = _check_outcomes(chain, outcomes)
    _check_block(chain, block, cancels=any(isinstance(one, Cancel) for one in checked.values()))
    return _injecting(chain, checked, block, times)


@contextmanager
def _injecting(
    chain: Chain[Any, Any],
    outcomes: Mapping[object, Outcome],
    block: AnyBlock | None,
    times: int | None,
) -> Generator[Injection]:
    injection = Injection(outcomes, block, times)
    wrap = injection._wrap

    def enter(draft: Table) -> None:
        if block is not None and not draft.has(block):  # it may have gone since it was given
            raise chain._not_registered(block)
        _rewrap(chain, draft, (*draft.wrappers, wrap))

    def leave(draft: Table) -> None:
        _rewrap(chain, draft, tuple(one for one in draft.wrappers if one is not wrap))

    try:
        in_its_thread(chain, partial(chain._edit, enter))
    except BaseException:
        injection._close()  # what has just entered nobody will leave
        raise
    try:
        yield injection
    finally:
        injection._close()
        in_its_thread(chain, partial(chain._edit, leave), is_undo=True)


def _rewrap(chain: Chain[Any, Any], draft: Table, wrappers: tuple[Wrapper, ...]) -> None:
    """Change what the callbacks of a chain are wrapped in, those of later blocks too."""
    draft.wrappers = wrappers
    for block in draft.members:
        block._nb_slot = make_slot(block, chain._take_off, wrappers)


# What was given.


def _check_times(chain: Chain[Any, Any], times: object) -> int | None:
    if times is None:
        return None
    what = f"inject_errors() on chain {chain.name!r}: times"
    number = as_int(times)
    if number is None or isinstance(times, bool):
        raise InvalidTypeError(f"{what} must be an int or None, not {_type_of(times)}")
    if not 1 <= number <= sys.maxsize:
        raise InvalidValueError(
            f"{what} must be from 1 to {sys.maxsize}, not {shown(number)}; None means every time"
        )
    return number


def _check_outcomes(chain: Chain[Any, Any], outcomes: object) -> dict[object, Outcome]:
    """Give the outcomes as they will be used, those that are failures, or raise."""
    if not isinstance(outcomes, Mapping):
        raise InvalidTypeError(
            f"inject_errors() on chain {chain.name!r} takes outcomes by event, such as "
            f"{{'suspend': -errno.EBUSY}}, not {_type_of(outcomes)}"
        )
    given = cast("Mapping[object, object]", outcomes)
    checked = {event: _checked(chain, event, outcome) for event, outcome in given.items()}
    return {event: outcome for event, outcome in checked.items() if outcome != 0}


def _checked(chain: Chain[Any, Any], event: object, outcome: object) -> Outcome:
    """Give the outcome as it will be used, or raise."""
    at = f"inject_errors() on chain {chain.name!r} at event {describe_event(event)}"
    kind, number = _type_of(outcome), as_int(outcome)
    if isinstance(outcome, Delay | Cancel | BaseException):
        return outcome
    if isinstance(outcome, type) and issubclass(outcome, BaseException):
        check_class(outcome, at)
        return outcome
    if number is None or isinstance(outcome, bool | NotifyResult):
        raise InvalidTypeError(
            f"{at} takes an errno such as -errno.EBUSY, an exception, Delay(seconds) or "
            f"Cancel(scope), not {kind}"
        )
    clamped = max(-_MAX_ERRNO, min(0, number))
    if clamped != number:
        meant = f"; did you mean {-number}?" if 0 < number <= _MAX_ERRNO else ""
        said = f"{at} takes an errno from -{_MAX_ERRNO} to 0{meant}"
        _log.warn(said, given=shown(number), used=clamped)
    return clamped


def _check_block(chain: Chain[Any, Any], block: object, *, cancels: bool) -> None:
    """Raise unless the outcomes can be injected there."""
    what = f"inject_errors() on chain {chain.name!r}"
    if block is None:
        is_async = not isinstance(chain, AtomicChain)
        who = "a chain of sync callbacks"
    elif isinstance(block, NotifierBlock):
        target: AnyBlock = block  # pyright: ignore[reportUnknownVariableType]
        if not chain._table.has(target):
            raise chain._not_registered(target)
        is_async = target.is_async
        who = f"block {target.name!r}, which is sync"
    else:
        raise InvalidTypeError(
            f"{what}: block must be the block that register gave you, or None for all, not "
            f"{_type_of(block)}"
        )
    if cancels and not is_async:
        raise InvalidValueError(
            f"{what}: no cancellation can reach into {who}; take an async block, or another outcome"
        )


def _type_of(value: object) -> str:
    return type(value).__name__
