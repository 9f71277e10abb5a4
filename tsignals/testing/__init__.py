"""For tests of code that sends signals: see what was sent, mute it, have its deliveries run here.

Each of these is a context manager, and all but ``connected`` hold in the context in which it was
entered, and in what that sets off in pools. So tests that run side by side, in threads or in
tasks, never see each other's.

pytest finds ``capture_signals``, ``mute_signals``, ``signal_steps`` and ``signal_pool``, fixtures
that are ``capture``, ``muted``, ``Steps`` and ``fresh_pool``.
"""

from tsignals.testing._capture import Captured, Sent, capture
from tsignals.testing._connected import connected
from tsignals.testing._fresh_pool import fresh_pool
from tsignals.testing._inline import inline
from tsignals.testing._muted import muted
from tsignals.testing._steps import Steps

__all__ = ["Captured", "Sent", "Steps", "capture", "connected", "fresh_pool", "inline", "muted"]
