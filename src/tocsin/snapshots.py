"""What a bus looks like at one moment: frozen records all the way down, made on request.

Owns the picture, and knows nothing of how it is drawn. No object of the program is in it, so it can
be kept, compared and sent: events and filters are there in words, owners by name.

Invariant: the blocks and the filter of a chain are of one and the same moment, whatever other
threads register meanwhile.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .callables import default_name
from .filters import NameFilterBase
from .report import ChainStatistics, describe_event

if TYPE_CHECKING:
    from .block import AnyBlock
    from .core import Core
    from .scopes import Scope

__all__ = ["BlockSnapshot", "BusSnapshot", "ChainSnapshot", "snapshot_of"]


class BlockSnapshot(NamedTuple):
    """One subscriber."""

    name: str
    qualified_name: str
    """``module:name``."""
    priority: int
    owner: str | None
    """The name of the scope that owns it: of a plugin, that of its module."""
    events: tuple[str, ...] | None
    """The events that it hears, in words and sorted, or ``None`` for all."""
    once: bool
    before: tuple[str, ...]
    """The names before which it asks to come, among blocks of its priority."""
    after: tuple[str, ...]
    timeout: float | None
    """Seconds, or ``None`` for no bound."""
    thread: bool
    is_async: bool
    is_parked: bool
    """Whether the filter leaves it out, so that it is not called."""


class ChainSnapshot(NamedTuple):
    """One chain and who is on it."""

    name: str
    flavour: str
    """The name of its class."""
    errors: str
    """What becomes of a callback's exception: ``raise``, ``collect`` or ``isolate``."""
    filter: str | None
    """The filter in force: a `NameFilter` with its names, of another callable the name."""
    only: tuple[str, ...]
    """The layers that `only` has put on top of it."""
    unmatched_names: tuple[str, ...]
    """The entries of filter and `only` that name nobody: typos, perhaps."""
    owner: str | None
    """The name of the scope under which it came on the bus: of a plugin, that of its module."""
    statistics: ChainStatistics
    blocks: tuple[BlockSnapshot, ...]
    """The active ones in call order, then the parked ones, which have no place in it."""


class BusSnapshot(NamedTuple):
    """One bus and its chains."""

    name: str
    chains: tuple[ChainSnapshot, ...]
    """In the order in which they were added."""
    unmatched_filters: tuple[str, ...]
    """The names that have a filter and no chain: chains to come, or typos."""

    def to_dict(self) -> dict[str, object]:
        """Give the same as dicts, lists, text, numbers, bools and ``None``, as JSON has them."""
        return cast("dict[str, object]", _plain(self))


def _plain(value: Any) -> object:
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in cast("tuple[object, ...]", value)]
    return value


def snapshot_of(chain: Core[Any, Any], owner: Scope | None) -> ChainSnapshot:
    """Take the picture of one chain, which came under ``owner``."""
    table = chain._table  # read once: another thread may replace it
    admitted, *layers = map(_in_words, table.filters)
    active = tuple(_block(block, is_parked=False) for block in table.members)
    parked = tuple(_block(block, is_parked=True) for block in table.parked)
    return ChainSnapshot(
        name=chain.name,
        flavour=type(chain).__name__,
        errors=chain.errors,
        filter=admitted,
        only=tuple(str(layer) for layer in layers),
        unmatched_names=chain.unmatched_names,
        owner=owner.name if owner else None,
        statistics=chain._me.statistics()._replace(blocks=len(active), parked=len(parked)),
        blocks=active + parked,
    )


def _in_words(layer: object) -> str | None:
    if isinstance(layer, NameFilterBase):
        return repr(layer)
    return None if layer is None else default_name(layer)


def _block(block: AnyBlock, *, is_parked: bool) -> BlockSnapshot:
    owner, events, timeout = block.owner, block.events, block.timeout
    return BlockSnapshot(
        name=block.name,
        qualified_name=block.qualified_name,
        priority=block.priority,
        owner=owner.name if owner else None,
        events=None if events is None else tuple(sorted(map(describe_event, events))),
        once=block.once,
        before=block.before,
        after=block.after,
        timeout=None if timeout == math.inf else timeout,  # JSON has no infinity
        thread=block.thread,
        is_async=block.is_async,
        is_parked=is_parked,
    )
