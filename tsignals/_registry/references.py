"""How receivers and senders are held: weakly or as they are.

A weak hold is a :class:`KeyedRef`: a weak reference that carries the key of the connection it
belongs to, so that one callback can serve all connections of a signal.
"""

import weakref
from collections.abc import Callable, Hashable
from types import MethodType
from typing import Generic, Protocol, TypeVar

from tsignals._base.definition import as_method, name_of
from tsignals._base.kept import is_kept_by_class, is_made_anew
from tsignals._calling.types import Receiver
from tsignals._registry.receiver import Background

T = TypeVar("T")


class KeyedRef(weakref.ref[T]):
    """A weak reference that knows the key of its connection."""

    __slots__ = ("key",)
    key: Hashable


class HasKey(Protocol):
    """A dead ``KeyedRef``, as its callback sees it."""

    key: Hashable


OnDeath = Callable[[HasKey], object]


class WeakMethod:
    """A bound method held weakly; calling it gives the method, or ``None`` once it is dead."""

    __slots__ = ("function", "instance")

    def __init__(self, instance: KeyedRef[object], function: "weakref.ref[Receiver]") -> None:
        self.instance: KeyedRef[object] = instance
        self.function: weakref.ref[Receiver] = function

    def __call__(self) -> Receiver | None:
        # The object first: while it is held, its function can still be gone, not the reverse.
        instance = self.instance()
        function = self.function()
        if instance is None or function is None:
            return None
        return MethodType(function, instance)


class Strong(Generic[T]):
    """A receiver or sender held as it is; calling it gives it back."""

    __slots__ = ("target",)

    def __init__(self, target: T) -> None:
        self.target: T = target

    def __call__(self) -> T:
        return self.target


Hold = KeyedRef[Receiver] | WeakMethod | Strong[Receiver]
SenderHold = KeyedRef[object] | Strong[object]


def keyed_ref(target: T, key: Hashable, on_death: OnDeath) -> KeyedRef[T]:
    """A weak reference to ``target`` that calls ``on_death(ref)`` when it goes dead."""
    hold = KeyedRef(target, on_death)
    hold.key = key
    return hold


def hold_receiver(receiver: Receiver, weak: bool, key: Hashable, on_death: OnDeath) -> Hold:
    """Hold ``receiver`` weakly or strongly.

    Raises ``TypeError`` when it is to be held weakly and cannot be.
    """
    if not weak:
        return Strong(receiver)
    method = as_method(receiver)
    owner = receiver if method is None else method.__self__
    kept = method is not None and (  # whether the class keeps its function alive
        is_kept_by_class(owner, method.__func__) or issubclass(type(method.__func__), Background)
    )
    if not kept and is_made_anew(receiver):
        raise TypeError(
            f"cannot hold {name_of(receiver)} weakly (its owner makes it anew at each access, "
            "so nothing else keeps it alive); pass weak=False"
        )
    try:
        if method is None:
            return keyed_ref(receiver, key, on_death)
        # Without a callback a reference is shared, by all methods of one function.
        function: Receiver = method.__func__
        its = weakref.ref(function) if kept else keyed_ref(function, key, on_death)
        return WeakMethod(keyed_ref(owner, key, on_death), its)
    except TypeError:
        raise TypeError(
            f"cannot hold <{type(owner).__name__}> weakly "
            "(its class allows no weak references); pass weak=False"
        ) from None


def hold_sender(sender: object, key: Hashable, on_death: OnDeath) -> SenderHold:
    """Hold ``sender`` weakly where that is possible, else strongly."""
    try:
        return keyed_ref(sender, key, on_death)
    except TypeError:
        return Strong(sender)
