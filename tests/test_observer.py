"""Observers are told what a chain does, and cannot change it (D15)."""

from __future__ import annotations

import errno
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from tocsin import (
    NOTIFY_BAD,
    NOTIFY_DONE,
    NOTIFY_OK,
    NOTIFY_STOP,
    AtomicChain,
    BlockingChain,
    NameFilter,
    Observation,
    ObservedCall,
    Observer,
    SrcuChain,
    VetoError,
    WouldDeadlockError,
    WrongLoopError,
    notifier_from_errno,
)

from .flavours import ASYNC, FLAVOURS, WAY_IDS, WAYS, Held, Rig

pytestmark = pytest.mark.anyio


@pytest.fixture(params=WAYS, ids=WAY_IDS)
async def rig(request: pytest.FixtureRequest, anyio_backend: str) -> Rig:
    flavour, colour, walk = request.param
    return Rig(flavour, colour=colour, walk=walk)


class Tape(Observer):
    """Remembers everything that it is told, in words."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.calls: list[ObservedCall] = []

    def drain(self) -> list[str]:
        said = self.said.copy()
        self.said.clear()
        return said

    def registered(self, chain: Any, block: Any) -> None:
        self.said.append(f"registered {block.name}")

    def unregistered(self, chain: Any, block: Any) -> None:
        self.said.append(f"unregistered {block.name}")

    def parked(self, chain: Any, block: Any) -> None:
        self.said.append(f"parked {block.name}")

    def call_started(self, call: ObservedCall) -> None:
        self.calls.append(call)
        self.said.append(f"{call.kind} {call.event}")

    def callback_started(self, call: ObservedCall, block: Any) -> None:
        self.said.append(f"> {block.name}")

    def callback_returned(self, call: Any, block: Any, result: int, duration: float) -> None:
        assert duration >= 0
        self.said.append(f"< {block.name} {int(result)}")

    def callback_raised(self, call: Any, block: Any, error: Any, duration: float) -> None:
        assert duration >= 0
        self.said.append(f"! {block.name} {type(error).__name__}")

    def call_finished(self, call: Any, result: Any, error: Any, duration: float) -> None:
        assert duration >= 0
        said = type(error).__name__ if error is not None else int(result)
        self.said.append(f"end {said}")

    def writer_waiting(self, chain: Any) -> None:
        self.said.append(f"waiting {chain.name}")


def observed(rig: Rig) -> Tape:
    tape = Tape()
    rig.chain.observe(tape)
    return tape


async def test_d15_an_observer_is_told_of_a_call_and_of_each_callback(rig: Rig) -> None:
    await rig.add("a", NOTIFY_OK)
    await rig.add("b", NOTIFY_STOP)
    await rig.add("c")
    tape = observed(rig)
    assert await rig.call("up", None) == NOTIFY_STOP
    expected = ["call up", "> a", "< a 1", "> b", "< b 32769", "end 32769"]
    assert tape.drain() == expected
    await rig.call_report("up", None)
    assert tape.drain() == expected
    [call, _] = tape.calls
    assert (call.chain, call.event, call.kind, call.parent, call.depth) == (
        rig.chain,
        "up",
        "call",
        None,
        0,
    )


async def test_d15_an_empty_call_is_observed_too(rig: Rig) -> None:
    tape = observed(rig)
    assert await rig.call("up", None) == NOTIFY_DONE
    assert tape.said == ["call up", "end 0"]


async def test_d15_an_observed_call_gives_what_an_unobserved_one_does(rig: Rig) -> None:
    for number, does in enumerate([NOTIFY_OK, None, 7, ValueError("no")]):
        await rig.add(f"n{number}", does, events=number)
    outcomes: list[Any] = []
    for attach in (False, True):
        if attach:
            observed(rig)
        for event in range(5):
            try:
                outcomes.append(await rig.call(event, None))
            except ValueError as error:
                outcomes.append((str(error), error.__notes__))
    assert outcomes[:5] == outcomes[5:]


async def test_d15_the_events_of_a_route_are_observed(rig: Rig) -> None:
    await rig.add("a", events="up")
    tape = observed(rig)
    await rig.add("b", events="down")
    for event in ("up", "down", "other", ["unhashable"]):
        await rig.call(event, None)
    assert [line for line in tape.said if line[0] == ">"] == ["> a", "> b"]
    assert len(tape.calls) == 4


async def test_d15_registrations_are_observed(rig: Rig) -> None:
    tape = observed(rig)
    block = await rig.add("a")
    await rig.unregister(block)
    await rig.add("once", once=True)
    await rig.call("up", None)
    assert tape.drain() == [
        "registered a",
        "unregistered a",
        "registered once",
        "call up",
        "> once",
        "unregistered once",
        "< once 0",
        "end 0",
    ]


async def test_d15_parking_and_admitting_is_observed(rig: Rig) -> None:
    tape = observed(rig)
    await rig.set_filter(NameFilter(["a"]))
    await rig.add("a")
    await rig.add("b")
    assert tape.drain() == ["registered a", "parked b"]
    await rig.set_filter(NameFilter(["b"]))
    assert tape.drain() == ["parked a", "registered b"]
    with rig.chain.only():
        assert tape.drain() == ["parked b"]
    assert tape.drain() == ["registered b"]


async def test_d15_a_failed_registration_tells_nothing(rig: Rig) -> None:
    block = await rig.add("a")
    tape = observed(rig)
    with pytest.raises(Exception, match="is on it already"):
        await rig.register(block)
    assert tape.said == []


async def test_d15_a_rollback_is_a_walk_of_its_own(rig: Rig) -> None:
    await rig.add("a")
    await rig.add("b", NOTIFY_BAD)
    tape = observed(rig)
    assert await rig.call_robust("up", "down", None) == NOTIFY_BAD
    assert tape.said == [
        *["call up", "> a", "< a 0", "> b", "< b 32770", "end 32770"],
        *["rollback down", "> a", "< a 0", "end 0"],
    ]


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_d15_a_replay_is_observed(flavour: Any) -> None:
    rig = Rig(flavour)
    rig.chain = type(rig.chain)("chain", replay=lambda: [("here", None)])
    tape = observed(rig)
    await rig.add("a")
    assert tape.said == ["replay here", "> a", "< a 0", "end 0", "registered a"]


async def test_d15_a_veto_with_words_is_a_result(rig: Rig) -> None:
    await rig.add("a", VetoError(errno.EBUSY, "in use"))
    tape = observed(rig)
    result = await rig.call("up", None)
    assert result == notifier_from_errno(-errno.EBUSY)
    assert tape.said == ["call up", "> a", f"< a {result}", f"end {result}"]


@pytest.mark.parametrize(
    ("policy", "end"), [("raise", "end ValueError"), ("collect", "end 0"), ("isolate", "end 0")]
)
async def test_d15_an_exception_is_told_under_every_policy(rig: Rig, policy: str, end: str) -> None:
    rig.chain = type(rig.chain)("chain", errors=policy)
    await rig.add("a", ValueError("no"))
    await rig.add("b", 3.5)
    tape = observed(rig)
    with suppress(ValueError, ExceptionGroup), capture_logs():
        await rig.call("up", None)
    rest = [] if policy == "raise" else ["> b", "! b InvalidResultError"]
    assert tape.said == ["call up", "> a", "! a ValueError", *rest, end]


async def test_d15_an_interruption_is_told(rig: Rig) -> None:
    await rig.add("a", KeyboardInterrupt())
    tape = observed(rig)
    with pytest.raises(KeyboardInterrupt):
        await rig.call("up", None)
    assert tape.said == ["call up", "> a", "! a KeyboardInterrupt", "end KeyboardInterrupt"]


@pytest.mark.parametrize("flavour", ASYNC)
async def test_d15_a_cancellation_is_told(flavour: Any) -> None:
    chain: Any = flavour("chain")
    await chain.register(Held(), name="held", is_async=True)
    tape = Tape()
    chain.observe(tape)
    with anyio.move_on_after(0):
        await chain.call("up", None)
    assert tape.said[:2] == ["call up", "> held"]
    assert tape.said[2].startswith("! held Cancelled")
    assert tape.said[3].startswith("end Cancelled")


async def test_d15_nested_calls_know_the_call_that_they_are_made_in(rig: Rig) -> None:
    async def nest(event: Any, data: Any) -> None:
        if event < 2:
            await rig.call(event + 1, None)

    def nest_sync(event: Any, data: Any) -> None:
        if event < 2:
            rig.chain.call(event + 1, None)

    awaits = isinstance(rig.chain, BlockingChain | SrcuChain) or rig.prefix == "a"
    await rig.register(nest if awaits else nest_sync, name="nest")
    tape = observed(rig)
    await rig.call(0, None)
    assert [(call.event, call.depth) for call in tape.calls] == [(0, 0), (1, 1), (2, 2)]
    assert tape.calls[2].parent is tape.calls[1]
    await rig.call(2, None)
    assert tape.calls[-1].depth == 0


METHODS = [
    "registered",
    "unregistered",
    "parked",
    "call_started",
    "callback_started",
    "callback_returned",
    "callback_raised",
    "call_finished",
]


def broken(method: str, error: BaseException) -> Observer:
    def fail(self: Any, *args: Any) -> None:
        raise error

    made: Observer = type("Broken", (Observer,), {method: fail})()
    return made


@pytest.mark.parametrize("method", METHODS)
async def test_d15_an_observer_that_raises_is_detached_and_reported(rig: Rig, method: str) -> None:
    rig.chain = type(rig.chain)("chain", errors="isolate", filter=NameFilter(["a", "b"]))
    first = Tape()
    rig.chain.observe(first)
    observation = rig.chain.observe(broken(method, ValueError("secret")))
    last = Tape()
    rig.chain.observe(last)
    with capture_logs() as logs:
        a = await rig.add("a", NOTIFY_OK)
        await rig.add("b", ValueError("no"))
        await rig.add("p")
        for _ in range(2):
            assert await rig.call("up", None) == NOTIFY_DONE
        await rig.unregister(a)
    assert rig.drain() == ["a", "b"] * 2
    assert first.said == last.said
    assert len(first.said) == 16
    assert not observation.is_attached
    reports = [log for log in logs if log["event"] == "detached an observer that raised"]
    assert [(log["observer"], log["method"]) for log in reports] == [("Broken", method)]


async def test_d15_an_observer_cannot_keep_an_interruption_back(rig: Rig) -> None:
    await rig.add("a")
    rig.chain.observe(broken("callback_started", KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        await rig.call("up", None)


async def test_d15_an_observer_attached_in_mid_walk_hears_of_the_next_walk(rig: Rig) -> None:
    tape = Tape()

    def attach(event: Any, data: Any) -> None:
        if not tape.calls:
            rig.chain.observe(tape)

    await rig.add("attach", attach)
    await rig.add("later", ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await rig.call("first", None)
    assert tape.said == []
    with pytest.raises(ValueError, match="no"):
        await rig.call("second", None)
    assert tape.said[0] == "call second"


async def test_d15_an_observer_detached_in_mid_walk_hears_nothing_more(rig: Rig) -> None:
    tape = Tape()
    stays = Tape()
    observation = rig.chain.observe(tape)
    rig.chain.observe(stays)
    await rig.add("detach", lambda event, data: observation.detach())
    await rig.add("later")
    tape.drain()
    await rig.call("up", None)
    assert tape.said == ["call up", "> detach"]
    assert stays.said[-3:] == ["> later", "< later 0", "end 0"]
    observation.detach()
    assert rig.chain._table.observers[0].observer is not tape


async def test_d15_an_observer_may_take_the_next_block_off(rig: Rig) -> None:
    class Remover(Observer):
        def callback_started(self, call: Any, block: Any) -> None:
            if block is victim and block.chain is not None:
                rig.chain.unregister_nosync(block)

    victim = await rig.add("victim", NOTIFY_BAD)
    await rig.add("b", NOTIFY_OK)
    rig.chain.observe(Remover())
    assert await rig.call("up", None) == NOTIFY_OK
    assert rig.drain() == ["b"]


async def test_d15_a_block_removed_in_mid_walk_is_not_told_of(rig: Rig) -> None:
    later = await rig.add("later")
    await rig.add("first", lambda e, d: rig.chain.unregister_nosync(later), priority=1)
    tape = observed(rig)
    await rig.call("up", None)
    assert tape.said == ["call up", "> first", "unregistered later", "< first 0", "end 0"]


async def test_d15_observers_are_told_in_the_order_in_which_they_came(rig: Rig) -> None:
    order: list[str] = []

    class Named(Observer):
        def __init__(self, name: str) -> None:
            self.name = name

        def call_started(self, call: Any) -> None:
            order.append(self.name)

    one, other = Named("one"), Named("other")
    for observer in (one, other, one):
        rig.chain.observe(observer)
    await rig.call("up", None)
    assert order == ["one", "other", "one"]


async def test_d15_a_handle_detaches_at_its_end_and_twice_without_harm(rig: Rig) -> None:
    tape = Tape()
    with rig.chain.observe(tape) as observation:
        assert isinstance(observation, Observation)
        assert observation.observer is tape
        assert repr(observation) == "<Observation Tape attached>"
        await rig.call("up", None)
    assert repr(observation) == "<Observation Tape detached>"
    await rig.call("down", None)
    assert tape.drain() == ["call up", "end 0"]
    observation.detach()
    assert rig.chain._table.observers == ()


async def test_d15_an_observed_chain_that_is_no_longer_observed_is_as_before(rig: Rig) -> None:
    await rig.add("a", events="up")
    rig.chain.observe(Tape()).detach()
    assert rig.chain._table.observers == rig.chain._open("up").observers == ()
    await rig.call("up", None)
    assert rig.drain() == ["a"]


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    ("observer", "message"),
    [
        (Tape, "an observer must be a tocsin.Observer, not Tape; did you mean Tape\\(\\)\\?"),
        (print, "an observer must be a tocsin.Observer, not builtin_function_or_method"),
        (None, "an observer must be a tocsin.Observer, not NoneType"),
    ],
)
def test_what_cannot_observe_is_refused(flavour: Any, observer: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        flavour("chain").observe(observer)


def test_an_async_observer_is_refused() -> None:
    class Wrong(Observer):
        async def call_started(self, call: Any) -> None:  # type: ignore[override]
            """Never awaited."""

    with pytest.raises(TypeError, match=r"Wrong.call_started\(\) is async, but nobody awaits"):
        AtomicChain("chain").observe(Wrong())


async def test_an_observer_hears_a_writer_wait() -> None:
    for chain in (BlockingChain[str, None]("b"), SrcuChain[str, None]("s")):
        held, tape = Held(), Tape()
        block = await chain.register(held, is_async=True)
        chain.observe(tape)
        async with anyio.create_task_group() as group:
            group.start_soon(chain.call, "up", None)
            await held.entered.wait()
            group.start_soon(chain.unregister, block)
            with anyio.fail_after(30):
                while not chain.statistics().writers_waiting:
                    await anyio.lowlevel.checkpoint()
            assert f"waiting {chain.name}" in tape.said
            held.release.set()
        tape.drain()
        await chain.register(held, is_async=True)
        await chain.unregister(chain.blocks[0])
        await chain.synchronize()
        assert [line for line in tape.said if "waiting" in line] == []


async def test_an_observer_hears_a_synchronize_wait() -> None:
    chain = SrcuChain[str, None]("s")
    held, tape = Held(), Tape()
    await chain.register(held, is_async=True)
    chain.observe(tape)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "up", None)
        await held.entered.wait()
        group.start_soon(chain.synchronize)
        with anyio.fail_after(30):
            while not chain.statistics().writers_waiting:
                await anyio.lowlevel.checkpoint()
        assert tape.said.count("waiting s") == 1
        held.release.set()


async def test_an_observer_hears_a_thread_wait_for_an_atomic_chain() -> None:
    chain, tape = AtomicChain[str, None]("a"), Tape()
    entered, release = anyio.Event(), anyio.Event()

    def hold(event: str, data: None) -> None:
        anyio.from_thread.run_sync(entered.set)
        anyio.from_thread.run(release.wait)

    class Releasing(Observer):
        def writer_waiting(self, chain: Any) -> None:
            anyio.from_thread.run_sync(release.set)

    chain.register(hold)
    chain.observe(tape)
    chain.observe(Releasing())
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, chain.call, "up")
        await entered.wait()
        await anyio.to_thread.run_sync(chain.synchronize)
    assert "waiting a" in tape.said


@pytest.mark.parametrize("flavour", ASYNC)
async def test_observing_from_another_thread_is_refused_and_detaching_is_not(flavour: Any) -> None:
    chain: Any = flavour("chain")
    await chain.call("up", None)
    tape = Tape()
    with pytest.raises(WrongLoopError):
        await anyio.to_thread.run_sync(chain.observe, tape)
    observation = chain.observe(tape)
    await anyio.to_thread.run_sync(observation.detach)
    await chain.call("up", None)
    assert tape.said == []
    chain.observe(Tape()).detach()
    assert chain._table.observers == ()


@pytest.mark.parametrize("flavour", ASYNC)
async def test_an_observed_walk_of_ones_own_is_still_found(flavour: Any) -> None:
    rig = Rig(flavour)
    errors: list[type[BaseException]] = []

    async def leave(event: Any, data: Any) -> None:
        try:
            await rig.unregister(block)
        except WouldDeadlockError as error:
            errors.append(type(error))

    block = await rig.register(leave)
    observed(rig)
    await rig.call("up", None)
    await rig.call_report("up", None)
    assert errors == [WouldDeadlockError] * 2


async def test_d15_a_call_that_outlives_the_one_it_was_made_in_is_not_nested(
    anyio_backend: str,
) -> None:
    chain, tape = SrcuChain[int, None]("chain"), Tape()
    done = anyio.Event()

    async def again(event: int, data: None) -> None:
        if event:
            group.start_soon(chain.call, event - 1)
        else:
            done.set()

    await chain.register(again)
    chain.observe(tape)
    async with anyio.create_task_group() as group:
        await chain.call(50)
        await done.wait()
    assert len(tape.calls) == 51
    assert max(call.depth for call in tape.calls) <= 1
    assert all(call.parent is None or call.parent.parent is None for call in tape.calls)


async def test_d15_an_interruption_in_an_observer_leaves_no_call_behind(rig: Rig) -> None:
    tape = Tape()
    with rig.chain.observe(broken("call_started", KeyboardInterrupt())):
        with pytest.raises(KeyboardInterrupt):
            await rig.call("up", None)
    rig.chain.observe(tape)
    await rig.call("up", None)
    assert [call.depth for call in tape.calls] == [0]


@pytest.mark.parametrize("flavour", ASYNC)
async def test_an_observer_detached_in_another_thread_is_let_go_at_the_next_change(
    flavour: Any,
) -> None:
    chain: Any = flavour("chain")
    await chain.call("up", None)
    observation = chain.observe(Tape())
    await anyio.to_thread.run_sync(observation.detach)
    await chain.register(lambda event, data: None)
    assert chain._table.observers == ()


async def test_durations_are_those_of_the_callback_and_of_the_call() -> None:
    class Durations(Observer):
        def callback_raised(self, call: Any, block: Any, error: Any, duration: float) -> None:
            seen.append(duration)

        def call_finished(self, call: Any, result: Any, error: Any, duration: float) -> None:
            seen.append(duration)

    seen: list[float] = []
    chain = SrcuChain[str, None]("chain")

    async def fail(event: str, data: None) -> None:
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        raise ValueError("no")

    await chain.register(fail)
    chain.observe(Durations())
    with pytest.raises(ValueError, match="no"):
        await chain.call("up")
    assert 0 < seen[0] < seen[1]


async def test_an_observed_walk_counts_as_one(rig: Rig) -> None:
    running: list[int] = []
    await rig.add("a", lambda e, d: running.append(rig.chain.statistics().walks_running))
    observed(rig)
    await rig.call("up", None)
    assert running == [1]
    assert rig.chain.statistics().walks_running == 0


def test_an_observed_call_has_no_data() -> None:
    call = ObservedCall(AtomicChain("chain"), {"secret": 1}, "call", None)
    assert repr(call) == "<ObservedCall call 'chain' 'dict'>"


def test_an_observer_hears_nothing_it_does_not_ask_for() -> None:
    chain = AtomicChain[str, None]("chain", filter=NameFilter(["a", "c"]))
    with chain.observe(Observer()):
        chain.register(lambda event, data: None, name="a", once=True)
        chain.register(lambda event, data: None, name="b")
        chain.call("up")
        with pytest.raises(ZeroDivisionError):
            chain.register(lambda event, data: 1 // 0, name="c")
            chain.call("up")


async def test_a_closed_coroutine_ends_its_walk_in_another_context(anyio_backend: str) -> None:
    chain = SrcuChain[str, None]("chain")
    held, tape = Held(), Tape()
    await chain.register(held, is_async=True)
    chain.observe(tape)
    walk = chain.call("up")
    with suppress(BaseException):
        while not held.entered.is_set():
            copy_context().run(walk.send, None)
    walk.close()
    assert tape.said[-1] == "end GeneratorExit"
    assert chain.statistics().walks_running == 0
