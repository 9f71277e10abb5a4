"""``WorkerPool``: the executor that deliveries run in, as its users see it."""

import contextlib
import functools
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from tsignals._base.around import Around
from tsignals._base.identity import SameWhenCopied
from tsignals._base.interrupts import apply_to_all, refuse_if_critical
from tsignals._base.process import notice, page
from tsignals._base.timeouts import deadline_in, left_until, seconds
from tsignals._pool import draining, lifecycle
from tsignals._pool.config import Policy, checked
from tsignals._pool.core import Core
from tsignals._pool.overflow import accept
from tsignals._pool.stats import PoolStats, stats_of
from tsignals._pool.task import Submitted

P = ParamSpec("P")
T = TypeVar("T")


def check_executor(executor: object, what: str = "executor") -> None:
    """Raise ``TypeError`` for what is neither a ``concurrent.futures.Executor`` nor ``None``."""
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(
            f"{what} must be a concurrent.futures.Executor or None, not {type(executor).__name__!r}"
        )
    if isinstance(executor, WorkerPool) and not hasattr(executor, "_core"):
        raise TypeError(
            f"{what} must be a WorkerPool that was made as one, not {type(executor).__name__!r}: a "
            "mock, or a subclass whose __init__ does not call that of WorkerPool"
        )


def _results(
    futures: "deque[Future[T]]", more: "Iterator[Future[T]]", deadline: float | None
) -> Iterator[T]:
    """Yield the results of ``futures`` and ``more`` in order; in the end cancel what is left."""
    try:
        yield from _each_result(futures, more, deadline)
    finally:
        _cancel_all(futures)


def _each_result(
    futures: "deque[Future[T]]", more: "Iterator[Future[T]]", deadline: float | None
) -> Iterator[T]:
    while futures:
        yield _next_result(futures, more, deadline)


def _next_result(
    futures: "deque[Future[T]]", more: "Iterator[Future[T]]", deadline: float | None
) -> T:
    future = futures.popleft()
    try:
        result = future.result(left_until(deadline))
    except TimeoutError:
        if future.done():  # the call's own
            raise
        raise TimeoutError("not all calls of map are done; what waits is cancelled") from None
    finally:
        future.cancel()  # where the time was up
        del future  # or the traceback, the error and the future form a cycle
    futures.extend(itertools.islice(more, 1))
    return result


def _cancel_all(futures: "deque[Future[T]]") -> None:
    for future in futures:
        future.cancel()


class WorkerPool(SameWhenCopied, Executor):
    """Threads that run deliveries, with a bounded queue; a ``concurrent.futures.Executor``.

    max_workers: at most so many threads, started as they are needed; ``min(32, cpus + 4)``.
    max_pending: at most so many deliveries wait; ``None``: no limit. Async ones count until they
        end.
    overflow: what happens when the queue is full. ``"block"`` waits for room, up to
        ``block_timeout`` seconds (``None``: for ever), then raises ``QueueFull``; ``"raise"``
        raises it at once; ``"drop_newest"`` and ``"drop_oldest"`` resolve what they drop with
        ``DeliveryDropped``; ``"caller_runs"`` runs the new deliveries in the sender's thread.
    thread_name_prefix: names the threads, and the pool in logs and errors.
    initializer, initargs: ``initializer(*initargs)`` is called first in each thread; if it
        raises, the pool is broken: what waits fails with ``BrokenExecutor``, and so do later
        submissions.
    around: a factory of context managers, called without arguments and entered around
        everything the pool runs. If it raises, that fails the delivery; it cannot swallow an error.
    idle: called without arguments in a worker that has run something and finds nothing more to
        run for a tenth of a second, before it sleeps, or before it ends: to close what it keeps
        open. What it raises is logged.

    All deliveries of one send are admitted together or not at all. A pool nobody refers to
    finishes its work and its threads end. Arguments out of range raise ``ValueError``, and of
    the wrong type ``TypeError``; a subinterpreter can have no pool: ``RuntimeError``.

    Thread safety: every method from any thread, from receivers, finalizers and signal handlers.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        max_pending: int | None = 10_000,
        overflow: Policy = "block",
        block_timeout: float | None = None,
        thread_name_prefix: str = "tsignals",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        around: Around | None = None,
        idle: Callable[[], object] | None = None,
    ) -> None:
        config = checked(
            thread_name_prefix,
            max_workers,
            max_pending,
            overflow,
            block_timeout,
            initializer,
            initargs,
            around,
            idle,
        )
        if not page[0]:
            notice()  # first: what is made here is not made anew
        self._core = Core(config)
        lifecycle.register(self)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run ``fn(*args, **kwargs)`` in a worker; return its future.

        Plain, as any executor's: a failure is neither logged nor told. Raises ``PoolClosed``,
        ``BrokenExecutor``, ``QueueFull``, and ``RuntimeError`` when no thread can be started; then
        nothing was queued.
        """
        core = core_of(self)
        task = Submitted(core, functools.partial(fn, *args, **kwargs))
        accept(core, [task])
        return task

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """As ``concurrent.futures.Executor.map`` of Python 3.14; ``chunksize`` is ignored.

        ``timeout``: seconds from now until the last result, then ``TimeoutError``, and what has
        not started is cancelled; None waits. ``buffersize``: take from
        ``iterables`` only as results are asked for, and let no more than so many calls wait, run,
        or have results that were not; None takes all at once. Raises ``TypeError`` and
        ``ValueError`` for a ``buffersize`` that is no number above zero, and what ``submit`` does.
        """
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        left = seconds(timeout)
        deadline = deadline_in(left)
        calls = zip(*iterables, strict=False)
        futures: deque[Future[T]] = deque()
        with contextlib.ExitStack() as undo:
            undo.callback(_cancel_all, futures)  # if one fails, nobody can ask for their results
            most = None if buffersize is None else min(buffersize, sys.maxsize)
            for arguments in itertools.islice(calls, most):
                futures.append(self.submit(fn, *arguments))
            undo.pop_all()
        # The results keep the pool only where they have more for it to do: a pool nobody else
        # refers to would be closed meanwhile.
        more = (self.submit(fn, *arguments) for arguments in calls) if buffersize else iter(())
        return _results(futures, more, deadline)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until nothing is pending or running, deliveries made meanwhile included.

        ``timeout``: seconds; None waits. Returns False when the time is up. Changes no state.
        Raises ``RuntimeError`` from a worker of this pool, which could never see its end, and in a
        finalizer or signal handler that has interrupted tsignals.
        """
        timeout = seconds(timeout)
        core = core_of(self)
        if _inside(core):
            raise RuntimeError(
                f"cannot drain pool {core.config.name!r} from one of its own threads, which "
                "runs something meanwhile; drain it from another thread"
            )
        return draining.drain(core, timeout)

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | None = None
    ) -> None:
        """Take no more work; run what was accepted, then end the threads.

        ``wait``: until that is done, except from a worker of this pool. ``cancel_futures``:
        cancel what has not started, and run nothing again that fails from now on. ``timeout``:
        seconds to wait, also 0; None waits for ever. When they are over, what has not started
        resolves with ``DeliveryLost``, what runs is left to end by itself, both are logged by
        signal and receiver, and this returns. Interrupted while it waits, it has closed the pool
        and lost nothing.

        May be called again, to wait for what still runs, to cancel, or to give up earlier.

        Raises, before anything changes: ``ValueError`` for ``timeout`` with ``wait=False``, and
        for NaN; ``TypeError`` for a ``timeout`` that is no number, and a ``wait`` that is no bool;
        ``RuntimeError`` where it would wait in a finalizer or signal handler that has interrupted
        tsignals.
        """
        if not isinstance(wait, bool):
            raise TypeError(f"wait must be True or False, not {wait!r}; seconds are timeout=")
        left = seconds(timeout)
        if left is not None and not wait:
            raise ValueError("shutdown(wait=False) does not wait: leave out timeout, or wait")
        deadline = deadline_in(left)
        core = core_of(self)
        outside = not _inside(core)
        if wait and outside:
            refuse_if_critical("shutdown(wait=True)")
        threads = core.all_threads()  # those that go from now on are joined, too
        core.close()
        if cancel_futures:
            core.timer.is_closed = True  # before the look: what fails meanwhile sees it
            apply_to_all(lambda task: task._cancel_unstarted(), core.backlog.tasks())
        if wait and outside:
            lifecycle.await_end(core, threads, deadline)

    def stats(self) -> PoolStats:
        """One consistent snapshot of the counters; takes no lock."""
        return stats_of(core_of(self).state.value)

    def unfinished(self) -> list[Future[object]]:
        """The deliveries that are pending or running now, and what ``submit`` gave; oldest first.

        A new list; the pool keeps nothing of it. Each was unfinished at some moment of this call,
        and may have ended since; all that was accepted before, and has not ended, is in it.
        """
        return [*core_of(self).backlog.unfinished()]

    @staticmethod
    def all() -> "list[WorkerPool]":
        """The pools of this process that are open, the oldest first; also the default pool.

        A new list. A pool that nobody refers to any more is not in it: this keeps none alive.
        """
        if not page[0]:
            notice()
        return [pool for pool in lifecycle.open_pools() if isinstance(pool, WorkerPool)]

    def __reduce__(self) -> str:
        raise TypeError("cannot pickle a WorkerPool: its threads belong to this process")

    # Where there are workers, these see to it; an event loop's thread does not look. It closes the
    # pool: here the stack may be at its end.
    # Bound now: while the interpreter ends, module globals go before the last pools do.
    def __del__(self, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
        core = getattr(self, "_core", None)
        if core is not None and core.backlog.loops and not _ending():
            core.backlog.loops[0].call(core.close)

    def __repr__(self) -> str:
        core = self._core
        now = core.state.value
        return (
            f"<WorkerPool {core.config.name!r} {now.mode.name.lower()}: "
            f"{now.workers} workers, {now.pending} pending, {now.running} running>"
        )


def core_of(pool: WorkerPool) -> Core:
    """The core of ``pool`` in this process."""
    if not page[0]:
        notice()
    return pool._core


def _inside(core: Core) -> bool:
    """Whether this is one of the pool's threads."""
    return core.works_here() or core.on_loop()
