"""``MODULE:BUS`` leads to a bus, or to one clear error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin import Bus, InvalidTypeError, InvalidValueError, ModuleLoadError
from tocsin.targets import Target, find_bus, parse_target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Write modules that can be imported until the test ends."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(text, "utf-8")
        return str(path)

    yield write
    for name, module in tuple(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def find(text: str) -> Bus:
    return find_bus(parse_target(text))


APP = """
import sys
from tocsin import Bus, SrcuChain

bus = Bus("shop")
chain = SrcuChain("orders")


class platform:
    bus = bus


class Platform(Bus):
    pass


def make():
    return bus


def broken():
    return {}["key"]


async def amake():
    return bus


def leave():
    sys.exit(2)


def factory():
    return make


def interrupt():
    raise KeyboardInterrupt
"""


@pytest.mark.parametrize("text", ["app:bus", "app:platform.bus", "app:make()"])
def test_a_bus_is_found(write: Any, text: str) -> None:
    write("app", APP)
    assert find(text) is sys.modules["app"].bus


def test_a_class_may_make_the_bus(write: Any) -> None:
    write(
        "app", APP.replace("(Bus):", "(Bus):\n    def __init__(self): super().__init__('made')\n")
    )
    assert find("app:Platform()").name == "made"


def test_a_bus_may_be_in_a_package(write: Any, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    write("shop/events", APP)
    assert find("shop.events:bus").name == "shop"


@pytest.mark.parametrize(
    "text",
    [
        *("app", "app:", ":bus", "", ":", "app:bus:x", "dir/app.py:bus", ".app:bus", "app:make(1)"),
        *("app:make()()", "app:()", "app:a..b", "a b:bus", "app:make().bus"),
    ],
)
def test_what_is_not_of_the_form_is_refused_before_anything_is_imported(text: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_target(text)
    assert str(caught.value).startswith(f"{text!r} is not of the form MODULE:BUS, as in app:bus")


WORDS = st.from_regex(r"[a-z]+(\.[a-z]+)*", fullmatch=True)


@given(WORDS, WORDS, st.sampled_from(["", "()"]))
def test_a_target_is_written_as_it_is_read(module: str, path: str, call: str) -> None:
    target = parse_target(f"{module}:{path}{call}")
    assert target == Target(module, tuple(path.split(".")), bool(call))
    assert str(target) == f"{module}:{path}{call}"


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("app:buss", InvalidValueError, "module app has no 'buss'; did you mean 'bus'?"),
        (
            "app:zebra",
            InvalidValueError,
            "module app has no 'zebra'; there are 'Bus', 'Platform', ",
        ),
        ("app:BUS", InvalidValueError, "module app has no 'BUS'; did you mean 'bus'? (FILE)"),
        ("sys:bus", InvalidValueError, "module sys has no 'bus'; "),
        ("app:platform.buss", InvalidValueError, "module app:platform has no 'buss'; did you mean"),
        ("app:platform.bus.x", InvalidValueError, "module app:platform.bus has no 'x'"),
        ("app:chain", InvalidTypeError, "app:chain is no bus but a SrcuChain"),
        ("app:make", InvalidTypeError, "app:make is no bus but a function; if it makes one, say "),
        ("app:Platform", InvalidTypeError, "app:Platform is no bus but a type; if it makes one, s"),
        ("app:amake()", InvalidTypeError, "app:amake() is no bus but a coroutine"),
        ("app:factory()", InvalidTypeError, "app:factory() is no bus but a function$"),
        ("app:bus()", InvalidTypeError, "app:bus() cannot be called: it is a Bus"),
        ("app:platform.bus.name()", InvalidTypeError, "app:platform.bus.name() cannot be called: "),
        ("app:broken()", ModuleLoadError, "app:broken() failed: KeyError: 'key' (FILE, line 22)"),
        ("app:leave()", ModuleLoadError, "app:leave() failed: SystemExit: 2 (FILE, line 30)"),
        ("app:Platform()", ModuleLoadError, "app:Platform() failed: TypeError: "),
    ],
)
def test_what_is_no_bus_is_told(write: Any, text: str, kind: type[Exception], said: str) -> None:
    file = write("app", APP)
    with pytest.raises(kind) as caught:
        find(text)
    shown, end, _ = said.replace("FILE", file).partition("$")
    assert str(caught.value).startswith(shown)
    assert not end or str(caught.value) == shown


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import nothing_there", "ModuleNotFoundError: No module named 'nothing_there' (APP)"),
        ("{}['key']", "KeyError: 'key' (APP)"),
        ("import sys; sys.exit(0)", "SystemExit: 0 (APP)"),
        ("def f(:", "SyntaxError: invalid syntax (APP)"),
        ("import helper", "ZeroDivisionError: division by zero (HELPER; from APP)"),
        ("import unclosed", "SyntaxError: '(' was never closed (UNCLOSED; from APP)"),
        ("raise SyntaxError('made up')", "SyntaxError: made up (APP)"),
    ],
)
def test_whose_error_it_is_and_where_is_told_when_a_module_does_not_import(
    write: Any, body: str, said: str
) -> None:
    files = {
        "APP": write("app", f"\n\n{body}"),
        "HELPER": write("helper", "\n\n1 / 0"),
        "UNCLOSED": write("unclosed", "\n\n("),
    }
    for word, file in files.items():
        said = said.replace(word, f"{file}, line 3")
    with pytest.raises(ModuleLoadError) as caught:
        find("app:bus")
    assert str(caught.value) == f"app does not import: {said}"
    assert caught.value.module == "app"
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("module", ["nothing_there", "nothing_there.events", "sys.events"])
def test_a_module_that_there_is_not_is_told(module: str) -> None:
    with pytest.raises(
        ModuleLoadError, match=f"^{module} does not import: ModuleNotFoundError: No"
    ):
        find(f"{module}:bus")


CODE = """
import sys
class Platform:
    @property
    def raises(self): raise ValueError("not\\nyet")
    @property
    def typo(self): return self._bsu
    @property
    def same(self): return same.same
    @property
    def says_no(self): raise AttributeError("later")
    @property
    def leaves(self): sys.exit(3)
    @property
    def interrupts(self): raise KeyboardInterrupt
platform, same = Platform(), object()
def __getattr__(name):
    if name == "broken": return {}[name]
    if name == "inner": return same.inner
    raise AttributeError(name)
"""


@pytest.mark.parametrize(
    ("path", "error", "line"),
    [
        ("platform.raises", "ValueError: not yet", 5),
        ("platform.typo", "AttributeError: 'Platform' object has no attribute '_bsu'", 7),
        ("platform.same", "AttributeError: 'object' object has no attribute 'same'", 9),
        ("platform.says_no", "AttributeError: later", 11),
        ("platform.leaves", "SystemExit: 3", 13),
        ("broken", "KeyError: 'broken'", 18),
        ("inner", "AttributeError: 'object' object has no attribute 'inner'", 19),
    ],
)
def test_whose_error_it_is_and_where_is_told_when_an_attribute_is_code_that_raises(
    write: Any, path: str, error: str, line: int
) -> None:
    file = write("app", CODE)
    with pytest.raises(ModuleLoadError) as caught:
        find(f"app:{path}")
    owner, _, name = f"app:{path}".replace(":", "." if "." not in path else ":").rpartition(".")
    said = f"{name!r} of module {owner} failed: {error} ({file}, line {line})"
    assert str(caught.value) == said
    assert caught.value.__cause__ is not None


def test_an_attribute_that_code_knows_not_is_absent(write: Any) -> None:
    file = write("app", CODE)
    with pytest.raises(InvalidValueError) as caught:
        find("app:platfrm")
    said = f"module app has no 'platfrm'; did you mean 'platform' or 'Platform'? ({file})"
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "given", ["raise OSError", "return 1", "return [1, 2]", "return [1, 2, 'bus']"]
)
def test_what_tells_its_attributes_badly_does_no_harm(write: Any, given: str) -> None:
    file = write("app", f"class Odd:\n    def __dir__(self): {given}\nodd = Odd()")
    with pytest.raises(InvalidValueError) as caught:
        find("app:odd.buss")
    assert str(caught.value) == f"module app:odd has no 'buss' ({file})"


def test_an_interruption_is_none_of_a_modules_errors(write: Any) -> None:
    write("app", APP)
    write("slow", "raise KeyboardInterrupt")
    write("code_of_app", CODE)
    for text in ("app:interrupt()", "slow:bus", "code_of_app:platform.interrupts"):
        with pytest.raises(KeyboardInterrupt):
            find(text)
