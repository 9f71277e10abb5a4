"""receiver_failed: every failure is told once, whoever looks, and before anybody can ask."""

import contextlib
import contextvars
import copy
import functools
import io
import logging
import logging.handlers
import multiprocessing
import pickle
import signal as signals
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import blinker
import executor_signals
import failing
import inside
import pytest
from failing import ODD_ERRORS, TELLING
from helpers import (
    TIMEOUT,
    BaseBoom,
    Boom,
    Ear,
    Latch,
    Thing,
    awaited,
    ignore,
    quiet,
    raiser,
    uncollected,
    wait_until,
)
from pools import held, signal_to

from tsignals import Failure, Signal, WorkerPool, background, receiver_failed
from tsignals.testing import Steps, inline


class Told:
    """Hears ``receiver_failed`` and remembers."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.senders: list[object] = []

    def __call__(self, sender: object, failure: Failure, **named: Any) -> None:
        self.senders.append(sender)
        self.failures.append(failure)


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    with receiver_failed.connect(told):
        yield told


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "tsignals")
    return caplog


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2, thread_name_prefix="told") as pool:
        yield pool


def by_send_robust(signal: Signal, receiver: Callable[..., Any], sender: object) -> None:
    with signal.connect(receiver):
        signal.send_robust(sender)


def by_asend_robust(signal: Signal, receiver: Callable[..., Any], sender: object) -> None:
    with signal.connect(receiver):
        awaited(signal.asend_robust, sender)


def by_asend_robust_to_a_coroutine_function(
    signal: Signal, receiver: Callable[..., Any], sender: object
) -> None:
    async def receives(**named: Any) -> None:
        receiver(**named)

    by_asend_robust(signal, receives, sender)


def by_send_async(signal: Signal, receiver: Callable[..., Any], sender: object) -> None:
    with signal.connect(receiver):
        assert signal.send_async(sender).wait(TIMEOUT)


def by_background(signal: Signal, receiver: Callable[..., Any], sender: object) -> None:
    in_background = background(receiver)
    with signal.connect(in_background):
        [(_, delivery)] = signal.send(sender)
        delivery.exception(TIMEOUT)


WAYS = {
    by_send_robust: "send_robust",
    by_asend_robust: "asend_robust",
    by_asend_robust_to_a_coroutine_function: "asend_robust",
    by_send_async: "send_async",
    by_background: "background",
}
Way = Callable[[Signal, Callable[..., Any], object], None]

every_way = pytest.mark.parametrize(
    ("way", "mode"), WAYS.items(), ids=[way.__name__ for way in WAYS]
)


@every_way
def test_failure_is_told_once_and_logged_once(
    way: Way, mode: str, told: Told, log: pytest.LogCaptureFixture, pool: WorkerPool
) -> None:
    signal, sender, error = Signal(executor=pool), Thing(), Boom("told")
    threads = list[str]()

    def fails(**named: Any) -> None:
        threads.append(threading.current_thread().name)
        raise error

    way(signal, fails, sender)
    assert len(told.failures) == 1, f"told {len(told.failures)} times, not once"
    [failure] = told.failures
    assert type(failure) is Failure
    assert told.senders == [signal]
    assert failure.signal is signal
    assert failure.sender is sender
    assert failure.exception is error
    assert failure.mode == mode
    assert failure.thread_name == threads[0]
    assert failure.ran_seconds >= 0
    if mode in ("send_async", "background"):
        assert failure.thread_name.startswith("told")
        assert failure.queued_seconds >= 0
    else:
        assert failure.queued_seconds == 0.0
        assert type(failure.queued_seconds) is float
    [record] = log.records
    assert (record.name, record.levelno) == ("tsignals", logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize("way", [by_send_robust, by_asend_robust, by_send_async])
def test_failure_names_the_receiver(way: Way, told: Told, pool: WorkerPool) -> None:
    signal, raising = Signal(executor=pool), raiser(Boom())
    way(signal, raising, None)
    assert told.failures[0].receiver is raising


@every_way
def test_success_is_not_told(
    way: Way, mode: str, told: Told, log: pytest.LogCaptureFixture, pool: WorkerPool
) -> None:
    way(Signal(executor=pool), Ear(response=Boom("returned")), None)
    assert (told.failures, log.records) == ([], [])


@pytest.mark.parametrize("way", [by_send_async, by_background])
@pytest.mark.parametrize("error", [BaseBoom(), KeyboardInterrupt(), SystemExit()])
def test_what_is_no_exception_is_told_too_where_it_is_a_deliverys_result(
    way: Way, error: BaseException, told: Told, log: pytest.LogCaptureFixture, pool: WorkerPool
) -> None:
    way(Signal(executor=pool), raiser(error), None)
    assert [failure.exception for failure in told.failures] == [error]
    assert len(log.records) == 1


def test_plain_send_tells_nobody(told: Told, log: pytest.LogCaptureFixture) -> None:
    signal, raising = Signal(), raiser(Boom())
    with signal.connect(raising), pytest.raises(Boom):
        signal.send(None)
    with signal.connect(raising), pytest.raises(Boom):
        awaited(signal.asend, None)
    assert (told.failures, log.records) == ([], [])


def test_every_failure_of_a_send_is_told_in_order(told: Told) -> None:
    signal, raisers = Signal(), [raiser(Boom(str(n))) for n in range(3)]
    for raising in raisers:
        signal.connect(raising)
    signal.send_robust(None)
    assert [failure.receiver for failure in told.failures] == raisers


def test_failure_is_told_before_the_next_receiver_is_called(told: Told) -> None:
    signal, raising, counts = Signal(), raiser(Boom()), list[int]()

    def counting(**named: Any) -> None:
        counts.append(len(told.failures))

    for receiver in (raising, counting):
        signal.connect(receiver)
    signal.send_robust(None)
    assert counts == [1]


class Waits(ThreadPoolExecutor):
    """Its futures have resolved when ``submit`` returns."""

    def submit(self, /, *arguments: Any, **named: Any) -> Any:
        future = super().submit(*arguments, **named)
        future.exception(TIMEOUT)
        return future


@pytest.mark.parametrize("make", [ThreadPoolExecutor, Waits])
@pytest.mark.parametrize("is_async", [False, True])
def test_failure_in_threads_of_another_executor_is_told_where_it_ran(
    make: Any, is_async: bool, told: Told
) -> None:
    async def fails_on_a_loop(**named: Any) -> None:
        fails()

    def fails(**named: Any) -> None:
        entered = time.perf_counter()
        wait_until(lambda: time.perf_counter() - entered > 0.002)
        raise Boom

    with make(1, thread_name_prefix="theirs") as executor:
        signal = Signal(executor=executor)
        signal.connect(fails_on_a_loop if is_async else fails, weak=False)
        signal.send_async(None).wait(TIMEOUT)
        [failure] = told.failures
    assert failure.thread_name == "theirs_0"
    assert failure.ran_seconds > 0.001
    assert failure.queued_seconds == 0.0


ANYWHERE: dict[str, Callable[[], Any]] = {
    "pool": lambda: contextlib.nullcontext(),
    "inline": inline,
    "steps": Steps,
}


@pytest.mark.parametrize("where", ANYWHERE)
def test_failure_is_told_inside_of_what_is_around_the_receiver(where: str, told: Told) -> None:
    @contextlib.contextmanager
    def around() -> Iterator[None]:
        inside.append(True)
        yield
        inside.pop()

    inside, seen = list[bool](), list[bool]()
    with WorkerPool(1, around=around) as pool, ANYWHERE[where]() as steps:
        signal = signal_to(raiser(Boom()), pool)
        with receiver_failed.connect(lambda **named: seen.extend(inside), signal, weak=False):
            deliveries = signal.send_async(None)
            if where == "steps":
                steps.run_all()
            deliveries.wait(TIMEOUT)
    assert seen == [True]


@pytest.mark.parametrize("where", [*ANYWHERE, "threads"])
def test_what_telling_raises_does_not_take_the_place_of_the_failure(where: str) -> None:
    with ThreadPoolExecutor(1) as threads, WorkerPool(1) as pool:
        with quiet(), ANYWHERE.get(where, contextlib.nullcontext)() as steps:
            signal = signal_to(raiser(Boom()), threads if where == "threads" else pool)
            with receiver_failed.connect(raiser(SystemExit(3)), signal, weak=False):
                deliveries = signal.send_async(None)
                if where == "steps":
                    steps.run_all()
                [(_, error)] = deliveries.outcomes(TIMEOUT).errors
    assert type(error) is Boom


@pytest.mark.parametrize("other", [False, True])
def test_failure_is_told_before_the_future_resolves(pool: WorkerPool, other: bool) -> None:
    signal, raising, gate = Signal(executor=pool), raiser(Boom()), Latch()
    with (
        ThreadPoolExecutor(1) as executor,
        signal.connect(raising),
        receiver_failed.connect(gate, sender=signal),
    ):
        if other:
            signal.executor = executor
        [(_, delivery)] = signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)
        assert not delivery.done()
        gate.opened.set()
        assert type(delivery.exception(TIMEOUT)) is Boom


def test_failure_is_told_even_if_nobody_keeps_the_delivery(pool: WorkerPool, told: Told) -> None:
    signal, raising = Signal(executor=pool), raiser(Boom())
    with signal.connect(raising):
        signal.send_async(None)
        assert pool.drain(TIMEOUT)
    assert len(told.failures) == 1


def test_cancelled_deliveries_are_no_failures(told: Told, log: pytest.LogCaptureFixture) -> None:
    gate, signal, raising = Latch(), Signal(), raiser(Boom())
    with WorkerPool(1) as pool:
        signal.executor = pool
        with signal.connect(gate):
            signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)
        with signal.connect(raising):
            assert signal.send_async(None).cancel() == 1
        gate.opened.set()
    assert (told.failures, log.records) == ([], [])


def test_dropped_deliveries_are_no_failures(told: Told) -> None:
    gate, signal, raising = Latch(), Signal(), raiser(Boom())
    with WorkerPool(1, max_pending=1, overflow="drop_newest") as pool:
        signal.executor = pool
        with signal.connect(gate):
            signal.send_async(None)
            assert gate.entered.wait(TIMEOUT)
            signal.send_async(None)
        with signal.connect(raising):
            signal.send_async(None)
        gate.opened.set()
    assert told.failures == []


def test_submit_and_map_are_neither_logged_nor_told(
    told: Told, log: pytest.LogCaptureFixture, pool: WorkerPool
) -> None:
    with pytest.raises(Boom):
        pool.submit(raiser(Boom())).result(TIMEOUT)
    with pytest.raises(ZeroDivisionError):
        list(pool.map(lambda n: 1 // n, [0]))
    assert (told.failures, log.records) == ([], [])


def test_failures_under_another_executor_are_told(told: Told) -> None:
    signal, raising = Signal(), raiser(Boom())
    with ThreadPoolExecutor(1) as executor:
        signal.executor = executor
        with signal.connect(raising):
            [(_, delivery)] = signal.send_async(None)
            assert type(delivery.exception(TIMEOUT)) is Boom
    assert [(failure.signal, failure.mode) for failure in told.failures] == [(signal, "send_async")]


def test_one_can_listen_to_the_failures_of_one_signal() -> None:
    signals, raising, told = [Signal(), Signal()], raiser(Boom()), Told()
    for signal in signals:
        signal.connect(raising)
    with receiver_failed.connect(told, sender=signals[0]):
        for signal in signals:
            signal.send_robust(None)
    assert told.senders == [signals[0]]


def test_failing_receiver_of_receiver_failed_is_only_logged(
    log: pytest.LogCaptureFixture, told: Told
) -> None:
    signal, raising, error = Signal(), raiser(Boom()), Boom("while telling")
    telling, after = raiser(error), Told()
    signal.connect(raising)
    with receiver_failed.connect(telling, priority=1), receiver_failed.connect(after):
        outcomes = signal.send_robust(None)
    assert [receiver for receiver, _ in outcomes.errors] == [raising]
    assert len(told.failures) == len(after.failures) == 1
    assert [record.exc_info[1] for record in log.records if record.exc_info][1:] == [error]
    assert len(log.records) == 2
    assert all(record.levelno == logging.ERROR for record in log.records)


@pytest.mark.parametrize("verb", ["send_robust", "send_async"])
def test_failing_receiver_is_only_logged_when_somebody_else_sends_receiver_failed(
    verb: str, told: Told, log: pytest.LogCaptureFixture
) -> None:
    failure = Failure(Signal(), None, raiser, Boom(), "send_robust", "MainThread", 0.0, 0.0)
    with receiver_failed.connect(raising := raiser(Boom()), priority=1):
        outcomes = getattr(receiver_failed, verb)(None, failure=failure)
        if verb == "send_async":
            outcomes = outcomes.outcomes(TIMEOUT)
    assert [receiver for receiver, _ in outcomes.errors] == [raising]
    assert told.failures == [failure]
    assert len(log.records) == 1


def test_receiver_of_receiver_failed_may_send_and_fail_again(told: Told) -> None:
    first, second, raising = Signal(), Signal(), raiser(Boom())
    first.connect(raising)
    second.connect(raising)

    def passes_on(**named: Any) -> None:
        second.send_robust(None)

    with receiver_failed.connect(passes_on, sender=first):
        first.send_robust(None)
    assert {id(sender) for sender in told.senders} == {id(first), id(second)}
    assert len(told.senders) == 2


@pytest.mark.parametrize("stderr", [True, False], ids=["standard error", "no standard error"])
def test_log_that_fails_changes_nothing_and_shows_where_it_can(
    stderr: bool, told: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program without a console has no standard error."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise Boom("disk full")

    signal = Signal()
    ear, raising = Ear(response="heard"), raiser(Boom("receiver"))
    signal.connect(raising)
    signal.connect(ear)
    logger, broken = logging.getLogger("tsignals"), Broken()
    logger.addHandler(broken)
    try:
        with monkeypatch.context() as patch:
            if not stderr:
                patch.setattr("sys.stderr", None)
            outcomes = signal.send_robust(None)
    finally:
        logger.removeHandler(broken)
    assert [type(outcomes[0][1]), outcomes[1][1]] == [Boom, "heard"]
    assert [failure.exception for failure in told.failures] == [outcomes[0][1]]
    output, errors = capsys.readouterr()
    assert (output, "disk full" in errors) == ("", stderr)


def test_failure_is_told_while_no_lock_is_held(pool: WorkerPool) -> None:
    signal, raising, gate = Signal(executor=pool), raiser(Boom()), Latch()
    signal.connect(raising)
    with receiver_failed.connect(gate, sender=signal):
        deliveries = signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)
        assert signal.disconnect(raising)
        assert pool.stats().running == 1
        other: Future[int] = pool.submit(int, 3)
        assert other.result(TIMEOUT) == 3
        gate.opened.set()
        assert deliveries.wait(TIMEOUT)


def test_failure_is_a_value_of_ten_fields() -> None:
    values: Any = (
        Signal(),
        Thing(),
        raiser,
        Boom(),
        "send_async",
        "worker",
        0.25,
        1.5,
        {"n": 1},
        2,
    )
    names = (
        "signal",
        "sender",
        "receiver",
        "exception",
        "mode",
        "thread_name",
        "queued_seconds",
        "ran_seconds",
        "named",
        "attempts",
    )
    failure = Failure(*values)
    assert tuple(getattr(failure, name) for name in names) == values
    assert Failure(**dict(zip(names, values, strict=True))) == failure
    assert "send_async" in repr(failure)
    assert hash(failure) == hash(Failure(*values))
    assert (Failure(*values[:8]).named, Failure(*values[:8]).attempts) == ({}, 1)


# Each way to send, whatever the error is


every_telling_way = pytest.mark.parametrize("way", TELLING, ids=lambda way: way.name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*ODD_ERRORS, failing.Unclassed], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", failing.WAYS, ids=lambda way: way.name)
def test_receivers_own_error_comes_through_whatever_its_class_forbids(
    way: failing.Way, kind: type[Exception], told: Told, log: pytest.LogCaptureFixture
) -> None:
    error, signal, sender = kind(), Signal(), Thing()
    assert way(raiser(error), sender, signal) is error
    expected = [error] if way.mode else []
    assert len(told.failures) == len(log.records) == len(expected)
    for failure, record in zip(told.failures, log.records, strict=True):
        assert failure.exception is error
        assert failure.sender is sender
        assert failure.mode == way.mode
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        assert record.exc_info[1] is error
        assert record.exc_info[2] is not None
        assert f"receiver {'raiser' if not way.on_loop else 'asynchronous'}" in record.getMessage()
        assert failing.traced(error)[-1] == "raises"


@every_telling_way
def test_error_shows_in_the_log_as_a_handler_writes_it(way: failing.Way) -> None:
    stream = io.StringIO()
    logger, handler = logging.getLogger("tsignals"), logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        for kind in ODD_ERRORS:
            way(raiser(kind()))
            assert kind.__name__ in stream.getvalue()
    finally:
        logger.removeHandler(handler)
    assert stream.getvalue().count("Traceback (most recent call last)") == len(ODD_ERRORS)
    assert "in raises" in stream.getvalue()


@every_telling_way
def test_failure_says_what_was_sent(
    way: failing.Way, told: Told, log: pytest.LogCaptureFixture
) -> None:
    heard = list[dict[str, Any]]()

    def fails(signal: object, sender: object, **named: Any) -> None:
        heard.append(named)
        raise Boom

    order = Thing("order")
    way(fails, None, order=order, total=12)
    [failure] = told.failures
    [record] = log.records
    assert failure.named == {"order": order, "total": 12}
    assert failure.named is not heard[0]
    assert failure.attempts == 1
    assert getattr(record, "failure", None) is failure


def test_failure_of_a_background_receiver_on_a_blinker_signal_says_what_was_sent(
    told: Told, pool: WorkerPool
) -> None:
    theirs, sender = blinker.Signal(), Thing()
    receiver = background(raiser_of_any(Boom()), executor=pool)
    theirs.connect(receiver)
    [(_, delivery)] = theirs.send(sender, total=12)
    assert type(delivery.exception(TIMEOUT)) is Boom
    [failure] = told.failures
    assert (failure.named, failure.sender, failure.signal) == ({"total": 12}, sender, None)


def raiser_of_any(error: Exception) -> Callable[..., Any]:
    def raises(*arguments: Any, **named: Any) -> None:
        raise error

    return raises


def test_log_record_of_a_failing_receiver_of_receiver_failed_carries_its_failure(
    log: pytest.LogCaptureFixture,
) -> None:
    signal, first, second = Signal(), Boom("first"), Boom("second")
    with receiver_failed.connect(raiser(second), weak=False):
        failing.by_send_robust(signal, raiser(first), None, {"n": 1})
    told, untold = [getattr(record, "failure", None) for record in log.records]
    assert (told.exception, told.named) == (first, {"n": 1})
    assert (untold.exception, untold.signal, untold.sender) == (second, receiver_failed, signal)
    assert untold.named == {"failure": told}


# The context


request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="-")


class Seen:
    """The request that a failure belongs to, as the log and ``receiver_failed`` see it."""

    def __init__(self) -> None:
        self.in_log: list[str] = []
        self.told: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.in_log.append(request.get())
        return True

    def hears(self, **named: Any) -> None:
        self.told.append(request.get())


@pytest.fixture
def seen() -> Iterator[Seen]:
    seen = Seen()
    logger = logging.getLogger("tsignals")
    logger.addFilter(seen)
    with receiver_failed.connect(seen.hears):
        yield seen
    logger.removeFilter(seen)


def in_request(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    def inside() -> Any:
        request.set(name)
        return function(*arguments)

    return contextvars.copy_context().run(inside)


@every_telling_way
def test_failure_is_logged_and_told_in_the_senders_request(way: failing.Way, seen: Seen) -> None:
    in_request("42", way, raiser(Boom()))
    assert (seen.in_log, seen.told) == (["42"], ["42"])


@every_telling_way
def test_failure_is_logged_and_told_in_the_context_in_which_the_receiver_ran(
    way: failing.Way, seen: Seen
) -> None:
    def fails(**named: Any) -> None:
        request.set(request.get() + ", step 2")
        raise Boom

    for name in ("42", "43"):
        in_request(name, way, fails)
    expected = ["42, step 2", "43, step 2"]
    assert (seen.in_log, seen.told) == (expected, expected)


@pytest.mark.parametrize(
    "start",
    [start for start in ("spawn", "fork") if start in multiprocessing.get_all_start_methods()],
)
def test_failure_in_another_process_is_told_in_the_senders_request(start: str, seen: Seen) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(start)) as executor:
        executor_signals.elsewhere.executor = executor
        try:
            with executor_signals.elsewhere.connect(executor_signals.fails):
                send = executor_signals.elsewhere.send_async
                [(_, future)] = in_request("42", send, None)
                assert isinstance(future.exception(TIMEOUT), executor_signals.NeedsTwo)
                wait_until(lambda: seen.told)
        finally:
            executor_signals.elsewhere.executor = None
    assert (seen.in_log, seen.told) == (["42"], ["42"])


def test_delivery_that_cannot_be_submitted_is_told_of_in_the_senders_request(seen: Seen) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    signal = Signal(executor=executor)
    signal.connect(ignore)
    [(_, future)] = in_request("42", signal.send_async, None)
    assert isinstance(future.exception(0), RuntimeError)
    assert (seen.in_log, seen.told) == (["42"], ["42"])


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("verb", ["send_async", "asend_robust"])
def test_failure_is_told_inside_of_what_is_around_its_receiver(verb: str, kind: str) -> None:
    """There its database connection is still open."""
    if (verb, kind) == ("asend_robust", "async"):
        pytest.skip("nothing is around that")
    connected: contextvars.ContextVar[bool] = contextvars.ContextVar("connected", default=False)
    steps = list[str]()

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        token = connected.set(True)
        try:
            yield
        finally:
            connected.reset(token)
            steps.append("left")

    def hears(**named: Any) -> None:
        steps.append(f"told {connected.get()}")

    signal, receiver = Signal(), raiser(Boom())
    if kind == "async":
        receiver = failing.asynchronous(receiver)
    signal.connect(receiver)
    with WorkerPool(1, around=around) as signal.executor, receiver_failed.connect(hears):
        if verb == "send_async":
            failing.error_of(signal.send_async(None).futures[0])
        else:
            awaited(signal.asend_robust, None)
    assert steps == ["told True", "left"]


@pytest.mark.parametrize("to", ["plain", "several", "around", "async", "async around"])
def test_failure_that_is_kept_keeps_neither_the_delivery_nor_the_context(to: str) -> None:
    kept: contextvars.ContextVar[Thing] = contextvars.ContextVar("kept")
    error, signal = Boom(), Signal()
    receiver = raiser(error)
    around = failing.plain_around if "around" in to else None
    if "async" in to:
        receiver = failing.asynchronous(receiver)
    signal.connect(receiver)
    if to == "several":
        signal.connect(failing.another)

    def send() -> list[weakref.ref[Any]]:
        thing = Thing()
        kept.set(thing)
        delivery = signal.send_async(None).futures[0]
        failing.error_of(delivery)
        assert pool.drain(TIMEOUT)
        return [weakref.ref(thing), weakref.ref(delivery)]

    with WorkerPool(1, around=around) as pool, uncollected():
        # Its threads are there before, for some interpreters give them the context they start in.
        first = Signal(executor=pool)
        for starts in (ignore, failing.asynchronous(ignore)):
            first.connect(starts, weak=False)
        assert first.send_async(None).wait(TIMEOUT)
        signal.executor = pool
        references = contextvars.copy_context().run(send)
        pool.submit(int).result(TIMEOUT)  # the worker has come to the next
        wait_until(lambda: not any(reference() for reference in references))
        assert error.__traceback__ is not None


# A log that fails


class Raises(io.StringIO):
    """A stream that can no longer be written to."""

    def write(self, text: str) -> int:
        raise Boom("no stream")

    flush = write  # type: ignore[assignment]


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


class Fails(logging.Handler, logging.Filter, logging.Formatter):
    def fail(self, record: logging.LogRecord) -> Any:
        raise Boom("no log")

    emit = filter = format = fail


BROKEN_LOGS = {
    "handler raises": lambda: {"handler": Fails()},
    "filter raises": lambda: {"filter": Fails()},
    "formatter fails": lambda: {"formatter": Fails()},
    "handler's stream is closed": lambda: {"stream": closed()},
}
STANDARD_ERRORS = {"whole": None, "closed": closed, "raising": Raises, "none": lambda: None}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "stderr"),
    [
        *((broken, "closed") for broken in BROKEN_LOGS),
        *(("handler raises", stderr) for stderr in STANDARD_ERRORS if stderr != "closed"),
    ],
)
@every_telling_way
def test_log_that_fails_reaches_nobody_and_the_failure_is_told(
    way: failing.Way, broken: str, stderr: str, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ways look themselves whether other receivers are called."""
    parts: dict[str, Any] = BROKEN_LOGS[broken]()
    logger = logging.getLogger("tsignals")
    handler = parts.get("handler") or logging.StreamHandler(parts.get("stream"))
    if "formatter" in parts:
        handler.format = parts["formatter"].format
    error = Boom("the receiver's")
    with monkeypatch.context() as patch:
        if (make := STANDARD_ERRORS[stderr]) is not None:
            patch.setattr("sys.stderr", make())
        patch.setattr(logger, "handlers", [handler])
        patch.setattr(logger, "filters", [parts["filter"]] if "filter" in parts else [])
        patch.setattr(logger, "propagate", False)
        assert way(raiser(error)) is error
    assert [failure.exception for failure in told.failures] == [error]


def test_failure_is_told_where_standard_error_is_missing_altogether(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("tsignals")
    with monkeypatch.context() as patch:
        patch.delattr("sys.stderr")
        patch.setattr(logger, "handlers", [Fails()])
        failing.by_send_robust(Signal(), raiser(Boom()), None, {})
    assert len(told.failures) == 1


# Names that cannot be had


class Nameless:
    """A receiver that raises, also when it is asked for its name."""

    @property
    def func(self) -> Any:  # what a partial calls
        raise RuntimeError("no name")

    def __call__(self, **named: Any) -> None:
        raise Boom


@every_telling_way
def test_receiver_without_a_name_to_be_had_is_called_after_its_class(
    way: failing.Way, told: Told, log: pytest.LogCaptureFixture
) -> None:
    assert type(way(Nameless())) is Boom
    [record] = log.records
    assert record.exc_info is not None
    assert record.exc_info[0] is Boom
    if not way.on_loop:  # or another one is in front of it
        assert "Nameless" in record.getMessage()
    assert len(told.failures) == 1


# Errors of our own


@every_telling_way
@pytest.mark.parametrize("where", ["log", "send", "failure"])
def test_error_of_our_own_while_a_failure_is_told_is_logged_and_stops_nothing(
    where: str,
    way: failing.Way,
    told: Told,
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class OurFault(Exception):
        pass

    def fails(*arguments: Any, **named: Any) -> None:
        raise OurFault

    error = Boom()
    with monkeypatch.context() as patch:
        inside.TELLING[where].patch(patch, fails)
        assert way(raiser(error)) is error
    kinds = [record.exc_info[0] for record in log.records if record.exc_info]
    assert kinds == ([Boom, OurFault] if where == "send" else [OurFault])
    assert len(told.failures) == (where == "log")


class TimedOut(Exception):
    pass


def times_out(*arguments: Any) -> None:
    raise TimedOut


class Handler:
    def __call__(self, *arguments: Any) -> None:
        raise TimedOut

    def method(self, *arguments: Any) -> None:
        raise TimedOut


HANDLERS = {
    "function": times_out,
    "method": Handler().method,
    "partial": functools.partial(times_out),
    "object": Handler(),
}


@pytest.mark.skipif(not hasattr(signals, "SIGUSR1"), reason="needs a signal to send")
@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
@pytest.mark.parametrize("way", ["send_robust", "caller_runs"])
def test_what_a_signal_handler_raises_while_a_failure_is_told_is_raised_once_it_has_been_told(
    way: str,
    handler: Any,
    told: Told,
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sends, error, former = Signal(), Boom(), signals.signal(signals.SIGUSR1, handler)
    write_log = inside.TELLING["log"].now

    def is_interrupted(failure: Failure) -> None:
        write_log(failure)
        signals.raise_signal(signals.SIGUSR1)

    try:
        with monkeypatch.context() as patch:
            inside.TELLING["log"].patch(patch, is_interrupted)
            with pytest.raises(TimedOut):
                way_called(way)(raiser(error), None, sends)
    finally:
        signals.signal(signals.SIGUSR1, former)
    assert [failure.exception for failure in told.failures] == [error]
    assert len(log.records) == 1


def way_called(name: str) -> failing.Way:
    return next(way for way in failing.WAYS if way.name == name)


# Async receivers of receiver_failed


def test_receiver_failed_refuses_what_it_could_not_await_and_says_what_to_do() -> None:
    async def reports(**named: Any) -> None:
        pass

    with pytest.raises(TypeError, match=r"async receiver .*reports.*background\(receiver\)"):
        receiver_failed.connect(reports)
    assert receiver_failed.receivers == []


@every_telling_way
def test_async_receiver_in_the_background_hears_of_failures(way: failing.Way) -> None:
    heard = list[BaseException]()

    async def reports(failure: Failure, **named: Any) -> None:
        heard.append(failure.exception)

    error = Boom()
    with WorkerPool(1) as pool:
        in_background = background(reports, executor=pool)
        with receiver_failed.connect(in_background):
            way(raiser(error))
    assert heard == [error]


# In a pickle


def test_failure_that_is_pickled_shows_what_cannot_be() -> None:
    class Local(Exception):
        pass

    lock = threading.Lock()
    named = {"n": 1, "lock": lock}
    failure = Failure(
        receiver_failed, lock, ignore, Local("x"), "send_async", "t", 0.5, 1.5, named, 1
    )
    copied = pickle.loads(pickle.dumps(failure))
    assert copied == Failure(
        receiver_failed,
        repr(lock),
        ignore,
        "Local('x')",  # type: ignore[arg-type]
        "send_async",
        "t",
        0.5,
        1.5,
        {"n": 1, "lock": repr(lock)},
        1,
    )
    assert copy.copy(failure) is copy.deepcopy(failure) is failure


def test_record_of_a_failure_goes_through_handlers_that_pickle_it() -> None:
    class Needs(Exception):
        """Its pickle cannot be read."""

        def __init__(self, one: object, two: object) -> None:
            super().__init__("one argument")

    records = list[Any]()

    class Pickles(logging.handlers.SocketHandler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(pickle.loads(self.makePickle(record)[4:]))

    logger, handler = logging.getLogger("tsignals"), Pickles("localhost", 0)
    logger.addHandler(handler)
    try:
        way_called("send_async")(raiser(Needs(1, 2)), None)
    finally:
        logger.removeHandler(handler)
    [record] = records
    assert record["failure"].exception == repr(Needs(1, 2))
    assert record["failure"].mode == "send_async"


@pytest.mark.parametrize("closed", [False, True])
def test_what_is_not_let_into_a_pool_has_waited_in_none(closed: bool, told: Told) -> None:
    with WorkerPool(1, max_pending=1, overflow="raise") as pool:
        signal = Signal(executor=pool)
        signal.connect(ignore)
        prepared = signal.prepare(None)
        entered = time.perf_counter()
        wait_until(lambda: time.perf_counter() - entered > 0.001)
        with held(pool):
            pool.submit(int)
            if closed:
                pool.shutdown(wait=False)
            prepared.submit()
    [failure] = told.failures
    assert failure.queued_seconds == 0.0


def test_call_that_no_signal_made_is_logged_without_one(log: pytest.LogCaptureFixture) -> None:
    @background
    def mail(**named: Any) -> None:
        raise Boom

    mail().exception(TIMEOUT)
    [record] = log.records
    assert record.getMessage().endswith("mail failed in background: Boom()")
    assert "None" not in record.getMessage()
