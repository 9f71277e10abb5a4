"""Signal(executor=...) with any concurrent.futures.Executor: threads, processes, a cluster."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import io
import marshal
import multiprocessing
import os
import pickle
import signal as signals
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import executor_signals
import failing
import pytest
from executor_signals import NeedsTwo, elsewhere
from helpers import (
    TIMEOUT,
    BaseBoom,
    Boom,
    Ear,
    Latch,
    Running,
    Thing,
    ignore,
    quiet,
    raiser,
    uncollected,
    wait_until,
)
from pools import told

from tsignals import Deliveries, Signal, WorkerPool, background, set_default_executor


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, thread_name_prefix="other") as executor:
        yield executor


STARTS = [start for start in ("spawn", "fork") if start in multiprocessing.get_all_start_methods()]


@pytest.fixture(scope="module", params=STARTS)
def processes(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context(request.param)
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        # Its own thread and process are there from now on, and outlive the tests.
        assert executor.submit(os.getpid).result(TIMEOUT) != os.getpid()
        yield executor


@contextlib.contextmanager
def connected(executor: Executor, *receivers: Callable[..., Any]) -> Iterator[Signal]:
    """``elsewhere`` with these receivers, delivered by ``executor``."""
    elsewhere.executor = executor
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, elsewhere, "executor", None)
        for receiver in receivers:
            stack.enter_context(elsewhere.connect(receiver, weak=False))
        yield elsewhere


# Threads of another kind


def test_deliveries_are_that_executors_own_futures(threads: ThreadPoolExecutor) -> None:
    ears = [Ear(response=n) for n in range(3)]
    with connected(threads, *ears) as signal:
        deliveries = signal.send_async("sender", value=1)
        assert [response for _, response in deliveries.results(TIMEOUT)] == [0, 1, 2]
    assert [receiver for receiver, _ in deliveries] == ears
    assert all(type(future) is Future for future in deliveries.futures)
    assert ears[0].calls == [{"signal": signal, "sender": "sender", "value": 1}]


def test_everything_futures_can_is_there(threads: ThreadPoolExecutor) -> None:
    async def main() -> list[Any]:
        deliveries = signal.send_async(None)
        wrapped = [await asyncio.wrap_future(future) for future in deliveries.futures]
        return [*wrapped, *await signal.send_async(None)]

    ear = Ear(response=1)
    with connected(threads, ear) as signal:
        assert asyncio.run(main()) == [1, (ear, 1)]
        deliveries = signal.send_async(None)
        assert [pair[0] for pair in deliveries.as_completed(TIMEOUT)] == [ear]
        assert not concurrent.futures.wait(deliveries.futures, TIMEOUT).not_done
        assert deliveries.wait(TIMEOUT)
        assert deliveries.outcomes(TIMEOUT) == [(ear, 1)]


@pytest.mark.parametrize("error", [Boom(), BaseBoom()])
def test_failures_are_in_their_own_futures_and_told(
    error: BaseException, threads: ThreadPoolExecutor
) -> None:
    raising = raiser(error)
    with connected(threads, Ear(), raising, Ear()) as signal, told() as hears:
        outcomes = signal.send_async("sender").outcomes(TIMEOUT)
        wait_until(lambda: hears.failures)  # told by a callback, which follows
    assert outcomes.errors == [(raising, error)]
    [failure] = hears.failures
    assert (failure.signal, failure.sender, failure.receiver) == (signal, "sender", raising)
    assert (failure.exception, failure.mode, failure.queued_seconds) == (error, "send_async", 0.0)


def test_cancelled_deliveries_are_not_told() -> None:
    gate = Latch()
    with ThreadPoolExecutor(1) as executor, connected(executor, gate) as signal, told() as hears:
        signal.send_async(None)
        assert gate.entered.wait(TIMEOUT)
        second = signal.send_async(None)
        assert second.cancel() == 1
        gate.opened.set()
    assert gate.calls == 1
    assert hears.failures == []


def test_ordered_receiver_raises_before_anything_is_queued(threads: ThreadPoolExecutor) -> None:
    first, ordered = Ear(), Ear()
    with connected(threads, first) as signal, signal.connect(ordered, ordered=True):
        with pytest.raises(TypeError, match=r"ordered.*WorkerPool"):
            signal.send_async(None)
    assert threads.submit(int).result(TIMEOUT) == 0
    assert first.calls == ordered.calls == []


def test_ordered_background_receiver_raises_too(threads: ThreadPoolExecutor) -> None:
    import django.dispatch

    ear = Ear()
    signals: list[Any] = [Signal(), django.dispatch.Signal()]
    for signal in signals:
        signal.connect(background(ear, executor=threads, ordered=True), weak=False)
        with pytest.raises(TypeError, match=r"ordered.*WorkerPool"):
            signal.send(None)
    assert ear.calls == []


def test_context_is_copied_within_the_process(threads: ThreadPoolExecutor) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def receives(**named: Any) -> str:
        was = variable.get()
        variable.set("receiver")
        return was

    variable.set("sender")
    signal = Signal(executor=threads)
    for n in range(3):
        signal.connect(receives, dispatch_uid=f"{n}", weak=False)
    responses = [response for _, response in signal.send_async(None).results(TIMEOUT)]
    assert responses == ["sender"] * 3
    assert variable.get() == "sender"


def test_submit_that_raises_becomes_a_failed_future_in_its_place() -> None:
    class Picky(ThreadPoolExecutor):
        refused = 0

        def submit(self, *arguments: Any, **named: Any) -> Any:
            self.refused += 1
            if self.refused == 2:
                raise Boom("the second one")
            return super().submit(*arguments, **named)

    ears = [Ear(response=n) for n in range(3)]
    with Picky(1) as executor, connected(executor, *ears) as signal, told() as hears:
        outcomes = signal.send_async(None).outcomes(TIMEOUT)
    assert [receiver for receiver, _ in outcomes.errors] == [ears[1]]
    assert [outcomes[0][1], type(outcomes[1][1]), outcomes[2][1]] == [0, Boom, 2]
    assert [type(error) for error in hears.errors] == [Boom]


@pytest.mark.parametrize("way", ["send_async", "prepare"])
def test_submit_that_gives_no_future_has_failed(way: str) -> None:
    class Forgets(Executor):
        def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Any:
            function(*arguments, **named)

    ears = [Ear(), Ear()]
    with told() as hears:
        signal = Signal(executor=Forgets())
        connections = [signal.connect(ear, tracked=True) for ear in ears]
        if way == "prepare":
            prepared = signal.prepare(None)
            prepared.submit()
            outcomes = prepared.deliveries.outcomes(TIMEOUT)
        else:
            outcomes = signal.send_async(None).outcomes(TIMEOUT)
        assert [receiver for receiver, _ in outcomes.errors] == ears
        assert all(connection.disconnect(wait=True) for connection in connections)
    assert {str(error) for error in hears.errors} == {
        "Forgets.submit must return a future, not 'NoneType'"
    }


def test_receiver_that_is_disconnected_before_it_is_submitted_is_cancelled() -> None:
    """While the executor takes the one before it."""
    first, tracked = Ear(response="heard"), Ear()
    submitted = list[object]()

    class Slow(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **named: Any) -> Any:
            submitted.append(arguments)
            connection.disconnect(wait=True)
            return super().submit(*arguments, **named)

    with Slow(1) as executor, connected(executor, first) as signal, told() as hears:
        connection = signal.connect(tracked, tracked=True)
        deliveries = signal.send_async(None)
        (_, heard), (receiver, cancelled) = deliveries
        assert receiver is tracked
        assert cancelled.cancelled()
        assert concurrent.futures.wait(deliveries.futures, TIMEOUT).not_done == set()
        assert heard.result(TIMEOUT) == "heard"
    assert len(submitted) == 1
    assert (tracked.calls, hears.failures) == ([], [])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), BaseBoom()])
def test_tracked_receiver_whose_submit_was_interrupted_does_not_run(error: BaseException) -> None:
    class Interrupted(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **named: Any) -> Any:
            raise error

    with Interrupted(1) as executor, connected(executor) as signal:
        ear = Ear()
        connection = signal.connect(ear, tracked=True)
        with pytest.raises(type(error)):
            signal.send_async(None)
        # In another thread: this one would not wait for a call of its own.
        assert Running(connection.disconnect, wait=TIMEOUT).result(2 * TIMEOUT)
    assert ear.calls == []


def test_executor_that_is_shut_down_fails_every_delivery() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with connected(executor, Ear(), Ear()) as signal:
        errors = signal.send_async(None).outcomes(TIMEOUT).errors
    assert [type(error) for _, error in errors] == [RuntimeError] * 2


def test_async_receivers_run_to_completion_in_its_threads(threads: ThreadPoolExecutor) -> None:
    async def receives(**named: Any) -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    with connected(threads, receives) as signal:
        assert signal.send_async(None).results(TIMEOUT)[0][1].startswith("other")


def test_it_can_be_the_default_executor(threads: ThreadPoolExecutor) -> None:
    signal, name = Signal(), lambda **named: threading.current_thread().name
    signal.connect(name)
    set_default_executor(threads)
    try:
        assert signal.send_async(None).results(TIMEOUT)[0][1].startswith("other")
    finally:
        assert set_default_executor(None) is threads


def test_delivery_holds_nothing_of_the_pool_it_replaces(threads: ThreadPoolExecutor) -> None:
    with WorkerPool(1) as pool, connected(pool, Ear()) as signal:
        signal.executor = threads
        signal.send_async(None).results(TIMEOUT)
        assert pool.stats().submitted == 0


# Processes


def test_receivers_run_in_another_process(processes: ProcessPoolExecutor) -> None:
    with connected(processes, executor_signals.process_id, executor_signals.doubles) as signal:
        (_, pid), (_, doubled) = signal.send_async(None, value=21).results(TIMEOUT)
    assert pid != os.getpid()
    assert doubled == 42


def test_signal_is_pickled_by_reference(processes: ProcessPoolExecutor) -> None:
    with connected(processes, executor_signals.same_signal) as signal:
        assert signal.send_async(None).results(TIMEOUT)[0][1] is True


def test_async_receiver_runs_in_another_process(processes: ProcessPoolExecutor) -> None:
    with connected(processes, executor_signals.doubles_async) as signal:
        assert signal.send_async(None, value=4).results(TIMEOUT)[0][1] == 8


def test_errors_come_back_and_are_told_here(processes: ProcessPoolExecutor) -> None:
    with connected(processes, executor_signals.fails) as signal, told() as hears:
        outcomes = signal.send_async(None).outcomes(TIMEOUT)
        wait_until(lambda: hears.failures)
    [(_, error)] = outcomes.errors
    assert isinstance(error, NeedsTwo)
    assert error.args[0] == "on purpose"
    assert error.args[1] != os.getpid()
    assert hears.errors == [error]


def error_beside_another(
    processes: ProcessPoolExecutor, receiver: Callable[..., Any]
) -> BaseException:
    """How a delivery to ``receiver`` fails: it is told, and does no harm to others."""
    with connected(processes, receiver, executor_signals.doubles) as signal, told() as hears:
        outcomes = signal.send_async(None, value=1).outcomes(TIMEOUT)
        wait_until(lambda: hears.failures)
        assert signal.send_async(None, value=2)[1][1].result(TIMEOUT) == 4
    [(failed, error)] = outcomes.errors
    assert failed is receiver
    assert hears.errors[0] is error
    assert outcomes[1][1] == 2
    return error


@pytest.mark.parametrize("name", ["fails_frozen", "fails_for_more", "aborts"])
def test_error_that_cannot_come_back_is_said_and_does_no_harm_to_others(
    processes: ProcessPoolExecutor, name: str
) -> None:
    """The executor would break for all that it was given, and say nothing of it."""
    error = error_beside_another(processes, getattr(executor_signals, name))
    assert type(error) is RuntimeError
    assert str(error).startswith(f"receiver {name} raised ")
    assert "cannot be sent back" in str(error)
    assert any(f"in {name}" in note for note in error.__notes__)  # its traceback


@pytest.mark.parametrize("name", ["fails_false", "fails_unasked"])
def test_error_that_would_be_taken_for_none_comes_back_as_one(
    processes: ProcessPoolExecutor, name: str
) -> None:
    error = error_beside_another(processes, getattr(executor_signals, name))
    if sys.version_info >= (3, 14):
        assert type(error).__module__ == "executor_signals"
    else:
        assert type(error) is RuntimeError
        assert str(error).startswith(f"receiver {name} raised ")


async def all_of(deliveries: Deliveries) -> object:
    return await deliveries


async def each_of(deliveries: Deliveries) -> object:
    return [pair async for pair in deliveries]


WAITS: dict[str, Callable[[Deliveries], object]] = {
    "results": lambda deliveries: deliveries.results(TIMEOUT),
    "await": lambda deliveries: asyncio.run(all_of(deliveries)),
    "async for": lambda deliveries: asyncio.run(each_of(deliveries)),
}


@pytest.mark.parametrize("error", [failing.False_(), failing.Empty()], ids=["false", "empty"])
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_error_that_is_false_is_raised(
    wait: Callable[[Deliveries], object], error: Exception
) -> None:
    """Before CPython 3.14, ``result()`` of the executor's own futures gives ``None``."""
    with ThreadPoolExecutor(1) as executor, connected(executor, raiser(error)) as signal:
        with pytest.raises(type(error)):
            wait(signal.send_async(None))
        prepared = signal.prepare(None)
        prepared.submit()
        with pytest.raises(type(error)):
            wait(prepared.deliveries)
        with pytest.raises(type(error)):
            prepared.deliveries[0][1].result(TIMEOUT)


@pytest.mark.parametrize("name", ["returns_what_needs_more", "returns_a_function"])
def test_response_that_cannot_come_back_does_no_harm_to_others(
    processes: ProcessPoolExecutor, name: str
) -> None:
    """Python's executor breaks for all by what it cannot unpickle."""
    error = error_beside_another(processes, getattr(executor_signals, name))
    if name == "returns_what_needs_more":
        assert str(error).startswith(f"receiver {name} returned a 'NeedsMore', which cannot be")


@pytest.mark.parametrize("verb", ["send_async", "prepare", "send"])
def test_value_that_cannot_be_unpickled_does_no_harm_to_others(
    processes: ProcessPoolExecutor, verb: str
) -> None:
    """Python's executor breaks for all by what it cannot unpickle there, too."""
    value = executor_signals.NeedsMore(503, "later")
    receiver = executor_signals.doubles
    if verb == "send":
        receiver = background(receiver)
    with connected(processes, receiver) as signal, told() as hears:
        if verb == "send":
            [(_, delivery)] = signal.send(None, value=value)
        elif verb == "prepare":
            prepared = signal.prepare(None, value=value)
            prepared.submit()
            [(_, delivery)] = prepared.deliveries
        else:
            [(_, delivery)] = signal.send_async(None, value=value)
        error = delivery.exception(TIMEOUT)
        wait_until(lambda: hears.failures)
        assert signal.send_async(None, value=2)[0][1].result(TIMEOUT) == 4
    assert type(error) is RuntimeError
    assert str(error).startswith("cannot call receiver doubles in another process: TypeError(")
    assert hears.errors == [error]


class PicklesLambdas(pickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, types.FunctionType) and thing.__name__ == "<lambda>":
            return executor_signals.function_of, (marshal.dumps(thing.__code__),)
        return NotImplemented


class TakesLambdas(ProcessPoolExecutor):
    """Pickles in a way of its own, as programs have it with cloudpickle."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        pickled = io.BytesIO()
        PicklesLambdas(pickled).dump(function)
        return super().submit(executor_signals.run_pickled, pickled.getvalue())


def test_executor_that_pickles_in_a_way_of_its_own_gets_what_it_can_pickle() -> None:
    context = multiprocessing.get_context("spawn")
    with (
        TakesLambdas(1, mp_context=context) as executor,
        connected(executor, executor_signals.calls) as signal,
    ):
        assert signal.send_async(None, value=lambda: 7).results(TIMEOUT)[0][1] == 7


def test_background_class_method_runs_in_another_process(processes: ProcessPoolExecutor) -> None:
    with connected(processes, executor_signals.Mailer.notify) as signal:
        for verb in ("send", "send_async"):
            [(_, delivery)] = getattr(signal, verb)(None, value=2)
            name, value, pid = delivery.result(TIMEOUT)
            assert (name, value) == ("Mailer", 2)
            assert pid != os.getpid()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize("verb", ["send_async", "prepare"])
def test_as_completed_yields_what_is_cancelled_while_the_executor_is_busy(
    verb: str, when: str
) -> None:
    """The executor's future has ended, and ``concurrent.futures`` waits for the executor."""
    signal, latch, ear = Signal(), Latch(), Ear()
    with ThreadPoolExecutor(1) as executor:
        busy = executor.submit(latch)
        signal.connect(ear)
        if verb == "prepare":
            prepared = signal.via(executor).prepare(None)
            deliveries = prepared.deliveries
            prepared.submit()
        else:
            deliveries = signal.via(executor).send_async(None)
        try:
            if when == "before":
                assert deliveries.cancel() == 1
            completing = Running(lambda: list(deliveries.as_completed(TIMEOUT)))
            if when == "meanwhile":
                with pytest.raises(TimeoutError, match=r"1 \(of 1\) futures unfinished"):
                    list(deliveries.as_completed(0))
                assert deliveries.cancel() == 1
            assert completing.result() == deliveries
            assert not busy.done()
        finally:
            latch.opened.set()
    assert ear.calls == []


def test_looking_for_what_is_done_again_and_again_leaves_nothing_behind() -> None:
    signal, latch = Signal(), Latch()
    with ThreadPoolExecutor(1) as executor:
        signal.connect(latch)
        deliveries = signal.via(executor).send_async(None)
        [future] = cast(list[Any], deliveries.futures)
        try:
            before = list(future._done_callbacks)
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    next(deliveries.as_completed(0))
            assert future._done_callbacks == before
        finally:
            latch.opened.set()
        assert list(deliveries.as_completed(TIMEOUT)) == deliveries


class _ByFunction(pickle.Pickler):
    """Pickles methods by what they are made of, as cloudpickle does, which is Dask's."""

    def reducer_override(self, thing: object) -> Any:
        if type(thing) is types.MethodType:
            return bind, (thing.__func__, thing.__self__)
        return NotImplemented


def bind(function: Callable[..., Any], instance: object) -> object:
    return types.MethodType(function, instance)


def behind(method: Any) -> object:
    """What ``background`` has made; before 3.13, a bound method has another one around it."""
    return getattr(method.__func__, "whole", method.__func__)


@pytest.mark.parametrize("pickler", [pickle.Pickler, _ByFunction])
def test_background_class_method_is_pickled_whatever_the_pickler_makes_of_methods(
    pickler: Callable[[io.BytesIO], pickle.Pickler],
) -> None:
    """It, and what ``background`` has made: with Dask's pickler that did not come to an end."""
    method: Any = executor_signals.Mailer.notify
    written = io.BytesIO()
    pickler(written).dump((method, behind(method)))
    again, function = pickle.loads(written.getvalue())
    assert again.__self__ is executor_signals.Mailer
    assert behind(again) is function is behind(method)


def test_background_method_with_a_pool_is_pickled_whatever_the_pickler_makes_of_methods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By what ``background`` has made, not by what that holds: a pool cannot be pickled."""
    method: Any = executor_signals.Mailer().write
    written = io.BytesIO()
    with WorkerPool(1) as pool:
        monkeypatch.setattr(method.__func__.whole, "executor", pool)
        _ByFunction(written).dump(method)
    again = pickle.loads(written.getvalue())
    assert type(again.__self__) is executor_signals.Mailer
    assert again.__func__ is method.__func__


@pytest.mark.parametrize("pickler", [pickle.Pickler, _ByFunction])
def test_background_method_is_the_same_receiver_whatever_the_pickler_makes_of_methods(
    pickler: Callable[[io.BytesIO], pickle.Pickler],
) -> None:
    method: Any = executor_signals.Mailer().write
    written = io.BytesIO()
    pickler(written).dump((method, method.__func__))
    again, function = pickle.loads(written.getvalue())
    assert type(again.__self__) is executor_signals.Mailer
    assert again.__func__ is function is method.__func__


def test_background_receiver_runs_in_another_process(processes: ProcessPoolExecutor) -> None:
    """Called by ``send`` as by ``send_async``."""
    with connected(processes, executor_signals.in_background) as signal:
        [(_, delivery)] = signal.send(None, value=2)
        doubled, pid = delivery.result(TIMEOUT)
        assert (doubled, pid != os.getpid()) == (4, True)
        doubled, pid = signal.send_async(None, value=3).results(TIMEOUT)[0][1]
        assert (doubled, pid != os.getpid()) == (6, True)


def test_function_that_is_made_a_background_receiver_in_passing_runs_there_too(
    processes: ProcessPoolExecutor,
) -> None:
    """Its name leads to the function, and it has an executor that no other process can have."""
    receiver = background(executor_signals.doubles, executor=processes)
    with connected(processes, receiver) as signal:
        assert signal.send(None, value=2)[0][1].result(TIMEOUT) == 4
        assert signal.send_async(None, value=3).results(TIMEOUT) == [(receiver, 6)]


@pytest.mark.parametrize("close", [False, True], ids=["interrupted", "closed"])
def test_submit_that_raises_keeps_nothing_of_the_send(
    close: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a signal handler raises there is the program's, and no failure of a delivery."""
    signal, thing = Signal(executor=ThreadPoolExecutor(1)), Thing()
    signal.connect(ignore)
    reference = weakref.ref(thing)
    if close:
        signal.executor.shutdown()  # type: ignore[union-attr]
        with uncollected(), quiet():
            [(_, future)] = signal.send_async(None, thing=thing)
            assert isinstance(future.exception(0), RuntimeError)
            del thing, future
            assert reference() is None
        return

    class Alarm(RuntimeError):
        pass

    def alarm(*_: object) -> None:
        raise Alarm

    former = signals.signal(signals.SIGUSR1, alarm)
    try:
        monkeypatch.setattr(
            ThreadPoolExecutor, "submit", lambda *_, **__: os.kill(os.getpid(), signals.SIGUSR1)
        )
        with told() as hears, pytest.raises(Alarm):
            signal.send_async(None, thing=thing)
    finally:
        signals.signal(signals.SIGUSR1, former)
    assert hears.failures == []


def test_receiver_that_cannot_be_pickled_fails_alone(processes: ProcessPoolExecutor) -> None:
    unpicklable = lambda **named: None  # noqa: E731
    with connected(processes, unpicklable, executor_signals.doubles) as signal, told() as hears:
        outcomes = signal.send_async(None, value=1).outcomes(TIMEOUT)
        wait_until(lambda: hears.failures)
    assert [receiver for receiver, _ in outcomes.errors] == [unpicklable]
    assert "pickle" in str(outcomes.errors[0][1]).lower()
    assert outcomes[1][1] == 2
    assert hears.errors == [outcomes.errors[0][1]]


def test_argument_that_cannot_be_pickled_fails_its_own_send(
    processes: ProcessPoolExecutor,
) -> None:
    with connected(processes, executor_signals.doubles) as signal:
        bad = signal.send_async(None, value=threading.Lock())
        good = signal.send_async(None, value=1)
        [(_, error)] = bad.outcomes(TIMEOUT).errors
        assert "pickle" in str(error).lower()
        assert good.results(TIMEOUT)[0][1] == 2


def test_response_that_cannot_be_pickled_fails_alone(processes: ProcessPoolExecutor) -> None:
    receivers = executor_signals.gives_a_lock, executor_signals.doubles
    with connected(processes, *receivers) as signal:
        outcomes = signal.send_async(None, value=1).outcomes(TIMEOUT)
    assert [receiver for receiver, _ in outcomes.errors] == [receivers[0]]
    assert outcomes[1][1] == 2


def test_signal_that_cannot_be_found_is_a_clear_error(processes: ProcessPoolExecutor) -> None:
    signal = Signal(executor=processes)
    signal.connect(executor_signals.doubles)
    [(_, error)] = signal.send_async(None, value=1).outcomes(TIMEOUT).errors
    assert "cannot pickle signal" in str(error)


def test_context_stays_in_this_process(processes: ProcessPoolExecutor) -> None:
    """A context cannot be pickled, and need not be."""
    variable: contextvars.ContextVar[object] = contextvars.ContextVar("variable")
    variable.set(threading.Lock())
    with connected(processes, executor_signals.doubles) as signal:
        assert signal.send_async(None, value=5).results(TIMEOUT)[0][1] == 10


def test_tracked_receiver_is_waited_for(processes: ProcessPoolExecutor) -> None:
    with connected(processes) as signal:
        connection = signal.connect(executor_signals.doubles, tracked=True)
        [(_, delivery)] = signal.send_async(None, value=5)
        assert connection.disconnect(wait=TIMEOUT) is True
        assert delivery.done()
        assert delivery.cancelled() or delivery.result(0) == 10


# A cluster


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.foreign_threads("")
@pytest.mark.once
def test_receivers_run_on_a_dask_cluster(tmp_path: Path) -> None:
    """Two worker processes, errors that come back, and a killed worker that loses nothing."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
        told() as hears,
    ):
        with connected(executor, executor_signals.process_id, executor_signals.fails) as signal:
            deliveries = [signal.send_async(None, value=n) for n in range(4)]
            outcomes = [each.outcomes(TIMEOUT) for each in deliveries]
            assert os.getpid() not in {each[0][1] for each in outcomes}
            assert all(type(each[1][1]) is NeedsTwo for each in outcomes)
            wait_until(lambda: len(hears.errors) == 4)
        with connected(executor, executor_signals.doubles) as signal:
            bad = signal.send_async(None, value=threading.Lock())
            good = signal.send_async(None, value=1)
            assert len(bad.outcomes(TIMEOUT).errors) == 1
            assert good.results(TIMEOUT)[0][1] == 2
        with connected(executor, executor_signals.dies_once, executor_signals.doubles) as signal:
            sent = [
                signal.send_async(None, path=str(tmp_path / f"{n // 8}"), value=n) for n in range(8)
            ]
            for n, deliveries_ in enumerate(sent):
                responses = [response for _, response in deliveries_.results(3 * TIMEOUT)]
                assert responses == ["survived", 2 * n]


def test_what_is_no_executor_is_refused_when_it_is_given_and_not_at_the_next_send() -> None:
    wrong: Any = 3
    with pytest.raises(TypeError, match=r"concurrent\.futures\.Executor"):
        Signal(executor=wrong)
    with WorkerPool(1) as pool:
        signal, ear = Signal(executor=pool), Ear()
        signal.connect(ear)
        with pytest.raises(TypeError, match=r"concurrent\.futures\.Executor"):
            signal.executor = wrong
        assert signal.executor is pool
        assert signal.send_async(None).results(TIMEOUT) == [(ear, None)]
