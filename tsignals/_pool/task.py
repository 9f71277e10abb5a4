"""What a pool runs: futures with what resolves them. Knows no signals."""

from collections.abc import Callable, Sequence
from typing import cast

from tsignals._base.around import drop_frame, surrounded
from tsignals._base.interrupts import critical, foreign, outcome_of
from tsignals._base.retry import Pause
from tsignals._pool.future import PoolFuture
from tsignals._pool.lanes import Turn, joined, standing_before
from tsignals._pool.seam import Claim, PoolLike, Result, TaskLike
from tsignals._pool.state import ADMITTED, FOR_LOOP


class Entry:
    """What stands in a pool's queue: one task, or a batch of them.

    A worker takes one task after the other from it, runs it, and has it leave.
    """

    __slots__ = ()

    _ordered_by: object = None  # the receiver or ``LaneId`` whose lane it is in; None: in no lane
    _turn: Turn | None = None  # in that lane
    _on_loop = False  # it runs on the event loop, not in a worker
    _is_batch = False  # it stands for several tasks
    _stack: Sequence[int] = ()  # of a batch: what a worker may take once one is taken

    def _take(self, claim: Claim) -> "Task | None":
        """The next task, which is the worker's now; ``None``: there is none left for it."""
        raise NotImplementedError

    def _leave_if_over(self) -> None:
        """Once all that is in a batch has ended, be no longer found in the pool."""

    def _tasks(self) -> "list[Task]":
        """What may not have ended yet, the oldest first."""
        raise NotImplementedError

    def _oldest(self) -> "Task | None":
        """The first that nobody has claimed."""
        raise NotImplementedError


class Task(PoolFuture, Entry):
    """A future with what resolves it; in the queue it stands for itself."""

    __slots__ = ()

    _shares_what_was_sent = False  # of a batch, whose last one lets go of it for all

    @property
    def _entry(self) -> Entry:
        return self

    @critical
    def _take(self, claim: Claim) -> "Task | None":
        if self._turn is not None and self._turn.before is not None:
            return None  # it is queued again when its turn comes
        # It may be queued twice (E1 in backlog), and a worker has but one claim for all it takes.
        # Most have no claims when they are taken.
        if (not self._claims or self._claimed_by is None) and self._claim(claim):
            return self
        if self._ended_unrun():
            self._core.pass_on(self)  # its turn came after that
        return None

    def _tasks(self) -> "list[Task]":
        return [self]

    def _oldest(self) -> "Task | None":
        return self if self._claimed_by is None else None

    def _standing_before(self) -> list[TaskLike]:
        # Of a lane, there are tasks.
        return cast(list[TaskLike], standing_before(self))

    def _ended_before_its_turn(self) -> bool:
        claims = self._claims
        claims.extend(())  # that its turn has come is seen before the look at who has claimed it
        return bool(claims) and self._ended_unrun()

    @property
    def _paused(self) -> bool:
        return False  # what may be run again says otherwise: see pauses

    @property
    def _with_sender(self) -> bool:
        queued = self._ordered_by is None or joined(self)
        return not queued or self._core.sender_of(self) is not None

    @property
    def _may_pause(self) -> bool:
        return False

    def _ended_in_pause(self, claim: Claim) -> bool:
        return False

    def _release(self, claim: Claim, pause: Pause) -> None:
        raise NotImplementedError

    def _leave_unless_asked(self) -> bool:
        """As ``_leave``, unless somebody waits for it, or wants to be told of its end."""
        # Most have but the claim of the worker. Copied, for the order: see ``future``.
        if len(self._claims.copy()) > 1 and self._find_waiters() is not None:
            return False
        self._leave()
        return True

    def _perform(self) -> Result:
        """Do the work and return its result, or what it raised."""
        raise NotImplementedError

    def _forget(self) -> object:
        """Let go of what is needed only to run; it is about to be resolved.

        Returns it: with the last reference finalizers run.
        """
        raise NotImplementedError

    def _release_hold(self) -> None:
        """It is queued, if it was held back before: see held."""

    def _leave(self) -> None:
        """It is resolved: be no longer found in the pool."""
        self._core.forget(self)

    def _about(self) -> str:
        """What it is, for the log."""
        raise NotImplementedError


class Submitted(Task):
    """A plain function call, as ``Executor.submit`` takes it: failures are not told."""

    __slots__ = ("_claims", "_function")

    def __init__(self, core: PoolLike, function: Callable[[], object]) -> None:
        super().__init__(core)
        self._function: Callable[[], object] | None = function

    @foreign
    def _perform(self) -> Result:
        function, around, defer = self._function, self._core.config.around, self._core.state.defer
        assert function is not None
        del self  # see drop_frame
        if around is None:
            return outcome_of(function)
        return surrounded(around, drop_frame, defer, function, (), {})

    def _forget(self) -> object:
        function, self._function = self._function, None
        return function

    def _about(self) -> str:
        return "submit()"


def admitted_by(entries: Sequence[Entry]) -> int:
    """What the numbers grow by when ``entries`` are admitted."""
    admitted = 0
    for entry in entries:
        admitted += len(entry._tasks()) * (ADMITTED + entry._on_loop * FOR_LOOP)
    return admitted
