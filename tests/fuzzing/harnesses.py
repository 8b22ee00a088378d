"""What is fed with text, and what has to hold of every text.

A harness takes any `str`, lone surrogates included, and raises for a finding alone: an
`AssertionError`, or whatever undocumented error comes out of the package.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from tocsin import (
    AtomicChain,
    Bus,
    FilterError,
    InvalidValueError,
    ModuleLoadError,
    NameFilter,
    NotifierBlock,
    TocsinError,
)
from tocsin.drawings import draw_dot, draw_mermaid, draw_tree
from tocsin.filters import parse_filters
from tocsin.module_source import Location, ModuleSource, locate
from tocsin.targets import parse_target

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HARNESSES", "SEEDS"]

LIMIT = 16


def hear(event: Any, data: Any) -> None:
    """Do nothing."""


def check_words(error: TocsinError) -> None:
    """Hold of every error: it is one line that a terminal can be shown."""
    assert str(error)
    assert str(error).isprintable()


def filter_text(text: str) -> None:
    """Read a name filter: it fails closed, and what is kept can be written and read again."""
    try:
        made = NameFilter.parse(text, limit=LIMIT)
    except FilterError as error:
        check_words(error)
        assert text.strip()
        return
    assert (made is None) == (not text.strip())
    if made is not None:
        assert 0 < len(made.names) <= LIMIT
        again = NameFilter.parse(",".join(made.names))
        assert again is not None
        assert (again.names, again.discarded) == (made.names, ())
        block = NotifierBlock(hear)
        assert made(block) == (not (~made)(block))
        assert set(made.unmatched([block])) <= set(made.names)


def filters_text(text: str) -> None:
    """Read the filters of a bus: what was read is what is set, or nothing is."""
    bus = Bus("bus")
    try:
        filters = parse_filters(text)
        bus.set_filters(filters)
    except FilterError as error:
        check_words(error)
        assert text.strip()
        return
    assert bool(filters) == bool(text.strip())
    assert set(bus.snapshot().unmatched_filters) == set(filters)


def target(text: str) -> None:
    """Read ``MODULE:BUS``: what was read is written as it was."""
    try:
        assert str(parse_target(text)) == text
    except InvalidValueError as error:
        check_words(error)


def module_spec(text: str) -> None:
    """Find a module and read it; nothing of it runs, and nothing stays imported."""
    if "." in text.removesuffix(".py"):  # would import the package that it lies in
        return
    before = dict(sys.modules)
    with patch("importlib.metadata.entry_points", return_value=()):  # a look at all that there is
        try:
            source = ModuleSource(locate(text))
            source.read()
        except ModuleLoadError as error:
            check_words(error)
    assert {name: sys.modules.get(name) for name in before} == before


def requires(text: str) -> None:
    """Read ``REQUIRES`` out of a source: names, or an error, and the source has not run."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler, about the source
        path = Path(folder, "fuzzed_plugin.py")
        path.write_bytes(f"REQUIRES = {text}\n1 / 0".encode("utf-8", "surrogatepass"))
        source = ModuleSource(Location("fuzzed_plugin", "fuzzed_plugin", path))
        try:
            source.read()
        except ModuleLoadError as error:
            check_words(error)
        else:
            assert all(type(name) is str and name for name in source.requires)


LABEL = r'"(?:[^"\\]|\\["\\])*"'
DOT_LINE = re.compile(
    rf"digraph \{{|    rankdir=LR|    \w+ \[label={LABEL}, shape=\w+(, style=dashed)?\]"
    r"|    \w+ -> \w+( \[style=dashed\])?|\}"
)
MERMAID_LABEL = r'"(?:[^\W_]|[ _.()-]|#\d+;)*"'
MERMAID_LINE = re.compile(
    r"flowchart LR|    classDef parked stroke-dasharray: 5 5|    class \w+ parked"
    rf"|    \w+(?:\[\[{MERMAID_LABEL}\]\]|\(\[{MERMAID_LABEL}\]\)|\[{MERMAID_LABEL}\])"
    r"|    \w+ (?:-->|-\.->) \w+"
)


def drawing(text: str) -> None:
    """Draw a bus on which everything is called ``text``: no line more, none less."""

    def callback(event: Any, data: Any) -> None:
        """Do nothing."""

    callback.__qualname__ = f"x{text}"  # unlike the name that one gives, it is not checked
    bus = Bus(f"b{text}")
    bus.add(AtomicChain(f"c{text}")).register(callback, events=text)
    snapshot = bus.snapshot()
    tree = draw_tree(snapshot).split("\n")
    assert [line[:3] for line in tree] == ["bus", "└─ ", "   "]
    for lines, form, number in (
        (draw_mermaid(snapshot).split("\n"), MERMAID_LINE, 7),
        (draw_dot(snapshot).split("\n"), DOT_LINE, 8),
    ):
        assert len(lines) == number
        assert all(form.fullmatch(line) for line in lines), lines
        assert all(map(str.isprintable, lines)), lines
    assert all(map(str.isprintable, tree)), tree
    assert json.loads(json.dumps(snapshot.to_dict()))["chains"][0]["name"] == f"c{text}"


HARNESSES: dict[str, Callable[[str], None]] = {
    one.__name__: one for one in (filter_text, filters_text, target, module_spec, requires, drawing)
}

SEEDS = [
    *("", " ", ",", "a,b", "a,,a", "a b,c", "m:a,m:*,:", "[a-", "[!]]", "[[]", "[z-a]*?", "a\x00"),
    *("a=b; c=d,e", ";", "=", "a=", "a==b", "a=b;c", "x" * 501, "\ud800", "\x1b[2J", "\u202e"),
    *("app:bus", "app:make()", "a.b:c.d", "a:b:c", ":", "import:bus", "a\n:b", "ﬁ:ﬁ"),
    *("json", "sys", "nothing_there", "import", "a-b", "no.py", "\x00.py", "\ud800.py", ".py", "/"),
    *(
        "()",
        "'a'",
        "['a', 'b']",
        "{'a'}",
        "[1]",
        "a",
        "((",
        "'\ud800'",
        "'\x00'",
        "'a' if 1 else ()",
    ),
    *(
        '"',
        "\\",
        '\\"',
        "'",
        "\r\n",
        "<b>",
        "#quot;",
        '"]; x["',
        "%%{init}%%",
        "a --> b",
        "\\N",
        "`",
    ),
]
"""Texts that mean something somewhere: where the fuzzer begins."""
