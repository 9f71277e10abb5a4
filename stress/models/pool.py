"""Models of a pool: what becomes of deliveries when calls on one pool meet."""

import contextlib
import queue
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from stress.models.explore import Model, Mutant, at_once, replaced, require
from tsignals import DeliveryDropped, PoolClosed, Signal, WorkerPool
from tsignals._calling import waits
from tsignals._calling.tracked_call import Call
from tsignals._calling.tracking import Gate
from tsignals._pool import admission, atomic_state, attempt, lanes
from tsignals._pool import attempt as stages
from tsignals._pool.atomic_state import AtomicState
from tsignals._pool.attempt import Attempt
from tsignals._pool.backlog import Backlog, InSender
from tsignals._pool.core import Core
from tsignals._pool.future import FINISHED, PoolFuture, Raised
from tsignals._pool.lanes import Turn
from tsignals._pool.state import IDLE
from tsignals._pool.task import Entry, Task
from tsignals._pool.waiters import Listener
from tsignals._pool.worker import COMPLETED, COMPLETED_AND_IDLE, Worker

Futures = list[Any]


def wrong(owner: Any, name: str, by: Any) -> Callable[[], AbstractContextManager[None]]:
    return lambda: replaced(owner, name, by)


def wrong_step(stage: int, by: Any) -> Callable[[], AbstractContextManager[Any]]:
    """An attempt with another function for one of its steps."""
    return lambda: patch.dict(attempt._STEPS, {stage: by})


def at_rest(pool: WorkerPool) -> None:
    """After a shutdown: all counted, nobody left."""
    stats = pool.stats()
    ended = stats.completed + stats.failed + stats.cancelled + stats.dropped
    require(stats.submitted == ended, f"the numbers do not add up: {stats}")
    require(not (stats.pending or stats.running or stats.workers), f"not at rest: {stats}")


def end_by_itself(pool: WorkerPool) -> None:
    """Nobody waits for the end of a pool that closes, or looks after it: its workers go."""
    for thread in pool._core.all_threads():
        thread.join()
    at_rest(pool)


def end_of(future: Any) -> str:
    require(future.done(), f"a future is not resolved: {future}")
    if future.cancelled():
        return "cancelled"
    return "dropped" if isinstance(future.exception(0), DeliveryDropped) else "ran"


def named_signal(pool: WorkerPool) -> Signal:
    """A signal whose ``repr`` and logs need not look for its name everywhere."""
    return Signal(name="modelled", executor=pool)


class Busy(WorkerPool):
    """A pool whose workers, one if not said otherwise, are inside tasks that end with ``let_go``.

    While they are, only the threads of the model can come between each other. ``asked``: somebody
    has asked about these tasks, so their end is counted in the value that all compete for, and not
    in the worker's own stripe.
    """

    def __init__(self, asked: bool = True, workers: int = 1, **options: Any) -> None:
        super().__init__(workers, **options)
        self._gate = threading.Event()
        for _ in range(workers):
            self._hold_up_one(asked)

    def _hold_up_one(self, asked: bool) -> None:
        started = threading.Event()

        def task() -> None:
            started.set()
            self._gate.wait()

        future: Any = self.submit(task)
        if asked:
            future._make_waiters()
        started.wait()

    def let_go(self) -> None:
        self._gate.set()


# -- submit / shutdown --


def submit_shutdown() -> str:
    """What was accepted runs; what came too late is refused; the worker goes."""
    pool = Busy()
    ran, futures = list[int](), Futures()

    def submit() -> None:
        with contextlib.suppress(PoolClosed):
            futures.append(pool.submit(ran.append, 1))

    at_once(submit, lambda: pool.shutdown(wait=False))
    pool.let_go()
    pool.shutdown()
    return accepted_or_refused(pool, ran, futures)


def submit_shutdown_idle() -> str:
    """So it is if the worker has nothing else to do, and goes as soon as it may."""
    pool = WorkerPool(1)
    require(pool.submit(int).result() == 0, "it ended otherwise")
    ran, futures = list[int](), Futures()

    def submit() -> None:
        with contextlib.suppress(PoolClosed):
            futures.append(pool.submit(ran.append, 1))

    at_once(submit, pool.shutdown)
    pool.shutdown()
    return accepted_or_refused(pool, ran, futures)


def accepted_or_refused(pool: WorkerPool, ran: list[int], futures: Futures) -> str:
    require(len(ran) == len(futures), f"{len(futures)} were accepted and {len(ran)} ran")
    for future in futures:
        require(end_of(future) == "ran", "an accepted one did not run")
    at_rest(pool)
    return "accepted" if futures else "refused"


def submit_complete() -> None:
    """What comes while a worker ends its task is run, by this worker or another."""
    pool = Busy()
    futures = Futures()
    pool.let_go()
    at_once(lambda: futures.append(pool.submit(int)))
    require(futures[0].result() == 0, "it ended otherwise")
    pool.shutdown()
    at_rest(pool)


def publish_token_first(core: Core, entries: Sequence[Entry]) -> None:
    """Say that somebody is in line, and then let it stand there."""
    for entry in entries:
        core.backlog.unresolved[entry] = 0.0
        core.backlog.tokens.put(True)
        core.backlog.line[entry] = None


def look_alone(self: AtomicState) -> Any:
    """The current version, as if nobody else were about to replace it."""
    *value, _ = VERSION.__get__(self)
    return *value, []


VERSION: Any = AtomicState.__dict__["version"]
BLIND = property(look_alone, VERSION.__set__)


# -- cancel / run --


def cancel_run() -> str:
    """A delivery runs or is cancelled, never both and never neither."""
    return _cancel_run(asked=False)


def cancel_run_asked() -> str:
    """So it is where its end is counted in the value that all compete for."""
    return _cancel_run(asked=True)


def _cancel_run(asked: bool) -> str:
    pool = WorkerPool(1)
    ran, cancelled = list[int](), list[bool]()
    future: Any = pool.submit(ran.append, 1)
    if asked:
        future._make_waiters()
    at_once(lambda: cancelled.append(future.cancel()))
    pool.shutdown()
    require(cancelled[0] is (not ran), f"cancel() said {cancelled[0]}, and it ran {len(ran)} times")
    require(end_of(future) == ("ran" if ran else "cancelled"), f"it ended as {future}")
    at_rest(pool)
    return end_of(future)


# -- cancel / take / submit --


def cancel_take_submit() -> str:
    """What comes while another leaves the line, and the worker finds nobody there, is run."""
    pool = Busy()
    futures = Futures([pool.submit(int)])
    pool.let_go()
    at_once(futures[0].cancel, lambda: futures.append(pool.submit(int)))
    require(futures[1].result() == 0, "it ended otherwise")
    pool.shutdown()
    at_rest(pool)
    return end_of(futures[0])


def withdraw_entry_first(self: Backlog, entry: Any) -> None:
    """Take it out of the line, and then a token away."""
    if entry not in self.unresolved and self.line.pop(entry, False) is not False:
        with contextlib.suppress(queue.Empty):
            self.tokens.get_nowait()


def claim_looking_first(self: PoolFuture, claim: Any) -> bool:
    """See that nobody has claimed it and then claim it."""
    if self._claimed_by is not None:
        return False
    self._claims.append(claim)
    return True


def claim_over_others(self: Attempt) -> int:
    """See that nobody has claimed it, and then claim it before whoever has come meanwhile."""
    if self.task._claimed_by is not None:
        return stages.OVER
    claims: Any = self.task._claims  # type: ignore[attr-defined]
    claims.insert(0, self.claim)
    return stages.BEGIN if self.ends_as is None else stages.COUNT


# -- drain / submit, drain / complete --


def drain_submit() -> str:
    """What was submitted before is done when drain() returns."""
    pool = Busy()
    before = pool.submit(int)
    meanwhile, done = Futures(), list[bool]()
    pool.let_go()

    def drain() -> None:
        require(pool.drain(), "drain() without a timeout gave up")
        require(before.done(), "drain() did not wait for what was submitted before")
        done.extend(future.done() for future in meanwhile)

    at_once(drain, lambda: meanwhile.append(pool.submit(int)))
    pool.shutdown()
    at_rest(pool)
    return "it waited for both" if done == [True] else "it waited for one"


def drain_complete() -> None:
    """Whoever drains is woken, whenever the last delivery ends; and then it is resolved."""
    pool = Busy()
    future = pool.submit(int)

    def drain() -> None:
        require(pool.drain(), "drain() without a timeout gave up")
        require(future.done(), "drain() returned before all was resolved")

    pool.let_go()
    at_once(drain)
    pool.shutdown()
    at_rest(pool)


def wake_nobody(before: Any, after: Any) -> None:
    pass


# -- wait / complete --


def wait_complete() -> None:
    """Whoever waits is woken, whenever the delivery ends."""
    pool = Busy()
    future = pool.submit(int)
    answers = list[int]()
    pool.let_go()
    at_once(lambda: answers.append(future.result()))
    require(answers == [0], f"result() gave {answers}")
    pool.shutdown()
    at_rest(pool)


def finish_wrongly(
    looks_first: bool = False, counts_late: bool = False
) -> Callable[[Worker, Task, Any, bool], None]:
    """As a worker finishes a task, but for one look that comes before what it should see.

    looks_first: for those who wait for the task, and then it says that it is done.
    counts_late: for those who wait for the pool, and then it counts the end.
    """

    def finish(self: Worker, task: Task, result: Any, last: bool) -> None:
        if last or not task._shares_what_was_sent:
            task._forget()
        task._outcome = result
        waited = counts_late and somebody_waits(self.core.state)
        self.stripes[self.stripe] += COMPLETED_AND_IDLE if last else COMPLETED
        self.idle = IDLE if last else self.idle
        asked = task._find_waiters() is not None
        task._phase = FINISHED
        if waited or not counts_late:
            self.core.recheck()
        if asked if looks_first else not task._leave_unless_asked():
            self._go_on(task, stages.COMPLETE, (result, None), counted_idle=self.idle)
            return
        if looks_first:
            task._leave()
        if task._turn is not None:
            self.core.pass_on(task)

    return finish


def somebody_waits(state: AtomicState) -> bool:
    """What a worker looks at once it has changed its stripe."""
    version = state.version
    return bool(version[3]) or not version[2]


# -- wait / cancel --


def wait_cancel() -> None:
    """Whoever waits is woken, whenever somebody cancels it."""
    pool = Busy()
    future = pool.submit(int)
    ends = list[str]()

    def wait() -> None:
        with contextlib.suppress(CancelledError):
            future.result()
        ends.append(end_of(future))

    at_once(wait, future.cancel)
    require(ends == ["cancelled"], f"it ended as {ends}")
    pool.let_go()
    pool.shutdown()
    at_rest(pool)


def complete_looking_first(
    self: PoolFuture, result: Any, exception: Any, phase: str = FINISHED
) -> None:
    """The same of what does not end in a worker's own way."""
    waiters = self._find_waiters()
    self._outcome = result if exception is None else Raised(exception)
    self._phase = phase
    if waiters is not None:
        waiters.announce(self)


# -- callback / complete --


def callback_complete() -> None:
    """A callback is called once, whenever the delivery ends."""
    pool = Busy()
    future = pool.submit(int)
    called = Futures()
    pool.let_go()
    at_once(lambda: future.add_done_callback(called.append))
    pool.shutdown()
    require(called == [future], f"the callback was called with {called}")
    at_rest(pool)


def tell_unasked(self: Listener, future: object, by: str) -> None:
    """Do not look whether it was told."""
    self._tell(future)


# -- nested wait / run --


def nested_wait_run() -> str:
    """What a worker waits for is run by it or by another one, and once."""
    pool = WorkerPool(2)
    ran = list[int]()

    def outer() -> int:
        inner = pool.submit(lambda: ran.append(threading.get_ident()))
        inner.result()
        return threading.get_ident()

    mine = pool.submit(outer).result()
    pool.shutdown()
    require(len(ran) == 1, f"it ran {len(ran)} times")
    at_rest(pool)
    return "here" if ran == [mine] else "elsewhere"


# -- overflow --


def block_complete() -> None:
    """A sender that waits for room gets it when there is some."""
    pool = Busy(max_pending=1)
    futures = [pool.submit(int)]
    pool.let_go()
    at_once(lambda: futures.append(pool.submit(int)))
    pool.shutdown()
    require([end_of(future) for future in futures] == ["ran", "ran"], f"they ended as {futures}")
    at_rest(pool)


def block_block() -> None:
    """Two senders and room for one: the other waits, and comes in."""
    pool = Busy(max_pending=1)
    futures = Futures()

    def submit() -> None:
        futures.append(pool.submit(int))
        pool.let_go()

    at_once(submit, submit)
    pool.shutdown()
    require([end_of(future) for future in futures] == ["ran", "ran"], f"they ended as {futures}")
    at_rest(pool)


def drop_drop() -> str:
    """Two senders that each drop the oldest: each delivery runs or is dropped."""
    pool = Busy(max_pending=1, overflow="drop_oldest")
    ran = list[int]()
    futures: dict[int, Future[Any]] = {0: pool.submit(int)}

    def submit(number: int) -> None:
        futures[number] = pool.submit(ran.append, number)

    at_once(lambda: submit(1), lambda: submit(2))
    pool.let_go()
    pool.shutdown()
    _ran_or_dropped(ran, futures)
    at_rest(pool)
    return f"{ran} ran"


def drop_run() -> str:
    """A sender drops the oldest, and a worker wants to run it."""
    pool = Busy(max_pending=1, overflow="drop_oldest")
    ran, futures = list[int](), dict[int, Any]()
    futures[1] = pool.submit(ran.append, 1)

    def submit() -> None:
        futures[2] = pool.submit(ran.append, 2)

    pool.let_go()
    at_once(submit)
    pool.shutdown()
    _ran_or_dropped(ran, futures)
    at_rest(pool)
    return f"{ran} ran"


def _ran_or_dropped(ran: list[int], futures: dict[int, Any]) -> None:
    for number, future in futures.items():
        if number:
            times = ran.count(number)
            require(times == (end_of(future) == "ran"), f"{future} ran {times} times")


# -- lanes --


class Ordered:
    """A receiver that must hear one at a time."""

    def __init__(self) -> None:
        self.inside = 0
        self.heard: list[int] = []
        self.threads: list[int] = []

    def __call__(self, signal: Signal, sender: object, number: int, **named: Any) -> None:
        self.inside += 1
        require(self.inside == 1, "an ordered receiver hears two at once")
        repr(signal)  # long enough for others to come in between
        self.heard.append(number)
        self.threads.append(threading.get_ident())
        self.inside -= 1


def ordered_signal(pool: WorkerPool) -> tuple[Signal, Ordered]:
    signal, receiver = named_signal(pool), Ordered()
    signal.connect(receiver, ordered=ORDERED)
    return signal, receiver


ORDERED = True


def ordered_send_send() -> str:
    """Two senders come to a lane, one after the other."""
    pool = Busy()
    signal, receiver = ordered_signal(pool)
    signal.send_async(None, number=0)
    at_once(
        lambda: signal.send_async(None, number=1),
        lambda: signal.send_async(None, number=2),
    )
    pool.let_go()
    pool.shutdown()
    require(receiver.heard[0] == 0, f"it heard {receiver.heard}")
    require(sorted(receiver.heard) == [0, 1, 2], f"it heard {receiver.heard}")
    at_rest(pool)
    return f"it heard {receiver.heard}"


def turn_of_the_last(self: Turn, task: Any, lane: Any) -> None:
    """Of those that come after this turn, let the last one count."""
    TURN(self, task, lane)
    self.after = _Last()


class _Last(list[Any]):
    def append(self, turn: Any) -> None:
        self[:] = [turn]


TURN = Turn.__init__


def ordered_run_run() -> str:
    """Two workers, and a lane with two deliveries."""
    pool = WorkerPool(2)
    receiver = send_two_in_order(pool)
    return heard_in_order(pool, receiver)


def ordered_place_complete() -> str:
    """A worker comes to the place of a lane's second delivery while the first one ends."""
    pool = Busy(asked=False, workers=2)
    receiver = send_two_in_order(pool)
    pool.let_go()
    return heard_in_order(pool, receiver)


def send_two_in_order(pool: WorkerPool) -> Ordered:
    signal, receiver = ordered_signal(pool)
    for number in 1, 2:
        signal.send_async(None, number=number)
    return receiver


def heard_in_order(pool: WorkerPool, receiver: Ordered) -> str:
    pool.shutdown()
    require(receiver.heard == [1, 2], f"it heard {receiver.heard}")
    require(not pool.stats().failed, "it heard two at once")
    at_rest(pool)
    return "in one thread" if len(set(receiver.threads)) == 1 else "in two threads"


def pass_on_looking_first(task: Any, put_in_turn: Any) -> None:
    """See whether what comes next is in line, and then say that its turn has come."""
    after = task._turn.after
    in_line = bool(after) and after[0] is not None and after[0].task in task._core.backlog.line
    PASS_ON(task, lambda next_one: in_line or put_in_turn(next_one))


PASS_ON = lanes.pass_on


class LookingFirst(OrderedDict[Any, Any]):
    """A line in which a worker looks at the turn of what comes first, and then takes that out."""

    def popitem(self, last: bool = True) -> Any:
        found: Any = next(iter(self), None)
        turn = None if found is None else found._turn
        is_behind = turn is not None and turn.before is not None
        entry, value = super().popitem(last)
        return (InSender((), 0) if entry is found and is_behind else entry), value


def line_looking_first(self: Backlog) -> None:
    BACKLOG(self)
    self.line = LookingFirst()


BACKLOG = Backlog.__init__


def ordered_send_complete() -> None:
    """A lane's last delivery ends while the next one comes."""
    pool = Busy()
    signal, receiver = ordered_signal(pool)
    signal.send_async(None, number=1)
    pool.let_go()
    at_once(lambda: signal.send_async(None, number=2))
    pool.shutdown()
    require(receiver.heard == [1, 2], f"it heard {receiver.heard}")
    at_rest(pool)


def end_looking_first(task: Any) -> Any:
    """See that nobody comes after this turn, and then end the lane."""
    turn = task._turn
    if not turn.after:
        if turn.lane is not None:
            turn.lane.close()
        turn.after[:] = [None]
        return None
    return END_OF_TURN(task)


END_OF_TURN = lanes._end_turn


def take_again(self: Task, claim: Any) -> Task | None:
    """Take what the claim says is one's own, also if it has run."""
    return self if self._claim(claim) else None


@contextlib.contextmanager
def taking_again() -> Iterator[None]:
    """So they do where it is left in line: else it is withdrawn before they may come to it."""
    with (
        replaced(Task, "_take", take_again),
        replaced(Backlog, "withdraw", lambda self, entry: None),
    ):
        yield


def ordered_caller_runs() -> str:
    """Two senders run their deliveries themselves, in one lane."""
    pool = Busy(max_pending=1, overflow="caller_runs")
    signal, receiver = ordered_signal(pool)
    pool.submit(int)
    at_once(
        lambda: signal.send_async(None, number=1),
        lambda: signal.send_async(None, number=2),
    )
    pool.let_go()
    pool.shutdown()
    require(sorted(receiver.heard) == [1, 2], f"it heard {receiver.heard}")
    require(not pool.stats().failed, "it heard two at once")
    at_rest(pool)
    return f"it heard {receiver.heard}"


def caller_runs_shutdown() -> str:
    """A delivery that its sender runs is not cancelled as well."""
    pool = Busy(max_pending=1, overflow="caller_runs")
    ran, futures = list[int](), Futures()
    pool.submit(int)

    def submit() -> None:
        with contextlib.suppress(PoolClosed):
            futures.append(pool.submit(ran.append, 1))

    at_once(submit, lambda: pool.shutdown(wait=False, cancel_futures=True))
    pool.let_go()
    pool.shutdown()
    for future in futures:
        require(len(ran) == (end_of(future) == "ran"), f"{future} ran {len(ran)} times")
    at_rest(pool)
    return "accepted" if futures else "refused"


def claim_found_too_early(self: Attempt) -> int:
    """Have it found among what is unresolved, and then claim it."""
    if self.counted:
        self.core.remember(self.task)
    return CLAIM_STEP(self)


CLAIM_STEP = Attempt._claim


# -- tracked disconnect / delivery --


class Tracked:
    """Must not run once ``gone``."""

    def __init__(self) -> None:
        self.gone = False
        self.heard: list[bool] = []

    def __call__(self, signal: Signal, sender: object, **named: Any) -> None:
        self.heard.append(self.gone)
        repr(signal)  # long enough for others to come in between
        self.heard.append(self.gone)


def tracked_disconnect_run() -> str:
    """Once ``disconnect(wait=True)`` has returned, no delivery runs the receiver."""
    pool = Busy()
    signal, receiver = named_signal(pool), Tracked()
    connection = signal.connect(receiver, tracked=True)

    def disconnect() -> None:
        connection.disconnect(wait=True)
        receiver.gone = True

    deliveries = signal.send_async(None)
    pool.let_go()
    at_once(disconnect)
    pool.shutdown()
    _never_late(receiver, deliveries)
    at_rest(pool)
    return end_of(deliveries.futures[0])


def tracked_disconnect_send_async() -> str:
    """One that was sent at that moment is cancelled when both have ended."""
    pool = Busy()
    signal, receiver = named_signal(pool), Tracked()
    connection = signal.connect(receiver, tracked=True)
    deliveries = list[Any]()

    def disconnect() -> None:
        connection.disconnect(wait=True)
        receiver.gone = True

    at_once(disconnect, lambda: deliveries.extend(signal.send_async(None)))
    for _, delivery in deliveries:
        require(end_of(delivery) == "cancelled", f"{delivery} is still queued")
    pool.let_go()
    pool.shutdown()
    _never_late(receiver, deliveries)
    at_rest(pool)
    return "cancelled" if deliveries else "not sent"


def _never_late(receiver: Tracked, deliveries: list[Any]) -> None:
    require(True not in receiver.heard, f"it ran after disconnect(wait=True): {receiver.heard}")
    for _, delivery in deliveries:
        require(
            (end_of(delivery) == "ran") is bool(receiver.heard), f"{delivery}: {receiver.heard}"
        )


def enter_looking_first(self: Gate, call: Call) -> bool:
    """See that the gate is open and then go in."""
    if self.closed:
        return False
    self.running[call] = None
    return True


def enqueue_looking_first(self: Gate, delivery: Any) -> None:
    """See that the gate is open and then queue it there."""
    if self.closed:
        delivery.cancel()
    else:
        self.queued[delivery] = None


def wait_for_nobody(gate: Gate, deadline: float | None, timeout: object) -> None:
    pass


CLAIM = Mutant("look, then claim", wrong(PoolFuture, "_claim", claim_looking_first))
OVER = Mutant("look, then claim over others", wrong_step(stages.CLAIM, claim_over_others))
TOKEN = Mutant("token, then line", wrong(admission, "_publish", publish_token_first))
ENTRY = Mutant("entry, then token", wrong(Backlog, "withdraw", withdraw_entry_first))
SWAP = Mutant("swap without comparing", wrong(AtomicState, "version", BLIND))
RECHECK = Mutant("see to nobody", wrong(Core, "recheck", lambda self: None), races=False)
WAKE = Mutant("wake nobody", wrong(atomic_state, "wake_waiters", wake_nobody), races=False)
SAY = Mutant("look, then say", wrong(Worker, "finish", finish_wrongly(looks_first=True)))
COMPLETE_LATE = Mutant(
    "look, then complete", wrong(PoolFuture, "_complete", complete_looking_first)
)
TELL = Mutant("tell unasked", wrong(Listener, "told", tell_unasked))
ENTER = Mutant("look, then enter", wrong(Gate, "enter", enter_looking_first))
WAIT = Mutant("wait for nobody", wrong(waits, "wait_at", wait_for_nobody))
ENQUEUE = Mutant("look, then queue", wrong(Gate, "enqueue", enqueue_looking_first))
LAST = Mutant("the last turn counts", wrong(Turn, "__init__", turn_of_the_last))
END = Mutant("look, then end", wrong(lanes, "_end_turn", end_looking_first))
AGAIN = Mutant("take it again", taking_again)
PASS = Mutant("look into the line, then pass on", wrong(lanes, "pass_on", pass_on_looking_first))
PLACE = Mutant(
    "look at the turn, then leave the line", wrong(Backlog, "__init__", line_looking_first)
)
FREE = Mutant("without a lane", wrong(sys.modules[__name__], "ORDERED", False))
SHOW = Mutant("show, then claim", wrong_step(stages.CLAIM, claim_found_too_early))

MODELS = (
    Model("submit/shutdown", submit_shutdown, (SWAP,), ("accepted", "refused")),
    Model("submit/shutdown, idle", submit_shutdown_idle, (SWAP,), ("accepted", "refused")),
    Model("submit/complete", submit_complete, (TOKEN,)),
    Model("cancel/run", cancel_run, (CLAIM,), ("ran", "cancelled")),
    Model("cancel/run, asked", cancel_run_asked, (CLAIM,), ("ran", "cancelled")),
    Model("cancel/take/submit", cancel_take_submit, (ENTRY,), ("ran", "cancelled")),
    Model("drain/submit", drain_submit, (SWAP,), ("it waited for both", "it waited for one")),
    Model("drain/complete", drain_complete, (WAKE,)),
    Model("wait/complete", wait_complete, (SAY,)),
    Model("wait/cancel", wait_cancel, (COMPLETE_LATE,)),
    Model("callback/complete", callback_complete, (SAY, TELL)),
    Model("nested wait/run", nested_wait_run, (CLAIM,), ("here", "elsewhere")),
    Model("overflow: block/complete", block_complete, (RECHECK, WAKE)),
    Model("overflow: block/block", block_block, (SWAP,)),
    Model("overflow: drop_oldest/drop_oldest", drop_drop, (OVER, SWAP), ("[1] ran", "[2] ran")),
    # (Only the sender swaps here: the worker counts in its stripe.)
    Model("overflow: drop_oldest/run", drop_run, (CLAIM,), ("[1] ran", "[2] ran", "[1, 2] ran")),
    Model(
        "ordered: send/send",
        ordered_send_send,
        (LAST,),
        ("it heard [0, 1, 2]", "it heard [0, 2, 1]"),
    ),
    Model("ordered: run/run", ordered_run_run, (FREE,), ("in one thread", "in two threads")),
    Model(
        "ordered: place/complete",
        ordered_place_complete,
        (PASS, PLACE),
        ("in one thread", "in two threads"),
    ),
    Model("ordered: send/complete", ordered_send_complete, (END, AGAIN)),
    Model(
        "ordered: caller_runs/caller_runs",
        ordered_caller_runs,
        (CLAIM,),
        ("it heard [1, 2]", "it heard [2, 1]"),
    ),
    Model("caller_runs/shutdown", caller_runs_shutdown, (SHOW,), ("accepted", "refused")),
    Model("tracked: disconnect/run", tracked_disconnect_run, (ENTER, WAIT), ("ran", "cancelled")),
    Model(
        "tracked: disconnect/send_async",
        tracked_disconnect_send_async,
        (ENQUEUE,),
        ("cancelled", "not sent"),
    ),
)
