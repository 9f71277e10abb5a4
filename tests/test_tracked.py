"""tracked receivers: after ``disconnect(wait=True)`` they do not run, and never will again."""

import asyncio
import contextlib
import contextvars
import functools
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import inside
import pytest
from helpers import (
    TIMEOUT,
    BaseBoom,
    Boom,
    Ear,
    Latch,
    Running,
    Thing,
    assert_gone,
    awaited,
    heard,
    ignore,
    quiet,
    raiser,
    wait_until,
)
from pools import held

from tsignals import Connection, QueueFull, Retry, Signal, WorkerPool, background


class AsyncLatch(Latch):
    """A coroutine function's kind of gate; the event loop goes on while it is closed."""

    async def __call__(self, /, **named: Any) -> str:  # type: ignore[override]
        self._came.append(None)
        self.entered.set()
        while not self.opened.is_set():
            await asyncio.sleep(0.001)
        self.left.set()
        return "through"


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(4) as pool:
        yield pool


def by_send(signal: Signal, pool: WorkerPool) -> Any:
    return signal.send(None)


def by_send_robust(signal: Signal, pool: WorkerPool) -> Any:
    return signal.send_robust(None)


def by_send_async(signal: Signal, pool: WorkerPool) -> Any:
    signal.executor = pool
    return signal.send_async(None).results(TIMEOUT)


def by_asend(signal: Signal, pool: WorkerPool) -> Any:
    return awaited(signal.asend, None)


def by_asend_robust(signal: Signal, pool: WorkerPool) -> Any:
    return awaited(signal.asend_robust, None)


Way = Callable[[Signal, WorkerPool], Any]
AT_ONCE = [by_send, by_send_robust, by_asend, by_asend_robust]

every_way = pytest.mark.parametrize("way", [*AT_ONCE, by_send_async])
every_way_at_once = pytest.mark.parametrize("way", AT_ONCE)
every_gate = pytest.mark.parametrize("make", [Latch, AsyncLatch])


def start(way: Way, signal: Signal, pool: WorkerPool, *gates: Latch) -> Running[Any]:
    """Send in another thread; return once all of the gates are entered."""
    sending = Running(way, signal, pool)
    for gate in gates:
        assert gate.entered.wait(TIMEOUT)
    return sending


def disconnected(signal: Signal, connection: Connection) -> bool:
    """Whether a connection is gone for everybody."""
    return (connection.connected, signal.receivers, signal.has_listeners()) == (False, [], False)


# Waiting


@every_way
@every_gate
def test_disconnect_waits_until_the_receiver_no_longer_runs(
    way: Way, make: Callable[[], Latch], pool: WorkerPool
) -> None:
    signal, gate = Signal(), make()
    connection = signal.connect(gate, tracked=True)
    sending = start(way, signal, pool, gate)
    waiting = Running(connection.disconnect, wait=True)
    wait_until(lambda: not connection.connected)
    assert not waiting.done
    gate.opened.set()
    assert waiting.result() is True
    assert gate.left.is_set()
    assert sending.result() == [(gate, "through")]
    assert heard(signal) == []


@every_way
@every_gate
def test_expired_wait_raises_and_the_connection_is_already_gone(
    way: Way, make: Callable[[], Latch], pool: WorkerPool
) -> None:
    signal, gate = Signal(), make()
    connection = signal.connect(gate, tracked=True)
    sending = start(way, signal, pool, gate)
    with pytest.raises(TimeoutError):
        connection.disconnect(wait=0)
    assert disconnected(signal, connection)
    with pytest.raises(TimeoutError):
        connection.disconnect(wait=0)
    with pytest.raises(TimeoutError):
        signal.disconnect(gate, wait=0)
    gate.opened.set()
    assert connection.disconnect(wait=True) is False
    assert gate.left.is_set()
    assert signal.disconnect(gate, wait=True) is False
    assert sending.result() == [(gate, "through")]


@pytest.mark.parametrize("seconds", [0, 0.0, 0.05, 1])
def test_numbers_are_seconds_also_zero_and_one(seconds: float, pool: WorkerPool) -> None:
    signal, gate = Signal(), Latch()
    connection = signal.connect(gate, tracked=True)
    sending = start(by_send, signal, pool, gate)
    with pytest.raises(TimeoutError):
        signal.disconnect(gate, wait=seconds)
    assert disconnected(signal, connection)
    gate.opened.set()
    sending.result()


@pytest.mark.parametrize("wait", [False, True, 0, 0.0, 1, 2.5])
def test_disconnect_of_a_receiver_that_does_not_run_returns_at_once(wait: float) -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    connection = signal.connect(ear.hear, sender, tracked=True)
    heard(signal, sender)
    assert connection.disconnect(wait=wait) is True
    assert connection.disconnect(wait=wait) is False
    signal.connect(ear.hear, sender, tracked=True)
    assert signal.disconnect(ear.hear, sender, wait=wait) is True
    assert signal.disconnect(ear.hear, sender, wait=wait) is False
    signal.connect(ear, dispatch_uid="menu", tracked=True)
    assert signal.disconnect(dispatch_uid="menu", wait=wait) is True
    assert signal.disconnect(dispatch_uid="menu", wait=wait) is False
    assert len(ear.calls) == 1


def test_false_does_not_wait(pool: WorkerPool) -> None:
    signal, gate = Signal(), Latch()
    signal.connect(gate, tracked=True)
    sending = start(by_send, signal, pool, gate)
    assert signal.disconnect(gate, wait=False) is True
    assert not gate.left.is_set()
    gate.opened.set()
    sending.result()


@pytest.mark.parametrize("first", ["connection", "signal", "context manager", "other thread"])
@pytest.mark.parametrize("again", ["connection", "signal"])
def test_waiting_again_waits_for_what_still_runs_whoever_disconnected_it(
    first: str, again: str, pool: WorkerPool
) -> None:
    signal, gate, sender = Signal(), Latch(), Thing()
    connection = signal.connect(gate, sender, dispatch_uid="menu", tracked=True)
    sending = Running(signal.send, sender)
    assert gate.entered.wait(TIMEOUT)

    def disconnect(wait: float) -> bool:
        if again == "signal":
            return signal.disconnect(None, sender, "menu", wait=wait)
        return connection.disconnect(wait)

    if first == "connection":
        assert connection.disconnect()
    elif first == "signal":
        assert signal.disconnect(None, sender, "menu")
    elif first == "other thread":
        assert Running(connection.disconnect).result()
    else:
        with connection:
            pass
    with pytest.raises(TimeoutError):
        disconnect(wait=0)
    waiting = Running(disconnect, wait=True)
    gate.opened.set()
    assert waiting.result() is False
    assert gate.left.is_set()
    sending.result()


def test_all_that_still_run_under_a_key_are_waited_for(pool: WorkerPool) -> None:
    signal, gates, sends = Signal(), [Latch(), Latch()], list[Running[Any]]()
    for gate in gates:
        connection = signal.connect(gate, dispatch_uid="key", tracked=True)
        sends.append(start(by_send, signal, pool, gate))
        connection.disconnect()
    waiting = Running(signal.disconnect, dispatch_uid="key", wait=True)
    wait_until(inside.waits_for_receivers)
    before = set(inside.waits_for_receivers())
    gates[0].opened.set()
    wait_until(lambda: waiting.done or set(inside.waits_for_receivers()) - before)
    assert not waiting.done
    gates[1].opened.set()
    assert waiting.result() is False
    assert [send.result() for send in sends] == [[(gate, "through")] for gate in gates]


def test_many_may_wait_for_one_receiver(pool: WorkerPool) -> None:
    signal, gate = Signal(), Latch()
    connection = signal.connect(gate, tracked=True)
    sending = [start(by_send, signal, pool, gate), Running(by_send, signal, pool)]
    wait_until(lambda: gate.calls == 2)
    waiting = [Running(connection.disconnect, wait=True) for _ in range(3)]
    waiting += [Running(signal.disconnect, gate, wait=TIMEOUT)]
    wait_until(lambda: not connection.connected)
    assert not any(thread.done for thread in waiting)
    gate.opened.set()
    assert sum(thread.result() for thread in waiting) == 1
    for thread in sending:
        thread.result()


@pytest.mark.parametrize("error", [Boom, BaseBoom])
@every_way
def test_receiver_that_raises_has_ended_too(
    way: Way, error: type[BaseException], pool: WorkerPool
) -> None:
    signal = Signal()
    raising = raiser(error())
    connection = signal.connect(raising, tracked=True)
    try:
        way(signal, pool)
    except BaseException as raised:
        assert type(raised) is error
    assert connection.disconnect(wait=True)


def test_old_call_is_no_call_of_a_connection_made_anew(pool: WorkerPool) -> None:
    signal, gate = Signal(), Latch()
    old = signal.connect(gate, tracked=True)
    sending = start(by_send, signal, pool, gate)
    old.disconnect()
    new = signal.connect(gate, tracked=True)
    assert new is not old
    with pytest.raises(TimeoutError):
        old.disconnect(wait=0)
    assert new.connected
    assert new.disconnect(wait=0) is True
    gate.opened.set()
    assert old.disconnect(wait=True) is False
    sending.result()


def test_other_receivers_are_not_waited_for(pool: WorkerPool) -> None:
    signal, gate, other = Signal(), Latch(), Ear()
    signal.connect(gate, tracked=True)
    connection = signal.connect(other, tracked=True)
    sending = start(by_send, signal, pool, gate)
    assert connection.disconnect(wait=True) is True
    gate.opened.set()
    assert sending.result() == [(gate, "through")]


def test_receiver_whose_key_has_the_same_hash_is_not_waited_for(pool: WorkerPool) -> None:
    signal, gate = Signal(), Latch()
    assert hash(-1) == hash(-2)
    signal.connect(gate, dispatch_uid=-1, tracked=True)
    signal.connect(Ear(), weak=False, dispatch_uid=-2, tracked=True)
    sending = start(by_send, signal, pool, gate)
    assert signal.disconnect(dispatch_uid=-2, wait=0) is True
    with pytest.raises(TimeoutError):
        signal.disconnect(dispatch_uid=-1, wait=0)
    gate.opened.set()
    assert sending.result() == [(gate, "through")]


# Never again


@every_way_at_once
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_send_in_progress_leaves_a_disconnected_receiver_out(
    way: Way, kind: str, pool: WorkerPool
) -> None:
    signal, gate, last, called = Signal(), Latch(), Ear("last"), list[str]()

    def hears(**named: Any) -> None:
        called.append("sync")

    async def hears_async(**named: Any) -> None:
        called.append("async")

    tracked = hears if kind == "sync" else hears_async
    signal.connect(gate)
    connection = signal.connect(tracked, tracked=True)
    signal.connect(last)
    sending = start(way, signal, pool, gate)
    assert connection.disconnect(wait=True) is True
    gate.opened.set()
    assert [receiver for receiver, _ in sending.result()] == [gate, last]
    assert called == []


def test_queued_delivery_is_cancelled_and_others_are_not_touched() -> None:
    tracked, busy, other = Ear("tracked"), Latch(), Ear("other")
    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        blocker = pool.submit(busy)
        assert busy.entered.wait(TIMEOUT)
        connection = signal.connect(tracked, tracked=True)
        signal.connect(other)
        deliveries = [signal.send_async(None) for _ in range(3)]
        removed = connection.disconnect(wait=True)
        cancelled = [each[0][1].cancelled() for each in deliveries]
        busy.opened.set()
        assert (removed, cancelled) == (True, [True] * 3)
        assert blocker.result(TIMEOUT) == "through"
        assert all(each.wait(TIMEOUT) for each in deliveries)
    assert (len(tracked.calls), len(other.calls)) == (0, 3)
    stats = pool.stats()
    assert (stats.submitted, stats.completed, stats.cancelled) == (7, 4, 3)


def test_delivery_that_runs_is_waited_for_and_those_behind_it_never_run() -> None:
    gate = Latch()
    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        connection = signal.connect(gate, tracked=True)
        deliveries = [signal.send_async(None)[0][1] for _ in range(3)]
        assert gate.entered.wait(TIMEOUT)
        with pytest.raises(TimeoutError):
            connection.disconnect(wait=0)
        assert [delivery.cancelled() for delivery in deliveries] == [False, True, True]
        gate.opened.set()
        assert connection.disconnect(wait=True) is False
        assert deliveries[0].result(TIMEOUT) == "through"
    assert gate.calls == 1


@pytest.mark.parametrize("make", [Ear, AsyncLatch])
def test_delivery_of_a_receiver_that_is_disconnected_before_it_is_queued_is_cancelled(
    make: Callable[[], Any], pool: WorkerPool
) -> None:
    """Between the moment that a send is fixed and the moment that it is queued."""
    tracked, other = make(), Ear("other")

    class Interrupted(Signal):
        @property
        def executor(self) -> WorkerPool:
            connection.disconnect(wait=True)
            return pool

        @executor.setter
        def executor(self, value: object) -> None: ...

    signal = Interrupted()
    connection = signal.connect(tracked, tracked=True)
    signal.connect(other)
    deliveries = dict(signal.send_async(None))
    assert deliveries[other].result(TIMEOUT) is None
    # Who takes it from the queue may find the gate closed first, and cancels it a moment later.
    assert pool.drain(TIMEOUT)
    assert deliveries[tracked].cancelled()
    stats = pool.stats()
    assert (stats.submitted, stats.completed, stats.cancelled) == (2, 1, 1)
    assert (stats.pending, stats.running) == (0, 0)


def test_delivery_that_starts_as_its_receiver_is_disconnected_is_cancelled(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is queued no longer, so nobody cancels it, and is not let in yet."""
    signal, ear = Signal(executor=pool), Ear()
    connection = signal.connect(ear, tracked=True)
    enter = inside.ENTER_GATE.now

    def enter_late(gate: Any, call: Any) -> bool:
        assert connection.disconnect(wait=True)
        return enter(gate, call)

    inside.ENTER_GATE.patch(monkeypatch, enter_late)
    [(_, delivery)] = signal.send_async(None)
    with pytest.raises(CancelledError):
        delivery.result(TIMEOUT)
    assert delivery.cancelled()
    assert ear.calls == []
    assert pool.drain(TIMEOUT)
    stats = pool.stats()
    assert (stats.submitted, stats.cancelled, stats.failed) == (1, 1, 0)


def test_wait_is_also_for_a_connection_that_is_made_while_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signal, gate = Signal(), Latch()
    check_wait, sending = inside.CHECK_WAIT.now, list[Running[Any]]()

    def check_late(wait: object, tracked: bool) -> None:
        check_wait(wait, tracked)
        signal.connect(gate, tracked=True)
        sending.append(Running(signal.send, None))
        assert gate.entered.wait(TIMEOUT)

    with monkeypatch.context() as patch:
        inside.CHECK_WAIT.patch(patch, check_late)
        with pytest.raises(TimeoutError):
            signal.disconnect(gate, wait=0)
    assert not signal.has_listeners()
    gate.opened.set()
    assert signal.disconnect(gate, wait=True) is False
    assert sending[0].result() == [(gate, "through")]


def test_sends_and_deliveries_are_waited_for_alike(pool: WorkerPool) -> None:
    signal, gate = Signal(), Latch()
    connection = signal.connect(gate, tracked=True)
    running = [start(way, signal, pool, gate) for way in (by_send, by_send_async, by_asend)]
    wait_until(lambda: gate.calls == 3)
    waiting = Running(connection.disconnect, wait=True)
    wait_until(lambda: not connection.connected)
    assert not waiting.done
    gate.opened.set()
    assert waiting.result() is True
    assert [thread.result() for thread in running] == [[(gate, "through")]] * 3


def test_another_executor_cancels_what_it_can_and_waits_for_the_rest() -> None:
    gate = Latch()
    with ThreadPoolExecutor(1) as executor:
        signal = Signal(executor=executor)
        connection = signal.connect(gate, tracked=True)
        deliveries = [signal.send_async(None)[0][1] for _ in range(2)]
        assert gate.entered.wait(TIMEOUT)
        with pytest.raises(TimeoutError):
            connection.disconnect(wait=0)
        assert deliveries[1].cancelled()
        gate.opened.set()
        assert connection.disconnect(wait=True) is False
        assert deliveries[0].result(TIMEOUT) == "through"
    assert gate.calls == 1


@pytest.mark.parametrize("verb", ["send", "send_robust", "send_async"])
def test_receiver_never_runs_after_the_wait_however_many_send(verb: str) -> None:
    over, late = threading.Event(), list[str]()
    with WorkerPool(2, max_pending=8) as pool:
        signal = Signal(executor=pool)
        signal.connect(ignore)

        def send() -> None:
            while not over.is_set():
                getattr(signal, verb)(None)

        sending = [Running(send) for _ in range(2)]
        try:
            for _ in range(100):
                runs, gone = threading.Event(), threading.Event()

                def hears(
                    runs: threading.Event = runs, gone: threading.Event = gone, **named: Any
                ) -> None:
                    runs.set()
                    if gone.is_set():
                        late.append("late")

                connection = signal.connect(hears, tracked=True)
                assert runs.wait(TIMEOUT)
                assert connection.disconnect(wait=True) is True
                gone.set()
        finally:
            over.set()
        for thread in sending:
            thread.result()
    assert late == []


# Calls that could only end after the wait


@every_way
@pytest.mark.parametrize("through", ["connection", "signal"])
def test_receiver_can_wait_for_itself(way: Way, through: str, pool: WorkerPool) -> None:
    signal = Signal()

    def once(**named: Any) -> bool:
        if through == "signal":
            return signal.disconnect(once, wait=True)
        return connection.disconnect(wait=True)

    connection = signal.connect(once, tracked=True)
    assert Running(way, signal, pool).result() == [(once, True)]
    assert disconnected(signal, connection)


@every_way
@pytest.mark.parametrize("where", ["on the loop", "in a thread"])
def test_async_receiver_can_wait_for_itself(way: Way, where: str, pool: WorkerPool) -> None:
    signal = Signal()

    async def once(**named: Any) -> bool:
        if where == "on the loop":
            return connection.disconnect(wait=True)
        return await asyncio.to_thread(connection.disconnect, wait=True)

    connection = signal.connect(once, tracked=True)
    assert Running(way, signal, pool).result() == [(once, True)]
    assert disconnected(signal, connection)


def test_delivery_that_an_async_receiver_has_sent_is_not_inside_of_it(pool: WorkerPool) -> None:
    """It runs in a copy of the context, but on its own: the receiver might not wait for it."""
    outer, inner = Signal(), Signal(executor=pool)

    def disconnects(**named: Any) -> None:
        with pytest.raises(TimeoutError):
            connection.disconnect(wait=0)

    async def sends(**named: Any) -> None:
        await inner.send_async(None)

    connection = outer.connect(sends, tracked=True)
    inner.connect(disconnects)
    assert awaited(outer.asend, None) == [(sends, None)]
    assert not connection.connected


def test_wait_leaves_out_every_call_of_its_own_stack(pool: WorkerPool) -> None:
    outer, inner = Signal(), Signal()

    def recurses(depth: int, **named: Any) -> Any:
        return (outer if depth else inner).send(None, depth=depth - 1)[0][1]

    def disconnects(**named: Any) -> bool:
        return connection.disconnect(wait=True)

    connection = outer.connect(recurses, tracked=True)
    inner.connect(disconnects)
    assert Running(outer.send, None, depth=3).result() == [(recurses, True)]


def test_receiver_that_waits_for_itself_waits_for_its_calls_in_other_threads(
    pool: WorkerPool,
) -> None:
    signal, gate, tried = Signal(), Latch(), threading.Event()

    def hears(name: str, **named: Any) -> Any:
        if name == "other":
            return gate()
        with pytest.raises(TimeoutError):
            connection.disconnect(wait=0)
        tried.set()
        removed = connection.disconnect(wait=True)
        return (removed, gate.left.is_set())

    connection = signal.connect(hears, tracked=True)
    other = Running(signal.send, None, name="other")
    assert gate.entered.wait(TIMEOUT)
    own = Running(signal.send, None, name="own")
    assert tried.wait(TIMEOUT)
    assert not own.done
    gate.opened.set()
    assert own.result() == [(hears, (False, True))]
    assert other.result() == [(hears, "through")]


def circle(size: int, pool: WorkerPool, way: Way, asynchronous: bool) -> None:
    """As many receivers run at once, and each waits for the next one to end."""
    meeting = threading.Barrier(size)
    signals = [Signal() for _ in range(size)]
    connections: list[Connection] = []
    ended: list[int] = []

    def make(n: int) -> Callable[..., Any]:
        def wait() -> bool:
            meeting.wait(TIMEOUT)
            return connections[(n + 1) % size].disconnect(wait=True)

        def waits(**named: Any) -> bool:
            removed = wait()
            ended.append(n)
            return removed

        async def waits_async(**named: Any) -> bool:
            removed = await asyncio.to_thread(wait)
            ended.append(n)
            return removed

        return waits_async if asynchronous else waits

    receivers = [make(n) for n in range(size)]
    for signal, receiver in zip(signals, receivers, strict=True):
        connections.append(signal.connect(receiver, tracked=True))
    threads = [Running(way, signal, pool) for signal in signals]
    assert [thread.result() for thread in threads] == [[(each, True)] for each in receivers]
    assert sorted(ended) == [*range(size)]


@every_way
@pytest.mark.parametrize("size", [2, 3, 4])
def test_receivers_that_wait_for_each_other_do_not_deadlock(
    way: Way, size: int, pool: WorkerPool
) -> None:
    circle(size, pool, way, asynchronous=False)


@every_way
@pytest.mark.parametrize("size", [2, 3])
def test_async_receivers_that_wait_for_each_other_do_not_deadlock(
    way: Way, size: int, pool: WorkerPool
) -> None:
    circle(size, pool, way, asynchronous=True)


def test_circle_that_closes_late_lets_the_first_go_on() -> None:
    """The first waits while there is no circle yet; the second closes it."""
    signals, runs, close = [Signal(), Signal()], threading.Event(), threading.Event()

    def first(**named: Any) -> bool:
        return connections[1].disconnect(wait=True)

    def second(**named: Any) -> bool:
        runs.set()
        assert close.wait(TIMEOUT)
        return connections[0].disconnect(wait=True)

    connections = [
        signals[0].connect(first, tracked=True),
        signals[1].connect(second, tracked=True),
    ]
    later = Running(signals[1].send, None)
    assert runs.wait(TIMEOUT)
    earlier = Running(signals[0].send, None)
    wait_until(lambda: not connections[1].connected)
    assert not earlier.done
    close.set()
    assert later.result() == [(second, True)]
    assert earlier.result() == [(first, True)]


def test_circle_is_left_out_even_while_one_of_it_waits_for_more() -> None:
    """The third waits for two calls of the first: one in the circle, and one that goes on."""
    signals, gate = [Signal() for _ in range(3)], Latch()
    entered, close, released = threading.Event(), threading.Event(), threading.Event()

    def first(goes_on: bool, **named: Any) -> None:
        if goes_on:
            gate()
        else:
            connections[1].disconnect(wait=True)

    def second(**named: Any) -> None:
        assert entered.wait(TIMEOUT)
        connections[2].disconnect(wait=True)
        released.set()

    def third(**named: Any) -> bool:
        entered.set()
        assert close.wait(TIMEOUT)
        connections[0].disconnect(wait=True)
        return gate.left.is_set()

    receivers: list[Callable[..., Any]] = [first, second, third]
    connections = [
        signal.connect(receiver, tracked=True)
        for signal, receiver in zip(signals, receivers, strict=True)
    ]
    threads = [Running(signals[0].send, None, goes_on=True)]
    assert gate.entered.wait(TIMEOUT)
    threads += [Running(signals[2].send, None), Running(signals[1].send, None)]
    wait_until(lambda: not connections[2].connected)
    threads += [Running(signals[0].send, None, goes_on=False)]
    wait_until(lambda: not connections[1].connected)
    assert not released.is_set()
    close.set()
    # Whichever of the two looks first breaks the circle; the other may then wait for the gate.
    wait_until(lambda: released.is_set() or threads[3].done)
    assert not threads[1].done
    gate.opened.set()
    assert threads[1].result() == [(third, True)]
    for thread in threads:
        thread.result()


def test_two_calls_of_one_receiver_that_both_wait_for_it_do_not_deadlock() -> None:
    signal, meeting = Signal(), threading.Barrier(3)

    def hears(**named: Any) -> bool:
        meeting.wait(TIMEOUT)
        return connection.disconnect(wait=True)

    connection = signal.connect(hears, tracked=True)
    threads = [Running(signal.send, None) for _ in range(3)]
    removed = [thread.result()[0][1] for thread in threads]
    assert sorted(removed) == [False, False, True]


def test_who_waits_from_outside_a_circle_waits_until_it_has_ended(pool: WorkerPool) -> None:
    signals, meeting, gate = [Signal(), Signal()], threading.Barrier(2), Latch()

    def first(**named: Any) -> str:
        meeting.wait(TIMEOUT)
        connections[1].disconnect(wait=True)
        return gate()

    def second(**named: Any) -> None:
        meeting.wait(TIMEOUT)
        connections[0].disconnect(wait=True)

    connections = [
        signals[0].connect(first, tracked=True),
        signals[1].connect(second, tracked=True),
    ]
    threads = [Running(signal.send, None) for signal in signals]
    assert gate.entered.wait(TIMEOUT)
    with pytest.raises(TimeoutError):
        connections[0].disconnect(wait=0)
    outside = [Running(connection.disconnect, wait=True) for connection in connections]
    gate.opened.set()
    assert [thread.result() for thread in outside] == [False, False]
    assert gate.left.is_set()
    for thread in threads:
        thread.result()


def test_wait_for_a_receiver_that_waits_for_another_is_no_circle(pool: WorkerPool) -> None:
    """Here each end is in sight: the last one ends, then the one that waits for it."""
    signals, gate = [Signal(), Signal()], Latch()

    def waits(**named: Any) -> bool:
        connections[1].disconnect(wait=True)
        return gate.left.is_set()

    connections = [
        signals[0].connect(waits, tracked=True),
        signals[1].connect(gate, tracked=True),
    ]
    last = start(by_send, signals[1], pool, gate)
    middle = Running(signals[0].send, None)
    wait_until(lambda: not connections[1].connected)
    with pytest.raises(TimeoutError):
        connections[0].disconnect(wait=0)
    outside = Running(connections[0].disconnect, wait=True)
    gate.opened.set()
    assert outside.result() is False
    assert middle.result() == [(waits, True)]
    last.result()


# Event loops


@pytest.mark.parametrize("verb", ["asend", "asend_robust"])
@pytest.mark.parametrize("through", ["connection", "signal"])
def test_wait_on_the_thread_whose_loop_runs_the_call_is_refused_before_anything_changes(
    verb: str, through: str
) -> None:
    signal, gate = Signal(), AsyncLatch()
    connection = signal.connect(gate, tracked=True)
    waits = {
        "connection": connection.disconnect,
        "signal": lambda wait: signal.disconnect(gate, wait=wait),
    }

    async def main() -> None:
        sending = asyncio.ensure_future(getattr(signal, verb)(None))
        while not gate.entered.is_set():
            await asyncio.sleep(0.001)
        for wait in (True, 5, 0):
            with pytest.raises(RuntimeError, match=r"asyncio\.to_thread"):
                waits[through](wait=wait)
            assert connection.connected
            assert [each.receiver for each in signal.receivers] == [gate]
        waiting = asyncio.ensure_future(asyncio.to_thread(waits[through], wait=True))
        while connection.connected:
            await asyncio.sleep(0.001)
        assert not waiting.done()
        with pytest.raises(RuntimeError, match=r"asyncio\.to_thread"):
            waits[through](wait=True)  # refused as well now that it is gone
        gate.opened.set()
        assert await waiting is True
        assert await sending == [(gate, "through")]
        assert connection.disconnect(wait=True) is False

    asyncio.run(main())


def test_wait_on_a_pools_loop_for_a_call_that_runs_there_is_refused() -> None:
    with WorkerPool(1) as pool:
        signal, gate, tries = Signal(executor=pool), AsyncLatch(), Signal(executor=pool)
        connection = signal.connect(gate, tracked=True)

        async def waits(**named: Any) -> str:
            with pytest.raises(RuntimeError, match=r"asyncio\.to_thread"):
                connection.disconnect(wait=True)
            return "refused"

        tries.connect(waits)
        running = signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)
        assert tries.send_async(None).results(TIMEOUT) == [(waits, "refused")]
        assert connection.connected
        gate.opened.set()
        assert running.results(TIMEOUT) == [(gate, "through")]


def test_circle_on_one_event_loop_is_left_out_and_not_refused() -> None:
    """The second blocks the loop that runs the first, which waits for the second: no harm done."""
    signal, entered = Signal(), threading.Event()

    async def first(**named: Any) -> bool:
        while not entered.is_set():
            await asyncio.sleep(0.001)
        return await asyncio.to_thread(connections[1].disconnect, wait=True)

    async def second(**named: Any) -> bool:
        entered.set()
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            with contextlib.suppress(RuntimeError):  # the first does not wait yet: no circle yet
                return connections[0].disconnect(wait=True)
            await asyncio.sleep(0.001)
        raise AssertionError("refused for ever")

    connections = [signal.connect(each, tracked=True) for each in (first, second)]
    sending = Running(awaited, signal.asend, None)
    assert sending.result() == [(first, True), (second, True)]


def test_event_loop_may_wait_for_a_call_that_runs_elsewhere(pool: WorkerPool) -> None:
    signal, gate = Signal(), Latch()
    connection = signal.connect(gate, tracked=True)
    sending = start(by_send, signal, pool, gate)

    async def main() -> bool:
        with pytest.raises(TimeoutError):
            connection.disconnect(wait=0)
        gate.opened.set()
        return connection.disconnect(wait=True)

    assert asyncio.run(main()) is False
    assert gate.left.is_set()
    sending.result()


def test_cancelled_async_receiver_has_ended() -> None:
    signal, gate = Signal(), AsyncLatch()
    connection = signal.connect(gate, tracked=True)

    async def main() -> None:
        sending = asyncio.ensure_future(signal.asend(None))
        while not gate.entered.is_set():
            await asyncio.sleep(0.001)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert connection.disconnect(wait=True) is True

    asyncio.run(main())
    assert not gate.left.is_set()


# What has nothing to wait for


@pytest.mark.parametrize("wait", [True, 0, 0.0, 1, 2.5])
def test_wait_on_an_untracked_connection_is_refused_before_anything_changes(wait: float) -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    connection = signal.connect(ear, sender, dispatch_uid="menu")
    with pytest.raises(ValueError, match="tracked=True"):
        connection.disconnect(wait=wait)
    with pytest.raises(ValueError, match="tracked=True"):
        signal.disconnect(None, sender, "menu", wait=wait)
    assert connection.connected
    assert heard(signal, sender) == [ear]
    assert connection.disconnect(wait=False)


@pytest.mark.parametrize(
    ("wait", "error"),
    [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (None, TypeError)],
)
def test_wait_that_is_no_time_is_refused_before_anything_changes(
    wait: Any, error: type[Exception]
) -> None:
    signal, ear = Signal(), Ear()
    connection = signal.connect(ear, tracked=True)
    with pytest.raises(error, match="wait must be"):
        connection.disconnect(wait=wait)
    with pytest.raises(error, match="wait must be"):
        signal.disconnect(ear, wait=wait)
    assert connection.connected
    assert heard(signal) == [ear]


def test_key_connected_again_as_tracked_is_refused_and_stays_untracked() -> None:
    signal, ear = Signal(), Ear()
    connection = signal.connect(ear)
    with pytest.raises(ValueError, match="tracked=True"):
        signal.connect(ear, tracked=True)
    with pytest.raises(ValueError, match="tracked=True"):
        connection.disconnect(wait=True)
    assert connection.connected


@pytest.mark.parametrize("wait", [True, 0, 1])
def test_wait_for_what_was_never_connected_is_over_at_once(wait: float) -> None:
    signal, ear = Signal(), Ear()
    assert signal.disconnect(ear, wait=wait) is False
    assert signal.disconnect(dispatch_uid="menu", wait=wait) is False


def test_tracked_receivers_obey_all_the_other_rules(pool: WorkerPool) -> None:
    signal, first, second, sender = Signal(executor=pool), Ear("first"), Ear("second"), Thing()
    connections = [
        signal.connect(second, sender, tracked=True),
        signal.connect(first.hear, priority=1, dispatch_uid="menu", tracked=True),
    ]
    assert signal.connect(second, sender, tracked=True) is connections[0]
    assert heard(signal, sender) == [first.hear, second]
    assert [pair[0] for pair in signal.send_robust(None)] == [first.hear]
    assert [pair[0] for pair in signal.send_async(sender).results(TIMEOUT)] == [first.hear, second]
    first.calls.clear()
    gone = weakref.ref(first)
    del first
    assert_gone(gone)  # a worker that has just called it may be letting go of it
    assert heard(signal, sender) == [second]
    assert connections[1].disconnect(wait=True) is False
    second.calls.clear()
    gone = weakref.ref(sender)
    del sender
    assert_gone(gone)
    assert signal.receivers == []
    assert connections[0].disconnect(wait=True) is False


@pytest.mark.parametrize("told", ["send", "connect"])
def test_tracked_receiver_that_died_is_forgotten_whoever_notices_first(told: str) -> None:
    """The newest weak reference is told first: then the signal's own has not been told yet."""
    signal = Signal()

    def notice(_: object) -> None:
        if told == "connect":
            signal.connect(ignore, dispatch_uid="menu")
        signal.disconnect(dispatch_uid="other")  # so that the next send looks anew
        signal.send(None)

    for _ in range(3):
        ear = Ear()
        signal.connect(ear, dispatch_uid="menu", tracked=True)
        probe = weakref.ref(ear, notice)
        del ear
        assert probe() is None
        signal.disconnect(dispatch_uid="menu")
        assert inside.gates_of(signal) == {}


def test_disconnect_that_a_callback_leaves_cancels_the_rest_all_the_same() -> None:
    def leaves(future: object) -> None:
        raise SystemExit

    ear = Ear()
    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        connection = signal.connect(ear, tracked=True)
        with held(pool):
            futures = [signal.send_async(None)[0][1] for _ in range(3)]
            futures[0].add_done_callback(leaves)
            with pytest.raises(SystemExit):
                connection.disconnect()
            assert [future.cancelled() for future in futures] == [True] * 3
            assert inside.gates_of(signal) == {}
    assert ear.calls == []


EXECUTORS = {"pool": lambda: WorkerPool(1), "other": lambda: ThreadPoolExecutor(1)}
WAYS: dict[str, Callable[..., Any]] = {
    "send": lambda signal: signal.send(None),
    "send_robust": lambda signal: signal.send_robust(None),
    "send_async": lambda signal: signal.send_async(None),
    "asend": lambda signal: awaited(signal.asend, None),
    "asend_robust": lambda signal: awaited(signal.asend_robust, None),
    "here.asend": lambda signal: awaited(signal.here.asend, None),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", EXECUTORS)
@pytest.mark.parametrize("shape", ["function", "method", "partial", "async"])
def test_background_receiver_runs_no_more_once_disconnected(
    shape: str, kind: str, way: str
) -> None:
    """Whatever sent it: one delivery runs, and is waited for, and one is queued, and cancelled."""
    if shape == "async" and kind == "other" and way.endswith("asend_robust"):
        pytest.skip("the same as the others")
    latch, calls = Latch(), list[int]()

    def work() -> None:
        calls.append(1)
        latch()

    @background
    def function(**named: Any) -> None:
        work()

    @background
    async def asynchronous(**named: Any) -> None:
        calls.append(1)
        await asyncio.to_thread(latch)

    class Has:
        @background
        def method(self, **named: Any) -> None:
            work()

    shapes = {"function": function, "method": Has().method, "async": asynchronous}
    receiver = shapes.get(shape) or functools.partial(function)
    with EXECUTORS[kind]() as executor:
        signal = Signal(executor=executor)
        connection = signal.connect(receiver, tracked=True, weak=False)
        WAYS[way](signal)
        assert latch.entered.wait(TIMEOUT)
        if shape != "async":  # on an event loop nothing is queued behind another
            WAYS[way](signal)
        with pytest.raises(TimeoutError):
            connection.disconnect(wait=0.01)
        waiting = Running(signal.disconnect, receiver, wait=True)
        latch.opened.set()
        waiting.result()
        assert len(calls) == 1
        assert inside.gates_of(signal) == {}
    assert len(calls) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", EXECUTORS)
@pytest.mark.parametrize("by", ["connection", "signal"])
@pytest.mark.parametrize("terms", [{}, {"ordered": True}, {"retry": Retry(OSError)}], ids=str)
def test_delivery_of_a_background_receiver_that_is_called_once_is_waited_for_or_cancelled(
    terms: dict[str, Any], by: str, kind: str, way: str
) -> None:
    """It was disconnected when it was called, and may be disconnected again, to wait."""
    if terms and kind == "other":
        pytest.skip("no other executor has these")
    latch, calls, blocks = Latch(), list[int](), threading.Event()

    @background(**terms)
    def receiver(**named: Any) -> None:
        calls.append(1)
        latch()

    with EXECUTORS[kind]() as executor:
        signal = Signal(executor=executor)

        def disconnect(wait: Any) -> bool:
            if by == "signal":
                return signal.disconnect(receiver, wait=wait)
            return connection.disconnect(wait=wait)

        connection = signal.connect(receiver, tracked=True, once=True)
        WAYS[way](signal)
        WAYS[way](signal)
        assert latch.entered.wait(TIMEOUT)
        with pytest.raises(TimeoutError):
            disconnect(0.01)
        waiting = Running(disconnect, True)
        latch.opened.set()
        assert not waiting.result()
        assert len(calls) == 1
        assert inside.gates_of(signal) == {}

        executor.submit(blocks.wait, TIMEOUT)
        connection = signal.connect(receiver, tracked=True, once=True)
        WAYS[way](signal)
        assert not disconnect(True)
        blocks.set()
        assert inside.gates_of(signal) == {}
    assert len(calls) == 1


@pytest.mark.parametrize("way", ["asend_robust", "here.asend"])
@pytest.mark.parametrize("ends", ["before", "after"])
def test_gate_of_one_that_is_called_once_closes_where_what_is_around_it_fails(
    ends: str, way: str
) -> None:
    """Before there is a delivery; or after, and that runs all the same."""
    ran = list[int]()

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        if threading.current_thread().name.startswith("tsignals_"):
            yield
        elif ends == "before":
            raise Boom
        else:
            yield
            raise Boom

    @background
    def receiver(**named: Any) -> None:
        ran.append(1)

    with WorkerPool(1, around=around) as pool, quiet():
        signal = Signal(executor=pool)
        connection = signal.connect(receiver, tracked=True, once=True)
        with held(pool), contextlib.suppress(Boom):
            WAYS[way](signal)
        assert pool.drain(TIMEOUT)
        assert ran == ([] if ends == "before" else [1])
        wait_until(lambda: inside.gates_of(signal) == {})  # a callback: nobody waits for that
        assert not connection.disconnect(wait=True)


@pytest.mark.parametrize("way", ["send", "send_robust", "asend_robust"])
def test_gate_of_one_that_is_called_once_and_finds_no_room_is_closed(way: str) -> None:
    @background
    def receiver(**named: Any) -> None: ...

    with WorkerPool(1, max_pending=1, overflow="raise") as pool, held(pool):
        pool.submit(int)
        signal = Signal(executor=pool)
        connection = signal.connect(receiver, tracked=True, once=True)
        with contextlib.suppress(QueueFull):
            [(_, error)] = WAYS[way](signal)
            assert type(error) is QueueFull
        assert inside.gates_of(signal) == {}
        assert not connection.disconnect(wait=True)


def test_gate_of_a_background_receiver_is_its_own_alone(pool: WorkerPool) -> None:
    """What a full pool has its sender run, or what is around it sends, has nothing of it."""
    other = background(Ear())

    @background
    def function(**named: Any) -> None: ...

    inner = Signal(executor=pool)
    inner.connect(other)

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        inner.send(None)
        yield

    with WorkerPool(1, around=around) as full:
        signal = Signal(executor=full)
        connection = signal.connect(function, tracked=True)
        awaited(signal.asend, None)
        with held(pool, workers=4):
            [(_, queued)] = inner.send(None)
            assert connection.disconnect(wait=True)
            assert not queued.done()
        assert queued.exception(TIMEOUT) is None


def test_delivery_of_a_background_receiver_has_its_gate_but_not_in_its_context(
    pool: WorkerPool,
) -> None:
    contexts = list[contextvars.Context]()

    @background
    def function(**named: Any) -> None:
        contexts.append(contextvars.copy_context())

    signal = Signal(executor=pool)
    signal.connect(function, tracked=True)
    for verb in ("send", "send_robust"):
        [(_, delivery)] = contextvars.Context().run(getattr(signal, verb), None)
        assert delivery.exception(TIMEOUT) is None
    assert [value for context in contexts for value in context.values() if value] == []


@pytest.mark.parametrize("once", [True, False])
def test_wait_for_a_call_at_the_end_of_the_stack_ends(once: bool) -> None:
    """A call that is let in can leave again, however little room there is."""

    def deep(frames: int, function: Callable[[], object]) -> object:
        return deep(frames - 1, function) if frames else function()

    entered = 0
    for frames in range(sys.getrecursionlimit() - 60, sys.getrecursionlimit()):
        signal, told, answer = Signal(), queue.SimpleQueue[str](), queue.SimpleQueue[None]()
        tell, wait = told.put, answer.get  # in C: so there is hardly any room for the call itself

        def hears(**named: Any) -> None:
            tell("entered")
            wait()

        connection = signal.connect(hears, tracked=True, once=once)
        assert signal.has_listeners()

        def sends(frames: int = frames, signal: Signal = signal) -> None:
            with contextlib.suppress(RecursionError):
                deep(frames, lambda: signal.send(None))
            tell("over")

        thread = Running(sends)
        if told.get(timeout=TIMEOUT) == "entered":
            entered += 1
            waiting = Running(functools.partial(connection.disconnect, wait=TIMEOUT))
            answer.put(None)
            waiting.result()
        thread.result()
    assert 0 < entered < 60
