"""The benchmark: that it runs, that peers do what is timed, and how its figures are judged.

No figure is judged here, only what is made of figures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner
from rich.console import Console

from .benchmarks import __main__, dispatch, process, report, targets
from .benchmarks.__main__ import NAMES, main
from .benchmarks.dispatch import ASYNC, MIXED, SYNC, Dispatch
from .benchmarks.measure import BARE, SMOKE, Effort, Measurement, make_run
from .benchmarks.peers import ASYNC_PEERS, MIXED_PEERS, SYNC_PEERS
from .benchmarks.process import Settings
from .benchmarks.report import Figure, in_order, merge, quantity, tables
from .benchmarks.subjects import (
    EVENT,
    FLAVOURS,
    VARIANTS,
    Variant,
    make_bare,
    make_bare_async,
    make_bare_over_sync,
    make_callbacks,
    make_chain,
    on_backend,
)
from .benchmarks.targets import Target, judge, to_bare, to_best_peer, to_itself, to_peer
from .flavours import maybe_await

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
DISPATCHES = [SYNC, ASYNC, MIXED]
# All are errors but the one of eventkit in the interpreters that time its import.
WARNINGS = "error,ignore:There is no current event loop:DeprecationWarning"


def run_benchmark(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What a tiny run of everything prints, and its JSON; a warning of ours would end it."""
    there = tmp_path_factory.mktemp("bench")
    path = there / "new" / "results.json"
    options = ["--smoke", "--processes", "2", "--json", str(path), "--plots", str(there)]
    done = run_benchmark(*options, PYTHONWARNINGS=WARNINGS)
    assert done.returncode == 0, done.stderr
    assert list(there.glob("*.svg"))
    return done.stdout, json.loads(path.read_text(encoding="utf-8"))


def test_the_smoke_run_measures_every_section(smoke: tuple[str, dict[str, Any]]) -> None:
    table, result = smoke
    assert {one["section"] for one in result["measurements"]} == {*NAMES}
    for one in result["measurements"]:
        variant = one["variant"]
        assert f"\n{one['section']}{variant and ': '}{variant}\n" in f"\n{table}"


def test_the_smoke_run_gives_everybody_beside_a_bare_loop_a_ratio(
    smoke: tuple[str, dict[str, Any]],
) -> None:
    measurements = smoke[1]["measurements"]

    def experiment(one: dict[str, Any]) -> tuple[object, ...]:
        return one["section"], one["variant"], one["size"]

    with_bare = {experiment(one) for one in measurements if one["candidate"] == BARE}
    assert {one.SECTION for one in DISPATCHES} <= {section for section, *_ in with_bare}
    for one in measurements:
        assert one["value"] >= 0
        assert (one["ratio"] is not None) == (experiment(one) in with_bare)
        assert one["ratio"] is None or one["ratio"] > 0


def test_the_smoke_run_measures_every_candidate_of_a_dispatch(
    smoke: tuple[str, dict[str, Any]],
) -> None:
    found = {
        (one["section"], one["variant"], one["size"], one["candidate"])
        for one in smoke[1]["measurements"]
    }
    for section in DISPATCHES:
        for variant in VARIANTS:
            for size in SMOKE.sizes:
                for name in [*section.calls, *(one.name for one in section.peers)]:
                    assert (section.SECTION, variant.name, size, name) in found
                names = [*section.calls, *(one.name for one in section.peers if one.on_trio)]
                for name in names if "trio" in section.BACKENDS else ():
                    assert (section.SECTION, f"trio, {variant.name}", size, name) in found


def test_the_smoke_run_judges_each_target_that_it_measures(
    smoke: tuple[str, dict[str, Any]],
) -> None:
    table, result = smoke
    _, rows = table.split("\nTargets", 1)
    for target, one in zip(targets.targets(), result["targets"], strict=True):
        assert (one["target"], one["aim"]) == (target.name, target.aim)
        assert one["met"] == (None if one["seen"] is None else one["seen"] <= one["aim"])
        [row] = [line for line in rows.splitlines() if line.strip().startswith(f"{target.name} ")]
        words = {True: " met ", False: " missed ", None: " not measured "}
        assert words[one["met"]] in row
    dispatch = {one.SECTION for one in DISPATCHES}
    for one in result["targets"]:
        if one["section"] in dispatch:
            assert (one["met"] is not None) == (one["size"] in SMOKE.sizes)


def test_the_results_say_where_they_are_from(smoke: tuple[str, dict[str, Any]]) -> None:
    result = smoke[1]
    assert result["python"].startswith("3.")
    assert {*result["machine"]} == {"cpu", "cores", "system"}
    assert result["commit"]
    assert (result["processes"], result["rounds"]) == (2, SMOKE.rounds)
    assert (result["smoke"], result["only"]) == (True, [])
    assert result["versions"]["pyee"] == version("pyee")
    assert {"anyio", "trio"} < {*result["versions"]}


def test_a_section_that_is_not_there_is_one_clear_error() -> None:
    done = run_benchmark("--only", "sync despatch")
    assert done.returncode == 2
    assert "sync despatch" in done.stderr
    assert "sync dispatch" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_target_is_about_something_that_is_measured_at_some_size(
    smoke: tuple[str, dict[str, Any]],
) -> None:
    found = {(one["section"], one["variant"], one["candidate"]) for one in smoke[1]["measurements"]}
    for target in targets.targets():
        assert {*target.candidates} == {
            candidate
            for section, variant, candidate in found
            if section == target.section
            if target.variants is None or variant in target.variants
            if candidate in target.candidates
        }
        for variant in target.variants or ():
            assert (target.section, variant, target.candidates[0]) in found


# What is timed.


def count_calls(log: list[object], number: int, parameters: str, **form: Any) -> list[Any]:
    return make_callbacks(number, parameters=parameters, body="log.append(data)", log=log, **form)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: one.name)
@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize(
    ("peer", "is_async"),
    [
        *((peer, False) for peer in SYNC_PEERS),
        *((peer, True) for peer in ASYNC_PEERS),
        *((peer, False) for peer in MIXED_PEERS),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_a_peer_has_called_all_its_subscribers_when_its_statement_is_over(
    peer: Any, is_async: bool, number: int, variant: Any
) -> None:
    async def see(backend: str) -> None:
        log: list[object] = []
        made = count_calls(log, number, peer.parameters, is_async=is_async, variant=variant)
        signal = peer.fill(made)
        run = make_run(peer.statement, signal=signal, event=EVENT, data=7, **peer.names)
        await maybe_await(run(2))
        assert log == [7] * 2 * number

    only_asyncio = "await" in peer.statement and not peer.on_trio
    for backend in ("asyncio",) if only_asyncio else ("asyncio", "trio"):
        anyio.run(see, backend, backend=backend)


@pytest.mark.parametrize(
    ("make", "is_async"),
    [(make_bare, False), (make_bare_async, True), (make_bare_over_sync, False)],
)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: one.name)
async def test_the_bare_loop_calls_all_its_subscribers(
    make: Any, is_async: bool, variant: Any
) -> None:
    log: list[object] = []
    bare = make(count_calls(log, 3, "event, data", is_async=is_async, variant=variant))
    await maybe_await(bare(EVENT, 7))
    assert log == [7, 7, 7]


@pytest.mark.parametrize("section", DISPATCHES, ids=lambda one: one.SECTION)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: one.name)
async def test_every_candidate_of_a_dispatch_calls_everybody(
    monkeypatch: pytest.MonkeyPatch, section: Dispatch, variant: Variant
) -> None:
    calls: list[int] = []
    counting = partial(make_callbacks, body="calls.append(1)", calls=calls)
    monkeypatch.setattr(dispatch, "make_callbacks", counting)
    for one in section.candidates(variant, 3):
        calls.clear()
        await maybe_await(one.run(2))
        assert (one.name, len(calls)) == (one.name, 6)


async def test_the_bare_loop_stops_at_a_stop_bit() -> None:
    log: list[object] = []
    made = count_calls(log, 3, "event, data", variant=Variant("stop", "0x8000"))
    make_bare(made)(EVENT, 7)
    assert log == [7]


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_a_chain_is_filled_with_all_its_subscribers(flavour: str) -> None:
    log: list[object] = []
    chain = make_chain(flavour, count_calls(log, 3, "event, data"))
    await maybe_await(chain.call(EVENT, 7))
    assert log == [7, 7, 7]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: one.name)
def test_each_subscriber_and_each_bare_loop_has_a_code_object_of_its_own(variant: Variant) -> None:
    made = [*make_callbacks(3, variant), make_bare(()), make_bare(())]
    assert len({id(getattr(one, "__func__", one).__code__) for one in made}) == 5


def test_the_variants_give_what_they_say() -> None:
    results = {one.name: make_callbacks(1, one)[0](EVENT, 7) for one in VARIANTS}
    assert results == {"None": None, "OK": 1, "0": 0, "bound methods": None}
    assert type(results["OK"]).__name__ == "NotifyResult"


@pytest.mark.parametrize("section", DISPATCHES, ids=lambda one: one.SECTION)
async def test_candidates_share_their_subscribers(section: Dispatch) -> None:
    candidates = list(section.candidates(VARIANTS[0], 1))
    spaces = [one.run.__globals__ for one in candidates[:2]]
    [bare] = spaces[0]["bare"].__globals__["fns"]
    [block] = spaces[1]["chain"]
    assert block.callback is bare


async def test_a_process_runs_the_wanted_sections_on_each_of_their_backends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Here:
        SECTION: tuple[str, ...] = ("here", "there")
        BACKENDS = ("asyncio", "trio")

        async def measurements(self, effort: Effort) -> Any:
            assert effort is SMOKE
            yield Measurement("here", on_backend("x"), 1, BARE, 1.0, "s")
            yield Measurement("there", on_backend("x"), 1, BARE, 1.0, "s")

    class Elsewhere(Here):
        SECTION = ("elsewhere",)

    settings = Settings(2, 3, ("there",), rounds=1, smoke=True)
    found = await anyio.to_thread.run_sync(process.run, settings, (Here(), Elsewhere()))
    assert {one[:2] for one in found} == {("there", "x"), ("there", "trio, x")}
    assert len(found) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "process 2 of 3,  1 of 2: here, there on " in said.err


# What is made of the figures.


def measured(candidate: str, value: float, **other: Any) -> Measurement:
    return Measurement(
        other.get("section", "s"),
        other.get("variant", "None"),
        other.get("size", 3),
        candidate,
        value,
        "s",
    )


def test_merging_takes_the_best_ratio_of_each_candidate_and_not_that_of_the_best_values() -> None:
    figures = merge(
        [
            [measured(BARE, 10.0), measured("Raw", 12.0), measured("pyee", 30.0)],
            [measured(BARE, 20.0), measured("Raw", 22.0), measured("pyee", 80.0)],
        ]
    )
    assert [(one.candidate, one.value, one.ratio) for one in figures] == [
        (BARE, 10.0, 1.0),
        ("Raw", 12.0, 1.1),
        ("pyee", 30.0, 3.0),
    ]


@pytest.mark.parametrize("name", ["longest change", "inequality"])
def test_merging_takes_the_worst_process_of_what_looks_for_starvation(name: str) -> None:
    section = f"s: {name}"
    figures = merge(
        [
            [measured(BARE, 1.0, section=section), measured("SRCU", starved, section=section)]
            for starved in (2.0, 50.0, 3.0)
        ]
    )
    found = [(one.candidate, one.value, one.ratio) for one in figures]
    assert found == [(BARE, 1.0, 1.0), ("SRCU", 50.0, 50.0)]


def test_merging_divides_only_by_the_bare_loop_of_the_same_experiment() -> None:
    figures = merge(
        [
            [
                measured(BARE, 10.0),
                measured("Raw", 5.0, size=10),
                measured("Raw", 5.0, variant="OK"),
                measured("Raw", 5.0, section="t"),
            ]
        ]
    )
    assert [one.ratio for one in figures] == [1.0, None, None, None]


def test_merging_refuses_what_was_measured_twice() -> None:
    with pytest.raises(ValueError, match=r"twice.*'s', 'OK', 3, 'Raw'"):
        merge([[measured("Raw", 1.0), *[measured("Raw", 1.0, variant="OK")] * 2]])


def verdict(target: Target, *measurements: Measurement) -> tuple[float | None, bool | None]:
    [one] = judge(merge([measurements]), [target])
    return one.seen, one.met


def to_be_judged(judge_: Any, *candidates: str, **other: Any) -> Target:
    return Target("t", "s", 3, 1.1, judge_, candidates or ("Raw",), **other)


def test_a_ratio_above_the_aim_is_missed_and_one_at_it_is_met() -> None:
    target = to_be_judged(to_bare)
    assert verdict(target, measured(BARE, 10.0), measured("Raw", 11.25)) == (1.125, False)
    assert verdict(target, measured(BARE, 10.0), measured("Raw", 11.0)) == (1.1, True)


def test_one_of_two_flavours_above_the_aim_is_missed() -> None:
    [found] = judge(
        merge([[measured(BARE, 10.0), measured("Raw", 10.0), measured("Atomic", 12.0)]]),
        [to_be_judged(to_bare, "Raw", "Atomic")],
    )
    assert (found.seen, found.met, found.by) == (1.2, False, "Atomic (None)")


def test_a_target_of_which_one_flavour_was_not_measured_is_not_judged() -> None:
    target = to_be_judged(to_bare, "Raw", "Atomic")
    assert verdict(target, measured(BARE, 10.0), measured("Raw", 10.0)) == (None, None)


def test_another_section_or_size_is_not_judged() -> None:
    target = to_be_judged(to_bare)
    for other in {"section": "t"}, {"size": 10}:
        assert verdict(target, measured(BARE, 1.0, **other), measured("Raw", 1.0, **other)) == (
            None,
            None,
        )


def test_a_target_may_be_about_some_variants_alone() -> None:
    slow = [measured(BARE, 1.0, variant="OK"), measured("Raw", 2.0, variant="OK")]
    figures = [measured(BARE, 10.0), measured("Raw", 10.0), *slow]
    assert verdict(to_be_judged(to_bare, variants=("None",)), *figures) == (1.0, True)
    assert verdict(to_be_judged(to_bare), *figures) == (2.0, False)


def test_one_quicker_peer_makes_being_ahead_of_the_best_peer_missed() -> None:
    target = to_be_judged(to_best_peer)._replace(aim=1.0)
    ours = [measured(BARE, 10.0), measured("Raw", 12.0)]
    assert verdict(target, *ours, measured("pyee", 24.0)) == (0.5, True)
    quicker = measured("psygnal emit", 6.0)
    assert verdict(target, *ours, measured("pyee", 24.0), quicker) == (2.0, False)


def test_a_peer_is_compared_with_by_its_name() -> None:
    target = to_be_judged(to_peer("pyee"))
    figures = [measured("Raw", 3.0), measured("pyee", 2.0), measured("blinker", 1.0)]
    assert verdict(target, *figures) == (1.5, False)


def test_a_flavour_is_compared_with_itself_alone_which_is_no_peer() -> None:
    target = to_be_judged(to_itself("alone"))
    figures = [measured("Raw", 3.0), measured("Raw, alone", 2.0), measured("pyee", 4.0)]
    assert verdict(target, *figures) == (1.5, False)
    assert verdict(to_be_judged(to_best_peer), *figures) == (0.75, True)


def test_a_bound_on_the_value_itself_is_judged_by_the_value() -> None:
    target = to_be_judged(targets.absolute)
    assert verdict(target, measured(BARE, 1.0), measured("Raw", 1.2)) == (1.2, False)
    assert verdict(target, measured("Raw", 0.9)) == (0.9, True)


def test_a_target_beside_bare_where_there_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="no bare"):
        verdict(to_be_judged(to_bare), measured("Raw", 1.0))


ROWS: dict[str, dict[int, float]] = {  # what is aimed at, written down once more: by size, for 3.13
    "Raw, Atomic call, {} subscribers": {0: 1.30, 1: 1.22, 3: 1.14, 10: 1.10, 100: 1.02},
    "Blocking, SRCU call, {} async subscribers": {0: 1.42, 1: 1.42, 3: 1.22, 10: 1.1, 100: 1.05},
    "Blocking, SRCU call, {} sync subscribers": {0: 1.42, 1: 1.42, 3: 1.28, 10: 1.17, 100: 1.06},
    "a chain with events= in use, {} subscribers": {1: 1.45, 3: 1.30, 10: 1.15, 100: 1.10},
    "unobserved beside no observer test, {} subscribers": dict.fromkeys((1, 3, 10, 100), 1.03),
    "sync dispatch beside the best peer, {} subscribers": dict.fromkeys((1, 3, 10, 100), 1),
    "async dispatch beside the best peer, {} subscribers": dict.fromkeys((0, 1, 3, 10, 100), 1),
    "async dispatch, sync callbacks beside the best peer, {} subscribers": dict.fromkeys(
        (0, 1, 3, 10, 100), 1
    ),
    "{} concurrent callers, no writer": {100: 1 / 0.95},
    "{} concurrent callers, a writer running": {100: 1 / 0.85},
    "{} concurrent callers, a writer running: inequality": {100: 2},
    "{} concurrent callers, a writer running: longest change": {100: 10},
}
OTHERS = {
    "three interested of 1000 beside these three alone": 1.05,
    "1 threads, a writer churning": 1 / 0.95,
    "4 threads, a writer churning": 1 / 0.95,
    "16 threads, a writer churning": 1 / 0.95,
    "register + unregister, 1000 present, beside pyee": 7,
    "register + unregister, 1000 present, beside psygnal": 0.5,
    "seconds to register 10000 one by one": 0.5,
    "bytes per subscriber of 10000": 160,
    "import tocsin beside import anyio": 1,
    "import of one chain, of all chains beside import anyio": 1,
    "modules of anyio, asyncio, trio, structlog, inspect": 0,
}


def test_the_aims_are_those_that_were_set() -> None:
    aims = {
        name.format(size): aim
        for name, by_size in ROWS.items()
        for size, aim in (by_size | {1000: by_size[100]}).items()
    }
    aims |= OTHERS
    assert {one.name: one.aim for one in targets.targets((3, 13))} == aims
    aims["Raw, Atomic call, 1 subscribers"] = 1.25
    assert {one.name: one.aim for one in targets.targets((3, 11))} == aims


def test_311_has_a_target_of_its_own_and_312_those_of_313() -> None:
    def one_subscriber(python: tuple[int, int]) -> float:
        return next(
            one.aim
            for one in targets.targets(python)
            if (one.section, one.size) == ("sync dispatch", 1)
        )

    assert [one_subscriber((3, minor)) for minor in (11, 12, 13)] == [1.25, 1.22, 1.22]


def figure(candidate: str, ratio: float | None, **other: Any) -> Figure:
    return Figure(*measured(candidate, other.pop("value", 1e-7), **other), ratio=ratio)


def cells(figures: list[Figure]) -> list[list[str]]:
    [(_, table)] = tables(figures)
    return [list(map(str, column.cells)) for column in table.columns]


def test_the_table_has_ratios_to_bare_and_for_tocsin_those_to_the_best_peer() -> None:
    figures = [
        figure("blinker", 12.0),
        figure("pyee", 4.0),
        figure("Atomic", 1.5),
        figure("Raw", 1.0),
        figure(BARE, 1.0),
        figure("Raw", 2.0, size=10),
    ]
    assert cells(figures) == [
        [BARE, "Raw", "Atomic", "pyee", "blinker"],
        ["100 ns", "1.00 (0.25)", "1.50 (0.38)", "4.00", "12.00"],
        ["-", "2.00", "-", "-", "-"],
    ]


def test_the_table_has_values_where_there_is_no_bare_loop() -> None:
    figures = [figure("Raw", None, value=2e-6), figure("pyee", None, value=1e-6)]
    assert cells(figures)[1] == ["2 us (2.00)", "1 us"]


def test_the_table_has_values_for_what_is_no_time() -> None:
    memory = figure("Raw", 17.0, value=142.0)._replace(unit="bytes")
    assert cells([memory])[1] == ["142 bytes"]


def test_on_a_narrow_terminal_one_sees_of_each_target_whether_it_is_met() -> None:
    verdicts = judge([], targets.targets())
    worst = "Blocking (async over sync, unnamed)"
    judged = [one._replace(seen=1.234, met=at % 2 > 0, by=worst) for at, one in enumerate(verdicts)]
    console = Console(width=80, color_system=None)
    for all_, words in ((verdicts, ["not measured"]), (judged, ["met", "missed"])):
        with console.capture() as written:
            console.print(report.verdicts_table(all_))
        rows = written.get().splitlines()
        number = sum(f" {word} " in row for row in rows for word in words)
        assert number == len(verdicts)
        assert "…" not in written.get()


def test_figures_are_reported_in_one_order_however_they_were_measured() -> None:
    ordered = [
        figure(BARE, 1.0, section="b"),
        figure(BARE, 1.0, section="b", size=10),
        figure(BARE, 1.0, section="b", variant="OK"),
        figure(BARE, 1.0, section="b", variant="trio, None"),
        figure(BARE, 1.0, section="b", variant="trio, OK"),
        figure(BARE, 1.0, section="a", variant=""),
    ]
    assert in_order(ordered[::-1], ["b", "a"]) == ordered


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.2e-7, "s", "120 ns"),
        (1.5e-6, "s", "1.5 us"),
        (0.02, "s", "20 ms"),
        (3.0, "s", "3 s"),
        (152.0, "bytes", "152 bytes"),
    ],
)
def test_a_quantity_is_written_for_people(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_outside_of_a_checkout_the_commit_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert report.describe_commit() == "unknown"


def test_a_process_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))
    results = tmp_path / "new" / "results.json"
    done = CliRunner().invoke(main, ["--smoke", "--json", str(results)])
    assert done.exit_code == 1
    assert done.output == "Error: process 1 ended with status 3; see above\n"
    assert not results.exists()


def test_a_failed_run_leaves_the_results_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    results = tmp_path / "results.json"
    results.write_text("{}", encoding="utf-8")
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert CliRunner().invoke(main, ["--smoke", "--json", str(results)]).exit_code == 1
    assert results.read_text("utf-8") == "{}"


def test_results_that_cannot_be_written_are_an_error_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(__main__, "measure", pytest.fail)
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "results.json"
    done = CliRunner().invoke(main, ["--json", str(path)])
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert done.output.startswith(f"Error: {path} cannot be written: ")


def test_a_process_runs_as_python_does_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    monkeypatch.setenv("PYTHONHASHSEED", "99")
    monkeypatch.setenv("PYTHONPATH", "here")
    monkeypatch.setenv("OTHER", "there")
    given = __main__.environment(2)
    assert "PYTHONASYNCIODEBUG" not in given
    found = [given[name] for name in ("PYTHONHASHSEED", "PYTHONPATH", "OTHER")]
    assert found == ["2", "here", "there"]


def test_the_package_of_another_place_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(__main__, "ROOT", tmp_path)
    monkeypatch.setattr(__main__, "measure", pytest.fail)
    done = CliRunner().invoke(main, ["--smoke"])
    assert done.exit_code == 1
    assert "Tocsin was imported from" in done.output
