"""`Recorder`: what it remembers, how it answers, and what its assertions say when they fail."""

from __future__ import annotations

import errno
import re
import threading
from enum import Enum
from typing import Any

import pytest

from tocsin import (
    NOTIFY_BAD,
    NOTIFY_OK,
    NOTIFY_STOP,
    AtomicChain,
    InvalidTypeError,
    InvalidValueError,
    SrcuChain,
    VetoError,
    notifier_from_errno,
)
from tocsin.testing import Recorder, assert_order

from .flavours import ASYNC, FLAVOURS, Rig

pytestmark = pytest.mark.anyio

SECRET = {"password": "hunter2"}


@pytest.fixture(params=FLAVOURS)
async def rig(request: pytest.FixtureRequest, anyio_backend: str) -> Rig:
    return Rig(request.param)


@pytest.fixture
def chain() -> AtomicChain[Any, Any]:
    return AtomicChain("chain")


def heard(*events: Any, name: str = "mails", data: Any = None) -> Recorder[Any, Any]:
    """Give a recorder that has heard these events."""
    made: Recorder[Any, Any] = Recorder(name=name)
    for event in events:
        made(event, data)
    return made


# What it remembers.


async def test_a_recorder_remembers_each_event_and_its_data_in_order(rig: Rig) -> None:
    recorder = await rig.register(Recorder())
    await rig.call("placed", 1)
    await rig.call("paid", SECRET)
    assert recorder.calls == [("placed", 1), ("paid", SECRET)]
    assert recorder.calls[1][1] is SECRET


async def test_a_recorder_is_a_block_with_the_options_of_one(rig: Rig) -> None:
    low = await rig.register(Recorder(name="low", priority=-1))
    once = await rig.register(Recorder(name="once", once=True, events={"paid"}))
    for _ in range(2):
        await rig.call("placed", 1)
        await rig.call("paid", 2)
    assert (low.name, low.priority, once.events) == ("low", -1, {"paid"})
    assert once.calls == [("paid", 2)]
    assert len(low.calls) == 4


@pytest.mark.parametrize("flavour", ASYNC)
@pytest.mark.parametrize(
    "options", [{"is_async": True}, {"is_async": True, "timeout": 30}, {"thread": True}]
)
async def test_a_recorder_can_be_an_async_block_or_run_in_a_thread(
    flavour: Any, options: Any
) -> None:
    chain = flavour("chain")
    recorder: Recorder[Any, Any] = Recorder(gives=NOTIFY_OK, **options)
    await chain.register(recorder)
    assert await chain.call("placed", 1) == NOTIFY_OK
    recorder.assert_called_once_with("placed", 1)


async def test_what_was_heard_stays_when_the_recorder_is_off_its_chain(rig: Rig) -> None:
    recorder = await rig.register(Recorder())
    await rig.call("placed", 1)
    await rig.unregister(recorder)
    await rig.call("paid", 1)
    recorder.assert_called_once_with("placed", 1)


def test_a_copy_of_the_calls_is_given() -> None:
    recorder = heard("placed")
    recorder.calls.clear()
    assert recorder.calls == [("placed", None)]


def test_clearing_forgets_the_calls_and_no_answer() -> None:
    recorder: Recorder[Any, Any] = Recorder(gives=[NOTIFY_BAD, NOTIFY_OK])
    assert recorder("placed") == NOTIFY_BAD
    recorder.clear()
    recorder.assert_not_called()
    assert recorder("placed") == NOTIFY_OK


def test_calls_from_several_threads_are_all_remembered(chain: AtomicChain[Any, Any]) -> None:
    recorder: Recorder[Any, Any] = Recorder()
    chain.register(recorder)

    def call(first: int) -> None:
        for number in range(first, first + 200):
            chain.call(number, None)

    running = [threading.Thread(target=call, args=(first,)) for first in (0, 1000)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(30)
    events = [event for event, _ in recorder.calls]
    assert sorted(events) == [*range(200), *range(1000, 1200)]
    assert [one for one in events if one < 1000] == [*range(200)]


# How it answers.


async def test_a_recorder_gives_the_result_that_it_was_told(rig: Rig) -> None:
    veto = notifier_from_errno(-errno.EBUSY)
    await rig.register(Recorder(gives=veto))
    behind = await rig.register(Recorder())
    assert await rig.call("placed", 1) == veto
    behind.assert_not_called()


@pytest.mark.parametrize("error", [KeyError("no"), KeyError])
async def test_a_recorder_raises_the_exception_that_it_was_told(rig: Rig, error: Any) -> None:
    recorder = await rig.register(Recorder(gives=error))
    for _ in range(2):
        with pytest.raises(KeyError):
            await rig.call("placed", 1)
    assert len(recorder.calls) == 2


async def test_of_a_list_each_call_has_one_answer_and_the_last_one_goes_on(rig: Rig) -> None:
    await rig.register(Recorder(gives=[VetoError(errno.EAGAIN), NOTIFY_STOP, None, NOTIFY_OK]))
    results = [await rig.call("placed", 1) for _ in range(6)]
    assert results == [notifier_from_errno(-errno.EAGAIN), NOTIFY_STOP, 0, 1, 1, 1]


@pytest.mark.parametrize(
    "gives",
    [
        "stop",
        "",
        b"stop",
        bytearray(b"stop"),
        memoryview(b"stop"),
        {},
        [NOTIFY_OK, "stop"],
        object,
        1.5,
    ],
)
def test_what_is_no_answer_is_refused_without_being_shown(gives: Any) -> None:
    with pytest.raises(InvalidTypeError, match="a Recorder gives a result") as caught:
        Recorder(gives=gives)
    assert "stop" not in str(caught.value)


class PickyError(Exception):
    def __init__(self, what: object) -> None:
        super().__init__(what)


@pytest.mark.parametrize("gives", [PickyError, [None, PickyError]])
def test_a_class_that_needs_arguments_is_refused(gives: Any) -> None:
    with pytest.raises(InvalidTypeError, match="Recorder: PickyError cannot be raised without arg"):
        Recorder(gives=gives)
    with pytest.raises(PickyError):
        Recorder(gives=PickyError("what"))("placed")


def test_an_instance_that_is_raised_again_does_not_grow() -> None:
    failure, lengths = KeyError("no"), set[int]()
    recorder: Recorder[Any, Any] = Recorder(gives=failure)
    for _ in range(3):
        with pytest.raises(KeyError) as caught:
            recorder("placed")
        lengths.add(len(caught.traceback))
    assert len(lengths) == 1


def test_a_bare_negative_number_is_given_as_it_is() -> None:
    assert Recorder[Any, Any](gives=-errno.EBUSY)("placed") == -errno.EBUSY


def test_an_empty_list_of_answers_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="empty list"):
        Recorder(gives=[])


def test_an_option_that_blocks_do_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="prioritty"):
        Recorder(prioritty=1)  # type: ignore[call-arg]


# Assertions.


def fails(text: str) -> Any:
    return pytest.raises(AssertionError, match=re.escape(text))


def test_called_once_with_passes_after_just_that_call() -> None:
    heard("placed").assert_called_once_with("placed")
    heard("placed", data=SECRET).assert_called_once_with("placed", dict(SECRET))


def test_called_once_with_fails_after_none_many_and_other_calls() -> None:
    with fails("recorder 'mails' was not called, not once with 'placed'"):
        heard().assert_called_once_with("placed")
    with fails("'mails' was called 2 times with 'placed', 'placed', not once with 'placed'"):
        heard("placed", "placed").assert_called_once_with("placed")
    with fails("recorder 'mails' was called once with 'paid', not with 'placed'"):
        heard("paid").assert_called_once_with("placed")


def test_other_data_fails_and_shows_no_more_than_types() -> None:
    recorder = heard("placed", data=SECRET)
    with fails("with 'placed', as expected, but with other data, dict where str") as caught:
        recorder.assert_called_once_with("placed", "swordfish")
    with fails("but with 'placed' only with other data than the str") as other:
        recorder.assert_any_call("placed", "swordfish")
    for said in (str(caught.value), str(other.value)):
        assert "hunter2" not in said
        assert "swordfish" not in said


def test_any_call_passes_when_one_of_the_calls_was_that() -> None:
    recorder = heard("placed", "paid")
    recorder("paid", 5)
    recorder.assert_any_call("paid", 5)
    with fails("was called 3 times with 'placed', 'paid', 'paid', never with 'sent'"):
        recorder.assert_any_call("sent")


def test_not_called_fails_after_a_call() -> None:
    heard().assert_not_called()
    with fails("recorder 'mails' was called once with 'placed', and should not have been"):
        heard("placed").assert_not_called()


def test_what_equals_nothing_equals_itself() -> None:
    class Array:
        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth of an array is ambiguous")

        __hash__ = None  # type: ignore[assignment]

    data = Array()
    heard("placed", data=data).assert_called_once_with("placed", data)


def test_order_passes_for_just_these_events_in_this_order() -> None:
    heard("placed", "paid", "sent").assert_order("placed", "paid", "sent")
    heard().assert_order()


def test_order_fails_at_the_first_event_that_differs_is_missing_or_too_many() -> None:
    with fails("call 2 was 'sent', not 'paid'\n  heard:  'placed', 'sent'\n  wanted: 'placed', "):
        heard("placed", "sent").assert_order("placed", "paid", "sent")
    with fails("call 2 is missing, 'paid'\n  heard:  'placed'\n  wanted: 'placed', 'paid'"):
        heard("placed").assert_order("placed", "paid")
    with fails("call 1 was 'placed', and is one too many\n  heard:  'placed'\n  wanted: nothing"):
        heard("placed").assert_order()


async def test_order_is_known_across_recorders_on_several_chains(rig: Rig) -> None:
    other = AtomicChain[str, Any]("other")
    bills, mails, sent = (Recorder[str, Any](name=name) for name in ("bills", "mails", "sent"))
    await rig.register(mails)
    await rig.register(bills)
    other.register(sent)
    await rig.call("placed", 1)
    other.call("sent", 1)
    await rig.call("paid", 1)
    assert_order(
        (mails, "placed"), (bills, "placed"), (sent, "sent"), (mails, "paid"), (bills, "paid")
    )
    with fails("call 1 was 'placed' to mails, not 'placed' to bills\n  heard:  'placed' to mails,"):
        assert_order((bills, "placed"), (mails, "placed"))
    assert_order((sent, "sent"))  # whom nobody names is not looked at


def test_recorders_of_one_name_are_numbered_in_the_order_of_the_pairs() -> None:
    first, other, second = heard(), heard("paid", name="bills"), heard("placed")
    with fails(
        "call 1 was 'paid' to bills, not 'placed' to mails #1\n"
        "  heard:  'paid' to bills, 'placed' to mails #2\n"
        "  wanted: 'placed' to mails #1, 'paid' to bills, 'placed' to mails #2"
    ):
        assert_order((first, "placed"), (other, "paid"), (second, "placed"))


@pytest.mark.parametrize("wrong", ["placed", ("placed",), ("placed", heard()), (heard(), 1, 2)])
def test_order_across_recorders_takes_pairs(wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match=r"takes pairs \(recorder, event\)"):
        assert_order(wrong)


class Shouting:
    def __repr__(self) -> str:
        return "A" * 10_000


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError


class Kind(Enum):
    AN_EVENT_WITH_A_LONG_NAME = "an event with a long name"


class array:  # noqa: N801 - a name that reprlib goes by
    pass


@pytest.mark.parametrize("event", [Shouting(), "A" * 10_000, Mute(), [*range(1000)], array()])
def test_a_message_shows_any_event_and_stays_short(event: Any) -> None:
    with pytest.raises(AssertionError) as caught:
        heard(*[event] * 500).assert_called_once_with(event)
    assert len(str(caught.value)) < 3000
    assert "and 480 more" in str(caught.value)


def test_a_message_shows_members_of_an_enumeration_whole() -> None:
    with fails("<Kind.AN_EVENT_WITH_A_LONG_NAME: 'an event with a long name'>"):
        heard(Kind.AN_EVENT_WITH_A_LONG_NAME).assert_not_called()


def test_a_typed_chain_takes_a_recorder_without_a_cast() -> None:
    chain, plain = SrcuChain[str, int]("chain"), Recorder()
    chain.register_nowait(plain)
    typed = Recorder[str, int](gives=NOTIFY_OK)
    chain.register_nowait(typed)
    assert typed.calls == []
