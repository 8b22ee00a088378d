"""Owns a chain, and the three functions through which other modules use it.

First of three: ``tocsin run buildchain.py regchain.py notify.py``.
"""

from tocsin import NotifierBlock, RawChain
from tocsin.modules import ModuleHost

test_chain = RawChain[int]("test_chain")


def register_test_notifier(block: NotifierBlock[int]) -> None:
    """Put a block on the chain."""
    test_chain.register(block)


def unregister_test_notifier(block: NotifierBlock[int]) -> None:
    """Take a block off the chain."""
    test_chain.unregister(block)


def test_notifier_call_chain(event: int) -> int:
    """Tell everybody on the chain about an event."""
    return test_chain.call(event)


def module_init(host: ModuleHost | None = None) -> int:
    """Show the chain on the host's bus, if there is a host."""
    if host is not None:
        host.bus.add(test_chain)
    print("init_notifier")
    return 0
