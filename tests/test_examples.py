"""The three ported modules print what the kernel's log shows, and fail as the kernel's do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tocsin import Bus, ModuleDependencyError, ModuleInUseError, ModuleLoadedError
from tocsin.modules import ModuleHost

from .programs import EXAMPLES
from .test_cli import python

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

MODULES = [f"examples/{name}.py" for name in ("buildchain", "regchain", "notify")]

LOADING = """\
init_notifier
Begin to register:
register test_notifier1 completed
register test_notifier2 completed
register test_notifier3 completed
Begin to notify:
==============================
In Event 1: Event Number is 1
In Event 2: Event Number is 1
In Event 3: Event Number is 1
"""
UNLOADING = """\
End notify
Begin to unregister
Unregister finished
"""


def tocsin_run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "tocsin", "run", *arguments, cwd=EXAMPLES.parent)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_log_is_that_of_the_kernel_modules_line_by_line(backend: str) -> None:
    done = tocsin_run("--backend", backend, *MODULES)
    assert done.stdout == LOADING + UNLOADING
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("modules", "said", "error"),
    [
        ([1], "", "regchain needs buildchain, which is not loaded; load buildchain first"),
        ([2], "", "notify needs buildchain, which is not loaded; load buildchain first"),
        ([0, 0], "init_notifier\n", "buildchain is loaded already"),
    ],
)
def test_out_of_order_or_twice_is_one_line(modules: list[int], said: str, error: str) -> None:
    done = tocsin_run(*(MODULES[number] for number in modules))
    assert (done.stdout, done.stderr) == (said, f"tocsin: {error}\n")
    assert done.returncode == 1


def test_a_filter_of_the_operator_reaches_the_chain() -> None:
    done = tocsin_run("--filter", "test_chain=test_event2", *MODULES)
    assert done.returncode == 0
    heard = [line for line in done.stdout.splitlines() if line.startswith("In Event")]
    assert heard == ["In Event 2: Event Number is 1"]


@pytest.mark.anyio
async def test_a_host_answers_as_the_kernel_does(capsys: pytest.CaptureFixture[str]) -> None:
    async with ModuleHost(Bus("kernel")) as host:
        with pytest.raises(ModuleDependencyError):
            await host.load(EXAMPLES / "regchain.py")
        for module in ("buildchain", "regchain", "notify"):
            await host.load(EXAMPLES / f"{module}.py")
        assert capsys.readouterr().out == LOADING
        users = {module.name: module.users for module in host.modules}
        assert users == {"buildchain": ("notify", "regchain"), "regchain": (), "notify": ()}
        with pytest.raises(ModuleLoadedError):
            await host.load(EXAMPLES / "buildchain.py")
        with pytest.raises(ModuleInUseError) as caught:
            await host.unload("buildchain")
        assert str(caught.value) == "buildchain is in use by: notify, regchain"
    assert capsys.readouterr().out == UNLOADING


def test_plain_python_can_import_them(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
import buildchain, regchain, notify
assert buildchain.test_notifier_call_chain(1) == 0
buildchain.module_init()
regchain.module_init()
notify.module_init()
notify.module_exit()
regchain.module_exit()
"""
    done = python("-Bc", code, cwd=tmp_path)
    assert (done.stdout, done.stderr) == (LOADING + UNLOADING, "")


def test_the_examples_leave_no_trace_in_this_process() -> None:
    assert not {"buildchain", "regchain", "notify"} & sys.modules.keys()
