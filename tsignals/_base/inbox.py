"""What a thread sleeps on until something is put there: a ``SimpleQueue`` whose timeout holds.

That of CPython before 3.13 does not. Where its lock is free although nothing is in it, or a signal
comes, it asks anew how long there is to wait; and once that is less than nothing, it waits for
ever. A signal handler that runs beyond the end of a wait is enough, or a busy machine.

For one thread that takes (of several, each puts back what it took) and any that put. As with a
``SimpleQueue``, whoever puts may be anywhere, in a finalizer or a signal handler too; interrupted,
it has put and wakes, or has not. The lock guards nothing: it is what the thread sleeps on.
"""

import queue
import sys
import threading
import time
from typing import Generic, TypeVar

T = TypeVar("T")

if sys.version_info >= (3, 13):
    Inbox = queue.SimpleQueue
    go_as_deep_as_put = tuple
else:  # pragma: no cover - measured on a newer CPython

    class Inbox(Generic[T]):
        """A ``SimpleQueue`` with a lock, whose timeout holds; released for the one who takes."""

        __slots__ = ("_items", "_woken")

        def __init__(self) -> None:
            self._items: queue.SimpleQueue[T] = queue.SimpleQueue()
            self._woken = threading.Lock()
            self._woken.acquire()

        def put(self, item: T) -> None:
            """Put ``item`` there; wakes who sleeps."""
            try:
                self._items.put(item)
            finally:  # also where that was interrupted, once it was done
                try:
                    self._woken.release()
                except RuntimeError:
                    pass  # somebody else has woken it

        def get(self, block: bool = True, timeout: float | None = None) -> T:
            """The next item, for which this waits ``timeout`` seconds; ``None``: for ever.

            Raises ``queue.Empty`` where none comes.
            """
            until = None if timeout is None else time.monotonic() + timeout
            while True:
                try:
                    return self._items.get_nowait()
                except queue.Empty:
                    if not block:
                        raise
                left = -1.0 if until is None else max(0.0, until - time.monotonic())
                # Then one more look: it may have come at the last moment.
                block = self._woken.acquire(timeout=min(left, threading.TIMEOUT_MAX))

        def get_nowait(self) -> T:
            """The next item, if it is there."""
            return self._items.get_nowait()

        def empty(self) -> bool:
            """Whether nothing is there."""
            return self._items.empty()

        def qsize(self) -> int:
            """How much is there."""
            return self._items.qsize()

    def go_as_deep_as_put() -> None:
        """Use as much of the stack as ``put`` does."""
        id(None)  # a call that counts, before 3.12; those of ``len`` do so only at first
