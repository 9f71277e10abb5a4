"""What a type checker knows of the public API: read by ``mypy --strict``, never run.

A line marked ``type: ignore[...]`` is a mistake that the checker must find: the strict mode
complains of marks that it does not need.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, assert_type

import tsignals
from tsignals import (
    Connection,
    Deliveries,
    Delivery,
    DeliveryDropped,
    DeliveryLost,
    Failure,
    Namespace,
    Outcomes,
    PoolClosed,
    PoolStats,
    QueueFull,
    Signal,
    TsignalsError,
    WorkerPool,
    background,
    get_default_executor,
    receiver,
    receiver_failed,
    set_default_executor,
)
from tsignals.inspecting import SignalEntry, connections
from tsignals.testing import (
    Captured,
    Sent,
    Steps,
    capture,
    connected,
    fresh_pool,
    inline,
    muted,
)
from tsignals.tracing import NotCalled, trace

saved = Signal()
Signal(["size"], True, name="order.saved", executor=ThreadPoolExecutor())
Signal(providing_args=("size",), use_caching=False, name=None, executor=None)
Signal(name=3)  # type: ignore[arg-type]
Signal(None, False, "saved")  # type: ignore[call-arg]


@receiver(saved)
def on_saved(sender: object, size: int = 0, **named: Any) -> int:
    return size


@receiver([saved, receiver_failed], sender=int, priority=3, dispatch_uid="uid", weak=False)
async def on_both(**named: Any) -> None: ...


class Shop:
    closed = Signal()

    def on_saved(self, **named: Any) -> str:
        return ""

    @background
    def in_background(self, **named: Any) -> str:
        return ""


def looking() -> None:
    entries = connections("shop", saved, tsignals, unheard=True)
    assert_type(entries, list[SignalEntry])
    assert_type(entries[0]["receivers"][0]["async"], bool)
    with trace() as t:
        saved.send(None)
    assert_type(t.wait(timeout=1.0), bool)
    assert_type(t.sends[0].calls[0].queued_seconds, float | None)
    assert_type(t.sends[0].not_called, tuple[NotCalled, ...])
    t.to_chrome("trace.json")
    t.to_chrome(3)  # type: ignore[arg-type]


# A decorated function keeps its type.
assert_type(on_saved(None, size=3), int)
on_saved(None, size="large")  # type: ignore[arg-type]


def connecting(shop: Shop) -> None:
    connection = saved.connect(on_saved)
    assert_type(connection, Connection)
    saved.connect(shop.on_saved, shop, True, "uid", priority=1, ordered=True, tracked=True)
    saved.connect(on_both)
    saved.connect(shop.in_background)
    saved.connect(3)  # type: ignore[arg-type]
    saved.connect(on_saved, no_such_argument=1)  # type: ignore[call-arg]

    assert_type(connection.sender, Any)
    assert_type(connection.dispatch_uid, Any)
    assert_type(connection.priority, int)
    assert_type(connection.connected, bool)
    assert_type(connection.disconnect(), bool)
    assert_type(connection.disconnect(wait=1.5), bool)
    if connection.receiver is not None:
        connection.receiver(signal=saved, sender=None)
    connection.receiver()  # type: ignore[misc]
    with connection as same:
        assert_type(same, Connection)

    assert_type(saved.disconnect(on_saved), bool)
    assert_type(saved.disconnect(None, int, "uid", wait=True), bool)
    assert_type(saved.has_listeners(), bool)
    assert_type(saved.has_listeners(int), bool)
    assert_type(saved.receivers, list[Connection])
    assert_type(saved.providing_args, tuple[str, ...])
    saved.executor = WorkerPool()
    saved.executor = None
    saved.executor = 3  # type: ignore[assignment]


def sending() -> None:
    for called, response in saved.send(None, size=3):
        assert_type(response, Any)
        called(signal=saved, sender=None)
    saved.send(sender=int, size=3)
    saved.send()  # type: ignore[call-arg]
    outcomes = saved.send_robust(int, size=3)
    assert_type(outcomes, Outcomes)
    for _, error in outcomes.errors:
        assert_type(error, BaseException)
    outcomes.raise_errors()


def sending_async() -> None:
    deliveries = saved.send_async(int, size=3)
    assert_type(deliveries, Deliveries)
    for _, delivery in deliveries:
        assert_type(delivery, Delivery)
        assert_type(delivery.result(3), Any)
        assert_type(delivery.signal, Any)
        assert_type(delivery.sender, Any)
        delivery.receiver(signal=delivery.signal, sender=delivery.sender)
        futures: list[Future[Any]] = [delivery]
        futures.clear()
    keys: dict[Deliveries, int] = {deliveries: 1}
    keys.clear()
    assert_type(deliveries.wait(), bool)
    assert_type(deliveries.cancel(), int)
    assert_type(deliveries.outcomes(1.5), Outcomes)
    deliveries.futures[0].add_done_callback(print)
    for called, response in deliveries.results(timeout=None):
        assert_type(response, Any)
        called()
    for _, done in deliveries.as_completed():
        done.result()


async def awaiting() -> None:
    for _, response in await saved.asend(None, size=3):
        assert_type(response, Any)
    assert_type(await saved.asend_robust(None), Outcomes)
    deliveries = saved.send_async(None)
    for _, response in await deliveries:
        assert_type(response, Any)
    async for _, response in deliveries:
        assert_type(response, Any)
    for delivery in deliveries.futures:
        await asyncio.wrap_future(delivery)
    [first, second] = await asyncio.gather(saved.send_async(None), saved.send_async(None))
    await asyncio.wait_for(deliveries, 1)
    del first, second


def pools() -> None:
    def initializer(size: int) -> None: ...

    with WorkerPool(
        4,
        max_pending=None,
        overflow="drop_oldest",
        block_timeout=1.5,
        thread_name_prefix="mail",
        initializer=initializer,
        initargs=(3,),
        around=nullcontext,
    ) as pool:
        assert_type(pool, WorkerPool)
        executor: Executor = pool
        assert_type(pool.submit(int, "3").result(), int)
        pool.submit(int, [])  # type: ignore[arg-type]
        assert_type(pool.map(str, [1, 2]), Iterator[str])
        assert_type(pool.map(str, [1, 2], timeout=1, buffersize=2), Iterator[str])
        assert_type(pool.drain(3), bool)
        stats = pool.stats()
        assert_type(stats, PoolStats)
        for count in (
            stats.workers,
            stats.idle,
            stats.pending,
            stats.running,
            stats.submitted,
            stats.completed,
            stats.failed,
            stats.cancelled,
            stats.dropped,
        ):
            assert_type(count, int)
        pool.shutdown(wait=False, cancel_futures=True)
    WorkerPool(overflow=3)  # type: ignore[arg-type]
    WorkerPool(overflow="bolck")  # type: ignore[arg-type]
    assert_type(get_default_executor().drain(timeout=1), bool | Any)
    assert_type(get_default_executor().stats(), PoolStats | Any)
    get_default_executor().submit(print)
    default: Executor = get_default_executor()
    default.shutdown()
    get_default_executor().drain(timeout="1")  # type: ignore[arg-type]
    ordinary: Executor = ThreadPoolExecutor()
    ordinary.drain()  # type: ignore[attr-defined]
    former = set_default_executor(executor)
    if former is not None:
        former.shutdown()
    set_default_executor(None)


def in_the_background() -> None:
    @background
    def bare(**named: Any) -> int:
        return 3

    @background(executor=WorkerPool(), ordered=True)
    def with_arguments(**named: Any) -> int:
        return 3

    saved.connect(bare)
    saved.connect(with_arguments)
    saved.connect(background(on_saved))


def failing(failure: Failure) -> None:
    assert_type(failure.exception, BaseException)
    assert_type(failure.mode, str)
    assert_type(failure.thread_name, str)
    assert_type(failure.queued_seconds, float)
    assert_type(failure.ran_seconds, float)
    try:
        raise PoolClosed
    except RuntimeError:
        pass
    for error in (PoolClosed, QueueFull, DeliveryDropped, DeliveryLost):
        base: type[TsignalsError] = error
        del base
    delivery: Delivery | None = None
    del delivery


def by_name() -> None:
    shop = Namespace()
    assert_type(shop.signal("paid", providing_args=["order"], executor=WorkerPool()), Signal)
    assert_type(shop["paid"], Signal)
    assert_type(shop.signal(name="paid"), Signal)
    shop.signal("paid", name="paid")  # type: ignore[misc]
    shop.signal(3)  # type: ignore[arg-type]


def in_tests() -> None:
    with capture(saved, saved.here) as sent:
        assert_type(sent, Captured)
        assert_type(sent[0], Sent)
        assert_type(sent.assert_once(size=1), Sent)
        assert_type(sent.wait(1, timeout=0.5), Captured)
    with muted(saved, receivers=[on_saved]), inline():
        saved.send(None)
    with connected(saved, on_saved, priority=3) as connection:
        assert_type(connection, Connection)
    with Steps() as steps:
        assert_type(steps, Steps)
        saved.executor = steps
        assert_type(steps.run_all(), int)
    with fresh_pool(2, timeout=3, overflow="raise") as pool:
        assert_type(pool.stats(), PoolStats)
    fresh_pool(unknown=1)  # type: ignore[call-arg]


def nothing_else() -> None:
    tsignals.no_such_name  # type: ignore[attr-defined]  # noqa: B018
