"""The order service: whatever becomes of its orders, no item and no cent is lost."""

from __future__ import annotations

import errno
import shlex
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin import FilterError, NameFilter, VetoError

from .flavours import Held
from .programs import EXAMPLES, load_example
from .test_cli import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orders import BALANCES, PRICES, STOCK, Order, Shop, Step
else:
    orders = load_example("orders")
    BALANCES, PRICES, STOCK = orders.BALANCES, orders.PRICES, orders.STOCK
    Order, Shop, Step = orders.Order, orders.Shop, orders.Step

pytestmark = pytest.mark.anyio

PROGRAM = str(EXAMPLES / "orders.py")
SAMPLE = EXAMPLES / "data" / "orders.jsonl"
OUTCOMES = """\
o-1: accepted, 39.80
o-2: refused by payment (EDQUOT): 90.00 is more than 50.00
o-3: refused by stock (ENOSPC): 3 of lamp left
o-4: refused by fraud (EACCES): 4200.00 is suspicious
asked from now on: stock, payment
o-5: accepted, 4200.00
asked from now on: stock, payment, fraud
o-6: accepted, 45.00
in stock: 3 lamp, 3 chair, 0 piano; in the till: 4284.80
"""


def run(backend: str, *arguments: str, text: bytes = b"", **variables: str) -> tuple[str, str, int]:
    done = subprocess.run(
        [sys.executable, PROGRAM, "--backend", backend, *arguments],
        input=text,
        env=environment() | variables,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.stdout.decode(), done.stderr.decode(), done.returncode


def check_books(shop: Shop) -> None:
    """Every item is in stock or sold; every cent is in an account, or in the till for a sale."""
    sold: Counter[str] = Counter()
    for order in shop.accepted:
        sold[order.item] += order.count
    assert {item: left + sold[item] for item, left in shop.stock.counts.items()} == STOCK
    assert shop.payment.till == sum(order.total for order in shop.accepted)
    assert sum(shop.payment.balances.values()) + shop.payment.till == sum(BALANCES.values())
    spent = Counter(dict.fromkeys(BALANCES, 0))
    for order in shop.accepted:
        spent[order.account] += order.total
    assert {who: left + spent[who] for who, left in shop.payment.balances.items()} == BALANCES
    assert min([*shop.stock.counts.values(), *shop.payment.balances.values()]) >= 0


def lamp(count: int = 1) -> Order:
    return Order("o", "ann", "lamp", count)


async def test_an_order_to_which_all_agree_is_accepted() -> None:
    shop = Shop()
    await shop.place(lamp(2))
    assert shop.stock.counts["lamp"] == STOCK["lamp"] - 2
    assert shop.payment.balances["ann"] == BALANCES["ann"] - 2 * PRICES["lamp"]
    check_books(shop)


@pytest.mark.parametrize(
    ("order", "who", "error"),
    [
        (lamp(6), "stock", errno.ENOSPC),
        (Order("o", "bob", "chair", 2), "payment", errno.EDQUOT),
        (Order("o", "nobody", "chair", 2), "payment", errno.EDQUOT),
        (Order("o", "cleo", "piano", 1), "fraud", errno.EACCES),
    ],
    ids=["stock", "payment", "no account", "fraud"],
)
async def test_any_department_may_veto_and_those_that_agreed_put_back_what_they_took(
    order: Order, who: str, error: int
) -> None:
    shop = Shop()
    with pytest.raises(VetoError) as caught:
        await shop.place(order)
    assert caught.value.errno == error
    assert caught.value.block is not None
    assert caught.value.block.name == who
    assert (shop.stock.counts, shop.payment.balances) == (STOCK, BALANCES)
    check_books(shop)


async def test_those_that_agreed_hear_of_a_veto_the_last_one_first() -> None:
    shop, heard = Shop(), []
    for name, priority in (("early", 15), ("late", 5)):

        def listen(event: Step, order: Order, name: str = name) -> None:
            heard.append((name, event))

        await shop.chain.register(listen, name=name, priority=priority)
    with pytest.raises(VetoError):
        await shop.place(Order("o", "cleo", "piano", 1))
    assert heard == [
        ("early", Step.PREPARE),
        ("late", Step.PREPARE),
        ("late", Step.CANCEL),
        ("early", Step.CANCEL),
    ]


async def test_an_order_that_is_cancelled_in_the_middle_of_its_payment_is_rolled_back() -> None:
    held = Held()
    shop = Shop(bank=lambda order: held(order, None))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shop.place, lamp(2))
        await held.entered.wait()
        assert shop.stock.counts["lamp"] == STOCK["lamp"] - 2
        assert shop.payment.balances["ann"] == BALANCES["ann"] - 2 * PRICES["lamp"]
        tasks.cancel_scope.cancel()
    assert (shop.stock.counts, shop.payment.balances) == (STOCK, BALANCES)
    check_books(shop)


async def test_a_bank_that_fails_is_no_veto_and_is_rolled_back() -> None:
    async def bank(order: Order) -> None:
        raise ConnectionError("the line is dead")

    shop = Shop(bank=bank)
    with pytest.raises(ConnectionError, match="the line is dead"):
        await shop.place(lamp())
    check_books(shop)
    assert shop.stock.counts == STOCK


async def test_orders_run_side_by_side_and_nothing_is_sold_twice() -> None:
    waiting, pay = anyio.Event(), anyio.Event()
    asked: list[Order] = []

    async def bank(order: Order) -> None:
        asked.append(order)
        if len(asked) == 2:
            waiting.set()
        await pay.wait()

    shop = Shop(bank=bank)
    refused: list[int] = []

    async def place(order: Order) -> None:
        try:
            await shop.place(order)
        except VetoError as veto:
            refused.append(veto.errno)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(place, lamp(2))
        await waiting.wait()
        await anyio.wait_all_tasks_blocked()
        assert refused == [errno.ENOSPC]  # with two orders under way that may still fail
        pay.set()
    assert len(shop.accepted) == 2
    check_books(shop)


async def test_the_fraud_check_is_switched_off_and_on_while_orders_are_taken() -> None:
    shop = Shop()
    piano = Order("o", "cleo", "piano", 1)
    with pytest.raises(VetoError):
        await shop.place(piano)
    await shop.ask_only(NameFilter(["stock", "payment"]))
    await shop.place(piano)
    await shop.ask_only(None)
    assert len(shop.chain) == 3
    assert shop.accepted == [piano]
    check_books(shop)


async def test_a_switch_waits_for_the_orders_that_are_under_way() -> None:
    held = Held()
    shop = Shop(bank=lambda order: held(order, None))
    switched = anyio.Event()

    async def switch() -> None:
        await shop.ask_only(NameFilter(["stock", "payment"]))
        switched.set()

    async def refused() -> None:
        with pytest.raises(VetoError, match="suspicious"):
            await shop.place(Order("o", "cleo", "piano", 1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refused)
        await held.entered.wait()
        tasks.start_soon(switch)
        await anyio.wait_all_tasks_blocked()
        assert not switched.is_set()
        assert len(shop.chain) == 3
        held.release.set()
    assert len(shop.chain) == 2
    check_books(shop)


@pytest.mark.parametrize("names", [["fraud"], ["stock", "fraud"], []])
async def test_who_keeps_books_cannot_be_switched_off(names: list[str]) -> None:
    shop = Shop()
    with pytest.raises(FilterError, match="keeps books"):
        await shop.ask_only(NameFilter(names))
    assert len(shop.chain) == 3


class Fate(Enum):
    """What the bank makes of an order."""

    PAID = "paid"
    LATE = "paid late"
    DECLINED = "declined"
    BROKEN = "broken"
    HANGS = "hangs until the order is cancelled"


ORDERS = st.builds(
    Order,
    id=st.just("o"),
    account=st.sampled_from([*BALANCES, "nobody"]),
    item=st.sampled_from([*PRICES]),
    count=st.integers(1, 3),
)


class Rush:
    """Many orders at once, of which each has its fate, while an operator switches."""

    def __init__(self, fates: Sequence[tuple[Order, Fate]], switches: Sequence[bool]) -> None:
        self.fates = {id(order): fate for order, fate in fates}
        self.orders = [order for order, _ in fates]
        self.switches = switches
        self.shop = Shop(bank=self.bank)
        self.late = anyio.Event()

    async def bank(self, order: Order) -> None:
        match self.fates[id(order)]:
            case Fate.LATE:
                await self.late.wait()
            case Fate.DECLINED:
                raise VetoError(errno.EACCES, "declined")
            case Fate.BROKEN:
                raise ConnectionError
            case Fate.HANGS:
                await anyio.sleep_forever()
            case _:
                pass

    async def place(self, order: Order) -> None:
        with suppress(VetoError, ConnectionError):
            await self.shop.place(order)

    async def switch(self) -> None:
        for is_on in self.switches:
            await self.shop.ask_only(None if is_on else NameFilter(["stock", "pay*"]))

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks, anyio.create_task_group() as cancelled:
            tasks.start_soon(self.switch)
            for order in self.orders:
                hangs = self.fates[id(order)] is Fate.HANGS
                (cancelled if hangs else tasks).start_soon(self.place, order)
            await anyio.wait_all_tasks_blocked()
            self.late.set()
            cancelled.cancel_scope.cancel()
        check_books(self.shop)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(
    fates=st.lists(st.tuples(ORDERS, st.sampled_from(Fate)), max_size=12),
    switches=st.lists(st.booleans(), max_size=3),
)
@settings(deadline=None, max_examples=40)
def test_whatever_becomes_of_the_orders_nothing_is_lost(
    backend: str, fates: list[tuple[Order, Fate]], switches: list[bool]
) -> None:
    async def main() -> None:
        await Rush(fates, switches).run()

    anyio.run(main, backend=backend)


def test_the_program_prints_the_outcome_of_each_order(anyio_backend: str) -> None:
    assert run(anyio_backend, str(SAMPLE)) == (OUTCOMES, "", 0)
    assert run(anyio_backend, text=SAMPLE.read_bytes()) == (OUTCOMES, "", 0)


def test_the_operators_choice_may_come_from_the_environment(anyio_backend: str) -> None:
    text = b'{"id": "o-1", "account": "cleo", "item": "piano", "count": 1}\n'
    said, _, status = run(anyio_backend, text=text, ORDERS_FILTER="stock,payment")
    assert (said.splitlines()[0], status) == ("o-1: accepted, 4200.00", 0)
    refused = run(anyio_backend, text=text, ORDERS_FILTER="fraud")
    assert refused == ("", "orders: stock keeps books and cannot be left out\n", 1)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"lamp", "Expecting value: line 1 column 1 (char 0)"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"[]", "neither an order, with id, account, item, count, nor 'only'"),
        (
            b'{"id": "o", "account": "ann", "item": "lamp", "count": "2"}',
            "neither an order, with id, account, item, count, nor 'only'",
        ),
        (
            b'{"id": "o", "account": "ann", "item": "lamp", "count": 0}',
            "the count of an order must be 1 or more, not 0",
        ),
        (
            b'{"id": "o", "account": "ann", "item": "lamp", "count": true}',
            "the count of an order must be 1 or more, not True",
        ),
        (
            b'{"id": "o", "account": "ann", "item": "bed", "count": 1}',
            "there is no item 'bed'; there are lamp, chair, piano",
        ),
        (
            b'{"id": "\\n\\u001b[2J", "account": "ann", "item": "lamp", "count": 1}',
            "the id of an order must be printable, not '\\n\\x1b[2J'",
        ),
        (
            b'{"id": "\\ud800", "account": "ann", "item": "lamp", "count": 1}',
            "the id of an order must be printable, not '\\ud800'",
        ),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"only": ["fraud"]}', "stock keeps books and cannot be left out"),
        (b'{"only": ["a,b"]}', "'a,b' is no entry for a name filter: it has a comma or white "),
    ],
    ids=[
        *(
            "no JSON",
            "no text",
            "a list",
            "words",
            "none",
            "bool",
            "item",
            "id",
            "half a character",
        ),
        *("too deep", "keepers", "filter"),
    ],
)
async def test_a_line_that_makes_no_sense_is_refused_with_one_that_does(
    line: bytes, error: str
) -> None:
    shop = Shop()
    with pytest.raises(ValueError) as caught:
        await shop.handle(line)
    assert str(caught.value).startswith(error)
    check_books(shop)


def test_a_line_that_makes_no_sense_leaves_the_others_alone(anyio_backend: str) -> None:
    lines = b'\n[\n{"only": ["stock", "payment", "fr\\u001bod"]}\n' + b"[" * 100_000
    said, error, status = run(anyio_backend, text=lines)
    assert said.startswith("asked from now on: stock, payment; nobody is called 'fr\\x1bod'\nin st")
    two, four = error.splitlines()
    assert two.startswith("line 2: ")
    assert four == "line 4: nested too deeply"
    assert status == 1


def test_an_order_is_accepted_whatever_the_terminal_can_show(anyio_backend: str) -> None:
    text = '{"id": "ü", "account": "ann", "item": "lamp", "count": 1}\n'.encode()
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    said, error, status = run(anyio_backend, text=text, **plain)
    assert (said.splitlines()[0], error, status) == ("\\xfc: accepted, 19.90", "", 0)


def shell(backend: str, redirection: str) -> tuple[str, int]:
    """Run the program on its sample by a shell; give what it says on stderr, and its status."""
    command = shlex.join([sys.executable, PROGRAM, "--backend", backend])
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} {redirection}"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stderr, done.returncode


def test_without_an_input_it_says_so_in_one_line(anyio_backend: str) -> None:
    assert shell(anyio_backend, "<&-") == ("orders: standard input is closed\n", 1)


def test_without_an_output_it_still_takes_orders(anyio_backend: str) -> None:
    assert shell(anyio_backend, f"{shlex.quote(str(SAMPLE))} >&-") == ("", 0)
    error, status = shell(anyio_backend, "nowhere >&-")
    assert (error, status) == ("orders: [Errno 2] No such file or directory: 'nowhere'\n", 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("source", [str(SAMPLE), "/dev/null"])
def test_an_output_that_is_full_is_one_line(anyio_backend: str, source: str) -> None:
    error, status = shell(anyio_backend, f"{shlex.quote(source)} >/dev/full")
    assert (error, status) == ("orders: [Errno 28] No space left on device\n", 1)
