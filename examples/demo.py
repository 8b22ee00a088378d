"""What ``make demo`` runs: the three ported kernel modules on both backends, then real crashes.

Each part runs in a Python of its own. The exit status is 0 only when all did what they should.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = ["buildchain.py", "regchain.py", "notify.py"]

LOG = """\
init_notifier
Begin to register:
register test_notifier1 completed
register test_notifier2 completed
register test_notifier3 completed
Begin to notify:
==============================
In Event 1: Event Number is 1
In Event 2: Event Number is 1
In Event 3: Event Number is 1
End notify
Begin to unregister
Unregister finished
"""
"""What the modules print: ten lines while they are loaded, three while they are unloaded."""


def heading(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in the directory of the examples and print what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=HERE,
        env=os.environ | {"PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=False,
    )
    print(done.stdout, end="", flush=True)
    return done


def run_modules(backend: str) -> bool:
    """Load the modules in order, call the chain, and unload them in reverse."""
    heading(f"tocsin run --backend {backend} {' '.join(MODULES)}")
    done = run("-m", "tocsin", "run", "--backend", backend, *MODULES)
    return verdict("the log of the kernel modules", done.returncode == 0 and done.stdout == LOG)


def run_crashes() -> bool:
    """Crash for real, with and without a filter."""
    heading("panic_filter.py")
    return verdict("those who should run, did", run("panic_filter.py").returncode == 0)


def verdict(what: str, passed: bool) -> bool:
    """Print how a part went."""
    print(f"=> {what}: {'yes' if passed else 'NO'}", flush=True)
    return passed


def main() -> int:
    """Run all parts, also after one that failed."""
    parts = [run_modules("asyncio"), run_modules("trio"), run_crashes()]
    heading("All as expected" if all(parts) else "NOT all as expected")
    return 0 if all(parts) else 1


if __name__ == "__main__":
    sys.exit(main())
