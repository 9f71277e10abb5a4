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
import sysconfig
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import inside
import pytest
from helpers import TIMEOUT, Ear, Running, Thing, heard, ignore, raiser
from points import FIRST, STRIDE

from stress.bytecode import stepping
from tsignals import Signal

SEED = int(os.environ.get("TSIGNALS_TEST_SEED", "20240229")) + FIRST - 1
ROOMS, REGISTRY = inside.ROOMS_OF_SENDS, inside.REGISTRY


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

    def send_often(self) -> "World":
        """Have what sends prepare for the next ones prepared."""
        for sender in (None, self.sender, None, self.sender):
            self.send("send", sender)
        return self

    def send(self, verb: str, sender: object = None) -> list[str]:
        return [name(receiver) for receiver, _ in getattr(self.signal, verb)(sender)]

    def connect(self, name: str, **arguments: Any) -> tuple[str, int]:
        ear = self.ears[name]  # held until its name is known
        try:
            connection = self.signal.connect(ear, **arguments)
        except ValueError:  # its key stands with another priority
            return ("refused", arguments["priority"])
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
def expected(outer: str, *nested: str) -> list[Any]:
    """What outer and nested may answer, and what may be left: outer came somewhere among them."""
    allowed = []
    for place in range(len(nested) + 1):
        order = [*nested[:place], outer, *nested[place:]]
        answers, state = in_turn(*(OPERATIONS[name] for name in order))
        allowed.append((answers.pop(place), answers, state))
    return allowed


def run_with(act: Callable[[], None], at: int, run: Callable[[], Any]) -> tuple[Any, list[str]]:
    """``run()``, with ``act()`` before its bytecode number ``at``; and the bytecodes' files."""
    files: list[str] = []

    def step(frame: FrameType, offset: int) -> None:
        files.append(frame.f_code.co_filename)
        if len(files) == at + 1:
            act()  # not told of itself

    with stepping(step, (*ROOMS, REGISTRY)):
        answer = run()
    return answer, files


def nothing() -> None: ...


def bytecodes(outer: str, world: Callable[[], World]) -> list[str]:
    """The file of each bytecode of an operation."""
    for _ in range(2):  # a tracer sees everything only from the second time on
        _, files = run_with(nothing, -1, functools.partial(OPERATIONS[outer], world()))
    assert files.count(REGISTRY) > 10, "the tracer saw nothing"
    return files


# At any bytecode


def meet(
    world: World, outer: str, nested: tuple[str, ...], at: int, call: Callable[..., Any]
) -> Any:
    """The answers of outer and of nested, called before bytecode ``at``, and what is left.

    Also whether that bytecode was reached.
    """
    answers: list[Any] = []

    def act() -> None:
        for name in nested:
            answers.append(OPERATIONS[name](world))

    answer, _ = run_with(lambda: call(act), at, lambda: OPERATIONS[outer](world))
    reached = bool(answers)
    if not reached:  # this time the operation was shorter: they come after it
        act()
    return (answer, answers, world.state()), reached


def prepared() -> World:
    return World().send_often()


def check_any_bytecode(
    outer: str, several: Sequence[tuple[str, ...]], most: int, call: Callable[..., Any]
) -> None:
    """Outer and nested meet at the registry's bytecodes and at some others."""
    chance, most = random.Random(SEED), -(-most // STRIDE)
    for nested in several:
        if outer == "receivers" and any(name.startswith("drop") for name in nested):
            continue  # looks at its connections one by one: not promised to be of one moment
        # Before the first send after a change, or when all is prepared.
        world = chance.choice([World, prepared])
        files = bytecodes(outer, world)
        within = [at for at, file in enumerate(files) if file == REGISTRY]
        places = chance.sample(within, min(most, len(within)))
        places += chance.sample(range(len(files)), min(most, len(files)))
        met = 0
        for at in places:
            found, reached = meet(world(), outer, nested, at, call)
            met += reached
            assert found in expected(outer, *nested), f"{nested} at bytecode {at} of {outer}"
        assert met > len(places) // 2


@pytest.mark.parametrize("outer", OUTER)
def test_nested_call_at_any_bytecode_is_not_lost(outer: str) -> None:
    check_any_bytecode(outer, [(name,) for name in NESTED], 40, lambda act: act())


@pytest.mark.parametrize("outer", OUTER)
def test_other_threads_call_at_any_bytecode_is_not_lost_and_waits_for_nothing(outer: str) -> None:
    """The outer call stands still in the middle while another thread runs a whole call."""
    changes = ["connect under a uid", "disconnect", "send", "drop a sender"]
    several = [(name,) for name in changes]
    check_any_bytecode(outer, several, 25, lambda act: Running(act).result())


class Standing(Running[Any]):
    """A call in another thread that stands still before bytecode ``at`` until told to go on."""

    def __init__(self, at: int, run: Callable[[], Any]) -> None:
        self.there, self.on = threading.Event(), threading.Event()
        self.passed = False
        super().__init__(self.stand, at, run)
        assert self.there.wait(TIMEOUT)

    def stand(self, at: int, run: Callable[[], Any]) -> Any:
        def wait() -> None:
            self.there.set()
            assert self.on.wait(TIMEOUT)

        try:
            answer, files = run_with(wait, at, run)
            self.passed = len(files) <= at  # there is no such bytecode
            return answer
        finally:
            self.there.set()

    def go_on(self) -> Any:
        self.on.set()
        return self.result()


@pytest.mark.parametrize("change", ["connect", "connect to a sender", "disconnect"])
def test_what_one_send_saw_of_a_change_under_way_the_next_sees_too(change: str) -> None:
    """A send and a change stand still; others overtake the send; it goes on, the change does not.

    It may see the change or not. But if it does, so does a send that starts when it has ended.
    """
    chance = random.Random(SEED)
    in_send = [n for n, file in enumerate(bytecodes("send", World)) if file == REGISTRY]
    in_change = [n for n, file in enumerate(bytecodes(change, World)) if file == REGISTRY]
    _, after = in_turn(OPERATIONS[change], OPERATIONS["send"])[0]
    saw_it = 0
    for at, change_at in chance.sample([*itertools.product(in_send, in_change)], 600):
        world = World()
        slow = Standing(at, lambda world=world: OPERATIONS["send"](world))  # type: ignore[misc]
        world.signal.disconnect(ignore)  # a change, so that the slow one is late
        OPERATIONS["send"](world)
        changing = Standing(change_at, functools.partial(OPERATIONS[change], world))
        seen = slow.go_on()
        seen_later = OPERATIONS["send"](world)
        changing.go_on()
        assert OPERATIONS["send"](world) == after
        if seen == after:
            saw_it += 1
            assert seen_later == after, f"seed {SEED}: {at}, {change_at}"
    assert saw_it > 10, "the send never met the change"


def test_send_that_is_overtaken_as_it_begins_leaves_the_next_no_less_to_see() -> None:
    signal, ears, coming = Signal(), [Ear("first"), Ear("second")], list[Ear]()

    def overtaken(is_stale: bool) -> None:
        """A receiver is connected just after a send has put its new snapshot in place."""
        if coming and not is_stale:
            signal.connect(coming.pop())

    inside.replace_registry(signal, inside.registry_that_tells(signal, overtaken))
    signal.connect(ears[0])
    coming.append(ears[1])
    seen = heard(signal)
    assert coming == []
    assert seen in (ears[:1], ears)
    assert heard(signal) == ears
    assert heard(Signal()) == []  # what new signals start with is as it was


@pytest.mark.parametrize("verb", ["send", "send_robust"])
def test_tracked_receiver_is_not_called_once_the_wait_is_over_wherever_the_send_stands(
    verb: str,
) -> None:
    overs = []
    for at in itertools.count():
        signal, ear = Signal(), Ear()
        connection = signal.connect(ear, tracked=True)
        send = Standing(at, lambda signal=signal: getattr(signal, verb)(None))  # type: ignore[misc]
        passed = send.passed
        try:
            over = connection.disconnect(wait=0)
        except TimeoutError:
            over = False  # the send is in its call, or about to be
        calls = len(ear.calls)
        send.go_on()
        if passed:
            break
        assert not over or len(ear.calls) == calls, f"called at bytecode {at}"
        overs.append(over)
    assert overs.count(True) > 20
    assert overs.count(False) > 5


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
        for _ in range(-(-25 // STRIDE)):
            world, found = World(), [None, None, None]
            first_at, second_at = chance.randrange(120), chance.randrange(120)

            def innermost(world: World = world, found: list[Any] = found) -> None:
                found[2] = three[2](world)

            def middle(world: World = world, found: list[Any] = found) -> None:
                # A trace function is not traced: what is two deep runs in a thread of its own.
                def run() -> None:
                    found[1], files = run_with(innermost, second_at, lambda: three[1](world))
                    if len(files) <= second_at:
                        innermost()

                Running(run).result()

            found[0], files = run_with(middle, first_at, functools.partial(three[0], world))
            if len(files) <= first_at:
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
        world.signal.connect(Last(act), dispatch_uid="uid", weak=False, tracked=True)
    elif outer == "refused":
        with pytest.raises(TypeError):
            world.signal.connect(Last(act), dispatch_uid=[1], weak=False)  # type: ignore[arg-type]
    else:
        world.signal.connect(lambda **named: Last(act), dispatch_uid="last", weak=False)
        world.signal.send(None)
        world.signal.disconnect(dispatch_uid="last")
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
    assert probes[0]() is None
    found, state = in_turn(OPERATIONS[nested])
    assert (answers, world.state()) == (found, state)


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
            try:
                self.calls += 1
                self.act()
            finally:
                self.acting = False

    def __hash__(self) -> int:
        self.call()
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        self.call()
        return isinstance(other, Uid) and other.name == self.name


@pytest.mark.parametrize("outer", ["send", "connect", "disconnect"])
def test_key_of_a_dead_receiver_that_is_connected_anew_stays_at_any_bytecode(outer: str) -> None:
    """Others find the dead one before the signal is told, and clear up after it."""
    ears = [Deaf("anew"), Deaf("third")]

    def world(at: int) -> tuple[Any, Any, Any, int]:
        signal, mortal, found = Signal(), Deaf("mortal"), list[Any]()
        signal.connect(mortal, dispatch_uid="uid")

        def run() -> Any:
            if outer == "send":
                return heard(signal)
            if outer == "connect":
                return signal.connect(ears[1], dispatch_uid="uid").receiver
            return signal.disconnect(dispatch_uid="uid")

        def anew() -> None:
            found.append(signal.connect(ears[0], dispatch_uid="uid").receiver)

        def told(_: object) -> None:
            answer, files = run_with(anew, at, run)
            found.extend([answer, len(files)])

        probe = weakref.ref(mortal, told)  # the newest is told first
        del mortal
        assert probe() is None
        if at < 0:
            found.insert(0, None)
        return found[0], found[1], heard(signal), found[2]

    world(-1)
    *_, count = world(-1)
    assert count > 20, "the tracer saw nothing"
    anew, third = ears
    allowed: dict[str, list[Any]] = {
        "send": [(anew, [], [anew]), (anew, [anew], [anew])],
        "connect": [(anew, anew, [anew]), (third, third, [third])],
        "disconnect": [(anew, False, [anew]), (anew, True, [])],
    }
    for at in range(count):
        assert world(at)[:3] in allowed[outer], f"at bytecode {at}"


class Broken(Exception):
    """What a callback or a ``dispatch_uid`` raises."""


def test_death_that_nobody_was_told_of_is_a_disconnect_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here the signal's own callback fails, as it may where it has to hash a ``dispatch_uid``."""
    untold: list[object] = []

    def fails(sweeper: object, tether: object) -> None:
        raise Broken

    inside.SWEEP.patch(monkeypatch, fails)
    monkeypatch.setattr(sys, "unraisablehook", lambda failed: untold.append(failed.exc_type))
    ear, met = Deaf(), 0
    for rounds in range(1, 500):
        signal, sender = Signal(), Deaf()
        connection = signal.connect(ear, sender)
        assert heard(signal, sender) == [ear]
        address = id(sender)
        del sender
        assert untold == [Broken] * rounds
        others = [Deaf() for _ in range(20)]
        met += address in map(id, others)
        for other in others:
            assert not signal.has_listeners(other)
            assert heard(signal, other) == []
        assert not connection.connected
        assert signal.receivers == []
        assert not connection.disconnect()
        if met >= 10:
            break
    assert met, "no address was used again"


def test_nothing_is_left_of_such_a_death_after_the_next_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(sweeper: object, tether: object) -> None:
        raise Broken

    inside.SWEEP.patch(monkeypatch, fails)
    monkeypatch.setattr(sys, "unraisablehook", lambda failed: None)
    signal, ear, mortals = Signal(), Ear(), [Ear() for _ in range(3)]
    for mortal in mortals:
        signal.connect(mortal)
    del mortal, mortals
    assert len(inside.rows_of(signal)) == 3
    signal.connect(ear)
    assert heard(signal) == [ear]
    assert len(inside.rows_of(signal)) == 1


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
        # Without the GIL each collection goes through the whole heap, frozen or not.
        for start in range(2 if sysconfig.get_config_var("Py_GIL_DISABLED") else 8):
            world, answers = World(), list[Any]()
            last = Last(functools.partial(append, answers, OPERATIONS[nested], world))
            last.circle = last
            gc.collect()
            del last
            gc.set_threshold(gc.get_count()[0] + 1 + start)
            answer = OPERATIONS[outer](world)
            gc.set_threshold(*thresholds)
            gc.collect()
            assert (answer, answers, world.state()) in allowed
    finally:
        gc.set_threshold(*thresholds)


# From a dispatch_uid


@pytest.mark.parametrize("nested", OPERATIONS)
def test_dispatch_uid_may_call_anything_when_hashed_or_compared(nested: str) -> None:
    world = World()

    def act() -> None:
        OPERATIONS[nested](world)

    uids = [Uid("last", act), Uid("last", act)]
    ears = [Ear("last"), Ear("never")]
    first = world.signal.connect(ears[0], dispatch_uid=uids[0], priority=-9)
    again = world.signal.connect(ears[1], dispatch_uid=uids[1], priority=-9)
    assert again is first
    assert uids[0].calls + uids[1].calls >= 3
    assert world.send("send")[-1] == "last"
    assert world.signal.disconnect(dispatch_uid=uids[1])
    assert not first.connected
    assert not world.signal.disconnect(dispatch_uid=uids[0])
    _, state = in_turn(OPERATIONS[nested], OPERATIONS[nested])
    assert world.state() == state


def test_dispatch_uid_that_cannot_be_hashed_now_and_then_leaves_no_harm() -> None:
    signal, uid, ear = Signal(), Uid("uid", raiser(Broken())), Ear()
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


def is_measured(frame: FrameType | None) -> bool:
    """Whether it is a tool that measures coverage which was interrupted: it has locks."""
    while frame is not None and frame.f_code.co_filename != __file__:
        if "/coverage/" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def handler(handle: Callable[[], None]) -> Iterator[None]:
    """``handle()`` is called on each alarm."""

    def called(_: int, frame: FrameType | None) -> None:
        if not is_measured(frame):
            handle()

    before = signals.signal(signals.SIGALRM, called)
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


def seconds_of(operation: Callable[[World], object]) -> float:
    world = World()
    started = time.perf_counter()
    operation(world)
    return time.perf_counter() - started


@main_thread_only
@pytest.mark.parametrize("name", OUTER)
def test_interrupted_call_has_taken_effect_or_has_not(name: str) -> None:
    """A handler raises at random moments; afterwards the signal is as before, or as after."""
    chance = random.Random(SEED)
    _, before = in_turn()
    _, after = in_turn(OPERATIONS[name])
    takes = 2 * min(seconds_of(OPERATIONS[name]) for _ in range(10)) + 20e-6
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
