"""The metrics of one provider."""

import functools
from collections.abc import Callable, Iterable

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from tsignals import __version__
from tsignals.observing import Event, receiver_name, signal_name, stats_by_pool, waited_in_queue

BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histograms, in seconds."""

GAUGES = {
    "workers": ("{thread}", "Worker threads of the pools of this name."),
    "idle": ("{thread}", "Those of them that have nothing to do."),
    "pending": ("{delivery}", "Deliveries that wait in the queue."),
    "running": ("{delivery}", "Deliveries that run."),
}
"""What is shown of pools: a field of ``PoolStats``, with its unit and description."""

Attributes = dict[str, str | int | float]


class Metrics:
    """The instruments of one provider, which has them from then on."""

    def __init__(self, provider: MeterProvider, is_open: Callable[[], bool]) -> None:
        meter = metrics.get_meter("tsignals", __version__, provider)
        self.deliveries = meter.create_counter(
            "tsignals.deliveries",
            unit="{delivery}",
            description="Calls of receivers, and deliveries that came to none, by their outcome.",
        )
        self.waits = meter.create_histogram(
            "tsignals.queue.duration",
            unit="s",
            description="How long deliveries waited before their receiver was called.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self.runs = meter.create_histogram(
            "tsignals.run.duration",
            unit="s",
            description="How long receivers ran.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        for name, (unit, text) in GAUGES.items():
            meter.create_observable_up_down_counter(
                f"tsignals.pool.{name}",
                [functools.partial(_look_at_pools, name, is_open)],
                unit=unit,
                description=text,
            )

    def ended(self, event: Event) -> None:
        """Measure a delivery that has run, and count it."""
        attributes = self.count(event)
        if event.ran_seconds is not None:
            self.runs.record(event.ran_seconds, attributes)
        if (waited := waited_in_queue(event)) is not None:
            self.waits.record(waited, attributes)

    def count(self, event: Event) -> Attributes:
        attributes = who(event)
        self.deliveries.add(1, {**attributes, "tsignals.outcome": str(event.outcome)})
        return attributes


def _look_at_pools(
    name: str, is_open: Callable[[], bool], options: CallbackOptions
) -> Iterable[Observation]:
    """One number of all pools."""
    if not is_open():
        return []
    return [
        Observation(getattr(stats, name), {"tsignals.pool": pool})
        for pool, stats in stats_by_pool().items()
    ]


def who(event: Event) -> Attributes:
    return {
        "tsignals.signal": signal_name(event.signal),
        "code.function.name": receiver_name(event.receiver),
    }
