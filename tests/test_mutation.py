"""What is published of the mutants that survive: each stands there, and is one still."""

from __future__ import annotations

import re
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SURVIVORS = (ROOT / "tests" / "mutation" / "survivors.txt").read_text(encoding="utf-8").splitlines()
CONFIG = tomllib.loads((ROOT / "tests" / "mutation" / "config.toml").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "explanation" / "mutation.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)\.py` \| (\d+) \| (\d+) \| (\d+) \| .+ \| (\w+) \|$", re.MULTILINE)


def test_every_mutant_that_survives_is_explained_and_no_other() -> None:
    listed = [line for line in PAGE.splitlines() if ": " in line and " -> " in line]
    assert sorted(listed) == sorted(SURVIVORS)
    assert len(set(SURVIVORS)) == len(SURVIVORS)


def test_the_figures_are_of_the_modules_as_they_are() -> None:
    rows = ROW.findall(PAGE)
    assert [name for name, *_ in rows] == CONFIG["modules"]
    sources = {name: (ROOT / "src" / "tocsin" / f"{name}.py").read_bytes() for name, *_ in rows}
    now = {name: sha256(source).hexdigest()[:12] for name, source in sources.items()}
    stale = [name for name, *_, then in rows if then != now[name]]
    assert stale == [], f"try their mutants anew: make mutants ARGS={' '.join(stale)!r}"
    figures = [sum(int(row[place]) for row in rows) for place in (1, 2, 3)]
    rate = f"{100 * figures[1] / figures[0]:.1f}"
    assert f"| **all** | {' | '.join(map(str, figures))} | {rate} % | |" in PAGE
    assert figures[2] == len(SURVIVORS)
    assert float(rate) >= CONFIG["enough"]


@pytest.mark.parametrize("survivor", SURVIVORS)
def test_what_a_survivor_changes_is_still_in_its_module(survivor: str) -> None:
    module, _, was = survivor.partition(": ")
    _, _, was = was.partition(": ")
    source = (ROOT / "src" / "tocsin" / f"{module}.py").read_text(encoding="utf-8")
    lines = [line.split("  #")[0].strip() for line in source.splitlines()]
    assert was.partition(" -> ")[0] in " ".join(lines)
