"""Order within a priority: what ``before=`` and ``after=`` ask for (D1).

Of all orders that do what is asked the one is taken that stays closest to the order of
registration: at each place stands the block registered first among those whose forerunners stand
already. So it depends on who is there, and not on how they came; nobody who is not asked about, and
asks nothing, changes places with another one of that kind.

`graphlib` gives such blocks in no order, and a heap over all of them would cost those too who ask
for nothing; hence the walk along the row below, which leaves it only for those who had to wait.

Pure functions over blocks; knows no chain and no table.
"""

from __future__ import annotations

from collections import defaultdict
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .block import AnyBlock

__all__ = ["Conflict", "arrange", "asks", "conflict_of", "is_involved", "sequence"]


class Conflict(NamedTuple):
    """Why a block cannot be put in order."""

    blocks: tuple[AnyBlock, ...]
    """Those that ask for what cannot be, the newcomer among them."""
    reason: str


def sequence(block: AnyBlock) -> int:
    """Give the block's place in the order of registration."""
    return block._nb_sequence


def asks(block: AnyBlock) -> bool:
    """Say whether the block asks for a place before or after others."""
    return bool(block._nb_rest.before or block._nb_rest.after)


def is_involved(block: AnyBlock, asking: Sequence[AnyBlock]) -> bool:
    """Say whether the order of others may depend on the block: it asks, or is asked about."""
    if not asking:  # as nearly always
        return asks(block)
    return asks(block) or any(
        _names(one.before, block) or _names(one.after, block) for one in asking
    )


def arrange(blocks: Iterable[AnyBlock]) -> list[AnyBlock]:
    """Put blocks of one priority in order; those that wait for each other in a circle stay out."""
    row = sorted(blocks, key=sequence)
    waits_for = _forerunners(row)
    followers: defaultdict[int, list[int]] = defaultdict(list)
    for later, earlier in waits_for.items():
        for one in earlier:
            followers[one].append(later)
    placed: list[AnyBlock] = []
    for index in range(len(row)):
        ready = [] if waits_for.get(index) else [index]
        while ready:
            placed.append(row[one := heappop(ready)])
            for follower in followers.get(one, ()):
                waits_for[follower].discard(one)
                if not waits_for[follower] and follower < index:
                    heappush(ready, follower)  # it had its turn, and had to wait
    return placed


def conflict_of(block: AnyBlock, others: Sequence[AnyBlock]) -> Conflict | None:
    """Say why a newcomer cannot be put in order with the others, of whatever priority they are.

    The others can be put in order among themselves.
    """
    for other in others:
        for first, second in ((block, other), (other, block)):
            if first.priority < second.priority and _comes_first(first, second):
                return Conflict((first, second), _say_priorities(first, second))
    band = [one for one in others if one.priority == block.priority]
    circle = _circle([*band, block])
    return Conflict(circle, _say_circle(circle)) if circle else None


def _names(names: tuple[str, ...], block: AnyBlock) -> bool:
    return bool(names) and (block.name in names or block.qualified_name in names)


def _comes_first(first: AnyBlock, second: AnyBlock) -> bool:
    """Say whether one of the two asks for this order."""
    return _names(first.before, second) or _names(second.after, first)


def _forerunners(row: Sequence[AnyBlock]) -> dict[int, set[int]]:
    """Give for each block that has to wait, by index, those that must stand before it."""
    asking = [index for index, block in enumerate(row) if asks(block)]
    found: dict[int, set[int]] = {}
    for index in asking:
        block = row[index]
        for other, candidate in enumerate(row):
            if _names(block.after, candidate):
                found.setdefault(index, set()).add(other)
            if _names(block.before, candidate):
                found.setdefault(other, set()).add(index)
    return found


def _circle(blocks: Sequence[AnyBlock]) -> tuple[AnyBlock, ...]:
    """Give blocks of which each has to come before the next and the last before the first."""
    placed = {id(block) for block in arrange(blocks)}
    stuck = [block for block in blocks if id(block) not in placed]
    path: list[AnyBlock] = []
    block = stuck[0] if stuck else None
    while block is not None:
        if any(block is one for one in path):
            start = next(index for index, one in enumerate(path) if one is block)
            return tuple(reversed(path[start:]))
        path.append(block)
        block = next(one for one in stuck if _comes_first(one, path[-1]))
    return ()


def _say_priorities(first: AnyBlock, second: AnyBlock) -> str:
    who, what = (first, "before") if _names(first.before, second) else (second, "after")
    whom = second if who is first else first
    return (
        f"block {who.name!r} of priority {who.priority} asks to come {what} block {whom.name!r} "
        f"of priority {whom.priority}; higher priority runs first, so change one of these"
    )


def _say_circle(circle: tuple[AnyBlock, ...]) -> str:
    names = " before ".join(repr(block.name) for block in (*circle, circle[0]))
    return f"they ask for {names}; leave out one of these"
