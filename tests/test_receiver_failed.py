"""receiver_failed: every failure is told once, whoever looks, and before anybody can ask."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from helpers import TIMEOUT, BaseBoom, Boom, Ear, Gate, Thing, awaited, raiser

from tsignals import Failure, Signal, WorkerPool, background, receiver_failed


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


def test_failure_is_told_before_the_future_resolves(pool: WorkerPool) -> None:
    signal, raising, gate = Signal(executor=pool), raiser(Boom()), Gate()
    with signal.connect(raising), receiver_failed.connect(gate, sender=signal):
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
    gate, signal, raising = Gate(), Signal(), raiser(Boom())
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
    gate, signal, raising = Gate(), Signal(), raiser(Boom())
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
    signal, raising, gate = Signal(executor=pool), raiser(Boom()), Gate()
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
