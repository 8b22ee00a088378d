"""The commands of ``tocsin``, on click. Nothing here prints: stdout belongs to the modules."""

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
    from collections.abc import Awaitable, Callable

    from anyio import CancelScope
    from anyio.abc import TaskStatus

    from .modules import ModuleHost

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
    from .modules import ModuleHost

    bus = Bus("tocsin")
    bus.set_filters(filters)
    async with ModuleHost(bus) as host:
        load = partial(_load, host, modules)
        await (_until_signal(load) if stay else load())


async def _load(host: ModuleHost, modules: tuple[str, ...]) -> None:
    for module in modules:
        await host.load(module)


async def _until_signal(load: Callable[[], Awaitable[None]]) -> None:
    """Load, then wait; a signal ends either."""
    import anyio

    async with anyio.create_task_group() as group:
        await group.start(_cancel_on_signal, group.cancel_scope)
        await load()
        await anyio.sleep_forever()


async def _cancel_on_signal(scope: CancelScope, *, task_status: TaskStatus[None]) -> None:
    import anyio

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return
