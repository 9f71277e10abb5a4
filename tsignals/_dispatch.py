"""From a plan to deliveries: into a ``WorkerPool``, or into any other executor."""

from concurrent.futures import Executor
from typing import Any

from tsignals._delivery import Deliveries, Delivery, Sending, TermsDelivery
from tsignals._elsewhere import Live, deliver_elsewhere
from tsignals._engine import Engine
from tsignals._pool import WorkerPool
from tsignals._process import notice, page


def deliver(executor: Executor, live: Live, sending: Sending) -> Deliveries:
    """Hand one send to ``executor``, as a whole where that is a ``WorkerPool``."""
    if not isinstance(executor, WorkerPool):
        return deliver_elsewhere(executor, live, sending)
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
