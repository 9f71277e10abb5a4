"""Stands in for a future that another executor makes only later, when a prepared send is submitted.

Once it has that future it does what that does. What becomes of it before is decided in a list to
which everybody appends, and in which the first entry counts.
"""

from concurrent.futures import Future

from tsignals._base.atomic import comes_first
from tsignals._base.interrupts import apply_to_all, refuse_if_deep
from tsignals._delivery.as_completed import response_of


class StandIn(Future[object]):
    """Stands in for the future of another executor, which makes that later."""

    def __init__(self) -> None:
        super().__init__()
        self._claims: list[object] = []
        self._own: Future[object] | None = None  # the executor's

    def decide(self, claim: object) -> bool:
        """Whether ``claim`` comes first."""
        return comes_first(self._claims, claim)

    def cancel(self) -> bool:
        refuse_if_deep()
        apply_to_all(self._cancel, [object()])
        own = self._own
        return self.cancelled() or (own is not None and own.cancel())

    def _cancel(self, claim: object) -> None:
        if self.decide(claim):
            self.become_cancelled()

    def result(self, timeout: float | None = None) -> object:
        return response_of(self, super().result(timeout))

    def running(self) -> bool:
        return not self.done() and (own := self._own) is not None and own.running()

    def become_cancelled(self) -> None:
        super().cancel()
        if self._state == "CANCELLED":  # and nobody has been notified
            self.set_running_or_notify_cancel()

    def follow(self, own: "Future[object]") -> None:
        """Be what ``own``, the executor's future, is and will be; twice does no harm."""
        self._own = own
        own.add_done_callback(self._end)

    def _end(self, own: "Future[object]") -> None:
        if self.done():
            return  # it was asked twice
        if own.cancelled():
            self.become_cancelled()
        elif (error := own.exception(0)) is not None:
            self.set_exception(error)
        else:
            self.set_result(own.result(0))
        self._own = None  # last: until then it shows that this was submitted
