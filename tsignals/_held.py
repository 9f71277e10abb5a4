"""Deliveries of a pool that are held back until somebody submits them; see ``_prepared``.

Invariants
    H1  Whoever comes first in a delivery's ``_claims`` resolves it, or has it admitted. That list
        is only appended to; one whose admission was interrupted gets a new one.
    H2  A delivery is ``_held`` until all of its send is queued, or it waits for its turn to be run
        by who submits it. As long as it is not among the
        engine's ``unresolved`` either, it is not counted, and resolved by its first claim only.
        From then on it is a delivery like any other.
    H3  A worker that waits runs nothing that is held: it sleeps. Whoever lets a delivery go clears
        ``_held`` and *then* wakes those who sleep; a worker enters itself among these and *then*
        looks at ``_held``. By then a delivery has its turn in its lane: so who finds it let go, and
        *then* looks what stands before it, does not run it out of its turn.
    H4  Until it is queued, only its ``Prepared`` and who has its ``Deliveries`` keep it alive; the
        pool and the gate hold it weakly. For it knows what was sent, by whom and in which context,
        and any of these may know the ``Prepared``, which then would never be lost.
"""

import threading
import time
import weakref

from tsignals._critical import critical, foreign, refuse_if_deep
from tsignals._delivery import Delivery, Sending, TermsDelivery
from tsignals._future import FINISHED, Mark, comes_first


class Weakly(weakref.ref["Held"]):
    """A held delivery for those who must not keep it (H4)."""

    __slots__ = ()

    def cancel(self) -> None:
        """Cancel it, unless it has started: for its gate."""
        if (work := self()) is not None:
            work._cancel_unstarted()


class Held(Delivery):
    """What such a delivery is besides."""

    __slots__ = ()

    _claims: list[object]  # H1
    _sending: Sending | None
    _held: bool  # H2
    _weakly: Weakly  # H4

    def _hold(self) -> None:
        """From now on a forked child finds it, and a gate that is closed."""
        self._pool.prepared[self._weakly] = None
        if self._gate is not None:
            self._gate.enqueue(self._weakly)

    def _forget(self) -> None:
        super()._forget()
        if self._gate is not None:
            self._gate.dequeue(self._weakly)

    _cancel_unstarted = Delivery.cancel

    def cancel(self) -> bool:
        if super().cancel():
            return True
        if self._held:  # another thread may be about to cancel it
            for first in self._claims[:1]:
                return isinstance(first, tuple) and first[0] == "cancelled"
        return False

    def _decide(self, claim: object) -> bool:
        """Whether ``claim`` comes first; asked again, it gives the same answer."""
        return comes_first(self._claims, claim)

    @critical
    def _end(self, counter: str, error: BaseException | None, phase: str = FINISHED) -> bool:
        if not self._held or self in self._pool.unresolved:  # H2
            return super()._end(counter, error, phase)
        refuse_if_deep()
        mark = (counter, threading.get_ident())
        try:
            if not self._decide(mark):
                return False
            self._resolve_uncounted(mark, error, phase)
        except BaseException:  # interrupted, or by a callback: what is left is done again
            if any(first is mark for first in self._claims[:1]):
                self._resolve_uncounted(mark, error, phase)
            raise
        return True

    @critical
    def _resolve_uncounted(
        self, mark: Mark, error: BaseException | None, phase: str = FINISHED
    ) -> None:
        """Resolve it, which is counted elsewhere or nowhere, for who came first (H1)."""
        try:
            self._resolve_by(mark, error, phase)
        except BaseException:  # interrupted, or by a callback: what is left is done again
            self._resolve_by(mark, error, phase)
            raise

    def _resolve_by(self, mark: Mark, error: BaseException | None, phase: str) -> None:
        if mark not in self._fate:
            self._fate.append(mark)
        if self._owner is mark:  # and not forked meanwhile
            self._forget()
            self._settle(None, error, phase)
        self._pool.prepared.pop(self._weakly, None)

    @foreign
    def _tell_unsent(self, error: BaseException) -> None:
        """Tell that it could not be queued; in the context in which it would have run."""
        sending = self._sending
        if sending is not None:
            waited = max(0.0, time.perf_counter() - sending.queued_at)
            sending.tell_in(sending.context.copy(), self.receiver, error, waited)

    def _let_go(self) -> None:
        """It is queued: workers that wait for it may run it (H3)."""
        self._pool.prepared.pop(self._weakly, None)
        self._held = False
        meeting = self._met()
        if meeting is not None:
            for sleeper in meeting.sleepers.copy():
                sleeper.put(None)


class HeldDelivery(Held, TermsDelivery):
    """That of a sync receiver; of an async one, see ``_loop``."""

    __slots__ = ("_claims", "_held", "_weakly")
