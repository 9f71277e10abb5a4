"""What a pool does later: who waits for the next attempt, and the thread that knows when.

Lock
    None. Who has something for the timer puts it into ``_inbox``, which also wakes the thread. All
    else is that thread's own: the heap, and the end of each pause.

Life
    The thread starts before the first pause begins; where none can be started at exit, when the
    first delivery comes that may be run again. Of several that start at once, the first in
    ``threads`` counts. It ends when the pool takes no more work and nothing is pending or running.
    In a forked child there is none, until that has a pause of its own.

A delivery in the heap is not the timer's: it may be ended meanwhile, by whoever claims it. Its
alarm stays there until it would be due, or until there are more of those than of all others.
"""

import contextlib
import heapq
import itertools
import logging
import queue
import sys
import threading
import time
import weakref
from time import perf_counter
from typing import Protocol, cast

from tsignals._base.inbox import Inbox
from tsignals._base.interrupts import critical, raised_by, undisturbed
from tsignals._base.log import log_in_thread
from tsignals._base.process import empty_context
from tsignals._base.retry import Pause
from tsignals._pool.attempt import Counting
from tsignals._pool.pauses import Claims, fall_due, is_in
from tsignals._pool.seam import TaskLike
from tsignals._pool.state import FALL_DUE
from tsignals._pool.task import Entry

THREADS_START_AT_EXIT = sys.version_info[:2] != (3, 12)
"""Whether a thread can still be started while the interpreter ends."""

LONGEST = 3600.0
"""Seconds that the thread sleeps at a time: more than some platforms can wait is no matter then."""


class Paused(TaskLike, Protocol):
    """A delivery that may be run again; see ``pauses``."""

    _claims: Claims

    def _mind_gate(self) -> None:
        """It waits again: have its gate cancel it, if that closes or has been closed."""

    def _cancel_unstarted(self) -> bool:
        """Cancel it, unless it runs."""
        ...

    def _wake_waiters(self) -> None:
        """Have those who sleep until it is done look again."""


class Resuming(Counting, Protocol):
    """A pool, as its timer sees it."""

    def try_terminate(self) -> None:
        """Where the pool closes, and nothing is left for them now, end its threads."""


Alarm = tuple[float, int, "weakref.ref[Paused]", Pause]
"""When it is due; a number that no other has; the delivery, and its pause.

Weakly: while it waits, it is among what is unresolved (``backlog`` E3). Once it has ended, nothing
of it is kept until it would have been due.
"""

_numbers = itertools.count()


class Timer:
    """The pauses of one pool."""

    __slots__ = ("_heap", "_inbox", "_stale", "is_closed", "threads")

    def __init__(self) -> None:
        # What to wait for; None: something has ended, what is in the heap or all of the pool.
        self._inbox: Inbox[Alarm | None] = Inbox()
        self._heap: list[Alarm] = []  # of the thread
        self._stale = 0  # at most so many in there have ended; of the thread
        self.threads: list[threading.Thread] = []  # the first counts
        self.is_closed = False  # what waits was cancelled: there are no more pauses

    def be_ready(self, core: Resuming) -> None:
        """What was accepted may be run again: start now what could not be started at exit."""
        if not THREADS_START_AT_EXIT:
            with contextlib.suppress(RuntimeError):  # there are too many: perhaps not later
                self.start(core)

    def start(self, core: Resuming) -> None:
        """Start the thread if there is none. Raises ``RuntimeError`` where none can be started."""
        if not self.threads:
            thread = threading.Thread(
                target=self._run,
                args=(core,),
                name=f"{core.config.name}_timer",
                daemon=True,
                **empty_context(),
            )
            undisturbed(self._await_start, thread)

    def _await_start(self, thread: threading.Thread) -> None:
        """Start ``thread``, and return when it can be found."""
        thread.start()
        while not self.threads:
            time.sleep(0.0001)

    def begin(self, core: Counting, task: TaskLike, pause: Pause) -> None:
        """Have ``task`` run again when ``pause``, which has begun, is over; twice does no harm."""
        if core.abandoned:
            return
        paused = cast(Paused, task)
        self._inbox.put((pause.due, next(_numbers), weakref.ref(paused), pause))
        paused._mind_gate()
        if self.is_closed:  # who has closed it, and then cancelled what waits, saw this running
            paused._cancel_unstarted()
        core.fail_pending()  # E3 in backlog: who has said that nothing will run it saw it running
        core.drops.log_now_and_then()  # and may have named neither it nor what has come since

    def look(self) -> None:
        """Something in here has ended, or all of the pool; once too often does no harm."""
        if self.threads:
            self._inbox.put(None)

    # -- The thread --

    @critical  # a finalizer that waited here would keep back what waits for its next attempt
    def _run(self, core: Resuming) -> None:
        self.threads.append(threading.current_thread())
        if self.threads[0] is not threading.current_thread():
            return
        core.try_terminate()  # it may have been closed before this thread could be found
        while not core.abandoned:
            self._resume_due(core)
            try:
                came = self._inbox.get(timeout=self._left())
            except queue.Empty:
                continue
            if came is not None:
                heapq.heappush(self._heap, came)
            elif (state := core.state.value).mode and state.quiet:
                return
            else:
                self._stale += 1
                self._sweep()
            del came  # a thread that waits keeps nothing alive

    def _left(self) -> float | None:
        """Seconds until the next one is due; ``None``: there is none."""
        if not self._heap:
            return None
        return max(0.0, min(LONGEST, self._heap[0][0] - perf_counter()))

    def _resume_due(self, core: Resuming) -> None:
        heap, now = self._heap, perf_counter()
        while heap and heap[0][0] <= now:
            _, _, reference, pause = heapq.heappop(heap)
            error = None
            if (task := reference()) is not None:
                error = raised_by(resume, core, task, pause)
            if error is not None:
                message = "the timer of pool %r was interrupted"
                log_in_thread(logging.ERROR, message, core.config.name, exc_info=error)
            del task, error

    def _sweep(self) -> None:
        """Take out what has ended, if it is most of what is in there."""
        if self._stale >= 64 and 2 * self._stale > len(self._heap):
            self._heap = [alarm for alarm in self._heap if _waits(alarm[2]())]
            heapq.heapify(self._heap)
            self._stale = 0


def _waits(task: Paused | None) -> bool:
    return task is not None and not task.done()


def resume(core: Resuming, task: Paused, pause: Pause) -> None:
    """The pause is over: queue ``task``, unless it has ended. Only the timer does this."""
    claims = task._claims
    if not is_in(claims, pause):
        return  # it has ended, or comes here a second time
    change = 0 if task._on_loop else FALL_DUE
    if change:
        core.count(change)
    if not fall_due(claims, pause):
        if change:
            core.count(-change)
        return
    core.backlog.requeue(cast(Entry, task))
    task._wake_waiters()  # workers that wait for it run it, where all do that
    try:
        core.add_workers()
    except RuntimeError:
        pass  # no thread can be started, and so it was ended
