"""Our log, and what to make of errors: nothing that goes wrong while we log reaches the caller."""

import contextlib
import functools
import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from types import FunctionType, MethodType, TracebackType

log = logging.getLogger("tsignals")

_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
"""As ``sys.exc_info()`` gives it."""


def traceback_of(error: BaseException) -> TracebackType | None:
    """Its traceback, whatever its class says about attributes."""
    found: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return found


def show(thing: object) -> str:
    """``repr(thing)``, or its class where that raises."""
    try:
        return repr(thing)
    except Exception:
        return f"<{type(thing).__name__}>"


def log_safely(
    level: int,
    message: str,
    *arguments: object,
    exc_info: BaseException | _Raised | None = None,
    logger: logging.Logger = log,
    extra: Mapping[str, object] | None = None,
    catch: type[BaseException] = Exception,
) -> None:
    """Log; an error of the logging itself goes to standard error, not to the caller.

    ``catch``: what counts as such an error.
    """
    try:
        if isinstance(exc_info, BaseException):
            # The three, for logging leaves out an error that is false.
            exc_info = (type(exc_info), exc_info, traceback_of(exc_info))
        logger.log(level, message, *arguments, exc_info=exc_info, extra=extra)
    except catch:
        # That may be closed, missing, or anything that raises.
        with contextlib.suppress(Exception):
            if sys.stderr is not None:
                traceback.print_exc()


log_in_thread = functools.partial(log_safely, catch=BaseException)
"""``log_safely`` for a thread of ours: no signal handler runs there, and nothing may end it."""


def log_unless_interrupt(error: BaseException) -> BaseException | None:
    """``error``, raised as a failure was told, if that was interrupted; if ours, it is logged."""
    if comes_from_outside(error):
        return error
    log_untold(error)
    return None


def comes_from_outside(error: BaseException) -> bool:
    """Whether it is no ``Exception``, or what a signal handler has raised."""
    return not issubclass(type(error), Exception) or came_by_signal(error)


def is_interrupt(error: BaseException) -> bool:
    """Whether it is Ctrl-C, or what a signal handler has raised."""
    return issubclass(type(error), KeyboardInterrupt) or came_by_signal(error)


def log_untold(error: BaseException, catch: type[BaseException] = Exception) -> None:
    """Say what has kept a failure from being told; ``catch`` as in ``log_safely``."""
    log_safely(logging.ERROR, "tsignals could not tell of a failure", exc_info=error, catch=catch)


def came_by_signal(error: BaseException) -> bool:
    """Whether one of the program's signal handlers has raised ``error``."""
    import signal

    if threading.get_ident() != threading.main_thread().ident:
        return False  # they run in that one only
    # Not the wrapper, which looks for an enum member, and asks the handler for its ``repr``.
    handler_of = getattr(signal.getsignal, "__wrapped__", signal.getsignal)
    frames = {id(frame.f_code) for frame, _ in traceback.walk_tb(traceback_of(error))}
    handlers = filter(callable, map(handler_of, _valid_signals()))
    return any(id(_code(handler)) in frames for handler in handlers)


@functools.cache
def _valid_signals() -> tuple[int, ...]:
    """All that there are; to make the set takes a tenth of a millisecond."""
    import signal

    return tuple(map(int, signal.valid_signals()))


def _code(handler: object) -> object:
    """The code that runs when ``handler`` is called, or what is none."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not isinstance(handler, (FunctionType, MethodType)):
        handler = getattr(type(handler), "__call__", None)  # noqa: B004
    return getattr(handler, "__code__", None)
