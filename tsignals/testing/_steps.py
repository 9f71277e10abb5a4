"""``Steps``: deliveries run when the test says so."""

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Self

from tsignals import PoolClosed
from tsignals._base.overrides import DeliveryInfo
from tsignals.testing._here import LocalDelivery, LocalExecutor, Takes
from tsignals.testing._scope import Block, Scope, is_same


class _Steps(Block):
    def __init__(self, steps: "Steps") -> None:
        self._steps = steps

    def _begin(self) -> Scope:
        return Takes(self._steps)


class Steps(LocalExecutor):
    """An executor whose deliveries wait, and run when the test says so, in the order it says.

    As a context manager it takes all deliveries of this context, and of what that sets off,
    whatever executor they are for; at the end of the block those that have not run are cancelled.
    Without that, it is the executor of those who are given it, as any other.

    Deliveries run in the thread that calls ``run``, otherwise as under ``inline``. Nothing runs
    them while somebody waits for their results.

    Thread safety: every method from any thread; each delivery runs once.
    """

    def __init__(self) -> None:
        self._deliveries: dict[int, LocalDelivery] = {}  # until they have ended; by id, in order
        self._closed = False
        self._cancels = False  # what waits, and what still comes
        self._block = _Steps(self)

    @property
    def pending(self) -> list[LocalDelivery]:
        """The deliveries that wait, in the order in which they came; a new list.

        Each has ``signal``, ``sender`` and ``receiver``, as ``tsignals.Delivery``.
        """
        waiting = []
        for delivery in list(self._deliveries.values()):
            if delivery.done():  # cancelled
                self._deliveries.pop(id(delivery), None)
            elif delivery.waits:
                waiting.append(delivery)
        return waiting

    def run(self, which: "Future[object] | Callable[..., object] | None" = None) -> LocalDelivery:
        """Run one delivery to its end, in this thread; return it.

        which: a delivery, or a receiver: the first that waits for it; ``None``: the first of all.

        What the receiver raises is the delivery's. Raises ``LookupError`` where there is nothing
        of that kind to run, and ``RuntimeError`` for an ordered delivery whose turn has not come;
        then nothing was run.
        """
        while True:
            delivery = self._find(which)
            try:
                if delivery.run():
                    return delivery
            finally:
                if delivery.done():  # or another thread runs it, and what is behind it waits
                    self._deliveries.pop(id(delivery), None)

    def run_all(self) -> int:
        """Run what waits, one after the other, and what comes meanwhile; return how many ran.

        Of an ordered receiver, what stands behind a delivery that somebody else runs stays.
        """
        count = 0
        while free := [each for each in self.pending if self._before(each) is None]:
            with contextlib.suppress(LookupError):  # another thread came first
                self.run(free[0])
                count += 1
        return count

    def take(self, call: Callable[[], object], info: DeliveryInfo) -> "Future[object]":
        if self._closed:
            raise PoolClosed("cannot deliver: these Steps are closed")
        delivery = LocalDelivery(call, info)
        self._deliveries[id(delivery)] = delivery
        if self._cancels:  # shut down meanwhile
            self._cancel_all()
        return delivery

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more: ``PoolClosed``. ``cancel_futures``: cancel what waits; else it can run.

        ``wait`` changes nothing: who would wait is the one who runs them.
        """
        self._closed = True
        if cancel_futures:
            self._cancels = True
            self._cancel_all()

    def _cancel_all(self) -> None:
        for delivery in self.pending:
            if delivery.cancel():
                self._deliveries.pop(id(delivery), None)

    def __enter__(self) -> Self:
        if self._closed:
            raise RuntimeError("these Steps are closed; make others")
        self._block.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._block.__exit__(*error)
        self.shutdown(cancel_futures=True)

    def __repr__(self) -> str:
        return f"<Steps: {len(self.pending)} wait>"

    def _find(self, which: "Future[object] | Callable[..., object] | None") -> LocalDelivery:
        before = None
        for delivery in self.pending:
            # A prepared send has a stand-in for each.
            own = which is delivery or getattr(which, "_own", None) is delivery
            if which is None or own or is_same(delivery.receiver, which):
                before = self._before(delivery)
                if before is None:
                    return delivery
                if own:
                    break
        if before is not None:
            raise RuntimeError(
                f"cannot run it: its receiver is ordered, and {before!r} comes first"
            )
        wanted = "nothing" if which is None else f"nothing like {which!r}"
        raise LookupError(f"{wanted} waits to be run; pending are {self.pending!r}")

    def _before(self, delivery: LocalDelivery) -> LocalDelivery | None:
        """What has to end before ``delivery`` may run."""
        if delivery.lane is not None:
            for other in list(self._deliveries.values()):
                if other is delivery:
                    break
                if other.lane == delivery.lane and not other.done():
                    return other
        return None
