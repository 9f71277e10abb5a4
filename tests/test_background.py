"""background: receivers that run in a pool when a plain send calls them, on anybody's signals."""

import asyncio
import contextvars
import copy
import functools
import gc
import inspect
import itertools
import logging
import pickle
import threading
import time
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from unittest import mock

import blinker
import django.dispatch
import inside
import pytest
from django.conf import settings  # type: ignore[import-untyped]
from helpers import TIMEOUT, Boom, Ear, Latch, Thing, assert_gone, awaited, ignore, wait_until
from pools import held, told

from tsignals import (
    Deliveries,
    Delivery,
    Retry,
    Signal,
    WorkerPool,
    background,
    receiver,
    set_default_executor,
)


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
def theirs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TheirSignal:
    if settings.configured:  # by other tests; with DEBUG, Django keeps and inspects its receivers
        monkeypatch.setattr(settings, "DEBUG", False)
    return TheirSignal(request.param)


# On any signal


def test_send_returns_before_it_has_run_and_the_delivery_is_the_response(
    theirs: TheirSignal, pool: WorkerPool
) -> None:
    gate = Latch()
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
    heard, gate = list[int](), Latch()

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


class Lane:
    """A receiver that notes when it is entered twice at a time, and remembers the order."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.overlaps = 0
        self._inside = threading.Lock()

    def hear(self, n: int) -> None:
        alone = self._inside.acquire(blocking=False)
        self.overlaps += not alone
        self.heard.append(n)
        if alone:
            self._inside.release()


def in_async_lane(lane: Lane) -> Any:
    async def hears(sender: Any, *, n: int, **named: Any) -> None:
        before = len(lane.heard)
        lane.heard.append(n)
        await asyncio.sleep(0)
        lane.overlaps += len(lane.heard) != before + 1

    return hears


class Shop(Thing):
    """Its methods are receivers, under other names than their own, too."""

    def __init__(self, lane: Lane) -> None:
        super().__init__()
        self.lane = lane

    def _hear(self, sender: Any, *, n: int, **named: Any) -> None:
        self.lane.hear(n)

    @background(ordered=True)
    def hear(self, sender: Any, *, n: int, **named: Any) -> None:
        self.lane.hear(n)

    alias = background(_hear, ordered=True)
    lanes: Lane

    @classmethod
    @background(ordered=True)
    def hear_all(cls, sender: Any, *, n: int, **named: Any) -> None:
        cls.lanes.hear(n)


def of_a_class(lane: Lane) -> Any:
    class Mine(Shop):
        lanes = lane

    return Mine.hear_all


def of_no_object(lane: Lane) -> Any:
    class Mine:
        @background(ordered=True)
        @staticmethod
        def hear(sender: Any, *, n: int, **named: Any) -> None:
            lane.hear(n)

    return Mine().hear


ORDERED: dict[str, Callable[[Lane], Any]] = {
    "function": lambda lane: background(lambda sender, n, **_: lane.hear(n), ordered=True),
    "partial": lambda lane: background(
        functools.partial(lambda sender, n, other, **_: lane.hear(n), other=1), ordered=True
    ),
    "bound method inside": lambda lane: background(Shop(lane)._hear, ordered=True),
    "method": lambda lane: Shop(lane).hear,
    "method by another name": lambda lane: Shop(lane).alias,
    "class method": of_a_class,
    "static method": of_no_object,
    "method bound by hand": lambda lane: types.MethodType(Shop.hear, Shop(lane)),
    "async function": lambda lane: background(in_async_lane(lane), ordered=True),
}
EVERY_VERB = ["send", "send_robust", "asend", "asend_robust", "send_async"]


@pytest.mark.parametrize("is_async", [False, True])
def test_decorator_of_a_static_method_is_one_wherever_it_is_found(is_async: bool) -> None:
    class Shop:
        if is_async:

            @background
            @staticmethod
            async def mail(order: int, **named: Any) -> int:
                return order

        else:

            @background
            @staticmethod
            def mail(order: int, **named: Any) -> int:
                return order

    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        connection = signal.connect(Shop.mail)
        assert signal.connect(Shop().mail) is connection
        assert Shop().mail is Shop.mail
        assert [each.result(TIMEOUT) for _, each in signal.send(None, order=7)] == [7]
        assert signal.send_async(None, order=7).results(TIMEOUT) == [(Shop.mail, 7)]


class SaysItIsStatic:
    """A decorator's object that shows the class of what it wraps, as wrapt's do."""

    def __init__(self, wrapped: Any, calls: list[str]) -> None:
        self.wrapped = wrapped
        self.calls = calls
        self.__func__ = wrapped.__func__

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.wrapped)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls.append("decorator")
        return self.wrapped(*arguments, **named)


@pytest.mark.parametrize("verb", ["send", "send_async"])
def test_decorator_over_a_static_method_is_not_skipped(verb: str) -> None:
    calls = list[str]()
    receiver = background(SaysItIsStatic(staticmethod(lambda **named: "heard"), calls))
    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        signal.connect(receiver)
        [(_, delivery)] = getattr(signal, verb)(None)
        assert delivery.result(TIMEOUT) == "heard"
    assert calls == ["decorator"]


def test_what_wrapt_makes_of_a_static_method_runs_its_decorator() -> None:
    wrapt = pytest.importorskip("wrapt")
    calls = list[str]()

    @wrapt.decorator
    def audited(wrapped: Any, instance: Any, arguments: Any, named: Any) -> Any:
        calls.append("decorator")
        return wrapped(*arguments, **named)

    class Desk:
        @background
        @audited
        @staticmethod
        def hear(**named: Any) -> str:
            return "heard"

    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        signal.connect(Desk.hear)
        [(_, delivery)] = signal.send(None)
        assert delivery.result(TIMEOUT) == "heard"
    assert calls == ["decorator"]


def test_class_method_is_refused_and_told_how_to_have_it() -> None:
    with pytest.raises(TypeError, match="not 'classmethod'; put @classmethod above it"):
        background(classmethod(ignore))  # type: ignore[call-overload]


def calls_itself(lane: Lane, key: Any) -> Any:
    class Ledger:
        @background(ordered=key)
        def __call__(self, *, n: int, **named: Any) -> None:
            lane.hear(n)

    return Ledger()


def partial_of(make: Callable[[Lane, Any], Any]) -> Callable[[Lane, Any], Any]:
    return lambda lane, key: functools.partial(make(lane, key))


def function_of(lane: Lane, key: Any) -> Any:
    return background(lambda sender, n, **_: lane.hear(n), ordered=key)


@pytest.mark.parametrize("key", [True, lambda **named: 1], ids=["ordered", "key"])
@pytest.mark.parametrize(
    "make", [calls_itself, partial_of(calls_itself), partial_of(function_of)], ids=range(3)
)
def test_what_calls_an_ordered_one_is_in_its_lane_in_every_way_to_send(make: Any, key: Any) -> None:
    """By a plain send it puts itself into the pool, by ``send_async`` it is put there."""
    lane = Lane()
    with WorkerPool(4) as pool:
        signal = Signal(executor=pool)
        signal.connect(make(lane, key), weak=False)
        with held(pool, workers=4):
            for n in range(0, 100, 2):
                signal.send(None, n=n)
                signal.send_async(None, n=n + 1)
            assert len(inside.lanes_of(pool)) == 1
        assert pool.drain(TIMEOUT)
    assert lane.heard == list(range(100))
    assert lane.overlaps == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ORDERED)
@pytest.mark.parametrize("verbs", [*([verb] for verb in EVERY_VERB), EVERY_VERB], ids=str)
def test_ordered_one_keeps_its_order_in_every_way_to_send_and_across_them(
    verbs: list[str], kind: str
) -> None:
    """Its lane is one, whichever way and through whichever signal it was sent."""
    lane = Lane()
    hears = ORDERED[kind](lane)
    with WorkerPool(4) as pool:
        signals = [Signal(executor=pool), Signal(executor=pool)]
        for signal in signals:
            signal.connect(hears, weak=False)
        turns = itertools.cycle(verbs)

        async def main() -> list[Any]:
            deliveries = list[Any]()
            for n, verb in zip(range(150), turns, strict=False):
                pairs = getattr(signals[n % 7 % 2], verb)(None, n=n)
                deliveries += await pairs if verb.startswith("a") else pairs
            return deliveries

        deliveries = asyncio.run(main())
        for receiver, delivery in deliveries:
            delivery.result(TIMEOUT)
            assert receiver == hears
            assert delivery.receiver == hears
        wait_until(lambda: not inside.lanes_of(pool))  # that is after the result
    assert lane.heard == list(range(150))
    assert lane.overlaps == 0


@pytest.mark.parametrize("kind", ORDERED)
def test_and_across_the_signals_of_all_libraries(kind: str) -> None:
    lane = Lane()
    hears = ORDERED[kind](lane)
    if kind == "method bound by hand":
        pytest.skip("blinker's do not show that it is bound")
    with WorkerPool(4) as pool:
        set_default_executor(pool)
        signals = [TheirSignal(library) for library in ("tsignals", "django", "blinker")]
        for signal in signals:
            signal.connect(hears, weak=False)
        ours = signals[0].signal
        with held(pool, 4):
            deliveries = list[Any]()
            for n in range(90):
                if n % 4 == 3:
                    deliveries += [delivery for _, delivery in ours.send_async(None, n=n)]
                else:
                    deliveries += signals[n % 4].send(None, n=n)
            assert len(inside.lanes_of(pool)) == 1
        for delivery in deliveries:
            delivery.result(TIMEOUT)
        set_default_executor(None)
    assert lane.heard == list(range(90))
    assert lane.overlaps == 0


def test_methods_of_several_objects_have_a_lane_each() -> None:
    shops = [Shop(Lane()), Shop(Lane())]
    with WorkerPool(2) as pool, held(pool, 2):
        signal = Signal(executor=pool)
        for shop in shops:
            signal.connect(shop.hear)
            signal.connect(shop.alias)
        for n in range(5):
            signal.send(None, n=n)
            signal.send_async(None, n=n)
        assert len(inside.lanes_of(pool)) == 4


@pytest.mark.parametrize("kind", ["plain", *ORDERED])
def test_connect_cannot_order_it(kind: str) -> None:
    """That would hold in ``send_async`` only."""
    signal = Signal()
    hears = {**ORDERED, "plain": lambda _: background(thread_name)}[kind](Lane())
    with pytest.raises(ValueError, match=r"background\(function, ordered=...\)"):
        signal.connect(hears, ordered=True, weak=False)
    assert signal.receivers == []
    assert signal.connect(hears, weak=False).connected


def test_method_cannot_be_ordered_by_connect_either() -> None:
    signal, listener = Signal(), Listener()
    with pytest.raises(ValueError, match="background"):
        signal.connect(listener.hear, ordered=True)
    assert signal.receivers == []


@pytest.mark.parametrize("kind", ORDERED)
def test_ordered_one_needs_a_pool(kind: str, theirs: TheirSignal) -> None:
    """Wherever it is called; before anything is queued."""
    lane = Lane()
    hears = ORDERED[kind](lane)
    theirs.connect(hears, weak=False)
    with ThreadPoolExecutor(1) as executor:
        set_default_executor(executor)
        try:
            with pytest.raises(TypeError, match=r"ordered.*WorkerPool.*nothing was queued"):
                theirs.send(None, n=1)
            if theirs.library == "tsignals":
                with pytest.raises(TypeError, match=r"ordered.*WorkerPool.*nothing was queued"):
                    theirs.signal.send_async(None, n=1)
        finally:
            set_default_executor(None)
        assert executor.submit(int).result(TIMEOUT) == 0
    assert lane.heard == []


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


def test_pool_in_place_of_the_function_is_refused_and_told_where_it_goes() -> None:
    with (
        WorkerPool(1) as pool,
        pytest.raises(TypeError, match=r"not 'WorkerPool'; a pool is given as executor="),
    ):
        background(pool)  # type: ignore[call-overload]


@pytest.mark.parametrize("wrong", [3, "name"])
def test_what_is_not_callable_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="callable"):
        background(wrong)
    with pytest.raises(TypeError, match="Executor"):
        background(ignore, executor=wrong)


@pytest.mark.parametrize("name", ["executor", "retry"])
def test_wrong_options_are_refused_before_there_is_a_function(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        background(**{name: 3})  # type: ignore[call-overload]


# Its names


class Silent:
    """What will not say its name."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("__name__", "__qualname__"):
            raise AttributeError(name)
        return super().__getattribute__(name)

    def __call__(self, **named: Any) -> None:
        pass


class Misnamed(Silent):
    __name__: Any = 3
    __qualname__: Any

    def __getattribute__(self, name: str) -> Any:
        return 3 if name in ("__name__", "__qualname__") else super().__getattribute__(name)


class Refusing(Silent):
    def __getattribute__(self, name: str) -> Any:
        if name == "__qualname__":
            raise Boom
        return super().__getattribute__(name)


class Busy(Thing):
    """Its attributes are called as those of background's own."""

    def __init__(self) -> None:
        super().__init__()
        self.function = self.executor = self._terms = self.ordered = self._method = "mine"

    def __call__(self, **named: Any) -> Any:
        return self.function


NAMES: dict[str, tuple[Any, str, str]] = {
    "function": (ignore, "ignore", "ignore"),
    "partial": (functools.partial(ignore), "ignore", "ignore"),
    "nested partial": (functools.partial(functools.partial(ignore, a=1), b=2), "ignore", "ignore"),
    "bound method": (Ear().hear, "hear", "Ear.hear"),
    "partial of a method": (functools.partial(Ear().hear, a=1), "hear", "Ear.hear"),
    "object": (Ear(), "Ear", "Ear"),
    "partial of an object": (functools.partial(Ear(), a=1), "Ear", "Ear"),
    "builtin": (print, "print", "print"),
    "method of a builtin type": ({}.update, "update", "dict.update"),
    "class": (dict, "dict", "dict"),
    "silent": (Silent(), "Silent", "Silent"),
    "misnamed": (Misnamed(), "Misnamed", "Misnamed"),
    "refusing": (Refusing(), "Refusing", "Refusing"),
    "busy": (Busy(), "Busy", "Busy"),
    "mock": (mock.Mock(), "Mock", "Mock"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_it_has_the_name_of_what_it_wraps(kind: str) -> None:
    inner, name, qualname = NAMES[kind]
    hears = background(inner)
    assert (hears.__name__, hears.__qualname__) == (name, qualname)
    assert repr(hears) == f"<background {qualname}>"

    class Host(Thing):
        attribute = hears

    method = Host().attribute
    assert (method.__name__, method.__qualname__) == (name, qualname)
    assert inner is hears.function


@pytest.mark.parametrize("kind", [kind for kind in NAMES if kind not in ("builtin", "class")])
def test_whatever_its_kind_it_runs_on_every_signal(
    kind: str, theirs: TheirSignal, default: WorkerPool
) -> None:
    inner, name, _ = NAMES[kind]
    if theirs.library == "blinker" and kind != "mock":
        inner = keywords_only(inner)
    hears = background(inner)
    theirs.connect(hears, weak=False)
    [delivery] = theirs.send(None)
    delivery.result(TIMEOUT)
    assert delivery.receiver is hears
    if theirs.library != "blinker":
        assert name in repr(delivery)


def keywords_only(function: Any) -> Any:
    """For blinker, which passes the sender by its place."""
    return lambda sender, **named: function(sender=sender, **named)


def test_attributes_of_an_object_do_not_take_the_place_of_its_own(pool: WorkerPool) -> None:
    busy = Busy()
    signal = Signal(executor=pool)
    signal.connect(background(busy), weak=False)
    assert signal.send(None)[0][1].result(TIMEOUT) == "mine"
    assert signal.send_async(None).results(TIMEOUT)[0][1] == "mine"


async def asynchronous(**named: Any) -> str:
    return "async"


@pytest.mark.parametrize("wrap", [lambda f: f, functools.partial], ids=["function", "partial"])
@pytest.mark.parametrize("marked", [False, True])
def test_no_mark_makes_it_async(wrap: Any, marked: bool) -> None:
    async def function(**named: Any) -> None: ...

    for mark in ("_is_coroutine_marker", "_is_coroutine_mark"):
        if marked:
            setattr(function, mark, getattr(inspect, mark, object()))
    if marked:
        function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    for hears in (background(wrap(function)), type("Host", (), {"f": background(function)})().f):
        assert not inspect.iscoroutinefunction(hears)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.14
            assert not asyncio.iscoroutinefunction(hears)


# Copies and pickles


@background
def of_this_module(**named: Any) -> None:
    pass


by_another_name = background(asynchronous, ordered=True)
of_a_partial = background(functools.partial(ignore, n=1))


class Keeper(Thing):
    @background
    def hear(self, **named: Any) -> str:
        return self.name


def test_it_is_pickled_by_reference() -> None:
    assert pickle.loads(pickle.dumps(of_this_module)) is of_this_module
    assert pickle.loads(pickle.dumps(Keeper.hear)) is Keeper.hear


@pytest.mark.parametrize("hears", [by_another_name, of_a_partial], ids=str)
def test_it_is_pickled_with_what_it_wraps_where_its_own_name_leads_elsewhere(hears: Any) -> None:
    loaded = pickle.loads(pickle.dumps(hears))
    assert (loaded.__qualname__, loaded.ordered) == (hears.__qualname__, hears.ordered)
    if hears is by_another_name:
        assert loaded.function is asynchronous


def test_method_is_pickled_with_its_object(default: WorkerPool) -> None:
    loaded = pickle.loads(pickle.dumps(Keeper("keeper").hear))
    assert loaded.__self__.name == "keeper"
    assert loaded(signal=None, sender=None).result(TIMEOUT) == "keeper"


def test_what_cannot_be_pickled_says_so() -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(background(lambda **named: None))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_are_the_same(duplicate: Any) -> None:
    for hears in (of_this_module, of_a_partial, background(Busy())):
        assert duplicate(hears) is hears
    keeper = Keeper("keeper")
    method = duplicate(keeper.hear)
    assert method.__func__ is keeper.hear.__func__
    assert method.__self__.name == "keeper"


@pytest.mark.parametrize("name", ["deliver", "prepare", "prepare_for", "refuse", "made_by"])
def test_attributes_of_the_function_hide_nothing_of_ours(name: str, default: WorkerPool) -> None:
    class Mails:
        def __init__(self) -> None:
            self.calls: list[str] = []
            setattr(self, name, self.wrong)
            self.size = 3

        def wrong(self, *arguments: object, **named: object) -> None:
            raise AssertionError

        def __call__(self, **named: object) -> str:
            return threading.current_thread().name

    mails = background(Mails())
    assert mails.size == 3
    signal = Signal()
    signal.connect(mails)
    [(_, delivery)] = signal.send(None)
    assert delivery.result(TIMEOUT) == "default_0"
    assert signal.send_async(None).results(TIMEOUT) == [(mails, "default_0")]
    prepared = mails.prepare(signal=signal, sender=None)
    prepared.submit()
    assert prepared.deliveries.results(TIMEOUT) == [(mails, "default_0")]


def test_partial_of_one_is_one_too(default: WorkerPool) -> None:
    """It was made so once, and what is said there holds behind it."""
    lane, most = list[int](), list[int]()

    @background(ordered=True)
    def hears(what: str, n: int, **named: Any) -> str:
        lane.append(n)
        most.append(len(lane))
        time.sleep(0.0001)
        lane.remove(n)
        return f"{what} {n}"

    receivers = [functools.partial(hears, "a"), functools.partial(functools.partial(hears), "b")]
    for each in receivers:
        signal = Signal()
        for name, given in (("ordered", True), ("retry", Retry(OSError))):
            with pytest.raises(ValueError, match=f"has {name} from background"):
                signal.connect(each, **{name: given})  # type: ignore[arg-type]
        signal.connect(each)
    with WorkerPool(4) as pool:
        sends = list[Deliveries]()
        for n in range(50):
            for each in receivers:
                signal = Signal(executor=pool)
                signal.connect(each, weak=False)
                sends.append(Deliveries(signal.send(None, n=n)))
        assert all(sent.wait(TIMEOUT) for sent in sends)
        signal = Signal(executor=pool)
        signal.connect(receivers[0])
        assert signal.send_async(None, n=7).results(TIMEOUT) == [(receivers[0], "a 7")]
    assert max(most) == 1


def test_object_whose_class_runs_in_the_background_is_one(default: WorkerPool) -> None:
    class Mails:
        @background
        def __call__(self, **named: object) -> str:
            return f"{type(self).__name__} in {threading.current_thread().name}"

    signal, mails = Signal(), Mails()
    with pytest.raises(ValueError, match="has ordered from background"):
        signal.connect(mails, ordered=True)
    signal.connect(mails)
    [(_, delivery)] = signal.send(None)
    assert delivery.result(TIMEOUT) == "Mails in default_0"
    assert signal.send_async(None).results(TIMEOUT) == [(mails, "Mails in default_0")]


@pytest.mark.parametrize("wrap", [lambda f: f, functools.partial], ids=["itself", "a partial"])
def test_background_of_what_is_in_the_background_is_refused(wrap: Any) -> None:
    """It would go through the pool twice, and what fails there would be a success outside."""

    class Mails:
        @background
        def mail(self, **named: object) -> None: ...

    for each in (background(ignore), Mails().mail, Mails.mail):
        with pytest.raises(TypeError, match="runs in the background as it is"):
            background(wrap(each))


class Unasked:
    """As a proxy outside of what it stands for: whoever asks it for anything gets an error."""

    def __getattribute__(self, name: str) -> Any:
        raise Boom(name)


def test_partial_asks_nothing_of_what_the_class_of_its_first_argument_has(
    default: WorkerPool,
) -> None:
    class Mailer:
        current = Unasked()

    @background
    def mails(mailer: Mailer, **named: Any) -> str:
        return threading.current_thread().name

    for first in (Mailer(), Mailer, Unasked()):
        receiver = functools.partial(mails, first)
        signal = Signal()
        signal.connect(receiver)
        [(_, delivery)] = signal.send(None)
        assert delivery.result(TIMEOUT) == "default_0"
        assert signal.send_async(None).results(TIMEOUT) == [(receiver, "default_0")]
