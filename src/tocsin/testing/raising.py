"""Exceptions that a test wants raised: given once, as an instance or a class, and raised often."""

from __future__ import annotations

from tocsin.errors import InvalidTypeError

__all__ = ["check_class", "fresh"]


def check_class(kind: type[BaseException], where: str) -> None:
    """Raise `InvalidTypeError` unless this class of exceptions can be raised as it is."""
    try:
        kind()
    except Exception as error:
        raise InvalidTypeError(
            f"{where}: {kind.__name__} cannot be raised without arguments; give an instance"
        ) from error


def fresh(error: BaseException | type[BaseException]) -> BaseException | type[BaseException]:
    """Give what is to be raised, without the traceback of where it was raised before."""
    return error.with_traceback(None) if isinstance(error, BaseException) else error
