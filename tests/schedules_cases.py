"""Which scenarios are explored, how far, and the long form: ``make schedules``.

The suite explores each as far as its ``delays`` say, most of them in all orders. The long form goes
as far as ``far`` says, mostly to the end, has more actors, and prints how many orders there were.
"""

from __future__ import annotations

import sys
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .schedules import Explored, explore
from .schedules_scenarios import GraceScenario, LockScenario, PatienceScenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from .schedules import Scenario

__all__ = ["CASES", "NATIVE_CASES", "Case"]

TWO = ["call", "call"]

LIMIT = 10_000
"""Orders of one scenario, on one backend, at which the long form leaves it."""


class Case(NamedTuple):
    """A scenario and the bounds that it is explored in."""

    make: Callable[[], Scenario]
    delays: int | None = None
    timers: int = 1
    far: int | None = None
    """The delays of the long form."""

    def explore(self, backend: str) -> Explored:
        return explore(backend, self.make, delays=self.delays, timers=self.timers)

    def explore_far(self, backend: str) -> Explored:
        return explore(backend, self.make, delays=self.far, timers=self.timers, limit=LIMIT)


def lock(
    *arguments: Any,
    delays: int | None = None,
    timers: int = 1,
    far: int | None = None,
    **options: Any,
) -> Case:
    return Case(partial(LockScenario, *arguments, **options), delays, timers, far)


def grace(
    *arguments: Any, delays: int | None = None, far: int | None = None, **options: Any
) -> Case:
    # No timers: nobody waits for time here.
    return Case(partial(GraceScenario, *arguments, **options), delays, 0, far)


CASES: dict[str, Case] = {
    "lock: 2 callers, register": lock(TWO, ["register"]),
    "lock: 2 callers, unregister": lock(TWO, ["unregister"]),
    "lock: 2 callers, set_filter": lock(TWO, ["set_filter"]),
    "lock: 2 callers, synchronize": lock(TWO, ["synchronize"]),
    "lock: a report, a caller, unregister": lock(["call_report", "call"], ["unregister"]),
    "lock: 2 callers, register, cancelled": lock(TWO, ["register"], ["register 1"], delays=3),
    "lock: 2 callers, unregister, cancelled": lock(TWO, ["unregister"], ["unregister 1"], delays=3),
    "lock: 2 callers, one cancelled, register": lock(TWO, ["register"], ["caller 1"], delays=3),
    "lock: a caller, register, both cancelled": lock(
        ["call"], ["register"], ["register 1", "caller 1"], delays=4
    ),
    "lock: a caller, 2 writers": lock(["call"], ["register", "register"]),
    "lock: a caller, 2 writers, one cancelled": lock(
        ["call"], ["register", "unregister"], ["register 1"], delays=3
    ),
    "lock: 2 callers, 2 writers": lock(TWO, ["register", "unregister"], delays=3),
    "lock: 3 callers, unregister, few turns": lock(
        ["call"] * 3, ["unregister"], checkpoint_every=3, delays=3, far=8
    ),
    "lock: a nested call, a caller, unregister": lock(["nested", "call"], ["unregister"], delays=4),
    "lock: a nested call, cancelled, register": lock(["nested"], ["register"], ["caller 1"]),
    "lock: a call from a task of the callback, register": lock(["spawned"], ["register"]),
    "lock: a call from a task of the callback, register, cancelled": lock(
        ["spawned"], ["register"], ["register 1"], delays=3
    ),
    "lock: a concurrent call, a caller, unregister": lock(
        ["call_concurrent", "call"], ["unregister"]
    ),
    "lock: a concurrent call, cancelled, unregister": lock(
        ["call_concurrent"], ["unregister"], ["caller 1"]
    ),
    "lock: a callback that waits for calls twice, register": Case(
        partial(PatienceScenario, ["twice"], ["register"]), delays=2, timers=0, far=6
    ),
    "grace: 2 callers, unregister": grace(TWO, ["unregister"]),
    "grace: 2 callers, synchronize": grace(TWO, ["synchronize"]),
    "grace: 2 callers, set_filter": grace(TWO, ["set_filter"]),
    "grace: 2 callers, unregister, cancelled": grace(
        TWO, ["unregister"], ["unregister 1"], delays=4
    ),
    "grace: 2 callers, one cancelled, unregister": grace(
        TWO, ["unregister"], ["caller 1"], delays=4
    ),
    "grace: 2 callers, register, unregister": grace(TWO, ["register", "unregister"], delays=5),
    "grace: a caller, synchronize, unregister": grace(["call"], ["synchronize", "unregister"]),
    "grace: a nested call, a caller, unregister": grace(["nested", "call"], ["unregister"]),
    "grace: a concurrent call, a caller, unregister": grace(
        ["call_concurrent", "call"], ["unregister"]
    ),
    "grace: a concurrent call, cancelled, a caller, unregister": grace(
        ["call_concurrent", "call"], ["unregister"], ["caller 1"], delays=4
    ),
}

NATIVE_CASES: dict[str, Case] = {
    "lock: a caller, register, both cancelled natively": lock(
        ["call"], ["register"], ["register 1", "caller 1"], natively=True, delays=4
    ),
    "lock: a caller, 2 writers, one cancelled natively": lock(
        ["call"], ["register", "unregister"], ["register 1"], natively=True, delays=4
    ),
    "grace: a caller, unregister, both cancelled natively": grace(
        ["call"], ["unregister"], ["unregister 1", "caller 1"], natively=True
    ),
}
"""Only on asyncio."""

LONG_CASES: dict[str, Case] = {
    "lock: 3 callers, unregister": lock(["call"] * 3, ["unregister"], timers=2, far=6),
    "lock: 2 callers, 3 writers": lock(
        TWO, ["register", "unregister", "register"], timers=2, far=7
    ),
    "lock: 3 callers, 2 writers, 2 cancelled": lock(
        ["call", "call_report", "nested"],
        ["register", "set_filter"],
        ["register 1", "caller 1"],
        timers=2,
        far=5,
    ),
    "lock: tasks of the callback, a caller, 2 writers": lock(
        ["spawned", "call"], ["register", "unregister"], timers=3, far=6
    ),
    "grace: 3 callers, register, unregister": grace(
        ["call"] * 3, ["register", "unregister"], far=8
    ),
    "grace: 2 callers, 3 writers, cancelled": grace(
        TWO, ["register", "set_filter", "synchronize"], ["set_filter 2"], far=8
    ),
    "grace: 3 callers, 2 writers, 2 cancelled": grace(
        ["call", "call_report", "nested"],
        ["register", "unregister"],
        ["unregister 2", "caller 1"],
        far=6,
    ),
}


def main() -> int:
    """Explore everything as far as the long form goes, on both backends; 1 after a failure."""
    failures = total = 0
    began = perf_counter()
    for name, case in (CASES | NATIVE_CASES | LONG_CASES).items():
        for backend in ("asyncio",) if name in NATIVE_CASES else ("asyncio", "trio"):
            seen = case.explore_far(backend)
            total += seen.orders
            how = "all" if seen.is_exhaustive else "some"
            bound = "" if case.far is None else f" with up to {case.far} delays"
            click.echo(f"{name:62} {backend:8} {seen.orders:>7,} {how}{bound}")
            if seen.failure is not None:
                failures += 1
                click.echo(seen.failure, err=True)
    click.echo(f"{total:,} orders in {perf_counter() - began:.0f} s, failures = {failures}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
