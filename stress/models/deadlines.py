"""Models of ``shutdown(timeout=)``: what becomes of deliveries when their time is up."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from stress.models.explore import Model, Mutant, at_once, replaced, require
from stress.models.pool import (
    CLAIM,
    SWAP,
    Busy,
    Futures,
    at_rest,
    end_of,
    named_signal,
    wrong,
)
from tsignals import DeliveryLost, PoolClosed, WorkerPool
from tsignals._pool import drops, lifecycle
from tsignals._pool.core import Core
from tsignals._pool.drops import Drops
from tsignals._pool.task import Task
from tsignals._pool.worker import Worker


@contextlib.contextmanager
def logged() -> Iterator[list[Task]]:
    """What is logged as lost, each as often as it is."""
    lost = list[Task]()

    def log_left(pool: str, when: str, tasks: list[Task], fate: str) -> None:
        if "lost" in fate:
            lost.extend(tasks)

    with replaced(lifecycle, "log_left", log_left), replaced(drops, "log_left", log_left):
        yield lost


def ended(pool: WorkerPool, ran: list[int], futures: Futures, lost: list[Task]) -> str:
    """Each has run, or is lost and was named so, once; how they have ended."""
    pool.shutdown()
    ends = []
    for number, future in enumerate(futures):
        end = end_of(future)
        if end == "ran" and isinstance(future.exception(0), DeliveryLost):
            end = "lost"
        ends.append(end)
        require(ran.count(number) == (end == "ran"), f"{future} ran {ran.count(number)} times")
        named = sum(task is future for task in lost)
        require(named == (end == "lost"), f"{future} was named as lost {named} times")
    require(len(lost) == ends.count("lost"), f"named as lost: {lost}")
    require(not pool.unfinished(), "something is unfinished")
    at_rest(pool)
    return ", ".join(ends)


def give_up_complete() -> str:
    """The time is up while a worker ends one delivery and takes the next."""
    pool, ran = Busy(), list[int]()
    futures: Futures = [pool.submit(ran.append, 0)]
    with logged() as lost:
        pool.let_go()
        at_once(lambda: pool.shutdown(timeout=0))
        return ended(pool, ran, futures, lost)


def give_up_complete_in_lane() -> str:
    """So it is in a lane, where the turn passes from one to the next."""
    pool, ran = Busy(), list[int]()
    signal = named_signal(pool)

    def receiver(number: int, **named: Any) -> None:
        ran.append(number)

    signal.connect(receiver, ordered=True)
    futures: Futures = [signal.send_async(None, number=n)[0][1] for n in range(2)]
    with logged() as lost:
        pool.let_go()
        at_once(lambda: pool.shutdown(timeout=0))
        way = ended(pool, ran, futures, lost)
    require(not pool._core.backlog.lanes, "something of the lane is left")
    return way


def give_up_submit() -> str:
    """The time is up while something comes, and the worker is busy: nothing runs after that."""
    pool, ran, futures = Busy(), list[int](), Futures()

    def submit() -> None:
        with contextlib.suppress(PoolClosed):
            futures.append(pool.submit(ran.append, 0))

    with logged() as lost:
        at_once(submit, lambda: pool.shutdown(timeout=0))
        pool.let_go()
        way = ended(pool, ran, futures, lost) or "refused"
    require(not ran, "it ran though the pool had given up")
    return way


def give_up_give_up() -> None:
    """Two give up: each resolves what the other does not, and that is named once."""
    pool, ran = Busy(), list[int]()
    futures: Futures = [pool.submit(ran.append, 0)]
    with logged() as lost:
        at_once(lambda: pool.shutdown(timeout=0), lambda: pool.shutdown(timeout=0))
        pool.let_go()
        way = ended(pool, ran, futures, lost)
    require(way == "lost", f"it ended so: {way}")


def unfinished_complete() -> str:
    """What is listed has not ended before; what is not listed has ended by then."""
    pool, ran, found = Busy(), list[int](), list[Any]()
    future = pool.submit(ran.append, 0)
    pool.let_go()

    def look() -> None:
        before = future.done()
        found.extend(pool.unfinished())
        require(not (before and future in found), "what had ended is listed")
        require(future in found or future.done(), "what has not ended is not listed")

    at_once(look)
    pool.shutdown()
    at_rest(pool)
    return "listed" if future in found else "ended"


# -- Mutants --


def only_who_gives_up(self: Core) -> None:
    """Who has queued something does not look whether anybody will run it."""
    if sys._getframe(1).f_code.co_name == "lose":
        FAIL_PENDING(self)


FAIL_PENDING = Core.fail_pending


def take_lost_looking_first(self: Drops) -> list[Task]:
    """See what is lost, and then take it away."""
    lost = list(self.lost)
    self.lost.clear()
    return lost


def finish_leaving_first(self: Worker, task: Task, result: Any, last: bool) -> None:
    """Take it out of the pool, and then say that it is done."""
    task._leave()
    FINISH(self, task, result, last)


FINISH = Worker.finish

QUEUE = Mutant("queue without a look", wrong(Core, "fail_pending", only_who_gives_up))
TAKE = Mutant("look, then take", wrong(Drops, "take_lost", take_lost_looking_first))
LEAVE = Mutant("leave, then say", wrong(Worker, "finish", finish_leaving_first))

MODELS = (
    Model("shutdown timeout/complete", give_up_complete, (CLAIM, SWAP), ("ran", "lost")),
    Model(
        "shutdown timeout/complete, ordered",
        give_up_complete_in_lane,
        (CLAIM,),
        ("ran, ran", "ran, lost", "lost, lost"),
    ),
    Model("shutdown timeout/submit", give_up_submit, (QUEUE,), ("lost", "refused")),
    Model("shutdown timeout/shutdown timeout", give_up_give_up, (TAKE,)),
    Model("unfinished/complete", unfinished_complete, (LEAVE,), ("listed", "ended")),
)
