"""disconnect: whose connection goes, and who is told that it went."""

import weakref
from typing import Any

import pytest
from helpers import TIMEOUT, Ear, Latch, Running, Thing, assert_gone, heard, ignore, together

from tsignals import Signal


def test_disconnect_says_whether_this_call_removed_it() -> None:
    signal, ear = Signal(), Ear()
    assert signal.disconnect(ear) is False
    signal.connect(ear)
    assert signal.disconnect(ear) is True
    assert signal.disconnect(ear) is False
    assert heard(signal) == []


def test_disconnect_leaves_the_others() -> None:
    signal, ears = Signal(), [Ear(str(n)) for n in range(3)]
    for ear in ears:
        signal.connect(ear)
    signal.disconnect(ears[1])
    assert heard(signal) == [ears[0], ears[2]]


def test_disconnect_needs_the_sender_it_was_connected_with() -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    signal.connect(ear, sender=sender)
    assert not signal.disconnect(ear)
    assert not signal.disconnect(ear, sender=Thing())
    assert signal.disconnect(ear, sender=sender)
    signal.connect(ear)
    assert not signal.disconnect(ear, sender=sender)
    assert signal.disconnect(ear)


def test_disconnect_finds_a_method_by_any_of_its_bound_objects() -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear.hear)
    assert not signal.disconnect(ear)
    assert not signal.disconnect(ear.listen)
    assert not signal.disconnect(Ear().hear)
    assert signal.disconnect(ear.hear)


def test_disconnect_by_uid_needs_no_receiver_and_ignores_one() -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    signal.connect(ear, sender, dispatch_uid="menu")
    signal.connect(ear, dispatch_uid="menu")
    assert not signal.disconnect(ear)
    assert signal.disconnect(dispatch_uid="menu")
    assert not signal.disconnect(dispatch_uid="menu")
    assert signal.disconnect(ignore, sender, "menu")
    assert heard(signal, sender) == []


def test_disconnect_by_receiver_does_not_reach_one_connected_under_a_uid() -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear, dispatch_uid="menu")
    assert not signal.disconnect(ear)
    assert heard(signal) == [ear]


@pytest.mark.parametrize("nothing", [None, "", 0, ()])
def test_disconnect_of_nothing_removes_nothing(nothing: Any) -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear)
    assert signal.disconnect() is False
    assert signal.disconnect(dispatch_uid=nothing) is False
    assert signal.disconnect(ear, dispatch_uid=nothing) is True


def test_disconnect_of_the_dead_is_false() -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    signal.connect(ear.hear, dispatch_uid="menu")
    signal.connect(ignore, sender, dispatch_uid="sender's")
    del ear
    assert signal.disconnect(dispatch_uid="menu") is False
    assert signal.disconnect(None, sender, "sender's") is True


def test_disconnected_strong_receiver_is_let_go() -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    reference = weakref.ref(ear)
    signal.connect(ear.hear, weak=False)
    signal.connect(ear, sender, weak=False)
    heard(signal, sender)  # whatever a send keeps for the next must not keep the receiver
    assert signal.disconnect(ear.hear)
    assert signal.disconnect(ear, sender)
    del ear
    assert_gone(reference)


def test_receiver_can_disconnect_itself_while_it_runs() -> None:
    signal = Signal()

    def once(**named: Any) -> bool:
        return signal.disconnect(once)

    signal.connect(once)
    assert signal.send(None) == [(once, True)]
    assert signal.send(None) == []


def test_receiver_can_be_disconnected_and_connected_anew_while_it_runs() -> None:
    signal = Signal()

    def again(**named: Any) -> bool:
        removed = signal.disconnect(again)
        signal.connect(again)
        return removed

    signal.connect(again)
    assert signal.send(None) == [(again, True)]
    assert signal.send(None) == [(again, True)]


def test_of_all_threads_that_disconnect_one_receiver_exactly_one_removed_it() -> None:
    for n in range(50):
        signal, ear = Signal(), Ear()
        connection = signal.connect(ear)
        removed = together(
            connection.disconnect,
            lambda: signal.disconnect(ear),
            lambda: signal.disconnect(ear),
            connection.disconnect,
        )
        assert sorted(removed) == [False, False, False, True], f"round {n}"
        assert not signal.has_listeners()


def test_disconnect_does_not_wait_for_a_running_receiver() -> None:
    signal, gate = Signal(), Latch()
    signal.connect(gate)
    sending = Running(signal.send, None)
    assert gate.entered.wait(TIMEOUT)
    assert signal.disconnect(gate)
    assert not signal.has_listeners()
    gate.opened.set()
    assert sending.result() == [(gate, "through")]
