"""A worker waits for an async delivery, which awaits what stands in the queue: it runs there.

All workers may wait so. Nobody would run what they wait for, each by way of the event loop.
"""

import asyncio
import contextlib
import functools
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import inside
import pytest
from helpers import TIMEOUT, Boom, Latch, Running, assert_linear, steps, wait_until
from pools import held, signal_to

from tsignals import Deliveries, Retry, Signal, WorkerPool

Waits = Callable[[Signal], object]
Awaits = Callable[[Signal], Awaitable[object]]


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(1) as pool:
        yield pool


# -- How a worker waits, and how an async receiver awaits --


async def plainly(signal: Signal) -> object:
    return await signal.send_async(None)


async def one_by_one(signal: Signal) -> object:
    return [pair async for pair in signal.send_async(None)]


async def within_a_time(signal: Signal) -> object:
    async with asyncio.timeout(TIMEOUT):
        return await signal.send_async(None)


async def in_a_coroutine(signal: Signal) -> object:
    return [await plainly(signal), await one_by_one(signal)]


WAITS: dict[str, Waits] = {
    "results": lambda signal: signal.send_async(None).results(TIMEOUT),
    "outcomes": lambda signal: signal.send_async(None).outcomes(TIMEOUT).raise_errors(),
    "wait": lambda signal: signal.send_async(None).wait(TIMEOUT),
    "as_completed": lambda signal: [
        delivery.result(0) for _, delivery in signal.send_async(None).as_completed(TIMEOUT)
    ],
}
AWAITS: dict[str, Awaits] = {
    "await": plainly,
    "async for": one_by_one,
    "timeout": within_a_time,
    "coroutine": in_a_coroutine,
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("awaits", AWAITS)
@pytest.mark.parametrize("waits", WAITS)
def test_workers_that_all_wait_for_async_deliveries_run_what_these_await(
    waits: str, awaits: str, workers: int
) -> None:
    with WorkerPool(workers, max_pending=None) as pool:
        page, fetch, store = (Signal(executor=pool) for _ in range(3))
        stored = list[object]()

        async def fetches(**named: Any) -> None:
            await AWAITS[awaits](store)

        store.connect(lambda **named: stored.append(None), weak=False)
        fetch.connect(fetches)
        page.connect(lambda **named: WAITS[waits](fetch), weak=False)
        for deliveries in [page.send_async(None) for _ in range(3)]:
            deliveries.results(TIMEOUT)
        assert len(stored) == (6 if awaits == "coroutine" else 3)
    assert inside.workers_waiting() == 0


@pytest.mark.parametrize("depth", [1, 2, 5, 20])
def test_chain_of_sync_and_async_deliveries_ends_on_one_worker(
    depth: int, pool: WorkerPool
) -> None:
    signal = Signal(executor=pool)
    heard = list[int]()

    async def awaits(depth: int, **named: Any) -> None:
        if depth % 2:
            await signal.send_async(None, depth=depth - 1)
            heard.append(depth)

    def waits(depth: int, **named: Any) -> None:
        if depth and not depth % 2:
            signal.send_async(None, depth=depth - 1).results(TIMEOUT)
            heard.append(depth)

    signal.connect(awaits)
    signal.connect(waits)
    signal_to(
        lambda **named: signal.send_async(None, depth=depth).results(TIMEOUT), pool
    ).send_async(None).results(TIMEOUT)
    assert heard == [*range(1, depth + 1)]


@pytest.mark.parametrize("late", [False, True])
def test_it_runs_in_the_worker_that_waits_whenever_it_is_awaited(
    late: bool, pool: WorkerPool
) -> None:
    """Also where the worker sleeps already when the async receiver comes to await it."""
    latch, threads = Latch(), list[int]()
    store, fetch = Signal(executor=pool), Signal(executor=pool)
    store.connect(lambda **named: threads.append(threading.get_ident()), weak=False)

    async def fetches(**named: Any) -> None:
        if late:
            await asyncio.to_thread(latch)
        await store.send_async(None)

    fetch.connect(fetches)

    def waits(**named: Any) -> int:
        deliveries = fetch.send_async(None)
        if late:
            opening = Running(
                lambda: (
                    wait_until(lambda: inside.is_waited_for(deliveries[0][1])),
                    latch.opened.set(),
                )
            )
        deliveries.results(TIMEOUT)
        if late:
            opening.result()
        return threading.get_ident()

    [(_, worker)] = signal_to(waits, pool).send_async(None).results(TIMEOUT)
    assert threads == [worker]


def test_what_stands_before_it_in_its_lane_runs_first(pool: WorkerPool) -> None:
    store, fetch = Signal(executor=pool), Signal(executor=pool)
    heard = list[str]()
    store.connect(lambda sender, **named: heard.append(sender), weak=False, ordered=True)

    async def fetches(**named: Any) -> None:
        store.send_async("first")
        await store.send_async("second")

    fetch.connect(fetches)
    waits = lambda **named: fetch.send_async(None).results(TIMEOUT)  # noqa: E731
    signal_to(waits, pool).send_async(None).results(TIMEOUT)
    assert heard == ["first", "second"]


@pytest.mark.parametrize("awaits", ["await", "async for"])
def test_it_is_run_again_by_the_worker_that_waits(awaits: str, pool: WorkerPool) -> None:
    store, fetch = Signal(executor=pool), Signal(executor=pool)
    attempts = list[None]()

    def stores(**named: Any) -> int:
        attempts.append(None)
        if len(attempts) < 3:
            raise Boom
        return len(attempts)

    store.connect(stores, retry=Retry(Boom, wait_initial=0.01, wait_jitter=0))

    async def fetches(**named: Any) -> Any:
        return await AWAITS[awaits](store)

    fetch.connect(fetches)
    waits = lambda **named: fetch.send_async(None).results(TIMEOUT)  # noqa: E731
    [(_, [(_, [(_, last)])])] = signal_to(waits, pool).send_async(None).results(TIMEOUT)
    assert last == 3


def test_worker_runs_nothing_that_it_does_not_wait_for(pool: WorkerPool) -> None:
    """It may hold what another delivery needs."""
    latch, entered = Latch(), threading.Event()
    store, fetch = Signal(executor=pool), Signal(executor=pool)
    store.connect(lambda **named: entered.set(), weak=False)

    async def fetches(sender: str, **named: Any) -> None:
        if sender == "other":
            await store.send_async(None)
        else:
            await asyncio.to_thread(latch)

    fetch.connect(fetches)

    def waits(**named: Any) -> None:
        other = fetch.send_async("other")
        mine = fetch.send_async("mine")
        wait_until(lambda: inside.awaited_by(other[0][1]))
        with pytest.raises(TimeoutError):
            mine.results(0.05)
        assert not entered.is_set()
        latch.opened.set()
        mine.results(TIMEOUT)

    signal_to(waits, pool).send_async(None).results(TIMEOUT)
    assert entered.wait(TIMEOUT)


@pytest.mark.parametrize("way", ["task", "given up", "sent by another"])
def test_worker_runs_nothing_that_what_it_waits_for_does_not_await(
    way: str, pool: WorkerPool
) -> None:
    """It would wait for itself: it holds what that takes."""
    lock, latch, aside = threading.Lock(), Latch(), list[Any]()
    store, fetch = Signal(executor=pool), Signal(executor=pool)
    elsewhere = WorkerPool(1)

    def stores(**named: Any) -> None:
        assert lock.acquire(timeout=TIMEOUT)
        lock.release()

    def sends(**named: Any) -> None:
        store.send_async(None).results(TIMEOUT)

    async def fetches(**named: Any) -> None:
        if way == "task":
            aside.append(asyncio.ensure_future(plainly(store)))
        elif way == "given up":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await store.send_async(None)
        else:
            aside.append(signal_to(sends, elsewhere).send_async(None))
        await asyncio.to_thread(latch)

    store.connect(stores)
    fetch.connect(fetches)

    def waits(**named: Any) -> None:
        deliveries = fetch.send_async(None)
        assert latch.entered.wait(TIMEOUT)
        with lock:
            assert not deliveries.wait(0.05)
            latch.opened.set()
            deliveries.results(TIMEOUT)

    with elsewhere:
        signal_to(waits, pool).send_async(None).results(TIMEOUT)
        assert pool.drain(TIMEOUT)


@pytest.mark.parametrize("waits", WAITS)
def test_every_branch_of_what_is_awaited_is_looked_at(waits: str, pool: WorkerPool) -> None:
    """The one waits for what the other does once a delivery of its own has ended."""
    page, fetch, store = (Signal(executor=pool) for _ in range(3))
    store.connect(lambda **named: None, weak=False)
    second_is_there, outermost = list[asyncio.Event](), Signal(executor=pool)
    watched: list[Any] = []

    async def first(**named: Any) -> None:
        second_is_there.append(asyncio.Event())
        await store.send_async(None)
        await second_is_there[0].wait()

    async def second(**named: Any) -> None:
        await store.send_async(None)
        second_is_there[0].set()

    async def fetches(**named: Any) -> None:
        # The worker sleeps by then: it is told of this one, and not of the outermost.
        await asyncio.to_thread(wait_until, lambda: inside.is_waited_for(watched[0]))
        branches = fetch.send_async("branches")
        await asyncio.to_thread(
            wait_until, lambda: all(inside.awaited_by(each) for each in branches.futures)
        )
        async for _ in branches:
            pass

    async def awaits(**named: Any) -> None:
        [(_, delivery)] = deliveries = page.send_async(None)
        watched.append(delivery)
        await deliveries

    fetch.connect(first, "branches")
    fetch.connect(second, "branches")
    page.connect(fetches)
    outermost.connect(awaits)
    waiting = lambda **named: WAITS[waits](outermost)  # noqa: E731
    signal_to(waiting, pool).send_async(None).results(TIMEOUT)


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_lanes_that_are_awaited_both_are_looked_at(order: int, pool: WorkerPool) -> None:
    """The first delivery of one of them runs below, in the worker that waits."""
    mine, other, fetch = (Signal(executor=pool) for _ in range(3))

    async def takes_any(deliveries: Deliveries, **named: Any) -> Any:
        return await anext(aiter(deliveries))

    def waits(number: int, deliveries: Deliveries | None = None, **named: Any) -> Any:
        if number:
            return "mine"
        return fetch.send_async(None, deliveries=deliveries).results(TIMEOUT)[0][1][1]

    mine.connect(waits, ordered=True)
    other.connect(lambda number, **named: "other", weak=False, ordered=True)
    fetch.connect(takes_any)
    with held(pool):
        deliveries = Deliveries()
        [first] = mine.send_async(None, number=0, deliveries=deliveries)
        second = mine.send_async(None, number=1)
        others = [other.send_async(None, number=number)[0] for number in range(2)]
        deliveries += [*second, others[1]][::order]
    assert first[1].result(TIMEOUT) == "other"


def test_what_the_worker_runs_may_be_awaited_once_more(pool: WorkerPool) -> None:
    """The worker waits for who awaits it, and does not do so while it runs it."""
    store, fetch, started, go = (Signal(executor=pool), Signal(executor=pool), Latch(), Latch())
    store.connect(lambda **named: started(), weak=False)

    async def fetches(**named: Any) -> Any:
        await asyncio.to_thread(go)  # the worker sleeps by then
        stored = store.send_async(None)
        waiting = asyncio.ensure_future(asyncio.to_thread(started.entered.wait, TIMEOUT))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                waiting.add_done_callback(lambda _: limit.reschedule(0))
                await stored
        started.opened.set()
        return await stored

    fetch.connect(fetches)

    def waits(**named: Any) -> Any:
        deliveries = fetch.send_async(None)
        opening = Running(lambda: (wait_until(lambda: inside.workers_waiting()), go.opened.set()))
        try:
            return deliveries.results(TIMEOUT)
        finally:
            opening.result()

    [(_, [(_, [(_, response)])])] = signal_to(waits, pool).send_async(None).results(TIMEOUT)
    assert response == "through"


def test_what_is_given_up_while_the_worker_runs_another_is_not_run_by_it() -> None:
    """It may take what the worker holds."""
    with WorkerPool(2) as pool:
        fetch, slow, store = (Signal(executor=pool) for _ in range(3))
        lock, given_up, give_up = threading.Lock(), threading.Event(), list[Any]()

        def fails_late(**named: Any) -> None:
            give_up[0]()
            assert given_up.wait(TIMEOUT)
            raise Boom

        def stores(**named: Any) -> None:
            assert lock.acquire(timeout=TIMEOUT)
            lock.release()

        async def fetches(**named: Any) -> None:
            both = slow.send_async(None)
            both += store.send_async(None)
            results = aiter(both)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as limit:
                    loop = asyncio.get_running_loop()
                    now = functools.partial(limit.reschedule, 0)
                    give_up.append(functools.partial(loop.call_soon_threadsafe, now))
                    await anext(results)
            given_up.set()

        slow.connect(fails_late, retry=Retry(Boom, attempts=2, wait_initial=0.5))
        store.connect(stores)
        fetch.connect(fetches)

        def waits(**named: Any) -> None:
            with lock:
                fetch.send_async(None).results(TIMEOUT)

        with held(pool) as gate:
            [(_, waiting)] = signal_to(waits, pool).send_async(None)
            waiting.result(TIMEOUT)
            gate.opened.set()
        assert pool.drain(TIMEOUT)


def test_wait_that_may_not_last_runs_nothing(pool: WorkerPool) -> None:
    store, fetch, heard = Signal(executor=pool), Signal(executor=pool), list[None]()
    store.connect(lambda **named: heard.append(None), weak=False)

    async def fetches(**named: Any) -> None:
        await store.send_async(None)

    fetch.connect(fetches)

    def waits(**named: Any) -> None:
        deliveries = fetch.send_async(None)
        wait_until(lambda: inside.awaited_by(deliveries[0][1]))
        for _ in range(3):
            assert not deliveries.wait(0)
        assert heard == []
        deliveries.results(TIMEOUT)

    signal_to(waits, pool).send_async(None).results(TIMEOUT)
    assert heard == [None]


def test_circle_through_the_event_loop_is_an_error_and_not_a_hang(pool: WorkerPool) -> None:
    store, fetch, started = Signal(executor=pool), Signal(executor=pool), list[Deliveries]()

    def stores(**named: Any) -> None:
        started[0].results(TIMEOUT)  # which awaits this

    async def fetches(**named: Any) -> None:
        await store.send_async(None)

    store.connect(stores)
    fetch.connect(fetches)

    def waits(**named: Any) -> None:
        started.append(fetch.send_async(None))
        started[0].results(TIMEOUT)

    with pytest.raises(RuntimeError, match="wait for each other"):
        signal_to(waits, pool).send_async(None).results(TIMEOUT)


@pytest.mark.parametrize("awaits", AWAITS)
def test_it_is_told_when_what_it_awaits_fails(awaits: str, pool: WorkerPool) -> None:
    store, fetch = Signal(executor=pool), Signal(executor=pool)

    def stores(**named: Any) -> None:
        raise Boom

    async def fetches(**named: Any) -> None:
        await AWAITS[awaits](store)

    store.connect(stores)
    fetch.connect(fetches)
    waits = lambda **named: fetch.send_async(None).outcomes(TIMEOUT)  # noqa: E731
    [(_, outcomes)] = signal_to(waits, pool).send_async(None).results(TIMEOUT)
    error = outcomes[0][1]
    assert isinstance(error, Boom)


# -- What it costs --


def test_nothing_of_a_wait_stays_with_what_was_waited_for(pool: WorkerPool) -> None:
    latch, store, fetch = Latch(), Signal(executor=pool), Signal(executor=pool)
    store.connect(lambda **named: None, weak=False)

    async def fetches(**named: Any) -> None:
        await store.send_async(None)
        await asyncio.to_thread(latch)

    fetch.connect(fetches)

    def waits(**named: Any) -> Any:
        [(_, delivery)] = fetch.send_async(None)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                delivery.result(0.02)
        parked = inside.parked_at(delivery)
        latch.opened.set()
        delivery.result(TIMEOUT)
        return parked

    assert signal_to(waits, pool).send_async(None).results(TIMEOUT) == [(waits, 0)]
    assert inside.workers_waiting() == 0


@pytest.mark.slow
@pytest.mark.unmeasured
def test_each_in_a_chain_of_async_deliveries_costs_the_same() -> None:
    def count(n: int) -> int:
        with WorkerPool(1, max_pending=None) as pool:
            signal, store = Signal(executor=pool), Signal(executor=pool)
            store.connect(lambda **named: None, weak=False)

            async def awaits(left: int, **named: Any) -> None:
                if left:
                    await signal.send_async(None, left=left - 1)
                else:
                    await store.send_async(None)

            signal.connect(awaits)
            chain = lambda: signal.send_async(None, left=n).results(TIMEOUT)  # noqa: E731
            counted = lambda **named: steps(chain)  # noqa: E731
            [(_, found)] = signal_to(counted, pool).send_async(None).results(TIMEOUT)
            return int(found)

    assert_linear(count, 20)


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("awaits", ["await", "async for"])
@pytest.mark.parametrize("waits", ["results", "as_completed"])
def test_each_that_an_async_delivery_awaits_costs_a_waiting_worker_the_same(
    waits: str, awaits: str
) -> None:
    def count(n: int) -> int:
        with WorkerPool(1, max_pending=None) as pool:
            store, fetch = Signal(executor=pool), Signal(executor=pool)
            for _ in range(n):
                store.connect(lambda **named: None, weak=False)

            async def fetches(**named: Any) -> None:
                await AWAITS[awaits](store)

            fetch.connect(fetches)
            counted = lambda **named: steps(lambda: WAITS[waits](fetch))  # noqa: E731
            [(_, found)] = signal_to(counted, pool).send_async(None).results(TIMEOUT)
            return int(found)

    assert_linear(count, 20)
