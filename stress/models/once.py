"""Models of connections that one send calls: who does when calls on them meet."""

import contextlib
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from typing import Any

from stress.models.explore import Model, Mutant, at_once, require
from stress.models.registry import hear, heard, wrong
from tsignals import Connection
from tsignals._registry import registry
from tsignals._registry.once import Once, OnceClaim
from tsignals._signal import Signal


class Refuses(Executor):
    """Takes nothing, as a pool that is closed."""

    def submit(self, *arguments: Any, **named: Any) -> Any:
        raise KeyboardInterrupt


def send_refused(signal: Signal) -> None:
    """A send into an executor that gives back what it has claimed."""
    with contextlib.suppress(KeyboardInterrupt):
        require(not signal.via(Refuses()).send_async(None), "what was refused was accepted")


def _signal() -> tuple[Signal, Connection, list[int]]:
    signal, calls = Signal(name="modelled"), list[int]()
    return signal, signal.connect(lambda **named: calls.append(1), weak=False, once=True), calls


def _nothing_left(signal: Signal, connection: Connection) -> None:
    require(not connection.connected, "it is connected still")
    require(not heard(signal), "a later send has called it again")
    require(not signal._registry._connections, "the registry still knows it")


def once_once() -> str:
    """Of two sends one calls it, and the other leaves it out."""
    signal, connection, calls = _signal()
    found: dict[str, int] = {}
    at_once(
        lambda: found.update(first=len(heard(signal))),
        lambda: found.update(second=len(signal.send_robust(None))),
    )
    require(len(calls) == 1, f"it was called {len(calls)} times")
    require(sum(found.values()) == 1, f"the sends say {found}")
    _nothing_left(signal, connection)
    return "first" if found["first"] else "second"


def once_disconnect() -> str:
    """It is called, or a disconnect has removed it; and that says which."""
    signal, connection, calls = _signal()
    found: dict[str, bool] = {}
    at_once(
        lambda: found.update(sent=bool(heard(signal))),
        lambda: found.update(removed=connection.disconnect()),
    )
    require(found["sent"] != found["removed"], f"the calls say {found}")
    require(len(calls) == found["sent"], f"the send says {found}, and called it {len(calls)} times")
    _nothing_left(signal, connection)
    return "called" if calls else "disconnected"


def once_refused() -> str:
    """A send meets one that is refused: it calls it, or leaves out what that has claimed."""
    signal, connection, calls = _signal()
    found: list[int] = []
    at_once(lambda: send_refused(signal), lambda: found.append(len(heard(signal))))
    require(found == [len(calls)], f"the send says {found}, and called it {len(calls)} times")
    require(connection.connected is not bool(calls), "it is gone, and was not called")
    if not calls:
        require(len(heard(signal)) == 1, "it was given back, and is not heard")
    _nothing_left(signal, connection)
    return "called" if found[0] else "left"


def refused_disconnect() -> str:
    """A disconnect meets a send that is refused: whatever it says, it is gone."""
    signal, connection, calls = _signal()
    found: list[bool] = []
    at_once(lambda: send_refused(signal), lambda: found.append(connection.disconnect()))
    require(not calls, "it was called, and nobody has sent it")
    _nothing_left(signal, connection)
    return "removed" if found[0] else "claimed"


def refused_connect() -> str:
    """Who connects its key meanwhile gets the old one, or a new one that stands alone."""
    signal = Signal(name="modelled")
    old, made = signal.connect(hear, once=True), list[Connection]()
    at_once(
        lambda: send_refused(signal),
        lambda: made.append(signal.connect(hear, once=True)),
    )
    require(made[0].connected, "what was connected is not there")
    require((made[0] is old) is old.connected, "both stand under one key")
    require(heard(signal) == [hear], "it is not called once")
    _nothing_left(signal, old)
    return "old" if made[0] is old else "new"


def claimed_now(connection: Connection) -> bool:
    once = connection._options.once
    return once is not None and once.claimed_by is not None


def refused_asked() -> str:
    """Who asks finds the one or the other of two: at each moment one of them was connected."""
    signal = Signal(name="modelled")
    claimed = signal.connect(hear, once=True)
    found: list[bool] = []

    def change() -> None:
        other = signal.connect(lambda **named: None, weak=False, once=True)
        send_refused_to_first(claimed)
        other.disconnect()

    at_once(change, lambda: found.append(signal.has_listeners()))
    require(found[0], "has_listeners() denied them")
    return "seen"


def send_refused_to_first(connection: Connection) -> None:
    """What a send that is refused does to one of its receivers."""
    once, claim = connection._options.once, OnceClaim()
    require(once is not None and once.enter(claim), "somebody else has claimed it")
    assert once is not None
    once.give_back(claim)


# -- Mutants --


def enter_looking_first(self: Once, claim: OnceClaim) -> bool:
    """See that nobody has claimed it, and then claim it."""
    if self.claimed_by is not None:
        self.clear()
        return False
    self._claims = [claim]
    return True


def end_without_claim(self: Once) -> bool:
    """Disconnect without a claim: whoever has removed it."""
    return True


def enter_where_looked(self: Once, claim: OnceClaim) -> bool:
    """See that nobody has claimed it, and then enter there, wherever others do by now."""
    claims = self._counting()
    first = not claims
    claims.append(claim)
    if not first:
        self.clear()
    return first


def pop_unless_claimed(self: registry.Registry, key: Hashable) -> Connection | None:
    """Leave what is claimed to the send that has claimed it."""
    found = self.get(key)
    return None if found is not None and claimed_now(found) else self.remove(key)


def is_gone_unsaid(self: Once) -> bool:
    """Find it claimed, and do not decide that it stays so."""
    claim = self.claimed_by
    return claim is not None and not claim.is_given_back()


def unclaimed_once(its: Any, look: Callable[[], list[Any]]) -> list[Any]:
    """Read the claims once, whatever has changed meanwhile."""
    return [each for each in look() if not claimed_now(each)]


def clear_if_decided(self: Once) -> None:
    """Remove it, whatever has been decided meanwhile."""
    claim, its = self.claimed_by, self._registry()
    if claim is not None and claim.decided and its is not None:
        its.remove(self._key)


LOOK = Mutant("look, then claim", wrong(Once, "enter", enter_looking_first))

MODELS = (
    Model("once/once", once_once, (LOOK,), ("first", "second")),
    Model(
        "once/disconnect",
        once_disconnect,
        (LOOK, Mutant("disconnect unclaimed", wrong(Once, "end", end_without_claim))),
        ("called", "disconnected"),
    ),
    Model(
        "once/refused",
        once_refused,
        (Mutant("look, then enter there", wrong(Once, "enter", enter_where_looked)),),
        ("called", "left"),
    ),
    Model(
        "refused once/disconnect",
        refused_disconnect,
        (Mutant("leave what is claimed", wrong(registry.Registry, "pop", pop_unless_claimed)),),
        ("removed", "claimed"),
    ),
    Model(
        "refused once/connect",
        refused_connect,
        (Mutant("claimed for now", wrong(Once, "settle_if_claimed", is_gone_unsaid)),),
        ("old", "new"),
    ),
    Model(
        "refused once/asked",
        refused_asked,
        (
            Mutant("read the claims once", wrong(registry, "unclaimed", unclaimed_once)),
            Mutant("remove what is decided", wrong(Once, "clear", clear_if_decided)),
        ),
        ("seen",),
    ),
)
