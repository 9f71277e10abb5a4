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
from collections.abc import Sequence
from typing import Any

from tsignals import _state
from tsignals._critical import refuse_if_critical, refuse_if_deep
from tsignals._future import left_until
from tsignals._process import notice, page
from tsignals._workers import Workers

_asleep: "dict[int, tuple[Sequence[Any], bool]]" = {}
"""By thread: what a worker waits for, which others run, and whether it needs every one of them.

The same of async deliveries that await one, by what stands for a thread in their marks.
"""

_CIRCLE = (
    "cannot wait for this delivery here: it can only run after the one that waits "
    "(they share an ordered receiver's lane, or wait for each other)"
)


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
        self.refuse_on_loop()
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

    def help(self, work: Any) -> None:
        """In a worker that is about to wait for ``work``: run it, as far as it can start now."""
        if self.works_here():
            for before in with_those_before(work):
                self.run(before)
                if not before.done():
                    return

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

    def needed_for(self, work: Any) -> "list[Any]":
        """What must end before ``work`` can have: what stands before it in its lane, and itself."""
        return with_those_before(work)

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


def loop_runs_here() -> bool:
    asyncio = sys.modules.get("asyncio")  # where it is not imported, no loop runs
    return asyncio is not None and asyncio._get_running_loop() is not None


def forget_sleepers() -> None:
    """In a forked child, where they do not run."""
    _asleep.clear()
