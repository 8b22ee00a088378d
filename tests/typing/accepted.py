"""What type checkers must accept. Never run: mypy and pyright read it, both strict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

import tocsin
from tocsin import (
    NOTIFY_OK,
    AnyChain,
    AtomicChain,
    BlockingChain,
    BlockSnapshot,
    BlockStatistics,
    Bus,
    BusSnapshot,
    CallReport,
    ChainStatistics,
    NameFilter,
    NotifierBlock,
    Observation,
    ObservedCall,
    Observer,
    RawChain,
    Scope,
    SrcuChain,
    StatisticsObserver,
    Stream,
    StreamStatistics,
    StructlogObserver,
)
from tocsin.testing import (
    Cancel,
    Delay,
    Injection,
    Outcome,
    Recorder,
    Sequencer,
    assert_order,
    inject_errors,
    registrations_restored,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio import CancelScope

    from tocsin.pytest_plugin import InjectErrors, MakeRecorder, RestoreRegistrations


class Device:
    """Data of an event."""


class Disk(Device):
    """A narrower one."""


def hear(event: str, data: Device) -> int:
    return NOTIFY_OK


def hear_quietly(event: str, data: Device) -> None: ...


def hear_wider(event: object, data: object) -> int | None:
    return None


def hear_nothing(event: str, data: None) -> int:
    return NOTIFY_OK


async def ahear(event: str, data: Device) -> int:
    return NOTIFY_OK


async def ahear_quietly(event: object, data: Device | None) -> None: ...


# Type variables have defaults: any event, no data.

assert_type(AtomicChain("x"), AtomicChain[Any, None])
assert_type(AtomicChain[str]("x"), AtomicChain[str, None])
assert_type(AtomicChain[str, int]("x"), AtomicChain[str, int])
assert_type(RawChain("x"), RawChain[Any, None])
assert_type(BlockingChain[str]("x"), BlockingChain[str, None])
assert_type(SrcuChain("x"), SrcuChain[Any, None])

atomic = AtomicChain[str, Device]("atomic")
raw = RawChain[str, Device]("raw")
blocking = BlockingChain[str, Device]("blocking")
srcu = SrcuChain[str, Device]("srcu")
bare = AtomicChain[str]("bare")
abare = SrcuChain[str]("abare")


def sync_chains() -> None:
    # A callback may take more than the chain gives, and give an int or nothing.
    atomic.register(hear)
    atomic.register(hear_quietly, priority=3, name="quiet", events=["up"], once=True)
    atomic.register(hear_wider, unique_priority=True)
    atomic.register(lambda event, data: None)
    raw.register(hear)
    bare.register(hear_nothing)
    bare.register(hear_wider)
    # Both colours are legal on a raw chain, for acall().
    raw.register(ahear)
    raw.register_nowait(ahear_quietly)

    block = atomic.register_nowait(hear)
    atomic.unregister(block)
    atomic.unregister_nowait(block)
    atomic.unregister_nosync(block)
    with atomic.registered(hear, priority=1) as registered:
        atomic.unregister(registered)

    # Without data only where there is none.
    assert_type(bare.call("up"), int)
    assert_type(bare.call("up", None), int)
    assert_type(bare.call_report("up", limit=1), CallReport)
    assert_type(bare.call_robust("up", "down", reverse=True), int)
    assert_type(bare.call_robust_report("up", "down"), CallReport)
    assert_type(AtomicChain("x").call(object()), int)
    assert_type(atomic.call("up", Disk()), int)
    assert_type(atomic.call_report("up", Device(), limit=1), CallReport)
    assert_type(atomic.call_robust("up", "down", Device()), int)
    assert_type(raw.call("up", Device()), int)


async def async_chains() -> None:
    # Either colour.
    await blocking.register(hear)
    await blocking.register(ahear, timeout=1.5)
    await srcu.register(hear_wider, thread=True)
    await srcu.register(ahear_quietly)
    await srcu.register(lambda event, data: None)
    await abare.register(hear_nothing)
    block = srcu.register_nowait(ahear)
    await srcu.unregister(block)
    srcu.unregister_nowait(block)
    srcu.unregister_nosync(block)
    async with srcu.registered(ahear) as registered:
        await srcu.unregister(registered)

    assert_type(await abare.call("up"), int)
    assert_type(await abare.call_report("up"), CallReport)
    assert_type(await abare.call_robust("up", "down"), int)
    assert_type(await blocking.call("up", Disk()), int)
    assert_type(await srcu.call_robust_report("up", "down", Device()), CallReport)
    assert_type(await raw.acall("up", Device()), int)
    assert_type(await raw.acall_report("up", Device()), CallReport)
    assert_type(await raw.acall_robust("up", "down", Device()), int)
    assert_type(await raw.acall_robust_report("up", "down", Device()), CallReport)
    assert_type(await RawChain[str]("x").acall("up"), int)
    await srcu.synchronize()
    await srcu.set_filter(NameFilter(["a"]))
    srcu.set_filter_nowait(lambda block: block.priority > 0)
    with srcu.only("a", "b"):
        pass


# Decorators keep the types of what they decorate.


@tocsin.block(priority=5)
def decorated(event: str, data: Device) -> int:
    return NOTIFY_OK


@tocsin.block(timeout=1.0)
async def adecorated(event: str, data: Device) -> int:
    return NOTIFY_OK


@atomic.subscriber
def subscribed(event: str, data: Device) -> int:
    return NOTIFY_OK


@atomic.subscriber(priority=5, unique_priority=True)
def subscribed_with_options(event: str, data: Device) -> int:
    return NOTIFY_OK


@srcu.subscriber
async def asubscribed(event: str, data: Device) -> None: ...


@srcu.subscriber(priority=5)
@blocking.subscriber
def stacked(event: str, data: Device) -> None: ...


def decorators() -> None:
    assert_type(decorated, NotifierBlock[str, Device, int])
    assert_type(subscribed, NotifierBlock[str, Device, int])
    assert_type(subscribed_with_options, NotifierBlock[str, Device, int])
    assert_type(stacked, NotifierBlock[str, Device, None])
    assert_type(decorated("up", Device()), int)
    atomic.register(decorated)
    raw.register(decorated)


async def async_decorators() -> None:
    await srcu.register(decorated)
    await srcu.register(adecorated)
    await blocking.register(adecorated)
    assert_type(await adecorated("up", Device()), int)
    awaited: Awaitable[None] = asubscribed("up", Device())
    await awaited


# A block that is its own state.


class Counter(NotifierBlock[str, Device, int]):
    """Sync."""

    def __init__(self) -> None:
        super().__init__(priority=3)
        self.count = 0

    def notifier_call(self, event: str, data: Device) -> int:
        self.count += 1
        return NOTIFY_OK


class AsyncCounter(NotifierBlock[str, Device, "Awaitable[int]"]):
    """Async."""

    async def notifier_call(self, event: str, data: Device) -> int:
        return NOTIFY_OK


class WiderCounter(NotifierBlock[object, object, None]):
    """Hears anything."""

    def notifier_call(self, event: object, data: object) -> None: ...


async def subclasses() -> None:
    atomic.register(Counter())
    atomic.register(WiderCounter())
    raw.register(AsyncCounter())
    await srcu.register(Counter())
    await srcu.register(AsyncCounter())
    await blocking.register(WiderCounter())


# A block is contravariant in what it hears and covariant in what it gives.


def hear_more(event: object, data: Device) -> int:
    return NOTIFY_OK


narrower: NotifierBlock[str, Disk, int | None] = NotifierBlock(hear_more)
wide = NotifierBlock(hear_more)
assert_type(wide, NotifierBlock[object, Device, int])
narrower = wide


# What all flavours share.


async def any_chain(chain: AnyChain) -> None:
    block = chain.register_nowait(hear)
    chain.unregister_nosync(block)
    with chain.only():
        assert_type(chain.is_empty, bool)
    scope = Scope("owner")
    assert_type(scope.register_nowait(chain, hear), NotifierBlock[str, Device, int])
    assert_type(await scope.register(chain, decorated), NotifierBlock[str, Device, int])


async def all_flavours() -> None:
    for chain in (atomic, raw, blocking, srcu, bare, abare):
        await any_chain(chain)


def filters() -> None:
    made: Callable[[NotifierBlock[Any, Any, Any]], bool] | None = NameFilter.parse("a,b", limit=16)
    AtomicChain[str]("x", filter=made, errors="isolate", replay=lambda: [("up", None)])
    AtomicChain[str]("x", filter=~NameFilter(["a"]))


# A bus keeps the types of what is put on it, and gives it back as what one says that it is.


class Platform(Bus): ...


class Orders(SrcuChain[str, int]): ...


async def buses(bus: Bus) -> None:
    assert_type(bus.add(SrcuChain[str, Device]("x")), SrcuChain[str, Device])
    assert_type(bus.add(AtomicChain[str]("x")), AtomicChain[str, None])
    assert_type(bus.add(Orders("x")), Orders)
    assert_type(bus.get("x"), AnyChain)
    assert_type(bus["x"], AnyChain)
    # Without parameters nothing is known of event and data; defaults are for new chains.
    assert_type(bus.get("x", SrcuChain), SrcuChain[Any, Any])
    assert_type(bus.get("x", AtomicChain), AtomicChain[Any, Any])
    assert_type(bus.get("x", SrcuChain[str]), SrcuChain[str, None])
    assert_type(bus.get("x", RawChain[str, Device]), RawChain[str, Device])
    assert_type(bus.get("x", Orders), Orders)
    await bus.get("x", SrcuChain).call("up", Device())
    await bus.get("x", BlockingChain).register(ahear)
    assert_type(await bus.get("x", BlockingChain[str, Device]).call("up", Disk()), int)
    for chain in bus:
        assert_type(chain, AnyChain)
    bus.set_filters({"x": "a,b", "y": None, "z": NameFilter(["a"])})
    named: dict[str, str] = {"x": "a"}
    bus.set_filters(named)
    assert_type(Platform.from_env("x"), Platform)
    assert_type(Bus.from_env("x", variable="FILTERS"), Bus)


def snapshots(bus: Bus) -> None:
    snapshot = bus.snapshot()
    assert_type(snapshot, BusSnapshot)
    assert_type(snapshot.chains[0].blocks, tuple[BlockSnapshot, ...])
    assert_type(snapshot.chains[0].statistics, ChainStatistics)
    assert_type(snapshot.to_dict(), dict[str, object])
    assert_type(bus.describe(), str)


async def streams(atomic: AtomicChain[str, Device], srcu: SrcuChain[str, Device]) -> None:
    async with srcu.stream(events="up", where=lambda event, data: True, overflow="wait") as stream:
        assert_type(stream, Stream[str, Device])
        assert_type(stream.statistics(), StreamStatistics)
        async for event, data in stream:
            assert_type(event, str)
            assert_type(data, Device)
    assert_type(await atomic.wait_for("up"), tuple[str, Device])
    assert_type(atomic.stream(), Stream[str, Device])


async def concurrency(srcu: SrcuChain[str, Device], blocking: BlockingChain[str]) -> None:
    assert_type(await srcu.call_concurrent("up", Disk(), limit=3), int)
    assert_type(await blocking.call_concurrent("up"), int)


class Watcher(Observer):
    def call_started(self, call: ObservedCall) -> None:
        assert_type(call.chain, AnyChain)
        assert_type(call.parent, ObservedCall | None)


def observers(chain: AnyChain, bus: Bus, raw: RawChain[str, Device]) -> None:
    for watched in (chain, bus, raw):
        with watched.observe(Watcher()) as observation:
            assert_type(observation, Observation)
    assert_type(StructlogObserver.console(), StructlogObserver)
    assert_type(StatisticsObserver().snapshot(), dict[tuple[str, str], BlockStatistics])


def orders_by_name(raw: RawChain[str, Device]) -> None:
    block = raw.register(hear, before="a", after=["b", "m:c"])
    assert_type(block.before, tuple[str, ...])


def testing_kit(bus: Bus, chain: AnyChain, raw: RawChain[str, Device]) -> None:
    plain = Recorder(gives=[NOTIFY_OK, None, KeyError], priority=3)
    heard = Recorder[str, Device](gives=KeyError("no"))
    raw.register(plain)
    raw.register(heard)
    assert_type(heard.calls, list[tuple[str, Device]])
    heard.assert_called_once_with("up", Disk())
    heard.assert_order("up", "down")
    assert_order((heard, "up"), (plain, 3))
    for one in (bus, chain, raw):
        with registrations_restored(one):
            pass
    with Sequencer(timeout=None)(0):
        pass
    assert_type(Sequencer().step, int)


async def fixtures(
    tocsin_recorder: MakeRecorder,
    tocsin_registrations_restored: RestoreRegistrations,
    tocsin_inject_errors: InjectErrors,
    srcu: SrcuChain[str, Device],
    bus: Bus,
) -> None:
    tocsin_registrations_restored(bus)
    tocsin_registrations_restored(srcu)
    heard = tocsin_recorder(events=["up"], gives=NOTIFY_OK)
    await srcu.register(heard)
    heard.assert_order("up")
    assert_type(tocsin_inject_errors(srcu, {"up": -16}, times=1), Injection)


def faults(chain: AnyChain, srcu: SrcuChain[str, Device], scope: CancelScope) -> None:
    block = srcu.register_nowait(hear)
    outcomes: dict[str, Outcome] = {"up": -16, "down": OSError, "go": Delay(1), "on": Cancel(scope)}
    with inject_errors(srcu, outcomes, block=block, times=2) as injection:
        assert_type(injection, Injection)
        assert_type(injection.injected, int)
    with inject_errors(chain, {1: ValueError("words")}):
        pass
