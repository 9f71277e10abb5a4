"""background: receivers that run in a pool when a plain send calls them, on anybody's signals."""

import asyncio
import contextvars
import gc
import inspect
import logging
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import blinker
import django.dispatch
import pytest
from helpers import TIMEOUT, Boom, Gate, Thing, assert_gone, awaited, ignore
from pools import held, told

from tsignals import Delivery, Signal, WorkerPool, background, receiver, set_default_executor


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2, thread_name_prefix="back") as pool:
        yield pool


@pytest.fixture
def default() -> Iterator[WorkerPool]:
    with WorkerPool(2, thread_name_prefix="default") as pool:
        set_default_executor(pool)
        yield pool
        set_default_executor(None)


def thread_name(*arguments: Any, **named: Any) -> str:
    return threading.current_thread().name


class TheirSignal:
    """One library's signal, seen as those of the others."""

    def __init__(self, library: str) -> None:
        self.library = library
        makers: dict[str, Callable[[], Any]] = {
            "tsignals": Signal,
            "django": django.dispatch.Signal,
            "blinker": blinker.Signal,
        }
        self.signal = makers[library]()

    def connect(self, receiver: Any, weak: bool = True) -> None:
        self.signal.connect(receiver, weak=weak)

    def send(self, sender: Any, **named: Any) -> list[Any]:
        return [response for _, response in self.signal.send(sender, **named)]


@pytest.fixture(params=["tsignals", "django", "blinker"])
def theirs(request: pytest.FixtureRequest) -> TheirSignal:
    return TheirSignal(request.param)


# On any signal


def test_send_returns_before_it_has_run_and_the_delivery_is_the_response(
    theirs: TheirSignal, pool: WorkerPool
) -> None:
    gate = Gate()
    hears = background(lambda sender, **named: gate(), executor=pool)
    theirs.connect(hears)
    [delivery] = theirs.send(None)
    assert isinstance(delivery, Delivery)
    assert gate.entered.wait(TIMEOUT)
    assert not delivery.done()
    gate.opened.set()
    assert delivery.result(TIMEOUT) == "through"


def test_gets_the_sender_and_the_values(theirs: TheirSignal, pool: WorkerPool) -> None:
    @background(executor=pool)
    def hears(sender: Any, *, size: int, **named: Any) -> Any:
        return sender, size, sorted(named)

    theirs.connect(hears)
    sender = Thing()
    [delivery] = theirs.send(sender, size=3)
    names = [] if theirs.library == "blinker" else ["signal"]
    assert delivery.result(TIMEOUT) == (sender, 3, names)
    assert delivery.sender is sender
    assert delivery.signal is (None if theirs.library == "blinker" else theirs.signal)


class Listener(Thing):
    pool: WorkerPool | None = None

    @background
    def hear(self, sender: Any, **named: Any) -> Any:
        return self.name, threading.current_thread().name


def test_works_on_methods(theirs: TheirSignal, default: WorkerPool) -> None:
    listener, sender = Listener("listener"), Thing()
    theirs.connect(listener.hear)
    [delivery] = theirs.send(sender)
    assert delivery.result(TIMEOUT) == ("listener", "default_0")
    assert delivery.sender is sender
    assert delivery.receiver == listener.hear
    assert theirs.signal.disconnect(listener.hear) in (True, None)
    assert theirs.send(sender) == []


def test_method_is_held_by_its_object_alone(theirs: TheirSignal, default: WorkerPool) -> None:
    listener = Listener()
    theirs.connect(listener.hear)
    reference = weakref.ref(listener)
    del listener
    assert_gone(reference)
    assert theirs.send(Thing()) == []


def test_receiver_made_in_passing_is_gone_unless_connected_strongly(
    theirs: TheirSignal, default: WorkerPool
) -> None:
    theirs.connect(background(thread_name))
    gc.collect()
    assert theirs.send(Thing()) == []
    theirs.connect(background(thread_name), weak=False)
    gc.collect()
    [delivery] = theirs.send(Thing())
    assert delivery.result(TIMEOUT) == "default_0"


def test_failure_is_logged_and_told_once(
    theirs: TheirSignal, default: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    error, sender = Boom(), Thing()

    @background
    def fails(sender: Any, **named: Any) -> None:
        raise error

    theirs.connect(fails)
    with told() as hears:
        [delivery] = theirs.send(sender)
        assert delivery.exception(TIMEOUT) is error
    [failure] = hears.failures
    assert (failure.sender, failure.exception, failure.mode) == (sender, error, "background")
    assert failure.receiver is fails
    [record] = [record for record in caplog.records if record.name == "tsignals"]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None and record.exc_info[1] is error
    assert "fails" in record.getMessage()


def test_ordered_one_runs_one_at_a_time_in_the_order_of_the_calls(
    theirs: TheirSignal, pool: WorkerPool
) -> None:
    heard, gate = list[int](), Gate()

    @background(executor=pool, ordered=True)
    def hears(sender: Any, *, n: int, **named: Any) -> None:
        if n == 0:
            gate()
        heard.append(n)

    theirs.connect(hears)
    deliveries = [theirs.send(Thing(), n=n)[0] for n in range(50)]
    assert gate.entered.wait(TIMEOUT)
    assert pool.submit(int).result(TIMEOUT) == 0
    assert heard == []
    gate.opened.set()
    for delivery in deliveries:
        delivery.result(TIMEOUT)
    assert heard == list(range(50))


def test_async_function_is_not_itself_async(theirs: TheirSignal, default: WorkerPool) -> None:
    @background
    async def hears(sender: Any, **named: Any) -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    assert not inspect.iscoroutinefunction(hears)
    theirs.connect(hears)
    [delivery] = theirs.send(Thing())
    assert delivery.result(TIMEOUT).startswith("default")


@pytest.mark.skipif(not hasattr(inspect, "markcoroutinefunction"), reason="needs Python 3.12")
def test_function_that_is_marked_as_async_does_not_mark_the_receiver(default: WorkerPool) -> None:
    async def inner() -> str:
        return "inner"

    def function(**named: Any) -> Any:
        return inner()

    mark: Any = getattr(inspect, "markcoroutinefunction", None)
    hears = background(mark(function))
    assert not inspect.iscoroutinefunction(hears)
    signal = Signal()
    signal.connect(hears)
    assert signal.send(None)[0][1].result(TIMEOUT) == "inner"


# Where it runs


def test_own_executor_comes_first_then_the_signals_then_the_default(
    pool: WorkerPool, default: WorkerPool
) -> None:
    with WorkerPool(1, thread_name_prefix="signal") as signals:
        plain, own = background(thread_name), background(thread_name, executor=pool)
        for executor, expected in ((signals, "signal_0"), (None, "default_0")):
            signal = Signal(executor=executor)
            signal.connect(plain)
            signal.connect(own)
            [(_, first), (_, second)] = signal.send(None)
            assert first.result(TIMEOUT) == expected
            assert second.result(TIMEOUT) == "back_0"


def test_other_executors_will_do(theirs: TheirSignal) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="other") as executor:
        hears = background(thread_name, executor=executor)
        theirs.connect(hears)
        [delivery] = theirs.send(Thing())
        assert isinstance(delivery, Future)
        assert delivery.result(TIMEOUT) == "other_0"


@pytest.mark.parametrize("verb", ["send", "send_robust", "asend", "asend_robust"])
def test_every_plain_way_to_send_gives_the_delivery(verb: str, pool: WorkerPool) -> None:
    signal, hears = Signal(), background(thread_name, executor=pool)
    signal.connect(hears)
    method = getattr(signal, verb)
    [(_, delivery)] = awaited(method, None) if verb.startswith("a") else method(None)
    assert delivery.result(TIMEOUT) == "back_0"


def test_called_by_send_async_it_runs_right_there(pool: WorkerPool) -> None:
    """Even with an executor of its own; on functions and methods, in pools and executors."""
    hears, listener = background(thread_name, executor=pool), Listener("listener")
    with WorkerPool(1, thread_name_prefix="there") as there:
        signal = Signal(executor=there)
        signal.connect(hears)
        signal.connect(listener.hear)
        responses = [response for _, response in signal.send_async(None).results(TIMEOUT)]
        assert responses == ["there_0", ("listener", "there_0")]
        assert there.stats().submitted == 2
    assert pool.stats().submitted == 0
    with ThreadPoolExecutor(1, thread_name_prefix="there") as executor:
        signal.executor = executor
        responses = [response for _, response in signal.send_async(None).results(TIMEOUT)]
        assert responses == ["there_0", ("listener", "there_0")]


def test_failure_where_send_async_called_it_is_one_of_send_async(pool: WorkerPool) -> None:
    signal = Signal(executor=pool)
    fails = background(lambda **named: 1 // 0)
    signal.connect(fails)
    with told() as hears:
        signal.send_async(None).wait(TIMEOUT)
    assert [failure.mode for failure in hears.failures] == ["send_async"]


def test_runs_in_a_copy_of_the_senders_context(theirs: TheirSignal, pool: WorkerPool) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    @background(executor=pool)
    def hears(sender: Any, **named: Any) -> str:
        was = variable.get()
        variable.set("receiver")
        return was

    theirs.connect(hears)
    variable.set("sender")
    [delivery] = theirs.send(None)
    assert delivery.result(TIMEOUT) == "sender"
    assert variable.get() == "sender"


def test_closed_pool_refuses_as_it_refuses_all(theirs: TheirSignal, pool: WorkerPool) -> None:
    hears = background(thread_name, executor=pool)
    theirs.connect(hears)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="back"):
        theirs.send(None)


def test_delivery_can_be_cancelled_and_is_not_told(theirs: TheirSignal, pool: WorkerPool) -> None:
    hears = background(thread_name, executor=pool)
    theirs.connect(hears)
    with told() as telling, held(pool, 2):
        [delivery] = theirs.send(None)
        assert delivery.cancel()
    assert telling.failures == []


# What it is


def test_it_looks_like_the_function() -> None:
    @background
    def hears(sender: Any, **named: Any) -> None:
        """Hears."""

    assert (hears.__name__, hears.__doc__) == ("hears", "Hears.")
    assert inspect.signature(hears) == inspect.signature(hears.__wrapped__)  # type: ignore[attr-defined]
    assert "weak" in str(background.__doc__)


def test_it_can_be_connected_by_a_decorator(pool: WorkerPool) -> None:
    signal = Signal(executor=pool)

    @receiver(signal)
    @background
    def hears(**named: Any) -> str:
        return threading.current_thread().name

    assert signal.receivers[0].receiver is hears
    assert signal.send(None)[0][1].result(TIMEOUT) == "back_0"


def test_it_must_accept_keyword_arguments_like_any_receiver() -> None:
    wrong: Any = background(lambda sender: None)
    with pytest.raises(ValueError, match="keyword arguments"):
        Signal().connect(wrong)


@pytest.mark.parametrize("wrong", [3, "name"])
def test_what_is_not_callable_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="callable"):
        background(wrong)
    with pytest.raises(TypeError, match="Executor"):
        background(ignore, executor=wrong)


@background
def of_this_module(**named: Any) -> None:
    pass


def test_it_is_pickled_by_reference() -> None:
    assert pickle.loads(pickle.dumps(of_this_module)) is of_this_module
