"""Doing something to a chain from a test, where the chain's event loop runs in another thread.

An async chain is not made for two threads at once. So what a test does to it from without is done
by its own event loop, where that runs elsewhere, and the test waits for it; everywhere else at
once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tocsin import _log
from tocsin.async_base import AsyncChain
from tocsin.loops import soon

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from tocsin.base import Chain
    from tocsin.block import AnyBlock

__all__ = ["PATIENCE", "in_its_thread", "take_off"]

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that a test waits for an event loop in another thread, which a callback may block."""


def in_its_thread(chain: Chain[Any, Any], do: Callable[[], T], *, is_undo: bool = False) -> T:
    """Do something where nothing else can happen to the chain at the same time; give its result.

    Raises what ``do`` raises, and `TimeoutError` where the event loop does not come to it in time:
    then, or when the waiting is interrupted, it is not done any more, unless it ``is_undo``, which
    the loop does when it goes on, since nobody will ask for it again; what that raises is logged.
    """
    loop = chain._binding.elsewhere if isinstance(chain, AsyncChain) else None
    if loop is None:
        return do()
    from concurrent.futures import Future

    made: Future[T] = Future()
    try:
        soon(loop, lambda: _fulfil(made, do))
    except RuntimeError:  # the loop has ended a moment ago
        return do()
    try:
        return made.result(PATIENCE)
    except TimeoutError:
        has_begun = made.running() or made.done() if is_undo else not made.cancel()
        if has_begun:  # at the last moment
            return made.result()
        if is_undo:
            made.add_done_callback(partial(_tell_of_failure, chain.name))
        raise TimeoutError(
            f"chain {chain.name!r}: its event loop, in another thread, did nothing else for "
            f"{PATIENCE} s; a callback blocks it, or it was stopped"
        ) from None
    except BaseException:
        if not is_undo:
            made.cancel()
        raise


def take_off(block: AnyBlock) -> None:
    """Take a block off whatever chain it is on, if it is on one; errors as `in_its_thread`."""
    chain = cast("Chain[Any, Any] | None", block.chain)
    if chain is not None:
        in_its_thread(chain, partial(chain._take_off, block), is_undo=True)


def _tell_of_failure(name: str, made: Future[Any]) -> None:
    """Log what a late undoing raised, which nobody waits for any more."""
    error = made.exception()
    if error is not None:
        _log.warn("a chain was not brought back late", chain=name, error=error)


def _fulfil(made: Future[T], do: Callable[[], T]) -> None:
    """Put the outcome into the future; an event loop must see no exception of it."""
    if made.set_running_or_notify_cancel():
        try:
            made.set_result(do())
        except BaseException as error:
            made.set_exception(error)
