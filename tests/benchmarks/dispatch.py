"""What one dispatch costs: sync, async with async subscribers, async with sync ones."""

from __future__ import annotations

import random
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from .measure import BARE, Candidate, Experiment, make_run, measure
from .peers import ASYNC_PEERS, MIXED_PEERS, SYNC_PEERS
from .subjects import (
    DATA,
    EVENT,
    VARIANTS,
    Variant,
    make_bare,
    make_bare_async,
    make_bare_over_sync,
    make_callbacks,
    make_chain,
    on_backend,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from .measure import Effort, Measurement
    from .peers import Peer


class Dispatch(NamedTuple):
    """A section: one way to dispatch, with all who can do it."""

    SECTION: str
    BACKENDS: tuple[str, ...]
    is_async: bool
    """Whether the subscribers are."""
    make_bare: Callable[[Sequence[Any]], Any]
    calls: dict[str, str]
    """Who does it and what a user writes: the bare loop, Tocsin's flavours."""
    peers: tuple[Peer, ...]

    async def measurements(self, effort: Effort) -> AsyncIterator[Measurement]:
        """Measure each variant at each size, in another order each time."""
        cases = list(product(VARIANTS, effort.sizes))
        random.shuffle(cases)
        for variant, size in cases:
            candidates = list(self.candidates(variant, size))
            experiment = Experiment(self.SECTION, on_backend(variant.name), size, candidates)
            for one in await measure(experiment, effort):
                yield one

    def candidates(self, variant: Variant, size: int) -> Iterator[Candidate]:
        """Give all who can dispatch on the backend that runs."""
        callbacks: dict[str, list[Any]] = {}

        def make(parameters: str) -> list[Any]:
            if parameters not in callbacks:
                callbacks[parameters] = make_callbacks(
                    size, variant, parameters=parameters, is_async=self.is_async
                )
            return callbacks[parameters]

        for name, statement in self.calls.items():
            shared = make("event, data")
            subject = self.make_bare(shared) if name == BARE else make_chain(name, shared)
            yield _candidate(name, statement, bare=subject, chain=subject)
        trio = on_backend("").startswith("trio")
        for peer in self.peers:
            if peer.on_trio or not trio:
                signal = peer.fill(make(peer.parameters))
                yield _candidate(peer.name, peer.statement, signal=signal, **peer.names)


def _candidate(name: str, statement: str, **names: Any) -> Candidate:
    return Candidate(name, make_run(statement, event=EVENT, data=DATA, **names))


_BOTH = ("asyncio", "trio")
_SYNC = {BARE: "bare(event, data)"} | dict.fromkeys(("Raw", "Atomic"), "chain.call(event, data)")
_ASYNC = {BARE: "await bare(event, data)", "Raw": "await chain.acall(event, data)"} | dict.fromkeys(
    ("Blocking", "SRCU"), "await chain.call(event, data)"
)

SYNC = Dispatch("sync dispatch", ("asyncio",), False, make_bare, _SYNC, SYNC_PEERS)
ASYNC = Dispatch("async dispatch", _BOTH, True, make_bare_async, _ASYNC, ASYNC_PEERS)
MIXED = Dispatch(
    "async dispatch, sync callbacks", _BOTH, False, make_bare_over_sync, _ASYNC, MIXED_PEERS
)
