"""What ``events=`` costs, and what it spares.

*In use*: everybody on the chain hears the event that is called, and one more hears another, so that
each call has to look for its route. Either they name the event themselves, or, *unnamed*, they hear
every event and the one that is called has no route. The bare loop has no routes.

*Spared*: three hear the event that is called, and all others on the chain, in ten groups, hear
other events; here the size is how many there are in all. The bare loop runs over the three. Beside
that stands a chain on which these three are alone: the same cost means that whoever is not
interested costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pyee.base import EventEmitter

from .measure import BARE, Candidate, Experiment, make_run, measure
from .subjects import (
    DATA,
    EVENT,
    make_bare,
    make_bare_async,
    make_bare_over_sync,
    make_callbacks,
    make_chain,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from .measure import Effort, Measurement

IN_USE, SPARED = "events= in use", "events=, 3 interested"
SECTION = (IN_USE, SPARED)
BACKENDS = ("asyncio",)  # finding a route is the same on both

INTERESTED = 3
OTHER_EVENTS = 10
SIZES = (10, 100, 1000)


class Form(NamedTuple):
    """A way of calling, the flavours that know it, and the bare loop to compare it with."""

    name: str
    flavours: tuple[str, ...]
    make_bare: Callable[[Sequence[Any]], Callable[[Any, Any], Any]]
    statement: str
    is_async: bool = False


SYNC, CALL, AWAIT = ("Raw", "Atomic"), "call(EVENT, DATA)", "await call(EVENT, DATA)"
ASYNC = ("Blocking", "SRCU")
FORMS = (
    Form("sync", SYNC, make_bare, CALL),
    Form("async", ASYNC, make_bare_async, AWAIT, is_async=True),
    Form("async over sync", ASYNC, make_bare_over_sync, AWAIT),
)


async def measurements(effort: Effort) -> AsyncIterator[Measurement]:
    """Measure both, in every form."""
    for form in FORMS:
        for size in [one for one in effort.sizes if one]:
            for experiment in (in_use(form, size, named=True), in_use(form, size, named=False)):
                for one in await measure(experiment, effort):
                    yield one
        for size in sorted({max(INTERESTED, effort.scaled(one)) for one in SIZES}):
            for one in await measure(spared(form, size), effort):
                yield one


def in_use(form: Form, size: int, *, named: bool) -> Experiment:
    """Give the experiment on chains that have routes, and ``size`` who hear the event."""
    callbacks = make_callbacks(size, is_async=form.is_async)
    [other] = make_callbacks(1, is_async=form.is_async)
    candidates = [_candidate(BARE, form, form.make_bare(callbacks))]
    for flavour in form.flavours:
        chain = make_chain(flavour, callbacks, events=[EVENT] if named else None)
        chain.register_nowait(other, events=["another"])
        candidates.append(_candidate(flavour, form, chain.call))
    variant = form.name if named else f"{form.name}, unnamed"
    return Experiment(IN_USE, variant, size, candidates)


def spared(form: Form, size: int) -> Experiment:
    """Give the experiment on chains with ``size`` subscribers, three of whom hear the event."""
    callbacks = make_callbacks(INTERESTED, is_async=form.is_async)
    others = make_callbacks(size - INTERESTED, is_async=form.is_async)
    candidates = [_candidate(BARE, form, form.make_bare(callbacks))]
    for flavour in form.flavours:
        alone = make_chain(flavour, callbacks, events=[EVENT])
        candidates.append(_candidate(f"{flavour}, alone", form, alone.call))
        chain = make_chain(flavour, callbacks, events=[EVENT])
        for index, one in enumerate(others):
            chain.register_nowait(one, events=[_other_event(index)])
        candidates.append(_candidate(flavour, form, chain.call))
    if form.name == "sync":
        candidates.append(_pyee(callbacks, others))
    return Experiment(SPARED, form.name, size, candidates)


def _other_event(index: int) -> str:
    return f"another {index % OTHER_EVENTS}"


def _candidate(name: str, form: Form, call: Callable[..., Any]) -> Candidate:
    return Candidate(name, make_run(form.statement, call=call, EVENT=EVENT, DATA=DATA))


def _pyee(callbacks: Sequence[Any], others: Sequence[Any]) -> Candidate:
    """Give the peer whose subscribers name their event, too."""
    emitter = EventEmitter()
    for one in callbacks:
        emitter.on(EVENT, one)
    for index, one in enumerate(others):
        emitter.on(_other_event(index), one)
    statement = "emit(EVENT, EVENT, DATA)"
    return Candidate("pyee", make_run(statement, emit=emitter.emit, EVENT=EVENT, DATA=DATA))
