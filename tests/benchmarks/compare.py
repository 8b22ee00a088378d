"""``make bench-compare BASE=<rev>``: has an operation become dearer since a revision?

The revision's ``src/tocsin`` and the working tree's are loaded side by side into one process and do
the same operations. Two measures are taken, and neither depends on the machine:

- *Bytecode instructions* per operation, which are exact. Nothing but a change of the source changes
  them, so the threshold is low: 3 % is about one instruction in a call of an empty chain. It is not
  zero, since a change for the better may cost an instruction somewhere.
- *Time*, as the ratio of the two in the same moment, because instructions differ in price: a copy
  of a list is one, whatever its length. Where the two lie in memory moves a ratio by up to 0.2, so
  the best of three processes counts, and the threshold is 10 %, which the same source measured
  against itself stays below. A loss by the clock alone wants a second run with ``--only``.

Machine instructions, as valgrind counts them, would lie between the two. They were left out: they
take a tool and a hundredfold of the time, depend on the build of Python, and whatever changes them
changes one of the others too.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from platform import python_version
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from . import versus
from .measure import Effort
from .operations import operations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .versus import Costs

ROOT = Path(__file__).parents[2]
PACKAGE = "src/tocsin"
WIDTH = 120  # columns, where no terminal says how many there are


class Comparison(NamedTuple):
    """What an operation costs two versions of the package."""

    name: str
    instructions: Costs
    seconds: Costs
    """Of the process that treated the new version best."""

    @property
    def is_new(self) -> bool:
        """Whether the old version lacks the operation."""
        return self.instructions.base is None

    def verdict(self, threshold: float, time_threshold: float) -> str:
        """Say what is worse, by thresholds in per cent; nothing when nothing is."""
        if self.is_new:
            return "new"
        found = [
            word
            for costs, limit, word in (
                (self.instructions, threshold, "grew"),
                (self.seconds, time_threshold, "slower"),
            )
            if (costs.ratio or 0) > 1 + limit / 100
        ]
        return ", ".join(found)


def compare(
    directories: tuple[Path, Path], *, processes: int = 3, only: str = "", effort: Effort
) -> list[Comparison]:
    """Compare the packages in two directories, the old one first."""
    click.echo("counting instructions", err=True)
    instructions = in_a_process(versus.count, directories, only)
    clocked: list[Mapping[str, Costs]] = []
    for number in range(processes):
        click.echo(f"taking times, process {number + 1} of {processes}", err=True)
        clocked.append(in_a_process(versus.clock, directories, only, effort))
    return [
        Comparison(name, costs, best_of([found[name] for found in clocked]))
        for name, costs in instructions.items()
    ]


def best_of(costs: Sequence[Costs]) -> Costs:
    """Give the process with the least ratio, or with the least time where there is no ratio."""
    return min(costs, key=lambda one: (one.ratio or 0, one.tree))


def in_a_process(function: Any, *arguments: object) -> dict[str, Costs]:
    """Run an async function in a fresh interpreter, with a memory layout of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found: dict[str, Costs] = pool.submit(anyio.run, function, *arguments).result()
    return found


class NothingToCompareError(click.ClickException):
    """There is no old version or no operation; another status than that of a loss of speed."""

    exit_code = 2


def take_out(revision: str, root: Path, directory: Path) -> Path:
    """Put the source of a revision of a checkout into a directory; give the package in it."""
    try:
        _git(root, "rev-parse", "--git-dir")
    except (OSError, subprocess.CalledProcessError):
        raise NothingToCompareError("this is no git checkout, so there is no old version") from None
    try:
        commit = _git(root, "rev-parse", "--verify", "--end-of-options", revision + "^{commit}")
    except subprocess.CalledProcessError:
        raise NothingToCompareError(
            f"{revision!r} is no revision of this checkout; say BASE=HEAD~1, a branch or a tag"
        ) from None
    archive = directory / "source.zip"
    try:
        _git(root, "archive", "--format=zip", f"--output={archive}", commit.strip(), PACKAGE)
    except subprocess.CalledProcessError:
        raise NothingToCompareError(f"revision {revision!r} has no {PACKAGE}") from None
    with zipfile.ZipFile(archive) as source:
        source.extractall(directory)
    return directory / PACKAGE


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout


def table_of(comparisons: Sequence[Comparison], verdicts: Sequence[str], title: str) -> Table:
    """Give a row for each operation."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("operation", overflow="fold")  # alone, so that the verdict stays legible
    for heading in ("instr.", "were", "ratio", "µs", "were", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for one, verdict in zip(comparisons, verdicts, strict=True):
        table.add_row(
            one.name,
            *_cells(one.instructions, 1, "g"),
            *_cells(one.seconds, 1e6, ".3g"),
            verdict,
            style="red" if verdict not in {"", "new"} else None,
        )
    return table


def _cells(costs: Costs, factor: float, form: str) -> tuple[str, str, str]:
    now = f"{costs.tree * factor:{form}}"
    if costs.base is None:
        return now, "", ""
    return now, f"{costs.base * factor:{form}}", f"{costs.ratio:.2f}"


@click.command()
@click.argument("revision")
@click.option("--threshold", default=3.0, show_default=True, help="per cent of instructions")
@click.option("--time-threshold", default=10.0, show_default=True, help="per cent of time")
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="that take times; the best counts",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=Effort().rounds,
    show_default=True,
    help="in each of them",
)
@click.option("--only", default="", help="operations whose name contains this")
def main(
    revision: str, threshold: float, time_threshold: float, processes: int, rounds: int, only: str
) -> None:
    """Compare the working tree's speed with a REVISION's; status 1 when an operation lost."""
    if not any(only in one.name for one in operations()):
        raise NothingToCompareError(f"--only {only!r}: no operation's name contains that")
    with TemporaryDirectory() as directory:
        base = take_out(revision, ROOT, Path(directory))
        effort = Effort(rounds=rounds)
        found = compare((base, ROOT / PACKAGE), processes=processes, only=only, effort=effort)
    verdicts = [one.verdict(threshold, time_threshold) for one in found]
    title = f"the working tree beside {revision}, Python {python_version()}"
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table_of(found, verdicts, title))
    if worse := sum(verdict not in {"", "new"} for verdict in verdicts):
        raise click.ClickException(f"{worse} of {len(found)} operations cost more than before")


if __name__ == "__main__":
    main()
