"""tsignals and its peers, each used the way its own users would.

The statements are timed as they stand here; they see ``signal``, ``sender``, ``receiver`` and
what ``names`` adds. A peer that is not installed is left out.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import metadata
from types import FunctionType
from typing import Any, TypeAlias

import tsignals
from stress.bench.progress import optional

Receiver: TypeAlias = Callable[..., object]


class Sender:
    """Somebody who sends: an object that can be referenced weakly."""

    def send(self, sender: object, **named: object) -> None:
        """What any send has to pay before it does a thing."""


class Named:
    """Receivers as Django and tsignals call them; they do nothing."""

    @staticmethod
    def function(signal: object, sender: object, **named: object) -> None:
        pass

    def method(self, signal: object, sender: object, **named: object) -> None:
        pass


class BySender:
    """Receivers that get the sender in front."""

    @staticmethod
    def function(sender: object, **named: object) -> None:
        pass

    def method(self, sender: object, **named: object) -> None:
        pass


class Positional:
    """Receivers for libraries without keyword arguments."""

    @staticmethod
    def function(sender: object, value: object) -> None:
        pass

    def method(self, sender: object, value: object) -> None:
        pass


Shape: TypeAlias = type[Named] | type[BySender] | type[Positional]


def functions(count: int, shape: Shape = Named) -> tuple[Receiver, ...]:
    """Distinct functions, such as stand at the top level of a module."""
    code = shape.function.__code__
    return tuple(FunctionType(code, globals()) for _ in range(count))


def methods(count: int, shape: Shape = Named) -> tuple[Receiver, ...]:
    """Bound methods of distinct objects."""
    return tuple(shape().method for _ in range(count))


class Library:
    """What the benchmark needs to know of a signal library."""

    name: str
    package: str
    shape: Shape = Named
    send = "signal.send(sender, {named})"
    send_robust: str | None = None
    change = "signal.connect(receiver); signal.disconnect(receiver)"
    names: Mapping[str, object] = {}
    filters_senders = True
    any_keywords = True
    slow_to_fill = False  # connecting one more takes longer the more there are

    def signal(self) -> Any:
        raise NotImplementedError

    def connect(self, signal: Any, receiver: object, **how: object) -> None:
        signal.connect(receiver, **how)

    def can_hold(self, *, methods: bool, weak: bool) -> bool:
        return True


class Tsignals(Library):
    name = "tsignals"
    package = "tsignals"
    send_robust = "signal.send_robust(sender, {named})"

    def signal(self) -> Any:
        return tsignals.Signal()


class Django(Library):
    name = "Django"
    package = "Django"
    send_robust = "signal.send_robust(sender, {named})"
    slow_to_fill = True

    def __init__(self) -> None:
        self._dispatch = optional("django.dispatch")

    def signal(self) -> Any:
        return self._dispatch.Signal()


class DjangoCached(Django):
    name = "Django, cached"

    def signal(self) -> Any:
        return self._dispatch.Signal(use_caching=True)


class Blinker(Library):
    name = "blinker"
    package = "blinker"
    shape = BySender

    def __init__(self) -> None:
        self._blinker = optional("blinker")

    def signal(self) -> Any:
        return self._blinker.Signal()


class PyDispatcher(Library):
    name = "PyDispatcher"
    package = "PyDispatcher"
    send = "send(signal, sender, {named})"
    change = "connect(receiver, signal); disconnect(receiver, signal)"
    slow_to_fill = True

    def __init__(self) -> None:
        self._dispatcher = optional("pydispatch.dispatcher")
        if self._dispatcher:
            verbs = ("send", "connect", "disconnect")
            self.names = {verb: getattr(self._dispatcher, verb) for verb in verbs}

    def signal(self) -> Any:
        return Named()  # any hashable object names a signal

    def connect(self, signal: Any, receiver: object, **how: object) -> None:
        self._dispatcher.connect(receiver, signal, **how)


class Psygnal(Library):
    name = "psygnal"
    package = "psygnal"
    shape = Positional
    send = "signal.emit(sender, 1)"
    filters_senders = False
    any_keywords = False

    def __init__(self) -> None:
        self._psygnal = optional("psygnal")

    def signal(self) -> Any:
        return self._psygnal.SignalInstance((object, int))

    def connect(self, signal: Any, receiver: object, **how: object) -> None:
        signal.connect(receiver)

    def can_hold(self, *, methods: bool, weak: bool) -> bool:
        return methods == weak  # functions are always held strongly, methods always weakly


class Pyee(Library):
    name = "pyee"
    package = "pyee"
    shape = BySender
    send = "signal.emit('event', sender, {named})"
    change = "signal.add_listener('event', receiver); signal.remove_listener('event', receiver)"
    filters_senders = False

    def __init__(self) -> None:
        self._pyee = optional("pyee")

    def signal(self) -> Any:
        return self._pyee.EventEmitter()

    def connect(self, signal: Any, receiver: object, **how: object) -> None:
        signal.add_listener("event", receiver)

    def can_hold(self, *, methods: bool, weak: bool) -> bool:
        return not weak


EVERY: tuple[type[Library], ...] = (
    Tsignals,
    Django,
    DjangoCached,
    Blinker,
    Psygnal,
    PyDispatcher,
    Pyee,
)


@cache
def installed() -> tuple[Library, ...]:
    return tuple(library() for library in EVERY if version(library) is not None)


def version(library: type[Library]) -> str | None:
    """``None``: not installed."""
    if library is Tsignals:
        return str(getattr(tsignals, "__version__", "this checkout"))
    try:
        return metadata.version(library.package)
    except metadata.PackageNotFoundError:
        return None


def versions() -> Iterator[str]:
    """A line for the head of the report about every peer, present or not."""
    for package in dict.fromkeys(library.package for library in EVERY[1:]):
        library = next(library for library in EVERY if library.package == package)
        yield f"{package} {version(library) or 'is not installed: skipped'}"
