"""WorkerPool: an executor with as many threads as it needs and numbers that add up."""

import contextlib
import contextvars
import copy
import gc
import itertools
import logging
import os
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import inside
import pytest
from helpers import (
    TIMEOUT,
    BaseBoom,
    Boom,
    Ear,
    Latch,
    Running,
    Thing,
    assert_gone,
    ignore,
    quiet,
    raiser,
    together,
    uncollected,
    wait_until,
)
from points import Handler
from pools import Watch, add_up, held, signal_to, told

from tsignals import PoolStats, QueueFull, Signal, WorkerPool


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2, thread_name_prefix="pool") as pool:
        yield pool


# Its arguments


def test_initargs_of_any_kind_are_for_every_thread() -> None:
    seen, both = list[object](), threading.Barrier(2)
    initargs: Any = iter("a")
    with WorkerPool(2, initializer=seen.append, initargs=initargs) as pool:
        for future in [pool.submit(both.wait, TIMEOUT) for _ in range(2)]:
            future.result(TIMEOUT)
    assert seen == ["a", "a"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_workers": 0},
        {"max_workers": False},
        {"max_workers": -1},
        {"max_pending": 0},
        {"max_pending": -5},
        {"overflow": "explode"},
        {"overflow": ""},
        {"block_timeout": -0.1},
        {"block_timeout": float("nan")},
    ],
    ids=str,
)
def test_arguments_out_of_range_raise_value_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WorkerPool(**wrong)


def test_no_workers_at_all_are_refused_as_the_standard_pool_does() -> None:
    for make in (WorkerPool, ThreadPoolExecutor):
        with pytest.raises(ValueError, match=r"^max_workers must be greater than 0$"):
            make(max_workers=0)


@pytest.mark.parametrize("name", ["max_workers", "max_pending"])
@pytest.mark.parametrize("number", ["3", 1.5])
def test_numbers_that_are_no_ints_raise_type_error(name: str, number: Any) -> None:
    arguments: dict[str, Any] = {name: number}
    with pytest.raises(TypeError, match=f"{name} must be an int or None"):
        WorkerPool(**arguments)


@pytest.mark.parametrize("name", ["initializer", "around", "initargs", "thread_name_prefix"])
def test_arguments_of_the_wrong_type_raise_type_error(name: str) -> None:
    arguments: dict[str, Any] = {name: 3}
    with pytest.raises(TypeError, match=name):
        WorkerPool(**arguments)


def test_is_an_executor() -> None:
    with WorkerPool() as pool:
        assert isinstance(pool, Executor)
        assert isinstance(pool.submit(int), Future)


@pytest.mark.parametrize("cpus", [1, 4, 28, 64, None])
def test_default_number_of_workers(cpus: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    monkeypatch.setattr(os, "process_cpu_count", lambda: cpus, raising=False)
    most = min(32, (cpus or 1) + 4)
    with WorkerPool() as pool:
        gate = Latch()
        for _ in range(most + 5):
            pool.submit(gate)
        wait_until(lambda: pool.stats().running == most)
        assert pool.stats().workers == most
        assert pool.stats().pending == 5
        gate.opened.set()


# submit and map


def test_submit_passes_everything_on(pool: WorkerPool) -> None:
    def function(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    future = pool.submit(function, 1, 2, self=3, fn=4, function=5, work=6)
    assert future.result(TIMEOUT) == ((1, 2), {"self": 3, "fn": 4, "function": 5, "work": 6})


def test_map_gives_results_in_order_and_raises_in_turn(pool: WorkerPool) -> None:
    assert list(pool.map(pow, [2, 3, 4], [5, 2, 1], timeout=TIMEOUT)) == [32, 9, 4]
    results = pool.map(lambda n: 6 // n, [1, 2, 0, 3], timeout=TIMEOUT, chunksize=2)
    assert [next(results), next(results)] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_keeps_its_timeout(pool: WorkerPool) -> None:
    gate = Latch()
    results = pool.map(lambda _: gate(), [1], timeout=0.01)
    with pytest.raises(TimeoutError, match="not all calls of map are done"):
        next(results)
    gate.opened.set()
    with pytest.raises(TimeoutError, match="its own"):
        list(pool.map(lambda _: raiser(TimeoutError("its own"))(), [1]))


def executors() -> Any:
    """Ours, and that of the standard library where it has a buffersize."""
    standard = sys.version_info >= (3, 14)
    return [WorkerPool, *([ThreadPoolExecutor] if standard else [])]


every_executor = pytest.mark.parametrize("make", executors())


class Source:
    """Numbers without end, which counts those that were taken."""

    def __init__(self, end: float = float("inf")) -> None:
        self.taken = 0
        self.end = end

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.taken >= self.end:
            raise StopIteration
        self.taken += 1
        return self.taken - 1


@every_executor
@pytest.mark.parametrize("size", [1, 2, 5, True])
def test_map_with_a_buffersize_takes_only_as_results_are_asked_for(make: Any, size: int) -> None:
    source = Source()
    with make(2) as executor:
        results = executor.map(str, source, buffersize=size)
        assert source.taken == size
        for n in range(20):
            assert next(results) == str(n)
            assert source.taken == n + 1 + size  # so many are taken and not yielded
        results.close()
        assert source.taken == 20 + size


def test_buffersize_may_be_more_than_there_can_be() -> None:
    with WorkerPool(1) as pool:
        assert list(pool.map(str, range(3), buffersize=10**400)) == ["0", "1", "2"]


@pytest.mark.parametrize("size", [1, 3])
def test_no_more_than_the_buffersize_wait_or_run_or_have_results(size: int) -> None:
    """What was not asked for is not called, however long the caller takes."""
    most, inside = list[int](), threading.Semaphore(0)
    with WorkerPool(8) as pool:

        def called(n: int) -> int:
            inside.release()
            stats = pool.stats()
            most.append(stats.pending + stats.running)
            return n

        results = pool.map(called, itertools.count(), buffersize=size)
        for n in range(30):
            assert next(results) == n
        for _ in range(30 + size):
            assert inside.acquire(timeout=TIMEOUT)
        assert pool.drain(TIMEOUT)
        assert pool.stats().submitted == 30 + size
        results.close()  # type: ignore[attr-defined]
    assert max(most) <= size


@every_executor
@pytest.mark.parametrize("size", [None, 1, 2, 4, 5, 100])
@pytest.mark.parametrize("length", [0, 1, 4])
def test_map_gives_all_of_the_shortest_whatever_its_buffersize(
    make: Any, size: int | None, length: int
) -> None:
    with make(2) as executor:
        if size is not None or make is WorkerPool:
            results = executor.map(pow, Source(length), itertools.repeat(2, 7), buffersize=size)
            assert list(results) == [n * n for n in range(length)]
            assert list(executor.map(pow, buffersize=size)) == []


@every_executor
@pytest.mark.parametrize("wrong", ["3", 1.5, [1], b"1"])
def test_map_refuses_a_buffersize_that_is_no_int(make: Any, wrong: Any) -> None:
    source = Source(3)
    with make(1) as executor:
        with pytest.raises(TypeError, match=r"^buffersize must be an integer or None$"):
            executor.map(str, source, buffersize=wrong)
        assert source.taken == 0


@every_executor
@pytest.mark.parametrize("wrong", [0, -1, False])
def test_map_refuses_a_buffersize_below_one(make: Any, wrong: Any) -> None:
    source = Source(3)
    with make(1) as executor:
        with pytest.raises(ValueError, match=r"^buffersize must be None or > 0$"):
            executor.map(str, source, buffersize=wrong)
        assert source.taken == 0


@pytest.mark.parametrize("size", [None, 2])
def test_map_raises_a_calls_error_in_its_turn_and_cancels_the_rest(size: int | None) -> None:
    gate, error = Latch(), Boom()

    def called(n: int) -> Any:
        if n == 1:
            raise error
        return gate() if n == 2 else n

    with WorkerPool(1) as pool:
        results = pool.map(called, range(9), buffersize=size)
        assert next(results) == 0
        assert gate.entered.wait(TIMEOUT)
        try:
            with pytest.raises(Boom) as caught:
                next(results)
            assert caught.value is error
            assert list(results) == []
        finally:
            gate.opened.set()
        assert pool.drain(TIMEOUT)
        stats = pool.stats()
        assert (stats.completed, stats.failed) == (2, 1)
        assert stats.cancelled == stats.submitted - 3


@pytest.mark.parametrize("size", [None, 2])
def test_map_passes_on_what_its_iterables_raise(size: int | None, pool: WorkerPool) -> None:
    def source() -> Iterator[int]:
        yield 0
        yield 1
        yield 2
        raise Boom

    with pytest.raises(Boom):
        for result in pool.map(str, source(), buffersize=size):
            assert result in "01"


def test_map_that_finds_no_room_cancels_what_it_has_submitted() -> None:
    """Nobody could ask for it."""
    with WorkerPool(1, max_pending=2, overflow="raise") as pool, held(pool):
        with pytest.raises(QueueFull):
            pool.map(str, range(3))
        assert (pool.stats().pending, pool.stats().cancelled) == (0, 2)


def test_map_with_a_buffersize_goes_on_though_nobody_refers_to_its_pool() -> None:
    assert list(WorkerPool(1).map(str, range(20), buffersize=2)) == [str(n) for n in range(20)]


@pytest.mark.parametrize("size", [None, 2])
def test_results_of_map_keep_neither_their_calls_nor_errors_alive(size: int | None) -> None:
    references = list[Any]()
    with uncollected():
        with WorkerPool(1) as pool:
            for function in (lambda n: Thing(), lambda n: Thing() if 1 // n else None):
                results = pool.map(function, [1, 0, 1], buffersize=size)
                with contextlib.suppress(ZeroDivisionError):
                    for result in results:
                        references.append(weakref.ref(result))
                        del result
                del results
        # The worker is gone, which on free-threaded builds is the one to drop what it has made.
        wait_until(lambda: not any(reference() for reference in references))
    assert len(references) == 4


def test_submitted_functions_run_outside_the_senders_context(pool: WorkerPool) -> None:
    """As with every executor; it is deliveries that carry the context."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    variable.set(1)
    assert pool.submit(variable.get).result(TIMEOUT) == 0


@pytest.mark.parametrize("error", [Boom(), BaseBoom(), SystemExit(), KeyboardInterrupt()])
def test_submitted_function_may_raise_anything(error: BaseException, pool: WorkerPool) -> None:
    def raises() -> None:
        raise error

    assert pool.submit(raises).exception(TIMEOUT) is error
    assert pool.submit(int).result(TIMEOUT) == 0
    assert pool.stats().failed == 1


# Its threads


def test_threads_are_named_and_are_daemons() -> None:
    with WorkerPool(2, thread_name_prefix="mail") as pool:
        thread = pool.submit(threading.current_thread).result(TIMEOUT)
        assert thread.name.startswith("mail")
        assert thread.daemon
    with WorkerPool(1) as pool:
        assert pool.submit(threading.current_thread).result(TIMEOUT).name.startswith("tsignals")


def test_no_thread_starts_before_there_is_work() -> None:
    before = set(threading.enumerate())
    with WorkerPool(2) as pool:
        signal = Signal(executor=pool)
        assert not signal.send_async(None)
        signal.connect(ignore)
        signal.send(None)
        assert pool.stats() == PoolStats(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        assert set(threading.enumerate()) <= before


def test_idle_worker_is_used_before_another_is_started(pool: WorkerPool) -> None:
    for n in range(20):
        assert pool.submit(int).result(TIMEOUT) == 0
        wait_until(lambda: pool.stats().idle == 1)
        assert pool.stats().workers == 1, n


def test_as_many_workers_as_are_needed_and_no_more() -> None:
    with WorkerPool(3) as pool, Watch(pool) as watch:
        gates = [Latch() for _ in range(6)]
        futures = [pool.submit(gate) for gate in gates]
        assert all(gate.entered.wait(TIMEOUT) for gate in gates[:3])
        assert not any(gate.entered.is_set() for gate in gates[3:])
        assert pool.stats()[:4] == (3, 0, 3, 3)
        for gate in gates:
            gate.opened.set()
        assert [future.result(TIMEOUT) for future in futures] == ["through"] * 6
    assert watch.most_workers <= 3


def test_deliveries_see_nothing_that_the_initializer_sets_in_a_context_variable() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    with WorkerPool(1, initializer=variable.set, initargs=("by the initializer",)) as pool:
        signal = Signal(executor=pool)
        signal.connect(lambda **named: variable.get(), weak=False)
        assert signal.send_async(None).results(TIMEOUT)[0][1] == "unset"
        assert pool.submit(variable.get).result(TIMEOUT) == "by the initializer"


def test_deliveries_do_not_go_through_submit() -> None:
    class Counting(WorkerPool):
        submitted = 0

        def submit(self, *arguments: Any, **named: Any) -> Any:
            self.submitted += 1
            return super().submit(*arguments, **named)

    with Counting(1) as pool:
        signal = Signal(executor=pool)
        signal.connect(lambda **named: "heard", weak=False)
        assert signal.send_async(None).results(TIMEOUT)[0][1] == "heard"
        assert pool.submitted == 0


def test_initializer_is_called_in_each_worker_before_its_work() -> None:
    local = threading.local()

    def initialize(*arguments: int) -> None:
        local.arguments = arguments

    with WorkerPool(3, initializer=initialize, initargs=(1, 2)) as pool:
        barrier = threading.Barrier(3)

        def meet() -> Any:
            barrier.wait(TIMEOUT)
            return local.arguments, threading.get_ident()

        met = [future.result(TIMEOUT) for future in [pool.submit(meet) for _ in range(3)]]
    assert [arguments for arguments, _ in met] == [(1, 2)] * 3
    assert len({ident for _, ident in met}) == 3


def test_idle_worker_keeps_nothing_of_its_last_delivery(pool: WorkerPool) -> None:
    signal, receiver, sender, response = Signal(executor=pool), Ear(), Thing(), Thing()
    receiver.response = response
    signal.connect(receiver.hear)
    deliveries = signal.send_async(sender, value=(value := Thing()))
    deliveries.results(TIMEOUT)
    failing = signal_to(raiser(Boom()), pool)
    failing.send_async(None).wait(TIMEOUT)
    wait_until(lambda: pool.stats().idle == pool.stats().workers)
    references = [*map(weakref.ref, (receiver, sender, response, value, deliveries[0][1]))]
    del failing, receiver, sender, response, value, deliveries
    for reference in references:
        assert_gone(reference)


@pytest.mark.parametrize("kept", ["a delivery that goes on", "an exception"])
def test_what_a_pool_has_been_through_is_not_kept_by(kept: str) -> None:
    """The numbers of long ago lead to all that came after."""

    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    gate = Latch()
    with WorkerPool(2) as pool:
        receiver = gate if kept == "a delivery that goes on" else raiser(Boom())
        deliveries = signal_to(receiver, pool).send_async(None)
        try:
            if receiver is gate:
                assert gate.entered.wait(TIMEOUT)
            else:
                deliveries.wait(TIMEOUT)
            pool.submit(int).result(TIMEOUT)
            before = objects()
            for _ in range(500):
                pool.submit(int).result(TIMEOUT)
            assert objects() < before + 500
        finally:
            gate.opened.set()


def test_pool_nobody_refers_to_finishes_its_work_and_its_threads_end() -> None:
    pool, ran, gate = WorkerPool(2), list[int](), Latch()
    futures = [pool.submit(gate) for _ in range(2)]
    futures += [pool.submit(ran.append, n) for n in range(10)]
    threads = [t for t in threading.enumerate() if t.name.startswith("tsignals")]
    assert len(threads) == 2
    reference = weakref.ref(pool)
    del pool
    assert_gone(reference)
    gate.opened.set()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert sorted(ran) == list(range(10))
    assert all(future.done() for future in futures)


def test_pool_of_a_signal_nobody_refers_to_finishes_its_work_too() -> None:
    """What is queued refers to the signal, and that to its pool: the last delivery lets it go."""
    ran, gate, pool = list[int](), Latch(), WorkerPool(1)
    signal = signal_to(lambda n, **named: ran.append(n), pool)
    pool.submit(gate)
    for n in range(10):
        signal.send_async(None, n=n)
    [thread] = [t for t in threading.enumerate() if t.name.startswith("tsignals")]
    del pool, signal
    gc.collect()
    gate.opened.set()
    # Not join: free-threaded builds let go of the pool on this thread, which made it, as it runs.
    wait_until(lambda: not thread.is_alive())
    assert ran == list(range(10))


def test_idle_pool_nobody_refers_to_ends_its_threads() -> None:
    pool = WorkerPool(3)
    with held(pool, 3):
        threads = [t for t in threading.enumerate() if t.name.startswith("tsignals")]
    del pool
    gc.collect()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def test_future_does_not_keep_its_pool() -> None:
    pool = WorkerPool(1)
    future = pool.submit(int)
    reference = weakref.ref(pool)
    del pool
    assert_gone(reference)
    assert future.result(TIMEOUT) == 0


# around


class Around:
    """A context manager factory that writes down what happens."""

    def __init__(self) -> None:
        self.events: list[object] = []

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        self.events.append("enter")
        try:
            yield
        except BaseException as error:
            self.events.append(error)
            raise
        finally:
            self.events.append("exit")


def test_around_is_entered_around_every_delivery() -> None:
    around = Around()

    def receives(function: str, around: str, **named: Any) -> str:
        events.append("receiver")
        return function + around

    events = around.events
    with WorkerPool(1, around=around) as pool:
        signal = signal_to(receives, pool)
        signal.connect(receives, dispatch_uid="again", weak=False)
        # Whatever the values are called.
        deliveries = signal.send_async(None, function="func", around="tion")
        assert [response for _, response in deliveries.results(TIMEOUT)] == ["function"] * 2
        assert events == ["enter", "receiver", "exit"] * 2
        events.clear()
        assert pool.submit(events.append, "submitted").result(TIMEOUT) is None
        assert events == ["enter", "submitted", "exit"]


def test_around_is_inside_the_context_of_the_delivery() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        token = variable.set(variable.get() + " and around")
        yield
        variable.reset(token)

    with WorkerPool(1, around=around) as pool:
        variable.set("sender")
        delivery = signal_to(lambda **named: variable.get(), pool).send_async(None)[0][1]
        assert delivery.result(TIMEOUT) == "sender and around"


def test_around_sees_the_error() -> None:
    around, error = Around(), Boom()
    with WorkerPool(1, around=around) as pool:
        delivery = signal_to(raiser(error), pool).send_async(None)[0][1]
        assert delivery.exception(TIMEOUT) is error
    assert around.events == ["enter", error, "exit"]


@pytest.mark.parametrize("where", ["factory", "enter", "exit"])
@pytest.mark.parametrize("error", [Boom(), BaseBoom()])
def test_around_that_raises_fails_the_delivery(where: str, error: BaseException) -> None:
    class Manager:
        def __init__(self) -> None:
            if where == "factory":
                raise error

        def __enter__(self) -> None:
            if where == "enter":
                raise error

        def __exit__(self, *details: object) -> None:
            if where == "exit":
                raise error

    ear = Ear()
    with WorkerPool(1, around=Manager) as pool, told() as hears:
        delivery = signal_to(ear, pool).send_async(None)[0][1]
        assert delivery.exception(TIMEOUT) is error
        assert pool.submit(int).exception(TIMEOUT) is error
        assert pool.stats().workers == 1
    assert hears.errors == [error]
    assert len(ear.calls) == (where == "exit")


@pytest.mark.parametrize("error", [Boom(), BaseBoom(), SystemExit()])
def test_around_cannot_swallow_an_error(error: BaseException) -> None:
    def raises() -> None:
        raise error

    suppress = lambda: contextlib.suppress(BaseException)  # noqa: E731
    with WorkerPool(1, around=suppress) as pool, told() as hears:
        delivery = signal_to(raiser(error), pool).send_async(None)[0][1]
        assert delivery.exception(TIMEOUT) is error
        assert pool.submit(raises).exception(TIMEOUT) is error
    assert hears.errors == [error]


# stats


def test_stats_are_a_named_tuple_of_ten() -> None:
    assert PoolStats._fields == (
        "workers",
        "idle",
        "pending",
        "running",
        "submitted",
        "completed",
        "failed",
        "cancelled",
        "dropped",
        "refused",
    )


def test_stats_count_what_happened() -> None:
    with WorkerPool(1, max_pending=3, overflow="drop_newest") as pool:
        with held(pool):
            futures = [pool.submit(int) for _ in range(2)]
            failing = pool.submit(int, "no number")
            dropped = pool.submit(int)
            futures[0].cancel()
            assert pool.stats() == PoolStats(1, 0, 2, 1, 5, 0, 0, 1, 1, 0)
        assert isinstance(failing.exception(TIMEOUT), ValueError)
        assert dropped.done()
        wait_until(lambda: pool.stats().idle == 1)
        assert pool.stats() == PoolStats(1, 1, 0, 0, 5, 2, 1, 1, 1, 0)


@pytest.mark.parametrize("moment", range(6))
def test_stats_show_one_moment_though_the_collector_comes_in_between(moment: int) -> None:
    """On 3.11 it comes in the middle of an allocation, and so of the copy of the accounts."""
    cell, units = inside.atomic_state(), inside.units
    counters, first = inside.counters_of(cell), inside.open_counter(cell)
    cell.update(lambda state: state.plus(2 * units.ADMITTED + 2 * units.IDLE))
    counters[first] += units.START - units.IDLE
    moments = []

    def others_run(phase: str, info: object) -> None:
        """Another worker, which has just been decided on, starts; then the first one ends."""
        if phase == "start" and sys._getframe(1).f_code in looking:
            moments.append(None)
            if len(moments) == moment + 1:
                second = inside.open_counter(cell)
                counters[second] += units.START - units.IDLE
                counters[first] += units.FINISH["completed"] + units.IDLE

    looking = inside.code_that_looks()
    threshold = gc.get_threshold()
    gc.callbacks.append(others_run)
    litter = [[None] for _ in range(300)]  # there is no list left that is made without allocating
    gc.set_threshold(1)
    try:
        state = cell.value
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(others_run)
    del litter
    assert (state.pending, state.running) in ((1, 1), (0, 1))
    assert state.pending + state.running + state.number(units.COMPLETED) == 2


def test_stats_are_settled_when_the_future_is(pool: WorkerPool) -> None:
    """Whoever has the result finds it counted, and its worker idle."""
    for n in range(300):
        pool.submit(int).result(TIMEOUT)
        stats = pool.stats()
        assert (stats.completed, stats.running, stats.pending) == (n + 1, 0, 0)


@pytest.mark.parametrize(
    "overflow", ["block", "raise", "drop_newest", "drop_oldest", "caller_runs"]
)
def test_stats_add_up_at_every_moment(overflow: str) -> None:
    """Four threads send what succeeds, fails, is ordered, is cancelled; a fifth watches."""
    with WorkerPool(2, max_pending=10, overflow=overflow) as pool, Watch(pool) as watch:
        signal = Signal(executor=pool)
        signal.connect(ear := Ear())
        signal.connect(raiser(ValueError()), weak=False)
        signal.connect(ear.hear, ordered=True)

        def send() -> None:
            for n in range(100):
                with contextlib.suppress(QueueFull):
                    deliveries = signal.send_async(None)
                    if n % 3 == 0:
                        deliveries.cancel()

        logging.disable(logging.CRITICAL)
        try:
            together(*[send] * 4)
            assert pool.drain(TIMEOUT)
        finally:
            logging.disable(logging.NOTSET)
        stats = pool.stats()
        assert add_up(stats)
        assert (stats.pending, stats.running) == (0, 0)
        if overflow != "raise":
            assert stats.submitted == 1200
    # A caller that runs an ordered delivery may have to leave it to the pool.
    assert watch.most_pending <= 10 + (4 if overflow == "caller_runs" else 0)


def test_what_comes_while_another_leaves_the_queue_is_run() -> None:
    """At any point of a ``cancel()`` the worker may find nobody in line, and another may come.

    The token that went with what was cancelled could be gone by then, and that of the newcomer was
    taken away for it.
    """
    switch_interval = sys.getswitchinterval()
    for at in itertools.count(1):
        with WorkerPool(1) as pool, held(pool) as latch:
            leaves, come = pool.submit(int), list[Future[int]]()

            def others(pool: WorkerPool = pool, latch: Latch = latch, come: Any = come) -> None:
                latch.opened.set()
                wait_until(lambda: pool.stats().idle == 1 and not inside.tokens_of(pool).qsize())
                sys.setswitchinterval(TIMEOUT)  # the thread that cancels goes on before the worker
                come.append(pool.submit(int))

            try:
                with Handler(at, others) as handler:
                    leaves.cancel()
            finally:
                sys.setswitchinterval(switch_interval)
            if not handler.reached:
                return
            assert come[0].result(TIMEOUT) == 0, handler.where


def test_stats_wait_for_nothing() -> None:
    """Also in the middle of everything the pool does, as a signal handler may ask."""
    with WorkerPool(1, max_pending=1) as pool, held(pool):
        pool.submit(int)
        blocked = Running(pool.submit, int)
        try:
            wait_until(lambda: pool.stats().pending == 1)
            assert add_up(pool.stats())
        finally:
            pool.shutdown(wait=False)
        with pytest.raises(RuntimeError):
            blocked.result()
    assert add_up(pool.stats())


def test_repr_tells_name_state_and_numbers() -> None:
    pool = WorkerPool(1, thread_name_prefix="mail")
    assert "'mail'" in repr(pool)
    assert "open" in repr(pool)
    with held(pool):
        pool.submit(int)
        assert "1 pending, 1 running" in repr(pool)
        pool.shutdown(wait=False)
        assert "closing" in repr(pool)
    pool.shutdown()
    assert "closed" in repr(pool)


def test_every_method_may_be_called_from_a_receiver(pool: WorkerPool) -> None:
    signal = signal_to(Ear(response="inner"), pool)
    calls: list[Callable[[], Any]] = [
        pool.stats,
        lambda: pool.submit(int).result(TIMEOUT),
        lambda: list(pool.map(int, "12", timeout=TIMEOUT)),
        lambda: signal.send_async(None).results(TIMEOUT),
        lambda: repr(pool),
    ]
    for call in calls:
        signal_to(lambda call=call, **named: call(), pool).send_async(None).results(TIMEOUT)


def test_around_that_is_a_context_manager_itself_is_refused() -> None:
    needed = "around must be a function that gives a context manager, not 'nullcontext'"
    with pytest.raises(TypeError, match=needed):
        WorkerPool(1, around=contextlib.nullcontext())  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["initializer", "around", "idle"])
def test_function_that_nobody_would_await_is_refused(what: str) -> None:
    async def function() -> None: ...

    with pytest.raises(TypeError, match=f"{what} must not be async"):
        WorkerPool(1, **{what: function})  # type: ignore[arg-type]


def test_around_that_gives_no_context_manager_is_told_what_may_be_missing() -> None:
    def around() -> Any:
        yield

    with quiet(), WorkerPool(1, around=around) as pool:
        [(_, delivery)] = signal_to(ignore, pool).send_async(None)
        error = delivery.exception(TIMEOUT)
        assert isinstance(error, TypeError)
        assert "is @contextmanager missing?" in error.__notes__[0]


def test_copy_of_a_pool_is_itself_and_it_is_not_pickled() -> None:
    async def hears(**named: Any) -> None:
        pass

    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        signal.connect(hears)
        signal.send_async(None).results(TIMEOUT)  # with an event loop, it closes when it goes
        assert copy.copy(pool) is copy.deepcopy(pool) is pool
        signal.send_async(None).results(TIMEOUT)
        with pytest.raises(TypeError, match="cannot pickle a WorkerPool"):
            pickle.dumps(pool)
