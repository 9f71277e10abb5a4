"""What holds for every test: it leaves no thread behind, and a free-threaded run keeps its GIL off.

Timeouts, and warnings as errors, are set in ``pyproject.toml``.
"""

import gc
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Iterator

import pytest

import tsignals
from tsignals import _aside

# Threads that asend has used wait for more work, and would hold up each test for that long.
_aside.PATIENCE = 0.05

GRACE = 10.0
"""Seconds that the threads a test has started get to end, all together."""


def gil_is_on() -> bool:
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def pytest_report_header() -> str:
    return f"GIL: {'on' if gil_is_on() else 'off'}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """An extension module can switch the GIL on: then this was no free-threaded run."""
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    if free_threaded and gil_is_on() and getattr(sys.flags, "gil", None) != 1:
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        print("\nthe GIL was switched on in the course of a free-threaded run")


def pytest_runtest_setup(item: pytest.Item) -> None:
    measured = "coverage" in sys.modules and sys.modules["coverage"].Coverage.current() is not None
    if measured and item.get_closest_marker("unmeasured"):
        pytest.skip("coverage is measured")


@pytest.fixture(autouse=True)
def no_thread_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Shut the default pool down, then fail the test if a thread that it started still runs."""
    before = set(threading.enumerate())
    yield
    default = tsignals.set_default_executor(None)
    if default is not None:
        default.shutdown(wait=False)  # the wait is below, and bounded
    del default
    foreign = tuple(
        prefix for mark in request.node.iter_markers("foreign_threads") for prefix in mark.args
    )

    def left() -> list[threading.Thread]:
        return [
            thread
            for thread in threading.enumerate()
            if thread not in before and not (foreign and thread.name.startswith(foreign))
        ]

    if not left():
        return
    gc.collect()  # a pool that nobody refers to ends its threads; a traceback may still hold it
    deadline = time.monotonic() + GRACE
    while left() and time.monotonic() < deadline:
        time.sleep(0.01)
    if threads := left():
        frames = sys._current_frames()
        stacks = "\n".join(
            f"{thread!r}\n{''.join(traceback.format_stack(frames[thread.ident]))}"
            for thread in threads
            if thread.ident in frames
        )
        pytest.fail(f"the test left {len(threads)} thread(s) behind:\n{stacks}", pytrace=False)
