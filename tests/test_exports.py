"""The front door: what `tocsin` exports, and that opening it is cheap."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import tocsin
from tocsin import errors

PUBLIC = {
    # chains
    "AnyChain",
    "AtomicChain",
    "BlockingChain",
    "RawChain",
    "SrcuChain",
    # blocks
    "BlockOptions",
    "NotifierBlock",
    "block",
    # the panic chain, a module
    "panic",
    # results
    "NOTIFY_BAD",
    "NOTIFY_DONE",
    "NOTIFY_OK",
    "NOTIFY_STOP",
    "NOTIFY_STOP_MASK",
    "NotifyResult",
    "describe_result",
    "notifier_from_errno",
    "notifier_to_errno",
    # reports
    "BlockCall",
    "CallReport",
    "ChainStatistics",
    "BlockSnapshot",
    "BusSnapshot",
    "ChainSnapshot",
    # observers
    "BlockStatistics",
    "Observation",
    "ObservedCall",
    "Observer",
    "StatisticsObserver",
    "StructlogObserver",
    # streams
    "Stream",
    "StreamStatistics",
    # filters and owners
    "Bus",
    "ModuleHost",
    "NameFilter",
    "Scope",
    # errors, raise_for_result() among them
    *errors.__all__,
}

HEAVY = {"anyio", "asyncio", "trio", "structlog", "inspect", "dataclasses"}

NOT_LIGHT = {"BlockStatistics", "ModuleHost", "StatisticsObserver", "StructlogObserver", "panic"}


def public_names() -> set[str]:
    return {
        name
        for name in dir(tocsin)
        if not name.startswith("_") and not isinstance(getattr(tocsin, name), ModuleType)
    } - {"TYPE_CHECKING"}


def imported_by(statement: str) -> set[str]:
    """Give the modules that a fresh interpreter has after a statement, and had not before."""
    program = (
        f"import sys; before = {{*sys.modules}}; {statement}; print(*{{*sys.modules}} - before)"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(ran.stdout.split())


def modules() -> list[str]:
    found = (one.name for one in pkgutil.iter_modules(tocsin.__path__))
    return [f"tocsin.{name}" for name in found if not name.startswith("_")]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_exported(name: str) -> None:
    assert getattr(tocsin, name) is not None


def test_nothing_private_leaks() -> None:
    assert public_names() <= PUBLIC


def test_a_star_import_gives_every_public_name() -> None:
    names: dict[str, object] = {}
    exec("from tocsin import *", names)
    assert names.keys() - {"__builtins__"} == PUBLIC


def test_what_type_checkers_are_told_to_be_there_is_there() -> None:
    (told,) = (one for one in ast.parse(source()).body if isinstance(one, ast.If))
    homes = {
        name.name: one.module or name.name
        for one in told.body
        if isinstance(one, ast.ImportFrom)
        for name in one.names
    }
    assert homes == vars(tocsin)["_HOMES"]


def source() -> str:
    return Path(tocsin.__file__).read_text(encoding="utf-8")


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(tocsin, "nothing")  # noqa: B009 - a type checker knows better


def test_every_error_is_exported() -> None:
    made = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, BaseException)
    }
    assert made == set(errors.__all__) - {"raise_for_result"}


@pytest.mark.parametrize("name", modules())
def test_what_a_module_says_it_has_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for one in getattr(module, "__all__", ()):
        assert hasattr(module, one)


def test_the_package_is_typed() -> None:
    assert any(path.endswith("tocsin") for path in tocsin.__path__)
    from importlib.resources import files

    assert files("tocsin").joinpath("py.typed").is_file()


@pytest.mark.parametrize("name", sorted(PUBLIC - NOT_LIGHT))
def test_importing_a_name_is_cheap(name: str) -> None:
    imported = imported_by(f"from tocsin import {name}")
    assert {one.partition(".")[0] for one in imported} & HEAVY == set()


def test_importing_everything_for_a_program_with_all_chains_is_cheap() -> None:
    imported = imported_by(
        "from tocsin import AtomicChain, BlockingChain, SrcuChain, RawChain, "
        "Bus, NameFilter, NotifierBlock, Scope"
    )
    assert "tocsin.chains" in imported
    assert {one.partition(".")[0] for one in imported} & HEAVY == set()


def test_importing_the_testing_kit_imports_no_event_loop() -> None:
    imported = {one.partition(".")[0] for one in imported_by("import tocsin.testing")}
    assert imported & {"anyio", "asyncio", "pytest", "structlog", "trio"} == set()


@pytest.mark.parametrize(
    ("name", "other"), [("NameFilter", "chains"), ("Scope", "chains"), ("AtomicChain", "bus")]
)
def test_importing_a_name_imports_no_more_than_it_needs(name: str, other: str) -> None:
    assert f"tocsin.{other}" not in imported_by(f"from tocsin import {name}")


def test_a_module_of_the_same_name_does_not_hide_what_is_exported() -> None:
    import tocsin.block

    assert callable(tocsin.block)
    assert tocsin.block is sys.modules["tocsin.block"].block


def test_what_is_not_light_is_imported_when_it_is_asked_for() -> None:
    import tocsin.modules
    import tocsin.panic

    assert set(dir(tocsin)) >= {"ModuleHost", "panic"}
    assert tocsin.__getattr__("panic") is tocsin.panic
    assert tocsin.__getattr__("ModuleHost") is tocsin.modules.ModuleHost
    with pytest.raises(AttributeError, match="'nothing'"):
        tocsin.nothing  # type: ignore[attr-defined]
