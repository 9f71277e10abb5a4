"""send_async: one delivery per receiver, in a worker pool, with the plan of the call."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed, wait
from typing import Any
from unittest import mock

import inside
import pytest
from helpers import (
    TIMEOUT,
    BaseBoom,
    Boom,
    Ear,
    Latch,
    Thing,
    assert_gone,
    ignore,
    raiser,
    together,
    wait_until,
)
from pools import held, signal_to, told

from tsignals import (
    Deliveries,
    Delivery,
    PoolClosed,
    Signal,
    WorkerPool,
    background,
    get_default_executor,
    receiver_failed,
    set_default_executor,
)

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2, thread_name_prefix="async") as pool:
        yield pool


# What it gives


def test_gives_one_delivery_per_receiver_in_call_order(pool: WorkerPool) -> None:
    signal, ears, sender = Signal(executor=pool), [Ear(str(n), n) for n in range(5)], Thing()
    for n, ear in enumerate(ears):
        signal.connect(ear, priority=n)
    deliveries = signal.send_async(sender, size=1)
    assert type(deliveries) is Deliveries
    assert isinstance(deliveries, list)
    assert [receiver for receiver, _ in deliveries] == ears[::-1]
    for ear, (receiver, delivery) in zip(ears[::-1], deliveries, strict=True):
        assert isinstance(delivery, Delivery)
        assert isinstance(delivery, Future)
        assert delivery.signal is signal
        assert delivery.sender is sender
        assert delivery.receiver is receiver is ear
        assert delivery.result(TIMEOUT) == ear.response
        assert ear.calls == [{"signal": signal, "sender": sender, "size": 1}]


def test_receiver_connected_to_a_sender_and_to_all_is_delivered_twice(pool: WorkerPool) -> None:
    signal, ear, sender = Signal(executor=pool), Ear(), Thing()
    signal.connect(ear)
    signal.connect(ear, sender)
    assert len(signal.send_async(sender).results(TIMEOUT)) == 2
    assert len(signal.send_async(Thing()).results(TIMEOUT)) == 1
    assert len(ear.calls) == 3


def test_runs_in_a_worker_and_not_in_the_sender(pool: WorkerPool) -> None:
    signal = signal_to(lambda **named: threading.current_thread().name, pool)
    [(_, name)] = signal.send_async(None).results(TIMEOUT)
    assert name.startswith("async")


def test_returns_before_the_receivers_have_run(pool: WorkerPool) -> None:
    gate = Latch()
    deliveries = signal_to(gate, pool).send_async(None)
    assert gate.entered.wait(TIMEOUT)
    assert not deliveries[0][1].done()
    gate.opened.set()
    assert deliveries.results(TIMEOUT) == [(gate, "through")]


def test_deliveries_are_accepted_wherever_futures_are(pool: WorkerPool) -> None:
    signal = Signal(executor=pool)
    ears = [Ear(str(n), n) for n in range(3)]
    for ear in ears:
        signal.connect(ear)
    futures = signal.send_async(None).futures
    assert wait(futures, TIMEOUT).done == set(futures)
    assert sorted(f.result(0) for f in as_completed(futures, TIMEOUT)) == [0, 1, 2]

    async def awaits() -> list[Any]:
        return await asyncio.gather(*map(asyncio.wrap_future, signal.send_async(None).futures))

    assert asyncio.run(awaits()) == [0, 1, 2]


@pytest.mark.parametrize("error", [Boom(), BaseBoom(), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_receiver_raises_is_in_its_delivery_alone(
    error: BaseException, pool: WorkerPool
) -> None:
    signal, first, last = Signal(executor=pool), Ear("first"), Ear("last", "heard")
    raises = raiser(error)
    for receiver in (first, raises, last):
        signal.connect(receiver)
    deliveries = signal.send_async(None)
    assert deliveries.wait(TIMEOUT)
    assert deliveries[1][1].exception(0) is error
    with pytest.raises(type(error)):
        deliveries[1][1].result(0)
    assert deliveries[2][1].result(0) == "heard"
    assert error.__traceback__ is not None


def test_returned_exception_is_a_result(pool: WorkerPool) -> None:
    error = Boom()
    assert signal_to(Ear(response=error), pool).send_async(None)[0][1].result(TIMEOUT) is error


@pytest.mark.parametrize("name", ["self", "sending", "around", "function", "receiver", "named"])
def test_values_may_have_any_name_but_signal_and_sender(name: str, pool: WorkerPool) -> None:
    ear = Ear()
    signal_to(ear, pool).send_async(None, **{name: 1}).results(TIMEOUT)
    assert ear.calls[0][name] == 1


def test_value_named_signal_raises_before_anything_is_queued(pool: WorkerPool) -> None:
    signal = signal_to(Ear(), pool)
    with pytest.raises(TypeError, match="signal"):
        signal.send_async(None, **{"signal": 1})
    assert pool.stats().submitted == 0


# To nobody


def test_to_nobody_gives_no_deliveries_and_makes_no_pool() -> None:
    signal, sender = Signal(), Thing()
    signal.connect(ear := Ear(), sender)
    threads = threading.active_count()
    for other in (None, Thing()):
        deliveries = signal.send_async(other)
        assert type(deliveries) is Deliveries
        assert deliveries == []
        assert deliveries.results() == []
        assert deliveries.wait()
    assert ear.calls == []
    assert set_default_executor(None) is None
    assert threading.active_count() == threads


def test_to_nobody_never_raises() -> None:
    pool = WorkerPool(1, max_pending=1, overflow="raise")
    signal = Signal(executor=pool)
    with held(pool):
        pool.submit(int)
        assert signal.send_async(None) == []
    pool.shutdown()
    assert signal.send_async(None) == []
    signal.connect(Ear())  # dead at once
    assert signal.send_async(None) == []


def test_to_receivers_that_have_just_died_it_gives_no_deliveries_and_makes_no_pool() -> None:
    """Before the signal has been told of their death."""
    signal, mortal, sent = Signal(), Ear(), list[Any]()
    signal.connect(mortal)
    # The newest reference's callback is called first.
    probe = weakref.ref(mortal, lambda _: sent.append(signal.send_async(None)))
    del mortal
    assert probe() is None
    assert sent == [[]]
    assert type(sent[0]) is Deliveries
    assert set_default_executor(None) is None


# The plan is that of the call


def test_plan_is_fixed_at_the_call(pool: WorkerPool) -> None:
    signal, gone, late = Signal(executor=pool), Ear("gone"), Ear("late")
    connection = signal.connect(gone)
    with held(pool, 2):
        deliveries = signal.send_async(None)
        connection.disconnect()
        signal.connect(late)
    assert deliveries.results(TIMEOUT) == [(gone, None)]
    assert (len(gone.calls), len(late.calls)) == (1, 0)


def test_receiver_and_sender_live_until_the_delivery_has_run(pool: WorkerPool) -> None:
    calls = list[object]()

    class Hears:
        def hear(self, sender: object, **named: Any) -> None:
            calls.append(sender)

    signal, hears, sender = Signal(executor=pool), Hears(), Thing()
    signal.connect(hears.hear, sender)
    dead = weakref.ref(hears), weakref.ref(sender)
    with held(pool, 2):
        deliveries = signal.send_async(sender)
        del hears, sender
        gc.collect()
        assert all(reference() is not None for reference in dead)
    assert deliveries.wait(TIMEOUT)
    assert len(calls) == 1
    calls.clear()
    del deliveries
    for reference in dead:
        assert_gone(reference)


def test_values_are_kept_for_a_delivery_that_begins_when_its_sibling_has_ended(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a worker has taken it before."""
    signal, first, second, ended = Signal(executor=pool), Ear(), Ear(), threading.Event()
    perform = inside.PERFORM.now

    def late(delivery: Any) -> Any:
        assert delivery.receiver is second or ended.wait(TIMEOUT)
        return perform(delivery)

    inside.PERFORM.patch(monkeypatch, late)
    signal.connect(first)
    signal.connect(second)
    deliveries = signal.send_async(None, size=1)
    wait_until(lambda: pool.stats().completed == 1)  # who asks for it changes what is looked at
    ended.set()
    assert deliveries.results(TIMEOUT) == [(first, None), (second, None)]
    assert [call["size"] for call in first.calls + second.calls] == [1, 1]


def test_values_are_let_go_when_the_delivery_has_ended(pool: WorkerPool) -> None:
    signal = signal_to(lambda **named: None, pool)
    ran, cancelled = Thing(), Thing()
    deliveries = signal.send_async(None, thing=ran)
    assert deliveries.wait(TIMEOUT)
    with held(pool, 2):
        others = signal.send_async(None, thing=cancelled)
        assert others.cancel() == 1
        references = [weakref.ref(ran), weakref.ref(cancelled)]
        del ran, cancelled
        assert_gone(references[1])
    for reference in references:
        assert_gone(reference)


# Fan-outs: several receivers, one entry in the queue


def fan_out(pool: WorkerPool, *receivers: Callable[..., Any]) -> Signal:
    signal = Signal(executor=pool)
    for receiver in receivers:
        signal.connect(receiver, weak=False)
    return signal


@pytest.mark.parametrize("count", [2, 5])
def test_receivers_of_one_send_run_side_by_side(count: int) -> None:
    barrier = threading.Barrier(count)
    with WorkerPool(count) as pool:
        signal = fan_out(pool, *(lambda **named: barrier.wait(TIMEOUT) for _ in range(count)))
        responses = [response for _, response in signal.send_async(None).results(TIMEOUT)]
    assert sorted(responses) == list(range(count))


def test_slow_receiver_does_not_hold_up_its_siblings(pool: WorkerPool) -> None:
    gates = [Latch(), Latch()]
    deliveries = fan_out(pool, gates[0], Ear(), Ear(), Ear(), gates[1]).send_async(None)
    with contextlib.ExitStack() as stack:
        stack.callback(gates[1].opened.set)
        stack.callback(gates[0].opened.set)
        assert gates[0].entered.wait(TIMEOUT)
        assert gates[1].entered.wait(TIMEOUT)
        assert [delivery.done() for _, delivery in deliveries] == [False, True, True, True, False]


def test_what_a_sibling_has_given_is_let_go_while_others_still_run(pool: WorkerPool) -> None:
    gate, results = Latch(), list[weakref.ref[Thing]]()

    def gives(**named: Any) -> Thing:
        result = Thing()
        results.append(weakref.ref(result))
        return result

    with pool:
        signal = fan_out(pool, gives, lambda **named: gives(), gate)
        [*given, (_, last)] = signal.send_async(None)
        for _, delivery in given:
            assert delivery.result(TIMEOUT)
        assert gate.entered.wait(TIMEOUT)
        del given, delivery
        for reference in results:
            # A moment after it was to be had. Free-threaded builds leave it to the worker's thread,
            # which is busy, or to the collector.
            wait_until(lambda reference=reference: gc.collect() >= 0 and reference() is None)
        assert not last.done()
        gate.opened.set()


def test_receiver_may_wait_for_a_sibling() -> None:
    deliveries: list[Any] = []
    sent = threading.Event()

    def waits(**named: Any) -> Any:
        assert sent.wait(TIMEOUT)
        return deliveries[0][1][1].result(TIMEOUT)

    with WorkerPool(1) as pool:
        deliveries.append(fan_out(pool, waits, lambda **named: "sibling").send_async(None))
        sent.set()
        assert [response for _, response in deliveries[0].results(TIMEOUT)] == ["sibling"] * 2
        # The worker looks once more at what it had left to itself, and is idle then.
        wait_until(lambda: pool.stats()[1:9] == (1, 0, 0, 2, 2, 0, 0, 0))


def test_siblings_of_what_was_cancelled_or_failed_run_all_the_same(pool: WorkerPool) -> None:
    def raises_base(**named: Any) -> None:
        raise BaseBoom

    signal = fan_out(pool, Ear(), Ear(), raiser(Boom()), raises_base, Ear())
    with held(pool, 2), told() as tells:
        deliveries = signal.send_async(None)
        assert deliveries[1][1].cancel()
    assert deliveries.wait(TIMEOUT)
    assert pool.drain(TIMEOUT)
    stats = pool.stats()
    assert (stats.completed, stats.failed, stats.cancelled) == (2 + 2, 2, 1)
    del tells


@pytest.mark.parametrize("given", [{}, {"tracked": True}, {"ordered": True}, {"once": True}])
def test_deliveries_that_go_well_leave_nothing_to_be_logged(
    given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    signal, ears = Signal(), [Ear(response=n) for n in range(3)]
    for ear in ears:
        signal.connect(ear, **given)
    with caplog.at_level(logging.DEBUG, "tsignals"), WorkerPool(2) as pool:
        signal.executor = pool
        assert signal.send_async(None).results(TIMEOUT) == [(ear, ear.response) for ear in ears]
    assert caplog.records == []


def test_callback_that_ends_the_worker_does_not_end_the_fan_out() -> None:
    def leave(future: Any) -> None:
        raise SystemExit

    with WorkerPool(1) as pool:
        signal = fan_out(pool, *(Ear() for _ in range(4)))
        with held(pool):
            deliveries = signal.send_async(None)
            for future in deliveries.futures:
                future.add_done_callback(leave)
        assert deliveries.wait(TIMEOUT)
        assert pool.drain(TIMEOUT)
        assert pool.stats().completed == 4 + 1
        wait_until(lambda: pool.stats().idle == 1)  # after the callback, which nobody waits for


def test_each_failure_tells_how_long_it_waited_and_ran() -> None:
    gate = Latch()

    def fails_late(**named: Any) -> None:
        gate()
        raise Boom

    with WorkerPool(1) as pool, told() as tells:
        begun = time.perf_counter()
        deliveries = fan_out(pool, fails_late, raiser(Boom())).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        entered = time.perf_counter()
        wait_until(lambda: time.perf_counter() - entered > 0.02)
        held_up = time.perf_counter() - entered
        gate.opened.set()
        assert deliveries.wait(TIMEOUT)
        took = time.perf_counter() - begun
    late, soon = tells.failures
    assert late.ran_seconds >= held_up
    assert soon.queued_seconds >= held_up
    for failure in tells.failures:
        assert 0 <= failure.queued_seconds + failure.ran_seconds <= took


# The context


def test_delivery_runs_in_a_copy_of_the_senders_context_at_the_call(pool: WorkerPool) -> None:
    signal = signal_to(lambda **named: variable.get(), pool)
    token = variable.set("at the call")
    with held(pool, 2):
        deliveries = signal.send_async(None)
        variable.set("later")
    variable.reset(token)
    assert deliveries[0][1].result(TIMEOUT) == "at the call"


def test_each_delivery_has_its_own_copy(pool: WorkerPool) -> None:
    signal = Signal(executor=pool)

    def sets(**named: Any) -> str:
        before = variable.get()
        variable.set("set by a receiver")
        return before

    def sets_too(**named: Any) -> str:
        return sets()

    signal.connect(sets)
    signal.connect(sets_too)
    for _ in range(4):
        responses = [response for _, response in signal.send_async(None).results(TIMEOUT)]
        assert responses == ["unset", "unset"]
    assert variable.get() == "unset"
    assert pool.submit(variable.get).result(TIMEOUT) == "unset"


def test_values_of_the_context_are_not_copied(pool: WorkerPool) -> None:
    values: contextvars.ContextVar[list[str]] = contextvars.ContextVar("values")
    values.set([])
    signal = Signal(executor=pool)

    def changes(**named: Any) -> None:
        values.get().append("by a receiver")

    signal.connect(changes)
    signal.send_async(None).results(TIMEOUT)
    assert values.get() == ["by a receiver"]


def test_receivers_that_send_pass_their_context_on(pool: WorkerPool) -> None:
    inner = signal_to(lambda **named: variable.get(), pool)

    def outer(**named: Any) -> Any:
        variable.set("outer")
        return inner.send_async(None).results(TIMEOUT)[0][1]

    assert signal_to(outer, pool).send_async(None)[0][1].result(TIMEOUT) == "outer"


# The executor


def test_executor_is_the_signals_else_the_default(pool: WorkerPool) -> None:
    receiver = lambda **named: threading.current_thread().name  # noqa: E731
    own, other = signal_to(receiver, pool), signal_to(receiver, None)
    assert own.send_async(None)[0][1].result(TIMEOUT).startswith("async")
    default = get_default_executor()
    assert type(default) is WorkerPool
    assert other.send_async(None)[0][1].result(TIMEOUT).startswith("tsignals")
    assert default.stats().submitted == 1
    assert get_default_executor() is default


def test_executor_can_be_assigned_and_holds_for_later_sends(pool: WorkerPool) -> None:
    signal = signal_to(lambda **named: threading.current_thread().name, None)
    assert signal.executor is None
    with WorkerPool(1, thread_name_prefix="other") as other:
        signal.executor = other
        with held(other):
            earlier = signal.send_async(None)
            signal.executor = pool
            assert signal.send_async(None)[0][1].result(TIMEOUT).startswith("async")
        assert earlier[0][1].result(TIMEOUT).startswith("other")


@pytest.mark.parametrize("ordered", [False, True])
def test_executor_that_is_unassigned_in_the_middle_of_a_send_still_serves_it(
    ordered: bool, pool: WorkerPool
) -> None:
    executors: list[WorkerPool | None] = [pool]

    class Changing(Signal):
        @property
        def executor(self) -> WorkerPool | None:
            return executors.pop() if executors else None

        @executor.setter
        def executor(self, value: object) -> None: ...

    signal = Changing()
    signal.connect(lambda **named: threading.current_thread().name, weak=False, ordered=ordered)
    [(_, name)] = signal.send_async(None).results(TIMEOUT)
    assert name.startswith("async")


def test_each_former_default_executor_is_given_to_one_of_those_that_set_it() -> None:
    """Or one would be shut down twice, and another never."""
    pools = [WorkerPool(1) for _ in range(200)]

    def set_all(some: list[WorkerPool]) -> list[Any]:
        return [set_default_executor(pool) for pool in some]

    formers = together(*(functools.partial(set_all, pools[n::4]) for n in range(4)))
    last = set_default_executor(None)
    given = [former for some in formers for former in some if former is not None]
    assert {*map(id, [*given, last])} == {*map(id, pools)}
    assert len(given) == len(pools) - 1


def test_set_default_executor_returns_the_former_one_still_open(pool: WorkerPool) -> None:
    assert set_default_executor(pool) is None
    assert get_default_executor() is pool
    assert signal_to(Ear(response=1), None).send_async(None)[0][1].result(TIMEOUT) == 1
    with ThreadPoolExecutor(1) as other:
        assert set_default_executor(other) is pool
        assert get_default_executor() is other
        assert set_default_executor(None) is other
    assert pool.submit(int).result(TIMEOUT) == 0
    fresh = get_default_executor()
    assert isinstance(fresh, WorkerPool)
    assert fresh is not pool


@pytest.mark.parametrize("wrong", [3, "pool", WorkerPool, Signal()])
def test_set_default_executor_takes_executors_only(wrong: Any, pool: WorkerPool) -> None:
    set_default_executor(pool)
    with pytest.raises(TypeError, match="Executor"):
        set_default_executor(wrong)
    assert set_default_executor(None) is pool


class NotMade(WorkerPool):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    "wrong",
    [mock.Mock(spec=WorkerPool), mock.create_autospec(WorkerPool)(), NotMade()],
    ids=["mock", "autospec", "subclass"],
)
def test_what_only_says_that_it_is_a_pool_is_refused_at_once(wrong: Any) -> None:
    """It was accepted, and each send raised that a mock has no ``_core``."""
    signal = Signal()
    for use in (
        lambda: Signal(executor=wrong),
        lambda: setattr(signal, "executor", wrong),
        lambda: signal.via(wrong),
        lambda: set_default_executor(wrong),
        lambda: background(ignore, executor=wrong),
    ):
        with pytest.raises(TypeError, match="must be a WorkerPool that was made as one"):
            use()
    assert signal.executor is None
    double = mock.Mock(spec=ThreadPoolExecutor)  # any other executor may be one
    double.submit.return_value = Future()
    assert len(signal_to(ignore, double).send_async(None)) == 1


def test_all_threads_get_the_same_default_executor() -> None:
    for _ in range(20):
        got = together(*[get_default_executor] * 4)
        assert len(set(map(id, got))) == 1
        former: Executor | None = set_default_executor(None)
        assert former is got[0]
        former.shutdown()


def test_default_executor_that_is_set_while_a_pool_is_made_for_it_is_what_all_get(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool that was made meanwhile would be nobody's: never the default, never returned."""
    given = list[Executor | None]()
    make = WorkerPool.__init__

    def make_late(self: WorkerPool, *arguments: Any, **keywords: Any) -> None:
        make(self, *arguments, **keywords)
        if not given:
            given.append(set_default_executor(pool))

    set_default_executor(None)
    open_before = len(WorkerPool.all())
    monkeypatch.setattr(WorkerPool, "__init__", make_late)
    assert get_default_executor() is pool
    assert given == [None]
    assert len(WorkerPool.all()) == open_before
    assert set_default_executor(None) is pool


def test_closed_pool_raises_and_nothing_is_queued(pool: WorkerPool) -> None:
    ear = Ear()
    signal = signal_to(ear, pool)
    pool.shutdown()
    with pytest.raises(PoolClosed) as caught:
        signal.send_async(None)
    assert isinstance(caught.value, RuntimeError)
    assert pool.stats().submitted == 0
    assert ear.calls == []


# Failures


def test_failure_is_told_once_whoever_looks(pool: WorkerPool) -> None:
    error = Boom()
    signal = signal_to(raiser(error), pool)
    with told() as hears:
        deliveries = signal.send_async(None)
        for _ in range(3):
            assert deliveries[0][1].exception(TIMEOUT) is error
            assert len(deliveries.outcomes(TIMEOUT).errors) == 1
        signal.send_async(None)
        assert pool.drain(TIMEOUT)
    assert hears.errors == [error, error]


def test_interrupt_in_the_telling_leaves_the_receivers_error(pool: WorkerPool) -> None:
    """Should a receiver of ``receiver_failed`` exit, the delivery still has its own error."""
    error = Boom()
    with receiver_failed.connect(raiser(SystemExit()), weak=False):
        delivery = signal_to(raiser(error), pool).send_async(None)[0][1]
        assert delivery.exception(TIMEOUT) is error
    assert pool.submit(int).result(TIMEOUT) == 0
    assert pool.stats().failed == 1


def test_what_happened_before_is_visible_to_the_receiver_and_after_to_the_waiter(
    pool: WorkerPool,
) -> None:
    class Box:
        value = 0

    def increments(box: Box, **named: Any) -> None:
        box.value += 1

    signal, box = signal_to(increments, pool), Box()
    for n in range(500):
        assert box.value == 2 * n
        box.value += 1
        signal.send_async(None, box=box).results(TIMEOUT)


@pytest.mark.parametrize("count", [1, 2])
def test_delivery_that_an_interrupted_sender_queues_once_more_keeps_its_result(
    count: int, pool: WorkerPool
) -> None:
    signal = Signal(executor=pool)
    for _ in range(count):
        signal.connect(lambda **named: "response", weak=False)
    deliveries = signal.send_async(None)
    assert deliveries.wait(TIMEOUT)
    for future in deliveries.futures:
        inside.queue_once_more(future)
    assert [response for _, response in deliveries.results(TIMEOUT)] == ["response"] * count
