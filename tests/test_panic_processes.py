"""Panics of real processes: each test starts a Python that dies, and reads what it left behind.

Both streams of a child go into one pipe, so that the order of what the notifiers write and of what
Python's own hooks print shows.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PROGRAM = '''
import contextlib
import os
import signal
import sys
import threading
import warnings

from tocsin.panic import PanicNotifier

death, kexec = sys.argv[1:]
in_mid_panic, may_go_on = threading.Event(), threading.Event()


def say(what, info):
    os.write(1, f"{what} | {info.thread_name} | {info.reason}\\n".encode())


def dump_state(event, info):
    say("dump_state", info)
    if info.reason.startswith("OuterError"):
        inner(death)
    if death == "forked" and info.thread_name == "worker":
        in_mid_panic.set()
        may_go_on.wait()


def flush_logs(event, info):
    say("flush_logs", info)


def crash_kexec(info):
    say("crash_kexec", info)
    if kexec.startswith("failing"):
        raise OSError("no room for the dump")


class OuterError(Exception):
    """What the inner deaths begin with."""


def inner(death):
    """What a notifier may do wrong in the middle of a panic."""
    if death == "notifier-raises":
        raise ValueError("in the notifier")
    if death == "notifier-exits":
        sys.exit(7)
    if death == "notifier-panics":
        try:
            raise ValueError("in the notifier")
        except ValueError:
            sys.excepthook(*sys.exc_info())
    if death == "notifier-is-killed":
        os.kill(os.getpid(), signal.SIGTERM)
    if death == "notifier-loses-a-thread":
        run_threads(1)
    if death == "notifier-forks":
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGTERM)
        os.waitpid(child, 0)


def fork_in_mid_panic():
    """Let the main thread die in a child that was forked while another thread panicked."""
    worker = threading.Thread(target=die, args=["main"], name="worker")
    worker.start()
    in_mid_panic.wait()
    with warnings.catch_warnings():  # a fork with threads is what is tried here
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        raise RuntimeError("in the child")
    _, status = os.waitpid(child, 0)
    os.write(1, f"child | {os.waitstatus_to_exitcode(status)}\\n".encode())
    may_go_on.set()
    worker.join()


def run_threads(number):
    together = threading.Barrier(number)

    def work():
        together.wait()
        raise RuntimeError("no disk")

    threads = [threading.Thread(target=work, name=f"worker{n}") for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def exhaust_files():
    with contextlib.suppress(OSError):
        while True:
            os.open(os.devnull, os.O_RDONLY)


def die(death):
    if death in ("main", "leaving"):
        raise RuntimeError("no disk")
    if death == "thread":
        run_threads(1)
    if death == "threads":
        run_threads(2)
    if death == "forked":
        fork_in_mid_panic()
    if death.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, death))
    if death.startswith("notifier-"):
        raise OuterError
    if death == "exit":
        sys.exit(3)
    if death == "interrupt":
        raise KeyboardInterrupt
    if death == "no-files-left":
        exhaust_files()
        raise OuterError


notifier = PanicNotifier(
    crash_kexec=None if kexec == "none" else crash_kexec,
    crash_kexec_post_notifiers=kexec.endswith("post"),
    turn_timeout={"notifier-loses-a-thread": 0.01, "forked": 0}.get(death, 10),
)
notifier.register(dump_state)
notifier.register(flush_logs)
installed = notifier.installed(signals=[signal.SIGTERM, signal.SIGABRT])
if death == "leaving":
    with installed:
        die(death)
else:
    installed.__enter__()
    die(death)
print("still alive", flush=True)
'''


class Death(NamedTuple):
    """What is left of a child."""

    ran: list[str]
    """What notifiers and crash_kexec wrote, and ``traceback`` for each one that Python printed."""
    status: int
    output: str

    @property
    def names(self) -> list[str]:
        return [line.split(" | ")[0] for line in self.ran]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("panic") / "dying program.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return path


@pytest.fixture
def dies(program: Path) -> Callable[..., Death]:
    def run(death: str, kexec: str = "none", filter_text: str | None = None) -> Death:
        # A coverage measurement of its own would hook the signals too.
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("COV_", "COVERAGE_", "PANIC_", "PYTHON"))
        }
        if filter_text is not None:
            env["PANIC_NOTIFIER_FILTER"] = filter_text
        done = subprocess.run(
            [sys.executable, str(program), death, kexec],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return Death(what_ran(done.stdout), done.returncode, done.stdout)

    return run


def what_ran(output: str) -> list[str]:
    found = re.finditer(
        r"^(?:(?P<traceback>Traceback \(most)|(?P<log>event=)|\w+ \| .*|still alive)",
        output,
        re.MULTILINE,
    )
    return [match.lastgroup or match[0] for match in found]


def told(names: Sequence[str], thread: str, reason: str) -> list[str]:
    return [f"{name} | {thread} | {reason}" for name in names]


# What runs in a panic, whatever it was that killed the process.
FILTERS_AND_KEXECS = [
    (None, "none", ["dump_state", "flush_logs"]),
    (None, "first", ["crash_kexec"]),
    (None, "post", ["dump_state", "flush_logs", "crash_kexec"]),
    ("flush_logs", "none", ["flush_logs"]),
    ("flush_logs", "first", ["crash_kexec"]),
    ("flush_logs", "post", ["flush_logs", "crash_kexec"]),
]
each_filter_and_kexec = pytest.mark.parametrize(
    ("filter_text", "kexec", "names"), FILTERS_AND_KEXECS
)


@each_filter_and_kexec
@pytest.mark.parametrize("death", ["main", "leaving"])
def test_an_exception_in_the_main_thread(
    dies: Callable[..., Death], death: str, kexec: str, filter_text: str | None, names: list[str]
) -> None:
    child = dies(death, kexec, filter_text)
    assert child.ran == [*told(names, "MainThread", "RuntimeError: no disk"), "traceback"]
    assert child.output.endswith("\nRuntimeError: no disk\n")
    assert child.status == 1


@each_filter_and_kexec
def test_an_exception_in_a_second_thread(
    dies: Callable[..., Death], kexec: str, filter_text: str | None, names: list[str]
) -> None:
    child = dies("thread", kexec, filter_text)
    assert child.ran == [
        *told(names, "worker0", "RuntimeError: no disk"),
        "traceback",
        "still alive",
    ]
    assert "Exception in thread worker0:\n" in child.output
    assert child.status == 0


@each_filter_and_kexec
def test_exceptions_in_two_threads_at_once_are_told_one_after_the_other(
    dies: Callable[..., Death], kexec: str, filter_text: str | None, names: list[str]
) -> None:
    child = dies("threads", kexec, filter_text)
    turns = [told(names, f"worker{n}", "RuntimeError: no disk") for n in (0, 1)]
    written = [line for line in child.ran if "|" in line]
    assert written in (turns[0] + turns[1], turns[1] + turns[0])
    assert child.ran.count("traceback") == 2
    assert "Exception in thread worker0:\n" in child.output
    assert "Exception in thread worker1:\n" in child.output
    assert child.ran[-1] == "still alive"
    assert child.status == 0


@each_filter_and_kexec
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGABRT])
def test_a_signal(
    dies: Callable[..., Death],
    number: signal.Signals,
    kexec: str,
    filter_text: str | None,
    names: list[str],
) -> None:
    child = dies(number.name, kexec, filter_text)
    reason = f"signal {int(number)} ({signal.strsignal(number)})"
    assert child.ran == told(names, "MainThread", reason)
    assert child.status == -number


# What dump_state does wrong in mid-panic is logged, and the panic goes on. A filter or a
# crash_kexec that keeps it from running spares us all that.
TROUBLE = {
    "notifier-raises": ["dump_state", "log", "flush_logs"],
    "notifier-exits": ["dump_state", "log"],
    "notifier-panics": ["dump_state", "log", "traceback", "flush_logs"],
    "notifier-loses-a-thread": ["dump_state", "log", "traceback", "flush_logs"],
    "notifier-forks": ["dump_state", "log", "flush_logs"],
}


@pytest.mark.parametrize("death", TROUBLE)
@each_filter_and_kexec
def test_trouble_inside_a_notifier_is_logged_and_the_panic_goes_on(
    dies: Callable[..., Death],
    death: str,
    kexec: str,
    filter_text: str | None,
    names: list[str],
) -> None:
    child = dies(death, kexec, filter_text)
    after = [name for name in names if name == "crash_kexec"]
    expected = [*TROUBLE[death], *after] if "dump_state" in names else names
    assert child.names == [*expected, "traceback"]
    assert child.output.endswith("OuterError\n")
    assert child.status == 1


@pytest.mark.parametrize("filter_text", [None, "dump_state"])
@pytest.mark.parametrize("kexec", ["none", "post"])
def test_a_signal_inside_a_notifier_kills_at_once_with_its_own_status(
    dies: Callable[..., Death], kexec: str, filter_text: str | None
) -> None:
    child = dies("notifier-is-killed", kexec, filter_text)
    assert child.names == ["dump_state", "log"]
    assert "panic inside a panic" in child.output
    assert child.status == -signal.SIGTERM


@pytest.mark.parametrize(
    ("kexec", "names"),
    [
        ("failing-first", ["crash_kexec", "log", "dump_state", "flush_logs"]),
        ("failing-post", ["dump_state", "flush_logs", "crash_kexec", "log"]),
    ],
)
def test_a_crash_kexec_that_fails_lets_the_panic_go_on(
    dies: Callable[..., Death], kexec: str, names: list[str]
) -> None:
    child = dies("main", kexec)
    assert child.names == [*names, "traceback"]
    assert "OSError: no room for the dump" in child.output
    assert child.status == 1


def test_a_child_that_was_forked_in_the_middle_of_a_panic_has_its_own_at_once(
    dies: Callable[..., Death],
) -> None:
    child = dies("forked")
    assert child.ran == [
        "dump_state | worker | RuntimeError: no disk",
        *told(["dump_state", "flush_logs"], "MainThread", "RuntimeError: in the child"),
        "traceback",
        "child | 1",
        "flush_logs | worker | RuntimeError: no disk",
        "traceback",
        "still alive",
    ]
    assert child.status == 0


def test_an_exit_is_no_panic(dies: Callable[..., Death]) -> None:
    child = dies("exit")
    assert (child.output, child.status) == ("", 3)


def test_an_interrupt_is_no_panic(dies: Callable[..., Death]) -> None:
    child = dies("interrupt")
    assert child.ran == ["traceback"]
    assert child.status == -signal.SIGINT


def test_a_process_that_has_no_file_left_to_open_can_still_tell(
    dies: Callable[..., Death],
) -> None:
    child = dies("no-files-left", "failing-post")
    assert child.names == ["dump_state", "flush_logs", "crash_kexec", "log", "traceback"]
    assert child.status == 1


def test_a_filter_without_a_valid_name_ends_the_program_before_it_begins(
    dies: Callable[..., Death],
) -> None:
    child = dies("main", filter_text="two words")
    assert "FilterError: environment variable PANIC_NOTIFIER_FILTER" in child.output
    assert child.names[-1] == "traceback"
    assert child.status == 1
