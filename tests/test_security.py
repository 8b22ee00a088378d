"""What ``SECURITY.md`` promises, S1 to S8, each by its number."""

from __future__ import annotations

import errno
import functools
import io
import logging
import re
import string
import sys
import time
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import structlog
from structlog.testing import capture_logs

import tocsin
from tocsin import (
    AtomicChain,
    BlockingChain,
    Bus,
    FilterError,
    InvalidTypeError,
    InvalidValueError,
    ModuleHost,
    ModuleLoadError,
    NameFilter,
    NotifierBlock,
    Observer,
    RawChain,
    RollbackError,
    Scope,
    SrcuChain,
    StructlogObserver,
    TocsinError,
    VetoError,
    _log,
    commands,
    errors,
    notifier_from_errno,
)
from tocsin.cli import main
from tocsin.drawings import draw_dot, draw_mermaid
from tocsin.targets import parse_target
from tocsin.testing import Recorder, Sequencer, assert_order, inject_errors

from .flavours import FLAVOURS, SYNC, Rig, maybe_await
from .hostile import SECRET, OddStr, Secret, Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.anyio

EVIL = "x\x1bc\x9b2J\u202e\ud800"
"""A name that resets a terminal, turns the direction of writing, and cannot be encoded."""
PAGE = Path(__file__).parents[1] / "SECURITY.md"


def hear(event: Any, data: Any) -> None:
    """Do nothing."""


def test_each_promise_has_a_test_and_each_test_its_promise() -> None:
    promised = set(re.findall(r"^- \*\*(S\d+)\. ", PAGE.read_text("utf-8"), re.MULTILINE))
    tested = {found[1].upper() for name in globals() if (found := re.match(r"test_(s\d+)_", name))}
    assert promised == tested


# S1: it fails closed.


@pytest.mark.parametrize("text", [",", ";", "a b", ":", ":,b c", "x" * 501])
def test_s1_text_without_a_valid_entry_is_an_error(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_FILTER", text)
    with suppress(FilterError):
        assert NameFilter.parse(text) is not None
    if ";" not in text:
        with pytest.raises(FilterError):
            NameFilter.from_env(OddStr("A_FILTER"))
    with pytest.raises(FilterError, match="environment variable A_FILTER: "):
        Bus.from_env("bus", OddStr("A_FILTER"))


class Apart(str):
    """Text that equals nothing but itself."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


@pytest.mark.parametrize("last", ["a", None])
def test_s1_two_filters_for_one_chain_are_refused(last: str | None) -> None:
    bus = Bus("bus")
    chain = bus.add(AtomicChain[Any, Any]("orders"))
    with pytest.raises(FilterError, match="bus 'bus': there are two filters for chain 'orders'"):
        bus.set_filters({"orders": "a", Apart("orders"): last})
    assert chain.filter is None


def test_s1_blank_names_mean_no_filter_for_that_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_FILTER", "orders= ; mails=a")
    bus = Bus.from_env("bus", "A_FILTER")
    assert bus.add(AtomicChain[Any, Any]("orders")).filter is None
    assert bus.add(AtomicChain[Any, Any]("mails")).filter is not None


def test_s1_surplus_entries_do_not_switch_the_filter_off() -> None:
    made = NameFilter.parse(",".join(f"n{number}" for number in range(17)), limit=16)
    assert made is not None
    assert len(made.names) == 16
    assert not made(NotifierBlock(hear))


@pytest.mark.parametrize("variable", ["A=B", "A\x00", "\ud800"])
def test_s1_a_variable_that_can_never_be_set_is_an_error(variable: str) -> None:
    for read in (NameFilter.from_env, lambda name: Bus.from_env("bus", name)):
        with pytest.raises(InvalidValueError, match="cannot be the name of an env"):
            read(variable)


async def admitted_by_a_coroutine(block: object) -> bool:
    return False


def admitted_by_a_generator(block: object) -> Iterator[bool]:
    yield False


async def admitted_by_an_async_generator(block: object) -> Any:
    yield False


class Awaitable:
    def __await__(self) -> Iterator[None]:
        yield


NO_ANSWERS: dict[str, Callable[[Any], Any]] = {
    "coroutine": lambda block: admitted_by_a_coroutine(block),
    "generator": admitted_by_a_generator,
    "async_generator": admitted_by_an_async_generator,
    "Awaitable": lambda _: Awaitable(),
    "NotImplementedType": lambda _: NotImplemented,
}


@pytest.mark.parametrize("kind", NO_ANSWERS)
@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_s1_a_filter_that_gives_no_answer_admits_nobody(flavour: Any, kind: str) -> None:
    said = f"chain 'c': a filter must give True or False, not {kind};"
    closed = flavour("c", filter=NO_ANSWERS[kind])
    with pytest.raises(InvalidTypeError, match=said):
        closed.register_nowait(hear)
    assert (closed.blocks, closed.parked) == ((), ())
    chain = flavour("c", filter=NameFilter(["nobody"]))
    block = chain.register_nowait(hear)
    with pytest.raises(InvalidTypeError, match=said):
        await maybe_await(chain.set_filter(NO_ANSWERS[kind]))
    assert (chain.blocks, chain.parked, block.is_parked) == ((), (block,), True)
    assert chain.filter.names == ("nobody",)


async def test_s1_a_filter_may_say_yes_and_no_in_other_ways() -> None:
    answers: dict[int, Any] = {0: 0, 1: 2}
    chain = AtomicChain[Any, Any]("c", filter=lambda block: answers[block.priority])
    assert chain.register(hear).is_parked
    assert not chain.register(hear, priority=1).is_parked


# S2: an entry with a module is not passed by a name.

ENTRY = "trusted.plugin:audit"


def audit() -> Callable[[Any, Any], None]:
    """Make a callback of this module that is called as the one that is meant."""

    def audit(event: Any, data: Any) -> None:
        """Do nothing."""

    audit.__qualname__ = "audit"
    return audit


def calling_itself(name: str) -> Any:
    callback = audit()
    callback.__qualname__ = name
    return callback


class Audit:
    def __call__(self, event: Any, data: Any) -> None:
        """Do nothing."""

    def audit(self, event: Any, data: Any) -> None:
        """Do nothing."""


class AuditBlock(NotifierBlock[Any, Any, None]):
    def notifier_call(self, event: Any, data: Any) -> None:
        """Do nothing."""


PRETENDERS: dict[str, Callable[[], NotifierBlock[Any, Any, Any]]] = {
    "its name": lambda: NotifierBlock(hear, name="audit"),
    "its qualname": lambda: NotifierBlock(audit()),
    "a partial": lambda: NotifierBlock(functools.partial(audit()), name="audit"),
    "an object": lambda: NotifierBlock(Audit(), name="audit"),
    "a method": lambda: NotifierBlock(Audit().audit, name="audit"),
    "a subclass": lambda: AuditBlock(name="audit"),
    "a wrapped block": lambda: tocsin.block(name="audit")(NotifierBlock(audit())),
    "the whole entry as its qualname": lambda: NotifierBlock(calling_itself(ENTRY)),
    "a qualname behind locals": lambda: NotifierBlock(calling_itself(f"f.<locals>.{ENTRY}")),
    "a str that equals everything": lambda: NotifierBlock(hear, name=OddStr("audit")),
    "a qualname that equals everything": lambda: NotifierBlock(calling_itself(OddStr(ENTRY))),
}


@pytest.mark.parametrize("pretender", PRETENDERS)
@pytest.mark.parametrize("entry", [ENTRY, "trusted.*:audit", "[t]rusted.plugin:audit"])
def test_s2_a_short_name_does_not_pass_for_one_with_its_module(pretender: str, entry: str) -> None:
    block = PRETENDERS[pretender]()
    assert not NameFilter([entry])(block)
    if ":" not in block.name:
        assert NameFilter([block.qualified_name])(block)


def test_s2_a_module_that_is_a_str_of_its_own_is_taken_as_its_text() -> None:
    callback = audit()
    callback.__module__ = OddStr("\x1bother")
    block = NotifierBlock(callback)
    assert type(block.qualified_name) is str
    assert block.qualified_name == "\x1bother:audit"
    assert not NameFilter([ENTRY])(block)


def test_s2_who_is_meant_passes() -> None:
    callback = audit()
    callback.__module__ = "trusted.plugin"
    for entry in (ENTRY, "trusted.*:audit", "[t]rusted.plugin:audit"):
        assert NameFilter([entry])(NotifierBlock(callback))


@pytest.mark.parametrize("name", ["trusted.plugin:audit", "a,b", "a b", "a\n", "a*", "a?", "[a]"])
def test_s2_a_name_that_an_entry_could_misread_is_refused(name: str) -> None:
    with pytest.raises(InvalidValueError):
        NotifierBlock(hear, name=name)


@pytest.mark.parametrize(
    "other",
    [
        "Audit",
        "AUDIT",
        "\u0430udit",  # Cyrillic
        "\uff41udit",  # full width: the same in NFKC
        "audit\u200b",  # a zero width space, which is no white space
        "audi\u0074\u0301",
        "audit\x00",
        "audit\x1b",
        "\ufeffaudit",
    ],
)
def test_s2_names_are_compared_exactly(other: str) -> None:
    callback = calling_itself(other)
    callback.__module__ = "trusted.plugin"
    assert other != "audit"
    for entry in ("audit", ENTRY, "a?dit", "trusted.plugin:a[u]dit"):
        assert not NameFilter([entry])(NotifierBlock(callback))
        assert (~NameFilter([entry]))(NotifierBlock(callback))


def test_s2_two_forms_of_one_letter_are_two_names() -> None:
    one, other = "caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")
    assert NameFilter([one])(NotifierBlock(hear, name=one))
    assert not NameFilter([one])(NotifierBlock(hear, name=other))


def test_s2_white_space_around_an_entry_is_not_part_of_it_and_inside_is_refused() -> None:
    made = NameFilter.parse(f" {ENTRY}\t, a\u00a0b")
    assert made is not None
    assert made.names == (ENTRY,)


def test_s2_a_chain_cannot_slip_by_its_filter_with_a_str_of_its_own() -> None:
    bus = Bus("bus")
    bus.set_filters({"orders": "nobody"})
    chain = bus.add(AtomicChain(OddStr("orders")))
    assert chain.register(hear).is_parked


# S3: who is left out is not called.


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_s3_who_is_left_out_is_not_called_even_by_a_call_that_has_begun(flavour: Any) -> None:
    rig = Rig(flavour)

    def forbid(event: Any, data: Any) -> None:
        layer = rig.chain.only("first")
        layer.__enter__()

    await rig.add("first", forbid, priority=1)
    await rig.add("second")
    await rig.call("event")
    assert rig.log == ["first"]


# S4 and S5: what is said.


def told(error: BaseException) -> Iterator[str]:
    """Give all that an error of ours says, and those in a group."""
    yield str(error)
    yield from getattr(error, "__notes__", ())
    for one in getattr(error, "exceptions", ()):
        yield from told(one)


class Raised:
    """Collects what is raised by scenarios, each on things with an evil name."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    async def by(self, call: Callable[..., Any], *args: Any, **options: Any) -> None:
        with pytest.raises((TocsinError, RollbackError, ExceptionGroup)) as caught:
            await maybe_await(call(*args, **options))
        self.errors.append(caught.value)


def raise_(error: Exception) -> Callable[[Any, Any], Any]:
    def callback(event: Any, data: Any) -> Any:
        raise error

    return callback


async def registering(raised: Raised) -> None:
    for flavour in FLAVOURS:
        chain = flavour(EVIL)
        block = chain.register_nowait(hear, name=EVIL)
        await raised.by(chain.register_nowait, block)
        await raised.by(chain.register_nowait, hear, unique_priority=True)
        await raised.by(chain.register_nowait, hear, name="a", before=EVIL, after=EVIL)
        await raised.by(chain.register_nowait, hear, name="a", before=["y"], priority=Secret())
        chain.register_nowait(hear, name="a", before=EVIL)
        await raised.by(chain.register_nowait, hear, name="b", before="a", after=EVIL)
        await raised.by(chain.unregister, NotifierBlock(hear, name=EVIL))
        await raised.by(chain.unregister, Secret())
        await raised.by(chain.only, Secret())
        await raised.by(chain.set_filter, Secret())
        await raised.by(flavour, Secret())
        await raised.by(flavour, EVIL, errors=Silent())
        veto = flavour(EVIL, replay=lambda: [(Secret(), Silent())])
        refusing = raise_(VetoError(errno.EBUSY, "no\x1b"))
        await raised.by(veto.register_nowait, refusing, name=EVIL)


async def calling(raised: Raised, event: Any, data: Any) -> None:
    for flavour in FLAVOURS:
        for policy in ("raise", "collect"):
            chain = flavour(EVIL, errors=policy)
            with chain.observe(StructlogObserver()):
                with suppress(TocsinError):
                    chain.register_nowait(hear, name="first", priority=1)
                chain.register_nowait(lambda event, data: data, name=EVIL)
                await raised.by(chain.call, event, data)
                await raised.by(chain.call_robust, event, event, data)
        chain = flavour(EVIL)
        chain.register_nowait(lambda event, data: data and raise_(OSError())(event, data), name="a")
        chain.register_nowait(lambda event, data: notifier_from_errno(-errno.EIO), name=EVIL)
        report = await maybe_await(chain.call_report(event, None))
        await raised.by(report.raise_for_veto)
        rolled = flavour(EVIL)
        rolled.register_nowait(lambda event, data: data if event == "undo" else None, name=EVIL)
        rolled.register_nowait(lambda event, data: tocsin.NOTIFY_BAD, name="no")
        await raised.by(rolled.call_robust, event, "undo", data)
    raw = RawChain[Any, Any](EVIL)

    async def ahear(event: Any, data: Any) -> None:
        """Do nothing."""

    raw.register(ahear, name=EVIL)
    await raised.by(raw.call, event, data)


async def waiting(raised: Raised, event: Any, data: Any) -> None:
    chain = BlockingChain[Any, Any](EVIL)
    await chain.register(lambda event, data: None)

    async def deadlock(event: Any, data: Any) -> None:
        await chain.unregister(block)

    block = await chain.register(deadlock, name=EVIL)
    await raised.by(chain.call, event, data)
    full = SrcuChain[Any, Any](EVIL)
    async with full.stream(max_buffer_size=1, overflow="raise", name=EVIL):
        await full.call(event, data)
        await raised.by(full.call, event, data)

    async def elsewhere() -> None:
        await full.register(hear)

    with pytest.raises(tocsin.WrongLoopError) as caught:
        await anyio.to_thread.run_sync(anyio.run, elsewhere)
    raised.errors.append(caught.value)


async def on_a_bus(raised: Raised, folder: Path) -> None:
    bus, scope = Bus(EVIL), Scope(EVIL)
    chain = bus.add(AtomicChain(EVIL))
    chain.register(hear, name=EVIL)
    await raised.by(bus.add, chain)
    await raised.by(bus.add, Silent())
    await raised.by(bus.remove, EVIL)
    await raised.by(bus.get, f"{EVIL}y")
    await raised.by(bus.get, Silent())
    await raised.by(bus.get, EVIL, SrcuChain)
    await raised.by(bus.set_filters, {EVIL: f"{EVIL} a"})
    await scope.aclose()
    await raised.by(scope.register_nowait, chain, hear)

    host = ModuleHost(bus, exit_timeout=0.001)
    hang = "import anyio\nasync def module_exit(host): await anyio.sleep_forever()\n"
    name = "x\x1bc\x9b2J\u202e"  # a file's name has to be encoded
    file = folder / f"{name}.py"
    file.write_text(hang)
    await host.load(file)
    await raised.by(host.load, file)
    (folder / "user.py").write_text(f"def module_init(host): host.require({name!r})")
    await host.load(folder / "user.py")
    await raised.by(host.unload, name)
    await host.unload("user")
    await raised.by(host.unload, name)
    await raised.by(host.unload, name)
    await raised.by(host.require, name)
    await raised.by(host.require, Silent())
    await raised.by(host.load, EVIL)
    await raised.by(host.load, f"{EVIL}.py")
    file.write_text("raise LookupError('said by the module \\x1b')")
    await raised.by(host.load, file)


async def in_sequence(raised: Raised) -> None:
    sequencer = Sequencer()
    async with anyio.create_task_group() as group:
        waits = sequencer(1)
        group.start_soon(waits.__aenter__)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    await raised.by(sequencer(2).__aenter__)


async def all_raised(folder: Path) -> list[BaseException]:
    raised = Raised()
    await registering(raised)
    for event, data in ((Silent(), Silent()), (Secret(), Secret()), (EVIL, Secret())):
        await calling(raised, event, data)
        await waiting(raised, event, data)
    await on_a_bus(raised, folder)
    await in_sequence(raised)
    return raised.errors


async def test_s4_no_error_of_ours_says_anything_of_an_events_data(tmp_path: Path) -> None:
    found = await all_raised(tmp_path)
    for error in found:
        assert not [words for words in told(error) if SECRET in words]
    kinds = {type(error) for error in found}
    expected = {getattr(errors, name) for name in errors.__all__ if name.endswith("Error")}
    bases = {kind for kind in expected if any(kind in one.__bases__ for one in expected)}
    assert expected - bases - kinds == set()


async def test_s5_no_error_or_note_has_control_characters_in_it(tmp_path: Path) -> None:
    for error in await all_raised(tmp_path):
        for words in told(error):
            assert words.isprintable()


async def test_s5_a_note_shows_no_control_characters_of_a_file() -> None:
    callback = eval(compile("lambda event, data: 1 / 0", EVIL[:-1], "eval"))
    chain = AtomicChain[Any, Any]("c")
    chain.register(callback)
    with pytest.raises(ZeroDivisionError) as caught:
        chain.call("event")
    (note,) = caught.value.__notes__
    assert r"x\x1bc" in note
    assert note.isprintable()


def test_s5_a_warning_of_the_command_has_no_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands._warn(f"of {EVIL[:-1]}")
    assert capsys.readouterr().err.removesuffix("\n").isprintable()


class Failing(Observer):
    def call_started(self, call: Any) -> None:
        raise OSError("of the observer")


async def logged(flavour: Any, event: Any) -> None:
    """Do what is logged, on things with an evil name."""
    chain = flavour(EVIL, errors="isolate")
    with suppress(FilterError):
        NameFilter.parse(f"{EVIL} a,\x1b\t")
    with chain.observe(StructlogObserver()):
        chain.register_nowait(lambda event, data: data, name=EVIL)
        await maybe_await(chain.call(event, Secret()))
        await maybe_await(chain.call_robust(event, event, Silent()))
    with chain.observe(Failing()):
        await maybe_await(chain.call(event, Secret()))
    if flavour in SYNC:
        return
    async with chain.stream(max_buffer_size=1, overflow="drop_oldest", name=EVIL):
        await chain.call(event, Secret())
        await chain.call(event, Secret())


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("event", [Secret(), Silent(), EVIL], ids=["secret", "silent", "text"])
async def test_s4_and_s5_hold_of_log_lines(
    flavour: Any, event: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="tocsin")
    await logged(flavour, event)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) > 5
    for line in lines:
        assert SECRET not in line
        assert line.replace("\n", "").isprintable()  # a traceback has lines


def test_s5_a_log_line_has_no_control_characters_whatever_renders_it() -> None:
    structlog.configure()
    try:
        with capture_logs() as logs:
            _log.warn(f"of {EVIL}", name=EVIL, names=[EVIL])
            with inject_errors(AtomicChain[Any, Any](EVIL), {EVIL: 5}):
                pass
    finally:
        structlog.reset_defaults()
    assert len(logs) == 2
    said = [text for line in logs for text in line.values() if isinstance(text, str)]
    assert len(said) == 6
    assert all(map(str.isprintable, [*said, *logs[0]["names"]])), logs


@pytest.mark.parametrize("make", [StructlogObserver.console, StructlogObserver.json])
async def test_s5_what_an_observer_writes_for_a_console_has_no_control_characters(
    make: Any,
) -> None:
    out = io.StringIO()
    chain = AtomicChain[Any, Any](EVIL)
    with chain.observe(make(out)):
        chain.register(hear, name=EVIL)
        chain.call(EVIL)
        chain.call("\nfaked line")
    lines = out.getvalue().splitlines()
    assert len(lines) == 9
    assert all(map(str.isprintable, lines)), lines


class Steering:
    def __repr__(self) -> str:
        return EVIL


def test_s4_and_s5_hold_of_a_recorders_failed_assertions_but_for_events() -> None:
    recorder = Recorder[Any, Any](name=EVIL)
    for event in (EVIL, Steering(), 10**5000, [10**5000], Silent()):
        recorder(event, Secret())
    claims: list[Callable[[], None]] = [
        recorder.assert_not_called,
        lambda: recorder.assert_called_once_with(Steering()),
        lambda: recorder.assert_any_call(EVIL, type(EVIL[:-1], (), {})()),
        lambda: recorder.assert_order(Steering()),
        lambda: assert_order((recorder, EVIL), (Recorder(name=EVIL), Steering())),
    ]
    for claim in claims:
        with pytest.raises(AssertionError) as caught:
            claim()
        assert str(caught.value).replace("\n", "").isprintable()
        assert SECRET not in str(caught.value)


def test_s5_nothing_that_is_drawn_has_control_characters_in_it() -> None:
    bus = Bus(EVIL)
    bus.set_filters({EVIL: f"{EVIL}, y*", "\x1b": "\x1b"})
    with Scope(EVIL).ambient():
        chain = bus.add(AtomicChain[Any, Any](EVIL))
        chain.register(calling_itself(f"\n{EVIL}"), events=EVIL)
        chain.register(hear, name=EVIL, before="\x1b", after="m\x9b:n")
    drawn = (bus.describe(), draw_mermaid(bus.snapshot()), draw_dot(bus.snapshot()))
    for text in drawn:
        assert text.replace("\n", "").isprintable()
    with chain.only(EVIL):
        assert bus.describe().replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "\x1b[2J"],
        ["run", "\x1b[2J.py"],
        ["run", "--filter", "\x1b[2J", "x"],
        ["describe", "\x1b[2J"],
        ["describe", "sys:\u202e"],
        ["\x1b[2J"],
        ["run", "--\x1b[2J"],
        ["run", "--filter", "\x1b[2J=\x1b[2J", "PLUGIN"],
    ],
)
def test_s5_the_command_says_nothing_raw(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plugin = tmp_path / "plugin_that_is_well.py"
    plugin.write_text("")
    path = sys.path.copy()
    with suppress(SystemExit):
        main([str(plugin) if one == "PLUGIN" else one for one in arguments])
    sys.path[:] = path
    said = capsys.readouterr()
    assert said.err.startswith("tocsin: ")
    assert said.err.endswith("\n")
    assert said.err.replace("\n", "").isprintable()
    assert said.out == ""


# S6 and S7: what is loaded.


@pytest.mark.parametrize(
    "spec",
    [
        *("json", "signal", "os.path", "tocsin", "tocsin.errors", "__main__", "builtins", "../x"),
        *("", " ", ".", "..", "a b", "a\x00", "\ud800", "\x00.py", "\ud800.py", "x" * 5000, "/"),
        *("x" * 5000 + ".py", "nowhere.py", ".py", "/.py", "import", "a.import", "./a", "a:b"),
    ],
)
async def test_s6_what_is_refused_has_not_run(spec: str) -> None:
    with suppress(ModuleLoadError):  # what is imported for that first stays
        await ModuleHost(Bus("bus")).load(spec)
    before = dict(sys.modules)
    host = ModuleHost(Bus("bus"))
    with pytest.raises(ModuleLoadError) as caught:
        await host.load(spec)
    assert str(caught.value).isprintable()
    assert sys.modules == before
    assert host.modules == ()


async def test_s6_the_file_of_a_module_of_pythons_is_refused_under_its_name() -> None:
    there = string
    with pytest.raises(ModuleLoadError, match="there is another module of that name"):
        await ModuleHost(Bus("bus")).load(string.__file__)
    assert sys.modules["string"] is there


@pytest.mark.parametrize("name", ["json", "tocsin", "sys", "not an identifier", "."])
async def test_s6_a_file_is_no_module_that_is_there_already(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.py"
    file.write_text("1 / 0")
    before = dict(sys.modules)
    with pytest.raises(ModuleLoadError) as caught:
        await ModuleHost(Bus("bus")).load(file)
    assert sys.modules == before
    ran = isinstance(caught.value.__cause__, ZeroDivisionError)
    assert ran == (name in {"not an identifier", "."})  # no import could mean these


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"1 / 0\n\x00", "null bytes"),
        (b"1 / 0\n(", "SyntaxError"),
        (b"# coding: rot13\n1 / 0", "LookupError: .*rot13"),
        (b"1 / 0\n\xff", "SyntaxError|UnicodeDecodeError|utf-8"),
        (b"1 / 0\nREQUIRES = __import__('os').getcwd()", "must be one literal"),
        (b"1 / 0\nREQUIRES = [1]", "must be one literal"),
        (b"REQUIRES = 'no_such_module'\n1 / 0", "no_such_module"),
    ],
)
async def test_s6_a_module_that_cannot_be_read_or_lacks_something_has_not_run(
    content: bytes, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "fuzzed_plugin.py"
    file.write_bytes(content)
    with pytest.raises(tocsin.ModuleError, match=said) as caught:
        await ModuleHost(Bus("bus")).load(file)
    assert not isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "fuzzed_plugin" not in sys.modules


async def test_s6_a_directory_and_a_path_that_is_gone_are_no_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder.py"
    folder.mkdir()
    host = ModuleHost(Bus("bus"))
    with pytest.raises(ModuleLoadError, match="there is no file"):
        await host.load(folder)
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(ModuleLoadError, match="the current directory is gone; give a full path"):
        await host.load("plugin.py")


async def test_s6_an_entry_point_that_names_no_module_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from importlib import metadata

    broken = metadata.EntryPoint.__new__(metadata.EntryPoint)
    vars(broken).update(name="plugin", value="not a module!", group="tocsin.modules")
    monkeypatch.setattr(metadata, "entry_points", lambda **_: [broken])
    with pytest.raises(ModuleLoadError, match=r"entry point plugin .* does not say which module"):
        await ModuleHost(Bus("bus")).load("plugin")


@pytest.mark.parametrize(
    "text",
    [
        *("os:system('id')", "os:system(1)", "os:__import__('x')()", "a:b;c", "a:b\n", "a:b[0]"),
        *("__import__('os'):x", "a:b()()", "../x:y", "a:b+c", "a: b", "a:b\x00"),
    ],
)
def test_s7_a_target_is_names_only(text: str) -> None:
    with pytest.raises(InvalidValueError):
        parse_target(text)


# S8: sizes. The bounds are wide: a busy machine is no finding, but a power of the size is one.


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        ",".join(["[" * 499] * 200),
        ",".join(f"n{number}" for number in range(20_000)),
        "*a" * 50_000,
        "," * 100_000,
    ],
    ids=["brackets", "entries of brackets", "names", "stars", "commas"],
)
def test_s8_long_text_is_read_in_a_moment(text: str) -> None:
    began = time.process_time()
    with suppress(FilterError):
        NameFilter.parse(text)
    assert time.process_time() - began < 5


def test_s8_what_is_known_is_compared_in_a_moment() -> None:
    entries = [f"{kind}{number}" for number in range(150) for kind in ("name", "glob*")]
    began = time.process_time()
    made = NameFilter.parse(",".join(entries), known=[f"name{number}" for number in range(1000)])
    assert time.process_time() - began < 1
    assert made is not None
    assert made.names == tuple(entries[::2])


def test_s8_a_match_takes_no_exponential_time() -> None:
    glob = NameFilter(["*a" * 200 + "b"])
    began = time.process_time()
    assert not glob(NotifierBlock(hear, name="a" * 2000))
    assert time.process_time() - began < 5


def test_s8_an_entry_has_a_longest_length() -> None:
    assert NameFilter(["x" * 500]).names == ("x" * 500,)
    with pytest.raises(FilterError, match="it is longer than 500 characters"):
        NameFilter(["x" * 501])


def test_s8_a_priority_is_bounded() -> None:
    with pytest.raises(InvalidValueError):
        NotifierBlock(hear, priority=1 << 2001)
