"""The seam for observers: who is told what sends and receivers do. Knows no signals.

``active`` is empty while nobody hears anything, and no send looks at it then: what is kept for
sends (their plans) was made to do without. ``on_change`` is how those who keep such things hear
that they must be made anew, for those who observe now. Some observe the sends of one signal alone
(``own``): that one is made for them from the beginning, and no other signal pays.

Which methods an observer has is looked up once. One without any is in ``_deaf``, and costs nothing;
one that has ``sent`` alone does not follow its sends, which go on as fast as ever.

How they are told: see ``telling``.

Lock
    None. ``active`` is changed by single steps of a dictionary and read by ``list``, both atomic.

Invariants
    W1  Who observes is entered into ``active`` before ``on_change`` is called, and that is done
        before ``observe`` returns: what is made after it is made for observers.
"""

import functools
import logging
import weakref
from collections.abc import Callable, Sequence

from tsignals._base.definition import is_async
from tsignals._base.events import Event, Observer
from tsignals._base.log import came_by_signal, log_safely, show


class Subscription:
    """One ``observe``: an observer, for as long as its handle is open."""

    __slots__ = ("_logged", "follows", "methods", "observer", "of_one")

    def __init__(self, observer: Observer, of_one: bool = False) -> None:
        self.observer = observer
        self.of_one = of_one  # it hears one signal alone, for as long as that lives
        self._logged: dict[str, object] = {}  # by method: who has logged what it raised
        self.methods: dict[str, Callable[[Event], object]] = {}  # those of its own
        for name in _NOTHING:
            try:
                method = getattr(observer, name)
            except Exception as error:
                if came_by_signal(error):
                    raise
                self.log(name, error)
            else:
                if getattr(method, "__func__", None) is not _NOTHING[name]:
                    if is_async(method):
                        raise TypeError(
                            f"{name} of observer {show(observer)} is async, and nobody would "
                            "await it; make it a plain method"
                        )
                    if not callable(method):
                        raise TypeError(
                            f"{name} of observer {show(observer)} must be a method, not "
                            f"{type(method).__name__!r}"
                        )
                    self.methods[name] = method
        # Whether it hears what becomes of receivers, and not only that there is a send.
        self.follows = bool(self.methods.keys() - {"sent"})

    def log(self, name: str, error: Exception) -> None:
        """Log what a method has raised, the first time."""
        claim = object()
        if self._logged.setdefault(name, claim) is claim:
            log_safely(
                logging.ERROR,
                "%s of observer %s raised; this is said once",
                name,
                show(self.observer),
                exc_info=error,
            )


Subscriptions = Sequence[Subscription]

_NOTHING = {name: getattr(Observer, name) for name in vars(Observer) if name[0] != "_"}

active: dict[Subscription, None] = {}
"""Who hears something, the first one first."""

_deaf: dict[Subscription, None] = {}
"""Who observes, and has overridden nothing."""

own: "dict[int, tuple[weakref.ref[object], Subscription]]" = {}
"""Who observes the sends of one signal alone; by the id of the signal, which has such a one from
the beginning."""

on_change: list[Callable[[], object]] = []
"""Called when anybody has come or gone; twice does no harm."""


def _changed() -> None:
    for function in on_change:
        function()


def observe(observer: Observer) -> Subscription:
    """Have ``observer`` told of all sends that start from now on."""
    subscription = Subscription(observer)
    open_again(subscription)
    return subscription


def open_again(subscription: Subscription) -> None:
    """Tell that one of all sends that start from now on; twice does no harm."""
    try:
        (active if subscription.methods else _deaf)[subscription] = None
        _changed()
    except BaseException:  # interrupted: it has not taken effect
        close(subscription)
        raise


def close(subscription: Subscription) -> None:
    """Tell that one nothing more; twice does no harm."""
    try:
        (active if subscription.methods else _deaf).pop(subscription, None)
    finally:
        _changed()


def is_open(subscription: Subscription) -> bool:
    """Whether it is told of what becomes of sends."""
    return subscription.of_one or subscription in active or subscription in _deaf


def observe_alone(signal: object, observer: Observer) -> None:
    """Have ``observer`` told of the sends of ``signal``, which has been sent by nobody yet."""
    forget = functools.partial(own.pop, id(signal))  # with the reference as its default
    own[id(signal)] = weakref.ref(signal, forget), Subscription(observer, of_one=True)


def has_own(signal: object) -> bool:
    """Whether somebody observes it alone."""
    return id(signal) in own


def who_observes(signal: object) -> list[Subscription]:
    """Those who hear something of a send of ``signal`` that starts now."""
    found = list(active)
    if own and (alone := own.get(id(signal))) is not None:
        found.append(alone[1])
    return found
