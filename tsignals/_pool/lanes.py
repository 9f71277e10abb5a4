"""Lanes: deliveries that run one at a time, in the order in which they were sent.

No lock. A lane is a chain of turns. Whoever adds a turn appends it to the list of successors of
the last one, and the first in that list is the successor; whoever ends a turn tries to append the
end of the lane in the same way. So either the new turn comes in time and is passed on to, or the
lane has ended and the new turn starts another. A lane that has ended takes itself out of the
pool's table, by its own key object, so nothing remains of a receiver that is gone.

A lane belongs to a receiver, or to a value of one: then to the ``LaneId`` of that (``lane_ids``).

A turn knows all that come after it; so it is kept in no frame that an exception may keep (see
Keeping in ``atomic_state``).

Exactly one turn of a lane has nothing before it (``before is None``). Its task is in the
pool's queue, running, or done; nobody runs a later one. When its turn comes, it is put into the
queue, unless its place there has not been reached yet (``backlog``).
"""

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar, cast

from tsignals._base.identity import IdentityKey, identity


class InLane(Protocol):
    """A task that has, or may get, a turn in a lane."""

    _turn: "Turn | None"

    def _ended_unrun(self) -> bool: ...
    def _ended_before_its_turn(self) -> bool: ...


T = TypeVar("T", bound=InLane)


class Turn:
    """One task's place in a lane."""

    __slots__ = ("after", "before", "lane", "task", "tried")

    def __init__(self, task: InLane | None, lane: "Lane | None") -> None:
        self.task = task
        self.lane = lane
        self.before: Turn | None = None
        self.after: list[Turn | None] = []  # the first counts; None: the lane ends here
        self.tried: Turn | None = self  # where it was last appended; None once that is settled


PASSED = Turn(None, None)
"""In place of a turn that has passed, which would keep all that came after it."""
PASSED.tried = None


class Lane:
    """The unfinished tasks of one ordered receiver, or of one of its values, on one pool."""

    __slots__ = ("_key", "_of", "_table", "last")

    def __init__(self, table: "dict[Hashable, Lane]", key: Hashable, of: object) -> None:
        self._table = table
        self._key = key
        self._of = of  # nothing else may get its identity before the lane has ended
        self.last = Turn(None, None)  # where to look for the end; never past it
        self.last.tried = None  # itself: a cycle, too

    def close(self) -> None:
        self._table.pop(IdentityKey(self._key), None)
        self._of = None


Lanes = dict[Hashable, Lane]


def join(lanes: Lanes, of: object, task: InLane) -> Turn:
    """Give ``task`` a turn at the end of the lane that belongs to ``of``, once, and return it.

    The turn has come already if nothing stands ``before`` it.
    """
    turn = end = task._turn
    try:
        while True:
            turn = end = task._turn
            if turn is not None and joined(task):
                return turn
            key = identity(of)
            lane = lanes.get(key) or lanes.setdefault(key, Lane(lanes, key, of))
            turn = task._turn = Turn(task, lane)
            end = lane.last
            while end is not None:
                # Before the turn can be found: the one who ends the turn before it clears it.
                turn.before = end if end.task is not None else None
                turn.tried = end
                end.after.append(turn)
                if end.after[0] is turn:
                    lane.last = turn
                    turn.tried = None
                    return turn
                end = end.after[0]
            turn.lane = None  # which has a turn that has this one: a cycle
            lane.close()
    finally:
        del turn, end


def joined(task: InLane) -> bool:
    """Whether ``task`` is in its lane, even if the one who added it was interrupted."""
    turn = task._turn
    return turn is not None and (turn.tried is None or turn.tried.after[:1] == [turn])


def standing_before(task: InLane) -> list[InLane]:
    """The tasks whose turns come before that of ``task`` and have not passed yet, in order."""
    found: list[InLane] = []
    turn = task._turn
    try:
        while turn is not None and (turn := turn.before) is not None:
            if turn.task is not None:
                found.append(turn.task)
    finally:
        del turn
    found.reverse()
    return found


def pass_on(task: T, put_in_turn: Callable[[T], object]) -> None:
    """End the turn of ``task``, which has one, and queue the one whose turn comes.

    What has been resolved unrun is passed over: perhaps no worker will come for it.
    """
    passed: list[T] = []
    of = task
    while of._turn is not None and of._turn is not PASSED:
        if of is not task:
            passed.append(of)
        following = _end_turn(of)
        if following is None:
            break
        of = cast(T, following)
        if not of._ended_before_its_turn():
            put_in_turn(of)
            break
    while passed:
        passed.pop()._turn = PASSED
    task._turn = PASSED  # this one last: interrupted, all of this is done again


def _end_turn(task: InLane) -> InLane | None:  # repeated, it does no harm
    """End the turn of ``task``; return the task whose turn has come."""
    turn = following = task._turn
    try:
        if turn is None:
            return None
        if not turn.after:
            turn.after.append(None)
        following = turn.after[0]
        if following is None:
            if (lane := turn.lane) is not None:
                lane.close()
                turn.lane = None  # it has this turn as its last: they and the task are a cycle
            return None
        following.before = None
        return following.task  # only the turn that a lane begins with has none
    finally:
        del turn, following


def pass_over(task: T, put_in_turn: Callable[[T], object]) -> None:
    """Pass the turn of ``task`` on, if that has come and ``task`` was resolved unrun.

    Who claims a task looks here afterwards whether its turn has come, and who passes turns
    on looks afterwards for a claim: so one of them passes it on, or both do.
    """
    if joined(task) and (turn := task._turn) is not None and turn.before is None:
        del turn
        if task._ended_unrun():
            pass_on(task, put_in_turn)
