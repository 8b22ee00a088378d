"""The commands of ``tocsin``, on click. Nothing here writes to stdout: that is the modules'."""

from __future__ import annotations

import importlib.util
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .bus import Bus

if TYPE_CHECKING:
    from anyio import CancelScope
    from anyio.abc import TaskStatus

__all__ = ["tocsin"]


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tocsin")
def tocsin() -> None:
    """Load modules that meet on a bus of notifier chains."""


def _read_filters(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    filters: dict[str, str] = {}
    for value in values:
        chain, equals, names = value.partition("=")
        chain = chain.strip()
        if not chain or not equals:
            raise click.BadParameter(f"{value!r} is not of the form CHAIN=NAME,NAME")
        filters[chain] = f"{filters[chain]},{names}" if chain in filters else names
    return filters


@tocsin.command()
@click.option(
    "--backend",
    type=click.Choice(["asyncio", "trio"]),
    default="asyncio",
    show_default=True,
    help="The event loop to run on; trio needs tocsin[trio].",
)
@click.option(
    "--filter",
    "filters",
    metavar="CHAIN=NAME,NAME",
    multiple=True,
    callback=_read_filters,
    help="Let only these blocks on a chain of the bus; globs and MODULE:NAME do too. May be "
    "repeated.",
)
@click.option(
    "--stay", is_flag=True, help="Stay until SIGINT or SIGTERM; then unload and exit with status 0."
)
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
def run(backend: str, filters: dict[str, str], *, stay: bool, modules: tuple[str, ...]) -> None:
    """Load modules in order, and unload them in reverse.

    A MODULE is a file ending in .py, an entry point of the group tocsin.modules, or a dotted name,
    which is looked for in the current directory too. An error is one line on stderr: what has been
    loaded is unloaded, and the exit status is not 0.
    """
    if backend == "trio" and importlib.util.find_spec("trio") is None:
        raise click.UsageError("--backend trio needs trio; install tocsin[trio]")
    import anyio

    sys.path.insert(0, str(Path.cwd()))
    anyio.run(partial(_run, modules, filters, stay=stay), backend=backend)


async def _run(modules: tuple[str, ...], filters: dict[str, str], *, stay: bool) -> None:
    import anyio

    bus = Bus("tocsin")
    bus.set_filters(filters)
    awaited = (signal.SIGINT, signal.SIGTERM) if stay else (signal.SIGTERM,)
    work = anyio.CancelScope()
    caught: list[int] = []
    loaded = False
    try:
        async with anyio.create_task_group() as group:
            await group.start(_cancel_on_signal, awaited, work, caught)
            loaded = await _load(bus, modules, filters, work, stay=stay)
            group.cancel_scope.cancel()
    except BaseExceptionGroup as failed:  # of one: nothing but the modules fails
        raise failed.exceptions[0] from None
    if caught and not (stay and loaded):
        if caught[0] == signal.SIGINT:
            raise _InterruptedError("interrupted")
        raise _TerminatedError("terminated")


async def _load(
    bus: Bus,
    modules: tuple[str, ...],
    filters: dict[str, str],
    work: CancelScope,
    *,
    stay: bool,
) -> bool:
    """Load modules, until ``work`` is cancelled, and unload them; say whether all were loaded."""
    import anyio

    from .modules import ModuleHost

    loaded = False
    async with ModuleHost(bus) as host:
        with work:
            for module in modules:
                await host.load(module)
            loaded = True
            _warn_of_filters(bus, filters)
            if stay:
                await anyio.sleep_forever()
    return loaded


async def _cancel_on_signal(
    awaited: tuple[signal.Signals, ...],
    work: CancelScope,
    caught: list[int],
    *,
    task_status: TaskStatus[None],
) -> None:
    import anyio

    with anyio.open_signal_receiver(*awaited) as signals:
        task_status.started()
        async for number in signals:
            caught.append(number)
            work.cancel()
            return


class _InterruptedError(click.ClickException):
    exit_code = 128 + signal.SIGINT  # as a shell reports it


class _TerminatedError(click.ClickException):
    exit_code = 128 + signal.SIGTERM


def _warn_of_filters(bus: Bus, filters: dict[str, str]) -> None:
    """Tell the operator about a filter that fits nothing: nobody else would notice."""
    for name in filters:
        if name not in bus:
            _warn(f"--filter {name}: no chain of that name has appeared")
            continue
        for unmatched in bus[name].unmatched_names:
            _warn(f"--filter {name}: no block has been called {unmatched}")


def _warn(message: str) -> None:
    click.echo(f"tocsin: warning: {message}", err=True)
