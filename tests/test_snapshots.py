"""A snapshot says in plain values what is on a bus at one moment, and no more than that."""

from __future__ import annotations

import functools
import json
import math
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tocsin import (
    AtomicChain,
    BlockingChain,
    BlockSnapshot,
    Bus,
    BusSnapshot,
    ChainSnapshot,
    ChainStatistics,
    ModuleHost,
    NameFilter,
    Scope,
    SrcuChain,
)

from .flavours import ASYNC, FLAVOURS, Held

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def good(event: Any, data: Any) -> None:
    """Do nothing."""


async def agood(event: Any, data: Any) -> None:
    """Do nothing."""


@pytest.fixture
def bus() -> Bus:
    return Bus("main")


def only_chain(bus: Bus) -> ChainSnapshot:
    [chain] = bus.snapshot().chains
    return chain


def names(chain: ChainSnapshot) -> list[str]:
    return [block.name for block in chain.blocks]


def test_an_empty_bus_has_an_empty_snapshot(bus: Bus) -> None:
    assert bus.snapshot() == BusSnapshot("main", (), ())
    assert bus.snapshot().to_dict() == {"name": "main", "chains": [], "unmatched_filters": []}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_chain_is_told_with_all_that_is_on_it(bus: Bus, flavour: type[Any]) -> None:
    bus.set_filters({"orders": "good,first,dsik,dsk"})
    chain = bus.add(flavour("orders", errors="collect"))
    for name, priority in ("good", 0), ("bad", 5), ("first", 10), ("worse", 7):
        chain.register_nowait(good, name=name, priority=priority)
    told = only_chain(bus)
    assert told._replace(blocks=()) == ChainSnapshot(
        name="orders",
        flavour=flavour.__name__,
        errors="collect",
        filter="NameFilter(['good', 'first', 'dsik', 'dsk'])",
        only=(),
        unmatched_names=("dsik", "dsk"),
        owner=None,
        statistics=ChainStatistics(2, 2, 0, 0),
        blocks=(),
    )
    assert [(one.name, one.priority, one.is_parked) for one in told.blocks] == [
        ("first", 10, False),
        ("good", 0, False),
        ("worse", 7, True),
        ("bad", 5, True),
    ]


def test_a_block_is_told_with_its_options(bus: Bus) -> None:
    chain = bus.add(SrcuChain("orders"))
    with Scope("stock").ambient():
        chain.register_nowait(
            agood,
            name="x",
            priority=-3,
            events=["b", "a"],
            once=True,
            before="y",
            after=["good_one", "z"],
            timeout=1.5,
        )
        chain.register_nowait(good, thread=True)
        first, second = only_chain(bus).blocks
    assert first.qualified_name == f"{__name__}:good"
    assert first == BlockSnapshot(
        "good", first.qualified_name, 0, "stock", None, False, (), (), None, True, False, False
    )
    assert second == BlockSnapshot(
        name="x",
        qualified_name=f"{__name__}:x",
        priority=-3,
        owner="stock",
        events=("a", "b"),
        once=True,
        before=("y",),
        after=("good_one", "z"),
        timeout=1.5,
        thread=False,
        is_async=True,
        is_parked=False,
    )


@pytest.mark.anyio
async def test_what_a_plugin_brought_is_told_with_its_owner(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin_of_a_snapshot.py"
    plugin.write_text(
        "from tocsin import SrcuChain\n"
        "def module_init(host):\n"
        "    host.bus.add(SrcuChain('orders')).register_nowait(print)\n"
    )
    async with ModuleHost(Bus("main")) as host:
        await host.load(plugin)
        chain = only_chain(host.bus)
        await host.unload("plugin_of_a_snapshot")
    assert chain.owner == chain.blocks[0].owner == "plugin_of_a_snapshot"


class Colour(Enum):
    RED = "secret"


class Topic:
    def __init__(self, payload: str) -> None:
        self.payload = payload

    def __repr__(self) -> str:
        return self.payload


def test_events_and_filters_are_told_in_words_that_carry_nothing(bus: Bus) -> None:
    def admit(block: object) -> bool:
        return True

    one = bus.add(AtomicChain("one", filter=admit))
    one.register(good, events=[Colour.RED, Topic("secret"), Topic, 3, None, ("secret",)])
    bus.add(AtomicChain("two", filter=functools.partial(lambda secret, _: True, "secret")))
    told = bus.snapshot()
    assert told.chains[0].blocks[0].events == ("3", "Colour.RED", "None", "Topic", "Topic", "tuple")
    assert [chain.filter for chain in told.chains] == ["admit", "partial"]
    assert "secret" not in repr(told) + json.dumps(told.to_dict()) + bus.describe()


def test_a_denylist_is_told_as_one(bus: Bus) -> None:
    bus.add(AtomicChain("one", filter=~NameFilter(["a"])))
    assert only_chain(bus).filter == "~NameFilter(['a'])"


def test_layers_of_only_are_told_apart_from_the_filter(bus: Bus) -> None:
    chain = bus.add(AtomicChain("one"))
    chain.register(good)
    with chain.only("good", "x"), chain.only():
        told = only_chain(bus)
    assert (told.filter, told.only) == (None, ("NameFilter(['good', 'x'])", "NameFilter([])"))
    assert told.blocks[0].is_parked
    assert told.unmatched_names == ("x",)
    assert only_chain(bus).only == ()


def test_filters_that_wait_for_a_chain_are_told(bus: Bus) -> None:
    bus.set_filters({"one": "a", "two": None})
    assert bus.snapshot().unmatched_filters == ("one", "two")
    bus.add(AtomicChain("one"))
    assert bus.snapshot().unmatched_filters == ("two",)


def test_the_largest_priorities_can_be_told(bus: Bus) -> None:
    chain = bus.add(AtomicChain("one"))
    for priority in (2**2000 - 1, 1 - 2**2000):
        chain.register(good, priority=priority)
    told = bus.snapshot().to_dict()
    assert json.loads(json.dumps(told)) == told
    assert str(2**2000 - 1) in bus.describe()


# Frozen, and good for JSON.


def test_a_snapshot_cannot_be_changed(bus: Bus) -> None:
    bus.add(AtomicChain("one")).register(good)
    told = bus.snapshot()
    for record, field in (
        (told, "name"),
        (told.chains[0], "blocks"),
        (told.chains[0].blocks[0], "priority"),
        (told.chains[0].statistics, "blocks"),
    ):
        with pytest.raises(AttributeError):
            setattr(record, field, "changed")
        with pytest.raises(AttributeError):
            record.__setattr__("more", 1)
    assert isinstance(hash(told), int)  # nothing in it can be changed either


def test_a_snapshot_stays_as_it_was_and_the_next_one_is_another(bus: Bus) -> None:
    chain = bus.add(AtomicChain("one"))
    before = bus.snapshot()
    assert bus.snapshot() == before
    chain.register(good)
    after = bus.snapshot()
    assert after != before
    assert (names(before.chains[0]), names(after.chains[0])) == ([], ["good"])
    before.to_dict()["chains"] = "changed"
    assert before.to_dict()["chains"] != "changed"


class Level(IntEnum):
    HIGH = 9


def test_json_takes_all_of_it(bus: Bus) -> None:
    bus.set_filters({"later": "a"})
    chain = bus.add(SrcuChain('odd "name"\n\ud800', filter=NameFilter(["agood"])))
    chain.register_nowait(agood, priority=Level.HIGH, timeout=math.inf, events=())
    chain.register_nowait(good, events="up")
    told = bus.snapshot().to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    chains: Any = told["chains"]
    [block, parked] = chains[0]["blocks"]
    assert (block["timeout"], block["events"], parked["events"]) == (None, [], ["up"])


# At any time.


@pytest.mark.anyio
@pytest.mark.parametrize("flavour", ASYNC)
async def test_it_is_legal_inside_a_callback_and_while_others_run(flavour: type[Any]) -> None:
    bus = Bus("main")
    chain, held = bus.add(flavour("orders")), Held()
    inside: list[ChainSnapshot] = []
    await chain.register(lambda event, data: inside.append(only_chain(bus)), name="look")
    await chain.register(held)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "up")
        await held.entered.wait()
        assert only_chain(bus).statistics.walks_running == 1
        held.release.set()
    assert names(inside[0]) == ["look", "Held"]
    assert inside[0].statistics.walks_running == 1


@pytest.mark.anyio
async def test_writers_that_wait_are_counted() -> None:
    bus, held = Bus("main"), Held()
    chain = bus.add(BlockingChain("orders"))
    await chain.register(held)
    async with anyio.create_task_group() as group:
        group.start_soon(chain.call, "up")
        await held.entered.wait()
        group.start_soon(chain.register, good)
        await anyio.wait_all_tasks_blocked()
        assert only_chain(bus).statistics.writers_waiting == 1
        held.release.set()


class Meddler:
    """A callback that has a chain filtered when it is looked at, as another thread might."""

    def __init__(self) -> None:
        self.meddle: Callable[[], object] = bool

    def __call__(self, event: Any, data: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        if name != "__qualname__":
            raise AttributeError(name)
        self.meddle()
        return "meddler"


@pytest.mark.parametrize("is_parked", [False, True])
def test_a_block_is_told_once_whatever_others_do_meanwhile(bus: Bus, is_parked: bool) -> None:
    chain, meddler, filters = bus.add(AtomicChain("orders")), Meddler(), [None, NameFilter(())]
    chain.register(meddler)
    chain.register(good, priority=-1)
    chain.set_filter(filters[is_parked])
    meddler.meddle = lambda: chain.set_filter(filters[not is_parked])
    told = only_chain(bus)
    assert chain.filter is filters[not is_parked]
    assert [(block.name, block.is_parked) for block in told.blocks] == [
        ("meddler", is_parked),
        ("good", is_parked),
    ]
    assert (told.filter is not None) == is_parked
    assert told.statistics[:2] == ((0, 2) if is_parked else (2, 0))
