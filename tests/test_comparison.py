"""``docs/explanation/comparison.md``: each cell of its first table is tried on that library."""

import asyncio
import gc
import importlib.metadata
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import tsignals

pytestmark = pytest.mark.once

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "comparison.md"
WAIT = 30.0
Receiver = Callable[..., Any]


class Peer:
    """One signal of a library, with what the library's own users would write."""

    distribution: str

    def connect(self, receiver: Receiver) -> None:
        raise NotImplementedError

    def send(self) -> Any:
        raise NotImplementedError

    # What a library has no words for, these do not find.
    connect_to: Callable[[Receiver, object], object]
    send_by: Callable[[object], object]
    send_robust: Callable[[], object]
    asend: Callable[[], Any]
    in_threads: Callable[[], Any]
    first: Callable[[Receiver], object]
    connect_twice: Callable[[Receiver], object]


class Sender: ...


class OneSignal(Peer):
    """As Django's users write it, and those of what came after."""

    signal: Any

    def connect(self, receiver: Receiver) -> None:
        self.signal.connect(receiver)

    def send(self) -> Any:
        return self.signal.send(None)

    def connect_to(self, receiver: Receiver, sender: object) -> None:
        self.signal.connect(receiver, sender)

    def send_by(self, sender: object) -> None:
        self.signal.send(sender)

    def connect_twice(self, receiver: Receiver) -> None:
        self.signal.connect(receiver)
        self.signal.connect(receiver)


class Tsignals(OneSignal):
    distribution = "tsignals"

    def __init__(self) -> None:
        self.signal = tsignals.Signal(name="compared")

    def send_robust(self) -> None:
        self.signal.send_robust(None)

    def asend(self) -> Any:
        return self.signal.asend(None)

    def in_threads(self) -> Any:
        return [future for _, future in self.signal.send_async(None)]

    def first(self, receiver: Receiver) -> None:
        self.signal.connect(receiver, priority=1)


class Django(OneSignal):
    distribution = "django"

    def __init__(self) -> None:
        from django.dispatch import Signal

        self.signal = Signal()

    def send_robust(self) -> None:
        self.signal.send_robust(None)

    def asend(self) -> Any:
        return self.signal.asend(None)


class Blinker(OneSignal):
    distribution = "blinker"

    def __init__(self) -> None:
        from blinker import Signal

        self.signal = Signal()

    def asend(self) -> Any:
        return self.signal.send_async(None)


class Psygnal(Peer):
    distribution = "psygnal"

    def __init__(self) -> None:
        from psygnal import Signal

        class Owner:
            signal = Signal()

        self.owner = Owner()

    def connect(self, receiver: Receiver) -> None:
        self.owner.signal.connect(receiver)

    def send(self) -> Any:
        return self.owner.signal.emit()

    def first(self, receiver: Receiver) -> None:
        self.owner.signal.connect(receiver, priority=1)

    def connect_twice(self, receiver: Receiver) -> None:
        self.owner.signal.connect(receiver, unique=True)
        self.owner.signal.connect(receiver, unique=True)


class PyDispatcher(Peer):
    distribution = "pydispatcher"

    def connect(self, receiver: Receiver) -> None:
        from pydispatch import dispatcher

        dispatcher.connect(receiver, signal=self)

    def send(self) -> Any:
        from pydispatch import dispatcher

        return dispatcher.send(signal=self)

    def connect_to(self, receiver: Receiver, sender: object) -> None:
        from pydispatch import dispatcher

        dispatcher.connect(receiver, signal=self, sender=sender)

    def send_by(self, sender: object) -> None:
        from pydispatch import dispatcher

        dispatcher.send(signal=self, sender=sender)

    def send_robust(self) -> None:
        from pydispatch import robust

        robust.sendRobust(signal=self)

    def connect_twice(self, receiver: Receiver) -> None:
        self.connect(receiver)
        self.connect(receiver)


class Pyee(Peer):
    distribution = "pyee"

    def __init__(self) -> None:
        from pyee import EventEmitter

        self.emitter = EventEmitter()

    def connect(self, receiver: Receiver) -> None:
        self.emitter.on("compared", receiver)
        self.connected = receiver

    def send(self) -> Any:
        return self.emitter.emit("compared")

    def asend(self) -> Any:
        from pyee.asyncio import AsyncIOEventEmitter

        async def main() -> None:
            emitter = AsyncIOEventEmitter()
            emitter.on("compared", self.connected)
            emitter.emit("compared")
            await emitter.wait_for_complete()

        return main()

    def in_threads(self) -> Any:
        from pyee.executor import ExecutorEventEmitter

        with ExecutorEventEmitter() as emitter:
            emitter.on("compared", self.connected)
            return emitter.emit("compared")

    def connect_twice(self, receiver: Receiver) -> None:
        self.connect(receiver)
        self.connect(receiver)


PEERS: dict[str, type[Peer]] = {
    "tsignals": Tsignals,
    "Django": Django,
    "blinker": Blinker,
    "psygnal": Psygnal,
    "PyDispatcher": PyDispatcher,
    "pyee": Pyee,
}


# What the rows say. Each answers for one library, by trying.


def lets_receivers_die(peer: Peer) -> bool:
    called = []

    class Owner:
        def hear(self, *_: object, **named: object) -> None:
            called.append(1)

    owner = Owner()
    peer.connect(owner.hear)
    del owner
    if isinstance(peer, Pyee):
        del peer.connected
    gc.collect()
    peer.send()
    return not called


def hears_one_sender(peer: Peer) -> bool:
    called = []

    def hear(*_: object, **named: object) -> None:
        called.append(1)

    one, other = Sender(), Sender()
    peer.connect_to(hear, one)
    peer.send_by(other)
    assert not called
    peer.send_by(one)
    return called == [1]


def returns_responses(peer: Peer) -> bool:
    def hear(*_: object, **named: object) -> str:
        return "response"

    peer.connect(hear)
    return "response" in repr(peer.send())


def collects_errors(peer: Peer) -> bool:
    called = []

    def fail(*_: object, **named: object) -> None:
        called.append("fail")
        raise ValueError("meant")

    def hear(*_: object, **named: object) -> None:
        called.append("hear")

    peer.connect(fail)
    peer.connect(hear)
    peer.send_robust()
    return sorted(called) == ["fail", "hear"]


def awaits_receivers(peer: Peer) -> bool:
    called = []

    async def hear(*_: object, **named: object) -> None:
        await asyncio.sleep(0)
        called.append(1)

    peer.connect(hear)
    asyncio.run(peer.asend())
    return called == [1]


def calls_in_threads(peer: Peer) -> bool:
    called: list[int] = []
    ended = threading.Event()

    def hear(*_: object, **named: object) -> None:
        called.append(threading.get_ident())
        ended.set()

    peer.connect(hear)
    peer.in_threads()
    assert ended.wait(WAIT)
    return called != [threading.get_ident()]


def gives_futures(peer: Peer) -> bool:
    def hear(*_: object, **named: object) -> int:
        return 3

    peer.connect(hear)
    answer = peer.in_threads()
    return isinstance(answer, list) and all(
        isinstance(each, Future) and each.result(WAIT) == 3 for each in answer
    )


def calls_by_priority(peer: Peer) -> bool:
    called = []

    def later(*_: object, **named: object) -> None:
        called.append("later")

    def first(*_: object, **named: object) -> None:
        called.append("first")

    peer.connect(later)
    peer.first(first)
    peer.send()
    return called == ["first", "later"]


def connects_once(peer: Peer) -> bool:
    called = []

    def hear(*_: object, **named: object) -> None:
        called.append(1)

    peer.connect_twice(hear)
    peer.send()
    return called == [1]


def lets_others_connect(peer: Peer) -> bool:
    """While a receiver runs, in another thread."""
    connected = threading.Event()

    def other(*_: object, **named: object) -> None: ...

    def connect() -> None:
        peer.connect(other)
        connected.set()

    thread = threading.Thread(target=connect, daemon=True)
    answers = []

    def hear(*_: object, **named: object) -> None:
        thread.start()
        answers.append(connected.wait(3))

    peer.connect(hear)
    peer.send()
    thread.join(WAIT)
    return answers == [True]


def survives_changes(peer: Peer) -> bool:
    """A receiver that connects others does not disturb the send that calls it."""
    kept: list[Receiver] = []

    def hear(*_: object, **named: object) -> None:
        for _ in range(3):
            kept.append(lambda *_, **named: None)
            peer.connect(kept[-1])

    def second(*_: object, **named: object) -> None: ...

    peer.connect(hear)
    peer.connect(second)
    peer.send()
    return len(kept) == 3


ROWS: dict[str, Callable[[Peer], bool]] = {
    "a receiver lives no longer than its owner": lets_receivers_die,
    "a receiver may hear one sender only": hears_one_sender,
    "a send returns what receivers answered": returns_responses,
    "a send may call all receivers though some fail": collects_errors,
    "async receivers are awaited": awaits_receivers,
    "receivers may be called in other threads": calls_in_threads,
    "and their results come as futures": gives_futures,
    "receivers may be called by priority": calls_by_priority,
    "connecting twice may call once": connects_once,
    "other threads may connect while a receiver runs": lets_others_connect,
    "receivers may connect others while they run": survives_changes,
}


def told() -> tuple[dict[str, str], dict[str, dict[str, bool]]]:
    """What the page says: the release of each library, and its answer to each row."""
    first = re.search(r"(^\|.*\n)+", PAGE.read_text(encoding="utf-8"), re.M)
    assert first is not None
    lines = first[0].splitlines()
    [head, _, *rows] = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    names = [cell.split()[0] for cell in head[1:]]
    releases = {cell.split()[0]: cell.split()[1] for cell in head[1:]}
    answers = {
        row[0]: dict(zip(names, [cell == "yes" for cell in row[1:]], strict=True)) for row in rows
    }
    return releases, answers


def tried(peer: type[Peer], row: Callable[[Peer], bool]) -> bool:
    try:
        return row(peer())
    except (AttributeError, TypeError, RuntimeError):  # it has no such thing, or cannot bear it
        return False


@pytest.mark.parametrize("name", PEERS)
def test_each_cell_is_what_the_library_does(name: str) -> None:
    try:
        installed = importlib.metadata.version(PEERS[name].distribution)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    releases, answers = told()
    assert list(answers) == list(ROWS)
    if name != "tsignals" and not installed.startswith(releases[name]):
        pytest.skip(f"the page speaks of {name} {releases[name]}, and {installed} is here")
    found = {row: tried(PEERS[name], ask) for row, ask in ROWS.items()}
    assert {row: told[name] for row, told in answers.items()} == found


def test_page_names_each_library() -> None:
    releases, _ = told()
    assert list(releases) == list(PEERS)
    assert all(re.fullmatch(r"\d+(\.\d+)*", release) for release in releases.values())
