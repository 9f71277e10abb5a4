"""Several threads send on one signal, beside several threads that run the bare loop.

Nanoseconds per send, whichever thread made it: with two threads that do not hinder each other on
two cores it is half of what it is with one.
"""

import sys
import timeit
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from types import FunctionType

from stress.bench.libraries import Receiver, Sender, functions, installed
from stress.bench.measure import Case, Group, Scale, Statement, Subject
from stress.bench.sends import COMPREHENSION, ONE
from stress.bench.together import together

THREADS = (1, 2, 4)
COUNTS = (1, 10)
WORK_NS = 3_000
SAMPLES = 4  # times as long a sample as elsewhere: threads take a while to get going
BESIDE = ("tsignals", "Django, cached")


def gil() -> bool:
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def subjects(scale: Scale) -> Iterator[Subject]:
    for pinned in (True, False) if gil() else (False,):
        where = "one core" if pinned else "every core"
        yield Subject(
            f"threads, {where}",
            [
                Group(f"threads on {where}, {kind} receivers, {n}", partial(_sends, scale, make, n))
                for kind, make in (("empty", functions), ("working", working))
                for n in COUNTS
            ],
            pinned=pinned,
        )


def working(count: int) -> tuple[Receiver, ...]:
    """Receivers that are busy for some three microseconds with what is theirs alone."""
    turns = 100
    (trial,) = _working(1, turns)
    seconds = min(timeit.repeat(partial(trial, signal=None, sender=None), number=1000))
    return _working(count, max(1, int(turns * WORK_NS / (seconds * 1e6))))


def _working(count: int, turns: int) -> tuple[Receiver, ...]:
    code = _work.__code__
    return tuple(FunctionType(code, globals(), argdefs=(turns,)) for _ in range(count))


def _work(signal: object, sender: object, turns: int = 0, **named: object) -> None:
    n = 0
    while n < turns:
        n += 1


def _sends(
    scale: Scale, make: Callable[..., tuple[Receiver, ...]], count: int, stack: ExitStack
) -> Iterator[Case]:
    sender, receivers = Sender(), make(count)
    loop = COMPREHENSION.format(named=ONE)
    statements = [Statement("bare loop", loop, receivers=receivers, signal=Sender(), sender=sender)]
    for library in installed():
        if library.name in BESIDE:
            signal = library.signal()
            for receiver in receivers:
                library.connect(signal, receiver)
            source = library.send.format(named=ONE)
            statements.append(
                Statement(library.name, source, signal=signal, sender=sender, kept=receivers)
            )
    for statement in statements:
        statement.fill(SAMPLES * scale.sample_ms)
        for threads in THREADS:
            yield partial(_send, statement, threads)


def _send(statement: Statement, threads: int) -> Mapping[str, float]:
    """Together they make as many sends as one does alone."""
    number = max(1, statement.number // threads)
    span = together([partial(statement.run, number)] * threads)
    plural = "thread" if threads == 1 else "threads"
    taken = (span.ended - span.began) * 1e9 / number / threads
    return {f"{statement.name}, {threads} {plural}": taken}
