"""`Stream`: the events of a chain as an async iterator, through a buffer that cannot grow.

Owns the block that puts events into the buffer, and its end: however the consumer leaves, the
producers that wait for room are let go first, and then the block is off. Knows a chain by its
``registered`` and no more; what a buffer does when it is full stands in `buffers`.

Invariant: a block of a stream is on its chain only while the stream is open.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, cast

from ._typing import DataT, EventT, Generic
from .block import NotifierBlock
from .buffers import OVERFLOWS, Buffer, check_size
from .callables import is_async_callable
from .errors import (
    InvalidTypeError,
    InvalidValueError,
    NotRegisteredError,
    WouldDeadlockError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
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
    somebody else takes the stream's block off, a scope for instance, after what is in the buffer.
    """

    __slots__ = (
        "__weakref__",
        "_block",
        "_buffer",
        "_chain",
        "_consumer",
        "_has_iterated",
        "_stack",
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
        self._stack: AsyncExitStack | None = None
        self._consumer: int | None = None
        self._has_iterated = False

    def statistics(self) -> StreamStatistics:
        """Give what has come, what waits in the buffer, and what was dropped."""
        return self._buffer.statistics()

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise InvalidValueError(
                f"the stream {self._block.name!r} of chain {self._chain.name!r} was entered before;"
                f" make another one with chain.stream()"
            )
        self._note_consumer()
        self._buffer.open()
        self._stack = AsyncExitStack()
        self._stack.callback(self._buffer.end)
        try:
            made: Any = self._chain.registered(self._block)
            if isinstance(made, AbstractContextManager):
                self._stack.enter_context(cast("AbstractContextManager[object]", made))
            else:
                await self._stack.enter_async_context(made)
        except BaseException:
            self._buffer.close()
            self._buffer.end()
            raise
        self._stack.callback(self._buffer.close)  # first of all: it lets waiting producers go
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await cast("AsyncExitStack", self._stack).__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[EventT, DataT]:
        from anyio import ClosedResourceError, EndOfStream

        if self._stack is None or self._buffer.is_closed:
            raise ClosedResourceError(
                f"the stream {self._block.name!r} of chain {self._chain.name!r} is not open; "
                f"iterate inside of: async with chain.stream() as stream"
            )
        self._note_consumer()
        self._has_iterated = True
        try:
            return cast("tuple[EventT, DataT]", await self._buffer.get())
        except EndOfStream:
            raise StopAsyncIteration from None

    # The callbacks.

    def _wants(self, event: EventT, data: DataT) -> bool:
        return self._where is None or bool(self._where(event, data))

    def _put(self, event: EventT, data: DataT) -> None:
        if self._wants(event, data):
            self._buffer.put((event, data))
            if self._buffer.is_abandoned:  # nobody will ever leave
                with suppress(NotRegisteredError):
                    self._chain.unregister_nosync(self._block)

    async def _wait_and_put(self, event: EventT, data: DataT) -> None:
        if self._wants(event, data) and not self._buffer.push((event, data)):
            await self._refuse_to_wait_for_ourselves()
            await self._buffer.wait_and_push((event, data))

    async def _refuse_to_wait_for_ourselves(self) -> None:
        from anyio.lowlevel import checkpoint

        for _ in range(_TURNS):
            if not self._has_iterated:
                await checkpoint()
        if self._consumer == _current_task():
            raise WouldDeadlockError(
                f"the stream {self._block.name!r} of chain {self._chain.name!r} is full, and the "
                f"task that reads it would wait for itself; read it in another task, give it a "
                f"larger max_buffer_size, or another overflow"
            )

    def _note_consumer(self) -> None:
        self._consumer = _current_task()

    def __repr__(self) -> str:
        return f"<Stream {self._block.name!r} of {self._chain.name!r}: {self.statistics()}>"


def _current_task() -> int:
    from anyio import get_current_task

    return get_current_task().id


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
        which events to take, in the producer's call. Up to ``max_buffer_size`` events, 1 or more,
        wait to be read. When the buffer is full, ``overflow`` says what becomes of the next one:

        - ``"wait"``, the default on async chains: the call waits until there is room. In the task
          that reads the stream, or opened it while nobody reads, that is a `WouldDeadlockError`.
        - ``"drop_oldest"``, the default on an `AtomicChain`, and ``"drop_newest"``: one is dropped,
          counted, and logged when dropping begins.
        - ``"raise"``: `StreamOverflowError` in the call, which is the block's exception (D9).

        On an `AtomicChain` the producers may be other threads; once the reader's event loop is
        gone the stream takes itself off, and they notice nothing. Raises `InvalidTypeError` or
        `InvalidValueError`. Entering and leaving are as ``register`` and ``unregister``.
        """
        wanted = self._buffer_type.default if overflow is None else overflow
        what = f"chain {self.name!r}: a stream"
        if wanted not in OVERFLOWS:
            raise InvalidValueError(
                f"{what} with overflow={wanted!r} there is not; use one of {', '.join(OVERFLOWS)}"
            )
        check_size(max_buffer_size, what)
        buffer = self._buffer_type(self.name, name, max_buffer_size, wanted)
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
