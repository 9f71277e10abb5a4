"""Which receivers run too long: what a signal says, or the default. The watchdog looks at them.

It stands on observers: who has a signal's own, or the default, hears of what starts and ends.
"""

from tsignals._base import observers, watchdog
from tsignals._base.events import Event, Observer
from tsignals._base.timeouts import seconds as checked_seconds


class SlowCalls(Observer):
    """Has the watchdog look at calls; all of them, or those of one signal."""

    def __init__(self, limit: watchdog.Limit | None = None, one_signal: bool = False) -> None:
        self.limit = limit
        self.one_signal = one_signal

    def started(self, event: Event) -> None:
        limit = self.limit
        if limit is not None and (self.one_signal or not observers.has_own(event.signal)):
            watchdog.note(event, limit)

    def ended(self, event: Event) -> None:
        watchdog.forget(event)

    def retried(self, event: Event) -> None:
        watchdog.forget(event)  # it does not run in the pause


def checked(seconds: float | None) -> float | None:
    """Raise ``TypeError`` or ``ValueError`` for what cannot be one; ``inf`` where it is endless."""
    if seconds is None:
        return None
    found = checked_seconds(seconds, "slow_after")
    if found is not None and found <= 0:
        raise ValueError(f"slow_after must be more than 0 seconds, or None, not {seconds!r}")
    return watchdog.NEVER if found is None else found


def watch_signal(signal: object, slow_after: float | None) -> None:
    """Have calls of this new signal's receivers looked at; ``None``: as the default has it."""
    if (seconds := checked(slow_after)) is not None:
        limit = None if seconds == watchdog.NEVER else watchdog.Limit(seconds)
        observers.observe_alone(signal, SlowCalls(limit, one_signal=True))


def set_slow_after(seconds: float | None) -> float | None:
    """Warn of receivers that run longer than ``seconds``, in all sends that start from now on.

    Once a receiver has run so long and still does, logger ``tsignals`` gets a WARNING with the
    stack of where it stands: one for each receiver and minute, for as long as it runs. It is
    written in another thread and in a copy of the context in which the receiver started. Signals
    with a ``slow_after`` of their own keep that. ``None``, as it is in the beginning: only these.

    Returns the former value. Raises ``TypeError`` for what is no number, and ``ValueError`` for
    zero and less, and then changes nothing.

    Other signals' sends become slower, as with any observer. In a forked child it goes on, for
    receivers that start there.

    Thread safety: from any thread.
    """
    new = checked(seconds)
    limit = None if new is None or new == watchdog.NEVER else watchdog.Limit(new)
    former, _all_calls.limit = _all_calls.limit, limit
    if former is not None:
        former.is_over = True
    # Again, where another thread has set it meanwhile.
    while (_all_calls.limit is not None) != observers.is_open(_default):
        if _all_calls.limit is not None:
            observers.open_again(_default)
        else:
            observers.close(_default)
    return None if former is None else former.seconds


_all_calls = SlowCalls()
_default = observers.Subscription(_all_calls)
