"""A pool's event loop, in a thread of its own, where the pool's async deliveries run.

Lock
    None. What happens to a task happens on the loop's thread, where other threads ask for it by
    ``call_soon_threadsafe``.

Life
    Whoever first has an async delivery for a pool makes its loop; of several at once, the first in
    ``engine.loops`` counts. The thread ends, and closes the loop, when the pool takes no more work
    and nothing is pending or running: then nothing can be handed over any more. In a forked child
    it is left as it is, for the parent's is registered in the same selector; the child makes
    another.
"""

import asyncio
import contextlib
import contextvars
import functools
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from tsignals import _state
from tsignals._aio import delivering, respond
from tsignals._around import drop_frame, surrounded_async
from tsignals._delivery import Message, Sending, TermsDelivery
from tsignals._engine import Engine
from tsignals._future import Mark
from tsignals._held import Held
from tsignals._process import empty_context
from tsignals._telling import log_safely
from tsignals._work import SKIPPED

Task = asyncio.Task[tuple[Any, BaseException | None]]


class AsyncDelivery(TermsDelivery):
    """One async receiver's call on the event loop of a :class:`WorkerPool`.

    It can be cancelled while it runs, too: as its task is, and it is done when that is.
    """

    __slots__ = ("_cancelling", "_task")

    _on_loop = True

    def __init__(
        self, engine: Engine, receiver: Any, sending: Sending, ordered: bool, gate: Any
    ) -> None:
        super().__init__(engine, receiver, sending, ordered, gate)
        self._task: Task | None = None
        self._cancelling = False

    def _claim(self, mark: Mark) -> bool:
        # A worker that waits for it must leave to the loop what was queued for that.
        if mark[0] == "run" and mark[1] > 0 and self in self._pool.unresolved:
            return False
        return super()._claim(mark)

    _cancel_unstarted = TermsDelivery.cancel

    def cancel(self) -> bool:
        """Cancel it, or the task in which it runs; ``False`` if it is done otherwise.

        What runs is done, and shows as cancelled, once the receiver has ended that way.
        """
        if super().cancel():
            return True
        if self.done() or not self._pool.loops:  # no loop yet: its admission is decided elsewhere
            return False
        self._pool.loops[0].call(self._cancel_task)
        return True

    # On the loop's thread:

    def _start(self, mark: Mark, ended: Callable[[Task], object]) -> None:
        sending = self._sending
        if sending is None:
            return  # whoever had this run was interrupted
        task = asyncio.get_running_loop().create_task(
            self._main(sending), context=sending.context.copy()
        )
        delivering[task] = mark[1]
        task.add_done_callback(delivering.pop)
        task.add_done_callback(ended)
        self._task = task
        if self._cancelling:
            task.cancel()

    def _cancel_task(self) -> None:
        # Once: a second time would disturb a receiver that tidies up.
        if self._task is not None and not self._cancelling:
            self._task.cancel()
        self._cancelling = True
        if self._sending is None:
            self._task = None  # nobody asks for its result any more

    async def _main(self, sending: Message) -> tuple[Any, BaseException | None]:
        """Call the receiver; tell of its failure."""
        me = _running()
        gate, around = self._gate, self._pool.around
        target = sending.target_for(self.receiver)
        call: Any = None
        failed: Any = None
        started = time.perf_counter()
        try:
            if gate is not None:
                gate.dequeue(self)
            call = target, gate, sending.arguments, sending.keywords_for(self)
            if around is None:
                response = await respond(*call)
            else:
                failed = functools.partial(self._failed, sending, started, me)
                defer = self._pool.cell.defer
                response = await surrounded_async(around, failed, defer, respond, *call)
        except BaseException as error:
            if self._is_ended_by(error, me):
                raise
            if around is None:
                self._failed(sending, started, me, error)
            else:  # it has been told
                drop_frame(error)
            return None, error
        finally:
            del self, sending, call, failed  # see drop_frame
        return (None, SKIPPED) if response is SKIPPED else (response, None)

    def _is_ended_by(self, error: BaseException, task: int) -> bool:
        """Whether ``error`` came from outside: anything else makes the receiver fail."""
        if issubclass(type(error), asyncio.CancelledError):
            return self._cancelling  # somebody has asked for it
        # Where it does not run in its task, what is left of a loop is collected.
        return issubclass(type(error), GeneratorExit) and _running() != task

    def _failed(self, sending: Message, started: float, task: int, error: BaseException) -> None:
        """Tell of what its receiver has raised, unless that came from outside."""
        if self._sending is not None and not self._is_ended_by(error, task):
            self._fail(sending, started, error)

    # On the thread that ends it:

    def _perform(self) -> tuple[Any, BaseException | None]:
        """Return what became of its task; where there is none yet, have the loop run it."""
        if self._task is None:
            self._have_it_run()
        assert self._task is not None
        try:
            return self._task.result()
        except asyncio.CancelledError as error:
            if self._cancelling:
                return None, SKIPPED
            # By somebody else, before it could begin or at its very end: else it would have seen.
            if self._sending is not None:
                self._fail(self._sending, time.perf_counter(), error)
            return None, error

    def _have_it_run(self) -> None:
        ended: queue.SimpleQueue[Task] = queue.SimpleQueue()
        try:
            self._pool.loops[0].loop.call_soon_threadsafe(self._start, self._owner, ended.put)
            ended.get()
        except BaseException:  # interrupted
            self.cancel()
            raise

    def _forget(self) -> None:
        super()._forget()
        if self._task is not None and self._task.done():
            self._task = None  # one that still runs, after an interruption, is to be cancelled


class HeldAsyncDelivery(Held, AsyncDelivery):
    """One that is held back until somebody submits it."""

    __slots__ = ("_claims", "_held", "_weakly")


def _running() -> int:
    """The id of the task that runs in this thread; 0 if none does."""
    return id(asyncio.current_task()) if asyncio._get_running_loop() is not None else 0


class LoopThread:
    """An event loop and its thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # Not that of whoever happens to start it, or to hand work over: it is kept.
        self._context = contextvars.Context()
        self.loop = self._context.run(asyncio.new_event_loop)
        self._stopped = False
        self._forked = False
        contract: list[bool] = []
        self.thread = threading.Thread(
            target=self._run,
            args=(contract,),
            name=f"{engine.name}_loop",
            daemon=True,
            **empty_context(),
        )
        try:
            self.thread.start()
        except BaseException:
            # The thread may start yet; the first entry decides who closes the loop.
            contract.append(False)
            if not contract[0]:
                self.loop.close()
            raise

    def runs_here(self) -> bool:
        """Whether this is its thread; the number of one that has ended may be used again."""
        return self.thread.ident == threading.get_ident() and not self.loop.is_closed()

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have ``function`` called on the loop's thread, from any thread, unless all is over."""
        with contextlib.suppress(RuntimeError):  # closed
            self.loop.call_soon_threadsafe(function, *arguments, context=self._context)

    def take(self, works: Sequence[AsyncDelivery]) -> None:
        """Run ``works``, each unless somebody else resolves it first; twice does no harm."""
        self.call(self._start, works)

    def _start(self, works: Sequence[AsyncDelivery]) -> None:
        for work in works:
            mark = ("run", -id(work))
            if work._claim(mark):
                self.engine.count(_state.START_ON_LOOP, self.engine.cell)
                work._begin(mark)
                work._start(mark, functools.partial(self._ended, work, mark))
            elif work._ended_unrun():
                self.engine.pass_on(work)  # its turn came after that

    def _ended(self, work: AsyncDelivery, mark: Mark, task: Task) -> None:
        if work._owner is not mark:
            return  # forked meanwhile: the future is the parent's
        self.engine.count(_state.LEAVE_LOOP, self.engine.cell)
        try:
            self.engine.run_claimed(work, mark, 0, self.engine.cell)
        except BaseException:
            self.engine.log_callback()

    # -- Its life --

    def _run(self, contract: list[bool]) -> None:
        contract.append(True)
        if not contract[0]:
            return
        engine = self.engine
        engine.loops.append(self)
        if engine.loops[0] is not self:
            self.loop.close()
            return
        if engine.initializer is not None:
            try:
                engine.initializer(*engine.initargs)
            except BaseException as error:
                engine.break_down(error)
        engine.let_go()  # the pool may have been closed before this could be found
        while not self._stopped:
            try:
                self.loop.run_forever()
            except BaseException:
                # A receiver's delivery holds what it raises; this comes from a task of its own.
                log_safely(
                    logging.ERROR,
                    "a task on the event loop of pool %r raised",
                    engine.name,
                    exc_info=sys.exc_info(),
                )
        if not self._forked:
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


def ensure_loop(engine: Engine) -> None:
    """Start the loop of ``engine`` if it has none.

    Raises what making it raises: ``RuntimeError`` for the thread, ``OSError`` for its sockets.
    """
    if not engine.loops:
        engine.loops.append(LoopThread(engine))
