"""Small scenarios for the lock of `BlockingChain` and the grace period of `SrcuChain`.

Each is a cast of actors on one chain: *callers*, *writers* by what they do, and *cancellers*, which
cancel a named actor in a single step, so that over all orders every moment is hit, that of a grant
among them. What must hold is asserted by whoever is there to see it: the callbacks, the writers
when they return, and the scenario before every step and at the end.

The invariants, with the rules of the contract that they are of:

- a writer never overlaps a walk, nor another writer;
- never entered after an unregister returned, not running when it returned (D3);
- a cancelled unregister has taken effect, a cancelled register has not (D12);
- who comes while a writer waits does not overtake it before its patience ends, and writers come
  in order;
- a nested call is admitted at once;
- whoever waits is woken by somebody, not by time, but for whom the running callback has started;
- a grace period waits for the walks that had begun before it, and for no later one;
- in the end everybody has finished, nobody is counted, nothing is locked, the queue is empty.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
from anyio.lowlevel import checkpoint

from tocsin import BlockingChain, NotifierBlock, SrcuChain
from tocsin.locks import PATIENCE

from .schedules import TIMERS, Scenario

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["GraceScenario", "LockScenario", "PatienceScenario"]


class Visit(NamedTuple):
    """One call: what a callback knows of who calls it."""

    name: str
    step: int
    behind: tuple[str, ...] = ()
    """The writers that had begun before and had not finished."""


class Cast(Scenario):
    """Callers, writers and cancellers on one chain.

    Callers: ``call``, ``call_report``, ``call_concurrent``; ``nested``, whose callback calls again;
    ``spawned``, whose callback waits for a task that does. Writers by method. ``natively`` is
    `asyncio.Task.cancel`, which unlike a scope also hits a task that is about to wake up.
    """

    chain: Any
    target: NotifierBlock[Any, Any, Any]
    """Whom writers take off."""

    def __init__(
        self,
        callers: Sequence[str] = ("call", "call"),
        writers: Sequence[str] = (),
        cancelled: Sequence[str] = (),
        *,
        natively: bool = False,
        checkpoint_every: int = 512,
    ) -> None:
        self._callers = {f"caller {number}": what for number, what in enumerate(callers, 1)}
        self._writers = {f"{what} {number}": what for number, what in enumerate(writers, 1)}
        self._cancelled, self._natively, self._every = cancelled, natively, checkpoint_every
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self.running: set[str] = set()  # whose walk is in a callback
        self.inside: set[str] = set()  # in that of the target
        self.began: dict[str, float] = {}  # which writers have begun, and when
        self.done: dict[str, anyio.Event] = {}
        self.left = False  # whether somebody who took the target off has returned

    async def set_up(self) -> None:
        self.chain = await self.make_chain(self._every)
        self.target = await self.chain.register(self.heard)
        await self.chain.call("warm up", None)  # which pays for the checkpoints to come
        self._scopes = {name: anyio.CancelScope() for name in (*self._callers, *self._writers)}
        self.done = {name: anyio.Event() for name in self._writers}
        self.started = anyio.current_time()

    async def make_chain(self, checkpoint_every: int) -> Any:
        """Give the chain, with whatever else is on it."""
        raise NotImplementedError

    def actors(self) -> dict[str, Callable[[], Awaitable[object]]]:
        made: dict[str, Callable[[], Awaitable[object]]] = {}
        for name, what in self._callers.items():
            made[name] = partial(self._act, name, partial(self._call, name, what))
        for name, what in self._writers.items():
            made[name] = partial(self._act, name, partial(self._write, name, what))
        for name in self._cancelled:
            made[f"canceller of {name}"] = partial(self._cancel, name)
        return made

    async def _act(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            if self._natively:
                task = asyncio.current_task()
                assert task is not None
                self._tasks[name] = task
            with self._scopes[name]:
                await work()
        except asyncio.CancelledError:
            if not self._natively:
                raise

    async def _cancel(self, name: str) -> None:
        if not self._natively:
            self._scopes[name].cancel()
        elif name in self._tasks:  # one that has not begun would take the others with it
            self._tasks[name].cancel()

    # Callers.

    async def _call(self, name: str, what: str) -> None:
        behind = tuple(one for one in self.began if not self.done[one].is_set())
        member = "call" if what in ("nested", "spawned", "twice") else what
        await getattr(self.chain, member)(what, Visit(name, self.turns.steps, behind))

    async def heard(self, event: str, visit: Visit | None) -> None:
        """Be the target."""
        if visit is None:
            return
        assert not self.left, f"{visit.name} entered who had been taken off"
        self.inside.add(visit.name)
        try:
            await self.pass_through(event, visit)
        finally:
            self.inside.discard(visit.name)

    async def pass_through(self, event: str, visit: Visit) -> None:
        if event == "inner":
            assert visit.step == self.turns.steps, "a nested call was not admitted at once"
        self.running.add(visit.name)
        try:
            await checkpoint()
            name = f"{visit.name} inside"
            if event == "nested":
                await self.chain.call("inner", Visit(name, self.turns.steps))
            elif event == "spawned":
                async with anyio.create_task_group() as group:
                    group.start_soon(self._call, name, "call", name=name)
        finally:
            self.running.discard(visit.name)

    # Writers.

    async def _write(self, name: str, what: str) -> None:
        self.began[name] = anyio.current_time()
        try:
            await getattr(self, f"_{what}")(name)
        finally:
            self.done[name].set()

    async def _register(self, name: str) -> None:
        block = NotifierBlock[Any, Any, Any](partial(self.newcomer, name), name="newcomer")
        try:
            await self.chain.register(block)
        finally:
            on_chain = block in self.chain
            assert on_chain == (block.chain is not None), "half a registration is left"
        assert on_chain, "what was registered is not there"

    async def newcomer(self, name: str, event: str, data: object) -> None:
        """Be a block that comes."""

    async def _unregister(self, name: str) -> None:
        try:
            await self.chain.unregister(self.target)
        finally:  # cancelled or not (D12)
            assert self.target not in self.chain, "what was unregistered is there"
            self.left = True
        self.assert_excluded(name)

    async def _set_filter(self, name: str) -> None:
        try:
            await self.chain.set_filter(lambda block: block is not self.target)
        finally:
            self.left = self.left or self.target not in self.chain
        assert self.left, "what was filtered out is there"
        self.assert_excluded(name)

    async def _synchronize(self, name: str) -> None:
        earlier = self.running.copy()
        await self.chain.synchronize()
        assert not earlier & self.running, f"{sorted(earlier & self.running)} had not ended"

    def assert_excluded(self, name: str) -> None:
        """Assert, when a writer has taken the target off, that nobody is in it."""
        assert not self.inside, f"{sorted(self.inside)} had not left whom {name} had taken off"

    # In the end.

    async def finish(self) -> None:
        chain = self.chain
        if not {"spawned", "twice"} & {*self._callers.values()} and TIMERS not in self.turns.chosen:
            assert anyio.current_time() == self.started, "somebody was woken by time alone"
        assert not self.running, f"{sorted(self.running)} are still in a callback"
        assert not (self.left and self.target in chain), "who was taken off is back"
        _, _, walks, writers = chain.statistics()
        assert (walks, writers) == (0, 0), f"{walks} walks counted, {writers} writers waiting"
        waiting = (chain._grace.waiting, chain._waiting)
        assert waiting == (0, 0), f"{waiting} are still waited for"
        for one in [*chain.blocks, *chain.parked]:
            chain.unregister_nowait(one)
        chain.set_filter_nowait(None)
        if self._every == 512:
            self._assert_open()

    def _assert_open(self) -> None:
        """Assert that a call need not wait for anything."""
        coroutine = self.chain.call("afterwards")
        try:
            coroutine.send(None)
        except StopIteration:
            return
        coroutine.close()
        raise AssertionError("a call had to wait though nobody was there")


class LockScenario(Cast):
    """Walks share, writers exclude. A newcomer suspends in its replay, with the lock held."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._writing: set[str] = set()

    async def make_chain(self, checkpoint_every: int) -> Any:
        return BlockingChain[Any, Any](
            "chain", replay=lambda: [("past", None)], checkpoint_every=checkpoint_every
        )

    def check(self) -> None:
        assert len(self._writing) < 2, f"{sorted(self._writing)} write at the same time"
        both = f"{sorted(self._writing)} write while {sorted(self.running)} read"
        assert not (self._writing and self.running), both

    async def pass_through(self, event: str, visit: Visit) -> None:
        behind = [one for one in visit.behind if self._queues(one)]
        # An impatient one lets everybody behind it pass, be they behind a patient one, too.
        if all(anyio.current_time() < self.began[one] + PATIENCE for one in behind):
            overtaken = [one for one in behind if not self.done[one].is_set()]
            assert not overtaken, f"{visit.name} has overtaken {overtaken}"
        await super().pass_through(event, visit)

    async def newcomer(self, name: str, event: str, data: object) -> None:
        if event != "past":
            return
        self._assert_turn(name)
        self._writing.add(name)
        try:
            await checkpoint()
        finally:
            self._writing.discard(name)

    def assert_excluded(self, name: str) -> None:
        assert not self.running, f"{name} wrote while {sorted(self.running)} were reading"
        self._assert_turn(name)

    def _assert_turn(self, name: str) -> None:
        """Assert that no writer that came before this one has still to write."""
        for earlier in self.began:
            if earlier == name:
                return
            assert self.done[earlier].is_set() or not self._queues(earlier), f"{name} was early"

    def _queues(self, writer: str) -> bool:
        return self._writers[writer] != "synchronize"

    async def finish(self) -> None:
        lock = self.chain._rwlock
        left = (lock.writing, lock.waiting, lock._entering)
        assert left == (False, 0, 0), f"the lock is left in a state of {left}"
        await super().finish()


class PatienceScenario(LockScenario):
    """A callback waits for two tasks that call, and then for two more; a writer comes meanwhile.

    To be explored without timers: time goes on where nobody can, so whoever had queued is admitted
    at the very moment at which a patience ends.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.untimely: list[str] = []

    async def pass_through(self, event: str, visit: Visit) -> None:
        if event != "twice":
            await super().pass_through(event, visit)
            return
        self.running.add(visit.name)
        try:
            for turn in "first", "second":
                async with anyio.create_task_group() as group:
                    for number in "12":
                        name = f"{visit.name}, {turn} {number}"
                        group.start_soon(self._call_patiently, name, name=name)
        finally:
            self.running.discard(visit.name)

    async def _call_patiently(self, name: str) -> None:
        came = anyio.current_time() - self.started
        await self._call(name, "call")
        waited_until = anyio.current_time() - self.started
        ends = [end for end in (PATIENCE, 3 * PATIENCE) if end > came + 1e-6]
        due = [came, *ends[:1]]  # not at all, or for one patience
        if not any(abs(waited_until - end) < 1e-6 for end in due):
            what = f"{name} came at {came:.2f} and was admitted at {waited_until:.2f}, not at {due}"
            self.untimely.append(what)

    async def finish(self) -> None:
        assert not self.untimely, self.untimely[0]
        await super().finish()


class GraceScenario(Cast):
    """Walks never wait; who takes something off waits for the walks that began before.

    The first callback of a walk that began later waits for the writer: if the writer waited for
    that walk too, this would be a deadlock.
    """

    async def make_chain(self, checkpoint_every: int) -> Any:
        chain = SrcuChain[Any, Any]("chain", checkpoint_every=checkpoint_every)
        await chain.register(self.first, priority=1)
        return chain

    async def first(self, event: str, visit: Visit | None) -> None:
        if visit is None or event == "inner":
            return
        self.running.add(visit.name)
        try:
            for writer in visit.behind:
                await self.done[writer].wait()
            await checkpoint()
        finally:
            self.running.discard(visit.name)
