"""Reports tell what happened in a call, and turn a stop into a veto."""

from __future__ import annotations

import errno
from enum import Enum
from typing import Any
from unittest.mock import MagicMock

import pytest

from tocsin import (
    NOTIFY_BAD,
    NOTIFY_DONE,
    NOTIFY_OK,
    NOTIFY_STOP,
    BlockCall,
    CallReport,
    VetoError,
    notifier_from_errno,
)
from tocsin.report import describe_event

from .flavours import WAY_IDS, WAYS, Rig

pytestmark = pytest.mark.anyio


@pytest.fixture(params=WAYS, ids=WAY_IDS)
async def rig(request: pytest.FixtureRequest, anyio_backend: str) -> Rig:
    flavour, colour, walk = request.param
    return Rig(flavour, colour=colour, walk=walk)


async def test_a_report_tells_who_was_called_with_what_result(rig: Rig) -> None:
    first = await rig.add("first", NOTIFY_OK)
    second = await rig.add("second")
    report = await rig.call_report("up", None)
    assert isinstance(report, CallReport)
    assert (report.event, report.result, report.nr_calls) == ("up", NOTIFY_DONE, 2)
    assert (report.stopped_by, report.rolled_back) == (None, ())
    assert [call[:3] for call in report.calls] == [
        (first, NOTIFY_OK, None),
        (second, NOTIFY_DONE, None),
    ]
    assert all(isinstance(call, BlockCall) and call.duration >= 0 for call in report.calls)
    assert report.raise_for_veto() is None


async def test_a_report_of_an_empty_chain_is_empty(rig: Rig) -> None:
    assert await rig.call_report("up", None) == ("up", NOTIFY_DONE, 0, None, (), ())


@pytest.mark.parametrize("field", ["event", "result", "nr_calls", "calls"])
def test_a_report_is_frozen(field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(CallReport("up", NOTIFY_OK, 0, None, ()), field, 1)


@pytest.mark.parametrize(
    ("result", "code", "words"),
    [
        (NOTIFY_STOP, 0, "stopped by block 'stops' with STOP|OK"),
        (NOTIFY_BAD, errno.EPERM, "stopped by block 'stops' with BAD (EPERM)"),
        (notifier_from_errno(-errno.EBUSY), errno.EBUSY, "'stops' with STOP (EBUSY)"),
        (-errno.EBUSY, 0, "'stops' with STOP, a bare negative (-16)"),
    ],
)
async def test_any_stop_bit_is_raised_as_a_veto(
    rig: Rig, result: int, code: int, words: str
) -> None:
    stops = await rig.add("stops", result)
    await rig.add("behind")
    report = await rig.call_report("up", None)
    assert (report.stopped_by, report.nr_calls) == (stops, 1)
    with pytest.raises(VetoError) as caught:
        report.raise_for_veto()
    veto = caught.value
    assert (veto.errno, veto.result, veto.block) == (code, result, stops)
    assert words in veto.reason
    assert veto.__cause__ is None


async def test_a_veto_with_words_keeps_its_words_and_its_cause(rig: Rig) -> None:
    said = VetoError(errno.EBUSY, "the disk is in use")
    stops = await rig.add("stops", said)
    report = await rig.call_report("up", None)
    assert report.calls[0].exception is said
    with pytest.raises(VetoError) as caught:
        report.raise_for_veto()
    veto = caught.value
    assert (veto.errno, veto.reason, veto.block) == (errno.EBUSY, "the disk is in use", stops)
    assert veto.__cause__ is said


async def test_a_stopped_robust_call_is_raised_as_a_veto_and_tells_who_was_rolled_back(
    rig: Rig,
) -> None:
    first, second = await rig.add("first"), await rig.add("second")
    await rig.add("stops", NOTIFY_STOP)
    report = await rig.call_robust_report("up", "down", None)
    assert report.rolled_back == (first, second)
    with pytest.raises(VetoError, match="'stops'"):
        report.raise_for_veto()


async def test_a_veto_that_nobody_is_known_for_has_no_block() -> None:
    report = CallReport("up", NOTIFY_BAD, 0, None, ())
    with pytest.raises(VetoError, match=r"stopped with BAD \(EPERM\)") as caught:
        report.raise_for_veto()
    assert caught.value.block is None


async def test_statistics_count_active_and_parked_blocks(rig: Rig) -> None:
    await rig.add("a")
    with rig.chain.only("b"):
        await rig.add("b")
        assert rig.chain.statistics() == (1, 1, 0, 0)
    assert rig.chain.statistics()._asdict() == {
        "blocks": 2,
        "parked": 0,
        "walks_running": 0,
        "writers_waiting": 0,
    }


async def test_a_walk_under_way_is_counted(rig: Rig) -> None:
    counted: list[int] = []

    def look(event: Any, data: Any) -> None:
        counted.append(rig.chain.statistics().walks_running)

    await rig.add("looks", look)
    await rig.call(1, None)
    assert counted == [1]


class _Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise ValueError("no words")


class _Number(int):
    def __repr__(self) -> str:
        return "secret"


class _Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("up", "up"),
        (3, "3"),
        (None, "None"),
        (True, "True"),
        (1.5, "1.5"),
        (_Text("up"), "up"),
        (_Number(3), "3"),
        pytest.param(10**5000, "int", id="huge"),
        (_Colour.RED, "_Colour.RED"),
        (ValueError, "ValueError"),
        ({"token": "secret"}, "dict"),
        pytest.param(MagicMock(spec=True), "MagicMock", id="like a bool"),
        pytest.param(MagicMock(spec=_Colour.RED), "MagicMock", id="like a member"),
        pytest.param(MagicMock(spec=int), "MagicMock", id="like a class"),
    ],
)
def test_an_event_is_described_without_what_it_carries(event: object, said: str) -> None:
    assert describe_event(event) == said
