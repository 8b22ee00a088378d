"""`Admission`: who may join a chain's walks, and what a newcomer hears first.

Owns the replay of the present state and the layers of the filter. A walk knows nothing of either:
whoever is left out is not in its snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from . import _log
from ._typing import DataT, EventT
from .callables import close_coroutine
from .careful import Walk
from .core import Core
from .errors import InvalidTypeError, RegistrationVetoedError, VetoError
from .filters import NameFilter
from .results import notifier_to_errno
from .slots import bare_slot, make_slot
from .table import Table
from .view import Snapshot, awaits
from .walk import drive

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from contextlib import AbstractContextManager

    from .block import AnyBlock

__all__ = ["Admission", "Layer", "UnheardError", "replace_base"]


class UnheardError(Exception):
    """Somebody would be admitted who has not heard the replay: filter or blocks have changed."""


class Layer(NameFilter):
    """A layer of `only`, which knows that it was left: then it must not be put on again."""

    __slots__ = ("was_left",)

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(names)
        self.was_left: bool = False


class Admission(Core[EventT, DataT]):
    """A table with a filter and a replay. Not for direct use."""

    __slots__ = ()

    # Replaying the present state to a newcomer.

    def _replay_walks(self, block: AnyBlock) -> Iterator[tuple[Walk, DataT]]:
        """Give a walk over nobody but the newcomer, and the data, for each pair that it hears."""
        if self._replay is None:
            return
        # Not the slot that the block keeps: it may be on the chain before this replay has ended.
        table = self._table
        alone = Snapshot(None, [block], table.observers, [bare_slot(block, table.wrappers)])
        self._walked.add(alone)  # one that is parked may be taken off meanwhile (D3)
        for pair in self._pairs(self._replay):
            if not isinstance(pair, tuple) or len(pair) != 2:  # pyright: ignore[reportUnnecessaryIsInstance, reportUnnecessaryComparison]
                raise InvalidTypeError(
                    f"chain {self._name!r}: its replay must give pairs (event, data), not "
                    f"{type(pair).__name__}"
                )
            if block.hears(pair[0]):
                walk = Walk(self, alone, pair[0], policy=self._errors, kind="replay")
                yield walk, pair[1]
                walk.report()
                self._check_replayed(walk, block)

    def _pairs(
        self, replay: Callable[[], Iterable[tuple[EventT, DataT]]]
    ) -> Iterable[tuple[EventT, DataT]]:
        pairs: Any = replay()
        if isinstance(pairs, Iterable):
            return cast("Iterable[tuple[EventT, DataT]]", pairs)
        close_coroutine(pairs)
        raise InvalidTypeError(
            f"chain {self._name!r}: its replay must give pairs (event, data) to iterate over, not "
            f"{type(pairs).__name__}"
        )

    def _check_replayed(self, walk: Walk, block: AnyBlock) -> None:
        error = -notifier_to_errno(walk.result)
        if error:
            said = walk.calls[-1].exception
            reason = said.reason if isinstance(said, VetoError) else None
            veto = VetoError(error, reason, result=walk.result)
            raise RegistrationVetoedError(veto, chain=self._me, block=block)

    def _replay_now(self, block: AnyBlock) -> None:
        """Replay to a sync callback."""
        if self._replay is not None:
            self._refuse_awaiting(block)
        for walk, data in self._replay_walks(block):
            drive(walk, data)

    def _refuse_awaiting(self, block: AnyBlock) -> None:
        """Raise `anyio.WouldBlock` where a replay to this block would have to wait."""
        if awaits(block):
            from anyio import WouldBlock

            raise WouldBlock

    # The filter.

    def _changes(self, draft: Table) -> tuple[list[AnyBlock], list[AnyBlock]]:
        """Say who has to be parked and who admitted under the draft's filters."""
        parks = [block for block in draft.members if not draft.admits(block, self._name)]
        admits = [block for block in draft.parked if draft.admits(block, self._name)]
        return parks, admits

    def _with_filters(
        self, layers: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    ) -> tuple[list[AnyBlock], list[AnyBlock]]:
        """Say who would be parked and who admitted, changing nothing."""
        trial = Table(self._table)
        trial.filters = layers(trial.filters)
        return self._changes(trial)

    def _unheard(self, admits: Iterable[AnyBlock], heard: Mapping[int, AnyBlock]) -> list[AnyBlock]:
        """Give who of those to be admitted has not heard the replay yet, if there is one."""
        if self._replay is None:
            return []
        return [block for block in admits if id(block) not in heard]

    def _refilter(
        self,
        layers: Callable[[tuple[Any, ...]], tuple[Any, ...]],
        heard: Mapping[int, AnyBlock] | None = None,
        refused: Iterable[AnyBlock] = (),
    ) -> list[AnyBlock]:
        """Publish other filter layers, and move whom they concern, except those ``refused``.

        Gives whom it parked. Raises `UnheardError`, nothing being changed, when it would admit
        somebody who has not ``heard`` the replay, if that is given.
        """
        gone: list[AnyBlock] = []

        def refilter(draft: Table) -> None:
            draft.filters = layers(draft.filters)
            parks, admits = self._changes(draft)
            if heard is not None and self._unheard(admits, heard):
                raise UnheardError
            gone[:] = parks
            for block in parks:
                draft.discard(block)
                draft.park(block)
            for block in admits:
                if not any(block is one for one in refused):
                    draft.discard(block)
                    block._nb_slot = make_slot(block, self._take_off, draft.wrappers)
                    draft.add(block)

        before = self._table
        after = self._edit(refilter, gone)
        self._tell("parked", gone)
        if after.observers:
            self._tell("registered", [one for one in after.members if before.is_parked(one)])
        return gone

    def _set_filter_now(self, admitted: Callable[[AnyBlock], bool] | None) -> None:
        """Replace the filter, replaying to whom it admits; nobody is waited for."""
        layers = replace_base(self._check_filter(admitted))
        heard: dict[int, AnyBlock] = {}
        while True:
            for block in self._unheard(self._with_filters(layers)[1], heard):
                if self._table.is_parked(block):  # not taken off by what another one heard
                    self._replay_now(block)
                heard[id(block)] = block
            with suppress(UnheardError):  # of another thread, which has registered meanwhile
                self._refilter(layers, heard)
                return

    def only(self, *names: str) -> AbstractContextManager[None]:
        """Let only these blocks be called, for as long as the context is open.

        Adds a layer: admitted is what the filter and every layer admit; layers may be left in any
        order, and ``only()`` mutes the chain. Takes effect at once and waits for nobody, on async
        chains too: a callback that is running goes on. Leaving replays to those it admits, where
        the chain has a replay, but not to async callbacks, for which it would have to wait; one
        that vetoes stays parked, with a warning. Raises `FilterError` for an invalid name,
        `WrongLoopError`. Legal inside a callback.
        """
        return self._layer(Layer(names))

    @contextmanager
    def _layer(self, layer: Layer) -> Generator[None]:
        self._check_caller()
        self._refilter(lambda layers: (*layers, layer))
        try:
            yield
        finally:
            self._leave(layer)

    def _leave(self, layer: Layer) -> None:
        layer.was_left = True

        def without(layers: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(one for one in layers if one is not layer)

        try:
            self._replay_and_leave(without)
        except Exception as error:  # a filter that raises; leaving a layer must not fail
            self._edit(lambda draft: setattr(draft, "filters", without(draft.filters)))
            _log.warn("everybody stays parked: a filter failed", chain=self._name, error=error)

    def _replay_and_leave(self, without: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> None:
        heard: dict[int, AnyBlock] = {}
        refused: list[AnyBlock] = []
        while True:
            for block in self._unheard(self._with_filters(without)[1], heard):
                heard[id(block)] = block
                if not self._replays_well(block):
                    refused.append(block)
            with suppress(UnheardError):
                self._refilter(without, heard, refused)
                return

    def _replays_well(self, block: AnyBlock) -> bool:
        """Replay to a block that is admitted again, unless that would wait; say if it may come."""
        if awaits(block):
            return True
        try:
            self._replay_now(block)
        except Exception as error:  # leaving a layer must not fail
            _log.warn(
                "a block stays parked: its replay failed",
                chain=self._name,
                block=block.name,
                error=error,
            )
            return False
        return True


def replace_base(admitted: object) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Give the change of filter layers that replaces the filter and keeps those of `only`."""
    return lambda layers: (admitted, *layers[1:])
