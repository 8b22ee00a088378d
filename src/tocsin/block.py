"""`NotifierBlock`: one subscriber, its name, its priority and its options.

Owns what a subscriber is. Knows no chain: the fields behind ``chain`` and ``owner`` are written by
chains and scopes.

Its slots begin with ``_nb_`` so that any other attribute is free for a subclass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ._typing import DataT_contra, EventT_contra, Generic, ResultT_co
from .callables import default_name, is_async_callable, why_not_callable
from .checks import check_bool
from .errors import InvalidTypeError
from .options import (
    NOBODY,
    PLAIN_ASYNC,
    PLAIN_SYNC,
    check_name,
    check_options,
    check_priority,
    make_rest,
)
from .wording import as_str

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias, Unpack

    from ._typing import Slot
    from .options import BlockOptions
    from .protocol import AnyChain
    from .scopes import Scope

__all__ = ["AnyBlock", "NotifierBlock", "block", "check_signature", "unwrap", "where"]

_NO_DATA: Any = None


class NotifierBlock(Generic[EventT_contra, DataT_contra, ResultT_co]):
    """One subscriber: a callback with a name, a priority and options, all of them read-only.

    ``callback(event, data)`` gives an int or ``None``, or is ``async def`` for chains that allow
    it. Instead of passing one, subclass and define ``notifier_call(self, event, data)``: the block
    then *is* the state, and attributes of a subclass are free, but for the names described here.

    - ``name``: by default the callback's ``__qualname__`` after its last ``<locals>.``; no comma,
      colon, white space or glob character (`ValueError`), so that a filter can name it.
    - ``priority``: any int between -2**2000 and 2**2000 (what is more, no message could show),
      higher runs first; equal ones run in the order of registration.
    - ``events``: one event or a collection of them (a `str` is one event); the callback hears only
      these. Compared by equality, so they must be hashable (`TypeError`).
    - ``once``: the callback runs at most once per registration, and is taken off before it runs.
    - ``before``, ``after``: a name or qualified name, or a collection of them; among blocks of the
      same priority it comes before or after all who bear one, whenever they come. A name that
      nobody bears asks for nothing.
    - ``timeout``: seconds, above 0, async callbacks only; expiry is a `TimeoutError` in the block.
    - ``thread``: a sync callback on an async chain runs in a worker thread.
    - ``is_async``: says whether the callback gives an awaitable, where detection cannot know.

    A block is compared by identity, is on at most one chain at a time, and may be registered again
    after it was unregistered. Making one touches no chain and is legal anywhere.
    Source: ``struct notifier_block``.
    """

    __slots__ = (
        "__weakref__",
        "_nb_callback",
        "_nb_chain",
        "_nb_name",
        "_nb_owner",
        "_nb_priority",
        "_nb_rest",
        "_nb_sequence",
        "_nb_slot",
    )

    # Written by the chain alone: which chain has claimed the block, its place in the order of
    # registration there, and what walks call, `None` being its own `notifier_call`. Written by
    # scopes alone: who will unregister it.
    _nb_chain: AnyChain | None
    _nb_sequence: int
    _nb_slot: Slot | None
    _nb_owner: Scope | None

    _nb_can_return = True
    """Whether it may be on a chain again after it has left one."""

    def __init__(
        self,
        callback: Callable[[EventT_contra, DataT_contra], ResultT_co] | None = None,
        *,
        name: str | None = None,
        priority: int = 0,
        events: object = None,
        once: bool = False,
        before: str | Iterable[str] = NOBODY,
        after: str | Iterable[str] = NOBODY,
        timeout: float | None = None,
        thread: bool = False,
        is_async: bool | None = None,
    ) -> None:
        self._nb_callback = callback
        self._nb_name = as_str(name)
        self._nb_chain = self._nb_owner = None
        self._nb_sequence = -1
        target = self._nb_check_target(callback)
        if is_async is not None:
            check_bool(is_async, f"is_async of block {self.name!r}")
        else:
            is_async = (
                target.is_async if isinstance(target, NotifierBlock) else is_async_callable(target)
            )
        if name is not None:
            check_name(name)
        self._nb_priority = check_priority(priority, self)
        is_plain = events is None and timeout is None and once is False and thread is False
        if is_plain and before is NOBODY and after is NOBODY:
            self._nb_rest = PLAIN_ASYNC if is_async else PLAIN_SYNC
        else:
            names = (self.name, self.qualified_name)
            self._nb_rest = make_rest(names, events, once, before, after, timeout, thread, is_async)

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Refuse attributes that would hide what a block says of itself, options among them."""
        super().__init_subclass__(**arguments)
        own = cls.__mro__[: cls.__mro__.index(NotifierBlock)]  # mixins too
        hidden = _SAID_BY_BLOCKS & {name for one in own for name in vars(one)}
        if hidden:
            raise InvalidTypeError(
                f"{cls.__name__} defines {', '.join(sorted(hidden))}, which every block has of its "
                f"own; pass options to super().__init__(), and take other names for the rest"
            )

    def _nb_check_target(self, callback: object) -> Callable[..., object]:
        overridden = type(self).notifier_call is not NotifierBlock.notifier_call
        if overridden == (callback is not None):
            raise InvalidTypeError(
                f"{type(self).__name__} defines notifier_call(), so it takes no callback"
                if overridden
                else f"{type(self).__name__} needs a callback, or a subclass that defines "
                f"notifier_call(self, event, data)"
            )
        target: object = self.notifier_call if overridden else callback
        if not callable(target):
            raise InvalidTypeError(f"a callback must be callable, not {type(target).__name__}")
        return target

    def notifier_call(self, event: EventT_contra, data: DataT_contra) -> ResultT_co:
        """Run the callback; a subclass defines this instead of passing one."""
        callback = cast("Callable[[EventT_contra, DataT_contra], ResultT_co]", self._nb_callback)
        return callback(event, data)

    def __call__(self, event: EventT_contra, data: DataT_contra = _NO_DATA) -> ResultT_co:
        """Run the bare callback, for direct tests: no chain, no option, no contract."""
        return self.notifier_call(event, data)

    @property
    def callback(self) -> Callable[[EventT_contra, DataT_contra], ResultT_co]:
        """What is called: the callback that was passed, or the subclass's ``notifier_call``."""
        return self._nb_callback if self._nb_callback is not None else self.notifier_call

    @property
    def name(self) -> str:
        """The name that filters, errors and logs use."""
        if self._nb_name is not None:
            return self._nb_name
        return default_name(self._nb_named())

    @property
    def qualified_name(self) -> str:
        """``module:name``, where the module is the one that defines the callback."""
        module = as_str(getattr(self._nb_named(), "__module__", None))
        return f"{module or '?'}:{self.name}"

    def _nb_named(self) -> object:
        return self._nb_callback if self._nb_callback is not None else type(self)

    @property
    def priority(self) -> int:
        """Higher runs first."""
        return self._nb_priority

    @property
    def events(self) -> frozenset[object] | None:
        """The events that the callback hears, or ``None`` for all."""
        return self._nb_rest.events

    @property
    def once(self) -> bool:
        """Whether the callback runs at most once per registration."""
        return self._nb_rest.once

    @property
    def before(self) -> tuple[str, ...]:
        """The names of the blocks of its priority before which it comes."""
        return self._nb_rest.before

    @property
    def after(self) -> tuple[str, ...]:
        """The names of the blocks of its priority behind which it comes."""
        return self._nb_rest.after

    @property
    def timeout(self) -> float | None:
        """Seconds that the async callback may take, or ``None`` for no bound."""
        return self._nb_rest.timeout

    @property
    def thread(self) -> bool:
        """Whether the callback runs in a worker thread."""
        return self._nb_rest.thread

    @property
    def is_async(self) -> bool:
        """Whether the callback gives an awaitable."""
        return self._nb_rest.is_async

    @property
    def chain(self) -> AnyChain | None:
        """The chain that the block is on, parked or not."""
        return self._nb_chain

    @property
    def is_parked(self) -> bool:
        """Whether the block is on a chain whose filter leaves it out."""
        return self._nb_chain is not None and any(self is block for block in self._nb_chain.parked)

    @property
    def owner(self) -> Scope | None:
        """The scope that will unregister the block, if one owns it."""
        return self._nb_owner

    def _nb_left(self) -> None:
        """Take note that the chain has let go of the block."""

    def hears(self, event: object) -> bool:
        """Say whether the block wants this event."""
        events = self._nb_rest.events
        if events is None:
            return True
        try:
            return event in events
        except TypeError:  # unhashable, which may still equal an event
            return any(event == one for one in events)

    def __repr__(self) -> str:
        where = "" if self._nb_chain is None else f" on {self._nb_chain.name!r}"
        return f"<{type(self).__name__} {self.name!r} priority={self._nb_priority}{where}>"


_SAID_BY_BLOCKS = frozenset(
    name for name in vars(NotifierBlock) if not name.startswith("_") and name != "notifier_call"
)

if TYPE_CHECKING:
    AnyBlock: TypeAlias = NotifierBlock[Any, Any, Any]
else:
    AnyBlock = NotifierBlock


def block(
    **options: Unpack[BlockOptions],
) -> Callable[
    [Callable[[EventT_contra, DataT_contra], ResultT_co]],
    NotifierBlock[EventT_contra, DataT_contra, ResultT_co],
]:
    """Make a decorator that turns a function into a block, not registered anywhere.

    Options and errors as in `NotifierBlock`. Applied to a block it wraps that block's callback in a
    new one. Touches no chain; legal anywhere.
    """

    def decorate(
        callback: Callable[[EventT_contra, DataT_contra], ResultT_co],
    ) -> NotifierBlock[EventT_contra, DataT_contra, ResultT_co]:
        check_options(callback, options)
        return NotifierBlock(unwrap(callback), **options)

    return decorate


def unwrap(
    callback: Callable[[EventT_contra, DataT_contra], ResultT_co],
) -> Callable[[EventT_contra, DataT_contra], ResultT_co]:
    """Give a block's own callback, or the callable itself, so that decorators stack."""
    if not isinstance(callback, NotifierBlock):
        return callback
    return cast("NotifierBlock[EventT_contra, DataT_contra, ResultT_co]", callback).callback


def check_signature(block: AnyBlock) -> None:
    """Raise `TypeError` when the callback plainly cannot take an event and data."""
    why = why_not_callable(block.callback)
    if why is not None:
        raise InvalidTypeError(f"the callback of block {block.name!r} {why}{where(block)}")


def where(block: AnyBlock) -> str:
    """Say the file and line of a lambda, which its name does not tell; else nothing."""
    code = getattr(block.callback, "__code__", None)
    if code is None or code.co_name != "<lambda>":
        return ""
    return f" ({code.co_filename}:{code.co_firstlineno})"
