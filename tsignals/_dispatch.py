"""From a plan to deliveries: into a ``WorkerPool``, or into any other executor."""

import contextvars
from collections.abc import Sequence
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, Protocol, cast

from tsignals._connection import Terms
from tsignals._definition import name_of
from tsignals._delivery import Deliveries, Delivery, Sending, TermsDelivery
from tsignals._engine import Engine
from tsignals._gate import Call, Gate, enclosing
from tsignals._parcel import Parcel, for_interpreter
from tsignals._pool import WorkerPool, check_executor
from tsignals._process import notice, page
from tsignals._receiver import Receiver, direct
from tsignals._telling import for_signal, unless_own


class HasTerms(Protocol):
    """A connection, or what calls for a delivery without one."""

    _terms: Terms


Live = Sequence[tuple[HasTerms, Receiver]]


def deliver(executor: Executor, live: Live, sending: Sending) -> Deliveries:
    """Hand one send to ``executor``, as a whole where that is a ``WorkerPool``."""
    if not isinstance(executor, WorkerPool):
        return _deliver_elsewhere(executor, live, sending)
    engine = executor._engine
    deliveries = Deliveries()
    works: list[Delivery] = []
    on_loop: list[Delivery] = []  # these come last
    gated = ordered = False
    for row, receiver in live:
        terms = row._terms
        if terms.gate is not None:
            gated = True
        if terms.ordered:
            ordered = True
        if terms.on_loop:
            delivery = async_delivery(engine, receiver, sending, terms.ordered, terms.gate)
            on_loop.append(delivery)
        else:
            delivery = TermsDelivery(engine, receiver, sending, terms.ordered, terms.gate)
            works.append(delivery)
        deliveries.append((receiver, delivery))
    if on_loop:
        works += on_loop
    engine.accept(works, deep=ordered or bool(on_loop))
    if gated:
        # Not before: one that is cancelled must have been counted.
        for work in works:
            if work._gate is not None:
                work._gate.enqueue(work)
                if work._owner is not None:
                    work._gate.dequeue(work)  # it has started meanwhile
    return deliveries


def async_delivery(engine: Engine, *arguments: Any) -> Delivery:
    """A delivery on the event loop of ``engine``, which runs from now on."""
    from tsignals._loop import AsyncDelivery, ensure_loop  # imports asyncio

    if not page[0]:
        notice()
    engine.refuse_if_not_open()
    ensure_loop(engine)
    return AsyncDelivery(engine, *arguments)


class Elsewhere:
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


def _deliver_elsewhere(executor: Executor, live: Live, sending: Sending) -> Deliveries:
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
    elsewhere = Elsewhere(receiver, sending, call, terms.on_loop)
    try:
        task: Any = Parcel(elsewhere, receiver) if for_interpreter(executor) else elsewhere
        future = executor.submit(task)
    except Exception as error:
        future = Future()
        future.set_exception(error)
    except BaseException:  # interrupted: it may have been queued, and must not run any more
        elsewhere.void = True
        if gate is not None and call is not None:
            call.void = True
            gate.leave(call)
        raise
    if gate is not None:
        gate.enqueue(future)
    future.add_done_callback(_Ended(receiver, sending, gate, call, elsewhere.context))
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
                context.copy().run(
                    sending.tell,
                    sending.signal,
                    sending.sender,
                    self.receiver,
                    error,
                    sending.mode,
                    0.0,
                    0.0,
                    sending.named,
                )
        except BaseException as raised:
            if unless_own(raised) is not None:
                raise
