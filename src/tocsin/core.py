"""`Core`: a chain's table, and the one place where it is published.

Invariants: ``_table`` is replaced and never edited; ``_items`` is what the present table leads to,
or `CLOSED`; a block that has left the table is gone from every snapshot that a walk may hold before
``_edit`` returns.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from ._typing import DataT, EventT, Generic
from .block import NotifierBlock
from .callables import default_name, is_async_callable
from .careful import POLICIES
from .checks import check_title
from .errors import (
    InvalidTypeError,
    InvalidValueError,
    NotRegisteredError,
    WouldDeadlockError,
    WrongLoopError,
)
from .filters import NameFilterBase
from .observer import Observation, check_observer
from .table import Table
from .view import CLOSED, REST, Walked
from .wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import NoReturn

    from .block import AnyBlock
    from .observer import Observer
    from .protocol import AnyChain
    from .view import Snapshot

__all__ = ["Core"]


class Core(Generic[EventT, DataT]):
    """A named table of subscribers. Not for direct use."""

    __slots__ = (
        "__weakref__",
        "_errors",
        "_items",
        "_lock",
        "_name",
        "_replay",
        "_sequence",
        "_table",
        "_walked",
    )

    _items: Snapshot
    """What a walk goes through, or the gate that leads there."""

    _lock: AbstractContextManager[Any]
    """Held while a table is edited; only `AtomicChain` needs a real one."""

    def __init__(
        self,
        name: str,
        *,
        errors: str = "raise",
        filter: Callable[[AnyBlock], bool] | None = None,  # noqa: A002 - the option's name
        replay: Callable[[], Iterable[tuple[EventT, DataT]]] | None = None,
    ) -> None:
        name = check_title(name, "a chain's name")
        if not isinstance(errors, str) or errors not in POLICIES:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidValueError(
                f"chain {name!r}: errors={shown(errors)} does not exist; "
                f"use one of {', '.join(POLICIES)}"
            )
        if replay is not None and (not callable(replay) or is_async_callable(replay)):
            raise InvalidTypeError(
                f"chain {name!r}: replay must be a plain function that gives the pairs"
            )
        self._name = name
        self._errors = errors
        self._replay = replay
        self._lock = nullcontext()
        self._sequence = count()
        self._table, self._items, self._walked = Table(), CLOSED, Walked()
        self._table.filters = (self._check_filter(filter),)
        self._set_up()

    def _set_up(self) -> None:
        """Make what the flavour's protection needs."""

    @property
    def _me(self) -> AnyChain:
        """This chain, as the errors and blocks that name it know it."""
        return cast("AnyChain", self)

    # Looking.

    @property
    def name(self) -> str:
        """The name of the chain, for errors, logs and the bus."""
        return self._name

    @property
    def errors(self) -> str:
        """What becomes of a callback's exception: ``raise``, ``collect`` or ``isolate`` (D9)."""
        return self._errors

    @property
    def blocks(self) -> tuple[AnyBlock, ...]:
        """The active blocks in call order."""
        return tuple(self._table.members)

    @property
    def parked(self) -> tuple[AnyBlock, ...]:
        """The blocks that the filter leaves out: registered, never called."""
        return tuple(self._table.parked)

    @property
    def filter(self) -> Callable[[AnyBlock], bool] | None:
        """The filter in force, or ``None``; the layers of `only` are not part of it."""
        return self._table.filters[0]

    @property
    def unmatched_names(self) -> tuple[str, ...]:
        """The entries of filter and `only` that name no block of the chain: a typo, perhaps."""
        table = self._table
        known = (*table.members, *table.parked)
        layers: tuple[object, ...] = table.filters
        named = [layer for layer in layers if isinstance(layer, NameFilterBase)]
        return tuple(dict.fromkeys(name for layer in named for name in layer.unmatched(known)))

    @property
    def is_empty(self) -> bool:
        """Whether no block is active."""
        return not self._table.members

    def __len__(self) -> int:
        return len(self._table.members)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, block: object, /) -> bool:
        return isinstance(block, NotifierBlock) and self._table.is_active(block)  # pyright: ignore[reportUnknownArgumentType]

    def __iter__(self) -> Iterator[AnyBlock]:
        return iter(self.blocks)

    def __repr__(self) -> str:
        parked = f", {len(self.parked)} parked" if self.parked else ""
        return f"<{type(self).__name__} {self._name!r} {len(self)} blocks{parked}>"

    def _check_caller(self) -> None:
        """Raise `WrongLoopError` where the chain belongs to another thread or event loop."""

    def _would_deadlock(self, what: str, instead: str) -> NoReturn:
        raise WouldDeadlockError(
            f"{what} chain {self._name!r} would wait for the walk that this code runs in; {instead}"
        )

    # Editing: every change of the table goes through here.

    def _edit(self, change: Callable[[Table], None], gone: Iterable[AnyBlock] = ()) -> Table:
        """Publish a changed table, all or nothing, and blank the blocks that are ``gone`` (D3).

        A signal handler that registers in the middle of this replaces the table under our feet:
        then we begin again with its table. Between the comparison and the assignment there is no
        call, so no handler and no other thread can come in.
        """
        with self._lock:
            while True:
                old = self._table
                new = Table(old)
                if new.observers:
                    new.observers = tuple(one for one in new.observers if one.is_attached)
                change(new)
                if self._table is old:
                    # No call between these either: whoever interrupts us for good, such as a
                    # KeyboardInterrupt, must not leave the old list behind for the walks to come.
                    self._table, self._items = new, CLOSED
                    break
            self._closed()
            del old  # a snapshot that no walk holds is gone with it
            for block in gone:
                self._walked.blank(block)
        return new

    # Reading: what a walk goes through is made by the first that needs it.

    def _open(self, event: object) -> Snapshot:
        """Give the snapshot for an event, made by the first call that needs it.

        A writer in another thread must know of it before we hand it out, or could not blank it.
        If one has been here before it knew, we blank ourselves who has left, and keep what we made
        to ourselves; beginning again instead might never end.
        """
        table, shown = self._table, self._items
        is_new = shown.table is not table
        if is_new:
            shown = table.view()
            self._walked.add(shown)
        key, items = REST, shown
        if shown.is_gate:
            key = shown.key_of(event)
            items = shown.behind(key)
        if items is CLOSED:
            items = table.snapshot(key)
            self._walked.add(items)
        elif not is_new:
            return items
        present = self._table
        if present is table:
            if items is not shown:
                shown.open(key, items)
            self._offer(table, shown)
        else:
            items.blank_all_but(present.members)
        return items

    def _offer(self, table: Table, items: Snapshot) -> None:
        """Let later walks see what a call has made."""
        self._show(table, items)

    def _show(self, table: Table, items: Snapshot) -> None:
        """Let walks see what a table leads to, if it is the present one."""
        if self._table is table:  # no call between this and the assignment, see _edit
            self._items = items

    def _closed(self) -> None:
        """Take note that nothing is shown until the next call."""

    # Observers.

    def observe(self, observer: Observer) -> Observation:
        """Have an observer told what this chain does, until the handle given back is detached.

        Walks that have begun are not told of. Attached twice, it is told twice. Raises
        `InvalidTypeError`, `WrongLoopError`. Sync; never waits; legal inside a callback.
        """
        check_observer(observer)
        self._check_caller()
        observation = Observation(observer, self._forget_observers)

        def attach(draft: Table) -> None:
            draft.observers = (*draft.observers, observation)

        self._edit(attach)
        return observation

    def _forget_observers(self) -> None:
        """Let go of observers that are detached: at the next change, if this is another thread."""
        with suppress(WrongLoopError):
            self._check_caller()
            self._edit(lambda _draft: None)

    def _tell_waiting(self) -> None:
        """Tell the observers that a writer has to wait."""
        for observation in self._table.observers:
            observation.tell("writer_waiting", self._me)

    def _tell(self, what: str, blocks: Iterable[AnyBlock]) -> None:
        """Tell the observers what has happened to blocks."""
        for observation in self._table.observers:
            for block in blocks:
                observation.tell(what, self._me, block)

    def _check_filter(
        self, admitted: Callable[[AnyBlock], bool] | None
    ) -> Callable[[AnyBlock], bool] | None:
        if admitted is not None and not callable(admitted):
            raise InvalidTypeError(
                f"chain {self._name!r}: a filter must be a NameFilter or another callable, not "
                f"{type(admitted).__name__}; did you mean NameFilter.parse(...)?"
            )
        if admitted is not None and is_async_callable(admitted):
            raise InvalidTypeError(
                f"chain {self._name!r}: a filter is asked while the table is written, so it cannot "
                f"be async"
            )
        return admitted

    # Unregistering.

    def _require(self, block: AnyBlock) -> None:
        """Raise `NotRegisteredError` unless the block is on this chain."""
        if not isinstance(block, NotifierBlock):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise NotRegisteredError(
                f"{default_name(block)} is no block, so it cannot be unregistered from chain "
                f"{self._name!r}; keep the block that register gave you",
                chain=self._me,
                block=block,
            )
        if not self._table.has(block):
            raise self._not_registered(block)

    def _not_registered(self, block: AnyBlock) -> NotRegisteredError:
        chain = block.chain
        elsewhere = "" if chain is None or chain is self._me else f"; it is on {chain.name!r}"
        return NotRegisteredError(
            f"block {block.name!r} is not on chain {self._name!r}{elsewhere}",
            chain=self._me,
            block=block,
        )

    def _remove(self, block: AnyBlock) -> None:
        """Take a block off: never entered again when this returns, without waiting (D3)."""
        if not isinstance(block, NotifierBlock):  # pyright: ignore[reportUnnecessaryIsInstance]
            self._require(block)

        def discard(draft: Table) -> None:
            if not draft.discard(block):
                raise self._not_registered(block)

        table = self._edit(discard, gone=(block,))
        self._let_go(block)
        if table.observers:
            self._tell("unregistered", (block,))

    def _let_go(self, block: AnyBlock) -> None:
        """Take note, in a block and with its owner, that it has left the table."""
        block._nb_chain = block._nb_slot = None
        block._nb_left()
        if block._nb_owner is not None:
            block._nb_owner.left(block, self._me)

    if TYPE_CHECKING:  # said by each flavour

        def _may_be_running(self, block: AnyBlock) -> bool: ...
        async def _wait_for(self, block: AnyBlock) -> None: ...

    async def _unregister_and_wait(self, block: AnyBlock) -> None:
        """Take a block off and know that it is not running, as a scope wants it."""
        self._remove(block)
        await self._wait_for(block)

    def _take_off(self, block: AnyBlock) -> None:
        """Take a block off that may be gone already."""
        try:
            self._remove(block)
        except NotRegisteredError:
            return
