"""Async receivers of a pool's deliveries: where they run, and what becomes of them."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from async_pools import held_loop, pool, responses, variable
from event_loops import AsyncLatch, async_kinds, async_raiser, every_loop, ignores, run
from helpers import (
    TIMEOUT,
    BaseBoom,
    Boom,
    Latch,
    Running,
    Thing,
    assert_gone,
    gil_is_on,
    quiet,
    uncollected,
    wait_until,
)
from pools import signal_to, told

from tsignals import Deliveries, Delivery, Retry, Signal, WorkerPool, receiver_failed

__all__ = ["every_loop", "pool"]


@pytest.mark.slow
def test_deliveries_run_at_once_without_a_worker(pool: WorkerPool) -> None:
    """A thousand meet."""
    met, meeting = list[asyncio.Event](), list[int]()

    async def meets(n: int, **named: Any) -> int:
        meeting.append(threading.get_ident())
        if n == 0:
            met.append(asyncio.Event())
        if len(meeting) == 1000:
            met[0].set()
        async with asyncio.timeout(TIMEOUT):
            await met[0].wait()
        return n

    signal = signal_to(meets, pool)
    deliveries = [signal.send_async(None, n=n) for n in range(1000)]
    assert [each.results(TIMEOUT) for each in deliveries] == [[(meets, n)] for n in range(1000)]
    assert len(set(meeting)) == 1
    assert meeting[0] != threading.get_ident()
    assert pool.stats().workers == 0


def test_pool_has_one_loop_and_its_thread_is_named_after_the_pool(pool: WorkerPool) -> None:
    async def where(**named: Any) -> Any:
        return asyncio.get_running_loop(), threading.current_thread()

    signal = signal_to(where, pool)

    async def main() -> Any:
        return responses(await signal.send_async(None))[0]

    loop, thread = run(main())
    assert thread.name.startswith("pool")
    assert thread.daemon
    assert Running(signal.send_async, None).result().results(TIMEOUT) == [
        (signal.receivers[0].receiver, (loop, thread))
    ]


def test_first_deliveries_from_many_threads_share_the_loop(pool: WorkerPool) -> None:
    async def where(**named: Any) -> Any:
        return asyncio.get_running_loop()

    signal, start = signal_to(where, pool), threading.Barrier(8)

    def sends() -> Any:
        start.wait(TIMEOUT)
        return responses(signal.send_async(None).results(TIMEOUT))[0]

    threads = [Running(sends) for _ in range(8)]
    assert len({thread.result() for thread in threads}) == 1


def test_sync_and_async_receivers_of_one_send(pool: WorkerPool) -> None:
    signal, gates = Signal(executor=pool), [Latch(), AsyncLatch(), Latch(), AsyncLatch()]
    for gate in gates:
        signal.connect(gate)
    deliveries = signal.send_async(None)
    for gate in gates:
        assert gate.entered.wait(TIMEOUT)
    assert pool.stats().running == 4
    assert pool.stats().workers == 2
    for gate in gates:
        gate.opened.set()
    assert deliveries.results(TIMEOUT) == [(gate, "through") for gate in gates]


@pytest.mark.parametrize("kind", async_kinds())
def test_what_is_defined_as_async_runs_on_the_loop(kind: str, pool: WorkerPool) -> None:
    receiver = async_kinds()[kind]
    assert signal_to(receiver, pool).send_async(None, n=7).results(TIMEOUT) == [(receiver, 7)]
    assert pool.stats().workers == 0


def test_sync_receiver_that_returns_an_awaitable_is_left_at_that(pool: WorkerPool) -> None:
    class Later:
        def __await__(self) -> Any:
            raise AssertionError("awaited")

    later = Later()
    assert responses(signal_to(lambda **_: later, pool).send_async(None).results(TIMEOUT)) == [
        later
    ]


def test_delivery_behaves_as_any_other(pool: WorkerPool) -> None:
    gate, sender, called = AsyncLatch(), Thing(), list[Any]()
    signal = signal_to(gate, pool)
    deliveries = signal.send_async(sender)
    [(receiver, delivery)] = deliveries
    assert isinstance(deliveries, Deliveries)
    assert isinstance(delivery, Delivery)
    assert (delivery.signal, delivery.sender, delivery.receiver) == (signal, sender, gate)
    assert receiver is gate
    delivery.add_done_callback(called.append)
    assert gate.entered.wait(TIMEOUT)
    assert (delivery.running(), delivery.done()) == (True, False)
    with pytest.raises(TimeoutError):
        delivery.result(timeout=0)
    assert deliveries.wait(0.001) is False
    gate.opened.set()
    assert concurrent.futures.wait([delivery], TIMEOUT).done == {delivery}
    assert delivery.result(0) == "through"
    wait_until(lambda: called == [delivery])
    assert list(deliveries.as_completed(TIMEOUT)) == [(gate, delivery)]
    assert deliveries.outcomes() == [(gate, "through")]


def test_each_delivery_runs_in_its_own_copy_of_the_senders_context(pool: WorkerPool) -> None:
    async def sets(n: int, **named: Any) -> Any:
        before = variable.get()
        variable.set(n)
        await asyncio.sleep(0)
        return before, variable.get()

    signal = Signal(executor=pool)
    receivers: list[Any] = [sets, *(functools.partial(sets, other=n) for n in range(2))]
    for receiver in receivers:
        signal.connect(receiver)

    def sends() -> None:
        variable.set("sender's")
        pairs = signal.send_async(None, n=1).results(TIMEOUT)
        assert responses(pairs) == [("sender's", 1)] * 3
        assert variable.get() == "sender's"

    contextvars.copy_context().run(sends)


@pytest.mark.parametrize("error", [Boom(), BaseBoom(), KeyboardInterrupt(), SystemExit()])
def test_failure_is_told_once_and_is_the_deliverys(error: BaseException, pool: WorkerPool) -> None:
    sender, raising = Thing(), async_raiser(error)
    signal = signal_to(raising, pool)
    with told() as hears:
        [(_, delivery)] = signal.send_async(sender)
        assert delivery.exception(TIMEOUT) is error
        [failure] = hears.failures
    assert (failure.signal, failure.sender, failure.receiver) == (signal, sender, raising)
    assert (failure.exception, failure.mode) == (error, "send_async")
    assert failure.thread_name.startswith("pool")
    assert failure.queued_seconds >= 0
    assert failure.ran_seconds >= 0
    assert pool.stats().failed == 1
    assert signal_to(ignores, pool).send_async(None).results(TIMEOUT) == [(ignores, None)]


def test_loop_outlives_what_a_receiver_does_to_it(
    pool: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    async def exits() -> None:
        raise SystemExit

    async def stops(**named: Any) -> None:
        asyncio.get_running_loop().stop()

    async def leaves_a_task(**named: Any) -> None:
        with contextlib.suppress(SystemExit):
            await asyncio.ensure_future(exits())

    for receiver in (stops, leaves_a_task, ignores):
        assert signal_to(receiver, pool).send_async(None).results(TIMEOUT) == [(receiver, None)]
    assert [record.name for record in caplog.records if "event loop" in record.message] == [
        "tsignals"
    ]


def test_loop_outlives_what_callbacks_raise(
    pool: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    gate, blocking = held_loop(pool)
    [(_, delivery)] = signal_to(ignores, pool).send_async(None)
    delivery.add_done_callback(raiser_of(SystemExit()))
    gate.opened.set()
    blocking.results(TIMEOUT)
    assert delivery.result(TIMEOUT) is None
    assert signal_to(ignores, pool).send_async(None).results(TIMEOUT) == [(ignores, None)]
    assert any("callback" in record.message for record in caplog.records)


def raiser_of(error: BaseException) -> Callable[[object], None]:
    """A callback that raises ``error``."""

    def raises(_: object) -> None:
        raise error

    return raises


def test_nothing_of_a_delivery_is_kept_once_it_has_ended(pool: WorkerPool) -> None:
    value, sender = Thing("value"), Thing("sender")
    gate = AsyncLatch()
    gate.opened.set()
    signal = Signal(executor=pool)
    signal.connect(gate)
    signal.send_async(sender, value=value).results(TIMEOUT)
    references: list[weakref.ref[Any]] = [weakref.ref(thing) for thing in (value, sender, gate)]
    del value, sender, gate
    for reference in references:
        assert_gone(reference)
    assert pool.drain(TIMEOUT)


@pytest.mark.skipif(not gil_is_on(), reason="frames are left to the collector")
@pytest.mark.parametrize("terms", ["", "tracked", "ordered"])
def test_error_of_a_receiver_leaves_no_cycle(
    terms: str, pool: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "tsignals")  # whoever collects the log holds the error
    thing = Thing()
    sent = weakref.ref(thing)

    async def raises(**named: object) -> None:
        raise Boom

    signal = Signal(executor=pool)
    signal.connect(raises, tracked=terms == "tracked", ordered=terms == "ordered")
    with uncollected():
        assert signal.send_async(None, thing=thing).wait(TIMEOUT)
        del thing
        wait_until(lambda: sent() is None)


@pytest.fixture
def pool_without_tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerPool]:
    """A pool whose loop has a task factory that cannot be called as asyncio calls it."""
    made = asyncio.new_event_loop

    def make_task(
        loop: asyncio.AbstractEventLoop, coroutine: Any, context: object = None, **named: Any
    ) -> Any:
        if context is not None:  # else the loop could not be closed
            raise Boom("no task")
        return asyncio.Task(coroutine, loop=loop)

    def make() -> asyncio.AbstractEventLoop:
        loop = made()
        loop.set_task_factory(make_task)
        return loop

    monkeypatch.setattr(asyncio, "new_event_loop", make)
    with WorkerPool(1) as pool:
        yield pool


def test_delivery_for_which_no_task_can_be_made_fails_and_is_told(
    pool_without_tasks: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    signal = Signal(executor=pool_without_tasks)
    signal.connect(ignores)
    signal.connect(AsyncLatch(), weak=False, ordered=True)
    variable.set("the sender's")
    contexts = list[str]()

    def looks(**named: Any) -> None:
        contexts.append(variable.get())

    with (
        told() as hears,
        receiver_failed.connect(looks),
    ):
        deliveries = signal.send_async(None)
        assert [str(error) for _, error in deliveries.outcomes(TIMEOUT).errors] == ["no task"] * 2
    assert len(hears.errors) == 2
    assert contexts == ["the sender's"] * 2
    assert pool_without_tasks.drain(TIMEOUT)
    assert pool_without_tasks.stats().failed == 2


def test_delivery_for_which_no_task_can_be_made_is_tried_again(
    pool_without_tasks: WorkerPool,
) -> None:
    signal = Signal(executor=pool_without_tasks)
    again = Retry(Boom, attempts=3, wait_initial=0, wait_max=0)
    signal.connect(ignores, retry=again)
    with told() as hears, quiet():
        assert signal.send_async(None).wait(TIMEOUT)
    assert [failure.attempts for failure in hears.failures] == [3]


@pytest.mark.skipif(not gil_is_on(), reason="frames are left to the collector")
def test_error_of_a_task_factory_leaves_no_cycle(
    pool_without_tasks: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "tsignals")
    thing = Thing()
    sent = weakref.ref(thing)
    signal = Signal(executor=pool_without_tasks)
    signal.connect(ignores)
    with uncollected():
        assert signal.send_async(None, thing=thing).wait(TIMEOUT)
        del thing
        wait_until(lambda: sent() is None)


@pytest.mark.skipif(not gil_is_on(), reason="frames are left to the collector")
@pytest.mark.parametrize("way", ["results", "await", "async for"])
def test_error_that_a_sender_waits_for_leaves_no_cycle(
    way: str, pool: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "tsignals")
    sender = Thing()
    sent = weakref.ref(sender)

    async def raises(**named: Any) -> None:
        raise Boom

    signal = signal_to(raises, pool)

    async def awaits(sender: Thing) -> None:
        with contextlib.suppress(Boom):
            if way == "await":
                await signal.send_async(sender)
            else:
                async for _ in signal.send_async(sender):
                    pass

    with uncollected():
        if way != "results":
            asyncio.run(awaits(sender))
        else:
            with contextlib.suppress(Boom):
                signal.send_async(sender).results(TIMEOUT)
        del sender
        wait_until(lambda: sent() is None)
