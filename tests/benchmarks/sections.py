"""The list of what is measured, in the order in which it is reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from . import concurrency, dispatch, importing, observers, registration, routes, threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .measure import Effort, Measurement


class Section(Protocol):
    """What a section is, usually a module with these three names."""

    @property
    def SECTION(self) -> str | tuple[str, ...]:  # noqa: N802 - a module's constant
        """The section, or the sections, that its measurements bear."""

    @property
    def BACKENDS(self) -> tuple[str, ...]:  # noqa: N802 - a module's constant
        """The backends on each of which it is run."""

    def measurements(self, effort: Effort) -> AsyncIterator[Measurement]:
        """Measure; runs inside an event loop of one of the backends."""


SECTIONS: tuple[Section, ...] = (
    dispatch.SYNC,
    dispatch.ASYNC,
    dispatch.MIXED,
    routes,
    observers,
    registration,
    concurrency,
    threads,
    importing,
)


def names(section: Section) -> tuple[str, ...]:
    """Give the names of a section as a tuple in any case."""
    return (section.SECTION,) if isinstance(section.SECTION, str) else section.SECTION
