"""What an import costs a program, and what it brings in besides.

Each figure is one fresh interpreter's, taken inside of it, from its first statement to the end of
the import: what starting an empty interpreter takes is not in it. The imports take turns. Their
byte code is ready, in a directory of its own that one import of each has filled before, whatever
the environment says of writing byte code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from .measure import Measurement, lower_quartile, take_turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .measure import Effort

TIME, MODULES = "import time", "modules imported"
SECTION = (TIME, MODULES)
BACKENDS = ("asyncio",)  # it happens in other processes

TOCSIN = {
    "tocsin": "import tocsin",
    "tocsin, a chain": "from tocsin import AtomicChain",
    "tocsin, all chains": (
        "from tocsin import AtomicChain, BlockingChain, SrcuChain, RawChain, "
        "Bus, NameFilter, NotifierBlock, Scope"
    ),
}
"""The package loads what it is asked for, so that a bare import alone would flatter it."""

PACKAGES = {
    "anyio": "anyio",
    "asyncio": "asyncio",
    "trio": "trio",
    "aiosignal": "aiosignal",
    "blinker": "blinker",
    "Django": "django.dispatch",
    "eventkit": "eventkit",
    "pluggy": "pluggy",
    "psygnal": "psygnal",
    "pyee": "pyee",
}

STATEMENTS = {**TOCSIN, **{name: f"import {package}" for name, package in PACKAGES.items()}}
"""What is run, by the name of who takes part."""

HEAVY = ("anyio", "asyncio", "trio", "structlog", "inspect")
"""What no import of Tocsin must bring in."""

ALL, OF_HEAVY = "all", "of " + ", ".join(HEAVY)

_PROGRAM = """
import sys
from time import perf_counter
before = set(sys.modules)
began = perf_counter()
{statement}
seconds = perf_counter() - began
modules = sorted(sys.modules.keys() - before)
import json
print(json.dumps([seconds, modules]))
"""


class Import(NamedTuple):
    """One import in a fresh interpreter."""

    seconds: float
    modules: list[str]
    """All that it brought in."""


async def measurements(effort: Effort) -> AsyncIterator[Measurement]:
    """Measure both. What is counted depends on no machine, and on the Python alone."""
    with TemporaryDirectory() as cache:
        takes = {
            name: partial(import_afresh, statement, cache) for name, statement in STATEMENTS.items()
        }
        await take_turns(takes, 1)  # compiles
        taken = await take_turns(takes, effort.rounds)
    for name, imports in taken.items():
        seconds = lower_quartile([one.seconds for one in imports])
        yield Measurement(TIME, "", 0, name, seconds, "s")
        modules = imports[-1].modules
        yield Measurement(MODULES, ALL, 0, name, len(modules), "modules")
        heavy = [one for one in HEAVY if one in modules]
        yield Measurement(MODULES, OF_HEAVY, 0, name, len(heavy), "modules")


async def import_afresh(statement: str, cache: str) -> Import:
    """Run an import in an interpreter of its own, whose byte code is kept in ``cache``.

    Raises `CalledProcessError` when it fails.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM.format(statement=statement)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    return Import(*json.loads(done.stdout))
