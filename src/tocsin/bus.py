"""`Bus`: chains under their names.

Owns which chain has which name, which filter an operator wants on it, and under which scope it
came. Holds no registration and takes no part in a call: a chain does not know
that it is on a bus. There is no default bus, and two buses share nothing.

Invariant: the filter in force on a chain of the bus is the last one that `Bus.set_filters` named
for it, unless somebody has set another one on the chain itself since.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast, overload

from .admission import replace_base
from .base import Chain
from .checks import check_title
from .errors import (
    ChainExistsError,
    ChainInUseError,
    ChainNotFoundError,
    FilterError,
    InvalidTypeError,
)
from .filters import NameFilter, parse_filters, read_variable
from .observer import Observation, check_observer
from .scopes import ambient_scope
from .wording import as_str, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Self, TypeAlias

    from .block import AnyBlock
    from .observer import Observer
    from .protocol import AnyChain
    from .scopes import Scope
    from .snapshots import BusSnapshot

    Filter: TypeAlias = Callable[[AnyBlock], bool] | None

ChainT = TypeVar("ChainT", bound="AnyChain")

__all__ = ["Bus"]


class Bus:
    """A collection of chains by name.

    Iteration gives the chains in the order in which they were added; ``in`` takes a name or a
    chain. Always true. Every member is sync, needs no event loop and is legal inside a callback;
    adding and removing is for one thread at a time.
    """

    __slots__ = ("_chains", "_filters", "_owners", "_watched", "name")

    def __init__(self, name: str) -> None:
        self.name: str = check_title(name, "a bus's name")
        self._chains: dict[str, Chain[Any, Any]] = {}
        self._filters: dict[str, Filter] = {}
        self._owners: dict[str, Scope | None] = {}
        self._watched: list[tuple[Observation, dict[str, Observation]]] = []

    @classmethod
    def from_env(cls, name: str, variable: str = "TOCSIN_FILTERS") -> Self:
        """Make a bus with the filters that an environment variable names, as `set_filters` does.

        Its text is ``CHAIN=NAME,NAME; CHAIN=NAME``. Blank text, or a variable that is not set,
        means no filters; blank names, none for that chain; names for the same chain add up. Raises
        `FilterError`, which names variable and entry, `InvalidTypeError`, and `InvalidValueError`
        for a name that no variable can have. Legal anywhere.
        """
        bus, text = cls(name), read_variable(variable)
        try:
            bus.set_filters(parse_filters(text))
        except FilterError as error:
            raise FilterError(f"environment variable {as_str(variable)}: {error}") from None
        return bus

    def add(self, chain: ChainT) -> ChainT:
        """Take in a chain under its name; give the same chain.

        A filter that `set_filters` named for it replaces the chain's own. In a module of a
        `ModuleHost` the chain belongs to the module, and leaves the bus with it. Raises
        `ChainExistsError` when the name is taken, be it by somebody who has just heard the replay,
        `ScopeClosedError`, `InvalidTypeError`, and where a filter or an observer is set
        `WrongLoopError`, and what a replay raises; then nothing has changed.
        """
        if not isinstance(chain, Chain):
            hint = f"; did you mean bus.add(SrcuChain({shown(chain)}))?"
            raise InvalidTypeError(
                f"bus {self.name!r} takes chains, not {type(chain).__name__}"
                f"{hint if isinstance(chain, str) else ''}"
            )
        self._check_free(chain.name)
        self._join(cast("Chain[Any, Any]", chain), ambient_scope())
        return chain

    def _check_free(self, name: str) -> None:
        if name in self._chains:
            raise ChainExistsError(
                f"bus {self.name!r} has a chain {name!r} already; take another name, or get that "
                f"one with bus[{name!r}]",
                bus=self,
                name=name,
            )

    def _join(self, chain: Chain[Any, Any], owner: Scope | None) -> None:
        name, former = chain.name, chain.filter
        if name in self._filters or self._watched:
            chain._check_caller()
        if name in self._filters:
            chain._set_filter_now(self._filters[name])
            try:
                self._check_free(name)  # who heard a replay may have added a chain
            except ChainExistsError:
                if self._chains[name] is not chain:
                    chain._refilter(replace_base(former))
                raise
        self._watch(chain)
        self._chains[name], self._owners[name] = chain, owner

    def _watch(self, chain: Chain[Any, Any]) -> None:
        """Have the observers of the bus told what the chain does."""
        for observation, watched in self._watched:
            watched[chain.name] = chain.observe(observation.observer)

    # A class seen as what makes chains, not as ``type[ChainT]``: pyright would then fill in the
    # defaults of a bare ``SrcuChain``, which hold for new chains and not for one that is there.
    @overload
    def get(self, name: str) -> AnyChain: ...
    @overload
    def get(self, name: str, flavour: Callable[..., ChainT]) -> ChainT: ...
    def get(self, name: str, flavour: Any = None) -> Any:
        """Give the chain of a name, and be sure of its type.

        ``flavour`` is a chain class, also with parameters, as in ``SrcuChain[str, Order]``, which
        are for type checkers only. Raises `ChainNotFoundError`, which names the nearest known
        names, or else some, and `InvalidTypeError` for a chain of another flavour, or a
        ``flavour`` that is no chain class.
        """
        chain = self[name]
        kind = getattr(flavour, "__origin__", flavour)
        if kind is not None and not (isinstance(kind, type) and issubclass(kind, Chain)):
            raise InvalidTypeError(
                f"the flavour of chain {name!r} must be a chain class, such as SrcuChain, "
                f"not {shown(flavour)}"
            )
        if kind is not None and not isinstance(chain, kind):
            raise InvalidTypeError(
                f"chain {name!r} of bus {self.name!r} is of flavour {type(chain).__name__}, "
                f"not {flavour.__name__}"
            )
        return chain

    def remove(self, name: str) -> None:
        """Let go of a chain, which stays as it is.

        Raises `ChainNotFoundError`, and `ChainInUseError` while blocks, active or parked, are on
        it.
        """
        chain = self[name]
        blocks = (*chain.blocks, *chain.parked)
        if blocks:
            raise ChainInUseError(
                f"chain {name!r} cannot be removed from bus {self.name!r}: on it are still "
                f"{', '.join(block.name for block in blocks)}; unregister them first",
                bus=self,
                name=name,
            )
        self._discard(chain.name)

    def set_filters(self, filters: Mapping[str, str | Callable[[AnyBlock], bool] | None]) -> None:
        """Set the filters of chains by name, of those that are on the bus and of those to come.

        A filter is what an operator writes, as `NameFilter.parse` reads it, another callable, or
        ``None``, which like blank text means that there is no filter, not even the chain's own.
        Chains that are not named keep theirs. Takes effect at once and waits for nobody, on async
        chains too: a callback that is running goes on. Raises `FilterError`, `InvalidTypeError` or
        `WrongLoopError` before anything has changed; what a replay raises to those whom a filter
        admits (`anyio.WouldBlock` where it would have to wait), when all have their former filters
        again.
        """
        if not isinstance(filters, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidTypeError(
                f"bus {self.name!r} takes filters by the names of chains, as in "
                f"{{'orders': 'a,b'}}, not {type(filters).__name__}"
            )
        made = self._make_filters(filters)
        concerned = [chain for name, chain in self._chains.items() if name in made]
        for chain in concerned:
            chain._check_caller()
        changed: list[tuple[Chain[Any, Any], Filter]] = []
        try:
            for chain in concerned:
                former = chain.filter
                chain._set_filter_now(made[chain.name])
                changed.append((chain, former))
        except BaseException:
            for chain, former in changed:
                chain._refilter(replace_base(former))
            raise
        self._filters |= made

    def _make_filters(self, filters: Mapping[str, object]) -> dict[str, Filter]:
        made: dict[str, Filter] = {}
        for given_name, given in filters.items():
            name, admitted = self._make_filter(given_name, given)
            if name in made:  # of keys that are not equal, such as two of subclasses of str
                raise FilterError(f"bus {self.name!r}: there are two filters for chain {name!r}")
            made[name] = admitted
        return made

    def _make_filter(self, name: str, given: object) -> tuple[str, Filter]:
        name = check_title(name, f"bus {self.name!r}: the name of a chain to filter")
        if isinstance(given, str):
            try:
                return name, NameFilter.parse(given)
            except FilterError as error:
                raise FilterError(f"bus {self.name!r}, chain {name!r}: {error}") from None
        if given is not None and not callable(given):
            raise InvalidTypeError(
                f"bus {self.name!r}: the filter of chain {name!r} must be text, a callable or "
                f"None, not {type(given).__name__}"
            )
        return name, cast("Filter", given)

    # Looking.

    def snapshot(self) -> BusSnapshot:
        """Give the state of the bus, its chains and their blocks at this moment, frozen.

        It has no object of the program in it and no data of any event. Pure.
        """
        from .snapshots import BusSnapshot, snapshot_of

        return BusSnapshot(
            name=self.name,
            chains=tuple(
                snapshot_of(chain, self._owners.get(name))
                for name, chain in tuple(self._chains.items())
            ),
            unmatched_filters=tuple(name for name in self._filters if name not in self._chains),
        )

    def describe(self) -> str:
        """Give the same as a tree of text, for people: chains, and their blocks in call order.

        A parked block, which is not called, comes last and is marked. The text has no newline at
        its end. Pure.
        """
        from .drawings import draw_tree

        return draw_tree(self.snapshot())

    def observe(self, observer: Observer) -> Observation:
        """Have an observer told what the chains of the bus do, the present and the future ones.

        Until the handle given back is detached, and of a chain until it leaves the bus. Where the
        observer raises, it is detached from that chain alone. Raises `InvalidTypeError`, and
        `WrongLoopError` before anything has changed. Legal inside a callback.
        """
        check_observer(observer)
        here = tuple(self._chains.items())
        for _, chain in here:
            chain._check_caller()
        watched = {name: chain.observe(observer) for name, chain in here}
        made = Observation(observer, partial(self._forget, watched))
        self._watched.append((made, watched))
        return made

    def _forget(self, watched: dict[str, Observation]) -> None:
        self._watched = [one for one in self._watched if one[1] is not watched]
        for observation in watched.values():
            observation.detach()

    # For the module host.

    def _owned_by(self, scope: Scope) -> tuple[AnyChain, ...]:
        """Give the chains that were added under a scope."""
        return tuple(chain for chain in self if self._owners[chain.name] is scope)

    def _discard(self, name: str) -> None:
        """Let go of a chain, whoever is on it."""
        del self._chains[name], self._owners[name]
        for _, watched in self._watched:
            watched.pop(name).detach()

    # As a collection.

    def __getitem__(self, name: str) -> AnyChain:
        chain = self._chains.get(as_str(name) or "")
        if chain is None:
            from .nearest import did_you_mean

            raise ChainNotFoundError(
                f"bus {self.name!r} has no chain {shown(name)}{did_you_mean(name, self._chains)}",
                bus=self,
                name=name,
            )
        return chain._me

    def __contains__(self, chain: object) -> bool:
        if (name := as_str(chain)) is not None:
            return name in self._chains
        return any(chain is one for one in self)

    def __iter__(self) -> Iterator[AnyChain]:
        return iter([chain._me for chain in self._chains.values()])

    def __len__(self) -> int:
        return len(self._chains)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Bus {self.name!r} {len(self)} chains>"
