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
    E3  A future is in ``unresolved`` from before it can be found in the queue until it is done.
    E4  Workers know the engine, never the pool in front of it: a pool nobody refers to can close.

Fork: in the child every value here is made anew by ``restart``; a thread that finds its claim
replaced (``future.owner``) leaves all counts alone.
"""

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
from tsignals._future import CANCELLED_AND_NOTIFIED, PoolFuture, critical, refuse_if_critical
from tsignals._lanes import Lane, Turn, join
from tsignals._receiver import identity
from tsignals._state import Blocked, Cell, Mode, State

log = logging.getLogger("tsignals")

Around = Callable[[], AbstractContextManager[Any]]
Initializer = Callable[..., object]

_asleep: dict[int, PoolFuture] = {}
"""By thread: the running future that a worker waits for, to find circles of such waits."""


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

    It holds the future, which holds the error, which would hold the frame: a cycle.
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
        self.by_age: deque[Work] = deque()  # overflow="drop_oldest" only
        self.threads: dict[threading.Thread, None] = {}
        self.idents: dict[int, None] = {}  # of the worker threads
        self.loops: list[Any] = []  # the first is the event loop's thread; see _loop
        # Of what is pending, for the event loop: no worker need be hired for it. Never too many:
        # they enter after they were counted, and leave before they no longer are.
        self.for_loop: dict[Work, None] = {}
        self.drops_logged = 0.0

    # -- Taking work --

    def accept(self, works: "Sequence[Work]") -> None:
        """Take ``works`` as a whole, or raise and take none of them.

        Raises ``PoolClosed``, ``BrokenThreadPool``, ``QueueFull``, and ``RuntimeError`` when no
        thread can be started to run them.
        """
        try:
            while not self.enter(works):
                self.refuse_if_not_open()
                if self.overflow == "block":
                    if self.block(works):
                        return
                elif self.overflow == "raise":
                    raise QueueFull(
                        f"cannot deliver: {self.cell.value.pending} deliveries wait in pool "
                        f"{self.name!r} (max_pending={self.limit}); nothing was queued"
                    )
                elif self.overflow == "caller_runs":
                    self.run_here(works)
                    return
                elif self.overflow == "drop_newest" or not self.drop_oldest():
                    self.drop(works)
                    return
        finally:
            if self.cell.interrupts:
                self.cell.raise_interrupt()

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
    def enter(self, works: "Sequence[Work]") -> bool:
        """Admit ``works`` and queue them; False when there is no room or somebody waits for it."""
        numbers = self.cell.admit(len(works), self.limit)
        if numbers is None:
            return False
        self.queue_admitted(works, numbers)
        return True

    @critical
    def enter_over(self, works: "Sequence[Work]") -> None:
        """The same over the limit."""
        self.cell.update(_state.admit_over, len(works))
        self.queue_admitted(works, self.cell.value.numbers)

    @critical
    def queue_admitted(self, works: "Sequence[Work]", numbers: int) -> None:
        try:
            if len(self.threads) < self.max_workers and _state.more_wait_than_idle(numbers):
                self.staff(works)
        except BaseException:
            for work in works:
                self.for_loop.pop(work, None)
            self.cell.update(_state.withdraw, len(works), self.limit)
            raise
        try:
            self.publish(works)
        except BaseException:  # interrupted: E1
            self.publish(works)
            for work in works:
                if work.done():
                    self.release(work)
            raise

    def publish(self, works: "Sequence[Work]") -> None:
        now = time.perf_counter()
        put = self.queue.put
        unresolved = self.unresolved
        remember = self.overflow == "drop_oldest"
        for_loop: list[Work] = []
        for work in works:
            work.queued_at = now
            unresolved[work] = None
            if remember:
                self.remember_age(work)
            if work.on_loop:
                put = for_loop.append
            if work.ordered_receiver is None:
                put(work)
            elif join(self.lanes, work.ordered_receiver, work).before is None:
                put(work)
        if for_loop:
            self.loops[0].take(for_loop)

    # -- When the queue is full --

    def block(self, works: "Sequence[Work]") -> bool:
        """Wait for room; False when it should be tried again from the start."""
        if threading.get_ident() in self.idents:
            self.run_here(works)
            return True
        if _loop_runs_here():
            raise QueueFull(
                f"cannot wait for room in pool {self.name!r} on a thread that runs an event loop; "
                "nothing was queued"
            )
        refuse_if_critical("a full queue")
        woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        blocked = Blocked(len(works), functools.partial(woken.put, None))
        timeout = self.block_timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        in_line = False
        try:
            if self.cell.update(_state.block, blocked, self.limit) is None:
                return False
            in_line = True
            while blocked in (state := self.cell.value).blocked:
                if state.mode:
                    self.refuse_if_not_open()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise queue.Empty
                woken.get(timeout=left)
            self.cell.raise_interrupt()
        except BaseException as error:
            if in_line and self.cell.update(_state.unblock, blocked, self.limit) is None:
                if isinstance(error, (queue.Empty, PoolClosed, BrokenThreadPool)):
                    # Admitted at the last moment.
                    self.queue_admitted(works, self.cell.value.numbers)
                    return True
                self.cell.update(_state.withdraw, len(works), self.limit)
            if isinstance(error, queue.Empty):
                raise QueueFull(
                    f"cannot deliver: pool {self.name!r} had no room for {timeout} seconds "
                    f"(max_pending={self.limit}); nothing was queued"
                ) from None
            raise
        self.queue_admitted(works, self.cell.value.numbers)
        return True

    def run_here(self, works: "Sequence[Work]") -> None:
        """Run ``works`` in the calling thread, each in its lane's turn.

        Async ones run on the pool's event loop all the same, and the thread waits for them.
        """
        if works[-1].on_loop and _loop_runs_here():
            raise QueueFull(
                f"cannot wait for async receivers, for which pool {self.name!r} has no room, on a "
                "thread that runs an event loop; nothing was queued"
            )
        interrupt: BaseException | None = None
        for work in works:
            if work.ordered_receiver is not None:
                if self.runs_lane_of(work.ordered_receiver):
                    # Its turn can only come after this call has returned.
                    self.enter_over([work])
                    continue
                join(self.lanes, work.ordered_receiver, work)
            work.queued_at = time.perf_counter()
            self.unresolved[work] = None
            try:
                for before in _before(work):
                    self.run(before)
                    self.await_running(before, threading.get_ident(), None)
            except RuntimeError:  # they wait for this thread
                self.enter_over([work])
                continue
            mark = ("run", threading.get_ident())
            work.claim(mark)
            self.count(_state.START_AT_ONCE)
            try:
                self.run_claimed(work, mark, 0)
            except BaseException as error:
                interrupt = error
            if isinstance(work._exception, KeyboardInterrupt):
                interrupt = work._exception
        if interrupt is not None:
            raise interrupt

    def runs_lane_of(self, receiver: object) -> bool:
        """Whether this thread is inside a delivery of that receiver's lane."""
        me = ("run", threading.get_ident())
        who = identity(receiver)
        return any(
            work.owner == me and identity(work.ordered_receiver) == who
            for work in list(self.unresolved)
        )

    def drop(self, works: "Sequence[Work]") -> None:
        self.cell.update(_state.drop_new, len(works))
        for work in works:
            work.forget()
            if work.claim(("dropped", threading.get_ident())):
                work.settle(None, self._dropped())
        self.note_dropped(len(works))

    def drop_oldest(self) -> bool:
        """Drop the oldest delivery that waits; False when none does."""
        while True:
            try:
                work = self.by_age.popleft()
            except IndexError:
                return False
            if work.end("dropped", self._dropped()):
                self.note_dropped(1)
                return True

    def remember_age(self, work: Work) -> None:
        self.by_age.append(work)
        while self.by_age and self.by_age[0].owner is not None:
            try:
                first = self.by_age.popleft()
            except IndexError:
                break
            if first.owner is None:  # another thread took the one we looked at
                self.by_age.appendleft(first)
                break

    def _dropped(self) -> DeliveryDropped:
        return DeliveryDropped(
            f"pool {self.name!r} was full (max_pending={self.limit}, overflow={self.overflow!r})"
        )

    def note_dropped(self, count: int) -> None:
        """Log drops at most once a second, with their number."""
        self.drops.append(count)
        now = time.monotonic()
        if now - self.drops_logged >= 1:
            self.drops_logged = now
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

    def staff(self, works: "Sequence[Work]") -> None:
        """Start a worker for each delivery that waits for one, as far as that is allowed.

        Raises what starting a thread raises if there is no worker at all.
        """
        for work in works:
            if work.on_loop:
                self.for_loop[work] = None
                if work.owner is not None:  # resolved already
                    self.for_loop.pop(work, None)
        while self.cell.update(_state.hire, self.max_workers, self.for_loop) is not None:
            contract: list[bool] = []
            thread = threading.Thread(
                target=_work, args=(self, contract), name=self._next_name(), daemon=True
            )
            try:
                self.threads[thread] = None
                thread.start()
            except BaseException as error:
                # The thread may start yet; the first entry decides whether it is a worker.
                contract.append(False)
                if not contract[0]:
                    self.threads.pop(thread, None)
                    self.cell.update(_state.leave)
                if isinstance(error, RuntimeError) and self.cell.value.workers:
                    return
                raise

    def _next_name(self) -> str:
        return f"{self.name}_{len(self.threads)}"

    def run(self, work: Work, idle: int = 0) -> None:
        """Run ``work`` unless somebody else does or did; ``idle`` is 1 in an idle worker."""
        mark = ("run", threading.get_ident())
        if work.claim(mark):
            self.count(_state.START - idle * _state.IDLE)
            self.run_claimed(work, mark, idle)
        elif (owner := work.owner) is not None and owner[0] != "run":
            self.pass_on(work)  # its turn came after it was resolved unrun

    def run_claimed(self, work: Work, mark: Any, idle: int) -> None:
        """Run what this thread has claimed and counted as running (E2)."""
        try:
            work.begin()
            result, error = work.perform()
        except BaseException as interrupt:
            result, error = None, interrupt
        if work.owner is not mark:
            return  # forked meanwhile: the future is the parent's
        work.forget()
        skipped = error is not None and isinstance(error, Skipped)
        try:
            # Idle before the future is done: its callbacks may send again, and that send should
            # find this worker instead of starting another.
            ended = "completed" if error is None else "cancelled" if skipped else "failed"
            self.count(_state.FINISH[ended] + idle * _state.IDLE)
        finally:
            try:
                if skipped:
                    work.settle(None, None, CANCELLED_AND_NOTIFIED)
                else:
                    work.settle(result, error)
            finally:
                del error
                self.release(work)
                self.pass_on(work)

    def count(self, change: int) -> None:
        """Change the numbers, even if this thread is interrupted meanwhile (E2)."""
        try:
            if self.cell.add(change) is not None:
                return
            self.cell.update(_state.shift, change, self.limit)
        except BaseException:  # before the change was made: both say so by raising
            self.cell.update(_state.shift, change, self.limit)
            self.let_go()
            raise
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
        self.count(_state.RESOLVE[counter])

    def release(self, work: Any) -> None:
        self.unresolved.pop(work, None)

    def pass_on(self, work: Work) -> None:
        """End the turn of ``work``, if it has one, and queue the one whose turn comes."""
        turn = work.turn
        if turn is not None:
            following = turn.pass_on()
            work.turn = None
            if following is not None and following.on_loop:
                self.loops[0].take([following])
            elif following is not None:
                self.queue.put(following)

    def break_down(self, error: BaseException) -> None:
        """An initializer failed: take no more work and fail what waits."""
        log.critical("the initializer of pool %r failed", self.name, exc_info=error)
        self.cell.update(_state.turn, Mode.BROKEN)
        for work in list(self.unresolved):
            work.end(
                "failed",
                BrokenThreadPool(f"the initializer of pool {self.name!r} failed: {error!r}"),
            )
        self.let_go()

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
        for before in (work,) if work.turn is None else (*_before(work), work):
            if before.owner is None:
                mark = ("run", me)
                if before.claim(mark):
                    self.count(_state.START)
                    self.run_claimed(before, mark, 0)
            self.await_running(before, me, deadline)

    def await_running(self, work: Any, me: int, deadline: float | None) -> None:
        """Wait for what another thread runs."""
        if work.done():
            return
        _asleep[me] = work
        try:
            _refuse_circle(work, me)
            work.doze(None if deadline is None else deadline - time.monotonic())
        finally:
            _asleep.pop(me, None)

    def help(self, work: Any) -> None:
        """In a worker that may be about to wait for ``work``: run it, as far as it can start now."""
        if threading.get_ident() in self.idents:
            for before in (*_before(work), work):
                self.run(before)
                if not before.done():
                    return

    def refuse_endless_wait(self, work: Any) -> None:
        """Raise if this thread, a worker, runs what ``work`` waits for."""
        me = threading.get_ident()
        self.refuse_on_loop()
        if me in self.idents:
            for before in [*_before(work), work]:
                if before.owner is not None:
                    _refuse_circle(before, me)

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
        try:
            while True:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if self.cell.update(_state.await_quiet, idler) is not None:
                    woken.get(timeout=left)
                    continue
                # Counted as ended is one step before resolved.
                for work in list(self.unresolved):
                    work.doze(left)
                if self.cell.value.quiet:
                    return True
        except (queue.Empty, TimeoutError):
            return False
        finally:
            self.cell.update(_state.forget, idler)
            self.cell.raise_interrupt()

    def close(self) -> None:
        """Take no more work; what was accepted still runs, and then the workers go."""
        self.cell.update(_state.turn, Mode.CLOSING)
        self.let_go()
        self.log_drops()
        self.cell.raise_interrupt()

    def lose(self, why: str) -> list[Work]:
        """Resolve what waits with ``DeliveryLost``; return what waited or still runs."""
        self.cell.update(_state.turn, Mode.CLOSED)
        left = list(self.unresolved)
        for work in left:
            work.end("cancelled", DeliveryLost(why))
        self.log_drops()
        self.let_go()
        return left

    def restart(self) -> None:
        """In a forked child: start empty; what the parent's threads had in hand is lost here."""
        _asleep.clear()
        for loop in self.loops:
            loop.abandon()
        lost = list(self.unresolved)
        mode = self.cell.value.mode
        self.start_over(State(mode=mode))
        for work in lost:
            work.forsake(DeliveryLost(f"it belongs to the parent of process {os.getpid()}"))
            work.forget()
            work.turn = None


def _work(engine: Engine, contract: list[bool]) -> None:
    """What a worker thread does."""
    contract.append(True)
    if not contract[0]:
        return
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


def _before(work: Any) -> "list[Any]":
    turn = work.turn
    return [] if turn is None else [before.future for before in turn.standing_before()]


def _refuse_circle(work: PoolFuture, me: int) -> None:
    """Raise if the thread that runs ``work`` is this one, or waits for what this one runs."""
    seen = set()
    waited_for: PoolFuture | None = work
    while waited_for is not None and not waited_for.done():
        owner = waited_for.owner
        if owner is None or owner in seen:
            return
        if owner[1] == me:
            raise RuntimeError(
                "cannot wait for this delivery here: it can only run after the one that waits "
                "(they share an ordered receiver's lane, or wait for each other)"
            )
        seen.add(owner)
        waited_for = _asleep.get(owner[1])


def _loop_runs_here() -> bool:
    asyncio = sys.modules.get("asyncio")  # where it is not imported, no loop runs
    return asyncio is not None and asyncio._get_running_loop() is not None
