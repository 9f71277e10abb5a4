"""What goes wrong in and around workers: nothing is lost, nothing hangs, the worker lives on."""

import asyncio
import contextlib
import contextvars
import logging
import os
import queue
import signal as signals
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from typing import Any

import failing
import inside
import pytest
from event_loops import AsyncLatch
from helpers import (
    TIMEOUT,
    BaseBoom,
    Boom,
    Ear,
    Latch,
    Running,
    handled,
    ignore,
    raiser,
    together,
    wait_until,
)
from pools import add_up, held, signal_to, told
from processes import run

from tsignals import QueueFull, Retry, Signal, WorkerPool, background, receiver_failed

ERRORS = [Boom(), BaseBoom(), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration()]
any_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


# A receiver that raises anything


@any_error
@pytest.mark.parametrize("ordered", [False, True], ids=["", "ordered"])
def test_whatever_a_receiver_raises_resolves_its_future_and_is_told(
    error: BaseException, ordered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with WorkerPool(1) as pool, told() as hears:
        names = list[str]()
        signal = signal_to(raiser(error), pool, ordered=ordered)
        signal.connect(lambda **named: names.append(threading.current_thread().name), weak=False)
        for _ in range(3):
            deliveries = signal.send_async(None)
            assert deliveries[0][1].exception(TIMEOUT) is error
            assert deliveries[1][1].exception(TIMEOUT) is None
        assert pool.stats().workers == 1  # the same worker lives on
        assert len(set(names)) == 1
        assert (pool.stats().completed, pool.stats().failed) == (3, 3)
    assert hears.errors == [error] * 3
    assert [r.levelno for r in caplog.records if r.name == "tsignals"] == [logging.ERROR] * 3


@any_error
def test_result_raises_it_where_it_is_asked_for(error: BaseException) -> None:
    with WorkerPool(1) as pool:
        deliveries = signal_to(raiser(error), pool).send_async(None)
        with pytest.raises(type(error)) as raised:
            deliveries[0][1].result(TIMEOUT)
        assert raised.value is error


# An initializer that raises


@any_error
def test_failing_initializer_breaks_the_pool(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    gate, ear = Latch(), Ear()

    def initializer(argument: str) -> None:
        assert argument == "argument"
        gate()
        raise error

    with WorkerPool(1, initializer=initializer, initargs=("argument",)) as pool:
        called = list[Any]()
        with told() as hears:
            signal = signal_to(ear, pool)
            ordered = signal_to(ear, pool, ordered=True)
            futures: list[Any] = [pool.submit(int)]
            assert gate.entered.wait(TIMEOUT)
            futures += [each.send_async(None)[0][1] for each in (signal, ordered) * 3]
            futures[-1].add_done_callback(called.append)
            gate.opened.set()
            for future in futures:
                assert isinstance(future.exception(TIMEOUT), BrokenExecutor)
            wait_until(lambda: pool.stats().workers == 0)
        assert called == [futures[-1]]
        for sends in (lambda: pool.submit(int), lambda: signal.send_async(None)):
            with pytest.raises(BrokenExecutor):
                sends()
        assert pool.drain(TIMEOUT)
        assert pool.stats() == (0, 0, 0, 0, 7, 0, 7, 0, 0, 0)
        assert "broken" in repr(pool)
    assert "broken" in repr(pool)  # shutdown does not mend it
    assert (ear.calls, hears.failures) == ([], [])
    assert [r.levelno for r in caplog.records if r.name == "tsignals"] == [logging.CRITICAL]


def test_initializer_that_fails_at_once_is_not_tried_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who started the worker finds it gone, and its work still waiting: enough is enough."""
    tried = list[int]()
    start = threading.Thread.start

    def start_and_end(thread: threading.Thread) -> None:
        start(thread)
        wait_until(lambda: not thread.is_alive())

    def initializer() -> None:
        tried.append(1)
        if len(tried) < 100:
            raise Boom

    monkeypatch.setattr(threading.Thread, "start", start_and_end)
    with WorkerPool(1, initializer=initializer) as pool:
        assert isinstance(pool.submit(int).exception(TIMEOUT), BrokenExecutor)
        assert len(tried) == 1


def test_initializer_that_fails_in_a_later_worker_leaves_what_runs_alone() -> None:
    first, gate = threading.Semaphore(1), Latch()

    def initializer() -> None:
        if not first.acquire(blocking=False):
            raise Boom("not the first")

    with WorkerPool(2, initializer=initializer) as pool:
        running = pool.submit(gate)
        assert gate.entered.wait(TIMEOUT)
        pending = pool.submit(int)
        assert isinstance(pending.exception(TIMEOUT), BrokenExecutor)
        assert not running.done()
        gate.opened.set()
        assert running.result(TIMEOUT) == "through"


def test_broken_pool_lets_blocked_senders_go() -> None:
    entered, opened = threading.Event(), threading.Event()

    def initializer() -> None:
        entered.set()
        assert opened.wait(TIMEOUT)
        raise Boom

    with WorkerPool(1, max_pending=1, initializer=initializer) as pool:
        pending = pool.submit(int)
        assert entered.wait(TIMEOUT)
        blocked = Running(pool.submit, int)
        wait_until(lambda: inside.blocked_senders(pool))
        opened.set()
        assert isinstance(pending.exception(TIMEOUT), BrokenExecutor)
        with pytest.raises(BrokenExecutor):
            blocked.result()
        assert pool.stats().submitted == 1


# around


@pytest.mark.parametrize("where", ["factory", "enter", "exit"])
@any_error
def test_around_that_raises_fails_its_delivery_and_no_other(
    error: BaseException, where: str
) -> None:
    faulty = threading.Event()

    class Manager:
        def __init__(self) -> None:
            self.fail_at("factory")

        def fail_at(self, place: str) -> None:
            if place == where and faulty.is_set():
                raise error

        def __enter__(self) -> None:
            self.fail_at("enter")

        def __exit__(self, *details: object) -> None:
            self.fail_at("exit")

    with WorkerPool(1, around=Manager) as pool, told() as hears:
        signal = signal_to(Ear(response="heard"), pool, ordered=True)
        faulty.set()
        assert signal.send_async(None)[0][1].exception(TIMEOUT) is error
        faulty.clear()
        assert signal.send_async(None)[0][1].result(TIMEOUT) == "heard"
        assert (pool.stats().workers, pool.stats().failed) == (1, 1)
    assert hears.errors == [error]


@any_error
def test_around_cannot_swallow_what_the_receiver_raised(error: BaseException) -> None:
    def around() -> contextlib.AbstractContextManager[None]:
        return contextlib.suppress(BaseException)

    with WorkerPool(1, around=around) as pool:
        failed = signal_to(raiser(error), pool).send_async(None)[0][1].exception(TIMEOUT)
        assert failed is error


class Leaves:
    """A context manager that raises ``error`` as it is left."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __enter__(self) -> None:
        pass

    def __exit__(self, *raised: object) -> None:
        raise self.error


def leaves(error: BaseException) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """The same, made by ``contextlib``."""

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        try:
            yield
        finally:
            raise error

    return around


@contextlib.contextmanager
def goes_on() -> Iterator[None]:
    """A generator that does not stop where it is told of an error."""
    with contextlib.suppress(Exception):
        yield
    yield


AROUNDS: dict[str, Callable[[BaseException], Any]] = {
    "class": lambda error: lambda: Leaves(error),
    "contextmanager": leaves,
    "generator that goes on": lambda error: goes_on,
}
# With something around the receiver.
SURROUNDED: dict[str, Callable[[Any], Any]] = {
    "send_async": failing.by_send_async,
    "async": lambda around: failing.to_async(failing.by_send_async(around)),
    "asend": lambda around: failing.inside(failing.by_asend, around),
    "asend_robust": lambda around: failing.inside(failing.by_asend_robust_alone, around),
    "submit": failing.submitted,
}
every_surrounded_way = pytest.mark.parametrize("way", SURROUNDED)


@pytest.mark.parametrize("made", AROUNDS)
@pytest.mark.parametrize("kind", [Boom, *failing.ODD_ERRORS], ids=lambda kind: kind.__name__)
@every_surrounded_way
def test_what_around_raises_after_its_receiver_is_logged_and_replaces_nothing(
    way: str, kind: type[Exception], made: str, caplog: pytest.LogCaptureFixture
) -> None:
    error, own = kind(), ValueError("around's own")
    with told() as hears:
        send = SURROUNDED[way](AROUNDS[made](own))
        assert send(Signal(), raiser(error), None, {}) is error
    tells = way not in ("asend", "submit")
    assert len(hears.errors) == tells
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * (1 + tells)
    assert caplog.records[-1].exc_info is not None
    if made == "generator that goes on":
        assert "generator didn't stop" in str(caplog.records[-1].exc_info[1])
    else:
        assert caplog.records[-1].exc_info[1] is own


@every_surrounded_way
def test_contextlib_that_cannot_assign_to_an_error_is_nothing_to_be_logged(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """That is all it does for most errors that pass; several deep, too."""

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        with failing.plain_around(), failing.Bare(), failing.plain_around():
            yield

    class Slotted(Exception):
        @property
        def __traceback__(self) -> None:  # type: ignore[override]
            return None

    for kind in (failing.Frozen, failing.Sealed, Slotted):
        error = kind()
        assert SURROUNDED[way](around)(Signal(), raiser(error), None, {}) is error
    tells = way not in ("asend", "submit")
    assert len(caplog.records) == 3 * tells


@any_error
@every_surrounded_way
def test_around_that_fails_by_itself_fails_what_it_is_around(
    way: str, error: BaseException
) -> None:
    ear, signal = Ear(), Signal()
    if not isinstance(error, Exception) and way == "asend_robust":
        pytest.skip("that is thrown at the sender")
    if isinstance(error, (GeneratorExit, StopIteration)) and way in ("async", "asend"):
        pytest.skip("a coroutine cannot raise that")
    send = SURROUNDED[way](lambda: Leaves(error))
    with told() as hears:
        assert send(signal, ear, None, {}) is error
    assert len(ear.calls) == 1
    assert hears.errors == [error] * (way not in ("asend", "submit"))


def test_error_of_around_itself_is_told_after_it_in_the_deliverys_context() -> None:
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="elsewhere")
    seen = list[str]()

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        token = where.set("inside")
        yield
        where.reset(token)
        raise Boom

    def hears(**named: Any) -> None:
        seen.append(where.get())

    with WorkerPool(1, around=around) as pool, receiver_failed.connect(hears):
        signal = signal_to(lambda **named: where.get(), pool)
        where.set("request")
        assert type(signal.send_async(None)[0][1].exception(TIMEOUT)) is Boom
    assert seen == ["request"]


def test_exit_of_around_that_is_interrupted_leaves_the_receivers_error() -> None:
    error = Boom()
    with WorkerPool(1, around=lambda: Leaves(KeyboardInterrupt())) as pool, told() as hears:
        signal = signal_to(raiser(error), pool)
        assert signal.send_async(None)[0][1].exception(TIMEOUT) is error
        assert hears.errors == [error]
        assert signal.send_async(None)[0][1].exception(TIMEOUT) is error
        assert pool.stats().workers == 1


def test_ctrl_c_in_the_exit_of_around_is_raised_to_the_sender_who_runs_the_receiver() -> None:
    error, interrupts = Boom(), [KeyboardInterrupt()]

    class Around(failing.Bare):
        def __exit__(self, *raised: object) -> None:
            if raised[1] is error:
                raise interrupts[0]

    with WorkerPool(1, max_pending=1, overflow="caller_runs", around=Around) as pool:
        with held(pool), told() as hears:
            pool.submit(int)
            with pytest.raises(KeyboardInterrupt):
                signal_to(raiser(error), pool).send_async(None)
        assert hears.errors == [error]
        assert pool.drain(TIMEOUT)


# Threads that cannot be started


class NoThreads:
    """While ``on``, no further thread can be started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = False
        self.refused = 0
        start = threading.Thread.start

        def starts(thread: threading.Thread) -> None:
            if self.on and thread.daemon and thread.name.startswith("tsignals"):
                self.refused += 1
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", starts)


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> NoThreads:
    return NoThreads(monkeypatch)


def test_without_any_worker_submit_raises_and_nothing_is_queued(no_threads: NoThreads) -> None:
    ear = Ear(response="heard")
    with WorkerPool(2) as pool:
        signal = signal_to(ear, pool)
        signal.connect(ear, dispatch_uid="again", ordered=True)
        no_threads.on = True
        sends: list[Callable[[], object]] = [
            lambda: pool.submit(int),
            lambda: signal.send_async(None),
            lambda: list(pool.map(int, "123")),
        ]
        for send in sends:
            with pytest.raises(RuntimeError, match="can't start new thread"):
                send()
        assert pool.stats() == (0,) * 10
        assert pool.drain(0)
        no_threads.on = False
        assert pool.submit(int).result(TIMEOUT) == 0
        responses = [response for _, response in signal.send_async(None).results(TIMEOUT)]
        assert responses == ["heard"] * 2
        assert len(ear.calls) == 2
        assert add_up(pool.stats())


def test_with_one_worker_it_goes_on(no_threads: NoThreads) -> None:
    with WorkerPool(4) as pool:
        with held(pool):
            no_threads.on = True
            futures = [pool.submit(int) for _ in range(10)]
            assert pool.stats().workers == 1
        assert [future.result(TIMEOUT) for future in futures] == [0] * 10
        assert no_threads.refused > 0
        assert add_up(pool.stats())
        no_threads.on = False
        with held(pool, 4):
            assert pool.stats().workers == 4


def test_many_that_find_no_thread_leave_nothing_pending(no_threads: NoThreads) -> None:
    no_threads.on = True
    with WorkerPool(2) as pool:

        def sends() -> list[Any]:
            accepted = []
            for _ in range(50):
                with contextlib.suppress(RuntimeError):
                    accepted.append(pool.submit(int))
            return accepted

        accepted = [future for each in together(sends, sends, sends) for future in each]
        # One that got in beside another's failing start is failed, and says why.
        for future in accepted:
            assert isinstance(future.exception(TIMEOUT), RuntimeError)
        stats = pool.stats()
        assert stats == (0, 0, 0, 0, len(accepted), 0, len(accepted), 0, 0, 0)
        no_threads.on = False
        assert pool.submit(int).result(TIMEOUT) == 0


def test_worker_out_of_memory_as_it_looks_who_waits_looks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, refused = Latch(), list[None]()
    with WorkerPool(1) as pool:
        [(_, delivery)] = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        drain = Running(pool.drain, TIMEOUT)
        wait_until(lambda: inside.waiting_for_quiet(pool))
        usher = inside.WAKE_WAITERS.now

        def fails_once(*arguments: Any) -> Any:
            if not refused:
                refused.append(None)
                raise MemoryError
            return usher(*arguments)

        inside.WAKE_WAITERS.patch(monkeypatch, fails_once)
        gate.opened.set()
        assert drain.result()
        assert refused
        assert delivery.result(TIMEOUT) == "through"


def test_caller_that_takes_its_turn_and_finds_no_thread_leaves_nothing_running(
    no_threads: NoThreads,
) -> None:
    ear, gate = Ear(), AsyncLatch()
    pool = WorkerPool(2, max_pending=1, overflow="caller_runs")
    takes_the_room = signal_to(gate, pool).send_async(None)
    assert gate.entered.wait(TIMEOUT)
    no_threads.on = True
    with contextlib.suppress(RuntimeError):
        signal_to(ear, pool, ordered=True).send_async(None)
    gate.opened.set()
    assert takes_the_room.results(TIMEOUT) == [(gate, "through")]
    assert pool.drain(TIMEOUT)
    stats = pool.stats()  # it has run, or failed with the reason, or was never taken
    assert stats.completed == 1 + len(ear.calls)
    assert stats.submitted == stats.completed + stats.failed
    wait_until(lambda: not inside.unresolved(pool))  # its loop leaves once all is counted
    wait_until(lambda: not inside.lanes_of(pool))
    no_threads.on = False
    assert pool.submit(int).result(TIMEOUT) == 0
    Running(pool.shutdown).result()


# A log that cannot be written


@pytest.fixture(params=[Boom, SystemExit], ids=["error", "exit"])
def broken_log(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Iterator[list[str]]:
    """What one has tried to log in vain."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tried.append(record.getMessage())
            raise request.param("disk full")

    tried = list[str]()
    logger, broken = logging.getLogger("tsignals"), Broken()
    logger.addHandler(broken)
    yield tried
    logger.removeHandler(broken)


@pytest.mark.parametrize("kind", [Boom, GeneratorExit, asyncio.CancelledError, SystemExit])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("make", [WorkerPool, ThreadPoolExecutor])
def test_log_that_fails_anyhow_leaves_the_future_what_the_receiver_has_raised(
    make: Any, is_async: bool, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise kind("disk full")

    error = Boom("the receiver's")

    async def raises(**named: Any) -> None:
        raise error

    logger = logging.getLogger("tsignals")
    monkeypatch.setattr(logger, "handlers", [Broken()])
    monkeypatch.setattr(logger, "propagate", False)
    with make(1) as executor, told() as hears:
        signal = Signal(executor=executor)
        signal.connect(raises if is_async else raiser(error), weak=False)
        [(_, delivery)] = signal.send_async(None)
        assert delivery.exception(TIMEOUT) is error
    assert hears.errors == [error]


def test_log_that_fails_kills_no_worker(broken_log: list[str]) -> None:
    pool = WorkerPool(1)
    with held(pool):
        future = pool.submit(int)
        future.add_done_callback(raiser_of(SystemExit()))
    wait_until(lambda: broken_log)
    assert pool.submit(int).result(TIMEOUT) == 0
    assert pool.stats().workers == 1
    Running(pool.shutdown).result()


@pytest.mark.parametrize("terms", ["", "ordered", "async", "around", "idle", "retry"])
def test_log_that_fails_to_tell_of_a_failure_kills_no_worker(
    terms: str, broken_log: list[str]
) -> None:
    def fails(**named: Any) -> None:
        raise Boom

    async def fails_async(**named: Any) -> None:
        raise Boom

    around = contextlib.nullcontext if terms == "around" else None
    idle = raiser(Boom()) if terms == "idle" else None
    with WorkerPool(1, around=around, idle=idle) as pool:
        signal = Signal(executor=pool)
        retry = Retry(Boom, attempts=2, wait_initial=0, wait_jitter=0) if terms == "retry" else None
        signal.connect(
            fails_async if terms == "async" else fails, ordered=terms == "ordered", retry=retry
        )
        for _ in range(3):
            [(_, future)] = signal.send_async(None)
            assert isinstance(future.exception(TIMEOUT), Boom)
            assert pool.submit(int).result(TIMEOUT) == 0
        assert pool.stats().workers == 1
        assert broken_log


def test_log_that_fails_to_tell_of_what_was_dropped_keeps_no_pool_from_closing(
    broken_log: list[str],
) -> None:
    pool = WorkerPool(1)
    assert pool.submit(int).result(TIMEOUT) == 0
    core = inside.core_of(pool)
    core.drops.add(1)
    del pool  # its worker closes it
    wait_until(lambda: not core.state.value.workers)
    assert broken_log == ["pool 'tsignals' was full: 1 deliveries dropped"]


def test_log_that_fails_does_not_end_the_event_loop(broken_log: list[str]) -> None:
    async def exits() -> None:
        raise SystemExit

    async def leaves_a_task(**named: Any) -> str:
        with contextlib.suppress(SystemExit):
            await asyncio.ensure_future(exits())
        return "heard"

    pool = WorkerPool(1)
    for _ in range(2):
        [(_, response)] = signal_to(leaves_a_task, pool).send_async(None).results(TIMEOUT)
        assert response == "heard"
    assert len(broken_log) == 2
    Running(pool.shutdown).result()


def test_log_that_fails_as_the_pool_breaks_keeps_nothing_from_being_resolved(
    broken_log: list[str],
) -> None:
    pool = WorkerPool(1, initializer=raiser(Boom()))
    assert isinstance(pool.submit(int).exception(TIMEOUT), BrokenExecutor)
    wait_until(lambda: broken_log)
    wait_until(lambda: pool.stats() == (0, 0, 0, 0, 1, 0, 1, 0, 0, 0))
    Running(pool.shutdown).result()


@pytest.mark.parametrize("broken_log", [Boom], indirect=True)  # an exit is the sender's own
@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_log_that_fails_to_tell_of_drops_stops_neither_senders_nor_the_end_of_the_pool(
    overflow: str, broken_log: list[str]
) -> None:
    pool, gate = WorkerPool(1, max_pending=1, overflow=overflow), Latch()
    pool.submit(gate)
    assert gate.entered.wait(TIMEOUT)
    futures = [pool.submit(int) for _ in range(4)]  # all but one are dropped
    assert len(broken_log) == 1
    threads = list(inside.workers_of(pool))
    del pool  # whose worker closes it, and would log what was dropped since
    gate.opened.set()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert all(future.done() for future in futures)


def test_error_of_an_initializer_that_has_no_words_breaks_the_pool_all_the_same() -> None:
    for kind in failing.ODD_ERRORS:
        pool = WorkerPool(1, initializer=raiser(kind()))
        assert isinstance(pool.submit(int).exception(TIMEOUT), BrokenExecutor)
        Running(pool.shutdown).result()


def test_log_that_fails_to_tell_of_a_callback_reaches_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise Boom("disk full")

    called = list[Any]()
    monkeypatch.setattr(logging.getLogger("concurrent.futures"), "handlers", [Broken()])
    with WorkerPool(1) as pool, held(pool):
        future = pool.submit(int)
        for callback in (raiser_of(Boom()), called.append):
            future.add_done_callback(callback)
        assert future.cancel()
        future.add_done_callback(raiser_of(Boom()))
    assert called == [future]


# Callbacks


@any_error
def test_callback_that_raises_harms_neither_the_worker_nor_the_lane(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    with WorkerPool(1) as pool:
        ear, called = Ear(), list[Any]()
        signal = signal_to(ear, pool, ordered=True)
        with held(pool):
            first, second = (signal.send_async(None)[0][1] for _ in range(2))
            first.add_done_callback(raiser_of(error))
            first.add_done_callback(called.append)
        assert second.result(TIMEOUT) is first.result(TIMEOUT) is None
        wait_until(lambda: called == [first])
        assert len(ear.calls) == 2
        assert pool.drain(TIMEOUT)
        assert pool.stats()[2:9] == (0, 0, 3, 3, 0, 0, 0)
        wait_until(lambda: caplog.records)
        assert pool.stats().workers == 1


def raiser_of(error: BaseException) -> Callable[[Any], None]:
    def callback(future: Any) -> None:
        raise error

    return callback


@any_error
def test_callback_that_raises_as_the_pool_breaks_keeps_no_other_from_being_resolved(
    error: BaseException,
) -> None:
    begun, called = Latch(), list[Any]()

    def initialize() -> None:
        begun()
        raise Boom

    pool = WorkerPool(1, initializer=initialize)
    futures = [pool.submit(int) for _ in range(3)]
    for future in futures:
        future.add_done_callback(raiser_of(error))
        future.add_done_callback(called.append)
    begun.opened.set()
    for future in futures:
        assert isinstance(future.exception(TIMEOUT), BrokenExecutor)
    wait_until(lambda: called == futures)
    assert pool.drain(TIMEOUT)
    wait_until(lambda: pool.stats() == (0, 0, 0, 0, 3, 0, 3, 0, 0, 0))
    Running(pool.shutdown).result()


# An error that nobody can look at


class Hostile(Exception):
    """Whoever asks for its class is in for a surprise."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise Boom("never ask")


@pytest.mark.parametrize("how", ["submit", "send_async", "caller runs"])
def test_error_that_hides_its_class_is_an_error_like_any_other(
    how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    error, calls = Hostile(), list[int]()
    pool = WorkerPool(1, max_pending=1, overflow="caller_runs")

    def raises(**named: Any) -> None:
        calls.append(1)
        raise error

    if how == "submit":
        future = pool.submit(raises)
    else:
        with contextlib.ExitStack() as stack:
            if how == "caller runs":
                stack.enter_context(held(pool))
                pool.submit(int)
            # Nor can the logging of this test look at it.
            monkeypatch.setattr(logging.getLogger("tsignals"), "disabled", True)
            future = signal_to(raises, pool).send_async(None)[0][1]
    raised = future.exception(TIMEOUT)
    assert (raised is error, calls) == (True, [1])
    assert pool.drain(TIMEOUT)
    assert pool.stats().failed == 1
    assert pool.submit(int).result(TIMEOUT) == 0
    Running(pool.shutdown).result()


# Cancelling what is about to run


@pytest.fixture
def busy() -> Iterator[WorkerPool]:
    with WorkerPool(2) as pool:
        yield pool


def test_cancel_and_run_exclude_each_other(busy: WorkerPool) -> None:
    signal, ran = Signal(executor=busy), list[int]()
    signal.connect(lambda n, **named: ran.append(n), weak=False)
    cancelled = set[int]()
    for n in range(500):
        [(_, delivery)] = signal.send_async(None, n=n)
        if delivery.cancel():
            cancelled.add(n)
            assert not delivery.set_running_or_notify_cancel()
    assert busy.drain(TIMEOUT)
    assert sorted([*ran, *cancelled]) == list(range(500))
    stats = busy.stats()
    assert (stats.completed, stats.cancelled) == (len(ran), len(cancelled))


# The end of the stack


def cancels(pool: WorkerPool, future: Any) -> None:
    future.cancel()


def sends_to_a_full_pool(pool: WorkerPool, future: Any) -> None:
    pool.submit(int)
    pool.submit(int)


def closes(pool: WorkerPool, future: Any) -> None:
    pool.shutdown(wait=False)


@pytest.mark.parametrize("call", [cancels, sends_to_a_full_pool, closes])
@pytest.mark.parametrize("overflow", ["block", "caller_runs"])
def test_call_at_the_end_of_the_stack_takes_effect_or_raises(
    call: Callable[[WorkerPool, Any], None], overflow: str
) -> None:
    """While somebody drains: to see to those who wait goes deeper than the change itself."""

    def deep(frames: int) -> None:
        if frames:
            deep(frames - 1)
        else:
            call(pool, future)

    limit, before = sys.getrecursionlimit(), len(list(_frames()))
    outcomes = set()
    for frames in range(60):
        with WorkerPool(1, max_pending=2, overflow=overflow, block_timeout=0) as pool:
            with held(pool):
                future = pool.submit(int)
                drain = Running(pool.drain, TIMEOUT)
                wait_until(lambda: inside.waiting_for_quiet(pool))
                sys.setrecursionlimit(before + 70)
                try:
                    deep(frames)
                    outcomes.add("took effect")
                except RecursionError:
                    outcomes.add("raised")
                except QueueFull:
                    outcomes.add("full")
                finally:
                    sys.setrecursionlimit(limit)
            assert drain.result(), frames
            assert add_up(pool.stats())
            assert (pool.stats().pending, pool.stats().running) == (0, 0)
            assert future.done()
    assert len(outcomes) > 1


def _frames() -> Iterator[Any]:
    frame: Any = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


class Alarm(RuntimeError):
    """What a signal handler raises; as a lack of threads does, too."""


@pytest.fixture
def alarm() -> Iterator[Callable[[], None]]:
    """Has a signal handler raise ``Alarm``."""
    if sys.platform == "win32":
        pytest.skip("there is no SIGUSR1")

    def handler(*_: object) -> None:
        raise Alarm

    former = signals.signal(signals.SIGUSR1, handler)
    yield lambda: os.kill(os.getpid(), signals.SIGUSR1)
    signals.signal(signals.SIGUSR1, former)


def test_what_a_handler_raises_as_a_thread_starts_is_no_lack_of_threads(
    alarm: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name.startswith("alarmed") and not alarms:
            alarms.append(None)
            alarm()
        start(thread)

    alarms = list[None]()
    with WorkerPool(2, thread_name_prefix="alarmed") as pool, held(pool):
        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(Alarm):
            pool.submit(int)
        assert pool.submit(int).result(TIMEOUT) == 0  # there is a second worker
        assert pool.stats().workers == 2
    assert pool.stats().pending == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGUSR1")
def test_what_a_handler_raises_while_a_caller_waits_for_its_lane_reaches_it() -> None:
    gate = Latch()
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        signal = signal_to(gate, pool, ordered=True)
        signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)
        signal.send_async(None)
        with (
            pytest.raises(Alarm),
            handled(raiser(Alarm()), lambda: pool.stats().pending == 2, signals.SIGUSR1),
        ):
            signal.send_async(None)
        gate.opened.set()
        assert pool.drain(TIMEOUT)
    assert gate.calls == pool.stats().completed == 3


def test_step_that_raises_again_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    tries, complete = list[None](), inside.COMPLETE.now

    def fails(future: Any, *outcome: Any) -> None:
        tries.append(None)
        if len(tries) < 9:
            raise MemoryError
        complete(future, *outcome)

    with WorkerPool(1) as pool, held(pool):
        future = pool.submit(int)
        inside.COMPLETE.patch(monkeypatch, fails)
        with pytest.raises(MemoryError):
            future.cancel()
        monkeypatch.undo()
        assert len(tries) == 2
        inside.complete_as_cancelled(future)


LAST_FRAMES = [0, *range(20, 80)]


def frames_before_the_end(frames: int, call: Callable[[], object]) -> str:
    """Call ``call()`` where so many of the last 80 frames are used; what came of it."""

    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        else:
            call()

    limit, hook = sys.getrecursionlimit(), sys.unraisablehook
    sys.unraisablehook = bool  # an event loop that could not be made says so as it goes
    sys.setrecursionlimit(len(list(_frames())) + 80)
    try:
        deep(frames)
        return "took effect"
    except RecursionError:
        return "raised"
    except QueueFull:
        return "full"
    finally:
        sys.setrecursionlimit(limit)
        sys.unraisablehook = hook


async def hears(**named: Any) -> None: ...


@contextlib.contextmanager
def not_waited_for(workers: int, **arguments: Any) -> Iterator[WorkerPool]:
    """A pool that is closed in the end, also one that has lost something and never rests."""
    pool = WorkerPool(workers, **arguments)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False)


def is_settled(pool: WorkerPool) -> bool:
    """Whether all has ended that was counted."""
    if not pool.drain(5.0):
        return False
    wait_until(lambda: not inside.lanes_of(pool))  # one step later
    return add_up(pool.stats())


WAYS: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]] = {
    "plain": (ignore, {}, {}),
    "ordered": (ignore, {"ordered": True}, {}),
    "tracked": (ignore, {"tracked": True}, {}),
    "around": (ignore, {}, {"around": contextlib.nullcontext}),
    "async": (hears, {}, {}),
    "async and ordered": (hears, {"ordered": True}, {}),
    "submit": (ignore, {}, {}),
    "background": (ignore, {}, {}),
}


def sender(way: str, pool: WorkerPool) -> Callable[[], object]:
    receiver, terms, _ = WAYS[way]
    if way == "submit":
        return lambda: pool.submit(int)
    if way == "background":
        signal = signal_to(background(receiver, executor=pool), None)
        return lambda: signal.send(None)
    signal = signal_to(receiver, pool, **terms)
    return lambda: signal.send_async(None)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", ["new", "idle", "busy"])
def test_send_at_the_end_of_the_stack_takes_effect_or_raises(way: str, state: str) -> None:
    outcomes = set()
    for frames in LAST_FRAMES:
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(not_waited_for(2, **WAYS[way][2]))
            send = sender(way, pool)
            if state != "new":
                send()
                assert pool.drain(TIMEOUT)
            if state == "busy":
                stack.enter_context(held(pool))
            before = pool.stats().submitted
            outcome = frames_before_the_end(frames, send)
            outcomes.add(outcome)
            sent = pool.stats().submitted - before
            stack.pop_all().close() if state == "busy" else None
            assert is_settled(pool), (frames, pool.stats())
            assert sent == (outcome == "took effect"), frames
    assert outcomes == {"took effect", "raised"}


@pytest.mark.parametrize("way", ["plain", "ordered", "tracked", "async", "submit"])
@pytest.mark.parametrize(
    "overflow", ["block", "raise", "drop_newest", "drop_oldest", "caller_runs"]
)
def test_overflow_at_the_end_of_the_stack_takes_effect_or_raises(way: str, overflow: str) -> None:
    outcomes = set()
    for frames in LAST_FRAMES:
        arguments = WAYS[way][2]
        with not_waited_for(
            1, max_pending=1, overflow=overflow, block_timeout=0, **arguments
        ) as pool:
            send = sender(way, pool)
            with held(pool):
                waiting = pool.submit(int)
                outcomes.add(frames_before_the_end(frames, send))
            assert is_settled(pool), (frames, pool.stats())
            assert waiting.done()
    assert "raised" in outcomes
    assert len(outcomes) == 2


@pytest.mark.parametrize("way", ["plain", "ordered", "tracked", "around", "async"])
def test_cancelling_at_the_end_of_the_stack_takes_effect_or_raises(way: str) -> None:
    outcomes = set()
    for frames in LAST_FRAMES:
        receiver, terms, arguments = WAYS[way]
        with not_waited_for(1, **arguments) as pool:
            signal = signal_to(receiver, pool, **terms)
            signal.connect(receiver, weak=False, dispatch_uid="again", **terms)
            with held(pool):
                deliveries = signal.send_async(None)
                outcomes.add(frames_before_the_end(frames, deliveries.cancel))
            assert is_settled(pool), (frames, pool.stats())
            assert all(delivery.done() for _, delivery in deliveries)
    assert outcomes == {"took effect", "raised"}


@pytest.mark.parametrize("tracked", [False, True], ids=["", "tracked"])
def test_connecting_at_the_end_of_the_stack_takes_effect_or_raises(tracked: bool) -> None:
    signal, outcomes = Signal(), set()
    for frames in LAST_FRAMES:
        for disconnect in (False, True):
            call: Callable[[], object] = lambda: signal.connect(ignore, tracked=tracked)  # noqa: E731
            if disconnect:
                call = lambda: signal.disconnect(ignore, wait=tracked)  # noqa: E731
            outcome = frames_before_the_end(frames, call)
            outcomes.add(outcome)
            heard = bool(signal.send(None))
            assert heard == signal.has_listeners()
            assert len(signal.receivers) == heard
            if outcome == "took effect":
                assert heard is not disconnect, frames
    assert outcomes == {"took effect", "raised"}


@pytest.mark.parametrize("verb", ["send", "send_robust", "send_async"])
@pytest.mark.parametrize("waited", [False, True], ids=["", "waited for"])
def test_tracked_receiver_on_the_last_frames_is_left(verb: str, waited: bool) -> None:
    """Also where another thread waits by then: it is woken."""
    outcomes = set()
    for frames in LAST_FRAMES:
        entered: queue.SimpleQueue[bool] = queue.SimpleQueue()
        opened: queue.SimpleQueue[bool] = queue.SimpleQueue()

        def hears(*, _entered: Any = entered.put, _wait: Any = opened.get, **named: Any) -> None:
            _entered(True)  # calls of C functions: they need no frame
            _wait()

        def stays_out(**named: Any) -> None: ...

        def disconnect() -> None:
            if entered.get():
                waits = Running(connection.disconnect, wait=10.0)
                wait_until(inside.waits_for_receivers)
                opened.put(True)
                waits.result()

        with not_waited_for(1, max_pending=1, overflow="caller_runs") as pool:
            signal = Signal(executor=pool)
            receiver = hears if waited else stays_out
            connection = signal.connect(receiver, weak=False, tracked=True)
            opened.put(True)
            signal.send(None)  # what it makes for all sends to come goes deeper
            if waited:
                entered.get()
            other = Running(disconnect)
            with held(pool):
                pool.submit(int)
                call = lambda: getattr(signal, verb)(None)  # noqa: E731
                outcome = frames_before_the_end(frames, call)
            outcomes.add(outcome)
            entered.put(False)
            other.result()
            # In another thread: this one would not wait for a call of its own.
            Running(connection.disconnect, wait=10.0).result()
            assert is_settled(pool), frames
    assert outcomes == {"took effect", "raised"}


@pytest.mark.parametrize("way", [way for way in WAYS if way != "background"])
def test_recursion_without_end_that_sends_leaves_nothing_pending(way: str) -> None:
    with not_waited_for(2, max_pending=None, **WAYS[way][2]) as pool:
        send = sender(way, pool)

        def walk() -> None:
            send()
            walk()

        assert frames_before_the_end(0, walk) == "raised"
        assert pool.drain(TIMEOUT), pool.stats()
        assert is_settled(pool)
        assert pool.stats().completed > 0


def test_drain_does_not_wait_for_a_callback_of_what_has_come_to_be_the_last() -> None:
    """Its sibling is cancelled, and the callback comes, when it has just run."""
    done = run(
        """
        import inside
        from tsignals import Signal, WorkerPool

        finish = inside.FINISH.now
        there, go_on, drained = (threading.Event() for _ in range(3))

        def stops(*arguments):
            if not there.is_set():
                there.set()
                assert go_on.wait(60)
            finish(*arguments)

        inside.FINISH.put(stops)
        pool = WorkerPool(1)
        signal = Signal(executor=pool)
        for n in range(2):
            signal.connect(lambda **named: None, weak=False, dispatch_uid=f"number {n}")
        first, second = signal.send_async(None).futures
        assert there.wait(60)
        assert second.cancel()
        drains = threading.Thread(target=lambda: pool.drain(60) and drained.set())
        drains.start()
        while not inside.waiting_for_quiet(pool):
            time.sleep(0.001)
        heard = []
        first.add_done_callback(lambda future: heard.append(drained.wait(60)))
        go_on.set()
        drains.join()
        pool.shutdown()
        print(heard)
        """
    )
    assert (done.stdout, done.returncode) == ("[True]\n", 0), done.stderr
