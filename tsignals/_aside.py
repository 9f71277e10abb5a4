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
from typing import Any

from tsignals import _process

PATIENCE = 1.0
"""Seconds that a thread waits for more work."""

Task = tuple[Callable[[], object], Callable[[], object]]

SyncRunner = Callable[[Callable[[], None]], Awaitable[object]]

sync_runner: "list[SyncRunner | None]" = [None]
"""What runs the sync receivers of ``asend`` in place of these threads, if anything does."""

_numbers = itertools.count()
_idle: "dict[_Aside, None]" = {}


class _Aside(threading.Thread):
    def __init__(self) -> None:
        super().__init__(
            name=f"tsignals-asend_{next(_numbers)}",
            # A subinterpreter that ends with a daemon thread still there aborts the process.
            daemon=_process.in_main_interpreter(),
            **_process.empty_context(),
        )
        self.inbox: queue.SimpleQueue[Task] = queue.SimpleQueue()

    def run(self) -> None:
        idle = _idle
        while True:
            try:
                work, report = self.inbox.get(timeout=PATIENCE)
            except queue.Empty:
                if idle.pop(self, self) is None:
                    return
                continue
            work()
            if idle is not _idle:
                return  # this is a forked child: who waits for the report is in the parent
            if not self.daemon:
                report()
                return  # the interpreter may end, and would have to wait
            # Idle before it reports: what comes next should find this thread, not start another.
            idle[self] = None
            report()
            del work, report


def run_aside(work: Callable[[], object], report: Callable[[], object]) -> None:
    """Have ``work()`` and then ``report()`` called on another thread; neither may raise.

    Raises ``RuntimeError`` when no thread can be started.
    """
    if not _process.page[0]:
        _process.notice()
    try:
        thread, _ = _idle.popitem()
    except KeyError:
        thread = _Aside()
        thread.start()
    thread.inbox.put((work, report))


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


def async_runner() -> "Callable[[Callable[[], Awaitable[Any]]], Any] | None":
    """What runs async receivers for senders that are none, if the sync runner does."""
    runner: Any = sync_runner[0]
    # By its type: a Mock has every attribute.
    return runner.run_async if hasattr(type(runner), "run_async") else None


def _after_fork() -> None:
    global _idle
    _idle = {}


_process.in_child(_after_fork)
