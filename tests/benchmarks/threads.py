"""Many threads that call one `AtomicChain`, alone and with one more that writes it all the time.

A call has a hundred subscribers, so that what a call costs by itself, which is measured elsewhere,
is next to nothing here, and what is left is what threads do to one another. The writer takes turns
with the callers as the interpreter lets it, with the switch interval that it has by itself; so how
long a change takes is mostly how long the others kept the interpreter, and beside that of the bare
loop's longest, whose writer copies a tuple, stands what the chain adds to it, as far as the
machine's hiccups let it be seen: no target is about it.
"""

from __future__ import annotations

from itertools import repeat
from threading import Barrier, Thread
from time import perf_counter
from typing import TYPE_CHECKING

from .crowd import Turn, bare_subject, chain_subject, figures, names_of
from .measure import BARE, take_turns, undisturbed
from .subjects import DATA, EVENT, make_callbacks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .crowd import Subject
    from .measure import Effort, Measurement

NAME = "threads"
SECTION = names_of(NAME)
BACKENDS = ("asyncio",)  # the loop stands still meanwhile

ALONE, WRITTEN = "no writer", "writer"
SIZES = (1, 4, 16)
SUBSCRIBERS = 100
CALLS_EACH = 10_000
"""How many calls a turn has for each caller: some ten of the interpreter's switch intervals."""


async def measurements(effort: Effort) -> AsyncIterator[Measurement]:
    """Measure, with new threads in each turn; in fewer rounds than others have: each takes long."""
    callbacks = make_callbacks(SUBSCRIBERS)
    [newcomer] = make_callbacks(1)
    for size in SIZES:
        for variant in (ALONE, WRITTEN):
            subjects = {
                BARE: bare_subject(callbacks, newcomer, is_async=False),
                "Atomic": chain_subject("Atomic", callbacks, newcomer),
            }
            calls = size * effort.scaled(CALLS_EACH)
            storms = {
                name: Storm(subject, size, calls, is_written=variant == WRITTEN)
                for name, subject in subjects.items()
            }
            taken = await take_turns(
                {name: one.take_turn for name, one in storms.items()}, effort.at_most(5).rounds
            )
            for one in figures(NAME, variant, size, taken):
                yield one


class Storm:
    """So many threads that call one subject, and perhaps one that writes it."""

    def __init__(self, subject: Subject, callers: int, calls: int, *, is_written: bool) -> None:
        self._subject = subject
        self._callers = callers
        self._calls = calls
        self._is_written = is_written

    async def take_turn(self) -> Turn:
        """Let all of them call until the budget of calls is used up; raise what a call raised."""
        self._budget = repeat(None, self._calls)  # which threads may share
        self._counts: list[int] = []
        self._changes: list[float] = []
        self._ends: list[float] = []
        self._failures: list[Exception] = []
        threads = [Thread(target=self._call) for _ in range(self._callers)]
        if self._is_written:
            threads.append(Thread(target=self._write))
        self._start = Barrier(len(threads), action=self._begin)
        with undisturbed():
            for one in threads:
                one.start()
            for one in threads:
                one.join()
        for failure in self._failures:
            raise failure
        return Turn(max(self._ends) - self._began, self._counts, self._changes)

    def _begin(self) -> None:
        self._began = perf_counter()

    def _call(self) -> None:
        call, event, data = self._subject.call, EVENT, DATA
        count = 0
        self._start.wait()
        try:
            for _ in self._budget:
                call(event, data)
                count += 1
        except Exception as failure:  # the writer waits for all callers
            self._failures.append(failure)
        self._ends.append(perf_counter())
        self._counts.append(count)

    def _write(self) -> None:
        _, join, leave = self._subject
        self._start.wait()
        previous = self._began
        while True:
            for change in (join, leave):
                change()
                now = perf_counter()
                self._changes.append(now - previous)
                previous = now
            if len(self._counts) == self._callers:
                return
