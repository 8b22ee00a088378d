"""One trial: the tests on a package of which one module is changed, in a process of its own.

Whoever starts trials has imported everything but the package and its tests, and forks. The child
imports these afresh, the changed module through a finder, so that whatever the package makes of a
module at import is made of the changed one; nothing is written to the working tree.

A test that takes too long ends the process. So does one that wants too much memory: it fails.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
import traceback
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType

    from coverage import Coverage

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "tocsin"
MEMORY = 2 << 30
"""Bytes that a trial may take."""
PATIENCE = 5.0
"""Seconds that a test may take beyond five times its usual; four times as many to begin at all."""
OPTIONS = [
    "-qq",
    "--exitfirst",
    "--tb=no",
    "--assert=plain",  # nobody reads what an assertion says
    "--rootdir",
    str(ROOT),
    *("-p", "no:faulthandler"),
    *("-p", "no:cov"),
    # Whether it raises anything else depends on the depth at which it is started.
    *("-k", "not unbounded_recursion"),
    # What is warm has been imported already. This is no question that a mutant answers.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
]


class Known(NamedTuple):
    """What is known about a test before the trials."""

    name: str
    seconds: float
    lines: dict[str, list[int]]
    """The lines that it runs, by module."""


class _Changed(SourceFileLoader):
    """Loads a module from a source that is not in its file; no bytecode is kept."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        made: CodeType = compile(self._source, self.path, "exec", dont_inherit=True)
        return made


class _Finder:
    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = f"tocsin.{name}", source
        self.path = str(SOURCE / f"{name}.py")

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != self.name:
            return None
        return spec_from_file_location(name, loader=_Changed(name, self.path, self.source))


class _Chosen:
    """The plugin that runs the chosen tests alone, in their order, and tells which one failed."""

    def __init__(self, tests: Sequence[Known], tell: Callable[[object], None]) -> None:
        self._rank = {test.name: rank for rank, test in enumerate(tests)}
        self._seconds = {test.name: test.seconds for test in tests}
        self._functions = {test.name.partition("[")[0] for test in tests}
        self._tell = tell

    def pytest_pycollect_makeitem(
        self, collector: pytest.Module, name: str, obj: object
    ) -> list[pytest.Item] | None:
        """Leave the functions that are not wanted without their parameters: that takes long."""
        return None if f"{collector.nodeid}::{name}" in self._functions else []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self._rank]
        items.sort(key=lambda item: self._rank[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        faulthandler.dump_traceback_later(PATIENCE + 5 * self._seconds[nodeid], exit=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._tell(report.nodeid)


def run(tests: Sequence[Known], module: str, source: str, tell: Callable[[object], None]) -> int:
    """Run these tests, in this order, on a changed module; give pytest's status."""
    _isolate()
    sys.meta_path.insert(0, _Finder(module, source))
    files = dict.fromkeys(test.name.partition("::")[0] for test in tests)
    return int(pytest.main([*OPTIONS, *files], plugins=[_Chosen(tests, tell)]))


def _isolate() -> None:
    """Keep what a test does to the process away from whoever started it."""
    os.setsid()
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.dump_traceback_later(4 * PATIENCE, exit=True)


class _Surveyor:
    """The plugin that finds out what each test takes and which lines it runs."""

    def __init__(self, coverage: Coverage, tell: Callable[[object], None]) -> None:
        self._coverage = coverage
        self._tell = tell
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        faulthandler.dump_traceback_later(12 * PATIENCE, exit=True)
        self._coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._tell(report.nodeid)
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


def survey(files: Sequence[str], modules: Sequence[str], tell: Callable[[object], None]) -> int:
    """Run all tests of these files on the package as it is, and tell about each; give a status."""
    from coverage import Coverage

    _isolate()
    paths = {name: str(SOURCE / f"{name}.py") for name in modules}
    coverage = Coverage(data_file=None, config_file=False, include=list(paths.values()))
    surveyor = _Surveyor(coverage, tell)
    coverage.start()
    status = pytest.main([*OPTIONS, *files], plugins=[surveyor])
    coverage.stop()
    lines: dict[str, dict[str, list[int]]] = {name: {} for name in surveyor.seconds}
    for module, path in paths.items():
        for line, names in coverage.get_data().contexts_by_lineno(path).items():
            for name in filter(None, names):
                lines[name].setdefault(module, []).append(line)
    for name, taken in surveyor.seconds.items():
        tell(Known(name, taken, lines[name]))
    return int(status)


def fork(work: Callable[[Callable[[object], None]], int], told: Path) -> int:
    """Do some work in a child; give its id. What it tells stands in a file, in a line each."""
    if child := os.fork():
        return child
    status = 70  # none of pytest's
    try:
        with told.open("w", encoding="utf-8") as file:
            status = work(lambda what: print(json.dumps(what), file=file, flush=True))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
