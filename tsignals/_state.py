"""The whole state of a pool as one immutable value, and the step that replaces it.

    open -> closing -> closed        accepted work still runs while closing
       \\-> broken                    an initializer raised

Lock
    None. A :class:`Cell` holds a value; ``update`` computes the next one from it and tries to put
    that in place. Of several tries on one value exactly one wins: each appends its result to the
    value's list of successors, and the first in the list is the successor. A loser starts again
    from the winner. So a change is made entirely or not at all, at one moment, whatever
    interrupts it: another thread, a finalizer, a signal handler, a fork.

Accounts
    The numbers are a sum: those in the cell, and one account for each worker thread, in the list
    ``Cell.accounts``, to which only that thread writes. Starting and ending a delivery there is
    one store that nobody competes for. A sum is taken from one copy of all accounts, and counts
    only if the cell has not changed meanwhile: so it is what the numbers were at that moment.
    A worker writes to its account, and *then* looks whether somebody waits for what it may have
    changed; whoever replaces a value in which somebody waits, be it the one who waits, *then*
    takes the sum once more. Both go through the one list, which orders them: the worker sees the
    new value, or that one sees what it wrote. So what an account and a new value, neither of which
    knew of the other, let go on together, goes on. (``admit`` need not look: what it adds lets
    nobody go on.)

Invariants, by construction of every change below
    S1  submitted = pending + running + completed + failed + cancelled + dropped.
    S2  room in use = pending + running on the event loop <= max_pending, but for the excess that
        the contract names.
    S3  Blocked senders are admitted in the order in which they stand in ``blocked``; nobody is
        admitted past them.
    S4  ``mode`` only grows.
    S5  Accounts only give room back. So who goes by what they gave some time ago may find too
        little room, and looks anew, but never too much.
"""

import enum
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from tsignals._critical import refuse_if_deep


class Mode(enum.IntEnum):
    OPEN = 0
    CLOSING = 1
    CLOSED = 2
    BROKEN = 3


# All numbers stand in one integer, each in a field of its own, so that any change of several is one
# addition. A field never goes below zero nor, in less than years, beyond its width. Only the last
# may be negative, and with it the integer: how many more wait for a worker than are idle.
_WIDTH = 48
_MASK = (1 << _WIDTH) - 1
ROOM, _PENDING, RUNNING, _IDLE, SUBMITTED, COMPLETED, FAILED, CANCELLED, DROPPED, WANTED = (
    1 << _WIDTH * place for place in range(10)
)
PENDING = _PENDING + WANTED
IDLE = _IDLE - WANTED
FOR_LOOP = -WANTED
_BUSY = _MASK * (_PENDING | RUNNING)
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
    idlers: tuple[Callable[[], None], ...] = ()  # wake those who wait for quiet: drain, shutdown

    def plus(self, change: int) -> "State":
        """The same with other numbers."""
        numbers, *others = self
        return _new(State, (numbers + change, *others))

    def number(self, unit: int) -> int:
        """The number in the field of ``unit``."""
        return self.numbers // unit & _MASK

    @property
    def room_used(self) -> int:
        """Deliveries that count against the limit: pending, and running on the event loop."""
        return self.numbers & _MASK

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
        return not self.numbers & _BUSY

    def fits(self, count: int, limit: int | None) -> bool:
        """Whether ``count`` more may wait; more than ``limit`` may when nothing else waits."""
        if limit is None:
            return True
        used = self.numbers & _MASK
        return used + count <= limit or not used

    def may_fit(self, count: int, limit: int | None) -> bool:
        """Whether ``count`` more would fit if all that waits were dropped."""
        left = self.room_used - self.pending
        return limit is None or not left or left + count <= limit


class Blocked:
    """A sender that waits for room."""

    __slots__ = ("admitted", "count", "wake")

    def __init__(self, admitted: int, wake: Callable[[], None]) -> None:
        self.admitted = admitted
        self.count = admitted & _MASK
        self.wake = wake


Rest = tuple[int, Mode, "tuple[Blocked, ...]", "tuple[Callable[[], None], ...]"]
Node = tuple[int, Rest, bool, "list[Any]"]
"""A value: its numbers, the rest, whether it is plain (open, and nobody waits); its successors."""


def _node(state: State, accounts: int = 0) -> Node:
    numbers, workers, mode, blocked, idlers = state
    plain = not (mode or blocked or idlers)
    return numbers - accounts, (workers, mode, blocked, idlers), plain, []


class Cell:
    """Holds a :class:`State`; replaced by compare-and-swap."""

    __slots__ = ("_given", "_holders", "accounts", "interrupts", "limit", "node")

    def __init__(self, state: State, limit: int | None = None) -> None:
        self.node = _node(state)  # the current one, or one that has successors
        self.limit = limit  # how many may wait; None: any number
        self.accounts: list[int] = []  # of the worker threads; see above
        self._holders: list[object] = []  # of the accounts, in their order
        self._given = 0  # the room that they gave back, when ``admit`` last looked (S5)
        self.interrupts: list[tuple[int, BaseException]] = []  # with the thread that each befell

    @property
    def value(self) -> State:
        node, accounts = self._look()
        return State(node[0] + accounts, *node[1])

    def open_account(self) -> int:
        """Make an account for one more worker; its index, which no other gets."""
        holder = object()
        self.accounts.append(0)  # first: so there are never fewer than holders
        self._holders.append(holder)
        return self._holders.index(holder)

    def _last(self) -> Node:
        node = self.node
        while node[3]:  # the winner has not moved on yet
            node = node[3][0]
        return node

    def _look(self) -> tuple[Node, int]:
        """The current node, and what the accounts came to at one moment while it was that."""
        node = self.node
        while True:
            while node[3]:  # as _last does
                node = node[3][0]
            # Copied by ``list``, which on 3.11, too, lets no collector in once it looks at them.
            accounts = sum(list(self.accounts))
            if not node[3]:
                return node, accounts

    def update(self, change: Callable[..., State | None], *arguments: Any) -> State | None:
        """Replace the value by ``change(value, *arguments)`` and return the new value.

        Where ``change`` returns ``None``, so does this, and nothing changes. ``change`` must be
        pure: it is called again when another change came first. Whoever can go on now is woken:
        senders that have left the line, all that stand in it once the pool takes no more, and
        those who wait for quiet.

        An exception from outside (Ctrl-C) is raised if it came before the change was made. One
        that came after waits for ``raise_interrupt``, or the caller could not know (but for a
        second one, while this sees to it that the first waits). So whoever stores, in the
        statement after this call, that the change was made can rely on it.
        """
        while True:
            node, accounts = self._look()
            before = State(node[0] + accounts, *node[1])
            after = change(before, *arguments)
            if after is None:
                return None
            if after.blocked or after.idlers:
                refuse_if_deep(20)  # what follows goes deeper than this
            if self._replace(node, _node(after, accounts)):
                try:
                    wake(before, after)
                    self._look_again(after)
                except BaseException as interrupt:
                    self.defer(interrupt)
                    wake(before, after)  # twice does no harm
                    self._look_again(after)
                return after

    def _look_again(self, state: State) -> None:
        """Have those go on whom this value and what accounts gave meanwhile let go on together."""
        if (state.blocked or state.idlers) and self.stirs():
            now = self.value
            wake(now, now)
            self.update(enter, self.limit)

    def add(self, change: int) -> bool:
        """``update(shift, change, limit)`` without a detour; whether it was made.

        ``False``: the pool is closing, or somebody may have to be let in or woken, which takes
        ``update``; nothing has changed.
        """
        while True:
            node = self._last()
            numbers, rest, plain, _ = node
            if not plain:
                return False
            if self._replace(node, (numbers + change, rest, True, [])):
                return True

    def admit(self, admitted: int, count: int) -> bool:
        """Accept ``count`` deliveries, which then wait; whether it was done.

        ``False``: there is no room, others wait for it, or the pool takes no more.
        """
        limit = self.limit
        given, old = self._given, True  # before the node: S5
        node = self.node
        while node[3]:  # as _last does
            node = node[3][0]
        while True:
            numbers, rest, plain, _ = node
            if not plain and (rest[1] or rest[2]):
                return False
            if (
                limit is None
                or (used := (numbers & _MASK) - given) + count <= limit
                or (not used and not old)
            ):
                if self._replace(node, (numbers + admitted, rest, plain, [])):
                    return True
            elif not old:
                return False
            old = False
            node, accounts = self._look()
            given = self._given = -accounts & _MASK

    def stirs(self) -> bool:
        """Whether a change in an account may let anybody go on who waits, or the pool close."""
        node, accounts = self._look()
        numbers, (_, mode, blocked, idlers) = node[0] + accounts, node[1]
        if mode or (idlers and not numbers & _BUSY):
            return True
        if not blocked or self.limit is None:
            return False
        used = numbers & _MASK
        return used + blocked[0].count <= self.limit or not used

    def needs_workers(self, admitted: int = 0) -> bool:
        """Whether more wait for a worker than are idle: for one who has added to the former.

        ``admitted``: what is about to be added.

        Accounts only lessen that, or else their worker asks in turn; so looked at first they do
        not hide what is wanted, and may change meanwhile, unlike for ``_look``. What a field then
        has less than zero is taken from those above it, at most up to ``SUBMITTED``, which has it.
        """
        accounts = sum(list(self.accounts))
        node = self.node
        while node[3]:  # as _last does
            node = node[3][0]
        return node[0] + accounts + admitted >= WANTED

    def _replace(self, node: Node, successor: Node) -> bool:
        """Make ``successor`` follow ``node``; False if something else does."""
        successors = node[3]
        try:
            successors.append(successor)
            if successors[0] is not successor:
                return False
            self.node = successor
        except BaseException as interrupt:
            if not successors or successors[0] is not successor:
                raise
            self.defer(interrupt)
        return True

    def defer(self, interrupt: BaseException) -> None:
        """Keep for ``raise_interrupt`` what came when this thread could not stop."""
        self.interrupts.append((threading.get_ident(), interrupt))

    def raise_interrupt(self) -> None:
        """Raise what was deferred in this thread; where what it interrupted has ended."""
        for entry in list(self.interrupts):
            if entry[0] == threading.get_ident():
                self.interrupts.remove(entry)
                try:
                    raise entry[1]
                finally:
                    del entry  # or the traceback, this frame and the interrupt form a cycle


def wake(before: State, after: State) -> None:
    """Wake whoever can go on after a change."""
    first = after.blocked[0] if after.blocked and after.mode is before.mode else None
    for blocked in before.blocked:
        if blocked is first:
            break  # they enter in their order: nobody behind this one has (S3)
        blocked.wake()
    if after.quiet:
        for idler in after.idlers:
            idler()


# -- The changes. Each takes a state and returns the next one, or None where it does not apply. --


def put_back(state: State, admitted: int) -> State:
    """What was to run where it was sent waits after all, over the limit."""
    return state.plus(admitted - (admitted & _MASK) * START_HERE)


def take_up(state: State, admitted: int, limit: int | None) -> State:
    """The contrary: what was put back runs where it was sent."""
    return let_in(state.plus((admitted & _MASK) * START_HERE - admitted), limit)


def start_here(state: State, count: int) -> State | None:
    """``count`` deliveries are accepted and run in the thread that sends them."""
    return None if state.mode else state.plus(count * START_HERE)


def drop_new(state: State, count: int) -> State:
    """``count`` deliveries are dropped as they come."""
    return state.plus(count * (SUBMITTED + DROPPED))


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


def withdraw(state: State, admitted: int, limit: int | None) -> State:
    """What was admitted and not queued is taken back, as if never submitted."""
    return let_in(state.plus(-admitted), limit)


def hire(state: State, most: int) -> State | None:
    """A worker is about to start, if there is work for it and not too many work."""
    if state.mode > Mode.CLOSING or state.workers >= most:  # nothing runs any more, or enough do
        return None
    if state.numbers < WANTED:
        return None
    return state._replace(workers=state.workers + 1).plus(IDLE)


def leave(state: State) -> State:
    """An idle worker is gone, or could not start."""
    return state._replace(workers=state.workers - 1).plus(-IDLE)


def retire(state: State) -> State | None:
    """An idle worker goes, if the pool takes no more work and none is left."""
    return close_if_over(leave(state)) if state.mode and not state.pending else None


def turn(state: State, mode: Mode) -> State | None:
    """The pool moves to ``mode``; those who stand in line will see it and leave."""
    return None if state.mode >= mode else close_if_over(state._replace(mode=mode))


def close_if_over(state: State) -> State:
    """A pool that closes is closed once its work is done and its workers are gone."""
    over = state.mode is Mode.CLOSING and state.quiet and not state.workers
    return state._replace(mode=Mode.CLOSED) if over else state


def await_quiet(state: State, idler: Any) -> State | None:
    """Somebody waits for nothing to be pending or running, if it is not so already."""
    if state.quiet:
        return None
    return state if idler in state.idlers else state._replace(idlers=(*state.idlers, idler))


def forget(state: State, idler: Any) -> State:
    return state._replace(idlers=tuple(i for i in state.idlers if i is not idler))
