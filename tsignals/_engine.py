"""What runs deliveries: admission, workers, turns and the waits among them. Knows no signals.

Lock
    None. Numbers, mode and the line of blocked senders are one value (``_state``); who resolves
    a future is decided by that future (``_future``); work is handed over by a ``SimpleQueue``.

Invariants
    E1  What is admitted is put into the queue (or into a lane, which does that when its turn
        comes) by the thread that admitted it. An entry in the queue entitles nobody: the worker
        must still claim the future. So an entry too many does no harm, and a step that was
        interrupted is simply done again.
    E2  Whoever claims a future settles it, after counting it (S1), whatever happens in between.
    E3  A future is in ``unresolved`` from before it can be found in the queue until it is done,
        the oldest first. So whoever finds that nothing will run what waits says so in
        ``hopeless`` and then looks there; who has queued something looks at ``hopeless`` after.
    E4  Workers know the engine, never the pool in front of it: a pool nobody refers to can close.

Fork: in the child every value here is made anew by ``restart``; a thread that finds its claim
replaced (``future.owner``) leaves all counts alone.
"""

import contextlib
import functools
import logging
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures.thread import BrokenThreadPool
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tsignals import _state
from tsignals._errors import DeliveryDropped, DeliveryLost, PoolClosed, QueueFull
from tsignals._future import (
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PoolFuture,
    critical,
    left_until,
    refuse_if_critical,
    refuse_if_deep,
)
from tsignals._lanes import PASSED, Lane, Turn, join
from tsignals._state import Blocked, Cell, Mode, State

log = logging.getLogger("tsignals")

Stamp = tuple[float, "list[Any]"]  # when, and its successors, as in a Cell
Around = Callable[[], AbstractContextManager[Any]]
Initializer = Callable[..., object]

_asleep: "dict[int, tuple[Sequence[Any], bool]]" = {}
"""By thread: what a worker waits for, which others run, and whether it needs every one of them.

The same of async deliveries that await one, by what stands for a thread in their marks.
"""

_CIRCLE = (
    "cannot wait for this delivery here: it can only run after the one that waits "
    "(they share an ordered receiver's lane, or wait for each other)"
)


class Skipped(BaseException):
    """What ``perform`` returns in place of an error for work that must not run any more."""


class Work(PoolFuture):
    """A future with what resolves it."""

    __slots__ = ("queued_at", "turn")

    ordered_receiver: Any = None  # whose lane it belongs to; None: to no lane
    on_loop = False  # it runs on the event loop, not in a worker

    def __init__(self, pool: "Engine") -> None:
        super().__init__(pool)
        self.turn: Turn | None = None
        self.queued_at = 0.0

    def perform(self) -> tuple[Any, BaseException | None]:
        """Do the work and return its result, or what it raised."""
        raise NotImplementedError

    def forget(self) -> None:
        """Let go of what is needed only to run."""
        raise NotImplementedError


class Submitted(Work):
    """A plain function call, as ``Executor.submit`` takes it: failures are not told."""

    __slots__ = ("_function",)

    def __init__(self, pool: "Engine", function: Callable[[], Any]) -> None:
        super().__init__(pool)
        self._function: Callable[[], Any] | None = function

    def perform(self) -> tuple[Any, BaseException | None]:
        function, around = self._function, self._pool.around
        assert function is not None
        try:
            return (function() if around is None else surrounded(around, function)), None
        except BaseException as error:
            drop_frame(error)
            return None, error

    def forget(self) -> None:
        self._function = None


def drop_frame(error: BaseException) -> None:
    """Take the frame that caught ``error`` out of its traceback.

    It holds the future, which holds the error, which would hold the frame: a cycle. The frames
    below stay, as ``f_back`` of the receiver's, and for the same reason let go of the future.
    """
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next


def surrounded(
    around: Around, function: Callable[..., Any], /, *arguments: Any, **keywords: Any
) -> Any:
    """Call ``function`` inside a new context manager, which cannot swallow what it raises."""
    with surrounding(around):
        return function(*arguments, **keywords)


@contextmanager
def surrounding(around: Around) -> Iterator[None]:
    """A new context manager, kept from swallowing what is raised inside."""
    raised: BaseException | None = None
    try:
        with around():
            try:
                yield
            except BaseException as error:
                raised = error
                raise
        if raised is not None:
            raise raised
    finally:
        del raised


class Engine:
    """A pool's queue and workers; ``WorkerPool`` documents the arguments."""

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
    ) -> None:
        self.max_workers = max_workers
        self.limit = max_pending
        self.overflow = overflow
        self.block_timeout = block_timeout
        self.name = thread_name_prefix
        self.initializer = initializer
        self.initargs = initargs
        self.around = around
        self.drops: deque[int] = deque()
        self.start_over(State())

    def start_over(self, state: State) -> None:
        """Be as new, with ``state``."""
        self.cell = Cell(state)
        self.queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self.unresolved: dict[Work, None] = {}  # E3
        self.lanes: dict[Hashable, Lane] = {}
        self.hopeless: Callable[[], tuple[str, BaseException]] | None = None  # E3: how it all ends
        self.threads: dict[threading.Thread, None] = {}
        self.idents: dict[int, None] = {}  # of the worker threads, and of callers that run
        self.loops: list[Any] = []  # the first is the event loop's thread; see _loop
        self.drops_logged: Stamp = (float("-inf"), [])

    # -- Taking work --

    def accept(self, works: "Sequence[Work]") -> None:
        """Take ``works`` as a whole, or raise and take none of them.

        Raises ``PoolClosed``, ``BrokenThreadPool``, ``QueueFull``, and ``RuntimeError`` when no
        thread can be started to run them.
        """
        self.take(works, self.find_room, _state.withdraw)

    def take(
        self,
        works: "Sequence[Work]",
        admit: Callable[..., int | None],
        undo: Callable[..., State],
        kept: bool = False,
    ) -> None:
        """Have ``admit(works)`` count ``works``, and then queue them; both or neither.

        ``undo`` is the change that takes the counting back. ``kept``: ordered ones are not queued
        yet, for the caller runs them when their turn comes.
        """
        cell = self.cell
        numbers = None
        try:
            numbers = admit(works)
            if numbers is not None:
                self.hand_over(works, numbers, kept)
        except BaseException:
            if numbers is not None:
                self.make_good(works, undo)
            raise
        finally:
            if self.cell is not cell:
                self.disown(works)
            if cell.interrupts:
                cell.raise_interrupt()

    def find_room(self, works: "Sequence[Work]") -> int | None:
        """Admit ``works``; None where they are dealt with otherwise: run here, or dropped."""
        admitted = _admitted(works)
        while (numbers := self.cell.admit(admitted, self.limit)) is None:
            self.refuse_if_not_open()
            if self.overflow == "block" and threading.get_ident() not in self.idents:
                if (numbers := self.stand_in_line(admitted)) is not None:
                    return numbers
            elif self.overflow == "raise":
                raise QueueFull(
                    f"cannot deliver: {self.cell.value.pending} deliveries wait in pool "
                    f"{self.name!r} (max_pending={self.limit}); nothing was queued"
                )
            elif self.overflow in ("block", "caller_runs"):
                self.run_here(works)
                return None
            elif self.overflow == "drop_newest" or not self.drop_oldest():
                self.drop(works)
                return None
        return numbers

    def put_back(self, works: "Sequence[Work]") -> int:
        """Have ``works`` that were to run here wait after all, over the limit."""
        state = self.cell.update(_state.put_back, _admitted(works))
        assert state is not None
        return state.numbers

    def refuse_if_not_open(self) -> None:
        mode = self.cell.value.mode
        if mode is Mode.BROKEN:
            raise BrokenThreadPool(f"cannot deliver: the initializer of pool {self.name!r} failed")
        if mode:
            raise PoolClosed(
                f"cannot deliver in the background: pool {self.name!r} is closed; "
                "use send() or another executor"
            )

    @critical
    def hand_over(self, works: "Sequence[Work]", numbers: int, kept: bool) -> None:
        """Queue what was admitted, and see that there are workers for it."""
        if len(self.threads) < self.max_workers and _state.more_wait_than_idle(numbers):
            self.staff()
        self.publish(works, kept)
        if self.hopeless is not None:
            self.give_up()

    @critical
    def make_good(self, works: "Sequence[Work]", undo: Callable[..., State]) -> None:
        """After an interruption: all of ``works`` are queued, or none of them stays admitted."""
        if works[0].owner is None and works[0] not in self.unresolved:  # E3
            self.cell.update(undo, _admitted(works), self.limit)
            self.let_go()
            return
        self.publish(works)  # E1
        for work in works:
            if work.done():
                self.release(work)

    def publish(self, works: "Sequence[Work]", kept: bool = False) -> None:
        now = time.perf_counter()
        put: Callable[[Work], object] = self.queue.put
        unresolved = self.unresolved
        for_loop: list[Work] = []
        for work in works:
            work.queued_at = now
            unresolved[work] = None
            if work.on_loop:
                put = for_loop.append
            if work.ordered_receiver is None or (
                join(self.lanes, work.ordered_receiver, work, kept).before is None and not kept
            ):
                put(work)
        if for_loop:
            self.loops[0].take(for_loop)

    def queue_again(self, work: Work) -> None:
        """Put ``work`` into the queue, from where it may be taken more than once (E1)."""
        if work.on_loop:
            self.loops[0].take([work])
        else:
            self.queue.put(work)

    def disown(self, works: "Sequence[Work]") -> None:
        """The process was forked in the middle of sending, and this is the child.

        Here the works end as those that were queued before: they are the parent's.
        """
        for work in works:
            if not work.done():
                work.forsake(_lost_by_fork())
            self.release(work)

    # -- When the queue is full --

    def stand_in_line(self, admitted: int) -> int | None:
        """Wait for room until admitted; None where there was no need to wait."""
        if _loop_runs_here():
            raise QueueFull(
                f"cannot wait for room in pool {self.name!r} on a thread that runs an event loop; "
                "nothing was queued"
            )
        refuse_if_critical("a full queue")
        cell = self.cell
        woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        blocked = Blocked(admitted, functools.partial(woken.put, None))
        timeout = self.block_timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        in_line = None
        try:
            in_line = cell.update(_state.block, blocked, self.limit)
            if in_line is None:
                return None
            while True:
                cell.raise_interrupt()
                state = cell.value
                if blocked not in state.blocked or self.cell is not cell:  # admitted, or forked
                    return state.numbers
                left = left_until(deadline)
                if state.mode or left == 0:
                    if cell.update(_state.unblock, blocked, self.limit) is None:
                        return cell.value.numbers  # admitted at the last moment
                    in_line = None
                    self.refuse_if_not_open()
                    raise QueueFull(
                        f"cannot deliver: pool {self.name!r} had no room for {timeout} seconds "
                        f"(max_pending={self.limit}); nothing was queued"
                    )
                with contextlib.suppress(queue.Empty):
                    woken.get(timeout=left)
        except BaseException:
            if in_line is not None and cell.update(_state.unblock, blocked, self.limit) is None:
                cell.update(_state.withdraw, admitted, self.limit)
                self.let_go()
            raise

    def run_here(self, works: "Sequence[Work]") -> None:
        """Run ``works`` in the calling thread, which is a worker of this pool meanwhile.

        Async ones run on the pool's event loop all the same, and the thread waits for them.
        """
        if works[-1].on_loop and _loop_runs_here():
            raise QueueFull(
                f"cannot wait for async receivers, for which pool {self.name!r} has no room, on a "
                "thread that runs an event loop; nothing was queued"
            )
        cell, me = self.cell, threading.get_ident()
        guest = me not in self.idents
        # As a whole, or a pool that is closed meanwhile would end before the last has run.
        while cell.update(_state.start_here, len(works)) is None:
            self.refuse_if_not_open()
        try:
            self.idents[me] = None
            for work in works:
                if self.cell is not cell:
                    return  # forked meanwhile
                if work.ordered_receiver is not None:
                    self.run_in_turn(work)
                else:
                    work.queued_at = time.perf_counter()
                    self.run(work, here=True)
                if isinstance(work._exception, KeyboardInterrupt):
                    raise work._exception
        except BaseException:
            # Interrupted: the workers do the rest.
            rest = [w for w in works if w.owner is None and w not in self.unresolved]
            if rest and self.cell is cell:
                self.take(rest, self.put_back, _state.take_up)
            raise
        finally:
            if guest:
                self.idents.pop(me, None)

    def run_in_turn(self, work: Work) -> None:
        """Run ``work`` in the calling thread, after all that stands before it in its lane.

        Where that waits for this thread, leave it to the workers.
        """
        try:
            self.take([work], self.put_back, _state.take_up, kept=not work.on_loop)
            with contextlib.suppress(RuntimeError):
                self.await_done(work, None)
            self.keep_no_longer(work)
        except BaseException:
            self.keep_no_longer(work)
            raise

    def keep_no_longer(self, work: Work) -> None:
        """Leave ``work`` to the workers, if nobody has run it yet."""
        if (turn := work.turn) is not None:
            turn.kept = False
            if turn.before is None:
                self.queue_again(work)

    def drop(self, works: "Sequence[Work]") -> None:
        self.cell.update(_state.drop_new, len(works))
        for work in works:
            work.forget()
            if work.claim(("dropped", threading.get_ident())):
                work.settle(None, self._dropped())
        self.note_dropped(len(works))

    def drop_oldest(self) -> bool:
        """Drop the oldest delivery that waits; False when none does."""
        while (work := self.oldest()) is not None:
            if work.end("dropped", self._dropped()):
                self.note_dropped(1)
                return True
        return False

    def oldest(self) -> Work | None:
        """Of what nobody runs or has resolved, what came first (E3)."""
        try:
            return next((work for work in self.unresolved if work.owner is None), None)
        except RuntimeError:  # it has changed meanwhile
            return next((work for work in list(self.unresolved) if work.owner is None), None)

    def _dropped(self) -> DeliveryDropped:
        return DeliveryDropped(
            f"pool {self.name!r} was full (max_pending={self.limit}, overflow={self.overflow!r})"
        )

    def note_dropped(self, count: int) -> None:
        """Log drops at most once a second, with their number."""
        self.drops.append(count)
        last, now = self.drops_logged, time.monotonic()
        while last[1]:
            last = last[1][0]
        if now - last[0] >= 1:
            stamp: Stamp = (now, [])
            last[1].append(stamp)
            if last[1][0] is stamp:  # of all who would log now, one does
                self.drops_logged = stamp
                self.log_drops()

    def log_drops(self) -> None:
        total = 0
        while True:
            try:
                total += self.drops.popleft()
            except IndexError:
                break
        if total:
            log.warning("pool %r was full: %d deliveries dropped", self.name, total)

    # -- Workers --

    def staff(self) -> None:
        """Start a worker for each delivery that waits for one, as far as that is allowed.

        Raises what starting a thread raises if there is no worker at all.
        """
        while True:
            contract: list[bool] = []
            engine = [self]
            hired = thread = None
            try:
                hired = self.cell.update(_state.hire, self.max_workers)
                if hired is None:
                    return
                name = f"{self.name}_{len(self.threads)}"
                thread = threading.Thread(
                    target=_work, args=(engine, contract), name=name, daemon=True
                )
                self.threads[thread] = None
                thread.start()
            except BaseException as error:
                if hired is not None:
                    # The thread may start yet; the first entry decides whether it is a worker.
                    contract.append(False)
                    if not contract[0]:
                        engine.clear()  # an interrupted start leaves the thread in ``threading``
                        self.let_thread_go(thread, error)
                if not isinstance(error, RuntimeError):
                    self.staff()  # interrupted; others may count on that worker
                    raise
                if not self.cell.value.workers:
                    raise
                return

    def let_thread_go(self, thread: threading.Thread | None, error: BaseException) -> None:
        """A thread was to be started and was not."""
        if thread is not None:
            self.threads.pop(thread, None)
        left = self.cell.update(_state.leave)
        if left is not None and not left.workers and isinstance(error, RuntimeError):
            # What others have queued meanwhile has nobody to run it.
            self.hopeless = lambda: ("failed", RuntimeError(f"no worker could start: {error}"))
            self.give_up()

    def give_up(self) -> None:
        """Resolve what waits if nothing will run it (E3)."""
        state = self.cell.value
        if self.hopeless is not None and (state.mode > Mode.CLOSING or not state.workers):
            for work in list(self.unresolved):
                if state.mode > Mode.CLOSING or not work.on_loop:
                    work.end(*self.hopeless())

    def run(self, work: Work, idle: int = 0, here: bool = False) -> None:
        """Run ``work`` unless somebody else does or did.

        ``idle`` is 1 in an idle worker. ``here``: by the one who sends it, without waiting.
        """
        mark = ("run", threading.get_ident())
        change = _state.START - idle * _state.IDLE
        counted = here  # with all that this thread runs
        try:
            if not work.claim(mark):
                if (owner := work.owner) is not None and owner[0] != "run":
                    self.pass_on(work)  # its turn came after it was resolved unrun
                return
            if here:
                self.unresolved[work] = None
            if not counted:
                self.count(change)
                counted = True
            self.run_claimed(work, mark, idle)
        except BaseException:
            if work.owner is mark and not work.done():  # interrupted on the way there
                if not counted:
                    self.count(change)
                self.run_claimed(work, mark, idle)
            raise
        finally:
            del work  # see drop_frame

    def run_claimed(self, work: Work, mark: Any, idle: int) -> None:
        """Run what this thread has claimed and counted as running (E2)."""
        error: BaseException | None
        try:
            work.begin()
            result, error = work.perform()
        except BaseException as interrupt:
            result, error = None, interrupt
        skipped = error.__class__ is Skipped
        ended = "completed" if error is None else "cancelled" if skipped else "failed"
        phase = CANCELLED_AND_NOTIFIED if skipped else FINISHED
        if skipped:
            error = None
        counted = False
        try:
            if work.owner is not mark:
                return  # forked meanwhile: the future is the parent's
            work.forget()
            # Idle before the future is done: its callbacks may send again, and that send should
            # find this worker instead of starting another.
            self.count(_state.FINISH[ended] + idle * _state.IDLE)
            counted = True
            work.settle(result, error, phase)
            self.wrap_up(work)
        except BaseException:  # interrupted, or by a callback: what is left is done again
            if work.owner is mark:
                if not counted:
                    self.count(_state.FINISH[ended] + idle * _state.IDLE)
                work.settle(result, error, phase)
                self.wrap_up(work)
            raise
        finally:
            del work, error  # see drop_frame

    def wrap_up(self, work: Work) -> None:
        """After ``work`` was resolved by the one who ran it."""
        self.release(work)
        if work.turn is not None:
            self.pass_on(work)
        if self.cell.interrupts:
            self.cell.raise_interrupt()

    def count(self, change: int) -> None:
        """Change the numbers; raises only if interrupted before that (E2)."""
        if self.cell.add(change) is not None:
            return
        self.cell.update(_state.shift, change, self.limit)
        try:
            self.let_go()
        except BaseException as interrupt:
            self.cell.defer(interrupt)
            self.let_go()

    def let_go(self) -> None:
        """Closing, and nothing is left: the threads may go."""
        state = self.cell.value
        if state.mode and not state.pending:
            self.queue.put(None)
        if state.mode and state.quiet:
            for loop in self.loops:
                loop.stop()

    def count_ended(self, work: Any, counter: str) -> None:
        """Count one that ended without having run."""
        work.forget()
        self.count(_state.RESOLVE[counter] - work.on_loop * _state.FOR_LOOP)

    def wrap_up_unrun(self, work: Any) -> None:
        """After ``work`` was resolved without having run; its turn passes when it comes."""
        self.release(work)
        if self.cell.interrupts:
            self.cell.raise_interrupt()

    def needed_for(self, work: Any) -> "list[Any]":
        """What must end before ``work`` can have: what stands before it in its lane, and itself."""
        return with_those_before(work)

    def release(self, work: Any) -> None:
        self.unresolved.pop(work, None)

    def pass_on(self, work: Work) -> None:
        """End the turn of ``work``, if it has one, and queue the one whose turn comes."""
        turn = work.turn
        if turn is not None and turn is not PASSED:
            following = turn.pass_on()
            if following is not None:
                self.queue_again(following)
            work.turn = PASSED

    def break_down(self, error: BaseException) -> None:
        """An initializer failed: take no more work and fail what waits."""
        why = f"the initializer of pool {self.name!r} failed: {error!r}"
        self.hopeless = lambda: ("failed", BrokenThreadPool(why))
        self.cell.update(_state.turn, Mode.BROKEN)
        self.give_up()
        self.let_go()
        log.critical("the initializer of pool %r failed", self.name, exc_info=error)

    # -- Waiting --

    def await_done(self, work: Any, timeout: float | None) -> None:
        """Wait until ``work`` is done; a worker runs what it would wait for, if it has not started.

        Raises ``TimeoutError``, and ``RuntimeError`` for a wait that cannot end. Few frames deep:
        deliveries that wait for deliveries nest on one stack.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        me = threading.get_ident()
        if me not in self.idents:
            if timeout is None or timeout > 0:
                self.refuse_on_loop()
            work.doze(timeout)
            return
        for before in with_those_before(work):
            if before.owner is None:
                refuse_if_deep()
                self.run(before)
            if not before.done():
                left = None if deadline is None else deadline - time.monotonic()
                if not self.sleep([before], queue.SimpleQueue(), True, left):
                    raise TimeoutError("the delivery is not done yet; it goes on")
        del work, before  # see drop_frame

    def sleep(
        self,
        works: "Sequence[Any]",
        woken: "queue.SimpleQueue[None]",
        every: bool,
        timeout: float | None,
    ) -> bool:
        """In a worker: wait until one of ``works`` has ended, or something is put into ``woken``.

        Others run these; ``every``: who waits needs all of them, else any. False when the time is
        up. Raises ``RuntimeError`` if they can only end after who waits.
        """
        refuse_if_critical("a worker")
        me = threading.get_ident()
        try:
            _asleep[me] = (works, every)
            if works and (any if every else all)(_only_after(work, me) for work in works):
                raise RuntimeError(_CIRCLE)
            for work in works:
                work.wake_at_end(woken)
            if not any(work.done() for work in works):
                woken.get(timeout=None if timeout is None else max(0.0, timeout))
        except queue.Empty:
            return False
        finally:
            _asleep.pop(me, None)
            for work in works:
                work.let_sleep(woken)
        return True

    def works_here(self) -> bool:
        """Whether this thread is a worker, or a caller that runs deliveries."""
        return threading.get_ident() in self.idents

    def help(self, work: Any) -> None:
        """In a worker that is about to wait for ``work``: run it, as far as it can start now."""
        if self.works_here():
            for before in with_those_before(work):
                self.run(before)
                if not before.done():
                    return

    def on_loop(self) -> bool:
        """Whether this is the event loop's thread."""
        return any(loop.thread.ident == threading.get_ident() for loop in self.loops)

    def refuse_on_loop(self) -> None:
        """Raise on the event loop's thread, which a wait would block, and with it all its work."""
        if self.on_loop():
            raise RuntimeError(
                f"cannot wait on the event loop of pool {self.name!r}; use await, or wait in "
                "another thread with asyncio.to_thread"
            )

    def drain(self, timeout: float | None) -> bool:
        """Wait until nothing is pending or running and all that was is resolved."""
        refuse_if_critical("drain()")
        deadline = None if timeout is None else time.monotonic() + timeout
        woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        idler = functools.partial(woken.put, None)
        cell = self.cell
        try:
            while self.cell is cell and cell.update(_state.await_quiet, idler) is not None:
                cell.raise_interrupt()
                woken.get(timeout=left_until(deadline))
            # Counted as ended is one step before resolved.
            for work in list(self.unresolved):
                work.doze(left_until(deadline))
            return True
        except (queue.Empty, TimeoutError):
            return False
        finally:
            try:
                cell.update(_state.forget, idler)
            except BaseException:
                cell.update(_state.forget, idler)
                raise
            cell.raise_interrupt()

    def all_threads(self) -> list[threading.Thread]:
        """The threads that have started and not ended."""
        threads = [*self.threads, *(loop.thread for loop in self.loops)]
        return [thread for thread in threads if thread.ident is not None]

    def close(self) -> None:
        """Take no more work; what was accepted still runs, and then the workers go."""
        self.cell.update(_state.turn, Mode.CLOSING)
        self.let_go()
        self.log_drops()
        self.cell.raise_interrupt()

    def lose(self, why: str) -> list[Work]:
        """Resolve what waits with ``DeliveryLost``; return what waited or still runs."""
        self.hopeless = lambda: ("cancelled", DeliveryLost(why))
        self.cell.update(_state.turn, Mode.CLOSED)
        left = [work for work in list(self.unresolved) if not work.done()]
        self.give_up()
        self.log_drops()
        self.let_go()
        return left

    def restart(self) -> None:
        """In a forked child: start empty; what the parent's threads had in hand is lost here."""
        _asleep.clear()
        for loop in self.loops:
            loop.abandon()
        lost, state = list(self.unresolved), self.cell.value
        self.start_over(State(mode=state.mode))
        for work in lost:
            if not work.done():
                work.forsake(_lost_by_fork())
            work.forget()
            work.turn = None
        # The thread that forked may itself wait, below the signal handler that did it.
        for wake in (*(blocked.wake for blocked in state.blocked), *state.idlers):
            wake()


def _work(engine_in: list[Engine], contract: list[bool]) -> None:
    """What a worker thread does."""
    contract.append(True)
    if not contract[0]:
        return
    engine = engine_in.pop()
    me = threading.get_ident()
    thread = threading.current_thread()
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
        while True:
            work = work_queue.get()
            if work is None:
                after = engine.cell.update(_state.retire)
                if after is not None:
                    work_queue.put(None)  # for the next of us
                    return
                continue
            try:
                engine.run(work, 1)
            except BaseException:
                log.exception("a callback of a delivery in pool %r raised", engine.name)
            del work  # an idle worker keeps nothing alive
            if engine.queue is not work_queue:
                return  # this is a forked child, which starts its own workers
    finally:
        engine.idents.pop(me, None)
        engine.threads.pop(thread, None)


def _admitted(works: "Sequence[Work]") -> int:
    """What the numbers grow by when ``works`` are admitted."""
    admitted = len(works) * _state.ADMITTED
    if works[-1].on_loop:  # where any is, the last one is
        admitted += sum(work.on_loop for work in works) * _state.FOR_LOOP
    return admitted


def _lost_by_fork() -> DeliveryLost:
    return DeliveryLost(f"it belongs to the parent of process {os.getpid()}")


@contextmanager
def awaiting(work: Any, me: int) -> Iterator[None]:
    """Around an await for ``work`` by the async delivery that owns things as ``me``."""
    _asleep[me] = ([work], True)
    try:
        refuse_circles(work, me)
        yield
    finally:
        _asleep.pop(me, None)


def refuse_circles(work: Any, me: int) -> None:
    """Raise if ``work``, or what stands before it in its lane, can only end after who waits."""
    if any(_only_after(before, me) for before in with_those_before(work)):
        raise RuntimeError(_CIRCLE)


def with_those_before(work: Any) -> "list[Any]":
    """What must end for ``work`` to have ended: what stands before it in its lane, and itself."""
    return [work] if work.turn is None else [*work.turn.standing_before(), work]


def _only_after(work: Any, me: int, seen: tuple[int, ...] = ()) -> bool:
    """Whether ``work`` can only end after ``me`` goes on: runs there, or waits for what does."""
    owner = work.owner
    if owner is None or owner[1] in seen or work.done():
        return False
    if owner[1] == me:
        return True
    others, every = _asleep.get(owner[1], ((), True))
    seen = (*seen, owner[1])
    waits = [_only_after(other, me, seen) for other in others]
    return any(waits) if every else bool(waits) and all(waits)


def _loop_runs_here() -> bool:
    asyncio = sys.modules.get("asyncio")  # where it is not imported, no loop runs
    return asyncio is not None and asyncio._get_running_loop() is not None
