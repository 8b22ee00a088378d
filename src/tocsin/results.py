"""Results of callbacks, and how a result carries an errno.

Owns the four result values and the kernel's packing of an errno into a result; knows nothing of
chains or exceptions. The arithmetic is the kernel's, bit for bit, on Python's unbounded integers.

Source: ``include/linux/notifier.h``.
"""

from __future__ import annotations

import errno as _errno
from enum import IntEnum

from .wording import as_int, shown

__all__ = [
    "NOTIFY_BAD",
    "NOTIFY_DONE",
    "NOTIFY_OK",
    "NOTIFY_STOP",
    "NOTIFY_STOP_MASK",
    "NotifyResult",
    "describe_result",
    "notifier_from_errno",
    "notifier_to_errno",
]

NOTIFY_STOP_MASK = 0x8000
"""The stop bit: a result that has it ends the walk."""


class NotifyResult(IntEnum):
    """What a callback may answer. Compare with ``==`` or test the stop bit, never truthiness."""

    DONE = 0x0000
    """Not interested. ``None`` counts as this."""
    OK = 0x0001
    """Suits me. Treated like `DONE` by every chain."""
    STOP = 0x8001
    """Suits me, and nobody behind me needs to hear it."""
    BAD = 0x8002
    """Veto. The same value as ``notifier_from_errno(-errno.EPERM)``."""


NOTIFY_DONE = NotifyResult.DONE
NOTIFY_OK = NotifyResult.OK
NOTIFY_STOP = NotifyResult.STOP
NOTIFY_BAD = NotifyResult.BAD


def notifier_from_errno(error: int) -> int:
    """Pack an errno into a result that stops the walk.

    ``error`` is 0, which gives `NOTIFY_OK`, or a negative errno such as ``-errno.EBUSY``. Raises
    `ValueError` for a positive one: the kernel would stop the walk and report success; `TypeError`
    for what is no int. Pure; legal anywhere. Source: ``notifier_from_errno()``.
    """
    error = _plain_int(error, "notifier_from_errno() takes 0 or a negative errno")
    if error > 0:
        raise ValueError(
            f"notifier_from_errno() takes 0 or a negative errno, not {shown(error)}; "
            f"did you mean notifier_from_errno({shown(-error)})?"
        )
    return NOTIFY_STOP_MASK | (NOTIFY_OK - error) if error else NOTIFY_OK


def notifier_to_errno(result: int) -> int:
    """Give the negative errno that a result carries, or 0.

    The stop bit is not needed for it: 23 gives -22, as in the kernel. `TypeError` for what is no
    int. Pure; legal anywhere. Source: ``notifier_to_errno()``.
    """
    result = _plain_int(result, "notifier_to_errno() takes a result, an int")
    rest = result & ~NOTIFY_STOP_MASK
    return NOTIFY_OK - rest if rest > NOTIFY_OK else 0


def describe_result(result: int) -> str:
    """Say a result in words for people and logs, for example ``STOP|OK`` or ``STOP (EBUSY)``.

    `TypeError` for what is no int. Pure; legal anywhere.
    """
    error = -notifier_to_errno(result)
    result = int.__index__(result)
    words = _errno.errorcode.get(error) or f"errno {shown(error)}"
    if result == NOTIFY_BAD:
        return f"BAD ({words})"
    stop = "STOP" if result & NOTIFY_STOP_MASK else ""
    if result < 0:
        return f"{stop or 'no stop'}, a bare negative ({shown(result)})"
    if error:
        return f"{stop or 'no stop'} ({words})"
    value = "OK" if result & NOTIFY_OK else "DONE"
    return f"{stop}|{value}" if stop else value


def _plain_int(value: object, takes: str) -> int:
    """Give an int as one that has no ways of its own; a callback's result may be of any kind."""
    number = as_int(value)
    if number is None:
        raise TypeError(f"{takes}, not {type(value).__name__}")
    return number
