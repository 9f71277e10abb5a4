"""A thread's database connections: whose they are, and who closes them.

Threads
    Django gives each thread a connection of its own for each database, and only that thread may
    touch it. All here runs on the thread whose connections it looks at, so nothing is shared and
    nothing is locked. Three kinds of thread come here:

    worker
        Of a pool with ``initializer=connections.worker`` (the default pool). It does nothing but
        deliveries, so whatever is open when none runs was left by one.
    guest
        Every other: a sender that runs its own deliveries (``caller_runs``), the request's thread
        under ``asend``, a worker of a pool that has no such initializer.
    event loop
        Django refuses to connect there, so there is nothing to look after. What a delivery there
        calls by ``sync_to_async`` runs on a thread apart: see ``_apart``.

Invariants
    C1  What was open when a delivery began, its end does not touch, but for C2. It may be in the
        middle of a transaction, have autocommit off or a cursor under way: closing it would lose
        the sender's data.
    C2  Between two deliveries a worker keeps what is usable, and nothing else.
    C3  After ``idle`` a worker has nothing open. A guest, for whom nobody calls ``idle``, has
        nothing more open after a delivery than before it.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import Protocol

from django.db import connections as databases

from tsignals.django._apart import OwnThread
from tsignals.django._locale import SentLocale

_logger = logging.getLogger("tsignals")


class Database(Protocol):
    """Django's object for one database on one thread, connected or not."""

    alias: str
    atomic_blocks: list[object]
    autocommit: bool
    close_at: float | None
    connection: object
    in_atomic_block: bool
    settings_dict: Mapping[str, object]

    def close(self) -> None: ...
    def close_if_unusable_or_obsolete(self) -> None: ...


class _Here(threading.local):
    """What is known of this thread."""

    worker = False
    busy = False  # a worker: inside a delivery


_here = _Here()


class connections:
    """A context manager around a delivery, for ``WorkerPool(around=connections)``.

    It leaves alone whatever its thread had open before the delivery: a transaction, a connection
    without autocommit, a cursor under way. Of what the delivery has opened it closes what is
    unusable or obsolete (``CONN_MAX_AGE``); the rest as well, unless the pool's workers close it
    when they have nothing to do. The default pool's do. For another pool say so::

        WorkerPool(
            8, around=connections, initializer=connections.worker, idle=connections.idle
        )

    Busy workers of such a pool keep their connections from one delivery to the next, however
    old these may get (where ``CONN_MAX_AGE`` is 0), and idle ones hold none.

    An async receiver calls the ORM on a thread that no sender uses, one for all async deliveries
    of the pool. It closes its connections, and ends, once none of them runs.

    Also activates the language and the time zone of the send, for what ``after_commit`` sends.

    A failure to close is logged on ``tsignals`` and does not fail the delivery.

    Thread safety: each delivery makes its own; it looks at its own thread only.
    """

    def __init__(self) -> None:
        self._locale = SentLocale()

    def __enter__(self) -> None:
        self._locale.__enter__()  # first: if it raises, nothing is to be undone
        self._looks = asyncio._get_running_loop() is None
        if self._looks:
            self._whole = _here.worker and not _here.busy
            self._before: list[Database] = [] if self._whole else opened()
            if self._whole:
                _here.busy = True
        else:
            self._thread = OwnThread()
            self._thread.enter()

    def __exit__(self, *error: object) -> None:
        try:
            self._locale.__exit__()
        finally:
            if self._looks:
                if self._whole:
                    _here.busy = False
                for connection in opened():
                    # By identity: Django compares them by alias alone.
                    if not any(connection is other for other in self._before):
                        _end(connection, keep=_here.worker)
                self._before = []
            else:
                self._thread.exit(self.idle)

    @staticmethod
    def worker() -> None:
        """The ``initializer`` of a pool that has ``idle=connections.idle``, too."""
        _here.worker = True

    @staticmethod
    def idle() -> None:
        """Close all connections of this thread: the ``idle`` of a pool with this ``around``."""
        for connection in opened():
            _end(connection, keep=False)


def opened() -> list[Database]:
    """Django's objects for the databases that this thread is connected to."""
    return [each for each in databases.all(initialized_only=True) if each.connection is not None]


def _end(connection: Database, *, keep: bool) -> None:
    """Leave of ``connection`` what the next delivery on this thread can use, or nothing."""
    try:
        if connection.in_atomic_block:
            # Somebody has entered a transaction and never left it. Closed, Django's object
            # would refuse to connect again: the thread gets a new one.
            connection.close()
            del databases[connection.alias]
        elif keep:
            if not connection.settings_dict["CONN_MAX_AGE"]:
                connection.close_at = None  # no age ends it: idle does
            connection.close_if_unusable_or_obsolete()
        else:
            connection.close()
    except Exception:
        _logger.exception("cannot close the connection to database %r", connection.alias)
