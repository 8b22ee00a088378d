"""Waiting for walks: the grace period of a chain, and refusing to wait for oneself.

Invariant: ``_waiting`` is not zero while somebody waits for a walk to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ancestry import enclosing_walks, walks_below
from .bands import ASYNC_WALKS
from .locks import GracePeriods
from .view import ALL_SYNC
from .walk import UNCOUNTED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from .block import AnyBlock
    from .view import Snapshot, Walked

__all__ = ["Awaited"]


class Awaited:
    """A chain whose async walks can be waited for."""

    if not TYPE_CHECKING:
        __slots__ = ()  # the chains' slots hold it all
    if TYPE_CHECKING:
        _grace: GracePeriods
        _waiting: int
        _walked: Walked

        def _tell_waiting(self) -> None: ...
        def _would_deadlock(self, what: str, instead: str) -> NoReturn: ...

    def _start_waits(self) -> None:
        self._grace = GracePeriods(self._changed)
        self._waiting = 0

    def _changed(self) -> None:
        """Take note that somebody waits, or does no longer."""
        self._waiting = self._grace.waiting

    def _reader_left(self) -> None:
        """Wake those who wait for the end of a walk."""
        self._grace.wake()

    def _enclosing(self) -> Iterator[Snapshot]:
        """Give the snapshots of this chain's walks that wait for the running code."""
        return enclosing_walks(self, ASYNC_WALKS)

    def _walks_below(self) -> Iterator[Snapshot]:
        """Give the snapshots of the walks that nobody counts.

        Theirs are sync callbacks alone, so whoever can ask was called from one of them.
        """
        if any(one.mode == ALL_SYNC for one in self._walked):
            yield from walks_below(self, UNCOUNTED)

    def _count_walks(self) -> int:
        return sum(one.readers for one in self._walked) + sum(1 for _ in self._walks_below())

    def _is_walked(self) -> bool:
        """Say whether any walk is under way."""
        return any(one.readers for one in self._walked) or any(True for _ in self._walks_below())

    def _readers_of(self, block: AnyBlock | None = None) -> list[Snapshot]:
        """Give the snapshots of the walks that are under way (and may hold ``block``)."""
        walked = [one for one in self._walked if one.readers]
        walked += self._walks_below()
        return walked if block is None else [one for one in walked if one.find(block) >= 0]

    def _may_be_running(self, block: AnyBlock) -> bool:
        return bool(self._readers_of(block))

    def _refuse_own_walk(
        self,
        block: AnyBlock,
        what: str = "unregistering from",
        instead: str = "use unregister_nosync()",
    ) -> None:
        """Refuse to wait for a walk that may hold the block and that this code runs in."""
        self._refuse_to_wait_for(self._readers_of(block), what, instead)

    def _refuse_to_wait_for(
        self,
        walked: list[Snapshot],
        what: str = "unregistering from",
        instead: str = "use unregister_nosync()",
    ) -> None:
        if walked and any(one is items for items in self._enclosing() for one in walked):
            self._would_deadlock(what, instead)

    def _refuse_to_synchronize(self) -> None:
        if self._is_walked() and any(True for _ in self._enclosing()):
            self._would_deadlock("synchronizing", "do it after the call")

    async def _wait_for(self, block: AnyBlock) -> None:
        self._refuse_own_walk(block)
        await self._wait_out(self._readers_of(block))

    async def _wait_out(self, snapshots: list[Snapshot]) -> None:
        """Wait until nobody walks through these snapshots, which have been replaced."""
        if not snapshots:
            return
        self._tell_waiting()
        # One that nobody counts goes on when we yield, unless that leads to a nested event loop.
        while any(one is items for items in self._walks_below() for one in snapshots):
            from anyio.lowlevel import checkpoint

            await checkpoint()
        await self._grace.wait(snapshots)
