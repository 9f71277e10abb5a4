"""The data: what is said of a signal, and of a receiver. How things are called in it."""

import enum
import functools
import os
import sys
from dataclasses import fields
from types import CodeType, MethodType
from typing import TypedDict, cast

from tsignals import Retry, Signal
from tsignals._base.definition import (
    DEEPEST,
    MISSING,
    behind_partials,
    in_class,
    name_of,
    one_line,
    stored,
)
from tsignals._base.log import show
from tsignals._registry.shown import wrapper_of
from tsignals.observing import signal_name

ReceiverEntry = TypedDict(
    "ReceiverEntry",
    {
        "name": str,
        "where": str | None,
        "sender": str | None,
        "weak": bool,
        "priority": int,
        "async": bool,
        "tracked": bool,
        "ordered": bool | str,
        "once": bool,
        "retry": str | None,
        "uid": str | None,
        "runs": str | None,
    },
)
"""One connection.

name: the receiver's module and qualified name.
where: its file and line; ``None`` where it has none.
sender: whom it hears; ``None``: everybody.
runs: ``"background"`` or ``"on_commit"`` for what these have wrapped; ``None`` for all others.
ordered: ``True``, or the name of the function that gives the key.
All else as it was given to ``connect``.

Thread safety: a dict that belongs to who has asked for it.
"""


class SignalEntry(TypedDict):
    """One signal.

    name: its own, else that of the attribute, else where it was made.
    library: ``"tsignals"``, ``"django"`` or ``"blinker"``.
    attribute: the module and the path in there where it is found, or ``None``.
    defined: the file and line of its definition, or ``None``.
    doc: the first line of its documentation, or an empty string.
    receivers: a ``ReceiverEntry`` for each, in call order.

    Thread safety: a dict that belongs to who has asked for it.
    """

    name: str
    library: str
    attribute: str | None
    defined: str | None
    providing_args: list[str]
    doc: str
    receivers: list[ReceiverEntry]


def full_name(receiver: object) -> str:
    """The module and the qualified name of a callable, of whatever kind."""
    module = stored(innermost(receiver), "__module__")
    name = name_of(receiver)
    if type(module) is not str or module == "builtins":
        return name
    if name.startswith("<"):  # an object of that class
        return f"<{one_line(module)}.{name[1:]}"
    return f"{one_line(module)}.{name}"


def innermost(receiver: object) -> object:
    """The function behind methods, partials, and wrappers that say what they wrap."""
    for _ in range(DEEPEST):
        inner = _inside(receiver)
        if inner is MISSING:
            break
        receiver = inner
    return receiver


def _inside(receiver: object) -> object:
    if type(receiver) is MethodType:
        return receiver.__func__
    if issubclass(type(receiver), functools.partial):
        return cast(object, behind_partials(receiver))
    return stored(receiver, "__wrapped__")


def code_of(receiver: object) -> CodeType | None:
    """The code that runs when it is called, if that is Python's."""
    function = innermost(receiver)
    found = stored(function, "__code__")
    if found is MISSING and not issubclass(type(function), type):
        found = stored(innermost(in_class(type(function), "__call__")), "__code__")
    return found if type(found) is CodeType else None


def where_is(code: CodeType | None) -> str | None:
    return None if code is None else f"{short(code.co_filename)}:{code.co_firstlineno}"


def short(path: str) -> str:
    """A file's path, from the current directory, else from where it is imported from."""
    return _short(path, os.getcwd(), tuple(sys.path))


@functools.lru_cache(maxsize=4096)
def _short(path: str, here: str, folders: tuple[str, ...]) -> str:
    if os.path.isabs(path):
        for folder in (here, *sorted(filter(None, folders), key=len, reverse=True)):
            start = os.path.join(os.path.abspath(folder), "")
            if path.startswith(start):
                return one_line(path[len(start) :])
    return one_line(path)


_SAID_AS_THEY_ARE = (str, bytes, int, float, bool)


def sender_name(sender: object) -> str | None:
    """A sender in a few words; no ``repr`` of the program's is called."""
    kind = type(sender)
    if sender is None:
        return None
    if issubclass(kind, Signal):
        return signal_name(sender)
    if issubclass(kind, type) or type(stored(sender, "__qualname__")) is str:
        return full_name(sender)
    if issubclass(kind, enum.Enum):
        return one_line(f"{full_name(kind)}.{stored(sender, '_name_')}")
    if kind in _SAID_AS_THEY_ARE:
        text = show(sender)  # an int may be too long to be written
        return text if len(text) <= 60 else text[:57] + "..."
    return f"<{full_name(kind)}>"


def _shown_retry(retry: Retry) -> str:
    """As its ``repr``, but what it is about by name."""
    on = retry.on if isinstance(retry.on, tuple) else (retry.on,)
    numbers = [f"{each.name}={getattr(retry, each.name)!r}" for each in fields(retry)[1:]]
    return f"Retry({', '.join([' | '.join(map(name_of, on)), *numbers])})"


def receiver_entry(
    receiver: object,
    connection: object = None,
    *,
    sender: str | None,
    weak: bool,
    is_async: bool,
    uid: object,
    priority: int = 0,
    tracked: bool = False,
    once: bool = False,
) -> ReceiverEntry:
    """``connection``: ours, if it is one; else what wraps the receiver has options, if anything."""
    wrapper = wrapper_of(receiver)
    agreed = wrapper if connection is None else connection
    ordered, retry = getattr(agreed, "ordered", False), getattr(agreed, "retry", None)
    return {
        "name": full_name(receiver),
        "where": where_is(code_of(receiver)),
        "sender": sender,
        "weak": weak,
        "priority": priority,
        "async": is_async,
        "tracked": tracked,
        "ordered": f"by {name_of(ordered)}" if callable(ordered) else bool(ordered),
        "once": once,
        "retry": None if retry is None else _shown_retry(retry),
        "uid": None if uid is None else one_line(uid if isinstance(uid, str) else show(uid)),
        "runs": None if wrapper is None else wrapper.made_by,
    }
