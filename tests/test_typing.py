"""Type checkers accept what is right and refuse what is wrong, line by line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "typing"
MYPY = "mypy --strict --config-file= --no-color-output --no-error-summary"
EXPECTED = re.compile(r"# E: (?P<code>[a-z-]+)$")
REPORTED = re.compile(r"^(?P<file>.+?):(?P<line>\d+): error: .*\[(?P<code>[a-z-]+)\]$")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[tuple[int, str]]]:
    """Give mypy's errors, as line and code, of each file."""
    place = tmp_path_factory.mktemp("typing")
    for one in HERE.iterdir():
        if one.suffix in {".py", ".txt"}:
            (place / one.name.removesuffix(".txt")).write_text(one.read_text())
    command = f"{MYPY} --cache-dir=cache --python-executable".split()
    ran = subprocess.run(
        [sys.executable, "-m", *command, sys.executable, "accepted.py", "rejected.py"],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stderr == ""
    errors: dict[str, set[tuple[int, str]]] = {"accepted.py": set(), "rejected.py": set()}
    for line in ran.stdout.splitlines():
        found = REPORTED.match(line)
        if found is not None:
            errors[Path(found["file"]).name].add((int(found["line"]), found["code"]))
        else:
            assert ": note: " in line, line
    return errors


def test_what_is_right_is_accepted(reported: dict[str, set[tuple[int, str]]]) -> None:
    assert reported["accepted.py"] == set()


def test_what_is_wrong_is_rejected_there_and_nowhere_else(
    reported: dict[str, set[tuple[int, str]]],
) -> None:
    lines = (HERE / "rejected.py.txt").read_text().splitlines()
    expected = {
        (number, found["code"])
        for number, line in enumerate(lines, 1)
        if (found := EXPECTED.search(line)) is not None
    }
    assert len(expected) > 40
    assert reported["rejected.py"] == expected
