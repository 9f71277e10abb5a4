"""Random calls on one signal from a few threads, logged, and checked for one explaining order.

Each history begins with a new signal, a cast of receivers and senders, some of which may die,
and a script for each thread. Calls are also made where nobody expects them: by receivers, by
finalizers, by ``__eq__`` and ``__hash__`` of a ``dispatch_uid``, and by a signal handler in the
main thread, which is one of the threads.
"""

import argparse
import contextlib
import gc
import itertools
import os
import random
import signal as signals
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import tsignals
from stress._run import (
    Breach,
    add_hang,
    add_json,
    add_seed,
    collecting_often,
    fast_switching,
    hang_detector,
    progress,
    python,
    seed_of,
    told_of_ignored_exceptions,
    write_report,
)
from stress.bytecode import hooked, watching
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
    Key,
    ListReceivers,
    Send,
    core,
    explain,
    table,
)
from tsignals import Connection, Signal

LIBRARY = os.path.dirname(tsignals.__file__)
SECONDS_TO_DIE = 10.0
SENDS = ("send", "send_robust", "send_async")


def _by_sender(sender: object, **named: object) -> int:
    return id(sender)


NAMES = ("value", "self", "class", "ﬁ", "a b")  # some may not be compiled into a call


class Mortal:
    """Hears as a method, or sends; a history may let it die."""

    def __init__(self, name: str) -> None:
        self.name = name

    def hear(self, /, signal: Signal, sender: object, **named: Any) -> object:
        return heard(self.name, named)


class Ear:
    """A receiver that is neither function nor method."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, /, signal: Signal, sender: object, **named: Any) -> object:
        return heard(self.name, named)


def function(name: str) -> Callable[..., object]:
    def hear(signal: Signal, sender: object, **named: Any) -> object:
        return heard(name, named)

    hear.__name__ = name
    return hear


def heard(name: str, named: dict[str, Any]) -> object:
    named["calls"].append(name)
    for meanwhile in named["meanwhile"]:
        meanwhile()
    return named["token"]


def name_of(receiver: Any) -> str:
    target = getattr(receiver, "__self__", receiver)
    return str(getattr(target, "name", None) or target.__name__)


class Uid:
    """A ``dispatch_uid`` whose comparisons make calls of their own."""

    def __init__(self, name: str, meanwhile: Callable[[], None]) -> None:
        self.name = name
        self.meanwhile = meanwhile

    def __hash__(self) -> int:
        self.meanwhile()
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        self.meanwhile()
        return isinstance(other, Uid) and other.name == self.name


class Litter:
    """Garbage that makes a call when it is collected, wherever that happens."""

    def __init__(self, meanwhile: Callable[[], None], cycle: bool) -> None:
        self.meanwhile = meanwhile
        self.itself = self if cycle else None

    def __del__(self) -> None:
        self.meanwhile()


class Actor:
    """A receiver or a sender by name; held strongly here until somebody lets it die."""

    def __init__(self, name: str, target: object, mortal: bool) -> None:
        self.name = name
        self.mortal = mortal
        self.held = [target]
        self.alive: Callable[[], Any] = weakref.ref(target) if mortal else lambda: target

    def receiver(self) -> Any:
        """What to connect, or ``None`` once dead."""
        target = self.alive()
        return target.hear if isinstance(target, Mortal) else target


@dataclass
class History:
    """One signal, its cast, and what was done to it."""

    signal: Signal
    receivers: list[Actor]
    senders: list[Actor]
    strong: frozenset[str]
    ordered: bool | Callable[..., int]  # as all are connected
    calls: list[Call] = field(default_factory=list)
    handles: list[Connection] = field(default_factory=list)  # also keeps their ids unique
    problems: list[str] = field(default_factory=list)
    unchecked: list[Callable[[], None]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def cast(self) -> list[Actor]:
        return [*self.receivers, *self.senders]

    def check_deliveries(self) -> None:
        """Check what came of the deliveries, and let go of them."""
        with contextlib.suppress(IndexError):
            while True:
                self.unchecked.pop()()

    @classmethod
    def begin(cls, ordered: bool) -> "History":
        receivers = [
            Actor("function", function("function"), mortal=True),
            Actor("method", Mortal("method"), mortal=True),
            Actor("object", Ear("object"), mortal=True),
            Actor("lasting", function("lasting"), mortal=False),
            Actor("strong", function("strong"), mortal=False),
        ]
        senders = [
            Actor("mortal", Mortal("mortal"), mortal=True),
            Actor("str", "str", mortal=False),
        ]
        order = _by_sender if ordered else False
        return cls(Signal(name="history"), receivers, senders, frozenset({"strong"}), order)


class Performer:
    """Plays one thread's part in a history."""

    # How deep calls may be made from within calls.
    DEPTH = 2

    def __init__(self, history: History, thread: str, seed: int) -> None:
        self.history = history
        self.thread = thread
        self.random = random.Random(seed)
        # Finalizers and comparisons may run in other threads than ours.
        self.inside = threading.local()

    def play(self, length: int) -> None:
        for _ in range(length):
            self.act()

    def meanwhile(self) -> None:
        """Make a call in the middle of another; sometimes, and not for ever deeper."""
        depth = getattr(self.inside, "depth", 0)
        if depth < self.DEPTH and self.random.random() < 0.15:
            self.inside.depth = depth + 1
            try:
                self.act()
            finally:
                self.inside.depth = depth

    def act(self) -> None:
        """Make one random call and log it."""
        nested = getattr(self.inside, "depth", 0) > 0
        weights: dict[Callable[[], None], int] = {
            self.connect: 8,
            self.disconnect: 4,
            self.disconnect_handle: 3,
            self.send: 8,
            self.has_listeners: 3,
            self.list_receivers: 2,
            self.connected: 1,
            self.litter: 1,
            # Whoever waits for a death inside another call may be the one that prevents it.
            self.die: 0 if nested else 2,
        }
        self.random.choices(list(weights), list(weights.values()))[0]()

    def log(self, action: Action, answer: object, began: int, returned: int) -> None:
        self.history.calls.append(Call(action, answer, began, returned, self.thread))

    def any_sender(self) -> tuple[str | None, object] | None:
        """A sender's name and itself, or ``None`` if it is dead."""
        actor = self.random.choice([None, None, *self.history.senders])
        if actor is None:
            return None, None
        sender = actor.alive()
        return None if sender is None else (actor.name, sender)

    def any_uid(self) -> Uid | str | None:
        kind = self.random.random()
        if kind < 0.6:
            return None
        return "uid" if kind < 0.75 else Uid(self.random.choice("uvw"), self.meanwhile)

    def any_key(self) -> tuple[Actor, Any, object, Uid | str | None, Key] | None:
        """What ``connect`` and ``disconnect`` take, or ``None`` if some of it is dead."""
        actor = self.random.choice(self.history.receivers)
        receiver, to, uid = actor.receiver(), self.any_sender(), self.any_uid()
        if receiver is None or to is None:
            return None
        name, sender = to
        who = actor.name if uid is None else f"uid {getattr(uid, 'name', uid)}"
        return actor, receiver, sender, uid, (who, name)

    def any_handle(self) -> Connection | None:
        handles = self.history.handles[-6:]
        return self.random.choice(handles) if handles else None

    def connect(self) -> None:
        chosen = self.any_key()
        if chosen is None:
            return
        actor, receiver, sender, uid, key = chosen
        weak = actor.name not in self.history.strong
        priority = self.random.choice((0, 0, 0, 1))
        name = actor.name
        if once := self.random.random() < 0.25:
            # A receiver of its own: so who has called it tells which connection that was.
            name, weak = f"once {next(self.history.numbers)}", False
            receiver = function(name)
            key = (name, key[1]) if uid is None else key
        began = time.monotonic_ns()
        handle = None
        with contextlib.suppress(ValueError):
            handle = self.history.signal.connect(
                receiver,
                sender,
                weak,
                uid,
                priority=priority,
                once=once,
                ordered=self.history.ordered,
            )
        returned = time.monotonic_ns()
        answer: object = REFUSED
        if handle is not None:
            self.history.handles.append(handle)
            answer = id(handle)
        self.log(Connect(key, name, priority, once), answer, began, returned)

    def disconnect(self) -> None:
        chosen = self.any_key()
        if chosen is None:
            return
        _, receiver, sender, uid, key = chosen
        if uid is not None and self.random.random() < 0.5:
            receiver = None
        began = time.monotonic_ns()
        answer = self.history.signal.disconnect(receiver, sender, uid)
        returned = time.monotonic_ns()
        self.log(DisconnectKey(key), answer, began, returned)

    def disconnect_handle(self) -> None:
        handle = self.any_handle()
        if handle is None:
            return
        began = time.monotonic_ns()
        answer = handle.disconnect()
        returned = time.monotonic_ns()
        self.log(DisconnectHandle(id(handle)), answer, began, returned)

    def connected(self) -> None:
        handle = self.any_handle()
        if handle is None:
            return
        began = time.monotonic_ns()
        answer = handle.connected
        returned = time.monotonic_ns()
        self.log(Connected(id(handle)), answer, began, returned)

    def has_listeners(self) -> None:
        to = self.any_sender()
        if to is None:
            return
        name, sender = to
        began = time.monotonic_ns()
        answer = self.history.signal.has_listeners(sender)
        returned = time.monotonic_ns()
        self.log(HasListeners(name), answer, began, returned)

    def list_receivers(self) -> None:
        began = time.monotonic_ns()
        handles = self.history.signal.receivers
        returned = time.monotonic_ns()
        self.history.handles.extend(handles)
        self.log(ListReceivers(), tuple(map(id, handles)), began, returned)

    def send(self) -> None:
        to = self.any_sender()
        if to is None:
            return
        name, sender = to
        verb = self.random.choice(SENDS)
        token, calls = object(), list[str]()
        # In a worker, calls would come when the history is over.
        meanwhile = [] if verb == "send_async" else [self.meanwhile]
        named: dict[str, Any] = {"calls": calls, "token": token, "meanwhile": meanwhile}
        send = getattr(self.history.signal, verb)
        if self.random.random() < 0.3:
            # Nobody but the send holds it.
            extra = self.random.choice(NAMES)
            began = time.monotonic_ns()
            answer = send(sender, **named, **{extra: Litter(self.meanwhile, cycle=False)})
        else:
            began = time.monotonic_ns()
            answer = send(sender, **named)
        returned = time.monotonic_ns()
        reached = tuple(name_of(receiver) for receiver, _ in answer)
        self.log(Send(name, verb), reached, began, returned)

        def check() -> None:
            responses = answer.outcomes(timeout=20) if verb == "send_async" else answer
            # Deliveries run in any order.
            put = sorted if verb == "send_async" else list
            right = all(response is token for _, response in responses)
            if not right or put(calls) != put(reached):
                self.history.problems.append(f"{verb} answered {responses} and called {calls}")

        if verb == "send_async":
            self.history.unchecked.append(check)
        else:
            check()

    def litter(self) -> None:
        """Leave a cycle for the collector to find in the middle of something."""
        Litter(self.meanwhile, cycle=True)
        if self.random.random() < 0.2:
            gc.collect()

    def die(self) -> None:
        """Drop the last reference of a mortal, and wait until it is dead."""
        actor = self.random.choice([actor for actor in self.history.cast if actor.mortal])
        began = time.monotonic_ns()
        try:
            actor.held.pop()
        except IndexError:
            return  # somebody else did
        deadline = time.monotonic() + SECONDS_TO_DIE
        while actor.alive() is not None:
            # Unchecked deliveries hold their receivers.
            self.history.check_deliveries()
            if time.monotonic() > deadline:
                raise Breach(f"{actor.name} lives on, held by {holders(actor.alive())}")
            time.sleep(0)
        returned = time.monotonic_ns()
        self.log(Dies(actor.name), None, began, returned)


def holders(target: object) -> list[str]:
    return [type(holder).__name__ for holder in gc.get_referrers(target)]


class Noise:
    """Makes threads give way in the middle of the library, before any bytecode of it.

    On its own the interpreter changes threads at few places, and those few too seldom.
    """

    def __init__(self, chance: float) -> None:
        self.chance = chance

    def __call__(self, frame: FrameType, offset: int) -> None:
        if random.random() < self.chance:
            time.sleep(random.random() * 1e-4)


class Stage:
    """Threads that play one history after another, all beginning at once.

    The calling thread is one of them; if it is the main thread, a timer's signal handler makes
    calls in the middle of its own.
    """

    def __init__(self, threads: int, noise: float) -> None:
        self._names = [f"thread {n}" for n in range(threads)]
        self._others = ThreadPoolExecutor(threads - 1)
        self._start = threading.Barrier(threads)
        self._noise = Noise(noise)
        self._interrupt: Callable[[], None] | None = None
        self._before: Any = None

    def __enter__(self) -> "Stage":
        if threading.current_thread() is threading.main_thread():
            self._before = signals.signal(signals.SIGALRM, self._handler)
        return self

    def __exit__(self, *exception: object) -> None:
        self._others.shutdown()
        if signals.getsignal(signals.SIGALRM) == self._handler:
            signals.setitimer(signals.ITIMER_REAL, 0)
            time.sleep(0.01)  # for a signal that is on its way
            signals.signal(signals.SIGALRM, self._before)

    def _handler(self, number: int, frame: object) -> None:
        if self._interrupt is not None:
            self._interrupt()
            self._set_timer()

    def _set_timer(self) -> None:
        signals.setitimer(signals.ITIMER_REAL, random.uniform(5e-5, 1e-3))

    def perform(self, seed: int, length: int) -> History:
        """Play one history of ``length`` calls a thread (and those made within them)."""
        history = History.begin(ordered=bool(seed % 2))
        chance = random.Random(seed)
        mine, *others = [Performer(history, name, chance.getrandbits(64)) for name in self._names]
        still_playing = list(self._names)

        def play(performer: Performer) -> None:
            self._start.wait(timeout=60)
            try:
                with hooked(self._noise) if self._noise.chance else contextlib.nullcontext():
                    performer.play(length)
            except Exception as error:
                history.problems.append(f"{performer.thread}: {error!r}")
            finally:
                still_playing.pop()
            # Without the GIL some objects can die only when the thread that made them runs.
            while still_playing:
                time.sleep(1e-4)

        with told_of_ignored_exceptions(history.problems.append):
            playing = [self._others.submit(play, performer) for performer in others]
            if signals.getsignal(signals.SIGALRM) == self._handler:
                self._interrupt = mine.meanwhile
                self._set_timer()
            try:
                play(mine)
            finally:
                self._interrupt = None
            for part in playing:
                part.result(timeout=60)
            history.check_deliveries()
        return history


def judge(history: History) -> str | None:
    """What is wrong with this history, or ``None``."""
    if history.problems:
        return "\n".join(history.problems)
    if explain(history.calls) is None:
        return (
            f"no order explains these calls:\n{table(history.calls)}\n"
            f"nor these of them:\n{table(core(history.calls))}"
        )
    return None


def overlapping(history: History) -> int:
    """How many calls met one of another thread; histories without any prove nothing."""
    calls = sorted(history.calls, key=lambda call: call.began)
    met = 0
    for n, call in enumerate(calls):
        later = (other for other in calls[n + 1 :] if other.began <= call.returned)
        met += any(other.thread != call.thread for other in later)
    return met


def run(arguments: argparse.Namespace) -> int:
    seed = seed_of(arguments)
    print(f"histories: {python()}, seed {seed}", flush=True)
    histories = calls = met = 0
    wrong = None
    started = time.monotonic()
    with (
        hang_detector(arguments.hang) as alive,
        fast_switching(),
        collecting_often(),
        watching((LIBRARY, "<tsignals")),
        Stage(arguments.threads, arguments.noise) as stage,
        progress(arguments.count, "history", "histories") as bar,
    ):
        while wrong is None and histories < arguments.count:
            alive()
            history = stage.perform(seed + histories, arguments.length)
            wrong = judge(history)
            histories += 1
            calls += len(history.calls)
            met += overlapping(history)
            bar.update()
    if wrong is not None:
        last = seed + histories - 1
        print(f"\nhistory {histories} of seed {seed} (alone: --seed {last} --count 1):\n{wrong}")
    print(
        f"{histories} histories, {calls} calls, {met} of them overlapped another thread's: "
        + ("a breach" if wrong else "each has an order that explains it")
    )
    report = {
        "python": python(),
        "seed": seed,
        "histories": histories,
        "calls": calls,
        "overlapping": met,
        "seconds": round(time.monotonic() - started, 1),
        "breach": wrong,
    }
    write_report(arguments.json, report)
    return 1 if wrong else 0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "histories", help="random calls from many threads, checked to be linearizable"
    )
    add_seed(parser)
    add_hang(parser, 20.0)
    add_json(parser)
    parser.add_argument("--count", type=int, default=5000, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=4, help="default: %(default)s")
    parser.add_argument(
        "--noise",
        type=float,
        default=0.003,
        metavar="CHANCE",
        help="of giving way to another thread before a bytecode (default: %(default)s)",
    )
    parser.add_argument("--length", type=int, default=8, help="calls a thread (%(default)s)")
    parser.set_defaults(run=run)
