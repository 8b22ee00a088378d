"""Signals that interrupt a thread at any moment."""

from __future__ import annotations

import signal
import sys
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
