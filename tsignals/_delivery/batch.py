"""One send's way through a pool: one entry in the queue for all of its deliveries.

Whichever worker takes the entry puts it back for the next one, as long as there is more than one
delivery left, and then takes one delivery after the other.

Nobody asks most deliveries anything while they wait or run. So they have no ``_claims`` of their
own: whoever does ask (to cancel one, to run it, to be told of its end) makes them, in ``asked``,
which the first who asks appends to ``deliveries``.

Invariants
    F1  An index leaves ``_stack`` once, by ``pop``, and only a worker pops. Whoever has popped it
        runs the delivery, unless that is claimed, or the process was forked: it looks into
        ``asked`` afterwards. Whoever claims one enters its claim first and then looks whether its
        index is still in ``_stack``; if so, the worker that pops it will find the claim, and the
        first one there decides; if not, it is a worker's. Both look by an operation on ``_stack``,
        which orders them with and without the GIL.
    F2  A worker stores the outcome of what ends well, then the phase, and then looks whether
        anybody has asked; who comes to be told enters and then looks at the phase. Between their
        two steps both change ``deliveries``, which orders these, as in ``future``.
    F3  A delivery stays in ``deliveries`` until it is resolved and its callbacks have run, and a
        batch that was queued in ``unresolved`` as long as there is one. Of two who look whether any
        is left, the later sees what both have taken out: an operation on the list orders them.
    F4  One that is to be run again is asked about from then on, and its claims alone decide: it is
        nobody's that has taken it, nor in ``_stack``. It goes into the queue by itself.

As long as more than one is left, the entry is in the queue, or with a worker that has yet to put
it back. So none is left behind, also by a worker that stays in a slow receiver.
"""

from collections.abc import Iterable
from typing import Any

from tsignals._base.interrupts import critical
from tsignals._delivery.delivery import Delivery
from tsignals._pool.core import Core
from tsignals._pool.pauses import Claims, read
from tsignals._pool.seam import Claim
from tsignals._pool.task import Entry, Task

_SOMEBODY: Claim = ("run", 0)
"""In place of the claim of a worker that has only just taken a delivery."""


class Asked(dict[int, Claims]):
    """What has been asked about the deliveries of a batch, by index (F1, F2)."""

    __slots__ = ("last",)
    last: int  # no delivery of a later index is left

    def __bool__(self) -> bool:
        return False  # among the deliveries it is none that is left


class Batch(Entry):
    """The deliveries of one send that may run side by side."""

    __slots__ = ("__weakref__", "_stack", "asked", "core", "deliveries")  # pyright: ignore[reportIncompatibleVariableOverride]

    _is_batch = True

    core: Core
    asked: Asked | None  # None: nobody has asked
    _stack: list[int]  # the indices of those that no worker has taken, the first one last
    deliveries: "list[BatchDelivery | Asked | None]"  # F3; by index

    def ask(self) -> Asked:
        """What somebody has asked about its deliveries, or may enter now."""
        asked = self.asked
        if asked is None:
            asked = Asked()
            asked.last = len(self.deliveries)
            self.deliveries.append(asked)
            # That of the first: all agree on it.
            asked = next(each for each in self.deliveries.copy() if isinstance(each, Asked))
            self.asked = asked
        return asked

    @critical
    def _take(self, claim: Claim) -> "BatchDelivery | None":
        stack, deliveries = self._stack, self.deliveries
        while stack:
            try:
                index = stack.pop()
            except IndexError:  # another worker has taken the last
                return None
            delivery: Any = deliveries[index]
            if delivery is None:  # it has ended without having run
                continue
            if (asked := self.asked) is None or index not in asked:
                delivery._taken_by = claim
            elif not delivery._contend(claim):
                continue
            return delivery  # type: ignore[no-any-return]
        return None

    def _tasks(self) -> list[Task]:
        return [each for each in self.deliveries.copy() if isinstance(each, Task)]

    def _oldest(self) -> Task | None:
        left: Iterable[Any] = filter(None, self.deliveries)
        return next((delivery for delivery in left if delivery._claimed_by is None), None)

    def _leave_if_over(self) -> None:
        """Once all have ended, know nothing of the send: the entry may yet stay in the queue."""
        deliveries, asked = self.deliveries, self.asked
        deliveries.extend(())  # F3
        if asked is not None:
            # Not all of them each time one ends: those behind this index have ended for ever.
            index = min(asked.last, len(deliveries) - 1)
            while index >= 0 and not deliveries[index]:
                index -= 1
            asked.last = index
            if index >= 0:
                return
        elif any(reversed(deliveries)):  # these often end in their order
            return
        self.forget_sent()
        self.core.backlog.unresolved.pop(self, None)

    def forget_sent(self) -> None:
        """Drop what was sent; its finalizers may call anything, also what waits."""


class BatchDelivery(Delivery):
    """One that shares what it can with the others of its batch."""

    __slots__ = ("_index", "_send", "_taken_by")
    _index: int  # among them
    _taken_by: Claim  # of the worker that has taken it without asking who else wants it
    _batch: Batch

    @property
    def _entry(self) -> Entry:
        return self._batch

    @property
    def _claims(self) -> Claims:
        batch = self._batch
        done = self.done()
        claims = None if done else batch.ask().setdefault(self._index, [])
        batch.deliveries.extend(())  # F2
        if done and batch.asked is not None:  # nothing is decided there any more
            claims = batch.asked.get(self._index)
        return [] if claims is None else claims

    # With this, it is read and set like the variable that it is elsewhere.
    @_claims.setter
    def _claims(self, claims: Claims) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._batch.ask()[self._index] = claims

    @property
    def _claimed_by(self) -> Claim | None:
        asked = self._batch.asked
        claims = () if asked is None else asked.get(self._index, ())
        if claims and self._retry is not None:
            decides, pause, _ = read(claims)
            if pause is not None:
                return decides  # F4
        for entry in claims:
            if type(entry) is tuple:
                return entry
        taken_by: Claim | None = getattr(self, "_taken_by", None)
        return taken_by or (None if self._waits() else _SOMEBODY)

    def _waits(self) -> bool:
        """Whether no worker has taken it from the stack."""
        stack = self._batch._stack
        stack.extend(())  # F1
        first = stack[-1:]  # of those that are left
        return bool(first) and first[0] <= self._index

    def _claim(self, claim: Claim) -> bool:
        claims = self._claims
        if not self._waits() and self._last_pause() is None:
            return False
        claims.append(claim)
        return claims[0] is claim or self._claimed_by is claim

    def _contend(self, claim: Claim) -> bool:
        """Whether the worker that has taken it, and found a claim, owns it."""
        self._claims.append(claim)
        return self._claimed_by is claim

    def _leave_unless_asked(self) -> bool:
        batch, index = self._batch, self._index
        batch.deliveries[index] = self  # as it was; and then the look (F2)
        if (asked := batch.asked) is None:
            # As below; the worker that has run it looks whether all have ended.
            batch.deliveries[index] = None
            return True
        if index in asked:
            return False
        self._leave()
        return True

    def _leave(self) -> None:
        batch, index = self._batch, self._index
        batch.deliveries[index] = None
        if (asked := batch.asked) is None:
            return  # the worker that has run it looks whether all have ended
        self._core.forget(self)
        self._drop_waiters(asked)
        batch._leave_if_over()

    def _drop_waiters(self, asked: Asked) -> None:
        """They need not live as long as its siblings. Who looks through them sees it to the end."""
        claim, waiters = self._claimed_by, self._find_waiters()
        if claim is None or waiters is None:
            return
        if waiters.views or waiters.installed:
            waiters.callbacks.clear()
        else:
            asked[self._index] = [claim]
