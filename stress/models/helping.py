"""A model of a worker that waits for an async delivery, which comes to await something."""

import threading
from typing import Any

from stress.models.explore import Model, Mutant, at_once, require
from stress.models.pool import Busy, at_rest
from stress.models.registry import wrong
from tsignals._base.inbox import Inbox
from tsignals._pool import cycles
from tsignals._pool.helping import Help
from tsignals._pool.seam import TaskLike
from tsignals._pool.task import Submitted

ME = -1
"""What stands for a thread in the claim of the async delivery."""


class OnLoop(Submitted):
    """In place of an async delivery that runs on an event loop."""

    _on_loop = True


def help_await() -> str:
    """The worker runs what is awaited, or it is told that there is something to look at."""
    pool = Busy(max_pending=None)
    core = pool._core
    wanted: Any = pool.submit(int)
    delivery = OnLoop(core, int)
    require(delivery._claim(("run", ME)), "it runs already")
    told: Inbox[TaskLike] = Inbox()
    help = Help(told.put)
    awaiting = cycles.Awaiting([wanted], ME, True, delivery)

    def look(at: TaskLike) -> bool:
        core.crew.idents[threading.get_ident()] = None
        try:
            return help.look(at)
        finally:
            del core.crew.idents[threading.get_ident()]

    ran: list[bool] = []
    at_once(lambda: ran.append(look(delivery)), awaiting.__enter__)
    require(ran[0] == wanted.done(), "it says otherwise than what it has done")
    if not ran[0]:
        require(not told.empty(), "it sleeps, and nobody will run what is awaited")
        require(look(told.get()), "it was told of what it cannot run")
    help.end()
    awaiting.__exit__()
    pool.let_go()
    pool.shutdown()
    at_rest(pool)
    return "at once" if ran[0] else "told"


def wake_and_enter(self: cycles.Awaiting) -> None:
    """Wake who helps, and then say what is awaited."""
    assert self._delivery is not None
    self._delivery._wake_helpers()
    self._above = cycles.enter(self._tasks, self._me, self._every)


MODELS = (
    Model(
        "help/await",
        help_await,
        (Mutant("wake, then say", wrong(cycles.Awaiting, "__enter__", wake_and_enter)),),
        ("at once", "told"),
    ),
)
