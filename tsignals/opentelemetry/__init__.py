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
    _given: tuple[TracerProvider | None, MeterProvider | None]

    def _providers(self) -> tuple[TracerProvider, MeterProvider]:
        tracers, meters = self._given
        return (
            trace.get_tracer_provider() if tracers is None else tracers,
            metrics.get_meter_provider() if meters is None else meters,
        )

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
"""By the id of the provider that was given, which is held by it: whose that is.

That of ``None`` stands for the program's own, which may be another object later.
"""


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
    made = object.__new__(Instrumentation)
    made._given = tracer_provider, meter_provider
    tracers, meters = made._providers()
    done = False
    try:
        _claim(_traced, made, 0)
        _claim(_metered, made, 1)
        shown = Metrics(meters, functools.partial(_is_open, id(meter_provider)))
        made._deliveries = deliveries = Deliveries(tracers, shown, links)
        deliveries.close = observe(deliveries).close
        done = True
        return made
    finally:
        if not done:
            _forget(made)


def _claim(open_ones: dict[int, Instrumentation], made: Instrumentation, place: int) -> None:
    provider = made._providers()[place]
    open_ones.setdefault(id(made._given[place]), made)
    for other in list(open_ones.values()):
        if other is not made and other._providers()[place] is provider:
            what = ("tracer_provider", "meter_provider")[place]
            raise ValueError(
                f"cannot instrument twice: the {what}, a {type(provider).__name__}, has tsignals' "
                "deliveries already; close the former Instrumentation first, or pass another "
                f"{what}"
            )


def _forget(made: Instrumentation) -> None:
    for open_ones, given in zip((_traced, _metered), made._given, strict=True):
        if open_ones.get(id(given)) is made:
            del open_ones[id(given)]
