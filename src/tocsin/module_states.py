r"""The life of a module, as a table.

Owns which event is legal in which state, and what an illegal one is called. Knows no module.

The states are the kernel's, and two more: "not there", and what a reload adds::

    ABSENT -load-> UNFORMED -init-> COMING -ready-> LIVE -unload-> GOING -gone-> ABSENT
                       \               \------------fail-----------/
                        \---------------------------fail----------/

    LIVE -reload-> RELOADING -settle-> LIVE
                             -leave--> GOING

RELOADING are the old versions before they go, and the new ones that are there before all are.

Source: ``enum module_state``, ``kernel/module/main.c``.
"""

from __future__ import annotations

from enum import Enum, StrEnum, auto

from .errors import (
    ModuleDependencyError,
    ModuleError,
    ModuleInUseError,
    ModuleLoadedError,
)

__all__ = ["REFUSALS", "TRANSITIONS", "Event", "ModuleState", "advance"]


class ModuleState(StrEnum):
    """Where a module is in its life."""

    ABSENT = auto()
    """Not there: the beginning and the end."""
    UNFORMED = auto()
    """It is read, what it requires is looked for, and its body runs."""
    COMING = auto()
    """Its ``module_init`` is running."""
    LIVE = auto()
    """It is loaded, and others may use it."""
    GOING = auto()
    """It is on its way out: nobody may use it any more."""
    RELOADING = auto()
    """It takes part in a reload: only those may use it that take part too."""


class Event(Enum):
    """What happens to a module."""

    LOAD = auto()
    INIT = auto()
    READY = auto()
    FAIL = auto()
    USE = auto()
    UNLOAD = auto()
    GONE = auto()
    RELOAD = auto()
    SETTLE = auto()
    LEAVE = auto()


_ABSENT, _UNFORMED, _COMING, _LIVE, _GOING, _RELOADING = ModuleState

TRANSITIONS: dict[ModuleState, dict[Event, ModuleState]] = {
    _ABSENT: {Event.LOAD: _UNFORMED},
    _UNFORMED: {Event.INIT: _COMING, Event.FAIL: _GOING},
    _COMING: {Event.READY: _LIVE, Event.FAIL: _GOING},
    _LIVE: {Event.USE: _LIVE, Event.UNLOAD: _GOING, Event.RELOAD: _RELOADING},
    _GOING: {Event.GONE: _ABSENT},
    _RELOADING: {Event.SETTLE: _LIVE, Event.LEAVE: _GOING},
}
"""The state that follows; an event that is not here is illegal."""

REFUSALS: dict[ModuleState, dict[Event, tuple[type[ModuleError], str]]] = {
    _ABSENT: {
        Event.USE: (
            ModuleDependencyError,
            "{user} needs {name}, which is not loaded; load {name} first",
        ),
    },
    _UNFORMED: {
        Event.LOAD: (ModuleLoadedError, "{name} is being loaded already"),
        Event.USE: (ModuleDependencyError, "{user} needs {name}, which is still being loaded"),
        Event.UNLOAD: (ModuleInUseError, "{name} is still being loaded; unload it after that"),
        Event.RELOAD: (ModuleInUseError, "{name} is still being loaded; reload it after that"),
    },
    _COMING: {
        Event.LOAD: (ModuleLoadedError, "{name} is being loaded already"),
        Event.USE: (ModuleDependencyError, "{user} needs {name}, which is still being loaded"),
        Event.UNLOAD: (ModuleInUseError, "{name} is still being loaded; unload it after that"),
        Event.RELOAD: (ModuleInUseError, "{name} is still being loaded; reload it after that"),
    },
    _LIVE: {
        Event.LOAD: (ModuleLoadedError, "{name} is loaded already"),
    },
    _GOING: {
        Event.LOAD: (ModuleLoadedError, "{name} is still being unloaded; load it after that"),
        Event.USE: (ModuleDependencyError, "{user} needs {name}, which is being unloaded"),
        Event.UNLOAD: (ModuleInUseError, "{name} is being unloaded already"),
        Event.RELOAD: (ModuleInUseError, "{name} is being unloaded; load it after that"),
    },
    _RELOADING: {
        Event.LOAD: (ModuleLoadedError, "{name} is loaded already, and is being reloaded"),
        Event.USE: (ModuleDependencyError, "{user} needs {name}, which is being reloaded"),
        Event.UNLOAD: (ModuleInUseError, "{name} is being reloaded; unload it after that"),
        Event.RELOAD: (ModuleInUseError, "{name} is being reloaded already"),
    },
}
"""What is said to whoever asks for what is illegal.

The host alone sends the events that are not here, and finds nobody ABSENT to unload or reload.
"""


def advance(name: str, state: ModuleState, event: Event, *, user: str = "") -> ModuleState:
    """Give the state that follows, or raise what stands in `REFUSALS`. Pure.

    ``user`` is who wants to use the module ``name``; an error about that is the user's.
    """
    following = TRANSITIONS[state].get(event)
    if following is None:
        kind, text = REFUSALS[state][event]
        raise kind(text.format(name=name, user=user or "this code"), module=user or name)
    return following
