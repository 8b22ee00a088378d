"""`Observer`: who is told what a chain does, and cannot change it (D15).

Owns the telling: an observer that raises is detached and reported, and the dispatch goes on. Knows
no chain and no walk; they say when something happens.

A walk tells those who were attached when it began, as it calls the blocks that were there then; one
that is detached hears nothing more at once.

Source: the kernel's tracepoints ``notifier_register``, ``notifier_unregister``, ``notifier_run``.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING

from . import _log
from .callables import default_name, is_async_callable
from .errors import InvalidTypeError
from .report import describe_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from typing import Any, Self

    from .block import AnyBlock
    from .protocol import AnyChain

__all__ = ["Observation", "ObservedCall", "Observer", "Watch", "check_observer"]


class ObservedCall:
    """One walk over a chain, as observers are told of it. Compared by identity.

    It carries no data: that belongs to the callbacks.
    """

    __slots__ = ("chain", "depth", "event", "has_ended", "kind", "parent")

    def __init__(
        self, chain: AnyChain, event: object, kind: str, parent: ObservedCall | None
    ) -> None:
        while parent is not None and parent.has_ended:  # a task that outlives it has its context
            parent = parent.parent
        self.chain: AnyChain = chain
        self.event: object = event
        self.kind: str = kind
        """``call``, ``concurrent``, ``replay``, or ``rollback``: a robust call's second pass."""
        self.parent: ObservedCall | None = parent
        """The observed call in one of whose callbacks this one was made, unless that had ended."""
        self.depth: int = 0 if parent is None else parent.depth + 1
        """In how many observed calls it is nested."""
        self.has_ended: bool = False

    def __repr__(self) -> str:
        return f"<ObservedCall {self.kind} {self.chain.name!r} {describe_event(self.event)!r}>"


class Observer:
    """Is told what chains do; subclass it and define what you want to hear.

    Every method runs in the task or thread in which it happens, and must not block: no method is
    async. None of them can change a dispatch: what it gives is ignored, and an observer that raises
    an `Exception` is detached from that chain and reported in the log. Times are in seconds.
    """

    __slots__ = ("__weakref__",)

    def registered(self, chain: AnyChain, block: AnyBlock) -> None:
        """Hear that a block has joined the chain, or was parked and is admitted."""

    def unregistered(self, chain: AnyChain, block: AnyBlock) -> None:
        """Hear that a block has left the chain; a callback of it may still be running."""

    def parked(self, chain: AnyChain, block: AnyBlock) -> None:
        """Hear that the filter leaves a block out, when it is registered or later."""

    def call_started(self, call: ObservedCall) -> None:
        """Hear that a walk begins."""

    def callback_started(self, call: ObservedCall, block: AnyBlock) -> None:
        """Hear that a callback is about to be entered.

        Nothing follows when the block leaves at that very moment.
        """

    def callback_returned(
        self, call: ObservedCall, block: AnyBlock, result: int, duration: float
    ) -> None:
        """Hear with what a callback ended; a `VetoError` counts as its result."""

    def callback_raised(
        self, call: ObservedCall, block: AnyBlock, error: BaseException, duration: float
    ) -> None:
        """Hear what a callback raised, a cancellation and an invalid result included."""

    def call_finished(
        self, call: ObservedCall, result: int | None, error: BaseException | None, duration: float
    ) -> None:
        """Hear how a walk ended: with a result, or with what a callback raised.

        What the policies ``collect`` and ``isolate`` hold back, `callback_raised` alone is told.
        """

    def writer_waiting(self, chain: AnyChain) -> None:
        """Hear that a writer, or a `synchronize`, has to wait for walks of the chain."""


_METHODS = tuple(name for name in vars(Observer) if not name.startswith("_"))


def check_observer(observer: object) -> None:
    """Raise `InvalidTypeError` unless this can observe."""
    if not isinstance(observer, Observer):
        made = observer.__name__ if isinstance(observer, type) else type(observer).__name__
        hint = f"; did you mean {made}()?" if isinstance(observer, type) else ""
        raise InvalidTypeError(f"an observer must be a tocsin.Observer, not {made}{hint}")
    for name in _METHODS:
        if is_async_callable(getattr(observer, name)):
            raise InvalidTypeError(
                f"{type(observer).__name__}.{name}() is async, but nobody awaits an observer; "
                f"make it a plain method"
            )


class Observation:
    """An observer that is attached: a handle to detach it, also as a context manager.

    Detaching takes effect at once, in walks under way too, from any thread, and does not mind if it
    was done before.
    """

    __slots__ = ("_forget", "observer")

    def __init__(self, observer: Observer, forget: Callable[[], object]) -> None:
        self.observer: Observer = observer
        self._forget: Callable[[], object] | None = forget

    @property
    def is_attached(self) -> bool:
        """Whether the observer is still told."""
        return self._forget is not None

    def detach(self) -> None:
        """Tell the observer nothing more. Never waits; legal anywhere."""
        forget, self._forget = self._forget, None
        if forget is not None:
            forget()

    def tell(self, what: str, *details: Any) -> None:
        """Tell the observer; for chains."""
        if self._forget is None:
            return
        try:
            getattr(self.observer, what)(*details)
        except Exception as error:
            self.detach()
            _log.warn(
                "detached an observer that raised",
                observer=default_name(self.observer),
                method=what,
                error=error,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.detach()

    def __repr__(self) -> str:
        state = "attached" if self.is_attached else "detached"
        return f"<Observation {default_name(self.observer)} {state}>"


_current: ContextVar[ObservedCall | None] = ContextVar("tocsin_observed_call", default=None)


class Watch:
    """What the observers of one walk are told, or of a part of one."""

    __slots__ = ("_observations", "call")

    def __init__(self, observations: tuple[Observation, ...], call: ObservedCall) -> None:
        self._observations = observations
        self.call: ObservedCall = call

    @staticmethod
    def over(
        observations: tuple[Observation, ...], chain: Any, event: object, kind: str
    ) -> WholeWatch:
        """Watch a walk that is about to begin."""
        return WholeWatch(observations, ObservedCall(chain, event, kind, _current.get()))

    def part(self) -> Watch:
        """Watch a part of the same walk, whose beginning and end nobody is told of."""
        return Watch(self._observations, self.call)

    def begin(self) -> None:
        """Take note that it begins."""

    def end(self, result: int | None, error: BaseException | None) -> None:
        """Take note that it has ended."""

    def tell(self, what: str, *details: Any) -> None:
        """Tell all of them."""
        for observation in self._observations:
            observation.tell(what, self.call, *details)


class WholeWatch(Watch):
    """What the observers of one walk are told, from its beginning to its end."""

    __slots__ = ("_began", "_token")

    _token: Token[ObservedCall | None]
    _began: float

    def begin(self) -> None:
        """Tell that the walk begins: calls made inside are nested in it."""
        self.tell("call_started")
        self._token = _current.set(self.call)
        self._began = perf_counter()

    def end(self, result: int | None, error: BaseException | None) -> None:
        """Tell that the walk has ended."""
        duration = perf_counter() - self._began
        self.call.has_ended = True
        with suppress(ValueError):  # a closed coroutine may end in another context
            _current.reset(self._token)
        self.tell("call_finished", result, error, duration)
