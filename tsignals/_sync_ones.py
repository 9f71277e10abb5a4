"""The sync receivers of an ``asend``: on another thread, where a framework wants them, or here.

They are called as one group, in order. When the sender is cancelled meanwhile, the one that runs
ends first, and no further one is called. Variables that they set are set for the sender.

A framework's runner (``set_sync_runner``) may carry such variables itself, in its own way; what it
has carried is left as it is. Where it does not carry the sender's variables to the receivers, they
run in a copy of the sender's context. It is awaited in the sender's own task, for it may look at
that. Once it is done, or cancelled, it may no longer start the group: who takes ``begun`` first
decides.
"""

import asyncio
import contextlib
import contextvars
import functools
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, TypeVar, cast

from tsignals import _aside
from tsignals._each import Live, Pairs

P = TypeVar("P", bound=Pairs)
_NONE = object()


class SharedContext:
    """A copy of this context; variables that have been set there in the end are set here."""

    # No ``contextmanager``: see _around.

    def __enter__(self) -> contextvars.Context:
        self._before = contextvars.copy_context()
        self._context = self._before.copy()
        return self._context

    def __exit__(self, *raised: object) -> None:
        for variable, value in self._context.items():
            if self._before.get(variable, _NONE) is not value:
                variable.set(value)


async def call_sync_ones(here: bool, function: Callable[..., P], live: Live, *arguments: Any) -> P:
    """Call ``function(live, *arguments)`` where sync receivers belong; no event loop runs there.

    ``here``: on this thread all the same.
    """
    if here:
        return function(live, *arguments)
    calls = _SyncCalls(live)
    runner = _aside.sync_runner[0]
    if runner is None:
        with SharedContext() as context:
            run = functools.partial(context.run, function, calls, *arguments)
            _aside.run_aside(functools.partial(calls.make, run), calls.report)
            return cast(P, await calls.ended(None))
    return cast(P, await _by_runner(runner, calls, functools.partial(function, calls, *arguments)))


class _SyncCalls:
    """Sync receivers that are called elsewhere, until they are told to stop."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.loop = asyncio.get_running_loop()
        self.waiter = self.loop.create_future()
        self.stopped = False
        self.cut = False  # short, by that
        self.interrupt: BaseException | None = None  # which told them to
        self.task: asyncio.Task[Any] | None = None  # the sender, while a runner is awaited there
        self.cancelled_before = 0
        self.outcome: list[tuple[Any, BaseException | None]] = []

    def __iter__(self) -> Iterator[Any]:
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

    def make(self, run: Callable[[], Any]) -> None:
        try:
            self.outcome.append((run(), None))
        except BaseException as error:
            self.outcome.append((None, error))

    def report(self) -> None:
        notify(self.loop, self.wake)

    def wake(self) -> None:
        if not self.waiter.done():
            self.waiter.set_result(None)

    async def ended(self, raised: BaseException | None) -> Any:
        """What became of them, once that is known; ``raised`` comes before."""
        while not self.outcome:
            try:
                await self.waiter
            except BaseException as error:
                self.stopped = True
                if not isinstance(error, asyncio.CancelledError):
                    raise
                raised = error
                self.waiter = self.loop.create_future()
        result, failed = self.outcome.pop()
        try:
            if raised is not None:
                raise raised
            if failed is not None:
                raise failed
            return result
        finally:
            del raised, failed  # or the traceback, this frame and the error form a cycle


async def _by_runner(runner: _aside.SyncRunner, calls: _SyncCalls, run: Callable[[], Any]) -> Any:
    begun: list[object] = []  # the first counts
    over = object()
    changed: dict[contextvars.ContextVar[Any], Any] = {}
    mine = contextvars.copy_context()

    def call() -> None:
        me = object()
        begun.append(me)
        if begun[0] is not me:
            return
        here = contextvars.copy_context()
        if all(variable in here for variable in mine):
            make()
        else:
            mine.copy().run(make)
        calls.report()

    def make() -> None:
        before = contextvars.copy_context()
        calls.make(run)
        for variable, value in contextvars.copy_context().items():
            if before.get(variable, _NONE) is not value:
                changed[variable] = value

    raised: BaseException | None = None
    calls.task = asyncio.current_task()
    calls.cancelled_before = calls.cancelling()
    try:
        await _stopping(calls, _awaited(runner, call))
        if calls.cancelling() > calls.cancelled_before:
            raised = calls.interrupt  # the runner has caught it
    except BaseException as error:
        raised = error
    begun.append(over)
    try:
        if begun[0] is over or isinstance(raised, GeneratorExit):  # which forbids to wait
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
            for variable, value in list(changed.items()):
                if variable.get(_NONE) is mine.get(variable, _NONE):  # nobody has carried it
                    variable.set(value)
    finally:
        calls.interrupt = calls.task = None
        del raised  # or the traceback, this frame and the error form a cycle


async def _awaited(runner: _aside.SyncRunner, call: Callable[[], None]) -> None:
    await runner(call)


@types.coroutine
def _stopping(calls: _SyncCalls, coroutine: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """Await ``coroutine``; when that is interrupted, no further receiver is called."""
    step = functools.partial(coroutine.send, None)
    while True:
        try:
            wanted = step()
        except StopIteration:
            return
        try:
            step = functools.partial(coroutine.send, (yield wanted))
        except BaseException as error:
            calls.stop(error)
            step = functools.partial(coroutine.throw, error)


def notify(
    loop: asyncio.AbstractEventLoop, function: Callable[[], object], future: object = None
) -> None:
    """Have ``function()`` called on ``loop``, from any thread; not if it is closed by now."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)
