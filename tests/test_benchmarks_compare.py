"""Comparing two versions of the package: a loss is found, and nothing else is."""

from __future__ import annotations

import ast
import math
import shutil
import subprocess
from threading import Event, Thread
from time import sleep
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import tocsin

from .benchmarks import compare, versus
from .benchmarks.compare import Comparison
from .benchmarks.instructions import Counter
from .benchmarks.operations import operations
from .benchmarks.versus import Costs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

PACKAGE = compare.ROOT / compare.PACKAGE


def copy_package(root: Path) -> Path:
    there = root / compare.PACKAGE
    shutil.copytree(PACKAGE, there, ignore=shutil.ignore_patterns("__pycache__"))
    return there


def plant(package: Path) -> None:
    """Have each call of the walk do some useless thing first."""
    walk = package / "walk.py"
    tree = ast.parse(walk.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "call":
            node.body[:0] = ast.parse("id(self)").body
    walk.write_text(ast.unparse(ast.fix_missing_locations(tree)), "utf-8")


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own, with the package committed."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message=nothing")
    copy_package(tmp_path)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=the package")
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    return tmp_path


def bench_compare(revision: str, *options: str) -> Result:
    """Run the command, quickly: times are taken, and no time is too long."""
    quick = ("--processes=1", "--rounds=1", f"--time-threshold={math.inf}")
    return CliRunner().invoke(compare.main, [revision, *quick, *options])


def test_the_same_source_executes_exactly_as_many_instructions() -> None:
    found = compare.in_a_process(versus.count, (PACKAGE, PACKAGE), "")
    assert len(found) == len(list(operations()))
    assert {name: costs for name, costs in found.items() if costs.ratio != 1} == {}


def test_a_statement_more_in_the_walk_is_found(checkout: Path) -> None:
    unchanged = bench_compare("HEAD", "--only=call of 3 sync, OK")
    assert (unchanged.exit_code, "grew" in unchanged.output) == (0, False)
    plant(checkout / compare.PACKAGE)
    changed = bench_compare("HEAD", "--only=call of 3 sync, OK")
    assert changed.exit_code == 1
    rows = [line for line in changed.output.splitlines() if "call of 3 sync, OK" in line]
    assert [row.split()[-1] for row in rows] == ["grew"] * 4
    assert "Error: 4 of 4 operations cost more than before" in changed.output


def test_a_statement_more_is_forgiven_by_a_higher_threshold(checkout: Path) -> None:
    plant(checkout / compare.PACKAGE)
    assert bench_compare("HEAD", "--only=Raw: call of 3", "--threshold=50").exit_code == 0


def test_what_the_old_version_cannot_do_is_new(checkout: Path) -> None:
    front = checkout / compare.PACKAGE / "__init__.py"
    text = front.read_text("utf-8")
    front.write_text(
        text.replace("AtomicChain", "OtherChain").replace(
            "chains import Other", "chains import Atomic"
        ),
        "utf-8",
    )
    git(checkout, "commit", "--quiet", "--all", "--message=without")
    front.write_text(text, "utf-8")
    found = bench_compare("HEAD", "--only=Atomic: call of 3")
    rows = [line for line in found.output.splitlines() if "Atomic: call of 3" in line]
    assert [(row.split()[-1], "1.00" in row) for row in rows] == [("new", False)] * 2
    assert found.exit_code == 0


@pytest.mark.parametrize(
    ("revision", "says"),
    [
        ("no-such", "'no-such' is no revision of this checkout"),
        ("--help-me", "'--help-me' is no revision of this checkout"),
        ("HEAD~1", "revision 'HEAD~1' has no src/tocsin"),
    ],
)
def test_a_revision_that_cannot_be_taken_out_is_one_clear_line(
    checkout: Path, revision: str, says: str
) -> None:
    found = CliRunner().invoke(compare.main, ["--", revision])
    assert found.exit_code == 2
    assert found.output.startswith(f"Error: {says}")
    assert found.output.count("\n") == 1


def test_without_a_checkout_there_is_nothing_to_compare_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    found = CliRunner().invoke(compare.main, ["HEAD"])
    assert found.exit_code == 2
    assert found.output == "Error: this is no git checkout, so there is no old version\n"
    monkeypatch.setenv("PATH", "")
    assert CliRunner().invoke(compare.main, ["HEAD"]).output == found.output


@pytest.mark.parametrize(
    ("instructions", "seconds", "says"),
    [
        (Costs(100, 103), Costs(1, 1.1), ""),
        (Costs(100, 104), Costs(1, 1), "grew"),
        (Costs(100, 100), Costs(1, 1.11), "slower"),
        (Costs(100, 104), Costs(1, 1.11), "grew, slower"),
        (Costs(None, 104), Costs(None, 1), "new"),
        (Costs(100, 50), Costs(1, 0.5), ""),
    ],
)
def test_what_grew_past_its_threshold_is_worse(
    instructions: Costs, seconds: Costs, says: str
) -> None:
    assert Comparison("x", instructions, seconds).verdict(3, 10) == says


def test_on_a_narrow_terminal_one_sees_what_grew() -> None:
    names = [one.name for one in operations()]
    found = [Comparison(one, Costs(1234, 2345), Costs(1.234e-3, 2.345e-3)) for one in names]
    console = Console(width=80, color_system=None)
    with console.capture() as written:
        console.print(compare.table_of(found, ["grew, slower"] * len(found), "title"))
    assert written.get().count("grew, slower") == len(found)
    assert "…" not in written.get()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--only=no such operation", "no operation's name contains that"),
        ("--processes=0", "0 is not in the range"),
        ("--rounds=0", "0 is not in the range"),
    ],
)
def test_an_option_that_leaves_nothing_to_do_is_an_error_of_its_own(option: str, says: str) -> None:
    found = CliRunner().invoke(compare.main, ["HEAD", option])
    assert found.exit_code == 2
    assert says in found.output


def test_only_the_thread_that_counts_is_counted() -> None:
    stopped = Event()

    def spin() -> None:
        while not stopped.is_set():
            pass

    other = Thread(target=spin)
    other.start()
    counter = Counter()
    with counter.counting():
        for _ in range(3):
            sleep(0.01)  # meanwhile the other one runs
    stopped.set()
    other.join()
    assert counter.instructions < 100


def test_the_process_that_treated_the_new_version_best_counts() -> None:
    assert compare.best_of([Costs(1, 1.2), Costs(3, 3.3), Costs(2, 2.5)]) == Costs(3, 3.3)
    assert compare.best_of([Costs(None, 2), Costs(None, 1)]) == Costs(None, 1)


async def test_every_operation_runs_and_an_old_version_may_lack_it() -> None:
    for operation in operations():
        old, new = await versus.candidates_of(operation, SimpleNamespace(), tocsin)
        assert (old, new.name) == (None, versus.TREE)


def test_no_two_operations_share_a_name() -> None:
    names = [one.name for one in operations()]
    assert len(set(names)) == len(names)


def absolute_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def test_the_package_never_imports_itself_by_its_absolute_name() -> None:
    """So that two versions of it can be loaded under other names and do not mix."""
    names = {
        name.partition(".")[0] for one in PACKAGE.glob("*.py") for name in absolute_imports(one)
    }
    assert "anyio" in names
    assert "tocsin" not in names
