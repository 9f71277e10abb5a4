"""Random histories, lived through by Django's signal and by ours: every answer is the same.

A history is a list of steps on numbered slots. Each side has receivers and senders of its own
behind the slots, so that dropping one is a death on both. What a step answers is put into names
and compared at once. A history that tells the two apart is shortened, then printed with its seed.

Left out is what the contract states as different, and nothing else: unhashable senders, equal
senders under ``use_caching`` (Django's cache confuses them), a value named ``self`` or ``signal``,
receivers without ``__qualname__`` that fail in ``send_robust``, callables whose signature cannot
be read, an unhashable ``dispatch_uid``, sends within an event loop, and what ``connect`` returns.
``priority`` is compared with Django's own list of receivers, sorted.
"""

import functools
import gc
import inspect
import logging
import os
import random
import sysconfig
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import django_project
import pytest
from helpers import Boom

import tsignals

django = pytest.importorskip("django")

from django.conf import settings  # type: ignore[import-untyped]  # noqa: E402
from django.dispatch import Signal as DjangoSignal  # type: ignore[import-untyped]  # noqa: E402
from django.dispatch.dispatcher import _make_id  # type: ignore[import-untyped]  # noqa: E402
from django.utils import inspect as django_inspect  # type: ignore[import-untyped]  # noqa: E402

pytestmark = [pytest.mark.unmeasured, pytest.mark.once]

SEED = int(os.environ.get("TSIGNALS_TEST_SEED", "20240229"))
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
SLOTS = 5
KINDS = ("function", "method", "same object's method", "equal object", "partial", "coroutine")
SENDERS = (
    "None",
    "object",
    "other object",
    "equal",
    "its equal",
    "eternal",
    "string",
    "number",
    "class",
)
UIDS = (None, None, None, "", 0, "menu", 1, 1.0, True, ("menu", 1))
BAD = ("not callable", "narrow", "narrow method", "slots")

Step = tuple[Any, ...]


@pytest.fixture(scope="module", autouse=True)
def strict_django() -> Iterator[None]:
    """With DEBUG, Django checks receivers as we always do."""
    django_project.configure()
    assert settings.DEBUG
    yield


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of a failure would keep its receivers alive."""
    for name in ("django.dispatch", "tsignals"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)


class Row(tuple[Any, ...]):
    """A row of Django's list that knows its priority."""

    rank: int


class RankedDjangoSignal(DjangoSignal):  # type: ignore[misc]
    """Django's signal, its list kept in order of ``priority``: what ours promises."""

    def connect(
        self, receiver: Any, sender: Any, weak: bool, uid: Any, *, priority: int = 0
    ) -> None:
        super().connect(receiver, sender, weak, uid)
        if self.receivers and not isinstance(self.receivers[-1], Row):
            self.receivers[-1] = Row(self.receivers[-1])
            self.receivers[-1].rank = priority
        key = (uid or _make_id(receiver), _make_id(sender))
        if any(row.rank != priority for row in self.receivers if row[0] == key):
            raise ValueError
        self.receivers.sort(key=lambda row: -row.rank)


class Plain:
    """A sender, and an object with a method that receives."""

    def __init__(self, receive: Callable[..., Any] | None = None) -> None:
        self.receive = receive

    def method(self, **named: Any) -> Any:
        assert self.receive is not None
        return self.receive("method", **named)

    def other(self, **named: Any) -> Any:
        assert self.receive is not None
        return self.receive("other", **named)

    def narrow(self, sender: object) -> None: ...


class EqualToAll(Plain):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1

    def __call__(self, **named: Any) -> Any:
        assert self.receive is not None
        return self.receive("call", **named)


class Slots:
    __slots__ = ()

    def __call__(self, **named: Any) -> None: ...


class Side:
    """One signal with receivers and senders of its own; ``do`` gives a step's answer."""

    def __init__(self, signal: Any, asynchronous: bool) -> None:
        self.signal = signal
        self.asynchronous = asynchronous
        self.receivers: dict[int, Any] = {}
        self.owners: dict[int, Any] = {}  # what keeps methods alive
        self.senders: dict[str, Any] = {
            "None": None,
            "eternal": Plain(),  # asking for it also has Django take out what is dead
            "string": "".join(["a", "string"]),
            "number": 10**20,
            "class": Plain,
        }
        self.undead: list[Any] = []
        self.deaths = 0
        self.called: list[Any] = []
        self.log: list[Any] = []

    # Names for things, so that answers can be compared

    def name_sender(self, sender: object) -> str:
        names = [name for name, each in self.senders.items() if each is sender]
        return names[0] if names else "gone"

    def name(self, receiver: Any) -> Any:
        part = getattr(receiver, "__func__", None)
        thing = receiver if part is None else receiver.__self__
        label = thing.label if hasattr(thing, "label") else thing.receive.label
        return (label, part.__name__ if part else "")

    def name_value(self, value: Any) -> Any:
        if isinstance(value, BaseException):
            # Its traceback may hold the send's frame, and with it receivers, until collected.
            value.__traceback__ = None
            return (type(value).__name__, str(value))
        return value

    # What receivers do

    def receive(self, label: Any, part: str, **named: Any) -> Any:
        assert named.pop("signal") is self.signal
        sender = self.name_sender(named.pop("sender"))
        act = named.pop("act", None)
        self.called.append((label, part, sender))
        if act is not None and act[0] == label[0]:
            step = act[1]
            if step == "raise":
                raise Boom(str(label))
            self.log.append(("within", label, self.do(step)))
        return (label, part, sender, tuple(named.items()))

    def make(self, slot: int, kind: str, number: int) -> None:
        side = weakref.proxy(self)
        label = (slot, kind, number)

        def receive(part: str = "", /, **named: Any) -> Any:
            return side.receive(label, part, **named)

        receive.label = label  # type: ignore[attr-defined]
        made: Any
        if kind == "function":

            def function(**named: Any) -> Any:
                return receive(**named)

            made = function
        elif kind == "coroutine" and self.asynchronous:

            async def coroutine(**named: Any) -> Any:
                return receive(**named)

            made = coroutine
        elif kind == "partial":
            made = functools.partial(receive, "partial")
            made.__qualname__ = "partial"
        elif kind == "equal object":
            made = EqualToAll(receive)
            made.__qualname__ = "equal object"
            # Older versions of inspect compare what they look at with ==.
            made.__signature__ = inspect.signature(receive)
        elif kind == "same object's method":
            owner = next(iter(self.owners.values()), None) or Plain(receive)
            self.owners[slot] = owner
            self.receivers[slot] = owner.other
            return
        else:
            owner = Plain(receive)
            self.owners[slot] = owner
            self.receivers[slot] = owner.method
            return
        made.label = label
        self.receivers[slot] = made

    def bad(self, kind: str) -> Any:
        return {
            "not callable": 3,
            "narrow": lambda sender: None,
            "narrow method": Plain(lambda: None).narrow,
            "slots": Slots(),
        }[kind]

    # The steps

    def do(self, step: Step) -> Any:
        name, *arguments = step
        try:
            return getattr(self, f"do_{name}")(*arguments)
        except (TypeError, ValueError) as error:
            text = str(error)
            return (type(error).__name__, text if text.startswith("Signal receivers") else "")

    def do_make(self, slot: int, kind: str, number: int) -> None:
        self.do_drop(slot)
        self.make(slot, kind, number)

    def do_drop(self, slot: int) -> None:
        # Django's check remembers the functions that it has looked at, and keeps them alive.
        getattr(django_inspect._get_func_parameters, "cache_clear", lambda: None)()
        self.deaths += 1
        self.receivers.pop(slot, None)
        self.owners.pop(slot, None)

    def do_make_sender(self, which: str) -> None:
        self.do_drop_sender(which)
        self.senders[which] = EqualToAll() if "equal" in which else Plain()

    def do_drop_sender(self, which: str) -> None:
        self.deaths += 1
        sender = self.senders.pop(which, None)
        if django.VERSION < (6,):  # it lets a sender's connections outlive it
            self.undead.append(sender)

    def do_connect(self, slot: int, of: str, weak: bool, uid: Any, named: dict[str, Any]) -> Any:
        if slot not in self.receivers or of not in self.senders:
            return "nothing to do"
        self.signal.connect(self.receivers[slot], self.senders[of], weak, uid, **named)
        return "connected"

    def do_connect_bad(self, kind: str, of: str, weak: bool, uid: Any) -> Any:
        if of in self.senders and (kind != "slots" or weak):
            self.signal.connect(self.bad(kind), self.senders[of], weak, uid)
        return "connected"

    def do_disconnect(self, slot: int, of: str, uid: Any) -> Any:
        self.deaths += 1  # of a receiver that was held strongly
        return self.signal.disconnect(self.receivers.get(slot), self.senders.get(of), uid)

    def do_has_listeners(self, of: str) -> Any:
        return self.signal.has_listeners(self.senders[of]) if of in self.senders else "gone"

    def do_send(self, verb: str, of: str, named: dict[str, Any]) -> Any:
        if of not in self.senders:
            return "gone"
        sender = self.senders[of]
        called, self.called = self.called, []
        try:
            pairs = getattr(self.signal, verb)(sender, **named)
            return ([(self.name(r), self.name_value(v)) for r, v in pairs], self.called)
        except Boom as error:
            return (self.name_value(error), self.called)
        except BaseExceptionGroup as group:  # of several async receivers
            return (sorted(str(each) for each in group.exceptions), self.called)
        finally:
            self.called = called


def answers(side: Side, steps: list[Step], senders: Sequence[str]) -> Iterator[Any]:
    """What the side says to each step, and how it stands after it."""
    for step in steps:
        deaths = side.deaths
        answer = side.do(step)
        if side.asynchronous and side.deaths > deaths:
            gc.collect()  # event loops leave cycles
        log, side.log = side.log, []
        yield (answer, log, [(of, side.do_has_listeners(of)) for of in senders])


def first_difference(steps: list[Step], **options: Any) -> tuple[int, Any, Any] | None:
    """The number of the first step with two answers, and these; None when all agree."""
    caching, asynchronous = options["caching"], options["asynchronous"]
    theirs = Side(RankedDjangoSignal(use_caching=caching), asynchronous)
    ours = Side(tsignals.Signal(use_caching=caching), asynchronous)
    senders = senders_for(caching)
    both = zip(answers(theirs, steps, senders), answers(ours, steps, senders), strict=True)
    for n, (their_answer, our_answer) in enumerate(both):
        if their_answer != our_answer:
            return n, their_answer, our_answer
    return None


def senders_for(caching: bool) -> Sequence[str]:
    """Django's cache takes only senders that can be held weakly, and compares them with ==."""
    return ("object", "other object", "eternal") if caching else SENDERS


class Chance:
    """Makes histories."""

    def __init__(self, seed: str, *, caching: bool, asynchronous: bool, priorities: bool) -> None:
        self.random = random.Random(seed)
        self.senders = senders_for(caching)
        # Within an event loop, Django and ours refuse a nested send at different moments.
        self.depth = 0 if asynchronous else 2
        self.kinds = KINDS if asynchronous else KINDS[:-1]
        self.priorities = priorities
        self.number = 0
        self.connected: list[tuple[int, str, Any]] = []

    def slot(self) -> int:
        return self.random.randrange(SLOTS)

    def sender(self) -> str:
        return self.random.choice(self.senders)

    def connect_sender(self) -> str:
        return "None" if self.random.random() < 0.4 else self.sender()

    def mortal(self) -> str:
        return self.random.choice([each for each in SENDERS[1:5] if each in self.senders])

    def make(self) -> Step:
        self.number += 1
        return ("make", self.slot(), self.random.choice(self.kinds), self.number)

    def connect(self) -> Step:
        named = {"priority": self.random.choice([0, 0, 0, 1, -1, 7])} if self.priorities else {}
        weak = self.random.random() < 0.7
        uid = self.random.choice(UIDS)
        slot, of = self.slot(), self.connect_sender()
        self.connected.append((slot, of, uid))
        return ("connect", slot, of, weak, uid, named)

    def connect_bad(self) -> Step:
        weak = self.random.random() < 0.7
        kind = self.random.choice(BAD)
        return ("connect_bad", kind, self.connect_sender(), weak, self.random.choice(UIDS))

    def disconnect(self) -> Step:
        if self.connected and self.random.random() < 0.7:
            return ("disconnect", *self.random.choice(self.connected))
        return ("disconnect", self.slot(), self.connect_sender(), self.random.choice(UIDS))

    def drop(self) -> Step:
        return ("drop", self.slot())

    def make_sender(self) -> Step:
        return ("make_sender", self.mortal())

    def drop_sender(self) -> Step:
        return ("drop_sender", self.mortal())

    def has_listeners(self) -> Step:
        return ("has_listeners", self.sender())

    def send(self, depth: int = 0) -> Step:
        named: dict[str, Any] = {}
        for name in self.random.sample(["size", "weak", "class", "two words"], k=2):
            if self.random.random() < 0.5:
                named[name] = self.random.randrange(9)
        if self.random.random() < 0.6:
            named["act"] = (self.slot(), self.act(depth))
        verb = self.random.choice(["send", "send_robust"])
        return ("send", verb, self.sender(), named)

    def act(self, depth: int) -> Any:
        if self.random.random() < 0.4:
            return "raise"
        choices = [self.connect, self.disconnect, self.drop, self.drop_sender, self.make]
        if depth < self.depth and self.random.random() < 0.3:
            return self.send(depth + 1)
        return self.random.choice(choices)()

    def history(self) -> list[Step]:
        steps: list[Step] = []
        for slot in range(SLOTS):
            self.number += 1
            steps.append(("make", slot, self.random.choice(self.kinds), self.number))
        steps += [("make_sender", which) for which in SENDERS[1:5] if which in self.senders]
        weights: dict[Callable[[], Step], int] = {
            self.connect: 9,
            self.send: 8,
            self.disconnect: 3,
            self.drop: 2,
            self.make: 2,
            self.drop_sender: 1,
            self.make_sender: 1,
            self.connect_bad: 1,
            self.has_listeners: 1,
        }
        length = self.random.randrange(5, 50)
        for kind in self.random.choices([*weights], [*weights.values()], k=length):
            steps.append(kind())
        return steps


def shortest(steps: list[Step], **options: Any) -> list[Step]:
    """Leave out whatever is not needed for the two to differ."""
    again = True
    while again:
        again = False
        for n in reversed(range(len(steps))):
            fewer = steps[:n] + steps[n + 1 :]
            if first_difference(fewer, **options) is not None:
                steps, again = fewer, True
    return steps


def compare(times: int, *, caching: bool, asynchronous: bool, priorities: bool) -> None:
    options = {"caching": caching, "asynchronous": asynchronous}
    for n in range(times):
        seed = f"{SEED}-{n}-{caching}-{asynchronous}-{priorities}"
        chance = Chance(seed, priorities=priorities, **options)
        steps = chance.history()
        if first_difference(steps, **options) is not None:
            steps = shortest(steps, **options)
            found = first_difference(steps, **options)
            assert found is not None
            number, theirs, ours = found
            lines = [f"  {each}" for each in steps[: number + 1]]
            pytest.fail(
                "\n".join([f"seed {seed}:", *lines, f"Django: {theirs}", f"tsignals: {ours}"]),
                pytrace=False,
            )


@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.parametrize("priorities", [False, True])
def test_every_answer_is_djangos(caching: bool, priorities: bool) -> None:
    compare(600, caching=caching, asynchronous=False, priorities=priorities)


@pytest.mark.skipif(django.VERSION < (6,), reason="older ones run async receivers otherwise")
def test_every_answer_is_djangos_with_async_receivers_too() -> None:
    gc.freeze()  # to collect quickly, which free-threaded builds do not even so
    try:
        compare(10 if FREE_THREADED else 60, caching=False, asynchronous=True, priorities=False)
    finally:
        gc.unfreeze()


def test_histories_reach_every_kind_of_answer() -> None:
    """A comparison of two silent signals would prove nothing."""
    seen: dict[str, int] = {}
    for n in range(400):
        options = {"caching": False, "asynchronous": False}
        chance = Chance(f"{SEED}-{n}", priorities=False, **options)
        side = Side(tsignals.Signal(), False)
        for step in chance.history():
            answer = side.do(step)
            kind = step[0]
            if isinstance(answer, bool):
                kind += f" {answer}"
            elif isinstance(answer, tuple) and answer[0] in ("TypeError", "ValueError"):
                kind += f" {answer[0]}"
            elif isinstance(answer, tuple):
                kind = f"{step[1]} to {min(len(answer[1]), 2)}"
                kind += " failed" if answer[0] and answer[0][0] == "Boom" else ""
            seen[kind] = seen.get(kind, 0) + 1
        seen["within"] = seen.get("within", 0) + len(side.log)
    expected = [
        "connect",
        "connect_bad TypeError",
        "connect_bad ValueError",
        "disconnect True",
        "disconnect False",
        "has_listeners True",
        "has_listeners False",
        "within",
        "send to 0",
        "send to 1",
        "send to 2",
        "send to 2 failed",
        "send_robust to 0",
        "send_robust to 1",
        "send_robust to 2",
    ]
    assert [kind for kind in expected if seen.get(kind, 0) < 5] == [], seen


def test_comparison_finds_a_planted_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = tsignals.Signal.has_listeners

    def lies(self: tsignals.Signal, sender: object = None) -> bool:
        return honest(self, sender) and len(self.receivers) != 3

    monkeypatch.setattr(tsignals.Signal, "has_listeners", lies)
    with pytest.raises(pytest.fail.Exception, match="seed"):
        compare(100, caching=False, asynchronous=False, priorities=False)
