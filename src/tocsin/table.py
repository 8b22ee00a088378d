"""The subscriber table: what a walk reads and a writer replaces.

A `Snapshot` is the list of callables that one walk goes through, a `Table` the snapshot of a whole
chain together with its other knowledge: who is parked, what the filter is, which events have a
route of their own. Knows no lock, no event loop and no policy.

How the hard promises hold:

- *A walk sees the blocks that were there when it began* (D2): a published snapshot never changes
  its length or order; a writer edits a draft and the chain publishes it with one assignment.
- *Once unregistered, never entered again* (D3): the writer overwrites the block's slot, by a
  callable that raises `Skipped`, in every older snapshot that a walk may still hold. It knows them
  by weak references, so walks pay nothing for it. Comparing tables after each callback was
  rejected: it would cost every walk.
- *The order is that of D1*: the lists stay sorted by priority and registration, so that bisection
  finds a place, as long as nobody asks for another. Where somebody does, the blocks of that
  priority are arranged anew at every change that concerns it, and all snapshots follow.
- *Dispatch costs what the interested blocks cost*: an event that some block names in ``events`` has
  a snapshot of its own, made when the table is written. Made by the first call that needs it, it
  could copy a slot that is being overwritten.

Invariants: ``blocks``, ``kinds`` and the list itself have one length and one order, that of
``members``, which is that of (-priority, sequence) while ``asking`` is empty; a route contains
every block of the table without ``events``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import ref

from .ordering import arrange, asks, conflict_of, is_involved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._typing import Slot
    from .block import AnyBlock
    from .observer import Observation
    from .ordering import Conflict

__all__ = ["MIXED", "Leavable", "Skipped", "Snapshot", "Table"]

ALL_SYNC, ALL_ASYNC, MIXED = 0, 1, 2


class Skipped(Exception):  # noqa: N818 - no error: it says that the block is gone
    """Raised by the slot of a block that is gone; the walk goes on behind it."""


class Leavable:
    """A slot that suspends before it enters its callback, and has to look again there (D3)."""

    __slots__ = ("is_gone",)

    def __init__(self) -> None:
        self.is_gone: bool = False


def _gone(_event: object, _data: object) -> NoReturn:
    raise Skipped


def awaits(block: AnyBlock) -> bool:
    """Say whether the block's slot gives an awaitable."""
    return block._nb_rest.is_async or block._nb_rest.thread


def _order(block: AnyBlock) -> tuple[int, int]:
    return (-block._nb_priority, block._nb_sequence)


def _place(blocks: list[AnyBlock], block: AnyBlock) -> int:
    """Give the index at which the block stands, or would stand."""
    if not blocks or _order(blocks[-1]) < _order(block):
        return len(blocks)
    return bisect_left(blocks, _order(block), key=_order)


def _find(blocks: list[AnyBlock], block: AnyBlock) -> int:
    """Give the index of the block, or -1.

    Bisection may miss it, or be led astray, where somebody asks for another order, and in an older
    snapshot by a block that was registered again since: then it is searched one by one.
    """
    place = _place(blocks, block)
    if place < len(blocks) and blocks[place] is block:
        return place
    return next((index for index, one in enumerate(blocks) if one is block), -1)


class Snapshot(list[Any]):
    """The slots of one walk, in call order."""

    __slots__ = ("__weakref__", "blocks", "kinds", "mode", "observers", "readers")

    blocks: list[AnyBlock]
    kinds: bytearray
    """1 where the slot gives an awaitable, else 0."""
    mode: int
    """`ALL_SYNC`, `ALL_ASYNC` or `MIXED`, by ``kinds``."""
    observers: tuple[Observation, ...]
    """Who is told of a walk that begins here."""
    readers: int
    """How many async walks are under way; they share one event loop, so a plain int will do."""

    def __init__(self, source: Snapshot | None = None) -> None:
        if source is None:
            self.blocks, self.kinds, self.mode = [], bytearray(), ALL_SYNC
            self.observers = ()
        else:
            super().__init__(source)
            self.observers = source.observers
            self.blocks, self.kinds, self.mode = (
                source.blocks.copy(),
                source.kinds.copy(),
                source.mode,
            )
        self.readers = 0

    def insert_block(self, block: AnyBlock, slot: Slot) -> None:
        """Put a block in its place (draft only)."""
        place = _place(self.blocks, block)
        self.insert(place, slot)
        self.blocks.insert(place, block)
        self.kinds.insert(place, awaits(block))
        self._set_mode()

    def remove_block(self, block: AnyBlock) -> None:
        """Take a block out (draft only)."""
        place = self.find(block)
        del self[place], self.blocks[place], self.kinds[place]
        self._set_mode()

    def _set_mode(self) -> None:
        kinds = self.kinds
        self.mode = ALL_SYNC if 1 not in kinds else ALL_ASYNC if 0 not in kinds else MIXED

    def find(self, block: AnyBlock) -> int:
        """Give the index of the block, or -1."""
        return _find(self.blocks, block)

    def follow(self, ranks: dict[int, int]) -> None:
        """Bring the blocks into the order of their ranks, given by their ids (draft only)."""
        blocks = self.blocks
        order = sorted(range(len(blocks)), key=lambda index: ranks[id(blocks[index])])
        self[:] = [self[index] for index in order]
        self.kinds = bytearray(self.kinds[index] for index in order)
        self.blocks = [blocks[index] for index in order]

    def holds(self, position: int) -> bool:
        """Say whether the block at that position has not been blanked."""
        return self[position] is not _gone

    def blank(self, block: AnyBlock) -> None:
        """Make walks that are under way skip the block from now on."""
        index = self.find(block)
        if index >= 0:
            slot, self[index] = self[index], _gone
            if isinstance(slot, Leavable):
                slot.is_gone = True


class Table(Snapshot):
    """The snapshot of all blocks without ``events``, and everything else that a chain knows."""

    __slots__ = (
        "_drafted",
        "_members",
        "asking",
        "awaiting",
        "branches",
        "filters",
        "parked",
        "retired",
        "routes",
        "special",
    )

    _drafted: set[object]
    """The events whose route this draft has copied already."""
    _members: list[AnyBlock] | None
    """All active blocks, in order; ``None`` while no block has ``events``, see `members`."""
    parked: list[AnyBlock]
    """Registered but filtered out, in order."""
    filters: tuple[Callable[[AnyBlock], bool] | None, ...]
    """What admits a block: the chain's filter, or ``None``, then the layers of `only`."""
    routes: dict[object, Snapshot]
    """The snapshot for each event that a block names."""
    retired: list[ref[Snapshot]]
    """Older snapshots that walks may still hold."""
    asking: list[AnyBlock]
    """The blocks, active or parked, that ask for a place before or after others."""
    awaiting: int
    """How many active blocks give an awaitable."""
    branches: bool
    """Whether a walk has to look closer: there are routes, or observers."""
    special: bool
    """Whether a sync walk has to: there are branches, or something awaits."""

    def __init__(self, source: Table | None = None) -> None:
        super().__init__(source)
        if source is None:
            self._members, self.parked, self.filters = None, [], (None,)
            self.routes, self.retired, self.asking = {}, [], []
            self.awaiting, self.branches, self.special = 0, False, False
            return
        self._members = None if source._members is None else source._members.copy()
        self.parked, self.filters = source.parked.copy(), source.filters
        self.asking = source.asking.copy()
        self.awaiting, self._drafted = source.awaiting, set()
        self.routes = source.routes.copy()
        self.branches, self.special = source.branches, source.special
        self.retired = [one for one in source.retired if one() is not None]
        self.retired.append(ref(source))

    @property
    def members(self) -> list[AnyBlock]:
        """All active blocks in call order."""
        return self.blocks if self._members is None else self._members

    def route(self, event: object) -> Snapshot:
        """Give the snapshot of the blocks that hear ``event``."""
        try:
            return self.routes.get(event, self)
        except TypeError:  # unhashable, which may still equal a named event
            return next((route for named, route in self.routes.items() if named == event), self)

    def snapshots(self) -> Iterator[Snapshot]:
        """Give every snapshot that a walk may hold: the present ones, then the older ones."""
        yield self
        yield from self.routes.values()
        for one in self.retired:
            snapshot = one()
            if snapshot is not None:
                yield snapshot

    def readers_of(self, block: AnyBlock | None = None) -> list[Snapshot]:
        """Give the snapshots that async walks are going through (which hold ``block``)."""
        return [
            one
            for one in self.snapshots()
            if one.readers and (block is None or one.find(block) >= 0)
        ]

    # Edits of a draft, which the chain publishes afterwards.

    def add(self, block: AnyBlock, slot: Slot) -> None:
        """Add an active block."""
        if block.events is not None and self._members is None:
            self._members = self.blocks.copy()
        if self._members is not None:
            self._members.insert(_place(self._members, block), block)
        for snapshot in self._routes_of(block):
            snapshot.insert_block(block, slot)
        self.awaiting += awaits(block)
        if asks(block):
            self.asking.append(block)
        if is_involved(block, self.asking) or (self.asking and not self._is_latest(block)):
            self._arrange(block._nb_priority)
        self._look_over()

    def discard(self, block: AnyBlock) -> None:
        """Remove a block, be it active or parked."""
        involved = is_involved(block, self.asking)
        if asks(block):
            del self.asking[_find(self.asking, block)]
        if self.is_parked(block):
            del self.parked[_place(self.parked, block)]
            return
        if self._members is not None:
            del self._members[_find(self._members, block)]
        for snapshot in self._routes_of(block):
            snapshot.remove_block(block)
        if block.events is not None:
            self._drop_routes(block.events)
        self.awaiting -= awaits(block)
        if involved:
            self._arrange(block._nb_priority)
        self._look_over()

    def park(self, block: AnyBlock) -> None:
        """Add a block that the filter leaves out."""
        self.parked.insert(_place(self.parked, block), block)
        if asks(block):
            self.asking.append(block)

    def is_active(self, block: AnyBlock) -> bool:
        """Say whether the block is one of the members."""
        members = self.members
        if self.asking:
            return _find(members, block) >= 0
        place = _place(members, block)
        return place < len(members) and members[place] is block

    def is_parked(self, block: AnyBlock) -> bool:
        """Say whether the block is on the chain but left out."""
        place = _place(self.parked, block)
        return place < len(self.parked) and self.parked[place] is block

    def has(self, block: AnyBlock) -> bool:
        """Say whether the block is on the chain, active or parked."""
        return self.is_active(block) or self.is_parked(block)

    def observe(self, observers: tuple[Observation, ...]) -> None:
        """Have others told of the walks that begin from now on."""
        for snapshot in (self, *map(self._own_route, tuple(self.routes))):
            snapshot.observers = observers
        self._look_over()

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

    def admits(self, block: AnyBlock) -> bool:
        """Ask every layer of the filter."""
        return all(layer is None or layer(block) for layer in self.filters)

    def renew_routes(self) -> None:
        """Give every route a new snapshot, so that the walks under way hold retired ones only."""
        for event in tuple(self.routes):
            self._own_route(event)

    def _routes_of(self, block: AnyBlock) -> list[Snapshot]:
        """Give the draft's own snapshots that the block belongs in."""
        if block.events is not None:
            return [self._own_route(event) for event in block.events]
        return [self, *(self._own_route(event) for event in tuple(self.routes))]

    def _own_route(self, event: object) -> Snapshot:
        """Give a route that this draft may edit: a copy, made once."""
        route = self.routes.get(event)
        if route is not None and event in self._drafted:
            return route
        if route is not None:
            self.retired.append(ref(route))
        self._drafted.add(event)
        self.routes[event] = mine = Snapshot(self if route is None else route)
        return mine

    def _drop_routes(self, events: frozenset[object]) -> None:
        """Forget routes that no block names any longer: they equal the table itself."""
        for event in events:
            if len(self.routes[event]) == len(self):
                del self.routes[event]
        if not self.routes and len(self.members) == len(self):  # nobody has ``events=()``
            self._members = None

    def _is_latest(self, block: AnyBlock) -> bool:
        """Say whether the block was registered last: then it stands where it belongs."""
        return all(one._nb_sequence <= block._nb_sequence for one in self.members)

    def _arrange(self, priority: int) -> None:
        """Give the blocks of one priority their order again, after one has come or gone."""
        ordered = self.members.copy()
        first = bisect_left(ordered, -priority, key=lambda block: -block._nb_priority)
        behind = bisect_right(ordered, -priority, key=lambda block: -block._nb_priority)
        ordered[first:behind] = arrange(ordered[first:behind])
        ranks = {id(block): rank for rank, block in enumerate(ordered)}
        for snapshot in (self, *map(self._own_route, tuple(self.routes))):
            snapshot.follow(ranks)
        if self._members is not None:
            self._members = ordered

    def _look_over(self) -> None:
        self.branches = bool(self.routes or self.observers)
        self.special = self.branches or self.awaiting > 0
