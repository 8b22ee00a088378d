"""The torture, in short; and that it finds what is planted. `make torture` is its long form."""

from __future__ import annotations

import re
import signal
import threading
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest

from tocsin import AtomicChain, BlockingChain, RawChain, SrcuChain, chains
from tocsin.admission import Admission
from tocsin.base import Chain
from tocsin.careful import Walk
from tocsin.core import Core
from tocsin.guards import Guarded
from tocsin.locks import GracePeriods, ReaderWriterLock
from tocsin.table import Table
from tocsin.view import ALL_ASYNC, ALL_SYNC, CLOSED, Leavable, Snapshot, Walked
from tocsin.waits import Awaited

from .torture.__main__ import main
from .torture.plan import Plan
from .torture.torture import SUBJECTS, Subject, torture

if TYPE_CHECKING:
    from collections.abc import Callable

    from .torture.ledger import Probe

SHORT = Plan(1, calls=1500, round_calls=500, stuck_after=60)
TASKS = [one for one in SUBJECTS if one.by != "threads"]
BLOCKING = [one for one in TASKS if one.flavour is BlockingChain]
SRCU = [one for one in TASKS if one.flavour is SrcuChain]
RAW = [one for one in SUBJECTS if str(one) == "RawChain/threads"]
ATOMIC = [one for one in SUBJECTS if one.flavour is AtomicChain]


@pytest.mark.parametrize("replays", [False, True])
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_no_flavour_breaks_the_contract_under_torture(subject: Subject, replays: bool) -> None:
    plan = SHORT._replace(replays=replays)
    if subject.flavour is AtomicChain:  # its threads meet less often than tasks do
        plan = plan._replace(calls=15_000, round_calls=5000)
    figures = torture(plan, subject)
    assert figures.violations == []
    assert figures.calls >= plan.calls
    assert figures.writes >= 30


# What is planted is found.


class Bug(NamedTuple):
    """A method that takes the place of a sound one, and what the torture says of it."""

    where: Any
    name: str
    make: Callable[[Any], Callable[..., Any]]
    subjects: list[Subject]
    said: str
    plan: Plan

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(self.where, self.name, self.make(getattr(self.where, self.name)))


BUGS: dict[str, Bug] = {}


def bug(where: Any, name: str, subjects: list[Subject], said: str, **plan: Any) -> Any:
    """Make a bug of a function that is given the sound method and gives another.

    Only where all may stand still is that said soon: a slow machine stands still now and then. A
    ``seed`` is given where others come to the mistake late: a call that waits for threads is slow.
    """

    def note(make: Callable[[Any], Callable[..., Any]]) -> Any:
        patience = 0.3 if "stuck" in said else SHORT.stuck_after
        hard = SHORT._replace(stuck_after=patience, **plan)
        BUGS[make.__name__] = Bug(where, name, make, subjects, said, hard)
        return make

    return note


@bug(Walked, "blank", SUBJECTS, "D3: ", calls=20_000, round_calls=5000)
def unregister_does_not_blank(sound: Any) -> Any:
    return lambda walked, block: None


@bug(Snapshot, "blank", BLOCKING, "D3: ", calls=80_000, round_calls=80_000, threaded_in=1, seed=15)
def a_worker_that_has_still_to_begin_looks_no_more(sound: Any) -> Any:
    def blank(items: Any, block: Any) -> None:
        at = items.find(block)
        slot = items[at] if at >= 0 else None
        sound(items, block)
        if isinstance(slot, Leavable):
            slot.is_gone = False

    return blank


@bug(GracePeriods, "wait", SRCU, "D3: ")
def a_grace_period_ends_at_once(sound: Any) -> Any:
    async def wait(periods: Any, snapshots: Any) -> None:
        await anyio.lowlevel.checkpoint()

    return wait


@bug(Awaited, "_readers_of", SRCU, "D3: ")
def a_grace_period_looks_only_at_the_newest_snapshot(sound: Any) -> Any:
    return lambda chain, block=None: [one for one in sound(chain, block) if one is chain._items]


@bug(GracePeriods, "wake", SRCU, "stuck: ")
def a_wake_up_is_lost(sound: Any) -> Any:
    return lambda periods: None


@bug(ReaderWriterLock, "acquire_write_nowait", BLOCKING, "lock: ")
def the_lock_lets_a_writer_in(sound: Any) -> Any:
    def acquire(lock: Any) -> bool:
        lock.writing = True
        lock._changed()
        return True

    return acquire


@bug(ReaderWriterLock, "is_due", BLOCKING, "lock: ")
def the_lock_grants_a_writer_too_early(sound: Any) -> Any:
    return lambda lock: bool(lock._queue) and not lock.writing


@bug(Guarded, "_admit", BLOCKING, "starved: ", calls=8000, round_calls=8000)
def readers_overtake_a_waiting_writer(sound: Any) -> Any:
    async def admit(chain: Any) -> None:
        if chain._rwlock.writing:
            await sound(chain)

    return admit


def leaking(sound: Any) -> Any:
    """Count a reader twice when its call is cancelled."""

    async def call(chain: Any, *args: Any) -> Any:
        items = None
        try:
            return await sound(chain, *args)
        except anyio.get_cancelled_exc_class():
            for items in chain._walked:
                items.readers += 1
                break
            raise
        finally:
            del items

    return call


@bug(SrcuChain, "call", SRCU, "(stuck|D12): ", calls=20_000, round_calls=4000)
def a_cancelled_call_leaves_a_reader_counted(sound: Any) -> Any:
    return leaking(sound)


@bug(BlockingChain, "call", BLOCKING, "(stuck|D12|starved): ", calls=20_000, round_calls=4000)
def a_cancelled_call_leaves_a_reader_counted_under_the_lock(sound: Any) -> Any:
    return leaking(sound)


@bug(ReaderWriterLock, "release_write", BLOCKING, "(stuck|D12): ")
def a_write_lock_is_kept_now_and_then(sound: Any) -> Any:
    releases: list[None] = []

    def release(lock: Any) -> None:
        releases.append(None)
        if len(releases) != 20:
            sound(lock)

    return release


@bug(BlockingChain, "unregister", BLOCKING, "D12: ", calls=20_000)
def a_cancelled_unregister_is_undone(sound: Any) -> Any:
    async def unregister(chain: Any, block: Any) -> None:
        await anyio.lowlevel.checkpoint()
        await sound(chain, block)

    return unregister


@bug(Table, "add", TASKS, "D1: ")
def newcomers_come_last(sound: Any) -> Any:
    def add(table: Any, block: Any) -> None:
        sound(table, block)
        table.members.remove(block)
        table.members.append(block)

    return add


@bug(Chain, "_join", ATOMIC, "D[123]: (called|entered)", calls=20_000, round_calls=5000)
def walks_see_who_comes_later(sound: Any) -> Any:
    def join(chain: Any, claim: Any) -> None:
        sound(chain, claim)
        for items in chain._walked:
            if items and items is not chain._items and items.mode in (ALL_SYNC, ALL_ASYNC):
                items.append(heard_by(claim.block.callback.__self__, items.mode))

    return join


def heard_by(probe: Probe, mode: int) -> Any:
    def slot(event: Any, walk: Any) -> None:
        walk.enter(probe, event)
        walk.leave(probe)

    async def aslot(event: Any, walk: Any) -> None:
        slot(event, walk)

    return slot if mode == ALL_SYNC else aslot


@bug(Core, "_edit", ATOMIC, "(lost|unexpected|D2|D3): ", calls=20_000, round_calls=20_000)
def an_update_is_lost_between_two_threads(sound: Any) -> Any:
    def edit(chain: Any, change: Any, gone: Any = ()) -> Any:
        new = Table(chain._table)
        new.members, new.parked = list(new.members), list(new.parked)
        change(new)
        time.sleep(0)  # where another thread may come in
        chain._table, chain._items = new, CLOSED
        for block in gone:
            chain._walked.blank(block)
        return new

    return edit


@bug(Walked, "add", SUBJECTS, "(D14|memory): ")
def snapshots_are_kept(sound: Any) -> Any:
    kept: list[Any] = []

    def add(walked: Any, items: Any) -> None:
        sound(walked, items)
        kept.append(items)

    return add


@bug(RawChain, "call", RAW, "memory: .+ chains", calls=36_000, round_calls=1000)
def one_walk_in_twenty_leaves_something_behind(sound: Any) -> Any:
    kept: list[Any] = []
    number = count()

    def call(chain: Any, *args: Any) -> Any:
        if next(number) % 20 == 0:
            kept.append(object())
        return sound(chain, *args)

    return call


@bug(chains, "wait_for_threads", ATOMIC, "D3: ", calls=60_000, round_calls=20_000)
def synchronize_waits_for_nobody(sound: Any) -> Any:
    return lambda chain, timeout: None


@bug(
    Core,
    "_edit",
    ATOMIC,
    "(stuck: the main|unexpected: .+ walks still ran)",
    calls=20_000,
    round_calls=20_000,
)
def a_signal_handler_waits_for_the_write_that_it_interrupts(sound: Any) -> Any:
    lock = threading.Lock()

    def edit(*args: Any, **options: Any) -> Any:
        with lock:
            is_main = threading.current_thread() is threading.main_thread()
            if is_main and signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
                signal.raise_signal(signal.SIGALRM)
            return sound(*args, **options)

    return edit


@bug(Walk, "rollback", TASKS, "D2: lost: not rolled back", calls=20_000)
def a_rollback_leaves_one_out(sound: Any) -> Any:
    def rollback(walk: Any, event: Any, **options: Any) -> Any:
        undone = sound(walk, event, **options)
        if undone is not None:
            undone._positions = undone._positions[1:]
        return undone

    return rollback


@bug(Admission, "_refilter", TASKS, "(D3|D2|lost): ", calls=20_000)
def a_filter_parks_nobody(sound: Any) -> Any:
    def refilter(chain: Any, layers: Any, *args: Any) -> Any:
        with suppress(AttributeError):
            chain._edit(lambda draft: setattr(draft, "filters", layers(draft.filters)))
        return []

    return refilter


@pytest.mark.parametrize(
    ("name", "subject"),
    [pytest.param(name, one, id=f"{name}-{one}") for name in BUGS for one in BUGS[name].subjects],
)
def test_the_torture_finds(name: str, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    BUGS[name].plant(monkeypatch)
    found = torture(BUGS[name].plan, subject).violations
    assert found
    assert re.match(BUGS[name].said, found[0]), found


# The command.

LINE = r"{} +seed=7 calls=[\d,]+ writes=[\d,]+ cancelled=[\d,]+ longest wait=.+ violations={} \d+ s"


class Result(NamedTuple):
    exit_code: object
    stdout: str
    stderr: str


def run(*arguments: str) -> Result:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(["--jobs", "1", "--seed", "7", *arguments])
    return Result(ended.value.code, out.getvalue(), err.getvalue())


def test_the_command_prints_a_line_for_each_flavour_and_one_for_all() -> None:
    result = run("--calls", "600", "--only", "SrcuChain/asyncio", "--only", "RawChain/trio")
    first, second, last = result.stdout.splitlines()
    assert re.fullmatch(LINE.format("RawChain/trio", 0), first)
    assert re.fullmatch(LINE.format("SrcuChain/asyncio", 0), second)
    assert re.fullmatch(LINE.format("all", 0), last)
    assert (result.exit_code, result.stderr) == (0, "")


def test_the_command_fails_at_a_violation_and_says_with_which_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    BUGS["newcomers_come_last"].plant(monkeypatch)
    result = run("--only", "SrcuChain/trio")
    assert result.exit_code == 1
    assert re.search(LINE.format("all", "[1-5]"), result.stdout)
    hint = r"again with --only SrcuChain/trio --seed 7 --calls \d+ --callers 6 --writers 3"
    assert re.match(rf"violation: SrcuChain/trio: D1: called .+; {hint}\n", result.stderr)
