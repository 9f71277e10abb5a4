"""The spans of deliveries."""

from collections.abc import Callable

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, StatusCode, TracerProvider

from tsignals import __version__
from tsignals.observing import Event, Observer, hands_over, waited_in_queue
from tsignals.opentelemetry._metrics import Metrics, who

OWN = context.create_key("tsignals-delivery")
"""Where a context says of which delivery it is."""


class _Delivery:
    """A receiver that runs, with its span."""

    __slots__ = ("before", "has_ended", "span")

    def __init__(self, span: Span, within: Context) -> None:
        self.span = span
        self.has_ended = False
        self.before = context.get_current()
        context.attach(context.set_value(OWN, self, trace.set_span_in_context(span, within)))

    def leave(self) -> None:
        """Take the span back, in the context where it is current; there alone that can be."""
        self.has_ended = True
        now = found = context.get_current()
        # A receiver may have gone back to the context of an earlier one, by a token from there.
        while isinstance(own := context.get_value(OWN, now), _Delivery) and own.has_ended:
            now = own.before
        if now is not found:
            context.attach(now)


class Deliveries(Observer):
    """Has a span for each delivery, and counts it."""

    def __init__(self, tracers: TracerProvider, metrics: Metrics, links: bool) -> None:
        self.tracer = trace.get_tracer("tsignals", __version__, tracers)
        self.metrics = metrics
        self.links = links
        self.running: dict[tuple[int, int | None], _Delivery | None] = {}
        self.is_closed = False
        self.close: Callable[[], object] = bool  # to be told of nothing more

    def started(self, event: Event) -> None:
        if hands_over(event):
            return
        key = event.send, event.place
        # Entered before the look: who closes us looks at these after saying so.
        self.running[key] = None
        if self.is_closed:
            self._forget(key)
        else:
            self.running[key] = _Delivery(*self._start(event))

    def ended(self, event: Event) -> None:
        if hands_over(event):
            return
        found = self._forget((event.send, event.place))
        if found is None:
            if not self.is_closed:
                self.metrics.ended(event)  # it ran in another process
            return
        try:
            self.metrics.ended(event)  # while the span is current, to which it belongs
        finally:
            found.leave()
            _end(found.span, event, str(event.outcome))

    def retried(self, event: Event) -> None:
        """This attempt has failed; the next one has a span of its own."""
        found = self._forget((event.send, event.place))
        if found is not None:
            found.leave()
            _end(found.span, event, "retried")

    def dropped(self, event: Event) -> None:
        if not self.is_closed:
            span, _ = self._start(event)
            self.metrics.count(event)
            _end(span, event, str(event.outcome))

    def refused(self, event: Event) -> None:
        self.dropped(event)

    def _start(self, event: Event) -> tuple[Span, Context]:
        """A span, and what it is to be current in."""
        within = context.get_current()
        links = None
        if self.links:
            sender = trace.get_current_span(within).get_span_context()
            links = [Link(sender)] if sender.is_valid else None
            within = trace.set_span_in_context(INVALID_SPAN, within)
        attributes = who(event)
        name = f"{attributes['tsignals.signal']} {attributes['code.function.name']}"
        attributes["tsignals.mode"] = event.mode
        attributes["thread.id"] = event.thread_id
        attributes["thread.name"] = event.thread_name
        if (waited := waited_in_queue(event)) is not None:
            attributes["tsignals.queue.duration"] = waited
        span = self.tracer.start_span(name, within, SpanKind.INTERNAL, attributes, links)
        return span, within

    def _forget(self, key: tuple[int, int | None]) -> _Delivery | None:
        found = self.running.pop(key, None)
        self.close_if_idle()
        return found

    def close_if_idle(self) -> None:
        """Once closed, hear of what runs, until it has ended: its span must not stay current."""
        if self.is_closed and not list(self.running):
            self.close()


def _end(span: Span, event: Event, outcome: str) -> None:
    """End a span, and say how that delivery, or this attempt, ended."""
    try:
        span.set_attribute("tsignals.outcome", outcome)
        error = event.exception
        if outcome not in ("completed", "cancelled"):
            span.set_attribute("error.type", _type_name(type(error)))
            span.set_status(StatusCode.ERROR, outcome)
            if error is not None:
                span.record_exception(error)
    finally:
        span.end()


def _type_name(kind: type) -> str:
    """As the SDK has it in events; one of ours as users import it."""
    module = kind.__module__
    if module == "builtins":
        return kind.__qualname__
    return f"{'tsignals' if module.startswith('tsignals.') else module}.{kind.__qualname__}"
