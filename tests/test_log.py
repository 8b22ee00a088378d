"""Warnings go through structlog, never to stdout, and never into a dispatch."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from structlog.testing import capture_logs

from tocsin import NOTIFY_DONE, _log

from .flavours import FLAVOURS, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _unconfigured() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def test_without_configuration_it_is_the_standard_librarys_logger(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    _log.warn("something odd", chain="netdev", block="eth0")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("tocsin", "WARNING")
    assert record.getMessage() == "event='something odd' chain='netdev' block='eth0'"
    assert capsys.readouterr().out == ""


def test_an_error_brings_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise LookupError("gone")
    except LookupError as error:
        _log.warn("something odd", error=error)
    assert "Traceback" in caplog.records[0].getMessage()
    assert "LookupError: gone" in caplog.records[0].getMessage()


def test_the_level_of_the_standard_librarys_logger_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, logger="tocsin")
    _log.warn("something odd")
    assert caplog.records == []


def test_where_structlog_is_configured_it_goes_through_that(
    caplog: pytest.LogCaptureFixture,
) -> None:
    structlog.configure()
    error = LookupError("gone")
    with capture_logs() as logs:
        _log.warn("something odd", error=error, chain="netdev")
    assert logs == [
        {
            "event": "something odd",
            "log_level": "warning",
            "chain": "netdev",
            "exc_info": (LookupError, error, None),
        }
    ]
    assert caplog.records == []


def fail(*args: Any) -> Any:
    raise OSError("the disk is full")


def test_a_failing_log_call_is_dropped() -> None:
    structlog.configure(processors=[fail])
    _log.warn("something odd")


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_a_failing_log_call_never_reaches_the_dispatch(flavour: Any) -> None:
    structlog.configure(processors=[fail])
    rig = Rig(flavour, errors="isolate")
    await rig.add("fails", ValueError("boom"))
    await rig.add("behind")
    assert await rig.call(1, None) == NOTIFY_DONE
    assert rig.drain() == ["fails", "behind"]


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_an_isolated_exception_is_logged_with_chain_and_block(
    flavour: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = Rig(flavour, errors="isolate")
    await rig.add("fails", ValueError("boom"))
    await rig.call(1, {"password": "secret"})
    (record,) = caplog.records
    message = record.getMessage()
    for part in ("chain='chain'", "block='fails'", "ValueError: boom"):
        assert part in message
    assert "secret" not in message
    assert capsys.readouterr().out == ""
