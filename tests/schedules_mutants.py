"""Planted bugs: what the explorer has to find, lest that it finds nothing means nothing.

Each is a piece of a method's text with another in its place, and the scenario that shows it. Text
that is not there once and only once is an error, so a mutant cannot outlive the code that it is of.
"""

from __future__ import annotations

import inspect
from functools import partial
from textwrap import dedent, indent
from typing import TYPE_CHECKING, Any, NamedTuple

from tocsin import BlockingChain
from tocsin.bands import ConcurrentCalls
from tocsin.guards import Guarded
from tocsin.locks import GracePeriods, ReaderWriterLock
from tocsin.pacing import Paced
from tocsin.view import Walked
from tocsin.waits import Awaited

from .schedules_scenarios import GraceScenario, LockScenario, PatienceScenario

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from .schedules import Scenario

__all__ = ["MUTANTS", "Edit", "Mutant"]


class Edit(NamedTuple):
    """One method with a piece of its text replaced."""

    owner: type[Any]
    method: str
    text: str
    becomes: str

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        real: Any = vars(self.owner)[self.method]
        function: Any = real.fget if isinstance(real, property) else real
        source = dedent(inspect.getsource(function))
        assert source.count(self.text) == 1, f"{self.method} has not {self.text!r} once"
        # Within a function that is called with the class, so that ``super()`` works.
        body = indent(source.replace(self.text, self.becomes), "    ")
        made: dict[str, Any] = {}
        future = "from __future__ import annotations\n"
        code = f"{future}def make(__class__):\n{body}\n    return {self.method}\n"
        exec(compile(code, f"<mutant of {self.method}>", "exec"), function.__globals__, made)
        patch.setattr(self.owner, self.method, made["make"](self.owner))


class Mutant(NamedTuple):
    """A bug, and where it shows."""

    says: str
    """A part of the failure that it leads to, for one of another kind may be the explorer's."""
    scenario: Callable[[], Scenario]
    edits: tuple[Edit, ...]
    timers: int = 1


def lock(*arguments: Any, **options: Any) -> Callable[[], Scenario]:
    return partial(LockScenario, *arguments, **options)


def grace(*arguments: Any, **options: Any) -> Callable[[], Scenario]:
    return partial(GraceScenario, *arguments, **options)


MUTANTS: dict[str, Mutant] = {
    "a lost wake-up: a writer that ends wakes nobody": Mutant(
        "DeadlockError",
        lock(writers=["register"]),
        (Edit(ReaderWriterLock, "release_write", "self.wake()", "self._changed()"),),
    ),
    "a lost wake-up: the last reader wakes nobody": Mutant(
        "woken by time alone",
        lock(writers=["unregister"]),
        (Edit(Guarded, "_reader_left", "self._rwlock.is_due() or", ""),),
    ),
    "a lost wake-up: a writer that is cancelled in the queue wakes nobody": Mutant(
        "DeadlockError",
        lock(["spawned"], ["register"], ["register 1"]),
        (Edit(ReaderWriterLock, "_leave_queue", "self.wake()", "self._changed()"),),
    ),
    "a lost wake-up: only the first of those who wait for a grace period is woken": Mutant(
        "DeadlockError",
        grace(["call"], ["synchronize", "unregister"]),
        (Edit(GracePeriods, "wake", "event.set()", "event.set(); break"),),
    ),
    "a reader counted twice: as entering, and as walking": Mutant(
        "LivelockError",
        lock(writers=["register", "register"]),
        (Edit(ReaderWriterLock, "acquire_read", "self._entering -= 1", "pass"),),
    ),
    "a reader counted twice: in a report": Mutant(
        "LivelockError",
        lock(["call_report"], ["unregister"]),
        (Edit(Paced, "_begin_walk", "items.readers += 1", "items.readers += 2"),),
    ),
    "a reader not counted: between its grant and its walk": Mutant(
        "write while",
        lock(["call"], ["register", "register"]),
        (
            Edit(ReaderWriterLock, "_admit", "self._entering += 1", "pass"),
            Edit(ReaderWriterLock, "acquire_read", "self._entering -= 1", "pass"),
        ),
    ),
    "a reader not counted: a writer is granted while a walk is under way": Mutant(
        "wrote while",
        lock(["call", "call"], ["unregister"]),
        (Edit(ReaderWriterLock, "is_due", "or not self._is_idle()", ""),),
    ),
    "a reader not counted: while the tasks of a concurrent call run": Mutant(
        "had not left",
        grace(["call_concurrent"], ["unregister"]),
        (
            Edit(
                ConcurrentCalls,
                "call_concurrent",
                "await _run_bands(walk, data, limit)",
                "items.readers -= 1; await _run_bands(walk, data, limit); items.readers += 1",
            ),
        ),
    ),
    "a grace period that looks only at the newest snapshot": Mutant(
        "had not left",
        grace(writers=["register", "unregister"]),
        (
            Edit(
                Awaited, "_readers_of", "return walked if", "walked = walked[-1:]; return walked if"
            ),
        ),
    ),
    "a grace period that waits for later walks too": Mutant(
        "DeadlockError",
        grace(writers=["unregister"]),
        (
            Edit(
                Awaited,
                "_wait_out",
                "await self._grace.wait(snapshots)",
                "while self._is_walked():\n        await self._grace.wait(self._readers_of())",
            ),
        ),
    ),
    "a grace period that stays when its writer is cancelled": Mutant(
        "waiting",
        grace(writers=["unregister"], cancelled=["unregister 1"]),
        (Edit(GracePeriods, "wait", "self._waiters.remove(waiter)", "pass"),),
    ),
    "readers that overtake a waiting writer": Mutant(
        "has overtaken",
        lock(writers=["unregister"]),
        (Edit(ReaderWriterLock, "is_closed", "self.writing or bool(self._queue)", "self.writing"),),
    ),
    "readers that overtake a waiting writer when their budget is filled": Mutant(
        "has overtaken",
        lock(["call", "call", "call"], ["unregister"], checkpoint_every=3),
        (Edit(Guarded, "_refill", "if self._rwlock.is_closed", "if self._rwlock.writing"),),
    ),
    "a nested call that waits for ever": Mutant(
        "LivelockError",
        lock(["nested"], ["register"]),
        (
            Edit(Guarded, "_admit", "or any(True for _ in own_walks(self, ASYNC_WALKS))", ""),
            Edit(ReaderWriterLock, "_let_readers_pass", "not self.writing", "False"),
        ),
    ),
    "a nested call that waits for the patience of a writer": Mutant(
        "not admitted at once",
        lock(["nested"], ["register"]),
        (Edit(Guarded, "_admit", "or any(True for _ in own_walks(self, ASYNC_WALKS))", ""),),
    ),
    "a writer without end to its patience, and a callback that waits for a call": Mutant(
        "LivelockError",
        lock(["spawned"], ["register"]),
        (Edit(ReaderWriterLock, "_let_readers_pass", "not self.writing", "False"),),
    ),
    "a writer whose patience does not grow": Mutant(
        "was admitted at",
        partial(PatienceScenario, ["twice"], ["register"]),
        (Edit(ReaderWriterLock, "acquire_write", "patience *= 2", "pass"),),
        timers=0,
    ),
    "an impatient writer that lets but one reader pass": Mutant(
        "was admitted at",
        partial(PatienceScenario, ["twice"], ["register"]),
        (Edit(ReaderWriterLock, "_let_readers_pass", "_admit(waiter)", "_admit(waiter); break"),),
        timers=0,
    ),
    "an impatient writer that lets readers pass while another writes": Mutant(
        "write while",
        lock(["call"], ["register", "register"]),
        (Edit(ReaderWriterLock, "_let_readers_pass", "and not self.writing", ""),),
    ),
    "a grant lost when its writer is cancelled at that moment": Mutant(
        "the lock is left",
        lock(["call"], ["unregister"], ["unregister 1"]),
        (Edit(ReaderWriterLock, "acquire_write", "if waiter.granted:", "if False:"),),
    ),
    "a grant lost when its reader is cancelled at that moment": Mutant(
        "the lock is left",
        lock(["call"], ["register"], ["caller 1"]),
        (Edit(ReaderWriterLock, "acquire_read", "self._entering -= waiter.granted", "pass"),),
    ),
    "a cancelled unregister that leaves the block on the chain": Mutant(
        "what was unregistered is there",
        lock(["call"], ["unregister"], ["unregister 1"]),
        (Edit(BlockingChain, "unregister", "self._take_off(block)", "pass"),),
    ),
    "a block that is gone and is entered by walks that began before": Mutant(
        "entered who had been taken off",
        grace(["call"], ["unregister"], ["unregister 1"]),
        (Edit(Walked, "blank", "items.blank(block)", "pass"),),
    ),
}
