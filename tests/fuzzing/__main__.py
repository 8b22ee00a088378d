"""``python -m tests.fuzzing [--seconds 60] [HARNESS ...]``: run harnesses under atheris.

Each in a process of its own, since the fuzzer ends the one that it runs in. Exits with 1 when one
of them has found something, which libFuzzer then prints and keeps in ``build/fuzzing``.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import subprocess
import sys
from pathlib import Path

FOLDER = Path("build", "fuzzing")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each harness (default: 60)")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("harnesses", nargs="*", metavar="HARNESS")
    arguments = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        parser.exit(1, "atheris is not there; install the extra fuzz (CPython, x86-64 Linux)\n")
    if arguments.inside:
        fuzz(arguments.inside, arguments.seconds)
    names = arguments.harnesses or known_harnesses()
    failed = [name for name in names if run(name, arguments.seconds)]
    print(f"{len(names)} harnesses, findings in: {', '.join(failed) or 'none'}")  # noqa: T201
    return bool(failed)


def known_harnesses() -> list[str]:
    from .harnesses import HARNESSES

    return [*HARNESSES]


def run(name: str, seconds: int) -> int:
    print(f"=== {name}", flush=True)  # noqa: T201
    command = [sys.executable, "-m", "tests.fuzzing", "--inside", name, "--seconds", str(seconds)]
    return subprocess.run(command, check=False).returncode


def fuzz(name: str, seconds: int) -> None:
    """Fuzz for so long; does not come back."""
    import atheris

    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=["tocsin"]):
        from .harnesses import HARNESSES, SEEDS
    harness, corpus = HARNESSES[name], FOLDER / name

    def feed(data: bytes) -> None:
        harness(data.decode("utf-8", "surrogateescape"))  # what is no UTF-8: lone surrogates

    corpus.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(SEEDS):
        (corpus / f"seed{number}").write_bytes(text.encode("utf-8", "surrogatepass"))
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={corpus}-", "-max_len=600"]
    options += ["-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], feed)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
