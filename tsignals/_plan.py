"""What one send will call: the connections that hear one sender, in call order, fixed."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tsignals._call import GENERAL, call_first, call_first_robust
from tsignals._each import Pairs, send_anyhow, send_robust_anyhow
from tsignals._outcomes import Outcomes
from tsignals._receiver import Hold, Strong, Tether, WeakMethod

if TYPE_CHECKING:
    from tsignals._connection import Connection


class Plan:
    """The connections that hear one sender, arranged for being called."""

    __slots__ = (
        "call",
        "call_robust",
        "count",
        "first",
        "holds",
        "kind",
        "objects",
        "rows",
        "sender",
        "simple",
    )

    def __init__(self, rows: "tuple[Connection, ...]", sender: "Tether | Strong") -> None:
        self.rows = rows
        self.sender = sender  # calling it gives the sender whose plan this is
        self.count = len(rows)
        self.holds: tuple[Hold, ...] = tuple(row.hold for row in rows)
        self.first = self.holds[0] if self.holds else None
        self.objects: tuple[Tether, ...] = ()
        self.kind = self._kind()
        # Whether its deliveries have no terms to keep in a pool.
        self.simple = all(
            not (row.terms.gate or row.terms.ordered or row.terms.on_loop) for row in rows
        )
        self.call: Callable[..., Pairs] = call_first
        self.call_robust: Callable[..., Outcomes] = call_first_robust

    def _kind(self) -> str:
        """Which of ``_call.KINDS`` this is."""
        if not all(row.terms.gate is None and not row.terms.is_async for row in self.rows):
            return GENERAL  # something to enter or to await
        first = self.first
        if not isinstance(first, WeakMethod):
            return "one" if self.count == 1 else "many"
        if self.count == 1:
            return "method"
        self.objects = tuple(
            hold.object
            for hold in self.holds
            if isinstance(hold, WeakMethod) and hold.function is first.function
        )
        return "siblings" if len(self.objects) == self.count else "many"


NOBODY = Strong(object())
UNBUILT = Plan((), NOBODY)
"""Stands where a plan is still to be built: never the right sender's, never empty."""
UNBUILT.count = 1
UNBUILT.call = send_anyhow
UNBUILT.call_robust = send_robust_anyhow


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
