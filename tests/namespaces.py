"""A network namespace of the test's own, and an operator who changes links in it.

Making one takes the right to (``CAP_SYS_ADMIN``). Where that is missing, tests are skipped and say
so; with ``TOCSIN_TEST_LINKS=required`` they fail instead. `.ci/run` sets that where it has the
right, so that nobody believes in what was never run.
"""

from __future__ import annotations

import ctypes
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CLONE_NEWNET = 0x40000000


class MissingError(Exception):
    """What this machine or this user lacks to have network namespaces with links in them."""


def enter(what: str, *arguments: int) -> None:
    """Call ``unshare`` or ``setns``, which concern this thread alone; os has them since 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, what)(*arguments):
        number = ctypes.get_errno()
        raise MissingError(f"the right to make one, CAP_SYS_ADMIN ({what}: {os.strerror(number)})")


class Operator:
    """Changes links as somebody else does: from a thread of its own, with a tool of its own.

    The thread is started in the namespace and stays there; the calls block.
    """

    def __init__(self, stack: ExitStack) -> None:
        from pyroute2 import IPRoute

        self._thread = stack.enter_context(ThreadPoolExecutor(1))
        self._route = self._do(IPRoute)
        stack.callback(self._do, self._route.close)
        self.kind = self._find_kind()

    def _do(self, function: Any, *arguments: Any, **options: Any) -> Any:
        return self._thread.submit(function, *arguments, **options).result()

    def _find_kind(self) -> str:
        from pyroute2 import NetlinkError

        errors = []
        for kind in ("dummy", "veth"):
            try:
                self.add("probe", kind)
            except NetlinkError as error:
                errors.append(f"{kind}: {error}")
            else:
                self.change("del", "probe")
                return kind
        raise MissingError(f"a kernel with dummy or veth links ({', '.join(errors)})")

    def add(self, name: str, kind: str | None = None) -> None:
        """Add a link; one of kind veth comes with the link at its other end."""
        kind = kind or self.kind
        peer = {"peer": f"{name}-peer"} if kind == "veth" else {}
        self._do(self._route.link, "add", ifname=name, kind=kind, **peer)

    def change(self, command: str, link: str, **options: Any) -> None:
        self._do(self._route.link, command, index=self.index(link), **options)

    def index(self, name: str) -> int:
        [index] = self._do(self._route.link_lookup, ifname=name)
        assert isinstance(index, int)
        return index

    def links(self) -> dict[str, tuple[bool, int]]:
        """Give for each link whether it is up, and its MTU."""
        return {
            one.get("ifname"): (bool(one.get("flags") & 1), one.get("mtu"))
            for one in self._do(lambda: list(self._route.get_links()))
        }


@contextmanager
def network_namespace() -> Iterator[Operator]:
    """Be in a network namespace of one's own, in this thread and those that it starts."""
    if sys.platform != "linux":
        raise MissingError("Linux")
    with ExitStack() as stack:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        stack.callback(os.close, home)
        enter("unshare", CLONE_NEWNET)
        stack.callback(enter, "setns", home, CLONE_NEWNET)
        yield Operator(stack)


@pytest.fixture
def operator() -> Iterator[Operator]:
    with ExitStack() as stack:
        try:
            made = stack.enter_context(network_namespace())
        except MissingError as missing:
            reason = f"a network namespace with links needs {missing}"
            required = os.environ.get("TOCSIN_TEST_LINKS") == "required"
            (pytest.fail if required else pytest.skip)(reason)
        yield made
