"""The whole state of a pool as one immutable value, and the step that replaces it.

    open -> closing -> closed        accepted work still runs while closing
       \\-> broken                    an initializer raised

Lock
    None. A :class:`Cell` holds a value; ``update`` computes the next one from it and tries to put
    that in place. Of several tries on one value exactly one wins: each appends its result to the
    value's list of successors, and the first in the list is the successor. A loser starts again
    from the winner. So a change is made entirely or not at all, at one moment, whatever
    interrupts it: another thread, a finalizer, a signal handler, a fork.

Invariants, by construction of every change below
    S1  submitted = pending + running + completed + failed + cancelled + dropped.
    S2  room in use = pending + async_running <= max_pending, but for the excess the contract names.
    S3  Blocked senders are admitted in the order in which they stand in ``blocked``; nobody is
        admitted past them.
    S4  ``mode`` only grows.
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple


class Mode(enum.IntEnum):
    OPEN = 0
    CLOSING = 1
    CLOSED = 2
    BROKEN = 3


class State(NamedTuple):
    pending: int = 0
    running: int = 0
    async_running: int = 0  # of those running, on the event loop: these still take up room
    submitted: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    dropped: int = 0
    workers: int = 0
    idle: int = 0
    mode: Mode = Mode.OPEN
    blocked: "tuple[Blocked, ...]" = ()
    idlers: tuple[Callable[[], None], ...] = ()  # wake those who wait for quiet: drain, shutdown

    @property
    def quiet(self) -> bool:
        """Whether nothing is pending or running."""
        return not (self.pending or self.running)

    def fits(self, count: int, limit: int | None) -> bool:
        """Whether ``count`` more may wait; more than ``limit`` may when nothing else waits."""
        if limit is None:
            return True
        used = self.pending + self.async_running
        return used + count <= limit or not used


# What every delivery goes through is spelled out below: ``_replace`` takes four times as long.
_new = tuple.__new__


class Blocked:
    """A sender that waits for room."""

    __slots__ = ("count", "wake")

    def __init__(self, count: int, wake: Callable[[], None]) -> None:
        self.count = count
        self.wake = wake


Node = tuple[State, "list[Any]"]  # a value and its successors


class Cell:
    """Holds a :class:`State`; replaced by compare-and-swap."""

    __slots__ = ("_node", "interrupts")

    def __init__(self, state: State) -> None:
        self._node: Node = (state, [])
        self.interrupts: list[BaseException] = []

    @property
    def value(self) -> State:
        return self._last()[0]

    def _last(self) -> Node:
        node = self._node
        while node[1]:  # the winner has not moved on yet
            node = node[1][0]
        return node

    def update(self, change: Callable[..., State | None], *arguments: Any) -> State | None:
        """Replace the value by ``change(value, *arguments)`` and return the new value.

        Where ``change`` returns ``None``, so does this, and nothing changes. ``change`` must be
        pure: it is called again when another change came first. Whoever can go on now is woken:
        senders that have left the line, all that stand in it once the pool takes no more, and
        those who wait for quiet.

        An exception from outside (Ctrl-C) is raised if it came before the change was made. One
        that came after waits for ``raise_interrupt``, or the caller could not know.
        """
        while True:
            node = self._node
            if node[1]:
                node = self._last()
            before = node[0]
            after = change(before, *arguments)
            if after is None:
                return None
            successor: Node = (after, [])
            try:
                node[1].append(successor)
                if node[1][0] is not successor:
                    continue
                self._node = successor
                if before.blocked or after.idlers:
                    wake(before, after)
                return after
            except BaseException as interrupt:
                if not node[1] or node[1][0] is not successor:
                    raise
                self.interrupts.append(interrupt)
                wake(before, after)  # twice does no harm
                return after

    def raise_interrupt(self) -> None:
        """Raise what interrupted a change that was made all the same; where that has ended."""
        if self.interrupts:
            raise self.interrupts.pop()


def wake(before: State, after: State) -> None:
    """Wake whoever can go on after a change."""
    for blocked in before.blocked:
        if after.mode or blocked not in after.blocked:
            blocked.wake()
    if after.quiet:
        for idler in after.idlers:
            idler()


# -- The changes. Each takes a state and returns the next one, or None where it does not apply. --


def admit(state: State, count: int, limit: int | None) -> State | None:
    """``count`` deliveries are accepted and wait, if there is room and nobody waits for it."""
    if state.mode or state.blocked or not state.fits(count, limit):
        return None
    pending, running, on_loop, submitted, *others = state
    return _new(State, (pending + count, running, on_loop, submitted + count, *others))


def admit_over(state: State, count: int) -> State:
    """The same over the limit, for those whose place in a lane leaves no choice."""
    return state._replace(pending=state.pending + count, submitted=state.submitted + count)


def drop_new(state: State, count: int) -> State:
    """``count`` deliveries are dropped as they come."""
    return state._replace(dropped=state.dropped + count, submitted=state.submitted + count)


def block(state: State, blocked: Blocked, limit: int | None) -> State | None:
    """A sender gets in line, if it must."""
    if state.mode or (not state.blocked and state.fits(blocked.count, limit)):
        return None
    return state._replace(blocked=(*state.blocked, blocked))


def unblock(state: State, blocked: Blocked, limit: int | None) -> State | None:
    """A sender leaves the line; not if it was admitted."""
    if blocked not in state.blocked:
        return None
    left = tuple(other for other in state.blocked if other is not blocked)
    return let_in(state._replace(blocked=left), limit)


def let_in(state: State, limit: int | None) -> State:
    """Those at the head of the line enter as far as there is room (S3)."""
    while not state.mode and state.blocked and state.fits(state.blocked[0].count, limit):
        count = state.blocked[0].count
        state = state._replace(
            pending=state.pending + count,
            submitted=state.submitted + count,
            blocked=state.blocked[1:],
        )
    return state


def start(state: State, idle: int, limit: int | None) -> State:
    """A pending delivery starts; ``idle`` is 1 where an idle worker takes it."""
    pending, running, on_loop, sub, com, fai, can, dro, workers, idlers, *others = state
    state = _new(
        State,
        (
            pending - 1,
            running + 1,
            on_loop,
            sub,
            com,
            fai,
            can,
            dro,
            workers,
            idlers - idle,
            *others,
        ),
    )
    return let_in(state, limit) if state.blocked else state


def start_at_once(state: State) -> State:
    """A delivery starts in the thread that sends it, never having waited."""
    return state._replace(submitted=state.submitted + 1, running=state.running + 1)


def finish(state: State, idle: int, ended: str) -> State:
    """A running delivery ends; ``ended`` names the counter."""
    if ended == "completed":
        pending, running, on_loop, sub, com, fai, can, dro, workers, idlers, *others = state
        return _new(
            State,
            (pending, running - 1, on_loop, sub, com + 1, fai, can, dro, workers, idlers + idle)
            + tuple(others),
        )
    return state._replace(
        running=state.running - 1,
        idle=state.idle + idle,
        **{ended: getattr(state, ended) + 1},
    )


def resolve(state: State, ended: str, limit: int | None) -> State:
    """A pending delivery ends without having run; ``ended`` names the counter."""
    return let_in(
        state._replace(pending=state.pending - 1, **{ended: getattr(state, ended) + 1}), limit
    )


def withdraw(state: State, count: int, limit: int | None) -> State:
    """What was admitted and not queued is taken back, as if never submitted."""
    return let_in(
        state._replace(pending=state.pending - count, submitted=state.submitted - count), limit
    )


def hire(state: State, most: int) -> State | None:
    """A worker is about to start, if there is work for it and not too many work."""
    if state.workers >= most or state.pending <= state.idle:
        return None
    return state._replace(workers=state.workers + 1, idle=state.idle + 1)


def leave(state: State) -> State:
    """An idle worker is gone, or could not start."""
    return state._replace(workers=state.workers - 1, idle=state.idle - 1)


def retire(state: State) -> State | None:
    """An idle worker goes, if the pool takes no more work and none is left."""
    return leave(state) if state.mode and not state.pending else None


def turn(state: State, mode: Mode) -> State | None:
    """The pool moves to ``mode``; those who stand in line will see it and leave."""
    return None if state.mode >= mode else state._replace(mode=mode)


def await_quiet(state: State, idler: Any) -> State | None:
    """Somebody waits for nothing to be pending or running, if it is not so already."""
    return None if state.quiet else state._replace(idlers=(*state.idlers, idler))


def forget(state: State, idler: Any) -> State:
    return state._replace(idlers=tuple(i for i in state.idlers if i is not idler))
