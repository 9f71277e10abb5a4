"""A million deliveries through a small pool, under every policy: nothing lost, nothing twice.

Each delivery has a number, and in the end each number has run, was dropped, or was refused: one of
these, once. Each policy runs in a process of its own, whose resident memory is measured when a
tenth is through, and at the end.
"""

import argparse
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from stress._run import (
    Breach,
    add_hang,
    add_json,
    add_seed,
    hang_detector,
    measured_alone,
    progress,
    python,
    seed_of,
    write_report,
)
from stress.memory import resident_bytes
from tsignals import DeliveryDropped, QueueFull, Signal, WorkerPool
from tsignals._pool.config import POLICIES, Policy

WORKERS = 4
ROOM = 1000
SENDERS = 4
SPARE_BYTES = 4 << 20
JUDGED_FROM = 100_000
"""Deliveries: with fewer, a tenth is too little for memory to be what it will be."""


class Account:
    """What became of each number."""

    def __init__(self, count: int) -> None:
        self.ran = bytearray(count)
        self.ended = bytearray(count)
        self.dropped = bytearray(count)
        self.refused = bytearray(count)

    def run(self, number: int, **named: Any) -> None:
        """The receiver."""
        self.ran[number] += 1

    def end(self, number: int) -> Callable[[Any], None]:
        """A callback for the delivery of ``number``."""

        def ended(delivery: Any) -> None:
            error = delivery.exception(0)
            if error is None:
                self.ended[number] += 1
            elif isinstance(error, DeliveryDropped):
                self.dropped[number] += 1
            else:
                raise error

        return ended

    def check(self, pool: WorkerPool) -> None:
        """Every number has one end, and the pool has counted them alike."""
        for number, fates in enumerate(
            zip(self.ran, self.ended, self.dropped, self.refused, strict=True)
        ):
            if fates not in ((1, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)):
                raise Breach(f"delivery {number}: ran, ended, dropped, refused {fates} times")
        stats = pool.stats()
        counted = (sum(self.ran), sum(self.dropped), 0, 0, 0, 0)
        told = (stats.completed, stats.dropped, stats.failed, stats.cancelled) + stats[2:4]
        if told != counted or stats.submitted != counted[0] + counted[1]:
            raise Breach(f"{counted[0]} ran and {counted[1]} were dropped, and {stats}")
        if stats.refused != sum(self.refused):
            raise Breach(f"{sum(self.refused)} were refused, and {stats}")


class Watch:
    """The most that has ever waited, as a thread sees it that looks all the time."""

    def __init__(self, pool: WorkerPool) -> None:
        self.pool = pool
        self.most = 0
        self.wrong: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(1e-3):
            stats = self.pool.stats()
            ended = stats.completed + stats.failed + stats.cancelled + stats.dropped
            if stats.submitted != stats.pending + stats.running + ended:
                self.wrong.append(f"the numbers do not add up: {stats}")
            self.most = max(self.most, stats.pending)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        if self.most > ROOM:
            self.wrong.append(f"{self.most} deliveries waited, and {ROOM} is the limit")
        if self.wrong:
            raise Breach(self.wrong[0])


def send_all(
    signal: Signal,
    account: Account,
    numbers: range,
    size: Callable[[], int],
    sent: Callable[[int], None],
) -> None:
    """Send ``numbers``, sometimes several at once: to as many receivers of one send."""
    left = list(numbers)
    left.reverse()
    while left:
        batch = [left.pop() for _ in range(min(size(), len(left)))]
        try:
            deliveries = signal.send_async(len(batch), batch=batch)
        except QueueFull:
            for number in batch:
                account.refused[number] += 1
        else:
            for number, (_, delivery) in zip(batch, deliveries, strict=True):
                delivery.add_done_callback(account.end(number))
        sent(len(batch))


def measure(policy: Policy, count: int, seed: int, hang: float) -> dict[str, Any]:
    """Run one policy in this process."""
    account = Account(count)
    pool = WorkerPool(WORKERS, max_pending=ROOM, overflow=policy)
    signal = Signal(name=policy, executor=pool)
    # The sender says how many receivers hear: the n-th gets the n-th number of the batch.
    for size in (1, 2, 3):
        for place in range(size):
            signal.connect(_receiver(account, place), sender=size, weak=False)
    through, early = [0], [0]
    with hang_detector(hang) as alive, progress(count, "delivery", policy) as bar:
        lock = threading.Lock()

        def sent(number: int) -> None:
            with lock:
                through[0] += number
                if not early[0] and through[0] * 10 >= count:
                    early[0] = resident_bytes()
                if through[0] // 10_000 != (through[0] - number) // 10_000:
                    bar.update(10_000)
                    alive()

        watch = Watch(pool)
        errors: list[BaseException] = []

        def run_sender(index: int) -> None:
            chance = random.Random(seed + index)
            try:
                send_all(
                    signal,
                    account,
                    range(index, count, SENDERS),
                    lambda: chance.choice((1, 1, 1, 2, 3)),
                    sent,
                )
            except BaseException as error:
                errors.append(error)

        senders = [threading.Thread(target=run_sender, args=(n,)) for n in range(SENDERS)]
        for thread in senders:
            thread.start()
        for thread in senders:
            thread.join()
        if errors:
            raise errors[0]
        if not pool.drain(timeout=60):
            raise Breach(f"the pool does not come to rest: {pool.stats()}")
        watch.stop()
        resident = resident_bytes()
        pool.shutdown()  # callbacks come after the counting, and before the threads end
    account.check(pool)
    stats = pool.stats()
    return {
        "policy": policy,
        "ran": stats.completed,
        "dropped": stats.dropped,
        "refused": sum(account.refused),
        "most_pending": watch.most,
        "resident_early": early[0],
        "resident_growth": resident - early[0],
    }


def _receiver(account: Account, place: int) -> Callable[..., None]:
    def receiver(batch: list[int], **named: Any) -> None:
        account.run(batch[place])

    return receiver


def run(arguments: argparse.Namespace) -> int:
    seed = seed_of(arguments)
    if arguments.only:
        try:
            measured = measure(arguments.only, arguments.count, seed, arguments.hang)
        except Breach as breach:
            print(f"BREACH (seed {seed}, {arguments.only}): {breach}", file=sys.stderr)
            return 1
        print(json.dumps(measured))
        return 0
    print(f"pool: {python()}, {arguments.count} deliveries each, seed {seed}", flush=True)
    policies, breaches = [], 0
    for policy in POLICIES:
        options = ["--seed", str(seed), "--count", str(arguments.count)]
        try:
            figures = measured_alone("pool", policy, *options, "--hang", str(arguments.hang))
        except subprocess.CalledProcessError as error:
            breaches += 1
            print(f"{policy:<12} failed with exit code {error.returncode}", flush=True)
            continue
        policies.append(figures)
        grown = figures["resident_growth"]
        too_much = arguments.count >= JUDGED_FROM and grown > SPARE_BYTES
        breaches += too_much
        print(
            f"{policy:<12} ran {figures['ran']}, dropped {figures['dropped']}, "
            f"refused {figures['refused']}, most pending {figures['most_pending']}, "
            f"resident {figures['resident_early'] / 2**20:.0f} MiB {grown / 2**20:+.1f}"
            + ("  BREACH" if too_much else ""),
            flush=True,
        )
    write_report(
        arguments.json,
        {"python": python(), "seed": seed, "policies": policies, "breaches": breaches},
    )
    return 1 if breaches else 0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("pool", help="a million deliveries under every policy")
    parser.add_argument("--count", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--only", choices=POLICIES, help="one policy, in this process, as JSON")
    add_seed(parser)
    add_hang(parser, 30.0)
    add_json(parser)
    parser.set_defaults(run=run)
