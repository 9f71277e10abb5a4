"""What one send will call, and calling it. No lock, no thread.

A plan is fixed: the connections that hear one sender, in call order. Every receiver is resolved
before the first is called, as Django does, and stays held until the send has ended.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tsignals._gate import Call
from tsignals._outcomes import Outcomes
from tsignals._receiver import Receiver, Strong, Tether

if TYPE_CHECKING:
    from tsignals._connection import Connection
    from tsignals._registry import Registry
    from tsignals._signal import Signal

Named = dict[str, Any]
Pairs = list[tuple[Receiver, Any]]
Tell = Callable[["Signal", Any, Receiver, BaseException, str, float, float], None]
"""Tells of a failure: signal, sender, receiver, exception, mode, queued and ran seconds."""


class Plan:
    """The connections that hear one sender."""

    __slots__ = ("any_async", "holds", "plain", "rows", "sender")

    def __init__(self, rows: "tuple[Connection, ...]", sender: "Tether | Strong | None") -> None:
        self.rows = rows
        self.sender = sender  # whose plan it is; None: of every sender that has no own
        self.holds = tuple(row.hold for row in rows)
        self.any_async = any(row.terms.is_async for row in rows)
        # Nothing to enter and nothing to await: most plans are of this kind.
        self.plain = not self.any_async and all(row.terms.gate is None for row in rows)


def build_plan(shown: "tuple[Connection, ...]", sender_id: int) -> Plan:
    """The plan of a connected sender by its id, or with 0 that of every other sender."""
    sender = None
    rows = []
    for row in shown:
        of = row.terms.sender_id
        if not of:
            rows.append(row)
        elif of == sender_id:
            rows.append(row)
            sender = row.terms.sender
    return Plan(tuple(rows), sender)


Live = list[tuple["Connection", Receiver]]


def resolve(plan: Plan, registry: "Registry", sender: object) -> Live:
    """The connections of ``plan`` whose receivers live, with these; from now on they do live."""
    while True:
        live = [(row, r) for row in plan.rows if (r := row.hold()) is not None]
        if len(live) == len(plan.rows):
            return live
        # One was dead. If something has changed since the plan was read, a disconnect may have
        # come before that death: look again, or this send would see only the later of the two.
        now = registry.plan(sender)
        if now is plan:
            return live
        plan = now


def check_names(named: Mapping[str, Any]) -> None:
    """Raise ``TypeError`` if a value's name is one that every receiver gets anyway."""
    if "signal" in named:
        raise TypeError("a signal cannot carry a value named 'signal': receivers get the signal")


def call_each(live: Live, signal: "Signal", sender: Any, named: Named) -> Pairs:
    """Call the sync receivers of ``live``; the first exception propagates."""
    pairs: Pairs = []
    for row, receiver in live:
        terms = row.terms
        if terms.is_async:
            continue
        if terms.gate is None:
            pairs.append((receiver, receiver(signal=signal, sender=sender, **named)))
            continue
        call = Call()
        try:
            if terms.gate.enter(call):
                pairs.append((receiver, receiver(signal=signal, sender=sender, **named)))
        finally:
            terms.gate.leave(call)
    return pairs


def call_each_robust(
    live: Live, signal: "Signal", sender: Any, named: Named, mode: str, tell: Tell
) -> Outcomes:
    """Call the sync receivers of ``live``; what they raise is told and becomes the response."""
    outcomes = Outcomes()
    started = time.perf_counter()
    for row, receiver in live:
        terms = row.terms
        if terms.is_async:
            continue
        call = None if terms.gate is None else Call()
        try:
            if call is not None and not terms.gate.enter(call):
                continue
            response = receiver(signal=signal, sender=sender, **named)
        except Exception as error:
            ended = time.perf_counter()
            outcomes.add_error(receiver, error)
            tell(signal, sender, receiver, error, mode, 0.0, ended - started)
            started = ended
        else:
            outcomes.append((receiver, response))
        finally:
            if call is not None:
                terms.gate.leave(call)
    return outcomes
