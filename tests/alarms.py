"""Signals that interrupt a thread at any moment, and one that does when it is stuck."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


@contextmanager
def alarmed(handler: Callable[[], object], pause: float) -> Generator[None]:
    """Have signals run ``handler`` in the main thread, ``pause`` seconds after its last end.

    Nobody traces it meanwhile: what measures coverage takes a lock that is not re-entrant, and a
    handler that came in the middle of that would wait for it for ever.
    """

    def handle(*_: object) -> None:
        handler()
        signal.setitimer(signal.ITIMER_REAL, pause)  # again, once this one has ended

    tracing = sys.gettrace()
    sys.settrace(None)
    previous = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, pause)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        sys.settrace(tracing)


class StuckError(BaseException):
    """What ends a wait that would have had no end, and passes whoever catches exceptions."""


@contextmanager
def watched(
    progress: Callable[[], object], pause: float, note: Callable[[], object]
) -> Generator[None]:
    """See, from another thread, that things go on in the main thread; interrupt it if they do not.

    When ``progress()`` is the same after ``pause`` seconds, ``note()`` is called and `StuckError`
    raised in the main thread, up to here, even from a handler that waits for a lock.
    """
    is_over = threading.Event()
    main = threading.main_thread().ident
    assert main == threading.get_ident()

    def interrupt(*_: object) -> None:
        if not is_over.is_set():
            raise StuckError

    def watch() -> None:
        seen = progress()
        while not is_over.wait(pause):
            seen, before = progress(), seen
            if seen == before:
                note()
                signal.pthread_kill(main, signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, interrupt)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except StuckError:
        pass
    finally:
        is_over.set()
        watcher.join()
        signal.signal(signal.SIGUSR1, previous)
