"""The executor of signals that have none of their own."""

from concurrent.futures import Executor
from typing import Any

from tsignals._pool import WorkerPool, check_executor

# The first entry counts; a change puts a new list in place, so that two threads which both find
# it empty agree on one pool.
_holder: list[Executor] = []


def get_default_executor() -> "WorkerPool | Any":
    """The executor of signals without one of their own: a ``WorkerPool`` made at first use.

    Thread safety: from any thread; all get the same.
    """
    # Most often a WorkerPool, whose methods a type checker then knows; and any executor where the
    # program has set one, which it would else have to tell apart at each call.
    holder = _holder
    if not holder:
        holder.append(WorkerPool())
    return holder[0]


def made_default_executor() -> Executor | None:
    """The same, if there is one yet."""
    holder = _holder
    return holder[0] if holder else None


def set_default_executor(executor: Executor | None) -> Executor | None:
    """Use ``executor`` from now on; ``None``: a new ``WorkerPool`` at next use.

    Returns the former one, still open, or ``None`` if none was made yet. Raises ``TypeError`` for
    what is no ``concurrent.futures.Executor``, and then changes nothing.
    """
    global _holder
    check_executor(executor, "the default executor")
    former, _holder = _holder, [] if executor is None else [executor]
    return former[0] if former else None
