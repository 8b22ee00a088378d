"""The front door: what `tocsin` exports, and that opening it is cheap."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
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


def public_names() -> set[str]:
    return {
        name
        for name in dir(tocsin)
        if not name.startswith("_") and not isinstance(getattr(tocsin, name), ModuleType)
    } - {"TYPE_CHECKING"}


def modules() -> list[str]:
    found = (one.name for one in pkgutil.iter_modules(tocsin.__path__))
    return [f"tocsin.{name}" for name in found if not name.startswith("_")]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_exported(name: str) -> None:
    assert getattr(tocsin, name) is not None


def test_nothing_private_leaks() -> None:
    assert public_names() <= PUBLIC


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


def test_importing_is_cheap() -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import tocsin"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "tocsin.chains" in imported
    assert {name.partition(".")[0] for name in imported} & HEAVY == set()


def test_what_is_not_light_is_imported_when_it_is_asked_for() -> None:
    import tocsin.modules
    import tocsin.panic

    assert {"ModuleHost", "panic"} <= set(dir(tocsin))
    assert tocsin.__getattr__("panic") is tocsin.panic
    assert tocsin.__getattr__("ModuleHost") is tocsin.modules.ModuleHost
    with pytest.raises(AttributeError, match="'nothing'"):
        tocsin.nothing  # type: ignore[attr-defined]
