"""`StructlogObserver`: what chains do, as log lines for people and for machines."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from tocsin import NOTIFY_STOP, AtomicChain, NameFilter, SrcuChain, StructlogObserver


def drive(observer: StructlogObserver) -> None:
    """Let one of everything happen."""
    inner = AtomicChain[str, Any]("audit")
    chain = AtomicChain[object, Any]("orders", filter=NameFilter(["stock", "bad"]))
    inner.observe(observer)
    chain.observe(observer)
    inner.register(lambda event, data: NOTIFY_STOP, name="write")
    chain.register(lambda event, data: inner.call("placed", data), name="stock", priority=5)
    chain.register(lambda event, data: data["a"] // 0, name="bad")
    block = chain.register(lambda event, data: None, name="muted")
    chain.call(Event(), {"a": "secret"})
    chain.unregister(block)


class Event:
    def __repr__(self) -> str:
        return "secret event"


def test_the_console_form_indents_nested_calls() -> None:
    stream = io.StringIO()
    drive(StructlogObserver.console(stream))
    text = re.sub(r"duration=\S+", "duration=D", stream.getvalue())
    lines = [re.sub(r"\[(\w+) *\] ", "", line.rstrip()) for line in text.splitlines()]
    assert [re.sub(r"(?<=\S) +", " ", line) for line in lines] == [
        "registered block=write chain=audit priority=0",
        "registered block=stock chain=orders priority=5",
        "registered block=bad chain=orders priority=0",
        "parked block=muted chain=orders",
        "call started call=Event chain=orders",
        "  callback entered block=stock call=Event chain=orders",
        "    call started call=placed chain=audit",
        "      callback entered block=write call=placed chain=audit",
        "      callback returned block=write call=placed chain=audit duration=D result=STOP|OK",
        "    call finished call=placed chain=audit duration=D result=STOP|OK",
        "  callback returned block=stock call=Event chain=orders duration=D result=STOP|OK",
        "call finished call=Event chain=orders duration=D result=STOP|OK",
        "unregistered block=muted chain=orders",
    ]


def test_the_json_form_is_one_object_a_line() -> None:
    stream = io.StringIO()
    observer = StructlogObserver.json(stream)
    chain = AtomicChain[str, Any]("orders")
    chain.observe(observer)
    chain.register(lambda event, data: data["a"] // 0, name="bad")
    with pytest.raises(TypeError):
        chain.call("up", {"a": "secret"})
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert all(line.pop("timestamp").endswith("Z") for line in lines)
    assert all(line.pop("duration", 0) >= 0 for line in lines)
    of = {"chain": "orders", "call": "up", "depth": 0}
    assert lines == [
        {
            "event": "registered",
            "level": "info",
            "chain": "orders",
            "block": "bad",
            "priority": 0,
        },
        {"event": "call started", "level": "info", **of},
        {"event": "callback entered", "level": "info", "block": "bad", **of},
        {
            "event": "callback raised",
            "level": "warning",
            "block": "bad",
            "error": "TypeError",
            **of,
        },
        {"event": "call finished", "level": "info", "error": "TypeError", **of},
    ]


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_line_carries_data_and_stdout_stays_empty(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    drive(getattr(StructlogObserver, form)())
    written = capsys.readouterr()
    assert written.out == ""
    assert "orders" in written.err
    assert "secret" not in written.err


def test_what_the_application_has_configured_is_used() -> None:
    with capture_logs() as logs:
        drive(StructlogObserver(level=logging.DEBUG))
    assert {log["log_level"] for log in logs} == {"debug"}
    assert logs[0]["event"] == "registered"


def test_without_a_configuration_the_lines_go_to_the_standard_library(
    caplog: pytest.LogCaptureFixture,
) -> None:
    structlog.reset_defaults()
    with caplog.at_level(logging.INFO, "tocsin"):
        drive(StructlogObserver())
    assert "call started" in caplog.text


def test_a_logger_of_ones_own_is_used() -> None:
    with capture_logs() as logs:
        drive(StructlogObserver(structlog.get_logger().bind(service="shop")))
    assert {log["service"] for log in logs} == {"shop"}


@pytest.mark.parametrize("level", ["info", None, True])
def test_what_is_no_level_is_refused(level: Any) -> None:
    with pytest.raises(TypeError, match="StructlogObserver takes a level such as logging"):
        StructlogObserver(level=level)


@pytest.mark.parametrize("level", [0, 5, 15, 60, -1])
def test_a_level_that_there_is_not_is_refused(level: int) -> None:
    with pytest.raises(ValueError, match=f"not {level}; there are 10, 20, 30, 40, 50"):
        StructlogObserver(level=level)


def test_the_two_forms_take_a_level_and_warn_of_exceptions_at_least() -> None:
    for level, raised in ((logging.DEBUG, "warning"), (logging.ERROR, "error")):
        stream = io.StringIO()
        chain = AtomicChain[str, None]("orders")
        chain.register(lambda event, data: 1 // 0)
        with chain.observe(StructlogObserver.json(stream, level=level)):
            with pytest.raises(ZeroDivisionError):
                chain.call("up")
        levels = [json.loads(line)["level"] for line in stream.getvalue().splitlines()]
        usual = logging.getLevelName(level).lower()
        assert levels == [usual, usual, raised, usual]
    assert "orders" in _console(logging.DEBUG)


def _console(level: int) -> str:
    stream = io.StringIO()
    chain = AtomicChain[str, None]("orders")
    with chain.observe(StructlogObserver.console(stream, level=level)):
        chain.call("up")
    return stream.getvalue()


def test_every_kind_of_structlog_logger_will_do() -> None:
    lines: list[str] = []

    class Printer:
        def info(self, line: str) -> None:
            lines.append(line)

    plain = structlog.wrap_logger(
        Printer(),
        processors=[structlog.processors.LogfmtRenderer()],
        wrapper_class=structlog.BoundLogger,
    )
    chain = AtomicChain[str, None]("orders")
    observation = chain.observe(StructlogObserver(plain))
    chain.call("up")
    assert observation.is_attached
    assert len(lines) == 2


def test_without_stderr_nothing_is_written_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    observer = StructlogObserver.json()
    monkeypatch.undo()
    drive(observer)
    assert capsys.readouterr() == ("", "")


@pytest.mark.anyio
async def test_a_writer_that_waits_is_logged() -> None:
    chain = SrcuChain[str, None]("orders")
    with capture_logs() as logs:
        StructlogObserver().writer_waiting(chain)
    assert [(log["event"], log["chain"]) for log in logs] == [("writer waiting", "orders")]


def test_a_logger_that_fails_does_not_change_the_dispatch() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("no space left")

    chain = AtomicChain[str, None]("orders")
    heard: list[str] = []
    chain.register(lambda event, data: heard.append(event))
    observation = chain.observe(StructlogObserver.json(Full()))
    with capture_logs() as logs:
        chain.call("up")
    assert heard == ["up"]
    assert not observation.is_attached
    assert [log["event"] for log in logs] == ["detached an observer that raised"]
