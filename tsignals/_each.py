"""Calling the receivers of a plan the general way: any receivers, any names, step by step.

``_call`` does the same faster for plain plans and comes here for everything else, for the first
send after a change, and when a receiver has died.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tsignals._gate import Call
from tsignals._outcomes import Outcomes
from tsignals._receiver import Receiver

if TYPE_CHECKING:
    from tsignals._connection import Connection
    from tsignals._plan import Plan
    from tsignals._registry import Registry
    from tsignals._signal import Signal

Named = dict[str, Any]
Pairs = list[tuple[Receiver, Any]]
Tell = Callable[["Signal", Any, Receiver, BaseException, str, float, float], None]
"""Tells of a failure: signal, sender, receiver, exception, mode, queued and ran seconds."""


Pair = tuple["Connection", Receiver]
Live = list[Pair]


def resolve(plan: "Plan", registry: "Registry", sender: object) -> Live:
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


def call_each(live: Iterable[Pair], signal: "Signal", sender: Any, named: Named) -> Pairs:
    """Call the sync receivers of ``live``; the first exception propagates."""
    pairs: Pairs = []
    for row, receiver in live:
        terms = row.terms
        if terms.is_async:
            continue
        gate = terms.gate
        if gate is None:
            pairs.append((receiver, receiver(signal=signal, sender=sender, **named)))
            continue
        call = Call()
        try:
            if gate.enter(call):
                pairs.append((receiver, receiver(signal=signal, sender=sender, **named)))
        finally:
            try:
                gate.leave(call)
            except BaseException:  # interrupted
                gate.leave(call)
                raise
    return pairs


def call_each_robust(
    live: Iterable[Pair],
    signal: "Signal",
    sender: Any,
    named: Named,
    mode: str,
    tell: Tell,
    catch: type[Exception] | tuple[type[BaseException], ...] = Exception,
) -> Outcomes:
    """Call the sync receivers of ``live``; what they raise is told and becomes the response."""
    outcomes = Outcomes()
    started = time.perf_counter()
    for row, receiver in live:
        terms = row.terms
        if terms.is_async:
            continue
        gate = terms.gate
        call = Call()
        try:
            if gate is not None and not gate.enter(call):
                continue
            response = receiver(signal=signal, sender=sender, **named)
        except catch as error:
            ended = time.perf_counter()
            outcomes.add_error(receiver, error)
            tell(signal, sender, receiver, error, mode, 0.0, ended - started)
            started = ended
        else:
            outcomes.append((receiver, response))
        finally:
            if gate is not None:
                try:
                    gate.leave(call)
                except BaseException:  # interrupted
                    gate.leave(call)
                    raise
    return outcomes


def send_anyhow(plan: "Plan", signal: "Signal", sender: Any, named: Named) -> Pairs:
    """Do what ``send`` does, by the plan of this moment."""
    check_names(named)
    registry = signal._registry
    plan = registry.plan(sender)
    live = resolve(plan, registry, sender)
    if any(row.terms.is_async for row, _ in live):
        from tsignals import _aio

        return _aio.send(live, signal, sender, named)
    return call_each(live, signal, sender, named)


def send_robust_anyhow(
    plan: "Plan", signal: "Signal", sender: Any, named: Named, tell: Tell
) -> Outcomes:
    """Do what ``send_robust`` does, by the plan of this moment."""
    check_names(named)
    registry = signal._registry
    plan = registry.plan(sender)
    live = resolve(plan, registry, sender)
    if any(row.terms.is_async for row, _ in live):
        from tsignals import _aio

        return _aio.send_robust(live, signal, sender, named, tell)
    return call_each_robust(live, signal, sender, named, "send_robust", tell)
