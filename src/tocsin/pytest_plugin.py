"""Fixtures for pytest, over `tocsin.testing`.

Loaded into every run of pytest where Tocsin is installed, so before a fixture is used it imports no
event loop, and nothing of `tocsin.testing`; it is never autouse, and all its names begin with
``tocsin_``. The classes, which are for annotations, exist for type checkers only.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Protocol, Unpack

    from .block import AnyBlock
    from .bus import Bus
    from .options import BlockOptions
    from .protocol import AnyChain
    from .testing import Injection, Outcome, Recorder, Sequencer
    from .testing.recorder import Answer

    class MakeRecorder(Protocol):
        """Makes recorders for one test."""

        def __call__(
            self, *, gives: Answer | Sequence[Answer] = None, **options: Unpack[BlockOptions]
        ) -> Recorder[Any, Any]:
            """Make a recorder."""
            ...

    class RestoreRegistrations(Protocol):
        """Has chains and buses restored after one test."""

        def __call__(self, target: AnyChain | Bus) -> None:
            """Have a chain or bus be, after the test, as it is now."""
            ...

    class InjectErrors(Protocol):
        """Injects errors for the rest of one test."""

        def __call__(
            self,
            chain: AnyChain,
            outcomes: Mapping[Any, Outcome],
            *,
            block: AnyBlock | None = None,
            times: int | None = None,
        ) -> Injection:
            """Inject errors until the test has ended."""
            ...


@pytest.fixture
def tocsin_recorder() -> Iterator[MakeRecorder]:
    """Make blocks that remember what they hear: ``tocsin_recorder(gives=NOTIFY_BAD)``.

    Options as of `tocsin.testing.Recorder`. After the test they are off their chains.
    """
    from .testing import Recorder
    from .testing.threads import take_off

    with ExitStack() as stack:

        def make(**options: Any) -> Recorder[Any, Any]:
            made: Recorder[Any, Any] = Recorder(**options)
            stack.callback(take_off, made)
            return made

        yield make


@pytest.fixture
def tocsin_registrations_restored(
    tocsin_recorder: MakeRecorder,  # noqa: ARG001 - so that recorders leave after what comes back
) -> Iterator[RestoreRegistrations]:
    """Have a chain or bus be, after the test, as it is when this is called with it.

    Recorders of the test leave it all the same.
    """
    from .testing import registrations_restored

    with ExitStack() as stack:
        yield lambda target: stack.enter_context(registrations_restored(target))


@pytest.fixture
def tocsin_inject_errors() -> Iterator[InjectErrors]:
    """Have callbacks fail for the rest of the test: ``tocsin_inject_errors(chain, {event: -5})``.

    Arguments and result as of `tocsin.testing.inject_errors`.
    """
    from .testing import inject_errors

    with ExitStack() as stack:

        def inject(*arguments: Any, **options: Any) -> Injection:
            return stack.enter_context(inject_errors(*arguments, **options))

        yield inject


@pytest.fixture
def tocsin_sequencer() -> Sequencer:
    """Order what tasks and threads do: a fresh `tocsin.testing.Sequencer`."""
    from .testing import Sequencer

    return Sequencer()
