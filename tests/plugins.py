"""Modules for tests: where they are written, what they say, and that they leave nothing behind."""

from __future__ import annotations

import sys
import textwrap
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from tocsin import Bus
from tocsin.modules import ModuleHost

if TYPE_CHECKING:
    from pathlib import Path

    import anyio


class Notes(ModuleType):
    """What the modules of a test say, importable by them as ``notes``."""

    def __init__(self) -> None:
        super().__init__("notes")
        self.said: list[Any] = []
        self.say = self.said.append
        self.gate: anyio.Event
        self.fail: anyio.Event
        self.do: Any
        """What a test wants done inside a module."""


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    notes = Notes()
    monkeypatch.setitem(sys.modules, "notes", notes)
    return notes


@pytest.fixture
def host(notes: Notes) -> ModuleHost:
    return ModuleHost(Bus("main"))


class Folder:
    """Where the modules of a test are written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, name: str, source: str) -> str:
        file = self.path / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
        return str(file)


@pytest.fixture
def write(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def importable(write: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.syspath_prepend(write.path)
    return write


@pytest.fixture
def nothing_left() -> Any:
    """See that every test leaves `sys.modules` as it found it."""
    before = dict(sys.modules)
    yield
    left = {
        name
        for name in sys.modules.keys() ^ before.keys()
        if (module := sys.modules.get(name, before.get(name))) is not None
        and "pytest-of" in (getattr(module, "__file__", None) or "")
    }
    for name in left:
        if name in before:
            sys.modules[name] = before[name]
        else:
            del sys.modules[name]
    assert left == set()


OWNER = """
    import notes
    from tocsin import AtomicChain

    test_chain = AtomicChain("test_chain")

    @test_chain.subscriber(priority=-1)
    def last(event, data): ...

    def module_init(host):
        notes.say("owner in")
        host.bus.add(test_chain)

    def module_exit(host):
        notes.say("owner out")
        test_chain.unregister(last)
"""
USER = """
    from owner import test_chain
    import notes

    REQUIRES = ("owner",)

    def hear(event, data):
        notes.say(event)

    def module_init(host):
        global block
        notes.say("user in")
        block = test_chain.register(hear)

    def module_exit(host):
        notes.say("user out")
        test_chain.unregister(block)
"""


def states(host: ModuleHost) -> dict[str, str]:
    return {info.name: str(info.state) for info in host.modules}
