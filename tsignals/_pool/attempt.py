"""How far one thread has come with a task: the one place where interrupts of a delivery are minded.

    stage      what is done next
    CLAIM      claim the task: whoever does so first resolves it, and nobody else
    BEGIN      count it as running
    CALL       do the work
    COUNT      let go of what was needed to run, and count how it ended
    COMPLETE   store the outcome and wake who waits
    CALL_BACK  call the callbacks
    LEAVE      take it out of the pool, and pass its turn on
    RELEASE    let go of the claim: it is to be run again after a pause
    PAUSE      have the timer know
    OVER       nothing

What is resolved without being run goes from CLAIM to COUNT. What has failed and is to be run again
goes from COUNT to RELEASE: it is counted as pending, and then it is nobody's (``pauses``).

Each step returns the stage that follows, which is stored in the same statement. So a step is noted
or it is to be done again (see ``interrupts``), and each is written so that doing it again does no
harm. Whoever is interrupted goes on from there, if the task is its own, and raises at the end.

    E2  Whoever claims a task resolves it, after counting it, whatever happens in between; or has
        it wait for its next attempt, and its turn in a lane with it.

A worker, which no signal handler interrupts, goes a shorter way with what ends well
(``worker``); what somebody asks about comes here once it is counted. All else comes here.
"""

from collections.abc import Callable
from typing import Protocol, cast

from tsignals._base.errors import SKIPPED
from tsignals._base.interrupts import foreign
from tsignals._base.retry import Pause
from tsignals._pool import state
from tsignals._pool.backlog import Backlog
from tsignals._pool.future import CANCELLED_AND_NOTIFIED, FINISHED
from tsignals._pool.seam import Claim, PoolLike, Result, TaskLike
from tsignals._pool.state import FINISH, IDLE, START

CLAIM, BEGIN, CALL, COUNT, COMPLETE, CALL_BACK, LEAVE, RELEASE, PAUSE, OVER = range(10)


class Counting(PoolLike, Protocol):
    """A pool, as those see it who run its tasks."""

    @property
    def backlog(self) -> Backlog: ...
    @property
    def drops(self) -> "DropsLike": ...
    @property
    def timer(self) -> "TimerLike": ...
    def count(self, change: int) -> None:
        """Change the numbers; raises only if interrupted before that."""

    def remember(self, entry: object) -> None:
        """``entry`` is not resolved; until ``forget`` it is found among what is not."""

    def add_workers(self) -> None:
        """Start a worker for each task that waits for one, as far as that is allowed."""

    def pass_over(self, task: TaskLike) -> None:
        """Pass its turn on, if that has come and it was resolved unrun."""

    def fail_pending(self) -> None:
        """Resolve what waits if nothing will run it."""


class DropsLike(Protocol):
    """What was dropped or lost, and is not logged yet."""

    def log_now_and_then(self) -> None:
        """Log it; what was dropped, unless that was done a moment ago."""


class TimerLike(Protocol):
    """What knows when a pause is over."""

    def begin(self, core: "Counting", task: TaskLike, pause: Pause) -> None:
        """Have ``task`` run again when ``pause``, which has begun, is over; twice does no harm."""

    def look(self) -> None:
        """Something has ended in its pause."""


class Attempt:
    """One thread's way with a task, from ``stage`` on to its end."""

    __slots__ = (
        "claim",
        "core",
        "counted",
        "decide",
        "ends_as",
        "idle",
        "idle_again",
        "kept",
        "outcome",
        "phase",
        "stage",
        "stays_queued",
        "task",
    )

    def __init__(self, core: Counting, task: TaskLike, claim: Claim, stage: int = CLAIM) -> None:
        self.core = core
        self.task = task
        self.claim = claim
        self.stage = stage
        self.outcome: Result = (None, None)
        self.phase = FINISHED
        self.ends_as: int | None = None  # what is counted at its end; None: as it ran
        # Where more than the claim decides, for what is held back; asked again, it says the same.
        self.decide: Callable[[Claim], bool] | None = None
        self.counted = False  # as running, by its sender, who runs it
        self.stays_queued = False  # for nothing: no worker has taken it from the queue
        self.idle = 0  # IDLE in a worker that has nothing else to do
        self.idle_again = 0  # IDLE once that is counted, before the task is done
        self.kept: object = None  # of what was not run: what was sent, until all else is done

    def carry_out(self) -> bool:
        """Go all the way; whether the task was this thread's."""
        interrupt: BaseException | None = None
        try:
            while True:
                try:
                    self._take_steps()
                    if self.stage == CALL:  # here: deliveries that wait for deliveries nest deep
                        self.task._begin(self.claim)
                        self.outcome = self.task._perform()
                        self.stage = COUNT
                        self._take_steps()
                    break
                except BaseException as raised:  # an interrupt, or a callback's: go on, then raise
                    if self.stage == CALL:  # what interrupts the receiver is its error
                        self.outcome, self.stage = (None, raised), COUNT
                    elif interrupt is not None or not self._is_mine():
                        raise
                    else:
                        interrupt = raised
            if interrupt is not None:
                raise interrupt
            return self.task._claimed_by is self.claim
        finally:
            if self.idle and not self.idle_again:
                self.core.count(IDLE)
            self.outcome = (None, None)
            if self.kept is not None:
                self._drop_kept()
            del self.task, self, interrupt  # see drop_frame

    @foreign
    def _drop_kept(self) -> None:
        """Finalizers of what was sent may wait for anything: nothing is half done any more."""
        self.kept = None

    def _take_steps(self) -> None:
        """Go on to the call, or from that to the end."""
        while self.stage not in (CALL, OVER):  # by itself, for it jumps back: see interrupts
            self.stage = _STEPS[self.stage](self)

    def _is_mine(self) -> bool:
        if self.stage in (RELEASE, PAUSE):
            return True  # until the timer has it
        decided = self.decide is not None and self.decide(self.claim)
        return decided or self.task._claimed_by is self.claim

    # -- The steps --

    def _claim(self) -> int:
        if self.decide is not None and not self.decide(self.claim):
            return OVER
        if self.task._claim(self.claim):
            return BEGIN if self.ends_as is None else COUNT
        if self.ends_as is None and self.task._ended_unrun():
            self.core.pass_on(self.task)  # its turn came after that
        return OVER

    def _begin(self) -> int:
        if not self.counted:
            self.core.count(START - self.idle)
            return CALL
        # Not before the claim: what is in there and unclaimed counts as pending.
        self.core.remember(self.task)
        return OVER if self.core.abandoned else CALL

    def _count(self) -> int:
        task, error = self.task, self.outcome[1]
        if task._claimed_by is not self.claim:
            return OVER  # forked meanwhile: the future is the parent's
        if error is not None and type(self.outcome[0]) is Pause:
            self.core.count(state.TO_PAUSE + self.idle)
            self.idle_again = self.idle
            return RELEASE
        change = self.ends_as
        if change is None:
            skipped = error is SKIPPED
            change = FINISH["completed" if error is None else "cancelled" if skipped else "failed"]
        elif task._ended_in_pause(self.claim):
            change -= 0 if task._on_loop else state.FOR_LOOP  # it has waited for no worker
            self.core.timer.look()
        # Before it is done: who waits for that may send again, and should find this worker instead
        # of starting another. Callbacks may take long: then it is the last step.
        early = 0 if task._has_callbacks() else self.idle
        kept = task._forget()
        if self.ends_as is not None:
            self.kept = kept
        del kept
        if change + early:
            self.core.count(change + early)
        self.idle_again = early
        return COMPLETE

    def _complete(self) -> int:
        result, error = self.outcome
        if error is SKIPPED:
            error, self.phase = None, CANCELLED_AND_NOTIFIED
        self.task._complete(result, error, self.phase)
        return CALL_BACK

    def _call_back(self) -> int:
        task, core = self.task, self.core
        if task._has_callbacks():
            if self.idle_again:  # they came since it was counted, or were not looked for then
                core.count(-IDLE)
                self.idle_again = 0
                core.add_workers()  # for what was left to this worker meanwhile
            task._call_back()
        return LEAVE

    def _leave(self) -> int:
        task, core = self.task, self.core
        task._leave()
        if self.ends_as is None:
            core.pass_on(task)
        else:
            core.pass_over(task)
        if self.stays_queued:
            core.backlog.withdraw(task._entry)
            if task._may_pause:  # to be run again it was queued by itself
                core.backlog.withdraw(task)
        if self.decide is None:  # else a finalizer may do this, and what it raises goes nowhere
            core.state.raise_interrupt()
        return OVER

    def _release(self) -> int:
        self.task._release(self.claim, cast(Pause, self.outcome[0]))
        return PAUSE

    def _pause(self) -> int:
        self.core.timer.begin(self.core, self.task, cast(Pause, self.outcome[0]))
        self.core.state.raise_interrupt()
        return OVER


_STEPS: dict[int, Callable[[Attempt], int]] = {
    CLAIM: Attempt._claim,
    BEGIN: Attempt._begin,
    COUNT: Attempt._count,
    COMPLETE: Attempt._complete,
    CALL_BACK: Attempt._call_back,
    LEAVE: Attempt._leave,
    RELEASE: Attempt._release,
    PAUSE: Attempt._pause,
}
