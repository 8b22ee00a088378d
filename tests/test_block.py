"""A block: its name, its options, how its colour is told, and where it is."""

from __future__ import annotations

import enum
import functools
import gc
import inspect
import math
import sys
import threading
import types
import weakref
from contextvars import ContextVar
from typing import Any, NamedTuple
from unittest.mock import AsyncMock, MagicMock, Mock

import anyio
import pytest

import tocsin
from tocsin import (
    NOTIFY_DONE,
    NOTIFY_OK,
    NOTIFY_STOP,
    AlreadyRegisteredError,
    AtomicChain,
    BlockingChain,
    InvalidTypeError,
    InvalidValueError,
    NameFilter,
    NotifierBlock,
    RawChain,
    Scope,
    SrcuChain,
)
from tocsin.slots import arm, make_slot
from tocsin.view import Skipped

from .flavours import ASYNC, FLAVOURS, maybe_await, spelled

pytestmark = pytest.mark.anyio

every_flavour = pytest.mark.parametrize("flavour", FLAVOURS)


REQUEST: ContextVar[str] = ContextVar("request")


def hear(event: Any, data: Any) -> int:
    return NOTIFY_OK


async def ahear(event: Any, data: Any) -> int:
    return NOTIFY_OK


class Listener:
    def method(self, event: Any, data: Any) -> int:
        return NOTIFY_OK

    async def amethod(self, event: Any, data: Any) -> int:
        return NOTIFY_OK

    @classmethod
    def of_class(cls, event: Any, data: Any) -> int:
        return NOTIFY_OK

    @staticmethod
    def static(event: Any, data: Any) -> int:
        return NOTIFY_OK


class Callable:
    def __call__(self, event: Any, data: Any) -> int:
        return NOTIFY_OK


class AsyncCallable:
    async def __call__(self, event: Any, data: Any) -> int:
        return NOTIFY_OK


class StaticCallable:
    @staticmethod
    def __call__(event: Any, data: Any) -> int:
        return NOTIFY_OK


class ClassCallable:
    @classmethod
    async def __call__(cls, event: Any, data: Any) -> int:
        return NOTIFY_OK


@types.coroutine
def old_style(event: Any, data: Any) -> Any:
    yield


# Names.


def test_a_blocks_name_is_what_its_callback_is_called() -> None:
    def local(event: Any, data: Any) -> None: ...

    callbacks: list[tuple[Any, str]] = [
        (hear, "hear"),
        (local, "local"),
        (Listener().method, "Listener.method"),
        (Listener.static, "Listener.static"),
        (lambda event, data: None, "<lambda>"),
        (functools.partial(hear), "partial"),
        (Callable(), "Callable"),
        (Mock(), "Mock"),
    ]
    for callback, name in callbacks:
        assert NotifierBlock(callback).name == name


def test_a_qualified_name_tells_the_callbacks_module() -> None:
    assert NotifierBlock(hear).qualified_name == f"{__name__}:hear"
    assert NotifierBlock(hear, name="ears").qualified_name == f"{__name__}:ears"


def test_a_callback_without_a_module_has_a_question_mark_for_it() -> None:
    def nowhere(event: Any, data: Any) -> None: ...

    nowhere.__module__ = None  # type: ignore[assignment]
    assert NotifierBlock(nowhere).qualified_name == "?:nowhere"


@pytest.mark.parametrize("wrong", ["", "a,b", "a b", "a\tb", "a*", "a?", "a[b", "a]", "a:b"])
def test_a_name_that_a_filter_could_not_write_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidValueError, match="a filter could not name it"):
        NotifierBlock(hear, name=wrong)


def test_a_name_is_a_str() -> None:
    wrong: Any = 3
    with pytest.raises(InvalidTypeError, match="name must be a str, not int"):
        NotifierBlock(hear, name=wrong)


# Options.


def test_the_options_have_quiet_defaults() -> None:
    block = NotifierBlock(hear)
    assert (block.priority, block.events, block.once, block.timeout, block.thread) == (
        0,
        None,
        False,
        None,
        False,
    )
    assert (block.chain, block.owner, block.is_parked, block.is_async) == (None, None, False, False)
    assert block.callback is hear


@pytest.mark.parametrize(
    "option", ["name", "priority", "events", "once", "timeout", "thread", "is_async", "chain"]
)
def test_the_options_are_read_only(option: str) -> None:
    with pytest.raises(AttributeError):
        setattr(NotifierBlock(hear), option, None)


@pytest.mark.parametrize("priority", [-(2**70), -1, 0, 2**31, enum.IntEnum("P", "A").A])  # type: ignore[attr-defined]
def test_any_int_is_a_priority(priority: int) -> None:
    assert NotifierBlock(hear, priority=priority).priority == priority


@pytest.mark.parametrize("priority", [2**2000, -(2**2000), 10**5000], ids=["max", "min", "huge"])
def test_a_priority_that_no_message_could_show_is_refused(priority: int) -> None:
    with pytest.raises(InvalidValueError, match=r"priority of block 'hear' is out of bounds, whic"):
        NotifierBlock(hear, priority=priority)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Pair(NamedTuple):
    left: int
    right: int


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("given", "heard"),
    [
        (7, {7}),
        ("up", {"up"}),
        (b"up", {b"up"}),
        (Text("up"), {"up"}),
        (["up", "down"], {"up", "down"}),
        ({1, 2}, {1, 2}),
        ({"up": 1}, {"up"}),
        (iter([1]), {1}),
        (range(2), {0, 1}),
        (Colour.RED, {Colour.RED}),
        (Colour, {Colour.RED, Colour.BLUE}),
        (Pair, {Pair}),
        (int, {int}),
        ((), set()),
    ],
    ids=spelled,
)
def test_events_are_one_event_or_a_collection(given: object, heard: Any) -> None:
    assert NotifierBlock(hear, events=given).events == heard


def test_a_block_hears_all_events_or_those_it_names() -> None:
    assert NotifierBlock(hear).hears(object())
    block = NotifierBlock(hear, events=[1, frozenset((2,))])
    assert [block.hears(event) for event in (1, 1.0, True, 2)] == [True, True, True, False]


def test_an_unhashable_event_is_compared_too() -> None:
    block = NotifierBlock(hear, events=[frozenset((2,))])
    assert block.hears({2})
    assert not block.hears({3})
    assert not block.hears([])


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("wrong", [[[]], [{}], [1, {2}], Unhashable()], ids=spelled)
def test_unhashable_events_are_refused_at_once(wrong: object) -> None:
    with pytest.raises(InvalidTypeError, match="events must be hashable"):
        NotifierBlock(hear, events=wrong)


@pytest.mark.parametrize("seconds", [0.5, 1, math.inf])
def test_a_timeout_is_a_number_of_seconds(seconds: float) -> None:
    assert NotifierBlock(ahear, timeout=seconds).timeout == seconds


@pytest.mark.parametrize("wrong", [0, -1, math.nan])
def test_a_timeout_is_above_zero(wrong: float) -> None:
    with pytest.raises(InvalidValueError, match="'ahear' must be above 0 s"):
        NotifierBlock(ahear, timeout=wrong)


def test_a_timeout_that_no_clock_can_count_is_refused_at_once() -> None:
    with pytest.raises(InvalidValueError, match="timeout of block 'ahear' is too large"):
        NotifierBlock(ahear, timeout=10**400)


@pytest.mark.parametrize("option", ["once", "thread", "is_async"])
@pytest.mark.parametrize("wrong", ["no", 0, 1])
def test_what_is_true_or_false_is_nothing_else(option: str, wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match=f"{option} of block 'hear' must be True or False"):
        NotifierBlock(hear, **{option: wrong})


@pytest.mark.parametrize("option", ["once", "thread"])
def test_none_is_neither_true_nor_false(option: str) -> None:
    with pytest.raises(InvalidTypeError, match=f"{option} of block 'hear' must be True or False"):
        NotifierBlock(hear, **{option: None})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["owner", "callback", "chain", "is_parked", "hears", "priority"])
@pytest.mark.parametrize("mixed_in", [False, True])
def test_a_subclass_does_not_hide_what_a_block_says_of_itself(name: str, mixed_in: bool) -> None:
    mixin = type("Mixin", (), {name: 9})
    with pytest.raises(InvalidTypeError, match=f"Hiding defines {name}, which every block has"):
        if mixed_in:
            type("Hiding", (mixin, NotifierBlock), {})
        else:
            type("Hiding", (NotifierBlock,), {name: 9})


@pytest.mark.parametrize("wrong", ["1", True])
def test_a_timeout_is_no_text(wrong: Any) -> None:
    with pytest.raises(InvalidTypeError, match="timeout of block 'ahear' must be seconds"):
        NotifierBlock(ahear, timeout=wrong)


def test_options_that_make_no_sense_together_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="'hear': a timeout needs an async callback"):
        NotifierBlock(hear, timeout=1)
    with pytest.raises(InvalidValueError, match="'hear': a timeout needs an async callback"):
        NotifierBlock(hear, timeout=1, thread=True)
    with pytest.raises(InvalidValueError, match="'ahear': thread=True is for a sync callback"):
        NotifierBlock(ahear, thread=True)


# Colour.


@pytest.mark.parametrize(
    "callback",
    [
        ahear,
        Listener().amethod,
        AsyncCallable(),
        ClassCallable(),
        functools.partial(functools.partial(ahear)),
        functools.partial(AsyncCallable()),
        AsyncMock(),
        old_style,
        NotifierBlock(ahear),
    ],
    ids=spelled,
)
async def test_an_async_callable_is_told_by_its_code(callback: Any) -> None:
    block = NotifierBlock(callback)
    assert block.is_async
    await SrcuChain[Any]("chain").register(block)


@pytest.mark.parametrize(
    "callback",
    [
        hear,
        Listener().method,
        Listener.of_class,
        Listener.static,
        Callable(),
        StaticCallable(),
        functools.partial(hear),
        functools.partial(functools.partial(Listener().method)),
        Mock(return_value=0),
        MagicMock(return_value=0),
        NotifierBlock(hear),
        max,
    ],
    ids=spelled,
)
def test_a_sync_callable_is_told_by_its_code(callback: Any) -> None:
    block = NotifierBlock(callback)
    assert not block.is_async
    chain = AtomicChain[int, int]("chain")
    chain.register(block)
    assert chain.call(0, 1) in (0, 1)


def test_a_marked_coroutine_function_is_async() -> None:
    def marked(event: Any, data: Any) -> Any:
        return ahear(event, data)

    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(marked)
    else:  # which has no such mark
        vars(marked)["_is_coroutine_marker"] = object()
    assert NotifierBlock(marked).is_async


def test_is_async_overrides_the_detection() -> None:
    assert NotifierBlock(hear, is_async=True).is_async
    assert not NotifierBlock(ahear, is_async=False).is_async


@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_forwarder_that_is_called_async_is_awaited(flavour: Any) -> None:
    chain = flavour("chain")
    await chain.register(lambda event, data: ahear(event, data), is_async=True)
    assert await chain.call(1) == NOTIFY_OK


# Callbacks that can be called, and those that cannot.


def required_keyword(event: Any, data: Any, *, more: Any) -> None: ...
def nothing() -> None: ...
def one(event: Any) -> None: ...
def three(event: Any, data: Any, more: Any) -> None: ...
def optional(event: Any, data: Any, more: Any = 1) -> None: ...
def defaults(event: Any = 1, data: Any = 2, more: Any = 3) -> None: ...
def optional_keyword(event: Any, data: Any, *, more: Any = 1) -> None: ...
def gathers(*args: Any) -> None: ...
def gathers_rest(event: Any, *rest: Any) -> None: ...


class Odd:
    def no_self(*args: Any) -> None: ...
    def only_self(self) -> None: ...
    def self_and_event(self, event: Any) -> None: ...
    def __call__(self, event: Any) -> None: ...


@pytest.mark.parametrize(
    "callback",
    [optional, defaults, optional_keyword, gathers, gathers_rest, Odd().no_self, print, Colour],
)
@every_flavour
async def test_a_callback_may_take_more_than_event_and_data(flavour: Any, callback: Any) -> None:
    assert len(flavour("chain")) == 0
    assert await maybe_await(flavour("chain").register(callback))


@pytest.mark.parametrize(
    "callback",
    [nothing, one, three, required_keyword, Odd().only_self, Odd().self_and_event, Odd()],
)
@every_flavour
async def test_a_callback_that_cannot_take_event_and_data_is_refused(
    flavour: Any, callback: Any
) -> None:
    chain = flavour("chain")
    with pytest.raises(InvalidTypeError, match=r"cannot be called as callback\(event, data\)"):
        await maybe_await(chain.register(callback))
    assert chain.is_empty


@every_flavour
async def test_a_generator_function_is_refused_for_it_never_runs(flavour: Any) -> None:
    def generator(event: Any, data: Any) -> Any:
        yield

    async def async_generator(event: Any, data: Any) -> Any:
        yield

    for callback in (generator, async_generator):
        with pytest.raises(InvalidTypeError, match="a generator function: it never runs"):
            await maybe_await(flavour("chain").register(callback))


def test_a_block_needs_a_callback_or_a_notifier_call() -> None:
    with pytest.raises(InvalidTypeError, match="needs a callback, or a subclass that defines"):
        NotifierBlock()


# Subclasses.


class Counter(NotifierBlock[Any, Any, int]):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.count = 0

    def notifier_call(self, event: Any, data: Any) -> int:
        self.count += 1
        return NOTIFY_OK


class AsyncCounter(NotifierBlock[Any, Any, Any]):
    count = 0

    async def notifier_call(self, event: Any, data: Any) -> int:
        self.count += 1
        return NOTIFY_OK


@every_flavour
async def test_a_subclass_is_its_own_state(flavour: Any) -> None:
    chain = flavour("chain")
    counter = Counter(priority=3)
    assert await maybe_await(chain.register(counter)) is counter
    assert await maybe_await(chain.call(1)) == NOTIFY_OK
    assert (counter.count, counter.name, counter.priority) == (1, "Counter", 3)
    assert counter.qualified_name == f"{__name__}:Counter"
    assert counter.callback == counter.notifier_call


async def test_a_subclass_may_be_async() -> None:
    chain = SrcuChain[Any]("chain")
    counter = AsyncCounter()
    await chain.register(counter)
    assert counter.is_async
    assert await chain.call(1) == NOTIFY_OK
    assert counter.count == 1


def test_a_subclass_with_a_notifier_call_takes_no_callback() -> None:
    with pytest.raises(InvalidTypeError, match="defines notifier_call"):
        AsyncCounter(hear)


# What a block is.


def test_a_block_can_be_called_for_a_direct_test() -> None:
    heard: list[Any] = []
    block = NotifierBlock[Any, Any, None](
        lambda event, data: heard.append((event, data)), once=True, events=3
    )
    block(1, 2)
    block(1)
    assert heard == [(1, 2), (1, None)]


def test_a_block_is_compared_by_identity() -> None:
    assert NotifierBlock(hear) != NotifierBlock(hear)
    assert len({NotifierBlock(hear), NotifierBlock(hear)}) == 2


def test_the_generic_block_can_be_subscripted() -> None:
    assert NotifierBlock[int, str, int](hear).callback is hear


def test_a_block_that_nobody_holds_is_gone() -> None:
    gone = weakref.ref(NotifierBlock(hear))
    gc.collect()
    assert gone() is None


@every_flavour
async def test_a_block_tells_where_it_is(flavour: Any) -> None:
    chain = flavour("chain", filter=NameFilter(("admitted",)))
    scope = Scope("owner")
    admitted = await scope.register(chain, hear, name="admitted")
    parked = await maybe_await(chain.register(hear, name="parked"))
    assert (admitted.chain, admitted.is_parked, admitted.owner) == (chain, False, scope)
    assert (parked.chain, parked.is_parked, parked.owner) == (chain, True, None)
    assert repr(admitted) == "<NotifierBlock 'admitted' priority=0 on 'chain'>"
    for block in (admitted, parked):
        await maybe_await(chain.unregister(block))
        assert (block.chain, block.is_parked, block.owner) == (None, False, None)
    assert repr(admitted) == "<NotifierBlock 'admitted' priority=0>"


@every_flavour
async def test_a_block_is_on_one_chain_at_a_time_and_may_change(flavour: Any) -> None:
    first, second = flavour("first"), flavour("second")
    block = await maybe_await(first.register(hear))
    with pytest.raises(AlreadyRegisteredError, match="'first'"):
        await maybe_await(second.register(block))
    await maybe_await(first.unregister(block))
    assert await maybe_await(second.register(block)) is block
    assert (first.blocks, second.blocks) == ((), (block,))


# Decorators.


def test_the_block_decorator_makes_an_unregistered_block() -> None:
    @tocsin.block(priority=5, events="up")
    def decorated(event: Any, data: Any) -> int:
        return NOTIFY_STOP

    assert isinstance(decorated, NotifierBlock)
    assert (decorated.name, decorated.priority) == ("decorated", 5)
    assert decorated.events == frozenset(("up",))
    assert decorated.chain is None
    assert decorated("up", None) == NOTIFY_STOP


def test_block_decorators_stack() -> None:
    @tocsin.block(name="outer")
    @tocsin.block(name="inner", priority=5)
    def decorated(event: Any, data: Any) -> int:
        return NOTIFY_OK

    assert (decorated.name, decorated.priority) == ("outer", 0)
    assert not isinstance(decorated.callback, NotifierBlock)


def test_the_block_decorator_names_an_unknown_option() -> None:
    wrong: Any = {"prio": 3}
    with pytest.raises(InvalidTypeError, match="block 'hear' was given unknown options: prio; the"):
        tocsin.block(**wrong)(hear)


@every_flavour
async def test_a_subscriber_is_registered_and_stacks(flavour: Any) -> None:
    first, second = flavour("first"), flavour("second")

    @first.subscriber
    @second.subscriber(priority=5)
    def decorated(event: Any, data: Any) -> int:
        return NOTIFY_OK

    assert isinstance(decorated, NotifierBlock)
    assert (decorated.chain, decorated.priority) == (first, 0)
    (other,) = second.blocks
    assert (other.callback, other.priority) == (decorated.callback, 5)
    assert await maybe_await(first.call(1)) == NOTIFY_OK
    assert await maybe_await(second.call(1)) == NOTIFY_OK


def test_a_lambdas_file_and_line_are_told_in_errors() -> None:
    chain = AtomicChain[Any]("chain")

    @chain.subscriber(name="fails")
    def fails(event: Any, data: Any) -> int:
        raise RuntimeError

    with pytest.raises(RuntimeError) as caught:
        chain.call(1)
    assert "test_block.py" not in caught.value.__notes__[0]
    chain.unregister(fails)
    chain.register(lambda event, data: 1 // 0)
    with pytest.raises(ZeroDivisionError) as divided:
        chain.call(1)
    assert "test_block.py:" in divided.value.__notes__[0]


# What options do to a call: the slot.


@every_flavour
async def test_once_means_once_per_registration(flavour: Any) -> None:
    chain = flavour("chain")
    counter = Counter(once=True)
    for expected in (1, 2):
        await maybe_await(chain.register(counter))
        await maybe_await(chain.call(1))
        assert counter.chain is None
        await maybe_await(chain.call(1))
        assert counter.count == expected


@every_flavour
async def test_once_does_not_run_again_in_a_call_from_its_own_callback(flavour: Any) -> None:
    chain = flavour("chain")
    heard: list[int] = []
    results: list[Any] = []

    def again(event: int, data: Any) -> int:
        heard.append(event)
        if flavour in (AtomicChain, RawChain):
            results.append(chain.call(event + 1))
        return NOTIFY_OK

    async def aagain(event: int, data: Any) -> int:
        heard.append(event)
        results.append(await chain.call(event + 1))
        return NOTIFY_OK

    sync = flavour not in ASYNC
    await maybe_await(chain.register(again if sync else aagain, once=True))
    assert await maybe_await(chain.call(1)) == NOTIFY_OK
    assert (heard, results) == ([1], [NOTIFY_DONE])


async def test_a_spent_once_block_is_skipped_by_a_walk_that_began_before() -> None:
    chain = AtomicChain[int]("chain")
    counter = Counter(once=True)

    @chain.subscriber(priority=1, events=1)
    def spends(event: int, data: None) -> int:
        return chain.call(2)

    chain.register(counter)
    assert chain.call(1) == NOTIFY_OK
    assert counter.count == 1


def test_of_two_racing_calls_of_a_once_block_one_gets_through() -> None:
    counter = Counter(once=True)

    def race(block: object) -> None:  # between the first call's ticket and its taking off
        with pytest.raises(Skipped):
            slot(1, None)

    arm(counter)
    slot: Any = make_slot(counter, race)
    assert slot(1, None) == NOTIFY_OK
    assert counter.count == 1


@pytest.mark.parametrize("how", ["filter", "only"])
def test_a_once_block_admitted_again_in_mid_race_does_not_run_twice(how: str) -> None:
    class Interrupted(AtomicChain[Any, Any]):
        """Another thread filters and calls between the first call's ticket and its taking off."""

        def _take_off(self, block: Any) -> None:
            if how == "filter":
                self.set_filter(lambda one: False)
                self.set_filter(None)
            else:
                with self.only("nobody"):
                    pass
            assert block in self
            self.call("second", None)
            super()._take_off(block)

    chain, ran = Interrupted("chain"), list[Any]()
    block = chain.register(lambda event, data: ran.append(event), once=True)
    for _ in range(2):  # and in the next registration once more
        chain.call("first", None)
        assert ran == ["first"]
        assert block.chain is None
        chain.register(block)
        ran.clear()


@pytest.mark.parametrize("flavour", [BlockingChain, SrcuChain])
async def test_a_thread_block_runs_in_another_thread_with_the_callers_context(flavour: Any) -> None:
    chain = flavour("chain")
    ran: list[tuple[int, str]] = []

    def look(event: Any, data: Any) -> None:
        ran.append((threading.get_ident(), REQUEST.get()))

    await chain.register(look, thread=True)
    REQUEST.set("request 7")
    await chain.call(1)
    ((ident, request),) = ran
    assert ident != threading.get_ident()
    assert request == "request 7"


@pytest.mark.parametrize("flavour", [BlockingChain, SrcuChain])
async def test_a_timeout_is_the_blocks_exception(flavour: Any) -> None:
    chain = flavour("chain")

    async def forever(event: Any, data: Any) -> None:
        await anyio.sleep_forever()

    block = await chain.register(forever, timeout=0.001)
    with pytest.raises(TimeoutError) as caught:
        await chain.call(1)
    assert "raised by block" in caught.value.__notes__[0]
    assert block in chain
    await chain.register(ahear, timeout=60, priority=1)
    await chain.unregister(block)
    assert await chain.call(1) == NOTIFY_OK
