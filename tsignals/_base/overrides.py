"""What a context has otherwise than the program: who is not called there, and what runs deliveries.

For tests; ``tsignals.testing`` sets it. An override holds in its context and in every copy of that,
such as those that deliveries run in.

Nobody looks for one but where sends are followed (``observers``). So who sets one observes what
becomes of receivers for as long as any context may have it, and all others pay nothing.
"""

from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

from tsignals._base import observers
from tsignals._base.around import Around

T = TypeVar("T")

active = observers.active
"""Empty where there can be no override."""


class DeliveryInfo(NamedTuple):
    """What is known of a delivery."""

    signal: object
    sender: object
    receiver: object
    is_async: bool
    lane: Hashable
    """Those of one lane, of an ordered receiver, run one at a time; ``None``: in no lane."""


class TakesDeliveries(Executor):
    """An executor that is told what it is given, and sees itself to the order of ordered ones."""

    around: Around | None = None
    """What the receivers are called inside of."""

    def take(self, call: Callable[[], object], info: DeliveryInfo) -> "Future[object]":
        """Run ``call()``, now or later; return its future."""
        raise NotImplementedError


class TakesInside(TakesDeliveries):
    """Another one, with something around the receivers."""

    def __init__(self, taker: TakesDeliveries, around: Around) -> None:
        self._taker = taker
        self.around = around

    def take(self, call: Callable[[], object], info: DeliveryInfo) -> "Future[object]":
        return self._taker.take(call, info)


class Override:
    """What one context has otherwise."""

    default: Executor | None = None  # the default executor there
    taker: TakesDeliveries | None = None  # takes all deliveries, in place of every executor

    def mutes(self, signal: object, receiver: object) -> bool:
        """Whether ``receiver`` is not called."""
        return False

    def captures(self, signal: object) -> bool:
        """Whether it is to see ``signal`` sent, also where nobody hears it."""
        return False


here: ContextVar[tuple[Override, ...]] = ContextVar("tsignals_overrides", default=())
"""Those of this context; the last one comes first."""


def unmuted(
    signal: object, live: list[tuple[T, Callable[..., object]]]
) -> list[tuple[T, Callable[..., object]]]:
    """The receivers of ``live``, each with its connection, that are called here."""
    overrides = here.get()
    if not overrides:
        return live
    return [pair for pair in live if not any(each.mutes(signal, pair[1]) for each in overrides)]


def is_captured(signal: object) -> bool:
    """Whether a test captures ``signal``, by name, in this context (``tsignals.testing.capture``).

    For who asks ``signal.has_listeners`` before it sends, to save what that costs: the test is to
    see what no receiver hears.

    Thread safety: from any thread.
    """
    return bool(active) and _is_captured_here(signal)  # quickly: servers ask for each request


def _is_captured_here(signal: object) -> bool:
    return any(each.captures(signal) for each in here.get())


def default_here() -> Executor | None:
    """The default executor of this context, if that has one."""
    defaults = (each.default for each in reversed(here.get()))
    return next((default for default in defaults if default is not None), None)


def taker_for(executor: Executor | None, around: Around | None) -> Executor | None:
    """What takes here what is for ``executor``, which has that around receivers; ``None``: that."""
    if isinstance(executor, TakesDeliveries):
        return None
    for override in reversed(here.get()):
        # Each is read once: where the block ends meanwhile, it is gone.
        if executor is None and (default := override.default) is not None:
            return default
        if (taker := override.taker) is not None:
            return taker if around is None else TakesInside(taker, around)
    return None
