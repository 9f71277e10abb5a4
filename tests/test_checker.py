"""The checker of histories finds an order where one exists, and none where none does."""

import pytest

from stress.checker import (
    REFUSED,
    Action,
    Call,
    Connect,
    Connected,
    Dies,
    DisconnectHandle,
    DisconnectKey,
    HasListeners,
    ListReceivers,
    Send,
    core,
    explain,
    table,
)

pytestmark = pytest.mark.once

A = ("a", None)
B = ("b", None)
A_OF_S = ("a", "s")
CONNECT_A = Connect(A, "a")
CONNECT_B = Connect(B, "b")


def one_after_the_other(*calls: tuple[Action, object]) -> list[Call]:
    return [Call(action, answer, 2 * n, 2 * n + 1) for n, (action, answer) in enumerate(calls)]


def all_at_once(*calls: tuple[Action, object]) -> list[Call]:
    return [Call(action, answer, 0, 1) for action, answer in calls]


ONCE_A = Connect(A, "a", once=True)

GOOD = {
    "nothing": [],
    "one of two sends calls what is called once": [
        Call(ONCE_A, 1, 0, 1),
        Call(Send(None), ("a",), 2, 4),
        Call(Send(None), (), 3, 5),
        Call(HasListeners(None), False, 6, 7),
    ],
    "a send began before the call that another has made": [
        Call(ONCE_A, 1, 0, 1),
        Call(Send(None), (), 2, 9),
        Call(CONNECT_B, 2, 3, 4),
        Call(Send(None), ("a", "b"), 5, 6),
    ],
    "a disconnect comes before a send, or after": [
        Call(ONCE_A, 1, 0, 1),
        Call(DisconnectHandle(1), True, 2, 4),
        Call(Send(None), (), 3, 5),
        Call(ONCE_A, 2, 6, 7),
        Call(Send(None), ("a",), 8, 10),
        Call(DisconnectHandle(2), False, 9, 11),
    ],
    "a quiet life": one_after_the_other(
        (HasListeners(None), False),
        (CONNECT_A, 1),
        (HasListeners(None), True),
        (Send(None), ("a",)),
        (Connected(1), True),
        (DisconnectKey(A), True),
        (DisconnectKey(A), False),
        (DisconnectHandle(1), False),
        (Connected(1), False),
        (Send(None), ()),
    ),
    "a key connected again keeps its connection": one_after_the_other(
        (CONNECT_A, 1), (CONNECT_A, 1), (Send(None), ("a",))
    ),
    "a key connected again with another priority is refused": one_after_the_other(
        (CONNECT_A, 1), (Connect(A, "a", priority=1), REFUSED), (Send(None), ("a",))
    ),
    "a connection made anew is another": one_after_the_other(
        (CONNECT_A, 1), (DisconnectHandle(1), True), (CONNECT_A, 2), (DisconnectHandle(1), False)
    ),
    "higher priority is called first": one_after_the_other(
        (CONNECT_A, 1), (Connect(B, "b", priority=5), 2), (Send(None), ("b", "a"))
    ),
    "a send reaches its sender's receivers and everybody's": one_after_the_other(
        (Connect(A_OF_S, "a"), 1),
        (CONNECT_B, 2),
        (Send("s"), ("a", "b")),
        (Send("other"), ("b",)),
        (Send(None), ("b",)),
        (HasListeners(None), True),
    ),
    "one uid is one connection": one_after_the_other(
        (Connect(("uid", None), "a"), 1), (Connect(("uid", None), "b"), 1), (Send(None), ("a",))
    ),
    "a receiver's death disconnects it": one_after_the_other(
        (CONNECT_A, 1), (Dies("a"), None), (DisconnectKey(A), False), (Send(None), ())
    ),
    "a sender's death disconnects its receivers": one_after_the_other(
        (Connect(A_OF_S, "a"), 1), (Dies("s"), None), (ListReceivers(), ())
    ),
    "overlapping calls in either order": all_at_once((CONNECT_A, 1), (Send(None), ("a",))),
    "overlapping calls in the other order": all_at_once((CONNECT_A, 1), (Send(None), ())),
    "the order of two connects is not the order in which they began": [
        Call(CONNECT_A, 1, 0, 9),
        Call(CONNECT_B, 2, 1, 2),
        Call(Send(None), ("b", "a"), 10, 11),
    ],
    "one of two overlapping disconnects removed it": one_after_the_other((CONNECT_A, 1))
    + [Call(DisconnectKey(A), True, 5, 9), Call(DisconnectHandle(1), False, 5, 9)],
}

BAD = {
    "what is called once is called twice": one_after_the_other(
        (ONCE_A, 1), (Send(None), ("a",)), (Send(None), ("a",))
    ),
    "what is called once is called by two sends at once": [
        Call(ONCE_A, 1, 0, 1),
        Call(Send(None), ("a",), 2, 4),
        Call(Send(None), ("a",), 3, 5),
    ],
    "what is called once is called by nobody": one_after_the_other((ONCE_A, 1), (Send(None), ())),
    "a send leaves out what another calls later": [
        Call(ONCE_A, 1, 0, 1),
        Call(Send(None), (), 2, 3),
        Call(Send(None), ("a",), 4, 5),
    ],
    "what was called once is connected still": one_after_the_other(
        (ONCE_A, 1), (Send(None), ("a",)), (Connected(1), True)
    ),
    "what was called once is removed by a disconnect": one_after_the_other(
        (ONCE_A, 1), (Send(None), ("a",)), (DisconnectHandle(1), True)
    ),
    "a connect is forgotten": one_after_the_other((CONNECT_A, 1), (Send(None), ())),
    "a disconnect is forgotten": one_after_the_other(
        (CONNECT_A, 1), (DisconnectKey(A), True), (Send(None), ("a",))
    ),
    "a listener is denied": one_after_the_other((CONNECT_A, 1), (HasListeners(None), False)),
    "a listener is made up": one_after_the_other((HasListeners(None), True)),
    "a listener of one sender is everybody's": one_after_the_other(
        (Connect(A_OF_S, "a"), 1), (HasListeners("other"), True)
    ),
    "a key connected again is called twice": one_after_the_other(
        (CONNECT_A, 1), (CONNECT_A, 1), (Send(None), ("a", "a"))
    ),
    "a key connected again gets another connection": one_after_the_other(
        (CONNECT_A, 1), (CONNECT_A, 2)
    ),
    "a key connected again loses its priority": one_after_the_other(
        (CONNECT_A, 1), (Connect(A, "a", priority=1), 1)
    ),
    "a new key is refused": one_after_the_other((CONNECT_A, REFUSED)),
    "a key is refused that stands as asked": one_after_the_other(
        (CONNECT_A, 1), (CONNECT_A, REFUSED)
    ),
    "a removed connection is handed out again": one_after_the_other(
        (CONNECT_A, 1), (DisconnectKey(A), True), (CONNECT_A, 1)
    ),
    "one connection under two keys": one_after_the_other((CONNECT_A, 1), (CONNECT_B, 1)),
    "both of two overlapping disconnects removed it": one_after_the_other((CONNECT_A, 1))
    + [Call(DisconnectKey(A), True, 5, 9), Call(DisconnectHandle(1), True, 5, 9)],
    "neither of two overlapping disconnects removed it": one_after_the_other((CONNECT_A, 1))
    + [Call(DisconnectKey(A), False, 5, 9), Call(DisconnectHandle(1), False, 5, 9)],
    "an old handle removes the new connection": one_after_the_other(
        (CONNECT_A, 1), (DisconnectHandle(1), True), (CONNECT_A, 2), (DisconnectHandle(1), True)
    ),
    "the order of connection is turned round": one_after_the_other(
        (CONNECT_A, 1), (CONNECT_B, 2), (Send(None), ("b", "a"))
    ),
    "priority is ignored": one_after_the_other(
        (CONNECT_A, 1), (Connect(B, "b", priority=5), 2), (ListReceivers(), (1, 2))
    ),
    "the dead are called": one_after_the_other(
        (CONNECT_A, 1), (Dies("a"), None), (Send(None), ("a",))
    ),
    "the dead are counted": one_after_the_other(
        (CONNECT_A, 1), (Dies("a"), None), (HasListeners(None), True)
    ),
    "the dead are disconnected": one_after_the_other(
        (CONNECT_A, 1), (Dies("a"), None), (DisconnectKey(A), True)
    ),
    "a dead sender's receivers are listed": one_after_the_other(
        (Connect(A_OF_S, "a"), 1), (Dies("s"), None), (ListReceivers(), (1,))
    ),
    # b was there before a was gone, so no moment had neither.
    "a send sees a state that never was": [
        Call(CONNECT_A, 1, 0, 1),
        Call(Send(None), (), 2, 20),
        Call(CONNECT_B, 2, 3, 4),
        Call(DisconnectKey(A), True, 5, 6),
    ],
    # The list of all senders before the change, that of the one sender after it.
    "a send sees half of the past and half of the present": [
        Call(CONNECT_B, 1, 0, 1),
        Call(Send("s"), ("a", "b"), 2, 20),
        Call(DisconnectKey(B), True, 3, 4),
        Call(Connect(A_OF_S, "a"), 2, 5, 6),
    ],
    "the new is seen and then the old again": [
        Call(CONNECT_A, 1, 0, 20),
        Call(Send(None), ("a",), 1, 2),
        Call(Send(None), (), 3, 4),
    ],
    "two readers disagree on the order of two changes": [
        Call(CONNECT_A, 1, 0, 20),
        Call(CONNECT_B, 2, 0, 20),
        Call(Send(None), ("a",), 1, 10),
        Call(Send(None), ("b",), 1, 10),
    ],
    "two sends agree on an order that connection denies": all_at_once(
        (CONNECT_A, 1), (CONNECT_B, 2)
    )
    + [Call(Send(None), ("a", "b"), 5, 6), Call(Send(None), ("b", "a"), 7, 8)],
    "a disconnect takes hold before it is called": [
        Call(CONNECT_A, 1, 0, 1),
        Call(HasListeners(None), False, 2, 3),
        Call(DisconnectKey(A), True, 4, 5),
    ],
    "a disconnect finds nothing though only death, later, removed it": [
        Call(CONNECT_A, 1, 0, 1),
        Call(DisconnectKey(A), False, 2, 9),
        Call(DisconnectHandle(1), False, 3, 4),
        Call(Dies("a"), None, 5, 8),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_an_order_is_found_for(name: str) -> None:
    history = GOOD[name]

    order = explain(history)

    assert order is not None, table(history)
    assert sorted(map(id, order)) == sorted(map(id, history))
    placed = {id(call): place for place, call in enumerate(order)}
    for one in history:
        for other in history:
            if one.returned < other.began:
                assert placed[id(one)] < placed[id(other)]


@pytest.mark.parametrize("name", BAD)
def test_no_order_is_found_when(name: str) -> None:
    assert explain(BAD[name]) is None


def test_a_long_history_with_four_threads_is_decided() -> None:
    # Four overlapping calls at a time, 25 times: 24 ** 25 orders without memoisation.
    history = []
    for turn in range(25):
        began, returned = 10 * turn, 10 * turn + 9
        for thread in range(4):
            key = (f"r{thread}", None)
            action = Connect(key, key[0]) if turn % 2 == 0 else DisconnectKey(key)
            answer = 4 * turn + thread if turn % 2 == 0 else True
            history.append(Call(action, answer, began, returned, f"thread {thread}"))
    good = Call(Send(None), (), 219, 221)
    bad = Call(Send(None), ("r1", "r1"), 219, 221)

    assert explain([*history, good]) is not None
    assert explain([*history, bad]) is None


def test_the_core_of_a_bad_history_is_bad_and_has_no_read_to_spare() -> None:
    noise = [Call(HasListeners(None), True, 100 + n, 100 + n) for n in range(5)]
    history = [*BAD["the new is seen and then the old again"], *noise]

    left = core(history)

    assert [call.action for call in left] == [CONNECT_A, Send(None), Send(None)]
    assert explain(left) is None
