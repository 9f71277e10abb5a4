"""``Delivery``: the future of one receiver's call; and ``Send``, what those of one send share."""

import contextvars
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from tsignals._base.around import Failed, drop_frame, surrounded
from tsignals._base.definition import for_signal, name_of, name_signal
from tsignals._base.errors import SKIPPED, DeliveryDropped
from tsignals._base.interrupts import foreign, raised_by
from tsignals._base.log import log_unless_interrupt
from tsignals._base.retry import Pause
from tsignals._base.watches import Watch
from tsignals._calling.failures import report, report_retry
from tsignals._calling.tracked_call import enclosing
from tsignals._calling.tracking import Gate
from tsignals._calling.types import Named, Receiver
from tsignals._delivery.retrying import MayRunAgain, pause_after
from tsignals._pool.core import Core
from tsignals._pool.seam import Result
from tsignals._registry.connection import Options
from tsignals._registry.receiver import unwrap

R = TypeVar("R")


class HasOptions(Protocol):
    """A connection, or what calls for a delivery without one."""

    _options: Options


Live = Sequence[tuple[HasOptions, Receiver]]


class HasSender(Protocol):
    """A delivery, or what stands for several: it knows who has sent what."""

    signal: Any
    sender: Any


class Send:
    """What the deliveries of one send have in common."""

    __slots__: tuple[str, ...] = ()

    _context: contextvars.Context  # of the sender, which they run in copies of
    _named: Named

    _mode = "send_async"
    _arguments: tuple[object, ...] = ()
    _target: Receiver | None = None  # what to call in place of the receiver
    _watches: dict[int, Watch] | None = None  # of the deliveries, by their ids: who observes it

    def _keywords_for(self, of: HasSender) -> Named:
        """What a receiver is called with; ``of`` has the signal and the sender."""
        return {"signal": of.signal, "sender": of.sender, **self._named}

    def _target_for(self, receiver: Receiver) -> Receiver:
        """What to call for ``receiver`` in a worker."""
        return unwrap(receiver if self._target is None else self._target)


def dropped() -> DeliveryDropped:
    """What becomes of a delivery that nobody submits."""
    return DeliveryDropped("it was dropped before it was submitted, as at a rollback")


def context_of_sender() -> contextvars.Context:
    """A copy of the current context; what encloses a send does not enclose its deliveries."""
    context = contextvars.copy_context()
    if enclosing in context and enclosing.get():  # to get what is not set takes long
        context.run(enclosing.set, ())
    return context


class GeneralSend(Send):
    """One send to receivers of any kind, or in any executor."""

    __slots__ = ("_context", "_named", "lanes", "sender", "signal")

    def __init__(self, signal: object, sender: object, named: Named) -> None:
        self.signal = signal
        self.sender = sender
        self._named = named
        self._context = context_of_sender()
        self.lanes: dict[int, object] = {}  # by id of the options, until there are deliveries

    def share(self, send: "GeneralSend") -> None:
        """Have what ``send`` has, to stand in its place; called instead of ``__init__``."""
        self.signal, self.sender = send.signal, send.sender
        self._named, self._context, self.lanes = send._named, send._context, send.lanes

    def values(self) -> Named:
        """What was sent, without the signal and the sender, by name."""
        return {n: self._named[n] for n in self._named if n not in ("signal", "sender")}

    def note(self, deliveries: Iterable[tuple[Receiver, Future[object]]]) -> None:
        """These are the deliveries, which nothing has happened to yet."""

    def watch_for(self, receiver: Receiver) -> Watch | None:
        """The watch of a call of ``receiver`` in another executor."""
        return None

    def report_in(
        self,
        context: contextvars.Context,
        receiver: Receiver,
        error: BaseException,
        ran: float = 0.0,
    ) -> None:
        """Report, in ``context``, what no worker of a pool has seen fail."""
        of = self.signal, self.sender, receiver
        context.run(report, *of, error, self._mode, 0.0, ran, self._named)


class Delivery(MayRunAgain):
    """One receiver's call in a :class:`WorkerPool`: a ``concurrent.futures.Future``.

    ``signal``, ``sender`` and ``receiver`` tell whose. ``result()`` gives the response or raises
    what the receiver raised; a worker of the same pool that waits runs it if it has not started.
    ``RuntimeError`` where a wait could never end. ``cancel()`` also ends an async receiver that
    runs, and the pause before another attempt (``retry``).

    Thread safety: every method from any thread. Callbacks run in the thread that ends it, or at
    once if it has ended.
    """

    __slots__ = ("receiver", "sender", "signal")

    _gate: Gate | None = None  # of a tracked receiver, until it is inside
    _core: Core
    receiver: Receiver
    sender: Any
    _send: Send | None
    signal: Any

    @foreign
    def _perform(self) -> Result:
        """Call the receiver in its own copy of the sender's context; tell of its failure."""
        # In one piece: deliveries that wait for deliveries nest on one stack.
        send, gate, around = self._send, self._gate, self._core.config.around
        assert send is not None
        target = send._target_for(self.receiver)
        context = send._context.copy()
        arguments, keywords = send._arguments, send._keywords_for(self)
        defer = self._core.state.defer
        failed: Failed | None = None
        watch: Watch | None = None
        again: list[Pause | None] = []  # what follows a failure
        outcome: Result = None, SKIPPED
        started = time.perf_counter()
        try:
            if gate is not None:
                self._dequeue()
                self._gate = None  # what follows is done inside of it
                try:
                    inside = gate.call(self._perform)
                finally:
                    if self._retry is not None:
                        self._gate = gate  # there may be another attempt
                if not isinstance(inside, BaseException):
                    outcome = inside
                del inside
                return outcome
            if send._watches is not None:
                watch = send._watches[id(self)]
                watch.start_in(context, self._waits_since(started), defer)
            if around is None:
                outcome = context.run(target, *arguments, **keywords), None
                return outcome
            failed = functools.partial(self._fail_inside, again, send, started)
            outcome = context.run(surrounded, around, failed, defer, target, arguments, keywords)
            if again:
                outcome = again[0], outcome[1]
            return outcome
        except BaseException as error:  # whatever a receiver raises is its delivery's
            outcome = self._fail(send, started, error, context), error
            return outcome
        finally:
            if watch is not None:
                watch.end_in(context, *outcome, defer)
            # See drop_frame; and this frame may live as long as what a receiver has raised.
            del self, keywords, send, context, failed, outcome, watch

    @foreign
    def _fail(
        self,
        send: Send,
        started: float,
        error: BaseException,
        context: contextvars.Context | None = None,
        named: Named | None = None,
    ) -> Pause | None:
        """Tell of what the receiver, ``started`` then, has raised just now.

        ``context`` is that in which it ran; ``None``: the current one. ``named`` is what was sent,
        if ``send`` may not know any more: the receiver has forked, say. Returns what follows, if
        that is another attempt.
        """
        ran = time.perf_counter() - started
        drop_frame(error)
        call = _call if context is None else context.run
        before = self._last_pause()
        attempts = 1 if before is None else before.attempts + 1
        of = self.signal, self.sender, self.receiver, error, send._mode
        pause: Pause | None = None
        if (policy := self._retry) is not None:
            about = self._about()
            pause = pause_after(policy, self._core, before, started, error, call, about)
        if pause is not None:
            raised = raised_by(call, report_retry, *of, attempts, pause.due - time.perf_counter())
        else:
            # Not below zero where an interrupted sender has queued it once more.
            queued = max(0.0, started - self._waits_since(started))
            named = send._named if named is None else named
            raised = raised_by(call, report, *of, queued, ran, named, attempts)
        if raised is not None and log_unless_interrupt(raised) is not None:
            self._core.state.defer(raised)  # raised once this has its own error
        del raised, error  # or the traceback, this frame and the error form a cycle
        return pause

    def _fail_inside(
        self, again: list[Pause | None], send: Send, started: float, error: BaseException
    ) -> None:
        """As ``_fail``, for who cannot take what that returns: it is put into ``again``."""
        again.append(self._fail(send, started, error))

    def _waits_since(self, started: float) -> float:
        """Since when it has waited to be run; ``started``: run where it was sent, it has not."""
        pause = self._last_pause()
        if pause is not None:
            return pause.due
        return self._core.backlog.unresolved.get(self._entry, started)

    def _about(self) -> str:
        receiver = name_of(self.receiver)
        return receiver if self.signal is None else f"{name_signal(self.signal)} to {receiver}"

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else self._phase.lower()
        if state == "finished" and self._exception is not None:
            state += f", raised {type(self._exception).__name__}"
        return f"<Delivery of {name_of(self.receiver)}{for_signal(self.signal)}, {state}>"

    def _forget(self) -> object:
        """Let go of what is needed only to run, and return it."""
        send, self._send = self._send, None
        self._dequeue()
        return send

    def _leave(self) -> None:
        self._core.backlog.unresolved.pop(self, None)  # as core.forget; a call takes longer

    def _dequeue(self) -> None:
        """It has started, or will not: its gate need not cancel it any more."""
        if (gate := self._gate) is not None:
            gate.dequeue(self)


class SingleDelivery(Delivery):
    """One that stands in the queue by itself: an ordered one, an async one, one that is held."""

    __slots__ = ("_claims", "_gate", "_ordered_by", "_retry", "_send", "_turn")

    def __init__(
        self, core: Core, receiver: Receiver, send: GeneralSend, lane: object, options: Options
    ) -> None:
        """``lane``: whose it is in, the receiver's or that of a ``LaneId``; ``None``: in none."""
        super().__init__(core)
        self.signal = send.signal
        self.sender = send.sender
        self.receiver = receiver
        self._send = send
        self._turn = None
        self._ordered_by = lane
        self._gate = options.gate
        self._retry = options.retry

    def _forget(self) -> object:
        self._ordered_by = None  # its turn, if it has one, keeps the lane
        return super()._forget()


def _call(function: Callable[..., R], /, *arguments: object) -> R:
    return function(*arguments)
