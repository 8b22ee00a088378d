"""D11 and D12, and what an unregister promises, on the async flavours."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from tocsin import (
    BlockingChain,
    InvalidResultError,
    NotifierBlock,
    NotRegisteredError,
    RawChain,
    Scope,
    SrcuChain,
    WouldDeadlockError,
)

from .flavours import ASYNC, Held, Rig

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio
every_async = pytest.mark.parametrize("flavour", ASYNC)


def nothing(event: Any, data: Any) -> None:
    return None


async def steps_of(work: Callable[[], Any], times: int) -> int:
    """Count how often another task gets its turn while ``work`` is done ``times`` times.

    One more or less, since trio shuffles the tasks that are ready.
    """
    turns = 0
    done = False

    async def count() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        await checkpoint()
        turns = 0
        for _ in range(times):
            await work()
        done = True
    return turns


# D11 checkpoints


@every_async
@pytest.mark.parametrize("every", [1, 2, 7, 512])
@pytest.mark.parametrize("blocks", [0, 1])
async def test_d11_one_checkpoint_in_checkpoint_every_calls(
    flavour: Any, every: int, blocks: int
) -> None:
    chain = flavour("chain", checkpoint_every=every)
    for _ in range(blocks):
        chain.register_nowait(nothing)
    await chain.call(1, None)  # the first one looks at its event loop
    turns = await steps_of(lambda: chain.call(1, None), 10 * every)
    assert 9 <= turns <= 11


@every_async
@pytest.mark.parametrize(("options", "every"), [({"checkpoint_every": 4}, 4), ({}, 512)])
async def test_d11_the_checkpoints_are_exactly_that_far_from_each_other(
    flavour: Any, options: Any, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = flavour("chain", **options)
    done: list[str] = []

    async def note() -> None:
        done.append("checkpoint")

    monkeypatch.setattr(anyio.lowlevel, "checkpoint", note)
    for number in range(2 * every + 1):
        await chain.call(1, None)
        done.append("call")
        if number % every == 1:
            chain.unregister_nowait(chain.register_nowait(nothing))
    budget = ["checkpoint", *["call"] * every]
    assert done == [*budget, *budget, "checkpoint", "call"]


async def test_d11_nested_calls_draw_on_the_budget_while_a_writer_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chain, done = BlockingChain[Any, Any]("chain", checkpoint_every=4), list[str]()

    async def note() -> None:
        done.append("checkpoint")

    async def nest(event: Any, data: Any) -> None:
        if event == "outer":
            await anyio.wait_all_tasks_blocked()
            with monkeypatch.context() as patched:
                patched.setattr(anyio.lowlevel, "checkpoint", note)
                for _ in range(12):
                    await chain.call("inner", None)
                    done.append("call")

    await chain.register(nest)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "outer", None)
        await anyio.lowlevel.checkpoint()
        group.start_soon(chain.register, nothing)
    budget = ["checkpoint", *["call"] * 4]
    assert done == ["call", *budget, *budget, *budget[:4]]  # registering and two calls drew before


@every_async
@pytest.mark.parametrize(
    "member",
    [
        "register",
        "unregister",
        "set_filter",
        "synchronize",
        "call",
        "call_report",
        "call_robust",
        "call_robust_report",
    ],
)
async def test_d11_each_awaited_method_draws(flavour: Any, member: str) -> None:
    chain = flavour("chain", checkpoint_every=8)
    arguments = {"synchronize": (), "set_filter": (None,), "call": (1, None)}
    arguments["call_report"] = (1, None)

    async def turn() -> None:
        if member == "register":
            chain.unregister_nowait(await chain.register(nothing))
        elif member == "unregister":
            await chain.unregister(chain.register_nowait(nothing))
        else:
            await getattr(chain, member)(*arguments.get(member, (1, 2, None)))

    await turn()
    assert 9 <= await steps_of(turn, 80) <= 11


@every_async
@pytest.mark.parametrize("member", ["register", "unregister", "set_filter", "synchronize"])
async def test_d11_a_method_that_is_refused_again_and_again_yields(
    flavour: Any, member: str
) -> None:
    chain = flavour("chain", checkpoint_every=4)
    scope = anyio.CancelScope()

    async def insist(event: Any, data: Any) -> None:
        arguments = {"register": (nothing,), "unregister": (block,), "set_filter": (nobody,)}
        with scope:
            scope.cancel()
            for _ in range(50):
                with suppress(WouldDeadlockError):
                    await getattr(chain, member)(*arguments.get(member, ()))

    def nobody(block: Any) -> bool:
        return False

    block = await chain.register(insist)
    await chain.call(1, None)
    assert scope.cancelled_caught


@every_async
async def test_d11_every_awaited_method_draws_on_the_one_budget(flavour: Any) -> None:
    chain = flavour("chain", checkpoint_every=8)

    async def all_of_them() -> None:
        block = await chain.register(nothing)
        await chain.call(1, None)
        await chain.call_report(1, None)
        await chain.call_robust(1, 2, None)
        await chain.set_filter(None)
        await chain.synchronize()
        await chain.call_robust_report(1, 2, None)
        await chain.unregister(block)

    await all_of_them()
    turns = await steps_of(all_of_them, 5)
    assert 4 <= turns <= 11


@pytest.mark.parametrize("registering", [True, False])
@every_async
async def test_d11_writes_do_not_refill_the_budget(flavour: Any, registering: bool) -> None:
    """A loop that writes in each turn still yields."""
    chain = flavour("chain", checkpoint_every=10)

    async def turn() -> None:
        if registering:
            chain.unregister_nowait(chain.register_nowait(nothing))
        await chain.call(1, None)

    await turn()
    assert await steps_of(turn, 40) >= 3


async def test_d11_raw_has_a_budget_of_512() -> None:
    chain = RawChain[Any, Any]("chain")
    await chain.acall(1, None)
    assert 9 <= await steps_of(lambda: chain.acall(1, None), 5120) <= 11


@every_async
async def test_d11_a_call_cancelled_at_its_checkpoint_has_run_nobody(flavour: Any) -> None:
    rig = Rig(flavour, checkpoint_every=1)
    await rig.add("b")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await rig.call(1, None)
    assert scope.cancelled_caught
    assert rig.drain() == []
    assert rig.chain.statistics().walks_running == 0


@every_async
async def test_d11_a_tight_loop_notices_cancellation(flavour: Any) -> None:
    chain = flavour("chain")
    with anyio.CancelScope() as scope:
        scope.cancel()
        for _ in range(2000):
            await chain.call(1, None)
        raise AssertionError
    assert scope.cancelled_caught


@pytest.mark.parametrize("flavour", [*ASYNC, RawChain])
def test_d11_without_an_event_loop_there_is_no_checkpoint(flavour: Any) -> None:
    chain = flavour("chain")
    call = chain.acall if flavour is RawChain else chain.call
    chain.register_nowait(lambda event, data: event)
    for number in range(1100):
        with pytest.raises(StopIteration) as ended:
            call(number, None).send(None)
        assert ended.value.value == number


# D12 cancellation


@every_async
async def test_d12_a_cancelled_callback_leaves_no_reader_counted(flavour: Any) -> None:
    chain = flavour("chain")

    async def hang(event: Any, data: Any) -> None:
        await anyio.sleep_forever()

    block = await chain.register(hang)
    async with anyio.create_task_group() as group:
        for call in (chain.call, chain.call_report):
            group.start_soon(call, 1, None)
        group.start_soon(chain.call_robust, 1, 2, None)
        await anyio.wait_all_tasks_blocked()
        assert chain.statistics().walks_running == 3
        group.cancel_scope.cancel()
    assert chain.statistics().walks_running == 0
    chain.unregister_nowait(block)


@every_async
async def test_d12_an_unregister_cancelled_while_it_waits_has_taken_effect(flavour: Any) -> None:
    rig = Rig(flavour, colour="async")
    release = anyio.Event()
    block = await rig.add("slow", lambda event, data: release.wait())
    behind = await rig.add("behind")
    async with anyio.create_task_group() as group:
        group.start_soon(rig.call, 1, None)
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0) as scope:
            await rig.unregister(behind)
        assert scope.cancelled_caught
        with anyio.CancelScope() as scope:
            scope.cancel()
            await rig.unregister(block)
        assert scope.cancelled_caught
        assert rig.chain.is_empty
        assert rig.chain.statistics().writers_waiting == 0
        release.set()
    assert rig.drain() == ["slow"]
    for one in (block, behind):
        with pytest.raises(NotRegisteredError):
            await rig.unregister(one)
        assert one.chain is None
    await rig.register(block)


@pytest.fixture
def endless_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.locks.PATIENCE", math.inf)


@pytest.mark.usefixtures("endless_patience")
async def test_d12_a_cancelled_waiting_writer_lets_those_behind_it_go_on() -> None:
    chain = BlockingChain[Any, Any]("chain")
    release, log = anyio.Event(), []

    async def slow(event: Any, data: Any) -> None:
        if event == "slow":
            await release.wait()
        log.append(event)

    await chain.register(slow)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "slow", None)
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as writers:
            writers.start_soon(chain.register, nothing)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(chain.call, "behind", None)
            await anyio.wait_all_tasks_blocked()
            assert chain.statistics().writers_waiting == 1
            writers.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert log == ["behind"]
        release.set()
    assert len(chain) == 1
    assert chain.statistics() == (1, 0, 0, 0)
    chain.register_nowait(nothing)


@pytest.mark.usefixtures("endless_patience")
async def test_d12_a_cancelled_waiting_reader_leaves_the_lock_as_it_was() -> None:
    chain = BlockingChain[Any, Any]("chain")
    slow = Held()

    block = await chain.register(slow)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, 1, None)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(chain.unregister, block)
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as readers:
            readers.start_soon(chain.call, 2, None)
            await anyio.wait_all_tasks_blocked()
            readers.cancel_scope.cancel()
        slow.release.set()
    assert chain.statistics() == (0, 0, 0, 0)
    assert await chain.call(1, None) == 0


@pytest.mark.usefixtures("endless_patience")
async def test_d12_a_reader_cancelled_at_the_moment_of_its_grant_passes_the_turn_on() -> None:
    chain = BlockingChain[Any, Any]("chain")
    release, done = anyio.Event(), list[Any]()
    scopes = [anyio.CancelScope() for _ in range(3)]

    async def slow(event: Any, data: Any) -> None:
        if event == "hold":
            await release.wait()

    await chain.register(slow)

    async def queue(number: int) -> None:
        with scopes[number]:
            await chain.call(number, None)
            done.append(number)

    async def write() -> None:
        await chain.register(nothing)
        done.append("write")
        scopes[0].cancel()  # it has just been granted its turn, or will be
        scopes[2].cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "hold", None)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(write)
        await anyio.wait_all_tasks_blocked()
        for number in range(3):
            group.start_soon(queue, number)
            await anyio.wait_all_tasks_blocked()
        group.start_soon(chain.register, nothing)
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert "write" in done
    assert 1 in done
    assert len(chain) == 3
    assert chain.statistics() == (3, 0, 0, 0)


async def test_d12_a_writer_cancelled_at_the_moment_of_its_grant_passes_the_turn_on() -> None:
    chain = BlockingChain[Any, Any]("chain")
    scope = anyio.CancelScope()

    async def cancel_the_writer(event: Any, data: Any) -> None:
        await anyio.wait_all_tasks_blocked()

    await chain.register(cancel_the_writer)

    async def write() -> None:
        with scope:
            await chain.register(nothing, name="cancelled")

    async def call() -> None:
        await chain.call(1, None)
        scope.cancel()  # the end of the walk has just granted the writer its turn

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        group.start_soon(write)
    assert [block.name for block in chain] in (
        ["cancel_the_writer"],
        ["cancel_the_writer", "cancelled"],
    )
    chain.register_nowait(nothing)
    assert chain.statistics().writers_waiting == 0


@every_async
async def test_d12_a_context_takes_its_block_off_though_cancelled(flavour: Any) -> None:
    chain = flavour("chain")
    slow = Held()

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            async with chain.registered(slow) as block:
                group.start_soon(chain.call, 1, None)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
        assert block.chain is None
        assert chain.is_empty
        slow.release.set()


@every_async
async def test_d12_a_registration_cancelled_before_it_began_registers_nothing(flavour: Any) -> None:
    chain = flavour("chain", checkpoint_every=1)
    block = NotifierBlock(nothing)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await chain.register(block)
    assert scope.cancelled_caught
    assert block.chain is None
    await chain.register(block)


# What holds when unregister returns


@every_async
@pytest.mark.parametrize("threaded", [False, True])
async def test_an_unregister_waits_for_the_callback_that_is_running(
    flavour: Any, threaded: bool
) -> None:
    chain = flavour("chain")
    running, release, log = anyio.Event(), anyio.Event(), []

    async def slow(event: Any, data: Any) -> None:
        running.set()
        await release.wait()
        log.append("callback ended")

    def slow_thread(event: Any, data: Any) -> None:
        anyio.from_thread.run(slow, event, data)

    if threaded:
        block = await chain.register(slow_thread, thread=True)
    else:
        block = await chain.register(slow)

    async def unregister() -> None:
        await chain.unregister(block)
        log.append("unregistered")

    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, 1, None)
        await running.wait()
        group.start_soon(unregister)
        await anyio.wait_all_tasks_blocked()
        assert log == []
        assert chain.statistics().writers_waiting == 1
        release.set()
    assert log == ["callback ended", "unregistered"]


async def test_srcu_unregister_does_not_wait_for_walks_that_began_later() -> None:
    chain = SrcuChain[Any, Any]("chain")
    gates = {"early": anyio.Event(), "late": anyio.Event()}
    ended = []

    async def wait(event: Any, data: Any) -> None:
        await gates[event].wait()
        ended.append(event)

    victim = await chain.register(nothing, priority=-1)
    await chain.register(wait)

    async def unregister() -> None:
        await chain.unregister(victim)
        ended.append("unregistered")

    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "early", None)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(unregister)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(chain.call, "late", None)
        await anyio.wait_all_tasks_blocked()
        gates["early"].set()
        await anyio.wait_all_tasks_blocked()
        assert ended == ["early", "unregistered"]
        gates["late"].set()


async def test_srcu_unregister_does_not_wait_for_walks_that_never_held_the_block() -> None:
    chain = SrcuChain[Any, Any]("chain")
    slow = Held()

    await chain.register(slow, events=["slow"])
    other = await chain.register(nothing, events=["other"])
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "slow", None)
        await anyio.wait_all_tasks_blocked()
        newcomer = await chain.register(nothing)
        await chain.unregister(newcomer)
        await chain.unregister(other)
        assert chain.statistics().walks_running == 1
        slow.release.set()


async def test_srcu_waits_for_every_older_snapshot_that_holds_the_block() -> None:
    """Not only for the newest one: walks of three generations are under way."""
    chain = SrcuChain[Any, Any]("chain")
    gates = {number: anyio.Event() for number in range(3)}
    ended: list[Any] = []

    async def wait(event: int, data: Any) -> None:
        await gates[event].wait()
        ended.append(event)

    block = await chain.register(wait)

    async def unregister() -> None:
        await chain.unregister(block)
        ended.append("unregistered")

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(chain.call, number, None)
            await anyio.wait_all_tasks_blocked()
            await chain.register(nothing)
        group.start_soon(unregister)
        for number in (2, 0, 1):
            await anyio.wait_all_tasks_blocked()
            assert "unregistered" not in ended
            gates[number].set()
    assert ended == [2, 0, 1, "unregistered"]


async def test_srcu_waits_for_a_callback_of_an_earlier_registration_of_the_block() -> None:
    chain = SrcuChain[Any, Any]("chain")
    release, ended = anyio.Event(), []

    async def slow(event: Any, data: Any) -> None:
        await release.wait()
        ended.append("callback")

    block = await chain.register(slow)
    await chain.register(nothing)

    async def unregister() -> None:
        await chain.unregister(block)
        ended.append("unregistered")

    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, 1, None)
        await anyio.wait_all_tasks_blocked()
        chain.unregister_nosync(block)
        await chain.register(block)
        group.start_soon(unregister)
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert ended == ["callback", "unregistered"]


@every_async
async def test_a_callback_unregistered_while_it_is_suspended_runs_to_its_end(flavour: Any) -> None:
    rig = Rig(flavour, colour="async")
    release = anyio.Event()

    async def slow(event: Any, data: Any) -> int:
        await release.wait()
        rig.log.append("ended")
        return 5

    block = await rig.register(slow)
    results = []

    async def call() -> None:
        results.append(await rig.call(1, None))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        rig.chain.unregister_nosync(block)
        assert rig.chain.is_empty
        release.set()
    assert (rig.drain(), results) == (["ended"], [5])


@every_async
async def test_nowait_forms_would_block_where_the_plain_ones_would_wait(flavour: Any) -> None:
    chain = flavour("chain")
    slow = Held()

    block = await chain.register(slow)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, 1, None)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.WouldBlock):
            chain.unregister_nowait(block)
        with pytest.raises(anyio.WouldBlock):
            chain.set_filter_nowait(lambda one: False)
        assert chain.blocks == (block,)
        if flavour is BlockingChain:
            with pytest.raises(anyio.WouldBlock):
                chain.register_nowait(nothing)
        else:
            chain.unregister_nowait(chain.register_nowait(nothing))
        slow.release.set()
    chain.unregister_nowait(block)


@every_async
async def test_synchronize_waits_for_the_walks_of_its_time_and_for_no_later_one(
    flavour: Any,
) -> None:
    chain = flavour("chain")
    gates = {"early": anyio.Event(), "late": anyio.Event()}
    log = []

    async def wait(event: Any, data: Any) -> None:
        await gates[event].wait()
        log.append(event)

    await chain.register(wait, events=["early"])
    await chain.register(wait, events=["late"])
    await chain.synchronize()

    async def synchronize() -> None:
        await chain.synchronize()
        log.append("synchronized")

    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "early", None)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(synchronize)
        await anyio.wait_all_tasks_blocked()
        assert chain.statistics().writers_waiting == 1
        group.start_soon(chain.call, "late", None)
        await anyio.wait_all_tasks_blocked()
        gates["early"].set()
        await anyio.wait_all_tasks_blocked()
        assert log == ["early", "synchronized"]
        gates["late"].set()


@every_async
async def test_set_filter_returns_when_nobody_it_parked_is_running(flavour: Any) -> None:
    chain = flavour("chain")
    release, log = anyio.Event(), []

    async def slow(event: Any, data: Any) -> None:
        await release.wait()
        log.append("callback")

    block = await chain.register(slow)

    async def filter_out() -> None:
        await chain.set_filter(lambda one: False)
        log.append("filtered")

    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, 1, None)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(filter_out)
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert log == ["callback", "filtered"]
    assert block.is_parked


@every_async
async def test_only_takes_effect_at_once_and_waits_for_nobody(flavour: Any) -> None:
    rig = Rig(flavour, colour="async")
    release = anyio.Event()
    await rig.add("slow", lambda event, data: release.wait())
    await rig.add("behind")
    async with anyio.create_task_group() as group:
        group.start_soon(rig.call, 1, None)
        await anyio.wait_all_tasks_blocked()
        with rig.chain.only():
            release.set()
            await anyio.wait_all_tasks_blocked()
            assert rig.drain() == ["slow"]
        await rig.call(1, None)
        assert rig.drain() == ["slow", "behind"]


# Options of async callbacks


@every_async
async def test_a_timeout_is_a_timeout_error_of_the_block(flavour: Any) -> None:
    chain = flavour("chain")

    async def hang(event: Any, data: Any) -> None:
        if event == "hang":
            await anyio.sleep_forever()

    await chain.register(hang, timeout=0.01, name="slow_one")
    assert await chain.call("quick", None) == 0
    with pytest.raises(TimeoutError) as caught:
        await chain.call("hang", None)
    assert "'slow_one'" in caught.value.__notes__[0]
    assert chain.statistics().walks_running == 0


@every_async
async def test_a_cancelled_call_waits_for_its_thread(flavour: Any) -> None:
    chain = flavour("chain")
    entered, log = anyio.Event(), []

    def work(event: Any, data: Any) -> None:
        anyio.from_thread.run_sync(entered.set)
        anyio.from_thread.run_sync(cancel)
        log.append("thread ended")

    def cancel() -> None:
        scope.cancel()

    await chain.register(work, thread=True)
    with anyio.CancelScope() as scope:
        await chain.call(1, None)
        await checkpoint()
    assert scope.cancelled_caught
    assert log == ["thread ended"]


@every_async
@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_once_runs_once_though_two_calls_race(flavour: Any, colour: str) -> None:
    rig = Rig(flavour, colour=colour)

    async def wait(event: Any, data: Any) -> None:
        await anyio.wait_all_tasks_blocked()

    gate = await rig.register(wait)
    block = await rig.add("once", 7, once=True)
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(rig.call, number, None)
    assert rig.drain() == ["once"]
    assert block.chain is None
    await rig.unregister(gate)
    await rig.register(block)
    assert await rig.call(1, None) == 7
    assert rig.drain() == ["once"]


@every_async
async def test_a_sync_callback_that_gives_an_awaitable_can_be_declared_async(flavour: Any) -> None:
    chain = flavour("chain")

    async def answer(event: Any, data: Any) -> int:
        return 7

    block = await chain.register(lambda event, data: answer(event, data), is_async=True, name="b")
    assert await chain.call(1, None) == 7
    await chain.unregister(block)
    await chain.register(lambda event, data: answer(event, data), name="b")
    with pytest.raises(InvalidResultError, match="is_async=True"):
        await chain.call(1, None)


@every_async
async def test_sync_and_async_callbacks_mix_in_one_order(flavour: Any) -> None:
    log = []

    def sync(event: Any, data: Any) -> None:
        log.append("sync")

    async def coloured(event: Any, data: Any) -> None:
        await checkpoint()
        log.append("async")

    chain = flavour("chain")
    for callback in (sync, coloured, sync, coloured, sync):
        await chain.register(callback)
    assert await chain.call(1, None) == 0
    assert log == ["sync", "async", "sync", "async", "sync"]
    log.clear()
    await chain.register(lambda event, data: 0x8001, priority=-1)
    await chain.register(sync, priority=-2)
    assert await chain.call(1, None) == 0x8001
    assert log == ["sync", "async", "sync", "async", "sync"]


@every_async
async def test_inside_its_own_callback_an_exit_takes_the_block_off_and_says_that_it_runs(
    flavour: Any,
) -> None:
    chain = flavour("chain")
    stack: list[Any] = []
    errors = []

    async def leave(event: Any, data: Any) -> None:
        try:
            await stack[0].__aexit__(None, None, None)
        except WouldDeadlockError as error:
            errors.append(error)

    stack.append(chain.registered(leave))
    block = await stack[0].__aenter__()
    await chain.call(1, None)
    assert len(errors) == 1
    assert block.chain is None


@every_async
@pytest.mark.parametrize("how", ["nosync", "only", "cancelled"])
async def test_d3_a_threaded_callback_that_waits_for_its_thread_is_not_entered_any_more(
    flavour: Any, how: str
) -> None:
    chain, ran, free = flavour("chain"), list[Any](), threading.Event()
    limiter = anyio.to_thread.current_default_thread_limiter()
    before, limiter.total_tokens = limiter.total_tokens, 1
    block = chain.register_nowait(lambda event, data: ran.append(event), thread=True)
    chain.register_nowait(lambda event, data: ran.append("behind"))
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(anyio.to_thread.run_sync, free.wait))
            await anyio.wait_all_tasks_blocked()
            group.start_soon(chain.call, 1, None)
            await anyio.wait_all_tasks_blocked()
            if how == "nosync":
                chain.unregister_nosync(block)
            elif how == "only":
                with chain.only("<lambda>x"):
                    pass
            else:
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await chain.unregister(block)
            free.set()
    finally:
        limiter.total_tokens = before
    assert ran == ([] if how == "only" else ["behind"])


@every_async
async def test_d6_a_context_exit_does_not_mind_a_block_that_goes_while_it_waits(
    flavour: Any,
) -> None:
    chain, inside, go = flavour("chain"), anyio.Event(), anyio.Event()

    async def first(event: Any, data: Any) -> None:
        inside.set()
        await go.wait()

    async def own() -> None:
        async with chain.registered(nothing, once=True):
            group.start_soon(chain.call, 1, None)
            await inside.wait()

    await chain.register(first, priority=9)
    async with anyio.create_task_group() as group:
        group.start_soon(own)
        await anyio.wait_all_tasks_blocked()
        go.set()
    assert len(chain) == 1


@every_async
async def test_d11_calls_that_fail_yield_too(flavour: Any) -> None:
    chain = flavour("chain", checkpoint_every=4)
    block = NotifierBlock(nothing)
    with anyio.CancelScope() as scope:
        scope.cancel()
        for _ in range(20):
            with pytest.raises(NotRegisteredError):
                await chain.unregister(block)
        raise AssertionError
    assert scope.cancelled_caught


class Uncomparable:
    def __hash__(self) -> int:
        raise LookupError("mine")


@pytest.mark.usefixtures("endless_patience")
@pytest.mark.parametrize("call", ["call", "call_report"])
async def test_d12_a_reader_that_dies_before_it_walks_gives_its_turn_back(call: str) -> None:
    chain, release = BlockingChain[Any, Any]("chain"), anyio.Event()

    async def hold(event: Any, data: Any) -> None:
        if event == "hold":
            await release.wait()

    async def die() -> None:
        with pytest.raises(LookupError, match="mine"):
            await getattr(chain, call)(Uncomparable(), None)

    await chain.register(hold, events=["hold"])
    async with anyio.create_task_group() as group:
        for work in (
            lambda: chain.call("hold", None),
            lambda: chain.register(nothing),
            die,
            lambda: chain.register(nothing),
        ):
            group.start_soon(work)
            await anyio.wait_all_tasks_blocked()
        release.set()
    assert len(chain) == 3
    with pytest.raises(LookupError, match="mine"):
        await getattr(chain, call)(Uncomparable(), None)


@pytest.mark.parametrize("flavour", [*ASYNC, RawChain])
async def test_what_is_declared_async_may_answer_at_once(flavour: Any) -> None:
    chain = flavour("chain")
    chain.register_nowait(lambda event, data: 7, is_async=True)
    call = chain.acall if flavour is RawChain else chain.call
    assert await call(1, None) == 7


@every_async
async def test_synchronize_waits_for_no_later_walk_of_the_same_route(flavour: Any) -> None:
    chain, early, late, log = flavour("chain"), Held(), Held(), list[str]()

    async def synchronize() -> None:
        await chain.synchronize()
        log.append("synchronized")
        late.release.set()

    await chain.register(lambda event, data: data(event, None), events=["routed"], is_async=True)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "routed", early)
        await early.entered.wait()
        group.start_soon(synchronize)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(chain.call, "routed", late)
        await late.entered.wait()
        assert log == []
        early.release.set()
        with anyio.fail_after(20):
            await late.release.wait()
    assert log == ["synchronized"]


async def test_srcu_writers_that_wait_for_different_walks_do_not_wait_for_each_other() -> None:
    chain, log = SrcuChain[Any, Any]("chain"), []
    helds = {name: Held() for name in ("a", "b")}
    blocks = {name: await chain.register(held, events=name) for name, held in helds.items()}

    async def unregister(name: str) -> None:
        await chain.unregister(blocks[name])
        log.append(name)

    async with anyio.create_task_group() as group:
        for name, held in helds.items():
            group.start_soon(chain.call, name, None)
            await held.entered.wait()
            group.start_soon(unregister, name)
        await anyio.wait_all_tasks_blocked()
        assert chain.statistics() == (0, 0, 2, 2)
        for name in ("b", "a"):
            helds[name].release.set()
            await anyio.wait_all_tasks_blocked()
    assert log == ["b", "a"]


async def test_srcu_knows_its_own_walk_from_another_that_holds_the_block() -> None:
    chain, held, log = SrcuChain[Any, Any]("chain"), Held(), list[str]()

    async def unregister(event: Any, data: Any) -> None:
        held.release.set()
        await chain.unregister(victim)
        log.append("unregistered")

    victim = await chain.register(held, events=["theirs"])
    await chain.register(unregister, events=["ours"])
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "theirs", None)
        await held.entered.wait()
        with anyio.fail_after(20):
            await chain.call("ours", None)
    assert log == ["unregistered"]


@every_async
@pytest.mark.parametrize("call", ["call", "call_report", "call_robust", "call_robust_report"])
async def test_every_kind_of_walk_is_one_that_cannot_be_waited_for_inside(
    flavour: Any, call: str
) -> None:
    chain, refused = flavour("chain"), list[Any]()

    async def impatient(event: Any, data: Any) -> None:
        with anyio.fail_after(20), pytest.raises(WouldDeadlockError) as caught:
            await chain.unregister(block)
        refused.append(caught.value)

    block = await chain.register(impatient)
    await getattr(chain, call)(*((1, 2, None) if "robust" in call else (1, None)))
    assert len(refused) == 1


async def test_a_scope_waits_for_an_acall_that_may_be_in_its_block() -> None:
    chain, log, release = RawChain[Any, Any]("chain"), list[str](), anyio.Event()

    async def slow(event: Any, data: Any) -> None:
        await release.wait()
        log.append("callback")

    async def own() -> None:
        async with Scope("scope"):
            chain.register(slow)
            group.start_soon(chain.acall, 1, None)
            while not chain.statistics().walks_running:
                await checkpoint()
        log.append("closed")

    async with anyio.create_task_group() as group:
        group.start_soon(own)
        while not chain.blocks:
            await checkpoint()
        while chain.blocks:  # until the scope is closing
            await checkpoint()
        await anyio.wait_all_tasks_blocked()
        assert log == []
        release.set()
    assert log == ["callback", "closed"]


async def test_a_scope_closed_in_an_acall_of_its_own_would_wait_for_itself() -> None:
    chain, scope = RawChain[Any, Any]("chain"), Scope("scope")

    async def close(event: Any, data: Any) -> None:
        with pytest.raises(WouldDeadlockError):
            await scope.aclose()

    scope.register_nowait(chain, close)
    await chain.acall(1, None)
    assert chain.is_empty


@every_async
async def test_statistics_count_a_walk_that_waits_and_the_one_that_asks(flavour: Any) -> None:
    chain, held = flavour("chain"), Held()
    counted: list[int] = []
    await chain.register(held, events="slow")
    await chain.register(
        lambda event, data: counted.append(chain.statistics().walks_running), events="quick"
    )
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "slow", None)
        await held.entered.wait()
        await chain.call("quick", None)
        held.release.set()
    assert counted == [2]
