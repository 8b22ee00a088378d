"""The pages are true: every block of code runs, on both backends, and prints what the page shows.

How a page is written, and what is done with it:

- The ``python`` blocks of a page run in order in one namespace. ``anyio.run`` is given the backend.
  What a block prints stands in the ``text`` block behind it; a block that prints has to have one.
- ``python file=NAME`` is written to a file of that name instead, for the commands of the page.
- In a ``console`` block the lines with ``$`` are run by a shell, next to those files; the lines
  behind each are what it prints, stderr included. ``tocsin run`` is given the backend.
- ``...`` in shown output stands for anything.
- ``python not-run``, ``sh`` and ``toml`` blocks are for the reader alone, and counted here.
"""

from __future__ import annotations

import io
import os
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stdout
from doctest import ELLIPSIS, OutputChecker
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
NOT_RUN = {
    "README.md": 2,
    "CONTRIBUTING.md": 7,
    "docs/explanation/mutation.md": 1,
    "docs/how-to/web.md": 1,
    "docs/how-to/plugins.md": 1,
    "docs/index.md": 1,
    "docs/how-to/programs.md": 2,
    "docs/reference/command-line.md": 1,
    "docs/tutorial/first-chain.md": 1,
}
PYTEST = "-p no:hypothesispytest"  # whose import would take longer than the page
RULES = [f"D{number}" for number in range(1, 17)]


class Block(NamedTuple):
    """One fenced block of a page."""

    kind: str
    info: str
    text: str
    line: int

    @property
    def is_run(self) -> bool:
        return self.kind == "console" or (self.kind == "python" and self.info != "not-run")


def blocks_of(markdown: str) -> Iterator[Block]:
    fence = re.compile(r"^```(\w*) ?(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
    for found in fence.finditer(markdown):
        kind, info, text = found.groups()
        yield Block(kind, info, text, markdown.count("\n", 0, found.start()) + 1)


def check_output(shown: str, printed: str, place: str) -> None:
    if not OutputChecker().check_output(shown, printed, ELLIPSIS):
        assert printed == shown, place


class Reader:
    """Does what a page says, as a reader would, with one backend."""

    def __init__(self, page: Path, backend: str) -> None:
        self.page = page
        self.backend = backend
        self.namespace: dict[str, Any] = {"__name__": "__main__"}

    def run(self) -> None:
        blocks = list(blocks_of(self.page.read_text("utf-8")))
        for number, block in enumerate(blocks):
            behind = blocks[number + 1 : number + 2]
            if block.is_run:
                self.take(block, "".join(one.text for one in behind if one.kind == "text"))

    def take(self, block: Block, shown: str) -> None:
        if block.kind == "console":
            self.run_commands(block)
        elif block.info:
            Path(block.info.removeprefix("file=")).write_text(block.text, "utf-8")
        else:
            check_output(shown, self.run_python(block), f"{self.page}:{block.line}")

    def run_python(self, block: Block) -> str:
        source = "\n" * block.line + block.text  # so that a traceback shows the line of the page
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(source, self.page, "exec", dont_inherit=True), self.namespace)
        return printed.getvalue()

    def run_commands(self, block: Block) -> None:
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            place = f"{self.page}:{block.line}: {command}"
            check_output(shown, self.run_command(command), place)

    def run_command(self, command: str) -> str:
        if "--backend" not in command:
            command = command.replace("tocsin run", f"tocsin run --backend {self.backend}")
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": path, "PYTHONWARNINGS": "error", "PYTEST_ADDOPTS": PYTEST},
            text=True,
            timeout=60,
        )
        return done.stdout


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_a_page_shows_is_what_happens(
    page: Path, backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(anyio, "run", partial(anyio.run, backend=backend))
    monkeypatch.setattr(os, "environ", os.environ.copy())  # a page may set variables
    Reader(page, backend).run()


def test_blocks_that_are_not_run_are_few_and_known() -> None:
    found = {
        name: sum(
            not block.is_run and block.kind not in {"text", "mermaid"}
            for block in blocks_of(page.read_text("utf-8"))
        )
        for name, page in zip(NAMES, PAGES, strict=True)
    }
    assert {name: count for name, count in found.items() if count} == NOT_RUN


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for there, anchor in links_of(page):
        assert there.exists(), f"{page}: {there}"
        assert not anchor or anchor in anchors_of(there), f"{page}: {there}#{anchor}"


def prose_of(page: Path) -> str:
    """Give a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def links_of(page: Path) -> Iterator[tuple[Path, str]]:
    """Give the files, and the places in them, to which a page links."""
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", prose_of(page)):
        if "://" not in target:
            yield (page.parent / target).resolve() if target else page, anchor


def anchors_of(page: Path) -> set[str]:
    """Give the anchors of a page's headings, made as code hosts make them; a file has its tests."""
    if page.suffix == ".py":
        return set(re.findall(r"^(?:async )?def (test_\w+)", page.read_text("utf-8"), re.MULTILINE))
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_whatever_tocsin_claims_beside_its_peers_is_linked_to_a_test() -> None:
    text = (ROOT / "docs/explanation/peers.md").read_text("utf-8")
    rows = re.findall(r"^\| (?!\||---)(.*) \|$", text, re.MULTILINE)
    ours = {cells[0]: cells[-1] for cells in (row.split(" | ") for row in rows)}
    assert len(ours) > 30
    proved = re.compile(r"\]\([^)#]+\.py#test_|^no\b.+")
    assert [name for name, cell in ours.items() if not proved.search(cell)] == []


def test_every_page_of_the_documentation_is_linked_from_its_index() -> None:
    index = ROOT / "docs/index.md"
    linked = {there for there, _ in links_of(index)}
    assert {page for page in PAGES if page.is_relative_to(index.parent)} <= linked | {index}


def test_the_contract_page_has_every_rule_in_order() -> None:
    text = (ROOT / "docs/reference/contract.md").read_text("utf-8")
    assert re.findall(r"^## (D\d+)\b", text, re.MULTILINE) == RULES


def test_every_rule_is_cited_by_a_test_in_the_file_to_which_the_contract_page_links() -> None:
    page = ROOT / "docs/reference/contract.md"
    rows = [row for row in page.read_text("utf-8").splitlines() if row.startswith("| [D")]
    cited: list[str] = []
    for row in rows:
        rules = re.findall(r"\[D(\d+)\]", row)
        [test] = re.findall(r"\(([^)]*\.py)\)", row)
        text = (page.parent / test).read_text("utf-8")
        assert [rule for rule in rules if f"def test_d{rule}_" not in text] == [], test
        cited += [f"D{rule}" for rule in rules]
    assert sorted(cited) == sorted(RULES)


def test_the_tour_of_the_source_names_every_module_once() -> None:
    tour = (ROOT / "docs/explanation/design.md").read_text("utf-8").partition("## A tour of")[2]
    rows = re.findall(r"^\| (`.*?) \|", tour, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    there = [one.name for one in pkgutil.iter_modules([str(ROOT / "src/tocsin")])]
    assert sorted(named) == sorted([*there, "__init__"])


def test_a_page_that_is_not_true_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for code, shown in [("print(1)", "2"), ("print(1)", ""), ("pass", "1")]:
        page.write_text(f"```python\n{code}\n```\n\n```text\n{shown}\n```\n")
        with pytest.raises(AssertionError):
            Reader(page, "asyncio").run()
    page.write_text("```console\n$ echo 1\n2\n```\n")
    with pytest.raises(AssertionError):
        Reader(page, "asyncio").run()


def test_the_parts_of_a_page_are_told_apart() -> None:
    text = "x\n```python file=a.py\n1\n```\n```python not-run\n2\n```\n```text\n```\n"
    blocks = list(blocks_of(text))
    assert [block.line for block in blocks] == [2, 5, 8]
    assert Counter(block.is_run for block in blocks) == {True: 1, False: 2}
