"""One life of a pool in one process: its parts, and what they do together.

A ``WorkerPool`` has a core. In a forked child it gets another one, with nothing in it; the old one
is ``abandoned``, and what was in it is the parent's. A thread that was inside of its calls when the
process was forked goes on there, in the child, and changes nothing but what is lost.

Lock
    None. Numbers, mode and blocked senders are one value (``state``, ``atomic_state``); who
    resolves a task is decided by that task (``future``, ``attempt``); what waits is handed over by
    a queue (``backlog``), in which lanes put one task at a time (``lanes``).

    parts       know
    state       nothing but numbers
    backlog     entries and their tasks; lanes; loops
    crew        worker threads; is given the core with each call
    timer       deliveries in a pause, and when it ends; is given the core likewise
    drops       what was dropped or lost, until it is logged

The end of a pool: ``close`` (no more is taken; when all has run, the workers go), ``break_down``
(an initializer failed), ``lose`` (the process ends), ``abandon`` (this is a forked child).
"""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures.thread import BrokenThreadPool
from time import perf_counter
from typing import cast

from tsignals._base.errors import DeliveryLost
from tsignals._base.interrupts import apply_to_all, critical, raised_by, refuse_if_deep
from tsignals._base.log import log_in_thread, show
from tsignals._pool import lanes
from tsignals._pool.atomic_state import AtomicState
from tsignals._pool.attempt import Attempt
from tsignals._pool.backlog import Backlog
from tsignals._pool.config import Config
from tsignals._pool.crew import Crew
from tsignals._pool.drops import Drops
from tsignals._pool.future import FINISHED
from tsignals._pool.seam import Claim, TaskLike
from tsignals._pool.state import (
    DROPPED,
    FOR_LOOP,
    RESOLVE,
    SUBMITTED,
    Mode,
    State,
    advance_mode,
    shift,
)
from tsignals._pool.task import Entry, Task
from tsignals._pool.timer import Timer

TerminalError = Callable[[], tuple[str, BaseException]]
"""How a task ends that nobody will run: counted as what, and with which error."""


class Core:
    """One life of a pool in one process."""

    __slots__ = (
        "__weakref__",
        "abandoned",
        "backlog",
        "config",
        "crew",
        "drops",
        "prepared",
        "state",
        "terminal_error",
        "timer",
    )

    def __init__(self, config: Config, mode: Mode = Mode.OPEN) -> None:
        self.config = config
        self.backlog = Backlog()
        self.state = AtomicState(State(mode=mode), config.max_pending, self._try_terminate)
        self.crew = Crew()
        self.timer = Timer()
        self.drops = Drops(config.name)
        # Held weakly: what is neither submitted nor resolved (H4 in held).
        self.prepared: dict[Callable[[], Task | None], None] = {}
        self.terminal_error: TerminalError | None = None  # see E3 in backlog
        self.abandoned = False

    # -- Running and resolving --

    def attempt(self, task: TaskLike) -> Attempt:
        """What runs ``task`` in this thread, unless somebody else does or did."""
        attempt = Attempt(self, task, ("run", threading.get_ident()))
        attempt.stays_queued = True
        return attempt

    @critical
    def end(self, task: TaskLike, how: str, error: BaseException | None, phase: str) -> bool:
        """Resolve ``task`` unrun, unless somebody has claimed it; whether this call did."""
        # What ends with an error was not cancelled: ``cancel`` says False then.
        claim = (how if error is None else "ended", threading.get_ident())
        change = RESOLVE[how] - task._on_loop * FOR_LOOP
        attempt = self.attempt_to_end(task, claim, error, change, phase)
        attempt.stays_queued = True
        return attempt.carry_out()

    def end_uncounted(
        self,
        task: TaskLike,
        how: str,
        error: BaseException | None,
        change: int = SUBMITTED + DROPPED,
        decide: Callable[[Claim], bool] | None = None,
        phase: str = FINISHED,
    ) -> bool:
        """As ``end``, for what is not pending; counts ``change``. ``decide``: see ``Attempt``."""
        attempt = self.attempt_to_end(task, (how, threading.get_ident()), error, change, phase)
        attempt.decide = decide
        return attempt.carry_out()

    def attempt_to_end(
        self,
        task: TaskLike,
        claim: Claim,
        error: BaseException | None,
        change: int,
        phase: str = FINISHED,
    ) -> Attempt:
        """What resolves ``task`` unrun under ``claim``, and counts ``change``."""
        attempt = Attempt(self, task, claim)
        attempt.outcome = None, error
        attempt.ends_as = change
        attempt.phase = phase
        return attempt

    def sender_of(self, task: object) -> int | None:
        """The thread that is to run ``task`` as its sender, and has not begun; else ``None``."""
        found = [own.thread for own in list(self.backlog.in_senders) if task in own.tasks]
        return found[0] if found and task not in self.backlog.unresolved else None

    def count(self, change: int) -> None:
        """Change the numbers; raises only if interrupted before that."""
        if not self.state.add(change):
            self.state.update(shift, change, self.config.max_pending)

    def recheck(self) -> None:
        """After a change in a worker's stripe: have those go on who waited for it."""
        if self.state.can_progress():
            self.count(0)

    def pass_on(self, task: TaskLike) -> None:
        """End its turn in its lane, if it has one, and queue the task whose turn comes."""
        if task._turn is not None:
            lanes.pass_on(task, self._put_in_turn)
            self.backlog.withdraw(task)  # it may stand there twice: E7

    def pass_over(self, task: TaskLike) -> None:
        """Pass its turn on, if that has come and it was resolved unrun."""
        lanes.pass_over(task, self._put_in_turn)

    def _put_in_turn(self, task: TaskLike) -> None:
        self.backlog.put_in_turn(cast(Task, task))

    def remember(self, entry: object) -> None:
        """``entry`` is not resolved; until ``forget`` it is found among what is not."""
        self.backlog.unresolved.setdefault(cast(Entry, entry), perf_counter())

    def forget(self, entry: object) -> None:
        """All of ``entry`` is resolved; harmless when repeated."""
        self.backlog.unresolved.pop(entry, None)  # type: ignore[call-overload]

    # -- Threads --

    def add_workers(self) -> None:
        """Start a worker for each task that waits for one, as far as that is allowed."""
        self.crew.add_workers(self)

    def works_here(self) -> bool:
        """Whether this thread is a worker, or a caller that runs tasks."""
        return threading.get_ident() in self.crew.idents

    def on_loop(self) -> bool:
        """Whether this is the event loop's thread."""
        return any(loop.runs_here() for loop in self.backlog.loops)

    def refuse_on_loop(self) -> None:
        """Raise on the event loop's thread, which a wait would block, and with it all its work."""
        if self.on_loop():
            raise RuntimeError(
                f"cannot wait on the event loop of pool {self.config.name!r}; use await, or wait "
                "in another thread with asyncio.to_thread"
            )

    def all_threads(self) -> list[threading.Thread]:
        """The threads that have started, those that have ended since included."""
        loops = [loop.thread for loop in self.backlog.loops]
        return [t for t in [*self.crew.threads, *loops, *self.timer.threads] if t.ident is not None]

    # -- The end --

    def close(self) -> None:
        """Take no more work; what was accepted still runs, and then the workers go."""
        refuse_if_deep()
        self.state.update(advance_mode, Mode.CLOSING)
        self.try_terminate()  # also where it has ended before, and what was to tell them is gone
        self.drops.log()
        self.state.raise_interrupt()

    def try_terminate(self) -> None:
        """Where the pool closes, and nothing is left for them now, end its threads."""
        self._try_terminate(self.state.value)

    def _try_terminate(self, state: State) -> None:
        if self.backlog.try_terminate(state):
            self.timer.look()

    def fail_pending(self) -> None:
        """Resolve what waits if nothing will run it (E3 in backlog)."""
        state = self.state.value
        if self.terminal_error is None or (state.mode <= Mode.CLOSING and state.workers):
            return
        error_of, over = self.terminal_error, state.mode > Mode.CLOSING
        tasks: list[Task] = []
        in_lanes: list[Task] = []
        for task in self.backlog.tasks():
            if over or not task._on_loop:
                (tasks if task._turn is None else in_lanes).append(task)
        # Of a lane the last one first: its turn must not come while those before it are lost.
        tasks[:0] = reversed(in_lanes)
        try:
            apply_to_all(lambda task: self._end_unrun(task, *error_of()), tasks)
        finally:
            if over:
                self.backlog.clear()
                self.try_terminate()  # perhaps a worker was to find that there

    def _end_unrun(self, task: Task, how: str, error: BaseException) -> None:
        try:
            task._end(how, error)
        finally:  # also where a callback has raised
            if isinstance(error, DeliveryLost) and task.done() and task._exception is error:
                self.drops.lose(task)

    def unable_to_start(self, error: RuntimeError) -> None:
        """There is no worker, and none can be started: what others have queued ends so."""
        if not self.abandoned:
            message = f"no worker could start: {error}"
            self.terminal_error = lambda: ("failed", RuntimeError(message))
            self.fail_pending()

    def break_down(self, error: BaseException) -> None:
        """An initializer failed: take no more work and fail what waits."""
        name = self.config.name
        why = f"the initializer of pool {name!r} failed: {show(error)}"
        self.terminal_error = lambda: ("failed", BrokenThreadPool(why))
        self.state.update(advance_mode, Mode.BROKEN)
        if (raised := raised_by(self.fail_pending)) is not None:
            self.log_callback(raised)
        log_in_thread(logging.CRITICAL, "the initializer of pool %r failed", name, exc_info=error)

    def lose(self, why: str) -> None:
        """Take no more work, and resolve what waits with ``DeliveryLost``; what runs goes on.

        What is lost is to be logged: ``drops`` has it. Raises what a callback has raised that
        ``concurrent.futures`` lets through, or an interrupt; then it may be called again.
        """
        self.terminal_error = lambda: ("cancelled", DeliveryLost(why))
        self.state.update(advance_mode, Mode.CLOSED)
        try:
            self.fail_pending()
        finally:
            self.drops.log()

    def log_callback(self, error: BaseException) -> None:
        """Say that a callback has raised what ``concurrent.futures`` lets through."""
        message = "a callback of a delivery in pool %r raised"
        log_in_thread(logging.ERROR, message, self.config.name, exc_info=error)

    def abandon(self) -> None:
        """In a forked child: all that the parent's threads have in hand is lost here."""
        self.abandoned = True
        for loop in self.backlog.loops:
            loop.abandon()
        held = [task for ref in list(self.prepared) if (task := ref()) is not None]
        state = self.state.value
        self.disown([*self.backlog.unfinished(), *self.backlog.tasks(), *held])
        # The thread that forked may itself wait, below the signal handler that did it.
        for wake in (*(blocked.wake for blocked in state.blocked), *state.quiescence_waiters):
            wake()

    def disown(self, tasks: list[Task]) -> None:
        """Resolve ``tasks``, which are the parent's, as lost."""
        for task in tasks:
            # One that is done, too: whoever was about to tell who waits is not here.
            task._abandon(DeliveryLost(f"it belongs to the parent of process {os.getpid()}"))
            task._forget()
            if task._turn is not None:
                task._turn = None
            task._leave()
