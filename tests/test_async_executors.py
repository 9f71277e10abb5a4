"""Async receivers in other executors, and in the background."""

import asyncio
import concurrent.futures
import contextvars
import functools
import sys
import threading
import weakref
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest
from async_pools import pool, responses, variable
from event_loops import async_raiser, every_loop, ignores, run
from helpers import TIMEOUT, Boom, Thing, wait_until
from pools import signal_to, told

from tsignals import Signal, WorkerPool, background

__all__ = ["every_loop", "pool"]


def test_another_executor_runs_async_receivers_in_its_own_threads() -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="foreign") as executor:
        signal, error = Signal(executor=executor), Boom()

        async def hears(**named: Any) -> Any:
            await asyncio.sleep(0)
            return variable.get(), threading.current_thread().name

        raising = async_raiser(error)
        signal.connect(hears)
        signal.connect(raising)
        with told() as heard:
            variable.set("sender's")
            deliveries = signal.send_async(None)
            assert deliveries[0][1].result(TIMEOUT) == ("sender's", "foreign_0")
            assert deliveries[1][1].exception(TIMEOUT) is error
            executor.shutdown()
        assert heard.errors == [error]


def test_executor_that_runs_them_where_an_event_loop_runs_cannot() -> None:
    class Here(Executor):
        def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Any:
            future: concurrent.futures.Future[Any] = concurrent.futures.Future()
            try:
                future.set_result(function(*arguments, **named))
            except Exception as error:
                future.set_exception(error)
            return future

    signal = Signal(executor=Here())
    signal.connect(ignores)
    assert signal.send_async(None).results() == [(ignores, None)]

    async def main() -> None:
        [(_, delivery)] = signal.send_async(None)
        assert "event loop" in str(delivery.exception())

    run(main())


def test_tracked_async_receiver_of_another_executor_can_wait_for_itself() -> None:
    with ThreadPoolExecutor(1) as executor:
        signal = Signal(executor=executor)

        async def hears(**named: Any) -> bool:
            return await asyncio.to_thread(connection.disconnect, wait=True)

        connection = signal.connect(hears, tracked=True)
        assert responses(signal.send_async(None).results(TIMEOUT)) == [True]


class Host(Thing):
    @background
    async def hears(self, n: int, **named: Any) -> Any:
        await asyncio.sleep(0)
        return self, n, threading.current_thread().name


@pytest.mark.parametrize("verb", ["send", "send_async"])
def test_background_runs_async_functions_on_the_loop(verb: str, pool: WorkerPool) -> None:
    """By itself it is not async: a plain send needs no event loop to call it."""
    host, signal = Host(), Signal(executor=pool)

    @background
    async def function(n: int, **named: Any) -> Any:
        return n, threading.current_thread().name

    partial = background(functools.partial(function.function, other=1))
    for receiver in (host.hears, function, partial):
        signal.connect(receiver)

    async def main() -> Any:
        return getattr(signal, verb)(None, n=7)

    pairs = run(main())
    assert [receiver for receiver, _ in pairs] == [host.hears, function, partial]
    results = [delivery.result(TIMEOUT) for _, delivery in pairs]
    name = results[1][1]
    assert name.startswith("pool")
    assert results == [(host, 7, name), (7, name), (7, name)]
    assert pool.stats().workers == 0


def test_failure_of_an_async_background_receiver_is_told(pool: WorkerPool) -> None:
    raising = background(async_raiser(Boom()), executor=pool)
    signal = signal_to(raising, None)
    with told() as hears:
        [(_, delivery)] = signal.send(None)
        error = delivery.exception(TIMEOUT)
        assert hears.errors == [error]
    assert hears.failures[0].mode == "background"
    assert hears.failures[0].receiver is raising


@pytest.mark.skipif(
    getattr(sys.flags, "thread_inherit_context", False), reason="threads keep such a context"
)
def test_event_loop_keeps_nothing_of_the_context_in_which_it_was_started() -> None:
    variable = contextvars.ContextVar[Thing]("variable")

    def send() -> weakref.ref[Thing]:
        thing = Thing()
        variable.set(thing)
        signal.send_async(None).results(TIMEOUT)
        return weakref.ref(thing)

    async def hears(**named: Any) -> None:
        pass

    with WorkerPool(1) as pool:
        signal = signal_to(hears, pool)
        reference = contextvars.copy_context().run(send)
        assert pool.drain(TIMEOUT)
        wait_until(lambda: reference() is None)
