"""Deliveries of a pool that are held back until somebody submits them; see ``_prepared``.

Invariants
    H1  Whoever comes first in a delivery's ``_claims`` resolves it, or has it admitted. That list
        is only appended to; one whose admission was interrupted gets a new one.
    H2  A delivery is ``_held`` until all of its send is queued. As long as it is not among the
        engine's ``unresolved`` either, it is not counted, and resolved by its first claim only.
        From then on it is a delivery like any other.
    H3  A worker that waits runs nothing that is held: it sleeps. Whoever lets a delivery go clears
        ``_held`` and *then* wakes those who sleep; a worker enters itself among these and *then*
        looks at ``_held``.
"""

import threading
import time

from tsignals._critical import critical, foreign
from tsignals._delivery import Delivery, TermsDelivery
from tsignals._future import FINISHED, Mark


class Held(Delivery):
    """What such a delivery is besides."""

    __slots__ = ()

    _claims: list[object]  # H1
    _held: bool  # H2

    def _decide(self, claim: object) -> bool:
        """Whether ``claim`` comes first; asked again, it gives the same answer."""
        claims = self._claims
        claims.append(claim)
        return claims[0] is claim

    def _end(self, counter: str, error: BaseException | None, phase: str = FINISHED) -> bool:
        if self._held and self not in self._pool.unresolved:  # H2
            mark = (counter, threading.get_ident())
            if not self._decide(mark):
                return False
            self._resolve_uncounted(mark, error, phase)
            return True
        return super()._end(counter, error, phase)

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
        self._pool.prepared.pop(self, None)

    @foreign
    def _tell_unsent(self, error: BaseException) -> None:
        """Tell that it could not be queued; in the context in which it would have run."""
        sending = self._sending
        if sending is not None:
            waited = max(0.0, time.perf_counter() - sending.queued_at)
            sending.context.copy().run(
                sending.tell,
                self.signal,
                self.sender,
                self.receiver,
                error,
                sending.mode,
                waited,
                0.0,
                sending.named,
            )

    def _let_go(self) -> None:
        """It is queued: workers that wait for it may run it (H3)."""
        self._pool.prepared.pop(self, None)
        self._held = False
        meeting = self._met()
        if meeting is not None:
            for sleeper in meeting.sleepers.copy():
                sleeper.put(None)


class HeldDelivery(Held, TermsDelivery):
    """That of a sync receiver; of an async one, see ``_loop``."""

    __slots__ = ("_claims", "_held")
