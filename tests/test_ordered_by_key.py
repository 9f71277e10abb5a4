"""connect(ordered=key): deliveries for equal values in order, for others side by side."""

import asyncio
import contextlib
import functools
import gc
import itertools
import os
import threading
import tracemalloc
import types
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import blinker
import django.dispatch
import inside
import pytest
from helpers import (
    TIMEOUT,
    VOLUME,
    Boom,
    Latch,
    Running,
    Thing,
    assert_gone,
    ignore,
    in_new_process,
    wait_until,
    without_address,
)
from points import FIRST, STRIDE, Interrupter
from pools import add_up, held, signal_to

from tsignals import (
    DeliveryDropped,
    PoolClosed,
    QueueFull,
    Signal,
    WorkerPool,
    background,
    observing,
)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(4) as pool:
        yield pool


def by_key(sender: Any, of: Any = None, **named: Any) -> Any:
    return of


def nothing_left(pool: WorkerPool) -> bool:
    return not inside.lanes_of(pool) and not inside.lane_ids_of(pool)


class Lanes:
    """A receiver that notes, of each value, what it hears, and whether it heard two at a time."""

    def __init__(self) -> None:
        self.heard: dict[Any, list[Any]] = {}
        self.overlaps = 0
        self.gates: dict[Any, Latch] = {}
        self._inside: Counter[Any] = Counter()

    def __call__(self, n: Any, of: Any = None, **named: Any) -> Any:
        self._inside[of] += 1  # of one value, nobody else is here
        self.overlaps += self._inside[of] != 1
        if n in self.gates:
            self.gates[n]()
        self.heard.setdefault(of, []).append(n)
        self._inside[of] -= 1
        return n

    def stop_at(self, n: Any) -> Latch:
        gate = self.gates[n] = Latch()
        return gate


def send(signal: Signal, n: Any, of: Any, sender: Any = None) -> Any:
    """Send one, and return its delivery."""
    [(_, delivery)] = signal.send_async(sender, n=n, of=of)
    return delivery


def share(pool: WorkerPool, one: Callable[[], Any], other: Callable[[], Any]) -> bool:
    """Whether two deliveries are in one lane; both run in the end."""
    with held(pool, 4):
        deliveries = [one(), other()]
        lanes = len(inside.lanes_of(pool))
    for delivery in deliveries:
        delivery.result(TIMEOUT)
    wait_until(lambda: nothing_left(pool))
    return lanes == 1


# -- In order, and side by side --


def test_deliveries_for_one_value_run_one_at_a_time_in_the_order_of_the_sends(
    pool: WorkerPool,
) -> None:
    lanes = Lanes()
    signal = signal_to(lanes, pool, ordered=by_key)
    sent = [send(signal, n, n % 7) for n in range(700)]
    assert [delivery.result(TIMEOUT) for delivery in sent] == list(range(700))
    assert lanes.heard == {of: list(range(of, 700, 7)) for of in range(7)}
    assert lanes.overlaps == 0


def test_deliveries_for_other_values_run_meanwhile(pool: WorkerPool) -> None:
    lanes = Lanes()
    signal, gate = signal_to(lanes, pool, ordered=by_key), lanes.stop_at(0)
    first, behind = send(signal, 0, "slow"), send(signal, 1, "slow")
    assert gate.entered.wait(TIMEOUT)
    assert send(signal, 2, "fast").result(TIMEOUT) == 2
    assert not first.done() and not behind.done()
    assert (pool.stats().running, pool.stats().pending) == (1, 1)
    gate.opened.set()
    assert behind.result(TIMEOUT) == 1
    assert lanes.heard == {"fast": [2], "slow": [0, 1]}


def test_as_many_values_as_workers_run_at_the_same_time(pool: WorkerPool) -> None:
    barrier = threading.Barrier(4)
    signal = signal_to(lambda **named: barrier.wait(TIMEOUT), pool, ordered=by_key)
    sent = [send(signal, 0, of) for of in range(4)]
    assert sorted(delivery.result(TIMEOUT) for delivery in sent) == [0, 1, 2, 3]


def test_many_values_keep_their_order_whoever_sends(pool: WorkerPool) -> None:
    lanes = Lanes()
    signal = signal_to(lanes, pool, ordered=by_key)

    def sends(thread: int) -> None:
        for n in range(10):
            for of in range(VOLUME // 50):
                send(signal, (thread, n), of)

    for thread in [Running(sends, thread) for thread in range(4)]:
        thread.result()
    assert pool.drain(TIMEOUT)
    assert len(lanes.heard) == VOLUME // 50
    assert lanes.overlaps == 0
    for heard in lanes.heard.values():
        for thread_of in range(4):
            assert [n for thread, n in heard if thread == thread_of] == list(range(10))


def test_async_receivers_have_such_lanes_too(pool: WorkerPool) -> None:
    heard, running = dict[int, list[int]](), Counter[int]()
    together = list[int]()

    async def receives(n: int, of: int, **named: Any) -> None:
        running[of] += 1
        assert running[of] == 1
        together.append(running.total())
        await asyncio.sleep(0)
        while n < 3 and len(together) < 3:  # until the first of the others have come
            await asyncio.sleep(0.001)
        heard.setdefault(of, []).append(n)
        running[of] -= 1

    signal = signal_to(receives, pool, ordered=by_key)
    with held(pool, 4):
        sent = [send(signal, n, n % 3) for n in range(60)]
    for delivery in sent:
        delivery.result(TIMEOUT)
    assert heard == {of: list(range(of, 60, 3)) for of in range(3)}
    assert max(together) > 1
    wait_until(lambda: nothing_left(pool))


# -- What shares a lane --


class SameHash:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameHash) and self.value == other.value


NAN = float("nan")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ann", "ann", True),
        ("ann", "bob", False),
        (1, 1.0, True),
        (1, True, True),
        (-1, -2, False),  # whose hashes are equal
        (NAN, NAN, True),
        (float("nan"), float("nan"), False),
        (None, None, True),
        (None, False, False),
        (("ann", 1), ("ann", 1), True),
        (SameHash(1), SameHash(1), True),
        (SameHash(1), SameHash(2), False),
    ],
    ids=without_address,
)
def test_values_that_are_equal_share_a_lane(
    one: Any, other: Any, same: bool, pool: WorkerPool
) -> None:
    signal = signal_to(Lanes(), pool, ordered=by_key)
    assert share(pool, lambda: send(signal, 0, one), lambda: send(signal, 1, other)) is same


def test_keys_of_one_receiver_share_what_they_have_in_common(pool: WorkerPool) -> None:
    """The lane belongs to the receiver and the value, whatever connection gave it."""
    lanes, sender = Lanes(), Thing()
    one, other = Signal(executor=pool), Signal(executor=pool)
    one.connect(lanes, ordered=by_key)
    other.connect(lanes, sender, ordered=lambda sender, of, **named: of.lower())
    assert share(pool, lambda: send(one, 0, "ann"), lambda: send(other, 1, "ANN", sender))
    assert not share(pool, lambda: send(one, 0, "ANN"), lambda: send(other, 1, "ANN", sender))
    assert lanes.overlaps == 0


def test_lane_of_a_receiver_is_none_of_those_of_its_values(pool: WorkerPool) -> None:
    lanes = Lanes()
    whole = signal_to(lanes, pool, ordered=True)
    by_value = signal_to(lanes, pool, ordered=lambda **named: True)
    assert not share(pool, lambda: send(whole, 0, 1), lambda: send(by_value, 1, 1))


def test_other_receivers_have_lanes_of_their_own(pool: WorkerPool) -> None:
    signals = [signal_to(Lanes(), pool, ordered=by_key) for _ in range(2)]
    assert not share(pool, lambda: send(signals[0], 0, 1), lambda: send(signals[1], 1, 1))


def test_lanes_of_a_method_are_those_of_its_object(pool: WorkerPool) -> None:
    class Owner(Thing):
        def hear(self, **named: Any) -> None: ...

    one, other = Owner(), Owner()
    signals = [Signal(executor=pool) for _ in range(3)]
    for signal, owner in zip(signals, (one, one, other), strict=True):
        signal.connect(owner.hear, ordered=by_key)
    assert share(pool, lambda: send(signals[0], 0, 1), lambda: send(signals[1], 1, 1))
    assert not share(pool, lambda: send(signals[0], 0, 1), lambda: send(signals[2], 1, 1))


def test_each_pool_has_lanes_of_its_own(pool: WorkerPool) -> None:
    lanes, signal = Lanes(), Signal()
    signal.connect(lanes, ordered=by_key)
    gate = lanes.stop_at(0)
    with WorkerPool(1) as other:
        [(_, first)] = signal.via(pool).send_async(None, n=0, of=1)
        assert gate.entered.wait(TIMEOUT)
        [(_, second)] = signal.via(other).send_async(None, n=1, of=1)
        assert second.result(TIMEOUT) == 1
        gate.opened.set()
        assert first.result(TIMEOUT) == 0


# -- How the key is called --


def test_key_is_called_once_for_each_send_and_receiver_by_the_sender(pool: WorkerPool) -> None:
    calls = list[Any]()

    def key(**named: Any) -> Any:
        calls.append((threading.get_ident(), named))
        return named["self"]

    signal, sender = Signal(executor=pool), Thing()
    receivers = [Lanes(), Lanes()]
    for receiver in receivers:
        signal.connect(receiver, ordered=key)
    signal.connect(lambda **named: None, weak=False)
    named = {"self": 1, "n": 2}
    for way in (signal.send_async, signal.prepare):
        way(sender, **named)
        assert calls == [(threading.get_ident(), {"sender": sender, **named})] * 2
        calls.clear()


def test_key_is_not_called_by_sends_that_call_the_receiver_here(pool: WorkerPool) -> None:
    signal = signal_to(Lanes(), pool, ordered=raises(Boom()))
    assert signal.send(None, n=1)[0][1] == 1
    assert signal.send_robust(None, n=1).errors == []
    assert asyncio.run(signal.asend(None, n=1))[0][1] == 1


def raises(error: BaseException) -> Callable[..., Any]:
    def key(**named: Any) -> Any:
        raise error

    return key


class BadHash:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __hash__(self) -> int:
        raise self.error


class BadEqual:
    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        raise Boom


def unknown_argument(*, nobody_sends_this: Any) -> Any: ...


WRONG: dict[str, tuple[Callable[..., Any], type[BaseException], str]] = {
    "key": (raises(Boom()), Boom, ""),
    "key, no Exception": (raises(KeyboardInterrupt()), KeyboardInterrupt, ""),
    "arguments": (unknown_argument, TypeError, "unexpected keyword argument"),
    "unhashable": (
        lambda **named: [1],
        TypeError,
        r"of .*Lanes.* gave a 'list', which is not",
    ),
    "unhashable inside": (lambda **named: ([1],), TypeError, r"of .*Lanes.* gave a 'tuple'"),
    "hash": (lambda **named: BadHash(Boom()), Boom, ""),
    "equality": (lambda **named: BadEqual(), Boom, ""),
}


class Events(observing.Observer):
    def __init__(self) -> None:
        self.told: list[str] = []

    def sent(self, event: observing.Event) -> None:
        self.told.append(event.mode)


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("way", ["send_async", "prepare"])
@pytest.mark.parametrize("observed", [False, True])
def test_what_the_key_raises_the_send_raises_and_nothing_is_queued(
    what: str, way: str, observed: bool, pool: WorkerPool
) -> None:
    key, kind, text = WRONG[what]
    signal, lanes, others, events = Signal(executor=pool), Lanes(), Lanes(), Events()
    signal.connect(others, priority=1)
    signal.connect(others, ordered=by_key, dispatch_uid="ordered", priority=1)
    signal.connect(others, tracked=True, dispatch_uid="tracked", priority=1)
    signal.connect(lanes, ordered=key)
    with held(pool, 4):
        if what == "equality":  # there must be one to compare with
            send(signal_to(lanes, pool, ordered=key), 9, None)
        before = pool.stats()
        with observing.observe(events) if observed else contextlib.nullcontext():
            with pytest.raises(kind, match=text or None):
                getattr(signal, way)(None, n=1, of=1)
        assert what == "equality" or events.told == []
        assert pool.stats() == before
        assert len(inside.lanes_of(pool)) == (what == "equality")
    assert pool.drain(TIMEOUT)
    gc.collect()
    wait_until(lambda: nothing_left(pool))
    assert others.heard == {}
    assert lanes.heard == ({None: [9]} if what == "equality" else {})


@pytest.mark.parametrize("what", WRONG)
def test_so_it_is_with_a_background_receiver(what: str, pool: WorkerPool) -> None:
    key, kind, text = WRONG[what]
    lanes = Lanes()
    receiver = background(lanes, executor=pool, ordered=key)
    signal = signal_to(receiver, pool)
    with held(pool, 4):
        if what == "equality":
            signal.send(None, n=9)
        before = pool.stats()
        for way in (signal.send, signal.send_async, signal.prepare, receiver, receiver.prepare):
            with pytest.raises(kind, match=text or None):
                way(sender=None, n=1)
        assert pool.stats() == before
    assert pool.drain(TIMEOUT)
    assert lanes.heard == ({None: [9]} if what == "equality" else {})


def test_key_that_is_no_function_is_refused() -> None:
    async def key(**named: Any) -> Any: ...

    wrongs: list[Any] = [key, "of", None, object()]
    for wrong in wrongs:
        with pytest.raises(TypeError, match=r"ordered must be True, False, or a function"):
            Signal().connect(Lanes(), weak=False, ordered=wrong)
        with pytest.raises(TypeError, match=r"ordered must be True, False, or a function"):
            background(Lanes(), ordered=wrong)


def test_key_may_be_any_callable_also_one_that_is_false(pool: WorkerPool) -> None:
    class Empty(list[Any]):
        def __call__(self, of: Any, **named: Any) -> Any:
            return of

    for key in (Empty(), functools.partial(by_key, other=1), Empty().__call__):
        signal = signal_to(Lanes(), pool, ordered=key)
        assert share(pool, lambda: send(signal, 0, 1), lambda: send(signal, 1, 1))


def test_other_executors_refuse_it_and_the_key_is_not_called() -> None:
    with ThreadPoolExecutor(1) as executor:
        signal = Signal(executor=executor)
        signal.connect(Lanes(), weak=False, ordered=raises(Boom()))
        for way in (signal.send_async, signal.prepare):
            with pytest.raises(TypeError, match=r"ordered receiver needs a WorkerPool"):
                way(None, n=1)


# -- Connecting --


class Keys:
    """Its instances are equal to nothing, and say so loudly."""

    def __call__(self, **named: Any) -> Any: ...
    def key(self, **named: Any) -> Any: ...
    def __eq__(self, other: object) -> bool:
        raise Boom

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("key", [by_key, Keys(), Keys().key], ids=["function", "object", "method"])
def test_connecting_again_with_the_same_key_changes_nothing(key: Any) -> None:
    signal, lanes = Signal(), Lanes()
    connection = signal.connect(lanes, ordered=key)
    again = types.MethodType(key.__func__, key.__self__) if hasattr(key, "__func__") else key
    assert signal.connect(lanes, ordered=again) is connection
    assert connection.ordered is key


@pytest.mark.parametrize(
    ("one", "other", "said", "stands"),
    [
        (by_key, True, "ordered=True", "ordered=by_key"),
        (True, by_key, "ordered=by_key", "ordered=True"),
        (False, by_key, "ordered=by_key", "ordered=False"),
        (by_key, False, "ordered=False", "ordered=by_key"),
        (Keys(), Keys(), "ordered=<Keys>", "another ordered=<Keys>"),
        (Keys().key, Keys().key, "ordered=Keys.key", "another ordered=Keys.key"),
    ],
    ids=without_address,
)
def test_connecting_again_with_another_key_is_refused(
    one: Any, other: Any, said: str, stands: str
) -> None:
    signal, lanes = Signal(), Lanes()
    connection = signal.connect(lanes, ordered=one)
    why = rf"cannot connect .*Lanes.* with {said}: it is connected with {stands} already"
    with pytest.raises(ValueError, match=why):
        signal.connect(lanes, ordered=other)
    assert signal.receivers == [connection]
    assert connection.ordered is one


# -- Receivers in the background --


EVERY_VERB = ["send", "send_robust", "asend", "asend_robust", "send_async"]


class Shop(Thing):
    def __init__(self, lanes: Lanes) -> None:
        super().__init__()
        self.lanes = lanes

    @background(ordered=by_key)
    def hear(self, sender: Any, *, n: int, of: Any, **named: Any) -> None:
        self.lanes(n, of)


def in_async(lanes: Lanes) -> Any:
    running: Counter[int] = Counter()

    async def hears(sender: Any, *, n: int, of: Any, **named: Any) -> None:
        running[of] += 1
        lanes.overlaps += running[of] != 1
        await asyncio.sleep(0)
        running[of] -= 1
        lanes(n, of)

    return hears


IN_BACKGROUND: dict[str, Callable[[Lanes], Any]] = {
    "function": lambda lanes: background(lambda sender, n, of, **_: lanes(n, of), ordered=by_key),
    "method": lambda lanes: Shop(lanes).hear,
    "async function": lambda lanes: background(in_async(lanes), ordered=by_key),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", IN_BACKGROUND)
@pytest.mark.parametrize("verbs", [*([verb] for verb in EVERY_VERB), EVERY_VERB], ids=str)
def test_background_receiver_keeps_its_orders_in_every_way_to_send(
    verbs: list[str], kind: str
) -> None:
    lanes = Lanes()
    hears = IN_BACKGROUND[kind](lanes)
    with WorkerPool(4) as pool:
        signals = [Signal(executor=pool), Signal(executor=pool)]
        for signal in signals:
            signal.connect(hears, weak=False)

        async def main() -> list[Any]:
            deliveries = list[Any]()
            for n, verb in zip(range(150), itertools.cycle(verbs), strict=False):
                pairs = getattr(signals[n % 7 % 2], verb)(None, n=n, of=n % 3)
                deliveries += await pairs if verb.startswith("a") else pairs
            return deliveries

        for _, delivery in asyncio.run(main()):
            delivery.result(TIMEOUT)
        wait_until(lambda: nothing_left(pool))
    assert lanes.heard == {of: list(range(of, 150, 3)) for of in range(3)}
    assert lanes.overlaps == 0


@pytest.mark.parametrize("library", ["tsignals", "django", "blinker"])
def test_key_of_a_background_receiver_gets_the_sender_as_every_library_sends_it(
    library: str, pool: WorkerPool
) -> None:
    seen = list[Any]()

    def key(**named: Any) -> Any:
        seen.append(named)
        return named["of"]

    class Shop(Thing):
        @background(executor=pool, ordered=key)
        def hear(self, sender: Any, **named: Any) -> None: ...

    hears, shop = background(lambda sender, **named: None, executor=pool, ordered=key), Shop()
    makers: dict[str, Callable[[], Any]] = {
        "tsignals": Signal,
        "django": django.dispatch.Signal,
        "blinker": blinker.Signal,
    }
    signal, sender = makers[library](), Thing()
    signal.connect(hears)
    signal.connect(shop.hear)
    for _, delivery in signal.send(sender, of=1):
        delivery.result(TIMEOUT)
    assert seen == [{"sender": sender, "of": 1}] * 2


# -- What a lane keeps, and for how long --


class Value:
    """Equal to those of the same number; can be referenced weakly."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self.number == other.number


def new_value(**named: Any) -> Any:
    return Value(1)


def refused(signal: Signal) -> list[Any]:
    with WorkerPool(1, max_pending=1, overflow="raise") as full, held(full):
        full.submit(int)
        with pytest.raises(QueueFull):
            signal.via(full).send_async(None, n=1)
        assert nothing_left(full)
    with pytest.raises(PoolClosed):
        signal.via(full).send_async(None, n=1)
    assert nothing_left(full)
    return []


def dropped(signal: Signal) -> list[Any]:
    with WorkerPool(1, max_pending=1, overflow="drop_newest") as full, held(full):
        full.submit(int)
        deliveries = signal.via(full).send_async(None, n=1)
        assert isinstance(deliveries.futures[0].exception(TIMEOUT), DeliveryDropped)
        assert nothing_left(full)
    return deliveries


def dropped_unsubmitted(signal: Signal) -> list[Any]:
    prepared = signal.prepare(None, n=1)
    prepared.drop()
    return prepared.deliveries


def cancelled(signal: Signal) -> list[Any]:
    pool = signal.executor
    assert isinstance(pool, WorkerPool)
    with held(pool, 4):
        deliveries = [signal.send_async(None, n=n)[0] for n in range(3)]
        for _, delivery in reversed(deliveries):
            assert delivery.cancel()
        assert nothing_left(pool)
    return deliveries


def run(signal: Signal) -> list[Any]:
    deliveries = [signal.send_async(None, n=n)[0] for n in range(3)]
    for _, delivery in deliveries:
        delivery.result(TIMEOUT)
    return deliveries


ENDS = [run, cancelled, dropped, dropped_unsubmitted, refused]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_lane_that_has_ended_keeps_nothing_and_neither_do_its_deliveries(
    end: Callable[[Signal], list[Any]], pool: WorkerPool
) -> None:
    values = list["weakref.ref[Value]"]()

    def key(**named: Any) -> Any:
        value = Value(1)
        values.append(weakref.ref(value))
        return value

    kept = end(signal_to(Lanes(), pool, ordered=key))
    wait_until(lambda: nothing_left(pool))
    for value in values:
        assert_gone(value)
    assert values
    del kept


def test_prepared_that_its_own_value_knows_is_dropped_when_both_are_forgotten(
    pool: WorkerPool,
) -> None:
    value = Value(1)
    signal = signal_to(Lanes(), pool, ordered=lambda **named: named["value"])
    value.prepared = signal.prepare(None, n=1, value=value)  # type: ignore[attr-defined]
    delivery = value.prepared.deliveries.futures[0]  # type: ignore[attr-defined]
    reference = weakref.ref(value)
    ended = list[Any]()
    delivery.add_done_callback(ended.append)
    del delivery, value
    gc.collect()
    assert reference() is None
    assert isinstance(ended[0].exception(0), DeliveryDropped)
    ended.clear()
    gc.collect()
    assert nothing_left(pool)


def test_prepared_ones_stand_where_they_are_submitted(pool: WorkerPool) -> None:
    lanes = Lanes()
    signal = signal_to(lanes, pool, ordered=by_key)
    prepared = [signal.prepare(None, n=n, of="ann") for n in range(3)]
    with held(pool, 4):
        send(signal, 3, "ann")
        for one in (prepared[2], prepared[0]):
            one.submit()
        send(signal, 4, "ann")
        prepared[1].deliveries.cancel()
    assert pool.drain(TIMEOUT)
    assert lanes.heard == {"ann": [3, 2, 0, 4]}
    del prepared, one
    wait_until(lambda: nothing_left(pool))


@pytest.mark.parametrize("prepared", [False, True])
def test_value_is_let_go_though_another_delivery_of_its_send_still_runs(
    prepared: bool, pool: WorkerPool
) -> None:
    latch = Latch()
    signal = Signal(executor=pool)
    signal.connect(latch)
    signal.connect(ignore, ordered=lambda n, **named: n)
    if prepared:
        send = signal.prepare(None, n=7)
        send.submit()
        deliveries = send.deliveries
    else:
        deliveries = signal.send_async(None, n=7)
    assert latch.entered.wait(TIMEOUT)
    assert deliveries[1][1].result(TIMEOUT) is None
    wait_until(lambda: not inside.lane_ids_of(pool))
    latch.opened.set()
    assert deliveries.wait(TIMEOUT)


@pytest.mark.slow
def test_values_leave_no_memory_behind(pool: WorkerPool) -> None:
    signal = signal_to(lambda **named: None, pool, ordered=lambda of, **named: f"customer {of}")

    def memory() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    def rounds(first: int) -> int:
        for of in range(first, first + 1000):
            signal.send_async(None, of=of)
            signal.send_async(None, of=of)
        assert pool.drain(TIMEOUT)
        wait_until(lambda: nothing_left(pool))
        return memory()

    tracemalloc.start()
    try:
        rounds(0)
        before = rounds(10**6)
        rounds(2 * 10**6)

        def is_back() -> bool:
            # Without the GIL, what a worker has made and others let go is freed as it runs again.
            barrier = threading.Barrier(4)
            for future in [pool.submit(barrier.wait, TIMEOUT) for _ in range(4)]:
                future.result(TIMEOUT)
            return memory() - before < 100_000  # bytes: a lane and its id take more than 1000

        wait_until(is_back)
    finally:
        tracemalloc.stop()


# -- With all else that lanes do --


def test_cancelled_deliveries_are_left_out_of_their_lane(pool: WorkerPool) -> None:
    lanes = Lanes()
    signal = signal_to(lanes, pool, ordered=by_key)
    with held(pool, 4):
        sent = [send(signal, n, n % 2) for n in range(10)]
        assert [sent[n].cancel() for n in (0, 4, 9)] == [True] * 3
    assert pool.drain(TIMEOUT)
    assert lanes.heard == {0: [2, 6, 8], 1: [1, 3, 5, 7]}


def test_failure_of_one_delivery_stops_no_lane(pool: WorkerPool) -> None:
    heard = list[int]()

    def receives(n: int, **named: Any) -> None:
        if n % 2:
            raise Boom
        heard.append(n)

    signal = signal_to(receives, pool, ordered=by_key)
    sent = [send(signal, n, 1) for n in range(6)]
    assert [type(delivery.exception(TIMEOUT)) for delivery in sent] == [type(None), Boom] * 3
    assert heard == [0, 2, 4]


def test_tracked_disconnect_ends_all_lanes_of_the_receiver(pool: WorkerPool) -> None:
    lanes, signal = Lanes(), Signal(executor=pool)
    connection = signal.connect(lanes, ordered=by_key, tracked=True)
    gate = lanes.stop_at(0)
    running, *rest = [send(signal, n, n % 3) for n in range(0, 30, 3)]
    with held(pool, 3):
        assert gate.entered.wait(TIMEOUT)
        others = [send(signal, n, n % 3) for n in range(1, 30) if n % 3]
        leaving = Running(connection.disconnect, wait=True)
        wait_until(lambda: all(delivery.cancelled() for delivery in rest + others))
        gate.opened.set()
        assert leaving.result()
    assert running.result(TIMEOUT) == 0
    assert lanes.heard == {0: [0]}
    wait_until(lambda: nothing_left(pool))


def test_worker_may_wait_for_the_lanes_of_other_values(pool: WorkerPool) -> None:
    signal = Signal(executor=pool)

    def receives(n: int, of: int, **named: Any) -> int:
        return n if of == 0 else 1 + int(send(signal, n, of - 1).result(TIMEOUT))

    signal.connect(receives, ordered=by_key)
    assert [send(signal, n, 20).result(TIMEOUT) for n in range(3)] == [20, 21, 22]


def test_delivery_cannot_wait_for_one_behind_it_in_its_lane(pool: WorkerPool) -> None:
    signal = Signal(executor=pool)

    def receives(n: int, of: Any, **named: Any) -> Any:
        return send(signal, n - 1, "ANN".lower()).result(TIMEOUT) if n else "done"

    signal.connect(receives, ordered=by_key)
    delivery = send(signal, 1, "ann")
    with pytest.raises(RuntimeError, match="lane"):
        delivery.result(TIMEOUT)
    assert pool.drain(TIMEOUT)


def test_caller_that_runs_a_delivery_waits_for_the_lane_of_its_value_only() -> None:
    lanes = Lanes()
    with WorkerPool(2, max_pending=1, overflow="caller_runs") as pool:
        signal, gate = signal_to(lanes, pool, ordered=by_key), lanes.stop_at(0)
        send(signal, 0, "slow")
        assert gate.entered.wait(TIMEOUT)
        with held(pool, 1):
            pool.submit(int)
            assert send(signal, 1, "fast").result(0) == 1  # here
            behind = Running(send, signal, 2, "slow")
            wait_until(lambda: pool.stats().submitted == 5)
            gate.opened.set()
            assert behind.result().result(0) == 2
    assert lanes.heard == {"slow": [0, 2], "fast": [1]}


@pytest.mark.parametrize("overflow", ["block", "drop_oldest", "drop_newest", "caller_runs"])
def test_every_policy_keeps_the_order_of_each_value(overflow: Any) -> None:
    lanes = Lanes()
    with WorkerPool(4, max_pending=3, overflow=overflow) as pool:
        signal = signal_to(lanes, pool, ordered=by_key)
        for n in range(300):
            send(signal, n, n % 5)
        assert pool.drain(TIMEOUT)
        assert add_up(pool.stats())
        wait_until(lambda: nothing_left(pool))
    assert lanes.overlaps == 0
    for heard in lanes.heard.values():
        assert heard == sorted(heard)
    if overflow in ("block", "caller_runs"):
        assert sum(map(len, lanes.heard.values())) == 300


def test_lanes_are_finished_before_the_pool_is(pool: WorkerPool) -> None:
    lanes = Lanes()
    signal = signal_to(lanes, pool, ordered=by_key)
    for n in range(100):
        send(signal, n, n % 9)
    pool.shutdown()
    assert lanes.heard == {of: list(range(of, 100, 9)) for of in range(9)}


def forked() -> None:
    lanes = Lanes()
    with WorkerPool(1) as pool:
        signal = signal_to(lanes, pool, ordered=by_key)
        with held(pool):
            prepared = signal.prepare(None, n=9, of="ann")
            mine = [send(signal, n, "ann") for n in range(3)]
            child = os.fork()
            if not child:
                try:
                    assert all(delivery.done() for delivery in mine)
                    assert nothing_left(pool)
                    assert [send(signal, n, "ann").result(TIMEOUT) for n in (5, 6)] == [5, 6]
                    assert lanes.heard == {"ann": [5, 6]}
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
        prepared.submit()
        assert pool.drain(TIMEOUT)
    assert lanes.heard == {"ann": [0, 1, 2, 9]}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_has_no_lanes_and_the_parents_go_on() -> None:
    in_new_process(forked)


# -- Equality and hash are foreign code --


class Acts(Value):
    """One that does something when it is compared."""

    act: Callable[[], object] | None = None

    def __eq__(self, other: object) -> bool:
        act, Acts.act = Acts.act, None
        if act is not None:
            act()
        return super().__eq__(other)

    __hash__ = Value.__hash__


def test_comparing_may_send_and_wait(pool: WorkerPool) -> None:
    lanes = Lanes()
    signal = signal_to(lanes, pool, ordered=lambda of, **named: Acts(of))
    gate = lanes.stop_at(0)
    send(signal, 0, 1)
    assert gate.entered.wait(TIMEOUT)
    Acts.act = lambda: (send(signal, 1, 1), send(signal, 2, 2).result(TIMEOUT))
    send(signal, 3, 1)
    gate.opened.set()
    assert pool.drain(TIMEOUT)
    assert lanes.heard == {1: [0, 1, 3], 2: [2]}


def test_value_that_comes_while_another_is_compared_is_found(pool: WorkerPool) -> None:
    """Two senders, and neither has found the other's value among those of that hash."""
    lanes = Lanes()
    signal = signal_to(lanes, pool, ordered=lambda of, **named: Colliding(of))
    with held(pool, 4):
        send(signal, 0, 0)
        Acts.act = lambda: Running(send, signal, 1, 1).result()
        send(signal, 2, 1)
        assert len(inside.lanes_of(pool)) == 2
    assert pool.drain(TIMEOUT)
    assert lanes.heard == {0: [0], 1: [1, 2]}


class Colliding(Acts):
    def __hash__(self) -> int:
        return 7


def test_value_that_goes_while_it_is_compared_with_makes_room_for_another(
    pool: WorkerPool,
) -> None:
    lanes = Lanes()
    signal = signal_to(lanes, pool, ordered=lambda of, **named: Colliding(of))
    with held(pool, 4):
        first = send(signal, 0, 0)
        Acts.act = first.cancel
        send(signal, 1, 1)
        send(signal, 2, 0)
        assert len(inside.lanes_of(pool)) == 2
    assert pool.drain(TIMEOUT)
    assert lanes.heard == {1: [1], 0: [2]}
    wait_until(lambda: nothing_left(pool))


def test_values_whose_hashes_are_equal_leave_nothing_behind(pool: WorkerPool) -> None:
    """Though there is always one left of them."""
    signal = signal_to(lambda **named: None, pool, ordered=lambda of, **named: Colliding(of))
    with held(pool, 4):
        last = send(signal, 0, -1)
        for of in range(200):
            following = send(signal, 0, of)
            last.cancel()
            last = following
            assert inside.values_in_use(pool) == [Colliding(of)]
    assert pool.drain(TIMEOUT)
    wait_until(lambda: nothing_left(pool))


def test_finalizer_of_a_value_may_call_anything(pool: WorkerPool) -> None:
    lanes = Lanes()
    signal, done = Signal(executor=pool), list[Any]()

    class Sends(Value):
        def __del__(self) -> None:
            if self.number:
                done.append(send(signal, 10 + self.number, 0))

    signal.connect(lanes, ordered=lambda of, **named: Sends(of))
    for of in range(1, 6):
        send(signal, of, of)
    wait_until(lambda: len(done) == 5)
    for delivery in done:
        delivery.result(TIMEOUT)
    assert sorted(lanes.heard.pop(0)) == [11, 12, 13, 14, 15]
    wait_until(lambda: nothing_left(pool))


def test_senders_that_meet_agree_on_the_lanes_of_values_whose_hashes_are_equal(
    pool: WorkerPool,
) -> None:
    lanes = Lanes()
    signal = signal_to(lanes, pool, ordered=lambda of, **named: SameHash(of))
    start = threading.Barrier(4)

    def sends(thread: int) -> None:
        start.wait(TIMEOUT)
        for n in range(VOLUME // 40):
            send(signal, (thread, n), n % 3)

    for thread in [Running(sends, thread) for thread in range(4)]:
        thread.result()
    assert pool.drain(TIMEOUT)
    assert lanes.overlaps == 0
    for heard in lanes.heard.values():
        for of in range(4):
            mine = [n for thread, n in heard if thread == of]
            assert mine == sorted(mine)
    wait_until(lambda: nothing_left(pool))


# -- Interrupted --


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("overflow", ["block", "raise", "caller_runs"])
@pytest.mark.parametrize("of", [0, 1], ids=["of a lane", "of none"])
def test_interrupted_send_has_taken_effect_or_has_not(of: int, overflow: Any) -> None:
    at, interrupted = FIRST, True
    while interrupted:
        lanes = Lanes()
        with WorkerPool(1, max_pending=1, overflow=overflow) as pool:
            signal = signal_to(lanes, pool, ordered=lambda of, **named: SameHash(of))
            gate = lanes.stop_at(0)
            send(signal, 0, 0)
            assert gate.entered.wait(TIMEOUT)
            if overflow != "block":
                pool.submit(int)
            if overflow == "caller_runs" and of == 0:
                gate.opened.set()
            sent = list[Any]()
            with Interrupter(at) as interrupter, contextlib.suppress(QueueFull):
                sent.append(send(signal, 1, of))
            interrupted = interrupter.raised
            gate.opened.set()
            assert pool.drain(TIMEOUT)
            assert send(signal, 2, of).result(TIMEOUT) == 2
            assert pool.drain(TIMEOUT)
            assert add_up(pool.stats())
            wait_until(lambda: nothing_left(pool))
        assert lanes.overlaps == 0, interrupter.where
        assert not inside.workers_waiting(), interrupter.where
        heard = lanes.heard.get(of, [])
        before = [0] * (of == 0)
        assert heard in ([*before, 1, 2], [*before, 2]), interrupter.where
        assert not sent or not sent[0].done() or 1 in heard or overflow == "raise"
        at += STRIDE
    assert at > 20


def test_key_that_does_not_fit_is_told_how_it_is_called(pool: WorkerPool) -> None:
    def fails(**named: Any) -> Any:
        return len(3)  # type: ignore[arg-type]

    for key, told in ((lambda order: order, 1), (fails, 0)):
        signal = signal_to(Lanes(), pool, ordered=key)
        with pytest.raises(TypeError) as raised:
            signal.send_async(None, order=7)
        notes = getattr(raised.value, "__notes__", [])
        assert len(notes) == told
        assert all("is called as key(sender=..., order=...)" in note for note in notes)
