"""What keeps the events of a stream until they are read, and what it does when it is full.

Two buffers with one face: `LoopBuffer` for producers of the reader's own event loop, on anyio's
memory object stream, and `ThreadBuffer` for producers in any thread or signal handler. Neither
knows a chain or a block.

Invariants: a buffer never holds more than ``size`` events; what was received has been read, waits
in the buffer, or was dropped.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import suppress
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _log
from .errors import InvalidTypeError, InvalidValueError, StreamOverflowError
from .loops import is_closed, running_loop, soon, was_abandoned
from .wording import as_int, shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from anyio import Event
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    Pair: TypeAlias = tuple[Any, Any]

__all__ = [
    "OVERFLOWS",
    "Buffer",
    "LoopBuffer",
    "StreamStatistics",
    "ThreadBuffer",
    "check_size",
]

OVERFLOWS = ("wait", "drop_oldest", "drop_newest", "raise")


class StreamStatistics(NamedTuple):
    """The state of a stream at one moment."""

    buffered: int
    """Events that wait to be read."""
    max_buffer_size: int
    received: int
    """Events that have come, those that were dropped included."""
    dropped: int
    producers_waiting: int
    """Calls that wait for room."""


def check_size(size: object, what: str) -> int:
    """Give the size of a buffer as a plain int, or raise."""
    number = as_int(size)
    if number is None or isinstance(size, bool):
        raise InvalidTypeError(f"{what} needs an int as max_buffer_size, not {type(size).__name__}")
    if number < 1:
        raise InvalidValueError(f"{what} needs a max_buffer_size of 1 or more, not {shown(number)}")
    if number > sys.maxsize:
        raise InvalidValueError(
            f"{what} needs a max_buffer_size of at most {sys.maxsize}, not {shown(number)}"
        )
    return number


class Buffer:
    """What the two buffers share. Not for direct use."""

    default = "drop_oldest"
    """What it does when it is full, unless it is told otherwise."""

    def __init__(
        self, chain: str, name: str, size: int, overflow: str, *, quiet: bool = False
    ) -> None:
        self._chain = chain
        self._name = name
        self._quiet = quiet
        self._loop: object = None
        self._dropped = 0
        self._is_dropping = False
        self.size: int = size
        self.overflow: str = overflow
        self.is_closed: bool = False
        """Whether the reader has left."""
        self.is_abandoned: bool = False
        """Whether the reader is gone with its event loop, so that nobody will ever leave."""

    if TYPE_CHECKING:  # said by each of them

        def push(self, pair: Pair) -> bool: ...  # noqa: D102
        async def wait_and_push(  # noqa: D102
            self, pair: Pair, check: Callable[[], Awaitable[None]]
        ) -> None: ...
        async def get(self) -> Pair: ...  # noqa: D102
        def end(self) -> None: ...  # noqa: D102
        def close(self) -> None: ...  # noqa: D102
        def statistics(self) -> StreamStatistics: ...  # noqa: D102
        def _drop(self) -> None: ...  # the oldest event that waits to be read

    def open(self) -> None:
        """Begin to take events, in the reader's event loop."""
        self._loop = running_loop()

    def put(self, pair: Pair) -> None:
        """Take an event, or do what is to be done when there is no room. Never waits."""
        if self._admit(pair) and not self._quiet:
            _log.warn("a stream drops events", chain=self._chain, stream=self._name)

    def _admit(self, pair: Pair) -> bool:
        """Take an event or drop one; say whether that was the first since the buffer was empty."""
        begins = False
        while not self.push(pair):
            if self.overflow == "raise":
                raise StreamOverflowError(
                    f"the stream {self._name!r} of chain {self._chain!r} is full, {self.size} "
                    f"events wait to be read; read them faster, or give it another overflow"
                )
            self._dropped += 1
            begins, self._is_dropping = begins or not self._is_dropping, True
            if self.overflow == "drop_newest":
                break
            self._drop()  # and push again: a signal handler may have taken the room
        return begins

    def _abandon(self) -> bool:
        self.is_closed = self.is_abandoned = True
        return True


class LoopBuffer(Buffer):
    """For producers that run in the reader's event loop, and can wait there."""

    default = "wait"

    _sender: MemoryObjectSendStream[Pair]
    _receiver: MemoryObjectReceiveStream[Pair]
    _pushed = 0
    _waiting = 0
    _has_ended = False

    def open(self) -> None:
        """Begin to take events, in the reader's event loop."""
        from anyio import create_memory_object_stream

        super().open()
        self._sender, self._receiver = create_memory_object_stream[Any](self.size)

    def push(self, pair: Pair) -> bool:
        """Take an event if there is room, or nobody to read it; say if it need not wait."""
        from anyio import WouldBlock

        if was_abandoned(self._loop):
            return self._abandon()
        if self._has_ended:  # its own where= has just taken the block off
            return True
        try:
            self._sender.send_nowait(pair)
        except WouldBlock:
            return False
        self._pushed += 1
        return True

    async def wait_and_push(self, pair: Pair, check: Callable[[], Awaitable[None]]) -> None:
        """Take an event as soon as there is room, after those of others who wait.

        ``check`` raises if it must not be waited for.
        """
        from anyio import BrokenResourceError, ClosedResourceError

        self._waiting += 1
        try:
            await check()
            with suppress(BrokenResourceError, ClosedResourceError):
                await self._sender.send(pair)
                self._pushed += 1
        finally:
            self._waiting -= 1
            if self._has_ended:
                self.end()

    async def get(self) -> Pair:
        """Give the next event, or raise `anyio.EndOfStream`. A checkpoint."""
        pair = await self._receiver.receive()
        if not self._sender.statistics().current_buffer_used:
            self._is_dropping = False
        return pair

    def end(self) -> None:
        """Let no event come any more; what is there, or waits for room, can still be read."""
        self._has_ended = True
        if self.is_closed or not self._waiting:  # the last of those who wait comes here again
            with suppress(RuntimeError):  # whose loop is gone cannot be woken
                self._sender.close()

    def close(self) -> None:
        """Let the reader leave, and the producers go that wait for room."""
        self.is_closed = True
        self._receiver.close()

    def _drop(self) -> None:
        self._receiver.receive_nowait()

    def _abandon(self) -> bool:
        with suppress(RuntimeError):  # those who wait cannot be woken any more
            self._receiver.close()
        return super()._abandon()

    def statistics(self) -> StreamStatistics:
        """Give the state at this moment."""
        if not hasattr(self, "_sender"):
            return StreamStatistics(0, self.size, 0, 0, 0)
        state = self._sender.statistics()
        received = self._pushed + (self._dropped if self.overflow == "drop_newest" else 0)
        return StreamStatistics(
            state.current_buffer_used, self.size, received, self._dropped, state.tasks_waiting_send
        )


class ThreadBuffer(Buffer):
    """For producers in any thread, or in a signal handler; they never wait.

    The lock can be entered again by a signal handler, so every step leaves a state that one can
    come upon.
    """

    def __init__(
        self, chain: str, name: str, size: int, overflow: str, *, quiet: bool = False
    ) -> None:
        super().__init__(chain, name, size, overflow, quiet=quiet)
        if overflow == "wait":
            raise InvalidValueError(
                f"chain {chain!r}: overflow='wait' would block its calls; drop_oldest, drop_newest "
                f"or raise it must be, or take a SrcuChain or BlockingChain"
            )
        self._pairs: deque[Pair] = deque()
        self._lock = RLock()
        self._taken = 0
        self._has_ended = False
        self._readers: list[Event] = []

    def push(self, pair: Pair) -> bool:
        """Take an event if there is room, or nobody to read it; say if there is nothing to do."""
        with self._lock:
            if self.is_closed or self._has_ended:
                return True
            if len(self._pairs) >= self.size:  # which is when nobody seems to read
                return is_closed(self._loop) and self._abandon()
            self._pairs.append(pair)
            self._wake()
        return True

    def _admit(self, pair: Pair) -> bool:
        with self._lock:
            return super()._admit(pair)

    def _wake(self) -> None:
        """Wake those who wait for an event, from whatever thread this is."""
        readers, self._readers = self._readers, []
        try:
            for reader in readers:
                soon(self._loop, reader.set)
        except RuntimeError:  # the loop is gone
            self._abandon()

    async def get(self) -> Pair:
        """Give the next event, or raise `anyio.EndOfStream`. A checkpoint."""
        from anyio import ClosedResourceError, EndOfStream, Event
        from anyio.lowlevel import checkpoint

        await checkpoint()
        while True:
            reader = Event()
            try:
                with self._lock:
                    self._readers.append(reader)  # before it looks: who comes now will wake it
                    if self.is_closed:
                        raise ClosedResourceError
                    if self._pairs:
                        return self._take()
                    if self._has_ended:
                        raise EndOfStream
                await reader.wait()
            finally:
                with self._lock, suppress(ValueError):  # who was woken is not there any more
                    self._readers.remove(reader)

    def _take(self) -> Pair:
        pair = self._pairs.popleft()
        self._taken += 1
        if not self._pairs:
            self._is_dropping = False
        return pair

    def end(self) -> None:
        """Let no event come any more; what is there can still be read."""
        with self._lock:
            self._has_ended = True
            self._wake()

    def close(self) -> None:
        """Let the reader leave."""
        with self._lock:
            self.is_closed = True
            self._wake()

    def _drop(self) -> None:
        self._pairs.popleft()

    def statistics(self) -> StreamStatistics:
        """Give the state at this moment."""
        with self._lock:
            buffered = len(self._pairs)
            received = self._taken + buffered + self._dropped
            return StreamStatistics(buffered, self.size, received, self._dropped, 0)
