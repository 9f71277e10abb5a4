"""Futures of a pool: ``concurrent.futures.Future`` without a lock of their own.

A standard future makes a Condition when it is born, most of its cost, and hardly any is ever
waited on. Here :class:`Waiters` (who is parked, the callbacks) are made when somebody first comes.

Two things are decided in one list, ``_claims``, to which everybody only appends. Who may resolve a
future: claimants append a claim, and the first in the list counts. Who has it stores the outcome,
then sets ``_phase``, then looks for waiters. Who comes to wait appends ``Waiters`` (the first in
the list count), and then looks at ``_phase``. Both look by an operation on the list, which orders
them with and without the GIL: so the one sees the waiters, or the comer sees the outcome, or both;
and announcing twice does no harm. (The deliveries of a batch get their lists only when somebody
asks: see ``batch``.)

    phase      what was done                                     by
    PENDING    made; then claimed                                a worker, a helper, a cancel, ...
    RUNNING    claimed to be run, and counted as running         who has claimed it
    FINISHED, CANCELLED_AND_NOTIFIED    outcome stored           who has claimed it
    PENDING    again, after RUNNING: its next attempt waits      who has claimed the last (pauses)
"""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any, cast

from tsignals._base.identity import SameWhenCopied
from tsignals._base.interrupts import critical, refuse_if_deep
from tsignals._base.process import notice, page
from tsignals._base.timeouts import seconds
from tsignals._pool import waiting
from tsignals._pool.pauses import Claims
from tsignals._pool.seam import Claim, Parked, PoolLike, TaskLike
from tsignals._pool.waiters import (
    DONE,
    LATECOMER,
    Callback,
    ConditionView,
    Helper,
    Listener,
    Waiters,
)

PENDING = "PENDING"
RUNNING = "RUNNING"
CANCELLED_AND_NOTIFIED = "CANCELLED_AND_NOTIFIED"
FINISHED = "FINISHED"


class Raised:
    """The outcome of what has raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class PoolFuture(SameWhenCopied, Future[Any]):
    """A future whose work runs in a pool.

    Thread safety: every method from any thread, also from finalizers and signal handlers; those
    that wait raise ``RuntimeError`` where that could never end.
    """

    __slots__ = ("_core", "_outcome", "_phase")
    _claims: Claims
    _held = False  # nobody has submitted it yet: see held

    def __init__(self, core: PoolLike) -> None:
        # Not Future.__init__, which makes the Condition.
        self._phase = PENDING
        self._claims = []
        self._outcome: object = None  # what the work has returned, or that it has ``Raised``
        self._core = core  # what runs it

    # -- Claiming and resolving: for the pool --

    def _claim(self, claim: Claim) -> bool:
        """Whether the one who calls this may, and must, resolve the future."""
        claims = self._claims
        claims.append(claim)
        return claims[0] is claim or self._claimed_by is claim

    @property
    def _claimed_by(self) -> Claim | None:
        """The claim of who resolves it; ``None`` while it only waits."""
        for entry in self._claims:
            if type(entry) is tuple:
                return entry
        return None

    def _ended_unrun(self) -> bool:
        """Whether somebody resolves it, or has, without running it."""
        claim = self._claimed_by
        return claim is not None and claim[0] != "run"

    def _begin(self, claim: Claim) -> None:
        """It runs, unless a fork has taken it away: no other code comes between the two steps."""
        if claim in self._claims:
            self._phase = RUNNING

    def _complete(self, result: object, exception: BaseException | None, phase: str) -> None:
        """Store the outcome and wake who waits; of the claimant alone. Twice does no harm."""
        self._outcome = result if exception is None else Raised(exception)
        self._phase = phase
        if (waiters := self._find_waiters()) is not None:
            waiters.announce(self)

    def _has_callbacks(self) -> bool:
        """Whether somebody wants to be called back at its end."""
        return (waiters := self._find_waiters()) is not None and bool(waiters.callbacks)

    def _call_back(self) -> None:
        """Call the callbacks, each once however often this is called."""
        if (waiters := self._find_waiters()) is not None:
            waiters.call_back(self)

    def _wake_waiters(self) -> None:
        """Have those who sleep until it is done look again."""
        if (waiters := self._find_waiters()) is not None:
            waiters.wake()

    def _abandon(self, error: BaseException) -> None:
        """In a forked child: resolve with ``error``, unless it is done already.

        Who waited is gone, but for this thread, which may wait below a signal handler.
        """
        waiters = self._find_waiters()
        if not self.done():
            self._claims = [("lost", 0)]
            self._outcome = Raised(error)
            self._phase = FINISHED
        if waiters is not None:
            waiters.wake()

    def _wake_helpers(self) -> None:
        """It awaits something now: have those look who run that for it."""
        if (waiters := self._find_waiters()) is not None:
            for parked in waiters.parked.copy():
                if type(parked) is Helper:
                    parked.put(None)

    def _park(self, parked: Parked) -> None:
        """Put into ``parked`` when it is done, if it is not so by now."""
        self._make_waiters().parked.append(parked)

    def _unpark(self, parked: Parked) -> None:
        """Undo ``_park``."""
        others = self._make_waiters().parked
        if parked in others:
            others.remove(parked)

    def _standing_before(self) -> list[TaskLike]:
        """What stands before it in its lane."""
        return []

    # -- What concurrent.futures reaches for --

    def _as_task(self) -> TaskLike:
        return cast(TaskLike, self)  # what resolves it is added by Task, which every one of them is

    def _find_waiters(self) -> Waiters | None:
        for entry in self._claims.copy():  # not the list itself: see above
            if type(entry) is Waiters:
                return entry
        return None

    def _make_waiters(self) -> Waiters:
        if not page[0]:
            notice()
        while (waiters := self._find_waiters()) is None:
            if self._phase in DONE:
                return Waiters()  # nobody will look for them
            self._claims.append(Waiters())
        return waiters

    @property
    def _condition(self) -> ConditionView:  # type: ignore[override]
        return ConditionView(self, self._make_waiters())

    @property
    def _waiters(self) -> ConditionView:  # type: ignore[override]
        return ConditionView(self, self._make_waiters())

    @property
    def _exception(self) -> BaseException | None:  # type: ignore[override]
        outcome = self._outcome
        return outcome.error if type(outcome) is Raised else None

    @property
    def _result(self) -> object:  # type: ignore[override]
        outcome = self._outcome
        return None if type(outcome) is Raised else outcome

    @property
    def _state(self) -> str:  # type: ignore[override]
        waiters = self._find_waiters()
        if waiters is not None and (views := waiters.views.get(threading.get_ident())):
            return views[-1]
        return self._phase

    # -- The public interface: Future's --

    def cancel(self) -> bool:
        """Cancel it if it has not started; return whether it is cancelled."""
        if self._end("cancelled", None, CANCELLED_AND_NOTIFIED):
            return True
        claim = self._claimed_by  # another thread may be about to cancel it
        return self.cancelled() or (claim is not None and claim[0] == "cancelled")

    _cancel_unstarted = cancel  # an async one's own also cancels what runs

    @critical
    def _end(self, how: str, error: BaseException | None, phase: str = FINISHED) -> bool:
        """Resolve it unrun, unless it has started or ended; return whether this call did."""
        if self._claimed_by is not None or self._core.sender_of(self) is not None:
            return False
        refuse_if_deep()
        return self._core.end(self._as_task(), how, error, phase)

    def cancelled(self) -> bool:
        return self._phase == CANCELLED_AND_NOTIFIED

    def running(self) -> bool:
        return self._phase == RUNNING

    def done(self) -> bool:
        return self._phase in DONE

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call ``fn(future)`` when it is done, in the thread that resolves it, or now."""
        listener = Listener(Callback(fn))
        self._make_waiters().callbacks.append(listener)
        if self._phase in DONE:
            listener.told(self, LATECOMER)

    def result(self, timeout: float | None = None) -> Any:
        """Return what the work returned, or raise what it raised.

        ``timeout``: seconds; None waits. Raises ``TimeoutError``, ``CancelledError``, and
        ``RuntimeError`` where waiting could never end.
        """
        if timeout is not None:
            timeout = seconds(timeout)
        if self._phase not in DONE:
            waiting.await_done(self._as_task(), timeout)
        outcome = self._outcome
        try:
            if type(outcome) is Raised:
                raise outcome.error
            if self.cancelled():
                raise CancelledError
            return outcome
        finally:
            del self, outcome  # or the traceback, the exception and the future form a cycle

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the work raised, or ``None``; otherwise as ``result``."""
        if timeout is not None:
            timeout = seconds(timeout)
        if self._phase not in DONE:
            waiting.await_done(self._as_task(), timeout)
        if self.cancelled():
            raise CancelledError
        return self._exception

    def set_running_or_notify_cancel(self) -> bool:
        """For executors; the pool has its own way. Returns False once it is cancelled."""
        if self.cancelled():
            return False
        raise self._not_yours()

    def set_result(self, result: object) -> None:
        """For executors; the pool has its own way."""
        raise self._not_yours()

    def set_exception(self, exception: BaseException | None) -> None:
        """For executors; the pool has its own way."""
        raise self._not_yours()

    def __reduce__(self) -> str:
        raise TypeError(f"cannot pickle {self!r}: what it waits for runs in this process")

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else self._phase.lower()
        return f"<{type(self).__name__} at {id(self):#x} state={state}>"

    def _not_yours(self) -> InvalidStateError:
        return InvalidStateError(f"only its pool resolves {self!r}")
