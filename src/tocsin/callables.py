"""What a callable is, told by its code object: its name, its colour, what it takes.

Nothing here imports ``inspect``, so that importing Tocsin stays cheap.
"""

from __future__ import annotations

import functools
from types import CodeType, CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any, cast

from .wording import as_str

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["close_coroutine", "default_name", "is_async_callable", "why_not_callable"]

_VARARGS, _GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = (
    0x4,
    0x20,
    0x80,
    0x100,
    0x200,
)


def default_name(named: object) -> str:
    """Give the name that a callable goes by; never its repr, which may show data."""
    qualname = getattr(named, "__qualname__", None)
    name = as_str(qualname)
    if name is None:
        name = type(named).__qualname__
    return name.rpartition("<locals>.")[2]


def is_async_callable(callback: Callable[..., object]) -> bool:
    """Tell an async callable by its code's flags, as `inspect` would, without importing it."""
    while isinstance(callback, functools.partial):
        callback = cast("functools.partial[object]", callback).func
    # inspect.markcoroutinefunction() leaves a bare object; a mock has anything, but no such thing.
    if type(getattr(callback, "_is_coroutine_marker", None)) is object:
        return True
    function = callback if type(callback) is FunctionType else _function_of(callback)[0]
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    return bool(flags & (_COROUTINE | _ITERABLE_COROUTINE))


def close_coroutine(made: object) -> None:
    """Close a refused coroutine, which must not warn that nobody awaited it; else do nothing."""
    if issubclass(type(made), CoroutineType):
        cast("Any", made).close()


def _code_of(callback: object) -> tuple[CodeType, int, int, int] | None:
    """Find code, numbers of defaults and of bound arguments; ``None`` where nothing is plain."""
    function, bound = _function_of(callback)
    code = getattr(function, "__code__", None)
    if type(code) is not CodeType:  # a mock's is none, though it says so
        return None
    defaults: tuple[object, ...] = getattr(function, "__defaults__", None) or ()
    keyword_defaults: dict[str, object] = getattr(function, "__kwdefaults__", None) or {}
    return code, len(defaults), len(keyword_defaults), bound


def _function_of(callback: object) -> tuple[object, int]:
    """Find the function behind a callable, and how many of its arguments are bound already."""
    if not hasattr(callback, "__code__") and not isinstance(callback, type):
        callback = cast("Any", callback).__call__
    function: object = getattr(callback, "__func__", callback)
    return function, int(function is not callback)


def _takes_just(code: CodeType, number: int) -> bool:
    """Say whether this is nearly every callback's code, for which nothing else has to be asked."""
    return (
        code.co_argcount == number
        and not code.co_kwonlyargcount
        and not code.co_flags & (_GENERATOR | _ASYNC_GENERATOR)
    )


def why_not_callable(
    callback: object, name: str = "callback", takes: Sequence[str] = ("event", "data")
) -> str | None:
    """Say why something plainly cannot be called with what it has to take, or ``None``."""
    if type(callback) is FunctionType and _takes_just(callback.__code__, len(takes)):
        return None
    found = _code_of(callback)
    if found is None:
        return None
    code, defaults, keyword_defaults, bound = found
    if code.co_flags & (_GENERATOR | _ASYNC_GENERATOR) and not code.co_flags & _ITERABLE_COROUTINE:
        return "is a generator function: it never runs"
    most = code.co_argcount - bound
    required_keywords = code.co_kwonlyargcount > keyword_defaults
    too_few = most < len(takes) and not code.co_flags & _VARARGS
    if most - defaults > len(takes) or too_few or required_keywords:
        return f"cannot be called as {name}({', '.join(takes)})"
    return None
