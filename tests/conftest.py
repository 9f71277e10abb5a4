"""What holds for every test: it leaves no thread behind, and a free-threaded run keeps its GIL off.

Timeouts, and warnings as errors, are set in ``pyproject.toml``.
"""

import gc
import os
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Iterator

import causes
import inside
import pytest
from helpers import gil_is_on

import tsignals

# Threads that asend has used wait for more work, and would hold up each test for that long.
inside.end_idle_threads_soon(0.05)

ONCE = os.environ.get("TSIGNALS_TEST_ONCE")
"""``elsewhere``: another version of Python runs what proves the same on each."""

GRACE = 10.0
"""Seconds that the threads a test has started get to end, all together."""


SLOW = """
    asgi async_cancelling bench_quick causes comparison context demo django_app django_connections
    django_differential django_on_commit django_project docs_examples docs_recipes exit faults flask
    fork growth gunicorn interpreters interrupts looking_docs map map_page models perfetto prepare
    prometheus reentrance retry_outages shop slow_after sqlalchemy_async sqlalchemy_commit
    sqlalchemy_docs sqlalchemy_flush sqlalchemy_install sqlalchemy_replaced stress_quick
    testing_plugin timeouts tracked typing web_servers wsgi
""".split()
"""Files whose tests start processes or servers, or try many points or ways: marked ``slow``."""


def pytest_report_header() -> str:
    return f"GIL: {'on' if gil_is_on() else 'off'}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """An extension module can switch the GIL on: then this was no free-threaded run."""
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    if free_threaded and gil_is_on() and getattr(sys.flags, "gil", None) != 1:
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        print("\nthe GIL was switched on in the course of a free-threaded run")


@pytest.fixture(scope="module", autouse=True)
def few_objects_to_search() -> None:
    """Have tests not search through what others have imported: it would take most of their time."""
    if len(gc.get_objects()) > 50_000:
        gc.collect()
        gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """Keep of a test that is over as little as may be: the collector would go through it."""
    result = yield
    vars(item).pop("cancel_timeout", None)  # a timer, with all its locks
    return result


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.passed:
        report.keywords = {}


def pytest_runtest_setup(item: pytest.Item) -> None:
    causes.forget()
    measured = "coverage" in sys.modules and sys.modules["coverage"].Coverage.current() is not None
    if measured and item.get_closest_marker("unmeasured"):
        pytest.skip("coverage is measured")
    if ONCE == "elsewhere" and item.get_closest_marker("once"):
        pytest.skip("is run on another version")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: "pytest.CallInfo[None]") -> None:
    """A failure says what went wrong elsewhere meanwhile."""
    if call.excinfo is not None and not isinstance(call.excinfo.value, pytest.skip.Exception):
        for cause in causes.all_told():
            call.excinfo.value.add_note(cause)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem.removeprefix("test_") in SLOW:
            item.add_marker("slow")


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


@pytest.fixture
def nobody_observes() -> Iterator[None]:
    """Fail the test if sends are still observed once all that it has sent has ended."""
    yield
    default = tsignals.set_default_executor(None)
    if default is not None:
        assert default.drain(60)
        default.shutdown()
    assert not inside.observers_now()
