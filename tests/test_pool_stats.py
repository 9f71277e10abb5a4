"""What a pool says of itself: what was refused, what is unfinished, which pools are open."""

import asyncio
import contextlib
import gc
import os
import sysconfig
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import inside
import processes
import pytest
from event_loops import AsyncLatch
from helpers import TIMEOUT, Ear, Latch, Running, Thing, assert_gone, ignore, together, wait_until
from pools import add_up, held, signal_to

from tsignals import (
    Delivery,
    QueueFull,
    Signal,
    WorkerPool,
    get_default_executor,
    set_default_executor,
)

# -- refused --


def fan_out(pool: WorkerPool, count: int, **terms: Any) -> Signal:
    signal = Signal(executor=pool)
    for _ in range(count):
        signal.connect(Ear(), weak=False, **terms)
    return signal


@pytest.mark.parametrize("terms", [{}, {"ordered": True}, {"tracked": True}], ids=str)
def test_each_delivery_of_a_refused_send_counts(terms: dict[str, Any]) -> None:
    with WorkerPool(1, max_pending=2, overflow="raise") as pool, held(pool):
        pool.submit(int)
        before = pool.stats()
        with pytest.raises(QueueFull):
            fan_out(pool, 3, **terms).send_async(None)
        assert pool.stats() == before._replace(refused=3)
        with pytest.raises(QueueFull):
            fan_out(pool, 2, **terms).send_async(None)
        pool.submit(int)
        with pytest.raises(QueueFull):
            pool.submit(int)
        assert pool.stats() == before._replace(refused=6, pending=2, submitted=3)
        assert add_up(pool.stats())


@pytest.mark.parametrize("overflow", ["block", "caller_runs"])
def test_what_is_refused_on_a_thread_with_an_event_loop_counts(overflow: str) -> None:
    gate = AsyncLatch()
    with WorkerPool(1, max_pending=1, overflow=overflow) as pool:
        signal = signal_to(gate, pool)
        signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)

        async def main() -> None:
            with pytest.raises(QueueFull):
                signal.send_async(None)

        asyncio.run(main())
        gate.opened.set()
        assert (pool.stats().submitted, pool.stats().refused) == (1, 1)


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "caller_runs"])
def test_what_is_dropped_or_runs_in_the_caller_was_not_refused(overflow: str) -> None:
    with WorkerPool(1, max_pending=1, overflow=overflow) as pool, held(pool):
        signal = signal_to(Ear(), pool)
        for _ in range(3):
            signal.send_async(None)
        assert pool.stats().refused == 0
        assert pool.stats().submitted == 4


def test_sender_that_a_closing_pool_turns_away_was_not_refused() -> None:
    pool = WorkerPool(1)
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(int)
    assert pool.stats() == (0,) * 10


def test_all_that_many_threads_were_refused_is_counted() -> None:
    with WorkerPool(1, max_pending=3, overflow="raise") as pool:
        signal = fan_out(pool, 2)

        def sends() -> tuple[int, int]:
            accepted = refused = 0
            for _ in range(300):
                try:
                    signal.send_async(None)
                    accepted += 2
                except QueueFull:
                    refused += 2
            return accepted, refused

        told = together(*[sends] * 4)
        assert pool.drain(TIMEOUT)
        stats = pool.stats()
        assert (stats.submitted, stats.refused) == tuple(map(sum, zip(*told, strict=True)))
        assert add_up(stats)


# -- unfinished --


def test_unfinished_is_what_is_pending_or_running_the_oldest_first() -> None:
    gates = [Latch(), Latch()]
    with WorkerPool(2) as pool:
        running = [signal_to(gates[0], pool).send_async(None)[0][1], pool.submit(gates[1])]
        for gate in gates:
            assert gate.entered.wait(TIMEOUT)
        plain, ordered = fan_out(pool, 2), signal_to(Ear(), pool, ordered=True)
        waiting = [*plain.send_async(None).futures, pool.submit(int)]
        waiting += [ordered.send_async(None)[0][1] for _ in range(2)]
        waiting += fan_out(pool, 1, tracked=True).send_async(None).futures
        found = pool.unfinished()
        assert found == running + waiting
        assert len(found) == pool.stats().pending + pool.stats().running
        assert found is not pool.unfinished()
        assert [isinstance(each, Delivery) for each in found].count(False) == 2
        waiting[0].cancel()
        assert pool.unfinished() == running + waiting[1:]
        gates[0].opened.set()
        assert running[0].result(TIMEOUT) == "through"
        assert running[0] not in pool.unfinished()
        gates[1].opened.set()
        assert pool.drain(TIMEOUT)
        assert pool.unfinished() == []


def test_unfinished_has_async_deliveries_while_they_wait_and_run() -> None:
    gate = AsyncLatch()
    with WorkerPool(1) as pool:
        signal = signal_to(gate, pool, ordered=True)
        deliveries = [signal.send_async(None)[0][1] for _ in range(3)]
        assert gate.entered.wait(TIMEOUT)
        assert pool.unfinished() == deliveries
        gate.opened.set()
        assert pool.drain(TIMEOUT)
        assert pool.unfinished() == []


def test_what_is_prepared_is_unfinished_once_it_is_submitted() -> None:
    with WorkerPool(1) as pool, held(pool):
        prepared = signal_to(Ear(), pool).prepare(None)
        [busy] = pool.unfinished()
        prepared.submit()
        assert pool.unfinished() == [busy, *prepared.deliveries.futures]


def test_what_a_caller_runs_is_unfinished_until_each_has_ended() -> None:
    """Also what it has not come to yet: that counts as running, and stands beside its siblings."""
    gates = [Latch(), Latch(), Latch()]
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool, held(pool) as hold:
        pending = pool.submit(int)
        signal = Signal(executor=pool)
        for gate in gates:
            signal.connect(gate, weak=False)
        caller = Running(signal.send_async, None)
        for place, gate in enumerate(gates):
            assert gate.entered.wait(TIMEOUT)
            if not place:
                pending.cancel()
                later = pool.submit(int)
            found = pool.unfinished()
            assert [getattr(each, "receiver", None) for each in found[1:-1]] == gates[place:]
            assert found[-1] is later
            assert len(found) == pool.stats().running + pool.stats().pending
            gate.opened.set()
        deliveries = caller.result()
        assert pool.unfinished()[1:] == [later]
        hold.opened.set()
        assert deliveries.wait(TIMEOUT)


def test_unfinished_keeps_nothing_alive() -> None:
    with WorkerPool(1) as pool:
        with held(pool):
            sender, receiver = Thing(), Ear()
            gone = [weakref.ref(sender), weakref.ref(receiver)]
            signal_to(receiver, pool).send_async(sender, big=sender)
            assert len(pool.unfinished()) == 2
        assert pool.drain(TIMEOUT)
        del sender, receiver
        for reference in gone:
            assert_gone(reference)


def test_unfinished_may_be_asked_from_everywhere() -> None:
    with WorkerPool(1) as pool:
        seen = list[list[Any]]()
        future = pool.submit(lambda: seen.append(pool.unfinished()))
        future.result(TIMEOUT)
        assert seen == [[future]]

        async def asks(**named: Any) -> list[Any]:
            return list(pool.unfinished())

        [(_, delivery)] = signal_to(asks, pool).send_async(None)
        assert delivery.result(TIMEOUT) == [delivery]
    assert pool.unfinished() == []  # closed


@pytest.mark.slow
def test_unfinished_of_a_hundred_thousand() -> None:
    with WorkerPool(1, max_pending=None) as pool, held(pool) as hold:
        futures: list[Future[Any]] = [pool.submit(int) for _ in range(100_000)]
        assert pool.unfinished()[1:] == futures
        hold.opened.set()
        pool.shutdown(cancel_futures=True)
        assert pool.unfinished() == []


def test_unfinished_always_has_what_is_accepted_and_has_not_ended() -> None:
    """While others send, run and cancel."""
    with WorkerPool(2, max_pending=None) as pool:
        signal, over = fan_out(pool, 3), threading.Event()

        def churns() -> None:
            while not over.is_set():
                deliveries = signal.send_async(None)
                pool.submit(int).cancel()
                deliveries.wait(TIMEOUT)

        def looks() -> None:
            try:
                for _ in range(200):
                    with pool_entry(pool) as (gate, future):
                        found = pool.unfinished()
                        assert future in found
                        assert len(set(found)) == len(found)
                        gate.opened.set()
                        future.result(TIMEOUT)
                        assert future not in pool.unfinished()
            finally:
                over.set()

        together(churns, churns, looks)


class pool_entry:
    """A delivery that is pending or running until its gate is opened."""

    def __init__(self, pool: WorkerPool) -> None:
        self.gate = Latch()
        self.future = signal_to(self.gate, pool).send_async(None)[0][1]

    def __enter__(self) -> tuple[Latch, Any]:
        return self.gate, self.future

    def __exit__(self, *raised: object) -> None:
        self.gate.opened.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_has_nothing_unfinished_and_the_open_pools_of_its_own() -> None:
    closed = WorkerPool(1)
    closed.shutdown()
    with WorkerPool(1) as pool, held(pool):
        pool.submit(int)
        mine = WorkerPool.all()

        def child() -> None:
            assert pool.unfinished() == []
            assert WorkerPool.all() == mine
            assert pool.submit(int).result(TIMEOUT) == 0
            pool.shutdown()
            assert WorkerPool.all() == [each for each in mine if each is not pool]

        assert processes.forked(child) == 0
        assert len(pool.unfinished()) == 2
        assert pool in WorkerPool.all()


# -- all --


@pytest.fixture
def before() -> Iterator[list[WorkerPool]]:
    gc.collect()
    yield WorkerPool.all()


def test_all_are_the_open_pools_the_oldest_first(before: list[WorkerPool]) -> None:
    with WorkerPool(1) as one, WorkerPool(1) as other:
        assert WorkerPool.all() == [*before, one, other]
        one.shutdown()
        assert WorkerPool.all() == [*before, other]
        assert other.all() == WorkerPool.all()
    assert WorkerPool.all() == before


def test_closing_pool_is_not_open_any_more(before: list[WorkerPool]) -> None:
    with WorkerPool(1) as pool, held(pool):
        pool.shutdown(wait=False)
        assert "closing" in repr(pool)
        assert WorkerPool.all() == before


def test_broken_pool_is_not_open(before: list[WorkerPool]) -> None:
    def breaks() -> None:
        raise OSError

    with WorkerPool(1, initializer=breaks) as pool:
        pool.submit(int).exception(TIMEOUT)
        wait_until(lambda: WorkerPool.all() == before)


def test_default_pool_is_among_them_once_it_is_made(before: list[WorkerPool]) -> None:
    former = set_default_executor(None)
    try:
        pool = get_default_executor()
        assert WorkerPool.all()[-1] is pool
    finally:
        set_default_executor(former)
    pool.shutdown()


def test_all_keeps_no_pool_alive(before: list[WorkerPool]) -> None:
    pool = WorkerPool(1)
    pool.submit(int).result(TIMEOUT)
    assert WorkerPool.all() == [*before, pool]
    gone, threads = weakref.ref(pool), list(inside.workers_of(pool))
    del pool
    assert WorkerPool.all() == before
    assert gone() is None
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def test_pools_come_and_go_in_many_threads_while_others_list_them() -> None:
    with WorkerPool(1) as stays:

        def come_and_go() -> None:
            for _ in range(50):
                with WorkerPool(1) as pool:
                    assert pool in WorkerPool.all()
                assert pool not in WorkerPool.all()

        def look() -> None:
            for _ in range(300):
                assert stays in WorkerPool.all()

        together(come_and_go, come_and_go, look)


def test_subclass_lists_pools_of_every_kind() -> None:
    class Mine(WorkerPool):
        pass

    with WorkerPool(1) as pool, Mine(1) as mine:
        assert [each for each in Mine.all() if each in (pool, mine)] == [pool, mine]


CALLS: list[Callable[[WorkerPool], object]] = [
    lambda pool: pool.unfinished(),
    lambda pool: WorkerPool.all(),
    lambda pool: pool.stats(),
]


@pytest.mark.parametrize("call", CALLS)
def test_they_may_be_called_inside_our_own_critical_code(
    call: Callable[[WorkerPool], object],
) -> None:
    called = list[object]()
    with WorkerPool(1) as pool:
        inside.interrupt_next_send(pool, lambda: called.append(call(pool)))
        signal_to(ignore, pool).send_async(None).results(TIMEOUT)
    assert len(called) == 1


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="without the GIL a finalizer may run in the thread that has made the object",
)
@pytest.mark.parametrize("terms", [{}, {"tracked": True}, {"ordered": True}, {"once": True}])
@pytest.mark.parametrize("around", [None, contextlib.nullcontext])
def test_worker_in_which_a_finalizer_of_what_was_sent_runs_is_not_idle(
    terms: dict[str, Any], around: Any
) -> None:
    """Others would count on it."""
    gate = Latch()

    class Sent:
        def __del__(self) -> None:
            gate()

    receiver = Latch()
    with WorkerPool(2, around=around) as pool:
        signal_to(receiver, pool, **terms).send_async(None, sent=Sent())
        receiver.opened.set()  # not before: by now the sender has let go of it
        assert gate.entered.wait(TIMEOUT)
        assert pool.submit(int).result(TIMEOUT) == 0
        gate.opened.set()
    assert pool.stats().completed == 2
