"""Every order in which the tasks of a small scenario can run, one after another.

In the manner of stateless model checking (CHESS, loom, shuttle): a scenario is run from its start
again and again; wherever more than one task could go on, another choice is made, depth first over
the tree of choices, until all are done or a bound is reached. So it is no luck whether a race is
hit, and a failure names the choices that lead to it, with which `replay` finds it again.

A choice is who goes on until it suspends again. `TIMERS` is one of the choices: virtual time goes
on to the next deadline although others could run. It does so by itself where nobody can. So the
explorer sees what no test with a clock does: *nobody can go on and no deadline will change that* is
a deadlock, and more than `MOST_STEPS` steps are a livelock.

Bounds: ``delays`` is how often, over a whole run, somebody who had been ready for longer is passed
over (delay-bounded scheduling): 0 is first come first served, ``None`` is no bound. ``timers`` is
how often time is chosen to go on.

Knows no event loop: those are in `schedules_backends`, which asks `Turns.next` who goes on.

Invariant: a run is a function of its choices. The explorer checks that, and `UnrepeatableError`
says that a scenario depends on something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

__all__ = [
    "TIMERS",
    "DeadlockError",
    "Explored",
    "Failure",
    "LivelockError",
    "Scenario",
    "Turns",
    "UnrepeatableError",
    "explore",
    "replay",
]

TIMERS = "time"
"""The choice that lets virtual time go on to the next deadline."""

MOST_STEPS = 400
"""Steps after which a run is taken for one that never ends; ours take some 30."""


class DeadlockError(AssertionError):
    """Nobody can go on, and no deadline will change that."""


class LivelockError(AssertionError):
    """A run does not end."""


class UnrepeatableError(Exception):
    """The same choices have led to something else."""


class Scenario:
    """What some tasks do, and what must hold meanwhile. Made afresh for each run."""

    turns: Turns
    """The run that this is part of."""

    async def set_up(self) -> None:
        """Prepare, before there is any choice."""

    def actors(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """Give the tasks by name. An exception that one raises is a failure of the run."""
        raise NotImplementedError

    def check(self) -> None:
        """Assert what holds before every step."""

    async def finish(self) -> None:
        """Assert what holds when all tasks have ended."""


@dataclass(frozen=True)
class Failure:
    """What a run has ended with."""

    error: Exception
    choices: tuple[str, ...]
    """Who went on, wherever more than one could."""

    def __str__(self) -> str:
        return f"{type(self.error).__name__}: {self.error}\nchoices: {list(self.choices)}"


@dataclass(frozen=True)
class Explored:
    """What an exploration has seen; it ends with the first failure."""

    orders: int
    is_exhaustive: bool
    """Whether there is no other order, of those that the bounds allow."""
    failure: Failure | None = None

    def raise_failure(self) -> None:
        """Raise what a run has failed with, with the choices that lead there."""
        if self.failure is not None:
            self.failure.error.add_note(f"replay with {list(self.failure.choices)!r}")
            raise self.failure.error


class Chooser(Protocol):
    """Says who goes on."""

    def choose(self, options: Sequence[str]) -> str: ...


class Tree:
    """All sequences of choices, depth first; the first of all takes the first option each time."""

    def __init__(self, delays: int | None) -> None:
        self._delays = delays
        self._options: list[tuple[str, ...]] = []
        self._taken: list[int] = []
        self._depth = 0

    def choose(self, options: Sequence[str]) -> str:
        if self._depth == len(self._taken):
            self._options.append(tuple(options))
            self._taken.append(0)
        elif self._options[self._depth] != tuple(options):
            raise UnrepeatableError(f"{self._options[self._depth]} have become {options}")
        self._depth += 1
        return options[self._taken[self._depth - 1]]

    def advance(self) -> bool:
        """Go on to the next sequence, if there is one: to the last choice that has another."""
        self._depth = 0
        while self._taken:
            self._taken[-1] += 1
            is_left = self._taken[-1] < len(self._options[-1])
            if is_left and (self._delays is None or sum(self._taken) <= self._delays):
                return True
            self._taken.pop()
            self._options.pop()
        return False


class Script:
    """One given sequence of choices, from then on whoever is first."""

    def __init__(self, choices: Iterable[str]) -> None:
        self._choices = iter(choices)

    def choose(self, options: Sequence[str]) -> str:
        chosen = next(self._choices, options[0])
        if chosen not in options:
            raise UnrepeatableError(f"{chosen!r} cannot go on here, only {options}")
        return chosen

    def advance(self) -> bool:
        return False


class Turns:
    """One run: who goes on, what has been chosen, and how it failed."""

    def __init__(self, chooser: Chooser, scenario: Scenario, timers: int) -> None:
        self._chooser, self._scenario, self._timers = chooser, scenario, timers
        self._ready: list[str] = []  # those who could go on, the longest ready one first
        self._scope = anyio.CancelScope()
        self._is_open = False
        self.chosen: list[str] = []  # who went on, wherever more than one could
        self.steps = 0
        self.failure: Failure | None = None

    async def run(self) -> None:
        """Run the scenario once; the first failure cancels all that is left of it."""
        scenario = self._scenario
        scenario.turns = self
        try:
            with self._scope:
                await scenario.set_up()
                async with anyio.create_task_group() as group:
                    self._is_open = True
                    for name, actor in scenario.actors().items():
                        group.start_soon(self._act, actor, name=name)
                self._is_open = False
                await scenario.finish()
        except Exception as error:
            self.fail(error)
        finally:
            self._is_open = False

    async def _act(self, actor: Callable[[], Awaitable[object]]) -> None:
        try:
            await actor()
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """End the run with its first failure."""
        if self.failure is None:
            self.failure = Failure(error, tuple(self.chosen))
            self._scope.cancel()

    def stuck(self) -> None:
        """Take note that nobody can go on."""
        if self.failure is not None:
            raise RuntimeError("what has failed cannot be cancelled") from self.failure.error
        self.fail(DeadlockError("nobody can go on"))

    def next(self, ready: Sequence[str], *, has_timers: bool) -> str:
        """Say who of these goes on, or `TIMERS`; whoever it is may fail the run first."""
        self.steps += 1
        if self.failure is None and self._is_open:
            try:
                return self._next(ready, has_timers=has_timers)
            except Exception as error:
                self.fail(error)
        elif self.steps > 4 * MOST_STEPS:
            raise RuntimeError("what has failed goes on for ever")
        return ready[0]

    def _next(self, ready: Sequence[str], *, has_timers: bool) -> str:
        self._scenario.check()
        if self.steps > MOST_STEPS:
            raise LivelockError(f"{', '.join(sorted(ready))} went on for {MOST_STEPS} steps")
        newcomers = sorted(set(ready).difference(self._ready))
        self._ready = [one for one in self._ready if one in ready] + newcomers
        options = self._ready.copy()
        if has_timers and self._timers:
            options.append(TIMERS)
        chosen = options[0]
        if len(options) > 1:
            chosen = self._chooser.choose(options)
            self.chosen.append(chosen)
        if chosen == TIMERS:
            self._timers -= 1
        else:
            self._ready.remove(chosen)
        return chosen


class _Exploration:
    """Runs a scenario as a chooser says, until that has no more or a run fails."""

    def __init__(self, make: Callable[[], Scenario], chooser: Tree | Script, timers: int) -> None:
        self._make, self._chooser, self._timers = make, chooser, timers

    async def run(self, begin: Callable[[Turns], object], limit: int) -> Explored:
        for orders in range(1, limit + 1):
            turns = Turns(self._chooser, self._make(), self._timers)
            begin(turns)
            await turns.run()
            if turns.failure is not None:
                return Explored(orders, False, turns.failure)
            if not self._chooser.advance():
                return Explored(orders, True)
        return Explored(limit, False)


def explore(
    backend: str,
    make: Callable[[], Scenario],
    *,
    delays: int | None = None,
    timers: int = 1,
    limit: int = 1_000_000,
) -> Explored:
    """Run the scenario in every order that the bounds allow, at most ``limit`` of them."""
    from .schedules_backends import BACKENDS

    return BACKENDS[backend](_Exploration(make, Tree(delays), timers).run, limit)


def replay(
    backend: str, make: Callable[[], Scenario], choices: Iterable[str], *, timers: int = 1
) -> Explored:
    """Run the scenario once, with the choices of a failure."""
    from .schedules_backends import BACKENDS

    return BACKENDS[backend](_Exploration(make, Script(choices), timers).run, 1)
