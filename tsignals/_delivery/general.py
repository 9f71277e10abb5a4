"""The batch of receivers of any kind: tracked ones, and those with something around them."""

from tsignals._calling.types import Receiver
from tsignals._delivery.batch import Batch, BatchDelivery
from tsignals._delivery.delivery import GeneralSend
from tsignals._pool.core import Core
from tsignals._pool.future import PENDING
from tsignals._registry.connection import Options


class GeneralDelivery(BatchDelivery):
    """One receiver's call, with a gate to pass, or inside of what is around it."""

    __slots__ = ("_batch", "_gate", "_retry")

    def __init__(
        self, core: Core, receiver: Receiver, send: GeneralSend, options: Options, batch: Batch
    ) -> None:
        self._batch = batch
        self._index = len(batch.deliveries)
        self._phase = PENDING
        self._outcome = None
        self._core = core
        self.signal = send.signal
        self.sender = send.sender
        self.receiver = receiver
        self._send = send
        self._gate = options.gate
        self._retry = options.retry
        batch.deliveries.append(self)


class GeneralBatch(Batch):
    """The deliveries of one send. Each knows what was sent, until it has ended; the batch does not.

    It would let go of that, and run its finalizers, in a worker that counts as idle.
    """

    __slots__ = ()

    def __init__(self, core: Core) -> None:
        self.core = core
        self.asked = None
        self.deliveries = []
        self._stack = []

    def complete(self) -> None:
        """All of its deliveries are in it."""
        self._stack = [*range(len(self.deliveries) - 1, -1, -1)]
