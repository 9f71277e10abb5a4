"""``inline``: deliveries run where they are sent."""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from tsignals._base.overrides import DeliveryInfo
from tsignals.testing._here import LocalDelivery, LocalExecutor, Takes
from tsignals.testing._scope import Block, Scope


class _RunsHere(LocalExecutor):
    """Runs what it takes at once.

    An ordered delivery that comes while its receiver runs, from that itself or in another thread,
    waits in a lane; who runs the receiver runs it then.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may send in between
        self._lanes: dict[Hashable, deque[LocalDelivery]] = {}

    def take(self, call: Callable[[], object], info: DeliveryInfo) -> "Future[object]":
        delivery = LocalDelivery(call, info)
        if info.lane is None:
            delivery.run()
        elif self._enters(delivery):
            self._run_lane(delivery)
        return delivery

    def _enters(self, delivery: LocalDelivery) -> bool:
        """Have it wait, if its lane is busy; else that is so from now on."""
        with self._lock:
            lane = self._lanes.get(delivery.lane)
            if lane is None:
                self._lanes[delivery.lane] = deque()
            else:
                lane.append(delivery)
            return lane is None

    def _run_lane(self, delivery: LocalDelivery | None) -> None:
        key = None if delivery is None else delivery.lane
        interrupt: BaseException | None = None
        while delivery is not None:
            try:
                delivery.run()
            except BaseException as raised:  # Ctrl-C: the others are not left waiting for ever
                interrupt = raised
            with self._lock:
                lane = self._lanes[key]
                delivery = lane.popleft() if lane else None
                if delivery is None:
                    del self._lanes[key]
        try:
            if interrupt is not None:
                raise interrupt
        finally:
            del interrupt  # or the traceback, this frame and the error form a cycle


class Inline(Block):
    """What ``inline`` gives."""

    def _begin(self) -> Scope:
        return Takes(_RunsHere())


def inline() -> Inline:
    """Have deliveries run at once, in the thread that sends them, in a ``with`` block.

    Those of ``send_async`` and of ``background`` receivers have ended when the send returns, and
    those of ``prepare`` when ``submit`` does; whatever executor a signal, a receiver or a view has,
    ``ordered`` ones too. Each runs in its own copy of the sender's context, inside the ``around``
    of its pool; failures are told as ever. An async receiver runs to its end, on an event loop of
    its own; where the thread runs one, in another thread, for which this one waits.

    An ordered delivery that comes while its receiver runs (which sends to itself, say) runs when
    that has ended. ``retry`` and the limits of pools do not hold.

    In this context only, and in what that sets off.

    Thread safety: any number of blocks at once.
    """
    return Inline()
