"""What this version of the library can do; the rest is left out, with one line printed."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import tsignals
from tsignals import Signal, WorkerPool
from tsignals._pool.config import POLICIES, Policy


def _hear(**named: Any) -> None:
    pass


async def _hear_async(**named: Any) -> None:
    pass


def _tracked() -> None:
    Signal().connect(_hear, tracked=True).disconnect(wait=True)


def _once() -> None:
    Signal().connect(_hear, once=True)


def _ordered() -> None:
    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        signal.connect(_hear, ordered=True)
        signal.send_async(None).results(timeout=10)


def _retry() -> None:
    answers: list[Exception | None] = [OSError(), None]

    def fails_once(**named: Any) -> None:
        if (error := answers.pop(0)) is not None:
            raise error

    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        signal.connect(fails_once, retry=tsignals.Retry(OSError, wait_initial=0, wait_jitter=0))
        signal.send_async(None).results(timeout=10)


def _background() -> None:
    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        receiver = tsignals.background(_hear)
        signal.connect(receiver)
        for _, delivery in signal.send(None):
            delivery.result(timeout=10)


def _asend() -> None:
    signal = Signal()
    signal.connect(_hear)
    signal.connect(_hear_async)
    asyncio.run(signal.asend(None))


def _send_to_async() -> None:
    signal = Signal()
    signal.connect(_hear_async)
    signal.send(None)


def _async_deliveries() -> None:
    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        signal.connect(_hear_async)
        signal.send_async(None).results(timeout=10)


def _nested_waits() -> None:
    with WorkerPool(1) as pool:
        pool.submit(lambda: pool.submit(int).result(timeout=5)).result(timeout=10)


def _overflow(policy: Policy) -> Callable[[], None]:
    def probe() -> None:
        with WorkerPool(1, max_pending=1, overflow=policy) as pool:
            with contextlib.suppress(tsignals.QueueFull):
                for _ in range(50):
                    pool.submit(int)

    return probe


PROBES: dict[str, Callable[[], None]] = {
    "tracked": _tracked,
    "once": _once,
    "ordered": _ordered,
    "background": _background,
    "retry": _retry,
    "asend": _asend,
    "send to async receivers": _send_to_async,
    "async deliveries": _async_deliveries,
    "nested waits": _nested_waits,
} | {f"overflow {policy}": _overflow(policy) for policy in POLICIES}


def available() -> frozenset[str]:
    """The names of what works; prints what does not."""
    there = set()
    for name, probe in PROBES.items():
        try:
            probe()
        except (NotImplementedError, ModuleNotFoundError) as error:
            print(f"left out: {name} ({type(error).__name__}: {error})", flush=True)
        else:
            there.add(name)
    return frozenset(there)
