"""The waiting side of the two async flavours: a reader/writer lock and a grace period.

Both rest on one fact that the walks keep for them, ``Snapshot.readers``: how many walks are going
through a snapshot. Neither costs a walk anything while nobody waits.

The *reader/writer lock* of `BlockingChain` follows the kernel's rwsem: first come, first served,
readers admitted in batches, a waiting writer holds newcomers back. That last rule deadlocks when a
running callback waits for somebody who queues behind the writer: a nested call in the same task can
be recognised and is let through, but a call from a task that the callback merely started, or from a
worker thread, cannot, not cheaply: every queued reader would have to search its ancestors, which
takes longer the more callers there are. So a writer has patience instead: having
waited 50 ms it lets the readers queued behind it pass once, and doubles its patience. Whatever the
running callback waits for gets through, and the writer, whose patience grows faster than any
batch of readers lasts, gets its turn.

The *grace period* of `SrcuChain` waits for given snapshots to have no readers. A snapshot that has
been replaced gets no new ones, so a writer waits for earlier walks only, never for later ones. One
counter per snapshot does less for each walk than two epochs would.

Refused: timeouts (use anyio's), re-entrant writers, upgrading a reader.

Invariants: no reader is admitted and no writer granted while ``writing``; a grant that its task
cannot take, being cancelled, is passed on.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anyio import Event

    from .view import Snapshot

__all__ = ["PATIENCE", "GracePeriods", "ReaderWriterLock"]

_readers = attrgetter("readers")

PATIENCE = 0.05
"""Seconds that a writer first waits before it lets the readers behind it pass."""


class _Waiter:
    """Somebody in the queue; ``granted`` is set at the same time as ``event``."""

    __slots__ = ("event", "granted", "is_writer")

    def __init__(self, *, is_writer: bool) -> None:
        from anyio import Event

        self.event: Event = Event()
        self.granted = False
        self.is_writer = is_writer

    def grant(self) -> None:
        self.granted = True
        self.event.set()


class ReaderWriterLock:
    """First come, first served; the readers' own count is kept by the walks."""

    __slots__ = ("_changed", "_entering", "_is_idle", "_queue", "writing")

    def __init__(self, is_idle: Callable[[], bool], changed: Callable[[], None]) -> None:
        self._is_idle = is_idle
        self._changed = changed
        self._queue: deque[_Waiter] = deque()
        self._entering = 0  # readers that were granted entry and have not run since
        self.writing: bool = False

    @property
    def is_closed(self) -> bool:
        """Whether a reader that comes now has to queue."""
        return self.writing or bool(self._queue)

    @property
    def waiting(self) -> int:
        """How many are in the queue."""
        return len(self._queue)

    @property
    def writers_waiting(self) -> int:
        """How many of them want to write."""
        return sum(waiter.is_writer for waiter in self._queue)

    def is_due(self) -> bool:
        """Say whether the first in the queue can be granted what it waits for."""
        if self.writing or not self._queue:
            return False
        return not self._queue[0].is_writer or not (self._entering or not self._is_idle())

    def acquire_write_nowait(self) -> bool:
        """Take the lock for writing if that needs no waiting; say whether it was taken."""
        if self.is_closed or self._entering or not self._is_idle():
            return False
        self.writing = True
        self._changed()
        return True

    async def acquire_write(self) -> None:
        """Queue for writing, `acquire_write_nowait` having said no. A checkpoint if it waits."""
        from anyio import move_on_after

        patience = PATIENCE
        waiter = self._join_queue(is_writer=True)
        self.wake()  # it may be free by now
        try:
            while not waiter.granted:
                with move_on_after(patience):
                    await waiter.event.wait()
                if not waiter.granted:
                    self._let_readers_pass(waiter)
                    self.wake()  # a reader that failed before its walk may have told nobody
                    patience *= 2
        except BaseException:
            if waiter.granted:
                self.release_write()
            self._leave_queue(waiter)
            raise

    def release_write(self) -> None:
        """Give the lock back and wake whoever is next."""
        self.writing = False
        self.wake()

    async def acquire_read(self) -> None:
        """Queue for a turn to read. The caller counts itself before it suspends again."""
        waiter = self._join_queue(is_writer=False)
        try:
            await waiter.event.wait()
        except BaseException:
            self._entering -= waiter.granted
            self._leave_queue(waiter)
            raise
        self._entering -= 1

    def wake(self) -> None:
        """Grant what can be granted: one writer, or the readers at the head of the queue."""
        while self.is_due():
            waiter = self._queue.popleft()
            if waiter.is_writer:
                self.writing = True
                waiter.grant()
            else:
                self._admit(waiter)
        self._changed()

    def forget(self) -> None:
        """Drop everybody: their event loop is gone. Use another lock from now on.

        Their coroutines still end some day, and then account for themselves here.
        """
        self._queue.clear()

    def _admit(self, reader: _Waiter) -> None:
        self._entering += 1
        reader.grant()

    def _let_readers_pass(self, writer: _Waiter) -> None:
        """Admit the readers queued behind a writer that has lost patience."""
        for waiter in list(self._queue)[self._queue.index(writer) :]:
            if not waiter.is_writer and not self.writing:
                self._queue.remove(waiter)
                self._admit(waiter)

    def _join_queue(self, *, is_writer: bool) -> _Waiter:
        waiter = _Waiter(is_writer=is_writer)
        self._queue.append(waiter)
        return waiter

    def _leave_queue(self, waiter: _Waiter) -> None:
        if waiter in self._queue:
            self._queue.remove(waiter)
        self.wake()


class GracePeriods:
    """Those who wait until snapshots have no readers."""

    __slots__ = ("_changed", "_waiters")

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._waiters: list[tuple[tuple[Snapshot, ...], Event]] = []

    @property
    def waiting(self) -> int:
        """How many are waiting."""
        return len(self._waiters)

    def is_due(self) -> bool:
        """Say whether somebody's snapshots have no readers left."""
        for snapshots, _ in self._waiters:  # noqa: SIM110 - asked whenever a walk ends meanwhile
            if not any(map(_readers, snapshots)):
                return True
        return False

    async def wait(self, snapshots: Iterable[Snapshot]) -> None:
        """Wait until none of the snapshots, which must have been replaced, has readers.

        A checkpoint only when it has to wait.
        """
        read = tuple(one for one in snapshots if one.readers)
        if not read:
            return
        from anyio import Event

        waiter = (read, Event())
        self._waiters.append(waiter)
        self._changed()
        try:
            await waiter[1].wait()
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            self._changed()

    def wake(self) -> None:
        """Wake those whose snapshots have no readers left."""
        for snapshots, event in self._waiters:
            if not any(map(_readers, snapshots)):
                event.set()

    def forget(self) -> None:
        """Drop everybody: their event loop is gone."""
        self._waiters.clear()
        self._changed()
