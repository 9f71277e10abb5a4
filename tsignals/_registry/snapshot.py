"""What sends see of the connections, from one change to the next.

What a snapshot shows is decided once (R3 in ``registry``), and the plans of single senders are made
when these first send.
"""

from tsignals._base.observers import Hearers
from tsignals._registry.connection import Connection
from tsignals._registry.plan import UNBUILT, Connections, Index, Plan

MOST_KEPT = 32
"""Places in plans of single senders that are kept, for each connection."""


class Snapshot(Plan):
    """What sends see from one change to the next; filled in by the first that looks.

    It is the plan of all senders, but for those that have connections of their own.
    """

    __slots__ = ("_index", "_kept", "_members", "_shown", "built", "empty", "plans")

    def __init__(self) -> None:
        super().__init__()
        self.built = False
        self.empty = False  # it shows nothing
        self.plans: dict[int, Plan] | None = None  # by id of a connected sender; None: no such
        # Decided by the first setdefault (R3): the connections, in call order, and who observes.
        self._shown: dict[int, tuple[Connections, Hearers]] = {}
        self._members: set[int] = set()  # the ids of the connections, once somebody has asked
        self._kept = 0  # how many connections there are in ``plans``; need not be exact

    @property
    def shown(self) -> Connections:
        """The connections, in call order."""
        return self._shown[0][0]

    def shows(self, connection: Connection) -> bool:
        """Whether ``connection`` is among them; costs nothing but for the first that asks."""
        if not self._members:
            self._members = {id(each) for each in self.shown}
        return id(connection) in self._members

    def pinned(self) -> "list[tuple[Connection, object]]":
        """The connections whose receivers and senders live, with these, which do so from now on."""
        return [(each, pin) for each in self.shown if (pin := each._pin()) is not None]

    def show(self, connections: Connections, hearers: Hearers = ()) -> None:
        """Decide what this snapshot shows, unless that is decided already; see ``Plan.fill``."""
        connections, hearers = self._shown.setdefault(0, (connections, hearers))
        self.empty = not connections
        if any(each._options.sender_id for each in connections):
            self._index = index = Index(connections, hearers)
            self.plans = dict.fromkeys(index.own, UNBUILT)
            connections = index.for_all
        # After the plans: where a sender has none, this one holds.
        self.fill(connections, hearers)
        self.built = True

    def plan(self, sender: object) -> Plan:
        """The plan for ``sender``; the same object for all sends of this snapshot, or its equal."""
        plans = self.plans
        sender_id = id(sender)
        plan = None if plans is None else plans.get(sender_id)
        if plans is None or plan is None:
            return self
        if plan is UNBUILT:
            # Of the same connections, two plans of one sender differ in nothing but identity.
            plan = self._index.plan(sender)
            # Each holds all that hear every sender, too: kept while they take a few times what the
            # connections take. A send beyond that builds its own, as long as what it has to call.
            if self._kept <= MOST_KEPT * (len(self.shown) + 100):
                self._kept += plan.count
                plans[sender_id] = plan
        # Otherwise the address belonged to a sender that died.
        return plan if plan.sender() is sender else self


STALE = Snapshot()
"""Stands for the snapshot that the next send will make; shows nothing."""
