"""``retry=``: which failed deliveries are run again, when, and what all others see of it."""

import asyncio
import contextlib
import contextvars
import datetime
import gc
import itertools
import logging
import math
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from types import FrameType
from typing import Any
from unittest import mock

import inside
import processes
import pytest
from helpers import (
    TIMEOUT,
    BaseBoom,
    Boom,
    Latch,
    Running,
    Thing,
    ignore,
    uncollected,
    wait_until,
)
from points import FIRST, STRIDE, Interrupter
from pools import add_up, held, signal_to, told

from tsignals import (
    Deliveries,
    DeliveryDropped,
    DeliveryLost,
    QueueFull,
    Retry,
    Signal,
    WorkerPool,
    background,
)
from tsignals.observing import Event, Observer, observe

AT_ONCE = Retry(Boom, wait_initial=0, wait_jitter=0, timeout=None)  # however busy the machine
LATER = Retry(Boom, wait_initial=3000, wait_max=3000, wait_jitter=0, timeout=None)
"""Much later than a test lasts, unless ``Clock`` says otherwise."""


class Flaky:
    """A receiver that raises at its first calls, and then returns how often it was called."""

    def __init__(self, failures: int = 1, error: BaseException | None = None) -> None:
        self.failures = failures
        self.error = Boom("not yet") if error is None else error
        self.calls: list[Any] = []
        self.threads: list[int] = []

    def __call__(self, /, **named: Any) -> int:
        self.calls.append(named.get("n"))
        self.threads.append(threading.get_ident())
        if len(self.calls) <= self.failures:
            raise self.error
        return len(self.calls)


class FlakyAsync(Flaky):
    """The same, async."""

    async def __call__(self, /, **named: Any) -> int:  # type: ignore[override]
        await asyncio.sleep(0)
        return Flaky.__call__(self, **named)


KINDS = [Flaky, FlakyAsync]


class Clock:
    """What the timers of pools go by."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.perf_counter() + self.ahead

    def let_pass(self, pool: WorkerPool) -> None:
        """All pauses of ``pool``, those that come later included, are over."""
        self.ahead = 1e6
        inside.wake_timer(pool)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    inside.CLOCK_OF_TIMER.patch(monkeypatch, clock)
    return clock


@contextlib.contextmanager
def pool_of(workers: int = 1, **arguments: Any) -> Iterator[WorkerPool]:
    """A pool that is shut down at the end, with what still waits in it cancelled."""
    pool = WorkerPool(workers, **arguments)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        assert Running(pool.drain, TIMEOUT).result()


def waits(pool: WorkerPool, deliveries: int = 1) -> None:
    """Wait until so many wait for their next attempt, and nothing else does or runs."""
    wait_until(lambda: inside.pauses_of(pool) == deliveries and not pool.stats().running)
    assert pool.stats().pending == deliveries


def records(caplog: pytest.LogCaptureFixture, level: int) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.name == "tsignals" and each.levelno == level]


# -- The policy --


@pytest.mark.parametrize("base", [2.0, 2])
def test_pauses_grow_up_to_a_limit(base: float) -> None:
    retry = Retry(Boom, attempts=None, timeout=None, wait_jitter=0, wait_exp_base=base)
    pauses = [retry.pause_after(n, 0, Boom()) for n in range(1, 9)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])
    assert retry.pause_after(100_000, 0, Boom()) == 5  # and so on, beyond what a float holds


def test_pauses_have_a_random_part() -> None:
    retry = Retry(Boom, wait_initial=1, wait_jitter=2, wait_max=2.5)
    pauses = {retry.pause_after(1, 0, Boom()) for _ in range(200)}
    assert len(pauses) > 20
    assert all(pause is not None and 1 <= pause <= 2.5 for pause in pauses)


def test_attempts_and_time_are_limited() -> None:
    retry = Retry(Boom, attempts=3, timeout=10, wait_jitter=0)
    assert [retry.pause_after(n, 0, Boom()) is None for n in (1, 2, 3, 4)] == [0, 0, 1, 1]
    assert retry.pause_after(1, 9.8, Boom()) is not None
    assert retry.pause_after(1, 9.95, Boom()) is None  # the next would start after the end


def test_seconds_may_be_timedeltas() -> None:
    second = datetime.timedelta(seconds=1)
    retry = Retry(Boom, timeout=second, wait_initial=second / 2, wait_max=second, wait_jitter=0)
    assert retry.pause_after(1, 0, Boom()) == 0.5
    assert retry.pause_after(2, 0.5, Boom()) is None


def test_numbers_beyond_a_float_are_infinite() -> None:
    retry = Retry(Boom, timeout=10**400, wait_initial=1, wait_jitter=0, wait_exp_base=10**400)
    assert [retry.pause_after(n, 1e9, Boom()) for n in (1, 2)] == [1, 5]


ANSWERS: dict[Any, float | None] = {
    True: 0.1,
    False: None,
    None: None,
    7: 7.0,
    0.25: 0.25,
    datetime.timedelta(minutes=1): None,  # that is later than its timeout
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_function_says_whether_and_when(answer: Any) -> None:
    asked = list[BaseException]()
    error = Boom()

    def on(error: Exception) -> Any:
        asked.append(error)
        return answer

    assert Retry(on, wait_jitter=0).pause_after(1, 0, error) == ANSWERS[answer]
    assert asked == [error]


@pytest.mark.parametrize("name", ["bool", "bool_"])
def test_function_may_answer_with_a_bool_of_numpys(name: str) -> None:
    """It is no ``bool`` and has a ``__float__``: it was taken for seconds."""

    def init(self: Any, value: bool) -> None:
        self.value = value

    methods = {
        "__init__": init,
        "__bool__": lambda self: self.value,
        "__float__": lambda self: float(self.value),
    }
    kind = type(name, (), methods)
    for answer in (True, False):
        retry = Retry(lambda error, answer=answer: kind(answer), wait_jitter=0)  # type: ignore[misc]
        assert retry.pause_after(1, 0, Boom()) == ANSWERS[answer]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pause", ["soon", [], -1, math.nan, math.inf, 10**400], ids=repr)
def test_pause_of_a_subclass_that_is_none_is_logged_and_the_failure_is_the_receivers(
    kind: type[Flaky], pause: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(Retry):
        def pause_after(self, attempt: int, ran: float, error: BaseException) -> Any:
            return pause

    receiver = kind()
    with pool_of() as pool, told() as hears:
        [(_, delivery)] = signal_to(receiver, pool, retry=Own(Boom)).send_async(None)
        assert delivery.exception(TIMEOUT) is receiver.error
    assert hears.errors == [receiver.error]
    assert "what pause_after returns must" in caplog.text


@pytest.mark.parametrize("make", [mock.Mock, mock.create_autospec])
def test_what_only_says_that_it_is_a_retry_is_refused(make: Any) -> None:
    double = make(spec=Retry)
    with pytest.raises(TypeError, match="retry must be a tsignals"):
        Signal().connect(ignore, retry=double)
    with pytest.raises(TypeError, match="retry must be a tsignals"):
        background(ignore, retry=double)


def test_function_is_not_asked_of_what_is_no_exception() -> None:
    assert Retry(lambda error: True).pause_after(1, 0, SystemExit()) is None
    assert Retry(SystemExit).pause_after(1, 0, SystemExit()) is not None
    assert Retry(Exception).pause_after(1, 0, KeyboardInterrupt()) is None


NONSENSE: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (TypeError, "on must be", {"on": "ConnectionError"}),
    (TypeError, "on must be", {"on": int}),
    (TypeError, "on must be", {"on": ()}),
    (TypeError, "on must be", {"on": (OSError, "x")}),
    (TypeError, "attempts", {"attempts": 2.0}),
    (TypeError, "attempts", {"attempts": True}),
    (ValueError, "attempts", {"attempts": 0}),
    (TypeError, "timeout", {"timeout": "1"}),
    (ValueError, "timeout", {"timeout": -1}),
    (ValueError, "wait_max", {"wait_max": float("nan")}),
    (TypeError, "wait_jitter", {"wait_jitter": None}),
    (TypeError, "wait_exp_base", {"wait_exp_base": datetime.timedelta(seconds=2)}),
]


@pytest.mark.parametrize("kind, says, arguments", NONSENSE)
def test_nonsense_is_refused(kind: type[Exception], says: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(kind, match=says):
        Retry(**{"on": Boom, **arguments})


def test_only_a_retry_is_one() -> None:
    signal = Signal()
    for makes in (signal.connect, background):
        with pytest.raises(TypeError, match=r"retry=Retry\(ConnectionError\)"):
            makes(Flaky(), retry=3)  # type: ignore[operator]
    assert signal.receivers == []


# -- What is run again, and what is told of it --


@pytest.mark.parametrize("kind", KINDS)
def test_delivery_is_run_again_until_it_succeeds(
    kind: type[Flaky], caplog: pytest.LogCaptureFixture
) -> None:
    receiver = kind(failures=2)
    with pool_of() as pool, told() as hears:
        [(_, delivery)] = signal_to(receiver, pool, retry=AT_ONCE).send_async(None, n=1)
        assert delivery.result(TIMEOUT) == 3
        assert receiver.calls == [1, 1, 1]
        stats = pool.stats()
    assert (stats.submitted, stats.completed, stats.failed) == (1, 1, 0)
    assert hears.failures == []
    warnings = records(caplog, logging.WARNING)
    assert [record.args[3] for record in warnings] == [1, 2]  # type: ignore[index]
    assert all(record.exc_info and record.exc_info[1] is receiver.error for record in warnings)
    assert "attempt 1; the next one in 0.000 seconds: Boom('not yet')" in caplog.text
    assert records(caplog, logging.ERROR) == []


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_last_failure_is_one(kind: type[Flaky], caplog: pytest.LogCaptureFixture) -> None:
    retry = Retry(Boom, attempts=3, wait_initial=0, wait_jitter=0, timeout=None)
    receiver = kind(failures=9)
    with pool_of() as pool, told() as hears:
        [(_, delivery)] = signal_to(receiver, pool, retry=retry).send_async("who", n=1)
        assert delivery.exception(TIMEOUT) is receiver.error
        stats = pool.stats()
    [failure] = hears.failures
    assert (failure.attempts, failure.exception, failure.mode) == (3, receiver.error, "send_async")
    assert (failure.sender, failure.named) == ("who", {"n": 1})
    assert (stats.submitted, stats.completed, stats.failed) == (1, 0, 1)
    assert len(records(caplog, logging.WARNING)) == 2
    assert len(records(caplog, logging.ERROR)) == 1


def test_what_is_not_named_fails_at_once(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Flaky(error=ValueError("wrong"))
    with pool_of() as pool, told() as hears:
        [(_, delivery)] = signal_to(receiver, pool, retry=AT_ONCE).send_async(None)
        assert delivery.exception(TIMEOUT) is receiver.error
        if sys.version_info[:2] != (3, 12):  # which could start none at exit
            assert inside.timers_of(pool) == []
    assert [failure.attempts for failure in hears.failures] == [1]
    assert records(caplog, logging.WARNING) == []


def test_base_exception_is_run_again_only_if_its_type_is_named() -> None:
    with pool_of() as pool, told():
        for on, calls in ((BaseBoom, 2), (Exception, 1), (lambda error: True, 1)):
            receiver = Flaky(error=BaseBoom())
            retry = Retry(on, wait_initial=0, wait_jitter=0, timeout=None)  # type: ignore[arg-type]
            [(_, delivery)] = signal_to(receiver, pool, retry=retry).send_async(None)
            assert (delivery.exception(TIMEOUT) is None) is (calls == 2)
            assert len(receiver.calls) == calls


def test_time_is_limited(clock: Clock) -> None:
    """That which counts from the first attempt: a pause beyond it is not begun."""
    retry = Retry(Boom, timeout=10, wait_initial=20, wait_max=20)
    receiver = Flaky()
    with pool_of() as pool, told() as hears:
        [(_, delivery)] = signal_to(receiver, pool, retry=retry).send_async(None)
        assert delivery.exception(TIMEOUT) is receiver.error
    assert [failure.attempts for failure in hears.failures] == [1]


@pytest.mark.parametrize("kind", KINDS)
def test_what_on_raises_is_logged_and_the_failure_is_the_receivers(
    kind: type[Flaky], caplog: pytest.LogCaptureFixture
) -> None:
    receiver = kind()

    def on(error: Exception) -> bool:
        raise LookupError("mine")

    with pool_of() as pool, told() as hears:
        [(_, delivery)] = signal_to(receiver, pool, retry=Retry(on)).send_async(None)
        assert delivery.exception(TIMEOUT) is receiver.error
    assert hears.errors == [receiver.error]
    assert [failure.attempts for failure in hears.failures] == [1]
    first, second = records(caplog, logging.ERROR)
    assert first.exc_info and type(first.exc_info[1]) is LookupError
    assert first.exc_info[2] is not None
    assert second.exc_info and second.exc_info[1] is receiver.error


def test_answer_of_on_that_is_none_is_logged_likewise(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Flaky()
    with pool_of() as pool, told() as hears:
        signal = signal_to(receiver, pool, retry=Retry(lambda error: "soon"))  # type: ignore[arg-type, return-value]
        [(_, delivery)] = signal.send_async(None)
        assert delivery.exception(TIMEOUT) is receiver.error
    assert len(hears.failures) == 1
    assert "what on returns must be a number or a timedelta, not 'soon'" in caplog.text


def test_on_runs_in_the_context_of_the_receiver() -> None:
    variable = contextvars.ContextVar("variable", default=0)
    seen = list[int]()

    def receives(**named: Any) -> None:
        variable.set(variable.get() + 1)
        raise Boom

    def on(error: Exception) -> bool:
        seen.append(variable.get())
        return len(seen) < 3

    variable.set(10)
    with pool_of() as pool, told():
        retry = Retry(on, wait_initial=0, wait_jitter=0, timeout=None)
        [(_, delivery)] = signal_to(receives, pool, retry=retry).send_async(None)
        assert type(delivery.exception(TIMEOUT)) is Boom
    assert seen == [11, 11, 11]  # each attempt has its own copy of the sender's
    assert variable.get() == 10


@pytest.mark.parametrize("kind", KINDS)
def test_around_is_entered_for_each_attempt(kind: type[Flaky]) -> None:
    entered = list[str]()

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        entered.append("in")
        try:
            yield
        finally:
            entered.append("out")

    with pool_of(around=around) as pool:
        [(_, delivery)] = signal_to(kind(2), pool, retry=AT_ONCE).send_async(None)
        assert delivery.result(TIMEOUT) == 3
    assert entered == ["in", "out"] * 3


@pytest.mark.parametrize("where", ["on the way in", "on the way out"])
def test_what_around_raises_counts_as_the_receivers(where: str) -> None:
    entered = list[int]()

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        entered.append(1)
        if where == "on the way in" and len(entered) == 1:
            raise Boom
        yield
        if where == "on the way out" and len(entered) == 1:
            raise Boom

    receiver = Flaky(failures=0)
    with pool_of(around=around) as pool, told() as hears:
        [(_, delivery)] = signal_to(receiver, pool, retry=AT_ONCE).send_async(None)
        assert delivery.result(TIMEOUT) == len(receiver.calls)
    assert len(entered) == 2
    assert hears.failures == []


def test_other_ways_to_send_do_not_run_again() -> None:
    with pool_of() as pool, told():
        receiver = Flaky()
        signal = signal_to(receiver, pool, retry=AT_ONCE)
        with pytest.raises(Boom):
            signal.send(None)
        receiver.calls.clear()
        assert signal.send_robust(None).errors == [(receiver, receiver.error)]
        receiver.calls.clear()
        with pytest.raises(Boom):
            asyncio.run(signal.asend(None))
        assert len(receiver.calls) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["background", "connect", "prepare", "submit a background"])
def test_every_way_into_a_pool_runs_again(kind: type[Flaky], way: str) -> None:
    receiver = kind()
    with pool_of() as pool:
        inner: Any = background(receiver, executor=pool, retry=AT_ONCE)
        if way == "background":
            [(_, delivery)] = signal_to(inner, None).send(None)
        elif way == "connect":
            [(_, delivery)] = signal_to(inner, pool).send_async(None)
        elif way == "prepare":
            prepared = signal_to(receiver, pool, retry=AT_ONCE).prepare(None)
            prepared.submit()
            [(_, delivery)] = prepared.deliveries
        else:
            prepared = inner.prepare(signal=None, sender=None)
            prepared.submit()
            [(_, delivery)] = prepared.deliveries
        assert delivery.result(TIMEOUT) == 2


def test_prepared_that_waits_is_not_submitted_once_more(clock: Clock) -> None:
    receiver = Flaky()
    with pool_of() as pool:
        prepared = signal_to(receiver, pool, retry=LATER).prepare(None)
        prepared.submit()
        waits(pool)
        prepared.submit()
        prepared.drop()
        assert pool.stats().submitted == 1
        clock.let_pass(pool)
        assert prepared.deliveries.results(TIMEOUT) == [(receiver, 2)]


def test_receivers_of_one_send_run_again_each_for_itself() -> None:
    receivers = [Flaky(n) for n in range(5)]
    signal = Signal()
    for n, receiver in enumerate(receivers):
        signal.connect(receiver, weak=False, retry=AT_ONCE if n else None)
    with pool_of(2) as pool:
        signal.executor = pool
        deliveries = signal.send_async(None)
        assert [result for _, result in deliveries.results(TIMEOUT)] == [1, 2, 3, 4, 5]
        assert deliveries.wait(TIMEOUT)
        assert pool.stats().completed == 5
        wait_until(lambda: not inside.unresolved(pool))


@pytest.mark.parametrize("way", ["send_async", "prepare", "background"])
def test_other_executors_refuse_before_anything_is_queued(way: str) -> None:
    first, receiver = Flaky(0), Flaky()
    with ThreadPoolExecutor(1) as executor:
        signal = Signal(executor=executor)
        signal.connect(first)
        if way == "background":
            signal.connect(background(receiver, retry=AT_ONCE), weak=False)
            sends: Callable[..., object] = signal.receivers[1].receiver  # type: ignore[assignment]
            arguments: dict[str, Any] = {"signal": signal}
        else:
            signal.connect(receiver, retry=AT_ONCE)
            sends, arguments = getattr(signal, way), {}
        with pytest.raises(TypeError, match="a receiver with retry needs a WorkerPool"):
            sends(sender=None, **arguments)
    assert first.calls == receiver.calls == []


# -- While it waits --


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_pending_and_holds_no_worker(kind: type[Flaky], clock: Clock) -> None:
    receiver = kind()
    with pool_of() as pool:
        [(_, delivery)] = signal_to(receiver, pool, retry=LATER).send_async(None)
        waits(pool)
        assert not delivery.running() and not delivery.done()
        assert "pending" in repr(delivery)
        stats = pool.stats()
        assert (stats.pending, stats.running) == (1, 0) and add_up(stats)
        assert pool.submit(int).result(TIMEOUT) == 0
        assert pool.stats().workers == 1  # nor does it have any started
        with pytest.raises(TimeoutError):
            delivery.result(0)
        assert not pool.drain(0)
        clock.let_pass(pool)
        assert pool.drain(TIMEOUT)
        assert delivery.result(0) == 2
        wait_until(lambda: not inside.pauses_of(pool))


def test_many_that_wait_have_one_thread(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "tsignals")
    with pool_of(2, max_pending=None) as pool:
        signal = signal_to(Flaky(10_000), pool, retry=LATER)
        deliveries = [signal.send_async(None) for _ in range(500)]
        waits(pool, 500)
        # Two workers may start one each: the second ends at once.
        wait_until(lambda: sum(each.is_alive() for each in inside.timers_of(pool)) == 1)
        assert sum(each.is_alive() for each in inside.threads_of(pool)) <= 3
        assert sum(each.cancel() for each in deliveries) == 500
        wait_until(lambda: inside.pauses_of(pool) < 100)  # what has ended is not kept until due


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("terms", [{}, {"ordered": True}, {"tracked": True}])
def test_cancel_ends_it_at_once(kind: type[Flaky], terms: dict[str, Any], clock: Clock) -> None:
    receiver = kind()
    with pool_of() as pool, told() as hears:
        signal = signal_to(receiver, pool, retry=LATER, **terms)
        [(_, delivery)] = signal.send_async(None, n=1)
        waits(pool)
        waiter = Running(delivery.exception)
        wait_until(lambda: inside.is_waited_for(delivery))
        assert delivery.cancel() and delivery.cancelled() and delivery.done()
        with pytest.raises(CancelledError):
            waiter.result()
        assert pool.drain(TIMEOUT)
        stats = pool.stats()
        assert (stats.pending, stats.cancelled, stats.failed) == (0, 1, 0) and add_up(stats)
        assert inside.state_of(pool).room_used == 0
        # A lane goes on.
        assert signal.send_async(None, n=2).results(TIMEOUT)[0][1] == 2
        clock.let_pass(pool)
        assert pool.drain(TIMEOUT)
        wait_until(lambda: not inside.pauses_of(pool))
        assert receiver.calls == [1, 2]
        assert inside.core_of(pool).state.needs_workers() is False
    assert hears.failures == []


def test_callbacks_are_called_once_at_the_end() -> None:
    called = list[Any]()
    with pool_of() as pool:
        [(_, delivery)] = signal_to(Flaky(2), pool, retry=AT_ONCE).send_async(None)
        delivery.add_done_callback(lambda future: called.append(future.result(0)))
        assert pool.drain(TIMEOUT)
        wait_until(lambda: called)
    assert called == [3]


@pytest.mark.parametrize("terms", [{}, {"ordered": True}, {"tracked": True}])
def test_what_has_ended_is_let_go(terms: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "tsignals")  # a record has the error, and keeps it
    calls = list[int]()

    def receives(**named: Any) -> None:
        calls.append(1)
        if len(calls) < 3:
            raise Boom  # a new one, which knows what was sent

    with uncollected(), pool_of() as pool:
        value = Thing()
        gone = weakref.ref(value)
        deliveries = signal_to(receives, pool, retry=AT_ONCE, **terms).send_async(None, of=value)
        assert deliveries.wait(TIMEOUT)
        assert pool.submit(int).result(TIMEOUT) == 0
        del value
        wait_until(lambda: gone() is None)
        delivery = weakref.ref(deliveries[0][1])
        del deliveries
        wait_until(lambda: delivery() is None)


@pytest.mark.parametrize("kind", KINDS)
def test_shutdown_with_a_timeout_does_not_say_that_it_never_ran(kind: type[Flaky]) -> None:
    """Who sends it once more must know that the receiver was called."""
    pool = WorkerPool(1)
    [(_, delivery)] = signal_to(kind(2), pool, retry=LATER).send_async(None)
    waits(pool)
    pool.shutdown(timeout=0)
    error = delivery.exception(0)
    assert type(error) is DeliveryLost
    assert str(error) == "its pool was shut down before it could run, or run again"


@pytest.mark.parametrize("kind", KINDS)
def test_shutdown_still_runs_it(kind: type[Flaky], clock: Clock) -> None:
    pool = WorkerPool(1)
    [(_, delivery)] = signal_to(kind(2), pool, retry=LATER).send_async(None)
    waits(pool)
    ends = Running(pool.shutdown)
    wait_until(lambda: inside.waiting_for_quiet(pool))
    clock.let_pass(pool)
    ends.result()
    assert delivery.result(0) == 3
    stats = pool.stats()
    assert (stats.workers, stats.completed) == (0, 1)
    assert not any(thread.is_alive() for thread in inside.threads_of(pool))


def test_shutdown_that_cancels_cancels_it() -> None:
    pool = WorkerPool(1)
    [(_, delivery)] = signal_to(Flaky(), pool, retry=LATER).send_async(None)
    waits(pool)
    pool.shutdown(cancel_futures=True)
    assert delivery.cancelled()
    assert not any(thread.is_alive() for thread in inside.threads_of(pool))


@pytest.mark.parametrize("is_async", [False, True])
def test_what_runs_at_a_shutdown_that_cancels_is_not_run_again(is_async: bool) -> None:
    latch = Latch()

    def fails(**named: Any) -> None:
        latch()
        raise Boom

    async def fails_on_the_loop(**named: Any) -> None:
        await asyncio.to_thread(fails)

    pool = WorkerPool(1)
    receiver = fails_on_the_loop if is_async else fails
    with told() as hears:
        [(_, delivery)] = signal_to(receiver, pool, retry=AT_ONCE).send_async(None)
        assert latch.entered.wait(TIMEOUT)
        pool.shutdown(wait=False, cancel_futures=True)
        latch.opened.set()
        assert isinstance(delivery.exception(TIMEOUT), Boom)
    pool.shutdown()
    assert latch.calls == 1 and [failure.attempts for failure in hears.failures] == [1]


def test_what_begins_its_pause_as_the_pool_cancels_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It runs as all that waits is cancelled, and is to be run again."""
    begin_pause = inside.BEGIN_PAUSE_OF_DELIVERY.now
    fails, cancelled = threading.Event(), threading.Event()

    def begin_once_all_is_cancelled(*arguments: Any) -> None:
        fails.set()
        assert cancelled.wait(TIMEOUT)
        begin_pause(*arguments)

    inside.BEGIN_PAUSE_OF_DELIVERY.patch(monkeypatch, begin_once_all_is_cancelled)
    pool = WorkerPool(1)
    [(_, delivery)] = signal_to(Flaky(), pool, retry=LATER).send_async(None)
    assert fails.wait(TIMEOUT)
    pool.shutdown(wait=False, cancel_futures=True)
    cancelled.set()
    pool.shutdown()
    assert delivery.cancelled() and add_up(pool.stats())


def test_pool_that_nobody_refers_to_runs_it(clock: Clock) -> None:
    pool = WorkerPool(1)
    signal = signal_to(Flaky(), pool, retry=LATER)
    [(_, delivery)] = signal.send_async(None)
    waits(pool)
    clock.ahead = 1e6
    inside.wake_timer(pool)
    del pool
    signal.executor = None
    assert delivery.result(TIMEOUT) == 2
    # That its threads end is seen to for every test.


def test_lane_waits_with_it(clock: Clock) -> None:
    receiver = Flaky()
    with pool_of(2) as pool:
        signal = signal_to(receiver, pool, retry=LATER, ordered=True)
        deliveries = [signal.send_async(None, n=n) for n in (1, 2)]
        wait_until(lambda: inside.pauses_of(pool) == 1 and not pool.stats().running)
        assert pool.submit(int).result(TIMEOUT) == 0
        assert receiver.calls == [1]
        clock.let_pass(pool)
        assert [each.results(TIMEOUT)[0][1] for each in deliveries] == [2, 3]
        assert receiver.calls == [1, 1, 2]
        wait_until(lambda: not inside.lanes_of(pool))


@pytest.mark.parametrize("kind", KINDS)
def test_tracked_disconnect_cancels_it(kind: type[Flaky]) -> None:
    receiver = kind()
    with pool_of() as pool:
        signal = Signal(executor=pool)
        connection = signal.connect(receiver, retry=LATER, tracked=True)
        [(_, delivery)] = signal.send_async(None)
        waits(pool)
        assert connection.disconnect(wait=TIMEOUT)
        wait_until(delivery.cancelled)  # its worker may be about to have it wait
        assert receiver.calls == [None]
        wait_until(lambda: inside.gates_of(signal) == {})


def test_tracked_disconnect_while_it_runs_lets_it_not_run_again() -> None:
    latch = Latch()

    def receives(**named: Any) -> None:
        latch()
        raise Boom

    with pool_of() as pool:
        signal = Signal(executor=pool)
        connection = signal.connect(receives, retry=AT_ONCE, tracked=True)
        [(_, delivery)] = signal.send_async(None)
        assert latch.entered.wait(TIMEOUT)
        disconnects = Running(connection.disconnect, wait=TIMEOUT)
        wait_until(lambda: not connection.connected)
        latch.opened.set()
        assert disconnects.result()
        wait_until(delivery.done)
        assert delivery.cancelled()
        assert latch.calls == 1


def test_tracked_disconnect_waits_for_what_could_not_enter_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the end of the stack: that is an error of the delivery, and may be named in ``retry``."""
    latch, enter, refused = Latch(), inside.ENTER_GATE.now, list[bool]()

    def at_the_end_of_the_stack(*arguments: Any) -> Any:
        if not refused:
            refused.append(True)
            raise RecursionError
        return enter(*arguments)

    inside.ENTER_GATE.patch(monkeypatch, at_the_end_of_the_stack)
    retry = Retry(RecursionError, wait_initial=0, wait_jitter=0, timeout=None)
    with pool_of() as pool:
        signal = Signal(executor=pool)
        connection = signal.connect(latch, retry=retry, tracked=True)
        [(_, delivery)] = signal.send_async(None)
        assert latch.entered.wait(TIMEOUT)
        with pytest.raises(TimeoutError):
            connection.disconnect(wait=0)
        latch.opened.set()
        assert delivery.result(TIMEOUT) == "through" and refused


def test_async_that_is_cancelled_while_it_runs_is_not_run_again() -> None:
    entered = threading.Event()
    calls = list[int]()

    async def receives(**named: Any) -> None:
        calls.append(1)
        entered.set()
        try:
            await asyncio.sleep(TIMEOUT)
        except asyncio.CancelledError:
            raise Boom from None

    with pool_of() as pool, told() as hears:
        [(_, delivery)] = signal_to(receives, pool, retry=AT_ONCE).send_async(None)
        assert entered.wait(TIMEOUT)
        assert delivery.cancel()
        wait_until(delivery.done)
        assert delivery.cancelled()
        assert pool.drain(TIMEOUT)
    assert calls == [1]
    assert hears.failures == []


# -- The queue --


def test_it_is_not_refused_where_the_queue_is_full(clock: Clock) -> None:
    latch = Latch()
    receiver = Flaky()

    def receives(**named: Any) -> int:
        latch()
        return receiver()

    with pool_of(max_pending=1, overflow="raise") as pool:
        signal = signal_to(receives, pool, retry=LATER)
        first = signal.send_async(None)
        assert latch.entered.wait(TIMEOUT)
        second = signal.send_async(None)
        latch.opened.set()
        assert second.results(TIMEOUT)[0][1] == 2
        waits(pool)
        with pytest.raises(QueueFull):  # what waits takes room
            signal.send_async(None)
        clock.let_pass(pool)
        assert first.results(TIMEOUT)[0][1] == 3
        assert signal.send_async(None).results(TIMEOUT)[0][1] == 4


def test_drop_oldest_drops_it() -> None:
    receiver = Flaky()
    with pool_of(max_pending=1, overflow="drop_oldest") as pool:
        signal = signal_to(receiver, pool, retry=LATER)
        [(_, delivery)] = signal.send_async(None)
        waits(pool)
        assert signal.send_async(None).results(TIMEOUT)[0][1] == 2
        assert isinstance(delivery.exception(TIMEOUT), DeliveryDropped)
        stats = pool.stats()
        assert (stats.dropped, stats.completed) == (1, 1) and add_up(stats)
        assert inside.state_of(pool).room_used == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("terms", [{}, {"tracked": True}])
def test_what_the_caller_runs_is_run_again_in_the_pool(
    kind: type[Flaky], terms: dict[str, Any]
) -> None:
    receiver = kind()
    with pool_of(max_pending=1, overflow="caller_runs") as pool:
        signal = signal_to(receiver, pool, retry=AT_ONCE, **terms)
        with held(pool):
            pool.submit(int)
            [(_, delivery)] = signal.send_async(None)
            assert len(receiver.calls) >= 1
        assert delivery.result(TIMEOUT) == 2
        assert pool.drain(TIMEOUT)
        stats = pool.stats()
        assert (stats.submitted, stats.completed) == (3, 3) and add_up(stats)
        if kind is Flaky:
            assert receiver.threads[0] == threading.get_ident() != receiver.threads[1]
        wait_until(lambda: not inside.unresolved(pool))


def test_ordered_one_that_the_caller_runs_is_waited_for_to_its_end() -> None:
    receiver = Flaky()
    with pool_of(max_pending=1, overflow="caller_runs") as pool:
        signal = signal_to(receiver, pool, retry=AT_ONCE, ordered=True)
        with held(pool):
            pool.submit(int)
            [(_, delivery)] = signal.send_async(None)
            assert delivery.done() and delivery.result(0) == 2


# -- Nested waits --


def by_result(deliveries: Any) -> Any:
    [(_, delivery)] = deliveries
    return delivery.result(TIMEOUT)


def by_results(deliveries: Any) -> Any:
    return deliveries.results(TIMEOUT)[0][1]


def by_wait(deliveries: Any) -> Any:
    assert deliveries.wait(TIMEOUT)
    return by_result(deliveries)


def by_as_completed(deliveries: Any) -> Any:
    [(_, delivery)] = deliveries.as_completed(TIMEOUT)
    return delivery.result(0)


def by_await(deliveries: Any) -> Any:
    async def main() -> Any:
        [(_, result)] = await asyncio.wait_for(asyncio.ensure_future(all_of(deliveries)), TIMEOUT)
        return result

    return asyncio.run(main())


async def all_of(deliveries: Any) -> Any:
    return await deliveries


def by_async_for(deliveries: Any) -> Any:
    async def main() -> Any:
        [result] = [result async for _, result in deliveries]
        return result

    return asyncio.run(main())


def test_as_completed_looks_once_at_each_pause_of_what_stands_before() -> None:
    """Where it was told twice, it would have itself told twice as often at each pause."""
    parked, first = list[int](), list[Any]()
    retry = Retry(Boom, wait_initial=0.001, wait_max=0.001, wait_jitter=0, timeout=None)

    def fails(last: bool, **named: Any) -> None:
        if not last and len(parked) < 9:
            if first:
                parked.append(inside.parked_at(first[0]))
            raise Boom

    with pool_of() as pool:
        signal = signal_to(fails, pool, ordered=True, retry=retry)

        def waits_for_both() -> None:
            [(_, delivery)] = signal.send_async(None, last=False)
            both = Deliveries(signal.send_async(None, last=True))
            delivery.add_done_callback(lambda _: None)
            first.append(delivery)
            by_as_completed(both)

        pool.submit(waits_for_both).result(TIMEOUT)
    assert max(parked) <= 1


WAYS = [by_result, by_results, by_wait, by_as_completed, by_await, by_async_for]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_all_wait_for_it_do_not_hang(
    way: Callable[[Any], Any], kind: type[Flaky], workers: int
) -> None:
    """The next attempt of a sync receiver is run by one that waits."""
    receivers = [kind(2) for _ in range(workers)]
    retry = Retry(Boom, wait_initial=0.02, wait_jitter=0, timeout=None)
    with pool_of(workers) as pool:
        barrier = threading.Barrier(workers)

        def outer(receiver: Flaky) -> Any:
            signal = signal_to(receiver, pool, retry=retry)
            barrier.wait(TIMEOUT)
            return way(signal.send_async(None))

        futures = [pool.submit(outer, receiver) for receiver in receivers]
        assert [future.result(TIMEOUT) for future in futures] == [3] * workers


def test_lanes_that_workers_wait_for_do_not_hang() -> None:
    retry = Retry(Boom, wait_initial=0.02, wait_jitter=0, timeout=None)
    with pool_of() as pool:
        signal = signal_to(Flaky(2), pool, retry=retry, ordered=True)

        def outer() -> list[Any]:
            deliveries = [signal.send_async(None) for _ in range(3)]
            return [by_result(each) for each in reversed(deliveries)]

        assert pool.submit(outer).result(TIMEOUT) == [5, 4, 3]


def test_lane_that_a_coroutine_in_a_worker_awaits_does_not_hang() -> None:
    retry = Retry(Boom, wait_initial=0.02, wait_jitter=0, timeout=None)
    with pool_of() as pool:
        signal = signal_to(Flaky(2), pool, retry=retry, ordered=True)

        def outer() -> Any:
            _, second = [signal.send_async(None) for _ in range(2)]
            return by_await(second)

        assert pool.submit(outer).result(TIMEOUT) == 4


def test_coroutine_that_awaits_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not woken until there is something to do, or all is done."""
    awaiting, woken = inside.module("_delivery.awaiting"), list[None]()
    notify = awaiting.notify

    def counting(*arguments: Any) -> None:
        woken.append(None)
        notify(*arguments)

    monkeypatch.setattr(awaiting, "notify", counting)
    with pool_of() as pool:
        signal = signal_to(Flaky(1), pool, retry=AT_ONCE)

        async def main() -> Any:
            with held(pool):
                waiter = asyncio.ensure_future(all_of(signal.send_async(None)))
                for _ in range(1000):
                    await asyncio.sleep(0)
            return await waiter

        assert asyncio.run(main())[0][1] == 2
    assert len(woken) < 10


def test_worker_that_waits_gives_up_in_time() -> None:
    with pool_of() as pool:
        signal = signal_to(Flaky(), pool, retry=LATER)

        def outer() -> str:
            [(_, delivery)] = signal.send_async(None)
            with pytest.raises(TimeoutError):
                delivery.result(0.01)
            return "cancelled" if delivery.cancel() else "not"

        assert pool.submit(outer).result(TIMEOUT) == "cancelled"


def test_due_between_the_look_and_the_sleep_of_who_waits(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """The timer has woken nobody, for nobody slept yet."""
    receiver = Flaky()
    with pool_of() as pool:
        signal = signal_to(receiver, pool, retry=LATER)
        park = inside.PARK.now

        def late(task: Any, parked: Any) -> None:
            if isinstance(getattr(task, "receiver", None), Flaky) and len(receiver.calls) == 1:
                clock.let_pass(pool)
                wait_until(lambda: not inside.pauses_of(pool) and not inside.is_paused(task))
            park(task, parked)

        def outer() -> Any:
            [(_, delivery)] = signal.send_async(None)
            inside.PARK.patch(monkeypatch, late)
            return delivery.result(TIMEOUT)

        assert pool.submit(outer).result(TIMEOUT) == 2


def test_pause_that_ends_between_two_looks_of_the_timer_at_its_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaps = itertools.count(0, 2000)  # LATER is between the first leap and the second
    inside.CLOCK_OF_TIMER.patch(monkeypatch, lambda: time.perf_counter() + next(leaps))
    with pool_of() as pool:
        [(_, delivery)] = signal_to(Flaky(), pool, retry=LATER).send_async(None)
        assert delivery.result(TIMEOUT) == 2


def test_finalizer_on_the_timers_thread_that_would_wait_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would wait for what only this thread has run again."""
    refused, waiting = list[Any](), list[Any]()

    def now() -> float:
        if waiting and threading.current_thread() in inside.timers_of(pool):
            with pytest.raises(RuntimeError, match="finalizer"):
                waiting.pop().result(TIMEOUT)
            refused.append(True)
        return time.perf_counter()

    inside.CLOCK_OF_TIMER.patch(monkeypatch, now)
    retry = Retry(Boom, wait_initial=0.1, wait_jitter=0, timeout=None)
    with pool_of() as pool:
        with held(pool):
            [(_, delivery)] = signal_to(Flaky(2), pool, retry=retry).send_async(None)
            waiting.append(delivery)
        assert delivery.result(TIMEOUT) == 3
    assert refused == [True]


# -- Ctrl-C --


class Interrupted:
    """A pool in whose queue there is no room, and whose worker goes on at the end."""

    def __init__(self, kind: type[Flaky], ordered: bool, failures: int = 1) -> None:
        self.receiver = kind(failures)
        self.pool = WorkerPool(1, max_pending=1, overflow="caller_runs")
        self.signal = signal_to(self.receiver, self.pool, retry=AT_ONCE, ordered=ordered)
        self.gate = Latch()
        self.futures = [self.pool.submit(self.gate)]
        assert self.gate.entered.wait(TIMEOUT)
        self.futures.append(self.pool.submit(int))

    def send(self) -> None:
        """Run it here, until it has failed."""
        with contextlib.suppress(QueueFull):
            self.signal.send_async(None)

    def check(self) -> None:
        self.gate.opened.set()
        pool = self.pool
        assert Running(pool.drain, TIMEOUT).result(), f"it does not come to rest: {pool.stats()}"
        assert all(future.done() for future in self.futures)
        assert add_up(pool.stats())
        assert inside.state_of(pool).room_used == 0
        assert inside.interrupts_of(pool) == []
        wait_until(lambda: not inside.unresolved(pool) and not inside.lanes_of(pool))
        assert not inside.atomic_state_of(pool).needs_workers()
        Running(pool.shutdown).result()
        assert not any(thread.is_alive() for thread in inside.threads_of(pool))
        stats = pool.stats()
        assert stats.completed + stats.failed + stats.cancelled == stats.submitted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("ordered", [False, True])
def test_sender_that_runs_it_is_interrupted_anywhere(
    ordered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its delivery is run again to its end, or was not accepted, or was ended by that."""
    caplog.set_level(logging.CRITICAL, "tsignals")
    for _ in range(2):  # at first it also looks for names
        world = Interrupted(Flaky, ordered)
        with Interrupter(0) as interrupter:
            world.send()
        world.check()
    at, step = FIRST, STRIDE * (1 + interrupter.points // 60)
    while True:
        world = Interrupted(Flaky, ordered)
        with Interrupter(at) as interrupter:
            world.send()
        try:
            world.check()
        except AssertionError as error:
            pytest.fail(f"at point {at}, {interrupter.where}: {error}")
        if not interrupter.raised:
            return
        at += step


class InRelease(Interrupter):
    """Interrupts nothing but the step that begins a pause."""

    def step(self, frame: FrameType, offset: int) -> object:
        if frame.f_code is inside.BEGIN_PAUSE.now.__code__:
            return super().step(frame, offset)
        return None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupted_as_a_later_pause_begins_it_is_run_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "tsignals")
    for at in range(1, 1000):
        world = Interrupted(Flaky, ordered=True, failures=2)
        with InRelease(at) as interrupter:
            world.send()
        world.check()
        assert world.receiver.calls == [None] * 3
        if not interrupter.raised:
            assert at > 4  # some in each of the two
            return
    pytest.fail("there are more points than were tried")


# -- Observers --


class Recorder(Observer):
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.contexts: list[int] = []

    def started(self, event: Event) -> None:
        if event.mode == "send_async":  # not that of receiver_failed
            self.heard.append(("started", event.attempts))

    def retried(self, event: Event) -> None:
        assert type(event.exception) is Boom and event.ran_seconds is not None
        assert event.outcome is event.response is None
        self.heard.append(("retried", event.attempts))

    def ended(self, event: Event) -> None:
        if event.mode == "send_async":
            self.heard.append(("ended", event.attempts, event.outcome))

    def dropped(self, event: Event) -> None:
        self.heard.append(("dropped", event.attempts, event.outcome))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("failures", [1, 5])
def test_observers_hear_of_each_attempt(kind: type[Flaky], failures: int) -> None:
    retry = Retry(Boom, attempts=2, wait_initial=0, wait_jitter=0, timeout=None)
    recorder = Recorder()
    with pool_of() as pool, told(), observe(recorder):
        signal_to(kind(failures), pool, retry=retry).send_async(None).outcomes(TIMEOUT)
        assert pool.drain(TIMEOUT)
    outcome = "completed" if failures == 1 else "failed"
    assert recorder.heard == [("started", 1), ("retried", 1), ("started", 2), ("ended", 2, outcome)]


@pytest.mark.parametrize("kind", KINDS)
def test_observers_hear_of_what_ends_while_it_waits(kind: type[Flaky]) -> None:
    recorder = Recorder()
    with pool_of() as pool, observe(recorder):
        deliveries = signal_to(kind(), pool, retry=LATER).send_async(None)
        waits(pool)
        assert deliveries.cancel() == 1
    assert recorder.heard == [("started", 1), ("retried", 1), ("dropped", 1, "cancelled")]


# -- Threads that cannot start, forks, ends --


def test_without_a_timer_the_failure_is_the_last(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Flaky()
    with pool_of() as pool, told() as hears:
        pool.submit(int).result(TIMEOUT)

        def start(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", start)
        [(_, delivery)] = signal_to(receiver, pool, retry=AT_ONCE).send_async(None)
        assert delivery.exception(TIMEOUT) is receiver.error
        monkeypatch.undo()
    assert [failure.attempts for failure in hears.failures] == [1]
    assert "no timer for" in caplog.text


def test_pool_that_breaks_down_ends_it() -> None:
    started = list[int]()

    def initializer() -> None:
        started.append(1)
        if len(started) > 1:
            raise Boom("initializer")

    with pool_of(2, initializer=initializer) as pool:
        [(_, delivery)] = signal_to(Flaky(), pool, retry=LATER).send_async(None)
        waits(pool)
        with held(pool), contextlib.suppress(Exception):
            pool.submit(int)
        wait_until(delivery.done)
        assert "initializer" in str(delivery.exception(0))
        assert add_up(pool.stats()) and not pool.stats().pending


PREAMBLE = (
    processes.PREAMBLE
    + """
from tsignals import *
pool = WorkerPool(1, thread_name_prefix="mail")
saved = Signal(name="order.saved", executor=pool)
calls = []

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def flaky(**named):
    calls.append(1)
    say("called")
    if len(calls) < 3:
        raise OSError("not yet")
    return len(calls)

def waiting():
    while not calls or pool.stats().pending != 1 or pool.stats().running:
        time.sleep(0.001)
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("sent", ["send_async(None)", "prepare(None).submit()"])
def test_it_has_its_time_at_exit(sent: str) -> None:
    done = processes.run(
        f"""
        saved.connect(flaky, retry=Retry(OSError, wait_initial=0.05, wait_jitter=0, timeout=None))
        saved.{sent}
        """,
        PREAMBLE,
    )
    assert done.returncode == 0
    assert done.stdout.split() == ["called"] * 3
    assert "lost" not in done.stderr


def test_what_would_take_longer_is_lost_at_exit() -> None:
    done = processes.run(
        """
        saved.connect(flaky, retry=Retry(OSError, wait_initial=3000, wait_max=3000, timeout=None))
        [(_, delivery)] = saved.send_async(None)
        waiting()
        delivery.add_done_callback(lambda future: say(type(future.exception(0)).__name__))
        """,
        PREAMBLE,
        TSIGNALS_EXIT_SECONDS="0.1",
    )
    assert done.returncode == 0
    assert done.stdout.split() == ["called", "DeliveryLost"]
    assert "at exit 1 deliveries of 'order.saved' to flaky were queued" in done.stderr


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="the system has no fork")
def test_what_fails_as_its_pool_gives_up_is_lost_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs as all that waits is lost, and waits itself as what runs is named."""
    begin_pause, lose = inside.BEGIN_PAUSE_OF_DELIVERY.now, inside.LOSE.now
    fails, lost, waiting, over = (threading.Event() for _ in range(4))

    def begin_once_all_is_lost(*arguments: Any) -> None:
        fails.set()
        assert lost.wait(TIMEOUT)
        begin_pause(*arguments)
        waiting.set()
        assert over.wait(TIMEOUT)

    def lose_and_see_it_wait(*arguments: Any) -> None:
        lose(*arguments)
        lost.set()
        assert waiting.wait(TIMEOUT)

    inside.BEGIN_PAUSE_OF_DELIVERY.patch(monkeypatch, begin_once_all_is_lost)
    inside.LOSE.patch(monkeypatch, lose_and_see_it_wait)
    with pool_of() as pool:
        receiver = Flaky()
        [(_, delivery)] = signal_to(receiver, pool, retry=LATER).send_async(None)
        assert fails.wait(TIMEOUT)
        pool.shutdown(timeout=0)
        over.set()
        assert isinstance(delivery.exception(TIMEOUT), DeliveryLost)
    wait_until(lambda: "they are lost" in caplog.text)
    assert add_up(pool.stats()) and receiver.calls == [None]


@pytest.mark.slow
def test_fork_loses_it_in_the_child_only() -> None:
    done = processes.run(
        """
        import logging
        logging.disable()
        retry = Retry(OSError, wait_initial=0.2, wait_jitter=0, timeout=None)
        saved.connect(flaky, retry=retry)
        [(_, delivery)] = saved.send_async(None)
        waiting()
        pid = os.fork()
        if not pid:
            signal.alarm(60)
            assert isinstance(delivery.exception(60), DeliveryLost)
            assert pool.stats().submitted == 0
            del calls[:]
            again = saved.send_async(None)  # with a timer of its own
            assert again.results(60)[0][1] == 3, again
            assert len(calls) == 3
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert delivery.result(60) == 3
        assert pool.drain(60)
        """,
        PREAMBLE,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_receiver_that_forks_and_raises_is_run_again_in_the_parent_only() -> None:
    pytest.importorskip("resource", reason="the system has no fork")
    done = processes.run(
        """
        import logging
        logging.disable()

        def forks(**named):
            calls.append(1)
            if len(calls) == 1:
                pid = os.fork()
                if pid:
                    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
                else:
                    signal.alarm(60)
                    threading.Thread(target=child).start()
                raise OSError("in both")
            return len(calls)

        def child():
            assert isinstance(delivery.exception(60), DeliveryLost)
            assert pool.drain(60)
            os._exit(7 if pool.stats().submitted == 0 else 1)

        saved.connect(forks, retry=Retry(OSError, wait_initial=0, wait_jitter=0, timeout=None))
        opened = threading.Event()
        pool.submit(opened.wait)
        [(_, delivery)] = saved.send_async(None)
        opened.set()
        assert delivery.result(60) == 2
        """,
        PREAMBLE,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_has_ended_in_its_pause_is_not_kept_until_that_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "tsignals")  # a record would keep the traceback
    with pool_of() as pool:
        receiver = Flaky()
        kept = weakref.ref(receiver)
        signal = signal_to(receiver, pool, retry=LATER)
        deliveries = signal.send_async(None, n=1)
        waits(pool)
        assert deliveries.cancel() == 1
        del receiver, signal, deliveries
        pool.submit(int).result(TIMEOUT)  # a worker lets go of one as it takes the next
        wait_until(lambda: gc.collect() >= 0 and kept() is None)


def test_no_pause_stays_none_however_often_it_is_run() -> None:
    retry = Retry(Boom, wait_initial=0, wait_jitter=0, attempts=None)
    assert {retry.pause_after(n, 0, Boom()) for n in (1, 2, 1024, 1025, 100_000)} == {0}
