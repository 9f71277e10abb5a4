"""A pool's inside: what it takes, what it does when it is full, and how it closes.

Knows no signals. Under it are its workers (``_workers``) and the waits among them (``_waits``).

Lock
    None. Numbers, mode and the line of blocked senders are one value (``_state``). What is admitted
    is put into the queue (or into a lane, which does that when its turn comes) by the thread that
    admitted it; interrupted in between, it does both again, or takes both back.
"""

import contextlib
import functools
import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures.thread import BrokenThreadPool
from time import perf_counter
from typing import Any

from tsignals import _state
from tsignals._critical import critical, foreign, refuse_if_critical, refuse_if_deep
from tsignals._errors import DeliveryDropped, DeliveryLost, PoolClosed, QueueFull
from tsignals._future import Mark, left_until
from tsignals._lanes import join
from tsignals._process import notice, page
from tsignals._state import Blocked, Cell, Mode, State
from tsignals._telling import log_safely
from tsignals._waits import Waits, forget_sleepers, loop_runs_here
from tsignals._work import Entry, Work, growth
from tsignals._workers import Stamp

_MOMENTS = [0.0] * 10 + [0.001] * 50
"""Seconds that a sender gives another thread to finish its step, before it drops what is new."""


class Engine(Waits):
    """A pool's queue and workers; ``WorkerPool`` documents the arguments."""

    def accept(
        self,
        works: "Sequence[Work]",
        deep: bool = False,
        admit: "Callable[[Sequence[Work], int, Cell], bool] | None" = None,
    ) -> None:
        """Take ``works`` as a whole, or raise and take none of them.

        ``deep``: some are ordered, or for the event loop; to queue these goes deeper. ``admit``:
        as for ``take``. Raises ``PoolClosed``, ``BrokenThreadPool``, ``QueueFull``, and
        ``RuntimeError`` when no thread can be started to run them.
        """
        if deep:
            refuse_if_deep()
        self.take(works, growth(works), admit=admit)
        if self.drops:
            self.note_drops()

    @critical
    def take(
        self,
        works: "Sequence[Work]",
        admitted: int,
        together: Any = None,
        admit: "Callable[[Sequence[Work], int, Cell], bool] | None" = None,
        undo: Callable[..., State] = _state.withdraw,
        kept: bool = False,
    ) -> None:
        """Have ``works`` counted, and then queue them; both or neither.

        ``admitted`` is what the numbers grow by.
        ``together`` is the fan-out that goes into the queue for all of them.
        ``admit`` counts them, or says that there is nothing to queue; ``None``: ``find_room``.
        ``undo`` takes the former back.
        ``kept``: ordered ones are not queued yet, for the caller runs them when their turn comes.
        """
        if not page[0]:
            notice()
        cell = self.cell  # all the counting is done in this one, also in a child forked meanwhile
        counted = False
        few = len(self.threads) < self.max_workers
        if few and cell.needs_workers(admitted):
            refuse_if_deep()  # to start one, or to take all back, goes deeper than the rest
        try:
            # What a send mostly comes to is spelled out here: it is a matter of calls.
            counted = admit is None and cell.admit(admitted, len(works))
            if not counted:
                if together is not None:
                    works = [*works]  # those of a fan-out go from its list as they end
                counted = (admit or self.find_room)(works, admitted, cell)
            if counted:
                if few and not kept and cell.needs_workers():
                    self.staff()
                if together is None:
                    self.publish(works, kept)
                else:
                    together.queued_at = perf_counter()
                    self.unresolved[together] = None
                    self.queue.put(together)
                if self.hopeless is not None:
                    self.give_up()
        except BaseException:
            if counted:
                self.make_good(works if together is None else [together], admitted, undo, cell)
            raise
        finally:
            if self.cell is not cell:
                self.disown(works if together is None else together._futures())
            if cell.interrupts:
                cell.raise_interrupt()

    def find_room(self, works: "Sequence[Work]", admitted: int, cell: Cell) -> bool:
        """Admit ``works``; False where they are dealt with otherwise: run here, or dropped."""
        while not cell.admit(admitted, len(works)):
            refuse_if_deep()
            self.refuse_if_not_open(cell)
            if self.overflow == "block" and not self.works_here():
                if self.stand_in_line(admitted, cell):
                    return True
            elif self.overflow == "raise":
                raise QueueFull(
                    f"cannot deliver: {cell.value.pending} deliveries wait in pool "
                    f"{self.name!r} (max_pending={self.limit}); nothing was queued"
                )
            elif self.overflow in ("block", "caller_runs"):
                self.run_here(works, cell)
                return False
            elif (
                self.overflow == "drop_newest"
                or not cell.value.may_fit(len(works), self.limit)
                or not (self.drop_oldest() or self.comes_free(len(works), cell))
            ):
                self.drop(works, cell)
                return False
        return True

    def put_back(self, works: "Sequence[Work]", admitted: int, cell: Cell) -> bool:
        """Have ``works`` that were to run here wait after all, over the limit."""
        cell.update(_state.put_back, admitted)
        return True

    def refuse_if_not_open(self, cell: Cell | None = None) -> None:
        mode = (cell or self.cell).value.mode
        if mode is Mode.BROKEN:
            raise BrokenThreadPool(f"cannot deliver: the initializer of pool {self.name!r} failed")
        if mode:
            raise PoolClosed(
                f"cannot deliver in the background: pool {self.name!r} is closed; "
                "use send() or another executor"
            )

    @critical
    def make_good(
        self, entries: "Sequence[Entry]", admitted: int, undo: Callable[..., State], cell: Cell
    ) -> None:
        """After an interruption: all of ``entries`` are queued, or none of them stays admitted."""
        # E3, and in this order: between the two looks it may be run, and leave.
        if entries[0] not in self.unresolved and entries[0]._oldest() is not None:
            cell.update(undo, admitted, self.limit)
            self.let_go()
            return
        self.publish(entries)  # E1
        for entry in entries:
            left = entry._futures()
            for work in left:
                if work.done():
                    self.release(work)
            if not left:  # all of it had run, and it had left
                self.unresolved.pop(entry, None)

    def publish(self, entries: "Sequence[Entry]", kept: bool = False) -> None:
        now = perf_counter()
        put: Callable[[Entry], object] = self.queue.put
        unresolved = self.unresolved
        for_loop: list[Entry] = []
        for work in entries:
            work._mark_queued(now)
            unresolved[work] = None
            if work._on_loop:
                put = for_loop.append
            if work._ordered_receiver is None:
                put(work)
            elif join(self.lanes, work._ordered_receiver, work, kept).before is None:
                if not kept:
                    put(work)
                self.pass_over(work)  # it may have been resolved before it had a turn
        if for_loop:
            self.loops[0].take(for_loop)

    def disown(self, works: "Sequence[Work]") -> None:
        """The process was forked in the middle of sending, and this is the child.

        Here the works end as those that were queued before: they are the parent's.
        """
        for work in works:
            if not work.done():
                work._forsake(_lost_by_fork())
            self.release(work)

    def stand_in_line(self, admitted: int, cell: Cell) -> bool:
        """Wait for room until admitted; False where there was no need to wait."""
        if loop_runs_here():
            raise QueueFull(
                f"cannot wait for room in pool {self.name!r} on a thread that runs an event loop; "
                "nothing was queued"
            )
        refuse_if_critical("a full queue", below=Engine.take)
        woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        blocked = Blocked(admitted, functools.partial(woken.put, None))
        timeout = self.block_timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        in_line = None
        try:
            in_line = cell.update(_state.block, blocked, self.limit)
            if in_line is None:
                return False
            while True:
                cell.raise_interrupt()
                state = cell.value
                if blocked not in state.blocked or self.cell is not cell:  # admitted, or forked
                    return True
                left = left_until(deadline)
                if state.mode or left == 0:
                    if cell.update(_state.unblock, blocked, self.limit) is None:
                        return True  # admitted at the last moment
                    in_line = None
                    self.refuse_if_not_open(cell)
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

    @foreign
    def run_here(self, works: "Sequence[Work]", cell: Cell) -> None:
        """Run ``works`` in the calling thread, which is a worker of this pool meanwhile.

        Async ones run on the pool's event loop all the same, and the thread waits for them.
        """
        if works[-1]._on_loop and loop_runs_here():
            raise QueueFull(
                f"cannot wait for async receivers, for which pool {self.name!r} has no room, on a "
                "thread that runs an event loop; nothing was queued"
            )
        me = threading.get_ident()
        guest = me not in self.idents
        refuse_if_deep()
        started = None
        try:
            self.idents[me] = None  # before the start is counted: no handler may wait for its end
            # As a whole, or a pool that is closed meanwhile would end before the last has run.
            while (started := cell.update(_state.start_here, len(works))) is None:
                self.refuse_if_not_open(cell)
            for work in works:
                if self.cell is not cell:
                    return  # forked meanwhile
                if work._ordered_receiver is not None:
                    self.run_in_turn(work)
                else:
                    work._mark_queued(perf_counter())
                    self.run(work, here=cell)
                if work.done() and issubclass(type(work._exception), KeyboardInterrupt):
                    raise work._exception  # type: ignore[misc]
        except BaseException:
            # Interrupted: the workers do the rest.
            rest = [
                work
                for work in works
                if (work._ordered_receiver is None or work not in self.unresolved)
                and work._owner is None
            ]
            if started is not None and rest and self.cell is cell:
                self.leave_to_workers(rest, cell)
            raise
        finally:
            if guest:
                self.idents.pop(me, None)

    def leave_to_workers(self, works: "Sequence[Work]", cell: Cell) -> None:
        """Queue what was to run here; what nobody can run either ends with the reason."""
        try:
            self.take(works, growth(works), admit=self.put_back, undo=_state.take_up)
        except RuntimeError as error:  # no thread can be started
            for work in works:
                mark = ("failed", threading.get_ident())
                if work._claim(mark):
                    work._forget()
                    self.count(_state.FINISH["failed"], cell)
                    work._settle(None, error)
                    self.wrap_up(work)

    def run_in_turn(self, work: Work) -> None:
        """Run ``work`` in the calling thread, after all that stands before it in its lane.

        Where that waits for this thread, leave it to the workers.
        """
        try:
            self.take(
                [work],
                growth([work]),
                admit=self.put_back,
                undo=_state.take_up,
                kept=not work._on_loop,
            )
            work._let_go()  # or this thread would wait for itself
            with contextlib.suppress(RuntimeError):
                self.await_done(work, None)
            self.keep_no_longer(work)
        except BaseException:
            self.keep_no_longer(work)
            raise

    def keep_no_longer(self, work: Work) -> None:
        """Leave ``work`` to the workers, if nobody has run it yet."""
        if (turn := work._turn) is not None and work._owner is None:
            turn.kept = False
            if turn.before is None:
                self.queue_again(work)
            if not work._on_loop:
                self.staff()

    def drop(self, works: "Sequence[Work]", cell: Cell) -> None:
        mark = ("dropped", threading.get_ident())
        cell.update(_state.drop_new, len(works))
        try:
            self.drop_counted(works, mark)
        except BaseException:  # interrupted, or by a callback: what is left is done again
            self.drop_counted(works, mark)
            raise
        self.drops.append(len(works))

    def drop_counted(self, works: "Sequence[Work]", mark: Mark) -> None:
        for work in works:
            work._forget()
            if work._claim(mark):
                work._settle(None, self._dropped())
                self.release(work)

    def drop_oldest(self) -> bool:
        """Drop the oldest delivery that waits; False when none does."""
        while (work := self.oldest()) is not None:
            if work._end("dropped", self._dropped()):
                self.drops.append(1)
                return True
        return False

    def oldest(self) -> Work | None:
        """Of what nobody runs or has resolved, what came first (E3)."""
        # The start of ``unresolved`` is full of holes, which take long to pass. So all that is in
        # there is looked up at once, and serves until it has ended.
        elders, looked_up = self.elders, False
        while True:
            try:
                elder = elders.popleft()
            except IndexError:
                if looked_up:
                    return None
                looked_up = True
                elders.extend(map(weakref.ref, list(self.unresolved)))
                continue
            entry = elder()
            work = None if entry is None else entry._oldest()
            if work is not None:
                elders.appendleft(elder)  # it may not be dropped, or have more
                return work

    def comes_free(self, count: int, cell: Cell) -> bool:
        """Whether there is room, or something to drop, where there was neither a moment ago.

        Then another thread is between two steps with what has the room: it has counted that and is
        about to queue it, or has taken it and is about to count that.
        """
        try:
            refuse_if_critical("a full queue", below=Engine.take)
        except RuntimeError:
            return False  # it may be this thread
        for pause in _MOMENTS:
            if cell.value.fits(count, self.limit) or self.oldest() is not None:
                return True
            time.sleep(pause)
        return False

    def _dropped(self) -> DeliveryDropped:
        return DeliveryDropped(
            f"pool {self.name!r} was full (max_pending={self.limit}, overflow={self.overflow!r})"
        )

    def note_drops(self) -> None:
        """Log what was dropped, at most once a second, with its number.

        After ``take``: that may not be waited in, and a log handler may wait.
        """
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
                total += self.drops.pop()
            except IndexError:
                break
        if total:
            log_safely(logging.WARNING, "pool %r was full: %d deliveries dropped", self.name, total)

    def close(self) -> None:
        """Take no more work; what was accepted still runs, and then the workers go."""
        refuse_if_deep()
        self.cell.update(_state.turn, Mode.CLOSING)
        self.let_go()
        self.log_drops()
        self.cell.raise_interrupt()

    def lose(self, why: str) -> list[Work]:
        """Resolve what waits with ``DeliveryLost``; return what waited or still runs."""
        self.hopeless = lambda: ("cancelled", DeliveryLost(why))
        self.cell.update(_state.turn, Mode.CLOSED)
        left = [work for work in self.futures() if not work.done()]
        try:
            self.give_up()
        except BaseException:
            self.log_callback()
        self.log_drops()
        self.let_go()
        return left

    def restart(self) -> None:
        """In a forked child: start empty; what the parent's threads had in hand is lost here."""
        forget_sleepers()
        for loop in self.loops:
            loop.abandon()
        held = [work for held in list(self.prepared) if (work := held()) is not None]
        lost, state = [*self.futures(), *held], self.cell.value
        self.start_over(State(mode=state.mode))
        for work in lost:
            work._forsake(_lost_by_fork())
            work._forget()
            if work._turn is not None:
                work._turn = None
            self.release(work)
        # The thread that forked may itself wait, below the signal handler that did it.
        for wake in (*(blocked.wake for blocked in state.blocked), *state.idlers):
            wake()


def _lost_by_fork() -> DeliveryLost:
    return DeliveryLost(f"it belongs to the parent of process {os.getpid()}")
