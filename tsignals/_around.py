"""Around what is run: a new context manager of the user's each time, which has no say in errors.

What a receiver raises is told inside of it, where it was raised: there the receiver's context
variables and its database connection are those it had. It is then the delivery's error, whatever
the manager does with it. One made with ``contextlib.contextmanager`` assigns to every error that
passes through it, and some errors let nobody do that: so none of ours is made that way.
"""

import contextlib
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from inspect import CO_GENERATOR
from typing import Any

from tsignals._telling import log_safely, traceback_of

Around = Callable[[], AbstractContextManager[Any]]
Failed = Callable[[BaseException], object]

_contextlib_exit = contextlib._GeneratorContextManager.__exit__.__code__


def drop_frame(error: BaseException) -> None:
    """Take the frame that caught ``error`` out of its traceback.

    It holds the future, which holds the error, which would hold the frame: a cycle. The frames
    below stay, as ``f_back`` of the receiver's, and for the same reason let go of the future.
    """
    traceback = traceback_of(error)
    if traceback is not None:
        # The class of ``error`` may have its own ``with_traceback``, or forbid to assign.
        BaseException.with_traceback(error, traceback.tb_next)


def surrounded(
    around: Around,
    failed: Failed,
    defer: Failed | None,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
) -> tuple[Any, BaseException | None]:
    """Call ``function`` inside a new context manager; return its result, or what was raised.

    failed: told what that is: inside the manager if ``function`` has raised it; after it, if the
        manager itself has.
    defer: given what interrupts the way out of the manager; ``None``: that is logged.
    """
    raised: BaseException | None = None
    try:
        with around():
            try:
                return function(*arguments, **keywords), None
            except BaseException as error:
                raised = error
                failed(error)
                raise
    except BaseException as error:
        if raised is None:
            raised = error
            failed(error)
        elif error is not raised:
            _raised_besides(error, defer)
    try:
        return None, raised
    finally:
        # See drop_frame.
        del raised, failed, function, arguments, keywords


async def surrounded_async(
    around: Around,
    failed: Failed,
    defer: Failed | None,
    function: Callable[..., Coroutine[Any, Any, Any]],
    *arguments: Any,
) -> Any:
    """Await ``function(...)`` likewise; what was raised is raised."""
    raised: BaseException | None = None
    try:
        with around():
            try:
                return await function(*arguments)
            except BaseException as error:
                raised = error
                failed(error)
                raise
    except BaseException as error:
        if raised is None:
            failed(error)
            raise
        if error is not raised:
            _raised_besides(error, defer)
    try:
        raise raised
    finally:
        del raised, failed, function, arguments  # see drop_frame


def _raised_besides(error: BaseException, defer: Failed | None) -> None:
    """A manager has raised ``error`` once there was another already."""
    if defer is not None and not issubclass(type(error), Exception):
        defer(error)
    elif not _only_refused(error):
        log_safely(
            logging.ERROR,
            "what is around a receiver raised as well, after the receiver had",
            exc_info=error,
        )


def _only_refused(error: BaseException) -> bool:
    """Whether ``contextlib`` could not assign to the receiver's error, and nothing else is wrong.

    Its frame is then the last one, but for that of the class's own way to assign. Else there would
    be a generator's, or it complains itself, by a ``RuntimeError``.
    """
    last = None
    traceback = traceback_of(error)
    while traceback is not None:
        if traceback.tb_frame.f_code is _contextlib_exit:
            last = traceback
        traceback = traceback.tb_next
    if last is None:
        return False
    if last.tb_next is None:
        return not issubclass(type(error), RuntimeError)
    return not last.tb_next.tb_frame.f_code.co_flags & CO_GENERATOR
