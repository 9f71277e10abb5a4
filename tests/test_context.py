"""Context of the sender, in receivers: request ids, structlog, OpenTelemetry, Sentry, for real.

``docs/howto/context.md`` says what to do; here is what happens if one does and if one does not.
"""

import asyncio
import contextvars
import functools
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest
from helpers import TIMEOUT, Latch, Running, in_new_process, together

from tsignals import Signal, WorkerPool, background, receiver, receiver_failed

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="-")


def in_copy(function: Callable[[], Any]) -> Any:
    """Call it where no other test sees which variables it sets."""
    return contextvars.copy_context().run(function)


# --- context variables


class Lines(logging.Handler):
    """Log lines, with the request id that a filter finds."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.addFilter(self.add_request_id)
        self.setFormatter(logging.Formatter("%(request_id)s %(message)s"))

    def add_request_id(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record).splitlines()[0])


@pytest.fixture
def lines() -> Any:
    handler = Lines()
    logging.getLogger().addHandler(handler)
    yield handler.lines
    logging.getLogger().removeHandler(handler)


def test_log_lines_of_receivers_and_of_their_failures_carry_the_request_id(
    lines: list[str],
) -> None:
    signal = Signal(name="placed")

    @receiver(signal)
    def work(**named: Any) -> None:
        logging.getLogger(__name__).error("working")
        raise OSError("no route")

    def send() -> None:
        request_id.set("req-42")
        deliveries = signal.send_async(None)
        request_id.set("req-43")  # too late
        deliveries.wait(TIMEOUT)

    in_copy(send)
    assert lines[0] == "req-42 working"
    assert lines[1].startswith("req-42 receiver ")
    assert lines[1].endswith("failed in send_async: OSError('no route')")
    assert len(lines) == 2


def test_requests_side_by_side_never_see_each_others_id() -> None:
    signal = Signal()
    signal.connect(lambda **named: (named["mine"], request_id.get()), weak=False)
    with WorkerPool(4) as signal.executor:

        def ask(name: str) -> set[Any]:
            request_id.set(name)
            sent = [signal.send_async(None, mine=name) for _ in range(100)]
            return {answer for deliveries in sent for _, answer in deliveries.results(TIMEOUT)}

        names = ["a", "b", "c", "d"]
        seen = together(*(functools.partial(ask, name) for name in names))
    assert seen == [{(name, name)} for name in names]


def test_what_a_receiver_sets_is_seen_by_the_sender_after_send_and_asend_only() -> None:
    signal = Signal()
    signal.connect(lambda **named: request_id.set("changed"), weak=False)
    in_background = Signal()
    in_background.connect(background(lambda **named: request_id.set("changed")), weak=False)
    ways: dict[str, Callable[[], object]] = {
        "send": lambda: signal.send(None),
        "send_robust": lambda: signal.send_robust(None),
        "send_async": lambda: signal.send_async(None).results(TIMEOUT),
        "background": lambda: in_background.send(None)[0][1].result(TIMEOUT),
    }

    def after(way: str) -> str:
        request_id.set("req-42")
        ways[way]()
        return request_id.get()

    async def after_await(method: Callable[[None], Awaitable[object]]) -> str:
        request_id.set("req-42")
        await method(None)
        return request_id.get()

    assert {way: in_copy(lambda: after(way)) for way in ways} == {
        "send": "changed",
        "send_robust": "changed",
        "send_async": "req-42",
        "background": "req-42",
    }
    assert asyncio.run(after_await(signal.asend)) == "changed"
    assert asyncio.run(after_await(signal.asend_robust)) == "changed"


def test_submit_sees_what_earlier_calls_of_its_thread_have_set_and_deliveries_do_not() -> None:
    signal = Signal()
    signal.connect(lambda **named: request_id.get(), weak=False)

    def work() -> None:
        request_id.set("req-42")
        with WorkerPool(1) as pool:
            signal.executor = pool
            assert pool.submit(request_id.get).result(TIMEOUT) == "-"
            run = contextvars.copy_context().run
            assert pool.submit(run, request_id.get).result(TIMEOUT) == "req-42"
            pool.submit(request_id.set, "left behind").result(TIMEOUT)
            assert pool.submit(request_id.get).result(TIMEOUT) == "left behind"
            assert list(pool.map(lambda _: request_id.get(), [1])) == ["left behind"]
            assert signal.send_async(None).results(TIMEOUT)[0][1] == "req-42"

    in_copy(work)


# --- structlog


def test_what_structlog_binds_reaches_workers_and_what_they_bind_or_clear_stays_there() -> None:
    bound = pytest.importorskip("structlog").contextvars
    signal = Signal()

    @receiver(signal)
    def work(**named: Any) -> Any:
        before = bound.get_contextvars()
        bound.bind_contextvars(order_id=17)
        during = bound.get_contextvars()
        bound.clear_contextvars()
        return before, during

    with bound.bound_contextvars(request_id="req-42"):
        [(_, (before, during))] = signal.send_async(None).results(TIMEOUT)
        assert before == {"request_id": "req-42"}
        assert during == {"request_id": "req-42", "order_id": 17}
        assert bound.get_contextvars() == {"request_id": "req-42"}


def test_what_a_receiver_of_asend_binds_and_unbinds_with_structlog_is_carried_back() -> None:
    bound = pytest.importorskip("structlog").contextvars
    signal = Signal()

    @receiver(signal)
    def work(**named: Any) -> None:
        bound.bind_contextvars(order_id=17)
        bound.unbind_contextvars("request_id")  # which sets it, to a mark of structlog's

    async def place() -> Any:
        bound.bind_contextvars(request_id="req-42")
        await signal.asend(None)
        return bound.get_contextvars()

    assert asyncio.run(place()) == {"order_id": 17}


def test_values_of_a_bound_logger_go_nowhere() -> None:
    structlog = pytest.importorskip("structlog")
    printed: list[Any] = []

    def keep(logger: Any, method: str, event: Any) -> Any:
        printed.append(event)
        raise structlog.DropEvent

    merge = structlog.contextvars.merge_contextvars
    log = structlog.wrap_logger(None, processors=[merge, keep])
    signal = Signal()

    @receiver(signal)
    def work(**named: Any) -> None:
        log.info("mail")

    log.bind(request_id="req-42").info("request")
    signal.send_async(None).results(TIMEOUT)
    assert printed == [{"event": "request", "request_id": "req-42"}, {"event": "mail"}]


# --- OpenTelemetry


class Traces:
    """A tracer of OpenTelemetry's own SDK, and what it has exported."""

    def __init__(self) -> None:
        pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("tests")

    def start(self, name: str) -> Any:
        return self.tracer.start_as_current_span(name)

    def spans(self) -> dict[str, Any]:
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def parents(self) -> dict[str, str | None]:
        """Which span stands in which; all have different names."""
        names = {span.context.span_id: span.name for span in self._exporter.get_finished_spans()}
        return {
            name: names[span.parent.span_id] if span.parent else None
            for name, span in self.spans().items()
        }


@pytest.fixture
def traces() -> Traces:
    return Traces()


@pytest.mark.parametrize("make", [lambda: WorkerPool(2), lambda: ThreadPoolExecutor(2)])
@pytest.mark.parametrize("way", ["send_async", "background"])
def test_span_of_the_request_is_the_parent_in_the_worker(
    traces: Traces, make: Callable[[], Executor], way: str
) -> None:
    def mail(**named: Any) -> None:
        with traces.start("mail"):
            pass

    signal = Signal()
    signal.connect(background(mail) if way == "background" else mail, weak=False)
    with make() as signal.executor, traces.start("request"):
        if way == "background":
            signal.send(None)[0][1].result(TIMEOUT)
        else:
            signal.send_async(None).results(TIMEOUT)
    assert traces.parents() == {"request": None, "mail": "request"}


def test_span_of_the_request_is_the_parent_in_async_deliveries_side_by_side(
    traces: Traces,
) -> None:
    signal = Signal()
    for function in side_by_side(traces):
        signal.connect(function, weak=False)
    with WorkerPool(1) as signal.executor, traces.start("request"):
        signal.send_async(None).results(TIMEOUT)
        with traces.start("after"):
            pass
    parents = {"request": None, "one": "request", "two": "request", "after": "request"}
    assert traces.parents() == parents


def test_span_of_the_request_is_the_parent_in_sync_receivers_of_asend(traces: Traces) -> None:
    signal = Signal()

    def work(name: str, **named: Any) -> None:
        with traces.start(name):
            pass

    for name in ("one", "two"):
        signal.connect(lambda name=name, **named: work(name), weak=False)

    async def place() -> None:
        with traces.start("request"):
            await signal.asend(None)

    asyncio.run(place())
    assert traces.parents() == {"request": None, "one": "request", "two": "request"}


def side_by_side(traces: Traces) -> list[Callable[..., Awaitable[None]]]:
    """Two async receivers: the second's span starts within the time of the first's, ends after."""
    second_began: list[asyncio.Future[None]] = []
    first_ended: list[asyncio.Future[None]] = []

    async def one(**named: Any) -> None:
        loop = asyncio.get_running_loop()
        second_began.append(loop.create_future())
        first_ended.append(loop.create_future())
        with traces.start("one"):
            await asyncio.wait_for(second_began[0], TIMEOUT)
        first_ended[0].set_result(None)

    async def two(**named: Any) -> None:
        with traces.start("two"):
            second_began[0].set_result(None)
            await asyncio.wait_for(first_ended[0], TIMEOUT)

    return [one, two]


def in_own_context(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """As the page has it."""

    @functools.wraps(function)
    async def receive(**named: Any) -> Any:
        return await asyncio.create_task(function(**named))

    return receive


@pytest.mark.parametrize("which", ["none", "second", "both"])
@pytest.mark.parametrize("way", ["asend", "send"])
def test_async_receivers_start_spans_in_each_others_unless_all_have_contexts_of_their_own(
    traces: Traces, way: str, which: str
) -> None:
    one, two = side_by_side(traces)
    signal = Signal()
    signal.connect(in_own_context(one) if which == "both" else one, weak=False)
    signal.connect(two if which == "none" else in_own_context(two), weak=False)

    async def place() -> None:
        with traces.start("request"):
            await signal.asend(None)
            with traces.start("after"):
                pass

    def place_in_sync_code() -> None:
        with traces.start("request"):
            signal.send(None)
            with traces.start("after"):
                pass

    if way == "asend":
        asyncio.run(place())
    else:
        in_copy(place_in_sync_code)
    # The last to set the variable back sets it to what it had found.
    assert traces.parents() == {
        "request": None,
        "one": "request",
        "two": "request" if which == "both" else "one",
        "after": "one" if which == "none" else "request",
    }


def test_receiver_in_a_context_of_its_own_is_cancelled_with_its_asend() -> None:
    signal = Signal()
    ends: list[str] = []

    async def main() -> None:
        entered = asyncio.Event()

        @receiver(signal)
        @in_own_context
        async def hang(**named: Any) -> None:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                ends.append("cancelled")

        task = asyncio.create_task(signal.asend(None))
        async with asyncio.timeout(TIMEOUT):
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert ends == ["cancelled"]


def test_span_of_a_request_that_has_ended_takes_no_more_and_is_still_the_parent(
    traces: Traces,
) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    signal = Signal()
    gate = Latch()

    @receiver(signal)
    def mail(**named: Any) -> None:
        gate()
        trace.get_current_span().set_attribute("order_id", 17)
        with traces.start("mail"):
            pass

    with WorkerPool(1) as signal.executor:
        with traces.start("request"):
            deliveries = signal.send_async(None)
            assert gate.entered.wait(TIMEOUT)
        gate.opened.set()
        deliveries.results(TIMEOUT)
    assert traces.parents() == {"request": None, "mail": "request"}
    assert dict(traces.spans()["request"].attributes) == {}


def test_around_gives_each_delivery_a_span_of_its_own_that_records_its_failure(
    traces: Traces,
) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    signal = Signal()
    told: list[str] = []

    @receiver(signal)
    def mail(**named: Any) -> None:
        trace.get_current_span().set_attribute("order_id", 17)
        raise OSError("no route")

    @receiver(receiver_failed, sender=signal)
    def note(**named: Any) -> None:
        told.append(trace.get_current_span().name)

    with WorkerPool(1, around=lambda: traces.start("delivery")) as signal.executor:
        with traces.start("request"):
            deliveries = signal.send_async(None)
        assert deliveries.wait(TIMEOUT)
    assert traces.parents() == {"request": None, "delivery": "request"}
    delivery = traces.spans()["delivery"]
    assert dict(delivery.attributes) == {"order_id": 17}
    assert delivery.status.status_code is trace.StatusCode.ERROR
    assert [event.name for event in delivery.events] == ["exception"]
    assert told == ["delivery"]


def test_baggage_reaches_workers(traces: Traces) -> None:
    baggage = pytest.importorskip("opentelemetry.baggage")
    context = pytest.importorskip("opentelemetry.context")
    signal = Signal()
    signal.connect(lambda **named: baggage.get_baggage("tenant"), weak=False)
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        assert signal.send_async(None).results(TIMEOUT)[0][1] == "acme"
    finally:
        context.detach(token)


# --- Sentry, which changes the whole process: in one of its own


def start_sentry(events: list[Any], **more: Any) -> Any:
    import sentry_sdk

    sentry_sdk.init(
        dsn="https://key@sentry.example/1",
        before_send=lambda event, hint: events.append(event),
        # Nothing goes out, so nothing has to be waited for at exit.
        auto_session_tracking=False,
        send_client_reports=False,
        shutdown_timeout=0,
        auto_enabling_integrations=False,  # which would import every framework there is
        **more,
    )
    return sentry_sdk


def tags_without_and_with_a_scope_of_its_own() -> None:
    events: list[Any] = []
    sentry_sdk = start_sentry(events)
    signal = Signal()

    @receiver(signal)
    def work(**named: Any) -> None:
        sentry_sdk.set_tag("receiver", "work")
        sentry_sdk.capture_message("delivery")

    for around in (None, sentry_sdk.isolation_scope):
        with WorkerPool(1, around=around) as signal.executor, sentry_sdk.isolation_scope():
            sentry_sdk.set_tag("request", "req-42")
            signal.send_async(None).results(TIMEOUT)
            sentry_sdk.capture_message("request")
    both, own = {"request": "req-42", "receiver": "work"}, {"request": "req-42"}
    assert [event["message"] for event in events] == 2 * ["delivery", "request"]
    assert [event["tags"] for event in events] == [both, both, both, own]


def tags_of_submit(propagate: bool) -> None:
    events: list[Any] = []
    sentry_sdk = start_sentry(events)
    from sentry_sdk.integrations.threading import ThreadingIntegration

    if not propagate:
        quiet = ThreadingIntegration(propagate_scope=False)
        sentry_sdk = start_sentry(events, integrations=[quiet])
    signal = Signal()
    signal.connect(lambda **named: sentry_sdk.capture_message("delivery"), weak=False)

    def serve() -> None:  # on a thread of a server: the main thread starts workers otherwise
        with WorkerPool(1) as signal.executor:
            for name in ("first", "second"):
                with sentry_sdk.isolation_scope():
                    sentry_sdk.set_tag("request", name)
                    signal.send_async(None).results(TIMEOUT)
                    signal.executor.submit(sentry_sdk.capture_message, "submit").result(TIMEOUT)

    Running(serve).result()
    tags = [(event["message"], event.get("tags", {})) for event in events]
    starter = {"request": "first"} if propagate else {}
    assert tags == [
        ("delivery", {"request": "first"}),
        ("submit", starter),
        ("delivery", {"request": "second"}),
        ("submit", starter),
    ]


def test_tags_that_a_receiver_sets_are_the_requests_unless_each_delivery_has_a_scope() -> None:
    pytest.importorskip("sentry_sdk")
    in_new_process(tags_without_and_with_a_scope_of_its_own)


@pytest.mark.parametrize("propagate", [True, False])
def test_submit_has_the_tags_of_whoever_started_its_thread_unless_sentry_is_told_not_to(
    propagate: bool,
) -> None:
    pytest.importorskip("sentry_sdk")
    in_new_process(tags_of_submit, propagate)
