"""One worker thread: what it does with what stands in the queue, until its pool has no more.

Every task takes one way through a worker, ``Worker.run``. What ends well is counted in the
worker's own stripe, where nobody competes; what somebody asks about, and all else, goes on in an
``Attempt``. No signal handler runs in a worker, for these run in the main thread; in a child that a
receiver has forked they may, but there all futures are lost already.
"""

import contextlib
import logging
import queue
import sys
import weakref
from typing import Protocol

from tsignals._base.interrupts import foreign, raised_by
from tsignals._base.log import log_in_thread
from tsignals._pool.attempt import CALL_BACK, COMPLETE, COUNT, Attempt, Counting
from tsignals._pool.backlog import Token
from tsignals._pool.future import FINISHED, PENDING, RUNNING
from tsignals._pool.seam import Claim, Result
from tsignals._pool.state import FINISH, IDLE, START, exit_worker
from tsignals._pool.task import Entry, Task

PATIENCE = 0.1
"""Seconds that a worker waits for more before it calls ``idle``: to close and open what is used all
the time takes longer. (CPython < 3.13 may wake it only for the next task: see ``inbox``.)"""

COMPLETED = FINISH["completed"]
COMPLETED_AND_IDLE = COMPLETED + IDLE


class Employing(Counting, Protocol):
    """A pool, as one of its workers sees it."""

    def recheck(self) -> None:
        """Have those go on who waited for what a stripe has changed."""

    def close(self) -> None: ...
    def log_callback(self, error: BaseException) -> None:
        """Say that a callback has raised what ``concurrent.futures`` lets through."""


class Worker:
    """One worker thread, with its stripe of the numbers.

    After a change in that it looks whether anybody may wait for it (see ``atomic_state``): whether
    the version has successors, and then, as another that comes now sees the change, is not plain.
    """

    __slots__ = ("claim", "core", "has_run", "idle", "stripe", "stripes")

    def __init__(self, core: Employing, ident: int) -> None:
        self.core = core
        self.claim: Claim = ("run", ident)  # of all it runs: see Task._take
        self.stripes = core.state.stripes
        self.stripe = core.state.open_stripe()  # the index of its own
        self.idle = IDLE  # what its stripe has it as: idle, or 0
        self.has_run = False  # since it last rested; where anybody wants to know

    def work(self) -> None:
        """Run what comes from the queue, until the pool is closed and empty."""
        while (error := raised_by(self._work)) is not None:
            self.core.log_callback(error)
            del error  # an idle worker keeps nothing alive

    def _work(self) -> None:
        """As ``work``; raises what a callback has raised, and may then be called again."""
        core = self.core
        tokens, first = core.backlog.tokens, core.backlog.line.popitem
        rests = core.config.idle is not None
        while not core.abandoned:  # else this is a forked child, which has its own workers
            token: Token | type[queue.Empty]
            try:
                token = tokens.get(timeout=PATIENCE if self.has_run else None)
            except queue.Empty:
                token = queue.Empty
            # Not in there: what idle raises has nothing to do with that.
            if self.has_run and (token is None or token is queue.Empty):
                self.has_run = False
                self.rest()
            if token is True:
                try:
                    entry = first(False)[0]
                except KeyError:
                    continue  # a token too many (E5 in backlog)
                self.has_run = rests
                try:
                    self.run(entry)
                finally:
                    del entry  # as above
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
            if len(entry._stack) > 1:
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
                core.backlog.withdraw(entry)  # put there for another, it may be there for nothing
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
