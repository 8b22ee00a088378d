"""What comes from outside: taken as the text or number it is, and how messages and logs show it.

Owns two rules. Nothing that ends a line, moves a cursor or turns the direction of writing gets out
as it is. Of a value that somebody gave, text and numbers are shown, and of all else the type: its
own words may be data, or raise.

Invariant: nothing here calls what a subclass of `str` or `int` may define, or believes a mock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["as_int", "as_str", "printable", "printable_fields", "shown"]


def as_str(value: object) -> str | None:
    """Give text as a plain `str`: a subclass may equal anything. ``None`` for what is no text."""
    return str.__str__(cast("str", value)) if issubclass(type(value), str) else None


def as_int(value: object) -> int | None:
    """Give an int as a plain one: a subclass may reckon as it likes. ``None`` for what is none."""
    return int.__index__(cast("int", value)) if issubclass(type(value), int) else None


def printable(text: str) -> str:
    """Give text on one line, with what does not print escaped, as Python writes it."""
    plain = str.__str__(text)
    if plain.isprintable():
        return plain
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in plain)


def printable_fields(fields: Mapping[str, object]) -> dict[str, object]:
    """Give the fields of a log line, with their text and lists of text printable."""
    return {key: _printable_field(value) for key, value in fields.items()}


def _printable_field(value: object) -> object:
    if isinstance(value, list):
        return [_printable_field(one) for one in cast("list[object]", value)]
    return printable(value) if isinstance(value, str) else value


def shown(value: object) -> str:
    """Say what was given: text in quotes, numbers and ``None`` as they are, else ``<type>``."""
    kind = type(value)
    if value is None or kind is bool:
        return repr(value)
    if (text := as_str(value)) is not None:
        return repr(text)
    if (number := as_int(value)) is not None:
        return _digits(number)
    if issubclass(kind, float):
        return float.__repr__(cast("float", value))
    return f"<{kind.__name__}>"


def _digits(number: int) -> str:
    try:
        return repr(number)
    except ValueError:  # more digits than Python cares to write
        return f"an int of {number.bit_length()} bits"
