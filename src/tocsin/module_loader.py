"""`ModuleLoader`: the steps by which a module comes and goes.

Acts on what `module_table` has settled, and keeps the table true while it does. Whatever a module
raises on its way out, it is gone afterwards. Knows no plan longer than one module and what its
init has loaded.

Source: ``kernel/module/main.c``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from . import _log
from .errors import TocsinError, add_note
from .loops import shield
from .module_source import in_words
from .module_states import TRANSITIONS, Event, ModuleState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from .module_record import ModuleRecord
    from .module_table import ModuleTable
    from .modules import ModuleHost

_WAYS_OUT = {ModuleState.LIVE: Event.UNLOAD, ModuleState.RELOADING: Event.LEAVE}

__all__ = ["ModuleLoader", "add_failures", "do_each", "log_failures"]


class ModuleLoader:
    """Starts, stops and takes back the modules of a table. Not for direct use."""

    __slots__ = ("_host", "_table")

    def __init__(self, host: ModuleHost, table: ModuleTable) -> None:
        self._host = host  # for the hooks
        self._table = table

    async def start(self, module: ModuleRecord) -> None:
        """Run its body and its init; then it is LIVE."""
        self._table.move_last(module)
        try:
            await module.start(self._host)
        except TocsinError as error:
            for user in self._table.users(module.name):
                add_note(error, f"required by {user}")
            raise

    async def finish(self, module: ModuleRecord, *, unwinding: bool = False) -> None:
        """Unload a module that is GOING; the hook of an unwinding is not cancelled."""
        failures, interruption = await do_each(
            (partial(self._say_goodbye, module, unwinding=unwinding), partial(self._drop, module))
        )
        if interruption is not None:
            log_failures(failures)
            raise interruption
        if failures:
            add_failures(failures[-1], failures[:-1], "and")
            raise failures[-1]

    async def remove(self, module: ModuleRecord, *, unwinding: bool = True) -> None:
        """Unload a module, or stop loading it, whoever uses it; see that it is gone."""
        if module.state in _WAYS_OUT:
            module.advance(_WAYS_OUT[module.state])
            await self.finish(module, unwinding=unwinding)
        elif Event.FAIL in TRANSITIONS[module.state]:
            module.advance(Event.FAIL)
            await self._drop(module)
        else:  # somebody else is unloading it, or has
            await module.gone.wait()

    async def undo(self, plan: list[ModuleRecord], error: BaseException) -> None:
        """Undo a load: drop what is not loaded yet, unload what is and nobody else uses by now."""
        failures, _ = await do_each(partial(self.take_back, one) for one in reversed(plan))
        add_failures(error, failures, "while that was undone")

    async def take_back(self, module: ModuleRecord) -> None:
        """Remove a module, and then what its init has loaded and nobody else uses."""
        if module.state is ModuleState.LIVE:
            self._table.check_unload(module.name)
        try:
            await self.remove(module)
        finally:
            failures, interruption = await do_each(
                partial(self.take_back, one) for one in reversed(module.loaded)
            )
            log_failures(failures)
        if interruption is not None:
            raise interruption

    async def _say_goodbye(self, module: ModuleRecord, *, unwinding: bool) -> None:
        with shield(needed=unwinding):
            await module.exit(self._host)

    async def _drop(self, module: ModuleRecord) -> None:
        """Take off everything of a module that is GOING, and let go of it."""
        try:
            await module.dismantle(self._host)
        finally:
            left = list(self._table.strangers(module, [module]))
            if left:
                _log.warn(
                    "a module is gone, and on its chains are others", module=module.name, left=left
                )
            self._table.drop(module)


async def do_each(
    actions: Iterable[Callable[[], Awaitable[None]]],
) -> tuple[list[Exception], BaseException | None]:
    """Do all of them, whatever each raises; give that, and what interrupted one of them."""
    failures: list[Exception] = []
    interruption: BaseException | None = None
    for action in actions:
        try:
            await action()
        except Exception as error:
            failures.append(error)
        except BaseException as error:
            interruption = error
    return failures, interruption


_UNLOADING = "a module failed while it was unloaded"


def add_failures(
    error: BaseException, failures: list[Exception], when: str, *, what: str = _UNLOADING
) -> None:
    """Let an error surface as itself, with what failed on its way."""
    log_failures(failures, what=what)
    for failure in failures:
        add_note(error, f"{when}: {in_words(failure)}")


def log_failures(failures: list[Exception], *, what: str = _UNLOADING) -> None:
    """Log what failed, where an error says something else, or nothing may be raised."""
    for failure in failures:
        _log.warn(what, error=failure)
