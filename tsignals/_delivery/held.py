"""Deliveries of a pool that are held back until somebody submits them; see ``prepared``.

Invariants
    H1  Whoever comes first in a delivery's ``_decisions`` resolves it, or has it admitted. That
        list is only appended to; one whose admission was interrupted gets a new one.
    H2  A delivery is ``_held`` until all of its send is queued, or it waits for its turn to be run
        by who submits it. As long as it is not among the core's ``unresolved`` either, it is not
        counted, and only who comes first in H1 resolves it. From then on it is a delivery like any
        other.
    H3  A worker that waits runs nothing that is held: it sleeps. Whoever lets a delivery go clears
        ``_held`` and *then* wakes those who sleep; a worker enters itself among these and *then*
        looks at ``_held``. By then a delivery has its turn in its lane: so who finds it let go, and
        *then* looks what stands before it, does not run it out of its turn.
    H4  Until it is queued, only its ``Prepared`` and who has its ``Deliveries`` keep it alive; the
        pool and the gate hold it weakly. For it knows what was sent, by whom and in which context,
        and any of these may know the ``Prepared``, which then would never be lost.
"""

import weakref
from typing import cast

from tsignals._base.atomic import comes_first
from tsignals._base.interrupts import critical, foreign, refuse_if_deep
from tsignals._delivery.delivery import Delivery, GeneralSend, SingleDelivery
from tsignals._pool.future import FINISHED


class Weakly(weakref.ref["Held"]):
    """A held delivery for those who must not keep it (H4)."""

    __slots__ = ()

    def cancel(self) -> None:
        """Cancel it, unless it has started: for its gate."""
        if (held := self()) is not None:
            held._cancel_unstarted()


class Held(Delivery):
    """What such a delivery is besides."""

    __slots__ = ()

    _decisions: list[object]  # H1
    _held: bool  # H2
    _weakly: Weakly  # H4

    def _hold(self) -> None:
        """From now on a forked child finds it, and a gate that is closed."""
        self._core.prepared[self._weakly] = None
        if self._gate is not None:
            self._gate.enqueue(self._weakly)

    def _dequeue(self) -> None:
        super()._dequeue()
        if (gate := self._gate) is not None:
            gate.dequeue(self._weakly)

    def _leave(self) -> None:
        super()._leave()
        self._core.prepared.pop(self._weakly, None)

    def cancel(self) -> bool:
        if super().cancel():
            return True
        if self._held:  # another thread may be about to cancel it
            for first in self._decisions[:1]:
                return isinstance(first, tuple) and first[0] == "cancelled"
        return False

    def _decide(self, claim: object) -> bool:
        """Whether ``claim`` comes first; asked again, it gives the same answer."""
        return comes_first(self._decisions, claim)

    @critical
    def _end(self, how: str, error: BaseException | None, phase: str = FINISHED) -> bool:
        if not self._held or self in self._core.backlog.unresolved:  # H2
            return super()._end(how, error, phase)
        refuse_if_deep()
        return self._core.end_uncounted(self, how, error, 0, self._decide, phase)

    @foreign
    def _tell_unsent(self, error: BaseException) -> None:
        """Tell that it could not be queued; in the context in which it would have run."""
        send = cast(GeneralSend | None, self._send)  # as all that is held is made for one
        if send is not None:
            send.report_in(send._context.copy(), self.receiver, error)  # it was in no queue

    def _release_hold(self) -> None:
        """It is queued: workers that wait for it may run it (H3)."""
        self._core.prepared.pop(self._weakly, None)
        self._held = False
        self._wake_waiters()


class HeldDelivery(Held, SingleDelivery):
    """That of a sync receiver; of an async one, see ``async_delivery``."""

    __slots__ = ("_decisions", "_held", "_weakly")
