"""Who is connected: one dictionary that is changed by single steps, and epochs that show it.

There is no lock here. ``_rows`` maps a key to its connection and is the truth. It is changed by
``setdefault`` and ``pop`` alone, each one atomic with and without the GIL, and read only by
``list(_rows.values())``, which is atomic too. Since nothing is read, changed and written back,
a change that arrives in the middle of another (from a finalizer, a weakref callback, a signal
handler, ``__eq__`` of a ``dispatch_uid``) is simply a change that came first; and since nothing
is held, an exception there, or a fork, leaves nothing held.

Invariants
    R1  A connection enters ``_rows`` once, under a key object that is its own, and never again.
        Nothing overwrites a row, so ``pop(Only(key))`` removes that connection or nothing.
    R2  Every change, also one that found nothing to change, puts ``STALE`` in the epoch's place
        after its dictionary step and before it returns or raises. That is one store, which
        nothing can interrupt half-way. ``STALE`` shows nothing; the next send puts a new epoch
        in its place, and reads ``_rows`` only then. No epoch comes back once replaced.
    R3  What an epoch shows is decided once, by the first builder that read ``_rows`` while the
        epoch was the current one. All sends of an epoch agree.
    R4  A builder whose epoch was replaced while it read uses what it read, for its own send
        only, and puts ``STALE`` in place itself, so that nobody later sees less than it saw.

    R5  Who looks at a second moment, in ``resolve``, first enters a list in ``_pins``. ``add``
        puts what it has connected into all lists that it finds there, after ``STALE`` (R2) and
        before it returns. An operation on the dictionary orders the two.

Why that is linearizable. By R2 and R3 a send that starts after a change has returned reads an
epoch that was put in place after the change's dictionary step, and by R3 its rows were read
later still: it sees the change. A send that sees a change still under way makes it visible to
all later ones: by R3 within the epoch, by R2 and R4 beyond it. The death of a receiver needs no
step of ours: a plan resolves weak references while it holds those resolved already, so what is
alive at its end was alive together. If one was dead, and the plan is still the current one, the
send comes after that death. Else a disconnect may have come before the death, and a send that
called the one and not the other would show a state that never was.

Why two looks are enough, however many die meanwhile. The send enters its list, holds all that
live in the plan of that moment, and reads the plan anew: the send takes place at this second
reading. Whoever is dead then was so when the plan was read: what is in both plans is held since
the first, or was dead by then; and what is only in the second was connected by an ``add`` that had
not yet returned, or not begun, when the list was entered. That has put it into the list, or still
has it among its arguments: either way it lives.

The collector may run a callback in the middle of any line here. It calls ``discard``: a ``pop``
and ``STALE``. Should it be late, or interrupted, the dead row stays until the next builder or
the next ``add`` under its key removes it.
"""

import sys
import weakref
from collections.abc import Callable, Hashable
from typing import Any

from tsignals._connection import Connection
from tsignals._each import Live
from tsignals._gate import Gate, find_gates
from tsignals._plan import UNBUILT, Index, Plan, Rows
from tsignals._receiver import Only

FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()

MOST_KEPT = 32
"""Places in plans of single senders that are kept, for each connection."""


class Epoch(Plan):
    """What sends see from one change to the next; filled in by the first that looks.

    It is the plan of all senders, but for those that have connections of their own.
    """

    __slots__ = ("_index", "_kept", "_members", "_shown", "built", "plans")

    def __init__(self) -> None:
        super().__init__()
        self.built = False
        self.plans: dict[int, Plan] | None = None  # by id of a connected sender; None: no such
        # Decided by the first setdefault (R3): the connections, in call order.
        self._shown: dict[int, Rows] = {}
        self._members: set[int] = set()  # the ids of the connections, once somebody has asked
        self._kept = 0  # how many rows there are in ``plans``; need not be exact

    @property
    def shown(self) -> Rows:
        """The connections, in call order."""
        return self._shown[0]

    def shows(self, row: Connection) -> bool:
        """Whether ``row`` is among them; costs nothing but for the first that asks."""
        if not self._members:
            self._members = {id(each) for each in self.shown}
        return id(row) in self._members

    def grips(self) -> "list[tuple[Connection, object]]":
        """The connections whose receivers and senders live, with these, which do so from now on."""
        return [(row, grip) for row in self.shown if (grip := row._grip()) is not None]

    def show(self, rows: Rows) -> None:
        """Decide what this epoch shows, unless that is decided already."""
        rows = self._shown.setdefault(0, rows)
        senders = {row._terms.sender_id for row in rows}
        senders.discard(0)
        if senders:
            self._index = index = Index(rows)
            self.plans = dict.fromkeys(index.own, UNBUILT)
            rows = index.general
        # After the plans: where a sender has none, this one holds.
        self.fill(rows)
        self.built = True

    def plan(self, sender: object) -> Plan:
        """The plan for ``sender``; the same object for all sends of this epoch, or its equal."""
        plans = self.plans
        sender_id = id(sender)
        plan = None if plans is None else plans.get(sender_id)
        if plans is None or plan is None:
            return self
        if plan is UNBUILT:
            # Built from the same rows, two plans of one sender differ in nothing but identity.
            plan = self._index.plan(sender)
            # Each holds all that hear every sender, too: kept while they take a few times what the
            # connections take. A send beyond that builds its own, as long as what it has to call.
            if self._kept <= MOST_KEPT * (len(self.shown) + 100):
                self._kept += plan.count
                plans[sender_id] = plan
        # Otherwise the address belonged to a sender that died.
        return plan if plan.sender() is sender else self


STALE = Epoch()
"""Stands for the epoch that the next send will make; shows nothing."""


class Registry:
    """The connections of one signal.

    Thread safety: every method may be called from any thread, at any point of any other.
    """

    __slots__ = ("__weakref__", "_pins", "_rows", "epoch", "gates", "on_death", "ref", "signal")

    def __init__(self, signal: object = None) -> None:
        # For the names of its connections.
        self.signal = (lambda: None) if signal is None else weakref.ref(signal)
        self._rows: dict[Hashable, Connection] = {}
        self.epoch = STALE
        self._pins: dict[int, list[object]] = {}  # R5; by id, for a list compares what is in it
        # Of tracked connections: connected, or gone but still running. By key; see KeyOfGate.
        self.gates: dict[Hashable, Gate] = {}
        # Weak, or each signal would be a reference cycle through its connections.
        self.ref = weakref.ref(self)
        self.on_death = _Sweeper(self.ref)

    def add(self, connection: Connection) -> Connection:
        """Enter ``connection``, or return the live one that stands under its key."""
        key = connection._key
        gate = connection._terms.gate
        found = None
        try:
            if gate is not None:
                gate.enter_table()
            while True:
                found = self._rows.setdefault(key, connection)
                if found is connection or found._alive:
                    return found
                self.discard(found._key)
        finally:
            self.epoch = STALE
            if self._pins or FREE_THREADED:  # where to ask a dictionary whether it is empty
                for pinned in self._pins.copy().values():  # orders nothing
                    pinned.append(connection._grip())
            if gate is not None and found is not connection:
                gate.leave_table()

    def get(self, key: Hashable) -> "Connection | None":
        """The connection under ``key``, dead or alive, without making it visible to sends."""
        return self._rows.get(key)

    def gates_under(self, key: Hashable) -> list[Gate]:
        """The gates of tracked connections that stand, or stood and still run, under ``key``."""
        return find_gates(self.gates, key)

    def pop(self, key: Hashable) -> "Connection | None":
        """Remove what stands under ``key`` and return it."""
        try:
            removed = self._rows.pop(key, None)
        finally:
            self.epoch = STALE
        if removed is not None and removed._terms.gate is not None:
            removed._terms.gate.close()
        return removed

    def discard(self, key: Hashable) -> "Connection | None":
        """Remove the one connection whose own key object this is; return it if it was there."""
        return self.pop(Only(key))

    def current(self) -> Epoch:
        """An epoch that shows the connections at some moment of this call."""
        epoch = self.epoch
        if epoch.built:
            return epoch
        if epoch is STALE:
            self.epoch = Epoch()
            epoch = self.epoch  # ours, or that of another thread which did the same
            if epoch is STALE:
                epoch = Epoch()
        rows = self._read()
        if self.epoch is not epoch:
            epoch = Epoch()
            self.epoch = STALE  # R4
        epoch.show(rows)
        return epoch

    def plan(self, sender: object) -> Plan:
        """The plan for a send by ``sender`` that starts now."""
        return self.current().plan(sender)

    def resolve(self, plan: Plan, sender: object) -> Live:
        """The connections of ``plan``, read for ``sender`` in this call, whose receivers live.

        With these, which live from now on. If ``plan`` was overtaken, those of a later one.
        """
        rows = plan.rows
        live = [(row, r) for row in rows if (r := row._hold()) is not None]
        if len(live) == len(rows) or self.plan(sender) is plan:
            return live
        pinned: list[object] = []
        key = id(pinned)
        self._pins[key] = pinned
        try:
            pinned.append(self.plan(sender).resolve())
            return self.plan(sender).resolve()
        finally:
            self._pins.pop(key, None)  # one step: an interrupt before it would leave the list there

    @property
    def live(self) -> "list[Connection]":
        """All connections whose receivers and senders live, in call order; as ``resolve``."""
        epoch = self.current()
        live = epoch.grips()
        if len(live) < len(epoch.shown) and self.current() is not epoch:
            pinned: list[object] = []
            key = id(pinned)
            self._pins[key] = pinned
            try:
                pinned.append(self.current().grips())
                live = self.current().grips()
            finally:
                self._pins.pop(key, None)  # as in ``resolve``
        return [row for row, _ in live]

    def _read(self) -> Rows:
        """The rows in call order; removes those of the dead that a callback has left behind.

        These are shown once more all the same: whoever finds one dead looks whether something
        has changed since the rows were read, and must not miss the occasion.
        """
        rows = list(self._rows.values())
        for row in rows:
            if not row._alive:
                self.discard(row._key)
        if any(row._terms.priority for row in rows):
            rows.sort(key=lambda row: -row._terms.priority)  # stable: then by order of connection
        return tuple(rows)


class _Sweeper:
    """The callback of every weak reference of a registry: takes the dead connection out."""

    __slots__ = ("_registry",)

    def __init__(self, registry: "weakref.ref[Registry]") -> None:
        self._registry = registry

    # Bound now: while the interpreter ends, module globals go before the last receivers do.
    def __call__(self, tether: Any, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
        registry = self._registry()
        if registry is not None and not _ending():
            registry.discard(tether.key)
