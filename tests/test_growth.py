"""Growth: what n and ten times n cost, counted in instructions that the library runs."""

import asyncio
from collections.abc import Callable
from typing import Any

import inside
import pytest
from helpers import TIMEOUT, Ear, Thing, heard, ignore, steps

from tsignals import Connection, Signal, WorkerPool

pytestmark = pytest.mark.unmeasured  # this traces by itself


def assert_linear(make: Callable[[int], Callable[[], object]], n: int = 40) -> None:
    """Ten times as much costs at most fourteen times as much; the square would be a hundred."""
    make(n)()  # what is compiled and cached the first time
    few, many = steps(make(n)), steps(make(10 * n))
    assert few > n, "nothing was counted"
    assert many < 14 * few, f"{n}: {few}, {10 * n}: {many}"


def senders_that_send_once_each(n: int) -> Callable[[], object]:
    signal, ears, senders = Signal(), [Ear() for _ in range(n)], [Thing() for _ in range(n)]
    for ear, sender in zip(ears, senders, strict=True):
        signal.connect(ear, sender)

    def act() -> None:
        for ear, sender in zip(ears, senders, strict=True):
            assert heard(signal, sender) == [ear]

    return act


def test_cost_grows_no_faster_than_the_number_of_senders() -> None:
    assert_linear(senders_that_send_once_each)


@pytest.mark.parametrize("verb", ["send", "send_robust", "has_listeners"])
def test_cost_grows_no_faster_than_the_number_of_senders_in_every_verb(verb: str) -> None:
    def make(n: int) -> Callable[[], object]:
        signal, senders = Signal(), [Thing() for _ in range(n)]
        for sender in senders:
            signal.connect(ignore, sender)
        return lambda: [getattr(signal, verb)(sender) for sender in senders]

    assert_linear(make)


def test_plans_of_many_senders_do_not_keep_those_who_hear_all_for_each() -> None:
    signal, ears, senders = Signal(), [Ear() for _ in range(100)], [Thing() for _ in range(1000)]
    for ear in ears:
        signal.connect(ear)
    for sender in senders:
        signal.connect(ignore, sender)
    for _ in range(2):
        for sender in senders:
            assert len(heard(signal, sender)) == 101
    plans = inside.plans_of(signal)
    assert plans is not None
    assert sum(len(plan.connections) for plan in plans.values()) <= 40 * 1200


def test_sender_that_sends_again_finds_its_plan() -> None:
    signal, sender = Signal(), Thing()
    signal.connect(ignore, sender)
    for _ in range(10):  # until the connections are sorted by their senders
        assert heard(signal, sender) == [ignore]
    found = []
    for _ in range(2):
        assert heard(signal, sender) == [ignore]
        plans = inside.plans_of(signal)
        assert plans is not None
        found.append(plans[id(sender)])
    assert found[0] is found[1]
    assert len(found[0].connections) == 1


@pytest.mark.parametrize("verb", ["send", "send_robust", "send_async", "asend", "prepare"])
@pytest.mark.parametrize(
    "terms", [{}, {"once": True}, {"tracked": True}, {"ordered": True}], ids=str
)
@pytest.mark.parametrize("own", [True, False])
def test_connections_are_not_sorted_where_each_send_is_followed_by_a_change(
    verb: str, terms: dict[str, bool], own: bool
) -> None:
    """For one look at them that takes long; and no send looks more than twice."""
    with WorkerPool(1) as pool:
        signal, senders = Signal(executor=pool), [Thing() for _ in range(3)]
        for sender in senders:
            signal.connect(ignore, sender)
        for _ in range(3):
            sender = Thing()
            connection = signal.connect(ignore, sender, **terms)
            sent = getattr(signal, verb)(sender if own else None)
            if verb == "asend":
                asyncio.run(sent)
            assert inside.plans_of(signal) is None
            connection.disconnect()
            if verb == "prepare":
                sent.drop()


@pytest.mark.parametrize(
    ("everywhere", "senders", "kept"),
    [(100, 400, 191), (64, 163, 161)],  # 191 times 101 places is more than 32 times 600
)
def test_plans_of_senders_are_kept_up_to_a_few_times_the_connections(
    everywhere: int, senders: int, kept: int
) -> None:
    """Each holds all that hear every sender: without a bound, that is the product of both."""
    signal, those = Signal(), [Thing() for _ in range(senders)]
    ears = [Ear() for _ in range(everywhere)]
    for ear in ears:
        signal.connect(ear)
    for sender in those:
        signal.connect(ignore, sender)
    for _ in range(10):  # until the connections are sorted by their senders
        assert heard(signal) == ears
    for sender in those:
        assert len(heard(signal, sender)) == everywhere + 1
    plans = inside.plans_of(signal)
    assert plans is not None
    made = [plan for plan in plans.values() if plan.sender() in those]
    assert len(made) == kept


def test_names_of_values_are_forgotten_now_and_then() -> None:
    signal, most = Signal(), 0
    signal.connect(ignore, weak=False)
    for n in range(1200):
        signal.send(None, **{f"n{n}": n})
        most = max(most, inside.names_counted())
    assert most == 1024


@pytest.mark.parametrize("how", ["connection", "signal", "uid"])
def test_tracked_receivers_that_are_disconnected_with_a_wait(how: str) -> None:
    def make(n: int) -> Callable[[], object]:
        signal, ears = Signal(), [Ear() for _ in range(n)]
        uids = [("uid", i) if how == "uid" else None for i in range(n)]
        connections = [
            signal.connect(ear, tracked=True, dispatch_uid=uid)
            for ear, uid in zip(ears, uids, strict=True)
        ]

        def act() -> None:
            for connection, ear, uid in zip(connections, ears, uids, strict=True):
                if how == "connection":
                    assert connection.disconnect(wait=True)
                else:
                    assert signal.disconnect(ear, dispatch_uid=uid, wait=True)

        return act

    assert_linear(make)


def test_connecting_and_disconnecting() -> None:
    def make(n: int) -> Callable[[], object]:
        signal, ears = Signal(), [Ear() for _ in range(n)]

        def act() -> None:
            for ear in ears:
                signal.connect(ear)
                signal.connect(ear.hear, tracked=True)
            for ear in ears:
                assert signal.disconnect(ear)
                assert signal.disconnect(ear.hear)

        return act

    assert_linear(make)


def test_connections_that_are_each_asked_whether_they_are_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signal = Signal()
    connections = [signal.connect(ignore, dispatch_uid=str(n)) for n in range(100)]
    compared = 0

    def equal(self: Connection, other: object) -> bool:
        nonlocal compared
        compared += 1
        return self is other

    monkeypatch.setattr(Connection, "__eq__", equal)
    assert all(connection.connected for connection in connections)
    assert compared <= len(connections)


@pytest.mark.parametrize("ask", ["send", "receivers", "has_listeners"])
def test_looks_are_bounded_however_many_die_and_connect_meanwhile(ask: str) -> None:
    """At each look one receiver dies and another connects, so that no two looks agree."""
    signal = Signal()
    ears = [Ear(str(n)) for n in range(10)]
    looks = 0

    class Trap:
        """A weak reference in the middle of which others die and connect."""

        def __call__(self) -> Any:
            nonlocal looks
            looks += 1
            assert looks < 20, "it looks without end"
            ears.pop()  # at the next look, who has connected at this one
            ears.append(Ear("new"))
            signal.connect(ears[-1])
            return ignore

    inside.connect_reference(signal, Trap())
    for n in range(10):
        signal.connect(ears[n])
    if ask == "send":
        assert len(signal.send(None)) >= 8
    elif ask == "receivers":
        assert len(signal.receivers) >= 8
    else:
        assert signal.has_listeners()
    assert looks >= 2


def test_values_by_names_that_come_once_leave_others_as_fast_as_they_were() -> None:
    signal = Signal()
    signal.connect(ignore)

    def usual() -> int:
        return steps(lambda: [signal.send(None, size=1) for _ in range(50)])

    for _ in range(3 * inside.compiled_after()):
        signal.send(None, size=1)
    before, compiled = usual(), inside.compiled_functions()
    for n in range(3000):
        signal.send(None, **{f"once_{n}": 1})
        signal.send_robust(None, **{f"once_{n}": 1})
    assert inside.compiled_functions() == compiled, "names that came once were compiled"
    assert usual() <= 1.1 * before
    # Also of a plan that met the odd names first.
    signal.connect(ignore, dispatch_uid="second")
    signal.disconnect(dispatch_uid="second")
    signal.send(None, **{"not-plain": 1})
    for _ in range(3 * inside.compiled_after()):
        signal.send(None, size=1)
    assert usual() <= 1.1 * before


@pytest.mark.parametrize("count", [17, 1000, 10_000])
@pytest.mark.parametrize("connected", ["weak", "methods", "strong"])
def test_many_names_are_never_compiled(connected: str, count: int) -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear.hear if connected == "methods" else ear, weak=connected != "strong")
    named = dict.fromkeys([f"name_{n}" for n in range(count)])
    compiled = inside.compiled_functions()
    for _ in range(2 * inside.compiled_after()):
        signal.send(None, **named)
    signal.send_robust(None, **named)
    signal.send_async(None, **named).results(TIMEOUT)
    assert ear.calls[-1] == {"signal": signal, "sender": None, **named}
    long = {"n" * (inside.longest_compiled_name() + 1): 1}
    for _ in range(2 * inside.compiled_after()):
        signal.send(None, **long)
    assert inside.compiled_functions() == compiled


def test_compiled_functions_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    inside.MOST_COMPILED.patch(monkeypatch, inside.compiled_functions() + 3)
    signal, ear = Signal(), Ear()
    signal.connect(ear)
    for n in range(10):
        for _ in range(inside.compiled_after() + 1):
            signal.send(None, **{f"bounded_{n}": n})
            assert ear.calls.pop()[f"bounded_{n}"] == n
    assert inside.compiled_functions() == inside.MOST_COMPILED.now
