"""Models of deliveries that are run again: what meets between two attempts."""

from contextlib import AbstractContextManager
from typing import Any

from stress.models.explore import Model, Mutant, at_once, replaced, require
from stress.models.pool import (
    CLAIM,
    SWAP,
    Busy,
    at_rest,
    end_by_itself,
    end_of,
    named_signal,
    wrong,
    wrong_step,
)
from tsignals import Retry, WorkerPool
from tsignals._delivery import retrying
from tsignals._pool import attempt as stages
from tsignals._pool import timer as timers
from tsignals._pool.attempt import Attempt
from tsignals._pool.future import PENDING
from tsignals._pool.pauses import DUE
from tsignals._pool.state import WANTED
from tsignals._pool.timer import Timer, resume
from tsignals._pool.waiters import Waiters

LATER = Retry(ValueError, wait_initial=3000, wait_max=3000, wait_jitter=0, timeout=None)


def _no_thread() -> AbstractContextManager[None]:
    """The model is the timer."""
    return replaced(Timer, "start", lambda self, core: None)


class _Failed:
    """A delivery that has failed once, or is about to, and a pool whose one worker is held up."""

    def __init__(self, failed: bool = True, **terms: Any) -> None:
        self.calls = 0
        self.pool = Busy()
        signal = named_signal(self.pool)
        signal.connect(self.receive, weak=False, retry=LATER, **terms)
        [(_, self.delivery)] = signal.send_async(None)
        if failed:
            self.run()

    def receive(self, **named: Any) -> None:
        self.calls += 1
        if self.calls == 1:
            raise ValueError

    def run(self) -> None:
        """As a worker that waits for it."""
        core: Any = self.pool._core
        core.attempt(self.delivery).carry_out()

    def fall_due(self) -> None:
        """As the timer, once it knows of a pause that is over."""
        core: Any = self.pool._core
        _, _, reference, pause = core.timer._inbox.get()
        resume(core, reference(), pause)


def _wanted(pool: WorkerPool) -> int:
    """How many more wait for a worker than are idle."""
    return int(pool._core.state.value.numbers // WANTED)


def due_cancel() -> str:
    """It is cancelled, and none waits for a worker then."""
    cancelled = list[bool]()
    with _no_thread():
        one = _Failed(ordered=True)
        at_once(one.fall_due, lambda: cancelled.append(one.delivery.cancel()))
        counted = _wanted(one.pool)
        one.pool.let_go()
        one.pool.shutdown()
    end = end_of(one.delivery)
    require(cancelled == [True] and end == "cancelled", f"cancel() said {cancelled}, and it {end}")
    require(one.calls == 1, f"it was called {one.calls} times")
    require(counted == 0, f"{counted} more wait for a worker than do")
    at_rest(one.pool)
    return end


def due_shutdown() -> None:
    """It is run again, also while the pool closes, and then the worker goes."""
    with _no_thread():
        one = _Failed()
        at_once(one.fall_due, lambda: one.pool.shutdown(wait=False))
        one.pool.let_go()
        end_by_itself(one.pool)
    require(one.calls == 2 and end_of(one.delivery) == "ran", f"{one.calls} calls")


def fail_due() -> None:
    """It is run again, if the pause is over at once, too."""
    with _no_thread():
        one = _Failed(failed=False, ordered=True)
        at_once(one.run, one.fall_due)
        one.pool.let_go()
        one.pool.shutdown()
    require(one.calls == 2 and end_of(one.delivery) == "ran", f"{one.calls} calls")
    at_rest(one.pool)


def fail_cancel() -> str:
    """Cancelled while it runs, it says no; in its pause, or before all, it says yes."""
    cancelled = list[bool]()
    with _no_thread():
        one = _Failed(failed=False, ordered=True)
        at_once(one.run, lambda: cancelled.append(one.delivery.cancel()))
        if not one.delivery.done():
            one.fall_due()
        one.pool.let_go()
        one.pool.shutdown()
    end = end_of(one.delivery)
    require(cancelled == [end == "cancelled"], f"cancel() said {cancelled}, and it {end}")
    at_rest(one.pool)
    return f"{end}, after {one.calls} calls"


def fall_due_unseen(claims: Any, pause: Any) -> bool:
    """Do not look whether it was ended before."""
    claims.append(DUE)
    return True


def told_before_released(self: Attempt) -> int:
    """Have the timer know, and then let go of it."""
    pause: Any = self.outcome[0]
    self.core.timer.begin(self.core, self.task, pause)
    self.task._release(self.claim, pause)
    return stages.OVER


def release_looking_first(self: Any, claim: Any, pause: Any) -> None:
    """Let everybody have it, and then say that it waits."""
    claims = self._claims
    claims[:] = [entry for entry in claims if type(entry) is Waiters]
    self._phase = PENDING
    claims.append(pause)


def never_in_pause(claims: Any, claim: Any) -> bool:
    return False


TAKE_BACK = Mutant("do not look", wrong(timers, "fall_due", fall_due_unseen), races=False)
NOT_LOOK = Mutant("always due", wrong(retrying, "ended_in_pause", never_in_pause), races=False)
TELL_FIRST = Mutant("tell, then release", wrong_step(stages.RELEASE, told_before_released))
RELEASE = Mutant(
    "let go, then say so", wrong(retrying.MayRunAgain, "_release", release_looking_first)
)

MODELS = (
    Model("retry: due/cancel", due_cancel, (TAKE_BACK, NOT_LOOK), ("cancelled",)),
    Model("retry: due/shutdown", due_shutdown, (SWAP,)),
    Model("retry: fail/due", fail_due, (TELL_FIRST,)),
    Model(
        "retry: fail/cancel",
        fail_cancel,
        (CLAIM, RELEASE),
        ("cancelled, after 0 calls", "cancelled, after 1 calls", "ran, after 2 calls"),
    ),
)
