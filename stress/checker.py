"""Is there one order of these calls that explains every result? (Wing and Gong, 1993)

A history is what several threads did to one signal: calls with the moments at which they began
and returned, and what they answered. It is linearizable when the calls can be put into a single
order that agrees with real time (a call that returned before another began comes first) and in
which a plain, single-threaded signal would have given the very same answers.

The search puts one call after another into that order: any call that began before the first
unplaced one returned may be next. Calls placed and state reached are remembered, so that two ways
to the same point are followed once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
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


class State(NamedTuple):
    """The single-threaded signal: its live rows in order of connection, and every one ever made."""

    rows: tuple[Row, ...] = ()
    made: frozenset[object] = frozenset()


def in_call_order(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -row.priority)


def step(state: State, call: Call) -> State | None:
    """The signal's state after ``call``; ``None`` when it cannot have answered so in ``state``."""
    action, answer = call.action, call.answer
    rows, made = state
    match action:
        case Connect(key, receiver, priority):
            for row in rows:
                if row.key == key:
                    expected = row.connection if row.priority == priority else REFUSED
                    return state if answer == expected else None
            if answer in made or not isinstance(answer, int):
                return None
            return State((*rows, Row(answer, key, receiver, priority)), made | {answer})
        case DisconnectKey(key):
            left = tuple(row for row in rows if row.key != key)
            return State(left, made) if answer is (len(left) < len(rows)) else None
        case DisconnectHandle(connection):
            left = tuple(row for row in rows if row.connection != connection)
            return State(left, made) if answer is (len(left) < len(rows)) else None
        case Connected(connection):
            return state if answer is any(row.connection == connection for row in rows) else None
        case HasListeners(sender):
            return state if answer is any(row.key[1] in (None, sender) for row in rows) else None
        case ListReceivers():
            listed = tuple(row.connection for row in in_call_order(rows))
            return state if answer == listed else None
        case Send(sender):
            reached = (row for row in rows if row.key[1] in (None, sender))
            called = tuple(row.receiver for row in in_call_order(reached))
            return state if answer == called else None
        case Dies(name):
            left = tuple(row for row in rows if name not in (row.receiver, row.key[1]))
            return State(left, made)


def explain(history: Iterable[Call]) -> list[Call] | None:
    """An order that explains this history of one signal, ``None`` when there is none.

    The signal had no connections when the history began.
    """
    calls = sorted(history, key=lambda call: call.began)
    everything = (1 << len(calls)) - 1
    seen: set[tuple[int, State]] = set()
    # Depth first; each point knows the calls placed so far, as bits and as a linked list.
    points: list[tuple[int, State, _Placed]] = [(0, State(), None)]
    while points:
        placed, state, order = points.pop()
        if placed == everything:
            return _in_order(order)
        for bit, call in _may_be_next(calls, placed):
            after = step(state, call)
            if after is not None and (placed | bit, after) not in seen:
                seen.add((placed | bit, after))
                points.append((placed | bit, after, (order, call)))
    return None


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
    linearizable, so what remains inexplicable is still evidence; changes must stay.
    """
    calls = sorted(history, key=lambda call: call.began)
    for call in [call for call in calls if call.answer is False or isinstance(call.action, READS)]:
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
