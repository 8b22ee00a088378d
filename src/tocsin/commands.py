"""The commands of ``tocsin``, on click. Nothing here writes to stdout: that is the modules'."""

from __future__ import annotations

import importlib.util
import signal
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .bus import Bus

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from anyio import CancelScope

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
    "--exit-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="For how long a module_exit may wait before it is cancelled; inf for no bound.",
)
@click.option(
    "--stay", is_flag=True, help="Stay until SIGINT or SIGTERM; then unload and exit with status 0."
)
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
def run(
    backend: str,
    filters: dict[str, str],
    exit_timeout: float,
    *,
    stay: bool,
    modules: tuple[str, ...],
) -> None:
    """Load modules in order, and unload them in reverse.

    A MODULE is a file ending in .py, an entry point of the group tocsin.modules, or a dotted name,
    which is looked for in the current directory too. An error is one line on stderr: what has been
    loaded is unloaded, and the exit status is not 0.
    """
    if backend == "trio" and importlib.util.find_spec("trio") is None:
        raise click.UsageError("--backend trio needs trio; install tocsin[trio]")
    import anyio

    sys.path.insert(0, str(Path.cwd()))
    from .modules import ModuleHost

    bus = Bus("tocsin")
    bus.set_filters(filters)
    host = ModuleHost(bus, exit_timeout=exit_timeout)
    anyio.run(partial(_run, host, modules, filters, stay=stay), backend=backend)


async def _run(
    host: ModuleHost, modules: tuple[str, ...], filters: dict[str, str], *, stay: bool
) -> None:
    import anyio

    awaited = (signal.SIGINT, signal.SIGTERM) if stay else (signal.SIGTERM,)
    work = anyio.CancelScope()
    with _cancelled_by(awaited, work) as caught:
        loaded = await _load(host, modules, filters, work, caught, stay=stay)
    if caught and not (stay and loaded):
        if caught[0] == signal.SIGINT:
            raise _InterruptedError("interrupted")
        raise _TerminatedError("terminated")


async def _load(
    host: ModuleHost,
    modules: tuple[str, ...],
    filters: dict[str, str],
    work: CancelScope,
    caught: list[int],
    *,
    stay: bool,
) -> bool:
    """Load modules, until a signal is caught, and unload them; say whether all were loaded."""
    import anyio

    loaded = False
    async with host:
        with work:
            for module in modules:
                if caught:  # while a module ran that awaits nothing
                    return False
                await host.load(module)
            loaded = True
            _warn_of_filters(host.bus, filters)
            if stay:
                await anyio.sleep_forever()
    return loaded


@contextmanager
def _cancelled_by(awaited: Iterable[signal.Signals], work: CancelScope) -> Generator[list[int]]:
    """Cancel ``work`` at the first of these signals, and give a list that it is put into.

    It is noted at once, whatever runs: a receiver that has to be awaited would miss one that comes
    while nothing else awaits. The next one does what it did before, so that impatience helps.
    """
    from anyio.lowlevel import current_token

    loop: Any = current_token().native_token
    soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    caught: list[int] = []

    def handler(number: int, _frame: object) -> None:
        caught.append(number)
        restore()
        soon(work.cancel)

    def restore() -> None:
        for number, former in previous.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, former or signal.SIG_DFL)

    previous = {number: signal.signal(number, handler) for number in awaited}
    try:
        yield caught
    finally:
        restore()


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
