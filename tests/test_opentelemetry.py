"""``tsignals.opentelemetry``: the spans and metrics that the real SDK exports."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import processes
import pytest
from event_loops import AsyncLatch
from executor_signals import doubles, elsewhere
from helpers import TIMEOUT, Boom, Latch, awaited, ignore, raiser, together, wait_until

from tsignals import QueueFull, Retry, Signal, WorkerPool, background
from tsignals.observing import receiver_name

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")

from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
    InMemorySpanExporter,
)

from tsignals.opentelemetry import Instrumentation, instrument


class Collected:
    """Providers with exporters that keep what they get."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracer = self.tracers.get_tracer("shop")

    def instrument(self, links: bool = False) -> Instrumentation:
        return instrument(self.tracers, self.meters, links)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def deliveries(self) -> list[ReadableSpan]:
        return [span for span in self.spans if attributes(span).get("tsignals.signal")]

    def named(self, name: str) -> ReadableSpan:
        [found] = [span for span in self.spans if span.name == name]
        return found

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in ([] if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def outcomes(self) -> dict[tuple[str, str], int]:
        """How often, by receiver and outcome."""
        return {
            (p.attributes["code.function.name"], p.attributes["tsignals.outcome"]): p.value
            for p in self.points("tsignals.deliveries")
        }


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.fixture
def collected() -> Iterator[Collected]:
    collected = Collected()
    yield collected
    collected.tracers.shutdown()
    collected.meters.shutdown()


@pytest.fixture
def instrumented(collected: Collected) -> Iterator[Collected]:
    with collected.instrument():
        yield collected
    assert context.get_current() == {}  # nothing stays current


def failing(**named: Any) -> None:
    raise Boom("it went wrong")


FAILING, IGNORE = receiver_name(failing), receiver_name(ignore)


def signal_with(*receivers: Any) -> Signal:
    signal = Signal(name="order_paid")
    for receiver in receivers:
        signal.connect(receiver, weak=False)
    return signal


def working(tracer: Any, is_async: bool) -> Any:
    """A receiver that starts spans of its own."""

    def receiver(**named: Any) -> None:
        with tracer.start_as_current_span("work"):
            pass

    async def async_receiver(**named: Any) -> None:
        await asyncio.sleep(0)
        with tracer.start_as_current_span("work"):
            await asyncio.sleep(0)

    return async_receiver if is_async else receiver


def in_a_pool(signal: Signal, executor: Any) -> None:
    with executor:
        signal.via(executor).send_async(None).results(TIMEOUT)


def prepared(signal: Signal) -> None:
    with WorkerPool(1) as pool:
        held = signal.via(pool).prepare(None)
        held.submit()
        held.deliveries.results(TIMEOUT)


WAYS: dict[str, tuple[str, Callable[[Signal], object]]] = {
    "send": ("send", lambda signal: signal.send(None)),
    "send_robust": ("send_robust", lambda signal: signal.send_robust(None)),
    "asend": ("asend", lambda signal: awaited(signal.asend, None)),
    "asend_robust": ("asend_robust", lambda signal: awaited(signal.asend_robust, None)),
    "here": ("asend", lambda signal: awaited(signal.here.asend, None)),
    "send_async": ("send_async", lambda signal: in_a_pool(signal, WorkerPool(1))),
    "prepare": ("send_async", prepared),
    "around": (
        "send_async",
        lambda signal: in_a_pool(signal, WorkerPool(1, around=contextlib.nullcontext)),
    ),
    "threads": ("send_async", lambda signal: in_a_pool(signal, ThreadPoolExecutor(1))),
}


# -- Spans --


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("tracked", [False, True], ids=["untracked", "tracked"])
@pytest.mark.parametrize("way", WAYS)
def test_delivery_is_a_child_of_the_send_and_the_parent_of_what_the_receiver_does(
    way: str, tracked: bool, is_async: bool, instrumented: Collected
) -> None:
    mode, act = WAYS[way]
    receiver = working(instrumented.tracer, is_async)
    signal = Signal(name="order_paid")
    signal.connect(receiver, tracked=tracked)
    with instrumented.tracer.start_as_current_span("request") as request:
        act(signal)
        assert trace.get_current_span() is request
    work, request_span = instrumented.named("work"), instrumented.named("request")
    [delivery] = instrumented.deliveries
    assert delivery.name == f"order_paid {receiver_name(receiver)}"
    assert delivery.kind is trace.SpanKind.INTERNAL
    assert delivery.parent == request_span.context
    assert work.parent == delivery.context
    assert delivery.status.is_unset
    found = attributes(delivery)
    assert found["code.function.name"] == receiver_name(receiver)
    assert found["tsignals.signal"] == "order_paid"
    assert found["tsignals.mode"] == mode
    assert found["tsignals.outcome"] == "completed"
    assert isinstance(found["thread.id"], int)
    assert isinstance(found["thread.name"], str)
    assert ("tsignals.queue.duration" in found) is (mode == "send_async")
    assert "error.type" not in found
    assert delivery.start_time <= work.start_time <= work.end_time <= delivery.end_time  # type: ignore[operator]


def test_background_receiver_has_a_span_where_it_runs(instrumented: Collected) -> None:
    with WorkerPool(1) as pool:
        receiver = background(working(instrumented.tracer, False), executor=pool)
        signal = signal_with(receiver)
        with instrumented.tracer.start_as_current_span("request"):
            [(_, delivery)] = signal.send(None)
        delivery.result(TIMEOUT)
    [span] = instrumented.deliveries
    assert attributes(span)["tsignals.mode"] == "background"
    assert attributes(span)["thread.name"].startswith("tsignals")
    assert span.parent == instrumented.named("request").context
    assert instrumented.named("work").parent == span.context


def test_delivery_is_a_child_of_a_send_whose_span_has_ended(instrumented: Collected) -> None:
    latch = Latch()
    signal = signal_with(working(instrumented.tracer, False))
    with WorkerPool(1) as pool:
        pool.submit(latch)
        with instrumented.tracer.start_as_current_span("request"):
            deliveries = signal.via(pool).send_async(None)
        [request] = instrumented.spans  # it has been exported
        latch.opened.set()
        deliveries.results(TIMEOUT)
    [delivery] = instrumented.deliveries
    assert delivery.parent == request.context
    assert delivery.start_time >= request.end_time  # type: ignore[operator]
    assert instrumented.named("work").parent == delivery.context


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("way", WAYS)
def test_links_begin_a_trace_of_their_own(way: str, is_async: bool, collected: Collected) -> None:
    seen = []
    receiver = working(collected.tracer, is_async)
    signal = signal_with(receiver, lambda **named: seen.append(baggage.get_baggage("tenant")))
    with collected.instrument(links=True):
        token = context.attach(baggage.set_baggage("tenant", "blue"))
        with collected.tracer.start_as_current_span("request"):
            WAYS[way][1](signal)
        context.detach(token)
    request, work = collected.named("request"), collected.named("work")
    delivery = next(s for s in collected.deliveries if s.name.endswith(receiver_name(receiver)))
    assert delivery.parent is None
    assert delivery.context.trace_id != request.context.trace_id
    assert [link.context for link in delivery.links] == [request.context]
    assert work.parent == delivery.context
    assert seen == ["blue"]  # baggage is carried


@pytest.mark.parametrize("links", [False, True])
def test_send_outside_of_any_span_begins_a_trace(links: bool, collected: Collected) -> None:
    with collected.instrument(links):
        signal_with(ignore).send(None)
    [delivery] = collected.deliveries
    assert delivery.parent is None
    assert list(delivery.links) == []


@pytest.mark.parametrize("verb", ["asend", "send"])
def test_async_receivers_side_by_side_are_siblings(verb: str, instrumented: Collected) -> None:
    """They run by turns on one thread, and each has its own span all the time."""
    tracer = instrumented.tracer
    seen: list[bool] = []

    def receiver(name: str) -> Any:
        async def hear(**named: Any) -> None:
            mine = trace.get_current_span()
            for _ in range(3):
                await asyncio.sleep(0)
                seen.append(trace.get_current_span() is mine)
            with tracer.start_as_current_span(name):
                await asyncio.sleep(0)

        hear.__qualname__ = f"hear_{name}"
        return hear

    signal = signal_with(receiver("a"), receiver("b"), receiver("c"))
    with tracer.start_as_current_span("request"):
        (WAYS[verb][1])(signal)
    request = instrumented.named("request")
    assert [span.parent for span in instrumented.deliveries] == [request.context] * 3
    for name in ("a", "b", "c"):
        [delivery] = [s for s in instrumented.deliveries if s.name.endswith(f"hear_{name}")]
        assert instrumented.named(name).parent == delivery.context
    assert seen == [True] * 9


def test_sends_of_a_receiver_are_below_its_span(instrumented: Collected) -> None:
    inner = signal_with(ignore)
    with WorkerPool(2) as pool:
        outer = signal_with(lambda **named: inner.via(pool).send_async(None).wait(TIMEOUT))
        outer.via(pool).send_async(None).wait(TIMEOUT)
    [below] = [span for span in instrumented.deliveries if span.name.endswith(IGNORE)]
    [above] = [span for span in instrumented.deliveries if span is not below]
    assert below.parent == above.context


@pytest.mark.parametrize("way", ["send_robust", "asend_robust", "send_async", "threads"])
def test_failure_is_an_error_of_its_span(way: str, instrumented: Collected) -> None:
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.suppress(Boom):
            WAYS[way][1](signal_with(failing))
    finally:
        logging.disable(logging.NOTSET)
    [delivery] = instrumented.deliveries
    assert delivery.status.status_code is trace.StatusCode.ERROR
    assert attributes(delivery)["error.type"] == f"{Boom.__module__}.Boom"
    assert attributes(delivery)["tsignals.outcome"] == "failed"
    [event] = delivery.events
    assert event.name == "exception"
    assert dict(event.attributes or {})["exception.message"] == "it went wrong"


@pytest.mark.parametrize(("error", "name"), [(OSError, "OSError"), (Boom, "helpers.Boom")])
def test_errors_are_called_as_the_sdk_calls_them(
    error: type[Exception], name: str, instrumented: Collected
) -> None:
    with pytest.raises(error):
        signal_with(raiser(error())).send(None)
    [delivery] = instrumented.deliveries
    assert attributes(delivery)["error.type"] == name
    [event] = delivery.events
    assert dict(event.attributes or {})["exception.type"] == name


def test_error_without_words_ends_its_span_all_the_same(instrumented: Collected) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def mute(**named: Any) -> None:
        raise Mute

    with pytest.raises(Mute):
        signal_with(mute).send(None)
    [delivery] = instrumented.deliveries
    assert attributes(delivery)["error.type"].endswith("Mute")
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_what_never_runs_has_a_span_where_that_happens(instrumented: Collected) -> None:
    signal, latch = signal_with(ignore), Latch()
    with WorkerPool(1, max_pending=1, overflow="raise") as pool:
        running = pool.submit(latch)
        assert latch.entered.wait(TIMEOUT)
        with instrumented.tracer.start_as_current_span("request"):
            waiting = signal.via(pool).send_async(None)
            with pytest.raises(QueueFull):
                signal.via(pool).send_async(None)
            signal.via(pool).prepare(None).drop()
        assert waiting.cancel() == 1
        latch.opened.set()
        running.result(TIMEOUT)
    request = instrumented.named("request")
    found = {attributes(span)["tsignals.outcome"]: span for span in instrumented.deliveries}
    assert set(found) == {"refused", "dropped", "cancelled"}
    assert [span.parent for span in found.values()] == [request.context] * 3
    assert attributes(found["refused"])["error.type"] == "tsignals.QueueFull"
    assert found["refused"].status.status_code is trace.StatusCode.ERROR
    assert found["cancelled"].status.is_unset


def test_what_is_cancelled_while_it_runs_has_waited_and_run(instrumented: Collected) -> None:
    latch = AsyncLatch()
    with WorkerPool(1) as pool:
        deliveries = signal_with(latch).via(pool).send_async(None)
        assert latch.entered.wait(TIMEOUT)
        assert deliveries.cancel() == 1
    assert set(instrumented.outcomes()) == {(receiver_name(latch), "cancelled")}
    for each in ("queue", "run"):
        [point] = instrumented.points(f"tsignals.{each}.duration")
        assert point.count == 1, each


@pytest.mark.parametrize("is_async", [False, True])
def test_each_attempt_has_a_span_and_the_delivery_is_counted_once(
    is_async: bool, instrumented: Collected
) -> None:
    calls = list[int]()

    def works_at_last(**named: Any) -> None:
        with instrumented.tracer.start_as_current_span("work"):
            calls.append(1)
            if len(calls) < 3:
                raise Boom("not yet")

    async def works_at_last_on_the_loop(**named: Any) -> None:
        works_at_last()

    receiver: Any = works_at_last_on_the_loop if is_async else works_at_last
    signal = Signal(name="order_paid")
    signal.connect(receiver, retry=Retry(Boom, wait_initial=0, wait_jitter=0, timeout=None))
    with WorkerPool(1) as pool, instrumented.tracer.start_as_current_span("request"):
        signal.via(pool).send_async(None)
    spans = instrumented.deliveries
    outcomes = [attributes(span)["tsignals.outcome"] for span in spans]
    assert outcomes == ["retried", "retried", "completed"]
    assert [span.status.is_ok for span in spans] == [False, False, True]
    assert [len(span.events) for span in spans] == [1, 1, 0]
    request = instrumented.named("request")
    assert [span.parent for span in spans] == [request.context] * 3
    work = [span for span in instrumented.spans if span.name == "work"]
    assert [span.parent for span in work] == [span.context for span in spans]
    assert instrumented.outcomes() == {(receiver_name(receiver), "completed"): 1}


def test_what_is_cancelled_between_two_attempts_keeps_no_span(collected: Collected) -> None:
    retry = Retry(Boom, wait_initial=3000, wait_max=3000, timeout=None)
    signal = Signal(name="order_paid")
    signal.connect(failing, retry=retry)
    with WorkerPool(1) as pool:
        with collected.instrument():
            deliveries = signal.via(pool).send_async(None)
            wait_until(lambda: bool(collected.deliveries))  # the first attempt has failed
            wait_until(lambda: deliveries.cancel() == 1)
    outcomes = [attributes(span)["tsignals.outcome"] for span in collected.deliveries]
    assert outcomes == ["retried", "cancelled"]
    assert collected.outcomes() == {(FAILING, "cancelled"): 1}


def test_receiver_that_leaves_a_span_current_does_not_leave_it_to_the_sender(
    instrumented: Collected,
) -> None:
    def careless(**named: Any) -> None:
        context.attach(trace.set_span_in_context(instrumented.tracer.start_span("lost")))

    signal = signal_with(careless)
    with instrumented.tracer.start_as_current_span("request") as request:
        signal.send(None)
        assert trace.get_current_span() is request


@pytest.mark.parametrize("in_one_send", [False, True])
def test_receiver_that_detaches_what_another_attached_leaves_no_span_that_has_ended(
    instrumented: Collected, in_one_send: bool
) -> None:
    """As one does that opens a span for a request, and one that closes it."""
    tokens = list[Any]()

    def begins(**named: Any) -> None:
        span = instrumented.tracer.start_span("theirs")
        tokens.append(context.attach(trace.set_span_in_context(span)))

    def ends(**named: Any) -> None:
        context.detach(tokens.pop())

    signals = [signal_with(begins, ends)] if in_one_send else map(signal_with, [begins, ends])
    with instrumented.tracer.start_as_current_span("request") as request:
        for signal in signals:
            signal.send(None)
        assert trace.get_current_span() is request
    assert not trace.get_current_span().is_recording()
    assert not trace.get_current_span().get_span_context().is_valid


def test_processes_are_counted_and_have_no_span(instrumented: Collected) -> None:
    with ProcessPoolExecutor(1) as executor, elsewhere.connect(doubles):
        elsewhere.via(executor).send_async(None, value=1).results(TIMEOUT)
        name = receiver_name(doubles)
        wait_until(lambda: instrumented.outcomes() == {(name, "completed"): 1})
    assert instrumented.deliveries == []


def test_many_threads_have_each_their_own_trace(instrumented: Collected) -> None:
    signal = signal_with(working(instrumented.tracer, False))

    def request() -> None:
        for _ in range(20):
            with instrumented.tracer.start_as_current_span("request"):
                with WorkerPool(1) as pool:
                    signal.via(pool).send_async(None).results(TIMEOUT)

    together(*[request] * 4)
    traces = Counter(span.context.trace_id for span in instrumented.spans)
    assert set(traces.values()) == {3}
    assert len(traces) == 80


# -- Metrics --


def test_metrics_count_and_measure_deliveries(instrumented: Collected) -> None:
    logging.disable(logging.CRITICAL)
    try:
        with WorkerPool(1) as pool:
            signal = signal_with(ignore, failing)
            for _ in range(3):
                signal.via(pool).send_async(None).wait(TIMEOUT)
            signal.send_robust(None)
            signal.via(pool).prepare(None).drop()
    finally:
        logging.disable(logging.NOTSET)
    assert instrumented.outcomes() == {
        (IGNORE, "completed"): 4,
        (FAILING, "failed"): 4,
        (IGNORE, "dropped"): 1,
        (FAILING, "dropped"): 1,
    }
    for name, count in (("run", 4), ("queue", 3)):
        points = instrumented.points(f"tsignals.{name}.duration")
        assert [point.count for point in points] == [count, count]
        assert points[0].explicit_bounds[0] == 0.001  # in seconds
        assert {frozenset(point.attributes) for point in points} == {
            frozenset({"tsignals.signal", "code.function.name"})
        }


def test_metrics_show_pools(instrumented: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    latch = Latch()
    with WorkerPool(2, thread_name_prefix="mail") as pool:
        if not hasattr(WorkerPool, "all"):
            monkeypatch.setattr(WorkerPool, "all", lambda: [pool], raising=False)
        calls = [pool.submit(latch) for _ in range(5)]
        wait_until(lambda: latch.calls == 2)
        shown = {
            name: [
                point.value
                for point in instrumented.points(f"tsignals.pool.{name}")
                if point.attributes == {"tsignals.pool": "mail"}
            ]
            for name in ("workers", "idle", "pending", "running")
        }
        latch.opened.set()
        for call in calls:
            call.result(TIMEOUT)
    assert shown == {"workers": [2], "idle": [0], "pending": [3], "running": [2]}


# -- The handle --


def test_close_ends_it_and_makes_room(
    collected: Collected, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(WorkerPool, "all", lambda: [pool], raising=False)
    signal = signal_with(ignore)
    with WorkerPool(1) as pool:
        for n in (1, 2):
            with collected.instrument() as made:
                signal.send(None)
                assert "open" in repr(made)
                assert len(collected.points("tsignals.pool.workers")) == 1
            made.close()
            assert "closed" in repr(made)
            signal.send(None)
            assert len(collected.deliveries) == n
            assert collected.outcomes() == {(IGNORE, "completed"): n}
            assert collected.points("tsignals.pool.workers") == []
    assert caplog.records == []  # the SDK has nothing to say against the second time


def test_it_may_be_closed_in_many_threads_at_once(collected: Collected) -> None:
    for _ in range(200):
        made = collected.instrument()
        together(*[made.close] * 4)
    collected.instrument().close()


def test_what_runs_at_the_close_ends_its_span_where_that_is_current(collected: Collected) -> None:
    made = collected.instrument()
    later = signal_with(ignore)

    def closing(**named: Any) -> None:
        together(made.close, made.close)  # in other threads
        later.send(None)

    signal = signal_with(closing, ignore)
    with collected.tracer.start_as_current_span("request") as request:
        signal.send(None)
        assert trace.get_current_span() is request
    [delivery] = collected.deliveries
    assert "closing" in delivery.name
    with collected.instrument():
        pass


@pytest.mark.parametrize("wrong", [{"tracer_provider": 3}, {"meter_provider": 3}, {"links": "no"}])
def test_what_is_no_provider_is_refused_by_its_name(
    wrong: dict[str, Any], collected: Collected
) -> None:
    with pytest.raises(TypeError, match=f"^{next(iter(wrong))} must be"):
        instrument(**wrong)
    with instrument(collected.tracers, collected.meters):
        pass  # nothing was changed


def test_providers_are_instrumented_once(collected: Collected) -> None:
    other = Collected()
    signal = signal_with(ignore)
    with collected.instrument():
        with pytest.raises(ValueError, match="the tracer_provider, a TracerProvider, has"):
            instrument(collected.tracers, other.meters)
        with pytest.raises(ValueError, match="the meter_provider, a MeterProvider, has"):
            instrument(other.tracers, collected.meters)
        signal.send(None)
        assert len(collected.deliveries) == 1
        with other.instrument():  # that changed nothing
            signal.send(None)
    assert len(collected.deliveries) == 2
    assert len(other.deliveries) == 1


def test_handle_is_made_by_instrument_alone() -> None:
    with pytest.raises(TypeError, match="instrument\\(\\) does"):
        Instrumentation()


@pytest.mark.once
def test_providers_that_are_set_later_are_those_of_the_program() -> None:
    done = processes.run(
        """
        import tsignals
        assert "opentelemetry" not in sys.modules

        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from tsignals.opentelemetry import instrument

        instrument()
        exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
        trace.set_tracer_provider(TracerProvider())
        trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
        metrics.set_meter_provider(MeterProvider([reader]))
        signal = tsignals.Signal(name="order_paid")

        def receiver(**named): ...

        signal.connect(receiver)
        signal.send(None)
        [span] = exporter.get_finished_spans()
        [resource] = reader.get_metrics_data().resource_metrics
        print(span.name, sorted(metric.name for metric in resource.scope_metrics[0].metrics))
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "order_paid __main__.receiver ['tsignals.deliveries', 'tsignals.run.duration']\n"
    )


def test_instrument_that_fails_may_be_called_again() -> None:
    class Fails(MeterProvider):
        def get_meter(self, *arguments: Any, **named: Any) -> Any:
            raise Boom

    tracers, meters = TracerProvider(), MeterProvider()
    with pytest.raises(Boom):
        instrument(tracers, Fails())
    with instrument(tracers, meters):
        pass


def test_provider_of_the_program_is_instrumented_once_whenever_it_is_set() -> None:
    """Before that, something else stands for it."""
    done = processes.run("""
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
        from tsignals.opentelemetry import instrument

        def refused(*providers):
            try:
                instrument(*providers).close()
            except ValueError as error:
                return "twice" in str(error)
            return False

        first, tracers, meters = instrument(), TracerProvider(), MeterProvider()
        assert not refused(tracers, meters)
        trace.set_tracer_provider(tracers)
        metrics.set_meter_provider(meters)
        assert refused() and refused(tracers, MeterProvider()) and refused(TracerProvider(), meters)
        first.close()
        with instrument(tracers, meters):
            assert refused()
        assert not refused()
        print("the end")
    """)
    assert (done.returncode, done.stdout) == (0, "the end\n"), done.stderr
