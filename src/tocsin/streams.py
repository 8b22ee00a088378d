"""`Stream`: the events of a chain as an async iterator, through a buffer that cannot grow.

Owns the block that puts events into the buffer, and its end. Leaving lets go the producers that
wait for room, then takes the block off, and waits for nobody: all that its callback does is put an
event into a buffer that takes none any more. What a buffer does when it is full stands in
`buffers`.

Invariant: a block of a stream is on its chain only while the stream is open.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from ._typing import DataT, EventT, Generic
from .ancestry import blocked_tasks
from .bands import CONCURRENCY
from .block import NotifierBlock
from .buffers import OVERFLOWS, Buffer, check_size
from .callables import close_coroutine, is_async_callable
from .errors import (
    InvalidTypeError,
    InvalidValueError,
    NotRegisteredError,
    WouldDeadlockError,
)
from .wording import as_str, shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal, Self, TypeAlias

    from .buffers import StreamStatistics

    Overflow: TypeAlias = Literal["wait", "drop_oldest", "drop_newest", "raise"]

__all__ = ["Stream", "Streaming"]

_TURNS = 10
"""Checkpoints for a task that is going to read, and may not have begun yet, before the one that has
opened the stream is taken for its reader."""


class _StreamBlock(NotifierBlock[Any, Any, Any]):
    """The block of a stream, which ends when anybody takes it off its chain."""

    __slots__ = ("_end",)

    _nb_can_return = False

    def __init__(
        self, callback: Callable[[Any, Any], Any], end: Callable[[], None], **options: Any
    ) -> None:
        self._end = end
        super().__init__(callback, **options)

    def _nb_left(self) -> None:
        self._end()


class Stream(Generic[EventT, DataT]):
    """The events of a chain, one after another. Made by ``chain.stream()``.

    ``async with`` registers it and takes it off at the end, whatever ended it. Iteration gives
    ``(event, data)``; several tasks may iterate, and each pair goes to one of them. It ends when
    somebody else takes the stream's block off, a scope for instance, after what is in the buffer
    and what calls under way still wait to put there, while who comes to the block later is not
    heard any more; and for a task that waits while another one leaves.
    """

    __slots__ = (
        "__weakref__",
        "_block",
        "_buffer",
        "_chain",
        "_is_open",
        "_opener",
        "_readers",
        "_where",
    )

    def __init__(
        self,
        chain: Any,
        buffer: Buffer,
        where: Callable[[EventT, DataT], bool] | None,
        **options: Any,
    ) -> None:
        if where is not None and (not callable(where) or is_async_callable(where)):
            raise InvalidTypeError(
                f"chain {chain.name!r}: where= of a stream must be a plain function "
                f"where(event, data), not {type(where).__name__}"
            )
        self._chain = chain
        self._buffer = buffer
        self._where = where
        callback = self._wait_and_put if buffer.overflow == "wait" else self._put
        self._block = _StreamBlock(callback, buffer.end, **options)
        self._is_open = False
        self._opener: object = None
        self._readers: list[object] = []  # coroutines, since a task's id is used again

    def statistics(self) -> StreamStatistics:
        """Give what has come, what waits in the buffer, and what was dropped."""
        return self._buffer.statistics()

    async def __aenter__(self) -> Self:
        if self._opener is not None:
            raise InvalidValueError(
                f"{self._who} was entered before; make another one with chain.stream()"
            )
        self._opener = _current_task()
        self._buffer.open()
        try:
            made: Any = self._chain.register(self._block)
            if hasattr(made, "__await__"):
                await made
        except BaseException:
            self._close()
            raise
        self._is_open = True
        return self

    async def __aexit__(self, *_raised: object) -> None:
        self._close()

    def _close(self) -> None:
        self._is_open = False
        self._buffer.close()
        self._take_off()
        self._buffer.end()

    def _take_off(self) -> None:
        with suppress(NotRegisteredError):
            self._chain.unregister_nosync(self._block)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[EventT, DataT]:
        from anyio import ClosedResourceError, EndOfStream

        if not self._is_open:
            raise ClosedResourceError(
                f"{self._who} is not open; iterate inside of: async with chain.stream() as stream"
            )
        task = _current_task()
        if not any(task is one for one in self._readers):
            self._readers = [*self._living_readers(), task]
        try:
            return cast("tuple[EventT, DataT]", await self._buffer.get())
        except (ClosedResourceError, EndOfStream):
            raise StopAsyncIteration from None

    # The callbacks.

    def _wants(self, event: EventT, data: DataT) -> bool:
        if self._where is None:
            return True
        said: object = self._where(event, data)
        if hasattr(type(said), "__await__"):
            close_coroutine(said)
            raise InvalidTypeError(
                f"{self._who}: its where= gave {type(said).__name__}, not a bool"
            )
        return bool(said)

    def _put(self, event: EventT, data: DataT) -> None:
        if self._wants(event, data):
            self._buffer.put((event, data))
            if self._buffer.is_abandoned:  # nobody will ever leave
                self._take_off()

    async def _wait_and_put(self, event: EventT, data: DataT) -> None:
        if self._wants(event, data):
            if not self._buffer.push((event, data)):
                await self._buffer.wait_and_push((event, data), self._refuse_to_wait_for_ourselves)
            if self._buffer.is_abandoned:
                self._take_off()

    async def _refuse_to_wait_for_ourselves(self) -> None:
        """Raise `WouldDeadlockError` where all who read can do nothing before this call ends."""
        from anyio.lowlevel import checkpoint

        blocked = list(blocked_tasks(CONCURRENCY))
        if not self._is_open and any(self._opener is one for one in blocked):
            raise WouldDeadlockError(
                f"{self._who} is full of what the chain replays to it, and nobody can read that "
                f"before it has joined; give it a larger max_buffer_size, or another overflow"
            )
        for _ in range(_TURNS):
            if any(self._opener is one for one in blocked) and not self._living_readers():
                await checkpoint()
        readers = self._living_readers() or [self._opener]
        if all(any(reader is one for one in blocked) for reader in readers):
            raise WouldDeadlockError(
                f"{self._who} is full, and the task that reads it would wait for itself; read it "
                f"in another task, give it a larger max_buffer_size, or another overflow"
            )

    def _living_readers(self) -> list[object]:
        """Give the tasks that have read and have not ended."""
        return [one for one in self._readers if getattr(one, "cr_frame", one) is not None]

    @property
    def _who(self) -> str:
        return f"the stream {self._block.name!r} of chain {self._chain.name!r}"

    def __repr__(self) -> str:
        return f"<Stream {self._block.name!r} of {self._chain.name!r}: {self.statistics()}>"


def _current_task() -> object:
    """Give the coroutine of the running task."""
    from anyio import get_current_task

    return get_current_task().coro


class Streaming(Generic[EventT, DataT]):
    """``stream`` and ``wait_for``, for a chain whose events somebody may await."""

    __slots__ = ()

    _buffer_type: type[Buffer]
    """What keeps the events of a stream."""

    if TYPE_CHECKING:

        @property
        def name(self) -> str: ...  # noqa: D102

    def stream(
        self,
        *,
        events: object = None,
        where: Callable[[EventT, DataT], bool] | None = None,
        max_buffer_size: int = 100,
        overflow: Overflow | None = None,
        priority: int = 0,
        name: str = "stream",
    ) -> Stream[EventT, DataT]:
        """Give the events of this chain as an async iterator, to be used with ``async with``.

        ``events``, ``priority`` and ``name`` are those of its block; ``where(event, data)`` says
        which events to take, in the producer's call. Up to ``max_buffer_size`` events, 1 to
        `sys.maxsize`, wait to be read. When the buffer is full, ``overflow`` says what becomes of
        the next one:

        - ``"wait"``, the default on async chains: the call waits until there is room. In the task
          that reads the stream, or opened it while nobody reads, that is a `WouldDeadlockError`.
        - ``"drop_oldest"``, the default on an `AtomicChain`, and ``"drop_newest"``: one is dropped,
          counted, and logged when dropping begins.
        - ``"raise"``: `StreamOverflowError` in the call, which is the block's exception (D9).

        On an `AtomicChain` the producers may be other threads. When the reader's event loop is
        gone, the stream takes itself off when its buffer is full, and they notice nothing. Raises
        `InvalidTypeError` or `InvalidValueError`. Entering is as ``register``, leaving as
        ``unregister_nosync``: it waits for no call. A stream's block gives no result, so where it
        is the last one the result of the call is `NOTIFY_DONE`.
        """
        wanted = self._buffer_type.default if overflow is None else as_str(overflow)
        what = f"chain {self.name!r}: a stream"
        if wanted not in OVERFLOWS:
            raise InvalidValueError(
                f"{what} with overflow={shown(overflow)} there is not; "
                f"use one of {', '.join(OVERFLOWS)}"
            )
        size = check_size(max_buffer_size, what)
        buffer = self._buffer_type(self.name, name, size, wanted)
        return Stream(self, buffer, where, events=events, priority=priority, name=name)

    async def wait_for(
        self,
        events: object = None,
        where: Callable[[EventT, DataT], bool] | None = None,
        *,
        priority: int = 0,
        name: str = "wait_for",
    ) -> tuple[EventT, DataT]:
        """Wait for the next of these events for which ``where`` says yes; give it with its data.

        Only what is dispatched from now on counts. Raises `anyio.EndOfStream` when somebody takes
        its block off, else as `stream`. A checkpoint.
        """
        buffer = self._buffer_type(self.name, name, 1, "drop_newest", quiet=True)
        made: Stream[EventT, DataT] = Stream(
            self, buffer, where, events=events, priority=priority, name=name
        )
        async with made as stream:
            async for pair in stream:
                return pair
        from anyio import EndOfStream

        raise EndOfStream
