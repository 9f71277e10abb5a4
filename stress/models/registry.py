"""Models of connections: who is heard when calls on one signal meet."""

import contextlib
import weakref
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import Any

from stress.models.explore import Model, Mutant, at_once, replaced, require
from tsignals import Connection
from tsignals._base.observers import Subscriptions, who_observes
from tsignals._calling import waits
from tsignals._calling.tracked_call import Call
from tsignals._calling.tracking import Gate
from tsignals._registry.connection import PLAIN
from tsignals._registry.plan import UNBUILT, Connections, Index, Live, Plan
from tsignals._registry.receiver import connection_key
from tsignals._registry.references import hold_receiver
from tsignals._registry.registry import Registry, _Sweeper
from tsignals._registry.snapshot import FEW, STALE, Snapshot
from tsignals._signal import Signal
from tsignals.observing import Event, Observation, Observer, observe

Heard = list[Any]


def hear(signal: Signal, sender: object, **named: Any) -> None:
    pass


def hear_too(signal: Signal, sender: object, **named: Any) -> None:
    pass


class Thing:
    def hear(self, signal: Signal, sender: object, **named: Any) -> None:
        pass


def heard(signal: Signal, sender: object = None) -> Heard:
    """Which receivers a send calls now."""
    return [receiver for receiver, _ in signal.send(sender)]


def wrong(owner: Any, name: str, by: Any) -> Callable[[], AbstractContextManager[None]]:
    return lambda: replaced(owner, name, by)


# -- connect / connect, one key --


def connect_connect() -> None:
    signal, made = Signal(), list[Connection]()
    at_once(
        lambda: made.append(signal.connect(hear)),
        lambda: made.append(signal.connect(hear)),
    )
    require(made[0] is made[1], "one key gave two connections")
    require(heard(signal) == [hear], "the receiver is not called once")
    require(made[0].disconnect(), "the connection handed out is not the one that stands")
    require(not signal.receivers, "one was left")


def add_looking_first(self: Registry, connection: Connection) -> Connection:
    """Look and then enter, in two steps."""
    found = self._connections.get(connection._key)
    if found is None or not found._alive:
        self._connections[connection._key] = found = connection
    self.snapshot = STALE
    return found


# -- connect / disconnect --


def connect_disconnect() -> None:
    """An old handle takes the old connection out, and never the new one."""
    signal = Signal()
    old = signal.connect(hear)
    removed, made = [], list[Connection]()

    def anew() -> None:
        removed.append(signal.disconnect(hear))
        made.append(signal.connect(hear))

    at_once(lambda: removed.append(old.disconnect()), anew)
    require(sorted(removed) == [False, True], f"the disconnects say {removed}")
    require(made[0] is not old and made[0].connected, "the new connection is gone")
    require(heard(signal) == [hear], "the new connection is not heard")


def discard_looking_first(self: Registry, key: Hashable) -> Connection | None:
    """See whether it is ours and then remove what stands under the key."""
    found = self._connections.get(key)
    removed = None
    if found is not None and found._key is key:
        removed = self._connections.pop(key, None)
    self.snapshot = STALE
    return removed


# -- disconnect / disconnect, with a death --


def disconnect_disconnect_death() -> None:
    """One of two disconnects removed it, unless death came first."""
    signal = Signal()
    things = [Thing()]
    handle = signal.connect(things[0].hear)
    removed = []

    def disconnect_and_let_die() -> None:
        removed.append(signal.disconnect(things[0].hear))
        things.clear()

    at_once(lambda: removed.append(handle.disconnect()), disconnect_and_let_die)
    require(sorted(removed) == [False, True], f"the disconnects say {removed}")


def disconnect_asking_later(self: Connection, wait: Any = False) -> bool:
    """See only afterwards whether it was alive."""
    registry = self._registry()
    removed = registry.discard(self._key) if registry is not None else None
    return removed is not None and self._alive


# -- connect / send --


def connect_send() -> None:
    """Whoever has connected is heard from then on, also while others send."""
    signal = Signal()
    signal.connect(hear)
    mine, other = list[Heard](), list[Heard]()

    def connect() -> None:
        signal.connect(hear_too)
        mine.append(heard(signal))

    at_once(connect, lambda: other.append(heard(signal)))
    require(mine == [[hear, hear_too]], f"after the connect {mine} heard it")
    require(other[0] in ([hear], [hear, hear_too]), f"meanwhile {other} heard it")
    require(heard(signal) == [hear, hear_too], "later sends do not see the change")


def add_announced_first(self: Registry, connection: Connection) -> Connection:
    """Put the new snapshot in place before the change, and not after it."""
    self.snapshot = STALE
    return self._connections.setdefault(connection._key, connection)


# -- disconnect / send --


def disconnect_send() -> None:
    """Whoever has disconnected is heard no more, also while others send."""
    signal = Signal()
    handle = signal.connect(hear)
    signal.connect(hear_too)
    mine, other = list[Heard](), list[Heard]()

    def disconnect() -> None:
        handle.disconnect()
        mine.append(heard(signal))

    at_once(disconnect, lambda: other.append(heard(signal)))
    require(mine == [[hear_too]], f"after the disconnect {mine} heard it")
    require(other[0] in ([hear_too], [hear, hear_too]), f"meanwhile {other} heard it")
    require(heard(signal) == [hear_too], "later sends do not see the change")


def pop_announced_first(self: Registry, key: Hashable) -> Connection | None:
    self.snapshot = STALE
    return self._connections.pop(key, None)


# -- send / send after a change --


def send_send_after_change() -> None:
    """Two sends that both build the plan; each sees what is connected to all and to its sender."""
    signal, sender = Signal(), Thing()
    signal.connect(hear)
    signal.connect(hear_too, sender=sender)
    found = list[Heard]()
    at_once(
        lambda: found.append(heard(signal, sender)),
        lambda: found.append(heard(signal, sender)),
    )
    require(found == [[hear, hear_too]] * 2, f"the sends reached {found}")


Plans = dict[int, Plan]


def show_common_first(
    self: Snapshot, connections: Connections, subscriptions: Subscriptions = ()
) -> None:
    """Let the common plan be found before it is known which senders have their own."""
    self._shown.setdefault(0, (connections, subscriptions))
    sort_common_first(self)
    self.built = True


# -- send / send, the first that sort the connections by senders --


def send_send_sorting() -> None:
    """Two sends after others have looked: who sorts, and who meets that, see what they should."""
    signal, sender = Signal(), Thing()
    signal.connect(hear)
    signal.connect(hear_too, sender=sender)
    require([heard(signal) for _ in range(FEW)] == [[hear]] * FEW, "they do not hear what all do")
    own, common = list[Heard](), list[Heard]()
    at_once(
        lambda: own.append(heard(signal, sender)),
        lambda: common.append(heard(signal)),
    )
    require(own == [[hear, hear_too]], f"the send by the sender reached {own}")
    require(common == [[hear]], f"the other send reached {common}")


def sort_common_first(self: Snapshot) -> Plans:
    """Let the common plan be found before it is known which senders have their own."""
    connections, subscriptions = self._shown[0]
    self._index = Index(connections, subscriptions)
    self.fill(self._index.for_all, subscriptions)
    self.plans = plans = dict.fromkeys(self._index.own, UNBUILT)
    self._sorted = True
    return plans


def sort_unfilled(self: Snapshot) -> Plans:
    """Say that it is done before it is."""
    self._sorted = True
    return sort(self)


sort = Snapshot._sort


# -- send / send, while one builds --


def send_while_another_builds() -> None:
    """A send that meets a snapshot which is just being filled in."""
    signal, sender = Signal(), Thing()
    signal.connect(hear)
    signal.connect(hear_too, sender=sender)
    registry = signal._registry
    # A builder that is interrupted between its two steps.
    registry.snapshot = snapshot = Snapshot()
    connections = registry._read()
    found = list[Heard]()
    at_once(lambda: found.append(heard(signal, sender)), lambda: snapshot.show(connections, ()))
    require(found == [[hear, hear_too]], f"the send reached {found}")


# -- send / send during a change: what one has seen, no later one has not --


def half_connect(signal: Signal) -> None:
    """A connect that is interrupted after its first step, and never goes on."""
    registry = signal._registry
    key = connection_key(hear_too, None, None)
    hold = hold_receiver(hear_too, True, key, registry.on_death)
    registry._connections.setdefault(key, Connection(registry.ref, key, hold, PLAIN))


def send_send_one_snapshot() -> None:
    """The first builder of a snapshot decides what it shows (R3)."""
    signal = Signal()
    signal.connect(hear)
    registry = signal._registry
    # A builder that is interrupted between its two steps, and meanwhile a change is under way.
    registry.snapshot = snapshot = Snapshot()
    connections = registry._read()
    half_connect(signal)
    first, second = list[Heard](), list[Heard]()

    def go_on_and_send() -> None:
        snapshot.show(connections, ())
        seen = list(first)
        second.append(heard(signal))
        if seen:
            require(
                len(seen[0]) <= len(second[0]), f"one send reached {seen[0]}, a later {second[0]}"
            )

    at_once(lambda: first.append(heard(signal)), go_on_and_send)


def show_last(self: Snapshot, connections: Connections, subscriptions: Subscriptions = ()) -> None:
    """Let the last builder decide."""
    self._shown[0] = connections, subscriptions
    self.fill(Index(connections, subscriptions).for_all, subscriptions)
    self.built = True


# -- send / send / observe, in one snapshot --


def send_send_observe() -> None:
    """A send calls all, though an observer comes as another builds what both go by."""
    signal, observer = Signal(), Hearing()
    for receiver in (hear, hear_too):
        signal.connect(receiver, weak=False)
    registry = signal._registry
    # A builder that is interrupted before it looks who observes.
    registry.snapshot = snapshot = Snapshot()
    connections = registry._read()
    found, handles = list[Heard](), list[Observation]()

    def observe_and_go_on() -> None:
        handles.append(observe(observer))
        snapshot.show(connections, who_observes(signal))

    def send_twice() -> None:
        for _ in range(2):
            found.append([])
            with contextlib.suppress(KeyError):  # of a kind of plan for which nothing is compiled
                found[-1] = heard(signal)

    try:
        at_once(send_twice, observe_and_go_on)
    finally:
        for handle in handles:
            handle.close()
    require(found == [[hear, hear_too]] * 2, f"the sends reached {found}")


class Hearing(Observer):
    def ended(self, event: Event) -> None:
        pass


def show_to_all(
    self: Snapshot, connections: Connections, subscriptions: Subscriptions = ()
) -> None:
    """Have each builder tell those whom it has found."""
    connections, _ = self._shown.setdefault(0, (connections, subscriptions))
    self.fill(connections, subscriptions)
    self.built = True


def send_send_other_snapshot() -> None:
    """A builder whose snapshot was replaced leaves none in place that shows less (R4)."""
    signal = Signal()
    signal.connect(hear)
    found = list[Heard]()

    def send_twice() -> None:
        found.append(heard(signal))
        found.append(heard(signal))

    def change() -> None:
        signal.disconnect(hear_too)
        heard(signal)
        half_connect(signal)

    at_once(send_twice, change)
    require(len(found[0]) <= len(found[1]), f"two sends in a connection reached {found}")


def current_silent(self: Registry) -> Snapshot:
    """Use what was read although the snapshot was replaced meanwhile, and leave the other there."""
    snapshot = self.snapshot
    if snapshot.built:
        return snapshot
    if snapshot is STALE:
        snapshot = self.snapshot = Snapshot()
    connections = self._read()
    if self.snapshot is not snapshot:
        snapshot = Snapshot()
    snapshot.show(connections, ())
    return snapshot


# -- receiver death / send --


def receiver_death_send() -> None:
    """A death is a disconnect at that moment: a send misses nothing that came before it."""
    signal = Signal()
    things = [Thing()]
    signal.connect(things[0].hear)
    found = list[Heard]()

    def connect_and_let_die() -> None:
        signal.connect(hear)
        things.clear()

    at_once(connect_and_let_die, lambda: found.append(heard(signal)))
    require(found[0], "a send reached nobody, though at each moment somebody was connected")
    found.clear()
    require(heard(signal) == [hear], "the dead is still heard")


def read_dropping_the_dead(self: Registry) -> Connections:
    """Leave out the dead without looking again for what came before they died."""
    return tuple(connection for connection in list(self._connections.values()) if connection._alive)


# -- receiver death / asking --


def receiver_death_list() -> None:
    """The list of receivers, too, is of one moment."""
    signal = Signal()
    things = [Thing()]
    signal.connect(things[0].hear)
    listed, heard_at_all = list[Any](), list[bool]()

    def connect_and_let_die() -> None:
        signal.connect(hear)
        things.clear()

    def ask() -> None:
        # Behind ``receivers``, which has looked once already when it asks for these.
        listed.append(len(signal._registry._living()))
        heard_at_all.append(signal.has_listeners())

    at_once(connect_and_let_die, ask)
    require(listed[0], "nobody was listed, though at each moment somebody was connected")
    require(heard_at_all[0], "has_listeners() denied them")


# -- receiver death / second look --


def receiver_death_second_look() -> None:
    """A send that looks a second time takes place there, whoever dies while it looks.

    ``hear``, who is disconnected after ``hear_too`` was connected and before the thing died, is
    not heard beside ``hear_too`` alone.
    """
    signal, things = Signal(), [Thing(), Thing()]
    registry = signal._registry

    class Trap:
        """A receiver's weak reference, in the middle of which the collector runs."""

        def __call__(self) -> Any:
            connections = [*registry._connections.values()]
            if any(each._hold() is hear_too for each in connections if each._key != "trap"):
                signal.disconnect(hear)
                things.clear()
            return ignore

    trap = Trap()
    registry.add(Connection(registry.ref, "trap", trap, PLAIN))  # type: ignore[arg-type]
    signal.connect(hear)
    signal.connect(things[1].hear)
    overtaken = registry.plan(None)
    del things[1]
    found = list[Heard]()

    def connect() -> None:
        signal.connect(things[0].hear)
        signal.connect(hear_too)

    def look() -> None:
        found.append([receiver for _, receiver in registry.resolve(overtaken, None)][1:])

    at_once(look, connect)
    require(
        len(found[0]) != 2 or hear_too not in found[0] or hear not in found[0],
        f"a send reached {found}, who were never connected and alive together",
    )


def ignore(**named: Any) -> None:
    pass


def add_pinning_nothing(self: Registry, connection: Connection) -> Connection:
    """Connect as if nobody could be looking."""
    found = self._connections.setdefault(connection._key, connection)
    self.snapshot = STALE
    return found


def resolve_what_is_found(self: Registry, plan: Plan, sender: object) -> Live:
    """Leave out the dead, and look at nothing else."""
    return plan.resolve()


# -- sender death / connect --


def sender_death_connect() -> None:
    """A dead sender's callback, however late, leaves alone who connects to its address."""
    signal = Signal()
    senders, heir = [Thing()], Thing()
    alive = weakref.ref(senders[0])
    found = list[Heard]()

    def connect_to_heir() -> None:
        # Only then can another object be at that address.
        if alive() is None:
            signal.connect(hear, sender=heir)
            found.append(heard(signal, heir))

    with replaced_id({senders[0]: 1000, heir: 1000}):
        signal.connect(hear, sender=senders[0])
        at_once(senders.clear, connect_to_heir)
        if found:
            found.append(heard(signal, heir))
    require(
        all(reached == [hear] for reached in found),
        f"sends of a new sender at the old address reached {found}",
    )


class replaced_id:
    """Have the library take these objects to be at these addresses."""

    def __init__(self, addresses: dict[Any, int]) -> None:
        self._addresses = {id(thing): address for thing, address in addresses.items()}
        addresses.clear()  # they may die

    def __call__(self, thing: object) -> int:
        return self._addresses.get(id(thing), id(thing))

    def __enter__(self) -> None:
        import tsignals._registry.connecting
        import tsignals._registry.plan
        import tsignals._registry.receiver
        import tsignals._registry.registry
        import tsignals._registry.snapshot
        import tsignals._signal

        self._modules = (
            tsignals._registry.connecting,
            tsignals._registry.plan,
            tsignals._registry.receiver,
            tsignals._registry.registry,
            tsignals._registry.snapshot,
            tsignals._signal,
        )
        for module in self._modules:
            module.__dict__["id"] = self

    def __exit__(self, *exception: object) -> None:
        for module in self._modules:
            del module.__dict__["id"]


def sweep_by_key(self: _Sweeper, ref: Any) -> None:
    """Remove whatever stands under the dead one's key."""
    registry = self._registry()
    if registry is not None:
        registry.pop(ref.key)


# -- tracked disconnect / send --


def tracked_disconnect_send() -> None:
    """Once ``disconnect(wait=True)`` has returned, the receiver does not run."""
    signal = Signal(name="tracked")  # without a name, its repr would look for one everywhere
    gone, ran = list[bool](), list[bool]()

    def receiver(signal: Signal, sender: object, **named: Any) -> None:
        ran.append(bool(gone))
        repr(signal)  # long enough for others to come in between
        ran.append(bool(gone))

    connection = signal.connect(receiver, tracked=True)

    def disconnect() -> None:
        connection.disconnect(wait=True)
        gone.append(True)

    at_once(disconnect, lambda: signal.send(None))
    require(True not in ran, f"it ran after disconnect(wait=True): {ran}")


def enter_looking_first(self: Gate, call: Call) -> bool:
    """See that the gate is open and then go in."""
    if self.closed:
        return False
    self.running[call] = None
    return True


def wait_for_nobody(gate: Gate, deadline: float | None, timeout: object) -> None:
    pass


MODELS = (
    Model(
        "connect/connect",
        connect_connect,
        (Mutant("look, then enter", wrong(Registry, "add", add_looking_first)),),
    ),
    Model(
        "connect/disconnect",
        connect_disconnect,
        (Mutant("look, then remove", wrong(Registry, "discard", discard_looking_first)),),
    ),
    Model(
        "disconnect/disconnect/death",
        disconnect_disconnect_death,
        (Mutant("ask afterwards", wrong(Connection, "disconnect", disconnect_asking_later)),),
    ),
    Model(
        "connect/send",
        connect_send,
        (Mutant("announce, then change", wrong(Registry, "add", add_announced_first)),),
    ),
    Model(
        "disconnect/send",
        disconnect_send,
        (Mutant("announce, then change", wrong(Registry, "pop", pop_announced_first)),),
    ),
    Model(
        "send/send after a change",
        send_send_after_change,
        (Mutant("common plan first", wrong(Snapshot, "show", show_common_first)),),
    ),
    Model(
        "send/send that sort",
        send_send_sorting,
        (
            Mutant("common plan first", wrong(Snapshot, "_sort", sort_common_first)),
            Mutant("sorted, then sort", wrong(Snapshot, "_sort", sort_unfilled)),
        ),
    ),
    Model(
        "send/building send",
        send_while_another_builds,
        (Mutant("common plan first", wrong(Snapshot, "show", show_common_first)),),
    ),
    Model(
        "send/send in one snapshot",
        send_send_one_snapshot,
        # Fails uninterrupted: the scenario itself begins with two that were interrupted.
        (Mutant("the last builder wins", wrong(Snapshot, "show", show_last), races=False),),
    ),
    Model(
        "send/send/observe",
        send_send_observe,
        (Mutant("each tells its own", wrong(Snapshot, "show", show_to_all)),),
    ),
    Model(
        "send/send in two snapshots",
        send_send_other_snapshot,
        (Mutant("say nothing of what was seen", wrong(Registry, "current", current_silent)),),
    ),
    Model(
        "receiver death/send",
        receiver_death_send,
        (
            Mutant("drop the dead", wrong(Registry, "_read", read_dropping_the_dead)),
            Mutant("look once", wrong(Registry, "resolve", resolve_what_is_found)),
        ),
    ),
    Model(
        "receiver death/receivers",
        receiver_death_list,
        (Mutant("drop the dead", wrong(Registry, "_read", read_dropping_the_dead)),),
    ),
    Model(
        "receiver death/second look",
        receiver_death_second_look,
        (Mutant("pin nothing", wrong(Registry, "add", add_pinning_nothing)),),
    ),
    Model(
        "sender death/connect",
        sender_death_connect,
        (Mutant("sweep by key", wrong(_Sweeper, "__call__", sweep_by_key)),),
    ),
    Model(
        "tracked disconnect/send",
        tracked_disconnect_send,
        (
            Mutant("look, then enter", wrong(Gate, "enter", enter_looking_first)),
            Mutant("wait for nobody", wrong(waits, "wait_at", wait_for_nobody)),
        ),
    ),
)
