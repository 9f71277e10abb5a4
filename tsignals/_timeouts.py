"""Timeouts, as callers give them: anything that is a real number."""

import numbers
import threading
from typing import Any


def seconds(timeout: Any, what: str = "timeout") -> float | None:
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
        kind = type(timeout)
        if not (hasattr(kind, "__float__") or hasattr(kind, "__index__")) or (
            isinstance(timeout, numbers.Complex) and not isinstance(timeout, numbers.Real)
        ):
            raise TypeError(f"{what} must be a number of seconds, not {kind.__name__!r}")
        try:
            timeout = float(timeout)
        except OverflowError:  # an int, or a fraction, beyond what a float can be
            timeout = float("inf") if timeout > 0 else float("-inf")
    if timeout != timeout:
        raise ValueError(f"{what} must be a number of seconds, not nan")
    return None if timeout >= threading.TIMEOUT_MAX else timeout


def no_less_than_zero(timeout: Any, what: str) -> float | None:
    """As ``seconds``; ``ValueError`` for less than zero, too."""
    checked = seconds(timeout, what)
    if checked is not None and checked < 0:
        raise ValueError(f"{what} must be at least 0 seconds, not {timeout!r}")
    return checked
