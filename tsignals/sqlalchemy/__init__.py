"""Signals of SQLAlchemy's sessions, in the way of Django's model signals.

    from tsignals.sqlalchemy import install, on_commit, post_save

    install(Session)  # a sessionmaker, or what else makes sessions

    @receiver(post_save, sender=User)
    @on_commit
    def welcome(identity, created, **kwargs): ...

Needs ``tsignals[sqlalchemy]``.
"""

# Threads
# A session belongs to one thread at a time: who flushes it, ends its transaction, or has a
# receiver called with it. We touch a session, and what hangs on it (its attributes, a flush's
# context), on that thread only, so none of it needs a lock. A worker of a pool never gets one,
# nor an instance: it would load on the connection of the thread that sent. It gets ``identity``.
# What many threads share is in ``_targets`` and ``_flush``, and each change of it is one step of
# a built-in type. Listeners are added to SQLAlchemy's lists when this is imported and where
# ``install`` first sees a target; none is ever taken out, for SQLAlchemy walks these lists
# without a lock. A session that is forgotten may be collected on any thread: what waits for its
# commit is a ``Prepared``, whose end may come anywhere. The GIL is not leaned upon.
#
# Nothing here imports asyncio or greenlet: they are there if an ``AsyncSession`` is.

from tsignals.sqlalchemy._commit import after_commit
from tsignals.sqlalchemy._on_commit import on_commit
from tsignals.sqlalchemy._signals import post_delete, post_save, pre_delete, pre_save
from tsignals.sqlalchemy._targets import install, uninstall

__all__ = [
    "after_commit",
    "install",
    "on_commit",
    "post_delete",
    "post_save",
    "pre_delete",
    "pre_save",
    "uninstall",
]
