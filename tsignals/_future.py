"""Futures of a pool: ``concurrent.futures.Future`` without a lock of their own.

A standard future makes a Condition when it is born, most of its cost, and hardly any is ever
waited on. Here a :class:`Meeting` (who waits, the callbacks) is made when somebody first comes.

Two things are decided in one list, ``_fate``, to which everybody only appends. Who may resolve a
future: claimants append a mark, and the first mark in the list owns it. The owner stores the
outcome, then sets ``_phase``, then looks for a meeting. Who comes to wait appends a meeting (the
first in the list counts), and then looks at ``_phase``. Both look by an operation on the list,
which orders them with and without the GIL: so the owner sees the meeting, or the comer sees the
outcome, or both; and announcing twice does no harm. (The deliveries of a fan-out get their lists
only when somebody asks: see ``_fan_out``.)

``concurrent.futures.wait`` and ``as_completed`` reach for ``_condition``, ``_waiters`` and
``_state``: see :class:`Glance`. A worker that waits through them runs what it waits for, when it
comes to sleep on their event (:class:`Errand`).
"""

import functools
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any

from tsignals._critical import critical, foreign, refuse_if_critical, refuse_if_deep
from tsignals._process import notice, page
from tsignals._telling import log_safely
from tsignals._timeouts import seconds

_log = logging.getLogger("concurrent.futures")

PENDING = "PENDING"
RUNNING = "RUNNING"
CANCELLED = "CANCELLED"
CANCELLED_AND_NOTIFIED = "CANCELLED_AND_NOTIFIED"
FINISHED = "FINISHED"
_DONE = frozenset([CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED])

Mark = tuple[str, int]
"""How a future ends, ``"run"`` or a counter, and in which thread; made anew each time."""


def comes_first(claims: list[object], claim: object) -> bool:
    """Enter ``claim``; whether it decides. Asked again, it gives the same answer."""
    claims.append(claim)
    return claims[0] is claim


def left_until(deadline: float | None) -> float | None:
    """How many seconds are left; ``None``: it does not matter."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


class Errand(threading.Event):
    """What ``concurrent.futures.wait`` and ``as_completed`` sleep on in a worker of ``pool``.

    Whoever does runs first what it would wait for.
    """

    def __init__(self, pool: Any, every: bool) -> None:
        super().__init__()
        self.pool = pool
        self.every = every  # all must end, else any
        self.futures: list[PoolFuture] = []
        self.woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        super().set()
        self.woken.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        timeout = seconds(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            elsewhere, held = [], []
            for future in self.futures:
                for work, back in self.pool.needed_for(future):
                    if not back and work._owner is None:
                        refuse_if_deep()
                        work._pool.run(work)  # this thread may work in several pools
                        if self.is_set():
                            return True
                    if not work.done():
                        elsewhere.append(work)
                        held += back
                        break
            if not self.pool.sleep(elsewhere, self.woken, self.every, left_until(deadline), held):
                return self.is_set()
        return True


class Guest:
    """Who is told of a future's end, once: by whoever resolves it, or by who came too late."""

    __slots__ = ("_claims", "_tell", "_told")

    def __init__(self, tell: Callable[[Any], object]) -> None:
        self._tell = tell
        self._claims: list[str] = []  # the first counts
        self._told = False

    def told(self, future: "PoolFuture", by: str) -> None:
        """Tell, unless the other does; again, if interrupted before."""
        self._claims.append(by)
        if self._claims[0] is by and not self._told:
            self._told = True
            self._tell(future)


_RESOLVER = "resolver"
_LATECOMER = "latecomer"


class Meeting:
    """Where those who wait for a future are found."""

    __slots__ = ("callbacks", "glances", "sleepers", "waiters")

    def __init__(self) -> None:
        self.sleepers: list[queue.SimpleQueue[None]] = []  # of result() and exception()
        self.callbacks: list[Guest] = []
        self.waiters: dict[Any, Guest] = {}  # of concurrent.futures.wait and as_completed
        self.glances: dict[int, list[str]] = {}  # by thread: the states it goes by

    @critical
    def announce(self, future: "PoolFuture") -> None:
        """Tell those who wait that ``future`` is done."""
        for sleeper in list(self.sleepers):
            sleeper.put(None)
        for guest in list(self.waiters.values()):
            guest.told(future, _RESOLVER)

    @foreign
    def call_back(self, future: "PoolFuture") -> None:
        """Call the callbacks that nobody has called yet."""
        interrupt: BaseException | None = None
        for guest in self.callbacks:
            try:
                guest.told(future, _RESOLVER)
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


class Callback:
    """A callback, which may raise."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[Any], object]) -> None:
        self._function = function

    def __call__(self, future: "PoolFuture") -> None:
        try:
            self._function(future)
        except Exception:
            # The convention of concurrent.futures, down to the logger.
            log_safely(
                logging.ERROR,
                "exception calling callback for %r",
                future,
                exc_info=sys.exc_info(),
                logger=_log,
            )


class Glance:
    """What ``concurrent.futures.wait`` and ``as_completed`` get as Condition and as waiters.

    They hold the one while they look at the states and install a waiter, so that nothing changes
    meanwhile. Nothing does for them: their thread sees the state as it was when it came. And what
    has changed by the time they install the waiter, that is told at once. So there is no lock here
    that an interrupt could leave held, with a worker standing before it.
    """

    __slots__ = ("_future", "_meeting")

    def __init__(self, future: "PoolFuture", meeting: Meeting) -> None:
        self._future = future
        self._meeting = meeting

    def acquire(self) -> bool:
        glances = self._meeting.glances.setdefault(threading.get_ident(), [])
        glances.append(self._future._phase)
        return True

    def release(self) -> None:
        glances = self._meeting.glances
        me = threading.get_ident()
        if len(glances.get(me, ())) > 1:
            glances[me].pop()
        else:
            glances.pop(me, None)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def append(self, waiter: Any) -> None:
        future = self._future
        if future._state in _DONE:
            return  # as this thread has seen it: nobody need tell
        refuse_if_critical("concurrent.futures")
        future._pool.refuse_on_loop()
        if future._pool.works_here():
            former = waiter.event
            if not isinstance(former, Errand):  # before it can be set by this future
                # Of the three kinds, this one needs all; an error may end it before, though.
                every = not getattr(waiter, "stop_on_exception", True)
                waiter.event = Errand(future._pool, every)
                if former.is_set():  # by a future of another kind
                    waiter.event.set()
            waiter.event.futures.append(future)
        guest = self._meeting.waiters[waiter] = Guest(functools.partial(_tell, waiter))
        if future._phase in _DONE:
            guest.told(future, _LATECOMER)

    def remove(self, waiter: Any) -> None:
        self._meeting.waiters.pop(waiter, None)


def _tell(waiter: Any, future: "PoolFuture") -> None:
    if future.cancelled():
        waiter.add_cancelled(future)
    elif future._exception is not None:
        waiter.add_exception(future)
    else:
        waiter.add_result(future)


class PoolFuture(Future[Any]):
    """A future whose work runs in a pool.

    Thread safety: every method from any thread, also from finalizers and signal handlers; those
    that wait raise ``RuntimeError`` where that could never end.
    """

    __slots__ = ("_exception", "_phase", "_pool", "_result")
    _fate: "list[Mark | Meeting]"
    _held = False  # nobody has submitted it yet: see _held

    def __init__(self, pool: Any) -> None:
        # Not Future.__init__, which makes the Condition.
        self._phase = PENDING
        self._fate = []
        self._result: Any = None
        self._exception: BaseException | None = None
        self._pool = pool  # the engine that runs it

    # -- Deciding and resolving: for the pool --

    def _claim(self, mark: Mark) -> bool:
        """Whether the one who calls this may, and must, resolve the future."""
        fate = self._fate
        fate.append(mark)
        return fate[0] is mark or self._owner is mark

    @property
    def _owner(self) -> Mark | None:
        """The mark of who resolves it; ``None`` while it only waits."""
        for entry in self._fate:
            if type(entry) is tuple:
                return entry
        return None

    def _ended_unrun(self) -> bool:
        """Whether somebody resolves it, or has, without running it."""
        owner = self._owner
        return owner is not None and owner[0] != "run"

    def _calls_back(self) -> bool:
        """Whether somebody wants to be called back at its end."""
        return (met := self._met()) is not None and bool(met.callbacks)

    def _begin(self, mark: Mark) -> None:
        """It runs, unless a fork has taken it away: no other code comes between the two steps."""
        if mark in self._fate:
            self._phase = RUNNING

    def _settle(self, result: Any, exception: BaseException | None, phase: str = FINISHED) -> None:
        """Resolve; the owner's alone. Wakes who waits, then calls the callbacks.

        When interrupted, to be called again.
        """
        meeting = self._resolve(result, exception, phase)
        if meeting is not None:
            meeting.call_back(self)

    def _resolve(
        self, result: Any, exception: BaseException | None, phase: str = FINISHED
    ) -> Meeting | None:
        """The first part of ``_settle``; returns whose callbacks are still to be called."""
        self._result = result
        self._exception = exception
        self._phase = phase
        meeting = self._met()
        if meeting is not None:
            meeting.announce(self)
        return meeting

    def _forsake(self, error: BaseException) -> None:
        """In a forked child: resolve with ``error``, unless it is done already.

        Who waited is gone, but for this thread, which may wait below a signal handler.
        """
        meeting = self._met()
        if not self.done():
            self._fate = [("lost", 0)]
            self._result = None
            self._exception = error
            self._phase = FINISHED
        if meeting is not None:
            for sleeper in meeting.sleepers.copy():
                sleeper.put(None)

    # -- What concurrent.futures reaches for --

    def _met(self) -> Meeting | None:
        for entry in self._fate.copy():  # not the list itself: see above
            if type(entry) is Meeting:
                return entry
        return None

    def _meet(self) -> Meeting:
        if not page[0]:
            notice()
        while (meeting := self._met()) is None:
            if self._phase in _DONE:
                return Meeting()  # nobody will look for it
            self._fate.append(Meeting())
        return meeting

    @property
    def _condition(self) -> Any:  # type: ignore[override]
        return Glance(self, self._meet())

    @property
    def _waiters(self) -> Any:  # type: ignore[override]
        return Glance(self, self._meet())

    @property
    def _state(self) -> str:  # type: ignore[override]
        meeting = self._met()
        if meeting is not None and (glances := meeting.glances.get(threading.get_ident())):
            return glances[-1]
        return self._phase

    # -- The public interface: Future's --

    def cancel(self) -> bool:
        """Cancel it if it has not started; return whether it is cancelled."""
        if self._end("cancelled", None, CANCELLED_AND_NOTIFIED):
            return True
        owner = self._owner  # another thread may be about to cancel it
        return self.cancelled() or (owner is not None and owner[0] == "cancelled")

    @critical
    def _end(self, counter: str, error: BaseException | None, phase: str = FINISHED) -> bool:
        """Resolve it unrun, unless it has started or ended; return whether this call did."""
        if self._owner is not None:
            return False
        refuse_if_deep()
        cell = self._pool.cell  # before the claim: see Workers.run
        mark = (counter if error is None else "refused", threading.get_ident())
        counted = False
        try:
            if not self._claim(mark):
                return False
            self._pool.count_ended(self, counter, cell)
            counted = True
            self._settle(None, error, phase)
            self._pool.wrap_up_unrun(self)
        except BaseException:  # interrupted, or by a callback: what is left is done again
            if self._owner is mark:
                if not counted:
                    self._pool.count_ended(self, counter, cell)
                self._settle(None, error, phase)
                self._pool.wrap_up_unrun(self)
            raise
        return True

    def cancelled(self) -> bool:
        return self._phase in (CANCELLED, CANCELLED_AND_NOTIFIED)

    def running(self) -> bool:
        return self._phase == RUNNING

    def done(self) -> bool:
        return self._phase in _DONE

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call ``fn(future)`` when it is done, in the thread that resolves it, or now."""
        guest = Guest(Callback(fn))
        self._meet().callbacks.append(guest)
        if self._phase in _DONE:
            guest.told(self, _LATECOMER)

    def result(self, timeout: float | None = None) -> Any:
        """Return what the work returned, or raise what it raised.

        ``timeout``: seconds; None waits. Raises ``TimeoutError``, ``CancelledError``, and
        ``RuntimeError`` where waiting could never end.
        """
        if timeout is not None:
            timeout = seconds(timeout)
        if self._phase not in _DONE:
            self._pool.await_done(self, timeout)
        try:
            if self._exception is not None:
                raise self._exception
            if self.cancelled():
                raise CancelledError
            return self._result
        finally:
            del self  # or the traceback, the exception and the future form a cycle

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the work raised, or ``None``; otherwise as ``result``."""
        if timeout is not None:
            timeout = seconds(timeout)
        if self._phase not in _DONE:
            self._pool.await_done(self, timeout)
        if self.cancelled():
            raise CancelledError
        return self._exception

    def _doze(self, timeout: float | None) -> None:
        """Wait until done, and only that."""
        refuse_if_critical("result()")
        sleeper: queue.SimpleQueue[None] = queue.SimpleQueue()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self._wake_at_end(sleeper)
            while self._phase not in _DONE:
                sleeper.get(timeout=left_until(deadline))
        except queue.Empty:
            raise TimeoutError("the delivery is not done yet; it goes on") from None
        finally:
            self._let_sleep(sleeper)

    def _wake_at_end(self, sleeper: "queue.SimpleQueue[None]") -> None:
        """Put into ``sleeper`` when it is done, if it is not so by now."""
        self._meet().sleepers.append(sleeper)

    def _let_sleep(self, sleeper: "queue.SimpleQueue[None]") -> None:
        """Undo ``_wake_at_end``."""
        sleepers = self._meet().sleepers
        if sleeper in sleepers:
            sleepers.remove(sleeper)

    def set_running_or_notify_cancel(self) -> bool:
        """For executors; the pool has its own way. Returns False once it is cancelled."""
        if self.cancelled():
            return False
        raise self._not_yours()

    def set_result(self, result: Any) -> None:
        """For executors; the pool has its own way."""
        raise self._not_yours()

    def set_exception(self, exception: BaseException | None) -> None:
        """For executors; the pool has its own way."""
        raise self._not_yours()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x} state={self._phase.lower()}>"

    def _not_yours(self) -> InvalidStateError:
        return InvalidStateError(f"only its pool resolves {self!r}")
