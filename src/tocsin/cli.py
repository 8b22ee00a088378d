"""What ``tocsin`` and ``python -m tocsin`` start: the commands, and how their errors are shown.

Says on stderr in one line what went wrong. The commands need click, from the extra ``cli``, so they
stand apart.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING

from .errors import TocsinError
from .module_source import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click import Command

__all__ = ["main"]

_INTERRUPTED = 130  # what a shell reports for SIGINT


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; if it fails, exit with a status that is not 0.

    That is 1, 2 for a wrong use, 130 when interrupted, 143 when terminated. ``arguments`` are those
    of the process by default.
    """
    if importlib.util.find_spec("click") is None:
        sys.exit("tocsin: the command line needs click; install tocsin[cli]")
    from .commands import tocsin

    status = _flush(_run(tocsin, sys.argv[1:] if arguments is None else list(arguments)))
    if status:
        sys.exit(status)


def _run(command: Command, arguments: list[str]) -> int:
    """Run a command and give its exit status. Not click's way, which takes over some errors."""
    import click
    from click.shell_completion import shell_complete

    from .commands import COMPLETE

    try:
        question = os.environ.get(COMPLETE)
        if question:  # of a shell: what may come next?
            return shell_complete(command, {}, "tocsin", COMPLETE, question)
        with command.make_context("tocsin", arguments) as context:
            command.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        _say(error.format_message())
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return _INTERRUPTED
    except BaseException as error:
        _say(_describe(error))
        return 1
    return 0


def _flush(status: int) -> int:
    """Write what is left for stdout, and give the exit status, which was another before."""
    try:
        if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison] - it may be
            sys.stdout.flush()
    except OSError as error:
        _give_up_stdout()
        if not status and not isinstance(error, BrokenPipeError):
            _say(in_words(error))
        return status or 1
    return status


def _give_up_stdout() -> None:
    """Let what is left for stdout go nowhere, so that the interpreter does not try again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _say(message: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # stderr may be closed
        sys.stderr.write(f"tocsin: {' '.join(message.split())}\n")


def _describe(error: BaseException) -> str:
    inner: Sequence[BaseException] = getattr(error, "exceptions", ())  # of a group
    if inner:
        said = "; ".join(map(_describe, inner))
    else:
        said = str(error) if isinstance(error, TocsinError) else in_words(error)
    return said + "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
