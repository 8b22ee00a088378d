"""Finding a module, reading what it requires, running its body.

Owns what a load leaves in ``sys.modules``, and takes that back. Knows no bus, no scope and no life
cycle. ``REQUIRES`` is read out of the source, so nothing of a module runs before what it requires
is there; its body is compiled from the source on every load, so there is no stale bytecode.
"""

from __future__ import annotations

import ast
import errno
import importlib
import importlib.util
import os
import sys
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakSet

from .errors import InvalidTypeError, ModuleLoadError
from .wording import as_str, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Generator
    from importlib.machinery import ModuleSpec
    from types import CodeType, FrameType, ModuleType

__all__ = ["ENTRY_POINTS", "Location", "ModuleSource", "in_words", "locate", "whereabouts"]

ENTRY_POINTS = "tocsin.modules"
"""The entry point group in which packages offer modules by name."""

_OTHERS = {
    **dict.fromkeys(sys.stdlib_module_names, "Python"),
    "__main__": "the program",
    "tocsin": "Tocsin",
}
"""Whose the packages are that nobody may load a second time: others have the first one in use."""

_withdrawn: WeakSet[ModuleType] = WeakSet()
"""The modules that were unloaded, which nobody may put back.

Global because ``sys.modules`` is: another host may have replaced one of them there.
"""


class Location(NamedTuple):
    """Where a module is, as far as that can be told without looking."""

    name: str
    """What the host calls it."""
    import_name: str
    """Its key in ``sys.modules``."""
    path: Path | None = None
    """Its file, if it was given as one."""

    def sibling(self, name: str) -> Location | None:
        """Give the module of that name beside this one, if there is one.

        Beside a file that is a file, and beside a module of a package, which must be imported, a
        module of that package.
        """
        if self.path is not None:
            beside = self.path.parent / f"{name}.py"
            there = beside.name == f"{name}.py" and beside.is_file()  # a name, and no path
            return Location(name, name, beside) if there else None
        package = self.import_name.rpartition(".")[0]
        if not package or "." in name:
            return None
        dotted = f"{package}.{name}"
        return Location(name, dotted) if importlib.util.find_spec(dotted) else None


def locate(spec: str | os.PathLike[str]) -> Location:
    """Say where a module is: a file (a path, or text ending in ``.py``), an entry point, a name.

    Raises `InvalidTypeError`, and `ModuleLoadError` for what can be none of these.
    """
    text = as_str(spec)
    if text is not None and not text.endswith(".py"):
        return Location(text, target) if (target := _entry_point(text)) else _dotted(text)
    try:
        path = Path(spec if text is None else text).absolute()
    except TypeError:
        raise InvalidTypeError(
            f"a module is a dotted name, an entry point or the path of a file, not {shown(spec)}"
        ) from None
    except OSError as error:  # of a relative path
        raise ModuleLoadError(
            f"{shown(spec)} was not loaded: the current directory is gone; give a full path",
            module=str(spec),
            errno=error.errno,
        ) from None
    return Location(path.stem, path.stem, path)


def _entry_point(name: str) -> str | None:
    from importlib.metadata import entry_points

    points = entry_points(group=ENTRY_POINTS, name=name)
    try:
        targets = sorted({point.module for point in points})
    except (AssertionError, AttributeError, ValueError):  # of importlib, by version
        raise ModuleLoadError(
            f"entry point {name} of the group {ENTRY_POINTS} does not say which module it is",
            module=name,
        ) from None
    if len(targets) > 1:
        raise ModuleLoadError(
            f"{name} is an entry point of several packages: {', '.join(targets)}; "
            f"load the one you mean by its dotted name",
            module=name,
        )
    if any(point.attr for point in points):
        raise ModuleLoadError(
            f"entry point {name} must name a module, not an object in {targets[0]}", module=name
        )
    return targets[0] if targets else None


def _dotted(name: str) -> Location:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ModuleLoadError(
            f"{name!r} is neither a dotted name, nor an entry point, nor a file ending in .py",
            module=name,
        )
    return Location(name.rpartition(".")[2], name)


class ModuleSource:
    """One load of a module: `read` it, `run` it, and in the end `withdraw` it."""

    __slots__ = (
        "_brought",
        "_code",
        "_replaced",
        "_spec",
        "file",
        "location",
        "module",
        "requires",
    )

    requires: tuple[str, ...]
    """What it says in ``REQUIRES``, from `read` on."""
    file: str
    """Its source file, from `read` on."""
    module: ModuleType
    """From `read` on; its body has not run before `run`."""
    _code: CodeType
    _spec: ModuleSpec

    def __init__(self, location: Location) -> None:
        self.location: Location = location
        self._brought: dict[str, ModuleType] = {}
        self._replaced: ModuleType | None = None

    @property
    def name(self) -> str:
        """What the host calls it."""
        return self.location.name

    @property
    def package(self) -> str:
        """The outermost package that it lies in, or else its own name."""
        return self.location.import_name.partition(".")[0]

    @contextmanager
    def watch(self) -> Generator[None]:
        """Take note of what of its package is imported inside, for `withdraw`."""
        before = frozenset(sys.modules)
        try:
            yield
        finally:
            for name in sys.modules.keys() - before:
                if name.partition(".")[0] == self.package:
                    self._brought[name] = sys.modules[name]

    def read(self) -> None:
        """Find, compile and read it. Runs nothing but the packages that it lies in.

        Raises `ModuleLoadError` when it is not there, is no Python source, or has a syntax error,
        and for a file whose name another module, or one of Python's or Tocsin's, has.
        """
        spec = self._find_file() if self.location.path else self._find_name()
        text = self._text(spec)
        if self.package in _OTHERS and not self.location.path:
            raise self._error(
                f"{self.name} was not loaded: {spec.name} belongs to {_OTHERS[self.package]}, "
                f"whose modules are not run a second time; take another name"
            )
        try:
            tree = ast.parse(text, self.file)
            self._code = compile(tree, self.file, "exec", dont_inherit=True)
        # A null byte is a ValueError, before 3.11.4; too deep a nesting one of the last.
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            said = getattr(error, "msg", "") or str(error) or "nested too deeply"
            line = getattr(error, "lineno", None)
            raise self._error(
                f"{self.name} was not loaded: {type(error).__name__}: {said} "
                f"({self.file}{f', line {line}' if line else ''})"
            ) from error
        self.requires = self._read_requires(tree)
        self._spec = spec
        self.module = importlib.util.module_from_spec(spec)

    def again(self) -> ModuleSource:
        """Give the same version once more, when it has been withdrawn: as it was read, not run.

        What of its package came with it will be there again, but for modules of hosts.
        """
        source = ModuleSource(self.location)
        source.file, source.requires = self.file, self.requires
        source._code, source._spec = self._code, self._spec
        source.module = importlib.util.module_from_spec(self._spec)
        source._brought = {
            name: brought for name, brought in self._brought.items() if brought not in _withdrawn
        }
        return source

    def run(self) -> None:
        """Put the module into ``sys.modules`` and run its body. Raises whatever that raises.

        The packages that it lies in are imported before, should they have gone since it was read.
        """
        name, module = self.location.import_name, self.module
        for brought in sorted(self._brought):  # packages before what lies in them
            _swap(brought, None, self._brought[brought])
        package = name.rpartition(".")[0]
        if package and self.location.path is None:  # a file may have a dot in its name
            importlib.import_module(package)
        self._replaced = sys.modules.get(name)
        _swap(name, self._replaced, module)
        exec(self._code, vars(module))  # noqa: S102 - this is what loading means
        there = getattr(module, "REQUIRES", ())
        names = _names(there)
        if names is None or set(names) != set(self.requires):
            raise self._unclear(f"when its body has run it is {there!r}")

    def withdraw(self, heir: ModuleSource | None = None) -> None:
        """Take the module out of ``sys.modules``, or put back what it replaced.

        What of its package came with it goes too, or is left to ``heir``, which may use it.
        """
        own = self.location.import_name
        if hasattr(self, "module"):
            _withdrawn.add(self.module)
            _swap(own, self.module, None if self._replaced in _withdrawn else self._replaced)
        for name, brought in self._brought.items():
            if heir is None or name == own:
                _swap(name, brought, None)
            else:
                heir._brought[name] = brought

    # Finding.

    def _find_file(self) -> ModuleSpec:
        name, path = self.location.import_name, str(self.location.path)
        if not os.path.isfile(path):  # noqa: PTH113 - the text is needed
            raise self._error(f"{self.name} was not loaded: there is no file {path}", errno.ENOENT)
        where = self._whose_name(name)
        if where and (name in _OTHERS or os.path.realpath(where) != os.path.realpath(path)):
            raise self._error(
                f"{self.name} was not loaded from {path}: there is another module of that name "
                f"({where}); rename the file",
                errno.EEXIST,
            )
        loader = SourceFileLoader(name, path)
        return cast("ModuleSpec", importlib.util.spec_from_file_location(name, path, loader=loader))

    def _whose_name(self, name: str) -> str | None:
        """Give the file of the module that an import of that name gives, if there is one."""
        there = sys.modules.get(name)
        if there is not None:
            return getattr(there, "__file__", None) or "built in"
        spec = self._find_spec(name) if name.isidentifier() else None
        return spec.origin if spec else None

    def _find_spec(self, name: str) -> ModuleSpec | None:
        importlib.invalidate_caches()  # the file may have been written a moment ago
        try:
            return importlib.util.find_spec(name)
        except Exception as error:
            raise self._error(
                f"{self.name} was not loaded: looking for {name}: {in_words(error)}",
                errno.ENOENT if isinstance(error, ModuleNotFoundError) else None,
            ) from error

    def _find_name(self) -> ModuleSpec:
        name = self.location.import_name
        spec = self._find_spec(name)
        if spec is None:
            raise self._error(
                f"{self.name} was not loaded: there is no module or entry point {name}",
                errno.ENOENT,
            )
        return spec

    def _text(self, spec: ModuleSpec) -> str:
        """Give the source and set ``file``."""
        self.file = spec.origin or ""
        loader: Any = spec.loader
        try:
            text = loader.get_source(spec.name) if self.file else None
        except (AttributeError, ImportError, LookupError, SyntaxError, ValueError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            raise self._error(
                f"{self.name} was not loaded: {in_words(cause)} ({self.file})",
                getattr(cause, "errno", None),
            ) from error
        if text is None:
            raise self._error(f"{self.name} was not loaded: {spec.name} has no Python source")
        return cast("str", text)

    # Reading.

    def _read_requires(self, tree: ast.Module) -> tuple[str, ...]:
        value: ast.expr | None = None
        for statement in tree.body:
            if isinstance(statement, ast.Assign):
                targets = statement.targets
            elif isinstance(statement, ast.AnnAssign):
                targets = [statement.target]
            else:
                continue
            if any(isinstance(one, ast.Name) and one.id == "REQUIRES" for one in targets):
                value = statement.value
        if value is None:
            return ()
        try:
            names = _names(ast.literal_eval(value))
        except (TypeError, ValueError):
            names = None
        if names is None:
            raise self._unclear(f"line {value.lineno} has none")
        return names

    def _unclear(self, why: str) -> ModuleLoadError:
        return self._error(
            f"{self.name} was not loaded: its REQUIRES must be one literal of names at the top of "
            f"the module, as in REQUIRES = ('buildchain',); {why} ({self.file})"
        )

    def _error(self, message: str, number: int | None = None) -> ModuleLoadError:
        return ModuleLoadError(message, module=self.name, errno=number)


def _swap(name: str, old: ModuleType | None, new: ModuleType | None) -> None:
    """Replace a module, where it still is in ``sys.modules`` and in its package, by another."""
    package, _, child = name.rpartition(".")
    inside: dict[str, Any] = getattr(sys.modules.get(package), "__dict__", {})
    places: tuple[tuple[dict[str, Any], str], ...] = ((sys.modules, name), (inside, child))
    for place, key in places:
        if place.get(key) is old:
            place.pop(key, None)
            if new is not None:
                place[key] = new


def runs_body(frame: FrameType | None) -> bool:
    """Say whether a frame is that of a module's body, or of what that has called.

    Of code that awaits it is not: a body cannot.
    """
    while frame is not None and frame.f_code is not ModuleSource.run.__code__:
        frame = frame.f_back
    return frame is not None


def _names(value: object) -> tuple[str, ...] | None:
    """Give the names in a value: one, or a collection of them; ``None`` if it has others."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, list | tuple | set | frozenset):
        return None
    names = tuple(cast("Collection[object]", value))
    fine = all(isinstance(name, str) and name for name in names)
    return cast("tuple[str, ...]", names) if fine else None


def in_words(error: BaseException) -> str:
    """Say in one line what was raised, whatever its own words raise."""
    try:
        words = " ".join(str(error).split())
    except Exception as failure:
        words = f"(its text raised {type(failure).__name__})"
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def whereabouts(error: BaseException, file: str) -> str:
    """Say in one line what was raised, and where in ``file``."""
    trace, line = error.__traceback__, 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{in_words(error)} ({file}, line {line})" if line else in_words(error)
