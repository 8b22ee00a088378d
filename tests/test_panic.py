"""The panic chain in a process that lives on; `test_panic_processes` has the ones that die."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from tocsin import (
    NOTIFY_STOP,
    AsyncCallbackError,
    FilterError,
    InvalidTypeError,
    InvalidValueError,
    NameFilter,
    NotifierBlock,
    NotRegisteredError,
    PriorityInUseError,
    TocsinError,
)
from tocsin.bus import Bus
from tocsin.panic import (
    FILTER_LIMIT,
    FILTER_VARIABLE,
    PANIC_EVENT,
    TURN_TIMEOUT,
    PanicInfo,
    PanicInstallError,
    PanicNotifier,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from tocsin.panic import PanicBlock

HARMLESS = signal.SIGURG  # its default action is to do nothing
PATIENCE = 30  # seconds until a test that hangs gives up


class Ran(list[str]):
    """What ran, in order; makes notifiers and other functions that write themselves down."""

    def notifier(self, name: str, error: BaseException | None = None) -> PanicBlock:
        def run(event: int, info: PanicInfo) -> None:
            self.append(name)
            if error is not None:
                raise error

        return NotifierBlock(run, name=name)

    def saver(self, error: BaseException | None = None) -> Callable[[PanicInfo], None]:
        def crash_kexec(info: PanicInfo) -> None:
            self.append("crash_kexec")
            if error is not None:
                raise error

        return crash_kexec


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Give the record, in which the previous hooks are the last to write."""
    record = Ran()
    monkeypatch.delenv(FILTER_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "excepthook", lambda *args: record.append("sys hook"))
    monkeypatch.setattr(threading, "excepthook", lambda args: record.append("threading hook"))
    return record


@pytest.fixture
def harmless_signal() -> Iterator[None]:
    yield
    signal.signal(HARMLESS, signal.SIG_DFL)


def die(error: BaseException) -> None:
    """Do what Python does with an exception that nobody caught."""
    sys.excepthook(type(error), error, error.__traceback__)


def die_in_a_thread(error: BaseException, name: str = "worker") -> threading.Thread:
    def run() -> None:
        raise error

    thread = threading.Thread(target=run, name=name)
    thread.start()
    return thread


# What a notifier is told.


def test_an_uncaught_exception_reaches_the_notifiers_and_then_the_previous_hook(ran: Ran) -> None:
    told: list[tuple[int, PanicInfo]] = []
    notifier = PanicNotifier()
    notifier.register(lambda event, info: told.append((event, info)), name="teller")
    notifier.register(ran.notifier("a"))
    error = RuntimeError("no disk")
    with notifier.installed() as entered:
        assert entered is notifier
        die(error)
    thread = threading.current_thread()
    info = PanicInfo("RuntimeError: no disk", error, thread.name, thread.ident, None)
    assert told == [(PANIC_EVENT, info)]
    assert ran == ["a", "sys hook"]


def test_panic_info_is_frozen() -> None:
    info = PanicInfo("reason", None, "MainThread", 1)
    with pytest.raises(AttributeError):
        info.reason = "other"  # type: ignore[misc]


def test_a_thread_that_dies_is_a_panic_of_that_thread(ran: Ran) -> None:
    told: list[PanicInfo] = []
    notifier = PanicNotifier()
    notifier.register(lambda event, info: told.append(info), name="teller")
    with notifier.installed():
        thread = die_in_a_thread(KeyError("key"))
        thread.join()
    [info] = told
    assert (info.reason, info.thread_name) == ("KeyError: 'key'", "worker")
    assert info.thread_ident == thread.ident
    assert ran == ["threading hook"]


def test_a_thread_hook_called_without_a_thread_or_value_copes(ran: Ran) -> None:
    told: list[PanicInfo] = []
    notifier = PanicNotifier()
    notifier.register(lambda event, info: told.append(info), name="teller")
    with notifier.installed():
        threading.excepthook(threading.ExceptHookArgs((OSError, None, None, None)))
    [info] = told
    assert (info.reason, info.exception) == ("OSError", None)
    assert info.thread_ident == threading.get_ident()


def test_an_exception_without_words_or_with_failing_ones_has_a_reason(ran: Ran) -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    told: list[str] = []
    notifier = PanicNotifier()
    notifier.register(lambda event, info: told.append(info.reason), name="teller")
    with notifier.installed():
        die(ValueError())
        die(SilentError())
    assert told == ["ValueError", "SilentError: <exception str() failed>"]


def test_a_notifier_can_stop_the_walk_and_the_previous_hook_still_runs(ran: Ran) -> None:
    notifier = PanicNotifier()
    notifier.register(lambda event, info: NOTIFY_STOP, name="stopper", priority=1)
    notifier.register(ran.notifier("a"))
    with notifier.installed():
        die(RuntimeError())
    assert ran == ["sys hook"]


def test_an_unregistered_notifier_is_not_called(ran: Ran) -> None:
    notifier = PanicNotifier()
    block = notifier.register(ran.notifier("a"))
    notifier.unregister(block)
    with pytest.raises(NotRegisteredError, match="panic"):
        notifier.unregister(block)
    with notifier.installed():
        die(RuntimeError())
    assert ran == ["sys hook"]


# What is a panic.


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(1),
        BaseExceptionGroup("from a task group", [KeyboardInterrupt()]),
        BaseExceptionGroup("", [BaseExceptionGroup("", [SystemExit()]), KeyboardInterrupt()]),
    ],
    ids=repr,
)
def test_an_orderly_end_is_no_panic(ran: Ran, error: BaseException) -> None:
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a"))
    with notifier.installed():
        die(error)
        die_in_a_thread(error).join()
    # For SystemExit too: Python asks threading.excepthook, and that is silent about it.
    assert ran == ["sys hook", "threading hook"]


def test_a_group_with_anything_else_in_it_is_a_panic(ran: Ran) -> None:
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a"))
    with notifier.installed():
        die(BaseExceptionGroup("", [KeyboardInterrupt(), OSError()]))
    assert ran == ["a", "sys hook"]


def test_an_exception_that_leaves_the_block_is_a_panic(ran: Ran) -> None:
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a"))
    previous = sys.excepthook
    with pytest.raises(RuntimeError), notifier.installed():
        raise RuntimeError
    assert sys.excepthook is previous
    assert ran == ["a"]


class Fatal(BaseException):
    """One of those that are neither an `Exception` nor an orderly end."""


HOWEVER_IT_LEAVES = [
    (OSError(), True),
    (Fatal(), True),
    (ExceptionGroup("", [OSError()]), True),
    (BaseExceptionGroup("", [Fatal()]), True),
    (BaseExceptionGroup("", [KeyboardInterrupt(), OSError()]), True),
    (BaseExceptionGroup("", [BaseExceptionGroup("", [SystemExit(), Fatal()])]), True),
    (KeyboardInterrupt(), False),
    (SystemExit(1), False),
    (BaseExceptionGroup("", [KeyboardInterrupt(), SystemExit()]), False),
]


@pytest.mark.parametrize(("error", "is_panic"), HOWEVER_IT_LEAVES, ids=repr)
def test_it_is_the_same_whether_it_leaves_the_block_or_dies_in_a_thread(
    ran: Ran, error: BaseException, is_panic: bool
) -> None:
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a"))
    with notifier.installed():
        die(error)
        die_in_a_thread(error).join()
    with pytest.raises(type(error)), notifier.installed():
        raise error
    told = ["a"] if is_panic else []
    assert ran == [*told, "sys hook", *told, "threading hook", *told]


PASSING = [
    (GeneratorExit(), False),
    (asyncio.CancelledError(), False),
    (BaseExceptionGroup("", [asyncio.CancelledError(), KeyboardInterrupt()]), False),
    (BaseExceptionGroup("", [asyncio.CancelledError(), OSError()]), True),
]


@pytest.mark.parametrize(("error", "is_panic"), PASSING, ids=repr)
def test_what_is_caught_further_out_may_leave_but_nobody_else_catches_it_in_a_hook(
    ran: Ran, error: BaseException, is_panic: bool
) -> None:
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a"))
    with pytest.raises(type(error)), notifier.installed():
        raise error
    assert ran == (["a"] if is_panic else [])
    ran.clear()
    with notifier.installed():
        die(error)
    assert ran == ["a", "sys hook"]


@pytest.mark.anyio
async def test_a_cancellation_that_leaves_the_block_is_no_panic(ran: Ran) -> None:
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a"))
    with anyio.CancelScope() as scope, notifier.installed():
        scope.cancel()
        await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert ran == []


# Hooks in and out.


def test_leaving_puts_the_previous_hooks_back(ran: Ran) -> None:
    previous = sys.excepthook, threading.excepthook, signal.getsignal(HARMLESS)
    with PanicNotifier().installed(signals=[HARMLESS]):
        ours = sys.excepthook, threading.excepthook, signal.getsignal(HARMLESS)
        assert all(a is not b for a, b in zip(ours, previous, strict=True))
    assert (sys.excepthook, threading.excepthook, signal.getsignal(HARMLESS)) == previous


def test_a_hook_that_somebody_covered_stays_in_line_and_only_passes_on(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, harmless_signal: None
) -> None:
    signal.signal(HARMLESS, lambda number, frame: ran.append("signal handler"))
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a"))
    with notifier.installed(signals=[HARMLESS]):
        ours, ours_threading, ours_signal = (
            sys.excepthook,
            threading.excepthook,
            signal.getsignal(HARMLESS),
        )
        assert callable(ours_signal)

        def sys_cover(*args: Any) -> None:
            ran.append("cover")
            ours(*args)

        def threading_cover(args: threading.ExceptHookArgs) -> None:
            ran.append("cover")
            ours_threading(args)

        def signal_cover(number: int, frame: FrameType | None) -> None:
            ran.append("cover")
            ours_signal(number, frame)

        sys.excepthook, threading.excepthook = sys_cover, threading_cover
        signal.signal(HARMLESS, signal_cover)
        die(RuntimeError())
        assert ran == ["cover", "a", "sys hook"]
    assert (sys.excepthook, threading.excepthook) == (sys_cover, threading_cover)
    assert signal.getsignal(HARMLESS) is signal_cover

    ran.clear()
    die(RuntimeError())
    die_in_a_thread(RuntimeError()).join()
    signal.raise_signal(HARMLESS)
    assert ran == ["cover", "sys hook", "cover", "threading hook", "cover", "signal handler"]

    # Installed anew on top of the cover, the notifiers run once, not once more below it.
    ran.clear()
    with notifier.installed():
        die(RuntimeError())
    assert ran == ["a", "cover", "sys hook"]


def test_one_notifier_is_installed_once_at_a_time(ran: Ran) -> None:
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a"))
    with notifier.installed():
        with pytest.raises(PanicInstallError, match="installed already"), notifier.installed():
            pass
        die(RuntimeError())
    assert ran == ["a", "sys hook"]
    with notifier.installed():
        pass


def test_an_installation_is_entered_once(ran: Ran) -> None:
    installation = PanicNotifier().installed()
    with installation:
        pass
    previous = sys.excepthook
    with pytest.raises(PanicInstallError, match="anew"), installation:
        pass
    assert sys.excepthook is previous


def test_two_notifiers_nest_the_inner_one_first(ran: Ran) -> None:
    outer, inner = PanicNotifier(), PanicNotifier()
    outer.register(ran.notifier("outer"))
    inner.register(ran.notifier("inner"))
    with outer.installed(), inner.installed():
        die(RuntimeError())
    assert ran == ["inner", "outer", "sys hook"]


def test_an_installation_that_nobody_keeps_stays_in_place(ran: Ran) -> None:
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a"))
    notifier.installed().__enter__()
    die(RuntimeError())
    assert ran == ["a", "sys hook"]


# The filter.


def test_the_environment_gives_the_filter(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILTER_VARIABLE, "b,typo")
    notifier = PanicNotifier()
    a = notifier.register(ran.notifier("a"))
    notifier.register(ran.notifier("b"))
    with notifier.installed():
        die(RuntimeError())
    assert ran == ["b", "sys hook"]
    assert notifier.chain.parked == (a,)
    assert notifier.chain.unmatched_names == ("typo",)
    notifier.unregister(a)
    assert not notifier.chain.parked


def test_a_filter_in_the_code_wins(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILTER_VARIABLE, "not: valid")
    notifier = PanicNotifier(filter=NameFilter(["a"]))
    notifier.register(ran.notifier("a"))
    notifier.register(ran.notifier("b"))
    with notifier.installed():
        die(RuntimeError())
    assert ran == ["a", "sys hook"]


@pytest.mark.parametrize("text", ["", " \t"])
def test_blank_text_is_no_filter(ran: Ran, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(FILTER_VARIABLE, text)
    assert PanicNotifier().chain.filter is None


def test_entries_past_the_limit_are_discarded_and_the_filter_stays_on(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"n{number}" for number in range(FILTER_LIMIT + 2)]
    monkeypatch.setenv(FILTER_VARIABLE, ",".join(names))
    notifier = PanicNotifier()
    for name in [*names, "other"]:
        notifier.register(ran.notifier(name))
    with notifier.installed():
        die(RuntimeError())
    assert FILTER_LIMIT == 16
    assert ran == [*names[:16], "sys hook"]
    assert isinstance(notifier.chain.filter, NameFilter)
    assert notifier.chain.filter.discarded == ("n16", "n17")
    assert caplog.text.count("past the limit of 16") == 2


def test_text_without_a_valid_entry_fails_closed(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(FILTER_VARIABLE, "two words,:x")
    with pytest.raises(FilterError, match=FILTER_VARIABLE):
        PanicNotifier()
    assert caplog.text.count("discarded") == 2
    monkeypatch.setenv(FILTER_VARIABLE, ",")  # "$A,$B", both unset
    with pytest.raises(FilterError, match=FILTER_VARIABLE):
        PanicNotifier()


def test_the_limit_of_the_variable_holds_for_no_filter_from_elsewhere(ran: Ran) -> None:
    names = [f"n{number}" for number in range(FILTER_LIMIT + 2)]
    notifier = PanicNotifier(filter=NameFilter(names))
    for name in names:
        notifier.register(ran.notifier(name))
    with notifier.installed():
        die(RuntimeError())
    assert ran == [*names, "sys hook"]


def test_on_a_bus_the_operators_filter_takes_the_place_of_every_other(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FILTER_VARIABLE, "a")
    bus = Bus("bus")
    bus.set_filters({"panic": "b"})
    notifier = PanicNotifier()
    for name in ("a", "b"):
        notifier.register(ran.notifier(name))
    with notifier.installed():
        die(RuntimeError())
        bus.add(notifier.chain)
        die(RuntimeError())
    assert ran == ["a", "sys hook", "b", "sys hook"]


# crash_kexec.


def test_crash_kexec_runs_at_once_and_the_notifiers_are_skipped(ran: Ran) -> None:
    saved: list[PanicInfo] = []
    notifier = PanicNotifier(crash_kexec=saved.append)
    notifier.register(ran.notifier("a"))
    error = RuntimeError()
    with notifier.installed():
        die(error)
    assert [info.exception for info in saved] == [error]
    assert ran == ["sys hook"]


def test_crash_kexec_post_notifiers_runs_after_the_admitted_ones(ran: Ran) -> None:
    notifier = PanicNotifier(
        filter=NameFilter(["a"]), crash_kexec=ran.saver(), crash_kexec_post_notifiers=True
    )
    notifier.register(ran.notifier("a"))
    notifier.register(ran.notifier("b"))
    with notifier.installed():
        die(RuntimeError())
    assert ran == ["a", "crash_kexec", "sys hook"]


def test_a_crash_kexec_that_is_falsy_is_one_all_the_same(ran: Ran) -> None:
    class Saved(list[PanicInfo]):
        def __call__(self, info: PanicInfo) -> None:
            self.append(info)

    for post in (False, True):
        saved = Saved()
        notifier = PanicNotifier(crash_kexec=saved, crash_kexec_post_notifiers=post)
        with notifier.installed():
            die(RuntimeError())
        assert len(saved) == 1


def test_crash_kexec_post_notifiers_alone_changes_nothing(ran: Ran) -> None:
    notifier = PanicNotifier(crash_kexec_post_notifiers=True)
    notifier.register(ran.notifier("a"))
    with notifier.installed():
        die(RuntimeError())
    assert ran == ["a", "sys hook"]


@pytest.mark.parametrize("error", [OSError("no room"), SystemExit(), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize(
    ("post", "expected"),
    [
        (False, ["crash_kexec", "a", "sys hook"]),
        (True, ["a", "crash_kexec", "sys hook"]),
    ],
)
def test_a_crash_kexec_that_fails_lets_the_panic_go_on(
    ran: Ran,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    post: bool,
    expected: list[str],
) -> None:
    notifier = PanicNotifier(crash_kexec=ran.saver(error), crash_kexec_post_notifiers=post)
    notifier.register(ran.notifier("a"))
    with notifier.installed():
        die(RuntimeError())
    assert ran == expected
    assert "crash_kexec failed in a panic" in caplog.text


# Notifiers that misbehave.


def test_a_notifier_that_raises_is_logged_and_the_others_run(
    ran: Ran, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a", ValueError("oh")))
    notifier.register(ran.notifier("b"))
    with notifier.installed():
        die(RuntimeError())
    assert ran == ["a", "b", "sys hook"]
    assert "isolated" in caplog.text


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_a_notifier_that_ends_the_walk_keeps_neither_crash_kexec_nor_hooks_from_running(
    ran: Ran, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    notifier = PanicNotifier(crash_kexec=ran.saver(), crash_kexec_post_notifiers=True)
    notifier.register(ran.notifier("a", error))
    notifier.register(ran.notifier("b"))
    with notifier.installed():
        die(RuntimeError())
        die_in_a_thread(RuntimeError()).join()
    assert ran == ["a", "crash_kexec", "sys hook", "a", "crash_kexec", "threading hook"]
    assert caplog.text.count("the panic chain failed in a panic") == 2


def test_even_an_interrupted_log_call_does_not_keep_the_previous_hook_from_running(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **fields: object) -> None:
        raise KeyboardInterrupt

    notifier = PanicNotifier()
    notifier.register(ran.notifier("a", SystemExit()))
    monkeypatch.setattr("tocsin._log.warn", interrupted)
    with notifier.installed(), pytest.raises(KeyboardInterrupt):
        die(RuntimeError())
    assert ran == ["a", "sys hook"]


def test_after_an_interrupted_panic_the_next_one_gets_its_turn(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **fields: object) -> None:
        raise KeyboardInterrupt

    notifier = PanicNotifier(turn_timeout=0)
    notifier.register(ran.notifier("a", SystemExit()))
    with notifier.installed():
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("tocsin._log.warn", interrupted)
            die(RuntimeError())
        die_in_a_thread(RuntimeError()).join()
    assert ran == ["a", "sys hook", "a", "threading hook"]


def test_a_panic_inside_a_panic_does_not_recurse(
    ran: Ran, caplog: pytest.LogCaptureFixture
) -> None:
    def panicking(event: int, info: PanicInfo) -> None:
        ran.append("a")
        die(ValueError("inner"))

    notifier = PanicNotifier()
    notifier.register(panicking)
    notifier.register(ran.notifier("b"))
    with notifier.installed():
        die(RuntimeError("outer"))
        assert ran == ["a", "sys hook", "b", "sys hook"]
        assert "panic inside a panic" in caplog.text
        assert "ValueError: inner" in caplog.text
        ran.clear()
        die(RuntimeError("the next is no inner one"))
    assert ran == ["a", "sys hook", "b", "sys hook"]


# Two threads.


def test_a_panic_of_a_second_thread_waits_its_turn(ran: Ran) -> None:
    inside, go = threading.Event(), threading.Event()

    def slow(event: int, info: PanicInfo) -> None:
        ran.append(f"{info.thread_name} begins")
        inside.set()
        assert go.wait(PATIENCE)
        ran.append(f"{info.thread_name} ends")

    notifier = PanicNotifier()
    notifier.register(slow)
    with notifier.installed():
        first = die_in_a_thread(RuntimeError(), "first")
        assert inside.wait(PATIENCE)
        second = die_in_a_thread(RuntimeError(), "second")
        go.set()
        first.join()
        second.join()
    assert ran.count("threading hook") == 2
    assert [line for line in ran if line != "threading hook"] == [
        "first begins",
        "first ends",
        "second begins",
        "second ends",
    ]


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_a_panic_that_waited_too_long_is_logged_and_its_previous_hook_runs(
    ran: Ran, caplog: pytest.LogCaptureFixture, timeout: float
) -> None:
    def joins_another_dying_thread(event: int, info: PanicInfo) -> None:
        ran.append(info.thread_name)
        die_in_a_thread(ValueError("second")).join()

    notifier = PanicNotifier(turn_timeout=timeout)
    notifier.register(joins_another_dying_thread)
    with notifier.installed():
        die(RuntimeError("first"))
    assert ran == ["MainThread", "threading hook", "sys hook"]
    assert "took too long" in caplog.text
    assert "ValueError: second" in caplog.text


def test_a_fork_leaves_the_panic_of_another_thread_behind(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forks(event: int, info: PanicInfo) -> None:
        if info.thread_name == "MainThread":
            with monkeypatch.context() as patch:
                patch.setattr(os, "getpid", lambda: -1)
                die_in_a_thread(RuntimeError(), "first in the child").join()
        else:
            ran.append(info.thread_name)

    notifier = PanicNotifier(turn_timeout=0)
    notifier.register(forks)
    with notifier.installed():
        die(RuntimeError())
    assert ran == ["first in the child", "threading hook", "sys hook"]


def test_the_wait_for_another_thread_is_bounded_by_default() -> None:
    assert 0 < TURN_TIMEOUT < 60


# Signals.


def test_a_signal_is_a_panic_and_then_goes_to_its_previous_handler(
    ran: Ran, harmless_signal: None
) -> None:
    told: list[PanicInfo] = []
    frames: list[object] = []

    def previous(number: int, frame: object) -> None:
        ran.append(f"handler {number}")
        frames.append(frame)

    signal.signal(HARMLESS, previous)
    notifier = PanicNotifier()
    notifier.register(lambda event, info: told.append(info), name="teller")
    with notifier.installed(signals={HARMLESS}):
        signal.raise_signal(HARMLESS)
    [info] = told
    assert (info.exception, info.signal_number) == (None, HARMLESS)
    assert info.reason == f"signal {int(HARMLESS)} ({signal.strsignal(HARMLESS)})"
    assert info.thread_name == "MainThread"
    assert ran == [f"handler {int(HARMLESS)}"]
    assert frames[0] is not None
    assert signal.getsignal(HARMLESS) is previous


def test_a_signal_without_a_handler_gets_its_default_action(
    ran: Ran, harmless_signal: None
) -> None:
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a", SystemExit()))
    with notifier.installed(signals=[HARMLESS, HARMLESS]):
        signal.raise_signal(HARMLESS)
        assert signal.getsignal(HARMLESS) is signal.SIG_DFL
        signal.raise_signal(HARMLESS)
    assert ran == ["a"]


def test_an_interrupt_that_is_asked_for_still_interrupts(ran: Ran) -> None:
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a"))
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    try:
        with pytest.raises(KeyboardInterrupt), notifier.installed(signals=[signal.SIGINT]):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert ran == ["a"]


def test_an_ignored_signal_stays_ignored(ran: Ran, harmless_signal: None) -> None:
    signal.signal(HARMLESS, signal.SIG_IGN)
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a"))
    with notifier.installed(signals=[HARMLESS]):
        assert signal.getsignal(HARMLESS) is signal.SIG_IGN
        signal.raise_signal(HARMLESS)
    assert signal.getsignal(HARMLESS) is signal.SIG_IGN
    assert ran == []


@pytest.mark.parametrize("number", [signal.SIGKILL, 9999, 10**30, "SIGTERM"])
def test_a_signal_that_cannot_be_hooked_leaves_everything_as_it_was(
    ran: Ran, number: object
) -> None:
    previous = sys.excepthook, threading.excepthook, signal.getsignal(HARMLESS)
    notifier = PanicNotifier()
    with (
        pytest.raises(PanicInstallError, match="cannot be hooked"),
        notifier.installed(signals=[HARMLESS, number]),  # type: ignore[list-item]
    ):
        pass
    assert (sys.excepthook, threading.excepthook, signal.getsignal(HARMLESS)) == previous
    with notifier.installed():
        pass


def test_a_handler_from_outside_python_is_not_replaced(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    with (
        pytest.raises(PanicInstallError, match="outside Python"),
        PanicNotifier().installed(signals=[HARMLESS]),
    ):
        pass


def test_signals_are_a_collection(ran: Ran) -> None:
    with (
        pytest.raises(InvalidTypeError, match="did you mean"),
        PanicNotifier().installed(signals=signal.SIGTERM),  # type: ignore[arg-type]
    ):
        pass


def test_outside_the_main_thread_signals_are_refused_and_the_rest_works(ran: Ran) -> None:
    notifier = PanicNotifier()
    notifier.register(ran.notifier("a"))
    errors: list[TocsinError] = []

    def install() -> None:
        try:
            with notifier.installed(signals=[HARMLESS]):
                ran.append("not reached")
        except PanicInstallError as error:
            errors.append(error)
        with notifier.installed():
            die(RuntimeError())

    thread = threading.Thread(target=install)
    thread.start()
    thread.join()
    assert ["main thread" in str(error) for error in errors] == [True]
    assert ran == ["a", "sys hook"]


def test_a_priority_may_be_asked_for_alone() -> None:
    notifier = PanicNotifier()
    notifier.register(lambda event, info: None)
    with pytest.raises(PriorityInUseError):
        notifier.register(lambda event, info: None, unique_priority=True)


# Bad options.


def test_bad_options_are_refused(ran: Ran) -> None:
    async def crash_kexec(info: PanicInfo) -> None:
        raise AssertionError

    class Saver:
        async def __call__(self, info: PanicInfo) -> None:
            raise AssertionError

    with pytest.raises(InvalidTypeError, match="crash_kexec"):
        PanicNotifier(crash_kexec="kdump")  # type: ignore[arg-type]
    with pytest.raises(AsyncCallbackError, match="crash_kexec"):
        PanicNotifier(crash_kexec=crash_kexec)
    with pytest.raises(AsyncCallbackError, match="crash_kexec"):
        PanicNotifier(crash_kexec=Saver())
    with pytest.raises(InvalidTypeError, match="crash_kexec_post_notifiers must be True or False"):
        PanicNotifier(crash_kexec_post_notifiers="no")  # type: ignore[arg-type]
    for no_seconds in ("1", True):
        with pytest.raises(InvalidTypeError, match="seconds"):
            PanicNotifier(turn_timeout=no_seconds)  # type: ignore[arg-type]
    for timeout in (-1, float("nan"), float("inf"), 10**400):
        with pytest.raises(InvalidValueError, match="turn_timeout"):
            PanicNotifier(turn_timeout=timeout)
    with pytest.raises(InvalidTypeError, match="panic"):
        PanicNotifier(filter="a,b")  # type: ignore[arg-type]


def test_an_async_notifier_is_refused(ran: Ran) -> None:
    async def notify(event: int, info: PanicInfo) -> None:
        raise AssertionError

    with pytest.raises(AsyncCallbackError, match="panic"):
        PanicNotifier().register(notify)  # type: ignore[arg-type]
