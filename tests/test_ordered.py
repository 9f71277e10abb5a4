"""connect(ordered=True): one delivery at a time, in the order of the sends, on a shared pool."""

import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import inside
import pytest
from helpers import TIMEOUT, BaseBoom, Boom, Latch, Running, Thing, assert_gone, wait_until
from pools import add_up, held, signal_to

from tsignals import Deliveries, DeliveryDropped, Signal, WorkerPool


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(4) as pool:
        yield pool


class Lane:
    """A receiver that fails when it is entered twice at a time, and remembers the order."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.overlaps = 0
        self.gates: dict[Any, Latch] = {}
        self._inside = threading.Lock()

    def __call__(self, n: Any, **named: Any) -> Any:
        alone = self._inside.acquire(blocking=False)
        self.overlaps += not alone
        try:
            if n in self.gates:
                self.gates[n]()
            self.heard.append(n)
            return n
        finally:
            if alone:
                self._inside.release()

    def stop_at(self, n: Any) -> Latch:
        gate = self.gates[n] = Latch()
        return gate


def send_all(signal: Signal, numbers: Any) -> list[Deliveries]:
    return [signal.send_async(None, n=n) for n in numbers]


def test_deliveries_run_one_at_a_time_in_the_order_of_the_sends(pool: WorkerPool) -> None:
    lane = Lane()
    sent = send_all(signal_to(lane, pool, ordered=True), range(500))
    assert [pair[1] for each in sent for pair in each.results(TIMEOUT)] == list(range(500))
    assert lane.heard == list(range(500))
    assert lane.overlaps == 0


def test_receivers_that_are_not_ordered_run_at_the_same_time(pool: WorkerPool) -> None:
    """What ``ordered`` prevents would happen otherwise."""
    barrier = threading.Barrier(2)
    signal = signal_to(lambda **named: barrier.wait(TIMEOUT), pool)
    for deliveries in [signal.send_async(None) for _ in range(2)]:
        deliveries.results(TIMEOUT)


def test_next_delivery_does_not_start_while_one_runs_though_workers_are_free(
    pool: WorkerPool,
) -> None:
    lane = Lane()
    gate = lane.stop_at(0)
    sent = send_all(signal_to(lane, pool, ordered=True), range(3))
    assert gate.entered.wait(TIMEOUT)
    assert pool.submit(int).result(TIMEOUT) == 0  # others pass
    stats = pool.stats()
    assert (stats.running, stats.pending, lane.heard) == (1, 2, [])
    gate.opened.set()
    assert all(each.wait(TIMEOUT) for each in sent)
    assert lane.heard == [0, 1, 2]


def test_each_threads_sends_keep_their_order(pool: WorkerPool) -> None:
    lane = Lane()
    signal = signal_to(lane, pool, ordered=True)
    start = threading.Barrier(4)

    def sends(of: int) -> None:
        start.wait(TIMEOUT)
        for n in range(100):
            signal.send_async(None, n=(of, n))

    for thread in [Running(sends, of) for of in range(4)]:
        thread.result()
    assert pool.drain(TIMEOUT)
    assert len(lane.heard) == 400
    assert lane.overlaps == 0
    for of in range(4):
        assert [n for thread, n in lane.heard if thread == of] == list(range(100))


def test_order_agrees_with_what_happened_before_across_threads(pool: WorkerPool) -> None:
    """Two threads that send in turns: each has seen that the other has sent."""
    lane = Lane()
    signal = signal_to(lane, pool, ordered=True)
    turns = [threading.Semaphore(1), threading.Semaphore(0)]

    def sends(mine: int) -> None:
        for n in range(100):
            assert turns[mine].acquire(timeout=TIMEOUT)
            signal.send_async(None, n=2 * n + mine)
            turns[1 - mine].release()

    for thread in [Running(sends, 0), Running(sends, 1)]:
        thread.result()
    assert pool.drain(TIMEOUT)
    assert lane.heard == list(range(200))


def test_all_ordered_connections_of_a_receiver_share_its_lane(pool: WorkerPool) -> None:
    lane, sender = Lane(), Thing()
    one, other = Signal(executor=pool), Signal(executor=pool)
    one.connect(lane, ordered=True)
    one.connect(lane, sender=sender, ordered=True)
    other.connect(lane, ordered=True, priority=3)
    gate = lane.stop_at(0)
    one.send_async(None, n=0)
    assert gate.entered.wait(TIMEOUT)
    for n in range(1, 20):
        (one if n % 2 else other).send_async(sender, n=n)
    gate.opened.set()
    assert pool.drain(TIMEOUT)
    assert lane.heard == sorted([*range(20), *range(1, 20, 2)])
    assert lane.overlaps == 0


def test_unordered_connection_of_the_same_receiver_is_in_no_lane(pool: WorkerPool) -> None:
    lane = Lane()
    gate = lane.stop_at(0)
    ordered, free = signal_to(lane, pool, ordered=True), signal_to(lane, pool)
    [(_, first)] = ordered.send_async(None, n=0)
    assert gate.entered.wait(TIMEOUT)
    assert free.send_async(None, n=1).results(TIMEOUT) == [(lane, 1)]
    gate.opened.set()
    assert first.result(TIMEOUT) == 0


def test_each_pool_has_a_lane_of_its_own(pool: WorkerPool) -> None:
    lane = Lane()
    gate = lane.stop_at(0)
    [(_, first)] = signal_to(lane, pool, ordered=True).send_async(None, n=0)
    assert gate.entered.wait(TIMEOUT)
    with WorkerPool(1) as other:
        signal = signal_to(lane, other, ordered=True)
        assert signal.send_async(None, n=1).results(TIMEOUT) == [(lane, 1)]
    gate.opened.set()
    assert first.result(TIMEOUT) == 0


class Owner(Thing):
    def __init__(self) -> None:
        super().__init__()
        self.lane = Lane()

    def hear(self, n: int, **named: Any) -> Any:
        return self.lane(n)


def test_lane_of_a_method_is_that_of_its_object(pool: WorkerPool) -> None:
    """However often the method is looked up; and another object's is another."""
    owner, other = Owner(), Owner()
    gate = owner.lane.stop_at(0)
    signals = [Signal(executor=pool) for _ in range(2)]
    for signal in signals:
        signal.connect(owner.hear, ordered=True)
    signals[0].send_async(None, n=0)
    assert gate.entered.wait(TIMEOUT)
    [(_, behind)] = signals[1].send_async(None, n=1)
    with signals[1].connect(other.hear, ordered=True):
        deliveries = signals[1].send_async(None, n=2)
    assert deliveries[1][1].result(TIMEOUT) == 2
    assert not behind.done()
    gate.opened.set()
    assert pool.drain(TIMEOUT)
    assert owner.lane.heard == [0, 1, 2]


def test_idle_lane_holds_no_worker() -> None:
    """A hundred lanes on one worker, and what is waiting in a lane occupies none either."""
    with WorkerPool(2) as pool:
        lanes = [Lane() for _ in range(100)]
        signal = Signal(executor=pool)
        for lane in lanes:
            signal.connect(lane, ordered=True)
        for each in send_all(signal, range(3)):
            each.results(TIMEOUT)
        assert all(lane.heard == [0, 1, 2] for lane in lanes)
        wait_until(lambda: pool.stats().idle == pool.stats().workers)
        gate = lanes[0].stop_at(3)
        slow = signal_to(lanes[0], pool, ordered=True)
        waiting = send_all(slow, range(3, 50))
        assert gate.entered.wait(TIMEOUT)
        assert pool.submit(int).result(TIMEOUT) == 0
        gate.opened.set()
        assert all(each.wait(TIMEOUT) for each in waiting)


def test_slow_receiver_does_not_delay_the_others_of_the_same_send(pool: WorkerPool) -> None:
    slow, quick, free = Lane(), Lane(), Lane()
    gate = slow.stop_at(0)
    signal = Signal(executor=pool)
    signal.connect(slow, ordered=True)
    signal.connect(quick, ordered=True)
    signal.connect(free)
    sent = send_all(signal, range(10))
    for deliveries in sent:
        assert deliveries[1][1].result(TIMEOUT) == deliveries[2][1].result(TIMEOUT)
    assert quick.heard == list(range(10))
    assert slow.heard == []
    gate.opened.set()
    assert all(each.wait(TIMEOUT) for each in sent)
    assert slow.heard == list(range(10))


@pytest.mark.parametrize("error", [Boom(), BaseBoom(), SystemExit(), KeyboardInterrupt()])
def test_error_in_one_delivery_does_not_stop_the_lane(
    error: BaseException, pool: WorkerPool
) -> None:
    def receives(n: int, **named: Any) -> int:
        if n == 1:
            raise error
        return n

    sent = send_all(signal_to(receives, pool, ordered=True), range(3))
    assert [each[0][1].exception(TIMEOUT) for each in sent] == [None, error, None]


@pytest.mark.parametrize("which", [{1}, {2}, {3}, {1, 2}, {2, 3}, {1, 2, 3}], ids=str)
def test_cancelled_deliveries_are_left_out_of_the_lane(which: set[int], pool: WorkerPool) -> None:
    lane = Lane()
    gate = lane.stop_at(0)
    sent = send_all(signal_to(lane, pool, ordered=True), range(4))
    assert gate.entered.wait(TIMEOUT)
    for n in which:
        assert sent[n].cancel() == 1
    gate.opened.set()
    assert pool.drain(TIMEOUT)
    assert lane.heard == [n for n in range(4) if n not in which]
    assert pool.stats().cancelled == len(which)


def test_dropped_deliveries_are_left_out_of_the_lane() -> None:
    with WorkerPool(1, max_pending=2, overflow="drop_oldest") as pool:
        lane = Lane()
        gate = lane.stop_at(0)
        signal = signal_to(lane, pool, ordered=True)
        first = signal.send_async(None, n=0)
        assert gate.entered.wait(TIMEOUT)
        sent = [*first, *(pair for each in send_all(signal, range(1, 6)) for pair in each)]
        gate.opened.set()
        assert pool.drain(TIMEOUT)
        assert lane.heard == [0, 4, 5]
        for _, delivery in sent[1:4]:
            assert isinstance(delivery.exception(0), DeliveryDropped)
        assert add_up(pool.stats())


def test_receiver_that_sends_to_itself_hears_it_afterwards(pool: WorkerPool) -> None:
    order = list[str]()

    def receives(n: int, **named: Any) -> None:
        order.append(f"begin {n}")
        if n < 2:
            signal.send_async(None, n=n + 1)
        order.append(f"end {n}")

    signal = signal_to(receives, pool, ordered=True)
    signal.send_async(None, n=0)
    assert pool.drain(TIMEOUT)
    assert order == [f"{what} {n}" for n in range(3) for what in ("begin", "end")]


def test_delivery_that_is_sent_as_the_lane_ends_starts_another(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane takes no more turns by then, and is still found by who looks for it."""
    lane, close = Lane(), inside.CLOSE_LANE.now
    signal, sent = signal_to(lane, pool, ordered=True), list[Deliveries]()

    def close_late(ending: Any) -> None:
        monkeypatch.undo()
        sent.append(signal.send_async(None, n=1))
        close(ending)

    inside.CLOSE_LANE.patch(monkeypatch, close_late)
    signal.send_async(None, n=0).results(TIMEOUT)
    wait_until(lambda: sent)
    assert sent[0].results(TIMEOUT) == [(lane, 1)]
    signal.send_async(None, n=2).results(TIMEOUT)
    assert (lane.heard, lane.overlaps) == ([0, 1, 2], 0)
    wait_until(lambda: not inside.lanes_of(pool))


def test_what_one_delivery_did_is_visible_to_the_next(pool: WorkerPool) -> None:
    """Though they run in different workers, without a lock of their own."""
    counter = [0]

    def receives(**named: Any) -> int:
        counter[0] += 1
        return counter[0]

    sent = [signal_to(receives, pool, ordered=True).send_async(None) for _ in range(300)]
    assert [each[0][1].result(TIMEOUT) for each in sent] == list(range(1, 301))


def test_connection_made_anew_stays_in_the_lane(pool: WorkerPool) -> None:
    lane, signal = Lane(), Signal(executor=pool)
    gate = lane.stop_at(0)
    with signal.connect(lane, ordered=True):
        signal.send_async(None, n=0)
        assert gate.entered.wait(TIMEOUT)
    signal.connect(lane, ordered=True)
    [(_, behind)] = signal.send_async(None, n=1)
    assert pool.submit(int).result(TIMEOUT) == 0
    assert not behind.done()
    gate.opened.set()
    assert behind.result(TIMEOUT) == 1
    assert lane.heard == [0, 1]


def test_lanes_of_dead_receivers_leave_nothing_behind(pool: WorkerPool) -> None:
    signal = Signal(executor=pool)
    references = list["weakref.ref[Owner]"]()
    for n in range(50):
        owner = Owner()
        connection = signal.connect(owner.hear, ordered=True)
        send_all(signal, [n, n])[1].results(TIMEOUT)
        connection.disconnect()
        references.append(weakref.ref(owner))
        del owner, connection
    with held(pool):
        pass
    for reference in references:
        assert_gone(reference)
    assert len(inside.lanes_of(pool)) == 0


def test_delivery_waiting_in_its_lane_keeps_its_receiver(pool: WorkerPool) -> None:
    owner, signal = Owner(), Signal(executor=pool)
    lane = owner.lane
    gate = lane.stop_at(0)
    signal.connect(owner.hear, ordered=True)
    sent = send_all(signal, range(2))
    assert gate.entered.wait(TIMEOUT)
    del owner
    gate.opened.set()
    assert [each.wait(TIMEOUT) for each in sent] == [True, True]
    assert lane.heard == [0, 1]


def test_worker_that_finds_a_delivery_before_it_has_its_turn_waits_for_that(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands before it in its lane is not known yet to who got it from ``unfinished()``."""
    lane, join = Lane(), inside.JOIN_LANE.now
    gate = lane.stop_at(0)

    def joins_late(lanes: Any, of: object, task: Any) -> Any:
        if not helping:
            assert pool.unfinished()[-1] is task
            helping.append(pool.submit(task.result))
            wait_until(lambda: inside.is_waited_for(task))
        return join(lanes, of, task)

    helping = list[Any]()
    signal = signal_to(lane, pool, ordered=True)
    signal.send_async(None, n=0)
    assert gate.entered.wait(TIMEOUT)
    inside.JOIN_LANE.patch(monkeypatch, joins_late)
    signal.send_async(None, n=1)
    gate.opened.set()
    helping[0].result(TIMEOUT)
    assert lane.heard == [0, 1]


@pytest.mark.parametrize("shut", [False, True], ids=["drain", "shutdown"])
def test_lane_is_finished_before_the_pool_is(shut: bool, pool: WorkerPool) -> None:
    lane = Lane()
    gate = lane.stop_at(0)
    send_all(signal_to(lane, pool, ordered=True), range(20))
    assert gate.entered.wait(TIMEOUT)
    end: Callable[[], object] = pool.shutdown if shut else lambda: pool.drain(TIMEOUT)
    ending = Running(end)
    gate.opened.set()
    ending.result()
    assert lane.heard == list(range(20))


def test_ordered_async_receiver_runs_one_at_a_time_too(pool: WorkerPool) -> None:
    import asyncio

    heard, inside = list[int](), [0]

    async def receives(n: int, **named: Any) -> None:
        inside[0] += 1
        assert inside[0] == 1
        await asyncio.sleep(0)
        heard.append(n)
        inside[0] -= 1

    sent = send_all(signal_to(receives, pool, ordered=True), range(30))
    assert [error for each in sent for error in each.outcomes(TIMEOUT).errors] == []
    assert heard == list(range(30))
