"""How long a delivery is on its way: from just before the send to the receiver's first line.

On one core, so the sender has to stop before a worker can begin.
"""

import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from time import perf_counter_ns

from stress.bench.measure import Case, Group, Scale, Statement, Subject
from stress.bench.pools import fan_outs
from stress.bench.together import PATIENCE

PAUSE = 0.0003  # seconds: long enough for a worker to fall idle
BATCH = 20  # deliveries a millisecond, the load
TURNS = 400  # of a loop, in each of them: some ten microseconds


def subjects(scale: Scale) -> Iterator[Subject]:
    builders = {"idle": _idle, "under load": _under_load, "burst": _burst}
    yield Subject(
        "latency",
        [Group(f"latency, {name}", partial(build, scale)) for name, build in builders.items()],
    )


class Stopwatch:
    """A receiver that notes how long ago its value, the moment of the send, was."""

    def __init__(self) -> None:
        self._latencies: SimpleQueue[int] = SimpleQueue()

    def __call__(self, signal: object, sender: object, value: int, **named: object) -> None:
        self._latencies.put(perf_counter_ns() - value)

    def take(self, count: int) -> list[int]:
        """Wait for so many deliveries."""
        return [self._latencies.get(timeout=PATIENCE) for _ in range(count)]


def quantiles(name: str, latencies: Sequence[int]) -> dict[str, float]:
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return {f"{name}, p50": cuts[49], f"{name}, p99": cuts[98]}


def _idle(scale: Scale, stack: ExitStack) -> Iterator[Case]:
    stopwatch = Stopwatch()
    ways = list(fan_outs(stack, [stopwatch], ours=("tsignals",)))
    sends = {way.name: way.statement("now()", now=perf_counter_ns) for way in ways}

    def shots() -> Mapping[str, float]:
        """One shot each in turn, so that a bad moment of the machine meets them all."""
        latencies: dict[str, list[int]] = {name: [] for name in sends}
        for _ in range(scale.shots):
            for name, send in sends.items():
                time.sleep(PAUSE)
                send.run(1)
                latencies[name] += stopwatch.take(1)
        return {
            key: figure
            for name, taken in latencies.items()
            for key, figure in quantiles(name, taken).items()
        }

    yield shots


def _burst(scale: Scale, stack: ExitStack) -> Iterator[Case]:
    stopwatch = Stopwatch()
    for way in fan_outs(stack, [stopwatch], ours=("tsignals",)):
        send = way.statement("now()", now=perf_counter_ns)

        def burst(name: str = way.name, send: Statement = send) -> Mapping[str, float]:
            send.run(scale.burst)
            return quantiles(name, stopwatch.take(scale.burst))

        yield burst


def _under_load(scale: Scale, stack: ExitStack) -> Iterator[Case]:
    stopwatch = Stopwatch()

    def receive(signal: object, sender: object, value: int, **named: object) -> None:
        if value:
            stopwatch(signal, sender, value)
        else:
            for _ in range(TURNS):
                pass

    for way in fan_outs(stack, [receive], ours=("tsignals",)):
        probe = way.statement("now()", now=perf_counter_ns)
        load = way.statement("0")

        def probes(
            name: str = way.name, probe: Statement = probe, load: Statement = load
        ) -> Mapping[str, float]:
            """A shot a millisecond, while another thread keeps the same workers busy."""
            enough = threading.Event()

            def keep_busy() -> None:
                while not enough.wait(0.001):
                    load.run(BATCH)

            loader = threading.Thread(target=keep_busy)
            loader.start()
            shots = scale.shots
            try:
                for _ in range(shots):
                    time.sleep(0.001)
                    probe.run(1)
                return quantiles(name, stopwatch.take(shots))
            finally:
                enough.set()
                loader.join()

        yield probes
