"""Results carry an errno exactly as the kernel's do."""

from __future__ import annotations

import errno
import json
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tocsin import (
    NOTIFY_BAD,
    NOTIFY_DONE,
    NOTIFY_OK,
    NOTIFY_STOP,
    NOTIFY_STOP_MASK,
    NotifyResult,
    describe_result,
    notifier_from_errno,
    notifier_to_errno,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "kernel_errno.jsonl").read_text().splitlines()
]
PACKED = [row for row in ROWS if row["fn"] == "notifier_from_errno" and row["in"] <= 0]
UNPACKED = [row for row in ROWS if row["fn"] == "notifier_to_errno"]


def test_the_values_are_the_kernels() -> None:
    assert (NOTIFY_DONE, NOTIFY_OK, NOTIFY_STOP, NOTIFY_BAD) == (0x0000, 0x0001, 0x8001, 0x8002)
    assert NOTIFY_STOP_MASK == 0x8000
    assert list(NotifyResult) == [NOTIFY_DONE, NOTIFY_OK, NOTIFY_STOP, NOTIFY_BAD]
    assert issubclass(NotifyResult, IntEnum)


def test_there_are_rows_of_the_kernel_for_both_directions() -> None:
    assert sum(row["in"] >= -4095 for row in PACKED) >= 10
    assert sum(-4095 <= row["in"] <= 0 for row in UNPACKED) >= 5


@pytest.mark.parametrize("row", PACKED, ids=lambda row: str(row["in"]))
def test_an_errno_is_packed_as_the_kernel_packs_it(row: dict[str, int]) -> None:
    packed = notifier_from_errno(row["in"])
    assert packed == row["out"]
    assert bool(packed & NOTIFY_STOP_MASK) is row["stops"]
    assert notifier_to_errno(packed) == row["roundtrip_to_errno"]


@pytest.mark.parametrize("row", UNPACKED, ids=lambda row: str(row["in"]))
def test_a_result_is_unpacked_as_the_kernel_unpacks_it(row: dict[str, int]) -> None:
    assert notifier_to_errno(row["in"]) == row["out"]
    assert bool(row["in"] & NOTIFY_STOP_MASK) is row["stops"]


def test_every_errno_of_the_kernel_survives_the_round_trip() -> None:
    for error in range(-4095, 1):
        assert notifier_to_errno(notifier_from_errno(error)) == error


def test_no_error_packs_to_ok() -> None:
    assert notifier_from_errno(0) is NOTIFY_OK


def test_a_veto_for_eperm_is_bad() -> None:
    assert notifier_from_errno(-errno.EPERM) == NOTIFY_BAD


@pytest.mark.parametrize("wrong", [1, 16, 4095])
def test_a_positive_errno_is_refused_with_the_right_call(wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"did you mean notifier_from_errno\(-{wrong}\)"):
        notifier_from_errno(wrong)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (NOTIFY_DONE, "DONE"),
        (NOTIFY_OK, "OK"),
        (NOTIFY_STOP, "STOP|OK"),
        (NOTIFY_STOP_MASK, "STOP|DONE"),
        (NOTIFY_BAD, "BAD (EPERM)"),
        (notifier_from_errno(-errno.EBUSY), "STOP (EBUSY)"),
        (notifier_from_errno(-4095), "STOP (errno 4095)"),
        (2, "no stop (EPERM)"),
        (23, "no stop (EINVAL)"),
        (-errno.EBUSY, "STOP, a bare negative (-16)"),
        (-40000, "no stop, a bare negative (-40000)"),
    ],
)
def test_a_result_is_described_in_words(result: int, words: str) -> None:
    assert describe_result(result) == words


@pytest.mark.parametrize(
    "function",
    [notifier_from_errno, notifier_to_errno, describe_result],
    ids=lambda one: one.__name__,
)
@pytest.mark.parametrize("wrong", ["1", None, 1.5])
def test_what_is_no_int_is_refused(function: Callable[[Any], object], wrong: Any) -> None:
    with pytest.raises(TypeError, match=rf"notifier_\w+\(\) takes .*, not {type(wrong).__name__}$"):
        function(wrong)
