"""For tests of code that uses chains: what becomes of it when a callback fails.

    faults       `inject_errors`: callbacks that fail where a test wants them to
    threads      a chain whose event loop runs in another thread than the test

Nothing here needs a test runner, or an event loop until it is awaited.
"""

from .faults import Cancel as Cancel
from .faults import Delay as Delay
from .faults import Injection as Injection
from .faults import Outcome as Outcome
from .faults import inject_errors as inject_errors
