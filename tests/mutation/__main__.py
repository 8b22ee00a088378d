"""``make mutants``: which changes of the walk, the locks and the filter does no test notice?

Each test is run once to see which lines it runs. A mutant is tried with the tests that run its
statement, those first that killed others lately. What has been found is kept in ``build/mutants``
until the package or its tests change, so that a run can be broken off and taken up again.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import sys
import time
import tomllib
from collections import Counter, deque
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from .mutants import Mutant, find_mutants
from .trials import ROOT, SOURCE, Known, fork, run, survey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

HERE = Path(__file__).parent
CONFIG = tomllib.loads((HERE / "config.toml").read_text(encoding="utf-8"))
FILES = [f"tests/test_{name}.py" for name in CONFIG["tests"]]
COUNTING = f"tests/test_{CONFIG['counting']}.py"
WORK = ROOT / "build" / "mutants"
SURVIVORS = HERE / "survivors.txt"
"""The mutants that are known to survive; ``docs/explanation/mutation.md`` says why each does."""


class Verdict(NamedTuple):
    """What became of a mutant."""

    key: str
    outcome: str
    """``survived``, ``killed``, ``timeout``, or ``broken`` when not even an import succeeds."""
    by: str
    """The test that failed, if one did."""
    seconds: float


class Suite:
    """The tests, and the order in which to try them on a mutant."""

    def __init__(self, tests: Iterable[Known]) -> None:
        numbers: Counter[str] = Counter()
        numbered = []
        for test in tests:
            numbers[function := test.name.partition("[")[0]] += 1
            numbered.append((numbers[function], test.seconds, test))
        # What is alike but for its parameters mostly kills alike: one of each, then another one.
        self.all = [test for _, _, test in sorted(numbered, key=lambda one: one[:2])]
        self._counting = [test for test in self.all if test.name.startswith(COUNTING)]
        self._killers: deque[str] = deque(maxlen=300)

    def killed_by(self, name: str) -> None:
        """Try this one early from now on."""
        with suppress(ValueError):
            self._killers.remove(name)
        self._killers.appendleft(name)

    def of(self, mutant: Mutant) -> list[Known]:
        """Give the tests that run the mutant's statement, or at least its surroundings."""
        running = [(test, test.lines.get(mutant.module, ())) for test in self.all]
        for lines in (mutant.lines, mutant.body):
            chosen = [test for test, ran in running if not lines.isdisjoint(ran)]
            if chosen:
                break
        else:
            chosen = [test for test, ran in running if ran]
        rank = {name: rank for rank, name in enumerate(self._killers)}
        chosen.sort(key=lambda test: rank.get(test.name, len(rank)))
        if mutant.key in known_survivors():
            del chosen[CONFIG["most"] :]
        return [*chosen, *(self._counting if mutant.module == CONFIG["counted"] else ())]


class Trial:
    """A mutant on its way through the tests."""

    def __init__(self, mutant: Mutant, tests: Sequence[Known]) -> None:
        self.mutant = mutant
        self._started = time.monotonic()
        self._left = [part for part in (tests[: CONFIG["first"]], tests[CONFIG["first"] :]) if part]

    def start(self, told: Path) -> int:
        """Try the next tests in a child; give its id."""
        return fork(partial(run, self._left.pop(0), self.mutant.module, self.mutant.source), told)

    def judge(self, status: int, failed: Sequence[str]) -> Verdict | None:
        """Say what became of the mutant, or nothing when there are tests left to try."""
        if not status and self._left:
            return None
        if status == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise RuntimeError(f"not one test was collected for {self.mutant.key}")
        seconds = round(time.monotonic() - self._started, 2)
        if not status:
            return Verdict(self.mutant.key, "survived", "", seconds)
        if failed:
            return Verdict(self.mutant.key, "killed", failed[0], seconds)
        return Verdict(self.mutant.key, "timeout" if status == 1 else "broken", "", seconds)


def wait() -> tuple[int, int]:
    """Wait for a child to end; give its id and status, leaving none of its own behind."""
    child, status = os.wait()
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return child, os.waitstatus_to_exitcode(status)


def read(told: Path) -> list[Any]:
    """Give what a child told."""
    return [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]


def try_all(mutants: Iterable[Mutant], tests: Suite, workers: int) -> Iterator[Verdict]:
    """Give the verdict on each mutant, so many of them being tried at a time."""
    queue = deque(mutants)
    free = [WORK / f"trial.{number}" for number in range(workers)]
    running: dict[int, tuple[Trial, Path]] = {}
    while queue or running:
        while queue and free:
            mutant, told = queue.popleft(), free.pop()
            trial = Trial(mutant, tests.of(mutant))
            running[trial.start(told)] = trial, told
        child, status = wait()
        trial, told = running.pop(child)
        verdict = trial.judge(status, failed := read(told))
        if verdict is None:
            running[trial.start(told)] = trial, told
            continue
        free.append(told)
        for name in failed:
            tests.killed_by(name)
        yield verdict


def survey_all(workers: int) -> list[Known]:
    """Run the tests on the package as it is, and give what was found out about them."""
    told = [WORK / f"survey.{number}" for number in range(workers)]
    for number, path in enumerate(told):
        fork(partial(survey, FILES[number::workers], CONFIG["modules"]), path)
    _succeed(workers)
    return [Known(*one) for path in told for one in read(path)]


def check_control(tests: Suite, workers: int) -> None:
    """Have every test pass in a trial whose mutant is none."""
    source = (SOURCE / "walk.py").read_text(encoding="utf-8")
    for number in range(workers):
        fork(partial(run, tests.all[number::workers], "walk", source), WORK / f"control.{number}")
    _succeed(workers)


def _succeed(workers: int) -> None:
    statuses = [wait()[1] for _ in range(workers)]  # of all, or one is left running
    if any(statuses):
        raise SystemExit(f"a test fails on the package as it is, or takes too long: see {WORK}")


class Record:
    """What has been found out, kept from one run to the next while package and tests are alike."""

    def __init__(self, *, again: bool) -> None:
        WORK.mkdir(parents=True, exist_ok=True)
        self._path = WORK / "verdicts"
        state = _state()
        found, *lines = read(self._path) if self._path.exists() else [""]
        kept = [Verdict(*line) for line in lines] if again or found == state else []
        if again:
            kept = [one for one in kept if one.outcome != "survived"]
        self.verdicts = {one.key: one for one in kept}
        with self._path.open("w", encoding="utf-8") as file:
            for line in (state, *kept):
                print(json.dumps(line), file=file)

    def add(self, verdict: Verdict) -> None:
        self.verdicts[verdict.key] = verdict
        with self._path.open("a", encoding="utf-8") as file:
            print(json.dumps(verdict), file=file)


@cache
def known_survivors() -> frozenset[str]:
    """Give the keys of the mutants that are known to survive."""
    return frozenset(SURVIVORS.read_text(encoding="utf-8").splitlines())


def _state() -> str:
    """Give what changes when the package or a test does."""
    folders = (SOURCE, ROOT / "tests", HERE)
    paths = [HERE / "config.toml", *(one for folder in folders for one in folder.glob("*.py"))]
    return sha256(b"".join(path.read_bytes() for path in sorted(paths))).hexdigest()


def digest(module: str) -> str:
    """Give what changes when the source of a module does."""
    return sha256((SOURCE / f"{module}.py").read_bytes()).hexdigest()[:12]


def report(mutants: Sequence[Mutant], verdicts: Mapping[str, Verdict]) -> bool:
    """Print the figures, as the page has them, and the survivors; say if enough were killed."""
    for module in (*dict.fromkeys(one.module for one in mutants), "all"):
        found = [verdicts[one.key] for one in mutants if module in (one.module, "all")]
        killed = sum(one.outcome != "survived" for one in found)
        rate = 100 * killed / len(found)
        figures = f"{len(found)} | {killed} | {len(found) - killed} | {rate:.1f} %"
        if module == "all":
            print(f"| **all** | {figures} | |")
        else:
            print(f"| `{module}.py` | {figures} | {digest(module)} |")
    counts = Counter(verdicts[one.key].outcome for one in mutants)
    print(", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items())))
    known = known_survivors()
    alive = {one.key for one in mutants if verdicts[one.key].outcome == "survived"}
    gone = {one for one in known if one.partition(":")[0] in {one.module for one in mutants}}
    for title, keys in (("not yet explained", alive - known), ("killed by now", gone - alive)):
        for key in sorted(keys):
            print(f"{title}: {key}")
    return bool(rate >= CONFIG["enough"])


def main() -> int:
    """Run the command; give its status."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument(
        "modules", nargs="*", default=CONFIG["modules"], help="of the package; all of them"
    )
    parser.add_argument("--workers", type=int, default=2, help="trials at a time (2)")
    parser.add_argument(
        "--again",
        action="store_true",
        help="try only what no test has killed yet, whatever changed",
    )
    options = parser.parse_args()
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(WORK / "bytecode")
    for name in CONFIG["warm"]:
        importlib.import_module(name)
    record = Record(again=options.again)
    started = time.monotonic()
    tests = Suite(survey_all(options.workers))
    check_control(tests, options.workers)
    print(f"{len(tests.all)} tests, surveyed in {time.monotonic() - started:.0f} s", flush=True)
    mutants = [mutant for name in options.modules for mutant in find_mutants(SOURCE / f"{name}.py")]
    left = [mutant for mutant in mutants if mutant.key not in record.verdicts]
    for number, verdict in enumerate(try_all(left, tests, options.workers), 1):
        record.add(verdict)
        if verdict.outcome == "survived":
            print(f"survived: {verdict.key}", flush=True)
        elif number % 100 == 0:
            print(f"{number} of {len(left)}, {time.monotonic() - started:.0f} s", flush=True)
    print(f"Python {platform.python_version()}, {time.monotonic() - started:.0f} s")
    return 0 if report(mutants, record.verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
