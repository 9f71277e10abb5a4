"""Deliveries in an executor that is no ``WorkerPool``: with that executor's own futures.

What follows when one has ended (the gate of a tracked receiver, the telling of a failure) happens
in this process: see ``remote_call``.

Such futures are made only when the executor is given the work. For a send that is prepared,
``StandIn`` stands in until then, and after.
"""

import functools
from concurrent.futures import Executor, Future
from typing import cast

from tsignals._base import process
from tsignals._base.definition import for_signal, name_of
from tsignals._base.errors import DeliveryLost
from tsignals._base.identity import identity
from tsignals._base.interrupts import apply_to_all
from tsignals._base.log import came_by_signal
from tsignals._base.overrides import DeliveryInfo, TakesDeliveries
from tsignals._calling.tracked_call import Call
from tsignals._calling.types import Receiver
from tsignals._delivery.deliveries import Deliveries
from tsignals._delivery.delivery import Delivery, GeneralSend, Live, dropped
from tsignals._delivery.parcels import packed
from tsignals._delivery.remote_call import AfterCall, RemoteCall
from tsignals._delivery.stand_in import StandIn
from tsignals._pool.lane_ids import LaneId
from tsignals._pool.pool import check_executor
from tsignals._registry.connection import Options
from tsignals._registry.receiver import owner_of_lane


def deliver_elsewhere(executor: Executor, live: Live, send: GeneralSend) -> Deliveries:
    refuse_options(executor, live, send)
    deliveries = Deliveries()
    for connection, receiver in live:
        future = submit_elsewhere(executor, connection._options, receiver, send)
        send.note([(receiver, future)])
        deliveries.append((receiver, cast(Delivery, future)))
    return deliveries


def refuse_options(executor: Executor, live: Live, send: GeneralSend) -> None:
    """Raise ``TypeError`` where ``executor`` is none, or cannot keep an order or run again."""
    check_executor(executor)  # it may have been assigned to the signal
    if isinstance(executor, TakesDeliveries):
        return
    for connection, receiver in live:
        ordered = connection._options.ordered is not False
        if ordered or connection._options.retry is not None:
            what = "an ordered receiver" if ordered else "a receiver with retry"
            raise TypeError(
                f"{what} needs a WorkerPool, and the one of {name_of(receiver)}"
                f"{for_signal(send.signal)} is a {type(executor).__name__}; nothing was queued"
            )


def submit_elsewhere(
    executor: Executor, options: Options, receiver: Receiver, send: GeneralSend
) -> "Future[object]":
    gate = options.gate
    call = None if gate is None else Call(thread=0)
    call_there: RemoteCall | None = None
    future: Future[object]
    try:
        if gate is not None and call is not None and not gate.enter(call):
            future = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future
        call_there = RemoteCall(receiver, send, call, options.on_loop)
        try:
            future = _submit(executor, call_there, options, receiver, send)
        except Exception as error:
            if came_by_signal(error):
                raise
            future = Future()
            # Its frames have what would have it: a cycle.
            future.set_exception(BaseException.with_traceback(error, None))
        if gate is not None:
            gate.enqueue(future)
        future.add_done_callback(AfterCall(gate, call, call_there.failed))
        if call_there.watch is not None:
            future.add_done_callback(call_there.watch.done)
        return future
    except BaseException:  # interrupted: it may have been queued, and must not run any more
        if call_there is not None:
            call_there.void = True
        if gate is not None and call is not None:
            call.void = True
            gate.leave(call)
        raise


def _submit(
    executor: Executor, call: RemoteCall, options: Options, receiver: Receiver, send: GeneralSend
) -> "Future[object]":
    if isinstance(executor, TakesDeliveries):
        call.around = executor.around
        lane, of = send.lanes.get(id(options)), identity(owner_of_lane(receiver))
        key = None if lane is None else (of, lane.value) if isinstance(lane, LaneId) else of
        info = DeliveryInfo(send.signal, send.sender, receiver, options.on_loop, key)
        return executor.take(call, info)
    future = executor.submit(packed(executor, call, receiver))
    if not (hasattr(future, "add_done_callback") and hasattr(future, "cancel")):
        raise TypeError(
            f"{type(executor).__name__}.submit must return a future, not {type(future).__name__!r}"
        )
    return future


class HeldElsewhere:
    """Held back from another executor."""

    def __init__(
        self, executor: Executor, live: Live, send: GeneralSend, deliveries: Deliveries
    ) -> None:
        refuse_options(executor, live, send)
        self.executor = executor
        self.send = send
        self.process = process.here[0]
        self.dropping = object()  # the claim of all who drop them: one goes on where another was
        self.calls: list[tuple[StandIn, Options, Receiver]] = []
        for connection, receiver in live:
            future = StandIn()
            self.calls.append((future, connection._options, receiver))
            deliveries.append((receiver, cast(Delivery, future)))

    def hold(self) -> None:
        for future, options, _ in self.calls:
            if (gate := options.gate) is not None:
                future.add_done_callback(gate.dequeue)
                gate.enqueue(future)

    def raise_interrupt(self) -> None:
        pass

    def is_held(self) -> bool:
        return any(future._own is None and not future.done() for future, _, _ in self.calls)

    def submit(self, claim: object) -> None:
        if not process.page[0]:
            process.notice()
        if self.process is not process.here[0]:
            self._drop_all(DeliveryLost("it was prepared in the parent of this process"))
            return
        for future, options, receiver in self.calls:
            own = None
            try:
                if future.decide(claim):
                    own = submit_elsewhere(self.executor, options, receiver, self.send)
                    future.follow(own)
                    own = None
            finally:  # interrupted: it is followed; or it is not queued and waits, as the rest does
                if own is not None:
                    future.follow(own)
                elif future._claims[:1] == [claim] and future._own is None and not future.done():
                    future._claims = []

    def drop(self) -> None:
        self._drop_all(None)

    def _drop_all(self, error: BaseException | None) -> None:
        apply_to_all(functools.partial(self._drop, error), [future for future, _, _ in self.calls])

    def _drop(self, error: BaseException | None, future: StandIn) -> None:
        if future.decide(self.dropping) and not future.done():
            future.set_exception(error or dropped())
