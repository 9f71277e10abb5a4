"""``Delivery``, the future of one receiver's call, and ``Deliveries``, those of one send."""

import contextlib
import contextvars
import functools
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent import futures
from typing import Any

from tsignals._around import drop_frame, surrounded
from tsignals._critical import foreign
from tsignals._definition import name_of
from tsignals._engine import Engine
from tsignals._gate import Call, enclosing
from tsignals._outcomes import Outcomes
from tsignals._receiver import Receiver, direct
from tsignals._telling import for_signal, unless_own
from tsignals._timeouts import seconds
from tsignals._work import SKIPPED, Work


class Message:
    """What the deliveries of one send have in common."""

    __slots__: tuple[str, ...] = ()

    context: contextvars.Context  # of the sender, which they run in copies of
    named: dict[str, Any]
    queued_at: float  # since when they wait
    tell: Callable[..., None]  # tells of a failure

    mode = "send_async"
    arguments: tuple[Any, ...] = ()
    target: Receiver | None = None  # what to call in place of the receiver

    def keywords_for(self, of: Any) -> dict[str, Any]:
        """What a receiver is called with; ``of`` has the signal and the sender."""
        return {"signal": of.signal, "sender": of.sender, **self.named}

    def target_for(self, receiver: Receiver) -> Receiver:
        """What to call for ``receiver`` in a worker."""
        return direct(receiver if self.target is None else self.target)


class Sending(Message):
    """One send to receivers of any kind, or in any executor."""

    __slots__ = ("context", "named", "queued_at", "sender", "signal", "tell")

    def __init__(
        self, signal: Any, sender: Any, named: dict[str, Any], tell: Callable[..., None]
    ) -> None:
        self.signal = signal
        self.sender = sender
        self.named = named
        self.tell = tell
        context = self.context = contextvars.copy_context()
        if enclosing in context and enclosing.get():
            # What encloses the send does not enclose the deliveries.
            context.run(enclosing.set, ())

    def tell_in(
        self,
        context: contextvars.Context,
        receiver: Receiver,
        error: BaseException,
        queued: float = 0.0,
    ) -> None:
        """Tell, in ``context``, of what no worker of a pool has seen fail."""
        of = self.signal, self.sender, receiver
        context.run(self.tell, *of, error, self.mode, queued, 0.0, self.named)


class Delivery(Work):
    """One receiver's call in a :class:`WorkerPool`: a ``concurrent.futures.Future``.

    ``signal``, ``sender`` and ``receiver`` tell whose. ``result()`` gives the response or raises
    what the receiver raised; a worker of the same pool that waits runs it if it has not started.
    """

    __slots__ = ("_sending", "receiver", "sender", "signal")

    _gate: Any = None  # of a tracked receiver
    receiver: Receiver
    sender: Any
    _sending: Message | None
    signal: Any

    def _mark_queued(self, now: float) -> None:
        # Looked at once: another thread may drop this delivery meanwhile.
        sending: Any = self._sending
        if sending is not None:
            sending.queued_at = now

    @foreign
    def _perform(self) -> tuple[Any, BaseException | None]:
        """Call the receiver in its own copy of the sender's context; tell of its failure."""
        # In one piece: deliveries that wait for deliveries nest on one stack.
        sending, gate, around = self._sending, self._gate, self._pool.around
        call = None if gate is None else Call()
        assert sending is not None
        target = sending.target_for(self.receiver)
        context = sending.context.copy()
        arguments, keywords = sending.arguments, sending.keywords_for(self)
        failed: Any = None
        started = time.perf_counter()
        try:
            if call is not None:
                gate.dequeue(self)
                if not gate.enter(call):
                    return None, SKIPPED
            if around is None:
                return context.run(target, *arguments, **keywords), None
            failed = functools.partial(self._fail, sending, started)
            defer = self._pool.cell.defer
            return context.run(surrounded, around, failed, defer, target, arguments, keywords)
        except BaseException as error:
            self._fail(sending, started, error, context)
            return None, error
        finally:
            if call is not None:
                try:
                    gate.leave(call)
                except BaseException:  # interrupted
                    gate.leave(call)
                    raise
            # See drop_frame; and this frame may live as long as what a receiver has raised.
            del self, keywords, sending, context, failed

    @foreign
    def _fail(
        self,
        sending: Message,
        started: float,
        error: BaseException,
        context: contextvars.Context | None = None,
        named: dict[str, Any] | None = None,
    ) -> None:
        """Tell of what the receiver, ``started`` then, has raised just now.

        ``context`` is that in which it ran; ``None``: the current one. ``named`` is what was sent,
        if ``sending`` may not know any more: the receiver has forked, say.
        """
        ran = time.perf_counter() - started
        # Not below zero where an interrupted sender has queued it once more.
        queued = max(0.0, started - sending.queued_at)
        drop_frame(error)
        tell = sending.tell if context is None else functools.partial(context.run, sending.tell)
        try:
            tell(
                self.signal,
                self.sender,
                self.receiver,
                error,
                sending.mode,
                queued,
                ran,
                sending.named if named is None else named,
            )
        except BaseException as raised:
            interrupt = unless_own(raised)
            if interrupt is not None:  # raised once this delivery has its own error
                self._pool.cell.defer(interrupt)

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else self._phase.lower()
        if state == "finished" and self._exception is not None:
            state += f", raised {type(self._exception).__name__}"
        return f"<Delivery of {name_of(self.receiver)}{for_signal(self.signal)}, {state}>"

    def _forget(self) -> None:
        """Let go of what is needed only to run."""
        self._sending = None
        gate = self._gate
        if gate is not None:
            gate.dequeue(self)


class TermsDelivery(Delivery):
    """That of a connection with terms: an ordered receiver, a tracked one."""

    __slots__ = ("_fate", "_gate", "_ordered_receiver", "_turn")

    def __init__(
        self, engine: Engine, receiver: Receiver, sending: Sending, ordered: bool, gate: Any
    ) -> None:
        super().__init__(engine)
        self.signal = sending.signal
        self.sender = sending.sender
        self.receiver = receiver
        self._sending = sending
        self._turn = None
        self._ordered_receiver = receiver if ordered else None
        self._gate = gate


# Under an executor that is no WorkerPool, that executor's own futures stand in for deliveries.
Pair = tuple[Receiver, Delivery]


class Deliveries(list[Pair]):
    """What ``send_async`` returns: a list of ``(receiver, delivery)`` in call order.

    All timeouts are seconds; None waits; an expired one raises ``TimeoutError`` (``wait`` returns
    False) and cancels nothing.

    Thread safety: every method from any thread.
    """

    __slots__ = ()

    # For asyncio, which keeps what it awaits in sets and as keys. By identity, though lists compare
    # by what is in them: equal ones then are two keys, and each is awaited.
    __hash__ = object.__hash__  # type: ignore[assignment]

    @property
    def futures(self) -> "list[futures.Future[Any]]":
        """The deliveries alone; a new list."""
        return [future for _, future in self]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all are done; False when the time is up."""
        left = _countdown(timeout)
        try:
            for _, future in self:
                with contextlib.suppress(futures.CancelledError):
                    future.exception(left())
        except TimeoutError:
            return False
        return True

    def results(self, timeout: float | None = None) -> list[tuple[Receiver, Any]]:
        """Wait in receiver order and return ``(receiver, response)`` pairs.

        Raises what the first failed one raised, ``CancelledError`` for a cancelled one.
        """
        left = _countdown(timeout)
        pairs = []
        for receiver, future in self:  # no comprehension: nested waits are deep enough
            pairs.append((receiver, future.result(left())))
        return pairs

    def outcomes(self, timeout: float | None = None) -> Outcomes:
        """Wait for all and return ``(receiver, response or exception)`` pairs.

        Collects every exception of a delivery, ``BaseException``, ``CancelledError`` and
        ``DeliveryDropped`` included.
        """
        left = _countdown(timeout)
        outcomes = Outcomes()
        for receiver, future in self:  # spelled out: nested waits are deep enough
            try:
                error = future.exception(left())
            except futures.CancelledError as cancelled:
                error = cancelled
            if error is None:
                outcomes.append((receiver, future.result(0)))
            else:
                outcomes._add_error(receiver, error)
        return outcomes

    def as_completed(self, timeout: float | None = None) -> Iterator[Pair]:
        """Yield ``(receiver, delivery)`` pairs as they are done.

        The time runs from when the first is asked for.
        """
        return self._as_completed(seconds(timeout))  # a wrong one raises now

    def _as_completed(self, timeout: float | None) -> Iterator[Pair]:
        pairs: dict[futures.Future[Any], Pair] = {pair[1]: pair for pair in self}
        for future in _as_completed(pairs, timeout):
            yield pairs[future]

    def cancel(self) -> int:
        """Cancel all that have not started, and async ones that run; return how many."""
        return sum(not future.cancelled() and future.cancel() for _, future in self)

    def __await__(self) -> Generator[Any, None, list[tuple[Receiver, Any]]]:
        """``await deliveries``: as ``results()``, without blocking the event loop.

        Cancelling the task that awaits cancels no delivery.
        """
        from tsignals._aio import await_results

        return await_results(self).__await__()

    def __aiter__(self) -> AsyncIterator[tuple[Receiver, Any]]:
        """Yield ``(receiver, response)`` as they are done; a failed one raises in its turn."""
        from tsignals._aio import Completed

        return Completed(self)


def _as_completed(
    pairs: "dict[futures.Future[Any], Pair]", timeout: float | None
) -> "Iterator[futures.Future[Any]]":
    for first in pairs:
        if isinstance(first, Work) and first._pool.works_here():
            engine = first._pool
            if all(isinstance(future, Work) and future._pool is engine for future in pairs):
                completed: Iterator[futures.Future[Any]] = engine.as_completed([*pairs], timeout)
                return completed
        break
    return futures.as_completed(pairs, timeout)


def _countdown(timeout: float | None) -> Callable[[], float | None]:
    """A function that returns how many of ``timeout`` seconds are left."""
    timeout = seconds(timeout)
    if timeout is None:
        return lambda: None
    deadline = time.monotonic() + timeout
    return lambda: max(0.0, deadline - time.monotonic())
