"""Statements and rounds: how a figure comes about."""

import gc
import os
import random
import statistics
import timeit
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from stress.bench.progress import progress

# "group/candidate" -> one figure per round: nanoseconds, or bytes for the groups of memory.py.
Samples: TypeAlias = dict[str, list[float]]

# Measures once: what was seen, by the candidate's name.
Case: TypeAlias = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Scale:
    """How much to measure. The ratios are the same at every scale, only less certain."""

    rounds: int = 15
    sample_ms: float = 10.0
    slow_peers: bool = True  # wait for those that take seconds to connect 10,000 receivers, too
    deliveries: int = 20_000  # end to end
    receivers: int = 10_000  # whose bytes are counted
    shots: int = 300  # single deliveries timed in a round
    burst: int = 2_000

    @classmethod
    def quick(cls) -> "Scale":
        return cls(
            rounds=5,
            sample_ms=2.0,
            slow_peers=False,
            deliveries=4_000,
            shots=150,
        )


@dataclass(frozen=True)
class Group:
    """Candidates for one job. ``build`` makes them; what it opens, the stack closes."""

    name: str
    build: Callable[[ExitStack], Iterable[Case]]


@dataclass(frozen=True)
class Subject:
    """Groups that share their rounds; ``rounds`` where more would not tell more."""

    name: str
    groups: Sequence[Group]
    pinned: bool = True
    rounds: int | None = None


class Statement:
    """A statement, timed in a loop that holds nothing else.

    Its names are locals of that loop, so that what counts is the statement, not the way to its
    names. ``calls``: how many times the statement does the job.
    """

    def __init__(self, name: str, source: str, calls: int = 1, /, **names: object) -> None:
        self.name = name
        self.number = 1
        self._calls = calls
        setup = "\n".join(f"{key} = _{key}" for key in names) or "pass"
        scope = {f"_{key}": value for key, value in names.items()}
        self._timer = timeit.Timer(source, setup, globals=scope)

    def fill(self, milliseconds: float) -> None:
        """Choose the repetitions so that a sample takes about that long; it warms up, too."""
        number = 1
        while (taken := self.run(number)) < milliseconds / 2e3:
            number *= 2
        self.number = max(1, int(number * milliseconds / 1e3 / taken))

    def run(self, number: int) -> float:
        """Seconds that ``number`` repetitions take."""
        return self._timer.timeit(number)

    def __call__(self) -> Mapping[str, float]:
        return {self.name: self.run(self.number) * 1e9 / self.number / self._calls}


def measure(subject: Subject, scale: Scale, wanted: Callable[[str], bool]) -> Samples:
    """Build the wanted groups, measure them in interleaved rounds, take them down."""
    groups = [group for group in subject.groups if wanted(group.name)]
    samples: Samples = {}
    if not groups:
        return samples
    order = random.Random(1)
    with one_core(subject.pinned), ExitStack() as stack:
        building = progress(f"{subject.name} (setting up)", groups, len(groups))
        built = [(group.name, list(group.build(stack))) for group in building]
        # The collector runs between the rounds, and passes over what the set-up left behind.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        gc.disable()
        stack.callback(gc.enable)
        cases = [case for _, cases in built for case in cases]
        for case in cases:
            if isinstance(case, Statement):
                case.fill(scale.sample_ms)
        rounds = subject.rounds or scale.rounds
        steps = _rounds(built, rounds, order)
        for name, case in progress(subject.name, steps, rounds * len(cases)):
            for candidate, figure in case().items():
                samples.setdefault(f"{name}/{candidate}", []).append(figure)
    in_order = {
        name: samples[name]
        for group in groups
        for name in samples
        if name.startswith(f"{group.name}/")
    }
    return settle_floors(in_order)


def _rounds(
    groups: list[tuple[str, list[Case]]], rounds: int, order: random.Random
) -> Iterator[tuple[str, Case]]:
    """Every case once a round, in an order that gives none of them the same predecessor always.

    Those of a group one right after the other: a machine may be slow for seconds on end, and what
    is to be compared should fall on the same side of that.
    """
    for _ in range(rounds):
        gc.collect()
        for name, cases in order.sample(groups, len(groups)):
            for case in order.sample(cases, len(cases)):
                yield name, case


def settle_floors(samples: Samples) -> Samples:
    """The floor of a group is the better of the comprehension and the plain loop."""
    for name in [name for name in samples if name.endswith("/comprehension")]:
        group = name.removesuffix("/comprehension")
        pair = samples[name], samples[f"{group}/loop"]
        samples[f"{group}/floor"] = min(pair, key=statistics.median)
    return samples


@contextmanager
def one_core(pinned: bool = True) -> Iterator[None]:
    """Keep this thread, and those that it starts, on the first core it may use."""
    core = pinned_core()
    if not pinned or core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pinned_core() -> int | None:
    """The core that pinned subjects run on; ``None`` where the system cannot pin."""
    return min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def ratios(samples: Samples, over: Iterable[str], under: Iterable[str]) -> list[float]:
    """The product of ``over`` by that of ``under``, round by round; empty where one is missing."""
    columns = [samples.get(name, []) for name in over]
    divisors = [samples.get(name, []) for name in under]
    return [
        _product(figures[: len(columns)]) / _product(figures[len(columns) :])
        for figures in zip(*columns, *divisors, strict=False)
    ]


def _product(figures: Iterable[float]) -> float:
    result = 1.0
    for figure in figures:
        result *= figure
    return result
