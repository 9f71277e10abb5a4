"""The four signals, and how one is sent from within a flush.

Under an ``AsyncSession`` a flush runs in a greenlet of SQLAlchemy's, on the thread of the event
loop. There ``here.asend`` is driven by hand: until it first waits it runs in that greenlet. So the
sync receivers, which come first, may load and execute as under a plain session; what the async
ones wait for is handed to the event loop, as SQLAlchemy itself does. They take turns: two at once
would use the session at once, which SQLAlchemy refuses.
"""

import functools
import sys
from collections.abc import Callable, Coroutine, Generator, Sequence
from types import FunctionType
from typing import TypeVar

from sqlalchemy.util import await_only

from tsignals import Connection, Signal
from tsignals.observing import background_of


class ModelSignal(Signal):
    """A signal whose ``instance`` and ``session`` must not leave the session's thread."""

    _in_turn = True  # an AsyncSession is for one task at a time

    def connect(
        self,
        receiver: Callable[..., object],
        sender: object = None,
        *others: object,
        **named: object,
    ) -> Connection:
        """As ``Signal.connect``, whose arguments these are.

        Raises ``TypeError``, too, for a ``sender`` that is no class, which nobody would hear, and
        for a ``background`` receiver, or the ``on_commit`` of another library: it would load on the
        session's connection, in another thread.
        """
        if sender is not None and not isinstance(sender, type):
            raise TypeError(
                f"the senders of {self.name} are classes, as in sender=User; nobody would hear "
                f"{sender!r}"
            )
        wrapper = background_of(receiver)
        if wrapper is not None and not getattr(type(wrapper), "gives_identity", False):
            raise TypeError(
                f"cannot connect {wrapper!r} to {self.name}: it would use instance and session in "
                "another thread; use tsignals.sqlalchemy.on_commit in its place"
            )
        if wrapper is not None and not issubclass(type(receiver), functools.partial):
            _refuse_lost(wrapper)
        return super().connect(receiver, sender, *others, **named)  # type: ignore[arg-type]


def _refuse_lost(receiver: object) -> None:
    """Raise for an ``on_commit`` receiver that asks for what it will not get."""
    function = getattr(receiver, "__wrapped__", None)
    if type(function) is not FunctionType:
        return
    code = function.__code__
    positional = code.co_argcount - len(function.__defaults__ or ())
    required = (
        code.co_varnames[:positional]
        + code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    )
    for name in ("instance", "session"):
        if name in required and name not in (function.__kwdefaults__ or {}):
            raise TypeError(
                f"{receiver!r} asks for {name}, which must not leave the session's thread: it gets "
                "identity in place of instance and session; load the instance in its own session"
            )


pre_save: Signal = ModelSignal(["instance", "session", "created"], name="pre_save")
"""Before a flush writes an instance. Sender: ``type(instance)``.

``created``: whether it will be inserted. The instance may be changed, and others added.
"""
post_save: Signal = ModelSignal(["instance", "session", "created"], name="post_save")
"""After a flush has written an instance; the transaction may still be rolled back."""
pre_delete: Signal = ModelSignal(["instance", "session"], name="pre_delete")
"""Before a flush deletes an instance."""
post_delete: Signal = ModelSignal(["instance", "session"], name="post_delete")
"""After a flush has deleted an instance; the transaction may still be rolled back."""

T = TypeVar("T")

MODEL_SIGNALS = (pre_save, post_save, pre_delete, post_delete)


def sends(signal: Signal) -> Callable[..., Sequence[tuple[object, object]]]:
    """What sends it, here and now; async receivers are awaited where there is an AsyncSession."""
    return functools.partial(_send_in_greenlet, signal) if in_greenlet() else signal.send


def _send_in_greenlet(
    signal: Signal, sender: type, **named: object
) -> Sequence[tuple[object, object]]:
    return _drive(signal.here.asend(sender, **named))


def in_greenlet() -> bool:
    """Whether SQLAlchemy runs this on behalf of something that is awaited."""
    greenlet = sys.modules.get("greenlet")
    if greenlet is None:
        return False
    current = greenlet.getcurrent()
    return (
        getattr(current, "__sqlalchemy_greenlet_provider__", False)
        or type(current).__name__ == "_AsyncIoGreenlet"  # in the first releases of SQLAlchemy 2
    )


class _Step:
    """Awaited by the event loop's side: hands on what the coroutine waits for."""

    def __init__(self, waited: object) -> None:
        self.waited = waited

    def __await__(self) -> Generator[object, object, object]:
        return (yield self.waited)


def _drive(coroutine: Coroutine[object, object, T]) -> T:
    resume = functools.partial(coroutine.send, None)
    try:
        while True:
            waited = resume()
            try:
                resume = functools.partial(coroutine.send, await_only(_Step(waited)))
            except BaseException as error:  # a cancellation, too: the coroutine's to handle
                resume = functools.partial(coroutine.throw, error)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        coroutine.close()
