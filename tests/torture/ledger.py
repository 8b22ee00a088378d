"""What the contract promises, watched from outside: who is registered, and what each walk did.

Time is a counter, `Ledger.tick`: of two stamps the smaller one is certainly the earlier. What is
between the stamps before and after an operation may have happened at any moment between them, and
is held against nobody.

Knows no task and no thread; every step is atomic under the interpreter's lock, so that threads and
signal handlers may use it as it is.
"""

from __future__ import annotations

import math
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import ref

from anyio.lowlevel import checkpoint

from tocsin import NOTIFY_STOP, NotifierBlock, Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Block = NotifierBlock[Any, Any, Any]

NEVER = math.inf
EVENTS = ("up", "down", "change")
ROLLBACK, REPLAY = "rollback", "replay"
EVERYBODY = "everybody"
"""For `Ledger.free`."""
_ABSENT = object()


class FaultError(Exception):
    """What a tortured callback raises."""


class Group:
    """Blocks that a filter parks and admits again, all together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_open = True
        self.closed: float = NEVER
        """When they were known to be parked; `NEVER` while they may be called."""
        self.opening: float = 0
        """When they were last about to be admitted."""


class Probe:
    """A block that checks each entry into it."""

    def __init__(
        self,
        ledger: Ledger,
        colour: str,
        priority: int,
        *,
        group: Group,
        events: Iterable[str] | None = None,
        once: bool = False,
    ) -> None:
        self.ledger, self.colour, self.priority, self.group = ledger, colour, priority, group
        self.once, self.runs = once, 0
        self.events = None if events is None else frozenset({*events, ROLLBACK, REPLAY})
        self.joining: float = NEVER
        self.joined: float = NEVER
        self.gone: float = NEVER
        self.is_dead = False
        """Whether not even a walk that had begun to enter it may do so any more."""
        self.inside: dict[Walk, None] = {}
        self.block: Block = NotifierBlock(
            self.ahear if colour == "async" else self.hear,
            name=group.name,
            priority=priority,
            events=self.events,
            once=once,
            thread=colour == "thread",
        )
        ledger.made.append(ref(self))

    def __repr__(self) -> str:
        what = f"{self.colour} block of {self.block.name!r}, priority {self.priority}"
        return f"{what}, joined at {self.joining}..{self.joined}, gone at {self.gone}"

    def hears(self, event: str) -> bool:
        return self.events is None or event in self.events

    def hear(self, event: str, walk: Walk | None) -> Any:
        if walk is None:
            return self.ledger.check_alone("a replay")
        walk.enter(self, event)
        try:
            return walk.act(self)
        finally:
            walk.leave(self)

    async def ahear(self, event: str, walk: Walk | None) -> Any:
        if walk is None:
            return await self._hear_replay()
        walk.enter(self, event)
        try:
            for _ in range(walk.pauses):
                await checkpoint()
            result = walk.act(self)
            return await result if hasattr(type(result), "__await__") else result
        finally:
            walk.leave(self)

    async def _hear_replay(self) -> None:
        self.ledger.check_alone("a replay")
        self.ledger.writing += 1
        try:
            await checkpoint()
            await checkpoint()
        finally:
            self.ledger.writing -= 1
        self.ledger.check_alone("a replay")


class Walk:
    """What one call does, and what it may do: the data of the event."""

    pauses = 0
    """How often an async callback suspends."""
    may_wait = False
    """Whether it may call its own chain from another task, which has to wait behind a writer."""
    act_at = 0
    """The callback, counted from 1, that does something out of the ordinary; 0 for none."""
    is_concurrent = is_robust = False
    is_cut = False
    """Whether it may end before the last block."""
    has_ended = False
    ended_in: float = NEVER
    """The round of the event loop in which it ended."""
    began: float = 0
    began_after = 0
    """How many writes had been made under a lock when it began."""
    action: Callable[[Walk, Probe], Any] | None = None

    def __init__(self, ledger: Ledger, event: str) -> None:
        self.ledger, self.event = ledger, event
        self.heard: dict[Probe, None] = {}
        self.undone: dict[Probe, None] = {}
        self.priority: float = math.inf
        self.newest: float = 0
        self.version = ledger.version
        self.stamp: float = ledger.tick()
        """When it last was between two callbacks."""
        self.issued = self.stamp
        ledger.issued[self] = None

    def enter(self, probe: Probe, event: str) -> None:
        group = probe.group
        if probe.is_dead or self.has_ended or probe.gone < self.stamp or group.closed < self.stamp:
            self._check_removal(probe)
        if event == ROLLBACK:
            self._roll_back(probe)
        else:
            began = self.began = self.began or self.ledger.begin(self)
            if probe.joining > began or group.opening > began or probe in self.heard or probe.once:
                self._check_view(probe)
            if probe.priority >= self.priority:
                self._check_order(probe)
            else:
                self.priority, self.newest = probe.priority, probe.joining
            self.heard[probe] = None
            probe.runs += 1
        probe.inside[self] = None

    def leave(self, probe: Probe) -> None:
        del probe.inside[self]
        self.stamp = self.ledger.tick()

    def act(self, probe: Probe) -> Any:
        if len(self.heard) == self.act_at and self.action is not None and not self.undone:
            return self.action(self, probe)
        return None

    def _check_removal(self, probe: Probe) -> None:
        violate = self.ledger.violate
        if probe.is_dead:
            violate("D3", f"entered after its unregister had returned: {probe}")
        if self.has_ended:
            violate("D3", f"a walk goes on after synchronize() had returned: {probe}")
        # A slot that several look at may have been looked at before the last of them left.
        if not (self.is_concurrent and probe.colour == "thread"):
            if probe.gone < self.stamp:
                violate("D3", f"entered by a walk that had still to come to it: {probe}")
            if probe.group.closed < self.stamp:
                violate("D3", f"entered after a filter had parked it: {probe}")

    def _check_view(self, probe: Probe) -> None:
        violate, opening = self.ledger.violate, probe.group.opening
        if probe.joining > self.began:
            violate("D2", f"called by a walk that began at {self.began}: {probe}")
        if opening > self.began:
            violate("D2", f"admitted at {opening}, called by a walk of {self.began}: {probe}")
        if probe in self.heard:
            violate("D2", f"called twice by one walk: {probe}")
        if probe.once and probe.runs:
            violate("once", f"ran again: {probe}")

    def _check_order(self, probe: Probe) -> None:
        violate = self.ledger.violate
        if probe.priority > self.priority:
            violate("D1", f"called after priority {self.priority}: {probe}")
        elif not self.is_concurrent and probe.joined < self.newest:
            violate("D1", f"called after one that came at {self.newest}: {probe}")
        self.newest = max(self.newest, probe.joining)

    def _roll_back(self, probe: Probe) -> None:
        if probe not in self.heard or probe in self.undone:
            self.ledger.violate("D10", f"rolled back twice or without having run: {probe}")
        self.undone[probe] = None

    def end(self) -> None:
        """Take note that the call has ended, or failed to begin."""
        ledger = self.ledger
        self.has_ended, self.ended_in = True, ledger.rounds
        del ledger.issued[self]
        ledger.open.pop(self, None)
        if not self.is_cut:
            self._check_lost(self.event, self.heard, "lost: not called")
        elif self.is_robust:
            *agreed, _ = self.heard or (None,)
            self._check_lost(ROLLBACK, self.undone, "lost: not rolled back", agreed)

    def _check_lost(
        self, event: str, found: dict[Probe, None], what: str, among: Iterable[Any] | None = None
    ) -> None:
        ledger = self.ledger
        for probe in tuple(ledger.residents) if among is None else among:
            if (
                probe.joined < self.issued
                and probe not in found
                and probe in ledger.residents
                and probe.hears(event)
                and not probe.once
                and ledger.is_stable(probe.group, self.version)
            ):
                ledger.violate("D2", f"{what} by a walk of {self.issued}..{ledger.tick()}: {probe}")


class Ledger(Observer):
    """Who is registered, which walks are open, and what was wrong."""

    def __init__(self, calls: int, *, writes: int = 0, is_exclusive: bool = False) -> None:
        self.tick = count(1).__next__
        self._count = count(1).__next__
        self._goals = calls, writes
        self.walks = self.writes = self.locked = self.rounds = self.version = self.writing = 0
        self.is_exclusive = is_exclusive
        """Whether writers exclude walks."""
        self.residents: dict[Probe, None] = {}
        """Who is on the chain for certain; to take one off is to remove it here first."""
        self.issued: dict[Walk, None] = {}
        """The calls that have not ended; some wait for their turn, or for a thread."""
        self.open: dict[Walk, None] = {}
        """Those of them that have entered a callback."""
        self.made: list[ref[Probe]] = []
        self.always = Group("always")
        self.groups = [Group("filtered"), Group("muted")]
        self.violations: list[str] = []
        self.free: dict[object, None] = {}
        """Whose changes may overlap walks, as those of `unregister_nosync` do."""

    @property
    def is_over(self) -> bool:
        calls, writes = self._goals
        return (self.walks >= calls and self.writes >= writes) or bool(self.violations)

    def violate(self, rule: str, what: str) -> None:
        if len(self.violations) < 5:  # the first tells most
            self.violations.append(f"{rule}: {what}")

    # Walks.

    def begin(self, walk: Walk) -> float:
        self.walks = self._count()
        self.open[walk] = None
        walk.began_after = self.locked
        if self.writing and self.is_exclusive:
            self.violate("lock", "a walk began while a writer was at work")
        return self.tick()

    def check_alone(self, what: str) -> None:
        if self.is_exclusive and self.open and EVERYBODY not in self.free:
            self.violate("lock", f"{what} overlaps {len(self.open)} walks")

    # Writers.

    def joining(self, probe: Probe) -> None:
        probe.joined = probe.gone = NEVER
        probe.is_dead, probe.runs = False, 0
        probe.joining = self.tick()

    def joined(self, probe: Probe) -> None:
        probe.joined = self.tick()
        self.residents[probe] = None
        self.writes += 1

    def claim(self, probe: Probe) -> bool:
        """Begin to take a block off; say whether nobody else does."""
        return self.residents.pop(probe, _ABSENT) is not _ABSENT

    def left(self, probe: Probe, *, dead: bool = False, idle: bool = False) -> None:
        """Take note of an unregister that has returned, and of what it promised."""
        if idle and probe.inside:
            self.violate("D3", f"was running when its unregister returned: {probe}")
        probe.is_dead = dead
        probe.gone = self.tick()
        self.writes += 1

    def synchronized(self, walks: Iterable[Walk]) -> None:
        """Take note that these are said to have ended, of which some may have done so just now."""
        for walk in walks:
            if any(walk in probe.inside for probe in tuple(walk.heard)):
                self.violate("D3", "synchronize() returned while an earlier walk was running")
            walk.has_ended = True

    def check_once(self) -> None:
        """See, while nothing runs, that who is there has not run and who is gone has."""
        for probe in self.residents:
            if probe.once and probe.runs != (probe.block.chain is None):
                self.violate("once", f"ran {probe.runs} times: {probe}")

    # Filters.

    def close(self, group: Group) -> None:
        self.version += 1
        group.is_open = False

    def closed(self, group: Group) -> None:
        group.closed = self.tick()
        self.writes += 1

    def opening(self, group: Group) -> None:
        group.closed = NEVER
        group.opening = self.tick()

    def opened(self, group: Group) -> None:
        group.is_open = True
        self.version += 1
        self.writes += 1

    def is_stable(self, group: Group, version: int) -> bool:
        return group is self.always or (group.is_open and version == self.version)

    # As an observer.

    def registered(self, chain: Any, block: Block) -> None:
        self._changed(block)

    def unregistered(self, chain: Any, block: Block) -> None:
        self._changed(block)

    def parked(self, chain: Any, block: Block) -> None:
        self._changed(block)

    def _changed(self, block: Block) -> None:
        if not (block.once or block in self.free):
            self.check_alone("a change of the table")


def stop(walk: Walk, _probe: Probe) -> int:
    walk.is_cut = True
    return NOTIFY_STOP


def fail(walk: Walk, _probe: Probe) -> None:
    walk.is_cut = True
    raise FaultError
