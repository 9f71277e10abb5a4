"""Waiting for what a pool runs, from outside and from its own workers, without a deadlock.

A worker that would wait for a task that has not started runs it. Where others run what it waits
for, it says so, and raises where that closes a cycle: see ``cycles``. Where that is an async
delivery, it runs what that awaits (``Help``).
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Generic, TypeVar

from tsignals._base.inbox import Inbox
from tsignals._base.interrupts import refuse_if_critical, refuse_if_deep
from tsignals._base.process import notice, page
from tsignals._base.timeouts import deadline_in, left_until
from tsignals._pool import cycles
from tsignals._pool.pauses import is_kept_back, is_over_or_due
from tsignals._pool.seam import Parked, TaskLike

T = TypeVar("T", bound=TaskLike)
W = TypeVar("W")

NOT_DONE = "the delivery is not done yet; it goes on"


class _Teller(Generic[T]):
    """Among those who are parked until a task ends; puts that or another into a queue then."""

    __slots__ = ("_task", "_told")

    def __init__(self, told: "Inbox[T]", task: T) -> None:
        self._told = told
        self._task = task

    def put(self, _: None) -> None:
        self._told.put(self._task)


def sleep_until_done(task: TaskLike, timeout: float | None) -> None:
    """Wait until ``task`` is done, and run nothing meanwhile. Raises ``TimeoutError``."""
    refuse_if_critical("result()")
    woken: Inbox[None] = Inbox()
    deadline = deadline_in(timeout)
    try:
        task._park(woken)
        _sleep_while_undone(task, woken, deadline)
    except queue.Empty:
        raise TimeoutError(NOT_DONE) from None
    finally:
        task._unpark(woken)


def _sleep_while_undone(task: TaskLike, woken: "Inbox[None]", deadline: float | None) -> None:
    while not task.done():
        woken.get(timeout=left_until(deadline))


def await_done(task: TaskLike, timeout: float | None) -> None:
    """Wait until ``task`` is done; a worker runs what it would wait for, if it has not started.

    Raises ``TimeoutError``, and ``RuntimeError`` for a wait that cannot end.
    """
    # Few frames deep: deliveries that wait for deliveries nest on one stack.
    deadline = deadline_in(timeout)
    if not page[0]:
        notice()
    core = task._core
    if not core.works_here():
        if timeout is None or timeout > 0:
            core.refuse_on_loop()
            cycles.awaited_on_behalf([task])
        sleep_until_done(task, timeout)
        return
    before = task
    held: Collection[TaskLike] = ()
    while not task.done():
        for before, held in left_before(task):
            if not held and before._claimed_by is None:
                refuse_if_deep()
                core.attempt(before).carry_out()
                if before.done():
                    continue
                if before._may_pause and not before._on_loop:
                    break  # it may be run again
            sleep(before, task, left_until(deadline), held)
            if held or not before.done():
                break  # if it was let go, it stands in its lane now
    del task, before, held  # see drop_frame


def sleep(
    before: TaskLike, task: TaskLike, timeout: float | None, held: Collection[TaskLike]
) -> None:
    """In a worker: wait until ``before``, which others run, has ended, or may be run here.

    Or until ``task`` has, which stands behind it: it may be cancelled there. ``held``: those that
    nobody might run a moment ago. Raises as ``await_done``.
    """
    refuse_if_critical("a worker")
    woken: Inbox[None] = Inbox()
    both = {before: None, task: None}
    help = Help()
    try:
        for one in both:
            one._park(woken)
        if all(map(is_kept_back, held)) and not (is_over_or_due(before) or task.done()):
            before._core.refuse_on_loop()
            if timeout == 0 or not help.begin(before, woken, deadline_in(timeout)):
                sleep_on(woken, [before], True, timeout)
    finally:
        for one in both:
            one._unpark(woken)
        help.end()


class Help:
    """What a worker that waits for an async delivery does for it: it runs what that awaits."""

    __slots__ = ("_parked",)

    def __init__(self) -> None:
        self._parked: list[tuple[TaskLike, Parked]] = []  # who is parked where

    def begin(self, task: TaskLike, woken: Parked, deadline: float | None = None) -> bool:
        """Run what ``task``, which others run, awaits, and what is awaited for that in turn.

        True if any of it has ended by now: then look again. Else ``woken`` is told when to.
        """
        self.end()
        left, seen, has_ended = [task], set[TaskLike](), False
        for each in left:  # which grows
            for before in [*each._standing_before(), each]:
                if not before._on_loop or before in seen or before.done():
                    continue
                seen.add(before)
                self._park_at(before, woken)
                for awaited in cycles.awaited_by(before):
                    left.append(awaited)
                    if not awaited._core.works_here():
                        continue
                    first = run_up_to(awaited)
                    if awaited.done() or is_over_or_due(first):
                        has_ended = True
                        if task.done() or left_until(deadline) == 0:
                            return True
                    else:
                        self._park_at(first, woken)
        return has_ended

    def _park_at(self, task: TaskLike, woken: Parked) -> None:
        self._parked.append((task, woken))
        task._park(woken)

    def end(self) -> None:
        """Have nobody told of anything any more."""
        while self._parked:
            task, woken = self._parked.pop()
            task._unpark(woken)


def sleep_on(
    woken: "Inbox[W]",
    tasks: Collection[TaskLike],
    every: bool,
    timeout: float | None,
) -> W:
    """In a worker: wait for what is put into ``woken`` when one of ``tasks`` has ended.

    Others run these; ``every``: who waits needs all of them, else any. Raises as ``await_done``.
    """
    me = threading.get_ident()
    above = cycles.enter(tasks, me, every)
    try:
        return woken.get(timeout=None if timeout is None else max(0.0, timeout))
    except queue.Empty:
        raise TimeoutError(NOT_DONE) from None
    finally:
        try:
            cycles.leave(me, above)
        finally:
            cycles.leave(me, above)  # once more: see interrupts


def as_completed(tasks: Sequence[T], timeout: float | None) -> Iterator[T]:
    """In a worker: yield ``tasks`` as they end; run what has not started of its own pool.

    Raises as ``await_done``.
    """
    refuse_if_critical("a worker")
    deadline = deadline_in(timeout)
    looks: _Looks[T] = _Looks()
    told = looks.told
    # With what each waits for: itself, or another.
    left: dict[T, TaskLike] = dict(zip(tasks, tasks, strict=True))
    unseen = deque(tasks)
    cores = {task._core for task in tasks}
    try:
        for task in tasks:
            looks.tell_of(task, at=task)
            if task.done():
                told.put(task)
        while left:
            if told.empty():
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining < 0:
                    raise TimeoutError(NOT_DONE)
                if unseen:
                    task = unseen.popleft()
                    if task in left and task._core.works_here():
                        left[task] = before = run_up_to(task)  # from here: frames are few
                        looks.follow(task, before, deadline)
                    continue
                for core in cores:
                    core.refuse_on_loop()
                task = sleep_on(told, left.values(), False, remaining)
            else:
                task = told.get()
            if task not in left:
                continue
            if task.done():
                del left[task]
                yield task
            else:  # what stood before it is, or it may be run again
                unseen.append(task)
    finally:
        looks.end()


class _Looks(Generic[T]):
    """Those of one ``as_completed`` at its tasks, and what it has parked for them."""

    def __init__(self) -> None:
        self.told: Inbox[T] = Inbox()  # gets those that are to be looked at
        self._tellers: dict[tuple[TaskLike, T], _Teller[T]] = {}
        self._helps: dict[T, Help] = {}

    def tell_of(self, task: T, at: TaskLike) -> None:
        """Have ``told`` get ``task`` at the end of ``at``, if that is still to come."""
        if (at, task) not in self._tellers:  # parked twice, it is told, and comes here, twice
            self._tellers[at, task] = teller = _Teller(self.told, task)
            at._park(teller)

    def follow(self, task: T, before: TaskLike, deadline: float | None) -> None:
        """Have ``told`` get ``task``, which waits for ``before``, when there is more to do."""
        if before is not task:
            self.tell_of(task, at=before)
        again = before is not task and is_over_or_due(before)
        if before._on_loop:
            self._helps[task] = help = self._helps.get(task) or Help()
            again = help.begin(before, _Teller(self.told, task), deadline) or again
        if again:
            self.told.put(task)

    def end(self) -> None:
        for (at, _), teller in self._tellers.items():
            at._unpark(teller)
        for help in self._helps.values():
            help.end()


def run_up_to(task: TaskLike) -> TaskLike:
    """In a worker: run ``task`` and what stands before it, as far as these can start now.

    Returns the first of them that runs elsewhere, or ``task``.
    """
    for before, held in left_before(task):
        if not held and before._claimed_by is None:
            refuse_if_deep()
            me = threading.get_ident()
            above = cycles.waiting.pop(me, None)  # a loop runs here, and waits; but not meanwhile
            try:
                before._core.attempt(before).carry_out()
            finally:
                cycles.leave(me, above)
        if not before.done():
            return before
    return task


def left_before(task: TaskLike) -> Iterator[tuple[TaskLike, Collection[TaskLike]]]:
    """What must end for ``task`` to have ended and is not done: what stands before it in its lane,
    and itself; each with itself once more, if it is held back."""
    held = [task] if is_kept_back(task) else []  # looked at before its turn: H3 in held
    for before in [*task._standing_before(), task]:
        if not before.done():
            yield before, held if before is task else [before] if is_kept_back(before) else ()
