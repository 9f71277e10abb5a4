"""Growth: what n and ten times n cost, counted in instructions that the library runs."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from helpers import TIMEOUT, Ear, Thing, heard, ignore

import tsignals
from tsignals import Connection, Signal, _call
from tsignals._connection import PLAIN

pytestmark = pytest.mark.unmeasured  # this traces by itself
PACKAGE = str(Path(tsignals.__file__).parent)


class Counted:
    """Counts the instructions that the library runs in this thread, in comprehensions, too."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> "Counted":
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith((PACKAGE, "<tsignals")):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._opcode

    def _opcode(self, frame: FrameType, event: str, argument: object) -> Any:
        self.count += event == "opcode"
        return self._opcode


def cost(act: Callable[[], object]) -> int:
    with Counted():
        Signal()  # CPython 3.12 begins to tell of opcodes the second time it is asked
    with Counted() as counted:
        act()
    return counted.count


def assert_linear(make: Callable[[int], Callable[[], object]], n: int = 40) -> None:
    """Ten times as much costs at most fourteen times as much; the square would be a hundred."""
    make(n)()  # what is compiled and cached the first time
    few, many = cost(make(n)), cost(make(10 * n))
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


def test_senders_with_a_connection_each() -> None:
    assert_linear(senders_that_send_once_each)


@pytest.mark.parametrize("verb", ["send", "send_robust", "has_listeners"])
def test_senders_with_a_connection_each_in_every_verb(verb: str) -> None:
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
    plans = signal._registry.current().plans
    assert plans is not None
    assert sum(len(plan.rows) for plan in plans.values()) <= 40 * 1200


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

    registry = signal._registry
    registry.add(Connection(registry.ref, "trap", Trap(), PLAIN))  # type: ignore[arg-type]
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
        return cost(lambda: [signal.send(None, size=1) for _ in range(50)])

    for _ in range(3 * _call.OFTEN):
        signal.send(None, size=1)
    before, compiled = usual(), len(_call._compiled)
    for n in range(3000):
        signal.send(None, **{f"once_{n}": 1})
        signal.send_robust(None, **{f"once_{n}": 1})
    assert len(_call._compiled) == compiled, "names that came once were compiled"
    assert usual() <= 1.1 * before
    # Also of a plan that met the odd names first.
    signal.connect(ignore, dispatch_uid="second")
    signal.disconnect(dispatch_uid="second")
    signal.send(None, **{"not-plain": 1})
    for _ in range(3 * _call.OFTEN):
        signal.send(None, size=1)
    assert usual() <= 1.1 * before


@pytest.mark.parametrize("count", [17, 1000, 10_000])
@pytest.mark.parametrize("connected", ["weak", "methods", "strong"])
def test_many_names_are_never_compiled(connected: str, count: int) -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear.hear if connected == "methods" else ear, weak=connected != "strong")
    named = dict.fromkeys([f"name_{n}" for n in range(count)])
    compiled = len(_call._compiled)
    for _ in range(2 * _call.OFTEN):
        signal.send(None, **named)
    signal.send_robust(None, **named)
    signal.send_async(None, **named).results(TIMEOUT)
    assert ear.calls[-1] == {"signal": signal, "sender": None, **named}
    long = {"n" * (_call.MOST_LETTERS + 1): 1}
    for _ in range(2 * _call.OFTEN):
        signal.send(None, **long)
    assert len(_call._compiled) == compiled


def test_compiled_functions_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_call, "LIMIT", len(_call._compiled) + 3)
    signal, ear = Signal(), Ear()
    signal.connect(ear)
    for n in range(10):
        for _ in range(_call.OFTEN + 1):
            signal.send(None, **{f"bounded_{n}": n})
            assert ear.calls.pop()[f"bounded_{n}"] == n
    assert len(_call._compiled) == _call.LIMIT
