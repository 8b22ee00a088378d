"""D6, D7 and D8, and what happens to bad input at registration, on every flavour."""

from __future__ import annotations

import errno
import math
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any

import anyio
import pytest

from tocsin import (
    AlreadyRegisteredError,
    AsyncCallbackError,
    AtomicChain,
    InvalidResultError,
    InvalidTypeError,
    InvalidValueError,
    NotifierBlock,
    NotRegisteredError,
    PriorityInUseError,
    RawChain,
    RegistrationError,
    Scope,
    ScopeClosedError,
    TocsinError,
)

from .flavours import ASYNC, FLAVOURS, SYNC, WAY_IDS, WAYS, Rig, spelled

pytestmark = pytest.mark.anyio
every_flavour = pytest.mark.parametrize("flavour", FLAVOURS)
every_way = pytest.mark.parametrize(("flavour", "colour", "walk"), WAYS, ids=WAY_IDS)
REGISTERS = ["register", "register_nowait"]
UNREGISTERS = ["unregister", "unregister_nowait", "unregister_nosync"]


def nothing(event: Any, data: Any) -> None:
    return None


async def anothing(event: Any, data: Any) -> None:
    return None


# D6 registration errors


@every_flavour
@pytest.mark.parametrize("register", REGISTERS)
async def test_d6_a_block_twice_is_eexist(flavour: Any, register: str) -> None:
    rig = Rig(flavour)
    block = await rig.add("b")
    with pytest.raises(AlreadyRegisteredError, match=r"'b'.*'chain'") as caught:
        await getattr(rig, register)(block)
    error = caught.value
    assert (error.errno, error.chain, error.block) == (errno.EEXIST, rig.chain, block)
    assert isinstance(error, RegistrationError)
    assert isinstance(error, TocsinError)
    assert rig.chain.blocks == (block,)


@every_flavour
async def test_d6_a_block_of_another_chain_is_eexist_and_stays_there(flavour: Any) -> None:
    rig, other = Rig(flavour), AtomicChain[Any, Any]("other")
    block = other.register(nothing, name="b")
    with pytest.raises(AlreadyRegisteredError, match="'other'"):
        await rig.register(block)
    assert block.chain is other
    assert rig.chain.is_empty
    with pytest.raises(NotRegisteredError, match="'other'"):
        await rig.unregister(block)


@every_flavour
@pytest.mark.parametrize("register", REGISTERS)
async def test_d6_a_unique_priority_in_use_is_ebusy(flavour: Any, register: str) -> None:
    rig = Rig(flavour)
    peer = await rig.add("peer", priority=3)
    block = NotifierBlock(nothing, name="b", priority=3)
    with pytest.raises(PriorityInUseError, match=r"'b'.*'chain'.*'peer'") as caught:
        await getattr(rig, register)(block, unique_priority=True)
    assert (caught.value.errno, caught.value.block) == (errno.EBUSY, block)
    assert block.chain is None
    assert rig.chain.blocks == (peer,)
    await rig.register(block)  # uniqueness is asked of the newcomer only
    await rig.add("free", priority=4, unique_priority=True)


@every_flavour
async def test_d6_ebusy_wins_over_eexist_when_a_peer_stands_in_front(flavour: Any) -> None:
    rig = Rig(flavour)
    first, second = await rig.add("first"), await rig.add("second")
    with pytest.raises(PriorityInUseError):
        await rig.register(second, unique_priority=True)
    with pytest.raises(AlreadyRegisteredError):
        await rig.register(first, unique_priority=True)


@every_flavour
@pytest.mark.parametrize("unregister", UNREGISTERS)
async def test_d6_a_block_that_is_not_there_is_enoent(flavour: Any, unregister: str) -> None:
    rig = Rig(flavour)
    block = NotifierBlock(nothing, name="b")
    for _ in range(2):
        with pytest.raises(NotRegisteredError, match=r"'b'.*'chain'") as caught:
            await getattr(rig, unregister)(block)
        assert (caught.value.errno, caught.value.block) == (errno.ENOENT, block)
        await rig.register(block)
        await getattr(rig, unregister)(block)


@every_flavour
@pytest.mark.parametrize("unregister", UNREGISTERS)
async def test_d6_a_function_cannot_be_unregistered(flavour: Any, unregister: str) -> None:
    rig = Rig(flavour)
    await rig.register(nothing)
    with pytest.raises(NotRegisteredError, match="keep the block that register gave you"):
        await getattr(rig, unregister)(nothing)
    assert len(rig.chain) == 1


@every_flavour
async def test_d6_context_exits_do_not_mind_a_block_that_is_gone(flavour: Any) -> None:
    rig = Rig(flavour)
    if flavour in SYNC:
        with rig.chain.registered(nothing) as block:
            assert block in rig.chain
            rig.chain.unregister(block)
        with rig.chain.registered(nothing) as block:
            pass
    else:
        async with rig.chain.registered(nothing) as block:
            assert block in rig.chain
            await rig.chain.unregister(block)
        async with rig.chain.registered(nothing) as block:
            pass
    assert rig.chain.is_empty


@every_flavour
async def test_a_context_takes_the_block_off_after_an_error(flavour: Any) -> None:
    rig = Rig(flavour)
    with pytest.raises(LookupError, match="mine"):
        if flavour in SYNC:
            with rig.chain.registered(nothing):
                raise LookupError("mine")
        else:
            async with rig.chain.registered(nothing):
                raise LookupError("mine")
    assert rig.chain.is_empty


@every_flavour
async def test_a_block_can_be_registered_again_elsewhere(flavour: Any) -> None:
    block = NotifierBlock(nothing)
    for rig in (Rig(flavour), Rig(flavour)):
        assert await rig.register(block) is block
        assert block.chain is rig.chain
        await rig.unregister(block)
        assert block.chain is None


# D7 colour


@pytest.mark.parametrize("register", [*REGISTERS, "subscriber", "registered"])
async def test_d7_an_async_callback_is_refused_at_registration_on_atomic(register: str) -> None:
    chain = AtomicChain[Any, Any]("chain")
    with pytest.raises(AsyncCallbackError, match=r"'anothing'.*'chain'"):
        made = getattr(chain, register)(anothing)
        made.__enter__()
    assert chain.is_empty


class Awaited:
    async def __call__(self, event: Any, data: Any) -> None:
        return None


class AsyncBlock(NotifierBlock[Any, Any, Any]):
    async def notifier_call(self, event: Any, data: Any) -> None:
        return None


@pytest.mark.parametrize(
    "callback", [partial(anothing), Awaited(), Awaited().__call__, AsyncBlock()], ids=spelled
)
async def test_d7_every_kind_of_async_callable_is_recognised(callback: Any) -> None:
    with pytest.raises(AsyncCallbackError):
        AtomicChain[Any, Any]("chain").register(callback)
    for flavour in ASYNC:
        chain: Any = flavour("chain")
        block = await chain.register(callback)
        assert await chain.call(1, None) == 0
        await chain.unregister(block)


async def test_d7_a_raw_call_over_an_async_block_runs_nobody() -> None:
    rig = Rig(RawChain)
    await rig.add("first")
    block = await rig.register(anothing, events=["other"], priority=-5)
    for call, arguments in [
        ("call", (1, None)),
        ("call_report", (1, None)),
        ("call_robust", (1, 2, None)),
    ]:
        with pytest.raises(AsyncCallbackError, match="acall"):
            await getattr(rig, call)(*arguments)
    assert rig.drain() == []
    assert await rig.chain.acall(1, None) == 0
    assert rig.drain() == ["first"]
    await rig.unregister(block)
    await rig.call(1, None)
    assert rig.drain() == ["first"]


# D8 structure


@every_way
async def test_d8_callbacks_run_in_the_callers_task_thread_and_context(
    flavour: Any, colour: str, walk: str
) -> None:
    rig = Rig(flavour, colour=colour, walk=walk)
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("caller")
    seen = []

    def look(event: Any, data: Any) -> None:
        seen.append((anyio.get_current_task().id, get_ident(), variable.get()))
        variable.set("callback")

    await rig.add("look", look)
    await rig.call(1, None)
    assert seen == [(anyio.get_current_task().id, get_ident(), "caller")]
    assert variable.get() == "callback"


@pytest.mark.parametrize("flavour", ASYNC)
async def test_d8_a_threaded_callback_runs_elsewhere_with_the_callers_variables(
    flavour: Any,
) -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("caller")
    seen = []

    def look(event: Any, data: Any) -> int:
        seen.append((get_ident(), variable.get()))
        return 5

    chain = flavour("chain")
    await chain.register(look, thread=True)
    assert await chain.call(1, None) == 5
    assert seen[0][0] != get_ident()
    assert seen[0][1] == "caller"


# Bad input leaves the chain as it was


@every_flavour
@pytest.mark.parametrize("register", REGISTERS)
@pytest.mark.parametrize(
    ("target", "options", "error", "words"),
    [
        (42, {}, InvalidTypeError, "callable"),
        (None, {}, InvalidTypeError, "callback"),
        (nothing, {"priority": "high"}, InvalidTypeError, "'nothing' must be an int"),
        (nothing, {"priority": True}, InvalidTypeError, "'nothing' must be an int"),
        (nothing, {"priority": 1.0}, InvalidTypeError, "int"),
        (nothing, {"prio": 1}, InvalidTypeError, "unknown options: prio"),
        (nothing, {"events": [[]]}, InvalidTypeError, "hashable"),
        (nothing, {"name": "a,b"}, InvalidValueError, "a,b"),
        (nothing, {"timeout": 1}, InvalidValueError, "async callback"),
        (anothing, {"timeout": 0}, InvalidValueError, "above 0"),
        (anothing, {"thread": True}, InvalidValueError, "sync"),
        (lambda event: None, {}, InvalidTypeError, "callback\\(event, data\\)"),
        (lambda event, data, more: None, {}, InvalidTypeError, "callback\\(event, data\\)"),
        (lambda event, data, *, more: None, {}, InvalidTypeError, "callback\\(event, data\\)"),
    ],
)
async def test_bad_input_is_one_clear_error_that_names_the_chain(
    flavour: Any, register: str, target: Any, options: Any, error: Any, words: str
) -> None:
    rig = Rig(flavour)
    present = await rig.add("present")
    with pytest.raises(error, match=f"chain 'chain'.*{words}"):
        await getattr(rig, register)(target, **options)
    assert rig.chain.blocks == (present,)


@every_flavour
async def test_options_beside_a_ready_block_are_an_error(flavour: Any) -> None:
    rig = Rig(flavour)
    block = NotifierBlock(nothing, name="b")
    with pytest.raises(InvalidTypeError, match=r"'chain'.*'b'.*priority"):
        await rig.register(block, priority=4)
    assert block.chain is None


@every_flavour
async def test_a_subclass_that_forgot_its_base_is_told(flavour: Any) -> None:
    class Forgetful(NotifierBlock[Any, Any, Any]):
        def __init__(self) -> None:
            pass

        def notifier_call(self, event: Any, data: Any) -> None:
            return None

    with pytest.raises(InvalidTypeError, match=r"super\(\).__init__\(\)"):
        await Rig(flavour).register(Forgetful())


@pytest.mark.parametrize("flavour", SYNC)
async def test_a_thread_is_for_async_chains(flavour: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"'chain'.*'nothing'.*thread"):
        flavour("chain").register(nothing, thread=True)


@every_flavour
@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (("chain",), {"errors": "ignore"}, InvalidValueError, "'ignore'.*raise, collect, isolate"),
        ((3,), {}, InvalidTypeError, "name"),
        (("",), {}, InvalidTypeError, "name"),
        (("chain",), {"filter": "a,b"}, InvalidTypeError, "'chain'.*NameFilter.parse"),
        (("chain",), {"replay": []}, InvalidTypeError, "'chain'.*replay"),
    ],
)
async def test_a_chain_made_badly_is_told(
    flavour: Any, arguments: Any, options: Any, error: Any, words: str
) -> None:
    with pytest.raises(error, match=words):
        flavour(*arguments, **options)


@pytest.mark.parametrize("flavour", ASYNC)
@pytest.mark.parametrize("every", [0, -1, 1.5, "x"])
async def test_a_checkpoint_budget_is_an_int_above_0(flavour: Any, every: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"'chain'.*checkpoint_every"):
        flavour("chain", checkpoint_every=every)


# Decorators


@every_flavour
async def test_subscriber_registers_with_and_without_options(flavour: Any) -> None:
    rig = Rig(flavour)

    @rig.chain.subscriber
    def plain(event: Any, data: Any) -> None:
        rig.log.append("plain")

    @rig.chain.subscriber(priority=3, unique_priority=True)
    @rig.chain.subscriber(priority=-3, name="low")
    def stacked(event: Any, data: Any) -> None:
        rig.log.append("stacked")

    assert isinstance(plain, NotifierBlock)
    await rig.call(1, None)
    assert rig.drain() == ["stacked", "plain", "stacked"]
    assert [block.name for block in rig.chain] == ["stacked", "plain", "low"]
    with pytest.raises(PriorityInUseError):
        rig.chain.subscriber(priority=3, unique_priority=True)(nothing)


@every_flavour
async def test_a_chain_says_what_is_on_it(flavour: Any) -> None:
    rig = Rig(flavour)
    assert rig.chain.is_empty
    assert rig.chain
    assert len(rig.chain) == 0
    block = await rig.add("b")
    assert not rig.chain.is_empty
    assert block in rig.chain
    assert "b" not in rig.chain
    assert list(rig.chain) == [block]
    assert (rig.chain.name, rig.chain.errors, rig.chain.filter) == ("chain", "raise", None)
    assert repr(rig.chain) == f"<{flavour.__name__} 'chain' 1 blocks>"
    assert rig.chain.statistics() == (1, 0, 0, 0)
    with rig.chain.only():
        assert repr(rig.chain) == f"<{flavour.__name__} 'chain' 0 blocks, 1 parked>"


@every_flavour
async def test_a_scope_that_closes_in_the_middle_of_a_registration_leaves_nothing(
    flavour: Any,
) -> None:
    scope = Scope("scope")

    def close(block: Any) -> bool:
        scope.close()
        return True

    rig = Rig(flavour, filter=close)
    block = NotifierBlock(nothing)
    with pytest.raises(ScopeClosedError, match="'scope'"):
        await scope.register(rig.chain, block)
    assert rig.chain.is_empty
    assert block.chain is None


@every_flavour
async def test_of_two_that_unregister_at_once_one_is_told(flavour: Any) -> None:
    class Raced(flavour):  # type: ignore[misc]
        """Somebody else unregisters before the edit."""

        def _edit(self, *arguments: Any, **more: Any) -> Any:
            if races:
                self.unregister_nosync(races.pop())
            return super()._edit(*arguments, **more)

    rig = Rig(Raced)
    races: list[Any] = []
    block = await rig.add("b")
    races.append(block)
    with pytest.raises(NotRegisteredError):
        rig.chain.unregister_nosync(block)
    assert block.chain is None


# What a review found


@every_flavour
async def test_a_subclass_is_free_in_its_attributes(flavour: Any) -> None:
    class Device(NotifierBlock[Any, Any, Any]):
        def __init__(self) -> None:
            super().__init__(priority=3)
            self._owner = self._chain = self._name = self._priority = self._rest = "mine"

        def notifier_call(self, event: Any, data: Any) -> None:
            return None

    rig = Rig(flavour)
    device = await rig.register(Device())
    assert (device.name, device.priority, device.chain) == ("Device", 3, rig.chain)
    await rig.unregister(device)


def test_options_as_class_attributes_are_refused() -> None:
    with pytest.raises(InvalidTypeError, match=r"priority.*super\(\).__init__"):

        class Device(NotifierBlock[Any, Any, Any]):
            priority = 10


@every_flavour
async def test_messages_show_no_data_of_a_bound_method(flavour: Any) -> None:
    @dataclass
    class Service:
        token: str = "SECRET"

        def on(self, event: Any, data: Any) -> None:
            return None

    rig, service = Rig(flavour), Service()
    await rig.register(service.on)
    with pytest.raises(NotRegisteredError) as unregistering:
        await rig.unregister(service.on)
    with pytest.raises(InvalidTypeError) as adopting:
        Scope("scope").adopt(service.on)  # type: ignore[arg-type]
    for caught in (unregistering, adopting):
        assert "SECRET" not in str(caught.value)
        assert "Service.on" in str(caught.value)


@every_flavour
async def test_an_async_filter_is_refused(flavour: Any) -> None:
    async def admit(block: Any) -> bool:
        return False

    rig = Rig(flavour)
    with pytest.raises(InvalidTypeError, match=r"'chain'.*async"):
        flavour("chain", filter=admit)
    with pytest.raises(InvalidTypeError, match=r"'chain'.*async"):
        await rig.set_filter(admit)


@every_flavour
async def test_a_filter_is_asked_once_for_each_registration(flavour: Any) -> None:
    asked = []

    def admit(block: Any) -> bool:
        asked.append(block.name)
        return len(asked) % 2 == 1

    rig = Rig(flavour, filter=admit, replay=lambda: [("now", None)])
    for name in "abcd":
        await rig.add(name)
    assert asked == ["a", "b", "c", "d"]
    assert [block.name for block in rig.chain] == ["a", "c"]
    assert rig.drain() == ["a", "c"]


@every_flavour
async def test_a_filter_replaced_during_a_replay_is_asked_again(flavour: Any) -> None:
    def refuse_all() -> Any:
        rig.chain._refilter(lambda layers: (lambda block: False,))
        return [("now", None)]

    rig = Rig(flavour, replay=refuse_all)
    block = await rig.add("b")
    assert block.is_parked


@every_flavour
async def test_leaving_only_does_not_fail_though_the_filter_does(
    flavour: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broken = False

    def admit(block: Any) -> bool:
        if broken:
            raise LookupError("mine")
        return True

    rig = Rig(flavour, filter=admit)
    await rig.add("b")
    with rig.chain.only():
        broken = True
    assert rig.chain.is_empty
    assert "stays parked" in caplog.text
    broken = False
    await rig.set_filter(admit)
    assert [block.name for block in rig.chain] == ["b"]


@every_flavour
async def test_a_filter_that_raises_in_a_registration_registers_nothing(flavour: Any) -> None:
    def admit(block: Any) -> bool:
        raise LookupError("mine")

    rig, block = Rig(flavour, filter=admit), NotifierBlock(nothing)
    with pytest.raises(LookupError, match="mine"):
        await rig.register(block)
    assert block.chain is None


@every_flavour
@pytest.mark.parametrize("option", ["once", "thread"])
async def test_switches_are_true_or_false(flavour: Any, option: str) -> None:
    with pytest.raises(InvalidTypeError, match=r"'chain'.*'nothing'.*True or False"):
        await Rig(flavour).register(nothing, **{option: "yes"})


@every_way
@pytest.mark.parametrize("limit", ["1", None, 1.5])
async def test_a_limit_is_an_int(flavour: Any, colour: str, walk: str, limit: Any) -> None:
    rig = Rig(flavour, colour=colour, walk=walk)
    with pytest.raises(InvalidTypeError, match=r"'chain'.*limit"):
        await rig.call_report(1, None, limit=limit)
    assert rig.chain.statistics().walks_running == 0


@pytest.mark.parametrize("timeout", ["x", True, 1j])
def test_a_timeout_of_synchronize_is_seconds(timeout: Any) -> None:
    with pytest.raises(InvalidTypeError, match=r"'chain'.*seconds"):
        AtomicChain[Any, Any]("chain").synchronize(timeout=timeout)


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, -math.inf])
def test_a_timeout_of_synchronize_is_no_less_than_0(timeout: float) -> None:
    with pytest.raises(InvalidValueError, match=r"'chain'.*0 s or more"):
        AtomicChain[Any, Any]("chain").synchronize(timeout=timeout)


def test_without_walks_synchronize_returns_whatever_its_timeout() -> None:
    for timeout in (None, 0, 0.5, math.inf):
        AtomicChain[Any, Any]("chain").synchronize(timeout=timeout)


@every_flavour
@pytest.mark.parametrize("how", ["registered", "scope.register", "scope.register_nowait"])
async def test_d6_unique_priority_is_asked_however_it_is_registered(flavour: Any, how: str) -> None:
    chain, scope, rig = flavour("chain"), Scope("owner"), Rig(flavour)
    chain.register_nowait(rig.callback("first"))
    second = rig.callback("second")
    with pytest.raises(PriorityInUseError):
        if how == "scope.register_nowait":
            scope.register_nowait(chain, second, unique_priority=True)
        elif how == "scope.register":
            await scope.register(chain, second, unique_priority=True)
        elif flavour in SYNC:
            chain.registered(second, unique_priority=True).__enter__()
        else:
            await chain.registered(second, unique_priority=True).__aenter__()
    assert len(chain) == 1


@every_flavour
@pytest.mark.parametrize("unique", ["no", None, 1])
async def test_unique_priority_is_true_or_false(flavour: Any, unique: Any) -> None:
    rig = Rig(flavour)
    for register in REGISTERS:
        with pytest.raises(InvalidTypeError, match="'chain': unique_priority must be True or Fa"):
            await getattr(rig, register)(rig.callback("b"), unique_priority=unique)
    assert rig.chain.is_empty


@every_flavour
async def test_d6_unique_priority_wins_also_for_a_block_that_is_false(flavour: Any) -> None:
    """The block is the state, and a state may say that it is empty."""

    class Empty(NotifierBlock[Any, Any, Any]):
        def __len__(self) -> int:
            return 0

        def notifier_call(self, event: Any, data: Any) -> None: ...

    rig = Rig(flavour)
    await rig.register(Empty(name="front"))
    block = await rig.register(Empty(name="behind"))
    with pytest.raises(PriorityInUseError):
        await rig.register(block, unique_priority=True)
    with pytest.raises(AlreadyRegisteredError):
        await rig.register(block)


async def given(*pairs: Any) -> Any:
    return pairs


@every_flavour
@pytest.mark.parametrize(
    "replay", [lambda: None, lambda: 5, lambda: given(1, None)], ids=["None", "5", "coroutine"]
)
async def test_a_replay_gives_something_to_iterate_over(flavour: Any, replay: Any) -> None:
    rig = Rig(flavour, replay=replay)
    with pytest.raises(InvalidTypeError, match=r"'chain'.*pairs \(event, data\) to iterate over"):
        await rig.add("b")
    assert rig.chain.is_empty


@every_flavour
@pytest.mark.parametrize("pair", [1, ("event",), ["event", "data"]])
async def test_a_replay_gives_pairs(flavour: Any, pair: Any) -> None:
    rig = Rig(flavour, replay=lambda: [pair])
    with pytest.raises(InvalidTypeError, match=r"'chain'.*pairs \(event, data\)"):
        await rig.add("b")
    assert rig.chain.is_empty


@every_way
async def test_an_exception_raised_again_and_again_keeps_one_note(
    flavour: Any, colour: str, walk: str
) -> None:
    rig = Rig(flavour, colour=colour, walk=walk, errors="isolate")
    error = ValueError("one object")
    await rig.add("b", error)
    for _ in range(3):
        await rig.call(1, None)
    assert len(error.__notes__) == 1


@every_way
async def test_d4_only_a_coroutine_is_closed(flavour: Any, colour: str, walk: str) -> None:
    class Pool:
        closed = False

        def __await__(self) -> Any:
            raise AssertionError

        def close(self) -> None:
            self.closed = True

    rig, pool = Rig(flavour, colour=colour, walk=walk), Pool()
    rig.chain.register_nowait(lambda event, data: pool, name="b")
    with pytest.raises(InvalidResultError):
        await rig.call(1, None)
    assert not pool.closed
