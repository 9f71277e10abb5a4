"""Async receivers, and senders that are coroutines.

A send calls its sync receivers one after the other, then awaits the async ones side by side in one
task group. ``asend`` does the former on another thread, ``send`` the latter on an event loop made
for it. Receivers that do not run in the sender's own context share one copy of it; what they set
there is set for the sender at the end.

This module is imported when it is first needed, for it imports asyncio.
"""

import asyncio
import contextlib
import contextvars
import functools
import sys
import time
import types
from collections.abc import Callable, Collection, Coroutine, Generator
from concurrent.futures import Future
from typing import Any, TypeVar, cast

from tsignals import _waits
from tsignals._around import Around
from tsignals._aside import async_runner
from tsignals._each import Live, Named, Pairs, Tell, call_each, call_each_robust
from tsignals._future import PoolFuture
from tsignals._gate import Call, Gate, enclosing
from tsignals._outcomes import Outcomes
from tsignals._receiver import Receiver
from tsignals._sync_ones import SharedContext, call_sync_ones, notify
from tsignals._work import SKIPPED

P = TypeVar("P", bound=Pairs)


# -- One receiver --


async def respond(
    receiver: Receiver, gate: Gate | None, arguments: tuple[Any, ...], keywords: Named
) -> Any:
    """Await the response of an async receiver; ``SKIPPED`` behind a closed gate."""
    if gate is None:
        response = await receiver(*arguments, **keywords)
        if _is_cancelled():
            await asyncio.sleep(0)  # where it has cancelled itself, it hears of that only now
        return response
    call = Call(asyncio.current_task())
    try:
        if gate.enter(call):
            return await _inside(call, respond(receiver, None, arguments, keywords))
        return SKIPPED
    finally:
        try:
            gate.leave(call)
        except BaseException:  # interrupted
            gate.leave(call)
            raise
        finally:
            call.task = None  # what has been raised is its result, and has this frame: a cycle


def _is_cancelled() -> bool:
    task = asyncio.current_task()  # no local of a coroutine: an error's traceback would hold it
    return task is not None and task.cancelling() > 0


@types.coroutine
def _inside(call: Call, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Await ``coroutine`` with ``call`` among the enclosing ones in its every step.

    Not once and for all: the others that share the context are not inside ``call``.
    """
    step = functools.partial(coroutine.send, None)
    while True:
        token = enclosing.set((*enclosing.get(), call))
        try:
            wanted = step()
        except StopIteration as stop:
            return stop.value
        finally:
            enclosing.reset(token)
        try:
            step = functools.partial(coroutine.send, (yield wanted))
        except BaseException as error:
            step = functools.partial(coroutine.throw, error)


class _Raised:
    """In place of a response: what the receiver raised, for the sender to raise."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Failed(_Raised):
    """The same, for the sender to collect; it has been told."""


class _Plainly:
    """How ``send`` and ``asend`` await a receiver."""

    def __init__(self, signal: Any, sender: Any, named: Named) -> None:
        self.keywords = {"signal": signal, "sender": sender, **named}

    async def respond(self, receiver: Receiver, gate: Gate | None, group: "_Group") -> Any:
        try:
            if gate is None:  # as nearly always: one coroutine less
                return await receiver(**self.keywords)
            return await respond(receiver, gate, (), self.keywords)
        except asyncio.CancelledError as error:
            if group.cancels():
                raise
            return _Raised(error)  # raised, it would be taken for a cancellation of the task

    def failed(self, receiver: Receiver, error: BaseException, ran: float) -> _Raised:
        """What is in place of the response of a receiver that has failed."""
        return _Raised(error)


class _Robustly(_Plainly):
    """How ``send_robust`` and ``asend_robust`` do."""

    def __init__(self, signal: Any, sender: Any, named: Named, mode: str, tell: Tell) -> None:
        super().__init__(signal, sender, named)
        self.named = named
        self.mode = mode
        self.tell = tell

    async def respond(self, receiver: Receiver, gate: Gate | None, group: "_Group") -> Any:
        started = time.perf_counter()
        try:
            return await respond(receiver, gate, (), self.keywords)
        except (Exception, asyncio.CancelledError) as error:
            # Not isinstance, which asks an error for its ``__class__``.
            if issubclass(type(error), asyncio.CancelledError) and group.cancels():
                raise
            return self.failed(receiver, error, time.perf_counter() - started)

    def failed(self, receiver: Receiver, error: BaseException, ran: float) -> _Raised:
        signal, sender = self.keywords["signal"], self.keywords["sender"]
        self.tell(signal, sender, receiver, error, self.mode, 0.0, ran, self.named)
        return _Failed(error)


# -- The async receivers of a send --

Pair = tuple[Receiver, "Future[Any]"]


async def _together(later: Live, context: contextvars.Context, each: _Plainly) -> Pairs:
    """Await the responses of all at once, in one ``context``; in the end none is left running.

    The first to raise has the others cancelled, and is raised; if some of these raise as well, all
    are raised as a group.
    """
    responses, errors = await _Group(each).run(later, context)
    if errors:
        try:
            if len(errors) == 1:
                raise errors[0]
            raise BaseExceptionGroup(f"{len(errors)} receivers failed", errors)
        finally:
            del responses, errors  # or the traceback, this frame and the error form a cycle
    return [
        (receiver, response)
        for (_, receiver), response in zip(later, responses, strict=True)
        if response is not SKIPPED
    ]


class _Group:
    """The async receivers of one send, each in a task of its own.

    Not a ``TaskGroup``: that would take a ``CancelledError`` for a cancellation whoever has raised
    it, and, where the sender was cancelled before (it sends in a ``finally``), cancel it again.
    """

    def __init__(self, each: _Plainly) -> None:
        self.each = each
        self.sender = asyncio.current_task()
        self.cancelled_before = 0 if self.sender is None else self.sender.cancelling()
        self.ends = False  # one has failed, or the sender was cancelled
        self.tasks: dict[asyncio.Task[Any], Receiver] = {}
        self.left = 0  # how many have not ended
        self.over: asyncio.Future[None] | None = None
        self.errors: list[BaseException] = []  # the first to fail first
        self.responses: dict[asyncio.Task[Any], Any] = {}  # in place of those of the tasks

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

    async def run(
        self, later: Live, context: contextvars.Context
    ) -> tuple[list[Any], list[BaseException]]:
        """Await all; return the responses, or what was raised.

        Raises ``CancelledError`` when the sender is cancelled, unless a receiver raises something
        then: that comes first, and the sender hears of its cancellation at the next occasion.
        """
        cancelled: asyncio.CancelledError | None = None
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
                return [], self.errors
            if cancelled is not None:
                raise cancelled
            instead = self.responses
            return [instead[task] if task in instead else task.result() for task in self.tasks], []
        except BaseException:
            with contextlib.suppress(RuntimeError):  # the loop has been closed under it
                self.end()
            raise
        finally:
            # The errors' tracebacks hold the frames that hold this, and so does the sender's.
            del cancelled
            self.sender = None
            self.tasks, self.errors, self.responses = {}, [], {}

    def start(self, later: Live, context: contextvars.Context) -> None:
        create, respond, note = asyncio.get_running_loop().create_task, self.each.respond, self.note
        for row, receiver in later:
            response = respond(receiver, row._terms.gate, self)
            try:
                task = create(response, context=context)
            except BaseException as error:  # of a task factory
                response.close()
                self.errors.append(error)
                self.end()
                return
            self.tasks[task] = receiver
            self.left += 1
            if task.done():  # tasks of this loop start eagerly
                note(task)
                if self.ends:
                    return
            else:
                task.add_done_callback(note, context=context)

    def note(self, task: "asyncio.Task[Any]") -> None:
        """A task has ended."""
        try:
            if task.cancelled():
                if not self.cancels():
                    self.note_stray(task)
            elif (error := task.exception()) is not None:
                self.fail(error)
            elif type(raised := task.result()) is _Raised:
                self.fail(raised.error)
        finally:
            error = raised = None  # an error's traceback may hold this frame
            self.left -= 1
            if not self.left and self.over is not None and not self.over.done():
                self.over.set_result(None)

    def note_stray(self, task: "asyncio.Task[Any]") -> None:
        """It was cancelled by somebody else before it began, or at its very end."""
        response = None
        try:
            task.result()
        except asyncio.CancelledError as error:
            response = self.responses[task] = self.each.failed(self.tasks[task], error, 0.0)
            if type(response) is _Raised:
                self.fail(response.error)
        finally:
            del response  # as above

    def fail(self, error: BaseException) -> None:
        self.errors.append(error)
        self.end()


def _add(outcomes: Outcomes, responses: Pairs) -> Outcomes:
    for receiver, response in responses:
        if type(response) is _Failed:  # isinstance would ask a lazy object for its class
            outcomes._add_error(receiver, response.error)
        else:
            outcomes.append((receiver, response))
    return outcomes


def _async_ones(live: Live) -> Live:
    return [pair for pair in live if pair[0]._terms.is_async]


# -- Senders that are none --


def send(live: Live, signal: Any, sender: Any, named: Named) -> Pairs:
    """``Signal.send`` where some receivers are async."""
    _refuse_running_loop(signal, "send")
    pairs = call_each(live, signal, sender, named)
    pairs += _run_together(_async_ones(live), _Plainly(signal, sender, named))
    return pairs


def send_robust(live: Live, signal: Any, sender: Any, named: Named, tell: Tell) -> Outcomes:
    """``Signal.send_robust`` where some receivers are async."""
    _refuse_running_loop(signal, "send_robust")
    outcomes = call_each_robust(live, signal, sender, named, "send_robust", tell)
    each = _Robustly(signal, sender, named, "send_robust", tell)
    return _add(outcomes, _run_together(_async_ones(live), each))


def _run_together(later: Live, each: "_Plainly") -> Pairs:
    """``_together``, to its end, in a context whose changes are seen here."""
    run_async = async_runner()
    if run_async is None:
        with SharedContext() as context:
            return cast(Pairs, run(_together, later, context, each))

    async def in_its_context() -> tuple[Any, Exception | None]:
        # Not in ours: the runner may have put into its own where sync code is to run.
        with SharedContext() as context:
            return await _settled(_together(later, context, each))

    return cast(Pairs, _result(*run_async(in_its_context)))


def _refuse_running_loop(signal: Any, verb: str) -> None:
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"cannot {verb} signal {signal._label} here: it has async receivers, and this thread "
            f"runs an event loop; use await signal.a{verb}(...). No receiver was called"
        )


def respond_now(receiver: Receiver, arguments: tuple[Any, ...], keywords: Named) -> Any:
    """The response of an async receiver; variables that it sets are set here."""
    run_async = async_runner()
    if run_async is not None:
        return _result(*run_async(lambda: _settled(respond(receiver, None, arguments, keywords))))
    with SharedContext() as context:
        return run(respond, receiver, None, arguments, keywords, context=context)


def run(
    function: Callable[..., Coroutine[Any, Any, Any]],
    *arguments: Any,
    context: contextvars.Context | None = None,
) -> Any:
    """Await ``function(...)`` on an event loop of its own; the thread's current one stays."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("cannot run an async receiver on a thread that runs an event loop")
    # With a factory, the runner sets no event loop.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        result, error = runner.run(_settled(function(*arguments)), context=context)
    try:
        return _result(result, error)
    finally:
        del error  # or the traceback, this frame and the error form a cycle


def _result(result: Any, error: Exception | None) -> Any:
    try:
        if error is not None:
            raise error
        return result
    finally:
        del error  # or the traceback, this frame and the error form a cycle


async def _settled(coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, Exception | None]:
    """What it gives, or raises: the runner asks its task for a ``repr``, which asks an exception.

    That may have none, and the runner would leave its handler of SIGINT behind.
    """
    try:
        return await coroutine, None
    except Exception as error:
        return None, error


# -- Senders that are coroutines --


async def asend(
    live: Live, signal: Any, sender: Any, named: Named, around: Around | None, here: bool
) -> Pairs:
    """``Signal.asend``; the sync receivers run each inside of ``around``, elsewhere or ``here``."""
    later = _async_ones(live)
    pairs: Pairs = []
    if len(later) < len(live):
        pairs = await call_sync_ones(here, call_each, live, signal, sender, named, around)
    if later:
        with SharedContext() as context:
            pairs += await _together(later, context, _Plainly(signal, sender, named))
    return pairs


async def asend_robust(
    live: Live,
    signal: Any,
    sender: Any,
    named: Named,
    tell: Tell,
    around: Around | None,
    here: bool,
) -> Outcomes:
    """``Signal.asend_robust``, likewise."""
    mode = "asend_robust"
    later = _async_ones(live)
    outcomes = Outcomes()
    if len(later) < len(live):
        # Elsewhere nobody cancels the sender: a CancelledError is a receiver's own.
        catch = (Exception, asyncio.CancelledError)
        arguments = live, signal, sender, named, mode, tell, around, catch
        outcomes = await call_sync_ones(here, call_each_robust, *arguments)
    if later:
        with SharedContext() as context:
            each = _Robustly(signal, sender, named, mode, tell)
            _add(outcomes, await _together(later, context, each))
    return outcomes


# -- Waiting for deliveries --


async def await_results(deliveries: Collection[Pair]) -> Pairs:
    """``await deliveries``: as ``Deliveries.results``."""
    pairs = []
    for receiver, future in deliveries:
        if not future.done():
            loop, done = asyncio.get_running_loop(), asyncio.Event()
            future.add_done_callback(functools.partial(notify, loop, done.set))
            while True:
                with _waiting(future, done.set):
                    await done.wait()
                if future.done():
                    break
                done.clear()  # it was let go: now it may be run here, and stands in its lane
        pairs.append((receiver, future.result(0)))
    return pairs


class Completed:
    """What ``async for`` goes through: results as they come in."""

    # Not an async generator: left half way, that would have to be closed by its event loop.

    def __init__(self, deliveries: Collection[Pair]) -> None:
        loop = asyncio.get_running_loop()
        self._left = len(deliveries)
        self._done: asyncio.Queue[Pair] = asyncio.Queue()
        for pair in deliveries:
            put = functools.partial(self._done.put_nowait, pair)
            future = pair[1]
            with _waiting(future):
                future.add_done_callback(functools.partial(notify, loop, put))
            if isinstance(future, PoolFuture) and future._held and future._pool.works_here():
                help = functools.partial(future._pool.help, future)
                future._wake_at_end(_Waker(loop, help))  # type: ignore[arg-type]
                if not future._held:
                    help()  # it was let go meanwhile

    def __aiter__(self) -> "Completed":
        return self

    async def __anext__(self) -> tuple[Receiver, Any]:
        if not self._left:
            raise StopAsyncIteration
        receiver, future = await self._done.get()
        self._left -= 1
        return receiver, future.result(0)


delivering: "dict[asyncio.Task[Any] | None, int]" = {}
"""By its task: what stands for a thread in the mark of an async delivery that runs."""


def _waiting(
    future: "Future[Any]", let_go: Callable[[], object] | None = None
) -> contextlib.AbstractContextManager[None]:
    """Around a wait for ``future``, which raises ``RuntimeError`` if it could never end.

    On an event loop that a worker runs, what has not started runs first, as in any wait there; but
    for what nobody has submitted yet. ``let_go`` is called, on the loop, once somebody has.
    """
    if not isinstance(future, PoolFuture):
        return contextlib.nullcontext()
    held = future._held  # looked at before its turn: H3 in _held
    if not held:
        future._pool.help(future)
    me = delivering.get(asyncio.current_task())
    if held and let_go is not None:
        return _WaitingForIt(future, me, _Waker(asyncio.get_running_loop(), let_go))
    return contextlib.nullcontext() if me is None else _waits.Awaiting(future, me)


class _WaitingForIt(contextlib.AbstractContextManager[None]):
    """Around a wait for ``future``, which is held back."""

    def __init__(self, future: PoolFuture, me: int | None, waker: Any) -> None:
        self._future = future
        self._awaiting = None if me is None else _waits.Awaiting(future, me)
        self._waker = waker

    def __enter__(self) -> None:
        if self._awaiting is not None:
            self._awaiting.__enter__()
        self._future._wake_at_end(self._waker)
        if not self._future._held:
            self._waker.put(None)

    def __exit__(self, *raised: object) -> None:
        self._future._let_sleep(self._waker)
        if self._awaiting is not None:
            self._awaiting.__exit__(*raised)


class _Waker:
    """Among those who sleep until a future ends: has something called on an event loop then."""

    __slots__ = ("_function", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
        self._loop = loop
        self._function = function

    def put(self, _: None) -> None:
        notify(self._loop, self._function)
