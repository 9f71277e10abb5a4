"""Threads on which ``asend`` calls sync receivers: as many as are needed, none of them any pool's.

Lock
    None. A thread that has nothing to do stands in ``_idle``; who takes it out (``popitem``) has
    it, and puts work into its inbox. An idle one leaves after ``PATIENCE`` by taking itself out;
    if somebody else came first, there will be work, and it stays.
"""

import itertools
import queue
import threading
from collections.abc import Callable

from tsignals._base import process
from tsignals._base.inbox import Inbox
from tsignals._base.interrupts import undisturbed

PATIENCE = 1.0
"""Seconds that a thread waits for more work."""

Work = tuple[Callable[[], object], Callable[[], object]]

_numbers = itertools.count()
_idle: "dict[_CachedThread, None]" = {}


class _CachedThread(threading.Thread):
    def __init__(self) -> None:
        super().__init__(
            name=f"tsignals-asend_{next(_numbers)}",
            # A subinterpreter that ends with a daemon thread still there aborts the process.
            daemon=process.in_main_interpreter(),
            **process.empty_context(),
        )
        self.inbox: Inbox[Work] = Inbox()

    def run(self) -> None:
        idle = _idle
        while True:
            try:
                work, done = self.inbox.get(timeout=PATIENCE)
            except queue.Empty:
                if idle.pop(self, self) is None:
                    return
                continue
            work()
            if idle is not _idle:
                return  # this is a forked child: who waits for that is in the parent
            if not self.daemon:
                done()
                return  # the interpreter may end, and would have to wait
            # Idle before it says so: what comes next should find this thread, not start another.
            idle[self] = None
            done()
            del work, done


def run(work: Callable[[], object], done: Callable[[], object]) -> None:
    """Have ``work()`` and then ``done()`` called on another thread; neither may raise.

    Raises ``RuntimeError`` when no thread can be started.
    """
    if not process.page[0]:
        process.notice()
    idle = _idle
    taken: list[tuple[_CachedThread, None]] = []
    given: list[None] = []
    try:
        # One step each, what it gives included: an interrupt finds out how far this has come.
        taken += itertools.starmap(idle.popitem, [()])
        given += map(taken[0][0].inbox.put, [(work, done)])
    except KeyError:
        if taken:
            raise  # a handler's
        thread = _CachedThread()
        thread.inbox.put((work, done))  # first: it may start though starting it is interrupted
        undisturbed(thread.start)
    finally:
        if taken and not given:
            idle[taken[0][0]] = None  # or it would wait for ever for what nobody gives it


def _after_fork() -> None:
    global _idle
    _idle = {}


process.in_child(_after_fork)
