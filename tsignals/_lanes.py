"""Lanes: deliveries that run one at a time, in the order in which they were sent.

No lock. A lane is a chain of turns. Whoever adds a turn appends it to the list of successors of
the last one, and the first in that list is the successor; whoever ends a turn tries to append the
end of the lane in the same way. So either the new turn comes in time and is passed on to, or the
lane has ended and the new turn starts another. A lane that has ended takes itself out of the
pool's table, by its own key object, so nothing remains of a receiver that is gone.

Exactly one turn of a lane has nothing before it (``before is None``). Its delivery is in the
pool's queue, running, or done; a later one is put into the queue when its turn comes.
"""

from collections.abc import Hashable
from typing import Any

from tsignals._receiver import Only, identity


class Turn:
    """One delivery's place in a lane."""

    __slots__ = ("after", "before", "future", "kept", "lane", "tried")

    def __init__(self, future: Any, lane: Any, kept: bool = False) -> None:
        self.future = future
        self.lane = lane
        # Who sent it runs it when its turn comes, unless they give that up. They do so before they
        # look whether the turn has come; who passes the turn on looks for them afterwards.
        self.kept = kept
        self.before: Turn | None = None
        self.after: list[Turn | None] = []  # the first counts; None: the lane ends here
        self.tried: Turn | None = self  # where it was last appended; None once that is settled

    def joined(self) -> bool:
        """Whether it is in its lane, even if the one who added it was interrupted."""
        return self.tried is None or self.tried.after[:1] == [self]

    def standing_before(self) -> list[Any]:
        """The futures whose turns come before this one and have not passed yet, in order."""
        found = []
        turn = self.before
        while turn is not None:
            found.append(turn.future)
            turn = turn.before
        found.reverse()
        return found

    def pass_on(self) -> "Turn | None":  # repeated, it does no harm
        """End this turn; return the one that has come."""
        if not self.after:
            self.after.append(None)
        following = self.after[0]
        if following is None:
            if (lane := self.lane) is not None:
                lane.close()
                self.lane = None  # it has this turn as its last: they and the future are a cycle
            return None
        following.before = None
        return following


PASSED = Turn(None, None)
"""In place of a turn that has passed, which would keep all that came after it."""
PASSED.tried = None


class Lane:
    """The unfinished deliveries of one ordered receiver on one pool."""

    __slots__ = ("_key", "_table", "last")

    def __init__(self, table: "dict[Hashable, Lane]", key: Hashable) -> None:
        self._table = table
        self._key = key
        self.last = Turn(None, self)  # where to look for the end; never past it
        self.last.tried = None  # itself: a cycle, too

    def close(self) -> None:
        self._table.pop(Only(self._key), None)


def join(table: dict[Hashable, Lane], receiver: object, future: Any, kept: bool = False) -> Turn:
    """Give ``future`` a turn at the end of its receiver's lane, once, and return it.

    The turn has come already if nothing stands ``before`` it.
    """
    while True:
        turn: Turn | None = future._turn
        if turn is not None and turn.joined():
            return turn
        key = identity(receiver)
        lane = table.get(key) or table.setdefault(key, Lane(table, key))
        turn = future._turn = Turn(future, lane, kept)
        end: Turn | None = lane.last
        while end is not None:
            # Before the turn can be found: the one who ends the turn before it clears it.
            turn.before = end if end.future is not None else None
            turn.tried = end
            end.after.append(turn)
            if end.after[0] is turn:
                lane.last = turn
                turn.tried = None
                return turn
            end = end.after[0]
        lane.close()
