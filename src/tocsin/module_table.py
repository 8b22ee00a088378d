"""`ModuleTable`: which modules a host has, who uses whom, and what may be done with them.

Owns the records and their order. Decides only, in sync functions: nothing here runs code of a
module, but for the packages that one lies in, and nothing is awaited, so nobody comes in between.

Invariants: a name in ``_records`` is not ABSENT; a module comes after those that it required when
it was loaded; no circle of modules uses itself; what is in ``uses`` is LIVE, or is being loaded by
the same `ModuleHost.load`, or takes part in the same reload.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING

from .errors import (
    ModuleDependencyError,
    ModuleError,
    ModuleInUseError,
    ModuleLoadedError,
    ModuleNotLoadedError,
    ScopeClosedError,
    add_note,
)
from .module_record import ModuleRecord
from .module_source import locate
from .module_states import Event, ModuleState, advance
from .nearest import did_you_mean
from .scopes import ambient_scope
from .wording import as_str, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .bus import Bus
    from .module_source import Location

__all__ = ["ModuleTable"]


class ModuleTable:
    """The modules of a host by name. Not for direct use."""

    __slots__ = ("_bus", "_records", "is_closed")

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._records: dict[str, ModuleRecord] = {}
        self.is_closed: bool = False
        """Whether nothing may be loaded any more."""

    def __iter__(self) -> Iterator[ModuleRecord]:
        return iter(tuple(self._records.values()))

    # Who is there, and who uses whom.

    def find(self, name: str) -> ModuleRecord:
        """Give a module, or raise `ModuleNotLoadedError`."""
        module = self._get(name)
        if module is None:
            raise ModuleNotLoadedError(
                f"{_called(name)} is not loaded{did_you_mean(name, self._records)}", module=name
            )
        return module

    def _get(self, name: object) -> ModuleRecord | None:
        return self._records.get(as_str(name) or "")

    def ambient(self) -> ModuleRecord | None:
        """Give the module whose scope is ambient, if it is one."""
        scope = None
        with suppress(ScopeClosedError):
            scope = ambient_scope()
        return next((one for one in self if one.scope is scope), None)

    def users(self, name: str) -> tuple[str, ...]:
        """Give the modules that use one, the latest first."""
        return tuple(one.name for one in reversed(self._records.values()) if name in one.uses)

    def strangers(self, module: ModuleRecord, known: Collection[ModuleRecord]) -> Iterator[str]:
        """Give whose blocks are on its chains, but for those of the modules that are known."""
        scopes = [one.scope for one in known]
        for chain in self._bus._owned_by(module.scope):
            for block in (*chain.blocks, *chain.parked):
                if block.owner is None:
                    yield f"block {block.name} on chain {chain.name}"
                elif block.owner not in scopes:
                    yield block.owner.name

    def unload_order(self) -> list[ModuleRecord]:
        """Give all modules, users before what they use, else the latest first."""
        left = list(reversed(self._records.values()))
        order: list[ModuleRecord] = []
        while left:
            used = {name for one in left for name in one.uses}
            order.append(next(one for one in left if one.name not in used))
            left.remove(order[-1])
        return order

    def with_users(self, module: ModuleRecord) -> list[ModuleRecord]:
        """Give a module behind all those that use it, directly or not, in order of unloading."""
        return [one for one in self.unload_order() if self._reaches(one, module)]

    def _reaches(self, module: ModuleRecord, user: ModuleRecord) -> bool:
        """Say whether a module is ``user``, or uses it, directly or not."""
        used = (self._records.get(name) for name in module.uses)  # None: lost, and its user will be
        return module is user or any(one and self._reaches(one, user) for one in used)

    # What may be done.

    def plan(
        self, location: Location, plan: list[ModuleRecord], place: int, *, autoload: bool
    ) -> ModuleRecord:
        """Put a module and what it requires into the plan, at ``place`` and in order."""
        module = self._enter(location)
        plan.insert(place, module)
        module.read()
        for spec in module.source.requires:
            name = self.name_of(spec)
            place = plan.index(module)
            if autoload and name not in self._records:
                try:
                    found = module.source.location.sibling(spec) or locate(spec)
                    name = self.plan(found, plan, place, autoload=True).name
                except ModuleError as error:
                    add_note(error, f"required by {module.name}")
                    raise
            elif self._records.get(name) not in plan[:place]:
                self.check_use(name, module)
            module.uses[name] = None
        return module

    def use(self, name: str) -> ModuleRecord:
        """Give a module that may be used, and record that the ambient one uses it.

        Raises `ModuleDependencyError`.
        """
        user = self.ambient()
        self.check_use(name, user)
        needed = self._records[name]
        if user is not None:
            if self._reaches(needed, user):
                raise ModuleDependencyError(
                    f"{user.name} cannot use {name}, which uses {user.name}", module=user.name
                )
            user.uses[name] = None
        return needed

    def check_unload(self, name: str) -> ModuleRecord:
        """Give a module that can be unloaded, or say why it cannot be."""
        module = self.find(name)
        advance(name, module.state, Event.UNLOAD)
        self.check_free([module], "unload")
        return module

    def check_free(self, leaving: Collection[ModuleRecord], verb: str) -> None:
        """Raise unless modules can go: `ModuleInUseError`, or `WouldDeadlockError`.

        Nobody else may use them or have a block on their chains. ``verb`` is what is done to them.
        """
        for module in leaving:
            users = dict.fromkeys(
                (*self._needed_by(module, leaving), *self.strangers(module, leaving))
            )
            if users:
                raise ModuleInUseError(
                    f"{module.name} is in use by: {', '.join(users)}",
                    module=module.name,
                    errno=errno.EAGAIN,
                )
        for module in leaving:
            module.scope.refuse_to_wait(f"{verb}ing from", f"{verb} the module after the call")

    def _needed_by(self, module: ModuleRecord, leaving: Collection[ModuleRecord]) -> Iterator[str]:
        """Give who else uses a module, or any of their versions that a reload may bring up."""
        for one in reversed(self._records.values()):
            reserved = () if one.reload is None else one.reload.needs
            if one not in leaving and (module.name in one.uses or module.name in reserved):
                yield one.name

    def name_of(self, spec: str) -> str:
        """Give the name of the module that is required: a name, or the one it is imported by."""
        if spec in self._records:
            return spec
        return next((one.name for one in self if one.import_name == spec), spec)

    def _enter(self, location: Location) -> ModuleRecord:
        """Give a module its place in the table, where it keeps others of that name out."""
        module = self._records.get(location.name) or ModuleRecord(location)
        if self.is_closed:
            raise module.is_too_late()
        module.advance(Event.LOAD)
        for other in self:
            if other.import_name == location.import_name:
                raise ModuleLoadedError(
                    f"{location.import_name} is loaded already, as {other.name}",
                    module=location.name,
                )
        self._records[module.name] = module
        return module

    def check_use(self, name: str, user: ModuleRecord | None) -> None:
        """Raise `ModuleDependencyError` unless a module may be used, by another or by no module."""
        module = self._get(name)
        state = module.state if module else ModuleState.ABSENT
        if state is ModuleState.RELOADING and user and module and user.reload is module.reload:
            return
        advance(_called(name), state, Event.USE, user=user.name if user else "")

    # What is done.

    def move_last(self, module: ModuleRecord) -> None:
        """Put a module behind what it uses."""
        self._records[module.name] = self._records.pop(module.name)

    def drop(self, module: ModuleRecord) -> None:
        """Let go of a module that is gone: of its chains, and of what is in ``sys.modules``.

        Its successor takes its place, and keeps others of that name out.
        """
        for chain in self._bus._owned_by(module.scope):
            self._bus._discard(chain.name)
        del self._records[module.name]
        package = module.source.package
        ran = (one.source for one in self if one.state is not ModuleState.UNFORMED)
        module.source.withdraw(next((one for one in ran if one.package == package), None))
        if module.successor is not None and not self.is_closed:
            self._replace(module, module.successor)
        module.advance(Event.GONE)
        module.gone.set()

    def _replace(self, module: ModuleRecord, successor: ModuleRecord) -> None:
        successor.advance(Event.LOAD)
        self._records[module.name] = successor
        for one in self:
            one.loaded = [successor if loaded is module else loaded for loaded in one.loaded]


def _called(name: object) -> str:
    """Say in a message which module is meant."""
    text = as_str(name)
    return shown(name) if text is None else text
