"""Which event loop a chain belongs to.

An async chain counts its readers without atomicity, so it belongs to one event loop: the one in
which it is first awaited, until that loop is closed. A chain made at import time therefore works
under one ``anyio.run`` after another.

Knows no chain, only a name for its messages.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from functools import cache
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

from .errors import WrongLoopError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

__all__ = [
    "LoopBinding",
    "is_closed",
    "running_loop",
    "shield",
    "soon",
    "was_abandoned",
    "woken_by_signals",
]


def running_loop() -> object | None:
    """Give what stands for the event loop that runs in this thread, or ``None``.

    Imports anyio only where a loop could be running at all.
    """
    if "asyncio" not in sys.modules and "trio" not in sys.modules:
        return None
    try:
        return cast("object", _token_function()().native_token)
    except RuntimeError:  # anyio's NoEventLoopError
        return None


@cache
def _token_function() -> Callable[[], Any]:
    from anyio.lowlevel import current_token

    return current_token


def shield(*, needed: bool) -> AbstractContextManager[object]:
    """Keep cancellation out, where there can be any: an event loop runs and something waits."""
    if not needed or running_loop() is None:
        return nullcontext()
    from anyio import CancelScope

    return CancelScope(shield=True)


def is_closed(loop: Any) -> bool:
    """Say whether a loop is gone for good: a closed asyncio loop, a trio run that has ended."""
    if hasattr(loop, "is_closed"):
        return cast("AbstractEventLoop", loop).is_closed()
    from trio import RunFinishedError

    try:
        loop.run_sync_soon(bool)
    except RunFinishedError:
        return True
    return False


def was_abandoned(loop: object) -> bool:
    """Say whether a loop was closed while tasks may have been pending, as asyncio allows."""
    closed = getattr(loop, "is_closed", None)
    return closed is not None and bool(closed())


def soon(loop: Any, call: Callable[[], object]) -> None:
    """Have a loop call something, from any thread or signal handler; `RuntimeError` if it is gone.

    ``loop`` is what `running_loop` gives.
    """
    (getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon)(call)


@contextmanager
def woken_by_signals(loop: Any) -> Generator[None]:
    """Have every signal wake a loop, also one that arrives just before the loop waits.

    A handler runs between two steps of the interpreter, so for such a signal only when the loop
    goes on; asyncio's goes on at signals only if it handles one itself. Main thread only.
    """
    if not hasattr(loop, "add_reader"):  # trio's, which every signal wakes
        yield
        return
    from socket import socketpair

    ours, theirs = socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        if not _replace_wakeup(-1, theirs.fileno()):  # somebody has it for reasons of their own
            yield
            return
        loop.add_reader(ours, ours.recv, 4096)
        try:
            yield
        finally:
            _replace_wakeup(theirs.fileno(), -1)  # a module may have taken it meanwhile
            loop.remove_reader(ours)


def _replace_wakeup(old: int, new: int) -> bool:
    """Have signals written to ``new``, if so far they were to ``old``; say whether they were.

    Never with a warning when the buffer is full: whoever it wakes is awake then.
    """
    import signal

    there = signal.set_wakeup_fd(new, warn_on_full_buffer=False)
    if there != old:
        signal.set_wakeup_fd(there, warn_on_full_buffer=False)
    return there == old


class LoopBinding:
    """The loop that a chain is bound to.

    Invariant: ``_loop`` is ``None`` or was running, in thread ``_thread``, when it was bound.
    """

    __slots__ = ("_loop", "_thread")

    def __init__(self) -> None:
        self._loop: object | None = None
        self._thread = 0

    @property
    def is_abandoned(self) -> bool:
        """Whether the loop was closed while tasks were pending, as asyncio allows."""
        return was_abandoned(self._loop)

    @property
    def elsewhere(self) -> object | None:
        """The loop, where it runs in another thread than this, else ``None``."""
        if self._loop is None or self._thread == get_ident():
            return None
        is_running = getattr(self._loop, "is_running", None)  # trio has none: its loops run
        return self._loop if is_running is None or is_running() else None

    def bind(self, loop: object | None, name: str) -> bool:
        """Check that the running loop is the chain's, binding it if the chain has none.

        Gives True when the chain was bound to another loop that has been closed since. Raises
        `WrongLoopError`. Without a running loop nothing is bound.
        """
        if loop is None or loop is self._loop:
            self._check_thread(name)
            return False
        self._check_free(name)
        moved = self._loop is not None
        self._loop, self._thread = loop, get_ident()
        return moved

    def check(self, name: str) -> None:
        """Check that this is not another loop or thread than the chain's; bind nothing."""
        loop = running_loop()
        if loop is None or loop is self._loop:
            self._check_thread(name)
        else:
            self._check_free(name)

    def _check_thread(self, name: str) -> None:
        if self._loop is not None and self._thread != get_ident():
            self._check_free(name)

    def _check_free(self, name: str) -> None:
        if self._loop is not None and not is_closed(self._loop):
            raise WrongLoopError(
                f"chain {name!r} belongs to another event loop, which is still open; use it from "
                f"there (anyio.from_thread.run from a worker thread), or take an AtomicChain"
            )
