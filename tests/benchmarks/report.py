"""What the processes have found, merged; as tables and as JSON.

A process places its objects once and for all, which moves its ratios to one side. So of each
candidate the process that treated it best counts, for Tocsin and for peers alike. Only of what
looks for starvation (`crowd`) the worst counts.
"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from .crowd import is_of_the_worst
from .measure import BARE, Measurement
from .subjects import FLAVOURS, VARIANTS
from .targets import by_experiment, cost, is_peer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .process import Settings
    from .targets import Verdict


class Figure(NamedTuple):
    """What one candidate needed, by the process that counts."""

    section: str
    variant: str
    size: int
    candidate: str
    value: float
    unit: str
    ratio: float | None
    """To the bare loop of the same process; ``None`` where there is no such thing."""


def merge(processes: Iterable[Sequence[Measurement]]) -> list[Figure]:
    """Give the best of each candidate: its least value, and its least ratio to bare.

    In the sections that count by the worst, give the greatest of both. The two may come from
    different processes. Raises `ValueError` when one process has measured the same thing twice.
    """
    best: dict[tuple[str, str, int, str], Figure] = {}
    for figure in chain.from_iterable(map(_with_ratios, processes)):
        known = best.get(figure[:4], figure)
        ratios = [one for one in (known.ratio, figure.ratio) if one is not None]
        choose = max if is_of_the_worst(figure.section) else min
        best[figure[:4]] = figure._replace(
            value=choose(known.value, figure.value), ratio=choose(ratios, default=None)
        )
    return list(best.values())


def _with_ratios(measurements: Sequence[Measurement]) -> list[Figure]:
    keys = [one[:4] for one in measurements]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"measured twice in one process: {twice}")
    bare = {one[:3]: one.value for one in measurements if one.candidate == BARE}
    return [
        Figure(*one, ratio=one.value / beside if (beside := bare.get(one[:3])) else None)
        for one in measurements
    ]


_PEERS = ("aiosignal", "blinker", "Django", "eventkit", "pluggy", "psygnal", "pyee")
BESIDE = ("anyio", "trio", *_PEERS)
"""Whose versions the figures depend on, besides Tocsin's and Python's."""


def describe_machine() -> dict[str, object]:
    """Say on what this runs, and nothing that names the one machine."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def describe_commit() -> str:
    """Give the commit, with ``+`` when the tree has changes; ``unknown`` outside of a checkout."""
    try:
        revision = _git("rev-parse", "--short=12", "HEAD").strip()
        return revision + ("+" if _git("status", "--porcelain").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    return subprocess.run(
        ["git", *arguments], cwd=here, check=True, capture_output=True, text=True
    ).stdout


def to_json(
    figures: Iterable[Figure], *, verdicts: Iterable[Verdict], commit: str, settings: Settings
) -> dict[str, object]:
    """Give all of it as what ``json.dump`` takes; the commit is that of before measuring."""
    return {
        "python": platform.python_version(),
        "machine": describe_machine(),
        "versions": {name: version(name) for name in BESIDE},
        "commit": commit,
        "processes": settings.processes,
        "rounds": settings.effort().rounds,
        "only": settings.only,
        "smoke": settings.smoke,
        "measurements": [one._asdict() for one in figures],
        "targets": [one._asdict() for one in verdicts],
    }


def in_order(figures: Iterable[Figure], sections: Sequence[str]) -> list[Figure]:
    """Sort as they are to be reported, in whatever order they were measured."""
    forms = [one.name for one in VARIANTS]

    def key(figure: Figure) -> tuple[object, ...]:
        form = figure.variant.removeprefix("trio, ")
        return (
            sections.index(figure.section),
            form != figure.variant,
            forms.index(form) if form in forms else len(forms),
            form,
            figure.size,
        )

    return sorted(figures, key=key)


def tables(figures: Sequence[Figure]) -> Iterator[tuple[str, Table]]:
    """Give a title and a table for each section and variant; see `_rank` for the rows."""
    experiments = by_experiment(figures)
    for section, variant in dict.fromkeys(one[:2] for one in figures):
        found = {
            size: experiments[section, size, variant]
            for size in sorted({one.size for one in figures if one[:2] == (section, variant)})
        }
        yield f"{section}: {variant}" if variant else section, _table(found)


def _table(found: Mapping[int, Sequence[Figure]]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column()
    for size in found:
        table.add_column(str(size), justify="right")
    cells = {
        (one.candidate, size): _cell(one, all_) for size, all_ in found.items() for one in all_
    }
    largest = {one.candidate: one for all_ in found.values() for one in all_}
    for name in sorted(largest, key=lambda name: _rank(largest[name])):
        table.add_row(name, *(cells.get((name, size), "-") for size in found))
    return table


def _rank(figure: Figure) -> tuple[int, float]:
    """Put the bare loop first, then Tocsin's flavours, then the peers, the quickest first."""
    name = figure.candidate
    if name in (ours := [BARE, *FLAVOURS]):
        return ours.index(name), 0
    return len(ours), cost(figure)


def _cell(figure: Figure, all_: Sequence[Figure]) -> str:
    """Give a time's ratio to bare, else the value; for Tocsin with the ratio to the best peer."""
    if figure.ratio is None or figure.candidate == BARE or figure.unit != "s":
        text = quantity(figure.value, figure.unit)
    else:
        text = f"{figure.ratio:.2f}"
    peers = [cost(one) for one in all_ if is_peer(one)]
    if figure.candidate in FLAVOURS and peers:
        text += f" ({cost(figure) / min(peers):.2f})"
    return text


def quantity(value: float, unit: str) -> str:
    """Write a value for people: ``120 ns``, ``1.3 ms``, ``152 bytes``."""
    if unit == "s":
        for size, name in ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms")):
            if value < 999.5 * size:
                return f"{value / size:.3g} {name}"
    return f"{value:.4g} {unit}"


def verdicts_table(verdicts: Iterable[Verdict]) -> Table:
    """Give the table of targets, with what was seen and whether it is met."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column(overflow="fold")  # so that on a narrow terminal the judgement is legible
    table.add_column("at most", justify="right", no_wrap=True)
    table.add_column("seen", justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column("the worst was", overflow="fold")
    for one in verdicts:
        seen = "-" if one.seen is None else f"{one.seen:.4g}"
        table.add_row(one.target, f"{one.aim:.4g}", seen, judgement(one), one.by or "")
    return table


def judgement(verdict: Verdict) -> str:
    """Say in words whether a target is met."""
    if verdict.met is None:
        return "not measured"
    return "met" if verdict.met else "missed"
