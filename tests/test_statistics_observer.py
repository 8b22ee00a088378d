"""`StatisticsObserver`: how often each callback ran, how it ended, how long it took."""

from __future__ import annotations

import errno
from dataclasses import FrozenInstanceError
from threading import Thread
from typing import Any

import pytest

from tocsin import (
    NOTIFY_STOP,
    AtomicChain,
    BlockStatistics,
    NotifierBlock,
    ObservedCall,
    StatisticsObserver,
    VetoError,
)


def test_callbacks_are_counted_by_chain_and_qualified_name() -> None:
    observer = StatisticsObserver()
    chain = AtomicChain[str, Any]("orders", errors="isolate")
    other = AtomicChain[str, Any]("other")
    chain.observe(observer)
    other.observe(observer)

    def stock(event: str, data: Any) -> int | None:
        if data == "veto":
            raise VetoError(errno.EBUSY)
        return NOTIFY_STOP if data == "stop" else data

    chain.register(stock)
    other.register(stock)
    for data in (None, 1, "stop", "veto", "wrong", 2.5):
        chain.call("up", data)
    other.call("up", None)
    snapshot = observer.snapshot()
    assert list(snapshot) == [("orders", f"{__name__}:stock"), ("other", f"{__name__}:stock")]
    seen = snapshot["orders", f"{__name__}:stock"]
    assert isinstance(seen, BlockStatistics)
    assert (seen.count, seen.errors, seen.stops) == (6, 2, 2)
    assert 0 < seen.quantiles[0] <= seen.quantiles[1] <= seen.quantiles[2] <= seen.max <= seen.total
    with pytest.raises(FrozenInstanceError):
        seen.count = 3  # type: ignore[misc]
    observer.reset()
    assert observer.snapshot() == {}
    assert seen.count == 6


def told(observer: StatisticsObserver, *durations: float) -> BlockStatistics:
    call = ObservedCall(AtomicChain("c"), "up", "call", None)
    block = NotifierBlock(print, name="b")
    for duration in durations:
        observer.callback_returned(call, block, 0, duration)
    [made] = observer.snapshot().values()
    return made


def test_one_duration_is_all_quantiles() -> None:
    assert told(StatisticsObserver(), 2.0) == BlockStatistics(1, 0, 0, 2.0, 2.0, (2.0, 2.0, 2.0))


def test_the_quantiles_are_half_nine_tenths_and_99_of_100() -> None:
    seen = told(StatisticsObserver(), *(float(number) for number in range(101)))
    assert seen.quantiles == (50.0, 90.0, 99.0)
    assert (seen.total, seen.max) == (5050.0, 100.0)


def test_only_the_latest_durations_are_kept_for_quantiles() -> None:
    seen = told(StatisticsObserver(), *[9.0] * 1000, *[1.0] * 1024)
    assert seen.quantiles == (1.0, 1.0, 1.0)
    assert (seen.count, seen.max) == (2024, 9.0)


def test_no_count_is_lost_between_threads() -> None:
    observer = StatisticsObserver()
    chain = AtomicChain[str, None]("c")
    chain.observe(observer)
    chain.register(lambda event, data: None)

    def work() -> None:
        for _ in range(500):
            chain.call("up")

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [seen] = observer.snapshot().values()
    assert seen.count == 2000


def test_a_signal_may_come_while_the_numbers_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    observer = StatisticsObserver()
    told(observer, 1.0)
    call = ObservedCall(AtomicChain("other"), "up", "call", None)
    [counter] = observer._counters.values()
    read = type(counter).read

    def interrupted(self: Any) -> BlockStatistics:
        observer.callback_returned(call, NotifierBlock(print, name="new"), 0, 1.0)
        return read(self)

    monkeypatch.setattr(type(counter), "read", interrupted)
    assert len(observer.snapshot()) == 1
    assert len(observer.snapshot()) == 2


def test_a_result_that_does_not_like_to_be_tested_is_counted() -> None:
    class Odd(int):
        def __and__(self, other: int) -> int:
            raise ValueError

    observer = StatisticsObserver()
    chain = AtomicChain[str, None]("c")
    observation = chain.observe(observer)
    chain.register(lambda event, data: Odd(0x8001))
    chain.call("up")
    assert observation.is_attached
    assert [seen.stops for seen in observer.snapshot().values()] == [1]
