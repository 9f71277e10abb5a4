"""The thread on which async receivers of a pool call sync code, the ORM's above all.

``sync_to_async`` goes by what it finds in the context. In a delivery that is the sender's: under
ASGI the thread of the request, which may be waiting for that very delivery, or be gone with the
request. So a delivery gets another: one thread for all that run on an event loop at a time.

Threads
    Everything here runs on event loops, each of which has an ``Apart`` of its own, but for
    ``idle``, which runs on the thread in question.

Invariants
    A1  What is sent from such a thread never waits for that thread: it gets one of its own.
    A2  Once no delivery uses it any more, the thread closes its connections and ends.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary

from asgiref.sync import SyncToAsync, ThreadSensitiveContext


class Apart(ThreadSensitiveContext):
    """What ``sync_to_async`` finds: it starts a thread for each such object, at first need."""

    def __init__(self) -> None:
        super().__init__()
        self.users = 0


_shared: "WeakKeyDictionary[asyncio.AbstractEventLoop, Apart]" = WeakKeyDictionary()


class OwnThread:
    """From ``enter`` to ``exit``, ``sync_to_async`` uses no thread of the sender's."""

    __slots__ = ("_apart", "_token")

    def enter(self) -> None:
        """On an event loop, in the context of a delivery."""
        if isinstance(SyncToAsync.thread_sensitive_context.get(None), Apart):
            apart = Apart()  # A1
        else:
            loop = asyncio.get_running_loop()
            found = _shared.get(loop)
            apart = _shared[loop] = Apart() if found is None else found
        apart.users += 1
        self._apart = apart
        self._token = SyncToAsync.thread_sensitive_context.set(apart)

    def exit(self, idle: Callable[[], None]) -> None:
        """After ``enter``; ``idle()`` is called on the thread when it is to end."""
        with suppress(ValueError):  # the event loop was closed meanwhile: this is another context
            SyncToAsync.thread_sensitive_context.reset(self._token)
        apart = self._apart
        apart.users -= 1
        if not apart.users:  # A2
            executor = SyncToAsync.context_to_thread_executor.pop(apart, None)
            if executor is not None:
                with suppress(RuntimeError):  # the process ends, and the thread has ended
                    executor.submit(idle)
                executor.shutdown(wait=False)
