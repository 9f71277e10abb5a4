"""Sections of our own code during which a wait on the same thread might never end.

A finalizer or a signal handler can run in the middle of them, and may call anything but what waits.
"""

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

# By their ``id``: to hash a code object goes through all of its bytecode.
_critical: dict[int, tuple[CodeType, Callable[[FrameType], bool] | None]] = {}
"""Code during which a wait on the same thread could wait for that very code; and in which of its
moments, if not in all."""


def critical(function: _F) -> _F:
    """Mark a function that must go on before waits can end."""
    _critical[id(function.__code__)] = function.__code__, None
    return function


def critical_while(moment: Callable[[FrameType], bool]) -> Callable[[_F], _F]:
    """Mark a function that is so only while ``moment(frame)`` holds."""

    def mark(function: _F) -> _F:
        _critical[id(function.__code__)] = function.__code__, moment
        return function

    return mark


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


def _is_critical(frame: FrameType) -> bool:
    _, moment = _critical[id(frame.f_code)]
    return moment is None or moment(frame)


def refuse_if_critical(what: str, below: "Callable[..., Any] | None" = None) -> None:
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
        if id(frame.f_code) in _critical and _is_critical(frame):
            raise RuntimeError(
                f"cannot wait in {what}: it was called by a finalizer or signal handler that "
                f"interrupted tsignals ({frame.f_code.co_qualname}) on this thread"
            )
        frame = frame.f_back
