"""Whatever is done to a chain, in any order, it does what sixty lines say: the model of D1 to D16.

A state machine of hypothesis registers, filters, calls and cancels at random, in callbacks too, on
each flavour and both backends. `lockstep` does everything to the chain and to the model. Each step
ends when everybody waits, and then the two are compared.

The short form here is the same each time. ``make model`` runs as many new ones as it is told to.
"""

from __future__ import annotations

import ast
import gc
import io
import logging
import os
import sys
import tokenize
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import ref

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tocsin import AtomicChain, BlockingChain, RawChain, SrcuChain, locks

from . import model
from .flavours import ASYNC
from .lockstep import (
    GIVES,
    ITSELF,
    NEXT,
    PREVIOUS,
    Act,
    Duo,
    Layer,
    OddInt,
    Op,
    Plan,
    Script,
    Tap,
    Watcher,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PROGRAMS = int(os.environ.get("TOCSIN_MODEL_PROGRAMS", "0"))
"""How many programs the long form runs on each flavour and backend; 0 for the short form."""

FLAVOURS = [
    (AtomicChain, "call"),
    (RawChain, "call"),
    (RawChain, "acall"),
    (BlockingChain, "call"),
    (SrcuChain, "call"),
]
FLAVOUR_IDS = [f"{flavour.__name__}-{walk}" for flavour, walk in FLAVOURS]

NAMES = ["a", "b", "c", "d"]
ENTRIES = [*NAMES, "[ab]", "[bcd]", "*:[acd]", "stream", "*", "nobody"]
EVENTS: list[Any] = ["up", "down", 1, frozenset((2,))]
CALLED: list[Any] = [*EVENTS, "else", True, 1.0, {2}, [3]]  # some of them equal, some unhashable
CHANGES = ["again", "leave", "visit", "lend", "teach"]
HOW = st.sampled_from(["plain", "nowait", "nosync"])
WHO = st.integers(0, 9)

names = st.sampled_from([*NAMES, "tests.lockstep:a", "nobody"])
layers = st.builds(
    Layer,
    st.lists(st.sampled_from(ENTRIES), max_size=3, unique=True).map(tuple),
    st.booleans(),
)
plans = st.builds(
    Plan,
    st.sampled_from(["call", "call", "report", "robust", "robust", "concurrent"]),
    st.just("up") | st.sampled_from(CALLED),
    st.integers(-1, 3),
    st.sampled_from([1, -1]),
)
acts = st.one_of(
    st.builds(
        Act,
        st.sampled_from(["unregister", "unregister", "register", "hold", "hold", "leave"]),
        st.sampled_from([ITSELF, NEXT, PREVIOUS, *range(8)]),
        HOW,
        st.none(),
    ),
    st.builds(Act, st.just("filter"), WHO, HOW, st.none() | layers),
    st.builds(Act, st.just("only"), WHO, HOW, layers.map(lambda it: it._replace(denies=False))),
    st.builds(Act, st.just("call"), WHO, HOW, plans),
)
scripts = st.builds(
    Script,
    st.lists(acts, max_size=2).map(tuple),
    st.sampled_from([None, 0, 1]) | st.sampled_from(GIVES),
)
options = st.fixed_dictionaries(
    {"name": st.sampled_from(NAMES), "priority": st.integers(-1, 1)},
    optional={
        "events": st.frozensets(st.sampled_from([*EVENTS, "undo"]), min_size=2),
        "once": st.booleans(),
    },
)
ARRANGED = st.sampled_from(["last", "first", "outer", "twins", "stream"])
ONE_EVENT = {"name": "d", "events": frozenset(("up",))}
neighbours = st.dictionaries(
    st.sampled_from(["before", "after"]), st.frozensets(names, min_size=1, max_size=2), max_size=2
)


def settle(given: dict[str, Any], near: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a block refuses to ask for: itself, or both before and after another."""
    own = {given["name"], f"tests.lockstep:{given['name']}"}
    kept = {key: asked - own for key, asked in near.items()}
    if kept.get("before", own) & kept.get("after", own):
        kept.clear()
    return given | kept


subscribers = st.tuples(
    scripts,
    st.sampled_from([True, False, True]),
    st.sampled_from([False, False, True]),
    st.builds(settle, options, neighbours),
)


class Held:
    """The chains of a program that has ended, and whom nobody else may hold any more."""

    def __init__(self, duo: Duo) -> None:
        self.chains = (duo.chain, duo.other)
        self.blocks = [ref(one) for one in duo.made]
        self.due = [one.chain is not None for one in duo.made]
        for _, homes in duo.shared.values():
            homes.clear()
        vars(duo).clear()

    def check(self) -> None:
        """See that a chain holds its blocks, and lets go of the others (D14)."""
        held = [one() is not None for one in self.blocks]
        assert held == self.due


class Machine(RuleBasedStateMachine):
    """Does anything to one chain."""

    def __init__(self, held: list[Held], flavour: type[Any], walk: str, backend: str) -> None:
        super().__init__()
        self.held = held
        self.flavour, self.walk = flavour, walk
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal(backend))
        group = self.portal.call(anyio.create_task_group)
        self.group = self.stack.enter_context(self.portal.wrap_async_context_manager(group))
        self.ops: list[Op] = []
        self.duo: Any = None

    def step(self, do: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Do something, and compare when everybody waits."""

        async def run() -> None:
            op, duo.fuel = Op(), 30
            self.ops.append(op)
            self.group.start_soon(self._run, op, lambda: do(*args, **options))
            await duo.quiet()
            if not duo.failures:
                duo.check()

        duo = self.duo
        try:
            self.portal.call(run)
        finally:
            for failure in duo.failures:
                raise failure

    async def _run(self, op: Op, do: Callable[[], Any]) -> None:
        try:
            await self.duo.run(op, do)
        finally:
            self.ops.remove(op)

    def pick(self, who: int) -> Any:
        known = [*self.duo.scripts]
        return known[who % len(known)]

    def any_block(self, who: int) -> Any:
        known = [*self.duo.records]
        return known[who % len(known)]

    @initialize(
        errors=st.sampled_from(["raise", "collect", "isolate"]),
        blocks=st.lists(subscribers, min_size=2, max_size=6),
        is_observed=st.booleans(),
        arranged=st.lists(ARRANGED, min_size=1, max_size=3, unique=True),
    )
    def begin(self, errors: str, blocks: list[Any], is_observed: bool, arranged: list[str]) -> None:
        self.duo = Duo(self.flavour, self.walk, errors)
        for block in blocks:
            self._add("plain", False, block)
        for number, do in enumerate(arranged):
            self.arrange(do, number)
        if is_observed:
            self.observe(sys.maxsize)

    def _add(self, how: str, unique: bool, given: tuple[Script, bool, bool, Any]) -> None:
        script, is_async, shares, wanted = given
        is_rare = self.walk == "call" and self.flavour not in ASYNC and wanted["name"] != "d"
        block = self.duo.make(script, is_async=is_async and not is_rare, shares=shares, **wanted)
        self.step(self.duo.register, block, how, unique=unique)

    @precondition(lambda self: len(self.duo.records) < 8)
    @rule(how=HOW, unique=st.booleans(), given=subscribers)
    def add(self, how: str, unique: bool, given: Any) -> None:
        self._add("plain" if how == "plain" else "nowait", unique, given)

    @rule(do=st.sampled_from(CHANGES), who=WHO, how=HOW, script=scripts)
    def change(self, do: str, who: int, how: str, script: Script) -> None:
        """Move a block, or give it something else to do."""
        match do:
            case "again":
                self.step(
                    self.duo.register,
                    self._pick(self.duo.scripts, who),
                    "plain" if how == "plain" else "nowait",
                    unique=who % 2 == 0,
                )
            case "leave":
                self.step(self.duo.unregister, self._pick(self.duo.records, who), how)
            case "visit":
                if len(self.ops) < 5:
                    self.step(self.duo.visit, self._pick(self.duo.scripts, who))
            case "lend":
                self.step(self.duo.lend, self._pick(self.duo.scripts, who))
            case _:
                self.duo.scripts[self._pick(self.duo.scripts, who)] = script

    def _pick(self, known: Iterable[Any], who: int) -> Any:
        blocks = list(known)
        return blocks[who % len(blocks)]

    @rule(do=st.sampled_from(["set", "only", "leave"]), layer=layers, how=HOW, number=WHO)
    def refilter(self, do: str, layer: Layer, how: str, number: int) -> None:
        if do == "only" and len(self.duo.opened) < 3:
            self.step(self.duo.only, layer._replace(denies=False))
        elif do == "leave":
            self.step(self.duo.leave_only, number)
        else:
            wanted = layer if number > 3 else None
            self.step(self.duo.set_filter, wanted, "plain" if how == "plain" else "nowait")

    @rule(given=st.lists(plans, min_size=1, max_size=3))
    def call(self, given: list[Plan]) -> None:
        for plan in given:
            if len(self.ops) < 5:
                self._call(plan)

    @rule(plan=plans, who=WHO, script=scripts)
    def teach_and_call(self, plan: Plan, who: int, script: Script) -> None:
        self.duo.scripts[self._pick(self.duo.scripts, who)] = script
        self.call([plan])

    @rule(plan=plans, who=WHO, script=scripts, ends=st.lists(st.booleans(), max_size=4))
    def hold_and_call(self, plan: Plan, who: int, script: Script, ends: list[bool]) -> None:
        """Call, have one block or all hold the walk where they can, and somebody wait for it."""
        known = [one for one in self.duo.scripts if one.is_async and one in self.duo.chain]
        acts = (Act("hold", ITSELF, "plain"), *script.acts)
        for block in known if who % 2 else known[:1]:
            self.duo.scripts[block] = script._replace(acts=acts)
        self.call([plan._replace(event="up")])
        if known and who < 5:
            self.step(self.duo.unregister, self._pick(known, who), "plain")
        for is_cancelled in ends:
            if self.ops:
                self.go_on(is_cancelled, who)

    @rule(do=ARRANGED, who=WHO)
    def arrange(self, do: str, who: int) -> None:
        """Bring about what chance seldom does, while the blocks do nothing else."""
        kept = {**self.duo.scripts}
        self.duo.scripts.update(dict.fromkeys(kept, Script()))
        if do == "twins":
            self._arrange_twins()
        elif do != "stream":
            self._arrange_walk(do, who)
        elif self.flavour is not RawChain and not self.duo.taps:
            self._arrange_stream()
        self.duo.scripts.update(kept)

    def _arrange_twins(self) -> None:
        """Have a callback that is in two blocks give in the other what a walk looks at closely."""
        for name, gives in ("c", None), ("d", OddInt(1)):
            if len(self.duo.records) < 8:
                self._add("nowait", False, (Script((), gives), False, True, {"name": name}))
        self.call([Plan()])

    def _arrange_stream(self) -> None:
        """Wait for an event, and have more than there is room for."""
        self._stream(2, "drop_oldest", 1, None)
        if self.duo.taps[0].is_open:  # or it waits for the lock
            self.step(self.duo.read, self.duo.taps[0])
            self.call([Plan()] * 4)
            self.step(self.duo.read, self.duo.taps[0])

    def _arrange_walk(self, do: str, who: int) -> None:
        here = [one for one in self.duo.chain.blocks if one in self.duo.scripts]
        actors = [one for one in here if one.is_async or self.flavour not in ASYNC]
        if not actors:
            return
        actor = actors[who % len(actors)]
        if do == "last":  # is taken off by the one before it, who gives a result
            actor, acts = here[max(len(here) - 2, 0)], [Act("unregister", NEXT, "nosync")]
        elif do == "first":  # leaves while somebody may be inside it
            acts = [Act("hold", ITSELF, "plain")]
        else:  # a call in a call: who is inside the outer one alone is waited for in the inner one
            if len(self.duo.records) < 8:
                self._add("nowait", False, (Script(), False, False, ONE_EVENT))
            last, inner = len(self.duo.records) - 1, Plan(event="down")
            acts = [Act("call", ITSELF, "plain", inner), Act("unregister", last, "plain")]
        self.duo.scripts[actor] = Script(tuple(acts), 1)
        self.call([Plan()])
        if do == "first":
            self.step(self.duo.unregister, here[0])

    def _call(self, plan: Plan) -> None:
        async def call() -> None:
            got = await self.duo.call(plan)
            if isinstance(got, anyio.get_cancelled_exc_class()):
                raise got

        if plan.kind == "concurrent" and not self.duo.may_run_bands:
            plan = plan._replace(kind="call")
        self.step(call)

    @precondition(lambda self: self.ops)
    @rule(is_cancelled=st.booleans(), number=WHO)
    def go_on(self, is_cancelled: bool, number: int) -> None:
        """Release or cancel something that waits."""
        held = self.duo.held
        if is_cancelled or not held:
            self.step(self.duo.cancel, self.ops[number % len(self.ops)])
        else:
            self.step(held.pop(number % len(held)).set)

    @rule(patience=st.sampled_from([0, 2, 5, *[sys.maxsize] * 3]))
    def observe(self, patience: int) -> None:
        watched = self.duo.watched
        if len(watched) < 2:
            self.step(lambda: watched.append(self.duo.chain.observe(Watcher(patience))))
        else:
            self.step(watched.pop(0).detach)

    @precondition(lambda self: self.flavour is not RawChain and len(self.duo.taps) < 2)
    @rule(
        size=st.integers(1, 2),
        overflow=st.sampled_from(["wait", "drop_oldest", "drop_newest", "raise"]),
        priority=st.integers(-1, 1),
        events=st.none() | st.frozensets(st.sampled_from(EVENTS), max_size=2),
        calls=st.lists(plans, max_size=3),
    )
    def stream(
        self, size: int, overflow: str, priority: int, events: Any, calls: list[Plan]
    ) -> None:
        if self.flavour is AtomicChain and overflow == "wait":
            overflow = "drop_oldest"
        self._stream(size, overflow, priority, events)
        self.call(calls)

    def _stream(self, size: int, overflow: str, priority: int, events: Any) -> None:
        given = {"name": "stream", "priority": priority, "events": events}
        tap = Tap(self.duo, size, overflow, **given)
        self.step(self.duo.open_tap, tap, **given)

    @precondition(lambda self: any(tap.is_open for tap in self.duo.taps))
    @rule(number=WHO, calls=st.lists(plans, max_size=2))
    def read(self, number: int, calls: list[Plan]) -> None:
        """Read a stream, and wait there for an event if need be, or leave it."""
        tap = self._pick([tap for tap in self.duo.taps if tap.is_open], number)
        if number > 6 and not tap.reader:
            self.step(self.duo.close_tap, tap)
        elif tap.buffer or len(self.ops) < 5:
            self.step(self.duo.read, tap)
        self.call(calls)

    def teardown(self) -> None:
        with self.stack:
            if self.duo is not None:
                self.portal.call(self._end)

    async def _end(self) -> None:
        duo = self.duo
        duo.is_closing = True
        for event in duo.held:
            event.set()
        for op in self.ops:
            op.scope.cancel()
        for tap in duo.taps:
            await tap.stream.__aexit__(None, None, None)
        for context, _ in duo.opened:
            context.__exit__(None, None, None)
        await duo.quiet()
        self.held.append(Held(duo))


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no clock decide what happens, and no log fill the screen."""
    monkeypatch.setattr(locks, "PATIENCE", 3600)
    monkeypatch.setattr(logging.getLogger("tocsin"), "disabled", True)


SHORT = settings(max_examples=20, stateful_step_count=25, derandomize=True, database=None)
LONG = settings(max_examples=max(PROGRAMS, 1), stateful_step_count=50, print_blob=True)


@pytest.mark.parametrize(("flavour", "walk"), FLAVOURS, ids=FLAVOUR_IDS)
def test_a_chain_does_what_the_model_says(flavour: Any, walk: str, anyio_backend: str) -> None:
    held: list[Held] = []
    run_state_machine_as_test(
        partial(Machine, held, flavour, walk, anyio_backend),  # type: ignore[arg-type]
        settings=settings(
            LONG if PROGRAMS else SHORT,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    gc.collect()
    for one in held:
        one.check()


def test_the_model_has_at_most_sixty_lines_of_code() -> None:
    source = Path(model.__file__).read_text()
    apart: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            apart |= {*range(node.lineno, (node.end_lineno or 0) + 1)}
        if isinstance(node, ast.Import | ast.ImportFrom):
            apart.add(node.lineno)
    layout = (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {one.start[0] for one in tokens if one.type not in (*layout, tokenize.ENDMARKER)}
    assert 40 < len(lines - apart) <= 60
