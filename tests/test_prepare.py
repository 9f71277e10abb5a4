"""``signal.prepare``: a send in two steps, and everything that may come between them."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import copy
import gc
import logging
import os
import pickle
import signal as signals
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import inside
import points
import pytest
from helpers import (
    TIMEOUT,
    VOLUME,
    Boom,
    Ear,
    Latch,
    Running,
    Thing,
    assert_gone,
    gil_is_on,
    handled,
    quiet,
    raiser,
    together,
    uncollected,
    wait_until,
)
from points import Handler, Interrupter
from pools import Watch, add_up, held, signal_to, told
from processes import run

from tsignals import (
    Deliveries,
    DeliveryDropped,
    PoolClosed,
    Prepared,
    QueueFull,
    Signal,
    WorkerPool,
    background,
    get_default_executor,
    receiver_failed,
    set_default_executor,
)

variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable", default=None)


def error_of(future: Any) -> BaseException | None:
    return future.exception(TIMEOUT)


def numbers(pool: WorkerPool) -> tuple[int, ...]:
    """submitted, completed, failed, cancelled, dropped."""
    return pool.stats()[4:9]


# -- What it is --


def test_prepared_send_runs_once_it_is_submitted_and_not_before() -> None:
    ear = Ear(response=7)
    with WorkerPool(1) as pool:
        signal = signal_to(ear, pool)
        prepared = signal.prepare("me", n=1)
        assert pool.submit(int).result(TIMEOUT) == 0
        assert ear.calls == []
        assert not prepared.deliveries[0][1].done()
        prepared.submit()
        assert prepared.deliveries.results(TIMEOUT) == [(ear, 7)]
        assert ear.calls == [{"signal": signal, "sender": "me", "n": 1}]


def test_deliveries_of_a_prepared_send_are_those_of_a_send_async() -> None:
    ear = Ear()
    with WorkerPool(1) as pool:
        signal = signal_to(ear, pool)
        prepared = signal.prepare("me")
        [(receiver, delivery)] = prepared.deliveries
        assert isinstance(prepared, Prepared)
        assert isinstance(prepared.deliveries, Deliveries)
        assert (receiver, delivery.receiver, delivery.signal, delivery.sender) == (
            ear,
            ear,
            signal,
            "me",
        )
        assert not delivery.running()
        assert repr(prepared) == "<Prepared: 1 deliveries>"
        prepared.drop()


def test_receivers_context_and_executor_are_those_of_the_first_step() -> None:
    first, second = WorkerPool(1), WorkerPool(1)
    with first, second:
        seen: list[Any] = []
        signal = signal_to(lambda **named: seen.append(variable.get()), first)
        variable.set("then")
        prepared = signal.prepare(None)
        variable.set("now")
        signal.executor = second
        late = Ear()
        signal.connect(late)
        prepared.submit()
        assert prepared.deliveries.wait(TIMEOUT)
        assert (seen, late.calls) == (["then"], [])
        assert (first.stats().completed, second.stats().submitted) == (1, 0)
        variable.set(None)


def test_prepared_send_counts_nowhere_until_it_is_submitted() -> None:
    with WorkerPool(1, max_pending=1, overflow="raise") as pool, held(pool):
        signal = signal_to(Ear(), pool)
        many = [signal.prepare(None) for _ in range(10)]
        assert pool.stats()[2:5] == (0, 1, 1)
        many[0].submit()
        assert pool.stats()[2:5] == (1, 1, 2)
        for prepared in many[1:]:
            prepared.drop()


def test_prepared_send_holds_up_neither_drain_nor_shutdown() -> None:
    pool = WorkerPool(1)
    prepared = signal_to(Ear(), pool).prepare(None)
    assert pool.drain(0)
    pool.shutdown()
    assert not prepared.deliveries.wait(0)
    prepared.drop()


def test_preparing_for_nobody_makes_no_pool_and_never_raises() -> None:
    set_default_executor(None)
    prepared = Signal().prepare(None)
    prepared.submit()
    prepared.drop()
    assert prepared.deliveries == []
    assert set_default_executor(None) is None
    pool = WorkerPool(1)
    pool.shutdown()
    Signal(executor=pool).prepare(None).submit()


def test_prepare_without_an_executor_uses_the_default_one() -> None:
    prepared = signal_to(Ear(response=3), None).prepare(None)
    prepared.submit()
    assert prepared.deliveries[0][1].result(TIMEOUT) == 3
    assert get_default_executor().stats().completed == 1


@pytest.mark.parametrize("name", ["signal", "sender"])
def test_prepare_refuses_the_names_that_it_passes_itself(name: str) -> None:
    signal = signal_to(Ear(), None)
    with pytest.raises(TypeError):
        signal.prepare(None, **{name: 1})


def test_nobody_makes_or_pickles_a_prepared_and_its_copy_is_itself() -> None:
    """A second one would drop the deliveries when it goes."""
    with WorkerPool(1) as pool, uncollected():
        prepared = signal_to(Ear(), pool).prepare(None)
        with pytest.raises(TypeError, match=r"signal\.prepare"):
            Prepared()
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(prepared)
        assert copy.copy(prepared) is copy.deepcopy(prepared) is prepared
        prepared.submit()
        assert prepared.deliveries.results(TIMEOUT)


# -- submit, drop, cancel: the first decides --


def test_dropped_send_never_runs_and_counts_as_submitted_and_dropped() -> None:
    ear = Ear()
    with WorkerPool(1) as pool:
        prepared = signal_to(ear, pool).prepare(None)
        prepared.drop()
        assert isinstance(error_of(prepared.deliveries[0][1]), DeliveryDropped)
        assert numbers(pool) == (1, 0, 0, 0, 1)
        prepared.submit()
        assert pool.drain(TIMEOUT)
        assert numbers(pool) == (1, 0, 0, 0, 1)
    assert ear.calls == []


def test_second_submit_and_late_drop_do_nothing() -> None:
    ear = Ear()
    with WorkerPool(1) as pool:
        prepared = signal_to(ear, pool).prepare(None)
        for step in (prepared.submit, prepared.submit, prepared.drop):
            step()
        assert prepared.deliveries.results(TIMEOUT)
        assert numbers(pool) == (1, 1, 0, 0, 0)
    assert len(ear.calls) == 1


def test_cancel_takes_one_delivery_back_and_counts_nowhere() -> None:
    first, second = Ear(), Ear()
    with WorkerPool(1) as pool:
        signal = signal_to(first, pool)
        signal.connect(second)
        prepared = signal.prepare(None)
        assert prepared.deliveries[0][1].cancel()
        assert prepared.deliveries[0][1].cancel()
        assert prepared.deliveries[0][1].cancelled()
        assert numbers(pool) == (0, 0, 0, 0, 0)
        prepared.submit()
        assert prepared.deliveries.wait(TIMEOUT)
        assert numbers(pool) == (1, 1, 0, 0, 0)
    assert (len(first.calls), len(second.calls)) == (0, 1)


def test_all_that_was_cancelled_before_leaves_nothing_to_submit() -> None:
    with WorkerPool(1, overflow="raise") as pool, told() as failures:
        prepared = signal_to(Ear(), pool).prepare(None)
        assert prepared.deliveries.cancel() == 1
        prepared.submit()
        prepared.drop()
        assert numbers(pool) == (0, 0, 0, 0, 0)
    assert failures.failures == []


@pytest.mark.parametrize("kind", ["pool", "elsewhere"])
def test_of_submit_drop_and_cancel_at_once_one_wins(kind: str) -> None:
    pool = WorkerPool(2) if kind == "pool" else ThreadPoolExecutor(2)
    with pool:
        for _ in range(200):
            ear = Ear()
            signal = Signal(executor=pool)
            signal.connect(ear)
            prepared = signal.prepare(None)
            delivery = prepared.deliveries[0][1]
            *_, cancelled = together(prepared.submit, prepared.drop, delivery.cancel)
            try:
                error = delivery.exception(TIMEOUT)
            except CancelledError:
                error = None
            ways = [len(ear.calls), isinstance(error, DeliveryDropped), delivery.cancelled()]
            assert sum(ways) == 1
            assert delivery.cancelled() == bool(cancelled)
    if isinstance(pool, WorkerPool):
        assert add_up(pool.stats())


def test_numbers_add_up_while_sends_are_prepared_submitted_dropped_and_lost() -> None:
    with WorkerPool(2) as pool, Watch(pool):
        signal = signal_to(Ear(), pool)

        def work() -> None:
            for n in range(300):
                prepared = signal.prepare(None)
                if n % 4 == 0:
                    prepared.submit()
                elif n % 4 == 1:
                    prepared.drop()
                elif n % 4 == 2:
                    prepared.deliveries.cancel()

        together(work, work)
        assert pool.drain(TIMEOUT)
        gc.collect()
        assert numbers(pool) == (450, 150, 0, 0, 300)


# -- Whoever loses it drops it --


def test_lost_prepared_drops_its_deliveries() -> None:
    ear = Ear()
    with WorkerPool(1) as pool, uncollected():
        deliveries = signal_to(ear, pool).prepare(None).deliveries
        assert isinstance(error_of(deliveries[0][1]), DeliveryDropped)
        assert numbers(pool) == (1, 0, 0, 0, 1)
        assert not inside.prepared_of(pool)
    assert ear.calls == []


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("where", ["sender", "named", "context"])
@pytest.mark.parametrize("kind", ["pool", "elsewhere"])
def test_prepared_that_what_was_sent_knows_is_lost_all_the_same(
    where: str, tracked: bool, kind: str
) -> None:
    """As a session that is the sender, and keeps what is to be submitted at its commit."""
    pool = WorkerPool(1) if kind == "pool" else ThreadPoolExecutor(1)
    with pool:
        signal = Signal(executor=pool)
        ear = Ear()
        signal.connect(ear, tracked=tracked)

        def forgets() -> "tuple[weakref.ref[Any], Deliveries]":
            session: Any = Thing("session")
            if where == "sender":
                session.kept = [signal.prepare(session)]
            elif where == "named":
                session.kept = [signal.prepare(None, session=session)]
            else:
                variable.set(session)
                session.kept = [signal.prepare(None)]
                variable.set(None)
            return weakref.ref(session), Deliveries()

        gone, _ = contextvars.Context().run(forgets)
        gc.collect()
        assert gone() is None
        if isinstance(pool, WorkerPool):
            assert numbers(pool) == (1, 0, 0, 0, 1)
            assert not inside.prepared_of(pool)
        for gate in inside.gates_of(signal).values():
            assert not gate.queued
    assert ear.calls == []


def test_prepared_that_is_lost_in_a_finalizer_in_the_middle_of_anything_is_dropped() -> None:
    """At each point of a send another one is lost; both have the ending that they must have."""
    with WorkerPool(1) as pool:
        signal = signal_to(Ear(), pool)
        at, reached = 1, True
        while reached:
            lost = [signal.prepare(None)]
            delivery = lost[0].deliveries[0][1]
            other = signal.prepare(None)
            with Handler(at, lost.clear) as handler:
                other.submit()
            reached = handler.reached
            lost.clear()
            assert isinstance(error_of(delivery), DeliveryDropped)
            assert other.deliveries.results(TIMEOUT), handler.where
            at += 3
        assert at > 10
        assert pool.drain(TIMEOUT)
        assert add_up(pool.stats())


def test_interrupt_that_waits_to_be_raised_is_not_lost_in_the_loss_of_a_prepared() -> None:
    with WorkerPool(1) as pool:
        lost = [signal_to(Ear(), pool).prepare(None)]
        inside.defer(pool, KeyboardInterrupt())
        lost.clear()
        with pytest.raises(KeyboardInterrupt):
            pool.submit(int)
        assert pool.drain(TIMEOUT)


def test_pool_stays_open_for_what_is_prepared() -> None:
    pool = WorkerPool(1)
    gone = weakref.ref(pool)
    signal = signal_to(Ear(response=5), pool)
    prepared = signal.prepare(None)
    signal.executor = None
    del pool
    gc.collect()
    assert gone() is not None
    prepared.submit()
    assert prepared.deliveries[0][1].result(TIMEOUT) == 5
    del prepared
    assert_gone(gone)


def test_submitted_send_may_be_lost() -> None:
    with WorkerPool(1) as pool, held(pool):
        prepared = signal_to(Ear(response=5), pool).prepare(None)
        prepared.submit()
        deliveries = prepared.deliveries
        del prepared
        gc.collect()
    assert deliveries[0][1].result(TIMEOUT) == 5


def test_transient_prepared_sends_leave_nothing_behind() -> None:
    async def hears(**named: Any) -> None: ...

    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        ears = [Ear(), Ear()]
        signal.connect(ears[0], ordered=True)
        signal.connect(ears[1], tracked=True)
        signal.connect(hears)

        def work() -> None:
            for step in range(20):
                prepared = signal.prepare(Thing())
                [prepared.submit, prepared.drop, prepared.deliveries.cancel, int][step % 4]()
                assert step % 4 == 3 or prepared.deliveries.wait(TIMEOUT)
            del prepared

        work()
        for ear in ears:
            ear.calls.clear()
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(5):
            work()
            for ear in ears:
                ear.calls.clear()
        assert pool.drain(TIMEOUT)
        gc.collect()
        assert len(gc.get_objects()) - before < 60
        assert not inside.prepared_of(pool)
        wait_until(lambda: not inside.unresolved(pool))


def test_delivery_may_be_cancelled_from_the_moment_it_is_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before ``submit`` has come to its end."""
    queue, answers = inside.QUEUE_IT.now, list[bool]()
    with WorkerPool(1) as pool, held(pool):
        prepared = signal_to(Ear(), pool).prepare(None)

        def queues(*arguments: Any) -> None:
            queue(*arguments)
            answers.append(prepared.deliveries[0][1].cancel())

        inside.QUEUE_IT.patch(monkeypatch, queues)
        prepared.submit()
        inside.QUEUE_IT.patch(monkeypatch, queue)
        assert prepared.deliveries[0][1].cancelled()
        assert numbers(pool) == (2, 0, 0, 1, 0)
    assert answers == [True]


# -- What admission raises --


@pytest.mark.parametrize("is_async", [False, True])
def test_full_queue_is_the_failure_of_each_delivery_and_is_told(is_async: bool) -> None:
    async def hears(**named: Any) -> None: ...

    with WorkerPool(1, max_pending=1, overflow="raise") as pool, told() as failures:
        signal = signal_to(hears if is_async else Ear(), pool)
        signal.connect(lambda **named: None, weak=False)
        with held(pool):
            pool.submit(int)
            before = time.perf_counter()
            prepared = signal.prepare("me", n=1)
            prepared.submit()
        errors = [error for _, error in prepared.deliveries.outcomes(TIMEOUT).errors]
        assert [type(error) for error in errors] == [QueueFull, QueueFull]
        assert pool.stats().refused == 2
        assert failures.errors == errors
        assert {(f.mode, f.sender, f.named["n"]) for f in failures.failures} == {
            ("send_async", "me", 1)
        }
        took = time.perf_counter() - before
        assert all(0 <= failure.queued_seconds <= took for failure in failures.failures)
        assert pool.drain(TIMEOUT)
        assert numbers(pool) == (2, 2, 0, 0, 0)
        assert not inside.prepared_of(pool)


@pytest.mark.parametrize("is_async", [False, True])
def test_closed_pool_fails_what_is_submitted(is_async: bool) -> None:
    async def hears(**named: Any) -> None: ...

    pool = WorkerPool(1)
    prepared = signal_to(hears if is_async else Ear(), pool).prepare(None)
    pool.shutdown()
    with told() as failures:
        prepared.submit()
        assert isinstance(error_of(prepared.deliveries[0][1]), PoolClosed)
    assert len(failures.failures) == 1


def test_interrupt_as_the_failure_of_a_submit_begins_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the first step of it was done."""
    interrupts = [KeyboardInterrupt()]
    recover = inside.RECOVER_SUBMITTED.now

    def interrupted(*arguments: Any) -> Any:
        if interrupts:
            raise interrupts.pop()
        return recover(*arguments)

    pool = WorkerPool(1)
    prepared = signal_to(Ear(), pool).prepare(None)
    pool.shutdown()
    inside.RECOVER_SUBMITTED.patch(monkeypatch, interrupted)
    with told() as failures, pytest.raises(KeyboardInterrupt):
        prepared.submit()
    assert isinstance(error_of(prepared.deliveries[0][1]), PoolClosed)
    assert len(failures.failures) == 1


def test_broken_pool_fails_what_is_submitted(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise Boom

    pool = WorkerPool(1, initializer=fails)
    assert isinstance(error_of(pool.submit(int)), concurrent.futures.BrokenExecutor)
    with told() as failures:
        prepared = signal_to(Ear(), pool).prepare(None)
        prepared.submit()
        error = error_of(prepared.deliveries[0][1])
        assert isinstance(error, concurrent.futures.BrokenExecutor)
    assert len(failures.failures) == 1
    pool.shutdown()


def test_failure_to_queue_is_told_in_the_context_of_the_sender_before_it_is_seen() -> None:
    pool, seen = WorkerPool(1), list[Any]()
    variable.set("request 7")
    prepared = signal_to(Ear(), pool).prepare(None)
    variable.set(None)
    pool.shutdown()
    delivery = prepared.deliveries[0][1]

    def hears(failure: Any, **named: Any) -> None:
        seen.append((variable.get(), delivery.done(), delivery.cancel()))

    from tsignals import receiver_failed

    with receiver_failed.connect(hears):
        prepared.submit()
    assert seen == [("request 7", False, False)]


def test_async_delivery_that_cannot_be_queued_cannot_be_cancelled_while_that_is_told() -> None:
    """There may be no event loop to ask."""

    async def hears(**named: Any) -> None: ...

    pool, seen = WorkerPool(1), list[bool]()
    prepared = signal_to(hears, pool).prepare(None)
    pool.shutdown()
    delivery = prepared.deliveries[0][1]
    from tsignals import receiver_failed

    with receiver_failed.connect(lambda **named: seen.append(delivery.cancel()), weak=False):
        prepared.submit()
    assert seen == [False]
    assert isinstance(error_of(delivery), PoolClosed)


# -- Overflow --


def test_submit_waits_for_room_and_is_admitted_as_a_whole() -> None:
    with WorkerPool(1, max_pending=2) as pool, Watch(pool):
        signal = signal_to(Ear(response=1), pool)
        signal.connect(lambda **named: 2, weak=False)
        with held(pool):
            pool.submit(int)
            prepared = signal.prepare(None)
            submitting = Running(prepared.submit)
            wait_until(lambda: inside.blocked_senders(pool))
            assert not prepared.deliveries[0][1].cancel()
            assert pool.stats().submitted == 2
            prepared.drop()  # too late
        submitting.result()
        assert [response for _, response in prepared.deliveries.results(TIMEOUT)] == [1, 2]
        assert numbers(pool) == (4, 4, 0, 0, 0)


def test_async_delivery_that_is_cancelled_while_it_waits_for_room_is_cancelled() -> None:
    called: list[int] = []

    async def hears(**named: Any) -> None:
        called.append(1)
        await asyncio.sleep(TIMEOUT)

    with WorkerPool(1, max_pending=1) as pool:
        signal = signal_to(hears, pool)
        with held(pool):
            pool.submit(int)
            prepared = signal.prepare(None)
            submitting = Running(prepared.submit)
            wait_until(lambda: inside.blocked_senders(pool))
            assert prepared.deliveries[0][1].cancel()
        submitting.result()
        with pytest.raises(CancelledError):
            prepared.deliveries[0][1].result(TIMEOUT)
        assert pool.drain(TIMEOUT)
        assert pool.stats().cancelled == 1


def test_submit_that_finds_no_room_in_time_fails() -> None:
    with WorkerPool(1, max_pending=1, block_timeout=0) as pool, told() as failures:
        with held(pool):
            pool.submit(int)
            prepared = signal_to(Ear(), pool).prepare(None)
            prepared.submit()
        assert isinstance(error_of(prepared.deliveries[0][1]), QueueFull)
        assert len(failures.failures) == 1
        assert pool.drain(TIMEOUT)
        assert numbers(pool) == (2, 2, 0, 0, 0)


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest", "caller_runs"])
def test_submit_to_a_full_queue_follows_the_policy(policy: str) -> None:
    here = threading.get_ident()
    with WorkerPool(1, max_pending=2, overflow=policy) as pool, Watch(pool):
        signal = signal_to(lambda **named: threading.get_ident(), pool)
        signal.connect(lambda **named: 2, weak=False, ordered=True)
        with held(pool):
            before = [pool.submit(int) for _ in range(2)]
            prepared = signal.prepare(None)
            prepared.submit()
            done = [future.done() for future in prepared.deliveries.futures]
            assert done == [policy != "drop_oldest"] * 2
        outcomes = prepared.deliveries.outcomes(TIMEOUT)
        errors = [type(error) for _, error in outcomes.errors]
        if policy == "drop_newest":
            assert errors == [DeliveryDropped] * 2
        elif policy == "caller_runs":
            assert [response for _, response in outcomes] == [here, 2]
        else:
            assert errors == []
            assert [type(error_of(future)) for future in before] == [DeliveryDropped] * 2
        assert pool.drain(TIMEOUT)
        assert add_up(pool.stats())
        assert pool.stats().submitted == 5


def test_worker_that_submits_to_its_own_full_pool_runs_it_itself() -> None:
    with WorkerPool(1, max_pending=1) as pool:
        signal = signal_to(lambda **named: threading.get_ident(), pool)

        def work() -> bool:
            prepared = signal.prepare(None)
            pool.submit(int)
            prepared.submit()
            return prepared.deliveries[0][1].result(0) == threading.get_ident()

        assert pool.submit(work).result(TIMEOUT)


def test_submit_on_an_event_loop_does_not_wait_for_room() -> None:
    with WorkerPool(1, max_pending=1) as pool, held(pool):
        pool.submit(int)
        prepared = signal_to(Ear(), pool).prepare(None)

        async def main() -> None:
            prepared.submit()

        asyncio.run(main())
        assert isinstance(error_of(prepared.deliveries[0][1]), QueueFull)


# -- Lanes, tracked --


def test_ordered_deliveries_run_in_the_order_in_which_they_are_submitted() -> None:
    ran: list[int] = []
    with WorkerPool(4) as pool:
        signal = signal_to(lambda n, **named: ran.append(n), pool, ordered=True)
        first, second = signal.prepare(None, n=1), signal.prepare(None, n=2)
        signal.send_async(None, n=0)
        second.submit()
        first.submit()
        assert pool.drain(TIMEOUT)
    assert ran == [0, 2, 1]


WAITS: dict[str, Callable[[Deliveries], Any]] = {
    "result": lambda deliveries: deliveries[0][1].result(TIMEOUT),
    "exception": lambda deliveries: deliveries[0][1].exception(TIMEOUT),
    "results": lambda deliveries: deliveries.results(TIMEOUT),
    "outcomes": lambda deliveries: deliveries.outcomes(TIMEOUT),
    "wait": lambda deliveries: deliveries.wait(TIMEOUT),
    "as_completed": lambda deliveries: list(deliveries.as_completed(TIMEOUT)),
    "await": lambda deliveries: asyncio.run(awaits(deliveries)),
    "async for": lambda deliveries: asyncio.run(goes_through(deliveries)),
}


async def awaits(deliveries: Deliveries) -> None:
    async with asyncio.timeout(TIMEOUT):
        await deliveries


async def goes_through(deliveries: Deliveries) -> None:
    async with asyncio.timeout(TIMEOUT):
        async for _ in deliveries:
            pass


def sleeps(deliveries: Deliveries) -> bool:
    """Whether somebody waits for the first of these by now."""
    return inside.is_waited_for(deliveries[0][1])


@pytest.mark.parametrize("wait", WAITS)
def test_only_worker_that_waits_for_a_prepared_send_runs_it_once_it_is_submitted(
    wait: str,
) -> None:
    with WorkerPool(1) as pool:
        threads: list[int] = []
        signal = signal_to(lambda **named: threads.append(threading.get_ident()), pool)
        signal.connect(lambda **named: threads.append(threading.get_ident()), weak=False)
        prepared = signal.prepare(None)

        def work() -> int:
            WAITS[wait](prepared.deliveries)
            return threading.get_ident()

        working = pool.submit(work)
        wait_until(lambda: sleeps(prepared.deliveries))
        prepared.submit()
        assert working.result(TIMEOUT) == threads[0]
        assert prepared.deliveries.wait(TIMEOUT)
        assert len(threads) == 2


@pytest.mark.parametrize("wait", WAITS)
def test_submitted_between_the_look_and_the_sleep_of_the_only_worker(
    wait: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is woken, for nobody sleeps yet."""
    ear, park = Ear(), inside.PARK.now
    with WorkerPool(1) as pool:
        prepared = signal_to(ear, pool).prepare(None)

        def late(task: Any, parked: Any) -> None:
            if task is prepared.deliveries[0][1]:
                inside.PARK.patch(monkeypatch, park)
                prepared.submit()
            park(task, parked)

        inside.PARK.patch(monkeypatch, late)
        pool.submit(WAITS[wait], prepared.deliveries).result(TIMEOUT)
        assert inside.PARK.now is park
        assert len(ear.calls) == 1


@pytest.mark.parametrize("end", ["drop", "cancel", "refuse"])
@pytest.mark.parametrize("wait", ["outcomes", "wait", "as_completed"])
def test_worker_that_waits_hears_that_it_will_never_run(wait: str, end: str) -> None:
    with WorkerPool(1) as pool, told():
        prepared = signal_to(Ear(), pool).prepare(None)
        working = pool.submit(WAITS[wait], prepared.deliveries)
        wait_until(lambda: sleeps(prepared.deliveries))
        if end == "drop":
            prepared.drop()
        elif end == "cancel":
            prepared.deliveries.cancel()
        else:
            pool.shutdown(wait=False)
            prepared.submit()
        assert working.exception(TIMEOUT) is None


def test_wait_of_a_worker_for_what_nobody_submits_ends_in_time() -> None:
    with WorkerPool(1) as pool:
        prepared = signal_to(Ear(), pool).prepare(None)
        waiting = pool.submit(lambda: prepared.deliveries[0][1].result(0.01))
        assert isinstance(error_of(waiting), TimeoutError)
        prepared.submit()
        assert prepared.deliveries.wait(TIMEOUT)


@pytest.mark.parametrize("wait", WAITS)
def test_worker_that_waits_for_an_ordered_delivery_keeps_to_its_lane(wait: str) -> None:
    """What was sent before it runs before it, though the wait was there first."""
    ran: list[Any] = []
    gate = Latch()

    def hears(n: int, **named: Any) -> None:
        ran.append(n)
        if n == 1:
            gate()
        ran.append(-n)

    with WorkerPool(2) as pool:
        signal = signal_to(hears, pool, ordered=True)
        prepared = signal.prepare(None, n=3)
        working = pool.submit(WAITS[wait], prepared.deliveries)
        wait_until(lambda: sleeps(prepared.deliveries))
        signal.send_async(None, n=1)
        signal.send_async(None, n=2)
        assert gate.entered.wait(TIMEOUT)
        prepared.submit()
        gate.opened.set()
        working.result(TIMEOUT)
    assert ran == [1, -1, 2, -2, 3, -3]


@pytest.mark.parametrize("wait", WAITS)
def test_what_stands_before_it_is_let_go_between_the_look_and_the_sleep_of_the_only_worker(
    wait: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is queued by then, but nobody else is there to take it."""
    ran, park, let_go = list[int](), inside.PARK.now, inside.RELEASE_HOLD.now
    queued, sent, gone = Latch(), threading.Event(), threading.Event()

    def late(task: Any, parked: Any) -> None:
        if task is first.deliveries[0][1]:
            queued.opened.set()
            assert gone.wait(TIMEOUT)
        park(task, parked)

    def lets_go(tasks: Any) -> None:
        queued()
        let_go(tasks)
        gone.set()

    with WorkerPool(1) as pool:
        signal = signal_to(lambda n, **named: ran.append(n), pool, ordered=True)
        first, second = signal.prepare(None, n=1), list[Deliveries]()
        inside.PARK.patch(monkeypatch, late)
        inside.RELEASE_HOLD.patch(monkeypatch, lets_go)
        working = pool.submit(lambda: sent.wait(TIMEOUT) and WAITS[wait](second[0]))
        submitting = Running(first.submit)
        assert queued.entered.wait(TIMEOUT)
        second.append(signal.send_async(None, n=2))
        sent.set()
        working.result(TIMEOUT)
        submitting.result()
    assert ran == [1, 2]


@pytest.mark.parametrize("wait", ["result", "as_completed"])
def test_worker_that_waits_for_what_comes_after_it_in_its_lane_is_told_so(wait: str) -> None:
    answers: list[Any] = []

    def hears(prepared: Any = None, **named: Any) -> None:
        if prepared is not None:
            try:
                WAITS[wait](prepared.deliveries)
            except RuntimeError as error:
                answers.append(error)

    with WorkerPool(2) as pool:
        signal = signal_to(hears, pool, ordered=True)
        prepared = signal.prepare(None)
        signal.send_async(None, prepared=prepared)
        wait_until(lambda: sleeps(prepared.deliveries))
        prepared.submit()
        assert prepared.deliveries.wait(TIMEOUT)
        assert pool.drain(TIMEOUT)
    assert len(answers) == 1


def test_async_delivery_that_awaits_what_comes_after_it_in_its_lane_is_told_so() -> None:
    answers: list[Any] = []

    async def hears(prepared: Any = None, **named: Any) -> None:
        if prepared is not None:
            try:
                await prepared.deliveries
            except RuntimeError as error:
                answers.append(error)

    with WorkerPool(1) as pool:
        signal = signal_to(hears, pool, ordered=True)
        prepared = signal.prepare(None)
        signal.send_async(None, prepared=prepared)
        wait_until(lambda: sleeps(prepared.deliveries))
        prepared.submit()
        assert prepared.deliveries.wait(TIMEOUT)
    assert len(answers) == 1


def test_tracked_disconnect_cancels_what_is_prepared() -> None:
    ear = Ear()
    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        connection = signal.connect(ear, tracked=True)
        prepared = signal.prepare(None)
        assert connection.disconnect(wait=TIMEOUT)
        assert prepared.deliveries[0][1].cancelled()
        prepared.submit()
        assert pool.drain(TIMEOUT)
        assert numbers(pool) == (0, 0, 0, 0, 0)
    assert ear.calls == []


def test_tracked_disconnect_in_the_middle_of_a_submit_that_waits_for_room_prevails() -> None:
    ear = Ear()
    with WorkerPool(1, max_pending=1) as pool:
        signal = Signal(executor=pool)
        connection = signal.connect(ear, tracked=True)
        prepared = signal.prepare(None)
        with held(pool):
            pool.submit(int)
            submitting = Running(prepared.submit)
            wait_until(lambda: inside.blocked_senders(pool))
            assert connection.disconnect(wait=TIMEOUT)
        submitting.result()
        assert pool.drain(TIMEOUT)
        assert prepared.deliveries[0][1].cancelled()
        assert pool.stats().cancelled == 1
    assert ear.calls == []


def test_tracked_disconnect_waits_for_a_submitted_delivery_that_runs() -> None:
    gate = Latch()
    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        connection = signal.connect(gate, tracked=True)
        prepared = signal.prepare(None)
        prepared.submit()
        assert gate.entered.wait(TIMEOUT)
        with pytest.raises(TimeoutError):
            connection.disconnect(wait=0)
        gate.opened.set()
        signal.disconnect(gate, wait=TIMEOUT)
        assert prepared.deliveries[0][1].result(TIMEOUT) == "through"


def test_shutdown_that_cancels_leaves_what_is_prepared_to_its_owner() -> None:
    pool = WorkerPool(1)
    prepared = signal_to(Ear(), pool).prepare(None)
    pool.shutdown(cancel_futures=True)
    assert not prepared.deliveries.wait(0)
    prepared.drop()
    assert isinstance(error_of(prepared.deliveries[0][1]), DeliveryDropped)
    assert numbers(pool) == (1, 0, 0, 0, 1)


# -- Fork and exit --


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_prepared_send_is_lost_in_a_forked_child_and_waits_in_the_parent() -> None:
    done = run(
        """
        from tsignals import DeliveryLost, Signal, WorkerPool

        async def hears(**named): ...

        pool = WorkerPool(1)
        signal = Signal(executor=pool)
        signal.connect(lambda **named: os.getpid(), weak=False, tracked=True)
        signal.connect(lambda **named: None, weak=False, ordered=True)
        signal.connect(hears)
        prepared = signal.prepare(None)
        child = os.fork()
        if not child:
            for _, delivery in prepared.deliveries:
                assert isinstance(delivery.exception(10), DeliveryLost)
            prepared.submit()
            prepared.drop()
            assert pool.drain(10)
            assert pool.stats().submitted == 0, pool.stats()
            anew = signal.prepare(None)
            anew.submit()
            assert anew.deliveries[0][1].result(10) == os.getpid()
            del prepared
            assert pool.stats().submitted == 3, pool.stats()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert not prepared.deliveries.wait(0)
        prepared.submit()
        assert prepared.deliveries[0][1].result(10) == os.getpid()
        assert pool.drain(10) and pool.stats().submitted == 3
        print("all is well")
        """
    )
    assert (done.stdout, done.returncode) == ("all is well\n", 0), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("verb", ["submit", "drop"])
def test_child_that_is_forked_in_the_middle_of_a_submit_or_drop_counts_nothing(verb: str) -> None:
    done = run(
        f"""
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from points import Handler
        from tsignals import Signal, WorkerPool

        at, reached = 1, True
        while reached:
            pool = WorkerPool(1)
            signal = Signal(executor=pool)
            signal.connect(lambda **named: os.getpid(), weak=False)
            pool.submit(int).result(10)  # no thread is to be started, which no fork survives
            prepared = signal.prepare(None)
            pids = []
            with Handler(at, lambda: pids.append(os.fork())) as handler:
                prepared.{verb}()
            reached = handler.reached
            if pids == [0]:
                assert prepared.deliveries.wait(10), "it is not resolved"
                assert pool.drain(10), (handler.where, pool.stats())
                stats = pool.stats()
                assert stats.pending == stats.running == 0
                os._exit(7)
            for pid in pids:
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7, handler.where
            assert prepared.deliveries.wait(10)
            assert pool.drain(10) and pool.stats().submitted == 2
            pool.shutdown()
            at += 3
        print("all is well", at > 10)
        """
    )
    assert (done.stdout, done.returncode) == ("all is well True\n", 0), done.stderr


def test_process_ends_with_something_prepared() -> None:
    done = run(
        """
        from tsignals import Signal, WorkerPool

        pool = WorkerPool(1)
        signal = Signal(executor=pool)
        signal.connect(lambda **named: print("ran"), weak=False)
        kept = [signal.prepare(None), signal.prepare(None)]
        kept[0].submit()
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("ran\n", "", 0)


# -- Interrupts --


class World:
    """A pool whose worker is held up, and a prepared send: plain, in a lane, async, tracked."""

    def __init__(self, waiting: int = 0, **arguments: Any) -> None:
        self.pool = WorkerPool(1, **arguments)
        self.ran: list[str] = []
        self.gate = Latch()
        signal = Signal(name="prepared", executor=self.pool)

        async def hears(**named: Any) -> None:
            self.ran.append("async")

        signal.connect(hears, weak=False)
        signal.connect(lambda **named: self.ran.append("plain"), weak=False)
        signal.connect(lambda **named: self.ran.append("lane"), weak=False, ordered=True)
        self.connection = signal.connect(
            lambda **named: self.ran.append("tracked"), weak=False, tracked=True
        )
        assert signal.send_async(None).wait(TIMEOUT)  # the loop and the worker are there
        assert self.pool.drain(TIMEOUT)
        self.ran.clear()
        self.signal = signal
        self.held = self.pool.submit(self.gate)
        assert self.gate.entered.wait(TIMEOUT)
        for _ in range(waiting):
            self.pool.submit(int)
        self.prepared: list[Prepared] = []
        self.deliveries = Deliveries()

    def prepare(self) -> "World":
        self.prepared.append(self.signal.prepare(None))
        self.deliveries = self.prepared[0].deliveries
        return self

    def check(self) -> None:
        """All is resolved, and the numbers are right, once it has been submitted or lost."""
        self.gate.opened.set()
        assert self.pool.drain(TIMEOUT), f"it does not come to rest: {self.pool.stats()}"
        assert self.deliveries.wait(TIMEOUT), f"not resolved: {self.deliveries.futures}"
        wait_until(lambda: not inside.unresolved(self.pool) and not inside.lanes_of(self.pool))
        assert inside.prepared_of(self.pool) == {}
        assert inside.interrupts_of(self.pool) == []
        assert inside.state_of(self.pool).room_used == 0
        assert add_up(self.pool.stats())
        assert len(self.ran) == len(set(self.ran)), f"it ran twice: {self.ran}"
        ended = [
            future.cancelled() or future.exception(0) is not None
            for future in self.deliveries.futures
        ]
        sync = [name for name in self.ran if name != "async"]  # that may be cancelled as it runs
        # Where the caller runs it, what is interrupted may be the end of a receiver's call.
        cut = [
            not future.cancelled() and isinstance(future.exception(0), KeyboardInterrupt)
            for future in self.deliveries.futures[1:]
        ]
        assert 0 <= len(sync) - ended[1:].count(False) <= cut.count(True)
        assert Running(self.connection.disconnect, wait=TIMEOUT).result(2 * TIMEOUT)
        Running(self.pool.shutdown).result()


def prepare(world: World) -> None:
    world.prepare()


def submit(world: World) -> None:
    world.prepared[0].submit()


def drop(world: World) -> None:
    world.prepared[0].drop()


def cancel(world: World) -> None:
    world.deliveries.cancel()


def close(world: World) -> None:
    world.pool.shutdown(wait=False)
    world.prepared[0].submit()


INTERRUPTED: dict[str, tuple[Callable[[], World], Callable[[World], None]]] = {
    "prepare": (World, prepare),
    "submit": (lambda: World().prepare(), submit),
    "submit, raise": (
        lambda: World(1, max_pending=2, overflow="raise").prepare(),
        submit,
    ),
    "submit, block, no room in time": (
        lambda: World(1, max_pending=2, block_timeout=0).prepare(),
        submit,
    ),
    "submit, drop newest": (
        lambda: World(1, max_pending=2, overflow="drop_newest").prepare(),
        submit,
    ),
    "submit, drop oldest": (
        lambda: World(2, max_pending=5, overflow="drop_oldest").prepare(),
        submit,
    ),
    "submit, caller runs": (
        lambda: World(1, max_pending=2, overflow="caller_runs").prepare(),
        submit,
    ),
    "submit to a closed pool": (lambda: World().prepare(), close),
    "drop": (lambda: World().prepare(), drop),
    "cancel": (lambda: World().prepare(), cancel),
}
MOST = 25


@pytest.fixture
def small_heap() -> Iterator[None]:
    """Collections that pass over what all tests before have left take no time."""
    gc.freeze()
    yield
    gc.unfreeze()


# CPython has nobody to raise it to where it closes a generator.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("small_heap")
@pytest.mark.parametrize("again", ["submit", "drop", "lose"])
@pytest.mark.parametrize("case", INTERRUPTED)
def test_interrupted_call_leaves_nothing_half_done_and_may_be_made_again(
    case: str, again: str
) -> None:
    make, act = INTERRUPTED[case]
    at, raised = 1, True
    step = steps_of(make, act)
    while raised:
        world = make()
        with Interrupter(at) as interrupter, told():
            act(world)
        raised, where = interrupter.raised, interrupter.where
        del interrupter  # whose frames have the Prepared
        with Interrupter(0):
            pass  # sys.monitoring keeps the last one
        if again == "lose" or act is prepare:
            gc.collect()  # it is a cycle
        with told():
            while world.prepared:
                prepared = world.prepared.pop()
                if again == "submit":
                    prepared.submit()
                elif again == "drop":
                    prepared.drop()
                del prepared
        try:
            world.check()
        except AssertionError as error:
            pytest.fail(f"at point {at}, {where}: {error}")
        at += step
    assert at > step + 1


def steps_of(make: Callable[[], World], act: Callable[[World], None]) -> int:
    """Every how manieth point is looked at."""
    world = make()
    with Interrupter(0) as interrupter, told():
        act(world)
    points = interrupter.points
    del interrupter
    for prepared in world.prepared:
        prepared.drop()
    world.check()
    return 1 + points // MOST


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("verb", ["submit", "drop", "cancel"])
def test_interrupted_call_elsewhere_leaves_nothing_half_done(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not in the locks of that executor, which an interrupt leaves held.
    monkeypatch.setattr(points, "UNDER_TEST", points.UNDER_TEST[:1])
    at, raised = 1, True
    with ThreadPoolExecutor(1) as executor:
        signal = Signal(name="elsewhere", executor=executor)
        ran: list[int] = []
        signal.connect(lambda **named: ran.append(1), weak=False)
        signal.connect(lambda **named: ran.append(2), weak=False, tracked=True)
        while raised:
            ran.clear()
            gate = Latch()
            executor.submit(gate)
            assert gate.entered.wait(TIMEOUT)
            prepared = signal.prepare(None)
            with Interrupter(at) as interrupter:
                if verb == "cancel":
                    prepared.deliveries.cancel()
                else:
                    getattr(prepared, verb)()
            raised = interrupter.raised
            prepared.submit()
            gate.opened.set()
            assert prepared.deliveries.wait(TIMEOUT), interrupter.where
            assert executor.submit(int).result(TIMEOUT) == 0
            assert len(ran) == len(set(ran)), interrupter.where
            at += 1
    assert at > 10


# -- Other executors --


def test_other_executors_take_a_prepared_send_when_it_is_submitted() -> None:
    with ThreadPoolExecutor(1) as executor:
        gate = Latch()
        signal = Signal(executor=executor)
        signal.connect(gate)
        variable.set("then")
        seen: list[Any] = []
        signal.connect(lambda **named: seen.append(variable.get()), weak=False)
        prepared = signal.prepare(None)
        variable.set(None)
        first, second = prepared.deliveries.futures
        assert not first.running() and not first.done()
        prepared.submit()
        assert gate.entered.wait(TIMEOUT)
        assert first.running() and not second.running()
        gate.opened.set()
        assert first.result(TIMEOUT) == "through"
        assert second.result(TIMEOUT) is None
        assert seen == ["then"]


def test_other_executors_failures_are_told_and_resolve_the_delivery() -> None:
    def fails(**named: Any) -> None:
        raise Boom

    with ThreadPoolExecutor(1) as executor, told() as failures:
        signal = Signal(executor=executor)
        signal.connect(fails)
        prepared = signal.prepare(None)
        prepared.submit()
        assert isinstance(error_of(prepared.deliveries[0][1]), Boom)
    assert len(failures.failures) == 1


def test_other_executor_that_refuses_is_the_failure_of_each() -> None:
    executor = ThreadPoolExecutor(1)
    signal = Signal(executor=executor)
    signal.connect(Ear())
    ear = Ear()
    signal.connect(ear)
    prepared = signal.prepare(None)
    executor.shutdown()
    with told() as failures:
        prepared.submit()
        assert isinstance(error_of(prepared.deliveries[0][1]), RuntimeError)
    assert len(failures.failures) == 1


def test_other_executors_deliveries_can_be_dropped_lost_and_cancelled() -> None:
    ear = Ear()
    with ThreadPoolExecutor(1) as executor:
        signal = Signal(executor=executor)
        connection = signal.connect(ear, tracked=True)
        dropped, cancelled, closed = (signal.prepare(None) for _ in range(3))
        dropped.drop()
        lost = signal.prepare(None).deliveries
        gc.collect()
        assert cancelled.deliveries.cancel() == 1
        cancelled.submit()
        assert isinstance(error_of(dropped.deliveries[0][1]), DeliveryDropped)
        assert isinstance(error_of(lost[0][1]), DeliveryDropped)
        assert connection.disconnect(wait=TIMEOUT)
        assert closed.deliveries[0][1].cancelled()
        closed.submit()
        assert concurrent.futures.wait(closed.deliveries.futures, TIMEOUT).not_done == set()
    assert ear.calls == []


def test_cancel_after_the_submit_is_the_executors_affair() -> None:
    ear = Ear()
    with ThreadPoolExecutor(1) as executor:
        gate = Latch()
        executor.submit(gate)
        signal = Signal(executor=executor)
        signal.connect(ear)
        prepared = signal.prepare(None)
        prepared.submit()
        assert prepared.deliveries[0][1].cancel()
        gate.opened.set()
        assert prepared.deliveries[0][1].cancelled()
    assert ear.calls == []


def test_prepare_refuses_an_ordered_receiver_in_another_executor() -> None:
    with ThreadPoolExecutor(1) as executor:
        signal = Signal(executor=executor)
        ear = Ear()
        signal.connect(ear, ordered=True)
        with pytest.raises(TypeError, match="ordered receiver needs a WorkerPool"):
            signal.prepare(None)


def test_future_that_an_executor_resolves_at_once_is_followed() -> None:
    class AtOnce(concurrent.futures.Executor):
        def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Any:
            future: Future[Any] = Future()
            future.set_running_or_notify_cancel()
            future.set_result(function(*arguments, **named))
            return future

    signal = Signal(executor=AtOnce())
    ear = Ear(response=4)
    signal.connect(ear)
    prepared = signal.prepare(None)
    prepared.submit()
    assert prepared.deliveries.results(0) == [(ear, 4)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_prepared_send_elsewhere_is_lost_in_a_forked_child_that_submits_it() -> None:
    done = run(
        """
        from concurrent.futures import ThreadPoolExecutor
        from tsignals import DeliveryLost, Signal

        signal = Signal(executor=ThreadPoolExecutor(1))
        signal.connect(lambda **named: 3, weak=False)
        prepared = signal.prepare(None)
        child = os.fork()
        if not child:
            prepared.submit()
            assert isinstance(prepared.deliveries[0][1].exception(10), DeliveryLost)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        prepared.submit()
        print(prepared.deliveries[0][1].result(10))
        """
    )
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr


# -- background --


def test_background_receiver_can_be_prepared() -> None:
    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)

        @background
        def hears(n: int, **named: Any) -> int:
            return n

        prepared = hears.prepare(signal=signal, sender="me", n=3)
        [(receiver, delivery)] = prepared.deliveries
        assert (receiver, delivery.sender) == (hears, "me")
        assert pool.stats().submitted == 0
        prepared.submit()
        assert delivery.result(TIMEOUT) == 3


def test_background_method_can_be_prepared_with_its_object() -> None:
    class Mailer:
        @background
        def mails(self, n: int, **named: Any) -> "tuple[Any, int]":
            return self, n

    mailer = Mailer()
    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        signal.connect(mailer.mails)
        bound: Any = mailer.mails
        for prepare in (Mailer.mails.prepare, bound.__func__.prepare):
            prepared = prepare(mailer, signal=signal, sender=None, n=3)
            assert prepared.deliveries[0][0] == mailer.mails or isinstance(
                prepared.deliveries[0][0], type(bound)
            )
            prepared.submit()
            assert prepared.deliveries[0][1].result(TIMEOUT) == (mailer, 3)


def test_failure_of_a_prepared_background_receiver_has_its_mode() -> None:
    @background
    def fails(**named: Any) -> None:
        raise Boom

    with WorkerPool(1) as pool, told() as failures:
        prepared = fails.prepare(signal=Signal(executor=pool), sender=None)
        prepared.submit()
        assert isinstance(error_of(prepared.deliveries[0][1]), Boom)
    assert [failure.mode for failure in failures.failures] == ["background"]


def test_deep_stack_leaves_a_prepared_send_as_it_was() -> None:
    with WorkerPool(1) as pool:
        signal = signal_to(Ear(response=1), pool)
        prepared, cancelled, dropped = (signal.prepare(None) for _ in range(3))

        def dive(call: Callable[[], object]) -> None:
            try:
                dive(call)
            except RecursionError:
                call()
                raise

        for call in (prepared.submit, dropped.drop, cancelled.deliveries.cancel):
            with pytest.raises(RecursionError):
                dive(call)
        for each in (prepared, cancelled, dropped):
            each.submit()
            assert each.deliveries.wait(TIMEOUT)
        assert pool.drain(TIMEOUT)
        assert add_up(pool.stats())


@pytest.mark.skipif(sys.platform == "win32", reason="no signal can be sent to a thread")
def test_what_a_signal_handler_raises_is_no_failure_and_leaves_it_to_be_submitted_again() -> None:
    with WorkerPool(1, max_pending=1) as pool, told() as failures:
        ear = Ear(response=7)
        prepared = signal_to(ear, pool).prepare(None)
        with held(pool):
            pool.submit(int)
            with (
                handled(raiser(Boom()), lambda: inside.blocked_senders(pool), signals.SIGUSR1),
                pytest.raises(Boom),
            ):
                prepared.submit()
        prepared.submit()
        assert prepared.deliveries.results(TIMEOUT) == [(ear, 7)]
        assert failures.errors == []


def test_prepared_that_is_lost_where_the_stack_has_no_room_is_dropped_by_the_next_one() -> None:
    with WorkerPool(1) as pool, uncollected():
        signal = signal_to(Ear(), pool)
        lost = [signal.prepare(None)]
        delivery = lost[0].deliveries[0][1]

        def dive(left: int) -> None:
            if left:
                dive(left - 1)
            else:
                lost.clear()

        def depth(so_far: int = 0) -> int:
            try:
                return depth(so_far + 1)
            except RecursionError:
                return so_far

        dive(depth() - 15)
        assert not delivery.done()
        signal.prepare(None).drop()
        assert isinstance(error_of(delivery), DeliveryDropped)
        assert numbers(pool) == (2, 0, 0, 0, 2)


@pytest.mark.skipif(not gil_is_on(), reason="frames are left to the collector")
def test_submit_that_is_interrupted_while_a_failure_is_told_leaves_no_cycle(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def interrupts(**named: Any) -> None:
        raise KeyboardInterrupt

    caplog.set_level(logging.CRITICAL, "tsignals")
    with WorkerPool(1, max_pending=1, overflow="raise") as pool, held(pool):
        pool.submit(int)  # it is full
        signal, sender = signal_to(Ear(), pool), Thing()
        sent = weakref.ref(sender)
        with uncollected(), receiver_failed.connect(interrupts):
            with contextlib.suppress(KeyboardInterrupt):
                signal.prepare(sender).submit()
            del sender
            assert sent() is None


# What an exception of the handler leaves in a finalizer that the collector runs, goes nowhere.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_submit_that_a_handler_leaves_resolves_all_in_the_end() -> None:
    """CPython 3.11 looks for signals after calls of more kinds than later ones do."""

    class Alarm(Exception): ...

    armed, unresolved = False, 0

    def handler(number: int, frame: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Alarm

    former = signals.signal(signals.SIGALRM, handler)
    pool = WorkerPool(1, max_pending=1, overflow="raise")
    try:
        with quiet(), held(pool):
            pool.submit(int)  # it is full
            signal = signal_to(Ear(), pool)
            for n in range(VOLUME):
                prepared = signal.prepare(None)
                delivery = prepared.deliveries[0][1]
                try:
                    armed = True
                    signals.setitimer(signals.ITIMER_REAL, (1 + n % 60) * 2e-6)
                    prepared.submit()
                    armed = False
                except Alarm:
                    pass
                armed = False
                prepared.submit()
                prepared.drop()
                unresolved += not delivery.done()
    finally:
        signals.setitimer(signals.ITIMER_REAL, 0)
        signals.signal(signals.SIGALRM, former)
        pool.shutdown()
    assert unresolved == 0
