"""The fixtures of the pytest plugin, and that loading it costs a test run nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = ("-p", "no:cacheprovider", "-p", "no:randomly")
FIXTURES = (
    "tocsin_inject_errors",
    "tocsin_recorder",
    "tocsin_registrations_restored",
    "tocsin_sequencer",
)


@pytest.fixture
def passes(pytester: pytest.Pytester) -> Any:
    """Give a function that runs tests with the plugin, which have to pass."""

    def run(source: str, number: int) -> None:
        pytester.makepyfile(source)
        pytester.runpytest_inprocess(*OPTIONS).assert_outcomes(passed=number)

    return run


def test_a_recorder_made_by_the_fixture_is_off_its_chain_after_the_test(passes: Any) -> None:
    passes(
        """
        from tocsin import AtomicChain

        chain = AtomicChain("orders")

        def test_one(tocsin_recorder):
            unused, veto = tocsin_recorder(), tocsin_recorder(name="veto", gives=0x8002)
            heard = tocsin_recorder(priority=1)
            for block in (veto, heard):
                chain.register(block)
            assert chain.call("placed") == 0x8002
            heard.assert_called_once_with("placed")

        def test_two():
            assert chain.is_empty
        """,
        2,
    )


def test_registrations_are_restored_when_the_test_has_ended(passes: Any) -> None:
    passes(
        """
        from tocsin import AtomicChain, Bus

        bus = Bus("app")
        orders = bus.add(AtomicChain("orders"))
        stays = orders.register(lambda event, data: None)

        def test_one(tocsin_registrations_restored):
            tocsin_registrations_restored(bus)
            orders.unregister(stays)
            bus.add(AtomicChain("more"))

        def test_two(tocsin_registrations_restored):
            assert list(bus) == [orders]
            tocsin_registrations_restored(orders)
            orders.register(lambda event, data: None)

        def test_three():
            assert orders.blocks == (stays,)
        """,
        3,
    )


def test_errors_are_injected_until_the_test_has_ended(passes: Any) -> None:
    passes(
        """
        from tocsin import AtomicChain, NOTIFY_OK, notifier_to_errno

        orders = AtomicChain("orders")
        orders.register(lambda event, data: NOTIFY_OK)

        def test_one(tocsin_inject_errors):
            faults = tocsin_inject_errors(orders, {"placed": -16}, times=1)
            assert notifier_to_errno(orders.call("placed")) == -16
            assert orders.call("placed") == NOTIFY_OK
            assert faults.injected == 1
            tocsin_inject_errors(orders, {"placed": -5}, block=orders.blocks[0])

        def test_two():
            assert orders.call("placed") == NOTIFY_OK
        """,
        2,
    )


@pytest.mark.parametrize(
    "fixtures",
    [
        "tocsin_registrations_restored, tocsin_recorder",
        "tocsin_recorder, tocsin_registrations_restored",
    ],
)
def test_a_recorder_is_off_its_chain_after_the_test_whatever_is_restored(
    passes: Any, fixtures: str
) -> None:
    passes(
        f"""
        from tocsin import AtomicChain

        chain = AtomicChain("chain")

        def test_one({fixtures}):
            chain.register(tocsin_recorder())
            tocsin_registrations_restored(chain)

        def test_two():
            assert chain.is_empty
        """,
        2,
    )


def test_each_test_has_a_sequencer_of_its_own(passes: Any) -> None:
    passes(
        """
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_steps(tocsin_sequencer, number):
            for step in (0, 1):
                with tocsin_sequencer(step):
                    pass
        """,
        2,
    )


def test_the_fixtures_are_documented_and_none_is_in_use_unasked(
    pytester: pytest.Pytester,
) -> None:
    shown = pytester.runpytest_inprocess("--fixtures", "-q").stdout
    for name in FIXTURES:
        shown.fnmatch_lines([f"{name} -- *pytest_plugin.py:*", "    ?*"], consecutive=True)
    pytester.makepyfile("def test_none(request): assert 'tocsin' not in str(request.fixturenames)")
    pytester.runpytest_inprocess(*OPTIONS).assert_outcomes(passed=1)


def test_a_failed_assertion_shows_the_line_of_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_one(tocsin_recorder):
            tocsin_recorder(name="mails").assert_called_once_with("placed")  # the line
        """
    )
    shown = pytester.runpytest_inprocess(*OPTIONS).stdout
    shown.fnmatch_lines(["> *# the line", "E *recorder 'mails' was not called*"])
    shown.no_fnmatch_line("*__tracebackhide__*")


REPORT = """
import sys

def pytest_unconfigure():
    with open("modules", "w") as file:
        print(*sys.modules, file=file)
"""


def modules_of_a_run(place: Path, *arguments: str) -> set[str]:
    """Run pytest in a fresh interpreter, with no other plugins, and give what it has imported."""
    place.mkdir()
    (place / "conftest.py").write_text(REPORT)
    (place / "test_it.py").write_text("def test_it(): pass")
    subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, *arguments],
        cwd=place,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        timeout=60,
        check=True,
    )
    return set((place / "modules").read_text().split())


def test_loading_the_plugin_imports_no_event_loop_and_little_else(tmp_path: Path) -> None:
    without = modules_of_a_run(tmp_path / "without")
    added = modules_of_a_run(tmp_path / "with", "-p", "tocsin.pytest_plugin") - without
    assert "tocsin.pytest_plugin" in added
    ours = {name for name in added if name.partition(".")[0] == "tocsin"}
    assert {name.partition(".")[0] for name in added - ours} & {"anyio", "asyncio", "trio"} == set()
    assert not any(name.startswith("tocsin.testing") for name in ours)
    assert len(added - ours) < 5, added - ours


def test_the_plugin_is_known_to_pytest_where_tocsin_is_installed() -> None:
    from importlib.metadata import entry_points

    [found] = entry_points(group="pytest11", name="tocsin")
    assert found.value == "tocsin.pytest_plugin"
