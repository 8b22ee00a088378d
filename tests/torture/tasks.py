"""Torture by the tasks of one event loop: `SrcuChain`, `BlockingChain` and `RawChain.acall`."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager, nullcontext
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import checkpoint

from tocsin import BlockingChain, NameFilter, NotRegisteredError, RawChain, SrcuChain
from tocsin.slots import _Threaded

from .ledger import EVENTS, EVERYBODY, NEVER, ROLLBACK, FaultError, Ledger, Probe, Walk, fail, stop
from .plan import ROUNDS_BOUND, Figures, one_in

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

    from .plan import Plan

KINDS = ("call", "call_report", "call_robust", "call_concurrent")


class Tasks:
    """One round on a chain: tasks that call it and change it, until enough calls have been made."""

    def __init__(self, chain: Any, plan: Plan, name: str) -> None:
        self.chain, self.plan = chain, plan
        self.random = Random(name)
        self.figures = Figures()
        is_raw = isinstance(chain, RawChain)
        self.kinds = KINDS[:-1] if is_raw else KINDS
        prefix = "a" if is_raw else ""
        self.calls = {kind: getattr(chain, prefix + kind) for kind in self.kinds}
        self.colours = ["sync", "async", "thread"]
        if is_raw or not one_in(self.random, plan.threaded_in):
            self.colours = self.random.choice([["sync"], ["async"], ["sync", "async"]])
        calls = plan.round_calls // (20 if "thread" in self.colours else 1)  # a hop takes long
        self.ledger = Ledger(calls, is_exclusive=isinstance(chain, BlockingChain))
        self.lock: Any = anyio.Lock(fast_acquire=True) if is_raw else nullcontext()
        self.scopes: dict[anyio.CancelScope, None] = {}
        self.most_pauses = 2 if is_raw else 4  # where all others wait meanwhile
        self.late = 0
        self.calls_waited = 0

    async def run(self) -> Figures:
        observed = one_in(self.random, 8)
        with self.chain.observe(self.ledger) if observed else nullcontext():
            try:
                await self._storm()
            except* Exception as errors:
                if not self.ledger.violations:  # noted by the one that it came to
                    self.ledger.violate("unexpected", f"{errors.exceptions!r}")
            if not self.ledger.violations:
                self._rest()
        self._judge()
        return self.figures

    async def _storm(self) -> None:
        async with anyio.create_task_group() as everybody:
            everybody.start_soon(self._pulse, everybody.cancel_scope)
            for priority in (9, 0, -9):
                colour = self.random.choice(self.colours)
                probe = Probe(self.ledger, colour, priority, group=self.ledger.always)
                await self.register(probe, self.random)
            async with anyio.create_task_group() as group:
                jobs: list[Callable[[Random], Any]] = [self._call] * self.plan.callers
                jobs += [self._write] * self.plan.writers
                jobs += [self._mute, self._refilter]
                for job in jobs:
                    group.start_soon(self._work, job, Random(self.random.random()))
            everybody.cancel_scope.cancel()

    async def _work(self, job: Callable[[Random], Any], random: Random) -> None:
        while not self.ledger.is_over:
            try:
                await job(random)
            except Exception as error:  # which none of them should
                self.ledger.violate("unexpected", f"{job.__name__}: {error!r}")
                raise

    async def _pulse(self, everybody: anyio.CancelScope) -> None:
        """Count the rounds of the loop, cancel now and then, and see that things go on."""
        ledger, random = self.ledger, Random(self.random.random())
        seen, since = -1, 0.0
        while True:
            await checkpoint()
            ledger.rounds += 1
            if self.scopes and one_in(random, 20):
                random.choice(list(self.scopes)).cancel()
            if ledger.rounds % 64 == 0:
                if seen != ledger.walks + ledger.writes:
                    seen, since = ledger.walks + ledger.writes, time.monotonic()
                elif time.monotonic() - since > self.plan.stuck_after:
                    ledger.violate("stuck", f"nothing has ended for {self.plan.stuck_after} s")
                    everybody.cancel()

    @contextmanager
    def _cancellable(self, random: Random, number: int) -> Generator[anyio.CancelScope | None]:
        """Have one in so many be cancelled, perhaps."""
        if not one_in(random, number):
            yield None
            return
        with anyio.CancelScope() as scope:
            self.scopes[scope] = None
            if one_in(random, 2):
                scope.cancel()  # at the first wait, if there is one
            try:
                yield scope
            finally:
                del self.scopes[scope]
        self.figures.cancelled += scope.cancelled_caught

    # Calling.

    async def _call(self, random: Random) -> None:
        await self._call_oddly(Walk(self.ledger, random.choice(EVENTS)), random)
        async with self.lock:
            for _ in range(random.randrange(40)):
                await self._walk(Walk(self.ledger, random.choice(EVENTS)), "call", locked=True)

    async def _call_oddly(self, walk: Walk, random: Random) -> None:
        walk.pauses = random.randrange(self.most_pauses)
        kind = random.choice(self.kinds)
        walk.is_robust, walk.is_concurrent = kind == "call_robust", kind == "call_concurrent"
        if one_in(random, 2):
            walk.act_at, walk.may_wait = random.randrange(1, 8), one_in(random, 200)
            walk.action = random.choice([stop, fail, self._nest, self._take_off])
        with self._cancellable(random, 3):
            await self._walk(walk, kind)

    async def _walk(self, walk: Walk, kind: str, *, locked: bool = False) -> None:
        call = self.calls[kind]
        try:
            async with nullcontext() if locked else self.lock:
                writes = self.ledger.locked
                if walk.is_robust:
                    await call(walk.event, ROLLBACK, walk)
                else:
                    await call(walk.event, walk)
            if walk.began_after:
                self.calls_waited = max(self.calls_waited, walk.began_after - writes)
        except FaultError:
            pass
        except BaseException:
            walk.is_cut = True
            raise
        finally:
            walk.end()

    def _nest(self, walk: Walk, probe: Probe) -> Any:
        if probe.colour != "async" or (walk.is_concurrent and not walk.may_wait):
            return None
        nested = Walk(self.ledger, walk.event)
        return self._walk(nested, "call", locked=True)

    def _take_off(self, _walk: Walk, probe: Probe) -> None:
        """Take somebody off in the middle of a walk."""
        if probe.colour == "thread":  # it is another thread there
            return
        for other in tuple(self.ledger.residents):
            if other.group is not self.ledger.always and self.ledger.claim(other):
                self._take_off_now(other)
                return

    def _take_off_now(self, probe: Probe) -> None:
        with self._freely(probe.block):
            try:
                self.chain.unregister_nosync(probe.block)
                self.ledger.left(probe, dead=not is_begun(probe))
            except NotRegisteredError:
                self._check_gone(probe)

    @contextmanager
    def _freely(self, whom: object) -> Generator[None]:
        """Let a change overlap walks meanwhile."""
        self.ledger.free[whom] = None
        try:
            yield
        finally:
            del self.ledger.free[whom]

    def _check_gone(self, probe: Probe) -> None:
        if not probe.once:
            self.ledger.violate("lost", f"was not registered: {probe}")
        self.ledger.left(probe)

    # Writing.

    async def _write(self, random: Random) -> None:
        probe = self._make(random)
        walks = self.ledger.walks
        with self._cancellable(random, 6):
            await self.register(probe, random)
        if probe not in self.ledger.residents and probe.block.chain is not None:
            self.ledger.violate("D12", f"its registration was cancelled, not undone: {probe}")
        self._waited(walks)
        await self._let_others(random, 120)
        if one_in(random, 8):
            await self._synchronize()
        if self.ledger.claim(probe):
            walks = self.ledger.walks
            await self._unregister(probe, random)
            self._waited(walks)
        await self._let_others(random, 120)

    async def _let_others(self, random: Random, walks: int) -> None:
        """Wait until some walks have begun."""
        goal = self.ledger.walks + random.randrange(walks)
        while self.ledger.walks < goal and not self.ledger.is_over:
            await checkpoint()

    def _make(self, random: Random) -> Probe:
        return Probe(
            self.ledger,
            random.choice(self.colours),
            random.randrange(-2, 3),
            group=random.choice(self.ledger.groups),
            events=random.sample(EVENTS, 2) if one_in(random, 4) else None,
            once=one_in(random, 10),
        )

    async def register(self, probe: Probe, random: Random) -> None:
        self.ledger.joining(probe)
        async with self.lock:
            if isinstance(self.chain, RawChain) or one_in(random, 4):
                try:
                    self.chain.register_nowait(probe.block)
                except anyio.WouldBlock:
                    await self.chain.register(probe.block)
            else:
                await self.chain.register(probe.block)
            self.ledger.joined(probe)
        self.ledger.locked += 1
        self.ledger.check_alone("a registration")

    async def _unregister(self, probe: Probe, random: Random) -> None:
        if one_in(random, 4):
            self._take_off_now(probe)
        elif isinstance(self.chain, RawChain):
            async with self.lock:
                self._take_off_now(probe)
        elif one_in(random, 4):
            with self._freely(probe.block), self._cancellable(random, 1):
                await self._unregister_waiting(probe)
            if probe.gone == NEVER:  # it was cancelled
                self._take_off_cancelled(probe)
        else:
            await self._unregister_waiting(probe)

    def _take_off_cancelled(self, probe: Probe) -> None:
        if probe.block.chain is not None:
            self.ledger.violate("D12", f"its unregister was cancelled and undone: {probe}")
        self.ledger.left(probe, dead=not is_begun(probe))

    async def _unregister_waiting(self, probe: Probe) -> None:
        began, holders = self.ledger.rounds, list(self.ledger.issued)
        try:
            await self.chain.unregister(probe.block)
        except NotRegisteredError:
            self._check_gone(probe)
            return
        self.ledger.left(probe, dead=True, idle=True)
        self.ledger.locked += 1
        if isinstance(self.chain, SrcuChain):
            due = max([began, *(walk.ended_in for walk in holders)])
            self.late = max(self.late, int(self.ledger.rounds - due) if due < NEVER else 0)

    async def _synchronize(self) -> None:
        if not isinstance(self.chain, RawChain):
            walks = list(self.ledger.open)
            await self.chain.synchronize()
            if any(walk in self.ledger.open for walk in walks):
                self.ledger.violate("D3", "synchronize() returned while an earlier walk was open")

    def _waited(self, walks: int) -> None:
        self.figures.wait = max(self.figures.wait, self.ledger.walks - walks)

    # Filtering.

    async def _mute(self, random: Random) -> None:
        """Park a group with `only`, and admit it again."""
        ledger, group = self.ledger, self.ledger.groups[1]
        await self._let_others(random, 400)
        ledger.close(group)
        with ExitStack() as layer:
            with self._freely(EVERYBODY):
                layer.enter_context(self.chain.only("always", ledger.groups[0].name))
            ledger.closed(group)
            await checkpoint()
            await self._synchronize()
            ledger.opening(group)
            with self._freely(EVERYBODY):
                layer.close()
        ledger.opened(group)

    async def _refilter(self, random: Random) -> None:
        """Park a group with `set_filter`, and admit it again."""
        ledger, group = self.ledger, self.ledger.groups[0]
        await self._let_others(random, 400)
        ledger.close(group)
        await self._set_filter(~NameFilter([group.name]))
        ledger.closed(group)
        for probe in ledger.residents:
            if probe.group is group and probe.inside and probe.block.is_parked:
                ledger.violate("D3", f"was running when set_filter had parked it: {probe}")
        await self._let_others(random, 3)
        await self._synchronize()
        ledger.opening(group)
        await self._set_filter(None)
        ledger.opened(group)

    async def _set_filter(self, admitted: Any) -> None:
        async with self.lock:
            if isinstance(self.chain, RawChain):
                self.chain.set_filter(admitted)
            else:
                await self.chain.set_filter(admitted)
        self.ledger.locked += 1

    # Afterwards.

    def _rest(self) -> None:
        """See that nothing is left over, while nothing runs; leave the chain empty."""
        ledger, chain, violate = self.ledger, self.chain, self.ledger.violate
        state = chain.statistics()
        if state.walks_running or state.writers_waiting or ledger.open:
            violate("D12", f"at rest, with {len(ledger.open)} calls open: {state}")
            return
        ledger.check_once()
        present = {probe.block for probe in ledger.residents if probe.block.chain is not None}
        if present != {*chain.blocks, *chain.parked}:
            violate("lost", f"{len(present)} blocks expected, {chain!r} and {chain.parked} found")
        try:
            for block in (*chain.blocks, *chain.parked):
                chain.unregister_nowait(block)
        except anyio.WouldBlock:
            violate("D12", "a lock is held at rest")

    def _judge(self) -> None:
        plan, figures, ledger = self.plan, self.figures, self.ledger
        if not isinstance(self.chain, SrcuChain) and figures.wait > plan.walks_bound:
            ledger.violate("starved", f"{figures.wait} walks began while a writer waited")
        if ledger.is_exclusive and self.calls_waited > plan.writes_bound:
            ledger.violate("starved", f"{self.calls_waited} writes were made while a call waited")
        if self.late > ROUNDS_BOUND:
            ledger.violate("starved", f"an unregister returned {self.late} rounds late")
        figures.calls, figures.writes = ledger.walks, ledger.writes
        figures.violations = ledger.violations


def is_begun(probe: Probe) -> bool:
    """Say whether a worker thread may have looked at a block's slot, and enter it after all."""
    if probe.colour != "thread":
        return False
    looking = _Threaded._enter.__code__
    for top in sys._current_frames().values():
        frame: FrameType | None = top
        while frame is not None:
            if frame.f_code is looking:
                return True
            frame = frame.f_back
    return False
