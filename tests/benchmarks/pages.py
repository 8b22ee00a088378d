"""The tables of a page, written from the benchmark's results and never by hand.

The page says where and which::

    <!-- figures 3.13 | sync dispatch | None -->
    whatever stands here is replaced
    <!-- end of figures -->

that is Python's version, a section and a variant of it, which may be left out where it is empty.
``targets`` in the place of a section is the table of targets, ``origin`` the line that says where
the figures come from. Outside of these marks nothing changes.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import click
from rich.box import MARKDOWN
from rich.console import Console

from .report import tables, verdicts_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from .results import Results

_BEGIN, _END = "<!-- figures ", "<!-- end of figures -->"
_MARKED = re.compile(rf"({_BEGIN}(.*?) -->\n)(.*?)({_END})", re.DOTALL)


def fill(page: str, results: Mapping[str, Results]) -> str:
    """Give the page with its tables renewed from results by version of Python.

    Raises `click.ClickException` for a mark that names what there is not, or that has no end.
    """
    marked = list(_MARKED.finditer(page))
    if len(marked) != page.count(_BEGIN) or any(_BEGIN in one[3] for one in marked):
        raise click.ClickException(f"a mark {_BEGIN!r} has no {_END!r} behind it")
    return _MARKED.sub(lambda one: f"{one[1]}\n{_answer(one[2], results)}\n{one[4]}", page)


def _answer(asked: str, results: Mapping[str, Results]) -> str:
    python, section, variant = [*(part.strip() for part in asked.split("|")), "", ""][:3]
    if python not in results:
        raise click.ClickException(
            f"figures {asked!r}: there are no results of Python {python}, "
            f"only of {', '.join(results)}"
        )
    found = results[python]
    if section == "origin":
        return f"{found.origin}; {found.versions}\n"
    if section == "targets":
        return markdown(verdicts_table(found.verdicts))
    figures = found.of(section, variant)
    if not figures:
        known = ", ".join(dict.fromkeys(" | ".join(one[:2]) for one in found.figures))
        raise click.ClickException(f"figures {asked!r}: not measured; there are {known}")
    [(_, table)] = tables(figures)
    return markdown(table)


def markdown(table: Table) -> str:
    """Write a table in Markdown."""
    table.box = MARKDOWN
    console = Console(file=io.StringIO(), width=1000, color_system=None)
    with console.capture() as written:
        console.print(table)
    return "".join(f"{line.strip()}\n" for line in written.get().splitlines() if line.strip())
