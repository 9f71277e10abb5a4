"""Threads on which ``asend`` calls sync receivers: as many as are needed, none of them any pool's.

Lock
    None. A thread that has nothing to do stands in ``_idle``; who takes it out (``popitem``) has
    it, and puts work into its inbox. An idle one leaves after ``PATIENCE`` by taking itself out;
    if somebody else came first, there will be work, and it stays.
"""

import itertools
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeGuard, TypeVar

from tsignals._base import process
from tsignals._base.inbox import Inbox
from tsignals._base.interrupts import undisturbed

PATIENCE = 1.0
"""Seconds that a thread waits for more work."""

R = TypeVar("R")
Work = tuple[Callable[[], object], Callable[[], object]]

SyncRunner = Callable[[Callable[[], None]], Awaitable[object]]

sync_runner: "list[SyncRunner | None]" = [None]
"""What runs the sync receivers of ``asend`` in place of these threads, if anything does."""

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


def set_sync_runner(runner: SyncRunner | None) -> SyncRunner | None:
    """Have ``await runner(call)`` run the sync receivers of every ``asend`` and ``asend_robust``.

    For frameworks that bind a request to a thread. ``call`` takes no arguments and returns None;
    the runner calls it once, on a thread of its choice that may be blocked. With asgiref, as
    Django's own ``asend`` has it: ``lambda call: sync_to_async(call, thread_sensitive=True)()``.
    The receivers see the sender's context variables, and those that they set are set for the
    sender, whether the runner sees to that or not. ``call`` raises nothing: what receivers raise,
    ``asend`` raises. A further call does nothing; nor does one after the runner has ended, which
    is a ``RuntimeError`` of the ``asend`` if it never called. What the runner raises, ``asend``
    raises, once the receiver that runs has ended.

    A runner may have a method ``run_async(function)`` too. Then ``send`` and ``send_robust`` call
    that to run their async receivers, and so does a delivery in an executor that is no
    ``WorkerPool``. It awaits ``function()`` to its end, in a context that shows the sender's
    variables, sets what was set there for the sender, and returns what it gives.

    ``None``: threads of tsignals, again. Returns the former one. Raises ``TypeError`` for what is
    not callable, and then changes nothing.

    Thread safety: from any thread; sends that have begun keep the former one.
    """
    if runner is not None and not callable(runner):
        raise TypeError(f"a sync runner must be callable or None, not {type(runner).__name__!r}")
    former, sync_runner[0] = sync_runner[0], runner
    return former


class AsyncRunner(Protocol):
    """A sync runner that runs async receivers, too, for senders that are none."""

    def run_async(self, function: Callable[[], Awaitable[R]], /) -> R: ...


def async_runner() -> AsyncRunner | None:
    """The sync runner, if it is such a one."""
    runner = sync_runner[0]
    return runner if _runs_async(runner) else None


def _runs_async(runner: object) -> TypeGuard[AsyncRunner]:
    return hasattr(type(runner), "run_async")  # by its type: a Mock has every attribute


def _after_fork() -> None:
    global _idle
    _idle = {}


process.in_child(_after_fork)
