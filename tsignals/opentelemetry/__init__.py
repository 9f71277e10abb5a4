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
from collections.abc import Callable
from typing import Generic, TypeVar

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from tsignals.observing import observe
from tsignals.opentelemetry._metrics import Metrics
from tsignals.opentelemetry._spans import Deliveries

__all__ = ["Instrumentation", "instrument"]


Provider = TypeVar("Provider")


class _Instrumented(Generic[Provider]):
    """Which providers of one kind have our deliveries, and whose that is."""

    def __init__(self, name: str, current: Callable[[], Provider]) -> None:
        self._name = name
        self._current = current
        # By the id of what was given, which is held by it.
        self._open: dict[int, tuple[Provider | None, Instrumentation]] = {}

    def provider(self, given: Provider | None) -> Provider:
        """``None``: the program's own, which may be another one later."""
        return self._current() if given is None else given

    def claim(self, given: Provider | None, made: "Instrumentation") -> Provider:
        """Have the provider for ``made``; raises ``ValueError`` where another one has it."""
        provider = self.provider(given)
        self._open.setdefault(id(given), (given, made))
        for other, whose in list(self._open.values()):
            if whose is not made and self.provider(other) is provider:
                raise ValueError(
                    f"cannot instrument twice: the {self._name}, a {type(provider).__name__}, has "
                    "tsignals' deliveries already; close the former Instrumentation first, or pass "
                    f"another {self._name}"
                )
        return provider

    def is_open(self, given: int) -> bool:
        return given in self._open

    def forget(self, given: Provider | None, made: "Instrumentation") -> None:
        """Undo ``claim``; harmless when repeated, and where another has it."""
        if self._open.get(id(given), (None, None))[1] is made:
            found = self._open.pop(id(given), None)
            if found is not None and found[1] is not made:  # closed in another thread just now
                self._open.setdefault(id(given), found)


_tracers = _Instrumented("tracer_provider", trace.get_tracer_provider)
_meters = _Instrumented("meter_provider", metrics.get_meter_provider)


class Instrumentation:
    """The handle of ``instrument``: a context manager that closes it at the end.

    Dropping it closes nothing.

    Thread safety: every method from any thread.
    """

    def __init__(self) -> None:
        raise TypeError("cannot make an Instrumentation; instrument() does")

    _deliveries: Deliveries
    _given: tuple[TracerProvider | None, MeterProvider | None]

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

    Raises ``TypeError`` for what is no provider, or a ``links`` that is no bool, and ``ValueError``
    where one of the providers has deliveries already. Nothing changes then.

    Thread safety: from any thread.
    """
    for name, given, method in (
        ("tracer_provider", tracer_provider, "get_tracer"),
        ("meter_provider", meter_provider, "get_meter"),
    ):
        if given is not None and not callable(getattr(given, method, None)):
            kind = type(given).__name__
            raise TypeError(f"{name} must be one of OpenTelemetry's or None, not {kind!r}")
    if not isinstance(links, int):
        raise TypeError(f"links must be True or False, not {type(links).__name__!r}")
    made = object.__new__(Instrumentation)
    made._given = tracer_provider, meter_provider
    done = False
    try:
        tracers = _tracers.claim(tracer_provider, made)
        meters = _meters.claim(meter_provider, made)
        shown = Metrics(meters, functools.partial(_meters.is_open, id(meter_provider)))
        made._deliveries = deliveries = Deliveries(tracers, shown, links)
        deliveries.close = observe(deliveries).close
        done = True
        return made
    finally:
        if not done:
            _forget(made)


def _forget(made: Instrumentation) -> None:
    tracers, meters = made._given
    _tracers.forget(tracers, made)
    _meters.forget(meters, made)
