"""The web shop under load, behind real servers: nobody waits for the slow, nothing is lost."""

from __future__ import annotations

import errno
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from tocsin import NameFilter, VetoError

from .flavours import Held
from .programs import EXAMPLES, load_example
from .test_cli import environment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

WEB = EXAMPLES / "web"
BELL = {"item": "bell", "quantity": 1}
LOAD = 100

SERVERS = [("uvicorn", "asyncio"), ("hypercorn", "asyncio"), ("hypercorn", "trio")]
pytestmark = pytest.mark.anyio


@pytest.fixture(params=SERVERS, ids="-".join)
def server(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Give the name of a server and that of the event loop it runs on."""
    name, loop = request.param
    return name, loop


@pytest.fixture
def anyio_backend(server: tuple[str, str]) -> str:
    return server[1]


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the example, freshly imported."""
    monkeypatch.delenv("TOCSIN_FILTERS", raising=False)
    return load_example("web/shop")


class Server:
    """A server on loopback, and a client of it."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.stopping = anyio.Event()

    async def order(self, **order: Any) -> httpx.Response:
        return await self.client.post("/orders", json=order)

    async def order_many(self, count: int) -> Counter[int]:
        """Order bells all at the same time, and count the answers by their status."""
        answers: Counter[int] = Counter()

        async def one() -> None:
            answers[(await self.order(**BELL)).status_code] += 1

        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(one)
        return answers

    async def bus(self) -> str:
        return (await self.client.get("/bus")).raise_for_status().text


@asynccontextmanager
async def served(server: tuple[str, str], app: Any) -> AsyncGenerator[Server]:
    """Run a server until the context is left, and then until it has ended by itself."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=LOAD)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    limits = httpx.Limits(max_connections=50)
    async with anyio.create_task_group() as group:
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
            made = Server(client)
            run = run_uvicorn if server[0] == "uvicorn" else partial(run_hypercorn, server[1])
            group.start_soon(run, app, listener, made.stopping)
            try:
                yield made
            finally:
                made.stopping.set()


async def run_uvicorn(app: Any, listener: socket.socket, stopping: anyio.Event) -> None:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_config=None))
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve, [listener])
        await stopping.wait()
        server.should_exit = True


async def run_hypercorn(
    loop: str, app: Any, listener: socket.socket, stopping: anyio.Event
) -> None:
    import hypercorn.config

    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = config.errorlog = None
    if loop == "trio":
        from hypercorn.trio import serve as serve_on_trio

        await serve_on_trio(app, config, shutdown_trigger=stopping.wait, mode="asgi")
    else:
        from hypercorn.asyncio import serve

        await serve(app, config, shutdown_trigger=stopping.wait, mode="asgi")


class Slow(Held):
    """A slow listener, which remembers whom it has heard of."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[int] = []

    async def __call__(self, event: Any, order: Any) -> None:
        await super().__call__(event, order)
        self.done.append(order.number)


async def only_slow(shop: Any) -> Slow:
    """Put a slow listener in the place of all others."""
    slow = Slow()
    shop.accepted.set_filter_nowait(NameFilter(["slow"]))
    await shop.accepted.register(slow, name="slow")
    return slow


async def test_no_answer_waits_for_a_slow_listener(shop: Any, server: tuple[str, str]) -> None:
    slow = await only_slow(shop)
    async with served(server, shop.app) as web:
        assert await web.order_many(LOAD) == {201: LOAD}
        await slow.entered.wait()
        assert slow.done == []  # all answers are there, and it has not finished with the first
        assert "slow: async" in await web.bus()
        slow.release.set()
    assert sorted(slow.done) == list(range(1, LOAD + 1))


async def test_a_server_that_stops_works_off_all_that_was_accepted(
    shop: Any, server: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = await only_slow(shop)
    close = shop.Backlog.close

    def close_and_release(backlog: Any) -> None:
        """Let nothing be worked off before the server stops."""
        close(backlog)
        left.append(backlog.left)
        slow.release.set()

    left: list[int] = []
    monkeypatch.setattr(shop.Backlog, "close", close_and_release)
    async with served(server, shop.app) as web:
        assert await web.order_many(LOAD) == {201: LOAD}
        assert slow.done == []
    assert left == [LOAD]
    assert sorted(slow.done) == list(range(1, LOAD + 1))


async def test_an_order_that_is_under_way_when_the_server_stops_is_not_lost(
    shop: Any, server: tuple[str, str]
) -> None:
    slow, quick = await only_slow(shop), Held()
    slow.release.set()
    await shop.orders.register(quick, priority=-1)
    statuses: list[int] = []

    async def order() -> None:
        statuses.append((await web.order(**BELL)).status_code)

    async with served(server, shop.app) as web, anyio.create_task_group() as group:
        group.start_soon(order)
        await quick.entered.wait()
        web.stopping.set()
        quick.release.set()
    assert statuses == [201]
    assert slow.done == [1]


async def test_what_cannot_be_worked_off_in_time_is_counted(
    shop: Any,
    server: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(shop, "PATIENCE", 0)
    await only_slow(shop)
    async with served(server, shop.app) as web:
        await web.order_many(3)
    [said] = [record for record in caplog.records if record.name == "shop"]
    assert said.getMessage() == "3 accepted orders could not be worked off in time"


async def test_the_backlog_is_bounded_and_what_it_refuses_nobody_hears(
    shop: Any, server: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop, "BACKLOG", 5)
    slow = await only_slow(shop)
    bells = shop.stock["bell"]
    async with served(server, shop.app) as web:
        assert await web.order_many(20) == {201: 5, 503: 15}
        assert shop.stock["bell"] == bells - 5
        slow.release.set()
    assert len(slow.done) == 5


async def test_a_veto_is_a_conflict_and_takes_back_what_the_others_did(
    shop: Any, server: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop, "BACKLOG", 1)  # a place that is not given back would be noticed
    slow = await only_slow(shop)
    slow.release.set()
    before = shop.stock.copy()
    async with served(server, shop.app) as web:
        for item, quantity, reason in (
            ("bell", 1001, "more than 1000 are sold by telephone only"),
            ("whistle", 3, "2 of whistle are left"),
            ("drum", 1, "0 of drum are left"),
        ):
            answer = await web.order(item=item, quantity=quantity)
            assert (answer.status_code, answer.json()) == (409, {"reason": reason})
        assert shop.stock == before
        assert (await web.order(**BELL)).status_code == 201
    assert slow.done == [4]


async def test_a_quick_listener_that_fails_is_an_error_and_gives_its_place_back(
    shop: Any, server: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop, "BACKLOG", 1)
    await only_slow(shop)
    before = shop.stock.copy()

    def fail(event: str, order: Any) -> None:
        raise VetoError(errno.EIO, "secret") if event == "withdrawn" else ZeroDivisionError

    async with served(server, shop.app) as web:
        block = await shop.orders.register(fail, priority=-1)
        try:
            status = (await web.order(**BELL)).status_code
        except httpx.RemoteProtocolError:
            status = 500  # the server has let go of the connection
        assert status == 500
        assert shop.stock == before
        await shop.orders.unregister(block)
        monkeypatch.setattr(shop, "PATIENCE", 0)
        assert (await web.order(**BELL)).status_code == 201


async def test_what_is_no_order_is_a_bad_request(shop: Any, server: tuple[str, str]) -> None:
    async with served(server, shop.app) as web:
        assert (await web.order(item="bell", quantity=True)).status_code == 400
        assert (await web.client.post("/orders", content=b"[" * 100_000)).status_code == 400


async def test_listeners_are_switched_off_by_configuration(
    server: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOCSIN_FILTERS", "orders=reserve_*; accepted=nobody")
    shop = load_example("web/shop")
    async with served(server, shop.app) as web:
        assert (await web.order(item="bell", quantity=1001)).status_code == 201
        text = await web.bus()
    assert text == BUS


BUS = """\
bus shop
├─ orders: SrcuChain, filter=NameFilter(['reserve_*'])
│  ├─ 10 reserve_stock
│  └─  0 check_fraud: parked, async, events=placed
└─ accepted: SrcuChain, errors=isolate, filter=NameFilter(['nobody']), unmatched=nobody
   ├─ 0 send_mail: parked, async, timeout=2.0 s
   └─ 0 write_invoice: parked, async, timeout=2.0 s"""


async def test_the_real_listeners_hear_of_all_that_was_accepted_under_load(
    shop: Any, server: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(server, shop.app) as web:
        assert await web.order_many(LOAD) == {201: LOAD}
    assert sorted(capsys.readouterr().out.splitlines()) == said_of(range(1, LOAD + 1))


def said_of(numbers: Iterable[int]) -> list[str]:
    """Give what the slow listeners print about these orders, sorted."""
    words = ("mail sent", "invoice written")
    return sorted(f"order {number}: {word}" for number in numbers for word in words)


class Customers:
    """Some who order one bell after the other, each until the server is gone."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.accepted: list[int] = []
        self.enough = anyio.Event()

    async def order_all(self) -> None:
        async with httpx.AsyncClient(timeout=60) as client, anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(self._order, client)

    async def _order(self, client: httpx.AsyncClient) -> None:
        with suppress(httpx.TransportError):
            while True:
                answer = await client.post(f"{self.url}/orders", json=BELL)
                self.accepted.append(answer.raise_for_status().json()["order"])
                if len(self.accepted) == LOAD:
                    self.enough.set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_by_hand_it_ends_on_a_signal_when_all_that_was_accepted_is_done(
    number: signal.Signals,
) -> None:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(WEB), "shop:app", "--port", "0"]
    command += ["--no-access-log"]
    with ExitStack() as stack:
        printed = stack.enter_context(TemporaryFile("w+"))
        process = stack.enter_context(
            subprocess.Popen(
                command, env=environment(), stdout=printed, stderr=subprocess.PIPE, text=True
            )
        )
        stack.callback(process.kill)  # if it has not ended by itself
        assert process.stderr
        for line in process.stderr:
            if found := re.search(r"running on (http://127.0.0.1:\d+)", line):
                break
        assert found
        customers = Customers(found[1])

        async def main() -> None:
            with anyio.fail_after(60):
                async with anyio.create_task_group() as group:
                    group.start_soon(customers.order_all)
                    await customers.enough.wait()
                    process.send_signal(number)  # while they go on

        anyio.run(main)
        _, said = process.communicate(timeout=60)
        printed.seek(0)
        assert sorted(printed.read().splitlines()) == said_of(customers.accepted)
    assert "Traceback" not in said
    assert "in time" not in said
