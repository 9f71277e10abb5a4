"""Waiting for async deliveries, and their order."""

import asyncio
import concurrent.futures
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import inside
import pytest
from async_pools import held_loop, pool, responses
from event_loops import AsyncLatch, every_loop, ignores, until
from helpers import TIMEOUT, Boom, Ear, Latch, Running, ignore, wait_until
from pools import held, signal_to

from tsignals import Deliveries, PoolClosed, Signal, WorkerPool

__all__ = ["every_loop", "pool"]


def test_ordered_receiver_runs_one_at_a_time_in_the_order_of_the_sends(pool: WorkerPool) -> None:
    ran, running = list[int](), list[int]()

    async def hears(n: int, **named: Any) -> None:
        assert running == []
        running.append(n)
        await asyncio.sleep(0)
        await asyncio.to_thread(ignore)
        running.remove(n)
        ran.append(n)
        if n % 7 == 3:
            raise Boom

    signals = [signal_to(hears, pool, ordered=True) for _ in range(2)]
    deliveries = [signals[n % 2].send_async(None, n=n) for n in range(40)]
    deliveries[20].cancel()
    assert all(each.wait(TIMEOUT) for each in deliveries)
    assert ran == [n for n in range(40) if n != 20 or not deliveries[20][0][1].cancelled()]
    wait_until(lambda: not inside.lanes_of(pool))  # that is after the result


def test_ordered_receivers_of_other_lanes_go_on(pool: WorkerPool) -> None:
    gate, other = AsyncLatch(), AsyncLatch()
    other.opened.set()
    first = signal_to(gate, pool, ordered=True)
    waiting = [first.send_async(None) for _ in range(3)]
    assert gate.entered.wait(TIMEOUT)
    assert signal_to(other, pool, ordered=True).send_async(None).results(TIMEOUT)
    assert (gate.calls, pool.stats().pending, pool.stats().workers) == (1, 2, 0)
    assert waiting[1].cancel() == 1
    gate.opened.set()
    assert [each.wait(TIMEOUT) for each in waiting] == [True] * 3
    assert gate.calls == 2


def test_worker_may_wait_for_an_async_delivery(pool: WorkerPool) -> None:
    gates = [AsyncLatch() for _ in range(3)]
    signal = Signal(executor=pool)
    for gate in gates:
        signal.connect(gate, ordered=True)

    def waits() -> Any:
        return signal.send_async(None).results(TIMEOUT)

    with held(pool):
        waiting = pool.submit(waits)
        for gate in gates:
            assert gate.entered.wait(TIMEOUT)
            gate.opened.set()
        assert waiting.result(TIMEOUT) == [(gate, "through") for gate in gates]


@pytest.mark.parametrize("how", ["result", "wait", "as_completed"])
def test_workers_wait_for_an_async_delivery_ends_with_its_timeout(
    how: str, pool: WorkerPool
) -> None:
    """It does not run in the worker, whether or not it has started."""
    gate, blocking = held_loop(pool)
    receiver = AsyncLatch()
    deliveries = signal_to(receiver, pool).send_async(None)

    def waits() -> None:
        if how == "result":
            with pytest.raises(TimeoutError):
                deliveries[0][1].result(0.01)
        elif how == "wait":
            assert deliveries.wait(0.01) is False
        else:
            with pytest.raises(TimeoutError):
                list(deliveries.as_completed(0.01))

    pool.submit(waits).result(TIMEOUT)
    gate.opened.set()
    blocking.results(TIMEOUT)
    assert receiver.entered.wait(TIMEOUT)
    pool.submit(waits).result(TIMEOUT)
    receiver.opened.set()
    assert deliveries.results(TIMEOUT) == [(receiver, "through")]


WAITS: dict[str, Callable[[Deliveries, WorkerPool], Any]] = {
    "result": lambda deliveries, pool: deliveries[0][1].result(),
    "exception": lambda deliveries, pool: deliveries[0][1].exception(TIMEOUT),
    "results": lambda deliveries, pool: deliveries.results(),
    "outcomes": lambda deliveries, pool: deliveries.outcomes(),
    "Deliveries.wait": lambda deliveries, pool: deliveries.wait(TIMEOUT),
    "Deliveries.as_completed": lambda deliveries, pool: list(deliveries.as_completed()),
    "wait": lambda deliveries, pool: concurrent.futures.wait(deliveries.futures),
    "as_completed": lambda deliveries, pool: list(
        concurrent.futures.as_completed(deliveries.futures)
    ),
    "drain": lambda deliveries, pool: pool.drain(TIMEOUT),
}


@pytest.mark.parametrize("wait", WAITS)
def test_blocking_wait_on_the_pools_event_loop_is_refused(wait: str, pool: WorkerPool) -> None:
    with held(pool, 2):
        waiting = signal_to(ignore, pool).send_async(None)

        async def waits(**named: Any) -> str:
            with pytest.raises(RuntimeError):
                WAITS[wait](waiting, pool)
            return "refused"

        assert responses(signal_to(waits, pool).send_async(None).results(TIMEOUT)) == ["refused"]
    assert waiting.results(TIMEOUT) == [(ignore, None)]


@pytest.mark.parametrize("wait", WAITS)
def test_blocking_wait_of_a_receiver_that_the_event_loop_runs_as_a_caller_is_refused(
    wait: str,
) -> None:
    """It is a worker meanwhile, but what it waits for needs this very loop."""
    pool = WorkerPool(1, max_pending=2, overflow="caller_runs")
    refused = list[str]()

    def waits(awaited: Deliveries, **named: Any) -> None:
        with pytest.raises(RuntimeError):
            WAITS[wait](awaited, pool)
        refused.append(wait)

    on_loop, in_caller = signal_to(ignores, pool), signal_to(waits, pool)

    async def sends(**named: Any) -> Any:
        awaited = on_loop.send_async(None)  # there is room for two, and this is the second
        overflowing = in_caller.send_async(None, awaited=awaited)
        return awaited, overflowing.outcomes(0).errors

    [(_, (awaited, errors))] = signal_to(sends, pool).send_async(None).results(2 * TIMEOUT)
    assert (refused, errors) == ([wait], [])
    assert awaited.results(TIMEOUT) == [(ignores, None)]
    assert pool.drain(TIMEOUT)
    assert pool.stats()[2:9] == (0, 0, 3, 3, 0, 0, 0)
    Running(pool.shutdown).result()


def test_what_is_done_can_be_asked_for_on_the_pools_event_loop(pool: WorkerPool) -> None:
    done = signal_to(Ear(response="done"), pool).send_async(None)
    done.wait(TIMEOUT)
    with held(pool, 2):
        pending = signal_to(ignore, pool).send_async(None)

        async def asks(**named: Any) -> Any:
            with pytest.raises(TimeoutError):
                pending.results(timeout=0)
            return responses(done.results())

        assert responses(signal_to(asks, pool).send_async(None).results(TIMEOUT)) == [["done"]]


def test_shutdown_on_the_pools_event_loop_closes_without_waiting() -> None:
    pool = WorkerPool(1)

    async def shuts(**named: Any) -> str:
        pool.shutdown()
        with pytest.raises(PoolClosed):
            pool.submit(ignore)
        return "closed"

    assert responses(signal_to(shuts, pool).send_async(None).results(TIMEOUT)) == ["closed"]
    pool.shutdown()


def test_async_receiver_may_await_its_own_pools_deliveries() -> None:
    with WorkerPool(1) as pool:
        ear = Ear(response="sync")
        inner = Signal(executor=pool)
        inner.connect(ear)

        async def awaits(depth: int, **named: Any) -> Any:
            return responses(await inner.send_async(None, depth=depth - 1)) if depth else "end"

        inner.connect(awaits)
        deliveries = inner.send_async(None, depth=3)
        expected: Any = "end"
        for _ in range(4):
            expected = ["sync", expected]
        assert responses(deliveries.results(TIMEOUT)) == expected


@pytest.mark.parametrize("how", ["await", "async for"])
def test_await_of_what_stands_behind_in_the_own_lane_is_refused(how: str, pool: WorkerPool) -> None:
    async def awaits(**named: Any) -> str:
        if named["last"]:
            return "last"
        deliveries = signal.send_async(None, last=True)
        with pytest.raises(RuntimeError, match="lane"):
            if how == "await":
                await deliveries
            else:
                async for _ in deliveries:
                    pass
        return "refused"

    signal = signal_to(awaits, pool, ordered=True)
    deliveries = signal.send_async(None, last=False)
    assert responses(deliveries.results(TIMEOUT)) == ["refused"]
    assert pool.drain(TIMEOUT)


async def goes_through(deliveries: Deliveries) -> None:
    async for _ in deliveries:
        pass


async def gets_all(deliveries: Deliveries) -> None:
    await deliveries


ASYNC_WAITS: dict[str, Callable[[Deliveries], Awaitable[Any]]] = {
    "await": gets_all,
    "async for": goes_through,
}


@pytest.mark.parametrize("first", ASYNC_WAITS)
@pytest.mark.parametrize("last", ASYNC_WAITS)
def test_circle_of_two_async_deliveries_is_refused(first: str, last: str, pool: WorkerPool) -> None:
    """Whichever closes it is told; and what else it waits for is no way out."""
    sent, deliveries = threading.Event(), dict[str, Deliveries]()

    def receiver(way: str, whose: str) -> Callable[..., Awaitable[str]]:
        async def waits(**named: Any) -> str:
            await until(sent)
            try:
                await ASYNC_WAITS[way](deliveries[whose])
            except RuntimeError:
                return "refused"
            return "waited"

        return waits

    one, other = receiver(first, "other"), receiver(last, "one")
    for name, waits in ("one", one), ("other", other):
        signal = signal_to(waits, pool)
        signal.connect(ignores)
        deliveries[name] = signal.send_async(None)
    sent.set()
    ended = [responses(deliveries[name].results(TIMEOUT))[0] for name in ("one", "other")]
    assert sorted(ended) == ["refused", "waited"]


def test_circle_of_a_worker_and_an_async_delivery_is_refused(pool: WorkerPool) -> None:
    """Whichever closes it is told; both, where they do that at once."""
    sent = threading.Event()
    deliveries = dict[str, Deliveries]()

    def waits(**named: Any) -> str:
        assert sent.wait(TIMEOUT)
        return in_order(lambda: deliveries["async"].results(TIMEOUT))

    async def awaits(**named: Any) -> str:
        await until(sent)
        try:
            await deliveries["sync"]
        except RuntimeError:
            return "refused"
        return "awaited"

    def in_order(wait: Callable[[], Any]) -> str:
        try:
            wait()
        except RuntimeError:
            return "refused"
        return "waited"

    deliveries["sync"] = signal_to(waits, pool).send_async(None)
    deliveries["async"] = signal_to(awaits, pool).send_async(None)
    sent.set()
    ended = [responses(deliveries[kind].results(TIMEOUT))[0] for kind in ("sync", "async")]
    assert ended in (["refused", "awaited"], ["waited", "refused"], ["refused", "refused"])


def test_loop_whose_thread_starts_only_after_all_was_called_off_is_none_of_the_pools(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of ``Thread.start``."""
    late = list[threading.Thread]()

    def interrupted(thread: threading.Thread) -> None:
        late.append(thread)
        raise KeyboardInterrupt

    signal = signal_to(ignores, pool)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            signal.send_async(None)
    late[0].start()
    late[0].join(TIMEOUT)
    assert signal.send_async(None).results(TIMEOUT) == [(ignores, None)]


@pytest.mark.parametrize("way", ASYNC_WAITS)
def test_circle_through_what_stands_in_a_lane_is_refused(way: str) -> None:
    """What is awaited waits for the one before it, which closes the circle."""
    awaited, sent = threading.Event(), list[Deliveries]()

    def ordered(first: bool, **named: Any) -> str:
        if first:
            assert awaited.wait(TIMEOUT)
            wait_until(inside.workers_waiting)
            with pytest.raises(RuntimeError, match="wait for each other"):
                sent[0].results(TIMEOUT)
        return "ended"

    with WorkerPool(2) as pool:
        lane = signal_to(ordered, pool, ordered=True)
        first, second = [lane.send_async(None, first=each) for each in (True, False)]

        async def awaits(**named: Any) -> str:
            await until(ready)
            awaited.set()
            await ASYNC_WAITS[way](second)
            return "awaited"

        ready = threading.Event()
        sent.append(signal_to(awaits, pool).send_async(None))
        ready.set()
        assert responses(first.results(TIMEOUT)) == ["ended"]
        assert responses(sent[0].results(TIMEOUT)) == ["awaited"]


def test_async_for_gives_what_ends_before_it_refuses_the_rest(pool: WorkerPool) -> None:
    async def goes_through(last: bool, **named: Any) -> Any:
        given = list[Any]()
        if not last:
            with pytest.raises(RuntimeError, match="lane"):
                async for _, response in signal.send_async(None, last=True):
                    given.append(response)
        return given

    async def other(**named: Any) -> str:
        return "other"

    signal = signal_to(goes_through, pool, ordered=True)
    signal.connect(other)
    sent = signal.send_async(None, last=False)
    assert responses(sent.results(TIMEOUT)) == [["other"], "other"]


# On an event loop that a worker runs


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("way", ASYNC_WAITS)
def test_worker_that_awaits_what_stands_behind_it_in_its_lane_is_refused(
    way: str, alone: bool, pool: WorkerPool
) -> None:
    def awaits(last: bool, **named: Any) -> str:
        if last:
            return "last"

        async def main() -> None:
            awaiting = ASYNC_WAITS[way](signal.send_async(None, last=True))
            await (awaiting if alone else asyncio.gather(awaiting, asyncio.sleep(0)))

        with pytest.raises(RuntimeError, match="lane"):
            asyncio.run(main())
        return "refused"

    signal = signal_to(awaits, pool, ordered=True)
    assert responses(signal.send_async(None, last=False).results(TIMEOUT)) == ["refused"]
    assert pool.drain(TIMEOUT)


@pytest.mark.parametrize("way", ASYNC_WAITS)
def test_circle_through_a_worker_that_awaits_is_refused(way: str, pool: WorkerPool) -> None:
    """It was there first: who closes the circle is told."""
    sent = list[Deliveries]()

    def closes(**named: Any) -> str:
        wait_until(lambda: len(sent) == 2)
        wait_until(inside.workers_waiting)
        with pytest.raises(RuntimeError, match="wait for each other"):
            sent[1].results(TIMEOUT)
        return "refused"

    async def main() -> None:
        await ASYNC_WAITS[way](sent[0])

    def awaits(**named: Any) -> None:
        wait_until(lambda: len(sent) == 2)
        asyncio.run(main())

    sent.append(signal_to(closes, pool).send_async(None))
    wait_until(lambda: pool.stats().running == 1)
    sent.append(signal_to(awaits, pool).send_async(None))
    assert responses(sent[0].results(TIMEOUT)) == ["refused"]
    assert responses(sent[1].results(TIMEOUT)) == [None]
    assert inside.workers_waiting() == 0


@pytest.mark.parametrize("way", ASYNC_WAITS)
def test_worker_that_awaits_runs_what_is_submitted_as_it_begins_to(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the only one there to do so."""
    with WorkerPool(1) as pool:
        signal = signal_to(lambda **named: threading.get_ident(), pool)
        prepared = signal.prepare(None)

        def awaits() -> int:
            asyncio.run(asyncio.wait_for(ASYNC_WAITS[way](prepared.deliveries), TIMEOUT))
            return threading.get_ident()

        inside.before_it_is_awaited(monkeypatch, prepared.deliveries[0][1], prepared.submit)
        ran = pool.submit(awaits).result(TIMEOUT)
        assert responses(prepared.deliveries.results(TIMEOUT)) == [ran]


@pytest.mark.parametrize("way", ASYNC_WAITS)
def test_worker_that_awaits_runs_what_an_interrupted_caller_leaves(way: str) -> None:
    """It is the only one there to do so."""
    gate, go, found = Latch(), threading.Event(), Deliveries()
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:

        def interrupted(**named: Any) -> None:
            gate()
            raise KeyboardInterrupt

        def awaits() -> int:
            assert go.wait(TIMEOUT)
            asyncio.run(asyncio.wait_for(ASYNC_WAITS[way](found), TIMEOUT))
            return threading.get_ident()

        signal = signal_to(interrupted, pool)
        ident = lambda **named: threading.get_ident()  # noqa: E731
        signal.connect(ident)
        awaiting = pool.submit(awaits)
        wait_until(awaiting.running)
        pool.submit(int)
        sending = Running(signal.send_async, None)
        assert gate.entered.wait(TIMEOUT)
        delivery: Any = pool.unfinished()[-1]
        found.append((ident, delivery))
        go.set()
        wait_until(lambda: inside.is_waited_for(delivery))
        gate.opened.set()
        with pytest.raises(KeyboardInterrupt):
            sending.result()
        assert awaiting.result(TIMEOUT) == delivery.result(TIMEOUT)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks start eagerly from 3.12 on")
@pytest.mark.parametrize("how", ["await", "async for"])
def test_wait_for_the_own_lane_is_refused_in_a_task_that_starts_eagerly(
    how: str, pool: WorkerPool
) -> None:
    async def start_eagerly(**named: Any) -> None:
        loop = asyncio.get_running_loop()
        if type(loop).__module__.startswith("uvloop"):
            pytest.skip("this event loop cannot")
        loop.set_task_factory(asyncio.eager_task_factory)

    signal_to(start_eagerly, pool).send_async(None).results(TIMEOUT)

    async def waits(n: int, **named: Any) -> None:
        if n == 0:
            return
        deliveries = signal.send_async(None, n=0)
        if how == "await":
            await deliveries
        async for _ in deliveries:
            pass

    signal = signal_to(waits, pool, ordered=True)
    with pytest.raises(RuntimeError, match="it can only run after the one that waits"):
        signal.send_async(None, n=1).results(TIMEOUT)
