"""What the tests of pools share: pools held busy, numbers that add up, failures that are told."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

from helpers import TIMEOUT, Latch, Running, wait_until

from tsignals import Failure, PoolStats, Signal, WorkerPool, receiver_failed


@contextlib.contextmanager
def held(pool: WorkerPool, workers: int = 1) -> Iterator[Latch]:
    """Hold ``workers`` workers of the pool up; the gate is opened at the end at the latest."""
    gate, held = Latch(), list[None]()

    def wait() -> None:
        held.append(None)
        gate()

    futures = [pool.submit(wait) for _ in range(workers)]
    try:
        wait_until(lambda: len(held) == workers)
        yield gate
    finally:
        gate.opened.set()
        for future in futures:
            future.exception(TIMEOUT)


def add_up(stats: PoolStats) -> bool:
    """Whether the numbers are possible."""
    ended = stats.completed + stats.failed + stats.cancelled + stats.dropped
    return (
        min(stats) >= 0
        and stats.submitted == stats.pending + stats.running + ended
        and stats.idle <= stats.workers
    )


class Watch:
    """Samples a pool's numbers in a thread of its own, and fails at the end if one was wrong."""

    def __init__(self, pool: WorkerPool) -> None:
        self.pool = pool
        self.wrong: list[PoolStats] = []
        self.most_pending = 0
        self.most_workers = 0
        self._over = threading.Event()

    def _look(self) -> None:
        last = self.pool.stats()
        while not self._over.is_set():
            stats = self.pool.stats()
            # What counts the ended, the submitted and the refused only grows.
            if not add_up(stats) or any(map(int.__lt__, stats[4:], last[4:])):
                self.wrong.append(stats)
            self.most_pending = max(self.most_pending, stats.pending)
            self.most_workers = max(self.most_workers, stats.workers)
            last = stats

    def __enter__(self) -> Self:
        self._thread = Running(self._look)
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.result()
        assert self.wrong == []


class Told:
    """Hears ``receiver_failed`` and remembers."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    def __call__(self, failure: Failure, **named: Any) -> None:
        self.failures.append(failure)

    @property
    def errors(self) -> list[BaseException]:
        return [failure.exception for failure in self.failures]


@contextlib.contextmanager
def told() -> Iterator[Told]:
    hears = Told()
    with receiver_failed.connect(hears):
        yield hears


def signal_to(receiver: Callable[..., Any], pool: WorkerPool | None, **terms: Any) -> Signal:
    """A signal with one receiver, held strongly."""
    signal = Signal(executor=pool)
    signal.connect(receiver, weak=False, **terms)
    return signal
