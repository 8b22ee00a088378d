"""What is measured: subscribers, the bare loops over them, and Tocsin's chains filled with them.

Each subscriber and each bare loop has a code object of its own, as in a program: the interpreter
adapts code to what it sees, and a thousand closures over one code object would be another case.
The candidates of an experiment share their subscribers where they can, so that memory layout,
which alone moves a ratio by a tenth, is the same for all.
"""

from __future__ import annotations

import asyncio
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

from tocsin import NOTIFY_OK, AtomicChain, BlockingChain, RawChain, SrcuChain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

EVENT = "ordered"
DATA = {"order": 7}

FLAVOURS: dict[str, type[Any]] = {
    "Raw": RawChain,
    "Atomic": AtomicChain,
    "Blocking": BlockingChain,
    "SRCU": SrcuChain,
}
"""Tocsin's candidates by their name in the results; whoever else is not bare is a peer."""


class Variant(NamedTuple):
    """A form of subscriber."""

    name: str
    returns: str
    """An expression for the result."""
    bound: bool = False
    """Whether it is a method, bound to an object of its own."""


NONE = Variant("None", "None")
VARIANTS = (
    NONE,
    Variant("OK", "OK"),
    Variant("0", "0"),
    Variant("bound methods", "None", bound=True),
)
"""The headline, and what is measured beside it."""


def make_callbacks(
    number: int,
    variant: Variant = NONE,
    *,
    parameters: str = "event, data",
    is_async: bool = False,
    body: str = "pass",
    **names: object,
) -> list[Callable[..., Any]]:
    """Make so many subscribers that take ``parameters`` and give what the variant says.

    ``body`` is a statement that they do before, which sees ``names``.
    """
    head = "async def" if is_async else "def"
    parameters = f"self, {parameters}" if variant.bound else parameters
    made: list[Callable[..., Any]] = []
    for index in range(number):
        name = f"subscriber_{index}"
        source = f"{head} {name}({parameters}):\n    {body}\n    return {variant.returns}\n"
        function = _compile(source, name, OK=NOTIFY_OK, **names)
        made.append(MethodType(function, _Owner()) if variant.bound else function)
    return made


class _Owner:
    """What a bound method is bound to; weakly referable, which some peers need."""


_BARE = """
{async_}def bare(event, data):
    for f in fns:
        r = {await_}f(event, data)
        if r is not None and r & 0x8000:
            break
"""


def make_bare(callbacks: Iterable[Callable[..., Any]]) -> Callable[[Any, Any], None]:
    """Give the loop that a careful user would write by hand over sync callbacks."""
    return _compile(_BARE.format(async_="", await_=""), "bare", fns=tuple(callbacks))


def make_bare_async(callbacks: Iterable[Callable[..., Any]]) -> Callable[[Any, Any], Any]:
    """Give the same for async callbacks."""
    return _compile(_BARE.format(async_="async ", await_="await "), "bare", fns=tuple(callbacks))


def make_bare_over_sync(callbacks: Iterable[Callable[..., Any]]) -> Callable[[Any, Any], Any]:
    """Give the same for sync callbacks that are called from async code: awaited, but no more."""
    return _compile(_BARE.format(async_="async ", await_=""), "bare", fns=tuple(callbacks))


def _compile(source: str, name: str, **names: object) -> Callable[..., Any]:
    space: dict[str, Any] = dict(names)
    exec(source, space)
    return space[name]  # type: ignore[no-any-return]


def make_chain(flavour: str, callbacks: Iterable[Callable[..., Any]], **options: Any) -> Any:
    """Give a chain of a flavour of `FLAVOURS` with the callbacks on it, each with ``options``."""
    chain = FLAVOURS[flavour]("bench")
    for one in callbacks:
        chain.register_nowait(one, **options)
    return chain


def on_backend(variant: str) -> str:
    """Give a variant's name in the results: on trio it begins with ``trio, ``."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return f"trio, {variant}"
    return variant
