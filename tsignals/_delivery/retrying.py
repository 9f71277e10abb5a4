"""A delivery that may be run again: what its pool asks of it, and whether it is.

What stands between two attempts is the affair of ``_pool.pauses``, and of the pool's timer.
"""

import logging
from collections.abc import Callable
from time import perf_counter

from tsignals._base.interrupts import foreign, raised_by
from tsignals._base.log import comes_from_outside, log_safely
from tsignals._base.retry import Pause, Retry, checked_pause
from tsignals._calling.tracking import Gate
from tsignals._pool.core import Core
from tsignals._pool.future import PENDING
from tsignals._pool.pauses import Claims, ended_in_pause, read, release
from tsignals._pool.seam import Claim
from tsignals._pool.state import Mode
from tsignals._pool.task import Task


class MayRunAgain(Task):
    """A delivery, as far as it may be run more than once."""

    __slots__ = ()

    _claims: Claims
    _gate: Gate | None
    _retry: Retry | None = None

    @property
    def _claimed_by(self) -> Claim | None:
        if self._retry is not None:
            return read(self._claims)[0]
        # As PoolFuture has it; to ask that takes longer.
        for entry in self._claims:
            if type(entry) is tuple:
                return entry
        return None

    @property
    def _may_pause(self) -> bool:
        return self._retry is not None

    @property
    def _paused(self) -> bool:
        return self._retry is not None and read(self._claims)[2]

    def _ended_in_pause(self, claim: Claim) -> bool:
        return self._retry is not None and ended_in_pause(self._claims, claim)

    def _last_pause(self) -> Pause | None:
        """What came before this attempt; ``None``: it is the first."""
        return None if self._retry is None else read(self._claims)[1]

    def _release(self, claim: Claim, pause: Pause) -> None:
        if self._claimed_by is claim:
            self._phase = PENDING
            release(self._claims, pause)

    def _mind_gate(self) -> None:
        """It waits: its gate cancels it if that closes, or has been closed."""
        # Not before it is counted: one that is cancelled must have been.
        if (gate := self._gate) is not None:
            gate.enqueue(self)
            if self._claimed_by is not None:
                gate.dequeue(self)  # it has started, or ended, meanwhile


@foreign
def pause_after(
    policy: Retry,
    core: Core,
    before: Pause | None,
    started: float,
    error: BaseException,
    call: Callable[..., object],
    about: str,
) -> Pause | None:
    """What follows an attempt that has raised ``error``; ``None``: it was the last.

    before: what came before it; started: when it did. call: calls a function with arguments, in
    the context of the receiver. What ``on`` raises is logged.
    """
    if core.abandoned or core.timer.is_closed or core.state.value.mode > Mode.CLOSING:
        return None  # nobody would run it
    attempts = 1 if before is None else before.attempts + 1
    began = started if before is None else before.began
    answer: list[float | None] = []
    raised: BaseException | None = None
    try:
        ran = perf_counter() - began
        raised = raised_by(call, _ask, answer, policy, attempts, ran, error)
        if raised is not None:
            _tell(
                core, "the function given to retry of %s raised; it is not run again", about, raised
            )
            return None
        [seconds] = answer
        if seconds is None:
            return None
        raised = raised_by(core.timer.start, core)
        if raised is not None:
            _tell(core, "no timer for %s could start; it is not run again", about, raised)
            return None
        return Pause(attempts, began, perf_counter() + seconds)
    finally:
        del error, raised  # or the traceback, this frame and the error form a cycle


def _ask(
    answer: list[float | None], policy: Retry, attempts: int, ran: float, error: BaseException
) -> None:
    try:
        pause = policy.pause_after(attempts, ran, error)
        answer.append(None if pause is None else checked_pause(pause))
    finally:
        del error


def _tell(core: Core, message: str, about: str, raised: BaseException) -> None:
    if comes_from_outside(raised):
        core.state.defer(raised)  # it comes from outside: raised once all this has ended
    else:
        log_safely(logging.ERROR, message, about, exc_info=raised)
