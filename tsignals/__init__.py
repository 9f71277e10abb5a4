"""Signals for programs with many threads.

>>> from tsignals import Signal
>>> pizza_done = Signal()
>>> def ring_the_bell(sender, **kwargs):
...     return "ding"
>>> connection = pizza_done.connect(ring_the_bell)
>>> [response for receiver, response in pizza_done.send(sender="oven")]
['ding']
"""

from tsignals._aside import set_sync_runner
from tsignals._background import background
from tsignals._connection import Connection
from tsignals._default import get_default_executor, set_default_executor
from tsignals._delivery import Deliveries, Delivery
from tsignals._errors import DeliveryDropped, DeliveryLost, PoolClosed, QueueFull, TsignalsError
from tsignals._outcomes import Failure, Outcomes
from tsignals._pool import PoolStats, WorkerPool
from tsignals._prepared import Prepared
from tsignals._signal import Signal, receiver, receiver_failed

__all__ = [
    "Connection",
    "Deliveries",
    "Delivery",
    "DeliveryDropped",
    "DeliveryLost",
    "Failure",
    "Outcomes",
    "PoolClosed",
    "PoolStats",
    "Prepared",
    "QueueFull",
    "Signal",
    "TsignalsError",
    "WorkerPool",
    "background",
    "get_default_executor",
    "receiver",
    "receiver_failed",
    "set_default_executor",
    "set_sync_runner",
]

__version__ = "0.1.0"
