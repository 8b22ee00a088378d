"""What ``tocsin`` and ``python -m tocsin`` start: the commands, and how their errors are shown.

The only module that says what goes to stderr: one line for whatever went wrong. The commands need
click, from the extra ``cli``, so they stand apart.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

from .errors import TocsinError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_INTERRUPTED = 130  # what a shell reports for SIGINT


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exit with status 1, 2 for a wrong use, or 130 when interrupted, if it fails.

    ``arguments`` are those of the process by default.
    """
    try:
        import click
    except ImportError:
        sys.exit("tocsin: the command line needs click; install tocsin[cli]")
    from .commands import tocsin

    try:
        tocsin.main(arguments, prog_name="tocsin", standalone_mode=False)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except click.Abort:
        _fail("interrupted", _INTERRUPTED)
    except Exception as error:
        _fail(_describe(error), 1)


def _fail(message: str, status: int) -> None:
    sys.stderr.write(f"tocsin: {' '.join(message.split())}\n")
    sys.exit(status)


def _describe(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return "; ".join(map(_describe, inner))
    kind = "" if isinstance(error, TocsinError) else f"{type(error).__name__}: "
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    return f"{kind}{error}{notes}"
