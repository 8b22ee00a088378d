"""The benchmark's results as they are published: read back from the JSON that it wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from .report import Figure
from .targets import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROCESSES = 3
"""How many it takes for figures to be quoted."""


class Results(NamedTuple):
    """What was found, and where."""

    python: str
    """Its version, in full."""
    origin: str
    """In words: machine, Python, commit, how it was measured."""
    versions: str
    """Of the peers and the backends, in words."""
    doubt: str
    """In words, why these figures are not to be published; empty where nothing speaks against."""
    figures: list[Figure]
    verdicts: list[Verdict]

    @property
    def minor(self) -> str:
        """The version of Python as people say it: ``3.13``."""
        return ".".join(self.python.split(".")[:2])

    def of(self, section: str, variant: str) -> list[Figure]:
        """Give the figures of one table or plot."""
        return [one for one in self.figures if one[:2] == (section, variant)]


def read(path: Path) -> Results:
    """Read the file that ``--json`` wrote."""
    return from_json(json.loads(path.read_text("utf-8")))


def _doubt(found: Mapping[str, Any]) -> str:
    if found["smoke"]:
        return "they are a smoke run's"
    if found["only"]:
        return f"they are of {', '.join(found['only'])} only"
    if found["processes"] < PROCESSES:
        return f"they are of fewer than {PROCESSES} processes"
    return ""


def from_json(found: Mapping[str, Any]) -> Results:
    """Take what ``to_json`` gave."""
    machine = found["machine"]
    origin = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; "
        f"Python {found['python']}; commit {found['commit']}; "
        f"best of {found['processes']} processes, {found['rounds']} rounds"
    )
    return Results(
        found["python"],
        origin,
        ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
        _doubt(found),
        [Figure(**one) for one in found["measurements"]],
        [Verdict(**one) for one in found["targets"]],
    )
