"""Models of a send in two steps: what becomes of it when calls on it meet."""

from typing import Any

from stress.models.explore import Model, Mutant, at_once, require
from stress.models.pool import OVER, Busy, at_rest, end_of, named_signal, wrong
from tsignals import Prepared
from tsignals._delivery.held import Held


def _prepared(pool: Busy) -> "tuple[Prepared, list[int]]":
    ran = list[int]()
    signal = named_signal(pool)
    signal.connect(lambda **named: ran.append(1), weak=False)
    return signal.prepare(None), ran


def _check(pool: Busy, prepared: Prepared, ran: list[int]) -> str:
    pool.let_go()
    pool.shutdown()
    end = end_of(prepared.deliveries[0][1])
    require(len(ran) == (end == "ran"), f"it ended as {end} and ran {len(ran)} times")
    stats = pool.stats()
    submitted = 1 + (end != "cancelled")  # what is cancelled before was never submitted
    require(stats.submitted in (submitted, 2), f"it ended as {end}, and was counted: {stats}")
    require(stats.dropped == (end == "dropped"), f"it ended as {end}, and was counted: {stats}")
    require(not pool._core.prepared, "the pool still knows it")
    at_rest(pool)
    return end


def submit_cancel() -> str:
    """It runs or is cancelled, and ``cancel`` says which."""
    pool = Busy()
    prepared, ran = _prepared(pool)
    delivery, cancelled = prepared.deliveries[0][1], list[bool]()
    at_once(prepared.submit, lambda: cancelled.append(delivery.cancel()))
    end = _check(pool, prepared, ran)
    require(cancelled == [end == "cancelled"], f"cancel() said {cancelled}, and it {end}")
    return end


def submit_drop() -> str:
    """All of it runs, or all of it is dropped."""
    pool, ran = Busy(), list[int]()
    signal = named_signal(pool)
    signal.connect(lambda **named: ran.append(1), weak=False)
    signal.connect(lambda **named: ran.append(2), weak=False)
    prepared = signal.prepare(None)
    at_once(prepared.submit, prepared.drop)
    pool.let_go()
    pool.shutdown()
    ends = [end_of(delivery) for _, delivery in prepared.deliveries]
    require(ends[0] == ends[1], f"half of it: {ends}")
    require(ran == [1, 2] * (ends[0] == "ran"), f"it ended as {ends[0]}, and ran: {ran}")
    stats = pool.stats()
    counted = (stats.submitted, stats.dropped)
    require(counted == (3, 2 * (ends[0] == "dropped")), f"it ended as {ends[0]}: {stats}")
    at_rest(pool)
    return ends[0]


def drop_cancel() -> str:
    """It is dropped or cancelled, and counted accordingly."""
    pool = Busy()
    prepared, ran = _prepared(pool)
    delivery, cancelled = prepared.deliveries[0][1], list[bool]()
    at_once(prepared.drop, lambda: cancelled.append(delivery.cancel()))
    end = _check(pool, prepared, ran)
    require(cancelled == [end == "cancelled"], f"cancel() said {cancelled}, and it was {end}")
    return end


def decide_looking_first(self: Held, claim: Any) -> bool:
    """See that nobody has decided, and then decide."""
    if self._decisions:
        return self._decisions[0] is claim
    self._decisions.append(claim)
    return True


def submit_all_the_same(self: Prepared) -> None:
    """Each delivery decides for itself."""
    assert self._held is not None
    self._held.submit(object())


DECIDE = Mutant("look, then decide", wrong(Held, "_decide", decide_looking_first))
WHOLE = Mutant("no claim of the whole", wrong(Prepared, "submit", submit_all_the_same))

MODELS = (
    Model("prepare: submit/cancel", submit_cancel, (DECIDE,), ("ran", "cancelled")),
    Model("prepare: submit/drop", submit_drop, (WHOLE,), ("ran", "dropped")),
    Model("prepare: drop/cancel", drop_cancel, (OVER,), ("dropped", "cancelled")),
)
