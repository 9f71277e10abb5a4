"""Models of a fan-out: deliveries that workers share, and count in accounts of their own."""

import inspect
import textwrap
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from stress.models.explore import Model, Mutant, at_once, replaced, require
from stress.models.pool import Busy, at_rest, end_of, named_signal, wrong
from tsignals import WorkerPool
from tsignals._fan_out import FanOut, PlainDelivery
from tsignals._state import Cell
from tsignals._workers import Workers


class Hears:
    """A plain receiver that remembers in which threads it was called."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def __call__(self, **named: Any) -> None:
        self.threads.append(threading.get_ident())


def sent(pool: WorkerPool, *receivers: Callable[..., Any]) -> list[Any]:
    """The deliveries of one send to these."""
    signal = named_signal(pool)
    for receiver in receivers:
        signal.connect(receiver, weak=False)
    return signal.send_async(None).futures


class Held(WorkerPool):
    """A pool whose one worker is inside a plain receiver, which ends with ``let_go``.

    So all that it does then goes into its own account.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(1, **options)
        self._gate, started = threading.Event(), threading.Event()

        def hold(**named: Any) -> None:
            started.set()
            self._gate.wait()

        sent(self, hold)
        started.wait()

    def let_go(self) -> None:
        self._gate.set()


def run_run() -> None:
    """Two workers share a fan-out: each delivery is run once, and none is left behind."""
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
    [future] = sent(pool, lambda **named: 7)
    answers = list[int]()
    pool.let_go()
    at_once(lambda: answers.append(future.result()))
    require(answers == [7], f"result() gave {answers}")
    pool.shutdown()
    at_rest(pool)


def block_start() -> None:
    """A sender that waits for room gets it as soon as a delivery starts."""
    pool = Held(max_pending=1)
    came_in = threading.Event()
    futures = sent(pool, lambda **named: came_in.wait())

    def submit() -> None:
        futures.append(pool.submit(int))
        came_in.set()

    pool.let_go()
    at_once(submit)
    pool.shutdown()
    require([end_of(future) for future in futures] == ["ran", "ran"], f"they ended as {futures}")
    at_rest(pool)


def drain_complete() -> None:
    """Whoever drains is woken, whenever the last delivery ends; and then it is resolved."""
    pool = Held()
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
    pool = Held()
    future = pool.submit(int)
    pool.let_go()
    at_once(pool.drain, future.cancel)
    pool.shutdown()
    at_rest(pool)
    return end_of(future)


def shutdown_complete() -> None:
    """A worker that ends a fan-out while the pool closes goes, too."""
    pool = Held()
    futures = sent(pool, Hears(), Hears())
    pool.let_go()
    at_once(lambda: pool.shutdown(wait=False))
    pool.shutdown()
    require([end_of(future) for future in futures] == ["ran", "ran"], f"they ended as {futures}")
    at_rest(pool)


def stats_run() -> None:
    """The numbers add up at every moment."""
    pool = Busy()
    seen = list[Any]()
    pool.let_go()
    at_once(lambda: sent(pool, Hears()), lambda: seen.append(pool.stats()))
    pool.shutdown()
    [stats] = seen
    ended = stats.completed + stats.failed + stats.cancelled + stats.dropped
    require(stats.submitted == stats.pending + stats.running + ended, f"{stats}")
    require(stats.submitted <= 2 and stats.idle <= stats.workers, f"{stats}")
    at_rest(pool)


# -- Mutants: the code is written out, so they are made from its text --


def without(
    owner: Any, name: str, *changes: tuple[str, str]
) -> Callable[[], AbstractContextManager[None]]:
    """``owner`` with other text in one of its functions; an error if the text is not there."""
    function = getattr(owner, name)
    text = textwrap.dedent(inspect.getsource(function))
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"{name} has {text.count(old)} times: {old}")
        text = text.replace(old, new)
    scope: dict[str, Any] = {}
    exec(compile(text, inspect.getfile(function), "exec"), function.__globals__, scope)
    return lambda: replaced(owner, name, scope[name])


LOOK = """\
            node = cell.node
            looked = node[3] or not node[2]
"""


def claims_late(self: PlainDelivery, mark: Any) -> bool:
    """Look whether a worker has taken it, and only then be there to be found."""
    if not self._waits():
        return False
    fate = self._fate
    fate.append(mark)
    return fate[0] is mark or self._owner is mark


CLAIM = Mutant(
    "take without asking",
    without(
        FanOut,
        "_work_off",
        ("if (fates := self.fates) is None or place not in fates:", "if True:"),
    ),
)
LATE = Mutant("look, then claim", wrong(PlainDelivery, "_claim", claims_late))
SAID = "            work._phase = FINISHED  # which says, too, that it is counted\n"
LOOKS = "            if (fates := self.fates) is not None and place in fates:\n"
SAY = Mutant(
    "look, then say",
    without(
        FanOut,
        "_work_off",
        (SAID, ""),
        (
            LOOKS,
            "            looked = (fates := self.fates) is not None and place in fates\n"
            + SAID
            + "            if looked:\n",
        ),
    ),
)
COUNT_START = Mutant(
    "look, then count the start",
    without(
        FanOut,
        "_work_off",
        ("            account += LEAVE", LOOK + "            account += LEAVE"),
        ("idle = 0\n            node = cell.node\n", "idle = 0\n"),
        ("if node[3] or not node[2]:", "if looked:"),
    ),
)
COUNT_END = Mutant(
    "look, then count the end",
    without(
        FanOut,
        "_work_off",
        ("            work._result = result\n", LOOK + "            work._result = result\n"),
        ("((node := cell.node)[3] or not node[2])", "looked"),
    ),
)
REPLACE = Mutant(
    "replace the value, and look no more",
    wrong(Cell, "_look_again", lambda self, state: None),
)
SUM = Mutant("a sum of two moments", without(Cell, "_look", ("if not node[3]:", "if True:")))
TAKE = Mutant(
    "look, then take",
    without(FanOut, "_work_off", ("place = stack.pop()", "place = stack[-1]; stack.pop()")),
)

USHER = Mutant("see to nobody", wrong(Workers, "usher", lambda self, cell: None), races=False)

MODELS = (
    Model("fan-out: run/run", run_run, (TAKE,)),
    Model("fan-out: cancel/run", cancel_run, (CLAIM, LATE), ("ran", "cancelled")),
    Model("fan-out: wait/complete", wait_complete, (SAY,)),
    Model("fan-out: block/start", block_start, (COUNT_START, REPLACE)),
    Model("fan-out: drain/complete", drain_complete, (COUNT_END, REPLACE)),
    Model(
        "fan-out: drain/complete and cancel",
        drain_complete_cancel,
        (REPLACE,),
        ("ran", "cancelled"),
    ),
    Model("fan-out: shutdown/complete", shutdown_complete, (USHER,)),
    Model("fan-out: stats/run", stats_run, (SUM,)),
)
