"""``tsignals.observing``: what observers hear of each way to send, where, and how often."""

import asyncio
import contextlib
import contextvars
import enum
import functools
import gc
import inspect
import logging
import math
import os
import signal as signals
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from helpers import (
    TIMEOUT,
    Boom,
    Ear,
    Latch,
    Thing,
    assert_gone,
    awaited,
    ignore,
    in_new_process,
    quiet,
    steps,
    uncollected,
    wait_until,
)
from inside import (
    FINISH_AT_EXIT,
    core_of,
    observers_now,
    registries_alive,
    registries_kept,
    registry_of,
    unresolved,
)
from points import Interrupter
from pools import held
from rooms import core, own_imports

from tsignals import (
    DeliveryDropped,
    DeliveryLost,
    Namespace,
    PoolClosed,
    QueueFull,
    Signal,
    WorkerPool,
    background,
    get_default_executor,
    receiver_failed,
)
from tsignals.observing import (
    Event,
    Observation,
    Observer,
    background_of,
    hands_over,
    observe,
    receiver_name,
    signal_name,
)
from tsignals.testing import capture
from tsignals.tracing import trace

NAMES = ("sent", "started", "ended", "dropped", "refused", "retried")


class Recorder(Observer):
    """Remembers what it was told, by the names of its methods."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Event]] = []

    def sent(self, event: Event) -> None:
        self.heard.append(("sent", event))

    def started(self, event: Event) -> None:
        self.heard.append(("started", event))

    def ended(self, event: Event) -> None:
        self.heard.append(("ended", event))

    def dropped(self, event: Event) -> None:
        self.heard.append(("dropped", event))

    def refused(self, event: Event) -> None:
        self.heard.append(("refused", event))

    def of(self, *names: str) -> list[Event]:
        return [event for name, event in list(self.heard) if name in names]

    def outcomes(self, mode: str) -> list[tuple[str, int, str | None]]:
        """Who was heard how, in the order of the receivers."""
        return sorted(
            (name, event.place or 0, event.outcome)
            for name, event in list(self.heard)
            if name not in ("sent", "started") and event.mode == mode
        )

    def assert_whole(self, started_elsewhere: bool = False) -> None:
        """Every receiver of every send that went to an executor has ended once."""
        ends = Counter((e.send, e.place) for e in self.of("ended", "dropped", "refused"))
        assert set(ends.values()) <= {1}
        starts = Counter((e.send, e.place) for e in self.of("started"))
        assert set(starts.values()) <= {1}
        ended = {(e.send, e.place) for e in self.of("ended")}
        assert set(starts) == ended or (started_elsewhere and set(starts) < ended)
        for event in self.of("sent"):
            if event.mode in ("send_async", "background"):
                assert all((event.send, n) in ends for n in range(len(event.receivers)))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    with observe(recorder):
        yield recorder


def failing_with(thing: object, **named: Any) -> None:
    raise Boom(thing)


async def async_ear(**named: Any) -> str:
    await asyncio.sleep(0)
    return "async"


async def async_raiser(**named: Any) -> None:
    raise Boom("async")


def plain(**named: Any) -> str:
    return "plain"


def failing(**named: Any) -> None:
    raise Boom("plain")


EVERY = [plain, failing, async_ear, async_raiser]


def signal_with(*receivers: Any, executor: Executor | None = None, **arguments: Any) -> Signal:
    signal = Signal(executor=executor)
    for receiver in receivers:
        signal.connect(receiver, weak=False, **arguments)
    return signal


# -- The ways to send --


def test_send_tells_of_itself_and_of_each_receiver_in_order(recorder: Recorder) -> None:
    sender, signal = Thing(), signal_with(plain, ignore)
    signal.send(sender, size=1)
    assert [name for name, _ in recorder.heard] == ["sent", *["started", "ended"] * 2]
    [sent, started, ended, *_] = [event for _, event in recorder.heard]
    assert sent.receivers == (plain, ignore)
    assert (sent.receiver, sent.place, sent.outcome) == (None, None, None)
    assert {e.send for _, e in recorder.heard} == {sent.send}
    assert {e.sender_type for _, e in recorder.heard} == {Thing}
    assert {e.signal for _, e in recorder.heard} == {signal}
    assert {e.mode for _, e in recorder.heard} == {"send"}
    assert {(e.thread_name, e.thread_id) for _, e in recorder.heard} == {
        (threading.current_thread().name, threading.get_ident())
    }
    assert (started.receiver, started.place, started.ran_seconds) == (plain, 0, None)
    assert (ended.receiver, ended.outcome, ended.response) == (plain, "completed", "plain")
    assert ended.ran_seconds is not None
    assert ended.ran_seconds >= 0.0
    assert ended.queued_seconds == 0.0
    assert ended.attempts == 1


def test_error_of_send_ends_its_receiver_and_the_rest_are_not_started(recorder: Recorder) -> None:
    signal = signal_with(failing, plain)
    with pytest.raises(Boom) as raised:
        signal.send(None)
    [ended] = recorder.of("ended")
    assert (ended.outcome, ended.exception) == ("failed", raised.value)
    assert [event.receiver for event in recorder.of("started")] == [failing]


@pytest.mark.parametrize("verb", ["send", "send_robust"])
def test_sends_in_place_are_seen_alike(verb: str, recorder: Recorder) -> None:
    receivers = EVERY if verb == "send_robust" else [plain, async_ear]
    with quiet():
        pairs = getattr(signal_with(*receivers), verb)(None)
    assert [receiver for receiver, _ in pairs] == sorted(
        receivers, key=lambda r: inspect.iscoroutinefunction(r)
    )
    recorder.assert_whole()
    assert recorder.outcomes(verb) == [
        ("ended", n, "failed" if "raiser" in r.__name__ or r is failing else "completed")
        for n, r in enumerate(receivers)
    ]


@pytest.mark.parametrize("here", [False, True], ids=["elsewhere", "here"])
@pytest.mark.parametrize("around", [False, True], ids=["bare", "around"])
def test_asend_robust_is_seen_with_sync_and_async_receivers(
    here: bool, around: bool, recorder: Recorder
) -> None:
    with quiet(), WorkerPool(1, around=contextlib.nullcontext if around else None) as pool:
        signal = signal_with(*EVERY, executor=pool, tracked=True)
        view: Any = signal.here if here else signal
        outcomes = awaited(view.asend_robust, None)
    assert [receiver for receiver, _ in outcomes] == EVERY
    recorder.assert_whole()
    assert [outcome for _, _, outcome in recorder.outcomes("asend_robust")] == [
        "completed",
        "failed",
    ] * 2
    of_sync = [e.thread_id == threading.get_ident() for e in recorder.of("ended")[:1]]
    assert of_sync == [here]


def test_asend_is_seen_and_what_it_cancels_ends_as_cancelled(recorder: Recorder) -> None:
    async def endless(**named: Any) -> None:
        await asyncio.sleep(TIMEOUT)

    with pytest.raises(Boom):
        awaited(signal_with(plain, endless, async_raiser).asend, None)
    recorder.assert_whole()
    assert recorder.outcomes("asend") == [
        ("ended", 0, "completed"),
        ("ended", 1, "cancelled"),
        ("ended", 2, "failed"),
    ]


def nobody_hears(signal: Signal) -> None:
    signal.send(None)
    signal.send_robust(None)
    awaited(signal.asend, None)
    awaited(signal.asend_robust, None)
    signal.send_async(None)
    signal.via(None).send_async(None)
    signal.prepare(None).submit()


@pytest.mark.parametrize("dead", [False, True], ids=["never", "dead"])
def test_sends_that_nobody_hears_are_sent(dead: bool, recorder: Recorder) -> None:
    signal = Signal()
    if dead:
        signal.connect(Ear().hear)
    nobody_hears(signal)
    assert [event.mode for event in recorder.of(*NAMES)] == [
        "send",
        "send_robust",
        "asend",
        "asend_robust",
        "send_async",
        "send_async",
        "send_async",
    ]
    assert all(event.receivers == () for event in recorder.of("sent"))


def pools() -> dict[str, Callable[[], Executor]]:
    return {
        "plain": lambda: WorkerPool(2),
        "around": lambda: WorkerPool(2, around=contextlib.nullcontext),
        "threads": lambda: ThreadPoolExecutor(2),
    }


@pytest.mark.parametrize("terms", ["", "ordered", "tracked"])
@pytest.mark.parametrize("how", ["send_async", "via", "prepare"])
@pytest.mark.parametrize("kind", pools())
def test_deliveries_are_seen_alike(how: str, kind: str, terms: str, recorder: Recorder) -> None:
    if kind == "threads" and terms == "ordered":
        pytest.skip("refused there")
    with quiet(), pools()[kind]() as pool:
        arguments: Any = {terms: True} if terms else {}
        signal = signal_with(*EVERY, executor=None if how == "via" else pool, **arguments)
        if how == "prepare":
            prepared = signal.prepare(None)
            assert not recorder.of("started")
            prepared.submit()
            deliveries = prepared.deliveries
        else:
            deliveries = (signal.via(pool) if how == "via" else signal).send_async(None)
        assert len(deliveries.outcomes(TIMEOUT)) == len(EVERY)
        recorder.assert_whole()
        assert recorder.outcomes("send_async") == [
            ("ended", 0, "completed"),
            ("ended", 1, "failed"),
            ("ended", 2, "completed"),
            ("ended", 3, "failed"),
        ]
        for event in recorder.of("ended"):
            if event.mode == "send_async":
                assert event.thread_id != threading.get_ident()
                assert event.queued_seconds is not None
                assert event.ran_seconds is not None


def test_ended_has_been_told_when_the_result_is_there(recorder: Recorder) -> None:
    with WorkerPool(1) as pool:
        for _ in range(50):
            signal_with(plain, executor=pool).send_async(None).results(TIMEOUT)
            assert recorder.heard[-1][0] == "ended"


@pytest.mark.parametrize("verb", ["send", "send_robust", "asend", "send_async"])
def test_background_receivers_are_seen_in_every_way_to_send(verb: str, recorder: Recorder) -> None:
    with WorkerPool(2) as pool:
        receivers = [background(f, executor=pool) for f in (plain, async_ear)]
        signal = signal_with(*receivers, executor=pool)
        if verb == "asend":
            pairs = awaited(signal.asend, None)
        else:
            pairs = getattr(signal, verb)(None)
        for _, delivery in pairs:
            delivery.result(TIMEOUT)
    recorder.assert_whole()
    assert [name for name, _, _ in recorder.outcomes(verb)] == ["ended", "ended"]
    in_pool = [e for e in recorder.of("sent") if e.mode == "background"]
    assert [e.receivers for e in in_pool] == (
        [] if verb == "send_async" else [(each,) for each in receivers]
    )
    assert len(recorder.outcomes("background")) == len(in_pool)


def test_background_receiver_of_another_librarys_signal_is_seen(recorder: Recorder) -> None:
    dispatch = pytest.importorskip("django.dispatch")
    signal = dispatch.Signal()
    with WorkerPool(1) as pool:
        receiver = background(plain, executor=pool)
        signal.connect(receiver)
        [(_, delivery)] = signal.send(Thing, size=1)
        assert delivery.result(TIMEOUT) == "plain"
    [sent] = recorder.of("sent")
    [ended] = recorder.of("ended")
    assert (sent.signal, sent.mode, sent.sender_type) == (signal, "background", type)
    assert (ended.receiver, ended.response, ended.send) == (receiver, "plain", sent.send)


def test_processes_tell_how_a_delivery_ended_and_not_when_it_started(recorder: Recorder) -> None:
    with quiet(), ProcessPoolExecutor(1) as executor, connected(plain, failing) as signal:
        signal.via(executor).send_async(None).outcomes(TIMEOUT)
        wait_until(lambda: len(recorder.outcomes("send_async")) == 2)
    recorder.assert_whole(started_elsewhere=True)
    assert recorder.outcomes("send_async") == [("ended", 0, "completed"), ("ended", 1, "failed")]
    ended = [event for event in recorder.of("ended") if event.mode == "send_async"]
    assert {(e.ran_seconds, e.queued_seconds) for e in ended} == {(None, None)}
    assert not [e for e in recorder.of("started") if e.mode == "send_async"]


for_processes = Signal()


@contextlib.contextmanager
def connected(*receivers: Any) -> Iterator[Signal]:
    connections = [for_processes.connect(receiver) for receiver in receivers]
    try:
        yield for_processes
    finally:
        for connection in connections:
            connection.disconnect()


# -- Deliveries that do not run --


def test_caller_that_runs_deliveries_is_seen(recorder: Recorder) -> None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool, held(pool):
        signal = signal_with(plain, executor=pool, ordered=True)
        first = signal_with(plain, executor=pool).send_async(None)
        [(_, delivery)] = signal.send_async(None)
        assert delivery.result(TIMEOUT) == "plain"
        assert recorder.of("ended")[-1].thread_id == threading.get_ident()
    assert first.wait(TIMEOUT)
    recorder.assert_whole()


def test_worker_that_waits_runs_what_it_waits_for_and_is_seen(recorder: Recorder) -> None:
    with WorkerPool(1) as pool:
        inner = signal_with(plain, executor=pool)

        def outer(**named: Any) -> Any:
            return inner.send_async(None).results(TIMEOUT)

        assert signal_with(outer, executor=pool).send_async(None).results(TIMEOUT)
    recorder.assert_whole()
    assert [event.outcome for event in recorder.of("ended")] == ["completed"] * 2


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_dropped_deliveries_are_told(overflow: Any, recorder: Recorder) -> None:
    with WorkerPool(1, max_pending=1, overflow=overflow) as pool:
        signal = signal_with(plain, executor=pool)
        with held(pool), quiet():
            sends = [signal.send_async(None) for _ in range(3)]
        assert all(deliveries.wait(TIMEOUT) for deliveries in sends)
    recorder.assert_whole()
    assert [name for name, _, _ in recorder.outcomes("send_async")] == [
        "dropped",
        "dropped",
        "ended",
    ]
    for event in recorder.of("dropped"):
        assert event.outcome == "dropped"
        assert type(event.exception) is DeliveryDropped


def test_cancelled_deliveries_are_dropped_as_cancelled(recorder: Recorder) -> None:
    with WorkerPool(1) as pool:
        with held(pool):
            signal = signal_with(plain, async_ear, executor=pool, ordered=True)
            deliveries = signal.send_async(None)
            assert deliveries[0][1].cancel()
            [dropped] = recorder.of("dropped")
            assert (dropped.outcome, dropped.exception) == ("cancelled", None)
        assert deliveries.wait(TIMEOUT)
    recorder.assert_whole()


def test_async_delivery_cancelled_while_it_runs_ends_as_cancelled(recorder: Recorder) -> None:
    started = threading.Event()

    async def endless(**named: Any) -> None:
        started.set()
        await asyncio.sleep(TIMEOUT)

    with WorkerPool(1) as pool:
        [(_, delivery)] = signal_with(endless, executor=pool).send_async(None)
        assert started.wait(TIMEOUT)
        assert delivery.cancel()
        wait_until(delivery.done)
    recorder.assert_whole()
    assert recorder.outcomes("send_async") == [("ended", 0, "cancelled")]


def test_tracked_receiver_that_was_disconnected_is_dropped_as_cancelled(recorder: Recorder) -> None:
    with WorkerPool(1) as pool:
        signal = signal_with(plain, executor=pool, tracked=True)
        with held(pool):
            deliveries = signal.send_async(None)
            signal.disconnect(plain)
        assert deliveries.wait(TIMEOUT)
    recorder.assert_whole()
    assert recorder.outcomes("send_async") == [("dropped", 0, "cancelled")]


@pytest.mark.parametrize("executor", [WorkerPool, ThreadPoolExecutor])
@pytest.mark.parametrize("how", ["drop", "lose"])
def test_prepared_that_is_dropped_tells(executor: Any, how: str, recorder: Recorder) -> None:
    with executor(1) as pool:
        prepared = signal_with(plain, async_ear, executor=pool).prepare(None)
        if how == "drop":
            prepared.drop()
        del prepared
    recorder.assert_whole()
    assert recorder.outcomes("send_async") == [("dropped", n, "dropped") for n in (0, 1)]


def test_what_a_pool_loses_is_told(recorder: Recorder) -> None:
    pool = WorkerPool(1)
    with held(pool):
        signal_with(plain, executor=pool).send_async(None)
        core_of(pool).lose("the process has ended")
        [dropped] = recorder.of("dropped")
        assert dropped.outcome == "lost"
        assert type(dropped.exception) is DeliveryLost
    recorder.assert_whole()


def test_shutdown_that_cancels_is_told(recorder: Recorder) -> None:
    pool = WorkerPool(1)
    with held(pool):
        signal_with(plain, executor=pool).send_async(None)
        pool.shutdown(wait=False, cancel_futures=True)
    recorder.assert_whole()
    assert recorder.outcomes("send_async") == [("dropped", 0, "cancelled")]


@pytest.mark.parametrize("how", ["send_async", "prepare", "background"])
@pytest.mark.parametrize("why", [QueueFull, PoolClosed, BrokenExecutor])
def test_refused_deliveries_are_told(how: str, why: type, recorder: Recorder) -> None:
    def broken() -> None:
        raise Boom

    with contextlib.ExitStack() as stack, quiet():
        pool = WorkerPool(
            1,
            max_pending=1,
            overflow="raise",
            initializer=broken if why is BrokenExecutor else None,
        )
        stack.callback(pool.shutdown)
        if why is QueueFull:
            stack.enter_context(held(pool))
            pool.submit(ignore)
        elif why is PoolClosed:
            pool.shutdown()
        else:
            pool.submit(ignore).exception(TIMEOUT)
        if how == "prepare":
            prepared = signal_with(plain, ignore, executor=pool).prepare(None)
            prepared.submit()
            assert prepared.deliveries.wait(TIMEOUT)
        elif how == "background":
            with pytest.raises(why):
                background(plain, executor=pool)(signal=Signal(), sender=None)
        else:
            with pytest.raises(why):
                signal_with(plain, ignore, executor=pool).send_async(None)
    recorder.assert_whole()
    refused = recorder.of("refused")
    assert [event.place for event in refused] == [0] if how == "background" else [0, 1]
    for event in refused:
        assert (event.outcome, event.thread_id) == ("refused", threading.get_ident())
        assert issubclass(type(event.exception), why)


def test_executor_that_takes_nothing_refuses(recorder: Recorder) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with quiet():
        signal_with(plain, executor=executor).send_async(None)
    recorder.assert_whole()
    assert recorder.outcomes("send_async") == [("refused", 0, "refused")]


def test_async_receivers_under_a_running_loop_are_refused_before_any_starts(
    recorder: Recorder,
) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError):
            signal_with(plain, async_ear).send(None)

    asyncio.run(main())
    assert not recorder.of("started", "ended")


# -- Failures --


def test_telling_of_a_failure_comes_between_the_start_and_the_end(recorder: Recorder) -> None:
    with receiver_failed.connect(ignore), quiet(), WorkerPool(1) as pool:
        signal = signal_with(failing, executor=pool)
        signal.send_robust(None)
        awaited(signal.asend_robust, None)
        signal.send_async(None).wait(TIMEOUT)
    heard = [(name, event.mode) for name, event in recorder.heard]
    telling = [(name, "receiver_failed") for name in ("sent", "started", "ended")]
    assert heard == [
        pair
        for mode in ("send_robust", "asend_robust", "send_async")
        for pair in [("sent", mode), ("started", mode), *telling, ("ended", mode)]
    ]


def test_failing_receiver_of_receiver_failed_ends_there(recorder: Recorder) -> None:
    with receiver_failed.connect(failing), quiet():
        signal_with(failing).send_robust(None)
    assert recorder.outcomes("receiver_failed") == [("ended", 0, "failed")]
    assert recorder.outcomes("send_robust") == [("ended", 0, "failed")]


def test_failure_of_what_is_around_ends_the_delivery(recorder: Recorder) -> None:
    def around() -> Any:
        raise Boom

    with quiet(), WorkerPool(1, around=around) as pool:
        signal_with(plain, async_ear, executor=pool).send_async(None).wait(TIMEOUT)
    recorder.assert_whole()
    assert [outcome for _, _, outcome in recorder.outcomes("send_async")] == ["failed"] * 2


# -- Contexts --

where = contextvars.ContextVar("where", default="nowhere")


class Marks(Recorder):
    """Marks the context in which receivers run."""

    def sent(self, event: Event) -> None:
        super().sent(event)
        self.at_sent = where.get()

    def started(self, event: Event) -> None:
        super().started(event)
        assert where.get() == self.at_sent
        self.token = where.set("started")

    def ended(self, event: Event) -> None:
        super().ended(event)
        self.at_end = where.get()
        if self.at_end == "started":
            where.reset(self.token)


@pytest.mark.parametrize("way", ["send", "worker", "around", "loop", "threads"])
def test_start_and_end_are_told_in_the_context_of_the_receiver(way: str) -> None:
    seen = list[str]()

    def ear(**named: Any) -> None:
        seen.append(where.get())

    async def coroutine(**named: Any) -> None:
        seen.append(where.get())

    marks = Marks()
    around = contextlib.nullcontext if way == "around" else None
    executor: Any = ThreadPoolExecutor(1) if way == "threads" else WorkerPool(1, around=around)
    with executor, observe(marks):
        signal = signal_with(coroutine if way == "loop" else ear, executor=executor)
        token = where.set("sender")
        try:
            if way == "send":
                signal.send(None)
            else:
                signal.send_async(None).results(TIMEOUT)
            assert where.get() == "sender"
        finally:
            where.reset(token)
    assert seen == ["started"]
    assert (marks.at_sent, marks.at_end) == ("sender", "started")


def test_drops_are_told_in_the_context_of_their_send() -> None:
    seen = list[str]()

    class Drops(Observer):
        def dropped(self, event: Event) -> None:
            seen.append(where.get())

    with WorkerPool(1) as pool, observe(Drops()), held(pool):
        signal = signal_with(plain, executor=pool)
        deliveries = contextvars.Context().run(
            lambda: (where.set("sender"), signal.send_async(None))[1]
        )
        deliveries.cancel()
    assert seen == ["sender"]


# -- What an event has --


def test_contents_are_there_while_sent_is_called_and_not_after() -> None:
    contents = list[Any]()

    class Peeks(Recorder):
        def sent(self, event: Event) -> None:
            super().sent(event)
            contents.append(event.contents())

    peeks, sender = Peeks(), Thing()
    with observe(peeks), WorkerPool(1) as pool:
        signal_with(plain, executor=pool).send(sender, size=1)
        signal_with(plain, executor=pool).send_async(sender, size=1).wait(TIMEOUT)
        background(plain, executor=pool)(signal=Signal(), sender=sender, size=1).result(TIMEOUT)
    assert contents == [(sender, {"size": 1})] * 3
    for _, event in peeks.heard:
        with pytest.raises(RuntimeError, match="only while sent"):
            event.contents()


def test_events_keep_neither_the_sender_nor_what_was_sent(recorder: Recorder) -> None:
    with uncollected(), WorkerPool(1) as pool:
        sender, value = Thing(), Thing()
        gone = [weakref.ref(sender), weakref.ref(value)]
        signal = signal_with(ignore, executor=pool)
        signal.send(sender, value=value)
        signal.send_robust(sender, value=value)
        signal.send_async(sender, value=value).wait(TIMEOUT)
        pool.drain(TIMEOUT)
        del sender, value
        for reference in gone:
            wait_until(lambda reference=reference: reference() is None)
    assert recorder.heard


def test_events_are_frozen_and_name_what_they_tell(recorder: Recorder) -> None:
    signal_with(plain).send(None)
    event: Any = recorder.of("ended")[0]
    with pytest.raises(AttributeError):
        event.outcome = "failed"
    assert "completed" in repr(event)
    assert not hasattr(event, "__dict__")
    assert hash(event) == hash(event)


def test_a_failed_send_leaves_no_cycle(recorder: Recorder) -> None:
    with uncollected(), quiet(), WorkerPool(1) as pool:
        things = [Thing() for _ in range(2)]
        gone = [weakref.ref(thing) for thing in things]
        signal = signal_with(failing_with, executor=pool)
        with contextlib.suppress(Boom):
            signal.send(None, thing=things[0])
        signal.send_async(None, thing=things[1]).wait(TIMEOUT)
        pool.drain(TIMEOUT)
        del things
        recorder.heard.clear()

        def is_gone(reference: "weakref.ref[Thing]") -> bool:
            # Without the GIL, what a worker has made and others let go is gone once it runs
            # again; and what it lets go by that, and others have made, once they do.
            pool.submit(int).result(TIMEOUT)
            return reference() is None

        for reference in gone:
            wait_until(lambda reference=reference: is_gone(reference))


# -- Observers --


def test_several_hear_in_the_order_in_which_they_came() -> None:
    heard = list[str]()

    class Named(Observer):
        def __init__(self, name: str) -> None:
            self.name = name

        def sent(self, event: Event) -> None:
            heard.append(self.name)

    signal = Signal()
    a, b = Named("a"), Named("b")
    with observe(a) as first, observe(b), observe(a):
        signal.send(None)
        first.close()
        signal.send(None)
    signal.send(None)
    assert heard == ["a", "b", "a", "b", "a"]


def test_what_observers_raise_is_logged_once_for_each_method_and_harms_nobody(
    caplog: pytest.LogCaptureFixture, recorder: Recorder
) -> None:
    class Bad(Observer):
        def sent(self, event: Event) -> None:
            raise Boom

        started = ended = dropped = refused = sent

    later = Recorder()
    with observe(Bad()), observe(later), WorkerPool(1, max_pending=1, overflow="raise") as pool:
        signal = signal_with(plain, async_ear, executor=pool)
        for _ in range(3):
            assert signal.send(None) == [(plain, "plain"), (async_ear, "async")]
            assert signal.send_async(None).results(TIMEOUT)
            signal.prepare(None).drop()
    assert len(later.heard) == len(recorder.heard)
    messages = [r.getMessage() for r in caplog.records if "of observer" in r.getMessage()]
    assert sorted(m.partition(" ")[0] for m in messages) == ["dropped", "ended", "sent", "started"]


def test_observer_whose_methods_cannot_be_had_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Missing(Observer):
        @property
        def sent(self) -> Any:
            raise Boom

    with observe(Missing()):
        assert signal_with(plain).send(None) == [(plain, "plain")]
    assert "of observer" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("method", ["sent", "started", "ended"])
def test_ctrl_c_in_an_observer_goes_on_and_the_others_are_told(
    method: str, request: pytest.FixtureRequest
) -> None:
    before = signals.signal(signals.SIGINT, signals.default_int_handler)  # it may be ignored
    request.addfinalizer(lambda: signals.signal(signals.SIGINT, before))

    class Interrupted(Recorder):
        pass

    def interrupt(self: Any, event: Event) -> None:
        signals.raise_signal(signals.SIGINT)

    setattr(Interrupted, method, interrupt)
    later = Recorder()
    with observe(Interrupted()), observe(later):
        with pytest.raises(KeyboardInterrupt):
            signal_with(plain).send(None)
    heard = [name for name, _ in later.heard]
    assert heard == (["sent"] if method == "sent" else ["sent", "started", "ended"])


class WhileWatching(Interrupter):
    """Interrupts what knows that a send is observed, and not before that has begun."""

    def step(self, frame: FrameType, offset: int) -> object:
        file, name = Path(frame.f_code.co_filename).name, frame.f_code.co_name
        if file not in ("watches.py", "watched.py", "telling.py") or name in ("done", "_done"):
            return None
        if name == "insist" and self._last.get(frame) == "RESUME":
            self._last[frame] = ""  # it has not begun, as little as ``done``
            return None
        return super().step(frame, offset)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["drop", "refuse"])
def test_interrupted_at_any_point_it_tells_of_the_end_of_what_it_has_told_of(way: str) -> None:
    for at in range(1, 1000):
        recorder, signal = Recorder(), signal_with(plain)
        with WorkerPool(1, max_pending=1, overflow="raise") as pool, observe(recorder):
            signal.executor = pool
            with held(pool):
                pool.submit(int)
                with WhileWatching(at) as interrupter:
                    if way == "drop":
                        signal.prepare(None).drop()
                    else:
                        with contextlib.suppress(QueueFull):
                            signal.send_async(None)
                gc.collect()  # what was prepared, and lost
        told = len(recorder.of("sent")), len(recorder.of("ended", "dropped", "refused"))
        assert told[0] <= told[1] <= 1, (at, interrupter.where, told)
        if not interrupter.raised:
            assert told == (1, 1) and at > 10
            return
    pytest.fail("there are more points than were tried")


def test_base_exception_of_an_observer_in_a_worker_leaves_the_delivery_alone(
    recorder: Recorder,
) -> None:
    class Exits(Observer):
        def started(self, event: Event) -> None:
            raise SystemExit

        ended = started

    with quiet(), observe(Exits()), WorkerPool(1) as pool:
        signal = signal_with(plain, async_ear, executor=pool)
        for _ in range(3):
            assert signal.send_async(None).results(TIMEOUT)
        assert pool.stats().completed == 6
    recorder.assert_whole()


def test_observer_does_not_hear_what_it_sends_itself() -> None:
    signal, other = signal_with(plain), Recorder()

    class Sends(Recorder):
        def sent(self, event: Event) -> None:
            super().sent(event)
            signal.send(None)

        def started(self, event: Event) -> None:
            super().started(event)
            signal.send_async(None).wait(TIMEOUT)

    with observe(Sends()) as handle, observe(other):
        signal.send(None)
        assert len(handle.observer.heard) == 3  # type: ignore[attr-defined]
        get_default_executor().drain(TIMEOUT)
    assert len(other.of("sent")) == 3


def test_handles_close_twice_in_other_threads_and_while_events_are_under_way() -> None:
    gate = Latch()

    class Slow(Recorder):
        def started(self, event: Event) -> None:
            super().started(event)
            gate()

    slow = Slow()
    handle = observe(slow)
    assert "open" in repr(handle)
    thread = threading.Thread(target=signal_with(plain).send, args=(None,))
    thread.start()
    assert gate.entered.wait(TIMEOUT)
    handle.close()
    handle.close()
    assert "closed" in repr(handle)
    gate.opened.set()
    thread.join(TIMEOUT)
    assert [name for name, _ in slow.heard] == ["sent", "started"]


def test_observer_can_close_itself_and_observe_others_while_it_is_called() -> None:
    later = Recorder()

    class Once(Recorder):
        def sent(self, event: Event) -> None:
            super().sent(event)
            handles.pop().close()
            handles.append(observe(later))

    once, signal = Once(), signal_with(plain)
    handles = [observe(once)]
    signal.send(None)
    signal.send(None)
    handles.pop().close()
    signal.send(None)
    assert [name for name, _ in once.heard] == ["sent"]
    assert [name for name, _ in later.heard] == ["sent", "started", "ended"]


def test_send_that_starts_after_observe_has_returned_is_observed_by_every_signal() -> None:
    """Also those that have been sent, and have plans of their own senders."""
    sender = Thing()
    signal_sets = [signal_with(plain), signal_with(plain, sender=sender), Signal()]
    for signal in signal_sets:
        for _ in range(40):
            signal.send(sender, size=1)
            signal.send_robust(sender, size=1)
    recorder = Recorder()
    with observe(recorder), WorkerPool(1) as pool:
        for signal in signal_sets:
            signal.send(sender, size=1)
            signal.send_robust(sender, size=1)
            signal.executor = pool
            signal.send_async(sender, size=1).wait(TIMEOUT)
    assert len(recorder.of("sent")) == 9
    assert len(recorder.of("ended")) == 6
    for signal in signal_sets:
        signal.send(sender, size=1)
    assert len(recorder.of("sent")) == 9


def test_observe_wants_an_observer() -> None:
    with pytest.raises(TypeError, match="subclass"):
        observe(print)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Observation()


def test_finalizers_and_weak_references_may_send_observe_and_close(recorder: Recorder) -> None:
    signal = signal_with(plain)

    class Finalized:
        def __del__(self) -> None:
            with observe(Recorder()):
                signal.send(None)

    thing = Finalized()
    signal.send(thing)
    del thing
    assert len(recorder.of("ended")) == 2


def test_signals_that_are_observed_die_as_ever(recorder: Recorder) -> None:
    with uncollected():
        signal = signal_with(plain)
        signal.send(None)
        gone = weakref.ref(registry_of(signal))
        recorder.heard.clear()
        del signal
        assert_gone(gone)


def test_many_signals_leave_nothing_behind() -> None:
    for _ in range(5000):
        Signal()
    kept = registries_kept()
    assert kept <= max(1000, 2 * len(registries_alive()) + 1)


# -- Threads, processes --


@pytest.mark.slow
def test_every_delivery_of_many_threads_ends_once() -> None:
    recorder = Recorder()
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with (
            quiet(),
            WorkerPool(4, max_pending=20, overflow="drop_oldest") as dropping,
            WorkerPool(2, max_pending=5, overflow="raise") as raising,
            WorkerPool(2, max_pending=5, overflow="caller_runs") as running,
            observe(recorder),
        ):

            def send(seed: int) -> None:
                for n in range(60):
                    for pool in (dropping, raising, running):
                        signal = [bare, mixed][(n + seed) % 2]
                        with contextlib.suppress(QueueFull):
                            deliveries = signal.via(pool).send_async(None, n=n)
                            if n % 3 == seed % 3:
                                deliveries.cancel()
                    prepared = bare.prepare(None)
                    if n % 2:
                        prepared.submit()

            bare = signal_with(plain, ignore, executor=dropping)
            mixed = signal_with(failing, async_ear, ordered=True)
            mixed.connect(plain, tracked=True, dispatch_uid="tracked")
            threads = [threading.Thread(target=send, args=(seed,)) for seed in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(TIMEOUT)
            for pool in (dropping, raising, running):
                assert pool.drain(TIMEOUT)
                wait_until(lambda pool=pool: not unresolved(pool))
            stats = [pool.stats() for pool in (dropping, raising, running)]
    finally:
        sys.setswitchinterval(switch)
    recorder.assert_whole()
    ends = Counter(
        outcome
        for name in ("ended", "dropped", "refused")
        for outcome in [event.outcome for event in recorder.of(name) if event.mode == "send_async"]
    )
    assert ends["completed"] == sum(s.completed for s in stats)
    assert ends["failed"] == sum(s.failed for s in stats)
    assert ends["dropped"] == sum(s.dropped for s in stats)
    assert ends["cancelled"] == sum(s.cancelled for s in stats)


def test_observers_come_and_go_among_threads() -> None:
    signal, stop = signal_with(plain), threading.Event()

    def send() -> None:
        while not stop.is_set():
            signal.send(None)

    def come_and_go(recorder: Recorder) -> None:
        for _ in range(100):
            with observe(recorder):
                before = len(recorder.of("sent"))
                signal.send(None)
                assert len(recorder.of("sent")) > before
            del recorder.heard[:]

    senders = [threading.Thread(target=send) for _ in range(2)]
    errors = list[BaseException]()

    def guarded() -> None:
        try:
            come_and_go(Recorder())
        except BaseException as error:
            errors.append(error)

    comers = [threading.Thread(target=guarded) for _ in range(3)]
    for thread in senders + comers:
        thread.start()
    for thread in comers:
        thread.join(TIMEOUT)
    stop.set()
    for thread in senders:
        thread.join(TIMEOUT)
    assert not errors
    assert not observers_now()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_observers_go_on_in_a_forked_child() -> None:
    in_new_process(_fork)


def _fork() -> None:
    recorder = Recorder()
    observe(recorder)
    pool = WorkerPool(1)
    signal = signal_with(plain, executor=pool)
    with held(pool):
        signal.send_async(None)
        child = os.fork()
        if not child:
            recorder.heard.clear()
            signal.send(None)
            signal.send_async(None).results(TIMEOUT)
            recorder.assert_whole()
            os._exit(0 if len(recorder.heard) == 6 else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert pool.drain(TIMEOUT)
    recorder.assert_whole()
    assert len(recorder.of("ended")) == 1


def test_what_is_lost_at_exit_is_told() -> None:
    in_new_process(_exit)


def _exit() -> None:
    import atexit

    os.environ["TSIGNALS_EXIT_SECONDS"] = "0"
    recorder = Recorder()
    logging.disable(logging.CRITICAL)

    def check() -> None:
        if [event.outcome for event in recorder.of("dropped")] != ["lost"]:
            os._exit(3)

    atexit.unregister(FINISH_AT_EXIT.now)
    atexit.register(check)
    atexit.register(FINISH_AT_EXIT.now)
    pool, gate = WorkerPool(1), Latch()
    pool.submit(gate)
    assert gate.entered.wait(TIMEOUT)  # or the worker might yet take what is sent next
    observe(recorder)
    signal_with(plain, executor=pool).send_async(None)


# -- What it costs --


@pytest.mark.unmeasured
def test_without_observers_a_send_takes_the_same_steps_as_before_there_were_any() -> None:
    sender = Thing()
    pool = WorkerPool(1)
    with pool, held(pool):
        signal = signal_with(plain, ignore, executor=pool)

        def costs() -> list[int]:
            for _ in range(40):
                signal.send(sender, size=1)
                signal.send_robust(sender, size=1)
            signal.send_async(sender, size=1)
            return [
                steps(lambda: signal.send(sender, size=1)),
                steps(lambda: signal.send_robust(sender, size=1)),
                steps(lambda: signal.send_async(sender, size=1)),
            ]

        before = costs()
        with observe(Recorder()):
            signal.send(sender, size=1)
            assert steps(lambda: signal.send(sender, size=1)) > before[0]
        assert costs() == before
    assert pool.drain(TIMEOUT)


def test_few_rooms_of_the_core_know_of_observers() -> None:
    """Here everything that a change of the seam may touch is found."""
    seam = {"_base.observers", "_base.telling", "_base.watches"}
    seam |= {"_delivery.watched"}
    seam |= {"_base.overrides"}  # what tests have otherwise
    using = {module for module in core() if own_imports(module) & seam} - seam
    assert using == {
        "_calling.types",  # what a connection has for it: nothing, but where somebody observes
        "_registry.connection",
        "_default",  # which executor takes what is sent
        "_registry.registry",  # who is called
        "_registry.everywhere",  # plans are made anew
        "_registry.snapshot",  # for those who observe
        "_registry.plan",
        "_base.slow",  # an observer of our own
        "_calling.compiled",  # a send starts, and nobody hears more of it
        "_calling.sends",  # or somebody does
        "_calling.general",  # its receivers are called, each here
        "_calling.group",  # on an event loop
        "_delivery.delivery",  # in a pool
        "_delivery.async_delivery",  # on its event loop
        "_delivery.dispatch",  # a send is handed over
        "_delivery.claiming",  # but for what is claimed
        "_delivery.other_executors",  # or elsewhere
        "_delivery.lanes_of_sends",  # whose lanes an executor of a test sees to
        "_receiver_failed",  # which a test may ask for
    }


def test_send_at_the_end_of_the_stack_is_observed_or_raises(recorder: Recorder) -> None:
    with quiet(), WorkerPool(1) as pool:
        signal = signal_with(plain, executor=pool)

        def deep(left: int, call: Callable[[], object]) -> None:
            if left:
                deep(left - 1, call)
            else:
                call()

        for call in (signal.send, signal.send_robust, signal.send_async, signal.prepare):
            for left in range(sys.getrecursionlimit() - 250, sys.getrecursionlimit()):
                with contextlib.suppress(RecursionError):
                    deep(left, lambda call=call: call(None))
        assert pool.drain(TIMEOUT)
        signal.send(None)
        assert recorder.heard[-1][1].outcome == "completed"
    ends = Counter((e.send, e.place) for e in recorder.of("ended", "dropped", "refused"))
    assert set(ends.values()) == {1}


# -- What to call signals and receivers --

named_here = Signal()


class Owner:
    def method(self, **named: Any) -> None: ...

    def __call__(self, **named: Any) -> None: ...


def test_signals_are_called_by_name_or_by_where_they_are_found() -> None:
    blinker = pytest.importorskip("blinker")
    assert signal_name(Signal(name="order paid")) == "order paid"
    assert signal_name(named_here) == f"{__name__}.named_here"
    assert signal_name(Signal()).startswith("made at ")
    assert signal_name(receiver_failed) == "tsignals.receiver_failed"
    assert signal_name(blinker.NamedSignal("stored")) == "stored"
    assert signal_name(blinker.Signal()) == "blinker.base.Signal"
    assert signal_name(None) == "unknown"


class Orders:
    done = Signal()


class Names(enum.StrEnum):
    PAID = "order.paid"


class OldNames(str, enum.Enum):  # noqa: UP042 (many programs have such)
    PAID = "order.paid"


def test_attribute_of_a_class_is_called_by_its_module_too() -> None:
    """Of two modules with the same class, metrics would add up what has nothing in common."""
    assert signal_name(Orders.done) == f"{__name__}.Orders.done"


@pytest.mark.parametrize("name", [Names.PAID, OldNames.PAID])
def test_member_of_an_enum_is_a_name_as_any_other(name: str) -> None:
    blinker = pytest.importorskip("blinker")
    signal = Signal(name=name)
    assert (type(signal.name), signal.name) == (str, "order.paid")
    assert repr(signal) == "<Signal 'order.paid'>"
    assert signal_name(signal) == signal_name(blinker.NamedSignal(name)) == "order.paid"
    assert Namespace().signal(name=name).name == "order.paid"
    with WorkerPool(1, thread_name_prefix=name) as pool:
        assert repr(pool).startswith("<WorkerPool 'order.paid' ")


def test_signals_of_other_libraries_are_found_too() -> None:
    dispatch = pytest.importorskip("django.dispatch")
    module = sys.modules[__name__]
    signal = dispatch.Signal()
    assert signal_name(signal) == "django.dispatch.dispatcher.Signal"
    reference = weakref.ref(signal)
    module.foreign_signal = other = dispatch.Signal()  # type: ignore[attr-defined]
    try:
        assert {signal_name(other) for _ in range(2)} == {f"{__name__}.foreign_signal"}
    finally:
        del module.foreign_signal  # type: ignore[attr-defined]
    del signal
    assert_gone(reference)


@pytest.mark.parametrize(
    ("receiver", "name"),
    [
        (ignore, "helpers.ignore"),
        (Owner().method, f"{__name__}.Owner.method"),
        (Owner(), f"{__name__}.Owner"),
        (functools.partial(Owner().method), f"{__name__}.Owner.method"),
        (functools.partial(functools.partial(Owner())), f"{__name__}.Owner"),
        ({}.update, "dict.update"),
        (background(ignore), "helpers.ignore"),
        (None, "builtins.NoneType"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_receivers_are_called_by_module_and_name_without_addresses(
    receiver: Any, name: str
) -> None:
    assert receiver_name(receiver) == name


@pytest.mark.parametrize("verb", ["send", "send_robust"])
def test_who_counts_deliveries_can_tell_what_only_hands_them_over(
    verb: str, recorder: Recorder
) -> None:
    with WorkerPool(1) as pool:
        in_pool = background(ignore, executor=pool)
        signal = signal_with(plain, in_pool)
        getattr(signal, verb)(None)
        signal.via(pool).send_async(None).wait(TIMEOUT)
    counted = Counter(event.mode for event in recorder.of("ended") if not hands_over(event))
    assert counted == {verb: 1, "background": 1, "send_async": 2}


class Mailer:
    @background
    def mail(self, **named: Any) -> None: ...

    @background
    def __call__(self, **named: Any) -> None: ...

    def now(self, **named: Any) -> None: ...


in_background = background(ignore)


@pytest.mark.parametrize(
    ("receiver", "made"),
    [
        (in_background, in_background),
        (functools.partial(in_background, value=1), in_background),
        (Mailer().mail, Mailer.__dict__["mail"]),
        (Mailer(), Mailer.__dict__["__call__"]),
        (ignore, None),
        (Mailer().now, None),
        (functools.partial(ignore, value=1), None),
        (5, None),
    ],
)
def test_what_background_has_made_is_found(receiver: object, made: object) -> None:
    assert background_of(receiver) is made


# -- Async receivers side by side --

variable = contextvars.ContextVar("variable", default="")


class Tags(Observer):
    """Sets a variable for each receiver, as tracers do, and takes it back."""

    def __init__(self) -> None:
        self.tokens: dict[tuple[int, int | None], contextvars.Token[str]] = {}
        self.before: list[str] = []

    def started(self, event: Event) -> None:
        self.before.append(variable.get())
        self.tokens[event.send, event.place] = variable.set(f"{event.place}")

    def ended(self, event: Event) -> None:
        variable.reset(self.tokens.pop((event.send, event.place)))


@pytest.mark.parametrize("verb", ["asend", "asend_robust", "send", "send_robust"])
@pytest.mark.parametrize("eager", [False, True])
def test_what_is_set_for_one_async_receiver_the_others_do_not_see(verb: str, eager: bool) -> None:
    own = contextvars.ContextVar("own", default="")
    seen: list[tuple[str, str, str]] = []

    def receiver(name: str) -> Any:
        async def hear(**named: Any) -> None:
            first = variable.get()
            own.set(name)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append((name, first, variable.get()))

        return hear

    ears = [receiver("a"), receiver("b")]
    signal = signal_with(*ears)
    marks = Tags()

    async def asending() -> str:
        if eager and sys.version_info >= (3, 12):
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        await getattr(signal, verb)(None)
        return own.get()

    def sending() -> str:
        variable.set("sender")
        if verb.startswith("a"):
            return asyncio.run(asending())
        getattr(signal, verb)(None)
        return own.get()

    with observe(marks):
        last = contextvars.copy_context().run(sending)
    assert seen == [("a", "0", "0"), ("b", "1", "1")]
    assert marks.before == ["sender", "sender"]
    assert last == "b"  # what they set is set for the sender, as without an observer
    assert marks.tokens == {}


OBSERVED: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "nobody": contextlib.nullcontext,
    "who sets nothing": lambda: observe(Recorder()),
    "who sets a variable": lambda: observe(Tags()),
    "who captures another signal": lambda: capture(Signal()),
    "who traces": trace,
}


@pytest.mark.parametrize("verb", ["asend", "asend_robust", "send", "send_robust"])
@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("slow_after", [None, math.inf])
@pytest.mark.parametrize("who", OBSERVED)
def test_async_receivers_share_a_context_whoever_observes(
    verb: str, eager: bool, slow_after: float | None, who: str
) -> None:
    """Each had a copy of it, where anybody observed: metrics would change what a program does."""
    shared = contextvars.ContextVar("shared", default="")
    tokens = list[contextvars.Token[str]]()
    second = list[str]()

    async def sets(**named: Any) -> None:
        tokens.append(shared.set(shared.get() + "first "))
        await asyncio.sleep(0)
        second.append(shared.get())

    async def sees(**named: Any) -> str:
        while not tokens:
            await asyncio.sleep(0)
        heard = shared.get()
        shared.set(heard + "second ")
        return heard

    async def takes_back(**named: Any) -> str:
        while not second:
            await asyncio.sleep(0)
        shared.reset(tokens[0])
        shared.set(shared.get() + "third")
        return shared.get()

    signal = Signal(slow_after=slow_after)
    for each in (sets, sees, takes_back):
        signal.connect(each)

    async def asending() -> Any:
        if eager and sys.version_info >= (3, 12):
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return await getattr(signal, verb)(None), shared.get()

    def sending() -> Any:
        shared.set("sender ")
        if verb.startswith("a"):
            return asyncio.run(asending())
        return getattr(signal, verb)(None), shared.get()

    with OBSERVED[who]():
        responses, last = contextvars.copy_context().run(sending)
    assert [response for _, response in responses] == [None, "sender first ", "sender third"]
    assert second == ["sender first second "]
    assert last == "sender third"


def test_what_an_observer_leaves_set_for_an_async_receiver_ends_with_it() -> None:
    """Also what it sets and never takes back: the sender and the others do not see it."""

    class Leaves(Observer):
        def started(self, event: Event) -> None:
            variable.set("left")

    async def hear(**named: Any) -> str:
        await asyncio.sleep(0)
        before = variable.get()
        variable.set("mine")
        await asyncio.sleep(0)
        return f"{before} {variable.get()}"

    async def asending() -> tuple[list[Any], str]:
        variable.set("sender")
        return [response for _, response in await signal.asend(None)], variable.get()

    signal = signal_with(hear, functools.partial(hear))
    with observe(Leaves()):
        assert asyncio.run(asending()) == (["left mine", "left mine"], "sender")


def test_async_receiver_may_unset_what_an_observer_has_set_for_it() -> None:
    """With the token of another, from a time at which it was not set: they share a context."""
    bare: contextvars.ContextVar[str] = contextvars.ContextVar("bare")
    tokens = list[contextvars.Token[str]]()

    class SetsForOne(Observer):
        def started(self, event: Event) -> None:
            if event.place == 1:
                bare.set("observer's")

    async def sets(**named: Any) -> None:
        tokens.append(bare.set("first"))
        await asyncio.sleep(0)

    async def unsets(**named: Any) -> list[str]:
        while not tokens:
            await asyncio.sleep(0)
        seen = [bare.get("unset")]
        bare.reset(tokens[0])
        seen.append(bare.get("unset"))
        await asyncio.sleep(0)
        return seen

    with observe(SetsForOne()):
        [_, (_, seen)] = asyncio.run(signal_with(sets, unsets).asend(None))
    assert seen == ["observer's", "unset"]


def test_async_receiver_with_variables_of_its_own_is_cancelled_and_fails_as_others() -> None:
    ends = list[str]()

    async def waits(**named: Any) -> None:
        try:
            await asyncio.sleep(TIMEOUT)
        finally:
            ends.append(variable.get())

    async def fails(**named: Any) -> None:
        await asyncio.sleep(0)
        raise Boom

    async def asending() -> None:
        with pytest.raises(Boom):
            await signal_with(waits, fails).asend(None)
        task = asyncio.ensure_future(signal_with(waits, functools.partial(waits)).asend(None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with observe(Tags()) as observing:
        asyncio.run(asending())
    assert ends[0] == "0"
    assert observing.observer.tokens == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["sent", "started", "ended", "dropped", "refused", "retried"])
def test_what_is_no_method_is_refused(method: str) -> None:
    """It was accepted, and each send logged that it cannot be called."""
    with pytest.raises(TypeError, match=f"{method} of observer .* must be a method, not 'int'"):
        observe(type("Hears", (Observer,), {method: 3})())
    assert not observers_now()


@pytest.mark.parametrize("method", ["sent", "started", "ended", "dropped", "refused", "retried"])
def test_method_that_nobody_would_await_is_refused(method: str) -> None:
    async def hears(self: object, event: Event) -> None: ...

    with pytest.raises(TypeError, match=f"{method} of observer .* is async"):
        observe(type("Hears", (Observer,), {method: hears})())
    assert not observers_now()
