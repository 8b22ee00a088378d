"""Modules are loaded and unloaded as the kernel does it, and leave nothing behind."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
import structlog

import tocsin
from tocsin import (
    AtomicChain,
    BlockingChain,
    Bus,
    InvalidResultError,
    InvalidTypeError,
    InvalidValueError,
    ModuleDependencyError,
    ModuleError,
    ModuleInUseError,
    ModuleLoadedError,
    ModuleLoadError,
    ModuleNotLoadedError,
    ModuleTimeoutError,
    NameFilter,
    Scope,
    SrcuChain,
    TocsinError,
    VetoError,
    WouldDeadlockError,
)
from tocsin.module_states import REFUSALS, TRANSITIONS, Event, advance
from tocsin.modules import ModuleHost, ModuleInfo, ModuleState

from .plugins import OWNER, USER, Folder, Notes, states

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]


# Loading and unloading.


async def test_modules_are_loaded_used_and_unloaded(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    owner = await host.load(write("owner", OWNER))
    user = await host.load(Path(write("user", USER)))
    assert (owner.__name__, sys.modules["owner"], sys.modules["user"]) == ("owner", owner, user)
    assert host.modules == (
        ModuleInfo("owner", ModuleState.LIVE, ("user",)),
        ModuleInfo("user", ModuleState.LIVE, ()),
    )
    assert repr(host) == "<ModuleHost on <Bus 'main' 1 chains>: owner, user>"
    host.bus.get("test_chain", AtomicChain).call("ping")
    await host.unload("user")
    await host.unload("owner")
    assert notes.said == ["owner in", "user in", "ping", "user out", "owner out"]
    assert states(host) == {}
    assert len(host.bus) == 0
    assert "owner" not in sys.modules
    assert repr(host) == "<ModuleHost on <Bus 'main' 0 chains>: no modules>"


async def test_a_module_needs_neither_init_nor_exit(host: ModuleHost, write: Folder) -> None:
    module = await host.load(write("plain", "value = 1"))
    assert module.value == 1
    await host.unload("plain")


@pytest.mark.parametrize("colour", ["def", "async def"])
@pytest.mark.parametrize("result", ["None", "0"])
async def test_init_and_exit_are_sync_or_async_and_give_none_or_0(
    host: ModuleHost, write: Folder, notes: Notes, colour: str, result: str
) -> None:
    await host.load(
        write(
            "plugin",
            f"""
            import notes
            {colour} module_init(host):
                notes.say(host)
                return {result}
            {colour} module_exit(host):
                notes.say(host)
                return {result}
            """,
        )
    )
    await host.unload("plugin")
    assert notes.said == [host, host]


async def test_the_host_unloads_all_in_reverse(write: Folder, notes: Notes) -> None:
    with pytest.raises(KeyError):
        async with ModuleHost(Bus("main")) as host:
            await host.load(write("owner", OWNER))
            await host.load(write("user", USER))
            notes.said.clear()
            raise KeyError
    assert notes.said == ["user out", "owner out"]
    assert host.modules == ()


async def test_every_load_runs_the_body_afresh(host: ModuleHost, write: Folder) -> None:
    file = write("plugin", "value = 1")
    first = await host.load(file)
    await host.unload("plugin")
    stamp = Path(file).stat()
    write("plugin", "value = 2")  # the same size, and below the same time: bytecode would be stale
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    second = await host.load(file)
    assert (first.value, second.value) == (1, 2)
    assert not (write.path / "__pycache__").exists()
    await host.unload("plugin")


async def test_a_file_is_found_from_the_current_directory(
    host: ModuleHost, write: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("plugin", "")
    monkeypatch.chdir(write.path)
    module = await host.load("plugin.py")
    assert module.__file__ == str(write.path / "plugin.py")
    await host.unload("plugin")


async def test_a_file_may_have_a_dot_in_its_name(host: ModuleHost, write: Folder) -> None:
    await host.load(write("plugin.v2", ""))
    assert states(host) == {"plugin.v2": "live"}
    await host.unload("plugin.v2")


# The scope of a module.


async def test_body_init_and_exit_run_in_the_scope_of_the_module(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    chain = host.bus.add(SrcuChain("orders"))
    await host.load(
        write(
            "plugin",
            """
            import notes

            def hear(event, data): ...

            async def module_init(host):
                chain = host.bus["orders"]
                await chain.register(hear)
                await host.scope("plugin").register(chain, hear)

            def module_exit(host):
                notes.say(host.bus["orders"].subscriber(hear).owner)
            """,
        )
    )
    assert [block.owner for block in chain] == [host.scope("plugin")] * 2
    with structlog.testing.capture_logs() as logs:
        scope = host.scope("plugin")
        await host.unload("plugin")
    assert notes.said == [scope]
    assert chain.is_empty
    assert [entry["blocks"] for entry in logs] == [["hear"] * 3]


async def test_blocks_that_a_module_forgot_are_taken_off_with_a_warning(
    host: ModuleHost, write: Folder
) -> None:
    chain = host.bus.add(AtomicChain("orders"))
    await host.load(
        write(
            "plugin",
            """
            def module_init(host):
                @host.bus["orders"].subscriber
                def forgotten(event, data): ...
            """,
        )
    )
    with structlog.testing.capture_logs() as logs:
        await host.unload("plugin")
    assert chain.is_empty
    assert logs == [
        {
            "event": "a module forgot to unregister blocks",
            "log_level": "warning",
            "module": "plugin",
            "blocks": ["forgotten"],
        }
    ]


async def test_unload_returns_when_no_callback_of_the_module_is_running(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    chain = host.bus.add(SrcuChain("orders"))
    notes.gate = anyio.Event()
    await host.load(
        write(
            "plugin",
            """
            import notes

            async def slow(event, data):
                await notes.gate.wait()
                notes.say("finished")

            def module_init(host):
                host.bus["orders"].register_nowait(slow)
            """,
        )
    )

    async def unload() -> None:
        await host.unload("plugin")
        notes.say("unloaded")

    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as group:
            group.start_soon(chain.call, "go")
            await anyio.wait_all_tasks_blocked()
            group.start_soon(unload)
            await anyio.wait_all_tasks_blocked()
            assert states(host) == {"plugin": "going"}
            notes.gate.set()
    assert notes.said == ["finished", "unloaded"]


@pytest.mark.parametrize("flavour", [BlockingChain, SrcuChain])
async def test_unloading_inside_a_callback_of_the_module_is_refused_and_changes_nothing(
    host: ModuleHost, write: Folder, notes: Notes, flavour: Any
) -> None:
    chain = host.bus.add(flavour("orders"))
    host.bus.add(AtomicChain("others"))
    await host.load(
        write(
            "plugin",
            """
            import notes

            async def leave(event, host):
                await host.unload("plugin")

            def module_init(host):
                global others, block
                others = host.bus["others"].register(print)
                block = host.bus["orders"].register_nowait(leave)

            async def module_exit(host):
                notes.say("out")
                host.bus["others"].unregister(others)
                await block.chain.unregister(block)
            """,
        )
    )
    with pytest.raises(WouldDeadlockError, match="unload the module after the call"):
        await chain.call("go", host)
    assert states(host) == {"plugin": "live"}
    assert (len(chain), notes.said) == (1, [])
    await host.unload("plugin")
    assert (len(chain), notes.said) == (0, ["out"])


async def test_unloading_from_a_callback_in_a_thread_is_refused_and_changes_nothing(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    chain = host.bus.add(AtomicChain[Any, Any]("orders"))
    await host.load(
        write(
            "plugin",
            """
            import anyio.from_thread
            import notes

            def leave(event, host):
                anyio.from_thread.run(host.unload, "plugin")

            def module_init(host):
                host.bus["orders"].register(leave)

            def module_exit(host):
                notes.say("out")
            """,
        )
    )
    with pytest.raises(WouldDeadlockError, match="unload the module after the call"):
        await anyio.to_thread.run_sync(chain.call, "go", host)
    assert states(host) == {"plugin": "live"}
    assert (len(chain), notes.said) == (1, [])
    await host.unload("plugin")
    assert (len(chain), notes.said) == (0, ["out"])


async def test_what_is_no_name_is_not_loaded(host: ModuleHost) -> None:
    wrong: Any = []
    with pytest.raises(ModuleNotLoadedError, match="<list> is not loaded"):
        await host.unload(wrong)
    with pytest.raises(ModuleNotLoadedError, match="<list> is not loaded"):
        host.scope(wrong)
    with pytest.raises(ModuleDependencyError, match="<list>"):
        host.require(wrong)


# Who uses whom.


async def test_a_module_that_needs_another_is_not_run_before_it(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    file = write("user", USER)
    with pytest.raises(ModuleDependencyError) as caught:
        await host.load(file)
    assert str(caught.value) == "user needs owner, which is not loaded; load owner first"
    assert (caught.value.errno, caught.value.module) == (errno.ENOENT, "user")
    assert notes.said == []
    assert host.modules == ()
    await host.load(write("owner", OWNER))
    await host.load(file)
    await host.unload("user")
    await host.unload("owner")


async def test_a_module_is_loaded_once(host: ModuleHost, write: Folder, notes: Notes) -> None:
    file = write("owner", OWNER)
    await host.load(file)
    with pytest.raises(ModuleLoadedError, match=r"^owner is loaded already$") as caught:
        await host.load(file)
    assert caught.value.errno == errno.EEXIST
    assert notes.said == ["owner in"]
    await host.unload("owner")


async def test_a_module_in_use_is_not_unloaded(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    await host.load(write("buildchain", ""))
    await host.load(write("regchain", "REQUIRES = ['buildchain']"))
    await host.load(write("notify", "REQUIRES: str = 'buildchain'"))
    with pytest.raises(ModuleInUseError) as caught:
        await host.unload("buildchain")
    assert str(caught.value) == "buildchain is in use by: notify, regchain"
    assert (caught.value.errno, caught.value.module) == (errno.EAGAIN, "buildchain")
    assert set(states(host).values()) == {"live"}
    for name in ("regchain", "notify", "buildchain"):
        await host.unload(name)


async def test_a_module_is_in_use_while_blocks_of_others_are_on_its_chain(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    owner = await host.load(write("owner", OWNER))
    block = owner.test_chain.register(lambda event, data: None, name="stranger")
    await host.load(write("user", USER.replace('REQUIRES = ("owner",)', "")))
    owner.test_chain.set_filter(NameFilter(["hear"]))
    with pytest.raises(ModuleInUseError) as caught:
        await host.unload("owner")
    assert str(caught.value) == "owner is in use by: user, block stranger on chain test_chain"
    assert "owner out" not in notes.said
    owner.test_chain.unregister(block)
    await host.unload("user")
    await host.unload("owner")
    assert len(host.bus) == 0


async def test_unloading_what_is_not_loaded_names_what_is(host: ModuleHost, write: Folder) -> None:
    await host.load(write("buildchain", ""))
    with pytest.raises(ModuleNotLoadedError) as caught:
        await host.unload("buildchian")
    assert str(caught.value) == "buildchian is not loaded; did you mean 'buildchain'?"
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(ModuleNotLoadedError, match=r"^zebra is not loaded; there is 'buildchain'$"):
        host.scope("zebra")
    await host.unload("buildchain")


async def test_require_gives_a_loaded_module_and_records_its_user(
    host: ModuleHost, write: Folder
) -> None:
    owner = await host.load(write("owner", "value = 7"))
    late = write("late", "def module_init(host):\n    assert host.require('owner').value == 7\n")
    await host.load(late)
    assert host.require("owner") is owner  # this code is no module's
    with pytest.raises(ModuleInUseError, match="owner is in use by: late"):
        await host.unload("owner")
    await host.unload("late")
    await host.unload("owner")
    with pytest.raises(
        ModuleDependencyError, match=r"^this code needs owner, which is not"
    ) as lost:
        host.require("owner")
    assert lost.value.module == "owner"
    with pytest.raises(ModuleDependencyError, match=r"^late needs owner, which is not loaded"):
        await host.load(late)
    assert host.modules == ()


async def test_no_circle_of_modules_uses_itself(write: Folder, notes: Notes) -> None:
    say = "import notes\ndef module_exit(host):\n    notes.say(__name__)\n"
    async with ModuleHost(Bus("main")) as host:
        await host.load(write("first", say))
        await host.load(write("second", "REQUIRES = 'first'\n" + say))
        await host.load(write("third", "REQUIRES = 'second'\n" + say))
        for name in ("first", "second", "third"):
            with (
                host.scope("first").ambient(),
                pytest.raises(ModuleDependencyError, match=f"^first cannot use {name}, which uses"),
            ):
                host.require(name)
        await host.load(write("fourth", say))
        with host.scope("first").ambient():
            host.require("fourth")
    assert notes.said == ["third", "second", "first", "fourth"]


# Loading what is missing.


async def test_autoload_loads_the_files_beside_it_first(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    write("owner", OWNER)
    write("user", USER)
    top = write("top", "REQUIRES = ('user', 'owner')")
    await host.load(top, autoload=True)
    assert [info.name for info in host.modules] == ["owner", "user", "top"]
    assert host.modules[0].users == ("top", "user")
    await host.unload("top")
    await host.load(top, autoload=True)  # what is there is not loaded again
    assert notes.said == ["owner in", "user in"]
    for name in ("top", "user", "owner"):
        await host.unload(name)


async def test_autoload_finds_modules_by_dotted_name_and_in_the_same_package(
    host: ModuleHost, importable: Folder
) -> None:
    importable("far/__init__", "")
    importable("far/away", "")
    importable("near/__init__", "")
    importable("near/here", "")
    importable("near/top", "REQUIRES = ['here', 'far.away']")
    await host.load("near.top", autoload=True)
    assert [info.name for info in host.modules] == ["here", "away", "top"]
    assert {"near.here", "far.away"} <= sys.modules.keys()
    for name in ("top", "away", "here"):
        await host.unload(name)


@pytest.mark.parametrize("name", ["sub/dep", "../dep", "..", "/dep", "x\0y", "-x", "a b"])
async def test_what_is_required_is_a_name_and_no_path(
    host: ModuleHost, write: Folder, name: str
) -> None:
    write("sub/dep", "")
    write("dep", "")
    plugin = write("sub/plugin", f"REQUIRES = ({name!r},)")
    with pytest.raises(ModuleLoadError, match="is neither a dotted name, nor an entry") as caught:
        await host.load(plugin, autoload=True)
    assert caught.value.__notes__ == ["required by plugin"]
    with pytest.raises(ModuleDependencyError):
        await host.load(plugin)
    assert host.modules == ()


async def test_a_circle_of_requirements_is_refused_before_anything_runs(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    write("a", "import notes; notes.say('a')\nREQUIRES = 'b'")
    write("b", "import notes; notes.say('b')\nREQUIRES = 'a'")
    with pytest.raises(ModuleDependencyError, match=r"^b needs a, which is still being loaded"):
        await host.load(write.path / "a.py", autoload=True)
    assert (host.modules, notes.said) == ((), [])


async def test_a_failed_autoload_takes_back_what_it_has_loaded(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    write("owner", OWNER)
    write("user", USER)
    top = write("top", "REQUIRES = ('user', 'owner')\nraise RuntimeError('no')")
    with pytest.raises(ModuleLoadError):
        await host.load(top, autoload=True)
    assert notes.said == ["owner in", "user in", "user out", "owner out"]
    assert (host.modules, len(host.bus)) == ((), 0)
    write("owner", "import notes\nnotes.say('again')\n1 / 0")
    with pytest.raises(ModuleLoadError, match=r"^owner was not loaded: ZeroDivisionError"):
        await host.load(top, autoload=True)
    assert notes.said[4:] == ["again"]
    assert host.modules == ()


async def test_what_autoload_has_loaded_stays_when_others_use_it_by_then(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    notes.gate = anyio.Event()
    write("owner", OWNER)
    top = write(
        "top",
        """
        import notes
        REQUIRES = "owner"
        async def module_init(host):
            await notes.gate.wait()
            return -16
        """,
    )
    caught: list[ModuleLoadError] = []

    async def load() -> None:
        with pytest.raises(ModuleLoadError) as error:
            await host.load(top, autoload=True)
        caught.append(error.value)

    async with anyio.create_task_group() as group:
        group.start_soon(load)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ModuleInUseError, match="owner is in use by: top"):
            await host.unload("owner")
        await host.load(write("other", "REQUIRES = 'owner'"))
        notes.gate.set()
    assert caught[0].__notes__ == [
        "while that was undone: ModuleInUseError: owner is in use by: other"
    ]
    assert states(host) == {"owner": "live", "other": "live"}
    await host.unload("other")
    await host.unload("owner")


async def test_what_autoload_has_loaded_may_be_unloaded_by_others_meanwhile(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    chain = host.bus.add(SrcuChain("orders"))
    notes.gate, notes.fail = anyio.Event(), anyio.Event()
    write("first", "import notes\nasync def module_exit(host):\n    await notes.gate.wait()\n")
    write(
        "second",
        """
        import notes

        async def slow(event, data):
            await notes.gate.wait()

        def module_init(host):
            host.bus["orders"].register_nowait(slow)
        """,
    )
    top = write(
        "top",
        """
        REQUIRES = ("first", "second")
        import notes

        async def module_init(host):
            await notes.fail.wait()
            return -16
        """,
    )

    async def load() -> None:
        with pytest.raises(ModuleLoadError):
            await host.load(top, autoload=True)

    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as group:
            group.start_soon(load)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(chain.call, "go")
            await anyio.wait_all_tasks_blocked()
            notes.fail.set()
            await anyio.wait_all_tasks_blocked()  # `second` is being taken back
            assert states(host) == {"first": "live", "second": "going"}
            group.start_soon(host.unload, "first")
            await anyio.wait_all_tasks_blocked()
            assert states(host) == {"first": "going", "second": "going"}
            notes.gate.set()
    assert host.modules == ()


# Failing loads.


def failing(statement: str) -> str:
    """Give a module that does a lot and then fails in its init."""
    return f"""
    import errno
    import notes
    from tocsin import AtomicChain, VetoError

    REQUIRES = "owner"
    chain = AtomicChain("mine")

    @chain.subscriber
    def hear(event, data): ...

    async def module_init(host):
        host.bus.add(chain)
        host.bus["test_chain"].register(hear.callback)
        host.require("owner")
        {statement}

    def module_exit(host):
        notes.say("never")
    """


@pytest.mark.parametrize(
    ("statement", "number", "message"),
    [
        ("return -16", 16, "its module_init gave -16 (EBUSY: Device or resource busy)"),
        ("return -errno.ENODEV", 19, "its module_init gave -19 (ENODEV: No such device)"),
        ("return -4095", 4095, "its module_init gave -4095 (unknown errno: Unknown error 4095)"),
        ("raise VetoError(errno.EBUSY, 'no')", 16, "VetoError: [Errno 16] no ("),
        ("raise KeyError", errno.EINVAL, "KeyError ("),
    ],
)
async def test_a_failed_load_leaves_nothing_behind(
    host: ModuleHost, write: Folder, notes: Notes, statement: str, number: int, message: str
) -> None:
    owner = await host.load(write("owner", OWNER))
    file = write("plugin", failing(statement))
    before = dict(sys.modules)
    with pytest.raises(ModuleLoadError) as caught:
        await host.load(file)
    assert str(caught.value).startswith(f"plugin was not loaded: {message}")
    assert (caught.value.errno, caught.value.module) == (number, "plugin")
    assert isinstance(caught.value, ModuleError)
    if "raise" in statement:
        assert f"({file}, line 16)" in str(caught.value)
        assert isinstance(caught.value.__cause__, VetoError | KeyError)
    assert sys.modules == before
    assert states(host) == {"owner": "live"}
    assert host.modules[0].users == ()
    assert list(host.bus) == [owner.test_chain]
    assert owner.test_chain.blocks == (owner.last,)
    assert notes.said == ["owner in"]
    await host.unload("owner")


@pytest.mark.parametrize(
    ("result", "hint"),
    [
        ("16", "gave 16, not None, 0 or a negative errno; did you mean -16?"),
        ("True", "gave True, not None, 0 or a negative errno$"),
        ("-4096", "gave -4096, not None, 0 or a negative errno$"),
        ("'yes'", "gave 'yes', not None, 0 or a negative errno$"),
    ],
)
async def test_an_init_that_gives_anything_else_fails_the_load(
    host: ModuleHost, write: Folder, result: str, hint: str
) -> None:
    with pytest.raises(
        InvalidResultError, match=f"^plugin was not loaded: .*{hint}".replace("?", r"\?")
    ):
        await host.load(write("plugin", f"def module_init(host):\n    return {result}\n"))
    assert host.modules == ()


async def test_a_body_that_raises_is_undone(host: ModuleHost, write: Folder) -> None:
    chain = host.bus.add(AtomicChain("orders"))
    notes_chain = "import notes\nnotes.chain.register(print)\nraise RuntimeError('no')\n"
    sys.modules["notes"].chain = chain  # type: ignore[attr-defined]
    file = write("plugin", notes_chain)
    with pytest.raises(ModuleLoadError) as caught:
        await host.load(file)
    assert str(caught.value) == f"plugin was not loaded: RuntimeError: no ({file}, line 3)"
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert chain.is_empty
    assert "plugin" not in sys.modules


QUITS = ["SystemExit(0)", "GeneratorExit", "asyncio.CancelledError"]


@pytest.mark.parametrize("quits", QUITS)
@pytest.mark.parametrize("where", ["", "def module_init(host):", "async def module_init(host):"])
async def test_a_module_does_not_end_the_program_that_loads_it(
    host: ModuleHost, write: Folder, quits: str, where: str
) -> None:
    raising = f"raise {quits}"
    source = f"import asyncio\n{where or 'if True:'}\n    {raising}\n"
    if where.startswith("async") and quits == "GeneratorExit":
        with pytest.raises(GeneratorExit):  # which cannot be told from a coroutine being closed
            await host.load(write("plugin", source))
    else:
        with pytest.raises(ModuleLoadError, match=r"^plugin was not loaded: ") as caught:
            await host.load(write("plugin", source))
        assert quits.partition("(")[0].rpartition(".")[2] in str(caught.value)
        assert f"plugin.py, line {3})" in str(caught.value)
    assert host.modules == ()


@pytest.mark.parametrize("colour", ["def", "async def"])
async def test_an_exit_does_not_end_the_program_either(
    host: ModuleHost, write: Folder, colour: str
) -> None:
    file = write("plugin", f"import sys\n{colour} module_exit(host):\n    sys.exit(0)\n")
    await host.load(file)
    with pytest.raises(ModuleError) as caught:
        await host.unload("plugin")
    assert str(caught.value) == f"SystemExit: 0 ({file}, line 3)"
    assert caught.value.__notes__ == [
        "raised by module_exit of plugin, which was unloaded all the same"
    ]
    assert host.modules == ()


async def test_an_error_that_has_no_words_is_described(host: ModuleHost, write: Folder) -> None:
    source = """
    class Silent(Exception):
        def __str__(self):
            raise KeyError

    raise Silent
    """
    with pytest.raises(ModuleLoadError, match=r"Silent: \(its text raised KeyError\) \("):
        await host.load(write("plugin", source))


@pytest.mark.parametrize("hook", ["init", "exit"])
async def test_a_coroutine_that_a_hook_gives_is_refused_and_closed(
    write: Folder, hook: str
) -> None:
    source = f"""
    async def forgotten(): ...
    async def module_{hook}(host):
        return forgotten()
    """
    with pytest.raises(InvalidResultError, match="gave <coroutine>, "):
        async with ModuleHost(Bus("main")) as host:
            await host.load(write("plugin", source))


async def test_loading_another_in_vain_inside_init_fails_the_load(
    host: ModuleHost, write: Folder
) -> None:
    file = write("plugin", "async def module_init(host):\n    await host.load('no_such')\n")
    with pytest.raises(ModuleLoadError, match=r"^plugin was not loaded: ModuleLoadError: no_such"):
        await host.load(file)
    file = write("plugin", "async def module_init(host):\n    await host.load('plugin')\n")
    with pytest.raises(ModuleLoadError, match="plugin is being loaded already") as caught:
        await host.load(file)
    assert isinstance(caught.value.__cause__, ModuleLoadedError)
    assert host.modules == ()


async def test_others_left_on_the_chains_of_a_failed_module_are_logged(
    host: ModuleHost, write: Folder
) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(ModuleLoadError):
        await host.load(
            write(
                "plugin",
                """
                from tocsin import AtomicChain, Scope
                def module_init(host):
                    Scope("app").register_nowait(host.bus.add(AtomicChain("mine")), print)
                    return -16
                """,
            )
        )
    assert [(entry["module"], entry["left"]) for entry in logs] == [("plugin", ["app"])]
    assert len(host.bus) == 0


# Bad input.


async def test_a_file_that_does_not_exist_is_named(host: ModuleHost, tmp_path: Path) -> None:
    file = tmp_path / "missing.py"
    with pytest.raises(ModuleLoadError) as caught:
        await host.load(file)
    assert str(caught.value) == f"missing was not loaded: there is no file {file}"
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(ModuleLoadError, match="there is no file"):
        await host.load(tmp_path)
    assert host.modules == ()


async def test_a_syntax_error_is_reported_with_file_and_line(
    host: ModuleHost, write: Folder
) -> None:
    file = write("broken", "x = 1\ndef f(:\n")
    with pytest.raises(ModuleLoadError) as caught:
        await host.load(file)
    assert str(caught.value) == (
        f"broken was not loaded: SyntaxError: invalid syntax ({file}, line 2)"
    )
    assert isinstance(caught.value.__cause__, SyntaxError)
    with pytest.raises(ModuleLoadError, match=r"IndentationError: .*, line 2\)$"):
        await host.load(write("broken", "if True:\nx = 1\n"))
    with pytest.raises(ModuleLoadError, match=r"'return' outside function .*, line 1\)$"):
        await host.load(write("broken", "return 1\n"))
    with pytest.raises(ModuleLoadError, match=r"^broken was not loaded: SyntaxError: .*null bytes"):
        await host.load(write("broken", "x = 1\0\n"))
    deep = r"^broken was not loaded: (MemoryError|RecursionError|SyntaxError): \w.*broken.py"
    with pytest.raises(ModuleLoadError, match=deep):
        await host.load(write("broken", f"x = {'-' * 20_000}1\n"))


async def test_a_body_is_compiled_as_it_says_itself(host: ModuleHost, write: Folder) -> None:
    plugin = await host.load(write("plugin", "def add(one: int) -> int: ..."))
    assert plugin.add.__annotations__ == {"one": int, "return": int}  # not the text of them
    await host.unload("plugin")


async def test_a_module_that_was_written_a_moment_ago_is_found(
    host: ModuleHost, importable: Folder
) -> None:
    importable("first", "")
    await host.load("first")
    before = importable.path.stat()
    importable("second", "")
    os.utime(importable.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await host.load("second")
    await host.unload("second")
    await host.unload("first")


async def test_a_file_that_is_no_text_is_refused(host: ModuleHost, write: Folder) -> None:
    Path(write("binary", "")).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModuleLoadError, match=r"^binary was not loaded: .* \(.*binary.py\)$"):
        await host.load(write.path / "binary.py")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
async def test_a_file_that_cannot_be_read_says_why(
    host: ModuleHost, write: Folder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(loader: object, path: str) -> bytes:
        raise OSError(number, "the disk says no", path)

    monkeypatch.setattr("importlib.machinery.SourceFileLoader.get_data", fail)
    file = write("lost", "1 / 0")
    with pytest.raises(ModuleLoadError, match=r"not loaded: \w+: .* the disk says no") as caught:
        await host.load(file)
    assert caught.value.errno == number


@pytest.mark.parametrize("name", ["module_init", "module_exit"])
@pytest.mark.parametrize(
    ("hook", "why"),
    [
        ("{} = 5", "is no function"),
        ("def {}(): pass", "cannot be called as {}(host)"),
        ("async def {}(host, more): pass", "cannot be called as {}(host)"),
        ("async def {}(host):\n    yield 1", "is a generator function: it never runs"),
    ],
)
async def test_a_hook_that_could_not_be_called_is_refused_before_the_init(
    host: ModuleHost, write: Folder, notes: Notes, name: str, hook: str, why: str
) -> None:
    other = "module_exit" if name == "module_init" else "module_init"
    source = f"import notes\ndef {other}(host): notes.say('called')\n{hook.format(name)}"
    with pytest.raises(ModuleLoadError) as caught:
        await host.load(write("plugin", source))
    assert str(caught.value) == f"plugin was not loaded: its {name} {why.format(name)}"
    assert (host.modules, notes.said) == ((), [])


async def test_a_hook_may_be_anything_that_can_be_called_with_the_host(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    await host.load(write("plugin", "import notes\nmodule_init = notes.say\nmodule_exit = None"))
    await host.unload("plugin")
    assert notes.said == [host]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("REQUIRES = ('a',) + ('b',)", "line 1 has none"),
        ("REQUIRES = 3", "line 1 has none"),
        ("REQUIRES = ['a', 3]", "line 1 has none"),
        ("REQUIRES = ('',)", "line 1 has none"),
        ("if True:\n    REQUIRES = ['a']", r"when its body has run it is \['a'\]"),
        ("REQUIRES = ()\nREQUIRES += (3,)", r"when its body has run it is \(3,\)"),
    ],
)
async def test_requires_is_one_literal(
    host: ModuleHost, write: Folder, source: str, why: str
) -> None:
    with pytest.raises(ModuleLoadError, match=f"its REQUIRES must be one literal .*{why}"):
        await host.load(write("plugin", source))
    assert host.modules == ()


async def test_requires_may_be_annotated_and_empty(host: ModuleHost, write: Folder) -> None:
    await host.load(write("plugin", "REQUIRES: list[str] = []\na, b = 1, 2\nc: int\n"))
    await host.unload("plugin")


@pytest.mark.parametrize("spec", ["examples/plugin", "no-such", "a..b", ""])
async def test_what_can_be_no_module_is_refused(host: ModuleHost, spec: str) -> None:
    with pytest.raises(ModuleLoadError, match="is neither a dotted name, nor an entry point"):
        await host.load(spec)


def test_a_host_needs_a_bus() -> None:
    with pytest.raises(InvalidTypeError, match="a module host needs a Bus, not str"):
        ModuleHost("main")  # type: ignore[arg-type]


async def test_what_names_nothing_is_refused(host: ModuleHost, importable: Folder) -> None:
    with pytest.raises(ModuleLoadError, match=r"there is no module or entry point no_such$") as one:
        await host.load("no_such")
    assert one.value.errno == errno.ENOENT
    with pytest.raises(ModuleLoadError, match=r"looking for no_such.at_all: ModuleNotFound") as two:
        await host.load("no_such.at_all")
    assert two.value.errno == errno.ENOENT
    importable("broken/__init__", "raise RuntimeError('no')")
    with pytest.raises(
        ModuleLoadError, match=r"looking for broken.part: RuntimeError: no"
    ) as three:
        await host.load("broken.part")
    assert three.value.errno == errno.EINVAL
    with pytest.raises(InvalidTypeError, match=r"a module is a dotted name, .* not 42"):
        await host.load(42)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["sys", "math", "space"])
async def test_a_module_without_python_source_is_refused(
    host: ModuleHost, importable: Folder, name: str
) -> None:
    (importable.path / "space").mkdir()
    with pytest.raises(
        ModuleLoadError, match=f"^{name} was not loaded: {name} has no Python source$"
    ):
        await host.load(name)


async def test_a_loader_that_cannot_give_the_source_is_reported(
    host: ModuleHost, importable: Folder
) -> None:
    importable("gone", "")
    sys.modules["gone"] = module = ModuleType("gone")
    module.__spec__ = type(sys.__spec__)("gone", None, origin="nowhere")
    try:
        with pytest.raises(
            ModuleLoadError, match=r"^gone was not loaded: AttributeError: .*nowhere"
        ):
            await host.load("gone")
    finally:
        del sys.modules["gone"]


# Where modules come from.


def dist_info(folder: Folder, package: str, *points: str) -> None:
    """Write what an installed package says of itself."""
    info = folder.path / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[tocsin.modules]", *points, ""]))


async def test_a_module_is_loaded_by_its_entry_point(host: ModuleHost, importable: Folder) -> None:
    importable("acme/__init__", "")
    importable("acme/plugin", "value = 7")
    dist_info(importable, "acme", "bell = acme.plugin")
    module = await host.load("bell")
    assert (module.__name__, module.value, states(host)) == ("acme.plugin", 7, {"bell": "live"})
    assert host.require("bell") is module
    with pytest.raises(ModuleLoadedError, match=r"^acme.plugin is loaded already, as bell$"):
        await host.load("acme.plugin")
    await host.unload("bell")
    assert "acme" not in sys.modules


async def test_an_entry_point_that_is_unclear_is_refused(
    host: ModuleHost, importable: Folder
) -> None:
    dist_info(importable, "one", "bell = acme.plugin", "thing = acme.plugin:Thing")
    dist_info(importable, "two", "bell = other.plugin")
    with pytest.raises(ModuleLoadError, match=r"several packages: acme.plugin, other.plugin; load"):
        await host.load("bell")
    with pytest.raises(ModuleLoadError, match=r"must name a module, not an object in acme.plugin"):
        await host.load("thing")


async def test_a_module_of_a_package_can_import_its_neighbours(
    host: ModuleHost, importable: Folder
) -> None:
    importable("acme/__init__", "")
    importable("acme/common", "value = 7")
    importable("acme/plugin", "from .common import value")
    importable("acme/other", "from acme import plugin\nfrom .common import value")
    before = dict(sys.modules)
    first = await host.load("acme.plugin")
    other = await host.load("acme.other")
    assert other.plugin is first
    assert sys.modules["acme"].plugin is first
    assert states(host) == {"plugin": "live", "other": "live"}
    package = sys.modules["acme"]
    await host.unload("other")
    await host.unload("plugin")
    assert not hasattr(package, "plugin")
    assert sys.modules == before


async def test_a_package_goes_with_the_last_of_its_modules(
    host: ModuleHost, importable: Folder
) -> None:
    importable("acme/__init__", "")
    importable("acme/inner/__init__", "")
    for name in ("acme/inner/one", "acme/inner/two", "acme/three"):
        importable(name, "")
    for order in (["one", "two", "three"], ["three", "two", "one"], ["two", "three", "one"]):
        for spec in ("acme.inner.one", "acme.inner.two", "acme.three"):
            await host.load(spec)
        for name in order:
            assert "acme" in sys.modules
            await host.unload(name)
        assert not {"acme", "acme.inner"} & sys.modules.keys()


async def test_a_package_may_be_a_module(host: ModuleHost, importable: Folder) -> None:
    importable("acme/__init__", "from .common import value")
    for value in (1, 22):
        importable("acme/common", f"value = {value}")
        assert (await host.load("acme")).value == value
        await host.unload("acme")
        assert not {"acme", "acme.common"} & sys.modules.keys()


async def test_a_module_out_of_an_archive(
    host: ModuleHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "plugins.zip", "w") as archive:
        archive.writestr("zipped.py", "value = 7")
    monkeypatch.syspath_prepend(tmp_path / "plugins.zip")
    assert (await host.load("zipped")).value == 7
    await host.unload("zipped")


async def test_what_was_imported_before_comes_back(host: ModuleHost, importable: Folder) -> None:
    file = importable("plugin", "")
    importable("acme/__init__", "")
    importable("acme/part", "")
    acme, part, plugin = map(importlib.import_module, ("acme", "acme.part", "plugin"))
    before = dict(sys.modules)
    try:
        assert await host.load(file) is not plugin
        assert await host.load("acme.part") is not part
        assert sys.modules["acme.part"] is acme.part is host.require("part")
        for name in ("plugin", "part"):
            await host.unload(name)
        assert sys.modules == before
        assert acme.part is part
        await host.load("plugin")
        sys.modules["plugin"] = replaced = ModuleType("plugin")
        await host.unload("plugin")
        assert sys.modules["plugin"] is replaced
    finally:
        for name in ("plugin", "acme", "acme.part"):
            del sys.modules[name]


async def test_a_module_may_be_loaded_where_a_closed_scope_is_ambient(
    host: ModuleHost, write: Folder
) -> None:
    scope = Scope("gone")
    scope.close()
    with scope.ambient():
        module = await host.load(write("plugin", ""))
        assert host.require("plugin") is module
        await host.unload("plugin")


async def test_two_hosts_may_load_the_same_file(write: Folder) -> None:
    file = write("plugin", "")
    for order in ([0, 1], [1, 0]):
        hosts = [ModuleHost(Bus("one")), ModuleHost(Bus("two"))]
        loaded = [await host.load(file) for host in hosts]
        assert sys.modules["plugin"] is loaded[1]
        await hosts[order[0]].unload("plugin")
        assert sys.modules["plugin"] is loaded[order[1]]
        await hosts[order[1]].unload("plugin")
        assert "plugin" not in sys.modules


async def test_a_module_of_a_package_that_fails_leaves_nothing_imported(
    host: ModuleHost, importable: Folder
) -> None:
    importable("acme/__init__", "")
    importable("acme/common", "")
    importable("acme/plugin", "from . import common\n1 / 0\n")
    before = dict(sys.modules)
    with pytest.raises(ModuleLoadError, match="ZeroDivisionError"):
        await host.load("acme.plugin")
    assert sys.modules == before
    acme = importlib.import_module("acme")
    with pytest.raises(ModuleLoadError, match="ZeroDivisionError"):
        await host.load("acme.plugin")
    assert sys.modules == before | {"acme": acme}
    assert not hasattr(acme, "common")
    del sys.modules["acme"]


async def test_what_an_init_loaded_is_unloaded_when_it_fails(
    host: ModuleHost, importable: Folder, notes: Notes
) -> None:
    importable("owner", OWNER)
    importable("middle", "async def module_init(host):\n    await host.load('owner')\n")
    importable("last", "")
    file = importable(
        "top",
        """
        async def module_init(host):
            await host.load("middle")
            await host.load("last")
            await host.load("user")
            return -16
        """,
    )
    importable("user", "REQUIRES = 'last'\n" + FAILS)
    with pytest.raises(ModuleLoadError, match="EBUSY") as caught:
        await host.load(file)
    assert (host.modules, notes.said) == ((), ["owner in", "owner out"])
    assert caught.value.errno == errno.EBUSY


@pytest.mark.parametrize("taken", ["this", "antigravity", "tomllib.py"])
async def test_a_file_does_not_take_the_name_of_what_is_not_imported_yet(
    host: ModuleHost, write: Folder, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = taken.removesuffix(".py")
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ModuleLoadError, match=r"another module of that name \(.*; rename the file"):
        await host.load(write(name, ""))
    assert name not in sys.modules


async def test_a_required_dotted_name_is_that_module_and_no_other(
    host: ModuleHost, importable: Folder
) -> None:
    importable("acme/__init__", "")
    importable("acme/one", "")
    user = importable("user", "REQUIRES = 'acme.one'")
    await host.load(importable("one", ""))
    with pytest.raises(ModuleDependencyError, match=r"^user needs acme.one, which is not loaded"):
        await host.load(user)
    await host.unload("one")
    await host.load("acme.one")
    await host.load(user)
    assert host.modules[0].users == ("user",)
    await host.unload("user")
    await host.unload("one")


@pytest.mark.parametrize("needed", [None, "1 / 0", "def module_init(host):\n    return -16\n"])
async def test_a_failing_autoload_says_who_required_it(
    host: ModuleHost, write: Folder, needed: str | None
) -> None:
    if needed:
        write("needed", needed)
    with pytest.raises(ModuleLoadError, match=r"^needed was not loaded") as caught:
        await host.load(write("top", "REQUIRES = 'needed'"), autoload=True)
    assert caught.value.__notes__ == ["required by top"]
    assert host.modules == ()


@pytest.mark.parametrize("name", ["errno", "textwrap"])
async def test_a_file_does_not_take_the_name_of_another_module(
    host: ModuleHost, write: Folder, name: str
) -> None:
    there = sys.modules[name]
    with pytest.raises(ModuleLoadError, match="there is another module of that name") as caught:
        await host.load(write(name, ""))
    assert caught.value.errno == errno.EEXIST
    assert getattr(there, "__file__", "built in") in str(caught.value)
    assert sys.modules[name] is there


# Failing and interrupted unloads.


async def test_a_module_whose_exit_raises_is_unloaded_all_the_same(
    host: ModuleHost, write: Folder
) -> None:
    chain = host.bus.add(AtomicChain("orders"))
    await host.load(
        write(
            "plugin",
            """
            from tocsin import AtomicChain
            def module_init(host):
                host.bus.add(AtomicChain("mine"))
                host.bus["orders"].register(print)
            def module_exit(host):
                raise RuntimeError("no")
            """,
        )
    )
    with structlog.testing.capture_logs() as logs, pytest.raises(RuntimeError, match="no") as error:
        await host.unload("plugin")
    assert error.value.__notes__ == [
        "raised by module_exit of plugin, which was unloaded all the same"
    ]
    assert [entry["blocks"] for entry in logs] == [["print"]]
    assert (host.modules, list(host.bus), chain.is_empty) == ((), [chain], True)
    assert "plugin" not in sys.modules


async def test_an_exit_cannot_fail_with_an_errno(host: ModuleHost, write: Folder) -> None:
    await host.load(write("plugin", "def module_exit(host):\n    return -16\n"))
    with pytest.raises(InvalidResultError, match="module_exit of plugin gave -16, but an exit"):
        await host.unload("plugin")
    assert host.modules == ()


async def test_the_host_unloads_the_others_when_one_fails(write: Folder, notes: Notes) -> None:
    fails = "import notes\ndef module_exit(host):\n    notes.say(__name__)\n    1 / 0\n"
    with pytest.raises(ZeroDivisionError):
        async with ModuleHost(Bus("main")) as host:
            await host.load(write("first", OWNER))
            await host.load(write("second", fails))
    assert notes.said == ["owner in", "second", "owner out"]
    with pytest.raises(ExceptionGroup, match="unloading all modules") as caught:
        async with ModuleHost(Bus("main")) as host:
            await host.load(write("first", fails))
            await host.load(write("second", fails))
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError] * 2
    assert host.modules == ()


SLOW = """
    import notes
    from tocsin import AtomicChain

    async def module_init(host):
        host.bus.add(AtomicChain("mine"))
        await notes.gate.wait()

    async def module_exit(host):
        notes.say("out")
        await notes.gate.wait()
"""


async def test_a_load_that_is_cancelled_is_undone(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    notes.gate = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(host.load, write("slow", SLOW))
        await anyio.wait_all_tasks_blocked()
        assert states(host) == {"slow": "coming"}
        group.cancel_scope.cancel()
    assert (host.modules, len(host.bus), notes.said) == ((), 0, [])
    assert "slow" not in sys.modules


async def test_an_unload_that_is_cancelled_has_taken_effect(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    notes.gate = anyio.Event()
    notes.gate.set()
    await host.load(write("slow", SLOW))
    notes.gate = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(host.unload, "slow")
        await anyio.wait_all_tasks_blocked()
        assert states(host) == {"slow": "going"}
        group.cancel_scope.cancel()
    assert (host.modules, len(host.bus), notes.said) == ((), 0, ["out"])
    assert "slow" not in sys.modules


SLOW_EXIT = """
    import anyio
    import notes

    async def module_exit(host):
        await anyio.lowlevel.checkpoint()
        notes.say("slept")
"""
FAILS = "def module_exit(host):\n    1 / 0\n"


async def test_a_cancelled_host_unloads_all_and_lets_the_exits_end(
    write: Folder, notes: Notes
) -> None:
    host = ModuleHost(Bus("main"))
    with structlog.testing.capture_logs() as logs, anyio.CancelScope() as scope:
        async with host:
            await host.load(write("owner", OWNER))
            await host.load(write("slow", SLOW_EXIT))
            await host.load(write("fails", FAILS))
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert (host.modules, len(host.bus)) == ((), 0)
    assert notes.said == ["owner in", "slept", "owner out"]
    assert [entry["event"] for entry in logs] == ["a module failed while it was unloaded"]


async def test_the_error_of_the_body_is_not_hidden_by_a_failing_exit(write: Folder) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(KeyError) as caught:
        async with ModuleHost(Bus("main")) as host:
            await host.load(write("first", FAILS))
            await host.load(write("second", FAILS))
            raise KeyError
    assert (
        caught.value.__notes__
        == ["while all modules were unloaded: ZeroDivisionError: division by zero"] * 2
    )
    assert len(logs) == 2


async def test_an_interruption_while_all_is_unloaded_comes_at_the_end(write: Folder) -> None:
    interrupts = "def module_exit(host):\n    raise KeyboardInterrupt\n"
    for error in (None, KeyError()):
        with structlog.testing.capture_logs() as logs, pytest.raises(KeyboardInterrupt):
            async with ModuleHost(Bus("main")) as host:
                await host.load(write("first", FAILS))
                await host.load(write("second", interrupts))
                if error:
                    raise error
        assert len(logs) == 1
        assert host.modules == ()


async def test_a_host_that_has_been_exited_loads_nothing(host: ModuleHost, write: Folder) -> None:
    async with host:
        pass
    with pytest.raises(ModuleLoadError, match=r"^plugin was not loaded: its host has been exited"):
        await host.load(write("plugin", ""))
    assert host.modules == ()


async def test_what_is_still_loading_when_the_host_is_exited_is_not_loaded(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    notes.gate = anyio.Event()
    write("slow", SLOW)
    write("last", "import notes\nnotes.say('never')\n")
    top = write("top", "REQUIRES = ('slow', 'last')")

    async def load(spec: str) -> None:
        with pytest.raises(ModuleLoadError, match=r"^slow was not loaded: its host has been"):
            await host.load(spec, autoload=True)
        notes.say("refused")

    async with anyio.create_task_group() as group:
        async with host:
            group.start_soon(load, top)
            await anyio.wait_all_tasks_blocked()
        assert (host.modules, len(host.bus)) == ((), 0)
        notes.gate.set()
    assert notes.said == ["refused"]
    assert host.modules == ()


async def test_what_an_exited_host_has_not_begun_to_load_is_not_begun(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    write("first", "async def module_init(host):\n    await host.__aexit__(None, None, None)\n")
    write("second", "import notes\nnotes.say('never')\n")
    with pytest.raises(ModuleLoadError, match="first was not loaded: its host has been exited"):
        await host.load(write("top", "REQUIRES = ('first', 'second')"), autoload=True)
    assert (notes.said, host.modules) == ([], ())


async def test_a_host_that_is_exited_waits_for_what_others_unload(
    write: Folder, notes: Notes
) -> None:
    notes.gate = anyio.Event()
    notes.gate.set()
    async with anyio.create_task_group() as group:
        async with ModuleHost(Bus("main")) as host:
            await host.load(write("slow", SLOW))
            notes.gate = anyio.Event()
            group.start_soon(host.unload, "slow")
            await anyio.wait_all_tasks_blocked()
            group.start_soon(release, notes)
        assert host.modules == ()


async def release(notes: Notes) -> None:
    await anyio.wait_all_tasks_blocked()
    notes.gate.set()


async def test_what_others_left_on_the_chains_does_not_keep_a_module_of_an_exited_host(
    write: Folder, notes: Notes
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with ModuleHost(Bus("main")) as host:
            owner = await host.load(write("owner", OWNER))
            owner.test_chain.register(print)
    assert (host.modules, len(host.bus)) == ((), 0)
    assert [entry["left"] for entry in logs] == [["block print on chain test_chain"]]


# The life of a module.


async def test_a_module_on_its_way_in_or_out_refuses_all_that_is_illegal(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    notes.gate = anyio.Event()
    file = write("slow", SLOW)
    async with anyio.create_task_group() as group:
        group.start_soon(host.load, file)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ModuleLoadedError, match=r"^slow is being loaded already$"):
            await host.load(file)
        with pytest.raises(ModuleInUseError, match=r"^slow is still being loaded; unload it after"):
            await host.unload("slow")
        with pytest.raises(ModuleDependencyError, match=r"^user needs slow, which is still being"):
            await host.load(write("user", "REQUIRES = 'slow'"))
        notes.gate.set()
    notes.gate = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(host.unload, "slow")
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(
            ModuleLoadedError, match=r"^slow is still being unloaded; load it after"
        ):
            await host.load(file)
        with pytest.raises(ModuleInUseError, match=r"^slow is being unloaded already$"):
            await host.unload("slow")
        with pytest.raises(ModuleDependencyError, match=r"^this code needs slow, which is being"):
            host.require("slow")
        notes.gate.set()
    assert host.modules == ()


def test_every_event_from_outside_is_legal_or_has_its_error_in_every_state() -> None:
    for state in ModuleState:
        for event in (Event.LOAD, Event.USE, Event.UNLOAD, Event.RELOAD):
            legal, refused = event in TRANSITIONS[state], event in REFUSALS.get(state, {})
            nobody = state is ModuleState.ABSENT and event in (Event.UNLOAD, Event.RELOAD)
            assert legal + refused + nobody == 1, (state, event)
            if refused:
                with pytest.raises(ModuleError) as caught:
                    advance("plugin", state, event, user="user" if event is Event.USE else "")
                assert isinstance(caught.value, TocsinError)
                assert caught.value.errno != errno.EINVAL


def test_every_state_is_reached_and_left() -> None:
    reached = {following for events in TRANSITIONS.values() for following in events.values()}
    assert reached == set(ModuleState) == TRANSITIONS.keys()


def test_the_module_host_is_at_the_front_door_too() -> None:
    assert tocsin.ModuleHost is ModuleHost
    with pytest.raises(AttributeError, match="module 'tocsin' has no attribute 'no_such'"):
        tocsin.no_such  # type: ignore[attr-defined]


# A module that does not go.


HANGS = """
    import anyio
    import notes

    def module_init(host):
        host.bus["orders"].register(print)

    async def module_exit(host):
        try:
            await anyio.sleep_forever()
        finally:
            notes.say(__name__)
"""


def impatient() -> ModuleHost:
    host = ModuleHost(Bus("main"), exit_timeout=0.01)
    host.bus.add(AtomicChain("orders"))
    return host


async def test_an_exit_that_hangs_is_cancelled_and_the_module_unloaded_all_the_same(
    write: Folder, notes: Notes
) -> None:
    host = impatient()
    await host.load(write("hangs", HANGS))
    with structlog.testing.capture_logs() as logs, pytest.raises(ModuleTimeoutError) as caught:
        await host.unload("hangs")
    assert str(caught.value) == (
        "module_exit of hangs did not end within 0.01 s and was cancelled; hangs was unloaded all "
        "the same"
    )
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.module, caught.value.errno) == ("hangs", errno.ETIMEDOUT)
    assert (notes.said, host.modules, len(host.bus["orders"])) == (["hangs"], (), 0)
    assert [entry["blocks"] for entry in logs] == [["print"]]
    await host.load(write("next", ""))  # the host goes on
    await host.unload("next")


async def test_an_exit_that_hangs_does_not_keep_the_others_from_being_unloaded(
    write: Folder, notes: Notes
) -> None:
    with structlog.testing.capture_logs(), pytest.raises(ExceptionGroup) as caught:
        async with impatient() as host:
            await host.load(write("owner", OWNER))
            await host.load(write("first", HANGS))
            await host.load(write("second", HANGS))
    assert [str(error).split(" within")[0] for error in caught.value.exceptions] == [
        "module_exit of second did not end",
        "module_exit of first did not end",
    ]
    assert notes.said == ["owner in", "second", "first", "owner out"]
    assert host.modules == ()


async def test_an_exit_that_hangs_is_cancelled_where_all_is_cancelled_too(
    write: Folder, notes: Notes
) -> None:
    with structlog.testing.capture_logs(), anyio.CancelScope() as scope:
        async with impatient() as host:
            await host.load(write("hangs", HANGS))
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert (notes.said, host.modules) == (["hangs"], ())


async def test_an_exit_that_ends_although_it_was_cancelled_is_no_failure(
    write: Folder, notes: Notes
) -> None:
    host = impatient()
    await host.load(
        write(
            "late",
            """
            import anyio
            import notes

            async def module_exit(host):
                try:
                    await anyio.sleep_forever()
                except anyio.get_cancelled_exc_class():
                    notes.say("swallowed")
            """,
        )
    )
    await host.unload("late")
    assert (notes.said, host.modules) == (["swallowed"], ())


async def test_without_a_bound_an_exit_may_take_its_time(write: Folder, notes: Notes) -> None:
    host = ModuleHost(Bus("main"), exit_timeout=None)
    assert host.exit_timeout is None
    notes.gate = anyio.Event()
    await host.load(write("slow", SLOW.replace("await notes.gate.wait()", "", 1)))
    async with anyio.create_task_group() as group:
        group.start_soon(host.unload, "slow")
        await anyio.wait_all_tasks_blocked()
        notes.gate.set()
    assert host.modules == ()


async def test_a_sync_exit_cannot_be_cut_short(write: Folder, notes: Notes) -> None:
    host = ModuleHost(Bus("main"), exit_timeout=5e-324)
    await host.load(
        write("quick", "import notes\ndef module_exit(host):\n    notes.say('out')\n    return 0\n")
    )
    await host.unload("quick")
    assert notes.said == ["out"]


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_an_exit_timeout_is_above_zero(seconds: float) -> None:
    with pytest.raises(InvalidValueError, match=r"exit_timeout must be above 0 s, or None for no"):
        ModuleHost(Bus("main"), exit_timeout=seconds)


@pytest.mark.parametrize("seconds", ["10", True])
def test_an_exit_timeout_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(InvalidTypeError, match="exit_timeout must be seconds, not"):
        ModuleHost(Bus("main"), exit_timeout=seconds)
    assert ModuleHost(Bus("main")).exit_timeout == 10


# An exited host and what others do meanwhile.


async def test_a_host_that_is_exited_does_not_mind_what_others_unload_meanwhile(
    write: Folder, notes: Notes
) -> None:
    notes.gate = anyio.Event()
    notes.gate.set()
    async with anyio.create_task_group() as group:
        async with ModuleHost(Bus("main")) as host:
            await host.load(write("other", ""))
            await host.load(write("slow", SLOW))
            notes.gate = anyio.Event()

            async def unload() -> None:
                await anyio.wait_all_tasks_blocked()
                assert states(host) == {"other": "live", "slow": "going"}
                await host.unload("other")
                notes.gate.set()

            group.start_soon(unload)
    assert host.modules == ()
