"""The numbers of a pool, as its users see them."""

from typing import NamedTuple

from tsignals._pool import state


class PoolStats(NamedTuple):
    """One consistent snapshot of a pool: all numbers are of the same moment.

    submitted = pending + running + completed + failed + cancelled + dropped, always. All count
    single deliveries (a send to three receivers makes three, a ``submit`` one), from when the pool
    was made, in a forked child from the fork.

    Thread safety: it does not change.
    """

    workers: int
    """Threads that take from the queue now, or are about to start; at most ``max_workers``."""
    idle: int
    """Workers with nothing to run."""
    pending: int
    """Accepted, and not started; at most ``max_pending``, but for the excess that is documented."""
    running: int
    """Started, and not ended; also on the event loop, and in a sender that runs its own."""
    submitted: int
    """Accepted, whatever has become of them."""
    completed: int
    """Ended, and the receiver has returned."""
    failed: int
    """Ended with an exception; or nothing could run them (no thread, a broken pool)."""
    cancelled: int
    """Cancelled before they started, or, async ones, while they ran; or lost (``DeliveryLost``)."""
    dropped: int
    """Resolved with ``DeliveryDropped``: the queue was full, or a ``Prepared`` was dropped."""
    refused: int
    """Never accepted, for their sender got ``QueueFull``; not among ``submitted``."""


def stats_of(now: state.State) -> PoolStats:
    """The numbers of this state."""
    return PoolStats(
        workers=now.workers,
        idle=now.idle,
        pending=now.pending,
        running=now.running,
        submitted=now.number(state.SUBMITTED),
        completed=now.number(state.COMPLETED),
        failed=now.number(state.FAILED),
        cancelled=now.number(state.CANCELLED),
        dropped=now.number(state.DROPPED),
        refused=now.number(state.REFUSED),
    )
