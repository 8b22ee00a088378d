"""What an observer costs, and what the chance of one costs a chain that has none.

The second is the walk itself against the same walk without its test for observers, made here by
compiling the source of ``call`` without those lines. So that nothing else differs, the walk that
has them is compiled in the same way, into a subclass of its own: both get new code objects, and
that of the unchanged source has to be the bytecode of the original. In this section *bare* is the
walk without the test. Its two forms:

- *plain*: a chain without ``events=`` tests once whether what it shows is *guarded*: a change that
  no call has seen yet, routes, observers, or async blocks on a sync chain. Without that test all of
  these are gone, so the figure is more than what observers cost.
- *events= in use*: behind that test stands another, whether the route is guarded in its turn: not
  made yet, or observed.

A walk without its test would not notice a change, so the chain is opened before it is measured.

`without_test` raises `SourceChangedError` when the source no longer allows this; then the walk and
this module are to be brought together again by hand.
"""

from __future__ import annotations

import ast
import inspect
import sys
from itertools import product
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from tocsin import AtomicChain, Observer, SrcuChain, StatisticsObserver
from tocsin.walk import AsyncCalls, SyncCalls

from .measure import BARE, Candidate, Experiment, make_run, measure
from .subjects import DATA, EVENT, make_bare, make_bare_async, make_callbacks, make_chain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from .measure import Effort, Measurement

ATTACHED, TEST = "observers", "observer test"
SECTION = (ATTACHED, TEST)
BACKENDS = ("asyncio",)  # it is the same on both

PLAIN, IN_USE = "plain", "events= in use"

TESTS: dict[str, dict[str, str]] = {
    "Atomic": {PLAIN: "items.mode", IN_USE: "items.mode or items.table.awaiting"},
    "SRCU": {PLAIN: "mode == GUARDED", IN_USE: "items.mode == GUARDED"},
}
"""The tests that are taken out, as they stand in the source of each kind of walk."""


class SourceChangedError(Exception):
    """The walk is no longer written in the way that this module knows."""


CHAINS: dict[str, type[Any]] = {"Atomic": AtomicChain, "SRCU": SrcuChain}
"""One of each kind of walk, by the name of the candidate."""

CALLS: dict[str, Any] = {"Atomic": SyncCalls.call, "SRCU": AsyncCalls.call}

OBSERVERS: dict[str, Callable[[], Observer | None]] = {
    "unobserved": lambda: None,
    "Observer": Observer,
    "StatisticsObserver": StatisticsObserver,
}
"""Who is attached: nobody, one that does nothing, one that counts."""


async def measurements(effort: Effort) -> AsyncIterator[Measurement]:
    """Measure both."""
    for size, flavour in product([one for one in effort.sizes if one], CHAINS):
        for variant in OBSERVERS:
            for one in await measure(attached(flavour, variant, size), effort):
                yield one
        for variant in TESTS[flavour]:
            for one in await measure(untested(flavour, variant, size), effort):
                yield one


def attached(flavour: str, variant: str, size: int) -> Experiment:
    """Give the experiment on a chain with such an observer."""
    callbacks = _callbacks(flavour, size)
    bare = make_bare_async if _is_async(flavour) else make_bare
    chain = make_chain(flavour, callbacks)
    observer = OBSERVERS[variant]()
    if observer is not None:
        chain.observe(observer)
    candidates = [
        _candidate(BARE, flavour, bare(callbacks)),
        _candidate(flavour, flavour, chain.call),
    ]
    return Experiment(ATTACHED, f"{_form(flavour)}, {variant}", size, candidates)


def untested(flavour: str, variant: str, size: int) -> Experiment:
    """Give the experiment on the walk with and without its test for observers."""
    callbacks = _callbacks(flavour, size)
    candidates: list[Candidate] = []
    for name, call in (
        (BARE, without_test(CALLS[flavour], TESTS[flavour][variant])),
        (flavour, compiled_anew(CALLS[flavour])),
    ):
        kind = type(flavour, (CHAINS[flavour],), {"__slots__": (), "call": call})
        chain = kind("bench")
        for one in callbacks:
            chain.register_nowait(one)
        if variant == IN_USE:
            chain.register_nowait(callbacks[0], events=["another"])
        chain._open(EVENT)
        candidates.append(_candidate(name, flavour, chain.call))
    return Experiment(TEST, f"{_form(flavour)}, {variant}", size, candidates)


def _form(flavour: str) -> str:
    return "async" if _is_async(flavour) else "sync"


def _is_async(flavour: str) -> bool:
    return inspect.iscoroutinefunction(CALLS[flavour])


def _callbacks(flavour: str, size: int) -> list[Callable[..., Any]]:
    return make_callbacks(size, is_async=_is_async(flavour))


def _candidate(name: str, flavour: str, call: Callable[..., Any]) -> Candidate:
    statement = "await call(EVENT, DATA)" if _is_async(flavour) else "call(EVENT, DATA)"
    return Candidate(name, make_run(statement, call=call, EVENT=EVENT, DATA=DATA))


def without_test(function: Any, condition: str) -> FunctionType:
    """Give a function without its one ``if`` of this condition, and without what stands under it.

    Raises `SourceChangedError` when there is none such, or more than one, or an ``else`` with it.
    """
    compiled_anew(function)  # else we would compare with something else
    tree = _parse(function)
    remover = _Remover(condition)
    remover.visit(_find_definition(tree, function))
    if remover.removed != 1:
        raise SourceChangedError(
            f"{function.__qualname__} has {remover.removed} tests `if {condition}:`, not one; "
            f"see `TESTS` in {__name__}"
        )
    return _compile(tree, function)


class _Remover(ast.NodeTransformer):
    """Removes every ``if`` of a condition that has no ``else``, and counts."""

    def __init__(self, condition: str) -> None:
        self._condition = condition
        self.removed = 0

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if ast.unparse(node.test) == self._condition and not node.orelse:
            self.removed += 1
            return None
        return self.generic_visit(node)


def compiled_anew(function: Any) -> FunctionType:
    """Give the same function with a code object of its own, compiled from its source."""
    made = _compile(_parse(function), function)
    if made.__code__.co_code != function.__code__.co_code:
        raise SourceChangedError(
            f"the source of {function.__qualname__} does not give its bytecode when {__name__} "
            f"compiles it, so it cannot be changed there either"
        )
    return made


def _parse(function: Any) -> ast.Module:
    """Parse the whole module: what is imported in it decides how the function is compiled."""
    return ast.parse(inspect.getsource(sys.modules[function.__module__]))


def _find_definition(tree: ast.Module, function: Any) -> ast.AST:
    line = function.__code__.co_firstlineno
    kinds = ast.FunctionDef, ast.AsyncFunctionDef
    [found] = [one for one in ast.walk(tree) if isinstance(one, kinds) and one.lineno == line]
    return found


def _compile(tree: ast.Module, original: Any) -> FunctionType:
    """Compile the module and take one function out of it, to run where the original does."""
    module = compile(tree, inspect.getfile(original), "exec", dont_inherit=True)
    line = original.__code__.co_firstlineno
    [code] = [one for one in _codes(module) if one.co_firstlineno == line]
    return FunctionType(code, original.__globals__, original.__name__, original.__defaults__)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Give the code of all that a module defines, classes and functions in them."""
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield one
            yield from _codes(one)
