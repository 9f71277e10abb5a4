"""The claims of a delivery that may be run again: what stands between its attempts.

    first attempt    [claim, ...]                the first claim decides, as with every future
    a pause          [Pause, claim, ...]         nobody has it; it may be ended, and not run
    next attempt     [Pause, DUE, claim, ...]    a worker may claim it again

Invariants
    P1  The one who has claimed an attempt appends a ``Pause``: with that step the delivery is
        nobody's. What stands before the last ``Pause`` decides nothing any more; a claim that
        comes too late for one attempt is not taken for one of the next.
    P2  A claim to run it counts only if it stands after ``DUE``. Only the pool's timer appends
        that, once for each pause.
    P3  In a pause it is counted as waiting for no worker. The timer counts that it does before it
        appends ``DUE``, and takes that back if somebody has ended it before; who ends it looks
        whether its own claim stands before ``DUE``. It is one list, so they agree.

Like all lists of claims these are only appended to, but for what no longer decides: whoever has
appended the ``Pause`` takes it out, in one step. ``Waiters`` stay, for they are those of the end.
"""

from collections.abc import Sequence

from tsignals._base.retry import Pause
from tsignals._pool.seam import Claim, TaskLike
from tsignals._pool.waiters import Waiters


class Due:
    """A pause is over."""


DUE = Due()

Claims = list[Claim | Waiters | Pause | Due]


def read(claims: Sequence[object]) -> tuple[Claim | None, Pause | None, bool]:
    """Who may resolve it, or run its next attempt; its last pause; whether that goes on."""
    first: Claim | None = None
    pause: Pause | None = None
    pausing = False
    for entry in list(claims):  # not the list itself, which ``release`` makes shorter
        if type(entry) is Pause:
            first, pause, pausing = None, entry, True
        elif entry is DUE:
            pausing = False
        elif first is None and type(entry) is tuple and not (pausing and entry[0] == "run"):
            first = entry
    return first, pause, pausing


def is_in(claims: Sequence[object], pause: Pause) -> bool:
    """Whether it is in that pause, and has not ended."""
    return read(claims) == (None, pause, True)


def ended_in_pause(claims: Sequence[object], claim: Claim) -> bool:
    """Whether ``claim``, which decides, came before the next attempt was due (P3)."""
    pausing = False
    for entry in list(claims):
        if entry is claim and pausing:
            return True
        if type(entry) is Pause or entry is DUE:
            pausing = entry is not DUE
    return False


def release(claims: Claims, pause: Pause) -> None:
    """Begin ``pause`` (P1), for the one whose claim decides."""
    claims.append(pause)
    at = next(index for index, entry in enumerate(claims) if entry is pause)
    if at:
        claims[:at] = [entry for entry in claims[:at] if type(entry) is Waiters][:1]


def fall_due(claims: Claims, pause: Pause) -> bool:
    """End ``pause`` (P2), for the timer; False where somebody has ended the delivery before."""
    claims.append(DUE)
    after = list(claims)
    del after[: after.index(pause) + 1]  # there is more if ``release`` was interrupted
    decides = (each for each in after if each is DUE or (type(each) is tuple and each[0] != "run"))
    return next(decides) is DUE


def is_kept_back(task: TaskLike) -> bool:
    """Whether nobody may run it yet: it is not queued, or waits for its next attempt."""
    return task._held or task._paused or task._with_sender


def may_begin_here(task: TaskLike) -> bool:
    """Whether a worker that waits for it would run it."""
    return not (task._on_loop or is_kept_back(task)) and task._claimed_by is None


def is_over_or_due(task: TaskLike) -> bool:
    """Whether it has ended; or may begin here, as its next attempt is due, or it was let go.

    Who is about to sleep looks after ``_park``: who wakes those may have come before.
    """
    return task.done() or may_begin_here(task)
