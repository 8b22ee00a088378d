"""The benchmark's sections: that what they time is what they say. No figure is judged here."""

from __future__ import annotations

import gc
import importlib.util
import math
import sys
import tracemalloc
from functools import partial
from itertools import pairwise
from statistics import median
from subprocess import CalledProcessError
from time import perf_counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tocsin import NotifierBlock, Observer, StatisticsObserver

from .benchmarks import (
    concurrency,
    importing,
    observers,
    registration,
    routes,
    threads,
)
from .benchmarks import measure as measuring
from .benchmarks.concurrency import Crowd, native_checkpoint
from .benchmarks.crowd import Turn, bare_subject, chain_subject, figures, names_of
from .benchmarks.importing import import_afresh
from .benchmarks.measure import (
    BARE,
    SMOKE,
    Candidate,
    Effort,
    Experiment,
    lower_quartile,
    make_run,
    measure,
    take_turns,
)
from .benchmarks.observers import (
    CALLS,
    CHAINS,
    TESTS,
    SourceChangedError,
    compiled_anew,
    without_test,
)
from .benchmarks.registration import REGISTRIES, SLOW, bytes_each
from .benchmarks.routes import FORMS, INTERESTED
from .benchmarks.subjects import DATA, EVENT, FLAVOURS, make_callbacks, on_backend
from .benchmarks.threads import Storm
from .flavours import maybe_await

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from .benchmarks.crowd import Subject
    from .benchmarks.measure import Measurement
    from .benchmarks.routes import Form

pytestmark = pytest.mark.anyio

VARIANTS = (observers.PLAIN, observers.IN_USE)
MODULES: list[Any] = [concurrency, importing, observers, registration, routes, threads]


async def test_turns_are_taken_by_everybody_once_in_each_round() -> None:
    log: list[str] = []

    async def take(name: str) -> int:
        log.append(name)
        return len(log)

    taken = await take_turns({name: partial(take, name) for name in "abc"}, 5)
    rounds = [log[start : start + 3] for start in range(0, 15, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert {name: len(found) for name, found in taken.items()} == {"a": 5, "b": 5, "c": 5}


def test_an_effort_gives_fewer_rounds_but_never_more() -> None:
    assert Effort(rounds=21).at_most(5).rounds == 5
    assert Effort(rounds=1).at_most(5).rounds == 1


async def test_a_slow_first_call_does_not_make_all_turns_short() -> None:
    times = iter([0.1])  # seconds, as for an import
    turns: list[int] = []

    def run(number: int) -> None:
        turns.append(number)
        until = perf_counter() + next(times, number * 1e-6)
        while perf_counter() < until:
            pass

    experiment = Experiment("s", "", 1, [Candidate("slow at first", run)])
    await measure(experiment, Effort(rounds=1, seconds=0.001))
    assert turns[-1] > 1


def test_the_lower_quartile_is_what_a_quarter_does_not_exceed() -> None:
    assert lower_quartile([5, 3, 1, 4, 2]) == 2
    assert lower_quartile([7]) == 7


async def test_a_time_is_that_of_one_turn_without_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    order: list[str] = []

    def run(name: str, number: int) -> None:
        nonlocal now
        assert not gc.isenabled()
        now += number * {"a": 0.25, "b": 0.5, "c": 1.0}[name]
        order.append(name)

    monkeypatch.setattr(measuring, "perf_counter", lambda: now)
    candidates = [Candidate(name, partial(run, name)) for name in "abc"]
    found = await measure(Experiment("s", "", 1, candidates), Effort(rounds=21, seconds=8))
    assert [one.value for one in found] == [0.25, 0.5, 1.0]
    rounds = [tuple(order[start : start + 3]) for start in range(len(order) - 63, len(order), 3)]
    assert len({*rounds}) > 1
    assert gc.isenabled()


@pytest.mark.parametrize("module", MODULES, ids=lambda one: one.__name__.rpartition(".")[2])
async def test_a_section_gives_what_it_announces(module: Any, anyio_backend: str) -> None:
    if anyio_backend not in module.BACKENDS:
        return
    found: list[Measurement] = [one async for one in module.measurements(SMOKE)]
    assert {one.section for one in found} == {*module.SECTION}
    assert len({one[:4] for one in found}) == len(found)
    assert all(0 <= one.value < math.inf for one in found)
    assert all(one.value > 0 for one in found if one.candidate == BARE)


# Registration.


def pair(name: str, subscribers: list[Any], *parts: str, **names: Any) -> Candidate:
    """Give what does the parts of a pair, the last subscriber coming and the others there."""
    registry = REGISTRIES[name]
    *present, function = subscribers
    signal = registry.fill(present)
    statement = "; ".join(parts)
    return Candidate(
        name,
        make_run(statement, signal=signal, event=EVENT, data=DATA, function=function, **names),
    )


@pytest.mark.parametrize("name", REGISTRIES)
async def test_whoever_comes_is_called_and_whoever_leaves_is_not(name: str) -> None:
    registry = REGISTRIES[name]
    calls: list[int] = []
    marks: list[int] = []
    functions = make_callbacks(
        3, parameters=registry.parameters, body="calls.append(1)", calls=calls
    )
    subscribers = functions if registry.wrap is None else [*map(registry.wrap, functions)]
    mark = "marks.append(len(calls))"
    one = pair(
        name,
        subscribers,
        *(registry.call, mark, registry.register, registry.call, mark),
        *(registry.unregister, registry.call, mark),
        calls=calls,
        marks=marks,
    )
    await maybe_await(one.run(2))
    assert [after - before for before, after in pairwise([0, *marks])] == [2, 3, 2] * 2


@pytest.mark.parametrize("variant", [registration.FUNCTION, registration.BLOCK])
async def test_a_pair_leaves_those_who_were_there(variant: str) -> None:
    for one in registration.pair_experiment(variant, 3).candidates:
        if one.name in FLAVOURS:
            await maybe_await(one.run(2))
            assert len(one.run.__globals__["signal"]) == 3


@pytest.mark.parametrize("variant", [registration.FUNCTION, registration.BETWEEN])
async def test_a_call_falls_between_only_where_it_is_said(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    counting = partial(make_callbacks, body="calls.append(1)", calls=calls)
    monkeypatch.setattr(registration, "make_callbacks", counting)
    for one in registration.pair_experiment(variant, 2).candidates:
        calls.clear()
        await maybe_await(one.run(2))
        expected = 6 if variant == registration.BETWEEN else 0
        assert (one.name, len(calls)) == (one.name, expected)


def test_the_registries_are_those_that_are_compared() -> None:
    peers = {"pyee", "blinker", "eventkit", "psygnal", "Django", "pluggy"}
    assert {*REGISTRIES} == {BARE, *FLAVOURS} | peers


async def test_bulk_seconds_are_those_of_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    async def time_of(_: Candidate, number: int) -> float:
        asked.append(number)
        return 5.0

    monkeypatch.setattr(registration, "time_of", time_of)
    assert (await registration.bulk_seconds(BARE, 10), asked) == (5.0, [10])


def test_only_chains_register_ready_blocks() -> None:
    experiment = registration.pair_experiment(registration.BLOCK, 0)
    assert {one.name for one in experiment.candidates} == {BARE, *FLAVOURS}
    for one in experiment.candidates:
        function = one.run.__globals__["function"]
        assert isinstance(function, NotifierBlock) == (one.name in FLAVOURS)


def test_the_largest_bulk_spares_those_who_would_need_minutes() -> None:
    assert registration.taking_part_in_bulk(1000) == [*REGISTRIES]
    assert {*registration.taking_part_in_bulk(10_000)} == {*REGISTRIES} - SLOW


async def test_of_a_bare_subscriber_one_pointer_is_counted() -> None:
    assert 8 <= await bytes_each(BARE, 1000) < 9


async def test_the_block_that_a_chain_makes_is_counted() -> None:
    for name in FLAVOURS:
        assert await bytes_each(name, 100) > NotifierBlock.__basicsize__


async def test_memory_is_traced_no_longer_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = REGISTRIES[BARE]._replace(register="undefined")
    monkeypatch.setitem(REGISTRIES, "broken", broken)
    with pytest.raises(NameError):
        await bytes_each("broken", 1)
    assert not tracemalloc.is_tracing()


# Imports.


async def test_an_import_is_seen_with_all_that_it_brings_in(tmp_path: Path) -> None:
    found = await import_afresh("import wsgiref.util", str(tmp_path))
    assert found.seconds > 0
    assert {"wsgiref", "wsgiref.util"} <= {*found.modules}
    assert "sys" not in found.modules


async def test_an_import_finds_the_byte_code_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "another"))
    await import_afresh("import wsgiref.util", str(tmp_path / "cache"))
    assert [*(tmp_path / "cache").rglob("wsgiref/util.*.pyc")]
    assert not (tmp_path / "another").exists()


async def test_an_import_that_fails_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(CalledProcessError):
        await import_afresh("import there.is.no.such.package", str(tmp_path))


# Routes.


async def calls_of(experiment: Experiment, calls: list[int]) -> dict[str, int]:
    """Say how many subscribers each candidate calls."""
    seen: dict[str, int] = {}
    for one in experiment.candidates:
        calls.clear()
        await maybe_await(one.run(1))
        seen[one.name] = len(calls)
    return seen


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the subscribers of a section add to when they are called."""
    calls: list[int] = []
    counting = partial(make_callbacks, body="calls.append(1)", calls=calls)
    for module in (routes, observers):
        monkeypatch.setattr(module, "make_callbacks", counting)
    return calls


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("form", FORMS, ids=lambda one: one.name)
async def test_with_routes_in_use_the_same_are_called_as_without(
    form: Form, named: bool, calls: list[int]
) -> None:
    seen = await calls_of(routes.in_use(form, 5, named=named), calls)
    assert seen == dict.fromkeys([BARE, *form.flavours], 5)
    for one in routes.in_use(form, 5, named=named).candidates:
        if one.name in FLAVOURS:
            events = [block.events for block in one.run.__globals__["call"].__self__]
            assert len(events) == 6
            assert (None in events, any("another" in (one or ()) for one in events)) == (
                not named,
                True,
            )


@pytest.mark.parametrize("form", FORMS, ids=lambda one: one.name)
async def test_whoever_is_not_interested_is_spared(form: Form, calls: list[int]) -> None:
    experiment = routes.spared(form, 30)
    names = {name for one in form.flavours for name in (one, f"{one}, alone")}
    peers = {"pyee"} if form.name == "sync" else set()
    assert {one.name for one in experiment.candidates} == {BARE, *names} | peers
    assert {*(await calls_of(experiment, calls)).values()} == {INTERESTED}
    for one in experiment.candidates:
        if one.name in FLAVOURS:
            assert len(one.run.__globals__["call"].__self__) == 30


# Observers.


@pytest.mark.parametrize("flavour", CHAINS)
@pytest.mark.parametrize("variant", observers.OBSERVERS)
async def test_an_observed_chain_calls_the_same(
    flavour: str, variant: str, calls: list[int]
) -> None:
    seen = await calls_of(observers.attached(flavour, variant, 4), calls)
    assert seen == {BARE: 4, flavour: 4}


@pytest.mark.parametrize("flavour", CHAINS)
@pytest.mark.parametrize("variant", VARIANTS)
async def test_a_walk_without_the_test_calls_the_same(
    flavour: str, variant: str, calls: list[int]
) -> None:
    experiment = observers.untested(flavour, variant, 4)
    assert await calls_of(experiment, calls) == {BARE: 4, flavour: 4}
    without, tested = [
        one.run.__globals__["call"].__func__.__code__.co_code for one in experiment.candidates
    ]
    assert len(without) < len(tested) == len(observers.CALLS[flavour].__code__.co_code)


class Told(Observer):
    """Counts the walks that it is told of."""

    def __init__(self) -> None:
        self.count = 0

    def call_started(self, call: Any) -> None:
        self.count += 1


@pytest.mark.parametrize("flavour", CHAINS)
async def test_an_observed_chain_tells_its_observer(
    flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    monkeypatch.setitem(observers.OBSERVERS, "told", lambda: told)
    for one in observers.attached(flavour, "told", 2).candidates:
        await maybe_await(one.run(3))
    assert told.count == 3


def test_nobody_one_that_does_nothing_and_one_that_counts_are_attached() -> None:
    kinds = [type(make()) for make in observers.OBSERVERS.values()]
    assert kinds == [type(None), Observer, StatisticsObserver]


@pytest.mark.parametrize("flavour", CHAINS)
@pytest.mark.parametrize("variant", VARIANTS)
async def test_a_walk_without_the_test_tells_no_observer(flavour: str, variant: str) -> None:
    told = Told()
    for call, expected in (
        (compiled_anew(CALLS[flavour]), 1),
        (without_test(CALLS[flavour], TESTS[flavour][variant]), 1),  # as many as before
    ):
        chain = type("Chain", (CHAINS[flavour],), {"__slots__": (), "call": call})("c")
        chain.observe(told)
        await maybe_await(chain.call(EVENT, DATA))
        assert told.count == expected


def write_module(path: Path, body: str) -> ModuleType:
    path.write_text(f"def call(items):\n{body}    return 'end'\n", encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> ModuleType:
    module = write_module(tmp_path / "walk_of_a_test.py", request.param)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


TEST = "    if items.special:\n        return 'special'\n"


SPECIAL = "items.special"


class Special:
    special = True


@pytest.mark.parametrize("walk", [TEST], indirect=True)
def test_a_test_is_taken_out_with_what_stands_under_it(walk: ModuleType) -> None:
    assert walk.call(Special) == "special"
    assert compiled_anew(walk.call)(Special) == "special"
    assert without_test(walk.call, SPECIAL)(Special) == "end"
    assert walk.call(Special) == "special"


@pytest.mark.parametrize(
    ("walk", "number"),
    [
        ("", 0),
        (TEST + TEST, 2),
        (TEST + "    else:\n        items = None\n", 0),
        (TEST.replace("items.special", "items.special and items"), 0),
        (TEST.replace("items.special", "items.branches"), 0),
    ],
    indirect=["walk"],
    ids=["none", "two", "else", "more", "another"],
)
def test_a_walk_that_is_written_otherwise_is_refused(walk: ModuleType, number: int) -> None:
    with pytest.raises(
        SourceChangedError, match=f"call has {number} tests `if items.special:`, not one"
    ):
        without_test(walk.call, SPECIAL)


@pytest.mark.parametrize("walk", [TEST], indirect=True)
def test_a_source_that_does_not_give_the_walk_is_refused(walk: ModuleType, tmp_path: Path) -> None:
    changed = "def call(items):\n    return items.special\n"
    (tmp_path / "walk_of_a_test.py").write_text(changed, encoding="utf-8")
    with pytest.raises(SourceChangedError, match="does not give its bytecode"):
        without_test(walk.call, SPECIAL)


# Crowds.


def test_a_turn_says_how_long_a_call_took_and_how_unequal_the_callers_were() -> None:
    turn = Turn(2.0, [1, 3], [0.1, 0.3, 0.2])
    assert (turn.per_call, turn.inequality) == (0.5, 1.5)


def test_a_caller_that_starved_is_a_figure() -> None:
    assert Turn(1.0, [0, 20], []).inequality == 11


def test_the_worst_change_and_the_worst_inequality_of_all_rounds_count() -> None:
    turns = [Turn(4.0, [1, 1], [0.1]), Turn(2.0, [0, 2], [0.7, 0.2]), Turn(2.0, [1, 1], [0.3])]
    found = {one.section: one for one in figures("s", "v", 2, {"SRCU": turns})}
    times, longest, inequality = names_of("s")
    assert {name: (one.value, one.unit) for name, one in found.items()} == {
        times: (1.0, "s"),
        longest: (0.7, "s"),
        inequality: (2.0, "x"),
    }
    assert {one[1:4] for one in found.values()} == {("v", 2, "SRCU")}


def test_a_hiccup_of_the_bare_loop_excuses_no_longest_change() -> None:
    taken = {BARE: [Turn(1.0, [1], [0.1, 9.0]), Turn(1.0, [1], [0.1])]}
    _, longest, _ = names_of("s")
    found = figures("s", "v", 1, taken, of_bare=median)
    assert [one.value for one in found if one.section == longest] == [0.1]


def test_without_a_writer_there_is_no_change_to_wait_for() -> None:
    times, longest, inequality = names_of("s")
    found = {one.section for one in figures("s", "", 1, {BARE: [Turn(1.0, [2], [])]})}
    assert found == {times, inequality}
    assert longest not in found


def make_subject(name: str, *, is_async: bool, log: list[str]) -> Subject:
    def make(said: str) -> list[Any]:
        return make_callbacks(1, is_async=is_async, body=f"log.append({said!r})", log=log)

    callbacks, [newcomer] = make("member"), make("newcomer")
    if name == BARE:
        return bare_subject(callbacks, newcomer, is_async=is_async)
    return chain_subject(name, callbacks, newcomer)


SUBJECTS = [
    (BARE, False),
    (BARE, True),
    ("Atomic", False),
    ("Blocking", True),
    ("SRCU", True),
]


@pytest.mark.parametrize(("name", "is_async"), SUBJECTS)
async def test_the_newcomer_is_called_between_joining_and_leaving(
    name: str, is_async: bool
) -> None:
    log: list[str] = []
    subject = make_subject(name, is_async=is_async, log=log)
    for _ in range(2):
        log.clear()
        for do in (subject.join, partial(subject.call, EVENT, DATA), subject.leave):
            await maybe_await(do())
        await maybe_await(subject.call(EVENT, DATA))
        assert log == ["member", "newcomer", "member"]


@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize("name", [BARE, "Blocking", "SRCU"])
async def test_a_crowd_of_tasks_uses_its_budget_up(name: str, is_written: bool) -> None:
    log: list[str] = []
    subject = make_subject(name, is_async=True, log=log)
    crowd = Crowd(subject, 4, 30, native_checkpoint(), is_written=is_written)
    for _ in range(2):
        log.clear()
        turn = await crowd.take_turn()
        assert (len(turn.counts), sum(turn.counts), log.count("member")) == (4, 30, 30)
        assert bool(turn.changes) == is_written
        assert len(turn.changes) % 2 == 0
        assert turn.seconds > 0
    assert gc.isenabled()


@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize("name", [BARE, "Atomic"])
async def test_a_crowd_of_threads_uses_its_budget_up(name: str, is_written: bool) -> None:
    log: list[str] = []
    subject = make_subject(name, is_async=False, log=log)
    storm = Storm(subject, 4, 30, is_written=is_written)
    for _ in range(2):
        log.clear()
        turn = await storm.take_turn()
        assert (len(turn.counts), sum(turn.counts), log.count("member")) == (4, 30, 30)
        assert bool(turn.changes) == is_written
        assert len(turn.changes) % 2 == 0
        assert turn.seconds > 0
    assert gc.isenabled()


async def test_a_storm_in_which_a_call_fails_ends_and_says_so() -> None:
    def fail(event: Any, data: Any) -> None:
        raise OSError

    storm = Storm(bare_subject([fail], fail, is_async=False), 2, 30, is_written=True)
    with pytest.raises(OSError):
        await storm.take_turn()


@pytest.mark.parametrize(
    ("module", "crowd", "names"),
    [(concurrency, "Crowd", ["Blocking", "SRCU"]), (threads, "Storm", ["Atomic"])],
)
async def test_a_crowd_calls_the_chain_that_is_named(
    monkeypatch: pytest.MonkeyPatch, module: Any, crowd: str, names: list[str]
) -> None:
    kinds: list[type | None] = []
    original = getattr(module, crowd)

    def make(subject: Subject, *arguments: Any, **options: Any) -> Any:
        chain = getattr(subject.call, "__self__", None)
        kinds.append(chain and type(chain))
        return original(subject, *arguments, **options)

    monkeypatch.setattr(module, crowd, make)
    found = [one async for one in module.measurements(SMOKE)]
    assert {one.candidate for one in found} == {BARE, *names}
    each = [None, *(FLAVOURS[name] for name in names)]
    assert kinds == each * (len(kinds) // len(each))


async def test_the_native_checkpoint_lets_others_run() -> None:
    log: list[str] = []
    pause = native_checkpoint()

    async def other() -> None:
        log.append("other")

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        for _ in range(2):  # trio may let the one that pauses go first, once
            await pause()
        assert log == ["other"]
    assert ("trio" in getattr(pause, "__module__", "")) == on_backend("").startswith("trio")
