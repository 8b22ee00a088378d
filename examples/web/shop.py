"""A web shop whose answers wait for quick listeners, and never for slow ones.

Run it by hand, with starlette and uvicorn installed, and order something::

    python -m uvicorn --app-dir examples/web shop:app
    curl -d '{"item": "bell", "quantity": 3}' http://127.0.0.1:8000/orders
    curl http://127.0.0.1:8000/bus

How an order goes through:

1. A place in the backlog is reserved; when none is free, the answer is 503 and nobody has heard.
2. The chain ``orders`` is called while the customer waits. Any listener may veto: whoever has
   agreed is told to take it back, and the answer is 409 with the reason.
3. The order goes into the backlog, and the answer is 201.
4. A task of the application takes it from there and calls the chain ``accepted``, whose listeners
   run together and may take their time. When the server stops, it first works off the backlog.

Listeners are switched off and on by their names, as in ``TOCSIN_FILTERS="accepted=send_mail"``.
"""

from __future__ import annotations

import errno
import logging
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tocsin import Bus, SrcuChain, VetoError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

BACKLOG = 1000  # orders that may be accepted and not yet worked off
PATIENCE = 30.0  # seconds that the backlog is given when the server stops

log = logging.getLogger("shop")


class Order(NamedTuple):
    """What a customer wants."""

    number: int
    item: str
    quantity: int


bus = Bus.from_env("shop")
orders = bus.add(SrcuChain[str, Order]("orders"))
accepted = bus.add(SrcuChain[str, Order]("accepted", errors="isolate"))

# Quick listeners: the customer waits for them, and they may say no.

stock = {"bell": 100_000, "whistle": 2}


@orders.subscriber(priority=10)
def reserve_stock(event: str, order: Order) -> None:
    """Take the goods off the shelf, or put them back."""
    if event == "withdrawn":
        stock[order.item] += order.quantity
        return
    left = stock.get(order.item, 0)
    if left < order.quantity:
        raise VetoError(errno.ENOSPC, f"{left} of {order.item} are left")
    stock[order.item] = left - order.quantity


@orders.subscriber(events="placed")
async def check_fraud(event: str, order: Order) -> None:
    """Refuse what no honest customer orders."""
    await anyio.lowlevel.checkpoint()  # here one would ask somebody, who is quick
    if order.quantity > 1000:
        raise VetoError(errno.EPERM, "more than 1000 are sold by telephone only")


# Slow listeners: nobody waits for them, and one that fails does not keep the others from it.


@accepted.subscriber
async def send_mail(event: str, order: Order) -> None:
    """Tell the customer."""
    await anyio.sleep(0.2)  # mail servers take their time
    print(f"order {order.number}: mail sent", flush=True)


@accepted.subscriber
async def write_invoice(event: str, order: Order) -> None:
    """Tell the customer what it costs."""
    await anyio.sleep(0.1)
    print(f"order {order.number}: invoice written", flush=True)


class Backlog:
    """Accepted orders on their way to the slow listeners: bounded, in order, none lost."""

    def __init__(self, size: int) -> None:
        self._size, self._places = size, anyio.Semaphore(size)
        self._send, self._receive = anyio.create_memory_object_stream[Order](size)

    @property
    def left(self) -> int:
        """How many orders have a place."""
        return self._size - self._places.value

    def reserve(self) -> None:
        """Reserve a place before anybody is asked: an order that was accepted must have one."""
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            raise HTTPException(503, "too many orders, try again", {"Retry-After": "1"}) from None

    def release(self) -> None:
        """Give a place back."""
        self._places.release()

    def put(self, order: Order) -> None:
        """Put an order into the place that was reserved for it."""
        self._send.send_nowait(order)

    def close(self) -> None:
        """Take no more; `work` ends when it has worked off the rest."""
        self._send.close()

    async def work(self) -> None:
        """Let the slow listeners hear, all at once, of one order after the other."""
        with self._receive:
            async for order in self._receive:
                await accepted.call_concurrent("accepted", order)
                self.release()


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncGenerator[dict[str, Backlog]]:
    """Work off the backlog for as long as the server runs, and then the rest of it."""
    backlog = Backlog(BACKLOG)
    async with anyio.create_task_group() as group:
        group.start_soon(backlog.work)
        yield {"backlog": backlog}
        backlog.close()
        group.cancel_scope.deadline = anyio.current_time() + PATIENCE
    if backlog.left:
        log.error("%d accepted orders could not be worked off in time", backlog.left)


numbers = count(1)


async def read_order(request: Request) -> Order:
    """Give the order in a request, or answer 400."""
    try:
        match await request.json():
            case {"item": str(item), "quantity": int(quantity)} if quantity > 0:
                return Order(next(numbers), item, quantity)
            case _:
                pass
    except ValueError:  # no JSON
        pass
    raise HTTPException(400, 'an order is {"item": NAME, "quantity": NUMBER}')


async def place_order(request: Request) -> Response:
    """Accept an order, unless somebody vetoes it."""
    order = await read_order(request)
    backlog: Backlog = request.state.backlog
    backlog.reserve()
    try:
        report = await orders.call_robust_report("placed", "withdrawn", order)
        report.raise_for_veto()
    except BaseException:  # the customer who has gone away too
        backlog.release()
        raise
    backlog.put(order)
    return JSONResponse({"order": order.number}, 201)


async def refuse(_request: Request, error: Exception) -> Response:
    """Turn a veto into an answer."""
    reason = error.reason if isinstance(error, VetoError) else str(error)
    return JSONResponse({"reason": reason}, 409)


async def show_bus(_request: Request) -> Response:
    """Show who listens to what."""
    return PlainTextResponse(bus.describe())


app = Starlette(
    routes=[
        Route("/orders", place_order, methods=["POST"]),
        Route("/bus", show_bus),
    ],
    exception_handlers={VetoError: refuse},
    lifespan=lifespan,
)
