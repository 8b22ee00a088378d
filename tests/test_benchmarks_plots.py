"""What is published of the benchmark: plots and tables, made of its JSON and nothing else."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from .benchmarks import plots
from .benchmarks.plots import PLOTS, draw, draw_all, styles
from .benchmarks.results import from_json

if TYPE_CHECKING:
    from click.testing import Result

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"
COSTS = {"bare": 1.0, "Raw": 1.25, "Atomic": 1.3, "psygnal emit_fast": 2.5, "blinker": 12.0}
ORIGIN = (
    "Some CPU, 2 cores, Linux x86_64; Python 3.13.0; commit abc123; best of 3 processes, 21 rounds"
)


def measured(section: str, variant: str, size: int, name: str, ratio: float) -> dict[str, Any]:
    names = ("section", "variant", "size", "candidate", "value", "unit", "ratio")
    return dict(zip(names, (section, variant, size, name, ratio * 1e-7, "s", ratio), strict=True))


def results(python: str = "3.13.0") -> dict[str, Any]:
    """Give a small result as the benchmark writes it."""
    return {
        "python": python,
        "machine": {"cpu": "Some CPU", "cores": 2, "system": "Linux x86_64"},
        "versions": {"anyio": "4.0", "pyee": "13.0"},
        "commit": "abc123",
        "only": [],
        "smoke": False,
        "processes": 3,
        "rounds": 21,
        "measurements": [
            measured(section, variant, size, name, ratio + size / 1000)
            for section, variant in {(one.section, one.variant): None for one in PLOTS}
            for size in (0, 1, 100)
            for name, ratio in COSTS.items()
        ],
        "targets": [
            {
                "target": "Raw call",
                "section": "sync dispatch",
                "size": 1,
                "aim": 1.22,
                "seen": 1.25,
                "met": False,
                "by": "Raw",
            }
        ],
    }


def lines_of(svg: bytes) -> list[str]:
    groups = ET.fromstring(svg).iter(f"{SVG}g")
    return [name for one in groups if (name := one.get("id", "")).startswith("line-")]


def words_of(svg: bytes) -> list[str]:
    return [one.text or "" for one in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("plot", PLOTS, ids=[one.name for one in PLOTS])
def test_a_plot_has_a_line_for_each_candidate_and_says_where_it_comes_from(plot: Any) -> None:
    svg = draw(from_json(results()), plot)
    assert sorted(lines_of(svg)) == sorted(f"line-{name.replace(' ', '-')}" for name in COSTS)
    assert {*COSTS, ORIGIN, plot.title} <= set(words_of(svg))


def test_the_legend_is_in_the_order_of_cost() -> None:
    found = results()
    found["measurements"].reverse()
    words = words_of(draw(from_json(found), PLOTS[0]))
    assert [one for one in words if one in COSTS] == sorted(COSTS, key=lambda one: -COSTS[one])


def test_a_candidate_that_was_not_measured_at_every_size_has_a_shorter_line() -> None:
    found = results()
    kept = [one for one in found["measurements"] if (one["candidate"], one["size"]) != ("Raw", 100)]
    assert "line-Raw" in lines_of(draw(from_json(found | {"measurements": kept}), PLOTS[0]))


def test_what_has_no_ratio_is_left_out_of_a_plot_of_ratios() -> None:
    found = results()
    for one in found["measurements"]:
        one["ratio"] = None if one["candidate"] == "blinker" else one["ratio"]
    by_name = {one.name: lines_of(draw(from_json(found), one)) for one in PLOTS}
    assert "line-blinker" not in by_name["sync-dispatch"]
    assert "line-blinker" in by_name["registration"]


def test_only_what_was_measured_is_drawn(tmp_path: Path) -> None:
    found = results()
    kept = [one for one in found["measurements"] if one["section"] == "sync dispatch"]
    written = draw_all(from_json(found | {"measurements": kept}), tmp_path / "images")
    assert [path.name for path in written] == ["sync-dispatch-python3.13.svg"]
    assert [path.name for path in (tmp_path / "images").iterdir()] == [written[0].name]


def test_the_same_results_give_the_same_bytes_and_nothing_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results()))
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-m", plots.__name__, str(path), "--plots", str(tmp_path / seed)],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
    first, second = (
        {one.name: one.read_bytes() for one in (tmp_path / seed).iterdir()} for seed in "12"
    )
    assert len(first) == len(PLOTS)
    assert first == second
    text = b"".join(first.values()).decode()
    traces = ("metadata", str(tmp_path), str(ROOT), platform.node(), "Matplotlib")
    assert [one for one in traces if one in text] == []


def luminance(colour: str) -> float:
    """As the Web Content Accessibility Guidelines define it."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", ["#ffffff", "#0d1117"])
def test_every_colour_stands_out_from_a_light_and_from_a_dark_page(page: str) -> None:
    for colour in {*plots.OURS, *plots.PEERS, plots.INK}:
        dark, light = sorted((luminance(colour), luminance(page)))
        assert (light + 0.05) / (dark + 0.05) >= 3, colour  # what they ask of graphics


def test_nobody_has_to_tell_colours_apart() -> None:
    looks = styles(from_json(results()).figures)
    markers = [look["marker"] for name, look in looks.items() if name != "bare"]
    assert len(set(markers)) == len(markers) == len(looks) - 1
    assert len(set(plots.MARKERS)) == len(plots.MARKERS) >= 14


# Pages.


def publish(tmp_path: Path, page: str, *pythons: str) -> tuple[Result, str]:
    """Fill a page with results of some Pythons; give what was said and what stands there."""
    there = tmp_path / "page.md"
    there.write_text(page)
    files = [tmp_path / f"{python}.json" for python in pythons or ("3.13.0",)]
    for file in files:
        file.write_text(json.dumps(results(file.stem)))
    said = CliRunner().invoke(plots.main, [*map(str, files), "--page", str(there)])
    return said, there.read_text()


def marked(asked: str, text: str = "old\n") -> str:
    return f"<!-- figures {asked} -->\n{text}<!-- end of figures -->\n"


def test_a_table_is_written_between_its_marks_and_nothing_else_changes(tmp_path: Path) -> None:
    page = f"before\n\n{marked('3.13 | sync dispatch | None')}\nafter\n"
    said, filled = publish(tmp_path, page)
    assert said.exit_code == 0, said.output
    lines = filled.splitlines()
    assert (lines[0], lines[-1], "old" in filled) == ("before", "after", False)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    assert rows[0] == ["", "0", "1", "100"]
    assert rows[2:4] == [["bare", "100 ns", "100 ns", "110 ns"], ["Raw", *rows[3][1:]]]
    assert rows[3][1].startswith("1.25")
    assert publish(tmp_path, filled)[1] == filled


def test_targets_and_the_origin_can_be_asked_for_by_version_of_python(tmp_path: Path) -> None:
    page = marked("3.13 | targets") + marked("3.11 | origin")
    _, filled = publish(tmp_path, page, "3.13.0", "3.11.7")
    assert "missed" in filled
    assert ORIGIN.replace("3.13.0", "3.11.7") + "; anyio 4.0, pyee 13.0\n" in filled
    assert ORIGIN not in filled


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (marked("3.10 | targets"), "there are no results of Python 3.10, only of 3.13"),
        (marked("3.13 | no such"), "not measured; there are sync dispatch | None, "),
        ("<!-- figures 3.13 | targets -->\n", "has no '<!-- end of figures -->' behind it"),
        ("<!-- figures 3.13 | targets -->\n" + marked("3.13 | targets"), "has no '<!-- end"),
    ],
)
def test_a_mark_that_cannot_be_filled_is_one_clear_line(
    tmp_path: Path, page: str, says: str
) -> None:
    said, left = publish(tmp_path, page)
    assert (said.exit_code, left) == (1, page)
    assert says in said.output
    assert said.output.count("\n") == 1


@pytest.mark.parametrize(
    ("flaws", "says"),
    [
        ([{"smoke": True}], "they are a smoke run's"),
        ([{"only": ["threads", "import time"]}], "they are of threads, import time only"),
        ([{"processes": 2}], "they are of fewer than 3 processes"),
        ([{}, {"python": "3.13.1"}], "there are results of Python 3.13 already"),
    ],
)
def test_what_is_not_to_be_published_is_refused_and_nothing_is_written(
    tmp_path: Path, flaws: list[dict[str, Any]], says: str
) -> None:
    page, images = tmp_path / "page.md", tmp_path / "images"
    page.write_text(marked("3.13 | targets"))
    files = [tmp_path / f"{number}.json" for number, _ in enumerate(flaws)]
    for file, flaw in zip(files, flaws, strict=True):
        file.write_text(json.dumps(results() | flaw))
    arguments = [*map(str, files), "--page", str(page), "--plots", str(images)]
    said = CliRunner().invoke(plots.main, arguments)
    assert said.exit_code == 1
    assert says in said.output
    assert said.output.count("\n") == 1
    assert (page.read_text(), images.exists()) == (marked("3.13 | targets"), False)
    if len(files) == 1:
        assert CliRunner().invoke(plots.main, [*arguments, "--any"]).exit_code == 0


def test_a_page_that_cannot_be_filled_keeps_the_plots_as_they_were(tmp_path: Path) -> None:
    page, file, images = (tmp_path / name for name in ("page.md", "results.json", "images"))
    page.write_text(marked("3.10 | targets"))
    file.write_text(json.dumps(results()))
    arguments = [str(file), "--page", str(page), "--plots", str(images)]
    assert CliRunner().invoke(plots.main, arguments).exit_code == 1
    assert not images.exists()
