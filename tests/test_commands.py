"""``describe`` and ``graph`` print a bus and nothing else; shells complete what one may type."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydot
import pytest

from .test_cli import Result, environment, python, run_main

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = """
from tocsin import Bus, SrcuChain

bus = Bus.from_env("shop")
orders = bus.add(SrcuChain("orders"))


@orders.subscriber(priority=10)
async def check_stock(event, order):
    pass


@orders.subscriber
def send_mail(event, order):
    pass
"""
NOISY = """
import os, subprocess, sys
print("printed")
print("in colour", file=sys.__stdout__, flush=True)
os.write(1, b"written\\n")
subprocess.run(["echo", "by a child"])
"""
TREE = """\
bus shop
└─ orders: SrcuChain
   ├─ 10 check_stock: async
   └─  0 send_mail
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Be in a folder with modules, which nobody remembers afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "bus_of_a_test.py").write_text(APP)
    (tmp_path / "noisy_bus_of_a_test.py").write_text(NOISY + APP)
    yield tmp_path
    for name in ("bus_of_a_test", "noisy_bus_of_a_test"):
        sys.modules.pop(name, None)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    return partial(run_main, capsys)


def tocsin(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "tocsin", *arguments, cwd=folder)


def test_describe_prints_the_tree(run: Any) -> None:
    result = run("describe", "bus_of_a_test:bus")
    assert (result.status, result.errors) == (0, [])
    assert result.said == TREE.splitlines()


def test_describe_prints_json(run: Any) -> None:
    told = json.loads("".join(run("describe", "--json", "bus_of_a_test:bus").said))
    assert told == sys.modules["bus_of_a_test"].bus.snapshot().to_dict()


def test_graph_draws_mermaid_and_dot(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_FILTERS", "orders=check_*")
    drawn = run("graph", "bus_of_a_test:bus").said
    assert drawn[0] == "flowchart LR"
    assert "    class chain0_1 parked" in drawn
    assert run("graph", "--format", "mermaid", "bus_of_a_test:bus").said == drawn
    drawn = run("graph", "bus_of_a_test:bus", "--format", "dot").said
    assert drawn[0] == "digraph {"
    assert '    chain0_1 [label="send_mail (0)", shape=box, style=dashed]' in drawn


@pytest.mark.parametrize(
    ("target", "status", "error"),
    [
        ("bus_of_a_test", 2, "Invalid value for 'MODULE:BUS': 'bus_of_a_test' is not of the form"),
        ("bus_of_a_test:orders", 1, "bus_of_a_test:orders is no bus but a SrcuChain"),
        ("bus_of_a_test:order", 1, "module bus_of_a_test has no 'order'; did you mean 'orders'?"),
        ("nothing_there:bus", 1, "nothing_there does not import: ModuleNotFoundError: No module "),
    ],
)
@pytest.mark.parametrize("command", [["describe"], ["describe", "--json"], ["graph"]])
def test_what_is_wrong_is_one_line(
    run: Any, command: list[str], target: str, status: int, error: str
) -> None:
    result: Result = run(*command, target)
    assert (result.status, result.said, len(result.errors)) == (status, [], 1)
    assert result.errors[0].startswith(f"tocsin: {error}")


# Nothing but the bus on stdout.


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # pydot's own
def test_what_a_module_prints_goes_to_stderr(folder: Path) -> None:
    done = tocsin(folder, "describe", "noisy_bus_of_a_test:bus")
    assert (done.returncode, done.stdout) == (0, TREE)
    assert sorted(done.stderr.splitlines()) == ["by a child", "in colour", "printed", "written"]
    done = tocsin(folder, "describe", "--json", "noisy_bus_of_a_test:bus")
    assert json.loads(done.stdout)["name"] == "shop"
    done = tocsin(folder, "graph", "noisy_bus_of_a_test:bus", "--format", "dot")
    [graph] = pydot.graph_from_dot_data(done.stdout) or []
    assert len(graph.get_nodes()) == 4


LATE = """
import atexit, ctypes, sys, threading
sys.__stdout__.write("in a buffer\\n")
ctypes.CDLL(None).printf(b"in a buffer of C\\n")
atexit.register(print, "at exit")
threading.Thread(target=lambda: print("by a thread", threading.main_thread().join())).start()
"""


@pytest.mark.parametrize("arguments", [["describe"], ["describe", "--json"], ["graph"]])
def test_what_a_module_prints_late_or_keeps_in_a_buffer_goes_to_stderr_too(
    folder: Path, arguments: list[str]
) -> None:
    quiet = tocsin(folder, *arguments, "bus_of_a_test:bus")
    (folder / "late_bus_of_a_test.py").write_text(LATE + APP)
    done = tocsin(folder, *arguments, "late_bus_of_a_test:bus")
    expected = quiet.stdout.replace("bus_of_a_test:", "late_bus_of_a_test:")
    assert (done.returncode, done.stdout) == (0, expected)
    late = ["at exit", "by a thread None", "in a buffer", "in a buffer of C"]
    assert sorted(done.stderr.splitlines()) == late


def test_stdout_is_ours_until_the_process_ends(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with open(1, "w", closefd=False) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "__stdout__", stdout)
        stdout.write("before\n")  # by who called us
        result = run_main(capfd, "describe", "noisy_bus_of_a_test:bus")
    assert (result.status, result.said) == (0, ["before", *TREE.splitlines()])
    assert sorted(result.errors) == ["by a child", "in colour", "printed", "written"]
    os.write(1, b"late\n")
    assert capfd.readouterr() == ("", "late\n")


def test_who_catches_stdout_is_given_nothing_but_the_bus_and_has_it_back(run: Any) -> None:
    for _ in range(2):
        sys.modules.pop("noisy_bus_of_a_test", None)
        result = run("describe", "noisy_bus_of_a_test:bus")
        assert (result.said, "printed" in result.errors) == (TREE.splitlines(), True)


@pytest.mark.parametrize("many", [1, 5000])
@pytest.mark.parametrize(
    "arguments",
    [["describe", "--json", "big_bus_of_a_test:bus"], ["--help"], ["completion", "zsh"]],
)
def test_a_reader_that_has_gone_is_not_told_of(
    folder: Path, arguments: list[str], many: int
) -> None:
    more = f"for number in range({many}): orders.register_nowait(print, name=str(number))"
    (folder / "big_bus_of_a_test.py").write_text(f"{APP}\n{more}\n")
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [sys.executable, "-m", "tocsin", *arguments],
        cwd=folder,
        env=environment(),
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(write)
        assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 1


# Whose module it is.


def test_the_current_directory_comes_before_others(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "bus_of_a_test.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(folder / "elsewhere")
    assert run("describe", "bus_of_a_test:bus").said == TREE.splitlines()


def test_modules_of_the_current_directory_do_not_get_in_the_way_of_errors(folder: Path) -> None:
    for name in ("json", "difflib"):
        (folder / f"{name}.py").write_text("raise RuntimeError")
    done = ask(folder, "describe", "json:bus")  # as a script, which does not look here by itself
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("tocsin: module json has no 'bus'; there are 'JSONDecodeE")
    assert done.stderr.endswith(f"({json.__file__})\n")


@pytest.mark.parametrize(
    ("redirection", "status", "said"),
    [("2>&-", 0, TREE), (">&-", 0, ""), (">&- 2>&-", 0, ""), ("| true", 0, "")],
)
@pytest.mark.parametrize("target", ["bus_of_a_test:bus", "quiet_bus_of_a_test:bus"])
def test_stdout_or_stderr_may_be_closed(
    folder: Path, redirection: str, status: int, said: str, target: str
) -> None:
    (folder / "quiet_bus_of_a_test.py").write_text(f"print('printed'){APP}")
    done = subprocess.run(
        f"'{sys.executable}' -m tocsin describe {target} {redirection}",
        shell=True,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (status, said)


def test_what_is_printed_below_python_is_dropped_where_stderr_is_closed(folder: Path) -> None:
    done = subprocess.run(
        f"'{sys.executable}' -m tocsin describe noisy_bus_of_a_test:bus 2>&-",
        shell=True,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, TREE)


def test_what_stdout_cannot_encode_is_escaped(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = environment() | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "tocsin", "describe", "bus_of_a_test:bus"]
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("bus shop\n\\u2514\\u2500 orders: SrcuChain\n")
    monkeypatch.setattr(sys, "stdout", None)
    assert run("describe", "bus_of_a_test:bus").status == 0


# Completion by shells, as they ask for it.


def ask(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Start the command as a shell does; ``tocsin`` is next to the interpreter."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "tocsin"), *arguments],
        cwd=folder,
        env=environment() | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


ANSWERS = {
    "bash": "plain,describe\n",
    "zsh": "plain\ndescribe\nPrint a bus",
    "fish": "plain,describe\tPrint a bus",
}


@pytest.mark.parametrize("shell", ANSWERS)
def test_a_shell_is_told_how_to_ask(folder: Path, run: Any, shell: str) -> None:
    if shell == "bash" and not shutil.which("bash"):
        pytest.skip("its version has to be asked, and there is no bash")
    done = ask(folder, _TOCSIN_COMPLETE=f"{shell}_source")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_TOCSIN_COMPLETE={shell}_complete" in done.stdout
    assert run("completion", shell).said == done.stdout.rstrip("\n").splitlines()


@pytest.mark.parametrize("shell", ANSWERS)
def test_a_shell_is_told_what_may_come_next(folder: Path, shell: str) -> None:
    words, last = ("tocsin de", "1") if shell != "fish" else ("tocsin de", "de")
    done = ask(folder, _TOCSIN_COMPLETE=f"{shell}_complete", COMP_WORDS=words, COMP_CWORD=last)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(ANSWERS[shell])


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("tocsin ", ["completion", "describe", "graph", "run"]),
        ("tocsin graph --format ", ["mermaid", "dot"]),
        ("tocsin run --ba", ["--backend"]),
        ("tocsin run --backend t", ["trio"]),
        ("tocsin describe --", ["--json", "--help"]),
        ("tocsin completion z", ["zsh"]),
        ("tocsin run buildch", ["buildch"]),
    ],
)
def test_commands_options_values_and_files_are_completed(
    monkeypatch: pytest.MonkeyPatch, run: Any, words: str, answer: list[str]
) -> None:
    monkeypatch.setenv("_TOCSIN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    result = run()
    assert (result.status, result.errors) == (0, [])
    assert [line.partition(",")[2] for line in result.said] == answer
    assert {line.partition(",")[0] for line in result.said} == {
        "file" if words.endswith("buildch") else "plain"
    }


@pytest.mark.parametrize("question", ["csh_source", "bash_complete", "bogus"])
def test_a_question_that_cannot_be_answered_is_one_line(
    run: Any, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    monkeypatch.setenv("_TOCSIN_COMPLETE", question)
    result = run()
    assert (result.status, result.said, len(result.errors)) == (1, [], 1)
    if question != "bash_complete":
        no = f"_TOCSIN_COMPLETE={question!r} is no question that bash, zsh or fish asks"
        assert result.errors == [f"tocsin: {no}"]


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_completes_after_reading_the_script(folder: Path) -> None:
    script = """
        eval "$(tocsin completion bash)"
        COMP_WORDS=(tocsin gra) COMP_CWORD=1
        _tocsin_completion tocsin gra tocsin
        echo "${COMPREPLY[@]}"
        complete -p tocsin
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment() | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "graph"
    assert "_tocsin_completion tocsin" in done.stdout.splitlines()[1]
