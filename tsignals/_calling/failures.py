"""Reporting failures: once in the log, once as a signal.

Nothing that goes wrong with that reaches who sends, or other receivers: not an error of the log,
nor one of our own. What comes from outside does (Ctrl-C, a signal handler that raises).
"""

import logging
import threading
from collections.abc import Callable, Mapping

from tsignals._base.definition import name_of, of_signal
from tsignals._base.log import log_safely, log_unless_interrupt, show
from tsignals._calling.outcomes import Failure
from tsignals._calling.types import Receiver

_senders: list[Callable[[Failure], object]] = []


def sent_by(function: Callable[[Failure], object]) -> Callable[[Failure], object]:
    """Have ``function(failure)`` called for each failure, once it is in the log.

    That is how the front door, which is above, sends ``receiver_failed``.
    """
    _senders.append(function)
    return function


def report(
    signal: object,
    sender: object,
    receiver: Receiver,
    error: BaseException,
    mode: str,
    queued_seconds: float,
    ran_seconds: float,
    named: Mapping[str, object],
    attempts: int = 1,
) -> None:
    """Log a receiver's failure and send ``receiver_failed``.

    In two steps: what goes wrong with one, or interrupts it, does not keep the other from being
    taken. Raises only what has interrupted it.
    """
    failure = None
    try:
        try:
            failure = Failure(
                signal,
                sender,
                receiver,
                error,
                mode,
                threading.current_thread().name,
                queued_seconds,
                ran_seconds,
                # ``background`` gets these two among the others.
                {name: value for name, value in named.items() if name not in ("signal", "sender")},
                attempts,
            )
            write_log(failure)
        except Exception as raised:
            if log_unless_interrupt(raised) is not None:
                raise
    finally:
        if failure is not None:
            try:
                send(failure)
            except Exception as raised:
                if log_unless_interrupt(raised) is not None:
                    raise


def report_retry(
    signal: object,
    sender: object,
    receiver: Receiver,
    error: BaseException,
    mode: str,
    attempts: int,
    pause: float,
) -> None:
    """Log an attempt that has failed, and is no failure yet: another one follows."""
    log_safely(
        logging.WARNING,
        "receiver %s%s failed in %s, attempt %d; the next one in %.3f seconds: %s",
        name_of(receiver),
        of_signal(signal),
        mode,
        attempts,
        max(0.0, pause),
        show(error),
        exc_info=error,
    )


def write_log(failure: Failure) -> None:
    """Log one failure; an error of the logging itself goes to standard error."""
    log_safely(
        logging.ERROR,
        "receiver %s%s failed in %s: %s",
        name_of(failure.receiver),
        of_signal(failure.signal),
        failure.mode,
        show(failure.exception),
        exc_info=failure.exception,
        extra={"failure": failure},
    )


def send(failure: Failure) -> None:
    for function in _senders:
        function(failure)
