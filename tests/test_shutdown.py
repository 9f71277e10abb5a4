"""drain, shutdown and the states of a pool."""

import asyncio
import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from typing import Any

import inside
import pytest
from helpers import (
    TIMEOUT,
    Boom,
    Ear,
    Latch,
    Running,
    Thing,
    assert_gone,
    raiser,
    together,
    wait_until,
)
from pools import Watch, add_up, held, signal_to

from tsignals import DeliveryLost, PoolClosed, Signal, WorkerPool


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2, thread_name_prefix="mail") as pool:
        yield pool


def workers_of(pool: WorkerPool) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(("mail", "tsignals"))]


# drain


def test_drain_of_an_idle_pool_is_over_at_once(pool: WorkerPool) -> None:
    assert pool.drain(0) is True
    assert pool.drain() is True
    pool.submit(int).result(TIMEOUT)
    assert pool.drain(TIMEOUT) is True


def test_drain_waits_for_what_is_pending_and_for_what_runs(pool: WorkerPool) -> None:
    gate, ear = Latch(), Ear()
    [(_, running)] = signal_to(gate, pool).send_async(None)
    assert gate.entered.wait(TIMEOUT)
    with held(pool):
        [(_, pending)] = signal_to(ear, pool).send_async(None)
        draining = Running(pool.drain)
        assert not draining.done
    assert pending.result(TIMEOUT) is None
    assert not draining.done
    gate.opened.set()
    assert draining.result() is True
    assert running.done()


def test_what_was_drained_is_resolved(pool: WorkerPool) -> None:
    for _ in range(200):
        deliveries = [signal_to(Ear(), pool).send_async(None) for _ in range(3)]
        assert pool.drain(TIMEOUT)
        assert all(delivery.done() for each in deliveries for _, delivery in each)


@pytest.mark.parametrize("seconds", [0, 0.02])
def test_drain_that_expires_returns_false_and_changes_nothing(
    seconds: float, pool: WorkerPool
) -> None:
    with held(pool):
        future = pool.submit(int)
        assert future.result(TIMEOUT) == 0
        assert pool.drain(seconds) is False
        assert pool.submit(int).result(TIMEOUT) == 0
    assert pool.drain(TIMEOUT) is True


def test_drain_includes_deliveries_made_meanwhile(pool: WorkerPool) -> None:
    """A chain in which each delivery makes the next, so that some are always made later."""
    gate = Latch()

    def receives(n: int, **named: Any) -> None:
        if n == 0:
            gate()
        if n < 50:
            signal.send_async(None, n=n + 1)

    signal = signal_to(receives, pool)
    signal.send_async(None, n=0)
    assert gate.entered.wait(TIMEOUT)
    draining = Running(pool.drain)
    gate.opened.set()
    assert draining.result() is True
    assert pool.stats()[2:6] == (0, 0, 51, 51)


def test_drain_is_over_when_what_waits_is_cancelled(pool: WorkerPool) -> None:
    gates = [Latch(), Latch()]
    for gate in gates:
        pool.submit(gate)
        assert gate.entered.wait(TIMEOUT)
    pending = pool.submit(int)
    draining = Running(pool.drain)
    assert pending.cancel()
    assert not draining.done
    for gate in gates:
        gate.opened.set()
    assert draining.result() is True


def test_drain_changes_no_state(pool: WorkerPool) -> None:
    pool.submit(int).result(TIMEOUT)
    wait_until(lambda: pool.stats().idle)
    before = pool.stats(), repr(pool)
    assert pool.drain(TIMEOUT)
    assert (pool.stats(), repr(pool)) == before


def test_many_drain_at_once(pool: WorkerPool) -> None:
    with held(pool):
        draining = [Running(pool.drain) for _ in range(5)]
        assert not any(each.done for each in draining)
    assert [each.result() for each in draining] == [True] * 5


@pytest.mark.parametrize("seconds", [None, 0, 1])
def test_drain_from_a_worker_is_an_error(seconds: float | None, pool: WorkerPool) -> None:
    signal = signal_to(lambda **named: pool.drain(seconds), pool)
    assert isinstance(signal.send_async(None)[0][1].exception(TIMEOUT), RuntimeError)


def test_drain_from_another_pools_worker_is_none(pool: WorkerPool) -> None:
    with WorkerPool(1) as other:
        assert other.submit(pool.drain, TIMEOUT).result(TIMEOUT) is True


def test_drain_of_a_closed_pool_is_over_at_once(pool: WorkerPool) -> None:
    pool.submit(int)
    pool.shutdown()
    assert pool.drain(0) is True


# shutdown


@pytest.mark.parametrize("how", ["call", "with"])
def test_accepted_work_runs_and_then_the_threads_end(how: str) -> None:
    order, signal = list[int](), Signal()
    signal.connect(lambda n, **named: order.append(n), weak=False)
    with WorkerPool(1, thread_name_prefix="mail") as pool:
        signal.executor = pool
        with held(pool) as gate:
            deliveries = [signal.send_async(None, n=n) for n in range(20)]
            gate.opened.set()
        if how == "call":
            pool.shutdown()
            assert all(delivery.done() for each in deliveries for _, delivery in each)
    assert order == list(range(20))
    assert workers_of(pool) == []
    assert pool.stats()[:2] == (0, 0)


def test_shutdown_without_waiting_returns_while_work_goes_on(pool: WorkerPool) -> None:
    gate, ear = Latch(), Ear(response="heard")
    running = pool.submit(gate)
    assert gate.entered.wait(TIMEOUT)
    [(_, pending)] = signal_to(ear, pool, ordered=True).send_async(None)
    pool.shutdown(wait=False)
    assert not running.done()
    gate.opened.set()
    assert running.result(TIMEOUT) == "through"
    assert pending.result(TIMEOUT) == "heard"
    wait_until(lambda: workers_of(pool) == [])


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_can_cancel_what_has_not_started(wait: bool) -> None:
    pool, gate, called = WorkerPool(1, thread_name_prefix="mail"), Latch(), list[Any]()
    running = pool.submit(gate)
    assert gate.entered.wait(TIMEOUT)
    ordered = signal_to(Ear(), pool, ordered=True)
    pending = [pool.submit(int) for _ in range(5)]
    pending += [ordered.send_async(None)[0][1] for _ in range(2)]
    for future in pending:
        future.add_done_callback(called.append)
    closing = Running(pool.shutdown, wait=wait, cancel_futures=True)
    wait_until(lambda: all(future.cancelled() for future in pending))
    for future in pending:
        with pytest.raises(CancelledError):
            future.result(TIMEOUT)
    gate.opened.set()
    closing.result()
    assert running.result(TIMEOUT) == "through"
    assert called == pending
    wait_until(lambda: workers_of(pool) == [])
    assert pool.stats() == (0, 0, 0, 0, 8, 1, 0, 7, 0, 0)


class Stops(Latch):
    """A receiver that stops in the middle, in one way or another."""

    def hear(self, **named: Any) -> str:
        return self(**named)

    async def listen(self, **named: Any) -> str:
        return await asyncio.to_thread(self, **named)


LANES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ordered": ("hear", {}, {}),
    "ordered and tracked": ("hear", {"tracked": True}, {}),
    "ordered, around": ("hear", {}, {"around": contextlib.nullcontext}),
    "ordered and async": ("listen", {}, {}),
}
CANCELS: dict[str, Callable[[WorkerPool, list[Any]], object]] = {
    "by the pool": lambda pool, rest: pool.shutdown(wait=False, cancel_futures=True),
    "then closed": lambda pool, rest: [f.cancel() for f in rest] and pool.shutdown(wait=False),
    "the last first": lambda pool, rest: (
        [f.cancel() for f in rest[::-1]] and pool.shutdown(wait=False)
    ),
    "once closed": lambda pool, rest: [pool.shutdown(wait=False), *[f.cancel() for f in rest]],
}


@pytest.mark.parametrize("way", LANES)
@pytest.mark.parametrize("cancel", CANCELS)
def test_closed_pool_keeps_nothing_of_a_lane_whose_rest_was_cancelled(
    way: str, cancel: str
) -> None:
    method, terms, arguments = LANES[way]
    pool, receiver = WorkerPool(2, **arguments), Stops()
    signal = signal_to(getattr(receiver, method), pool, ordered=True, **terms)
    senders = [Thing() for _ in range(4)]
    gone = [weakref.ref(receiver), *map(weakref.ref, senders)]
    [running, *rest] = [signal.send_async(sender)[0][1] for sender in senders]
    assert receiver.entered.wait(TIMEOUT)
    CANCELS[cancel](pool, rest)
    assert all(future.cancelled() for future in rest)
    receiver.opened.set()
    assert running.result(TIMEOUT) == "through"
    Running(pool.shutdown).result()
    del receiver, senders, running, rest, signal
    for reference in gone:
        assert_gone(reference)
    assert pool.stats()[2:9] == (0, 0, 4, 1, 0, 3, 0)


def fill_and_send(pool: WorkerPool, signal: Signal, sender: object) -> Any:
    pool.submit(int)
    return signal.send_async(sender)


@pytest.mark.parametrize("overflow", ["block", "caller_runs"])
def test_closed_pool_keeps_nothing_of_a_lane_in_which_a_caller_stood(overflow: str) -> None:
    """What a full worker sends to a lane it runs itself, when its turn comes; it is cancelled."""
    pool, receiver = WorkerPool(2, max_pending=1, overflow=overflow), Stops()
    ordered = signal_to(receiver.hear, pool, ordered=True)
    sender = Thing()
    gone = [weakref.ref(receiver), weakref.ref(sender)]
    running = ordered.send_async(None)[0][1]
    assert receiver.entered.wait(TIMEOUT)
    sending = pool.submit(fill_and_send, pool, ordered, sender)
    wait_until(lambda: pool.stats().pending == 2)
    pool.shutdown(wait=False, cancel_futures=True)
    receiver.opened.set()
    sent = sending.result(TIMEOUT)
    assert sent[0][1].cancelled()
    assert running.result(TIMEOUT) == "through"
    Running(pool.shutdown).result()
    del receiver, sender, sending, sent, running, ordered
    for reference in gone:
        assert_gone(reference)


def test_pool_that_breaks_keeps_nothing_of_its_lanes() -> None:
    gate = Latch()

    def fails() -> None:
        gate()
        raise Boom

    pool, receiver = WorkerPool(1, initializer=fails), Stops()
    signal = signal_to(receiver.hear, pool, ordered=True)
    gone = weakref.ref(receiver)
    rest = [signal.send_async(None)[0][1] for _ in range(3)]
    gate.opened.set()
    assert all(isinstance(future.exception(TIMEOUT), BrokenExecutor) for future in rest)
    wait_until(lambda: pool.stats().workers == 0)
    assert not inside.lanes_of(pool)
    del receiver, signal, rest
    assert_gone(gone)


@pytest.mark.parametrize("wait", [10, 0, 0.5, None, "yes"])
def test_shutdown_refuses_seconds_in_place_of_a_bool(wait: Any, pool: WorkerPool) -> None:
    for call in (lambda: pool.shutdown(wait), lambda: pool.shutdown(wait=wait)):
        with pytest.raises(
            TypeError, match=r"wait must be True or False, .*; seconds are timeout="
        ):
            call()
    assert pool.submit(int).result(TIMEOUT) == 0


def test_shutdown_may_be_called_again_and_do_more(pool: WorkerPool) -> None:
    gates = [Latch(), Latch()]
    for gate in gates:
        pool.submit(gate)
        assert gate.entered.wait(TIMEOUT)
    pending = pool.submit(int)
    pool.shutdown(wait=False)
    assert not pending.cancelled()
    pool.shutdown(wait=False, cancel_futures=True)
    assert pending.cancelled()
    for gate in gates:
        gate.opened.set()
    together(*[pool.shutdown] * 4)
    assert workers_of(pool) == []


@pytest.mark.parametrize("used", [True, False])
def test_closed_pool_takes_no_more(used: bool, pool: WorkerPool) -> None:
    ear = Ear()
    signal = signal_to(ear, pool)
    if used:
        signal.send_async(None).results(TIMEOUT)
    pool.shutdown()
    before = pool.stats()
    with pytest.raises(PoolClosed, match="mail"):
        signal.send_async(None)
    with pytest.raises(PoolClosed, match="mail"):
        pool.submit(int)
    with pytest.raises(PoolClosed, match="mail"):
        pool.map(int, ["1"])
    with pytest.raises(RuntimeError):  # as concurrent.futures has it
        pool.submit(int)
    assert pool.stats() == before
    assert len(ear.calls) == used


def test_closing_pool_takes_no_more_also_from_its_own_work(pool: WorkerPool) -> None:
    closed = threading.Event()

    def sends(**named: Any) -> None:
        assert closed.wait(TIMEOUT)
        signal.send_async(None)

    signal = signal_to(sends, pool)
    [(_, delivery)] = signal.send_async(None)
    pool.shutdown(wait=False)
    closed.set()
    assert isinstance(delivery.exception(TIMEOUT), PoolClosed)


@pytest.mark.parametrize("cancel", [True, False])
def test_shutdown_from_a_worker_closes_without_waiting(cancel: bool, pool: WorkerPool) -> None:
    def closes(**named: Any) -> str:
        pool.shutdown(wait=True, cancel_futures=cancel)
        return "went on"

    [(_, delivery)] = signal_to(closes, pool).send_async(None)
    assert delivery.result(TIMEOUT) == "went on"
    with pytest.raises(PoolClosed):
        pool.submit(int)
    wait_until(lambda: workers_of(pool) == [])


def test_worker_of_a_closing_pool_stays_while_what_a_caller_runs_waits_in_its_lane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing waited when the pool was closed, and then that delivery had to."""
    retire, stays = inside.WORKER_LEAVES.now, threading.Event()

    def spied(state: Any) -> Any:
        after = retire(state)
        if after is None:
            stays.set()
        return after

    inside.WORKER_LEAVES.patch(monkeypatch, spied)
    gate, in_lane, in_caller = Latch(), Latch(), Latch()
    pool = WorkerPool(2, max_pending=1, overflow="caller_runs")
    running = [pool.submit(gate)]
    assert gate.entered.wait(TIMEOUT)
    running += signal_to(in_lane, pool, ordered=True).send_async(None).futures
    assert in_lane.entered.wait(TIMEOUT)
    waiting = pool.submit(int)
    signal = signal_to(in_caller, pool)
    signal.connect(in_lane, ordered=True)
    caller = Running(signal.send_async, None)
    assert in_caller.entered.wait(TIMEOUT)
    assert waiting.cancel()
    pool.shutdown(wait=False)
    in_caller.opened.set()
    wait_until(lambda: pool.stats().pending == 1)
    gate.opened.set()
    assert stays.wait(TIMEOUT)
    in_lane.opened.set()
    assert [response for _, response in caller.result().results(TIMEOUT)] == ["through"] * 2
    assert [future.result(TIMEOUT) for future in running] == ["through"] * 2
    Running(pool.shutdown).result()
    assert pool.stats() == (0, 0, 0, 0, 5, 4, 0, 1, 0, 0)


def test_state_only_moves_right(pool: WorkerPool) -> None:
    states = [repr(pool).split(":")[0].split()[-1]]
    gate = Latch()
    pool.submit(gate)
    pool.shutdown(wait=False)
    states.append(repr(pool).split(":")[0].split()[-1])
    gate.opened.set()
    pool.shutdown()
    states.append(repr(pool).split(":")[0].split()[-1])
    pool.shutdown(wait=False)
    states.append(repr(pool).split(":")[0].split()[-1])
    assert states == ["open", "closing", "closed", "closed"]


def test_unused_pool_closes_and_never_had_a_thread() -> None:
    with WorkerPool(2, thread_name_prefix="mail") as pool:
        pass
    assert workers_of(pool) == []
    assert pool.stats() == (0,) * 10


def test_failures_do_not_keep_a_pool_from_closing(pool: WorkerPool) -> None:
    signal = signal_to(raiser(Boom()), pool)
    deliveries = [signal.send_async(None) for _ in range(20)]
    pool.shutdown()
    assert all(type(each[0][1].exception(0)) is Boom for each in deliveries)
    assert pool.stats()[2:9] == (0, 0, 20, 0, 20, 0, 0)


def test_who_sends_while_the_pool_closes_is_either_served_or_refused() -> None:
    """What was accepted runs, what was refused does not, and the numbers are of the former."""
    for _ in range(8):
        pool = WorkerPool(2, max_pending=100, thread_name_prefix="mail")
        heard = list[tuple[int, int]]()
        signal = signal_to(lambda n, **named: heard.append(n), pool)

        def sends(of: int) -> list[tuple[int, int]]:
            accepted = list[tuple[int, int]]()
            with contextlib.suppress(PoolClosed):
                for n in itertools.count():
                    signal.send_async(None, n=(of, n))
                    accepted.append((of, n))
            return accepted

        def closes() -> list[tuple[int, int]]:
            wait_until(lambda: pool.stats().completed > 20)
            pool.shutdown()
            return []

        accepted = together(lambda: sends(0), lambda: sends(1), closes)
        assert sorted(heard) == sorted(n for each in accepted for n in each)
        stats = pool.stats()
        assert stats[2:9] == (0, 0, len(heard), len(heard), 0, 0, 0)
        assert stats[:2] == (0, 0)


def test_numbers_add_up_while_a_pool_cancels_and_closes() -> None:
    for _ in range(3):
        pool = WorkerPool(2, thread_name_prefix="mail", max_pending=None)
        with Watch(pool):
            futures = [pool.submit(int) for _ in range(200)]
            pool.shutdown(cancel_futures=True)
        stats = pool.stats()
        assert add_up(stats)
        assert stats.submitted == 200 == stats.completed + stats.cancelled
        assert sum(future.cancelled() for future in futures) == stats.cancelled


ENDS: list[Callable[[WorkerPool], object]] = [
    lambda pool: pool.shutdown(),
    lambda pool: pool.shutdown(cancel_futures=True),
    lambda pool: pool.drain(TIMEOUT),
]


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS, ids=["shutdown", "cancel", "drain"])
def test_those_who_wait_for_the_end_do_not_wait_in_vain(
    end: Callable[[WorkerPool], object],
) -> None:
    """However the end and the waiters come together."""
    for _ in range(50):
        pool = WorkerPool(2, thread_name_prefix="mail")
        for _ in range(4):
            pool.submit(int)
        *_, drained = together(lambda: end(pool), lambda: end(pool), lambda: pool.drain(TIMEOUT))
        assert drained
        pool.shutdown()


@pytest.mark.parametrize("again", [False, True], ids=["by itself", "once it is shut down"])
def test_worker_goes_though_its_pool_has_ended_while_something_was_being_queued(
    again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has taken that, and finds it resolved; what tells it to go must not be cleared away."""
    pool = WorkerPool(1)
    pool.submit(int).result(TIMEOUT)
    [worker] = inside.workers_of(pool)
    publish, claim = inside.QUEUE_IT.now, inside.CLAIM.now
    taken, resolved = threading.Event(), threading.Event()

    def queued_late(core: Any, entries: Any) -> None:
        core.lose("it has ended")
        publish(core, entries)
        assert taken.wait(TIMEOUT)

    def claims_late(future: Any, mark: Any) -> bool:
        if mark[0] == "run":
            taken.set()
            assert resolved.wait(TIMEOUT)
        return bool(claim(future, mark))

    inside.QUEUE_IT.patch(monkeypatch, queued_late)
    inside.CLAIM.patch(monkeypatch, claims_late)
    future = pool.submit(int)
    assert isinstance(future.exception(TIMEOUT), DeliveryLost)
    resolved.set()
    if again:
        pool.shutdown(wait=False)
    worker.join(TIMEOUT)
    assert not worker.is_alive()


def test_shutdown_that_a_callback_leaves_cancels_the_rest_all_the_same() -> None:
    def leaves(future: object) -> None:
        raise SystemExit

    calls = list[int]()
    pool = WorkerPool(1)
    with held(pool):
        futures = [pool.submit(calls.append, n) for n in range(3)]
        futures[0].add_done_callback(leaves)
        with pytest.raises(SystemExit):
            pool.shutdown(wait=False, cancel_futures=True)
        assert [future.cancelled() for future in futures] == [True] * 3
    pool.shutdown()
    assert calls == []
