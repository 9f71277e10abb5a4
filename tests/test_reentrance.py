"""Every call may come in the middle of every other, at any bytecode, and nothing is lost.

Most tests here have one shape. A world is a signal with some receivers. An *outer* call runs in
it, and somewhere inside the outer call a *nested* one. Afterwards both answers and the state that
is left must be what the two give one after the other, in one order or the other.
"""

import contextlib
import functools
import gc
import itertools
import os
import random
import signal as signals
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from helpers import TIMEOUT, Ear, Running, Thing, heard, ignore

import tsignals
from tsignals import Signal

SEED = int(os.environ.get("TSIGNALS_TEST_SEED", "20240229"))
PACKAGE = str(Path(tsignals.__file__).parent)
ROOMS = ("_registry.py", "_plan.py", "_connection.py", "_signal.py", "_gate.py")


class Deaf(Thing):
    """A receiver that remembers nothing, and so keeps no sender alive."""

    def __call__(self, **named: Any) -> None: ...

    def hear(self, **named: Any) -> None: ...


def name(receiver: Any) -> str:
    """What a receiver of a world is called."""
    return getattr(getattr(receiver, "__self__", receiver), "name", "?")


class World:
    """A signal, its receivers and senders; every operation below runs in a fresh one."""

    def __init__(self) -> None:
        self.signal = Signal()
        self.sender = Thing("sender")
        names = ["all", "method", "sender's", "uid", "first", "new", "other", "strong"]
        self.ears = {name: Deaf(name) for name in names}
        ears, connect = self.ears, self.signal.connect
        self.handles = {
            "all": connect(ears["all"]),
            "method": connect(ears["method"].hear, self.sender),
            "sender's": connect(ears["sender's"], self.sender),
            "uid": connect(ears["uid"], dispatch_uid="uid", tracked=True),
            "first": connect(ears["first"], priority=1),
            "strong": connect(ears["strong"], self.sender, weak=False),
        }

    def send(self, verb: str, sender: object = None) -> list[str]:
        return [name(receiver) for receiver, _ in getattr(self.signal, verb)(sender)]

    def connect(self, name: str, **arguments: Any) -> tuple[str, int]:
        ear = self.ears[name]  # held until its name is known
        connection = self.signal.connect(ear, **arguments)
        self.handles.setdefault(name, connection)
        return (getattr(connection.receiver, "name", "dead"), connection.priority)

    def drop(self, name: str) -> None:
        self.ears.pop(name, None)

    def names(self) -> list[str]:
        return [name(connection.receiver) for connection in self.signal.receivers]

    def state(self) -> Any:
        """All that can be asked, twice: the second time after a change of no consequence."""
        seen = []
        for _ in range(2):
            seen.append(
                [
                    [self.send("send", sender) for sender in self.asked()],
                    [self.signal.has_listeners(sender) for sender in self.asked()],
                    self.names(),
                    [(name, each.connected) for name, each in sorted(self.handles.items())],
                ]
            )
            self.signal.disconnect(ignore)
        assert seen[0] == seen[1], "a change came to light late"
        return seen[0]

    def asked(self) -> list[object]:
        return [None, self.sender] if hasattr(self, "sender") else [None]


Operation = Callable[[World], Any]

OPERATIONS: dict[str, Operation] = {
    "connect": lambda w: w.connect("new"),
    "connect to a sender": lambda w: w.connect("new", sender=w.sender) if w.asked()[1:] else None,
    "connect under a uid": lambda w: w.connect("new", dispatch_uid="new", priority=1),
    "connect another under that uid": lambda w: w.connect("other", dispatch_uid="new", priority=2),
    "connect again": lambda w: w.connect("all", priority=3) if "all" in w.ears else None,
    "disconnect": lambda w: w.signal.disconnect(w.ears["all"]) if "all" in w.ears else None,
    "disconnect by uid": lambda w: w.signal.disconnect(dispatch_uid="uid"),
    "disconnect a handle": lambda w: w.handles["strong"].disconnect(),
    "disconnect and wait": lambda w: w.handles["uid"].disconnect(wait=True),
    "drop a receiver": lambda w: w.drop("all"),
    "drop a method's object": lambda w: w.drop("method"),
    "drop a sender": lambda w: w.__dict__.pop("sender", None) and None,
    "send": lambda w: w.send("send", getattr(w, "sender", None)),
    "send robustly": lambda w: w.send("send_robust"),
    "has_listeners": lambda w: w.signal.has_listeners(),
    "receivers": lambda w: w.names(),
}
OUTER = [name for name in OPERATIONS if not name.startswith("drop")]
NESTED = [
    name for name in OPERATIONS if name not in ("send robustly", "has_listeners", "receivers")
]


def in_turn(*operations: Operation) -> tuple[list[Any], Any]:
    """The answers of the operations one after the other, and the state that they leave."""
    world = World()
    return [operation(world) for operation in operations], world.state()


@functools.cache
def expected(outer: str, nested: str) -> list[Any]:
    """What outer and nested may answer, and what may be left: in one order, or the other."""
    (a, b), forward = in_turn(OPERATIONS[outer], OPERATIONS[nested])
    (d, c), backward = in_turn(OPERATIONS[nested], OPERATIONS[outer])
    return [(a, b, forward), (c, d, backward)]


def run_with(act: Callable[[], None], at: int, run: Callable[[], Any]) -> tuple[Any, int]:
    """``run()``, with ``act()`` before its bytecode number ``at``; and how many there are."""
    counter = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal counter
        if not frame.f_code.co_filename.endswith(ROOMS) or PACKAGE not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if counter == at:
                act()  # not traced itself
            counter += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        answer = run()
    finally:
        sys.settrace(before)
    return answer, counter


# At any bytecode


def meet(outer: str, nested: str, at: int, call: Callable[[Callable[[], None]], None]) -> Any:
    """The answers of outer and of nested, called before bytecode ``at``, and what is left."""
    world, answers = World(), list[Any]()
    if at % 2:
        world.state()  # else a send is the first after a change
    answer, _ = run_with(
        lambda: call(lambda: answers.append(OPERATIONS[nested](world))),
        at,
        lambda: OPERATIONS[outer](world),
    )
    assert answers, "the bytecode was not reached"
    return answer, answers[0], world.state()


def places(outer: str, most: int, chance: random.Random) -> list[int]:
    """Bytecodes of an operation: all of them, or ``most`` at random if there are more."""
    for _ in range(2):  # a tracer sees everything only from the second time on
        shortest = min(
            run_with(lambda: None, -1, functools.partial(OPERATIONS[outer], world))[1]
            for world in [World(), World()]
            if world.state()
        )
    assert shortest > 20, "the tracer saw nothing"
    return sorted(chance.sample(range(shortest), min(most, shortest)))


def of_one_moment(outer: str, nested: str) -> bool:
    """``receivers`` looks at its connections one by one: they may die in the meantime."""
    return not (outer == "receivers" and nested.startswith("drop"))


@pytest.mark.parametrize("outer", OUTER)
def test_nested_call_at_any_bytecode_is_not_lost(outer: str) -> None:
    chance = random.Random(SEED)
    for nested in filter(functools.partial(of_one_moment, outer), NESTED):
        for at in places(outer, 60, chance):
            found = meet(outer, nested, at, lambda call: call())
            assert found in expected(outer, nested), f"{nested} at bytecode {at} of {outer}"


@pytest.mark.parametrize("outer", OUTER)
def test_other_threads_call_at_any_bytecode_is_not_lost_and_waits_for_nothing(outer: str) -> None:
    """The outer call stands still in the middle while another thread runs a whole call."""
    chance = random.Random(SEED)
    changes = ["connect under a uid", "disconnect", "send", "drop a sender"]
    for nested in filter(functools.partial(of_one_moment, outer), changes):
        for at in places(outer, 50, chance):
            found = meet(outer, nested, at, lambda call: Running(call).result())
            assert found in expected(outer, nested), f"{nested} at bytecode {at} of {outer}"


@pytest.mark.parametrize("outer", ["connect under a uid", "disconnect", "send"])
def test_calls_nested_in_nested_calls_are_not_lost(outer: str) -> None:
    """Two deep, at random places; all three answers fit one of the six orders."""
    chance = random.Random(SEED)
    names = ["connect", "disconnect", "connect another under that uid", "send", "drop a receiver"]
    for second, third in itertools.product(names, names):
        three = [OPERATIONS[outer], OPERATIONS[second], OPERATIONS[third]]
        allowed = []
        for order in itertools.permutations(range(3)):
            answers, state = in_turn(*(three[n] for n in order))
            allowed.append(([answers[order.index(n)] for n in range(3)], state))
        for _ in range(25):
            world, found = World(), [None, None, None]
            first_at, second_at = chance.randrange(120), chance.randrange(120)

            def innermost(world: World = world, found: list[Any] = found) -> None:
                found[2] = three[2](world)

            def middle(world: World = world, found: list[Any] = found) -> None:
                # A trace function is not traced: what is two deep runs in a thread of its own.
                def run() -> None:
                    found[1], count = run_with(innermost, second_at, lambda: three[1](world))
                    if count <= second_at:
                        innermost()

                Running(run).result()

            found[0], count = run_with(middle, first_at, functools.partial(three[0], world))
            if count <= first_at:
                middle()
            assert (found, world.state()) in allowed, f"seed {SEED}: {outer}, {second}, {third}"


# From finalizers and weak references' callbacks


class Last(Deaf):
    """A receiver whose end calls ``act``."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__("last")
        self.act = act
        self.circle: object = None

    def __del__(self) -> None:
        self.act()


@pytest.mark.parametrize("nested", OPERATIONS)
@pytest.mark.parametrize(
    "outer", ["disconnect", "handle", "sender", "duplicate", "refused", "response", "context"]
)
def test_finalizer_of_what_a_call_drops_may_call_anything(outer: str, nested: str) -> None:
    """A call drops the last reference to a receiver, whose ``__del__`` calls in again."""
    world, answers, coming = World(), list[Any](), ["once"]

    def act() -> None:
        if coming and coming.pop():
            answers.append(OPERATIONS[nested](world))

    if outer == "disconnect":
        world.signal.connect(Last(act), dispatch_uid="last", weak=False, priority=-1)
        assert world.signal.disconnect(dispatch_uid="last")
    elif outer == "handle":
        world.signal.connect(Last(act), weak=False).disconnect()
    elif outer == "context":
        with world.signal.connect(Last(act), weak=False):
            pass
    elif outer == "sender":
        sender = Thing()
        world.signal.connect(Last(act), sender, weak=False)
        world.signal.send(sender)
        del sender
        world.signal.has_listeners()
    elif outer == "duplicate":
        world.signal.connect(Last(act), dispatch_uid="uid", weak=False)
    elif outer == "refused":
        with pytest.raises(TypeError):
            world.signal.connect(Last(act), dispatch_uid=[1], weak=False)  # type: ignore[arg-type]
    else:
        world.signal.connect(lambda **named: Last(act), dispatch_uid="last", weak=False)
        world.signal.send(None)
        world.signal.disconnect(dispatch_uid="last")
    gc.collect()
    assert len(answers) == 1
    _, state = in_turn(OPERATIONS[nested])
    assert world.state() == state


@pytest.mark.parametrize("nested", OPERATIONS)
@pytest.mark.parametrize("dies", ["receiver", "method's object", "sender"])
@pytest.mark.parametrize("told", ["before the signal", "after the signal"])
def test_weak_references_callback_may_call_anything(nested: str, dies: str, told: str) -> None:
    world, answers, mortal = World(), list[Any](), Ear("mortal")

    def call(_: object) -> None:
        answers.append(OPERATIONS[nested](world))

    probes = [weakref.ref(mortal, call)] if told == "after the signal" else []
    if dies == "receiver":
        world.signal.connect(mortal)
    elif dies == "sender":
        world.signal.connect(world.ears["other"], mortal)
    else:
        world.signal.connect(mortal.hear)
    if told == "before the signal":  # the newest is called first
        probes = [weakref.ref(mortal, call)]
    del mortal
    gc.collect()
    assert probes[0]() is None
    found, state = in_turn(OPERATIONS[nested])
    assert (answers, world.state()) == (found, state)


@pytest.fixture
def small_heap() -> Iterator[None]:
    """What is there already is not collected: collections are quick."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("small_heap")
@pytest.mark.parametrize("nested", ["connect", "disconnect", "send", "drop a sender"])
@pytest.mark.parametrize("outer", OUTER)
def test_collector_may_finalize_in_the_middle_of_a_call(outer: str, nested: str) -> None:
    """It runs as often as it can be made to, with something to finalize each time."""

    def append(answers: list[Any], operation: Operation, world: World) -> None:
        answers.append(operation(world))

    thresholds = gc.get_threshold()
    allowed = expected(outer, nested)
    try:
        for start in range(8):
            world, answers = World(), list[Any]()
            last = Last(functools.partial(append, answers, OPERATIONS[nested], world))
            last.circle = last
            gc.collect()
            del last
            gc.set_threshold(gc.get_count()[0] + 1 + start)
            answer = OPERATIONS[outer](world)
            gc.set_threshold(*thresholds)
            gc.collect()
            assert (answer, answers[0], world.state()) in allowed
    finally:
        gc.set_threshold(*thresholds)


# From a dispatch_uid


class Uid:
    """A ``dispatch_uid`` that calls ``act`` whenever it is hashed or compared."""

    def __init__(self, name: str, act: Callable[[], object]) -> None:
        self.name = name
        self.act = act
        self.calls = 0
        self.acting = False

    def call(self) -> None:
        if not self.acting:
            self.acting = True
            self.calls += 1
            self.act()
            self.acting = False

    def __hash__(self) -> int:
        self.call()
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        self.call()
        return isinstance(other, Uid) and other.name == self.name


@pytest.mark.parametrize("nested", OPERATIONS)
def test_dispatch_uid_may_call_anything_when_hashed_or_compared(nested: str) -> None:
    world = World()

    def act() -> None:
        OPERATIONS[nested](world)

    uids = [Uid("last", act), Uid("last", act)]
    ears = [Ear("last"), Ear("never")]
    first = world.signal.connect(ears[0], dispatch_uid=uids[0], priority=-9)
    again = world.signal.connect(ears[1], dispatch_uid=uids[1])
    assert again is first
    assert uids[0].calls + uids[1].calls >= 3
    assert world.send("send")[-1] == "last"
    assert world.signal.disconnect(dispatch_uid=uids[1])
    assert not first.connected
    assert not world.signal.disconnect(dispatch_uid=uids[0])
    _, state = in_turn(OPERATIONS[nested], OPERATIONS[nested])
    assert world.state() == state


def test_dispatch_uid_that_cannot_be_hashed_now_and_then_leaves_no_harm() -> None:
    class Broken(Exception):
        pass

    def breaks() -> None:
        raise Broken

    signal, uid, ear = Signal(), Uid("uid", breaks), Ear()
    with pytest.raises(Broken):
        signal.connect(ear, dispatch_uid=uid)
    assert not signal.has_listeners()
    uid.acting = True
    connection = signal.connect(ear, dispatch_uid=uid)
    uid.acting = False
    with pytest.raises(Broken):
        signal.disconnect(dispatch_uid=uid)
    assert connection.connected
    assert [receiver for receiver, _ in signal.send(None)] == [ear]
    uid.acting = True
    assert connection.disconnect()
    assert not signal.has_listeners()


# From signal handlers


main_thread_only = pytest.mark.skipif(
    not hasattr(signals, "setitimer"), reason="this system has no timers for signals"
)


@contextlib.contextmanager
def handler(handle: Callable[[], None]) -> Iterator[None]:
    """``handle()`` is called on each alarm."""
    before = signals.signal(signals.SIGALRM, lambda *_: handle())
    try:
        yield
    finally:
        signals.setitimer(signals.ITIMER_REAL, 0)
        signals.signal(signals.SIGALRM, before)


@main_thread_only
def test_signal_handler_may_connect_and_send_in_the_middle_of_any_call() -> None:
    signal, sender, always = Signal(), Thing(), Deaf("always")
    signal.connect(always)
    ears = [Deaf(str(n)) for n in range(300)]
    coming, connected, lost, depth = iter(ears), list[Deaf](), list[str](), [0]

    def handle() -> None:  # may itself be interrupted by the next one
        if depth[0] < 3:
            depth[0] += 1
            try:
                change()
            finally:
                depth[0] -= 1

    def change() -> None:
        ear = next(coming, None)
        if ear is None:
            return
        connection = signal.connect(ear, sender, dispatch_uid=ear.name)
        if ear not in heard(signal, sender) or not signal.has_listeners(sender):
            lost.append(f"connect {ear}")
        if int(ear.name) % 3 == 0 and not connection.disconnect():
            lost.append(f"disconnect {ear}")
        connected.append(ear)

    with handler(handle):
        signals.setitimer(signals.ITIMER_REAL, 0.0002, 0.0002)
        deadline = time.monotonic() + TIMEOUT
        while len(connected) < len(ears) and time.monotonic() < deadline:
            ear = Deaf("mine")
            connections = [signal.connect(ear, sender, priority=1), signal.connect(ear.hear)]
            assert heard(signal, sender)[0] is ear
            assert [receiver for receiver, _ in signal.send_robust(None)] == [always, ear.hear]
            assert signal.disconnect(ear, sender)
            if len(connected) % 2:
                assert connections[1].disconnect()
            del ear
    assert lost == []
    assert len(connected) == len(ears)
    kept = [ear for ear in ears if int(ear.name) % 3]
    left = heard(signal, sender)
    assert left[0] is always
    assert set(left[1:]) == set(kept)


class Interrupt(BaseException):
    """What the handler raises, as Ctrl-C would."""


@main_thread_only
@pytest.mark.parametrize("name", OUTER)
def test_interrupted_call_has_taken_effect_or_has_not(name: str) -> None:
    """A handler raises at random moments; afterwards the signal is as before, or as after."""
    chance = random.Random(SEED)
    _, before = in_turn()
    _, after = in_turn(OPERATIONS[name])
    world = World()
    started = time.perf_counter()
    OPERATIONS[name](world)
    takes = 2 * (time.perf_counter() - started) + 20e-6
    armed, interrupted = [False], 0

    def handle() -> None:
        if armed[0]:
            armed[0] = False
            raise Interrupt

    with handler(handle):
        for _ in range(300):
            world = World()
            try:
                armed[0] = True
                signals.setitimer(signals.ITIMER_REAL, chance.uniform(1e-6, takes))
                OPERATIONS[name](world)
                armed[0] = False
            except Interrupt:
                interrupted += 1
            for each, connection in world.handles.items():
                if each in ("new", "other"):
                    assert connection.connected
            # An interrupted connect has returned no handle: let the state not ask for one.
            left = world.state()
            assert left[:3] in (before[:3], after[:3]), f"seed {SEED}"
    assert interrupted, "no alarm ever came in time"
