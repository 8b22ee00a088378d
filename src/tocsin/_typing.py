"""Type variables with defaults, without importing ``typing_extensions`` at run time.

Checkers see ``Generic`` and type variables with defaults (PEP 696): an event may be anything, data
is ``None`` unless said otherwise. At run time the generic classes only need to be subscriptable,
with as many parameters as the user cares to give, which is what ``types.GenericAlias`` does.
"""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Generic, TypeAlias

    from typing_extensions import TypeVar

    EventT = TypeVar("EventT", default=Any)
    DataT = TypeVar("DataT", default=None)
    AnyDataT = TypeVar("AnyDataT", default=Any)
    EventT_contra = TypeVar("EventT_contra", contravariant=True, default=Any)
    DataT_contra = TypeVar("DataT_contra", contravariant=True, default=None)
    ResultT_co = TypeVar("ResultT_co", covariant=True, default=Any)
    SyncResultT = TypeVar("SyncResultT", bound="int | None", default=Any)
    AnyResultT = TypeVar("AnyResultT", bound="int | Awaitable[int | None] | None", default=Any)

    SyncResult: TypeAlias = int | None
    AnyResult: TypeAlias = int | Awaitable[int | None] | None
    Slot: TypeAlias = Callable[[Any, Any], Any]
    Wrapper: TypeAlias = Callable[[Any, Slot], Slot]
    """Given a block and its callback, what to call instead."""
else:
    from typing import TypeVar

    class Generic:
        """Subscriptable with any number of parameters; nothing is checked."""

        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)

    EventT = TypeVar("EventT")
    DataT = TypeVar("DataT")
    AnyDataT = TypeVar("AnyDataT")
    EventT_contra = TypeVar("EventT_contra")
    DataT_contra = TypeVar("DataT_contra")
    ResultT_co = TypeVar("ResultT_co")
    SyncResultT = TypeVar("SyncResultT")
    AnyResultT = TypeVar("AnyResultT")

__all__ = [
    "AnyDataT",
    "AnyResult",
    "AnyResultT",
    "DataT",
    "DataT_contra",
    "EventT",
    "EventT_contra",
    "Generic",
    "ResultT_co",
    "Slot",
    "SyncResult",
    "SyncResultT",
    "Wrapper",
]
