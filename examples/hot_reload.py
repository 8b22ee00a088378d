"""A text service whose plugins are reloaded while texts flow, and no text is lost.

``python hot_reload.py [FOLDER]`` answers each line of stdin with what the plugins in the folder
make of it. Change one of them, or add or remove one, and it is reloaded; break one, and the old
version goes on. Needs watchfiles.

A module that is being reloaded hears nothing between its old registration and its new one, and a
call that began before does not reach the old one any more (D3). So the service closes a gate: the
texts that are on their way go through, the next ones wait until the plugin is there again.

A plugin may require others of the folder. One that holds a text for ever is not waited for longer
than a text's patience: then that change of a file is given up, which is told, and texts flow on.

Replace a plugin in one step, as ``mv`` and most editors do: half a file may be a whole plugin.
Reading stdin needs Unix.
"""

import argparse
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import anyio
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
    appends its answer. What happens to plugins is told on the chain ``news``. ``patience`` is for
    how many seconds texts are held back for a plugin.
    """

    def __init__(self, folder: Path, patience: float = 10.0) -> None:
        self.folder = folder
        self.patience = patience
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
            if started:
                await self.follow(Path(path) for _, path in changes)
            else:
                await self._load_all()
                started = True
                task_status.started()

    async def _load_all(self) -> None:
        for path in sorted(self.folder.glob("*.py")):
            if not self._is_loaded(path):  # for another that requires it
                await self.follow([path])

    async def follow(self, paths: Iterable[Path]) -> None:
        """Load, reload or unload the plugins of these files."""
        for path in sorted(paths):
            there = self._is_loaded(path) or await anyio.Path(path).exists()
            if there and path.stem.isidentifier():
                await self.news.call(*await self._follow_one(path))

    def _is_loaded(self, path: Path) -> bool:
        return any(info.name == path.stem for info in self.host.modules)

    async def _follow_one(self, path: Path) -> tuple[str, str]:
        """Load, reload or unload the plugin of a file while the gate is closed; say what came."""
        try:
            with anyio.move_on_after(self.patience):
                async with self._gate.closed():
                    return await self._renew(path), path.stem
        except Exception as error:  # a plugin may raise anything
            return "failed", str(error)
        return "failed", f"{path.stem}: gave up after {self.patience} s, for it or a text is stuck"

    async def _renew(self, path: Path) -> str:
        if not self._is_loaded(path):
            await self.host.load(path, autoload=True)
            return "loaded"
        if await anyio.Path(path).exists():
            await self.host.reload(path.stem)
            return "reloaded"
        await self.host.unload(path.stem)
        return "removed"


async def lines_of_stdin() -> AsyncGenerator[str]:
    """Give the lines of stdin. No thread waits for them: nobody could end that."""
    rest = b""
    while chunk := await read_stdin():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


async def read_stdin() -> bytes:
    """Give some of what is there, or nothing at the end."""
    with suppress(PermissionError):  # stdin is a file: nobody waits for those
        await anyio.wait_readable(0)
    return os.read(0, 1 << 16)


async def answer_stdin(service: TextService) -> None:
    """Answer each line of stdin."""
    async with aclosing(lines_of_stdin()) as lines:
        async for line in lines:
            for name, version, answer in await service.submit(line):
                print(f"{name} {version}: {answer}", flush=True)


async def main(folder: Path) -> int:
    """Answer stdin, line by line, until it ends or a signal comes; give the exit status."""
    service = TextService(folder)
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with (
            service.host,
            service.news.registered(lambda word, what: print(f"[{word} {what}]", file=sys.stderr)),
            anyio.create_task_group() as group,
        ):

            async def serve() -> None:
                await group.start(service.watch)
                await answer_stdin(service)
                group.cancel_scope.cancel()

            group.start_soon(serve)
            async for number in signals:
                group.cancel_scope.cancel()
                return 128 + number
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=PLUGINS, metavar="FOLDER")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.exit(2, f"hot_reload: there is no folder {options.folder}\n")
    sys.exit(anyio.run(main, options.folder, backend=options.backend))
