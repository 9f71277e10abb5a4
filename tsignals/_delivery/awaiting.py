"""Waiting for deliveries in coroutines: ``await deliveries``, and ``async for``."""

import asyncio
import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Any

from tsignals._calling.sync_receivers import notify
from tsignals._calling.types import Pairs, Receiver
from tsignals._delivery.as_completed import response_of, take_back
from tsignals._pool import cycles, helping
from tsignals._pool.pauses import is_kept_back, is_over_or_due
from tsignals._pool.seam import TaskLike
from tsignals._pool.task import Task

Pair = tuple[Receiver, "Future[Any]"]


async def await_results(deliveries: Collection[Pair]) -> Pairs:
    """``await deliveries``: as ``Deliveries.results``."""
    pairs = []
    future: Future[object] | None = None
    try:
        for receiver, future in deliveries:
            if not future.done():
                await _until_done(future)
            pairs.append((receiver, response_of(future, future.result(0))))
        return pairs
    finally:
        del deliveries, future  # or the traceback, this frame and the error form a cycle


async def _until_done(future: "Future[object]") -> None:
    done = asyncio.Event()
    waker = _Waker(asyncio.get_running_loop(), done.set)
    told = _Told(future, waker)
    try:
        told.begin()
        while True:
            with _waiting(future, waker):
                await done.wait()
            if future.done():
                return
            done.clear()  # it was let go, or its next attempt is due: it may be run here
    finally:
        told.end()


class Completed:
    """What ``async for`` goes through: results as they come in."""

    # Not an async generator: left half way, that would have to be closed by its event loop.

    def __init__(self, deliveries: Collection[Pair]) -> None:
        self._told: dict[int, _Told] = {}  # those that have not ended yet
        self._helpers: list[_Helper] = []
        loop = asyncio.get_running_loop()
        self._left = dict(enumerate(deliveries))
        self._tasks = {future: None for _, future in deliveries if isinstance(future, Task)}
        self._done: asyncio.Queue[int | None] = asyncio.Queue()  # None: there is no more
        # Weakly, or the futures would keep this, and nothing would be taken back.
        me: weakref.ref[Completed] = weakref.ref(self)
        for number, (_, future) in self._left.items():
            waker = _Waker(loop, functools.partial(_note, me, number))
            told = self._told[number] = _Told(future, waker)
            told.begin()
            if isinstance(future, Task) and future._core.works_here():
                self._helpers.append(helper := _Helper(future, loop))
                helper.help()

    def __del__(self) -> None:  # left half way: or who looks again and again would leave much
        for told in self._told.values():
            told.end()
        for helper in self._helpers:
            helper.end()

    def __aiter__(self) -> "Completed":
        return self

    async def __anext__(self) -> tuple[Receiver, Any]:
        if not self._left:
            raise StopAsyncIteration
        with self._waiting_for_any():
            number = await self._done.get()
        if number is None:  # another has got the last
            self._done.put_nowait(None)
            raise StopAsyncIteration
        receiver, future = self._left.pop(number)
        if not self._left:
            self._done.put_nowait(None)  # for others who wait
        self._tasks.pop(future, None)  # type: ignore[call-overload]
        try:
            return receiver, response_of(future, future.result(0))
        except StopAsyncIteration as error:
            # As it is, it would end the loop, and nobody would know of it or of the rest.
            raise RuntimeError("receiver raised StopAsyncIteration") from error
        finally:
            del self, future  # or the traceback, this frame and the error form a cycle

    def note(self, number: int) -> None:
        """Have that one come, if it has ended; it may be said more than once, or too early."""
        if (told := self._told.get(number)) is not None and told.future.done():
            del self._told[number]
            told.end()
            self._done.put_nowait(number)

    def _waiting_for_any(self) -> contextlib.AbstractContextManager[None]:
        """Around a wait for the next, which raises ``RuntimeError`` if none could ever come."""
        # What other executors run may always come.
        if not self._done.empty() or len(self._tasks) < len(self._left):
            return contextlib.nullcontext()
        return _refusing_cycles(self._tasks, every=False)


def _note(of: "weakref.ref[Completed]", number: int) -> None:
    if (completed := of()) is not None:
        completed.note(number)


delivering: "dict[asyncio.Task[object] | None, tuple[int, TaskLike]]" = {}
"""By its task: what stands for a thread in the claim of an async delivery that runs; and that."""


def _refusing_cycles(
    tasks: Collection[TaskLike], every: bool = True
) -> contextlib.AbstractContextManager[None]:
    """Around an await for ``tasks``, or any of them: raises ``RuntimeError`` if none could end."""
    if (running := delivering.get(asyncio.current_task())) is not None:
        return cycles.Awaiting(tasks, running[0], every, running[1])
    if not any(task._core.works_here() for task in tasks):
        return contextlib.nullcontext()
    # A receiver in a worker runs this loop. It waits, too, if nothing else may go on there.
    me = threading.get_ident()
    if len(asyncio.all_tasks()) == 1:
        return cycles.Awaiting(tasks, me, every)
    cycles.refuse(tasks, me, every)
    return contextlib.nullcontext()


def _waiting(future: "Future[object]", waker: "_Waker") -> contextlib.AbstractContextManager[None]:
    """Around a wait for ``future``, which raises ``RuntimeError`` if it could never end.

    On an event loop that a worker runs, what has not started runs first, as in any wait there; but
    for what nobody has submitted yet. ``waker`` is told once somebody has.
    """
    if not isinstance(future, Task):
        return contextlib.nullcontext()
    held = is_kept_back(future)  # looked at before its turn: H3 in held
    if not held and future._core.works_here():
        helping.run_up_to(future)
    refusing = _refusing_cycles([future])
    if held or _may_have_to_help(future):
        return _WaitingForIt(future, refusing, waker)
    return refusing


def _may_have_to_help(future: Task) -> bool:
    """Whether a worker waits here, and what runs elsewhere now may leave ``future`` to it."""
    may_come_later = future._may_pause or future._turn is not None
    return may_come_later and future._core.works_here()


class _Told:
    """While it has begun: ``waker`` is told of the end of ``future``, and no longer than that."""

    __slots__ = ("_put", "_waker", "future")

    def __init__(self, future: "Future[object]", waker: "_Waker") -> None:
        self.future = future
        self._waker = waker
        self._put = waker.put  # one object, to be found again

    def begin(self) -> None:
        if isinstance(self.future, Task):
            self.future._park(self._waker)
            if self.future.done():  # it was done before it could know
                self._put(None)
        else:
            self.future.add_done_callback(self._put)

    def end(self) -> None:
        self._waker.forget()
        if isinstance(self.future, Task):
            self.future._unpark(self._waker)
        else:
            take_back(self.future, self._put)


class _Helper:
    """In a worker: runs ``future`` on the event loop there, as soon as that can start.

    Among those who sleep until what stands in the way ends: nobody else knows it.
    """

    __slots__ = ("_future", "_loop", "_parked_at")

    def __init__(self, future: Task, loop: asyncio.AbstractEventLoop) -> None:
        self._future = future
        self._loop = loop
        self._parked_at: TaskLike | None = None

    def help(self) -> None:
        """Run what can start now; do so again when what runs elsewhere has ended."""
        future = self._future
        first = None if future.done() else helping.run_up_to(future)
        if future.done():
            first = None  # not parked there, or the two were a cycle
        if first is not self._parked_at:
            self.end()
            self._parked_at = first
            if first is not None:
                first._park(self)
        if first is not None and is_over_or_due(first):
            self.put(None)

    def end(self) -> None:
        """Be told of nothing any more."""
        if self._parked_at is not None:
            self._parked_at._unpark(self)

    def put(self, _: None) -> None:
        notify(self._loop, self.help)


class _WaitingForIt(contextlib.AbstractContextManager[None]):
    """Around a wait for ``future``, which is held back, or may be run again, or is in a lane."""

    def __init__(
        self, future: Task, refusing: contextlib.AbstractContextManager[None], waker: "_Waker"
    ) -> None:
        self._future = future
        self._refusing = refusing
        self._waker = waker
        self._tasks: list[TaskLike] = [future]  # and what stands before it

    def __enter__(self) -> None:
        self._refusing.__enter__()
        future = self._future
        if not future._held:
            self._tasks = [*future._standing_before(), future]
        for task in self._tasks:
            task._park(self._waker)
        first = next((task for task in self._tasks if not task.done()), future)
        if is_over_or_due(first):
            self._waker.put(None)

    def __exit__(self, *raised: object) -> None:
        for task in self._tasks:
            task._unpark(self._waker)
        self._refusing.__exit__(None, None, None)


class _Waker:
    """Among those who sleep until a future ends: has something called on an event loop then."""

    __slots__ = ("_of",)

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
        self._of: tuple[asyncio.AbstractEventLoop, Callable[[], object]] | None = loop, function

    def put(self, _: object) -> None:
        if (of := self._of) is not None:
            notify(*of)

    def forget(self) -> None:
        """Call nothing any more."""
        self._of = None
