"""The async receivers of one send, side by side: each in a task of its own, none left in the end.

This module imports asyncio, and is imported when it is first needed.
"""

import asyncio
import contextlib
import contextvars
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import cast

from tsignals._base.errors import SKIPPED
from tsignals._base.interrupts import raised_by
from tsignals._base.watches import Ended
from tsignals._calling.failures import report
from tsignals._calling.outcomes import Outcomes
from tsignals._calling.tracking import Gate
from tsignals._calling.types import Live, Named, OnceLike, OptionsLike, Pairs, Receiver

# -- One receiver --


async def respond(
    receiver: Receiver,
    gate: Gate | None,
    arguments: tuple[object, ...],
    keywords: Named,
    once: OnceLike | None = None,
) -> object:
    """Await the response of an async receiver.

    ``SKIPPED`` behind a closed gate, or where another send calls it.
    """
    if gate is not None:
        return await gate.call_async(partial(respond, receiver, None, arguments, keywords, once))
    if once is not None:  # inside of the gate: it closes once the connection is removed
        return await once.call_async(partial(respond, receiver, None, arguments, keywords))
    response = await receiver(*arguments, **keywords)
    if _is_cancelled():
        await asyncio.sleep(0)  # where it has cancelled itself, it hears of that only now
    return response


def _is_cancelled() -> bool:
    task = asyncio.current_task()  # no local of a coroutine: an error's traceback would hold it
    return task is not None and task.cancelling() > 0


class Raised:
    """In place of a response: what the receiver raised, for the sender to raise."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Reported(Raised):
    """In place of a response: what the receiver raised, which was reported, for an ``Outcomes``."""


def judged(response: object) -> Ended:
    """For who observes: what became of a receiver; see ``Watch.awaited``."""
    if issubclass(type(response), Raised):
        return None, cast(Raised, response).error, False
    return response, None, response is SKIPPED


class RaiseErrors:
    """How ``send`` and ``asend`` await a receiver."""

    def __init__(self, signal: object, sender: object, named: Named) -> None:
        self.keywords: Named = {"signal": signal, "sender": sender, **named}

    async def respond(self, receiver: Receiver, options: OptionsLike, group: "Group") -> object:
        try:
            if options.gate is None and options.once is None:  # mostly: one coroutine less
                return await receiver(**self.keywords)
            return await respond(receiver, options.gate, (), self.keywords, options.once)
        except asyncio.CancelledError as error:
            if group.cancels():
                raise
            return Raised(error)  # raised, it would be taken for a cancellation of the task

    def failed(self, receiver: Receiver, error: BaseException, ran: float) -> Raised:
        """What is in place of the response of a receiver that has failed."""
        return Raised(error)


class CollectErrors(RaiseErrors):
    """How ``send_robust`` and ``asend_robust`` do."""

    def __init__(self, signal: object, sender: object, named: Named, mode: str) -> None:
        super().__init__(signal, sender, named)
        self.named = named
        self.mode = mode

    async def respond(self, receiver: Receiver, options: OptionsLike, group: "Group") -> object:
        started = time.perf_counter()
        try:
            return await respond(receiver, options.gate, (), self.keywords, options.once)
        except (Exception, asyncio.CancelledError) as error:
            # Not isinstance, which asks an error for its ``__class__``.
            if issubclass(type(error), asyncio.CancelledError) and group.cancels():
                raise
            return self.failed(receiver, error, time.perf_counter() - started)

    def failed(self, receiver: Receiver, error: BaseException, ran: float) -> Raised:
        signal, sender = self.keywords["signal"], self.keywords["sender"]
        report(signal, sender, receiver, error, self.mode, 0.0, ran, self.named)
        return Reported(error)


# -- All of them --


class _LastingTask(asyncio.Task[object]):
    """One that is cancelled by its sender, and not by the end of its event loop."""

    def cancel(self, msg: object = None) -> bool:
        # A loop that ends does not run while it cancels what is left.
        return self.get_loop().is_running() and super().cancel(msg)


def _maker_of_tasks(sender: asyncio.Task[object] | None) -> Callable[..., asyncio.Task[object]]:
    """What makes the tasks of receivers.

    The end of the loop cancels these and the sender. Where that decides for itself what cancels it,
    as what concludes an ASGI request does, it may go on, and with it its receivers.
    """
    loop = asyncio.get_running_loop()
    decides = sender is not None and type(sender).cancel is not asyncio.Task.cancel
    if decides and loop.get_task_factory() is None:
        return partial(_LastingTask, loop=loop)
    return loop.create_task


class Group:
    """The async receivers of one send, each in a task of its own.

    They share one context, but for what an observer sets for one of them (its span).

    Not a ``TaskGroup``: that would take a ``CancelledError`` for a cancellation whoever has raised
    it, and, where the sender was cancelled before (it sends in a ``finally``), cancel it again.
    """

    def __init__(self, each: RaiseErrors) -> None:
        self.each = each
        self.sender: asyncio.Task[object] | None = None  # the task that waits for all, if it does
        self.cancelled_before = 0
        self.ends = False  # one has failed, or the sender was cancelled
        self.tasks: dict[asyncio.Task[object], Receiver] = {}
        self.left = 0  # how many have not ended
        self.over: asyncio.Future[None] | None = None
        self.errors: list[BaseException] = []  # the first to fail first
        self.responses: dict[asyncio.Task[object], object] = {}  # in place of those of the tasks

    def cancels(self) -> bool:
        """Whether its tasks are cancelled. If not, a ``CancelledError`` is a receiver's own."""
        sender = self.sender
        return self.ends or (sender is not None and sender.cancelling() > self.cancelled_before)

    def end(self) -> None:
        """Cancel all; once, for a second time would disturb receivers that tidy up."""
        if not self.ends:
            self.ends = True
            for task in self.tasks:
                task.cancel()

    async def run(self, later: Live, context: contextvars.Context) -> Pairs:
        """Await the responses of all at once, in one ``context``; in the end none is left running.

        The first to raise has the others cancelled, and is raised; if some of these raise as well,
        all are raised as a group. Raises ``CancelledError`` when the sender is cancelled, unless a
        receiver raises something then: that comes first, and the sender hears of its cancellation
        at the next occasion.
        """
        cancelled: asyncio.CancelledError | None = None
        self.sender = asyncio.current_task()
        self.cancelled_before = 0 if self.sender is None else self.sender.cancelling()
        try:
            self.start(later, context)
            while self.left:
                self.over = asyncio.get_running_loop().create_future()
                try:
                    await self.over
                except asyncio.CancelledError as error:
                    cancelled = error
                    self.end()
            if self.errors:
                if cancelled and self.sender is not None and sys.version_info >= (3, 13):
                    # As a TaskGroup. Before, nothing could take that back.
                    self.sender.uncancel()
                    self.sender.cancel()
                if len(self.errors) == 1:
                    raise self.errors[0]
                raise BaseExceptionGroup(f"{len(self.errors)} receivers failed", self.errors)
            if cancelled is not None:
                raise cancelled
            instead = self.responses
            return [
                (receiver, response)
                for task, receiver in self.tasks.items()
                if (response := instead[task] if task in instead else task.result()) is not SKIPPED
            ]
        finally:
            if self.left:
                with contextlib.suppress(RuntimeError):  # the loop has been closed under it
                    self.end()
            # The errors' tracebacks hold the frames that hold this, and so does the sender's.
            del cancelled
            self.sender = None
            self.tasks, self.errors, self.responses = {}, [], {}

    def start(self, later: Live, context: contextvars.Context) -> None:
        """Start all; what a factory raises, or an eager task, ends those that have started."""
        error = raised_by(self._start_each, later, context)
        try:
            if error is not None:
                self.fail(error)
        finally:
            del error  # as above

    def _start_each(self, later: Live, context: contextvars.Context) -> None:
        create, respond, note = _maker_of_tasks(self.sender), self.each.respond, self.note
        for connection, receiver in later:
            given = receiver, connection._options, self
            if (watch := connection._watch) is None:
                response = respond(*given)
            else:
                response = watch.awaited(judged, None, None, True, respond, *given)
            made = False
            try:
                task = create(response, context=context)
                made = True
            finally:
                if not made:
                    response.close()
            self.tasks[task] = receiver
            self.left += 1
            if task.done():  # tasks of this loop start eagerly
                context.run(note, task)
                if self.ends:
                    return
            else:
                task.add_done_callback(note, context=context)

    def note(self, task: "asyncio.Task[object]") -> None:
        """A task has ended; called in the context of all."""
        try:
            if task.cancelled():
                if not self.cancels():
                    self.note_stray(task)
            elif (error := task.exception()) is not None:
                self.fail(error)
            elif type(raised := task.result()) is Raised:
                self.fail(raised.error)
        finally:
            error = raised = None  # an error's traceback may hold this frame
            self.left -= 1
            if not self.left and self.over is not None and not self.over.done():
                self.over.set_result(None)

    def note_stray(self, task: "asyncio.Task[object]") -> None:
        """It was cancelled by somebody else before it began, or at its very end."""
        response = None
        try:
            task.result()
        except asyncio.CancelledError as error:
            response = self.responses[task] = self.each.failed(self.tasks[task], error, 0.0)
            if type(response) is Raised:
                self.fail(response.error)
        finally:
            del response  # as above

    def fail(self, error: BaseException) -> None:
        self.errors.append(error)
        self.end()


def add(outcomes: Outcomes, responses: Pairs) -> Outcomes:
    for receiver, response in responses:
        if type(response) is Reported:  # isinstance would ask a lazy object for its class
            outcomes._add_error(receiver, response.error)
        else:
            outcomes.append((receiver, response))
    return outcomes
