"""The kernel's own use of a notifier chain: network links that come, go up and down, and leave.

    python examples/netdev.py

prints the links of this machine and what happens to them, until Ctrl-C, or until it can print no
more. Linux only; needs pyroute2, and no privilege. To see a veto, take a link that is down; without
``--refuse``, and as root, it really goes up::

    python examples/netdev.py --refuse eth1 --up eth1

The kernel multicasts over netlink what its links have become. `Netdevs` keeps a table of them,
compares, and calls a chain with the differences, under the names that they have on the kernel's own
chain. There are three kinds of block on it:

- The table is the first block, so it changes inside a walk. On a `BlockingChain` no registration
  overlaps a walk: a newcomer, to whom the present links are replayed before it joins, misses no
  event and hears none twice, whether its callback is sync or async. (The kernel holds its RTNL lock
  for the same reason; an `SrcuChain` promises this to sync callbacks only.)
- Subscribers hear what has happened, such as ``NETDEV_UP``. Before this program changes a link they
  are asked, by ``NETDEV_PRE_UP``, and can veto.
- Who acts is the last block, which runs if nobody has vetoed. What the kernel refuses is a veto
  like any other: those who had agreed hear ``NETDEV_DOWN``, and the link stays down.

So a filter on this chain has to admit the first block and the last: ``table`` and ``kernel``.
"""

import argparse
import errno
import os
import signal
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

import anyio
from anyio.abc import TaskGroup, TaskStatus
from pyroute2 import netlink  # pyright: ignore[reportMissingTypeStubs]
from pyroute2.netlink import rtnl  # pyright: ignore[reportMissingTypeStubs]
from pyroute2.netlink.rtnl import ifinfmsg  # pyright: ignore[reportMissingTypeStubs]
from pyroute2.netlink.rtnl.marshal import MarshalRtnl  # pyright: ignore[reportMissingTypeStubs]

from tocsin import BlockingChain, NotifierBlock, VetoError


class Netdev(StrEnum):
    """What a link is about to do, when this program does it, and what a link has done."""

    PRE_UP = "NETDEV_PRE_UP"
    PRECHANGEMTU = "NETDEV_PRECHANGEMTU"

    REGISTER = "NETDEV_REGISTER"
    UNREGISTER = "NETDEV_UNREGISTER"
    UP = "NETDEV_UP"
    DOWN = "NETDEV_DOWN"
    CHANGE = "NETDEV_CHANGE"
    CHANGENAME = "NETDEV_CHANGENAME"
    CHANGEMTU = "NETDEV_CHANGEMTU"
    CHANGEADDR = "NETDEV_CHANGEADDR"
    CHANGEUPPER = "NETDEV_CHANGEUPPER"


ASKED = frozenset([Netdev.PRE_UP, Netdev.PRECHANGEMTU])
TOLD = frozenset(Netdev) - ASKED


@dataclass(frozen=True)
class Link:
    """A network link, as it is at one moment."""

    index: int
    name: str
    mtu: int
    address: str | None
    upper: int | None
    """The index of the bridge or bond that it is a part of."""
    is_up: bool
    has_carrier: bool
    """Whether the other end is there; never, while the link is down."""

    def __str__(self) -> str:
        state = "down" if not self.is_up else "up" if self.has_carrier else "up, no carrier"
        return f"{self.name} (mtu {self.mtu}, {state})"


class Notice(NamedTuple):
    """What subscribers are told."""

    link: Link
    mtu: int | None = None
    """The one that `Netdev.PRECHANGEMTU` asks about."""


ASPECTS = {
    Netdev.CHANGENAME: "name",
    Netdev.CHANGEMTU: "mtu",
    Netdev.CHANGEADDR: "address",
    Netdev.CHANGEUPPER: "upper",
}


def steps(before: Link | None, after: Link | None) -> Iterator[tuple[Netdev, Link]]:
    """Give the events that lead from one state of a link to another, and the link after each.

    ``None`` stands for a link that is not there. One from nowhere is what a newcomer has to hear.
    """
    link = before
    if link is not None and link.is_up and not (after is not None and after.is_up):
        link = taken_down(link)
        yield Netdev.DOWN, link
    if after is None:
        if link is not None:
            yield Netdev.UNREGISTER, link
        return
    if link is None:
        link = taken_down(after)
        yield Netdev.REGISTER, link
    for event, aspect in ASPECTS.items():
        value = getattr(after, aspect)
        if getattr(link, aspect) != value:
            link = replace(link, **{aspect: value})
            yield event, link
    if link != after:
        yield Netdev.CHANGE if link.is_up else Netdev.UP, after


def taken_down(link: Link) -> Link:
    """Give the same link in the state of being down."""
    return replace(link, is_up=False, has_carrier=False)


class Netdevs:
    """The links of the network namespace in which it runs, and the chain of those who care."""

    def __init__(self, *, receive_buffer: int = 1 << 20) -> None:
        self.chain = BlockingChain[Netdev, Notice]("netdev", errors="isolate", replay=self._present)
        self.overruns = 0
        """How often the kernel had more to tell than ``receive_buffer``, in bytes, could hold."""
        self._receive_buffer = receive_buffer
        self._links: dict[int, Link] = {}
        self._listed: set[int] | None = None
        """The links of which there was word since the listing began that is under way, if any."""
        self._listing_due = True
        self.chain.register_nowait(self._table, name="table", priority=sys.maxsize, events=TOLD)
        self.chain.register_nowait(self._kernel, name="kernel", priority=-sys.maxsize, events=ASKED)

    @property
    def links(self) -> tuple[Link, ...]:
        """The links, as far as subscribers have been told."""
        return tuple(self._links.values())

    async def set_up(self, name: str) -> None:
        """Set a link up, if nobody vetoes and the kernel agrees; else raise `VetoError`.

        One that is up is left alone, and nobody is asked, as in the kernel.
        """
        link = self._find(name)
        if not link.is_up:
            await self._ask(Netdev.PRE_UP, Netdev.DOWN, Notice(link))

    async def set_mtu(self, name: str, mtu: int) -> None:
        """Set the MTU, in bytes, in the same way, unless the link has it."""
        link = self._find(name)
        if link.mtu != mtu:
            await self._ask(Netdev.PRECHANGEMTU, Netdev.CHANGEMTU, Notice(link, mtu))

    async def _ask(self, event: Netdev, otherwise: Netdev, notice: Notice) -> None:
        report = await self.chain.call_robust_report(event, otherwise, notice)
        report.raise_for_veto()

    def _find(self, name: str) -> Link:
        for link in self.links:
            if link.name == name:
                return link
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)

    # The blocks of its own, and the replay.

    def _table(self, event: Netdev, notice: Notice) -> None:
        if event == Netdev.UNREGISTER:
            del self._links[notice.link.index]
        else:
            self._links[notice.link.index] = notice.link

    def _kernel(self, event: Netdev, notice: Notice) -> None:
        try:
            change_link(notice.link.index, up=event == Netdev.PRE_UP, mtu=notice.mtu)
        except OSError as error:
            raise VetoError(error.errno or errno.EIO, f"the kernel says: {error}") from None

    def _present(self) -> Iterable[tuple[Netdev, Notice]]:
        for link in self.links:
            for event, state in steps(None, link):
                yield event, Notice(state)

    # Following the kernel.

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Follow the links until cancelled; has started when the present ones are known.

        Changes and the listing of all links arrive on one socket, in the order in which they became
        true. While subscribers take their time the kernel may have to drop changes, and says so.
        Then the links are listed anew: what happened meanwhile is told as what it came to.
        """
        self._listed, self._listing_due, started = None, True, False
        with open_netlink(rtnl.RTMGRP_LINK) as kernel:
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            kernel.setblocking(False)
            while True:
                if self._listing_due and self._listed is None:
                    send(kernel, rtnl.RTM_GETLINK, netlink.NLM_F_DUMP, {})
                    self._listed, self._listing_due = set(), False
                await anyio.wait_readable(kernel)
                for message in self._receive(kernel):
                    await self._take(message)
                if not started and not self._listing_due and self._listed is None:
                    started = True
                    task_status.started()

    def _receive(self, kernel: socket.socket) -> list["Message"]:
        try:
            return list(parse(kernel.recv(DATAGRAM)))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self.overruns += 1
            self._listing_due = True
            return []

    async def _take(self, message: "Message") -> None:
        self._listing_due |= message.is_inconsistent
        if message.kind == netlink.NLMSG_DONE:
            if not self._listing_due:  # else it is made again, and a link may be missing from this
                for index in self._links.keys() - (self._listed or ()):
                    await self._tell(self._links[index], None)
            self._listed = None
        elif message.link is not None:
            if self._listed is not None:
                self._listed.add(message.link.index)
            is_gone = message.kind == rtnl.RTM_DELLINK
            await self._tell(self._links.get(message.link.index), None if is_gone else message.link)

    async def _tell(self, before: Link | None, after: Link | None) -> None:
        for event, link in steps(before, after):
            await self.chain.call(event, Notice(link))


# The language of netlink. Everything that pyroute2, which has no types, gives us ends here.

DATAGRAM = 1 << 16
MARSHAL: Any = MarshalRtnl()


class Message(NamedTuple):
    """What the kernel says about links, as far as it matters here."""

    kind: int
    is_inconsistent: bool
    """Whether links changed under the kernel's hands while it listed them."""
    link: Link | None


def open_netlink(groups: int = 0) -> socket.socket:
    """Open a socket to the kernel's routing code, subscribed to multicast groups."""
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    kernel.bind((0, groups))
    return kernel


def send(kernel: socket.socket, kind: int, flags: int, fields: Mapping[str, object]) -> None:
    """Send a request about links."""
    header = {"type": kind, "flags": netlink.NLM_F_REQUEST | flags}
    request: Any = ifinfmsg.ifinfmsg()
    request.setvalue({"header": header, **fields})
    request.encode()
    kernel.send(request.data)


def change_link(index: int, *, up: bool, mtu: int | None) -> None:
    """Set a link up, or its MTU; raises `OSError`.

    The kernel has done it, and has answered, when it has the request. So this waits for as long as
    the change takes, and for nothing else.
    """
    flags = ifinfmsg.IFF_UP if up else 0
    attributes = [] if mtu is None else [("IFLA_MTU", mtu)]
    fields = {"index": index, "flags": flags, "change": flags, "attrs": attributes}
    with open_netlink() as kernel:
        send(kernel, rtnl.RTM_SETLINK, netlink.NLM_F_ACK, fields)
        list(parse(kernel.recv(DATAGRAM)))


def parse(data: bytes) -> Iterator[Message]:
    """Read a datagram; raises the `OSError` that it reports, if it does."""
    for raw in MARSHAL.parse(data):
        kind, flags = raw["header"]["type"], raw["header"]["flags"]
        if kind == netlink.NLMSG_ERROR and raw["error"]:
            raise OSError(-raw["error"], os.strerror(-raw["error"]))
        yield Message(kind, bool(flags & netlink.NLM_F_DUMP_INTR), parse_link(raw))


def parse_link(raw: Any) -> Link | None:
    """Read a message about a link.

    There are others of the same kind, about a link as a port of a bridge, or as a radio.
    """
    if raw["header"]["type"] not in (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK):
        return None
    mtu = raw.get_attr("IFLA_MTU")
    if raw["family"] != socket.AF_UNSPEC or mtu is None:
        return None
    is_up = bool(raw["flags"] & ifinfmsg.IFF_UP)
    return Link(
        raw["index"],
        raw.get_attr("IFLA_IFNAME"),
        mtu,
        raw.get_attr("IFLA_ADDRESS"),
        raw.get_attr("IFLA_MASTER"),
        is_up,
        is_up and bool(raw["flags"] & ifinfmsg.IFF_LOWER_UP),
    )


# The program.


class Screen:
    """Prints until that fails, and then cancels tasks: a mere error would be isolated."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.error: OSError | None = None
        self._tasks = tasks

    def show(self, event: Netdev, notice: Notice) -> None:
        """Print what happens."""
        self.say(f"{event} {notice.link}")

    def say(self, line: str) -> None:
        """Print a line."""
        try:
            print(line, flush=True)
        except OSError as error:
            self.error = error
            self._tasks.cancel_scope.cancel()


def refuse(names: Iterable[str]) -> NotifierBlock[Netdev, Notice]:
    """Make the block of somebody who wants these links to stay down."""

    def busy(event: Netdev, notice: Notice) -> None:
        if notice.link.name in names:
            raise VetoError(errno.EBUSY, f"{notice.link.name} is not to go up")

    return NotifierBlock(busy, events=Netdev.PRE_UP)


async def follow(options: argparse.Namespace) -> OSError | None:
    """Print the links, and what happens to them, until a signal comes; give what else ended it."""
    netdevs = Netdevs()
    tasks = anyio.create_task_group()
    screen = Screen(tasks)
    async with tasks:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            await tasks.start(netdevs.run)
            await netdevs.chain.register(screen.show)
            await netdevs.chain.register(refuse(options.refuse))
            for name in options.up:
                try:
                    await netdevs.set_up(name)
                except OSError as error:
                    screen.say(f"{name} stays down: {error}")
            async for _ in signals:
                tasks.cancel_scope.cancel()
    return screen.error


def main() -> int:
    """Read the options, and follow; give the exit status."""
    parser = argparse.ArgumentParser(description="Follow the network links of this machine.")
    parser.add_argument("--up", action="append", default=[], metavar="LINK", help="set it up")
    parser.add_argument(
        "--refuse", action="append", default=[], metavar="LINK", help="veto that it is set up"
    )
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args()
    error = anyio.run(follow, options, backend=options.backend)
    if error is None:
        return 0
    print(f"netdev: {error}", file=sys.stderr)
    with suppress(OSError):
        sys.stdout.close()  # else Python tries once more to write what it could not
    return 1


if __name__ == "__main__":
    sys.exit(main())
