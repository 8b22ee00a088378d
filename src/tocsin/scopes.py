"""`Scope`: an explicit owner of registrations, which takes them all off in one go.

A scope keeps the blocks that were registered through it, or, while it is *ambient*, by anybody in
the same context: child tasks and `anyio.to_thread` inherit that, bare threads do not. Knows chains
by the `AnyChain` protocol only.

Invariant: a block on a chain has at most one owner, and an owner holds no block that is off its
chain: a chain that takes a block off tells its owner.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from .block import NotifierBlock
from .callables import default_name
from .checks import check_title
from .errors import InvalidTypeError, InvalidValueError, NotRegisteredError, ScopeClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextvars import Token
    from types import TracebackType
    from typing import Self, Unpack

    from ._typing import DataT, EventT, ResultT_co
    from .block import AnyBlock
    from .options import BlockOptions
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

    __slots__ = ("_blocks", "_closed", "_left", "_tokens", "name")

    def __init__(self, name: str) -> None:
        self.name: str = check_title(name, "a scope's name")
        self._blocks: dict[int, AnyBlock] = {}
        self._closed = False
        self._tokens: list[Token[Scope | None]] = []
        self._left: list[tuple[AnyChain, ref[AnyBlock]]] = []  # off their chain, maybe running

    @property
    def blocks(self) -> tuple[AnyBlock, ...]:
        """The blocks it owns, in order of registration."""
        return tuple(self._blocks.values())

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the blocks that are off their chains and whose callbacks may be running."""
        return tuple(block.name for _, block in self._departed())

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

    def _check_chain(self, chain: object) -> None:
        self.check_open()
        if not hasattr(chain, "register_nowait"):
            raise InvalidTypeError(
                f"scope {self.name!r} registers on a chain, not {type(chain).__name__}"
            )

    def register_nowait(
        self,
        chain: AnyChain,
        target: Callable[[EventT, DataT], ResultT_co],
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> NotifierBlock[EventT, DataT, ResultT_co]:
        """Register on ``chain`` as its ``register_nowait`` does, owned by this scope.

        ``target`` is a block or a callback. Raises `ScopeClosedError`, `InvalidTypeError` for what
        is no chain, and what the chain raises.
        """
        self._check_chain(chain)
        with self.ambient():
            return chain.register_nowait(target, unique_priority=unique_priority, **options)

    async def register(
        self,
        chain: AnyChain,
        target: Callable[[EventT, DataT], ResultT_co],
        *,
        unique_priority: bool = False,
        **options: Unpack[BlockOptions],
    ) -> NotifierBlock[EventT, DataT, ResultT_co]:
        """Register on ``chain`` as its ``register`` does, sync or async, owned by this scope.

        ``target`` is a block or a callback. Raises `ScopeClosedError`, `InvalidTypeError` for what
        is no chain, and what the chain raises.
        """
        self._check_chain(chain)
        with self.ambient():
            any_chain = cast("Any", chain)
            made = any_chain.register(target, unique_priority=unique_priority, **options)
            block: AnyBlock = await made if hasattr(made, "__await__") else made
            return block

    def adopt(self, block: AnyBlock) -> None:
        """Own a block that is registered already; its former owner lets go of it.

        Raises `ScopeClosedError`, `InvalidTypeError` when it is no block, `InvalidValueError` when
        it is on no chain. Legal anywhere.
        """
        self.check_open()
        if not isinstance(block, NotifierBlock):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidTypeError(
                f"scope {self.name!r} cannot adopt {default_name(block)}: it is no block; "
                f"adopt the block that register gave you"
            )
        if block.chain is None:
            raise InvalidValueError(
                f"scope {self.name!r} cannot adopt block {block.name!r}: it is on no chain; "
                f"register it first"
            )
        if block.owner is not None:
            block.owner.forget(block)
        block._nb_owner = self
        self._blocks[id(block)] = block
        if self._closed:  # meanwhile, by another thread, which may have missed the block
            self.forget(block)
            self.check_open()

    def forget(self, block: AnyBlock) -> None:
        """Let go of a block, which stays where it is. Unregistering does this by itself."""
        if self._blocks.pop(id(block), None) is not None:
            block._nb_owner = None

    def left(self, block: AnyBlock, chain: AnyChain) -> None:
        """Let go of a block that a chain took off; called by the chain.

        Spent or removed in mid-walk its callback may be running still, and `aclose` waits for that.
        """
        self.forget(block)
        self._left = [one for one in self._left if _runs(*one)]
        departed = (chain, ref(block))
        if _runs(*departed):
            self._left.append(departed)

    def _departed(self) -> list[tuple[Any, AnyBlock]]:
        """Give the blocks that were let go of and may be running, with their chains of old."""
        there = ((chain, departed()) for chain, departed in self._left if _runs(chain, departed))
        return [(chain, block) for chain, block in there if block is not None]

    def refuse_to_wait(self, what: str, instead: str) -> None:
        """Raise `WouldDeadlockError` where `aclose` would wait for the code that is running.

        ``what`` is what that code tries and ``instead`` what it should do, as in the error's text.
        """
        # ``None``: taken off by another thread a moment ago.
        there = [(block.chain, block) for block in self.blocks if block.chain is not None]
        for chain, block in (*there, *self._departed()):
            cast("Any", chain)._refuse_own_walk(block, what, instead)

    @contextmanager
    def ambient(self) -> Generator[Self]:
        """Own what is registered inside, in this context and those that are copied from it."""
        token = _ambient.set(self)
        try:
            yield self
        finally:
            _ambient.reset(token)

    def close(self) -> None:
        """Unregister everything, last first, with ``unregister_nosync``.

        Raises what that raised, `WrongLoopError`, after all others are off. Legal in a callback.
        """
        self._raise(self._take_all_off())

    async def aclose(self) -> None:
        """Unregister everything, last first, and wait until no callback of it is running.

        Everything is off when it returns or raises; cancelled, it no longer waits. Raises what an
        unregister raised, `WouldDeadlockError` or `WrongLoopError`, after all others are off.
        """
        self._closed = True
        failures: list[Exception] = []
        settled: set[int] = set()  # waited for or refused, and not to be asked again
        try:
            for block in reversed(self.blocks):
                try:
                    if await _wait_off(block):
                        settled.add(id(block))
                except Exception as error:
                    failures.append(error)
                    settled.add(id(block))
            for chain, departed in self._left:
                left = departed()
                if left is not None and id(left) not in settled:
                    await cast("Any", chain)._wait_for(left)
            if not failures:
                self._left = []  # nobody is running, whatever walks have begun since
        except Exception as error:
            failures.append(error)
        finally:
            self._take_all_off()  # whom nobody could wait for
        self._raise(failures)

    def _take_all_off(self) -> list[Exception]:
        self._closed = True
        failures: list[Exception] = []
        for block in reversed(self.blocks):
            try:
                _take_off(block)
            except Exception as error:
                failures.append(error)
        return failures

    def _raise(self, failures: Sequence[Exception]) -> None:
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise ExceptionGroup(f"closing scope {self.name!r} failed", failures)

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
        self._leave()
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()
        await self.aclose()

    def _leave(self) -> None:
        # A ValueError: left in another context than it was entered in, as fixtures do.
        with suppress(ValueError):
            _ambient.reset(self._tokens.pop())

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._blocks)} blocks"
        return f"<Scope {self.name!r} {state}>"


def _take_off(block: AnyBlock) -> None:
    """Unregister a block, which may be gone already, without waiting for it."""
    chain = block.chain
    if chain is not None:
        with suppress(NotRegisteredError):
            chain.unregister_nosync(block)


def _runs(chain: Any, departed: ref[AnyBlock]) -> bool:
    """Say whether a block may be running; a walk that is in it keeps it alive."""
    block = departed()
    return block is not None and bool(chain._may_be_running(block))


async def _wait_off(block: AnyBlock) -> bool:
    """Unregister a block, wait until it is not running, and give True, unless it is gone."""
    chain: Any = block.chain
    if chain is not None:
        with suppress(NotRegisteredError):
            await chain._unregister_and_wait(block)
            return True
    return False
