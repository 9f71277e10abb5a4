"""What one send will call: the connections that hear one sender, in call order, fixed."""

from types import FunctionType

from tsignals._base.observers import Subscriptions
from tsignals._base.retry import Retry
from tsignals._calling.compiled import (
    BACKGROUND,
    GENERAL,
    BackgroundCaller,
    Caller,
    call_first,
    call_first_robust,
    call_other,
    call_other_robust,
)
from tsignals._calling.outcomes import Outcomes
from tsignals._calling.sends import send_general, send_robust_general
from tsignals._calling.types import Pairs, Receiver
from tsignals._registry.connection import PLAIN, Connection
from tsignals._registry.references import Hold, KeyedRef, SenderHold, Strong, WeakMethod

Connections = tuple[Connection, ...]
Live = list[tuple[Connection, Receiver]]
"""Connections with their receivers, which live as long as these are held."""

NOBODY: SenderHold = Strong(object())


class Plan:
    """The connections that hear one sender, arranged for being called.

    Until it is filled in, its calls take the general way, which does without it.
    """

    __slots__ = (
        "background",
        "call",
        "call_robust",
        "connections",
        "count",
        "first",
        "kind",
        "other",
        "other_robust",
        "parts",
        "retries",
        "sender",
        "simple",
        "subscriptions",
    )

    def __init__(self, sender: SenderHold = NOBODY) -> None:
        self.sender = sender  # calling it gives the sender whose plan this is
        self.connections: Connections = ()
        # The names of the values, the one name if there is but one, and what calls one receiver in
        # a worker with these.
        self.background: tuple[list[str] | None, str | None, BackgroundCaller]
        self.background = (None, None, BACKGROUND.any_names)
        self.call: Caller[Pairs] | None = send_general  # None: there is nobody to call
        self.call_robust: Caller[Outcomes] | None = send_robust_general

    def fill(self, connections: Connections, subscriptions: Subscriptions) -> None:
        """Have these connections called from now on; ``subscriptions``: who observes that.

        Where they hear what becomes of receivers, all goes the general way.
        """
        self.connections = connections
        self.count = len(connections)
        agreed = [each._options for each in connections if each._options is not PLAIN]
        # Whether a worker has no options to keep, and calls each receiver as it is.
        self.simple = not subscriptions and all(
            not (options.gate or options.on_loop or options.wrapped or options.once)
            and options.ordered is False
            for options in agreed
        )
        # By place; empty: none. In one step: others may use this plan already.
        any_retry = any(options.retry is not None for options in agreed)
        retries = tuple(each._options.retry for each in connections) if any_retry else ()
        self.retries: tuple[Retry | None, ...] = retries
        self.first = connections[0]._hold if connections else None
        self.subscriptions = subscriptions
        general = (
            any(each.follows for each in subscriptions)
            or (subscriptions and not connections)
            # Or there is something to enter, to claim or to await.
            or any(
                options.gate is not None or options.is_async or options.once is not None
                for options in agreed
            )
        )
        self.kind, self.parts = (GENERAL, ()) if general else _arrange(connections)
        self.other: Caller[Pairs] = call_other
        self.other_robust: Caller[Outcomes] = call_other_robust
        # These two last: they use the others. (A plan of the general kind goes on as it began.)
        if self.kind != GENERAL:
            self.call = call_first if connections else None
            self.call_robust = call_first_robust if connections else None

    def is_of(self, sender: object) -> bool:
        """Whether this was made for ``sender``, and not for one that died and had its address.

        For who has no connection of its own, that makes no difference.
        """
        return self.sender is NOBODY or self.sender() is sender

    def resolve(self) -> Live:
        """The connections whose receivers live, with these, which do so from now on."""
        return [(each, r) for each in self.connections if (r := each._hold()) is not None]


UNBUILT = Plan()
"""Stands where the plan of a sender is still to be built: never the right sender's."""


def _arrange(connections: Connections) -> tuple[str, tuple[object, ...]]:
    """Which kind these are for ``compiled``, and what a function of that kind finds them in."""
    holds: tuple[Hold, ...] = tuple(each._hold for each in connections)
    held = tuple([hold.target for hold in holds if type(hold) is Strong])
    if len(held) == len(holds):
        return "held" if len(held) == 1 else "all held", held
    first = holds[0]
    if not isinstance(first, WeakMethod):
        return "one" if len(holds) == 1 else "many", holds
    if len(holds) == 1:
        return "method", holds
    if type(first.function()) is not FunctionType:  # which binds itself to the objects
        return "many", holds
    objects: tuple[KeyedRef[object], ...] = tuple(
        hold.instance
        for hold in holds
        if isinstance(hold, WeakMethod) and hold.function is first.function
    )
    return ("siblings", objects) if len(objects) == len(holds) else ("many", holds)


def plan_of(sender: object, shown: Connections, subscriptions: Subscriptions) -> Plan:
    """The plan of one sender, for which all connections are gone through."""
    sender_id, hold = id(sender), NOBODY
    connections = list[Connection]()
    for each in shown:
        options = each._options
        if not options.sender_id:
            connections.append(each)
        elif options.sender_id == sender_id and each.sender is sender:
            connections.append(each)
            hold = options.sender or NOBODY
    plan = Plan(hold)
    plan.fill(tuple(connections), subscriptions)
    return plan


class Index:
    """The connections by the sender that they hear, each with its place in the call order."""

    __slots__ = ("_for_all", "_subscriptions", "for_all", "own")

    def __init__(self, shown: Connections, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self._for_all: list[tuple[int, Connection]] = []
        self.own: dict[int, list[tuple[int, Connection]]] = {}  # by id of the sender
        for place, each in enumerate(shown):
            sender_id = each._options.sender_id
            if not sender_id:
                self._for_all.append((place, each))
            elif sender_id in self.own:
                self.own[sender_id].append((place, each))
            else:
                self.own[sender_id] = [(place, each)]
        self.for_all = tuple(each for _, each in self._for_all)

    def plan(self, sender: object) -> Plan:
        """The plan of a connected sender, of what it hears and what hears all."""
        # By its object, too: another may have died at this address.
        own = [(place, each) for place, each in self.own[id(sender)] if each.sender is sender]
        plan = Plan(own[0][1]._options.sender or NOBODY) if own else Plan()
        plan.fill(tuple(each for _, each in sorted(self._for_all + own)), self._subscriptions)
        return plan
