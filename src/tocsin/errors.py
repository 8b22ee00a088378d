"""Every exception of Tocsin, and how a result becomes one.

Invariants: each is a `TocsinError`, but for the group of what callbacks raised; its message says
who, where and what next and never carries an event's data; what a program may want to look at is an
attribute.
"""

from __future__ import annotations

import errno as _errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from .results import describe_result, notifier_from_errno, notifier_to_errno
from .wording import as_int, printable, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .block import NotifierBlock
    from .bus import Bus
    from .protocol import AnyChain

__all__ = [
    "AlreadyRegisteredError",
    "AsyncCallbackError",
    "BusError",
    "ChainExistsError",
    "ChainInUseError",
    "ChainNotFoundError",
    "FilterError",
    "InvalidResultError",
    "InvalidTypeError",
    "InvalidValueError",
    "ModuleDependencyError",
    "ModuleError",
    "ModuleInUseError",
    "ModuleLoadError",
    "ModuleLoadedError",
    "ModuleNotLoadedError",
    "ModuleTimeoutError",
    "NotRegisteredError",
    "OrderConflictError",
    "PriorityInUseError",
    "RegistrationError",
    "RegistrationVetoedError",
    "RollbackError",
    "ScopeClosedError",
    "SequenceBrokenError",
    "StreamOverflowError",
    "TocsinError",
    "VetoError",
    "WouldDeadlockError",
    "WrongLoopError",
    "raise_for_result",
]


class TocsinError(Exception):
    """The base of every exception that Tocsin raises on its own account.

    But for `RollbackError`, a group of what callbacks raised, and the plain `TypeError` and
    `ValueError` of the arithmetic in `results`. Its text is one line that a terminal can be shown,
    whatever the names in it are made of.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class InvalidTypeError(TocsinError, TypeError):
    """Something of the wrong type was given for a block, a chain or a module."""


class InvalidValueError(TocsinError, ValueError):
    """Something of the right type, but with no sense here, was given."""


class RegistrationError(TocsinError):
    """A block could not be registered or unregistered; the chain is as it was (D6).

    ``errno`` is what the kernel's function returns, as a positive number.
    """

    errno: int  # a value in each subclass; one here would hide that of an `OSError`

    def __init__(
        self, message: str, *, chain: AnyChain, block: NotifierBlock[Any, Any, Any]
    ) -> None:
        super().__init__(message)
        self.chain = chain
        self.block = block


class AlreadyRegisteredError(RegistrationError):
    """The block is on a chain already."""

    errno: int = _errno.EEXIST


class PriorityInUseError(RegistrationError):
    """``unique_priority`` was asked for and another block has that priority."""

    errno: int = _errno.EBUSY


class NotRegisteredError(RegistrationError):
    """The block is not on this chain."""

    errno: int = _errno.ENOENT


class OrderConflictError(RegistrationError):
    """``before=`` or ``after=`` contradict a priority, or each other in a circle (D1).

    ``blocks`` are those that ask for what cannot be, the new ``block`` among them.
    """

    errno: int = _errno.EINVAL

    def __init__(
        self,
        message: str,
        *,
        chain: AnyChain,
        block: NotifierBlock[Any, Any, Any],
        blocks: tuple[NotifierBlock[Any, Any, Any], ...],
    ) -> None:
        super().__init__(message, chain=chain, block=block)
        self.blocks = blocks


class VetoError(TocsinError, OSError):
    """A veto. Raise it in a callback to veto with words; `raise_for_result` raises it too.

    ``errno`` is a positive errno and ``reason`` says why (by default the errno's own text).
    ``result`` is the result that it counts as, ``block`` who vetoed, where that is known. The
    errno is 0 when the walk was stopped by a result that carries none, such as `NOTIFY_STOP`.
    """

    errno: int  # pyright: ignore[reportIncompatibleVariableOverride] - an OSError's may be None
    counts_as_result = True
    """Whether a walk takes it for the raising block's result; if not, it is an exception (D9)."""

    def __init__(
        self,
        errno: int,
        reason: str | None = None,
        *,
        result: int | None = None,
        block: NotifierBlock[Any, Any, Any] | None = None,
    ) -> None:
        number = as_int(errno)
        if number is None:
            raise InvalidTypeError(
                f"VetoError takes an errno, such as errno.EBUSY, not {type(errno).__name__}"
            )
        if result is not None and as_int(result) is None:
            raise InvalidTypeError(f"VetoError takes an int as result, not {type(result).__name__}")
        errno = number
        if result is None and errno <= 0:
            raise InvalidValueError(
                f"VetoError takes a positive errno, not {shown(errno)}; did you mean errno.EBUSY, "
                f"as in VetoError(errno.EBUSY, 'the device is in use')?"
            )
        self.reason: str = reason if reason is not None else _strerror(errno)
        super().__init__(errno, self.reason)
        self.result: int = notifier_from_errno(-errno) if result is None else result
        self.block = block

    def __str__(self) -> str:
        return printable(f"[Errno {shown(self.errno)}] {self.reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle without the block, which belongs to this process."""
        return _restore_veto, (type(self), self.errno, self.reason, self.result)


def _strerror(errno: int) -> str:
    try:
        return os.strerror(errno)
    except (OverflowError, ValueError):  # no C int; a result may carry any number
        return f"Unknown error {shown(errno)}"


def _restore_veto(cls: type[VetoError], errno: int, reason: str, result: int) -> VetoError:
    veto = cls.__new__(cls, errno, reason)
    VetoError.__init__(veto, errno, reason, result=result)
    return veto


class RegistrationVetoedError(RegistrationError, VetoError):
    """The newcomer vetoed an event of the replay, so it was not registered.

    Escaping from a callback it is an exception, not a veto of the outer event.
    """

    errno: int  # pyright: ignore[reportIncompatibleVariableOverride]
    block: NotifierBlock[Any, Any, Any]  # pyright: ignore[reportIncompatibleVariableOverride]
    counts_as_result = False

    def __init__(
        self,
        veto: VetoError,
        *,
        chain: AnyChain,
        block: NotifierBlock[Any, Any, Any],
    ) -> None:
        VetoError.__init__(self, veto.errno, veto.reason, result=veto.result)
        self.chain = chain
        self.block = block

    def __str__(self) -> str:
        return printable(
            f"block {self.block.name!r} was not registered on chain {self.chain.name!r}: "
            f"it vetoed a replayed event with {describe_result(self.result)}: {self.reason}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as a plain `VetoError`: chain and block belong to this process."""
        return _restore_veto, (VetoError, self.errno, self.reason, self.result)


class InvalidResultError(TocsinError):
    """A callback gave something that is no result, or a result is no veto that could be raised."""


class AsyncCallbackError(TocsinError):
    """An async callback where only sync ones can be called (D7)."""


class WouldDeadlockError(TocsinError, RuntimeError):
    """The call would wait for itself, so it was refused; nothing was changed."""


class StreamOverflowError(TocsinError):
    """The buffer of a stream with ``overflow="raise"`` is full."""


class WrongLoopError(TocsinError, RuntimeError):
    """An async chain was used from another thread or event loop than its own."""


class FilterError(TocsinError, ValueError):
    """A name filter that cannot be used; whatever filter was in force stays in force."""


class ScopeClosedError(TocsinError, RuntimeError):
    """Something was registered under a scope that is closed."""


class SequenceBrokenError(TocsinError, RuntimeError):
    """A step of a `tocsin.testing.Sequencer` was given up, so that no later one can ever begin."""


class RollbackError(ExceptionGroup[Exception]):
    """A robust call was stopped, and callbacks raised while it was rolled back (D10).

    ``result`` is the result that stopped the call.
    """

    result: int

    def __new__(cls, message: str, exceptions: Sequence[Exception], result: int) -> Self:
        """Make the group; exception groups are built here, not in ``__init__``."""
        group = super().__new__(cls, message, exceptions)
        group.result = result
        return group

    if TYPE_CHECKING:

        def __init__(self, message: str, exceptions: Sequence[Exception], result: int) -> None: ...

    def derive(self, excs: Sequence[Exception], /) -> RollbackError:  # type: ignore[override]
        """Give a group of the same kind, so that ``except*`` and ``split`` keep the result."""
        return RollbackError(self.message, excs, self.result)


def add_note(error: BaseException, note: str, *, once: bool = False) -> None:
    """Add a note to somebody's exception, unless it takes none, as a frozen dataclass does not.

    With ``once`` it is added only if it is not there: one exception may be raised again and again.
    """
    with suppress(Exception):
        note = printable(note)
        if not once or note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def raise_for_result(result: int) -> int:
    """Give ``result`` back when it carries no errno, else raise `VetoError`.

    A bare negative raises `InvalidResultError`: the kernel would stop the walk and report success.
    Anything but an int is a `TypeError`. Pure; legal anywhere.
    """
    number = as_int(result)
    if number is None:
        raise InvalidTypeError(
            f"raise_for_result() takes a result, an int, not {type(result).__name__}"
        )
    if number < 0:
        raise InvalidResultError(
            f"{shown(result)} is a bare negative, which stops a walk and still reads as success; "
            f"did you mean notifier_from_errno({shown(result)})?"
        )
    error = notifier_to_errno(result)
    if error:
        raise VetoError(-error, result=result)
    return result


class BusError(TocsinError):
    """A bus could not do what was asked; it is as it was.

    ``errno`` says what kind of error it is, ``bus`` whose, and ``name`` is that of the chain.
    """

    errno: int = _errno.EINVAL

    def __init__(self, message: str, *, bus: Bus, name: str) -> None:
        super().__init__(message)
        self.bus = bus
        self.name = name


class ChainExistsError(BusError):
    """The bus has a chain of that name."""

    errno: int = _errno.EEXIST


class ChainInUseError(BusError):
    """There are blocks on the chain."""

    errno: int = _errno.EBUSY


class ChainNotFoundError(BusError, KeyError):
    """The bus has no chain of that name."""

    errno: int = _errno.ENOENT

    def __str__(self) -> str:
        return printable(Exception.__str__(self))  # a KeyError would show it in quotes


class ModuleError(TocsinError):
    """A module could not be loaded, used or unloaded.

    ``module`` is its name, and ``errno`` what the kernel would answer, as a positive number.
    """

    errno: int = _errno.EINVAL

    def __init__(self, message: str, *, module: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.module = module
        if errno is not None:
            self.errno = errno


class ModuleLoadError(ModuleError):
    """The module cannot be found or read, or its body or ``module_init`` failed.

    What was raised there is the ``__cause__``; an errno that ``module_init`` gave is ``errno``.
    """


class ModuleLoadedError(ModuleError):
    """A module of that name is loaded already, or on its way in or out."""

    errno: int = _errno.EEXIST


class ModuleInUseError(ModuleError):
    """Other modules use it, others' blocks are on its chains, or it is on its way in or out.

    ``errno`` is EAGAIN in the first two cases, EBUSY in the last.
    """

    errno: int = _errno.EBUSY


class ModuleNotLoadedError(ModuleError):
    """No module of that name is loaded."""

    errno: int = _errno.ENOENT


class ModuleDependencyError(ModuleNotLoadedError):
    """What ``module`` needs is not loaded: the kernel's "Unknown symbol in module"."""


class ModuleTimeoutError(ModuleError, TimeoutError):
    """The ``module_exit`` or a callback of a module took too long; the module is unloaded."""

    errno: int = _errno.ETIMEDOUT  # pyright: ignore[reportIncompatibleVariableOverride] - as above
