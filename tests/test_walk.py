"""The loops name the right block, whoever raised, and hand over what they do not know."""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tocsin import (
    NOTIFY_BAD,
    NOTIFY_OK,
    AsyncCallbackError,
    BlockingChain,
    InvalidResultError,
    NotifierBlock,
    RawChain,
    SrcuChain,
    VetoError,
)
from tocsin.view import Snapshot

from .flavours import WAY_IDS, WAYS, Rig, spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.anyio
every_way = pytest.mark.parametrize(("flavour", "colour", "walk"), WAYS, ids=WAY_IDS)


class BoomError(Exception):
    pass


def nothing(event: Any, data: Any) -> None:
    pass


async def anothing(event: Any, data: Any) -> None:
    pass


@every_way
async def test_nothing_but_the_call_stands_between_the_caller_and_what_a_callback_raises(
    flavour: type[Any], colour: str, walk: str
) -> None:
    rig = Rig(flavour, colour=colour, walk=walk)
    await rig.add("culprit", BoomError())
    with pytest.raises(BoomError) as caught:
        await rig.call(1, None)
    ours = [
        frame.name for frame in caught.traceback if frame.frame.f_globals["__package__"] == "tocsin"
    ]
    assert set(ours) <= {"call", "acall"}


@pytest.mark.parametrize("flavour", [BlockingChain, SrcuChain])
@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("result", [1.0, 0.0, -1.0, "", object()], ids=spelled)
async def test_d4_holds_among_callbacks_of_both_colours(
    flavour: type[Any], colour: str, result: Any
) -> None:
    rig = Rig(flavour, colour=colour)
    await rig.chain.register(nothing if colour == "async" else anothing)
    await rig.add("culprit", result)
    await rig.chain.register(nothing if colour == "async" else anothing)
    with pytest.raises(InvalidResultError, match="culprit"):
        await rig.call(1, None)


@pytest.mark.parametrize("flavour", [BlockingChain, SrcuChain])
@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("result", [None, True, False, NOTIFY_OK, 0x7FFF, 0x10000, 10**20])
async def test_d4_any_int_is_a_result_among_callbacks_of_both_colours(
    flavour: type[Any], colour: str, result: Any
) -> None:
    rig = Rig(flavour, colour=colour)
    await rig.add("first", result)
    await rig.chain.register(nothing if colour == "async" else anothing)
    await rig.add("last", 7)
    assert await rig.call(1, None) == 7
    assert rig.drain() == ["first", "last"]


class Meddler:
    """An event that equals ``"x"``, and does something when it is hashed."""

    def __init__(self, does: Callable[[], None]) -> None:
        self.does: Callable[[], None] | None = does

    def __eq__(self, other: object) -> bool:
        return other == "x"

    def __hash__(self) -> int:
        if self.does is not None:
            does, self.does = self.does, None
            does()
        return hash("x")


@every_way
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_d3_who_is_removed_while_the_event_is_looked_at_is_skipped_and_nobody_else(
    flavour: type[Any], colour: str, walk: str, place: int
) -> None:
    rig = Rig(flavour, colour=colour, walk=walk)
    blocks = [await rig.add(name, NOTIFY_OK, events="x") for name in "abc"]
    await rig.call("x", None)
    rig.drain()
    event = Meddler(lambda: rig.chain.unregister_nosync(blocks[place]))
    assert await rig.call(event, None) == NOTIFY_OK
    assert rig.drain() == [name for name in "abc" if name != "abc"[place]]


# D16: the same callback in several blocks; which of them is it?


class Turns:
    """What the one callback does: nothing, but at its so-manieth turn something else."""

    def __init__(self, at: int, act: Callable[[], Any]) -> None:
        self.at, self.act, self.number = at, act, 0

    def take(self) -> Any:
        self.number += 1
        return self.act() if self.number == self.at else None


def make_shared(kind: str, colour: str, turns: Turns) -> Any:
    """Make the one callback that all blocks have."""

    def function(event: Any, data: Any) -> Any:
        return turns.take()

    async def coroutine_function(event: Any, data: Any) -> Any:
        return turns.take()

    class Listener:
        def method(self, event: Any, data: Any) -> Any:
            return turns.take()

        async def async_method(self, event: Any, data: Any) -> Any:
            return turns.take()

    class Sync:
        def __call__(self, event: Any, data: Any) -> Any:
            return turns.take()

    class Async:
        async def __call__(self, event: Any, data: Any) -> Any:
            return turns.take()

    made = {
        "sync": (function, Listener().method, Sync(), partial(function)),
        "async": (
            coroutine_function,
            Listener().async_method,
            Async(),
            partial(coroutine_function),
        ),
    }
    return made[colour][KINDS.index(kind)]


KINDS = ["function", "method", "object", "partial"]


class Shared:
    """Four blocks of one callback, one of which does something else than the others."""

    def __init__(self, rig: Rig, kind: str, at: int, does: str) -> None:
        self.rig, self.at, self.does = rig, at, does
        self.turns = Turns(at, self.act)
        self.callback = make_shared(kind, rig.colour, self.turns)
        self.blocks: list[Any] = []

    async def register(self) -> None:
        for number in (1, 2, 3, 4):
            made = await self.rig.register(self.callback, name=f"b{number}", priority=-number)
            self.blocks.append(made)

    def act(self) -> Any:
        if "leaves" in self.does:
            self.rig.chain.unregister_nosync(self.blocks[self.at - 1])
        if "raises" in self.does:
            raise BoomError
        if self.does == "vetoes":
            raise VetoError(errno.EBUSY)
        return {"odd": "odd", "stops": NOTIFY_BAD}[self.does.removeprefix("leaves and ")]

    @property
    def note(self) -> str:
        return f"block 'b{self.at}' of chain 'chain', priority -{self.at}, position {self.at} of 4"


every_kind = pytest.mark.parametrize("kind", KINDS)
second_and_third = pytest.mark.parametrize("at", [2, 3])
by_call = pytest.mark.parametrize("call", ["call", "call_report"])


async def make_shared_rig(
    way: tuple[Any, str, str], kind: str, at: int, does: str, policy: str = "raise"
) -> Shared:
    flavour, colour, walk = way
    shared = Shared(Rig(flavour, colour=colour, walk=walk, errors=policy), kind, at, does)
    await shared.register()
    return shared


@every_way
@every_kind
@second_and_third
@pytest.mark.parametrize("does", ["raises", "odd", "leaves and raises", "leaves and odd"])
async def test_d16_the_note_names_the_block_that_failed(
    flavour: Any, colour: str, walk: str, kind: str, at: int, does: str
) -> None:
    shared = await make_shared_rig((flavour, colour, walk), kind, at, does)
    with pytest.raises((BoomError, InvalidResultError)) as caught:
        await shared.rig.call(1, None)
    assert [one.removeprefix("raised by ") for one in caught.value.__notes__] == [shared.note]
    if does.endswith("odd"):
        assert f"block 'b{at}' on chain" in str(caught.value)
    assert shared.turns.number == at


@every_way
@every_kind
@pytest.mark.parametrize("at", [2])
@pytest.mark.parametrize("does", ["raises", "leaves and odd"])
async def test_d16_a_group_names_the_block_that_failed_and_the_others_run(
    flavour: Any, colour: str, walk: str, kind: str, at: int, does: str
) -> None:
    shared = await make_shared_rig((flavour, colour, walk), kind, at, does, "collect")
    with pytest.raises(ExceptionGroup) as caught:
        await shared.rig.call(1, None)
    (failure,) = caught.value.exceptions
    assert [one.removeprefix("raised by ") for one in failure.__notes__] == [shared.note]
    assert shared.turns.number == 4


@every_way
@every_kind
@pytest.mark.parametrize("at", [3])
@pytest.mark.parametrize("does", ["leaves and raises", "odd"])
async def test_d16_what_is_isolated_is_that_blocks_and_the_others_run(
    flavour: Any,
    colour: str,
    walk: str,
    kind: str,
    at: int,
    does: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shared = await make_shared_rig((flavour, colour, walk), kind, at, does, "isolate")
    assert await shared.rig.call(1, None) == 0
    assert shared.turns.number == 4
    assert [name for name in ("b1", "b2", "b3", "b4") if f"'{name}'" in caplog.text] == [f"b{at}"]
    assert len(caplog.records) == 1


@every_way
@every_kind
@pytest.mark.parametrize("does", ["vetoes", "leaves and stops"])
async def test_d16_who_stops_is_the_block_that_stopped(
    flavour: Any, colour: str, walk: str, kind: str, does: str
) -> None:
    shared = await make_shared_rig((flavour, colour, walk), kind, 3, does)
    report = await shared.rig.call_report(1, None)
    assert (report.stopped_by, report.nr_calls) == (shared.blocks[2], 3)

    shared = await make_shared_rig((flavour, colour, walk), kind, 3, does)
    assert await shared.rig.call(1, None) == report.result
    assert shared.turns.number == 3

    shared = await make_shared_rig((flavour, colour, walk), kind, 3, does)
    robust = await shared.rig.call_robust_report(1, 2, None)
    assert (robust.stopped_by, robust.result) == (shared.blocks[2], report.result)
    assert list(robust.rolled_back) == shared.blocks[:2]


# A block that is gone while its own callback runs.


class SyncBlock(NotifierBlock[Any, Any, Any]):
    does: Any

    def notifier_call(self, event: Any, data: Any) -> Any:
        return self.does(event, data)


class AsyncBlock(NotifierBlock[Any, Any, Any]):
    does: Any

    async def notifier_call(self, event: Any, data: Any) -> Any:
        return await self.does(event, data)


def make_block(shape: str, colour: str, callback: Any) -> Any:
    if shape == "subclass":
        block: Any = SyncBlock() if colour == "sync" else AsyncBlock()
        block.does = callback
        return block
    return NotifierBlock(callback, once=shape == "once", events=[1] if shape == "routed" else None)


@every_way
@pytest.mark.parametrize("policy", ["raise", "collect"])
@pytest.mark.parametrize("shape", ["plain", "once", "routed", "subclass"])
@by_call
async def test_a_block_that_goes_while_its_callback_runs_is_named_by_what_that_raises(
    flavour: Any, colour: str, walk: str, policy: str, shape: str, call: str
) -> None:
    rig = Rig(flavour, colour=colour, walk=walk, errors=policy)
    gone: list[Any] = []

    def go_and_raise(event: Any, data: Any) -> Any:
        if gone[0].chain is not None:  # one with once is off already
            rig.chain.unregister_nosync(gone[0])
        raise BoomError

    callback = rig.callback("culprit", go_and_raise)
    await rig.add("first", priority=1)
    gone.append(await rig.register(make_block(shape, colour, callback)))
    await rig.add("last")
    with pytest.raises((BoomError, ExceptionGroup)) as caught:
        await getattr(rig, call)(1, None)
    raised = caught.value
    failure = raised.exceptions[0] if isinstance(raised, ExceptionGroup) else raised
    (note,) = failure.__notes__
    assert f"block {gone[0].name!r} of chain 'chain', priority 0, position 2 of 3" in note
    assert rig.drain() == ["first", "culprit", *["last"] * (policy == "collect")]


# What comes between the callbacks.


class Interrupted(Snapshot):
    """Raises once, where a signal handler would that interrupts the loop before its first turn."""

    __slots__ = ("was",)

    def __iter__(self) -> Iterator[Any]:
        if not hasattr(self, "was"):
            self.was = True
            raise BoomError
        return super().__iter__()


@every_way
@pytest.mark.parametrize("policy", ["raise", "collect", "isolate"])
async def test_what_a_handler_raises_before_the_first_callback_is_no_blocks_exception(
    flavour: Any, colour: str, walk: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(flavour, colour=colour, walk=walk, errors=policy)
    await rig.add("innocent")
    with monkeypatch.context() as context:
        context.setattr("tocsin.table.Snapshot", Interrupted)
        with pytest.raises(BoomError) as caught:
            await rig.call(1, None)
    assert not hasattr(caught.value, "__notes__")
    assert rig.drain() == []
    assert rig.chain.statistics().walks_running == 0
    await rig.add("newcomer")
    await rig.call(1, None)
    assert rig.drain() == ["innocent", "newcomer"]


# D7


async def test_d7_a_raw_call_is_refused_also_on_a_route_on_which_nobody_awaits() -> None:
    rig, heard = Rig(RawChain, colour="async", walk="acall"), list[Any]()
    await rig.add("awaiting", events="up")
    rig.chain.register(lambda event, data: heard.append(event))
    for _ in range(2):
        for call in (rig.chain.call, rig.chain.call_report):
            with pytest.raises(AsyncCallbackError, match="'awaiting'"):
                call("down", None)
        assert heard == []
        await rig.call("down", None)  # which opens the route
        heard.clear()
    rig.chain.unregister(rig.chain.blocks[0])
    assert rig.chain.call("down", None) == 0
    assert heard == ["down"]
