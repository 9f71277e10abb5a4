"""A send to receivers that are called as they are: with no options, and nothing around them.

To several it is a batch; to one, the delivery is all there is of it.
"""

from collections.abc import Callable
from time import perf_counter

from tsignals._base.interrupts import foreign
from tsignals._base.retry import Retry
from tsignals._calling.compiled import BackgroundCaller
from tsignals._delivery.batch import Batch, BatchDelivery
from tsignals._delivery.delivery import Delivery, Send
from tsignals._pool.seam import Result


class Plain(Delivery):
    """A delivery without anything to keep but the call."""

    __slots__ = ()
    # Dispatch sets it, and nobody another.
    _send: "PlainSend | SoleDelivery"  # pyright: ignore[reportIncompatibleVariableOverride]

    __init__: Callable[..., None] = object.__init__
    """Dispatch fills it in: to have a constructor called takes longer."""

    @foreign
    def _perform(self) -> Result:
        send = self._send
        began = perf_counter()
        context = named = None
        try:
            context, named = send._context.copy(), send._named
            return send._call(context, named, self.receiver, self.signal, self.sender), None
        except BaseException as error:  # whatever a receiver raises is its delivery's
            return self._fail(send, began, error, context, named), error
        finally:
            # See drop_frame; and this frame may live as long as what a receiver has raised.
            del self, send, context, named


def _forget_sent(self: "PlainSend | SoleDelivery") -> object:
    """Let go of what was sent, and return it."""
    kept = self._named, self._context
    self._named = self._context = None  # type: ignore[assignment]
    return kept


class PlainSend(Send, Batch):
    """A send to receivers that have no options, into a pool that has nothing around them."""

    __slots__ = ("_call", "_context", "_named", "retries")
    _call: BackgroundCaller  # calls one receiver with what was sent; see compiled.BACKGROUND
    retries: tuple[Retry | None, ...]  # of the deliveries, by index; empty: of none

    __init__ = object.__init__  # as above

    @foreign
    def forget_sent(self) -> None:
        _forget_sent(self)


class PlainDelivery(Plain, BatchDelivery):
    """One of several."""

    __slots__ = ()
    _shares_what_was_sent = True
    _send: PlainSend  # pyright: ignore[reportIncompatibleVariableOverride]

    # The same slot: a property would take a call each time.
    _batch = BatchDelivery.__dict__["_send"]

    @property
    def _retry(self) -> Retry | None:  # type: ignore[override]
        retries = self._send.retries
        return retries[self._index] if retries else None

    def _forget(self) -> object:
        send = self._send
        if send._stack:
            return None
        if send.asked is None:
            last = send.deliveries.count(None) == len(send.deliveries) - 1
        else:
            last = all(each is self or each.done() for each in send._tasks())
        return _forget_sent(send) if last else None  # others have not ended


class SoleDelivery(Send, Plain):
    """The only one of a send, and all that there is of that."""

    __slots__ = ("_call", "_claims", "_context", "_named")
    _call: BackgroundCaller

    @property
    def _send(self) -> "SoleDelivery":  # type: ignore[override]
        return self

    _forget = _forget_sent


class SoleRetried(SoleDelivery):
    """One that may be run again."""

    __slots__ = ("_retry",)
