"""The first promises of a pool, each by a test that says which was broken, and never hangs.

Where nothing runs, or nobody is woken, all others would wait for what does not come.
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers import TIMEOUT, Running, ignore, raiser, wait_until
from pools import signal_to

from tsignals import WorkerPool

# Not as context managers, which would wait at their end.


async def hears(**named: Any) -> None: ...


def ignore_it(future: object) -> None: ...


SENDS: dict[str, Callable[[WorkerPool], Any]] = {
    "submit": lambda pool: pool.submit(int),
    "plain": lambda pool: signal_to(ignore, pool).send_async(None)[0][1],
    "ordered": lambda pool: signal_to(ignore, pool, ordered=True).send_async(None)[0][1],
    "tracked": lambda pool: signal_to(ignore, pool, tracked=True).send_async(None)[0][1],
    "async": lambda pool: signal_to(hears, pool).send_async(None)[0][1],
    "failing": lambda pool: signal_to(raiser(ValueError("on purpose")), pool).send_async(None)[0][
        1
    ],
}


def told_of_the_end(future: Any) -> bool:
    try:
        future.exception(TIMEOUT)
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("way", SENDS)
def test_what_is_accepted_runs_and_is_counted_and_then_the_pool_ends(way: str) -> None:
    pool = WorkerPool(1)
    for when in ("in a new pool", "with an idle worker"):
        future = SENDS[way](pool)
        try:
            wait_until(future.done)
        except AssertionError:
            pytest.fail(f"{when}: it was accepted and never ended: {future}, {pool.stats()}")
        stats = pool.stats()
        assert stats.submitted >= 1, f"{when}: what ran was never counted as submitted: {stats}"
        assert Running(pool.drain, TIMEOUT / 2).result(), (
            f"{when}: it has ended and is counted as if it had not: {pool.stats()}"
        )
        stats = pool.stats()
        assert stats.submitted == stats.completed + stats.failed, (
            f"{when}: a count is lost: {stats}"
        )
    shutdown = Running(pool.shutdown)
    try:
        shutdown.result()
    except AssertionError:
        pytest.fail(f"nothing is left to do, and a thread of the pool does not end: {pool.stats()}")


@pytest.mark.parametrize("way", SENDS)
def test_who_waits_for_what_runs_is_woken_by_its_end(way: str) -> None:
    pool = WorkerPool(1)
    future = SENDS[way](pool)
    waiting = Running(told_of_the_end, future)
    try:
        wait_until(future.done)
    except AssertionError:
        pytest.fail(f"somebody waits for it, and it never ended: {future}, {pool.stats()}")
    try:
        assert waiting.result(2 * TIMEOUT), "it has ended, and who waited for it was not woken"
    except AssertionError:
        pytest.fail("it has ended, and who waits for it sleeps on")
    pool.shutdown(wait=False)


@pytest.mark.parametrize("asked", [False, True], ids=["nobody asks", "all are asked"])
def test_every_turn_in_a_lane_comes(asked: bool) -> None:
    pool, heard = WorkerPool(2), list[int]()
    signal = signal_to(lambda n, **named: heard.append(n), pool, ordered=True)
    sent = list[Any]()
    for n in range(5):
        sent.append(signal.send_async(None, n=n)[0][1])
        if asked:
            sent[-1].add_done_callback(ignore_it)
    try:
        wait_until(lambda: all(future.done() for future in sent))
    except AssertionError:
        pytest.fail(f"a turn never came: {heard} ran of 5, in this order")
    assert heard == [*range(5)], "the order is not that of the sends"
    pool.shutdown(wait=False)


def test_sender_that_waits_for_room_gets_it() -> None:
    pool = WorkerPool(1, max_pending=1)
    sent = Running(lambda: [pool.submit(int) for _ in range(50)])
    try:
        assert len(sent.result()) == 50
    except AssertionError:
        pytest.fail(f"there is room, and a sender that waits for it sleeps on: {pool.stats()}")
    pool.shutdown(wait=False)


def test_what_is_cancelled_does_not_run_and_what_is_beside_it_does() -> None:
    pool, ran, opened = WorkerPool(1), list[int](), threading.Event()
    pool.submit(opened.wait, TIMEOUT)
    signal = signal_to(lambda **named: ran.append(0), pool)
    signal.connect(lambda **named: ran.append(1), weak=False)
    first, second = signal.send_async(None).futures
    assert first.cancel(), "what has not started cannot be cancelled"
    opened.set()
    try:
        wait_until(second.done)
    except AssertionError:
        pytest.fail(f"beside what was cancelled, nothing runs: {second}")
    assert ran == [1], "what was cancelled has run"
    assert pool.stats().cancelled == 1, f"a count is lost: {pool.stats()}"
    pool.shutdown(wait=False)
