"""What an import costs a program, and what it brings in besides.

Each figure is one fresh interpreter's, taken inside of it, from its first statement to the end of
the import: what starting an empty interpreter takes is not in it. The packages take turns. The
first turn, which may have to compile, is one of the slow rounds that do not count.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .measure import Measurement, lower_quartile, take_turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .measure import Effort

TIME, MODULES = "import time", "modules imported"
SECTION = (TIME, MODULES)
BACKENDS = ("asyncio",)  # it happens in other processes

PACKAGES = {
    "tocsin": "tocsin",
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
"""What is imported, by the name of who takes part."""

HEAVY = ("anyio", "asyncio", "trio", "structlog", "inspect")
"""What `import tocsin` must not bring in."""

ALL, OF_HEAVY = "all", "of " + ", ".join(HEAVY)

_PROGRAM = """
import sys
from time import perf_counter
before = set(sys.modules)
began = perf_counter()
import {package}
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
    takes = {name: partial(import_afresh, package) for name, package in PACKAGES.items()}
    for name, imports in (await take_turns(takes, effort.rounds)).items():
        seconds = lower_quartile([one.seconds for one in imports])
        yield Measurement(TIME, "", 0, name, seconds, "s")
        modules = imports[-1].modules
        yield Measurement(MODULES, ALL, 0, name, len(modules), "modules")
        heavy = [one for one in HEAVY if one in modules]
        yield Measurement(MODULES, OF_HEAVY, 0, name, len(heavy), "modules")


async def import_afresh(package: str) -> Import:
    """Import a package in an interpreter of its own; raise `CalledProcessError` when it fails."""
    program = _PROGRAM.format(package=package)
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], check=True, stdout=subprocess.PIPE, text=True
    )
    return Import(*json.loads(done.stdout))
