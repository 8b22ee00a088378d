"""Who is told when a program dies, and how an operator chooses: the panic chain and its filter.

    python examples/panic_filter.py

crashes a program with three panic notifiers several times over, each time in a process of its own,
and says which of them ran; it ends with 0 when those ran that should. To crash it yourself::

    PANIC_NOTIFIER_FILTER=flush_logs python examples/panic_filter.py --crash main
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
from typing import NamedTuple

from tocsin.panic import FILTER_VARIABLE, PanicInfo, PanicNotifier

# The program that crashes.


def ring_bell(event: int, info: PanicInfo) -> None:
    """Raise: in a panic that keeps nobody else from running."""
    print("ring_bell: the bell is broken", flush=True)
    raise OSError("the bell is broken")


def dump_state(event: int, info: PanicInfo) -> None:
    """Say what the panic is about."""
    print(f"dump_state: {info.reason}", flush=True)


def flush_logs(event: int, info: PanicInfo) -> None:
    """Do something quick and safe."""
    print("flush_logs: done", flush=True)


def save_evidence(info: PanicInfo) -> None:
    """Be the crash_kexec: what must happen before anybody touches the dying program."""
    print("crash_kexec: evidence saved", flush=True)


def crash(how: str, *, kexec: bool, post_notifiers: bool) -> None:
    """Die in the main thread, in a worker thread or by a signal."""
    notifier = PanicNotifier(
        crash_kexec=save_evidence if kexec else None, crash_kexec_post_notifiers=post_notifiers
    )
    notifier.register(ring_bell, priority=10)
    notifier.register(dump_state)
    notifier.register(flush_logs)
    with notifier.installed(signals=[signal.SIGTERM]):
        if how == "main":
            fail()
        elif how == "thread":
            worker = threading.Thread(target=fail, name="worker")
            worker.start()
            worker.join()
        else:
            os.kill(os.getpid(), signal.SIGTERM)


def fail() -> None:
    """Raise what nobody catches."""
    raise RuntimeError("the disk is gone")


# The operator who watches it crash.


class Crash(NamedTuple):
    """One way to crash the program, and who should run."""

    title: str
    arguments: str
    ran: list[str]
    status: int = 1
    names: str | None = None


CRASHES = [
    Crash("No filter: all run", "main", ["ring_bell", "dump_state", "flush_logs"]),
    Crash(
        "Only those known to be safe",
        "main",
        ["dump_state", "flush_logs"],
        names="dump_state,flush_logs",
    ),
    Crash("A glob", "main", ["flush_logs"], names="flush_*"),
    Crash(
        "A thread dies, and the program lives on",
        "thread",
        ["dump_state"],
        status=0,
        names="dump_state",
    ),
    Crash(
        "Killed by a signal", "SIGTERM", ["dump_state"], -signal.SIGTERM.value, names="dump_state"
    ),
    Crash("crash_kexec first: no notifier runs", "main --crash-kexec", ["crash_kexec"]),
    Crash(
        "crash_kexec after the notifiers that the filter admits",
        "main --crash-kexec --crash-kexec-post-notifiers",
        ["flush_logs", "crash_kexec"],
        names="flush_logs",
    ),
]


def watch(one: Crash) -> bool:
    """Crash the program in a process of its own; say whether those ran that should."""
    env = {name: value for name, value in os.environ.items() if name != FILTER_VARIABLE}
    if one.names is not None:
        env[FILTER_VARIABLE] = one.names
    child = subprocess.run(
        [sys.executable, __file__, "--crash", *one.arguments.split()],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    setting = "" if one.names is None else f"{FILTER_VARIABLE}={one.names} "
    print(f"{one.title}\n  $ {setting}panic_filter.py --crash {one.arguments}")
    lines = child.stdout.splitlines()
    traceback = [line for line in child.stderr.splitlines() if line.startswith("RuntimeError")]
    for line in [*lines, *(f"Python: {line}" for line in traceback)]:
        print(f"    {line}")
    print(f"  exit status {child.returncode}", flush=True)
    as_expected = [line.split(":")[0] for line in lines] == one.ran
    as_expected = as_expected and child.returncode == one.status
    if not as_expected:
        print(f"  BUT expected {', '.join(one.ran)} and exit status {one.status}\n{child.stderr}")
    return as_expected


def main() -> int:
    """Crash, or watch all crashes."""
    parser = argparse.ArgumentParser(description="Crash, and see who is told.")
    parser.add_argument("--crash", choices=["main", "thread", "SIGTERM"], nargs="?", const="main")
    parser.add_argument("--crash-kexec", action="store_true")
    parser.add_argument("--crash-kexec-post-notifiers", action="store_true")
    options = parser.parse_args()
    if options.crash:
        crash(
            options.crash,
            kexec=options.crash_kexec,
            post_notifiers=options.crash_kexec_post_notifiers,
        )
        return 0
    failed = [one for one in CRASHES if not watch(one)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
