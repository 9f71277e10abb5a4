"""Sections of our own code during which a wait on the same thread might never end.

A finalizer or a signal handler can run in the middle of them, and may call anything but what waits.
"""

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

CRITICAL: set[CodeType] = set()
"""Code during which a wait on the same thread could wait for that very code."""


def critical(function: _F) -> _F:
    """Mark a function that must go on before waits can end; it calls no foreign code."""
    CRITICAL.add(function.__code__)
    return function


def refuse_if_critical(what: str) -> None:
    """Raise ``RuntimeError`` when called (by a finalizer, a signal handler) inside such code.

    Costs nothing where nobody waits: the marks are the functions on this thread's stack.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code in CRITICAL:
            raise RuntimeError(
                f"cannot wait in {what}: it was called by a finalizer or signal handler that "
                f"interrupted tsignals ({frame.f_code.co_qualname}) on this thread"
            )
        frame = frame.f_back
