"""An order service in which stock, payment and the fraud check have to agree, or nothing happens.

    python examples/orders.py examples/data/orders.jsonl

reads one order a line, from a file or from standard input, and prints what becomes of each::

    {"id": "o-1", "account": "ann", "item": "lamp", "count": 2}

An order is one robust call. Each department prepares its part, or vetoes with an errno and its
reason. Then those who had agreed hear `Step.CANCEL`, the last one first, and put back what they
have taken; so too when the bank fails, or the order is cancelled.

An operator says, in between or by ``ORDERS_FILTER=stock,payment``, who is to be asked from then on;
``null`` is everybody::

    {"only": ["stock", "payment"]}

The chain is a `BlockingChain`: orders run side by side, but another filter comes into force between
them. So nobody is left out who would still have to hear that an order is cancelled.
"""

import argparse
import errno
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import checkpoint

from tocsin import BlockingChain, FilterError, NameFilter, NotifierBlock, VetoError

if TYPE_CHECKING:
    from io import TextIOWrapper

# Money is counted in cents, and an int: a float would lose some.
PRICES = {"lamp": 19_90, "chair": 45_00, "piano": 4_200_00}
STOCK = {"lamp": 5, "chair": 4, "piano": 1}
BALANCES = {"ann": 200_00, "bob": 50_00, "cleo": 9_000_00}
SUSPICIOUS = 1_000_00


class Step(StrEnum):
    """What a department is asked to do."""

    PREPARE = "prepare"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Order:
    """What somebody wants to buy."""

    id: str
    account: str
    item: str
    count: int

    def __post_init__(self) -> None:
        if not self.id.isprintable():  # it is printed, perhaps on a terminal
            raise ValueError(f"the id of an order must be printable, not {self.id!r}")
        if isinstance(self.count, bool) or self.count < 1:
            raise ValueError(f"the count of an order must be 1 or more, not {self.count}")
        if self.item not in PRICES:
            raise ValueError(f"there is no item {self.item!r}; there are {', '.join(PRICES)}")

    @property
    def total(self) -> int:
        """The price of it all."""
        return self.count * PRICES[self.item]


FIELDS = tuple(field.name for field in fields(Order))


class Stock(NotifierBlock[Step, Order, None]):
    """The block is the state: how many there are of each item."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        super().__init__(name="stock", priority=20)
        self.counts = dict(counts)

    def notifier_call(self, event: Step, data: Order) -> None:
        """Take the items, or put them back."""
        left = self.counts[data.item]
        if event == Step.CANCEL:
            self.counts[data.item] = left + data.count
        elif left < data.count:
            raise VetoError(errno.ENOSPC, f"{left} of {data.item} left")
        else:
            self.counts[data.item] = left - data.count


Bank = Callable[[Order], Awaitable[None]]


async def agreeable_bank(order: Order) -> None:
    """Authorise every payment."""
    await checkpoint()


class Payment(NotifierBlock[Step, Order, Awaitable[None]]):
    """Moves money from accounts to the till. Asks the bank, which may take long, or refuse."""

    def __init__(self, balances: Mapping[str, int], bank: Bank) -> None:
        super().__init__(name="payment", priority=10)
        self.balances = dict(balances)
        self.till = 0
        self._bank = bank

    async def notifier_call(self, event: Step, data: Order) -> None:
        """Take the money, or give it back."""
        if event == Step.CANCEL:
            self.till -= data.total
            self.balances[data.account] += data.total
            return
        balance = self.balances.get(data.account, 0)
        if balance < data.total:
            raise VetoError(errno.EDQUOT, f"{money(data.total)} is more than {money(balance)}")
        self.balances[data.account] -= data.total  # before the wait, so nobody spends it twice
        try:
            await self._bank(data)
        except BaseException:  # a cancellation too; whoever fails cleans up after themselves
            self.balances[data.account] += data.total
            raise
        self.till += data.total


def fraud(event: Step, order: Order) -> None:
    """Veto what a human should look at first."""
    if order.total >= SUSPICIOUS:
        raise VetoError(errno.EACCES, f"{money(order.total)} is suspicious")


class Shop:
    """The departments, and the chain on which they hear of orders."""

    def __init__(
        self,
        stock: Mapping[str, int] = STOCK,
        balances: Mapping[str, int] = BALANCES,
        bank: Bank = agreeable_bank,
    ) -> None:
        self.stock = Stock(stock)
        self.payment = Payment(balances, bank)
        self.accepted: list[Order] = []
        self.chain = BlockingChain[Step, Order]("orders")
        self.chain.register_nowait(self.stock)
        self.chain.register_nowait(self.payment)
        self.chain.register_nowait(fraud, events=Step.PREPARE)

    async def place(self, order: Order) -> None:
        """Accept an order, or raise `VetoError`; as many at once as there are callers."""
        report = await self.chain.call_robust_report(Step.PREPARE, Step.CANCEL, order, reverse=True)
        report.raise_for_veto()
        self.accepted.append(order)

    async def ask_only(self, admitted: NameFilter | None) -> None:
        """Ask only these departments, or all, as soon as the orders under way have ended."""
        for keeper in (self.stock, self.payment):
            if admitted is not None and not admitted(keeper):
                raise FilterError(f"{keeper.name} keeps books and cannot be left out")
        await self.chain.set_filter(admitted)

    async def handle(self, line: bytes) -> str:
        """Do what a line of input says, and say what came of it; `ValueError` for nonsense."""
        try:
            request: Any = json.loads(line)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        match request:
            case {"only": None}:
                await self.ask_only(None)
            case {"only": list()}:
                await self.ask_only(NameFilter(request["only"]))
            case {"id": str(), "account": str(), "item": str(), "count": int()}:
                return await self._outcome(Order(*(request[name] for name in FIELDS)))
            case _:
                raise ValueError(f"neither an order, with {', '.join(FIELDS)}, nor 'only'")
        unknown = "".join(f"; nobody is called {name!r}" for name in self.chain.unmatched_names)
        return f"asked from now on: {', '.join(block.name for block in self.chain)}{unknown}"

    async def _outcome(self, order: Order) -> str:
        try:
            await self.place(order)
        except VetoError as veto:
            who = veto.block.name if veto.block else "somebody"
            return f"{order.id}: refused by {who} ({errno.errorcode[veto.errno]}): {veto.reason}"
        return f"{order.id}: accepted, {money(order.total)}"

    def books(self) -> str:
        """Say what there is at the end."""
        left = ", ".join(f"{count} {item}" for item, count in self.stock.counts.items())
        return f"in stock: {left}; in the till: {money(self.payment.till)}"


def money(cents: int) -> str:
    """Say an amount of money."""
    return f"{cents // 100}.{cents % 100:02}"


def serve(lines: Iterable[bytes], backend: str) -> int:
    """Do what the lines say, one after another; give the exit status.

    The main thread reads, and the event loop runs in another one, so that Ctrl-C ends the program
    while it waits for a line.
    """
    shop, status = Shop(), 0
    with start_blocking_portal(backend) as portal:
        portal.call(shop.ask_only, NameFilter.from_env("ORDERS_FILTER"))
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            try:
                outcome = portal.call(shop.handle, line)
            except ValueError as error:
                print(f"line {number}: {error}", file=sys.stderr, flush=True)
                status = 1
            else:
                print(outcome, flush=True)
    print(shop.books(), flush=True)
    return status


def open_lines(file: Path | None) -> AbstractContextManager[Iterable[bytes]]:
    """Open a file, or standard input."""
    if file is not None:
        return file.open("rb")
    if sys.stdin is None:
        raise OSError("standard input is closed")
    return nullcontext(sys.stdin.buffer)


def main() -> int:
    """Read the options, and serve."""
    parser = argparse.ArgumentParser(description="Take orders, one JSON object a line.")
    parser.add_argument("file", nargs="?", type=Path, help="instead of standard input")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args()
    output = cast("TextIOWrapper | None", sys.stdout)  # there is none when it is closed
    if output:
        output.reconfigure(errors="backslashreplace")
    try:
        with open_lines(options.file) as lines:
            return serve(lines, options.backend)
    except (FilterError, OSError) as error:
        print(f"orders: {error}", file=sys.stderr)
        if output:
            with suppress(OSError):
                output.close()  # else Python tries once more to write what it could not
        return 1


if __name__ == "__main__":
    sys.exit(main())
