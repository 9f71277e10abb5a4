"""``WorkerPool``: the executor that deliveries run in, as its users see it."""

import functools
import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple, ParamSpec, TypeVar

from tsignals import _lifetime, _state
from tsignals._around import Around
from tsignals._critical import refuse_if_critical
from tsignals._engine import Engine
from tsignals._future import PoolFuture, left_until
from tsignals._process import in_main_interpreter, notice, page
from tsignals._timeouts import no_less_than_zero, seconds
from tsignals._work import Submitted
from tsignals._workers import Initializer

P = ParamSpec("P")
T = TypeVar("T")

_POLICIES = ("block", "raise", "drop_newest", "drop_oldest", "caller_runs")


def check_executor(executor: object, what: str = "executor") -> None:
    """Raise ``TypeError`` for what is neither a ``concurrent.futures.Executor`` nor ``None``."""
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(
            f"{what} must be a concurrent.futures.Executor or None, not {type(executor).__name__!r}"
        )


class PoolStats(NamedTuple):
    """One consistent snapshot of a pool:
    submitted = pending + running + completed + failed + cancelled + dropped.
    """

    workers: int
    idle: int
    pending: int
    running: int
    submitted: int
    completed: int
    failed: int
    cancelled: int
    dropped: int


def _results(
    futures: "deque[Future[T]]", more: "Iterator[Future[T]]", deadline: float | None
) -> Iterator[T]:
    """Yield the results of ``futures`` and ``more`` in order; in the end cancel what is left."""
    try:
        while futures:
            yield _next_result(futures, more, deadline)
    finally:
        _cancel_all(futures)


def _next_result(
    futures: "deque[Future[T]]", more: "Iterator[Future[T]]", deadline: float | None
) -> T:
    future = futures.popleft()
    try:
        result = future.result(left_until(deadline))
    finally:
        future.cancel()  # where the time was up
        del future  # or the traceback, the error and the future form a cycle
    futures.extend(itertools.islice(more, 1))
    return result


def _cancel_all(futures: "deque[Future[T]]") -> None:
    for future in futures:
        future.cancel()


class WorkerPool(Executor):
    """Threads that run deliveries, with a bounded queue; a ``concurrent.futures.Executor``.

    max_workers: at most so many threads, started as they are needed; ``min(32, cpus + 4)``.
    max_pending: at most so many deliveries wait; ``None``: no limit.
    overflow: what happens when the queue is full. ``"block"`` waits for room, up to
        ``block_timeout`` seconds (``None``: for ever), then raises ``QueueFull``; ``"raise"``
        raises it at once; ``"drop_newest"`` and ``"drop_oldest"`` resolve what they drop with
        ``DeliveryDropped``; ``"caller_runs"`` runs the new deliveries in the sender's thread.
    thread_name_prefix: names the threads, and the pool in logs and errors.
    initializer, initargs: called first in each thread; if it raises, the pool is broken:
        what waits fails with ``BrokenExecutor``, and so do later submissions.
    around: a factory of context managers, called without arguments and entered around
        everything the pool runs. If it raises, that fails the delivery; it cannot swallow an error.
    idle: called without arguments in a worker that has run something and finds nothing more to
        run for a tenth of a second, before it sleeps, or before it ends: to close what it keeps
        open. What it raises is logged.

    All deliveries of one send are admitted together or not at all. A pool nobody refers to
    finishes its work and its threads end. Arguments out of range raise ``ValueError``, and of
    the wrong type ``TypeError``.

    Thread safety: every method from any thread, from receivers, finalizers and signal handlers.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        max_pending: int | None = 10_000,
        overflow: str = "block",
        block_timeout: float | None = None,
        thread_name_prefix: str = "tsignals",
        initializer: Initializer | None = None,
        initargs: tuple[Any, ...] = (),
        around: Around | None = None,
        idle: Callable[[], object] | None = None,
    ) -> None:
        if not in_main_interpreter():
            raise RuntimeError(
                f"cannot make pool {thread_name_prefix!r} in a subinterpreter, whose end would "
                "abort the process with a worker thread still there; use send() there, or another "
                "executor"
            )
        for what, number in (("max_workers", max_workers), ("max_pending", max_pending)):
            if number is not None and not isinstance(number, int):
                raise TypeError(f"{what} must be an int or None, not {type(number).__name__!r}")
        if max_workers is None:
            max_workers = min(32, (os.cpu_count() or 1) + 4)
        if max_workers < 1:
            raise ValueError("max_workers must be greater than 0")  # as ThreadPoolExecutor
        if max_pending is not None and max_pending < 1:
            raise ValueError(f"max_pending must be at least 1 or None, not {max_pending!r}")
        if overflow not in _POLICIES:
            raise ValueError(f"overflow must be one of {', '.join(_POLICIES)}, not {overflow!r}")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be callable, not {type(initializer).__name__!r}")
        if around is not None and not callable(around):
            raise TypeError(f"around must be callable, not {type(around).__name__!r}")
        if idle is not None and not callable(idle):
            raise TypeError(f"idle must be callable, not {type(idle).__name__!r}")
        self._engine = Engine(
            max_workers=max_workers,
            max_pending=max_pending,
            overflow=overflow,
            block_timeout=no_less_than_zero(block_timeout, "block_timeout"),
            thread_name_prefix=thread_name_prefix,
            initializer=initializer,
            initargs=initargs,
            around=around,
            idle=idle,
        )
        self._engine.attend(self)
        _lifetime.watch(self._engine)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run ``fn(*args, **kwargs)`` in a worker; return its future.

        Plain, as any executor's: a failure is neither logged nor told. Raises ``PoolClosed``,
        ``BrokenExecutor``, ``QueueFull``, and ``RuntimeError`` when no thread can be started; then
        nothing was queued.
        """
        work = Submitted(self._engine, functools.partial(fn, *args, **kwargs))
        self._engine.accept([work])
        return work

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """As ``concurrent.futures.Executor.map`` of Python 3.14; ``chunksize`` is ignored.

        ``timeout``: seconds from now until the last result; None waits. ``buffersize``: take from
        ``iterables`` only as results are asked for, and let no more than so many calls wait, run,
        or have results that were not; None takes all at once.
        """
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        left = seconds(timeout)
        deadline = None if left is None else time.monotonic() + left
        calls = zip(*iterables, strict=False)
        futures: deque[Future[T]] = deque()
        try:
            for arguments in itertools.islice(calls, buffersize):
                futures.append(self.submit(fn, *arguments))
        except BaseException:  # nobody could ask for their results
            _cancel_all(futures)
            raise
        # The results keep the pool only where they have more for it to do: a pool nobody else
        # refers to would be closed meanwhile.
        more = (self.submit(fn, *arguments) for arguments in calls) if buffersize else iter(())
        return _results(futures, more, deadline)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until nothing is pending or running, deliveries made meanwhile included.

        ``timeout``: seconds; None waits. Returns False when the time is up. Changes no state.
        Raises ``RuntimeError`` from a worker of this pool, which could never see its end.
        """
        timeout = seconds(timeout)
        if self._inside():
            raise RuntimeError("cannot drain a pool from one of its own threads")
        return self._engine.drain(timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; run what was accepted, then end the threads.

        ``wait``: until that is done, except from a worker of this pool. ``cancel_futures``:
        cancel what has not started. May be called again, as ``Executor.shutdown``.
        """
        if not page[0]:
            notice()
        engine = self._engine
        outside = not self._inside()
        if wait and outside:
            refuse_if_critical("shutdown(wait=True)")
        threads = engine.all_threads()  # those that go from now on are joined, too
        engine.close()
        if cancel_futures:
            for work in engine.futures():
                PoolFuture.cancel(work)  # an async one's own would also cancel what runs
        if wait and outside:
            engine.drain(None)
            for thread in {*threads, *engine.all_threads()}:
                thread.join()

    def _inside(self) -> bool:
        """Whether this is one of the pool's threads."""
        return self._engine.works_here() or self._engine.on_loop()

    def stats(self) -> PoolStats:
        """One consistent snapshot of the counters; takes no lock."""
        if not page[0]:
            notice()
        state = self._engine.cell.value
        return PoolStats(
            workers=state.workers,
            idle=state.idle,
            pending=state.pending,
            running=state.running,
            submitted=state.number(_state.SUBMITTED),
            completed=state.number(_state.COMPLETED),
            failed=state.number(_state.FAILED),
            cancelled=state.number(_state.CANCELLED),
            dropped=state.number(_state.DROPPED),
        )

    # Where there are workers, these see to it; an event loop's thread does not look.
    # Bound now: while the interpreter ends, module globals go before the last pools do.
    def __del__(self, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
        engine = getattr(self, "_engine", None)
        if engine is not None and engine.loops and not _ending():
            engine.close()

    def __repr__(self) -> str:
        state = self._engine.cell.value
        return (
            f"<WorkerPool {self._engine.name!r} {state.mode.name.lower()}: "
            f"{state.workers} workers, {state.pending} pending, {state.running} running>"
        )
