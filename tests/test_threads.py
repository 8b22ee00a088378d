"""AtomicChain from many threads and from signal handlers; async chains from a wrong one."""

from __future__ import annotations

import gc
import signal
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tocsin import AtomicChain, NotifierBlock, RawChain, WouldDeadlockError
from tocsin.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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

    running = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in running:
        thread.start()
    try:
        yield errors
    finally:
        for thread in running:
            thread.join(30)
            assert not thread.is_alive()


class Held:
    """A callback that another thread can hold in the middle."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def __call__(self, event: Any, data: Any) -> None:
        self.entered.set()
        assert self.release.wait(30)


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
    chain, held, heard = AtomicChain[Any, Any]("chain"), Held(), []
    chain.register(held)
    victim = chain.register(lambda event, data: heard.append(event))
    with threads(lambda: chain.call(1, None)) as errors:
        assert held.entered.wait(30)
        chain.unregister(victim)
        held.release.set()
    assert errors == heard == []


def test_synchronize_returns_when_the_walks_of_other_threads_have_ended() -> None:
    chain, held = AtomicChain[Any, Any]("chain"), Held()
    block = chain.register(held)
    order = []

    def call() -> None:
        chain.call(1, None)
        order.append("walk ended")

    def let_go() -> None:
        assert held.entered.wait(30)
        while not synchronizing.is_set():
            pass
        held.release.set()

    synchronizing = threading.Event()
    with threads(call, let_go) as errors:
        assert held.entered.wait(30)
        assert chain.statistics().walks_running == 1
        chain.unregister(block)
        synchronizing.set()
        chain.synchronize()
        order.append("synchronized")
    assert errors == []
    assert held.release.is_set()
    assert chain.statistics().walks_running == 0


@pytest.mark.parametrize("call", ["call", "call_report", "call_robust", "call_robust_report"])
def test_synchronize_gives_up_after_its_timeout(call: str) -> None:
    chain, held = AtomicChain[Any, Any]("chain"), Held()
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
    chain, held = AtomicChain[Any, Any]("chain"), Held()
    chain.register(held)
    payloads: list[weakref.ref[Any]] = []

    def call() -> None:
        data = Held()
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


def test_synchronize_ignores_other_chains_and_later_walks() -> None:
    chain, other, held = AtomicChain[Any, Any]("chain"), AtomicChain[Any, Any]("other"), Held()
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
        signal.setitimer(signal.ITIMER_REAL, 0.0005)  # again, once this one has ended

    with handling(signal.SIGALRM, handler):
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        try:
            kept = []
            while len(by_handler) < 100:
                kept.append(chain.register(nothing))
                chain.unregister(chain.register(nothing, events=[2]))
                chain.call(1, None)
                if len(kept) > 200:
                    chain.unregister(kept.pop(0))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    assert list(chain) == [*by_handler, *kept]
