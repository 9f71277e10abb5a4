"""Observers that hear of sends and nothing else, and those that hear of nothing."""

import contextlib
import signal as signals
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import inside
import pytest
from helpers import TIMEOUT, Latch, Running, Thing, ignore, quiet, steps
from points import Interrupter

from tsignals import Signal, WorkerPool, background
from tsignals.observing import Event, Observer, observe


class Sends(Observer):
    """Takes down what is sent, and by whom."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.contents: list[tuple[Any, dict[str, Any]]] = []

    def sent(self, event: Event) -> None:
        self.heard.append(event)
        self.contents.append(event.contents())


class All(Sends):
    """Counts what else there is, by name and place."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, int | None]] = Counter()

    def started(self, event: Event) -> None:
        self.counts["started", event.place] += 1

    def ended(self, event: Event) -> None:
        self.counts["ended", event.place] += 1

    def refused(self, event: Event) -> None:
        self.counts["refused", event.place] += 1


def functions(count: int) -> list[Any]:
    return [lambda n=n, **named: n for n in range(count)]


class Ear:
    def hear(self, **named: Any) -> str:
        return "heard"

    def fail(self, **named: Any) -> None:
        raise ValueError


def methods(count: int) -> list[Any]:
    return [Ear().hear for _ in range(count)]


@pytest.mark.parametrize("verb", ["send", "send_robust"])
@pytest.mark.parametrize("weak", [True, False], ids=["weak", "strong"])
@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("make", [functions, methods])
def test_who_hears_sends_alone_is_told_of_each_before_its_receivers_are_called(
    make: Callable[[int], list[Any]], count: int, weak: bool, verb: str
) -> None:
    signal, sender, receivers = Signal(), Thing(), make(count)
    for receiver in receivers:
        signal.connect(receiver, weak=weak)
    send = getattr(signal, verb)
    pairs = send(sender, size=0)
    sends, everything = Sends(), All()
    with observe(sends):
        for size in range(40):  # with names of their own, too
            assert send(sender, size=size) == pairs
            assert send(sender, **{f"name{size}": size}) == pairs
        with observe(everything):
            assert send(sender, size=40) == pairs
        assert send(sender, size=41) == pairs
    assert send(sender, size=42) == pairs
    assert len(sends.heard) == 82
    assert {event.receivers for event in sends.heard} == {tuple(receivers)}
    assert {event.mode for event in sends.heard} == {verb}
    assert {event.sender_type for event in sends.heard} == {Thing}
    assert len({event.send for event in sends.heard}) == 82
    assert sends.contents[-2:] == [(sender, {"size": 40}), (sender, {"size": 41})]
    [both] = everything.heard
    assert both is sends.heard[-2]


def test_senders_with_receivers_of_their_own_are_heard() -> None:
    signal, one, other = Signal(), Thing(), Thing()
    for_all, for_one = functions(2)
    signal.connect(for_all)
    signal.connect(for_one, sender=one)
    sends = Sends()
    with observe(sends):
        for _ in range(20):
            signal.send(one)
            signal.send(other)
    assert [event.receivers for event in sends.heard] == [(for_all, for_one), (for_all,)] * 20


def test_receiver_that_has_died_is_not_told_of() -> None:
    signal, sends = Signal(), Sends()
    receivers = functions(2)
    for receiver in receivers:
        signal.connect(receiver)
    with observe(sends):
        for _ in range(20):
            signal.send(None)
        sends.heard.clear()
        del receivers[0]
        signal.send(None)
    assert sends.heard[-1].receivers == tuple(receivers)


@pytest.mark.parametrize("sends_before", [1, 40])
def test_send_under_way_as_an_observer_comes_calls_all_receivers(
    sends_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal, latch, here = Signal(), Latch(), threading.current_thread()
    for receiver in functions(2):
        signal.connect(receiver, weak=False)

    def pause() -> None:
        if threading.current_thread() is not here:
            latch()

    inside.pause_before_observers_are_asked_for(pause, monkeypatch)
    slow = Running(signal.send, None)
    assert latch.entered.wait(TIMEOUT)
    for _ in range(sends_before):
        assert len(signal.send(None)) == 2
    begun = inside.begun_send(signal)
    with observe(All()):
        latch.opened.set()
        assert len(slow.result()) == 2
        assert len(begun()) == 2


def test_sends_into_pools_are_heard() -> None:
    sends = Sends()
    with WorkerPool(1) as pool, observe(sends):
        signal = Signal(executor=pool)
        signal.connect(ignore)
        signal.connect(background(ignore, executor=pool), weak=False)
        signal.send_async(None, size=1).results(10)
        signal.prepare(None, size=2).drop()
        signal.send(None, size=3)
    assert [event.mode for event in sends.heard] == [
        "send_async",
        "send_async",
        "send",
        "background",
    ]


def test_who_hears_sends_does_not_hear_its_own() -> None:
    signal, others = Signal(), Sends()
    signal.connect(ignore)

    class Sending(Sends):
        def sent(self, event: Event) -> None:
            super().sent(event)
            signal.send(None, size=2)

    mine = Sending()
    with observe(mine), observe(others):
        for _ in range(20):
            signal.send(None, size=1)
    assert [named for _, named in mine.contents] == [{"size": 1}] * 20
    assert [named for _, named in others.contents] == [{"size": 2}, {"size": 1}] * 20


def test_what_one_raises_is_logged_once_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Observer):
        def sent(self, event: Event) -> None:
            raise ValueError

    signal, sends = Signal(), Sends()
    signal.connect(ignore)
    with observe(Bad()), observe(sends):
        for _ in range(20):
            signal.send(None)
    assert len(sends.heard) == 20
    assert len(caplog.records) == 1


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", ["sent", "started", "ended"])
def test_whatever_observers_raise_besides_the_others_are_told(name: str, number: int) -> None:
    def leave(self: Any, event: Event) -> None:
        raise SystemExit

    signal, last = Signal(), All()
    signal.connect(ignore)
    leaving = type("Leaving", (Observer,), {name: leave})
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(observe(leaving()))
        stack.enter_context(observe(last))
        with pytest.raises(SystemExit):
            signal.send(None)
    assert len(last.heard) == 1
    ends = {} if name == "sent" else {("started", 0): 1, ("ended", 0): 1}
    assert last.counts == ends


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_ctrl_c_in_one_is_raised_before_any_receiver_is_called() -> None:
    class Interrupted(Observer):
        def sent(self, event: Event) -> None:
            signals.raise_signal(signals.SIGINT)

    before = signals.signal(signals.SIGINT, signals.default_int_handler)
    called, sends = [], Sends()
    signal = Signal()
    signal.connect(lambda **named: called.append(named), weak=False)
    try:
        signal.send(None)
        with observe(Interrupted()), observe(sends), pytest.raises(KeyboardInterrupt):
            signal.send(None)
    finally:
        signals.signal(signals.SIGINT, before)
    assert len(called) == len(sends.heard) == 1


class WhileTelling(Interrupter):
    def step(self, frame: FrameType, offset: int) -> object:
        file = Path(frame.f_code.co_filename).name
        return super().step(frame, offset) if file in ("telling.py", "watches.py") else None


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True], ids=["returns", "fails"])
def test_interrupted_at_any_point_each_call_that_is_told_of_is_told_to_its_end(
    fails: bool,
) -> None:
    ear = Ear()
    for at in range(1, 1000):
        first, second, signal = All(), All(), Signal()
        signal.connect(ear.fail if fails else ear.hear)
        with observe(first), observe(second), WhileTelling(at) as interrupter:
            with contextlib.suppress(ValueError):
                signal.send(None)
        # A failure is told from where no second error can be taken.
        lost = fails and interrupter.where.startswith("insist") and "RESUME" in interrupter.where
        for each in (first, second):
            starts, ends = each.counts["started", 0], each.counts["ended", 0]
            assert starts == ends <= 1 or lost, (at, interrupter.where, each.counts)
        assert first.counts == second.counts, (at, interrupter.where)
        if not interrupter.raised:
            assert at > 20
            return
    pytest.fail("there are more points than were tried")


class WhileWatching(Interrupter):
    def step(self, frame: FrameType, offset: int) -> object:
        file = Path(frame.f_code.co_filename).name
        return super().step(frame, offset) if file == "watched.py" else None


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [False, True], ids=["pool", "another executor"])
def test_interrupted_prepare_is_told_of_to_its_end(elsewhere: bool) -> None:
    with ThreadPoolExecutor(1) if elsewhere else WorkerPool(1) as executor:
        told_of = 0
        for at in range(1, 200):
            everything, signal, receivers = All(), Signal(executor=executor), functions(2)
            for receiver in receivers:
                signal.connect(receiver)
            with observe(everything), WhileWatching(at) as interrupter:
                signal.prepare(None)
            if not interrupter.raised:
                assert at > 10
                assert told_of > 5
                return
            if everything.heard:
                told_of += 1
                told = {("refused", 0): 1, ("refused", 1): 1}
                assert everything.counts == told, (at, interrupter.where)
        pytest.fail("there are more points than were tried")


@pytest.mark.parametrize("tracked", [False, True], ids=["plain", "tracked"])
@pytest.mark.parametrize("verb", ["send", "send_robust"])
def test_send_at_the_end_of_the_stack_is_told_of_to_its_end_or_not_at_all(
    verb: str, tracked: bool
) -> None:
    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        else:
            getattr(signal, verb)(None)

    signal = Signal()
    signal.connect(ignore, tracked=tracked)
    with quiet():
        for left in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit()):
            everything = All()
            with observe(everything), contextlib.suppress(RecursionError):
                deep(left)
            ends = {("started", 0): 1, ("ended", 0): 1} if everything.heard else {}
            assert everything.counts == ends, left


# -- Those that hear of nothing --


@pytest.mark.unmeasured
def test_observer_that_has_overridden_nothing_costs_nothing() -> None:
    signal, sender = Signal(), Thing()
    signal.connect(ignore)

    def cost() -> int:
        for _ in range(40):
            signal.send(sender, size=1)
        return steps(lambda: signal.send(sender, size=1))

    before = cost()
    with observe(Observer()) as handle:
        assert "open" in repr(handle)
        assert cost() == before
        with observe(Sends()):
            assert cost() > before
    assert "closed" in repr(handle)
    assert cost() == before


def test_methods_are_those_that_an_observer_has_when_it_is_observed() -> None:
    signal, sends = Signal(), Sends()
    bare: Any = Observer()
    bare.sent = sends.sent
    with observe(bare):
        signal.send(None)
        bare.sent = bare.ended = None
        signal.send(None)
    with quiet(), observe(Observer()) as handle:
        handle.observer.sent = sends.sent  # type: ignore[method-assign]
        signal.send(None)
    assert len(sends.heard) == 2
