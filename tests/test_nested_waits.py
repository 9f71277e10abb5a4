"""Waiting for a delivery in a worker of its own pool: it runs there, or the wait says why not."""

import asyncio
import contextlib
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import inside
import pytest
from helpers import (
    TIMEOUT,
    Boom,
    Latch,
    Running,
    assert_linear,
    gil_is_on,
    handled,
    raiser,
    steps,
    wait_until,
)
from pools import add_up, held, signal_to

from tsignals import Deliveries, Delivery, Signal, WorkerPool

Wait = Callable[[Deliveries], object]


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(1, thread_name_prefix="one") as pool:
        yield pool


def each_result(deliveries: Deliveries) -> None:
    for _, delivery in deliveries:
        delivery.result(TIMEOUT)


def each_exception(deliveries: Deliveries) -> None:
    for _, delivery in deliveries:
        assert delivery.exception(TIMEOUT) is None


def all_completed(deliveries: Deliveries) -> None:
    assert len(list(deliveries.as_completed(TIMEOUT))) == len(deliveries)


def waited(deliveries: Deliveries) -> None:
    assert deliveries.wait(TIMEOUT)


WAITS: list[Wait] = [
    lambda deliveries: deliveries.results(TIMEOUT),
    lambda deliveries: deliveries.outcomes(TIMEOUT),
    waited,
    all_completed,
    each_result,
    each_exception,
]
NAMES = [
    "results",
    "outcomes",
    "wait",
    "as_completed",
    "result",
    "exception",
]
every_wait = pytest.mark.parametrize("wait", WAITS, ids=NAMES)


def awaited(deliveries: Deliveries) -> None:
    async def wait() -> None:
        async with asyncio.timeout(TIMEOUT):
            await deliveries

    asyncio.run(wait())


def gone_through(deliveries: Deliveries) -> None:
    async def wait() -> None:
        async with asyncio.timeout(TIMEOUT):
            assert len([pair async for pair in deliveries]) == len(deliveries)

    asyncio.run(wait())


# What has not started runs in the waiter


@pytest.mark.parametrize(
    "wait", [*WAITS, awaited, gone_through], ids=[*NAMES, "await", "async for"]
)
@pytest.mark.parametrize("ends_first", [False, True])
def test_the_only_worker_runs_what_comes_after_what_a_sender_has_run(
    wait: Wait, ends_first: bool
) -> None:
    """Both are in one lane, and who waits is the only one there to take the second."""
    latch, entered, go = Latch(), threading.Event(), threading.Event()
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        ordered = signal_to(latch, pool, ordered=True)

        def waits(**named: Any) -> None:
            entered.set()
            assert go.wait(TIMEOUT)
            deliveries = ordered.send_async(None)
            if ends_first:
                latch.opened.set()
            wait(deliveries)

        [(_, waiting)] = signal_to(waits, pool).send_async(None)
        assert entered.wait(TIMEOUT)
        filler = pool.submit(int)
        sender = Running(ordered.send_async, None)  # there is no room: it runs its own
        assert latch.entered.wait(TIMEOUT)
        [first] = [each for each in pool.unfinished() if each not in (waiting, filler)]
        assert filler.cancel()
        go.set()
        wait_until(lambda: first.done() if ends_first else inside.is_waited_for(first))
        latch.opened.set()
        assert waiting.result(TIMEOUT) is None
        sender.result()


@every_wait
def test_tree_a_hundred_deep_completes_on_one_worker(wait: Wait, pool: WorkerPool) -> None:
    depths = list[int]()

    def receives(depth: int, **named: Any) -> None:
        if depth:
            wait(signal.send_async(None, depth=depth - 1))
        depths.append(depth)

    signal = signal_to(receives, pool)
    signal.connect(lambda **named: None, weak=False)  # a leaf beside each branch
    signal.send_async(None, depth=100).results(TIMEOUT)
    assert depths == list(range(101))
    assert pool.drain(TIMEOUT)
    assert pool.stats()[2:9] == (0, 0, 202, 202, 0, 0, 0)


@every_wait
def test_broad_tree_completes_on_few_workers(wait: Wait) -> None:
    with WorkerPool(2) as pool:
        calls = list[int]()

        def receives(depth: int, **named: Any) -> None:
            calls.append(depth)
            if depth:
                wait(signal.send_async(None, depth=depth - 1))

        signal = Signal(executor=pool)
        for n in range(3):
            signal.connect(receives, dispatch_uid=f"{n}", weak=False)
        assert signal.send_async(None, depth=4).outcomes(TIMEOUT).errors == []
        assert len(calls) == 3 + 9 + 27 + 81 + 243
        assert pool.drain(TIMEOUT)
        assert add_up(pool.stats())


@every_wait
def test_it_runs_in_the_thread_that_waits(wait: Wait, pool: WorkerPool) -> None:
    threads = list[int]()

    def waits(**named: Any) -> None:
        threads.append(threading.get_ident())
        wait(inner.send_async(None))

    inner = signal_to(lambda **named: threads.append(threading.get_ident()), pool)
    signal_to(waits, pool).send_async(None).results(TIMEOUT)
    assert len(threads) == 2
    assert len(set(threads)) == 1


def test_futures_of_submit_are_waited_for_alike(pool: WorkerPool) -> None:
    def fibonacci(n: int) -> int:
        if n < 2:
            return n
        parts = [pool.submit(fibonacci, n - k) for k in (1, 2)]
        return sum(part.result(TIMEOUT) for part in parts)

    assert pool.submit(fibonacci, 10).result(TIMEOUT) == 55
    assert pool.submit(lambda: sum(pool.map(fibonacci, range(5)))).result(TIMEOUT) == 7


def test_error_of_what_ran_in_the_waiter_is_raised_there(pool: WorkerPool) -> None:
    error = Boom()
    inner = signal_to(raiser(error), pool)
    outer = signal_to(lambda **named: inner.send_async(None).results(TIMEOUT), pool)
    [(_, delivery)] = outer.send_async(None)
    assert delivery.exception(TIMEOUT) is error
    assert pool.stats().failed == 2


def test_cancelled_delivery_does_not_run_in_the_waiter(pool: WorkerPool) -> None:
    inner = signal_to(lambda **named: pytest.fail("it was cancelled"), pool)

    def waits(**named: Any) -> None:
        deliveries = inner.send_async(None)
        assert deliveries.cancel() == 1
        with pytest.raises(futures.CancelledError):
            deliveries.results(TIMEOUT)

    signal_to(waits, pool).send_async(None).results(TIMEOUT)
    assert pool.drain(TIMEOUT)
    assert pool.stats()[2:9] == (0, 0, 2, 1, 0, 1, 0)


def test_delivery_run_by_its_waiter_runs_once(pool: WorkerPool) -> None:
    """Its entry in the queue is left, and entitles nobody."""
    calls = list[int]()
    inner = signal_to(lambda n, **named: calls.append(n), pool)

    def waits(n: int, **named: Any) -> None:
        inner.send_async(None, n=n).results(TIMEOUT)

    outer = signal_to(waits, pool)
    for deliveries in [outer.send_async(None, n=n) for n in range(100)]:
        deliveries.results(TIMEOUT)
    assert pool.drain(TIMEOUT)
    assert sorted(calls) == list(range(100))


@every_wait
def test_what_runs_elsewhere_is_waited_for(wait: Wait) -> None:
    with WorkerPool(2) as pool:
        gate = Latch()
        inner = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)
        waiting, went_on = threading.Event(), threading.Event()

        def waits(**named: Any) -> None:
            waiting.set()
            wait(inner)
            assert gate.left.is_set()
            went_on.set()

        [(_, outer)] = signal_to(waits, pool).send_async(None)
        assert waiting.wait(TIMEOUT)
        assert not went_on.is_set()
        gate.opened.set()
        outer.result(TIMEOUT)
        assert gate.calls == 1


@pytest.mark.parametrize(
    "what",
    [
        "value",
        pytest.param(
            "response",
            marks=pytest.mark.skipif(
                bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
                reason="the worker's thread runs it when it next runs",
            ),
        ),
    ],
)
def test_finalizer_of_what_a_worker_lets_go_may_wait_for_another(what: str) -> None:
    futures, answers = list[Any](), list[Any]()

    def until_awaited() -> int:
        wait_until(lambda: futures and inside.is_waited_for(futures[0]))
        return 7

    class Last:
        def __del__(self) -> None:
            futures.append(pool.submit(until_awaited))
            wait_until(futures[0].running)
            answers.append(futures[0].result(TIMEOUT))

    sent = threading.Event()

    def receive(value: Any = None, **named: Any) -> Any:
        assert sent.wait(TIMEOUT)  # nobody else keeps the delivery any more
        return Last() if what == "response" else None

    with WorkerPool(2) as pool:
        with held(pool, 2):
            pass  # so that there is another
        signal = signal_to(receive, pool)
        signal.send_async(None, **({"value": Last()} if what == "value" else {}))
        sent.set()
        wait_until(lambda: answers)
    assert answers == [7]


@pytest.mark.parametrize("batch", [False, True])
def test_finalizer_that_waits_for_what_its_worker_has_just_taken_is_refused(batch: bool) -> None:
    """It runs where the worker knows of it and nobody else does."""
    answers = list[Any]()

    def interrupts() -> None:
        if not answers:
            try:  # as a finalizer would that the collector calls now
                answers.append(delivery.result(TIMEOUT))
            except RuntimeError as error:
                answers.append(error)

    class Stack(list[int]):
        def pop(self, *place: Any) -> int:
            taken = super().pop(*place)
            interrupts()
            return taken

    class Claims(list[Any]):
        def append(self, claim: object) -> None:
            super().append(claim)
            interrupts()

    # With something around it, one has a batch, too.
    with WorkerPool(1, around=contextlib.nullcontext if batch else None) as pool:
        with held(pool):
            [delivery] = signal_to(lambda **named: "ran", pool).send_async(None).futures
            if batch:
                inside.replace_untaken(delivery, Stack)
            else:
                inside.replace_claims(delivery, Claims)
        assert delivery.result(TIMEOUT) == "ran"
        assert "finalizer" in str(answers[0])


ELSEWHERE: dict[str, Callable[[list[Any]], object]] = {
    "wait": lambda all: futures.wait(all, TIMEOUT),
    "wait, first completed": lambda all: futures.wait(all, TIMEOUT, futures.FIRST_COMPLETED),
    "wait, first exception": lambda all: futures.wait(all, TIMEOUT, futures.FIRST_EXCEPTION),
    "as_completed": lambda all: list(futures.as_completed(all, TIMEOUT)),
}


@pytest.mark.parametrize("way", ELSEWHERE)
@pytest.mark.parametrize("running", [False, True])
def test_waits_of_the_standard_library_are_refused_in_a_worker(way: str, running: bool) -> None:
    """They sleep, and would not run what the worker waits for; the error says what does."""
    gate = Latch()
    with WorkerPool(2) as pool:
        inner = signal_to(gate, pool)

        def waits(**named: Any) -> object:
            deliveries = inner.send_async(None)
            if running:
                assert gate.entered.wait(TIMEOUT)
            try:
                return ELSEWHERE[way](deliveries.futures)
            finally:
                gate.opened.set()
                assert deliveries.wait(TIMEOUT)

        [(_, delivery)] = signal_to(waits, pool).send_async(None)
        error = delivery.exception(TIMEOUT)
        assert isinstance(error, RuntimeError)
        assert "Deliveries.wait" in str(error)
        assert "Deliveries.as_completed" in str(error)
        assert pool.drain(TIMEOUT)


@pytest.mark.parametrize("way", ELSEWHERE)
def test_waits_of_the_standard_library_see_in_a_worker_what_has_ended(way: str) -> None:
    with WorkerPool(1) as pool:
        done = [pool.submit(int), pool.submit(int)]
        assert pool.drain(TIMEOUT)
        waited = pool.submit(ELSEWHERE[way], done).result(TIMEOUT)
        assert set(waited) == set(done) if way == "as_completed" else not waited.not_done


def test_delivery_that_was_done_before_a_wait_began_counts_once_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even where who resolved it gets round to telling those who wait only afterwards."""
    with WorkerPool(2) as pool:
        gate, announcing, may_announce = Latch(), threading.Event(), threading.Event()
        announce = inside.TELL_THOSE_WHO_WAIT.now

        def announce_late(meeting: Any, future: Any) -> None:
            if future is first:
                announcing.set()
                assert may_announce.wait(TIMEOUT)
            announce(meeting, future)

        inside.TELL_THOSE_WHO_WAIT.patch(monkeypatch, announce_late)
        first = pool.submit(gate)
        first.add_done_callback(lambda future: None)  # so that there is somebody to tell
        assert gate.entered.wait(TIMEOUT)
        other = Latch()
        second = pool.submit(other)
        gate.opened.set()
        assert announcing.wait(TIMEOUT)
        waiting = Running(futures.wait, [first, second], TIMEOUT)
        yielding = Running(list, futures.as_completed([first, second], TIMEOUT))
        wait_until(lambda: inside.listeners_of(second) == 2)
        may_announce.set()
        wait_until(lambda: first not in inside.unresolved(pool))
        other.opened.set()
        assert waiting.result().not_done == set()
        assert yielding.result() == [first, second]


def test_worker_that_works_in_two_pools_runs_each_delivery_for_its_own() -> None:
    """In a worker of one pool, a caller that runs deliveries of another waits for both's."""
    waits: list[Callable[[list[Any]], bool]] = [
        lambda both: all(future.result(TIMEOUT) is None for future in both),
        lambda both: all(future.exception(TIMEOUT) is None for future in both),
    ]
    for wait in waits:
        one = WorkerPool(1, thread_name_prefix="one")
        other = WorkerPool(1, max_pending=1, overflow="caller_runs", thread_name_prefix="other")
        threads = list[int]()

        def outer() -> bool:
            own = one.submit(lambda: threads.append(threading.get_ident()))
            return other.submit(lambda: wait([own, fills])).result(TIMEOUT)

        with held(other):
            fills = other.submit(lambda: threads.append(threading.get_ident()))
            assert one.submit(outer).result(TIMEOUT) is True
            assert len(threads) == 2
            assert len(set(threads)) == 1
            assert one.drain(TIMEOUT)
            assert one.stats()[2:9] == (0, 0, 2, 2, 0, 0, 0)
            assert other.stats()[2:9] == (0, 1, 3, 2, 0, 0, 0)
        assert other.drain(TIMEOUT)
        assert other.stats()[2:9] == (0, 0, 3, 3, 0, 0, 0)
        for pool in (one, other):
            Running(pool.shutdown).result()


def test_waits_go_on_while_the_pool_closes(pool: WorkerPool) -> None:
    closed = threading.Event()

    def waits(**named: Any) -> list[Any]:
        deliveries = inner.send_async(None)
        ready.set()
        assert closed.wait(TIMEOUT)
        return deliveries.results(TIMEOUT)

    ready = threading.Event()
    inner = signal_to(lambda **named: "inner", pool)
    [(_, outer)] = signal_to(waits, pool).send_async(None)
    assert ready.wait(TIMEOUT)
    pool.shutdown(wait=False)
    closed.set()
    assert [response for _, response in outer.result(TIMEOUT)] == ["inner"]


def test_tree_deeper_than_the_stack_raises_and_loses_nothing(pool: WorkerPool) -> None:
    """The wait that would overflow the stack fails; what it waited for runs later."""
    reached, refused = list[int](), list[int]()

    def receives(depth: int, **named: Any) -> None:
        reached.append(depth)
        if depth:
            deliveries = signal.send_async(None, depth=depth - 1)
            try:
                deliveries.results(TIMEOUT)
            except RecursionError:
                refused.append(depth)

    signal = signal_to(receives, pool)
    signal.send_async(None, depth=400).results(TIMEOUT)
    assert pool.drain(TIMEOUT)
    assert reached == list(range(400, -1, -1))
    assert 0 < len(refused) < 100
    assert pool.stats()[2:9] == (0, 0, 401, 401, 0, 0, 0)


# What it costs

WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "ordered": ({"ordered": True}, {}),
    "tracked": ({"tracked": True}, {}),
    "around": ({}, {"around": contextlib.nullcontext}),
}


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("way", WAYS)
def test_each_that_is_completed_in_a_worker_costs_the_same(way: str) -> None:
    terms, arguments = WAYS[way]

    def complete(n: int) -> int:
        with WorkerPool(1, max_pending=None, **arguments) as pool:
            signal, heard = Signal(executor=pool), list[int]()
            for k in range(n):
                signal.connect(lambda k=k, **named: heard.append(k), weak=False, **terms)
            waits = lambda **named: steps(lambda: all_completed(signal.send_async(None)))  # noqa: E731
            [(_, count)] = signal_to(waits, pool).send_async(None).results(TIMEOUT)
            assert heard == [*range(n)]
            return int(count)

    assert_linear(complete, 30)


@pytest.mark.unmeasured
def test_each_that_is_completed_elsewhere_costs_a_waiting_worker_the_same() -> None:
    """On the event loop, one after the other: each ends once the one before it was yielded."""

    def complete(n: int) -> int:
        yielded = [threading.Event() for _ in range(n + 1)]

        def receiver(k: int) -> Callable[..., Any]:
            async def receives(**named: Any) -> int:
                assert await asyncio.to_thread(yielded[k].wait, TIMEOUT)
                return k

            return receives

        with WorkerPool(1, max_pending=None) as pool:
            signal = Signal(executor=pool)
            for k in range(n):
                signal.connect(receiver(k), weak=False, ordered=True)

            def waits(**named: Any) -> int:
                deliveries = signal.send_async(None)

                def complete() -> None:
                    yielded[0].set()
                    for k, (_, delivery) in enumerate(deliveries.as_completed(TIMEOUT)):
                        assert delivery.result(0) == k
                        yielded[k + 1].set()

                return steps(complete)

            [(_, count)] = signal_to(waits, pool).send_async(None).results(TIMEOUT)
            return int(count)

    assert_linear(complete, 8)


@pytest.mark.unmeasured
@pytest.mark.parametrize("wait", [all_completed, each_result], ids=["as_completed", "result"])
def test_layers_of_workers_that_wait_for_two_each_cost_the_same_each(wait: Wait) -> None:
    """The last to wait looks through all of them for a circle."""

    def look(layers: int) -> int:
        gate, known = Latch(), list[Deliveries]()
        with WorkerPool(2 * layers + 1) as pool:
            signal = signal_to(gate, pool)
            signal.connect(gate, weak=False, dispatch_uid="the other")
            known.append(signal.send_async(None))
            wait_until(lambda: gate.calls == 2)
            try:
                for _ in range(layers - 1):
                    below, signal = known[-1], Signal(executor=pool)
                    for uid in ("one", "other"):
                        signal.connect(
                            lambda below=below, **named: wait(below),  # type: ignore[misc]
                            weak=False,
                            dispatch_uid=uid,
                        )
                    known.append(signal.send_async(None))
                    asleep = 2 * len(known) - 2
                    wait_until(lambda: inside.workers_waiting() == asleep)

                def looks() -> int:
                    def expires() -> None:
                        with pytest.raises(TimeoutError):
                            list(known[-1].as_completed(1))  # it looks before that, surely

                    return steps(expires)

                return pool.submit(looks).result(TIMEOUT)
            finally:
                gate.opened.set()

    few, many = look(4), look(12)
    assert many < 6 * few, f"{few} steps for 4 layers, {many} for 12"


# Timeouts


def test_delivery_started_by_a_wait_is_not_cut_short_by_its_timeout(pool: WorkerPool) -> None:
    ticks = threading.Event()
    inner = signal_to(lambda **named: ticks.wait(0.05) or "whole", pool)
    outer = signal_to(lambda **named: inner.send_async(None).results(0.0), pool)
    assert outer.send_async(None).results(TIMEOUT)[0][1][0][1] == "whole"


@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_wait_for_what_runs_elsewhere_expires(seconds: float) -> None:
    with WorkerPool(2) as pool:
        gate = Latch()
        inner = signal_to(gate, pool).send_async(None)
        assert gate.entered.wait(TIMEOUT)

        def waits(**named: Any) -> None:
            with pytest.raises(TimeoutError):
                inner.results(seconds)
            with pytest.raises(TimeoutError):
                inner[0][1].exception(seconds)
            with pytest.raises(TimeoutError):
                list(inner.as_completed(seconds))
            assert inner.wait(seconds) is False

        try:
            signal_to(waits, pool).send_async(None).results(TIMEOUT)
        finally:
            gate.opened.set()
        assert inner.results(TIMEOUT)[0][1] == "through"


# Lanes


@every_wait
def test_what_stands_before_it_in_its_lane_runs_first(wait: Wait, pool: WorkerPool) -> None:
    order = list[int]()

    def waits(**named: Any) -> None:
        sent = [lane.send_async(None, n=n) for n in range(5)]
        wait(sent[3])
        assert order == [0, 1, 2, 3]

    lane = signal_to(lambda n, **named: order.append(n), pool, ordered=True)
    signal_to(waits, pool).send_async(None).results(TIMEOUT)
    assert pool.drain(TIMEOUT)
    assert order == list(range(5))


@every_wait
def test_what_runs_before_it_in_its_lane_is_waited_for(wait: Wait) -> None:
    with WorkerPool(2) as pool:
        order, gate = list[int](), Latch()

        def receives(n: int, **named: Any) -> None:
            if n == 0:
                gate()
            order.append(n)

        lane = signal_to(receives, pool, ordered=True)
        lane.send_async(None, n=0)
        assert gate.entered.wait(TIMEOUT)
        behind = [lane.send_async(None, n=n) for n in (1, 2)]
        waiting = threading.Event()

        def waits(**named: Any) -> None:
            waiting.set()
            wait(behind[1])
            assert order == [0, 1, 2]

        [(_, outer)] = signal_to(waits, pool).send_async(None)
        assert waiting.wait(TIMEOUT)
        assert order == []
        gate.opened.set()
        outer.result(TIMEOUT)


@every_wait
def test_lane_that_waits_for_itself_is_an_error(wait: Wait, pool: WorkerPool) -> None:
    later = list[Deliveries]()

    def receives(n: int, **named: Any) -> str:
        if n == 0:
            later.append(signal.send_async(None, n=1))
            with pytest.raises(RuntimeError, match="lane"):
                wait(later[0])
        return "went on"

    signal = signal_to(receives, pool, ordered=True)
    assert signal.send_async(None, n=0).results(TIMEOUT)[0][1] == "went on"
    assert later[0].results(TIMEOUT)[0][1] == "went on"


def test_lane_that_waits_for_itself_through_another_delivery_is_an_error(pool: WorkerPool) -> None:
    def receives(n: int, **named: Any) -> None:
        if n == 0:
            between.send_async(None).results(TIMEOUT)

    signal = signal_to(receives, pool, ordered=True)
    between = signal_to(lambda **named: signal.send_async(None, n=1).results(TIMEOUT), pool)
    [(_, delivery)] = signal.send_async(None, n=0)
    assert isinstance(delivery.exception(TIMEOUT), RuntimeError)
    assert pool.drain(TIMEOUT)
    assert pool.stats()[2:9] == (0, 0, 3, 1, 2, 0, 0)


def test_delivery_that_waits_for_itself_is_an_error(pool: WorkerPool) -> None:
    own = list[Delivery]()
    known = threading.Event()

    def waits(**named: Any) -> None:
        assert known.wait(TIMEOUT)
        own[0].result(TIMEOUT)

    own.append(signal_to(waits, pool).send_async(None)[0][1])
    known.set()
    assert isinstance(own[0].exception(TIMEOUT), RuntimeError)


def test_two_that_wait_for_each_other_are_an_error_and_not_a_hang() -> None:
    with WorkerPool(2) as pool:
        both, known = list[Delivery](), threading.Event()
        barrier = threading.Barrier(2)

        def waits(other: int, **named: Any) -> None:
            assert known.wait(TIMEOUT)
            barrier.wait(TIMEOUT)
            both[other].exception(TIMEOUT)

        signal = signal_to(waits, pool)
        both += [signal.send_async(None, other=1 - n)[0][1] for n in range(2)]
        known.set()
        errors = [delivery.exception(TIMEOUT) for delivery in both]
        assert any(isinstance(error, RuntimeError) for error in errors)
        assert not any(isinstance(error, TimeoutError) for error in errors)


def test_who_waits_for_any_of_several_may_be_waited_for_by_one_of_them() -> None:
    """Another may end, and then it goes on: that is no cycle."""
    with WorkerPool(3) as pool:
        known, running, gate, outer = threading.Event(), threading.Event(), Latch(), list[Any]()

        def waits_for_outer(**named: Any) -> Any:
            running.set()
            wait_until(inside.workers_waiting)
            return outer[0].result(TIMEOUT)

        signal = signal_to(waits_for_outer, pool)
        signal.connect(gate)

        def first_of_both() -> Any:
            assert known.wait(TIMEOUT)
            deliveries = signal.send_async(None)
            assert running.wait(TIMEOUT) and gate.entered.wait(TIMEOUT)
            found.append(deliveries)
            _, delivery = next(iter(deliveries.as_completed(TIMEOUT)))
            return delivery.result(TIMEOUT)

        found = list[Deliveries]()
        outer.append(pool.submit(first_of_both))
        known.set()
        wait_until(lambda: inside.workers_waiting() == 2 or (found and found[0][0][1].done()))
        gate.opened.set()
        assert outer[0].result(TIMEOUT) == "through"
        assert found[0].results(TIMEOUT) == [(waits_for_outer, "through"), (gate, "through")]


def test_lanes_that_wait_for_each_other_are_an_error_and_not_a_hang() -> None:
    """Each of two ordered receivers waits for what stands behind the other."""
    with WorkerPool(2) as pool:
        barrier = threading.Barrier(2)
        signals = [Signal(executor=pool) for _ in range(2)]

        def lane(mine: int) -> Callable[..., None]:
            def receives(first: bool, **named: Any) -> None:
                if first:
                    barrier.wait(TIMEOUT)
                    signals[1 - mine].send_async(None, first=False).results(TIMEOUT)

            return receives

        for n in range(2):
            signals[n].connect(lane(n), weak=False, ordered=True)
        sent = [signal.send_async(None, first=True)[0][1] for signal in signals]
        errors = [delivery.exception(TIMEOUT) for delivery in sent]
        assert any(isinstance(error, RuntimeError) for error in errors)
        assert not any(isinstance(error, TimeoutError) for error in errors)
        assert pool.drain(TIMEOUT)


@pytest.mark.parametrize("wait", WAITS, ids=NAMES)
def test_what_is_cancelled_in_its_lane_is_waited_for_no_longer(wait: Wait) -> None:
    """What stands before it may end only when who waits goes on."""
    with WorkerPool(2) as pool:
        gate = Latch()
        signal = signal_to(gate, pool, ordered=True)
        signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)
        behind = signal.send_async(None)

        def goes_on() -> None:
            with contextlib.suppress(futures.CancelledError):
                wait(behind)
            gate.opened.set()

        waiting = pool.submit(goes_on)
        wait_until(inside.workers_waiting)
        assert behind.cancel() == 1
        waiting.result(TIMEOUT)
        assert gate.calls == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no signal can be sent to a thread")
def test_cycle_through_a_wait_in_which_a_signal_handler_has_waited_is_an_error() -> None:
    """The main thread is a worker here, in which signal handlers run."""
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool:
        waited, mine = threading.Event(), list[Any]()

        def waits_for_main() -> Any:
            assert waited.wait(TIMEOUT)
            wait_until(inside.workers_waiting)
            return mine[0].exception(TIMEOUT)

        other = pool.submit(waits_for_main)
        wait_until(other.running)
        pool.submit(int)

        def handle() -> None:
            with pytest.raises(TimeoutError):
                other.result(0.01)
            waited.set()

        def runs_in_main() -> Any:
            mine.extend(task for task in pool.unfinished() if task not in (other, *pending))
            return other.exception(TIMEOUT)

        pending = [task for task in pool.unfinished() if task is not other]
        with handled(handle, inside.workers_waiting):
            ended = [pool.submit(runs_in_main).exception(TIMEOUT), other.exception(TIMEOUT)]
        assert [type(error) for error in ended if error is not None] == [RuntimeError]


# Elsewhere


def test_blocking_wait_on_the_pools_event_loop_is_an_error(pool: WorkerPool) -> None:
    inner = signal_to(lambda **named: "inner", pool)

    with held(pool) as gate:

        async def waits(**named: Any) -> Any:
            deliveries = inner.send_async(None)
            with pytest.raises(RuntimeError, match="event loop"):
                deliveries.results()
            gate.opened.set()  # not before: there would be nothing to wait for
            return await deliveries

        [(_, outer)] = signal_to(waits, pool).send_async(None)
        assert outer.result(TIMEOUT)[0][1] == "inner"


def test_worker_waits_for_an_async_delivery(pool: WorkerPool) -> None:
    async def inner_receiver(**named: Any) -> str:
        return threading.current_thread().name

    inner = signal_to(inner_receiver, pool)

    def waits(**named: Any) -> Any:
        return inner.send_async(None).results(TIMEOUT)[0][1], threading.current_thread().name

    on_loop, waiter = signal_to(waits, pool).send_async(None).results(TIMEOUT)[0][1]
    assert on_loop != waiter


def test_thread_that_is_no_worker_runs_nothing(pool: WorkerPool) -> None:
    with held(pool):
        [(_, delivery)] = signal_to(lambda **named: threading.get_ident(), pool).send_async(None)
        with contextlib.suppress(TimeoutError):
            delivery.result(0)
        waiting = Running(delivery.result, TIMEOUT)
        assert not delivery.done()
    assert waiting.result() != threading.get_ident()


def test_worker_of_another_pool_runs_nothing(pool: WorkerPool) -> None:
    with WorkerPool(1, thread_name_prefix="other") as other:
        name = lambda **named: threading.current_thread().name  # noqa: E731
        inner = signal_to(name, pool)
        outer = signal_to(lambda **named: inner.send_async(None).results(TIMEOUT), other)
        [(_, responses)] = outer.send_async(None).results(TIMEOUT)
        assert responses[0][1].startswith("one")


class Upload:
    """Closes what it has opened in another pool, and waits for that."""

    def __init__(self, other: WorkerPool, closed: list[int]) -> None:
        self.other, self.closed = other, closed

    def __del__(self) -> None:
        self.closed.append(self.other.submit(int).result(TIMEOUT))


DROPS: dict[str, Callable[[Signal, WorkerPool, Callable[[], Upload]], object]] = {
    "cancel": lambda signal, pool, upload: signal.send_async(None, upload=upload()).cancel(),
    "prepare, cancel": lambda signal, pool, upload: signal.prepare(
        None, upload=upload()
    ).deliveries.cancel(),
    "prepare, drop": lambda signal, pool, upload: signal.prepare(None, upload=upload()).drop(),
    "drop_oldest": lambda signal, pool, upload: (
        signal.send_async(None, upload=upload()),
        pool.submit(int),
    ),
    "shutdown": lambda signal, pool, upload: (
        signal.send_async(None, upload=upload()),
        pool.shutdown(wait=False, cancel_futures=True),
    ),
}


@pytest.mark.parametrize("terms", ["", "ordered", "tracked", "once"])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("how", DROPS)
def test_finalizer_of_what_was_sent_may_wait_where_that_is_let_go(
    how: str, is_async: bool, terms: str
) -> None:
    """Nobody has interrupted anything: the last reference goes in a step of ours."""
    if is_async and not how.startswith("prepare") and not gil_is_on():
        # The loop may let go of it. Its finalizer then runs in the thread that made it, wherever
        # that is: here in our wait for room, say, where nothing may wait.
        pytest.skip("without the GIL this finalizer interrupts the sender")

    async def on_loop(**named: Any) -> None: ...

    def here(**named: Any) -> None: ...

    closed = list[int]()
    with WorkerPool(1) as other, WorkerPool(1, max_pending=1, overflow="drop_oldest") as pool:
        signal = signal_to(on_loop if is_async else here, pool, **({terms: True} if terms else {}))
        with held(pool):
            DROPS[how](signal, pool, lambda: Upload(other, closed))
        wait_until(lambda: closed)
    assert closed == [0]
