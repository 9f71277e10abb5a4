"""What one pool has dropped because it was full, or lost as it ended, on its way into the log."""

import collections
import contextlib
import logging
import time
from collections.abc import Iterable

from tsignals._base.atomic import AtomicReference
from tsignals._base.log import log_safely
from tsignals._pool.task import Task

SECONDS = 1.0
"""From one line in the log to the next."""


class Drops:
    """Counts them, and logs them at most once a second.

    Thread safety: every method from any thread; nothing is counted twice, nor left out.
    """

    __slots__ = ("_pool", "dropped", "logged_at", "lost")

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self.dropped: list[int] = []
        self.logged_at = AtomicReference(float("-inf"))
        self.lost: collections.deque[Task] = collections.deque()

    def add(self, count: int) -> None:
        self.dropped.append(count)

    def lose(self, task: Task) -> None:
        """``task`` was resolved as lost."""
        self.lost.append(task)

    def take_lost(self) -> list[Task]:
        """What was lost and is not logged yet: whoever takes it logs it."""
        lost: list[Task] = []
        with contextlib.suppress(IndexError):  # another thread logs the rest
            while self.lost:
                lost.append(self.lost.popleft())
        return lost

    def log_now_and_then(self) -> None:
        """Log them, unless that was done a moment ago; what was lost, in any case.

        Not in critical code: a log handler may wait.
        """
        if not (self.dropped or self.lost):
            return
        log_left(self._pool, "its end", self.take_lost(), "came too late; they are lost")
        now, last = time.monotonic(), self.logged_at.get()
        if now - last >= SECONDS and self.logged_at.compare_and_set(last, now):
            self.log()  # of all who would do so now, one does

    def log(self) -> None:
        """Log what is not logged yet."""
        total = 0
        with contextlib.suppress(IndexError):  # another thread logs the rest
            while self.dropped:
                total += self.dropped.pop()
        if total:
            log_safely(
                logging.WARNING, "pool %r was full: %d deliveries dropped", self._pool, total
            )


def log_left(pool: str, when: str, tasks: Iterable[Task], fate: str) -> None:
    """Log what is left ``when``: a line for each receiver of each signal, with the number."""
    counts = collections.Counter(task._about() for task in tasks)
    for name, count in sorted(counts.items()):
        message = "pool %r: at %s %d deliveries of %s %s"
        log_safely(logging.ERROR, message, pool, when, count, name, fate)
