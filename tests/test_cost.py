"""What a call costs, in bytecode instructions: exact, so it may be a test where a time may not."""

from __future__ import annotations

import sys
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import pytest

from .benchmarks.instructions import instructions_of
from .benchmarks.measure import Candidate, make_run
from .benchmarks.subjects import (
    FLAVOURS,
    NONE,
    VARIANTS,
    make_bare,
    make_bare_async,
    make_bare_over_sync,
    make_callbacks,
    make_chain,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

pytestmark = pytest.mark.anyio

ASYNC = ("Blocking", "SRCU")
WAYS = [*((flavour, False) for flavour in FLAVOURS), *((flavour, True) for flavour in ASYNC)]

# How many instructions more than in the bare loop a further subscriber may cost. None where it
# answers None; else the walk looks at what kind of a result that is, which takes 8 on Python 3.11.
FURTHER = {"None": 0, "OK": 8, "0": 8, "bound methods": 0}


async def cost(statement: str, **names: Any) -> float:
    return await instructions_of(Candidate("", make_run(statement, **names)))


async def cost_of_call(chain: Any) -> float:
    wait = "await " if type(chain) in {FLAVOURS[name] for name in ASYNC} else ""
    return await cost(f"{wait}chain.call('event', None)", chain=chain)


async def entered_by(work: Callable[[], Any]) -> list[str]:
    """Give the functions of ours that are entered, in their order."""
    entered: list[str] = []

    def note(frame: FrameType, what: str, _: object) -> None:
        if what == "call" and frame.f_globals.get("__package__") == "tocsin":
            entered.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        answer = work()
        if isawaitable(answer):
            await answer
    finally:
        sys.setprofile(before)
    return entered


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_a_call_costs_the_same_however_many_are_not_interested(flavour: str) -> None:
    async def with_others(number: int) -> float:
        chain = make_chain(flavour, make_callbacks(3), events="event")
        for callback in make_callbacks(number):
            chain.register_nowait(callback, events="other")
        return await cost_of_call(chain)

    assert await with_others(1) == await with_others(1000)


@pytest.mark.parametrize(("flavour", "is_async"), WAYS)
@pytest.mark.parametrize("variant", VARIANTS, ids=[one.name for one in VARIANTS])
async def test_a_further_subscriber_costs_little_more_than_in_a_bare_loop(
    flavour: str, is_async: bool, variant: Any
) -> None:
    make: Callable[[Any], Any] = make_bare_over_sync if flavour in ASYNC else make_bare
    make = make_bare_async if is_async else make
    wait = "await " if flavour in ASYNC else ""

    async def costs(number: int) -> tuple[float, float]:
        callbacks = make_callbacks(number, variant, is_async=is_async)
        bare = await cost(f"{wait}bare('event', None)", bare=make(callbacks))
        return await cost_of_call(make_chain(flavour, callbacks)), bare

    (ours, bare), (ours_then, bare_then) = await costs(10), await costs(11)
    assert bare < bare_then
    assert ours_then - ours <= bare_then - bare + FURTHER[variant.name]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("variant", VARIANTS, ids=[one.name for one in VARIANTS])
async def test_among_both_colours_an_answer_costs_no_more_than_elsewhere(
    variant: Any, is_async: bool
) -> None:
    async def cost_of(answer: Any) -> float:
        others = [*make_callbacks(5), *make_callbacks(5, is_async=True)]
        further = make_callbacks(10, answer, is_async=is_async)
        return await cost_of_call(make_chain("SRCU", [*others, *further]))

    assert await cost_of(variant) - await cost_of(NONE) <= 10 * FURTHER[variant.name]


@pytest.mark.parametrize(("flavour", "is_async"), WAYS)
@pytest.mark.parametrize("variant", VARIANTS, ids=[one.name for one in VARIANTS])
@pytest.mark.parametrize("events", [None, "event"])
async def test_an_ordinary_call_enters_nothing_of_ours_but_itself(
    flavour: str, is_async: bool, variant: Any, events: str | None
) -> None:
    callbacks = make_callbacks(2, variant, is_async=is_async)
    chain = make_chain(flavour, callbacks, events=events)
    for turn in range(6):
        if turn == 3:  # also after a write, the budget not being used up
            chain.unregister_nowait(chain.register_nowait(make_callbacks(1)[0], events="other"))
        entered = await entered_by(lambda: chain.call("event", None))
    assert entered == ["call"]  # the first of three makes the lists


@pytest.mark.parametrize("flavour", ASYNC)
async def test_a_careful_call_neither_waits_nor_wakes_where_nobody_does(flavour: str) -> None:
    chain = make_chain(flavour, make_callbacks(2))
    for _ in range(3):
        entered = await entered_by(lambda: chain.call_report("event", None))
    assert "call_report" in entered
    assert not {"_pace", "_reader_left"} & {*entered}


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_an_event_is_not_looked_at_where_nobody_names_one(flavour: str) -> None:
    class Private:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise AssertionError

    chain = make_chain(flavour, make_callbacks(1))
    for _ in range(3):
        answer = chain.call(Private(), None)
        assert (await answer if flavour in ASYNC else answer) == 0


async def test_a_count_is_exact_and_grows_with_each_instruction() -> None:
    short, long = make_callbacks(2), make_callbacks(1, body="event is data")
    counts = [await cost("f(1, 2)", f=one) for one in (*short, *long)]
    assert counts[0] == counts[1]
    assert counts[0] < counts[2] <= counts[0] + 4  # two loads, a comparison, a pop
