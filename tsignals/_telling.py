"""Telling of failures: once in the log, once as a signal."""

import functools
import logging
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from tsignals._outcomes import Failure
from tsignals._receiver import Receiver

if TYPE_CHECKING:
    from tsignals._signal import Signal

log = logging.getLogger("tsignals")


def describe(receiver: object) -> str:
    """A receiver's name for a log line, whatever kind of callable it is."""
    name = text_of(receiver, "__qualname__")
    while name is None and isinstance(receiver, functools.partial):
        receiver = receiver.func  # a partial is called after what it calls
        name = text_of(receiver, "__qualname__")
    return name or f"<{type(receiver).__name__}>"


def for_signal(signal: object) -> str:
    """`` for`` and the name of a signal; nothing where there is none, as with blinker's."""
    if signal is None:
        return ""
    return f" for {text_of(signal, 'label') or f'<{type(signal).__name__}>'}"


def text_of(thing: object, attribute: str) -> str | None:
    """An attribute that is text, or ``None``; whatever reading it may raise."""
    try:
        text = getattr(thing, attribute, None)
    except Exception:
        return None
    return text if isinstance(text, str) else None


def write_log(
    signal: "Signal", receiver: Receiver, error: BaseException, mode: str, what: str = "receiver"
) -> None:
    """Log one failure; an error of the logging itself goes to standard error."""
    log_safely(
        logging.ERROR,
        "%s %s of signal %s failed in %s: %r",
        what,
        describe(receiver),
        getattr(signal, "label", signal),  # background serves other signals too
        mode,
        error,
        exc_info=error,
    )


def log_safely(level: int, message: str, *arguments: object, **options: Any) -> None:
    """Log; an error of the logging itself goes to standard error, not to the caller."""
    try:
        log.log(level, message, *arguments, **options)
    except Exception:
        if sys.stderr is not None:
            traceback.print_exc()


def failure(
    signal: "Signal",
    sender: Any,
    receiver: Receiver,
    error: BaseException,
    mode: str,
    queued_seconds: float,
    ran_seconds: float,
) -> Failure:
    return Failure(
        signal,
        sender,
        receiver,
        error,
        mode,
        threading.current_thread().name,
        queued_seconds,
        ran_seconds,
    )
