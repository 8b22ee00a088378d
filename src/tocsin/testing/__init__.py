"""For tests of code that uses chains: what was heard, undoing, failures, and the order of things.

    faults       `inject_errors`: callbacks that fail where a test wants them to
    raising      exceptions that a test wants raised, often
    recorder     `Recorder`, `assert_order`: who was called, with what, in which order
    restored     `registrations_restored`: afterwards chain or bus are as before
    sequencer    `Sequencer`: what tasks and threads do, in the order that a test says
    threads      a chain whose event loop runs in another thread than the test

Nothing here needs pytest, whose fixtures stand in `tocsin.pytest_plugin`, or an event loop until it
is awaited.
"""

from .faults import Cancel as Cancel
from .faults import Delay as Delay
from .faults import Injection as Injection
from .faults import Outcome as Outcome
from .faults import inject_errors as inject_errors
from .recorder import Recorder as Recorder
from .recorder import assert_order as assert_order
from .restored import registrations_restored as registrations_restored
from .sequencer import Sequencer as Sequencer
