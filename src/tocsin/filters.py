"""`NameFilter`: an allowlist of block names, as an operator writes it.

Mirrors the kernel's proposed ``panic_notifier_filter`` boot parameter, with what its reviewers
asked for: entries stay strings and are compared when a block is registered, so they can name what
is loaded later; it is a layer on a chain, and a walk knows nothing of it.

Invariant: an allowlist fails closed. Entries past the limit are dropped and the filter stays on;
text in which no entry is valid is an error, never "no filter". That is for blank text alone: a
lone comma may be ``$A,$B`` with both unset, from somebody who did want a filter.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, cast

from . import _log
from .checks import check_title
from .errors import FilterError, InvalidTypeError, InvalidValueError
from .wording import as_int, as_str, shown

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    from .block import AnyBlock

__all__ = ["DenyFilter", "NameFilter", "NameFilterBase", "parse_filters", "read_variable"]

_LONGEST_ENTRY = 500  # what a glob costs to read grows with the square of its length


class NameFilterBase:
    """What an allowlist and its negation share."""

    __slots__ = ("_discarded", "_names")

    def __init__(self, names: tuple[str, ...], discarded: tuple[str, ...]) -> None:
        self._names = {name: _matcher(name) for name in names}
        self._discarded = discarded

    @property
    def discarded(self) -> tuple[str, ...]:
        """The entries that `NameFilter.parse` left out."""
        return self._discarded

    @property
    def names(self) -> tuple[str, ...]:
        """The entries, in the order in which they were given."""
        return tuple(self._names)

    def unmatched(self, blocks: Iterable[AnyBlock]) -> tuple[str, ...]:
        """Give the entries that name none of ``blocks``."""
        known = tuple(blocks)
        return tuple(
            name
            for name, matches in self._names.items()
            if not any(matches(block) for block in known)
        )

    def _names_any(self, block: AnyBlock) -> bool:
        return any(matches(block) for matches in self._names.values())


class NameFilter(NameFilterBase):
    """An allowlist: admits the blocks that an entry names, and nobody else.

    An entry is a block's name, a ``module:name``, or a glob of either (``metrics_*``), of at
    most 500 characters.
    ``NameFilter(())`` admits nobody; ``~NameFilter(...)`` admits all but those named. ``limit``
    bounds the number of entries, 0 or more. Raises `FilterError` for an invalid or surplus entry,
    `InvalidTypeError`, `InvalidValueError`. Immutable; legal anywhere. Source: the
    ``panic_notifier_filter`` patch.
    """

    __slots__ = ()

    def __init__(self, names: Iterable[str], *, limit: int | None = None) -> None:
        _check_names(names)
        limit = _check_limit(limit)
        entries = tuple(dict.fromkeys(map(_check_entry, names)))
        if limit is not None and len(entries) > limit:
            raise FilterError(
                f"a name filter of {len(entries)} entries is over its limit of {limit}; "
                f"the first surplus one is {entries[limit]!r}"
            )
        super().__init__(entries, ())

    def __call__(self, block: AnyBlock) -> bool:
        """Say whether an entry names the block."""
        return self._names_any(block)

    def __invert__(self) -> DenyFilter:
        """Give the denylist of the same entries."""
        return DenyFilter(self.names, self.discarded)

    def __repr__(self) -> str:
        return f"NameFilter({list(self.names)!r})"

    @classmethod
    def parse(
        cls, text: str, *, limit: int | None = None, known: Collection[str] | None = None
    ) -> NameFilter | None:
        """Read ``a,b,...`` as an operator writes it; white space alone gives ``None``, no filter.

        Blank entries are skipped. Entries that are invalid, repeated, past ``limit``, or match none
        of the ``known`` names, if given, are discarded with a warning and listed in ``discarded``.
        Raises `FilterError` when none is left (``","``), `InvalidTypeError`, `InvalidValueError`.
        """
        text, limit = _check_text(text, known), _check_limit(limit)
        if known is not None:
            known = frozenset(str.__str__(name) for name in known)
        if not text.strip():
            return None
        kept: dict[str, None] = {}
        discarded: list[str] = []
        for entry in filter(None, map(str.strip, text.split(","))):
            why = _why_invalid(entry) or _why_surplus(entry, kept, limit, known)
            if why:
                discarded.append(entry)
                _log.warn("discarded an entry of a name filter", entry=entry, why=why)
            else:
                kept[entry] = None
        if not kept:
            raise FilterError(
                f"no valid entry is left of the name filter {text!r}; leave the text blank for no "
                f"filter, or name the blocks, separated by commas"
            )
        made = cls(kept)
        made._discarded = tuple(discarded)
        return made

    @classmethod
    def from_env(
        cls, variable: str, *, limit: int | None = None, known: Collection[str] | None = None
    ) -> NameFilter | None:
        """Like `parse`, of an environment variable; one that is not set gives ``None``.

        A name that no variable can have is an `InvalidValueError`.
        """
        plain = as_str(variable)
        if plain is None:
            raise InvalidTypeError(
                f"NameFilter.from_env() takes the name of a variable, not {type(variable).__name__}"
            )
        try:
            return cls.parse(read_variable(plain), limit=limit, known=known)
        except FilterError as error:
            raise FilterError(f"environment variable {plain}: {error}") from None


class DenyFilter(NameFilterBase):
    """The negation of a `NameFilter`: admits the blocks that no entry names."""

    __slots__ = ()

    def __call__(self, block: AnyBlock) -> bool:
        """Say whether no entry names the block."""
        return not self._names_any(block)

    def __invert__(self) -> NameFilter:
        """Give the allowlist of the same entries."""
        made = NameFilter(self.names)
        made._discarded = self._discarded
        return made

    def __repr__(self) -> str:
        return f"~NameFilter({list(self.names)!r})"


def read_variable(variable: str) -> str:
    """Give what an environment variable holds, nothing for one that is not set.

    Raises `InvalidTypeError`, and `InvalidValueError` for a name that no variable can have: one
    that is never set would mean that there is never a filter.
    """
    what = "the name of an environment variable"
    variable = check_title(variable, what)
    try:
        if not {"=", "\0"} & {*variable}:
            return os.environ.get(variable, "")
    except UnicodeEncodeError:  # a lone surrogate
        pass
    raise InvalidValueError(f"{variable!r} cannot be {what}")


def parse_filters(text: str) -> dict[str, str]:
    """Read ``CHAIN=NAME,NAME; CHAIN=NAME``, as an operator writes it: names by chain.

    Blank text, and blank names, mean no filter; names for the same chain add up; blank entries are
    skipped. Raises `FilterError`, which quotes the entry, for one without a chain or an equals
    sign, for one with a name that cannot be a block's, and for text that has only semicolons or
    commas: that may be ``$A;$B`` with both unset. Nothing is discarded, as `NameFilter.parse` does:
    what is wrong here may be the end of the entry, and the filter of another chain.
    """
    filters: dict[str, list[str]] = {}
    for entry in filter(None, map(str.strip, text.split(";"))):
        chain, equals, names = (part.strip() for part in entry.partition("="))
        if not chain or not equals:
            raise FilterError(f"{entry!r} is not of the form CHAIN=NAME,NAME")
        filters.setdefault(chain, []).extend(_read_names(entry, names))
    if text.strip() and not filters:
        raise FilterError(
            f"no entry is left of the filters {text!r}; leave the text blank for no filters, or "
            f"give CHAIN=NAME,NAME, separated by semicolons"
        )
    return {chain: ",".join(names) for chain, names in filters.items()}


def _read_names(entry: str, names: str) -> list[str]:
    """Give the names in one entry of `parse_filters`."""
    read = [name.strip() for name in names.split(",") if name.strip()]
    if names and not read:
        raise FilterError(f"{entry!r} names no block; leave out the comma for no filter")
    for name in read:
        why = "it has an equals sign in it" if "=" in name else _why_invalid(name)
        if why:
            raise FilterError(
                f"{entry!r} is not of the form CHAIN=NAME,NAME: {name!r} cannot name a block, for "
                f"{why}; the next chain stands behind a semicolon"
            )
    return read


def _check_entry(entry: object) -> str:
    """Give an entry as a plain `str`, or raise `FilterError`."""
    if why := _why_invalid(entry):
        raise FilterError(f"{shown(entry)} is no entry for a name filter: {why}")
    return cast("str", as_str(entry))


def _check_names(names: object) -> None:
    if isinstance(names, str):
        raise FilterError(
            f"NameFilter takes a collection of names, not a str; "
            f"did you mean NameFilter.parse({shown(names)})?"
        )
    if not isinstance(names, Iterable):
        raise InvalidTypeError(
            f"NameFilter takes a collection of names, not {type(names).__name__}; "
            f"NameFilter(()) admits nobody"
        )


def _check_text(text: object, known: object) -> str:
    plain = as_str(text)
    if plain is None:
        raise InvalidTypeError(
            f"NameFilter.parse() reads a str such as 'a,b', not {type(text).__name__}; "
            f"for a collection of names take NameFilter(names)"
        )
    if known is not None and not _are_names(known):
        raise InvalidTypeError(
            f"the known names of a name filter must be a collection of str or None, "
            f"not {type(known).__name__}"
        )
    return plain


def _are_names(known: object) -> bool:
    if not isinstance(known, Collection) or isinstance(known, str):
        return False
    return all(isinstance(one, str) for one in cast("Collection[object]", known))


def _check_limit(limit: object) -> int | None:
    if limit is None:
        return None
    number = as_int(limit)
    if number is None or isinstance(limit, bool):
        raise InvalidTypeError(
            f"the limit of a name filter must be an int or None, not {type(limit).__name__}"
        )
    if number < 0:
        raise InvalidValueError(
            f"the limit of a name filter must be 0 or more, not {shown(number)}"
        )
    return number


def _why_invalid(entry: object) -> str | None:
    name = as_str(entry)
    if name is None:
        return f"it is {type(entry).__name__}, not str"
    if not name:
        return "it is empty"
    if len(name) > _LONGEST_ENTRY:
        return f"it is longer than {_LONGEST_ENTRY} characters"
    if any(char == "," or char.isspace() for char in name):
        return "it has a comma or white space in it"
    if name.count(":") > 1 or name.startswith(":") or name.endswith(":"):
        return "a colon stands between a module and a name, once"
    return None


def _why_surplus(
    entry: str, kept: Collection[str], limit: int | None, known: Collection[str] | None
) -> str | None:
    if entry in kept:
        return "it was given before"
    if known is not None and not _names_one(entry, known):
        return "it names nothing known"
    if limit is not None and len(kept) >= limit:
        return f"it is past the limit of {limit}"
    return None


def _names_one(entry: str, known: Collection[str]) -> bool:
    if not _is_glob(entry):
        return entry in known
    match = _pattern(entry).match
    return any(match(name) for name in known)


def _is_glob(entry: str) -> bool:
    return any(char in entry for char in "*?[")


def _pattern(entry: str) -> re.Pattern[str]:
    import re
    from fnmatch import translate

    return re.compile(translate(entry))


def _matcher(entry: str) -> Callable[[AnyBlock], bool]:
    """Make the test for one entry; only one with a colon looks at the module."""
    qualified = ":" in entry
    if not _is_glob(entry):
        if qualified:
            return lambda block: block.qualified_name == entry
        return lambda block: block.name == entry
    match = _pattern(entry).match
    if qualified:
        return lambda block: match(block.qualified_name) is not None
    return lambda block: match(block.name) is not None
