"""The deliveries of one send, held back from a pool: submitted together, or dropped.

The invariants are those of ``held``.
"""

import functools
import threading
from collections.abc import Sequence

from tsignals._base.interrupts import apply_to_all, raised_by
from tsignals._base.log import comes_from_outside, log_unless_interrupt
from tsignals._base.process import notice, page
from tsignals._calling.types import Receiver
from tsignals._delivery.deliveries import Deliveries
from tsignals._delivery.delivery import GeneralSend, Live, dropped
from tsignals._delivery.held import Held, HeldDelivery, Weakly
from tsignals._delivery.lanes_of_sends import in_pool
from tsignals._pool.core import Core
from tsignals._pool.overflow import accept
from tsignals._pool.pool import WorkerPool, core_of
from tsignals._pool.seam import Claim
from tsignals._registry.connection import Options


class HeldInPool:
    """The deliveries of one send, held back from a ``WorkerPool``."""

    def __init__(
        self, pool: WorkerPool, live: Live, send: GeneralSend, deliveries: Deliveries
    ) -> None:
        core = core_of(pool)
        self.pool = pool  # which must not close for want of a reference
        self.core = core  # a forked child has another
        self.tasks: list[Held] = []
        self.failed: Claim = ("failed", threading.get_ident())  # on what it could not queue
        self.told: list[Held] = []  # of whose failure
        for connection, receiver in live:
            lane = in_pool(core, connection._options, receiver, send)
            task = _make(core, connection._options, receiver, send, lane)
            self.tasks.append(task)
            deliveries.append((receiver, task))
        lane = None
        send.lanes.clear()  # each has its own, until it has ended
        self.tasks.sort(key=lambda task: task._on_loop)  # the pool wants those last

    def hold(self) -> None:
        for task in self.tasks:
            task._hold()

    def is_held(self) -> bool:
        return any(task._held and not task.done() for task in self.tasks)

    def submit(self, claim: object) -> None:
        if not page[0]:
            notice()
        tasks: list[Held] = []
        error = raised_by(self._admit, tasks, claim)
        try:
            if error is not None:  # interrupted, or there is no room
                try:
                    self._recover(tasks, claim, error)
                finally:
                    self._recover(tasks, claim, error)  # once more: see interrupts
                if _interrupts(error):
                    raise error
            elif any(task._may_pause for task in tasks):
                self.core.timer.be_ready(self.core)
        finally:
            del error  # or the traceback, this frame and the error form a cycle

    def _admit(self, tasks: list[Held], claim: object) -> None:
        """Have the pool take what nobody else has taken, and note it in ``tasks`` before."""
        core = self.core
        tasks += self._take(claim)
        if core.abandoned:
            core.disown(list(tasks))
        elif tasks:
            if tasks[-1]._on_loop:
                from tsignals._delivery.event_loop import ensure_loop

                ensure_loop(core)
            accept(core, tasks, deep=True)
        _release_all(tasks)

    def _recover(self, tasks: list[Held], claim: object, error: BaseException) -> None:
        """All of ``tasks`` are queued, or none: then they fail, or may be submitted again."""
        unresolved = self.core.backlog.unresolved
        if any(task in unresolved or self._is_run_or_dropped(task) for task in tasks):
            _release_all(tasks)
        elif _interrupts(error):
            tasks.clear()  # or they might be let go, once others have decided on them
            for task in self.tasks:
                if task._decisions[:1] == [claim]:
                    task._decisions = []  # H1
        else:
            self._fail(tasks, error)

    def _is_run_or_dropped(self, task: Held) -> bool:
        """Whether it was admitted, and is no longer to be found among the unresolved."""
        claim = task._claimed_by
        return claim is not None and claim is not self.failed

    def _fail(self, tasks: Sequence[Held], error: BaseException) -> None:
        """Tell of each, once, that it could not be queued, and resolve it."""
        # Its frames have the deliveries, which will have it: a cycle. The message says all.
        BaseException.with_traceback(error, None)
        apply_to_all(functools.partial(self._fail_one, error), tasks)

    def _fail_one(self, error: BaseException, task: Held) -> None:
        if task not in self.told:
            self.told.append(task)
            raised = raised_by(task._tell_unsent, error)
            try:
                if raised is not None and log_unless_interrupt(raised) is not None:
                    raise raised
            finally:
                del raised  # or the traceback, this frame and the error form a cycle
        self.core.attempt_to_end(task, self.failed, error, 0).carry_out()

    def drop(self) -> None:
        if not page[0]:
            notice()
        apply_to_all(self._drop, self.tasks)

    def _drop(self, task: Held) -> None:
        if not task.done():
            self.core.end_uncounted(task, "dropped", dropped(), decide=task._decide)

    def _take(self, claim: object) -> list[Held]:
        """Those that nobody else has taken."""
        return [task for task in self.tasks if not task.done() and task._decide(claim)]

    def raise_interrupt(self) -> None:
        self.core.state.raise_interrupt()


def _make(
    core: Core, options: Options, receiver: Receiver, send: GeneralSend, lane: object
) -> Held:
    arguments = core, receiver, send, lane, options
    task: Held
    if options.on_loop:
        from tsignals._delivery.async_delivery import HeldAsyncDelivery  # imports asyncio

        task = HeldAsyncDelivery(*arguments)
    else:
        task = HeldDelivery(*arguments)
    task._decisions = []
    task._held = True
    task._weakly = Weakly(task)
    return task


def _release_all(tasks: Sequence[Held]) -> None:
    for task in tasks:
        task._release_hold()


def _interrupts(error: BaseException) -> bool:
    """Whether it came from outside, or left no room to tell: it is no failure of the admission."""
    return type(error) is RecursionError or comes_from_outside(error)
