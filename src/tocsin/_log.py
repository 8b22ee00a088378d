"""Where warnings go: structlog, never stdout, and never into a dispatch.

Where the application has configured structlog, through that; else through a structlog logger around
the standard library's logger ``tocsin``, whose last resort is stderr. A log call that fails is
dropped: the walk it speaks of must not notice.
"""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

from .wording import printable, printable_fields

__all__ = ["logger", "warn"]


@cache
def _stdlib_logger() -> Any:
    import logging

    import structlog

    return structlog.wrap_logger(
        logging.getLogger("tocsin"),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def logger() -> Any:
    """Give the logger that is in force now."""
    import structlog

    return structlog.get_logger("tocsin") if structlog.is_configured() else _stdlib_logger()


def warn(event: str, *, error: BaseException | None = None, **fields: object) -> None:
    """Log a warning with fields; ``error`` adds its traceback. Never raises an `Exception`."""
    with contextlib.suppress(Exception):
        fields = printable_fields(fields)
        if error is not None:
            fields["exc_info"] = (type(error), error, error.__traceback__)
        logger().warning(printable(event), **fields)
