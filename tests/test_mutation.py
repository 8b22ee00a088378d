"""What is published of the mutants that survive: each stands there, and is one still."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SURVIVORS = (ROOT / "tests" / "mutation" / "survivors.txt").read_text(encoding="utf-8").splitlines()
PAGE = (ROOT / "docs" / "explanation" / "mutation.md").read_text(encoding="utf-8")


def test_every_mutant_that_survives_is_explained_and_no_other() -> None:
    listed = [line for line in PAGE.splitlines() if ": " in line and " -> " in line]
    assert sorted(listed) == sorted(SURVIVORS)
    assert len(set(SURVIVORS)) == len(SURVIVORS)


@pytest.mark.parametrize("survivor", SURVIVORS)
def test_what_a_survivor_changes_is_still_in_its_module(survivor: str) -> None:
    module, _, was = survivor.partition(": ")
    _, _, was = was.partition(": ")
    source = (ROOT / "src" / "tocsin" / f"{module}.py").read_text(encoding="utf-8")
    lines = [line.split("  #")[0].strip() for line in source.splitlines()]
    assert was.partition(" -> ")[0] in " ".join(lines)
