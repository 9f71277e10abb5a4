"""The four signals, and how one is sent from within a flush.

Under an ``AsyncSession`` a flush runs in a greenlet of SQLAlchemy's, on the thread of the event
loop. There ``here.asend`` is driven by hand: until it first waits it runs in that greenlet. So the
sync receivers, which come first, may load and execute as under a plain session; what the async
ones wait for is handed to the event loop, as SQLAlchemy itself does.
"""

import functools
import sys
from collections.abc import Coroutine, Generator, Sequence
from typing import TypeVar

from sqlalchemy.util import await_only

from tsignals import Signal

pre_save: Signal = Signal(["instance", "session", "created"], name="pre_save")
"""Before a flush writes an instance. Sender: ``type(instance)``.

``created``: whether it will be inserted. The instance may be changed, and others added.
"""
post_save: Signal = Signal(["instance", "session", "created"], name="post_save")
"""After a flush has written an instance; the transaction may still be rolled back."""
pre_delete: Signal = Signal(["instance", "session"], name="pre_delete")
"""Before a flush deletes an instance."""
post_delete: Signal = Signal(["instance", "session"], name="post_delete")
"""After a flush has deleted an instance; the transaction may still be rolled back."""

T = TypeVar("T")

MODEL_SIGNALS = (pre_save, post_save, pre_delete, post_delete)


def send(signal: Signal, sender: type, **named: object) -> Sequence[tuple[object, object]]:
    """Send, here and now; async receivers are awaited where there is an ``AsyncSession``."""
    if in_greenlet():
        return _drive(signal.here.asend(sender, **named))
    return signal.send(sender, **named)


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
