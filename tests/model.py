"""The contract in sixty lines: a model of D1 to D16 to hold beside a chain.

It keeps one list of records, in the order of registration, and looks at all of it whenever it is
asked anything. A walk is a generator: it yields whom to call, with which event, and is sent what
the callback gave or raised. What it returns is what the caller gets: a result, an exception, or a
list of exceptions, which stands for a group of them.

A record is one stay of a block on a chain: ``block``, ``names`` that it goes by, ``priority``,
``events``, ``once``, ``before`` and ``after``. Another stay is another record, and two records are
never equal (D3, D16).

So this says who is called, in which order (D8, D13), and what comes of it. What has no place in it
is how one waits, and that nothing else happens: `lockstep` and `test_model` look at D7, D12, D14
and D15. Nobody looks at D11 here: only the first call of a chain is a checkpoint.
"""

from __future__ import annotations

from typing import Any

from tocsin import NOTIFY_BAD, InvalidResultError, VetoError
from tocsin import NOTIFY_STOP_MASK as STOP


class RefusedError(Exception):
    """Bears the name of the error with which a chain refuses."""


def precedes(one: Any, other: Any) -> Any:
    """Say whether the one has to come before the other."""
    return other.names & one.before or one.names & other.after or one.priority > other.priority


def place(one: Any, left: list[Any], row: list[Any]) -> int:
    """Give the place that it takes: its own, or the first of those that it asks to precede."""
    peers = [it for it in left if it is not one and it.priority == one.priority]
    return min([row.index(one), *(place(it, peers, row) for it in peers if it.names & one.before)])


def in_order(row: list[Any]) -> list[Any]:
    """D1: again and again the first of those before whom nobody has to come."""
    ready = [one for one in row if not any(precedes(other, one) for other in row)]
    if row and not ready:
        raise RefusedError("OrderConflictError")
    first = sorted(ready, key=lambda one: place(one, row, row))[:1]
    return first + in_order([one for one in row if one not in first]) if row else []


def counts_as(said: Any) -> Any:
    """D4: what a callback gave or raised, as a result or an exception."""
    said = said.result if isinstance(said, VetoError) else 0 if said is None else said
    return said if isinstance(said, int | BaseException) else InvalidResultError()


class Model:
    """One chain. ``world`` has all of them, since a block is on one at most."""

    def __init__(self, world: list[Model], errors: str, admits: Any) -> None:
        self.world, self.errors, self.admits, self.records = world, errors, admits, list[Any]()

    def active(self) -> list[Any]:
        """Give those that may be called, in call order; the others are parked."""
        return in_order([one for one in self.records if self.admits(one)])

    def register(self, new: Any, *, unique: bool = False) -> None:
        """D6: an equal that stands in front of the block is found before the block itself."""
        known = [one for it in self.world for one in it.records if one.block is new.block]
        equals = [one for one in self.active() if one.priority == new.priority]
        in_order([*self.records, *([] if known else [new])])
        if unique and equals[:1] != known and (known[0] in equals if known else self.admits(new)):
            raise RefusedError("PriorityInUseError")
        if known:
            raise RefusedError("AlreadyRegisteredError")
        self.records.append(new)

    def unregister(self, block: Any) -> None:
        """D3, D6."""
        if all(one.block is not block for one in self.records):
            raise RefusedError("NotRegisteredError")
        self.records = [one for one in self.records if one.block is not block]

    def walk(self, view: list[Any], event: Any, ran: list[Any], errors: str, limit: int) -> Any:
        """Go through those who were there when it began (D2) and are there still (D3)."""
        result, failures = counts_as(None), list[Exception]()
        for one in view:
            over = isinstance(result, BaseException) or result & STOP or len(ran) == limit  # D5
            heard = one.events is None or event in list(one.events)
            if heard and one in self.records and not over:
                ran.append(one)
                if one.once:
                    self.unregister(one.block)
                result = counts_as((yield one, event))
                if isinstance(result, Exception) and errors != "raise":  # D9
                    failures, result = [*failures, result], 0
        return failures if failures and errors == "collect" and isinstance(result, int) else result

    def call(self, event: Any, ran: list[Any], limit: int = -1) -> Any:
        """Say what `call` does, and note in ``ran`` who has run."""
        return self.walk(self.active(), event, ran, self.errors, limit)

    def robust(self, event: Any, undo: Any, ran: list[Any], step: int = 1) -> Any:
        """D10: when it is stopped, all but the one who did that hear ``undo``."""
        result = yield from self.walk(self.active(), event, ran, "raise", -1)
        failed = isinstance(result, BaseException)
        stopped = not isinstance(result, GeneratorExit) and (failed or result & STOP)
        heard = ran[:-1][::step] if stopped else []
        more = yield from self.walk(heard, undo, [], "collect", -1)
        if not failed or isinstance(more, BaseException):
            return result if isinstance(more, int) else more
        if not isinstance(result, Exception) or self.errors == "raise":
            return result
        failures = more if isinstance(more, list) else []
        return NOTIFY_BAD if self.errors == "isolate" else [result, *failures]
