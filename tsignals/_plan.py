"""What one send will call: the connections that hear one sender, in call order, fixed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tsignals._call import (
    GENERAL,
    Caller,
    call_first,
    call_first_robust,
    call_other,
    call_other_robust,
)
from tsignals._each import Pairs, send_anyhow, send_robust_anyhow
from tsignals._outcomes import Outcomes
from tsignals._receiver import Hold, Strong, Tether, WeakMethod

if TYPE_CHECKING:
    from tsignals._connection import Connection

Rows = tuple["Connection", ...]

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
        # What calls one receiver in a worker, and the names of the values that it is for.
        self.background: tuple[list[str], Caller] | tuple[None, None] = (None, None)
        self.call: Callable[..., Pairs] | None = send_anyhow  # None: there is nobody to call
        self.call_robust: Callable[..., Outcomes] | None = send_robust_anyhow

    def fill(self, rows: Rows) -> None:
        """Have these connections called from now on."""
        self.rows = rows
        self.count = len(rows)
        # Whether a worker has no terms to keep, and calls each receiver as it is.
        self.simple = all(
            not (terms.gate or terms.ordered or terms.on_loop or terms.wrapped)
            for terms in (row.terms for row in rows)
        )
        self.first = rows[0].hold if rows else None
        self.kind, self.parts = _arrange(rows)
        self.other: Callable[..., Pairs] = call_other
        self.other_robust: Callable[..., Outcomes] = call_other_robust
        # These two last: they use the others.
        self.call = call_first if rows else None
        self.call_robust = call_first_robust if rows else None


UNBUILT = Plan()
"""Stands where the plan of a sender is still to be built: never the right sender's."""


def _arrange(rows: Rows) -> tuple[str, tuple[Any, ...]]:
    """Which of the kinds of ``_call`` these are, and what a function of that kind finds them in."""
    if not all(row.terms.gate is None and not row.terms.is_async for row in rows):
        return GENERAL, ()  # something to enter or to await
    holds: tuple[Hold, ...] = tuple(row.hold for row in rows)
    held = tuple(hold.target for hold in holds if isinstance(hold, Strong))
    if len(held) == len(holds):
        return "held" if len(held) == 1 else "all held", held
    first = holds[0]
    if not isinstance(first, WeakMethod):
        return "one" if len(holds) == 1 else "many", holds
    if len(holds) == 1:
        return "method", holds
    objects = tuple(
        hold.object
        for hold in holds
        if isinstance(hold, WeakMethod) and hold.function is first.function
    )
    return ("siblings", objects) if len(objects) == len(holds) else ("many", holds)


def general_rows(shown: Rows) -> Rows:
    """The connections that hear every sender."""
    return tuple(row for row in shown if not row.terms.sender_id)


def build_plan(shown: Rows, sender_id: int) -> Plan:
    """The plan of a connected sender, by its id."""
    sender: Tether | Strong = NOBODY
    rows = []
    for row in shown:
        of = row.terms.sender_id
        if not of:
            rows.append(row)
        elif of == sender_id and row.terms.sender is not None:
            rows.append(row)
            sender = row.terms.sender
    plan = Plan(sender)
    plan.fill(tuple(rows))
    return plan
