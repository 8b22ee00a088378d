"""The order of blocks (D1): by priority and registration, and by ``before=`` and ``after=``.

Lists of blocks are sorted by priority and registration, so that bisection finds a place, as long as
nobody asks for another.

Within a priority, who asks is who moves. A block that asks to come before others takes the place of
the first of them; one that asks to come after others waits for the last of them. The rest keep the
order of registration, unless what is asked leaves them none: at each place stands, of those whose
forerunners stand already, the one that was registered first, or takes the place of such a one. So
the order depends on who is there, and not on how they came.

Pure functions over blocks; knows no chain and no table.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .block import AnyBlock

__all__ = [
    "Conflict",
    "arrange",
    "asks",
    "conflict_of",
    "find",
    "is_involved",
    "place_for",
    "sequence",
]


class Conflict(NamedTuple):
    """Why a block cannot be put in order."""

    blocks: tuple[AnyBlock, ...]
    """Those that ask for what cannot be, the newcomer among them."""
    reason: str


def sequence(block: AnyBlock) -> int:
    """Give the block's place in the order of registration."""
    return block._nb_sequence


def _order(block: AnyBlock) -> tuple[int, int]:
    return (-block._nb_priority, block._nb_sequence)


def place_for(block: AnyBlock, blocks: list[AnyBlock]) -> int:
    """Give the index at which the block stands, or would stand."""
    own = _order(block)
    if not blocks or _order(blocks[-1]) < own:
        return len(blocks)
    return bisect_left(blocks, own, key=_order)


def find(block: AnyBlock, blocks: list[AnyBlock]) -> int:
    """Give the index of the block, or -1.

    Bisection may miss it, or be led astray, where somebody asks for another order, and in an older
    list by a block that was registered again since: then it is searched one by one.
    """
    place = find_sorted(block, blocks)
    if place >= 0:
        return place
    return next((index for index, one in enumerate(blocks) if one is block), -1)


def find_sorted(block: AnyBlock, blocks: list[AnyBlock]) -> int:
    """Give the index of the block in a list that is sorted, or -1."""
    if not blocks:
        return -1
    if blocks[-1] is block:
        return len(blocks) - 1
    place = place_for(block, blocks)
    return place if place < len(blocks) and blocks[place] is block else -1


def asks(block: AnyBlock) -> bool:
    """Say whether the block asks for a place before or after others."""
    return bool(block._nb_rest.before or block._nb_rest.after)


def is_involved(block: AnyBlock, asking: Sequence[AnyBlock]) -> bool:
    """Say whether the order of others may depend on the block: it asks, or is asked about."""
    if asks(block):
        return True
    if not asking:  # nearly always
        return False
    own = _names_of(block)
    return any(not own.isdisjoint((*one.before, *one.after)) for one in asking)


def arrange(blocks: Iterable[AnyBlock]) -> list[AnyBlock]:
    """Put blocks of one priority in order; those that wait for each other in a circle stay out."""
    row = sorted(blocks, key=sequence)
    forerunners, targets = _relations(row)
    followers: defaultdict[int, list[int]] = defaultdict(list)
    for later, earlier in forerunners.items():
        for one in earlier:
            followers[one].append(later)
    wanted = _wanted_places(len(row), targets)
    ready = [(wanted[index], index) for index in range(len(row)) if not forerunners.get(index)]
    heapify(ready)
    placed: list[AnyBlock] = []
    while ready:
        _, index = heappop(ready)
        placed.append(row[index])
        for follower in followers.get(index, ()):
            forerunners[follower].discard(index)
            if not forerunners[follower]:
                heappush(ready, (wanted[follower], follower))
    return placed


def _wanted_places(number: int, targets: dict[int, set[int]]) -> list[int]:
    """Give for each block whose place it takes: its own, or the first of those that it precedes."""
    wanted = list(range(number))
    changed = bool(targets)
    while changed:  # again, as long as a target itself asks for another place
        changed = False
        for index, before in targets.items():
            first = min(wanted[one] for one in before)
            if first < wanted[index]:
                wanted[index], changed = first, True
    return wanted


def conflict_of(block: AnyBlock, others: Sequence[AnyBlock]) -> Conflict | None:
    """Say why a newcomer cannot be put in order with the others, of whatever priority they are.

    The others can be put in order among themselves.
    """
    own = _names_of(block)
    for other in others:
        if other.priority < block.priority:
            first, second, asked = other, block, not own.isdisjoint(other.before)
            asked = asked or (bool(block.after) and not _names_of(other).isdisjoint(block.after))
        elif other.priority > block.priority:
            first, second, asked = block, other, not own.isdisjoint(other.after)
            asked = asked or (bool(block.before) and not _names_of(other).isdisjoint(block.before))
        else:
            continue
        if asked:
            return Conflict((first, second), _say_priorities(first, second))
    circle = _circle([*(one for one in others if one.priority == block.priority), block])
    return Conflict(circle, _say_circle(circle)) if circle else None


def _names_of(block: AnyBlock) -> frozenset[str]:
    return frozenset((block.name, block.qualified_name))


def _relations(row: Sequence[AnyBlock]) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
    """Give, by index, who has to stand before whom, and before whom each asks to stand."""
    asking = [index for index, block in enumerate(row) if asks(block)]
    wanted = {name for index in asking for name in (*row[index].before, *row[index].after)}
    bearers: defaultdict[str, set[int]] = defaultdict(set)
    for index, block in enumerate(row):
        for name in _names_of(block) & wanted:
            bearers[name].add(index)
    forerunners: defaultdict[int, set[int]] = defaultdict(set)
    targets: dict[int, set[int]] = {}
    for index in asking:
        forerunners[index].update(*(bearers[name] for name in row[index].after))
        before = {one for name in row[index].before for one in bearers[name]}
        for one in before:
            forerunners[one].add(index)
        if before:
            targets[index] = before
    return forerunners, targets


def _circle(blocks: Sequence[AnyBlock]) -> tuple[AnyBlock, ...]:
    """Give blocks of which each has to come before the next and the last before the first."""
    placed = {id(block) for block in arrange(blocks)}
    stuck = [block for block in blocks if id(block) not in placed]
    forerunners, _ = _relations(stuck)
    path: list[int] = []
    index = 0
    while stuck:
        if index in path:
            return tuple(stuck[one] for one in reversed(path[path.index(index) :]))
        path.append(index)
        index = min(forerunners[index])  # everybody that is stuck waits for somebody that is
    return ()


def _say_priorities(first: AnyBlock, second: AnyBlock) -> str:
    asks_before = not _names_of(second).isdisjoint(first.before)
    who, what, whom = (first, "before", second) if asks_before else (second, "after", first)
    return (
        f"block {who.name!r} of priority {who.priority} asks to come {what} block {whom.name!r} "
        f"of priority {whom.priority}; higher priority runs first, so change one of these"
    )


def _say_circle(circle: tuple[AnyBlock, ...]) -> str:
    names = " before ".join(repr(block.name) for block in (*circle, circle[0]))
    return f"they ask for {names}; leave out one of these"
