"""What comes from outside is written so that it can do nothing, and says nothing of data."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin import NOTIFY_BAD
from tocsin.wording import printable, printable_fields, shown


class OddStr(str):
    """Says something else of itself, wherever it is asked."""

    __slots__ = ()

    def __str__(self) -> str:
        raise LookupError("secret")

    __repr__ = __str__
    isprintable = __iter__ = __format__ = __str__  # type: ignore[assignment]


class OddInt(int):
    def __repr__(self) -> str:
        raise LookupError("secret")

    __str__ = __index__ = __format__ = __repr__  # type: ignore[assignment]


@given(st.text())
def test_what_is_printable_is_one_line_that_a_terminal_can_be_shown(text: str) -> None:
    said = printable(text)
    assert said.isprintable()
    said.encode()
    assert said == text or not text.isprintable()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("größe", "größe"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\ud800\x9b\x00", r"\ud800\x9b\x00"),
    ],
)
def test_what_does_not_print_is_escaped_as_python_writes_it(text: str, said: str) -> None:
    assert printable(text) == said


def test_a_log_lines_fields_are_printable_and_what_is_no_text_stays() -> None:
    fields = {"name": "a\x1b", "names": ["b\n", 1], "depth": 3}
    assert printable_fields(fields) == {"name": r"a\x1b", "names": [r"b\n", 1], "depth": 3}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        *((None, "None"), (True, "True"), (7, "7"), (-1.5, "-1.5"), (math.nan, "nan")),
        *(("a\n", r"'a\n'"), (NOTIFY_BAD, "32770")),
        *((b"secret", "<bytes>"), (["secret"], "<list>"), (object, "<type>")),
    ],
)
def test_of_a_value_only_text_numbers_and_types_are_shown(value: Any, said: str) -> None:
    assert shown(value) == said


def test_a_mock_is_not_believed() -> None:
    assert shown(MagicMock(spec=str)) == "<MagicMock>"


def test_a_subclass_is_not_asked_what_it_is() -> None:
    assert printable(OddStr("a\n")) == r"a\n"
    assert [shown(OddStr("x")), shown(OddInt(3))] == ["'x'", "3"]


def test_an_int_that_python_does_not_write_is_told_by_its_size() -> None:
    assert shown(10**5000) == "an int of 16610 bits"
