"""Async deliveries that are cancelled, by those who asked for it and by others."""

import asyncio
import concurrent.futures
import contextlib
import logging
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest
from async_pools import held_loop, pool
from event_loops import CANCELLED, STRAYS, AsyncLatch, async_raiser, every_loop, ignores
from helpers import (
    TIMEOUT,
    Boom,
    Ear,
    Thing,
    assert_gone,
    gil_is_on,
    raiser,
    uncollected,
    wait_until,
)
from pools import signal_to, told

from tsignals import Signal, WorkerPool, background

__all__ = ["every_loop", "pool"]


def test_cancel_cancels_the_task_and_is_no_failure(pool: WorkerPool) -> None:
    gate = AsyncLatch()
    with told() as hears:
        deliveries = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        assert deliveries.cancel() == 1
        with pytest.raises(CancelledError):
            deliveries[0][1].result(TIMEOUT)
        assert gate.cancelled.is_set()
        assert deliveries[0][1].cancelled()
        assert deliveries.cancel() == 0
    assert hears.failures == []
    assert pool.drain(TIMEOUT)
    assert (pool.stats().cancelled, pool.stats().failed) == (1, 0)


def test_receiver_that_will_not_be_cancelled_completes(pool: WorkerPool) -> None:
    gate = AsyncLatch()

    async def refuses(**named: Any) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await gate()
        return "completed"

    [(_, delivery)] = signal_to(refuses, pool).send_async(None)
    assert gate.entered.wait(TIMEOUT)
    assert delivery.cancel()
    assert delivery.result(TIMEOUT) == "completed"
    assert not delivery.cancel()


def test_cancelling_again_does_not_disturb_a_receiver_that_tidies_up(pool: WorkerPool) -> None:
    gate, tidying = AsyncLatch(), AsyncLatch()

    async def tidies(**named: Any) -> None:
        try:
            await gate()
        finally:
            await tidying()

    [(_, delivery)] = signal_to(tidies, pool).send_async(None)
    assert gate.entered.wait(TIMEOUT)
    assert delivery.cancel()
    assert tidying.entered.wait(TIMEOUT)
    delivery.cancel()
    tidying.opened.set()
    assert concurrent.futures.wait([delivery], TIMEOUT).done
    assert delivery.cancelled()
    assert tidying.left.is_set()


def test_what_is_cancelled_before_it_starts_never_does(pool: WorkerPool) -> None:
    gate, blocking = held_loop(pool)
    receiver = AsyncLatch()
    deliveries = signal_to(receiver, pool).send_async(None)
    assert pool.stats().pending == 1
    assert deliveries.cancel() == 1
    assert deliveries[0][1].cancelled()
    assert pool.stats().pending == 0
    gate.opened.set()
    blocking.results(TIMEOUT)
    assert pool.drain(TIMEOUT)
    assert receiver.calls == 0


WAYS: dict[str, Any] = {
    "send_async": lambda receiver, pool: signal_to(receiver, pool).send_async(None),
    "ordered": lambda receiver, pool: signal_to(receiver, pool, ordered=True).send_async(None),
    "tracked": lambda receiver, pool: signal_to(receiver, pool, tracked=True).send_async(None),
    "background": lambda receiver, pool: signal_to(background(receiver), pool).send(None),
    "ordered background": lambda receiver, pool: signal_to(
        background(receiver, ordered=True), pool
    ).send(None),
    "background, send_async": lambda receiver, pool: signal_to(
        background(receiver), pool
    ).send_async(None),
}


STRAY_ERRORS = [asyncio.CancelledError(), CancelledError(), GeneratorExit()]


STRAY_RECEIVERS = {
    **STRAYS,
    "GeneratorExit": async_raiser(GeneratorExit()),
    **{f"{type(error).__module__}, sync": raiser(error) for error in STRAY_ERRORS},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("around", [None, contextlib.nullcontext])
@pytest.mark.parametrize("stray", STRAY_RECEIVERS)
def test_cancellation_that_nobody_asked_for_is_a_failure(
    stray: str, around: Any, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = STRAY_RECEIVERS[stray]
    with WorkerPool(2, around=around) as pool, told() as hears:
        [(_, delivery)] = WAYS[way](receiver, pool)
        error = delivery.exception(TIMEOUT)
        assert isinstance(error, (*CANCELLED, GeneratorExit))
        assert not delivery.cancelled()
        with pytest.raises(type(error)) as caught:
            delivery.result(TIMEOUT)
        assert caught.value is error
        assert pool.drain(TIMEOUT)
        stats = pool.stats()
        assert (stats.submitted, stats.failed, stats.cancelled) == (1, 1, 0)
        # What comes after it is not held up, in its lane or elsewhere.
        assert WAYS[way](ignores, pool)[0][1].result(TIMEOUT) is None
    assert hears.errors == [error]
    assert [r.levelname for r in caplog.records if r.name == "tsignals"] == ["ERROR"]


@pytest.mark.parametrize("stray", STRAY_RECEIVERS)
@pytest.mark.parametrize("tracked", [False, True])
def test_so_it_is_in_other_executors(stray: str, tracked: bool) -> None:
    with ThreadPoolExecutor(1) as executor, told() as hears:
        signal = Signal(executor=executor)
        signal.connect(STRAY_RECEIVERS[stray], weak=False, tracked=tracked)
        [(_, delivery)] = signal.send_async(None)
        error = delivery.exception(TIMEOUT)
        assert isinstance(error, (*CANCELLED, GeneratorExit))
        assert not delivery.cancelled()
        wait_until(lambda: hears.failures)  # told by a callback, which follows
    assert hears.errors == [error]


@pytest.mark.parametrize("ordered", [False, True])
def test_delivery_whose_task_is_cancelled_by_another_before_it_begins_has_failed(
    ordered: bool, pool: WorkerPool
) -> None:
    async def cancels_all_others(**named: Any) -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    signal, gate = Signal(executor=pool), AsyncLatch()
    signal.connect(cancels_all_others)
    signal.connect(gate, ordered=ordered)
    with told() as hears:
        [(_, first), (_, second)] = signal.send_async(None)
        assert first.result(TIMEOUT) is None
        assert isinstance(second.exception(TIMEOUT), asyncio.CancelledError)
        assert pool.drain(TIMEOUT)
    assert gate.calls == 0
    assert hears.errors == [second.exception()]
    assert (pool.stats().failed, pool.stats().cancelled) == (1, 0)


@pytest.mark.parametrize("stray", [name for name in STRAYS if "raises" not in name])
def test_failed_cancellation_keeps_nothing_alive(
    stray: str, pool: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "tsignals")  # whoever collects the log holds the error
    thing = Thing()
    sent = weakref.ref(thing)
    with uncollected():
        deliveries = signal_to(STRAYS[stray], pool).send_async(None, thing=thing)
        assert deliveries.wait(TIMEOUT)
        delivery = weakref.ref(deliveries[0][1])
        del deliveries, thing
        wait_until(lambda: delivery() is None)
        if gil_is_on():  # else frames are left to the collector
            wait_until(lambda: sent() is None)
    assert_gone(sent)


def test_receiver_that_is_cancelled_as_asked_and_fails_then_has_failed(pool: WorkerPool) -> None:
    gate = AsyncLatch()

    async def fails(**named: Any) -> None:
        try:
            await gate()
        finally:
            raise Boom

    [(_, delivery)] = signal_to(fails, pool).send_async(None)
    assert gate.entered.wait(TIMEOUT)
    with told() as hears:
        assert delivery.cancel()
        assert isinstance(delivery.exception(TIMEOUT), Boom)
    assert hears.errors == [delivery.exception()]


@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("tracked", [False, True])
def test_send_robust_collects_it(stray: str, tracked: bool) -> None:
    signal, ear = Signal(), Ear(response="heard")
    connection = signal.connect(STRAYS[stray], weak=False, tracked=tracked)
    signal.connect(ear)
    signal.connect(ignores)
    with told() as hears:
        outcomes = signal.send_robust(None)
    [(receiver, error)] = outcomes.errors
    assert isinstance(error, CANCELLED)
    assert outcomes == [(ear, "heard"), (receiver, error), (ignores, None)]
    assert receiver is connection.receiver
    assert [(f.exception, f.mode) for f in hears.failures] == [(error, "send_robust")]


@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("tracked", [False, True])
def test_send_raises_it_and_has_the_others_cancelled(stray: str, tracked: bool) -> None:
    signal, gate = Signal(), AsyncLatch()
    signal.connect(gate)
    signal.connect(STRAYS[stray], weak=False, tracked=tracked)
    with pytest.raises(CANCELLED) as caught:
        signal.send(None)
    assert gate.cancelled.is_set()
    if "by hand" in stray:
        assert caught.value.args == ("by hand",)
