"""The gate of a ``tracked`` receiver: who is inside, and that nobody is let in once it is closed.

No lock. A call enters by putting itself into ``running`` and *then* looking at ``closed``; a
disconnect sets ``closed`` and *then* looks into ``running``. Whichever step came first in that
dictionary (it orders them, with and without the GIL), either the call sees the closed gate and
turns back, or the disconnect sees the call and waits for it (see ``waits``).
"""

from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Protocol, Self, TypeVar

from tsignals._base.errors import SKIPPED
from tsignals._base.event_loops import current_task
from tsignals._base.inbox import go_as_deep_as_put
from tsignals._base.interrupts import apply_to_all, refuse_if_deep
from tsignals._calling.tracked_call import Call, enclosed
from tsignals._calling.waits import going_on

R = TypeVar("R")

taken_along: "ContextVar[tuple[object, Gate] | None]" = ContextVar("tsignals_gate", default=None)
"""The ``background`` receiver that is about to be called, and its gate: its delivery takes it."""


class Queued(Protocol):
    """A delivery that has not started, or what stands for one."""

    def cancel(self) -> object: ...


class Claimed(Protocol):
    """What decides which send goes through the gate of a receiver that is called once."""

    def settle_if_claimed(self) -> bool:
        """Whether one does, or did: its connection is no more."""
        ...

    def clear_if_over(self) -> bool:
        """Whether that send has called it itself, or there is none: nobody else goes through."""
        ...


class _KeyOfGate(int):
    """A key in the table of gates: hashed after that of the connection, and equal to itself only.

    For there may be several gates under one key: of connections that are gone, and still run.
    """

    # An int, for that is hashed without a frame: see _go_as_deep_as_leaving_does.

    key: Hashable

    def __new__(cls, key: Hashable) -> Self:
        made = super().__new__(cls, hash(key))
        made.key = key
        return made

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = int.__hash__


class _Finder(_KeyOfGate):
    """Looked up, it is compared with all keys of its hash, and notes those that are its own."""

    found: dict[_KeyOfGate, None]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _KeyOfGate) and other.key == self.key:
            self.found[other] = None  # perhaps twice: the look-up may begin again
        return False  # so it goes on

    __hash__ = int.__hash__


def find_gates(table: "dict[Hashable, Gate]", key: Hashable) -> "list[Gate]":
    """The gates under ``key``. Raises what ``__eq__`` of a ``dispatch_uid`` raises."""
    finder = _Finder(key)
    finder.found = {}
    table.get(finder)
    return [gate for found in finder.found if (gate := table.get(found)) is not None]


class Gate:
    """Counts the calls of one tracked connection in and out, and lets nobody in once closed."""

    __slots__ = ("_key", "_table", "closed", "last", "once", "queued", "running")

    def __init__(self, table: "dict[Hashable, Gate]", key: Hashable, once: Claimed | None) -> None:
        self.closed: bool = False
        self.once: Claimed | None = once
        self.running: dict[Call, None] = {}
        self.queued: dict[Queued, None] = {}  # deliveries that have not started
        # That of a ``background`` receiver that is called once, until it has ended.
        self.last: Future[object] | None = None
        self._table = table  # where it is found until it is closed and empty
        self._key = _KeyOfGate(key)

    def enter_table(self) -> None:
        """Be found by the key of its connection from now on."""
        self._table[self._key] = self

    def leave_table(self) -> None:
        """Undo ``enter_table``; harmless when repeated."""
        self._table.pop(self._key, None)

    def call(self, function: Callable[[], R]) -> R | BaseException:
        """What ``function()`` gives, called inside; ``SKIPPED`` where the gate is closed."""
        call = Call()
        try:
            return function() if self.enter(call) else SKIPPED
        finally:
            del function  # this frame may live as long as what is raised in there
            try:
                self.leave(call)
            finally:
                if self.closed or self.once is not None or call in self.running:
                    self.leave(call)  # once more, or who waits may wait for ever: see interrupts

    async def call_async(
        self, function: Callable[[], Coroutine[object, object, R]]
    ) -> R | BaseException:
        """What ``await function()`` gives, inside; ``SKIPPED`` where the gate is closed."""
        call = Call(current_task())
        try:
            if self.enter(call):
                return await enclosed(call, function())
            return SKIPPED
        finally:
            try:
                self.leave(call)
            finally:
                if self.closed or self.once is not None or call in self.running:
                    self.leave(call)  # as above
                call.task = None  # what was raised is its result, and has this frame: a cycle

    def enter(self, call: Call) -> bool:
        """Let ``call`` in; False when the gate is closed, and then there is nothing to leave.

        Raises ``RecursionError`` where the stack has no room to leave again.
        """
        if self.once is not None:
            refuse_if_deep(10)  # whether it is over is looked up on the way out
        _go_as_deep_as_leaving_does()
        self.running[call] = None
        if self.closed:
            self.leave(call)
            return False
        return True

    def leave(self, call: Call) -> None:
        """Undo ``enter``; harmless when repeated."""
        self.running.pop(call, None)
        try:
            if self.once is not None and self.once.clear_if_over():
                self.closed = True
        finally:  # who waits is told, also where that was interrupted
            if self.closed:
                self._settle()

    def enqueue(self, delivery: Queued) -> None:
        """Remember a delivery that waits to run; cancel it if the gate is closed already."""
        self.queued[delivery] = None
        if self.closed:
            _cancel(delivery)

    def dequeue(self, delivery: Queued) -> None:
        """Forget a delivery that has started or was resolved."""
        self.queued.pop(delivery, None)

    def close(self) -> None:
        """Let nobody in from now on; cancel what is queued. Harmless when repeated."""
        self.closed = True
        self.last = None
        try:
            apply_to_all(_cancel, list(self.queued))
        finally:
            self._settle()

    def close_after(self, delivery: "Future[object]") -> None:
        """Close it when ``delivery`` has ended."""
        delivery.add_done_callback(lambda delivery: self.close())

    def close_after_last(self) -> None:
        """Close it when the last delivery that it was given has ended; now, if there is none."""
        if (last := self.last) is None:
            self.close()
        else:
            self.close_after(last)

    def _settle(self) -> None:
        if not self.running:
            self._table.pop(self._key, None)
        for wait in list(going_on):
            if wait.gate is self:
                wait.wake.put(None)


def call_with_gate(
    gate: Gate, receiver: "Callable[..., Future[object]]", /, **keywords: object
) -> "Future[object]":
    """Call a ``background`` receiver, whose delivery is to pass that gate, too."""
    token = taken_along.set((receiver, gate))
    try:
        delivery = receiver(**keywords)
        if gate.once is not None:  # no signal comes between the two stores: see interrupts
            gate.last = delivery
        return delivery
    finally:
        taken_along.reset(token)


def _go_as_deep_as_leaving_does() -> None:
    """Raise ``RecursionError`` where ``leave`` would, before anything is changed."""
    go_as_deep_as_put()


def _cancel(delivery: Queued) -> None:
    """Cancel a delivery unless it has started; some can be cancelled even then."""
    getattr(delivery, "_cancel_unstarted", delivery.cancel)()
