"""``Retry``: which failures of a delivery are tried again, how often, and after which pauses."""

import datetime
import random
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import TypeAlias, cast

from tsignals._base.definition import is_async, name_of
from tsignals._base.timeouts import as_float, is_real

Seconds: TypeAlias = float | datetime.timedelta
On: TypeAlias = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], bool | Seconds]
)


@dataclass(frozen=True, slots=True)
class Retry:
    """When a delivery is run again whose receiver has raised; names and meanings are stamina's.

    on: a type of exceptions, a tuple of such types, or a function. The function is called with
        the ``Exception`` that was raised; it returns whether to try again, or how long to pause
        before that. What is no ``Exception`` is tried again only where its type is named.
    attempts: how often it is run at most, the first time included; ``None``: no limit.
    timeout: seconds after the start of the first attempt in which the last one must start;
        ``None``: no limit.
    wait_initial, wait_exp_base, wait_jitter, wait_max: the pause after attempt ``n`` (1, 2, ...) is
        ``wait_initial * wait_exp_base ** (n - 1)`` seconds and a random part of ``wait_jitter``,
        and at most ``wait_max`` in all.

    Every number of seconds may be a ``datetime.timedelta``. Raises ``TypeError`` for an argument
    of the wrong type, ``ValueError`` for one out of range.

    Thread safety: it does not change; connections and threads may share one.
    """

    on: On
    _: KW_ONLY
    attempts: int | None = 10
    timeout: Seconds | None = 45.0
    wait_initial: Seconds = 0.1
    wait_max: Seconds = 5.0
    wait_jitter: Seconds = 1.0
    wait_exp_base: float = 2.0

    def __post_init__(self) -> None:
        _check_on(self.on)
        if self.attempts is not None:
            if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
                raise TypeError(f"attempts must be an int or None, not {self.attempts!r}")
            if self.attempts < 1:
                raise ValueError(f"attempts must be at least 1, not {self.attempts!r}")
        if self.timeout is not None:
            _seconds("timeout", self.timeout)
        for name in ("wait_initial", "wait_max", "wait_jitter"):
            _seconds(name, getattr(self, name))
        _number("wait_exp_base", self.wait_exp_base, "a number")

    def pause_after(self, attempt: int, ran: float, error: BaseException) -> float | None:
        """Seconds to wait before the next attempt; ``None``: this one was the last.

        attempt: how many there were.
        ran: seconds since the first one started.
        error: what this one has raised.

        Raises what ``on`` raises; ``TypeError`` and ``ValueError`` for what it returns, if that
        is no pause.
        """
        if self.attempts is not None and attempt >= self.attempts:
            return None
        if isinstance(self.on, (type, tuple)):
            if not issubclass(type(error), self.on):
                return None
            pause = self._pause(attempt)
        else:
            if not issubclass(type(error), Exception):
                return None
            answer = self.on(cast(Exception, error))
            if answer is None:
                return None
            if not _is_truth(answer):
                pause = _seconds("what on returns", answer)
            elif answer:
                pause = self._pause(attempt)
            else:
                return None
        if self.timeout is not None and ran + pause > _seconds("timeout", self.timeout):
            return None
        return pause

    def _pause(self, attempt: int) -> float:
        most = _seconds("wait_max", self.wait_max)
        jitter = min(most, _seconds("wait_jitter", self.wait_jitter))
        pause = _seconds("wait_initial", self.wait_initial)
        try:
            if pause:  # else it does not grow
                # As a float: an int would grow beyond what can be multiplied with one.
                pause *= as_float(self.wait_exp_base) ** (attempt - 1)
        except OverflowError:  # it has grown out of all bounds
            return most
        return min(most, pause + random.uniform(0, jitter))


@dataclass(frozen=True, slots=True, eq=False)
class Pause:
    """What parts one attempt of a delivery from the next."""

    attempts: int  # how many there were
    began: float  # when the first one started; both times as ``time.perf_counter`` has them
    due: float  # when the next one is to start


def checked_pause(pause: object) -> float:
    """What a subclass's ``pause_after`` gives, in seconds; raises for what is no pause."""
    seconds = _seconds("what pause_after returns", pause)
    if seconds == float("inf"):
        raise ValueError("what pause_after returns must be finite, or None: the last attempt")
    return seconds


def check_retry(retry: object) -> Retry | None:
    """``retry`` as ``connect`` takes it; raises ``TypeError`` for anything but a ``Retry``."""
    if retry is None or issubclass(type(retry), Retry):  # not what only says so: a mock
        return cast("Retry | None", retry)
    raise TypeError(
        f"retry must be a tsignals.Retry or None, not {retry!r}; "
        "say which failures to try again, as in retry=Retry(ConnectionError)"
    )


def _is_truth(answer: object) -> bool:
    """Whether it is a bool, or numpy's, which is none and can be taken for a number."""
    return isinstance(answer, bool) or type(answer).__name__ in ("bool", "bool_")


def _seconds(name: str, value: object) -> float:
    """``value`` in seconds; raises ``TypeError`` for no number, ``ValueError`` below zero."""
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    return _number(name, value, "a number or a timedelta")


def _number(name: str, value: object, kind: str) -> float:
    if isinstance(value, bool) or not is_real(value):
        raise TypeError(f"{name} must be {kind}, not {value!r}")
    number = as_float(value)
    if not number >= 0:
        raise ValueError(f"{name} must not be negative or NaN, not {number!r}")
    return number


def _check_on(on: object) -> None:
    if callable(on) and not isinstance(on, type):
        if is_async(on):
            raise TypeError(f"on must be a plain function, not async {name_of(on)}")
        return
    types = on if isinstance(on, tuple) else (on,)
    if not types or not all(isinstance(t, type) and issubclass(t, BaseException) for t in types):
        raise TypeError(
            "on must be a type of exceptions, a tuple of them, or a function of the exception, "
            f"not {on!r}"
        )
