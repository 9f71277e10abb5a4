"""``WorkerPool(idle=)``: called in a worker that has run something and finds nothing more."""

import logging
import os
import threading
import weakref
from typing import Any, NoReturn

import inside
import pytest
from helpers import TIMEOUT, BaseBoom, Boom, Latch, gil_is_on, uncollected, wait_until
from pools import Watch, add_up, held, signal_to
from processes import run

from tsignals import WorkerPool


class Idle:
    """Remembers in which threads it was called; stops there if told to."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.gate: Latch | None = None

    def __call__(self) -> None:
        self.threads.append(threading.get_ident())
        if self.gate is not None:
            self.gate()


def raise_noted(raised: list[weakref.ref[BaseException]], error: BaseException) -> NoReturn:
    """Raise it, and leave no cycle through this frame."""
    raised.append(weakref.ref(error))
    try:
        raise error
    finally:
        del error


def test_idle_is_called_in_the_worker_that_has_run_something() -> None:
    idle = Idle()
    with WorkerPool(1, idle=idle) as pool:
        assert idle.threads == []
        worker = pool.submit(threading.get_ident).result(TIMEOUT)
        wait_until(lambda: idle.threads)
        assert idle.threads == [worker]
        assert signal_to(lambda **named: 1, pool).send_async(None).results(TIMEOUT)
        wait_until(lambda: len(idle.threads) == 2)
    assert idle.threads == [worker] * 2


def test_idle_is_not_called_between_deliveries_that_wait() -> None:
    idle, counts = Idle(), list[int]()
    with WorkerPool(1, idle=idle) as pool:
        signal = signal_to(lambda **named: counts.append(len(idle.threads)), pool)
        signal.connect(lambda **named: counts.append(len(idle.threads)), weak=False, ordered=True)
        with held(pool):
            sent = [signal.send_async(None) for _ in range(50)]
        assert all(deliveries.wait(TIMEOUT) for deliveries in sent)
        wait_until(lambda: idle.threads)
    assert counts == [0] * 100
    assert len(idle.threads) == 1


def test_short_pause_between_two_deliveries_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``idle`` closes would be opened again at once, over and over."""
    inside.PATIENCE_OF_WORKERS.patch(monkeypatch, TIMEOUT)
    idle = Idle()
    with WorkerPool(1, idle=idle) as pool:
        workers = [pool.submit(threading.get_ident).result(TIMEOUT) for _ in range(20)]
        assert idle.threads == []
    assert idle.threads == workers[:1]


def test_idle_is_called_in_each_of_many_workers_that_has_run_something() -> None:
    idle = Idle()
    with WorkerPool(4, idle=idle) as pool:
        barrier = threading.Barrier(4)
        futures = [pool.submit(barrier.wait, TIMEOUT) for _ in range(4)]
        assert {future.result(TIMEOUT) for future in futures} == {0, 1, 2, 3}
        wait_until(lambda: len(idle.threads) == 4)
    assert len(set(idle.threads)) == 4


def test_idle_is_called_before_a_worker_ends() -> None:
    idle = Idle()
    pool = WorkerPool(1, idle=idle)
    with held(pool):
        pool.shutdown(wait=False)
    pool.shutdown()
    assert len(idle.threads) == 1


def test_worker_that_has_run_nothing_is_not_called_idle() -> None:
    idle = Idle()
    pool = WorkerPool(1, idle=idle)
    with held(pool):
        cancelled = pool.submit(int)
        assert cancelled.cancel()
    wait_until(lambda: len(idle.threads) == 1)
    pool.shutdown()
    assert len(idle.threads) == 1


@pytest.mark.slow
@pytest.mark.parametrize("error", [Boom(), BaseBoom(), SystemExit(3), KeyboardInterrupt()])
def test_what_idle_raises_is_logged_and_the_worker_lives_on(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def idle() -> None:
        raise error

    with WorkerPool(1, thread_name_prefix="mail", idle=idle) as pool:
        first = pool.submit(threading.get_ident).result(TIMEOUT)
        wait_until(lambda: caplog.records)
        assert pool.submit(threading.get_ident).result(TIMEOUT) == first
        wait_until(lambda: len(caplog.records) == 2)
        wait_until(lambda: pool.stats().idle == 1)
        assert (pool.stats().workers, pool.stats().failed) == (1, 0)
    [record, _] = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", "idle of pool 'mail' raised")
    assert record.exc_info is not None and record.exc_info[1] is error
    assert error.__context__ is None  # it has to do with nothing of ours


def test_worker_inside_idle_is_not_counted_as_idle_nor_as_running() -> None:
    idle = Idle()
    gate = idle.gate = Latch()
    with WorkerPool(2, idle=idle) as pool, Watch(pool):
        pool.submit(int).result(TIMEOUT)
        assert gate.entered.wait(TIMEOUT)
        stats = pool.stats()
        assert (stats.workers, stats.idle, stats.running) == (1, 0, 0)
        assert pool.drain(TIMEOUT)
        idle.gate = None
        assert pool.submit(int).result(TIMEOUT) == 0  # another worker is started for it
        assert pool.stats().workers == 2
        gate.opened.set()
        wait_until(lambda: pool.stats().idle == 2)


def test_what_comes_while_the_only_worker_is_inside_idle_runs_afterwards() -> None:
    idle = Idle()
    gate = idle.gate = Latch()
    with WorkerPool(1, idle=idle) as pool:
        pool.submit(int).result(TIMEOUT)
        assert gate.entered.wait(TIMEOUT)
        future = pool.submit(int)
        assert not future.done()
        gate.opened.set()
        assert future.result(TIMEOUT) == 0


def test_idle_may_send_to_its_own_pool_and_wait_for_that() -> None:
    answers: list[Any] = []

    def idle() -> None:
        if not answers:
            answers.append(None)
            answers.append(pool.submit(threading.get_ident).result(TIMEOUT))

    with WorkerPool(1, max_pending=1, idle=idle) as pool:
        worker = pool.submit(threading.get_ident).result(TIMEOUT)
        wait_until(lambda: len(answers) == 2)
        assert answers[1] == worker
        wait_until(lambda: pool.stats().idle == 1)
        assert add_up(pool.stats())


def test_idle_cannot_drain_its_own_pool_and_its_shutdown_does_not_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool: WorkerPool

    def idle() -> None:
        pool.shutdown()
        pool.drain()

    pool = WorkerPool(1, idle=idle)
    assert pool.submit(int).result(TIMEOUT) == 0
    wait_until(lambda: caplog.records)
    error = caplog.records[0].exc_info
    assert error is not None and isinstance(error[1], RuntimeError)
    pool.shutdown()
    assert pool.stats().workers == 0


def test_pool_closes_while_its_worker_is_inside_idle() -> None:
    idle = Idle()
    gate = idle.gate = Latch()
    pool = WorkerPool(1, idle=idle)
    pool.submit(int).result(TIMEOUT)
    assert gate.entered.wait(TIMEOUT)
    pool.shutdown(wait=False)
    assert pool.stats().workers == 1
    gate.opened.set()
    pool.shutdown()
    assert pool.stats().workers == 0
    assert len(idle.threads) == 1


def test_burst_of_sends_to_workers_that_come_and_go_idle_loses_nothing() -> None:
    ran: list[int] = []
    with WorkerPool(3, idle=Idle()) as pool, Watch(pool):
        signal = signal_to(lambda **named: ran.append(1), pool)
        for n in range(500):
            deliveries = signal.send_async(None)
            if n % 3 == 0:
                assert deliveries.wait(TIMEOUT)
        assert pool.drain(TIMEOUT)
    assert len(ran) == 500


def test_idle_that_cannot_be_called_is_refused() -> None:
    bad: Any = 5
    with pytest.raises(TypeError, match="idle must be callable, not 'int'"):
        WorkerPool(idle=bad)


@pytest.mark.unmeasured
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_idle_that_forks_goes_on_in_both_processes_and_the_pool_works_there() -> None:
    done = run(
        """
        import queue
        from tsignals import WorkerPool

        children = queue.SimpleQueue()

        def idle():
            if children.empty():
                child = os.fork()
                if not child:
                    assert pool.stats().workers == 0
                    assert pool.submit(os.getpid).result(10) == os.getpid()
                    os._exit(7)
                children.put(child)
                children.put(child)

        pool = WorkerPool(1, idle=idle)
        pool.submit(int).result(10)
        child = children.get(timeout=20)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(pool.submit(int).result(10))
        pool.shutdown()
        """
    )
    assert (done.stdout, done.returncode) == ("7\n0\n", 0), done.stderr


@pytest.mark.unmeasured
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_thread_that_goes_on_in_a_forked_child_after_idle_is_no_worker_of_its_pool() -> None:
    done = run(
        """
        from tsignals import WorkerPool

        pids = []

        def idle():
            if not pids:
                pids.append(os.fork())
                if not pids[0]:
                    signal.alarm(60)

        pool = WorkerPool(1, idle=idle)
        pool.submit(int).result(10)
        pool.shutdown()
        if pids[0]:
            print(os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]))
        """
    )
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


@pytest.mark.skipif(not gil_is_on(), reason="frames are left to the collector")
def test_what_idle_raises_leaves_no_cycle(caplog: pytest.LogCaptureFixture) -> None:
    raised: list[weakref.ref[BaseException]] = []

    def idle() -> None:
        raise_noted(raised, Boom())

    caplog.set_level(logging.CRITICAL, "tsignals")
    with WorkerPool(1, idle=idle) as pool, uncollected():
        pool.submit(int)
        wait_until(lambda: raised and raised[0]() is None)


@pytest.mark.skipif(not gil_is_on(), reason="frames are left to the collector")
def test_worker_whose_callback_has_raised_runs_on_comes_to_idle_and_keeps_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    raised: list[weakref.ref[BaseException]] = []

    def raises(future: object) -> None:
        raise_noted(raised, BaseBoom())

    caplog.set_level(logging.CRITICAL + 1, "tsignals")  # records keep what was raised
    idle = Idle()
    with WorkerPool(1, idle=idle) as pool, uncollected():
        with held(pool):
            futures = [pool.submit(threading.get_ident) for _ in range(3)]
            for future in futures:
                future.add_done_callback(raises)
        (worker,) = {future.result(TIMEOUT) for future in futures}
        wait_until(lambda: idle.threads)
        assert idle.threads == [worker]
        wait_until(lambda: [error for each in raised if (error := each()) is not None] == [])
    assert len(raised) == 3
