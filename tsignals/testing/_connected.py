"""``connected``: a connection for the length of a block."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from tsignals import Connection, Signal

_lock = threading.RLock()  # a finalizer may come in between


def _renew_lock() -> None:
    """In a forked child: one that another thread held would never be released."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)

_made: dict[int, int] = {}
"""How many blocks have a connection that one of them has made; by its id. It lives meanwhile.

0: the last one is about to disconnect it, without the lock, for that may call callbacks.
"""


@contextlib.contextmanager
def connected(
    signal: Signal, receiver: Callable[..., object], **arguments: object
) -> Iterator[Connection]:
    """Connect ``receiver`` for the length of a ``with`` block, which gets the ``Connection``.

    arguments: those of ``connect``; ``weak=False``, unless it is given: the receiver may be a
        lambda.

    What was connected before stays. Where blocks connect the same at the same time (one test in
    several threads), the last one disconnects it. Everybody's sends are heard, as ever. Signals of
    Django and blinker can be connected, too, and give what their ``connect`` returns; these do not
    say what was connected before, so the block disconnects that, too.

    Raises what ``connect`` raises, and ``TypeError`` for what has none.

    Thread safety: from any thread.
    """
    arguments.setdefault("weak", False)
    if not callable(getattr(signal, "connect", None)):
        raise TypeError(f"connected needs a signal, not {type(signal).__name__!r}")
    signal = getattr(signal.connect, "__self__", signal)  # of a view: that of its signal
    if not isinstance(signal, Signal):
        with _connected_to_other(signal, receiver, arguments) as given:
            yield given
        return
    connection, is_ours = _connect(signal, receiver, arguments)
    try:
        yield connection
    finally:
        if is_ours:
            _disconnect(connection)


def _connect(
    signal: Signal, receiver: Callable[..., object], arguments: dict[str, object]
) -> tuple[Connection, bool]:
    """The connection, and whether it is up to the blocks to disconnect it."""
    while True:
        with _lock:
            before = signal.receivers
            connection: Connection = signal.connect(receiver, **arguments)  # type: ignore[arg-type]
            key = id(connection)
            if _made.get(key) != 0:
                is_ours = key in _made or not any(each is connection for each in before)
                if is_ours:
                    _made[key] = _made.get(key, 0) + 1
                return connection, is_ours
        connection.disconnect()  # as its last block is about to


def _disconnect(connection: Connection) -> None:
    """A block that has it ends."""
    key = id(connection)
    with _lock:
        _made[key] -= 1
        is_last = not _made[key]
    if is_last:
        try:
            connection.disconnect()
        finally:
            with _lock:
                del _made[key]


@contextlib.contextmanager
def _connected_to_other(
    signal: Signal, receiver: Callable[..., object], arguments: dict[str, object]
) -> Iterator[Connection]:
    """``connected`` for a signal of another library."""
    given = signal.connect(receiver, **arguments)  # type: ignore[arg-type]
    key = {name: arguments[name] for name in ("sender", "dispatch_uid") if name in arguments}
    try:
        yield given
    finally:
        signal.disconnect(receiver, **key)  # type: ignore[arg-type]
