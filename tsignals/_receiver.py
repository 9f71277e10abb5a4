"""One receiver or sender: its identity, whether it may connect, and how it is held.

No lock, no thread. A weak hold is a :class:`Tether`: a weak reference that carries the key of
the connection it belongs to, so that one callback can serve all connections of a signal.
"""

import sys
import weakref
from collections.abc import Callable, Hashable
from inspect import CO_COROUTINE, CO_VARKEYWORDS
from types import FunctionType, MethodType
from typing import Any, cast

from tsignals._definition import (
    is_async,
    is_kept_by_class,
    is_made_anew,
    name_of,
    stored,
    takes_any_keywords,
)

Receiver = Callable[..., Any]


# Types are asked for by ``type``: ``isinstance`` would also believe a ``__class__`` that says
# otherwise, as those of proxies and mocks do, and ask for it by running their code.


def identity(receiver: object) -> Hashable:
    """What makes two receivers the same: the object, or for a bound method object and function.

    Valid while the receiver lives; a connection's weak hold tells when it no longer does.
    """
    if type(receiver) is MethodType:
        return (id(receiver.__self__), id(receiver.__func__))
    return id(receiver)


def connection_key(receiver: object, sender: object, dispatch_uid: Hashable) -> Hashable:
    """The key under which a connection stands; a new object with each call.

    The shapes (int, pair, one-tuple, triple) keep the kinds apart: no receiver's key can equal
    a ``dispatch_uid``'s, nor a method's the key of a function with a sender.

    Raises ``TypeError`` for an unhashable ``dispatch_uid``.
    """
    who: Hashable
    if dispatch_uid:
        try:
            hash(dispatch_uid)
        except TypeError as error:
            raise TypeError(
                f"dispatch_uid must be hashable, and {type(dispatch_uid).__name__!r} is not; "
                "pass a str or a tuple"
            ) from error
        who = (dispatch_uid,)
    else:
        who = id(receiver) if type(receiver) is FunctionType else identity(receiver)
    return who if sender is None else (who, id(sender), 0)


def check(receiver: Receiver) -> tuple[bool, bool, bool]:
    """Raise unless ``receiver`` can be called with any keywords.

    Return whether it is async for ``send``, whether for ``send_async``, which sees through
    ``background``, and whether that wraps it.

    Django's two messages, word for word, but for what the second says of wrappers. A callable whose
    signature cannot be read is accepted. Nothing is kept, neither the receiver nor its signature.
    """
    function = receiver.__func__ if type(receiver) is MethodType else receiver
    # Unless an attribute says other than the code. Asked one by one, or a __dict__ is made.
    if type(function) is FunctionType and not (
        hasattr(function, "__wrapped__")
        or hasattr(function, "__signature__")
        or hasattr(function, _ASYNC_MARK)
    ):
        flags = function.__code__.co_flags
        if not flags & CO_VARKEYWORDS:
            raise ValueError(_NARROW)
        awaited = flags & CO_COROUTINE != 0
        return awaited, awaited, False
    if not callable(receiver):
        raise TypeError("Signal receivers must be callable.")
    if not takes_any_keywords(receiver):
        wrapped = stored(function, "__wrapped__")
        raise ValueError(
            f"{_NARROW} {name_of(receiver)} is judged by what it wraps, {name_of(wrapped)}."
            if callable(wrapped)
            else _NARROW
        )
    inner = direct(receiver)
    return is_async(receiver), is_async(inner), inner is not receiver


# What marks a function that only returns coroutines: for ``inspect``, or else for ``asyncio``.
_ASYNC_MARK = "_is_coroutine_marker" if sys.version_info >= (3, 12) else "_is_coroutine"

_NARROW = "Signal receivers must accept keyword arguments (**kwargs)."


class Background:
    """Base of receivers that run in a pool by themselves, so that who is in one can tell."""

    function: Receiver
    ordered: Any  # the order of its deliveries, as ``connect`` takes it


def own_order(receiver: Any, ordered: Any) -> Any:
    """The order of a receiver that ``background`` wraps; ``ordered`` was given to ``connect``.

    One that ``connect`` gave would not hold where the receiver puts itself into a pool.
    """
    if ordered:
        raise ValueError(
            "a background receiver is ordered by itself, in every way to send: "
            "use background(function, ordered=True), without ordered in connect"
        )
    of: Any = receiver.__func__ if type(receiver) is MethodType else receiver
    return of.ordered


def direct(receiver: Receiver) -> Receiver:
    """What to call where a pool runs the receiver already: the function behind ``background``."""
    if type(receiver) is FunctionType:
        return receiver  # as nearly all are
    if issubclass(type(receiver), Background):
        return cast(Background, receiver).function
    if type(receiver) is MethodType and issubclass(type(receiver.__func__), Background):
        return MethodType(cast(Background, receiver.__func__).function, receiver.__self__)
    return receiver


class Only:
    """Equal to one key object and to no other: makes ``dict.pop`` a compare-and-delete."""

    __slots__ = ("hash", "key")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.hash = hash(key)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return other is self.key


class Tether(weakref.ref[Any]):
    """A weak reference that knows the key of its connection."""

    __slots__ = ("key",)
    key: Hashable


class WeakMethod:
    """A bound method held weakly; calling it gives the method, or ``None`` once it is dead."""

    __slots__ = ("function", "object")

    def __init__(self, object: Tether, function: "weakref.ref[Any]") -> None:
        self.object = object
        self.function = function

    def __call__(self) -> Receiver | None:
        # The object first: while it is held, its function can still be gone, not the reverse.
        instance = self.object()
        function = self.function()
        if instance is None or function is None:
            return None
        return MethodType(function, instance)


class Strong:
    """A receiver or sender held as it is; calling it gives it back."""

    __slots__ = ("target",)

    def __init__(self, target: Any) -> None:
        self.target = target

    def __call__(self) -> Any:
        return self.target


Hold = Tether | WeakMethod | Strong


def tether(target: object, key: Hashable, on_death: Callable[[Any], None]) -> Tether:
    """A weak reference to ``target`` that calls ``on_death(tether)`` when it goes dead."""
    hold = Tether(target, on_death)
    hold.key = key
    return hold


def hold_receiver(
    receiver: Receiver, weak: bool, key: Hashable, on_death: Callable[[Any], None]
) -> Hold:
    """Hold ``receiver`` weakly or strongly.

    Raises ``TypeError`` when it is to be held weakly and cannot be.
    """
    if not weak:
        return Strong(receiver)
    if type(receiver) is FunctionType and receiver.__closure__ is None:  # as most are
        hold = Tether(receiver, on_death)
        hold.key = key
        return hold
    owner: Any = receiver
    kept = False  # whether it is a method whose function the class keeps alive
    if type(receiver) is MethodType:
        owner, function = receiver.__self__, receiver.__func__
        kept = is_kept_by_class(owner, function) or issubclass(type(function), Background)
    if not kept and is_made_anew(receiver):
        raise TypeError(
            f"cannot hold {name_of(receiver)} weakly (its owner makes it anew at each access, "
            "so nothing else keeps it alive); pass weak=False"
        )
    try:
        if owner is receiver:
            return tether(receiver, key, on_death)
        # Without a callback a reference is shared, by all methods of one function.
        its = weakref.ref(function) if kept else tether(function, key, on_death)
        return WeakMethod(tether(owner, key, on_death), its)
    except TypeError:
        raise TypeError(
            f"cannot hold <{type(owner).__name__}> weakly "
            "(its class allows no weak references); pass weak=False"
        ) from None


def hold_sender(sender: object, key: Hashable, on_death: Callable[[Any], None]) -> Tether | Strong:
    """Hold ``sender`` weakly where that is possible, else strongly."""
    try:
        return tether(sender, key, on_death)
    except TypeError:
        return Strong(sender)
