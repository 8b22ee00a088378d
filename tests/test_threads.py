"""AtomicChain from many threads and from signal handlers; async chains from a wrong one."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
import weakref
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tocsin import AtomicChain, NotifierBlock, RawChain, WouldDeadlockError
from tocsin.ancestry import thread_walks
from tocsin.table import Table

from .alarms import alarmed
from .flavours import HeldThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


def nothing(event: Any, data: Any) -> None:
    return None


@contextmanager
def threads(*targets: Callable[[], Any]) -> Iterator[list[BaseException]]:
    """Run functions in threads, join them at the end and give what they raised."""
    errors: list[BaseException] = []

    def guarded(target: Callable[[], Any]) -> None:
        try:
            target()
        except BaseException as error:  # reported to the test
            errors.append(error)

    running = [threading.Thread(target=guarded, args=(target,), daemon=True) for target in targets]
    for thread in running:
        thread.start()
    try:
        yield errors
    finally:
        for thread in running:
            thread.join(30)
            assert not thread.is_alive()


def test_a_storm_of_registrations_and_calls_loses_nothing() -> None:
    chain = AtomicChain[Any, Any]("chain")
    stop = threading.Event()
    left_over: list[NotifierBlock[Any, Any, Any]] = []
    entered_after_removal: list[str] = []

    def mutate() -> None:
        for number in range(300):
            block = chain.register(
                nothing, priority=number % 5, events=[number % 3] if number % 2 else None
            )
            if number % 10:
                chain.unregister(block)
            else:
                left_over.append(block)

    def remove_for_good() -> None:
        for _ in range(100):
            gone = threading.Event()

            def callback(event: Any, data: Any, gone: threading.Event = gone) -> None:
                if gone.is_set():
                    entered_after_removal.append("entered")

            block = chain.register(callback)
            chain.unregister(block)
            chain.synchronize(timeout=30)
            gone.set()

    def call() -> None:
        while not stop.is_set():
            for event in range(3):
                chain.call(event, None)

    with threads(call, call) as call_errors:
        try:
            with threads(mutate, mutate, mutate, remove_for_good) as errors:
                pass
        finally:
            stop.set()
    assert errors == call_errors == []
    assert entered_after_removal == []
    assert sorted(map(id, chain)) == sorted(map(id, left_over))
    assert len(chain) == 90
    priorities = [block.priority for block in chain]
    assert priorities == sorted(priorities, reverse=True)


def test_cross_emitting_chains_do_not_deadlock() -> None:
    one, two = AtomicChain[int, None]("one"), AtomicChain[int, None]("two")
    both = threading.Barrier(2)

    def cross(other: AtomicChain[int, None]) -> Callable[[int, None], None]:
        def callback(event: int, data: None) -> None:
            if event:
                both.wait(30)
                other.call(event - 1)

        return callback

    one.register(cross(two))
    two.register(cross(one))
    with threads(lambda: one.call(1), lambda: two.call(1)) as errors:
        pass
    assert errors == []


def test_three_senders_and_three_mutators_lose_nothing_and_leave_nothing_over() -> None:
    chain, begin = AtomicChain[Any, Any]("chain"), threading.Barrier(6)
    mutating = [1, 1, 1]
    heard: list[set[str]] = []

    def mutate() -> None:
        begin.wait(30)
        for number in range(300):
            block = NotifierBlock[Any, Any, Any](lambda event, data: data.add("passing"))
            chain.register(block)
            assert block in chain
            if number % 2:
                chain.call(1, set())
            chain.unregister(block)
            assert block not in chain
        mutating.pop()

    def send() -> None:
        begin.wait(30)
        while mutating:
            data: set[str] = set()
            chain.call(1, data)
            heard.append(data)

    kept = [
        chain.register(lambda event, data: data.add("first"), priority=1),
        chain.register(lambda event, data: data.add("last"), priority=-1),
    ]
    with threads(*[mutate] * 3, *[send] * 3) as errors:
        pass
    assert errors == []
    assert heard
    assert all({"first", "last"} <= data for data in heard)
    assert list(chain) == kept


def test_concurrent_calls_are_not_one_after_another() -> None:
    chain, together = AtomicChain[Any, Any]("chain"), threading.Barrier(3)
    chain.register(lambda event, data: together.wait(30) and None)
    with threads(*[lambda: chain.call(1, None)] * 3) as errors:
        pass
    assert errors == []


def test_once_runs_once_though_threads_race() -> None:
    chain = AtomicChain[Any, Any]("chain")
    for _ in range(50):
        ran: list[int] = []
        barrier = threading.Barrier(4)

        def call(barrier: threading.Barrier = barrier) -> None:
            barrier.wait(30)
            chain.call(1, None)

        block = chain.register(lambda event, data: ran.append(1), once=True)
        with threads(*[call] * 4) as errors:
            pass
        assert errors == []
        assert ran == [1]
        assert block.chain is None


def test_of_two_threads_that_register_one_block_one_succeeds() -> None:
    from tocsin import AlreadyRegisteredError

    for _ in range(50):
        block = NotifierBlock(nothing)
        chains = [AtomicChain[Any, Any]("one"), AtomicChain[Any, Any]("two")]
        barrier = threading.Barrier(2)

        def register(
            chain: AtomicChain[Any, Any], barrier: threading.Barrier = barrier, block: Any = block
        ) -> None:
            barrier.wait(30)
            chain.register(block)

        with threads(lambda: register(chains[0]), lambda: register(chains[1])) as errors:
            pass
        assert [type(error) for error in errors] == [AlreadyRegisteredError]
        assert [block in chain for chain in chains].count(True) == 1
        assert block.chain is not None
        assert block in block.chain


# D3 and synchronize over threads


def test_d3_a_block_removed_by_another_thread_before_its_turn_is_not_called() -> None:
    chain, held, heard = AtomicChain[Any, Any]("chain"), HeldThread(), []
    chain.register(held)
    victim = chain.register(lambda event, data: heard.append(event))
    with threads(lambda: chain.call(1, None)) as errors:
        assert held.entered.wait(30)
        chain.unregister(victim)
        held.release.set()
    assert errors == heard == []


def test_synchronize_returns_when_the_walks_of_other_threads_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chain, held = AtomicChain[Any, Any]("chain"), HeldThread()
    block = chain.register(held)
    order, ended = [], threading.Event()

    def call() -> None:
        chain.call(1, None)
        order.append("walk ended")
        ended.set()

    def sleep(_seconds: float) -> None:
        held.release.set()
        assert ended.wait(30)

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
    with threads(call) as errors:
        assert held.entered.wait(30)
        assert chain.statistics().walks_running == 1
        chain.unregister(block)
        monkeypatch.setattr("tocsin.sync_base.time", clock)
        chain.synchronize()
        order.append("synchronized")
        held.release.set()
    assert errors == []
    assert order == ["walk ended", "synchronized"]
    assert chain.statistics().walks_running == 0


@pytest.mark.parametrize("call", ["call", "call_report", "call_robust", "call_robust_report"])
def test_synchronize_gives_up_after_its_timeout(call: str) -> None:
    chain, held = AtomicChain[Any, Any]("chain"), HeldThread()
    chain.register(held)
    arguments = (1, 2, None) if "robust" in call else (1, None)
    with threads(lambda: getattr(chain, call)(*arguments)) as errors:
        assert held.entered.wait(30)
        with pytest.raises(TimeoutError, match="'chain'"):
            chain.synchronize(timeout=0)
        with pytest.raises(TimeoutError, match="1 walks"):
            chain.synchronize(timeout=0.001)
        held.release.set()
        chain.synchronize(timeout=30)
    assert errors == []


def test_d14_a_timeout_that_is_kept_does_not_hold_what_the_walks_had() -> None:
    chain, held = AtomicChain[Any, Any]("chain"), HeldThread()
    chain.register(held)
    payloads: list[weakref.ref[Any]] = []

    def call() -> None:
        data = HeldThread()
        payloads.append(weakref.ref(data))
        chain.call(1, data)

    gc.disable()
    try:
        with threads(call) as errors:
            assert held.entered.wait(30)
            with pytest.raises(TimeoutError) as caught:
                chain.synchronize(timeout=0)
            held.release.set()
        assert errors == []
        assert [ref() for ref in payloads] == [None]
        assert caught.value.__traceback__ is not None
    finally:
        gc.enable()


class HeldWalk(threading.Thread):
    """A call of a chain that stops in the middle, to go on when it is let go.

    In a callback, after so many calls of this chain and of another one inside of each other; or
    before the first line of the innermost call.
    """

    def __init__(self, chain: AtomicChain[Any, Any], depth: int, *, at_first_line: bool) -> None:
        super().__init__(daemon=True)
        self.chain, self.depth, self.at_first_line = chain, depth, at_first_line
        self.held = HeldThread()

    def run(self) -> None:
        if self.at_first_line and not self.depth:
            self.stop_at_first_line()
        self.chain.call(self.depth, self)

    def stop_at_first_line(self) -> None:
        previous = sys.gettrace()

        def trace(frame: FrameType, event: str, _argument: Any) -> None:
            if frame.f_code is AtomicChain.call.__code__:
                sys.settrace(previous)
                self.held(None, None)

        sys.settrace(trace)

    def let_go(self) -> None:
        self.held.release.set()
        self.join(30)


def descend(chain: AtomicChain[Any, Any], depth: int, walk: HeldWalk) -> None:
    """The callback of the two chains: the other one's turn, until the bottom is reached."""
    if depth:
        if walk.at_first_line and depth == 1:
            walk.stop_at_first_line()
        chain.call(depth - 1, walk)
    elif not walk.at_first_line:
        walk.held(None, None)


def left_running(walks: list[HeldWalk], monkeypatch: pytest.MonkeyPatch) -> list[HeldWalk]:
    """Synchronize while walks are held; give those that still are when it has returned.

    Whenever it would sleep before it looks again, another one of them goes on to its end.
    """
    held = list(walks)
    for walk in walks:
        walk.start()
    for walk in walks:
        assert walk.held.entered.wait(30)

    def sleep(_seconds: float) -> None:
        if held:
            held.pop().let_go()

    with monkeypatch.context() as patched:
        clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
        patched.setattr("tocsin.sync_base.time", clock)
        walks[0].chain.synchronize()
    running = [walk for walk in walks if walk.is_alive()]
    for walk in walks:
        walk.let_go()
    return running


def held_walks(random: Random, *, depths: int) -> list[HeldWalk]:
    """Make walks that all go through one chain, alone or together with another."""
    one, two = AtomicChain[Any, Any]("one"), AtomicChain[Any, Any]("two")
    one.register(lambda depth, walk: descend(random.choice([one, two]), depth, walk))
    two.register(lambda depth, walk: descend(random.choice([one, two]), depth, walk))
    return [
        HeldWalk(one, random.randrange(depths), at_first_line=random.random() < 0.5)
        for _ in range(random.randrange(1, 5))
    ]


@pytest.mark.parametrize("seed", range(40))
def test_no_earlier_walk_runs_in_any_thread_once_synchronize_has_returned(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert left_running(held_walks(Random(seed), depths=4), monkeypatch) == []


def in_this_thread(walks: dict[FrameType, int]) -> dict[FrameType, int]:
    return {frame: one for frame, one in walks.items() if one == threading.get_ident()}


def on_top(walks: dict[FrameType, int]) -> dict[FrameType, int]:
    return {frame: one for frame, one in walks.items() if sys._current_frames().get(one) is frame}


def at_the_bottom(walks: dict[FrameType, int]) -> dict[FrameType, int]:
    return {frame: one for frame, one in walks.items() if frame.f_back is None}


def begun(walks: dict[FrameType, int]) -> dict[FrameType, int]:
    return {frame: one for frame, one in walks.items() if "items" in frame.f_locals}


@pytest.mark.parametrize("only", [in_this_thread, on_top, at_the_bottom, begun])
def test_a_synchronize_that_overlooks_walks_would_be_found(
    only: Callable[[dict[FrameType, int]], dict[FrameType, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.sync_base.thread_walks", lambda *args: only(thread_walks(*args)))
    assert any(
        left_running(held_walks(Random(seed), depths=1 + seed % 3), monkeypatch)
        for seed in range(10)
    )


def test_synchronize_ignores_other_chains_and_later_walks() -> None:
    chain, other, held = (
        AtomicChain[Any, Any]("chain"),
        AtomicChain[Any, Any]("other"),
        HeldThread(),
    )
    other.register(held)
    with threads(lambda: other.call(1, None)):
        assert held.entered.wait(30)
        chain.synchronize(timeout=0)
        held.release.set()


def test_synchronize_inside_a_walk_is_a_deadlock() -> None:
    chain = AtomicChain[Any, Any]("chain")
    chain.register(lambda event, data: chain.synchronize())
    with pytest.raises(WouldDeadlockError, match="'chain'"):
        chain.call(1, None)


# Signal handlers


@contextmanager
def handling(number: signal.Signals, handler: Callable[[], Any]) -> Iterator[None]:
    previous = signal.signal(number, lambda *_: handler())
    try:
        yield
    finally:
        signal.signal(number, previous)


@pytest.mark.parametrize("flavour", [AtomicChain, RawChain])
@pytest.mark.parametrize("work", ["register", "unregister", "set_filter", "only"])
def test_a_handler_that_registers_in_the_middle_of_a_write_loses_no_block(
    flavour: Any, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes while the new table is being written, before it is published."""
    chain = flavour("chain")
    by_handler: list[Any] = []
    armed = False

    def interrupt() -> None:
        nonlocal armed
        if armed:
            armed = False
            signal.raise_signal(signal.SIGUSR1)

    def handler() -> None:
        by_handler.append(chain.register(nothing, name="by_handler"))

    def interrupted(edit: Callable[..., Any]) -> Callable[..., Any]:
        def run(table: Table, *arguments: Any) -> Any:
            result = edit(table, *arguments)
            interrupt()
            return result

        return run

    before = chain.register(nothing, name="before")
    parked = chain.register(nothing, name="parked")
    for edit in ("add", "discard"):
        monkeypatch.setattr(Table, edit, interrupted(getattr(Table, edit)))
    expected = {"before", "parked", "by_handler"}
    with handling(signal.SIGUSR1, handler):
        armed = True
        if work == "register":
            chain.register(nothing, name="interrupted")
            expected.add("interrupted")
        elif work == "unregister":
            chain.unregister(before)
            expected.remove("before")
        elif work == "set_filter":
            chain.set_filter(lambda block: block is not parked)
            expected.remove("parked")
        else:
            with chain.only("before", "by_handler"):
                assert {block.name for block in chain} == {"before", "by_handler"}
    assert {block.name for block in chain} == expected
    assert not armed
    assert [block.chain for block in by_handler] == [chain]


def test_signals_that_arrive_all_the_time_neither_deadlock_nor_lose_a_block() -> None:
    chain = AtomicChain[Any, Any]("chain")
    by_handler: list[Any] = []
    calls = []

    def handler() -> None:
        by_handler.append(chain.register(nothing, priority=1))
        calls.append(chain.call(1, None))
        chain.unregister(chain.register(nothing))

    kept = []
    with alarmed(handler, 0.0005):
        while len(by_handler) < 100:
            kept.append(chain.register(nothing))
            chain.unregister(chain.register(nothing, events=[2]))
            chain.call(1, None)
            if len(kept) > 200:
                chain.unregister(kept.pop(0))
    assert list(chain) == [*by_handler, *kept]
