"""What one send will call: the connections that hear one sender, in call order, fixed."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

from tsignals._call import (
    GENERAL,
    call_first,
    call_first_robust,
    call_other,
    call_other_robust,
)
from tsignals._connection import Connection
from tsignals._each import Live, Pairs, send_anyhow, send_robust_anyhow
from tsignals._outcomes import Outcomes
from tsignals._receiver import Hold, Strong, Tether, WeakMethod

Rows = tuple[Connection, ...]

NOBODY = Strong(object())


class Plan:
    """The connections that hear one sender, arranged for being called.

    Until it is filled in, its calls take the general way, which does without it.
    """

    __slots__ = (
        "background",
        "call",
        "call_robust",
        "count",
        "first",
        "kind",
        "other",
        "other_robust",
        "parts",
        "rows",
        "sender",
        "simple",
    )

    def __init__(self, sender: Tether | Strong = NOBODY) -> None:
        self.sender = sender  # calling it gives the sender whose plan this is
        self.rows: Rows = ()
        # The names of the values, the one name if there is but one, and what calls one receiver in
        # a worker with these.
        self.background: tuple[list[str] | None, Any, Any] = (None, None, None)
        self.call: Callable[..., Pairs] | None = send_anyhow  # None: there is nobody to call
        self.call_robust: Callable[..., Outcomes] | None = send_robust_anyhow

    def fill(self, rows: Rows) -> None:
        """Have these connections called from now on."""
        self.rows = rows
        self.count = len(rows)
        # Whether a worker has no terms to keep, and calls each receiver as it is.
        self.simple = all(
            not (terms.gate or terms.ordered or terms.on_loop or terms.wrapped)
            for terms in (row._terms for row in rows)
        )
        self.first = rows[0]._hold if rows else None
        self.kind, self.parts = _arrange(rows)
        self.other: Callable[..., Pairs] = call_other
        self.other_robust: Callable[..., Outcomes] = call_other_robust
        # These two last: they use the others. (A plan of the general kind goes on as it began.)
        if self.kind != GENERAL:
            self.call = call_first if rows else None
            self.call_robust = call_first_robust if rows else None

    def resolve(self) -> Live:
        """The connections whose receivers live, with these, which do so from now on."""
        return [(row, r) for row in self.rows if (r := row._hold()) is not None]


UNBUILT = Plan()
"""Stands where the plan of a sender is still to be built: never the right sender's."""


def _arrange(rows: Rows) -> tuple[str, tuple[Any, ...]]:
    """Which of the kinds of ``_call`` these are, and what a function of that kind finds them in."""
    if not all(row._terms.gate is None and not row._terms.is_async for row in rows):
        return GENERAL, ()  # something to enter or to await
    holds: tuple[Hold, ...] = tuple(row._hold for row in rows)
    held = tuple(hold.target for hold in holds if isinstance(hold, Strong))
    if len(held) == len(holds):
        return "held" if len(held) == 1 else "all held", held
    first = holds[0]
    if not isinstance(first, WeakMethod):
        return "one" if len(holds) == 1 else "many", holds
    if len(holds) == 1:
        return "method", holds
    if type(first.function()) is not FunctionType:  # which binds itself to the objects
        return "many", holds
    objects = tuple(
        hold.object
        for hold in holds
        if isinstance(hold, WeakMethod) and hold.function is first.function
    )
    return ("siblings", objects) if len(objects) == len(holds) else ("many", holds)


class Index:
    """The connections by the sender that they hear, each with its place in the call order."""

    __slots__ = ("_general", "general", "own")

    def __init__(self, shown: Rows) -> None:
        self._general: list[tuple[int, Connection]] = []
        self.own: dict[int, list[tuple[int, Connection]]] = {}  # by id of the sender
        for place, row in enumerate(shown):
            sender_id = row._terms.sender_id
            of = self.own.setdefault(sender_id, []) if sender_id else self._general
            of.append((place, row))
        self.general = tuple(row for _, row in self._general)

    def plan(self, sender: object) -> Plan:
        """The plan of a connected sender, of what it hears and what hears all."""
        # By its object, too: another may have died at this address.
        own = [(place, row) for place, row in self.own[id(sender)] if row.sender is sender]
        plan = Plan(own[0][1]._terms.sender or NOBODY) if own else Plan()
        plan.fill(tuple(row for _, row in sorted(self._general + own)))
        return plan
