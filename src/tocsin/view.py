"""What a walk reads: its snapshot, and the gate that may stand before it.

A `Snapshot` is the list of callables that one walk goes through. The first call that needs one
derives it from the table, so that a change costs no more than the change. Knows no lock, no event
loop and no policy.

How the hard promises hold:

- *A walk sees the blocks that were there when it began* (D2): a snapshot never changes its length
  or order.
- *Once unregistered, never entered again* (D3): the writer replaces the block's slot by a `Gone`,
  whose call raises `Skipped`, in every snapshot that a walk may still hold. Comparing tables after
  each callback was rejected: it would cost every walk.
- *A walk pays for what it uses*: a chain shows its walks the snapshot itself, unless somebody
  observes it or some block has ``events``. Then it shows a *gate*: an empty snapshot that leads to
  others, one for each event that a block names and one for the ``rest``. Gates are of the same
  class as what they lead to, since an interpreter that has seen one class only is the quicker.

Invariants: the list, ``blocks`` and ``kinds`` have one length and one order; no two slots of a
snapshot are the same object, so that a slot tells its place.
"""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import ref

from . import ordering

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._typing import Slot
    from .block import AnyBlock
    from .observer import Observation
    from .table import Table

__all__ = [
    "ALL_ASYNC",
    "ALL_SYNC",
    "CLOSED",
    "GUARDED",
    "MIXED",
    "REST",
    "Leavable",
    "Skipped",
    "Snapshot",
    "Walked",
    "awaits",
]

ALL_SYNC, ALL_ASYNC, MIXED, GUARDED = range(4)
"""The modes of a snapshot: what its slots are, or that a walk has to look closer."""


class Skipped(Exception):  # noqa: N818 - no error: it says that the block is gone
    """Raised by the slot of a block that is gone; the walk goes on behind it."""


class Leavable:
    """A slot that suspends before it enters its callback, and has to look again there (D3)."""

    __slots__ = ("is_gone",)

    def __init__(self) -> None:
        self.is_gone: bool = False


class Gone:
    """Stands in the place of a slot whose block is gone; a walk that is inside it may ask where."""

    __slots__ = ("slot",)

    def __init__(self, slot: Slot) -> None:
        self.slot: Slot = slot

    def __call__(self, _event: object, _data: object) -> NoReturn:
        raise Skipped


def awaits(block: AnyBlock) -> bool:
    """Say whether the block's slot gives an awaitable."""
    return block._nb_rest.is_async or block._nb_rest.thread


class Snapshot(list[Any]):
    """The slots of one walk, in call order."""

    __slots__ = (
        "__weakref__",
        "blocks",
        "kinds",
        "mode",
        "observers",
        "readers",
        "rest",
        "routes",
        "table",
    )

    blocks: list[AnyBlock]
    kinds: bytes
    """1 where the slot gives an awaitable, else 0."""
    mode: int
    """By ``kinds``, or `GUARDED`: observed, a gate, or closed."""
    observers: tuple[Observation, ...]
    """Who is told of a walk that begins here."""
    readers: int
    """How many async walks are under way; they share one event loop, so a plain int will do."""
    routes: dict[Any, Snapshot]
    """Of a gate: where each named event leads; `CLOSED` until the first call with it."""
    rest: Snapshot
    """Of a gate: where every other event leads."""
    table: Table | None
    """What it was made from."""

    def __init__(
        self,
        table: Table | None = None,
        blocks: list[AnyBlock] | None = None,
        observers: tuple[Observation, ...] = (),
        slots: list[Slot] | None = None,
    ) -> None:
        blocks = [] if blocks is None else blocks
        if slots is None:
            slots = [one.notifier_call if one._nb_slot is None else one._nb_slot for one in blocks]
        super().__init__(_distinct(slots))
        self.table, self.blocks, self.observers = table, blocks, observers
        awaiting = len(blocks) if table is None else table.awaiting  # perhaps, at most
        self.kinds = kinds = bytes(map(awaits, blocks)) if awaiting else bytes(len(blocks))
        self.mode = ALL_SYNC if 1 not in kinds else ALL_ASYNC if 0 not in kinds else MIXED
        if observers:
            self.mode = GUARDED
        self.readers, self.routes, self.rest = 0, _NO_ROUTES, CLOSED

    # Gates.

    @classmethod
    def gate(cls, table: Table, named: Iterable[Any]) -> Snapshot:
        """Make a gate that knows which events are named, and has not been asked for any yet."""
        made = cls(table)
        made.mode, made.routes = GUARDED, dict.fromkeys(named, CLOSED)
        return made

    @property
    def is_gate(self) -> bool:
        """Whether this leads to other snapshots."""
        return self.routes is not _NO_ROUTES

    def key_of(self, event: object) -> object:
        """Give the event as some block names it, or `REST`."""
        if not self.routes:  # an event that cannot be compared need not be
            return REST
        try:
            return event if event in self.routes else REST
        except TypeError:  # unhashable, which may still equal a named event
            return next((named for named in self.routes if named == event), REST)

    def behind(self, key: object) -> Snapshot:
        """Give where a gate leads."""
        return self.rest if key is REST else self.routes[key]

    def open(self, key: object, items: Snapshot) -> None:
        """Have a gate lead there."""
        if key is REST:
            self.rest = items
        else:
            self.routes[key] = items

    # Slots and places.

    def find(self, block: AnyBlock) -> int:
        """Give the index of the block, or -1."""
        return ordering.find(block, self.blocks)

    def holds(self, position: int) -> bool:
        """Say whether the block at that position is not gone."""
        return type(self[position]) is not Gone

    def place_of(self, slot: object) -> int:
        """Give the place of a slot that was taken from here.

        It may be gone since, and even gone twice: by a writer and by the call that made this.
        """
        wanted = slot.slot if type(slot) is Gone else slot
        return next(
            place
            for place, one in enumerate(self)
            if (one.slot if type(one) is Gone else one) is wanted
        )

    def blank(self, block: AnyBlock) -> None:
        """Make walks that are under way skip the block from now on."""
        # No deeper than what took it off the table: at the limit of recursion that fails first.
        index = ordering.find(block, self.blocks)
        if index >= 0 and type(slot := self[index]) is not Gone:
            self[index] = Gone(slot)
            if isinstance(slot, Leavable):
                slot.is_gone = True

    def blank_all_but(self, blocks: list[AnyBlock]) -> None:
        """Make walks skip whoever is not among these."""
        present = {*map(id, blocks)}
        for block in self.blocks:
            if id(block) not in present:
                self.blank(block)


def _distinct(slots: list[Slot]) -> list[Slot]:
    """Give slots that differ from each other (D16): the same callable may be in several blocks."""
    hashed_by_identity = _HASHED_BY_IDENTITY.issuperset(map(type, slots))  # then id() need not be
    if len({*(slots if hashed_by_identity else map(id, slots))}) == len(slots):
        return slots
    seen: set[int] = set()
    for place, slot in enumerate(slots):
        if id(slot) in seen:
            slots[place] = partial(slot)
        seen.add(id(slot))
    return slots


_HASHED_BY_IDENTITY = frozenset((FunctionType, MethodType))

_NO_ROUTES: dict[Any, Snapshot] = {}

REST = object()
"""The key of all events that no block names."""

CLOSED = Snapshot.__new__(Snapshot)
"""What a chain shows after a change, until the next call: it leads nowhere."""
Snapshot.__init__(CLOSED)
CLOSED.mode = GUARDED


class Walked:
    """The snapshots that a walk may hold, the present ones among them.

    Knows them by weak references, so that walks pay nothing for it. Each step is atomic: readers
    add to it, in any thread, while a writer looks.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, ref[Snapshot]] = {}

    def add(self, items: Snapshot) -> None:
        """Know a snapshot until nobody holds it."""
        known, key = self._known, id(items)
        known[key] = ref(items, partial(known.pop, key))  # no frame, in which a signal could raise

    def __iter__(self) -> Iterator[Snapshot]:
        for one in list(self._known.values()):
            items = one()
            if items is not None:
                yield items

    def blank(self, block: AnyBlock) -> None:
        """Make all walks that are under way skip a block from now on."""
        if self._known:
            for items in self:
                items.blank(block)
