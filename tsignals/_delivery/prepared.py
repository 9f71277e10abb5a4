"""``Prepared``: a ``send_async`` in two steps. First its deliveries, later their admission.

Until it is submitted it counts nowhere. Whether it is submitted or dropped is decided in a list to
which everybody appends, and in which the first entry counts. Each delivery has one of its own, for
it may be taken back before (``cancel``): see ``held``.

An interrupted ``submit`` has admitted all or nothing. If nothing, the claims are taken back: it may
be submitted again, or dropped.

What nobody has submitted or resolved is in ``core.prepared``, where a forked child finds what is
its parent's, and resolves it. That keeps nothing alive. So a ``Prepared`` goes when its user lets
it go, on whatever thread that is, and drops what is left; also where what was sent knows it (a
session that is the sender, and keeps what it is to submit).

For other executors see ``other_executors``.
"""

import contextlib
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Protocol

from tsignals._base.atomic import comes_first
from tsignals._base.identity import SameWhenCopied
from tsignals._base.interrupts import apply_to_all, refuse_if_deep
from tsignals._base.process import notice, page
from tsignals._delivery.claiming import claiming
from tsignals._delivery.deliveries import Deliveries
from tsignals._delivery.delivery import GeneralSend, Live
from tsignals._delivery.held_in_pool import HeldInPool
from tsignals._delivery.lanes_of_sends import asking
from tsignals._delivery.other_executors import HeldElsewhere
from tsignals._pool.pool import WorkerPool


class Prepared(SameWhenCopied):
    """A send that waits to be submitted: what ``Signal.prepare`` returns.

    ``deliveries``: the ``Deliveries``, pending, which count nowhere yet. ``cancel()`` of one takes
    it back.

    Who loses the last reference to it drops it: keep it for as long as it is to wait. In a forked
    child it is lost (``DeliveryLost``; in an executor that is no ``WorkerPool``, its deliveries
    stay pending): the parent's is the one to submit.

    Thread safety: every method from any thread, finalizer and signal handler. Of several calls the
    first decides, and the others do nothing.
    """

    __slots__ = ("__weakref__", "_claims", "_held", "deliveries")

    deliveries: Deliveries
    _claims: list[object]
    _held: "_HeldSend | None"  # None: there is nobody to call

    def __init__(self) -> None:
        raise TypeError("cannot make a Prepared; signal.prepare(sender, ...) does")

    def submit(self) -> None:
        """Have the executor take the deliveries, as ``send_async`` does: all, or none of them.

        What that raises (``QueueFull``, ``PoolClosed``, ``BrokenExecutor``, ``RuntimeError`` when
        no thread can be started) is the failure of each of them, and is told; it is not raised.
        While it waits for room, ``cancel()`` cannot take a sync receiver's delivery back any more.
        """
        refuse_if_deep()
        held, claims, claim = self._held, self._claims, object()
        if held is None:
            return
        try:
            if comes_first(claims, claim):
                held.submit(claim)
        finally:
            if claims[:1] == [claim] and held.is_held():  # interrupted
                self._claims = []

    def drop(self) -> None:
        """Resolve the deliveries with ``DeliveryDropped``; none of them runs.

        A ``WorkerPool`` counts them as submitted and dropped.
        """
        refuse_if_deep()
        if self._held is not None:
            apply_to_all(self._drop, [object()])
            self._held.raise_interrupt()

    def _drop(self, claim: object) -> None:
        if self._held is not None and comes_first(self._claims, claim):
            self._held.drop()

    # Nobody else has it any more. Whoever decided has done it, or was interrupted. What waits to be
    # raised goes on waiting: what is raised here goes nowhere.
    def __del__(self, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
        send: _HeldSend | None = getattr(self, "_held", None)
        if send is not None and not _ending():
            try:
                apply_to_all(_drop_lost, [send])
            except RecursionError:
                _undropped.append(send)

    def __repr__(self) -> str:
        return f"<Prepared: {len(self.deliveries)} deliveries>"

    def __reduce__(self) -> str:
        raise TypeError("cannot pickle a Prepared: its deliveries belong to this process")


def _drop_lost(send: "_HeldSend") -> None:
    refuse_if_deep()
    send.drop()


_undropped: "list[_HeldSend]" = []
"""What was lost so deep in a stack that it could not be dropped; the next ``prepare`` does."""


class _HeldSend(Protocol):
    """The deliveries of one send, held back."""

    def submit(self, claim: object) -> None: ...
    def drop(self) -> None: ...
    def is_held(self) -> bool: ...
    def raise_interrupt(self) -> None: ...


def prepare_nothing() -> Prepared:
    """What a send to nobody gives, and every other begins with."""
    prepared = object.__new__(Prepared)
    prepared.deliveries, prepared._claims, prepared._held = Deliveries(), [], None
    return prepared


def _is_never_taken(delivery: object) -> bool:
    """Who has called ``prepare``, and was interrupted, has nothing to submit."""
    return False


@asking
@claiming(prepare_nothing, _is_never_taken)
def prepare(executor: Executor, live: Live, send: GeneralSend) -> Prepared:
    """Hold back what ``dispatch.deliver`` would hand over."""
    if not page[0]:
        notice()
    while _undropped:
        with contextlib.suppress(IndexError):  # another thread has it
            _undropped.pop().drop()
    prepared = prepare_nothing()
    held: HeldInPool | HeldElsewhere
    if isinstance(executor, WorkerPool):
        held = HeldInPool(executor, live, send, prepared.deliveries)
    else:
        held = HeldElsewhere(executor, live, send, prepared.deliveries)
    prepared._held = held
    send.note(prepared.deliveries)
    held.hold()  # not before: from here on, losing ``prepared`` undoes it
    return prepared
