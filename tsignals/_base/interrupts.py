"""What may come in the middle of our own code: a signal handler, or a finalizer; and may raise.

Both run on the thread that they interrupt, between two of its bytecodes, and may call all of this
library. Six things follow.

    They may raise (Ctrl-C). So nothing here is half done: a change is one step of a built-in type,
    or what is left of it is done again (``apply_to_all``, ``_pool.attempt``). What is cheap, and
    does no harm when repeated, is done twice in any case: once more in a ``finally``.
    They may wait for what they have interrupted, which would never end. Such code is marked as
    ``critical``, and a wait below it is refused; below ``foreign`` code, which calls receivers and
    callbacks, it is these' own affair.
    They come at a jump back, too, and what ``try`` and ``with`` say may not hold there: in 3.12 and
    3.13 the compiler leaves the end of a loop out of these. So a loop that must not be left so is
    in a function of its own, and the call of that in the ``try``.
    They come at the start of a function, at a jump back and after the call of a C function, and
    not between a return and the store of what it gives, nor between two stores (3.11 to 3.14, with
    and without the GIL: ``test_no_signal_comes_between_a_return_and_the_store_of_its_value``). So
    what is done and noted in one such statement is both, or neither.
    They need room on the stack. Where its end would tear a change apart, this is found out before
    the change is made (``refuse_if_deep``).
    From CPython 3.14 on, what they raise may leave a lock held that the standard library has just
    taken. Signal handlers run in the main thread alone. So what takes such locks for us, the start
    of a thread above all, is done in another one (``undisturbed``).
"""

import _thread
import functools
import queue
import sys
import threading
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import ParamSpec, TypeVar

from tsignals._base import process

_F = TypeVar("_F", bound=Callable[..., object])
_P = ParamSpec("_P")
_R = TypeVar("_R")

# By their ``id``: to hash a code object goes through all of its bytecode.
_critical: dict[int, CodeType] = {}
"""Code during which a wait on the same thread could wait for that very code."""


def critical(function: _F) -> _F:
    """Mark a function that must go on before waits can end."""
    _critical[id(function.__code__)] = function.__code__
    return function


_foreign: dict[int, CodeType] = {}
"""Code that calls receivers and callbacks: what these wait for is their own affair."""


def foreign(function: _F) -> _F:
    """Mark a function that calls foreign code, though critical code may have called it."""
    _foreign[id(function.__code__)] = function.__code__
    return function


# Before 3.12 calls of C functions count as well as frames: not twice as many, one may expect.
_FRAMES_COUNT = 1 if sys.version_info >= (3, 12) else 3


def refuse_if_deep(frames: int = 40) -> None:
    """Raise ``RecursionError`` here, where it does no harm, rather than a few frames further in."""
    try:  # mostly there are so few that they need not be tried
        sys._getframe((sys.getrecursionlimit() - frames - 10) // _FRAMES_COUNT)
    except ValueError:
        return
    if frames:
        refuse_if_deep(frames - 1)


def refuse_if_critical(what: str, below: Callable[..., object] | None = None) -> None:
    """Raise ``RuntimeError`` when called (by a finalizer, a signal handler) inside such code.

    ``below``: critical code itself asks, and this is the function through which it was entered.
    Costs nothing where nobody waits: the marks are the functions on this thread's stack.
    """
    frame: FrameType | None = sys._getframe(1)
    if below is not None:
        while frame is not None and frame.f_code is not below.__code__:
            frame = frame.f_back
        frame = None if frame is None else frame.f_back
    while frame is not None and id(frame.f_code) not in _foreign:
        if id(frame.f_code) in _critical:
            raise RuntimeError(
                f"cannot wait in {what}: it was called by a finalizer or signal handler that "
                f"interrupted tsignals ({frame.f_code.co_qualname}) on this thread"
            )
        frame = frame.f_back


Item = TypeVar("Item")


def apply_to_all(function: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Call ``function(item)`` for all, whatever some raise; in the end raise the last of that.

    What raises is called once more, for it may have been interrupted: what is done already, it
    must not do twice.
    """
    interrupt: BaseException | None = None
    left = [*items][::-1]
    raised_before: list[Item] = []
    while left:
        try:
            _apply_to_rest(function, left)
        except BaseException as raised:  # an interrupt, or a callback's: all get their call
            interrupt = raised
            if left and raised_before[-1:] == left[-1:]:
                left.pop()
            else:
                raised_before = left[-1:]
    if interrupt is not None:
        try:
            raise interrupt
        finally:
            del interrupt  # or the traceback, this frame and the interrupt form a cycle


def _apply_to_rest(function: Callable[[Item], object], left: list[Item]) -> None:
    while left:
        function(left[-1])
        left.pop()


Outcome = tuple[_R | None, BaseException | None]
"""What something gives, or what it raises."""


def outcome_of(function: Callable[..., _R], *arguments: object) -> Outcome[_R]:
    """Call foreign code where nobody could take what it raises; return its result, or that."""
    try:
        return function(*arguments), None
    except BaseException as raised:  # the caller says what becomes of it
        return None, raised
    finally:
        del function, arguments  # this frame may live as long as what is raised in there


def raised_by(function: Callable[..., object], *arguments: object) -> BaseException | None:
    """Call foreign code where nobody could take what it raises; return that, or ``None``."""
    try:
        # CPython 3.11 looks for signals after a call with ``*arguments``: here it would be lost.
        function = functools.partial(function, *arguments)
        return outcome_of(function)[1]
    finally:
        del function, arguments  # as above


_unanswered: dict[object, Callable[[], object]] = {}
"""For each answer that a thread waits for: have it wait no more, for nobody is there to answer."""


def undisturbed(function: Callable[_P, _R], *arguments: _P.args, **named: _P.kwargs) -> _R:
    """Call ``function`` where no signal handler runs; return or raise what that does.

    Interrupted, or forked, while this thread waits for that, it is done all the same; a child that
    such a fork has made gets ``RuntimeError``. Raises that, too, where no thread can be started.
    """
    here = threading.get_ident() == threading.main_thread().ident
    if not here or not process.in_main_interpreter():  # no handlers run in others
        return function(*arguments, **named)
    answers: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    results: list[_R] = []
    error: BaseException | None = None

    def answer() -> None:
        call = functools.partial(function, *arguments, **named)
        answers.put(raised_by(lambda: results.append(call())))

    try:
        forked = RuntimeError("the process was forked while a thread was to start")
        _unanswered[answers] = functools.partial(answers.put, forked)
        _thread.start_new_thread(answer, ())  # in C: it takes no lock, and is done or is not
        error = answers.get()
        if error is not None:
            raise error
        return results[0]
    finally:
        _unanswered.pop(answers, None)
        del error  # or the traceback, this frame and the error form a cycle


def _wait_no_more() -> None:
    for wake in list(_unanswered.values()):
        wake()


process.in_child(_wait_no_more)
