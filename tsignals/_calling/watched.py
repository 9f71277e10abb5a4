"""Sends that somebody observes, in the hands of those who call receivers.

They take connections with what was agreed on and, while somebody observes, with a watch, which
tells of the call. It stands around all that belongs to the call: what the receiver is called
inside of (``around``), and the telling of its failure.
"""

from collections.abc import Callable, Coroutine
from typing import TypeVar

from tsignals._base.interrupts import refuse_if_deep
from tsignals._base.telling import ObservedSend
from tsignals._base.watches import Defer, Judge, Watch
from tsignals._calling.types import Live, Named

R = TypeVar("R")


def followed(live: Live, signal: object, sender: object, named: Named, mode: str) -> Live:
    """A send is about to call ``live``: tell who observes. Return what to call in place of it."""
    send = ObservedSend(signal, sender, mode)
    follow = send.is_followed
    if follow:
        refuse_if_deep(60)  # or one might hear that a receiver starts, and not that it ends
    send.announce(sender, named, [receiver for _, receiver in live])
    if not follow:
        return live
    return [
        (Watch(send, place, receiver, connection._options), receiver)
        for place, (connection, receiver) in enumerate(live)
    ]


def awaited(
    watch: Watch | None,
    judge: Judge,
    function: Callable[..., Coroutine[object, object, R]],
    *arguments: object,
    queued_at: float | None = None,
    defer: Defer | None = None,
) -> Coroutine[object, object, R]:
    """What to await in place of ``function(...)``."""
    if watch is None:
        return function(*arguments)
    return watch.awaited(judge, queued_at, defer, function, *arguments)
