"""What is ordered keeps its place among all that is sent into its pool.

It waits for what was sent before, and not for the whole queue anew after each of its deliveries.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import inside
import pytest
from helpers import TIMEOUT, Boom, Latch, wait_until
from pools import add_up, held, signal_to

from tsignals import Retry, Signal, WorkerPool, background

Heard = list[tuple[str, int]]
Send = Callable[[int], Any]


class Shop:
    """Mails, which anybody may send, and a ledger, which is ordered, in one pool."""

    def __init__(self, pool: WorkerPool, ledger_by: str) -> None:
        self.heard: Heard = []
        self.gates: dict[tuple[str, int], Latch] = {}
        self._mails = signal_to(self._mail, pool)
        signal = Signal(executor=pool)
        self.write: Send = lambda n: signal.send_async(None, n=n)
        if ledger_by == "ordered=True":
            signal.connect(self._ledger, ordered=True)
        elif ledger_by == "ordered=key":
            signal.connect(self._ledger, ordered=lambda n, **named: 0)
        elif ledger_by == "background":
            self._behind = background(self._ledger, executor=pool, ordered=True)
            signal.connect(self._behind)
            self.write = lambda n: signal.send(None, n=n)
        else:
            signal.connect(self._ledger, ordered=True)
            self.write = lambda n: signal.prepare(None, n=n).submit()

    def _mail(self, n: int, **named: Any) -> None:
        self._hear("mail", n)

    def _ledger(self, n: int, **named: Any) -> None:
        self._hear("ledger", n)

    def _hear(self, what: str, n: int) -> None:
        if (what, n) in self.gates:
            self.gates[what, n]()
        self.heard.append((what, n))

    def mail(self, n: int) -> Any:
        return self._mails.send_async(None, n=n)

    def stop_at(self, what: str, n: int) -> Latch:
        gate = self.gates[what, n] = Latch()
        return gate


@pytest.fixture(params=["ordered=True", "ordered=key", "background", "prepare"])
def ledger_by(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2) as pool:
        yield pool


@contextlib.contextmanager
def all_busy(shop: Shop, pool: WorkerPool) -> Iterator[Latch]:
    """One worker is in the first of the ledger, until that is opened, and one held in the block."""
    first = shop.stop_at("ledger", 0)
    with held(pool):
        shop.write(0)
        assert first.entered.wait(TIMEOUT)
        yield first


def ledgers(*numbers: int) -> Heard:
    return [("ledger", n) for n in numbers]


def mails(*numbers: int) -> Heard:
    return [("mail", n) for n in numbers]


def test_one_worker_takes_all_in_the_order_of_the_sends(ledger_by: str) -> None:
    with WorkerPool(1) as pool:
        shop = Shop(pool, ledger_by)
        with held(pool):
            for n in range(5):
                shop.mail(n)
                shop.write(n)
        assert pool.drain(TIMEOUT)
    assert shop.heard == [(what, n) for n in range(5) for what in ("mail", "ledger")]


def test_what_was_passed_by_while_another_ran_comes_before_what_was_sent_later(
    ledger_by: str, pool: WorkerPool
) -> None:
    shop = Shop(pool, ledger_by)
    other = shop.stop_at("mail", 1)
    with all_busy(shop, pool) as first:
        shop.mail(0)
        shop.write(1)
        shop.write(2)
        shop.mail(1)
        shop.mail(2)
    assert other.entered.wait(TIMEOUT)  # this worker has come by the places of 1 and 2
    assert shop.heard == mails(0)
    first.opened.set()
    wait_until(lambda: ("mail", 2) in shop.heard)
    other.opened.set()
    assert pool.drain(TIMEOUT)
    assert shop.heard == [*mails(0), *ledgers(0, 1, 2), *mails(2, 1)]


def test_what_was_sent_while_nothing_else_waited_comes_before_what_was_sent_later(
    ledger_by: str, pool: WorkerPool
) -> None:
    shop = Shop(pool, ledger_by)
    first, other = shop.stop_at("ledger", 0), shop.stop_at("mail", 0)
    shop.write(0)
    assert first.entered.wait(TIMEOUT)
    shop.write(1)
    shop.mail(0)
    assert other.entered.wait(TIMEOUT)
    shop.mail(1)
    first.opened.set()
    wait_until(lambda: ("mail", 1) in shop.heard)
    other.opened.set()
    assert pool.drain(TIMEOUT)
    assert shop.heard == [*ledgers(0, 1), *mails(1, 0)]


def test_busy_lane_does_not_overtake_what_was_sent_before(pool: WorkerPool) -> None:
    """Its next delivery does not come first because its last one has just ended."""
    shop = Shop(pool, "ordered=True")
    with all_busy(shop, pool) as first:
        shop.mail(0)
        shop.mail(1)
        shop.write(1)
        first.opened.set()
        wait_until(lambda: ("ledger", 1) in shop.heard)
    assert shop.heard == [*ledgers(0), *mails(0, 1), *ledgers(1)]


@pytest.mark.parametrize("passed_by", [False, True], ids=["in line", "passed by"])
def test_cancelled_one_gives_its_place_up(passed_by: bool, pool: WorkerPool) -> None:
    shop = Shop(pool, "ordered=True")
    other = shop.stop_at("mail", 1)
    with all_busy(shop, pool) as first:
        shop.mail(0)
        later = [shop.write(n) for n in (1, 2, 3)]
        assert inside.queued(pool) == 4
        if passed_by:
            shop.mail(1)
        else:
            assert later[1].futures[0].cancel()
            assert inside.queued(pool) == 3
    if passed_by:
        assert other.entered.wait(TIMEOUT)
        assert later[1].futures[0].cancel()
        other.opened.set()
    first.opened.set()
    assert pool.drain(TIMEOUT)
    assert [n for what, n in shop.heard if what == "ledger"] == [0, 1, 3]
    assert inside.queued(pool) == 0
    assert add_up(pool.stats())


def test_pause_before_another_attempt_lets_nobody_of_the_lane_pass() -> None:
    """Nor does it hold up the others."""
    heard: Heard = []
    failed = [True]

    def ledger(n: int, **named: Any) -> None:
        if failed and n == 0:
            failed.pop()
            raise Boom
        heard.append(("ledger", n))

    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        signal.connect(ledger, ordered=True, retry=Retry(on=Boom, wait_initial=0.05, wait_jitter=0))
        mail = signal_to(lambda n, **named: heard.append(("mail", n)), pool)
        with held(pool):
            for n in range(3):
                signal.send_async(None, n=n)
                mail.send_async(None, n=n)
        assert pool.drain(TIMEOUT)
    assert [pair for pair in heard if pair[0] == "ledger"] == ledgers(0, 1, 2)
    assert [pair for pair in heard if pair[0] == "mail"] == mails(0, 1, 2)


def test_shutdown_cancels_what_waits_in_its_place() -> None:
    pool = WorkerPool(2)
    shop = Shop(pool, "ordered=True")
    first = shop.stop_at("ledger", 0)
    with held(pool):
        sent = [shop.write(0)]
        assert first.entered.wait(TIMEOUT)
        shop.mail(0)
        sent += [shop.write(n) for n in (1, 2)]
        pool.shutdown(wait=False, cancel_futures=True)
    first.opened.set()
    pool.shutdown()
    assert [each.futures[0].cancelled() for each in sent] == [False, True, True]
    assert shop.heard == ledgers(0)
