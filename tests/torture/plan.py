"""What is asked of a torture, and what it did: `Plan` and `Figures`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from random import Random

WORST = ("wait", "memory")
"""The figures of which the largest counts; all others are added."""


class Plan(NamedTuple):
    """How hard, for how long. The defaults are those of the long form."""

    seed: int
    calls: int = 1_250_000
    """At least so many, unless ``seconds`` are over before."""
    seconds: float = float("inf")
    round_calls: int = 20_000
    """In one round, at the end of which nobody is left and the memory is looked at."""
    callers: int = 6
    writers: int = 3
    stuck_after: float = 60.0
    """Seconds in which nothing ends, after which nothing ever will."""
    replays: bool | None = None
    """Whether chains have a replay; ``None`` for every other one."""
    threaded_in: int = 8
    """One round in so many, by tasks, has callbacks that run in worker threads."""

    @property
    def walks_bound(self) -> int:
        """How many walks may begin while one writer waits for the lock.

        Whoever queues before it goes first, and whoever has queued when a writer loses patience,
        each time twice as late as before; every walk may have another one nested in it. And while
        the writer is at a checkpoint of its own, before or after it waits, each caller goes on
        until it has used up a budget.
        """
        return self.callers * (100 + 4 * max(BUDGETS))

    @property
    def threads_bound(self) -> int:
        """How many walks threads may begin until the writers of a round have made their writes.

        A writer waits for no walk, only for its turn at the interpreter and at the lock, of which
        neither is fair; some thousands of walks have been seen to begin meanwhile.
        """
        return self.round_calls + 100_000

    @property
    def writes_bound(self) -> int:
        """How many writers may go before a call that waits for the lock."""
        return 20 * self.writers


BUDGETS = (64, 7, 64, 1)
"""What ``checkpoint_every`` may be."""

ROUNDS_BOUND = 10
"""Rounds of the event loop after which whoever waited for a walk goes on, that being over."""

MEMORY_BOUND = 1500
"""Blocks of memory by which what is in use may vary between two rounds."""


def drift_bound(calls: int) -> int:
    """Blocks of memory by which what is in use may grow from the end of the first chain on."""
    return 400 + calls // 1000


@dataclass
class Figures:
    """What came of it."""

    calls: int = 0
    writes: int = 0
    cancelled: int = 0
    seconds: float = 0
    wait: int = 0
    """The most walks that began while one writer waited."""
    memory: int = 0
    """By how many blocks of memory what is in use has grown, after a first round or chain."""
    violations: list[str] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            setattr(self, one.name, max(mine, theirs) if one.name in WORST else mine + theirs)

    def __str__(self) -> str:
        return (
            f"calls={self.calls:,} writes={self.writes:,} cancelled={self.cancelled:,} "
            f"longest wait={self.wait:,} walks memory={self.memory:+,} blocks "
            f"violations={len(self.violations)} {self.seconds:.0f} s"
        )


def one_in(random: Random, number: int) -> bool:
    return random.random() * number < 1
