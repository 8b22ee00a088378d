"""Torture by threads and signals: `AtomicChain`, and `RawChain` under a lock of the caller's."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from tests.alarms import alarmed, watched
from tocsin import AtomicChain, NameFilter, NotRegisteredError

from .ledger import EVENTS, ROLLBACK, FaultError, Ledger, Probe, Walk, fail, stop
from .plan import Figures, one_in

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .plan import Plan

KINDS = ("call", "call_report", "call_robust")
SWITCH = 0.0002  # seconds after which another thread may go on
PAUSE = 0.002  # seconds from one signal to the next


class Threads:
    """One round on a chain, as in `tasks`. What is noted there in rounds and walks is not here."""

    def __init__(self, chain: Any, plan: Plan, name: str) -> None:
        self.chain, self.plan = chain, plan
        self.random = Random(name)
        self.ledger = Ledger(plan.round_calls, writes=plan.round_calls // 50)
        self.figures = Figures()
        self.main_turns = 0
        self.is_atomic = isinstance(chain, AtomicChain)
        self.lock: Any = nullcontext() if self.is_atomic else threading.RLock()

    def run(self) -> Figures:
        with self.chain.observe(self.ledger) if one_in(self.random, 8) else nullcontext():
            for priority in (9, 0, -9):
                self._register(Probe(self.ledger, "sync", priority, group=self.ledger.always))
            self._storm()
            if not self.ledger.violations:
                self._rest()
        ledger, figures = self.ledger, self.figures
        figures.calls, figures.writes = ledger.walks, ledger.writes
        figures.violations = ledger.violations
        return figures

    def _storm(self) -> None:
        jobs: list[Callable[[Random], None]] = [self._call] * (self.plan.callers - 1)
        jobs += [self._write] * self.plan.writers
        jobs += [self._mute, self._refilter]
        threads = [
            threading.Thread(
                target=self._work, args=(job, Random(self.random.random())), daemon=True
            )
            for job in jobs
        ]
        with switching_often():
            for thread in threads:
                thread.start()
            with watched(lambda: self.main_turns, self.plan.stuck_after, self._note_stuck):
                self._work_interrupted()
            self._join(threads)

    def _work_interrupted(self) -> None:
        """Call and write in the main thread, which signals interrupt to do the same."""
        work = partial(self._work_once, Random(self.random.random()))
        with alarmed(work, PAUSE) if self.is_atomic else nullcontext():
            self._work(self._call_or_write, Random(self.random.random()))

    def _note_stuck(self) -> None:
        what = f"the main thread has ended nothing for {self.plan.stuck_after} s"
        self.ledger.violate("stuck", what)

    def _work(self, job: Callable[[Random], None], random: Random) -> None:
        try:
            while not self.ledger.is_over:
                job(random)
        except Exception as error:  # which none of them should
            self.ledger.violate("unexpected", f"{job.__name__}: {error!r}")

    def _join(self, threads: list[threading.Thread]) -> None:
        deadline = time.monotonic() + self.plan.stuck_after
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
            if thread.is_alive():
                self.ledger.violate("stuck", f"a thread has not ended in {self.plan.stuck_after} s")

    def _work_once(self, random: Random) -> None:
        self._walk(Walk(self.ledger, random.choice(EVENTS)), "call")
        probe = self._make(random)
        self._register(probe)
        self._unregister(probe)
        self.main_turns += 1

    # Calling.

    def _call(self, random: Random) -> None:
        walk, kind = Walk(self.ledger, random.choice(EVENTS)), "call"
        if one_in(random, 4):
            kind = random.choice(KINDS)
            walk.is_robust = kind == "call_robust"
            walk.act_at = random.randrange(12)
            walk.action = random.choice([stop, fail, self._nest, self._take_off])
        self._walk(walk, kind)

    def _walk(self, walk: Walk, kind: str) -> None:
        try:
            with self.lock:
                if walk.is_robust:
                    self.chain.call_robust(walk.event, ROLLBACK, walk)
                else:
                    getattr(self.chain, kind)(walk.event, walk)
        except FaultError:
            pass
        finally:
            walk.end()

    def _nest(self, walk: Walk, _probe: Probe) -> None:
        self._walk(Walk(self.ledger, walk.event), "call")

    def _take_off(self, _walk: Walk, _probe: Probe) -> None:
        for other in tuple(self.ledger.residents):
            if other.group is not self.ledger.always and self._unregister(other):
                return

    # Writing.

    def _call_or_write(self, random: Random) -> None:
        (self._write if one_in(random, 4) else self._call)(random)
        self.main_turns += 1
        walks = self.ledger.walks
        if walks > self.plan.threads_bound:
            self.ledger.violate("starved", f"{walks} walks have begun while writers waited")

    def _write(self, random: Random) -> None:
        walks, probe = self.ledger.walks, self._make(random)
        self._register(probe)
        self.figures.wait = max(self.figures.wait, self.ledger.walks - walks)
        if one_in(random, 2):
            time.sleep(0)
        if self._unregister(probe) and self.is_atomic and one_in(random, 20):
            self._synchronize()
            self.ledger.left(probe, dead=True, idle=True)

    def _make(self, random: Random) -> Probe:
        return Probe(
            self.ledger,
            "sync",
            random.randrange(-2, 3),
            group=random.choice(self.ledger.groups),
            events=random.sample(EVENTS, 2) if one_in(random, 4) else None,
            once=one_in(random, 10),
        )

    def _register(self, probe: Probe) -> None:
        self.ledger.joining(probe)
        with self.lock:
            self.chain.register(probe.block)
        self.ledger.joined(probe)

    def _unregister(self, probe: Probe) -> bool:
        if not self.ledger.claim(probe):
            return False
        try:
            with self.lock:
                self.chain.unregister(probe.block)
        except NotRegisteredError:
            if not probe.once:
                self.ledger.violate("lost", f"was not registered: {probe}")
        self.ledger.left(probe)
        return True

    def _synchronize(self) -> None:
        walks = list(self.ledger.open)
        self.chain.synchronize(timeout=self.plan.stuck_after)
        self.ledger.synchronized(walks)

    # Filtering.

    def _mute(self, _random: Random) -> None:
        """Park a group with `only`, and admit it again."""
        ledger, group = self.ledger, self.ledger.groups[1]
        ledger.close(group)
        with ExitStack() as layer:
            with self.lock:
                layer.enter_context(self.chain.only("always", ledger.groups[0].name))
            self._closed(group)
            with self.lock:
                layer.close()
        ledger.opened(group)
        time.sleep(0.001)

    def _refilter(self, _random: Random) -> None:
        """Park a group with `set_filter`, and admit it again."""
        ledger, group = self.ledger, self.ledger.groups[0]
        ledger.close(group)
        with self.lock:
            self.chain.set_filter(~NameFilter([group.name]))
        self._closed(group)
        with self.lock:
            self.chain.set_filter(None)
        ledger.opened(group)
        time.sleep(0.001)

    def _closed(self, group: Any) -> None:
        self.ledger.closed(group)
        if self.is_atomic:  # else whoever is just entering would take this for the next admission
            self._synchronize()
        self.ledger.opening(group)

    # Afterwards.

    def _rest(self) -> None:
        """See that nothing is left over, while nothing runs; leave the chain empty."""
        ledger, chain = self.ledger, self.chain
        if chain.statistics().walks_running or ledger.open:
            ledger.violate("D12", f"at rest, with {len(ledger.open)} calls: {chain.statistics()}")
        ledger.check_once()
        present = {probe.block for probe in ledger.residents if probe.block.chain is not None}
        if present != {*chain.blocks, *chain.parked}:
            ledger.violate("lost", f"{len(present)} blocks expected, {chain!r} found")
        other = threading.Thread(target=self._empty, daemon=True)  # to which a lock would matter
        other.start()
        self._join([other])

    def _empty(self) -> None:
        for block in (*self.chain.blocks, *self.chain.parked):
            self.chain.unregister(block)


@contextmanager
def switching_often() -> Generator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
