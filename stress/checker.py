"""Is there one order of these calls that explains every result? (Wing and Gong, 1993)

A history is what several threads did to one signal: calls with the moments at which they began
and returned, and what they answered. It is linearizable when the calls can be put into a single
order that agrees with real time (a call that returned before another began comes first) and in
which a plain, single-threaded signal would have given the very same answers.

A send that meets a receiver to be called once has more than one moment: that at which it finds who
is connected, one for each such receiver that it claims, and its end, by when all that it has left
out must have been claimed or disconnected by others. So it is taken apart (``in_moments``).

The search puts one call after another into that order: any call that began before the first
unplaced one returned may be next. Calls placed and state reached are remembered, so that two ways
to the same point are followed once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

# What names a connection: the uid or the receiver, and the sender (None: all senders).
Key = tuple[str, str | None]


REFUSED = "refused"
"""What a connect answers whose key stands with another priority."""


@dataclass(frozen=True, slots=True)
class Connect:
    key: Key
    receiver: str
    priority: int = 0
    once: bool = False  # then no other connection has this receiver


@dataclass(frozen=True, slots=True)
class DisconnectKey:
    key: Key


@dataclass(frozen=True, slots=True)
class DisconnectHandle:
    connection: int


@dataclass(frozen=True, slots=True)
class Connected:
    connection: int


@dataclass(frozen=True, slots=True)
class HasListeners:
    sender: str | None


@dataclass(frozen=True, slots=True)
class ListReceivers:
    pass


@dataclass(frozen=True, slots=True)
class Send:
    sender: str | None
    verb: str = "send"
    number: int | None = None  # where it was taken apart


@dataclass(frozen=True, slots=True)
class Claims:
    """A send is the one that calls this receiver, which is disconnected then."""

    number: int
    receiver: str


@dataclass(frozen=True, slots=True)
class SendEnds:
    number: int


@dataclass(frozen=True, slots=True)
class Dies:
    """The last reference to a receiver or sender was dropped.

    It "returns" when its weak reference was first seen dead.
    """

    name: str


Action: TypeAlias = (
    Connect
    | DisconnectKey
    | DisconnectHandle
    | Connected
    | HasListeners
    | ListReceivers
    | Send
    | Claims
    | SendEnds
    | Dies
)
READS = (Connected, HasListeners, ListReceivers, Send)


@dataclass(frozen=True, slots=True)
class Call:
    """One finished call: what it asked, what it answered, and when (any monotonic clock)."""

    action: Action
    answer: object
    began: int
    returned: int
    thread: str = ""


class Row(NamedTuple):
    """A live connection of the single-threaded signal."""

    connection: int
    key: Key
    receiver: str
    priority: int
    once: bool = False


class Owed(NamedTuple):
    """What a send that has not ended must still see of a receiver that is called once."""

    number: int
    receiver: str
    called: bool  # by it; else it is to be gone


class State(NamedTuple):
    """The single-threaded signal: its live rows in order of connection, and every one ever made.

    And what sends that have not ended owe.
    """

    rows: tuple[Row, ...] = ()
    made: frozenset[object] = frozenset()
    owed: frozenset[Owed] = frozenset()


def in_call_order(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -row.priority)


def step(state: State, call: Call) -> State | None:
    """The signal's state after ``call``; ``None`` when it cannot have answered so in ``state``."""
    action, answer = call.action, call.answer
    rows, made, owed = state
    match action:
        case Connect(key, receiver, priority, once):
            for row in rows:
                if row.key == key:
                    same = (row.priority, row.once) == (priority, once)
                    return state if answer == (row.connection if same else REFUSED) else None
            if answer in made or not isinstance(answer, int):
                return None
            return State((*rows, Row(answer, key, receiver, priority, once)), made | {answer}, owed)
        case DisconnectKey(key):
            left = tuple(row for row in rows if row.key != key)
            return State(left, made, owed) if answer is (len(left) < len(rows)) else None
        case DisconnectHandle(connection):
            left = tuple(row for row in rows if row.connection != connection)
            return State(left, made, owed) if answer is (len(left) < len(rows)) else None
        case Connected(connection):
            return state if answer is any(row.connection == connection for row in rows) else None
        case HasListeners(sender):
            return state if answer is any(row.key[1] in (None, sender) for row in rows) else None
        case ListReceivers():
            listed = tuple(row.connection for row in in_call_order(rows))
            return state if answer == listed else None
        case Send(sender, _, number):
            reached = in_call_order(row for row in rows if row.key[1] in (None, sender))
            if number is None:
                return state if answer == tuple(row.receiver for row in reached) else None
            assert isinstance(answer, tuple)
            called = tuple(r.receiver for r in reached if not r.once or r.receiver in answer)
            owes = {Owed(number, r.receiver, r.receiver in answer) for r in reached if r.once}
            owes.add(Owed(number, "", False))  # its end
            return State(rows, made, owed | owes) if answer == called else None
        case Claims(number, receiver):
            pair = Owed(number, receiver, True)
            left = tuple(row for row in rows if not (row.once and row.receiver == receiver))
            right = pair in owed and len(left) < len(rows)
            return State(left, made, owed - {pair}) if right else None
        case SendEnds(number):
            its = {each for each in owed if each.number == number}
            there = {row.receiver for row in rows}
            right = bool(its) and not any(each.called or each.receiver in there for each in its)
            return State(rows, made, owed - its) if right else None
        case Dies(name):
            left = tuple(row for row in rows if name not in (row.receiver, row.key[1]))
            return State(left, made, owed)


def in_moments(history: Iterable[Call], whole: dict[int, Call] | None = None) -> list[Call]:
    """The same, with each send taken apart that may have met a receiver to be called once.

    whole: gets the sends, by the ids of their first moments.
    """
    calls = list(history)
    connects = [
        (call.action.receiver, call.began)
        for call in calls
        if isinstance(call.action, Connect) and call.action.once
    ]
    moments: list[Call] = []
    for number, call in enumerate(calls):
        action, answer = call.action, call.answer
        met = [receiver for receiver, began in connects if began <= call.returned]
        if not isinstance(action, Send) or not isinstance(answer, tuple) or not met:
            moments.append(call)
            continue
        moments.append(replace(call, action=replace(action, number=number)))
        if whole is not None:
            whole[id(moments[-1])] = call
        for receiver in answer:
            if receiver in met:
                moments.append(replace(call, action=Claims(number, receiver), answer=True))
        moments.append(replace(call, action=SendEnds(number), answer=None))
    return moments


def explain(history: Iterable[Call]) -> list[Call] | None:
    """An order that explains this history of one signal, ``None`` when there is none.

    The signal had no connections when the history began.
    """
    whole: dict[int, Call] = {}  # what was taken apart, by the ids of its first moments
    calls = sorted(in_moments(history, whole), key=lambda call: call.began)
    everything = (1 << len(calls)) - 1
    seen: set[tuple[int, State]] = set()
    # Depth first; each point knows the calls placed so far, as bits and as a linked list.
    points: list[tuple[int, State, _Placed]] = [(0, State(), None)]
    while points:
        placed, state, order = points.pop()
        if placed == everything:
            return [whole.get(id(call), call) for call in _in_order(order) if _is_call(call)]
        nexts = [
            (placed | bit, after, call)
            for bit, call in _may_be_next(calls, placed)
            if (after := step(state, call)) is not None
        ]
        # What can end may end here, and concerns nobody else.
        ends = [each for each in nexts if isinstance(each[2].action, SendEnds)]
        for then, after, call in ends[:1] or nexts:
            if (then, after) not in seen:
                seen.add((then, after))
                points.append((then, after, (order, call)))
    return None


def _is_call(moment: Call) -> bool:
    return not isinstance(moment.action, Claims | SendEnds)


# The last call placed and, before it, the others.
_Placed: TypeAlias = "tuple[_Placed, Call] | None"


def _in_order(order: _Placed) -> list[Call]:
    calls = []
    while order is not None:
        order, call = order
        calls.append(call)
    return calls[::-1]


def _may_be_next(calls: list[Call], placed: int) -> list[tuple[int, Call]]:
    """Calls not yet placed that began before the first of them returned, with their bits.

    Equal moments count as overlapping. The caller tries the last one first: calls in the order
    of their return explain most histories.
    """
    left = [(1 << n, call) for n, call in enumerate(calls) if not placed >> n & 1]
    horizon = min(call.returned for _, call in left)
    ready = [(bit, call) for bit, call in left if call.began <= horizon]
    return sorted(ready, key=lambda item: -item[1].returned)


def core(history: Iterable[Call]) -> list[Call]:
    """What is left of an inexplicable history without the reads that do not matter.

    Taking a read (or a disconnect that found nothing) out of a linearizable history leaves it
    linearizable, so what remains inexplicable is still evidence; changes must stay, and so
    must a send that has called a receiver which is called once.
    """
    calls = sorted(history, key=lambda call: call.began)
    changed = {moment.began for moment in in_moments(calls) if isinstance(moment.action, Claims)}
    for call in [call for call in calls if call.answer is False or isinstance(call.action, READS)]:
        if call.began in changed:
            continue
        shorter = [other for other in calls if other is not call]
        if explain(shorter) is None:
            calls = shorter
    return calls


def table(history: Iterable[Call]) -> str:
    """The history for a human: one call a line, times in microseconds from the first."""
    calls = sorted(history, key=lambda call: call.began)
    zero = calls[0].began if calls else 0
    return "\n".join(
        f"{(call.began - zero) / 1000:10.1f} {(call.returned - zero) / 1000:10.1f}"
        f"  {call.thread:<10} {call.action} -> {call.answer!r}"
        for call in calls
    )
