"""Around what is run: a new context manager of the user's each time, which has no say in errors.

What a receiver raises is told inside of it, where it was raised: there the receiver's context
variables and its database connection are those it had. It is then the delivery's error, whatever
the manager does with it. One made with ``contextlib.contextmanager`` assigns to every error that
passes through it, and some errors let nobody do that: so none of ours is made that way.
"""

import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from inspect import CO_GENERATOR
from typing import TypeVar

from tsignals._base.interrupts import Outcome
from tsignals._base.log import log_safely, traceback_of

R = TypeVar("R")
Around = Callable[[], AbstractContextManager[object]]
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


class _Inside:
    """The place inside of a manager: what is raised there is told there.

    An interrupt that comes where it is left is as good as one of the receiver.
    """

    def __init__(self, failed: Failed) -> None:
        self._failed = failed
        self.raised: BaseException | None = None

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self.raised = error
            self._failed(error)

    def left_by(self, error: BaseException, defer: Failed | None) -> None:
        """``error`` has come out of the manager, and is its own."""
        if self.raised is None:
            self.raised = error
            if type(error) is TypeError and "context manager protocol" in str(error):
                error.add_note("This is what around= of the pool gave; is @contextmanager missing?")
            self._failed(error)
        elif defer is not None and not issubclass(type(error), Exception):
            defer(error)
        elif not _only_refused(error):
            log_safely(
                logging.ERROR,
                "what is around a receiver raised as well, after the receiver had",
                exc_info=error,
            )


def surrounded(
    around: Around,
    failed: Failed,
    defer: Failed | None,
    function: Callable[..., R],
    arguments: tuple[object, ...],
    keywords: Mapping[str, object],
) -> Outcome[R]:
    """Call ``function`` inside a new context manager; return its result, or what was raised.

    failed: told what that is: inside the manager if ``function`` has raised it; after it, if the
        manager itself has.
    defer: given what interrupts the way out of the manager; ``None``: that is logged.
    """
    inside = _Inside(failed)
    try:
        with around(), inside:
            return function(*arguments, **keywords), None
    except BaseException as error:  # whatever it is, it is the receiver's or the manager's
        if error is not inside.raised:
            inside.left_by(error, defer)
    try:
        return None, inside.raised
    finally:
        del inside, failed, function, arguments, keywords  # see drop_frame


async def surrounded_async(
    around: Around,
    failed: Failed,
    defer: Failed | None,
    function: Callable[..., Coroutine[object, object, R]],
    *arguments: object,
) -> Outcome[R]:
    """Await ``function(...)`` inside a new context manager; as ``surrounded`` in all else."""
    inside = _Inside(failed)
    try:
        with around(), inside:
            return await function(*arguments), None
    except BaseException as error:  # as above
        if error is not inside.raised:
            inside.left_by(error, defer)
    try:
        return None, inside.raised
    finally:
        del inside, failed, function, arguments  # see drop_frame


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
