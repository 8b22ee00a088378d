"""A web shop whose answers wait for quick listeners, and never for slow ones.

Run it by hand, with starlette and uvicorn installed, and order something::

    python -m uvicorn --app-dir examples/web shop:app
    curl -d '{"item": "bell", "quantity": 3}' http://127.0.0.1:8000/orders
    curl http://127.0.0.1:8000/bus

How an order goes through:

1. A place in the backlog is reserved; when none is free, the answer is 503 and nobody has heard,
   not even who would have refused this order for good.
2. The chain ``orders`` is called while the customer waits. Any listener may veto: whoever has
   agreed is told to take it back, and the answer is 409 with the reason.
3. The order goes into the backlog, and the answer is 201.
4. A task of the application calls the chain ``accepted``, whose listeners run together and may take
   their time, up to their timeout. Several orders are worked off at once, and may overtake.

When the server stops, it first works off the backlog, for at most `PATIENCE`; what is left then is
counted in the log. The backlog is in memory: a process that is killed loses it.

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

    from anyio.abc import TaskGroup
    from starlette.requests import Request

WORKERS = 100  # orders that are worked off at the same time
TIMEOUT = 2.0  # seconds that a slow listener is given for an order
PATIENCE = 30.0  # seconds that the backlog is given when the server stops
BACKLOG = WORKERS * int(PATIENCE / TIMEOUT / 2)
"""Orders that may be accepted and not yet worked off: as many as take half of `PATIENCE` when every
listener takes all its time. The other half is for a machine that is busy."""

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


# Slow listeners: no answer waits for them. One that fails, or takes longer than its timeout, is
# logged, and keeps no other from the order. They are of one priority, and so run together.


@accepted.subscriber(timeout=TIMEOUT)
async def send_mail(event: str, order: Order) -> None:
    """Tell the customer."""
    await anyio.sleep(0.2)  # mail servers take their time
    print(f"order {order.number}: mail sent", flush=True)


@accepted.subscriber(timeout=TIMEOUT)
async def write_invoice(event: str, order: Order) -> None:
    """Tell the customer what it costs."""
    await anyio.sleep(0.1)
    print(f"order {order.number}: invoice written", flush=True)


class Backlog:
    """Accepted orders on their way to the slow listeners, each in a task of the application.

    There are `BACKLOG` places, and `WORKERS` orders are worked off at once, each of them once.
    """

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._places = anyio.Semaphore(BACKLOG)
        self._workers = anyio.CapacityLimiter(WORKERS)

    @property
    def left(self) -> int:
        """How many orders have a place."""
        return BACKLOG - self._places.value

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
        self._group.start_soon(self._work_off, order)

    async def _work_off(self, order: Order) -> None:
        async with self._workers:
            await accepted.call_concurrent("accepted", order)
        self.release()

    def close(self) -> None:
        """Give what is left until `PATIENCE` has passed."""
        self._group.cancel_scope.deadline = anyio.current_time() + PATIENCE


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncGenerator[dict[str, Backlog]]:
    """Work off the backlog for as long as the server runs, and then the rest of it."""
    group = anyio.create_task_group()
    backlog = Backlog(group)
    async with group:
        yield {"backlog": backlog}
        backlog.close()
    if backlog.left:
        log.error("%d accepted orders could not be worked off in time", backlog.left)


numbers = count(1)


async def read_order(request: Request) -> Order:
    """Give the order in a request, or answer 400."""
    try:
        match await request.json():
            case {"item": str(item), "quantity": int(quantity)} if (
                item.isprintable() and quantity > 0 and not isinstance(quantity, bool)
            ):
                return Order(next(numbers), item, quantity)
            case _:
                pass
    except (ValueError, RecursionError):  # no JSON, or too deep
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
