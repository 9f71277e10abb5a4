"""A worker waits for an async delivery, which awaits what stands in the queue: it runs there.

All workers may wait so. Nobody would run what they wait for, each by way of the event loop.
"""

import asyncio
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


def in_a_loop_of_its_own(awaits: Awaits) -> Waits:
    async def limited(signal: Signal) -> None:
        async with asyncio.timeout(TIMEOUT):
            await awaits(signal)

    return lambda signal: asyncio.run(limited(signal))


async def plainly(signal: Signal) -> object:
    return await signal.send_async(None)


async def one_by_one(signal: Signal) -> object:
    return [pair async for pair in signal.send_async(None)]


async def gathered(signal: Signal) -> object:
    return await asyncio.gather(signal.send_async(None), signal.send_async(None))


async def in_a_task_group(signal: Signal) -> object:
    async with asyncio.TaskGroup() as group:
        return [group.create_task(plainly(signal)), group.create_task(one_by_one(signal))]


async def shielded(signal: Signal) -> object:
    return await asyncio.shield(asyncio.ensure_future(plainly(signal)))


async def within_a_time(signal: Signal) -> object:
    return await asyncio.wait_for(signal.send_async(None), TIMEOUT)


async def in_a_thread(signal: Signal) -> object:
    return await asyncio.to_thread(lambda: signal.send_async(None).results(TIMEOUT))


WAITS: dict[str, Waits] = {
    "results": lambda signal: signal.send_async(None).results(TIMEOUT),
    "outcomes": lambda signal: signal.send_async(None).outcomes(TIMEOUT).raise_errors(),
    "wait": lambda signal: signal.send_async(None).wait(TIMEOUT),
    "as_completed": lambda signal: [
        delivery.result(0) for _, delivery in signal.send_async(None).as_completed(TIMEOUT)
    ],
    "await": in_a_loop_of_its_own(plainly),
    "async for": in_a_loop_of_its_own(one_by_one),
    "gather": in_a_loop_of_its_own(gathered),
}
AWAITS: dict[str, Awaits] = {
    "await": plainly,
    "async for": one_by_one,
    "gather": gathered,
    "task group": in_a_task_group,
    "shield": shielded,
    "wait_for": within_a_time,
    "to_thread": in_a_thread,
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
        assert len(stored) in (3, 6, 12)
    assert inside.async_deliveries_that_run() == 0


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


def test_it_is_run_again_by_the_worker_that_waits(pool: WorkerPool) -> None:
    store, fetch = Signal(executor=pool), Signal(executor=pool)
    attempts = list[None]()

    def stores(**named: Any) -> int:
        attempts.append(None)
        if len(attempts) < 3:
            raise Boom
        return len(attempts)

    store.connect(stores, retry=Retry(Boom, wait_initial=0.01, wait_jitter=0))

    async def fetches(**named: Any) -> Any:
        return await store.send_async(None)

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
        wait_until(lambda: inside.awaited_on_behalf(other[0][1]))
        with pytest.raises(TimeoutError):
            mine.results(0.05)
        assert not entered.is_set()
        latch.opened.set()
        mine.results(TIMEOUT)

    signal_to(waits, pool).send_async(None).results(TIMEOUT)
    assert entered.wait(TIMEOUT)


def test_wait_that_may_not_last_runs_nothing(pool: WorkerPool) -> None:
    store, fetch, heard = Signal(executor=pool), Signal(executor=pool), list[None]()
    store.connect(lambda **named: heard.append(None), weak=False)

    async def fetches(**named: Any) -> None:
        await store.send_async(None)

    fetch.connect(fetches)

    def waits(**named: Any) -> None:
        deliveries = fetch.send_async(None)
        wait_until(lambda: inside.awaited_on_behalf(deliveries[0][1]))
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
    assert isinstance(error, ExceptionGroup if awaits == "task group" else Boom)


# -- What it costs --


def test_what_has_ended_does_not_stay_with_an_async_delivery_that_goes_on(pool: WorkerPool) -> None:
    store, most = Signal(executor=pool), list[int]()
    store.connect(lambda **named: None, weak=False)

    async def goes_on(**named: Any) -> None:
        for _ in range(200):
            await store.send_async(None)
            most.append(len(inside.awaited_on_behalf(running[0])))

    running: list[Any] = []
    with held(pool):
        [(_, delivery)] = deliveries = signal_to(goes_on, pool).send_async(None)
        running.append(delivery)
    deliveries.results(TIMEOUT)
    assert max(most) < 20
    assert inside.async_deliveries_that_run() == 0


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("awaits", ["await", "async for", "gather"])
@pytest.mark.parametrize("waits", ["results", "as_completed", "await"])
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
