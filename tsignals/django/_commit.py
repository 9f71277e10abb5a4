"""What is sent when the transaction commits, and only then.

Threads
    A transaction belongs to one thread, and Django keeps its hooks on that thread's connection.
    So everything here runs there, but for one thing: a ``Hook`` that nobody will run goes with its
    last reference, on whatever thread the collector is. What it lets go of then is a ``Prepared``,
    which may be dropped on any.

Invariants
    H1  The hook is registered before anything is prepared: where Django refuses it, nothing was.
    H2  Only the hook refers to what waits. Django tells nobody of a rollback, of a rolled back
        savepoint, or of a hook before ours that raises. It forgets ours, and so what waits is
        dropped.
"""

from collections.abc import Callable
from typing import Protocol

from django.db import DEFAULT_DB_ALIAS
from django.db import connections as databases

from tsignals import Deliveries, Prepared
from tsignals.django._connections import Database
from tsignals.django._locale import with_locale


class Prepares(Protocol):
    """A signal of tsignals, or a view of one."""

    @property
    def prepare(self) -> Callable[..., Prepared]: ...


class Hook:
    """What Django calls after the commit, or at once where there is no transaction."""

    __slots__ = ("_prepared", "called")

    def __init__(self) -> None:
        self._prepared: list[Prepared] = []
        self.called = False

    def __call__(self) -> None:
        self.called = True
        for prepared in self._prepared:
            prepared.submit()

    def holds(self, prepared: Prepared) -> None:
        """Submit ``prepared`` when called, which may have been."""
        if self.called:
            prepared.submit()
        else:
            self._prepared.append(prepared)


def waits_for_a_commit(connection: Database) -> bool:
    """Whether what was done on it is yet to be committed; that of a ``TestCase`` does not count."""
    if not connection.atomic_blocks:
        # Not by get_autocommit(), which connects: the thread may never do, an event loop must not.
        if connection.connection is None:
            return not connection.settings_dict["AUTOCOMMIT"]
        return not connection.autocommit
    # As ``durable=True`` has it.
    return not all(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)


def check_using(using: object) -> None:
    """Raise ``TypeError`` for what is no alias of a database."""
    if using is not None and not isinstance(using, str):
        raise TypeError(
            f"using must be the alias of a database, as in DATABASES, or None, not {using!r}"
        )


def at_commit(using: object, prepare: Callable[[], Prepared]) -> Deliveries:
    """Prepare now, with the sender's context, language and time zone; submit at the commit."""
    hook = Hook()
    # Robust: what a later hook is for must not depend on ours, which has nothing to raise.
    databases[using or DEFAULT_DB_ALIAS].on_commit(hook, robust=True)
    prepared = with_locale(prepare)
    hook.holds(prepared)
    return prepared.deliveries


def after_commit(
    signal: Prepares, sender: object, *, using: str | None = None, **named: object
) -> Deliveries:
    """``signal.send_async(sender, **named)``, delivered when the transaction commits.

    The receivers, the context, the language and the time zone are those of this call. (The latter
    two are activated by ``around=connections``, which the default pool has.) The ``Deliveries``
    exist at once. They are pending until the outermost transaction has committed; then they are
    admitted, and what that raises (``QueueFull``, ``PoolClosed``) is their failure and is told: the
    commit stands. A rollback, also to a savepoint around this call, resolves them with
    ``DeliveryDropped``, and so does another ``on_commit`` hook that raises before. (Of a savepoint
    made by hand, with ``transaction.savepoint()``, Django's hooks know nothing: as ever, they run.)

    using: the database whose commit it is; ``None``: the default one.

    Without a transaction it is sent at once. Raises ``TransactionManagementError`` with autocommit
    off, and ``TypeError`` for a signal that is not of tsignals, or a ``using`` that is no string;
    then nothing is queued.

    Thread safety: from any thread; the transaction is this thread's. Where it comes from:
    ``django.db.transaction.on_commit``.
    """
    check_using(using)
    prepare: Callable[..., Prepared] | None = getattr(signal, "prepare", None)
    if not callable(prepare):
        raise TypeError(
            f"after_commit needs a signal of tsignals, not {type(signal).__name__!r}; connect an "
            "on_commit receiver to a signal of Django's"
        )
    return at_commit(using, lambda: prepare(sender, **named))
