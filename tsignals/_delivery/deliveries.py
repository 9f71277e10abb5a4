"""``Deliveries``: what a send in the background returns, the futures of its receivers."""

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent import futures
from typing import Any

from tsignals._base.timeouts import deadline_in, left_until, seconds
from tsignals._calling.outcomes import Outcomes
from tsignals._calling.types import Pairs, Receiver
from tsignals._delivery.as_completed import as_completed, response_of
from tsignals._delivery.delivery import Delivery

# Under an executor that is no WorkerPool, that executor's own futures stand in for deliveries.
Pair = tuple[Receiver, Delivery]


class Deliveries(list[Pair]):
    """What ``send_async`` returns: a list of ``(receiver, delivery)`` in call order.

    All timeouts are seconds; None waits; an expired one raises ``TimeoutError`` (``wait`` returns
    False) and cancels nothing. ``TypeError`` for what is no number, ``ValueError`` for NaN, and
    ``RuntimeError`` where a wait in a worker could never end, as far as its own pool can tell.

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

    def results(self, timeout: float | None = None) -> Pairs:
        """Wait in receiver order and return ``(receiver, response)`` pairs.

        Raises what the first failed one raised, ``CancelledError`` for a cancelled one.
        """
        left = _countdown(timeout)
        pairs = []
        try:
            for receiver, future in self:  # no comprehension: nested waits are deep enough
                response = future.result(left())
                if response is None and not isinstance(future, Delivery):
                    response_of(future, response)
                pairs.append((receiver, response))
            return pairs
        finally:
            # Or the traceback, this frame and the error form a cycle.
            future = self = None  # type: ignore[assignment]

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
        return as_completed(self, seconds(timeout))  # a wrong one raises now

    def cancel(self) -> int:
        """Cancel all that have not started, and async ones that run; return how many."""
        return sum(not future.cancelled() and future.cancel() for _, future in self)

    def __await__(self) -> Generator[object, None, Pairs]:
        """``await deliveries``: as ``results()``, without blocking the event loop.

        Cancelling the task that awaits cancels no delivery.
        """
        from tsignals._delivery.awaiting import await_results

        return await_results(self).__await__()

    def __aiter__(self) -> AsyncIterator[tuple[Receiver, Any]]:
        """Yield ``(receiver, response)`` as they are done; a failed one raises in its turn."""
        from tsignals._delivery.awaiting import Completed

        return Completed(self)


def _countdown(timeout: float | None) -> Callable[[], float | None]:
    """A function that returns how many of ``timeout`` seconds are left."""
    return functools.partial(left_until, deadline_in(seconds(timeout)))
