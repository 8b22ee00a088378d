"""`ModuleRecord`: one module as its host knows it, and the running of its body and hooks.

Owns the module's state, its scope, and what its hooks may give. Knows no other module and no bus.
"""

from __future__ import annotations

import errno
import os
from asyncio import CancelledError, current_task
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import anyio

from . import _log
from .callables import close_coroutine, why_not_callable
from .errors import (
    InvalidResultError,
    ModuleDependencyError,
    ModuleError,
    ModuleInUseError,
    ModuleLoadError,
    ModuleTimeoutError,
    add_note,
)
from .module_source import ModuleSource, in_words, whereabouts
from .module_states import Event, ModuleState, advance
from .scopes import Scope
from .wording import as_int, shown

if TYPE_CHECKING:
    from collections.abc import Generator

    from .module_reload import Reload
    from .module_source import Location
    from .modules import ModuleHost

__all__ = ["ModuleRecord"]

_MAX_ERRNO = 4095


class ModuleRecord:
    """A module. Not for direct use."""

    __slots__ = (
        "gone",
        "loaded",
        "name",
        "reload",
        "scope",
        "source",
        "state",
        "successor",
        "uses",
    )

    def __init__(self, location: Location) -> None:
        self.name: str = location.name
        self.source: ModuleSource = ModuleSource(location)
        self.scope: Scope = Scope(location.name)
        self.state: ModuleState = ModuleState.ABSENT
        self.uses: dict[str, None] = {}
        """The names of the modules that it uses, in order."""
        self.loaded: list[ModuleRecord] = []
        """The modules that its init has loaded through the host, which go with it if it fails."""
        self.gone: anyio.Event = anyio.Event()
        """Set when it has been unloaded."""
        self.reload: Reload | None = None
        """What it takes part in while it is RELOADING, and on its way there and from there."""
        self.successor: ModuleRecord | None = None
        """The version that takes its place when it is gone."""

    @property
    def import_name(self) -> str:
        """Its key in ``sys.modules``."""
        return self.source.location.import_name

    def advance(self, event: Event) -> None:
        """Go on to the state that follows, or raise a `ModuleError`."""
        self.state = advance(self.name, self.state, event)

    def again(self) -> ModuleRecord:
        """Give the same version of it once more, not loaded yet."""
        record = ModuleRecord(self.source.location)
        record.source = self.source.again()
        return record

    def check_alone(self) -> None:
        """Raise `ModuleInUseError` when its init has loaded others, by code that may change too."""
        if self.loaded:
            names = ", ".join(dict.fromkeys(one.name for one in self.loaded))
            raise ModuleInUseError(
                f"{self.name} cannot be reloaded, for its module_init has loaded {names}; let it "
                f"name them in REQUIRES instead, or unload it and load it again",
                module=self.name,
            )

    def read(self) -> None:
        """Find it and read what it requires. Raises `ModuleLoadError`."""
        with self._inside():  # the packages that it lies in may register something
            self.source.read()

    async def start(self, host: ModuleHost) -> None:
        """Run its body and its init; then it is LIVE."""
        with self._inside():
            with self._load_errors():
                with self._no_quitting(sync=True):
                    self.source.run()
                self._check_hooks()
                self.advance(Event.INIT)
                result = await self._run_hook("module_init", host)
            self._check_init(result)
        if self.state is not ModuleState.COMING:
            raise self.is_too_late()
        self.advance(Event.READY)

    def _check_hooks(self) -> None:
        """Raise `ModuleLoadError` for a hook that could not be called, be it at the end."""
        for name in ("module_init", "module_exit"):
            hook = getattr(self.source.module, name, None)
            why = why_not_callable(hook, name, ["host"]) if callable(hook) else "is no function"
            if hook is not None and why:
                raise ModuleLoadError(
                    f"{self.name} was not loaded: its {name} {why}", module=self.name
                )

    def is_too_late(self) -> ModuleLoadError:
        """Give the error for a host that has been exited."""
        return ModuleLoadError(
            f"{self.name} was not loaded: its host has been exited; use another ModuleHost",
            module=self.name,
            errno=errno.ESHUTDOWN,
        )

    async def exit(self, host: ModuleHost) -> None:
        """Run its exit, no longer than the host allows, and say what it forgot."""
        result: object = None
        limit = anyio.move_on_after(host.exit_timeout)
        try:
            with self._inside(), limit:
                result = await self._run_hook("module_exit", host)
        except Exception as error:
            note = f"raised by module_exit of {self.name}, which was unloaded all the same"
            add_note(error, note)
            if not limit.cancel_called:
                raise
            raise self._exit_took_too_long(host, f", and raised {in_words(error)}") from error
        finally:
            forgotten = [block.name for block in self.scope.blocks]
            if forgotten:
                _log.warn(
                    "a module forgot to unregister blocks", module=self.name, blocks=forgotten
                )
        if limit.cancelled_caught:
            raise self._exit_took_too_long(host)
        if result is not None and as_int(result) != 0:
            raise InvalidResultError(
                f"module_exit of {self.name} gave {shown(result)}, but an exit cannot fail: it "
                f"gives None; {self.name} was unloaded all the same"
            )

    def _exit_took_too_long(self, host: ModuleHost, end: str = "") -> ModuleTimeoutError:
        return ModuleTimeoutError(
            f"module_exit of {self.name} did not end within {host.exit_timeout} s and was "
            f"cancelled{end}; {self.name} was unloaded all the same",
            module=self.name,
        )

    async def dismantle(self, host: ModuleHost) -> None:
        """Take all its blocks off, and wait for its callbacks no longer than the host allows."""
        with anyio.move_on_after(host.exit_timeout):
            await self.scope.aclose()
        if running := self.scope.running:
            raise ModuleTimeoutError(
                f"{self.name} was unloaded while calls were under way that may be inside its "
                f"callbacks ({', '.join(running)}): they did not end within {host.exit_timeout} s; "
                f"the callbacks are off their chains and not entered again",
                module=self.name,
            )

    @contextmanager
    def _inside(self) -> Generator[None]:
        """Own what is registered, and take note of what is imported."""
        with self.scope.ambient(), self.source.watch():
            yield

    async def _run_hook(self, name: str, host: ModuleHost) -> object:
        hook = getattr(self.source.module, name, None)
        with self._no_quitting(sync=True):
            result: Any = None if hook is None else hook(host)
        if hasattr(result, "__await__"):
            with self._no_quitting(sync=False):
                result = await result
        close_coroutine(result)
        return cast("object", result)

    @contextmanager
    def _no_quitting(self, *, sync: bool) -> Generator[None]:
        """Let it be an error when the module raises what would end the program or the task."""
        try:
            yield
        except (SystemExit, CancelledError, GeneratorExit) as error:
            if isinstance(error, CancelledError) and _is_being_cancelled():
                raise
            if isinstance(error, GeneratorExit) and not sync:
                raise  # the coroutine may be being closed
            if self.state is ModuleState.GOING:
                raise ModuleError(self._say(error), module=self.name) from error
            raise self._load_error(error) from error

    @contextmanager
    def _load_errors(self) -> Generator[None]:
        """Let what the module raises while it is loaded be a `ModuleLoadError`."""
        try:
            yield
        except (ModuleDependencyError, ModuleLoadError) as error:
            if error.module != self.name:
                raise self._load_error(error) from error
            raise
        except Exception as error:
            raise self._load_error(error) from error

    def _say(self, error: BaseException) -> str:
        return whereabouts(error, self.source.file)

    def _load_error(self, error: BaseException) -> ModuleLoadError:
        return ModuleLoadError(
            f"{self.name} was not loaded: {self._say(error)}",
            module=self.name,
            errno=getattr(error, "errno", None),
        )

    def _check_init(self, result: object) -> None:
        if result is None:
            return
        number = as_int(result)
        if number is None or not -_MAX_ERRNO <= number <= 0:
            number = number if type(result) is int and number else 0
            hint = f"; did you mean {-number}?" if 0 < number <= _MAX_ERRNO else ""
            raise InvalidResultError(
                f"{self.name} was not loaded: its module_init gave {shown(result)}, not None, 0 or "
                f"a negative errno{hint}"
            )
        if number:
            name = errno.errorcode.get(-number, "unknown errno")
            raise ModuleLoadError(
                f"{self.name} was not loaded: its module_init gave {number} "
                f"({name}: {os.strerror(-number)})",
                module=self.name,
                errno=-number,
            )


def _is_being_cancelled() -> bool:
    """Say whether asyncio cancels the running task; trio's cancellation is of another kind."""
    try:
        task = current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0
