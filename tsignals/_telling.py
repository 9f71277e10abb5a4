"""Telling of failures: once in the log, once as a signal.

Nothing that goes wrong with that reaches who sends, or other receivers: not an error of the log,
nor one of our own. What comes from outside does (Ctrl-C, a signal handler that raises).
"""

import contextlib
import functools
import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from types import FunctionType, MethodType, TracebackType
from typing import Any

from tsignals._definition import name_of, one_line
from tsignals._outcomes import Failure, show
from tsignals._receiver import Receiver

log = logging.getLogger("tsignals")


def traceback_of(error: BaseException) -> TracebackType | None:
    """Its traceback, whatever its class says about attributes."""
    found: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return found


def for_signal(signal: object) -> str:
    """`` for`` and the name of a signal; nothing where there is none, as with blinker's."""
    return "" if signal is None else f" for {name_signal(signal)}"


def name_signal(signal: object) -> str:
    """How logs call a signal: ours, or another one that a ``background`` receiver hears."""
    try:
        return one_line(str(getattr(signal, "_label", signal)))
    except Exception:
        return f"<{type(signal).__name__}>"


def write_log(failure: Failure) -> None:
    """Log one failure; an error of the logging itself goes to standard error."""
    log_safely(
        logging.ERROR,
        "receiver %s of signal %s failed in %s: %s",
        name_of(failure.receiver),
        name_signal(failure.signal),
        failure.mode,
        show(failure.exception),
        exc_info=failure.exception,
        extra={"failure": failure},
    )


def log_safely(
    level: int,
    message: str,
    *arguments: object,
    exc_info: Any = None,
    logger: logging.Logger = log,
    **options: Any,
) -> None:
    """Log; an error of the logging itself goes to standard error, not to the caller."""
    try:
        if isinstance(exc_info, BaseException):
            # The three, for logging leaves out an error that is false.
            exc_info = (type(exc_info), exc_info, traceback_of(exc_info))
        logger.log(level, message, *arguments, exc_info=exc_info, **options)
    except Exception:
        # That may be closed, missing, or anything that raises.
        with contextlib.suppress(Exception):
            if sys.stderr is not None:
                traceback.print_exc()


def failure(
    signal: Any,
    sender: Any,
    receiver: Receiver,
    error: BaseException,
    mode: str,
    queued_seconds: float,
    ran_seconds: float,
    named: Mapping[str, Any],
    attempts: int = 1,
) -> Failure:
    values = dict(named)
    for name in ("signal", "sender"):  # ``background`` gets them among the others
        values.pop(name, None)
    return Failure(
        signal,
        sender,
        receiver,
        error,
        mode,
        threading.current_thread().name,
        queued_seconds,
        ran_seconds,
        values,
        attempts,
    )


def unless_own(error: BaseException) -> BaseException | None:
    """``error``, raised while a failure was told, if that was interrupted; if ours, it is logged.

    What is no ``Exception`` is an interrupt, and what a signal handler has raised.
    """
    if not issubclass(type(error), Exception) or came_by_signal(error):
        return error
    log_safely(logging.ERROR, "tsignals could not tell of a failure", exc_info=error)
    return None


def came_by_signal(error: BaseException) -> bool:
    """Whether one of the program's signal handlers has raised ``error``."""
    import signal

    if threading.get_ident() != threading.main_thread().ident:
        return False  # they run in that one only
    # Not the wrapper, which looks for an enum member, and asks the handler for its ``repr``.
    handler_of = getattr(signal.getsignal, "__wrapped__", signal.getsignal)
    frames = {id(frame.f_code) for frame, _ in traceback.walk_tb(traceback_of(error))}
    return any(id(_code(handler_of(n))) in frames for n in signal.valid_signals())


def _code(handler: Any) -> object:
    """The code that runs when ``handler`` is called, or what is none."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not isinstance(handler, (FunctionType, MethodType)):
        handler = getattr(type(handler), "__call__", None)  # noqa: B004
    return getattr(handler, "__code__", None)
