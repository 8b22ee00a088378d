"""`Sequencer`: steps in order over tasks and threads, and what it says when they cannot go on."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import checkpoint

from tocsin import InvalidTypeError, InvalidValueError, SequenceBrokenError, SrcuChain, loops
from tocsin.testing import Sequencer, sequencer

pytestmark = pytest.mark.anyio


async def test_tasks_enter_their_steps_in_order(anyio_backend: str) -> None:
    steps, log = Sequencer(), list[int]()

    async def work(*mine: int) -> None:
        for step in mine:
            async with steps(step):
                log.append(step)
                await checkpoint()
                log.append(step)

    async with anyio.create_task_group() as group:
        group.start_soon(work, 2, 5)
        group.start_soon(work, 1, 3)
        group.start_soon(work, 0, 4)
    assert log == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_threads_enter_their_steps_in_order() -> None:
    steps, log = Sequencer(), list[int]()

    def work(*mine: int) -> None:
        for step in mine:
            with steps(step):
                log.append(step)

    running = [threading.Thread(target=work, args=mine) for mine in ((2, 5), (1, 3), (0, 4))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(30)
    assert log == [0, 1, 2, 3, 4, 5]


async def test_tasks_and_threads_are_mixed(anyio_backend: str) -> None:
    steps, log = Sequencer(), list[str]()

    def in_thread() -> None:
        for step in (1, 3):
            with steps(step):
                log.append(f"thread {step}")

    async def in_task() -> None:
        for step in (2, 0, 4):
            async with steps(step):
                log.append(f"task {step}")

    async def first() -> None:
        async with steps(0):
            log.append("first 0")

    async def third() -> None:
        async with steps(2):
            log.append("third 2")

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, in_thread)
        group.start_soon(third)
        group.start_soon(first)
    async with steps(4):
        log.append("task 4")
    assert log == ["first 0", "thread 1", "third 2", "thread 3", "task 4"]


def test_tasks_of_several_event_loops_are_mixed(anyio_backend: str) -> None:
    steps, log = Sequencer(), list[int]()

    async def work(*mine: int) -> None:
        for step in mine:
            async with steps(step):
                log.append(step)

    with start_blocking_portal(anyio_backend) as one, start_blocking_portal("asyncio") as other:
        done = [one.start_task_soon(work, 1, 2, 4), other.start_task_soon(work, 0, 3, 5)]
        for future in done:
            future.result(30)
    assert log == [0, 1, 2, 3, 4, 5]


async def test_an_interleaving_of_a_call_and_an_unregister_is_forced(anyio_backend: str) -> None:
    chain, steps, log = SrcuChain[str, None]("chain"), Sequencer(), list[str]()

    async def slow(event: str, data: None) -> None:
        async with steps(0):
            log.append("the callback is running")
        async with steps(2):
            log.append("it ends")

    block = await chain.register(slow)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "placed", None)
        async with steps(1):
            group.start_soon(chain.unregister, block)
            await anyio.wait_all_tasks_blocked()
            log.append("unregister waits")
    assert log == ["the callback is running", "unregister waits", "it ends"]


async def test_a_step_without_waiting_is_no_checkpoint(anyio_backend: str) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with Sequencer()(0):
            pass
    assert not scope.cancelled_caught


async def test_a_step_that_is_left_by_an_exception_is_left(anyio_backend: str) -> None:
    steps = Sequencer()
    with pytest.raises(KeyError):
        async with steps(0):
            raise KeyError
    with pytest.raises(KeyError), steps(1):
        raise KeyError
    with steps(2):
        assert repr(steps) == "<Sequencer at step 2>"
    assert repr(steps) == "<Sequencer at step 3>"


# What is wrong is said.


async def test_a_step_that_is_used_twice_is_refused(anyio_backend: str) -> None:
    steps = Sequencer()
    first = steps(0)
    with first, pytest.raises(InvalidValueError, match="step 0 was used before"):
        async with steps(0):
            raise AssertionError
    with pytest.raises(InvalidValueError, match="step 0 was used before"), first:
        raise AssertionError
    with steps(1):  # which a refusal has not moved
        pass


@pytest.mark.parametrize("step", ["1", 1.0, None, True])
def test_a_step_that_is_no_number_is_refused(step: Any) -> None:
    with pytest.raises(InvalidTypeError, match="a step of a Sequencer is an int, not"):
        Sequencer()(step)


def test_a_negative_step_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="begin with 0; there is no -1"):
        Sequencer()(-1)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_above_zero(timeout: float) -> None:
    with pytest.raises(InvalidValueError, match="must be above 0 s"):
        Sequencer(timeout=timeout)
    with pytest.raises(InvalidTypeError, match="must be seconds"):
        Sequencer(timeout="1")  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [None, 1e300, float("inf"), 30])
async def test_any_timeout_can_be_waited_for(anyio_backend: str, timeout: Any) -> None:
    steps = Sequencer(timeout=timeout)

    def in_thread() -> None:
        with steps(1):
            pass

    async def in_task() -> None:
        async with steps(2):
            pass

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, in_thread)
        group.start_soon(in_task)
        await anyio.wait_all_tasks_blocked()
        with steps(0):
            pass


async def test_a_wait_without_end_ends_and_says_for_whom_it_was(anyio_backend: str) -> None:
    steps = Sequencer(timeout=0.01)
    with pytest.raises(TimeoutError, match=r"step 2 was not reached in 0.01 s: step 0 was never"):
        async with steps(2):
            raise AssertionError
    with steps(0):
        with pytest.raises(TimeoutError, match=r"step 1 was not reached .* step 0 has not been"):
            async with steps(1):
                raise AssertionError


def test_a_thread_does_not_wait_without_end() -> None:
    steps = Sequencer(timeout=0.01)
    with pytest.raises(TimeoutError, match=r"step 0 was never entered$"), steps(1):
        raise AssertionError


async def test_a_wait_that_blocks_the_event_loop_says_so(anyio_backend: str) -> None:
    steps = Sequencer(timeout=0.01)
    with pytest.raises(TimeoutError, match=r"event loop stood still meanwhile, .* async with"):
        with steps(1):
            raise AssertionError


async def test_a_step_given_up_breaks_the_later_ones_at_once_and_no_earlier_one(
    anyio_backend: str,
) -> None:
    steps, log = Sequencer(timeout=None), list[str]()

    async def work(step: int) -> None:
        try:
            async with steps(step):
                log.append(f"step {step}")
        except SequenceBrokenError as error:
            log.append(str(error))

    def in_thread() -> None:
        with pytest.raises(SequenceBrokenError, match="step 4 can never be entered: step 2 was"):
            steps(4).__enter__()
        log.append("thread")

    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def given_up() -> None:
            with scope:
                await work(2)

        group.start_soon(work, 1)
        group.start_soon(given_up)
        group.start_soon(work, 3)
        group.start_soon(anyio.to_thread.run_sync, in_thread)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert scope.cancelled_caught
        await work(0)
    why = "step 2 was cancelled or interrupted while it waited"
    assert sorted(log) == ["step 0", "step 1", f"step 3 can never be entered: {why}", "thread"]
    with pytest.raises(SequenceBrokenError, match="step 5 can never be entered"), steps(5):
        raise AssertionError
    assert repr(steps) == "<Sequencer at step 2, broken>"


async def test_of_two_steps_given_up_the_earlier_one_is_to_blame(anyio_backend: str) -> None:
    steps = Sequencer(timeout=0.01)
    for step in (3, 1, 2):
        with pytest.raises((TimeoutError, SequenceBrokenError)) as caught, steps(step):
            raise AssertionError
    assert caught.type is SequenceBrokenError
    assert "step 1 was not reached" in str(caught.value)


async def test_of_steps_given_up_in_one_moment_the_earlier_one_is_to_blame(
    anyio_backend: str,
) -> None:
    many = [Sequencer() for _ in range(20)]  # in which order they are cancelled is a matter of luck

    async def work(steps: Sequencer, step: int) -> None:
        async with steps(step):
            raise AssertionError

    async with anyio.create_task_group() as group:
        for steps in many:
            group.start_soon(work, steps, 1)
            group.start_soon(work, steps, 3)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    for steps in many:
        with pytest.raises(SequenceBrokenError, match="step 1 was cancelled"), steps(2):
            raise AssertionError
        with steps(0):  # nobody is left to be woken
            pass


async def test_a_test_can_see_that_all_steps_were_left(anyio_backend: str) -> None:
    steps = Sequencer()
    assert steps.step == 0
    with steps(0):
        assert steps.step == 0
    async with steps(1):
        assert steps.step == 1
    assert steps.step == 2
    with pytest.raises(AttributeError):
        steps.step = 0  # type: ignore[misc]


async def test_a_step_that_is_cancelled_at_its_turn_is_given_up(anyio_backend: str) -> None:
    steps = Sequencer()
    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def cancelled() -> None:
            with scope:
                async with steps(1):
                    raise AssertionError

        group.start_soon(cancelled)
        await anyio.wait_all_tasks_blocked()
        with steps(0):
            scope.cancel()
    with pytest.raises(SequenceBrokenError), steps(2):
        raise AssertionError


def test_a_waiter_whose_event_loop_has_gone_is_not_missed(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Sequencer()

    def gone(loop: object, call: object) -> None:
        raise RuntimeError("the loop is closed")

    monkeypatch.setattr(sequencer, "soon", gone)
    with start_blocking_portal(anyio_backend) as portal:
        waiting = portal.start_task_soon(steps(1).__aenter__)
        portal.call(anyio.wait_all_tasks_blocked)
        with steps(0):
            pass
        waiting.cancel()
    assert loops.soon is not sequencer.soon  # type: ignore[attr-defined]
