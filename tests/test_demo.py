"""The panic example and the demo, run as a user runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .programs import EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path


CRASHES = """\
No filter: all run
  $ panic_filter.py --crash main
    ring_bell: the bell is broken
    dump_state: RuntimeError: the disk is gone
    flush_logs: done
    Python: RuntimeError: the disk is gone
  exit status 1
Only those known to be safe
  $ PANIC_NOTIFIER_FILTER=dump_state,flush_logs panic_filter.py --crash main
    dump_state: RuntimeError: the disk is gone
    flush_logs: done
    Python: RuntimeError: the disk is gone
  exit status 1
A glob
  $ PANIC_NOTIFIER_FILTER=flush_* panic_filter.py --crash main
    flush_logs: done
    Python: RuntimeError: the disk is gone
  exit status 1
A thread dies, and the program lives on
  $ PANIC_NOTIFIER_FILTER=dump_state panic_filter.py --crash thread
    dump_state: RuntimeError: the disk is gone
    Python: RuntimeError: the disk is gone
  exit status 0
Killed by a signal
  $ PANIC_NOTIFIER_FILTER=dump_state panic_filter.py --crash SIGTERM
    dump_state: signal 15 (Terminated)
  exit status -15
crash_kexec first: no notifier runs
  $ panic_filter.py --crash main --crash-kexec
    crash_kexec: evidence saved
    Python: RuntimeError: the disk is gone
  exit status 1
crash_kexec after the notifiers that the filter admits
  $ PANIC_NOTIFIER_FILTER=flush_logs panic_filter.py --crash main --crash-kexec \
--crash-kexec-post-notifiers
    flush_logs: done
    crash_kexec: evidence saved
    Python: RuntimeError: the disk is gone
  exit status 1
"""


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """Give a copy of the examples under a path with spaces."""
    target = tmp_path / "a path with spaces"
    shutil.copytree(EXAMPLES, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def python(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    # A coverage measurement in the children would hook their signals.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_panic_example_says_who_ran(examples: Path, tmp_path: Path) -> None:
    # A filter of whoever runs it is no matter for the crashes that it stages.
    example = str(examples / "panic_filter.py")
    done = python(example, cwd=tmp_path, PANIC_NOTIFIER_FILTER="ring_bell")
    assert (done.stdout, done.stderr, done.returncode) == (CRASHES, "", 0)


def test_the_panic_example_crashes_by_hand(tmp_path: Path) -> None:
    example = str(EXAMPLES / "panic_filter.py")
    done = python(example, "--crash", cwd=tmp_path, PANIC_NOTIFIER_FILTER="flush_logs")
    assert (done.stdout, done.returncode) == ("flush_logs: done\n", 1)
    assert done.stderr.endswith("\nRuntimeError: the disk is gone\n")


def test_the_demo_runs_from_anywhere(examples: Path, tmp_path: Path) -> None:
    done = python(str(examples / "demo.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("init_notifier\n") == 2
    assert CRASHES in done.stdout
    assert done.stdout.count(": yes\n") == 3
    assert "All as expected" in done.stdout


def test_the_demo_fails_when_a_part_of_it_does(examples: Path, tmp_path: Path) -> None:
    (examples / "notify.py").write_text("print('something else')\n", encoding="utf-8")
    done = python(str(examples / "demo.py"), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.count(": NO\n") == 2
    assert "NOT all as expected" in done.stdout
