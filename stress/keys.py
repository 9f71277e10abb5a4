"""``ordered=key`` with very many keys: each key's deliveries in order, and nothing of them left.

Sends so many deliveries for each of so many keys, from several threads that have keys of their own.
Each delivery must come after the one before it of its key, and not while that runs; as many keys as
there are workers must be heard at the same time; and in the end the memory is what it was.
"""

import argparse
import gc
import sys
import threading
import time
from typing import Any

from stress._run import Breach, add_hang, add_json, hang_detector, progress, python, write_report
from stress.memory import resident_bytes
from tsignals import Signal, WorkerPool

WORKERS = 4
SENDERS = 4
SPARE_BLOCKS = 1000  # of memory, of which a lane and its id take more than ten


class Customers:
    """A receiver that notes, for each key, the last that it has heard."""

    def __init__(self, keys: int) -> None:
        self.last = [-1] * keys
        self.inside = [0] * keys
        self.together = threading.Barrier(WORKERS)
        self.wrong: list[str] = []

    def __call__(self, signal: Signal, sender: object, key: int, number: int, **named: Any) -> None:
        self.inside[key] += 1
        if self.inside[key] != 1 or number != self.last[key] + 1:
            self.wrong.append(f"{key} hears {number} after {self.last[key]}")
        if number == 0 and key < WORKERS:
            self.together.wait(60)  # breaks unless these are heard at the same time
        self.last[key] = number
        self.inside[key] -= 1


def play(keys: int, each: int, alive: Any, bar: Any) -> dict[str, Any]:
    pool = WorkerPool(WORKERS)
    signal, customers = Signal(name="keys", executor=pool), Customers(keys)
    # Equal, and another object each time, as what comes from a database.
    signal.connect(customers, ordered=lambda sender, key, **named: f"customer {key}")

    def send(first: int) -> None:
        for number in range(each):
            for key in range(first, keys, SENDERS):
                signal.send_async(None, key=key, number=number)
                if key % 1000 == first:
                    alive()

    began = time.perf_counter()
    threads = [threading.Thread(target=send, args=(first,)) for first in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
        bar.update(keys * each // SENDERS)
    pool.drain()
    seconds = time.perf_counter() - began
    pool.shutdown()
    if customers.wrong:
        raise Breach(f"out of order: {customers.wrong[:5]}")
    if set(customers.last) != {each - 1}:
        raise Breach("some were not heard")
    if pool.stats().failed:
        raise Breach("keys were not heard side by side")
    backlog = pool._core.backlog
    if backlog.lanes or backlog.lane_ids:
        raise Breach(f"{len(backlog.lanes)} lanes are left, of {len(backlog.lane_ids)} values")
    return {"seconds": round(seconds, 1)}


def run(arguments: argparse.Namespace) -> int:
    keys, each = arguments.keys, arguments.each
    print(f"keys: {python()}, {keys} keys, {each} deliveries each", flush=True)
    with hang_detector(arguments.hang) as alive:
        with progress(2 * keys * each, "delivery", "keys") as bar:
            play(keys, each, alive, bar)  # what is made once is made here
            gc.collect()
            before, resident = sys.getallocatedblocks(), resident_bytes()
            found = play(keys, each, alive, bar)
        gc.collect()
        found["blocks_growth"] = sys.getallocatedblocks() - before
        found["resident_growth"] = resident_bytes() - resident
    print(f"in order, side by side: {found}")
    write_report(arguments.json, {"python": python(), **found})
    if found["blocks_growth"] > SPARE_BLOCKS:
        raise Breach(f"{found['blocks_growth']} blocks of memory are left")
    return 0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("keys", help="ordered=key with very many keys")
    parser.add_argument("--keys", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--each", type=int, default=10, help="default: %(default)s")
    add_hang(parser, 60.0)
    add_json(parser)
    parser.set_defaults(run=run)
