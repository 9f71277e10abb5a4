"""What sends see of the connections, from one change to the next.

What a snapshot shows is decided once (R3 in ``registry``), and the plans of single senders are made
when these first send. The first few go through all connections; these are sorted by their senders
when more looks come: where a few sends are followed by a change, that would take longer.
"""

from tsignals._base.observers import Subscriptions
from tsignals._registry.connection import Connection
from tsignals._registry.plan import UNBUILT, Connections, Index, Plan, plan_of

FEW = 3
"""Looks that go through all connections: together they take as long as to sort these."""
MOST_KEPT = 32
"""Places in plans of single senders that are kept, for each connection."""


class Snapshot(Plan):
    """What sends see from one change to the next; filled in by the first that looks.

    It is the plan of all senders, but for those that have connections of their own.
    """

    __slots__ = (
        "_index",
        "_kept",
        "_looks",
        "_members",
        "_shown",
        "_sorted",
        "built",
        "common",
        "empty",
        "plans",
    )

    def __init__(self) -> None:
        super().__init__()
        self.built = False
        self.empty = False  # it shows nothing
        self.common = False  # it is the plan of all senders: none has connections of its own
        # By id of a connected sender, once the connections are sorted; never None again.
        self.plans: dict[int, Plan] | None = None
        self._sorted = False  # and this is the plan of who has none there
        # What was given to those who came before, by id of the sender.
        self._looks: list[tuple[int, Plan]] = []
        # Decided by the first setdefault (R3): the connections, in call order, and who observes.
        self._shown: dict[int, tuple[Connections, Subscriptions]] = {}
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

    def show(self, connections: Connections, subscriptions: Subscriptions) -> None:
        """Decide what this snapshot shows, unless that is decided already; see ``Plan.fill``."""
        connections, subscriptions = self._shown.setdefault(0, (connections, subscriptions))
        self.empty = not connections
        if not any(each._options.sender_id for each in connections):
            self.fill(connections, subscriptions)
            self.common = True
        self.built = True

    def plan(self, sender: object) -> Plan:
        """The plan for ``sender``; the same object for all sends of this snapshot, or its equal."""
        if self.common:
            return self
        sender_id = id(sender)
        if not self._sorted or (plans := self.plans) is None:
            if len(looks := self._looks) < FEW:
                made = (plan for whose, plan in looks if whose == sender_id and plan.is_of(sender))
                plan = next(made, None) or plan_of(sender, *self._shown[0])
                looks.append((sender_id, plan))
                return plan
            plans = self._sort()
        found = plans.get(sender_id)
        if found is None:
            return self
        if found is UNBUILT:
            # Of the same connections, two plans of one sender differ in nothing but identity.
            found = self._index.plan(sender)
            # Each holds all that hear every sender, too: kept while they take a few times what the
            # connections take. A send beyond that builds its own, as long as what it has to call.
            if self._kept <= MOST_KEPT * (len(self.shown) + 100):
                self._kept += found.count
                plans[sender_id] = found
        # Otherwise the address belonged to a sender that died.
        return found if found.sender() is sender else self

    def _sort(self) -> dict[int, Plan]:
        """Sort the connections by their senders; whoever does so meanwhile comes to the same."""
        connections, subscriptions = self._shown[0]
        self._index = index = Index(connections, subscriptions)
        self.plans = plans = dict.fromkeys(index.own, UNBUILT)
        # After the plans: where a sender has none, this one holds.
        self.fill(index.for_all, subscriptions)
        self._sorted = True
        self._looks = []
        return plans


STALE = Snapshot()
"""Stands for the snapshot that the next send will make; shows nothing."""
