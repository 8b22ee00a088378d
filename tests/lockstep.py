"""A chain and its model, hand in hand: whatever is done is done to both and compared.

Each callback that is entered asks the model who was to be called, and each call that ends, what was
to come of it. So calls may nest, be held in the middle while others go on, and be cancelled there.

What the model leaves out stands here: names and globs of the filter, bands of concurrent calls, the
buffers of streams, who has to wait for whom or is refused, and what observers are told.

Invariant: whatever changes the chain changes the model in the same step of the event loop.
"""

from __future__ import annotations

import errno
import sys
from collections import Counter, deque
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
from anyio.lowlevel import checkpoint

from tocsin import (
    NOTIFY_STOP_MASK,
    AtomicChain,
    BlockingChain,
    InvalidResultError,
    NameFilter,
    NotifierBlock,
    Observer,
    SrcuChain,
    VetoError,
    notifier_from_errno,
)

from .flavours import ASYNC, maybe_await
from .model import Model, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    Block = NotifierBlock[Any, Any, Any]

STACK: ContextVar[tuple[Call, ...]] = ContextVar("calls", default=())
"""The calls that the running code stands inside of, which callbacks have to see (D8)."""

OP: ContextVar[Op] = ContextVar("op")
"""The step of the machine that the running code belongs to."""

FUEL = 30
"""How many things callbacks may do in one step, so that nested calls come to an end."""

DEPTH = 4
"""How deep calls are nested."""

CALM = 8
"""After so many turns of the event loop in which nothing happens, everybody waits."""

ITSELF, NEXT, PREVIOUS = -1, -2, -3


@dataclass(eq=False)
class Record:
    """What a block asks for, as it was given: what the model goes by."""

    block: Block
    names: frozenset[str]
    priority: int = 0
    events: frozenset[Any] | None = None
    once: bool = False
    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()


class Act(NamedTuple):
    """Something that a callback does."""

    kind: str
    who: int
    """The number of a block, or `ITSELF`, `NEXT`, `PREVIOUS`."""
    how: str
    plan: Any = None
    """A `Layer`, or the `Plan` of a call."""


class Plan(NamedTuple):
    """How to call."""

    kind: str = "call"
    event: Any = "up"
    limit: int = -1
    step: int = 1


class Script(NamedTuple):
    """What a callback does, and then gives."""

    acts: tuple[Act, ...] = ()
    gives: Any = None
    """A result, or what makes one or an exception."""


class Layer(NamedTuple):
    """A name filter, as the model sees it."""

    names: tuple[str, ...]
    denies: bool = False

    def admits(self, record: Record) -> bool:
        return self.denies is not any(self.names_it(entry, record) for entry in self.names)

    def names_it(self, entry: str, record: Record) -> bool:
        return any(fnmatchcase(name, entry) for name in record.names)

    def real(self) -> Any:
        made = NameFilter(self.names)
        return ~made if self.denies else made


class MarkError(BaseException):
    """Stands for a cancellation that reaches a callback which is not ours."""


class BrokenError(Exception):
    """What an observer raises."""


class PassingError(BaseException):
    """What no policy holds back."""


class OddInt(int):
    """A result of a type that is looked at closely."""


def coroutine() -> Any:
    """Make an answer that is no result, and has to be closed."""

    async def late() -> None: ...

    return late()


GIVES: list[Any] = [
    *(None, 0, 1, 0x8001, 0x8002, 23, -1, -16, -0x8000, -0x10000, 1 << 40, True, False, OddInt(1)),
    *(notifier_from_errno(-errno.EBUSY), "", 0.0, b"no", (), coroutine),
    *(ValueError, RecursionError, KeyboardInterrupt, GeneratorExit, PassingError),
    *(partial(VetoError, errno.EBUSY, "busy"), partial(VetoError, errno.EPERM)),
]
"""Results of every kind, no results, and exceptions of every kind."""


def cancelled() -> type[BaseException]:
    return anyio.get_cancelled_exc_class()


def same(expected: Any, got: Any) -> bool:
    """Say whether what came out is what had to."""
    if isinstance(expected, list):
        return (
            isinstance(got, ExceptionGroup)
            and len(expected) == len(got.exceptions)
            and all(same(one, it) for one, it in zip(expected, got.exceptions, strict=True))
        )
    if isinstance(expected, RefusedError):
        return type(got).__name__ == str(expected)
    if isinstance(expected, MarkError | cancelled()):
        return isinstance(got, cancelled())
    if isinstance(expected, BaseException):
        return got is expected or type(got) is type(expected) is InvalidResultError
    return isinstance(got, int) and bool(got == expected)


def concurrent(model: Model, event: Any, ran: list[Any]) -> Any:
    """Say as `Model` would what `call_concurrent` does, where no callback suspends."""
    result, failures = 0, list[Exception]()
    for _, together in groupby(model.active(), lambda one: one.priority):
        band, said = list(together), dict[Any, Any]()
        for one in sorted(band, key=lambda one: one.block.is_async):
            alone = list[Any]()
            outcome = yield from model.walk([one], event, alone, "raise", -1)
            ran += alone
            is_held_back = isinstance(outcome, Exception) and model.errors != "raise"
            if isinstance(outcome, BaseException) and not is_held_back:
                return outcome
            said |= dict.fromkeys(alone, outcome)
        called = [said[one] for one in band if one in said]
        failures += [one for one in called if isinstance(one, Exception)]
        results = [one if isinstance(one, int) else 0 for one in called]
        stops = [one for one in results if one & NOTIFY_STOP_MASK]
        result = [result, *results[-1:], *stops[:1]][-1]
        if stops:
            break
    return failures if failures and model.errors == "collect" else result


class Watcher(Observer):
    """Counts what it is told, beside what it had to be told; it may raise when it is told again."""

    def __init__(self, patience: int = sys.maxsize) -> None:
        self.told, self.due = Counter[str](), Counter[str]()
        self.patience = patience

    def note(self, what: str) -> None:
        self.patience -= 1
        if self.patience < 0:
            raise BrokenError
        self.told[what] += 1

    def registered(self, chain: Any, block: Any) -> None:
        self.note("registered")

    def unregistered(self, chain: Any, block: Any) -> None:
        self.note("unregistered")

    def parked(self, chain: Any, block: Any) -> None:
        self.note("parked")

    def callback_started(self, call: Any, block: Any) -> None:
        self.note("started")

    def has_to_be(self, *, attached: bool) -> bool:
        """Say whether it was told what it had to be; after it has raised, nothing more (D15)."""
        if self.patience < 0:
            return self.patience == -1 and not attached
        return +self.told == +self.due


class Op:
    """A step of the machine, in a task of its own."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()


@dataclass(eq=False)
class Wait:
    """Somebody who may have to wait: a writer, or a call that has not begun."""

    is_writer: bool = True
    leaver: Block | None = None
    """Whom a writer takes off, where that is when its turn comes."""
    walks: list[Call] = field(default_factory=list)
    """Those that a writer waits for, where that is known."""
    refusal: str | None = None
    """The error that had to come at once instead."""


class Call:
    """A call, and the model's walk beside it. It is the data of its own event."""

    def __init__(self, duo: Duo, plan: Plan) -> None:
        self.duo, self.plan = duo, plan
        self.undo = "un" + "do" if plan.kind == "robust" else None
        self.ran: list[Record] = []
        self.holds: list[Block] = []
        self.watched: list[Any] = []
        self.walk: Any = None
        self.said: Any = None
        self.outcome: Any = None
        self.is_undoing = False
        self.op, self.outer = OP.get(), STACK.get()
        self.task = anyio.get_current_task().id
        self.wait = Wait(is_writer=False)

    @property
    def is_shielded(self) -> bool:
        return any(call.is_undoing for call in (*self.outer, self))

    def begin(self) -> None:
        """See who is there (D2)."""
        model, plan, duo = self.duo.model, self.plan, self.duo
        if plan.kind == "concurrent":
            self.walk = concurrent(model, plan.event, self.ran)
        elif plan.kind == "robust":
            self.walk = model.robust(plan.event, self.undo, self.ran, plan.step)
        else:
            limit = plan.limit if plan.kind == "report" else -1
            self.walk = model.call(plan.event, self.ran, limit)
        here = model.active()
        self.holds = [
            one.block for one in here if one.events is None or plan.event in list(one.events)
        ]
        self.watched = duo.watched.copy()
        duo.calls.append(self)
        duo.waits.remove(self.wait)

    def advance(self, entered: Sequence[Block] = ()) -> Any:
        """Tell the model what was said; give whom it has called next."""
        self.duo.ticks += 1
        self.duo.note_leavers(entered)
        if self.walk is None:
            self.begin()
        try:
            return self.walk.send(self.said)  # at first nobody has said anything
        except StopIteration as end:
            self.outcome = end.value
            return None

    def enter(self, homes: Sequence[Block], event: Any) -> Block:
        """Compare who is called, one of those that share a callback, with who had to be."""
        if self.duo.is_closing:
            return homes[0]
        due = self.advance(homes)
        expect = self.duo.expect
        expect(due is not None, f"{homes} was called, and the walk had to be over")
        block: Block = due[0].block
        expect(any(one is block for one in homes), f"{homes} was called instead of {block}")
        expect(due[1] is event, f"{block} heard {event!r} instead of {due[1]!r}")
        expect(STACK.get()[-1:] == (self,), "a callback does not see its caller's context")
        self.said, self.is_undoing = None, event is self.undo
        for one in self.watched:
            one.observer.due["started"] += one.is_attached
        if due[0].once:
            self.duo.tell("unregistered")
        return block

    def end(self, got: Any) -> None:
        """Compare what came of it with what had to."""
        duo = self.duo
        if duo.is_closing:
            return
        if self.walk is None and isinstance(got, cancelled()):
            duo.waits.remove(self.wait)
            return
        due = self.advance()
        duo.expect(due is None, f"{due and due[0].block} was not called; the call gave {got!r}")
        duo.calls.remove(self)
        result = got if isinstance(got, int | BaseException) else got.result
        duo.expect(same(self.outcome, result), f"it gave {got!r} instead of {self.outcome!r}")
        if result is not got:
            self.compare(got)

    def compare(self, report: Any) -> None:
        ran = [one.block for one in self.ran]
        stopped = report.result & NOTIFY_STOP_MASK
        told = (report.nr_calls, [one.block for one in report.calls], report.stopped_by)
        due = (len(ran), ran, ran[-1] if stopped else None)
        self.duo.expect(told == due, f"the report says {told} instead of {due}")


class Tap:
    """A stream, and a model of its buffer."""

    def __init__(self, duo: Duo, size: int, overflow: str, **options: Any) -> None:
        self.duo, self.size, self.overflow = duo, size, overflow
        self.buffer: deque[Any] = deque()
        self.waiting: list[tuple[Call, Any]] = []
        self.reader: Op | None = None
        self.handed: list[Any] = []
        self.dropped = 0
        self.is_open = False
        self.stream = duo.chain.stream(
            where=self.where, max_buffer_size=size, overflow=overflow, **options
        )
        self.block: Block = self.stream._block

    def where(self, event: Any, call: Call) -> bool:
        call.enter([self.block], event)
        wanted = bool(event != "down")
        if wanted:
            call.said = self.push(call, (event, call))
        return wanted

    def push(self, call: Call, pair: Any) -> Any:
        """Take an event, or do what is to be done when there is no room."""
        if self.reader and self.duo.flavour in ASYNC and not self.handed:
            self.handed.append(pair)  # to who waits for it; in any thread, it must go the long way
        elif len(self.buffer) < self.size:
            self.buffer.append(pair)
        elif self.overflow == "wait":
            self.waiting.append((call, pair))
        elif self.overflow == "raise":
            return RefusedError("StreamOverflowError")
        else:
            self.dropped += 1
            if self.overflow == "drop_oldest":
                self.buffer.popleft()
                self.buffer.append(pair)
        return None

    def pop(self) -> Any:
        if self.handed:
            return self.handed.pop()
        pair = self.buffer.popleft()
        if self.waiting:
            self.buffer.append(self.waiting.pop(0)[1])
        return pair

    def forget(self, op: Op) -> None:
        """Let go of the calls that are cancelled, where they are not shielded."""
        for call, _ in self.waiting:
            if call.op is op and not call.is_shielded:
                call.said = MarkError()
        self.waiting = [one for one in self.waiting if one[0].said is None]


class Duo:
    """A chain and its model."""

    def __init__(self, flavour: type[Any], walk: str, errors: str) -> None:
        paced = {"checkpoint_every": sys.maxsize} if flavour in ASYNC else {}
        self.chain = flavour("chain", errors=errors, **paced)
        self.other = AtomicChain[Any, Any]("other")
        self.flavour, self.prefix = flavour, walk.removesuffix("call")
        world: list[Model] = []
        self.model = Model(world, errors, self.admits)
        self.other_model = Model(world, errors, lambda _record: True)
        world += (self.model, self.other_model)
        self.layers: list[Layer | None] = [None]
        self.records: dict[Block, Record] = {}
        self.scripts: dict[Block, Script] = {}
        self.made: list[Block] = []
        self.shared: dict[bool, tuple[Any, list[Block]]] = {}
        self.taps: list[Tap] = []
        self.calls: list[Call] = []
        self.waits: list[Wait] = []
        self.held: list[anyio.Event] = []
        self.watched: list[Any] = []
        self.opened: list[tuple[Any, Layer]] = []
        self.failures: list[BaseException] = []
        self.fuel = self.ticks = 0
        self.is_closing = False

    # What the model leaves out.

    def admits(self, record: Record) -> bool:
        return all(layer is None or layer.admits(record) for layer in self.layers)

    def expect(self, holds: bool, message: str) -> None:
        """Fail, also where a policy would hold the failure back."""
        if not holds and not self.is_closing:
            self.failures.append(AssertionError(message))
            raise self.failures[-1]

    def tell(self, what: str, number: int = 1) -> None:
        for one in self.watched:
            one.observer.due[what] += number * one.is_attached

    def is_on(self, block: Block) -> bool:
        return any(one.block is block for one in self.model.records)

    @property
    def is_busy(self) -> bool:
        """Whether a writer would have to wait for the lock."""
        return self.flavour is BlockingChain and bool(self.calls or self.waits)

    def holders(self, *blocks: Block) -> list[Call]:
        """Give the walks that a writer of an SRCU chain has to wait for."""
        if self.flavour is not SrcuChain:
            return []
        return [call for call in self.calls if any(one in call.holds for one in blocks)]

    def refusal(self, how: str, holders: list[Call]) -> str | None:
        """Say how somebody is refused who would have to wait where he cannot."""
        inside, guarded = STACK.get(), self.flavour is BlockingChain
        if how == "plain" and (inside if guarded else {*inside} & {*holders}):
            return "WouldDeadlockError"
        return "WouldBlock" if how == "nowait" and (self.is_busy or holders) else None

    def leave(self, block: Block) -> None:
        self.model.unregister(block)
        self.tell("unregistered")
        for tap in self.taps:
            if tap.block is block:  # whoever waits for room goes on, and its event is not read
                tap.waiting.clear()

    def note_leavers(self, entered: Sequence[Block] = ()) -> None:
        """See whom writers have taken off whose turn has come; not who was entered ``once``."""
        for wait in self.waits:
            if wait.leaver is None or wait.leaver.chain is not None:
                continue
            if wait.leaver in entered and self.records[wait.leaver].once:
                continue
            if self.is_on(wait.leaver):
                self.expect(not self.calls, f"{wait.leaver} left in the middle of a walk")
                self.leave(wait.leaver)
                wait.leaver = None

    def refilter(self, layers: list[Layer | None]) -> None:
        before = {one.block for one in self.model.active()}
        self.layers = layers
        self.model.records = [
            one if self.admits(one) else replace(one) for one in self.model.records
        ]
        after = {one.block for one in self.model.active()}
        self.tell("parked", len(before - after))
        self.tell("registered", len(after - before))

    # Doing something to both.

    async def attempt(self, make: Callable[[], Any], wait: Wait) -> BaseException | None:
        self.waits.append(wait)
        try:
            await maybe_await(make())
        except BaseException as error:
            return error
        finally:
            self.waits.remove(wait)
            self.ticks += 1
        return None

    def compare(self, got: BaseException | None, due: str | None, what: str) -> None:
        if isinstance(got, cancelled()):
            raise got
        name = None if got is None else type(got).__name__
        self.expect(name == due, f"{what}: {got!r} instead of {due}")

    def join(self, record: Record, *, unique: bool = False) -> str | None:
        try:
            self.model.register(record, unique=unique)
        except RefusedError as error:
            return str(error)
        self.tell("registered" if self.admits(record) else "parked")
        return None

    async def register(
        self,
        block: Block,
        how: str = "plain",
        *,
        unique: bool = False,
        enter: Callable[[], Any] | None = None,
    ) -> bool:
        """Register, and say whether that was granted."""
        due = self.refusal(how, [])
        if self.flavour is AtomicChain and block.is_async:
            due = "AsyncCallbackError"
        member = self.chain.register if how == "plain" else self.chain.register_nowait
        make = enter or partial(member, block, unique_priority=unique)
        got = await self.attempt(make, Wait(refusal=due))
        if due is None and not isinstance(got, cancelled()):
            due = self.join(replace(self.records[block]), unique=unique)
            alone = self.flavour is not BlockingChain or not self.calls
            self.expect(alone, "a walk overlaps a registration")
        self.compare(got, due, f"register {block} {how} unique={unique}")
        return due is None

    async def unregister(
        self, block: Block, how: str = "plain", *, leave: Callable[[], Any] | None = None
    ) -> None:
        holders = self.holders(block)
        due = self.refusal(how, holders) if self.is_on(block) else "NotRegisteredError"
        wait = Wait(walks=holders if how == "plain" else [], refusal=due)
        in_turn = due is None and how == "plain" and self.flavour is BlockingChain
        if in_turn:
            wait.leaver = block
        elif due is None:
            self.leave(block)
        member = getattr(self.chain, "unregister" + ("" if how == "plain" else f"_{how}"))
        got = await self.attempt(leave or partial(member, block), wait)
        if in_turn:
            due = None if wait.leaver is None or self.is_on(block) else "NotRegisteredError"
            if wait.leaver is not None and self.is_on(block):
                self.expect(block.chain is None, f"{block} is still there")
                self.leave(block)
        minds = leave is None or due != "NotRegisteredError"  # a context does not
        self.compare(got, due if minds else None, f"unregister {block} {how}")
        over = self.calls if in_turn else {*wait.walks} & {*self.calls}
        self.expect(due is not None or not over, f"{block} has left, and may be running")

    async def visit(self, block: Block) -> None:
        """Be on the chain for as long as a context is open, which somebody else ends."""
        context = self.chain.registered(block)
        is_async = self.flavour in ASYNC
        ends = (None, None, None)
        enter = context.__aenter__ if is_async else context.__enter__
        if await self.register(block, enter=enter):
            try:
                await self.hold()
            finally:
                leave = context.__aexit__ if is_async else context.__exit__
                await self.unregister(block, leave=partial(leave, *ends))

    def lend(self, block: Block) -> None:
        """Put a block on another chain, or take it off there."""
        if any(one.block is block for one in self.other_model.records):
            self.other.unregister(block)
            self.other_model.unregister(block)
            return
        due = "AsyncCallbackError" if block.is_async else None
        try:
            if due is None:
                self.other_model.register(replace(self.records[block]))
        except RefusedError as error:
            due = str(error)
        got = None
        try:
            self.other.register(block)
        except Exception as error:
            got = error
        self.compare(got, due, f"lend {block}")

    async def set_filter(self, layer: Layer | None, how: str = "plain") -> None:
        def layers() -> list[Layer | None]:
            return [layer, *self.layers[1:]]

        parks = [one for one in self.model.active() if layer and not layer.admits(one)]
        holders = self.holders(*(one.block for one in parks))
        due = self.refusal(how, holders)
        in_turn = how == "plain" and self.flavour is BlockingChain
        if due is None and not in_turn:
            self.refilter(layers())
        member = self.chain.set_filter
        if how != "plain" and self.flavour in ASYNC:
            member = self.chain.set_filter_nowait
        got = await self.attempt(partial(member, layer and layer.real()), Wait(refusal=due))
        if due is None and in_turn and got is None:
            self.expect(not self.calls, "a walk overlaps a change of the filter")
            self.refilter(layers())
        self.compare(got, due, f"set_filter {layer} {how}")

    def only(self, layer: Layer) -> None:
        layer = Layer(*layer)  # a script may open the same one twice
        context = self.chain.only(*layer.names)
        context.__enter__()
        self.opened.append((context, layer))
        self.refilter([*self.layers, layer])

    def leave_only(self, number: int) -> None:
        if self.opened:
            context, layer = self.opened.pop(number % len(self.opened))
            context.__exit__(None, None, None)
            self.refilter([one for one in self.layers if one is not layer])

    async def call(self, plan: Plan, *, inline: bool = False) -> Any:
        """Call, and give what came of it."""
        prefix = "" if inline else self.prefix
        call = Call(self, plan)
        name, args, options = plan.kind, [plan.event], {}
        if plan.kind == "report":
            options = {"limit": plan.limit}
        elif plan.kind == "robust":
            args.append(call.undo)
            options = {"reverse": plan.step < 0}
            name = "robust_report" if plan.limit % 2 else "robust"
        member = getattr(self.chain, prefix + ("call" if name == "call" else f"call_{name}"))
        refused = not prefix and self.flavour not in ASYNC
        refused = refused and any(one.block.is_async for one in self.model.active())
        self.waits.append(call.wait)
        token = STACK.set((*STACK.get(), call))
        got: Any
        try:
            got = await maybe_await(member(*args, call, **options))
        except BaseException as error:
            got = error
        finally:
            STACK.reset(token)
        if refused:
            self.waits.remove(call.wait)
            self.compare(got, "AsyncCallbackError", "call")
        else:
            call.end(got)
        return got

    # Callbacks.

    def make(
        self, script: Script, *, is_async: bool, name: str, shares: bool = False, **options: Any
    ) -> Block:
        """Make a block whose callback follows a script, or has been in another block before."""
        homes: list[Block] = []

        def quick(event: Any, call: Call) -> Any:
            return at_once(self.play(homes, event, call, inline=True))

        async def slow(event: Any, call: Call) -> Any:
            return await self.play(homes, event, call, inline=False)

        callback: Any = slow if is_async else quick
        if shares and not options.get("once"):  # who is left by one that is entered can be told
            callback, homes = self.shared.setdefault(is_async, (callback, homes))
        made = NotifierBlock[Any, Any, Any](callback, name=name, **options)
        homes.append(made)
        self.made.append(made)
        self.scripts[made] = script
        self.note(made, name, **options)
        return made

    def note(self, block: Block, name: str, *, timeout: Any = None, **options: Any) -> None:
        module = "tocsin.streams" if block in [it.block for it in self.taps] else __name__
        events = options.pop("events", None)
        self.records[block] = Record(
            block,
            frozenset((name, f"{module}:{name}")),
            options.pop("priority", 0),
            None if events is None else frozenset(events),
            options.pop("once", False),
            **{key: frozenset(names) for key, names in options.items()},
        )

    async def play(self, homes: Sequence[Block], event: Any, call: Call, *, inline: bool) -> Any:
        block = call.enter(homes, event)
        in_band = any(one.plan.kind == "concurrent" for one in STACK.get())
        same_task = anyio.get_current_task().id == call.task
        self.expect(in_band or same_task, "a callback runs in another task")
        script = self.scripts[block]
        try:
            for act in script.acts:
                if self.fuel > 0:
                    self.fuel -= 1
                    await self.act(act, block, inline=inline, in_band=in_band)
            call.said = self.answer(script.gives)
        except BaseException as error:
            call.said = error
            is_reached = isinstance(error, cancelled()) and call.is_shielded
            self.expect(not is_reached, "a cancellation has reached a rollback")
            raise
        finally:
            self.ticks += 1
        return call.said

    def answer(self, gives: Any) -> Any:
        made = gives() if callable(gives) else gives
        if isinstance(made, BaseException):
            raise made
        return made

    def target(self, who: int, block: Block) -> Block:
        known = list(self.records)
        if who >= 0:
            return known[who % len(known)]
        order: list[Block] = [one.block for one in self.model.active()]
        if who == ITSELF or block not in order:
            return block
        return order[(order.index(block) + (1 if who == NEXT else -1)) % len(order)]

    async def act(self, act: Act, block: Block, *, inline: bool, in_band: bool) -> None:
        target = self.target(act.who, block)
        how = act.how
        if how == "plain" and (inline or in_band) and self.flavour in ASYNC:
            how = "nowait"  # it must not suspend
        match act.kind:
            case "register" if target in self.scripts:
                await self.register(target, "plain" if how == "plain" else "nowait")
            case "unregister":
                await self.unregister(target, how)
            case "filter":
                await self.set_filter(act.plan, "plain" if how == "plain" else "nowait")
            case "only" if len(self.opened) < 3:
                self.only(act.plan)
            case "leave":
                self.leave_only(act.who)
            case "call" if self.may_call(act.plan, inline=inline, in_band=in_band):
                got = await self.call(act.plan, inline=inline)
                passes = not isinstance(got, Exception) or act.how == "nosync"
                if isinstance(got, BaseException) and passes:
                    raise got
            case "hold" if not (inline or in_band or self.is_closing):
                await self.hold()
            case _:
                return

    def may_call(self, plan: Plan, *, inline: bool, in_band: bool) -> bool:
        if len(STACK.get()) >= DEPTH:
            return False
        if self.flavour in ASYNC and inline:
            return False
        if plan.kind == "concurrent" and not self.may_run_bands:
            return False
        # A band suspends where it ends, so one in another would let that one's blocks overlap.
        return not (in_band and (self.waits or plan.kind == "concurrent"))

    @property
    def may_run_bands(self) -> bool:
        """Whether there are bands, and no stream could suspend one, as the model cannot say."""
        return self.flavour in ASYNC and all(tap.overflow != "wait" for tap in self.taps)

    async def hold(self) -> None:
        event = anyio.Event()
        self.held.append(event)
        try:
            await event.wait()
        finally:
            if event in self.held:
                self.held.remove(event)

    # The steps of the machine.

    async def run(self, op: Op, step: Callable[[], Any]) -> None:
        OP.set(op)
        with op.scope:
            try:
                await maybe_await(step())
            except cancelled():
                raise
            except BaseException as error:
                self.failures.append(error)

    async def quiet(self) -> None:
        """Wait until everybody waits."""
        calm = 0
        while calm < CALM:
            before = self.ticks
            await checkpoint()
            calm = calm + 1 if self.ticks == before else 0

    def cancel(self, op: Op) -> None:
        for tap in self.taps:
            tap.forget(op)
        op.scope.cancel()

    async def open_tap(self, tap: Tap, name: str, **options: Any) -> None:
        self.taps.append(tap)
        self.note(tap.block, name, **options)
        got = await self.attempt(tap.stream.__aenter__, Wait())
        due = None
        if isinstance(got, cancelled()):
            self.taps.remove(tap)
            del self.records[tap.block]
        else:
            due = self.join(replace(self.records[tap.block]))
            tap.is_open = True
        self.compare(got, due, "stream")

    async def read(self, tap: Tap) -> None:
        """Read an event, or wait for one. One reads at a time."""
        if tap.buffer and self.flavour in ASYNC:
            due = tap.pop()
            self.same_pair(await anext(tap.stream), due)
        elif tap.reader is None:
            tap.reader = OP.get()
            try:
                got = await anext(tap.stream)
                self.expect(bool(tap.handed or tap.buffer), f"read {got}, which nobody sent")
                self.same_pair(got, tap.pop())
            except StopAsyncIteration:
                is_over = not (tap.handed or tap.buffer) and tap.block.chain is None
                self.expect(is_over, f"{tap.stream} has ended")
            finally:
                tap.reader = None
                self.ticks += 1

    def same_pair(self, got: Any, due: Any) -> None:
        self.expect(got[1] is due[1] and got[0] is due[0], f"read {got} instead of {due}")

    async def close_tap(self, tap: Tap) -> None:
        while tap.buffer:
            await self.read(tap)
        self.taps.remove(tap)
        if self.is_on(tap.block):
            self.leave(tap.block)
        del self.records[tap.block]
        await tap.stream.__aexit__(None, None, None)

    # Looking.

    def check(self) -> None:
        self.note_leavers()
        self.check_table()
        self.check_waits()
        for one in self.watched:
            watcher = one.observer
            is_right = watcher.has_to_be(attached=one.is_attached)
            self.expect(is_right, f"an observer was told {watcher.told} instead of {watcher.due}")
        for tap in self.taps:
            state = tap.stream.statistics()
            told = (state.buffered, state.dropped, state.producers_waiting)
            due = (len(tap.buffer), tap.dropped, len(tap.waiting))
            self.expect(told == due, f"{tap.stream} instead of {due}")
            is_due = tap.handed or tap.buffer or not self.is_on(tap.block)
            self.expect(not (tap.reader and is_due), f"{tap.stream} has a reader who is forgotten")

    def check_table(self) -> None:
        chain, model, expect = self.chain, self.model, self.expect
        active = [one.block for one in model.active()]
        rest = [one for one in model.records if one.block not in active]
        parked = [one.block for one in sorted(rest, key=lambda one: -one.priority)]
        expect(chain.blocks == (*active,) == (*chain,), f"{chain.blocks} instead of {active}")
        expect(chain.parked == (*parked,), f"{chain.parked} are parked instead of {parked}")
        expect(len(chain) == len(active), "len")
        expect(chain.is_empty is not bool(active), "is_empty")
        for block in self.records:
            here = block in active
            told = (block in chain, block.is_parked, block.chain is chain)
            due = (here, block in parked, here or block in parked)
            expect(told == due, f"{block}: {told} instead of {due}")
        names = [
            name
            for layer in self.layers
            if layer
            for name in layer.names
            if not any(layer.names_it(name, one) for one in model.records)
        ]
        unmatched = tuple(dict.fromkeys(names))
        expect(chain.unmatched_names == unmatched, f"{chain.unmatched_names} not {unmatched}")

    def check_waits(self) -> None:
        """See that nobody is forgotten, and nobody waits for nothing."""
        state, writers = self.chain.statistics(), [it for it in self.waits if it.is_writer]
        told = (state.walks_running, state.writers_waiting)
        due = (len(self.calls), len(writers))
        self.expect(told == due, f"walks and writers are {told} instead of {due}")
        self.expect(bool(self.calls) or not self.waits, "somebody waits for nobody")
        for wait in self.waits:
            self.expect(not wait.refusal, f"somebody waits who had to get {wait.refusal}")
            ended = wait.walks and not {*wait.walks} & {*self.calls}
            self.expect(not ended, "a writer waits for walks that have ended")
            only_writers = self.flavour is BlockingChain or wait.is_writer
            self.expect(only_writers, "a call waits on a chain whose calls never wait")


def at_once(step: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that must not suspend."""
    try:
        step.send(None)
    except StopIteration as end:
        return end.value
    step.close()
    raise AssertionError("a sync callback cannot wait")
