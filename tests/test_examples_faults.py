"""Every robust call of the examples, with a failure at each of its positions: nothing is left."""

from __future__ import annotations

import errno
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest
from structlog.testing import capture_logs

from tocsin import Observer, VetoError
from tocsin.testing import Cancel, inject_errors

from .programs import EXAMPLES, load_example
from .test_example_shop import BELL, only, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from tocsin import ObservedCall
    from tocsin.block import AnyBlock

pytestmark = pytest.mark.anyio


class BoomError(Exception):
    pass


@pytest.fixture(autouse=True)
def no_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOCSIN_FILTERS", raising=False)


class Call(NamedTuple):
    """A robust call of an example, and what it must leave as it was."""

    chain: Any
    event: str
    rollback_event: str
    make: Callable[[], Awaitable[object]]
    state: Callable[[], object]
    reverse: bool = False


class Passes(Observer):
    """Remembers which blocks were entered in the first pass of a robust call, and in the second."""

    def __init__(self) -> None:
        self.heard: dict[str, list[AnyBlock]] = {"call": [], "rollback": []}

    def callback_started(self, call: ObservedCall, block: AnyBlock) -> None:
        self.heard[call.kind].append(block)


async def listen(event: object, data: object) -> None:
    await anyio.lowlevel.checkpoint()


async def add_listeners(chain: Any, first: int, middle: int, last: int) -> None:
    """Add async listeners, in which a call can be cancelled too."""
    for name, priority in (("first", first), ("middle", middle), ("last", last)):
        await chain.register(listen, name=name, priority=priority)


@asynccontextmanager
async def placing_an_order() -> AsyncIterator[Call]:
    orders = load_example("orders")
    shop = orders.Shop()
    await add_listeners(shop.chain, 30, 15, -10)

    def state() -> object:
        books = shop.payment
        return dict(shop.stock.counts), dict(books.balances), books.till, list(shop.accepted)

    async def make() -> None:
        await shop.place(orders.Order("o", "ann", "lamp", 2))

    yield Call(shop.chain, "prepare", "cancel", make, state, reverse=True)


@asynccontextmanager
async def changing_a_link(*, up: bool) -> AsyncIterator[Call]:
    netdev: Any = load_example("netdev")
    netdevs, changes = netdev.Netdevs(), []
    netdev.change_link = lambda *change, **what: changes.append((change, what))
    link = netdev.Link(1, "t0", 1500, None, None, is_up=False, has_carrier=False)
    await netdevs.chain.call(netdev.Netdev.REGISTER, netdev.Notice(link))
    await add_listeners(netdevs.chain, 1, 0, -1)

    async def make() -> None:
        await (netdevs.set_up("t0") if up else netdevs.set_mtu("t0", 1400))

    steps = ("NETDEV_PRE_UP", "NETDEV_DOWN") if up else ("NETDEV_PRECHANGEMTU", "NETDEV_CHANGEMTU")
    yield Call(netdevs.chain, *steps, make, lambda: (netdevs.links, list(changes)))


@asynccontextmanager
async def ordering_in_the_web_shop() -> AsyncIterator[Call]:
    shop: Any = load_example("web/shop")
    delivered: list[object] = []
    await add_listeners(shop.orders, 20, 5, -5)
    await only(shop, lambda event, order: delivered.append(order))
    async with opened(shop) as (client, backlog):

        async def make() -> None:
            answer = await client.post("/orders", json=BELL)
            if answer.status_code != 201:
                assert answer.status_code == 409
                raise VetoError(errno.EBUSY, answer.json()["reason"])

        def state() -> object:
            return dict(shop.stock), backlog.left, list(delivered)

        yield Call(shop.orders, "placed", "withdrawn", make, state)


# Each with all of its positions, in order; in those of LISTENERS a call can be cancelled.
LISTENERS = ("first", "middle", "last", "payment", "check_fraud")
CALLS: dict[str, tuple[Callable[[], AbstractAsyncContextManager[Call]], list[str]]] = {
    "orders": (placing_an_order, ["first", "stock", "middle", "payment", "fraud", "last"]),
    "netdev-up": (lambda: changing_a_link(up=True), ["first", "middle", "last", "kernel"]),
    "netdev-mtu": (lambda: changing_a_link(up=False), ["first", "middle", "last", "kernel"]),
    "shop": (
        ordering_in_the_web_shop,
        ["first", "reserve_stock", "middle", "check_fraud", "last"],
    ),
}
POSITIONS = [(name, position) for name, (_, positions) in CALLS.items() for position in positions]


async def check_nothing_is_left(name: str, position: str, outcome: Any, error: Any) -> None:
    """Have the call fail there; exactly those before hear the rollback, and all is as before."""
    make_call, positions = CALLS[name]
    async with make_call() as call:
        asked = [block for block in call.chain if block.hears(call.event)]
        assert [block.name for block in asked] == positions
        place = positions.index(position)
        state, passes = call.state(), Passes()
        with call.chain.observe(passes), capture_logs(), anyio.CancelScope() as scope:
            outcomes = {call.event: Cancel(scope) if outcome is Cancel else outcome}
            with inject_errors(call.chain, outcomes, block=asked[place]) as faults:
                with pytest.raises(error) if error else nullcontext():
                    await call.make()
        assert faults.injected == 1
        assert scope.cancelled_caught is (outcome is Cancel)
        assert passes.heard["call"] == asked[: place + 1]
        told = [block for block in asked[:place] if block.hears(call.rollback_event)]
        assert passes.heard["rollback"] == (told[::-1] if call.reverse else told)
        assert call.state() == state

        await call.make()  # and afterwards it is as if nothing had been
        assert call.state() != state


@pytest.mark.parametrize(("name", "position"), POSITIONS)
async def test_an_errno_at_any_position_leaves_nothing_behind(name: str, position: str) -> None:
    await check_nothing_is_left(name, position, -errno.EBUSY, VetoError)


@pytest.mark.parametrize(("name", "position"), POSITIONS)
async def test_an_exception_at_any_position_leaves_nothing_behind(name: str, position: str) -> None:
    # The netdev chain isolates exceptions: there they count as a veto.
    error = VetoError if name.startswith("netdev") else BoomError
    await check_nothing_is_left(name, position, BoomError, error)


@pytest.mark.parametrize(("name", "position"), [one for one in POSITIONS if one[1] in LISTENERS])
async def test_a_cancellation_at_any_position_leaves_nothing_behind(
    name: str, position: str
) -> None:
    await check_nothing_is_left(name, position, Cancel, None)


def test_every_robust_call_of_the_examples_is_here() -> None:
    found = [
        str(path.relative_to(EXAMPLES))
        for path in sorted(EXAMPLES.rglob("*.py"))
        if "call_robust" in path.read_text("utf-8")
    ]
    assert found == ["netdev.py", "orders.py", "web/shop.py"]
