"""The command line of the torture."""

from __future__ import annotations

import random
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import click

from .plan import Figures, Plan
from .torture import SUBJECTS, torture

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULTS = Plan(0)
NAMES = [str(subject) for subject in SUBJECTS]


@click.command()
@click.option(
    "--calls",
    type=click.IntRange(1),
    default=DEFAULTS.calls * len(SUBJECTS),
    show_default=True,
    help="End when so many calls have been made, by all together.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=float("inf"),
    show_default=True,
    help="Or after so many seconds, all together.",
)
@click.option("--seed", type=int, help="As printed by an earlier torture; a random one.")
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="May be given repeatedly.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Processes.")
@click.option("--callers", type=click.IntRange(1), default=DEFAULTS.callers, show_default=True)
@click.option("--writers", type=click.IntRange(1), default=DEFAULTS.writers, show_default=True)
def main(
    calls: int,
    seconds: float,
    seed: int | None,
    only: tuple[str, ...],
    jobs: int,
    callers: int,
    writers: int,
) -> None:
    """Torture the chains: calls, writes, filters and cancellations at once, the contract watched.

    One line for each flavour and backend, and one for all; status 1 when something was wrong. With
    the same seed tasks do the same again, unless worker threads come in; threads never quite do.
    """
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    subjects = [one for one in SUBJECTS if not only or str(one) in only]
    share = len(subjects)
    plan = Plan(
        seed,
        calls=-(-calls // share),
        seconds=seconds / share,
        round_calls=min(DEFAULTS.round_calls, -(-calls // share)),
        callers=callers,
        writers=writers,
    )
    hard = f"--calls {plan.calls} --callers {callers} --writers {writers}"
    total, wrong = Figures(), list[str]()
    with ExitStack() as stack:
        each: Any = map
        if jobs > 1:
            each = stack.enter_context(ProcessPoolExecutor(jobs, get_context("spawn"))).map
        found: Iterator[Figures] = each(partial(torture, plan), subjects)
        for subject, figures in zip(subjects, found, strict=True):
            total.add(figures)
            click.echo(f"{subject!s:<22} seed={seed} {figures}")
            again = f"again with --only {subject} --seed {seed} {hard}"
            wrong += [f"violation: {subject}: {one}; {again}" for one in figures.violations]
    click.echo(f"{'all':<22} seed={seed} {total}")
    for line in wrong:
        click.echo(line, err=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":  # not where a process of the pool imports it
    main(prog_name="python -m tests.torture")
