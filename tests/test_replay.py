"""The replay of the present state to a newcomer, and its veto."""

from __future__ import annotations

import copy
import errno
from contextlib import nullcontext
from threading import get_ident
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from tocsin import (
    NOTIFY_STOP,
    AsyncCallbackError,
    AtomicChain,
    BlockingChain,
    InvalidResultError,
    InvalidTypeError,
    NameFilter,
    NotifierBlock,
    OrderConflictError,
    PriorityInUseError,
    RawChain,
    RegistrationError,
    RegistrationVetoedError,
    SrcuChain,
    VetoError,
    notifier_from_errno,
)
from tocsin.admission import replace_base

from .flavours import ASYNC, FLAVOURS, SYNC, Held, Rig

pytestmark = pytest.mark.anyio
every_flavour = pytest.mark.parametrize("flavour", FLAVOURS)
WAYS = [(flavour, "sync") for flavour in FLAVOURS] + [(flavour, "async") for flavour in ASYNC]
every_way = pytest.mark.parametrize(("flavour", "colour"), WAYS)
STATE = [("register", "eth0"), ("up", "eth0"), ("register", "lo")]


def make(flavour: Any, colour: str = "sync", state: Any = STATE, **options: Any) -> Rig:
    return Rig(flavour, colour=colour, replay=lambda: state, **options)


def note(rig: Rig, does: Any = None) -> Any:
    def act(event: Any, data: Any) -> Any:
        rig.log[-1] = (event, data)
        return does(event) if callable(does) else does

    return act


@every_way
@pytest.mark.parametrize("register", ["register", "register_nowait"])
async def test_a_newcomer_hears_the_present_state_before_it_joins(
    flavour: Any, colour: str, register: str
) -> None:
    rig = make(flavour, colour)
    seen = []
    callback = rig.callback("b", lambda event, data: seen.append((event, data, len(rig.chain))))
    if register == "register_nowait" and colour == "async":
        with pytest.raises(anyio.WouldBlock):
            rig.chain.register_nowait(callback)
        assert rig.chain.is_empty
        await rig.register(callback)
    else:
        await getattr(rig, register)(callback)
    assert seen == [(event, data, 0) for event, data in STATE]
    assert len(rig.chain) == 1


@every_way
async def test_only_the_newcomer_hears_it_and_only_its_events(flavour: Any, colour: str) -> None:
    rig = make(flavour, colour)
    await rig.add("first")
    rig.drain()
    await rig.add("second", note(rig), events=["up", "down"])
    assert rig.drain() == [("up", "eth0")]


@every_way
@pytest.mark.parametrize(
    "veto", [notifier_from_errno(-errno.EBUSY), VetoError(errno.EBUSY, "full")]
)
async def test_a_newcomer_that_vetoes_is_not_registered(
    flavour: Any, colour: str, veto: Any
) -> None:
    rig = make(flavour, colour)

    def refuse(event: str) -> Any:
        if event == "up" and isinstance(veto, Exception):
            raise veto
        return veto if event == "up" else None

    callback = rig.callback("b", note(rig, refuse))
    with pytest.raises(RegistrationVetoedError, match=r"'b'.*'chain'.*EBUSY") as caught:
        await rig.register(callback)
    assert rig.drain() == [("register", "eth0"), ("up", "eth0")]
    assert rig.chain.is_empty
    error = caught.value
    assert isinstance(error, VetoError)
    assert isinstance(error, RegistrationError)
    assert (error.errno, error.result) == (errno.EBUSY, notifier_from_errno(-errno.EBUSY))
    assert (error.chain, error.block.chain) == (rig.chain, None)
    assert "eth0" not in str(error)


@every_way
async def test_a_plain_stop_is_no_veto(flavour: Any, colour: str) -> None:
    rig = make(flavour, colour)
    await rig.add("b", note(rig, lambda event: NOTIFY_STOP))
    assert rig.drain() == STATE
    assert len(rig.chain) == 1


@every_way
async def test_the_veto_of_a_registration_is_an_exception_for_an_outer_event(
    flavour: Any, colour: str
) -> None:
    """It says that the newcomer could not join, not that the outer event is vetoed."""
    inner = make(AtomicChain)
    rig = Rig(flavour, colour=colour)

    def register(event: Any, data: Any) -> None:
        inner.chain.register(lambda event, data: notifier_from_errno(-errno.EBUSY), name="b")

    await rig.add("outer", register)
    with pytest.raises(RegistrationVetoedError):
        await rig.call(1, None)
    with pytest.raises(RegistrationVetoedError):
        await rig.call_robust(1, 2, None)


@every_way
async def test_a_replay_does_not_use_up_once(flavour: Any, colour: str) -> None:
    rig = make(flavour, colour)
    await rig.add("b", note(rig), once=True)
    assert rig.drain() == STATE
    await rig.call("event", None)
    await rig.call("event", None)
    assert rig.drain() == [("event", None)]


@every_way
@pytest.mark.parametrize("policy", ["raise", "collect", "isolate"])
async def test_an_exception_in_a_replay_follows_the_policy(
    flavour: Any, colour: str, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make(flavour, colour, errors=policy)
    if policy == "isolate":
        await rig.add("b", ValueError("boom"))
        assert rig.drain() == ["b", "b", "b"]
        assert "boom" in caplog.text
        assert len(rig.chain) == 1
        return
    with pytest.raises(ValueError if policy == "raise" else ExceptionGroup) as caught:
        await rig.add("b", ValueError("boom"))
    assert caught.value is not None
    assert rig.drain() == ["b"]
    assert rig.chain.is_empty


@every_way
async def test_an_answer_that_is_no_result_is_one_in_a_replay_too(
    flavour: Any, colour: str
) -> None:
    rig = make(flavour, colour)
    with pytest.raises(InvalidResultError, match="'b'"):
        await rig.add("b", "text")
    assert rig.chain.is_empty


@every_flavour
async def test_a_unique_priority_is_asked_before_the_replay(flavour: Any) -> None:
    rig = make(flavour)
    await rig.add("first", priority=1)
    rig.drain()
    with pytest.raises(RegistrationError):
        await rig.add("second", priority=1, unique_priority=True)
    assert rig.drain() == []


@every_way
async def test_a_parked_block_is_replayed_to_when_it_is_admitted(flavour: Any, colour: str) -> None:
    rig = make(flavour, colour, filter=lambda block: False)
    block = await rig.add("b", note(rig))
    assert rig.drain() == []
    assert block.is_parked
    await rig.set_filter(None)
    assert rig.drain() == STATE
    assert not block.is_parked


@every_way
async def test_an_admission_that_is_vetoed_changes_nothing(flavour: Any, colour: str) -> None:
    admit_none = lambda block: False  # noqa: E731
    rig = make(flavour, colour, filter=admit_none)
    await rig.add("a")
    block = await rig.add("b", note(rig, lambda event: notifier_from_errno(-errno.EPERM)))
    with pytest.raises(RegistrationVetoedError):
        await rig.set_filter(None)
    assert rig.chain.filter is admit_none
    assert rig.chain.is_empty
    assert block.is_parked


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_leaving_only_replays_to_whom_it_admits(
    flavour: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make(flavour)
    refusing = False
    await rig.add("b", note(rig, lambda event: notifier_from_errno(-1) if refusing else None))
    rig.drain()
    with rig.chain.only():
        await rig.call("missed", None)
    assert rig.drain() == STATE
    with rig.chain.only():
        refusing = True
    assert [block.name for block in rig.chain.parked] == ["b"]
    assert "stays parked" in caplog.text
    refusing = False
    await rig.set_filter(None)
    assert [block.name for block in rig.chain] == ["b"]


@pytest.mark.parametrize("wrong", [("up",), ("up", "eth0", 1), ["up", "eth0"], "up"], ids=repr)
async def test_a_replay_gives_pairs_and_nothing_else(wrong: Any) -> None:
    chain = AtomicChain[Any, Any]("chain", replay=lambda: [wrong])
    with pytest.raises(InvalidTypeError, match=rf"'chain': .* pairs .* {type(wrong).__name__}$"):
        chain.register(lambda event, data: None)
    assert chain.is_empty


class Alike(NotifierBlock[Any, Any, Any]):
    """A block that says it equals any other one."""

    __hash__ = NotifierBlock.__hash__

    def __eq__(self, other: object) -> bool:
        return True


@every_flavour
async def test_leaving_only_keeps_out_the_block_that_refused_and_none_that_equals_it(
    flavour: Any,
) -> None:
    rig, refusing = make(flavour), False
    for name, refuses in (("refuses", True), ("agrees", False)):
        callback = rig.callback(
            name, lambda *_, no=refuses: notifier_from_errno(-1) if no and refusing else None
        )
        await rig.register(Alike(callback))
    with rig.chain.only():
        refusing = True
    assert [block.name for block in rig.chain] == ["agrees"]
    assert [block.name for block in rig.chain.parked] == ["refuses"]


@every_flavour
async def test_leaving_only_leaves_a_filter_that_says_it_equals_all_others(flavour: Any) -> None:
    class Nobody:
        def __call__(self, block: Any) -> bool:
            return False

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    rig = make(flavour, state=[], filter=Nobody())
    await rig.add("parked")
    with rig.chain.only("parked"):
        pass
    assert [block.name for block in rig.chain.parked] == ["parked"]


@pytest.mark.parametrize("flavour", ASYNC)
async def test_leaving_only_cannot_wait_for_an_async_replay(flavour: Any) -> None:
    rig = make(flavour, "async")
    await rig.add("b")
    rig.drain()
    with rig.chain.only():
        with pytest.raises(anyio.WouldBlock):
            with rig.chain.only():
                raise anyio.WouldBlock
        assert rig.chain.parked
    assert rig.drain() == []
    assert len(rig.chain) == 1


@pytest.mark.parametrize("flavour", ASYNC)
async def test_set_filter_nowait_would_block_where_a_replay_would_wait(flavour: Any) -> None:
    rig = make(flavour, "async", filter=lambda block: False)
    await rig.add("b")
    with pytest.raises(anyio.WouldBlock):
        rig.chain.set_filter_nowait(None)
    assert rig.chain.parked
    await rig.set_filter(None)
    assert not rig.chain.parked


async def test_raw_registers_no_async_callback_where_it_would_have_to_replay() -> None:
    chain: Any = make(RawChain).chain

    async def callback(event: Any, data: Any) -> None:
        return None

    with pytest.raises(AsyncCallbackError, match=r"'callback'.*'chain'"):
        chain.register(callback)
    assert chain.is_empty
    chain.register(lambda event, data: None)


@pytest.mark.parametrize("flavour", [BlockingChain, SrcuChain])
async def test_a_registration_cancelled_in_its_replay_registers_nothing(flavour: Any) -> None:
    rig = make(flavour, "async")
    callback = rig.callback("b", lambda event, data: anyio.sleep_forever())
    with anyio.move_on_after(0.01) as scope:
        await rig.register(callback)
    assert scope.cancelled_caught
    assert rig.chain.is_empty
    with anyio.fail_after(20):
        await rig.add("c")


@pytest.mark.parametrize("flavour", SYNC)
def test_a_replay_function_that_raises_registers_nothing(flavour: Any) -> None:
    def broken() -> Any:
        raise LookupError("mine")

    chain = flavour("chain", replay=broken)
    with pytest.raises(LookupError, match="mine"):
        chain.register(lambda event, data: None)
    assert chain.is_empty


# Those who come or are admitted while others hear the replay.


@pytest.mark.parametrize("flavour", SYNC)
@pytest.mark.parametrize("how", ["set_filter", "only"])
async def test_a_block_that_comes_while_others_hear_the_replay_hears_it_too(
    flavour: Any, how: str
) -> None:
    rig = make(flavour, filter=NameFilter(()) if how == "set_filter" else None)
    heard: list[Any] = []

    def first(event: Any, data: Any) -> None:
        if data == "lo" and len(rig.chain.parked) == 1:
            rig.chain.register(lambda event, data: heard.append((event, data)), name="second")
            assert len(rig.chain.parked) == 2

    if how == "set_filter":
        await rig.add("first", first)
        rig.chain.set_filter(None)
    else:
        with rig.chain.only():
            await rig.add("first", first)
    assert [block.name for block in rig.chain] == ["first", "second"]
    assert heard == STATE


async def test_a_block_that_comes_while_others_await_the_replay_hears_it_too() -> None:
    chain = SrcuChain[Any, Any]("chain", replay=lambda: STATE[:1], filter=NameFilter(()))
    first, heard = Held(), list[Any]()
    await chain.register(first)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.set_filter, None)
        await first.entered.wait()
        await chain.register(lambda event, data: heard.append((event, data)), name="second")
        assert len(chain.parked) == 2
        first.release.set()
    assert len(chain) == 2
    assert heard == STATE[:1]


async def test_set_filter_waits_for_a_block_that_came_during_its_replay() -> None:
    chain = SrcuChain[Any, Any]("chain", replay=lambda: STATE[:1], filter=~NameFilter(["first"]))
    first, late, log = Held(), Held(), list[str]()

    async def second(event: Any, data: Any) -> None:
        if event == "go":
            await late(event, data)
            log.append("callback ended")

    async def refilter() -> None:
        await chain.set_filter(~NameFilter(["second"]))
        log.append("filtered")

    await chain.register(first, name="first")
    async with anyio.create_task_group() as group:
        group.start_soon(refilter)
        await first.entered.wait()
        await chain.register(second, name="second")
        group.start_soon(chain.call, "go", None)
        await late.entered.wait()
        first.release.set()
        await anyio.wait_all_tasks_blocked()
        assert log == []
        late.release.set()
    assert log == ["callback ended", "filtered"]


@every_flavour
@pytest.mark.parametrize("veto", [False, True])
async def test_a_newcomer_whom_a_filter_set_meanwhile_admits_hears_the_replay(
    flavour: Any, veto: bool
) -> None:
    """As another thread may do; here the filter itself does, and then says no."""

    def fickle(block: Any) -> bool:
        rig.chain._refilter(replace_base(None))
        return False

    rig = make(flavour, filter=fickle)
    heard: list[Any] = []

    def newcomer(event: Any, data: Any) -> Any:
        heard.append((event, data))
        return notifier_from_errno(-errno.EBUSY) if veto else None

    if veto:
        with pytest.raises(RegistrationVetoedError):
            rig.chain.register_nowait(newcomer)
        assert rig.chain.is_empty
        assert heard == STATE[:1]
    else:
        rig.chain.register_nowait(newcomer)
        assert len(rig.chain) == 1
        assert heard == STATE


@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_threaded_newcomer_would_block_on_a_replay(flavour: Any) -> None:
    chain = flavour("chain", replay=lambda: STATE)
    with pytest.raises(anyio.WouldBlock):
        chain.register_nowait(print, thread=True)
    assert chain.is_empty


@pytest.mark.parametrize("flavour", ASYNC)
async def test_leaving_only_lets_a_threaded_block_return_unheard(flavour: Any) -> None:
    chain, heard = flavour("chain", replay=lambda: STATE[:1]), []
    await chain.register(lambda event, data: heard.append(event), thread=True, name="b")
    assert heard == ["register"]
    with chain.only():
        pass
    assert len(chain) == 1
    assert heard == ["register"]


@pytest.mark.parametrize("flavour", ASYNC)
async def test_options_hold_in_a_replay(flavour: Any) -> None:
    chain, threads = flavour("chain", replay=lambda: STATE[:1]), list[int]()
    await chain.register(lambda event, data: threads.append(get_ident()), thread=True)
    assert len(threads) == 1
    assert threads[0] != get_ident()
    with pytest.raises(TimeoutError):
        await chain.register(Held(), timeout=0.01)
    await chain.register(lambda event, data: anyio.lowlevel.checkpoint(), is_async=True)
    assert len(chain) == 2


async def test_unique_priority_is_asked_again_after_the_replay() -> None:
    chain, held = SrcuChain[Any, Any]("chain", replay=lambda: STATE[:1]), Held()

    async def register() -> None:
        with pytest.raises(PriorityInUseError):
            await chain.register(held, unique_priority=True)

    async with anyio.create_task_group() as group:
        group.start_soon(register)
        await held.entered.wait()
        peer = await chain.register(print, events=["other"])
        held.release.set()
    assert chain.blocks == (peer,)


def test_a_vetoed_registration_is_copied_with_its_words() -> None:
    def veto(event: Any, data: Any) -> None:
        raise VetoError(errno.EBUSY, "my words")

    with pytest.raises(RegistrationVetoedError) as caught:
        AtomicChain[Any, Any]("chain", replay=lambda: STATE).register(veto)
    assert copy.copy(caught.value).reason == "my words"


# What may happen in the middle of a replay.


@pytest.mark.parametrize("flavour", SYNC)
async def test_a_block_with_once_that_a_replay_admitted_in_between_is_called_once(
    flavour: Any,
) -> None:
    chain = flavour("chain", filter=lambda block: False, replay=lambda: [("now", None)])
    heard: list[object] = []

    def admit(event: Any, data: Any) -> None:
        if event == "now" and not heard:
            heard.append("admitting")
            chain.set_filter(None)

    chain.register(admit, priority=1)
    block = chain.register(lambda event, data: heard.append(event), once=True)
    chain.set_filter(None)
    heard.clear()
    for event in (1, 2, 3):
        chain.call(event, None)
    assert heard == [1]
    assert block.chain is None


@pytest.mark.parametrize("flavour", SYNC)
async def test_d3_a_block_that_is_taken_off_in_a_replay_hears_no_more_of_it(flavour: Any) -> None:
    pairs = [("first", None), ("second", None)]
    chain = flavour("chain", filter=lambda block: False, replay=lambda: pairs)
    heard: list[object] = []

    def take_off(event: Any, data: Any) -> None:
        heard.append(event)
        for block in blocks:
            chain.unregister(block)

    blocks = [chain.register(take_off, priority=1), chain.register(take_off)]
    chain.set_filter(None)
    assert heard == ["first"]
    assert chain.is_empty


@pytest.mark.parametrize("flavour", [SrcuChain])
async def test_d3_a_parked_block_that_is_taken_off_while_another_hears_is_not_replayed_to(
    flavour: Any,
) -> None:
    rig = Rig(flavour, colour="async", filter=lambda block: False, replay=lambda: [(1, None)])
    held = Held()
    first = await rig.register(rig.callback("first", held), priority=1)
    second = await rig.register(rig.callback("second"))
    async with anyio.create_task_group() as group:
        group.start_soon(rig.chain.set_filter, None)
        await held.entered.wait()
        rig.chain.unregister_nosync(second)
        held.release.set()
    assert rig.drain() == ["first"]
    assert rig.chain.blocks == (first,)


@pytest.mark.parametrize(
    ("asks", "rival", "error"),
    [
        ({"unique_priority": True}, {}, PriorityInUseError),
        ({"before": "late"}, {"name": "late", "priority": 9}, OrderConflictError),
        ({"before": "late"}, {"name": "late", "priority": 9, "parked": True}, OrderConflictError),
    ],
)
async def test_whoever_comes_during_a_replay_counts_when_the_newcomer_joins(
    asks: dict[str, Any], rival: dict[str, Any], error: type[Exception]
) -> None:
    rig = Rig(SrcuChain, colour="async", replay=lambda: [(1, None)])
    held, rival = Held(), dict(rival)

    async def register() -> None:
        with pytest.raises(error):
            await rig.register(rig.callback("newcomer", held), **asks)

    async with anyio.create_task_group() as group:
        group.start_soon(register)
        await held.entered.wait()
        parked = rival.pop("parked", False)
        with rig.chain.only() if parked else nullcontext():
            late = rig.chain.register_nowait(lambda event, data: None, **rival)
            held.release.set()
            await wait_all_tasks_blocked()
    assert rig.chain.blocks == (late,)
