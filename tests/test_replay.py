"""The replay of the present state to a newcomer, and its veto."""

from __future__ import annotations

import errno
from typing import Any

import anyio
import pytest

from tocsin import (
    NOTIFY_STOP,
    AsyncCallbackError,
    AtomicChain,
    BlockingChain,
    InvalidResultError,
    RawChain,
    RegistrationError,
    RegistrationVetoedError,
    SrcuChain,
    VetoError,
    notifier_from_errno,
)

from .flavours import ASYNC, FLAVOURS, SYNC, Rig

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
