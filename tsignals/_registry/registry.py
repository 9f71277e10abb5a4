"""Who is connected: one dictionary that is changed by single steps, and snapshots that show it.

There is no lock here. ``_connections`` maps a key to its connection and is the truth. It is changed
by ``setdefault`` and ``pop`` alone, each one atomic with and without the GIL, and read only by
``list(_connections.values())``, which is atomic too. Since nothing is read, changed and written
back, a change that arrives in the middle of another (from a finalizer, a weakref callback, a signal
handler, ``__eq__`` of a ``dispatch_uid``) is simply a change that came first; and since nothing
is held, an exception there, or a fork, leaves nothing held.

Invariants
    R1  A connection enters ``_connections`` once, under a key object that is its own, and never
        again. Nothing overwrites it, so ``pop(IdentityKey(key))`` removes that one or nothing.
    R2  Every change, also one that found nothing to change, puts ``STALE`` in the snapshot's place
        after its dictionary step and before it returns or raises. That is one store, which
        nothing can interrupt half-way. ``STALE`` shows nothing; the next send puts a new snapshot
        in its place, and reads ``_connections`` only then. No snapshot comes back once replaced.
    R3  What a snapshot shows, and who observes it, is decided once, by the first builder that read
        ``_connections`` while the snapshot was the current one. All sends of a snapshot agree.
    R4  A builder whose snapshot was replaced while it read uses what it read, for its own send
        only, and puts ``STALE`` in place itself, so that nobody later sees less than it saw.
    R5  Who looks at a second moment first enters a list in ``_pins``. ``add`` pins what it has
        connected in all lists that it finds there, after ``STALE`` (R2) and before it returns. An
        operation on the dictionary orders the two.

Why that is linearizable. By R2 and R3 a send that starts after a change has returned reads a
snapshot that was put in place after the change's dictionary step, and by R3 its connections were
read later still: it sees the change. A send that sees a change still under way makes it visible to
all later ones: by R3 within the snapshot, by R2 and R4 beyond it. The death of a receiver needs no
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
and ``STALE``. Should it be late, or interrupted, the dead one stays until the next builder or the
next ``add`` under its key removes it.
"""

import sys
import weakref
from collections.abc import Callable, Hashable
from typing import TypeVar

from tsignals._base import overrides
from tsignals._base.identity import IdentityKey
from tsignals._base.observers import who_observes
from tsignals._calling.tracking import Gate, find_gates
from tsignals._registry.connection import Connection
from tsignals._registry.everywhere import registries
from tsignals._registry.once import unclaimed
from tsignals._registry.plan import Connections, Live, Plan
from tsignals._registry.references import HasKey
from tsignals._registry.snapshot import STALE, Snapshot

Seen = TypeVar("Seen")

FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


class Registry:
    """The connections of one signal.

    Thread safety: every method may be called from any thread, at any point of any other.
    """

    __slots__ = (
        "__weakref__",
        "_connections",
        "_pins",
        "gates",
        "on_death",
        "ref",
        "refuses_async",
        "signal",
        "snapshot",
    )

    def __init__(self, signal: object) -> None:
        self.signal = weakref.ref(signal)  # for the names of its connections
        self._connections: dict[Hashable, Connection] = {}
        self.snapshot = STALE
        self._pins: dict[int, list[object]] = {}  # R5; by id, for a list compares what is in it
        # Of tracked connections: connected, or gone but still running. By key.
        self.gates: dict[Hashable, Gate] = {}
        # Weak, or each signal would be a reference cycle through its connections.
        self.ref: weakref.ref[Registry] = weakref.ref(self, registries.forget)
        self.on_death = _Sweeper(self.ref)
        self.refuses_async = False  # as that of receiver_failed does
        registries.add(self.ref)

    def add(self, connection: Connection) -> Connection:
        """Enter ``connection``, or return the live one that stands under its key."""
        key = connection._key
        gate = connection._options.gate
        found = None
        try:
            if gate is not None:
                gate.enter_table()
            while True:
                found = self._connections.setdefault(key, connection)
                if found is connection:
                    return found
                if not found._alive:
                    self.discard(found._key)
                elif (once := found._options.once) is None or not once.settle_if_claimed():
                    return found
                else:
                    once.clear()
        finally:
            self.snapshot = STALE
            if self._pins or FREE_THREADED:  # where to ask a dictionary whether it is empty
                for pinned in self._pins.copy().values():  # orders nothing
                    pinned.append(connection._pin())
            if gate is not None and found is not connection:
                gate.leave_table()

    def get(self, key: Hashable) -> Connection | None:
        """The connection under ``key``, dead or alive, without making it visible to sends."""
        return self._connections.get(key)

    def gates_under(self, key: Hashable) -> list[Gate]:
        """The gates of tracked connections that stand, or stood and still run, under ``key``."""
        return find_gates(self.gates, key)

    def pop(self, key: Hashable) -> Connection | None:
        """Remove what stands under ``key``; return it, unless a send has claimed it before."""
        try:  # as remove does; a call takes longer
            removed = self._connections.pop(key, None)
        finally:
            self.snapshot = STALE
        if removed is None:
            return None
        options = removed._options
        if options.gate is not None:
            options.gate.close()
        return removed if options.once is None or options.once.end() else None

    def remove(self, key: Hashable) -> Connection | None:
        """Remove what stands under ``key``; its gate stays open, for a call is still to pass it."""
        try:
            return self._connections.pop(key, None)
        finally:
            self.snapshot = STALE

    def discard(self, key: Hashable) -> Connection | None:
        """Remove the one connection whose own key object this is; return it if it was there."""
        return self.pop(IdentityKey(key))

    def renew(self) -> None:
        """Have plans made anew: somebody observes, or no longer (R2)."""
        self.snapshot = STALE

    def current(self) -> Snapshot:
        """A snapshot that shows the connections at some moment of this call."""
        snapshot = self.snapshot
        if snapshot.built:
            return snapshot
        if snapshot is STALE:
            self.snapshot = Snapshot()
            snapshot = self.snapshot  # ours, or that of another thread which did the same
            if snapshot is STALE:
                snapshot = Snapshot()
        connections = self._read()
        if self.snapshot is not snapshot:
            snapshot = Snapshot()
            self.snapshot = STALE  # R4
        snapshot.show(connections, tuple(who_observes(self.signal())))
        return snapshot

    def plan(self, sender: object) -> Plan:
        """The plan for a send by ``sender`` that starts now."""
        return self.current().plan(sender)

    def hearing(self, sender: object) -> Live:
        """The connections that a send by ``sender`` calls which starts now, with the receivers."""
        plan = self.plan(sender)
        live = self.resolve(plan, sender)
        return overrides.unmuted(self.signal(), live) if overrides.active else live

    def resolve(self, plan: Plan, sender: object) -> Live:
        """The connections of ``plan``, read for ``sender`` in this call, whose receivers live.

        With these, which live from now on. If ``plan`` was overtaken, those of a later one.
        """
        live = plan.resolve()
        if len(live) == len(plan.connections) or self.plan(sender) is plan:
            return live
        return self._at_a_second_moment(lambda: self.plan(sender).resolve())

    def _at_a_second_moment(self, look: Callable[[], Seen]) -> Seen:
        """What ``look()`` finds when it looks again, at what has not died meanwhile (R5)."""
        pinned: list[object] = []
        key = id(pinned)
        self._pins[key] = pinned
        try:
            pinned.append(look())
            return look()
        finally:
            self._pins.pop(key, None)  # one step: an interrupt before it would leave the list there

    def listening(self, sender: object) -> bool:
        """Whether a send by ``sender`` that starts now calls anybody."""
        if not overrides.active:  # quickly: servers ask for each request
            snapshot = self.snapshot
            plan = snapshot.plan(sender) if snapshot.built else self.plan(sender)
            for each in plan.connections:
                if each._options.once is None and each._hold() is not None:
                    return True
        return self._is_heard(sender)

    def _is_heard(self, sender: object) -> bool:
        return bool(unclaimed(self, lambda: [each for each, _ in self.hearing(sender)]))

    @property
    def live(self) -> list[Connection]:
        """All connections whose receivers and senders live, in call order."""
        if self.snapshot.empty:
            return []
        return unclaimed(self, self._living)

    def _living(self) -> list[Connection]:
        """All whose receivers and senders live, also those that are claimed; as ``resolve``."""
        snapshot = self.current()
        live = snapshot.pinned()
        if len(live) < len(snapshot.shown) and self.current() is not snapshot:
            live = self._at_a_second_moment(lambda: self.current().pinned())
        return [each for each, _ in live]

    def _read(self) -> Connections:
        """The connections in call order; removes what was left behind of the dead, or claimed.

        The dead are shown once more all the same: whoever finds one dead looks whether something
        has changed since this was read, and must not miss the occasion.
        """
        connections = list(self._connections.values())
        by_priority = False
        for each in connections:  # as ``_alive`` has it: there may be thousands
            options = each._options
            sender = options.sender
            if each._hold() is None or (sender is not None and sender() is None):
                self.discard(each._key)
            elif options.once is not None:
                options.once.clear()
            if options.priority:
                by_priority = True
        if by_priority:
            # Stable: then by order of connection.
            connections.sort(key=lambda each: -each._options.priority)
        return tuple(connections)


class _Sweeper:
    """The callback of every weak reference of a registry: takes the dead connection out."""

    __slots__ = ("_registry",)

    def __init__(self, registry: "weakref.ref[Registry]") -> None:
        self._registry = registry

    # Bound now: while the interpreter ends, module globals go before the last receivers do.
    def __call__(self, ref: HasKey, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
        registry = self._registry()
        if registry is not None and not _ending():
            registry.discard(ref.key)
