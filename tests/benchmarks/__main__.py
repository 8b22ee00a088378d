"""The command line of the benchmark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
from rich.console import Console

import tocsin

from .measure import Effort, Measurement
from .process import Settings
from .report import describe_commit, in_order, merge, tables, to_json, verdicts_table
from .results import from_json
from .sections import SECTIONS, names
from .targets import judge, targets

ROOT = Path(__file__).parents[2]
NAMES = [name for section in SECTIONS for name in names(section)]
WIDTH = 200  # of the tables where the output is no terminal
KEPT = {"PYTHONPATH", "PYTHONWARNINGS"}
"""Where modules are, and whether a warning is an error: neither changes what code costs."""


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
    refuse_another_tocsin()
    if path is not None:
        make_way(path)
    commit = describe_commit()
    settings = Settings(1, processes, only, rounds, smoke)
    found = [measure(settings._replace(number=one)) for one in range(1, processes + 1)]
    figures = in_order(merge(found), NAMES)
    verdicts = judge(figures, [one for one in targets() if not only or one.section in only])
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for title, table in [*tables(figures), ("Targets", verdicts_table(verdicts))]:
        console.print(title, style="bold", highlight=False)
        console.print(table)
    result = to_json(figures, verdicts=verdicts, commit=commit, settings=settings)
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if plots is not None:
        from .plots import draw_all  # its library is slow to import

        draw_all(from_json(result), plots)


def refuse_another_tocsin() -> None:
    """See that what is measured is this checkout's package, and not an installed one."""
    if not Path(tocsin.__file__).is_relative_to(ROOT / "src"):
        raise click.ClickException(
            f"Tocsin was imported from {tocsin.__file__}, which is not in {ROOT / 'src'}; "
            f"use make bench, or set PYTHONPATH"
        )


def make_way(path: Path) -> None:
    """See, before minutes are spent, that a file can be written; what is in it stays for now."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        path.open("a").close()
        if is_new:
            path.unlink()
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None


def environment(number: int) -> dict[str, str]:
    """Give a process its environment, without what changes how the interpreter runs."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") or name in KEPT
    }
    return kept | {"PYTHONHASHSEED": str(number)}


def measure(settings: Settings) -> list[Measurement]:
    """Let a process measure: a fresh interpreter, with string hashes of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.process", json.dumps(settings._asdict())],
        cwd=ROOT,
        env=environment(settings.number),
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
