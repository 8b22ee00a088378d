"""The table's invariants hold after any edit, and so does what walks read of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tocsin import AtomicChain, NameFilter, NotifierBlock
from tocsin.table import Table
from tocsin.view import (
    ALL_ASYNC,
    ALL_SYNC,
    CLOSED,
    GUARDED,
    MIXED,
    REST,
    Gone,
    Skipped,
    Snapshot,
    Walked,
)

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
        self.held: list[tuple[Snapshot, list[Block], list[object], bytes]] = []

    def publish(self, *changes: Callable[[Table], object], gone: list[Block]) -> None:
        """Replace the table, as `Core._edit` does; a walk holds every snapshot of the old one."""
        for one in self.snapshots():
            self.held.append((one, one.blocks.copy(), list(one), one.kinds))
        draft = Table(self.table)
        for change in changes:
            change(draft)
        self.table = draft
        for snapshot, members, slots, _ in self.held:
            for block in gone:
                snapshot.blank(block)
                for index, member in enumerate(members):
                    if member is block:
                        slots[index] = None

    def snapshots(self) -> list[Snapshot]:
        """Give all that walks may come to through the present table."""
        view = self.table.view()
        if not view.is_gate:
            return [view]
        return [self.table.snapshot(key) for key in (*view.routes, REST)]

    def activate(self, block: Block) -> Callable[[Table], object]:
        block._nb_slot = object()  # type: ignore[assignment]
        self.active.append(block)
        return lambda draft: draft.add(block)

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
        changes: list[Callable[[Table], object]] = []
        for block in parks:
            changes += [partial(Table.discard, block=block), partial(Table.park, block=block)]
        for block in admits:
            changes += [partial(Table.discard, block=block), self.activate(block)]
        self.publish(*changes, gone=parks)

    def check(self, snapshot: Snapshot, expected: list[Block]) -> None:
        assert snapshot.blocks == expected
        assert list(snapshot) == [block._nb_slot for block in expected]
        kinds = [awaits(block) for block in expected]
        assert list(snapshot.kinds) == kinds
        assert snapshot.mode == (MIXED if len({*kinds}) > 1 else int(any(kinds)))
        for index, block in enumerate(expected):
            assert snapshot.find(block) == index
            assert snapshot.place_of(block._nb_slot) == index

    @invariant()
    def members_are_in_order(self) -> None:
        members = sorted(self.active, key=order)
        assert self.table.members == members
        assert self.table.parked == sorted(self.parked, key=order)
        assert self.table.awaiting == sum(map(awaits, members))
        assert self.table.routed == sum(block.events is not None for block in members)
        self.check(self.table.snapshot(REST), [one for one in members if one.events is None])

    @invariant()
    def every_named_event_has_its_route(self) -> None:
        members = sorted(self.active, key=order)
        named = {event for block in members for event in block.events or ()}
        view = self.table.view()
        if not self.table.routed:
            self.check(view, members)
        else:
            assert view.is_gate
            assert view.mode == GUARDED
            assert set(view.routes) == named
            assert all(view.behind(key) is CLOSED for key in (*named, REST))
        for event in EVENTS:
            key = view.key_of(event)
            assert key == (event if event in named else REST)
            heard = [block for block in members if block.hears(event)]
            self.check(self.table.snapshot(key), heard)
        assert view.key_of({2}) == view.key_of(frozenset((2,)))
        assert view.key_of([]) is REST

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
            for index, slot in enumerate(slots):
                assert snapshot.holds(index) is (slot is not None)
                assert slot in (None, snapshot[index])
            assert snapshot.kinds == kinds


TableMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, derandomize=True, database=None
)
TestTable = TableMachine.TestCase


def filled(*given: Block) -> Table:
    table = Table()
    for number, block in enumerate(given):
        block._nb_sequence = number
        block._nb_slot = hear
        table = Table(table)
        table.add(block)
    return table


def test_an_empty_table_shows_an_empty_snapshot_that_is_all_sync() -> None:
    table = Table()
    view = table.view()
    assert (view, view.mode, table.members, table.awaiting) == ([], ALL_SYNC, [], 0)
    assert not view.is_gate


def test_a_table_of_async_blocks_is_all_async() -> None:
    assert filled(make_block(kind="async"), make_block(kind="thread")).view().mode == ALL_ASYNC


def test_an_edit_leaves_the_table_that_it_was_made_from_alone() -> None:
    block = make_block(events="up")
    before = filled(block)
    after = Table(before)
    after.discard(block)
    after.park(block)
    assert (before.members, before.parked, before.routed) == ([block], [], 1)
    assert (after.members, after.parked, after.routed) == ([], [block], 0)


def test_a_slot_whose_block_is_gone_says_that_it_is_to_be_skipped_and_where_it_stood() -> None:
    block = make_block()
    items = filled(block).view()
    items.blank(block)
    with pytest.raises(Skipped):
        items[0](1, None)
    assert items.place_of(hear) == items.place_of(items[0]) == 0


def test_a_block_that_is_gone_twice_is_gone_once() -> None:
    block = make_block()
    items = filled(block).view()
    items.blank(block)
    items.blank(block)
    assert items[0].slot is hear


def test_a_slot_that_two_threads_have_blanked_at_once_tells_its_place_all_the_same() -> None:
    items = filled(make_block(), make_block()).view()
    taken = items[1] = Gone(items[1])
    items[1] = Gone(taken.slot)
    assert items.place_of(taken) == 1


def test_blanking_a_block_that_is_not_there_changes_nothing() -> None:
    items = filled(make_block()).view()
    items.blank(make_block(priority=9))
    assert list(items) == [hear]


def test_d16_the_same_callable_in_several_blocks_has_several_slots() -> None:
    items = filled(make_block(), make_block(), make_block()).view()
    assert items[0] is hear
    assert len({*map(id, items)}) == 3
    assert [items.place_of(slot) for slot in items] == [0, 1, 2]
    assert [slot(1, None) for slot in items] == [None] * 3


def test_a_block_that_was_registered_again_is_found_in_older_snapshots() -> None:
    first, second, third = (make_block() for _ in range(3))
    items = filled(first, second, third).view()
    first._nb_sequence = 9  # as registering it again does
    assert [items.find(block) for block in (first, second, third)] == [0, 1, 2]


def test_snapshots_that_nobody_holds_are_forgotten() -> None:
    walked, table = Walked(), filled(make_block(events="up"))
    held = table.snapshot("up")
    walked.add(held)
    for _ in range(10):
        walked.add(table.snapshot("up"))
    assert [*map(id, walked)] == [id(held)]
    assert len(walked._known) == 1


def test_a_gate_leads_where_it_was_told() -> None:
    table = filled(make_block(events="up"), make_block())
    view, up, rest = table.view(), table.snapshot("up"), table.snapshot(REST)
    view.open("up", up)
    view.open(REST, rest)
    assert view.behind("up") is up
    assert view.behind(view.key_of("down")) is view.rest is rest
    assert (len(up), len(rest)) == (2, 1)


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
        assert table.admits(block, "c") is admits


def test_a_block_that_names_no_event_stays_until_it_is_unregistered() -> None:
    chain = AtomicChain[Any]("chain")
    deaf = chain.register(hear, events=())
    up = chain.register(hear, events="up")
    chain.unregister(up)
    assert chain.blocks == (deaf,)
    assert chain.call("up") == 0
    chain.unregister(deaf)
    assert chain.is_empty
