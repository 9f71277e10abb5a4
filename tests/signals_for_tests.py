"""Signals that stand where other modules can find them, and some that do not."""

from tsignals import Signal

saved = Signal(providing_args=["size"])
known_by_two_names = also_known_as = Signal()
named = Signal(name="order.named")


class Order:
    """Signals are often a class's."""

    placed = Signal()

    class Line:
        added = Signal()


def make() -> Signal:
    """A signal made here, to be kept wherever the caller keeps it."""
    return Signal()


LINE_OF_MAKE = 21


class Special(Signal):
    """Somebody's own kind of signal."""


special = Special()
