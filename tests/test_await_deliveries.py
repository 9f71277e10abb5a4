"""await deliveries, async for, asyncio.wrap_future: waiting without holding up the event loop."""

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import inside
import pytest
from event_loops import AsyncLatch, async_raiser, every_loop, ignores, run, until
from helpers import (
    TIMEOUT,
    BaseBoom,
    Boom,
    Ear,
    Latch,
    Running,
    Thing,
    assert_gone,
    gil_is_on,
    ignore,
    raiser,
    together,
    uncollected,
    wait_until,
)
from pools import held, signal_to, told

from tsignals import Deliveries, DeliveryDropped, Signal, WorkerPool

__all__ = ["every_loop"]


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2) as pool:
        yield pool


def gated(pool: WorkerPool, *kinds: type[Latch]) -> tuple[Signal, list[Latch]]:
    """A signal, and a gate of each of these kinds that it is connected to."""
    signal, gates = Signal(executor=pool), [kind() for kind in kinds]
    for gate in gates:
        signal.connect(gate, weak=False)
    return signal, gates


async def collected(deliveries: Deliveries) -> list[Any]:
    return [pair async for pair in deliveries]


both_ways = pytest.mark.parametrize("how", ["await", "async for"])


async def awaited(deliveries: Deliveries, how: str) -> list[Any]:
    return await (deliveries if how == "await" else collected(deliveries))


# Results


def test_await_gives_results_in_receiver_order(pool: WorkerPool) -> None:
    signal, gates = gated(pool, Latch, AsyncLatch, Latch)

    async def main() -> None:
        deliveries = signal.send_async(None)
        waiting = asyncio.ensure_future(awaited(deliveries, "await"))
        for gate in reversed(gates):
            gate.opened.set()
        assert await waiting == [(gate, "through") for gate in gates]
        assert await deliveries == deliveries.results(0)

    run(main())


def test_async_for_gives_results_as_they_complete(pool: WorkerPool) -> None:
    signal, gates = gated(pool, Latch, AsyncLatch, Latch)

    async def main() -> None:
        deliveries, left = signal.send_async(None), [gates[2], gates[1], gates[0]]
        left[0].opened.set()
        try:
            async for receiver, response in deliveries:
                assert (receiver, response) == (left.pop(0), "through")
                if left:
                    left[0].opened.set()
        finally:
            for gate in gates:
                gate.opened.set()
        assert left == []

    with WorkerPool(3) as three:
        signal.executor = three
        run(main())


@both_ways
def test_to_nobody_there_is_nothing_to_wait_for(how: str) -> None:
    async def main() -> None:
        assert await awaited(Signal().send_async(None), how) == []

    run(main())


@both_ways
def test_deliveries_may_be_awaited_again_and_from_several_loops(how: str, pool: WorkerPool) -> None:
    signal, [gate] = gated(pool, Latch)
    deliveries, start = signal.send_async(None), threading.Barrier(4)

    async def main() -> list[Any]:
        waiting = [asyncio.ensure_future(awaited(deliveries, how)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.to_thread(start.wait, TIMEOUT)
        return list(await asyncio.gather(*waiting))

    threads = [Running(lambda: run(main())) for _ in range(3)]
    start.wait(TIMEOUT)
    gate.opened.set()
    assert [thread.result() for thread in threads] == [[[(gate, "through")]] * 3] * 3
    assert run(main_again(deliveries, how)) == [(gate, "through")]


async def main_again(deliveries: Deliveries, how: str) -> list[Any]:
    return await awaited(deliveries, how)


@both_ways
def test_waiting_does_not_hold_up_the_loop(how: str, pool: WorkerPool) -> None:
    signal, gates = gated(pool, Latch, Latch, Latch)

    async def main() -> None:
        waiting = asyncio.ensure_future(awaited(signal.send_async(None), how))
        for gate in gates:
            await until(gate.entered)  # it could not be seen, and opened, by a loop that is blocked
            gate.opened.set()
        assert sorted(response for _, response in await waiting) == ["through"] * 3

    run(main())


@both_ways
def test_other_executors_deliveries_are_awaited_alike(how: str) -> None:
    ear, raising = Ear(response=1), raiser(Boom())
    with ThreadPoolExecutor(1) as executor, told():
        signal = Signal(executor=executor)
        signal.connect(ear)

        async def main() -> None:
            assert await awaited(signal.send_async(None), how) == [(ear, 1)]
            signal.connect(raising)
            with pytest.raises(Boom):
                await awaited(signal.send_async(None), how)

        run(main())


# Errors


@pytest.mark.parametrize("error", [Boom("second"), BaseBoom("second")])
def test_await_raises_at_the_first_that_failed_in_receiver_order(
    error: BaseException, pool: WorkerPool
) -> None:
    signal, [gate] = gated(pool, Latch)
    raising, later = raiser(error), async_raiser(Boom("third"))
    signal.connect(raising)
    signal.connect(later)

    async def waits() -> None:
        deliveries = signal.send_async(None)
        waiting = asyncio.ensure_future(awaited(deliveries, "await"))
        await asyncio.to_thread(concurrent.futures.wait, deliveries.futures[1:], TIMEOUT)
        assert not waiting.done()  # the first comes first
        gate.opened.set()
        with pytest.raises(type(error), match="second") as caught:
            await waiting
        assert caught.value is error

    run(waits())


def test_async_for_raises_a_failed_ones_error_in_its_turn_and_may_go_on(pool: WorkerPool) -> None:
    signal, gates = gated(pool, Latch, Latch)
    raising = raiser(Boom())
    signal.connect(raising, priority=1)

    async def main() -> None:
        results = aiter(signal.send_async(None))
        with pytest.raises(Boom):
            await anext(results)
        for gate in gates:
            gate.opened.set()
        assert sorted([(await anext(results))[1] for _ in gates]) == ["through"] * 2
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    run(main())


def test_async_for_is_not_ended_by_what_a_receiver_raises(pool: WorkerPool) -> None:
    error, ear = StopAsyncIteration(), Ear(response="heard")
    signal = signal_to(raiser(error), pool)
    signal.connect(ear)

    async def main() -> None:
        results, seen = aiter(signal.send_async(None)), list[Any]()
        for _ in range(2):
            try:
                seen.append((await anext(results))[1])
            except RuntimeError as raised:
                assert raised.__cause__ is error
                seen.append("raised")
        assert sorted(seen) == ["heard", "raised"]
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    run(main())


@both_ways
@pytest.mark.parametrize("kind", [Latch, AsyncLatch])
def test_cancelled_delivery_is_an_error_and_does_not_cancel_who_awaits_it(
    how: str, kind: type[Latch], pool: WorkerPool
) -> None:
    signal, _gates = gated(pool, kind)

    async def main() -> None:
        with held(pool, 2):
            deliveries = signal.send_async(None)
            waiting = asyncio.ensure_future(awaited(deliveries, how))
            await asyncio.sleep(0)
            assert deliveries.cancel() == 1
            with pytest.raises(concurrent.futures.CancelledError):
                await waiting
            assert not waiting.cancelled()

    run(main())


@both_ways
def test_dropped_delivery_is_an_error(how: str) -> None:
    with WorkerPool(1, max_pending=1, overflow="drop_newest") as pool, held(pool):
        signal_to(ignore, pool).send_async(None)

        async def main() -> None:
            with pytest.raises(DeliveryDropped):
                await awaited(signal_to(ignore, pool).send_async(None), how)

        run(main())


# Cancelling


@both_ways
@pytest.mark.parametrize("kind", [Latch, AsyncLatch])
def test_cancelling_who_awaits_cancels_no_delivery(
    how: str, kind: type[Latch], pool: WorkerPool
) -> None:
    signal, gates = gated(pool, kind, kind)

    async def main() -> None:
        deliveries = signal.send_async(None)
        waiting = asyncio.ensure_future(awaited(deliveries, how))
        await until(gates[0].entered)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await deliveries
        for gate in gates:
            gate.opened.set()
        assert await deliveries == [(gate, "through") for gate in gates]

    run(main())


def test_async_for_may_be_left_half_way(pool: WorkerPool, caplog: pytest.LogCaptureFixture) -> None:
    """The rest completes after the loop has been closed, and nobody complains."""
    caplog.set_level(logging.DEBUG)
    signal, gates = gated(pool, Latch, Latch)

    async def main() -> Deliveries:
        deliveries = signal.send_async(None)
        gates[0].opened.set()
        async for receiver, _ in deliveries:
            assert receiver is gates[0]
            break
        waiting = asyncio.ensure_future(awaited(deliveries, "await"))
        await asyncio.sleep(0)
        waiting.cancel()
        return deliveries

    deliveries = run(main())
    gates[1].opened.set()
    assert deliveries.results(TIMEOUT) == [(gate, "through") for gate in gates]
    assert pool.drain(TIMEOUT)
    assert [record for record in caplog.records if record.name == "concurrent.futures"] == []


def test_async_for_that_was_left_half_way_may_be_taken_up_again(pool: WorkerPool) -> None:
    signal, gates = gated(pool, Latch, AsyncLatch, Latch)

    async def main() -> None:
        left = aiter(signal.send_async(None))
        gates[1].opened.set()
        assert await anext(left) == (gates[1], "through")
        for gate in gates:
            gate.opened.set()
        rest = [receiver async for receiver, _ in left]
        assert sorted(map(id, rest)) == sorted(map(id, [gates[0], gates[2]]))

    run(main())


def test_anext_that_was_cancelled_loses_nothing(pool: WorkerPool) -> None:
    signal, [gate] = gated(pool, Latch)

    async def main() -> None:
        results = aiter(signal.send_async(None))
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await anext(results)
        gate.opened.set()
        assert await anext(results) == (gate, "through")

    run(main())


@pytest.mark.parametrize("consumers", [2, 5])
@pytest.mark.parametrize("receivers", [1, 3])
def test_who_goes_through_the_same_deliveries_as_another_comes_to_an_end(
    receivers: int, consumers: int, pool: WorkerPool
) -> None:
    """Each result goes to one of them. Who waited as another got the last waited for ever."""
    signal, gates = gated(pool, *[Latch] * receivers)

    async def main() -> None:
        results = aiter(signal.send_async(None))

        async def consume() -> list[Any]:
            return [receiver async for receiver, _ in results]

        tasks = [asyncio.ensure_future(consume()) for _ in range(consumers)]
        for gate in gates:
            await asyncio.sleep(0)
            gate.opened.set()
        consumed = await asyncio.gather(*tasks)
        assert {receiver for some in consumed for receiver in some} == set(gates)
        assert sum(map(len, consumed)) == receivers
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    run(main())


# wrap_future


@pytest.mark.parametrize("kind", [Latch, AsyncLatch])
def test_wrap_future_gives_the_result(kind: type[Latch], pool: WorkerPool) -> None:
    signal, [gate] = gated(pool, kind)
    error = Boom()

    async def main() -> None:
        wrapped = asyncio.wrap_future(signal.send_async(None)[0][1])
        await until(gate.entered)
        gate.opened.set()
        assert await wrapped == "through"
        for raising in (raiser(error), async_raiser(error)):
            with pytest.raises(Boom):
                await asyncio.wrap_future(signal_to(raising, pool).send_async(None)[0][1])

    run(main())


def test_cancelled_wrapper_cancels_an_async_delivery_that_runs(pool: WorkerPool) -> None:
    gate = AsyncLatch()
    [(_, delivery)] = signal_to(gate, pool).send_async(None)

    async def main() -> None:
        wrapped = asyncio.wrap_future(delivery)
        await until(gate.entered)
        wrapped.cancel()
        await until(gate.cancelled)

    run(main())
    with pytest.raises(concurrent.futures.CancelledError):
        delivery.result(TIMEOUT)


# Within a pool


@both_ways
def test_event_loop_in_a_worker_may_await_its_own_pools_deliveries(how: str) -> None:
    """What has not started runs there, for nobody else would."""
    with WorkerPool(1) as pool:
        ears = [Ear(response=1), Ear(response=2)]
        inner = Signal(executor=pool)
        for ear in ears:
            inner.connect(ear, ordered=True)
        inner.connect(ignores)

        def runs() -> Any:
            return run(main_again(inner.send_async(None), how))

        pairs = pool.submit(runs).result(TIMEOUT)
        assert sorted(pairs, key=lambda pair: pair[1] or 0) == [
            (ignores, None),
            (ears[0], 1),
            (ears[1], 2),
        ]


@pytest.mark.skipif(not gil_is_on(), reason="frames are left to the collector")
@both_ways
@pytest.mark.parametrize("ordered", [False, True])
def test_deliveries_that_a_worker_awaits_leave_no_cycle(how: str, ordered: bool) -> None:
    with WorkerPool(1) as pool:
        inner = Signal(executor=pool)
        inner.connect(ignore, ordered=ordered)
        senders = [Thing()]
        sent = weakref.ref(senders[0])

        def runs() -> None:
            run(main_again(inner.send_async(senders.pop()), how))

        with uncollected():
            pool.submit(runs).result(TIMEOUT)
            wait_until(lambda: sent() is None)


@pytest.mark.slow
def test_many_loops_await_deliveries_of_one_signal(pool: WorkerPool) -> None:
    ear = Ear(response="heard")
    signal = Signal(executor=pool)
    signal.connect(ear)
    signal.connect(ignores)
    expected = [(ear, "heard"), (ignores, None)]

    async def main() -> list[Any]:
        ways = ["await"] * 50 + ["async for"] * 50
        return list(await asyncio.gather(*(awaited(signal.send_async(None), h) for h in ways)))

    sends: list[Callable[[], list[Any]]] = [lambda: run(main())] * 4
    for results in together(*sends):
        assert results[:50] == [expected] * 50
        assert all(len(pairs) == 2 for pairs in results)
    assert len(ear.calls) == 400


async def _awaited(deliveries: Deliveries) -> list[Any]:
    return await deliveries


async def _gone_through(deliveries: Deliveries) -> list[Any]:
    return [pair async for pair in deliveries]


@pytest.mark.parametrize("waits", [_awaited, _gone_through], ids=["await", "async for"])
@pytest.mark.parametrize("where", ["outside", "in a worker"])
@pytest.mark.parametrize("executor", [WorkerPool, ThreadPoolExecutor])
def test_awaiting_again_and_again_leaves_nothing_behind(
    executor: Any, where: str, waits: Callable[[Deliveries], Any]
) -> None:
    latch = Latch()
    with executor(2) as pool, contextlib.ExitStack() as stack:
        stack.callback(latch.opened.set)
        signal = Signal(executor=pool)
        signal.connect(latch)
        deliveries = signal.send_async(None)
        [future] = cast(list[Any], deliveries.futures)
        assert latch.entered.wait(TIMEOUT)

        def left() -> object:
            if executor is WorkerPool:
                return inside.parked_at(future), inside.has_callbacks(future)
            return list(future._done_callbacks)

        with pytest.raises(TimeoutError):
            deliveries.results(0.0001)  # the first who waits makes something to wait on
        before = left()
        loops = list[Any]()

        async def main() -> None:
            loops.append(weakref.ref(asyncio.get_running_loop()))
            for _ in range(10):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(waits(deliveries), 0.0001)

        for _ in range(3):
            if where == "outside":
                asyncio.run(main())
            else:
                pool.submit(asyncio.run, main()).result(TIMEOUT)
        for loop in loops:
            assert_gone(loop)
        assert left() == before
        latch.opened.set()
        assert asyncio.run(waits(deliveries)) == [(latch, "through")]
