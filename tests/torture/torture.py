"""Torture of one chain after another, round by round, and of the memory between the rounds."""

from __future__ import annotations

import gc
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from tocsin import AtomicChain, BlockingChain, RawChain, SrcuChain

from .ledger import REPLAY
from .plan import BUDGETS, MEMORY_BOUND, Figures, drift_bound
from .tasks import Tasks
from .threads import Threads

if TYPE_CHECKING:
    from .plan import Plan

ROUNDS_OF_A_CHAIN = 8
WARM_UP = 2  # rounds after which memory has to be flat


class Subject(NamedTuple):
    """What is tortured: a flavour, by threads or on a backend."""

    flavour: type[Any]
    by: str

    def __str__(self) -> str:
        return f"{self.flavour.__name__}/{self.by}"


SUBJECTS = [
    Subject(AtomicChain, "threads"),
    Subject(RawChain, "threads"),
    *(
        Subject(flavour, backend)
        for flavour in (RawChain, BlockingChain, SrcuChain)
        for backend in ("asyncio", "trio")
    ),
]


def torture(plan: Plan, subject: Subject) -> Figures:
    """Torture a subject until enough calls have been made, or something is wrong."""
    total, begin, number, sizes = Figures(), time.monotonic(), 0, list[int]()
    while not total.violations and total.calls < plan.calls:
        if number and time.monotonic() - begin > plan.seconds:
            break
        total.add(_torture_chain(subject, plan, number, plan.calls - total.calls, begin))
        number += 1
        gc.collect()
        sizes.append(sys.getallocatedblocks())
    drift = sizes[-1] - sizes[0]
    total.memory = max(total.memory, drift)
    if drift > drift_bound(total.calls) and not total.violations:
        total.violations.append(f"memory: {drift} blocks more after {number} chains")
    total.seconds = time.monotonic() - begin
    return total


def _torture_chain(subject: Subject, plan: Plan, number: int, calls: int, begin: float) -> Figures:
    """Torture one chain for several rounds."""
    name = f"{plan.seed} {subject} {number}"
    has_replay = number % 2 == 1 if plan.replays is None else plan.replays
    options: dict[str, Any] = {"replay": lambda: [(REPLAY, None)]} if has_replay else {}
    if subject.flavour in (BlockingChain, SrcuChain):
        options["checkpoint_every"] = BUDGETS[number % len(BUDGETS)]
    elif subject.by != "threads":
        options.clear()  # it could not await the replay
    chain = subject.flavour("tortured", **options)
    total, sizes = Figures(), list[int]()
    for turn in range(ROUNDS_OF_A_CHAIN):
        total.add(_run_round(subject, chain, plan, f"{name} {turn}"))
        sizes.append(sys.getallocatedblocks())
        is_late = time.monotonic() - begin > plan.seconds
        if total.violations or (turn >= WARM_UP and (is_late or total.calls >= calls)):
            break
    if len(sizes) > WARM_UP:
        total.memory = sizes[-1] - sizes[WARM_UP - 1]
        if total.memory > MEMORY_BOUND:
            total.violations.append(f"memory: {total.memory} blocks more after {len(sizes)} rounds")
    return total


def _run_round(subject: Subject, chain: Any, plan: Plan, name: str) -> Figures:
    if subject.by == "threads":
        threads = Threads(chain, plan, name)
        figures, made = threads.run(), threads.ledger.made
        del threads
    else:
        tasks = Tasks(chain, plan, name)
        if subject.by == "trio":
            _seed_trio(name)
        figures, made = anyio.run(tasks.run, backend=subject.by), tasks.ledger.made
        del tasks
    if not (figures.calls or figures.violations):
        figures.violations.append("idle: no call was made")
    gc.collect()
    alive = [repr(probe) for probe in (one() for one in made) if probe is not None]
    if alive and not figures.violations:
        figures.violations.append(f"D14: {len(alive)} blocks are kept, among them a {alive[0]}")
    return figures


def _seed_trio(seed: str) -> None:
    """Have trio, which runs its tasks in a random order, begin with the same one again."""
    from trio._core import _run

    _run._r.seed(seed)
