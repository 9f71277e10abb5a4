"""What a worker runs in place of waiting: what it waits for, and what async deliveries await.

A worker that waits for a task which has not started runs it, and before that what stands before it
in its lane. A worker that waits for an async delivery, which the event loop runs, runs what that
awaits: all workers may wait so, and nobody else would run it.
"""

import threading
from collections.abc import Callable, Collection, Iterator

from tsignals._base.interrupts import refuse_if_deep
from tsignals._pool import cycles
from tsignals._pool.pauses import is_kept_back, is_over_or_due
from tsignals._pool.seam import TaskLike
from tsignals._pool.waiters import Helper


def run_up_to(task: TaskLike) -> TaskLike:
    """In a worker: run ``task`` and what stands before it, as far as these can start now.

    Returns the first of them that runs elsewhere, or ``task``.
    """
    for before, held in left_before(task):
        if not held and before._claimed_by is None:
            refuse_if_deep()
            before._core.attempt(before).carry_out()  # from here: frames are few
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


def _first_left(task: TaskLike) -> tuple[TaskLike, Collection[TaskLike]]:
    return next(left_before(task), (task, ()))


class Help:
    """What a worker does for async deliveries that it waits for: it runs what these await.

    Only that: it may hold what others need. And only what they await themselves, and not in tasks
    of their own, which they may need, or not.
    """

    __slots__ = ("_parked", "_tell")

    def __init__(self, tell: Callable[[TaskLike], object]) -> None:
        self._tell = tell  # is given an async delivery at which to look again
        self._parked: dict[tuple[TaskLike, TaskLike], Helper] = {}

    def look(self, delivery: TaskLike) -> bool:
        """Run one that ``delivery`` awaits, or that is awaited in turn for that.

        Whether one was run, or may be by now: then look again, for more may have changed. Else
        ``tell`` is told when to.
        """
        left, seen, lanes = [delivery], set[TaskLike](), set[int]()
        for each in left:  # which grows
            one, _ = _first_left(each)
            if not one._on_loop or one.done() or one in seen:
                continue
            seen.add(one)
            self._park(one, at=one)
            cycles.order()
            for awaited in cycles.awaited_by(one):
                if (turn := awaited._turn) is not None and turn.before is not None:
                    if id(turn.lane) in lanes:
                        continue  # to look along a lane once is enough
                    lanes.add(id(turn.lane))
                if awaited.done():
                    continue
                left.append(awaited)
                if awaited._core.works_here() and self._run_first(awaited, one):
                    return True
        return False

    def _run_first(self, awaited: TaskLike, delivery: TaskLike) -> bool:
        """Run the first that is left before ``awaited``, or itself; as ``look``."""
        first, held = _first_left(awaited)
        if not (held or first._on_loop) and first._claimed_by is None:
            self._run(first)
            return True
        if held or first is not awaited or awaited._may_pause:
            self._park(delivery, at=first)
            return is_over_or_due(first)
        return False

    def _run(self, task: TaskLike) -> None:
        refuse_if_deep()
        me = threading.get_ident()
        above = cycles.waiting.pop(me, None)  # who waits here does not do so meanwhile
        try:
            task._core.attempt(task).carry_out()
        finally:
            if above is not None:
                cycles.leave(me, above)

    def _park(self, delivery: TaskLike, at: TaskLike) -> None:
        if (at, delivery) not in self._parked:
            self._parked[at, delivery] = helper = Helper(self._tell, delivery)
            at._park(helper)

    def end(self) -> None:
        """Have nobody told of anything any more."""
        while self._parked:
            (at, _), helper = self._parked.popitem()
            at._unpark(helper)
