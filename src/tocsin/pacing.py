"""Entering an async walk, and the checkpoint budget: how often that yields to the loop (D11).

A checkpoint costs more than most calls, so it is taken in one of ``checkpoint_every`` awaited
methods of a chain, before anything else is done. The budget is an iterator that gives the present
snapshot so many times, so that a walk reads it and draws on the budget in one step; closing the
door is giving it no turns at all.
"""

from __future__ import annotations

from itertools import repeat
from operator import length_hint
from typing import TYPE_CHECKING

from .loops import running_loop

if TYPE_CHECKING:
    from .view import Snapshot

__all__ = ["CHECKPOINT_EVERY", "Paced"]

CHECKPOINT_EVERY = 512
"""Large enough that refilling the budget does not show in the cost of a call."""


class Paced:
    """A chain with a checkpoint budget.

    Invariant: ``_turns`` gives what the chain shows, and nothing while the door is closed.
    """

    if not TYPE_CHECKING:
        __slots__ = ()  # the chains' slots hold it all
    if TYPE_CHECKING:
        _items: Snapshot
        _turns: repeat[Snapshot]
        _budget: int  # what is left of it while the door is closed, and no turns are, else 0
        _checkpoint_every: int
        _waiting: int

        def _reader_left(self) -> None: ...
        def _open(self, event: object) -> Snapshot: ...

    def _start_budget(self, checkpoint_every: int) -> None:
        self._checkpoint_every = checkpoint_every
        self._budget = 0
        self._turns = repeat(self._items, 0)  # so that the first call looks at its event loop

    def _renew_turns(self) -> None:
        """Give the turns that are left what the chain shows now, and let go of the old."""
        self._give(length_hint(self._turns))

    def _give(self, turns: int) -> None:
        """Give so many turns; again if a finalizer or handler has changed the chain meanwhile."""
        items = None
        while items is not self._items:
            items = self._items
            self._turns = repeat(items, turns)

    def _close_door(self) -> None:
        """Have every walk that comes now look closer."""
        left = length_hint(self._turns)
        if left:
            self._budget += left
            self._turns = repeat(self._items, 0)

    def _open_door(self) -> None:
        """Give walks their turns again."""
        if self._budget:
            self._give(self._budget)
            self._budget = 0

    def _draw(self) -> bool:
        """Take a turn from the budget, if it has one left, be the door open or closed."""
        for _ in self._turns:
            return True
        left = self._budget > 0
        self._budget -= left
        return left

    async def _enter(self) -> Snapshot:
        """Let a walk in that found no turn."""
        await self._pace()
        await self._admit()
        return self._items

    async def _pace(self) -> None:
        """Draw on the budget; a checkpoint when it is used up."""
        if not self._draw():
            await self._pause()

    async def _pause(self) -> None:
        """Fill the budget, which is used up; a checkpoint."""
        loop = self._bind()
        # Refilled before the checkpoint, or all concurrent callers would pause at once.
        self._refill()
        if loop is not None:
            from anyio.lowlevel import checkpoint

            await checkpoint()

    def _refill(self) -> None:
        self._give(self._checkpoint_every - 1)

    async def _admit(self) -> None:
        """Wait for a turn to walk."""

    def _bind(self) -> object | None:
        """Give the running event loop, having seen that it is the chain's."""
        return running_loop()

    async def _begin_walk(self, event: object) -> Snapshot:
        """Enter a careful walk: the reader is counted when this returns."""
        for _ in self._turns:
            break
        else:
            await self._enter()
        items = self._route(event)
        items.readers += 1
        return items

    def _route(self, event: object) -> Snapshot:
        """Give the snapshot for an event; one that cannot be compared gives its turn back."""
        try:
            return self._open(event)
        except BaseException:
            if self._waiting:
                self._reader_left()
            raise

    def _end_walk(self, items: Snapshot) -> None:
        items.readers -= 1
        if self._waiting and not items.readers:  # the last of them
            self._reader_left()
