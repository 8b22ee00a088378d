"""A module is reloaded with those that use it, or is as it was, or the error says what is not."""

from __future__ import annotations

import errno
import gc
import importlib
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
import structlog

from tocsin import (
    AtomicChain,
    BlockingChain,
    Bus,
    InvalidResultError,
    ModuleDependencyError,
    ModuleError,
    ModuleInUseError,
    ModuleLoadedError,
    ModuleLoadError,
    ModuleNotLoadedError,
    SrcuChain,
    WouldDeadlockError,
)
from tocsin.modules import ModuleHost

from .plugins import OWNER, USER, Folder, Notes, states

if TYPE_CHECKING:
    from types import ModuleType

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]


def versioned(version: object, *, init: str = "", end: str = "", head: str = "") -> str:
    """Give a module that says its name and version when it comes and goes."""
    return f"""
{head}
import anyio
import notes

VERSION = {version}

def hear(event, data):
    notes.say((__name__, VERSION, event))

async def module_init(host):
    notes.say(f"{{__name__}} {{VERSION}} in")
    {init or "pass"}

async def module_exit(host):
    notes.say(f"{{__name__}} {{VERSION}} out")
    {end or "pass"}
"""


LISTEN = "host.bus['orders'].register_nowait(hear)"
FORGET = "host.scope(__name__).close()"


def drain(notes: Notes) -> list[Any]:
    said = notes.said.copy()
    notes.said.clear()
    return said


# A new version.


async def test_a_reloaded_module_is_the_new_version_and_the_old_one_is_not_called(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    chain = host.bus.add(AtomicChain("orders"))
    old = await host.load(write("plugin", versioned(1, init=LISTEN, end=FORGET)))
    other = chain.register(lambda event, data: None)
    chain.call("one")
    write("plugin", versioned(2, init=LISTEN, end=FORGET))
    new = await host.reload("plugin")
    chain.call("two")
    assert (new.VERSION, old.VERSION) == (2, 1)
    assert sys.modules["plugin"] is new is host.require("plugin")
    assert drain(notes) == [
        "plugin 1 in",
        ("plugin", 1, "one"),
        "plugin 1 out",
        "plugin 2 in",
        ("plugin", 2, "two"),
    ]
    assert states(host) == {"plugin": "live"}
    assert [block.owner for block in chain] == [None, host.scope("plugin")]
    assert host.bus["orders"] is chain
    chain.unregister(other)
    await host.unload("plugin")
    assert "plugin" not in sys.modules


async def test_those_that_use_it_go_before_it_and_come_after_it_afresh(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    await host.load(write("base", versioned(1)))
    await host.load(write("middle", versioned(1, head="REQUIRES = 'base'")))
    await host.load(write("aside", versioned(1)))
    await host.load(write("top", versioned(1, init="host.require('middle')")))
    drain(notes)
    for name in ("base", "top"):
        write(name, versioned(2, init="host.require('middle')" if name == "top" else ""))
    write("middle", versioned(2, head="import base\nREQUIRES = 'base'"))
    base = await host.reload("base")
    assert drain(notes) == [
        "top 1 out",
        "middle 1 out",
        "base 1 out",
        "base 2 in",
        "middle 2 in",
        "top 2 in",
    ]
    assert [(info.name, info.users) for info in host.modules] == [
        ("aside", ()),
        ("base", ("middle",)),
        ("middle", ("top",)),
        ("top", ()),
    ]
    assert host.require("middle").base is base
    for name in ("top", "middle", "base", "aside"):
        await host.unload(name)


async def test_a_chain_of_the_module_is_a_new_one_and_its_users_register_again(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    host.bus.set_filters({"test_chain": "hear, other"})
    await host.load(write("owner", OWNER))
    await host.load(write("user", USER))
    old = host.bus["test_chain"]
    await host.reload("owner")
    new = host.bus.get("test_chain", AtomicChain)
    assert (old is new, old.is_empty) == (False, True)
    assert [block.owner for block in new] == [host.scope("user")]
    assert notes.said == [
        *("owner in", "user in"),
        *("user out", "owner out"),
        *("owner in", "user in"),
    ]
    await host.unload("user")
    await host.unload("owner")


async def test_reload_returns_when_no_callback_of_the_old_version_is_running(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    chain = host.bus.add(SrcuChain("orders"))
    notes.gate = anyio.Event()
    slow = """
        import notes

        async def slow(event, data):
            notes.say("entered")
            await notes.gate.wait()
            notes.say("finished")

        def module_init(host):
            host.bus["orders"].register_nowait(slow)
        """
    await host.load(write("plugin", slow))
    write("plugin", "")

    async def reload() -> None:
        await host.reload("plugin")
        notes.say("reloaded")

    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as group:
            group.start_soon(chain.call, "go")
            await anyio.wait_all_tasks_blocked()
            group.start_soon(reload)
            await anyio.wait_all_tasks_blocked()
            await chain.call("not for the old one")
            assert notes.said == ["entered"]
            notes.gate.set()
    assert notes.said == ["entered", "finished", "reloaded"]
    await host.unload("plugin")


async def test_what_the_new_versions_require_is_their_new_order(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    await host.load(write("base", versioned(1)))
    await host.load(write("one", versioned(1, head="REQUIRES = 'base'")))
    await host.load(write("two", versioned(1, head="REQUIRES = 'base'")))
    await host.load(write("late", versioned(1)))
    drain(notes)
    write("base", versioned(2, head="REQUIRES = ['late', 'two']"))
    write("one", versioned(2, head="REQUIRES = ['two']"))
    write("two", versioned(2))
    await host.reload("base")
    assert drain(notes)[3:] == ["two 2 in", "base 2 in", "one 2 in"]
    assert [(info.name, info.users) for info in host.modules] == [
        ("late", ("base",)),
        ("two", ("one", "base")),
        ("base", ()),
        ("one", ()),
    ]
    for name in ("one", "base", "two", "late"):
        await host.unload(name)


async def test_a_module_may_have_itself_reloaded_by_a_task_of_its_own(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    notes.gate = anyio.Event()
    async with anyio.create_task_group() as group:
        notes.do = group.start_soon
        await host.load(
            write(
                "plugin",
                """
                import notes

                async def renew(host):
                    await notes.gate.wait()
                    notes.say((await host.reload("plugin")).__doc__)

                def module_init(host):
                    notes.do(renew, host)
                """,
            )
        )
        write("plugin", "'version 2'")
        notes.gate.set()
    assert notes.said == ["version 2"]
    await host.unload("plugin")


@pytest.mark.parametrize("flavour", [SrcuChain, BlockingChain, AtomicChain])
async def test_reload_waits_for_a_callback_in_a_thread(
    host: ModuleHost, write: Folder, notes: Notes, flavour: Any
) -> None:
    chain: Any = host.bus.add(flavour("orders"))
    options = "" if flavour is AtomicChain else ", thread=True"
    entered, release = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        release.wait()
        notes.say("finished")

    notes.do = work
    source = f"""
        import notes

        def hear(event, data):
            notes.do()

        def module_init(host):
            host.bus["orders"].register_nowait(hear{options})
        """
    await host.load(write("plugin", source))
    write("plugin", "")

    async def call() -> None:
        if flavour is AtomicChain:
            await anyio.to_thread.run_sync(chain.call, "go")
        else:
            await chain.call("go")

    async def reload() -> None:
        await host.reload("plugin")
        notes.say("reloaded")

    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await anyio.to_thread.run_sync(entered.wait)
            group.start_soon(reload)
            await anyio.wait_all_tasks_blocked()
            assert notes.said == []
            release.set()
    assert notes.said == ["finished", "reloaded"]
    await host.unload("plugin")


async def test_streams_and_waits_of_the_old_version_end(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    chain = host.bus.add(SrcuChain[str, None]("orders"))
    source = """
        import notes

        VERSION = {}

        async def read(host):
            async with host.bus["orders"].stream() as stream:
                async for event, _ in stream:
                    notes.say((VERSION, event))
            notes.say((VERSION, "ended"))

        async def wait(host):
            try:
                await host.bus["orders"].wait_for()
            except Exception as error:
                notes.say((VERSION, type(error).__name__))

        def module_init(host):
            notes.do(read, host)
            notes.do(wait, host)
        """
    async with anyio.create_task_group() as group:
        notes.do = group.start_soon
        await host.load(write("plugin", source.format(1)))
        await anyio.wait_all_tasks_blocked()
        write("plugin", source.format(2))
        with structlog.testing.capture_logs():
            await host.reload("plugin")
        await anyio.wait_all_tasks_blocked()
        assert sorted(drain(notes)) == [(1, "EndOfStream"), (1, "ended")]
        await chain.call("go")
        await anyio.wait_all_tasks_blocked()
        assert drain(notes) == [(2, "go")]
        with structlog.testing.capture_logs():
            await host.unload("plugin")
    assert drain(notes) == [(2, "ended")]


async def test_nothing_keeps_the_old_version(host: ModuleHost, write: Folder) -> None:
    chain = host.bus.add(AtomicChain("orders"))
    old = weakref.ref(await host.load(write("plugin", versioned(1, init=LISTEN, end=FORGET))))
    user = weakref.ref(await host.load(write("user", versioned(1, head="REQUIRES = 'plugin'"))))
    chain.call("ping")
    for source in (versioned(2, init=LISTEN, end=FORGET), "1 / 0"):
        write("plugin", source)
        with suppress(ModuleLoadError):
            await host.reload("plugin")
    gc.collect()
    assert (old(), user()) == (None, None)
    await host.unload("user")
    await host.unload("plugin")


async def test_a_link_that_leads_to_another_file_leads_there(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    link = write.path / "plugin.py"
    link.symlink_to(write("releases/one", versioned(1)))
    assert (await host.load(link)).VERSION == 1
    (write.path / "new").symlink_to(write("releases/two", versioned(2)))
    (write.path / "new").replace(link)
    assert (await host.reload("plugin")).VERSION == 2
    await host.unload("plugin")


# The old one stays.


async def test_what_is_not_loaded_is_not_reloaded(host: ModuleHost, write: Folder) -> None:
    await host.load(write("plugin", ""))
    with pytest.raises(
        ModuleNotLoadedError, match=r"plugni is not loaded; did you mean 'plugin'\?"
    ):
        await host.reload("plugni")
    await host.unload("plugin")


@pytest.mark.parametrize(
    ("name", "source", "kind", "message"),
    [
        ("owner", "def (", ModuleLoadError, "SyntaxError: invalid syntax ("),
        ("owner", None, ModuleLoadError, "there is no file "),
        ("owner", "REQUIRES = 1 + 1", ModuleLoadError, "its REQUIRES must be one literal"),
        (
            "owner",
            "REQUIRES = 'nobody'",
            ModuleDependencyError,
            "owner needs nobody, which is not loaded; load nobody first",
        ),
        (
            "owner",
            "REQUIRES = 'user'",
            ModuleDependencyError,
            "no order of loading: each needs another of owner, user",
        ),
        ("user", "def (", ModuleLoadError, "user was not loaded: SyntaxError: invalid syntax ("),
        (
            "user",
            "REQUIRES = ('owner', 'nobody')",
            ModuleDependencyError,
            "user needs nobody, which is not loaded; load nobody first",
        ),
    ],
)
async def test_what_can_be_seen_before_leaves_all_as_it_was(
    host: ModuleHost,
    write: Folder,
    notes: Notes,
    name: str,
    source: str | None,
    kind: type[ModuleError],
    message: str,
) -> None:
    owner = await host.load(write("owner", OWNER))
    user = await host.load(write("user", USER))
    drain(notes)
    before = (host.modules, dict(sys.modules), host.bus["test_chain"].blocks)
    if source is None:
        (write.path / f"{name}.py").unlink()
    else:
        write(name, source)
    with pytest.raises(kind) as caught:
        await host.reload("owner")
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"owner was not reloaded, the old version stays: {message}")
    assert caught.value.module == "owner"
    assert isinstance(caught.value.__cause__, kind)
    assert caught.value.errno == caught.value.__cause__.errno
    assert (host.modules, sys.modules, host.bus["test_chain"].blocks) == before
    assert (host.require("owner"), host.require("user")) == (owner, user)
    owner.test_chain.call("ping")
    assert notes.said == ["ping"]
    await host.unload("user")
    await host.unload("owner")


async def test_blocks_of_others_on_its_chains_keep_it(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    owner = await host.load(write("owner", OWNER))
    await host.load(write("user", USER))
    await host.load(
        write(
            "top",
            "REQUIRES = 'user'\ndef module_init(host): host.bus['test_chain'].register(print)",
        )
    )
    stranger = owner.test_chain.register(lambda event, data: None, name="stranger")
    drain(notes)
    with pytest.raises(ModuleInUseError) as caught:
        await host.reload("owner")
    assert str(caught.value) == "owner is in use by: block stranger on chain test_chain"
    assert caught.value.errno == errno.EAGAIN
    owner.test_chain.unregister(stranger)
    await host.unload("top")
    await host.load(write("aside", "def module_init(host): host.bus['test_chain'].register(print)"))
    with pytest.raises(ModuleInUseError, match=r"^owner is in use by: aside$"):
        await host.reload("owner")
    assert notes.said == []
    with structlog.testing.capture_logs():
        await host.unload("aside")
    await host.unload("user")
    await host.load(write("user", "\n    REQUIRES = 'owner'" + OWNER.replace("test_", "other_")))
    host.bus.get("other_chain", AtomicChain).register(print)
    with pytest.raises(ModuleInUseError, match="user is in use by: block print") as caught:
        await host.reload("owner")
    assert caught.value.__notes__ == ["it goes with owner, which was to be reloaded"]
    assert states(host) == {"owner": "live", "user": "live"}
    with structlog.testing.capture_logs():
        await host.__aexit__(None, None, None)


@pytest.mark.parametrize("flavour", [BlockingChain, SrcuChain])
@pytest.mark.parametrize("name", ["plugin", "base"])
async def test_reloading_inside_a_callback_is_refused_and_changes_nothing(
    host: ModuleHost, write: Folder, notes: Notes, flavour: Any, name: str
) -> None:
    chain = host.bus.add(flavour("orders"))
    await host.load(write("base", versioned(1)))
    await host.load(
        write(
            "plugin",
            f"""
            REQUIRES = "base"

            async def renew(event, host):
                await host.reload({name!r})

            def module_init(host):
                host.bus["orders"].register_nowait(renew)
            """,
        )
    )
    drain(notes)
    with pytest.raises(WouldDeadlockError, match="reload the module after the call"):
        await chain.call("go", host)
    assert states(host) == {"base": "live", "plugin": "live"}
    assert (len(chain), notes.said) == (1, [])
    with structlog.testing.capture_logs():
        await host.unload("plugin")
    await host.unload("base")


# The old one is restored.


async def pair(host: ModuleHost, write: Folder, notes: Notes) -> AtomicChain[str, None]:
    """Load a module and one that uses it, both listening."""
    chain = host.bus.add(AtomicChain("orders"))
    await host.load(write("base", versioned(1, init=LISTEN, end=FORGET)))
    await host.load(write("user", versioned(1, init=LISTEN, end=FORGET, head="REQUIRES = 'base'")))
    drain(notes)
    return chain


LEAVING = ["user 1 out", "base 1 out"]
RETURNING = ["base 1 in", "user 1 in"]
HEARD = [("base", 1, "ping"), ("user", 1, "ping")]


@pytest.mark.parametrize(
    ("source", "said", "number", "message"),
    [
        ("1 / 0", [], errno.EINVAL, "ZeroDivisionError: division by zero ("),
        (versioned(2, init="return -16"), ["base 2 in"], 16, "its module_init gave -16 (EBUSY"),
        (versioned(2, init="return 16"), ["base 2 in"], errno.EINVAL, "its module_init gave 16"),
        (versioned(2, init="raise SystemExit"), ["base 2 in"], errno.EINVAL, "SystemExit ("),
        (
            versioned(2, init="host.require('user')"),
            ["base 2 in"],
            errno.ENOENT,
            "base needs user, which is still being loaded",
        ),
    ],
)
async def test_a_new_version_that_fails_gives_way_to_the_old_one(
    host: ModuleHost,
    write: Folder,
    notes: Notes,
    source: str,
    said: list[str],
    number: int,
    message: str,
) -> None:
    chain = await pair(host, write, notes)
    write("base", source)
    write("user", versioned(2, head="REQUIRES = 'base'"))
    with pytest.raises((ModuleLoadError, ModuleDependencyError)) as caught:
        await host.reload("base")
    assert str(caught.value).startswith(
        f"base was not reloaded, the old version was restored: {message}"
    )
    assert (caught.value.module, caught.value.errno) == ("base", number)
    assert caught.value.__cause__ is not None
    assert not hasattr(caught.value, "__notes__")
    assert drain(notes) == [*LEAVING, *said, *RETURNING]
    chain.call("ping")
    assert drain(notes) == HEARD
    assert [(info.name, info.state, info.users) for info in host.modules] == [
        ("base", "live", ("user",)),
        ("user", "live", ()),
    ]
    assert sys.modules["base"] is host.require("base")
    await host.unload("user")
    await host.unload("base")
    assert not {"base", "user"} & sys.modules.keys()


async def test_a_user_that_fails_to_come_back_brings_the_old_version_back(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    await pair(host, write, notes)
    write("base", versioned(2, init=LISTEN, end=FORGET))
    write("user", "1 / 0\nREQUIRES = 'base'")
    with pytest.raises(ModuleLoadError) as caught:
        await host.reload("base")
    assert str(caught.value).startswith(
        "base was not reloaded, the old version was restored: user was not loaded: ZeroDivision"
    )
    assert drain(notes) == [*LEAVING, "base 2 in", "base 2 out", *RETURNING]
    write("user", versioned(2, head="REQUIRES = 'base'"))
    await host.reload("user")  # with another version of it all is well
    await host.reload("base")
    assert (host.require("base").VERSION, host.require("user").VERSION) == (2, 2)
    await host.unload("user")
    await host.unload("base")


async def test_the_code_of_old_is_run_whatever_its_file_says_by_now(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    await pair(host, write, notes)
    write("base", "1 / 0")
    write("user", "raise KeyError\nREQUIRES = 'base'")
    for _ in range(2):  # a version that was restored can be restored
        with pytest.raises(ModuleLoadError, match="the old version was restored: ZeroDivision"):
            await host.reload("base")
        assert drain(notes) == [*LEAVING, *RETURNING]
    await host.unload("user")
    await host.unload("base")


async def test_what_cannot_be_restored_is_named_and_not_loaded(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    once = "if getattr(notes, 'ran', False): raise OSError(5, 'once only')\n    notes.ran = True"
    await host.load(write("far", versioned(1)))
    await host.load(write("base", versioned(1, init=once, head="REQUIRES = 'far'")))
    await host.load(write("user", versioned(1, head="REQUIRES = 'base'")))
    write("base", "1 / 0")
    with structlog.testing.capture_logs() as logs, pytest.raises(ModuleLoadError) as caught:
        await host.reload("base")
    assert str(caught.value).startswith(
        "base was not reloaded, and these old versions could not be restored and are not loaded "
        "now (base, user): ZeroDivisionError: division by zero ("
    )
    assert [note.split(" (")[0] for note in caught.value.__notes__] == [
        "and: ModuleLoadError: base was not loaded: OSError: [Errno 5] once only",
        "and: ModuleDependencyError: user needs base, which is not loaded; load base first",
    ]
    assert [entry["event"] for entry in logs] == ["a module could not be restored"] * 2
    assert states(host) == {"far": "live"}
    assert not {"base", "user"} & sys.modules.keys()
    await host.load(write("base", ""))
    await host.unload("base")
    await host.unload("far")


async def test_what_is_up_when_another_fails_goes_in_reverse(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    for version in (1, 2):
        write("base", versioned(version))
        write("one", versioned(version, head="REQUIRES = 'base'"))
        broken = "1 / 0" if version == 2 else ""
        write("two", versioned(version, init=broken, head="REQUIRES = 'one'"))
        if version == 1:
            for name in ("base", "one", "two"):
                await host.load(write.path / f"{name}.py")
    drain(notes)
    with pytest.raises(ModuleLoadError, match="restored: two was not loaded: ZeroDivisionError"):
        await host.reload("base")
    assert drain(notes) == [
        *("two 1 out", "one 1 out", "base 1 out"),
        *("base 2 in", "one 2 in", "two 2 in"),
        *("one 2 out", "base 2 out"),
        *("base 1 in", "one 1 in", "two 1 in"),
    ]
    await host.__aexit__(None, None, None)


@pytest.mark.parametrize("broken", ["base", "user"])
async def test_a_reload_that_is_interrupted_restores_the_old_version(
    host: ModuleHost, write: Folder, notes: Notes, broken: str
) -> None:
    chain = await pair(host, write, notes)
    head = "REQUIRES = 'base'" if broken == "user" else ""
    write(broken, versioned(2, init="raise KeyboardInterrupt", head=head))
    with pytest.raises(KeyboardInterrupt):
        await host.reload("base")
    assert drain(notes)[-2:] == RETURNING
    chain.call("ping")
    assert notes.said == HEARD
    await host.unload("user")
    await host.unload("base")


async def test_an_interruption_while_it_is_restored_comes_when_all_is_done(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    once = "if getattr(notes, 'ran', False): raise KeyboardInterrupt\n    notes.ran = True"
    await host.load(write("base", versioned(1)))
    await host.load(write("one", versioned(1, init=once, head="REQUIRES = 'base'")))
    await host.load(write("two", versioned(1, head="REQUIRES = 'base'")))
    write("base", "1 / 0")
    drain(notes)
    with pytest.raises(KeyboardInterrupt):
        await host.reload("base")
    assert drain(notes)[3:] == ["base 1 in", "one 1 in", "two 1 in"]
    assert states(host) == {"base": "live", "two": "live"}
    await host.unload("two")
    await host.unload("base")


# Cancelled.


GATE = "await notes.gate.wait()"


@pytest.mark.parametrize(
    ("slow", "said"),
    [
        ("user out", ["user 1 out", "user 1 in"]),
        ("base out", [*LEAVING, *RETURNING]),
        ("base in", [*LEAVING, "base 2 in", *RETURNING]),
        ("user in", [*LEAVING, "base 2 in", "user 2 in", "base 2 out", *RETURNING]),
    ],
)
async def test_a_reload_that_is_cancelled_restores_the_old_version(
    host: ModuleHost, write: Folder, notes: Notes, slow: str, said: list[str]
) -> None:
    def source(name: str, version: int) -> str:
        init = f"{LISTEN}\n    {GATE if (slow, version) == (f'{name} in', 2) else 'pass'}"
        end = f"{FORGET}\n    {GATE if (slow, version) == (f'{name} out', 1) else 'pass'}"
        head = "REQUIRES = 'base'" if name == "user" else ""
        return versioned(version, init=init, end=end, head=head)

    chain = host.bus.add(AtomicChain("orders"))
    for name in ("base", "user"):
        await host.load(write(name, source(name, 1)))
        write(name, source(name, 2))
    drain(notes)
    notes.gate = anyio.Event()
    with structlog.testing.capture_logs() as logs:
        async with anyio.create_task_group() as group:
            group.start_soon(host.reload, "base")
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert (drain(notes), logs) == (said, [])
    chain.call("ping")
    assert sorted(drain(notes)) == HEARD
    assert states(host) == {"base": "live", "user": "live"}
    notes.gate.set()
    await host.reload("base")
    assert host.require("user").VERSION == 2
    await host.unload("user")
    await host.unload("base")


async def test_no_cancellation_cuts_the_restoring_short(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    await host.load(write("base", versioned(1, init="await anyio.lowlevel.checkpoint()")))
    write("base", versioned(2, init=GATE))
    notes.gate = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(host.reload, "base")
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert (states(host), host.require("base").VERSION) == ({"base": "live"}, 1)
    await host.unload("base")


async def test_what_a_reload_did_not_get_to_is_as_it_was(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    await host.load(write("base", versioned(1)))
    await host.load(write("user", versioned(1, end=GATE, head="REQUIRES = 'base'")))
    notes.gate = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(host.reload, "base")
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    notes.gate.set()
    await host.unload("user")
    await host.unload("base")
    assert host.modules == ()
    assert "base" not in sys.modules


# Old versions that do not go as they should.


async def test_an_old_version_whose_exit_fails_is_gone_all_the_same(
    write: Folder, notes: Notes
) -> None:
    host = ModuleHost(Bus("main"), exit_timeout=0.01)
    await host.load(write("base", versioned(1, end="1 / 0")))
    await host.load(
        write("user", versioned(1, end="await anyio.sleep_forever()", head="REQUIRES = 'base'"))
    )
    write("base", versioned(2))
    write("user", versioned(2, head="REQUIRES = 'base'"))
    with structlog.testing.capture_logs() as logs:
        new = await host.reload("base")
    assert new.VERSION == 2
    assert {entry["event"] for entry in logs} == {"a module failed while it was unloaded"}
    assert [str(entry["exc_info"][1]).partition(" within")[0] for entry in logs] == [
        "module_exit of user did not end",
        "division by zero",
    ]
    await host.unload("user")
    await host.unload("base")


async def test_what_failed_on_the_way_is_a_note_on_the_error(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    await host.load(write("base", versioned(1, end="raise KeyError(1)")))
    await host.load(write("user", versioned(1, head="REQUIRES = 'base'")))
    write("base", versioned(2, end="raise KeyError(2)"))
    write("user", "1 / 0\nREQUIRES = 'base'")
    with structlog.testing.capture_logs() as logs, pytest.raises(ModuleLoadError) as caught:
        await host.reload("base")
    assert caught.value.__notes__ == [f"while that was undone: KeyError: {n}" for n in (1, 2)]
    assert len(logs) == 2
    await host.unload("user")
    with pytest.raises(KeyError):
        await host.unload("base")


# What others do meanwhile.


async def test_nobody_else_gets_at_what_is_being_reloaded(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    notes.gate = anyio.Event()
    file = write("base", versioned(1))
    await host.load(file)
    await host.load(write("user", versioned(1, end=GATE, head="REQUIRES = 'base'")))
    await host.load(write("aside", versioned(1)))
    write("new", "REQUIRES = 'base'")
    async with anyio.create_task_group() as group:
        group.start_soon(host.reload, "base")
        await anyio.wait_all_tasks_blocked()
        assert states(host) == {"base": "reloading", "user": "going", "aside": "live"}
        for name, message in [
            ("base", "base is being reloaded already"),
            ("user", "user is being unloaded; load it after that"),
        ]:
            with pytest.raises(ModuleInUseError, match=f"^{message}$"):
                await host.reload(name)
        with pytest.raises(ModuleInUseError, match=r"^base is being reloaded; unload it after"):
            await host.unload("base")
        with pytest.raises(ModuleLoadedError, match=r"^base is loaded already, and is being rel"):
            await host.load(file)
        with pytest.raises(ModuleDependencyError, match=r"^new needs base, which is being reload"):
            await host.load(write.path / "new.py")
        with pytest.raises(ModuleDependencyError, match=r"^this code needs base, which is being"):
            host.require("base")
        write("aside", versioned(2, head="REQUIRES = 'base'"))
        with pytest.raises(ModuleDependencyError, match="stays: aside needs base, which is being"):
            await host.reload("aside")
        write("aside", versioned(2))
        await host.reload("aside")
        notes.gate.set()
    for name in ("user", "base", "aside"):
        await host.unload(name)


async def test_nobody_comes_to_use_a_new_version_before_all_are_there(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    await host.load(write("base", versioned(1)))
    await host.load(write("user", versioned(1, head="REQUIRES = 'base'")))
    notes.gate = anyio.Event()
    write("user", versioned(2, init=GATE, head="REQUIRES = 'base'"))
    with pytest.raises(ModuleInUseError, match=r"^user is still being loaded; reload it") as caught:
        async with anyio.create_task_group() as group:
            group.start_soon(host.reload, "base")
            await anyio.wait_all_tasks_blocked()
            assert states(host) == {"base": "reloading", "user": "coming"}
            with pytest.raises(ModuleDependencyError, match="new needs base, which is being rel"):
                await host.load(write("new", "REQUIRES = 'base'"))
            try:
                await host.reload("user")
            except ModuleInUseError as error:
                refusal = error
            notes.gate.set()
        raise refusal
    assert caught.value.errno == errno.EBUSY
    await host.load(write.path / "new.py")
    notes.gate = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(host.load, write("slow", versioned(1, init=GATE, head="REQUIRES='base'")))
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ModuleInUseError, match="slow is still being loaded") as caught:
            await host.reload("base")
        assert caught.value.__notes__ == ["it goes with base, which was to be reloaded"]
        notes.gate.set()
    for name in ("slow", "new", "user", "base"):
        await host.unload(name)


@pytest.mark.parametrize("version", [1, 2])
async def test_what_either_version_needs_is_not_unloaded_meanwhile(
    host: ModuleHost, write: Folder, notes: Notes, version: int
) -> None:
    await host.load(write("old_need", versioned(1)))
    await host.load(write("new_need", versioned(1)))
    notes.gate = anyio.Event()
    await host.load(
        write("plugin", versioned(1, end=GATE * (version == 1), head="REQUIRES = 'old_need'"))
    )
    write("plugin", versioned(2, init=GATE * (version == 2), head="REQUIRES = 'new_need'"))
    async with anyio.create_task_group() as group:
        group.start_soon(host.reload, "plugin")
        await anyio.wait_all_tasks_blocked()
        for name in ("old_need", "new_need"):
            for ask in (host.unload, host.reload):
                with pytest.raises(ModuleInUseError):
                    await ask(name)
        notes.gate.set()
    await host.unload("old_need")
    await host.unload("plugin")
    await host.unload("new_need")


# A host that is exited meanwhile.


@pytest.mark.parametrize("slow", ["user out", "base out", "base in", "user in"])
async def test_a_host_that_is_exited_ends_a_reload(write: Folder, notes: Notes, slow: str) -> None:
    def source(name: str, version: int) -> str:
        init = GATE if (slow, version) == (f"{name} in", 2) else ""
        end = GATE if (slow, version) == (f"{name} out", 1) else ""
        return versioned(
            version, init=init, end=end, head="REQUIRES = 'base'" if name == "user" else ""
        )

    notes.gate = anyio.Event()
    refused: list[ModuleLoadError] = []

    async def reload(host: ModuleHost) -> None:
        with pytest.raises(ModuleLoadError) as caught:
            await host.reload("base")
        refused.append(caught.value)

    async def release() -> None:
        await anyio.wait_all_tasks_blocked()
        notes.gate.set()

    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as group:
            async with ModuleHost(Bus("main")) as host:
                for name in ("base", "user"):
                    await host.load(write(name, source(name, 1)))
                    write(name, source(name, 2))
                group.start_soon(reload, host)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(release)
            assert host.modules == ()
    assert "its host has been exited; use another ModuleHost" in str(refused[0])
    assert "not loaded now (base, user)" in str(refused[0])
    assert host.modules == ()
    assert not {"base", "user"} & sys.modules.keys()


async def test_a_host_that_is_exited_while_it_restores_does_not(
    write: Folder, notes: Notes
) -> None:
    notes.gate = anyio.Event()
    notes.gate.set()
    refused: list[ModuleLoadError] = []

    async def reload(host: ModuleHost) -> None:
        with pytest.raises(ModuleLoadError) as caught:
            await host.reload("base")
        refused.append(caught.value)

    async with anyio.create_task_group() as group:
        async with ModuleHost(Bus("main")) as host:
            await host.load(write("base", versioned(1, init=GATE)))
            await host.load(write("user", versioned(1, head="REQUIRES = 'base'")))
            write("base", "1 / 0")
            notes.gate = anyio.Event()
            group.start_soon(reload, host)
            await anyio.wait_all_tasks_blocked()
            assert states(host) == {"user": "unformed", "base": "coming"}
        assert host.modules == ()
        with structlog.testing.capture_logs():
            notes.gate.set()
            await anyio.wait_all_tasks_blocked()
    assert "not loaded now (base, user)" in str(refused[0])
    assert host.modules == ()


async def test_an_exited_host_reloads_nothing(write: Folder, notes: Notes) -> None:
    notes.gate = anyio.Event()
    host = ModuleHost(Bus("main"))
    await host.load(write("plugin", versioned(1)))
    await host.load(write("slow", versioned(1, end=GATE)))
    async with anyio.create_task_group() as group:
        group.start_soon(host.__aexit__, None, None, None)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ModuleLoadError, match="its host has been exited"):
            await host.reload("plugin")
        notes.gate.set()


# What an init loads.


@pytest.mark.parametrize("user", ["late", "child", ""])
async def test_a_module_whose_init_has_loaded_others_is_not_reloaded(
    host: ModuleHost, write: Folder, notes: Notes, user: str
) -> None:
    child = write("child", versioned(1))
    await host.load(write("late", versioned(1)))
    await host.load(write("parent", versioned(1, init=f"await host.load({child!r})")))
    if user:  # also when it uses what has loaded it
        with host.scope(user).ambient():
            host.require("parent")
    before = (host.modules, host.require("parent"), host.require("child"), drain(notes))
    write("child", "def (")
    write("parent", "1 / 0")
    with pytest.raises(ModuleInUseError) as caught:
        await host.reload("parent")
    assert str(caught.value) == (
        "parent cannot be reloaded, for its module_init has loaded child; let it name them in "
        "REQUIRES instead, or unload it and load it again"
    )
    assert (caught.value.module, caught.value.errno) == ("parent", errno.EBUSY)
    assert not hasattr(caught.value, "__notes__")
    assert before[:3] == (host.modules, host.require("parent"), host.require("child"))
    assert notes.said == []
    await host.__aexit__(None, None, None)


async def test_nor_is_what_it_uses(host: ModuleHost, write: Folder, notes: Notes) -> None:
    child = write("child", versioned(1))
    load = f"await host.load({child!r})\n    host.require('child')"
    await host.load(write("parent", versioned(1, init=load)))
    write("child", versioned(2))
    drain(notes)
    with pytest.raises(ModuleInUseError, match=r"^parent cannot be reloaded, for its") as caught:
        await host.reload("child")
    assert caught.value.__notes__ == ["it goes with child, which was to be reloaded"]
    assert (drain(notes), host.require("child").VERSION) == ([], 1)
    await host.unload("parent")
    await host.reload("child")
    assert host.require("child").VERSION == 2
    await host.unload("child")


async def test_what_an_init_has_loaded_is_reloaded_by_itself(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    child = write("child", versioned(1))
    await host.load(write("parent", versioned(1, init=f"await host.load({child!r})")))
    write("child", versioned(2))
    drain(notes)
    await host.reload("child")
    assert drain(notes) == ["child 1 out", "child 2 in"]
    await host.unload("child")
    with pytest.raises(ModuleInUseError, match="its module_init has loaded child;"):
        await host.reload("parent")
    await host.unload("parent")


@pytest.mark.parametrize("end", ["", "1 / 0"])
async def test_what_a_new_version_loads_goes_with_it_when_it_fails(
    host: ModuleHost, write: Folder, notes: Notes, end: str
) -> None:
    await host.load(write("parent", versioned(1)))
    child = write("child", versioned(1, end=end))
    write("parent", versioned(2, init=f"await host.load({child!r})\n    return -16"))
    drain(notes)
    with structlog.testing.capture_logs() as logs:
        with pytest.raises(ModuleLoadError, match="the old version was restored"):
            await host.reload("parent")
    assert drain(notes) == [
        *("parent 1 out", "parent 2 in", "child 1 in", "child 1 out", "parent 1 in")
    ]
    assert [entry["event"] for entry in logs] == (
        ["a module failed while it was unloaded"] if end else []
    )
    assert states(host) == {"parent": "live"}
    write("parent", versioned(3))
    assert (await host.reload("parent")).VERSION == 3
    await host.unload("parent")


async def test_an_interruption_in_what_a_new_version_has_loaded_is_not_lost(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    await host.load(write("parent", versioned(1)))
    child = write("child", versioned(1, end="raise KeyboardInterrupt"))
    write("parent", versioned(2, init=f"await host.load({child!r})\n    return -16"))
    drain(notes)
    with pytest.raises(KeyboardInterrupt):
        await host.reload("parent")
    assert drain(notes)[-2:] == ["child 1 out", "parent 1 in"]
    assert states(host) == {"parent": "live"}
    await host.unload("parent")


async def test_what_a_task_of_the_old_version_loads_meanwhile_stays(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    extra = write("extra", versioned(1))
    notes.gate, notes.fail = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as group:
        notes.do = group.start_soon
        source = f"""
            import notes

            async def load_later(host):
                await notes.gate.wait()
                await host.load({extra!r})

            def module_init(host):
                notes.do(load_later, host)

            async def module_exit(host):
                await notes.fail.wait()
            """
        await host.load(write("plugin", source))
        write("plugin", versioned(2))
        group.start_soon(host.reload, "plugin")
        await anyio.wait_all_tasks_blocked()
        notes.gate.set()
        await anyio.wait_all_tasks_blocked()
        assert states(host) == {"plugin": "going", "extra": "live"}
        notes.fail.set()
    assert states(host) == {"extra": "live", "plugin": "live"}
    await host.unload("extra")
    await host.unload("plugin")


async def test_what_a_task_loads_later_is_no_matter_of_the_init(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    extra = write("extra", versioned(1))
    source = f"""
        import notes

        async def load_later(host):
            await host.load({extra!r})

        def module_init(host):
            notes.do(load_later, host)
        """
    async with anyio.create_task_group() as group:
        notes.do = group.start_soon
        await host.load(write("plugin", source))
    write("plugin", versioned(2))
    assert (await host.reload("plugin")).VERSION == 2
    assert states(host) == {"extra": "live", "plugin": "live"}
    await host.unload("extra")
    await host.unload("plugin")


async def refused(host: ModuleHost, name: str) -> None:
    with pytest.raises(ModuleLoadError):
        await host.reload(name)


async def test_another_reload_does_not_mind_what_is_lost_meanwhile(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    child = write("child", versioned(1, end=GATE))
    second = f"""if getattr(notes, 'ran', False):
        await host.load({child!r})
        return -16
    notes.ran = True"""
    await host.load(write("base", versioned(1, init=second)))
    await host.load(write("user", versioned(1, head="REQUIRES = 'base'")))
    await host.load(write("aside", versioned(1)))
    write("base", "1 / 0")
    write("aside", versioned(2))
    notes.gate = anyio.Event()
    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as group:
            group.start_soon(refused, host, "base")
            await anyio.wait_all_tasks_blocked()
            # The old version came back in vain, and what it had loaded is going; its user remains.
            assert states(host) == {"aside": "live", "user": "unformed", "child": "going"}
            assert (await host.reload("aside")).VERSION == 2
            notes.gate.set()
    assert states(host) == {"aside": "live"}
    await host.unload("aside")


async def test_a_new_version_goes_when_the_init_that_loaded_the_old_one_fails(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    child = write("child", versioned(1))
    notes.do = lambda: write("child", versioned(2))
    parent = write(
        "parent",
        versioned(
            1,
            init=f"await host.load({child!r})\n    notes.do()\n    "
            "await host.reload('child')\n    return -16",
        ),
    )
    with pytest.raises(ModuleLoadError):
        await host.load(parent)
    assert notes.said == ["parent 1 in", "child 1 in", "child 1 out", "child 2 in", "child 2 out"]
    assert host.modules == ()


# Packages.


async def test_a_module_of_a_package_is_reloaded_with_what_it_imports_there(
    host: ModuleHost, importable: Folder
) -> None:
    importable("acme/__init__", "")
    importable("acme/common", "value = 1")
    importable("acme/plugin", "from .common import value")
    await host.load("acme.plugin")
    importable("acme/common", "value = 22")
    plugin = await host.reload("plugin")
    assert plugin.value == 22
    assert sys.modules["acme"].plugin is plugin is sys.modules["acme.plugin"]
    await host.unload("plugin")
    assert not [name for name in sys.modules if name.startswith("acme")]


async def test_a_package_that_is_a_module_is_reloaded(host: ModuleHost, importable: Folder) -> None:
    importable("acme/__init__", "from .common import value")
    importable("acme/common", "value = 1")
    await host.load("acme")
    importable("acme/common", "value = 22")
    assert (await host.reload("acme")).value == 22
    importable("acme/common", "1 / 0")
    with pytest.raises(ModuleLoadError, match="the old version was restored: ZeroDivisionError"):
        await host.reload("acme")
    assert host.require("acme").value == 22
    await host.unload("acme")
    assert not [name for name in sys.modules if name.startswith("acme")]


async def test_what_it_imported_of_its_package_is_restored_with_it(
    host: ModuleHost, importable: Folder
) -> None:
    importable("acme/__init__", "")
    importable("acme/common", "value = 1")
    importable("acme/base", "from .common import value")
    importable("acme/user", "from . import base\nfrom .common import value\nREQUIRES = 'base'")
    for spec in ("acme.base", "acme.user"):
        await host.load(spec)
    common = sys.modules["acme.common"]
    importable("acme/common", "def (")
    for _ in range(2):
        with pytest.raises(ModuleLoadError, match="the old version was restored: SyntaxError"):
            await host.reload("base")
        assert sys.modules["acme.common"] is common is sys.modules["acme"].common
        assert host.require("user").base is host.require("base") is sys.modules["acme.base"]
    importable("acme/common", "value = 333")
    await host.reload("base")
    assert host.require("user").value == host.require("base").value == 333
    await host.unload("user")
    await host.unload("base")
    assert not [name for name in sys.modules if name.startswith("acme")]


async def test_what_others_of_the_package_use_is_left_to_them(
    host: ModuleHost, importable: Folder
) -> None:
    importable("acme/__init__", "")
    importable("acme/common", "value = 1")
    importable("acme/one", "from .common import value")
    importable("acme/two", "from .common import value")
    for spec in ("acme.one", "acme.two"):
        await host.load(spec)
    importable("acme/common", "value = 22")
    assert (await host.reload("one")).value == 1
    await host.unload("one")
    await host.unload("two")
    assert not [name for name in sys.modules if name.startswith("acme")]


async def test_a_package_that_fails_to_come_back_is_a_failure_of_the_new_version(
    host: ModuleHost, importable: Folder
) -> None:
    importable("acme/__init__", "")
    importable("acme/plugin", "value = 1")
    await host.load("acme.plugin")
    importable("acme/__init__", "1 / 0  # the new one")
    with pytest.raises(ModuleLoadError, match="the old version was restored: ZeroDivisionError"):
        await host.reload("plugin")
    assert host.require("plugin").value == 1
    await host.unload("plugin")


async def test_what_was_imported_before_stays_below_a_reloaded_module(
    host: ModuleHost, importable: Folder
) -> None:
    file = importable("plugin", "value = 1")
    before: ModuleType = importlib.import_module("plugin")
    try:
        await host.load(Path(file))
        importable("plugin", "value = 22")
        assert (await host.reload("plugin")).value == 22
        importable("plugin", "1 / 0")
        with pytest.raises(ModuleLoadError):
            await host.reload("plugin")
        assert sys.modules["plugin"] is host.require("plugin") is not before
        await host.unload("plugin")
        assert sys.modules["plugin"] is before
    finally:
        del sys.modules["plugin"]


async def test_an_invalid_result_is_the_cause(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    await host.load(write("plugin", ""))
    write("plugin", "def module_init(host): return 'yes'")
    with pytest.raises(ModuleLoadError) as caught:
        await host.reload("plugin")
    assert isinstance(caught.value.__cause__, InvalidResultError)
    await host.unload("plugin")
