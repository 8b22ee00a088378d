"""Measures two versions of the package side by side, in one process.

Both are loaded from their directories under names of their own, by the same path, so that nothing
differs between them but their source. That works because the package never imports itself by its
absolute name; a test says so.
"""

from __future__ import annotations

import random
import sys
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NamedTuple

from .instructions import instructions_of
from .measure import Candidate, Effort, Experiment, measure
from .operations import NEW, Operation, operations

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BASE, TREE = "tocsin_base", "tocsin_tree"


class Costs(NamedTuple):
    """What a turn of an operation costs the two versions; nothing for one that lacks it."""

    base: float | None
    tree: float

    @property
    def ratio(self) -> float | None:
        """New to old."""
        return None if self.base is None else self.tree / self.base


def load(name: str, directory: Path) -> Any:
    """Import the package in a directory under another name."""
    spec = spec_from_file_location(
        name, directory / "__init__.py", submodule_search_locations=[str(directory)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = package = module_from_spec(spec)
    spec.loader.exec_module(package)
    return package


def load_both(directories: tuple[Path, Path]) -> tuple[Any, Any]:
    """Import both, in an order of chance, as it decides where they lie in memory."""
    pairs = list(zip((BASE, TREE), directories, strict=True))
    random.shuffle(pairs)
    loaded = {name: load(name, directory) for name, directory in pairs}
    return loaded[BASE], loaded[TREE]


async def count(directories: tuple[Path, Path], only: str) -> dict[str, Costs]:
    """Give the bytecode instructions of each operation whose name contains ``only``."""
    base, tree = load_both(directories)
    found: dict[str, Costs] = {}
    for one in _chosen(only):
        candidates = await candidates_of(one, base, tree)
        old, new = [await instructions_of(each) if each else None for each in candidates]
        assert new is not None
        found[one.name] = Costs(old, new)
    return found


async def clock(directories: tuple[Path, Path], only: str, effort: Effort) -> dict[str, Costs]:
    """Give the seconds of each operation whose name contains ``only``."""
    base, tree = load_both(directories)
    found: dict[str, Costs] = {}
    for one in _chosen(only):
        candidates = [each for each in await candidates_of(one, base, tree) if each]
        measured = await measure(Experiment(one.name, "", 0, candidates), effort)
        times = {each.candidate: each.value for each in measured}
        found[one.name] = Costs(times.get(BASE), times[TREE])
    return found


def _chosen(only: str) -> Sequence[Operation]:
    return [one for one in operations() if only.casefold() in one.name.casefold()]


async def candidates_of(
    operation: Operation, base: Any, tree: Any
) -> tuple[Candidate | None, Candidate]:
    """Make an operation's candidates, each after a first turn that shows whether it can do it."""
    try:
        old = await _candidate(BASE, operation, base)
    except NEW:
        old = None
    return old, await _candidate(TREE, operation, tree)


async def _candidate(name: str, operation: Operation, package: Any) -> Candidate:
    run = operation.prepare(package)
    made = run(1)
    if isawaitable(made):
        await made
    return Candidate(name, run)
