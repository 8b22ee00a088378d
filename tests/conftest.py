"""Every async test runs on asyncio and on trio."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import settings

from .plugins import host, importable, notes, nothing_left, write  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator

EAGER = "--eager-tasks"


class EagerPolicy(asyncio.DefaultEventLoopPolicy):
    """Make event loops whose tasks start at once, inside the call that creates them."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().new_event_loop()
        if sys.version_info >= (3, 12):
            loop.set_task_factory(asyncio.eager_task_factory)
        return loop


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(EAGER, action="store_true", help="asyncio starts its tasks eagerly (3.12+)")


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:  # the tests are measured, not what they start
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    if config.getoption(EAGER):
        if sys.version_info < (3, 12):
            raise pytest.UsageError(f"{EAGER} needs Python 3.12 or newer")
        asyncio.set_event_loop_policy(EagerPolicy())


pytest_plugins = ["pytester"]

settings.register_profile("tocsin", deadline=None)  # a busy machine is no failure
settings.register_profile("long", deadline=None, max_examples=5000)  # make fuzz
settings.load_profile("tocsin")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def structlog_left_as_it_was() -> Iterator[None]:
    """Undo what a test configured: capturing logs alone makes structlog count as configured."""
    yield
    structlog.reset_defaults()


def pytest_collection_finish() -> None:
    """Keep what was collected, thousands of items, out of the way of the garbage collector."""
    gc.collect()
    gc.freeze()
