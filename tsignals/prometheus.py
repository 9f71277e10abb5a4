"""Metrics for Prometheus: what becomes of deliveries, how long they wait and run, what pools do.

``instrument()`` has them in ``prometheus_client``'s registry. Needs ``tsignals[prometheus]``.

| metric | type | labels |
|---|---|---|
| ``tsignals_deliveries_total`` | counter | ``signal``, ``receiver``, ``outcome`` |
| ``tsignals_queue_wait_seconds`` | histogram | ``signal``, ``receiver`` |
| ``tsignals_run_seconds`` | histogram | ``signal``, ``receiver`` |
| ``tsignals_pool_workers``, ``_idle``, ``_pending``, ``_running`` | gauge | ``pool`` |
"""

import contextlib
import os
import queue
import threading
from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tsignals.observing import (
    Event,
    Observation,
    Observer,
    hands_over,
    observe,
    receiver_name,
    signal_name,
    stats_by_pool,
    waited_in_queue,
)

__all__ = ["Instrumentation", "instrument"]

BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histograms, in seconds."""
INTERVAL = 1.0
"""Seconds between two looks at the pools, in multiprocess mode."""

GAUGES = {
    "workers": "Worker threads of the pools of this name.",
    "idle": "Those of them that have nothing to do.",
    "pending": "Deliveries that wait in the queue.",
    "running": "Deliveries that run.",
}
"""What is shown of pools: a field of ``PoolStats``, and its help."""


class _Deliveries(Observer):
    """Counts deliveries, and measures them."""

    def __init__(self) -> None:
        labels = ["signal", "receiver"]
        self.deliveries = Counter(
            "tsignals_deliveries",
            "Calls of receivers, and deliveries that came to none, by how they ended.",
            [*labels, "outcome"],
            registry=None,
        )
        self.waits = Histogram(
            "tsignals_queue_wait_seconds",
            "How long deliveries waited in an executor before their receiver was called.",
            labels,
            registry=None,
            buckets=BUCKETS,
        )
        self.runs = Histogram(
            "tsignals_run_seconds",
            "How long receivers ran.",
            labels,
            registry=None,
            buckets=BUCKETS,
        )

    def ended(self, event: Event) -> None:
        if hands_over(event):
            return
        labels = self.count(event)
        if event.ran_seconds is not None:
            self.runs.labels(*labels).observe(event.ran_seconds)
        if (waited := waited_in_queue(event)) is not None:
            self.waits.labels(*labels).observe(waited)

    def dropped(self, event: Event) -> None:
        self.count(event)

    def refused(self, event: Event) -> None:
        self.count(event)

    def count(self, event: Event) -> tuple[str, str]:
        labels = signal_name(event.signal), receiver_name(event.receiver)
        self.deliveries.labels(*labels, event.outcome).inc()
        return labels

    def close(self) -> None:
        """Measure nothing more."""

    def families(self) -> Iterator[Metric]:
        for each in (self.deliveries, self.waits, self.runs):
            yield from each.collect()

    def pool_families(self) -> Iterator[Metric]:
        """The gauges of the pools, as they are now."""
        pools = stats_by_pool()
        for each, text in GAUGES.items():
            family = GaugeMetricFamily(f"tsignals_pool_{each}", text, labels=["pool"])
            for name, stats in pools.items():
                family.add_metric([name], getattr(stats, each))
            yield family


class _SharedDeliveries(_Deliveries):
    """For multiprocess mode, where several processes write what one of them shows.

    Nobody asks this process for its pools then, so a thread writes down their numbers now and
    then. It starts at the first send in each process: one that forks others may have none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gauges = {
            each: Gauge(
                f"tsignals_pool_{each}",
                text,
                ["pool"],
                registry=None,
                multiprocess_mode="livesum",
            )
            for each, text in GAUGES.items()
        }
        self.watching: dict[int, queue.SimpleQueue[None]] = {}  # by process: what ends its thread
        self.is_closed = False

    def sent(self, event: Event) -> None:
        process = os.getpid()
        if process in self.watching:
            return
        closed: queue.SimpleQueue[None] = queue.SimpleQueue()
        if self.watching.setdefault(process, closed) is closed:
            thread = threading.Thread(
                target=self.watch_pools, args=(closed,), name="tsignals-prometheus", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # there can be none now: the next send tries again
                del self.watching[process]
            if self.is_closed:  # meanwhile: one of the two sees the other
                closed.put(None)

    def watch_pools(self, closed: "queue.SimpleQueue[None]") -> None:
        shown: set[str] = set()
        while True:
            pools = stats_by_pool()
            shown.update(pools)
            for each, gauge in self.gauges.items():
                for name in shown:  # one that is closed does nothing
                    gauge.labels(name).set(getattr(pools.get(name), each, 0))
            try:
                return closed.get(timeout=INTERVAL)
            except queue.Empty:
                continue

    def close(self) -> None:
        self.is_closed = True
        if (closed := self.watching.get(os.getpid())) is not None:
            closed.put(None)

    def pool_families(self) -> Iterator[Metric]:
        for gauge in self.gauges.values():
            yield from gauge.collect()


class _Collector(Collector):
    """What the registry asks."""

    def __init__(self, deliveries: _Deliveries) -> None:
        self.deliveries = deliveries

    def collect(self) -> Iterator[Metric]:
        yield from self.deliveries.families()
        yield from self.deliveries.pool_families()

    def describe(self) -> Iterator[Metric]:
        return self.collect()  # for the names


class Instrumentation:
    """The handle of ``instrument``: a context manager that closes it at the end.

    Dropping it closes nothing.

    Thread safety: every method from any thread.
    """

    def __init__(self) -> None:
        raise TypeError("cannot make an Instrumentation; instrument() does")

    _registry: CollectorRegistry
    _collector: _Collector
    _observation: Observation
    _open: list[object]  # empty once it is closed

    def close(self) -> None:
        """Count nothing more, and take the metrics out of the registry; twice does no harm.

        In multiprocess mode what was written stays in the files.
        """
        if not self._open:
            return
        # Interrupted, all of this is done again; by two at once, it is done twice.
        self._observation.close()
        self._collector.deliveries.close()
        _let_go(self)
        self._open.clear()

    def __enter__(self) -> "Instrumentation":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Instrumentation for Prometheus, {'open' if self._open else 'closed'}>"


_in_files: list[Instrumentation] = []
"""In multiprocess mode: the first one writes; a second would count everything twice."""


def _let_go(made: Instrumentation) -> None:
    """Undo what ``instrument`` has entered; twice does no harm."""
    if hasattr(made, "_collector"):
        with contextlib.suppress(KeyError):  # it is not there, or no more
            made._registry.unregister(made._collector)
    with contextlib.suppress(ValueError):
        _in_files.remove(made)


def instrument(registry: CollectorRegistry | None = None) -> Instrumentation:
    """Have all deliveries of this process counted and measured from now on, and its pools shown.

    registry: where; ``None``: ``prometheus_client.REGISTRY``. In multiprocess mode, where
        ``PROMETHEUS_MULTIPROC_DIR`` was set before ``prometheus_client`` was imported, the numbers
        go into files, and whoever is scraped adds them up with a ``MultiProcessCollector``. A
        forked child goes on by itself.

    Labels are the names of signals and receivers, never senders: there are as many series as the
    program has signals with receivers. Every way to send counts; a ``background`` receiver counts
    where it runs.

    Raises ``TypeError`` for what is no registry; ``ValueError`` where it is instrumented, or in
    multiprocess mode anything is. Nothing changes then.

    Thread safety: from any thread.
    """
    registry = REGISTRY if registry is None else registry
    if not callable(getattr(registry, "register", None)):
        kind = type(registry).__name__
        raise TypeError(f"registry must be a CollectorRegistry of prometheus_client, not {kind!r}")
    in_files = values.ValueClass is not values.MutexValue
    made = object.__new__(Instrumentation)
    done = False
    try:
        if in_files:
            _in_files.append(made)
            if _in_files[0] is not made:
                raise ValueError(
                    "cannot instrument twice in multiprocess mode: both would write to the same "
                    "files; close the former Instrumentation first"
                )
        deliveries = _SharedDeliveries() if in_files else _Deliveries()
        made._registry, made._collector, made._open = registry, _Collector(deliveries), [True]
        _register(registry, made._collector)
        made._observation = observe(deliveries)
        done = True
        return made
    finally:
        if not done:
            _let_go(made)


def _register(registry: CollectorRegistry, collector: _Collector) -> None:
    try:
        registry.register(collector)
    except ValueError as error:
        raise ValueError(
            "cannot instrument this registry, it has these metrics already: close the former "
            f"Instrumentation first, or pass another registry ({error})"
        ) from None
