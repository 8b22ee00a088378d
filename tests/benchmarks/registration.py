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
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

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
from .peers import SYNC_PEERS, PluggyPlugin, PluggySpec
from .subjects import DATA, EVENT, FLAVOURS, make_bare, make_callbacks, make_chain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from .measure import Effort

PAIR, BULK, BYTES = "register + unregister", "bulk registration", "bytes per subscriber"
SECTION = (PAIR, BULK, BYTES)
BACKENDS = ("asyncio",)  # neither a loop nor its kind has a part in it

FUNCTION, BLOCK, BETWEEN = "function", "block", "function, with a call between"


class Registry(NamedTuple):
    """A way to register; its statements see ``signal``, ``function``, ``event`` and ``data``."""

    fill: Callable[[Sequence[Any]], Any]
    """Gives the signal, or what it is called there, with those on it who are present."""
    register: str
    unregister: str
    call: str
    parameters: str = "event, data"
    """What a subscriber takes."""
    wrap: Callable[[Any], Any] | None = None
    """Makes of a function what is registered, where it is no function."""

    def subscribers(self, number: int) -> list[Any]:
        """Make so many of what is registered, new ones: some keep what they learned of the old."""
        functions = _make_functions(number, self.parameters)
        return functions if self.wrap is None else [self.wrap(one) for one in functions]


def _make_functions(number: int, parameters: str) -> list[Any]:
    """Make functions by copying code: compiling each would take longer than registering it."""
    [function] = make_callbacks(1, parameters=parameters)
    code, space = function.__code__, function.__globals__
    return [FunctionType(code.replace(), space) for _ in range(number)]


def _fill_bare(functions: Sequence[Any]) -> dict[str, Any]:
    """Give where the bare loop finds its tuple."""
    return make_bare(functions).__globals__


def _fill_pluggy(plugins: Sequence[PluggyPlugin]) -> pluggy.PluginManager:
    """Give the manager; for dispatch, the hooks alone are enough."""
    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(PluggySpec)
    for one in plugins:
        manager.register(one)
    return manager


def _sync_chain(flavour: str) -> Registry:
    return Registry(
        partial(make_chain, flavour),
        "block = signal.register(function)",
        "signal.unregister(block)",
        "signal.call(event, data)",
    )


def _async_chain(flavour: str) -> Registry:
    return Registry(
        partial(make_chain, flavour),
        "block = await signal.register(function)",
        "await signal.unregister(block)",
        "await signal.call(event, data)",
    )


def _peer(name: str, register: str, unregister: str) -> Registry:
    """Give a peer's way, dispatch being that of `peers`."""
    peer = next(one for one in SYNC_PEERS if one.name == name)
    return Registry(peer.fill, register, unregister, peer.statement, peer.parameters)


_DISCONNECT = "signal.disconnect(function)"

REGISTRIES: dict[str, Registry] = {
    BARE: Registry(
        _fill_bare,
        "place = len(signal['fns']); signal['fns'] = (*signal['fns'], function)",
        "signal['fns'] = signal['fns'][:place] + signal['fns'][place + 1 :]",
        "signal['bare'](event, data)",
    ),
    "Raw": _sync_chain("Raw"),
    "Atomic": _sync_chain("Atomic"),
    "Blocking": _async_chain("Blocking"),
    "SRCU": _async_chain("SRCU"),
    "pyee": _peer("pyee", "signal.on(event, function)", "signal.remove_listener(event, function)"),
    "blinker": _peer("blinker", "signal.connect(function, weak=False)", _DISCONNECT),
    "eventkit": _peer("eventkit", "signal.connect(function, keep_ref=True)", _DISCONNECT),
    "psygnal": _peer("psygnal emit", "signal.connect(function)", _DISCONNECT),
    "Django": _peer("Django", "signal.connect(function, weak=False)", _DISCONNECT),
    "pluggy": Registry(
        _fill_pluggy,
        "signal.register(function)",
        "signal.unregister(function)",
        "signal.hook.notify(event=event, data=data)",
        wrap=PluggyPlugin,
    ),
}
"""Everybody who takes part."""

SLOW = frozenset({"Django", "pluggy"})
"""Who compares each newcomer with everybody: minutes in the largest size, so left out there."""


async def measurements(effort: Effort) -> AsyncIterator[Measurement]:
    """Measure all three."""
    for variant in (FUNCTION, BLOCK, BETWEEN):
        for size in effort.sizes:
            for one in await measure(pair_experiment(variant, size), effort):
                yield one
    for size in (effort.scaled(1000), effort.scaled(10_000)):
        names = taking_part_in_bulk(size)
        taken = await take_turns(
            {name: partial(bulk_seconds, name, size) for name in names}, effort.at_most(3).rounds
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
    registry = REGISTRIES[name]
    newcomer, *present = registry.subscribers(size + 1)
    if variant == BLOCK and name != BARE:
        newcomer = NotifierBlock(newcomer)
    between = [registry.call] if variant == BETWEEN else []
    statement = "; ".join([registry.register, *between, registry.unregister])
    return _make_run(registry, statement, present, function=newcomer)


def _make_run(
    registry: Registry, statement: str, present: Sequence[Any], **names: object
) -> Callable[[int], object]:
    signal = registry.fill(present)
    return make_run(statement, signal=signal, event=EVENT, data=DATA, **names)


def taking_part_in_bulk(number: int) -> list[str]:
    """Say who registers so many one by one."""
    return [one for one in REGISTRIES if one not in SLOW or number <= 1000]


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
    registry = REGISTRIES[name]
    subscribers = registry.subscribers(number)
    statement = f"function = next(functions); {registry.register}"
    return _make_run(registry, statement, (), functions=iter(subscribers)), subscribers
