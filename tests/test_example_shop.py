"""What the web shop promises, without a server: nothing is lost, and nobody stops it for good."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from .flavours import Held
from .programs import load_example

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

BELL = {"item": "bell", "quantity": 1}
pytestmark = pytest.mark.anyio


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the example, freshly imported."""
    monkeypatch.delenv("TOCSIN_FILTERS", raising=False)
    return load_example("web/shop")


@asynccontextmanager
async def opened(shop: Any) -> AsyncGenerator[tuple[httpx.AsyncClient, Any]]:
    """Give a client of the shop, and its backlog; leaving it stops the shop as a server does."""
    async with shop.lifespan(shop.app) as state:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await shop.app({**scope, "state": state}, receive, send)

        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            yield client, state["backlog"]


async def only(shop: Any, *callbacks: Any, **options: Any) -> None:
    """Put these listeners in the place of the slow ones."""
    for block in tuple(shop.accepted):
        await shop.accepted.unregister(block)
    for number, callback in enumerate(callbacks):
        await shop.accepted.register(callback, name=f"slow-{number}", **options)


def fill(backlog: Any, shop: Any, count: int) -> None:
    for number in range(count):
        backlog.reserve()
        backlog.put(shop.Order(number, "bell", 1))


def test_a_full_backlog_is_worked_off_in_half_the_time_that_there_is(shop: Any) -> None:
    rounds = math.ceil(shop.BACKLOG / shop.WORKERS)
    assert rounds * shop.TIMEOUT <= shop.PATIENCE / 2
    assert len({block.priority for block in shop.accepted}) == 1  # so they run together
    for block in shop.accepted:
        assert block.timeout is not None, block
        assert block.timeout <= shop.TIMEOUT


async def test_a_full_backlog_is_worked_off_though_a_listener_hangs(
    shop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    done: Counter[int] = Counter()

    async def listener(event: str, order: Any) -> None:
        done[order.number] += 1

    async def hangs(event: str, order: Any) -> None:
        await anyio.sleep_forever()

    await only(shop, hangs, listener, timeout=0.02)
    async with opened(shop) as (_, backlog):
        fill(backlog, shop, shop.BACKLOG)
    assert backlog.left == 0
    assert done == Counter(range(shop.BACKLOG))  # each once
    assert not [record for record in caplog.records if record.name == "shop"]


async def test_a_listener_that_hangs_for_good_costs_its_order_its_time_and_no_more(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop, "BACKLOG", 5)

    async def hangs(event: str, order: Any) -> None:
        await anyio.sleep_forever()

    await only(shop, hangs, timeout=0.02)
    async with opened(shop) as (client, _):
        while (await client.post("/orders", json=BELL)).status_code == 201:
            pass  # until it is full
        with anyio.fail_after(10):
            while (await client.post("/orders", json=BELL)).status_code != 201:
                await anyio.lowlevel.checkpoint()


async def test_the_slow_listeners_of_an_order_run_together(shop: Any) -> None:
    one, other = Held(), Held()
    await only(shop, one, other)
    async with opened(shop) as (client, backlog):
        await client.post("/orders", json=BELL)
        with anyio.fail_after(10):
            await one.entered.wait()
            await other.entered.wait()
        assert backlog.left == 1
        one.release.set()
        other.release.set()


async def test_several_orders_are_worked_off_at_once_but_not_too_many(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop, "WORKERS", 3)
    release, heard = anyio.Event(), []

    async def slow(event: str, order: Any) -> None:
        heard.append(order.number)
        await release.wait()

    await only(shop, slow)
    async with opened(shop) as (_, backlog):
        fill(backlog, shop, 5)
        await anyio.wait_all_tasks_blocked()
        assert len(heard) == 3
        assert backlog.left == 5
        release.set()
        with anyio.fail_after(10):
            while backlog.left:  # the places are free again, not only at the end
                await anyio.lowlevel.checkpoint()
        assert sorted(heard) == [0, 1, 2, 3, 4]


async def test_an_order_that_finds_no_place_is_told_when_to_come_again(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop, "BACKLOG", 0)
    async with opened(shop) as (client, _):
        answer = await client.post("/orders", json=BELL)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        # Nobody was asked, so nobody could say that this one never gets a place.
        answer = await client.post("/orders", json={"item": "drum", "quantity": 1})
        assert answer.status_code == 503


async def test_the_order_of_a_customer_who_has_gone_away_is_taken_back(shop: Any) -> None:
    held, bells = Held(), shop.stock["bell"]
    await shop.orders.register(held, events="placed")
    async with opened(shop) as (client, backlog), anyio.create_task_group() as group:
        group.start_soon(lambda: client.post("/orders", json=BELL))
        await held.entered.wait()
        assert (backlog.left, shop.stock["bell"]) == (1, bells - 1)
        group.cancel_scope.cancel()
    assert (backlog.left, shop.stock["bell"]) == (0, bells)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"\xff",
        b"[]",
        b'{"item": "bell"}',
        b'{"item": "bell", "quantity": 0}',
        b'{"item": "bell", "quantity": 1.0}',
        b'{"item": "bell", "quantity": true}',
        b'{"item": "bell", "quantity": ' + b"9" * 5000 + b"}",
        b'{"item": 3, "quantity": 3}',
        b'{"item": "\\ud800", "quantity": 1}',
        b'{"item": "\\u001b[2J", "quantity": 1}',
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_what_is_no_order_is_a_bad_request(shop: Any, body: bytes) -> None:
    async with opened(shop) as (client, _):
        answer = await client.post("/orders", content=body)
    assert answer.status_code == 400, answer.text
    assert answer.text == 'an order is {"item": NAME, "quantity": NUMBER}'
