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
from .wording import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click import Command

__all__ = ["main"]

_INTERRUPTED = 130  # what a shell reports for SIGINT


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; if it fails, exit with a status that is not 0.

    That is 1, 2 for a wrong use, 130 when interrupted, 143 when terminated. ``arguments`` are by
    default those of the process, which are taken away, so that no module takes them for its own.

    ``describe`` and ``graph`` have stdout for themselves, where it is that of the process, until
    the process ends.
    """
    if importlib.util.find_spec("click") is None:
        sys.exit("tocsin: the command line needs click; install tocsin[cli]")
    if arguments is None:
        arguments, sys.argv[1:] = sys.argv[1:], []
    try:
        status = _flush(_run(list(arguments)))
    except KeyboardInterrupt:
        _say("interrupted")
        status = _INTERRUPTED
    if status:
        sys.exit(status)


def _run(arguments: list[str]) -> int:
    """Run a command and give its exit status. Not click's way, which takes over some errors."""
    import click

    from .commands import COMPLETE, tocsin

    try:
        question = os.environ.get(COMPLETE)
        if question:  # of a shell: what may come next?
            return _answer(tocsin, COMPLETE, question)
        with tocsin.make_context("tocsin", arguments) as context:
            tocsin.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        _say(error.format_message())
        return error.exit_code
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return _fail(error)
    return 0


def _answer(command: Command, variable: str, question: str) -> int:
    from click.shell_completion import shell_complete

    status = shell_complete(command, {}, "tocsin", variable, question)
    if status:
        _say(f"{variable}={question!r} is no question that bash, zsh or fish asks")
    return status


def _flush(status: int) -> int:
    """Write what is left for stdout, and give the exit status, which was another before."""
    try:
        if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison] - it may be
            sys.stdout.flush()
    except OSError as error:
        _give_up_stdout()
        return status or _fail(error)
    return status


def _fail(error: BaseException) -> int:
    """Say what went wrong, and give the exit status.

    Nothing when whoever reads stdout has gone, as ``head`` does. What a module raises has a note of
    it, or stands in an error of ours, so a bare `BrokenPipeError` is of our own output.
    """
    if not isinstance(error, BrokenPipeError) or hasattr(error, "__notes__"):
        _say(_describe(error))
    return 1


def _give_up_stdout() -> None:
    """Let what is left for stdout go nowhere, so that the interpreter does not try again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _say(message: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # stderr may be closed
        sys.stderr.write(f"tocsin: {printable(' '.join(message.split()))}\n")


def _describe(error: BaseException) -> str:
    inner: Sequence[BaseException] = getattr(error, "exceptions", ())  # of a group
    if inner:
        said = "; ".join(map(_describe, inner))
    else:
        said = str(error) if isinstance(error, TocsinError) else in_words(error)
    return said + "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
