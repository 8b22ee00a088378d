"""The harnesses of the fuzzer hold for any text, also where the fuzzer does not run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .fuzzing.harnesses import HARNESSES, SEEDS


@pytest.mark.parametrize("harness", HARNESSES.values(), ids=HARNESSES)
def test_a_harness_holds_for_texts_that_mean_something_somewhere(harness: object) -> None:
    assert callable(harness)
    for text in SEEDS:
        harness(text)


@pytest.mark.parametrize("name", [name for name in HARNESSES if name != "module_spec"])
@given(st.text(max_size=40) | st.text("a[]*?!-:,; =.()'\"\\\n", max_size=12))
def test_a_harness_holds_for_any_text(name: str, text: str) -> None:
    HARNESSES[name](text)
