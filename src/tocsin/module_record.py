"""`ModuleRecord`: one module as its host knows it, and the running of its body and hooks.

Owns the module's state, its scope, and what its hooks may give. Knows no other module and no bus.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import _log
from .errors import InvalidResultError, ModuleDependencyError, ModuleLoadError
from .module_source import ModuleSource, describe_failure
from .module_states import Event, ModuleState, advance
from .scopes import Scope

if TYPE_CHECKING:
    from collections.abc import Generator

    from .module_source import Location
    from .modules import ModuleHost

__all__ = ["ModuleRecord"]

_MAX_ERRNO = 4095


class ModuleRecord:
    """A module. Not for direct use."""

    __slots__ = ("name", "scope", "source", "state", "uses")

    def __init__(self, location: Location) -> None:
        self.name: str = location.name
        self.source: ModuleSource = ModuleSource(location)
        self.scope: Scope = Scope(location.name)
        self.state: ModuleState = ModuleState.ABSENT
        self.uses: dict[str, None] = {}
        """The names of the modules that it uses, in order."""

    def advance(self, event: Event) -> None:
        """Go on to the state that follows, or raise a `ModuleError`."""
        self.state = advance(self.name, self.state, event)

    def read(self) -> None:
        """Find it and read what it requires. Raises `ModuleLoadError`."""
        with self.scope.ambient():  # the packages that it lies in may register something
            self.source.read()

    async def start(self, host: ModuleHost) -> None:
        """Run its body and its init; then it is LIVE."""
        with self.scope.ambient():
            with self._load_errors():
                self.source.run()
                self.advance(Event.INIT)
                result = await self._run_hook("module_init", host)
            self._check_init(result)
        self.advance(Event.READY)

    async def exit(self, host: ModuleHost) -> None:
        """Run its exit, and say what it forgot."""
        try:
            with self.scope.ambient():
                result = await self._run_hook("module_exit", host)
        except Exception as error:
            error.add_note(f"raised by module_exit of {self.name}, which was unloaded all the same")
            raise
        finally:
            forgotten = [block.name for block in self.scope.blocks]
            if forgotten:
                _log.warn(
                    "a module forgot to unregister blocks", module=self.name, blocks=forgotten
                )
        if result is not None and not (isinstance(result, int) and result == 0):
            raise InvalidResultError(
                f"module_exit of {self.name} gave {result!r}, but an exit cannot fail: it gives "
                f"None; {self.name} was unloaded all the same"
            )

    async def _run_hook(self, name: str, host: ModuleHost) -> object:
        hook = getattr(self.source.module, name, None)
        result: Any = None if hook is None else hook(host)
        return await result if hasattr(result, "__await__") else result

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

    def _load_error(self, error: Exception) -> ModuleLoadError:
        return ModuleLoadError(
            f"{self.name} was not loaded: {describe_failure(error, self.source.file)}",
            module=self.name,
            errno=getattr(error, "errno", None),
        )

    def _check_init(self, result: object) -> None:
        if result is None:
            return
        if not isinstance(result, int) or not -_MAX_ERRNO <= result <= 0:
            hint = f"; did you mean {-result}?" if isinstance(result, int) and result > 0 else ""
            raise InvalidResultError(
                f"{self.name} was not loaded: its module_init gave {result!r}, not None, 0 or a "
                f"negative errno{hint}"
            )
        if result:
            name = errno.errorcode.get(-result, "unknown errno")
            raise ModuleLoadError(
                f"{self.name} was not loaded: its module_init gave {result} "
                f"({name}: {os.strerror(-result)})",
                module=self.name,
                errno=-result,
            )
