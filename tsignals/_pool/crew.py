r"""The worker threads of one pool: how they start, what they do with an entry, how they end.

    a worker    reserved -> idle <-> busy with an entry
                   |         \-> gone        the pool takes no more, and nothing waits
                   \-> unreserved            no thread could start

Who adds a worker reserves its place in the state, and then starts the thread. The thread may
start although starting it was interrupted: the first entry in ``handshake`` decides whether it is
a worker, or its place is given back.

Every task takes one way through a worker, ``Worker.run``. What ends well is counted in the
worker's own stripe, where nobody competes; what somebody asks about, and all else, goes on in an
``Attempt``. No signal handler runs in a worker, for these run in the main thread; in a child that a
receiver has forked they may, but there all futures are lost already.
"""

import contextlib
import logging
import queue
import sys
import threading
import weakref
from typing import Protocol, TypeGuard

from tsignals._base.atomic import comes_first
from tsignals._base.interrupts import foreign, outcome_of, raised_by, undisturbed
from tsignals._base.log import came_by_signal, log_in_thread
from tsignals._base.process import empty_context
from tsignals._pool.attempt import CALL_BACK, COMPLETE, COUNT, Attempt, Counting
from tsignals._pool.backlog import Token
from tsignals._pool.future import FINISHED, PENDING, RUNNING
from tsignals._pool.seam import Claim, Result
from tsignals._pool.state import FINISH, IDLE, START, State, exit_worker, reserve, unreserve
from tsignals._pool.task import Entry, Task

PATIENCE = 0.1
"""Seconds that a worker waits for more before it calls ``idle``: to close and open what is used all
the time takes longer. (CPython < 3.13 may wake it only for the next task: see ``inbox``.)"""

COMPLETED = FINISH["completed"]
COMPLETED_AND_IDLE = COMPLETED + IDLE


class Employing(Counting, Protocol):
    """A pool, as its workers see it."""

    @property
    def crew(self) -> "Crew": ...
    def recheck(self) -> None:
        """Have those go on who waited for what a stripe has changed."""

    def close(self) -> None: ...
    def break_down(self, error: BaseException) -> None:
        """An initializer has failed."""

    def unable_to_start(self, error: RuntimeError) -> None:
        """There is no worker, and none can be started."""

    def log_callback(self, error: BaseException) -> None:
        """Say that a callback has raised what ``concurrent.futures`` lets through."""


class Crew:
    """The threads of one pool."""

    __slots__ = ("idents", "threads")

    def __init__(self) -> None:
        # Those that have ended stay: who shuts down joins them all.
        self.threads: dict[threading.Thread, None] = {}
        self.idents: dict[int, None] = {}  # of the workers, and of callers that run tasks

    def add_workers(self, core: Employing) -> None:
        """Start a worker for each task that waits for one, as far as that is allowed.

        Raises what starting a thread raises if there is no worker at all.
        """
        while not core.abandoned:  # in a child forked meanwhile there is nobody to add workers for
            handshake: list[object] = []
            core_in = [core]
            reserved: State | None = None
            thread = None
            try:
                reserved = core.state.update(reserve, core.config.max_workers)
                if reserved is None:
                    return
                thread = threading.Thread(
                    target=_work,
                    args=(core_in, handshake),
                    name=f"{core.config.name}_{len(self.threads)}",
                    daemon=True,
                    **empty_context(),
                )
                self.threads[thread] = None
                undisturbed(thread.start)
            except BaseException as error:  # interrupted, or there are no more threads
                if reserved is not None and comes_first(handshake, _UNRESERVED):
                    core_in.clear()  # an interrupted start leaves the thread in ``threading``
                    self._unreserve(core, thread, error)
                if not _means_no_more_threads(error):
                    self.add_workers(core)  # others may count on that worker
                    raise
                if not core.abandoned and not core.state.value.workers:
                    raise
                return

    def _unreserve(self, core: Employing, thread: object, error: BaseException) -> None:
        """A thread was to be started and was not."""
        self.threads.pop(thread, None)  # type: ignore[call-overload]
        left = core.state.update(unreserve)
        if left is not None and not left.workers and _means_no_more_threads(error):
            core.unable_to_start(error)


def _means_no_more_threads(error: BaseException) -> TypeGuard[RuntimeError]:
    """Whether starting a thread has raised ``error``, and no signal handler meanwhile."""
    return isinstance(error, RuntimeError) and not came_by_signal(error)


_STARTED, _UNRESERVED = object(), object()


def _work(core_in: list[Employing], handshake: list[object]) -> None:
    """What a worker thread does."""
    if not comes_first(handshake, _STARTED):
        return
    core = core_in.pop()
    if core.abandoned:
        return  # forked between the two: no worker of this process
    me = threading.get_ident()
    core.crew.idents[me] = None
    try:
        if (initializer := core.config.initializer) is not None:
            if (error := raised_by(initializer, *core.config.initargs)) is not None:
                core.break_down(error)
                core.state.update(unreserve)
                return
        Worker(core, me).work()
    finally:
        core.crew.idents.pop(me, None)


class Worker:
    """One worker thread, with its stripe of the numbers.

    After a change in that it looks whether anybody may wait for it (see ``atomic_state``): whether
    the version has successors, and then, as another that comes now sees the change, is not plain.
    """

    __slots__ = ("claim", "core", "idle", "stripe", "stripes")

    def __init__(self, core: Employing, ident: int) -> None:
        self.core = core
        self.claim: Claim = ("run", ident)  # of all it runs: see Task._take
        self.stripes = core.state.stripes
        self.stripe = core.state.open_stripe()  # the index of its own
        self.idle = IDLE  # what its stripe has it as: idle, or 0

    def work(self) -> None:
        """Take what comes from the queue, until the pool is closed and empty."""
        core = self.core
        tokens, first = core.backlog.tokens, core.backlog.line.popitem
        rests = core.config.idle is not None
        has_run = False  # since it last rested; where anybody wants to know
        while not core.abandoned:  # else this is a forked child, which has its own workers
            token: Token | type[queue.Empty]
            try:
                token = tokens.get(timeout=PATIENCE if has_run else None)
            except queue.Empty:
                token = queue.Empty
            # Not in there: what idle raises has nothing to do with that.
            if has_run and (token is None or token is queue.Empty):
                has_run = False
                self.rest()
            if token is True:
                try:
                    entry = first(False)[0]
                except KeyError:
                    continue  # a token too many (E5 in backlog)
                if (error := outcome_of(self.run, entry)[1]) is not None:  # a callback's
                    core.log_callback(error)
                del error, entry  # an idle worker keeps nothing alive
                has_run = rests
            elif isinstance(token, weakref.ref):
                raised_by(core.close)  # nobody refers to the pool any more (E4 in backlog)
            elif token is None and core.state.update(exit_worker) is not None:
                return  # with that, the backlog has let the next of us go

    def run(self, entry: Entry) -> None:
        """Run what ``entry`` stands for, unless others do."""
        core, stripes, stripe, claim = self.core, self.stripes, self.stripe, self.claim
        state = core.state
        task: Task | None = None
        result: object = None
        error: BaseException | None = None
        try:
            if shared := len(entry._stack) > 1:
                core.backlog.put(entry)  # for the next worker
            start = START - self.idle  # the next ones find it not idle
            while (task := entry._take(claim)) is not None:
                stripes[stripe] += start
                task._phase = RUNNING  # from here on this says that it is counted so
                self.idle, start = 0, START
                if state.version[3] or not state.version[2]:
                    core.recheck()
                if not core.abandoned:  # a finalizer may have forked: then the parent runs it
                    result, error = task._perform()
                if core.abandoned:
                    task = None  # the receiver has forked: the future is the parent's
                    break
                last = not entry._stack
                if error is None:
                    self.finish(task, result, last)
                else:
                    self.idle = IDLE if last else 0  # counted by the attempt
                    self._go_on(task, COUNT, (result, error), counted_idle=0)
                task = result = error = None
                if last:
                    break
            if not self.idle:
                self.be_idle()
            if entry._is_batch:
                entry._leave_if_over()
                if shared:
                    core.backlog.withdraw(entry)  # it is still there, for nothing
            if state.interrupts:
                state.raise_interrupt()
        finally:
            if task is not None:  # no receiver has raised: memory has run out, say
                self._recover(entry, task)
            if not self.idle:
                self.be_idle()
            # See drop_frame; and this frame may live as long as what a receiver has raised.
            del self, entry, task, result, error

    def finish(self, task: Task, result: object, last: bool) -> None:
        """Count and resolve what has ended well; ``last``: then nothing is left to this worker."""
        if last or not task._shares_what_was_sent:
            task._forget()
        task._outcome = result
        if last:
            self.stripes[self.stripe] += COMPLETED_AND_IDLE  # before it is done: see Attempt
            self.idle = IDLE
        else:
            self.stripes[self.stripe] += COMPLETED
        task._phase = FINISHED
        state = (core := self.core).state
        if last and (state.version[3] or not state.version[2]):
            core.recheck()
        if not task._leave_unless_asked():
            if state.version[3] or not state.version[2]:  # it may be the last now
                core.recheck()
            self._go_on(task, COMPLETE, (result, None), counted_idle=self.idle)
        elif task._turn is not None:
            core.pass_on(task)

    def _go_on(self, task: Task, stage: int, outcome: Result, counted_idle: int) -> None:
        attempt = Attempt(self.core, task, self.claim, stage)
        attempt.outcome = outcome
        attempt.idle = self.idle
        attempt.idle_again = counted_idle
        del task, outcome  # see drop_frame
        attempt.carry_out()

    def _recover(self, entry: Entry, task: Task) -> None:
        """Bring to an end what this worker was interrupted in (E2 in attempt)."""
        if entry._stack:
            self.core.backlog.put(entry)
        if task._claimed_by is not self.claim:
            return
        if task.done():
            self._go_on(task, CALL_BACK, (None, None), counted_idle=self.idle)
            self.core.recheck()  # perhaps it was that which was interrupted
            return
        if task._phase is PENDING:
            self.core.count(START)
        self._go_on(task, COUNT, (None, sys.exception()), counted_idle=self.idle)
        entry._leave_if_over()

    def be_idle(self) -> None:
        """It has nothing to run, which is not counted yet."""
        self.stripes[self.stripe] += IDLE
        self.idle = IDLE
        self.core.recheck()

    def rest(self) -> None:
        """With nothing more to run: call ``idle``."""
        core = self.core
        core.count(-IDLE)  # that may take long: who sends meanwhile should not count on this worker
        with contextlib.suppress(RuntimeError):  # no thread can be started: this one will be back
            core.add_workers()  # for what was left to it already
        if (error := raised_by(self._call_idle)) is not None:
            log_in_thread(logging.ERROR, "idle of pool %r raised", core.config.name, exc_info=error)
        del error  # or the traceback, this frame and the error form a cycle
        core.count(IDLE)

    @foreign
    def _call_idle(self) -> None:
        if (idle := self.core.config.idle) is not None:
            idle()
