"""The orders in which callers and writers run: none breaks the lock or the grace period.

First that the explorer sees all orders, deadlocks and livelocks; then that it finds planted bugs;
then that it finds nothing in ours.
"""

from __future__ import annotations

from math import factorial
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.lowlevel import checkpoint

from .schedules import (
    TIMERS,
    DeadlockError,
    Explored,
    Failure,
    LivelockError,
    Scenario,
    UnrepeatableError,
    explore,
    replay,
)
from .schedules_cases import CASES, NATIVE_CASES
from .schedules_mutants import MUTANTS, Edit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .schedules_cases import Case
    from .schedules_mutants import Mutant

pytestmark = pytest.mark.anyio


class Letters(Scenario):
    """Each actor writes its letter twice and suspends in between."""

    words: list[str]

    def __init__(self) -> None:
        self.log: list[str] = []

    def actors(self) -> dict[str, Callable[[], Awaitable[object]]]:
        return {"a": lambda: self.act("a"), "b": lambda: self.act("b"), "c": lambda: self.act("c")}

    async def act(self, letter: str) -> None:
        self.log.append(letter)
        await checkpoint()
        self.log.append(letter)

    async def finish(self) -> None:
        self.words.append("".join(self.log))


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    words: list[str] = []
    monkeypatch.setattr(Letters, "words", words, raising=False)
    return words


def test_every_order_of_steps_is_seen_once(anyio_backend: str, words: list[str]) -> None:
    orders = factorial(6) // 2**3
    assert explore(anyio_backend, Letters) == Explored(orders, is_exhaustive=True)
    assert len(words) == len(set(words)) == orders


def test_delays_bound_how_often_somebody_is_passed_over(
    anyio_backend: str, words: list[str]
) -> None:
    seen = [explore(anyio_backend, Letters, delays=delays).orders for delays in range(3)]
    assert words[0] == "abcabc"  # first come, first served
    assert seen == [1, 6, 20]
    assert set(words[:1]) < set(words[1:7]) < set(words[7:])


def test_a_limit_is_no_exhaustion(anyio_backend: str, words: list[str]) -> None:
    assert explore(anyio_backend, Letters, limit=89) == Explored(89, is_exhaustive=False)
    assert explore(anyio_backend, Letters, limit=90) == Explored(90, is_exhaustive=True)


class Racing(Scenario):
    """Fails in one of two orders."""

    def __init__(self) -> None:
        self.is_set = False

    def actors(self) -> dict[str, Callable[[], Awaitable[object]]]:
        return {"reader": self.read, "setter": self.set}

    async def set(self) -> None:
        self.is_set = True

    async def read(self) -> None:
        await checkpoint()
        if not self.is_set:
            raise AssertionError("not set")


def test_a_failure_is_found_again_by_its_choices(anyio_backend: str) -> None:
    seen = explore(anyio_backend, Racing)
    assert (seen.orders, seen.is_exhaustive) == (2, False)
    failure = seen.failure
    assert failure is not None
    assert failure.choices == ("reader", "reader")
    again = replay(anyio_backend, Racing, failure.choices).failure
    assert str(again) == str(failure) == "AssertionError: not set\nchoices: ['reader', 'reader']"
    assert replay(anyio_backend, Racing, ["setter"]).failure is None
    with pytest.raises(AssertionError, match="not set") as caught:
        seen.raise_failure()
    assert caught.value.__notes__ == ["replay with ['reader', 'reader']"]
    Explored(1, is_exhaustive=True).raise_failure()


def test_choices_that_cannot_be_made_are_refused(anyio_backend: str) -> None:
    failure = replay(anyio_backend, Racing, ["nobody"]).failure
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, UnrepeatableError)


def test_a_scenario_that_depends_on_anything_else_is_refused(
    anyio_backend: str, words: list[str]
) -> None:
    runs = iter(range(9))

    class Fickle(Letters):
        def actors(self) -> dict[str, Callable[[], Awaitable[object]]]:
            made = super().actors()
            return {f"{name} {next(runs) // 3}": actor for name, actor in made.items()}

    seen = explore(anyio_backend, Fickle)
    assert isinstance(seen.failure, Failure)
    assert isinstance(seen.failure.error, UnrepeatableError)


class Patient(Scenario):
    """One waits for another, but for a second at most; ``then`` is what it does when late."""

    def __init__(self, then: Callable[[], Awaitable[object]]) -> None:
        self.then = then

    def actors(self) -> dict[str, Callable[[], Awaitable[object]]]:
        self.event = anyio.Event()
        return {"waiter": self.wait, "waker": self.wake}

    async def wake(self) -> None:
        self.event.set()

    async def wait(self) -> None:
        with anyio.move_on_after(1) as scope:
            await self.event.wait()
        if scope.cancelled_caught:
            assert anyio.current_time() % 1 == 0
            await self.then()


async def wait_for_ever() -> None:
    await anyio.Event().wait()


async def sleep_for_ever() -> None:
    await anyio.sleep_forever()


async def go_on_for_ever() -> None:
    while True:
        await checkpoint()


async def wait_for_time() -> None:
    while True:
        await anyio.sleep(1)


@pytest.mark.parametrize(
    ("then", "error"),
    [
        (wait_for_ever, DeadlockError),
        (sleep_for_ever, DeadlockError),
        (go_on_for_ever, LivelockError),
        (wait_for_time, LivelockError),
    ],
)
def test_a_deadline_that_is_met_although_others_could_go_on_is_one_of_the_choices(
    anyio_backend: str, then: Callable[[], Awaitable[object]], error: type[Exception]
) -> None:
    seen = explore(anyio_backend, lambda: Patient(then))
    assert isinstance(seen.failure, Failure)
    assert isinstance(seen.failure.error, error)
    assert TIMERS in seen.failure.choices
    assert explore(anyio_backend, lambda: Patient(then), timers=0).failure is None


def test_time_goes_on_by_itself_where_nobody_can(anyio_backend: str) -> None:
    times: list[float] = []

    class Sleepers(Scenario):
        async def set_up(self) -> None:
            self.began = anyio.current_time()

        def actors(self) -> dict[str, Callable[[], Awaitable[object]]]:
            return {"two": lambda: self.sleep(2), "one": lambda: self.sleep(1)}

        async def sleep(self, seconds: float) -> None:
            await anyio.sleep(seconds)
            times.append(anyio.current_time() - self.began)

    assert explore(anyio_backend, Sleepers, timers=0) == Explored(2, is_exhaustive=True)
    assert times == [1.0, 2.0] * 2


@pytest.mark.parametrize("where", ["set_up", "check", "finish"])
def test_what_a_scenario_asserts_outside_of_its_actors_is_a_failure_too(
    anyio_backend: str, where: str
) -> None:
    def fail(self: object) -> None:
        raise AssertionError(where)

    async def afail(self: object) -> None:
        fail(self)

    made = type("Failing", (Racing,), {where: fail if where == "check" else afail})
    seen = replay(anyio_backend, made, ["setter"])
    assert seen.failure is not None
    assert str(seen.failure.error) == where


def test_a_mutant_of_text_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="has not 'nothing of the kind' once"):
        Edit(Racing, "read", "nothing of the kind", "").apply(monkeypatch)


def explore_mutant(backend: str, mutant: Mutant, delays: int) -> Explored:
    return explore(backend, mutant.scenario, delays=delays, timers=mutant.timers)


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_planted_bug_is_found(
    anyio_backend: str, mutant: Mutant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for edit in mutant.edits:
        edit.apply(monkeypatch)
    failure = None
    for delays in range(8):  # so that what is found is short
        failure = failure or explore_mutant(anyio_backend, mutant, delays).failure
    assert mutant.says in str(failure)
    assert failure is not None
    again = replay(anyio_backend, mutant.scenario, failure.choices, timers=mutant.timers)
    assert str(again.failure) == str(failure)


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_what_shows_a_planted_bug_shows_none_of_ours(anyio_backend: str, mutant: Mutant) -> None:
    explore_mutant(anyio_backend, mutant, 1).raise_failure()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_order_breaks_the_lock_or_the_grace_period(anyio_backend: str, case: Case) -> None:
    seen = case.explore(anyio_backend)
    seen.raise_failure()
    assert seen.is_exhaustive


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("case", NATIVE_CASES.values(), ids=NATIVE_CASES)
def test_no_order_of_native_cancellations_does_either(anyio_backend: str, case: Case) -> None:
    seen = case.explore(anyio_backend)
    seen.raise_failure()
    assert seen.is_exhaustive
