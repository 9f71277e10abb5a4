"""What the tests of async deliveries share: a pool, and what holds its event loop up."""

import contextvars
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import TIMEOUT, Latch
from pools import signal_to

from tsignals import Deliveries, WorkerPool


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2, thread_name_prefix="pool") as pool:
        yield pool


def responses(pairs: Any) -> list[Any]:
    return [response for _, response in pairs]


variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")


def held_loop(pool: WorkerPool) -> tuple[Latch, Deliveries]:
    """Hold up the pool's event loop, by a receiver that blocks it."""
    gate = Latch()

    async def blocks(**named: Any) -> None:
        gate()

    deliveries = signal_to(blocks, pool).send_async(None)
    assert gate.entered.wait(TIMEOUT)
    return gate, deliveries
