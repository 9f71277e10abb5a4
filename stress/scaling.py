"""Do sends scale with the cores? Two threads against one, a signal against the bare loop.

Rounds are interleaved and medians taken, so that what else the machine does hits all alike.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from stress._run import add_hang, add_json, gil_is_on, hang_detector, progress, python, write_report
from tsignals import Signal

LEAST_SCALING = 1.7
MOST_WRITER_COST = 0.10
# Two medians of the same thing differ by this much on a busy machine.
NOISE = 0.05
RECEIVERS = 5
WRITES_A_SECOND = 100

Receiver = Callable[..., Any]
Shot = Callable[[int], None]


def working(turns: int) -> list[Receiver]:
    """Receivers that do some private work: nothing that two threads share.

    Not even a constant or a cell: what is counted by references is shared by all who look at it.
    """
    return [_copy(_work.__code__, turns) for _ in range(RECEIVERS)]


def _work(signal: Signal, sender: object, turns: int = 0, **named: Any) -> int:
    x = 1
    for _ in range(turns):
        x = x * 5 % 251
    return x


def empty() -> list[Receiver]:
    return [_copy(_hear.__code__) for _ in range(RECEIVERS)]


def _hear(signal: Signal, sender: object, **named: Any) -> None:
    pass


def _copy(code: CodeType, *defaults: int) -> Receiver:
    return FunctionType(code, globals(), argdefs=defaults or None)


def turns_for(seconds: float) -> int:
    """How many turns of the private work take so long in one thread."""
    turns = 1000
    (receiver, *_) = working(turns)
    best = min(_timed(lambda: receiver(None, None)) for _ in range(20))
    return max(1, round(turns * seconds / best))


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def bare_loop(receivers: list[Receiver]) -> Shot:
    fixed, signal = tuple(receivers), Signal()

    def shoot(times: int) -> None:
        for n in range(times):
            [(r, r(signal=signal, sender=None, value=n)) for r in fixed]

    return shoot


def sending(signal: Signal) -> Shot:
    def shoot(times: int) -> None:
        for n in range(times):
            signal.send(None, value=n)

    return shoot


def rate(shoot: Shot, times: int, threads: int) -> float:
    """Shots a second of so many threads together."""
    ready = threading.Barrier(threads + 1)
    ended: list[float] = []

    def run() -> None:
        ready.wait(timeout=30)
        shoot(times)
        ended.append(time.perf_counter())

    shooters = [threading.Thread(target=run) for _ in range(threads)]
    for shooter in shooters:
        shooter.start()
    ready.wait(timeout=30)
    started = time.perf_counter()
    for shooter in shooters:
        shooter.join()
    return threads * times / (max(ended) - started)


class Writer:
    """Changes a signal a hundred times a second while it is entered."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        (other, *_) = empty()
        while not self._stop.wait(1 / WRITES_A_SECOND):
            if not self._signal.disconnect(other, sender=self):
                self._signal.connect(other, sender=self)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()


def scaling_of(shoot: Shot, times: int) -> tuple[float, float]:
    """Rates of one thread and of two."""
    return rate(shoot, times, 1), rate(shoot, times, 2)


def measure(rounds: int, alive: Callable[[], None]) -> dict[str, float]:
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)
        alive()

    turns = turns_for(3e-6)
    kinds = {"work": (working(turns), 10_000), "empty": (empty(), 40_000)}
    with progress(rounds, "round", "scaling") as bar:
        for _ in range(rounds):
            for kind, (receivers, times) in kinds.items():
                signal = Signal()
                for receiver in receivers:
                    signal.connect(receiver)
                one, two = scaling_of(bare_loop(receivers), times)
                note(f"{kind}: bare loop, two threads to one", two / one)
                one, two = scaling_of(sending(signal), times)
                note(f"{kind}: send, two threads to one", two / one)
                with Writer(signal):
                    disturbed = rate(sending(signal), times, 2)
                note(f"{kind}: cost of a writer", 1 - disturbed / two)
            bar.update()
    return {name: round(statistics.median(values), 3) for name, values in found.items()}


def verdicts(figures: dict[str, float]) -> list[str]:
    """Which bars were missed."""
    missed = []
    if figures["work: send, two threads to one"] < LEAST_SCALING:
        missed.append(f"two threads reach less than {LEAST_SCALING} times the sends of one")
    for kind in ("work", "empty"):
        ours, bare = (
            figures[f"{kind}: {what}, two threads to one"] for what in ("send", "bare loop")
        )
        if ours < bare * (1 - NOISE):
            missed.append(f"{kind}: sends scale worse than the bare loop")
    if figures["work: cost of a writer"] > MOST_WRITER_COST:
        missed.append(f"a writer costs the senders more than {MOST_WRITER_COST:.0%}")
    return missed


def run(arguments: argparse.Namespace) -> int:
    if gil_is_on():
        print("scaling needs a free-threaded Python with its GIL off; nothing measured")
        return 2
    print(f"scaling: {python()}, {arguments.rounds} rounds", flush=True)
    with hang_detector(arguments.hang) as alive:
        figures = measure(arguments.rounds, alive)
    for name, value in figures.items():
        print(f"{name:<40} {value:6.3f}")
    missed = verdicts(figures)
    for bar in missed:
        print(f"MISSED: {bar}")
    write_report(arguments.json, {"python": python(), "figures": figures, "missed": missed})
    return 1 if missed else 0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("scaling", help="sends of two threads against those of one")
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s")
    add_hang(parser, 60.0)
    add_json(parser)
    parser.set_defaults(run=run)
