"""Waiting for what a pool runs, from outside and from its own workers, without a deadlock.

A worker that would wait for a task that has not started runs it. Where others run what it waits
for, it says so, and raises where that closes a cycle: see ``cycles``. Where that is an async
delivery, it runs what that awaits (``Help``).
"""

import functools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar, cast

from tsignals._base.inbox import Inbox
from tsignals._base.interrupts import refuse_if_critical, refuse_if_deep
from tsignals._base.process import notice, page
from tsignals._base.timeouts import deadline_in, left_until
from tsignals._pool import cycles
from tsignals._pool.helping import Help, left_before, run_up_to
from tsignals._pool.pauses import is_kept_back, is_over_or_due
from tsignals._pool.seam import TaskLike

T = TypeVar("T", bound=TaskLike)
W = TypeVar("W")

NOT_DONE = "the delivery is not done yet; it goes on"


class _Teller:
    """Among those who are parked until a task ends; puts that or another into a queue then."""

    __slots__ = ("_task", "_told")

    def __init__(self, told: "Inbox[TaskLike]", task: TaskLike) -> None:
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
    woken: Inbox[TaskLike | None] = Inbox()
    both = {before: None, task: None}
    try:
        for one in both:
            one._park(woken)
        if all(map(is_kept_back, held)) and not (is_over_or_due(before) or task.done()):
            before._core.refuse_on_loop()
            if not before._on_loop or timeout == 0:
                sleep_on([before], True, functools.partial(woken.get, timeout=timeout))
            else:
                _sleep_and_help(before, woken, deadline_in(timeout))
    finally:
        for one in both:
            one._unpark(woken)


def _sleep_and_help(
    before: TaskLike, woken: "Inbox[TaskLike | None]", deadline: float | None
) -> None:
    """Until ``before``, an async delivery, has ended, or what it awaits was run here."""
    help = Help(woken.put)
    try:
        if not help.look(before):
            sleep_on([before], True, functools.partial(_help_until_told, woken, help, deadline))
    finally:
        try:
            help.end()
        finally:
            help.end()  # once more: see interrupts


def _help_until_told(woken: "Inbox[TaskLike | None]", help: Help, deadline: float | None) -> None:
    while (awaiting := woken.get(timeout=left_until(deadline))) is not None:
        if help.look(awaiting):
            return


def sleep_on(tasks: Collection[TaskLike], every: bool, sleep: Callable[[], W]) -> W:
    """In a worker: what ``sleep()`` gives, which ends when one of ``tasks`` has ended.

    Others run these; ``every``: who waits needs all of them, else any. Raises as ``await_done``.
    """
    me = threading.get_ident()
    above = cycles.enter(tasks, me, every)
    try:
        return sleep()
    except queue.Empty:
        raise TimeoutError(NOT_DONE) from None
    finally:
        try:
            cycles.leave(me, above)
        finally:
            cycles.leave(me, above)  # once more: see interrupts


def as_ended(tasks: Sequence[T], timeout: float | None) -> Iterator[T]:
    """Yield ``tasks`` as they end, and run nothing meanwhile.

    Raises ``TimeoutError``, and ``RuntimeError`` on the event loop that runs one of them.

    ``concurrent.futures`` enters a lock's ``with`` block for that: interrupted there, from CPython
    3.14 on, it may leave the lock held, and the worker that tells it of an end waits for ever.
    """
    refuse_if_critical("as_completed()")
    deadline = deadline_in(timeout)
    told: Inbox[TaskLike] = Inbox()
    tellers: dict[tuple[TaskLike, TaskLike], _Teller] = {}
    try:
        _have_each_told(tasks, told, tellers)
        yield from _as_told(tasks, told, deadline)
    finally:
        for (task, _), teller in tellers.items():
            task._unpark(teller)


def _as_told(tasks: Sequence[T], told: "Inbox[TaskLike]", deadline: float | None) -> Iterator[T]:
    left, cores = dict.fromkeys(tasks), {task._core for task in tasks}
    while left:
        if told.empty():
            for core in cores:
                core.refuse_on_loop()
        try:
            one = cast(T, told.get(timeout=left_until(deadline)))
        except queue.Empty:
            raise TimeoutError(f"{len(left)} (of {len(tasks)}) futures unfinished") from None
        if one in left and one.done():
            del left[one]
            yield one


def as_completed(tasks: Sequence[T], timeout: float | None) -> Iterator[T]:
    """In a worker: yield ``tasks`` as they end; run what has not started of its own pool.

    Raises as ``await_done``.
    """
    refuse_if_critical("a worker")
    deadline = deadline_in(timeout)
    told: Inbox[TaskLike] = Inbox()  # gets those that are to be looked at
    tellers: dict[tuple[TaskLike, TaskLike], _Teller] = {}
    help = Help(told.put)
    # With what each waits for: itself, or another.
    left: dict[TaskLike, TaskLike] = dict(zip(tasks, tasks, strict=True))
    unseen: deque[TaskLike] = deque(tasks)
    cores = {task._core for task in tasks}
    try:
        _have_each_told(tasks, told, tellers)
        while left:
            if told.empty():
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining < 0:
                    raise TimeoutError(NOT_DONE)
                if unseen:
                    one = unseen.popleft()
                    if one in left and one._core.works_here():
                        left[one] = before = run_up_to(one)  # from here: frames are few
                        _follow(one, before, told, tellers, help)
                    continue
                for core in cores:
                    core.refuse_on_loop()
                asleep = functools.partial(told.get, timeout=remaining)
                one = sleep_on(left.values(), False, asleep)
            else:
                one = told.get()
            if one not in left:
                if help.look(one):
                    told.put(one)
            elif one.done():
                del left[one]
                yield cast(T, one)
            else:  # what stood before it is, or it may be run again, or it awaits something now
                unseen.append(one)
    finally:
        for (told_of, _), teller in tellers.items():
            told_of._unpark(teller)
        help.end()


def _follow(
    task: TaskLike,
    before: TaskLike,
    told: "Inbox[TaskLike]",
    tellers: "dict[tuple[TaskLike, TaskLike], _Teller]",
    help: Help,
) -> None:
    """Have ``told`` get ``task``, which waits for ``before``, when there is more to do."""
    again = False
    if before is not task:
        _have_told(before, task, told, tellers)
        again = is_over_or_due(before)
    if before._on_loop:
        again = help.look(before) or again
    if again:
        told.put(task)


def _have_each_told(
    tasks: Sequence[TaskLike],
    told: "Inbox[TaskLike]",
    tellers: "dict[tuple[TaskLike, TaskLike], _Teller]",
) -> None:
    """Have ``told`` get each of ``tasks`` at its end, or now."""
    for task in tasks:
        _have_told(task, task, told, tellers)
        if task.done():
            told.put(task)


def _have_told(
    of: TaskLike,
    task: TaskLike,
    told: "Inbox[TaskLike]",
    tellers: "dict[tuple[TaskLike, TaskLike], _Teller]",
) -> None:
    """Have ``told`` get ``task`` at the end of ``of``, if that is still to come."""
    if (of, task) not in tellers:  # parked twice, it is told twice, and comes here twice as often
        tellers[of, task] = teller = _Teller(told, task)
        of._park(teller)
