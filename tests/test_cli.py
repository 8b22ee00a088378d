"""The command line loads modules in order and unloads them in reverse, on both backends."""

from __future__ import annotations

import ctypes
import errno
import importlib
import io
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import textwrap
from functools import partial
from importlib.metadata import version
from operator import call
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from tocsin.cli import main
from tocsin.commands import tocsin

BACKENDS = ["asyncio", "trio"]


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def environment() -> dict[str, str]:
    """Leave out what measures coverage, which hooks signals, and what keeps buffers away."""
    left_out = ("COV", "PYTHONUNBUFFERED")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Folder:
    """Where modules are written that say when they come and go."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, name: str, init: str = "", end: str = "", head: str = "") -> str:
        lines = [
            textwrap.dedent(head),
            "async def module_init(host):",
            f"    print('{name} in')",
            *textwrap.indent(textwrap.dedent(init), "    ").splitlines(),
            "def module_exit(host):",
            f"    print('{name} out')",
            *textwrap.indent(textwrap.dedent(end), "    ").splitlines(),
        ]
        (self.path / f"{name}.py").write_text("\n".join([*lines, ""]))
        return f"{name}.py"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return Folder(tmp_path)


class Result:
    def __init__(self, status: object, captured: Any) -> None:
        self.status = status
        self.said = captured.out.splitlines()
        self.errors = captured.err.splitlines()


def run_main(capsys: pytest.CaptureFixture[str], *arguments: str) -> Result:
    try:
        main(arguments)
    except SystemExit as ended:
        return Result(ended.code, capsys.readouterr())
    return Result(0, capsys.readouterr())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    return partial(run_main, capsys)


# Running.


def test_modules_are_loaded_in_order_and_unloaded_in_reverse(
    write: Folder, run: Any, backend: str
) -> None:
    show = "from anyio import get_cancelled_exc_class as get\nprint(get().__module__.split('.')[0])"
    result = run("run", "--backend", backend, write("one", show), write("two"))
    assert (result.status, result.errors) == (0, [])
    assert result.said == ["one in", backend, "two in", "two out", "one out"]


def test_a_dotted_name_is_looked_for_in_the_current_directory(write: Folder, run: Any) -> None:
    write("one")
    assert run("run", "one").said == ["one in", "one out"]


def test_python_dash_m_is_the_same_command(
    write: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tocsin", "run", write("one")])
    # Not by runpy, which cannot use the loader that pytest has for a package with a plugin.
    monkeypatch.delitem(sys.modules, "tocsin.__main__", raising=False)
    importlib.import_module("tocsin.__main__")
    assert capsys.readouterr().out == "one in\none out\n"


def test_filters_hold_for_the_chains_of_the_bus(write: Folder, run: Any) -> None:
    call = """
    from tocsin import AtomicChain
    for name in ("a", "b"):
        chain = host.bus.add(AtomicChain(name))
        for who in ("x", "y", "z"):
            chain.register(print, name=who)
        print(name, [block.name for block in chain])
        for block in (*chain, *chain.parked):
            chain.unregister(block)
    """
    one = write("one", call)
    assert run("run", "--filter", "a=x,y", one).said[1:3] == ["a ['x', 'y']", "b ['x', 'y', 'z']"]
    result = run("run", "--filter", "a=x", "--filter", "b=z", "--filter", "a=z", one)
    assert result.said[1:3] == ["a ['x', 'z']", "b ['z']"]
    assert run("run", "--filter", "a=", one).said[1:3] == [
        "a ['x', 'y', 'z']",
        "b ['x', 'y', 'z']",
    ]


def test_a_filter_that_fits_nothing_is_told(write: Folder, run: Any) -> None:
    add = """
    from tocsin import AtomicChain
    host.bus.add(AtomicChain("a")).register(print, name="x")
    """
    result = run("run", "--filter", " a =x,y", "--filter", "b=x", write("one", add))
    assert result.status == 0
    assert result.errors[:2] == [
        "tocsin: warning: --filter a: no block has been called y",
        "tocsin: warning: --filter b: no chain of that name has appeared",
    ]


SHOW_FILTERS = """
from tocsin import AtomicChain
for name in ("a", "b", "c"):
    print(name, host.bus.add(AtomicChain(name)).filter)
"""


def test_filters_come_from_the_environment_and_the_command_line_wins_for_each_chain(
    write: Folder, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOCSIN_FILTERS", "a=x; b=x; c=x")
    result = run("run", "--filter", "a=y;b=", "--filter", "a=z", write("one", SHOW_FILTERS))
    assert result.said[1:-1] == ["a NameFilter(['y', 'z'])", "b None", "c NameFilter(['x'])"]


def test_a_filter_of_the_environment_that_fits_nothing_is_told(
    write: Folder, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOCSIN_FILTERS", "a=x; d=x")
    result = run("run", "--filter", "", "--filter", "e=x", write("one", SHOW_FILTERS))
    assert (result.status, result.errors) == (
        0,
        [
            "tocsin: warning: TOCSIN_FILTERS a: no block has been called x",
            "tocsin: warning: TOCSIN_FILTERS d: no chain of that name has appeared",
            "tocsin: warning: --filter e: no chain of that name has appeared",
        ],
    )


def test_malformed_filters_of_the_environment_are_one_line(
    write: Folder, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOCSIN_FILTERS", "a=x; b")
    result = run("run", write("one"))
    assert (result.status, result.said) == (1, [])
    assert result.errors == [
        "tocsin: environment variable TOCSIN_FILTERS: 'b' is not of the form CHAIN=NAME,NAME"
    ]


# Errors.


@pytest.mark.parametrize("stay", [[], ["--stay"]])
def test_a_failing_load_is_one_line_and_what_was_loaded_is_unloaded(
    write: Folder, run: Any, backend: str, stay: list[str]
) -> None:
    bad = write("bad", "raise RuntimeError('a\\nb')")
    result = run("run", "--backend", backend, *stay, write("one"), bad, write("two"))
    assert result.status == 1
    assert result.said == ["one in", "bad in", "one out"]
    assert result.errors == [
        f"tocsin: bad was not loaded: RuntimeError: a b ({write.path / bad}, line 4)"
    ]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["user.py"], "user needs one, which is not loaded; load one first"),
        (["one.py", "one.py"], "one is loaded already"),
        (["missing.py"], "missing was not loaded: there is no file"),
        (["broken.py"], "broken was not loaded: SyntaxError: invalid syntax ("),
        (["quits.py"], "quits was not loaded: SystemExit: 0 ("),
        (["ends.py"], "ends was not loaded: EOFError ("),
        (["pipe.py"], "pipe was not loaded: BrokenPipeError: [Errno 32] Broken pipe ("),
        (["silent.py"], "silent was not loaded: Silent: (its text raised KeyError) ("),
    ],
)
def test_what_is_wrong_with_a_module_is_one_line(
    write: Folder, run: Any, arguments: list[str], error: str
) -> None:
    write("one")
    write("user", head="REQUIRES = 'one'")
    write("quits", head="import sys; sys.exit(0)")
    write("ends", head="raise EOFError")
    write("pipe", "import errno; raise OSError(errno.EPIPE, 'Broken pipe')")
    silent = "class Silent(Exception):\n    def __str__(self): raise KeyError"
    write("silent", "raise Silent", head=silent)
    (write.path / "broken.py").write_text("def f(:\n")
    result = run("run", *arguments)
    assert result.status == 1
    assert len(result.errors) == 1, result.errors
    assert result.errors[0].startswith(f"tocsin: {error}")


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("raise RuntimeError('no')", "RuntimeError: no"),
        ("raise EOFError", "EOFError"),
        ("import errno; raise OSError(errno.EPIPE, 'no')", "BrokenPipeError: [Errno 32] no"),
        ("raise SystemExit(0)", "SystemExit: 0 (BAD, line 6)"),
    ],
)
def test_a_failing_unload_is_one_line_and_the_others_are_unloaded(
    write: Folder, run: Any, end: str, said: str
) -> None:
    bad = write("bad", end=end)
    result = run("run", write("one"), bad, write("two"))
    note = "(raised by module_exit of bad, which was unloaded all the same)"
    said = said.replace("BAD", str(write.path / bad))
    assert (result.status, result.errors) == (1, [f"tocsin: {said} {note}"])
    assert result.said[3:] == ["two out", "bad out", "one out"]


def test_several_failing_unloads_are_one_line(write: Folder, run: Any) -> None:
    ends = [write(name, end="raise KeyError") for name in ("one", "two")]
    note = "(raised by module_exit of {}, which was unloaded all the same)"
    errors = "; ".join(f"KeyError {note.format(name)}" for name in ("two", "one"))
    assert run("run", *ends).errors == [f"tocsin: {errors}"]


def test_a_failing_unload_does_not_hide_a_failing_load(write: Folder, run: Any) -> None:
    result = run("run", write("one", end="raise KeyError"), "missing.py")
    assert result.status == 1
    assert result.errors[-1].startswith("tocsin: missing was not loaded: there is no file")
    assert result.errors[-1].endswith("(while all modules were unloaded: KeyError)")


@pytest.mark.parametrize(
    "error", ["GeneratorExit", "asyncio.CancelledError", "BaseException('no')"]
)
def test_what_is_no_plain_error_is_one_line_too(
    write: Folder, run: Any, backend: str, error: str
) -> None:
    result = run(
        "run", "--backend", backend, write("one"), write("two", f"import asyncio\nraise {error}")
    )
    assert (result.status, result.said) == (1, ["one in", "two in", "one out"])
    assert len(result.errors) == 1
    assert error.partition("(")[0].rpartition(".")[2] in result.errors[0]


def test_blocks_that_others_left_do_not_keep_a_module(write: Folder, run: Any) -> None:
    use = "from tocsin import AtomicChain, Scope\n"
    use += "Scope('app').register_nowait(host.bus.add(AtomicChain('a')), print)"
    result = run("run", write("one", use))
    assert (result.status, result.said) == (0, ["one in", "one out"])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "Missing command."),
        (["run"], "Missing argument 'MODULE...'."),
        (["run", "--backend", "curio", "one.py"], "Invalid value for '--backend': 'curio' is not"),
        (["run", "--filter", "abc", "one.py"], "Invalid value for '--filter': 'abc' is not of the"),
        (["run", "--filter", "=a", "one.py"], "Invalid value for '--filter': '=a' is not of the f"),
        (["run", "--filter", ";", "one.py"], "Invalid value for '--filter': no entry is left of"),
        (["run", "--filter", "a=:", "one.py"], "Invalid value for '--filter': 'a=:' is not of the"),
        (["run", "--filter", "a=b,c=d", "x.py"], "Invalid value for '--filter': 'a=b,c=d' is not "),
        (["run", "--filter", "a=,", "x.py"], "Invalid value for '--filter': 'a=,' names no block"),
        (["describe"], "Missing argument 'MODULE:BUS'."),
        (["describe", "app"], "Invalid value for 'MODULE:BUS': 'app' is not of the form MODULE:B"),
        (["graph", "--format", "png", "app:bus"], "Invalid value for '--format': 'png' is not one"),
        (["completion", "csh"], "Invalid value for 'SHELL': 'csh' is not one of 'bash', 'fish', "),
        (["walk"], "No such command 'walk'."),
    ],
)
def test_a_wrong_use_is_one_line(run: Any, arguments: list[str], error: str) -> None:
    result = run(*arguments)
    assert (result.status, len(result.errors), result.said) == (2, 1, [])
    assert result.errors[0].startswith(f"tocsin: {error}")


def test_an_interruption_unloads_and_is_one_line(write: Folder, run: Any) -> None:
    result = run("run", write("one"), write("two", "raise KeyboardInterrupt"))
    assert result.status == 130
    assert result.said == ["one in", "two in", "one out"]
    assert result.errors == ["tocsin: interrupted"]


def test_what_is_not_installed_is_named(
    write: Folder, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write("one")
    monkeypatch.setitem(sys.modules, "trio", None)
    result = run("run", "--backend", "trio", one)
    assert (result.status, result.said) == (2, [])
    assert result.errors == ["tocsin: --backend trio needs trio; install tocsin[trio]"]
    monkeypatch.setitem(sys.modules, "click", None)
    assert run("run", one).status == "tocsin: the command line needs click; install tocsin[cli]"


def test_without_click_a_process_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['click'] = None; from tocsin.cli import main; main()"
    result = python("-c", code, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "tocsin: the command line needs click; install tocsin[cli]\n"


# Output that goes nowhere.


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("lines", [1, 20_000])
@pytest.mark.parametrize(
    ("redirection", "status", "errors"),
    [
        ("| true", 0, [0, 1]),
        ("> /dev/full", 1, [1]),
        (">&-", 0, [0]),
        ("2>&- > /dev/full", 1, [0]),
    ],
)
def test_output_that_nobody_takes_is_one_line_at_most(
    write: Folder, redirection: str, status: int, errors: list[int], lines: int
) -> None:
    one = write("one", end=f"for _ in range({lines}): print('more')")
    done = subprocess.run(
        f"'{sys.executable}' -m tocsin run {one} {redirection}",
        shell=True,
        cwd=write.path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == status
    assert len(done.stderr.splitlines()) in errors
    assert "Exception ignored" not in done.stderr


class Full(io.StringIO):
    """A stdout that fails when it is flushed."""

    def __init__(self, error: OSError, file: Any) -> None:
        super().__init__()
        self.error, self.file = error, file

    def fileno(self) -> int:
        return int(self.file.fileno())

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), []),
        (OSError(errno.ENOSPC, "full"), ["tocsin: OSError: [Errno 28] full"]),
    ],
)
def test_what_could_not_be_written_fails_in_one_line_or_none(
    write: Folder,
    run: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: OSError,
    said: list[str],
) -> None:
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr(sys, "stdout", Full(error, file))
        result = run("run", write("one"))
        file.write("dropped")
    assert (result.status, result.errors) == (1, said)
    assert not (tmp_path / "out").read_text()


def test_there_may_be_no_stdout(write: Folder, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert run("run", write("one")).status == 0


# Help.


@pytest.mark.parametrize("command", [None, *tocsin.commands])
def test_help_tells_all_there_is(run: Any, command: str | None) -> None:
    group: click.Command = tocsin if command is None else tocsin.commands[command]
    result = run(*[command] * (command is not None), "--help")
    assert (result.status, result.errors) == (0, [])
    assert run(*[command] * (command is not None), "-h").said == result.said
    text = " ".join(" ".join(result.said).split())
    assert "Examples: " in text
    for parameter in group.params:
        if isinstance(parameter, click.Option):
            assert parameter.help
            assert parameter.opts[-1] in text
        else:
            metavar = (parameter.metavar or "").removesuffix("...")
            assert text.count(metavar) > 1, "an argument is explained"
    for name, one in getattr(group, "commands", {}).items():
        assert f"{name} {one.get_short_help_str(100)}" in text, "it is not cut off"


def test_version_tells_the_version(run: Any) -> None:
    assert run("--version").said == [f"tocsin, version {version('tocsin')}"]


# A module that does not go.


def test_an_exit_that_hangs_is_cut_short(write: Folder, run: Any, backend: str) -> None:
    Path("hangs.py").write_text(
        "import anyio\nasync def module_exit(host):\n    await anyio.sleep_forever()\n"
    )
    result = run("run", "--backend", backend, "--exit-timeout", "0.01", write("one"), "hangs.py")
    assert (result.status, result.said) == (1, ["one in", "one out"])
    end = "did not end within 0.01 s and was cancelled; hangs was unloaded all the same"
    assert result.errors == [f"tocsin: module_exit of hangs {end}"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ("0", "it must be above 0 s, or inf for no bound, not 0.0"),
        ("-1", "it must be above 0 s, or inf for no bound, not -1.0"),
        ("nan", "it must be above 0 s, or inf for no bound, not nan"),
        ("soon", "'soon' is not a valid float"),
    ],
)
def test_an_exit_timeout_that_is_none_is_refused(
    write: Folder, run: Any, seconds: str, words: str
) -> None:
    result = run("run", "--exit-timeout", seconds, write("one"))
    assert (result.status, result.said) == (2, [])
    assert len(result.errors) == 1
    assert words in result.errors[0]
    assert "--exit-timeout" in result.errors[0]


def test_an_exit_may_have_no_bound(write: Folder, run: Any) -> None:
    assert run("run", "--exit-timeout", "inf", write("one")).said == ["one in", "one out"]


# Staying.


@pytest.mark.parametrize(
    ("arguments", "number", "word"),
    [
        ([], signal.SIGTERM, "terminated"),
        (["--stay"], signal.SIGTERM, "terminated"),
        (["--stay"], signal.SIGINT, "interrupted"),
    ],
)
def test_a_signal_ends_a_load_that_takes_long(
    write: Folder, run: Any, backend: str, arguments: list[str], number: signal.Signals, word: str
) -> None:
    wait = f"import anyio, os\nos.kill(os.getpid(), {number:d})\nawait anyio.sleep_forever()"
    one = write("one", end="print('and all the rest')")
    result = run("run", "--backend", backend, *arguments, one, write("slow", wait))
    assert (result.status, result.errors) == (128 + number, [f"tocsin: {word}"])
    assert result.said == ["one in", "slow in", "one out", "and all the rest"]


def test_a_signal_that_comes_before_it_waits_is_not_lost(
    write: Folder, run: Any, backend: str
) -> None:
    last = f"import os\nos.kill(os.getpid(), {signal.SIGTERM:d})"
    result = run("run", "--backend", backend, "--stay", write("one", last))
    assert (result.status, result.said, result.errors) == (0, ["one in", "one out"], [])


class Epoll:
    """The selector of an event loop. Just before it would wait for good, a signal arrives.

    After the last look at what has arrived, that is: no Python code runs between the two.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.woken: list[bool] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def poll(self, timeout: float, max_events: int) -> Any:
        if self.woken or 0 <= timeout < 3600:
            return self._epoll.poll(timeout, max_events)
        arrive = partial(ctypes.CDLL(None)["raise"], signal.SIGTERM)
        *_, events = map(call, (arrive, partial(self._epoll.poll, 0, max_events)))
        self.woken.append(bool(events))
        return events


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs the selectors of Linux")
@pytest.mark.parametrize("stay", [True, False])
def test_a_signal_that_arrives_just_before_the_loop_waits_wakes_it(
    write: Folder, run: Any, backend: str, monkeypatch: pytest.MonkeyPatch, stay: bool
) -> None:
    epoll, wait = Epoll(), "import anyio\nawait anyio.sleep_forever()"
    monkeypatch.setattr(selectors.EpollSelector, "_selector_cls", staticmethod(lambda: epoll))
    monkeypatch.setattr(select, "epoll", lambda: epoll)
    result = run(
        "run", "--backend", backend, *["--stay"] * stay, write("one", "" if stay else wait)
    )
    assert epoll.woken == [True]
    assert (result.said, result.status) == (["one in", "one out"][: 1 + stay], 0 if stay else 143)


@pytest.mark.parametrize("last", [False, True])
def test_a_signal_that_comes_while_nothing_awaits_ends_it_too(
    write: Folder, run: Any, backend: str, last: bool
) -> None:
    one = write("one", f"import os\nos.kill(os.getpid(), {signal.SIGTERM:d})")
    result = run("run", "--backend", backend, one, *[write("two")] * (not last))
    assert (result.status, result.errors) == (128 + signal.SIGTERM, ["tocsin: terminated"])
    assert result.said == ["one in", "one out"]


@pytest.mark.parametrize("stay", [[], ["--stay"]])
@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")]
)
def test_a_signal_interrupts_a_body_which_cannot_be_cancelled(
    write: Folder, run: Any, backend: str, number: signal.Signals, word: str, stay: list[str]
) -> None:
    blocks = f"import os\nos.kill(os.getpid(), {number:d})\nprint('it blocks')"
    result = run("run", "--backend", backend, *stay, write("one"), write("two", head=blocks))
    assert (result.status, result.errors) == (128 + number, [f"tocsin: {word}"])
    assert result.said == ["one in", "one out"]


@pytest.mark.parametrize("last", [False, True])
def test_a_body_that_takes_no_interruption_does_not_make_a_signal_lost(
    write: Folder, run: Any, backend: str, last: bool
) -> None:
    stubborn = f"""
    import os
    try:
        os.kill(os.getpid(), {signal.SIGTERM:d})
    except KeyboardInterrupt:
        pass
    """
    one = write("one", head=stubborn)
    result = run("run", "--stay", "--backend", backend, one, *[write("two")] * (not last))
    assert result.said == ["one in", "one out"]
    assert (result.status, result.errors) == ((0, []) if last else (143, ["tocsin: terminated"]))


def test_an_interruption_while_the_commands_are_imported_is_one_line(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_spec(name: str, *_: object) -> None:
        if name == "tocsin.commands":
            raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "tocsin.commands")
    monkeypatch.setattr(sys, "meta_path", [SimpleNamespace(find_spec=find_spec), *sys.meta_path])
    result = run("run", "one.py")
    assert (result.status, result.said, result.errors) == (130, [], ["tocsin: interrupted"])


def test_modules_see_no_arguments_of_the_command(
    write: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write("one", head="import argparse\nprint(argparse.ArgumentParser().parse_args())")
    monkeypatch.setattr(sys, "argv", ["tocsin", "run", one])
    main()
    assert capsys.readouterr().out.splitlines() == ["Namespace()", "one in", "one out"]


@pytest.mark.parametrize("init", ["", "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)"])
def test_handlers_of_signals_are_put_back(write: Folder, run: Any, backend: str, init: str) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    run("run", "--backend", backend, "--stay", write("one", init or "raise OSError"))
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_modules_own_handler_stays(write: Folder, run: Any, backend: str) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        own = "import signal\nsignal.signal(signal.SIGTERM, print)"
        assert run("run", "--backend", backend, write("one", own)).status == 0
        assert signal.getsignal(signal.SIGTERM) is print
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="a signal of POSIX")
def test_signals_by_the_thousand_say_nothing(write: Folder, run: Any, backend: str) -> None:
    many = """
    import signal
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    for _ in range(1000):
        signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, previous)
    """
    result = run("run", "--backend", backend, write("one", many))
    assert (result.status, result.said, result.errors) == (0, ["one in", "one out"], [])


@pytest.mark.parametrize("before", [True, False])
def test_what_others_are_woken_by_at_signals_stays(write: Folder, run: Any, before: bool) -> None:
    here, there = socket.socketpair()
    with here, there:
        there.setblocking(False)
        take = f"import signal\nsignal.set_wakeup_fd({there.fileno()})"
        try:
            if before:
                signal.set_wakeup_fd(there.fileno())
            assert run("run", write("one", "" if before else take)).status == 0
        finally:
            found = signal.set_wakeup_fd(-1)
        assert found == there.fileno()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process(
    write: Folder, backend: str, number: signal.Signals
) -> None:
    kill = f"import os\nos.kill(os.getpid(), {number:d})"
    one = write("one", kill, end=f"print(flush=True)\n{kill}\nprint('it goes on')")
    done = python("-m", "tocsin", "run", "--backend", backend, one, cwd=write.path)
    assert (done.returncode, done.stdout, done.stderr) == (-number, "one in\none out\n\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_staying_ends_with_a_signal(write: Folder, backend: str, number: signal.Signals) -> None:
    arguments = ["-um", "tocsin", "run", "--backend", backend, "--stay", write("one")]
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=write.path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "one in\n"
        process.send_signal(number)
        try:
            assert process.communicate(timeout=60) == ("one out\n", "")
        finally:
            process.kill()  # leaving waits for it, whatever has failed
    assert process.returncode == 0
