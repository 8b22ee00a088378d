"""The table's invariants hold after any edit, and a removal blanks the removed block alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tocsin import AtomicChain, NameFilter, NotifierBlock
from tocsin.table import ALL_ASYNC, ALL_SYNC, MIXED, Skipped, Snapshot, Table, _gone

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = ["up", "down", 1, frozenset((2,))]
Block = NotifierBlock[Any, Any, Any]


def hear(event: Any, data: Any) -> None:
    """Do nothing."""


def make_block(priority: int = 0, events: Any = None, kind: str = "sync") -> Block:
    return NotifierBlock(
        hear, priority=priority, events=events, is_async=kind == "async", thread=kind == "thread"
    )


blocks = st.builds(
    make_block,
    priority=st.integers(-1, 1),
    events=st.none() | st.frozensets(st.sampled_from(EVENTS)),
    kind=st.sampled_from(["sync", "async", "thread"]),
)


def awaits(block: Block) -> bool:
    return block.is_async or block.thread


def order(block: Block) -> tuple[int, int]:
    return -block.priority, block._nb_sequence


class TableMachine(RuleBasedStateMachine):
    """Edits a table as a chain does, next to a plain model of what has to be in it."""

    @initialize()
    def begin(self) -> None:
        self.table = Table()
        self.sequence = 0
        self.off: list[Block] = []
        self.active: list[Block] = []
        self.parked: list[Block] = []
        self.slots: dict[int, object] = {}
        self.held: list[tuple[Snapshot, list[Block], list[object], bytes]] = []

    def publish(self, *changes: Callable[[Table], None], gone: list[Block]) -> None:
        """Replace the table, as `Core._edit` does; a walk holds every snapshot of the old one."""
        for one in (self.table, *(self.table.routes or {}).values()):
            if not any(one is snapshot for snapshot, *_ in self.held):
                self.held.append((one, one.blocks.copy(), list(one), bytes(one.kinds)))
        draft = Table(self.table)
        for change in changes:
            change(draft)
        self.table = draft
        for block in gone:
            for retired in draft.retired:
                snapshot = retired()
                if snapshot is not None:
                    snapshot.blank(block)
            for _, members, slots, _ in self.held:
                for index, member in enumerate(members):
                    if member is block:
                        slots[index] = _gone

    def activate(self, block: Block) -> Callable[[Table], None]:
        slot = self.slots[id(block)] = object()
        self.active.append(block)
        return lambda draft: draft.add(block, slot)  # type: ignore[arg-type]

    def number(self, block: Block) -> None:
        block._nb_sequence = self.sequence
        self.sequence += 1

    def take_one(self, source: list[Block], data: st.DataObject) -> Block:
        return source.pop(data.draw(st.integers(0, len(source) - 1)))

    @rule(block=blocks)
    def add(self, block: Block) -> None:
        self.number(block)
        self.publish(self.activate(block), gone=[])

    @rule(block=blocks)
    def park(self, block: Block) -> None:
        self.number(block)
        self.parked.append(block)
        self.publish(lambda draft: draft.park(block), gone=[])

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        block = self.take_one(self.active, data)
        self.off.append(block)
        self.publish(lambda draft: draft.discard(block), gone=[block])

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def remove_parked(self, data: st.DataObject) -> None:
        block = self.take_one(self.parked, data)
        self.off.append(block)
        self.publish(lambda draft: draft.discard(block), gone=[block])

    @precondition(lambda self: self.off)
    @rule(data=st.data())
    def add_again(self, data: st.DataObject) -> None:
        block = self.take_one(self.off, data)
        self.number(block)
        self.publish(self.activate(block), gone=[])

    @precondition(lambda self: self.active or self.parked)
    @rule(data=st.data())
    def refilter(self, data: st.DataObject) -> None:
        def choose(source: list[Block]) -> list[Block]:
            return [block for block in source if data.draw(st.booleans())]

        parks, admits = choose(self.active), choose(self.parked)
        self.active = [block for block in self.active if block not in parks]
        self.parked = [block for block in self.parked if block not in admits] + parks
        changes: list[Callable[[Table], None]] = []
        for block in parks:
            changes += [partial(Table.discard, block=block), partial(Table.park, block=block)]
        for block in admits:
            changes += [partial(Table.discard, block=block), self.activate(block)]
        self.publish(*changes, gone=parks)

    @rule()
    def renew(self) -> None:
        before = dict(self.table.routes or {})
        self.publish(Table.renew_routes, gone=[])
        assert all(self.table.route(event) is not route for event, route in before.items())

    def check(self, snapshot: Snapshot, expected: list[Block]) -> None:
        assert snapshot.blocks == expected
        assert list(snapshot) == [self.slots[id(block)] for block in expected]
        kinds = [awaits(block) for block in expected]
        assert list(snapshot.kinds) == kinds
        assert snapshot.mode == (MIXED if len({*kinds}) > 1 else int(any(kinds)))
        for index, block in enumerate(expected):
            assert snapshot.find(block) == index

    @invariant()
    def members_are_in_order(self) -> None:
        members = sorted(self.active, key=order)
        assert self.table.members == members
        assert self.table.parked == sorted(self.parked, key=order)
        assert self.table.awaiting == sum(map(awaits, members))
        self.check(self.table, [block for block in members if block.events is None])

    @invariant()
    def every_named_event_has_its_route(self) -> None:
        members = sorted(self.active, key=order)
        named = {event for block in members for event in block.events or ()}
        assert set(self.table.routes or ()) == named
        for event in EVENTS:
            route = self.table.route(event)
            self.check(route, [block for block in members if block.hears(event)])
            assert (route is self.table) is (event not in named)
        assert self.table.route({2}) is self.table.route(frozenset((2,)))
        assert self.table.route([]) is self.table

    @invariant()
    def the_table_knows_who_is_on_it(self) -> None:
        for block in (*self.active, *self.parked, *self.off):
            active, parked = block in self.active, block in self.parked
            assert self.table.is_active(block) is active
            assert self.table.is_parked(block) is parked
            assert self.table.has(block) is (active or parked)
        for priority in (-2, -1, 0, 1):
            peers = [block for block in self.table.members if block.priority == priority]
            assert self.table.first_of_priority(priority) is (peers[0] if peers else None)

    @invariant()
    def walks_under_way_see_what_they_saw_but_for_the_blocks_that_are_gone(self) -> None:
        for snapshot, members, slots, kinds in self.held:
            assert snapshot.blocks == members
            assert list(snapshot) == slots
            assert bytes(snapshot.kinds) == kinds
            assert any(one is snapshot for one in self.table.snapshots())


TableMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, derandomize=True, database=None
)
TestTable = TableMachine.TestCase


def filled(*given: Block) -> Table:
    table = Table()
    for number, block in enumerate(given):
        block._nb_sequence = number
        table = Table(table)
        table.add(block, hear)
    return table


def test_an_empty_table_is_all_sync_and_routes_everything_to_itself() -> None:
    table = Table()
    assert (table.mode, table.members, table.awaiting) == (ALL_SYNC, [], 0)
    assert table.route("up") is table
    assert list(table.snapshots()) == [table]


def test_a_table_of_async_blocks_is_all_async() -> None:
    assert filled(make_block(kind="async"), make_block(kind="thread")).mode == ALL_ASYNC


def test_a_gone_slot_says_that_it_is_to_be_skipped() -> None:
    block = make_block()
    table = filled(block)
    table.blank(block)
    with pytest.raises(Skipped):
        table[0](1, None)


def test_blanking_a_block_that_is_not_there_changes_nothing() -> None:
    table = filled(make_block())
    table.blank(make_block(priority=9))
    assert list(table) == [hear]


def test_a_block_that_was_registered_again_is_found_in_older_snapshots() -> None:
    first, second, third = (make_block() for _ in range(3))
    table = filled(first, second, third)
    first._nb_sequence = 9  # as registering it again does
    assert [table.find(block) for block in (first, second, third)] == [0, 1, 2]


def test_snapshots_that_nobody_holds_are_forgotten() -> None:
    table = filled(make_block(events="up"))
    for _ in range(10):
        table = Table(table)
        table.renew_routes()
    assert len(table.retired) <= 4
    assert len(list(table.snapshots())) <= 2


def test_readers_are_found_by_the_block_that_they_may_hold() -> None:
    up, down, always = make_block(events="up"), make_block(events="down"), make_block()
    table = filled(up, down, always)
    assert table.readers_of() == []
    table.route("up").readers += 1
    assert table.readers_of() == table.readers_of(up) == table.readers_of(always)
    assert table.readers_of(up) == [table.route("up")]
    assert table.readers_of(down) == []


def test_admitted_is_what_every_layer_admits() -> None:
    block = NotifierBlock(hear, name="a")
    table = Table()
    for layers, admits in [
        ((None,), True),
        ((NameFilter(["a"]),), True),
        ((None, NameFilter(["a"]), NameFilter(["b"])), False),
        ((NameFilter(()), NameFilter(["a"])), False),
    ]:
        table.filters = layers
        assert table.admits(block) is admits


def test_a_block_that_names_no_event_stays_until_it_is_unregistered() -> None:
    chain = AtomicChain[Any]("chain")
    deaf = chain.register(hear, events=())
    up = chain.register(hear, events="up")
    chain.unregister(up)
    assert chain.blocks == (deaf,)
    assert chain.call("up") == 0
    chain.unregister(deaf)
    assert chain.is_empty
