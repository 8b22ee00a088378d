"""A module that cannot go, or does not: its own callbacks ask for it, or do not end."""

from __future__ import annotations

import errno
import threading
from contextlib import asynccontextmanager
from textwrap import dedent, indent
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
import structlog

from tocsin import (
    AtomicChain,
    BlockingChain,
    Bus,
    ModuleLoadError,
    ModuleTimeoutError,
    Observer,
    SrcuChain,
    WouldDeadlockError,
)
from tocsin.modules import ModuleHost

from .plugins import Folder, Notes, states

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]


# Asked for inside a callback that is off its chain already.


def asking(how: str, *, callback: str, options: str = "") -> str:
    """Give a module whose callback has it unloaded or reloaded, and says when that is done."""
    return f"""
import anyio.from_thread
import notes

async def ask(host):
    await host.{how}("plugin")
    notes.say("done inside the callback")

{callback}

def module_init(host):
    global block
    block = host.bus["orders"].register_nowait(go{options})

def module_exit(host):
    notes.say("out")
"""


ONCE = "async def go(event, host): await ask(host)"
TAKES_ITSELF_OFF = """
async def go(event, host):
    host.bus["orders"].unregister_nosync(block)
    await ask(host)
"""
IN_A_THREAD = "def go(event, host): anyio.from_thread.run(ask, host)"


@pytest.mark.parametrize("how", ["unload", "reload"])
@pytest.mark.parametrize(
    ("flavour", "callback", "options"),
    [
        (SrcuChain, ONCE, ", once=True"),
        (SrcuChain, TAKES_ITSELF_OFF, ""),
        (SrcuChain, IN_A_THREAD, ", once=True, thread=True"),
        (BlockingChain, ONCE, ", once=True"),
        (BlockingChain, TAKES_ITSELF_OFF, ""),
        (BlockingChain, IN_A_THREAD, ", once=True, thread=True"),
        (AtomicChain, IN_A_THREAD, ", once=True"),
    ],
)
async def test_a_callback_that_is_off_its_chain_already_is_refused_and_nothing_happens(
    host: ModuleHost,
    write: Folder,
    notes: Notes,
    flavour: Any,
    callback: str,
    options: str,
    how: str,
) -> None:
    chain: Any = host.bus.add(flavour("orders"))
    plugin = await host.load(write("plugin", asking(how, callback=callback, options=options)))
    with pytest.raises(WouldDeadlockError, match=f"{how} the module after the call"):
        if flavour is AtomicChain:
            await anyio.to_thread.run_sync(chain.call, "go", host)
        else:
            await chain.call("go", host)
    assert (notes.said, states(host)) == ([], {"plugin": "live"})
    assert host.require("plugin") is plugin
    await host.unload("plugin")  # after the call it may
    assert notes.said == ["out"]


@pytest.mark.parametrize("how", ["unload", "reload"])
async def test_a_walk_that_passes_its_block_by_is_refused_where_writers_exclude_all_walks(
    host: ModuleHost, write: Folder, notes: Notes, how: str
) -> None:
    chain = host.bus.add(BlockingChain[str, None]("orders"))
    options = ", events='never'"
    await host.load(write("plugin", asking(how, callback=ONCE, options=options)))

    async def stranger(event: str, data: None) -> None:
        await getattr(host, how)("plugin")

    await chain.register(stranger)
    with pytest.raises(WouldDeadlockError, match=f"{how} the module after the call"):
        await chain.call("go")
    assert (notes.said, states(host)) == ([], {"plugin": "live"})
    with structlog.testing.capture_logs():
        await host.unload("plugin")


# Callbacks that do not end.


def stuck(version: int, *, end: str = "pass") -> str:
    return f"""
import anyio
import notes

VERSION = {version}

async def hear(event, data):
    if event == "stick":
        await notes.gate.wait()
    notes.say((VERSION, event))

async def module_init(host):
    global block
    block = await host.bus["orders"].register(hear)

async def module_exit(host):
    {end}
"""


UNREGISTER = "await host.bus['orders'].unregister(block)"


@asynccontextmanager
async def sticking(
    write: Folder, notes: Notes, flavour: Any = SrcuChain, *, end: str = "pass"
) -> AsyncGenerator[ModuleHost]:
    """Give a host on which a callback of ``plugin`` is stuck until the end of the context."""
    host = ModuleHost(Bus("main"), exit_timeout=0.01)
    chain = host.bus.add(flavour("orders"))
    await host.load(write("plugin", stuck(1, end=end)))
    notes.gate = anyio.Event()
    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as group:
            group.start_soon(chain.call, "stick")
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(5):
                yield host
            notes.gate.set()


RUNNING = (
    "plugin was unloaded while calls were under way that may be inside its callbacks (hear): they "
    "did not end within 0.01 s; the callbacks are off their chains and not entered again"
)


@pytest.mark.parametrize("flavour", [SrcuChain, BlockingChain])
@pytest.mark.parametrize("end", ["pass", UNREGISTER])
async def test_a_callback_that_does_not_end_is_named_and_its_module_unloaded_all_the_same(
    write: Folder, notes: Notes, flavour: Any, end: str
) -> None:
    async with sticking(write, notes, flavour, end=end) as host:
        with pytest.raises(ModuleTimeoutError) as caught:
            await host.unload("plugin")
        assert str(caught.value) == RUNNING
        assert (caught.value.module, caught.value.errno) == ("plugin", errno.ETIMEDOUT)
        told = [note.partition(" within")[0] for note in getattr(caught.value, "__notes__", [])]
        hook = "and: ModuleTimeoutError: module_exit of plugin did not end"
        assert told == ([] if end == "pass" else [hook])
        assert (host.modules, len(host.bus["orders"])) == ((), 0)
        await host.load(write("plugin", ""))  # the host goes on
        if flavour is SrcuChain:
            await host.bus.get("orders", SrcuChain).call("not for the old one")
    assert notes.said == [(1, "stick")]
    await host.unload("plugin")


async def test_a_callback_that_does_not_end_does_not_keep_the_host_from_ending(
    write: Folder, notes: Notes
) -> None:
    async with sticking(write, notes, end=UNREGISTER) as host:
        await host.load(write("other", "import notes\ndef module_exit(host): notes.say('other')"))
        with pytest.raises(ModuleTimeoutError, match="may be inside its callbacks"):
            await host.__aexit__(None, None, None)
        assert (host.modules, notes.said) == ((), ["other"])


async def test_a_callback_that_does_not_end_fails_a_reload_which_says_so(
    write: Folder, notes: Notes
) -> None:
    async with sticking(write, notes) as host:
        write("plugin", stuck(2))
        with pytest.raises(ModuleLoadError) as caught:
            await host.reload("plugin")
        assert str(caught.value) == (
            f"plugin was not reloaded, the old version was restored: {RUNNING}"
        )
        assert (caught.value.module, caught.value.errno) == ("plugin", errno.ETIMEDOUT)
        assert isinstance(caught.value.__cause__, ModuleTimeoutError)
        chain = host.bus.get("orders", SrcuChain[str, None])
        await chain.call("go on")  # by the old code, run once more
        await host.reload("plugin")  # what is stuck is no longer in the way
        await chain.call("go on")
        assert notes.said == [(1, "go on"), (2, "go on")]
    assert notes.said[2:] == [(1, "stick")]
    with structlog.testing.capture_logs():
        await host.unload("plugin")


async def test_calls_that_began_since_do_not_fail_a_reload(
    host: ModuleHost, write: Folder, notes: Notes
) -> None:
    chain = host.bus.add(AtomicChain[str, threading.Event]("orders"))
    entered = threading.Semaphore(0)
    first, second, reloaded = threading.Event(), threading.Event(), anyio.Event()
    waits = threading.Event()

    class Watcher(Observer):
        def writer_waiting(self, chain: object) -> None:
            waits.set()

    def stick(event: str, release: threading.Event) -> None:
        entered.release()
        release.wait()

    async def reload() -> None:
        await host.reload("plugin")
        reloaded.set()

    chain.register(stick, priority=1)
    chain.observe(Watcher())
    source = """
        def module_init(host): host.bus["orders"].register(print, events="never")
        def module_exit(host): raise RuntimeError("logged")
        """
    await host.load(write("plugin", source))
    write("plugin", "")
    with structlog.testing.capture_logs() as logs:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, chain.call, "go", first)
            await anyio.to_thread.run_sync(entered.acquire)
            group.start_soon(reload)
            await anyio.to_thread.run_sync(waits.wait)
            group.start_soon(anyio.to_thread.run_sync, chain.call, "go", second)
            await anyio.to_thread.run_sync(entered.acquire)
            first.set()
            with anyio.move_on_after(60) as limit:
                await reloaded.wait()
            second.set()
    assert not limit.cancelled_caught
    assert [entry["event"] for entry in logs] == [
        "a module forgot to unregister blocks",
        "a module failed while it was unloaded",
    ]
    await host.unload("plugin")


async def test_a_chain_that_somebody_else_holds_up_is_left_all_the_same(
    write: Folder, notes: Notes
) -> None:
    notes.gate = anyio.Event()
    notes.gate.set()
    host = ModuleHost(Bus("main"), exit_timeout=0.01)
    chain = host.bus.add(BlockingChain[str, None]("orders", replay=lambda: [("stick", None)]))
    await host.load(write("plugin", stuck(1)))
    notes.gate = anyio.Event()

    async def newcomer(event: str, data: None) -> None:
        await notes.gate.wait()

    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as group:
            group.start_soon(chain.register, newcomer)  # holds the chain while it hears the replay
            await anyio.wait_all_tasks_blocked()
            await host.unload("plugin")  # which ends, and raises nothing: nobody is running
            assert (host.modules, len(chain)) == ((), 0)
            notes.gate.set()


async def test_without_a_bound_unload_waits_for_the_callbacks(write: Folder, notes: Notes) -> None:
    host = ModuleHost(Bus("main"), exit_timeout=None)
    chain = host.bus.add(SrcuChain[str, None]("orders"))
    await host.load(write("plugin", stuck(1)))
    notes.gate = anyio.Event()
    with structlog.testing.capture_logs():
        async with anyio.create_task_group() as group:
            group.start_soon(chain.call, "stick")
            await anyio.wait_all_tasks_blocked()
            group.start_soon(host.unload, "plugin")
            await anyio.wait_all_tasks_blocked()
            assert states(host) == {"plugin": "going"}
            notes.gate.set()
    assert (host.modules, notes.said) == ((), [(1, "stick")])


# Hooks that do not end, and then fail.


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (
            """
            try:
                await anyio.sleep_forever()
            except BaseException:
                raise RuntimeError("cleanup failed")
            """,
            "RuntimeError: cleanup failed",
        ),
        (
            """
            async with anyio.create_task_group() as group:
                group.start_soon(fail)
            """,
            "ExceptionGroup: ",
        ),
    ],
)
async def test_an_exit_that_fails_when_it_is_cancelled_took_too_long_all_the_same(
    write: Folder, notes: Notes, end: str, words: str
) -> None:
    host = ModuleHost(Bus("main"), exit_timeout=0.01)
    source = """
        import anyio

        async def fail():
            try:
                await anyio.sleep_forever()
            finally:
                raise RuntimeError("cleanup failed")

        async def module_exit(host):"""
    await host.load(write("plugin", f"{source}{indent(dedent(end), ' ' * 12)}"))
    with pytest.raises(ModuleTimeoutError) as caught:
        await host.unload("plugin")
    assert str(caught.value).startswith(
        f"module_exit of plugin did not end within 0.01 s and was cancelled, and raised {words}"
    )
    assert str(caught.value).endswith("; plugin was unloaded all the same")
    assert caught.value.__cause__ is not None
    assert host.modules == ()


async def test_an_interruption_in_an_exit_comes_when_the_module_is_gone(
    host: ModuleHost, write: Folder
) -> None:
    chain = host.bus.add(AtomicChain[str, None]("orders"))
    await host.load(
        write(
            "plugin",
            """
            def module_init(host): host.bus["orders"].register(print)
            def module_exit(host): raise KeyboardInterrupt
            """,
        )
    )
    with structlog.testing.capture_logs(), pytest.raises(KeyboardInterrupt):
        await host.unload("plugin")
    assert (host.modules, len(chain)) == ((), 0)
