"""Calling the receivers of a plan the general way: any receivers, any names, step by step.

``_call`` does the same faster for plain plans and comes here for everything else, for the first
send after a change, and when a receiver has died.
"""

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from tsignals._around import Around, Failed, surrounded
from tsignals._connection import Connection
from tsignals._gate import Call
from tsignals._outcomes import Outcomes
from tsignals._receiver import Receiver

Named = dict[str, Any]
Pairs = list[tuple[Receiver, Any]]
Tell = Callable[[Any, Any, Receiver, BaseException, str, float, float, Named], None]
"""Tells of a failure: signal, sender, receiver, exception, mode, queued and ran seconds, values."""

Catch = type[Exception] | tuple[type[BaseException], ...]
Pair = tuple[Connection, Receiver]
Live = list[Pair]


class Resolves(Protocol):
    """The registry of a signal, as sends see it."""

    def plan(self, sender: Any) -> Any: ...

    def resolve(self, plan: Any, sender: Any) -> Live: ...


class Sends(Protocol):
    """A signal, as sends of the general kind see it."""

    @property
    def _registry(self) -> Resolves: ...

    def _send_mixed(self, live: Live, sender: Any, named: Named) -> Pairs:
        """``send`` where some are async."""

    def _send_robust_mixed(self, live: Live, sender: Any, named: Named) -> Outcomes:
        """``send_robust`` where some are async."""


def check_names(named: Mapping[str, Any]) -> None:
    """Raise ``TypeError`` if a value's name is one that every receiver gets anyway."""
    if "signal" in named:
        raise TypeError("a signal cannot carry a value named 'signal': receivers get the signal")


def _ignore(error: BaseException) -> None:
    pass


def _inside(around: Around, failed: Failed, receiver: Receiver, /, **keywords: Any) -> Any:
    """Call ``receiver`` inside of ``around``; ``failed`` hears there of what it raises."""
    result, error = surrounded(around, failed, None, receiver, (), keywords)
    if error is None:
        return result
    try:
        raise error
    finally:
        del error  # or the traceback, this frame and the error form a cycle


def _tell_inside(
    tell: Tell,
    catch: Catch,
    started: float,
    signal: Any,
    sender: Any,
    receiver: Receiver,
    mode: str,
    named: Named,
    error: BaseException,
) -> None:
    if issubclass(type(error), catch):
        ran = time.perf_counter() - started
        tell(signal, sender, receiver, error, mode, 0.0, ran, named)


def call_each(
    live: Iterable[Pair],
    signal: Any,
    sender: Any,
    named: Named,
    around: Around | None = None,
) -> Pairs:
    """Call the sync receivers of ``live``; the first exception propagates.

    ``around``: what each is called inside of.
    """
    pairs: Pairs = []
    for row, receiver in live:
        terms = row._terms
        if terms.is_async:
            continue
        gate = terms.gate
        target = receiver
        if around is not None:
            target = functools.partial(_inside, around, _ignore, receiver)
        if gate is None:
            pairs.append((receiver, target(signal=signal, sender=sender, **named)))
            continue
        call = Call()
        try:
            if gate.enter(call):
                pairs.append((receiver, target(signal=signal, sender=sender, **named)))
        finally:
            try:
                gate.leave(call)
            except BaseException:  # interrupted
                gate.leave(call)
                raise
    return pairs


def call_each_robust(
    live: Iterable[Pair],
    signal: Any,
    sender: Any,
    named: Named,
    mode: str,
    tell: Tell,
    around: Around | None = None,
    catch: Catch = Exception,
) -> Outcomes:
    """Call the sync receivers of ``live``; what they raise is told and becomes the response.

    ``around``: what each is called, and told of, inside of.
    """

    outcomes = Outcomes()
    started = time.perf_counter()
    for row, receiver in live:
        terms = row._terms
        if terms.is_async:
            continue
        gate: Any = terms.gate
        call = None if gate is None else Call()
        try:
            if call is not None and not gate.enter(call):
                continue
            if around is None:
                response = receiver(signal=signal, sender=sender, **named)
            else:
                failed = functools.partial(
                    _tell_inside, tell, catch, started, signal, sender, receiver, mode, named
                )
                response = _inside(around, failed, receiver, signal=signal, sender=sender, **named)
        except catch as error:
            ended = time.perf_counter()
            outcomes._add_error(receiver, error)
            if around is None:
                tell(signal, sender, receiver, error, mode, 0.0, ended - started, named)
            started = ended
        else:
            outcomes.append((receiver, response))
        finally:
            if call is not None:
                try:
                    gate.leave(call)
                except BaseException:  # interrupted
                    gate.leave(call)
                    raise
    return outcomes


def send_anyhow(plan: object, signal: Sends, sender: Any, named: Named) -> Pairs:
    """Do what ``send`` does, by the plan of this moment."""
    check_names(named)
    registry = signal._registry
    live = registry.resolve(registry.plan(sender), sender)
    for row, _ in live:
        if row._terms.is_async:
            return signal._send_mixed(live, sender, named)
    return call_each(live, signal, sender, named)


def send_robust_anyhow(
    plan: object, signal: Sends, sender: Any, named: Named, tell: Tell
) -> Outcomes:
    """Do what ``send_robust`` does, by the plan of this moment."""
    check_names(named)
    registry = signal._registry
    live = registry.resolve(registry.plan(sender), sender)
    for row, _ in live:
        if row._terms.is_async:
            return signal._send_robust_mixed(live, sender, named)
    return call_each_robust(live, signal, sender, named, "send_robust", tell)
