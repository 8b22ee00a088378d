"""`StatisticsObserver`: how often each callback ran, how it ended, how long it took.

Owns counters, nothing else. Blocks of one name on chains of one name are counted together, also one
after the other, so that nothing here keeps a block alive.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING

from .observer import Observer
from .results import NOTIFY_STOP_MASK

if TYPE_CHECKING:
    from .block import AnyBlock
    from .observer import ObservedCall

__all__ = ["BlockStatistics", "StatisticsObserver"]

_LATEST = 1024
"""Of how many of the latest durations quantiles are taken: a sorted list that costs little."""


@dataclass(frozen=True, slots=True)
class BlockStatistics:
    """What has been seen of the blocks of one name on one chain. Times are in seconds."""

    count: int
    """How many callbacks have ended."""
    errors: int
    """How many of them raised, a cancellation included; a `VetoError` is a result."""
    stops: int
    """How many of them gave a result with the stop bit."""
    total: float
    max: float
    quantiles: tuple[float, float, float]
    """What half, nine tenths and 99 of 100 of the latest 1,024 took at most."""


class _Counter:
    __slots__ = ("count", "durations", "errors", "longest", "stops", "total")

    def __init__(self) -> None:
        self.count = self.errors = self.stops = 0
        self.total = self.longest = 0.0
        self.durations: deque[float] = deque(maxlen=_LATEST)

    def add(self, duration: float) -> None:
        self.count += 1
        self.total += duration
        self.longest = max(self.longest, duration)
        self.durations.append(duration)

    def read(self) -> BlockStatistics:
        return BlockStatistics(
            self.count, self.errors, self.stops, self.total, self.longest, self._quantiles()
        )

    def _quantiles(self) -> tuple[float, float, float]:
        durations = tuple(self.durations)
        if len(durations) == 1:
            return self.longest, self.longest, self.longest
        cuts = statistics.quantiles(durations, n=100, method="inclusive")
        return cuts[49], cuts[89], cuts[98]


class StatisticsObserver(Observer):
    """Counts and times the callbacks of the chains that it is attached to.

    May be attached to any number of chains, in any threads; those of one name are counted together.
    Rollbacks and replays count too.
    """

    __slots__ = ("_counters", "_lock")

    def __init__(self) -> None:
        self._counters: dict[tuple[str, str], _Counter] = {}
        self._lock = RLock()  # a signal handler may come in the middle of a count

    def snapshot(self) -> dict[tuple[str, str], BlockStatistics]:
        """Give what has been seen so far, by chain name and qualified name of the block.

        In the order in which they were first seen. Never waits; legal anywhere.
        """
        with self._lock:
            # Copied, since a signal handler that is counted may come in between.
            return {key: counter.read() for key, counter in tuple(self._counters.items())}

    def reset(self) -> None:
        """Begin to count anew. Legal anywhere."""
        with self._lock:
            self._counters.clear()

    def callback_returned(
        self, call: ObservedCall, block: AnyBlock, result: int, duration: float
    ) -> None:
        """Count a result."""
        with self._lock:
            counter = self._counter(call, block)
            counter.add(duration)
            counter.stops += bool(int.__and__(result, NOTIFY_STOP_MASK))  # whatever a subclass does

    def callback_raised(
        self,
        call: ObservedCall,
        block: AnyBlock,
        error: BaseException,  # noqa: ARG002
        duration: float,
    ) -> None:
        """Count an exception."""
        with self._lock:
            counter = self._counter(call, block)
            counter.add(duration)
            counter.errors += 1

    def _counter(self, call: ObservedCall, block: AnyBlock) -> _Counter:
        key = call.chain.name, block.qualified_name
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = _Counter()
        return counter
