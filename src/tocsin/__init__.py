"""Notifier chains for Python: ordered, named subscribers that can veto, on asyncio and trio.

The layers, each importing only from those above it::

    results  errors  nearest  protocol  _typing    what is said
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
    cli  commands  targets                   the command line
"""

from typing import TYPE_CHECKING

from .block import NotifierBlock as NotifierBlock
from .block import block as block
from .buffers import StreamStatistics as StreamStatistics
from .bus import Bus as Bus
from .chains import AtomicChain as AtomicChain
from .chains import BlockingChain as BlockingChain
from .chains import RawChain as RawChain
from .chains import SrcuChain as SrcuChain
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
from .errors import StreamOverflowError as StreamOverflowError
from .errors import TocsinError as TocsinError
from .errors import VetoError as VetoError
from .errors import WouldDeadlockError as WouldDeadlockError
from .errors import WrongLoopError as WrongLoopError
from .errors import raise_for_result as raise_for_result
from .filters import NameFilter as NameFilter
from .observer import Observation as Observation
from .observer import ObservedCall as ObservedCall
from .observer import Observer as Observer
from .options import BlockOptions as BlockOptions
from .protocol import AnyChain as AnyChain
from .report import BlockCall as BlockCall
from .report import CallReport as CallReport
from .report import ChainStatistics as ChainStatistics
from .results import NOTIFY_BAD as NOTIFY_BAD
from .results import NOTIFY_DONE as NOTIFY_DONE
from .results import NOTIFY_OK as NOTIFY_OK
from .results import NOTIFY_STOP as NOTIFY_STOP
from .results import NOTIFY_STOP_MASK as NOTIFY_STOP_MASK
from .results import NotifyResult as NotifyResult
from .results import describe_result as describe_result
from .results import notifier_from_errno as notifier_from_errno
from .results import notifier_to_errno as notifier_to_errno
from .scopes import Scope as Scope
from .snapshots import BlockSnapshot as BlockSnapshot
from .snapshots import BusSnapshot as BusSnapshot
from .snapshots import ChainSnapshot as ChainSnapshot
from .streams import Stream as Stream

if TYPE_CHECKING:
    from . import panic as panic
    from .log_observer import StructlogObserver as StructlogObserver
    from .modules import ModuleHost as ModuleHost
    from .statistics_observer import BlockStatistics as BlockStatistics
    from .statistics_observer import StatisticsObserver as StatisticsObserver
else:
    _LAZY = {  # what is not light is imported when it is asked for
        "BlockStatistics": "statistics_observer",
        "ModuleHost": "modules",
        "StatisticsObserver": "statistics_observer",
        "StructlogObserver": "log_observer",
        "panic": "panic",
    }

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f".{_LAZY[name]}", __name__)
        return module if name == _LAZY[name] else getattr(module, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LAZY})
