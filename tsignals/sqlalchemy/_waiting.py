"""What waits for a session's commit.

It waits among the session's attributes, so it goes with the session; not in ``session.info``, which
programs clear, and give to other sessions. Each ``Entry`` is a ``Prepared`` and the transaction
whose fate it shares: a savepoint, or the outermost one. SQLAlchemy says ``after_commit`` for both,
before the end; then ``after_transaction_end`` for each transaction, flushes and ``close()``
included. Who ended without the former was rolled back or given up.

    ends                     with a commit                    without
    a savepoint              its entries wait on, one above   its entries are dropped
    the outermost            all are submitted                all are dropped

A session may be told of no end at all: what it does to end one may raise. What it has left is
settled with the next transaction, or the next send: submitted if it has committed, else dropped.

Entries are taken out before they are submitted or dropped: both may run callbacks, which may begin
a transaction and send again. So may other listeners, which come before ours or after: in their
``after_commit`` what they send still shares this commit; in their ``after_transaction_end`` it
belongs to the transaction that they have begun.
"""

import contextlib
import logging
from collections.abc import Callable

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.orm.session import SessionTransactionState

from tsignals import Prepared

KEY = "tsignals.waiting"

AtCommit = Callable[[], str | None]
"""Called at the commit; returns why nothing can be delivered."""

_log = logging.getLogger("tsignals")

_used: list[bool] = []
"""Not empty once anything has waited: until then sessions need not be asked at all."""


class Entry:
    """A send that waits for the end of a transaction."""

    __slots__ = ("at_commit", "prepared", "transaction")

    def __init__(
        self,
        prepared: Prepared,
        transaction: SessionTransaction,
        at_commit: AtCommit,
    ) -> None:
        self.prepared = prepared
        self.transaction = transaction
        self.at_commit = at_commit

    def end(self, committed: bool) -> None:
        if committed:
            _submit(self.prepared, self.at_commit)
        else:
            self.prepared.drop()


def _submit(prepared: Prepared, at_commit: AtCommit) -> None:
    reason = at_commit()
    if reason is None:
        prepared.submit()
        return
    prepared.drop()
    with contextlib.suppress(Exception):  # of a handler of logs: the commit stands
        _log.error(
            "%s. It was added after the send: add it, and flush, before. Nothing is delivered",
            reason,
        )


class Waiting:
    """The entries of one session, in the order of their sends."""

    __slots__ = ("committed", "entries")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.committed: SessionTransaction | None = None  # and about to end

    def take(self, belongs: Callable[[Entry], bool]) -> list[Entry]:
        """Take out those for which ``belongs`` holds."""
        taken: list[Entry] = []
        left: list[Entry] = []
        for entry in self.entries:
            (taken if belongs(entry) else left).append(entry)
        self.entries = left
        return taken


def hold(session: Session, prepared: Prepared, at_commit: AtCommit) -> None:
    """Submit ``prepared`` when ``session`` has committed, or drop it.

    at_commit: called then; it may say why not to submit it.
    """
    waiting = _current(session)
    transaction = _innermost(session)
    if transaction is None:
        _submit(prepared, at_commit)
        return
    if not _used:
        _used.append(True)
    if waiting is None:
        waiting = vars(session)[KEY] = Waiting()
        # Within a listener that comes after ours: nothing waited yet, so that one has not noted it.
        waiting.committed = _committing(session)
    waiting.entries.append(Entry(prepared, transaction, at_commit))


# -- What sessions tell, all of them --


def _committed(session: Session) -> None:
    if _used and (waiting := _current(session)) is not None:
        waiting.committed = _committing(session)


def _ended(session: Session, transaction: SessionTransaction) -> None:
    if not _used or (waiting := _current(session)) is None:
        return
    parent = transaction.parent
    if parent is None or not transaction.nested:
        return
    if waiting.committed is not transaction:
        _end(waiting.take(lambda entry: entry.transaction is transaction), lambda entry: False)
        return
    waiting.committed = None
    above = _shared(parent)
    for entry in waiting.entries:
        if entry.transaction is transaction:
            entry.transaction = above


def _current(session: Session) -> Waiting | None:
    """What waits for the session's transaction; what has waited for an earlier one is ended."""
    waiting: Waiting | None = vars(session).get(KEY)
    if waiting is None:
        return None
    current, committed = session.get_transaction(), waiting.committed
    # The entries are in order: if the first is of this transaction, all are.
    if waiting.entries and _outermost(waiting.entries[0].transaction) is current:
        return waiting
    over = waiting.take(lambda entry: _outermost(entry.transaction) is not current)
    if not waiting.entries:
        del vars(session)[KEY]
    _end(over, lambda entry: _outermost(entry.transaction) is committed)
    found: Waiting | None = vars(session).get(KEY)
    return found


def _innermost(session: Session) -> SessionTransaction | None:
    """The savepoint or transaction that the session is in."""
    nested, outermost = session.get_nested_transaction(), session.get_transaction()
    # A savepoint that a commit has found open stays with the session afterwards.
    if nested is not None and _outermost(nested) is outermost:
        return nested
    return outermost


def _committing(session: Session) -> SessionTransaction | None:
    """What has been committed and is about to end; savepoints may be open within."""
    transaction = _innermost(session)
    while transaction is not None and transaction._state is not SessionTransactionState.COMMITTED:
        transaction = transaction.parent
    return transaction


def _shared(transaction: SessionTransaction) -> SessionTransaction:
    """The savepoint or outermost transaction that this one, maybe a flush's, is part of."""
    while not transaction.nested and transaction.parent is not None:
        transaction = transaction.parent
    return transaction


def _outermost(transaction: SessionTransaction) -> SessionTransaction:
    while transaction.parent is not None:
        transaction = transaction.parent
    return transaction


def _end(entries: list[Entry], committed: Callable[[Entry], bool]) -> None:
    interrupt: BaseException | None = None
    for entry in entries:
        try:
            entry.end(committed(entry))
        except BaseException as error:  # interrupted, or by a callback: it and the others go on
            interrupt = error
            entry.end(committed(entry))
    try:
        if interrupt is not None:
            raise interrupt
    finally:
        del interrupt  # or the traceback, this frame and the interrupt form a cycle


LISTENERS: tuple[tuple[object, str, Callable[..., None], dict[str, bool]], ...] = (
    (Session, "after_commit", _committed, {"insert": True}),  # whatever other listeners raise
    (Session, "after_transaction_end", _ended, {}),
)
for _target, _event, _function, _arguments in LISTENERS:
    event.listen(_target, _event, _function, **_arguments)
