"""The commands of ``tocsin``, on click.

What a command prints on stdout can be piped on. So ``run``, whose modules may print there, prints
nothing of its own, and the others let nothing else than their own through.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from .bus import Bus
from .errors import FilterError, InvalidValueError
from .filters import parse_filters
from .loops import running_loop, soon, woken_by_signals
from .module_source import runs_body
from .targets import Target, find_bus, parse_target
from .wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from types import FrameType
    from typing import Any, TextIO

    from anyio import CancelScope

    from .modules import ModuleHost

__all__ = ["COMPLETE", "tocsin"]

COMPLETE = "_TOCSIN_COMPLETE"
"""The environment variable by which a shell asks what may come next."""

_FILTERS = "TOCSIN_FILTERS"

_ENDING = (signal.SIGINT, signal.SIGTERM)

_MODULE_BUS = """
MODULE:BUS is the dotted name of a module, which is looked for in the current directory too, and the
attribute that is the bus, as in app:bus or shop.events:platform.bus. Where a function makes the
bus, say so, as in 'app:make_bus()'. The module is imported; what it prints goes to stderr. The
environment variable TOCSIN_FILTERS holds for a bus that Bus.from_env makes.
"""


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tocsin")
def tocsin() -> None:
    """Load modules that meet on a bus of notifier chains, and look at such buses.

    \b
    Examples:
      tocsin run shop.py mail.py          load two modules, unload them
      tocsin describe app:bus             show who is called, in which order
      tocsin graph app:bus --format dot   draw that, for Graphviz
      eval "$(tocsin completion bash)"    complete commands with the tab key
    """


def _read_filters(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    try:
        return parse_filters(";".join(values))
    except FilterError as error:
        raise click.BadParameter(str(error)) from None


def _read_target(_context: click.Context, _parameter: click.Parameter, value: str) -> Target:
    try:
        return parse_target(value)
    except InvalidValueError as error:
        raise click.BadParameter(str(error)) from None


def _read_seconds(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    if not value > 0:  # which nan is not either
        raise click.BadParameter(f"it must be above 0 s, or inf for no bound, not {value}")
    return value


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
    f"repeated. Goes before what the environment variable {_FILTERS} says of the same chain.",
)
@click.option(
    "--exit-timeout",
    metavar="SECONDS",
    type=float,
    callback=_read_seconds,
    default=10.0,
    show_default=True,
    help="For how long a module_exit may wait before it is cancelled, and then the module's "
    "callbacks; above 0, inf for no bound.",
)
@click.option(
    "--stay", is_flag=True, help="Stay until SIGINT or SIGTERM; then unload and exit with status 0."
)
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...", type=click.Path())
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

    The environment variable TOCSIN_FILTERS has filters for several chains, in the form
    CHAIN=NAME,NAME; CHAIN=NAME.

    \b
    Examples:
      tocsin run buildchain.py regchain.py
      tocsin run --backend trio --stay shop.plugins.mail
      tocsin run --filter orders=check_stock,audit_* shop.py
    """
    if backend == "trio" and importlib.util.find_spec("trio") is None:
        raise click.UsageError("--backend trio needs trio; install tocsin[trio]")
    import anyio

    from .modules import ModuleHost

    _look_here_first()
    bus = Bus.from_env("tocsin", _FILTERS)
    origins = dict.fromkeys(bus.snapshot().unmatched_filters, _FILTERS)
    origins |= dict.fromkeys(filters, "--filter")
    bus.set_filters(filters)
    host = ModuleHost(bus, exit_timeout=exit_timeout)
    anyio.run(partial(_run, host, modules, origins, stay=stay), backend=backend)


async def _run(
    host: ModuleHost, modules: tuple[str, ...], origins: dict[str, str], *, stay: bool
) -> None:
    import anyio

    work, loaded = anyio.CancelScope(), False
    with _cancelled_by_signals(work) as caught:
        try:
            loaded = await _load(host, modules, origins, work, caught, stay=stay)
        except KeyboardInterrupt:
            if not caught:  # else it is ours
                raise
    if caught and not (stay and loaded):
        if caught[0] == signal.SIGINT:
            raise _InterruptedError("interrupted")
        raise _TerminatedError("terminated")


async def _load(
    host: ModuleHost,
    modules: tuple[str, ...],
    origins: dict[str, str],
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
            _warn_of_filters(host.bus, origins)
            if stay:
                await anyio.sleep_forever()
    return loaded


@contextmanager
def _cancelled_by_signals(work: CancelScope) -> Generator[list[int]]:
    """Cancel ``work`` at the first SIGINT or SIGTERM, and give a list that it is put into.

    It is noted at once, whatever runs: a receiver that has to be awaited would miss one that comes
    while nothing else awaits. The body of a module, which cannot be cancelled, it interrupts. The
    next one ends the process, so that impatience helps.
    """
    loop = running_loop()
    caught: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        replace(handler, dict.fromkeys(previous, signal.SIG_DFL))
        soon(loop, work.cancel)
        if runs_body(frame):
            raise KeyboardInterrupt

    def replace(old: object, handlers: Mapping[signal.Signals, Any]) -> None:
        for number, new in handlers.items():
            if signal.getsignal(number) is old:  # a module may have set its own
                signal.signal(number, new or signal.SIG_DFL)

    previous = {number: signal.signal(number, handler) for number in _ENDING}
    try:
        with woken_by_signals(loop):
            yield caught
    finally:
        replace(signal.SIG_DFL if caught else handler, previous)


class _InterruptedError(click.ClickException):
    exit_code = 128 + signal.SIGINT  # as a shell reports it


class _TerminatedError(click.ClickException):
    exit_code = 128 + signal.SIGTERM


def _warn_of_filters(bus: Bus, origins: dict[str, str]) -> None:
    """Tell the operator about a filter that fits nothing: nobody else would notice.

    ``origins`` says of each chain that has a filter where that was given.
    """
    for name, origin in origins.items():
        if name not in bus:
            _warn(f"{origin} {name}: no chain of that name has appeared")
            continue
        for unmatched in bus[name].unmatched_names:
            _warn(f"{origin} {name}: no block has been called {unmatched}")


def _warn(message: str) -> None:
    click.echo(f"tocsin: warning: {printable(message)}", err=True)


# Looking at a bus.


@tocsin.command(epilog=_MODULE_BUS)
@click.option("--json", "as_json", is_flag=True, help="Print all there is to know, as JSON.")
@click.argument("target", metavar="MODULE:BUS", callback=_read_target)
def describe(target: Target, *, as_json: bool) -> None:
    """Print a bus: its chains, and on each the blocks in call order.

    Before each block stands its priority, and behind it what is special: parked (left out by the
    filter, so never called), async, thread, once, its timeout, its events and its owner.

    \b
    Examples:
      tocsin describe app:bus
      tocsin describe --json app:bus | jq '.chains[].name'
      TOCSIN_FILTERS='orders=audit' tocsin describe app:bus
    """

    def draw(bus: Bus) -> str:
        return json.dumps(bus.snapshot().to_dict(), indent=2) if as_json else bus.describe()

    _show(target, draw)


@tocsin.command(epilog=_MODULE_BUS)
@click.option(
    "--format",
    "language",
    type=click.Choice(["mermaid", "dot"]),
    default="mermaid",
    show_default=True,
    help="The language of the graph; dot is for Graphviz.",
)
@click.argument("target", metavar="MODULE:BUS", callback=_read_target)
def graph(target: Target, language: str) -> None:
    """Draw a bus as a graph, in Mermaid or DOT.

    It leads from the bus to its chains, and on each from block to block in call order. Blocks that
    the filter leaves out are dashed.

    \b
    Examples:
      tocsin graph app:bus > bus.mmd
      tocsin graph app:bus --format dot | dot -Tsvg > bus.svg
    """
    from .drawings import draw_dot, draw_mermaid

    draw = {"mermaid": draw_mermaid, "dot": draw_dot}[language]
    _show(target, lambda bus: draw(bus.snapshot()))


def _look_here_first() -> None:
    """Look for modules in the current directory before others."""
    sys.path.insert(0, str(Path.cwd()))


def _show(target: Target, draw: Callable[[Bus], str]) -> None:
    """Find a bus, and print what is drawn of it, and nothing else, on stdout."""
    _look_here_first()
    with _stdout_to_ourselves() as ours:
        _print(draw(find_bus(target)), ours)


@contextmanager
def _stdout_to_ourselves() -> Generator[TextIO | None]:
    """Give stdout, if there is one; what others print there goes to stderr."""
    stdout = cast("TextIO | None", sys.stdout)
    with ExitStack() as stack:
        if stdout is sys.__stdout__ and stdout is not None:  # nobody else catches what is printed
            stdout = stack.enter_context(_take(stdout))
        stack.enter_context(redirect_stdout(sys.stderr))
        yield stdout


def _take(stdout: TextIO) -> TextIO:
    """Give another way to the stdout of the process, and let the former one lead to stderr.

    There it leads until the process ends, whatever is printed below Python, still in a buffer now,
    by a thread, or at exit.
    """
    stdout.flush()
    ours = os.dup(1)
    os.dup2(2 if sys.__stderr__ else os.open(os.devnull, os.O_WRONLY), 1)
    return os.fdopen(ours, "w", encoding=stdout.encoding)


def _print(text: str, out: TextIO | None) -> None:
    """Print for a pipe or a person; what the encoding of ``out`` does not have is escaped."""
    if out is not None:
        encoding = getattr(out, "encoding", None) or "utf-8"
        click.echo(text.encode(encoding, "backslashreplace").decode(encoding), file=out)


_SHELLS = {"bash": BashComplete, "fish": FishComplete, "zsh": ZshComplete}


@tocsin.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(tuple(_SHELLS)))
def completion(shell: str) -> None:
    """Print what makes a shell complete tocsin.

    SHELL is bash, zsh or fish; it has to read what is printed, each time when it starts. Then the
    tab key completes commands, options and their values.

    \b
    Examples:
      eval "$(tocsin completion bash)"                            in ~/.bashrc
      eval "$(tocsin completion zsh)"                             in ~/.zshrc
      tocsin completion fish > ~/.config/fish/completions/tocsin.fish
    """
    _print(_SHELLS[shell](tocsin, {}, "tocsin", COMPLETE).source().rstrip("\n"), sys.stdout)
