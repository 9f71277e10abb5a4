"""What happens to pools when a process forks or ends.

Fork: the child's pools start empty. Exit: pending work may run for a while, then what is left is
named in the log and its futures resolve, so that nothing is lost without a word. Nothing of it
runs in the exiting thread; the worker threads are daemons, so one that hangs is left behind.
"""

import atexit
import collections
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from typing import Any

from tsignals import _process
from tsignals._definition import name_of
from tsignals._telling import log_safely, name_signal
from tsignals._timeouts import seconds

_engines: "dict[int, weakref.ref[Any]]" = {}
_ended: list[bool] = []  # not empty once this process has ended its pools
_hooked_in: list[int] = []  # the process ids in which multiprocessing's own exit hook was set


class _Watch(weakref.ref[Any]):
    __slots__ = ("key",)
    key: int


def watch(engine: Any) -> None:
    """Include ``engine`` in what is done at fork and exit."""
    if not _process.page[0]:
        _process.notice()  # first: what is made here is not made anew
    watch = _Watch(engine, _forget)
    watch.key = id(watch)
    _engines[watch.key] = watch
    if _ended:
        engine.lose("the process has ended")
    hook_multiprocessing()


def _forget(watch: Any) -> None:
    _engines.pop(watch.key, None)


def engines() -> list[Any]:
    """The engines in use."""
    return [engine for ref in list(_engines.values()) if (engine := ref()) is not None]


def hook_multiprocessing() -> None:
    """In a child of ``multiprocessing``, which ends without atexit, use its own way."""
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or os.getpid() in _hooked_in:
        return
    from multiprocessing import util

    _hooked_in.append(os.getpid())
    util.Finalize(None, finish, exitpriority=100)


def budget() -> float:
    """Seconds that pending work may take at exit: ``TSIGNALS_EXIT_SECONDS``, default 10."""
    try:
        left = seconds(float(os.environ.get("TSIGNALS_EXIT_SECONDS", "10")))
        return threading.TIMEOUT_MAX if left is None else max(0.0, left)
    except ValueError:
        log_safely(
            logging.WARNING,
            "TSIGNALS_EXIT_SECONDS is not a number; pools get 10 seconds to finish",
        )
        return 10.0


def finish() -> None:
    """At exit: give all open pools together ``budget()`` seconds, then lose what is left."""
    if not _process.page[0]:
        _process.notice()
    deadline = time.monotonic() + budget()
    try:
        # A delivery stays among the unresolved until its callbacks have run.
        while busy := [e for e in engines() if e.unresolved or not e.cell.value.quiet]:
            for engine in busy:
                engine.drain(max(0.0, deadline - time.monotonic()))
            if time.monotonic() >= deadline:
                break
            time.sleep(0.001)  # nobody announces the end of a callback
    finally:  # interrupted, too
        _lose_all()


def _lose_all() -> None:
    _ended.append(True)
    for engine in engines():
        log_lost(engine.name, "exit", engine.lose("the process ended before it could run"))


def log_lost(pool: str, when: str, works: Iterable[Any]) -> None:
    """Log what is lost ``when``: a line for each receiver of each signal, with the number."""
    counts = collections.Counter(_name(work) for work in works)
    for name, count in sorted(counts.items()):
        log_safely(
            logging.ERROR,
            "pool %r: at %s %d deliveries of %s were queued or still running; they are lost",
            pool,
            when,
            count,
            name,
        )


def _name(work: Any) -> str:
    if not hasattr(work, "signal"):
        return "submit()"
    return f"{name_signal(work.signal)} to {name_of(work.receiver)}"


def _after_fork() -> None:
    for engine in engines():
        engine.restart()
    # A child of multiprocessing first forgets what its parent has hooked in, then calls this.
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.register_after_fork(hook_multiprocessing, lambda hook: hook())


atexit.register(finish)
_process.in_child(_after_fork)
