"""Bursts into many small pools, one after the other: each comes to rest, and its numbers add up.

A pool lives for a fraction of a second. Meanwhile several threads send to receivers of a few kinds,
prepare, cancel, drain and shut down, and receivers send and wait themselves. So its threads meet in
its first and its last steps as often as can be, which a pool that lives long hardly ever sees.
"""

import argparse
import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from stress._run import (
    Breach,
    add_hang,
    add_json,
    add_seed,
    fast_switching,
    hang_detector,
    progress,
    python,
    seed_of,
    write_report,
)
from tsignals import PoolClosed, QueueFull, Retry, Signal, WorkerPool
from tsignals._pool.config import POLICIES

SENDERS = 4
SENDS = 60
ENOUGH = 30.0
"""Seconds in which a burst is over many times."""
AGAIN = Retry(OSError, attempts=3, wait_initial=0, wait_jitter=0.001)

Options = dict[str, Any]


class Burst:
    """One pool, the receivers of its signal, and those who send."""

    def __init__(self, random: random.Random) -> None:
        self.random = random
        self.policy, self.closes = random.choice(POLICIES), random.random() < 0.4
        self.pool = WorkerPool(
            random.choice((1, 2, 3)),
            max_pending=random.choice((3, 10)),
            overflow=self.policy,
            idle=random.choice((None, lambda: None)),
        )
        self.wrong: list[str] = []
        self.sent: list[Any] = []
        self.signal = Signal(name="burst", executor=self.pool)
        self.inner = Signal(name="inner", executor=self.pool)
        kinds = self.kinds()
        self.names = random.sample(sorted(kinds), random.randint(1, 5))
        for name in self.names:
            receiver, options = kinds[name]
            self.signal.connect(receiver, dispatch_uid=name, weak=False, **options)
        self.inner.connect(lambda **named: None, weak=False)
        if random.random() < 0.5:
            self.inner.connect(self.one_at_a_time(), weak=False, ordered=True)

    def kinds(self) -> dict[str, tuple[Callable[..., Any], Options]]:
        """The receivers that there are, by name, with how they are connected."""

        def plain(number: int, **named: Any) -> int:
            return number

        def fails(**named: Any) -> None:
            raise ValueError

        def fails_at_times(**named: Any) -> None:
            if self.random.random() < 0.5:
                raise OSError

        async def gives_way(**named: Any) -> None:
            await asyncio.sleep(0)

        return {
            "plain": (plain, {}),
            "fails": (fails, {}),
            "tracked": (plain, {"tracked": True}),
            "once": (plain, {"once": True}),
            "ordered": (self.one_at_a_time(), {"ordered": True}),
            "by key": (plain, {"ordered": lambda number, **named: number % 3}),
            "again": (fails_at_times, {"retry": AGAIN}),
            "again, ordered": (fails_at_times, {"retry": AGAIN, "ordered": True}),
            "async": (gives_way, {}),
            "async, ordered": (gives_way, {"ordered": True}),
            "async, tracked, again": (gives_way, {"retry": AGAIN, "tracked": True}),
            "waits": (self.waits, {}),
            "looks": (self.looks, {}),
        }

    def one_at_a_time(self) -> Callable[..., Any]:
        lane = threading.Lock()

        def ordered(**named: Any) -> None:
            if not lane.acquire(blocking=False):
                self.wrong.append("two deliveries of one lane ran at the same time")
                return
            lane.release()

        return ordered

    def waits(self, number: int, **named: Any) -> None:
        """A receiver that sends, and waits for that in one of three ways."""
        if number % 7:
            return
        with contextlib.suppress(QueueFull, PoolClosed):
            deliveries = self.inner.send_async(None)
            if number % 3 == 0:
                deliveries.wait(ENOUGH)
            elif number % 3 == 1:
                list(deliveries.as_completed(ENOUGH))
            else:
                deliveries.outcomes(ENOUGH)

    def looks(self, number: int, **named: Any) -> None:
        """A receiver that cancels, or waits for, what is not finished."""
        if number % 11:
            return
        for delivery in self.pool.unfinished()[-3:]:
            if number % 2:
                delivery.cancel()
                continue
            try:
                delivery.exception(ENOUGH)
            except TimeoutError:
                self.wrong.append(f"{delivery} did not end")
            except Exception:  # cancelled, lost, or refused: it would wait for itself
                pass

    def send(self, random: random.Random) -> None:
        for number in range(SENDS):
            with contextlib.suppress(QueueFull, PoolClosed):
                self.send_one(random, number)

    def send_one(self, random: random.Random, number: int) -> None:
        if random.random() < 0.2:
            prepared = self.signal.prepare(None, number=number)
            deliveries = prepared.deliveries
            self.sent.append(deliveries)
            what = random.random()
            if what > 0.85:
                deliveries.cancel()
            if 0.7 < what <= 0.85:
                prepared.drop()
            else:
                prepared.submit()
        else:
            deliveries = self.signal.send_async(None, number=number)
            self.sent.append(deliveries)
        if number % 3 == 0:
            deliveries.cancel()
        if number % 20 == 5 and not self.pool.drain(ENOUGH):
            self.wrong.append("drain() waited in vain")

    def play(self) -> None:
        """Raises ``Breach``."""
        seeds = [self.random.random() for _ in range(SENDERS)]
        threads = [
            threading.Thread(target=self.send, args=(random.Random(seed),), daemon=True)
            for seed in seeds
        ]
        for thread in threads:
            thread.start()
        if self.closes:
            time.sleep(self.random.random() * 0.02)
            self.pool.shutdown(
                self.random.random() < 0.5, cancel_futures=self.random.random() < 0.5
            )
        for thread in threads:
            thread.join(ENOUGH)
            if thread.is_alive():
                self.wrong.append("a sender did not come back")
        if not self.pool.drain(ENOUGH):
            self.wrong.append("the pool does not come to rest")
        try:
            self.judge()
        finally:
            self.pool.shutdown(wait=not self.wrong)

    def judge(self) -> None:
        stats = self.pool.stats()
        ended = stats.completed + stats.failed + stats.cancelled + stats.dropped
        if stats.pending or stats.running or stats.submitted != ended:
            self.wrong.append(f"its numbers: {stats}")
        left = [each for sent in self.sent for each in sent.futures if not each.done()]
        if left:
            self.wrong.append(f"{len(left)} deliveries are not done, such as {left[0]}")
        if self.wrong:
            raise Breach(f"{self.policy}, {self.names}: {self.wrong[:5]}")


def run(arguments: argparse.Namespace) -> int:
    seed = seed_of(arguments)
    print(f"bursts: {python()}, seed {seed}", flush=True)
    number, breach = arguments.first, None
    until = time.monotonic() + arguments.seconds
    logging.disable(logging.CRITICAL)  # failures, drops and losses: all of them on purpose
    try:
        with (
            fast_switching(),
            hang_detector(arguments.hang) as alive,
            progress(None, " pools", "bursts") as bar,
        ):
            while breach is None and time.monotonic() < until:
                try:
                    Burst(random.Random(f"{seed}/{number}")).play()
                except Breach as error:
                    breach = f"pool {number}: {error}"
                alive()
                bar.update()
                number += 1
    finally:
        logging.disable(logging.NOTSET)
    pools = number - arguments.first
    print(f"{pools} pools, {breach or 'each came to rest'}", flush=True)
    write_report(arguments.json, {"seed": seed, "pools": pools, "breach": breach})
    return int(breach is not None)


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("bursts", help="many small pools, each for a moment")
    parser.add_argument("--seconds", type=float, default=60.0, help="default: %(default)s")
    parser.add_argument(
        "--first", type=int, default=0, metavar="NUMBER", help="begin with that pool"
    )
    add_seed(parser)
    add_hang(parser, 120.0)
    add_json(parser)
    parser.set_defaults(run=run)
