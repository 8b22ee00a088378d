"""The panic chain: who is told when a program dies of an uncaught exception or of a signal.

Owns an `AtomicChain` and the hooks that call it. Refuses to know what a notifier does, and never
stands in for what Python does anyway: the hooks that were there before always run, last.

The order is kdump's. Who has set up ``crash_kexec`` wants the evidence as it is, before anything
else touches the dying process, so the notifiers are skipped; ``crash_kexec_post_notifiers`` trades
that for hearing them first, and ``PANIC_NOTIFIER_FILTER`` says which of them are safe enough.

Invariants: nothing that a notifier, ``crash_kexec`` or a log handler raises keeps the previous hook
from running; in a process, one panic of a notifier runs at a time at most; a hook whose
installation is over only passes on, since somebody who hooked in on top may call it for ever.

Source: ``panic()`` in ``kernel/panic.c``; the ``panic_notifier_filter`` patch.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from . import _log
from .callables import is_async_callable
from .chains import AtomicChain
from .checks import check_bool, check_seconds
from .errors import AsyncCallbackError, InvalidTypeError, InvalidValueError, TocsinError
from .filters import NameFilter
from .wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from threading import Thread
    from types import FrameType, TracebackType
    from typing import TypeAlias, Unpack

    from ._typing import SyncResult
    from .block import AnyBlock, NotifierBlock
    from .options import BlockOptions

    Kinds: TypeAlias = tuple[type[BaseException], ...]
    PanicBlock: TypeAlias = "NotifierBlock[int, PanicInfo, SyncResult]"

__all__ = [
    "FILTER_LIMIT",
    "FILTER_VARIABLE",
    "PANIC_EVENT",
    "TURN_TIMEOUT",
    "PanicInfo",
    "PanicInstallError",
    "PanicNotifier",
]

PANIC_EVENT = 0
"""The one event of the panic chain."""
FILTER_VARIABLE = "PANIC_NOTIFIER_FILTER"
"""The environment variable that holds the filter when the code gives none."""
FILTER_LIMIT = 16
"""How many entries of `FILTER_VARIABLE` count; surplus ones are discarded with a warning."""
TURN_TIMEOUT = 10.0
"""How long, in seconds, a panic waits for that of another thread, unless told otherwise."""
_ENDS = (KeyboardInterrupt, SystemExit)  # orderly ends, no panic


class PanicInstallError(TocsinError, RuntimeError):
    """The hooks could not be put in place; nothing was changed."""


class PanicInfo(NamedTuple):
    """What the notifiers are told about a panic. Frozen."""

    reason: str
    """Kind and words, as in ``RuntimeError: no disk`` or ``signal 15 (Terminated)``."""
    exception: BaseException | None
    """The uncaught exception; ``None`` for a signal."""
    thread_name: str
    """The name of the thread that died."""
    thread_ident: int | None
    """Its ``threading.get_ident()``."""
    signal_number: int | None = None
    """The signal; ``None`` for an exception."""


class PanicNotifier:
    """An `AtomicChain` that is called when the program dies.

    ``filter`` says which notifiers are admitted; without one the environment variable
    ``PANIC_NOTIFIER_FILTER`` (``a,b,...``, at most 16 entries) does. ``crash_kexec`` is a function
    that takes the `PanicInfo` and saves the evidence: it runs at once, and the notifiers only when
    it fails; with ``crash_kexec_post_notifiers`` they run first, and it runs after them.
    ``turn_timeout`` bounds, in seconds from 0 to ``threading.TIMEOUT_MAX``, how long a panic waits
    for one of another thread.

    Raises `FilterError` for a variable without one valid entry, `InvalidTypeError`,
    `InvalidValueError`, `AsyncCallbackError` for an async ``crash_kexec``. Legal in any thread.
    Source: ``panic_notifier_list`` in ``kernel/panic.c``.
    """

    chain: AtomicChain[int, PanicInfo]
    """The chain, named ``panic``: for its filter, `only`, or a bus."""

    def __init__(
        self,
        *,
        filter: Callable[[AnyBlock], bool] | None = None,  # noqa: A002 - the option's name
        crash_kexec: Callable[[PanicInfo], object] | None = None,
        crash_kexec_post_notifiers: bool = False,
        turn_timeout: float = TURN_TIMEOUT,
    ) -> None:
        _check_options(crash_kexec, crash_kexec_post_notifiers, turn_timeout)
        if filter is None:
            filter = NameFilter.from_env(FILTER_VARIABLE, limit=FILTER_LIMIT)  # noqa: A001
        self.chain = AtomicChain("panic", errors="isolate", filter=filter)
        self._crash_kexec = crash_kexec
        self._post_notifiers = crash_kexec_post_notifiers
        self._turn_timeout = turn_timeout
        # By process: a fork copies a lock, but not the thread that holds it. Re-entrant: a signal
        # handler may panic in the middle of a panic of its own thread.
        self._turns = {os.getpid(): threading.RLock()}
        self._panicking: Thread | None = None
        self._installed = threading.Lock()

    def register(
        self,
        target: PanicBlock | Callable[[int, PanicInfo], SyncResult],
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> PanicBlock:
        """Put a notifier on the chain; give its block.

        It is called as ``callback(PANIC_EVENT, info)`` in the thread that dies, or in a signal
        handler, so it must not block. An exception of it is logged and the others run; what is no
        `Exception` (``sys.exit()``) is logged and ends the walk. A block that the filter leaves out
        is parked, silently. Parameters, errors and context as `AtomicChain.register`.
        Source: ``atomic_notifier_chain_register(&panic_notifier_list, ...)``.
        """
        return self.chain.register(target, unique_priority=unique_priority, **options)

    def unregister(self, block: PanicBlock) -> None:
        """Take a notifier off, as `AtomicChain.unregister` does. Legal in any thread and callback.

        Raises `NotRegisteredError`. Source: ``atomic_notifier_chain_unregister()``.
        """
        self.chain.unregister(block)

    def installed(self, signals: Iterable[int] = ()) -> AbstractContextManager[PanicNotifier, None]:
        """Put the hooks in place for as long as the context is open.

        They are ``sys.excepthook``, ``threading.excepthook`` and the given fatal ``signals``. Hold
        it open around the whole program, threads included::

            with notifier.installed(signals=[signal.SIGTERM]):
                main()

        A panic is an exception that nobody caught, in any thread, or one of the signals. One that
        leaves the ``with`` block is too, also when it is caught further out, since the hooks are
        gone before Python would ask them. None are `KeyboardInterrupt` and `SystemExit`; of those
        that leave, nor cancellation and `GeneratorExit`; nor a group of nothing else.

        After a panic the previous hook runs, always: for a signal its previous Python handler, or
        else its default action, so that the exit status is the signal's. A signal that was ignored
        stays ignored. One that comes out of C code (SIGSEGV; SIGABRT from ``abort()``) never
        reaches a Python handler: take ``faulthandler`` for those.

        A panic inside a panic of the same thread does not recurse, and one that has waited
        ``turn_timeout`` for another thread gives up: each is logged, and goes to the previous hook.

        Leaving puts the previous hooks back, save where somebody has hooked in on top: there ours
        stays in line and only passes on. Entering raises `PanicInstallError` when this notifier is
        installed already (two different ones may nest), for signals outside the main thread, and
        for a signal that cannot be handled; `InvalidTypeError` when ``signals`` is no collection;
        then nothing is changed. Leave it in the thread that entered it.
        """
        return _Installation(self, signals)

    def _panic(self, info: PanicInfo) -> None:
        """Run a panic when its turn comes, or log that it was not run."""
        this = threading.current_thread()
        if self._panicking is this:
            _skip("no notifier ran for a panic inside a panic", info)
            return
        turn = self._turns.setdefault(os.getpid(), threading.RLock())
        if not turn.acquire(timeout=self._turn_timeout):
            _skip("no notifier ran for a panic: another thread's took too long", info)
            return
        try:
            self._panicking = this
            self._run(info)
        finally:
            self._panicking = None
            turn.release()

    def _run(self, info: PanicInfo) -> None:
        save, post = self._crash_kexec, self._post_notifiers
        # As in the kernel, a crash_kexec that fails lets the panic go on.
        if save is not None and not post and _succeeds("crash_kexec", save, info):
            return
        _succeeds("the panic chain", self.chain.call, PANIC_EVENT, info)
        if save is not None and post:
            _succeeds("crash_kexec", save, info)


class _Installation:
    """The hooks of one `PanicNotifier.installed`, in place from enter to exit."""

    def __init__(self, notifier: PanicNotifier, signals: Iterable[int]) -> None:
        self._notifier = notifier
        self._signals = signals
        self._is_active = False
        self._was_entered = False
        self._undo = ExitStack()

    def __enter__(self) -> PanicNotifier:
        signals = _check_signals(self._signals)
        if self._was_entered or not self._notifier._installed.acquire(blocking=False):
            raise PanicInstallError(
                "this PanicNotifier is installed already; leave that first, and call installed() "
                "anew each time"
            )
        with ExitStack() as undo:
            undo.callback(self._end)
            import_module("structlog")  # for the log; a crash may be one of too many open files
            self._is_active = self._was_entered = True
            undo.callback(self._hook_sys())
            undo.callback(self._hook_threading())
            for number in signals:
                undo.callback(self._hook_signal(number))
            self._undo = undo.pop_all()
        return self._notifier

    def __exit__(self, kind: object, value: BaseException | None, traceback: object) -> None:
        with self._undo:
            if value is not None:
                self._report(type(value), value, threading.current_thread(), _not_ours())

    def _end(self) -> None:
        self._is_active = False
        self._notifier._installed.release()

    # The hooks. Each puts itself in place and gives the function that puts the previous one back.

    def _hook_sys(self) -> Callable[[], None]:
        previous = sys.excepthook

        def hook(
            kind: type[BaseException], value: BaseException, traceback: TracebackType | None
        ) -> None:
            try:
                self._report(kind, value, threading.current_thread())
            finally:
                previous(kind, value, traceback)

        def undo() -> None:
            if sys.excepthook is hook:
                sys.excepthook = previous

        sys.excepthook = hook
        return undo

    def _hook_threading(self) -> Callable[[], None]:
        previous = threading.excepthook

        def hook(args: threading.ExceptHookArgs) -> None:
            try:
                thread = args.thread or threading.current_thread()
                self._report(args.exc_type, args.exc_value, thread)
            finally:
                previous(args)

        def undo() -> None:
            if threading.excepthook is hook:
                threading.excepthook = previous

        threading.excepthook = hook
        return undo

    def _hook_signal(self, number: int) -> Callable[[], None]:
        def handler(signum: int, frame: FrameType | None) -> None:
            try:
                self._report_signal(signum)
            finally:
                if callable(previous):
                    previous(signum, frame)
                else:
                    signal.signal(signum, signal.SIG_DFL)
                    signal.raise_signal(signum)

        def undo() -> None:
            if signal.getsignal(number) is handler:
                signal.signal(number, previous)

        try:
            previous = signal.getsignal(number)
            if previous is None:
                raise PanicInstallError(
                    f"signal {number} has a handler from outside Python, which could not be called "
                    f"after the panic nor put back; leave it out"
                )
            if previous is not signal.SIG_IGN:
                signal.signal(number, handler)
        except (TypeError, ValueError, OverflowError, OSError) as error:
            raise PanicInstallError(f"signal {shown(number)} cannot be hooked: {error}") from error
        return undo

    # What the hooks report.

    def _report(
        self,
        kind: type[BaseException],
        value: BaseException | None,
        thread: Thread,
        no_panic: Kinds = _ENDS,
    ) -> None:
        if self._is_active and not _is_any(kind, value, no_panic):
            reason = _describe(kind, value)
            self._notifier._panic(PanicInfo(reason, value, thread.name, thread.ident))

    def _report_signal(self, number: int) -> None:
        if self._is_active:
            thread = threading.current_thread()
            reason = f"signal {number} ({signal.strsignal(number)})"
            self._notifier._panic(PanicInfo(reason, None, thread.name, thread.ident, number))


def _check_options(crash_kexec: object, post_notifiers: bool, turn_timeout: float) -> None:
    if crash_kexec is not None and not callable(crash_kexec):
        raise InvalidTypeError(
            f"crash_kexec must be a function that takes the PanicInfo, not "
            f"{type(crash_kexec).__name__}"
        )
    if crash_kexec is not None and is_async_callable(crash_kexec):
        raise AsyncCallbackError(
            "crash_kexec is async, and a dying program awaits nothing; give a plain function"
        )
    check_bool(post_notifiers, "crash_kexec_post_notifiers")
    check_seconds(turn_timeout, "turn_timeout")
    if not 0 <= turn_timeout <= threading.TIMEOUT_MAX:
        raise InvalidValueError(
            f"turn_timeout must be from 0 to {threading.TIMEOUT_MAX} seconds, not {turn_timeout}"
        )


def _check_signals(signals: Iterable[int]) -> tuple[int, ...]:
    try:
        numbers = tuple(dict.fromkeys(signals))
    except TypeError:
        raise InvalidTypeError(
            f"signals must be a collection of signal numbers, not {type(signals).__name__}; "
            f"did you mean signals=[signal.SIGTERM]?"
        ) from None
    if numbers and threading.current_thread() is not threading.main_thread():
        raise PanicInstallError(
            "signals can be hooked in the main thread only; "
            "install there, or leave them out in this thread"
        )
    return numbers


def _not_ours() -> Kinds:
    """Give what may leave the block and be no panic: whoever closes or cancels it awaits that."""
    loops = (("asyncio", "CancelledError"), ("trio", "Cancelled"))
    cancelled = (getattr(sys.modules.get(loop), name, GeneratorExit) for loop, name in loops)
    return (*_ENDS, GeneratorExit, *cancelled)


def _is_any(kind: type[BaseException], value: BaseException | None, kinds: Kinds) -> bool:
    """Say whether it is of these kinds throughout; a task group wraps Ctrl-C in a group."""
    if isinstance(value, BaseExceptionGroup):
        return all(_is_any(type(one), one, kinds) for one in value.exceptions)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType, reportUnknownVariableType]
    return issubclass(kind, kinds)


def _describe(kind: type[BaseException], value: BaseException | None) -> str:
    """Say kind and words of an exception, as the last line of its traceback does."""
    try:
        text = "" if value is None else str(value)
    except BaseException:  # the words matter less than the panic
        text = "<exception str() failed>"
    return f"{kind.__name__}: {text}" if text else kind.__name__


def _succeeds(what: str, call: Callable[..., object], *args: object) -> bool:
    """Call, and log what is raised, of any kind: in a dying program there is nobody to catch it."""
    try:
        call(*args)
    except BaseException as error:
        _log.warn(f"{what} failed in a panic", error=error)
        return False
    return True


def _skip(why: str, info: PanicInfo) -> None:
    _log.warn(why, reason=info.reason, thread=info.thread_name)
