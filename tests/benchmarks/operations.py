"""What `compare` compares: the operations of a chain that have to stay quick.

An operation gets the package as an argument, since two versions of it are measured side by side,
and takes everything from there. One that a version cannot do yet raises, in its preparation or in
its first turn, one of the errors of a missing name or option: `NEW` lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .measure import make_run
from .subjects import FLAVOURS, Variant, make_callbacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEW = (AttributeError, ImportError, TypeError)
"""What an operation raises with a version that does not have it."""

SYNC, ASYNC = ("Raw", "Atomic"), ("Blocking", "SRCU")
SIZES = (0, 1, 3, 10, 100)


class Operation(NamedTuple):
    """Some work that two versions of the package can do."""

    name: str
    prepare: Callable[[Any], Callable[[int], object]]
    """Given the package, gives a candidate's ``run``."""


def operations() -> Iterator[Operation]:
    """Give them all, in the order of the table."""
    yield from _dispatches()
    for flavour in (*SYNC, *ASYNC):
        yield _routed(flavour)
        for present in (0, 1000):
            yield _registration(flavour, present)
        for call in ("call_report(event, data)", "call_robust(event, event, data)"):
            yield _statement(flavour, f"chain.{call}")
    for flavour in ASYNC:
        yield _statement(flavour, "chain.call_concurrent(event, data)")


def _dispatches() -> Iterator[Operation]:
    """Give the headline: plain calls."""
    for flavour in (*SYNC, *ASYNC):
        for colour in ("sync", "async") if flavour in ASYNC else ("sync",):
            for result in ("None", "OK"):
                for size in SIZES:
                    yield _dispatch(flavour, colour, result, size)


def _dispatch(flavour: str, colour: str, result: str, size: int) -> Operation:
    def prepare(package: Any) -> Callable[[int], object]:
        variant = Variant(result, "ok" if result == "OK" else result)
        is_async, ok = colour == "async", package.NOTIFY_OK  # each version has an enum of its own
        chain = _filled(package, flavour, make_callbacks(size, variant, is_async=is_async, ok=ok))
        return _run(flavour, "chain.call(event, data)", chain)

    return Operation(f"{flavour}: call of {size} {colour}, {result}", prepare)


def _routed(flavour: str) -> Operation:
    def prepare(package: Any) -> Callable[[int], object]:
        chain = _filled(package, flavour, make_callbacks(100), events="other")
        _add(chain, make_callbacks(3), events="event")
        return _run(flavour, "chain.call(event, data)", chain)

    return Operation(f"{flavour}: call with events=, 3 of 103", prepare)


def _registration(flavour: str, present: int) -> Operation:
    def prepare(package: Any) -> Callable[[int], object]:
        chain = _filled(package, flavour, make_callbacks(present))
        wait = "await " if flavour in ASYNC else ""
        [function] = make_callbacks(1)
        return make_run(
            f"{wait}chain.unregister({wait}chain.register(function))",
            chain=chain,
            function=function,
        )

    return Operation(f"{flavour}: register, unregister, {present} there", prepare)


def _statement(flavour: str, statement: str) -> Operation:
    def prepare(package: Any) -> Callable[[int], object]:
        chain = _filled(package, flavour, make_callbacks(3, is_async=flavour in ASYNC))
        return _run(flavour, statement, chain)

    name = statement.removeprefix("chain.").partition("(")[0]
    return Operation(f"{flavour}: {name} of 3", prepare)


def _run(flavour: str, statement: str, chain: Any) -> Callable[[int], object]:
    wait = "await " if flavour in ASYNC else ""
    return make_run(wait + statement, chain=chain, event="event", data=None)


def _filled(package: Any, flavour: str, functions: Any, **options: Any) -> Any:
    chain = getattr(package, FLAVOURS[flavour].__name__)("bench")
    _add(chain, functions, **options)
    return chain


def _add(chain: Any, functions: Any, **options: Any) -> None:
    register = getattr(chain, "register_nowait", None) or chain.register
    for function in functions:
        register(function, **options)
