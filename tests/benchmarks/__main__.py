"""The command line of the benchmark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
from rich.console import Console

from .measure import SMOKE, Effort, Measurement
from .process import Settings
from .report import in_order, merge, tables, to_json, verdicts_table
from .results import from_json
from .sections import SECTIONS, names
from .targets import judge, targets

ROOT = Path(__file__).parents[2]
NAMES = [name for section in SECTIONS for name in names(section)]
WIDTH = 150  # of the tables where the output is no terminal


@click.command()
@click.option("--processes", type=click.IntRange(1), default=3, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=Effort().rounds, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="May be given repeatedly.")
@click.option("--smoke", is_flag=True, help="See whether it runs; the figures mean nothing.")
@click.option("--json", "path", type=click.Path(dir_okay=False, writable=True, path_type=Path))
@click.option("--plots", type=click.Path(file_okay=False, path_type=Path), help="Draw into DIR.")
def main(
    processes: int,
    rounds: int,
    only: tuple[str, ...],
    smoke: bool,
    path: Path | None,
    plots: Path | None,
) -> None:
    """Measure Tocsin beside bare loops and its peers, and judge the targets.

    Figures are ratios to the bare loop of the same process, for Tocsin with the ratio to the best
    peer in parentheses; of each candidate the best of several processes counts.
    """
    rounds = SMOKE.rounds if smoke else rounds
    found = [
        measure(Settings(number, processes, only, rounds, smoke))
        for number in range(1, processes + 1)
    ]
    figures = in_order(merge(found), NAMES)
    verdicts = judge(figures, [one for one in targets() if not only or one.section in only])
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for title, table in [*tables(figures), ("Targets", verdicts_table(verdicts))]:
        console.print(title, style="bold", highlight=False)
        console.print(table)
    result = to_json(figures, processes=processes, rounds=rounds, verdicts=verdicts)
    if plots is not None:
        from .plots import draw_all  # its library is slow to import

        draw_all(from_json(result), plots)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure(settings: Settings) -> list[Measurement]:
    """Let a process measure: a fresh interpreter, with string hashes of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.process", json.dumps(settings._asdict())],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": str(settings.number)},
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise click.ClickException(
            f"process {settings.number} ended with status {done.returncode}; see above"
        )
    return [Measurement(*one) for one in json.loads(done.stdout)]


if __name__ == "__main__":
    main(prog_name="python -m tests.benchmarks")
