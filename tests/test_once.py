"""``connect(once=True)``: called at most once, by whichever send comes first."""

import asyncio
import functools
import gc
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from typing import Any

import inside
import pytest
from helpers import (
    TIMEOUT,
    Boom,
    Ear,
    Latch,
    Thing,
    awaited,
    heard,
    ignore,
    raiser,
    together,
    uncollected,
    wait_until,
)
from points import FIRST, STRIDE, Handler, Interrupter
from pools import held
from processes import run

from tsignals import (
    DeliveryDropped,
    PoolClosed,
    QueueFull,
    Signal,
    WorkerPool,
    background,
)
from tsignals.observing import Event, Observer, observe

Send = Callable[[Signal], list[Any]]
"""Sends, and gives the responses."""


def responses(pairs: Any) -> list[Any]:
    return [response for _, response in pairs]


def send_async(signal: Any) -> list[Any]:
    return responses(signal.send_async(None).results(TIMEOUT))


def prepare(signal: Any) -> list[Any]:
    prepared = signal.prepare(None)
    prepared.submit()
    return responses(prepared.deliveries.results(TIMEOUT))


def by_threads(send: Send) -> Send:
    """``send`` in an executor that is no pool of ours."""

    def sends(signal: Signal) -> list[Any]:
        with ThreadPoolExecutor(1) as executor:
            return send(signal.via(executor))  # type: ignore[arg-type]

    return sends


SENDS: dict[str, Send] = {
    "send": lambda signal: responses(signal.send(None)),
    "send_robust": lambda signal: responses(signal.send_robust(None)),
    "send_async": send_async,
    "asend": lambda signal: responses(awaited(signal.asend, None)),
    "asend_robust": lambda signal: responses(awaited(signal.asend_robust, None)),
    "prepare": prepare,
    "via.send_async": by_threads(send_async),
    "via.prepare": by_threads(prepare),
    "here.asend": lambda signal: responses(awaited(signal.here.asend, None)),
    "here.asend_robust": lambda signal: responses(awaited(signal.here.asend_robust, None)),
}
every_send = pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)


class Observed(Observer):
    """What was told of, by name."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def sent(self, event: Event) -> None:
        self.told.append("sent")

    def started(self, event: Event) -> None:
        self.told.append("started")

    def ended(self, event: Event) -> None:
        self.told.append(str(event.outcome))


async def hear_async(**named: Any) -> str:
    return "async"


def left_of(signal: Signal) -> tuple[object, ...]:
    """What the signal still holds: connections and gates."""
    return len(inside.rows_of(signal)), len(inside.gates_of(signal))


# -- One call --


@every_send
@pytest.mark.parametrize("options", [{}, {"tracked": True}, {"dispatch_uid": "uid"}], ids=str)
def test_first_send_calls_it_and_no_later_one(send: Send, options: Any) -> None:
    ear, signal = Ear(response=7), Signal()
    connection = signal.connect(ear, once=True, **options)
    assert connection.once
    assert connection.connected
    assert send(signal) == [7]
    assert not connection.connected
    assert send(signal) == []
    assert len(ear.calls) == 1
    assert not connection.disconnect()
    assert not signal.has_listeners()
    assert signal.receivers == []
    assert left_of(signal) == (0, 0)


@every_send
@pytest.mark.parametrize("tracked", [False, True])
def test_async_receiver_is_called_by_the_first_send(send: Send, tracked: bool) -> None:
    signal = Signal()
    signal.connect(hear_async, once=True, tracked=tracked)
    assert send(signal) == ["async"]
    assert send(signal) == []
    wait_until(lambda: left_of(signal) == (0, 0))  # a callback: nobody waits for that


@pytest.mark.parametrize("name", ["send_async", "prepare"])
def test_ordered_receiver_is_called_by_the_first_send(name: str) -> None:
    ear, signal = Ear(response=7), Signal()
    signal.connect(ear, once=True, ordered=True)
    assert SENDS[name](signal) == [7]
    assert SENDS[name](signal) == []


@pytest.mark.parametrize("name", ["send", "send_robust", "asend"])
def test_background_receiver_is_called_by_the_first_send(name: str) -> None:
    ear, signal = Ear(response=7), Signal()
    receiver = background(ear)
    signal.connect(receiver, once=True)
    [delivery] = SENDS[name](signal)
    assert delivery.result(TIMEOUT) == 7
    assert SENDS[name](signal) == []


@pytest.mark.parametrize("name", ["send_async", "prepare", "via.send_async"])
def test_background_receiver_is_called_once_in_an_executor(name: str) -> None:
    signal, receiver = Signal(), background(Ear(response=7))
    signal.connect(receiver, once=True)
    assert SENDS[name](signal) == [7]
    assert SENDS[name](signal) == []


@every_send
@pytest.mark.parametrize("tracked", [False, True])
def test_others_are_called_by_every_send_and_in_order(send: Send, tracked: bool) -> None:
    signal = Signal()
    ears = [Ear(response=n) for n in range(3)]
    signal.connect(ears[0])
    signal.connect(ears[1], once=True, tracked=tracked)
    signal.connect(ears[2])
    assert send(signal) == [0, 1, 2]
    assert send(signal) == [0, 2]


@every_send
def test_it_is_disconnected_before_it_runs(send: Send) -> None:
    signal, seen = Signal(), list[object]()

    def look(**named: Any) -> None:
        seen.append(connection.connected)
        seen.append(connection.disconnect())
        seen.append(signal.disconnect(look))
        seen.append(signal.has_listeners())
        seen.append(signal.receivers)

    connection = signal.connect(look, once=True)
    send(signal)
    assert seen == [False, False, False, False, []]


@every_send
def test_receiver_may_connect_itself_anew_and_hears_the_next_send(send: Send) -> None:
    signal, calls = Signal(), list[object]()

    def again(**named: Any) -> None:
        calls.append(signal.connect(again, once=True))

    first = signal.connect(again, once=True)
    for _ in range(3):
        assert len(send(signal)) == 1
    assert len({*calls, first}) == 4
    assert not first.connected
    assert signal.disconnect(again)


@every_send
def test_receiver_may_send_the_same_signal_without_being_called_again(send: Send) -> None:
    signal, calls = Signal(), list[int]()

    def resend(**named: Any) -> None:
        calls.append(len(signal.send(None)))

    signal.connect(resend, once=True)
    signal.connect(ignore)
    send(signal)
    assert calls == [1]


def test_only_a_send_by_its_sender_calls_it() -> None:
    signal, sender, ear = Signal(), Thing(), Ear()
    connection = signal.connect(ear, sender=sender, once=True)
    signal.send(None)
    signal.send(Thing())
    assert connection.connected
    assert heard(signal, sender) == [ear]
    assert heard(signal, sender) == []
    assert left_of(signal) == (0, 0)


def test_connected_to_a_sender_and_to_all_it_is_called_once_for_each() -> None:
    signal, sender, ear = Signal(), Thing(), Ear()
    signal.connect(ear, once=True)
    signal.connect(ear, sender=sender, once=True)
    assert heard(signal, sender) == [ear, ear]
    assert heard(signal, sender) == []


def test_key_connected_with_another_once_is_refused() -> None:
    signal, ear = Signal(), Ear()
    connection = signal.connect(ear, once=True)
    assert signal.connect(ear, once=True) is connection
    with pytest.raises(ValueError, match="once=False"):
        signal.connect(ear)
    signal.send(None)
    assert not signal.connect(ear).once


@pytest.mark.parametrize("name", ["send", "send_robust", "asend", "asend_robust", "send_async"])
def test_it_is_not_called_again_though_it_has_failed(name: str) -> None:
    signal = Signal()
    signal.connect(raiser(Boom()), weak=False, once=True)
    if name in ("send", "asend", "send_async"):
        with pytest.raises(Boom):
            SENDS[name](signal)
    else:
        [error] = SENDS[name](signal)
        assert type(error) is Boom
    assert SENDS[name](signal) == []
    assert left_of(signal) == (0, 0)


@pytest.mark.parametrize("name", ["send", "asend", "here.asend"])
def test_it_stays_connected_where_an_earlier_receiver_raises(name: str) -> None:
    signal, ear = Signal(), Ear(response=7)
    raises = raiser(Boom())
    signal.connect(raises)
    connection = signal.connect(ear, once=True)
    with pytest.raises(Boom):
        SENDS[name](signal)
    assert connection.connected
    signal.disconnect(raises)
    assert SENDS[name](signal) == [7]


def test_it_stays_connected_where_a_running_loop_refuses_the_send() -> None:
    signal = Signal()
    connection = signal.connect(hear_async, once=True)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="asend"):
            signal.send(None)
        assert connection.connected

    asyncio.run(main())


def test_cancelled_asend_leaves_connected_what_it_has_not_called() -> None:
    signal, latch, ear = Signal(), Latch(), Ear()
    signal.connect(latch)
    connection = signal.connect(ear, once=True)

    async def main() -> None:
        task = asyncio.create_task(signal.asend(None))
        await asyncio.to_thread(latch.entered.wait, TIMEOUT)
        task.cancel()
        await asyncio.sleep(0)
        latch.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ear.calls == []
    assert connection.connected


# -- Sends that meet --


@pytest.mark.slow
@every_send
@pytest.mark.parametrize("tracked", [False, True])
def test_of_all_threads_that_send_exactly_one_calls_it(send: Send, tracked: bool) -> None:
    for _ in range(5):
        signal, ear = Signal(), Ear()
        signal.connect(ear, once=True, tracked=tracked)
        signal.connect(ignore)
        results = together(*[functools.partial(send, signal)] * 4)
        assert sorted(map(len, results)) == [1, 1, 1, 2]
        assert len(ear.calls) == 1
        wait_until(lambda: left_of(signal) == (1, 0))  # a callback: nobody waits for that


def test_of_sends_of_all_kinds_at_once_exactly_one_calls_it() -> None:
    sends = list(SENDS.values())
    for _ in range(5):
        signal, ear = Signal(), Ear()
        signal.connect(ear, once=True)
        results = together(*[functools.partial(each, signal) for each in sends])
        assert sum(map(len, results)) == len(ear.calls) == 1


def test_of_a_send_and_disconnects_exactly_one_has_it() -> None:
    for _ in range(50):
        signal, ear = Signal(), Ear()
        connection = signal.connect(ear, once=True)
        by_key = functools.partial(signal.disconnect, ear)
        had = together(functools.partial(heard, signal), by_key, connection.disconnect)
        assert sorted(map(bool, had)) == [False, False, True]
        assert had[0] == [ear] * len(ear.calls)


@pytest.mark.parametrize("name", SENDS)
def test_send_in_progress_leaves_out_what_another_has_called(name: str) -> None:
    signal, latch, ear = Signal(), Latch(), Ear(response=7)
    # It claims what it delivers before anything runs.
    late = name in (
        "send",
        "send_robust",
        "asend",
        "asend_robust",
        "here.asend",
        "here.asend_robust",
    )
    signal.connect(latch)
    signal.connect(ear, once=True)
    first: list[list[Any]] = []
    with ThreadPoolExecutor(1) as executor:
        sending = executor.submit(SENDS[name], signal)
        assert latch.entered.wait(TIMEOUT)
        signal.disconnect(latch)
        first.append(SENDS["send"](signal))
        latch.opened.set()
        got = sending.result(TIMEOUT)
    assert first == [[7] if late else []]
    assert len(got) == (1 if late else 2)
    assert len(ear.calls) == 1


def test_who_observes_hears_of_the_call_and_not_of_what_was_left_out() -> None:
    signal, seen = Signal(), Observed()

    def send_meanwhile(**named: Any) -> None:
        signal.disconnect(send_meanwhile)
        signal.send(None)

    signal.connect(send_meanwhile)
    signal.connect(ignore, once=True)
    with observe(seen):
        signal.send(None)
    assert seen.told.count("started") == seen.told.count("completed") == 2
    assert seen.told.count("sent") == 2


# -- What an executor refuses --


def refused(signal: Signal, error: type[Exception]) -> None:
    with pytest.raises(error):
        signal.send_async(None)


@pytest.mark.parametrize("tracked", [False, True])
def test_refused_send_leaves_it_connected_in_its_place(tracked: bool) -> None:
    ears = [Ear(response=n) for n in range(4)]
    with WorkerPool(1, max_pending=1, overflow="raise") as pool:
        signal = Signal(executor=pool)
        signal.connect(ears[0])
        one = signal.connect(ears[1], once=True, tracked=tracked)
        signal.connect(ears[2])
        two = signal.connect(ears[3], once=True, tracked=tracked, priority=1)
        with held(pool):
            pool.submit(int)
            refused(signal, QueueFull)
        assert one.connected
        assert two.connected
        assert [each.receiver for each in signal.receivers] == [ears[3], ears[0], ears[1], ears[2]]
        assert responses(signal.send(None)) == [3, 0, 1, 2]
        assert responses(signal.send(None)) == [0, 2]
    assert left_of(signal) == (2, 0)


def test_closed_pool_leaves_it_connected_and_another_kind_of_send_calls_it() -> None:
    pool, ear = WorkerPool(1), Ear()
    pool.shutdown()
    signal = Signal(executor=pool)
    signal.connect(ear, once=True)
    signal.connect(hear_async, once=True)
    refused(signal, PoolClosed)
    refused(signal, PoolClosed)
    assert len(signal.send(None)) == 2


def test_executor_that_keeps_no_order_leaves_it_connected() -> None:
    with ThreadPoolExecutor(1) as executor:
        signal = Signal(executor=executor)
        connection = signal.connect(ignore, once=True, ordered=True)
        refused(signal, TypeError)
        with pytest.raises(TypeError):
            signal.prepare(None)
        assert connection.connected


class Meanwhile(Executor):
    """Refuses a send, and calls something in the middle of that."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call

    def submit(self, *arguments: Any, **named: Any) -> "Future[Any]":
        self.call()
        raise KeyboardInterrupt


def meanwhile(signal: Signal, call: Callable[[], object]) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.via(Meanwhile(call)).send_async(None)


def test_while_a_send_is_being_refused_others_do_not_find_it() -> None:
    signal, ear, found = Signal(), Ear(), list[object]()
    connection = signal.connect(ear, once=True)
    signal.connect(ignore, sender="other")

    def look() -> None:
        found.append(heard(signal))
        found.append(connection.connected)
        found.append(signal.has_listeners())
        found.append(len(signal.receivers))

    meanwhile(signal, look)
    assert found == [[], False, False, 1]
    assert connection.connected
    assert signal.has_listeners()
    assert heard(signal) == [ear]


@pytest.mark.parametrize("by_key", [False, True])
@pytest.mark.parametrize("tracked", [False, True])
def test_disconnected_meanwhile_it_does_not_come_back(by_key: bool, tracked: bool) -> None:
    signal, ear, found = Signal(), Ear(), list[bool]()
    connection = signal.connect(ear, once=True, tracked=tracked)

    def disconnect() -> None:
        found.append(signal.disconnect(ear) if by_key else connection.disconnect())

    meanwhile(signal, disconnect)
    assert found == [False]
    assert not connection.connected
    assert heard(signal) == []
    assert left_of(signal) == (0, 0)


@pytest.mark.parametrize("tracked", [False, True])
def test_connected_anew_meanwhile_the_new_one_stays_alone(tracked: bool) -> None:
    signal, ear, made = Signal(), Ear(), list[Any]()
    old = signal.connect(ear, once=True, tracked=tracked)
    signal.connect(ignore)
    meanwhile(signal, lambda: made.append(signal.connect(ear, once=True, tracked=tracked)))
    assert made[0] is not old
    assert made[0].connected
    assert not old.connected
    assert heard(signal) == [ignore, ear]
    assert left_of(signal) == (1, 0)


def test_refused_again_and_again_it_leaves_nothing_behind() -> None:
    signal, ear = Signal(), Ear()
    connection = signal.connect(ear, once=True)
    for _ in range(100):
        meanwhile(signal, lambda: None)
    assert inside.claims_on(connection) == []
    assert heard(signal) == [ear]


def test_it_dies_while_a_send_is_being_refused() -> None:
    signal, ears = Signal(), [Ear()]
    signal.connect(ears[0], once=True)
    with uncollected():
        meanwhile(signal, ears.clear)
        gc.collect()
    assert not signal.has_listeners()
    assert left_of(signal) == (0, 0)


# -- What becomes of a delivery --


@pytest.mark.parametrize("tracked", [False, True])
def test_cancelled_delivery_does_not_connect_it_again(tracked: bool) -> None:
    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        connection = signal.connect(ignore, once=True, tracked=tracked)
        with held(pool):
            assert signal.send_async(None).cancel() == 1
        assert not connection.connected
    assert left_of(signal) == (0, 0)


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("kind", [WorkerPool, ThreadPoolExecutor])
def test_dropped_prepared_send_does_not_connect_it_again(tracked: bool, kind: Any) -> None:
    with kind(1) as executor:
        signal = Signal(executor=executor)
        connection = signal.connect(ignore, once=True, tracked=tracked)
        prepared = signal.prepare(None)
        assert not connection.connected
        assert heard(signal) == []
        prepared.drop()
        with pytest.raises(DeliveryDropped):
            prepared.deliveries.results(TIMEOUT)
        assert not connection.connected
    assert left_of(signal) == (0, 0)


@pytest.mark.parametrize("by_key", [False, True])
@pytest.mark.parametrize("kind", [WorkerPool, ThreadPoolExecutor])
def test_tracked_disconnect_cancels_its_delivery_which_was_claimed(by_key: bool, kind: Any) -> None:
    ear, latch = Ear(), Latch()
    with kind(1) as executor:
        signal = Signal(executor=executor)
        connection = signal.connect(ear, once=True, tracked=True)
        executor.submit(latch)
        assert latch.entered.wait(TIMEOUT)
        deliveries = signal.send_async(None)
        if by_key:
            assert not signal.disconnect(ear, wait=True)
        else:
            assert not connection.disconnect(wait=True)
        latch.opened.set()
        with pytest.raises(CancelledError):
            deliveries.results(TIMEOUT)
    assert ear.calls == []
    assert left_of(signal) == (0, 0)


@pytest.mark.parametrize("by_key", [False, True])
@pytest.mark.parametrize("name", ["send", "send_robust", "send_async", "asend"])
def test_tracked_disconnect_waits_for_the_call_that_has_claimed_it(name: str, by_key: bool) -> None:
    signal, latch, order = Signal(), Latch(), list[str]()

    def receive(**named: Any) -> None:
        latch()
        order.append("ran")

    connection = signal.connect(receive, once=True, tracked=True)
    with ThreadPoolExecutor(2) as executor:
        sending = executor.submit(SENDS[name], signal)
        assert latch.entered.wait(TIMEOUT)
        with pytest.raises(TimeoutError):
            signal.disconnect(receive, wait=0) if by_key else connection.disconnect(wait=0)

        def disconnect() -> None:
            signal.disconnect(receive, wait=True) if by_key else connection.disconnect(wait=True)
            order.append("waited")

        waiting = executor.submit(disconnect)
        latch.opened.set()
        waiting.result(TIMEOUT)
        sending.result(TIMEOUT)
    assert order == ["ran", "waited"]
    assert left_of(signal) == (0, 0)


# -- Nothing left behind --


@every_send
def test_receiver_and_connection_go_after_the_call(send: Send) -> None:
    signal = Signal()

    def connect_and_send() -> "weakref.ref[Any]":
        ear = Ear()
        signal.connect(ear, weak=False, once=True, tracked=True)
        send(signal)
        return weakref.ref(ear)

    reference = connect_and_send()
    # A worker may be about to let go of it.
    wait_until(lambda: gc.collect() >= 0 and reference() is None)
    assert left_of(signal) == (0, 0)


def test_weak_receiver_that_dies_uncalled_leaves_nothing_behind() -> None:
    signal = Signal()
    ear = Ear()
    connection = signal.connect(ear, once=True, tracked=True)
    del ear
    gc.collect()
    assert not connection.connected
    assert heard(signal) == []
    assert left_of(signal) == (0, 0)


# -- In the middle --


def sends_at_every_point(act: Callable[[Signal, Ear], object]) -> int:
    """Have a handler send in the middle of ``act``, at each point; how many there are."""
    at, reached = FIRST, 0
    while True:
        signal, ear = Signal(), Ear()
        connection = signal.connect(ear, once=True)
        got: list[object] = []
        with Handler(at, lambda got=got, signal=signal: got.append(heard(signal))) as handler:
            answer = act(signal, ear)
        if not handler.reached:
            return reached
        calls = len(ear.calls)
        assert calls + (answer is True) == 1, handler.where
        assert not connection.connected, handler.where
        assert left_of(signal) == (0, 0), handler.where
        reached += 1
        at += STRIDE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["send", "send_robust", "via.send_async", "here.asend"])
def test_handler_that_sends_in_the_middle_of_a_send_calls_it_or_does_not(name: str) -> None:
    assert sends_at_every_point(lambda signal, ear: SENDS[name](signal))


def test_handler_that_sends_in_the_middle_of_a_disconnect_calls_it_or_does_not() -> None:
    assert sends_at_every_point(lambda signal, ear: signal.disconnect(ear))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("name", ["send", "send_robust", "send_async", "prepare", "disconnect"])
def test_interrupted_call_has_claimed_it_or_has_not(name: str, tracked: bool) -> None:
    gc.freeze()  # to collect takes no time then
    at, raised = FIRST, 0
    with WorkerPool(1) as pool:
        pool.submit(int).result(TIMEOUT)
        while True:
            signal, begun = Signal(executor=pool), list[int]()

            def receive(begun: list[int] = begun, **named: Any) -> None:
                begun.append(1)

            connection = signal.connect(receive, weak=False, once=True, tracked=tracked)
            other = signal.connect(ignore)
            done = []
            with Interrupter(at) as interrupter:
                if name == "disconnect":
                    done.append(connection.disconnect())
                elif name == "prepare":
                    done.append(signal.prepare(None))
                else:
                    done.append(getattr(signal, name)(None))
            if not interrupter.raised:
                assert done
                assert raised
                gc.unfreeze()
                return
            raised += 1
            where = interrupter.where
            del interrupter  # whose frames may have the Prepared
            if name == "prepare":
                with Interrupter(0):
                    pass  # sys.monitoring keeps the last one
                gc.collect()
            if name == "prepare" and done:
                done[0].submit()  # type: ignore[attr-defined]
            assert pool.drain(TIMEOUT)
            connected = connection.connected
            if name in ("disconnect", "prepare") and not done:
                assert not begun, where  # a Prepared that nobody has got is lost, and dropped
            elif "receive" not in where:
                assert connected != bool(begun), where
            if connected:
                assert signal.receivers == [connection, other], where
                assert heard(signal) == [receive, ignore], where
            assert heard(signal) == [ignore], where
            assert left_of(signal)[0] == 1, where
            at += STRIDE


FORKED = """
import os, threading
from concurrent.futures import Executor
from tsignals import Signal

calls = []
def receive(**named): calls.append(1)
signal = Signal()
connection = signal.connect(receive, once=True)
entered, go_on = threading.Event(), threading.Event()

class Slow(Executor):
    def submit(self, call):
        entered.set()
        assert go_on.wait(60)
        call()
        raise RuntimeError

sending = threading.Thread(target=signal.via(Slow()).send_async, args=(None,))
sending.start()
assert entered.wait(60)
assert not connection.connected
pid = os.fork()
if not pid:
    # Its thread is not here, and so nobody else would call it.
    right = connection.connected and len(signal.send(None)) == 1 and signal.send(None) == []
    os._exit(0 if right and calls == [1] else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert not connection.connected and signal.send(None) == []
go_on.set()
sending.join()
assert calls == [1] and signal.send(None) == []
print("right")
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs os.fork")
def test_child_of_a_fork_is_not_kept_from_it_by_a_send_of_its_parent() -> None:
    assert "right" in run(FORKED).stdout
