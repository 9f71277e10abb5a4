"""What the tests of async code share: every kind of event loop, and receivers that can be held up.

A module that imports ``every_loop`` has each of its tests run on each kind.
"""

import asyncio
import concurrent.futures
import functools
import gc
import logging
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from helpers import TIMEOUT, Latch

T = TypeVar("T")


@pytest.fixture(
    params=["asyncio", pytest.param("asyncio, debugging", marks=pytest.mark.once), "uvloop"],
    autouse=True,
)
def every_loop(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[None]:
    """New event loops are of one kind; nothing that they complain about is overlooked."""
    if "debugging" in request.param:
        monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        monkeypatch.setattr(asyncio, "new_event_loop", uvloop.new_event_loop)
        monkeypatch.setattr(asyncio.events, "new_event_loop", uvloop.new_event_loop)
    yield
    # What is found only now is a warning, and so an error: never awaited, never closed.
    gc.collect(1)  # of what is as young as the test
    complaints = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.name == "asyncio" and record.levelno >= logging.ERROR
    ]
    assert complaints == []


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` that does not hang."""

    async def within() -> T:
        async with asyncio.timeout(TIMEOUT):
            return await main

    return asyncio.run(within())


async def until(event: threading.Event) -> None:
    """Wait for ``event`` without holding up the loop."""
    async with asyncio.timeout(TIMEOUT):
        while not event.is_set():
            await asyncio.sleep(0.001)


class AsyncLatch(Latch):
    """An async receiver that stops in the middle: sets ``entered``, then waits to be ``opened``."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled = threading.Event()

    async def __call__(self, /, **named: Any) -> str:  # type: ignore[override]
        self._came.append(None)
        self.entered.set()
        try:
            await until(self.opened)
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # as tidying up does
            self.cancelled.set()
            raise
        self.left.set()
        return "through"


async def ignores(**named: Any) -> None:
    """An async receiver that does nothing."""


def async_raiser(error: BaseException) -> Any:
    """An async receiver that raises ``error``."""

    async def raises(**named: Any) -> None:
        raise error

    return raises


def _task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


# None keeps its task in a variable: an error's traceback would hold it, and it holds the error.


async def _cancels_itself_and_waits(**named: Any) -> None:
    _task().cancel()
    await asyncio.sleep(0)


async def _cancels_itself_and_returns(**named: Any) -> None:
    _task().cancel()


async def _is_cancelled_by_others(**named: Any) -> None:
    asyncio.get_running_loop().call_soon(_task().cancel)
    await asyncio.sleep(TIMEOUT)


async def _awaits_what_others_cancel(**named: Any) -> None:
    awaited = asyncio.ensure_future(asyncio.sleep(TIMEOUT))
    asyncio.get_running_loop().call_soon(awaited.cancel)
    await awaited


async def _awaits_several_of_which_one_is_cancelled(**named: Any) -> None:
    awaited = asyncio.ensure_future(asyncio.sleep(TIMEOUT))
    asyncio.get_running_loop().call_soon(awaited.cancel)
    await asyncio.gather(asyncio.sleep(0), awaited)


STRAYS: dict[str, Any] = {
    "raises it by hand": async_raiser(asyncio.CancelledError("by hand")),
    "raises that of futures": async_raiser(concurrent.futures.CancelledError("by hand")),
    "cancels itself and waits": _cancels_itself_and_waits,
    "cancels itself and returns": _cancels_itself_and_returns,
    "is cancelled by others": _is_cancelled_by_others,
    "awaits what others cancel": _awaits_what_others_cancel,
    "awaits several": _awaits_several_of_which_one_is_cancelled,
}
"""Async receivers with a ``CancelledError`` that nobody has asked their delivery for."""

CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)


def async_kinds() -> dict[str, Any]:
    """One receiver of each kind that counts as async; each responds with the value ``n``."""

    async def function(n: int, **named: Any) -> int:
        return n

    class Object:
        async def method(self, n: int, **named: Any) -> int:
            return n

        async def __call__(self, n: int, **named: Any) -> int:
            return n

    made = Object()
    return {
        "coroutine function": function,
        "bound method": made.method,
        "object": made,
        "partial": functools.partial(function, other=1),
        "partial of a method": functools.partial(made.method, other=1),
        "partial of an object": functools.partial(made, other=1),
        "partial of a partial": functools.partial(functools.partial(function), other=1),
        "method of an object": made.__call__,
    }
