"""The deliveries of async receivers, which run as tasks on the event loop of their pool."""

import asyncio
import contextlib
import functools
import queue
import time
from collections.abc import Callable
from typing import cast

from tsignals._base.around import surrounded_async
from tsignals._base.errors import SKIPPED
from tsignals._base.interrupts import outcome_of, raised_by
from tsignals._base.retry import Pause
from tsignals._base.watches import Ended
from tsignals._calling.group import respond
from tsignals._calling.types import Receiver
from tsignals._delivery.awaiting import delivering
from tsignals._delivery.delivery import GeneralSend, Send, SingleDelivery
from tsignals._delivery.event_loop import LoopThread
from tsignals._delivery.held import Held
from tsignals._pool.core import Core
from tsignals._pool.seam import Claim, Result
from tsignals._registry.connection import Options

LoopTask = asyncio.Future[Result]
"""A task, or what stands for one that could not be made."""


class AsyncDelivery(SingleDelivery):
    """One async receiver's call on the event loop of a :class:`WorkerPool`.

    It can be cancelled while it runs, too: as its task is, and it is done when that is.
    """

    __slots__ = ("_cancelling", "_task")

    _on_loop = True

    def __init__(
        self, core: Core, receiver: Receiver, send: GeneralSend, lane: object, options: Options
    ) -> None:
        super().__init__(core, receiver, send, lane, options)
        self._task: LoopTask | None = None
        self._cancelling = False

    def _claim(self, claim: Claim) -> bool:
        # A worker that waits for it must leave to the loop what was queued for that.
        if claim[0] == "run" and claim[1] > 0 and self in self._core.backlog.unresolved:
            return False
        return super()._claim(claim)

    def cancel(self) -> bool:
        """Cancel it, or the task in which it runs; ``False`` if it is done otherwise.

        What runs is done, and shows as cancelled, once the receiver has ended that way.
        """
        if super().cancel():
            return True
        if self.done() or not self._core.backlog.loops:
            return False
        self._loop().call(self._cancel_task)
        return True

    def _loop(self) -> LoopThread:
        return cast(LoopThread, self._core.backlog.loops[0])

    # On the loop's thread:

    def _start(self, claim: Claim, ended: Callable[[LoopTask], object]) -> None:
        send = self._send
        if send is None:
            return  # whoever had this run was interrupted
        task, error = outcome_of(self._make_task, send, claim)
        if task is None:
            assert error is not None
            task = asyncio.get_running_loop().create_future()
            pause = self._fail(send, time.perf_counter(), error, send._context.copy())
            task.set_result((pause, error))
        task.add_done_callback(ended)
        self._task = task
        if self._cancelling:
            task.cancel()
        del self, send, ended, task, error  # this frame may live as long as what is raised

    def _make_task(self, send: Send, claim: Claim) -> LoopTask:
        """Run it in a task; raises what a task factory of the loop's raises."""
        if send._watches is None:
            main = self._main(send, claim)
        else:
            queued_at, defer = self._waits_since(time.perf_counter()), self._core.state.defer
            main = send._watches[id(self)].awaited(
                _judged, queued_at, defer, False, self._main, send, claim
            )
        task: LoopTask | None = None
        try:
            context = send._context.copy()
            task = asyncio.get_running_loop().create_task(main, context=context)
            return task
        finally:
            if task is None:
                raised_by(main.throw, GeneratorExit)  # unlike close(), it lets go of the arguments
            del self, send, main, task  # what is raised keeps this frame

    def _cancel_task(self) -> None:
        if self._cancel_unstarted():
            return  # it waits for its next attempt by now
        # Once: a second time would disturb a receiver that tidies up.
        if self._task is not None and not self._cancelling:
            self._task.cancel()
        self._cancelling = True
        if self._send is None:
            self._task = None  # nobody asks for its result any more

    async def _main(self, send: Send, claim: Claim) -> Result:
        """Call the receiver; tell of its failure."""
        me = _running()
        mine = asyncio.current_task()
        delivering[mine] = claim[1], self._as_task()  # here, for tasks may start eagerly
        gate, around = self._gate, self._core.config.around or contextlib.nullcontext
        target = send._target_for(self.receiver)
        again: list[Pause | None] = []  # what follows a failure
        started = time.perf_counter()
        failed = functools.partial(self._failed, again, send, started, me)
        defer = self._core.state.defer
        call = target, gate, send._arguments, send._keywords_for(self)
        error: BaseException | None = None
        try:
            self._dequeue()
            response, error = await surrounded_async(around, failed, defer, respond, *call)
            if error is None:
                return (None, SKIPPED) if response is SKIPPED else (response, None)
            if self._is_ended_by(error, me):
                raise error
            return (again[0] if again else None), error
        finally:
            delivering.pop(mine, None)
            del self, send, call, failed, error, mine  # see drop_frame

    def _is_ended_by(self, error: BaseException, task: int) -> bool:
        """Whether ``error`` came from outside: anything else makes the receiver fail."""
        if issubclass(type(error), asyncio.CancelledError):
            return self._cancelling  # somebody has asked for it
        # Where it does not run in its task, what is left of a loop is collected.
        return issubclass(type(error), GeneratorExit) and _running() != task

    def _failed(
        self,
        again: list[Pause | None],
        send: Send,
        started: float,
        task: int,
        error: BaseException,
    ) -> None:
        """Tell of what its receiver has raised, unless that came from outside."""
        if self._send is not None and not self._is_ended_by(error, task):
            self._fail_inside(again, send, started, error)

    # On the thread that ends it:

    def _perform(self) -> Result:
        """Return what became of its task; where there is none yet, have the loop run it."""
        if self._task is None:
            self._have_it_run()
        assert self._task is not None
        try:
            result = self._task.result()
            # Whoever has asked for its end meanwhile waits for no other attempt.
            ends = self._cancelling and type(result[0]) is Pause
            return (None, SKIPPED) if ends else result
        except asyncio.CancelledError as error:
            if self._cancelling:
                return None, SKIPPED
            # By somebody else, before it could begin or at its very end: else it would have seen.
            pause = None
            if (send := self._send) is not None:
                pause = self._fail(send, time.perf_counter(), error, send._context.copy())
            return pause, error

    def _have_it_run(self) -> None:
        ended: queue.SimpleQueue[LoopTask] = queue.SimpleQueue()
        has_run = False
        try:
            claim = cast(Claim, self._claimed_by)  # of this thread
            self._loop().loop.call_soon_threadsafe(self._start, claim, ended.put)
            ended.get()
            has_run = True
        finally:
            if not has_run:  # interrupted
                self.cancel()

    def _release(self, claim: Claim, pause: Pause) -> None:
        if self._claimed_by is claim:
            self._task = None  # the next attempt has another
        super()._release(claim, pause)

    def _forget(self) -> object:
        if self._task is not None and self._task.done():
            self._task = None  # one that still runs, after an interruption, is to be cancelled
        return super()._forget()


def _judged(result: Result) -> Ended:
    """For who observes: what the end of a delivery says; see ``Watch.awaited``."""
    response, error = result
    return (None, None, True) if error is SKIPPED else (response, error, False)


class HeldAsyncDelivery(Held, AsyncDelivery):
    """One that is held back until somebody submits it."""

    __slots__ = ("_decisions", "_held", "_weakly")


def _running() -> int:
    """The id of the task that runs in this thread; 0 if none does."""
    return id(asyncio.current_task()) if asyncio._get_running_loop() is not None else 0
