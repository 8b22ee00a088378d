"""Notifier chains for Python: ordered, named subscribers that can veto, on asyncio and trio.

The layers, each importing only from those above it::

    wording  results  errors  nearest  protocol  _typing    what is said
    callables  checks  options               what callers pass in
    block  ordering  report  observer        what there is, and who is told of it
    table  view  loops  ancestry             who is there, what a walk goes through, who waits
    careful  walk  careful_calls  bands  slots  pacing  locks    how it is walked and guarded
    filters  scopes                          who may come, and who owns them
    buffers  streams                         events to be awaited
    core  admission  base                    what the four flavours share
    sync_base  raw_calls  async_base  guards  chains    the four flavours
    snapshots  drawings  bus                 chains by name, and how they look
    panic  log_observer  statistics_observer
    module_states  module_source  module_record  module_table    plugins, and who uses whom
    module_loader  module_reload  modules    loading, unloading and reloading them
    testing                                  what tests of code that uses chains need
    cli  commands  targets  pytest_plugin    the command line, and fixtures for pytest

What every chain needs is imported with the package, all else when somebody asks for it by name.
"""

from typing import TYPE_CHECKING

from .block import NotifierBlock as NotifierBlock
from .block import block as block
from .errors import AlreadyRegisteredError as AlreadyRegisteredError
from .errors import AsyncCallbackError as AsyncCallbackError
from .errors import BusError as BusError
from .errors import ChainExistsError as ChainExistsError
from .errors import ChainInUseError as ChainInUseError
from .errors import ChainNotFoundError as ChainNotFoundError
from .errors import FilterError as FilterError
from .errors import InvalidResultError as InvalidResultError
from .errors import InvalidTypeError as InvalidTypeError
from .errors import InvalidValueError as InvalidValueError
from .errors import ModuleDependencyError as ModuleDependencyError
from .errors import ModuleError as ModuleError
from .errors import ModuleInUseError as ModuleInUseError
from .errors import ModuleLoadedError as ModuleLoadedError
from .errors import ModuleLoadError as ModuleLoadError
from .errors import ModuleNotLoadedError as ModuleNotLoadedError
from .errors import ModuleTimeoutError as ModuleTimeoutError
from .errors import NotRegisteredError as NotRegisteredError
from .errors import OrderConflictError as OrderConflictError
from .errors import PriorityInUseError as PriorityInUseError
from .errors import RegistrationError as RegistrationError
from .errors import RegistrationVetoedError as RegistrationVetoedError
from .errors import RollbackError as RollbackError
from .errors import ScopeClosedError as ScopeClosedError
from .errors import SequenceBrokenError as SequenceBrokenError
from .errors import StreamOverflowError as StreamOverflowError
from .errors import TocsinError as TocsinError
from .errors import VetoError as VetoError
from .errors import WouldDeadlockError as WouldDeadlockError
from .errors import WrongLoopError as WrongLoopError
from .errors import raise_for_result as raise_for_result
from .options import BlockOptions as BlockOptions
from .results import NOTIFY_BAD as NOTIFY_BAD
from .results import NOTIFY_DONE as NOTIFY_DONE
from .results import NOTIFY_OK as NOTIFY_OK
from .results import NOTIFY_STOP as NOTIFY_STOP
from .results import NOTIFY_STOP_MASK as NOTIFY_STOP_MASK
from .results import NotifyResult as NotifyResult
from .results import describe_result as describe_result
from .results import notifier_from_errno as notifier_from_errno
from .results import notifier_to_errno as notifier_to_errno

if TYPE_CHECKING:
    from . import panic as panic
    from .buffers import StreamStatistics as StreamStatistics
    from .bus import Bus as Bus
    from .chains import AtomicChain as AtomicChain
    from .chains import BlockingChain as BlockingChain
    from .chains import RawChain as RawChain
    from .chains import SrcuChain as SrcuChain
    from .filters import NameFilter as NameFilter
    from .log_observer import StructlogObserver as StructlogObserver
    from .modules import ModuleHost as ModuleHost
    from .observer import Observation as Observation
    from .observer import ObservedCall as ObservedCall
    from .observer import Observer as Observer
    from .protocol import AnyChain as AnyChain
    from .report import BlockCall as BlockCall
    from .report import CallReport as CallReport
    from .report import ChainStatistics as ChainStatistics
    from .scopes import Scope as Scope
    from .snapshots import BlockSnapshot as BlockSnapshot
    from .snapshots import BusSnapshot as BusSnapshot
    from .snapshots import ChainSnapshot as ChainSnapshot
    from .statistics_observer import BlockStatistics as BlockStatistics
    from .statistics_observer import StatisticsObserver as StatisticsObserver
    from .streams import Stream as Stream
else:
    from types import ModuleType as _Module

    _HOMES = {
        "AnyChain": "protocol",
        "AtomicChain": "chains",
        "BlockCall": "report",
        "BlockSnapshot": "snapshots",
        "BlockStatistics": "statistics_observer",
        "BlockingChain": "chains",
        "Bus": "bus",
        "BusSnapshot": "snapshots",
        "CallReport": "report",
        "ChainSnapshot": "snapshots",
        "ChainStatistics": "report",
        "ModuleHost": "modules",
        "NameFilter": "filters",
        "Observation": "observer",
        "ObservedCall": "observer",
        "Observer": "observer",
        "RawChain": "chains",
        "Scope": "scopes",
        "SrcuChain": "chains",
        "StatisticsObserver": "statistics_observer",
        "Stream": "streams",
        "StreamStatistics": "buffers",
        "StructlogObserver": "log_observer",
        "panic": "panic",
    }

    _here = {name for name, one in globals().items() if not isinstance(one, _Module)}
    __all__ = sorted(
        name for name in _here | _HOMES.keys() if name[0] != "_" and name != "TYPE_CHECKING"
    )

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = _HOMES[name]
        module = __import__(home, globals(), fromlist=(name,), level=1)
        found = globals()[name] = module if name == home else getattr(module, name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
