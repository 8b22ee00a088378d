"""The four flavours behind one face, so that one test says what all of them must do."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from tocsin import AtomicChain, BlockingChain, NotifierBlock, RawChain, SrcuChain

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from anyio.from_thread import BlockingPortal

SYNC = [AtomicChain, RawChain]
ASYNC = [BlockingChain, SrcuChain]
FLAVOURS: list[type[Any]] = [*SYNC, *ASYNC]


def spelled(one: object) -> str:
    """Say what a test's parameter is, the same in each run: no addresses, and sets in one order."""
    if isinstance(one, (set, frozenset)):
        return f"{{{', '.join(sorted(map(repr, one)))}}}"
    return re.sub(r" at 0x[0-9a-f]+| id='\d+'", "", repr(one))


async def maybe_await(value: Any) -> Any:
    return await value if hasattr(type(value), "__await__") else value


@dataclass(frozen=True)
class NoNoteError(Exception):
    """As every frozen dataclass: adding a note to it raises."""

    code: int


class Held:
    """An async callback that says when it was entered and ends when it is released."""

    def __init__(self) -> None:
        self.entered, self.release = anyio.Event(), anyio.Event()

    async def __call__(self, event: Any, data: Any) -> None:
        self.entered.set()
        await self.release.wait()


class HeldThread:
    """A sync callback that says when it was entered and holds its thread until it is released."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def __call__(self, event: Any, data: Any) -> None:
        self.entered.set()
        assert self.release.wait(30)


class Rig:
    """A chain whose members are all awaited, and callbacks of a chosen colour that keep a log."""

    def __init__(
        self, flavour: type[Any], *, colour: str = "sync", walk: str = "call", **options: Any
    ) -> None:
        self.chain = flavour("chain", **options)
        self.colour = colour
        self.prefix = walk.removesuffix("call")
        self.log: list[Any] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        member = self.prefix + name if name.startswith("call") else name
        found = getattr(self.chain, member)

        async def run(*args: Any, **options: Any) -> Any:
            return await maybe_await(found(*args, **options))

        return run

    def callback(self, name: str, does: Any = None) -> Callable[..., Any]:
        """Make a callback that logs its name and then gives, raises or runs ``does``."""

        def act(event: Any, data: Any) -> Any:
            self.log.append(name)
            if isinstance(does, BaseException):
                raise does
            return does(event, data) if callable(does) else does

        def sync(event: Any, data: Any) -> Any:
            return act(event, data)

        async def coloured(event: Any, data: Any) -> Any:
            return await maybe_await(act(event, data))

        made = sync if self.colour == "sync" else coloured
        made.__qualname__ = made.__name__ = name
        return made

    async def add(
        self, name: str, does: Any = None, **options: Any
    ) -> NotifierBlock[Any, Any, Any]:
        made = await self.register(self.callback(name, does), **options)
        assert isinstance(made, NotifierBlock)
        return made

    def drain(self) -> list[Any]:
        """Give the log and clear it."""
        log = self.log.copy()
        self.log.clear()
        return log


# Every way of walking: flavour, colour of the callbacks, name of the call.
WAYS: list[tuple[type[Any], str, str]] = [
    (AtomicChain, "sync", "call"),
    (RawChain, "sync", "call"),
    (RawChain, "sync", "acall"),
    (RawChain, "async", "acall"),
    (BlockingChain, "sync", "call"),
    (BlockingChain, "async", "call"),
    (SrcuChain, "sync", "call"),
    (SrcuChain, "async", "call"),
]
WAY_IDS = [f"{flavour.__name__}-{colour}-{walk}" for flavour, colour, walk in WAYS]


@contextmanager
def blocked_loop(portal: BlockingPortal, rig: Rig) -> Generator[HeldThread]:
    """Have a callback of the chain block its event loop, in another thread, until it is released.

    Leaving releases it, and waits until the loop has done all that it could.
    """
    held = HeldThread()
    portal.call(rig.add, "block", held)
    called = portal.start_task_soon(rig.call, "event", None)
    assert held.entered.wait(30)
    try:
        yield held
    finally:
        held.release.set()
        called.result(30)
        portal.call(anyio.wait_all_tasks_blocked)
