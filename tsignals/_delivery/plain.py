"""The batch of receivers that are called as they are: with no options, and nothing around them."""

from collections.abc import Callable
from time import perf_counter

from tsignals._base.interrupts import foreign
from tsignals._base.retry import Retry
from tsignals._calling.compiled import BackgroundCaller
from tsignals._delivery.batch import Batch, BatchDelivery
from tsignals._delivery.delivery import Delivery, Send
from tsignals._pool.seam import Result


class PlainSend(Send, Batch):
    """A send to receivers that have no options, into a pool that has nothing around them."""

    __slots__ = ("call", "context", "named", "queued_at", "retries")
    call: BackgroundCaller  # calls one receiver with what was sent; see compiled.BACKGROUND
    retries: tuple[Retry | None, ...]  # of the deliveries, by index; empty: of none

    __init__ = object.__init__  # filled in by dispatch: to have a constructor called takes longer

    def _mark_queued(self, now: float) -> None:
        self.queued_at = now

    @foreign
    def forget_sent(self) -> None:
        self.named = self.context = None  # type: ignore[assignment]


class PlainDelivery(BatchDelivery):
    """One receiver's call, without anything to keep but the call."""

    __slots__ = ()
    # Dispatch sets it, and nobody another.
    _send: PlainSend  # pyright: ignore[reportIncompatibleVariableOverride]

    __init__: Callable[..., None] = object.__init__  # as above

    _batch = Delivery.__dict__["_send"]  # the same slot: a property would take a call each time

    @property
    def _retry(self) -> Retry | None:  # type: ignore[override]
        retries = self._send.retries
        return retries[self._index] if retries else None

    @foreign
    def _perform(self) -> Result:
        send = self._send
        began = perf_counter()
        context = named = None
        try:
            context, named = send.context.copy(), send.named
            return send.call(context, named, self.receiver, self.signal, self.sender), None
        except BaseException as error:  # whatever a receiver raises is its delivery's
            return self._fail(send, began, error, context, named), error
        finally:
            # See drop_frame; and this frame may live as long as what a receiver has raised.
            del self, send, context, named

    def _forget(self) -> object:
        send = self._send
        if send._stack:
            return None
        if send.asked is None:
            last = send.deliveries.count(None) == len(send.deliveries) - 1
        else:
            last = all(each is self or each.done() for each in send._tasks())
        if not last:  # others have not ended
            return None
        kept = send.named, send.context
        send.named = send.context = None  # type: ignore[assignment]
        return kept
