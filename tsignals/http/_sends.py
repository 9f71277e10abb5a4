"""What the two middlewares have in common: their arguments, and sends that harm no request.

Law
    Q1  What a send of a request's signal raises is logged, and goes no further: the client gets
        what the application answered. Only what is no ``Exception`` passes, as it does through
        ``send_robust``: a signal handler may have raised it to end the thread.
    Q2  What a request still has to send stands in a list. Who pops an entry sends it; nobody else
        does. Popping is one atomic step, with and without the GIL, so threads, finalizers and
        tasks may all try, and exactly one succeeds.
"""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor

from tsignals import Signal
from tsignals.http import got_request_exception, request_finished, request_started
from tsignals.observing import is_captured

_log = logging.getLogger("tsignals")

_NAMES = {
    request_started: "request_started",
    got_request_exception: "got_request_exception",
    request_finished: "request_finished",
}

_started_heard = request_started.has_listeners
_finished_heard = request_finished.has_listeners
_failed_heard = got_request_exception.has_listeners


class Sends:
    """How a middleware sends the three signals to ``sender``: here, or in the background.

    Immutable, so any thread may use it.
    """

    __slots__ = ("_ways", "background", "sender")

    def __init__(self, sender: object, background: bool, executor: Executor | None) -> None:
        self.sender = sender
        self.background = background
        self._ways = {signal: _way_of(signal, background, executor) for signal in _NAMES}

    def heard(self) -> bool:
        """Whether anybody listens to what is sent of a request that starts now."""
        sender = self.sender
        if _finished_heard(sender) or _started_heard(sender) or _failed_heard(sender):
            return True
        return (
            is_captured(request_finished)
            or is_captured(request_started)
            or is_captured(got_request_exception)
        )

    def start_is_heard(self) -> bool:
        """Whether anybody listens to its start."""
        return _started_heard(self.sender) or is_captured(request_started)

    def send(self, signal: Signal, named: Mapping[str, object]) -> None:
        """Send; what that raises is logged (Q1). ``named`` has the request's method and path."""
        try:
            self._ways[signal](self.sender, **named)
        except Exception:
            _log_failed_send(signal, named)

    async def asend(self, signal: Signal, named: Mapping[str, object]) -> None:
        """As ``send``, by ``asend_robust``, which is never in the background."""
        try:
            await signal.asend_robust(self.sender, **named)
        except Exception:
            _log_failed_send(signal, named)


def _way_of(signal: Signal, background: bool, executor: Executor | None) -> Callable[..., object]:
    if not background:
        return signal.send_robust
    if executor is None:
        return signal.send_async
    return signal.via(executor).send_async


def check(app: object, background: object, executor: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what no middleware can work with."""
    if not callable(app):
        raise TypeError(f"app must be an application to call, not {app!r}")
    if not isinstance(background, bool):
        raise TypeError(
            f"background must be True or False, not {background!r}; "
            "to choose a pool, pass background=True, executor=pool"
        )
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(f"executor must be a concurrent.futures.Executor or None, not {executor!r}")
    if executor is not None and not background:
        raise ValueError(
            "executor= is where receivers run in the background; pass background=True with it"
        )


def _log_failed_send(signal: Signal, named: Mapping[str, object]) -> None:
    """Log the exception that is being handled: a signal of this request was not sent (Q1)."""
    try:
        _log.exception(
            "cannot send %s for %s %s; the request goes on without",
            _NAMES[signal],
            named["method"],
            named["path"],
        )
    except Exception:
        pass  # a handler that raises must not reach the client, either
