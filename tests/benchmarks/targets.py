"""The targets, as data, and whether they are met.

A target is judged by the worst of the figures that it is about: of all the flavours that it names,
on both backends, and where it does not say which variant, of all variants. A target one of whose
flavours was not measured is not judged at all.

What a pair of register and unregister may cost (`PAIR`) is judged without a call between the two,
which is how the aim was set; since the next call may have to do what a change puts off, the tables
have the pair with a call between beside it.

Aims differ between Pythons in places; 3.12 and newer have those of 3.13.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from . import concurrency, dispatch, threads
from .importing import MODULES, OF_HEAVY, TIME, TOCSIN
from .measure import BARE
from .observers import TEST
from .registration import BULK, BYTES, FUNCTION, PAIR
from .routes import IN_USE, SPARED
from .subjects import FLAVOURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from .report import Figure

    Experiments: TypeAlias = Mapping[tuple[str, int, str], Sequence[Figure]]
    Judge: TypeAlias = Callable[[Figure, Experiments], float]

HEADLINE = ("None", "trio, None")
"""The variants that the table of targets is about; sync dispatch knows no backend."""
NOISE = 1.05
"""What may lie between two that cost the same."""


class Target(NamedTuple):
    """Something to be reached: a figure of at most ``aim``."""

    name: str
    section: str
    size: int
    aim: float
    judge: Judge
    """Gives what is compared with the aim, from one figure and all experiments."""
    candidates: tuple[str, ...]
    """Whose figures count; each of them has to be there."""
    variants: tuple[str, ...] | None = None
    """Which count; ``None`` means all there are."""


class Verdict(NamedTuple):
    """A target, judged."""

    target: str
    section: str
    size: int
    aim: float
    seen: float | None
    """The worst that was seen; ``None`` when it was not measured."""
    met: bool | None
    by: str | None
    """Whose the worst is: candidate and variant."""


def to_bare(figure: Figure, experiments: Experiments) -> float:
    """Give the ratio to the bare loop."""
    if figure.ratio is None:
        raise ValueError(f"there is no bare loop beside {figure}")
    return figure.ratio


def to_best_peer(figure: Figure, experiments: Experiments) -> float:
    """Give the ratio to the quickest of the peers."""
    return cost(figure) / min(cost(one) for one in experiments[place(figure)] if is_peer(one))


def to_peer(name: str) -> Judge:
    """Give what judges by the ratio to one peer."""

    def judge(figure: Figure, experiments: Experiments) -> float:
        beside = experiments[place(figure)]
        return cost(figure) / next(cost(one) for one in beside if one.candidate == name)

    return judge


def to_itself(form: str) -> Judge:
    """Give what judges by the ratio to the same flavour in another form: ``SRCU, alone``."""

    def judge(figure: Figure, experiments: Experiments) -> float:
        return to_peer(f"{figure.candidate}, {form}")(figure, experiments)

    return judge


def absolute(figure: Figure, experiments: Experiments) -> float:
    """Give the value itself."""
    return figure.value


def cost(figure: Figure) -> float:
    """Give what two candidates of an experiment are compared by."""
    return figure.value if figure.ratio is None else figure.ratio


def is_peer(figure: Figure) -> bool:
    """Say whether it is neither the bare loop's nor Tocsin's (``SRCU``, ``SRCU, alone``)."""
    return figure.candidate.split(",")[0] not in {BARE, "tocsin", *FLAVOURS}


def place(figure: Figure) -> tuple[str, int, str]:
    """Give the experiment of a figure: section, size, variant."""
    return figure.section, figure.size, figure.variant


def by_experiment(figures: Iterable[Figure]) -> Experiments:
    """Sort figures by their experiment."""
    found: dict[tuple[str, int, str], list[Figure]] = {}
    for one in figures:
        found.setdefault(place(one), []).append(one)
    return found


def judge(figures: Sequence[Figure], targets: Iterable[Target]) -> list[Verdict]:
    """Judge each target by the merged figures."""
    experiments = by_experiment(figures)
    return [_judge(one, figures, experiments) for one in targets]


def _judge(target: Target, figures: Sequence[Figure], experiments: Experiments) -> Verdict:
    counting = [
        one
        for one in figures
        if (one.section, one.size) == (target.section, target.size)
        if target.variants is None or one.variant in target.variants
        if one.candidate in target.candidates
    ]
    if {one.candidate for one in counting} != {*target.candidates}:
        return Verdict(*target[:4], None, None, None)
    seen, worst = max((target.judge(one, experiments), one) for one in counting)
    by = f"{worst.candidate} ({worst.variant})" if worst.variant else worst.candidate
    return Verdict(*target[:4], seen, seen <= target.aim, by)


class Rule(NamedTuple):
    """The same target at several sizes."""

    name: str
    """With a place for the size."""
    section: str
    aims: Mapping[int, float]
    """By size."""
    judge: Judge
    candidates: tuple[str, ...]
    variants: tuple[str, ...] | None = None


def targets(python: tuple[int, int] = sys.version_info[:2]) -> list[Target]:
    """Give the targets for a Python."""
    return [
        Target(rule.name.format(size=size), rule.section, size, aim, *rule[3:])
        for rule in (*_dispatch(python), *_peers(), *_routes(), *_crowds(), *_others())
        for size, aim in rule.aims.items()
    ]


SYNC, ASYNC, ALL = ("Raw", "Atomic"), ("Blocking", "SRCU"), tuple(FLAVOURS)
SYNC_DISPATCH, ASYNC_DISPATCH, MIXED_DISPATCH = (
    one.SECTION for one in (dispatch.SYNC, dispatch.ASYNC, dispatch.MIXED)
)
SOME = (1, 3, 10, 100, 1000)
"""The sizes at which there is anybody to be called."""


def _dispatch(python: tuple[int, int]) -> Iterator[Rule]:
    one = 1.25 if python < (3, 12) else 1.22
    aims = {0: 1.30, 1: one, 3: 1.14, 10: 1.10, 100: 1.02, 1000: 1.02}
    name = "Raw, Atomic call, {size} subscribers"
    yield Rule(name, SYNC_DISPATCH, aims, to_bare, SYNC, HEADLINE[:1])
    aims = {0: 1.42, 1: 1.42, 3: 1.22, 10: 1.10, 100: 1.05, 1000: 1.05}
    name = "Blocking, SRCU call, {size} async subscribers"
    yield Rule(name, ASYNC_DISPATCH, aims, to_bare, ASYNC, HEADLINE)
    aims = {0: 1.42, 1: 1.42, 3: 1.28, 10: 1.17, 100: 1.06, 1000: 1.06}
    name = "Blocking, SRCU call, {size} sync subscribers"
    yield Rule(name, MIXED_DISPATCH, aims, to_bare, ASYNC, HEADLINE)


def _peers() -> Iterator[Rule]:
    for section, flavours, sizes in (
        (SYNC_DISPATCH, SYNC, SOME),
        (ASYNC_DISPATCH, ASYNC, (0, *SOME)),
        (MIXED_DISPATCH, ASYNC, (0, *SOME)),
    ):
        name = f"{section} beside the best peer, {{size}} subscribers"
        yield Rule(name, section, dict.fromkeys(sizes, 1.0), to_best_peer, flavours)


def _routes() -> Iterator[Rule]:
    aims = {1: 1.45, 3: 1.30, 10: 1.15, 100: 1.10, 1000: 1.10}
    yield Rule("a chain with events= in use, {size} subscribers", IN_USE, aims, to_bare, ALL)
    name = "three interested of {size} beside these three alone"
    yield Rule(name, SPARED, {1000: NOISE}, to_itself("alone"), ALL)
    name = "unobserved beside no observer test, {size} subscribers"
    yield Rule(name, TEST, dict.fromkeys(SOME, 1.03), to_bare, ("Atomic", "SRCU"))


def _crowds() -> Iterator[Rule]:
    """A throughput of at least 0.95 of bare is a time per call of at most 1 / 0.95 of it."""
    crowds, longest, inequality = concurrency.SECTION
    alone, written = (
        (variant, f"trio, {variant}") for variant in (concurrency.ALONE, concurrency.WRITTEN)
    )
    srcu = ("SRCU",)

    def at_most(aim: float) -> dict[int, float]:
        return {100: aim, 1000: aim}

    name = f"{{size}} {crowds}"
    yield Rule(f"{name}, no writer", crowds, at_most(1 / 0.95), to_bare, ASYNC, alone)
    name += ", a writer running"
    yield Rule(name, crowds, at_most(1 / 0.85), to_bare, srcu, written)
    # Nobody starves: no caller has less than half of the mean, and no change takes ten rounds of
    # the event loop.
    yield Rule(f"{name}: inequality", inequality, at_most(2), absolute, srcu, written)
    yield Rule(f"{name}: longest change", longest, at_most(10), to_bare, srcu, written)
    name = "{size} threads, a writer churning"
    aims = dict.fromkeys((1, 4, 16), 1 / 0.95)
    yield Rule(name, threads.NAME, aims, to_bare, ("Atomic",), (threads.WRITTEN,))


def _others() -> Iterator[Rule]:
    name, functions = f"{PAIR}, {{size}} present", (FUNCTION,)
    yield Rule(f"{name}, beside pyee", PAIR, {1000: 7}, to_peer("pyee"), ALL, functions)
    yield Rule(f"{name}, beside psygnal", PAIR, {1000: 0.5}, to_peer("psygnal"), ALL, functions)
    name = "seconds to register {size} one by one"
    yield Rule(name, BULK, {10_000: 0.5}, absolute, ALL, functions)
    yield Rule("bytes per subscriber of {size}", BYTES, {10_000: 160}, absolute, ALL, functions)
    bare, *named = TOCSIN
    beside = to_peer("anyio")
    yield Rule("import tocsin beside import anyio", TIME, {0: 1.0}, beside, (bare,))
    name = "import of one chain, of all chains beside import anyio"
    yield Rule(name, TIME, {0: 1.0}, beside, tuple(named))
    yield Rule(f"modules {OF_HEAVY}", MODULES, {0: 0}, absolute, tuple(TOCSIN), (OF_HEAVY,))
