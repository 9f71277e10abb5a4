"""What waits for a session's commit.

It waits in ``session.info``, so it goes with the session. Each ``Entry`` is a ``Prepared`` and the
transaction whose fate it shares: a savepoint, or the outermost one. SQLAlchemy says
``after_commit`` for both, before the end; then ``after_transaction_end`` for each transaction,
flushes and ``close()`` included. Who ended without the former was rolled back or given up.

    ends                     with a commit                    without
    a savepoint              its entries wait on, one above   its entries are dropped
    the outermost            all are submitted                all are dropped

Entries are taken out before they are submitted or dropped: both may run callbacks, which may begin
a transaction and send again. So may other listeners, which come before ours or after: in their
``after_commit`` what they send still shares this commit; in their ``after_transaction_end`` it
belongs to the transaction that they have begun.
"""

import sys
from collections.abc import Callable, Mapping

from sqlalchemy import event
from sqlalchemy.orm import InstanceState, Session, SessionTransaction, scoped_session
from sqlalchemy.orm.session import SessionTransactionState

from tsignals import Deliveries, Prepared, Signal

KEY = "tsignals.waiting"


_used: list[bool] = []
"""Not empty once anything has waited: until then sessions need not be asked at all."""


class Entry:
    """A send that waits for the end of a transaction."""

    __slots__ = ("at_commit", "prepared", "transaction")

    def __init__(
        self,
        prepared: Prepared,
        transaction: SessionTransaction,
        at_commit: Callable[[], object] | None,
    ) -> None:
        self.prepared = prepared
        self.transaction = transaction
        self.at_commit = at_commit

    def submit(self) -> None:
        if self.at_commit is not None:
            self.at_commit()
        self.prepared.submit()

    def drop(self) -> None:
        self.prepared.drop()


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


def after_commit(session: object, /, signal: Signal, sender: object, **named: object) -> Deliveries:
    """Send in the background, once ``session`` has committed.

    Receivers, context and executor are those of this call, as with ``signal.send_async``, and the
    ``Deliveries`` exist at once. They are admitted when the outermost transaction has committed.
    If it, or the savepoint it is in, is rolled back, closed or forgotten, they resolve with
    ``DeliveryDropped`` and a pool counts them as dropped. Outside a transaction, and that includes
    a session with which nothing has been done yet, they are admitted at once.

    session: a ``Session``, a ``scoped_session``, or what is like these in asyncio. Need not be
        installed. By position only: a value named ``session`` is refused as any other session is.

    What admission raises (``QueueFull``, ``PoolClosed``) is a failure of the deliveries, told as
    such, never of the commit. Raises ``TypeError`` if a value is a session or an instance of one:
    pass its ``identity=``. Nothing waits then.

    Thread safety: as the session itself, on its thread only.
    """
    if not callable(getattr(signal, "prepare", None)):
        raise TypeError(
            f"after_commit needs a signal of tsignals, not {type(signal).__name__!r}; connect an "
            "on_commit receiver to a signal of another library"
        )
    own = sync_session(session, "after_commit")
    refuse_instances(signal, {"sender": sender, **named})
    prepared = signal.prepare(sender, **named)
    hold(own, prepared)
    return prepared.deliveries


def hold(
    session: Session, prepared: Prepared, at_commit: Callable[[], object] | None = None
) -> None:
    """Submit ``prepared`` when ``session`` has committed, after ``at_commit()``; or drop it."""
    transaction = session.get_nested_transaction() or session.get_transaction()
    if transaction is None:
        if at_commit is not None:
            at_commit()
        prepared.submit()
        return
    if not _used:
        _used.append(True)
    waiting = session.info.get(KEY)
    if waiting is None:
        waiting = session.info[KEY] = Waiting()
    # Within a listener that comes after ours: nothing waited yet, so that one has not recorded it.
    if transaction._state is SessionTransactionState.COMMITTED:
        waiting.committed = transaction
    waiting.entries.append(Entry(prepared, transaction, at_commit))


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
    for name, value in named.items():
        if _is_session(value):
            kind = "a session"
        elif _is_attached(value):
            kind = "an instance of a session"
        else:
            continue
        instead = "identity=sqlalchemy.inspect(instance).identity_key"
        instead = f"its class as the sender, and {instead}" if name == "sender" else instead
        raise TypeError(
            f"cannot deliver {signal!r} after the commit: {name!r} is {kind}, which no other "
            f"thread may touch; pass {instead}, and load it in the receiver's own session"
        )


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


# -- What sessions tell, all of them --


def _committed(session: Session) -> None:
    if not _used:
        return
    waiting = session.info.get(KEY)
    if waiting is not None:
        waiting.committed = session.get_nested_transaction() or session.get_transaction()


def _ended(session: Session, transaction: SessionTransaction) -> None:
    if not _used:
        return
    waiting = session.info.get(KEY)
    if waiting is None:
        return
    committed = waiting.committed is transaction
    if committed:
        waiting.committed = None
    parent = transaction.parent
    if parent is None:
        own = waiting.take(lambda entry: _outermost(entry.transaction) is transaction)
        if not waiting.entries:  # else a listener has begun the next one
            del session.info[KEY]
        _all(own, Entry.submit if committed else Entry.drop)
    elif transaction.nested and committed:
        above = _shared(parent)
        for entry in waiting.entries:
            if entry.transaction is transaction:
                entry.transaction = above
    elif transaction.nested:
        _all(waiting.take(lambda entry: entry.transaction is transaction), Entry.drop)


def _shared(transaction: SessionTransaction) -> SessionTransaction:
    """The savepoint or outermost transaction that this one, maybe a flush's, is part of."""
    while not transaction.nested and transaction.parent is not None:
        transaction = transaction.parent
    return transaction


def _outermost(transaction: SessionTransaction) -> SessionTransaction:
    while transaction.parent is not None:
        transaction = transaction.parent
    return transaction


def _all(entries: list[Entry], action: Callable[[Entry], None]) -> None:
    interrupt: BaseException | None = None
    for entry in entries:
        try:
            action(entry)
        except BaseException as error:  # interrupted, or by a callback: it and the others go on
            interrupt = error
            action(entry)
    if interrupt is not None:
        raise interrupt


LISTENERS: tuple[tuple[object, str, Callable[..., None], dict[str, bool]], ...] = (
    (Session, "after_commit", _committed, {"insert": True}),  # whatever other listeners raise
    (Session, "after_transaction_end", _ended, {}),
)
for _target, _event, _function, _arguments in LISTENERS:
    event.listen(_target, _event, _function, **_arguments)
