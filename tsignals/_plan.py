"""What one send will call: the connections that hear one sender, in call order, fixed."""

from typing import TYPE_CHECKING, Any

from tsignals._call import CALLERS, CALLERS_ROBUST, GENERAL, Callers
from tsignals._receiver import Hold, Strong, Tether, WeakMethod

if TYPE_CHECKING:
    from tsignals._connection import Connection


class Plan:
    """The connections that hear one sender, arranged for being called."""

    __slots__ = ("callers", "callers_robust", "count", "first", "holds", "pairs", "rows", "sender")

    def __init__(self, rows: "tuple[Connection, ...]", sender: "Tether | Strong") -> None:
        self.rows = rows
        self.sender = sender  # calling it gives the sender whose plan this is
        self.count = len(rows)
        self.holds: tuple[Hold, ...] = tuple(row.hold for row in rows)
        self.first = self.holds[0] if self.holds else None
        self.pairs: tuple[Any, ...] = ()
        kind = GENERAL
        if all(row.terms.gate is None and not row.terms.is_async for row in rows):
            # Nothing to enter and nothing to await: most plans are so.
            methods = [hold for hold in self.holds if isinstance(hold, WeakMethod)]
            if len(methods) == self.count:
                kind = "methods"
                self.pairs = tuple((method.object, method.function) for method in methods)
            else:
                kind = "one" if self.count == 1 else "many"
        self.callers: Callers = CALLERS[kind]
        self.callers_robust: Callers = CALLERS_ROBUST[kind]


NOBODY = Strong(object())
UNBUILT = Plan((), NOBODY)
"""Stands where a plan is still to be built: never the right sender's, never empty."""
UNBUILT.callers, UNBUILT.callers_robust = CALLERS[GENERAL], CALLERS_ROBUST[GENERAL]
UNBUILT.count = 1


def build_plan(shown: "tuple[Connection, ...]", sender_id: int) -> Plan:
    """The plan of a connected sender by its id, or with 0 that of every other sender."""
    sender: Tether | Strong = NOBODY
    rows = []
    for row in shown:
        of = row.terms.sender_id
        if not of:
            rows.append(row)
        elif of == sender_id and row.terms.sender is not None:
            rows.append(row)
            sender = row.terms.sender
    return Plan(tuple(rows), sender)
