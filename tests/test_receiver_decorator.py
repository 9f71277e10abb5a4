"""@receiver: connects a function to one signal or to many, and leaves it as it is."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from helpers import Ear, Thing, heard

from tsignals import Signal, receiver


def test_decorator_connects_and_returns_the_function_unchanged() -> None:
    signal, ear = Signal(), Ear(response=1)
    assert receiver(signal)(ear) is ear
    assert signal.send(None) == [(ear, 1)]


def test_decorated_function_is_connected_as_a_plain_one_is() -> None:
    signal = Signal()

    @receiver(signal)
    def on_saved(size: int, **named: Any) -> int:
        return size

    assert on_saved(3) == 3
    assert signal.send(None, size=4) == [(on_saved, 4)]
    assert signal.disconnect(on_saved)


def test_decorator_connects_weakly() -> None:
    signal = Signal()
    receiver(signal)(lambda **named: None)
    assert not signal.has_listeners()
    receiver(signal, weak=False)(lambda **named: None)
    assert signal.has_listeners()


@pytest.mark.parametrize("several", [list, tuple, set, frozenset, iter, dict.fromkeys])
def test_decorator_takes_any_iterable_of_signals(
    several: Callable[[Iterable[Signal]], Iterable[Signal]],
) -> None:
    signals, ear = [Signal(), Signal(), Signal()], Ear()
    assert receiver(several(signals))(ear) is ear
    assert [heard(signal) for signal in signals] == [[ear]] * 3


def test_decorator_takes_a_generator_of_signals() -> None:
    signals, ear = [Signal(), Signal()], Ear()
    receiver(signal for signal in signals)(ear)
    assert [heard(signal) for signal in signals] == [[ear]] * 2


def test_one_decorator_serves_several_functions() -> None:
    signals, first, second = [Signal(), Signal()], Ear("first"), Ear("second")
    decorate = receiver(iter(signals))
    decorate(first)
    decorate(second)
    assert [heard(signal) for signal in signals] == [[first, second]] * 2


def test_decorator_without_signals_connects_nothing() -> None:
    ear = Ear()
    assert receiver([])(ear) is ear


def test_decorator_passes_the_connect_arguments_on() -> None:
    signal, sender, first, last = Signal(), Thing(), Ear("first"), Ear("last")
    receiver(signal, sender=sender, dispatch_uid="last")(last)
    receiver([signal], sender=sender, dispatch_uid="first", priority=1)(first)
    receiver(signal, sender=sender, dispatch_uid="last")(Ear())
    assert heard(signal, sender) == [first, last]
    assert heard(signal) == []
    assert signal.disconnect(None, sender, "last")
    receiver(signal, tracked=True)(last)
    assert signal.disconnect(last, wait=True)


def test_decorators_can_be_stacked() -> None:
    one, other, ear = Signal(), Signal(), Ear()
    assert receiver(one)(receiver(other)(ear)) is ear
    assert heard(one) == heard(other) == [ear]


def test_decorator_refuses_what_connect_refuses() -> None:
    signal: Any = Signal()
    with pytest.raises(ValueError, match="must accept keyword arguments"):

        @receiver(signal)
        def narrow() -> None: ...

    with pytest.raises(TypeError):
        receiver(signal, no_such_argument=1)(Ear())
    assert not signal.has_listeners()


@pytest.mark.parametrize(
    "nothing", [3, None, "signal", b"signal", Ear(), lambda: None, Signal, object(), [1], ["ab"]]
)
def test_decorator_needs_signals_and_says_so(nothing: Any) -> None:
    with pytest.raises(TypeError, match=r"needs a signal, or an iterable of signals, not"):
        receiver(nothing)


def test_decorator_without_its_brackets_says_what_is_wanted() -> None:
    anything: Any = receiver
    with pytest.raises(TypeError, match=r"write @receiver\(signal\) above the function"):

        @anything
        def hears(**named: Any) -> None: ...


def test_one_that_is_no_signal_keeps_the_others_from_being_connected() -> None:
    signal: Any = Signal()
    with pytest.raises(TypeError, match="not 3"):
        receiver([signal, 3])(Ear())
    assert not signal.has_listeners()


def test_decorator_takes_signals_of_other_libraries() -> None:
    blinker = pytest.importorskip("blinker")
    dispatch = pytest.importorskip("django.dispatch")
    ours, djangos, blinkers, sender = Signal(), dispatch.Signal(), blinker.Signal(), Thing()

    @receiver([ours, djangos, blinkers], sender=sender)
    def hears(sender: Any, **named: Any) -> Any:
        return named["size"]

    @receiver(djangos, dispatch_uid="once", weak=False)
    def hears_once(**named: Any) -> str:
        return "once"

    assert ours.send(sender, size=1) == [(hears, 1)]
    assert djangos.send(sender=sender, size=2) == [(hears, 2), (hears_once, "once")]
    assert blinkers.send(sender, size=3) == [(hears, 3)]
    assert blinkers.send(Thing(), size=3) == []


def test_whatever_has_a_connect_is_a_signal() -> None:
    class Theirs:
        def __init__(self) -> None:
            self.connected = list[Any]()

        def connect(self, function: Any, **arguments: Any) -> None:
            self.connected.append((function, arguments))

    theirs, ear = Theirs(), Ear()
    assert receiver(theirs, size=1)(ear) is ear
    assert theirs.connected == [(ear, {"size": 1})]
