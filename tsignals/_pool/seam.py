"""The seam between a pool and what it runs: what each asks of the other.

A pool knows no signals, and a task knows nothing of queues and threads. Both sides are written
against these protocols; ``core.Core`` is the one, ``task.Task`` the other.
"""

from typing import Protocol

from tsignals._base.interrupts import Outcome
from tsignals._base.retry import Pause
from tsignals._pool.atomic_state import AtomicState
from tsignals._pool.config import Config
from tsignals._pool.lanes import Turn

Claim = tuple[str, int]
"""How a task is to end, and who sees to that.

How: ``"run"``; ``"cancelled"``, after which ``cancel()`` says so; or anything else that is not run.
Who: a thread; less than zero: an async delivery; zero: nobody who could be asked. Claims are told
apart by identity: those who compete for a task each have their own.
"""

Result = Outcome[object]
"""What a task has returned, or raised."""


class Parked(Protocol):
    """Somebody who sleeps until a future has ended: an ``Inbox``, or what is put like one."""

    def put(self, item: None, /) -> object: ...


class TaskLike(Protocol):
    """A task, as those see it who run it, resolve it, or wait for it; see ``task``."""

    _held: bool  # nobody has submitted it yet
    _turn: Turn | None  # in its lane
    _on_loop: bool  # it runs on the pool's event loop, not in a worker

    @property
    def _core(self) -> "PoolLike": ...
    @property
    def _entry(self) -> object:
        """What stands in the queue for it: itself, or its batch."""
        ...

    @property
    def _claimed_by(self) -> Claim | None: ...
    @property
    def _paused(self) -> bool:
        """Whether it waits for its next attempt, which is not due yet."""
        ...

    @property
    def _with_sender(self) -> bool:
        """Whether its sender is to run it, or has yet to give it its turn in its lane."""
        ...

    @property
    def _may_pause(self) -> bool:
        """Whether it may be run again, once it has failed."""
        ...

    def _ended_in_pause(self, claim: Claim) -> bool:
        """Whether ``claim``, which has ended it, came while it was paused."""
        ...

    def _release(self, claim: Claim, pause: Pause) -> None:
        """It is paused from now on, and nobody's any more; twice does no harm."""

    def _standing_before(self) -> "list[TaskLike]":
        """What stands before it in its lane."""
        ...

    def _claim(self, claim: Claim) -> bool: ...
    def _ended_unrun(self) -> bool: ...
    def _ended_before_its_turn(self) -> bool: ...
    def _begin(self, claim: Claim) -> None: ...
    def _perform(self) -> Result: ...
    def _forget(self) -> object: ...
    def _complete(self, result: object, exception: BaseException | None, phase: str) -> None: ...
    def _has_callbacks(self) -> bool: ...
    def _call_back(self) -> None: ...
    def _leave(self) -> None: ...
    def _wake_helpers(self) -> None:
        """It awaits something now: have those look who run that for it."""

    def _park(self, parked: Parked) -> None:
        """Put into ``parked`` when it is done, if it is not so by now."""

    def _unpark(self, parked: Parked) -> None:
        """Undo ``_park``."""

    def done(self) -> bool: ...


class AttemptLike(Protocol):
    """What brings a task to its end, from one thread."""

    def carry_out(self) -> bool: ...


class PoolLike(Protocol):
    """A pool, as its tasks see it, and those who wait for them."""

    @property
    def config(self) -> Config: ...
    @property
    def state(self) -> AtomicState: ...
    @property
    def abandoned(self) -> bool:
        """Whether it is that of this process's parent."""
        ...

    def works_here(self) -> bool:
        """Whether this thread is a worker of it, or a caller that runs its tasks."""
        ...

    def refuse_on_loop(self) -> None:
        """Raise on the thread of its event loop, which a wait would block."""

    def sender_of(self, task: object) -> int | None:
        """The thread that is to run ``task`` as its sender, and has not begun; else ``None``."""
        ...

    def attempt(self, task: TaskLike) -> "AttemptLike":
        """What runs ``task`` in this thread, unless somebody else does or did."""
        ...

    def end(self, task: TaskLike, how: str, error: BaseException | None, phase: str) -> bool:
        """Resolve ``task`` unrun, unless somebody has claimed it."""
        ...

    def pass_on(self, task: TaskLike) -> None:
        """End its turn in its lane, if it has one."""

    def forget(self, entry: object) -> None:
        """All of ``entry`` is resolved."""
