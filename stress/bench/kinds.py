"""What becomes of the way to other threads where a receiver asks for more: order, a gate, a loop.

The receivers only count, as in ``async_sends``. Per delivery, from the first send to the last
arrival; for the slow key, from just before a send to the receiver's first line.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from time import perf_counter_ns
from typing import Any

import tsignals
from stress.bench.latency import Stopwatch, quantiles
from stress.bench.libraries import Receiver, Sender
from stress.bench.measure import Case, Group, Scale, Statement, Subject
from stress.bench.pools import OURS, WORKERS, Arrivals
from stress.bench.together import PATIENCE

COUNT = 10
KEYS = 10_000
SLOW = 0.1  # seconds that a delivery of the slow key takes
PAUSE = 0.001  # between the sends of the others


def subjects(scale: Scale) -> Iterator[Subject]:
    yield Subject(
        "send_async, by kind",
        [
            Group(f"end to end by kind, {COUNT}", partial(_kinds, scale)),
            Group(f"ordered, {KEYS:,} keys", partial(_keys, scale)),
        ],
    )
    yield Subject("latency, keys", [Group("a slow key", partial(_slow_key, scale))])


def _signal(stack: ExitStack, **terms: Any) -> tuple[tsignals.Signal, tsignals.WorkerPool]:
    pool = stack.enter_context(tsignals.WorkerPool(WORKERS, max_pending=OURS["tsignals"], **terms))
    return tsignals.Signal(executor=pool), pool


def _kinds(scale: Scale, stack: ExitStack) -> Iterator[Case]:
    arrivals = Arrivals()
    receivers = arrivals.receivers(COUNT)
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "ordered": {"ordered": True},
        "ordered by key": {"ordered": lambda sender, value: value},
        "tracked": {"tracked": True},
        "around": {},
        "async": {},
    }
    for kind, terms in kinds.items():
        around = contextlib.nullcontext if kind == "around" else None
        signal, _ = _signal(stack, around=around)
        for receiver in map(_awaited, receivers) if kind == "async" else receivers:
            signal.connect(receiver, weak=False, **terms)
        yield _throughput(f"tsignals, {kind}", signal, arrivals, scale.deliveries // COUNT, COUNT)


def _awaited(receiver: Receiver) -> Callable[..., Any]:
    async def receive(signal: object, sender: object, **named: object) -> None:
        receiver(signal=signal, sender=sender, **named)

    return receive


def _keys(scale: Scale, stack: ExitStack) -> Iterator[Case]:
    arrivals = Arrivals()
    [receiver] = arrivals.receivers(1)
    ways: dict[str, Any] = {"ordered=True": True, "ordered=key": lambda sender, value: value}
    for name, ordered in ways.items():
        signal, _ = _signal(stack)
        signal.connect(receiver, weak=False, ordered=ordered)
        yield _throughput(f"tsignals, {name}", signal, arrivals, scale.deliveries, 1)


def _throughput(
    name: str, signal: tsignals.Signal, arrivals: Arrivals, sends: int, count: int
) -> Case:
    values = cycle(range(KEYS))
    source = "signal.send_async(sender, value=next(values))"
    send = Statement(name, source, signal=signal, sender=Sender(), values=values)

    def throughput() -> Mapping[str, float]:
        arrivals.expect(sends * count)
        began = time.perf_counter()
        send.run(sends)
        arrivals.wait()
        return {name: (time.perf_counter() - began) * 1e9 / sends / count}

    return throughput


def _slow_key(scale: Scale, stack: ExitStack) -> Iterator[Case]:
    stopwatch = Stopwatch()

    def receive(signal: object, sender: object, value: int, key: int, **named: object) -> None:
        if key:
            stopwatch(signal, sender, value)
        else:
            time.sleep(SLOW)

    signal, pool = _signal(stack)
    signal.connect(receive, weak=False, ordered=lambda sender, key, value: key)

    def shots(name: str, slow: bool) -> Mapping[str, float]:
        enough = threading.Event()

        def keep_busy() -> None:
            while not enough.is_set():
                signal.send_async(None, key=0, value=0)[0][1].result(PATIENCE)

        loader = threading.Thread(target=keep_busy)
        if slow:
            loader.start()
        try:
            for key in range(1, scale.shots + 1):
                time.sleep(PAUSE)
                signal.send_async(None, key=key % 100 + 1, value=perf_counter_ns())
            return quantiles(name, stopwatch.take(scale.shots))
        finally:
            enough.set()
            if slow:
                loader.join()
            pool.drain(PATIENCE)

    yield partial(shots, "tsignals, without", False)
    yield partial(shots, "tsignals, with", True)
