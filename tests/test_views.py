"""Views of a signal: ``via(executor)`` and ``here``."""

import asyncio
import contextlib
import contextvars
import copy
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from event_loops import run
from helpers import TIMEOUT, Boom, Ear, Latch, Running, raiser
from pools import signal_to, told

from tsignals import Signal, WorkerPool, receiver, set_default_executor

VERBS = ["asend", "asend_robust"]
variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable", default=None)
module_signal = Signal(name="module")


# -- via --


def test_via_sends_to_the_same_receivers_in_another_executor() -> None:
    own, other = WorkerPool(1), WorkerPool(1)
    with own, other:
        ear = Ear(response=1)
        signal = signal_to(ear, own)
        view = signal.via(other)
        assert view.send_async("me", n=1).results(TIMEOUT) == [(ear, 1)]
        prepared = view.prepare("me", n=2)
        prepared.submit()
        assert prepared.deliveries.wait(TIMEOUT)
        assert [call["signal"] for call in ear.calls] == [signal, signal]
        assert (own.stats().submitted, other.stats().completed) == (0, 2)
        assert (view.executor, signal.executor) == (other, own)


def test_via_none_uses_what_the_signal_would_at_the_time_of_the_send() -> None:
    first, second = WorkerPool(1), WorkerPool(1)
    with first, second:
        signal = signal_to(Ear(), first)
        view = signal.via(second).via(None)
        signal.executor = second
        assert view.send_async(None).wait(TIMEOUT)
        assert (first.stats().submitted, second.stats().submitted) == (0, 1)


def test_via_without_any_executor_uses_the_default_one() -> None:
    pool = WorkerPool(1)
    former = set_default_executor(pool)
    try:
        assert signal_to(Ear(), None).via(None).send_async(None).wait(TIMEOUT)
        assert pool.stats().completed == 1
    finally:
        set_default_executor(former)
        pool.shutdown()


def test_via_takes_other_executors_and_refuses_what_is_none() -> None:
    signal = signal_to(Ear(response=3), None)
    with ThreadPoolExecutor(1) as executor:
        assert signal.via(executor).send_async(None)[0][1].result(TIMEOUT) == 3
    for wrong in (5, "pool", signal):
        bad: Any = wrong
        with pytest.raises(TypeError, match="executor must be"):
            signal.via(bad)
        with pytest.raises(TypeError, match="executor must be"):
            signal.here.via(bad)


def test_send_by_a_view_to_nobody_makes_no_pool() -> None:
    set_default_executor(None)
    view = Signal().via(None)
    assert view.send_async(None) == [] and view.prepare(None).deliveries == []
    assert set_default_executor(None) is None


def test_ordered_and_tracked_hold_in_a_view() -> None:
    ran: list[int] = []
    with WorkerPool(4) as pool:
        signal = signal_to(lambda n, **named: ran.append(n), None, ordered=True)
        gate = Latch()
        connection = signal.connect(gate, tracked=True)
        view = signal.via(pool)
        for n in range(20):
            view.send_async(None, n=n)
        disconnecting = Running(connection.disconnect, wait=TIMEOUT)
        gate.opened.set()
        assert disconnecting.result()
        assert pool.drain(TIMEOUT)
    assert ran == [*range(20)]


def test_whatever_a_view_lacks_is_the_signals_own() -> None:
    signal = Signal(["n"], name="viewed")
    view = signal.here
    ear = Ear(response=1)
    view.connect(ear)
    assert signal.has_listeners() and view.has_listeners()
    assert view.send(None, n=1) == [(ear, 1)]
    assert [connection.receiver for connection in view.receivers] == [ear]
    assert view.disconnect(ear)

    @receiver(view)
    def hears(**named: Any) -> int:
        return 2

    assert signal.send(None) == [(hears, 2)]
    with pytest.raises(AttributeError):
        view.nothing  # noqa: B018


def test_view_says_what_it_is() -> None:
    signal = Signal(name="viewed")
    with WorkerPool(1, thread_name_prefix="mail") as pool:
        assert repr(signal.here) == f"{signal!r} here"
        assert repr(signal.via(pool).here) == f"{signal!r} via {pool!r} here"
        assert repr(signal.here.via(pool)) == f"{signal!r} via {pool!r} here"


def test_copy_of_a_view_is_itself_and_not_the_signal() -> None:
    view = module_signal.here
    assert copy.copy(view) is copy.deepcopy(view) is view
    again = pickle.loads(pickle.dumps(view))
    assert repr(again) == repr(view) and again.connect.__self__ is module_signal


@pytest.mark.parametrize("name", ["signal", "sender"])
@pytest.mark.parametrize("verb", ["send_async", "prepare", "asend", "asend_robust"])
def test_view_refuses_the_names_that_it_passes_itself(verb: str, name: str) -> None:
    ear = Ear()
    signal = signal_to(ear, None)

    async def main() -> None:
        with pytest.raises(TypeError):
            await getattr(signal.here, verb)(None, **{name: 1})

    run(main())
    assert ear.calls == []


def test_method_of_a_view_that_sends_cannot_be_connected() -> None:
    view = Signal().here
    for verb in ("send_async", "prepare", "asend", "asend_robust"):
        with pytest.raises(TypeError):
            Signal().connect(getattr(view, verb))


# -- here --


@pytest.mark.parametrize("verb", VERBS)
def test_here_calls_the_sync_receivers_on_the_senders_thread_before_the_async_ones(
    verb: str,
) -> None:
    signal, steps = Signal(), list[Any]()

    async def later(**named: Any) -> None:
        steps.append(("async", threading.get_ident()))

    def sync(**named: Any) -> int:
        steps.append(("sync", threading.get_ident()))
        return 1

    signal.connect(later)
    signal.connect(sync)
    pairs = run(getattr(signal.here, verb)(None))
    here = threading.get_ident()
    assert steps == [("sync", here), ("async", here)]
    assert pairs == [(sync, 1), (later, None)]


@pytest.mark.parametrize("verb", VERBS)
def test_here_shares_the_senders_context_both_ways(verb: str) -> None:
    signal, seen = Signal(), list[Any]()

    def sets(**named: Any) -> None:
        seen.append(variable.get())
        variable.set("set by a receiver")

    async def sees(**named: Any) -> None:
        seen.append(variable.get())

    signal.connect(sets)
    signal.connect(sees)

    async def main() -> Any:
        variable.set("of the sender")
        await getattr(signal.here, verb)(None)
        return variable.get()

    assert run(main()) == "set by a receiver"
    assert seen == ["of the sender", "set by a receiver"]


def test_first_error_here_propagates_and_nobody_is_called_after() -> None:
    signal, error, ear = Signal(), Boom(), Ear()
    fails = raiser(error)
    signal.connect(fails)
    signal.connect(ear)
    with pytest.raises(Boom) as caught:
        run(signal.here.asend(None))
    assert caught.value is error
    assert ear.calls == []


@pytest.mark.parametrize("error", [Boom(), asyncio.CancelledError()])
def test_errors_here_are_collected_and_told(error: BaseException) -> None:
    signal, ear = Signal(), Ear(response=1)
    fails = raiser(error)
    signal.connect(fails)
    signal.connect(ear)
    with told() as failures:
        outcomes = run(signal.here.asend_robust(None))
    assert outcomes.errors == [(fails, error)]
    assert outcomes == [(fails, error), (ear, 1)]
    assert [failure.mode for failure in failures.failures] == ["asend_robust"]
    assert failures.errors == [error]


@pytest.mark.parametrize("verb", VERBS)
def test_here_runs_each_receiver_inside_the_around_of_the_views_pool(verb: str) -> None:
    steps: list[str] = []

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        steps.append("in")
        yield
        steps.append("out")

    with WorkerPool(1, around=around) as pool:
        signal = signal_to(lambda **named: steps.append("call"), None)
        run(getattr(signal.here, verb)(None))
        assert steps == ["call"]
        run(getattr(signal.here.via(pool), verb)(None))
        assert steps == ["call", "in", "call", "out"]
        assert pool.stats().submitted == 0


@pytest.mark.parametrize("verb", VERBS)
def test_cancelled_sender_here_cancels_the_async_receivers(verb: str) -> None:
    signal, ear, ended = Signal(), Ear(), list[str]()

    async def main() -> None:
        started = asyncio.Event()

        async def later(**named: Any) -> None:
            started.set()
            try:
                await asyncio.sleep(TIMEOUT)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        signal.connect(later)
        signal.connect(ear)
        task = asyncio.ensure_future(getattr(signal.here, verb)(None))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert (len(ear.calls), ended) == (1, ["cancelled"])


@pytest.mark.parametrize("verb", VERBS)
def test_tracked_receiver_that_was_disconnected_by_another_is_not_called_here(verb: str) -> None:
    signal, ear = Signal(), Ear()
    signal.connect(lambda **named: connection.disconnect(wait=True), weak=False)
    connection = signal.connect(ear, tracked=True)
    pairs = run(getattr(signal.here, verb)(None))
    assert len(pairs) == 1
    assert ear.calls == []
    assert not connection.connected


@pytest.mark.parametrize("verb", VERBS)
def test_receiver_here_may_disconnect_itself_and_wait(verb: str) -> None:
    signal = Signal()

    def hears(**named: Any) -> bool:
        return connection.disconnect(wait=True)

    connection = signal.connect(hears, tracked=True)
    assert run(getattr(signal.here, verb)(None)) == [(hears, True)]


def test_here_starts_no_thread() -> None:
    signal = signal_to(Ear(), None)

    async def main() -> None:
        before = threading.enumerate()
        await signal.here.asend(None)
        assert threading.enumerate() == before

    run(main())
