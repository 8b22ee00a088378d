"""Packages that are really installed offer modules by name, in the group ``tocsin.modules``.

Two wheels are made here and installed by pip, without a network and without a build backend.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from tocsin import Bus, ModuleDependencyError, ModuleLoadedError, ModuleLoadError
from tocsin.modules import ModuleHost

from .plugins import states

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]

BELL = {
    "acme_bell/__init__.py": "",
    "acme_bell/tone.py": "TONE = 'ding'",
    "acme_bell/main.py": """
        from tocsin import AtomicChain
        from .tone import TONE

        rings = AtomicChain("rings")

        def module_init(host):
            host.bus.add(rings)
            print("bell in")

        def module_exit(host):
            print("bell out")
        """,
}
TOWER = {
    "acme_tower.py": """
        REQUIRES = ("bell",)

        def ring(event, data):
            print(event)

        def module_init(host):
            global block
            block = host.require("bell").rings.register(ring)
            print("tower in")

        def module_exit(host):
            block.chain.unregister(block)
            print("tower out")
        """,
}


def make_wheel(folder: Path, name: str, files: dict[str, str], *points: str) -> Path:
    """Write what a build backend would: a wheel is an archive with a description in it."""
    info = f"{name}-1.0.dist-info"
    described = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "\n".join(["[tocsin.modules]", *points, ""]),
    }
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in (files | described).items():
            archive.writestr(path, textwrap.dedent(text))
        record = [f"{path},," for path in [*files, *described, f"{info}/RECORD"]]
        archive.writestr(f"{info}/RECORD", "\n".join([*record, ""]))
    return wheel


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the directory into which the two packages are installed."""
    folder = tmp_path_factory.mktemp("wheels")
    wheels = [
        make_wheel(
            folder, "acme_bell", BELL, "bell = acme_bell.main", "lost = acme_bell.no_such_module"
        ),
        make_wheel(folder, "acme_tower", TOWER, "tower = acme_tower"),
    ]
    site = folder / "site"
    options = ["--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", site, *wheels],
        env={**os.environ, "PIP_CONFIG_FILE": os.devnull},
        check=True,
        capture_output=True,
        timeout=120,
    )
    return site


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(site)
    main = site / "acme_bell/main.py"
    text = main.read_text()
    yield site
    main.write_text(text)


async def test_installed_modules_are_loaded_and_unloaded_by_name(
    installed: Path, host: ModuleHost, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModuleDependencyError, match=r"^tower needs bell, which is not loaded"):
        await host.load("tower")
    bell = await host.load("bell")
    tower = await host.load("tower")
    assert (bell.__name__, tower.__name__) == ("acme_bell.main", "acme_tower")
    assert bell.__file__ == str(installed / "acme_bell/main.py")
    with pytest.raises(ModuleLoadedError, match=r"^acme_tower is loaded already, as tower$"):
        await host.load("acme_tower")
    bell.rings.call(bell.TONE)
    await host.unload("tower")
    await host.unload("bell")
    assert capsys.readouterr().out.splitlines() == [
        *("bell in", "tower in", "ding", "tower out", "bell out")
    ]
    assert not [name for name in sys.modules if name.startswith("acme_")]


async def test_autoload_finds_what_another_package_offers(
    installed: Path, host: ModuleHost
) -> None:
    await host.load("tower", autoload=True)
    assert [(info.name, info.users) for info in host.modules] == [
        ("bell", ("tower",)),
        ("tower", ()),
    ]
    await host.unload("tower")
    await host.unload("bell")


async def test_an_installed_module_is_reloaded_under_its_name(
    installed: Path, host: ModuleHost, capsys: pytest.CaptureFixture[str]
) -> None:
    await host.load("tower", autoload=True)
    main = installed / "acme_bell/main.py"
    main.write_text(main.read_text() + "VERSION = 2\n")
    bell: Any = await host.reload("bell")
    assert (bell.VERSION, bell.__name__) == (2, "acme_bell.main")
    bell.rings.call("dong")
    main.write_text("1 / 0")
    with pytest.raises(ModuleLoadError, match="the old version was restored: ZeroDivisionError"):
        await host.reload("bell")
    assert host.require("bell").VERSION == 2
    assert states(host) == {"bell": "live", "tower": "live"}
    assert "dong" in capsys.readouterr().out.splitlines()
    await host.unload("tower")
    await host.unload("bell")


async def test_an_entry_point_that_names_nothing_is_reported(
    installed: Path, host: ModuleHost
) -> None:
    with pytest.raises(ModuleLoadError) as caught:
        await host.load("lost")
    assert str(caught.value) == (
        "lost was not loaded: there is no module or entry point acme_bell.no_such_module"
    )
    assert (host.modules, "acme_bell" in sys.modules) == ((), False)


async def test_two_hosts_load_what_is_installed(installed: Path) -> None:
    async with ModuleHost(Bus("one")) as one, ModuleHost(Bus("two")) as two:
        assert await one.load("bell") is not await two.load("bell")
        assert [chain.name for chain in one.bus] == [chain.name for chain in two.bus] == ["rings"]


def test_the_command_line_loads_what_is_installed(site: Path, anyio_backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tocsin", "run", "--backend", anyio_backend, "bell", "tower"],
        env={**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.split("\n"), done.stderr, done.returncode) == (
        ["bell in", "tower in", "tower out", "bell out", ""],
        "",
        0,
    )
