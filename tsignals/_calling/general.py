"""Calling receivers the general way: any receivers, any names, step by step.

``compiled`` does the same faster for plain plans and comes here for everything else, for the first
send after a change, and when a receiver has died.
"""

import contextlib
import functools
import time
from collections.abc import Mapping

from tsignals._base.around import Around, Failed, surrounded
from tsignals._base.errors import SKIPPED
from tsignals._base.watches import Watch
from tsignals._calling.failures import report
from tsignals._calling.outcomes import Outcomes
from tsignals._calling.tracking import Gate, call_with_gate
from tsignals._calling.types import Connected, Each, Named, OptionsLike, Pairs, Receiver

Catch = type[Exception] | tuple[type[BaseException], ...]


def check_names(named: Mapping[str, object]) -> None:
    """Raise ``TypeError`` if a value's name is one that every receiver gets anyway."""
    if "signal" in named:
        raise TypeError("a signal cannot carry a value named 'signal': receivers get the signal")


def call_each(
    live: Each, signal: object, sender: object, named: Named, around: Around | None = None
) -> Pairs:
    """Call the sync receivers of ``live``; the first exception propagates.

    ``around``: what each is called inside of.
    """
    pairs: Pairs = []
    keywords: Named = {"signal": signal, "sender": sender, **named}
    for connection, receiver in live:
        options = connection._options
        if options.is_async:
            continue
        target = receiver if not options.wrapped else with_its_gate(options, receiver)
        if around is not None or connection._watch is not None:
            target = target_for(target, connection._watch, around, ignore)
        if options.once is not None:
            target = functools.partial(options.once.call, gate_to_come(options), target)
        if options.gate is None:
            response = target(**keywords)
        else:
            response = options.gate.call(functools.partial(target, **keywords))
        if response is not SKIPPED:
            pairs.append((receiver, response))
    return pairs


def call_each_robust(
    live: Each,
    signal: object,
    sender: object,
    named: Named,
    mode: str,
    around: Around | None = None,
    catch: Catch = Exception,
) -> Outcomes:
    """Call the sync receivers of ``live``; what they raise is reported and becomes the response.

    ``around``: what each is called, and reported, inside of.
    """
    robust = _Robust(signal, sender, named, mode, around, catch)
    for connection, receiver in live:
        options = connection._options
        if options.is_async:
            continue
        if options.gate is None:
            robust.call(connection, receiver)
        else:
            options.gate.call(functools.partial(robust.call, connection, receiver))
    return robust.outcomes


class _Robust:
    """One send to receivers that may fail, and what became of it so far."""

    def __init__(
        self,
        signal: object,
        sender: object,
        named: Named,
        mode: str,
        around: Around | None,
        catch: Catch,
    ) -> None:
        self.signal = signal
        self.sender = sender
        self.named = named
        self.mode = mode
        self.around = around
        self.catch = catch
        self.outcomes = Outcomes()
        self.started = time.perf_counter()

    def call(self, connection: Connected, receiver: Receiver) -> None:
        """Call one, and add its response or what it has raised."""
        inside = self.around is not None or connection._watch is not None
        options = connection._options
        target = receiver if not options.wrapped else with_its_gate(options, receiver)
        if inside:
            failed = functools.partial(self.report_inside, receiver)
            # Who observes hears of its end once the failure is reported: that is done inside.
            around = self.around or contextlib.nullcontext
            target = target_for(target, connection._watch, around, failed)
        if options.once is not None:
            target = functools.partial(options.once.call, gate_to_come(options), target)
        try:
            response = target(signal=self.signal, sender=self.sender, **self.named)
        except self.catch as error:
            ended = time.perf_counter()
            self.outcomes._add_error(receiver, error)
            if not inside:
                self.report(receiver, error, ended)
            self.started = ended
        else:
            if response is not SKIPPED:
                self.outcomes.append((receiver, response))

    def report_inside(self, receiver: Receiver, error: BaseException) -> None:
        if issubclass(type(error), self.catch):
            self.report(receiver, error, time.perf_counter())

    def report(self, receiver: Receiver, error: BaseException, ended: float) -> None:
        ran = ended - self.started
        report(self.signal, self.sender, receiver, error, self.mode, 0.0, ran, self.named)


def with_its_gate(options: OptionsLike, receiver: Receiver) -> Receiver:
    """What to call for a ``background`` receiver, whose delivery passes the gate, too."""
    if options.gate is None:
        return receiver
    return functools.partial(call_with_gate, options.gate, receiver)


def gate_to_come(options: OptionsLike) -> Gate | None:
    """The gate that the delivery of a ``background`` receiver passes later."""
    return options.gate if options.wrapped else None


def target_for(
    receiver: Receiver,
    watch: Watch | None,
    around: Around | None,
    failed: Failed,
    queued_at: float | None = None,
) -> Receiver:
    """What to call in place of ``receiver``: inside of ``around``, and observed."""
    target = receiver
    if around is not None:
        target = functools.partial(call_inside, around, failed, receiver)
    if watch is None:
        return target
    return lambda **keywords: watch.call(queued_at, target, keywords)


def call_inside(
    around: Around, failed: Failed, receiver: Receiver, /, **keywords: object
) -> object:
    """Call ``receiver`` inside of ``around``; ``failed`` hears there of what it raises."""
    result, error = surrounded(around, failed, None, receiver, (), keywords)
    if error is None:
        return result
    try:
        raise error
    finally:
        del error  # or the traceback, this frame and the error form a cycle


def ignore(error: BaseException) -> None:
    pass
