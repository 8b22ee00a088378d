"""The subscriber table: who is on a chain, in which order, and under which filter.

A `Table` is what a writer replaces. It knows nothing of walks: what they read is derived from it
(`view`). Knows no lock, no event loop and no policy.

An edit costs one copy of one list, which is what publishing all or nothing asks for; nothing else
in a table grows with the number of blocks.

Invariants: a published table is never edited; ``members`` and ``parked`` are in the order of
(-priority, sequence), but for members of a priority in which somebody asks for another place.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import chain
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING

from .callables import close_coroutine
from .errors import InvalidTypeError
from .ordering import arrange, asks, conflict_of, find, find_sorted, is_involved, place_for
from .view import Snapshot, awaits

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._typing import Wrapper
    from .block import AnyBlock
    from .observer import Observation
    from .ordering import Conflict

__all__ = ["Table"]

_GENERATORS = (GeneratorType, AsyncGeneratorType)


class Table:
    """What a chain knows of its blocks."""

    __slots__ = (
        "asking",
        "awaiting",
        "filters",
        "members",
        "observers",
        "parked",
        "routed",
        "wrappers",
    )

    members: list[AnyBlock]
    """The active blocks, in call order."""
    parked: list[AnyBlock]
    """Registered but filtered out, in order."""
    filters: tuple[Callable[[AnyBlock], bool] | None, ...]
    """What admits a block: the chain's filter, or ``None``, then the layers of `only`."""
    observers: tuple[Observation, ...]
    """Who is told of what the chain does."""
    wrappers: tuple[Wrapper, ...]
    """What callbacks are wrapped in, the innermost first."""
    asking: list[AnyBlock]
    """The blocks, active or parked, that ask for a place before or after others."""
    awaiting: int
    """How many active blocks give an awaitable."""
    routed: int
    """How many active blocks have ``events``."""

    def __init__(self, source: Table | None = None) -> None:
        if source is None:
            self.members, self.parked, self.asking = [], [], []
            self.filters, self.observers, self.wrappers = (None,), (), ()
            self.awaiting = self.routed = 0
            return
        # The lists are shared: an edit puts a changed copy in their place.
        self.members, self.parked, self.asking = source.members, source.parked, source.asking
        self.filters, self.observers = source.filters, source.observers
        self.wrappers = source.wrappers
        self.awaiting, self.routed = source.awaiting, source.routed

    def is_like(self, other: Table) -> bool:
        """Say whether the two have the same blocks and filters."""
        return (
            self.members is other.members
            and self.parked is other.parked
            and self.filters is other.filters
        )

    # What walks read.

    def view(self) -> Snapshot:
        """Make what the chain shows to its walks: the snapshot of all blocks, or a gate."""
        if not self.routed and not self.observers:
            return Snapshot(self, self.members)
        named = (block._nb_rest.events or () for block in self.members)
        return Snapshot.gate(self, chain.from_iterable(named))

    def snapshot(self, key: object) -> Snapshot:
        """Make the snapshot of those who hear an event, or who hear `REST`."""
        blocks = [
            block
            for block in self.members
            if block._nb_rest.events is None or key in block._nb_rest.events
        ]
        return Snapshot(self, blocks, self.observers)

    # Edits of a draft, which the chain publishes afterwards.

    def add(self, block: AnyBlock) -> None:
        """Add an active block, which has its slot."""
        self.members = members = self.members.copy()
        members.insert(place_for(block, members), block)
        self._count(block, 1)
        if asks(block):
            self.asking = [*self.asking, block]
        if self.asking and (is_involved(block, self.asking) or not self._is_latest(block)):
            self._arrange(block._nb_priority)

    def discard(self, block: AnyBlock) -> bool:
        """Remove a block, be it active or parked; say whether it was there."""
        place = self._place_of(block)
        if place >= 0:
            self.members = members = self.members.copy()
            del members[place]
            self._count(block, -1)
        elif self.is_parked(block):
            self.parked = self.parked.copy()
            del self.parked[place_for(block, self.parked)]
        else:
            return False
        if self.asking:
            involved = is_involved(block, self.asking)
            self.asking = [one for one in self.asking if one is not block]
            if involved and place >= 0:
                self._arrange(block._nb_priority)
        return True

    def park(self, block: AnyBlock) -> None:
        """Add a block that the filter leaves out."""
        self.parked = self.parked.copy()
        self.parked.insert(place_for(block, self.parked), block)
        if asks(block):
            self.asking = [*self.asking, block]

    def _count(self, block: AnyBlock, step: int) -> None:
        if awaits(block):
            self.awaiting += step
        if block._nb_rest.events is not None:
            self.routed += step

    def _is_latest(self, block: AnyBlock) -> bool:
        """Say whether the block was registered last: then it stands where it belongs."""
        return all(one._nb_sequence <= block._nb_sequence for one in self.members)

    def _arrange(self, priority: int) -> None:
        """Give the blocks of one priority their order again, after one has come or gone."""
        members = self.members
        first = bisect_left(members, -priority, key=lambda block: -block._nb_priority)
        behind = bisect_right(members, -priority, key=lambda block: -block._nb_priority)
        members[first:behind] = arrange(members[first:behind])

    # Questions.

    def is_active(self, block: AnyBlock) -> bool:
        """Say whether the block is one of the members."""
        return self._place_of(block) >= 0

    def _place_of(self, block: AnyBlock) -> int:
        """Give the index of the block among the members, or -1."""
        return find(block, self.members) if self.asking else find_sorted(block, self.members)

    def is_parked(self, block: AnyBlock) -> bool:
        """Say whether the block is on the chain but left out."""
        return find_sorted(block, self.parked) >= 0

    def has(self, block: AnyBlock) -> bool:
        """Say whether the block is on the chain, active or parked."""
        return self.is_active(block) or self.is_parked(block)

    def first_of_priority(self, priority: int) -> AnyBlock | None:
        """Give the first active block of that priority."""
        place = bisect_left(self.members, -priority, key=lambda block: -block._nb_priority)
        if place < len(self.members) and self.members[place]._nb_priority == priority:
            return self.members[place]
        return None

    def conflict_of(self, block: AnyBlock) -> Conflict | None:
        """Say why there is no place for a newcomer, if there is none."""
        if not is_involved(block, self.asking):
            return None
        return conflict_of(block, [*self.members, *self.parked])

    def admits(self, block: AnyBlock, chain: str) -> bool:
        """Ask every layer of the filter; `InvalidTypeError` that names ``chain`` for no answer."""
        for layer in self.filters:
            if layer is None:
                continue
            answer: object = layer(block)
            if answer is not True and not _is_yes(answer, chain):
                return False
        return True


def _is_yes(answer: object, chain: str) -> bool:
    """Read what a filter gave. What is true only because it is an object admits nobody."""
    kind = type(answer)
    if answer is NotImplemented or hasattr(kind, "__await__") or issubclass(kind, _GENERATORS):
        close_coroutine(answer)
        raise InvalidTypeError(
            f"chain {chain!r}: a filter must give True or False, not {kind.__name__}; it is asked "
            f"while the table is written, so it cannot be async"
        )
    return bool(answer)
