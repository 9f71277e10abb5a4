"""What happens when a queue is full: the policies, and running deliveries where they were sent."""

import contextlib
import functools
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures.thread import BrokenThreadPool

from tsignals._base.errors import DeliveryDropped, PoolClosed, QueueFull
from tsignals._base.event_loops import loop_runs_here
from tsignals._base.inbox import Inbox
from tsignals._base.interrupts import apply_to_all, foreign, refuse_if_critical, refuse_if_deep
from tsignals._base.log import came_by_signal
from tsignals._base.timeouts import deadline_in, left_until
from tsignals._pool import state, waiting
from tsignals._pool.admission import put_back, take, tasks_of
from tsignals._pool.attempt import Attempt
from tsignals._pool.backlog import InSender
from tsignals._pool.core import Core
from tsignals._pool.state import FINISH, Blocked, Mode
from tsignals._pool.task import Entry, Task, admitted_by

_MOMENTS = [0.0] * 10 + [0.001] * 50
"""Seconds that a sender gives another thread to finish its step, before it drops what is new."""


def accept(core: Core, entries: Sequence[Entry], deep: bool = False) -> None:
    """Take ``entries`` as a whole, or raise and take none of them.

    ``deep``: some are ordered, or for the event loop; to queue these goes deeper. Raises
    ``PoolClosed``, ``BrokenThreadPool``, ``QueueFull``, and ``RuntimeError`` when no thread can be
    started to run them.
    """
    if deep:
        refuse_if_deep()
    take(core, entries, admitted_by(entries), find_room)
    if core.drops.dropped or core.drops.lost:
        core.drops.log_now_and_then()


def find_room(core: Core, entries: Sequence[Entry], admitted: int) -> bool:
    """Admit ``entries``; False where they are dealt with otherwise: run here, or dropped."""
    policy = core.config.overflow
    count = admitted & state.MASK
    while not core.state.admit(admitted, count):
        refuse_if_deep()
        refuse_if_not_open(core)
        if policy == "block" and not core.works_here():
            if await_room(core, admitted):
                return True
        elif policy == "raise":
            raise _refusal(
                core,
                count,
                f"cannot deliver: pool {core.config.name!r} has no room for {count} more "
                f"(max_pending={core.config.max_pending})",
            )
        elif policy in ("block", "caller_runs"):
            run_here(core, entries)
            return False
        elif policy == "drop_newest" or not _make_room(core, count):
            drop(core, tasks_of(entries))
            return False
    return True


def _refusal(core: Core, count: int, why: str) -> QueueFull:
    """What to raise where ``count`` deliveries find no room; they are counted as refused."""
    core.count(count * state.REFUSED)
    return QueueFull(f"{why}; nothing was queued")


def refuse_if_not_open(core: Core) -> None:
    """Raise where the pool takes no more."""
    mode = core.state.value.mode
    if mode is Mode.BROKEN:
        name = core.config.name
        raise BrokenThreadPool(
            f"cannot deliver: the initializer of pool {name!r} failed, as was logged; make another "
            "pool"
        )
    if mode:
        raise PoolClosed(
            f"cannot deliver in the background: pool {core.config.name!r} is closed; use another "
            "executor, or send() to call receivers here"
        )


# -- block --


def await_room(core: Core, admitted: int) -> bool:
    """Wait for room until admitted; False where there was no need to wait."""
    config = core.config
    if loop_runs_here():
        raise _refusal(
            core,
            admitted & state.MASK,
            f"cannot deliver: pool {config.name!r} has no room (max_pending={config.max_pending}), "
            "and a thread that runs an event loop cannot wait for it",
        )
    refuse_if_critical("a full queue", below=take)
    woken: Inbox[None] = Inbox()
    blocked = Blocked(admitted, functools.partial(woken.put, None))
    deadline = deadline_in(config.block_timeout)
    in_line = None
    try:
        in_line = core.state.update(state.block, blocked, config.max_pending)
        if in_line is None:
            return False
        while not core.abandoned:  # forked meanwhile
            core.state.raise_interrupt()
            now = core.state.value
            left = left_until(deadline)
            if blocked in now.blocked and not now.mode and left != 0:
                with contextlib.suppress(queue.Empty):
                    woken.get(timeout=left)
                continue
            if core.state.update(state.unblock, blocked, config.max_pending) is None:
                break  # admitted, perhaps at the last moment
            in_line = None
            refuse_if_not_open(core)
            raise _refusal(
                core,
                blocked.count,
                f"cannot deliver: pool {config.name!r} had no room for "
                f"{config.block_timeout} seconds (max_pending={config.max_pending})",
            )
        in_line = None
        return True
    finally:
        if in_line is not None:  # interrupted
            _leave_line(core, blocked)


def _leave_line(core: Core, blocked: Blocked) -> None:
    """Wait no more for room; what was admitted meanwhile is taken back."""
    limit = core.config.max_pending
    if core.state.update(state.unblock, blocked, limit) is None:
        core.state.update(state.withdraw, blocked.admitted, limit)


# -- drop_newest, drop_oldest --


def drop(core: Core, tasks: list[Task]) -> None:
    """Resolve ``tasks``, which come now, as dropped: all, or none where it is interrupted first."""
    apply_to_all(lambda task: core.end_uncounted(task, "dropped", _dropped(core)), tasks)
    core.drops.add(len(tasks))


def _make_room(core: Core, count: int) -> bool:
    """Drop the oldest that waits; False where that can give no room."""
    if not core.state.value.may_fit(count, core.config.max_pending):
        return False
    return drop_oldest(core) or _comes_free(core, count)


def drop_oldest(core: Core) -> bool:
    """Drop the oldest delivery that waits; False when none does."""
    while (task := core.backlog.oldest()) is not None:
        if task._end("dropped", _dropped(core)):
            core.drops.add(1)
            return True
    return False


def _comes_free(core: Core, count: int) -> bool:
    """Whether there is room, or something to drop, where there was neither a moment ago.

    Then another thread is between two steps with what has the room: it has counted that and is
    about to queue it, or has taken it and is about to count that.
    """
    try:
        refuse_if_critical("a full queue", below=take)
    except RuntimeError:
        return False  # it may be this thread
    for pause in _MOMENTS:
        if core.state.value.fits(count, core.config.max_pending):
            return True
        if core.backlog.oldest() is not None:
            return True
        time.sleep(pause)
    return False


def _dropped(core: Core) -> DeliveryDropped:
    config = core.config
    return DeliveryDropped(
        f"pool {config.name!r} was full (max_pending={config.max_pending}, "
        f"overflow={config.overflow!r})"
    )


# -- caller_runs --


@foreign
def run_here(core: Core, entries: Sequence[Entry]) -> None:
    """Run ``entries`` in the calling thread, which is a worker of this pool meanwhile.

    Async ones run on the pool's event loop all the same, and the thread waits for them.
    """
    tasks = tasks_of(entries)
    if tasks[-1]._on_loop and loop_runs_here():
        raise _refusal(
            core,
            len(tasks),
            f"cannot wait for async receivers, for which pool {core.config.name!r} has no room, "
            "on a thread that runs an event loop",
        )
    me = threading.get_ident()
    guest = me not in core.crew.idents
    refuse_if_deep()
    started: state.State | None = None
    all_here = InSender(tasks, me)
    try:
        core.crew.idents[me] = None  # before the start is counted: no handler may wait for its end
        # As a whole, or a pool that is closed meanwhile would end before the last has run.
        started = _start_here(core, len(tasks))
        core.backlog.in_senders[all_here] = None  # before they are found
        core.remember(all_here)
        _run_each_here(core, tasks)
    finally:
        try:
            if started is not None and not core.abandoned:
                _leave_to_workers(core, tasks)  # interrupted: the rest
        finally:
            try:  # each in one step in C: an interrupt comes after it
                if guest:
                    core.crew.idents.pop(me, None)
            finally:
                try:
                    core.backlog.unresolved.pop(all_here, None)
                finally:
                    core.backlog.in_senders.pop(all_here, None)
                    _wake_waiters(tasks)


# Loops, each by itself: see interrupts.


def _start_here(core: Core, count: int) -> state.State:
    while (started := core.state.update(state.start_here, count)) is None:
        refuse_if_not_open(core)
    return started


def _run_each_here(core: Core, tasks: Sequence[Task]) -> None:
    for task in tasks:
        if core.abandoned:
            return  # forked meanwhile
        _run_one_here(core, task)
        if task.done() and issubclass(type(task._exception), KeyboardInterrupt):
            raise task._exception  # type: ignore[misc]


def _wake_waiters(tasks: Sequence[Task]) -> None:
    for task in tasks:
        if not task.done():
            task._wake_waiters()  # workers that wait for it may run it now


def _run_one_here(core: Core, task: Task) -> None:
    """Run ``task``, which is counted as running; an ordered one in its turn.

    Where that waits for this thread, it is left to the workers.
    """
    if task._ordered_by is None:
        attempt = Attempt(core, task, ("run", threading.get_ident()))
        attempt.counted = True
        attempt.carry_out()
        return
    put_back(core, [task], admitted_by([task]))
    task._release_hold()  # or this thread would wait for itself
    try:
        waiting.await_done(task, None)
    except RuntimeError as error:
        if came_by_signal(error):
            raise


def _leave_to_workers(core: Core, tasks: Sequence[Task]) -> None:
    """Queue what was to run here and did not; what nobody can run either ends with the reason."""
    rest = [task for task in tasks if not core.backlog.was_admitted(task)]
    if not rest:
        return
    try:
        put_back(core, rest, admitted_by(rest))
    except RuntimeError as error:  # no thread can be started
        message, change = str(error), FINISH["failed"]  # its frames know what would have it
        apply_to_all(
            lambda task: core.end_uncounted(task, "failed", RuntimeError(message), change), rest
        )
