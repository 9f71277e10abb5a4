"""Bounds: what happens when max_pending deliveries wait, and that nothing is lost unsaid."""

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import inside
import pytest
from helpers import (
    TIMEOUT,
    Boom,
    Ear,
    Latch,
    Running,
    Thing,
    assert_linear,
    ignore,
    raiser,
    steps,
    together,
    uncollected,
    wait_until,
)
from pools import Watch, add_up, held, signal_to, told

from tsignals import (
    Deliveries,
    DeliveryDropped,
    PoolClosed,
    PoolStats,
    QueueFull,
    Retry,
    Signal,
    TsignalsError,
    WorkerPool,
)

POLICIES = ["block", "raise", "drop_newest", "drop_oldest", "caller_runs"]
every_policy = pytest.mark.parametrize("overflow", POLICIES)


def fan_out(pool: WorkerPool, *receivers: Callable[..., Any], ordered: bool = False) -> Signal:
    signal = Signal(executor=pool)
    for receiver in receivers:
        signal.connect(receiver, weak=False, ordered=ordered)
    return signal


def blocked_sender(signal: Signal, pool: WorkerPool, **named: Any) -> Running[Deliveries]:
    """A thread that sends and stands in line; returns once it does."""
    before = len(inside.blocked_senders(pool))
    sending = Running(signal.send_async, None, **named)
    wait_until(lambda: len(inside.blocked_senders(pool)) == before + 1)
    return sending


def let_time_be_up(pool: WorkerPool, patch: pytest.MonkeyPatch) -> None:
    """For those who wait for room, unless they do so for as long as it takes."""
    inside.LEFT_UNTIL.patch(patch, lambda deadline: None if deadline is None else 0.0)
    for blocked in inside.blocked_senders(pool):
        blocked.wake()


class Hesitates:
    """Stands for a change; the first that a chosen thread works out comes late."""

    def __init__(self, chosen: Callable[[], bool]) -> None:
        self.chosen = chosen
        self.computed, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, state: Any, change: int, limit: int | None) -> Any:
        after = shift(state, change, limit)
        if change and not self.computed.is_set() and self.chosen():
            self.computed.set()
            assert self.may_go_on.wait(TIMEOUT)
        return after


shift = inside.SHIFT.now


def test_sender_in_line_sees_the_room_that_a_worker_and_a_cancel_make_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither makes enough, and each looks who waits; the one after the other, whatever happens."""
    with WorkerPool(1, max_pending=2) as pool:
        gate = Latch()
        # All that runs here is counted in the worker's account: nobody waits for it.
        signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        [first] = signal_to(Ear(), pool).send_async(None).futures
        signal_to(Ear(), pool).send_async(None)
        sending = blocked_sender(fan_out(pool, Ear(), Ear()), pool)
        late = Hesitates(lambda: threading.current_thread() not in inside.workers_of(pool))
        inside.SHIFT.patch(monkeypatch, late)
        cancel = Running(first.cancel)
        assert late.computed.wait(TIMEOUT)
        gate.opened.set()
        wait_until(lambda: pool.stats().completed == 2)
        late.may_go_on.set()
        assert cancel.result()
        assert len(sending.result()) == 2


def test_drain_sees_the_rest_that_two_workers_come_to_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of them counts in its account, the other, whose receiver fails, for all to see."""
    with WorkerPool(2) as pool, told():
        gates = Latch(), Latch()

        def fails(**named: Any) -> None:
            gates[0]()
            raise Boom

        for receiver in (fails, gates[1]):
            signal_to(receiver, pool).send_async(None)
        assert all(gate.entered.wait(TIMEOUT) for gate in gates)
        drain = Running(pool.drain, TIMEOUT)
        wait_until(lambda: inside.waiting_for_quiet(pool))
        late = Hesitates(lambda: threading.current_thread() in inside.workers_of(pool))
        inside.SHIFT.patch(monkeypatch, late)
        gates[0].opened.set()
        assert late.computed.wait(TIMEOUT)
        gates[1].opened.set()
        wait_until(lambda: pool.stats().completed == 1)
        late.may_go_on.set()
        assert drain.result()


# All policies


@every_policy
def test_nothing_overflows_while_there_is_room(overflow: str) -> None:
    """max_pending deliveries wait, not counting those that run; and the room is given back."""
    with WorkerPool(2, max_pending=4, overflow=overflow, block_timeout=0) as pool:
        signal = signal_to(Ear(), pool)
        for n in range(1, 4):
            with held(pool, 2):
                deliveries = [signal.send_async(None) for _ in range(4)]
                assert pool.stats().pending == 4
                assert not any(each[0][1].done() for each in deliveries)
            assert all(each.results(TIMEOUT) for each in deliveries)
            assert pool.drain(TIMEOUT)
            assert pool.stats()[2:9] == (0, 0, 6 * n, 6 * n, 0, 0, 0)


@pytest.mark.parametrize("overflow", ["block", "raise", "drop_newest", "caller_runs"])
@pytest.mark.parametrize("closed", [False, True], ids=["full", "closed"])
def test_send_that_is_turned_away_leaves_nothing_for_the_collector(
    overflow: str, closed: bool
) -> None:
    """Its deliveries know the send, and that knows them, as long as they are in the pool."""
    with WorkerPool(1, max_pending=1, overflow=overflow, block_timeout=0) as pool:
        signal = fan_out(pool, ignore, lambda **named: None)
        with held(pool), uncollected():
            pool.submit(int)
            if closed:
                pool.shutdown(wait=False)
            value = Thing()
            reference = weakref.ref(value)
            with contextlib.suppress(QueueFull, PoolClosed):
                signal.send_async(value, value=value)
            del value
            assert reference() is None


@every_policy
def test_without_a_limit_nothing_overflows(overflow: str) -> None:
    with WorkerPool(1, max_pending=None, overflow=overflow, block_timeout=0) as pool:
        with held(pool):
            futures = [pool.submit(int) for _ in range(12_000)]
            assert pool.stats().pending == 12_000
        assert all(future.result(TIMEOUT) == 0 for future in futures)


def test_limit_is_ten_thousand_unless_told() -> None:
    with WorkerPool(1, overflow="raise") as pool, held(pool):
        futures = [pool.submit(int) for _ in range(10_000)]
        with pytest.raises(QueueFull):
            pool.submit(int)
        for future in futures:
            future.cancel()


@every_policy
def test_oversize_fan_out_is_admitted_when_nothing_else_waits(overflow: str) -> None:
    with WorkerPool(1, max_pending=2, overflow=overflow, block_timeout=0) as pool:
        ears = [Ear() for _ in range(5)]
        signal = fan_out(pool, *ears)
        with held(pool):
            deliveries = signal.send_async(None)
            assert pool.stats().pending == 5
        assert len(deliveries.results(TIMEOUT)) == 5
        assert pool.stats().dropped == 0


@every_policy
def test_worker_never_blocks_on_its_own_queue(overflow: str) -> None:
    """Every worker sends into the full queue, as a whole and one by one."""
    with WorkerPool(2, max_pending=2, overflow=overflow) as pool:
        inner, barrier = fan_out(pool, Ear(), Ear(), Ear()), threading.Barrier(2)

        def sends(**named: Any) -> None:
            barrier.wait(TIMEOUT)
            for _ in range(10):
                for send in (lambda: inner.send_async(None), lambda: pool.submit(int)):
                    try:
                        send()
                    except QueueFull:
                        assert overflow == "raise"

        outer = fan_out(pool, sends, lambda **named: sends())
        assert outer.send_async(None).outcomes(TIMEOUT).errors == []
        assert pool.drain(TIMEOUT)
        assert add_up(pool.stats())


@pytest.mark.slow
@every_policy
def test_limit_holds_for_many_senders(overflow: str) -> None:
    ear = Ear()
    with WorkerPool(2, max_pending=7, overflow=overflow) as pool, Watch(pool) as watch:
        signal = fan_out(pool, ear, ear.hear, ear.listen)
        refused = list[int]()

        def send() -> None:
            for n in range(100):
                try:
                    signal.send_async(None, n=n)
                except QueueFull:
                    refused.append(n)

        together(*[send] * 4)
        assert pool.drain(TIMEOUT)
        stats = pool.stats()
        assert watch.most_pending <= 7
        assert stats.submitted == 1200 - 3 * len(refused)
        assert stats.completed == len(ear.calls) == stats.submitted - stats.dropped
        assert bool(refused) <= (overflow == "raise")
        assert bool(stats.dropped) <= overflow.startswith("drop")


# Memory


def waited_for(pool: WorkerPool, signal: Signal) -> None:
    pool.submit(int).result(TIMEOUT)


def cancelled(pool: WorkerPool, signal: Signal) -> None:
    assert pool.submit(int).cancel()


def dropped(pool: WorkerPool, signal: Signal) -> None:
    pool.submit(int)


def run_by_the_caller(pool: WorkerPool, signal: Signal) -> None:
    assert signal.send_async(None).wait(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overflow", "make_one_end"),
    [
        ("block", cancelled),
        ("block", waited_for),
        ("drop_oldest", dropped),
        ("caller_runs", run_by_the_caller),
    ],
    ids=["cancelled", "run by a worker that waits", "dropped", "run by the caller in its turn"],
)
def test_what_has_ended_does_not_stay_in_the_queue_behind_a_busy_worker(
    overflow: str, make_one_end: Callable[[WorkerPool, Signal], None]
) -> None:
    pool = WorkerPool(1, max_pending=10, overflow=overflow)
    lane, queued = signal_to(Ear(), pool, ordered=True), list[int]()

    def make_them_end() -> None:
        for _ in range(5000):
            make_one_end(pool, lane)
        queued.append(inside.queued(pool))

    if make_one_end is waited_for:
        pool.submit(make_them_end).result(3 * TIMEOUT)
    else:
        with held(pool):
            waiting = [pool.submit(int) for _ in range(10)] if overflow != "block" else []
            make_them_end()
        assert all(future.exception(TIMEOUT) or future.done() for future in waiting)
    assert queued[0] < 500
    assert pool.drain(TIMEOUT)
    assert add_up(pool.stats())
    assert pool.stats().submitted >= 5001
    Running(pool.shutdown).result()


# block


def test_fan_outs_that_have_ended_do_not_stay_in_the_queue_behind_a_busy_worker() -> None:
    with WorkerPool(1, max_pending=None) as pool:
        signal, gate = fan_out(pool, Ear(), Ear()), Latch()
        with held(pool):
            for _ in range(1000):
                signal.send_async(None)
            pool.submit(gate)
        try:
            assert gate.entered.wait(TIMEOUT)
            assert pool.stats().pending == 0
            assert inside.queued(pool) < 200
        finally:
            gate.opened.set()


def test_block_waits_for_room() -> None:
    with WorkerPool(1, max_pending=1) as pool:
        signal = signal_to(Ear(response="heard"), pool)
        with held(pool):
            waiting = signal.send_async(None)
            blocked = blocked_sender(signal, pool)
            assert pool.stats() == PoolStats(1, 0, 1, 1, 2, 0, 0, 0, 0, 0)
        assert blocked.result().wait(TIMEOUT)
        assert waiting.wait(TIMEOUT)
    assert pool.stats().completed == 3


def test_sender_enters_when_the_last_delivery_starts_in_a_worker_that_was_slow() -> None:
    """That worker has looked when much was ahead, and others have started all of it since."""
    with WorkerPool(2, max_pending=14) as pool:
        both, gates = threading.Barrier(2), [Latch(), Latch(), Latch()]

        def meet() -> Callable[..., object]:
            return lambda **named: both.wait(TIMEOUT)

        ears = [Ear() for _ in range(9)]
        signal = fan_out(pool, meet(), meet(), gates[0], *ears, gates[1], gates[2])
        try:
            with held(pool, 2):
                signal.send_async(None)
                sending = blocked_sender(fan_out(pool, *[Ear() for _ in range(14)]), pool)
            assert gates[0].entered.wait(TIMEOUT)  # in one worker; the other does the rest
            assert gates[1].entered.wait(TIMEOUT)
            assert not sending.done
            gates[0].opened.set()
            assert gates[2].entered.wait(TIMEOUT)
            deliveries = sending.result()  # with both workers busy
        finally:
            for gate in gates:
                gate.opened.set()
        assert deliveries.wait(TIMEOUT)


@pytest.mark.parametrize("seconds", [0, 0.0, 0.05])
def test_expired_block_raises_and_counts_nothing(seconds: float) -> None:
    with WorkerPool(1, max_pending=2, block_timeout=seconds) as pool:
        first, second = Ear(), Ear()
        signal = fan_out(pool, first, second)
        with held(pool):
            pool.submit(int)
            before = pool.stats()
            started = time.monotonic()
            with pytest.raises(QueueFull) as caught:
                signal.send_async(None)
            assert time.monotonic() - started >= seconds
            assert isinstance(caught.value, TsignalsError)
            assert pool.stats() == before._replace(refused=2)
            pool.submit(int)  # its place is free
        assert pool.drain(TIMEOUT)
    assert first.calls == second.calls == []


def test_blocked_senders_are_admitted_first_come_first_served() -> None:
    order = list[int]()
    with WorkerPool(1, max_pending=2) as pool:
        signal = signal_to(lambda n, **named: order.append(n), pool)
        large = fan_out(pool, *[lambda n, m=m, **named: order.append(n + m) for m in range(2)])
        with held(pool):
            signal.send_async(None, n=0)
            signal.send_async(None, n=1)
            blocked = [blocked_sender(signal, pool, n=2)]
            blocked.append(blocked_sender(large, pool, n=3))  # needs two places at once
            # One more could be admitted together with this one, and queued before it.
            blocked.append(blocked_sender(signal, pool, n=5))
        for sending in blocked:
            assert sending.result().wait(TIMEOUT)
    assert order == list(range(6))


def test_nobody_passes_those_who_wait_even_if_there_were_room_for_one() -> None:
    with WorkerPool(1, max_pending=2) as pool:
        large, small = fan_out(pool, Ear(), Ear()), signal_to(Ear(), pool)
        with held(pool):
            small.send_async(None)
            first = blocked_sender(large, pool)  # there is one place, it needs two
            second = blocked_sender(small, pool)
            assert pool.stats().pending == 1
        assert first.result().wait(TIMEOUT)
        assert second.result().wait(TIMEOUT)


def test_those_behind_one_who_gives_up_move_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with WorkerPool(1, max_pending=2, block_timeout=TIMEOUT) as pool:
        large, small = fan_out(pool, Ear(), Ear()), signal_to(Ear(), pool)
        with held(pool):
            small.send_async(None)
            first = blocked_sender(large, pool)
            inside.wait_without_timeout(pool)
            second = blocked_sender(small, pool)
            let_time_be_up(pool, monkeypatch)
            with pytest.raises(QueueFull):
                first.result()
            assert second.result() is not None  # its place was there all along
            assert (pool.stats().pending, pool.stats().refused) == (2, 2)


def test_worker_runs_what_it_would_have_to_wait_with() -> None:
    """Inside its own pool, block is caller_runs."""
    with WorkerPool(1, max_pending=1) as pool:
        names = list[str]()
        inner = signal_to(lambda **named: names.append(threading.current_thread().name), pool)

        def outer(**named: Any) -> None:
            inner.send_async(None)
            inner.send_async(None).results(0)  # it has run already
            names.append("then")

        signal_to(outer, pool).send_async(None).results(TIMEOUT)
        assert pool.drain(TIMEOUT)
    assert names[1] == "then"
    assert names[0] == names[2]
    assert pool.stats().completed == 3


def test_block_on_a_thread_with_a_running_loop_raises_at_once() -> None:
    with WorkerPool(1, max_pending=1) as pool:
        signal = signal_to(Ear(), pool)

        async def main() -> None:
            signal.send_async(None)
            with pytest.raises(QueueFull, match="event loop"):
                signal.send_async(None)

        with held(pool):
            asyncio.run(main())
            assert (pool.stats().submitted, pool.stats().refused) == (2, 1)


def test_sender_that_finds_room_where_it_would_wait_for_it_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await_room = inside.AWAIT_ROOM.now

    with WorkerPool(1, max_pending=1) as pool:
        with held(pool):
            waiting = pool.submit(int)

            def late(*arguments: Any) -> Any:
                waiting.cancel()
                return await_room(*arguments)

            inside.AWAIT_ROOM.patch(monkeypatch, late)
            sent = Running(pool.submit, int).result()
            assert waiting.cancelled()
            assert pool.stats()[2:9] == (1, 1, 3, 0, 0, 1, 0)
        assert sent.result(TIMEOUT) == 0


def test_room_that_comes_when_the_time_is_up_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with WorkerPool(1, max_pending=1, block_timeout=TIMEOUT) as pool:
        with held(pool), monkeypatch.context() as patch:
            waiting = pool.submit(int)

            def none_left(deadline: float | None) -> float:
                waiting.cancel()
                return 0.0

            inside.LEFT_UNTIL.patch(patch, none_left)
            late = pool.submit(int)
            assert waiting.cancelled()
            assert pool.stats()[2:9] == (1, 1, 3, 0, 0, 1, 0)
        assert late.result(TIMEOUT) == 0


def test_closing_refuses_those_who_wait() -> None:
    with WorkerPool(1, max_pending=1) as pool:
        signal, ear = signal_to(Ear(), pool), Ear()
        with held(pool):
            signal.send_async(None)
            blocked = [blocked_sender(signal_to(ear, pool), pool) for _ in range(3)]
            before = pool.stats()
            pool.shutdown(wait=False)
            for sending in blocked:
                with pytest.raises(PoolClosed):
                    sending.result()
            assert pool.stats() == before
    assert ear.calls == []


def test_cancelling_makes_room_for_those_who_wait() -> None:
    with WorkerPool(1, max_pending=1) as pool, held(pool):
        signal = signal_to(Ear(), pool)
        waiting = signal.send_async(None)
        blocked = blocked_sender(signal, pool)
        assert waiting.cancel() == 1
        assert not blocked.result()[0][1].done()
        assert pool.stats().pending == 1


def test_disconnecting_a_tracked_receiver_touches_only_what_was_admitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sender that still waits for room is not counted, whatever becomes of its delivery."""
    ear = Ear()
    with WorkerPool(1, max_pending=1, block_timeout=TIMEOUT) as pool, held(pool) as gate:
        signal = Signal(executor=pool)
        connection = signal.connect(ear, tracked=True)
        pool.submit(int)
        before = pool.stats()
        blocked = blocked_sender(signal, pool)
        assert connection.disconnect(wait=True)
        assert pool.stats() == before
        with monkeypatch.context() as patch:
            let_time_be_up(pool, patch)
            with pytest.raises(QueueFull):
                blocked.result()
        assert pool.stats() == before._replace(refused=1)
        signal.connect(ear, tracked=True)
        inside.wait_without_timeout(pool)
        blocked = blocked_sender(signal, pool)
        assert signal.disconnect(ear, wait=True)
        gate.opened.set()
        assert blocked.result().wait(TIMEOUT)
        assert blocked.result()[0][1].cancelled()
        assert pool.drain(TIMEOUT)
        assert pool.stats()[2:9] == (0, 0, 3, 2, 0, 1, 0)
    assert ear.calls == []


# raise


def test_raise_leaves_nothing_queued_and_counts_nothing() -> None:
    ears = [Ear() for _ in range(3)]
    with WorkerPool(1, max_pending=3, overflow="raise") as pool:
        signal = fan_out(pool, *ears)
        with held(pool):
            pool.submit(int)
            before = pool.stats()
            for times in 1, 2, 3:
                with pytest.raises(QueueFull, match="max_pending=3"):
                    signal.send_async(None)
                assert pool.stats() == before._replace(refused=3 * times)
            fan_out(pool, Ear(), Ear()).send_async(None)
            assert pool.stats().pending == 3
        assert pool.drain(TIMEOUT)
    assert [ear.calls for ear in ears] == [[], [], []]


def test_raise_holds_for_submit_and_map() -> None:
    with WorkerPool(1, max_pending=1, overflow="raise") as pool, held(pool):
        pool.submit(int)
        with pytest.raises(QueueFull):
            pool.submit(int)
        with pytest.raises(QueueFull):
            pool.map(int, "1")
        assert pool.stats().refused == 2


# drop_newest and drop_oldest


@pytest.fixture
def dropping(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What was logged about drops so far."""
    caplog.set_level(logging.WARNING, "tsignals")
    yield lambda: [r.getMessage() for r in caplog.records if "dropped" in r.getMessage()]


def test_drop_newest_drops_all_of_the_fan_out_at_once(dropping: Callable[[], list[str]]) -> None:
    ears = [Ear() for _ in range(3)]
    with WorkerPool(1, max_pending=3, overflow="drop_newest") as pool, told() as hears:
        with held(pool):
            kept = pool.submit(int)
            deliveries = fan_out(pool, *ears).send_async(None)
            assert deliveries.wait(0)
            for _, delivery in deliveries:
                assert type(delivery.exception(0)) is DeliveryDropped
                assert not delivery.cancelled()
                assert not delivery.cancel()
            assert pool.stats().dropped == 3
            assert pool.stats().pending == 1
            with pytest.raises(DeliveryDropped, match="max_pending=3"):
                deliveries.results(0)
        assert kept.result(TIMEOUT) == 0
    assert [ear.calls for ear in ears] == [[], [], []]
    assert hears.failures == []
    assert len(dropping()) == 1
    assert " 3 " in dropping()[0]


def test_drop_oldest_drops_as_few_as_make_room(dropping: Callable[[], list[str]]) -> None:
    ran = list[int]()
    with WorkerPool(1, max_pending=4, overflow="drop_oldest") as pool, told() as hears:
        signal = signal_to(lambda n, **named: ran.append(n), pool)
        three = fan_out(pool, *[lambda n, m=m, **named: ran.append(n + m) for m in range(3)])
        with held(pool):
            early = [signal.send_async(None, n=n)[0][1] for n in range(3)]
            late = three.send_async(None, n=3)
            assert [delivery.done() for delivery in early] == [True, True, False]
            assert type(early[0].exception(0)) is DeliveryDropped
            assert pool.stats()[2:9] == (4, 1, 7, 0, 0, 0, 2)
        assert late.wait(TIMEOUT)
    assert ran == [2, 3, 4, 5]
    assert hears.failures == []
    assert len(dropping()) >= 1


def test_drop_oldest_does_not_drop_what_runs_was_cancelled_or_is_done() -> None:
    with WorkerPool(1, max_pending=2, overflow="drop_oldest") as pool, held(pool):
        first, second = pool.submit(int), pool.submit(int)
        assert first.cancel()
        third = pool.submit(int)  # the room of the first
        assert not second.done()
        fourth = pool.submit(int)
        assert [f.done() for f in (second, third, fourth)] == [True, False, False]
        assert first.cancelled()
        assert pool.stats().dropped == 1


def test_drop_oldest_drops_nothing_when_room_comes_at_the_last_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker takes the oldest just before it could be dropped: then there is room."""
    with WorkerPool(1, max_pending=1, overflow="drop_oldest") as pool:
        gate, drop_oldest = Latch(), inside.DROP_OLDEST.now

        def taken_first(*arguments: Any) -> Any:
            gate.opened.set()
            wait_until(first.done)
            return drop_oldest(*arguments)

        inside.DROP_OLDEST.patch(monkeypatch, taken_first)
        pool.submit(gate)
        assert gate.entered.wait(TIMEOUT)
        first = pool.submit(int)
        second = pool.submit(int)
        assert (first.result(TIMEOUT), second.result(TIMEOUT)) == (0, 0)
        assert pool.stats().dropped == 0


def stops_at(monkeypatch: pytest.MonkeyPatch, seam: inside.Seam, here: Callable[[], bool]) -> Latch:
    """The next thread for which ``here()`` holds stops as it calls what is there."""
    gate, function = Latch(), seam.now

    def stops(*arguments: Any) -> Any:
        if here() and not gate.entered.is_set():
            gate()
        return function(*arguments)

    seam.patch(monkeypatch, stops)
    return gate


@contextlib.contextmanager
def goes_on_when_looked_for(pool: WorkerPool, gate: Latch) -> Iterator[None]:
    """Open ``gate`` once a sender has twice found nothing to drop; at the end at the latest."""
    oldest, in_vain = inside.FIND_OLDEST.now, list[int]()

    def looks(*arguments: Any) -> Any:
        found = oldest(*arguments)
        if found is None:
            in_vain.append(1)
            if len(in_vain) == 2:
                gate.opened.set()
        return found

    with pytest.MonkeyPatch.context() as patch:
        inside.FIND_OLDEST.patch(patch, looks)
        inside.MOMENTS.patch(patch, [0.001] * int(1000 * TIMEOUT))  # however busy the machine is
        try:
            yield
        finally:
            gate.opened.set()


@pytest.mark.parametrize("way", ["plain", "submit", "ordered", "around"])
def test_drop_oldest_drops_nothing_while_a_worker_is_about_to_make_room(way: str) -> None:
    """It has taken the only one that waits, and has yet to count that."""
    taken = Latch()

    class Slow(list[int]):
        def __setitem__(self, worker: int, counter: int) -> None:
            if not taken.entered.is_set():
                taken()
            super().__setitem__(worker, counter)

    around = contextlib.nullcontext if way == "around" else None
    with WorkerPool(1, max_pending=1, overflow="drop_oldest", around=around) as pool:
        signal = signal_to(Ear(response="heard"), pool, ordered=way == "ordered")

        def send() -> Any:
            return pool.submit(str, "heard") if way == "submit" else signal.send_async(None)[0][1]

        inside.replace_counters(pool, Slow())  # in which the worker counts what it has taken
        first = send()
        assert taken.entered.wait(TIMEOUT)
        with goes_on_when_looked_for(pool, taken):
            second = send()
        assert [future.result(TIMEOUT) for future in (first, second)] == ["heard"] * 2
        assert pool.drain(TIMEOUT)
        assert pool.stats().dropped == 0


def test_drop_oldest_drops_nothing_while_a_worker_is_about_to_make_room_for_a_batch() -> None:
    taken = Latch()

    class Slow(list[int]):
        def pop(self, *at: Any) -> int:
            place = super().pop(*at)
            taken()
            return place

    around = contextlib.nullcontext  # it has a batch for one, too
    with WorkerPool(1, max_pending=1, overflow="drop_oldest", around=around) as pool:
        signal = signal_to(Ear(response="heard"), pool)
        with held(pool):
            first: Any = signal.send_async(None)[0][1]
            inside.replace_untaken(first, Slow)
        assert taken.entered.wait(TIMEOUT)
        with goes_on_when_looked_for(pool, taken):
            second = signal.send_async(None)[0][1]
        assert [future.result(TIMEOUT) for future in (first, second)] == ["heard"] * 2
        assert pool.drain(TIMEOUT)
        assert pool.stats().dropped == 0


@pytest.mark.parametrize("way", ["plain", "submit", "ordered"])
def test_drop_oldest_drops_what_another_sender_is_about_to_queue(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one has the room, and was there first."""

    with WorkerPool(1, max_pending=1, overflow="drop_oldest") as pool, held(pool):
        signal = signal_to(Ear(response="heard"), pool, ordered=way == "ordered")

        def send() -> Any:
            return pool.submit(str, "heard") if way == "submit" else signal.send_async(None)[0][1]

        senders = list[int]()
        late = stops_at(monkeypatch, inside.TIME_OF_SEND, lambda: threading.get_ident() in senders)

        def first_sender() -> Any:
            senders.append(threading.get_ident())
            return send()

        first = Running(first_sender)
        assert late.entered.wait(TIMEOUT)
        with goes_on_when_looked_for(pool, late):
            second = send()
        assert type(first.result().exception(TIMEOUT)) is DeliveryDropped
        assert not second.done()
        assert pool.stats().dropped == 1
    assert second.result(TIMEOUT) == "heard"


def test_drop_oldest_in_a_handler_of_the_sender_itself_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What keeps the room is below it on the stack: nothing comes free before it returns."""
    publish, sent, pauses = inside.QUEUE_IT.now, list[Any](), list[float]()

    def interrupted(engine: Any, *arguments: Any) -> None:
        inside.QUEUE_IT.patch(monkeypatch, publish)
        monkeypatch.setattr(time, "sleep", pauses.append)
        sent.append(pool.submit(int))
        monkeypatch.undo()
        publish(engine, *arguments)

    with WorkerPool(1, max_pending=1, overflow="drop_oldest") as pool, held(pool):
        inside.QUEUE_IT.patch(monkeypatch, interrupted)
        sent.append(pool.submit(int))
        assert type(sent[0].exception(TIMEOUT)) is DeliveryDropped
        assert pauses == []
    assert sent[1].result(TIMEOUT) == 0


class Passed(dict[Any, None]):
    """Counts how often its holes at the start, as a dictionary's are, are passed."""

    looks = 0

    def __iter__(self) -> Iterator[Any]:
        self.looks += 1
        return super().__iter__()


@pytest.mark.parametrize("way", ["plain", "submit", "ordered", "tracked"])
def test_drop_oldest_finds_it_without_passing_all_that_was_dropped_before(way: str) -> None:
    with WorkerPool(1, max_pending=50, overflow="drop_oldest") as pool, held(pool):
        terms = {way: True} if way in ("ordered", "tracked") else {}
        signal = signal_to(ignore, pool, **terms)

        def send() -> Any:
            return pool.submit(int) if way == "submit" else signal.send_async(None)[0][1]

        known = inside.replace_unresolved(pool, Passed)
        sent = [send() for _ in range(1050)]
        assert [future.done() for future in sent] == [True] * 1000 + [False] * 50
        assert known.looks < 100


@pytest.mark.unmeasured
def test_each_that_stands_in_line_costs_the_same() -> None:
    def line_up(n: int) -> int:
        cell = inside.atomic_state(1)
        assert cell.admit(inside.units.ADMITTED, 1)
        woken = list[int]()
        line = [
            inside.Blocked(inside.units.ADMITTED, lambda k=k: woken.append(k)) for k in range(n)
        ]

        def all_enter() -> None:
            for blocked in line:
                assert cell.update(inside.changes.block, blocked, 1)
            for _ in line:
                assert cell.update(inside.changes.shift, inside.units.RESOLVE["cancelled"], 1)

        count = steps(all_enter)
        assert woken == list(range(n))
        assert cell.value.blocked == ()
        return count

    assert_linear(line_up, 40)


@pytest.mark.unmeasured
def test_each_that_leaves_the_line_when_the_pool_closes_costs_the_same() -> None:
    def close(n: int) -> int:
        cell = inside.atomic_state(1)
        assert cell.admit(inside.units.ADMITTED, 1)
        woken = list[int]()
        line = [
            inside.Blocked(inside.units.ADMITTED, lambda k=k: woken.append(k)) for k in range(n)
        ]
        for blocked in line:
            assert cell.update(inside.changes.block, blocked, 1)

        def all_leave() -> None:
            cell.update(inside.changes.advance_mode, inside.Mode.CLOSING)
            for blocked in line:
                assert cell.update(inside.changes.unblock, blocked, 1)

        count = steps(all_leave)
        assert {*woken} == {*range(n)}
        return count

    assert_linear(close, 40)


def test_drop_oldest_makes_room_for_an_oversize_fan_out_by_dropping_all() -> None:
    with WorkerPool(1, max_pending=2, overflow="drop_oldest") as pool:
        with held(pool):
            early = [pool.submit(int), pool.submit(int)]
            deliveries = fan_out(pool, *[Ear() for _ in range(5)]).send_async(None)
            assert all(type(future.exception(0)) is DeliveryDropped for future in early)
            assert pool.stats().pending == 5
        assert len(deliveries.results(TIMEOUT)) == 5


def test_drop_oldest_keeps_nothing_of_what_has_ended() -> None:
    """Also while the oldest of all waits and waits, behind a slow delivery of its lane."""
    with WorkerPool(2, max_pending=10, overflow="drop_oldest") as pool:
        gate = Latch()
        lane = signal_to(gate, pool, ordered=True)
        slow, oldest = lane.send_async(None), lane.send_async(None)
        assert gate.entered.wait(TIMEOUT)
        ended = list[Any]()
        for _ in range(50):
            future = pool.submit(int)
            future.result(TIMEOUT)
            ended.append(weakref.ref(future))
            del future
        wait_until(lambda: [reference() for reference in ended] == [None] * 50)
        assert not oldest[0][1].done()
        gate.opened.set()
        assert slow.wait(TIMEOUT)
        assert oldest.wait(TIMEOUT)


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_drops_are_logged_at_most_once_a_second_with_their_number(
    overflow: str, dropping: Callable[[], list[str]]
) -> None:
    with WorkerPool(1, max_pending=1, overflow=overflow, thread_name_prefix="lossy") as pool:
        signal = signal_to(Ear(), pool)
        started = time.monotonic()
        with held(pool):
            signal.send_async(None)
            together(*[lambda: [signal.send_async(None) for _ in range(500)]] * 4)
            seconds = time.monotonic() - started
            assert pool.stats().dropped == 2000
            assert 1 <= len(dropping()) <= 1 + seconds
            assert all("'lossy'" in message for message in dropping())
    # What was not told by then is told when the pool is closed.
    numbers = [int(word) for line in dropping() for word in line.split() if word.isdigit()]
    assert sum(numbers) == 2000


def drop_one(pool: WorkerPool) -> None:
    assert type(pool.submit(int).exception(0)) is DeliveryDropped


def test_drops_that_come_while_another_looks_at_the_clock_count_for_the_second_they_came_in(
    dropping: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with WorkerPool(1, max_pending=1, overflow="drop_newest") as pool, held(pool):
        pool.submit(int)
        coming = [pool]

        def monotonic() -> float:
            if not coming:
                return 100.0
            coming.pop()
            drop_one(pool)
            drop_one(pool)
            return 102.0

        with monkeypatch.context() as patch:
            clock = types.SimpleNamespace(monotonic=monotonic, perf_counter=time.perf_counter)
            inside.CLOCK_OF_DROPS.patch(patch, clock)
            drop_one(pool)
        assert pool.stats().dropped == 3
        # The one that looked, with the first that came meanwhile; and then the second.
        assert [" 2 deliveries" in dropping()[0], " 1 deliveries" in dropping()[1]] == [True] * 2
        assert len(dropping()) == 2


def test_of_two_who_would_log_drops_at_once_one_does(dropping: Callable[[], list[str]]) -> None:
    with WorkerPool(1, max_pending=1, overflow="drop_newest") as pool, held(pool):
        pool.submit(int)
        coming = [pool]

        class Contested(list[Any]):
            """Who is about to enter here finds that another has, just now."""

            def append(self, stamp: Any) -> None:
                if coming:
                    coming.pop()
                    drop_one(pool)
                    drop_one(pool)  # too soon to be logged
                super().append(stamp)

        inside.contest_next_log_of_drops(pool, Contested())
        drop_one(pool)
        assert pool.stats().dropped == 3
        assert len(dropping()) == 1
        assert " 2 deliveries" in dropping()[0]


def test_drops_of_two_pools_are_logged_apart(dropping: Callable[[], list[str]]) -> None:
    for name in ("one", "two"):
        with (
            WorkerPool(1, max_pending=1, overflow="drop_newest", thread_name_prefix=name) as pool,
            held(pool),
        ):
            pool.submit(int)
            pool.submit(int)
    assert ["'one'" in dropping()[0], "'two'" in dropping()[1]] == [True, True]


@pytest.mark.parametrize("what", ["submit", "send", "send to several", "ordered send"])
@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_log_handler_may_wait_where_drops_are_logged(overflow: str, what: str) -> None:
    """No code of ours is in the middle of anything there."""
    done = list[bool]()

    class Waits(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            done.append(other.submit(int).result(TIMEOUT) == 0)
            done.append(other.drain(TIMEOUT))

    logger, handler = logging.getLogger("tsignals"), Waits()
    with WorkerPool(1) as other, WorkerPool(1, max_pending=1, overflow=overflow) as pool:
        receivers = [ignore, lambda **named: None] if what == "send to several" else [ignore]
        signal = fan_out(pool, *receivers, ordered=what == "ordered send")
        with held(pool):
            pool.submit(int)
            logger.addHandler(handler)
            try:
                pool.submit(int) if what == "submit" else signal.send_async(None)
                assert done == [True, True]
            finally:
                logger.removeHandler(handler)


# caller_runs


def test_caller_runs_all_of_it_in_the_caller() -> None:
    with WorkerPool(1, max_pending=2, overflow="caller_runs") as pool:
        threads = list[int]()
        receivers = [lambda **named: threads.append(threading.get_ident()) for _ in range(3)]
        signal = fan_out(pool, *receivers)
        with held(pool):
            pool.submit(int)
            deliveries = signal.send_async(None)
            assert deliveries.wait(0)
            assert threads == [threading.get_ident()] * 3
            assert pool.stats()[2:9] == (1, 1, 5, 3, 0, 0, 0)


def test_caller_that_would_run_it_is_refused_once_the_pool_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was open when the queue was found full."""
    run_here, ear = inside.RUN_HERE.now, Ear()

    def closed(*arguments: Any) -> None:
        pool.shutdown(wait=False)
        run_here(*arguments)

    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        signal = fan_out(pool, ear, ear.hear)
        with held(pool):
            waiting, before = pool.submit(int), pool.stats()
            inside.RUN_HERE.patch(monkeypatch, closed)
            with pytest.raises(PoolClosed):
                signal.send_async(None)
            assert pool.stats() == before
        assert waiting.result(TIMEOUT) == 0
    assert ear.calls == []


def test_caller_runs_what_raises_without_raising() -> None:
    errors = [Boom(), SystemExit(), GeneratorExit()]
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool, told() as hears:
        signal = fan_out(pool, *map(raiser, errors))
        with held(pool):
            pool.submit(int)
            outcomes = signal.send_async(None).outcomes(0)
            assert [error for _, error in outcomes] == errors
            assert pool.stats().failed == 3
    assert hears.errors == errors


def test_caller_runs_in_a_copy_of_its_context_and_in_around() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="before")
    entered = list[int]()

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        entered.append(threading.get_ident())
        yield

    pool = WorkerPool(1, max_pending=1, overflow="caller_runs", around=around)
    with pool, held(pool):
        pool.submit(int)
        entered.clear()
        signal_to(lambda **named: variable.set("in the receiver"), pool).send_async(None)
        assert variable.get() == "before"
        assert entered == [threading.get_ident()]


def test_caller_that_is_interrupted_in_a_receiver_has_taken_effect() -> None:
    """Ctrl-C while the caller runs a receiver: that one ends with it, the others run."""
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        ran = list[str]()
        signal = fan_out(
            pool,
            lambda **named: ran.append("first"),
            raiser(KeyboardInterrupt()),
            lambda **named: ran.append("last"),
        )
        with held(pool):
            pool.submit(int)
            with pytest.raises(KeyboardInterrupt):
                signal.send_async(None)
            assert ran[0] == "first"
        assert pool.drain(TIMEOUT)
        assert ran == ["first", "last"]
        assert pool.stats()[2:9] == (0, 0, 5, 4, 1, 0, 0)


def test_caller_that_runs_deliveries_is_a_worker_meanwhile() -> None:
    """It neither waits for the pool to come to rest, which includes itself, nor for its end."""
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:

        def receives(**named: Any) -> None:
            with pytest.raises(RuntimeError, match="drain"):
                pool.drain(TIMEOUT)
            inner = signal_to(Ear(response="inner"), pool).send_async(None)
            assert inner.results(TIMEOUT)[0][1] == "inner"
            pool.shutdown()

        with held(pool):
            pool.submit(int)
            assert signal_to(receives, pool).send_async(None).outcomes(0).errors == []
        assert pool.drain(TIMEOUT)


@pytest.mark.parametrize("ordered", [False, True], ids=["", "ordered"])
def test_receiver_that_a_caller_runs_may_wait(ordered: bool) -> None:
    tracked, waited = Signal(), list[object]()
    with (
        WorkerPool(1, max_pending=1, overflow="caller_runs") as pool,
        WorkerPool(1, max_pending=1) as other,
    ):

        def receives(**named: Any) -> None:
            future = other.submit(int)
            waited.append(future.result(TIMEOUT))
            waited.append(pool.submit(int).result(TIMEOUT))
            waited.append(other.drain(TIMEOUT))
            waited.append(not futures.wait([other.submit(int)], TIMEOUT).not_done)
            connection = tracked.connect(lambda **named: None, weak=False, tracked=True)
            waited.append(connection.disconnect(wait=TIMEOUT))
            with held(other) as gate:
                other.submit(int)
                opening = Running(open_once_somebody_waits, gate)
                waited.append(other.submit(int).result(TIMEOUT))
                opening.result()

        def open_once_somebody_waits(gate: Latch) -> None:
            wait_until(lambda: inside.blocked_senders(other))
            gate.opened.set()

        with held(pool):
            pool.submit(int)
            deliveries = signal_to(receives, pool, ordered=ordered).send_async(None)
            assert deliveries.outcomes(0).errors == []
    assert waited == [0, 0, True, True, True, 0]


def test_caller_waits_for_its_turn_in_the_lane() -> None:
    with WorkerPool(2, max_pending=2, overflow="caller_runs") as pool:
        order, gate = list[int](), Latch()

        def receives(n: int, **named: Any) -> None:
            if n == 0:
                gate()
            order.append(n)

        signal = signal_to(receives, pool, ordered=True)
        first = signal.send_async(None, n=0)
        assert gate.entered.wait(TIMEOUT)
        with held(pool):
            waiting = [signal.send_async(None, n=n) for n in (1, 2)]
            sending = Running(signal.send_async, None, n=3)
            wait_until(lambda: pool.stats().submitted == 5)
            assert not sending.done
            gate.opened.set()
            assert sending.result().wait(0)
        assert all(each.wait(TIMEOUT) for each in [first, *waiting])
        assert order == [0, 1, 2, 3]
        assert add_up(pool.stats())


def test_inside_its_own_lane_the_delivery_is_queued_over_the_limit() -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        order = list[int]()

        def receives(n: int, **named: Any) -> None:
            if n < 5:
                deliveries.append(signal.send_async(None, n=n + 1))
                deliveries.append(signal.send_async(None, n=n + 10))
            order.append(n)

        deliveries = list[Deliveries]()
        signal = signal_to(receives, pool, ordered=True)
        deliveries.append(signal.send_async(None, n=0))
        assert pool.drain(TIMEOUT)
        assert all(each.wait(0) for each in deliveries)
    # In the order of the sends, which each delivery makes as it runs.
    assert order == [0, 1, 10, 2, 11, 3, 12, 4, 13, 5, 14]
    assert pool.stats().completed == 11


def close_until_nobody_works(pool: WorkerPool, hold: Latch) -> None:
    pool.shutdown(wait=False)
    hold.opened.set()
    wait_until(lambda: not pool.stats().workers)


def test_what_runs_again_while_its_caller_looks_what_is_left_is_counted_once() -> None:
    """It has failed there, and a worker runs it to its end between two looks of the caller."""
    calls, caller = list[int](), threading.get_ident()

    def fails_once(**named: Any) -> None:
        calls.append(threading.get_ident())
        if len(calls) == 1:
            raise Boom

    class Unresolved(dict[Any, None]):
        def __contains__(self, entry: object) -> bool:
            if calls == [caller] == [threading.get_ident()]:
                hold.opened.set()
                wait_until(lambda: len(calls) == 2 and len(self) == 1)  # the caller itself
            return super().__contains__(entry)

    pool = WorkerPool(1, max_pending=1, overflow="caller_runs")
    signal, retry = Signal(executor=pool), Retry(Boom, wait_initial=0, wait_jitter=0, timeout=None)
    signal.connect(fails_once, weak=False, retry=retry)
    unresolved = inside.core_of(pool).backlog.unresolved = Unresolved()
    with held(pool) as hold:
        pool.submit(int)
        assert signal.send_async(None).wait(TIMEOUT)
    assert pool.drain(TIMEOUT)
    assert (len(calls), len(unresolved)) == (2, 0)
    assert pool.stats()[2:9] == (0, 0, 3, 3, 0, 0, 0)
    pool.shutdown()


def test_what_an_interrupted_caller_leaves_to_a_closing_pool_is_run() -> None:
    """Nothing waited meanwhile, so its workers have gone: it takes another."""
    ran, pool = list[int](), WorkerPool(1, max_pending=1, overflow="caller_runs")

    def interrupted(**named: Any) -> None:
        close_until_nobody_works(pool, hold)
        raise KeyboardInterrupt

    signal = fan_out(pool, interrupted, lambda **named: ran.append(1))
    with held(pool) as hold:
        pool.submit(int)
        with pytest.raises(KeyboardInterrupt):
            signal.send_async(None)
    assert pool.drain(TIMEOUT)
    assert ran == [1]
    Running(pool.shutdown).result()


def test_what_a_caller_sends_into_its_own_lane_is_run_though_the_pool_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the last moment, and when it is queued over the limit its workers have gone."""
    ran, put_back, comes = list[int](), inside.PUT_BACK.now, [0, 0]

    def puts_back(*arguments: Any) -> None:
        comes.pop()
        if not comes:
            close_until_nobody_works(pool, hold)
        put_back(*arguments)

    def receives(n: int, **named: Any) -> None:
        if n == 0:
            signal.send_async(None, n=1)
        ran.append(n)

    inside.PUT_BACK.patch(monkeypatch, puts_back)
    pool = WorkerPool(1, max_pending=1, overflow="caller_runs")
    signal = signal_to(receives, pool, ordered=True)
    with held(pool) as hold:
        pool.submit(int)
        signal.send_async(None, n=0)
    assert pool.drain(TIMEOUT)
    assert ran == [0, 1]
    Running(pool.shutdown).result()


@pytest.mark.parametrize("overflow", ["block", "caller_runs"])
def test_ordered_deliveries_of_full_workers_keep_their_order(overflow: str) -> None:
    """Workers that run each other's lanes when the queue is full neither hang nor swap."""
    with WorkerPool(3, max_pending=3, overflow=overflow) as pool:
        heard: dict[str, list[int]] = {"a": [], "b": []}
        inside: dict[str, int] = {"a": 0, "b": 0}

        def lane(name: str) -> Callable[..., None]:
            def receives(n: int, **named: Any) -> None:
                inside[name] += 1
                assert inside[name] == 1
                heard[name].append(n)
                inside[name] -= 1

            return receives

        signal = fan_out(pool, lane("a"), lane("b"), ordered=True)

        def sends(of: int, **named: Any) -> None:
            for n in range(20):
                signal.send_async(None, n=of * 100 + n)

        outer = fan_out(pool, *[lambda of=of, **named: sends(of) for of in range(4)])
        assert outer.send_async(None).outcomes(TIMEOUT).errors == []
        assert pool.drain(TIMEOUT)
        for numbers in heard.values():
            assert len(numbers) == 80
            for of in range(4):
                own = [n for n in numbers if n // 100 == of]
                assert own == sorted(own)
        assert add_up(pool.stats())


def test_lane_mates_that_wait_for_each_other_do_not_count_twice() -> None:
    """A later delivery of the lane is waited for in a worker while a caller takes its turn."""
    with WorkerPool(2, max_pending=1, overflow="caller_runs") as pool:
        order, gate = list[int](), Latch()

        def receives(n: int, **named: Any) -> None:
            if n == 0:
                gate()
            order.append(n)

        signal = signal_to(receives, pool, ordered=True)
        signal.send_async(None, n=0)
        assert gate.entered.wait(TIMEOUT)
        waiter_may, waited = threading.Event(), list[Any]()

        def waits(**named: Any) -> None:
            assert waiter_may.wait(TIMEOUT)
            waited.extend(later.result().results(TIMEOUT))

        signal_to(waits, pool).send_async(None)
        wait_until(lambda: pool.stats().running == 2)
        signal.send_async(None, n=1)
        later = Running(signal.send_async, None, n=2)  # takes its turn behind 0 and 1
        wait_until(lambda: pool.stats().submitted == 4)
        waiter_may.set()
        gate.opened.set()
        assert later.result().wait(TIMEOUT)
        assert pool.drain(TIMEOUT)
        assert order == [0, 1, 2]
        assert pool.stats()[2:9] == (0, 0, 4, 4, 0, 0, 0)


def test_what_a_caller_is_about_to_run_is_not_cancelled_as_if_it_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran, claim = list[int](), inside.CLAIM.now

    def claims_late(future: Any, mark: Any) -> bool:
        if mark == ("run", threading.get_ident()):
            pool.shutdown(wait=False, cancel_futures=True)
        return claim(future, mark)

    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        with held(pool):
            waiting = pool.submit(int)
            inside.CLAIM.patch(monkeypatch, claims_late)
            pool.submit(ran.append, 1)
            monkeypatch.undo()
        assert waiting.cancelled()
        assert pool.drain(TIMEOUT)
        assert ran == [1]
        assert pool.stats()[2:9] == (0, 0, 3, 2, 0, 1, 0)


@pytest.mark.parametrize("who", ["worker", "sender", "anybody"])
def test_what_a_caller_has_not_come_to_yet_is_left_to_it(who: str) -> None:
    """It counts as running, though ``unfinished()`` shows it: others resolve and run nothing of it.

    That took it from those that wait, of which there were then less than none.
    """
    gate, answers, threads = Latch(), list[Any](), list[int]()
    with WorkerPool(2, max_pending=1, overflow="caller_runs") as pool:

        def first(**named: Any) -> None:
            if who == "sender":
                answers.append(pool.unfinished()[-1])
                with pytest.raises(RuntimeError, match="wait for each other"):
                    answers[0].result(TIMEOUT)
            gate()

        signal = fan_out(pool, first, lambda **named: threads.append(threading.get_ident()))
        with held(pool) as hold:
            go = threading.Event()
            helping = pool.submit(
                lambda: go.wait(TIMEOUT) and who == "worker" and answers[0].result(TIMEOUT)
            )
            wait_until(lambda: pool.stats().running == 2)
            pool.submit(int)
            sending = Running(lambda: (signal.send_async(None), threading.get_ident()))
            assert gate.entered.wait(TIMEOUT)
            before = pool.stats()
            second = pool.unfinished()[-1]
            answers.append(second)
            go.set()
            if who == "worker":
                wait_until(lambda: inside.is_waited_for(second))
            assert not second.cancel()
            if who == "worker":
                assert pool.stats() == before
            gate.opened.set()
            _, thread = sending.result()
            assert second.result(TIMEOUT) is None
            helping.result(TIMEOUT)
            hold.opened.set()
        assert pool.drain(TIMEOUT)
        assert threads == [thread]
        assert pool.stats()[2:9] == (0, 0, 5, 5, 0, 0, 0)


def test_worker_that_waits_for_what_an_interrupted_caller_leaves_runs_it() -> None:
    """It is the only one there to do so."""
    gate, found, threads = Latch(), list[Any](), list[int]()
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:

        def interrupted(**named: Any) -> None:
            gate()
            raise KeyboardInterrupt

        def helps() -> int:
            assert go.wait(TIMEOUT)
            found[0].result(TIMEOUT)
            return threading.get_ident()

        go = threading.Event()
        signal = fan_out(pool, interrupted, lambda **named: threads.append(threading.get_ident()))
        helping = pool.submit(helps)
        wait_until(helping.running)
        pool.submit(int)
        sending = Running(signal.send_async, None)
        assert gate.entered.wait(TIMEOUT)
        found.append(pool.unfinished()[-1])
        go.set()
        wait_until(lambda: inside.is_waited_for(found[0]))
        gate.opened.set()
        with pytest.raises(KeyboardInterrupt):
            sending.result()
        assert [helping.result(TIMEOUT)] == threads
        assert pool.drain(TIMEOUT)
        assert pool.stats()[2:9] == (0, 0, 4, 3, 1, 0, 0)


# A burst


@pytest.mark.slow
@pytest.mark.unmeasured
def test_default_pool_holds_no_more_than_it_promises_in_a_burst() -> None:
    """A hundred thousand sends, faster than the receiver can be run."""
    pace = threading.Semaphore(0)
    count = [0]

    def receives(**named: Any) -> None:
        count[0] += 1
        if count[0] <= 2000:  # slow at first, so that the queue is really full
            pace.acquire(timeout=0.001)

    with WorkerPool() as pool, Watch(pool) as watch:
        signal = signal_to(receives, pool)
        for _ in range(100_000):
            signal.send_async(None)
        assert pool.drain(TIMEOUT)
        assert pool.stats().completed == 100_000
    assert 0 < watch.most_pending <= 10_000


@pytest.mark.parametrize("kind", ["plain", "tracked", "around", "view", "ordered beside it"])
def test_send_that_is_refused_leaves_no_cycle(kind: str) -> None:
    around = contextlib.nullcontext if kind == "around" else None
    with WorkerPool(1, around=around) as pool:
        signal, senders = Signal(executor=pool), [Thing()]
        for receiver in (ignore, Ear().hear):
            signal.connect(receiver, weak=False, tracked=kind == "tracked")
        if kind == "ordered beside it":
            signal.connect(Ear(), weak=False, ordered=True)
        gone = weakref.ref(senders[0])
        pool.shutdown()
        with uncollected():
            with contextlib.suppress(PoolClosed):
                (signal.via(pool) if kind == "view" else signal).send_async(senders.pop())
            wait_until(lambda: gone() is None)
