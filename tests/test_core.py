"""A table may change at any moment of a call's making what it walks over: nothing stale is left."""

from __future__ import annotations

import gc
import signal
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tocsin import NOTIFY_BAD, AtomicChain, NotifierBlock, Observer, RegistrationVetoedError
from tocsin.core import Core
from tocsin.table import Table
from tocsin.view import Snapshot, Walked

from .flavours import FLAVOURS, SYNC, Rig

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio
every_flavour = pytest.mark.parametrize("flavour", FLAVOURS)

SHAPES = ["plain", "routed", "observed"]
STEPS = [(Table, "view"), (Table, "snapshot"), (Walked, "add"), (Snapshot, "open")]
"""The steps in which a call makes what it walks over, and shows it to others."""
MOMENTS: list[tuple[type[Any], str, str]] = [
    (owner, name, shape)
    for owner, name in STEPS
    for shape in SHAPES
    if shape != "plain" or name not in ("snapshot", "open")
]
"""With the shapes of a chain that takes this step."""
EDITS: list[tuple[type[Any], str]] = [(Table, "discard"), (Core, "_closed"), (Snapshot, "blank")]
"""The steps in which a writer changes it."""

every_moment = pytest.mark.parametrize(
    ("owner", "name", "shape"),
    MOMENTS,
    ids=[f"{owner.__name__}.{name}-{shape}" for owner, name, shape in MOMENTS],
)
every_side = pytest.mark.parametrize("side", ["before", "after"])
every_shape = pytest.mark.parametrize("shape", SHAPES)
CALLS = ["call", "call_report", "call_robust"]


class Moment:
    """Does something once, at the next time that a method is called from this thread."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        owner: type[Any],
        name: str,
        side: str,
        act: Callable[[], Any],
    ) -> None:
        method = getattr(owner, name)
        self.has_come = False

        def strike() -> None:
            if not self.has_come:
                self.has_come = True
                act()

        def struck(*arguments: Any) -> Any:
            if side == "before":
                strike()
            made = method(*arguments)
            if side == "after":
                strike()
            return made

        monkeypatch.setattr(owner, name, struck)


def in_this_thread(act: Callable[[], Any]) -> None:
    act()


def in_another(act: Callable[[], Any]) -> None:
    thread = threading.Thread(target=act)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def in_a_handler(act: Callable[[], Any]) -> None:
    previous = signal.signal(signal.SIGUSR1, lambda *_: act())
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, previous)


WRITERS: list[tuple[type[Any], Any]] = [
    *((flavour, in_this_thread) for flavour in FLAVOURS),
    (AtomicChain, in_another),
    *((flavour, in_a_handler) for flavour in SYNC),
]
every_writer = pytest.mark.parametrize(
    ("flavour", "run"), WRITERS, ids=[f"{one.__name__}-{run.__name__}" for one, run in WRITERS]
)


async def make_rig(flavour: type[Any], shape: str) -> Rig:
    rig = Rig(flavour)
    if shape == "routed":
        await rig.add("other", events="other")
    elif shape == "observed":
        rig.chain.observe(Observer())
    return rig


async def run_call(rig: Rig, call: str) -> list[Any]:
    """Make one call and give who heard it."""
    arguments = ("up", "down", None) if call == "call_robust" else ("up", None)
    await getattr(rig, call)(*arguments)
    return rig.drain()


# A writer comes while a call makes its snapshot.


@every_writer
@every_moment
@every_side
async def test_d3_who_goes_while_a_call_makes_its_snapshot_is_not_entered(
    flavour: Any,
    run: Any,
    owner: Any,
    name: str,
    shape: str,
    side: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = await make_rig(flavour, shape)
    await rig.add("first", priority=1)
    victim = await rig.add("victim")
    await rig.add("last")
    act = partial(rig.chain.unregister_nosync, victim)
    come = Moment(monkeypatch, owner, name, side, lambda: run(act))
    assert await run_call(rig, "call") == ["first", "last"]
    assert come.has_come
    assert await run_call(rig, "call") == ["first", "last"]


@every_writer
@every_moment
@every_side
async def test_d2_who_comes_while_a_call_makes_its_snapshot_is_heard_by_the_next(
    flavour: Any,
    run: Any,
    owner: Any,
    name: str,
    shape: str,
    side: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = await make_rig(flavour, shape)
    await rig.add("first", priority=1)
    act = partial(rig.chain.register_nowait, rig.callback("newcomer"))
    come = Moment(monkeypatch, owner, name, side, lambda: run(act))
    assert (await run_call(rig, "call"))[:1] == ["first"]
    assert come.has_come
    for _ in range(2):
        assert await run_call(rig, "call") == ["first", "newcomer"]


@every_writer
@every_moment
@every_side
async def test_d2_a_writer_that_calls_too_does_not_hide_whom_it_registered(
    flavour: Any,
    run: Any,
    owner: Any,
    name: str,
    shape: str,
    side: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both calls have something to show to the next one."""
    rig = await make_rig(flavour, shape)
    await rig.add("first", priority=1)

    def write_and_open() -> None:
        rig.chain.register_nowait(rig.callback("newcomer"))
        rig.chain._open("up")

    Moment(monkeypatch, owner, name, side, lambda: run(write_and_open))
    await run_call(rig, "call")
    assert await run_call(rig, "call") == ["first", "newcomer"]


# A signal handler comes while a writer changes the table.


@pytest.mark.parametrize("flavour", SYNC)
@pytest.mark.parametrize(("owner", "name"), EDITS)
@every_side
@every_shape
async def test_a_handler_that_calls_and_writes_while_a_block_goes_leaves_nothing_stale(
    flavour: Any, owner: Any, name: str, side: str, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = await make_rig(flavour, shape)
    await rig.add("first", priority=1)
    victim = await rig.add("victim")
    walked = rig.chain._open("up")  # as a walk in another thread holds it

    def handle() -> None:
        rig.chain.call("up", None)
        rig.chain.register(rig.callback("newcomer"), priority=-1)
        rig.drain()
        rig.chain.call("up", None)

    come = Moment(monkeypatch, owner, name, side, lambda: in_a_handler(handle))
    rig.chain.unregister(victim)
    assert come.has_come
    assert rig.drain() == ["first", *["victim"] * (owner is Table), "newcomer"]
    assert not walked.holds(walked.find(victim))
    for call in CALLS:
        assert await run_call(rig, call) == ["first", "newcomer"]


# A writer comes while the event finds its way through a gate that was there before.


class Turning:
    """An event that does something when it is looked at for the so-manieth time."""

    def __init__(self, act: Callable[[], Any], at: int) -> None:
        self._act, self._left = act, at

    def __hash__(self) -> int:
        self._left -= 1
        if self._left == 0:
            self._act()
        return hash("up")

    def __eq__(self, other: object) -> bool:
        return other == "up"


@every_flavour
@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
async def test_d3_a_gate_that_a_call_has_entered_leads_to_nobody_who_has_gone_since(
    flavour: Any, is_open: bool, at: int
) -> None:
    rig = Rig(flavour)
    await rig.add("first", priority=1)
    victim = await rig.add("victim", events="up")
    await rig.add("last")
    if is_open:
        await run_call(rig, "call")
    await rig.call(Turning(lambda: rig.chain.unregister_nosync(victim), at), None)
    heard = rig.drain()
    assert heard == ["first", *["victim"] * (victim.chain is not None), "last"]
    if victim.chain is not None:
        assert at > 2  # an open gate is asked twice
        await rig.unregister(victim)
    assert await run_call(rig, "call") == ["first", "last"]


@every_flavour
@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("at", [1, 2, 3])
async def test_d2_a_gate_that_a_call_has_entered_is_shown_to_no_later_one(
    flavour: Any, is_open: bool, at: int
) -> None:
    rig = Rig(flavour)
    await rig.add("first", priority=1, events="up")
    if is_open:
        await run_call(rig, "call")
    newcomer: Any = NotifierBlock(rig.callback("newcomer"), events=["up"])
    await rig.call(Turning(lambda: rig.chain.register_nowait(newcomer), at), None)
    if newcomer.chain is None:
        rig.chain.register_nowait(newcomer)
    rig.drain()
    assert await run_call(rig, "call") == ["first", "newcomer"]


# Events that are hard to look at.


class HashError(Exception):
    pass


class Bad:
    def __init__(self, *, hashed: type[Exception], compared: type[Exception]) -> None:
        self._hashed, self._compared = hashed, compared

    def __hash__(self) -> int:
        raise self._hashed

    def __eq__(self, other: object) -> bool:
        raise self._compared


BAD = [Bad(hashed=HashError, compared=HashError), Bad(hashed=TypeError, compared=HashError)]


@every_flavour
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("event", BAD, ids=["in its hash", "compared"])
@pytest.mark.parametrize("is_open", [True, False])
async def test_an_event_that_fails_to_be_compared_fails_its_call_and_no_other(
    flavour: Any, call: str, event: Bad, is_open: bool
) -> None:
    rig = Rig(flavour)
    await rig.add("up", events="up")
    await rig.add("all")
    if is_open:
        await run_call(rig, "call")
    arguments = (event, "down", None) if call == "call_robust" else (event, None)
    for _ in range(3):
        with pytest.raises(HashError):
            await getattr(rig, call)(*arguments)
    assert rig.drain() == []
    assert rig.chain.statistics().walks_running == 0
    assert await run_call(rig, call) == ["up", "all"]
    await rig.add("newcomer")  # no reader is left that a writer would wait for
    assert await run_call(rig, call) == ["up", "all", "newcomer"]


@every_flavour
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("event", BAD, ids=["in its hash", "compared"])
async def test_where_no_block_names_an_event_no_event_is_compared(
    flavour: Any, call: str, event: Bad
) -> None:
    rig = Rig(flavour)
    await rig.add("all")
    arguments = (event, "down", None) if call == "call_robust" else (event, None)
    for _ in range(2):
        await getattr(rig, call)(*arguments)
        assert rig.drain() == ["all"]


@every_flavour
@pytest.mark.parametrize("call", CALLS)
async def test_a_block_that_names_no_event_hears_none(flavour: Any, call: str) -> None:
    rig = Rig(flavour)
    deaf = await rig.add("deaf", events=())
    for _ in range(2):
        assert await run_call(rig, call) == []
    await rig.add("all")
    for _ in range(2):
        assert await run_call(rig, call) == ["all"]
    await rig.call([], None)
    assert rig.drain() == ["all"]
    assert [block.name for block in rig.chain.blocks] == ["deaf", "all"]
    await rig.unregister(deaf)
    assert await run_call(rig, call) == ["all"]


# Another thread is writing.


@every_shape
def test_a_call_does_not_wait_for_a_writer_in_another_thread(shape: str) -> None:
    chain, heard = AtomicChain[Any, Any]("chain"), list[Any]()
    if shape == "routed":
        chain.register(lambda event, data: heard.append("other"), events="other")
    elif shape == "observed":
        chain.observe(Observer())
    chain.register(lambda event, data: heard.append("first"))
    results: list[Any] = []

    def make_calls() -> None:
        results.extend([chain.call("up", None), chain.call("up", None)])

    with chain._lock:
        in_another(make_calls)
        assert (results, heard) == ([0, 0], ["first", "first"])
    heard.clear()
    chain.call("up", None)
    chain.register(lambda event, data: heard.append("newcomer"))
    chain.call("up", None)
    assert heard == ["first", "first", "newcomer"]


@pytest.mark.parametrize("shape", ["plain", "routed"])
def test_a_call_ends_however_often_others_write_in_its_middle(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps what it has made to itself, without whoever has left."""
    chain, heard, late = AtomicChain[Any, Any]("chain"), list[str](), list[Any]()
    if shape == "routed":
        chain.register(lambda event, data: None, events="other")
    chain.register(lambda event, data: heard.append("stays"))
    leaver = chain.register(lambda event, data: heard.append("leaves"))
    known = Walked.add

    def write(walked: Walked, items: Snapshot) -> None:
        if leaver.chain is not None:
            chain.unregister(leaver)
        late.append(chain.register(lambda event, data: heard.append("late")))
        known(walked, items)

    monkeypatch.setattr(Walked, "add", write)
    chain.call("up", None)
    assert heard == ["stays"]
    monkeypatch.undo()
    heard.clear()
    chain.call("up", None)
    assert heard == ["stays", *["late"] * len(late)]


def test_d15_an_observer_changes_nothing_for_an_event_that_cannot_be_hashed() -> None:
    class Odd:
        def __hash__(self) -> int:
            raise OSError

    chain, heard = AtomicChain[Any, Any]("chain"), list[object]()
    chain.register(lambda event, data: heard.append(data))
    chain.call(Odd(), 1)
    chain.observe(Observer())
    chain.call(Odd(), 2)
    assert heard == [1, 2]


def test_d14_a_block_that_vetoes_its_replay_is_released_at_once() -> None:
    class Block(NotifierBlock[Any, Any, Any]):
        def notifier_call(self, event: Any, data: Any) -> int:
            return NOTIFY_BAD

    chain = AtomicChain[Any, Any]("chain", replay=lambda: [(1, None)])
    block = Block()
    gone = weakref.ref(block)
    with pytest.raises(RegistrationVetoedError):
        chain.register(block)
    gc.disable()
    try:
        del block
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("write", ["register", "unregister"])
def test_a_write_that_is_interrupted_for_good_leaves_the_chain_as_it_says_it_is(
    write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, heard = AtomicChain[Any, Any]("chain"), list[int]()
    block = NotifierBlock[Any, Any, None](lambda event, data: heard.append(event))
    if write == "unregister":
        chain.register(block)
    chain.call(1)

    def interrupt(chain: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Core, "_closed", interrupt)
    with pytest.raises(KeyboardInterrupt):
        getattr(chain, write)(block)
    monkeypatch.undo()
    heard.clear()
    chain.call(2)
    assert (heard == [2]) is (block in chain)
