"""`Reload`: a new version of a module in the place of the old one, and back if it fails.

Those that use the module, directly or not, take part: they go before it and come after it. Owns the
three lists of who goes, who comes, and who comes back; the steps are `module_loader`'s.

Decides first: the new versions are read and compiled, and what they require is looked for, before
anything of the old ones is touched. Their names stay taken throughout, and what any version needs
stays loaded. Nobody whose init has loaded others takes part: its code of old alone would not bring
back what was there.

The versions that are there before all are there are RELOADING, so that nobody else comes to use
what may have to go again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .errors import ModuleDependencyError, ModuleError, ModuleLoadError, TocsinError, add_note
from .loops import shield
from .module_loader import add_failures, do_each, log_failures
from .module_record import ModuleRecord
from .module_source import in_words
from .module_states import Event, ModuleState, advance

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from .module_loader import ModuleLoader
    from .module_table import ModuleTable

__all__ = ["Reload"]


class Reload:
    """One reload. Not for direct use.

    When it is made all is settled, or it raises and nothing has happened. `run` does it.
    """

    __slots__ = (
        "_coming",
        "_failures",
        "_going",
        "_loader",
        "_name",
        "_table",
        "needs",
    )

    def __init__(self, table: ModuleTable, loader: ModuleLoader, name: str) -> None:
        self._table = table
        self._loader = loader
        self._name = name
        self._failures: list[Exception] = []
        """What went wrong on the way out of those that go."""
        self._going = self._users_of(table.find(name))
        """The old versions, users before what they use."""
        self._check()
        self._coming = self._read()
        """The new versions, users after what they use."""
        self.needs: frozenset[str] = frozenset(
            used for one in (*self._going, *self._coming) for used in one.uses
        )
        """What the old or the new versions use, and nobody may unload now."""
        successors = {new.name: new for new in self._coming}
        for old in self._going:
            old.advance(Event.RELOAD)
            self._enlist(old, successors[old.name])

    async def run(self) -> ModuleType:
        """Do it, and give the new version. When it raises, the old one is back, or it says so."""
        try:
            for old in self._going:
                await self._see_off(old)
            for new in self._coming:
                await self._bring(new)
            module = self._table.find(self._name).source.module
        except BaseException as error:
            await self._go_back(error)
            raise
        self._settle(self._coming)
        log_failures(self._failures)
        return module

    # Deciding.

    def _users_of(self, module: ModuleRecord) -> list[ModuleRecord]:
        if self._table.is_closed:
            raise module.is_too_late()
        return self._table.with_users(module)

    def _check(self) -> None:
        """Raise if somebody cannot go."""
        try:
            for one in reversed(self._going):
                advance(one.name, one.state, Event.RELOAD)
                one.check_alone()
            self._table.check_free(self._going, "reload")
        except ModuleError as error:
            if error.module != self._name:
                add_note(error, f"it goes with {self._name}, which was to be reloaded")
            raise

    def _read(self) -> list[ModuleRecord]:
        """Give the new versions in the order in which they can be loaded."""
        coming = [ModuleRecord(old.source.location) for old in reversed(self._going)]
        try:
            for new in coming:
                new.read()
            for new in coming:
                self._note_uses(new)
                for name in new.uses.keys() - {one.name for one in coming}:
                    self._table.check_use(name, new)
            return _in_order(coming)
        except ModuleError as error:
            raise self._error(error, "the old version stays") from error

    def _note_uses(self, module: ModuleRecord) -> None:
        module.uses.update((self._table.name_of(one), None) for one in module.source.requires)

    def _enlist(self, module: ModuleRecord, successor: ModuleRecord) -> None:
        module.reload = successor.reload = self
        module.successor = successor

    def _settle(self, modules: Iterable[ModuleRecord]) -> None:
        """Let go of those who took part, and of those who are there now."""
        for module in (*self._going, *modules):
            if module.state is ModuleState.RELOADING:
                module.advance(Event.SETTLE)
            module.reload = module.successor = None

    # Acting.

    async def _see_off(self, old: ModuleRecord) -> None:
        try:
            await self._loader.remove(old, unwinding=False)
        except Exception as error:
            if old.scope.running:  # what is promised does not hold
                raise
            self._failures.append(error)  # it is gone all the same

    async def _bring(self, module: ModuleRecord) -> None:
        if self._table.is_closed:
            raise module.is_too_late()
        for name in module.uses:
            self._table.check_use(name, module)
        await self._loader.start(module)
        module.advance(Event.RELOAD)

    async def _go_back(self, error: BaseException) -> None:
        """Bring back the old versions, and raise what tells how that went."""
        with shield(needed=True):
            returning = self._return_plan()
            failures, first = await do_each(
                partial(self._loader.take_back, new)
                for new in reversed(self._coming)
                if new.state is not ModuleState.ABSENT
            )
            lost, last = await do_each(partial(self._return, old) for old in returning)
        self._settle(returning)
        told = error
        if isinstance(error, Exception):
            told = self._error(error, self._outcome(returning))
        add_failures(told, [*self._failures, *failures], "while that was undone")
        add_failures(told, lost, "and", what="a module could not be restored")
        if (interruption := first or last) is not None:
            raise interruption
        if told is not error:
            raise told from error

    def _return_plan(self) -> list[ModuleRecord]:
        """Give the old versions that have gone, to be loaded again in the order of old."""
        gone = {old.name: old for old in reversed(self._going) if old.gone.is_set()}
        returning = {name: old.again() for name, old in gone.items()}
        for new in self._coming:
            if new.name in returning:
                self._note_uses(returning[new.name])
                self._enlist(new, returning[new.name])
        return list(returning.values())

    async def _return(self, old: ModuleRecord) -> None:
        try:
            await self._bring(old)
        except BaseException:
            if old.state is not ModuleState.ABSENT:
                await self._loader.take_back(old)
            raise

    def _outcome(self, returning: list[ModuleRecord]) -> str:
        lost = [old.name for old in returning if old.state is not ModuleState.LIVE]
        if not lost:
            return "the old version was restored"
        return (
            f"and these old versions could not be restored and are not loaded now "
            f"({', '.join(lost)})"
        )

    def _error(self, error: Exception, outcome: str) -> ModuleError:
        reason = str(error) if isinstance(error, TocsinError) else in_words(error)
        kind = (
            ModuleDependencyError if isinstance(error, ModuleDependencyError) else ModuleLoadError
        )
        return kind(
            f"{self._name} was not reloaded, {outcome}: "
            f"{reason.removeprefix(f'{self._name} was not loaded: ')}",
            module=self._name,
            errno=getattr(error, "errno", None),
        )


def _in_order(modules: list[ModuleRecord]) -> list[ModuleRecord]:
    """Put modules behind what they use, and else leave them in order."""
    left = list(modules)
    order: list[ModuleRecord] = []
    while left:
        names = {one.name for one in left}
        free = next((one for one in left if not one.uses.keys() & names), None)
        if free is None:
            raise ModuleDependencyError(
                f"no order of loading: each needs another of {', '.join(one.name for one in left)}",
                module=left[0].name,
            )
        order.append(free)
        left.remove(free)
    return order
