"""Deliveries and Delivery: waiting, collecting, cancelling; futures like any other."""

import asyncio
import concurrent.futures
import contextlib
import copy
import functools
import gc
import logging
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Future,
    InvalidStateError,
    ThreadPoolExecutor,
)
from typing import Any

import inside
import pytest
from event_loops import AsyncLatch
from failing import raised
from helpers import (
    TIMEOUT,
    BaseBoom,
    Boom,
    Ear,
    Latch,
    Running,
    Thing,
    assert_linear,
    ignore,
    raiser,
    steps,
    together,
    uncollected,
    wait_until,
)
from points import Handler
from pools import add_up, held, signal_to

from tsignals import Deliveries, DeliveryDropped, Outcomes, Signal, WorkerPool


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2) as pool:
        yield pool


@contextlib.contextmanager
def held_loop(pool: WorkerPool) -> Iterator[None]:
    """Hold the pool's event loop up."""
    entered, opened = threading.Event(), threading.Event()

    async def holds(**named: Any) -> None:
        entered.set()
        assert opened.wait(TIMEOUT)

    signal = signal_of(pool, holds)
    holding = signal.send_async(None)
    try:
        assert entered.wait(TIMEOUT)
        yield
    finally:
        opened.set()
        assert holding.wait(TIMEOUT)


def signal_of(pool: WorkerPool, *receivers: Callable[..., Any]) -> Signal:
    signal = Signal(executor=pool)
    for receiver in receivers:
        signal.connect(receiver, weak=False)
    return signal


# Collecting


def test_futures_are_the_deliveries_alone(pool: WorkerPool) -> None:
    deliveries = signal_of(pool, Ear(), Ear()).send_async(None)
    futures = deliveries.futures
    assert futures == [deliveries[0][1], deliveries[1][1]]
    futures.clear()
    assert len(deliveries.futures) == 2


def test_results_are_pairs_in_receiver_order(pool: WorkerPool) -> None:
    gate, ear = Latch(), Ear(response="ear")
    deliveries = signal_of(pool, gate, ear).send_async(None)
    assert deliveries[1][1].result(TIMEOUT) == "ear"
    gate.opened.set()
    assert deliveries.results(TIMEOUT) == [(gate, "through"), (ear, "ear")]


def test_results_raise_at_the_first_failed_one_in_receiver_order(pool: WorkerPool) -> None:
    first, second = Boom("first"), BaseBoom("second")
    gate = Latch()

    def slow(**named: Any) -> None:
        gate()
        raise first

    deliveries = signal_of(pool, Ear(), slow, raiser(second)).send_async(None)
    assert deliveries[2][1].exception(TIMEOUT) is second
    gate.opened.set()
    with pytest.raises(Boom) as caught:
        deliveries.results(TIMEOUT)
    assert caught.value is first


def test_outcomes_collect_every_exception_of_a_delivery() -> None:
    with WorkerPool(1, max_pending=3, overflow="drop_oldest") as pool:
        error, last = Boom(), BaseBoom()
        ear, raises, dropped, cancelled = Ear(), raiser(error), Ear(), raiser(last)
        signal, other = signal_of(pool, ear, raises), signal_of(pool, dropped)
        with held(pool):
            deliveries = Deliveries()
            deliveries += other.send_async(None)
            deliveries += signal.send_async(None)
            deliveries += signal_of(pool, cancelled).send_async(None)
            assert deliveries[3][1].cancel()
            deliveries += signal_of(pool, cancelled).send_async(None)
        outcomes = deliveries.outcomes(TIMEOUT)
    assert type(outcomes) is Outcomes
    assert [receiver for receiver, _ in outcomes] == [dropped, ear, raises, cancelled, cancelled]
    assert [type(outcome) for _, outcome in outcomes] == [
        DeliveryDropped,
        type(None),
        Boom,
        CancelledError,
        BaseBoom,
    ]
    assert [receiver for receiver, _ in outcomes.errors] == [dropped, raises, cancelled, cancelled]
    with pytest.raises(BaseExceptionGroup) as caught:
        outcomes.raise_errors()
    assert len(caught.value.exceptions) == 4


def test_outcomes_of_success_have_no_errors(pool: WorkerPool) -> None:
    outcomes = signal_of(pool, Ear(response=Boom("returned"))).send_async(None).outcomes(TIMEOUT)
    assert outcomes.errors == []
    assert outcomes.raise_errors() is None


def test_as_completed_takes_no_lock_that_an_interrupt_could_leave_held(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a condition may from CPython 3.14 on; a worker would wait for it."""
    entered = list[None]()
    gate, enter = Latch(), threading.Condition.__enter__
    deliveries = signal_to(gate, pool).send_async(None)
    assert gate.entered.wait(TIMEOUT)
    main = threading.get_ident()

    def enters(condition: threading.Condition) -> bool:
        if threading.get_ident() == main:
            entered.append(None)
        return enter(condition)

    completed = deliveries.as_completed(TIMEOUT)
    gate.opened.set()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Condition, "__enter__", enters)
        assert next(completed) == deliveries[0]
    assert entered == []


def test_as_completed_yields_pairs_as_they_are_done(pool: WorkerPool) -> None:
    gate, ear, raises = Latch(), Ear(), raiser(Boom())
    deliveries = signal_of(pool, gate, ear, raises).send_async(None)
    completed = deliveries.as_completed(TIMEOUT)
    first = [next(completed), next(completed)]
    assert sorted(map(id, (receiver for receiver, _ in first))) == sorted(map(id, (ear, raises)))
    assert all(delivery.done() for _, delivery in first)
    gate.opened.set()
    assert next(completed) == deliveries[0]
    assert next(completed, None) is None


def test_every_way_to_wait_can_be_used_again_and_together(pool: WorkerPool) -> None:
    deliveries = signal_of(pool, ear := Ear(response=1)).send_async(None)
    for _ in range(2):
        assert deliveries.results(TIMEOUT) == [(ear, 1)]
        assert deliveries.outcomes(TIMEOUT) == [(ear, 1)]
        assert list(deliveries.as_completed(TIMEOUT)) == deliveries
        assert deliveries.wait(TIMEOUT) is True


def test_no_deliveries_are_done() -> None:
    deliveries = Deliveries()
    assert deliveries.wait(0) is True
    assert deliveries.results(0) == []
    assert deliveries.outcomes(0) == []
    assert list(deliveries.as_completed(0)) == []
    assert deliveries.cancel() == 0
    assert deliveries.futures == []


# Time


@pytest.mark.parametrize("seconds", [0, 0.0, 0.02, -1])
def test_expired_timeout_raises_and_cancels_nothing(seconds: float, pool: WorkerPool) -> None:
    gate, ear = Latch(), Ear()
    deliveries = signal_of(pool, gate, ear).send_async(None)
    assert deliveries.wait(seconds) is False
    for wait in (deliveries.results, deliveries.outcomes):
        with pytest.raises(TimeoutError):
            wait(seconds)
    with pytest.raises(TimeoutError):
        list(deliveries.as_completed(seconds))
    for method in (deliveries[0][1].result, deliveries[0][1].exception):
        with pytest.raises(TimeoutError):
            method(seconds)
    gate.opened.set()
    assert deliveries.results(TIMEOUT) == [(gate, "through"), (ear, None)]


def test_timeout_is_for_all_together(pool: WorkerPool) -> None:
    """What the first used up the others do not get: with none left, they must be done."""
    gates = [Latch(), Latch()]
    deliveries = signal_of(pool, *gates).send_async(None)
    assert all(gate.entered.wait(TIMEOUT) for gate in gates)
    waiting = Running(deliveries.wait, 0.2)
    assert waiting.result() is False
    for gate in gates:
        gate.opened.set()
    assert deliveries.wait(TIMEOUT)


def test_receivers_own_timeout_error_is_its_outcome(pool: WorkerPool) -> None:
    error = TimeoutError("the receiver's")
    deliveries = signal_of(pool, raiser(error)).send_async(None)
    assert deliveries.wait(TIMEOUT) is True
    with pytest.raises(TimeoutError) as caught:
        deliveries.results(TIMEOUT)
    assert caught.value is error
    assert deliveries.outcomes(TIMEOUT)[0][1] is error


# Cancelling


def test_cancel_counts_what_had_not_started(pool: WorkerPool) -> None:
    gates = [Latch(), Latch()]
    signal = signal_of(pool, *gates, ear := Ear(), Ear())
    deliveries = signal.send_async(None)
    assert all(gate.entered.wait(TIMEOUT) for gate in gates)
    assert deliveries.cancel() == 2
    assert deliveries.cancel() == 0
    assert [delivery.cancelled() for delivery in deliveries.futures] == [False, False, True, True]
    for gate in gates:
        gate.opened.set()
    assert pool.drain(TIMEOUT)
    assert deliveries.cancel() == 0
    assert ear.calls == []
    assert (pool.stats().completed, pool.stats().cancelled) == (2, 2)


def test_cancelled_delivery_says_so_everywhere(pool: WorkerPool) -> None:
    with held(pool, 2):
        [(_, delivery)] = deliveries = signal_of(pool, Ear()).send_async(None)
        called = list[Future[Any]]()
        delivery.add_done_callback(called.append)
        assert delivery.cancel() is True
        assert delivery.cancel() is True
        assert called == [delivery]
        assert delivery.cancelled()
        assert delivery.done()
        assert not delivery.running()
        for method in (delivery.result, delivery.exception):
            with pytest.raises(CancelledError):
                method(0)
        with pytest.raises(CancelledError):
            deliveries.results(0)
        assert deliveries.wait(0)
        assert concurrent.futures.wait([delivery], 0).done == {delivery}


def test_running_or_ended_delivery_cannot_be_cancelled(pool: WorkerPool) -> None:
    gate = Latch()
    [(_, delivery)] = signal_of(pool, gate).send_async(None)
    assert gate.entered.wait(TIMEOUT)
    assert delivery.running()
    assert delivery.cancel() is False
    gate.opened.set()
    assert delivery.result(TIMEOUT) == "through"
    assert delivery.cancel() is False
    assert not delivery.running()
    assert pool.stats().cancelled == 0


async def hears(**named: Any) -> None: ...


WAYS: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]] = {
    "plain": (ignore, {}, {}),
    "ordered": (ignore, {"ordered": True}, {}),
    "tracked": (ignore, {"tracked": True}, {}),
    "around": (ignore, {}, {"around": contextlib.nullcontext}),
    "async": (hears, {}, {}),
    "submit": (ignore, {}, {}),
}
every_way = pytest.mark.parametrize("way", WAYS)
ORDERS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "first to last": lambda futures: futures,
    "last to first": lambda futures: futures[::-1],
    "from the middle": lambda futures: futures[len(futures) // 2 :] + futures[: len(futures) // 2],
    "from both ends": lambda futures: [f for two in zip(futures, futures[::-1]) for f in two],  # noqa: B905
}


class Counted(list[Any]):
    """A list that counts what is looked at in it."""

    looks = 0

    def __iter__(self) -> Iterator[Any]:
        for each in super().__iter__():
            self.looks += 1
            yield each

    def __reversed__(self) -> Iterator[Any]:
        for each in super().__reversed__():
            self.looks += 1
            yield each


def pending(pool: WorkerPool, way: str, n: int) -> list[Any]:
    """``n`` deliveries, of one send where they are; none has started."""
    if way == "submit":
        return [pool.submit(int) for _ in range(n)]
    receiver, terms, _ = WAYS[way]
    signal = Signal(executor=pool)
    for k in range(n):
        signal.connect(receiver, weak=False, dispatch_uid=f"number {k}", **terms)
    return list(signal.send_async(None).futures)


@pytest.mark.slow
@pytest.mark.unmeasured
@every_way
@pytest.mark.parametrize("order", ORDERS)
def test_each_that_is_cancelled_costs_the_same(way: str, order: str) -> None:
    def cancel(n: int) -> int:
        _, _, arguments = WAYS[way]
        with WorkerPool(1, max_pending=None, **arguments) as pool, contextlib.ExitStack() as stack:
            stack.enter_context(held(pool))
            if way == "async":
                stack.enter_context(held_loop(pool))
            futures = pending(pool, way, n)
            looks = Counted()
            if way == "plain":
                looks = inside.replace_siblings(futures[0], Counted)
            count = steps(lambda: [future.cancel() for future in ORDERS[order](futures)])
            assert all(future.cancelled() for future in futures)
            return count + looks.looks

    assert_linear(cancel, 60)


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("way", [way for way in WAYS if way != "async"])
def test_what_is_sent_while_another_cancels_runs_after_what_was_sent_before(way: str) -> None:
    """A handler sends in the middle of a cancel, at one point of it after another."""
    at, reached = 1, True
    while reached:
        _, terms, arguments = WAYS[way]
        ran = list[int]()

        def receiver(n: int, ran: list[int] = ran, **named: Any) -> None:
            ran.append(n)

        with WorkerPool(1, max_pending=None, **arguments) as pool:

            def send(n: int) -> Any:
                if way == "submit":
                    return pool.submit(ran.append, n)
                signal = Signal(executor=pool)
                # Each its own function: its own lane.
                each = functools.partial(receiver)
                signal.connect(each, weak=False, **terms)
                return signal.send_async(None, n=n)[0][1]

            with held(pool):
                early = [send(n) for n in range(20)]
                doomed = [send(-1) for _ in range(128)]
                for future in doomed[1:]:
                    future.cancel()
                with Handler(at, lambda: send(20)) as handler:
                    doomed[0].cancel()
                reached = handler.reached
            assert all(future.exception(TIMEOUT) is None for future in early)
            assert pool.drain(TIMEOUT)
        assert ran == [*range(20 + reached)], handler.where
        at += 5
    assert at > 20


def test_cancelling_frees_room_at_once() -> None:
    with WorkerPool(1, max_pending=2, overflow="raise") as pool, held(pool):
        signal = signal_of(pool, Ear(), Ear())
        for _ in range(10):
            assert signal.send_async(None).cancel() == 2
        assert pool.stats().pending == 0


@pytest.mark.slow
def test_delivery_either_runs_or_is_cancelled_however_close_they_come(pool: WorkerPool) -> None:
    ran = list[int]()
    signal = signal_of(pool, lambda n, **named: ran.append(n))
    expected = list[int]()
    for n in range(300):
        barrier = threading.Barrier(2)
        delivery: list[Future[Any]] = []

        def send(n: int = n) -> bool:
            delivery.append(signal.send_async(None, n=n)[0][1])
            barrier.wait(TIMEOUT)
            return False

        def cancel() -> bool:
            barrier.wait(TIMEOUT)
            return delivery[0].cancel()

        cancelled = together(send, cancel)[1]
        assert concurrent.futures.wait(delivery, TIMEOUT).not_done == set()
        assert delivery[0].cancelled() is cancelled
        if not cancelled:
            expected.append(n)
    assert ran == expected
    assert pool.drain(TIMEOUT)
    stats = pool.stats()
    assert (stats.completed, stats.cancelled) == (len(ran), 300 - len(ran))


def test_who_cancels_while_another_is_about_to_is_told_that_it_is_cancelled(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other has claimed it, and has yet to count it."""
    count, answers = inside.COUNT.now, list[bool]()
    with held(pool, 2):
        delivery = pool.submit(int)

        def late(core: Any, change: int) -> None:
            inside.COUNT.patch(monkeypatch, count)
            answers.append(Running(delivery.cancel).result())
            count(core, change)

        inside.COUNT.patch(monkeypatch, late)
        assert delivery.cancel()
    assert answers == [True]


def test_all_who_cancel_at_once_agree(pool: WorkerPool) -> None:
    with held(pool, 2):
        for _ in range(100):
            [(_, delivery)] = signal_of(pool, Ear()).send_async(None)
            assert together(*[delivery.cancel] * 3) == [True] * 3
        assert pool.stats().cancelled == 100


# Callbacks


def test_callback_is_called_once_when_done_or_at_once(pool: WorkerPool) -> None:
    called = list[str]()
    with held(pool, 2):
        [(_, delivery)] = signal_of(pool, Ear()).send_async(None)
        delivery.add_done_callback(lambda future: called.append("first"))
        delivery.add_done_callback(lambda future: called.append("second"))
        assert called == []
    delivery.result(TIMEOUT)
    wait_until(lambda: called == ["first", "second"])
    delivery.add_done_callback(lambda future: called.append("late"))
    assert called == ["first", "second", "late"]


def test_callback_runs_in_the_thread_that_resolves_the_delivery_or_here_if_it_is_done(
    pool: WorkerPool,
) -> None:
    where = dict[str, int]()

    def notes(name: str) -> Callable[[object], None]:
        return lambda future: where.setdefault(name, threading.get_ident())

    with held(pool, 2):
        ran = pool.submit(threading.get_ident)
        cancelled = pool.submit(int)
        ran.add_done_callback(notes("ran"))
        cancelled.add_done_callback(notes("cancelled"))
        canceller = Running(lambda: (cancelled.cancel(), threading.get_ident())).result()
    worker = ran.result(TIMEOUT)
    wait_until(lambda: "ran" in where)
    ran.add_done_callback(notes("late"))
    assert where == {"ran": worker, "cancelled": canceller[1], "late": threading.get_ident()}
    assert worker != threading.get_ident() != canceller[1]


def test_no_lock_is_held_while_a_callback_runs(pool: WorkerPool) -> None:
    """Another thread can do all there is to do, with that future too."""
    gate = Latch()
    with held(pool, 2):
        future = pool.submit(int)
        future.add_done_callback(lambda future: gate())
    assert gate.entered.wait(TIMEOUT)

    def use_everything() -> list[int]:
        future.add_done_callback(lambda future: None)
        assert future.done()
        assert not future.cancel()
        assert pool.stats().completed >= 1
        other = signal_of(pool, Ear(response=0)).send_async(None)
        return [future.result(TIMEOUT), other.results(TIMEOUT)[0][1]]

    try:
        assert Running(use_everything).result() == [0, 0]
    finally:
        gate.opened.set()


def test_callback_gets_the_delivery_when_it_is_done(pool: WorkerPool) -> None:
    got = list[Any]()
    with held(pool, 2):
        deliveries = signal_of(pool, Ear(response=1), raiser(Boom())).send_async(None)
        for delivery in deliveries.futures:
            delivery.add_done_callback(
                lambda future: got.append((future, future.done(), future.exception(0)))
            )
    deliveries.wait(TIMEOUT)
    assert pool.drain(TIMEOUT)
    wait_until(lambda: len(got) == 2)
    assert {entry[0] for entry in got} == set(deliveries.futures)
    assert all(entry[1] for entry in got)


def test_callback_that_raises_is_logged_and_the_others_are_called(
    pool: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    called = list[Any]()
    with held(pool, 2):
        [(_, delivery)] = signal_of(pool, Ear(response=1)).send_async(None)
        delivery.add_done_callback(raiser_of(Boom()))
        delivery.add_done_callback(called.append)
    assert delivery.result(TIMEOUT) == 1
    wait_until(lambda: called)
    [record] = [r for r in caplog.records if r.name == "concurrent.futures"]
    assert record.levelno == logging.ERROR
    assert pool.submit(int).result(TIMEOUT) == 0


def raiser_of(error: BaseException) -> Callable[[Any], None]:
    def callback(future: Any) -> None:
        raise error

    return callback


def test_callback_that_exits_stops_neither_worker_nor_pool(
    pool: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    called = list[Any]()
    for error in (SystemExit(), KeyboardInterrupt(), BaseBoom()):
        with held(pool, 2):
            [(_, delivery)] = signal_of(pool, Ear(response=1)).send_async(None)
            delivery.add_done_callback(raiser_of(error))
            delivery.add_done_callback(called.append)
        assert delivery.result(TIMEOUT) == 1
    wait_until(lambda: len(called) == 3)
    assert pool.stats().workers == 2
    assert add_up(pool.stats())
    with held(pool, 2):
        [(_, delivery)] = signal_of(pool, Ear(response=1)).send_async(None)
        delivery.add_done_callback(raiser_of(SystemExit()))
        pool.shutdown(wait=False)
    Running(pool.shutdown).result()


def test_callback_may_send_and_wait_again(pool: WorkerPool) -> None:
    answers = list[Any]()
    signal = signal_of(pool, Ear(response="again"))

    def callback(future: Any) -> None:
        answers.append(signal.send_async(None)[0][1].result(TIMEOUT))

    with held(pool, 2):
        [(_, delivery)] = signal.send_async(None)
        delivery.add_done_callback(callback)
    wait_until(lambda: answers == ["again"])


def test_chain_of_sends_from_callbacks_goes_on() -> None:
    with WorkerPool(8) as pool:
        left, over = [50], threading.Event()
        signal = signal_of(pool, Ear())

        def again(future: Any = None) -> None:
            if not left[0]:
                over.set()
                return
            left[0] -= 1
            signal.send_async(None)[0][1].add_done_callback(again)

        gate = Latch()
        pool.submit(gate).add_done_callback(again)
        gate.opened.set()
        assert over.wait(TIMEOUT)
        assert pool.drain(TIMEOUT)
        assert pool.stats().completed == 51


def test_worker_in_a_slow_callback_is_not_waited_for() -> None:
    """What is sent meanwhile runs in another, which is started for it."""
    with WorkerPool(2) as pool:
        begun, ran, answers = threading.Event(), threading.Event(), list[bool]()

        def slow(future: Any) -> None:
            begun.set()
            answers.append(ran.wait(TIMEOUT))

        gate = Latch()
        pool.submit(gate).add_done_callback(slow)
        gate.opened.set()
        assert begun.wait(TIMEOUT)
        pool.submit(ran.set)
        wait_until(lambda: answers)
        assert answers == [True]


def let_go_into_a_slow_callback(pool: WorkerPool, gate: Latch, callback: Latch) -> None:
    """The worker goes on from ``gate`` to ``callback``; what comes meanwhile, another one runs."""
    gate.opened.set()
    try:
        assert callback.entered.wait(TIMEOUT)
        assert pool.stats().idle == 0
        assert pool.submit(int).result(TIMEOUT) == 0
    finally:
        callback.opened.set()


@pytest.mark.parametrize(
    "sent",
    [
        lambda pool, work: signal_of(pool, work).send_async(None)[0][1],
        lambda pool, work: pool.submit(work),
    ],
    ids=["a delivery", "a function that was submitted"],
)
def test_worker_in_a_slow_callback_that_came_at_the_last_moment_is_not_waited_for(
    pool: WorkerPool, sent: Callable[[WorkerPool, Latch], Any]
) -> None:
    gate, callback = Latch(), Latch()

    class Counters(list[int]):
        def __setitem__(self, worker: int, counter: int) -> None:
            super().__setitem__(worker, counter)
            if gate.left.is_set() and not callback.entered.is_set() and not future.done():
                future.add_done_callback(lambda future: callback())

    # Where the worker counts the end, before it resolves.
    inside.replace_counters(pool, Counters())
    future = sent(pool, gate)
    assert gate.entered.wait(TIMEOUT)
    let_go_into_a_slow_callback(pool, gate, callback)


def test_slow_callback_may_wait_for_what_it_sends() -> None:
    with WorkerPool(4) as pool:
        ran, answers = threading.Event(), list[bool]()

        def slow(future: Any) -> None:
            pool.submit(ran.set)
            answers.append(ran.wait(TIMEOUT))

        gate = Latch()
        pool.submit(gate).add_done_callback(slow)
        gate.opened.set()
        wait_until(lambda: answers)
        assert answers == [True]
        assert pool.drain(TIMEOUT)
        assert add_up(pool.stats())


def test_callbacks_added_at_the_moment_it_ends_are_all_called(pool: WorkerPool) -> None:
    for _ in range(200):
        called = list[int]()
        [(_, delivery)] = signal_of(pool, Ear()).send_async(None)
        for n in range(3):
            delivery.add_done_callback(lambda future, n=n: called.append(n))
        delivery.result(TIMEOUT)
        wait_until(lambda: len(called) == 3)
        assert sorted(called) == [0, 1, 2]


# A future like any other


def test_wait_returns_when_it_was_told_to(pool: WorkerPool) -> None:
    gate, raises = Latch(), raiser(Boom())
    futures = signal_of(pool, gate, Ear(), raises).send_async(None).futures
    wait = concurrent.futures.wait
    assert futures[0] in wait(futures, TIMEOUT, FIRST_COMPLETED).not_done
    assert futures[2] in wait(futures, TIMEOUT, FIRST_EXCEPTION).done
    assert wait(futures, 0.01, ALL_COMPLETED).not_done == {futures[0]}
    gate.opened.set()
    assert wait(futures, TIMEOUT).not_done == set()
    assert wait(futures, 0).done == set(futures)


def test_deliveries_and_futures_of_others_are_waited_for_together(pool: WorkerPool) -> None:
    gate = Latch()
    with ThreadPoolExecutor(1) as other:
        ours = signal_of(pool, gate, Ear()).send_async(None).futures
        theirs = other.submit(gate)
        futures = [*ours, theirs]
        wait_until(lambda: concurrent.futures.wait(futures, 0.01).done == {ours[1]})
        waiting = [Running(concurrent.futures.wait, futures, TIMEOUT) for _ in range(3)]
        completing = Running(lambda: list(concurrent.futures.as_completed(futures, TIMEOUT)))
        gate.opened.set()
        assert all(thread.result().not_done == set() for thread in waiting)
        assert set(completing.result()) == set(futures)


def test_many_wait_for_one_in_every_way_at_once(pool: WorkerPool) -> None:
    for _ in range(30):
        gate = Latch()
        deliveries = signal_of(pool, gate).send_async(None)
        delivery = deliveries[0][1]
        waiting: list[Running[Any]] = [
            Running(delivery.result, TIMEOUT),
            Running(delivery.exception, TIMEOUT),
            Running(concurrent.futures.wait, [delivery], TIMEOUT),
            Running(lambda: list(concurrent.futures.as_completed([delivery], TIMEOUT))),
            Running(deliveries.wait, TIMEOUT),
        ]
        gate.opened.set()
        assert waiting[0].result() == "through"
        assert waiting[1].result() is None
        assert waiting[2].result().done == {delivery}
        assert waiting[3].result() == [delivery]
        assert waiting[4].result() is True


def test_result_is_seen_by_whoever_waits_whenever_they_come(pool: WorkerPool) -> None:
    """The wait begins at every moment from before the start to after the end."""
    signal = signal_of(pool, Ear(response=1))
    ways: list[Callable[[Any], Any]] = [
        lambda d: d[0][1].result(TIMEOUT),
        lambda d: concurrent.futures.wait(d.futures, TIMEOUT).done.pop().result(0),
        lambda d: next(d.as_completed(TIMEOUT))[1].result(0),
        lambda d: d.outcomes(TIMEOUT)[0][1],
    ]
    for n in range(1200):
        assert ways[n % 4](signal.send_async(None)) == 1


def test_wait_in_the_middle_of_another_leaves_that_one_what_it_saw(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a signal handler's is; the outer one holds the conditions of its futures by then."""
    install = concurrent.futures._base._create_and_install_waiters
    seen = list[Any]()

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.undo()
        gate.opened.set()
        seen.append(concurrent.futures.wait(futures, TIMEOUT))
        seen.append([future._state for future in futures])
        return install(*arguments)

    gate = Latch()
    futures = signal_of(pool, gate).send_async(None).futures
    assert gate.entered.wait(TIMEOUT)
    monkeypatch.setattr(concurrent.futures._base, "_create_and_install_waiters", interrupted)
    assert concurrent.futures.wait(futures, TIMEOUT).done == set(futures)
    assert seen == [(set(futures), set()), ["RUNNING"]]
    assert [future._state for future in futures] == ["FINISHED"]


def test_what_a_finalizer_waits_for_as_others_are_told_of_an_end_is_refused() -> None:
    """The worker would sleep before it has told the rest."""
    errors = list[BaseException | None]()

    class Finalized:
        def add_result(self, future: object) -> None:
            errors.append(raised(never.result, 0.01))

    with WorkerPool(1) as busy, WorkerPool(1) as pool, held(busy), held(pool) as gate:
        never, future = busy.submit(int), pool.submit(int)
        inside.install(future, Finalized())
        gate.opened.set()
        assert future.result(TIMEOUT) == 0
        wait_until(lambda: errors)
    [error] = errors
    assert isinstance(error, RuntimeError)
    assert "cannot wait in result()" in str(error)


def test_asyncio_wraps_a_delivery(pool: WorkerPool) -> None:
    async def main() -> None:
        gate = Latch()
        deliveries = signal_of(pool, gate, raiser(Boom()), Ear()).send_async(None)
        wrapped = [asyncio.wrap_future(future) for future in deliveries.futures]
        with pytest.raises(Boom):
            await wrapped[1]
        assert not wrapped[0].done()
        gate.opened.set()
        assert await wrapped[0] == "through"
        assert await wrapped[2] is None

    asyncio.run(main())


def test_cancelling_the_wrapper_cancels_what_has_not_started(pool: WorkerPool) -> None:
    async def main() -> None:
        with held(pool, 2):
            [(_, delivery)] = signal_of(pool, Ear()).send_async(None)
            asyncio.wrap_future(delivery).cancel()
            await asyncio.sleep(0)
            assert delivery.cancelled()

    asyncio.run(main())


def test_only_its_pool_resolves_a_delivery(pool: WorkerPool) -> None:
    gate = Latch()
    deliveries = signal_of(pool, gate, Ear(response=1)).send_async(None)
    with held(pool):
        assert gate.entered.wait(TIMEOUT)
        for _, delivery in deliveries:
            with pytest.raises(InvalidStateError):
                delivery.set_result(2)
            with pytest.raises(InvalidStateError):
                delivery.set_exception(Boom())
            with pytest.raises(InvalidStateError):
                delivery.set_running_or_notify_cancel()
        gate.opened.set()
    assert [result for _, result in deliveries.results(TIMEOUT)] == ["through", 1]
    with held(pool, 2):
        [(_, delivery)] = signal_of(pool, Ear()).send_async(None)
        delivery.cancel()
        assert delivery.set_running_or_notify_cancel() is False
    assert pool.drain(TIMEOUT)
    assert add_up(pool.stats())


TERMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ordered": {"ordered": True},
    "tracked": {"tracked": True},
}


def mail(gate: Latch, error: Exception | None = None) -> Callable[..., Any]:
    def mail(**named: Any) -> None:
        gate()
        if error is not None:
            raise error

    mail.__qualname__ = "mail"
    return mail


def async_mail(gate: AsyncLatch, error: Exception | None = None) -> Callable[..., Any]:
    async def mail(**named: Any) -> None:
        await gate()
        if error is not None:
            raise error

    mail.__qualname__ = "mail"
    return mail


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("error", [None, Boom("secret")])
def test_repr_names_receiver_signal_and_state(
    terms: str, kind: str, error: Exception | None
) -> None:
    gate: Latch = Latch() if kind == "sync" else AsyncLatch()
    make: Any = mail if kind == "sync" else async_mail
    with WorkerPool(1) as pool:
        signal = Signal(name="shop.order_placed", executor=pool)
        receiver = make(gate, error)
        signal.connect(receiver, **TERMS[terms])
        with held(pool):
            [(_, delivery)] = signal.send_async(None)
            if kind == "sync":
                assert repr(delivery) == "<Delivery of mail for 'shop.order_placed', pending>"
        assert gate.entered.wait(TIMEOUT)
        assert repr(delivery) == "<Delivery of mail for 'shop.order_placed', running>"
        gate.opened.set()
        delivery.exception(TIMEOUT)
        end = "finished" if error is None else "finished, raised Boom"
        assert repr(delivery) == f"<Delivery of mail for 'shop.order_placed', {end}>"
        with held(pool):
            deliveries = signal.send_async(None)
            if deliveries.cancel():
                wait_until(deliveries[0][1].done)
        expected = "<Delivery of mail for 'shop.order_placed', cancelled>"
        assert repr(deliveries[0][1]) == expected or kind == "async"


class Unnameable:
    """What will not be asked for anything."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__qualname__":
            raise Boom(name)
        return super().__getattribute__(name)

    def __repr__(self) -> str:
        raise Boom

    def __call__(self, /, **named: Any) -> None:
        pass


def test_repr_neither_raises_nor_asks_for_more_than_a_name(pool: WorkerPool) -> None:
    signal = Signal(executor=pool)
    odd = Unnameable()
    connection = signal.connect(functools.partial(odd), weak=False)
    [(_, delivery)] = signal.send_async(odd, value=odd)
    delivery.result(TIMEOUT)
    assert repr(delivery).startswith("<Delivery of <Unnameable> for ")
    assert repr(connection).startswith("<Connection of <Unnameable> for ")


# asyncio


def test_deliveries_are_hashed_by_identity_and_compared_as_lists(pool: WorkerPool) -> None:
    signal = signal_of(pool, Ear())
    first, second = signal.send_async(None), signal.send_async(None)
    same = Deliveries(first)
    assert {first: 1, second: 2, same: 3}[first] == 1
    assert len({first, second, same, first}) == 3
    assert first == same == list(first)
    assert first != second
    assert len({Signal().send_async(None), Signal().send_async(None)}) == 2


@pytest.mark.parametrize("count", [0, 1, 3])
def test_asyncio_takes_deliveries_as_it_takes_any_awaitable(count: int, pool: WorkerPool) -> None:
    """Also several of nothing, which are equal."""
    ears = [Ear(response=n) for n in range(count)]
    signal = signal_of(pool, *ears)
    expected = [(ear, n) for n, ear in enumerate(ears)]

    async def main() -> None:
        def some() -> list[Deliveries]:
            return [signal.send_async(None) for _ in range(3)]

        assert await asyncio.gather(*some()) == [expected] * 3
        again = signal.send_async(None)
        assert await asyncio.gather(again, again) == [expected] * 2
        assert await asyncio.wait_for(signal.send_async(None), TIMEOUT) == expected
        assert await asyncio.shield(signal.send_async(None)) == expected
        completed = asyncio.as_completed(some(), timeout=TIMEOUT)
        assert [await each for each in completed] == [expected] * 3
        tasks = [asyncio.ensure_future(deliveries) for deliveries in some()]
        done, pending = await asyncio.wait(tasks, timeout=TIMEOUT)
        assert ([task.result() for task in done], pending) == ([expected] * 3, set())
        async with asyncio.TaskGroup() as group:
            made = [group.create_task(awaiting(deliveries)) for deliveries in some()]
        assert [task.result() for task in made] == [expected] * 3

    async def awaiting(deliveries: Deliveries) -> Any:
        return await deliveries

    asyncio.run(main())


def test_gather_raises_a_failed_ones_error_and_waits_no_longer(pool: WorkerPool) -> None:
    error, gate = Boom(), Latch()

    async def main() -> None:
        failing, slow = signal_of(pool, raiser(error)), signal_of(pool, gate)
        with pytest.raises(Boom) as caught:
            await asyncio.gather(failing.send_async(None), slow.send_async(None))
        assert caught.value is error
        sent = slow.send_async(None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sent, 0.01)
        assert not sent[0][1].cancelled()  # who stops waiting cancels nothing
        gate.opened.set()

    asyncio.run(main())


def test_done_delivery_and_its_error_leave_no_cycle(pool: WorkerPool) -> None:
    """They go when the last reference does, without the collector."""
    with uncollected():
        for receiver in (Ear(response=Thing()), raiser(Boom())):
            deliveries = signal_of(pool, receiver).send_async(None)
            deliveries.wait(TIMEOUT)
            concurrent.futures.wait(deliveries.futures, TIMEOUT)
            list(deliveries.as_completed(TIMEOUT))
            deliveries.outcomes(TIMEOUT)
            with_errors = deliveries[0][1].exception(0)
            del with_errors
            assert pool.drain(TIMEOUT)
            reference = weakref.ref(deliveries[0][1])
            del deliveries
            wait_until(lambda: reference() is None)


def test_done_delivery_does_not_keep_what_its_siblings_callbacks_hold(pool: WorkerPool) -> None:
    gates, value = (Latch(), Latch()), Thing()
    reference = weakref.ref(value)
    with uncollected():
        first, second = signal_of(pool, *gates).send_async(None).futures
        first.add_done_callback(functools.partial(lambda value, future: None, value))
        for gate in gates:
            gate.opened.set()
        for delivery in (first, second):
            delivery.result(TIMEOUT)
        assert pool.drain(TIMEOUT)
        del first, delivery, value
        wait_until(lambda: reference() is None)
        assert second.done()


def test_values_are_let_go_when_all_are_done_though_a_callback_still_runs() -> None:
    gates, callback, value = (Latch(), Latch()), Latch(), Thing()
    reference = weakref.ref(value)
    with WorkerPool(2) as pool:
        deliveries = signal_of(pool, *gates).send_async(None, value=value)
        deliveries[0][1].add_done_callback(lambda future: callback())
        assert all(gate.entered.wait(TIMEOUT) for gate in gates)
        try:
            gates[0].opened.set()
            assert callback.entered.wait(TIMEOUT)
            gates[1].opened.set()
            assert deliveries[1][1].result(TIMEOUT) == "through"
            del value
            wait_until(lambda: reference() is None)
        finally:
            callback.opened.set()


@pytest.mark.parametrize("way", ["submit", "tracked", "ordered", "around"])
def test_error_and_its_future_leave_no_cycle_however_it_is_run(way: str) -> None:
    def raises(**named: Any) -> None:
        raise Boom

    around = contextlib.nullcontext if way == "around" else None
    with WorkerPool(1, around=around) as pool:
        signal = Signal(executor=pool)
        signal.connect(raises, tracked=way == "tracked", ordered=way == "ordered")
        with uncollected():
            future = pool.submit(raises) if way == "submit" else signal.send_async(None)[0][1]
            assert isinstance(future.exception(TIMEOUT), Boom)
            reference = weakref.ref(future)
            del future
            wait_until(lambda: reference() is None)


@pytest.mark.parametrize("kind", [Latch, AsyncLatch])
def test_cancelling_in_vain_leaves_nothing_in_a_delivery_that_goes_on(
    kind: type[Latch], pool: WorkerPool
) -> None:
    gate = kind()
    delivery: Any
    [(_, delivery)] = signal_of(pool, gate).send_async(None)
    assert gate.entered.wait(TIMEOUT)
    for _ in range(1000):
        cancelled = delivery.cancel() if kind is Latch else inside.cancel_unstarted(delivery)
        assert cancelled is False
    assert len(inside.claims_of(delivery)) < 100
    gate.opened.set()
    assert delivery.result(TIMEOUT) == "through"


def test_waiting_leaves_nothing_in_a_delivery_that_goes_on(pool: WorkerPool) -> None:
    gate = Latch()
    deliveries = signal_of(pool, gate).send_async(None)
    delivery = deliveries[0][1]
    for _ in range(20):
        deliveries.wait(0)
        concurrent.futures.wait([delivery], 0)
        with pytest.raises(TimeoutError):
            list(deliveries.as_completed(0))
    referrers = [r for r in gc.get_referrers(delivery) if type(r).__name__.endswith("Waiter")]
    assert referrers == []
    gate.opened.set()
    assert deliveries.wait(TIMEOUT)


@pytest.mark.parametrize("first", ["own", "other"])
def test_as_completed_in_a_worker_leaves_what_is_of_another_pool_to_that(first: str) -> None:
    """Or it would run beside that pool's workers, and without their initializer."""
    here = threading.local()

    def say(**named: Any) -> str:
        return str(getattr(here, "initialized", "not initialized"))

    gate = Latch()
    with (
        WorkerPool(1) as pool,
        WorkerPool(
            1, initializer=here.__setattr__, initargs=("initialized", "as it should")
        ) as other,
    ):
        own, elsewhere = signal_to(say, pool), signal_to(say, other)
        held = signal_to(gate, other).send_async(None)

        def waits(**named: Any) -> list[Any]:
            sends = [own.send_async(None), elsewhere.send_async(None)]
            deliveries = Deliveries()
            for sent in sends if first == "own" else reversed(sends):
                deliveries += sent
            gate.opened.set()
            return sorted(each.result() for _, each in deliveries.as_completed(TIMEOUT))

        [(_, found)] = signal_to(waits, pool).send_async(None).results(TIMEOUT)
        assert found == ["as it should", "not initialized"]
        assert held.wait(TIMEOUT)


def test_copy_of_a_delivery_is_itself_and_it_is_not_pickled(pool: WorkerPool) -> None:
    [(_, delivery)] = signal_to(ignore, pool).send_async(None)
    assert copy.copy(delivery) is copy.deepcopy(delivery) is delivery
    with pytest.raises(TypeError, match="runs in this process"):
        pickle.dumps(delivery)
    assert delivery.result(TIMEOUT) is None
