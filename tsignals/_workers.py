"""The workers of a pool: who runs what, what is counted when, and how it all ends.

Lock
    None. Numbers and mode are one value, and an account for each worker (``_state``); who resolves
    a future is decided by that future (``_future``); work is handed over by a ``SimpleQueue``.

Invariants
    E1  An entry in the queue entitles nobody: the worker must still claim the future. So an entry
        too many does no harm, and a step that was interrupted is simply done again.
    E2  Whoever claims a future settles it, after counting it (S1), whatever happens in between.
    E3  A future is in ``unresolved``, by itself or as part of a fan-out, from before it can be
        found in the queue until it is done, the oldest first. So whoever finds that nothing will
        run what waits says so in ``hopeless`` and then looks there; who has queued something looks
        at ``hopeless`` after.
    E4  Workers know this object, never the pool in front of it. When nobody refers to that any
        more, its weak reference is put into the queue, and the worker that takes it closes the
        pool. That is a step in C: unlike ``__del__``, no signal handler can raise in it.

Fork: in the child every value here is made anew by ``start_over``; a thread that finds its claim
replaced (``future._owner``) leaves all counts alone.
"""

import contextlib
import logging
import queue
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures.thread import BrokenThreadPool
from typing import Any, NamedTuple

from tsignals import _state
from tsignals._around import Around
from tsignals._critical import foreign
from tsignals._future import CANCELLED_AND_NOTIFIED, FINISHED, Mark
from tsignals._lanes import PASSED, Lane
from tsignals._outcomes import show
from tsignals._process import empty_context
from tsignals._state import Cell, Mode, State
from tsignals._telling import log_safely
from tsignals._work import SKIPPED, Entry, Work

Stamp = tuple[float, "list[Any]"]  # when, and its successors, as in a Cell
Initializer = Callable[..., object]

PATIENCE = 0.1
"""Seconds that a worker waits for more before it calls ``idle``: a pool whose workers have short
pauses all the time would else close, and open again, what ``idle`` closes."""


class Worker(NamedTuple):
    """A worker thread, as what it takes from the queue sees it."""

    engine: "Workers"
    cell: Cell
    accounts: list[int]
    account: int  # the index of its own
    mark: Mark  # claims by it; never one future twice


class Workers:
    """A pool's queue, numbers and threads."""

    def __init__(
        self,
        max_workers: int,
        max_pending: int | None,
        overflow: str,
        block_timeout: float | None,
        thread_name_prefix: str,
        initializer: Initializer | None,
        initargs: tuple[Any, ...],
        around: Around | None,
        idle: Callable[[], object] | None,
    ) -> None:
        self.max_workers = max_workers
        self.limit = max_pending
        self.overflow = overflow
        self.block_timeout = block_timeout
        self.name = thread_name_prefix
        self.initializer = initializer
        self.initargs = initargs
        self.around = around
        self.idle = idle
        self.drops: list[int] = []
        self.front: weakref.ref[Any] | None = None
        self.start_over(State())

    def start_over(self, state: State) -> None:
        """Be as new, with ``state``."""
        self.cell = Cell(state, self.limit)
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()  # of Entry; None: go; see E4
        self.unresolved: dict[Entry, None] = {}  # E3
        self.prepared: dict[weakref.ref[Any], None] = {}  # neither submitted nor resolved: _held
        self.elders: deque[weakref.ref[Entry]] = deque()  # the oldest of them; see oldest
        self.overdue: list[None] = []  # as long as there may be entries too many; see tidy
        self.lanes: dict[Hashable, Lane] = {}
        self.hopeless: Callable[[], tuple[str, BaseException]] | None = None  # E3: how it all ends
        self.threads: dict[threading.Thread, None] = {}
        self.idents: dict[int, None] = {}  # of the worker threads, and of callers that run
        self.loops: list[Any] = []  # the first is the event loop's thread; see _loop
        self.drops_logged: Stamp = (float("-inf"), [])
        if self.front is not None and (pool := self.front()) is not None:
            self.attend(pool)

    def attend(self, pool: object) -> None:
        """Close once nobody refers to ``pool`` (E4)."""
        self.front = weakref.ref(pool, self.queue.put)

    def staff(self) -> None:
        """Start a worker for each delivery that waits for one, as far as that is allowed.

        Raises what starting a thread raises if there is no worker at all.
        """
        cell = self.cell  # in a child forked meanwhile there is nobody to be staffed for
        while self.cell is cell:
            contract: list[bool] = []
            engine = [self]
            hired = thread = None
            try:
                hired = cell.update(_state.hire, self.max_workers)
                if hired is None:
                    return
                name = f"{self.name}_{len(self.threads)}"
                thread = threading.Thread(
                    target=_work,
                    args=(engine, cell, contract),
                    name=name,
                    daemon=True,
                    **empty_context(),
                )
                self.threads[thread] = None
                thread.start()
            except BaseException as error:
                if hired is not None:
                    # The thread may start yet; the first entry decides whether it is a worker.
                    contract.append(False)
                    if not contract[0]:
                        engine.clear()  # an interrupted start leaves the thread in ``threading``
                        self.let_thread_go(thread, error, cell)
                if not isinstance(error, RuntimeError):
                    self.staff()  # interrupted; others may count on that worker
                    raise
                if self.cell is cell and not cell.value.workers:
                    raise
                return
            if self.cell is not cell:
                self.threads.pop(thread, None)

    def let_thread_go(
        self, thread: threading.Thread | None, error: BaseException, cell: Cell
    ) -> None:
        """A thread was to be started and was not."""
        if thread is not None:
            self.threads.pop(thread, None)
        left = cell.update(_state.leave)
        if self.cell is not cell:
            return  # forked meanwhile
        if left is not None and not left.workers and isinstance(error, RuntimeError):
            # What others have queued meanwhile has nobody to run it.
            self.hopeless = lambda: ("failed", RuntimeError(f"no worker could start: {error}"))
            self.give_up()

    def run(self, work: Work, idle: int = 0, here: Cell | None = None) -> None:
        """Run ``work`` unless somebody else does or did.

        ``idle`` is 1 in an idle worker. ``here``: by the one who sends it, who has counted it as
        running in this cell.
        """
        # From before the claim: a child that a signal handler forks in the middle has another.
        cell = here or self.cell
        mark = ("run", threading.get_ident())
        change = _state.START - idle * _state.IDLE
        counted = here is not None  # with all that this thread runs
        try:
            if not work._claim(mark):
                if work._ended_unrun():
                    self.pass_on(work)  # its turn came after that
                return
            if here is not None:
                # Not before the claim: what is in there and unclaimed counts as pending.
                self.unresolved[work] = None
                if self.cell is not here:
                    return  # forked meanwhile: the parent runs it
            if not counted:
                self.count(change, cell)
                counted = True
            self.run_claimed(work, mark, idle, cell)
        except BaseException:
            if work._owner is mark and not work.done():  # interrupted on the way there
                if not counted:
                    self.count(change, cell)
                self.run_claimed(work, mark, idle, cell)
            raise
        finally:
            del work  # see drop_frame
        if not idle:
            self.tidy()

    def run_claimed(self, work: Work, mark: Any, idle: int, cell: Cell) -> None:
        """Run what this thread has claimed and counted as running (E2)."""
        error: BaseException | None
        try:
            work._begin(mark)
            result, error = work._perform()
        except BaseException as interrupt:
            result, error = None, interrupt
        # No call before the next ``try``: an interrupt here would have it run again.
        try:
            self.conclude(work, mark, idle, cell, result, error)
        except BaseException:
            if work._owner is mark and not work.done():  # interrupted before it began
                self.conclude(work, mark, idle, cell, result, error)
            raise
        finally:
            del work, error  # see drop_frame

    def conclude(
        self,
        work: Work,
        mark: Any,
        idle: int,
        cell: Cell,
        result: Any,
        error: BaseException | None,
    ) -> None:
        """Count and resolve what this thread has run (E2)."""
        skipped = error is SKIPPED
        ended = "completed" if error is None else "cancelled" if skipped else "failed"
        phase = CANCELLED_AND_NOTIFIED if skipped else FINISHED
        if skipped:
            error = None
        change, idle_again = _state.FINISH[ended], idle * _state.IDLE
        counted = False
        try:
            if work._owner is not mark:
                return  # forked meanwhile: the future is the parent's
            if idle and not work._calls_back():
                # Before it is done: who waits for that may send again, and should find this worker
                # instead of starting another. Callbacks may take long: then it is the last step.
                change, idle_again = change + idle_again, 0
            work._forget()
            self.count(change, cell)
            counted = True
            meeting = work._resolve(result, error, phase)
            if meeting is not None and meeting.callbacks:
                if idle and not idle_again:  # they have come since it was counted
                    self.count(-_state.IDLE, cell)
                    idle_again = _state.IDLE
                    self.staff()  # for what was left to this worker meanwhile
                meeting.call_back(work)
            self.wrap_up(work)
        except BaseException:  # interrupted, or by a callback: what is left is done again
            if work._owner is mark:
                if not counted:
                    self.count(change, cell)
                work._settle(result, error, phase)
                self.wrap_up(work)
            raise
        finally:
            del work, error  # see drop_frame
            if idle_again:
                self.count(idle_again, cell)

    def wrap_up(self, work: Work) -> None:
        """After ``work`` was resolved by the one who ran it."""
        work._leave(self)
        if work._turn is not None:
            self.pass_on(work)
        if self.cell.interrupts:
            self.cell.raise_interrupt()

    def count(self, change: int, cell: Cell) -> None:
        """Change the numbers in ``cell``; raises only if interrupted before that (E2)."""
        if cell.add(change):
            return
        cell.update(_state.shift, change, self.limit)
        try:
            self.let_go()
        except BaseException as interrupt:
            cell.defer(interrupt)
            self.let_go()

    def usher(self, cell: Cell) -> None:
        """After a change in a worker's account: see to those who waited for it."""
        if cell.stirs():
            self.count(0, cell)

    def let_go(self) -> None:
        """Closing, and nothing is left: the threads may go."""
        state = self.cell.value
        if state.mode and not state.pending:
            self.queue.put(None)
        if state.mode and state.quiet:
            for loop in self.loops:
                loop.stop()

    def give_up(self) -> None:
        """Resolve what waits if nothing will run it (E3)."""
        state = self.cell.value
        if self.hopeless is None or (state.mode <= Mode.CLOSING and state.workers):
            return
        interrupt: BaseException | None = None
        for work in self.futures():
            if state.mode > Mode.CLOSING or not work._on_loop:
                try:
                    work._end(*self.hopeless())
                except BaseException as error:  # of a callback: the others end all the same
                    interrupt = error
        if state.mode > Mode.CLOSING:
            with contextlib.suppress(queue.Empty):
                while True:  # nobody will take these, and they know what was sent
                    self.queue.get_nowait()
            self.let_go()  # perhaps a worker was to find that there
        if interrupt is not None:
            raise interrupt

    def count_ended(self, work: Any, counter: str, cell: Cell) -> None:
        """Count one that ended without having run."""
        work._forget()
        self.count(_state.RESOLVE[counter] - work._on_loop * _state.FOR_LOOP, cell)

    def wrap_up_unrun(self, work: Any) -> None:
        """After ``work`` was resolved without having run; its turn passes when it comes."""
        self.release(work)
        self.pass_over(work)
        self.tidy()
        if self.cell.interrupts:
            self.cell.raise_interrupt()

    def tidy(self) -> None:
        """One more has ended otherwise than by the worker that takes it from the queue.

        Once these may be most of what is in there, take them out: they would pile up behind busy
        workers. What waits keeps its order, but for what comes meanwhile; no promise of order
        depends on that, for of a lane only one is in the queue.
        """
        overdue = self.overdue
        overdue.append(None)
        if len(overdue) < 128 or len(overdue) < len(self.unresolved):
            return
        overdue.clear()
        entries = self.queue
        try:
            for _ in range(entries.qsize()):
                entry = entries.get_nowait()
                if not isinstance(entry, Entry) or entry._remains(self):
                    entries.put(entry)
        except queue.Empty:
            pass
        except BaseException:  # interrupted, perhaps with one in hand: all that waits, again (E1)
            for entry in list(self.unresolved):
                if not entry._on_loop and (entry._turn is None or entry._turn.before is None):
                    entries.put(entry)
            self.let_go()
            if self.front is not None and self.front() is None:
                entries.put(self.front)
            raise

    def release(self, work: Any) -> None:
        work._leave(self)

    def futures(self) -> list[Work]:
        """All that may not be resolved yet, the oldest first (E3)."""
        return [work for entry in list(self.unresolved) for work in entry._futures()]

    def pass_on(self, work: Work) -> None:
        """End the turn of ``work``, if it has one, and queue the one whose turn comes.

        What has been resolved unrun is passed over: perhaps no worker will come for it.
        """
        if work._turn is None:
            return
        later: list[Work] = []
        of = work
        while (turn := of._turn) is not None and turn is not PASSED:
            if of is not work:
                later.append(of)
            following = turn.pass_on()
            if following is None:
                break
            of = following.future
            fate = of._fate
            fate.extend(())  # that its turn has come is seen before the look at its owner
            if not fate or not of._ended_unrun():
                if not following.kept:
                    self.queue_again(of)
                break
        while later:
            later.pop()._turn = PASSED
        work._turn = PASSED  # this one last: interrupted, all of this is done again

    def pass_over(self, work: Any) -> None:
        """Pass the turn of ``work`` on, if that has come and ``work`` was resolved unrun.

        Who claims a future looks here afterwards whether its turn has come, and who passes turns
        on looks afterwards for a claim: so one of them passes it on, or both do.
        """
        turn = work._turn
        if turn is not None and turn.joined() and turn.before is None and work._ended_unrun():
            self.pass_on(work)

    def queue_again(self, work: Work) -> None:
        """Put ``work`` into the queue, from where it may be taken more than once (E1)."""
        if work._on_loop:
            self.loops[0].take([work])
        else:
            self.queue.put(work)

    def break_down(self, error: BaseException) -> None:
        """An initializer failed: take no more work and fail what waits."""
        why = f"the initializer of pool {self.name!r} failed: {show(error)}"
        self.hopeless = lambda: ("failed", BrokenThreadPool(why))
        self.cell.update(_state.turn, Mode.BROKEN)
        try:
            self.give_up()
        except BaseException:
            self.log_callback()
        self.let_go()
        log_safely(logging.CRITICAL, "the initializer of pool %r failed", self.name, exc_info=error)

    def log_callback(self) -> None:
        """Say that a callback has raised what ``concurrent.futures`` lets through."""
        log_safely(
            logging.ERROR,
            "a callback of a delivery in pool %r raised",
            self.name,
            exc_info=sys.exc_info(),
        )

    def rest(self, cell: Cell) -> None:
        """In a worker that has nothing more to run: call ``idle``."""
        # That may take long. Who sends something meanwhile should not count on this worker.
        self.count(-_state.IDLE, cell)
        with contextlib.suppress(RuntimeError):  # no thread can be started: this one will be back
            self.staff()  # for what was left to it already
        try:
            self.call_idle()
        except BaseException as error:
            log_safely(logging.ERROR, "idle of pool %r raised", self.name, exc_info=error)
        self.count(_state.IDLE, cell)

    @foreign
    def call_idle(self) -> None:
        if self.idle is not None:
            self.idle()

    def all_threads(self) -> list[threading.Thread]:
        """The threads that have started, those that have ended since included."""
        threads = [*self.threads, *(loop.thread for loop in self.loops)]
        return [thread for thread in threads if thread.ident is not None]

    def works_here(self) -> bool:
        """Whether this thread is a worker, or a caller that runs deliveries."""
        return threading.get_ident() in self.idents


def _work(engine_in: list[Any], cell: Cell, contract: list[bool]) -> None:
    """What a worker thread does, which was hired in ``cell``."""
    contract.append(True)
    if not contract[0]:
        return
    engine = engine_in.pop()
    if engine.cell is not cell:
        return  # forked between the two: not hired in this process
    me = threading.get_ident()
    worker = Worker(engine, cell, cell.accounts, cell.open_account(), ("run", me))
    work_queue = engine.queue
    engine.idents[me] = None
    try:
        if engine.initializer is not None:
            try:
                engine.initializer(*engine.initargs)
            except BaseException as error:
                engine.break_down(error)
                engine.cell.update(_state.leave)
                return
        has_run = False  # since it last rested; where anybody wants to know
        while engine.queue is work_queue:  # else this is a forked child, which has its own workers
            if has_run:
                try:
                    entry = work_queue.get(timeout=PATIENCE)
                except queue.Empty:
                    entry = queue.Empty
                # Not in there: what idle raises has nothing to do with that.
                if entry is None or entry is queue.Empty:
                    has_run = False
                    engine.rest(cell)
                if entry is queue.Empty:
                    continue
            else:
                entry = work_queue.get()
            if entry is None:
                after = engine.cell.update(_state.retire)
                if after is not None:
                    work_queue.put(None)  # for the next of us
                    return
                continue
            if entry is engine.front:
                engine.close()
                continue
            try:
                entry._work_off(worker)
            except BaseException:
                engine.log_callback()
            del entry  # an idle worker keeps nothing alive
            has_run = engine.idle is not None
    finally:
        engine.idents.pop(me, None)  # and not of ``threads``: who shuts down joins them all
