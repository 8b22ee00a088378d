"""`Scope`: an explicit owner of registrations, which takes them all off in one go.

A scope keeps the blocks that were registered through it, or, while it is *ambient*, by anybody in
the same context: child tasks and `anyio.to_thread` inherit that, bare threads do not. Knows chains
by the `AnyChain` protocol only.

Invariant: a block on a chain has at most one owner, and an owner holds no block that is off its
chain: a chain that takes a block off tells its owner.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .errors import InvalidValueError, NotRegisteredError, ScopeClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Token
    from types import TracebackType
    from typing import Self, Unpack

    from .block import AnyBlock, BlockOptions
    from .protocol import AnyChain

__all__ = ["Scope", "ambient_scope"]

_ambient: ContextVar[Scope | None] = ContextVar("tocsin_ambient_scope", default=None)


def ambient_scope() -> Scope | None:
    """Give the scope that owns what is registered now; raise `ScopeClosedError` if it is closed."""
    scope = _ambient.get()
    if scope is not None:
        scope.check_open()
    return scope


class Scope:
    """An owner of registrations.

    ``with scope`` and ``async with scope`` make it ambient and close it at the end, also after an
    error: everything is unregistered, last first. ``async with`` returns when no callback of it is
    running; ``with`` uses ``unregister_nosync``. A closed scope stays closed.
    """

    __slots__ = ("_blocks", "_closed", "_tokens", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._blocks: dict[int, AnyBlock] = {}
        self._closed = False
        self._tokens: list[Token[Scope | None]] = []

    @property
    def blocks(self) -> tuple[AnyBlock, ...]:
        """The blocks it owns, in order of registration."""
        return tuple(self._blocks.values())

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more registrations."""
        return self._closed

    def check_open(self) -> None:
        """Raise `ScopeClosedError` when the scope is closed."""
        if self._closed:
            raise ScopeClosedError(
                f"scope {self.name!r} is closed; register what must outlive it under another scope"
            )

    def register_nowait(
        self,
        chain: AnyChain,
        target: Any,
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> AnyBlock:
        """Register on ``chain`` as its ``register_nowait`` does, owned by this scope."""
        self.check_open()
        with self.ambient():
            return chain.register_nowait(target, unique_priority=unique_priority, **options)

    async def register(
        self,
        chain: AnyChain,
        target: Any,
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> AnyBlock:
        """Register on ``chain`` as its ``register`` does, sync or async, owned by this scope."""
        self.check_open()
        with self.ambient():
            made = chain.register(target, unique_priority=unique_priority, **options)  # type: ignore[attr-defined]
            return await made if hasattr(made, "__await__") else made

    def adopt(self, block: AnyBlock) -> None:
        """Own a block that is registered already; its former owner lets go of it.

        Raises `ValueError` when the block is on no chain, `ScopeClosedError`.
        """
        self.check_open()
        if block.chain is None:
            raise InvalidValueError(
                f"scope {self.name!r} cannot adopt block {block.name!r}: it is on no chain"
            )
        if block.owner is not None:
            block.owner.forget(block)
        block._owner = self
        self._blocks[id(block)] = block

    def forget(self, block: AnyBlock) -> None:
        """Let go of a block, which stays where it is. Unregistering does this by itself."""
        if self._blocks.pop(id(block), None) is not None:
            block._owner = None

    @contextmanager
    def ambient(self) -> Iterator[Self]:
        """Own what is registered inside, in this context and those that are copied from it."""
        token = _ambient.set(self)
        try:
            yield self
        finally:
            _ambient.reset(token)

    def close(self) -> None:
        """Unregister everything, last first, with ``unregister_nosync``. Legal anywhere."""
        self._closed = True
        for block in reversed(self.blocks):
            chain = block.chain
            if chain is not None:
                _take_off(chain.unregister_nosync, block)

    async def aclose(self) -> None:
        """Unregister everything, last first, and wait until no callback of it is running.

        Everything is off when it returns or raises; cancelled, it no longer waits. Raises what an
        unregister raised, `WouldDeadlockError` or `WrongLoopError`, after all are off.
        """
        self._closed = True
        failures: list[Exception] = []
        try:
            for block in reversed(self.blocks):
                try:
                    await _wait_off(block)
                except Exception as error:  # noqa: BLE001, PERF203 - all of them come off first
                    failures.append(error)
        finally:
            self.close()
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise ExceptionGroup(f"closing scope {self.name!r}", failures)

    def __enter__(self) -> Self:
        self.check_open()
        self._tokens.append(_ambient.set(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _ambient.reset(self._tokens.pop())
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _ambient.reset(self._tokens.pop())
        await self.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._blocks)} blocks"
        return f"<Scope {self.name!r} {state}>"


def _take_off(unregister: Callable[[AnyBlock], Any], block: AnyBlock) -> Any:
    """Unregister a block that may be gone already."""
    try:
        return unregister(block)
    except NotRegisteredError:
        return None


async def _wait_off(block: AnyBlock) -> None:
    """Unregister a block and wait until it is not running, on any flavour."""
    chain: Any = block.chain
    if chain is None:
        return
    try:
        await chain._unregister_and_wait(block)
    except NotRegisteredError:
        return
