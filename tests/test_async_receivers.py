"""Async receivers of senders that are no coroutines: of send and send_robust, and in a pool."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import logging
import os
import signal as signals
import subprocess
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, ThreadPoolExecutor
from typing import Any

import pytest
from event_loops import (
    CANCELLED,
    STRAYS,
    AsyncGate,
    async_kinds,
    async_raiser,
    every_loop,
    ignores,
    run,
    until,
)
from helpers import (
    TIMEOUT,
    BaseBoom,
    Boom,
    Ear,
    Gate,
    Running,
    Thing,
    assert_gone,
    ignore,
    raiser,
    uncollected,
    wait_until,
)
from pools import held, signal_to, told

from tsignals import (
    Deliveries,
    Delivery,
    DeliveryDropped,
    DeliveryLost,
    PoolClosed,
    QueueFull,
    Signal,
    WorkerPool,
    _loop,
    background,
)
from tsignals._loop import LoopThread

__all__ = ["every_loop"]

every_verb = pytest.mark.parametrize("verb", ["send", "send_robust"])
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2, thread_name_prefix="pool") as pool:
        yield pool


def responses(pairs: Any) -> list[Any]:
    return [response for _, response in pairs]


# send and send_robust


@every_verb
def test_send_runs_async_receivers_after_the_sync_ones(verb: str) -> None:
    signal, ear, steps = Signal(), Ear(response="sync"), list[int]()

    async def hears(n: int, **named: Any) -> int:
        assert len(ear.calls) == 1
        await asyncio.sleep(0)
        steps.append(threading.get_ident())
        return n

    signal.connect(hears)
    signal.connect(ear)
    assert getattr(signal, verb)(None, n=3) == [(ear, "sync"), (hears, 3)]
    assert steps == [threading.get_ident()]


@every_verb
@pytest.mark.parametrize("kind", async_kinds())
def test_send_awaits_what_is_defined_as_async(verb: str, kind: str) -> None:
    signal, receiver = Signal(), async_kinds()[kind]
    signal.connect(receiver, weak=False)
    assert getattr(signal, verb)(None, n=7) == [(receiver, 7)]


@every_verb
def test_send_runs_async_receivers_together(verb: str) -> None:
    signal, meeting = Signal(), list[asyncio.Event]()

    async def hears(**named: Any) -> int:
        meeting.append(asyncio.Event())
        if len(meeting) == 3:
            for event in meeting:
                event.set()
        await asyncio.wait_for(meeting[-1].wait(), TIMEOUT)
        return len(meeting)

    receivers: list[Any] = [hears, *(functools.partial(hears, n=n) for n in range(2))]
    for receiver in receivers:
        signal.connect(receiver)
    assert responses(getattr(signal, verb)(None)) == [3, 3, 3]


@every_verb
def test_send_on_a_thread_with_a_running_loop_is_refused_before_any_receiver_runs(
    verb: str,
) -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear)
    signal.connect(ignores)

    async def main() -> None:
        with pytest.raises(RuntimeError, match=rf"await signal\.a{verb}\("):
            getattr(signal, verb)(None)
        assert ear.calls == []
        sent = await asyncio.to_thread(getattr(signal, verb), None)
        assert [receiver for receiver, _ in sent] == [ear, ignores]

    run(main())


@every_verb
def test_send_that_reaches_no_async_receiver_may_run_on_a_loop(verb: str) -> None:
    signal, ear, sender, dead = Signal(), Ear(), Thing(), AsyncGate()
    signal.connect(ear)
    signal.connect(ignores, sender=sender)
    signal.connect(dead)
    del dead

    async def main() -> None:
        assert getattr(signal, verb)(None) == [(ear, None)]

    run(main())


@every_verb
@pytest.mark.parametrize("current", [True, False])
def test_send_leaves_the_threads_current_event_loop_as_it_was(verb: str, current: bool) -> None:
    signal = Signal()
    signal.connect(ignores)

    def sends() -> None:
        loop = asyncio.new_event_loop() if current else None
        asyncio.set_event_loop(loop)
        try:
            getattr(signal, verb)(None)
            if loop is None:
                with pytest.raises(RuntimeError):
                    asyncio.get_event_loop()
            else:
                assert asyncio.get_event_loop() is loop
                assert not loop.is_closed()
        finally:
            asyncio.set_event_loop(None)
            if loop is not None:
                loop.close()

    Running(sends).result()


@every_verb
def test_send_leaves_nothing_running(verb: str) -> None:
    signal, gate, left = Signal(), AsyncGate(), list[asyncio.Task[Any]]()

    async def leaves(**named: Any) -> None:
        left.append(asyncio.ensure_future(gate()))
        await until(gate.entered)

    signal.connect(leaves)
    getattr(signal, verb)(None)
    assert gate.cancelled.is_set()


variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")


@every_verb
def test_variables_that_async_receivers_set_are_set_for_the_sender(verb: str) -> None:
    signal = Signal()

    def first(**named: Any) -> None:
        variable.set([*variable.get(), "first"])

    async def second(**named: Any) -> None:
        variable.set([*variable.get(), "second"])

    async def third(**named: Any) -> None:
        variable.set([*variable.get(), "third"])

    for receiver in (second, third, first):
        signal.connect(receiver)

    def sends() -> Any:
        variable.set(["sender"])
        getattr(signal, verb)(None)
        return variable.get()

    expected = ["sender", "first", "second", "third"]
    assert contextvars.copy_context().run(sends) == expected


def test_send_raises_what_the_sync_receiver_raises_and_calls_no_async_one() -> None:
    signal, raising, gate = Signal(), raiser(Boom()), AsyncGate()
    signal.connect(gate)
    signal.connect(raising)
    with pytest.raises(Boom):
        signal.send(None)
    assert gate.calls == 0


def test_send_raises_the_error_of_one_async_receiver_and_a_group_of_several() -> None:
    signal, errors = Signal(), [Boom("first"), Boom("second")]
    first, second = map(async_raiser, errors)
    signal.connect(first)
    with pytest.raises(Boom) as single:
        signal.send(None)
    assert single.value is errors[0]
    signal.connect(second)
    with pytest.raises(ExceptionGroup) as group:
        signal.send(None)
    assert list(group.value.exceptions) == errors


def test_send_robust_collects_and_tells() -> None:
    signal, errors = Signal(), [Boom("sync"), Boom("async")]
    raising, async_raising = raiser(errors[0]), async_raiser(errors[1])
    for receiver in (async_raising, raising, ignores):
        signal.connect(receiver)
    with told() as hears:
        outcomes = signal.send_robust(None)
    assert outcomes == [(raising, errors[0]), (async_raising, errors[1]), (ignores, None)]
    assert outcomes.errors == outcomes[:2]
    assert hears.errors == errors
    assert {failure.mode for failure in hears.failures} == {"send_robust"}


@every_verb
@pytest.mark.parametrize("error", [BaseBoom, KeyboardInterrupt, SystemExit])
def test_send_lets_through_what_is_no_exception(verb: str, error: type[BaseException]) -> None:
    signal, raising, gate = Signal(), async_raiser(error()), AsyncGate()
    signal.connect(raising)
    signal.connect(gate)
    with pytest.raises(error):
        getattr(signal, verb)(None)
    assert gate.calls == gate.cancelled.is_set()


@pytest.mark.parametrize("verb", ["send_robust", "asend_robust"])
def test_response_that_will_not_say_its_class_is_a_response(verb: str) -> None:
    class Lazy:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise RuntimeError("not to be asked")

    lazy = Lazy()

    async def responds(**named: object) -> Lazy:
        return lazy

    signal = Signal()
    signal.connect(responds)
    outcomes = getattr(signal, verb)(None)
    if verb == "asend_robust":
        outcomes = asyncio.run(outcomes)
    assert [response is lazy for _, response in outcomes] == [True]
    assert not outcomes.errors


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@every_verb
def test_ctrl_c_ends_a_send(verb: str) -> None:
    signal, gate = Signal(), AsyncGate()
    signal.connect(gate)

    def interrupts() -> None:
        assert gate.entered.wait(TIMEOUT)
        signals.raise_signal(signals.SIGINT)

    before = signals.signal(signals.SIGINT, signals.default_int_handler)
    try:
        thread = Running(interrupts)
        with pytest.raises(KeyboardInterrupt):
            getattr(signal, verb)(None)
        thread.result()
        assert signals.getsignal(signals.SIGINT) is signals.default_int_handler
    finally:
        signals.signal(signals.SIGINT, before)
    assert gate.cancelled.is_set()


def test_asyncio_is_imported_when_it_is_needed() -> None:
    code = (
        "import sys, tsignals\n"
        "signal = tsignals.Signal()\n"
        "signal.connect(lambda **named: None, weak=False)\n"
        "signal.send(None)\n"
        "signal.send_async(None).results()\n"
        "assert 'asyncio' not in sys.modules\n"
        "async def hears(**named): pass\n"
        "signal.connect(hears)\n"
        "signal.send_async(None).results()\n"
        "assert 'asyncio' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], timeout=150)
    assert done.returncode == 0


# send_async: where they run


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
    signal, gates = Signal(executor=pool), [Gate(), AsyncGate(), Gate(), AsyncGate()]
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
    gate, sender, called = AsyncGate(), Thing(), list[Any]()
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
    gate = AsyncGate()
    gate.opened.set()
    signal = Signal(executor=pool)
    signal.connect(gate)
    signal.send_async(sender, value=value).results(TIMEOUT)
    references: list[weakref.ref[Any]] = [weakref.ref(thing) for thing in (value, sender, gate)]
    del value, sender, gate
    for reference in references:
        wait_until(lambda: reference() is None)
    assert pool.drain(TIMEOUT)


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="frames are left to the collector"
)
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


# Cancelling


def test_cancel_cancels_the_task_and_is_no_failure(pool: WorkerPool) -> None:
    gate = AsyncGate()
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
    gate = AsyncGate()

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
    gate, tidying = AsyncGate(), AsyncGate()

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


def held_loop(pool: WorkerPool) -> tuple[Gate, Deliveries]:
    """Hold up the pool's event loop, by a receiver that blocks it."""
    gate = Gate()

    async def blocks(**named: Any) -> None:
        gate()

    deliveries = signal_to(blocks, pool).send_async(None)
    assert gate.entered.wait(TIMEOUT)
    return gate, deliveries


def test_what_is_cancelled_before_it_starts_never_does(pool: WorkerPool) -> None:
    gate, blocking = held_loop(pool)
    receiver = AsyncGate()
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

    signal, gate = Signal(executor=pool), AsyncGate()
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
        if getattr(sys, "_is_gil_enabled", lambda: True)():  # else frames are left to the collector
            wait_until(lambda: sent() is None)
    assert_gone(sent)


def test_receiver_that_is_cancelled_as_asked_and_fails_then_has_failed(pool: WorkerPool) -> None:
    gate = AsyncGate()

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
    signal, gate = Signal(), AsyncGate()
    signal.connect(gate)
    signal.connect(STRAYS[stray], weak=False, tracked=tracked)
    with pytest.raises(CANCELLED) as caught:
        signal.send(None)
    assert gate.cancelled.is_set()
    if "by hand" in stray:
        assert caught.value.args == ("by hand",)


# Room


def test_running_delivery_takes_room_until_it_ends() -> None:
    with WorkerPool(1, max_pending=2, overflow="raise") as pool:
        gates = [AsyncGate(), AsyncGate()]
        deliveries = [signal_to(gate, pool).send_async(None) for gate in gates]
        for gate in gates:
            assert gate.entered.wait(TIMEOUT)
        for receiver in (ignore, ignores):
            with pytest.raises(QueueFull):
                signal_to(receiver, pool).send_async(None)
        assert pool.stats().submitted == 2
        gates[0].opened.set()
        deliveries[0].results(TIMEOUT)
        for receiver in (ignore, ignores):
            signal_to(receiver, pool).send_async(None).results(TIMEOUT)
        deliveries[1].cancel()
        assert pool.drain(TIMEOUT)
        signal = Signal(executor=pool)
        for receiver in (ignore, ignores):
            signal.connect(receiver)
        assert len(signal.send_async(None).results(TIMEOUT)) == 2


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_blocked_sender_goes_on_when_a_running_delivery_ends(end: str) -> None:
    with WorkerPool(1, max_pending=1) as pool:
        gate = AsyncGate()
        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        blocked = Running(signal_to(ignores, pool).send_async, None)
        wait_until(lambda: pool._engine.cell.value.blocked)
        assert not blocked.done
        if end == "completed":
            gate.opened.set()
        else:
            running.cancel()
        assert blocked.result().results(TIMEOUT) == [(ignores, None)]


def test_full_queue_is_an_error_at_once_where_an_event_loop_runs(pool: WorkerPool) -> None:
    with WorkerPool(1, max_pending=1) as pool:
        gate = AsyncGate()
        signal = signal_to(gate, pool)
        running = signal.send_async(None)

        async def main() -> None:
            await until(gate.entered)
            with pytest.raises(QueueFull):
                signal.send_async(None)

        run(main())
        on_loop = Signal(executor=WorkerPool(1))
        on_loop.connect(lambda **_: None, weak=False)
        gate.opened.set()
        running.results(TIMEOUT)


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_what_runs_is_not_dropped(overflow: str) -> None:
    with WorkerPool(1, max_pending=1, overflow=overflow) as pool:
        gate = AsyncGate()
        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        [(_, dropped)] = signal_to(ignores, pool).send_async(None)
        assert isinstance(dropped.exception(TIMEOUT), DeliveryDropped)
        gate.opened.set()
        assert running.results(TIMEOUT) == [(gate, "through")]
        assert pool.stats().dropped == 1


def test_oldest_is_not_dropped_where_that_makes_too_little_room() -> None:
    """What runs on the loop cannot give way, and two need more than one that waits."""
    with WorkerPool(1, max_pending=3, overflow="drop_oldest") as pool, held(pool) as worker:
        gates = [AsyncGate(), AsyncGate()]
        running = [signal_to(gate, pool).send_async(None) for gate in gates]
        assert all(gate.entered.wait(TIMEOUT) for gate in gates)
        waiting = pool.submit(int)
        signal = signal_to(ear := Ear(), pool)
        signal.connect(ear.hear)
        for _, dropped in signal.send_async(None):
            assert isinstance(dropped.exception(TIMEOUT), DeliveryDropped)
        assert not waiting.done()
        assert (pool.stats().pending, pool.stats().dropped) == (1, 2)
        newest = pool.submit(int)  # one that waits is enough for one
        assert isinstance(waiting.exception(TIMEOUT), DeliveryDropped)
        worker.opened.set()
        assert newest.result(TIMEOUT) == 0
        for gate, deliveries in zip(gates, running, strict=True):
            gate.opened.set()
            assert deliveries.results(TIMEOUT) == [(gate, "through")]
    assert ear.calls == []


def test_oldest_is_dropped_before_it_starts() -> None:
    with WorkerPool(1, max_pending=2, overflow="drop_oldest") as pool:
        gate, blocking = held_loop(pool)
        first, second = AsyncGate(), AsyncGate()
        second.opened.set()
        [(_, oldest)] = signal_to(first, pool).send_async(None)
        newest = signal_to(second, pool).send_async(None)
        assert isinstance(oldest.exception(TIMEOUT), DeliveryDropped)
        gate.opened.set()
        blocking.results(TIMEOUT)
        assert newest.results(TIMEOUT) == [(second, "through")]
        assert first.calls == 0


@pytest.mark.parametrize("ordered", [False, True])
def test_caller_that_runs_async_deliveries_waits_while_the_loop_runs_them(ordered: bool) -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        gate, waits = AsyncGate(), AsyncGate()
        signal = signal_to(gate, pool)
        running = signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)
        overflowing = Signal(executor=pool)
        threads = list[int]()
        overflowing.connect(lambda **_: threads.append(threading.get_ident()), weak=False)
        overflowing.connect(waits, ordered=ordered)
        caller = Running(lambda: (overflowing.send_async(None), threading.get_ident()))
        assert waits.entered.wait(TIMEOUT)
        assert not caller.done
        waits.opened.set()
        deliveries, thread = caller.result()
        assert deliveries[1][1].result(0) == "through"
        assert threads == [thread]
        gate.opened.set()
        running.results(TIMEOUT)


def test_caller_with_an_event_loop_cannot_run_async_deliveries() -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        gate, ear = AsyncGate(), Ear()
        signal = signal_to(gate, pool)
        running = signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)
        signal.connect(ear)

        async def main() -> None:
            with pytest.raises(QueueFull, match="event loop"):
                signal.send_async(None)

        run(main())
        assert (ear.calls, pool.stats().submitted) == ([], 1)
        gate.opened.set()
        running.results(TIMEOUT)


def test_cancelling_what_a_caller_waits_for_lets_it_go_on() -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        gate, waits = AsyncGate(), AsyncGate()
        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        caller = Running(signal_to(waits, pool).send_async, None)
        assert waits.entered.wait(TIMEOUT)
        [delivery] = [work for work in pool._engine.unresolved if work is not running[0][1]]
        assert delivery.cancel()
        assert caller.result()[0][1].cancelled()
        gate.opened.set()
        running.results(TIMEOUT)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_while_a_caller_waits_for_the_loop_cancels_what_runs_there() -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        gate, waits = AsyncGate(), AsyncGate()
        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)

        def interrupts() -> None:
            assert waits.entered.wait(TIMEOUT)
            while not interrupted:  # one that comes just before the wait does not cut it short
                signals.pthread_kill(threading.main_thread().ident or 0, signals.SIGINT)
                time.sleep(0.01)

        def handler(*_: object) -> None:
            if not interrupted:
                interrupted.append(True)
                raise KeyboardInterrupt

        interrupted = list[bool]()
        before = signals.signal(signals.SIGINT, handler)
        try:
            thread = Running(interrupts)
            with pytest.raises(KeyboardInterrupt):
                signal_to(waits, pool).send_async(None)
            thread.result()
        finally:
            signals.signal(signals.SIGINT, before)
        assert waits.cancelled.wait(TIMEOUT)
        gate.opened.set()
        running.results(TIMEOUT)
        assert pool.drain(TIMEOUT)


def interrupt_callers(patch: pytest.MonkeyPatch, when: Callable[[], object]) -> None:
    """Ctrl-C for who waits for what runs on the loop, as soon as ``when()``."""

    class Interrupted:
        def put(self, task: object) -> None: ...

        def get(self) -> None:
            wait_until(when)
            raise KeyboardInterrupt

    patch.setattr(_loop, "queue", types.SimpleNamespace(SimpleQueue=Interrupted))


def test_ctrl_c_before_the_loop_has_come_to_it_keeps_it_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool, told() as hears:
        gate, blocking = held_loop(pool)
        receiver = AsyncGate()
        interrupt_callers(monkeypatch, lambda: True)
        with pytest.raises(KeyboardInterrupt):
            signal_to(receiver, pool).send_async(None)
        gate.opened.set()
        blocking.results(TIMEOUT)
        assert pool.drain(TIMEOUT)
        stats = pool.stats()
        assert (stats.submitted, stats.completed, stats.failed) == (2, 1, 1)
    # By now the loop has gone through all that it was handed.
    assert receiver.calls == 0
    assert hears.failures == []


def test_what_a_receiver_raises_after_ctrl_c_has_ended_its_delivery_is_no_other_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool, told() as hears:
        gate, waits, tidying = AsyncGate(), AsyncGate(), AsyncGate()

        async def raises(**named: Any) -> None:
            try:
                await waits()
            finally:
                await tidying()
                raise Boom

        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        interrupt_callers(monkeypatch, waits.entered.is_set)
        with pytest.raises(KeyboardInterrupt):
            signal_to(raises, pool).send_async(None)
        assert waits.cancelled.wait(TIMEOUT)
        tidying.opened.set()
        assert tidying.left.wait(TIMEOUT)
        gate.opened.set()
        running.results(TIMEOUT)
        assert pool.drain(TIMEOUT)
        assert (pool.stats().completed, pool.stats().failed) == (1, 1)
    assert hears.failures == []


def test_cancelling_what_the_loop_is_about_to_start_for_a_caller_keeps_it_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have_it_run = _loop.AsyncDelivery._have_it_run

    def cancelled(delivery: Any) -> None:
        assert delivery.cancel()
        have_it_run(delivery)

    monkeypatch.setattr(_loop.AsyncDelivery, "_have_it_run", cancelled)
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool, told() as hears:
        gate, receiver = AsyncGate(), AsyncGate()
        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        [(_, delivery)] = Running(signal_to(receiver, pool).send_async, None).result()
        assert delivery.cancelled()
        gate.opened.set()
        running.results(TIMEOUT)
        assert pool.drain(TIMEOUT)
        assert (pool.stats().completed, pool.stats().cancelled) == (1, 1)
    assert (receiver.calls, hears.failures) == (0, [])


def test_worker_that_finds_its_own_queue_full_waits_for_the_loop() -> None:
    with WorkerPool(1, max_pending=1) as pool:
        gate, waits = AsyncGate(), AsyncGate()
        running = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        waits.opened.set()
        gate_signal = signal_to(waits, pool)
        gate.opened.set()
        running.results(TIMEOUT)
        with held_open(pool) as full:
            sends = pool.submit(lambda: (full(), gate_signal.send_async(None)[0][1].done())[1])
            assert sends.result(TIMEOUT) is True


@contextlib.contextmanager
def held_open(pool: WorkerPool) -> Iterator[Callable[[], None]]:
    """What it yields fills the queue, when it is called, by a delivery that runs on the loop."""
    gate = AsyncGate()
    signal = signal_to(gate, pool)

    def fill() -> None:
        signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)

    try:
        yield fill
    finally:
        gate.opened.set()


# Order


def test_ordered_receiver_runs_one_at_a_time_in_the_order_of_the_sends(pool: WorkerPool) -> None:
    ran, inside = list[int](), list[int]()

    async def hears(n: int, **named: Any) -> None:
        assert inside == []
        inside.append(n)
        await asyncio.sleep(0)
        await asyncio.to_thread(ignore)
        inside.remove(n)
        ran.append(n)
        if n % 7 == 3:
            raise Boom

    signals = [signal_to(hears, pool, ordered=True) for _ in range(2)]
    deliveries = [signals[n % 2].send_async(None, n=n) for n in range(40)]
    deliveries[20].cancel()
    assert all(each.wait(TIMEOUT) for each in deliveries)
    assert ran == [n for n in range(40) if n != 20 or not deliveries[20][0][1].cancelled()]
    wait_until(lambda: not pool._engine.lanes)  # that is after the result


def test_ordered_receivers_of_other_lanes_go_on(pool: WorkerPool) -> None:
    gate, other = AsyncGate(), AsyncGate()
    other.opened.set()
    first = signal_to(gate, pool, ordered=True)
    waiting = [first.send_async(None) for _ in range(3)]
    assert gate.entered.wait(TIMEOUT)
    assert signal_to(other, pool, ordered=True).send_async(None).results(TIMEOUT)
    assert (gate.calls, pool.stats().pending, pool.stats().workers) == (1, 2, 0)
    assert waiting[1].cancel() == 1
    gate.opened.set()
    assert [each.wait(TIMEOUT) for each in waiting] == [True] * 3
    assert gate.calls == 2


# Waiting


def test_worker_may_wait_for_an_async_delivery(pool: WorkerPool) -> None:
    gates = [AsyncGate() for _ in range(3)]
    signal = Signal(executor=pool)
    for gate in gates:
        signal.connect(gate, ordered=True)

    def waits() -> Any:
        return signal.send_async(None).results(TIMEOUT)

    with held(pool):
        waiting = pool.submit(waits)
        for gate in gates:
            assert gate.entered.wait(TIMEOUT)
            gate.opened.set()
        assert waiting.result(TIMEOUT) == [(gate, "through") for gate in gates]


@pytest.mark.parametrize("how", ["result", "wait", "as_completed"])
def test_workers_wait_for_an_async_delivery_ends_with_its_timeout(
    how: str, pool: WorkerPool
) -> None:
    """It does not run in the worker, whether or not it has started."""
    gate, blocking = held_loop(pool)
    receiver = AsyncGate()
    deliveries = signal_to(receiver, pool).send_async(None)

    def waits() -> None:
        if how == "result":
            with pytest.raises(TimeoutError):
                deliveries[0][1].result(0.01)
        elif how == "wait":
            assert concurrent.futures.wait(deliveries.futures, 0.01).not_done
        else:
            with pytest.raises(TimeoutError):
                list(deliveries.as_completed(0.01))

    pool.submit(waits).result(TIMEOUT)
    gate.opened.set()
    blocking.results(TIMEOUT)
    assert receiver.entered.wait(TIMEOUT)
    pool.submit(waits).result(TIMEOUT)
    receiver.opened.set()
    assert deliveries.results(TIMEOUT) == [(receiver, "through")]


WAITS: dict[str, Callable[[Deliveries, WorkerPool], Any]] = {
    "result": lambda deliveries, pool: deliveries[0][1].result(),
    "exception": lambda deliveries, pool: deliveries[0][1].exception(TIMEOUT),
    "results": lambda deliveries, pool: deliveries.results(),
    "outcomes": lambda deliveries, pool: deliveries.outcomes(),
    "Deliveries.wait": lambda deliveries, pool: deliveries.wait(TIMEOUT),
    "Deliveries.as_completed": lambda deliveries, pool: list(deliveries.as_completed()),
    "wait": lambda deliveries, pool: concurrent.futures.wait(deliveries.futures),
    "as_completed": lambda deliveries, pool: list(
        concurrent.futures.as_completed(deliveries.futures)
    ),
    "drain": lambda deliveries, pool: pool.drain(TIMEOUT),
}


@pytest.mark.parametrize("wait", WAITS)
def test_blocking_wait_on_the_pools_event_loop_is_refused(wait: str, pool: WorkerPool) -> None:
    with held(pool, 2):
        waiting = signal_to(ignore, pool).send_async(None)

        async def waits(**named: Any) -> str:
            with pytest.raises(RuntimeError):
                WAITS[wait](waiting, pool)
            return "refused"

        assert responses(signal_to(waits, pool).send_async(None).results(TIMEOUT)) == ["refused"]
    assert waiting.results(TIMEOUT) == [(ignore, None)]


@pytest.mark.parametrize("wait", WAITS)
def test_blocking_wait_of_a_receiver_that_the_event_loop_runs_as_a_caller_is_refused(
    wait: str,
) -> None:
    """It is a worker meanwhile, but what it waits for needs this very loop."""
    pool = WorkerPool(1, max_pending=2, overflow="caller_runs")
    refused = list[str]()

    def waits(awaited: Deliveries, **named: Any) -> None:
        with pytest.raises(RuntimeError):
            WAITS[wait](awaited, pool)
        refused.append(wait)

    on_loop, in_caller = signal_to(ignores, pool), signal_to(waits, pool)

    async def sends(**named: Any) -> Any:
        awaited = on_loop.send_async(None)  # there is room for two, and this is the second
        overflowing = in_caller.send_async(None, awaited=awaited)
        return awaited, overflowing.outcomes(0).errors

    [(_, (awaited, errors))] = signal_to(sends, pool).send_async(None).results(2 * TIMEOUT)
    assert (refused, errors) == ([wait], [])
    assert awaited.results(TIMEOUT) == [(ignores, None)]
    assert pool.drain(TIMEOUT)
    assert pool.stats()[2:] == (0, 0, 3, 3, 0, 0, 0)
    Running(pool.shutdown).result()


def test_what_is_done_can_be_asked_for_on_the_pools_event_loop(pool: WorkerPool) -> None:
    done = signal_to(Ear(response="done"), pool).send_async(None)
    done.wait(TIMEOUT)
    with held(pool, 2):
        pending = signal_to(ignore, pool).send_async(None)

        async def asks(**named: Any) -> Any:
            with pytest.raises(TimeoutError):
                pending.results(timeout=0)
            return responses(done.results())

        assert responses(signal_to(asks, pool).send_async(None).results(TIMEOUT)) == [["done"]]


def test_shutdown_on_the_pools_event_loop_closes_without_waiting() -> None:
    pool = WorkerPool(1)

    async def shuts(**named: Any) -> str:
        pool.shutdown()
        with pytest.raises(PoolClosed):
            pool.submit(ignore)
        return "closed"

    assert responses(signal_to(shuts, pool).send_async(None).results(TIMEOUT)) == ["closed"]
    pool.shutdown()


def test_async_receiver_may_await_its_own_pools_deliveries() -> None:
    with WorkerPool(1) as pool:
        ear = Ear(response="sync")
        inner = Signal(executor=pool)
        inner.connect(ear)

        async def awaits(depth: int, **named: Any) -> Any:
            return responses(await inner.send_async(None, depth=depth - 1)) if depth else "end"

        inner.connect(awaits)
        deliveries = inner.send_async(None, depth=3)
        expected: Any = "end"
        for _ in range(4):
            expected = ["sync", expected]
        assert responses(deliveries.results(TIMEOUT)) == expected


@pytest.mark.parametrize("how", ["await", "async for"])
def test_await_of_what_stands_behind_in_the_own_lane_is_refused(how: str, pool: WorkerPool) -> None:
    async def awaits(**named: Any) -> str:
        if named["last"]:
            return "last"
        deliveries = signal.send_async(None, last=True)
        with pytest.raises(RuntimeError, match="lane"):
            if how == "await":
                await deliveries
            else:
                async for _ in deliveries:
                    pass
        return "refused"

    signal = signal_to(awaits, pool, ordered=True)
    deliveries = signal.send_async(None, last=False)
    assert responses(deliveries.results(TIMEOUT)) == ["refused"]
    assert pool.drain(TIMEOUT)


def test_circle_of_a_worker_and_an_async_delivery_is_refused(pool: WorkerPool) -> None:
    """Whichever closes it is told."""
    sent = threading.Event()
    deliveries = dict[str, Deliveries]()

    def waits(**named: Any) -> str:
        assert sent.wait(TIMEOUT)
        return in_order(lambda: deliveries["async"].results(TIMEOUT))

    async def awaits(**named: Any) -> str:
        await until(sent)
        try:
            await deliveries["sync"]
        except RuntimeError:
            return "refused"
        return "awaited"

    def in_order(wait: Callable[[], Any]) -> str:
        try:
            wait()
        except RuntimeError:
            return "refused"
        return "waited"

    deliveries["sync"] = signal_to(waits, pool).send_async(None)
    deliveries["async"] = signal_to(awaits, pool).send_async(None)
    sent.set()
    ended = [responses(deliveries[kind].results(TIMEOUT))[0] for kind in ("sync", "async")]
    assert ended in (["refused", "awaited"], ["waited", "refused"])


def test_loop_whose_thread_starts_only_after_all_was_called_off_is_none_of_the_pools(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of ``Thread.start``."""
    late = list[threading.Thread]()

    def interrupted(thread: threading.Thread) -> None:
        late.append(thread)
        raise KeyboardInterrupt

    signal = signal_to(ignores, pool)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            signal.send_async(None)
    late[0].start()
    late[0].join(TIMEOUT)
    assert signal.send_async(None).results(TIMEOUT) == [(ignores, None)]


# around and initializer


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
    gate = Gate()

    def fails() -> None:
        gate()
        raise Boom

    with WorkerPool(1, initializer=fails) as pool:
        [(_, delivery)] = signal_to(ignores, pool).send_async(None)
        gate.opened.set()
        assert isinstance(delivery.exception(TIMEOUT), BrokenExecutor)
        with pytest.raises(BrokenExecutor):
            signal_to(ignores, pool).send_async(None)


# Tracked


def test_disconnect_waits_for_what_runs_on_the_loop_and_cancels_what_waits_in_the_lane(
    pool: WorkerPool,
) -> None:
    gate, signal = AsyncGate(), Signal(executor=pool)
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
    receiver, signal = AsyncGate(), Signal(executor=pool)
    connection = signal.connect(receiver, tracked=True)
    [(_, delivery)] = signal.send_async(None)
    assert connection.disconnect(wait=True) is True
    assert delivery.cancelled()
    gate.opened.set()
    blocking.results(TIMEOUT)
    assert pool.drain(TIMEOUT)
    assert receiver.calls == 0


# The life of the loop


def test_shutdown_waits_for_the_loop_and_closes_it(pool: WorkerPool) -> None:
    gate, loops = AsyncGate(), list[asyncio.AbstractEventLoop]()

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
    gate = AsyncGate()
    signal = signal_to(gate, pool, ordered=True)
    deliveries = [signal.send_async(None) for _ in range(3)]
    pool.shutdown(wait=False)
    gate.opened.set()
    pool.shutdown()
    assert [each.results(0) for each in deliveries] == [[(gate, "through")]] * 3


def test_shutdown_cancels_what_has_not_started_and_lets_the_rest_end(pool: WorkerPool) -> None:
    gate = AsyncGate()
    signal = signal_to(gate, pool, ordered=True)
    deliveries = [signal.send_async(None)[0][1] for _ in range(3)]
    assert gate.entered.wait(TIMEOUT)
    pool.shutdown(wait=False, cancel_futures=True)
    gate.opened.set()
    pool.shutdown()
    assert [delivery.cancelled() for delivery in deliveries] == [False, True, True]
    assert not gate.cancelled.is_set()


def test_what_receivers_leave_behind_ends_with_the_loop(pool: WorkerPool) -> None:
    gate = AsyncGate()
    left = list[Any]()

    async def leaves(**named: Any) -> None:
        left.append(asyncio.ensure_future(gate()))
        await until(gate.entered)

    signal_to(leaves, pool).send_async(None).results(TIMEOUT)
    pool.shutdown()
    assert gate.cancelled.is_set()


def test_pool_that_nobody_refers_to_ends_its_loop() -> None:
    pool = WorkerPool(1)
    gate, loops = AsyncGate(), list[asyncio.AbstractEventLoop]()

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


def test_closed_pool_starts_no_loop() -> None:
    pool = WorkerPool(1)
    pool.shutdown()
    with pytest.raises(PoolClosed):
        signal_to(ignores, pool).send_async(None)
    assert pool._engine.loops == []


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
        wait_until(lambda: pool._engine.loops)
        raise KeyboardInterrupt

    with WorkerPool(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupted)
            with pytest.raises(KeyboardInterrupt):
                signal_to(ignores, pool).send_async(None)
        assert pool.stats().submitted == 0
        assert signal_to(ignores, pool).send_async(None).results(TIMEOUT) == [(ignores, None)]
        assert len(pool._engine.all_threads()) == 1


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


def forked(child: Callable[[], None]) -> int:
    """The exit status of a forked child that calls ``child``; 0 when all is well there."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            watch = threading.Timer(TIMEOUT, os._exit, (2,))
            watch.daemon = True
            watch.start()
            child()
            status = 0
        except BaseException:
            logging.getLogger("test").exception("in the child")
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@needs_fork
def test_forked_child_has_a_loop_of_its_own_and_the_parents_goes_on(pool: WorkerPool) -> None:
    gate, quick = AsyncGate(), AsyncGate()
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

    assert forked(child) == 0
    gate.opened.set()
    assert delivery.result(TIMEOUT) == "through"
    # Also after the child has closed all it had: nothing of the parent's was closed with it.
    assert signal_to(quick, pool).send_async(None).results(TIMEOUT) == [(quick, "through")]


@needs_fork
def test_number_of_a_loops_thread_that_has_ended_may_be_used_again(pool: WorkerPool) -> None:
    """By one that may wait, and that forks: the child starts every pool anew."""
    engine = pool._engine
    assert signal_to(ignores, pool).send_async(None).results(TIMEOUT) == [(ignores, None)]
    ended = LoopThread(engine)
    ended.thread.join(TIMEOUT)
    engine.loops.append(ended)
    ended.thread._ident = threading.get_ident()  # type: ignore[attr-defined]
    assert pool.drain(TIMEOUT)
    with WorkerPool(1) as other:
        assert other.submit(int).result(TIMEOUT) == 0

        def child() -> None:
            assert other.submit(int).result(TIMEOUT / 2) == 0

        assert forked(child) == 0


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
        "signal = tsignals.Signal(name='leaving')\n"
        f"{body}\n"
        "signal.connect(hears)\n"
        "for _ in range(3): signal.send_async(None)\n"
    )
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        env={**os.environ, "TSIGNALS_EXIT_SECONDS": str(seconds)},
        capture_output=True,
        text=True,
        timeout=150,
    )


def test_what_runs_at_exit_may_end() -> None:
    body = (
        "async def hears(**named):\n    await asyncio.sleep(0.1)\n    print('heard', flush=True)\n"
    )
    done = exits(body, seconds=40)
    assert (done.stdout, done.stderr, done.returncode) == ("heard\n" * 3, "", 0)


def test_what_hangs_at_exit_is_named_and_left() -> None:
    done = exits("async def hears(**named): await asyncio.Event().wait()\n", seconds=0.1)
    assert "3 deliveries of 'leaving'" in done.stdout
    assert (done.stderr, done.returncode) == ("", 0)


# Other executors, and background


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
