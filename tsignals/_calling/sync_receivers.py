"""The sync receivers of an ``asend``: on another thread, where a framework wants them, or here.

They are called as one group, in order. When the sender is cancelled meanwhile, the one that runs
ends first, and no further one is called. Variables that they set are set for the sender.

A framework's runner (``set_sync_runner``) may carry such variables itself, in its own way; what it
has carried is left as it is. Where it does not carry the sender's context to the receivers, as a
variable of our own tells, they run in a copy of that. It is awaited in the sender's own task, for
it may look at that. Once it is done, or cancelled, it may no longer start the group: who comes
first in ``begun`` decides.
"""

import asyncio
import contextlib
import contextvars
import functools
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from tsignals._base.atomic import comes_first
from tsignals._base.interrupts import Outcome, outcome_of
from tsignals._calling import runners, thread_cache
from tsignals._calling.types import Connected, Each, Live, Receiver

R = TypeVar("R")
A = ParamSpec("A")
_NONE = object()
_carried: contextvars.ContextVar[object] = contextvars.ContextVar("tsignals_carried", default=None)
"""Which group of sync receivers this context was carried along for."""


class SharedContext:
    """A copy of this context; variables that have been set there in the end are set here."""

    # No ``contextmanager``: see ``around``.

    def __enter__(self) -> contextvars.Context:
        self._before = contextvars.copy_context()
        self._context = self._before.copy()
        return self._context

    def __exit__(self, *raised: object) -> None:
        for variable, value in self._context.items():
            if self._before.get(variable, _NONE) is not value:
                variable.set(value)


async def call_sync_ones(
    here: bool,
    function: Callable[Concatenate[Each, A], R],
    live: Live,
    *arguments: A.args,
    **keywords: A.kwargs,
) -> R:
    """Call ``function(live, ...)`` where sync receivers belong; no event loop runs there.

    ``here``: on this thread all the same.
    """
    if here:
        return function(live, *arguments, **keywords)
    calls: _SyncCalls[R] = _SyncCalls(live)
    call = functools.partial(function, calls, *arguments, **keywords)
    runner = runners.sync_runner[0]
    if runner is not None:
        return await _by_runner(runner, calls, call)
    with SharedContext() as context:
        run = functools.partial(calls.make, functools.partial(context.run, call))
        handed = False
        try:
            thread_cache.run(run, calls.made)
            handed = True
        finally:
            calls.stopped = not handed  # interrupted: it may yet start, and nobody is there
        return await calls.ended(None)


class _SyncCalls(Generic[R]):
    """Sync receivers that are called elsewhere, until they are told to stop."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.loop = asyncio.get_running_loop()
        self.waiter: asyncio.Future[None] = self.loop.create_future()
        self.stopped = False
        self.cut = False  # short, by that
        self.interrupt: BaseException | None = None  # which told them to
        self.task: asyncio.Task[object] | None = None  # the sender, while a runner is awaited there
        self.cancelled_before = 0
        self.outcome: list[Outcome[R]] = []

    def __iter__(self) -> Iterator[tuple[Connected, Receiver]]:
        for pair in self.live:
            if self.stopped:
                self.cut = True
                return
            yield pair

    def cancelling(self) -> int:
        return 0 if self.task is None else self.task.cancelling()

    def stop(self, error: BaseException) -> None:
        """Call no further one, if ``error`` comes from outside: the sender is cancelled.

        Errors of what a coroutine awaits come the same way.
        """
        if isinstance(error, GeneratorExit) or self.cancelling() > self.cancelled_before:
            self.stopped, self.interrupt = True, error

    def make(self, run: Callable[[], R]) -> None:
        self.outcome.append(outcome_of(run))

    def made(self) -> None:
        notify(self.loop, self.wake)

    def wake(self) -> None:
        if not self.waiter.done():
            self.waiter.set_result(None)

    async def ended(self, raised: BaseException | None) -> R:
        """What became of them, once that is known; ``raised`` comes before."""
        while not self.outcome:
            try:
                await self.waiter
            except asyncio.CancelledError as error:
                raised = error
                self.waiter = self.loop.create_future()
            finally:
                self.stopped = True  # if they have not ended, the sender is not there any more
        result, failed = self.outcome.pop()
        try:
            if raised is not None:
                if failed is not None and raised.__context__ is None:
                    raised.__context__ = failed  # as if it had come while that was handled
                raise raised
            if failed is not None:
                raise failed
            return cast(R, result)
        finally:
            del raised, failed  # or the traceback, this frame and the error form a cycle


class _Handed(Generic[R]):
    """Sync receivers handed to a framework's runner: it may start them once, while it runs."""

    def __init__(self, calls: _SyncCalls[R], run: Callable[[], R]) -> None:
        self.calls = calls
        self.run = run
        self.begun: list[object] = []
        self.changed: dict[contextvars.ContextVar[object], object] = {}
        self.mark = object()  # contexts may live long, and need not know more of this
        self.token = _carried.set(self.mark)
        self.mine = contextvars.copy_context()

    def start(self) -> None:
        if not comes_first(self.begun, object()):
            return
        if _carried.get() is self.mark:
            self._make()
        else:
            self.mine.copy().run(self._make)
        self.calls.made()

    def _make(self) -> None:
        before = contextvars.copy_context()
        self.calls.make(self.run)
        for variable, value in contextvars.copy_context().items():
            if before.get(variable, _NONE) is not value:
                self.changed[variable] = value

    def carry_over(self) -> None:
        """Set for the sender what they have set, and nobody else has carried."""
        for variable, value in list(self.changed.items()):
            if variable.get(_NONE) is self.mine.get(variable, _NONE):
                variable.set(value)


async def _by_runner(runner: runners.SyncRunner, calls: _SyncCalls[R], run: Callable[[], R]) -> R:
    handed = _Handed(calls, run)
    raised: BaseException | None = None
    calls.task = asyncio.current_task()
    calls.cancelled_before = calls.cancelling()
    try:
        await _Stopping(calls.stop, _as_coroutine(runner, handed.start))
        if calls.cancelling() > calls.cancelled_before:
            raised = calls.interrupt  # the runner has caught it
    except BaseException as error:  # raised below, once the receiver that runs has ended
        raised = error
    never_begun = comes_first(handed.begun, object())
    try:
        if never_begun or isinstance(raised, GeneratorExit):  # which forbids to wait
            if raised is not None:
                raise raised
            raise RuntimeError(
                "the sync runner is done and has not called what it was given; no receiver was "
                "called; see set_sync_runner"
            )
        try:
            result = await calls.ended(raised)
            if calls.cut and calls.interrupt is not None:
                raise calls.interrupt
            return result
        finally:
            handed.carry_over()
    finally:
        calls.interrupt = calls.task = None
        with contextlib.suppress(ValueError):  # closed in another context, which has it not
            _carried.reset(handed.token)
        del raised  # or the traceback, this frame and the error form a cycle


async def _as_coroutine(runner: runners.SyncRunner, call: Callable[[], None]) -> None:
    await runner(call)


class _Stopping(Generator[object, object, None]):
    """To be awaited: ``coroutine``; when that is interrupted, no further receiver is called."""

    def __init__(
        self, stop: Callable[[BaseException], object], coroutine: Coroutine[object, object, None]
    ) -> None:
        self._stop = stop
        self._coroutine = coroutine

    def __await__(self) -> Generator[object, object, None]:
        return self

    def __next__(self) -> object:
        return self._coroutine.send(None)

    def send(self, value: object) -> object:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> object:
        self._stop(error[0])
        try:
            return self._coroutine.throw(*error)
        finally:
            del error  # or the traceback, this frame and the error form a cycle

    def close(self) -> None:
        self._stop(GeneratorExit())
        self._coroutine.close()


def notify(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    """Have ``function()`` called on ``loop``, from any thread; not if it is closed by now."""
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        pass
