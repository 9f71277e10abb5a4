"""``install`` and ``uninstall``: whose flushes are announced.

For each target there is one ``Installation``, made once and kept for as long as the target lives
(``_installed`` holds that weakly). It listens for good; ``uninstall`` only makes it deaf.
SQLAlchemy walks its lists of listeners without a lock, also while a receiver runs: taking one out
there would raise in another thread's flush, or in the one whose receiver uninstalls.

Several installations may hear of one flush; that is settled in the flush's own context
(``_flush``). Two threads that install the same target at once may both listen: no harm, for the
same reason.
"""

import sys
import weakref
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session, UOWTransaction, scoped_session, sessionmaker

from tsignals.sqlalchemy import _flush

KINDS = (
    "Session, a subclass, a sessionmaker, a scoped_session or a session, or what is like these in "
    "sqlalchemy.ext.asyncio"
)


class Installation:
    """The listeners of one target."""

    active = True
    listening = False

    def listen(self, target: "type[Session] | Session") -> None:
        event.listen(target, "before_flush", self.before_flush)
        event.listen(target, "after_flush_postexec", self.after_flush_postexec)
        self.listening = True

    def before_flush(
        self, session: Session, context: UOWTransaction, instances: _flush.Instances
    ) -> None:
        if self.active:
            _flush.before(session, context, instances)

    def after_flush_postexec(self, session: Session, context: UOWTransaction) -> None:
        # Deaf or not: what has begun is ended, by whoever comes first.
        _flush.after(session, context)


_installed: "weakref.WeakKeyDictionary[object, Installation]" = weakref.WeakKeyDictionary()
# What has no session class of its own gets one: owner -> the class it had -> its own.
_made: "weakref.WeakKeyDictionary[object, dict[type[Session], type[Session]]]"
_made = weakref.WeakKeyDictionary()


def install(target: object) -> None:
    """Have the flushes of ``target``'s sessions send the four signals.

    target: ``Session`` (every session of the process), a subclass, a ``sessionmaker``, a
        ``scoped_session`` over one of these, or one session; or an ``AsyncSession``, its class, an
        ``async_sessionmaker`` or an ``async_scoped_session``. The sync sessions of the last three
        are of class ``Session``, all of them; the target gets a subclass of its own, so only
        sessions that it makes from now on are covered.

    A session that several targets cover sends once; a target that is installed twice is installed.
    Raises ``TypeError`` for anything else, and then changes nothing.

    Thread safety: from any thread. As with all listeners of SQLAlchemy's: call it before sessions
    are at work. If others listen to the same events, a flush that is just walking them may raise.
    """
    own = _own_target(target, make=True)
    installation = _installed.setdefault(own, Installation())
    if not installation.listening:
        installation.listen(own)
    installation.active = True


def uninstall(target: object) -> None:
    """Undo ``install(target)``; what is not installed stays so.

    A flush that has begun is announced to its end, deliveries that wait for a commit still wait
    for it, and a session that another target covers too still sends.

    Thread safety: from any thread, also from receivers.
    """
    own = _own_target(target, make=False)
    installation = None if own is None else _installed.get(own)
    if installation is not None:
        installation.active = False


def _own_target(target: object, make: bool) -> Any:
    """The class or the session whose events are the target's and nobody else's.

    Without ``make`` a target that has none stays as it is: ``None``.
    """
    found = target
    if isinstance(found, scoped_session):
        found = found.session_factory
    if isinstance(found, sessionmaker) and issubclass(found.class_, Session):
        return found.class_
    if isinstance(found, Session) or (isinstance(found, type) and issubclass(found, Session)):
        return found
    if sys.modules.get("sqlalchemy.ext.asyncio"):  # else nothing can be of it
        from sqlalchemy.ext import asyncio as aio

        if isinstance(found, aio.async_scoped_session):
            found = found.session_factory
        if isinstance(found, aio.AsyncSession):
            return found.sync_session
        if isinstance(found, type) and issubclass(found, aio.AsyncSession):
            kind: Any = found
            own = _own_class(kind, kind.sync_session_class, make)
            if make:
                kind.sync_session_class = own
            return own
        # Before there was an async_sessionmaker, a sessionmaker with another class_ was the way.
        if isinstance(found, (aio.async_sessionmaker, sessionmaker)):
            default = found.class_.sync_session_class
            own = _own_class(found, found.kw.get("sync_session_class") or default, make)
            if make:
                found.configure(sync_session_class=own)
            return own
    if found is not target:
        raise TypeError(
            f"cannot install on {target!r}: {found!r}, which makes its sessions, is none of "
            "SQLAlchemy's makers; install on what it makes them with"
        )
    what = "install on" if make else "uninstall from"
    raise TypeError(f"cannot {what} {target!r}: pass {KINDS}")


def _own_class(owner: object, current: object, make: bool) -> type[Session] | None:
    for own in list(_made.get(owner, {}).values()):  # a copy: another thread may add to it
        if own is current:
            return own
    if not make:
        return None
    if not (isinstance(current, type) and issubclass(current, Session)):
        raise TypeError(
            f"cannot install on {owner!r}: its sync_session_class, {current!r}, is no subclass of "
            "Session; install on what that makes"
        )
    made = _made.setdefault(owner, {})
    names = {"__module__": current.__module__, "__doc__": current.__doc__}
    return made.setdefault(current, type(current.__name__, (current,), names))
