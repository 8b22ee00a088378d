"""`ModuleHost`: loads and unloads modules as the kernel does, on a bus.

Owns which modules there are, who uses whom, and the scope of each. Where a module is and how its
body is run is `module_source`'s business, the hooks are `module_record`'s; which step is legal when
stands in `module_states`.

Decides in sync functions, acts afterwards: what a load or an unload is going to do, and whether it
may, is settled before anything is awaited.

Invariants: a name in ``_modules`` is not ABSENT; a module comes after those that it required when
it was loaded; no circle of modules uses itself; what is in ``uses`` is LIVE, or is being loaded by
the same `ModuleHost.load`.

Source: ``kernel/module/main.c``.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _log
from .bus import Bus, _did_you_mean
from .errors import (
    InvalidTypeError,
    ModuleDependencyError,
    ModuleError,
    ModuleInUseError,
    ModuleLoadedError,
    ModuleNotLoadedError,
    ScopeClosedError,
    TocsinError,
    add_note,
)
from .loops import shield
from .module_record import ModuleRecord
from .module_source import in_words, locate
from .module_states import TRANSITIONS, Event, ModuleState, advance
from .scopes import ambient_scope

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from types import ModuleType, TracebackType
    from typing import Self

    from .module_source import Location
    from .scopes import Scope

__all__ = ["ModuleHost", "ModuleInfo", "ModuleState"]


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
    """

    __slots__ = ("_bus", "_exited", "_modules")

    def __init__(self, bus: Bus) -> None:
        if not isinstance(bus, Bus):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidTypeError(f"a module host needs a Bus, not {type(bus).__name__}")
        self._bus = bus
        self._modules: dict[str, ModuleRecord] = {}
        self._exited = False

    @property
    def bus(self) -> Bus:
        """The bus on which the modules meet."""
        return self._bus

    @property
    def modules(self) -> tuple[ModuleInfo, ...]:
        """The modules there are, in whatever state, in the order in which they were loaded.

        Source: ``lsmod``.
        """
        return tuple(
            ModuleInfo(module.name, module.state, self._users(module.name))
            for module in self._modules.values()
        )

    def scope(self, name: str) -> Scope:
        """Give the scope of a module, for what it registers after its ``module_init``.

        Raises `ModuleNotLoadedError`.
        """
        return self._find(name).scope

    def require(self, name: str) -> ModuleType:
        """Give a loaded module, and record that the module whose scope is ambient uses it.

        It cannot be unloaded before its user. Raises `ModuleDependencyError` when it is not
        loaded, or when that would make a circle. Sync; legal anywhere.
        """
        user = self._ambient_module()
        self._check_use(name, "" if user is None else user.name)
        needed = self._modules[name]
        if user is not None:
            if self._reaches(needed, user):
                raise ModuleDependencyError(
                    f"{user.name} cannot use {name}, which uses {user.name}", module=user.name
                )
            user.uses[name] = None
        return needed.source.module

    async def load(self, spec: str | os.PathLike[str], autoload: bool = False) -> ModuleType:
        """Load a module: find it, see that what it requires is there, run its body and its init.

        ``spec`` is the path of a file (text ending in ``.py``, or path-like), an entry point of the
        group ``tocsin.modules``, or a dotted name. The module's name is the file's stem, the entry
        point's name, or the last dotted part. With ``autoload`` what it requires and is not
        loaded is loaded first: what lies beside it, an entry point, or a dotted name.

        Gives the module. Raises `ModuleLoadedError`, `ModuleDependencyError`, `ModuleLoadError`,
        and `InvalidResultError` for what ``module_init`` must not give. A load that fails or is
        cancelled is undone, as if it never began: what it loaded meanwhile, and nobody else uses,
        is unloaded too. Source: ``insmod``, ``modprobe``.
        """
        plan: list[ModuleRecord] = []
        try:
            self._plan(locate(spec), plan, 0, autoload=autoload)
            for module in plan:
                await self._start(module)
        except BaseException as error:
            await self._undo(plan, error)
            raise
        loader = self._ambient_module()
        if loader is not None and loader.state is not ModuleState.LIVE:
            loader.loaded += plan
        return plan[-1].source.module

    async def unload(self, name: str) -> None:
        """Unload a module: run its ``module_exit``, and take off whatever is left of it.

        When this returns no callback of the module is running. Blocks that it forgot are logged.
        Raises `ModuleNotLoadedError`, `ModuleInUseError` while other modules use it or blocks of
        others are on its chains, and `WouldDeadlockError` inside a callback of the module; then
        nothing has happened. What ``module_exit`` raises comes when it is unloaded all the same;
        so does a cancellation, and then no callback is waited for. Source: ``rmmod``.
        """
        module = self._check_unload(name)
        module.advance(Event.UNLOAD)
        await self._finish(module)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exited = True
        failures, interruption = await _each(
            partial(self._remove, self._modules[name]) for name in self._unload_order()
        )
        if error is not None and not isinstance(interruption, KeyboardInterrupt):
            _add_notes(error, failures, "while all modules were unloaded")
        elif interruption is not None:
            _log_all(failures)
            raise interruption
        elif len(failures) == 1:
            raise failures[0]
        elif failures:
            raise ExceptionGroup("unloading all modules", failures)

    def __repr__(self) -> str:
        return f"<ModuleHost on {self._bus!r}: {', '.join(self._modules) or 'no modules'}>"

    # Deciding.

    def _plan(
        self, location: Location, plan: list[ModuleRecord], place: int, *, autoload: bool
    ) -> ModuleRecord:
        """Put a module and what it requires into the plan, at ``place`` and in order."""
        module = self._enter(location)
        plan.insert(place, module)
        module.read()
        for spec in module.source.requires:
            name = self._name_of(spec)
            place = plan.index(module)
            if autoload and name not in self._modules:
                try:
                    found = module.source.location.sibling(spec) or locate(spec)
                    name = self._plan(found, plan, place, autoload=True).name
                except ModuleError as error:
                    add_note(error, f"required by {module.name}")
                    raise
            elif self._modules.get(name) not in plan[:place]:
                self._check_use(name, module.name)
            module.uses[name] = None
        return module

    def _name_of(self, spec: str) -> str:
        """Give the name of the module that is required: a name, or the one it is imported by."""
        if spec in self._modules:
            return spec
        named = (one.name for one in self._modules.values() if one.import_name == spec)
        return next(named, spec)

    def _enter(self, location: Location) -> ModuleRecord:
        """Give a module its place in the table, where it keeps others of that name out."""
        module = self._modules.get(location.name) or ModuleRecord(location)
        if self._exited:
            raise module.is_too_late()
        module.advance(Event.LOAD)
        for other in self._modules.values():
            if other.import_name == location.import_name:
                raise ModuleLoadedError(
                    f"{location.import_name} is loaded already, as {other.name}",
                    module=location.name,
                )
        self._modules[module.name] = module
        return module

    def _check_use(self, name: str, user: str) -> None:
        """Raise `ModuleDependencyError` unless a module may be used."""
        module = self._modules.get(name) if isinstance(name, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
        advance(name, module.state if module else ModuleState.ABSENT, Event.USE, user=user)

    def _check_unload(self, name: str) -> ModuleRecord:
        """Give a module that can be unloaded, or say why it cannot be."""
        module = self._find(name)
        advance(name, module.state, Event.UNLOAD)
        users = dict.fromkeys((*self._users(name), *self._strangers(module)))
        if users:
            raise ModuleInUseError(
                f"{name} is in use by: {', '.join(users)}", module=name, errno=errno.EAGAIN
            )
        _refuse_to_wait_for(module.scope)
        return module

    def _find(self, name: str) -> ModuleRecord:
        try:
            return self._modules[name]
        except (KeyError, TypeError):  # a TypeError: not even hashable
            raise ModuleNotLoadedError(
                f"{name} is not loaded{_did_you_mean(name, self._modules)}", module=name
            ) from None

    def _ambient_module(self) -> ModuleRecord | None:
        scope = None
        with suppress(ScopeClosedError):
            scope = ambient_scope()
        return next((one for one in self._modules.values() if one.scope is scope), None)

    def _users(self, name: str) -> tuple[str, ...]:
        return tuple(one.name for one in reversed(self._modules.values()) if name in one.uses)

    def _strangers(self, module: ModuleRecord) -> Iterator[str]:
        """Give whose blocks, not the module's, are on its chains."""
        for chain in self._bus._owned_by(module.scope):
            for block in (*chain.blocks, *chain.parked):
                if block.owner is None:
                    yield f"block {block.name} on chain {chain.name}"
                elif block.owner is not module.scope:
                    yield block.owner.name

    def _reaches(self, module: ModuleRecord, user: ModuleRecord) -> bool:
        """Say whether a module is ``user``, or uses it, directly or not."""
        return module is user or any(
            self._reaches(self._modules[name], user) for name in module.uses
        )

    def _unload_order(self) -> list[str]:
        """Give all modules, users before what they use, else the latest first."""
        left = list(reversed(self._modules))
        order: list[str] = []
        while left:
            name = next(one for one in left if not set(self._users(one)) & set(left))
            left.remove(name)
            order.append(name)
        return order

    # Acting.

    async def _start(self, module: ModuleRecord) -> None:
        self._modules[module.name] = self._modules.pop(module.name)  # behind what it uses
        try:
            await module.start(self)
        except TocsinError as error:
            for user in self._users(module.name):
                add_note(error, f"required by {user}")
            raise

    async def _undo(self, plan: list[ModuleRecord], error: BaseException) -> None:
        """Undo a load: drop what is not loaded yet, unload what is and nobody else uses by now."""
        failures, _ = await _each(partial(self._take_back, one) for one in reversed(plan))
        _add_notes(error, failures, "while that was undone")

    async def _take_back(self, module: ModuleRecord) -> None:
        if module.state is ModuleState.LIVE:
            self._check_unload(module.name)
        await self._remove(module)
        failures, _ = await _each(partial(self._take_back, one) for one in reversed(module.loaded))
        _log_all(failures)

    async def _remove(self, module: ModuleRecord) -> None:
        """Unload a module, or stop loading it, whoever uses it; see that it is gone."""
        if module.state is ModuleState.LIVE:
            module.advance(Event.UNLOAD)
            await self._finish(module, unwinding=True)
        elif Event.FAIL in TRANSITIONS[module.state]:
            module.advance(Event.FAIL)
            await self._dismantle(module)
        else:  # somebody else is unloading it, or has
            await module.gone.wait()

    async def _finish(self, module: ModuleRecord, *, unwinding: bool = False) -> None:
        """Unload a module that is GOING; the hook of an unwinding is not cancelled."""
        try:
            with shield(needed=unwinding):
                await module.exit(self)
        finally:
            await self._dismantle(module)

    async def _dismantle(self, module: ModuleRecord) -> None:
        """Take off everything of a module that is GOING."""
        try:
            await module.scope.aclose()
        finally:
            left = list(self._strangers(module))
            if left:
                _log.warn(
                    "a module is gone, and on its chains are others", module=module.name, left=left
                )
            for chain in self._bus._owned_by(module.scope):
                self._bus._discard(chain.name)
            del self._modules[module.name]
            package = module.source.package
            others = (one.source for one in self._modules.values())
            module.source.withdraw(next((one for one in others if one.package == package), None))
            module.advance(Event.GONE)
            module.gone.set()


async def _each(
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


def _add_notes(error: BaseException, failures: list[Exception], when: str) -> None:
    """Let an error surface as itself, with what failed on its way."""
    _log_all(failures)
    for failure in failures:
        add_note(error, f"{when}: {in_words(failure)}")


def _log_all(failures: list[Exception]) -> None:
    for failure in failures:
        _log.warn("a module failed while it was unloaded", error=failure)


def _refuse_to_wait_for(scope: Scope) -> None:
    """Raise `WouldDeadlockError` where unregistering a block would wait for the running code."""
    what, instead = "unloading from", "unload the module after the call"
    for block in scope.blocks:
        chain: Any = block.chain
        if hasattr(chain, "_refuse_any_walk"):  # its writers exclude all walks
            chain._refuse_any_walk(what, instead)
        else:
            chain._refuse_own_walk(block, what, instead)
