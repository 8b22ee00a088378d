"""Values for every kind of bad input: odd, huge, hostile.

What shows itself, or is asked for its text, says `SECRET` or raises `ShownError`: no message and no
log line may ever have been made of that. What is compared, hashed or reckoned with may raise
`TheirsError`: that is the caller's own code, and its exception comes out as it is.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn
from unittest.mock import MagicMock

from hypothesis import strategies as st

from tocsin import NotifyResult

SECRET = "s3cret"


class ShownError(Exception):
    """Something was shown that is not ours to show."""


class TheirsError(Exception):
    """Raised by what the caller gave, and it should come out."""


def refuse(*_args: object) -> NoReturn:
    raise ShownError(SECRET)


def fail(*_args: object) -> NoReturn:
    raise TheirsError(SECRET)


class Secret:
    """Data of somebody's."""

    def __repr__(self) -> str:
        return SECRET

    __str__ = __repr__


class Silent:
    __repr__ = __str__ = refuse


class Unhashable(Secret):
    __hash__ = None  # type: ignore[assignment]


class BadHash(Secret):
    __hash__ = fail


class BadEq(Secret):
    __hash__ = object.__hash__
    __eq__ = fail


class OddInt(int):
    __repr__ = __str__ = __format__ = refuse
    __and__ = __rand__ = __or__ = __neg__ = __sub__ = __rsub__ = __index__ = fail
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = fail
    __hash__ = int.__hash__


class OddStr(str):
    """Equals everything, and is no help otherwise."""

    __slots__ = ()
    __repr__ = __str__ = __format__ = refuse
    strip = split = partition = rpartition = endswith = __iter__ = __contains__ = fail  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


class Boundless(int):
    """An int that is never reached."""

    __lt__ = __le__ = __gt__ = __ge__ = lambda self, other: False


class Int64:
    """As numpy's: it reckons like an int, and is none."""

    def __index__(self) -> int:
        return 5

    def __and__(self, other: int) -> int:
        return 0x8000

    __repr__ = Secret.__repr__


def hostile() -> list[Any]:
    """Make them anew: a test may keep one."""
    return [
        *(None, True, False, 0, 1, -1, 5, -16, 0x8001, 10**400, 10**5000, -(10**5000)),
        *(1.5, math.nan, math.inf, -math.inf, Decimal(1), Fraction(1, 2), 1j),
        *(
            "",
            "a",
            "a b",
            "a,b",
            "a:b",
            "*",
            "[",
            "\x00",
            "\x1b[2J",
            "\ud800",
            "\u202e",
            "x" * 5000,
        ),
        *(b"x", [], {}, (), set(), object(), Secret(), Silent(), Unhashable(), BadHash(), BadEq()),
        *(
            OddInt(5),
            OddInt(0x8001),
            OddInt(-1),
            OddStr("abc"),
            OddStr("a\x1b,"),
            OddStr(),
            Int64(),
        ),
        *(
            [Secret()],
            {"a": Secret()},
            (Silent(),),
            {"a\x1b": "b"},
            ["a\n", 1],
            NotifyResult.BAD,
        ),
        *(MagicMock(), MagicMock(spec=str), MagicMock(spec=int), lambda *_: None),
    ]


odd_values = st.one_of(
    st.deferred(lambda: st.sampled_from(range(len(hostile()))).map(lambda place: hostile()[place])),
    st.text(),
    st.integers(),
    st.floats(),
    st.binary(max_size=4),
    st.lists(st.text(max_size=4) | st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=4), st.text(max_size=8), max_size=2),
)
