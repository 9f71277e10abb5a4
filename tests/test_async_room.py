"""Async deliveries in a pool that is full: backpressure, and who runs them."""

import contextlib
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import inside
import pytest
from async_pools import held_loop, pool
from event_loops import AsyncLatch, every_loop, ignores, run, until
from helpers import TIMEOUT, Boom, Ear, Running, handled, ignore, raiser, wait_until
from pools import held, signal_to, told

from tsignals import DeliveryDropped, QueueFull, Signal, WorkerPool

__all__ = ["every_loop", "pool"]


def test_running_delivery_takes_room_until_it_ends() -> None:
    with WorkerPool(1, max_pending=2, overflow="raise") as pool:
        gates = [AsyncLatch(), AsyncLatch()]
        deliveries = [signal_to(gate, pool).send_async(None) for gate in gates]
        for gate in gates:
            assert gate.entered.wait(TIMEOUT)
        for receiver in (ignore, ignores):
            with pytest.raises(QueueFull):
                signal_to(receiver, pool).send_async(None)
        assert (pool.stats().submitted, pool.stats().refused) == (2, 2)
        gates[0].opened.set()
        deliveries[0].results(TIMEOUT)
        for receiver in (ignore, ignores):
            signal_to(receiver, pool).send_async(None).results(TIMEOUT)
        deliveries[1].cancel()
        assert pool.drain(TIMEOUT)
        signal = Signal(executor=pool)
        for receiver in (ignore, ignores):
            signal.connect(receiver)
        assert len(signal.send_async(None).results(TIMEOUT)) == 2


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_blocked_sender_goes_on_when_a_running_delivery_ends(end: str) -> None:
    with WorkerPool(1, max_pending=1) as pool:
        gate = AsyncLatch()
        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        blocked = Running(signal_to(ignores, pool).send_async, None)
        wait_until(lambda: inside.blocked_senders(pool))
        assert not blocked.done
        if end == "completed":
            gate.opened.set()
        else:
            running.cancel()
        assert blocked.result().results(TIMEOUT) == [(ignores, None)]


def test_full_queue_is_an_error_at_once_where_an_event_loop_runs(pool: WorkerPool) -> None:
    with WorkerPool(1, max_pending=1) as pool:
        gate = AsyncLatch()
        signal = signal_to(gate, pool)
        running = signal.send_async(None)

        async def main() -> None:
            await until(gate.entered)
            why = (
                r"no room \(max_pending=1\), and .* runs an event loop cannot wait .*; nothing was"
            )
            with pytest.raises(QueueFull, match=why):
                signal.send_async(None)

        run(main())
        assert pool.stats().refused == 1
        on_loop = Signal(executor=WorkerPool(1))
        on_loop.connect(lambda **_: None, weak=False)
        gate.opened.set()
        running.results(TIMEOUT)


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_what_runs_is_not_dropped(overflow: str) -> None:
    with WorkerPool(1, max_pending=1, overflow=overflow) as pool:
        gate = AsyncLatch()
        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        [(_, dropped)] = signal_to(ignores, pool).send_async(None)
        assert isinstance(dropped.exception(TIMEOUT), DeliveryDropped)
        gate.opened.set()
        assert running.results(TIMEOUT) == [(gate, "through")]
        assert pool.stats().dropped == 1


def test_oldest_is_not_dropped_where_that_makes_too_little_room() -> None:
    """What runs on the loop cannot give way, and two need more than one that waits."""
    with WorkerPool(1, max_pending=3, overflow="drop_oldest") as pool, held(pool) as worker:
        gates = [AsyncLatch(), AsyncLatch()]
        running = [signal_to(gate, pool).send_async(None) for gate in gates]
        assert all(gate.entered.wait(TIMEOUT) for gate in gates)
        waiting = pool.submit(int)
        signal = signal_to(ear := Ear(), pool)
        signal.connect(ear.hear)
        for _, dropped in signal.send_async(None):
            assert isinstance(dropped.exception(TIMEOUT), DeliveryDropped)
        assert not waiting.done()
        assert (pool.stats().pending, pool.stats().dropped) == (1, 2)
        newest = pool.submit(int)  # one that waits is enough for one
        assert isinstance(waiting.exception(TIMEOUT), DeliveryDropped)
        worker.opened.set()
        assert newest.result(TIMEOUT) == 0
        for gate, deliveries in zip(gates, running, strict=True):
            gate.opened.set()
            assert deliveries.results(TIMEOUT) == [(gate, "through")]
    assert ear.calls == []


def test_oldest_is_dropped_before_it_starts() -> None:
    with WorkerPool(1, max_pending=2, overflow="drop_oldest") as pool:
        gate, blocking = held_loop(pool)
        first, second = AsyncLatch(), AsyncLatch()
        second.opened.set()
        [(_, oldest)] = signal_to(first, pool).send_async(None)
        newest = signal_to(second, pool).send_async(None)
        assert isinstance(oldest.exception(TIMEOUT), DeliveryDropped)
        gate.opened.set()
        blocking.results(TIMEOUT)
        assert newest.results(TIMEOUT) == [(second, "through")]
        assert first.calls == 0


@pytest.mark.parametrize("ordered", [False, True])
def test_caller_that_runs_async_deliveries_waits_while_the_loop_runs_them(ordered: bool) -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        gate, waits = AsyncLatch(), AsyncLatch()
        signal = signal_to(gate, pool)
        running = signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)
        overflowing = Signal(executor=pool)
        threads = list[int]()
        overflowing.connect(lambda **_: threads.append(threading.get_ident()), weak=False)
        overflowing.connect(waits, ordered=ordered)
        caller = Running(lambda: (overflowing.send_async(None), threading.get_ident()))
        assert waits.entered.wait(TIMEOUT)
        assert not caller.done
        waits.opened.set()
        deliveries, thread = caller.result()
        assert deliveries[1][1].result(0) == "through"
        assert threads == [thread]
        gate.opened.set()
        running.results(TIMEOUT)


def test_caller_with_an_event_loop_cannot_run_async_deliveries() -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        gate, ear = AsyncLatch(), Ear()
        signal = signal_to(gate, pool)
        running = signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)
        signal.connect(ear)

        async def main() -> None:
            with pytest.raises(QueueFull, match="event loop"):
                signal.send_async(None)

        run(main())
        assert (ear.calls, pool.stats().submitted, pool.stats().refused) == ([], 1, 2)
        gate.opened.set()
        running.results(TIMEOUT)


def test_cancelling_what_a_caller_waits_for_lets_it_go_on() -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        gate, waits = AsyncLatch(), AsyncLatch()
        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        caller = Running(signal_to(waits, pool).send_async, None)
        assert waits.entered.wait(TIMEOUT)
        [delivery] = [work for work in pool.unfinished() if work is not running[0][1]]
        assert delivery.cancel()
        assert caller.result()[0][1].cancelled()
        gate.opened.set()
        running.results(TIMEOUT)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_while_a_caller_waits_for_the_loop_cancels_what_runs_there() -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        gate, waits = AsyncLatch(), AsyncLatch()
        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)

        with (
            handled(raiser(KeyboardInterrupt()), waits.entered.is_set),
            pytest.raises(KeyboardInterrupt),
        ):
            signal_to(waits, pool).send_async(None)
        assert waits.cancelled.wait(TIMEOUT)
        gate.opened.set()
        running.results(TIMEOUT)
        assert pool.drain(TIMEOUT)


def interrupt_callers(patch: pytest.MonkeyPatch, when: Callable[[], object]) -> None:
    """Ctrl-C for who waits for what runs on the loop, as soon as ``when()``."""

    class Interrupted:
        def put(self, task: object) -> None: ...

        def get(self) -> None:
            wait_until(when)
            raise KeyboardInterrupt

    inside.QUEUE_OF_CALLER.patch(patch, types.SimpleNamespace(SimpleQueue=Interrupted))


def test_ctrl_c_before_the_loop_has_come_to_it_keeps_it_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool, told() as hears:
        gate, blocking = held_loop(pool)
        receiver = AsyncLatch()
        interrupt_callers(monkeypatch, lambda: True)
        with pytest.raises(KeyboardInterrupt):
            signal_to(receiver, pool).send_async(None)
        gate.opened.set()
        blocking.results(TIMEOUT)
        assert pool.drain(TIMEOUT)
        stats = pool.stats()
        assert (stats.submitted, stats.completed, stats.failed) == (2, 1, 1)
    # By now the loop has gone through all that it was handed.
    assert receiver.calls == 0
    assert hears.failures == []


def test_what_a_receiver_raises_after_ctrl_c_has_ended_its_delivery_is_no_other_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool, told() as hears:
        gate, waits, tidying = AsyncLatch(), AsyncLatch(), AsyncLatch()

        async def raises(**named: Any) -> None:
            try:
                await waits()
            finally:
                await tidying()
                raise Boom

        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        interrupt_callers(monkeypatch, waits.entered.is_set)
        with pytest.raises(KeyboardInterrupt):
            signal_to(raises, pool).send_async(None)
        assert waits.cancelled.wait(TIMEOUT)
        tidying.opened.set()
        assert tidying.left.wait(TIMEOUT)
        gate.opened.set()
        running.results(TIMEOUT)
        assert pool.drain(TIMEOUT)
        assert (pool.stats().completed, pool.stats().failed) == (1, 1)
    assert hears.failures == []


def test_cancelling_what_the_loop_is_about_to_start_for_a_caller_keeps_it_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have_it_run = inside.HAVE_IT_RUN.now

    def cancelled(delivery: Any) -> None:
        assert delivery.cancel()
        have_it_run(delivery)

    inside.HAVE_IT_RUN.patch(monkeypatch, cancelled)
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool, told() as hears:
        gate, receiver = AsyncLatch(), AsyncLatch()
        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        [(_, delivery)] = Running(signal_to(receiver, pool).send_async, None).result()
        assert delivery.cancelled()
        gate.opened.set()
        running.results(TIMEOUT)
        assert pool.drain(TIMEOUT)
        assert (pool.stats().completed, pool.stats().cancelled) == (1, 1)
    assert (receiver.calls, hears.failures) == (0, [])


def test_worker_that_finds_its_own_queue_full_waits_for_the_loop() -> None:
    with WorkerPool(1, max_pending=1) as pool:
        gate, waits = AsyncLatch(), AsyncLatch()
        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        waits.opened.set()
        gate_signal = signal_to(waits, pool)
        gate.opened.set()
        running.results(TIMEOUT)
        with held_open(pool) as full:
            sends = pool.submit(lambda: (full(), gate_signal.send_async(None)[0][1].done())[1])
            assert sends.result(TIMEOUT) is True


@contextlib.contextmanager
def held_open(pool: WorkerPool) -> Iterator[Callable[[], None]]:
    """What it yields fills the queue, when it is called, by a delivery that runs on the loop."""
    gate = AsyncLatch()
    signal = signal_to(gate, pool)

    def fill() -> None:
        signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)

    try:
        yield fill
    finally:
        gate.opened.set()
