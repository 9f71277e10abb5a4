"""Deliveries as they end: of a pool, of another executor, or of both."""

import functools
import queue
from collections.abc import Collection, Iterator
from concurrent import futures
from typing import TypeVar

from tsignals._base.inbox import Inbox
from tsignals._base.timeouts import deadline_in, left_until
from tsignals._calling.types import Receiver
from tsignals._pool import waiting
from tsignals._pool.task import Task

F = TypeVar("F", bound="futures.Future[object]")
R = TypeVar("R")


def response_of(future: "futures.Future[R]", response: R) -> R:
    """What ``future.result()`` has given, or raises what that has left out.

    Before CPython 3.14, ``concurrent.futures`` takes an exception that is false for none.
    """
    error = None
    if response is None and not isinstance(future, Task):
        error = future.exception(0)
    try:
        if error is not None:
            raise error
        return response
    finally:
        del future, error  # or the traceback, this frame and the error form a cycle


def as_completed(
    deliveries: Collection[tuple[Receiver, F]], timeout: float | None
) -> Iterator[tuple[Receiver, F]]:
    """``Deliveries.as_completed``."""
    pairs: dict[futures.Future[object], tuple[Receiver, F]] = {pair[1]: pair for pair in deliveries}
    tasks = [future for future in pairs if isinstance(future, Task)]
    if not tasks:
        yield from _as_others_end(list(pairs.values()), timeout)
        return
    done: Iterator[futures.Future[object]]
    if len(tasks) < len(pairs):
        done = futures.as_completed(pairs, timeout)
    elif any(task._core.works_here() for task in tasks):
        done = waiting.as_completed(tasks, timeout)
    else:
        done = waiting.as_ended(tasks, timeout)
    for future in done:
        yield pairs[future]


def _as_others_end(
    pairs: list[tuple[Receiver, F]], timeout: float | None
) -> Iterator[tuple[Receiver, F]]:
    """Yield deliveries of another executor as they are done."""
    # One that is cancelled has ended. ``concurrent.futures.as_completed`` waits until the executor
    # comes to it, which may be busy for long.
    ended: Inbox[int] = Inbox()
    deadline = deadline_in(timeout)
    # By number: a future keeps its callbacks, and with itself in one it were a cycle.
    puts = [functools.partial(_put, ended, number) for number in range(len(pairs))]
    try:
        for (_, future), put in zip(pairs, puts, strict=True):
            future.add_done_callback(put)
        for left in range(len(pairs), 0, -1):
            try:
                number = ended.get(timeout=left_until(deadline))
            except queue.Empty:
                raise TimeoutError(f"{left} (of {len(pairs)}) futures unfinished") from None
            yield pairs[number]
    finally:
        for (_, future), put in zip(pairs, puts, strict=True):
            take_back(future, put)


def take_back(future: object, callback: object) -> None:
    """Have ``future`` call it no more, or who looks again and again would leave one each time."""
    if not isinstance(future, futures.Future):
        return  # it keeps to the interface, and that has nothing for this
    with future._condition:
        if not future.done():  # else it may go through them just now
            left = [each for each in future._done_callbacks if each is not callback]  # type: ignore[attr-defined]
            future._done_callbacks[:] = left  # type: ignore[attr-defined]


def _put(ended: Inbox[int], number: int, future: object) -> None:
    ended.put(number)
