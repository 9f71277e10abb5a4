"""Bytes, as tracemalloc counts them. They are the same every time, so one round is enough.

The receivers themselves are there before and are not counted; the weak references to them are.
"""

import gc
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial

from stress.bench.libraries import Library, Receiver, Sender, functions, installed, methods
from stress.bench.measure import Case, Group, Scale, Statement, Subject
from stress.bench.pools import Arrivals, FanOut, fan_outs, held

RECEIVERS_OF_SLOW_PEERS = 1_000  # connecting takes them longer the more there are
PENDING = 2_000


def subjects(scale: Scale) -> Iterator[Subject]:
    receivers = [
        Group(f"bytes per receiver, {make.__name__}", partial(_per_receiver, scale, make))
        for make in (functions, methods)
    ]
    pending = [
        Group(f"bytes per pending delivery, {count}", partial(_per_pending, count))
        for count in (1, 10)
    ]
    yield Subject("memory", [*receivers, *pending], rounds=1)


def allocated(work: Callable[[], object]) -> int:
    """How many more bytes are in use after the work; what it returns counts."""
    gc.collect()
    tracemalloc.start()
    try:
        result = work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        del result


def _per_receiver(
    scale: Scale, make: Callable[..., tuple[Receiver, ...]], stack: ExitStack
) -> Iterator[Case]:
    for library in installed():
        slow = library.slow_to_fill
        count = min(scale.receivers, RECEIVERS_OF_SLOW_PEERS) if slow else scale.receivers
        yield partial(_receiver_bytes, library, make, count)


def _receiver_bytes(
    library: Library, make: Callable[..., tuple[Receiver, ...]], count: int
) -> Mapping[str, float]:
    """Held as the library holds receivers by default; one send has been made to them."""
    signal, receivers = library.signal(), make(count, library.shape)
    send = Statement(
        library.name,
        library.send.format(named="a=1"),
        signal=signal,
        sender=Sender(),
        **library.names,
    )

    def connect_and_send() -> None:
        for receiver in receivers:
            library.connect(signal, receiver)
        send.run(1)

    return {library.name: allocated(connect_and_send) / count}


def _per_pending(count: int, stack: ExitStack) -> Iterator[Case]:
    arrivals = Arrivals()
    for way in fan_outs(stack, arrivals.receivers(count), ours=("tsignals",)):
        yield partial(_pending_bytes, way, arrivals, count)


def _pending_bytes(way: FanOut, arrivals: Arrivals, count: int) -> Mapping[str, float]:
    """Sent and forgotten: what the executor holds until its workers come to it."""
    send = way.statement()
    for _ in range(2):  # the first time, the threads are started
        arrivals.expect(PENDING)
        with held(way.executor):
            size = allocated(partial(send.run, PENDING // count))
        arrivals.wait()
    return {way.name: size / PENDING}
