"""Every exception that tsignals raises under a name of its own; and ``SKIPPED``, a marker."""


class TsignalsError(Exception):
    """Base of all errors named here; catch it to catch any of them."""


class PoolClosed(TsignalsError, RuntimeError):
    """The pool was shut down and takes no more work; nothing was queued.

    Also a ``RuntimeError``, which is what ``concurrent.futures`` raises in the same place.
    """


class QueueFull(TsignalsError):
    """The pool's queue has no room and its ``overflow`` policy refuses; nothing was queued."""


class DeliveryDropped(TsignalsError):
    """The delivery gave way under ``overflow="drop_newest"`` or ``"drop_oldest"``, or was prepared
    and not submitted. It never ran, unless it waited for another attempt (``retry``).
    """


class DeliveryLost(TsignalsError):
    """The delivery cannot finish here: it had not started, or waited for another attempt, when its
    process ended, or when the time of its pool's ``shutdown(timeout=)`` was up; or it belongs to
    the parent of a fork.
    """


SKIPPED = BaseException("skipped")
"""Never raised: in place of the response of a receiver that was not called, for its gate was closed
meanwhile, or another send has claimed it."""
