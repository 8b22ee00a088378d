"""What it costs to register and to unregister, and what a subscriber takes in memory.

A pair of ``register`` and ``unregister`` is timed with so many others present: of a plain function,
which for Tocsin includes making its block, and of a ready block. A third variant has a call between
the two, so that work put off until the next call is seen as well; its figures contain that call.

Bulk registration is so many functions one by one, onto a chain that was empty. Bytes are those that
`tracemalloc` sees appear meanwhile, the functions being there already and Tocsin's blocks not. The
bare way is a tuple, copied at each change, whose caller remembers the place.
"""

from __future__ import annotations

import gc
import tracemalloc
from functools import partial
from inspect import isawaitable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy
from blinker import Signal as BlinkerSignal
from django.dispatch import Signal as DjangoSignal
from psygnal import Signal as PsygnalSignal
from pyee.base import EventEmitter

from tocsin import NotifierBlock

from .measure import (
    BARE,
    Candidate,
    Experiment,
    Measurement,
    lower_quartile,
    make_run,
    measure,
    take_turns,
    time_of,
)
from .subjects import DATA, EVENT, FLAVOURS, make_bare, make_callbacks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .measure import Effort

PAIR, BULK, BYTES = "register + unregister", "bulk registration", "bytes per subscriber"
SECTION = (PAIR, BULK, BYTES)
BACKENDS = ("asyncio",)  # neither a loop nor its kind has a part in it

FUNCTION, BLOCK, BETWEEN = "function", "block", "function, with a call between"


class Registry(NamedTuple):
    """Somewhere to register: statements that see ``function``, `EVENT`, `DATA` and ``names``."""

    register: str
    unregister: str
    call: str
    add: Callable[[Any], object]
    """Registers one of those who are present from the start."""
    names: dict[str, Any]
    subscribers: Callable[[int], list[Any]] = make_callbacks
    """Makes what is registered."""


def _bare() -> Registry:
    bare = make_bare(())
    space = bare.__globals__  # where the loop finds its tuple

    def add(function: Any) -> None:
        space["fns"] = (*space["fns"], function)
        names["place"] = len(space["fns"])

    names: dict[str, Any] = {"call": bare, "space": space, "place": 0}
    return Registry(
        'space["fns"] = (*space["fns"], function)',
        'space["fns"] = space["fns"][:place] + space["fns"][place + 1 :]',
        "call(EVENT, DATA)",
        add,
        names,
    )


def _sync_chain(flavour: str) -> Registry:
    chain = FLAVOURS[flavour]("bench")
    names = {"register": chain.register, "unregister": chain.unregister, "call": chain.call}
    return Registry(
        "block = register(function)",
        "unregister(block)",
        "call(EVENT, DATA)",
        chain.register,
        names,
    )


def _async_chain(flavour: str) -> Registry:
    sync = _sync_chain(flavour)
    return Registry(
        "block = await register(function)",
        "await unregister(block)",
        "await call(EVENT, DATA)",
        sync.names["register"].__self__.register_nowait,
        sync.names,
    )


def _pyee() -> Registry:
    emitter = EventEmitter()
    names = {"on": emitter.on, "off": emitter.remove_listener, "emit": emitter.emit}
    return Registry(
        "on(EVENT, function)",
        "off(EVENT, function)",
        "emit(EVENT, EVENT, DATA)",
        partial(emitter.on, EVENT),
        names,
    )


def _blinker() -> Registry:
    signal = BlinkerSignal()
    names = {"connect": signal.connect, "disconnect": signal.disconnect, "send": signal.send}
    return Registry(
        "connect(function)",
        "disconnect(function)",
        "send(EVENT, data=DATA)",
        signal.connect,
        names,
    )


def _psygnal() -> Registry:
    class Emitter:
        ordered = PsygnalSignal(object, object)

    signal = Emitter().ordered
    names = {"connect": signal.connect, "disconnect": signal.disconnect, "emit": signal.emit}
    return Registry(
        "connect(function)",
        "disconnect(function)",
        "emit(EVENT, DATA)",
        signal.connect,
        names,
    )


def _django() -> Registry:
    signal = DjangoSignal()
    names = {"connect": signal.connect, "disconnect": signal.disconnect, "send": signal.send}
    return Registry(
        "connect(function)",
        "disconnect(function)",
        "send(EVENT, data=DATA)",
        signal.connect,
        names,
        partial(make_callbacks, parameters="signal, sender, data"),
    )


def _pluggy() -> Registry:
    class Specification:
        @pluggy.HookspecMarker("bench")
        def ordered(self, event: object, data: object) -> None: ...

    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(Specification)
    implements = pluggy.HookimplMarker("bench")

    def plugins(number: int) -> list[Any]:
        return [SimpleNamespace(ordered=implements(one)) for one in make_callbacks(number)]

    names = {
        "register": manager.register,
        "unregister": manager.unregister,
        "call": manager.hook.ordered,
    }
    return Registry(
        "register(function)",
        "unregister(function)",
        "call(event=EVENT, data=DATA)",
        manager.register,
        names,
        plugins,
    )


REGISTRIES: dict[str, Callable[[], Registry]] = {
    BARE: _bare,
    "Raw": partial(_sync_chain, "Raw"),
    "Atomic": partial(_sync_chain, "Atomic"),
    "Blocking": partial(_async_chain, "Blocking"),
    "SRCU": partial(_async_chain, "SRCU"),
    "pyee": _pyee,
    "blinker": _blinker,
    "psygnal": _psygnal,
    "Django": _django,
    "pluggy": _pluggy,
}
"""Everybody who takes part; each makes an empty place."""

SLOW = frozenset({"Django", "pluggy"})
"""Who compares each newcomer with everybody: minutes in the largest size, so left out there."""


async def measurements(effort: Effort) -> AsyncIterator[Measurement]:
    """Measure all three."""
    for variant in (FUNCTION, BLOCK, BETWEEN):
        for size in effort.sizes:
            for one in await measure(pair_experiment(variant, size), effort):
                yield one
    for size in (effort.scaled(1000), effort.scaled(10_000)):
        names = [one for one in REGISTRIES if one not in SLOW or size <= 1000]
        taken = await take_turns(
            {name: partial(bulk_seconds, name, size) for name in names}, effort.at_most(5).rounds
        )
        for name, times in taken.items():
            yield Measurement(BULK, FUNCTION, size, name, lower_quartile(times), "s")
        for name in names:
            found = await bytes_each(name, size)
            yield Measurement(BYTES, FUNCTION, size, name, found, "bytes")


def pair_experiment(variant: str, size: int) -> Experiment:
    """Give the experiment in which one subscriber comes and goes, ``size`` others being present."""
    taking_part = [BARE, *FLAVOURS] if variant == BLOCK else REGISTRIES
    candidates = [Candidate(name, _pair(name, variant, size)) for name in taking_part]
    return Experiment(PAIR, variant, size, candidates)


def _pair(name: str, variant: str, size: int) -> Callable[[int], object]:
    registry = REGISTRIES[name]()
    *present, newcomer = registry.subscribers(size + 1)
    for one in present:
        registry.add(one)
    if variant == BLOCK and name != BARE:
        newcomer = NotifierBlock(newcomer)
    between = [registry.call] if variant == BETWEEN else []
    statement = "; ".join([registry.register, *between, registry.unregister])
    return _make_run(registry, statement, function=newcomer, present=present)


def _make_run(registry: Registry, statement: str, **names: object) -> Callable[[int], object]:
    return make_run(statement, **registry.names, EVENT=EVENT, DATA=DATA, **names)


async def bulk_seconds(name: str, number: int) -> float:
    """Time so many registrations at an empty place."""
    run, _ = _bulk(name, number)
    return await time_of(Candidate(name, run), number)


async def bytes_each(name: str, number: int) -> float:
    """Give how much memory a subscriber takes where there are so many."""
    run, subscribers = _bulk(name, number)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        made = run(number)
        if isawaitable(made):
            await made
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / len(subscribers)


def _bulk(name: str, number: int) -> tuple[Callable[[int], object], list[Any]]:
    """Give what registers the next of so many subscribers, as often as is said; and these."""
    registry = REGISTRIES[name]()
    subscribers = registry.subscribers(number)
    statement = f"function = next(functions); {registry.register}"
    return _make_run(registry, statement, functions=iter(subscribers)), subscribers
