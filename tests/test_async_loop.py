"""A pool's event loop: from its start to the end of the pool, a fork or the exit."""

import asyncio
import contextlib
import gc
import inspect
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from typing import Any

import inside
import processes
import pytest
from async_pools import held_loop, pool, responses, variable
from event_loops import AsyncLatch, async_raiser, every_loop, ignores, until
from helpers import TIMEOUT, Boom, Latch, Running, assert_gone, ignore, raiser, wait_until
from pools import signal_to, told

from tsignals import DeliveryLost, PoolClosed, Signal, WorkerPool

__all__ = ["every_loop", "pool"]


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def test_around_is_entered_around_the_whole_delivery_inside_its_context() -> None:
    steps = list[Any]()

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        steps.append(("enter", variable.get()))
        yield
        steps.append(("exit", variable.get()))

    async def hears(**named: Any) -> None:
        await asyncio.sleep(0)
        variable.set("receiver's")

    with WorkerPool(1, around=around) as pool:
        variable.set("sender's")
        signal_to(hears, pool).send_async(None).results(TIMEOUT)
    assert steps == [("enter", "sender's"), ("exit", "receiver's")]


def test_around_that_fails_fails_the_delivery() -> None:
    with WorkerPool(1, around=raiser(Boom())) as pool, told() as hears:
        [(_, delivery)] = signal_to(ignores, pool).send_async(None)
        assert isinstance(delivery.exception(TIMEOUT), Boom)
        assert hears.errors == [delivery.exception()]


@pytest.mark.parametrize("error", [Boom(), asyncio.CancelledError()])
def test_around_cannot_swallow_what_the_receiver_raises(error: BaseException) -> None:
    def around() -> Any:
        return contextlib.suppress(BaseException)

    with WorkerPool(1, around=around) as pool:
        [(_, delivery)] = signal_to(async_raiser(error), pool).send_async(None)
        assert delivery.exception(TIMEOUT) is error


def test_initializer_is_called_in_the_loops_thread() -> None:
    local = threading.local()

    def initializer(value: str) -> None:
        local.value = value

    async def hears(**named: Any) -> Any:
        return local.value

    with WorkerPool(1, initializer=initializer, initargs=("set",)) as pool:
        assert responses(signal_to(hears, pool).send_async(None).results(TIMEOUT)) == ["set"]


def test_initializer_that_fails_in_the_loops_thread_breaks_the_pool() -> None:
    gate = Latch()

    def fails() -> None:
        gate()
        raise Boom

    with WorkerPool(1, initializer=fails) as pool:
        [(_, delivery)] = signal_to(ignores, pool).send_async(None)
        gate.opened.set()
        assert isinstance(delivery.exception(TIMEOUT), BrokenExecutor)
        with pytest.raises(BrokenExecutor):
            signal_to(ignores, pool).send_async(None)


def test_disconnect_waits_for_what_runs_on_the_loop_and_cancels_what_waits_in_the_lane(
    pool: WorkerPool,
) -> None:
    gate, signal = AsyncLatch(), Signal(executor=pool)
    connection = signal.connect(gate, tracked=True, ordered=True)
    deliveries = [signal.send_async(None)[0][1] for _ in range(3)]
    assert gate.entered.wait(TIMEOUT)
    with pytest.raises(TimeoutError):
        connection.disconnect(wait=0)
    assert [delivery.cancelled() for delivery in deliveries] == [False, True, True]
    gate.opened.set()
    assert connection.disconnect(wait=True) is False
    assert gate.left.is_set()
    assert deliveries[0].result(TIMEOUT) == "through"
    assert not gate.cancelled.is_set()


def test_disconnect_of_what_has_not_started_on_the_loop(pool: WorkerPool) -> None:
    gate, blocking = held_loop(pool)
    receiver, signal = AsyncLatch(), Signal(executor=pool)
    connection = signal.connect(receiver, tracked=True)
    [(_, delivery)] = signal.send_async(None)
    assert connection.disconnect(wait=True) is True
    assert delivery.cancelled()
    gate.opened.set()
    blocking.results(TIMEOUT)
    assert pool.drain(TIMEOUT)
    assert receiver.calls == 0


def test_shutdown_waits_for_the_loop_and_closes_it(pool: WorkerPool) -> None:
    gate, loops = AsyncLatch(), list[asyncio.AbstractEventLoop]()

    async def hears(**named: Any) -> str:
        loops.append(asyncio.get_running_loop())
        return await gate()

    [(_, delivery)] = signal_to(hears, pool).send_async(None)
    assert gate.entered.wait(TIMEOUT)
    shutting = Running(pool.shutdown)
    wait_until(lambda: "closing" in repr(pool))
    assert not shutting.done
    with pytest.raises(PoolClosed):
        signal_to(ignores, pool).send_async(None)
    gate.opened.set()
    shutting.result()
    assert delivery.result(0) == "through"
    assert loops[0].is_closed()


def test_shutdown_runs_what_waits_in_a_lane(pool: WorkerPool) -> None:
    gate = AsyncLatch()
    signal = signal_to(gate, pool, ordered=True)
    deliveries = [signal.send_async(None) for _ in range(3)]
    pool.shutdown(wait=False)
    gate.opened.set()
    pool.shutdown()
    assert [each.results(0) for each in deliveries] == [[(gate, "through")]] * 3


def test_shutdown_cancels_what_has_not_started_and_lets_the_rest_end(pool: WorkerPool) -> None:
    gate = AsyncLatch()
    signal = signal_to(gate, pool, ordered=True)
    deliveries = [signal.send_async(None)[0][1] for _ in range(3)]
    assert gate.entered.wait(TIMEOUT)
    pool.shutdown(wait=False, cancel_futures=True)
    gate.opened.set()
    pool.shutdown()
    assert [delivery.cancelled() for delivery in deliveries] == [False, True, True]
    assert not gate.cancelled.is_set()


def test_what_receivers_leave_behind_ends_with_the_loop(pool: WorkerPool) -> None:
    gate = AsyncLatch()
    left = list[Any]()

    async def leaves(**named: Any) -> None:
        left.append(asyncio.ensure_future(gate()))
        await until(gate.entered)

    signal_to(leaves, pool).send_async(None).results(TIMEOUT)
    pool.shutdown()
    assert gate.cancelled.is_set()


def test_pool_that_nobody_refers_to_ends_its_loop() -> None:
    pool = WorkerPool(1)
    gate, loops = AsyncLatch(), list[asyncio.AbstractEventLoop]()

    async def hears(**named: Any) -> str:
        loops.append(asyncio.get_running_loop())
        return await gate()

    signal = signal_to(hears, pool)
    [(_, delivery)] = signal.send_async(None)
    assert gate.entered.wait(TIMEOUT)
    reference = weakref.ref(pool)
    signal.executor = None  # the delivery refers to the signal
    del pool
    assert_gone(reference)
    gate.opened.set()
    assert delivery.result(TIMEOUT) == "through"
    wait_until(loops[0].is_closed)


def test_pool_that_is_lost_deep_in_a_stack_ends_its_loop_all_the_same() -> None:
    async def hears(**named: Any) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def lose(pools: list[WorkerPool], left: int) -> None:
        if left:
            lose(pools, left - 1)
        else:
            pools.clear()

    depth = len(inspect.stack())
    for left in range(30, 70, 4):  # less than ``close`` needs, in the debug mode of a loop, too
        pools = [WorkerPool(1)]
        [(_, loop)] = signal_to(hears, pools[0]).send_async(None).results(TIMEOUT)
        with contextlib.suppress(RecursionError):
            lose(pools, sys.getrecursionlimit() - depth - left)
        pools.clear()
        gc.collect()
        wait_until(loop.is_closed)


def test_loop_whose_thread_comes_late_runs_what_was_sent_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread that has started need not have run a line of ours."""
    sent, run = threading.Event(), threading.Thread.run

    def late(thread: threading.Thread) -> None:
        assert not thread.name.endswith("_loop") or sent.wait(TIMEOUT)
        run(thread)

    monkeypatch.setattr(threading.Thread, "run", late)
    with WorkerPool(1) as pool:
        deliveries = signal_to(ignores, pool).send_async(None)
        sent.set()
        assert deliveries.results(TIMEOUT) == [(ignores, None)]


def test_closed_pool_starts_no_loop() -> None:
    pool = WorkerPool(1)
    pool.shutdown()
    with pytest.raises(PoolClosed):
        signal_to(ignores, pool).send_async(None)
    assert inside.loops_of(pool) == []


@pytest.mark.parametrize("broken", ["thread", "loop"])
def test_loop_that_cannot_be_made_leaves_nothing_queued(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("out of everything")

    with WorkerPool(1) as pool:
        with monkeypatch.context() as patch:
            if broken == "thread":
                patch.setattr(threading.Thread, "start", fails)
            else:
                patch.setattr(asyncio, "new_event_loop", fails)
            with pytest.raises(RuntimeError, match="everything"):
                signal_to(ignores, pool).send_async(None)
        assert pool.stats().submitted == 0
        assert signal_to(ignores, pool).send_async(None).results(TIMEOUT) == [(ignores, None)]


def test_loop_whose_start_was_interrupted_but_has_come_about_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        wait_until(lambda: inside.loops_of(pool))
        raise KeyboardInterrupt

    with WorkerPool(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupted)
            with pytest.raises(KeyboardInterrupt):
                signal_to(ignores, pool).send_async(None)
        assert pool.stats().submitted == 0
        assert signal_to(ignores, pool).send_async(None).results(TIMEOUT) == [(ignores, None)]
        assert len(inside.threads_of(pool)) == 1


def test_what_waits_for_the_loop_stays_when_no_worker_can_be_started(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, blocking = held_loop(pool)
    waiting = signal_to(ignores, pool).send_async(None)

    def fails(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            signal_to(ignore, pool).send_async(None)
    assert not waiting[0][1].done()
    gate.opened.set()
    blocking.results(TIMEOUT)
    assert waiting.results(TIMEOUT) == [(ignores, None)]


@needs_fork
def test_forked_child_has_a_loop_of_its_own_and_the_parents_goes_on(pool: WorkerPool) -> None:
    gate, quick = AsyncLatch(), AsyncLatch()
    quick.opened.set()
    [(_, delivery)] = signal_to(gate, pool).send_async(None)
    assert gate.entered.wait(TIMEOUT)

    def child() -> None:
        assert isinstance(delivery.exception(TIMEOUT), DeliveryLost)
        assert pool.stats().submitted == 0
        sent = signal_to(quick, pool).send_async(None)
        assert sent.results(TIMEOUT) == [(quick, "through")]
        pool.shutdown()
        assert pool.stats()[:5] == (0, 0, 0, 0, 1)

    assert processes.forked(child) == 0
    gate.opened.set()
    assert delivery.result(TIMEOUT) == "through"
    # Also after the child has closed all it had: nothing of the parent's was closed with it.
    assert signal_to(quick, pool).send_async(None).results(TIMEOUT) == [(quick, "through")]


@needs_fork
def test_number_of_a_loops_thread_that_has_ended_may_be_used_again(pool: WorkerPool) -> None:
    """By one that may wait, and that forks: the child starts every pool anew."""
    assert signal_to(ignores, pool).send_async(None).results(TIMEOUT) == [(ignores, None)]
    inside.add_loop_that_has_ended(pool, threading.get_ident())
    assert pool.drain(TIMEOUT)
    with WorkerPool(1) as other:
        assert other.submit(int).result(TIMEOUT) == 0

        def child() -> None:
            assert other.submit(int).result(TIMEOUT / 2) == 0

        assert processes.forked(child) == 0


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_receiver_that_forks_goes_on_in_the_parent(pool: WorkerPool) -> None:
    """In the child its thread goes on as far as it gets without the event loop."""
    pids = list[int]()

    async def forks(**named: Any) -> str:
        pid = os.fork()
        if pid == 0:
            return "in the child, whose only thread ends here"
        pids.append(pid)
        await asyncio.sleep(0)
        return "in the parent"

    assert responses(signal_to(forks, pool).send_async(None).results(TIMEOUT)) == ["in the parent"]
    os.waitpid(pids[0], 0)
    assert signal_to(ignores, pool).send_async(None).results(TIMEOUT) == [(ignores, None)]


def exits(body: str, seconds: float) -> "subprocess.CompletedProcess[str]":
    """Run a program that ends with async deliveries under way."""
    code = (
        "import asyncio, logging, sys, tsignals\n"
        "logging.basicConfig(format='%(message)s', stream=sys.stdout)\n"
        # Of a step that took 0.1 seconds, asyncio warns in this mode: on a busy machine each may.
        "logging.getLogger('asyncio').setLevel(logging.ERROR)\n"
        "signal = tsignals.Signal(name='leaving')\n"
        f"{body}\n"
        "signal.connect(hears)\n"
        "for _ in range(3): signal.send_async(None)\n"
    )
    return processes.command(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        env={**os.environ, "TSIGNALS_EXIT_SECONDS": str(seconds)},
    )


@pytest.mark.slow
def test_what_runs_at_exit_may_end() -> None:
    body = (
        "async def hears(**named):\n    await asyncio.sleep(0.1)\n    print('heard', flush=True)\n"
    )
    done = exits(body, seconds=40)
    assert (done.stdout, done.stderr, done.returncode) == ("heard\n" * 3, "", 0)


@pytest.mark.slow
def test_what_hangs_at_exit_is_named_and_left() -> None:
    done = exits("async def hears(**named): await asyncio.Event().wait()\n", seconds=0.1)
    assert "3 deliveries of 'leaving'" in done.stdout
    assert (done.stderr, done.returncode) == ("", 0)
