"""Observers: told what sends and receivers do, in all ways to send. See ``Observer``, ``observe``.

While nobody observes, nothing is paid for it. ``set_slow_after`` has slow receivers named in the
log. ``signal_name``, ``receiver_name``, ``hands_over``, ``waited_in_queue`` and ``stats_by_pool``
are for those who write observers; ``is_captured`` for those who send only what somebody hears, and
``background_of`` for those who take only receivers that run at once.
"""

from collections.abc import Callable as _Callable
from typing import cast as _cast

from tsignals._base import observers as _observers
from tsignals._base.definition import full_name_of as _full_name_of
from tsignals._base.events import IN_EXECUTORS as _IN_EXECUTORS
from tsignals._base.events import Event as Event
from tsignals._base.events import Observer as Observer
from tsignals._base.overrides import is_captured as is_captured
from tsignals._base.slow import set_slow_after as set_slow_after
from tsignals._pool.pool import WorkerPool as _WorkerPool
from tsignals._pool.stats import PoolStats as _PoolStats
from tsignals._registry.naming import plain_name as _plain_name
from tsignals._registry.receiver import wrapper_of as _wrapper_of
from tsignals._signal import Signal as _Signal

__all__ = [
    "Event",
    "Observation",
    "Observer",
    "background_of",
    "hands_over",
    "is_captured",
    "observe",
    "receiver_name",
    "set_slow_after",
    "signal_name",
    "stats_by_pool",
    "waited_in_queue",
]

Event.__module__ = Observer.__module__ = __name__


class Observation:
    """The handle of ``observe``: a context manager that closes it at the end.

    Dropping it closes nothing.

    Thread safety: every method from any thread, also while events are under way, from receivers
    and from the observer itself.
    """

    __slots__ = ("_subscription",)
    _subscription: _observers.Subscription

    def __init__(self) -> None:
        raise TypeError("cannot make an Observation; observe(observer) does")

    @property
    def observer(self) -> Observer:
        """Who observes."""
        return self._subscription.observer

    def close(self) -> None:
        """Tell the observer nothing more, also of what is under way; twice does no harm.

        A call that another thread has begun may still be going on.
        """
        _observers.close(self._subscription)

    def __enter__(self) -> "Observation":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if _observers.is_open(self._subscription) else "closed"
        return f"<Observation by {type(self.observer).__name__}, {state}>"


def observe(observer: Observer) -> Observation:
    """Tell ``observer`` of all sends that start from now on, in this process; return the handle.

    Several observers are called in the order in which they came; one that is given twice is called
    twice. Its methods are those that it has now. Sends that have started before are not told of. In
    a forked child it goes on.

    Raises ``TypeError`` for what is no ``Observer``, and for one whose methods are ``async def``,
    or no methods.

    Thread safety: from any thread.
    """
    if not isinstance(observer, Observer):
        raise TypeError(
            f"observe needs an Observer, not {type(observer).__name__!r}; "
            "subclass tsignals.observing.Observer and override what you need"
        )
    observation = object.__new__(Observation)
    observation._subscription = _observers.observe(observer)
    return observation


def waited_in_queue(event: Event) -> float | None:
    """Seconds that a delivery waited in an executor; ``None`` where it was in none, or unknown.

    Thread safety: from any thread.
    """
    return event.queued_seconds if event.mode in _IN_EXECUTORS else None


def signal_name(signal: object) -> str:
    """What to call a signal in metrics and traces; another library's, too.

    Its ``name``, else the attribute where it is found (``shop.order_paid``), else where it was
    made, or its class. Never with an address: of equal signals it is the same in every process.

    Thread safety: from any thread.
    """
    return _plain_name(signal, _Signal)


def receiver_name(receiver: object) -> str:
    """What to call a receiver in metrics and traces: ``shop.Mailer.send``.

    Module and qualified name of the function, of a partial's or a bound method's function, or of
    the class of an object. Never with an address. Nothing of the receiver's is run.

    Thread safety: from any thread.
    """
    return _full_name_of(receiver)


def stats_by_pool() -> dict[str, _PoolStats]:
    """What the open pools of this process do now, by name: their ``thread_name_prefix``.

    The numbers of pools of one name are added up.

    Thread safety: from any thread.
    """
    found: dict[str, _PoolStats] = {}
    for pool in _WorkerPool.all():
        name, stats = pool._core.config.name, pool.stats()
        if name in found:
            stats = _PoolStats(*map(sum, zip(found[name], stats, strict=True)))
        found[name] = stats
    return found


def background_of(receiver: object) -> _Callable[..., object] | None:
    """What ``background``, or an ``on_commit``, has made of a receiver; ``None``: it runs at once.

    Also behind a ``functools.partial``, a bound method, or the ``__call__`` of its class. Nothing
    of the receiver's is run.

    Thread safety: from any thread.
    """
    return _cast("_Callable[..., object] | None", _wrapper_of(receiver))


def hands_over(event: Event) -> bool:
    """Whether what is called is a ``background`` receiver that only puts itself into a pool.

    Who counts deliveries leaves such a call out: what it hands over has events of its own, with
    mode ``"background"``.

    Thread safety: from any thread.
    """
    return event.mode not in _IN_EXECUTORS and _wrapper_of(event.receiver) is not None
