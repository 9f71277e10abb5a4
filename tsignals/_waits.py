"""Waiting for what a pool runs, from outside and from its own workers, without a deadlock.

A worker that would wait for work that has not started runs it. Where others run what it waits
for, it says so in ``_asleep`` and then looks for a circle: of those who sleep in a circle, the
last to say so sees it whole, and raises.
"""

import functools
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from tsignals import _state
from tsignals._critical import refuse_if_critical, refuse_if_deep
from tsignals._future import left_until
from tsignals._process import notice, page
from tsignals._workers import Workers

_asleep: "dict[int, tuple[Collection[Any], bool]]" = {}
"""By thread: what a worker waits for, which others run, and whether it needs every one of them.

The same of async deliveries that await one, by what stands for a thread in their marks.
"""

_CIRCLE = (
    "cannot wait for this delivery here: it can only run after the one that waits "
    "(they share an ordered receiver's lane, or wait for each other)"
)


_NOT_DONE = "the delivery is not done yet; it goes on"
_TIME_UP = object()


class _Teller:
    """Among those who sleep until something ends; puts ``work`` into a queue then."""

    __slots__ = ("_told", "_work")

    def __init__(self, told: "queue.SimpleQueue[Any]", work: Any) -> None:
        self._told = told
        self._work = work

    def put(self, _: None) -> None:
        self._told.put(self._work)


class Waits(Workers):
    """The waits for what the workers run."""

    def await_done(self, work: Any, timeout: float | None) -> None:
        """Wait until ``work`` is done; a worker runs what it would wait for, if it has not started.

        Raises ``TimeoutError``, and ``RuntimeError`` for a wait that cannot end. Few frames deep:
        deliveries that wait for deliveries nest on one stack.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if not page[0]:
            notice()
        if not self.works_here():
            if timeout is None or timeout > 0:
                self.refuse_on_loop()
            work._doze(timeout)
            return
        before: Any = work
        held: Collection[Any] = ()
        while not work.done():
            for before, held in left_before(work):
                if not held and before._owner is None:
                    refuse_if_deep()
                    self.run(before)
                    if before.done():
                        continue
                left = None if deadline is None else deadline - time.monotonic()
                if not self.sleep([before], queue.SimpleQueue(), True, left, held):
                    raise TimeoutError(_NOT_DONE)
                if held or not before.done():
                    break  # if it was let go, it stands in its lane now
        del work, before, held  # see drop_frame

    def sleep(
        self,
        works: "Sequence[Any]",
        woken: "queue.SimpleQueue[None]",
        every: bool,
        timeout: float | None,
        held: "Collection[Any]" = (),
    ) -> bool:
        """In a worker: wait until one of ``works`` has ended, or something is put into ``woken``.

        Others run these; ``every``: who waits needs all of them, else any. ``held``: those that
        were held back, and may have been let go since. False when the time is up. Raises
        ``RuntimeError`` if they can only end after who waits.
        """
        refuse_if_critical("a worker")
        try:
            for work in works:
                work._wake_at_end(woken)
            if any(work.done() for work in works) or not all(work._held for work in held):
                return True
            return self.sleep_on(woken, works, every, timeout) is not _TIME_UP
        finally:
            for work in works:
                work._let_sleep(woken)

    def sleep_on(
        self,
        woken: "queue.SimpleQueue[Any]",
        works: "Collection[Any]",
        every: bool,
        timeout: float | None,
    ) -> Any:
        """The same for who is told of the ends of ``works`` already; returns what it was told."""
        self.refuse_on_loop()
        me = threading.get_ident()
        try:
            _asleep[me] = (works, every)
            if works and (any if every else all)(_only_after(work, me) for work in works):
                raise RuntimeError(_CIRCLE)
            return woken.get(timeout=None if timeout is None else max(0.0, timeout))
        except queue.Empty:
            return _TIME_UP
        finally:
            _asleep.pop(me, None)

    def as_completed(self, works: "Sequence[Any]", timeout: float | None) -> Iterator[Any]:
        """In a worker: yield ``works`` as they are done; run what has not started.

        Raises ``TimeoutError``, and ``RuntimeError`` for a wait that cannot end.
        """
        refuse_if_critical("a worker")
        deadline = None if timeout is None else time.monotonic() + timeout
        told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        tellers = []
        left = dict(zip(works, works, strict=True))  # with what each waits for: itself, or another
        unseen = deque(works)
        try:
            for work in works:
                tellers.append((work, _Teller(told, work)))
                work._wake_at_end(tellers[-1][1])
                if work.done():
                    told.put(work)
            while left:
                if told.empty():
                    remaining = None if deadline is None else deadline - time.monotonic()
                    if remaining is not None and remaining < 0:
                        raise TimeoutError(_NOT_DONE)
                    if unseen:
                        work = unseen.popleft()
                        if work not in left:
                            continue
                        before = left[work] = self.run_up_to(work)
                        if before is not work:
                            tellers.append((before, _Teller(told, work)))
                            before._wake_at_end(tellers[-1][1])
                            if before.done():
                                told.put(work)
                        continue
                    work = self.sleep_on(told, left.values(), False, remaining)
                    if work is _TIME_UP:
                        raise TimeoutError(_NOT_DONE)
                else:
                    work = told.get()
                if work not in left:
                    continue
                if work.done():
                    del left[work]
                    yield work
                else:  # something before it is
                    unseen.append(work)
        finally:
            for work, teller in tellers:
                work._let_sleep(teller)

    def run_up_to(self, work: Any) -> Any:
        """In a worker: run ``work`` and what stands before it, as far as these can start now.

        Returns the first of them that runs elsewhere, or ``work``.
        """
        for before, held in left_before(work):
            if not held and before._owner is None:
                refuse_if_deep()
                before._pool.run(before)
            if not before.done():
                return before
        return work

    def help(self, work: Any) -> None:
        """In a worker that is about to wait for ``work``: run it, as far as it can start now."""
        if self.works_here():
            self.run_up_to(work)

    def on_loop(self) -> bool:
        """Whether this is the event loop's thread."""
        return any(loop.runs_here() for loop in self.loops)

    def refuse_on_loop(self) -> None:
        """Raise on the event loop's thread, which a wait would block, and with it all its work."""
        if self.on_loop():
            raise RuntimeError(
                f"cannot wait on the event loop of pool {self.name!r}; use await, or wait in "
                "another thread with asyncio.to_thread"
            )

    def needed_for(self, work: Any) -> "Iterator[tuple[Any, Collection[Any]]]":
        """What must end before ``work`` has: see ``left_before``."""
        return left_before(work)

    def drain(self, timeout: float | None) -> bool:
        """Wait until nothing is pending or running and all that was is resolved."""
        refuse_if_critical("drain()")
        if not page[0]:
            notice()
        deadline = None if timeout is None else time.monotonic() + timeout
        woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        idler = functools.partial(woken.put, None)
        cell = self.cell
        try:
            while self.cell is cell and cell.update(_state.await_quiet, idler) is not None:
                cell.raise_interrupt()
                if self.cell is cell:  # and not where forked in the middle of that
                    woken.get(timeout=left_until(deadline))
            # Counted as ended is one step before resolved.
            for work in self.futures():
                work._doze(left_until(deadline))
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


class Awaiting:
    """Around an await for ``work`` by the async delivery that owns things as ``me``."""

    # No ``contextmanager``: see _around.

    def __init__(self, work: Any, me: int) -> None:
        self._work = work
        self._me = me

    def __enter__(self) -> None:
        _asleep[self._me] = ([self._work], True)
        try:
            refuse_circles(self._work, self._me)
        except BaseException:
            del _asleep[self._me]
            raise

    def __exit__(self, *raised: object) -> None:
        _asleep.pop(self._me, None)


def refuse_circles(work: Any, me: int) -> None:
    """Raise if ``work``, or what stands before it in its lane, can only end after who waits."""
    if any(_only_after(before, me) for before in with_those_before(work)):
        raise RuntimeError(_CIRCLE)


def with_those_before(work: Any) -> "list[Any]":
    """What must end for ``work`` to have ended: what stands before it in its lane, and itself."""
    return [work] if work._turn is None else [*work._turn.standing_before(), work]


def left_before(work: Any) -> "Iterator[tuple[Any, Collection[Any]]]":
    """Of ``with_those_before`` each that is not done; with itself once more, if it is held back."""
    held = [work] if work._held else ()  # looked at before its turn: H3 in _held
    for before in with_those_before(work):
        if not before.done():
            yield before, held if before is work else [before] if before._held else ()


def _only_after(work: Any, me: int) -> bool:
    """Whether ``work`` can only end after ``me`` goes on: runs there, or waits for what does."""
    start = _runner(work)
    if start is None or start == me:
        return start is not None
    # Each is looked at once, however many wait for it.
    wanted = {start: 0}  # by who waits: of how many more it must be true to be true of that one
    waiting: dict[int, list[int]] = {}  # who waits for it
    unseen = [start]
    while unseen:
        one = unseen.pop()
        others, every = _asleep.get(one, ((), True))
        wanted[one] = 1 if every else max(1, len(others))
        for runner in map(_runner, list(others)):
            if runner is not None:
                waiting.setdefault(runner, []).append(one)
                if runner != me and runner not in wanted:
                    wanted[runner] = 0
                    unseen.append(runner)
    true = [me]
    while true:
        for one in waiting.pop(true.pop(), ()):
            wanted[one] -= 1
            if wanted[one] == 0:
                true.append(one)
    return wanted[start] <= 0


def _runner(work: Any) -> int | None:
    """Who runs ``work``, as its mark has it; None if nobody does, or it is done."""
    owner = work._owner
    return None if owner is None or work.done() else owner[1]


def loop_runs_here() -> bool:
    asyncio = sys.modules.get("asyncio")  # where it is not imported, no loop runs
    return asyncio is not None and asyncio._get_running_loop() is not None


def forget_sleepers() -> None:
    """In a forked child, where they do not run."""
    _asleep.clear()
