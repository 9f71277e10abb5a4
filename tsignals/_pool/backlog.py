"""What waits in one pool: the queue, and what is in it or was taken from it and has not ended.

The queue is a line of entries, the oldest first, and a ``SimpleQueue`` of tokens on which workers
sleep. Who adds to the line then puts a token; who has taken a token then takes the first in line.
So the order is that of the line alone, and what has ended leaves it from where it stands.

What stands behind another in its lane has its place in line, too: that of its send. A worker that
comes to it before its turn in the lane has come takes it out, and runs nothing. When the turn comes
it is put in front of the line, for what is there was sent later. Where the line was empty at the
send it gets no place before that: it would have been the first. So a lane waits for what was sent
before, and not for the whole queue anew after each of its tasks. Of two in front the later one is
taken first; the other waits for what a lane has fallen behind with, and not for ever: while workers
take from the front they come by nothing more.

Lock
    None. Each step on the line is one call of an ``OrderedDict``, and one in C.

Invariants
    E1  An entry in the queue entitles nobody: the worker must still claim the task. So an entry
        too many does no harm, and a step that was interrupted is simply done again. (E2, on who
        has claimed it, is in ``attempt``.)
    E3  An entry is in ``unresolved`` from before it can be found in the queue until all of it is
        done, the oldest first. So whoever finds that nothing will run what waits says so in
        ``Core.terminal_error`` and then looks there; who has queued something looks at that after.
    E4  Workers know the core, never the pool in front of it. When nobody refers to that any
        more, its weak reference is put among the tokens, and the worker that takes it closes the
        pool. That is a step in C: unlike ``__del__``, no signal handler can raise in it. At exit it
        is put there no more: where no GIL is, a worker that was left behind may have the queue's
        lock, and who ends the process would wait for it for ever.
    E5  There are at least as many tokens as entries in line, those counted that somebody has in
        hand between the two steps. So none is left behind; and a worker that finds nobody in line
        may drop its token. Whoever takes an entry out therefore has a token in hand before: one
        taken afterwards may be that of an entry which came meanwhile, while a worker has dropped
        the other.
    E6  Who passes a turn on says so in the turn and then looks into the line; the worker takes the
        entry out of the line and then looks at the turn. So one of them sees that the task may be
        run, or both do (E1).
    E7  What is sent can be found, and ended, before it is in line. What stands in a lane may be put
        there by two, with its send and in its turn, and a batch by each worker that takes from it.
        So all of it may have ended by then. Who puts it there looks afterwards whether it has; and
        who has ended it looks then whether it is there. So it does not stay behind busy workers,
        or where none comes any more. (What is tried again may, until one comes.)
"""

import contextlib
import queue
import sys
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from tsignals._pool.lane_ids import LaneIds
from tsignals._pool.lanes import Lanes
from tsignals._pool.seam import Claim
from tsignals._pool.state import State
from tsignals._pool.task import Entry, Task
from tsignals._pool.waiters import DONE


class Loop(Protocol):
    """The pool's event loop, which takes what is async."""

    thread: threading.Thread

    def take(self, entries: Sequence[Entry]) -> None: ...
    def runs_here(self) -> bool: ...
    def call(self, function: Callable[[], object]) -> None:
        """Have ``function`` called on its thread, unless it has ended."""

    def stop(self) -> None:
        """End; twice does no harm."""

    def abandon(self) -> None:
        """In a forked child: never touch it again."""


Token = bool | weakref.ref[object] | None
"""What a worker takes: True: somebody is in line; None: it may go; the weak reference of E4."""


class InSender(Entry):
    """Has the place, among what is not resolved, of deliveries that their sender runs itself.

    They are found there one by one, as they start or are queued after all. Until then they count
    as running, and nobody else may run or resolve them.
    """

    __slots__ = ("__weakref__", "tasks", "thread")

    def __init__(self, tasks: Sequence[Task], thread: int) -> None:
        self.tasks = tasks
        self.thread = thread

    def _take(self, claim: Claim) -> Task | None:
        return None

    def _tasks(self) -> list[Task]:
        return []

    def _oldest(self) -> Task | None:
        return None


class Backlog:
    """The queue of one pool, its lanes, and what is not resolved."""

    __slots__ = (
        "_elders",
        "in_senders",
        "lane_ids",
        "lanes",
        "line",
        "loops",
        "pool_ref",
        "tokens",
        "unresolved",
    )

    def __init__(self) -> None:
        self.line: OrderedDict[Entry, bool | None] = OrderedDict()
        self.tokens: queue.SimpleQueue[Token] = queue.SimpleQueue()
        self.unresolved: dict[Entry, float] = {}  # E3; with the time from which on each waits
        self.in_senders: dict[InSender, None] = {}
        self.lanes: Lanes = {}
        self.lane_ids: LaneIds = {}
        self.loops: list[Loop] = []  # the first is the pool's
        self.pool_ref: weakref.ref[object] | None = None
        self._elders: deque[weakref.ref[Entry]] = deque()  # the oldest of them; see oldest

    def attend(self, pool: object) -> None:
        """Have a worker learn when nobody refers to ``pool`` any more (E4)."""
        self.pool_ref = weakref.ref(pool, self.tokens.put)

    def attend_no_more(self) -> None:
        """At exit: from now on nobody learns of that."""
        pool = None if self.pool_ref is None else self.pool_ref()
        self.pool_ref = None if pool is None else weakref.ref(pool)

    def put(self, entry: Entry) -> None:
        """Queue ``entry`` for a worker; what is in line stays where it stands."""
        self.line[entry] = None
        self.tokens.put(True)

    def requeue(self, entry: Entry) -> None:
        """Queue what is unresolved, for a worker or the loop; more than once does no harm (E1)."""
        if entry._on_loop:
            self.loops[0].take([entry])
        else:
            self.put(entry)

    def put_in_turn(self, entry: Entry) -> None:
        """Queue what stood behind another in its lane, and whose turn has come (E6)."""
        if entry in self.line:
            return  # it is taken from its place
        self.requeue(entry)  # first: no interrupt comes between the two steps of ``put``
        with contextlib.suppress(KeyError):  # somebody has it already
            self.line.move_to_end(entry, last=False)
        self.withdraw(entry)  # where it has ended meanwhile: E7

    def was_admitted(self, task: Task) -> bool:
        """Whether it is in here; or somebody has claimed it, and it may have left.

        Looked at in this order: between the looks it may be claimed, and leave.
        """
        known = self.unresolved
        return task in known or task._entry in known or task._claimed_by is not None

    def tasks(self) -> list[Task]:
        """All that may not be resolved yet, the oldest first (E3)."""
        return [task for entry in list(self.unresolved) for task in entry._tasks()]

    def unfinished(self) -> list[Task]:
        """All that is pending or running, the oldest first."""
        found: list[Task] = []
        twice = False
        for entry in list(self.unresolved):
            if isinstance(entry, Task):  # most are
                found.append(entry)
            elif isinstance(entry, InSender):
                found += entry.tasks
                twice = True  # what of these has started is met again
            else:
                found += entry._tasks()
        if twice:
            found = list(dict.fromkeys(found))
        return [task for task in found if task._phase not in DONE]

    def oldest(self) -> Task | None:
        """Of what nobody has claimed, what came first (E3)."""
        # The start of ``unresolved`` is full of holes, which take long to pass. So all that is in
        # there is looked up at once, and serves until it has ended.
        elders, looked_up = self._elders, False
        while True:
            try:
                elder = elders.popleft()
            except IndexError:
                if looked_up:
                    return None
                looked_up = True
                elders.extend(map(weakref.ref, list(self.unresolved)))
                continue
            entry = elder()
            task = None if entry is None else entry._oldest()
            if task is not None:
                elders.appendleft(elder)  # it may not be dropped, or have more
                return task

    def withdraw(self, entry: object) -> None:
        """Take ``entry`` out of the queue, if all of it has ended.

        It and its token would pile up behind busy workers.
        """
        if entry in self.unresolved or entry not in self.line:
            return
        settled = False
        token: Token = False
        try:
            with contextlib.suppress(queue.Empty):  # a worker has it in hand: one too many, then
                token = self.tokens.get_nowait()  # first: see E5
            found = self.line.pop(cast(Entry, entry), False) is not False
            if token is not False and not (token is True and found):
                self.tokens.put(token)
            settled = True
        finally:
            if not settled:  # interrupted, perhaps with any one in hand
                self.tokens.put(True)
                self.tokens.put(None)
                if (ref := self.pool_ref) is not None and ref() is None:
                    self.tokens.put(ref)

    # Bound now: while the interpreter ends, module globals go before the last pools do.
    def try_terminate(self, state: State, _ending: Callable[[], bool] = sys.is_finalizing) -> bool:
        """Where the pool closes, and nothing is left for them, end its threads.

        Whether nothing is left for any. While the interpreter ends, they are stopped where they
        are, perhaps with the lock of the queue.
        """
        if not state.mode or _ending():
            return False
        if not state.pending:
            self.tokens.put(None)
        if state.quiet:
            for loop in self.loops:
                loop.stop()
        return state.quiet

    def clear(self) -> None:
        """Take everything out of the queue: nobody will, and it knows what was sent."""
        self.line.clear()
        while True:
            try:
                self.tokens.get_nowait()
            except queue.Empty:
                return
