"""send: what it returns, what it passes on, and which connections it works on."""

import gc
import threading
import weakref
from collections.abc import Callable
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
    heard,
    ignore,
    in_new_process,
    raiser,
    together,
)

from tsignals import Signal

ODD_NAMES = [
    "self",
    "cls",
    "receiver",
    "receivers",
    "named",
    "kwargs",
    "args",
    "plan",
    "context",
    "sending",
    "r",
    "s",
    "x",
    "weak",
    "executor",
    "__class__",
    "class",
    "None",
    "__debug__",
    "two words",
    "a-b",
    "",
    "\n",
    "a=1, **b",
    "1st",
    "é",
    "\N{LATIN SMALL LIGATURE FI}",
    "fi",
    "\N{MATHEMATICAL BOLD SMALL A}",
    "\ud800",
    "\0",
]

verbs = pytest.mark.parametrize("verb", ["send", "send_robust"])
"""Both ways to call the receivers here and now."""


def call(verb: str, signal: Signal, sender: object = None, /, **named: Any) -> list[Any]:
    """The receivers that ``verb`` called."""
    return [receiver for receiver, _ in getattr(signal, verb)(sender, **named)]


def test_send_returns_pairs_of_receiver_and_response_in_call_order() -> None:
    signal, first, second = Signal(), Ear("first", "yes"), Ear("second", [1])
    signal.connect(first)
    signal.connect(second.hear)
    responses = signal.send(None)
    assert responses == [(first, "yes"), (second.hear, [1])]
    assert type(responses) is list
    assert responses[1][1] is second.response
    assert all(type(pair) is tuple for pair in responses)


@verbs
def test_send_to_nobody_is_an_empty_list_of_its_own(verb: str) -> None:
    signal = Signal()
    one, other = getattr(signal, verb)(None), getattr(signal, verb)(Thing())
    assert one == other == []
    assert one is not other


@verbs
def test_sender_may_be_given_by_name_and_must_be_given(verb: str) -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    signal.connect(ear, sender)
    getattr(signal, verb)(size=1, sender=sender)
    assert ear.calls == [{"signal": signal, "sender": sender, "size": 1}]
    with pytest.raises(TypeError):
        getattr(signal, verb)()
    with pytest.raises(TypeError):
        getattr(signal, verb)(sender, sender=sender)
    with pytest.raises(TypeError):
        getattr(signal, verb)(sender, "not by position")
    assert len(ear.calls) == 1


# The named values

every_verb = pytest.mark.parametrize("verb", ["send", "send_robust", "send_async"])


def deliver(verb: str, signal: Signal, sender: object, /, **named: Any) -> None:
    """Send, and come back once the receivers have been called."""
    sent = getattr(signal, verb)(sender, **named)
    if verb == "send_async":
        sent.results(TIMEOUT)


@pytest.mark.slow
@every_verb
@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("connected", ["function", "method", "strong", "sender's"])
def test_named_may_hold_any_names(verb: str, name: str, connected: str) -> None:
    signal, sender, value, ear = Signal(), Thing(), object(), Ear()

    def function(*args: Any, **named: Any) -> None:
        assert not args
        ear.calls.append(named)

    if connected == "method":
        signal.connect(ear.hear)
    else:
        signal.connect(
            function,
            sender if connected == "sender's" else None,
            weak=connected != "strong",
        )
    deliver(verb, signal, sender, **{name: value, "other": 1})
    assert ear.calls == [{"signal": signal, "sender": sender, name: value, "other": 1}]
    assert [*ear.calls[0]] == ["signal", "sender", name, "other"]


@every_verb
def test_names_that_look_alike_stay_apart(verb: str) -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear)
    named = {name: n for n, name in enumerate(ODD_NAMES)}
    deliver(verb, signal, None, **named)
    assert ear.calls == [{"signal": signal, "sender": None, **named}]


@every_verb
def test_named_values_keep_their_order(verb: str) -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear)
    for names in ("abc", "cba", "bca", "abcd", "abc"):
        deliver(verb, signal, None, **dict.fromkeys(names))
        assert [*ear.calls[-1]] == ["signal", "sender", *names]


@every_verb
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("connected", ["weak", "methods", "strong"])
def test_each_send_may_have_other_names_than_those_before(
    verb: str, connected: str, count: int
) -> None:
    signal, ears = Signal(), [Ear() for _ in range(count)]
    for ear in ears:
        signal.connect(ear.hear if connected == "methods" else ear, weak=connected != "strong")
    shapes = ((), ("a",), ("a", "b"), ("b", "a"), ("b",), ("not-plain",), ("a", "b", "c"))
    for first in shapes:
        for second in shapes:
            for names in (first, second, first, *shapes):
                named = {name: object() for name in names}
                deliver(verb, signal, None, **named)
                for ear in ears:
                    (heard,) = ear.calls
                    assert heard == {"signal": signal, "sender": None, **named}
                    assert [*heard] == ["signal", "sender", *names]
                    ear.calls.clear()
            signal.disconnect(Ear)  # nobody, but from here on another pair comes first


@every_verb
def test_names_may_be_of_a_subclass_of_str(verb: str) -> None:
    class Name(str):
        __slots__ = ()

    signal, ear = Signal(), Ear()
    signal.connect(ear)
    deliver(verb, signal, None, **{Name("size"): 1})
    assert ear.calls == [{"signal": signal, "sender": None, "size": 1}]


@every_verb
def test_names_of_a_subclass_of_str_are_not_kept(verb: str) -> None:
    class Name(str):
        pass

    signal, ear = Signal(), Ear()
    signal.connect(ear)
    named = {Name("size"): 1}
    name = weakref.ref(next(iter(named)))
    deliver(verb, signal, None, **named)
    named.clear()
    ear.calls.clear()
    assert_gone(name)


@pytest.mark.slow
@every_verb
def test_any_number_of_names_is_passed_on_and_leaves_nothing_behind(verb: str) -> None:
    in_new_process(send_many_names, verb)  # other tests should find our tables empty


def send_many_names(verb: str) -> None:
    signals, ears = [Signal(), Signal(), Signal()], [Ear(), Ear(), Ear()]
    signals[0].connect(ears[0])
    signals[1].connect(ears[0].hear)
    for ear in ears:
        signals[2].connect(ear, weak=False)

    def send(names: range) -> int:
        for signal in signals:
            for n in names:
                deliver(verb, signal, None, **{f"name_{n}": n})
                assert ears[0].calls.pop() == {"signal": signal, "sender": None, f"name_{n}": n}
                ears[1].calls.clear()
                ears[2].calls.clear()
        gc.collect()
        return len(gc.get_objects())

    before = send(range(1000))
    assert send(range(1000, 3000)) - before < 100
    many = {f"many_{n}": n for n in range(2000)}
    deliver(verb, signals[0], None, **many)
    assert ears[0].calls.pop() == {"signal": signals[0], "sender": None, **many}


@every_verb
def test_each_receiver_gets_named_values_of_its_own(verb: str) -> None:
    signal, ear = Signal(), Ear()

    def greedy(**named: Any) -> None:
        named.clear()

    signal.connect(greedy)
    signal.connect(ear)
    for name in ("size", "class"):
        deliver(verb, signal, None, **{name: 1})
        assert ear.calls.pop() == {"signal": signal, "sender": None, name: 1}


@verbs
@pytest.mark.parametrize("connected", [0, 1, 3])
def test_signal_among_the_names_is_a_type_error_before_any_receiver_runs(
    verb: str, connected: int
) -> None:
    signal, ears = Signal(), [Ear() for _ in range(connected)]
    for ear in ears:
        signal.connect(ear)
    with pytest.raises(TypeError, match="signal"):
        getattr(signal, verb)(None, signal=signal)
    with pytest.raises(TypeError, match="signal"):
        getattr(signal, verb)(None, **{"two words": 1, "signal": signal})
    assert all(not ear.calls for ear in ears)


@verbs
def test_signal_among_the_names_is_a_type_error_also_after_a_send_to_nobody(verb: str) -> None:
    """By then it is known that nobody listens."""
    signal = Signal()
    assert getattr(signal, verb)(None) == []
    with pytest.raises(TypeError, match="signal"):
        getattr(signal, verb)(None, signal=signal)


# Errors


@pytest.mark.parametrize("error", [Boom(), BaseBoom(), KeyboardInterrupt(), StopIteration()])
def test_first_exception_propagates_unwrapped_and_the_rest_are_not_called(
    error: BaseException,
) -> None:
    signal, before, after = Signal(), Ear("before"), Ear("after")
    raising = raiser(error)
    signal.connect(before)
    signal.connect(raising)
    signal.connect(after)
    with pytest.raises(type(error)) as info:
        signal.send(None)
    assert info.value is error
    assert error.__context__ is None
    assert error.__cause__ is None
    assert (len(before.calls), len(after.calls)) == (1, 0)


class Member(Ear):
    """One of several objects of which the same method is connected."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error

    def __call__(self, /, **named: Any) -> Any:
        super().__call__(**named)
        if self.error is not None:
            raise self.error
        return self.response


HELD: dict[str, Any] = {
    "methods, weakly": lambda member: member.hear,
    "objects, weakly": lambda member: member,
    "objects, strongly": lambda member: member,
}
"""What is sent often is called by a function of its own for each of these; see ``compiled``."""


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("verb", ["send", "send_robust"])
def test_error_is_dealt_with_by_each_of_many_sends_as_by_the_first(
    held: str, size: int, verb: str
) -> None:
    signal, error = Signal(), Boom()
    members = [Member(error), Member(None), Member(None)][:size]
    receivers = [HELD[held](member) for member in members]
    for receiver in receivers:
        signal.connect(receiver, weak="weakly" in held)
    for n in range(1, inside.compiled_after() + 4):
        if verb == "send":
            with pytest.raises(Boom) as info:
                signal.send(None, size=n)
            assert info.value is error
        else:
            outcomes = signal.send_robust(None, size=n)
            assert [receiver for receiver, _ in outcomes] == receivers
            assert outcomes.errors == [(receivers[0], error)]
        rest = n if verb == "send_robust" else 0
        assert [len(member.calls) for member in members] == [n, rest, rest][:size]
        assert members[0].calls[-1]["size"] == n


def test_send_works_again_after_an_error() -> None:
    signal, ear = Signal(), Ear()
    raising = raiser(Boom())
    signal.connect(raising)
    signal.connect(ear)
    with pytest.raises(Boom):
        signal.send(None)
    signal.disconnect(raising)
    assert heard(signal) == [ear]


# The connections as they were when the send started


@verbs
def test_receiver_connected_while_a_send_runs_is_not_called_by_it(verb: str) -> None:
    signal, sender, late = Signal(), Thing(), Ear("late")

    def connects(**named: Any) -> None:
        signal.connect(late)
        signal.connect(late.hear, sender)
        signal.connect(late.listen, priority=9)

    signal.connect(connects)
    assert call(verb, signal, sender) == [connects]
    assert call(verb, signal, sender) == [late.listen, connects, late, late.hear]


@verbs
def test_receiver_disconnected_while_a_send_runs_is_not_called_by_the_next(verb: str) -> None:
    signal, ear = Signal(), Ear()

    def disconnects(**named: Any) -> bool:
        return signal.disconnect(ear)

    signal.connect(disconnects)
    signal.connect(ear)
    assert call(verb, signal) in ([disconnects], [disconnects, ear])
    assert call(verb, signal) == [disconnects]


@verbs
@pytest.mark.parametrize("what", ["function", "method", "sender"])
def test_every_receiver_is_resolved_before_the_first_is_called(verb: str, what: str) -> None:
    signal, called, sender = Signal(), list[str](), Thing()
    keep: dict[str, Any] = {"ear": Ear()}

    def kills(**named: Any) -> None:
        called.append("killer")
        keep.clear()
        gc.collect()

    def make() -> Callable[..., None]:
        def victim(**named: Any) -> None:
            called.append("victim")

        return victim

    signal.connect(kills)
    if what == "method":
        keep["ear"].hear.__self__.calls = called
        signal.connect(keep["ear"].hear)
    else:
        keep["victim"] = make()
        signal.connect(keep["victim"], sender)
    if what == "sender":
        keep["sender"] = sender
    assert len(call(verb, signal, sender)) == 2
    assert len(called) == 2
    assert call(verb, signal, sender) == [kills]


@verbs
def test_receiver_that_dies_between_two_sends_is_not_called(verb: str) -> None:
    signal, dying, staying = Signal(), Ear(), Ear()
    signal.connect(dying)
    signal.connect(staying)
    assert call(verb, signal) == [dying, staying]
    del dying
    assert call(verb, signal) == [staying]


@verbs
def test_receiver_may_send_the_same_signal(verb: str) -> None:
    signal, depths = Signal(), list[int]()

    def nested(depth: int, **named: Any) -> list[Any]:
        depths.append(depth)
        return call(verb, signal, depth=depth - 1) if depth else []

    signal.connect(nested)
    signal.connect(ignore)
    assert call(verb, signal, depth=20) == [nested, ignore]
    assert depths == [*range(20, -1, -1)]


@verbs
def test_send_keeps_nothing_it_was_given(verb: str) -> None:
    signal, value, sender = Signal(), Thing("value"), Thing("sender")
    references = [weakref.ref(value), weakref.ref(sender)]
    signal.connect(ignore)
    getattr(signal, verb)(sender, value=value)
    del value, sender
    gc.collect()
    assert [reference() for reference in references] == [None, None]


@verbs
def test_transient_senders_leave_nothing_behind(verb: str) -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    signal.connect(ignore)
    signal.connect(ear, sender)

    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    for _ in range(100):
        getattr(signal, verb)(Thing())
    before = objects()
    kept = [Thing() for _ in range(2000)]  # alive at once, thus each at an address of its own
    for each in kept:
        getattr(signal, verb)(each)
    del each
    kept.clear()
    assert objects() - before < 100


# Threads


@verbs
def test_no_lock_is_held_while_a_receiver_runs(verb: str) -> None:
    signal, gate, ear, sender = Signal(), Latch(), Ear(), Thing()
    signal.connect(gate, dispatch_uid="gate")
    sending = Running(call, verb, signal, sender)
    assert gate.entered.wait(TIMEOUT)

    def use_everything() -> str:
        connection = signal.connect(ear)
        assert connection.connected
        assert signal.has_listeners(sender)
        assert len(signal.receivers) == 2
        assert signal.disconnect(dispatch_uid="gate")
        assert call("send", signal) == call("send_robust", signal) == [ear]
        assert connection.disconnect()
        return "used"

    assert Running(use_everything).result() == "used"
    gate.opened.set()
    assert sending.result() == [gate]


@verbs
def test_two_signals_that_send_each_other_from_two_threads_do_not_deadlock(verb: str) -> None:
    signals, meeting = [Signal(), Signal()], threading.Barrier(2)

    def cross(signal: Signal, hops: int, **named: Any) -> int:
        meeting.wait(TIMEOUT)
        other = signals[1 - signals.index(signal)]
        if hops:
            getattr(other, verb)(None, hops=hops - 1)
        return hops

    for signal in signals:
        signal.connect(cross)
    results = together(
        lambda: call(verb, signals[0], hops=5), lambda: call(verb, signals[1], hops=5)
    )
    assert results == [[cross], [cross]]


@verbs
def test_one_receiver_runs_in_many_threads_at_once(verb: str) -> None:
    signal, meeting = Signal(), threading.Barrier(4)

    def meets(**named: Any) -> bool:
        meeting.wait(TIMEOUT)
        return True

    signal.connect(meets)
    assert together(*[lambda: call(verb, signal)] * 4) == [[meets]] * 4


@verbs
def test_every_send_sees_the_connections_of_some_moment(verb: str) -> None:
    """One thread connects in a known order, then disconnects: others see prefixes of that."""
    signal, sender = Signal(), Thing()
    ears = [Ear(str(n)) for n in range(12)]
    done = threading.Event()

    def change() -> None:
        try:
            for _ in range(60):
                connections = [
                    signal.connect(ear, sender if n % 2 else None) for n, ear in enumerate(ears)
                ]
                for connection in reversed(connections):
                    connection.disconnect()
        finally:
            done.set()

    def look() -> list[list[Any]]:
        wrong = []
        while not done.is_set():
            seen = call(verb, signal, sender)
            if seen != ears[: len(seen)]:
                wrong.append(seen)
        return wrong

    looking = [Running(look), Running(look)]
    changing = Running(change)
    changing.result()
    assert [thread.result() for thread in looking] == [[], []]


@verbs
def test_no_send_sees_less_than_one_that_ended_before_it_began(verb: str) -> None:
    """While receivers only come, what one thread saw is the least that the next may see."""
    for _ in range(20):
        signal, sender = Signal(), Thing()
        ears = [Ear(str(n)) for n in range(40)]
        seen = [0]
        turn = threading.Lock()

        def change(signal: Signal = signal, ears: list[Ear] = ears) -> None:
            for ear in ears:
                signal.connect(ear, sender)

        def look(signal: Signal = signal, seen: list[int] = seen) -> list[str]:
            wrong: list[str] = []
            while seen[0] < 40 and not wrong:
                least = seen[0]
                now = len(call(verb, signal, sender))
                if now < least:
                    wrong.append(f"{now} after {least}")
                with turn:
                    seen[0] = max(seen[0], now)
            return wrong

        changing, *looking = Running(change), Running(look), Running(look)
        changing.result()
        assert [thread.result() for thread in looking] == [[], []]
