"""A span for each delivery, and metrics, for OpenTelemetry. Needs ``tsignals[opentelemetry]``.

``instrument()`` has them in the providers that the program has set, or in those given.

Spans are of kind INTERNAL, called ``SIGNAL RECEIVER``, with the attributes ``code.function.name``,
``thread.id``, ``thread.name``, ``error.type``, ``tsignals.signal``, ``tsignals.mode``,
``tsignals.outcome`` and ``tsignals.queue.duration``. The metrics:

| metric | instrument | attributes |
|---|---|---|
| ``tsignals.deliveries`` | counter | signal, function, outcome |
| ``tsignals.queue.duration`` | histogram, s | signal, function |
| ``tsignals.run.duration`` | histogram, s | signal, function |
| ``tsignals.pool.workers``, ``.idle``, ``.pending``, ``.running`` | up-down counter | pool |
"""

import functools

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from tsignals.observing import observe
from tsignals.opentelemetry._metrics import Metrics
from tsignals.opentelemetry._spans import Deliveries

__all__ = ["Instrumentation", "instrument"]


class Instrumentation:
    """The handle of ``instrument``: a context manager that closes it at the end.

    Dropping it closes nothing. Thread safety: every method from any thread.
    """

    def __init__(self) -> None:
        raise TypeError("cannot make an Instrumentation; instrument() does")

    _deliveries: Deliveries
    _providers: tuple[TracerProvider, MeterProvider]

    def close(self) -> None:
        """Start no more spans, count and show nothing more; twice does no harm.

        Spans of what runs end when that ends.
        """
        self._deliveries.is_closed = True
        _forget(self)
        self._deliveries.close_if_idle()

    def __enter__(self) -> "Instrumentation":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._deliveries.is_closed else "open"
        return f"<Instrumentation for OpenTelemetry, {state}>"


_traced: dict[int, Instrumentation] = {}
_metered: dict[int, Instrumentation] = {}
"""By the id of a provider, which is held by it: whose that is."""


def _is_open(meters: int) -> bool:
    return meters in _metered


def instrument(
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    links: bool = False,
) -> Instrumentation:
    """Have a span for each delivery of this process from now on, and metrics of all.

    tracer_provider, meter_provider: where; ``None``: what the program has set, or will set.
    links: False: the span is a child of the span that was current at the send, whether that has
        ended or not. True: it begins a trace of its own, with a link to that.

    The span is current while the receiver runs, in every way to send, so spans that the receiver
    starts are its children. A ``background`` receiver has a span where it runs. A delivery that is
    dropped, refused or cancelled has a span, too, which begins and ends when that happens. What
    runs in another process is counted, and has no span.

    Raises ``ValueError`` where one of the providers has deliveries already, and then changes
    nothing.

    Thread safety: from any thread.
    """
    tracers = trace.get_tracer_provider() if tracer_provider is None else tracer_provider
    meters = metrics.get_meter_provider() if meter_provider is None else meter_provider
    made = object.__new__(Instrumentation)
    made._providers = tracers, meters
    done = False
    try:
        if _traced.setdefault(id(tracers), made) is not made:
            raise ValueError(_twice("tracer_provider", tracers))
        if _metered.setdefault(id(meters), made) is not made:
            raise ValueError(_twice("meter_provider", meters))
        shown = Metrics(meters, functools.partial(_is_open, id(meters)))
        made._deliveries = deliveries = Deliveries(tracers, shown, links)
        deliveries.close = observe(deliveries).close
        done = True
        return made
    finally:
        if not done:
            _forget(made)


def _forget(made: Instrumentation) -> None:
    for of, provider in zip((_traced, _metered), made._providers, strict=True):
        if of.get(id(provider)) is made:
            del of[id(provider)]


def _twice(what: str, provider: object) -> str:
    return (
        f"cannot instrument twice: the {what}, a {type(provider).__name__}, has tsignals' "
        f"deliveries already; close the former Instrumentation first, or pass another {what}"
    )
