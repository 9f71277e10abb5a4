"""What all actors of the soak share, and how it comes to an end."""

import gc
import logging
import random
import re
import threading
import time
import weakref
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

from stress._run import Breach
from stress.soak.account import Account, Boom, Passing, Sent, Ticket, check_sum
from stress.soak.cast import (
    Flaky,
    FlakyAsync,
    Nest,
    Ordered,
    OrderedByKey,
    Tracked,
    any_receiver,
    coroutine_function,
)
from tsignals import Connection, Retry, Signal, WorkerPool, receiver_failed, set_default_executor
from tsignals._pool.config import POLICIES


class Lane:
    """A signal with ordered receivers and a pool of its own; sends are numbered under a lock."""

    def __init__(self, world: "World") -> None:
        self.pool = world.new_pool()
        self.signal = Signal(name="ordered", executor=self.pool)
        self.receivers = [Ordered(world.complain) for _ in range(2)]
        for receiver in self.receivers:
            self.signal.connect(receiver, ordered=True)
        self.by_key = OrderedByKey(world.complain)
        self.signal.connect(self.by_key, ordered=self.by_key.key)
        self.lock = threading.Lock()
        self.number = 0

    def send(self, ticket: Ticket) -> Any:
        with self.lock:
            self.number += 1
            return self.signal.send_async(None, ticket=ticket, number=self.number)


class NestingBox:
    """A signal whose receiver sends on it and waits, and the pool in which it does."""

    def __init__(self, world: "World") -> None:
        self.pool = world.new_pool(overflow="block", max_pending=random.choice((2, 20)))
        self.signal = Signal(name="nested", executor=self.pool)
        self.nest = Nest(world.note_nested)
        self.signal.connect(self.nest)


class World:
    """Signals, pools and receivers that all actors use at once."""

    def __init__(self, features: frozenset[str]) -> None:
        self.features = features
        self.policies = [policy for policy in POLICIES if f"overflow {policy}" in features]
        self.problems: list[str] = []
        self.pools: list[WorkerPool] = []  # all there ever were
        self.nested = deque[str]()  # ends of deliveries that receivers waited for
        self.signals = [Signal(name=f"signal {n}") for n in range(3)]
        self.mixed = Signal(name="sync and async")
        self.tracked_signal = Signal(name="tracked")
        self.flaky = Signal(name="flaky")
        self.foreign = Signal(name="foreign", executor=ThreadPoolExecutor(2, "foreign"))
        self.tracked: list[tuple[Tracked, Connection]] = []
        # Strong references to weakly connected receivers; whoever takes one out lets it die.
        self.held = deque[Any]()
        self.over = False  # then litter that is still found connects nobody any more
        self.graves: deque[weakref.ref[Any]] = deque(maxlen=5000)
        self.logged = _Counting()
        self._log = logging.getLogger("tsignals")
        self._log.addHandler(self.logged)
        self._log.propagate = False
        receiver_failed.connect(self.told)
        self.renew_pool()
        self.renew_lane()
        self.renew_nest()
        if "retry" in features:
            retry = Retry(Passing, attempts=None, timeout=None, wait_initial=0, wait_jitter=0.02)
            self.flaky.connect(Flaky(), weak=False, retry=retry)
            self.flaky.connect(Flaky(), weak=False, retry=retry, ordered=True)
            self.flaky.connect(FlakyAsync(), weak=False, retry=retry)
        self.lasting = [any_receiver() for _ in range(3)]
        for signal in (*self.signals, self.mixed, self.tracked_signal, self.foreign):
            signal.connect(random.choice(self.lasting), weak=False)
        if "async deliveries" in features:
            self.mixed.connect(coroutine_function(), weak=False)

    def complain(self, problem: str) -> None:
        self.problems.append(problem)

    def told(self, signal: Signal, sender: Any, failure: Any, **named: Any) -> None:
        """Hears receiver_failed."""
        if isinstance(failure.exception, Boom):
            failure.exception.told.append(failure.mode)
        else:
            self.complain(f"told of {failure}")

    def note_nested(self, ticket: Ticket, sent: Any) -> None:
        """A receiver sent and waits here, in its worker."""
        self.nested.extend(Sent(ticket, sent).ends(Account()))

    # -- Pools come and go --

    def new_pool(self, **options: Any) -> WorkerPool:
        options = {
            "max_workers": random.randint(1, 4),
            "max_pending": random.choice((None, 3, 30, 1000)),
            "overflow": random.choice(self.policies),
            "block_timeout": random.choice((None, 0.001, 1.0)),
            "thread_name_prefix": f"soak {len(self.pools)}",
        } | options
        pool = WorkerPool(**options)
        self.pools.append(pool)
        return pool

    def renew_pool(self) -> None:
        self.pool = self.new_pool()
        self.mixed.executor = self.pool
        self.flaky.executor = self.pool
        self.tracked_signal.executor = self.pool
        set_default_executor(self.pool)

    def renew_lane(self) -> None:
        if "ordered" in self.features:
            self.lane = Lane(self)

    def renew_nest(self) -> None:
        if "nested waits" in self.features:
            self.nest = NestingBox(self)

    # -- The end --

    def finish(self, accounts: list[Account]) -> dict[str, Any]:
        """Let everything come to rest, check that all adds up; what was counted."""
        self.over = True
        for account in accounts:
            account.finish()
        for pool in list(self.pools):
            pool.shutdown()
        self.foreign.executor.shutdown()  # type: ignore[union-attr]
        set_default_executor(None)
        for account in accounts:
            account.finish()
        ends = sum((account.ends for account in accounts), Counter(self.nested))
        self._check_pools(ends)
        failures = Counter(mode for account in accounts for mode in account.failures)
        if self.logged.errors != failures.total():
            said = dict(self.logged.said())
            raise Breach(f"{failures.total()} failures, and {self.logged.errors} logged: {said}")
        if sum(self.logged.losses) > ends["cancelled"]:  # among which the lost are
            raise Breach(f"{sum(self.logged.losses)} logged as lost, and {dict(ends)}")
        self._check_receivers()
        self._check_threads()
        receiver_failed.disconnect(self.told)
        self._log.removeHandler(self.logged)
        self._log.propagate = True
        return {
            "calls": dict(sum((account.calls for account in accounts), Counter[str]())),
            "deliveries": dict(ends),
            "failures": dict(failures),
            "lost": sum(self.logged.losses),
            "pools": len(self.pools),
        }

    def _check_pools(self, ends: Counter[str]) -> None:
        counted: Counter[str] = Counter()
        for pool in self.pools:
            stats = pool.stats()
            check_sum(stats)
            if stats.pending or stats.running or stats.workers:
                raise Breach(f"a pool was shut down and is not at rest: {stats}")
            for end in ("completed", "failed", "cancelled", "dropped"):
                counted[end] += getattr(stats, end)
        if +counted != +ends:
            raise Breach(f"pools counted {dict(counted)}, the senders {dict(ends)}")

    def _check_receivers(self) -> None:
        """Once disconnected or dead, nothing of them is left anywhere."""
        for _, connection in self.tracked:
            connection.disconnect()
        self.tracked.clear()
        for signal in (*self.signals, self.mixed, self.tracked_signal, self.foreign):
            for connection in signal.receivers:
                if connection.receiver in self.held:
                    continue
                connection.disconnect()
        self.held.clear()
        self.lasting.clear()
        gc.collect()
        for signal in (*self.signals, self.mixed, self.tracked_signal, self.foreign):
            if signal.receivers or signal.has_listeners():
                held = [holders(connection.receiver) for connection in signal.receivers]
                raise Breach(f"{signal} still has {signal.receivers}, {held}")
        left = [grave for grave in self.graves if grave() is not None]
        if left:
            raise Breach(f"{len(left)} dead receivers live on, as {holders(left[0]())}")

    def _check_threads(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            left = [t for t in threading.enumerate() if t is not threading.main_thread()]
            if not left:
                return
            left[0].join(timeout=1)
        raise Breach(f"threads are left: {[thread.name for thread in left]}")


def holders(target: object) -> str:
    """What it is, and who keeps it alive, some steps back."""
    chain, seen = [str(target)], {id(target)}
    for _ in range(4):
        referrers = [
            one
            for one in gc.get_referrers(target)
            if id(one) not in seen and not isinstance(one, FrameType)
        ]
        if not referrers:
            break
        target = referrers[0]
        seen |= {id(one) for one in (referrers, *referrers)}
        chain.append(f"{type(target).__name__} {str(target)[:60]}")
    return " held by ".join(chain)


class _Counting(logging.Handler):
    """Counts what the library logs as errors; apart from that, what it logs as lost."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._records: list[str] = []
        self.losses: list[int] = []

    @property
    def errors(self) -> int:
        return len(self._records)

    def said(self) -> Counter[str]:
        """How often it logged what."""
        return Counter(self._records)

    def handle(self, record: logging.LogRecord) -> bool:
        said = re.search(r"(\d+) deliveries of .*(lost|left behind)$", record.getMessage())
        if said is None:
            self._records.append(record.msg)
        elif said[2] == "lost":
            self.losses.append(int(said[1]))
        return True
