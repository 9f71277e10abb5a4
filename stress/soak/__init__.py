"""Everything at once for a while; then all must add up.

Threads send in every way, connect, let die, collect garbage, close pools and make new ones; a
signal handler and finalizers call in the middle of it, and the process forks.
"""

import argparse
import faulthandler
import os
import random
import signal as signals
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from stress._run import (
    Breach,
    add_hang,
    add_json,
    add_seed,
    collecting_often,
    fast_switching,
    gil_is_on,
    hang_detector,
    progress,
    python,
    seed_of,
    told_of_ignored_exceptions,
    write_report,
)

FORK_EVERY = 2.0  # seconds


def run(arguments: argparse.Namespace) -> int:
    from stress.soak.features import available

    seed = seed_of(arguments)
    print(f"soak: {python()}, seed {seed}, {arguments.threads} threads", flush=True)
    faulthandler.enable(file=sys.__stderr__ or 2)
    features = available()
    started = time.monotonic()
    counted: dict[str, Any] = {}
    problems: list[str] = []
    with (
        hang_detector(arguments.hang) as alive,
        fast_switching(),
        collecting_often(),
        told_of_ignored_exceptions(problems.append),
    ):
        try:
            counted = soak(arguments, seed, features, alive, problems)
        except Breach as breach:
            problems.append(str(breach))
    calls = sum(counted.get("calls", {}).values())
    for problem in problems[:20]:
        print(f"BREACH (seed {seed}): {problem}", flush=True)
    print(f"{calls} calls, {counted.get('deliveries')}, {len(problems)} breaches")
    report = {
        "python": python(),
        "seed": seed,
        "threads": arguments.threads,
        "seconds": round(time.monotonic() - started, 1),
        "left_out": sorted(_all_features() - features),
        **counted,
        "breaches": problems,
    }
    write_report(arguments.json, report)
    return 1 if problems else 0


def _all_features() -> set[str]:
    from stress.soak.features import PROBES

    return set(PROBES)


def soak(
    arguments: argparse.Namespace,
    seed: int,
    features: frozenset[str],
    alive: Any,
    problems: list[str],
) -> dict[str, Any]:
    """Run the actors; raise or add to ``problems`` whatever is wrong; return what was counted."""
    from stress.soak.actor import Actor
    from stress.soak.world import World

    random.seed(seed)
    world = World(features)
    world.problems = problems
    mine, *others = [Actor(world, seed + n) for n in range(arguments.threads)]
    stop = threading.Event()
    threads = [
        threading.Thread(target=actor.run, args=(stop,), name=f"actor {n}")
        for n, actor in enumerate(others)
    ]
    handler = _Handler(mine)
    with handler, progress(arguments.seconds, "s", "soak") as bar:
        for thread in threads:
            thread.start()
        started = time.monotonic()
        forked = started
        while not stop.is_set() and (now := time.monotonic()) - started < arguments.seconds:
            until = now + 0.2
            while not stop.is_set() and time.monotonic() < until:
                mine.act()
            if arguments.fork and time.monotonic() - forked > FORK_EVERY:
                mine.fork()
                forked = time.monotonic()
            alive()
            _look_for_hangs(others, arguments.hang, seed, world)
            calls = sum(sum(list(actor.account.calls.values())) for actor in [mine, *others])
            bar.update(min(time.monotonic() - started, arguments.seconds) - bar.n)
            bar.set_postfix_str(f"{calls} calls, {len(world.pools)} pools")
    stop.set()
    for thread in threads:
        while thread.is_alive():
            thread.join(timeout=0.5)
            _look_for_hangs(others, arguments.hang, seed, world)
    alive()
    if problems:
        return {}
    return world.finish([actor.account for actor in [mine, *others]])


def _look_for_hangs(actors: list[Any], seconds: float, seed: int, world: Any) -> None:
    now = time.monotonic()
    for n, actor in enumerate(actors):
        if now - actor.beat > seconds and any(
            thread.name == f"actor {n}" for thread in threading.enumerate()
        ):
            print(f"HANG (seed {seed}): actor {n} has not come back", file=sys.stderr, flush=True)
            for pool in world.pools:
                if pool.stats().workers or pool.unfinished():
                    print(pool, pool.stats(), *_what_is_left(pool), sep="\n  ", file=sys.stderr)
            faulthandler.dump_traceback(file=sys.__stderr__ or 2)
            os._exit(1)


def _what_is_left(pool: Any) -> Iterator[str]:
    """What ``pool`` has, and what there is of each delivery that has not ended: for a hang."""
    core = pool._core
    line, unresolved = list(core.backlog.line), list(core.backlog.unresolved)
    yield f"{core.config}, {core.state.version[:3]}, stripes {core.state.stripes}"
    yield f"{len(line)} in line, {core.backlog.tokens.qsize()} tokens, lanes {core.backlog.lanes}"
    yield f"timer {core.timer.threads}, heap {core.timer._heap}, {core.timer._inbox.qsize()} come"
    for task in pool.unfinished():
        turn, entry = task._turn, task._entry
        yield f"{task}, {task._phase}, claims {task._claims}, claimed by {task._claimed_by}"
        yield f"  in line {task in line}, {entry in line}; found {entry in unresolved}"
        yield f"  {type(task)}, turn {turn}, before it {turn and turn.before}"
        yield f"  waiters {task._find_waiters()}, stack {entry._stack}"


class _Handler:
    """A signal handler that makes calls in the middle of the main thread's."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._active = False

    def __enter__(self) -> None:
        self._before = signals.signal(signals.SIGALRM, self)
        self._active = True
        self._set_timer()

    def __call__(self, number: int, frame: object) -> None:
        if self._active:
            self._actor.meanwhile()
            self._set_timer()

    def _set_timer(self) -> None:
        signals.setitimer(signals.ITIMER_REAL, random.uniform(1e-4, 1e-2))

    def __exit__(self, *exception: object) -> None:
        self._active = False
        signals.setitimer(signals.ITIMER_REAL, 0)


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("soak", help="everything at once, then all must add up")
    add_seed(parser)
    add_hang(parser, 20.0)
    add_json(parser)
    parser.add_argument("--seconds", type=float, default=60.0, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=6, help="default: %(default)s")
    # Free-threaded CPython 3.13 itself hangs a child on any dict that another thread was changing.
    parser.add_argument(
        "--fork",
        action=argparse.BooleanOptionalAction,
        default=gil_is_on(),
        help="fork now and then; by default with the GIL only",
    )
    parser.set_defaults(run=run)
