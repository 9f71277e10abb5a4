"""The one place that holds a pool's state, and the step that replaces it.

Lock
    None. An :class:`AtomicState` holds a value; ``update`` computes the next one from it and tries
    to put that in place. Of several tries on one value exactly one wins: each appends its result to
    the value's list of successors, and the first in the list is the successor. A loser starts again
    from the winner. So a change is made entirely or not at all, at one moment, whatever
    interrupts it: another thread, a finalizer, a signal handler, a fork.

Stripes
    The numbers are a sum: those of the current version, and one stripe for each worker thread, in
    the list ``stripes``, to which only that thread writes (as in a ``LongAdder`` of Java).
    Starting and ending a delivery there is one store that nobody competes for. A sum is taken from
    one copy of all stripes, and counts only if the version has not changed meanwhile: so it is
    what the numbers were at that moment.
    A worker writes to its stripe, and *then* looks whether somebody waits for what it may have
    changed, or the pool closes; whoever puts a version in place in which that is so, be it the one
    who waits or closes, *then* takes the sum once more. Both go through the one list, which orders
    them: the worker sees the new version, or that one sees what it wrote. So what a stripe and a
    new version, neither of which knew of the other, let go on together, goes on. (``admit`` need
    not look: what it adds lets nobody go on.)

Keeping
    A version knows all that come after it. So does a frame that has one in a variable, and an
    exception that is kept keeps the frames through which it came. So no version is an argument, for
    a signal handler may raise where a function begins; what has one in a variable where a handler
    may raise lets go of it on its way out; and a successor is put in place by an operator, which is
    no call: CPython looks for no signal between that and the store of the new version.

    A1  Stripes only give room back. So who goes by what they gave some time ago may find too
        little room, and looks anew, but never too much.
"""

import threading
from collections.abc import Callable

from tsignals._base.interrupts import refuse_if_deep
from tsignals._pool.state import BUSY, MASK, WANTED, Blocked, Mode, State, Wake, enter

Rest = tuple[int, Mode, "tuple[Blocked, ...]", "tuple[Wake, ...]"]
Version = tuple[int, Rest, bool, "list[Version]"]
"""A value: its numbers, the rest, whether it is plain (open, and nobody waits); its successors."""


def _version(state: State, stripes: int = 0) -> Version:
    numbers, workers, mode, blocked, quiescence_waiters = state
    plain = not (mode or blocked or quiescence_waiters)
    return numbers - stripes, (workers, mode, blocked, quiescence_waiters), plain, []


class AtomicState:
    """Holds a :class:`State`; replaced by compare-and-swap."""

    __slots__ = ("_given", "_owners", "_when_closing", "interrupts", "limit", "stripes", "version")

    def __init__(
        self,
        state: State,
        limit: int | None,
        when_closing: Callable[[State], object] = lambda state: None,
    ) -> None:
        self._when_closing = when_closing  # called after each change of a pool that takes no more
        self.version: Version = _version(state)  # the current one, or one that has successors
        self.limit: int | None = limit  # how many may wait; None: any number
        self.stripes: list[int] = []  # of the worker threads; see above
        self._owners: list[object] = []  # of the stripes, in their order
        self._given = 0  # the room that they gave back, when ``admit`` last looked (A1)
        self.interrupts: list[tuple[int, BaseException]] = []  # with the thread that each befell

    @property
    def value(self) -> State:
        version, stripes = self._look()
        try:
            return State(version[0] + stripes, *version[1])
        finally:
            del version  # see Keeping

    def open_stripe(self) -> int:
        """Make a stripe for one more worker; its index, which no other gets."""
        owner = object()
        self.stripes.append(0)  # first: so there are never fewer than owners
        self._owners.append(owner)
        return self._owners.index(owner)

    def _look(self) -> tuple[Version, int]:
        """The current version, and what the stripes came to at one moment while it was that."""
        version = self.version
        try:
            while True:
                while version[3]:  # the winner has not moved on yet
                    version = version[3][0]
                # Copied by ``list``, which on 3.11, too, lets no collector in once it looks.
                stripes = sum(list(self.stripes))
                if not version[3]:
                    return version, stripes
        finally:
            del version

    def update(self, change: Callable[..., State | None], *arguments: object) -> State | None:
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
        version = successor = self.version
        successors = version[3]
        try:
            while True:
                version, stripes = self._look()
                before = State(version[0] + stripes, *version[1])
                after = change(before, *arguments)
                if after is None:
                    return None
                if after.blocked or after.quiescence_waiters:
                    refuse_if_deep(20)  # what follows goes deeper than this
                successor, successors = _version(after, stripes), version[3]
                successors += (successor,)
                if successors[0] is successor:
                    self.version = successor
                    break
        finally:
            del version, successor, successors
        try:
            self._follow_up(before, after)
        except BaseException as interrupt:  # the change is made: raised later
            self.defer(interrupt)
            self._follow_up(before, after)  # twice does no harm
        return after

    def _follow_up(self, before: State, after: State) -> None:
        wake_waiters(before, after)
        self._recheck(after)
        if after.mode:
            self._when_closing(self.value)  # not ``after``, which may lack what stripes gave since

    def _recheck(self, state: State) -> None:
        """Have those go on whom this value and what stripes gave meanwhile let go on together."""
        if (state.blocked or state.quiescence_waiters) and self.can_progress():
            now = self.value
            wake_waiters(now, now)
            self.update(enter, self.limit)

    def add(self, change: int) -> bool:
        """``update(shift, change, limit)`` without a detour; whether it was made.

        ``False``: the pool is closing, or somebody may have to be let in or woken, which takes
        ``update``; nothing has changed.
        """
        version = successor = self.version
        successors = version[3]
        try:
            while True:
                while version[3]:  # as _look does
                    version = version[3][0]
                numbers, rest, plain, successors = version
                if not plain:
                    return False
                _go_as_deep_as_what_follows()
                successor = numbers + change, rest, True, []
                successors += (successor,)
                if successors[0] is successor:
                    self.version = successor
                    return True
        finally:
            del version, successor, successors

    def admit(self, admitted: int, count: int) -> bool:
        """Accept ``count`` deliveries, which then wait; whether it was done.

        ``False``: there is no room, others wait for it, or the pool takes no more.
        """
        limit = self.limit
        given, old = self._given, True  # before the version: A1
        version = successor = self.version
        successors = version[3]
        try:
            while version[3]:  # as _look does
                version = version[3][0]
            while True:
                numbers, rest, plain, successors = version
                if not plain and (rest[1] or rest[2]):
                    return False
                if (
                    limit is None
                    or (used := (numbers & MASK) - given) + count <= limit
                    or (not used and not old)
                ):
                    id(None)  # as below; to queue most entries takes no calls but of C functions
                    successor = numbers + admitted, rest, plain, []
                    successors += (successor,)
                    if successors[0] is successor:
                        self.version = successor
                        return True
                elif not old:
                    return False
                old = False
                version, stripes = self._look()
                given = self._given = -stripes & MASK
        finally:
            del version, successor, successors

    def can_progress(self) -> bool:
        """Whether a change in a stripe may let anybody go on who waits, or the pool close."""
        version, stripes = self._look()
        numbers, (_, mode, blocked, quiescence_waiters) = version[0] + stripes, version[1]
        if mode or (quiescence_waiters and not numbers & BUSY):
            return True
        if not blocked or self.limit is None:
            return False
        used = numbers & MASK
        return used + blocked[0].count <= self.limit or not used

    def needs_workers(self, admitted: int = 0) -> bool:
        """Whether more wait for a worker than are idle: for one who has added to the former.

        ``admitted``: what is about to be added.

        Stripes only lessen that, or else their worker asks in turn; so looked at first they do
        not hide what is wanted, and may change meanwhile, unlike for ``_look``. What a field then
        has less than zero is taken from those above it, at most up to ``SUBMITTED``, which has it.
        """
        stripes = sum(list(self.stripes))
        version = self.version
        try:
            while version[3]:  # as _look does
                version = version[3][0]
            return version[0] + stripes + admitted >= WANTED
        finally:
            del version

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


def wake_waiters(before: State, after: State) -> None:
    """Wake whoever can go on after a change."""
    first = after.blocked[0] if after.blocked and after.mode is before.mode else None
    for blocked in before.blocked:
        if blocked is first:
            break  # they enter in their order: nobody behind this one has (S3 in state)
        blocked.wake()
    if after.quiet:
        for waiter in after.quiescence_waiters:
            waiter()


def _go_as_deep_as_what_follows() -> None:
    """Where the stack ends here, nothing is counted; else there is room to queue that as well."""
    id(None)  # calls of C functions count, too, before 3.12; those of ``len`` only at first
