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
        _budget: int  # what is left of the budget while the door is closed
        _checkpoint_every: int
        _waiting: int

        def _reader_left(self) -> None: ...
        def _open(self, event: object) -> Snapshot: ...

    def _start_budget(self, checkpoint_every: int) -> None:
        self._checkpoint_every = checkpoint_every
        self._budget = 0
        self._turns = repeat(self._items, 0)  # so that the first call looks at its event loop

    @property
    def _is_closed(self) -> bool:
        """Whether walks have to queue."""
        return False

    @property
    def _left(self) -> int:
        """How many turns the budget still has."""
        return length_hint(self._turns) + self._budget

    def _set_turns(self, left: int) -> None:
        closed = self._is_closed
        self._budget = left if closed else 0
        self._turns = repeat(self._items, 0 if closed else left)

    async def _enter(self) -> Snapshot:
        """Let a walk in that found no turn."""
        await self._pace()
        await self._admit()
        return self._items

    async def _pace(self) -> None:
        """Draw on the budget; a checkpoint when it is used up."""
        left = self._left
        if left:
            self._set_turns(left - 1)
            return
        loop = self._bind()
        # Refilled before the checkpoint, or all concurrent callers would pause at once.
        self._set_turns(self._checkpoint_every - 1)
        if loop is not None:
            from anyio.lowlevel import checkpoint

            await checkpoint()

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
        if self._waiting:
            self._reader_left()
