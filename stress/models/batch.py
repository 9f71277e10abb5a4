"""Models of a batch: deliveries that workers share, and count each in a stripe of its own."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from stress.models.explore import Model, Mutant, at_once, replaced, require
from stress.models.pool import (
    RECHECK,
    SAY,
    Busy,
    at_rest,
    end_by_itself,
    end_of,
    finish_wrongly,
    named_signal,
    somebody_waits,
    wrong,
)
from tsignals import WorkerPool
from tsignals._delivery.batch import Batch, BatchDelivery
from tsignals._delivery.plain import PlainDelivery
from tsignals._pool.atomic_state import AtomicState
from tsignals._pool.core import Core
from tsignals._pool.seam import Claim
from tsignals._pool.worker import Worker


class Hears:
    """A plain receiver that remembers in which threads it was called."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def __call__(self, **named: Any) -> None:
        self.threads.append(threading.get_ident())


def sent(pool: WorkerPool, *receivers: Callable[..., Any]) -> list[Any]:
    """The deliveries of one send to these: to several, for those make a batch."""
    assert len(receivers) > 1
    signal = named_signal(pool)
    for receiver in receivers:
        signal.connect(receiver, weak=False)
    return signal.send_async(None).futures


def run_run() -> None:
    """Two workers share a batch: each delivery is run once, and none is left behind."""
    pool = WorkerPool(2)
    heard, last = Hears(), threading.Event()
    futures = sent(
        pool,
        lambda **named: last.wait(),
        heard,
        lambda **named: last.set(),
    )
    pool.shutdown()
    require(len(heard.threads) == 1, f"it ran {len(heard.threads)} times")
    require([end_of(future) for future in futures] == ["ran"] * 3, f"they ended as {futures}")
    at_rest(pool)


def cancel_run() -> str:
    """One of two is cancelled while a worker takes them: it runs or is cancelled."""
    pool = Busy()
    first, second = Hears(), Hears()
    futures = sent(pool, first, second)
    cancelled = list[bool]()
    pool.let_go()
    at_once(lambda: cancelled.append(futures[0].cancel()))
    pool.shutdown()
    require(cancelled[0] is (not first.threads), f"cancel() said {cancelled[0]}")
    require(len(first.threads) == (end_of(futures[0]) == "ran"), f"it ended as {futures[0]}")
    require(len(second.threads) == 1, "its sibling did not run")
    at_rest(pool)
    return end_of(futures[0])


def wait_complete() -> None:
    """Whoever waits is woken, whenever the delivery ends."""
    pool = Busy()
    future, _ = sent(pool, lambda **named: 7, Hears())
    answers = list[int]()
    pool.let_go()
    at_once(lambda: answers.append(future.result()))
    require(answers == [7], f"result() gave {answers}")
    pool.shutdown()
    at_rest(pool)


def block_start() -> None:
    """A sender that waits for room gets it as soon as a delivery starts."""
    pool = Busy(asked=False, max_pending=2)
    came_in = threading.Event()
    futures = sent(pool, lambda **named: came_in.wait(), Hears())

    def submit() -> None:
        futures.append(pool.submit(int))
        came_in.set()

    pool.let_go()
    at_once(submit)
    pool.shutdown()
    require([end_of(future) for future in futures] == ["ran"] * 3, f"they ended as {futures}")
    at_rest(pool)


def drain_complete() -> None:
    """Whoever drains is woken, whenever the last delivery ends; and then it is resolved."""
    pool = Busy(asked=False)
    futures = sent(pool, Hears(), Hears())

    def drain() -> None:
        require(pool.drain(), "drain() without a timeout gave up")
        require(all(future.done() for future in futures), "it returned before all was resolved")

    pool.let_go()
    at_once(drain)
    pool.shutdown()
    at_rest(pool)


def drain_complete_cancel() -> str:
    """Whoever drains is woken, also by two that end at once and are counted in different places."""
    pool = Busy(asked=False)
    future = pool.submit(int)
    pool.let_go()
    at_once(pool.drain, future.cancel)
    pool.shutdown()
    at_rest(pool)
    return end_of(future)


def shutdown_complete() -> None:
    """A worker that ends a batch while the pool closes goes, too."""
    pool = Busy(asked=False)
    futures = sent(pool, Hears(), Hears())
    pool.let_go()
    at_once(lambda: pool.shutdown(wait=False))
    end_by_itself(pool)
    require([end_of(future) for future in futures] == ["ran", "ran"], f"they ended as {futures}")


def stats_run() -> None:
    """The numbers add up at every moment."""
    pool = Busy()
    seen = list[Any]()
    pool.let_go()
    at_once(lambda: sent(pool, Hears(), Hears()), lambda: seen.append(pool.stats()))
    pool.shutdown()
    [stats] = seen
    ended = stats.completed + stats.failed + stats.cancelled + stats.dropped
    require(stats.submitted == stats.pending + stats.running + ended, f"{stats}")
    require(stats.submitted <= 3 and stats.idle <= stats.workers, f"{stats}")
    at_rest(pool)


# -- Mutants --


def take_without_asking(self: Batch, claim: Claim) -> BatchDelivery | None:
    """Take what comes first, whoever has asked about it."""
    while self._stack:
        try:
            delivery: Any = self.deliveries[self._stack.pop()]
        except IndexError:
            return None
        if delivery is not None:
            delivery._taken_by = claim
            return delivery  # type: ignore[no-any-return]
    return None


def take_looking_first(self: Batch, claim: Claim) -> BatchDelivery | None:
    """Look which one comes first, and then take it from the stack."""
    while self._stack:
        index = self._stack[-1]
        with contextlib.suppress(IndexError):
            self._stack.pop()
        delivery: Any = self.deliveries[index]
        if delivery is None:
            continue
        if (asked := self.asked) is None or index not in asked:
            delivery._taken_by = claim
        elif not delivery._contend(claim):
            continue
        return delivery  # type: ignore[no-any-return]
    return None


def claim_late(self: BatchDelivery, claim: Claim) -> bool:
    """Look whether a worker has taken it, and only then be there to be found."""
    if not self._waits():
        return False
    claims = self._claims
    claims.append(claim)
    return claims[0] is claim or self._claimed_by is claim


@contextlib.contextmanager
def start_counted_late() -> Iterator[None]:
    """A worker looks whether somebody waits for room, and then counts that it starts."""
    seen = list[bool]()
    take, recheck, perform = Batch._take, Core.recheck, PlainDelivery._perform

    def take_and_look(self: Batch, claim: Claim) -> BatchDelivery | None:
        delivery = take(self, claim)
        if delivery is not None:
            seen.append(somebody_waits(self.core.state))
        return delivery

    def look_back(self: Core) -> None:
        if not seen or seen.pop():
            recheck(self)

    def perform_and_forget(self: PlainDelivery) -> Any:
        seen.clear()  # what comes after that is another look
        return perform(self)

    with (
        replaced(Batch, "_take", take_and_look),
        replaced(Core, "recheck", look_back),
        replaced(PlainDelivery, "_perform", perform_and_forget),
    ):
        yield


def look_once(self: AtomicState) -> Any:
    """A version, and a sum that may be of another moment."""
    version = self.version
    while version[3]:
        version = version[3][0]
    return version, sum(list(self.stripes))


CLAIM = Mutant("take without asking", wrong(Batch, "_take", take_without_asking))
LATE = Mutant("look, then claim", wrong(BatchDelivery, "_claim", claim_late))
COUNT_START = Mutant("look, then count the start", start_counted_late)
COUNT_END = Mutant(
    "look, then count the end", wrong(Worker, "finish", finish_wrongly(counts_late=True))
)
REPLACE = Mutant(
    "replace the value, and look no more",
    wrong(AtomicState, "_recheck", lambda self, state: None),
)
SUM = Mutant("a sum of two moments", wrong(AtomicState, "_look", look_once))
TAKE = Mutant("look, then take", wrong(Batch, "_take", take_looking_first))

MODELS = (
    Model("batch: run/run", run_run, (TAKE,)),
    Model("batch: cancel/run", cancel_run, (CLAIM, LATE), ("ran", "cancelled")),
    Model("batch: wait/complete", wait_complete, (SAY,)),
    Model("batch: block/start", block_start, (COUNT_START, REPLACE)),
    Model("batch: drain/complete", drain_complete, (COUNT_END, REPLACE)),
    Model(
        "batch: drain/complete and cancel",
        drain_complete_cancel,
        (REPLACE,),
        ("ran", "cancelled"),
    ),
    Model("batch: shutdown/complete", shutdown_complete, (RECHECK,)),
    Model("batch: stats/run", stats_run, (SUM,)),
)
