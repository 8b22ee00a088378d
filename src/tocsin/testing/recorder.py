"""`Recorder`: a block that remembers what it heard, and answers as a test wants it to.

Owns the record and the assertions over it. Knows no chain: it is registered like any other block.

Invariants: all calls of all recorders are counted together, so that the order across recorders is
known. A failed assertion shows events, by which a test tells its calls apart, shortened and
escaped, and of data never more than the type: it may be large or secret, and reports of tests are
kept for long.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, zip_longest
from operator import itemgetter
from reprlib import Repr
from typing import TYPE_CHECKING, Any

from tocsin._typing import AnyDataT, EventT
from tocsin.block import NotifierBlock
from tocsin.errors import InvalidTypeError, InvalidValueError
from tocsin.wording import printable, shown

from .raising import check_class, fresh

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias, Unpack

    from tocsin.options import BlockOptions

    Answer: TypeAlias = int | BaseException | type[BaseException] | None
    Step: TypeAlias = tuple["Recorder[Any, Any]", object]

__all__ = ["Recorder", "assert_order"]

_numbers = count()
_SHOWN = 20  # calls in a message
_NO_DATA: Any = None
_TEXTS = (str, bytes, bytearray, memoryview)  # sequences, some even of ints


class Recorder(NotifierBlock[EventT, AnyDataT, "int | None"]):
    """A block that remembers each call, for tests.

    ``gives`` says how it answers: a result, an exception (an instance or a class), which it raises,
    or a list of these, one for each call; after its end the last one goes on. An errno becomes a
    result by `notifier_from_errno`; a bare negative number is none, but is given as it is, to test
    what a chain makes of it. A class has to do without arguments. The other options are
    those of a `NotifierBlock`; with ``events`` it hears, and remembers, only these. It works on
    every flavour, and with ``is_async`` as an async block. Raises `InvalidTypeError` or
    `InvalidValueError` for what is no answer and no option.

    Holds the data that it has heard until `clear`. All members are sync and may be used in any
    thread. The assertions raise `AssertionError`.
    """

    __slots__ = ("_answers", "_heard", "_last")

    _heard: list[tuple[int, EventT, AnyDataT]]
    """Number, event and data of each call."""

    def __init__(
        self, *, gives: Answer | Sequence[Answer] = None, **options: Unpack[BlockOptions]
    ) -> None:
        answers = _listed(gives)
        _check_answers(answers)
        self._answers: Iterator[Answer] = iter(answers)
        self._last: Answer = answers[-1]
        self._heard = []
        super().__init__(**options)

    def notifier_call(self, event: EventT, data: AnyDataT) -> int | None:
        """Remember the call, and answer."""
        self._heard.append((next(_numbers), event, data))
        answer = next(self._answers, self._last)
        if isinstance(answer, BaseException | type):
            raise fresh(answer)
        return answer

    @property
    def calls(self) -> list[tuple[EventT, AnyDataT]]:
        """The pairs ``(event, data)`` that it heard, in order."""
        return [(event, data) for _, event, data in self._in_order()]

    def _in_order(self) -> list[tuple[int, EventT, AnyDataT]]:
        return sorted(self._heard, key=itemgetter(0))  # threads may have been between each other

    def clear(self) -> None:
        """Forget the calls. A list of answers goes on where it is."""
        self._heard.clear()

    def assert_called_once_with(self, event: EventT, data: AnyDataT = _NO_DATA) -> None:
        """Fail unless there was one call, and it was with this event and data."""
        __tracebackhide__ = True
        calls = self.calls
        if len(calls) != 1:
            raise AssertionError(f"{self._said(calls)}, not once with {_show(event)}")
        if not _same(calls[0][0], event):
            raise AssertionError(f"{self._said(calls)}, not with {_show(event)}")
        if not _same(calls[0][1], data):
            raise AssertionError(
                f"{self._said(calls)}, as expected, but with other data, {_type(calls[0][1])} "
                f"where {_type(data)} was expected; look at its calls"
            )

    def assert_any_call(self, event: EventT, data: AnyDataT = _NO_DATA) -> None:
        """Fail unless one of the calls was with this event and data."""
        __tracebackhide__ = True
        calls = self.calls
        of_event = [one for one in calls if _same(one[0], event)]
        if not of_event:
            raise AssertionError(f"{self._said(calls)}, never with {_show(event)}")
        if not any(_same(one[1], data) for one in of_event):
            raise AssertionError(
                f"{self._said(calls)}, but with {_show(event)} only with other data than the "
                f"{_type(data)} that was expected; look at its calls"
            )

    def assert_not_called(self) -> None:
        """Fail if there was any call."""
        __tracebackhide__ = True
        if self._heard:
            raise AssertionError(f"{self._said(self.calls)}, and should not have been")

    def assert_order(self, *events: EventT) -> None:
        """Fail unless it heard exactly these events, in this order.

        For the order across several recorders there is the function of the same name.
        """
        __tracebackhide__ = True
        _compare([self], [(self, event) for event in events])

    def _said(self, calls: Sequence[tuple[EventT, AnyDataT]]) -> str:
        """Say what the recorder heard."""
        times = {0: "was not called", 1: "was called once"}
        said = times.get(len(calls), f"was called {len(calls)} times")
        events = f" with {_list(_show(event) for event, _ in calls)}" if calls else ""
        return f"recorder {self.name!r} {said}{events}"


def assert_order(*steps: Step) -> None:
    """Fail unless the recorders in the pairs ``(recorder, event)`` heard just these, in this order.

    The recorders may be on one chain or on several; a message numbers those of one name, in the
    order of the pairs. Raises `AssertionError`, and `InvalidTypeError` for what is no such pair.
    Sync; legal anywhere.
    """
    __tracebackhide__ = True
    for step in steps:
        if not _is_step(step):
            raise InvalidTypeError(
                f"assert_order() takes pairs (recorder, event), not {_type(step)}; for one "
                f"recorder there is recorder.assert_order(*events)"
            )
    _compare([*{id(recorder): recorder for recorder, _ in steps}.values()], steps)


def _is_step(given: Any) -> bool:
    is_pair = isinstance(given, tuple) and len(given) == 2  # pyright: ignore[reportUnknownArgumentType]
    return is_pair and isinstance(given[0], Recorder)


def _compare(recorders: Sequence[Recorder[Any, Any]], wanted: Sequence[Step]) -> None:
    """Fail at the first difference between what was heard and what was wanted."""
    __tracebackhide__ = True
    calls = [(number, one, event) for one in recorders for number, event, _ in one._in_order()]
    heard = [(one, event) for _, one, event in sorted(calls, key=itemgetter(0))]
    named = len(recorders) > 1
    numbers = _numbers_of(recorders)
    said, asked = (
        [_step(one, named=named) + numbers[id(one[0])] for one in row] for row in (heard, wanted)
    )
    for place, (got, want) in enumerate(zip_longest(heard, wanted)):
        if got is None or want is None or got[0] is not want[0] or not _same(got[1], want[1]):
            raise AssertionError(
                f"call {place + 1} {_differs(said[place:], asked[place:])}\n"
                f"  heard:  {_list(said) or 'nothing'}\n  wanted: {_list(asked) or 'nothing'}"
            )


def _numbers_of(recorders: Sequence[Recorder[Any, Any]]) -> dict[int, str]:
    """Give what tells recorders of one name apart, by their place in what is wanted."""
    names = [one.name for one in recorders]
    return {
        id(one): f" #{names[:place].count(one.name) + 1}" if names.count(one.name) > 1 else ""
        for place, one in enumerate(recorders)
    }


def _differs(said: Sequence[str], asked: Sequence[str]) -> str:
    """Say how the first of what was heard and of what was wanted differ."""
    if not said:
        return f"is missing, {asked[0]}"
    return f"was {said[0]}, " + (f"not {asked[0]}" if asked else "and is one too many")


def _step(step: Step, *, named: bool) -> str:
    return f"{_show(step[1])} to {printable(step[0].name)}" if named else _show(step[1])


def _check_answers(answers: Sequence[Any]) -> None:
    if not answers:
        raise InvalidValueError("a Recorder cannot give an empty list; leave out gives= for None")
    for one in answers:
        if not _is_answer(one):
            raise InvalidTypeError(
                f"a Recorder gives a result (an int or None), raises an exception, or does what a "
                f"list of these says, one for each call; {_type(one)} is none of them"
            )
        if isinstance(one, type):
            check_class(one, "a Recorder")


def _listed(gives: Any) -> Sequence[Answer]:
    return gives if isinstance(gives, Sequence) and not isinstance(gives, _TEXTS) else (gives,)  # pyright: ignore[reportUnknownVariableType]


def _is_answer(given: Any) -> bool:
    if isinstance(given, type):
        return issubclass(given, BaseException)
    return given is None or isinstance(given, int | BaseException)


def _same(one: object, other: object) -> bool:
    """Say whether two are equal, as a list would: an array is at least itself."""
    return (one,) == (other,)


def _type(value: object) -> str:
    return printable(type(value).__name__)


_short = Repr()
_short.maxstring = _short.maxother = 80


def _show(event: object) -> str:
    """Show an event, however long it is, and if its own text fails or would steer a terminal."""
    try:
        said = _short.repr(event)
    except Exception:  # a number of too many digits, or a type that has the name of a builtin
        said = shown(event)
    return printable(said)


def _list(said: Iterable[str]) -> str:
    """Give the first of them in a row, and how many there are besides."""
    first = [*said]
    more = f" and {len(first) - _SHOWN} more" if len(first) > _SHOWN else ""
    return ", ".join(first[:_SHOWN]) + more
