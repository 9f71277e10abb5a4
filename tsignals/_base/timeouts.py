"""Timeouts, as callers give them: anything that is a real number."""

import numbers
import threading
import time
from typing import TypeGuard


def seconds(timeout: object, what: str = "timeout") -> float | None:
    """``timeout`` as a float; ``None``: for ever.

    For ever is ``None``, ``inf``, and whatever is longer than the platform can wait. Of less than
    zero nothing is left to wait; whether that is a mistake, the caller decides.

    Raises ``TypeError`` for what is no real number, and ``ValueError`` for NaN. To be called
    before anything changes.
    """
    if timeout is None:
        return None
    if type(timeout) is not float:
        # Not float() alone, which would read a str.
        if not is_real(timeout):
            raise TypeError(f"{what} must be a number of seconds, not {type(timeout).__name__!r}")
        timeout = as_float(timeout)
    if timeout != timeout:
        raise ValueError(f"{what} must be a number of seconds, not nan")
    return None if timeout >= threading.TIMEOUT_MAX else timeout


def as_float(number: float) -> float:
    """A real number; infinite where it is beyond what a float can be."""
    try:
        return float(number)
    except OverflowError:  # an int, or a fraction
        return float("inf") if number > 0 else float("-inf")
    except ValueError:  # a decimal's signaling NaN
        return float("nan")


def is_real(number: object) -> TypeGuard[float]:
    """Whether it is a real number of any kind, such as a fraction or a decimal."""
    kind = type(number)
    if not (hasattr(kind, "__float__") or hasattr(kind, "__index__")):
        return False
    return isinstance(number, numbers.Real) or not isinstance(number, numbers.Complex)


def no_less_than_zero(timeout: object, what: str) -> float | None:
    """As ``seconds``; ``ValueError`` for less than zero, too."""
    checked = seconds(timeout, what)
    if checked is not None and checked < 0:
        raise ValueError(f"{what} must be at least 0 seconds, not {timeout!r}")
    return checked


def deadline_in(timeout: float | None) -> float | None:
    """When that many seconds will be over, as ``left_until`` reads it; ``None``: never."""
    return None if timeout is None else time.monotonic() + timeout


def left_until(deadline: float | None) -> float | None:
    """How many seconds are left of what ``time.monotonic()`` measures; ``None``: for ever."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
