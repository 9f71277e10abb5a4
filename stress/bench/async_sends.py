"""Sending to other threads: what the sender pays, and what gets through.

The receivers only count, so that the figures are those of the way to them. Per delivery.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial

import tsignals
from stress.bench.libraries import Sender
from stress.bench.measure import Case, Group, Scale, Statement, Subject
from stress.bench.pools import Arrivals, FanOut, fan_outs, held
from stress.bench.sends import COUNTS
from stress.bench.together import together

SENDERS = (1, 4)
PENDING = 5_000  # at once, when the sender's cost is measured: no queue is full


def subjects(scale: Scale) -> Iterator[Subject]:
    yield Subject(
        "send_async, the sender's cost",
        [Group(f"send_async cost, {n}", partial(_costs, scale=scale, count=n)) for n in COUNTS],
    )
    yield Subject(
        "send_async with retry, and no failure",
        [Group(f"retry, {n}", partial(_with_retry, scale=scale, count=n)) for n in COUNTS],
    )
    for senders in SENDERS:
        plural = "sender" if senders == 1 else "senders"
        yield Subject(
            f"send_async, {senders} {plural}",
            [
                Group(
                    f"end to end, {senders} {plural}, {n}",
                    partial(_throughputs, scale=scale, count=n, senders=senders),
                )
                for n in COUNTS
            ],
        )


def _costs(stack: ExitStack, scale: Scale, count: int) -> Iterator[Case]:
    sends = min(PENDING, scale.deliveries) // count
    arrivals = Arrivals()
    for way in fan_outs(stack, arrivals.receivers(count)):
        if way.name != "tsignals, bounded":  # its bound would stop the sender
            yield partial(_cost, way, way.statement(), arrivals, sends, count)


def _cost(
    way: FanOut, statement: Statement, arrivals: Arrivals, sends: int, count: int
) -> Mapping[str, float]:
    """The workers wait until all is sent."""
    arrivals.expect(sends * count)
    with held(way.executor):
        seconds = statement.run(sends)
    arrivals.wait()
    return {way.name: seconds * 1e9 / sends / count}


def _with_retry(stack: ExitStack, scale: Scale, count: int) -> Iterator[Case]:
    """From the first send to the last arrival, with what is to be tried again, and without."""
    sends = max(1, scale.deliveries // count)
    arrivals = Arrivals()
    pool = stack.enter_context(tsignals.WorkerPool(1, max_pending=None))
    receivers = arrivals.receivers(count)
    for name, retry in (("tsignals", None), ("tsignals, with retry", tsignals.Retry(OSError))):
        signal = tsignals.Signal(executor=pool)
        for receiver in receivers:
            signal.connect(receiver, retry=retry)
        names = {"signal": signal, "sender": Sender(), "receivers": receivers}
        way = FanOut(name, pool, "signal.send_async(sender, value={value})", names)
        yield partial(_throughput, way, way.statement(), arrivals, sends, count, 1)


def _throughputs(stack: ExitStack, scale: Scale, count: int, senders: int) -> Iterator[Case]:
    sends = max(1, scale.deliveries // count // senders)
    arrivals = Arrivals()
    for way in fan_outs(stack, arrivals.receivers(count)):
        yield partial(_throughput, way, way.statement(), arrivals, sends, count, senders)


def _throughput(
    way: FanOut, statement: Statement, arrivals: Arrivals, sends: int, count: int, senders: int
) -> Mapping[str, float]:
    """From the first send to the last arrival."""
    total = sends * count * senders
    arrivals.expect(total)

    began = together([partial(statement.run, sends)] * senders).began
    arrivals.wait()
    return {way.name: (time.perf_counter() - began) * 1e9 / total}
