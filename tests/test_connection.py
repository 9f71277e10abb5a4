"""Connection: the handle that connect returns, and the list of them in ``Signal.receivers``."""

import copy
import functools
import pickle
import weakref
from typing import Any

import inside
import pytest
from helpers import Boom, Ear, Thing, assert_gone, heard, ignore, uncollected, wait_until

from tsignals import Signal, background


def test_connection_tells_what_was_connected() -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    connection = signal.connect(ear.hear, sender, dispatch_uid="menu", priority=3)
    assert connection.receiver == ear.hear
    assert connection.sender is sender
    assert connection.dispatch_uid == "menu"
    assert connection.priority == 3
    assert connection.connected is True
    assert (connection.weak, connection.ordered, connection.tracked) == (True, False, False)
    strong = signal.connect(ear, weak=False, ordered=True, tracked=True)
    assert (strong.weak, strong.ordered, strong.tracked) == (False, True, True)


def test_connection_to_all_senders_has_no_sender_and_plain_values() -> None:
    connection = Signal().connect(ignore)
    assert connection.sender is None
    assert connection.dispatch_uid is None
    assert connection.priority == 0


def test_nobody_pickles_a_connection_and_its_copy_is_itself() -> None:
    connection = Signal(name="menu").connect(ignore)
    with pytest.raises(TypeError, match=r"cannot pickle <Connection of ignore .*: connect the rec"):
        pickle.dumps(connection)
    assert copy.copy(connection) is copy.deepcopy(connection) is connection


def test_disconnect_through_the_handle_says_whether_this_call_removed_it() -> None:
    signal, ear = Signal(), Ear()
    connection = signal.connect(ear)
    assert connection.disconnect() is True
    assert connection.connected is False
    assert connection.disconnect() is False
    assert heard(signal) == []


def test_handle_knows_of_a_disconnect_through_the_signal() -> None:
    signal, ear = Signal(), Ear()
    connection = signal.connect(ear)
    signal.disconnect(ear)
    assert connection.connected is False
    assert connection.disconnect() is False


def test_handle_acts_on_itself_only() -> None:
    signal, ear = Signal(), Ear()
    old = signal.connect(ear, dispatch_uid="menu")
    signal.disconnect(dispatch_uid="menu")
    new = signal.connect(ear, dispatch_uid="menu")
    assert new is not old
    assert (old.connected, new.connected) == (False, True)
    assert old.disconnect() is False
    with old:
        pass
    assert new.connected
    assert heard(signal) == [ear]


def test_dropping_the_handle_does_not_disconnect() -> None:
    signal, ear = Signal(), Ear()
    reference = weakref.ref(ear)
    handle = signal.connect(ear)
    del handle
    assert heard(signal) == [ear]
    signal.connect(ear.hear, weak=False)
    del ear
    assert reference() is not None


def test_handle_is_a_context_manager_that_disconnects_on_exit() -> None:
    signal, ear = Signal(), Ear()
    connection = signal.connect(ear)
    with connection as entered:
        assert entered is connection
        assert heard(signal) == [ear]
    assert heard(signal) == []


def test_handle_disconnects_on_exit_by_an_error_and_lets_it_pass() -> None:
    signal, ear = Signal(), Ear()
    with pytest.raises(Boom), signal.connect(ear):
        raise Boom
    assert heard(signal) == []


def test_context_manager_does_not_mind_a_disconnect_inside() -> None:
    signal, ear = Signal(), Ear()
    with signal.connect(ear) as connection:
        assert connection.disconnect()
    assert not connection.connected


def test_handle_keeps_neither_receiver_nor_sender_alive() -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    connection = signal.connect(ear.hear, sender)
    references: list[weakref.ref[Any]] = [weakref.ref(ear), weakref.ref(sender)]
    del ear, sender
    for reference in references:
        assert_gone(reference)
    assert connection.connected is False


def test_receiver_of_a_handle_is_none_once_dead() -> None:
    signal, ear = Signal(), Ear()
    connections = [signal.connect(ear), signal.connect(ear.hear)]
    del ear
    for connection in connections:
        assert connection.receiver is None
        assert connection.connected is False
        assert connection.disconnect() is False


def test_handle_is_disconnected_once_its_sender_is_dead() -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    connection = signal.connect(ear, sender)
    del sender
    assert connection.connected is False
    assert connection.disconnect() is False
    assert connection.receiver is ear


def test_handle_outlives_its_signal() -> None:
    signal, ear = Signal(), Ear()
    connection = signal.connect(ear)
    reference = weakref.ref(signal)
    del signal
    assert_gone(reference)
    assert connection.connected is False
    assert connection.disconnect() is False
    assert connection.receiver is ear


def test_receivers_lists_the_live_connections_in_call_order() -> None:
    signal, ears, sender = Signal(), [Ear(str(n)) for n in range(4)], Thing()
    connections = [
        signal.connect(ears[0]),
        signal.connect(ears[1], sender),
        signal.connect(ears[2].hear, priority=1),
        signal.connect(ears[3], dispatch_uid="menu"),
    ]
    expected = [connections[2], connections[0], connections[1], connections[3]]
    assert signal.receivers == expected
    connections[0].disconnect()
    del ears[2]
    assert signal.receivers == [connections[1], connections[3]]
    del sender
    assert signal.receivers == [connections[3]]


def test_receivers_of_a_sender_that_dies_meanwhile_are_listed_all_or_none() -> None:
    """Without the GIL it may die between the looks at two of its connections."""
    signal, first, between, last = Signal(), Ear("first"), Ear("between"), Ear("last")
    senders = [Thing()]
    connections = [
        signal.connect(first, senders[0]),
        signal.connect(between),
        signal.connect(last, senders[0]),
    ]
    assert signal.receivers == connections
    inside.let_nobody_hold(connections[1], senders.clear)
    assert signal.receivers == connections
    assert signal.receivers == [connections[1]]


def test_receivers_is_an_empty_list_when_nobody_is_connected() -> None:
    signal = Signal()
    assert signal.receivers == []
    assert type(signal.receivers) is list


def test_receivers_is_a_new_list_each_time() -> None:
    signal = Signal()
    signal.connect(ignore)
    signal.receivers.clear()
    assert len(signal.receivers) == 1
    assert signal.receivers is not signal.receivers


def test_receivers_cannot_be_assigned() -> None:
    with pytest.raises(AttributeError):
        Signal().receivers = []  # type: ignore[misc]


def test_has_listeners_counts_the_live_receivers_a_send_would_call() -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    assert signal.has_listeners() is False
    signal.connect(ear, sender)
    assert signal.has_listeners() is False
    assert signal.has_listeners(None) is False
    assert signal.has_listeners(Thing()) is False
    assert signal.has_listeners(sender) is True
    assert signal.has_listeners(sender=sender) is True
    signal.connect(ear)
    assert signal.has_listeners() is True
    assert signal.has_listeners(Thing()) is True
    signal.disconnect(ear)
    del ear
    assert signal.has_listeners(sender) is False


def test_repr_of_a_handle_names_receiver_signal_and_state() -> None:
    signal, ear = Signal(name="shop.order_placed"), Ear()
    connection = signal.connect(ear.hear, Thing(), weak=False)
    assert repr(connection) == "<Connection of Ear.hear for 'shop.order_placed', disconnected>"
    connection = signal.connect(ear.hear)
    assert repr(connection) == "<Connection of Ear.hear for 'shop.order_placed', connected>"
    assert "ignore" in repr(signal.connect(functools.partial(ignore, a=1), weak=False))
    assert "Ear.hear" in repr(signal.connect(background(Ear().hear), weak=False))
    del ear
    gone = "<Connection of a dead receiver for 'shop.order_placed', disconnected>"
    wait_until(lambda: repr(connection) == gone)


def test_handle_and_its_repr_keep_no_signal_alive() -> None:
    signal = Signal(name="shop.order_placed")
    connection, reference = signal.connect(ignore), weakref.ref(signal)
    assert "shop.order_placed" in repr(connection)
    with uncollected():
        del signal
        assert reference() is None
    assert repr(connection) == "<Connection of ignore for a dead signal, disconnected>"


def test_repr_of_a_handle_names_the_receiver_and_its_state() -> None:
    signal, ear = Signal(), Ear()
    assert "Ear" in repr(signal.connect(ear))
    connection = signal.connect(ear.hear)
    assert "Ear.hear" in repr(connection)
    connected = repr(connection)
    connection.disconnect()
    assert repr(connection) != connected
    del ear
    assert repr(connection)


def test_handles_are_told_apart_by_identity() -> None:
    signal = Signal()
    first: Any = signal.connect(ignore)
    signal.disconnect(ignore)
    second: Any = signal.connect(ignore)
    assert first != second
    assert len({first, second}) == 2
