"""The options of a block: what they may be, and how few of them take any room.

Owns the checks of what callers give for a block. Knows no block and no chain: a message calls the
block by the name that is passed in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple, TypedDict, cast

from .callables import default_name
from .checks import check_bool, check_seconds
from .errors import InvalidTypeError, InvalidValueError
from .wording import as_int, as_str

if TYPE_CHECKING:
    from collections.abc import Callable

    from .protocol import Named

__all__ = [
    "NOBODY",
    "PLAIN_ASYNC",
    "PLAIN_SYNC",
    "BlockOptions",
    "Rest",
    "check_name",
    "check_options",
    "check_priority",
    "make_rest",
]

_NOT_IN_NAMES = frozenset(",:*?[]")

_PRIORITY_BITS = 2000  # of fewer than 640 digits, which Python always turns into text

NOBODY: tuple[str, ...] = ()
"""What ``before`` and ``after`` ask for unless they are given."""


class BlockOptions(TypedDict, total=False):
    """The options of a block, as `register`, `subscriber` and `block` take them."""

    name: str | None
    priority: int
    events: object
    once: bool
    before: str | Iterable[str]
    after: str | Iterable[str]
    timeout: float | None
    thread: bool
    is_async: bool | None


class Rest(NamedTuple):
    """The options that few blocks set, apart so that the many blocks share one object."""

    events: frozenset[object] | None
    once: bool
    timeout: float | None
    thread: bool
    is_async: bool
    before: tuple[str, ...] = NOBODY
    after: tuple[str, ...] = NOBODY
    tickets: list[None] | None = None
    """What the calls of a block with ``once`` contend for: one for each registration."""

    def check(self, name: str) -> None:
        """Raise unless these make sense, by themselves and together, for the block ``name``."""
        check_bool(self.once, f"once of block {name!r}")
        check_bool(self.thread, f"thread of block {name!r}")
        if self.thread and self.is_async:
            raise InvalidValueError(f"block {name!r}: thread=True is for a sync callback")
        both = sorted(set(self.before) & set(self.after))
        if both:
            raise InvalidValueError(
                f"block {name!r} cannot come both before and after {', '.join(both)}"
            )
        if self.timeout is not None:
            self._check_timeout(name, self.timeout)

    def _check_timeout(self, name: str, timeout: float) -> None:
        check_seconds(timeout, f"the timeout of block {name!r}")
        if not timeout > 0:
            raise InvalidValueError(
                f"the timeout of block {name!r} must be above 0 s, not {timeout}"
            )
        if not self.is_async:
            raise InvalidValueError(f"block {name!r}: a timeout needs an async callback")


PLAIN_SYNC, PLAIN_ASYNC = (
    Rest(None, once=False, timeout=None, thread=False, is_async=kind) for kind in (False, True)
)
"""What nearly all blocks share."""


def make_rest(
    names: tuple[str, str],
    events: object,
    once: bool,
    before: object,
    after: object,
    timeout: float | None,
    thread: bool,
    is_async: bool,
) -> Rest:
    """Make the options of the block that has these names, or raise where they make no sense."""
    name = names[0]
    made = Rest(
        _event_set(events),
        once,
        timeout,
        thread,
        is_async,
        _neighbours(before, f"before= of block {name!r}", names),
        _neighbours(after, f"after= of block {name!r}", names),
    )
    made.check(name)
    return made


def check_options(target: Callable[..., object], options: BlockOptions) -> None:
    """Raise `TypeError` when there is an option that blocks do not have."""
    if not options:
        return
    unknown = options.keys() - BlockOptions.__annotations__.keys()
    if unknown:
        raise InvalidTypeError(
            f"block {default_name(target)!r} was given unknown options: "
            f"{', '.join(sorted(unknown))}; there are {', '.join(BlockOptions.__annotations__)}"
        )


def check_name(name: object) -> None:
    """Raise unless ``name`` can be a block's name."""
    text = as_str(name)
    if text is None:
        raise InvalidTypeError(f"a block's name must be a str, not {type(name).__name__}")
    if not text or any(char in _NOT_IN_NAMES or char.isspace() for char in text):
        raise InvalidValueError(
            f"{text!r} cannot be a block's name: a filter could not name it; "
            f"leave out commas, colons, white space and glob characters (* ? [ ])"
        )


def check_priority(priority: object, block: Named) -> int:
    """Give ``priority`` as a plain int, or raise unless it can be that of the block.

    `InvalidTypeError` or `InvalidValueError`.
    """
    number = as_int(priority)
    if number is None or isinstance(priority, bool):
        raise InvalidTypeError(
            f"the priority of block {block.name!r} must be an int, not {type(priority).__name__}"
        )
    if number.bit_length() > _PRIORITY_BITS:
        raise InvalidValueError(
            f"the priority of block {block.name!r} is out of bounds, which are "
            f"2**{_PRIORITY_BITS} and -2**{_PRIORITY_BITS}; anything between them will do"
        )
    return number


def _event_set(events: object) -> frozenset[object] | None:
    """Give the events in what ``events=`` was given: ``None``, one event, or a collection."""
    if events is None:
        return None
    try:
        if isinstance(events, Iterable) and not isinstance(events, (str, bytes)):
            return frozenset(cast("Iterable[object]", events))
        return frozenset((events,))
    except TypeError as error:
        raise InvalidTypeError(f"events must be hashable, they are looked up: {error}") from None


def _neighbours(names: object, what: str, own: Collection[str]) -> tuple[str, ...]:
    """Give the names in what ``before=`` or ``after=`` was given: one, or a collection.

    Each a name or a ``module:name``, and none of the block's ``own``. ``what`` is how the message
    calls the option.
    """
    if as_str(names) is not None:
        names = (names,)
    if not isinstance(names, Iterable):
        raise InvalidTypeError(f"{what} takes names of blocks, not {type(names).__name__}")
    names = tuple(
        name if (text := as_str(name)) is None else text for name in cast("Iterable[object]", names)
    )
    for name in names:
        try:
            _check_named(name)
        except (InvalidTypeError, InvalidValueError) as error:
            error.args = (f"{what}: {error}",)
            raise
        if name in own:
            raise InvalidValueError(f"{what} names the block itself; leave {name!r} out")
    return tuple(dict.fromkeys(cast("Iterable[str]", names)))


def _check_named(name: object) -> None:
    """Raise unless this is the name of a block, or a ``module:name``."""
    text = as_str(name)
    module, colon, rest = ("", "", "") if text is None else text.partition(":")
    for part in (module, rest) if colon else (name,):
        check_name(part)
