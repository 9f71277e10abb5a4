"""Timeouts hold whatever comes in between, in every place where a thread may sleep.

CPython before 3.13 has a queue that, where a signal handler runs beyond the end of a wait, or the
machine is busy at the wrong moment, waits for ever.
"""

import contextlib
import queue
import signal as signals
import time
from collections.abc import Callable, Iterator
from typing import Any

import inside
import pytest
from helpers import TIMEOUT, Boom, Latch, Running, ignore, wait_until
from pools import held, signal_to

from tsignals import QueueFull, Retry, Signal, WorkerPool
from tsignals.testing import capture
from tsignals.tracing import trace

SOON = 0.02
needs_timers = pytest.mark.skipif(
    not hasattr(signals, "setitimer"), reason="the system has no timers"
)


@contextlib.contextmanager
def handler_that_takes_longer() -> Iterator[list[int]]:
    """A signal comes while this thread waits; its handler takes longer than that wait."""
    ran = list[int]()

    def handle(number: int, frame: object) -> None:
        time.sleep(5 * SOON)
        ran.append(number)

    former = signals.signal(signals.SIGALRM, handle)
    signals.setitimer(signals.ITIMER_REAL, SOON / 4)
    try:
        yield ran
    finally:
        signals.setitimer(signals.ITIMER_REAL, 0)
        signals.signal(signals.SIGALRM, former)


def result(pool: WorkerPool) -> None:
    with pytest.raises(TimeoutError):
        pool.submit(ignore).result(SOON)


def exception(pool: WorkerPool) -> None:
    with pytest.raises(TimeoutError):
        signal_to(ignore, pool).send_async(None)[0][1].exception(SOON)


def results(pool: WorkerPool) -> None:
    with pytest.raises(TimeoutError):
        signal_to(ignore, pool).send_async(None).results(SOON)


def wait(pool: WorkerPool) -> None:
    assert not signal_to(ignore, pool).send_async(None).wait(SOON)


def as_completed(pool: WorkerPool) -> None:
    with pytest.raises(TimeoutError):
        list(signal_to(ignore, pool).send_async(None).as_completed(SOON))


def drain(pool: WorkerPool) -> None:
    assert not pool.drain(SOON)


def room(pool: WorkerPool) -> None:
    pool.submit(ignore)
    with pytest.raises(QueueFull):
        pool.submit(ignore)


def shutdown(pool: WorkerPool) -> None:
    pool.shutdown(timeout=SOON)


def captured(pool: WorkerPool) -> None:
    with capture(Signal()) as sends, pytest.raises(AssertionError):
        sends.wait(timeout=SOON)


def traced(pool: WorkerPool) -> None:
    signal = signal_to(ignore, pool)
    with trace() as found:
        signal.send_async(None)
    assert not found.wait(SOON)


def disconnected(pool: WorkerPool) -> None:
    signal, latch = Signal(), Latch()
    connection = signal.connect(latch, tracked=True)
    calling = Running(signal.send, None)
    assert latch.entered.wait(TIMEOUT)
    try:
        with pytest.raises(TimeoutError):
            connection.disconnect(wait=SOON)
    finally:
        latch.opened.set()
        calling.result()


WAITS: list[Callable[[WorkerPool], None]] = [
    *(result, exception, results, wait, as_completed, drain, room, shutdown, captured, traced),
    disconnected,
]


@needs_timers
@pytest.mark.parametrize("waits", WAITS, ids=lambda waits: waits.__name__)
def test_timeout_holds_where_a_signal_handler_takes_longer(
    waits: Callable[[WorkerPool], None],
) -> None:
    with WorkerPool(1, max_pending=1, block_timeout=SOON) as pool:
        with held(pool), handler_that_takes_longer() as ran:
            waits(pool)
            wait_until(lambda: ran)


@pytest.mark.parametrize(
    "take", [lambda inbox: inbox.get(timeout=0), lambda inbox: inbox.get_nowait()]
)
def test_nothing_is_there(take: Callable[[Any], Any]) -> None:
    inbox = inside.new_inbox()
    assert inbox.empty()
    with pytest.raises(queue.Empty):
        take(inbox)
    inbox.put(1)
    inbox.put(2)
    assert (inbox.qsize(), take(inbox), take(inbox)) == (2, 1, 2)
    with pytest.raises(queue.Empty):
        take(inbox)


def test_timeout_so_short_that_it_is_over_before_the_wait_begins_holds() -> None:
    """Where nothing has ever been put there, and where all that was has been taken."""
    for _ in range(2000):
        inbox = inside.new_inbox()
        for count in range(3):
            with pytest.raises(queue.Empty):
                inbox.get(timeout=1e-9)
            for item in range(count):
                inbox.put(item)
            assert [inbox.get(timeout=1e-9) for _ in range(count)] == list(range(count))


@pytest.mark.parametrize("timeout", [None, TIMEOUT])
def test_whatever_is_put_is_taken_in_its_order(timeout: float | None) -> None:
    inbox, ours, senders, count = inside.new_inbox(), list[tuple[int, int]](), 3, 2000

    def put(sender: int) -> None:
        for number in range(count):
            inbox.put((sender, number))

    putting = [Running(put, sender) for sender in range(senders)]
    while len(ours) < senders * count:
        ours.append(inbox.get(timeout=timeout))
    for each in putting:
        each.result()
    assert inbox.empty()
    for sender in range(senders):
        assert [n for who, n in ours if who == sender] == list(range(count))


def test_pause_before_another_attempt_ends_however_short_it_is() -> None:
    """The thread that knows when would sleep on, and a lane with all who wait for it."""
    retry = Retry(Boom, attempts=3, wait_initial=1e-9, wait_max=1e-9, wait_jitter=0)

    def fails(number: int, **named: Any) -> None:
        if number % 3:
            raise Boom

    with WorkerPool(2) as pool:
        signal = Signal(executor=pool)
        signal.connect(fails, weak=False, retry=retry, ordered=True)
        for number in range(300):
            signal.send_async(None, number=number)
        assert pool.drain(TIMEOUT)
        assert pool.stats().failed == 200
