"""What a million cycles leave behind: nothing.

Each scenario runs in a process of its own, and is measured after its first thousand cycles and
after its last: resident memory within one MiB, and as many live objects.
"""

import argparse
import gc
import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

from stress._run import (
    Breach,
    add_hang,
    add_json,
    hang_detector,
    measured_alone,
    progress,
    python,
    write_report,
)
from tsignals import Signal, WorkerPool

WARM_UP = 1000
SPARE_BYTES = 1 << 20
Cycle = Callable[[int], object]


class Thing:
    """A sender, or the object of a method that hears."""

    def hear(self, signal: Signal, sender: object, **named: Any) -> None:
        pass


def hear(signal: Signal, sender: object, **named: Any) -> None:
    pass


def new_function() -> Callable[..., None]:
    def function(signal: Signal, sender: object, **named: Any) -> None:
        pass

    return function


def transient_senders() -> Cycle:
    signal, lasting = Signal(), Thing()
    signal.connect(hear)
    signal.connect(hear, sender=lasting)

    def cycle(n: int) -> None:
        sender = Thing()
        signal.send(sender, value=n)
        signal.has_listeners(sender)

    return _keeping(cycle, lasting)


def dying_functions() -> Cycle:
    signal = Signal()

    def cycle(n: int) -> None:
        function = new_function()
        signal.connect(function)
        signal.send(None)

    return cycle


def dying_methods() -> Cycle:
    signal = Signal()

    def cycle(n: int) -> None:
        thing = Thing()
        signal.connect(thing.hear)
        signal.send(None)

    return cycle


def dying_senders() -> Cycle:
    signal = Signal()
    signal.connect(hear)

    def cycle(n: int) -> None:
        sender = Thing()
        signal.connect(hear, sender=sender)
        signal.send(sender)

    return cycle


def distinct_names() -> Cycle:
    signal = Signal()
    signal.connect(hear)
    return lambda n: signal.send(None, **{f"name_{n}": n})


def distinct_uids() -> Cycle:
    signal = Signal()

    def cycle(n: int) -> None:
        signal.connect(hear, dispatch_uid=("uid", n))
        signal.send(None)
        if not signal.disconnect(dispatch_uid=("uid", n)):
            raise Breach("a connection was lost")

    return cycle


def tracked() -> Cycle:
    signal = Signal()

    def cycle(n: int) -> None:
        connection = signal.connect(hear, tracked=True)
        signal.send(None)
        connection.disconnect(wait=True)

    return cycle


def signals() -> Cycle:
    def cycle(n: int) -> None:
        signal = Signal()
        signal.connect(hear)
        signal.connect(hear, sender=signal)
        signal.send(signal)

    return cycle


def deliveries() -> Cycle:
    pool = WorkerPool(2, max_pending=1000)
    signal = Signal(executor=pool)
    signal.connect(hear)

    def cycle(n: int) -> None:
        sent = signal.send_async(Thing(), **{f"name_{n}": n})
        if n % 100 == 99:
            sent.results(timeout=30)

    return cycle


def keys() -> Cycle:
    pool = WorkerPool(2, max_pending=1000)
    signal = Signal(executor=pool)
    signal.connect(hear, ordered=lambda n, **named: ("customer", n))

    def cycle(n: int) -> None:
        signal.send_async(None, n=n)
        sent = signal.send_async(None, n=n)
        if n % 100 == 99:
            sent.results(timeout=30)
            pool.drain(timeout=30)

    return cycle


def _keeping(cycle: Cycle, *things: object) -> Cycle:
    cycle.__dict__["keeps"] = things
    return cycle


SCENARIOS: dict[str, Callable[[], Cycle]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        transient_senders,
        dying_functions,
        dying_methods,
        dying_senders,
        distinct_names,
        distinct_uids,
        tracked,
        signals,
        deliveries,
        keys,
    )
}


def resident_bytes() -> int:
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise OSError("no VmRSS in /proc/self/status")


def measure(name: str, cycles: int, hang: float) -> dict[str, Any]:
    """Run one scenario in this process."""
    cycle = SCENARIOS[name]()
    with hang_detector(hang) as alive, progress(cycles, "cycle", name) as bar:
        for n in range(WARM_UP):
            cycle(n)
        objects, resident = _live_objects(), resident_bytes()
        for n in range(WARM_UP, cycles):
            cycle(n)
            if n % 1000 == 0:
                bar.update(1000)
                alive()
        grown = _live_objects() - objects
    return {
        "scenario": name,
        "cycles": cycles,
        "resident_before": resident,
        "resident_growth": resident_bytes() - resident,
        "object_growth": grown,
    }


def _live_objects() -> int:
    """The least of several counts: a worker may be about to let go of its last delivery."""
    counts = []
    for _ in range(10):  # and what a finalizer lets go of is found by the next collection
        gc.collect()
        counts.append(len(gc.get_objects()))
        time.sleep(0.002)
    return min(counts)


def run(arguments: argparse.Namespace) -> int:
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.cycles, arguments.hang)))
        return 0
    print(f"memory: {python()}, {arguments.cycles} cycles each", flush=True)
    measured = []
    breaches = 0
    for name in SCENARIOS:
        options = ["--cycles", str(arguments.cycles), "--hang", str(arguments.hang)]
        try:
            figures = measured_alone("memory", name, *options)
        except subprocess.CalledProcessError as error:
            breaches += 1
            print(f"{name:<20} failed with exit code {error.returncode}")
            continue
        measured.append(figures)
        grown, objects = figures["resident_growth"], figures["object_growth"]
        broken = grown > SPARE_BYTES or objects > 0
        breaches += broken
        print(
            f"{name:<20} resident {grown / 1024:+8.0f} KiB, objects {objects:+d}"
            + ("  BREACH" if broken else ""),
            flush=True,
        )
    write_report(arguments.json, {"python": python(), "scenarios": measured, "breaches": breaches})
    return 1 if breaches else 0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("memory", help="resident memory and objects after many cycles")
    parser.add_argument("--cycles", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--only", choices=SCENARIOS, help="one scenario, in this process, as JSON")
    add_hang(parser, 30.0)
    add_json(parser)
    parser.set_defaults(run=run)
