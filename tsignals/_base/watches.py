"""What observers are told of one receiver of a send: that it starts, and how it ends.

A receiver is called in one of three ways, and each has its methods here: by whoever sends
(``call``), in a pool (``start_in`` and ``end_in``), on an event loop (``awaited``). What never gets
so far is told by the callback of its future (``done``), which also tells of what ended where nobody
could: in another process, or because who ran it was interrupted.

Invariant
    W2  What ends a watch is decided in its ``_over``, to which everybody appends the iterator over
        those whom it would tell: the first entry counts, and they are told. So a watch ends once,
        however many see it end; and who was interrupted goes on.
"""

import sys
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from contextvars import Context
from time import perf_counter
from typing import Any, Self, TypeVar

from tsignals._base.atomic import comes_first
from tsignals._base.errors import DeliveryDropped, DeliveryLost
from tsignals._base.own_variables import OwnVariables
from tsignals._base.retry import Pause
from tsignals._base.telling import Left, ObservedSend, OutcomeFields, insist, tell

R = TypeVar("R")
Defer = Callable[[BaseException], object]
Ended = tuple[object, BaseException | None, bool]
"""How a call has ended: a response, or what was raised; and whether it was cancelled."""


class Watch:
    """One receiver of a send, until it has ended."""

    __slots__ = (
        "__weakref__",
        "_options",
        "_over",
        "_queued_seconds",
        "_started_at",
        "about",
        "attempts",
        "context",
        "is_elsewhere",
        "receiver",
        "send",
    )

    def __init__(
        self, send: ObservedSend, place: int, receiver: object, options: object = None
    ) -> None:
        """``options``: those of its connection, for which it stands in a send."""
        self.send = send
        self._options: Any = options
        self.receiver = receiver
        self.about = send.of + (receiver, place, ())
        self.context: Context | None = None  # of the send, where it may end without having run
        self.is_elsewhere = False  # in another process or interpreter, of which nobody knows
        self._over: list[Left] = []  # W2
        self._queued_seconds: float | None = 0.0
        self._started_at: float | None = None
        self.attempts = 0

    @property
    def _watch(self) -> Self:
        return self

    @property
    def is_over(self) -> bool:
        return bool(self._over)

    # -- In the three ways in which a receiver may be called --

    def call(
        self, queued_at: float | None, target: Callable[..., object], keywords: Mapping[str, object]
    ) -> object:
        """Call ``target`` in place of the receiver, which waits since ``queued_at``."""
        outcome: Ended | None = None
        starting, ending = iter(self.send.subscriptions), iter(self.send.subscriptions)
        try:
            self._start(starting, queued_at)
            response = target(**keywords)
            outcome = response, None, False
            self._end(ending, self._started_at, outcome)
            return response
        except BaseException as error:  # the receiver's, or what interrupts the telling
            try:
                insist(self._start, starting, queued_at)
            finally:
                insist(self._end, ending, self._started_at, outcome or (None, error, False))
            raise
        finally:
            response = None
            del outcome, keywords  # a traceback may hold this frame

    def start_in(self, context: Context, queued_at: float, defer: Defer) -> None:
        """It is about to be called, in ``context``; what interrupts that goes to ``defer``."""
        insist(_run_in, self.send.subscriptions, context, self._start, queued_at, defer=defer)

    def end_in(
        self, context: Context, response: object, error: BaseException | None, defer: Defer
    ) -> None:
        """It has ended, in ``context``; what interrupts the telling goes to ``defer``.

        Nothing is told if it was not started, or is over.

        A ``Pause`` for a response: this attempt has failed, and there will be another.
        """
        what = self._started_at, (response, error, False)
        try:
            insist(_run_in, self.send.subscriptions, context, self._end, *what, defer=defer)
        finally:
            del what, response, error  # or a traceback, this frame and the error form a cycle

    async def awaited(
        self,
        judge: Callable[[R], Ended],
        queued_at: float | None,
        defer: Defer | None,
        shares: bool,
        function: Callable[..., Coroutine[object, object, R]],
        *arguments: object,
    ) -> R:
        """Await ``function(...)`` and tell of that; ``judge``: what a result says.

        ``shares``: others run in this context at the same time. What ``started`` sets is this
        receiver's alone.
        """
        outcome: Ended | None = None
        own = OwnVariables() if shares and "started" in self.send.heard else None
        ending = iter(self.send.subscriptions)
        try:
            if own is None:
                insist(self._start, self.send.subscriptions, queued_at, defer=defer)
            else:
                insist(
                    _run_in,
                    self.send.subscriptions,
                    own.context,
                    self._start,
                    queued_at,
                    defer=defer,
                )
            if own is None:
                response = await function(*arguments)
            else:
                response = await own.around(function(*arguments))
            outcome = judge(response)
            self._end_awaited(own, ending, outcome, defer)
            return response
        except BaseException as error:  # as in ``call``
            if outcome is None:
                cancelled = type(error) is GeneratorExit or _is_asyncios(error)
                outcome = None, error, cancelled
            self._end_awaited(own, ending, outcome, defer)
            raise
        finally:
            response = None  # type: ignore[assignment]
            del outcome, response, arguments, function, judge, own

    def _end_awaited(
        self, own: OwnVariables | None, ending: Left, outcome: Ended, defer: Defer | None
    ) -> None:
        what = self._started_at, outcome
        try:
            if own is None:
                insist(self._end, ending, *what, defer=defer)
            else:
                own.catch_up()
                insist(_run_in, ending, own.context, self._end, *what, defer=defer)
        finally:
            del what, outcome, own  # or a traceback, this frame and the error form a cycle

    def _start(self, left: Left, queued_at: float | None) -> None:
        """The receiver is about to be called, here."""
        if self._over:
            return
        if self._started_at is None:
            now = perf_counter()
            if queued_at is not None:
                self._queued_seconds = max(0.0, now - queued_at)
            self.attempts += 1
            self._started_at = now
        if "started" in self.send.heard:
            what = self.attempts, self._queued_seconds, None, None, None, None
            tell(left, "started", self.about, what)

    def _end(self, left: Left, started: float | None, outcome: Ended) -> None:
        """It has ended, here; nothing if it was not started."""
        if started is None:
            return
        ran = perf_counter() - started
        response, error, cancelled = outcome
        what: OutcomeFields
        if type(response) is Pause and error is not None:
            self._started_at = None  # what ends it in the pause finds it not begun
            if "retried" in self.send.heard:
                what = self.attempts, self._queued_seconds, ran, None, error, None
                tell(left, "retried", self.about, what)
        else:
            how = _how(error, cancelled)
            what = self.attempts, self._queued_seconds, ran, how, error, response
            self._finish(left, "ended", what)

    def _finish(self, left: Left, name: str, what: OutcomeFields) -> None:
        """Be over, and tell; nothing if it is (W2)."""
        if comes_first(self._over, left):
            self.context = None
            if name in self.send.heard:
                tell(left, name, self.about, what)

    # -- For a delivery --

    def done(self, future: "Future[object]") -> None:
        """Its future is done: tell how, if nobody has; called once or more."""
        if not self._over:
            insist(self._done, self.send.subscriptions, future, self.context)

    def _done(self, left: Left, future: "Future[object]", context: Context | None) -> None:
        cancelled = future.cancelled()
        error = None if cancelled else future.exception(0)
        try:
            is_unrun = cancelled or issubclass(type(error), (DeliveryDropped, DeliveryLost))
            if self._started_at is not None or (self.is_elsewhere and not is_unrun):
                # Who ran it was interrupted, or is in another process.
                response = None if cancelled or error is not None else future.result(0)
                self._end_late(left, response, error, cancelled)
            elif context is None:
                self._give_up(left, cancelled, error)
            else:
                context.copy().run(self._give_up, left, cancelled, error)
        finally:
            del error  # or a traceback, this frame and the error form a cycle

    def _end_late(
        self, left: Left, response: object, error: BaseException | None, cancelled: bool
    ) -> None:
        """It has ended, nobody knows when."""
        queued = None if self._started_at is None else self._queued_seconds
        what = max(1, self.attempts), queued, None, _how(error, cancelled), error, response
        self._finish(left, "ended", what)

    def give_up(self, error: BaseException) -> None:
        """It is not taken: it ends without having run."""
        insist(self._give_up, self.send.subscriptions, False, error)

    def _give_up(self, left: Left, cancelled: bool, error: BaseException | None) -> None:
        waited = max(0.0, perf_counter() - self.send.sent_at)
        kind = type(error)
        name, how = "dropped", "cancelled"
        if not (cancelled or issubclass(kind, CancelledError) or _is_asyncios(error)):
            if issubclass(kind, DeliveryDropped):
                how = "dropped"
            elif issubclass(kind, DeliveryLost):
                how = "lost"
            else:
                name = how = "refused"
        self._finish(left, name, (self.attempts, waited, None, how, error, None))


def _run_in(left: Left, context: Context, function: Callable[..., None], *what: object) -> None:
    context.run(function, left, *what)


def _how(error: BaseException | None, cancelled: bool) -> str:
    return "cancelled" if cancelled else "completed" if error is None else "failed"


def _is_asyncios(error: BaseException | None) -> bool:
    """Whether it is a ``CancelledError`` of asyncio, which need not be imported for this."""
    asyncios = getattr(sys.modules.get("asyncio.exceptions"), "CancelledError", ())
    return issubclass(type(error), asyncios)
