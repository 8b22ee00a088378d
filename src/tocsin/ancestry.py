"""Who waits for whom: the walks that the running code stands inside of.

Asked only by somebody who would have to wait, so that walks pay nothing for it. A walk encloses the
running code when its coroutine is further up

- in the same task: found in the frames below ours;
- in a task that waits for ours: the host of the anyio task group or trio nursery that ours runs in,
  *if that group was opened inside the walk*. A worker of a group that the caller had opened before
  is not waited for, and must not be taken for a deadlock. So the host's chain of awaits is followed
  downwards, and the group has to be held by a coroutine below the walk's: ``async with`` keeps the
  group's bound ``__aexit__`` on its frame, where ``gc.get_referents`` shows it, and while the group
  is closing, that method's own coroutine is in the chain, as is that of its ``start``;
- in the task that a ``thread=True`` callback left for a worker thread, which came back through
  ``anyio.from_thread.run``: a context variable remembers it, set around the hop alone.

What cannot be seen is not claimed: native asyncio tasks have no such parents.
"""

from __future__ import annotations

import gc
import sys
from contextlib import AsyncExitStack
from contextvars import ContextVar
from functools import cache
from threading import get_ident
from types import (
    AsyncGeneratorType,
    CoroutineType,
    FrameType,
    GeneratorType,
    MethodType,
)
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import ref

from .loops import running_loop
from .view import ALL_SYNC

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType

    from anyio import TaskInfo

    from .view import Snapshot

__all__ = [
    "HOP",
    "Hop",
    "blocked_tasks",
    "enclosing_walks",
    "own_walks",
    "thread_walks",
    "waits_for_us",
    "walks_below",
]


class Hop(NamedTuple):
    """A task whose ``thread=True`` callback is running in a worker thread."""

    host: TaskInfo
    outer: Hop | None
    """The hop in whose thread that task was started."""


HOP: ContextVar[Hop | None] = ContextVar("tocsin_thread_hop", default=None)
"""The innermost hop that led here, if any."""

_SUSPENDABLE: tuple[type[Any], ...] = (CoroutineType, AsyncGeneratorType, GeneratorType)


def own_walks(chain: object, codes: frozenset[CodeType]) -> Iterator[Snapshot]:
    """Give the snapshots of this chain's walks in the running task."""
    task, known = _current_task(), _numbers(codes)
    last = None if task is None else _frame_of(task.coro)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        items = _walked(frame, chain, known)
        if items is not None:
            yield items
        if frame is last:  # an eager task starts on top of another one's frames
            return
        frame = frame.f_back


def walks_below(chain: object, codes: frozenset[CodeType]) -> Iterator[Snapshot]:
    """Give the snapshots of this chain's all sync walks that the running code was called from.

    Whatever the task: an eager one, too, is called from another one's callback.
    """
    known = _numbers(codes)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        items = _walked(frame, chain, known)
        if items is not None and items.mode == ALL_SYNC:
            yield items
        frame = frame.f_back


def enclosing_walks(chain: object, codes: frozenset[CodeType]) -> Iterator[Snapshot]:
    """Give the snapshots of this chain's walks that cannot end before the running code goes on."""
    yield from own_walks(chain, codes)
    for parent, child in _parents():
        # Who holds the group is a longer question than whether a walk is there at all.
        if any(True for _ in _suspended_walks(parent, None, chain, codes)):
            holder = _holder(parent, child)
            if _is_waited_for(child, holder):
                yield from _suspended_walks(parent, holder, chain, codes)


def blocked_tasks(running: CodeType) -> Iterator[object]:
    """Give the coroutines of this task and of those that do nothing before it goes on.

    These wait for the thread that led here, or for a task group that ``running`` holds; who holds
    another group may well be doing something else in there.
    """
    yield getattr(_current_task(), "coro", None)
    for parent, child in _parents():
        holder = _holder(parent, child)
        if not _is_waited_for(child, holder):
            continue
        if holder is not None and not _is_held_by(running, parent, holder):
            return
        yield parent.coro


def _parents() -> Iterator[tuple[TaskInfo, TaskInfo]]:
    """Give the tasks that have ours in a group, or came here through a thread, innermost first.

    Each with the task that led to it.
    """
    child, hop = _current_task(), HOP.get()
    seen: set[int] = set()
    while child is not None and child.id not in seen:
        seen.add(child.id)
        parent = _parent_of(child)
        if parent is None and hop is not None and _came_from_a_thread(child):
            parent, hop = hop
        if parent is not None:
            yield parent, child
        child = parent


def _is_waited_for(child: TaskInfo, holder: object) -> bool:
    """Say whether the parent of a task waits for it: in a group that it holds, or for a thread."""
    return holder is not None or child.parent_id is None


def _parent_of(child: TaskInfo) -> TaskInfo | None:
    """Give the task that has this one in a group, looking through all tasks only if need be."""
    if child.parent_id is None:
        return None
    for host in _hosts(child):
        if id(host) == child.parent_id:
            made: TaskInfo = cast("Any", type(child))(host)
            return made
    from anyio import get_running_tasks

    return next((one for one in get_running_tasks() if one.id == child.parent_id), None)


def _hosts(child: TaskInfo) -> Iterator[object]:
    """Give the tasks that opened the group, or the cancel scopes, that a task runs in.

    There may be thousands of tasks and anyio tells the parent's number only, so this looks at what
    it keeps for itself. While a task is being started, its parent may be none of these.
    """
    task = _native(child)
    if hasattr(task, "parent_nursery"):  # on trio
        yield task.parent_nursery.parent_task
        return
    states: Any = getattr(sys.modules[type(child).__module__], "_task_states", {})
    scope = getattr(states.get(task), "cancel_scope", None)
    while scope is not None:
        yield getattr(scope, "_host_task", None)
        scope = getattr(scope, "_parent_scope", None)


def _native(task: TaskInfo) -> Any:
    """Give the task itself, on trio a proxy of it; ``None`` if anyio does not show it."""
    kept: Any = getattr(task, "_task", None)
    return cast("Any", kept()) if isinstance(kept, ref) else kept


def _is_held_by(code: CodeType, task: TaskInfo, holder: object) -> bool:
    """Say whether it is this code of a task that holds a group, or that waits in its exit."""
    awaits = list(_awaits(task.coro))
    place = next(index for index, one in enumerate(awaits) if one is holder)
    frames = map(_frame_of, awaits[max(place - 1, 0) : place + 1])
    return any(frame is not None and frame.f_code is code for frame in frames)


def _suspended_walks(
    task: TaskInfo, holder: object, chain: object, codes: frozenset[CodeType]
) -> Iterator[Snapshot]:
    """Give the snapshots of this chain's walks in a task, above the holder if there is one."""
    known = _numbers(codes)
    for suspended in _awaits(task.coro):
        if suspended is holder:
            return
        items = _walked(_frame_of(suspended), chain, known)
        if items is not None:
            yield items


def thread_walks(chain: object, codes: frozenset[CodeType]) -> dict[FrameType, int]:
    """Give the frames of this chain's sync walks in all threads, each with its thread's ident."""
    found: dict[FrameType, int] = {}
    known = _numbers(codes)
    frame: FrameType | None
    for ident, frame in sys._current_frames().items():
        while frame is not None:
            if id(frame.f_code) in known and frame.f_locals.get("self") is chain:
                found[frame] = ident
            frame = frame.f_back  # ends as None, so that no frame holds itself
    return found


def waits_for_us(walks: Mapping[FrameType, int]) -> bool:
    """Say whether one of these walks cannot end before the running code goes on.

    Because it is further down in this thread, or in one that waits in ``anyio.from_thread.run`` for
    what this code runs in.
    """
    threads = set(walks.values())
    if get_ident() in threads:
        return True
    called = _called_from_a_thread()
    return called is not None and any(_runs_from(ident, called) for ident in threads)


def _called_from_a_thread() -> object:
    """Give the function that a thread had this task run, if there is one."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_qualname
        if name.endswith("run_async_from_thread.<locals>.task_wrapper"):  # on asyncio
            return frame.f_locals.get("func")
        if name == "Run.unprotected_afn":  # on trio
            return getattr(frame.f_locals.get("self"), "afn", None)
        frame = frame.f_back
    return None


def _runs_from(ident: int, called: object) -> bool:
    """Say whether a thread waits for that very function to return."""
    frame = sys._current_frames().get(ident)
    while frame is not None:
        name = frame.f_code.co_name
        if name == "run_async_from_thread" and frame.f_locals.get("func") is called:
            return True
        frame = frame.f_back
    return False


def _current_task() -> TaskInfo | None:
    if running_loop() is None:
        return None
    from anyio import get_current_task

    try:
        return get_current_task()
    except (RuntimeError, TypeError):  # a callback of the loop itself; TypeError: anyio 4.11
        return None


def _came_from_a_thread(task: TaskInfo) -> bool:
    """Say whether a thread waits for this task, in `from_thread.run` on asyncio."""
    name = getattr(task.coro, "__qualname__", "")
    return bool(name.endswith("run_async_from_thread.<locals>.task_wrapper"))


@cache
def _numbers(codes: frozenset[CodeType]) -> frozenset[int]:
    """Give what code objects are known by; to hash one takes as long as all else about a frame."""
    return frozenset(map(id, codes))


def _walked(frame: FrameType | None, chain: object, known: frozenset[int]) -> Snapshot | None:
    """Give the snapshot that a frame walks, if it is a walk of the chain that has begun."""
    if frame is None or id(frame.f_code) not in known or frame.f_locals.get("self") is not chain:
        return None
    items: Snapshot | None = frame.f_locals.get("items")
    return items


def _frame_of(suspended: object) -> FrameType | None:
    for name in ("cr_frame", "ag_frame", "gi_frame"):
        frame = getattr(suspended, name, None)
        if frame is not None:
            return frame  # type: ignore[no-any-return]
    return None


def _awaits(coro: object) -> Iterator[Any]:
    """Follow a suspended task's chain of awaits, outermost first."""
    while coro is not None:
        yield coro
        inner: Any = None
        for name in ("cr_await", "ag_await", "gi_yieldfrom"):
            inner = inner or getattr(coro, name, None)
        if inner is not None and not isinstance(inner, _SUSPENDABLE):
            # An opaque step, such as the asend() of an async generator: look through it.
            found = gc.get_referents(inner)
            inner = next((one for one in found if isinstance(one, _SUSPENDABLE)), None)
        coro = inner


def _holder(parent: TaskInfo, child: TaskInfo) -> Any:
    """Give the coroutine of ``parent`` that holds the group in which ``child`` runs."""
    holder = None
    for suspended in _awaits(parent.coro):
        if _starts(suspended, child):
            return suspended
        if holder is None and any(_runs(group, child) for group in _groups_of(suspended)):
            holder = suspended
    return holder


def _starts(suspended: object, child: TaskInfo) -> bool:
    """Say whether this is the ``start`` of a group, on asyncio, that waits for ``child``."""
    frame = _frame_of(suspended)
    if frame is None or frame.f_code.co_name != "start":
        return False
    done = getattr(frame.f_locals.get("future"), "done", None)
    return done is not None and _runs(frame.f_locals.get("self"), child) and not done()


def _groups_of(suspended: Any) -> Iterator[Any]:
    """Give the async context managers that a suspended coroutine is inside of.

    An exit stack counts also where only a variable holds it, and what a manager of the user's own
    keeps in its attributes counts as entered by it.
    """
    frame = _frame_of(suspended)
    if frame is not None and frame.f_code.co_name == "__aexit__":
        yield from _within(frame.f_locals.get("self"))
    for one in gc.get_referents(suspended):
        if isinstance(one, MethodType) and one.__name__ == "__aexit__":
            yield from _within(one.__self__)
        elif isinstance(one, AsyncExitStack):
            yield from _within(one)


def _within(manager: Any) -> Iterator[Any]:
    """Give a context manager, and those that it has entered on somebody's behalf."""
    yield manager
    yield from getattr(manager, "__dict__", {}).values()
    generator = getattr(manager, "gen", None)
    if isinstance(generator, AsyncGeneratorType):
        yield from _groups_of(generator)
    for _, leave in getattr(manager, "_exit_callbacks", ()):  # an AsyncExitStack
        if isinstance(leave, MethodType):
            yield from _within(leave.__self__)


def _runs(group: Any, child: TaskInfo) -> bool:
    """Say whether something is a task group or nursery, or the manager of one, with this task."""
    if type(group).__module__.partition(".")[0] not in ("anyio", "trio"):
        return False
    nursery, task = getattr(group, "_nursery", group), _native(child)
    if hasattr(task, "parent_nursery"):
        return task.parent_nursery is nursery
    return task in getattr(nursery, "_tasks", ())
