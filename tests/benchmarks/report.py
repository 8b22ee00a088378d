"""What the processes have found, merged; and as JSON.

A process places its objects once and for all, which moves its ratios to one side. So of each
candidate the process that treated it best counts, for Tocsin and for peers alike.
"""

from __future__ import annotations

import os
import platform
import subprocess
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .measure import BARE, Measurement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any


class Figure(NamedTuple):
    """What one candidate needed, by the best of the processes."""

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

    The two may come from different processes. Raises `ValueError` when one process has measured
    the same thing twice.
    """
    best: dict[tuple[str, str, int, str], Figure] = {}
    for figure in chain.from_iterable(map(_with_ratios, processes)):
        known = best.get(figure[:4], figure)
        ratios = [one for one in (known.ratio, figure.ratio) if one is not None]
        best[figure[:4]] = figure._replace(
            value=min(known.value, figure.value), ratio=min(ratios, default=None)
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
    figures: Iterable[Figure], *, processes: int, rounds: int, targets: Iterable[Any] = ()
) -> dict[str, object]:
    """Give all of it as what ``json.dump`` takes."""
    return {
        "python": platform.python_version(),
        "machine": describe_machine(),
        "commit": describe_commit(),
        "processes": processes,
        "rounds": rounds,
        "measurements": [one._asdict() for one in figures],
        "targets": [one._asdict() for one in targets],
    }
