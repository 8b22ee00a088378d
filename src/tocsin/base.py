"""`Chain`: what the four flavours share, none of which depends on how they are protected.

Owns registration: the checks before it, and the claim on a block. Decides in sync functions; what
waits, and for whom, is the flavours' business.

Invariant: a block that this chain has claimed is in the table, or a registration of it is under
way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, overload

from ._typing import DataT, EventT
from .admission import Admission, UnheardError
from .block import NotifierBlock, check_signature, unwrap, where
from .checks import check_bool
from .errors import (
    AlreadyRegisteredError,
    InvalidTypeError,
    InvalidValueError,
    OrderConflictError,
    PriorityInUseError,
)
from .options import PLAIN_SYNC, BlockOptions, check_options
from .scopes import Scope, ambient_scope
from .slots import arm, make_slot

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from ._typing import AnyResultT
    from .block import AnyBlock
    from .table import Table

__all__ = ["Chain"]


class Claim(NamedTuple):
    """A registration under way: whoever made it either joins or abandons the block."""

    block: AnyBlock
    scope: Scope | None
    """Who will own the block."""
    table: Table
    """The table whose filter was asked, and in which there is a place for the block."""
    admitted: bool
    unique_priority: bool


class Chain(Admission[EventT, DataT]):
    """What the four flavours share. Not for direct use."""

    __slots__ = ()

    def _coerce(self, target: Any, options: BlockOptions) -> AnyBlock:
        """Make a block of what was given to `register`, and see that it may come on this chain."""
        try:
            block = _as_block(target, options)
            check_signature(block)
        except (InvalidTypeError, InvalidValueError) as error:
            error.args = (f"chain {self._name!r}: {error}",)
            raise
        if block._nb_rest is not PLAIN_SYNC:
            self._check_allowed(block)
        return block

    def _check_allowed(self, block: AnyBlock) -> None:
        """Refuse a block whose options make no sense on this flavour."""

    def _begin(self, block: AnyBlock, *, unique_priority: bool) -> Claim:
        """Claim a block for this chain, or say why not."""
        if unique_priority is not False:
            check_bool(unique_priority, f"chain {self._name!r}: unique_priority")
        scope, me = ambient_scope(), self._me
        if block._nb_chain is None:
            block._nb_chain = me  # no call since the test: of two threads, one claims it
        else:
            self._refuse_claimed(block, unique_priority=unique_priority)
        try:
            table = self._table
            claim = Claim(block, scope, table, table.admits(block, self._name), unique_priority)
            self._check_place(table, block, alone=claim.admitted and unique_priority)
        except BaseException:
            block._nb_chain = None
            raise
        return claim

    def _refuse_claimed(self, block: AnyBlock, *, unique_priority: bool) -> None:
        peer = self._table.first_of_priority(block.priority)
        active = self._table.is_active(block)
        if unique_priority and active and peer is not None and peer is not block:
            raise self._priority_in_use(block, peer)
        chain, me = block.chain, self._me
        parked = ", parked there by its filter" if block.is_parked else ""
        raise AlreadyRegisteredError(
            f"block {block.name!r}{where(block)} cannot be registered on chain {self._name!r}: "
            f"it is on {'it' if chain is me else repr(chain and chain.name)} already{parked}; "
            f"unregister it first, or make another block of its callback",
            chain=me,
            block=block,
        )

    def _priority_in_use(self, block: AnyBlock, peer: AnyBlock) -> PriorityInUseError:
        return PriorityInUseError(
            f"block {block.name!r} cannot be registered on chain {self._name!r}: "
            f"block {peer.name!r} has priority {peer.priority} already; take another priority",
            chain=self._me,
            block=block,
        )

    def _check_place(self, table: Table, block: AnyBlock, *, alone: bool) -> None:
        """Raise when there is no place for the block in the order (D1).

        Others that are parked count too, so that whom a filter admits later always has a place. A
        priority that it wants ``alone`` must not be that of another active block.
        """
        conflict = table.conflict_of(block)
        if conflict is not None:
            raise OrderConflictError(
                f"block {block.name!r} cannot be registered on chain {self._name!r}: "
                f"{conflict.reason}",
                chain=self._me,
                block=block,
                blocks=conflict.blocks,
            )
        peer = table.first_of_priority(block.priority) if alone else None
        if peer is not None:
            raise self._priority_in_use(block, peer)

    def _join(self, claim: Claim) -> None:
        """Put a claimed block on the chain."""
        block, scope, seen, admitted, unique_priority = claim
        arm(block)

        def add(draft: Table) -> None:
            nonlocal admitted
            # Filter and place have been looked at, but something may have changed since.
            if draft.filters is not seen.filters:
                admitted = draft.admits(block, self._name)
                if admitted and self._replay is not None and not claim.admitted:
                    raise UnheardError
            if not draft.is_like(seen):
                self._check_place(draft, block, alone=admitted and unique_priority)
            block._nb_sequence = next(self._sequence)
            if admitted:
                block._nb_slot = make_slot(block, self._take_off, draft.wrappers)
                draft.add(block)
            else:
                draft.park(block)

        if self._edit(add).observers:
            self._tell("registered" if admitted else "parked", (block,))
        if scope is not None:
            try:
                scope.adopt(block)
            except BaseException:
                self._take_off(block)
                raise

    def _abandon(self, block: AnyBlock) -> None:
        block._nb_chain = block._nb_slot = None

    def _register_now(
        self, target: Any, options: BlockOptions, *, unique_priority: bool
    ) -> AnyBlock:
        """Register without waiting for anything."""
        block = self._coerce(target, options)
        claim = self._begin(block, unique_priority=unique_priority)
        try:
            if claim.admitted:
                self._replay_now(block)
            try:
                self._join(claim)
            except UnheardError:  # another thread has replaced the filter, which had said no
                self._replay_now(block)
                self._join(claim._replace(admitted=True))
        except BaseException:
            self._abandon(block)
            raise
        return block

    @overload
    def subscriber(
        self, callback: Callable[[EventT, DataT], AnyResultT], /
    ) -> NotifierBlock[EventT, DataT, AnyResultT]: ...
    @overload
    def subscriber(
        self, /, *, unique_priority: bool = False, **options: Unpack[BlockOptions]
    ) -> Callable[
        [Callable[[EventT, DataT], AnyResultT]], NotifierBlock[EventT, DataT, AnyResultT]
    ]: ...
    def subscriber(
        self, callback: Any = None, /, *, unique_priority: bool = False, **options: Any
    ) -> Any:
        """Register the decorated function, as `register_nowait` does, and put its block in place.

        With or without parentheses. Applied to a block it wraps that block's callback in a new one,
        so decorators stack. Errors and context as `register_nowait`; meant for import time.
        """

        def decorate(function: Any) -> AnyBlock:
            return self._me.register_nowait(
                unwrap(function), unique_priority=unique_priority, **options
            )

        return decorate if callback is None else decorate(callback)


def _as_block(target: Any, options: BlockOptions) -> AnyBlock:
    """Give the block that ``target`` is, or make one of it."""
    if not isinstance(target, NotifierBlock):
        check_options(target, options)
        return NotifierBlock(target, **options)
    block: AnyBlock = target  # pyright: ignore[reportUnknownVariableType]
    if options:
        raise InvalidTypeError(
            f"block {block.name!r} has its own options; "
            f"give {', '.join(options)} to NotifierBlock instead"
        )
    if not hasattr(block, "_nb_rest"):
        raise InvalidTypeError(f"{type(block).__name__}.__init__() must call super().__init__()")
    return block
