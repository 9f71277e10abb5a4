"""What happens to pools when a process forks or ends, and to one that is shut down.

Fork: the child's pools start empty. Exit, and ``shutdown``: pending work may run for a while, then
what is left is named in the log and its futures resolve, so that nothing is lost without a word.
Nothing of it runs in the thread that waits; the worker threads are daemons, so one that hangs is
left behind.
"""

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Protocol, cast

from tsignals._base import process
from tsignals._base.interrupts import apply_to_all, raised_by
from tsignals._base.log import log_safely
from tsignals._base.timeouts import left_until, seconds
from tsignals._pool import cycles, draining
from tsignals._pool.core import Core
from tsignals._pool.drops import log_left
from tsignals._pool.state import Mode
from tsignals._pool.task import Task

MOMENT = 0.1
"""Seconds that threads which have nothing more to do get at exit to be gone."""

_cores: "dict[int, _CoreRef]" = {}
_ended: list[bool] = []  # not empty once this process has ended its pools
_hooked_in: list[int] = []  # the process ids in which multiprocessing's own exit hook was set


class HasCore(Protocol):
    """A ``WorkerPool``."""

    _core: Core


class _CoreRef(weakref.ref[Core]):
    __slots__ = ("at_exit", "key")
    key: int
    at_exit: bool  # whether it is waited for there


def register(pool: HasCore, at_exit: bool = True) -> None:
    """Include the core of ``pool`` in what is done at fork, at exit, and when ``pool`` is gone."""
    core = pool._core
    core.backlog.attend(pool)
    ref = _CoreRef(core, _forget)
    ref.key, ref.at_exit = id(ref), at_exit
    _cores[ref.key] = ref
    if _ended:
        core.backlog.attend_no_more()
        core.lose("the process has ended")
    hook_multiprocessing()


def _forget(ref: weakref.ref[Core]) -> None:
    _cores.pop(cast(_CoreRef, ref).key, None)


def cores(at_exit: bool = False) -> list[Core]:
    """The cores in use; ``at_exit``: those that are waited for there."""
    refs = [ref for ref in list(_cores.values()) if ref.at_exit or not at_exit]
    return [core for ref in refs if (core := ref()) is not None]


def hook_multiprocessing() -> None:
    """In a child of ``multiprocessing``, which ends without atexit, use its own way."""
    # Another thread may just import it, and have it half: no child of it does so as late as here.
    parent = getattr(sys.modules.get("multiprocessing.process"), "parent_process", None)
    if parent is None or parent() is None or os.getpid() in _hooked_in:
        return
    from multiprocessing import util

    _hooked_in.append(os.getpid())
    util.Finalize(None, finish, exitpriority=100)


def budget() -> float:
    """Seconds that pending work may take at exit: ``TSIGNALS_EXIT_SECONDS``, default 10."""
    said = os.environ.get("TSIGNALS_EXIT_SECONDS", "10")
    try:
        left = seconds(float(said))
        return threading.TIMEOUT_MAX if left is None else max(0.0, left)
    except ValueError:
        log_safely(
            logging.WARNING,
            "TSIGNALS_EXIT_SECONDS is not a number of seconds, but %r; pools get 10 to finish",
            said,
        )
        return 10.0


def finish() -> None:
    """At exit: give all open pools together ``budget()`` seconds, then lose what is left."""
    if not process.page[0]:
        process.notice()
    deadline = time.monotonic() + budget()
    try:
        _await_all(deadline)
    finally:  # interrupted, too
        try:
            _lose_all()
        finally:
            for core in cores():
                core.backlog.attend_no_more()
    _join_idle(time.monotonic() + MOMENT)


def _await_all(deadline: float) -> None:
    # A delivery stays among the unresolved until its callbacks have run.
    while busy := [core for core in cores(at_exit=True) if _is_busy(core)]:
        for core in busy:
            draining.drain(core, max(0.0, deadline - time.monotonic()))
        if time.monotonic() >= deadline:
            break
        time.sleep(0.001)  # nobody announces the end of a callback


def _is_busy(core: Core) -> bool:
    """Whether there is anything to wait for; what was left behind already is not."""
    now = core.state.value
    if now.mode is Mode.CLOSED and core.terminal_error is not None:
        return False
    return bool(core.backlog.unresolved) or not now.quiet


def _lose_all() -> None:
    _ended.append(True)
    why = "the process ended before it could run, or run again"
    for core in cores(at_exit=True):
        # Nobody could take it.
        if (error := raised_by(core.lose, why)) is not None:
            core.log_callback(error)
        left = [*core.drops.take_lost(), *_still_running(core)]
        fate = "were queued or still running; they are lost"
        log_left(core.config.name, "exit", left, fate)


def _join_idle(deadline: float) -> None:
    """Let threads go that have nothing more to do: one that is stopped keeps what locks it has."""
    for core in cores(at_exit=True):
        if core.state.value.quiet:
            for thread in core.all_threads():
                thread.join(left_until(deadline))


def _still_running(core: Core) -> list[Task]:
    return [task for task in core.backlog.unfinished() if _counts_as_running(core, task)]


def _counts_as_running(core: Core, task: Task) -> bool:
    if core.sender_of(task) is not None:
        return True
    claim = task._claimed_by
    return claim is not None and claim[0] == "run"


def await_end(
    core: Core,
    threads: Iterable[threading.Thread],
    deadline: float | None,
    _ending: Callable[[], bool] = sys.is_finalizing,  # bound now: see drain
) -> None:
    """Wait until ``core``, which takes no more, has done all its work and its threads have ended.

    ``deadline``: until then; what is left is lost, or goes on without anybody waiting for it.
    """
    if _ending():
        return  # they are stopped where they are; what was left was lost and named at exit
    if draining.drain(core, left_until(deadline)):
        for thread in {*threads, *core.all_threads()}:
            thread.join(left_until(deadline))
    elif not core.abandoned:  # else forked meanwhile, and here is the child
        try:
            apply_to_all(core.lose, ["its pool was shut down before it could run, or run again"])
        finally:  # interrupted, too
            name, lost = core.config.name, core.drops.take_lost()
            log_left(name, "shutdown", lost, "had not started in time; they are lost")
            log_left(name, "shutdown", _still_running(core), "still run; they are left behind")
        core.state.raise_interrupt()


def open_pools() -> list[object]:
    """The pools that are open, the oldest first."""
    refs = [core.backlog.pool_ref for core in cores() if core.state.value.mode is Mode.OPEN]
    return [pool for ref in refs if ref is not None and (pool := ref()) is not None]


def _after_fork() -> None:
    cycles.forget_all()
    lost = [(core, ref.at_exit) for ref in list(_cores.values()) if (core := ref()) is not None]
    _cores.clear()
    for core, at_exit in lost:
        pool_ref = core.backlog.pool_ref
        pool = None if pool_ref is None else cast(HasCore | None, pool_ref())
        if pool is not None:
            pool._core = Core(core.config, core.state.value.mode)
            register(pool, at_exit)
        core.abandon()
    # A child of multiprocessing first forgets what its parent has hooked in, then calls this.
    register_hook = getattr(sys.modules.get("multiprocessing.util"), "register_after_fork", None)
    if register_hook is not None:
        register_hook(hook_multiprocessing, lambda hook: hook())


atexit.register(finish)
process.in_child(_after_fork)
