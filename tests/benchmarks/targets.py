"""The targets, as data, and whether they are met.

A target is judged by the worst of the figures that it is about: of all the flavours that it names,
on both backends, and where it does not say which variant, of all variants. A target one of whose
flavours was not measured is not judged at all.

Aims differ between Pythons in places; 3.12 and newer have those of 3.13.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from .measure import BARE
from .subjects import FLAVOURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeAlias

    from .report import Figure

    Judge: TypeAlias = Callable[[Figure, Sequence[Figure]], float]

HEADLINE = ("None", "trio, None")
"""The variants that the table of targets is about."""
FUNCTION = ("function",)
"""The variant of registration in which the block is made as well."""


class Target(NamedTuple):
    """Something to be reached: a figure of at most ``aim``."""

    name: str
    section: str
    size: int
    aim: float
    judge: Judge
    """Gives what is compared with the aim, from one figure and all those beside it."""
    candidates: tuple[str, ...]
    """Whose figures count."""
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


def to_bare(figure: Figure, beside: Sequence[Figure]) -> float:
    """Give the ratio to the bare loop."""
    if figure.ratio is None:
        raise ValueError(f"there is no bare loop beside {figure}")
    return figure.ratio


def to_best_peer(figure: Figure, beside: Sequence[Figure]) -> float:
    """Give the ratio to the quickest of the peers."""
    return cost(figure) / min(cost(one) for one in beside if is_peer(one))


def to_peer(name: str) -> Judge:
    """Give what judges by the ratio to one peer."""

    def judge(figure: Figure, beside: Sequence[Figure]) -> float:
        return cost(figure) / next(cost(one) for one in beside if one.candidate == name)

    return judge


def absolute(figure: Figure, beside: Sequence[Figure]) -> float:
    """Give the value itself."""
    return figure.value


def cost(figure: Figure) -> float:
    """Give what two candidates of an experiment are compared by."""
    return figure.value if figure.ratio is None else figure.ratio


def is_peer(figure: Figure) -> bool:
    """Say whether it is neither the bare loop's nor Tocsin's."""
    return figure.candidate != BARE and figure.candidate not in FLAVOURS


def by_experiment(figures: Iterable[Figure]) -> dict[tuple[str, int, str], list[Figure]]:
    """Sort figures by their experiment: section, size, variant."""
    found = defaultdict(list)
    for one in figures:
        found[one.section, one.size, one.variant].append(one)
    return dict(found)


def judge(figures: Sequence[Figure], targets: Iterable[Target]) -> list[Verdict]:
    """Judge each target by the merged figures."""
    experiments = by_experiment(figures)
    return [_judge(one, experiments) for one in targets]


def _judge(target: Target, experiments: Mapping[tuple[str, int, str], Sequence[Figure]]) -> Verdict:
    seen = [
        (target.judge(figure, all_), f"{figure.candidate} ({figure.variant})", figure.candidate)
        for (section, size, variant), all_ in experiments.items()
        if (section, size) == (target.section, target.size)
        if target.variants is None or variant in target.variants
        for figure in all_
        if figure.candidate in target.candidates
    ]
    if {name for *_, name in seen} != {*target.candidates}:
        return Verdict(*target[:4], None, None, None)
    worst, by, _ = max(seen)
    return Verdict(*target[:4], worst, worst <= target.aim, by)


def targets(python: tuple[int, int] = sys.version_info[:2]) -> list[Target]:
    """Give the targets for a Python."""
    old = python < (3, 12)
    return [
        *_to_bare(
            "Raw, Atomic call",
            "sync dispatch",
            ("Raw", "Atomic"),
            {0: 1.30, 1: 1.25 if old else 1.22, 3: 1.14, 10: 1.10, 100: 1.02, 1000: 1.02},
        ),
        *_to_bare(
            "Blocking, SRCU call, async callbacks",
            "async dispatch",
            ("Blocking", "SRCU"),
            {0: 1.42, 1: 1.42, 3: 1.22, 10: 1.10, 100: 1.05, 1000: 1.05},
        ),
        *_to_bare(
            "Blocking, SRCU call, sync callbacks",
            "async dispatch, sync callbacks",
            ("Blocking", "SRCU"),
            {0: 1.42, 1: 1.42, 3: 1.28, 10: 1.17, 100: 1.06, 1000: 1.06},
        ),
        *_ahead_of_peers("sync dispatch", ("Raw", "Atomic"), (1, 3, 10, 100, 1000)),
        *_ahead_of_peers("async dispatch", ("Blocking", "SRCU"), (0, 1, 3, 10, 100, 1000)),
        *_ahead_of_peers(
            "async dispatch, sync callbacks", ("Blocking", "SRCU"), (0, 1, 3, 10, 100, 1000)
        ),
        *_registration(),
    ]


def _to_bare(
    name: str, section: str, candidates: tuple[str, ...], aims: Mapping[int, float]
) -> list[Target]:
    return [
        Target(f"{name}, {size} subscribers", section, size, aim, to_bare, candidates, HEADLINE)
        for size, aim in aims.items()
    ]


def _ahead_of_peers(
    section: str, candidates: tuple[str, ...], sizes: tuple[int, ...]
) -> list[Target]:
    name = f"{section} beside the best peer"
    return [
        Target(f"{name}, {size} subscribers", section, size, 1.0, to_best_peer, candidates)
        for size in sizes
    ]


def _registration() -> list[Target]:
    pair, all_ = "register + unregister", tuple(FLAVOURS)
    return [
        Target(
            f"{pair}, 1000 present, beside pyee", pair, 1000, 7, to_peer("pyee"), all_, FUNCTION
        ),
        Target(
            f"{pair}, 1000 present, beside psygnal",
            pair,
            1000,
            0.5,
            to_peer("psygnal"),
            all_,
            FUNCTION,
        ),
        Target(
            "10,000 blocks one by one", "bulk registration", 10_000, 0.5, absolute, all_, FUNCTION
        ),
        Target(
            "bytes per subscriber", "bytes per subscriber", 10_000, 160, absolute, all_, FUNCTION
        ),
    ]
