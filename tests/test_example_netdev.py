"""Real links of a real kernel, in a network namespace, drive the chain of the netdev example."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import NLMSG_DONE
from pyroute2.netlink.rtnl import RTM_GETLINK, RTM_NEWLINK
from structlog.testing import capture_logs

from tocsin import NOTIFY_STOP, RegistrationVetoedError, VetoError

from .flavours import Held
from .namespaces import Operator, operator
from .programs import EXAMPLES, load_example

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from netdev import ASPECTS, Link, Message, Netdev, Netdevs, Notice, steps

netdev = load_example("netdev")
if not TYPE_CHECKING:
    ASPECTS, Link, Message = netdev.ASPECTS, netdev.Link, netdev.Message
    Netdev, Netdevs, Notice, steps = netdev.Netdev, netdev.Netdevs, netdev.Notice, netdev.steps

pytestmark = pytest.mark.anyio
__all__ = ["operator"]  # a fixture

PROGRAM = str(EXAMPLES / "netdev.py")


def follow_history(history: Iterable[tuple[Netdev, Link]]) -> dict[int, Link]:
    """Check that each event changes what it says and nothing else; give the links at the end."""
    links: dict[int, Link] = {}
    for event, after in history:
        before = links.get(after.index)
        if before is None:
            assert event == Netdev.REGISTER
            assert not after.is_up
        elif event in (Netdev.UP, Netdev.DOWN):
            assert (before.is_up, after.is_up) == (event == Netdev.DOWN, event == Netdev.UP)
            carrier = after.has_carrier and after.is_up
            assert after == replace(before, is_up=after.is_up, has_carrier=carrier)
        elif event == Netdev.CHANGE:
            assert after == replace(before, has_carrier=not before.has_carrier)
            assert after.is_up
        elif event == Netdev.UNREGISTER:
            assert after == before
            assert not after.is_up
        else:
            changed = {ASPECTS[event]: getattr(after, ASPECTS[event])}
            assert before != after == replace(before, **changed)
        links[after.index] = after
        if event == Netdev.UNREGISTER:
            del links[after.index]
    return links


class Ear:
    """Hears everything, and lets a test wait for what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Netdev, Notice]] = []
        self._more = anyio.Event()

    def __call__(self, event: Netdev, notice: Notice) -> None:
        self.heard.append((event, notice))
        self._more.set()

    @property
    def history(self) -> list[tuple[Netdev, Link]]:
        return [(event, notice.link) for event, notice in self.heard]

    def about(self, name: str) -> list[str]:
        return [event.removeprefix("NETDEV_") for event, link in self.history if link.name == name]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was heard has made this true."""
        with anyio.fail_after(10):
            while not condition():
                self._more = anyio.Event()
                await self._more.wait()

    async def hear(self, event: Netdev, name: str) -> None:
        """Wait until this is the last thing that was heard of this link."""
        await self.until(lambda: self.about(name)[-1:] == [event.removeprefix("NETDEV_")])


@asynccontextmanager
async def following(**options: Any) -> AsyncIterator[tuple[Netdevs, Ear]]:
    """Follow the links of this namespace, with an ear on the chain once the present are known."""
    netdevs, ear = Netdevs(**options), Ear()
    async with anyio.create_task_group() as tasks:
        await tasks.start(netdevs.run)
        await netdevs.chain.register(ear)
        yield netdevs, ear
        tasks.cancel_scope.cancel()


def known(netdevs: Netdevs) -> dict[str, tuple[bool, int]]:
    """Give what the operator gives of the links."""
    return {link.name: (link.is_up, link.mtu) for link in netdevs.links}


async def test_links_that_come_go_up_and_down_and_leave_are_told_by_the_kernels_names(
    operator: Operator,
) -> None:
    async with following() as (netdevs, ear):
        operator.add("t0")
        operator.change("set", "t0", state="up")
        operator.change("set", "t0", state="down")
        operator.change("set", "t0", mtu=1400)
        operator.change("set", "t0", address="02:00:00:00:00:01")
        operator.change("set", "t0", ifname="t1")
        await ear.hear(Netdev.CHANGENAME, "t1")
        assert ear.about("t0") == ["REGISTER", "UP", "DOWN", "CHANGEMTU", "CHANGEADDR"]
        operator.change("set", "t1", state="up")
        operator.change("del", "t1")
        await ear.hear(Netdev.UNREGISTER, "t1")
        assert ear.about("t1") == ["CHANGENAME", "UP", "DOWN", "UNREGISTER"]
        assert operator.links() == {"lo": (False, 65536)}
        await ear.until(lambda: known(netdevs) == operator.links())
        assert {*follow_history(ear.history).values()} == {*netdevs.links}


async def test_a_newcomer_hears_the_present_links_before_anything_else(operator: Operator) -> None:
    operator.add("t0")
    operator.add("t1")
    operator.change("set", "t1", state="up")
    async with following() as (netdevs, ear):
        assert ear.about("t0") == ["REGISTER"]
        assert ear.about("t1") == ["REGISTER", "UP"]
        assert {*follow_history(ear.history).values()} == {*netdevs.links}


async def test_a_newcomer_that_takes_its_time_misses_no_event_and_hears_none_twice(
    operator: Operator,
) -> None:
    operator.add("t0")
    async with following() as (netdevs, ear), anyio.create_task_group() as tasks:
        slow, held = Ear(), Held()

        async def newcomer(event: Netdev, notice: Notice) -> None:
            await held(event, notice)
            slow(event, notice)

        tasks.start_soon(netdevs.chain.register, newcomer)
        await held.entered.wait()
        operator.change("set", "t0", state="up")
        operator.change("set", "t0", mtu=1400)
        held.release.set()
        await slow.hear(Netdev.CHANGEMTU, "t0")
        assert slow.about("t0") == ["REGISTER", "UP", "CHANGEMTU"]
        assert follow_history(slow.history) == follow_history(ear.history)


async def test_a_newcomer_that_vetoes_a_present_link_does_not_join(operator: Operator) -> None:
    operator.add("t0")

    def picky(event: Netdev, notice: Notice) -> None:
        if notice.link.name == "t0":
            raise VetoError(errno.ENODEV, "no driver")

    async with following() as (netdevs, _):
        with pytest.raises(RegistrationVetoedError, match="no driver"):
            await netdevs.chain.register(picky)


async def test_a_link_is_set_up_when_nobody_vetoes(operator: Operator) -> None:
    operator.add("t0")
    async with following() as (netdevs, ear):
        await netdevs.set_up("t0")
        assert operator.links()["t0"] == (True, 1500)
        await ear.hear(Netdev.UP, "t0")
        assert ear.about("t0") == ["REGISTER", "PRE_UP", "UP"]


async def test_a_veto_is_rolled_back_and_the_link_stays_down(operator: Operator) -> None:
    operator.add("t0")
    async with following() as (netdevs, ear):
        behind = Ear()

        async def guard(event: Netdev, notice: Notice) -> None:
            raise VetoError(errno.EBUSY, "not now")

        await netdevs.chain.register(guard, events=Netdev.PRE_UP)
        await netdevs.chain.register(behind, priority=-1)
        with pytest.raises(VetoError, match="not now") as caught:
            await netdevs.set_up("t0")
        assert caught.value.errno == errno.EBUSY
        assert ear.about("t0") == ["REGISTER", "PRE_UP", "DOWN"]
        assert behind.about("t0") == ["REGISTER"]
        assert operator.links()["t0"] == (False, 1500)
        assert "t0" in {link.name for link in netdevs.links if not link.is_up}


async def test_what_the_kernel_refuses_is_a_veto_too(operator: Operator) -> None:
    operator.add("t0")
    async with following() as (netdevs, ear):
        await netdevs.set_mtu("t0", 1400)
        assert operator.links()["t0"] == (False, 1400)
        await ear.hear(Netdev.CHANGEMTU, "t0")
        with pytest.raises(VetoError, match="the kernel says") as caught:
            await netdevs.set_mtu("t0", -1 & 0xFFFFFFFF)
        assert caught.value.errno == errno.EINVAL
        assert ear.about("t0")[1:] == ["PRECHANGEMTU", "CHANGEMTU"] * 2
        assert ear.heard[-1] == (
            Netdev.CHANGEMTU,
            Notice(ear.heard[-1][1].link, 0xFFFFFFFF),
        )
        assert ear.heard[-1][1].link.mtu == 1400 == operator.links()["t0"][1]


async def test_a_plain_stop_keeps_a_link_down_as_well(operator: Operator) -> None:
    operator.add("t0")
    async with following() as (netdevs, ear):
        await netdevs.chain.register(lambda event, notice: NOTIFY_STOP, events=Netdev.PRE_UP)
        with pytest.raises(VetoError):
            await netdevs.set_up("t0")
        assert ear.about("t0") == ["REGISTER", "PRE_UP", "DOWN"]
        assert operator.links()["t0"] == (False, 1500)


async def test_who_is_as_they_should_be_is_left_alone_and_nobody_is_asked(
    operator: Operator,
) -> None:
    operator.add("t0")
    operator.change("set", "t0", state="up")
    async with following() as (netdevs, ear):

        async def guard(event: Netdev, notice: Notice) -> None:
            raise VetoError(errno.EBUSY, "not now")

        await netdevs.chain.register(guard, events=[Netdev.PRE_UP, Netdev.PRECHANGEMTU])
        await netdevs.set_up("t0")
        await netdevs.set_mtu("t0", 1500)
        assert ear.about("t0") == ["REGISTER", "UP"]
        assert operator.links()["t0"] == (True, 1500)


async def test_a_subscriber_that_fails_keeps_nobody_from_following(operator: Operator) -> None:
    async with following() as (netdevs, ear):

        def fail(event: Netdev, notice: Notice) -> None:
            raise ConnectionError("elsewhere")

        with capture_logs() as logs:
            await netdevs.chain.register(fail, priority=1, events=Netdev.CHANGEMTU)
            operator.add("t0")
            operator.change("set", "t0", mtu=1400)
            await ear.hear(Netdev.CHANGEMTU, "t0")
            operator.change("set", "t0", state="up")
            await ear.hear(Netdev.UP, "t0")
        assert len(logs) == 1


async def test_who_hears_of_a_change_finds_it_in_the_table(operator: Operator) -> None:
    async with following() as (netdevs, ear):
        found: list[bool] = []

        def look(event: Netdev, notice: Notice) -> None:
            found.append(notice.link in netdevs.links)

        await netdevs.chain.register(look, priority=10**6, events=[Netdev.REGISTER, Netdev.UP])
        operator.add("t0")
        operator.change("set", "t0", state="up")
        await ear.hear(Netdev.UP, "t0")
        assert found
        assert all(found)


async def test_a_link_that_is_not_there_cannot_be_set_up() -> None:
    with pytest.raises(OSError, match="nowhere") as caught:
        await Netdevs().set_up("nowhere")
    assert caught.value.errno == errno.ENODEV


async def test_a_link_that_leaves_a_bridge_has_not_left(operator: Operator) -> None:
    operator.add("t0")
    operator.add("t1", "bridge")
    async with following() as (_, ear):
        operator.change("set", "t0", master=operator.index("t1"))
        operator.change("set", "t0", master=0)
        operator.change("set", "t0", mtu=1400)
        await ear.hear(Netdev.CHANGEMTU, "t0")
        assert ear.about("t0") == ["REGISTER", "CHANGEUPPER", "CHANGEUPPER", "CHANGEMTU"]


async def test_after_an_overrun_everybody_knows_what_has_become_of_the_links(
    operator: Operator,
) -> None:
    operator.add("stays")
    operator.add("leaves")
    operator.change("set", "leaves", state="up")
    async with following(receive_buffer=1) as (netdevs, ear):
        held = Held()
        await netdevs.chain.register(held, events=Netdev.CHANGEMTU)
        operator.change("set", "stays", mtu=1400)
        await held.entered.wait()
        for number in range(50):
            operator.change("set", "stays", state="up" if number % 2 else "down")
        operator.change("del", "leaves")
        operator.add("comes")
        held.release.set()
        await ear.until(lambda: known(netdevs) == operator.links())
        assert netdevs.overruns
        assert ear.about("leaves") == ["REGISTER", "UP", "DOWN", "UNREGISTER"]
        assert ear.about("comes") == ["REGISTER"]
        assert {*follow_history(ear.history).values()} == {*netdevs.links}


class ScriptedKernel:
    """Says what a test wants said, over a socket, and remembers what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[int] = []
        self._said: list[Message] = []
        self._ear, self._mouth = socket.socketpair(type=socket.SOCK_DGRAM)
        monkeypatch.setattr(netdev, "open_netlink", lambda groups=0: self._ear.dup())
        monkeypatch.setattr(netdev, "send", lambda kernel, kind, *rest: self.asked.append(kind))
        monkeypatch.setattr(netdev, "parse", lambda data: [self._said[int(data)]])

    def say(self, kind: int, link: Link | None = None, *, is_inconsistent: bool = False) -> None:
        self._mouth.send(b"%d" % len(self._said))
        self._said.append(Message(kind, is_inconsistent, link))

    def list_links(self, *links: Link, is_inconsistent: bool = False) -> None:
        for link in links:
            self.say(RTM_NEWLINK, link)
        self.say(NLMSG_DONE, is_inconsistent=is_inconsistent)

    def close(self) -> None:
        self._ear.close()
        self._mouth.close()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedKernel]:
    kernel = ScriptedKernel(monkeypatch)
    yield kernel
    kernel.close()


ONE = Link(1, "one", 1500, None, None, is_up=True, has_carrier=True)
TWO = replace(ONE, index=2, name="two")


async def test_a_listing_that_is_inconsistent_is_made_again_and_no_link_is_taken_for_gone(
    kernel: ScriptedKernel,
) -> None:
    kernel.list_links(ONE, is_inconsistent=True)
    kernel.list_links(ONE, TWO)
    async with following() as (netdevs, ear):  # which waits for one that can be trusted
        assert kernel.asked == [RTM_GETLINK] * 2
        assert netdevs.links == (ONE, TWO)
        kernel.say(RTM_NEWLINK, ONE, is_inconsistent=True)
        kernel.list_links(ONE, is_inconsistent=True)
        kernel.list_links(TWO)
        await ear.hear(Netdev.UNREGISTER, "one")
        assert ear.about("two") == ["REGISTER", "UP"]
        assert kernel.asked == [RTM_GETLINK] * 4


async def test_who_follows_again_lists_the_links_again(kernel: ScriptedKernel) -> None:
    netdevs = Netdevs()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(netdevs.run)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()  # in the middle of the listing
    kernel.list_links(ONE)
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(10):
            await tasks.start(netdevs.run)
        assert netdevs.links == (ONE,)
        assert kernel.asked == [RTM_GETLINK] * 2
        tasks.cancel_scope.cancel()


def states_of_a_link() -> st.SearchStrategy[Link]:
    links = st.builds(
        Link,
        index=st.just(1),
        name=st.sampled_from("ab"),
        mtu=st.integers(1, 2),
        address=st.sampled_from([None, "x"]),
        upper=st.sampled_from([None, 2]),
        is_up=st.booleans(),
        has_carrier=st.booleans(),
    )
    return links.map(lambda link: replace(link, has_carrier=link.is_up and link.has_carrier))


@given(st.lists(st.none() | states_of_a_link()))
def test_each_event_is_one_step_and_all_of_them_lead_there(states: list[Link | None]) -> None:
    history: list[tuple[Netdev, Link]] = []
    before: Link | None = None
    for after in states:
        history += steps(before, after)
        assert follow_history(history) == ({} if after is None else {1: after})
        before = after


def test_the_program_shows_the_links_and_a_veto_until_it_is_interrupted(
    operator: Operator, anyio_backend: str
) -> None:
    operator.add("t0")
    operator.add("t1")
    command = [sys.executable, PROGRAM, "--backend", anyio_backend]
    command += ["--refuse", "t0", "--up", "t0", "--up", "t1", "--up", "t2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = list(
            iter(child.stdout.readline, "t2 stays down: [Errno 19] No such device: 't2'\n")
        )
        operator.change("del", "t0")
        lines += iter(child.stdout.readline, "NETDEV_UNREGISTER t0 (mtu 1500, down)\n")
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() in ("", "NETDEV_UNREGISTER t0-peer (mtu 1500, down)\n")
    assert child.returncode == 0
    assert [line for line in lines if "t0 " in line] == [
        "NETDEV_REGISTER t0 (mtu 1500, down)\n",
        "NETDEV_PRE_UP t0 (mtu 1500, down)\n",
        "NETDEV_DOWN t0 (mtu 1500, down)\n",
        "t0 stays down: [Errno 16] t0 is not to go up\n",
    ]
    assert "NETDEV_PRE_UP t1 (mtu 1500, down)\n" in lines


def no_more_room() -> tuple[int, str]:
    return os.open("/dev/full", os.O_WRONLY), "netdev: [Errno 28] No space left on device\n"


def no_reader() -> tuple[int, str]:
    reader, writer = os.pipe()
    os.close(reader)
    return writer, "netdev: [Errno 32] Broken pipe\n"


@pytest.mark.parametrize("spoil", [no_more_room, no_reader])
def test_the_program_ends_when_it_can_print_no_more(
    operator: Operator, anyio_backend: str, spoil: Callable[[], tuple[int, str]]
) -> None:
    output, error = spoil()
    command = [sys.executable, PROGRAM, "--backend", anyio_backend, "--up", "nowhere"]
    try:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    finally:
        os.close(output)
    assert (done.stderr, done.returncode) == (error, 1)
