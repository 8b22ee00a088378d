"""The testing kit: what tests of code that uses Tocsin need; works with any test runner.

The modules::

    threads    doing something to a chain whose event loop runs in another thread
    faults     failures put into callbacks
"""

from .faults import Cancel as Cancel
from .faults import Delay as Delay
from .faults import Injection as Injection
from .faults import Outcome as Outcome
from .faults import inject_errors as inject_errors
