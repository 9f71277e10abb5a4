"""Waiting until a tracked receiver no longer runs, but not for calls that could never end before.

A wait enters itself in ``going_on`` and then looks; whoever leaves a gate, or starts a wait that
may close a cycle in the wait-for graph, removes or adds itself and then wakes those that go on.
Waking is an ``Inbox.put``, which any thread may do at any point, twice as well as once.
"""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Protocol

from tsignals._base.event_loops import current_task
from tsignals._base.inbox import Inbox
from tsignals._base.interrupts import refuse_if_critical
from tsignals._base.process import goes_on, here, in_child, notice, page
from tsignals._base.timeouts import deadline_in, left_until, no_less_than_zero, seconds
from tsignals._calling.tracked_call import Call, enclosing


class GateLike(Protocol):
    """A gate, as those see it who wait at it."""

    @property
    def running(self) -> dict[Call, None]:
        """The calls inside of it."""
        ...

    def close(self) -> None: ...


class _Wait:
    __slots__ = ("enclosing", "gate", "task", "thread", "wake")

    def __init__(self, gate: GateLike) -> None:
        self.gate = gate
        self.thread = threading.get_ident()
        self.enclosing = enclosing.get()
        self.task = current_task()
        self.wake: Inbox[None] = Inbox()

    def inside(self, call: Call) -> bool:
        """Whether this wait is made from within ``call``."""
        own = call.thread == self.thread if call.task is None else call.task is self.task
        return own or call in self.enclosing

    def left(self) -> Iterator[Call]:
        """The calls that it has to wait for."""
        waits = [other for other in list(going_on) if other is not self]
        for call in list(self.gate.running):
            if _runs_here(call) and not _ends_after(call, self, waits, set()):
                yield call


going_on: dict[_Wait, None] = {}
"""The waits that go on."""


def _after_fork() -> None:
    """Who waits below the handler that has forked looks again: nobody else may leave a gate."""
    waits = list(going_on)
    going_on.clear()
    for wait in waits:
        if wait.thread == threading.get_ident():
            wait.wake.put(None)


in_child(_after_fork)


def _runs_here(call: Call) -> bool:
    """Whether it runs in this process: the parent of a fork was in calls, of which one goes on.

    That of the thread that has forked, unless its event loop was to go on with it.
    """
    return call.process is here[0] or (call.task is None and goes_on(call.thread, call.process))


def check_wait(wait: object, tracked: bool) -> None:
    """Raise unless ``wait`` is a bool or a number of seconds, and False if not ``tracked``.

    Raises, too, where a wait could never end.
    """
    if wait is False:
        return
    if wait is None:
        raise TypeError("wait must be True, False or a number of seconds, not None")
    if wait is not True:
        no_less_than_zero(wait, "wait")
    if not tracked:
        raise ValueError(
            "wait needs a tracked connection, and this one is not; connect with tracked=True"
        )
    refuse_if_critical("disconnect(wait=...)")


def refuse_on_its_loop(gate: GateLike) -> None:
    """Raise if a wait here would block the event loop that runs what it waits for."""
    own = _Wait(gate)
    for call in own.left():
        if call.task is not None and call.thread == own.thread:
            raise RuntimeError(
                "cannot wait for a receiver on the thread whose event loop runs it; "
                "use await asyncio.to_thread(connection.disconnect, wait=True)"
            )


def wait_for(gates: Iterable[GateLike], wait: float | bool) -> None:
    """Close ``gates`` and wait for all of them: ``True`` for ever, else so many seconds.

    Raises ``TimeoutError``.
    """
    deadline = None if wait is True else deadline_in(seconds(wait, "wait"))
    for gate in gates:
        gate.close()
        wait_at(gate, deadline, wait)


def wait_at(gate: GateLike, deadline: float | None, timeout: object) -> None:
    """Wait until no call is inside but those that cannot end before this wait does.

    Raises ``TimeoutError`` at the deadline, when ``timeout`` is over.
    """
    if not page[0]:
        notice()
    wait = _Wait(gate)
    going_on[wait] = None
    try:
        _go_on_with(wait, deadline)
    except queue.Empty:
        raise TimeoutError(
            f"the receiver still runs after {timeout} seconds; "
            "it is disconnected and will not be called again"
        ) from None
    finally:
        going_on.pop(wait, None)


def _go_on_with(wait: _Wait, deadline: float | None) -> None:
    for other in list(going_on):
        if other is not wait:
            other.wake.put(None)  # this wait may close a cycle with that one
    while any(wait.left()):
        wait.wake.get(timeout=left_until(deadline))


def _ends_after(call: Call, wait: _Wait, waits: list[_Wait], seen: set[Call]) -> bool:
    """Whether ``call`` can only end after ``wait``: it encloses it, or waits for what does."""
    if wait.inside(call):
        return True
    seen.add(call)
    return any(
        _ends_after(inner, wait, waits, seen)
        for other in waits
        if other.inside(call)
        for inner in list(other.gate.running)
        if inner not in seen
    )
