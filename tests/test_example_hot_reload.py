"""The hot reload example, with files that really change while texts flow: none is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any, Self

import anyio
import pytest
import structlog

from .programs import EXAMPLES, load_example

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
    from types import ModuleType

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]

NAMES = ["backwards", "count_words", "upper"]
PATIENCE = 60  # seconds for a watcher on a machine that is busy


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load_example("hot_reload")


class Plugins:
    """A folder of plugins, of which each file is replaced in one step."""

    def __init__(self, path: Path) -> None:
        self.path = path / "plugins"
        self.sources = {name: (EXAMPLES / f"text_plugins/{name}.py").read_text() for name in NAMES}
        self.path.mkdir()
        for name in NAMES:
            self.write(name, 1)

    def write(self, name: str, version: int) -> None:
        self.put(name, self.sources[name].replace("VERSION = 1", f"VERSION = {version}"))

    def put(self, name: str, source: str) -> None:
        beside = self.path.parent / "new.py"
        beside.write_text(source)
        beside.replace(self.path / f"{name}.py")


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    return Plugins(tmp_path)


class Running:
    """A service that runs, what it says, and what was answered."""

    def __init__(self, service: Any) -> None:
        self.service = service
        self.send, self.news = anyio.create_memory_object_stream[tuple[str, str]](10_000)
        self.log: list[Any] = []
        """Of each text its number and the answers; of each reload what was said, in between."""
        self.stop = False

    def hear(self, word: str, what: str) -> None:
        if word == "reloaded":
            self.log.append((what, self.version(what)))
        self.send.send_nowait((word, what))

    async def wait_for(self, word: str, what: str = "") -> str:
        """Wait until that is said, and give it."""
        while True:
            said, about = await self.news.receive()
            if said == word and what in about:
                return about

    async def wait_for_version(self, name: str, version: int) -> None:
        while await self.wait_for("reloaded", name) and self.version(name) != version:
            pass  # it was read twice

    def version(self, name: str) -> int:
        version: int = self.service.host.require(name).VERSION
        return version

    async def submit_all(self, numbers: Any) -> None:
        for number in numbers:
            if self.stop:
                return
            self.log.append((number, await self.service.submit(f"text {number}")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.send.close()
        self.news.close()


async def test_no_text_is_lost_and_no_old_version_runs_while_plugins_are_reloaded(
    example: ModuleType, plugins: Plugins
) -> None:
    numbers = iter(range(10_000_000))
    versions = [2, 3]
    with anyio.fail_after(PATIENCE), Running(example.TextService(plugins.path)) as running:
        service = running.service
        async with (
            service.host,
            service.news.registered(running.hear),
            anyio.create_task_group() as group,
        ):
            await group.start(service.watch)
            for _ in range(4):
                group.start_soon(running.submit_all, numbers)
            for version in versions:
                # In both orders: those that come before and behind one that awaits something.
                for name in sorted(NAMES, reverse=version % 2 == 0):
                    plugins.write(name, version)
                    await running.wait_for_version(name, version)
                for name in NAMES:  # a broken one changes nothing
                    plugins.put(name, "def (")
                    said = await running.wait_for("failed", "SyntaxError")
                    assert said.startswith(f"{name} was not reloaded, the old version stays")
                    plugins.put(name, "VERSION = 99\n1 / 0")
                    said = await running.wait_for("failed", "ZeroDivisionError")
                    assert said.startswith(f"{name} was not reloaded, the old version was restored")
            running.stop = True
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()

    texts = {key: answers for key, answers in running.log if isinstance(key, int)}
    assert len(texts) == sum(isinstance(key, int) for key, _ in running.log)
    assert sorted(texts) == list(range(len(texts)))  # N texts were submitted, N were answered
    for number, answers in texts.items():  # each by each plugin, once
        assert sorted(name for name, _, _ in answers) == NAMES, number
    text = f"text {len(texts) - 1}"
    assert sorted(answer for _, _, answer in texts[len(texts) - 1]) == sorted(
        ["2 words", text.upper(), text[::-1]]
    )
    now = dict.fromkeys(NAMES, 1)
    seen: Counter[tuple[str, int]] = Counter()
    for key, what in running.log:
        if isinstance(key, str):  # reloaded: from now on no older version
            now[key] = what
            continue
        for name, version, _ in what:
            assert version >= now[name], (key, name)
            now[name] = version
            seen[name, version] += 1
    assert now == dict.fromkeys(NAMES, versions[-1])
    assert seen.keys() == {(name, version) for name in NAMES for version in [1, *versions]}
    assert sum(seen.values()) == len(texts) * len(NAMES)


HOLD = """
import anyio

entered, release = anyio.Event(), anyio.Event()

async def hold(text, answers):
    entered.set()
    await release.wait()

async def module_init(host):
    await host.bus["texts"].register(hold, priority=1)
"""


async def test_texts_on_their_way_meet_the_old_version_and_those_held_back_the_new_one(
    example: ModuleType, plugins: Plugins
) -> None:
    service = example.TextService(plugins.path)
    answers: dict[str, dict[str, int]] = {}

    async def submit(text: str) -> None:
        answers[text] = {name: version for name, version, _ in await service.submit(text)}

    plugins.put("hold", HOLD)
    with structlog.testing.capture_logs():  # the block of that one is forgotten
        async with service.host, anyio.create_task_group() as group:
            await service.follow(plugins.path.glob("*.py"))
            hold = service.host.require("hold")
            group.start_soon(submit, "on its way")
            await hold.entered.wait()
            plugins.write("upper", 2)
            group.start_soon(service.follow, [plugins.path / "upper.py"])
            await anyio.wait_all_tasks_blocked()
            group.start_soon(submit, "held back")
            await anyio.wait_all_tasks_blocked()
            assert service.host.require("upper").VERSION == 1
            hold.release.set()
    assert answers == {
        "on its way": {"backwards": 1, "count_words": 1, "upper": 1},
        "held back": {"backwards": 1, "count_words": 1, "upper": 2},
    }


async def test_plugins_that_appear_are_loaded_and_those_that_disappear_unloaded(
    example: ModuleType, plugins: Plugins
) -> None:
    with anyio.fail_after(PATIENCE), Running(example.TextService(plugins.path)) as running:
        service = running.service
        async with (
            service.host,
            service.news.registered(running.hear),
            anyio.create_task_group() as group,
        ):
            await group.start(service.watch)
            (plugins.path / "upper.py").unlink()
            await running.wait_for("removed", "upper")
            plugins.put("lower", "raise RuntimeError('not yet')")
            await running.wait_for("failed", "lower was not loaded: RuntimeError: not yet")
            plugins.put("lower", plugins.sources["upper"].replace("upper", "lower"))
            await running.wait_for("loaded", "lower")
            answers = await service.submit("Text")
            assert sorted(answers) == [
                ("backwards", 1, "txeT"),
                ("count_words", 1, "1 words"),
                ("lower", 1, "text"),
            ]
            group.cancel_scope.cancel()
    assert service.host.modules == ()


async def test_a_plugin_that_raises_does_not_keep_the_others_from_answering(
    example: ModuleType, plugins: Plugins
) -> None:
    plugins.put("upper", plugins.sources["upper"].replace("text.upper()", "str(1 / 0)"))
    with anyio.fail_after(PATIENCE), structlog.testing.capture_logs() as logs:
        service = example.TextService(plugins.path)
        async with service.host, anyio.create_task_group() as group:
            await group.start(service.watch)
            answers = await service.submit("a b")
            group.cancel_scope.cancel()
    assert sorted(answers) == [("backwards", 1, "b a"), ("count_words", 1, "2 words")]
    assert len(logs) == 1


async def test_the_gate_is_closed_when_nobody_is_inside_and_opens_again(
    example: ModuleType,
) -> None:
    gate, release, said = example.Gate(), anyio.Event(), []

    async def go_through(name: str) -> None:
        async with gate.passing():
            said.append(f"{name} in")
            await release.wait()
            said.append(f"{name} out")

    async def close() -> None:
        async with gate.closed():
            said.append("closed")

    async with anyio.create_task_group() as group:
        for task in (("one",), ("two",)):
            group.start_soon(go_through, *task)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(close)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(go_through, "three")
        await anyio.wait_all_tasks_blocked()
        assert sorted(said) == ["one in", "two in"]
        release.set()
    assert sorted(said[:4]) == ["one in", "one out", "two in", "two out"]
    assert said[4:] == ["closed", "three in", "three out"]


async def test_a_plugin_that_is_removed_answers_no_text_after_that_and_all_others_do(
    example: ModuleType, plugins: Plugins
) -> None:
    numbers = iter(range(10_000_000))
    with anyio.fail_after(PATIENCE), Running(example.TextService(plugins.path)) as running:
        service = running.service

        async def follow(path: Path) -> None:
            await service.follow([path])
            running.log.append((path.stem, None))

        async with service.host, anyio.create_task_group() as group:
            await service.follow(plugins.path.glob("*.py"))
            for _ in range(4):
                group.start_soon(running.submit_all, numbers)
            while not running.log:
                await anyio.lowlevel.checkpoint()
            (plugins.path / "upper.py").unlink()
            await follow(plugins.path / "upper.py")
            size = len(running.log)
            while len(running.log) < size + 100:
                await anyio.lowlevel.checkpoint()
            running.stop = True
    after = running.log.index(("upper", None))
    for _, answers in running.log[:after]:
        assert {name for name, _, _ in answers} >= {"backwards", "count_words"}
    for number, answers in running.log[after + 1 :]:
        assert sorted(name for name, _, _ in answers) == ["backwards", "count_words"], number
    texts = [key for key, _ in running.log if isinstance(key, int)]
    assert sorted(texts) == list(range(len(texts)))


async def test_plugins_that_require_others_of_the_folder_are_loaded_once(
    example: ModuleType, plugins: Plugins
) -> None:
    plugins.put("a_first", "REQUIRES = 'upper'")
    plugins.put("not-a-name", "1 / 0")
    with anyio.fail_after(PATIENCE), Running(example.TextService(plugins.path)) as running:
        service = running.service
        async with (
            service.host,
            service.news.registered(running.hear),
            anyio.create_task_group() as group,
        ):
            await group.start(service.watch)
            said = [running.news.receive_nowait() for _ in range(3)]
            assert said == [("loaded", name) for name in ("a_first", "backwards", "count_words")]
            assert len(service.host.modules) == 4
            await service.follow([plugins.path / "never_there.py", plugins.path / "not-a-name.py"])
            with pytest.raises(anyio.WouldBlock):
                running.news.receive_nowait()  # it says nothing of those
            group.cancel_scope.cancel()


async def test_what_is_stuck_does_not_stop_the_service(
    example: ModuleType, plugins: Plugins
) -> None:
    service = example.TextService(plugins.path)
    plugins.put("hold", HOLD)
    with (
        anyio.fail_after(PATIENCE),
        structlog.testing.capture_logs(),
        Running(service) as running,
    ):
        async with (
            service.host,
            service.news.registered(running.hear),
            anyio.create_task_group() as group,
        ):
            await service.follow(plugins.path.glob("*.py"))
            service.patience = 0.01  # from here on: what loads may take its time
            group.start_soon(service.submit, "stuck")
            await service.host.require("hold").entered.wait()
            plugins.write("upper", 2)
            await service.follow([plugins.path / "upper.py"])
            said = "upper: gave up after 0.01 s, for it or a text is stuck"
            assert await running.wait_for("failed") == said
            assert service.host.require("upper").VERSION == 1
            service.host.require("hold").release.set()
            assert ("upper", 1, "ON") in await service.submit("on")
            hangs = "import anyio\nasync def module_init(host): await anyio.sleep_forever()"
            plugins.put("upper", hangs)
            await service.follow([plugins.path / "upper.py"])
            assert await running.wait_for("failed") == said
            assert ("upper", 1, "ON") in await service.submit("on")


@contextmanager
def start(
    backend: str, plugins: Plugins, lines: Any = subprocess.PIPE
) -> Generator[subprocess.Popen[str]]:
    """Run the program, which is killed when a test takes too long."""
    with subprocess.Popen(
        [sys.executable, EXAMPLES / "hot_reload.py", "--backend", backend, plugins.path],
        stdin=lines,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        watchdog = Timer(PATIENCE, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()


def test_the_program_answers_stdin_and_follows_the_folder(
    anyio_backend: str, plugins: Plugins
) -> None:
    with start(anyio_backend, plugins) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert [process.stderr.readline() for _ in NAMES] == [
            f"[loaded {name}]\n" for name in NAMES
        ]
        process.stdin.write("Hello you\n")
        answers = sorted(process.stdout.readline() for _ in NAMES)
        assert answers == [
            "backwards 1: uoy olleH\n",
            "count_words 1: 2 words\n",
            "upper 1: HELLO YOU\n",
        ]
        plugins.write("upper", 2)
        assert process.stderr.readline() == "[reloaded upper]\n"
        rest, _ = process.communicate("bye", timeout=PATIENCE)
        assert "upper 2: BYE" in rest.splitlines()
        assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_program_while_it_waits_for_a_line(
    anyio_backend: str, plugins: Plugins, number: signal.Signals
) -> None:
    with start(anyio_backend, plugins) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("Hello you\n")
        assert len([process.stdout.readline() for _ in NAMES]) == len(NAMES)
        plugins.write("upper", 2)
        told = [f"[loaded {name}]\n" for name in NAMES] + ["[reloaded upper]\n"]
        assert [process.stderr.readline() for _ in told] == told
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
        assert process.stderr.read() == ""


def test_the_program_reads_a_file_too(anyio_backend: str, plugins: Plugins, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("Hello you\nbye")
    with (tmp_path / "lines").open() as lines, start(anyio_backend, plugins, lines) as process:
        said, _ = process.communicate(timeout=PATIENCE)
    assert sorted(said.splitlines())[-2:] == ["upper 1: BYE", "upper 1: HELLO YOU"]
    assert process.returncode == 0


def test_a_folder_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "hot_reload.py"), str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"hot_reload: there is no folder {tmp_path / 'nowhere'}\n"
