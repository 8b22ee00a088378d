"""What stands in a block's slot: its callback, or a wrapper where an option asks for one.

A plain block's slot is its callback itself, so an option costs only those who use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .ancestry import HOP
from .table import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._typing import Slot
    from .block import AnyBlock

__all__ = ["bare_slot", "make_slot"]


def make_slot(block: AnyBlock, take_off: Callable[[AnyBlock], object]) -> Slot:
    """Make the slot for one registration of a block."""
    slot = bare_slot(block)
    return _once(slot, block, take_off) if block.once else slot


def bare_slot(block: AnyBlock) -> Slot:
    """Make a slot that leaves ``once`` aside, as a replay does."""
    slot: Slot = block.callback
    if block.thread:
        return _threaded(slot)
    if block.timeout is not None:
        return _timed(slot, block.timeout)
    return slot


def _once(slot: Slot, block: AnyBlock, take_off: Callable[[AnyBlock], object]) -> Slot:
    """Let the first call through. The list's ``pop`` is what two racing calls contend for."""
    tickets = [None]

    def once(event: Any, data: Any) -> Any:
        try:
            tickets.pop()
        except IndexError:
            raise Skipped from None
        take_off(block)
        return slot(event, data)

    return once


def _timed(slot: Slot, seconds: float) -> Slot:
    async def timed(event: Any, data: Any) -> Any:
        from anyio import fail_after

        with fail_after(seconds):
            return await slot(event, data)

    return timed


def _threaded(slot: Slot) -> Slot:
    async def threaded(event: Any, data: Any) -> Any:
        from anyio import get_current_task, to_thread

        hop = HOP.set(get_current_task())
        try:
            return await to_thread.run_sync(slot, event, data)
        finally:
            HOP.reset(hop)

    return threaded
