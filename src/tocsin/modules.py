"""`ModuleHost`: loads and unloads modules as the kernel does, on a bus.

The face of it all. Which modules there are and what may be done with them is `module_table`'s
business, the steps are `module_loader`'s; where a module is and how its body is run stands in
`module_source`, the hooks in `module_record`, which step is legal when in `module_states`.

Decides first, acts afterwards: what a load or an unload is going to do, and whether it may, is
settled before anything is awaited.

Source: ``kernel/module/main.c``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .bus import Bus
from .checks import check_seconds
from .errors import InvalidTypeError, InvalidValueError
from .module_loader import ModuleLoader, add_failures, do_each, log_failures
from .module_reload import Reload
from .module_source import locate
from .module_states import Event, ModuleState
from .module_table import ModuleTable
from .wording import printable

if TYPE_CHECKING:
    import os
    from types import ModuleType, TracebackType
    from typing import Self

    from .module_record import ModuleRecord
    from .scopes import Scope

__all__ = ["ModuleHost", "ModuleInfo", "ModuleState"]

_ON_ITS_WAY_IN = (ModuleState.UNFORMED, ModuleState.COMING)


class ModuleInfo(NamedTuple):
    """A line of what ``lsmod`` prints."""

    name: str
    state: ModuleState
    users: tuple[str, ...]
    """The modules that use it, the latest first."""


class ModuleHost:
    """Loads and unloads modules; they find its ``bus`` in their ``module_init``.

    A module may define ``REQUIRES`` (a literal: the names of modules that have to be loaded before
    its body runs), ``module_init(host)`` and ``module_exit(host)``, sync or async. They give
    ``None`` or 0; a negative errno from ``module_init`` fails the load. Body, init and exit run
    ambient in the module's scope, which owns the blocks registered and the chains added to the bus
    meanwhile; what it registers later it registers through ``host.scope(name)``.

    ``async with`` unloads all, in reverse, at the end, whatever is on their chains, and then the
    host loads no more. Used from one event loop. Its methods are checkpoints only where a hook
    makes them wait, or a callback that is still running.

    ``exit_timeout`` is for how many seconds, above 0, a ``module_exit`` may wait for something;
    then it is cancelled. As long again the module's callbacks that are running are waited for. Past
    either the module is unloaded all the same. ``None`` is no bound. The default lets a goodbye go
    over a network, and ends before the 30 s and more after which a supervisor kills a service that
    does not stop.
    """

    __slots__ = ("_bus", "_exit_timeout", "_loader", "_table")

    def __init__(self, bus: Bus, *, exit_timeout: float | None = 10.0) -> None:
        if not isinstance(bus, Bus):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidTypeError(f"a module host needs a Bus, not {type(bus).__name__}")
        _check_timeout(exit_timeout)
        self._bus = bus
        self._exit_timeout = exit_timeout
        self._table = ModuleTable(bus)
        self._loader = ModuleLoader(self, self._table)

    @property
    def bus(self) -> Bus:
        """The bus on which the modules meet."""
        return self._bus

    @property
    def exit_timeout(self) -> float | None:
        """For how many seconds a ``module_exit``, and then callbacks, may take; ``None``: any."""
        return self._exit_timeout

    @property
    def modules(self) -> tuple[ModuleInfo, ...]:
        """The modules there are, in whatever state, in the order in which they were loaded.

        Source: ``lsmod``.
        """
        return tuple(
            ModuleInfo(module.name, module.state, self._table.users(module.name))
            for module in self._table
        )

    def scope(self, name: str) -> Scope:
        """Give the scope of a module, for what it registers after its ``module_init``.

        Raises `ModuleNotLoadedError`.
        """
        return self._table.find(name).scope

    def require(self, name: str) -> ModuleType:
        """Give a loaded module, and record that the module whose scope is ambient uses it.

        It cannot be unloaded before its user. Raises `ModuleDependencyError` when it is not
        loaded, or when that would make a circle. Sync; legal anywhere.
        """
        return self._table.use(name).source.module

    async def load(self, spec: str | os.PathLike[str], autoload: bool = False) -> ModuleType:
        """Load a module: find it, see that what it requires is there, run its body and its init.

        ``spec`` is the path of a file (text ending in ``.py``, or path-like), an entry point of the
        group ``tocsin.modules``, or a dotted name. The module's name is the file's stem, the entry
        point's name, or the last dotted part. With ``autoload`` what it requires and is not
        loaded is loaded first: what lies beside it, an entry point, or a dotted name.

        Gives the module. Raises `ModuleLoadedError`, `ModuleDependencyError`, `InvalidTypeError`,
        `ModuleLoadError`, also for modules of Python and of Tocsin by their names, and
        `InvalidResultError` for what ``module_init`` must not give. A load that fails or is
        cancelled is undone, as if it never began: what it loaded meanwhile, and nobody else uses,
        is unloaded too. Source: ``insmod``, ``modprobe``.
        """
        plan: list[ModuleRecord] = []
        try:
            self._table.plan(locate(spec), plan, 0, autoload=autoload)
            for module in plan:
                await self._loader.start(module)
        except BaseException as error:
            await self._loader.undo(plan, error)
            raise
        loader = self._table.ambient()
        if loader is not None and loader.state in _ON_ITS_WAY_IN:
            loader.loaded += plan
        return plan[-1].source.module

    async def unload(self, name: str) -> None:
        """Unload a module: run its ``module_exit``, and take off whatever is left of it.

        When this returns no callback of the module is running, but for those of a `RawChain` that
        is called in other threads. Blocks that it forgot are logged.
        Raises `ModuleNotLoadedError`, `ModuleInUseError` while other modules use it or blocks of
        others are on its chains, and `WouldDeadlockError` inside a callback of the module, be that
        off its chain by now; then nothing has happened. The rest comes when it is unloaded all the
        same: what ``module_exit`` raises; `ModuleTimeoutError` when that took too long, or when a
        callback that is still running did, which it names; a cancellation, and then no callback is
        waited for. Source: ``rmmod``.
        """
        module = self._table.check_unload(name)
        module.advance(Event.UNLOAD)
        await self._loader.finish(module)

    async def reload(self, name: str) -> ModuleType:
        """Put a new version of a module in the place of the old one, from where that was loaded.

        The new version is read and compiled, and what it requires has to be loaded. Then all that
        use the module, directly or not, are unloaded, and it is; then it is loaded afresh, and so
        are they.

        Gives the new version. When this returns, no callback of a version that has gone is running,
        with the exception that `unload` has, and none will be entered again. What a ``module_exit``
        raises meanwhile is logged, for what was asked for is there.

        Raises `ModuleNotLoadedError`; `ModuleInUseError` while blocks of others are on the chains
        of those that have to go, while one of them is on its way in or out, and for one whose
        ``module_init`` has loaded others, which its code of old alone would not bring back;
        `WouldDeadlockError` inside a callback of one of them; then nothing has happened.
        `ModuleLoadError` and `ModuleDependencyError` say whether nothing was touched ("the old
        version stays"), or a body or ``module_init`` failed and the code of old was run once more
        ("the old version was restored"), or that failed too, and then what is not loaded now. A
        callback that does not end within ``exit_timeout`` is such a failure: it runs on, off its
        chain, beside the version that was restored.

        A reload that is cancelled is undone in the same way and waits for that, also for an old
        ``module_init`` that hangs. A second ``Task.cancel()`` of asyncio does cut it short.
        """
        return await Reload(self._table, self._loader, name).run()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._table.is_closed = True
        failures, interruption = await do_each(
            partial(self._loader.remove, module) for module in self._table.unload_order()
        )
        if error is not None and not isinstance(interruption, KeyboardInterrupt):
            add_failures(error, failures, "while all modules were unloaded")
        elif interruption is not None:
            log_failures(failures)
            raise interruption
        elif len(failures) == 1:
            raise failures[0]
        elif failures:
            raise ExceptionGroup("unloading all modules", failures)

    def __repr__(self) -> str:
        names = printable(", ".join(module.name for module in self._table))
        return f"<ModuleHost on {self._bus!r}: {names or 'no modules'}>"


def _check_timeout(seconds: float | None) -> None:
    if seconds is None:
        return
    check_seconds(seconds, "exit_timeout")
    if not seconds > 0:
        raise InvalidValueError(
            f"exit_timeout must be above 0 s, or None for no bound, not {seconds} s"
        )
