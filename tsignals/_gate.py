"""The gate of a ``tracked`` receiver: who is inside, and waiting until nobody is.

No lock. A call enters by putting itself into ``running`` and *then* looking at ``closed``; a
disconnect sets ``closed`` and *then* looks into ``running``. Whichever step came first in that
dictionary (it orders them, with and without the GIL), either the call sees the closed gate and
turns back, or the disconnect sees the call and waits for it.

A waiter announces itself in ``_waits`` and then looks; whoever leaves, or starts a wait that may
close a circle, removes or adds itself and then wakes those announced. Waking is a
``SimpleQueue.put``, which any thread may do at any point, twice as well as once.
"""

import queue
import sys
import threading
import time
from collections.abc import Hashable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from tsignals._critical import refuse_if_critical
from tsignals._process import here, in_child, notice, page
from tsignals._timeouts import no_less_than_zero, seconds

if TYPE_CHECKING:
    import asyncio


class Call:
    """One running call of a tracked receiver."""

    __slots__ = ("process", "task", "thread", "void")

    def __init__(self, task: "asyncio.Task[Any] | None" = None, thread: int | None = None) -> None:
        if not page[0]:
            notice()
        self.thread = threading.get_ident() if thread is None else thread  # 0: not known yet
        self.task = task  # of an async receiver: the task it runs in
        self.process = here[0]
        self.void = False  # who made it was interrupted

    def begin(self) -> None:
        """It runs in this thread, as is known only now."""
        self.thread = threading.get_ident()


enclosing: ContextVar[tuple[Call, ...]] = ContextVar("tsignals_enclosing", default=())
"""The async calls that this context runs inside of: ``asyncio.to_thread`` carries it along."""


class _Wait:
    __slots__ = ("enclosing", "gate", "task", "thread", "wake")

    def __init__(self, gate: "Gate") -> None:
        self.gate = gate
        self.thread = threading.get_ident()
        self.enclosing = enclosing.get()
        self.task = _current_task()
        self.wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def inside(self, call: Call) -> bool:
        """Whether this wait is made from within ``call``."""
        own = call.thread == self.thread if call.task is None else call.task is self.task
        return own or call in self.enclosing


_waits: dict[_Wait, None] = {}


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

    __slots__ = ("_key", "_table", "closed", "queued", "running")

    def __init__(self, table: "dict[Hashable, Gate]", key: Hashable) -> None:
        self.closed = False
        self.running: dict[Call, None] = {}
        self.queued: dict[Any, None] = {}  # deliveries that have not started
        self._table = table  # where it is found until it is closed and empty
        self._key = _KeyOfGate(key)

    def enter_table(self) -> None:
        """Be found by the key of its connection from now on."""
        self._table[self._key] = self

    def leave_table(self) -> None:
        """Undo ``enter_table``; harmless when repeated."""
        self._table.pop(self._key, None)

    def enter(self, call: Call) -> bool:
        """Let ``call`` in; False when the gate is closed, and then there is nothing to leave.

        Raises ``RecursionError`` where the stack has no room to leave again.
        """
        _go_as_deep_as_leaving_does()
        self.running[call] = None
        if self.closed:
            self.leave(call)
            return False
        return True

    def leave(self, call: Call) -> None:
        """Undo ``enter``; harmless when repeated."""
        self.running.pop(call, None)
        if self.closed:
            self._settle()

    def enqueue(self, delivery: Any) -> None:
        """Remember a delivery that waits to run; cancel it if the gate is closed already."""
        self.queued[delivery] = None
        if self.closed:
            _cancel(delivery)

    def dequeue(self, delivery: Any) -> None:
        """Forget a delivery that has started or was resolved."""
        self.queued.pop(delivery, None)

    def close(self) -> None:
        """Let nobody in from now on; cancel what is queued. Harmless when repeated."""
        self.closed = True
        for delivery in list(self.queued):
            _cancel(delivery)
        self._settle()

    def _settle(self) -> None:
        if not self.running:
            self._table.pop(self._key, None)
        for wait in list(_waits):
            if wait.gate is self:
                wait.wake.put(None)

    def refuse_on_its_loop(self) -> None:
        """Raise if a wait here would block the event loop that runs what it waits for."""
        own = _Wait(self)
        for call in self._to_wait_for(own):
            if call.task is not None and call.thread == own.thread:
                raise RuntimeError(
                    "cannot wait for a receiver on the thread whose event loop runs it; "
                    "use await asyncio.to_thread(connection.disconnect, wait=True)"
                )

    def wait(self, deadline: float | None, timeout: object) -> None:
        """Wait until no call is inside but those that cannot end before this wait does.

        Raises ``TimeoutError`` at the deadline, when ``timeout`` is over.
        """
        if not page[0]:
            notice()
        wait = _Wait(self)
        _waits[wait] = None
        try:
            for other in list(_waits):
                if other is not wait:
                    other.wake.put(None)  # this wait may close a circle with that one
            while any(self._to_wait_for(wait)):
                left = None if deadline is None else deadline - time.monotonic()
                try:
                    if left is not None and left <= 0:
                        raise queue.Empty
                    wait.wake.get(timeout=left)
                except queue.Empty:
                    raise TimeoutError(
                        f"the receiver still runs after {timeout} seconds; "
                        "it is disconnected and will not be called again"
                    ) from None
        finally:
            _waits.pop(wait, None)

    def _to_wait_for(self, wait: _Wait) -> Iterator[Call]:
        waits = [other for other in list(_waits) if other is not wait]
        for call in list(self.running):
            # A call that the parent of a fork was in does not run here.
            if call.process is here[0] and not _ends_after(call, wait, waits, set()):
                yield call


def _go_as_deep_as_leaving_does() -> None:
    len(())  # calls of C functions count, too, before 3.12


def _cancel(delivery: Any) -> None:
    """Cancel a delivery unless it has started; some can be cancelled even then."""
    getattr(delivery, "_cancel_unstarted", delivery.cancel)()


def wait_for(gates: list[Gate], wait: float | bool) -> None:
    """Close ``gates`` and wait for all of them: ``True`` for ever, else so many seconds.

    Raises ``TimeoutError``.
    """
    left = None if wait is True else seconds(wait, "wait")
    deadline = None if left is None else time.monotonic() + left
    for gate in gates:
        gate.close()
        gate.wait(deadline, wait)


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


def _current_task() -> "asyncio.Task[Any] | None":
    module = sys.modules.get("asyncio")  # not imported for this: where it is not, no loop runs
    if module is None:
        return None
    try:
        task: asyncio.Task[Any] | None = module.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None
    return task


in_child(_waits.clear)
