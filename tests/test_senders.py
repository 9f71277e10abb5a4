"""Senders: matched by identity, held weakly where they can be, of any kind."""

import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from helpers import Addresses, Ear, Equal, Thing, Unhashable, assert_gone, heard, ignore

from tsignals import Signal


class Unweak(tuple[Any, ...]):
    """A sender that cannot be held weakly, and tells when it is gone."""

    __slots__ = ()
    gone: list[str] = []  # noqa: RUF012 - shared on purpose

    def __del__(self) -> None:
        self.gone.append("gone")


class Hostile:
    """A sender that nobody may compare, hash, or ask for its truth."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(self) -> int:
        raise AssertionError("hashed")

    def __bool__(self) -> bool:
        raise AssertionError("asked")


SENDERS: list[Callable[[], Any]] = [
    Thing,
    Unhashable,
    Hostile,
    object,
    list,
    dict,
    lambda: "".join(["a", " string"]),
    lambda: int("1" * 30),
    lambda: ("tuple", []),
    lambda: Ear,
    lambda: sys,
    lambda: ignore,
    lambda: False,
    lambda: 0,
    lambda: "",
    lambda: NotImplemented,
    lambda: Signal(),
]

every_sender = pytest.mark.parametrize("make", SENDERS)


@every_sender
def test_receiver_hears_the_sender_it_is_connected_to_and_no_other(
    make: Callable[[], Any],
) -> None:
    signal, ear, everywhere, sender = Signal(), Ear("one"), Ear("all"), make()
    connection = signal.connect(ear, sender)
    signal.connect(everywhere)
    assert connection.sender is sender
    assert signal.connect(ear, sender) is connection
    assert heard(signal, sender) == [ear, everywhere]
    assert heard(signal, Thing()) == heard(signal, None) == [everywhere]
    assert ear.calls == [{"signal": signal, "sender": sender}]
    signal.disconnect(everywhere)
    assert signal.has_listeners(sender)
    assert not signal.has_listeners(Thing())
    assert signal.disconnect(ear, sender)
    assert heard(signal, sender) == []


@every_sender
def test_receiver_connected_to_none_hears_every_sender(make: Callable[[], Any]) -> None:
    signal, ear, sender = Signal(), Ear(), make()
    signal.connect(ear, None)
    assert signal.has_listeners(sender)
    assert heard(signal, sender) == [ear]
    assert ear.calls[0]["sender"] is sender


def test_send_of_none_reaches_only_those_who_hear_every_sender() -> None:
    signal, ear, everywhere, sender = Signal(), Ear("one"), Ear("all"), Thing()
    signal.connect(ear, sender)
    assert heard(signal, None) == []
    signal.connect(everywhere)
    assert heard(signal, None) == [everywhere]


@pytest.mark.parametrize("make", [Equal, lambda: "".join(["a", " string"]), lambda: int("1" * 30)])
def test_senders_match_by_identity_never_by_equality(make: Callable[[], Any]) -> None:
    signal, ears, senders = Signal(), [Ear("first"), Ear("second")], [make(), make()]
    assert senders[0] == senders[1]
    for ear, sender in zip(ears, senders, strict=True):
        signal.connect(ear, sender)
    assert heard(signal, senders[0]) == [ears[0]]
    assert heard(signal, senders[1]) == [ears[1]]
    assert heard(signal, make()) == []
    assert not signal.disconnect(ears[0], senders[1])


@pytest.mark.parametrize("make", [Thing, Equal, Unhashable, Hostile, Signal])
@pytest.mark.parametrize("weak", [True, False])
def test_sender_is_held_weakly_and_takes_its_connections_along(
    make: Callable[[], Any], weak: bool
) -> None:
    signal, ear, sender = Signal(), Ear(), make()
    connections = [
        signal.connect(ear, sender, weak=weak),
        signal.connect(ear.hear, sender, dispatch_uid="menu", weak=weak),
    ]
    signal.send(sender)
    ear.calls.clear()
    reference = weakref.ref(sender)
    del sender
    assert_gone(reference)
    assert signal.receivers == []
    assert [connection.connected for connection in connections] == [False, False]
    assert [connection.disconnect() for connection in connections] == [False, False]


def test_strong_receiver_is_let_go_with_its_sender() -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    reference = weakref.ref(ear)
    signal.connect(ear, sender, weak=False)
    signal.send(sender)
    ear.calls.clear()
    del ear, sender
    gc.collect()
    signal.send(None)
    assert_gone(reference)


def test_object_that_gets_a_dead_senders_address_hears_nothing() -> None:
    signal, ear, addresses, odd = Signal(), Ear(), Addresses(), False
    while not addresses.enough():
        sender = Thing()
        addresses.add(sender)
        odd = not odd
        if odd:
            signal.connect(ear, sender, weak=False)
            assert heard(signal, sender) == [ear]
        else:
            assert not signal.has_listeners(sender)
            assert signal.send(sender) == signal.send_robust(sender) == []
            assert not signal.disconnect(ear, sender)
        ear.calls.clear()
        del sender
    assert signal.receivers == []


def test_address_of_a_dead_sender_can_be_connected_anew() -> None:
    signal, ear, addresses = Signal(), Ear(), Addresses()
    while not addresses.enough():
        sender = Thing()
        addresses.add(sender)
        connection = signal.connect(ear, sender)
        assert connection.sender is sender
        assert heard(signal, sender) == [ear]
        ear.calls.clear()
        del sender
        assert not connection.connected


def test_death_of_a_sender_is_a_disconnect_before_any_callback_has_run() -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    connection = signal.connect(ear, sender)
    signal.send(sender)
    ear.calls.clear()
    seen: list[Any] = []

    def told(_: object) -> None:
        seen.append((signal.receivers, connection.connected, connection.disconnect()))

    probe = weakref.ref(sender, told)
    del sender
    gc.collect()
    assert probe() is None
    assert seen == [([], False, False)]


def test_sender_that_cannot_be_held_weakly_is_held_while_connected() -> None:
    signal, ear = Signal(), Ear()
    Unweak.gone.clear()
    sender = Unweak(("menu",))
    connection = signal.connect(ear, sender)
    address = id(sender)
    del sender
    gc.collect()
    assert Unweak.gone == []
    assert id(connection.sender) == address
    assert heard(signal, connection.sender) == [ear]
    ear.calls.clear()
    assert connection.disconnect()
    del connection
    gc.collect()
    assert Unweak.gone == ["gone"]


def test_sender_that_cannot_be_held_weakly_goes_with_its_last_receiver() -> None:
    signal, ear = Signal(), Ear()
    Unweak.gone.clear()
    signal.connect(ear, Unweak(("menu",)))
    del ear
    gc.collect()
    signal.has_listeners()
    assert Unweak.gone == ["gone"]


def test_many_senders_are_kept_apart() -> None:
    signal, everywhere = Signal(), Ear("all")
    senders, ears = [Thing() for _ in range(200)], [Ear(str(n)) for n in range(200)]
    for sender, ear in zip(senders, ears, strict=True):
        signal.connect(ear, sender)
    signal.connect(everywhere, priority=1)
    for sender, ear in zip(senders, ears, strict=True):
        assert heard(signal, sender) == [everywhere, ear]
    assert heard(signal, Thing()) == [everywhere]


def test_senders_that_come_and_go_leave_nothing_behind() -> None:
    signal = Signal()

    def come_and_go(times: int) -> int:
        for _ in range(times):
            sender = Thing()
            signal.connect(ignore, sender)
            signal.send(sender)
            del sender
        gc.collect()
        return len(gc.get_objects())

    before = come_and_go(100)
    assert come_and_go(2000) - before < 100
    assert signal.receivers == []
