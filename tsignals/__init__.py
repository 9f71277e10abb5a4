"""Signals for programs with many threads.

>>> from tsignals import Signal
>>> pizza_done = Signal()
>>> def ring_the_bell(sender, **kwargs):
...     return "ding"
>>> connection = pizza_done.connect(ring_the_bell)
>>> [response for receiver, response in pizza_done.send(sender="oven")]
['ding']
"""

from tsignals._background import background
from tsignals._base.errors import (
    DeliveryDropped,
    DeliveryLost,
    PoolClosed,
    QueueFull,
    TsignalsError,
)
from tsignals._base.retry import Retry
from tsignals._calling.outcomes import Failure, Outcomes
from tsignals._calling.runners import set_sync_runner
from tsignals._decorator import receiver
from tsignals._default import get_default_executor, set_default_executor
from tsignals._delivery.deliveries import Deliveries
from tsignals._delivery.delivery import Delivery
from tsignals._delivery.prepared import Prepared
from tsignals._namespace import Namespace
from tsignals._pool.pool import WorkerPool
from tsignals._pool.stats import PoolStats
from tsignals._receiver_failed import receiver_failed
from tsignals._registry.connection import Connection
from tsignals._signal import Signal

__all__ = [
    "Connection",
    "Deliveries",
    "Delivery",
    "DeliveryDropped",
    "DeliveryLost",
    "Failure",
    "Namespace",
    "Outcomes",
    "PoolClosed",
    "PoolStats",
    "Prepared",
    "QueueFull",
    "Retry",
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

__version__ = "0.2.0.dev0"
