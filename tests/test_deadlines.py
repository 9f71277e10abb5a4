"""shutdown(timeout=): a pool that ends in time, and says what it has left."""

import asyncio
import contextlib
import logging
import math
import os
import re
import signal as signals
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import inside
import processes
import pytest
from event_loops import AsyncLatch
from helpers import (
    TIMEOUT,
    Boom,
    Ear,
    Latch,
    Running,
    Thing,
    assert_gone,
    handled,
    ignore,
    raiser,
    together,
    wait_until,
)
from pools import Watch, add_up, held, signal_to, told

from tsignals import DeliveryDropped, DeliveryLost, PoolClosed, QueueFull, Signal, WorkerPool


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What has been logged as an error since it was last asked."""
    caplog.set_level(logging.INFO, "tsignals")

    def take() -> list[str]:
        said = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
        caplog.clear()
        return said

    return take


Lines = Callable[[], list[str]]


def lost(count: int, what: str, pool: str = "mail") -> str:
    return (
        f"pool {pool!r}: at shutdown {count} deliveries of {what} "
        "had not started in time; they are lost"
    )


def left(count: int, what: str, pool: str = "mail") -> str:
    return (
        f"pool {pool!r}: at shutdown {count} deliveries of {what} still run; they are left behind"
    )


def error_of(future: Any) -> BaseException | None:
    return future.exception(TIMEOUT)  # type: ignore[no-any-return]


class Hung:
    """A pool with one worker, in which a delivery runs until ``let_go``."""

    def __init__(self, **options: Any) -> None:
        self.pool = WorkerPool(1, thread_name_prefix="mail", **options)
        self.gate = gate = Latch()
        self.hung = Signal(name="hung", executor=self.pool)

        def hang(**named: Any) -> str:
            return gate()

        self.hung.connect(hang, weak=False)
        self.running = self.hung.send_async(None)[0][1]
        assert self.gate.entered.wait(TIMEOUT)

    def let_go(self) -> None:
        self.gate.opened.set()
        Running(self.pool.shutdown).result()
        stats = self.pool.stats()
        assert add_up(stats)
        assert stats[:4] == (0, 0, 0, 0)
        assert not inside.unresolved(self.pool) and not inside.lanes_of(self.pool)
        assert inside.interrupts_of(self.pool) == []


# -- What it does --


def test_what_ends_in_time_is_waited_for_and_nothing_is_lost(lines: Lines) -> None:
    pool, ear = WorkerPool(1, thread_name_prefix="mail"), Ear(response=7)
    with held(pool) as gate:
        deliveries = [signal_to(ear, pool).send_async(None) for _ in range(20)]
        closing = Running(pool.shutdown, timeout=TIMEOUT)
        wait_until(lambda: "closing" in repr(pool))
        gate.opened.set()
        closing.result()
    assert all(each.results(0)[0][1] == 7 for each in deliveries)
    assert not any(thread.is_alive() for thread in inside.workers_of(pool))
    assert pool.stats()[:4] == (0, 0, 0, 0)
    assert lines() == []


@pytest.mark.parametrize("seconds", [0, 0.0, 0.05, -1])
def test_when_time_is_up_what_waits_is_lost_and_what_runs_is_left_and_both_are_named(
    seconds: float, lines: Lines
) -> None:
    world, ear = Hung(), Ear("mailer")
    saved = Signal(name="order.saved", executor=world.pool)
    saved.connect(ear.hear)
    saved.connect(ear.listen)
    pending = [future for _ in range(3) for future in saved.send_async(None).futures]
    pending.append(world.pool.submit(int))
    with told() as failures:
        world.pool.shutdown(timeout=seconds)
    assert [type(error_of(future)) for future in pending] == [DeliveryLost] * 7
    assert world.running.running()
    assert failures.errors == []  # lost is not failed
    assert lines() == [
        lost(3, "'order.saved' to Ear.hear"),
        lost(3, "'order.saved' to Ear.listen"),
        lost(1, "submit()"),
        left(1, "'hung' to Hung.__init__.<locals>.hang"),
    ]
    assert ear.calls == []
    stats = world.pool.stats()
    assert (stats.pending, stats.running, stats.cancelled) == (0, 1, 7)
    assert add_up(stats)
    assert repr(world.pool).startswith("<WorkerPool 'mail' closed:")
    world.let_go()
    assert world.running.result(0) == "through"
    assert world.pool.stats().completed == 1


def test_pool_with_nothing_to_do_ends_at_once_and_says_nothing(lines: Lines) -> None:
    for used in False, True:
        pool = WorkerPool(1)
        if used:
            pool.submit(int).result(TIMEOUT)
            wait_until(lambda pool=pool: pool.stats().idle == 1)  # type: ignore[misc]
        pool.shutdown(timeout=0)
        assert pool.drain(0)
        Running(pool.shutdown).result()
        assert "closed" in repr(pool)
    assert lines() == []


def test_pool_that_gave_up_takes_no_more_and_may_be_shut_down_again(lines: Lines) -> None:
    world = Hung()
    world.pool.shutdown(timeout=0)
    assert len(lines()) == 1
    with pytest.raises(PoolClosed):
        world.hung.send_async(None)
    with pytest.raises(PoolClosed):
        world.pool.submit(int)
    assert world.pool.drain(0) is False  # for it still runs
    world.pool.shutdown(wait=False)
    assert lines() == []
    world.pool.shutdown(timeout=0.01)  # a second limit: named once more
    [line] = lines()
    assert "still run" in line
    waiting = Running(world.pool.shutdown)
    assert not waiting.done
    world.gate.opened.set()
    waiting.result()
    assert lines() == []
    world.let_go()


def test_later_call_gives_up_what_an_earlier_one_still_waits_for(lines: Lines) -> None:
    world = Hung()
    pending = world.pool.submit(int)
    waiting = Running(world.pool.shutdown)
    wait_until(lambda: "closing" in repr(world.pool))
    world.pool.shutdown(timeout=0)
    assert isinstance(error_of(pending), DeliveryLost)
    assert not waiting.done  # it waits for what runs
    world.gate.opened.set()
    waiting.result()
    assert [line for line in lines() if "lost" in line] == [lost(1, "submit()")]
    world.let_go()


def test_of_many_that_give_up_at_once_each_loss_is_named_once(lines: Lines) -> None:
    for _ in range(3):
        world = Hung(max_pending=None)
        pending = [world.pool.submit(int) for _ in range(200)]
        with Watch(world.pool):
            together(*[lambda: world.pool.shutdown(timeout=0)] * 4)
        assert all(isinstance(error_of(future), DeliveryLost) for future in pending)
        said = [int(line.split()[4]) for line in lines() if "lost" in line]
        assert sum(said) == 200
        assert world.pool.stats().cancelled == 200
        world.let_go()


def test_what_is_cancelled_is_not_lost(lines: Lines) -> None:
    world = Hung()
    pending = [world.pool.submit(int) for _ in range(3)]
    world.pool.shutdown(cancel_futures=True, timeout=0)
    assert all(future.cancelled() for future in pending)
    [line] = lines()
    assert "still run" in line
    world.let_go()


def test_end_of_a_with_block_waits_for_all(lines: Lines) -> None:
    gate = Latch()

    def within() -> None:
        with WorkerPool(1) as pool:
            pool.submit(gate)
            assert gate.entered.wait(TIMEOUT)
            pool.shutdown(timeout=0)

    waiting = Running(within)
    assert gate.entered.wait(TIMEOUT)
    wait_until(lines)
    assert not waiting.done
    gate.opened.set()
    waiting.result()


# -- Which timeouts --


@pytest.mark.parametrize(
    ("wrong", "error"), [(math.nan, ValueError), ("1", TypeError), (1j, TypeError)]
)
@pytest.mark.parametrize("wait", [True, False])
def test_what_is_no_timeout_raises_and_changes_nothing(
    wrong: Any, error: type[Exception], wait: bool
) -> None:
    with WorkerPool(1) as pool:
        before = pool.stats(), repr(pool)
        with pytest.raises(error, match="timeout"):
            pool.shutdown(wait, cancel_futures=True, timeout=wrong)
        assert (pool.stats(), repr(pool)) == before


def test_timeout_of_a_call_that_does_not_wait_is_refused_and_changes_nothing() -> None:
    with WorkerPool(1) as pool:
        for seconds in 0, 1.5:
            with pytest.raises(ValueError, match="does not wait"):
                pool.shutdown(wait=False, timeout=seconds)
        assert pool.submit(int).result(TIMEOUT) == 0


@pytest.mark.parametrize("ever", [None, math.inf, threading.TIMEOUT_MAX * 2])
def test_more_than_can_be_waited_is_for_ever(ever: float | None) -> None:
    world = Hung()
    pending = world.pool.submit(int)
    waiting = Running(world.pool.shutdown, timeout=ever)
    wait_until(lambda: inside.waiting_for_quiet(world.pool))
    world.gate.opened.set()
    waiting.result()
    assert pending.result(0) == 0
    world.pool.shutdown(wait=False, timeout=ever)


# -- Whom it meets --


def test_in_a_worker_it_closes_and_neither_waits_nor_loses(lines: Lines) -> None:
    pool = WorkerPool(1)

    def closes(**named: Any) -> Any:
        after = pool.submit(int)
        pool.shutdown(timeout=0)
        return after

    after = signal_to(closes, pool).send_async(None).results(TIMEOUT)[0][1]
    assert after.result(TIMEOUT) == 0
    Running(pool.shutdown).result()
    assert lines() == []


def test_on_the_pools_event_loop_it_closes_and_neither_waits_nor_loses(lines: Lines) -> None:
    pool = WorkerPool(1)

    async def closes(**named: Any) -> str:
        pool.shutdown(timeout=0)
        return "went on"

    assert signal_to(closes, pool).send_async(None).results(TIMEOUT)[0][1] == "went on"
    Running(pool.shutdown).result()
    assert lines() == []


def test_in_a_worker_of_another_pool_it_waits() -> None:
    world = Hung()
    pending = world.pool.submit(int)
    with WorkerPool(1) as other:
        other.submit(world.pool.shutdown, timeout=0.01).result(TIMEOUT)
    assert isinstance(error_of(pending), DeliveryLost)
    world.let_go()


def test_delivery_that_waits_for_one_that_is_lost_gets_that_error() -> None:
    pool, sent = WorkerPool(1), threading.Event()
    go_on = threading.Event()

    def waits(**named: Any) -> Any:
        inner = pool.submit(int)
        sent.set()
        assert go_on.wait(TIMEOUT)
        return inner.result(TIMEOUT)

    [(_, outer)] = signal_to(waits, pool).send_async(None)
    assert sent.wait(TIMEOUT)
    pool.shutdown(timeout=0)
    go_on.set()
    assert isinstance(error_of(outer), DeliveryLost)
    Running(pool.shutdown).result()


def test_sender_that_waits_for_room_was_never_accepted_and_gets_pool_closed(lines: Lines) -> None:
    world = Hung(max_pending=1)
    pending = world.pool.submit(int)
    senders = [Running(world.hung.send_async, None) for _ in range(3)]
    wait_until(lambda: len(inside.blocked_senders(world.pool)) == 3)
    world.pool.shutdown(timeout=0)
    for sender in senders:
        with pytest.raises(PoolClosed):
            sender.result()
    assert isinstance(error_of(pending), DeliveryLost)
    stats = world.pool.stats()
    assert (stats.submitted, stats.refused) == (2, 0)
    assert [line for line in lines() if "lost" in line] == [lost(1, "submit()")]
    world.let_go()


@pytest.mark.parametrize("terms", [{}, {"tracked": True}], ids=["ordered", "ordered, tracked"])
def test_lane_whose_rest_is_lost_leaves_nothing(terms: dict[str, Any]) -> None:
    pool, gate, sender = WorkerPool(2), Latch(), Thing()
    signal = signal_to(gate, pool, ordered=True, **terms)
    running, *rest = [signal.send_async(sender)[0][1] for _ in range(5)]
    assert gate.entered.wait(TIMEOUT)
    pool.shutdown(timeout=0)
    assert [type(error_of(future)) for future in rest] == [DeliveryLost] * 4
    gone = weakref.ref(sender)
    gate.opened.set()
    assert running.result(TIMEOUT) == "through"
    Running(pool.shutdown).result()
    assert not inside.lanes_of(pool)
    assert gate.calls == 1
    del sender, signal, running, rest
    assert_gone(gone)


def test_nothing_of_a_lane_runs_after_something_before_it_was_lost() -> None:
    """So the last is lost first: its turn would come while a worker is free."""
    world, ear, called = Hung(), Ear(), list[Any]()
    ordered, plain = signal_to(ear, world.pool, ordered=True), world.pool.submit(int)
    lane = [ordered.send_async(None)[0][1] for _ in range(4)]
    for future in [plain, *lane]:
        future.add_done_callback(called.append)
    world.pool.shutdown(timeout=0)
    assert called == [*reversed(lane), plain]
    assert all(isinstance(error_of(future), DeliveryLost) for future in called)
    world.let_go()
    assert ear.calls == []


def test_async_deliveries_that_wait_are_lost_and_those_that_run_go_on(lines: Lines) -> None:
    pool, gate = WorkerPool(1, thread_name_prefix="mail"), AsyncLatch()
    signal = Signal(name="async", executor=pool)
    signal.connect(gate, weak=False, ordered=True)
    running, waiting = [signal.send_async(None)[0][1] for _ in range(2)]
    assert gate.entered.wait(TIMEOUT)
    pool.shutdown(timeout=0)
    assert isinstance(error_of(waiting), DeliveryLost)
    assert running.running()
    assert [("lost" in line, "left" in line) for line in lines()] == [(True, False), (False, True)]
    gate.opened.set()
    running.result(TIMEOUT)
    Running(pool.shutdown).result()
    assert not any(thread.is_alive() for thread in inside.threads_of(pool))
    assert pool.stats()[2:9] == (0, 0, 2, 1, 0, 1, 0)


def test_async_delivery_that_was_left_can_be_cancelled() -> None:
    pool, gate = WorkerPool(1), AsyncLatch()
    [(_, running)] = signal_to(gate, pool).send_async(None)
    assert gate.entered.wait(TIMEOUT)
    pool.shutdown(timeout=0)
    assert running.cancel()
    Running(pool.shutdown).result()
    assert running.cancelled()


def test_prepared_send_is_not_lost_and_fails_when_it_is_submitted(lines: Lines) -> None:
    world = Hung()
    prepared, dropped = [signal_to(ignore, world.pool).prepare(None) for _ in range(2)]
    world.pool.shutdown(timeout=0)
    assert not prepared.deliveries[0][1].done()
    assert [line for line in lines() if "lost" in line] == []
    prepared.submit()
    assert isinstance(error_of(prepared.deliveries[0][1]), PoolClosed)
    dropped.drop()
    assert isinstance(error_of(dropped.deliveries[0][1]), DeliveryDropped)
    assert add_up(world.pool.stats())
    world.let_go()


def test_caller_that_runs_its_own_is_left_to_do_so(lines: Lines) -> None:
    world = Hung(max_pending=1, overflow="caller_runs")
    pending, inner, ear = world.pool.submit(int), Latch(), Ear()
    signal = Signal(name="here", executor=world.pool)
    signal.connect(inner, weak=False)
    signal.connect(ear)
    caller = Running(signal.send_async, None)
    assert inner.entered.wait(TIMEOUT)
    world.pool.shutdown(timeout=0)
    assert isinstance(error_of(pending), DeliveryLost)
    assert any("'here'" in line and "still run" in line for line in lines())
    inner.opened.set()
    assert [response for _, response in caller.result().results(TIMEOUT)] == ["through", None]
    assert len(ear.calls) == 1
    world.let_go()


def test_what_is_about_to_be_cancelled_is_not_said_to_run(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, cancels, opened = Hung(), threading.Event(), threading.Event()
    pending, count = world.pool.submit(int), inside.COUNT.now

    def count_late(core: Any, change: int) -> None:
        if threading.get_ident() == cancelling.ident and not cancels.is_set():
            cancels.set()
            assert opened.wait(TIMEOUT)
        count(core, change)

    inside.COUNT.patch(monkeypatch, count_late)
    cancelling = threading.Thread(target=pending.cancel)
    cancelling.start()
    assert cancels.wait(TIMEOUT)
    world.pool.shutdown(timeout=0)
    assert not pending.done()
    assert lines() == [left(1, "'hung' to Hung.__init__.<locals>.hang")]
    opened.set()
    cancelling.join(TIMEOUT)
    assert pending.cancelled()
    world.let_go()


def test_drain_and_waiting_threads_see_the_end() -> None:
    world = Hung()
    pending = world.pool.submit(int)
    draining, waiting = Running(world.pool.drain), Running(error_of, pending)
    wait_until(lambda: inside.waiting_for_quiet(world.pool))
    world.pool.shutdown(timeout=0)
    assert isinstance(waiting.result(), DeliveryLost)
    assert not draining.done
    world.gate.opened.set()
    assert draining.result() is True
    world.let_go()


def test_disconnect_that_waits_is_over_once_the_rest_is_lost() -> None:
    world, ear = Hung(), Ear()
    signal = Signal(executor=world.pool)
    connection = signal.connect(ear, tracked=True)
    signal.send_async(None)
    world.pool.shutdown(timeout=0)
    assert connection.disconnect(wait=0)
    assert ear.calls == []
    world.let_go()


def test_pool_that_breaks_stays_broken(lines: Lines) -> None:
    pool = WorkerPool(1, initializer=raiser(Boom()))
    future = pool.submit(int)
    error = error_of(future)
    pool.shutdown(timeout=0)
    assert not isinstance(error, DeliveryLost)
    assert "broken" in repr(pool)
    assert [line for line in lines() if "shutdown" in line] == []


def test_callback_that_raises_keeps_no_other_from_being_lost_and_named(lines: Lines) -> None:
    """``concurrent.futures`` lets it through, to whoever resolves the future."""
    world, called = Hung(), list[Any]()
    pending = [world.pool.submit(int) for _ in range(5)]

    def exits(future: Any) -> None:
        called.append(future)
        raise SystemExit(3)

    for future in pending:
        future.add_done_callback(exits)
    with pytest.raises(SystemExit):
        world.pool.shutdown(timeout=0)
    assert called == pending
    assert lines()[0] == lost(5, "submit()")
    world.let_go()


def test_callback_of_what_is_lost_may_use_the_pool(lines: Lines) -> None:
    world, seen = Hung(), list[Any]()
    pending = world.pool.submit(int)

    def looks(future: Any) -> None:
        seen.append((world.pool.unfinished() == [world.running], world.pool.stats().pending))
        world.pool.shutdown(timeout=0)

    pending.add_done_callback(looks)
    world.pool.shutdown(timeout=0)
    assert seen == [(True, 0)]
    assert len([line for line in lines() if "lost" in line]) == 1
    world.let_go()


def test_what_is_accepted_as_the_pool_gives_up_is_lost_and_named(
    monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """Counted before the end, and queued after it: then its sender finds that nobody will run it"""
    for send in "submit", "send_async":
        with monkeypatch.context() as patched:
            world = Hung()
            publish = inside.QUEUE_IT.now

            def queued_late(
                core: Any, entries: Any, pool: WorkerPool = world.pool, publish: Any = publish
            ) -> None:
                Running(pool.shutdown, timeout=0).result()
                publish(core, entries)

            inside.QUEUE_IT.patch(patched, queued_late)
            if send == "submit":
                future, name = world.pool.submit(int), "submit()"
            else:
                late = Signal(name="late", executor=world.pool)
                late.connect(ignore)
                [(_, future)] = late.send_async(None)
                name = "'late' to ignore"
            assert isinstance(error_of(future), DeliveryLost)
            assert [line for line in lines() if "lost" in line] == [
                f"pool 'mail': at its end 1 deliveries of {name} came too late; they are lost"
            ]
            world.let_go()


@pytest.mark.slow
@pytest.mark.parametrize("send", ["submit", "send_async", "ordered", "async"])
def test_who_sends_while_the_pool_gives_up_is_served_refused_or_told_of_the_loss(
    send: str, lines: Lines
) -> None:
    async def listen(**named: Any) -> None: ...

    for _ in range(4):
        pool = WorkerPool(2, max_pending=None, thread_name_prefix="mail")
        signal = Signal(name="busy", executor=pool)
        signal.connect(listen if send == "async" else ignore, ordered=send == "ordered")

        def sends(pool: WorkerPool = pool, signal: Signal = signal) -> list[Any]:
            accepted = list[Any]()
            with contextlib.suppress(PoolClosed):
                while True:
                    if send == "submit":
                        accepted.append(pool.submit(int))
                    else:
                        accepted += signal.send_async(None).futures
            return accepted

        def gives_up(pool: WorkerPool = pool) -> list[Any]:
            wait_until(lambda: pool.stats().completed > 5)
            pool.shutdown(timeout=0)
            return []

        futures = [future for each in together(sends, sends, gives_up) for future in each]
        errors = [error_of(future) for future in futures]
        losses = [error for error in errors if error is not None]
        assert all(isinstance(error, DeliveryLost) for error in losses)
        Running(pool.shutdown).result()
        stats = pool.stats()
        assert add_up(stats)
        assert (stats.submitted, stats.cancelled) == (len(futures), len(losses))
        assert stats.completed == len(futures) - len(losses)
        said = [re.search(r"(\d+) deliveries of .* lost", line) for line in lines()]
        assert sum(int(each[1]) for each in said if each) == len(losses)


# -- The process --


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
def test_fork_of_a_pool_that_gave_up_is_closed_in_the_child_and_the_parent_is_untouched() -> None:
    world = Hung()
    pending = world.pool.submit(int)
    world.pool.shutdown(timeout=0)

    def child() -> None:
        assert world.pool.stats() == (0,) * 10
        assert isinstance(pending.exception(0), DeliveryLost)
        assert isinstance(world.running.exception(0), DeliveryLost)
        with pytest.raises(PoolClosed):
            world.pool.submit(int)
        world.pool.shutdown(timeout=0)
        world.pool.shutdown()
        assert world.pool.unfinished() == []

    assert processes.forked(child) == 0
    assert world.running.running()
    world.let_go()


@pytest.mark.slow
@needs_fork
def test_child_forked_while_the_pool_waits_ends_the_wait_there() -> None:
    """By a signal handler of the thread that waits."""
    done = processes.run("""
        from tsignals import *
        pool = WorkerPool(1)
        entered, opened = threading.Event(), threading.Event()

        def hang():
            entered.set()
            opened.wait(60)

        running, pending = pool.submit(hang), pool.submit(int)
        entered.wait(60)
        pids, heard = [], threading.Event()

        def forks(*details):
            if not heard.is_set():
                heard.set()
                pids.append(os.fork())
                opened.set()

        def sends():
            while not heard.wait(0.2):  # again, where one came just before the wait
                os.kill(os.getpid(), signal.SIGUSR1)

        signal.signal(signal.SIGUSR1, forks)
        threading.Thread(target=sends, daemon=True).start()
        pool.shutdown(timeout=60)
        if pids == [0]:
            os.write(1, f"child {type(pending.exception(0)).__name__}\\n".encode())
            os._exit(0)
        os.waitpid(pids[0], 0)
        os.write(1, f"parent {pending.result(0)}\\n".encode())
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n") == ["child DeliveryLost", "parent 0", ""]


needs_main = pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")


@needs_main
def test_interrupt_of_the_wait_has_closed_the_pool_and_lost_nothing(lines: Lines) -> None:
    world = Hung()
    pending = world.pool.submit(int)
    with (
        handled(raiser(KeyboardInterrupt()), lambda: inside.waiting_for_quiet(world.pool)),
        pytest.raises(KeyboardInterrupt),
    ):
        world.pool.shutdown(timeout=TIMEOUT)
    assert "closing" in repr(world.pool)
    assert not pending.done()
    assert lines() == []
    world.let_go()
    assert pending.result(0) == 0


@needs_main
def test_interrupt_while_it_gives_up_is_raised_and_all_is_lost_and_named(lines: Lines) -> None:
    world = Hung()
    pending = [world.pool.submit(int) for _ in range(5)]
    pending[1].add_done_callback(lambda _: signals.raise_signal(signals.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        world.pool.shutdown(timeout=0)
    assert all(isinstance(error_of(future), DeliveryLost) for future in pending)
    assert lines()[0] == lost(5, "submit()")
    world.let_go()


def test_inside_our_own_critical_code_it_is_refused_and_changes_nothing() -> None:
    def closes() -> None:
        with pytest.raises(RuntimeError, match="cannot wait"):
            pool.shutdown(timeout=0)
        assert "open" in repr(pool)
        tried.append(True)

    pool, tried = WorkerPool(1), list[bool]()
    inside.interrupt_next_send(pool, closes)
    assert pool.submit(int).result(TIMEOUT) == 0
    assert tried == [True]
    Running(pool.shutdown).result()


def test_exit_does_not_wait_for_what_was_left_behind_and_names_it() -> None:
    done = processes.run(
        """
        from tsignals import *
        pool = WorkerPool(1, thread_name_prefix="mail")
        entered = threading.Event()

        def hang():
            entered.set()
            threading.Event().wait()

        pool.submit(hang)
        entered.wait(60)
        pool.shutdown(timeout=0)
        signal.alarm(20)
        """,
        TSIGNALS_EXIT_SECONDS="3600",
    )
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        left(1, "submit()"),
        "pool 'mail': at exit 1 deliveries of submit() were queued or still running; they are lost",
    ]


def test_server_that_ends_all_its_pools_in_time_says_what_is_left() -> None:
    """As the docs have it: ``all``, ``unfinished``, ``shutdown(timeout=)``."""
    world, ear = Hung(), Ear()
    pending = signal_to(ear.hear, world.pool).send_async("shop", order=17)[0][1]
    [pool] = [pool for pool in WorkerPool.all() if pool is world.pool]
    unfinished = pool.unfinished()
    pool.shutdown(timeout=0)
    assert unfinished == [world.running, pending]
    assert isinstance(pending.exception(0), DeliveryLost)
    assert pool.unfinished() == [world.running]
    assert pool not in WorkerPool.all()
    world.let_go()


def test_asyncio_program_ends_a_pool_in_a_thread() -> None:
    world = Hung()
    pending = world.pool.submit(int)
    asyncio.run(asyncio.to_thread(world.pool.shutdown, timeout=0))
    assert isinstance(error_of(pending), DeliveryLost)
    world.let_go()


def test_refused_stays_outside_the_sum_of_a_pool_that_gave_up() -> None:
    world = Hung(max_pending=1, overflow="raise")
    pending = world.pool.submit(int)
    with pytest.raises(QueueFull):
        world.hung.send_async(None)
    world.pool.shutdown(timeout=0)
    assert isinstance(error_of(pending), DeliveryLost)
    assert world.pool.stats()[2:] == (0, 1, 2, 0, 0, 1, 0, 1)
    world.let_go()
