"""``tsignals.testing``: what was sent is captured, and receivers are muted, in one context."""

import asyncio
import contextlib
import contextvars
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import (
    CancelledError,
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from typing import Any

import pytest
from helpers import (
    TIMEOUT,
    Boom,
    Ear,
    Latch,
    Running,
    Thing,
    assert_gone,
    awaited,
    ignore,
    quiet,
    together,
)
from inside import observers_now
from pools import held

from tsignals import (
    DeliveryDropped,
    Signal,
    WorkerPool,
    background,
    receiver_failed,
)
from tsignals.observing import is_captured
from tsignals.testing import (
    Captured,
    Sent,
    Steps,
    capture,
    connected,
    fresh_pool,
    inline,
    muted,
)

pytestmark = pytest.mark.usefixtures("nobody_observes")


def plain(**named: Any) -> str:
    return "plain"


async def async_ear(**named: Any) -> str:
    await asyncio.sleep(0)
    return "async"


def failing(**named: Any) -> None:
    raise Boom


def signal_with(*receivers: Any, name: str = "paid", **arguments: Any) -> Signal:
    signal = Signal(name=name)
    for receiver in receivers:
        signal.connect(receiver, weak=False, **arguments)
    return signal


def submitted(signal: Any, sender: object, **named: Any) -> Any:
    prepared = signal.prepare(sender, **named)
    prepared.submit()
    return prepared.deliveries.outcomes(TIMEOUT)


WAYS: dict[str, Callable[..., Any]] = {
    "send": Signal.send,
    "send_robust": Signal.send_robust,
    "asend": lambda signal, *of, **named: awaited(signal.asend, *of, **named),
    "asend_robust": lambda signal, *of, **named: awaited(signal.asend_robust, *of, **named),
    "here": lambda signal, *of, **named: awaited(signal.here.asend, *of, **named),
    "send_async": lambda signal, *of, **named: signal.send_async(*of, **named).outcomes(TIMEOUT),
    "prepare": submitted,
}


def via(make: Callable[[], Executor]) -> Callable[..., Any]:
    def send(signal: Signal, *of: Any, **named: Any) -> Any:
        with make() as executor:
            return signal.via(executor).send_async(*of, **named).outcomes(TIMEOUT)

    return send


# -- capture --


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "unheard"])
@pytest.mark.parametrize("way", [*WAYS, "pool", "around", "threads"])
def test_every_way_to_send_is_captured(way: str, heard: bool) -> None:
    executors: dict[str, Callable[[], Executor]] = {
        "pool": lambda: WorkerPool(1),
        "around": lambda: WorkerPool(1, around=contextlib.nullcontext),
        "threads": lambda: ThreadPoolExecutor(1),
    }
    send = WAYS[way] if way in WAYS else via(executors[way])
    sender, signal = Thing(), signal_with(*[plain, async_ear] * heard)
    send(signal, sender, size=0)
    with capture(signal) as sent:
        pairs = send(signal, sender, size=1)
    send(signal, sender, size=2)
    assert sent == [Sent(signal, sender, {"size": 1}, pairs)]
    assert sent.assert_once(sender=sender, signal=signal, size=1) is sent[0]
    assert pairs == [(plain, "plain"), (async_ear, "async")] * heard


def test_send_to_a_background_receiver_is_captured_once_and_its_work_is_followed() -> None:
    inner = signal_with(name="inner")

    def works(**named: Any) -> None:
        inner.send(None)

    works_later = background(works)
    with connected(signal := signal_with(), works_later), capture(signal, inner) as sent:
        [(_, delivery)] = signal.send(None)
        sent.wait(2, TIMEOUT)
        delivery.result(TIMEOUT)
    assert [each.signal for each in sent] == [signal, inner]
    assert sent[0].responses == [(works_later, delivery)]


def test_signal_of_another_library_is_captured_where_background_receivers_hear_it() -> None:
    dispatch = pytest.importorskip("django.dispatch")
    signal = dispatch.Signal()
    receiver = background(plain)
    with connected(signal, receiver), capture(signal) as sent, capture() as everything:
        signal.send(Thing, size=1)[0][1].result(TIMEOUT)
    assert sent == everything == [Sent(signal, Thing, {"size": 1}, [(receiver, "plain")])]
    assert not signal.has_listeners()


def test_without_signals_all_are_captured() -> None:
    first, second = signal_with(name="first"), signal_with(name="second")
    with capture() as sent:
        first.send(None)
        second.send(None)
    assert [each.signal for each in sent] == [first, second]


def test_what_is_sent_in_pools_in_threads_of_asend_and_in_tasks_is_captured() -> None:
    inner = signal_with(name="inner")
    outer = signal_with(lambda **named: inner.send(None, **{"by": named["by"]}))

    async def tasks() -> None:
        await asyncio.gather(*(outer.asend(None, by=n) for n in range(3)))

    with capture(inner) as sent:
        outer.send_async(None, by="pool").results(TIMEOUT)
        with ThreadPoolExecutor(1) as executor:
            outer.via(executor).send_async(None, by="threads").results(TIMEOUT)
        asyncio.run(tasks())
    assert {each.named["by"] for each in sent} == {"pool", "threads", 0, 1, 2}


def test_threads_and_tasks_never_see_each_others() -> None:
    signal = signal_with(plain)
    outer = signal_with(lambda n, **named: signal.send(n), name="outer")

    def one(n: int) -> None:
        for _ in range(20):
            with capture(signal) as sent:
                signal.send(n)
                outer.send_async(None, n=n).results(TIMEOUT)
            assert [each.sender for each in sent] == [n, n]

    together(*[lambda n=n: one(n) for n in range(4)])

    async def task(n: int) -> None:
        with capture(signal) as sent:
            for _ in range(5):
                await signal.asend(n)
                await outer.asend(None, n=n)
                await asyncio.sleep(0)
        assert [each.sender for each in sent] == [n] * 10

    async def main() -> None:
        await asyncio.gather(*(task(n) for n in range(5)))

    asyncio.run(main())


def test_captures_nest_and_end_in_any_order() -> None:
    signal = Signal()
    first, second = capture(signal), capture(signal)
    first.__enter__()
    signal.send(1)
    second.__enter__()
    signal.send(2)
    first.__exit__(None, None, None)
    signal.send(3)
    second.__exit__(None, None, None)
    signal.send(4)
    assert [each.sender for each in first] == [1, 2]
    assert [each.sender for each in second] == [2, 3]


def test_a_view_stands_for_its_signal() -> None:
    signal = Signal()
    with capture(signal.here) as sent, WorkerPool(1) as pool:
        signal.via(pool).send_async(None)
    sent.assert_once()


def test_responses_come_in_call_order_with_what_was_raised() -> None:
    latch = Latch()
    signal = signal_with(latch, failing, plain)
    with quiet(), capture(signal) as sent:
        deliveries = signal.send_async(None)
        assert latch.entered.wait(TIMEOUT)
        for _, delivery in deliveries[1:]:
            delivery.exception(TIMEOUT)
        failed = deliveries[1][1].exception()
        assert sent[0].responses == [(failing, failed), (plain, "plain")]
        latch.opened.set()
        deliveries.wait(TIMEOUT)
        with pytest.raises(Boom) as raised:
            signal_with(plain, failing, plain).send(None)
    assert sent[0].responses == deliveries.outcomes()
    assert raised.value is not failed


def test_async_receivers_come_last_where_send_calls_them_last() -> None:
    class Asks:
        async def __call__(self, **named: Any) -> str:
            return "asked"

    signal = signal_with(async_ear, asks := Asks(), plain)
    with capture(signal) as sent:
        pairs = signal.send(None)
        outcomes = awaited(signal.asend_robust, None)
        deliveries = signal.send_async(None).results(TIMEOUT)
    assert [each.responses for each in sent] == [pairs, outcomes, deliveries]
    assert pairs[0][0] is plain
    assert deliveries[1][0] is asks


def test_error_of_send_is_captured_and_the_rest_was_not_called() -> None:
    with capture() as sent, pytest.raises(Boom) as raised:
        signal_with(plain, failing, plain).send(None)
    assert sent[0].responses == [(plain, "plain"), (failing, raised.value)]


def test_responses_say_why_a_receiver_was_not_called() -> None:
    with capture() as sent, WorkerPool(1) as pool, held(pool):
        signal = signal_with(plain)
        signal.prepare(None).drop()
        assert signal.via(pool).send_async(None).cancel() == 1
    [[(_, dropped)], [(_, cancelled)]] = [each.responses for each in sent]
    assert type(dropped) is DeliveryDropped
    assert isinstance(cancelled, CancelledError)


def test_what_processes_answer_is_captured() -> None:
    with ProcessPoolExecutor(1) as executor, capture(for_processes) as sent:
        with connected(for_processes, plain):
            deliveries = for_processes.via(executor).send_async(None)
            assert deliveries.results(TIMEOUT) == [(plain, "plain")]
    assert sent[0].responses == [(plain, "plain")]


for_processes = Signal()


def test_work_under_way_at_the_end_of_the_block_is_captured_to_its_end() -> None:
    latch, inner = Latch(), Signal(name="inner")

    def then_sends(**named: Any) -> str:
        latch()
        inner.send(None)
        return "through"

    outer = signal_with(then_sends, name="outer")
    with capture(outer, inner) as sent:
        deliveries = outer.send_async(None)
        assert latch.entered.wait(TIMEOUT)
    inner.send("not in the block")
    latch.opened.set()
    sent.wait(2, TIMEOUT)
    deliveries.wait(TIMEOUT)
    assert [each.signal for each in sent] == [outer, inner]
    assert sent[0].responses == [(then_sends, "through")]


def test_work_that_outlives_a_capture_leaves_nothing_behind() -> None:
    latch = Latch()
    signal = signal_with(latch)
    with capture(signal) as sent, WorkerPool(1) as pool:
        deliveries = signal.via(pool).send_async(None)
        assert latch.entered.wait(TIMEOUT)
        gone = weakref.ref(sent)
        sent.__exit__(None, None, None)
        assert observers_now()  # as long as something is under way
        del sent
        latch.opened.set()
        assert deliveries.wait(TIMEOUT)
        assert not observers_now()
    assert_gone(gone)


def test_context_that_outlives_the_block_has_nothing_of_it() -> None:
    signal = signal_with(plain)
    with capture(signal) as sent, muted(signal):
        context = contextvars.copy_context()
        assert context.run(signal.send, None) == []
    with capture(signal):  # somebody observes
        assert context.run(signal.send, None) == [(plain, "plain")]
    assert len(sent) == 1
    gone = weakref.ref(sent)
    del sent
    assert_gone(gone)


def test_errors_that_somebody_keeps_keep_nobody_observing() -> None:
    errors = list[Any]()
    with quiet(), muted(), connected(signal := signal_with(), failing):
        errors += [error for _, error in signal.send_robust(None)]
    with quiet(), capture() as sent:
        signal_with(failing).send_async(None).wait(TIMEOUT)
        errors += sent[0].responses
    assert not observers_now()


def test_wait_wakes_when_enough_was_sent() -> None:
    signal = signal_with(name="inner")
    outer = signal_with(lambda **named: signal.send(None))
    with capture(signal) as sent:
        for count in range(1, 20):
            outer.send_async(None)
            assert sent.wait(count, TIMEOUT) is sent
            assert len(sent) == count


def test_wait_gives_up_and_says_what_was_sent() -> None:
    with capture(signal := signal_with(name="paid")) as sent:
        signal.send("shop", order=17)
        with pytest.raises(AssertionError, match=r"'paid' .* 2 times(.|\n)*'shop', order=17"):
            sent.wait(2, timeout=0)
    assert sent.wait(1, timeout=0) is sent
    with capture(signal) as sent:
        waiting = Running(lambda: sent.wait(1, timeout=TIMEOUT))
        signal.send(None)
        assert waiting.result() is sent


def test_value_may_have_the_name_of_any_argument() -> None:
    paid = Signal(name="paid")
    with capture(paid) as sent:
        paid.send(None, self=1, named=2)
    sent.assert_once(self=1, named=2)
    with pytest.raises(AssertionError, match="self=2"):
        sent.assert_once(self=2)


def test_assertions_say_what_was_sent_instead() -> None:
    paid, shipped = Signal(name="paid"), Signal(name="shipped")
    with capture(paid) as sent:
        sent.assert_none()
        shipped.send(None)
        with pytest.raises(AssertionError, match="'paid' was to be sent once, order=17; it was"):
            sent.assert_once(order=17)
        with pytest.raises(AssertionError, match="other signals that were sent: 'shipped'"):
            sent.assert_once()
        paid.send("shop", order=18)
        with pytest.raises(AssertionError, match=r"1\. 'paid' by 'shop', order=18"):
            sent.assert_once(order=17)
        with pytest.raises(AssertionError, match="order=18"):
            sent.assert_none()
        with pytest.raises(AssertionError):
            sent.assert_once(order=18, extra=1)
        with pytest.raises(AssertionError):
            sent.assert_once(sender="another", order=18)
        assert sent.assert_once(sender="shop", order=18).sender == "shop"
        paid.send("shop", order=18)
        with pytest.raises(AssertionError, match=r"2\. 'paid'"):
            sent.assert_once(order=18)


def test_assertions_bear_what_cannot_be_shown_and_much_of_it() -> None:
    class Unshowable:
        def __repr__(self) -> str:
            raise Boom

    signal = Signal(name="paid")
    with capture(signal) as sent:
        for n in range(100):
            signal.send(Unshowable(), n=n, much="x" * 10_000)
    with pytest.raises(AssertionError, match=r"\n  \.\.\. 81 more\n") as raised:
        sent.assert_none()
    assert len(str(raised.value)) < 10_000


@pytest.mark.parametrize("make", [capture, muted, inline, Steps, fresh_pool])
@pytest.mark.parametrize("over", [False, True], ids=["within itself", "after its end"])
def test_block_is_entered_once(make: Callable[[], Any], over: bool) -> None:
    block = make()
    with contextlib.ExitStack() as stack:
        stack.enter_context(block)
        if over:
            stack.close()
        with pytest.raises(RuntimeError, match=r"make (another one|others)"), block:
            pytest.fail("it was entered")
    assert not observers_now()


def test_capture_that_is_not_entered_proves_nothing() -> None:
    for check in (Captured.assert_none, Captured.assert_once, Captured.wait):
        with pytest.raises(RuntimeError, match="with capture"):
            check(capture())
    with capture() as sent, pytest.raises(RuntimeError, match="make another"):
        sent.__enter__()


@pytest.mark.parametrize("what", ["paid", 17, Signal, None])
def test_capture_and_muted_want_signals(what: Any) -> None:
    with pytest.raises(TypeError, match="needs signals"):
        capture(what)
    with pytest.raises(TypeError, match=r"needs tsignals\.Signal"):
        muted(what)


# -- muted --


@pytest.mark.parametrize("way", [*WAYS, "threads"])
def test_muted_signal_calls_nobody_in_any_way_to_send(way: str) -> None:
    heard = list[Any]()

    def hear(**named: Any) -> None:
        heard.append(named)

    send = WAYS[way] if way in WAYS else via(lambda: ThreadPoolExecutor(1))
    signal = signal_with(hear, async_ear, background(hear))
    with muted(signal), capture(signal) as sent:
        assert send(signal, None) == []
        assert not signal.has_listeners()
    assert not heard
    assert sent == [Sent(signal, None, {}, [])]
    assert signal.has_listeners()


def test_muted_follows_work_into_pools_to_its_end() -> None:
    latch, inner = Latch(), Signal(name="inner")
    inner.connect(ear := Ear().hear, weak=False)

    def then_sends(**named: Any) -> object:
        latch()
        return inner.send(None)

    outer = signal_with(then_sends)
    with muted(inner):
        deliveries = outer.send_async(None)
        assert latch.entered.wait(TIMEOUT)
    assert inner.send(None) == [(ear, None)]
    latch.opened.set()
    assert deliveries.results(TIMEOUT) == [(then_sends, [])]


def test_muted_holds_in_its_own_context_only() -> None:
    signal = signal_with(plain)
    with muted(signal):
        assert Running(contextvars.Context().run, signal.send, None).result() == [(plain, "plain")]
        assert contextvars.copy_context().run(signal.send, None) == []

    async def silent() -> None:
        with muted(signal):
            await asyncio.sleep(0)
            assert await signal.asend(None) == []

    async def loud() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            assert await signal.asend(None) == [(plain, "plain")]

    async def main() -> None:
        await asyncio.gather(silent(), loud(), silent(), loud())

    asyncio.run(main())


def test_muted_blocks_nest() -> None:
    signal, other = signal_with(plain), signal_with(plain)
    with muted(signal):
        with muted(signal, other):
            assert signal.send(None) == other.send(None) == []
        assert signal.send(None) == []
        assert other.send(None) == [(plain, "plain")]
    assert signal.send(None) == [(plain, "plain")]


def test_single_receivers_are_muted_as_they_are_connected() -> None:
    first, second = Ear(), Ear()
    mail = background(plain)
    signal = signal_with(first.hear, second.hear, plain, mail)
    other = signal_with(plain)
    with muted(signal, receivers=[first.hear, mail]):
        assert [receiver for receiver, _ in signal.send(None)] == [second.hear, plain]
        assert other.send(None) == [(plain, "plain")]
    with muted(receivers=plain):
        assert plain not in [receiver for receiver, _ in signal.send(None)]
        assert other.send(None) == []
    with muted(signal, receivers=[]):
        assert len(signal.send(None)) == 4
    with pytest.raises(TypeError, match="needs receivers"):
        muted(receivers=["plain"])  # type: ignore[list-item]


def test_muting_all_tells_of_failures_all_the_same() -> None:
    failures = list[Any]()

    def note(failure: Any, **named: Any) -> None:
        failures.append(failure)

    def fails_in_a_muted_block(**named: Any) -> None:
        with muted():
            assert signal_with(plain).send(None) == []
            signal.send_robust(None)
            with muted(receiver_failed):
                assert not receiver_failed.has_listeners()
        raise Boom

    signal = signal_with(fails_in_a_muted_block)
    with quiet(), connected(receiver_failed, note):
        signal.send_robust(None)
    assert [failure.receiver for failure in failures] == [fails_in_a_muted_block]


def test_receivers_that_hear_one_sender_are_muted_too() -> None:
    sender = Thing()
    signal = signal_with(plain, sender=sender)
    for _ in range(40):
        signal.send(sender)
    with muted(signal):
        assert signal.send(sender) == []
        assert not signal.has_listeners(sender)
    assert signal.send(sender) == [(plain, "plain")]


# -- connected --


def test_connected_for_the_length_of_a_block() -> None:
    signal = Signal()
    with connected(signal, lambda **named: "here", priority=3) as connection:
        assert connection.priority == 3
        assert [response for _, response in signal.send(None)] == ["here"]
    assert not connection.connected
    with pytest.raises(Boom), connected(signal, ignore):
        raise Boom
    assert not signal.has_listeners()
    with pytest.raises(ValueError, match="keyword"), connected(signal, lambda: None):
        pass


def test_what_was_connected_before_stays() -> None:
    signal = signal_with(plain)
    with connected(signal, plain), connected(signal, plain):
        assert len(signal.receivers) == 1
    assert len(signal.receivers) == 1


def test_the_last_of_several_blocks_disconnects() -> None:
    signal, inside = Signal(), threading.Barrier(3)
    first = contextlib.ExitStack()
    first.enter_context(connected(signal, plain))
    with connected(signal, plain):
        first.close()
        assert signal.send(None) == [(plain, "plain")]
    assert not signal.has_listeners()

    def one() -> None:
        with connected(signal, plain):
            inside.wait(TIMEOUT)
            assert signal.send(None) == [(plain, "plain")]
            inside.wait(TIMEOUT)

    together(one, one, one)
    assert not signal.has_listeners()


def test_what_is_no_signal_receiver_or_number_is_refused_by_its_name() -> None:
    with pytest.raises(TypeError, match="connected needs a signal, not 'int'"), connected(3, plain):  # type: ignore[arg-type]
        pass
    with pytest.raises(TypeError, match="muted needs receivers, not 'int'"):
        muted(Signal(), receivers=3)  # type: ignore[arg-type]
    with capture() as sent:
        for count in ("1", None, 1.5):
            with pytest.raises(TypeError, match="count must be an int, not"):
                sent.wait(count)  # type: ignore[arg-type]


def test_end_of_a_block_whose_callbacks_wait_for_another_block() -> None:
    """What it disconnects may be tracked: that cancels what is queued, and calls its callbacks."""
    signal, other, entered = Signal(), Signal(), list[object]()

    def enter() -> None:
        with connected(other, plain) as connection:
            entered.append(connection)

    with WorkerPool(1) as pool, held(pool):
        signal.executor = pool
        with connected(signal, plain, tracked=True):
            [(_, delivery)] = signal.send_async(None)
            delivery.add_done_callback(lambda future: Running(enter).result())
        assert delivery.cancelled()
        assert len(entered) == 1


def test_block_that_begins_as_the_last_one_of_its_connection_ends_has_its_own() -> None:
    signal, ear = Signal(), Ear()

    def begin(future: object) -> None:
        with connected(signal, ear.hear, tracked=True):
            assert [each.receiver for each in signal.receivers] == [ear.hear]
            signal.send(None)

    with WorkerPool(1) as pool, held(pool):
        signal.executor = pool
        with connected(signal, ear.hear, tracked=True):
            [(_, delivery)] = signal.send_async(None)
            delivery.add_done_callback(begin)
        assert delivery.cancelled()
    assert len(ear.calls) == 1
    assert not signal.has_listeners()


def test_signal_of_blinker_cannot_be_captured_by_name() -> None:
    """It does not tell the receiver which signal that hears: it would seem not to be sent."""
    blinker = pytest.importorskip("blinker")
    with pytest.raises(TypeError, match=r"cannot capture 'paid'.*capture\(\) without arguments"):
        capture(blinker.NamedSignal("paid"))


def test_signals_of_other_libraries_can_be_connected() -> None:
    blinker = pytest.importorskip("blinker")
    signal, sender = blinker.Signal(), Thing()

    def hear(sender: object) -> str:
        return "heard"

    with connected(signal, hear, sender=sender):
        assert [response for _, response in signal.send(sender)] == ["heard"]
        assert signal.send(Thing()) == []
    assert signal.send(sender) == []


# -- Many at once --


def test_captures_come_and_go_while_others_send() -> None:
    signal = signal_with(plain)

    def sends() -> None:
        for _ in range(200):
            assert signal.send(None) == [(plain, "plain")]

    def captures(n: int) -> None:
        with WorkerPool(2) as pool:
            view = signal.via(pool)
            for _ in range(15):
                with capture(signal) as sent, muted(signal):
                    signal.send(n)
                with capture(signal) as more:
                    deliveries = [view.send_async(n) for _ in range(4)]
                    for each in as_completed(d for ds in deliveries for _, d in ds):
                        assert each.result() == "plain"
                assert sent == [Sent(signal, n, {}, [])]
                assert more == [Sent(signal, n, {}, [(plain, "plain")])] * 4

    together(sends, sends, *[lambda n=n: captures(n) for n in range(3)])


@pytest.mark.parametrize("listens", [False, True])
def test_failure_is_captured_whoever_listens(listens: bool) -> None:
    """``receiver_failed`` is sent where somebody hears it, or asks for it."""
    with contextlib.ExitStack() as stack:
        if listens:
            stack.enter_context(connected(receiver_failed, plain))
        failed = stack.enter_context(capture(receiver_failed))
        with quiet(), WorkerPool(1) as pool:
            signal_with(failing).send_robust(None)
            signal_with(failing).via(pool).send_async(None).wait(TIMEOUT)
    assert [type(sent.named["failure"].exception) for sent in failed] == [Boom, Boom]


def test_value_that_cannot_be_compared_is_another() -> None:
    class Array:
        def __eq__(self, other: object) -> Any:
            return self

        def __bool__(self) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

    signal, array = signal_with(plain), Array()
    with capture(signal) as sent:
        signal.send(None, of=array)
    sent.assert_once(of=array)
    with pytest.raises(AssertionError, match="sent was"):
        sent.assert_once(of=Array())


def test_connected_to_a_view_leaves_what_was_connected() -> None:
    signal = signal_with(plain)
    for view in (signal.via(None), signal.here):
        with connected(view, plain):
            assert len(signal.receivers) == 1
        assert len(signal.receivers) == 1


def test_whether_a_test_captures_a_signal_can_be_asked() -> None:
    signal, other = signal_with(plain), signal_with(plain)
    assert not is_captured(signal)
    with capture(signal), capture(other):
        assert is_captured(signal)
        assert not contextvars.Context().run(is_captured, signal)
    with capture():  # what is sent, and no more than that
        assert not is_captured(signal)
    assert not is_captured(signal)
