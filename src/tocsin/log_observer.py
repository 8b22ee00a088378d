"""`StructlogObserver`: what chains do, as log lines.

Owns the words and fields of the lines, and two ways to write them: for a person at a console, with
nested walks indented, and as JSON. Never to stdout, unless the caller passes that.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from . import _log
from .errors import InvalidTypeError, InvalidValueError
from .observer import Observer
from .report import describe_event
from .results import describe_result
from .wording import printable_fields, shown

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Self, TextIO

    from .block import AnyBlock
    from .observer import ObservedCall
    from .protocol import AnyChain

__all__ = ["StructlogObserver"]

_METHODS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "critical",
}
"""What a logger calls its levels."""


class StructlogObserver(Observer):
    """Logs what the chains that it is attached to do, one line for each thing that happens.

    ``logger`` is a structlog logger; ``None`` is the one that takes Tocsin's warnings: structlog's,
    where the application has configured it, else one around the standard library's ``tocsin``.
    ``level`` is what everything is logged at, one of the five levels of `logging`; exceptions of
    callbacks come as warnings at least. The lines name chains, blocks and events and carry no data;
    an event that is an object is named by its type. Times are in seconds. `InvalidTypeError` or
    `InvalidValueError` for what is no level.
    """

    __slots__ = ("_level", "_logger")

    def __init__(self, logger: Any = None, *, level: int = logging.INFO) -> None:
        takes = "StructlogObserver takes a level such as logging.DEBUG"
        if not isinstance(level, int) or isinstance(level, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidTypeError(f"{takes}, not {type(level).__name__}")
        if level not in _METHODS:
            raise InvalidValueError(
                f"{takes}, not {shown(level)}; there are {', '.join(map(str, _METHODS))}"
            )
        self._logger = logger
        self._level = level

    @classmethod
    def console(
        cls, stream: TextIO | None = None, *, colors: bool = False, level: int = logging.INFO
    ) -> Self:
        """Log for a person: one line each, nested calls indented. ``stream`` is stderr if None."""
        from structlog.dev import ConsoleRenderer

        return cls(_writer(stream, _indent, ConsoleRenderer(colors=colors)), level=level)

    @classmethod
    def json(cls, stream: TextIO | None = None, *, level: int = logging.INFO) -> Self:
        """Log one JSON object a line, with the time in UTC. ``stream`` is stderr if None."""
        from structlog.processors import JSONRenderer, TimeStamper

        return cls(_writer(stream, TimeStamper("iso"), JSONRenderer()), level=level)

    def registered(self, chain: AnyChain, block: AnyBlock) -> None:
        """Log that a block has joined."""
        self._log("registered", chain=chain.name, block=block.name, priority=block.priority)

    def unregistered(self, chain: AnyChain, block: AnyBlock) -> None:
        """Log that a block has left."""
        self._log("unregistered", chain=chain.name, block=block.name)

    def parked(self, chain: AnyChain, block: AnyBlock) -> None:
        """Log that a block is left out."""
        self._log("parked", chain=chain.name, block=block.name)

    def call_started(self, call: ObservedCall) -> None:
        """Log that a walk begins."""
        self._log_call("started", call)

    def callback_started(self, call: ObservedCall, block: AnyBlock) -> None:
        """Log that a callback is entered."""
        self._log_block("entered", call, block)

    def callback_returned(
        self, call: ObservedCall, block: AnyBlock, result: int, duration: float
    ) -> None:
        """Log with what a callback ended."""
        said = describe_result(result)
        self._log_block("returned", call, block, result=said, duration=round(duration, 6))

    def callback_raised(
        self, call: ObservedCall, block: AnyBlock, error: BaseException, duration: float
    ) -> None:
        """Log what kind of exception a callback raised; its text may carry data."""
        raised = type(error).__name__
        level = max(self._level, logging.WARNING)
        self._log_block("raised", call, block, level, error=raised, duration=round(duration, 6))

    def call_finished(
        self, call: ObservedCall, result: int | None, error: BaseException | None, duration: float
    ) -> None:
        """Log how a walk ended."""
        ended: dict[str, object] = {"duration": round(duration, 6)}
        if error is not None:
            self._log_call("finished", call, error=type(error).__name__, **ended)
        else:
            self._log_call("finished", call, result=describe_result(result or 0), **ended)

    def writer_waiting(self, chain: AnyChain) -> None:
        """Log that a writer has to wait."""
        self._log("writer waiting", chain=chain.name)

    def _log_call(self, what: str, call: ObservedCall, **fields: Any) -> None:
        said = describe_event(call.event)
        name = call.chain.name
        self._log(f"{call.kind} {what}", chain=name, call=said, depth=call.depth, **fields)

    def _log_block(
        self, what: str, call: ObservedCall, block: AnyBlock, level: int = 0, **fields: Any
    ) -> None:
        said = describe_event(call.event)
        fields = {"call": said, "depth": call.depth, **fields}
        self._log(f"callback {what}", level, chain=call.chain.name, block=block.name, **fields)

    def _log(self, what: str, level: int = 0, **fields: object) -> None:
        logger = self._logger if self._logger is not None else _log.logger()
        # By name: not every logger of structlog has log().
        getattr(logger, _METHODS[level or self._level])(what, **printable_fields(fields))


def _indent(_logger: object, _method: str, line: MutableMapping[str, Any]) -> Any:
    """Indent a line by the depth of its call, and once more in a callback."""
    depth = line.pop("depth", 0)
    within = line["event"].startswith("callback")
    line["event"] = "  " * (2 * depth + within) + line["event"]
    return line


def _writer(stream: TextIO | None, *processors: Any) -> Any:
    """Make a logger of its own, whatever the application has configured for the rest."""
    import structlog

    out = sys.stderr if stream is None else stream
    return structlog.wrap_logger(
        # Without stderr, as under pythonw, to nowhere: WriteLogger would take stdout.
        structlog.ReturnLogger() if out is None else structlog.WriteLogger(out),  # pyright: ignore[reportUnnecessaryComparison]
        processors=[structlog.processors.add_log_level, *processors],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        context_class=dict,
        cache_logger_on_first_use=True,
    )
