"""Telling of failures: once in the log, once as a signal."""

import logging
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from tsignals._definition import name_of
from tsignals._outcomes import Failure
from tsignals._receiver import Receiver

if TYPE_CHECKING:
    from tsignals._signal import Signal

log = logging.getLogger("tsignals")


def write_log(
    signal: "Signal", receiver: Receiver, error: BaseException, mode: str, what: str = "receiver"
) -> None:
    """Log one failure; an error of the logging itself goes to standard error."""
    log_safely(
        logging.ERROR,
        "%s %s of signal %s failed in %s: %r",
        what,
        name_of(receiver),
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
