"""Deliveries in an executor that is no ``WorkerPool``: with that executor's own futures.

What follows when one has ended (the gate of a tracked receiver, the telling of a failure) happens
in this process, in a callback of the future. The context stays in this process, too.

Such futures are made only when the executor is given the work. For a send that is prepared,
``StandIn`` stands in until then, and after: once it has a future it does what that does. What
becomes of it is decided in a list to which everybody appends, and in which the first entry counts.
"""

import contextvars
from collections.abc import Sequence
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, Protocol, cast

from tsignals import _process
from tsignals._connection import Terms
from tsignals._critical import refuse_if_deep
from tsignals._definition import name_of
from tsignals._delivery import Deliveries, Delivery, Sending
from tsignals._errors import DeliveryDropped, DeliveryLost
from tsignals._future import CANCELLED, comes_first
from tsignals._gate import Call, Gate, enclosing
from tsignals._parcel import Parcel, for_interpreter
from tsignals._pool import check_executor
from tsignals._process import notice, page
from tsignals._receiver import Receiver, direct
from tsignals._telling import for_signal, unless_own


class HasTerms(Protocol):
    """A connection, or what calls for a delivery without one."""

    _terms: Terms


Live = Sequence[tuple[HasTerms, Receiver]]


class RemoteCall:
    """A receiver's call for an executor of another kind, which may pickle it.

    The sender's context, and the gate of a tracked receiver, stay in this process.
    """

    def __init__(
        self, receiver: Receiver, sending: Sending, call: Call | None, is_async: bool
    ) -> None:
        # Not the function behind ``background``, which is not found under its own name.
        self.target = receiver if sending.target is None else sending.target
        self.is_async = is_async
        self.arguments = sending.arguments
        self.keywords = sending.keywords_for(sending)
        self.context: contextvars.Context | None = sending.context.copy()
        self.call = call
        self.void = False  # who made it was interrupted, and may do it again

    def __call__(self) -> Any:
        if self.context is None:
            return self._call()
        if self.void:
            raise CancelledError
        if self.call is not None:
            self.call.begin()
            if self.call.void:
                raise CancelledError
            if self.is_async:
                self.context.run(enclosing.set, (self.call,))
        return self.context.run(self._call)

    def _call(self) -> Any:
        if not self.is_async:
            return direct(self.target)(*self.arguments, **self.keywords)
        from tsignals import _aio

        return _aio.respond_now(direct(self.target), self.arguments, self.keywords)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "context": None, "call": None}


def deliver_elsewhere(executor: Executor, live: Live, sending: Sending) -> Deliveries:
    refuse_ordered(executor, live, sending)
    deliveries = Deliveries()
    for row, receiver in live:
        future = submit_elsewhere(executor, row._terms, receiver, sending)
        deliveries.append((receiver, cast(Delivery, future)))
    return deliveries


def refuse_ordered(executor: Executor, live: Live, sending: Sending) -> None:
    """Raise ``TypeError`` where ``executor`` is none, or cannot keep the order it would have to."""
    check_executor(executor)  # it may have been assigned to the signal
    for row, receiver in live:
        if row._terms.ordered:
            raise TypeError(
                f"an ordered receiver needs a WorkerPool, and the one of {name_of(receiver)}"
                f"{for_signal(sending.signal)} is a {type(executor).__name__}; nothing was queued"
            )


def submit_elsewhere(
    executor: Executor, terms: Terms, receiver: Receiver, sending: Sending
) -> "Future[Any]":
    gate = terms.gate
    call = None if gate is None else Call(thread=0)
    future: Future[Any]
    if gate is not None and call is not None and not gate.enter(call):
        future = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future
    call_there = RemoteCall(receiver, sending, call, terms.on_loop)
    try:
        ended = _Ended(receiver, sending, gate, call, call_there.context)
        try:
            task: Any = Parcel(call_there, receiver) if for_interpreter(executor) else call_there
            future = executor.submit(task)
        except Exception as error:
            future = Future()
            future.set_exception(error)
        if gate is not None:
            gate.enqueue(future)
        future.add_done_callback(ended)
    except BaseException:  # interrupted: it may have been queued, and must not run any more
        call_there.void = True
        if gate is not None and call is not None:
            call.void = True
            gate.leave(call)
        raise
    return future


class _Ended:
    """What follows when a delivery elsewhere has ended: the gate, and the telling."""

    def __init__(
        self,
        receiver: Receiver,
        sending: Sending,
        gate: Gate | None,
        call: Call | None,
        context: contextvars.Context | None,
    ) -> None:
        self.receiver = receiver
        self.sending: Sending | None = sending
        self.context = context  # of the receiver; in another process it has that one's own
        self.gate = gate
        self.call = call

    def __call__(self, future: "Future[Any]") -> None:
        if self.gate is not None and self.call is not None:
            self.gate.dequeue(future)
            self.gate.leave(self.call)
        sending, context = self.sending, self.context
        self.sending = self.context = None  # the future keeps its callbacks
        if sending is None or context is None or future.cancelled():
            return
        try:
            error = future.exception(0)
            if error is not None:
                # A copy: an executor may resolve what still runs.
                sending.tell_in(context.copy(), self.receiver, error)
        except BaseException as raised:
            if unless_own(raised) is not None:
                raise


def dropped() -> DeliveryDropped:
    """What becomes of a delivery that nobody submits."""
    return DeliveryDropped("it was prepared, and dropped before anybody submitted it")


class StandIn(Future[Any]):
    """Stands in for the future of another executor, which makes that later."""

    def __init__(self) -> None:
        super().__init__()
        self._claims: list[object] = []
        self._own: Future[Any] | None = None  # the executor's

    def decide(self, claim: object) -> bool:
        """Whether ``claim`` comes first."""
        return comes_first(self._claims, claim)

    def cancel(self) -> bool:
        refuse_if_deep()
        claim = object()
        try:
            if self.decide(claim):
                return self.become_cancelled()
        except BaseException:  # interrupted
            if self._claims[:1] == [claim]:
                self.become_cancelled()
            raise
        own = self._own
        return self.cancelled() or (own is not None and own.cancel())

    def running(self) -> bool:
        return not self.done() and (own := self._own) is not None and own.running()

    def become_cancelled(self) -> bool:
        super().cancel()
        if self._state == CANCELLED:  # and nobody has been notified
            self.set_running_or_notify_cancel()
        return self.cancelled()

    def follow(self, own: "Future[Any]") -> None:
        """Be what ``own``, the executor's future, is and will be."""
        self._own = own
        try:
            own.add_done_callback(self._end)
        except BaseException:  # interrupted
            own.add_done_callback(self._end)
            raise

    def _end(self, own: "Future[Any]") -> None:
        if self.done():
            return  # it was asked twice
        if own.cancelled():
            self.become_cancelled()
        elif (error := own.exception(0)) is not None:
            self.set_exception(error)
        else:
            self.set_result(own.result(0))
        self._own = None  # last: until then it shows that this was submitted


class HeldElsewhere:
    """Held back from another executor."""

    def __init__(
        self, executor: Executor, live: Live, sending: Sending, deliveries: Deliveries
    ) -> None:
        refuse_ordered(executor, live, sending)
        self.executor = executor
        self.sending = sending
        self.process = _process.here[0]
        self.calls: list[tuple[StandIn, Terms, Receiver]] = []
        for row, receiver in live:
            future = StandIn()
            self.calls.append((future, row._terms, receiver))
            deliveries.append((receiver, cast(Delivery, future)))

    def hold(self) -> None:
        for future, terms, _ in self.calls:
            if (gate := terms.gate) is not None:
                future.add_done_callback(gate.dequeue)
                gate.enqueue(future)

    def raise_interrupt(self) -> None:
        pass

    def is_held(self) -> bool:
        return any(future._own is None and not future.done() for future, _, _ in self.calls)

    def submit(self, claim: object) -> None:
        if not page[0]:
            notice()
        if self.process is not _process.here[0]:
            self.drop(DeliveryLost("it was prepared in the parent of this process"))
            return
        for future, terms, receiver in self.calls:
            own = None
            try:
                if future.decide(claim):
                    own = submit_elsewhere(self.executor, terms, receiver, self.sending)
                    future.follow(own)
            except BaseException:  # interrupted: this one, if it is not queued, and the rest wait
                if own is not None:
                    future.follow(own)
                elif future._own is None and not future.done():
                    future._claims = []
                raise

    def drop(self, error: BaseException | None = None) -> None:
        claim = object()
        try:
            self._drop(claim, error)
        except BaseException:  # interrupted: what is left is done again
            self._drop(claim, error)
            raise

    def _drop(self, claim: object, error: BaseException | None) -> None:
        for future, _, _ in self.calls:
            if future.decide(claim) and not future.done():
                future.set_exception(error or dropped())
