"""A text service whose plugins are reloaded while texts flow, and no text is lost.

``python hot_reload.py [FOLDER]`` answers each line of stdin with what the plugins in the folder
make of it. Change one of them, or add or remove one, and it is reloaded; break one, and the old
version goes on. Needs watchfiles.

A module that is being reloaded hears nothing between its old registration and its new one, and a
call that began before does not reach the old one any more (D3). So the service closes a gate: the
texts that are on their way go through, the next ones wait until the plugin is there again.

Replace a plugin in one step, as ``mv`` and most editors do: half a file may be a whole plugin.
"""

import argparse
import os
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus
from watchfiles import PythonFilter, awatch

from tocsin import Bus, SrcuChain
from tocsin.modules import ModuleHost

Answer: TypeAlias = tuple[str, int, str]
"""A plugin's name, its version, and what it made of a text."""

PLUGINS = Path(__file__).parent / "text_plugins"


class Gate:
    """Many go through at a time; who closes it waits until they are through and keeps others out.

    Whoever is inside must not come again: he would wait for one who waits for him.
    """

    def __init__(self) -> None:
        self._turn = anyio.Lock()  # first come, first served
        self._inside = 0
        self._empty = anyio.Event()

    @asynccontextmanager
    async def passing(self) -> AsyncGenerator[None]:
        """Go through."""
        async with self._turn:
            self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def closed(self) -> AsyncGenerator[None]:
        """Keep the gate closed."""
        async with self._turn:
            while self._inside:
                self._empty = anyio.Event()
                await self._empty.wait()
            yield


class TextService:
    """Lets the plugins in a folder answer texts, and keeps them as the folder has them.

    A plugin registers on the chain ``texts``: the event is the text, the data a list to which it
    appends its answer. What happens to plugins is told on the chain ``news``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = ModuleHost(Bus("service"))
        self.texts = self.host.bus.add(SrcuChain[str, list[Answer]]("texts", errors="isolate"))
        self.news = self.host.bus.add(SrcuChain[str, str]("news"))
        self._gate = Gate()

    async def submit(self, text: str) -> list[Answer]:
        """Give the answers of all plugins; wait while one of them is being reloaded."""
        answers: list[Answer] = []
        async with self._gate.passing():
            await self.texts.call(text, answers)
        return answers

    async def watch(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Follow the folder; started when the plugins that are there have been loaded."""
        started = False
        # The first answer, be it that nothing happened, comes when the watch has begun: what is
        # loaded then and changed later is seen.
        async for changes in awatch(
            self.folder,
            watch_filter=PythonFilter(),
            recursive=False,
            step=20,
            rust_timeout=200,
            yield_on_timeout=True,
        ):
            paths = {Path(path) for _, path in changes} if started else self.folder.glob("*.py")
            await self.follow(paths)
            if not started:
                started = True
                task_status.started()

    async def follow(self, paths: Iterable[Path]) -> None:
        """Load, reload or unload the plugins of these files."""
        for path in sorted(paths):
            if path.stem.isidentifier():
                await self.news.call(*await self._follow_one(path))

    async def _follow_one(self, path: Path) -> tuple[str, str]:
        """Load, reload or unload the plugin of a file; say what was done."""
        loaded = any(info.name == path.stem for info in self.host.modules)
        async with self._gate.closed():
            try:
                if not await anyio.Path(path).exists():
                    if loaded:
                        await self.host.unload(path.stem)
                    return "removed", path.stem
                if loaded:
                    await self.host.reload(path.stem)
                    return "reloaded", path.stem
                await self.host.load(path)
            except Exception as error:  # a plugin may raise anything
                return "failed", str(error)
            return "loaded", path.stem


async def lines_of_stdin() -> AsyncGenerator[str]:
    """Give the lines of stdin. Not through its buffer: a thread waiting there blocks the exit."""
    rest = b""
    read = anyio.to_thread.run_sync
    while chunk := await read(os.read, 0, 1 << 16, abandon_on_cancel=True):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


async def main(folder: Path) -> None:
    """Answer stdin, line by line, until it ends."""
    service = TextService(folder)
    async with (
        service.host,
        service.news.registered(lambda word, what: print(f"[{word} {what}]", file=sys.stderr)),
        anyio.create_task_group() as group,
        aclosing(lines_of_stdin()) as lines,
    ):
        await group.start(service.watch)
        async for line in lines:
            for name, version, answer in await service.submit(line):
                print(f"{name} {version}: {answer}", flush=True)
        group.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=PLUGINS, metavar="FOLDER")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args()
    try:
        anyio.run(main, options.folder, backend=options.backend)
    except KeyboardInterrupt:
        sys.exit(130)
