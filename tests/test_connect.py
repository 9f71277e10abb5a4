"""connect: what is called with what, whose key is whose, in which order, what is refused."""

import asyncio
import contextlib
import functools
import gc
import types
import weakref
from collections.abc import Callable
from typing import Any

import inside
import pytest
from helpers import (
    Boom,
    Ear,
    Equal,
    Thing,
    Unhashable,
    assert_gone,
    awaited,
    heard,
    ignore,
    together,
)

from tsignals import Connection, Signal, background


class Shelf:
    """Callables of every kind that a class can hold."""

    def method(self, **named: Any) -> str:
        return "method"

    @classmethod
    def class_method(cls, **named: Any) -> str:
        return "class method"

    @staticmethod
    def static_method(**named: Any) -> str:
        return "static method"

    def only_stars(*args: Any, **named: Any) -> str:
        return "only stars"

    def narrow_method(self, sender: object) -> None: ...

    @classmethod
    def narrow_class_method(cls, sender: object) -> None: ...


class Made:
    """A class is a receiver too: calling it makes one."""

    def __init__(self, **named: Any) -> None:
        self.named = named


class NarrowMade:
    def __init__(self, signal: object, sender: object) -> None: ...


class NarrowCall:
    def __call__(self, signal: object, sender: object) -> None: ...


class Slots:
    __slots__ = ()

    def __call__(self, **named: Any) -> str:
        return "slots"

    def method(self, **named: Any) -> str:
        return "slots method"


class BadSignature:
    """A callable whose signature nobody can read."""

    __signature__ = "no signature at all"

    def __call__(self, **named: Any) -> str:
        return "unreadable"


def narrow(signal: object, sender: object) -> None: ...


def test_receiver_is_called_with_signal_sender_and_the_named_values() -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    signal.connect(ear)
    signal.send(sender, size=3, crust="thin")
    assert ear.calls == [{"signal": signal, "sender": sender, "size": 3, "crust": "thin"}]


def test_connect_returns_the_connection() -> None:
    signal, ear = Signal(), Ear()
    connection = signal.connect(ear)
    assert type(connection) is Connection
    assert connection.receiver is ear
    assert connection.connected


def test_arguments_may_be_given_by_position_in_djangos_order() -> None:
    signal, sender = Signal(), Thing()
    connection = signal.connect(lambda **named: None, sender, False, "uid")
    gc.collect()
    assert (connection.sender, connection.dispatch_uid) == (sender, "uid")
    assert len(heard(signal, sender)) == 1
    with pytest.raises(TypeError):
        signal.connect(ignore, None, True, "uid", 1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("make", "response"),
    [
        (lambda: lambda **named: "lambda", "lambda"),
        (lambda: Shelf().method, "method"),
        (lambda: Shelf.class_method, "class method"),
        (lambda: Shelf.static_method, "static method"),
        (lambda: Shelf().only_stars, "only stars"),
        (lambda: functools.partial(Shelf().method, extra=1), "method"),
        (lambda: functools.partial(lambda prefix, **named: prefix, "partial"), "partial"),
        (lambda: Ear(response="object"), "object"),
        (lambda: Unhashable(response="unhashable"), "unhashable"),
        (lambda: Unhashable(response="unhashable's method").hear, "unhashable's method"),
        (Slots, "slots"),
        (lambda: Slots().method, "slots method"),
        (BadSignature, "unreadable"),
    ],
)
def test_every_kind_of_callable_can_be_connected(
    make: Callable[[], Callable[..., Any]], response: str
) -> None:
    signal, receiver = Signal(), make()
    signal.connect(receiver, weak=False)
    assert signal.send(None) == [(receiver, response)]
    assert signal.disconnect(receiver)


def test_class_can_be_a_receiver() -> None:
    signal = Signal()
    signal.connect(Made)
    [(receiver, made)] = signal.send(None, size=1)
    assert receiver is Made
    assert made.named == {"signal": signal, "sender": None, "size": 1}


# Identity


def test_key_connected_again_changes_nothing_and_returns_the_existing_connection() -> None:
    signal, first, second = Signal(), Ear("first"), Ear("second")
    connection = signal.connect(first)
    signal.connect(second)
    assert signal.connect(first, weak=False) is connection
    assert heard(signal) == [first, second]
    reference = weakref.ref(first)
    del first
    assert_gone(reference)  # still held weakly


def test_receivers_are_told_apart_by_identity_not_by_equality() -> None:
    signal, ears = Signal(), [Equal(), Equal()]
    for ear in ears:
        signal.connect(ear)
        signal.connect(ear.hear)
    assert [id(receiver) for receiver, _ in signal.send(None)][::2] == [id(ear) for ear in ears]
    assert len(heard(signal)) == 4


def test_bound_method_is_known_by_its_object_and_its_function() -> None:
    signal, ear = Signal(), Ear()
    connection = signal.connect(ear.hear)
    assert signal.connect(ear.hear) is connection
    assert signal.connect(types.MethodType(Ear.hear, ear)) is connection
    assert signal.connect(ear.listen) is not connection
    assert signal.connect(ear) is not connection
    assert heard(signal) == [ear.hear, ear.listen, ear]


def test_class_method_is_known_by_the_class_it_is_bound_to() -> None:
    class Sub(Shelf):
        pass

    signal = Signal()
    connection = signal.connect(Shelf.class_method)
    assert signal.connect(Shelf().class_method) is connection
    assert signal.connect(Sub.class_method) is not connection
    assert heard(signal) == [Shelf.class_method, Sub.class_method]


def test_dispatch_uid_takes_the_place_of_the_receivers_identity() -> None:
    signal, first, second = Signal(), Ear("first"), Ear("second")
    connection = signal.connect(first, dispatch_uid="menu")
    assert signal.connect(second, dispatch_uid="menu") is connection
    assert signal.connect(first) is not connection
    assert heard(signal) == [first, first]


def test_dispatch_uids_are_compared_by_equality() -> None:
    signal, first, second = Signal(), Ear("first"), Ear("second")
    connection = signal.connect(first, dispatch_uid=("menu", 1))
    assert signal.connect(second, dispatch_uid=("menu", 1.0)) is connection


@pytest.mark.parametrize("uid", [None, "", 0, (), False])
def test_falsy_dispatch_uid_is_none_at_all(uid: Any) -> None:
    signal, first, second = Signal(), Ear("first"), Ear("second")
    connection = signal.connect(first, dispatch_uid=uid)
    signal.connect(second, dispatch_uid=uid)
    assert signal.connect(first) is connection
    assert heard(signal) == [first, second]


def test_no_dispatch_uid_can_pass_for_a_receiver() -> None:
    signal, first, second = Signal(), Ear("first"), Ear("second")
    signal.connect(first)
    signal.connect(first.hear)
    for uid in (id(first), (id(first), id(Ear.hear)), (id(first),)):
        signal.connect(second, dispatch_uid=uid)
    assert heard(signal) == [first, first.hear, second, second, second]


def test_sender_is_part_of_the_key() -> None:
    signal, ear, sender, other = Signal(), Ear(), Thing(), Thing()
    connections = {signal.connect(ear, sender=of) for of in (None, sender, other)}
    connections |= {signal.connect(ear, of, dispatch_uid="u") for of in (None, sender, other)}
    assert len(connections) == 6
    assert signal.connect(ear, sender=sender) in connections


@pytest.mark.parametrize("uid", [[], ["menu"], {"menu": 1}, ("menu", [])])
def test_unhashable_dispatch_uid_is_refused_and_changes_nothing(uid: Any) -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear)
    if not uid:  # falsy, thus none at all
        signal.connect(ear, dispatch_uid=uid)
    else:
        with pytest.raises(TypeError, match="dispatch_uid must be hashable"):
            signal.connect(ear, dispatch_uid=uid)
        with pytest.raises(TypeError, match="dispatch_uid must be hashable"):
            signal.disconnect(dispatch_uid=uid)
    assert heard(signal) == [ear]


def test_every_thread_that_connects_one_key_gets_the_same_connection() -> None:
    for _ in range(50):
        signal, ears = Signal(), [Ear(str(n)) for n in range(4)]
        connections = together(
            *[functools.partial(signal.connect, ear, dispatch_uid="menu") for ear in ears]
        )
        assert len(set(connections)) == 1
        assert heard(signal) == [connections[0].receiver]


# Order


def test_receivers_are_called_in_the_order_they_were_connected() -> None:
    signal, ears = Signal(), [Ear(str(n)) for n in range(20)]
    for ear in reversed(ears):
        signal.connect(ear)
    assert heard(signal) == ears[::-1]


def test_higher_priority_is_called_first_and_equals_in_order_of_connection() -> None:
    signal = Signal()
    priorities = [0, 5, -1, 5, 0, 2, -1, True]
    ears = [Ear(str(priority)) for priority in priorities]
    for ear, priority in zip(ears, priorities, strict=True):
        assert signal.connect(ear, priority=priority).priority == priority
    assert [ear.name for ear in heard(signal)] == ["5", "5", "2", "True", "0", "0", "-1", "-1"]
    assert heard(signal)[:2] == [ears[1], ears[3]]
    assert heard(signal)[-2:] == [ears[2], ears[6]]


def test_receivers_of_one_sender_and_of_all_share_one_order() -> None:
    signal, sender = Signal(), Thing()
    ears = [Ear(str(n)) for n in range(6)]
    for n, ear in enumerate(ears):
        signal.connect(ear, sender=sender if n % 2 else None, priority=n // 4)
    assert heard(signal, sender) == [ears[4], ears[5], *ears[:4]]
    assert heard(signal) == [ears[4], ears[0], ears[2]]


def test_receiver_connected_to_a_sender_and_to_all_is_called_twice() -> None:
    signal, ear, sender = Signal(), Ear(), Thing()
    signal.connect(ear, sender=sender)
    signal.connect(ear)
    assert heard(signal, sender) == [ear, ear]
    assert heard(signal, Thing()) == [ear]


def test_receiver_connected_again_after_a_disconnect_goes_to_the_end() -> None:
    signal, first, second = Signal(), Ear("first"), Ear("second")
    connection = signal.connect(first)
    signal.connect(second)
    signal.disconnect(first)
    assert signal.connect(first) is not connection
    assert heard(signal) == [second, first]


# What connect refuses


def refused(receiver: Any, error: type[Exception], message: str, **arguments: Any) -> None:
    """Connecting fails with ``message`` and leaves the signal as it was."""
    signal, before, sender = Signal(), Ear(), Thing()
    signal.connect(before)
    for of in (None, sender):
        with pytest.raises(error) as info:
            signal.connect(receiver, sender=of, **arguments)
        assert message in "\n".join([str(info.value), *getattr(info.value, "__notes__", [])])
    assert [connection.receiver for connection in signal.receivers] == [before]
    assert heard(signal, sender) == [before]
    signal.disconnect(before)
    assert not signal.has_listeners(sender)


@pytest.mark.parametrize("receiver", [None, 3, "ears", object(), [ignore]])
@pytest.mark.parametrize("weak", [True, False])
def test_connect_refuses_what_cannot_be_called(receiver: Any, weak: bool) -> None:
    with pytest.raises(TypeError) as info:
        Signal().connect(receiver, weak=weak)
    assert str(info.value) == "Signal receivers must be callable."
    note = f"what was given is of type {type(receiver).__name__!r}; pass the function itself"
    refused(receiver, TypeError, note, weak=weak)


@pytest.mark.parametrize(
    "receiver",
    [
        narrow,
        lambda sender, *args: None,
        lambda: None,
        Shelf().narrow_method,
        Shelf.narrow_class_method,
        NarrowMade,
        NarrowCall(),
        functools.partial(narrow, 1),
        functools.wraps(narrow)(lambda *args, **named: None),
        len,
        [].append,
    ],
)
@pytest.mark.parametrize("uid", [None, "menu"])
def test_connect_refuses_what_takes_no_keyword_arguments(receiver: Any, uid: str | None) -> None:
    message = "Signal receivers must accept keyword arguments (**kwargs)."
    with pytest.raises(ValueError) as info:
        Signal().connect(receiver, dispatch_uid=uid)
    assert str(info.value) == message or hasattr(receiver, "__wrapped__")
    refused(receiver, ValueError, message, dispatch_uid=uid)


@pytest.mark.parametrize(
    ("receiver", "which"),
    [
        (narrow, "narrow does not: end its parameters with **kwargs"),
        (Shelf().narrow_method, "Shelf.narrow_method does not"),
        (len, "len does not"),
        (
            functools.wraps(narrow)(lambda **named: None),
            "narrow is judged by what it wraps, narrow",
        ),
    ],
)
def test_connect_says_which_receiver_takes_no_keyword_arguments(receiver: Any, which: str) -> None:
    refused(receiver, ValueError, which)


@pytest.mark.parametrize("receiver", [Slots(), Slots().method])
def test_connect_refuses_what_cannot_be_held_weakly_and_says_what_to_do(receiver: Any) -> None:
    refused(receiver, TypeError, "pass weak=False")
    refused(receiver, TypeError, "Slots")


@pytest.mark.parametrize("priority", ["high", None, 1.5])
def test_connect_refuses_a_priority_that_is_no_whole_number(priority: Any) -> None:
    refused(ignore, TypeError, "priority must be an int", priority=priority)


@pytest.mark.parametrize("receiver", [ignore, Ear().hear], ids=["function", "method"])
@pytest.mark.parametrize("flag", ["weak", "tracked", "once"])
@pytest.mark.parametrize("value", ["no", "", None, 3.5, ()], ids=repr)
def test_connect_refuses_a_flag_that_is_neither_true_nor_false(
    receiver: Any, flag: str, value: Any
) -> None:
    refused(receiver, TypeError, f"{flag} must be True or False", **{flag: value})


@pytest.mark.parametrize("flag", ["weak", "tracked", "once"])
def test_zero_and_one_are_as_good_as_false_and_true(flag: str) -> None:
    for value in (0, 1):
        signal = Signal()
        connection = signal.connect(ignore, **{flag: value})  # type: ignore[arg-type]
        assert getattr(connection, flag) is bool(value)


@pytest.mark.parametrize("receiver", [dict, BadSignature()])
def test_callable_whose_signature_cannot_be_read_is_accepted(receiver: Any) -> None:
    signal = Signal()
    signal.connect(receiver)
    assert heard(signal) == [receiver]


def test_the_check_keeps_no_reference() -> None:
    def accepted(**named: Any) -> None: ...

    def rejected() -> None: ...

    signal, ear = Signal(), Ear()
    references = [weakref.ref(each) for each in (accepted, rejected, ear)]
    signal.connect(accepted)
    signal.connect(ear.hear)
    with pytest.raises(ValueError):
        signal.connect(rejected)
    del accepted, rejected, ear
    for reference in references:
        assert_gone(reference)


def test_connect_works_while_the_signal_is_being_sent() -> None:
    signal, late = Signal(), Ear("late")

    def connects(**named: Any) -> None:
        signal.connect(late)

    signal.connect(connects)
    assert heard(signal) == [connects]
    assert heard(signal) == [connects, late]


@pytest.mark.parametrize("name", ["paid", b"paid"])
def test_name_in_place_of_the_names_of_values_is_refused_and_told_where_it_goes(name: Any) -> None:
    with pytest.raises(TypeError, match=r"pass \['paid'\], or name='paid' to name the signal"):
        Signal(name)


def test_use_caching_changes_nothing() -> None:
    signal, ear, sender = Signal(None, True), Ear(), Thing()
    assert not signal.has_listeners(sender)
    signal.connect(ear, sender=sender)
    assert heard(signal, sender) == [ear]
    unhashable: list[int] = []
    assert heard(signal, unhashable) == []


# Options of a key that stands


@pytest.mark.parametrize("uid", [None, "menu"])
@pytest.mark.parametrize("of", [None, Thing()])
@pytest.mark.parametrize(
    ("stands", "asked", "is_with"),
    [
        ({}, {"priority": 1}, "priority=0"),
        ({"priority": 1}, {"priority": 2}, "priority=1"),
        ({}, {"ordered": True}, "ordered=False"),
        ({"ordered": True}, {}, "ordered=True"),
        ({}, {"tracked": True}, "tracked=False"),
        ({"tracked": True}, {"tracked": True, "ordered": True}, "ordered=False"),
    ],
)
def test_other_options_for_a_key_that_stands_are_refused_and_change_nothing(
    stands: dict[str, Any], asked: dict[str, Any], is_with: str, of: Any, uid: Any
) -> None:
    signal, ear = Signal(), Ear()
    connection = signal.connect(ear, of, dispatch_uid=uid, **stands)
    what = "its dispatch_uid" if uid else "it"
    with pytest.raises(ValueError, match=rf": {what} is connected with {is_with} already"):
        signal.connect(ear, of, dispatch_uid=uid, **asked)
    assert signal.receivers == [connection]
    assert signal.connect(ear, of, dispatch_uid=uid, **stands) is connection
    assert connection.disconnect()
    assert signal.connect(ear, of, dispatch_uid=uid, **asked) is not connection


def test_options_of_one_that_is_gone_bind_nobody() -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear, priority=3, dispatch_uid="menu")
    del ear
    gc.collect()
    other = Ear()
    assert signal.connect(other, priority=4, dispatch_uid="menu").priority == 4


@pytest.mark.parametrize("verb", ["send", "send_robust", "send_async", "asend", "asend_robust"])
@pytest.mark.parametrize("wrap", [lambda each: each, functools.partial, background])
def test_send_of_another_signal_is_no_receiver(verb: str, wrap: Any) -> None:
    signal, other = Signal(), Signal()
    with pytest.raises(TypeError, match=r"to forward, connect a function"):
        signal.connect(wrap(getattr(other, verb)), weak=False)
    assert not signal.has_listeners()
    ear = Ear()
    other.connect(ear)

    def forward(signal: Signal, sender: object, **named: Any) -> None:
        other.send(sender, **named)

    class Own(Signal):
        def send(self, sender: object, **named: Any) -> Any:
            return super().send(sender, **named)

        async def asend(self, sender: object, **named: Any) -> Any:
            return await super().asend(sender, **named)

    with pytest.raises(TypeError, match=r"to forward, connect a function"):
        signal.connect(wrap(getattr(Own(), verb)), weak=False)
    assert not signal.has_listeners()
    signal.connect(forward)
    signal.send(None, size=1)
    assert ear.calls == [{"signal": other, "sender": None, "size": 1}]


def test_dispatch_uid_whose_comparison_fails_leaves_nothing_behind() -> None:
    class Uid:
        def __hash__(self) -> int:
            return 7

        def __eq__(self, other: object) -> bool:
            raise Boom

    signal, ears = Signal(), [Ear("first"), Ear("second")]
    signal.connect(ears[0], dispatch_uid=Uid(), tracked=True)
    for _ in range(3):
        with pytest.raises(Boom):
            signal.connect(ears[1], dispatch_uid=Uid(), tracked=True)
    assert len(inside.gates_of(signal)) == 1
    with pytest.raises(Boom):
        signal.disconnect(dispatch_uid=Uid(), wait=True)
    assert heard(signal) == [ears[0]]


def test_function_that_asyncio_calls_async_is_awaited() -> None:
    """Those of older libraries are marked as such, also where ``inspect`` has a mark of its own."""

    def hears(**named: Any) -> Any:
        async def response() -> int:
            return 1

        return response()

    mark = getattr(asyncio.coroutines, "_is_coroutine", None)
    if mark is None:
        pytest.skip("this asyncio marks none")
    hears._is_coroutine = mark  # type: ignore[attr-defined]
    for receiver in (hears, functools.partial(hears)):
        signal = Signal()
        signal.connect(receiver, weak=False)
        assert awaited(signal.asend, None) == [(receiver, 1)]


def test_partial_that_is_its_own_function_is_taken_or_refused_in_time() -> None:
    itself = functools.partial(ignore)
    itself.__setstate__((itself, (), {}, {}))
    with contextlib.suppress(TypeError, ValueError):
        Signal().connect(itself)
    itself.__setstate__((ignore, (), {}, {}))  # or it would never go
