"""A send into an executor claims its ``once`` receivers, and gives back what that does not take.

It claims them before anything is handed over, for what is handed over may run at once. If the
executor refuses, or the send is interrupted before its deliveries are accepted, they are as before.
What is accepted is spent, whatever becomes of it: it may be cancelled, or dropped.
"""

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from typing import TypeVar

from tsignals._base.interrupts import apply_to_all
from tsignals._calling.tracking import Gate
from tsignals._calling.types import Receiver
from tsignals._delivery.delivery import GeneralSend, HasOptions, Live
from tsignals._delivery.watched import HandsOver, observed
from tsignals._registry.once import Once, OnceClaim

R = TypeVar("R")
IsTaken = Callable[[object], bool]
"""Whether a delivery was accepted, where the send has raised."""


def claiming(nothing: Callable[[], R], is_taken: IsTaken) -> Callable[[HandsOver[R]], HandsOver[R]]:
    """Have ``function`` hand over what no other send has claimed; ``nothing()`` if that is all.

    Who observes hears of what is handed over.
    """

    def decorate(function: HandsOver[R]) -> HandsOver[R]:
        @observed
        def hand_over(executor: Executor, mine: Live, send: GeneralSend) -> R:
            return function(executor, mine, send) if mine else nothing()

        @functools.wraps(function)
        def claim(executor: Executor, live: Live, send: GeneralSend) -> R:
            for connection, _ in live:
                if connection._options.once is not None:
                    return ClaimingSend(send, is_taken).hand_over(hand_over, executor, live)
            return hand_over(executor, live, send)

        return claim

    return decorate


class _Claimed:
    """A receiver that this send would call, and no other."""

    def __init__(self, once: Once, gate: Gate | None) -> None:
        self.once = once
        self.gate = gate
        self.claim = OnceClaim()
        self.place = -1  # among the deliveries, if it comes first


class ClaimingSend(GeneralSend):
    """A send that knows its deliveries."""

    __slots__ = ("_claimed", "_handed", "_is_taken")

    def __init__(self, send: GeneralSend, is_taken: IsTaken) -> None:
        self.share(send)
        self._is_taken = is_taken
        self._claimed: list[_Claimed] = []
        self._handed: list[tuple[Receiver, Future[object]]] = []

    def note(self, deliveries: Iterable[tuple[Receiver, Future[object]]]) -> None:
        self._handed += deliveries

    def hand_over(self, function: HandsOver[R], executor: Executor, live: Live) -> R:
        """Claim; call ``function``; give back what it has not taken."""
        is_taken, settled = self._is_taken, False
        try:
            result = function(executor, self._claim(live), self)
            self._is_taken = _all_taken
            return result
        finally:
            try:
                apply_to_all(self._settle, self._claimed)
                settled = True
            finally:
                if not settled:  # interrupted
                    self._is_taken = is_taken
                    apply_to_all(self._settle, self._claimed)
                # The deliveries know this.
                self._claimed, self._handed = [], []

    def _claim(self, live: Live) -> Live:
        mine: list[tuple[HasOptions, Receiver]] = []
        for pair in live:
            options = pair[0]._options
            if options.once is not None:
                claimed = _Claimed(options.once, options.gate)
                self._claimed.append(claimed)  # before it is entered: interrupted, it is given back
                if not claimed.once.enter(claimed.claim):
                    continue
                claimed.place = len(mine)
            mine.append(pair)
        return mine

    def _settle(self, claimed: _Claimed) -> None:
        once, gate, claim, place = claimed.once, claimed.gate, claimed.claim, claimed.place
        delivery = self._handed[place][1] if 0 <= place < len(self._handed) else None
        if delivery is None or not self._is_taken(delivery):
            once.give_back(claim)
            if gate is not None and not claim.is_given_back():
                gate.close()
        elif once.spend(claim) and gate is not None:
            # It lets the delivery through, as often as that is tried.
            gate.close_after(delivery)


def _all_taken(delivery: object) -> bool:
    return True
