"""The peers: how each is filled with subscribers, and what a user writes to dispatch.

Every peer gets its quickest honest use: strong references where it offers them, positional
arguments where it takes them, and subscribers with the parameters that it passes. A peer that
cannot do a thing is left out there: psygnal, pluggy and eventkit have no dispatch that awaits its
async subscribers, aiosignal has none for sync ones, and pyee's and Django's need asyncio.
"""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what they deprecate is no news of ours

    async def _import_eventkit() -> Any:
        """Import it where a loop runs: it asks for one at once, and would make one of its own."""
        import eventkit

        return eventkit

    eventkit = asyncio.run(_import_eventkit())
    import aiosignal
    import blinker
    import pluggy
    import psygnal
    import pyee
    import pyee.asyncio
    from django.dispatch import Signal as DjangoSignal

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    Callbacks = Sequence[Callable[..., Any]]

from .subjects import EVENT


class Peer(NamedTuple):
    """One way to dispatch with another library."""

    name: str
    fill: Callable[[Callbacks], Any]
    """Gives the library's signal, or what it calls it, with the subscribers on it."""
    statement: str
    """Dispatches once; sees the signal as ``signal``, besides ``event`` and ``data``."""
    parameters: str = "event, data"
    """What a subscriber takes."""
    on_trio: bool = False
    names: Mapping[str, Any] = {}
    """What else the statement sees."""


def fill_aiosignal(callbacks: Callbacks) -> Any:
    signal = aiosignal.Signal[Any, Any](owner=None)
    signal.extend(callbacks)
    signal.freeze()
    return signal


def fill_blinker(callbacks: Callbacks) -> Any:
    signal = blinker.Signal()
    for one in callbacks:
        signal.connect(one, weak=False)
    return signal


def fill_django(callbacks: Callbacks) -> Any:
    signal = DjangoSignal()
    for one in callbacks:
        signal.connect(one, weak=False)
    return signal


def fill_eventkit(callbacks: Callbacks) -> Any:
    signal = eventkit.Event("bench")
    for one in callbacks:
        signal.connect(one, keep_ref=True)
    return signal


def fill_pluggy(callbacks: Callbacks) -> Any:
    """Give the manager's hooks."""
    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(PluggySpec)
    for one in callbacks:
        manager.register(PluggyPlugin(one))
    return manager.hook


def fill_psygnal(callbacks: Callbacks) -> Any:
    signal = psygnal.SignalInstance((object, object))
    for one in callbacks:
        signal.connect(one)
    return signal


def fill_pyee(callbacks: Callbacks) -> Any:
    return _fill_emitter(pyee.EventEmitter(), callbacks)


def fill_pyee_asyncio(callbacks: Callbacks) -> Any:
    return _fill_emitter(pyee.asyncio.AsyncIOEventEmitter(), callbacks)


def _fill_emitter(emitter: pyee.EventEmitter, callbacks: Callbacks) -> pyee.EventEmitter:
    for one in callbacks:
        emitter.on(EVENT, one)
    return emitter


class PluggySpec:
    """The hook that the plugins of the benchmark have."""

    @staticmethod
    @pluggy.HookspecMarker("bench")
    def notify(event: Any, data: Any) -> None: ...


class PluggyPlugin:
    """A plugin with one subscriber."""

    def __init__(self, notify: Callable[..., Any]) -> None:
        pluggy.HookimplMarker("bench")(getattr(notify, "__func__", notify))
        self.notify = notify


def _make_async(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Wrap a sync subscriber, as blinker's documentation advises for `send_async`."""

    async def inner(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return inner


_DJANGO = "signal, sender, data, **named"  # Django insists on the last one
_PYEE_ASYNC = Peer(
    "pyee",
    fill_pyee_asyncio,
    "signal.emit(event, data); await signal.wait_for_complete()",
    parameters="data",
)

SYNC_PEERS = (
    Peer("eventkit", fill_eventkit, "signal.emit(event, data)"),
    Peer("psygnal emit_fast", fill_psygnal, "signal.emit_fast(event, data)"),
    Peer("psygnal emit", fill_psygnal, "signal.emit(event, data)"),
    Peer("pyee", fill_pyee, "signal.emit(event, data)", parameters="data"),
    Peer("pluggy", fill_pluggy, "signal.notify(event=event, data=data)"),
    Peer("Django", fill_django, "signal.send(event, data=data)", parameters=_DJANGO),
    Peer("blinker", fill_blinker, "signal.send(event, data=data)"),
)
"""Sync dispatch."""

ASYNC_PEERS = (
    Peer("aiosignal", fill_aiosignal, "await signal.send(event, data)", on_trio=True),
    Peer("blinker", fill_blinker, "await signal.send_async(event, data=data)", on_trio=True),
    _PYEE_ASYNC,
    Peer("Django", fill_django, "await signal.asend(event, data=data)", parameters=_DJANGO),
)
"""Async dispatch to async subscribers, which have run when it is over."""

MIXED_PEERS = (
    Peer(
        "blinker",
        fill_blinker,
        "await signal.send_async(event, _sync_wrapper=make_async, data=data)",
        on_trio=True,
        names={"make_async": _make_async},
    ),
    _PYEE_ASYNC,
    Peer("Django", fill_django, "await signal.asend(event, data=data)", parameters=_DJANGO),
)
"""Async dispatch to sync subscribers."""
