"""``after_commit``, and what may not be sent to another thread."""

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, overload

from sqlalchemy.orm import InstanceState, Session, scoped_session

from tsignals import Deliveries, Prepared
from tsignals.sqlalchemy._waiting import hold

R = TypeVar("R")


class Prepares(Protocol):
    """A signal of tsignals, or a view of one."""

    @property
    def prepare(self) -> Callable[..., Prepared]: ...


def _by_name_as_well(function: Callable[..., R]) -> Callable[..., R]:
    """Take the session by name, where it is not given by position: then it is a value's name."""

    @functools.wraps(function)
    def call(*given: object, **named: object) -> R:
        if not given and "session" in named:
            given = (named.pop("session"),)
        return function(*given, **named)

    return call


@overload
def after_commit(
    session: object, /, signal: Prepares, sender: object, **named: object
) -> Deliveries: ...
@overload
def after_commit(
    *, session: object, signal: Prepares, sender: object, **named: object
) -> Deliveries: ...
@_by_name_as_well
def after_commit(
    session: object, /, signal: Prepares, sender: object, **named: object
) -> Deliveries:
    """Send in the background, once ``session`` has committed.

    Receivers, context and executor are those of this call, as with ``signal.send_async``, and the
    ``Deliveries`` exist at once. They are admitted when the outermost transaction has committed.
    If it, or the savepoint it is in, is rolled back, closed or forgotten, they resolve with
    ``DeliveryDropped`` and a pool counts them as dropped. Outside a transaction, and that includes
    a session with which nothing has been done yet, they are admitted at once.

    signal: one of tsignals, or a view of one (``signal.via(pool)``).
    session: a ``Session``, a ``scoped_session``, or what is like these in asyncio. Need not be
        installed. Given by position, a value named ``session`` is refused as any other session is.

    What admission raises (``QueueFull``, ``PoolClosed``) is a failure of the deliveries, told as
    such, never of the commit. Raises ``TypeError`` if a value is a session or an instance of one:
    pass its ``identity=``. Nothing waits then. An instance that is added to a session before the
    commit cannot be refused any more: logger ``tsignals`` gets an ERROR, and the deliveries resolve
    with ``DeliveryDropped``.

    Thread safety: as the session itself, on its thread only.
    """
    if not callable(getattr(signal, "prepare", None)):
        raise TypeError(
            f"after_commit needs a signal of tsignals, not {type(signal).__name__!r}; connect an "
            "on_commit receiver to a signal of another library"
        )
    own = sync_session(session, "after_commit")
    values = {"sender": sender, **named}
    refuse_instances(signal, values)
    prepared = signal.prepare(sender, **named)
    hold(own, prepared, functools.partial(reason_to_refuse, signal, values))
    return prepared.deliveries


def sync_session(session: object, what: str) -> Session:
    """The ``Session`` behind what a program calls its session."""
    found = session
    if isinstance(found, scoped_session):
        found = found()
    if sys.modules.get("sqlalchemy.ext.asyncio"):  # else nothing can be of it
        from sqlalchemy.ext import asyncio as aio

        if isinstance(found, aio.async_scoped_session):
            found = found()
        if isinstance(found, aio.AsyncSession):
            found = found.sync_session
    if not isinstance(found, Session):
        raise TypeError(
            f"{what} needs a session of SQLAlchemy's, for whose commit it waits, "
            f"not {type(session).__name__!r}"
        )
    return found


def refuse_instances(signal: object, named: Mapping[str, object]) -> None:
    """Raise ``TypeError`` for what must not leave the session's thread."""
    reason = reason_to_refuse(signal, named)
    if reason is not None:
        raise TypeError(reason)


def reason_to_refuse(signal: object, named: Mapping[str, object]) -> str | None:
    """What of this must not leave the session's thread, and what to pass in its place."""
    for name, value in named.items():
        if _is_session(value):
            kind = "a session"
        elif _is_attached(value):
            kind = "an instance of a session"
        else:
            continue
        instead = "identity=sqlalchemy.inspect(instance).identity_key"
        instead = f"its class as the sender, and {instead}" if name == "sender" else instead
        return (
            f"cannot deliver {signal!r} after the commit: {name!r} is {kind}, which no other "
            f"thread may touch; pass {instead}, and load it in the receiver's own session"
        )
    return None


def _is_session(value: object) -> bool:
    kinds: tuple[type, ...] = (Session, scoped_session)
    if sys.modules.get("sqlalchemy.ext.asyncio"):
        from sqlalchemy.ext import asyncio as aio

        kinds += (aio.AsyncSession, aio.async_scoped_session)
    return isinstance(value, kinds)


def _is_attached(value: object) -> bool:
    try:
        state = getattr(value, "_sa_instance_state", None)
    except Exception:  # what values raise when asked for what they have not
        return False
    return isinstance(state, InstanceState) and state.session is not None
