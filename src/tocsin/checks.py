"""Checks of what callers pass in, where more than one part of Tocsin takes the same kind of it."""

from __future__ import annotations

import math
from typing import cast

from .errors import InvalidTypeError, InvalidValueError
from .wording import as_str, shown

__all__ = ["check_bool", "check_seconds", "check_title"]


def check_title(name: object, what: str) -> str:
    """Raise `InvalidTypeError` unless ``name`` can be that of a chain, a bus or a scope.

    Give it as a plain `str`: a subclass could equal another name, or not equal its own. ``what`` is
    what the message says of it, as in "a chain's name".
    """
    plain = as_str(name)
    if not plain:
        raise InvalidTypeError(f"{what} must be a str that is not empty, not {shown(name)}")
    return plain


def check_bool(value: object, what: str) -> None:
    """Raise `InvalidTypeError` unless ``value`` is True or False: "no" is true, and means no."""
    if not isinstance(value, bool):
        raise InvalidTypeError(f"{what} must be True or False, not {type(value).__name__}")


def check_seconds(value: object, what: str) -> None:
    """Raise unless ``value`` is a number of seconds that a clock can count; the rest is for others.

    `InvalidTypeError` or `InvalidValueError`.
    """
    if not issubclass(type(value), int | float) or isinstance(value, bool):
        raise InvalidTypeError(f"{what} must be seconds, not {type(value).__name__}")
    try:
        float(cast("float", value))
    except OverflowError:
        raise InvalidValueError(f"{what} is too large; {math.inf} s means no end") from None
