"""Three blocks of equal priority on the chain of ``buildchain``: they run in the order they came.

Second of three: ``tocsin run buildchain.py regchain.py notify.py``.
"""

from buildchain import register_test_notifier, unregister_test_notifier
from tocsin import NOTIFY_DONE, NotifierBlock
from tocsin.modules import ModuleHost

REQUIRES = ("buildchain",)


def test_event1(event: int, data: None) -> int:
    """Hear of an event."""
    print(f"In Event 1: Event Number is {event}")
    return NOTIFY_DONE


def test_event2(event: int, data: None) -> int:
    """Hear of an event."""
    print(f"In Event 2: Event Number is {event}")
    return NOTIFY_DONE


def test_event3(event: int, data: None) -> int:
    """Hear of an event."""
    print(f"In Event 3: Event Number is {event}")
    return NOTIFY_DONE


test_notifier1 = NotifierBlock(test_event1)
test_notifier2 = NotifierBlock(test_event2)
test_notifier3 = NotifierBlock(test_event3)

NOTIFIERS = {
    "test_notifier1": test_notifier1,
    "test_notifier2": test_notifier2,
    "test_notifier3": test_notifier3,
}


def module_init(host: ModuleHost | None = None) -> int:
    """Register the three blocks."""
    print("Begin to register:")
    for name, notifier in NOTIFIERS.items():
        register_test_notifier(notifier)
        print(f"register {name} completed")
    return 0


def module_exit(host: ModuleHost | None = None) -> None:
    """Unregister them."""
    print("Begin to unregister")
    for notifier in NOTIFIERS.values():
        unregister_test_notifier(notifier)
    print("Unregister finished")
