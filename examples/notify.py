"""Calls the chain of ``buildchain`` once.

Third of three: ``tocsin run buildchain.py regchain.py notify.py``.
"""

from buildchain import test_notifier_call_chain
from tocsin import raise_for_result
from tocsin.modules import ModuleHost

REQUIRES = ("buildchain",)

EVENT = 1


def module_init(host: ModuleHost | None = None) -> None:
    """Call everybody on the chain; a veto fails the load."""
    print("Begin to notify:")
    print("=" * 30)
    raise_for_result(test_notifier_call_chain(EVENT))


def module_exit(host: ModuleHost | None = None) -> None:
    """Say goodbye."""
    print("End notify")
