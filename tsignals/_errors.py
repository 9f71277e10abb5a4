"""Every exception that tsignals raises under a name of its own."""


class TsignalsError(Exception):
    """Base of all errors named here; catch it to catch any of them."""


class PoolClosed(TsignalsError, RuntimeError):
    """The pool was shut down and takes no more work; nothing was queued.

    Also a ``RuntimeError``, which is what ``concurrent.futures`` raises in the same place.
    """


class QueueFull(TsignalsError):
    """The pool's queue has no room and its ``overflow`` policy refuses; nothing was queued."""


class DeliveryDropped(TsignalsError):
    """The delivery gave way under ``overflow="drop_newest"`` or ``"drop_oldest"``; it never ran."""


class DeliveryLost(TsignalsError):
    """The delivery cannot finish here: its process ended, or it belongs to the parent of a fork."""
