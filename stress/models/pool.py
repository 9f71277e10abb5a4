"""Models of a pool: what becomes of deliveries when calls on one pool meet."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from stress.models.explore import Model, Mutant, at_once, replaced, require
from tsignals import DeliveryDropped, PoolClosed, Signal, WorkerPool
from tsignals._future import FINISHED, PoolFuture
from tsignals._gate import Call, Gate
from tsignals._state import Cell

Futures = list[Any]


def wrong(owner: Any, name: str, by: Any) -> Callable[[], AbstractContextManager[None]]:
    return lambda: replaced(owner, name, by)


def at_rest(pool: WorkerPool) -> None:
    """After a shutdown: all counted, nobody left."""
    stats = pool.stats()
    ended = stats.completed + stats.failed + stats.cancelled + stats.dropped
    require(stats.submitted == ended, f"the numbers do not add up: {stats}")
    require(not (stats.pending or stats.running or stats.workers), f"not at rest: {stats}")


def end_of(future: Any) -> str:
    require(future.done(), f"a future is not resolved: {future}")
    if future.cancelled():
        return "cancelled"
    return "dropped" if isinstance(future.exception(0), DeliveryDropped) else "ran"


# -- submit / shutdown --


def submit_shutdown() -> None:
    """What was accepted runs; what came too late is refused; the worker goes."""
    pool = WorkerPool(1)
    ran, futures = list[int](), Futures()

    def submit() -> None:
        try:
            futures.append(pool.submit(ran.append, 1))
        except PoolClosed:
            pass

    at_once(submit, lambda: pool.shutdown(wait=False))
    pool.shutdown()
    require(len(ran) == len(futures), f"{len(futures)} were accepted and {len(ran)} ran")
    for future in futures:
        require(end_of(future) == "ran", "an accepted one did not run")
    at_rest(pool)


def replace_blindly(self: Cell, node: Any, successor: Any) -> bool:
    """Put the next state in place whatever came before it."""
    self._node = successor
    return True


# -- cancel / run --


def cancel_run() -> None:
    """A delivery runs or is cancelled, never both and never neither."""
    pool = WorkerPool(1)
    ran, cancelled = list[int](), list[bool]()
    future = pool.submit(ran.append, 1)
    at_once(lambda: cancelled.append(future.cancel()))
    pool.shutdown()
    require(cancelled[0] is (not ran), f"cancel() said {cancelled[0]}, and it ran {len(ran)} times")
    require(end_of(future) == ("ran" if ran else "cancelled"), f"it ended as {future}")
    at_rest(pool)


def claim_looking_first(self: PoolFuture, mark: Any) -> bool:
    """See that nobody has claimed it and then claim it."""
    if self._owner:
        return False
    self._owner.append(mark)
    return True


# -- drain / submit --


def drain_submit() -> None:
    """What was submitted before is done when drain() returns."""
    pool = WorkerPool(1)
    before = pool.submit(int)

    def drain() -> None:
        require(pool.drain(), "drain() without a timeout gave up")
        require(before.done(), "drain() did not wait for what was submitted before")

    at_once(drain, lambda: pool.submit(int))
    pool.shutdown()
    at_rest(pool)


def wake_nobody(before: Any, after: Any) -> None:
    pass


# -- wait / complete --


def wait_complete() -> None:
    """Whoever waits is woken, whenever the delivery ends."""
    pool = WorkerPool(1)
    future = pool.submit(int)
    answers = list[int]()
    at_once(lambda: answers.append(future.result()))
    require(answers == [0], f"result() gave {answers}")
    pool.shutdown()
    at_rest(pool)


def settle_looking_first(
    self: PoolFuture, result: Any, exception: Any, phase: str = FINISHED
) -> None:
    """Look for those who wait and then say that it is done."""
    meetings = self._meeting.copy()
    self._result = result
    self._exception = exception
    self._phase = phase
    if meetings:
        meetings[0].announce(self)
        meetings[0].call_back(self)


# -- overflow --


def overflow_block() -> None:
    """Senders that wait for room get it."""
    pool = WorkerPool(1, max_pending=1)
    futures = Futures()
    at_once(
        lambda: futures.append(pool.submit(int)),
        lambda: futures.append(pool.submit(int)),
    )
    pool.shutdown()
    require([end_of(future) for future in futures] == ["ran", "ran"], f"they ended as {futures}")
    at_rest(pool)


def overflow_drop_oldest() -> None:
    """Each delivery runs or is dropped, never both and never neither."""
    pool = WorkerPool(1, max_pending=1, overflow="drop_oldest")
    ran, futures = list[int](), dict[int, Any]()

    def submit(number: int) -> None:
        futures[number] = pool.submit(ran.append, number)

    at_once(lambda: submit(1), lambda: submit(2))
    pool.shutdown()
    for number, future in futures.items():
        require(
            ran.count(number) == (end_of(future) == "ran"),
            f"{future} ran {ran.count(number)} times",
        )
    at_rest(pool)


# -- lanes --


class Ordered:
    """A receiver that must hear one at a time."""

    def __init__(self) -> None:
        self.inside = 0
        self.heard: list[int] = []

    def __call__(self, signal: Signal, sender: object, number: int, **named: Any) -> None:
        self.inside += 1
        require(self.inside == 1, "an ordered receiver hears two at once")
        repr(signal)  # long enough for others to come in between
        self.heard.append(number)
        self.inside -= 1


def ordered_send_send() -> None:
    """Two senders, two workers, one ordered receiver."""
    pool, receiver = WorkerPool(2), Ordered()
    signal = Signal(executor=pool)
    signal.connect(receiver, ordered=True)
    at_once(
        lambda: signal.send_async(None, number=1),
        lambda: signal.send_async(None, number=2),
    )
    pool.shutdown()
    require(sorted(receiver.heard) == [1, 2], f"it heard {receiver.heard}")
    require(pool.stats().failed == 0, "it heard two at once")
    at_rest(pool)


def ordered_caller_runs() -> None:
    """Two senders that run their deliveries themselves, in one lane."""
    pool, receiver = WorkerPool(1, max_pending=1, overflow="caller_runs"), Ordered()
    signal = Signal(executor=pool)
    signal.connect(receiver, ordered=True)
    signal.send_async(None, number=0)
    at_once(
        lambda: signal.send_async(None, number=1),
        lambda: signal.send_async(None, number=2),
    )
    pool.shutdown()
    require(sorted(receiver.heard) == [0, 1, 2], f"it heard {receiver.heard}")
    require(pool.stats().failed == 0, "it heard two at once")
    at_rest(pool)


def caller_runs_shutdown() -> None:
    """A delivery that its sender runs is not cancelled as well."""
    pool = WorkerPool(1, max_pending=1, overflow="caller_runs")
    ran, futures = list[int](), Futures()
    pool.submit(int)

    def submit() -> None:
        try:
            futures.append(pool.submit(ran.append, 1))
        except PoolClosed:
            pass

    at_once(submit, lambda: pool.shutdown(wait=False, cancel_futures=True))
    pool.shutdown()
    for future in futures:
        require((end_of(future) == "ran") is (len(ran) == 1), f"{future} ran {len(ran)} times")
    at_rest(pool)


# -- tracked disconnect / delivery --


def tracked_disconnect_delivery() -> None:
    """Once ``disconnect(wait=True)`` has returned, no delivery runs the receiver."""
    pool = WorkerPool(1)
    signal = Signal(executor=pool)
    gone, ran = list[bool](), list[bool]()

    def receiver(signal: Signal, sender: object, **named: Any) -> None:
        ran.append(bool(gone))
        repr(signal)  # long enough for others to come in between
        ran.append(bool(gone))

    connection = signal.connect(receiver, tracked=True)

    def disconnect() -> None:
        connection.disconnect(wait=True)
        gone.append(True)

    deliveries = list[Any]()
    at_once(disconnect, lambda: deliveries.extend(signal.send_async(None)))
    pool.shutdown()
    require(True not in ran, f"it ran after disconnect(wait=True): {ran}")
    for _, delivery in deliveries:
        require((end_of(delivery) == "ran") is bool(ran), f"{delivery} ran {ran}")
    at_rest(pool)


def enter_looking_first(self: Gate, call: Call) -> bool:
    """See that the gate is open and then go in."""
    if self.closed:
        return False
    self.running[call] = None
    return True


CLAIM = Mutant("look, then claim", wrong(PoolFuture, "claim", claim_looking_first))
SWAP = Mutant("swap without comparing", wrong(Cell, "_replace", replace_blindly))

MODELS = (
    Model("submit/shutdown", submit_shutdown, (SWAP,)),
    Model("cancel/run", cancel_run, (CLAIM,)),
    Model("drain/submit", drain_submit, (SWAP,)),
    Model(
        "wait/complete",
        wait_complete,
        (Mutant("look, then say", wrong(PoolFuture, "settle", settle_looking_first)),),
    ),
    Model("overflow block", overflow_block, (SWAP,)),
    Model("overflow drop_oldest", overflow_drop_oldest, (CLAIM,)),
    Model("ordered send/send", ordered_send_send, ()),
    Model("ordered caller_runs", ordered_caller_runs, ()),
    Model("caller_runs/shutdown", caller_runs_shutdown, ()),
    Model(
        "tracked disconnect/delivery",
        tracked_disconnect_delivery,
        (Mutant("look, then enter", wrong(Gate, "enter", enter_looking_first)),),
    ),
)
