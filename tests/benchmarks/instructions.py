"""Counts the bytecode instructions that a piece of work executes.

A count is the same on every machine and in every run with one version of Python, so it shows a
change of a single instruction, which no clock would. What it does not show is the price of an
instruction: a call of a function written in C counts as one, however long it takes. Counts are
therefore compared only with counts of the same work, and a clock is looked at beside them.

From Python 3.12 on ``sys.monitoring`` counts; on 3.11 only a trace function can.
"""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from inspect import isawaitable
from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from .measure import Candidate

WARM_UP = 3
"""Turns before counting: what is imported, bound or cached at first use is not what is asked."""
TURNS = 4
"""Turns counted. With twice as many, they stay far below the 512 awaited methods of a chain after
which one of them makes a checkpoint, which would fall on one count and not on the other."""


class Counter:
    """How many instructions were executed while it was counting."""

    def __init__(self) -> None:
        self.instructions = 0
        self._thread = get_ident()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count, in this thread, what is executed in frames that are entered from here on."""
        collecting = gc.isenabled()
        gc.disable()  # a collection calls finalizers
        try:
            with self._watching():
                yield
        finally:
            if collecting:
                gc.enable()

    if sys.version_info >= (3, 12):

        @contextmanager
        def _watching(self) -> Iterator[None]:
            tool, event = sys.monitoring.PROFILER_ID, sys.monitoring.events.INSTRUCTION
            sys.monitoring.use_tool_id(tool, "tests.benchmarks")
            sys.monitoring.register_callback(tool, event, self._executed)
            sys.monitoring.set_events(tool, event)
            try:
                yield
            finally:
                sys.monitoring.set_events(tool, sys.monitoring.events.NO_EVENTS)
                sys.monitoring.register_callback(tool, event, None)
                sys.monitoring.free_tool_id(tool)

        def _executed(self, _code: CodeType, _offset: int) -> None:
            self.instructions += get_ident() == self._thread  # all threads are monitored

    else:

        @contextmanager
        def _watching(self) -> Iterator[None]:
            before = sys.gettrace()
            sys.settrace(self._traced)
            try:
                yield
            finally:
                sys.settrace(before)

        def _traced(self, frame: FrameType, event: str, _arg: object) -> Callable[..., Any]:
            frame.f_trace_lines, frame.f_trace_opcodes = False, True
            self.instructions += event == "opcode"
            return self._traced


async def instructions_of(candidate: Candidate) -> float:
    """Give how many instructions one turn of a candidate's work executes.

    Taken as the difference between two numbers of turns, so that what a count itself costs falls
    out; what is left besides the work is the loop around it, three or four instructions.
    """
    await _count(candidate, WARM_UP)
    fewer, more = [await _count(candidate, turns) for turns in (TURNS, 2 * TURNS)]
    return (more - fewer) / TURNS


async def _count(candidate: Candidate, turns: int) -> int:
    counter = Counter()
    with counter.counting():
        made = candidate.run(turns)
        if isawaitable(made):
            await made
    return counter.instructions
