"""What is seen of a crowd, of tasks or of threads, that calls one chain while somebody writes it.

All draw on one budget of calls, so that whoever is held up leaves its share to the others. Three
figures come of it, each the better the smaller it is: the time per call; the longest time that one
change took, of a writer that registers and unregisters without pause; and how unequal the callers
were, as the mean number of calls of a caller by the fewest, each plus one, so that a caller who got
none is a figure as well. The times per call count by their lower quartile, as everywhere; of the
other two the worst of all rounds counts, since starving now and then is starving, and the worst of
all processes.

A longest change divided by bare's own longest would say nothing: one hiccup of the bare loop would
excuse them all. Where bare's changes all take alike, a section divides by a usual one of them.
"""

from __future__ import annotations

from functools import partial
from itertools import chain
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from tocsin import NotifierBlock

from .measure import BARE, Measurement, lower_quartile
from .subjects import make_bare, make_bare_async, make_chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

LONGEST, INEQUALITY = "longest change", "inequality"


class Turn(NamedTuple):
    """What one candidate did in one round."""

    seconds: float
    """How long all calls took together."""
    counts: Sequence[int]
    """How many of them each caller made."""
    changes: Sequence[float]
    """How long each change of the writer took, in seconds; none without a writer."""

    @property
    def per_call(self) -> float:
        """The time per call, in seconds."""
        return self.seconds / sum(self.counts)

    @property
    def inequality(self) -> float:
        """The mean number of calls of a caller by the fewest, each plus one."""
        return (fmean(self.counts) + 1) / (min(self.counts) + 1)


def names_of(section: str) -> tuple[str, str, str]:
    """Give the names of a crowd's three sections."""
    return section, f"{section}: {LONGEST}", f"{section}: {INEQUALITY}"


def is_of_the_worst(section: str) -> bool:
    """Say whether a section's figures count by the worst that was seen, and not by the best."""
    return section.endswith((f": {LONGEST}", f": {INEQUALITY}"))


def figures(
    section: str,
    variant: str,
    size: int,
    taken: dict[str, list[Turn]],
    *,
    of_bare: Callable[[Iterable[float]], float] = max,
) -> Iterator[Measurement]:
    """Give the figures of each candidate's turns.

    Of bare's changes, that counts beside which the longest of the others are to stand.
    """
    times, longest, inequality = names_of(section)
    for name, turns in taken.items():
        seconds = lower_quartile([one.per_call for one in turns])
        yield Measurement(times, variant, size, name, seconds, "s")
        worst = max(one.inequality for one in turns)
        yield Measurement(inequality, variant, size, name, worst, "x")
        if all(one.changes for one in turns):
            choose = of_bare if name == BARE else max
            worst = choose(chain.from_iterable(one.changes for one in turns))
            yield Measurement(longest, variant, size, name, worst, "s")


class Subject(NamedTuple):
    """Something to call, and to change by ``join`` and ``leave`` in turn; all async or all sync."""

    call: Callable[[Any, Any], Any]
    join: Callable[[], Any]
    leave: Callable[[], Any]


def bare_subject(callbacks: Sequence[Any], newcomer: Any, *, is_async: bool) -> Subject:
    """Give the bare loop, with a tuple that is copied at each change."""
    bare = (make_bare_async if is_async else make_bare)(callbacks)
    space = bare.__globals__  # where the loop finds its tuple

    def join() -> None:
        space["fns"] = (*space["fns"], newcomer)

    def leave() -> None:
        space["fns"] = space["fns"][:-1]

    async def join_async() -> None:
        join()

    async def leave_async() -> None:
        leave()

    return Subject(bare, join_async, leave_async) if is_async else Subject(bare, join, leave)


def chain_subject(flavour: str, callbacks: Sequence[Any], newcomer: Any) -> Subject:
    """Give a chain, sync or async by its flavour."""
    made = make_chain(flavour, callbacks)
    block = NotifierBlock(newcomer)
    return Subject(made.call, partial(made.register, block), partial(made.unregister, block))
