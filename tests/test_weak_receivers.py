"""Weak receivers: what keeps a receiver alive, and what its death changes, and when."""

import functools
import gc
import types
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from helpers import Addresses, Ear, Thing, assert_gone, heard, ignore

from tsignals import Connection, Signal


def make_function() -> Callable[..., None]:
    def function(**named: Any) -> None: ...

    return function


def make_cycle() -> Callable[..., None]:
    def function(**named: Any) -> Any:
        return function

    return function


class Shelf:
    @classmethod
    def put(cls, **named: Any) -> None: ...


MAKERS: list[Callable[[], Any]] = [
    make_function,
    make_cycle,
    lambda: lambda **named: None,
    Ear,
    lambda: functools.partial(make_function(), size=1),
]

every_kind = pytest.mark.parametrize(
    "make", MAKERS, ids=["function", "cycle", "lambda", "object", "partial"]
)


@every_kind
def test_receiver_is_held_weakly_unless_asked_otherwise(make: Callable[[], Any]) -> None:
    signal, receiver = Signal(), make()
    reference = weakref.ref(receiver)
    connection = signal.connect(receiver)
    assert heard(signal) == [receiver]
    del receiver
    assert_gone(reference)
    assert (signal.send(None), signal.send_robust(None), signal.receivers) == ([], [], [])
    assert not signal.has_listeners()
    assert (connection.receiver, connection.connected) == (None, False)


@every_kind
def test_strong_receiver_stays_until_it_is_disconnected(make: Callable[[], Any]) -> None:
    signal, receiver = Signal(), make()
    reference = weakref.ref(receiver)
    connection = signal.connect(receiver, weak=False)
    del receiver
    gc.collect()
    assert heard(signal) == [reference()]
    connection.disconnect()
    del connection
    assert_gone(reference)


def test_bound_method_lives_as_long_as_its_object() -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear.hear)
    signal.connect(ear.listen)
    gc.collect()  # the bound methods themselves are long gone
    assert heard(signal) == [ear.hear, ear.listen]
    del ear
    assert heard(signal) == []
    assert not signal.has_listeners()


def test_bound_method_dies_with_its_function_too() -> None:
    signal, ear, function = Signal(), Ear(), make_function()
    bound = types.MethodType(function, ear)
    connection = signal.connect(bound)
    assert connection.connected
    del bound, function
    gc.collect()
    assert not connection.connected
    assert not signal.has_listeners()
    assert heard(signal) == signal.receivers == []
    assert ear.calls == []


def test_method_of_a_class_lives_as_long_as_the_class() -> None:
    signal = Signal()
    signal.connect(Shelf.put)
    gc.collect()
    assert heard(signal) == [Shelf.put]


def test_strong_method_keeps_its_object() -> None:
    signal, ear = Signal(), Ear()
    reference = weakref.ref(ear)
    signal.connect(ear.hear, weak=False)
    del ear
    gc.collect()
    assert [each.__self__ for each in heard(signal)] == [reference()]
    assert signal.disconnect(reference().hear)  # type: ignore[union-attr]
    assert_gone(reference)


def test_receiver_on_a_cycle_dies_when_the_collector_finds_it() -> None:
    signal, ear = Signal(), Ear()
    ear.response = ear
    reference = weakref.ref(ear)
    signal.connect(ear)
    signal.connect(ear.hear)
    del ear
    assert_gone(reference)
    assert heard(signal) == []


def test_signal_keeps_no_receiver_alive_by_having_called_it() -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    reference = weakref.ref(ear)
    signal.connect(ear)
    signal.connect(ear.hear, sender)
    for of in (None, sender):
        signal.send(of)
        signal.send_robust(of)
    assert len(signal.receivers) == 2
    ear.calls.clear()
    del ear
    assert_gone(reference)


def test_dead_receivers_key_can_be_connected_anew() -> None:
    signal, first, second = Signal(), Ear("first"), Ear("second")
    old = signal.connect(first, dispatch_uid="menu")
    del first
    new = signal.connect(second, dispatch_uid="menu")
    assert new is not old
    assert new.receiver is second
    assert old.disconnect() is False
    assert heard(signal) == [second]


def test_dead_receivers_key_can_be_connected_anew_before_the_signal_is_told() -> None:
    signal, mortal, second = Signal(), Ear("mortal"), Ear("second")
    old, made = signal.connect(mortal, dispatch_uid="menu"), list[Connection]()
    # The newest reference's callback is called first.
    probe = weakref.ref(
        mortal, lambda _: made.append(signal.connect(second, dispatch_uid="menu", priority=1))
    )
    del mortal
    assert probe() is None
    [new] = made
    assert (new is old, new.receiver, new.priority) == (False, second, 1)
    assert (old.connected, new.connected) == (False, True)
    assert heard(signal) == [second]


def test_dead_receivers_do_not_disturb_the_order_of_the_living() -> None:
    signal, ears = Signal(), [Ear(str(n)) for n in range(9)]
    for ear in ears:
        signal.connect(ear)
    del ear, ears[::2]
    assert heard(signal) == ears
    assert [connection.receiver for connection in signal.receivers] == ears


def test_method_of_an_object_at_a_dead_ones_address_is_another_receiver() -> None:
    signal, addresses = Signal(), Addresses()
    connections = list[Connection]()
    while not addresses.enough():
        ear = Ear()
        addresses.add(ear)
        connections.append(signal.connect(ear.hear))
        assert heard(signal) == [ear.hear]
        assert connections[-1].connected
        del ear
    assert len(set(connections)) == len(connections)
    assert not any(connection.disconnect() for connection in connections)


def test_death_is_a_disconnect_before_any_callback_has_run() -> None:
    """The newest weak reference is told first: then the signal's own has not been told yet."""
    signal, ear, other = Signal(), Ear(), Ear("other")
    old = signal.connect(ear, dispatch_uid="menu")
    signal.connect(ear.hear)
    signal.send(None)
    seen: dict[str, Any] = {}

    def told(_: object) -> None:
        seen["has_listeners"] = signal.has_listeners()
        seen["receivers"] = signal.receivers
        seen["send"] = signal.send(None)
        seen["old"] = (old.receiver, old.connected, old.disconnect())
        seen["removed"] = signal.disconnect(dispatch_uid="menu")
        seen["new"] = signal.connect(other, dispatch_uid="menu")
        seen["heard"] = heard(signal)

    probe = weakref.ref(ear, told)
    del ear
    gc.collect()
    assert probe() is None
    new = seen.pop("new")
    assert seen == {
        "has_listeners": False,
        "receivers": [],
        "send": [],
        "old": (None, False, False),
        "removed": False,
        "heard": [other],
    }
    # The late callback of the dead one leaves the new one alone.
    assert new.connected
    assert heard(signal) == [other]


def test_receivers_that_come_and_go_leave_nothing_behind() -> None:
    signal, sender = Signal(), Thing()
    signal.connect(ignore)

    def come_and_go(times: int) -> int:
        for n in range(times):
            ear = Ear()
            signal.connect(ear, sender)
            signal.connect(ear.hear, dispatch_uid=("menu", n))
            if n % 10 == 0:
                signal.send(sender)
                ear.calls.clear()
            del ear
        gc.collect()
        return len(gc.get_objects())

    before = come_and_go(100)
    assert come_and_go(2000) - before < 100
    assert len(signal.receivers) == 1
