"""One of the benchmark's processes: measures everything once, in an order of its own.

Started by the command, as a fresh interpreter; its one argument is `Settings` as JSON. What it has
found goes to stdout as JSON, how far it is to stderr.
"""

from __future__ import annotations

import json
import random
import sys
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import anyio
import click

from .measure import SMOKE, Effort, Measurement
from .sections import SECTIONS, names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .sections import Section


class Settings(NamedTuple):
    """What the command tells a process."""

    number: int
    """Counts from 1; decides the order in which things are measured."""
    processes: int
    only: tuple[str, ...]
    """Names of sections; none of them means all."""
    rounds: int
    smoke: bool

    def effort(self) -> Effort:
        return SMOKE if self.smoke else Effort(self.rounds)


def run(settings: Settings, sections: Sequence[Section] = SECTIONS) -> list[Measurement]:
    """Measure the wanted sections on each of their backends."""
    random.seed(settings.number)
    jobs = [
        (section, backend)
        for section in sections
        if not settings.only or {*names(section)} & {*settings.only}
        for backend in section.BACKENDS
    ]
    random.shuffle(jobs)
    found: list[Measurement] = []
    for done, (section, backend) in enumerate(jobs, start=1):
        started = monotonic()
        _tell(
            f"process {settings.number} of {settings.processes}, {done:2} of {len(jobs)}: "
            f"{', '.join(names(section))} on {backend}",
            end=" ",
        )
        found += anyio.run(_collect, section, settings.effort(), backend=backend)
        _tell(f"({monotonic() - started:.0f} s)")
    return [one for one in found if not settings.only or one.section in settings.only]


async def _collect(section: Section, effort: Effort) -> list[Measurement]:
    return [one async for one in section.measurements(effort)]


def _tell(text: str, end: str = "\n") -> None:
    click.echo(text + end, err=True, nl=False)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    json.dump(run(Settings(**given | {"only": tuple(given["only"])})), sys.stdout)
