"""`Sequencer`: what several tasks and threads do, in the order that a test says.

The idea and the name are those of ``trio.testing.Sequencer``; this one runs on both backends, and
orders threads and tasks together.

Refused: swallowing a cancellation. A step that is given up while it waits breaks the sequence, and
who waits for a later one is told at once, since it would wait for ever.

Invariants: ``_turn`` is the step that is due or under way; every step below it has been left;
``_waiting`` has who came before the turn and was not woken, also if the step was given up since: to
wake that one does no harm.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from tocsin.checks import check_seconds
from tocsin.errors import InvalidTypeError, InvalidValueError, SequenceBrokenError
from tocsin.loops import running_loop, soon
from tocsin.wording import as_int, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from anyio import Event

__all__ = ["Sequencer"]


class Sequencer:
    """Steps 0, 1, 2 and so on, each entered only when the one before it was left.

    ``async with sequencer(1):`` in a task, ``with sequencer(1):`` in a thread, mixed as one likes.
    Who comes early waits, up to ``timeout`` seconds, above 0, or ``None`` for no bound; past them a
    `TimeoutError` says for which step it has waited. A step that is left by an exception is left.
    One that is given up while it waits, cancelled or timed out, breaks the sequence: then who waits
    for a later one, or comes later, gets `SequenceBrokenError`. A step that was used before, or a
    negative one, is an `InvalidValueError`.

    To enter is a checkpoint only where it waits; ``with`` blocks its thread meanwhile, so that in
    the task of an event loop, but for sync callbacks, ``async with`` is right. Not for the handler
    of a signal: it may come while its own thread holds the lock, and would wait for it for ever.
    """

    __slots__ = ("_broken", "_lock", "_timeout", "_turn", "_used", "_waiting")

    def __init__(self, *, timeout: float | None = 10.0) -> None:
        if timeout is not None:
            check_seconds(timeout, "the timeout of a Sequencer")
            if not timeout > 0:
                raise InvalidValueError(
                    f"the timeout of a Sequencer must be above 0 s, not {timeout}"
                )
        self._timeout = timeout
        self._lock = threading.Lock()
        self._turn = 0
        self._used: set[int] = set()
        self._waiting: dict[int, Callable[[], object]] = {}
        self._broken: tuple[int, str] | None = None  # the first that was given up, and why

    def __call__(self, step: int) -> _Step:
        """Give what to enter for a step."""
        number = as_int(step)
        if number is None or isinstance(step, bool):
            raise InvalidTypeError(f"a step of a Sequencer is an int, not {type(step).__name__}")
        if number < 0:
            raise InvalidValueError(
                f"the steps of a Sequencer begin with 0; there is no {shown(number)}"
            )
        return _Step(self, number)

    @property
    def step(self) -> int:
        """The step that is due or under way; after the last one, how many steps there were.

        Legal in any task and thread.
        """
        return self._turn

    def __repr__(self) -> str:
        return f"<Sequencer at step {self._turn}{', broken' if self._broken else ''}>"

    def _come(self, step: int, wake: Callable[[], object]) -> bool:
        """Use a step; say whether it is its turn, or somebody has to ``wake`` it."""
        with self._lock:
            if step in self._used:
                raise InvalidValueError(
                    f"step {shown(step)} was used before; each step is one place"
                )
            self._used.add(step)
            self._check_whole(step)
            if step != self._turn:
                self._waiting[step] = wake
            return step == self._turn

    def _begin(self, step: int, hint: str = "") -> None:
        """See, after the wait, that it is a step's turn; if it is not, give it up."""
        with self._lock:
            if step == self._turn:
                return
            self._check_whole(step)
            missing = self._turn
            why = "has not been left" if missing in self._used else "was never entered"
        said = (
            f"step {shown(step)} was not reached in {self._timeout} s: step {missing} {why}{hint}"
        )
        self._give_up(step, said)
        raise TimeoutError(said)

    def _check_whole(self, step: int) -> None:
        if self._broken is not None and step > self._broken[0]:
            raise SequenceBrokenError(f"step {shown(step)} can never be entered: {self._broken[1]}")

    def _give_up(self, step: int, why: str) -> None:
        """Tell everybody who waits for a later step that they would wait for ever."""
        with self._lock:
            self._broken = min(self._broken or (step, why), (step, why))
            waking = [self._waiting.pop(one) for one in [*self._waiting] if one > step]
        for wake in waking:
            wake()

    def _leave(self) -> None:
        with self._lock:
            self._turn += 1
            wake = self._waiting.pop(self._turn, None)
        if wake is not None:
            wake()


class _Step:
    """One step of a sequence, to be entered once."""

    __slots__ = ("_sequencer", "_step")

    def __init__(self, sequencer: Sequencer, step: int) -> None:
        self._sequencer = sequencer
        self._step = step

    def __enter__(self) -> None:
        event, sequencer = threading.Event(), self._sequencer
        if not sequencer._come(self._step, event.set):
            timeout = sequencer._timeout
            with self._waiting():
                event.wait(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
            in_loop = "; its event loop stood still meanwhile, for which there is async with"
            sequencer._begin(self._step, in_loop if running_loop() is not None else "")

    async def __aenter__(self) -> None:
        from anyio import Event, move_on_after

        event, sequencer = Event(), self._sequencer
        if not sequencer._come(self._step, partial(_wake, running_loop(), event)):
            with self._waiting(), move_on_after(sequencer._timeout):
                await event.wait()
            sequencer._begin(self._step)

    @contextmanager
    def _waiting(self) -> Generator[None]:
        """Give the step up where its wait is cancelled or interrupted."""
        try:
            yield
        except BaseException:
            why = f"step {shown(self._step)} was cancelled or interrupted while it waited"
            self._sequencer._give_up(self._step, why)
            raise

    def __exit__(self, *_raised: object) -> None:
        self._sequencer._leave()

    async def __aexit__(self, *_raised: object) -> None:
        self._sequencer._leave()


def _wake(loop: Any, event: Event) -> None:
    """Set an event of a loop, in which or in whose thread we may be, or may not."""
    if running_loop() is loop:
        event.set()
    else:
        with suppress(RuntimeError):  # the loop is gone, and who waited there with it
            soon(loop, event.set)
