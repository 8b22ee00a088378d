"""How a figure is taken: all candidates of an experiment interleaved and shuffled, in one process.

A time on a shared machine says little; a ratio of two times taken in the same moment says much. So
the candidates of an experiment take turns, in another order each round, and of a candidate's rounds
the lower quartile counts: the fastest quarter is what the code costs, the rest is what the machine
was doing besides.
"""

from __future__ import annotations

import gc
import random
import statistics
from contextlib import contextmanager
from functools import partial
from inspect import isawaitable
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

TakenT = TypeVar("TakenT")


BARE = "bare"
"""The name of the candidate that all others are compared with."""


class Candidate(NamedTuple):
    """One way of doing an experiment's work."""

    name: str
    """Who does it: `BARE`, ``Atomic``, ``blinker``..."""
    run: Callable[[int], object]
    """Does the work so many times; what it returns is awaited where that is possible."""


class Experiment(NamedTuple):
    """Candidates that do the same work, so that their times may be divided by one another."""

    section: str
    """What is measured, a heading of the table: ``sync dispatch``."""
    variant: str
    """In which form: what the subscribers return, which backend; may be empty."""
    size: int
    """How many subscribers, callers or threads."""
    candidates: Sequence[Candidate]


class Measurement(NamedTuple):
    """What one candidate needed."""

    section: str
    variant: str
    size: int
    candidate: str
    value: float
    """The less, the better."""
    unit: str
    """``s`` for one turn of the work, ``bytes``..."""


class Effort(NamedTuple):
    """How much trouble is taken."""

    rounds: int = 21
    seconds: float = 0.002
    """How long one candidate's turn in one round lasts, about."""
    sizes: tuple[int, ...] = (0, 1, 3, 10, 100, 1000)
    """The numbers of subscribers at which dispatch and registration are measured."""
    scale: float = 1.0
    """What a section's own numbers (of blocks, of callers, of calls) are multiplied with."""

    def scaled(self, number: int) -> int:
        """Give a section's own number at this effort, 1 at least."""
        return max(1, round(number * self.scale))

    def at_most(self, rounds: int) -> Effort:
        """Give the same with fewer rounds, for experiments whose turns take long."""
        return self._replace(rounds=min(self.rounds, rounds))


SMOKE = Effort(rounds=1, seconds=0.00001, sizes=(0, 1, 3), scale=0.01)
"""Enough to see that everything runs; its figures mean nothing."""


def make_run(statement: str, **names: object) -> Callable[[int], object]:
    """Give a candidate's ``run`` for ``statement``, which sees ``names`` and may hold ``await``.

    The statement stands in the loop itself, as a user would write it: calling it through a function
    or a partial would cost every candidate the same and so make all ratios look better.
    """
    head = "async def" if "await " in statement else "def"
    source = f"{head} run(times):\n    for _ in repeat(None, times):\n        {statement}\n"
    space: dict[str, Any] = dict(names)
    exec(f"from itertools import repeat\n{source}", space)
    return space["run"]  # type: ignore[no-any-return]


async def measure(experiment: Experiment, effort: Effort) -> list[Measurement]:
    """Time every candidate of an experiment."""
    turns = {one.name: await _calibrate(one, effort.seconds) for one in experiment.candidates}

    async def take(one: Candidate) -> float:
        return await time_of(one, turns[one.name]) / turns[one.name]

    times = await take_turns(
        {one.name: partial(take, one) for one in experiment.candidates}, effort.rounds
    )
    return [
        Measurement(*experiment[:3], name, lower_quartile(found), "s")
        for name, found in times.items()
    ]


async def take_turns(
    takes: Mapping[str, Callable[[], Awaitable[TakenT]]], rounds: int
) -> dict[str, list[TakenT]]:
    """Let everybody take one turn in each round, in another order each; give what came of it."""
    taken: dict[str, list[TakenT]] = {name: [] for name in takes}
    order = list(takes)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            taken[name].append(await takes[name]())
    return taken


async def _calibrate(candidate: Candidate, seconds: float) -> int:
    """Find how often the work is to be done in one turn; warms the code up besides.

    The better of two tries counts: where the first call imports something, or the machine is busy
    for a moment, one try would make the turns of all rounds far too short.
    """

    async def try_twice(turns: int) -> float:
        return min(await time_of(candidate, turns), await time_of(candidate, turns))

    turns = 1
    while (spent := await try_twice(turns)) < seconds / 2:
        turns = max(turns * 2, int(turns * seconds / max(spent, 1e-9) / 2))
    return max(1, int(turns * seconds / spent))


async def time_of(candidate: Candidate, turns: int) -> float:
    """Give how long the work takes so many times, in seconds, without the garbage collector's."""
    with undisturbed():
        started = perf_counter()
        made = candidate.run(turns)
        if isawaitable(made):
            await made
        return perf_counter() - started


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector off."""
    gc.collect(0)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def lower_quartile(times: Sequence[float]) -> float:
    """Give the time that a quarter of the rounds did not exceed."""
    if len(times) == 1:
        return times[0]
    return statistics.quantiles(times, n=4, method="inclusive")[0]
