"""From a send to deliveries: into a ``WorkerPool``, or into any other executor."""

from collections.abc import Sequence
from concurrent.futures import Executor

from tsignals._base.process import in_main_interpreter
from tsignals._base.retry import Retry
from tsignals._calling.compiled import BACKGROUND, BackgroundCaller
from tsignals._calling.types import Named, Receiver
from tsignals._delivery.batch import Asked, Batch, BatchDelivery
from tsignals._delivery.claiming import claiming
from tsignals._delivery.deliveries import Deliveries
from tsignals._delivery.delivery import (
    Delivery,
    GeneralSend,
    Live,
    SingleDelivery,
    context_of_sender,
)
from tsignals._delivery.general import GeneralBatch, GeneralDelivery
from tsignals._delivery.lanes_of_sends import asking, in_pool
from tsignals._delivery.other_executors import deliver_elsewhere
from tsignals._delivery.plain import PlainDelivery, PlainSend, SoleDelivery, SoleRetried
from tsignals._delivery.watched import is_taken
from tsignals._pool.admission import take
from tsignals._pool.core import Core
from tsignals._pool.future import PENDING
from tsignals._pool.overflow import accept, find_room
from tsignals._pool.pool import WorkerPool, core_of
from tsignals._pool.state import ADMITTED
from tsignals._pool.task import Entry
from tsignals._registry.connecting import before_async
from tsignals._registry.connection import Options
from tsignals._registry.plan import Plan


@asking
@claiming(Deliveries, is_taken)
def deliver(executor: Executor, live: Live, send: GeneralSend) -> Deliveries:
    """Hand one send to ``executor``, as a whole where that is a ``WorkerPool``."""
    if not isinstance(executor, WorkerPool):
        return deliver_elsewhere(executor, live, send)
    core = core_of(executor)
    batch = GeneralBatch(core)
    is_accepted = False
    try:
        deliveries = _deliver_in(core, batch, live, send)
        is_accepted = True
        return deliveries
    finally:
        if not is_accepted:
            _break_cycle(core, batch)


def _deliver_in(core: Core, batch: GeneralBatch, live: Live, send: GeneralSend) -> Deliveries:
    """Have ``core`` take one send, in ``batch`` what may run side by side in its workers."""
    deliveries = Deliveries()
    entries: list[Entry] = []
    on_loop: list[Entry] = []  # these come last
    tracked: list[Delivery] = []
    again = False  # whether any may be run again
    for connection, receiver in live:
        options = connection._options
        lane = in_pool(core, options, receiver, send)
        delivery: Delivery
        if options.on_loop:
            delivery = _async_delivery(core, receiver, send, lane, options)
            on_loop.append(delivery)
        elif lane is not None:
            delivery = SingleDelivery(core, receiver, send, lane, options)
            entries.append(delivery)
        else:
            if not batch.deliveries:
                entries.append(batch)
            delivery = GeneralDelivery(core, receiver, send, options, batch)
        again = again or options.retry is not None
        if options.gate is not None:
            tracked.append(delivery)
        deliveries.append((receiver, delivery))
    lane = None  # what is raised below would keep it, and with it its lane
    send.lanes.clear()
    batch.complete()
    send.note(deliveries)
    deep = bool(on_loop) or len(entries) > 1 or entries[0] is not batch
    accept(core, entries + on_loop, deep)
    for delivery in tracked:
        delivery._mind_gate()
    if again:
        core.timer.be_ready(core)
    return deliveries


def load_async() -> None:
    """Import what async receivers need, where handlers may come in between."""
    if not in_main_interpreter():
        return  # and CPython 3.12 may crash at the end of one that has imported asyncio
    import tsignals._calling.asynchronous
    import tsignals._delivery.async_delivery
    import tsignals._delivery.event_loop  # noqa: F401


before_async.append(load_async)


def _async_delivery(
    core: Core, receiver: Receiver, send: GeneralSend, lane: object, options: Options
) -> Delivery:
    """A delivery on the event loop of ``core``, which runs from now on."""
    from tsignals._delivery.async_delivery import AsyncDelivery  # imports asyncio
    from tsignals._delivery.event_loop import ensure_loop

    ensure_loop(core)
    return AsyncDelivery(core, receiver, send, lane, options)


def deliver_plain(
    core: Core,
    plan: Plan,
    receivers: Sequence[Receiver],
    signal: object,
    sender: object,
    named: Named,
) -> Deliveries:
    """Have ``core``, which has no ``around``, call plain receivers: all of them, or none."""
    _, only, call = plan.background
    if only not in named or len(named) > 1:
        call = _caller(plan, named)
    if len(receivers) == 1:
        return _deliver_to_one(core, call, receivers[0], signal, sender, named, plan.retries)
    send = PlainSend()
    send._call = call
    send._named = named
    send.retries = plan.retries
    send._context = context_of_sender()
    send.core = core
    batch: list[BatchDelivery | Asked | None] = []
    deliveries = Deliveries()
    index = 0
    for receiver in receivers:
        delivery = PlainDelivery()
        delivery._phase = PENDING
        delivery._core = core
        delivery.signal = signal
        delivery.sender = sender
        delivery.receiver = receiver
        delivery._send = send
        delivery._index = index
        index += 1
        batch.append(delivery)
        deliveries.append((receiver, delivery))
    send._stack = [*range(index - 1, -1, -1)]
    send.asked = None
    send.deliveries = batch  # this last: until here, an interrupt leaves no cycle
    admitted_here = False
    try:
        take(core, [send], index * ADMITTED, find_room)
        admitted_here = True
    finally:
        if not admitted_here:
            _break_cycle(core, send)
    if core.drops.dropped or core.drops.lost:
        core.drops.log_now_and_then()
    if send.retries:
        core.timer.be_ready(core)
    return deliveries


def _deliver_to_one(
    core: Core,
    call: BackgroundCaller,
    receiver: Receiver,
    signal: object,
    sender: object,
    named: Named,
    retries: Sequence[Retry | None],
) -> Deliveries:
    """The same for one: shorter, as most sends have one receiver."""
    if retries:
        delivery: SoleDelivery = SoleRetried()
        delivery._retry = retries[0]
    else:
        delivery = SoleDelivery()
    delivery._phase = PENDING
    delivery._claims = []
    delivery._core = core
    delivery.signal = signal
    delivery.sender = sender
    delivery.receiver = receiver
    delivery._call = call
    delivery._named = named
    delivery._context = context_of_sender()
    deliveries = Deliveries()
    deliveries.append((receiver, delivery))
    take(core, [delivery], ADMITTED, find_room)
    if core.drops.dropped or core.drops.lost:
        core.drops.log_now_and_then()
    if retries:
        core.timer.be_ready(core)
    return deliveries


def _caller(plan: Plan, named: Named) -> BackgroundCaller:
    """What calls one receiver in a worker with ``named``; the plan keeps it for the next send."""
    names, _, call = plan.background
    if names != [*named]:
        call = BACKGROUND.find(tuple(named))
        # Or it would keep names of any kind.
        if names is None and call is not BACKGROUND.any_names and {*map(type, named)} <= {str}:
            names = [*named]
            plan.background = names, names[0] if len(names) == 1 else None, call
    return call


def _break_cycle(core: Core, batch: Batch) -> None:
    """After it was to be taken: where nothing was accepted, deliveries and batch are a cycle."""
    left = batch._tasks()
    if len(left) == len(batch.deliveries) and not any(map(core.backlog.was_admitted, left)):
        batch.deliveries.clear()
