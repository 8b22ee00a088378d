"""Finding the bus that an operator names as ``MODULE:BUS``.

Owns the form of that text, the import, and how a failure is told: whose it is, in which file and
line. Knows no command line, and does not look for modules elsewhere than Python does.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from .bus import Bus
from .callables import close_coroutine
from .errors import InvalidTypeError, InvalidValueError, ModuleLoadError
from .module_source import in_words
from .nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Target", "find_bus", "parse_target"]

_FACTORY = "()"


class Target(NamedTuple):
    """Where a bus is: in which module, by which attributes, and whether it has to be made first."""

    module: str
    attributes: tuple[str, ...]
    is_factory: bool

    def __str__(self) -> str:
        return f"{self.module}:{'.'.join(self.attributes)}{_FACTORY * self.is_factory}"


def parse_target(text: str) -> Target:
    """Read ``MODULE:BUS`` or ``MODULE:FACTORY()``, both parts dotted names.

    Raises `InvalidValueError`.
    """
    module, colon, path = text.partition(":")
    target = Target(module, tuple(path.removesuffix(_FACTORY).split(".")), path.endswith(_FACTORY))
    if not colon or not all(map(str.isidentifier, (*module.split("."), *target.attributes))):
        raise InvalidValueError(
            f"{text!r} is not of the form MODULE:BUS, as in app:bus or app.events:platform.bus"
        )
    return target


def find_bus(target: Target) -> Bus:
    """Import the module and give the bus.

    Raises `ModuleLoadError` when the module does not import, `InvalidValueError` when there is no
    such attribute, `InvalidTypeError` when it is no bus, and what a factory, or an attribute that
    is computed, raises as the cause of a `ModuleLoadError`.
    """
    found, said = _import(target.module), f"module {target.module}"
    for name in target.attributes:
        found = _attribute(target, said, found, name)
        said = f"{said}:{name}" if ":" not in said else f"{said}.{name}"
    if target.is_factory:
        found = _make(target, found)
    if isinstance(found, Bus):
        return found
    close_coroutine(found)
    makes = callable(found) and not target.is_factory
    hint = f"; if it makes one, say {f'{target}()'!r}" if makes else ""
    raise InvalidTypeError(f"{target} is no bus but a {type(found).__name__}{hint}")


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a module that runs a program when imported
        raise _load_error(f"{module} does not import", error, module) from error


def _attribute(target: Target, said: str, owner: Any, name: str) -> Any:
    """Give an attribute of ``owner``, which is ``said`` in words."""
    try:
        return getattr(owner, name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        known = _names_in(owner)
        lacks = getattr(error, "obj", None) is owner and getattr(error, "name", None) == name
        if not isinstance(error, AttributeError) or not lacks or name in known:  # its code raises
            raise _load_error(f"{name!r} of {said} failed", error, target.module) from error
        file = getattr(sys.modules.get(target.module), "__file__", None)
        where = f" ({file})" if file else ""  # it may be another one than was meant
        raise InvalidValueError(
            f"{said} has no {name!r}{did_you_mean(name, known)}{where}"
        ) from None


def _names_in(owner: object) -> list[str]:
    """Give the names of its attributes, as far as it tells them."""
    try:
        names: list[object] = [*dir(owner)]
    except Exception:  # of its own ``__dir__``, which may also give anything
        return []
    return [name for name in names if isinstance(name, str) and not name.startswith("__")]


def _make(target: Target, factory: Any) -> object:
    if not callable(factory) or isinstance(factory, Bus):
        raise InvalidTypeError(f"{target} cannot be called: it is a {type(factory).__name__}")
    try:
        return factory()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _load_error(f"{target} failed", error, target.module) from error


def _load_error(what: str, error: BaseException, module: str) -> ModuleLoadError:
    where = "; from ".join(f"{file}, line {line}" for file, line in _places(error))
    said = f"SyntaxError: {error.msg}" if type(error) is SyntaxError else in_words(error)
    return ModuleLoadError(f"{what}: {said}{f' ({where})' if where else ''}", module=module)


def _places(error: BaseException) -> list[tuple[str, int]]:
    """Give file and line of where it was raised and, in another file, of how it came to that."""
    places = list(_frames(error))
    if isinstance(error, SyntaxError) and error.filename is not None:
        places.append((error.filename, error.lineno or 0))
    last = places[-1:]
    return last + [first for first in places[:1] if last[0][0] != first[0]]


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    """Give file and line of each frame that is neither ours nor the import machinery's."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if file not in {__file__, importlib.__file__} and not file.startswith("<frozen "):
            yield file, line
