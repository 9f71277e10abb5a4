"""The pytest plugin: what ``tsignals.testing`` has, as fixtures.

They are factories, which the body of a test enters: what holds in a context must be entered where
the test runs, and pytest may run it in another thread than its fixtures.
"""

from collections.abc import Callable

import pytest

from tsignals.testing import Captured, Steps, capture, fresh_pool, muted
from tsignals.testing._fresh_pool import Fresh
from tsignals.testing._muted import Muted


@pytest.fixture
def capture_signals() -> Callable[..., Captured]:
    """``with capture_signals(order_placed) as sent:`` See ``tsignals.testing.capture``."""
    return capture


@pytest.fixture
def mute_signals() -> Callable[..., Muted]:
    """``with mute_signals(order_placed):`` See ``tsignals.testing.muted``."""
    return muted


@pytest.fixture
def signal_steps() -> Callable[[], Steps]:
    """``with signal_steps() as steps:`` See ``tsignals.testing.Steps``."""
    return Steps


@pytest.fixture
def signal_pool() -> Callable[..., Fresh]:
    """``with signal_pool() as pool:`` See ``tsignals.testing.fresh_pool``."""
    return fresh_pool
