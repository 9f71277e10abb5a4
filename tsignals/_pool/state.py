r"""What a pool is at one moment, and every change of it, as plain functions without a thread.

    mode            open -> closing -> closed     accepted work still runs while closing
                       \-> broken                 an initializer raised

    a delivery      pending -> running -> completed | failed
                                       -> cancelled   its receiver was gone, or is async
                      | <-           an attempt has failed, and another follows
                       \-> cancelled | dropped | failed (nobody can run it any more)

Each change takes a state and returns the next one, or ``None`` where it does not apply. How a
change is made among threads is the affair of ``atomic_state``.

Invariants, by construction of every change below
    S1  submitted = pending + running + completed + failed + cancelled + dropped. What was refused
        was never submitted.
    S2  room in use = pending + running on the event loop <= max_pending, but for the excess that
        the contract names.
    S3  Blocked senders are admitted in the order in which they stand in ``blocked``; nobody is
        admitted past them.
    S4  ``mode`` only grows.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple

Wake = Callable[[], None]
"""Wakes somebody who waits; may be called at any point, and twice."""


class Mode(enum.IntEnum):
    OPEN = 0
    CLOSING = 1
    CLOSED = 2
    BROKEN = 3


# All numbers stand in one integer, each in a field of its own, so that any change of several is one
# addition. A field never goes below zero nor, in less than years, beyond its width. Only the last
# may be negative, and with it the integer: how many more wait for a worker than are idle.
_WIDTH = 48
MASK = (1 << _WIDTH) - 1
_FIELDS = [1 << _WIDTH * place for place in range(11)]
ROOM, _PENDING, RUNNING, _IDLE, SUBMITTED, COMPLETED, FAILED, CANCELLED, DROPPED = _FIELDS[:9]
REFUSED, WANTED = _FIELDS[9:]
PENDING = _PENDING + WANTED
IDLE = _IDLE - WANTED
FOR_LOOP = -WANTED
BUSY = MASK * (_PENDING | RUNNING)
_ENDED = {"completed": COMPLETED, "failed": FAILED, "cancelled": CANCELLED, "dropped": DROPPED}
ADMITTED = ROOM + PENDING + SUBMITTED
"""A delivery is accepted and waits; with ``FOR_LOOP``, for the event loop and not for a worker."""

_new = tuple.__new__  # a NamedTuple's own constructor and ``_replace`` take much longer


class State(NamedTuple):
    """What a pool is at one moment."""

    numbers: int = 0
    workers: int = 0
    mode: Mode = Mode.OPEN
    blocked: "tuple[Blocked, ...]" = ()
    quiescence_waiters: tuple[Wake, ...] = ()  # wake those who wait for quiet: drain, shutdown

    def plus(self, change: int) -> "State":
        """The same with other numbers."""
        numbers, *others = self
        return _new(State, (numbers + change, *others))

    def number(self, unit: int) -> int:
        """The number in the field of ``unit``."""
        return self.numbers // unit & MASK

    @property
    def room_used(self) -> int:
        """Deliveries that count against the limit: pending, and running on the event loop."""
        return self.numbers & MASK

    @property
    def pending(self) -> int:
        return self.number(_PENDING)

    @property
    def running(self) -> int:
        return self.number(RUNNING)

    @property
    def idle(self) -> int:
        return self.number(_IDLE)

    @property
    def quiet(self) -> bool:
        """Whether nothing is pending or running."""
        return not self.numbers & BUSY

    def fits(self, count: int, limit: int | None) -> bool:
        """Whether ``count`` more may wait; more than ``limit`` may when nothing else waits."""
        if limit is None:
            return True
        used = self.numbers & MASK
        return used + count <= limit or not used

    def may_fit(self, count: int, limit: int | None) -> bool:
        """Whether ``count`` more would fit if all that waits were dropped."""
        left = self.room_used - self.pending
        return limit is None or not left or left + count <= limit


class Blocked:
    """A sender that waits for room."""

    __slots__ = ("admitted", "count", "wake")

    def __init__(self, admitted: int, wake: Wake) -> None:
        self.admitted = admitted
        self.count = admitted & MASK
        self.wake = wake


# -- The changes --


def put_back(state: State, admitted: int) -> State:
    """What was to run where it was sent waits after all, over the limit."""
    return state.plus(admitted - (admitted & MASK) * START_HERE)


def take_up(state: State, admitted: int, limit: int | None) -> State:
    """The contrary: what was put back runs where it was sent."""
    return let_in(state.plus((admitted & MASK) * START_HERE - admitted), limit)


def start_here(state: State, count: int) -> State | None:
    """``count`` deliveries are accepted and run in the thread that sends them."""
    return None if state.mode else state.plus(count * START_HERE)


def block(state: State, blocked: Blocked, limit: int | None) -> State | None:
    """A sender gets in line, if it must."""
    if state.mode or (not state.blocked and state.fits(blocked.count, limit)):
        return None
    return state._replace(blocked=(*state.blocked, blocked))


def unblock(state: State, blocked: Blocked, limit: int | None) -> State | None:
    """A sender leaves the line; not if it was admitted."""
    if blocked not in state.blocked:
        return None
    at = state.blocked.index(blocked)
    left = state.blocked[:at] + state.blocked[at + 1 :]
    return let_in(state._replace(blocked=left), limit)


def enter(state: State, limit: int | None) -> State | None:
    """Some leave the line, for there is room."""
    after = let_in(state, limit)
    return None if after is state else after


def let_in(state: State, limit: int | None) -> State:
    """Those at the head of the line enter as far as there is room (S3)."""
    while not state.mode and state.blocked and state.fits(state.blocked[0].count, limit):
        state = state.plus(state.blocked[0].admitted)._replace(blocked=state.blocked[1:])
    return state


def shift(state: State, change: int, limit: int | None) -> State:
    """The numbers change by one of the sums below; what that makes room for enters."""
    return let_in(close_if_over(state.plus(change)), limit)


START = RUNNING - PENDING - ROOM
"""A pending delivery starts."""
START_HERE = SUBMITTED + RUNNING
"""A delivery starts in the thread that sends it, never having waited."""
FINISH = {name: ended - RUNNING for name, ended in _ENDED.items()}
"""A running delivery ends, by how it ended."""
RESOLVE = {name: ended - PENDING - ROOM for name, ended in _ENDED.items()}
"""A pending delivery ends without having run."""
START_ON_LOOP = RUNNING - PENDING - FOR_LOOP
"""A pending delivery starts on the event loop, and keeps its room."""
LEAVE_LOOP = -ROOM
"""A delivery that ran on the event loop is about to end."""
TO_PAUSE = ROOM + PENDING + FOR_LOOP - RUNNING
"""A running delivery is pending again, until its next attempt is due; it waits for no worker."""
FALL_DUE = WANTED
"""It waits for a worker from now on."""


def withdraw(state: State, admitted: int, limit: int | None) -> State:
    """What was admitted and not queued is taken back, as if never submitted."""
    return let_in(state.plus(-admitted), limit)


def reserve(state: State, most: int) -> State | None:
    """A worker is about to start, if there is work for it and not too many work."""
    if state.mode > Mode.CLOSING or state.workers >= most:  # nothing runs any more, or enough do
        return None
    if state.numbers < WANTED:
        return None
    return state._replace(workers=state.workers + 1).plus(IDLE)


def unreserve(state: State) -> State:
    """An idle worker is gone, or could not start."""
    return state._replace(workers=state.workers - 1).plus(-IDLE)


def exit_worker(state: State) -> State | None:
    """An idle worker goes, if the pool takes no more work and none is left."""
    return close_if_over(unreserve(state)) if state.mode and not state.pending else None


def advance_mode(state: State, mode: Mode) -> State | None:
    """The pool moves to ``mode``; those who stand in line will see it and leave."""
    return None if state.mode >= mode else close_if_over(state._replace(mode=mode))


def close_if_over(state: State) -> State:
    """A pool that closes is closed once its work is done and its workers are gone."""
    over = state.mode is Mode.CLOSING and state.quiet and not state.workers
    return state._replace(mode=Mode.CLOSED) if over else state


def await_quiet(state: State, waiter: Wake) -> State | None:
    """Somebody waits for nothing to be pending or running, if it is not so already."""
    if state.quiet:
        return None
    if waiter in state.quiescence_waiters:
        return state
    return state._replace(quiescence_waiters=(*state.quiescence_waiters, waiter))


def await_quiet_no_more(state: State, waiter: Wake) -> State:
    """Somebody waits no more."""
    left = tuple(other for other in state.quiescence_waiters if other is not waiter)
    return state._replace(quiescence_waiters=left)
