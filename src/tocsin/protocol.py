"""`AnyChain`: what the four flavours have in common.

For code that takes any chain: filters, scopes, the bus, the module host. ``register`` and
``unregister`` are not here, being sync on two flavours and async on the others; the ``_nowait`` and
``_nosync`` forms are sync on all four.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Unpack

    from .block import AnyBlock
    from .observer import Observation, Observer
    from .options import BlockOptions
    from .report import ChainStatistics

__all__ = ["AnyChain", "Named"]


class Named(Protocol):
    """What a walk needs to know of its chain: how to call it in a message."""

    @property
    def name(self) -> str:
        """The name of the chain."""
        ...


class AnyChain(Named, Protocol):
    """Any of the four chain flavours."""

    @property
    def blocks(self) -> tuple[AnyBlock, ...]:
        """The active blocks in call order."""
        ...

    @property
    def parked(self) -> tuple[AnyBlock, ...]:
        """The blocks that the filter leaves out."""
        ...

    @property
    def filter(self) -> Callable[[AnyBlock], bool] | None:
        """The filter in force, without the layers of `only`."""
        ...

    @property
    def unmatched_names(self) -> tuple[str, ...]:
        """The filter's entries that name no block of the chain, parked or not."""
        ...

    @property
    def errors(self) -> str:
        """What becomes of a callback's exception: ``raise``, ``collect`` or ``isolate``."""
        ...

    @property
    def is_empty(self) -> bool:
        """Whether no block is active."""
        ...

    def register_nowait(
        self,
        target: Any,
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> AnyBlock:
        """Register at once, or raise `anyio.WouldBlock`."""
        ...

    def subscriber(self, *callback: Any, **options: Any) -> Any:
        """Register the decorated function, with or without parentheses."""
        ...

    def unregister_nowait(self, block: AnyBlock) -> None:
        """Unregister at once with the full guarantee, or raise `anyio.WouldBlock`."""
        ...

    def unregister_nosync(self, block: AnyBlock) -> None:
        """Unregister without waiting for a callback that is running."""
        ...

    def only(self, *names: str) -> AbstractContextManager[None]:
        """Let only these blocks be called, for as long as the context is open."""
        ...

    def observe(self, observer: Observer) -> Observation:
        """Have an observer told what the chain does, until its handle is detached."""
        ...

    def statistics(self) -> ChainStatistics:
        """Give the state of the chain at this moment."""
        ...

    def __len__(self) -> int:
        """Give the number of active blocks."""
        ...

    def __contains__(self, block: object, /) -> bool:
        """Say whether the block is active on the chain."""
        ...

    def __iter__(self) -> Iterator[AnyBlock]:
        """Give the active blocks in call order."""
        ...
