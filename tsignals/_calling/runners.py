"""What a program has run receivers in place of our threads, and of our event loops."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeGuard, TypeVar

R = TypeVar("R")

SyncRunner = Callable[[Callable[[], None]], Awaitable[object]]

sync_runner: "list[SyncRunner | None]" = [None]
"""What runs the sync receivers of ``asend`` in place of our threads, if anything does."""


def set_sync_runner(runner: SyncRunner | None) -> SyncRunner | None:
    """Have ``await runner(call)`` run the sync receivers of every ``asend`` and ``asend_robust``.

    For frameworks that bind a request to a thread. ``call`` takes no arguments and returns None;
    the runner calls it once, on a thread of its choice that may be blocked. With asgiref, as
    Django's own ``asend`` has it: ``lambda call: sync_to_async(call, thread_sensitive=True)()``.
    The receivers see the sender's context variables, and those that they set are set for the
    sender, whether the runner sees to that or not. ``call`` raises nothing: what receivers raise,
    ``asend`` raises. A further call does nothing; nor does one after the runner has ended, which
    is a ``RuntimeError`` of the ``asend`` if it never called. What the runner raises, ``asend``
    raises, once the receiver that runs has ended.

    A runner may have a method ``run_async(function)`` too. Then ``send`` and ``send_robust`` call
    that to run their async receivers, and so does a delivery in an executor that is no
    ``WorkerPool``. It awaits ``function()`` to its end, in a context that shows the sender's
    variables, sets what was set there for the sender, and returns what it gives.

    ``None``: threads of tsignals, again. Returns the former one. Raises ``TypeError`` for what is
    not callable, and then changes nothing.

    Thread safety: from any thread; sends that have begun keep the former one.
    """
    if runner is not None and not callable(runner):
        raise TypeError(f"a sync runner must be callable or None, not {type(runner).__name__!r}")
    former, sync_runner[0] = sync_runner[0], runner
    return former


class AsyncRunner(Protocol):
    """A sync runner that runs async receivers, too, for senders that are none."""

    def run_async(self, function: Callable[[], Awaitable[R]], /) -> R: ...


def async_runner() -> AsyncRunner | None:
    """The sync runner, if it is such a one."""
    runner = sync_runner[0]
    return runner if _runs_async(runner) else None


def _runs_async(runner: object) -> TypeGuard[AsyncRunner]:
    return hasattr(type(runner), "run_async")  # by its type: a Mock has every attribute
