"""The two event loops, with `Turns.next` in the place of their own order, and virtual time.

Owns what is private to asyncio and to trio. One loop, or run, serves all runs of an exploration: to
make one takes longer than most scenarios do.

- On *asyncio* whatever is ready is in ``_ready``. The steps of tasks are what is chosen from; other
  callbacks (a task's end, the delivery of a cancellation, which comes again at each turn) are run
  between two steps, as many as there are.
- *Trio* takes all of ``runq`` as one batch, in a random order. A queue that shows it but one task
  at a time makes each step a batch of its own.

The task that runs the scenario and, on trio, those of the system go first and are no choice.
"""

from __future__ import annotations

import asyncio
import math
from heapq import heappop
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from .schedules import TIMERS, Explored, Turns

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Awaitable, Callable, Iterator

    from trio.lowlevel import Task as TrioTask

    Run: TypeAlias = Callable[[Callable[[Turns], None], int], Awaitable[Explored]]

__all__ = ["BACKENDS"]


class ChosenLoop(asyncio.SelectorEventLoop):
    """An event loop that asks who goes on, and waits for nothing outside of itself."""

    turns: Turns
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._idle = 0
        self._host: asyncio.Task[Any] | None = None

    def explore(self, run: Run, limit: int) -> Explored:
        self._host = host = self.create_task(self._explore(run, limit))
        return self.run_until_complete(host)

    async def _explore(self, run: Run, limit: int) -> Explored:
        return await run(self._begin, limit)

    def _begin(self, turns: Turns) -> None:
        self.turns = turns

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        """Run what is no task's step, then one step; if there is none, let time go on."""
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if _task_of(handle) is None:
                _run(handle)
            else:
                self._ready.append(handle)
        steps = [one for one in self._ready if _task_of(one) is not None]
        self._idle = 0 if steps else self._idle + 1
        if steps:
            self._step(steps)
        # A cancellation that reaches nobody is delivered again at each turn, and is no progress.
        elif not (self._stopping or (self._ready and self._idle < 4) or self._fire()):
            self.turns.stuck()

    def _step(self, steps: list[asyncio.Handle]) -> None:
        handle = next((one for one in steps if _task_of(one) is self._host), None)
        if handle is None:
            named = {_name_of(one): one for one in steps}
            assert len(named) == len(steps), "every task needs a name of its own"
            chosen = self.turns.next(list(named), has_timers=bool(self._timers()))
            if chosen == TIMERS:
                self._fire()
                return
            handle = named[chosen]
        self._ready.remove(handle)
        _run(handle)

    def _timers(self) -> list[asyncio.TimerHandle]:
        while self._scheduled and self._scheduled[0].cancelled():
            heappop(self._scheduled)
        is_never = bool(self._scheduled) and self._scheduled[0].when() == math.inf
        return [] if is_never else self._scheduled

    def _fire(self) -> bool:
        """Let time go on to the next deadline; say whether there is one."""
        timers = self._timers()
        if not timers:
            return False
        self._now = max(self._now, timers[0].when())
        while self._timers() and timers[0].when() <= self._now:
            _run(heappop(self._scheduled))
        return True


def _task_of(handle: asyncio.Handle) -> asyncio.Task[Any] | None:
    callback: Any = handle._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    return owner if isinstance(owner, asyncio.Task) else None


def _name_of(handle: asyncio.Handle) -> str:
    task = _task_of(handle)
    return "" if task is None else task.get_name()


def _run(handle: asyncio.Handle) -> None:
    if not handle.cancelled():
        handle._run()


def _explore_asyncio(run: Run, limit: int) -> Explored:
    loop = ChosenLoop()
    try:
        return loop.explore(run, limit)
    finally:
        loop.close()


class ChosenQueue:
    """Stands in the place of trio's ``runq`` and shows one task, of those that are ready.

    As much of a deque as trio's loop uses: it lists what is here and clears it, meaning that list.
    """

    def __init__(self, runner: Any, clock: VirtualClock) -> None:
        self._runner, self._clock = runner, clock
        self._tasks: list[TrioTask] = []
        self._picked: list[TrioTask] = []

    def append(self, task: TrioTask) -> None:
        self._tasks.append(task)

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[TrioTask]:
        self._picked = self._pick()
        return iter(self._picked)

    def clear(self) -> None:
        for task in self._picked:
            self._tasks.remove(task)

    def _pick(self) -> list[TrioTask]:
        first = next(filter(self._is_no_choice, self._tasks), None)
        if first is not None or not self._tasks:
            return [] if first is None else [first]
        named = {one.name: one for one in self._tasks}
        assert len(named) == len(self._tasks), "every task needs a name of its own"
        deadline = self._runner.deadlines.next_deadline()
        chosen = self._clock.turns.next(list(named), has_timers=deadline < math.inf)
        if chosen == TIMERS:
            self._clock.jump(deadline)
            return []
        return [named[chosen]]

    def _is_no_choice(self, task: TrioTask) -> bool:
        nursery = task.parent_nursery
        return nursery is None or nursery.parent_task is self._runner.init_task


class VirtualClock(trio.abc.Clock):
    """Time that goes on where nobody can, and when that is chosen."""

    turns: Turns

    def __init__(self) -> None:
        self._now = 0.0
        self._is_over = False

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Be asked, since nobody is ready, how long to sleep."""
        if self._is_over:  # trio's own tasks end after ours, for which they wait for a socket
            return 1
        if deadline == math.inf:
            self.turns.stuck()
        else:
            self.jump(deadline)
        return 0

    def jump(self, deadline: float) -> None:
        self._now = max(self._now, deadline)

    async def explore(self, run: Run, limit: int) -> Explored:
        runner: Any = trio._core._run.GLOBAL_RUN_CONTEXT.runner
        runner.runq = ChosenQueue(runner, self)
        try:
            return await run(self._begin, limit)
        finally:
            self._is_over = True

    def _begin(self, turns: Turns) -> None:
        self.turns = turns


def _explore_trio(run: Run, limit: int) -> Explored:
    clock = VirtualClock()
    return trio.run(clock.explore, run, limit, clock=clock)


BACKENDS: dict[str, Callable[[Run, int], Explored]] = {
    "asyncio": _explore_asyncio,
    "trio": _explore_trio,
}
