"""The benchmark's results as they are published: read back from the JSON that it wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from .report import Figure
from .targets import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Results(NamedTuple):
    """What was found, and where."""

    python: str
    """Its version, in full."""
    origin: str
    """In words: machine, Python, commit, how it was measured."""
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
        [Figure(**one) for one in found["measurements"]],
        [Verdict(**one) for one in found["targets"]],
    )
