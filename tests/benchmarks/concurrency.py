"""Many tasks that call one chain, alone and with a writer that comes and goes all the time.

Three async subscribers each take the backend's own checkpoint, ``asyncio.sleep(0)`` or
`trio.lowlevel.checkpoint`, the cheapest way there to let others run: anyio's costs several times as
much, would be the greater part of every call, and so would hide what is measured here. What the
writer registers is async too but takes none.

The writer itself takes one after each change, the bare one as well. A change is timed from the end
of the one before to the end of that checkpoint, so that a writer that does not get to run is seen,
and that beside the bare loop, whose median change is one round of the event loop, stands how many
rounds a change takes at most.

A turn begins when all callers have arrived, who wait by taking checkpoints, and lasts until the
budget of calls is used up.
"""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import repeat
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import anyio
import trio.lowlevel

from .crowd import Turn, bare_subject, chain_subject, figures, names_of
from .measure import BARE, take_turns, undisturbed
from .subjects import DATA, EVENT, make_callbacks, on_backend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from .crowd import Subject
    from .measure import Effort, Measurement

NAME = "concurrent callers"
SECTION = names_of(NAME)
BACKENDS = ("asyncio", "trio")

ALONE, WRITTEN = "no writer", "writer"
SIZES = (1, 10, 100, 1000)
SUBSCRIBERS = 3
CALLS, CALLS_EACH = 2000, 10
"""How many calls a turn has, at least: in all, and of each caller."""


async def measurements(effort: Effort) -> AsyncIterator[Measurement]:
    """Measure on the backend that runs, in fewer rounds than others have: each takes long."""
    pause = native_checkpoint()
    callbacks = make_callbacks(SUBSCRIBERS, is_async=True, body="await pause()", pause=pause)
    [newcomer] = make_callbacks(1, is_async=True)
    for size in sorted({effort.scaled(one) for one in SIZES}):
        calls = max(effort.scaled(CALLS), CALLS_EACH * size)
        for variant in (ALONE, WRITTEN):
            subjects = {BARE: bare_subject(callbacks, newcomer, is_async=True)}
            for flavour in ("Blocking", "SRCU"):
                subjects[flavour] = chain_subject(flavour, callbacks, newcomer)
            crowds = {
                name: Crowd(subject, size, calls, pause, is_written=variant == WRITTEN)
                for name, subject in subjects.items()
            }
            taken = await take_turns(
                {name: one.take_turn for name, one in crowds.items()}, effort.at_most(9).rounds
            )
            for one in figures(NAME, on_backend(variant), size, taken, of_bare=median):
                yield one


def native_checkpoint() -> Callable[[], Awaitable[object]]:
    """Give the backend's own checkpoint."""
    if on_backend("").startswith("trio"):
        return trio.lowlevel.checkpoint
    return partial(asyncio.sleep, 0)


class Crowd:
    """So many tasks that call one subject, and perhaps one that writes it."""

    def __init__(
        self,
        subject: Subject,
        callers: int,
        calls: int,
        pause: Callable[[], Awaitable[object]],
        *,
        is_written: bool,
    ) -> None:
        self._subject = subject
        self._callers = callers
        self._calls = calls
        self._pause = pause
        self._is_written = is_written

    async def take_turn(self) -> Turn:
        """Let all of them call until the budget of calls is used up."""
        self._budget = repeat(None, self._calls)
        self._awaited = self._callers + self._is_written
        self._counts: list[int] = []
        self._changes: list[float] = []
        with undisturbed():
            async with anyio.create_task_group() as group:
                for _ in range(self._callers):
                    group.start_soon(self._call)
                if self._is_written:
                    group.start_soon(self._write)
        return Turn(self._ended - self._began, self._counts, self._changes)

    async def _arrive(self) -> None:
        self._awaited -= 1
        if not self._awaited:
            self._began = perf_counter()
        while self._awaited:
            await self._pause()

    async def _call(self) -> None:
        call, event, data = self._subject.call, EVENT, DATA
        count = 0
        await self._arrive()
        for _ in self._budget:
            await call(event, data)
            count += 1
        self._counts.append(count)
        self._ended = perf_counter()

    async def _write(self) -> None:
        _, join, leave = self._subject
        await self._arrive()
        previous = self._began
        while True:
            for change in (join, leave):
                await change()
                await self._pause()
                now = perf_counter()
                self._changes.append(now - previous)
                previous = now
            if len(self._counts) == self._callers:
                return
