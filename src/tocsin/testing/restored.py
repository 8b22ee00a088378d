"""`registrations_restored`: whatever a test does to a chain or a bus, afterwards it is as before.

Owns the record of who was on a chain, in which place and under which owner, and the one edit that
brings this back. It asks for no lock and waits for no callback, as `only` does not: a walk under
way goes on over its own list, in which those that have to go are blanked (D3).

Invariants: what is not on a chain afterwards is as if it was unregistered, its owner told and its
stream ended; a block that is claimed elsewhere is never touched.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tocsin import _log
from tocsin.admission import Layer
from tocsin.base import Chain
from tocsin.bus import Bus
from tocsin.errors import AlreadyRegisteredError, InvalidTypeError, ScopeClosedError
from tocsin.slots import arm, make_slot

from .threads import in_its_thread, take_off

if TYPE_CHECKING:
    from collections.abc import Generator

    from tocsin.block import AnyBlock
    from tocsin.protocol import AnyChain
    from tocsin.scopes import Scope
    from tocsin.table import Table

__all__ = ["registrations_restored"]


@contextmanager
def registrations_restored(target: AnyChain | Bus) -> Generator[None]:
    """Let a chain, or all chains of a bus, be afterwards as they are now, whatever happens inside.

    When it is left, the blocks that were registered inside are never entered again (D3), those that
    were taken off are back at their old places, and the filters, the layers of `only` and who is
    parked are as they were. Of a bus, also which chains are on it, and the filters for chains to
    come.

    A block that comes back hears no replay, has its former owner, if that scope is still open, may
    run again if it has ``once``, and leaves the chain that it has moved to. The stream of somebody
    who has left it does not come back, nor does a layer of `only` that was left inside: whom no
    other layer leaves out is active. Observers stay as they are, and are told.

    Entering and leaving are sync, take effect at once, wait for no callback, and are legal in a
    callback and in any thread: of an async chain whose event loop runs in another thread it is that
    loop which does it, and a `TimeoutError` is raised when that is blocked for ten seconds; if that
    is so when it is left, the loop restores the chain as soon as it goes on, and what fails then is
    logged; a block that has moved to a chain whose loop is blocked leaves that one late, and does
    not come back. Threads and tasks that register should have ended when it is left: a `register`
    that waits for the lock of a `BlockingChain` takes effect afterwards, and stays. Raises
    `InvalidTypeError` for what is no chain and no bus; `AlreadyRegisteredError` in the end, all
    else being as before, for a block which is being registered at that moment.
    """
    with ExitStack() as stack:
        if isinstance(target, Bus):
            stack.callback(_BusState(target).restore)
        for chain in target if isinstance(target, Bus) else (target,):
            if not isinstance(chain, Chain):
                raise InvalidTypeError(
                    f"registrations_restored() takes a chain or a bus, not {type(chain).__name__}"
                )
            stack.callback(_ChainState(chain).restore)
        yield


class _Place(NamedTuple):
    """A registration: who, since when, and under which owner."""

    block: AnyBlock
    sequence: int
    owner: Scope | None
    is_active: bool


class _ChainState:
    """Who was on a chain at one moment, and under which filters."""

    def __init__(self, chain: Chain[Any, Any]) -> None:
        self._chain = chain
        self._filters, self._places = in_its_thread(chain, self._look)

    def _look(self) -> tuple[tuple[Any, ...], list[_Place]]:
        table = self._chain._table
        row = [*((one, True) for one in table.members), *((one, False) for one in table.parked)]
        return table.filters, [
            _Place(block, block._nb_sequence, block._nb_owner, is_active)
            for block, is_active in row
        ]

    def restore(self) -> None:
        """Bring it all back."""
        with ExitStack() as stack:  # another chain's loop may be blocked
            stack.callback(in_its_thread, self._chain, self._put_back, is_undo=True)
            for place in self._places:
                if place.block.chain is not self._chain._me:
                    stack.callback(take_off, place.block)

    def _put_back(self) -> None:
        chain, before = self._chain, self._chain._table
        was_active, was_parked = {*map(id, before.members)}, {*map(id, before.parked)}
        kept = [place for place in self._places if self._claim(place.block)]
        gone: list[AnyBlock] = []
        left: list[AnyBlock] = []
        after = chain._edit(partial(self._rebuild, kept, gone, left), gone)
        for block in left:
            chain._let_go(block)
        for place in kept:
            _give_to(place.owner, place.block)
        chain._tell("unregistered", left)
        chain._tell("registered", [one for one in after.members if id(one) not in was_active])
        chain._tell("parked", [one for one in after.parked if id(one) not in was_parked])
        self._refuse_claimed(kept)

    def _claim(self, block: AnyBlock) -> bool:
        """Claim a block that is off the chain; say whether it will be on it."""
        if self._chain._table.has(block):
            return True
        if block._nb_chain is not None or not block._nb_can_return:
            return False
        block._nb_chain = self._chain._me
        return True

    def _rebuild(
        self, kept: list[_Place], gone: list[AnyBlock], left: list[AnyBlock], draft: Table
    ) -> None:
        """Make a draft what the table was; say who is ``gone`` from walks, and who has ``left``."""
        active, parked = draft.members, draft.parked
        was_active = {*map(id, active)}
        was_here = was_active | {*map(id, parked)}
        draft.filters = _open_layers(self._filters)
        places = [self._place_now(place, draft) for place in kept]
        stays = {id(place.block): place.is_active for place in places}
        gone[:] = [block for block in active if not stays.get(id(block))]
        left[:] = [block for block in (*active, *parked) if id(block) not in stays]
        draft.members, draft.parked, draft.asking = [], [], []
        draft.awaiting = draft.routed = 0
        for block, sequence, _, is_active in places:
            if id(block) not in was_here:
                arm(block)
            if is_active and id(block) not in was_active:
                block._nb_slot = make_slot(block, self._chain._take_off, draft.wrappers)
            block._nb_sequence = sequence
            (draft.add if is_active else draft.park)(block)

    def _place_now(self, place: _Place, draft: Table) -> _Place:
        """Give a block's place, which is active where it was parked for a layer left meanwhile."""
        if place.is_active or len(draft.filters) == len(self._filters):
            return place
        try:
            return place._replace(is_active=draft.admits(place.block, self._chain.name))
        except Exception as error:  # a filter that raises; as where a layer is left
            _log.warn(
                "a block stays parked: a filter failed",
                chain=self._chain.name,
                block=place.block.name,
                error=error,
            )
            return place

    def _refuse_claimed(self, kept: list[_Place]) -> None:
        missing = [place.block for place in self._places if place not in kept]
        for block in missing:
            if block._nb_can_return and not _is_on_a_chain(block):
                raise AlreadyRegisteredError(
                    f"block {block.name!r} is not back on chain {self._chain.name!r}: it is being "
                    f"registered at this moment; leave registrations_restored() afterwards",
                    chain=self._chain._me,
                    block=block,
                )


def _is_on_a_chain(block: AnyBlock) -> bool:
    """Say whether a block is still on another chain, whose loop was blocked."""
    chain = cast("Chain[Any, Any] | None", block.chain)
    return chain is not None and chain._table.has(block)


def _open_layers(filters: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give filters without the layers of `only` that were left, which nobody would leave again."""
    return tuple(one for one in filters if not (isinstance(one, Layer) and one.was_left))


def _give_to(owner: Scope | None, block: AnyBlock) -> None:
    """Have a block owned by who owned it, unless that scope has been closed."""
    if block._nb_owner is not owner:
        if block._nb_owner is not None:
            block._nb_owner.forget(block)
        if owner is not None:
            with suppress(ScopeClosedError):
                owner.adopt(block)


class _BusState:
    """Which chains were on a bus at one moment, and the filters by name."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._chains, self._owners = {**bus._chains}, {**bus._owners}
        self._filters = {**bus._filters}

    def restore(self) -> None:
        """Bring it all back."""
        bus, before = self._bus, self._bus._chains
        gone = [(name, one) for name, one in before.items() if self._chains.get(name) is not one]
        back = [one for name, one in self._chains.items() if before.get(name) is not one]
        bus._chains, bus._owners, bus._filters = self._chains, self._owners, self._filters
        with ExitStack() as stack:  # one whose loop is blocked must not keep the others from it
            for chain in back:
                watch = partial(bus._watch, chain)
                stack.callback(in_its_thread, chain, watch, is_undo=True)
            for name, chain in gone:
                for _, watched in bus._watched:
                    detach = watched.pop(name).detach
                    stack.callback(in_its_thread, chain, detach, is_undo=True)
