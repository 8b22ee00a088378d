"""Whatever is passed in, nothing but a documented error comes out, and nothing is left behind.

`ENTRIES` is the list: each way in, and the errors that its docstring names. Anything else is a
finding, with one exception that is documented too: what the caller's own objects raise when they
are compared, hashed or reckoned with comes out as it is (`hostile.TheirsError`). The short form
runs with the suite, the long one by ``make fuzz``.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

import tocsin
from tocsin import (
    AtomicChain,
    Bus,
    ChainInUseError,
    ChainNotFoundError,
    FilterError,
    InvalidResultError,
    InvalidTypeError,
    InvalidValueError,
    ModuleDependencyError,
    ModuleHost,
    ModuleLoadError,
    ModuleNotLoadedError,
    NameFilter,
    NotifierBlock,
    NotRegisteredError,
    OrderConflictError,
    PriorityInUseError,
    Scope,
    SrcuChain,
    StructlogObserver,
    TocsinError,
    VetoError,
)
from tocsin.options import BlockOptions
from tocsin.panic import PanicInstallError, PanicNotifier
from tocsin.testing import (
    Cancel,
    Delay,
    Recorder,
    Sequencer,
    assert_order,
    inject_errors,
    registrations_restored,
)

from .flavours import ASYNC, FLAVOURS, SYNC
from .hostile import SECRET, Secret, TheirsError, hostile, odd_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TYPE, VALUE = InvalidTypeError, InvalidValueError

PLAIN = ("notifier_from_errno() ", "notifier_to_errno() ")
"""What raises plain errors: the arithmetic, as `TocsinError` says."""


def hear(event: Any, data: Any) -> None:
    """Do nothing."""


async def ahear(event: Any, data: Any) -> None:
    """Do nothing."""


class Rig:
    """A bus with something on it, that must look the same after an error."""

    def __init__(self) -> None:
        self.bus = Bus("bus")
        self.chains = {
            kind.__name__: self.bus.add(kind(kind.__name__, filter=NameFilter(["hear", "first"])))
            for kind in FLAVOURS
        }
        for chain in self.chains.values():
            chain.register_nowait(hear, name="first", priority=5)
            chain.register_nowait(hear, name="parked")
        self.host = ModuleHost(self.bus)
        self.scope = Scope("scope")

    @property
    def chain(self) -> AtomicChain[Any, Any]:
        return self.bus.get("AtomicChain", AtomicChain[Any, Any])

    @property
    def srcu(self) -> SrcuChain[Any, Any]:
        return self.bus.get("SrcuChain", SrcuChain[Any, Any])

    def seen(self) -> Any:
        return self.bus.snapshot(), self.host.modules, self.scope.blocks


@dataclass(frozen=True)
class Entry:
    name: str
    errors: tuple[type[Exception], ...]
    call: Callable[[Rig, Any], Any]
    awaits: bool = False
    changes: bool = False
    """Whether it registers something of its own before it comes to the value."""


def answering(result: Any, **options: Any) -> AtomicChain[Any, Any]:
    chain = AtomicChain[Any, Any]("answers", **options)
    chain.register(lambda event, data: result, name="one")
    return chain


def dispatch(rig: Rig, event: Any) -> None:
    """Call with an event, in every way that there is without an event loop."""
    for chain in map(rig.chains.__getitem__, (kind.__name__ for kind in SYNC)):
        with suppress(NotRegisteredError, TypeError):
            chain.register_nowait(hear, events=["named", 5])
        chain.call(event)
        chain.call_report(event)
        chain.call_robust(event, event)
        with chain.observe(StructlogObserver()):
            chain.call(event)


async def adispatch(rig: Rig, event: Any) -> None:
    for chain in map(rig.chains.__getitem__, (kind.__name__ for kind in ASYNC)):
        await chain.register(ahear, events=["named", 5])
        await chain.call(event)
        await chain.call_report(event)
        await chain.call_concurrent(event)


def makes(kind: Any, option: str | None = None) -> Callable[[Rig, Any], Any]:
    return lambda _, value: kind("c", **{option: value}) if option else kind(value)


def registers(callback: Any, option: str) -> Callable[[Rig, Any], Any]:
    """Register on a chain of the callback's colour."""
    return lambda rig, value: (rig.chain if callback is hear else rig.srcu).register_nowait(
        callback, **{option: value}
    )


def streams(option: str) -> Callable[[Rig, Any], Any]:
    async def stream(rig: Rig, value: Any) -> None:
        options: Any = {option: value}
        async with rig.srcu.stream(**options):
            await anyio.lowlevel.checkpoint()

    return stream


async def concurrent(rig: Rig, limit: Any) -> None:
    await rig.srcu.register(ahear)
    await rig.srcu.call_concurrent("event", limit=limit)


def install(_rig: Rig, signals: Any) -> None:
    if signals == {} or any(signals == [one] for one in (5, 0x8001)):
        return  # a real signal, which is not what is tested here
    with PanicNotifier().installed(signals=signals):
        pass


def misheard(_rig: Rig, event: Any) -> None:
    recorder = Recorder[Any, Any](name="recorder")
    recorder(event, Secret())
    with pytest.raises(AssertionError) as caught:
        recorder.assert_not_called()
    assert str(caught.value).isprintable()


def restore(_rig: Rig, target: Any) -> None:
    with registrations_restored(target):
        pass


def out_of_turn(_rig: Rig, step: Any) -> None:
    """Wait for a step, too short a time for any but the first, and for the same one again."""
    sequencer = Sequencer(timeout=1e-6)
    for _ in range(2):
        with suppress(TimeoutError), sequencer(step):
            pass


def entries() -> Iterator[Entry]:
    # Names and options of chains, buses and scopes.
    for kind in (AtomicChain, SrcuChain):  # the other two share the code with them
        yield Entry(f"{kind.__name__} name", (TYPE,), makes(kind))
        yield Entry(f"{kind.__name__} errors", (VALUE,), makes(kind, "errors"))
        yield Entry(f"{kind.__name__} filter", (TYPE,), makes(kind, "filter"))
        yield Entry(f"{kind.__name__} replay", (TYPE,), makes(kind, "replay"))
    yield Entry("checkpoint_every", (VALUE,), lambda _, v: SrcuChain("c", checkpoint_every=v))
    yield Entry("Bus", (TYPE,), lambda _, v: Bus(v))
    yield Entry("Scope", (TYPE,), lambda _, v: Scope(v))
    yield Entry("Bus.add", (TYPE,), lambda rig, v: rig.bus.add(v))
    yield Entry("Bus.get", (ChainNotFoundError,), lambda rig, v: rig.bus.get(v))
    yield Entry("Bus.get flavour", (TYPE,), lambda rig, v: rig.bus.get("SrcuChain", v))
    yield Entry(
        "Bus.remove", (ChainNotFoundError, ChainInUseError), lambda rig, v: rig.bus.remove(v)
    )
    yield Entry("in Bus", (), lambda rig, v: v in rig.bus)
    yield Entry("Bus.observe", (TYPE,), lambda rig, v: rig.bus.observe(v))

    # Filters.
    errors = (FilterError, TYPE, VALUE)
    yield Entry("Bus.set_filters", errors, lambda rig, v: rig.bus.set_filters(v))
    yield Entry(
        "Bus.set_filters text", errors, lambda rig, v: rig.bus.set_filters({"SrcuChain": v, "b": v})
    )
    yield Entry("Bus.from_env", (TYPE, VALUE), lambda _, v: Bus.from_env("b", v))
    yield Entry("Bus.from_env name", (TYPE,), lambda _, v: Bus.from_env(v))
    yield Entry("NameFilter", (FilterError, TYPE), lambda _, v: NameFilter(v))
    yield Entry("NameFilter entry", (FilterError,), lambda _, v: NameFilter(["a", v]))
    yield Entry("NameFilter limit", errors, lambda _, v: NameFilter(["a"], limit=v))
    yield Entry("NameFilter.parse", (FilterError, TYPE), lambda _, v: NameFilter.parse(v))
    yield Entry("parse known", (FilterError, TYPE), lambda _, v: NameFilter.parse("a", known=v))
    yield Entry("parse limit", errors, lambda _, v: NameFilter.parse("a", limit=v))
    yield Entry("from_env", (TYPE, VALUE), lambda _, v: NameFilter.from_env(v))
    yield Entry("only", (FilterError,), lambda rig, v: rig.chain.only(v))
    yield Entry("set_filter", (TYPE,), lambda rig, v: rig.chain.set_filter(v))

    # Blocks and registration.
    conflicts = (OrderConflictError, PriorityInUseError)
    yield Entry("NotifierBlock", (TYPE,), lambda _, v: NotifierBlock(v))
    yield Entry("register", (TYPE, tocsin.AsyncCallbackError), lambda rig, v: rig.chain.register(v))
    yield Entry("unregister", (NotRegisteredError,), lambda rig, v: rig.chain.unregister(v))
    yield Entry("in chain", (), lambda rig, v: v in rig.chain)
    yield Entry("Scope.adopt", (TYPE, VALUE, NotRegisteredError), lambda rig, v: rig.scope.adopt(v))
    yield Entry(
        "unique_priority", (TYPE,), lambda rig, v: rig.chain.register(hear, unique_priority=v)
    )
    wrong = (TYPE, VALUE, *conflicts)
    for option in BlockOptions.__annotations__:
        yield Entry(
            f"register {option}", (*wrong, tocsin.AsyncCallbackError), registers(hear, option)
        )
    for option in ("timeout", "thread", "is_async"):
        yield Entry(f"register {option} async", wrong, registers(ahear, option))

    # Results and errnos.
    plain = (TypeError, ValueError)
    yield Entry("notifier_from_errno", plain, lambda _, v: tocsin.notifier_from_errno(v))
    yield Entry("notifier_to_errno", plain, lambda _, v: tocsin.notifier_to_errno(v))
    yield Entry("describe_result", plain, lambda _, v: tocsin.describe_result(v))
    vetoes = (VetoError, InvalidResultError, TYPE)
    yield Entry("raise_for_result", vetoes, lambda _, v: tocsin.raise_for_result(v))
    yield Entry("VetoError", (TYPE, VALUE), lambda _, v: str(VetoError(v)))
    yield Entry("VetoError result", (TYPE,), lambda _, v: str(VetoError(5, result=v)))
    yield Entry("result", (InvalidResultError,), lambda _, v: answering(v).call("event"))
    yield Entry(
        "result isolated", (), lambda _, v: answering(v, errors="isolate").call_report("event")
    )
    yield Entry(
        "result raised", vetoes, lambda _, v: answering(v).call_report("event").raise_for_veto()
    )
    yield Entry(
        "result robust",
        (InvalidResultError,),
        lambda _, v: answering(v).call_robust("event", "undo"),
    )
    yield Entry(
        "result replayed",
        (InvalidResultError, VetoError),
        lambda _, v: AtomicChain("c", replay=lambda: [(1, 2)]).register(lambda event, data: v),
    )
    yield Entry(
        "replay gives",
        (TYPE,),
        lambda _, v: AtomicChain[Any, Any]("c", replay=lambda: v).register(hear),
    )
    yield Entry(
        "replay gives one",
        (TYPE,),
        lambda _, v: AtomicChain[Any, Any]("c", replay=lambda: [v]).register(hear),
    )

    # Events, limits, seconds.
    yield Entry("event", (), dispatch, changes=True)
    yield Entry("event awaited", (), adispatch, awaits=True, changes=True)
    yield Entry("limit", (TYPE,), lambda rig, v: rig.chain.call_report("event", limit=v))
    yield Entry("concurrent limit", (TYPE, VALUE), concurrent, awaits=True, changes=True)
    yield Entry("turn_timeout", (TYPE, VALUE), lambda _, v: PanicNotifier(turn_timeout=v))
    yield Entry(
        "crash_kexec", (TYPE, tocsin.AsyncCallbackError), lambda _, v: PanicNotifier(crash_kexec=v)
    )
    yield Entry("signals", (TYPE, PanicInstallError), install)
    yield Entry("signal", (TYPE, PanicInstallError), lambda rig, v: install(rig, [v]))
    yield Entry("log level", (TYPE, VALUE), lambda _, v: StructlogObserver(level=v))
    for option in ("where", "max_buffer_size", "overflow", "name"):
        yield Entry(
            f"stream {option}",
            (TYPE, VALUE),
            streams(option),
            awaits=True,
        )

    # Modules and targets.
    yield Entry("ModuleHost", (TYPE,), lambda _, v: ModuleHost(v))
    yield Entry("exit_timeout", (TYPE, VALUE), lambda rig, v: ModuleHost(rig.bus, exit_timeout=v))
    yield Entry("load", (ModuleLoadError, TYPE), lambda rig, v: rig.host.load(v), awaits=True)
    yield Entry("unload", (ModuleNotLoadedError,), lambda rig, v: rig.host.unload(v), awaits=True)
    yield Entry("reload", (ModuleNotLoadedError,), lambda rig, v: rig.host.reload(v), awaits=True)
    yield Entry("scope", (ModuleNotLoadedError,), lambda rig, v: rig.host.scope(v))
    yield Entry("require", (ModuleDependencyError,), lambda rig, v: rig.host.require(v))

    # The testing kit.
    either = (TYPE, VALUE)
    chain = AtomicChain[Any, Any]("c")
    yield Entry("inject_errors", (TYPE,), lambda _, v: inject_errors(v, {}))
    yield Entry("injected outcomes", (TYPE,), lambda _, v: inject_errors(chain, v))
    yield Entry("injected outcome", (TYPE,), lambda _, v: inject_errors(chain, {"a": v}))
    yield Entry("injected times", either, lambda _, v: inject_errors(chain, {}, times=v))
    yield Entry(
        "injected block",
        (TYPE, NotRegisteredError),
        lambda _, v: inject_errors(chain, {}, block=v),
    )
    yield Entry("Delay", either, lambda _, v: Delay(v))
    yield Entry("Cancel", (TYPE,), lambda _, v: Cancel(v))
    yield Entry("Recorder gives", either, lambda _, v: Recorder(gives=v))
    yield Entry("Recorder gives one", (TYPE,), lambda _, v: Recorder(gives=[v]))
    yield Entry("assert_order", (TYPE,), lambda _, v: assert_order(v))
    yield Entry("assert_order event", (), misheard)
    yield Entry("registrations_restored", (TYPE,), restore)
    yield Entry("Sequencer", either, lambda _, v: Sequencer(timeout=v))
    yield Entry("Sequencer step", either, out_of_turn)


ENTRIES = {entry.name: entry for entry in entries()}
SYNC_ENTRIES = [name for name, entry in ENTRIES.items() if not entry.awaits]
ASYNC_ENTRIES = [name for name, entry in ENTRIES.items() if entry.awaits]


def check_error(entry: Entry, error: Exception) -> None:
    if isinstance(error, TheirsError):
        return
    if not isinstance(error, entry.errors):
        raise AssertionError(f"{entry.name}: {type(error).__name__}") from error
    said = str(error)
    ours = isinstance(error, TocsinError) or said.startswith(PLAIN)
    assert ours, f"{entry.name}: {said}"
    assert said
    assert said.isprintable()
    told = [said, *getattr(error, "__notes__", ())]
    assert not any(SECRET in words for words in told), f"{entry.name}: {told}"


def check(name: str, *values: Any, backend: str = "asyncio") -> None:
    """Pass in one value after another; what changed something gets a new rig."""
    entry, rig = ENTRIES[name], Rig()
    before = rig.seen()
    for value in values:
        with capture_logs() as logs:
            try:
                if entry.awaits:
                    anyio.run(_await, entry, rig, value, backend=backend)
                else:
                    entry.call(rig, value)
            except Exception as error:
                check_error(entry, error)
                assert entry.changes or rig.seen() == before, "something was left behind"
        for line in logs:
            line.pop("exc_info", None)
            assert SECRET not in repr(line)
        if rig.seen() != before:
            rig = Rig()


async def _await(entry: Entry, rig: Rig, value: Any) -> None:
    await entry.call(rig, value)


@pytest.mark.parametrize("name", SYNC_ENTRIES)
def test_every_odd_value_is_taken_or_refused_in_our_words(name: str) -> None:
    check(name, *hostile())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("name", ASYNC_ENTRIES)
def test_every_odd_value_is_taken_or_refused_in_our_words_where_it_is_awaited(
    name: str, backend: str
) -> None:
    check(name, *hostile(), backend=backend)


@given(st.sampled_from(SYNC_ENTRIES), odd_values)
def test_nothing_but_documented_errors_comes_out(name: str, value: Any) -> None:
    check(name, value)
