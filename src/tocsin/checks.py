"""Checks of what callers pass in, where more than one part of Tocsin takes the same kind of it."""

from __future__ import annotations

from .errors import InvalidTypeError

__all__ = ["check_seconds"]


def check_seconds(value: object, what: str) -> None:
    """Raise `InvalidTypeError` unless ``value`` is a number of seconds; its bounds are for others.

    ``what`` is what the message says of it, as in "the timeout of block 'audit'".
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidTypeError(f"{what} must be seconds, not {type(value).__name__}")
