"""What a piece of code sends, and what becomes of it: ``trace``."""

from tsignals.tracing._records import Call as Call
from tsignals.tracing._records import NotCalled as NotCalled
from tsignals.tracing._records import Send as Send
from tsignals.tracing._trace import Trace as Trace

__all__ = ["Call", "NotCalled", "Send", "Trace", "trace"]

for _each in (Call, NotCalled, Send, Trace):
    _each.__module__ = __name__


def trace() -> Trace:
    """A context manager that records all sends of its block, and what these cause.

    It records what is sent in this ``contextvars`` context between its start and its end: not what
    other threads or other tasks send meanwhile, unless they have a copy of it. What receivers send
    belongs to it, in pools too, and also when the block has ended: then it goes on until the last
    of these has ended.

    In a forked child it has ended. While any trace goes on, all sends of the process take the slow
    way: see ``tsignals.observing``.

    Thread safety: a trace may be read from any thread, also while it goes on.
    """
    return Trace()
