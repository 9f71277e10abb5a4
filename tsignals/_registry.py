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

Why that is linearizable. By R2 and R3 a send that starts after a change has returned reads an
epoch that was put in place after the change's dictionary step, and by R3 its rows were read
later still: it sees the change. A send that sees a change still under way makes it visible to
all later ones: by R3 within the epoch, by R2 and R4 beyond it. The death of a receiver needs no
step of ours: a plan resolves weak references while it holds those resolved already, so what is
alive at its end was alive together. If one was dead, the plan is compared with the current one,
and resolved anew if they differ: else a send could miss a disconnect that came before the death.

The collector may run a callback in the middle of any line here. It calls ``discard``: a ``pop``
and ``STALE``. Should it be late, or interrupted, the dead row stays until the next builder or
the next ``add`` under its key removes it.
"""

import sys
import weakref
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from tsignals._gate import Gate
from tsignals._plan import UNBUILT, Plan, Rows, build_plan, general_rows
from tsignals._receiver import Only

if TYPE_CHECKING:
    from tsignals._connection import Connection


class Epoch(Plan):
    """What sends see from one change to the next; filled in by the first that looks.

    It is the plan of all senders, but for those that have connections of their own.
    """

    __slots__ = ("_shown", "built", "plans")

    def __init__(self) -> None:
        super().__init__()
        self.built = False
        self.plans: dict[int, Plan] | None = None  # by id of a connected sender; None: no such
        # Decided by the first setdefault (R3): the connections, in call order.
        self._shown: dict[int, Rows] = {}

    @property
    def shown(self) -> Rows:
        """The connections, in call order."""
        return self._shown[0]

    def show(self, rows: Rows) -> None:
        """Decide what this epoch shows, unless that is decided already."""
        rows = self._shown.setdefault(0, rows)
        senders = {row.terms.sender_id for row in rows}
        senders.discard(0)
        if senders:
            self.plans = dict.fromkeys(senders, UNBUILT)
        # After the plans: where a sender has none, this one holds.
        self.fill(general_rows(rows))
        self.built = True

    def plan(self, sender: object) -> Plan:
        """The plan for ``sender``; the same object for all sends of this epoch."""
        plans = self.plans
        sender_id = id(sender)
        plan = None if plans is None else plans.get(sender_id)
        if plans is None or plan is None:
            return self
        if plan is UNBUILT:
            # Built from the same rows, two plans of one sender differ in nothing but identity.
            plan = plans[sender_id] = build_plan(self.shown, sender_id)
        # Otherwise the address belonged to a sender that died.
        return plan if plan.sender() is sender else self


STALE = Epoch()
"""Stands for the epoch that the next send will make; shows nothing."""


class Registry:
    """The connections of one signal.

    Thread safety: every method may be called from any thread, at any point of any other.
    """

    __slots__ = ("__weakref__", "_rows", "epoch", "gates", "on_death", "ref", "signal")

    def __init__(self, signal: object = None) -> None:
        # For the names of its connections.
        self.signal = (lambda: None) if signal is None else weakref.ref(signal)
        self._rows: dict[Hashable, Connection] = {}
        self.epoch = STALE
        # Of tracked connections, with their keys: connected, or gone but still running.
        self.gates: dict[Gate, Hashable] = {}
        # Weak, or each signal would be a reference cycle through its connections.
        self.ref = weakref.ref(self)
        self.on_death = _Sweeper(self.ref)

    def add(self, connection: "Connection") -> "Connection":
        """Enter ``connection``, or return the live one that stands under its key."""
        key = connection.key
        gate = connection.terms.gate
        if gate is not None:
            self.gates[gate] = key
        try:
            while True:
                found = self._rows.setdefault(key, connection)
                if found is connection:
                    return found
                if found.alive:
                    if gate is not None:
                        self.gates.pop(gate, None)
                    return found
                self._rows.pop(Only(found.key), None)
        finally:
            self.epoch = STALE

    def get(self, key: Hashable) -> "Connection | None":
        """The connection under ``key``, dead or alive, without making it visible to sends."""
        return self._rows.get(key)

    def gates_under(self, key: Hashable) -> list[Gate]:
        """The gates of tracked connections that stand, or stood and still run, under ``key``."""
        return [gate for gate, of in list(self.gates.items()) if of == key]

    def pop(self, key: Hashable) -> "Connection | None":
        """Remove what stands under ``key`` and return it."""
        try:
            removed = self._rows.pop(key, None)
        finally:
            self.epoch = STALE
        if removed is not None and removed.terms.gate is not None:
            removed.terms.gate.close()
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

    def _read(self) -> Rows:
        """The rows in call order; removes those of the dead that a callback has left behind.

        These are shown once more all the same: whoever finds one dead looks whether something
        has changed since the rows were read, and must not miss the occasion.
        """
        rows = list(self._rows.values())
        dead = [row for row in rows if not row.alive]
        for row in dead:
            self._rows.pop(Only(row.key), None)
        if dead:
            self.epoch = STALE
        if any(row.terms.priority for row in rows):
            rows.sort(key=lambda row: -row.terms.priority)  # stable: then by order of connection
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
