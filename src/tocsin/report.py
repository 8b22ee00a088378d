"""What a call and a chain tell about themselves: frozen records, made on request."""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .errors import VetoError
from .results import NOTIFY_STOP_MASK, describe_result, notifier_to_errno
from .wording import as_int, as_str

if TYPE_CHECKING:
    from .block import AnyBlock

__all__ = ["BlockCall", "CallReport", "ChainStatistics", "describe_event"]


def describe_event(event: object) -> str:
    """Say in text which event it is, for people and logs; of an object only its type.

    An event may be an object that carries data, and what is said here goes into logs.
    """
    kind = type(event)  # not what it says that it is
    if issubclass(kind, Enum):
        return f"{kind.__name__}.{cast('Enum', event).name}"
    if event is None or kind is bool:
        return str(event)
    # As what they are, whatever a subclass says of itself.
    if (text := as_str(event)) is not None:
        return text
    if (number := as_int(event)) is not None:
        with suppress(ValueError):  # it has more digits than Python cares to write
            return repr(number)
    if issubclass(kind, float):
        return float.__repr__(cast("float", event))
    return cast("type", event if issubclass(kind, type) else kind).__qualname__


class BlockCall(NamedTuple):
    """One callback's part in a call."""

    block: AnyBlock
    result: int
    """What it counted as; `NOTIFY_DONE` for ``None`` and for an isolated exception."""
    exception: BaseException | None
    """What it raised, a `VetoError` included."""
    duration: float
    """Seconds."""


class CallReport(NamedTuple):
    """What happened in one call. Source: ``notifier_call_chain(..., nr_calls)``."""

    event: Any
    result: int
    nr_calls: int
    """How many callbacks were called, the one that stopped the walk included."""
    stopped_by: AnyBlock | None
    calls: tuple[BlockCall, ...]
    """In call order; of a robust call, those of the first pass."""
    rolled_back: tuple[AnyBlock, ...] = ()
    """The blocks that were called with the rollback event, in that order."""

    def raise_for_veto(self) -> None:
        """Raise `VetoError` when the call was stopped, with result, block and reason.

        Any stop bit counts, also a plain `NOTIFY_STOP`: after a robust call it too means that all
        was rolled back. Pure; legal anywhere.
        """
        if int.__and__(self.result, NOTIFY_STOP_MASK):  # whatever a subclass makes of "&"
            said = self.calls[-1].exception if self.calls else None
            reason = said.reason if isinstance(said, VetoError) else self._describe_stop()
            error = -notifier_to_errno(self.result)
            raise VetoError(error, reason, result=self.result, block=self.stopped_by) from said

    def _describe_stop(self) -> str:
        who = "" if self.stopped_by is None else f" by block {self.stopped_by.name!r}"
        return f"stopped{who} with {describe_result(self.result)}"


class ChainStatistics(NamedTuple):
    """The state of a chain at one moment."""

    blocks: int
    """Active blocks."""
    parked: int
    """Blocks that the filter leaves out."""
    walks_running: int
    writers_waiting: int
