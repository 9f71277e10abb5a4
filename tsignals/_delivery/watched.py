"""A send into an executor that somebody observes: its deliveries, each with a watch."""

import functools
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from typing import TypeVar

from tsignals._base import observers
from tsignals._base.interrupts import apply_to_all
from tsignals._base.telling import ObservedSend
from tsignals._base.watches import Watch
from tsignals._calling.types import Named, Receiver
from tsignals._delivery.delivery import Delivery, GeneralSend, HasSender, Live
from tsignals._delivery.stand_in import StandIn

R = TypeVar("R")
HandsOver = Callable[[Executor, Live, GeneralSend], R]
"""Hands the receivers of a send over to an executor."""


def observed(function: HandsOver[R]) -> HandsOver[R]:
    """Have those told who observe of what ``function`` hands over to an executor."""

    @functools.wraps(function)
    def hand_over(executor: Executor, live: Live, send: GeneralSend) -> R:
        # Before the call: while nobody observes anything, nothing is paid.
        if not (observers.active or observers.own) or not observers.who_observes(send.signal):
            return function(executor, live, send)
        return WatchedSend(send, live).hand_over(function, executor, live)

    return hand_over


class WatchedSend(GeneralSend):
    """A send that knows the watches of its deliveries.

    By the ids of these, which know it: while a delivery looks for its watch, it lives.
    """

    __slots__ = (
        "_arguments",
        "_coming",
        "_left",
        "_mode",
        "_observed",
        "_pairs",
        "_target",
        "_unwatched",
        "_watches",
    )

    def __init__(self, send: GeneralSend, live: Live) -> None:
        self._unwatched = send
        self.share(send)
        self._mode, self._arguments, self._target = send._mode, send._arguments, send._target
        # Set here only, so never to None.
        self._watches: dict[int, Watch] = {}  # pyright: ignore[reportIncompatibleVariableOverride]
        self._observed = ObservedSend(self.signal, self.sender, self._mode)
        self._coming = [Watch(self._observed, n, receiver) for n, (_, receiver) in enumerate(live)]
        for watch in self._coming:
            watch.context = self._context
        self._left = self._coming.copy()  # that no call in another executor has taken
        self._pairs: list[tuple[Watch, Future[object]]] = []  # while it is handed over

    def hand_over(self, function: HandsOver[R], executor: Executor, live: Live) -> R:
        """Tell that it is sent; call ``function``, and tell of what that does not take."""
        try:
            receivers = [watch.receiver for watch in self._coming]
            self._observed.announce(self.sender, self.values(), receivers)
            send = self if self._observed.is_followed else self._unwatched
            return function(executor, live, send)
        except BaseException as error:
            apply_to_all(self._refuse, [error])  # once more, if it is interrupted
            raise
        finally:
            self._pairs = []

    def _keywords_for(self, of: HasSender) -> Named:
        return self._unwatched._keywords_for(of)

    def note(self, deliveries: Iterable[tuple[Receiver, Future[object]]]) -> None:
        """These are the next ones, in the order of the receivers."""
        self._unwatched.note(deliveries)
        for _, future in deliveries:
            watch = self._coming[0]
            self._watches[id(future)] = watch
            self._pairs.append((watch, future))
            self._coming.pop(0)  # not before: interrupted, it is found in one of the two
            # A gate holds a stand-in, which must not hold what knows the Prepared.
            weak = functools.partial(_done, weakref.ref(watch))
            future.add_done_callback(weak if isinstance(future, StandIn) else watch.done)

    def watch_for(self, receiver: Receiver) -> Watch | None:
        """The watch of a call of ``receiver`` in another executor."""
        for watch in self._left:
            if watch.receiver is receiver and not watch.is_over:
                self._left.remove(watch)
                return watch
        return None

    def _refuse(self, error: BaseException) -> None:
        """Tell of those that were not taken."""
        try:
            known = dict(self._pairs)
            refused = [watch for watch in known if not is_taken(known[watch])]
            refused += [watch for watch in self._coming if watch not in known]
            apply_to_all(functools.partial(Watch.give_up, error=error), refused)
        finally:
            del error  # or the traceback, this frame and the error form a cycle


def _done(reference: "weakref.ref[Watch]", future: "Future[object]") -> None:
    if (watch := reference()) is not None:
        watch.done(future)


def is_taken(future: object) -> bool:
    """Whether its executor runs it, or has; its callback tells how it ends."""
    if isinstance(future, StandIn):
        return False  # who prepares it was interrupted: nobody will submit it
    return not isinstance(future, Delivery) or future._core.backlog.was_admitted(future)
