"""The executor of signals that have none of their own."""

from concurrent.futures import Executor
from typing import Any

from tsignals._base import overrides
from tsignals._base.around import Around
from tsignals._base.atomic import AtomicReference
from tsignals._pool.config import Config
from tsignals._pool.pool import WorkerPool, check_executor

# None: not made yet. Who replaces it has seen what was there: so each former executor is given to
# one caller, and a pool that is made for it becomes it, or is dropped unused.
_default: AtomicReference[Executor | None] = AtomicReference(None)


def get_default_executor() -> "WorkerPool | Any":
    """The executor of signals without one of their own: a ``WorkerPool`` made at first use.

    Thread safety: from any thread; all get the same.
    """
    # Most often a WorkerPool, whose methods a type checker then knows; and any executor where the
    # program has set one, which it would else have to tell apart at each call.
    if overrides.active and (here := overrides.default_here()) is not None:
        return here
    return default_executor()


def default_executor() -> Executor:
    """That of the process, whatever this context has."""
    while (executor := _default.get()) is None:
        _default.compare_and_set(None, WorkerPool())  # another thread may come first
    return executor


def executor_for(executor: Executor | None) -> Executor:
    """What takes deliveries that are for ``executor``; ``None``: for the default one."""
    if overrides.active:
        taker = overrides.taker_for(executor, around_of(executor))
        if taker is not None:
            return taker
    return get_default_executor() if executor is None else executor


def around_of(executor: Executor | None) -> Around | None:
    """What ``executor`` runs receivers inside of; ``None``: the default one, if it was made yet."""
    if executor is None:
        config = default_config()
        return None if config is None else config.around
    return executor._core.config.around if isinstance(executor, WorkerPool) else None


def default_config() -> Config | None:
    """What the default pool was made with; ``None``: it is no pool, or was not made yet."""
    executor = overrides.default_here() if overrides.active else None
    if executor is None:
        executor = _default.get()
    return executor._core.config if isinstance(executor, WorkerPool) else None


def set_default_executor(executor: Executor | None) -> Executor | None:
    """Use ``executor`` from now on; ``None``: a new ``WorkerPool`` at next use.

    Returns the former one, still open, or ``None`` if none was made yet. Raises ``TypeError`` for
    what is no ``concurrent.futures.Executor``, and then changes nothing.

    Thread safety: from any thread; each former one is returned by one call.
    """
    check_executor(executor, "the default executor")
    while True:  # another thread may come first
        former = _default.get()
        if _default.compare_and_set(former, executor):
            return former
