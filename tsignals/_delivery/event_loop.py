"""A pool's event loop, in a thread of its own, where the pool's async deliveries run.

Lock
    None. What happens to a task happens on the loop's thread, where other threads ask for it by
    ``call_soon_threadsafe``.

Life
    Whoever first has an async delivery for a pool makes its loop; of several at once, the first in
    ``backlog.loops`` counts. The thread ends, and closes the loop, when the pool takes no more work
    and nothing is pending or running: then nothing can be handed over any more. In a forked child
    it is left as it is, for the parent's is registered in the same selector; the child makes
    another.
"""

import asyncio
import contextlib
import contextvars
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from tsignals._base.atomic import comes_first
from tsignals._base.interrupts import raised_by, undisturbed
from tsignals._base.log import log_in_thread
from tsignals._base.process import empty_context
from tsignals._delivery.blocking_calls import BlockingCalls
from tsignals._pool.attempt import CALL, Attempt
from tsignals._pool.core import Core
from tsignals._pool.overflow import refuse_if_not_open
from tsignals._pool.seam import Claim, Result, TaskLike
from tsignals._pool.state import LEAVE_LOOP, START_ON_LOOP
from tsignals._pool.task import Entry

_STARTED = object()
_NOT_STARTED = object()


class OnLoop(TaskLike, Protocol):
    """A delivery that runs on the loop."""

    def _start(self, claim: Claim, ended: "Callable[[asyncio.Future[Result]], object]") -> None:
        """On the loop's thread: run it in a task, and call ``ended`` with that at its end."""


class LoopThread:
    """An event loop and its thread."""

    def __init__(self, core: Core) -> None:
        self.core = core
        # Not that of whoever happens to start it, or to hand work over: it is kept.
        self._context = contextvars.Context()
        self.loop = self._context.run(asyncio.new_event_loop)
        self.loop.set_default_executor(BlockingCalls(core.config.name))
        self._stopped = False
        self._forked = False
        handshake: list[object] = []
        self.thread = threading.Thread(
            target=self._run,
            args=(handshake,),
            name=f"{core.config.name}_loop",
            daemon=True,
            **empty_context(),
        )
        started = False
        try:
            self.thread.start()
            started = True
        finally:
            # The thread may start yet; the first entry decides who closes the loop.
            if not started and comes_first(handshake, _NOT_STARTED):
                self.loop.close()

    def runs_here(self) -> bool:
        """Whether this is its thread; the number of one that has ended may be used again."""
        return self.thread.ident == threading.get_ident() and not self.loop.is_closed()

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Have ``function`` called on the loop's thread, from any thread, unless all is over."""
        try:
            self.loop.call_soon_threadsafe(function, *arguments, context=self._context)
        except RuntimeError:  # also RecursionError: then it would be lost
            if not self.loop.is_closed():
                raise

    def take(self, entries: Sequence[Entry]) -> None:
        """Run ``entries``, each unless somebody else resolves it first; twice does no harm."""
        self.call(self._start, entries)

    def _start(self, deliveries: Sequence[OnLoop]) -> None:
        for delivery in deliveries:
            claim = ("run", -id(delivery))
            if delivery._claim(claim):
                self.core.count(START_ON_LOOP)
                delivery._begin(claim)
                delivery._start(claim, functools.partial(self._ended, delivery, claim))
            elif delivery._ended_unrun():
                self.core.pass_on(delivery)  # its turn came after that
            del delivery  # this frame may live as long as what a task factory raises
        del deliveries

    def _ended(self, delivery: OnLoop, claim: Claim, task: object) -> None:
        if delivery._claimed_by is not claim:
            return  # forked meanwhile: the future is the parent's
        self.core.count(LEAVE_LOOP)
        attempt = Attempt(self.core, delivery, claim, CALL)
        if (error := raised_by(attempt.carry_out)) is not None:  # a callback's
            self.core.log_callback(error)
        del error  # or the traceback, this frame and the error form a cycle

    # -- Its life --

    def _run(self, handshake: list[object]) -> None:
        if not comes_first(handshake, _STARTED):
            return
        core = self.core
        core.backlog.loops.append(self)
        if core.backlog.loops[0] is not self:
            self.loop.close()
            return
        if (initializer := core.config.initializer) is not None:
            if (error := raised_by(initializer, *core.config.initargs)) is not None:
                core.break_down(error)
        # The pool may have been closed before this could be found.
        core.try_terminate()
        while not self._stopped:
            if (error := raised_by(self.loop.run_forever)) is not None:
                # A receiver's delivery holds what it raises; this comes from a task of its own.
                message = "a task on the event loop of pool %r raised"
                log_in_thread(logging.ERROR, message, core.config.name, exc_info=error)
                del error
        if not self._forked:
            # It is closed all the same, where it can start no thread to wait for others (3.12).
            with contextlib.suppress(RuntimeError):
                with asyncio.Runner(loop_factory=lambda: self.loop):
                    pass  # ends what receivers have left behind: tasks, async generators, threads

    def stop(self) -> None:
        """End, when the pool takes no more work and nothing is left; twice does no harm."""
        self.call(self._stop)

    def _stop(self) -> None:
        if not self._stopped:  # later on, it would stop what the closing runs
            self._stopped = True
            self.loop.stop()

    def abandon(self) -> None:
        """In a forked child: never touch it again, nor let it be collected, which closes it."""
        _abandoned.append(self)
        self._forked = True
        if self.runs_here():
            # What was to run next is the parent's. Python has forgotten that this loop runs, and
            # asyncio would complain of that after the step that has forked.
            for handle in list(getattr(self.loop, "_ready", ())):
                handle.cancel()
            self.loop.set_exception_handler(lambda loop, context: None)
            self._stop()


_abandoned: list[LoopThread] = []


def ensure_loop(core: Core) -> None:
    """Start the loop of ``core``, before it is given work, if it has none.

    Raises where the pool takes no more, and what making the loop raises: ``RuntimeError`` for the
    thread, ``OSError`` for its sockets.
    """
    refuse_if_not_open(core)
    if not core.backlog.loops:
        core.backlog.loops.append(undisturbed(LoopThread, core))
