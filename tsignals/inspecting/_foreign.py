"""Signals of Django and blinker: read from where these keep their receivers.

They show nothing of it themselves, so this knows their insides: those of Django 5.2 and 6, and of
blinker 1.8 and 1.9, on which it is tested.
"""

import gc
import itertools
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from tsignals._base.definition import MISSING, is_async
from tsignals.inspecting._entries import ReceiverEntry, receiver_entry, sender_name

NOBODY = object()
"""A sender of whom only the address is known."""


class Heard(NamedTuple):
    """One receiver of another library's signal."""

    receiver: object
    weak: bool
    sender: object
    sender_id: int | None
    uid: object
    is_async: bool


class DjangoSignal(Protocol):
    receivers: list[tuple[tuple[object, int], object, object]]


class BlinkerSignal(Protocol):
    receivers: Mapping[object, object]
    _by_receiver: Mapping[object, Iterable[object]]
    _weak_senders: Mapping[object, Callable[[], object]]


def kinds() -> dict[str, type]:
    """The classes of the signals of libraries that are loaded."""
    found = {}
    for library, module in (("django", "django.dispatch"), ("blinker", "blinker")):
        kind = getattr(sys.modules.get(module), "Signal", None)
        if isinstance(kind, type):
            found[library] = kind
    return found


def of_django(signal: DjangoSignal) -> Iterator[Heard]:
    for (who, sender_id), held, *more in list(signal.receivers):
        receiver, weak = _behind(held)
        if receiver is None:
            continue
        uid = None if who == _django_id(receiver) else who
        reference = more[0] if len(more) > 1 else None  # before Django 6 there is none
        sender: object = None if sender_id == id(None) else NOBODY
        if callable(reference):
            sender = reference()
        if sender is None and sender_id != id(None):
            continue  # dead
        yield Heard(receiver, weak, sender, sender_id, uid, bool(more[-1]))


def of_blinker(signal: BlinkerSignal) -> Iterator[Heard]:
    anybody = getattr(sys.modules.get("blinker.base"), "ANY_ID", 0)
    for key, held in list(signal.receivers.items()):
        receiver, weak = _behind(held)
        if receiver is None:
            continue
        for sender_id in sorted(signal._by_receiver.get(key, ()), key=str):
            sender: object = None
            if sender_id != anybody:
                reference = signal._weak_senders.get(sender_id)
                sender = NOBODY if reference is None else reference()
            known = sender_id if isinstance(sender_id, int) else None
            yield Heard(receiver, weak, sender, known, None, is_async(receiver))


def _behind(held: object) -> tuple[object, bool]:
    if isinstance(held, weakref.ref):
        return held(), True
    return held, False


def _django_id(target: object) -> object:
    """As Django makes it."""
    function = getattr(target, "__func__", MISSING)
    if function is MISSING:
        return id(target)
    return id(getattr(target, "__self__", None)), id(function)


def entries(heard: Iterable[Heard], senders: "Senders") -> list[ReceiverEntry]:
    return [
        receiver_entry(
            each.receiver,
            sender=senders.name(each),
            weak=each.weak,
            is_async=each.is_async,
            uid=each.uid,
        )
        for each in heard
    ]


def _classes() -> Iterator[type]:
    """All that there are; most senders of Django's are such."""
    left: list[type] = [object]
    seen: set[int] = set()
    while left:
        kind = left.pop()
        if id(kind) not in seen:
            seen.add(id(kind))
            yield kind
            left += type.__subclasses__(kind)


class Senders:
    """Names of senders of whom a signal knows nothing but where they are: looked for, once."""

    def __init__(self, wanted: Iterable[Heard]) -> None:
        ids = {each.sender_id for each in wanted if each.sender is NOBODY}
        self._found: dict[int, object] = {}
        if ids:
            # Classes as well by themselves: the collector shows nothing of what is frozen.
            known = itertools.chain(_classes(), gc.get_objects())
            self._found = {id(each): each for each in known if id(each) in ids}

    def name(self, heard: Heard) -> str | None:
        if heard.sender is not NOBODY:
            return sender_name(heard.sender)
        if heard.sender_id in self._found:
            return sender_name(self._found[heard.sender_id])
        return "?"
