"""What the tests of other event libraries ask, asked of Tocsin: forty behaviours, numbered.

Each test says in its docstring whose test it takes its question from (project, file, test) and what
the answer is: "As there", or "Otherwise" with the difference, and in parentheses the rule that says
so: one of the contract, or the part of Tocsin it belongs to. Where a feature is deliberately not
there, the test shows what happens instead. The questions are theirs, the code is ours.

`docs/explanation/peers.md` tells the same in a table, which the last tests hold against this file.
"""

from __future__ import annotations

import errno
import gc
import io
import operator
import random
import re
import sys
import threading
import traceback
import weakref
from collections import Counter, deque
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tocsin import (
    NOTIFY_BAD,
    NOTIFY_DONE,
    NOTIFY_OK,
    NOTIFY_STOP,
    AlreadyRegisteredError,
    AsyncCallbackError,
    AtomicChain,
    BlockingChain,
    InvalidTypeError,
    NameFilter,
    NotifierBlock,
    NotRegisteredError,
    Observer,
    OrderConflictError,
    PriorityInUseError,
    RawChain,
    RegistrationVetoedError,
    RollbackError,
    Scope,
    ScopeClosedError,
    SrcuChain,
    StreamOverflowError,
    StructlogObserver,
    TocsinError,
)

from .flavours import ASYNC, FLAVOURS, SYNC, WAYS, Held, Rig, maybe_await
from .test_threads import threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

pytestmark = pytest.mark.anyio

POLICIES = ["raise", "collect", "isolate"]
STREAMING: list[Any] = [AtomicChain, BlockingChain, SrcuChain]


def ways(chosen: list[tuple[type[Any], str, str]]) -> pytest.MarkDecorator:
    ids = [f"{flavour.__name__}-{colour}-{walk}" for flavour, colour, walk in chosen]
    return pytest.mark.parametrize(("flavour", "colour", "walk"), chosen, ids=ids)


def is_sync(flavour: type[Any], colour: str, walk: str) -> bool:
    return flavour in SYNC and walk == "call"


every_way = ways(WAYS)
every_nesting_way = ways([way for way in WAYS if is_sync(*way) or way[1] == "async"])
every_joinable_way = ways([way for way in WAYS if way[0] is not BlockingChain])
every_awaited_way = ways([way for way in WAYS if way[1] == "async"])
every_flavour = pytest.mark.parametrize("flavour", FLAVOURS)
every_async = pytest.mark.parametrize("flavour", ASYNC)
every_streaming = pytest.mark.parametrize("flavour", STREAMING)


@pytest.fixture
def rig(flavour: Any, colour: str, walk: str) -> Rig:
    return Rig(flavour, colour=colour, walk=walk)


def nothing(event: Any, data: Any) -> None:
    return None


def named(rig: Rig) -> list[str]:
    return [block.name for block in rig.chain.blocks]


def finish(made: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that has nothing to wait for, outside of any event loop."""
    try:
        made.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("it waits")


def doing(rig: Rig, body: Callable[[Any, Any], Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Make an async body what a callback does, run on the spot where the callback is sync."""
    return lambda event, data: (
        body(event, data) if rig.colour == "async" else finish(body(event, data))
    )


@asynccontextmanager
async def registered(chain: Any, *args: Any, **options: Any) -> AsyncIterator[Any]:
    made = chain.registered(*args, **options)
    if hasattr(made, "__aenter__"):
        async with made as block:
            yield block
    else:
        with made as block:
            yield block


@contextmanager
def without_collector() -> Iterator[None]:
    """What is released in here is released by the last reference to it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def until(true: Callable[[], object]) -> None:
    """Let others run until it is so."""
    with anyio.fail_after(30):
        while not true():
            await checkpoint()


class Payload:
    """Something that can be referred to weakly."""


# Ordering


@every_flavour
@given(priorities=st.lists(st.integers(-3, 3), max_size=10))
@settings(max_examples=20)
def test_peer_01_the_order_is_right_after_every_insertion(
    flavour: Any, priorities: list[int]
) -> None:
    """1. pluggy, testing/test_hookcaller.py: test_adding_nonwrappers, test_adding_wrappers_complex.

    Otherwise (D1): among equals the first that was registered runs first; in pluggy it is the last.
    """
    chain = flavour("chain")
    for number, priority in enumerate(priorities):
        chain.register_nowait(nothing, name=f"b{number}", priority=priority)
        by_rule = sorted(range(number + 1), key=lambda one: (-priorities[one], one))
        assert [block.name for block in chain.blocks] == [f"b{one}" for one in by_rule]


@every_flavour
async def test_peer_01_first_and_last_are_priorities_like_any_other(flavour: Any) -> None:
    """1. pluggy, testing/test_hookcaller.py: test_adding_nonwrappers_trylast, ..._tryfirst.

    Otherwise (D1): there is no first and no last, only higher and lower, FIFO among equals.
    """
    rig = Rig(flavour)
    for name, priority, order in [
        ("plain", 0, ["plain"]),
        ("last", -1, ["plain", "last"]),
        ("plain2", 0, ["plain", "plain2", "last"]),
        ("first", 1, ["first", "plain", "plain2", "last"]),
        ("last2", -1, ["first", "plain", "plain2", "last", "last2"]),
        ("first2", 1, ["first", "first2", "plain", "plain2", "last", "last2"]),
        ("more_than_first", 2, ["more_than_first", "first", "first2", "plain", "plain2", "last"]),
    ]:
        await rig.add(name, priority=priority)
        assert named(rig)[: len(order)] == order


@every_way
async def test_peer_02_priorities_of_either_sign_and_none_are_mixed(rig: Rig) -> None:
    """2. psygnal, tests/test_psygnal.py: test_call_priority.

    As there (D1).
    """
    await rig.add("none")
    for priority in (5, -5, 10, 5, -5):
        await rig.add(f"{priority}_{len(rig.chain)}", priority=priority)
    await rig.add("zero", priority=0)
    await rig.call(1, None)
    assert rig.drain() == ["10_3", "5_1", "5_4", "none", "zero", "-5_2", "-5_5"]


@every_flavour
async def test_peer_03_before_one_before_several_then_stages(flavour: Any) -> None:
    """3. tapable, test/Hook.test.js: should allow to insert hooks before others and in stages.

    As there (D1); a lower stage is a higher priority.
    """
    rig = Rig(flavour)
    steps: list[tuple[dict[str, Any], str]] = [
        ({}, "a"),
        ({"before": "a"}, "ba"),
        ({"before": ["a", "b"]}, "cba"),
        ({"before": "b"}, "cdba"),
        ({"priority": 5}, "ecdba"),
        ({"priority": 3}, "efcdba"),
    ]
    for name, (options, order) in zip("abcdef", steps, strict=True):
        await rig.add(name, **options)
        assert "".join(named(rig)) == order


@every_flavour
async def test_peer_03_a_name_that_nobody_bears_is_ignored(flavour: Any) -> None:
    """3. tapable, test/Hook.test.js: should not ignore invalid before values.

    Otherwise (D1): who asks to come before nobody stays where it is; in tapable it comes first. And
    a wish against a priority is refused, where tapable's stage gives way to it.
    """
    rig = Rig(flavour)
    await rig.add("a")
    await rig.add("b", before="nobody")
    assert named(rig) == ["a", "b"]
    await rig.add("c", before=["nobody", "b"])
    assert named(rig) == ["a", "c", "b"]
    with pytest.raises(OrderConflictError):
        await rig.add("d", before="a", priority=-1)
    assert named(rig) == ["a", "c", "b"]


@every_way
async def test_peer_04_what_encloses_the_others_does_so_in_whatever_order_they_come(
    flavour: Any, colour: str, walk: str
) -> None:
    """4. pluggy, testing/test_invocations.py: test_call_order.

    Otherwise (D1): there are no wrappers; two blocks, one of a high and one of a low priority,
    enclose the rest.
    """
    parts = {"open": 10, "plain": 0, "close": -10}
    for order in permutations(parts):
        rig = Rig(flavour, colour=colour, walk=walk)
        for name in order:
            await rig.add(name, priority=parts[name])
        await rig.call(1, None)
        assert rig.drain() == ["open", "plain", "close"]


@every_flavour
async def test_peer_04_a_wrapper_that_yields_is_refused_when_it_is_registered(flavour: Any) -> None:
    """4. pluggy, testing/test_invocations.py: test_call_order.

    Otherwise (D8): a generator would never run, so registering it is an error.
    """
    rig = Rig(flavour)

    def wrapper(event: Any, data: Any) -> Any:
        yield

    with pytest.raises(InvalidTypeError, match="generator"):
        await rig.register(wrapper)
    assert rig.chain.is_empty


class Base:
    pass


class Derived(Base):
    pass


@every_way
async def test_peer_05_a_class_is_an_event_and_stands_for_itself_alone(rig: Rig) -> None:
    """5. zope.event, src/zope/event/classhandler.py: its doctest.

    Otherwise (D1): events are compared by equality and no hierarchy is known. Who calls the chain
    for each class of the MRO has zope's order: the most derived first, then as registered.
    """
    await rig.add("base", events=Base)
    await rig.add("derived", events=[Derived])
    await rig.add("derived2", events=[Derived])
    await rig.add("any")
    await rig.call(Derived, None)
    assert rig.drain() == ["derived", "derived2", "any"]
    await rig.call(Derived(), None)
    assert rig.drain() == ["any"]
    for kind in Derived.__mro__[:-1]:
        await rig.call(kind, Derived())
    assert rig.drain() == ["derived", "derived2", "any", "base", "any"]


@every_way
async def test_peer_06_a_temporary_subscriber_takes_its_place_among_the_others(rig: Rig) -> None:
    """6. pluggy, testing/test_hookcaller.py: test_call_extra_hook_order.

    Otherwise (D1): pluggy's extra methods are part of one call; `registered` puts them on the
    chain, where every call hears them until the context is left.
    """
    for name, priority in [("first", 5), ("plain", 0), ("last", -5)]:
        await rig.add(name, priority=priority)
    one, two = rig.callback("extra"), rig.callback("extra2")
    async with registered(rig.chain, one), registered(rig.chain, two, priority=1):
        await rig.call(1, None)
        assert rig.drain() == ["first", "extra2", "plain", "extra", "last"]
    await rig.call(1, None)
    assert rig.drain() == ["first", "plain", "last"]


# Mutation during dispatch


@every_way
async def test_peer_07_who_removes_itself_does_not_hide_its_successor(rig: Rig) -> None:
    """7. psygnal, tests/test_psygnal.py: test_signal_emission_disconnect.

    As there (D3).
    """
    await rig.add("before")
    leaving: Any = None
    leaving = await rig.add("leaving", lambda *_: rig.chain.unregister_nosync(leaving))
    await rig.add("behind")
    await rig.call(1, None)
    assert rig.drain() == ["before", "leaving", "behind"]
    await rig.call(1, None)
    assert rig.drain() == ["before", "behind"]


@every_way
async def test_peer_08_of_two_one_removes_the_other_in_either_order(
    flavour: Any, colour: str, walk: str
) -> None:
    """8. pyee, tests/test_sync.py: test_listener_removal_on_emit.

    Otherwise (D3): a block that was removed before its turn is not called; pyee calls it still.
    """
    for order, called in [("ab", ["a"]), ("ba", ["b", "a"])]:
        rig, blocks = Rig(flavour, colour=colour, walk=walk), dict[str, Any]()

        def remove(event: Any, data: Any, rig: Rig = rig, blocks: dict[str, Any] = blocks) -> None:
            rig.chain.unregister_nosync(blocks["b"])

        for name in order:
            blocks[name] = await rig.add(name, remove if name == "a" else None)
        await rig.call(1, None)
        assert rig.drain() == called
        assert named(rig) == ["a"]


@every_joinable_way
async def test_peer_09_those_who_come_in_mid_call_are_heard_by_the_next_one(rig: Rig) -> None:
    """9. pluggy, testing/test_pluginmanager.py: test_register_while_calling.

    As there (D2); each at its place by priority.
    """

    def invite(event: int, data: Any) -> None:
        if event == 1:
            for name, priority in [("early", 9), ("mid", 0), ("late", -9)]:
                rig.chain.register_nowait(rig.callback(name), priority=priority)

    await rig.add("host", invite)
    await rig.add("guest", priority=-5)
    await rig.call(1, None)
    assert rig.drain() == ["host", "guest"]
    await rig.call(2, None)
    assert rig.drain() == ["early", "host", "mid", "guest", "late"]


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_peer_09_nobody_comes_in_mid_call_where_writers_exclude(colour: str) -> None:
    """9. pluggy, testing/test_pluginmanager.py: test_register_while_calling.

    Otherwise (D2): on a BlockingChain a registration never overlaps a call, so it would block.
    """
    rig = Rig(BlockingChain, colour=colour)
    await rig.add("host", lambda *_: rig.chain.register_nowait(nothing))
    with pytest.raises(anyio.WouldBlock):
        await rig.call(1, None)
    assert named(rig) == ["host"]


@pytest.mark.parametrize("flavour", [*SYNC, SrcuChain])
async def test_peer_09_who_comes_in_mid_call_hears_the_past_at_once(flavour: Any) -> None:
    """9. pluggy, testing/test_pluginmanager.py: test_register_while_calling (historic).

    Otherwise (replay): it hears the present state, not all past calls, and at once as in pluggy.
    """
    heard: list[Any] = []
    chain = flavour("chain", replay=lambda: [("up", "eth0")])

    def invite(event: Any, data: Any) -> None:
        if event == "go":
            chain.register_nowait(lambda event, data: heard.append(("guest", event, data)))
            heard.append("invited")

    await maybe_await(chain.register(invite))
    await maybe_await(chain.call("go", None))
    assert heard == [("guest", "up", "eth0"), "invited"]


@every_way
async def test_peer_10_who_is_dropped_by_its_last_owner_is_called_all_the_same(rig: Rig) -> None:
    """10. psygnal, tests/test_psygnal.py: test_object_deleted_during_emission.

    Otherwise (D14): psygnal refers to methods weakly and skips the dead; here nothing vanishes.
    """
    owners = [Payload()]
    seen = weakref.ref(owners[0])
    await rig.add("owner", lambda *_: owners.clear())

    def use(one: Payload, event: Any, data: Any) -> None:
        assert seen() is one

    with without_collector():
        later = await rig.add("later", partial(use, owners[0]))
        await rig.call(1, None)
        assert rig.drain() == ["owner", "later"]
        await rig.unregister(later)
        del later
        assert seen() is None  # and an unregistered one is released at once


def test_peer_10_it_is_called_though_another_thread_drops_it() -> None:
    """10. psygnal, tests/test_psygnal.py: test_threaded_object_deleted_during_emission.

    Otherwise (D14): psygnal refers to methods weakly and skips the dead; here nothing vanishes.
    """
    chain = AtomicChain[Any, Any]("chain")
    entered, dropped, heard = threading.Event(), threading.Event(), []

    class Listener:
        def hear(self, event: Any, data: Any) -> None:
            heard.append(event)

    def wait(event: Any, data: Any) -> None:
        entered.set()
        assert dropped.wait(30)

    chain.register(wait)
    listeners = [Listener()]
    chain.register(listeners[0].hear)
    with threads(lambda: chain.call(1, None)) as errors:
        assert entered.wait(30)
        listeners.clear()
        dropped.set()
    assert errors == []
    assert heard == [1]


@every_way
async def test_peer_11_once_fires_once_and_is_gone_before_its_body_runs(rig: Rig) -> None:
    """11. pyee, tests/test_sync.py: test_once, test_once_removal.

    As there (D3).
    """
    there: list[bool] = []
    once: Any = None
    once = await rig.add("once", lambda *_: there.append(once in rig.chain), once=True)
    never = await rig.add("never", once=True)
    await rig.unregister(never)
    for event in (1, 2):
        await rig.call(event, None)
    assert rig.drain() == ["once"]
    assert there == [False]


@every_async
async def test_peer_11_of_two_calls_that_race_one_fires_it(flavour: Any) -> None:
    """11. pyee, tests/test_sync.py: test_once (issue 76).

    As there (D3).
    """
    chain, held, fired = flavour("chain"), Held(), Counter[Any]()

    async def once(event: Any, data: Any) -> None:
        fired[event] += 1
        await checkpoint()

    await chain.register(held, is_async=True, priority=1)
    await chain.register(once, once=True)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, 1, None)
        group.start_soon(chain.call, 2, None)
        await until(lambda: chain.statistics().walks_running == 2)
        held.release.set()
    assert fired.total() == 1


def test_peer_11_of_two_threads_that_race_one_fires_it() -> None:
    """11. pyee, tests/test_sync.py: test_once (issue 76).

    As there (D3).
    """
    chain, fired = AtomicChain[Any, Any]("chain"), Counter[int]()
    rounds, barrier = 50, threading.Barrier(2)

    def call() -> None:
        for number in range(rounds):
            if barrier.wait(30) == 0:
                chain.register(lambda event, data: fired.update([event]), once=True)
            barrier.wait(30)
            chain.call(number, None)

    with threads(call, call) as errors:
        pass
    assert errors == []
    assert fired == dict.fromkeys(range(rounds), 1)
    assert chain.is_empty


@every_way
async def test_peer_12_a_low_one_that_a_high_one_removes_does_not_run(rig: Rig) -> None:
    """12. eventemitter3, issue 262; ckeditor5, issue 4996: their reproductions.

    As there (D3), as those who filed them wished.
    """
    low = await rig.add("low", priority=-10)
    await rig.add("middle")

    def remove(event: int, data: Any) -> None:
        if event == 1:
            rig.chain.unregister_nosync(low)

    await rig.add("high", remove, priority=10)
    for event in (1, 2):
        await rig.call(event, None)
        assert rig.drain() == ["high", "middle"]


# Re-entrancy


async def trace_of(rig: Rig, emit: Callable[[int], Any]) -> list[int]:
    """Run psygnal's case: the first emits 2 during 1, the second 3 during 2, the third nothing."""
    log: list[int] = []

    def logging(factor: int, trigger: int) -> Callable[..., Any]:
        async def callback(event: int, data: Any) -> Any:
            log.append(event * factor)
            return await maybe_await(emit(event + 1)) if event == trigger else None

        return doing(rig, callback)

    for factor, trigger in [(1, 1), (10, 2), (100, 0)]:
        await rig.add(f"times_{factor}", logging(factor, trigger))
    await maybe_await(emit(1))
    return log


@every_nesting_way
async def test_peer_13_nested_calls_run_depth_first(rig: Rig) -> None:
    """13. psygnal, tests/test_psygnal.py: test_callback_order (immediate).

    As there (D13).
    """

    async def emit(event: int) -> None:
        await rig.call(event, None)

    assert await trace_of(rig, emit) == [1, 2, 20, 3, 30, 300, 200, 10, 100]


@every_nesting_way
async def test_peer_13_breadth_first_is_a_queue_of_the_callers_own(rig: Rig) -> None:
    """13. psygnal, tests/test_psygnal.py: test_callback_order (queued).

    Otherwise (D13): nothing is queued, for a call has happened when it returns; who wants the one
    after the other keeps a queue.
    """
    waiting: deque[int] = deque()

    async def emit(event: int) -> None:
        waiting.append(event)
        if len(waiting) == 1:
            while waiting:
                await rig.call(waiting[0], None)
                waiting.popleft()

    assert await trace_of(rig, emit) == [1, 10, 100, 2, 20, 200, 3, 30, 300]


@every_nesting_way
async def test_peer_13_the_latest_alone_is_a_stop_after_the_nested_call(rig: Rig) -> None:
    """13. psygnal, tests/test_psygnal.py: test_callback_order (latest-only).

    Otherwise (D5): the outer walk goes on behind a nested call; NOTIFY_STOP gives it up.
    """

    async def emit(event: int) -> int:
        await rig.call(event, None)
        return NOTIFY_STOP

    assert await trace_of(rig, emit) == [1, 2, 20, 3, 30, 300]


@every_nesting_way
async def test_peer_14_calling_itself_without_end_is_an_error_and_leaves_no_trace(rig: Rig) -> None:
    """14. psygnal, tests/test_psygnal.py: test_recursion_error.

    As there (D13); the error is Python's RecursionError, with a note that names the block.
    """
    again = True

    async def recurse(event: Any, data: Any) -> None:
        if again:
            await rig.call(event, data)

    await rig.add("recursing", doing(rig, recurse))
    with pytest.raises(RecursionError) as caught:
        await rig.call(1, None)
    [note] = caught.value.__notes__
    assert "'recursing' of chain 'chain'" in note
    again = False
    rig.drain()
    assert await rig.call(2, None) == NOTIFY_DONE
    assert rig.drain() == ["recursing"]
    assert rig.chain.statistics().walks_running == 0


@every_way
async def test_peer_15_the_end_of_an_inner_mute_leaves_the_outer_one(rig: Rig) -> None:
    """15. psygnal, tests/test_psygnal.py: test_nested_signal_blocked.

    As there (filter).
    """
    await rig.add("a")
    await rig.add("b")
    with rig.chain.only():
        with rig.chain.only():
            await rig.call(1, None)
        await rig.call(2, None)
        with rig.chain.only("a"):
            await rig.call(3, None)
    assert rig.drain() == []
    await rig.call(4, None)
    assert rig.drain() == ["a", "b"]


@every_streaming
async def test_peer_15_what_is_not_heard_now_is_kept_by_a_stream_alone(flavour: Any) -> None:
    """15. psygnal, tests/test_psygnal.py: test_nested_pause.

    Otherwise (streams): there is no pausing. What was called while one was muted is over when it is
    heard again; a stream keeps events until they are read.
    """
    rig = Rig(flavour)
    await rig.add("a")
    async with rig.chain.stream() as stream:
        with rig.chain.only("stream"), rig.chain.only("stream"):
            for event in (1, 2, 3):
                await rig.call(event, None)
        assert rig.drain() == []
        assert [(await anext(stream))[0] for _ in range(3)] == [1, 2, 3]


def forward(ours: Rig, theirs: Rig, *, once_each: bool) -> Callable[..., Any]:
    async def pass_on(event: Any, path: list[Any]) -> None:
        if not once_each or theirs.chain not in path:
            await theirs.call(event, [*path, theirs.chain])

    return doing(ours, pass_on)


@every_nesting_way
async def test_peer_16_chains_that_forward_to_each_other_end_if_they_look_at_the_path(
    flavour: Any, colour: str, walk: str
) -> None:
    """16. bubus, tests/test_eventbus.py: test_circular_subscription_prevention.

    Otherwise (D13): a chain keeps no path of an event. Who forwards keeps one in the data, or the
    circle ends in RecursionError, after which the chains are as good as before.
    """
    rigs = [Rig(flavour, colour=colour, walk=walk) for _ in range(3)]
    for number, ours in enumerate(rigs):
        theirs = rigs[(number + 1) % 3]
        await ours.add("endless", forward(ours, theirs, once_each=False))
        await ours.add("guarded", forward(ours, theirs, once_each=True))
    with pytest.raises(RecursionError):
        await rigs[0].call(1, [rigs[0].chain])
    for one in rigs:
        one.drain()
        await one.unregister(one.chain.blocks[0])
    await rigs[0].call(2, [rigs[0].chain])
    assert [one.drain() for one in rigs] == [["guarded"]] * 3
    assert [one.chain.statistics().walks_running for one in rigs] == [0, 0, 0]


# Exceptions


@every_way
async def test_peer_17_a_failure_is_logged_with_its_traceback_and_its_block(
    flavour: Any, colour: str, walk: str
) -> None:
    """17. Django, tests/dispatch/tests.py: test_send_robust_fail.

    As there (D9): the others run, the log names who failed; but the exception is in the report
    and never among the results.
    """
    rig = Rig(flavour, colour=colour, walk=walk, errors="isolate")

    def fails(event: Any, data: Any) -> None:
        raise ValueError("this one fails")

    await rig.add("failing", fails)
    await rig.add("other", NOTIFY_OK)
    with capture_logs() as logs:
        report = await rig.call_report(1, "secret")
    assert rig.drain() == ["failing", "other"]
    assert report.result == NOTIFY_OK
    [entry] = logs
    assert (entry["chain"], entry["block"], entry["log_level"]) == ("chain", "failing", "warning")
    _, error, trace = entry["exc_info"]
    assert error is report.calls[0].exception
    assert traceback.extract_tb(trace)[-1].name == "fails"


@every_way
async def test_peer_18_undoing_goes_backwards(rig: Rig) -> None:
    """18. pluggy, testing/test_multicall.py: test_wrapper_exception.

    Otherwise (D10): `reverse=True` undoes the last first, as pluggy's wrappers do; without it in
    the order of the chain, as in the kernel. The one that failed hears nothing.
    """
    for name in ("a", "b", "c"):
        await rig.add(name)
    await rig.add("failing", lambda event, data: 1 // (event == "undo"))
    for reverse, undone in [(True, ["c", "b", "a"]), (False, ["a", "b", "c"])]:
        with pytest.raises(ZeroDivisionError):
            await rig.call_robust("do", "undo", None, reverse=reverse)
        assert rig.drain() == ["a", "b", "c", "failing", *undone]


@every_way
async def test_peer_18_the_causes_of_an_exception_are_kept(rig: Rig) -> None:
    """18. pluggy, testing/test_multicall.py: test_wrapper_exception_chaining.

    Otherwise (D10): what an undo raises replaces nothing; it is a note on the first exception,
    whose cause and context are as they were raised.
    """
    cause, context = KeyError("cause"), KeyError("context")

    def fail(event: Any, data: Any) -> None:
        try:
            raise context
        except KeyError:
            raise ValueError("first") from cause

    def undo(event: Any, data: Any) -> None:
        if event == "undo":
            raise LookupError("undoing")

    await rig.add("undoing", undo)
    await rig.add("failing", fail)
    with pytest.raises(ValueError, match="first") as caught:
        await rig.call_robust("do", "undo", None)
    assert (caught.value.__cause__, caught.value.__context__) == (cause, context)
    assert any("undoing" in note and "LookupError" in note for note in caught.value.__notes__)


@every_way
async def test_peer_18_an_undo_that_fails_keeps_no_other_from_undoing(
    flavour: Any, colour: str, walk: str
) -> None:
    """18. pluggy, testing/test_multicall.py: test_unwind_inner_wrapper_teardown_exc.

    As there (D10); and no failure is lost: all of them come out.
    """

    def undo(event: Any, data: Any) -> None:
        if event == "undo":
            raise LookupError("undoing")

    for policy in POLICIES:
        rig = Rig(flavour, colour=colour, walk=walk, errors=policy)
        for name in ("a", "b", "c"):
            await rig.add(name, undo)
        await rig.add("stop", NOTIFY_BAD)
        with pytest.raises(RollbackError) as caught:
            await rig.call_robust("do", "undo", None, reverse=True)
        assert rig.drain() == ["a", "b", "c", "stop", "c", "b", "a"]
        assert [type(one) for one in caught.value.exceptions] == [LookupError] * 3
        assert caught.value.result == NOTIFY_BAD


@every_way
async def test_peer_18_an_undo_cannot_make_up_for_the_failure(rig: Rig) -> None:
    """18. pluggy, testing/test_multicall.py: test_suppress_inner_wrapper_teardown_exc.

    Otherwise (D10): a wrapper of pluggy may swallow the exception; here the failure is what the
    call ends with, whatever an undo gives.
    """
    failure: Any = ValueError("first")
    await rig.add("undoing", lambda event, data: NOTIFY_OK)

    def fail(event: Any, data: Any) -> Any:
        if isinstance(failure, Exception):
            raise failure
        return failure

    await rig.add("failing", fail)
    with pytest.raises(ValueError, match="first"):
        await rig.call_robust("do", "undo", None)
    failure = NOTIFY_BAD
    assert await rig.call_robust("do", "undo", None) == NOTIFY_BAD


@every_way
@pytest.mark.parametrize("policy", POLICIES)
async def test_peer_19_the_signals_of_iterators_are_not_eaten(
    flavour: Any, colour: str, walk: str, policy: str
) -> None:
    """19. pluggy, testing/test_multicall.py: test_wrapper_stopiteration_passtrough.

    As there (D9); but out of a coroutine Python lets a StopIteration go as a RuntimeError only.
    """
    for error in (StopIteration, StopAsyncIteration):
        rig = Rig(flavour, colour=colour, walk=walk, errors=policy)
        await rig.add("ending", error("the end"))
        await rig.add("behind", NOTIFY_OK)
        raised: BaseException | None = None
        try:
            assert await rig.call(1, None) == NOTIFY_OK
        except ExceptionGroup as group:
            [raised] = group.exceptions
        except Exception as one:
            raised = one
        assert rig.drain() == ["ending", "behind"][: 1 + (policy != "raise")]
        assert (raised is None) == (policy == "isolate")
        if raised is not None:
            assert error in (type(raised), type(raised.__cause__))


@every_way
async def test_peer_19_interruptions_pass_under_every_policy(
    flavour: Any, colour: str, walk: str
) -> None:
    """19. pluggy, testing/test_multicall.py: test_wrapper_stopiteration_passtrough, for others.

    As there (D9).
    """
    for policy in POLICIES:
        for error in (GeneratorExit, KeyboardInterrupt):
            rig = Rig(flavour, colour=colour, walk=walk, errors=policy)
            await rig.add("ending", error("the end"))
            await rig.add("behind")
            with pytest.raises(error):
                await rig.call(1, None)
            assert rig.drain() == ["ending"]


@every_awaited_way
async def test_peer_19_a_cancellation_passes_under_every_policy(
    flavour: Any, colour: str, walk: str
) -> None:
    """19. pluggy, testing/test_multicall.py: test_wrapper_stopiteration_passtrough, for others.

    As there (D9).
    """
    for policy in POLICIES:
        rig = Rig(flavour, colour=colour, walk=walk, errors=policy)
        with anyio.CancelScope() as scope:

            async def cancelled(event: Any, data: Any, scope: anyio.CancelScope = scope) -> None:
                scope.cancel()
                await checkpoint()

            await rig.add("cancelled", cancelled)
            await rig.add("behind")
            await rig.call(1, None)
        assert scope.cancelled_caught
        assert rig.drain() == ["cancelled"]


@every_flavour
async def test_peer_19_contexts_let_them_pass_too(flavour: Any) -> None:
    """19. pluggy, testing/test_multicall.py: test_wrapper_stopiteration_passtrough.

    As there (D12): what is written as a generator, a context of a chain, eats none of them.
    """
    chain = flavour("chain")
    for error in (StopIteration("1"), StopAsyncIteration("2"), GeneratorExit("3")):
        made, caught = chain.registered(nothing), None
        try:
            if flavour in ASYNC:
                async with made:
                    raise error
            with made:
                raise error
        except BaseException as one:
            caught = one
        assert caught is error
        assert chain.is_empty


@every_way
async def test_peer_20_an_error_tells_chain_emitting_line_and_failing_line(rig: Rig) -> None:
    """20. psygnal, tests/test_psygnal.py: test_emit_loop_exceptions, ..._message_construction.

    Otherwise (D9): the exception keeps its type and is wrapped in nothing; a note names chain and
    block, its traceback has both lines.
    """

    def failing_line(event: Any, data: Any) -> None:
        raise ValueError("boom")

    await rig.add("before")
    await rig.add("culprit", failing_line, priority=-3)
    with pytest.raises(ValueError, match="boom") as caught:
        await rig.call(1, "secret")
    [note] = caught.value.__notes__
    assert re.search(r"'culprit'.* of chain 'chain', priority -3, position 2 of 2", note)
    assert "secret" not in note
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].line == 'raise ValueError("boom")'
    assert any(frame.line == 'await rig.call(1, "secret")' for frame in frames)


@every_way
async def test_peer_20_a_nested_error_tells_every_chain_on_its_way(
    flavour: Any, colour: str, walk: str
) -> None:
    """20. psygnal, tests/test_psygnal.py: test_emit_loop_exceptions (nested).

    As there (D9), from the inside out.
    """
    inner = RawChain[Any, Any]("inner")
    inner.register(lambda event, data: 1 // 0, name="inmost")
    rig = Rig(flavour, colour=colour, walk=walk)
    await rig.add("middle", inner.call)
    with pytest.raises(ZeroDivisionError) as caught:
        await rig.call(1, None)
    notes = caught.value.__notes__
    assert [note.partition(",")[0].split()[-1] for note in notes] == ["'inner'", "'chain'"]
    assert "test_peers_cases.py:" in notes[0]  # a lambda has no better name


@every_way
async def test_peer_21_after_an_event_that_failed_the_next_one_arrives(
    flavour: Any, colour: str, walk: str
) -> None:
    """21. lahja, tests/core/asyncio/test_basics.py: test_exceptions_dont_stop_processing.

    As there (D9), under every policy; but the caller hears of the failure, or the log does.
    """
    for policy in POLICIES:
        rig = Rig(flavour, colour=colour, walk=walk, errors=policy)
        arrived: list[Any] = []

        def hear(event: Any, data: Any, arrived: list[Any] = arrived) -> None:
            if event == "bad":
                raise ValueError(event)
            arrived.append(event)

        await rig.add("hearing", hear)
        for event in ("good", "bad", "good again"):
            with suppress(ValueError, ExceptionGroup):
                await rig.call(event, None)
        assert arrived == ["good", "good again"]
        assert rig.chain.statistics().walks_running == 0


@pytest.mark.parametrize("flavour", [RawChain, *ASYNC])
@pytest.mark.parametrize("policy", POLICIES)
async def test_peer_22_sync_and_async_failures_go_the_same_way(flavour: Any, policy: str) -> None:
    """22. pyee, tests/test_asyncio.py: test_error, test_sync_error; tests/test_trio.py: the same.

    Otherwise (D9): the caller gets the error, with no "error" event, and both colours alike.
    """
    told: list[Any] = []
    for colour in ("sync", "async"):
        rig = Rig(flavour, colour=colour, walk="acall" if flavour is RawChain else "call")
        rig.chain = flavour("chain", errors=policy)
        await rig.add("failing", ValueError("boom"))
        await rig.add("behind", NOTIFY_OK)
        outcome: Any
        with capture_logs() as logs:
            try:
                outcome = await rig.call(1, None)
            except (ValueError, ExceptionGroup) as error:
                outcome = (type(error), str(error), getattr(error, "__notes__", None))
        warned = [(entry["event"], entry["block"], entry["chain"]) for entry in logs]
        told.append((outcome, warned, rig.drain()))
    assert told[0] == told[1]
    assert (told[0][0] == NOTIFY_OK) == (policy == "isolate")


@every_way
async def test_peer_23_a_robust_send_reaches_everybody_and_keeps_errors_apart(
    flavour: Any, colour: str, walk: str
) -> None:
    """23. PyDispatcher, tests/test_dispatcher.py: testRobust.

    Otherwise (D9): an exception is never a result. The report has both, each in its place.
    """
    rig = Rig(flavour, colour=colour, walk=walk, errors="isolate")
    failure = ValueError("fails")
    await rig.add("failing", failure)
    await rig.add("fine", NOTIFY_OK)
    report = await rig.call_report(1, None)
    assert [(call.block.name, call.result, call.exception) for call in report.calls] == [
        ("failing", NOTIFY_DONE, failure),
        ("fine", NOTIFY_OK, None),
    ]
    collecting = Rig(flavour, colour=colour, walk=walk, errors="collect")
    await collecting.add("failing", failure)
    await collecting.add("fine", NOTIFY_OK)
    with pytest.raises(ExceptionGroup) as caught:
        await collecting.call(1, None)
    assert caught.value.exceptions == (failure,)
    assert collecting.drain() == ["failing", "fine"]


# Async, cancellation, waiting


@every_awaited_way
async def test_peer_24_what_a_subscriber_cancels_of_its_own_is_its_own_affair(rig: Rig) -> None:
    """24. pyee, tests/test_asyncio.py: test_future_canceled.

    As there (D8).
    """

    async def cancels_itself(event: Any, data: Any) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()

    await rig.add("cancelling", cancels_itself)
    await rig.add("behind", NOTIFY_OK)
    assert await rig.call(1, None) == NOTIFY_OK
    assert rig.drain() == ["cancelling", "behind"]


@every_awaited_way
async def test_peer_24_cancelling_the_caller_cancels_the_subscriber(rig: Rig) -> None:
    """24. pyee, tests/test_asyncio.py: test_event_emitter_canceled.

    As there (D12), through the caller's own scope: there is no task to be cancelled but its own.
    """
    ended: list[str] = []
    entered = anyio.Event()

    async def forever(event: Any, data: Any) -> None:
        entered.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("forever")

    block = await rig.add("forever", forever)
    await rig.add("behind")
    async with anyio.create_task_group() as group:
        group.start_soon(rig.call, 1, None)
        await entered.wait()
        group.cancel_scope.cancel()
    assert ended == ["forever"]
    assert rig.drain() == ["forever"]
    assert rig.chain.statistics().walks_running == 0
    with anyio.fail_after(30):
        await rig.unregister(block)


def slow(log: list[int], number: int) -> Callable[..., Any]:
    """Make a callback that lets others run so many times, and logs its number then."""

    async def run(event: Any, data: Any) -> None:
        for _ in range(number):
            await checkpoint()
        log.append(number)

    return run


@every_awaited_way
async def test_peer_24_a_call_returns_when_all_have_ended(rig: Rig) -> None:
    """24. pyee, tests/test_asyncio.py: test_wait_for_complete.

    Otherwise (D8): there is nothing to wait for besides; a call that has returned is complete.
    """
    ended: list[int] = []
    for number in (3, 1, 2):
        await rig.add(f"slow_{number}", slow(ended, number))
    await rig.call(1, None)
    assert ended == [3, 1, 2]


@every_async
async def test_peer_24_a_concurrent_call_returns_when_all_have_ended(flavour: Any) -> None:
    """24. pyee, tests/test_asyncio.py: test_wait_for_complete.

    Otherwise (concurrent calls): in pyee they always run together, here by this name alone.
    """
    chain, ended = flavour("chain"), list[int]()
    for number in (3, 1, 2):
        await chain.register(slow(ended, number))
    await chain.call_concurrent(1, None)
    assert sorted(ended) == [1, 2, 3]


@every_streaming
async def test_peer_25_a_stream_left_by_break_is_off(flavour: Any) -> None:
    """25. lahja, tests/core/asyncio/test_basics.py: test_stream_with_break.

    As there (streams).
    """
    chain, seen = flavour("chain"), []
    async with chain.stream() as stream:
        for event in (1, 2, 3):
            await maybe_await(chain.call(event, None))
        async for event, _ in stream:
            seen.append(event)
            if event == 2:
                break
    assert seen == [1, 2]
    assert chain.is_empty
    await maybe_await(chain.call(4, None))


@every_streaming
@pytest.mark.parametrize("whole", [False, True])
async def test_peer_25_a_cancelled_stream_is_off_whoever_cancels_it(
    flavour: Any, whole: bool
) -> None:
    """25. lahja, tests/core/asyncio/test_basics.py: test_stream_can_get_cancelled, by its parent.

    As there (streams), when it is cancelled itself and when the task around it is.
    """
    chain, scopes = flavour("chain"), []

    async def read() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            async with chain.stream() as stream:
                async for _ in stream:
                    pass

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await until(lambda: len(chain) == 1)
        (group.cancel_scope if whole else scopes[0]).cancel()
    assert chain.is_empty


@every_streaming
async def test_peer_25_waiting_for_an_event_can_be_cancelled(flavour: Any) -> None:
    """25. lahja, tests/core/asyncio/test_basics.py: test_wait_for_can_get_cancelled.

    As there (streams).
    """
    chain = flavour("chain")
    async with anyio.create_task_group() as group:
        group.start_soon(chain.wait_for)
        await until(lambda: len(chain) == 1)
        group.cancel_scope.cancel()
    assert chain.is_empty


OVERFLOWS = {"drop_oldest": [2, 3], "drop_newest": [1, 2], "raise": [1, 2], "wait": [1, 2, 3]}


@pytest.mark.parametrize(
    ("flavour", "overflow"),
    [(AtomicChain, one) for one in OVERFLOWS if one != "wait"]
    + [(flavour, one) for flavour in ASYNC for one in OVERFLOWS],
)
async def test_peer_26_a_full_stream_does_what_it_was_told_to(flavour: Any, overflow: Any) -> None:
    """26. asphalt, tests/test_event.py: test_dispatch_event_buffer_overflow.

    Otherwise (streams): asphalt drops with a warning; here that is one of four ways to overflow.
    """
    chain, produced, kept = flavour("chain"), list[int](), OVERFLOWS[overflow]

    async def produce() -> None:
        for event in (1, 2, 3):
            with suppress(StreamOverflowError):
                await maybe_await(chain.call(event, None))
            produced.append(event)

    with capture_logs() as logs:
        async with chain.stream(max_buffer_size=2, overflow=overflow) as stream:
            async with anyio.create_task_group() as group:
                group.start_soon(produce)
                await until(lambda: len(produced) + stream.statistics().producers_waiting == 3)
                assert [(await anext(stream))[0] for _ in kept] == kept
            dropped = stream.statistics().dropped
    assert dropped == len(logs) == overflow.startswith("drop")


@every_streaming
async def test_peer_26_waiting_for_an_event_gives_it_with_its_data(flavour: Any) -> None:
    """26. asphalt, tests/test_event.py: test_wait_event.

    As there (streams).
    """
    chain, heard = flavour("chain"), []

    async def wait() -> None:
        heard.append(await chain.wait_for([2, 3], where=lambda event, data: data != "no"))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await until(lambda: len(chain) == 1)
        for event, data in [(1, "yes"), (2, "no"), (3, "yes"), (2, "late")]:
            await maybe_await(chain.call(event, data))
    assert heard == [(3, "yes")]


@every_streaming
async def test_peer_26_a_stream_gives_what_its_filter_lets_through(flavour: Any) -> None:
    """26. asphalt, tests/test_event.py: test_stream_events.

    As there (streams).
    """
    chain = flavour("chain")
    async with chain.stream() as all_of_it, chain.stream(where=lambda e, d: e % 2) as odd:
        for event in (1, 2, 3, 4):
            await maybe_await(chain.call(event, None))
        for stream, kept in [(all_of_it, [1, 2, 3, 4]), (odd, [1, 3])]:
            assert [(await anext(stream))[0] for _ in kept] == kept
            assert stream.statistics().buffered == 0


@every_streaming
async def test_peer_26_nothing_is_kept_after_the_context(flavour: Any) -> None:
    """26. asphalt, tests/test_event.py: test_memory_leak.

    As there (D14).
    """
    chain, payload = flavour("chain"), Payload()
    seen = [weakref.ref(payload)]
    async with chain.stream() as stream:
        await maybe_await(chain.call(1, payload))
        await maybe_await(chain.call(2, payload))
        await anext(stream)
    seen += [weakref.ref(stream), weakref.ref(chain)]
    del payload, stream, chain
    gc.collect()
    assert [one() for one in seen] == [None] * 3


@every_flavour
def test_peer_26_chains_that_are_attributes_of_a_class_are_what_they_are(flavour: Any) -> None:
    """26. asphalt, tests/test_event.py: test_class_attribute_access.

    Otherwise (D16): a chain is no descriptor. Of a class, and of each instance, it is the same one,
    and two are never one, as they were in asphalt's snapshot.
    """

    class Service:
        started = flavour("started")
        stopped = flavour("stopped")

    one, two = Service(), Service()
    assert one.started is two.started is Service.started
    assert one.started is not one.stopped
    one.started.register_nowait(nothing)
    assert (len(two.started), len(one.stopped)) == (1, 0)


@every_streaming
async def test_peer_27_a_stream_ends_where_its_reader_says_so(flavour: Any) -> None:
    """27. lahja, tests/core/trio/test_trio_endpoint_stream.py: with and without a limit.

    Otherwise (streams): there is no number of events to stop at; the reader counts and leaves.
    """
    chain, seen = flavour("chain"), []
    async with anyio.create_task_group() as group:

        async def read(limit: int) -> None:
            async with chain.stream() as stream:
                mine = [(await anext(stream))[0] for _ in range(limit)]
            seen.append(mine)

        for limit in (2, 3):
            group.start_soon(read, limit)
        await until(lambda: len(chain) == 2)
        for event in (1, 2, 3, 4):
            await maybe_await(chain.call(event, None))
            await until(lambda: len(chain) == 2 - len(seen) == (event < 2) + (event < 3))
    assert seen == [[1, 2], [1, 2, 3]]
    assert chain.is_empty


@every_way
async def test_peer_27_nothing_is_delivered_after_unregistering(rig: Rig) -> None:
    """27. lahja, tests/core/trio/test_trio_endpoint_subscribe.py: test_trio_endpoint_unsubscribe.

    As there (D3).
    """
    block = await rig.add("subscriber")
    await rig.call(1, None)
    await rig.unregister(block)
    await rig.call(2, None)
    assert rig.drain() == ["subscriber"]


@every_way
async def test_peer_27_a_subclass_is_another_event(rig: Rig) -> None:
    """27. lahja, tests/core/trio/test_trio_endpoint_subscribe.py: exact types.

    As there (D1): events are compared by equality.
    """
    await rig.add("base", events=Base)
    await rig.call(Derived, None)
    assert rig.drain() == []
    await rig.call(Base, None)
    assert rig.drain() == ["base"]


@every_streaming
async def test_peer_28_waiting_in_vain_ends_in_time_and_leaves_nothing(flavour: Any) -> None:
    """28. bubus, tests/test_eventbus.py: test_expect_timeout, test_expect_handler_cleanup.

    Otherwise (streams): the time is anyio's `fail_after`, not an argument; nothing is left behind.
    """
    chain = flavour("chain")
    await maybe_await(chain.register(nothing, name="other"))
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.001):
            await chain.wait_for(1)
    assert [block.name for block in chain] == ["other"]


@every_streaming
async def test_peer_28_several_wait_each_for_its_own(flavour: Any) -> None:
    """28. bubus, tests/test_eventbus.py: test_multiple_concurrent_expects.

    As there (streams).
    """
    chain, heard = flavour("chain"), {}

    async def wait(name: str, **options: Any) -> None:
        heard[name] = await chain.wait_for(**options)

    async with anyio.create_task_group() as group:
        group.start_soon(partial(wait, "any"))
        group.start_soon(partial(wait, "two", events=2))
        group.start_soon(partial(wait, "big", where=lambda event, data: data > 20))
        await until(lambda: len(chain) == 3)
        for event in (1, 2, 3):
            await maybe_await(chain.call(event, event * 10))
    assert heard == {"any": (1, 10), "two": (2, 20), "big": (3, 30)}
    assert chain.is_empty


@every_async
@pytest.mark.parametrize("blamed", ["inner", "outer"])
async def test_peer_28_of_nested_timeouts_the_one_that_ran_out_is_blamed(
    flavour: Any, blamed: str
) -> None:
    """28. bubus, tests/test_handler_timeout.py: nested timeouts.

    As there (D9): the first note names the block whose time was over.
    """
    outer, inner = flavour("outside"), flavour("inside")

    async def forever(event: Any, data: Any) -> None:
        await anyio.sleep_forever()

    async def nest(event: Any, data: Any) -> None:
        await inner.call(event, data)

    short, long = 0.001, 60
    await inner.register(forever, name="inner", timeout=short if blamed == "inner" else long)
    await outer.register(nest, name="outer", timeout=short if blamed == "outer" else long)
    with pytest.raises(TimeoutError) as caught:
        await outer.call(1, None)
    said = [re.findall(r"'(\w+)'", note)[0] for note in caught.value.__notes__]
    assert said == (["inner", "outer"] if blamed == "inner" else ["outer"])
    assert [one.statistics().walks_running for one in (outer, inner)] == [0, 0]


@every_awaited_way
async def test_peer_29_events_arrive_in_order_whatever_each_takes(rig: Rig) -> None:
    """29. bubus, tests/test_eventbus.py: test_fifo_with_varying_handler_delays.

    As there (D8): one call after the other.
    """
    seen: list[Any] = []

    async def take(event: int, delay: int) -> None:
        for _ in range(delay):
            await checkpoint()
        seen.append(event)

    await rig.add("take", take)
    for event, delay in enumerate([5, 0, 3, 1, 4]):
        await rig.call(event, delay)
    assert seen == [0, 1, 2, 3, 4]


@every_awaited_way
async def test_peer_29_subscribers_keep_their_order_whatever_each_takes(rig: Rig) -> None:
    """29. bubus, tests/test_eventbus.py: test_mixed_delay_handlers_maintain_order.

    As there (D8).
    """
    ended: list[int] = []
    for number in (5, 0, 3, 1):
        await rig.add(f"slow_{number}", slow(ended, number))
    await rig.call(1, None)
    assert ended == [5, 0, 3, 1]


@every_awaited_way
async def test_peer_29_calls_at_the_same_time_neither_mix_nor_lose_events(rig: Rig) -> None:
    """29. bubus, tests/test_eventbus.py: test_concurrent_emit_calls.

    Otherwise (D8): calls of several tasks are not queued but overlap; each keeps its own order.
    """
    begun: list[tuple[int, int]] = []

    def begins(place: int) -> Callable[..., Any]:
        async def run(event: int, data: Any) -> None:
            begun.append((event, place))
            for _ in range(event % 3):
                await checkpoint()

        return run

    for place in range(3):
        await rig.add(f"begins_{place}", begins(place))
    async with anyio.create_task_group() as group:
        for event in range(20):
            group.start_soon(rig.call, event, None)
    for event in range(20):
        assert [place for one, place in begun if one == event] == [0, 1, 2]
    assert begun != sorted(begun)


async def test_peer_30_any_colour_goes_with_any_call_or_is_refused_beforehand() -> None:
    """30. blinker, tests/test_signals.py: test_async_receiver.

    Otherwise (D7): no wrapper is needed for a sync subscriber of an async call; an async one of a
    sync call is refused when it is registered, or, on a RawChain, before any callback has run.
    """
    for flavour, walk, accepts in [
        (AtomicChain, "call", {"sync"}),
        (RawChain, "call", {"sync"}),
        (RawChain, "acall", {"sync", "async"}),
        (BlockingChain, "call", {"sync", "async"}),
        (SrcuChain, "call", {"sync", "async"}),
    ]:
        for colour in ("sync", "async"):
            rig = Rig(flavour, colour="sync", walk=walk)
            await rig.add("sync")
            rig.colour = colour
            if colour in accepts:
                await rig.add("either")
                await rig.call(1, None)
                assert rig.drain() == ["sync", "either"]
                continue
            with pytest.raises(AsyncCallbackError):
                await rig.add("either")
                await rig.call(1, None)
            assert rig.drain() == []
            assert len(rig.chain) == 1 + (flavour is RawChain)


# Registration and identity


@every_way
async def test_peer_31_a_callback_twice_is_two_subscribers_and_a_block_twice_an_error(
    rig: Rig,
) -> None:
    """31. Django, tests/dispatch/tests.py: test_multiple_registration.

    Otherwise (D16, D6): Django keeps one of several equal receivers and says nothing.
    """
    callback = rig.callback("twice")
    block = await rig.register(callback)
    await rig.register(callback)
    with pytest.raises(AlreadyRegisteredError):
        await rig.register(block)
    await rig.call(1, None)
    assert rig.drain() == ["twice", "twice"]


@every_flavour
async def test_peer_31_a_name_is_no_identity(flavour: Any) -> None:
    """31. Django, tests/dispatch/tests.py: test_uid_registration.

    Otherwise (D16): there is no dispatch_uid. Two blocks may bear one name; what must be there once
    is one block, or asks for a priority of its own.
    """
    rig = Rig(flavour)
    one = await rig.add("same")
    two = await rig.add("same")
    await rig.unregister(one)
    assert rig.chain.blocks == (two,)
    with pytest.raises(PriorityInUseError):
        await rig.add("same", unique_priority=True)
    assert rig.chain.blocks == (two,)


@every_flavour
async def test_peer_31_unregistering_what_is_not_there_is_an_error_and_no_false(
    flavour: Any,
) -> None:
    """31. Django, tests/dispatch/tests.py: test_values_returned_by_disconnection.

    Otherwise (D6): nothing is given back; what cannot be taken off is NotRegisteredError.
    """
    rig = Rig(flavour)
    block = await rig.add("a")
    for unregister in (rig.unregister, rig.unregister_nowait, rig.unregister_nosync):
        assert await unregister(block) is None
        with pytest.raises(NotRegisteredError):
            await unregister(block)
        await rig.register(block)


@every_flavour
async def test_peer_32_a_failed_registration_leaves_nothing_behind(flavour: Any) -> None:
    """32. pluggy, testing/test_pluginmanager.py: test_register_validation_failure_leaves_no_state.

    As there (D6); whatever it failed of, the same callback or block may be registered afterwards.
    """
    rig = Rig(flavour)
    with Scope("plugin") as scope:
        await rig.add("there", priority=3)
        before = rig.chain.blocks
        wrong: list[dict[str, Any]] = [
            {"priority": 3, "unique_priority": True},
            {"before": "there", "after": "there"},
            {"before": "there"},
            {"events": [[]]},
            {"name": "no name"},
        ]
        for options in wrong:
            with pytest.raises(TocsinError):
                await rig.register(rig.callback("newcomer"), **options)
            assert rig.chain.blocks == scope.blocks == before
        block = NotifierBlock(rig.callback("block"), priority=3)
        with pytest.raises(PriorityInUseError):
            await rig.register(block, unique_priority=True)
        assert (block.chain, block.owner) == (None, None)
        await rig.register(block)
        assert named(rig) == ["there", "block"]


@every_flavour
async def test_peer_32_all_of_one_owner_go_together(flavour: Any) -> None:
    """32. pluggy, testing/test_pluginmanager.py: test_unregister_plugin_with_multi_hookimpls.

    As there (scopes), over several chains.
    """
    chains = [flavour("one"), flavour("two")]
    kept = [await maybe_await(chain.register(nothing, name="kept")) for chain in chains]
    async with Scope("plugin") as plugin:
        for chain in chains:
            for _ in range(2):
                await plugin.register(chain, nothing)
        assert [len(chain) for chain in chains] == [3, 3]
    assert [chain.blocks for chain in chains] == [(kept[0],), (kept[1],)]


@every_way
async def test_peer_32_who_is_blocked_is_not_called_whether_there_or_yet_to_come(
    rig: Rig,
) -> None:
    """32. pluggy, testing/test_pluginmanager.py: test_set_blocked, test_unregister_blocked.

    Otherwise (filter): who is blocked is parked and comes back when it is admitted; pluggy takes it
    off for good.
    """
    there = await rig.add("bad")
    await rig.add("good")
    await rig.set_filter(~NameFilter(["bad", "worse"]))
    late = await rig.add("worse", priority=5)
    assert (there.is_parked, late.is_parked, late in rig.chain) == (True, True, False)
    await rig.call(1, None)
    assert rig.drain() == ["good"]
    await rig.unregister(there)
    assert rig.chain.parked == (late,)
    await rig.set_filter(None)
    await rig.call(1, None)
    assert rig.drain() == ["worse", "good"]


@every_flavour
async def test_peer_32_a_block_is_registered_once_under_whatever_circumstances(
    flavour: Any,
) -> None:
    """32. pluggy, testing/test_pluginmanager.py: test_plugin_double_register.

    As there (D6): not again on its chain, not on another, not while it is parked.
    """
    rig, other = Rig(flavour), Rig(flavour)
    block = await rig.add("a")
    for again in (rig, other):
        with pytest.raises(AlreadyRegisteredError) as caught:
            await again.register(block)
        assert caught.value.errno == errno.EEXIST
    with rig.chain.only():
        with pytest.raises(AlreadyRegisteredError, match="parked"):
            await rig.register(block)
    assert rig.chain.blocks == (block,)
    assert other.chain.is_empty


@every_flavour
async def test_peer_33_a_temporary_subscriber_is_off_whatever_leaves_the_context(
    flavour: Any,
) -> None:
    """33. blinker, tests/test_context.py: test_temp_connection_failure.

    As there (D12).
    """
    chain = flavour("chain")
    for error in (ValueError, ExceptionGroup("", [OSError()]), KeyboardInterrupt, GeneratorExit):
        with pytest.raises(error if isinstance(error, type) else type(error)):
            async with registered(chain, nothing):
                assert len(chain) == 1
                raise error
        assert chain.is_empty


@every_way
async def test_peer_33_a_mute_ends_with_its_context_even_after_an_error(rig: Rig) -> None:
    """33. blinker, tests/test_signals.py: test_mute_signal.

    As there (filter).
    """
    await rig.add("a")
    with suppress(ValueError), rig.chain.only():
        await rig.call(1, None)
        raise ValueError
    assert rig.drain() == []
    await rig.call(2, None)
    assert rig.drain() == ["a"]


@every_flavour
async def test_peer_34_no_chain_is_frozen_but_a_scope_can_be_closed(flavour: Any) -> None:
    """34. aiosignal, tests/test_signals.py: test_cannot_append_to_frozen_signal.

    Otherwise (scopes): a chain takes subscribers at any time. An owner can be closed, and under it
    nobody registers any more.
    """
    rig = Rig(flavour)
    await rig.call(1, None)
    with Scope("startup") as startup:
        await rig.add("early")
        assert startup.blocks == rig.chain.blocks
    assert rig.chain.is_empty
    with pytest.raises(ScopeClosedError):
        await startup.register(rig.chain, nothing)
    await rig.add("late")
    await rig.call(2, None)
    assert rig.drain() == ["late"]


@every_way
async def test_peer_34_a_chain_is_called_without_ceremony(rig: Rig) -> None:
    """34. aiosignal, tests/test_signals.py: test_cannot_send_non_frozen_signal.

    Otherwise (D2): a call needs no freezing; it goes through those who were there when it began.
    """
    await rig.add("a")
    await rig.call(1, None)
    await rig.add("b")
    await rig.call(2, None)
    assert rig.drain() == ["a", "a", "b"]


@every_flavour
async def test_peer_35_removing_what_was_never_there_is_an_error(flavour: Any) -> None:
    """35. PyDispatcher, tests/test_dispatcher.py: testDisconnectUnconnected.

    As there (D6).
    """
    rig = Rig(flavour)
    await rig.add("there")
    for what in (NotifierBlock(nothing), nothing):
        with pytest.raises(NotRegisteredError):
            await rig.unregister(what)
    assert named(rig) == ["there"]


class Functor:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def __call__(self, event: Any, data: Any) -> None:
        self.heard.append(("functor", event))

    def method(self, event: Any, data: Any) -> None:
        self.heard.append(("method", event))

    def another(self, event: Any, data: Any) -> None:
        self.heard.append(("another", event))


@every_flavour
async def test_peer_35_methods_functors_and_builtins_are_callbacks(flavour: Any) -> None:
    """35. eventkit, event_test.py: test_functor, test_cmethod.

    As there (D16).
    """
    rig, functor, store = Rig(flavour), Functor(), dict[Any, Any]()
    for callback in (functor, functor.method, store.__setitem__, operator.or_):
        await rig.register(callback)
    assert named(rig) == ["Functor", "Functor.method", "dict.__setitem__", "or_"]
    assert await rig.call(4, 1) == 5
    assert functor.heard == [("functor", 4), ("method", 4)]
    assert store == {4: 1}


@every_flavour
async def test_peer_35_a_method_is_not_found_by_an_equal_one(flavour: Any) -> None:
    """35. eventkit, event_test.py: test_method.

    Otherwise (D6): eventkit takes off whatever compares equal; here the block that `register` gave
    is what is taken off, and the error says so.
    """
    rig, functor = Rig(flavour), Functor()
    assert functor.method == functor.method
    block = await rig.register(functor.method)
    with pytest.raises(NotRegisteredError, match="keep the block"):
        await rig.unregister(functor.method)
    await rig.unregister(block)
    assert rig.chain.is_empty


@every_flavour
async def test_peer_36_two_methods_of_one_object_are_two_subscribers(flavour: Any) -> None:
    """36. ezpubsub, a defect seen in version 0.3.0: two methods of one object.

    Otherwise (D16): there the second takes the place of the first, as both have one owner.
    """
    rig, functor = Rig(flavour), Functor()
    first = await rig.register(functor.method)
    await rig.register(functor.another)
    await rig.call(1, None)
    await rig.unregister(first)
    await rig.call(2, None)
    assert functor.heard == [("method", 1), ("another", 1), ("another", 2)]


# History, filters, tracing, threads


@every_flavour
async def test_peer_37_who_comes_late_hears_how_things_are(flavour: Any) -> None:
    """37. pluggy, testing/test_pluginmanager.py: test_register_historic.

    Otherwise (replay): not every past call, which nobody keeps, but the events that describe the
    present state.
    """
    up: dict[str, None] = {}
    heard: list[Any] = []
    chain = flavour("chain", replay=lambda: [("up", device) for device in up])

    def listen(event: Any, data: Any) -> None:
        heard.append((event, data))

    for event, device in [("up", "eth0"), ("up", "lo"), ("down", "eth0")]:
        up.pop(device) if event == "down" else up.update({device: None})
        await maybe_await(chain.call(event, device))
    await maybe_await(chain.register(listen))
    assert heard == [("up", "lo")]
    await maybe_await(chain.call("up", "eth1"))
    assert heard == [("up", "lo"), ("up", "eth1")]


class Answers(Observer):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def callback_returned(self, call: Any, block: Any, result: int, duration: float) -> None:
        self.heard.append((call.kind, call.event, block.name, result))


@every_flavour
async def test_peer_37_what_the_newcomer_answers_is_seen_and_may_be_a_veto(flavour: Any) -> None:
    """37. pluggy, testing/test_pluginmanager.py: test_with_result_memorized.

    Otherwise (replay): no callback of the caller's gets the answers. An observer sees them, and a
    veto among them refuses the registration.
    """
    chain, answers = flavour("chain", replay=lambda: [(1, None), (2, None)]), Answers()
    with chain.observe(answers):
        await maybe_await(chain.register(lambda event, data: event % 2, name="late"))
        assert answers.heard == [("replay", 1, "late", 1), ("replay", 2, "late", 0)]
        with pytest.raises(RegistrationVetoedError):
            await maybe_await(chain.register(lambda event, data: NOTIFY_BAD, name="unwilling"))
    assert [block.name for block in chain] == ["late"]


@every_flavour
async def test_peer_37_who_is_left_out_hears_the_past_when_it_is_admitted(flavour: Any) -> None:
    """37. pluggy, testing/test_hookcaller.py: test_historic_with_subset_hook_caller.

    As there (replay), for as long as it is left out.
    """
    rig = Rig(flavour, filter=NameFilter(["wanted"]), replay=lambda: [("past", None)])
    await rig.add("wanted")
    await rig.add("unwanted")
    assert rig.drain() == ["wanted"]
    await rig.set_filter(None)
    assert rig.drain() == ["unwanted"]


@every_way
async def test_peer_38_a_view_of_some_sees_those_who_come_and_is_left_without_trace(
    rig: Rig,
) -> None:
    """38. pluggy, testing/test_pluginmanager.py: test_subset_hook_caller.

    Otherwise (filter): `only` is no second way to call but holds for every call while it is open.
    It sees those who come and go, changes no order and leaks nothing.
    """
    for name, priority in [("a", 0), ("b", 9), ("c", 0)]:
        await rig.add(name, priority=priority)
    before = named(rig)
    layer = rig.chain.only("c", "b", "late*")
    seen = weakref.ref(layer)
    with layer:
        await rig.call(1, None)
        assert rig.drain() == ["b", "c"]
        late = await rig.add("late_one", priority=5)
        await rig.call(2, None)
        assert rig.drain() == ["b", "late_one", "c"]
        await rig.unregister(late)
        await rig.call(3, None)
        assert rig.drain() == ["b", "c"]
    assert named(rig) == before == ["b", "a", "c"]
    with without_collector():
        del late, layer
        assert seen() is None


@every_flavour
async def test_peer_38_a_view_goes_by_the_name_that_was_given(flavour: Any) -> None:
    """38. pluggy, testing/test_pluginmanager.py: test_subset_hook_caller_with_specname.

    As there (filter): by the name of the block, whatever its function is called.
    """
    rig = Rig(flavour)
    await rig.register(nothing, name="given")
    await rig.register(nothing)
    with rig.chain.only("given"):
        assert named(rig) == ["given"]
    with rig.chain.only("nothing"):
        assert named(rig) == ["nothing"]


class Unspeakable:
    """What says something terrible when it is asked what it is."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error

    __str__ = __repr__


@every_way
async def test_peer_39_what_cannot_be_shown_is_traced_all_the_same(rig: Rig) -> None:
    """39. pluggy, testing/test_pluginmanager.py: test_hook_tracing_with_broken_repr.

    As there (D15); neither data nor an event that is an object is ever asked for its repr, so
    nothing that it raises gets out, an interruption included.
    """
    out = io.StringIO()
    await rig.add("a", NOTIFY_OK)
    with rig.chain.observe(StructlogObserver.console(out)) as observation:
        for error in (ValueError("broken"), KeyboardInterrupt()):
            one = Unspeakable(error)
            assert await rig.call(one, one) == NOTIFY_OK
        assert observation.is_attached
    assert out.getvalue().count("Unspeakable") == 8
    assert rig.drain() == ["a", "a"]


@every_way
async def test_peer_39_text_that_cannot_be_encoded_disturbs_no_call(rig: Rig) -> None:
    """39. pluggy, testing/test_pluginmanager.py: test_hook_tracing_escapes_surrogate_values.

    As there (D15): it is escaped.
    """
    await rig.add("a", NOTIFY_OK)
    bad = "\ud800"  # half a pair
    for make in (StructlogObserver.json, StructlogObserver.console):
        out = io.BytesIO()
        file = io.TextIOWrapper(out, "utf-8", write_through=True)
        with rig.chain.observe(make(file)) as observation, capture_logs() as logs:
            assert await rig.call(bad, None) == NOTIFY_OK
            assert observation.is_attached
        assert rb"\ud800" in out.getvalue()
        assert logs == []
    assert rig.drain() == ["a", "a"]


class Interrupted(Observer):
    def callback_started(self, call: Any, block: Any) -> None:
        raise KeyboardInterrupt


@every_way
async def test_peer_39_an_interruption_in_an_observer_passes(rig: Rig) -> None:
    """39. pluggy, testing/test_tracer.py: test_keyboard_interrupt_from_str_propagates.

    As there (D15).
    """
    await rig.add("a")
    with rig.chain.observe(Interrupted()), pytest.raises(KeyboardInterrupt):
        await rig.call(1, None)
    assert rig.drain() == []
    await rig.call(2, None)
    assert rig.drain() == ["a"]
    assert rig.chain.statistics().walks_running == 0


async def test_peer_40_events_of_a_thread_are_read_where_the_stream_is() -> None:
    """40. psygnal, tests/test_psygnal.py: test_queued_connections.

    Otherwise (streams): a callback runs in the caller's thread; a stream of an AtomicChain brings
    the events of other threads to the task that reads it.
    """
    chain, ran_in = AtomicChain[int, None]("chain"), list[int]()
    chain.register(lambda event, data: ran_in.append(threading.get_ident()))

    def produce() -> int:
        for event in range(5):
            chain.call(event)
        return threading.get_ident()

    async with chain.stream() as stream:
        producer = await anyio.to_thread.run_sync(produce)
        assert [(await anext(stream))[0] for _ in range(5)] == [0, 1, 2, 3, 4]
    assert ran_in == [producer] * 5
    assert producer != threading.get_ident()


@every_way
async def test_peer_40_a_call_keeps_nothing_of_what_it_was_given(rig: Rig) -> None:
    """40. psygnal, tests/test_psygnal.py: test_emit_should_not_prevent_gc.

    As there (D14).
    """
    await rig.add("a", NOTIFY_OK)
    with without_collector():
        for call in (rig.call, rig.call_report, partial(rig.call_robust, 0)):
            payload = Payload()
            seen = weakref.ref(payload)
            await call(1, payload)
            del payload
            assert seen() is None


@every_way
async def test_peer_40_twenty_thousand_events_all_arrive(rig: Rig) -> None:
    """40. bubus, tests/test_stress_20k_events.py: a burst of events.

    As there (D11): nothing is queued, so no number is too great.
    """
    total = 0

    def count(event: int, data: Any) -> None:
        nonlocal total
        total += event

    async def count_async(event: int, data: Any) -> None:
        count(event, data)

    number = 20_000
    await rig.register(count if rig.colour == "sync" else count_async)
    member = getattr(rig.chain, rig.prefix + "call")
    if is_sync(type(rig.chain), rig.colour, rig.prefix + "call"):
        for event in range(number):
            member(event, None)
    else:
        for event in range(number):
            await member(event, None)
    assert total == number * (number - 1) // 2


@every_async
async def test_peer_40_bursts_of_many_tasks_all_arrive(flavour: Any) -> None:
    """40. bubus, tests/test_stress_20k_events.py: many at a time.

    Otherwise (D8): bubus refuses more than a hundred pending events; here a call is its caller's.
    """
    chain, seen = flavour("chain"), Counter[int]()

    async def count(event: int, data: Any) -> None:
        await checkpoint()
        seen[event] += 1

    await chain.register(count)
    async with anyio.create_task_group() as group:
        for event in range(500):
            group.start_soon(chain.call, event, None)
    assert seen == dict.fromkeys(range(500), 1)


@contextmanager
def many_switches() -> Iterator[None]:
    """Let threads come between each other far more often than usual, where one lock holds them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def test_peer_40_a_storm_of_connections_and_calls_ends_where_it_began() -> None:
    """40. PyDispatcher, pluggy, eventkit, the storm of the survey: errors, or slots left over.

    Otherwise (D3, D1): no error, nothing left, nothing entered that had gone, order always right.
    The threads share no lock of the test's, so a build without GIL runs it as it is.
    """
    chain, stop = AtomicChain[Any, list[int]]("chain"), threading.Event()
    kept = [chain.register(lambda event, data: None, priority=number) for number in range(-2, 3)]
    wrong: list[str] = []

    def mutate(seed: int) -> None:
        pick = random.Random(seed)
        for _ in range(150):
            priority, gone = pick.randrange(-3, 4), threading.Event()

            def callback(
                event: Any, data: list[int], own: int = priority, gone: threading.Event = gone
            ) -> None:
                if gone.is_set():
                    wrong.append("entered after it had gone")
                data.append(own)

            block = chain.register(callback, priority=priority)
            chain.unregister(block)
            if pick.random() < 0.1:
                chain.synchronize(timeout=30)
                gone.set()

    def send() -> None:
        while not stop.is_set():
            order: list[int] = []
            chain.call(1, order)
            if order != sorted(order, reverse=True):
                wrong.append("out of order")

    with many_switches(), threads(send, send, send) as send_errors:
        try:
            with threads(*(partial(mutate, seed) for seed in range(3))) as errors:
                pass
        finally:
            stop.set()
    assert errors == send_errors == []
    assert wrong == []
    assert chain.blocks == tuple(reversed(kept))
    assert chain.statistics().walks_running == 0


def test_peer_40_chains_that_emit_and_disconnect_across_do_not_deadlock() -> None:
    """40. psygnal, the AB-BA case of the survey: two signals, two threads, a deadlock.

    Otherwise (D3): a walk holds no lock, so neither waits for the other, whatever they change.
    """
    one, two = AtomicChain[int, None]("one"), AtomicChain[int, None]("two")
    both, met = threading.Barrier(2), Counter[str]()

    def cross(other: AtomicChain[int, None]) -> Callable[[int, None], None]:
        def callback(event: int, data: None) -> None:
            met[other.name] += 1
            if event:
                both.wait(30)
                temporary = other.register(lambda event, data: None)
                other.call(event - 1)
                other.unregister(temporary)

        return callback

    one.register(cross(two))
    two.register(cross(one))
    rounds = 20
    with many_switches():
        with threads(
            lambda: [one.call(1) for _ in range(rounds)],
            lambda: [two.call(1) for _ in range(rounds)],
        ) as errors:
            pass
    assert errors == []
    assert met == {"one": 2 * rounds, "two": 2 * rounds}
    assert (len(one), len(two)) == (1, 1)


@every_async
async def test_peer_40_async_chains_that_call_across_do_not_deadlock_behind_writers(
    flavour: Any,
) -> None:
    """40. psygnal, the AB-BA case of the survey, in tasks.

    Otherwise (D8): also when on both chains a writer waits for the call that is in the way.
    """
    one, two, crossed = flavour("one"), flavour("two"), []

    async def write(chain: Any) -> None:
        await chain.register(nothing)

    def has_writer(chain: Any) -> bool:
        return len(chain) == 2 or chain.statistics().writers_waiting == 1

    def cross(own: Any, other: Any, entered: anyio.Event, go: anyio.Event) -> Any:
        async def callback(event: int, data: Any) -> None:
            if event:
                entered.set()
                await go.wait()
                await other.call(0, None)
                crossed.append(own.name)

        return callback

    go = anyio.Event()
    entered = [anyio.Event(), anyio.Event()]
    await one.register(cross(one, two, entered[0], go))
    await two.register(cross(two, one, entered[1], go))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for chain in (one, two):
                group.start_soon(chain.call, 1, None)
            for each in entered:
                await each.wait()
            for chain in (one, two):
                group.start_soon(write, chain)
            await until(lambda: all(map(has_writer, (one, two))))
            go.set()
    assert sorted(crossed) == ["one", "two"]
    assert (len(one), len(two)) == (2, 2)


# The list itself

PAGE = Path(__file__).parent.parent / "docs/explanation/peers.md"
NUMBERS = list(range(1, 41))
CASE = re.compile(r"(\d+)\. ([\w.]+).*, .+\.\n\n *(As there|Otherwise) \(([^)]+)\)")


def cases() -> dict[int, list[tuple[str, str, str, str]]]:
    """Give by number: name of the test, project, answer and rules, as the docstrings have them."""
    found: dict[int, list[tuple[str, str, str, str]]] = {}
    for name, test in globals().items():
        if name.startswith("test_peer_"):
            said = CASE.match(test.__doc__ or "")
            assert said, f"{name} does not say whose case it is and how it is answered"
            number, project, answer, rules = said.groups()
            assert name.startswith(f"test_peer_{int(number):02}_"), name
            found.setdefault(int(number), []).append((name, project, answer, rules))
    return found


def test_all_forty_are_there_in_order() -> None:
    assert list(cases()) == NUMBERS


def test_the_page_has_a_row_for_each_of_them_with_its_answer_and_its_rules() -> None:
    rows = re.findall(
        r"^\| (\d+) \| (.+) \| (as there|otherwise)(.*) \| (.+) \|$",
        PAGE.read_text("utf-8"),
        re.MULTILINE,
    )
    assert [int(number) for number, *_ in rows] == NUMBERS
    for number, asked, answer, rest, links in rows:
        ours = cases()[int(number)]
        linked = re.findall(r"\[([^\]]+)\]\(\.\./\.\./tests/test_peers_cases\.py#(\w+)\)", links)
        assert linked == [(rules, name) for name, _, _, rules in ours], number
        assert [one for _, one, _, _ in ours if one not in asked] == [], number
        differs = answer == "otherwise" or "; otherwise: " in rest
        assert differs == any(one == "Otherwise" for _, _, one, _ in ours), number
