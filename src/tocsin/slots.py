"""What stands in a block's slot: its callback, or a wrapper where an option asks for one.

A plain block's slot is its callback itself, so an option costs only those who use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .ancestry import HOP, Hop
from .callables import is_async_callable
from .options import PLAIN_SYNC
from .view import Leavable, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._typing import Slot, Wrapper
    from .block import AnyBlock

__all__ = ["arm", "bare_slot", "make_slot"]


def make_slot(
    block: AnyBlock,
    take_off: Callable[[AnyBlock], object],
    wrappers: tuple[Wrapper, ...] = (),
) -> Slot | None:
    """Make the slot for one registration of a block; ``None`` is its own `notifier_call`.

    A block that held that method would hold itself.
    """
    if block._nb_rest is PLAIN_SYNC and not wrappers:
        return block._nb_callback
    slot, tickets = bare_slot(block, wrappers), block._nb_rest.tickets
    if tickets is not None:
        return _once(slot, block, tickets, take_off)
    return None if getattr(slot, "__self__", None) is block else slot


def arm(block: AnyBlock) -> None:
    """Give a block with ``once`` its ticket, for one registration and all the slots that it has.

    A filter that parks the block and admits it again makes another slot, not another ticket.
    """
    if block._nb_rest.once:
        block._nb_rest = block._nb_rest._replace(tickets=[None])


def bare_slot(block: AnyBlock, wrappers: tuple[Wrapper, ...]) -> Slot:
    """Make a slot that leaves ``once`` aside, as a replay does.

    The wrappers are next to the callback, inside of what its options ask for: to whatever is
    outside, what they do is done by the callback.
    """
    slot: Slot = block.callback
    if block.is_async and not is_async_callable(slot):
        slot = _declared(slot)
    for wrap in wrappers:
        slot = wrap(block, slot)
    if block.thread:
        return _Threaded(slot)
    if block.timeout is not None:
        slot = _timed(slot, block.timeout)
    return slot


def _once(
    slot: Slot, block: AnyBlock, tickets: list[None], take_off: Callable[[AnyBlock], object]
) -> Slot:
    """Let the first call through. The list's ``pop`` is what two racing calls contend for."""

    def once(event: Any, data: Any) -> Any:
        try:
            tickets.pop()
        except IndexError:
            raise Skipped from None
        take_off(block)
        return slot(event, data)

    return once


def _declared(slot: Slot) -> Slot:
    """Await what a callback with ``is_async=True`` gives, where it gives something to await."""

    async def declared(event: Any, data: Any) -> Any:
        made = slot(event, data)
        return await made if hasattr(made, "__await__") else made

    return declared


def _timed(slot: Slot, seconds: float) -> Slot:
    async def timed(event: Any, data: Any) -> Any:
        from anyio import fail_after

        with fail_after(seconds):
            return await slot(event, data)

    return timed


class _Threaded(Leavable):
    """Runs the callback in a worker thread, unless the block left while it waited for one."""

    __slots__ = ("_slot",)

    def __init__(self, slot: Slot) -> None:
        super().__init__()
        self._slot = slot

    async def __call__(self, event: Any, data: Any) -> Any:
        from anyio import get_current_task, to_thread

        token = HOP.set(Hop(get_current_task(), HOP.get()))
        try:
            return await to_thread.run_sync(self._enter, event, data)
        finally:
            HOP.reset(token)

    def _enter(self, event: Any, data: Any) -> Any:
        if self.is_gone:
            raise Skipped
        return self._slot(event, data)
