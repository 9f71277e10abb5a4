"""Waiting until a pool has nothing to do."""

import functools
import queue
import sys
from collections.abc import Callable

from tsignals._base.inbox import Inbox
from tsignals._base.interrupts import refuse_if_critical
from tsignals._base.process import notice, page
from tsignals._base.timeouts import deadline_in, left_until
from tsignals._pool import waiting
from tsignals._pool.core import Core
from tsignals._pool.state import await_quiet, await_quiet_no_more


# Bound now: while the interpreter ends, module globals go before the last pools do.
def drain(
    core: Core, timeout: float | None, _ending: Callable[[], bool] = sys.is_finalizing
) -> bool:
    """Wait until nothing is pending or running and all that was is resolved."""
    refuse_if_critical("drain()")
    if not page[0]:
        notice()
    # While the interpreter ends, its threads are stopped where they are: nothing ends any more.
    deadline = deadline_in(0.0 if _ending() else timeout)
    woken: Inbox[None] = Inbox()
    waiter = functools.partial(woken.put, None)
    try:
        _await_quiet(core, waiter, woken, deadline)
        # Counted as ended is one step before resolved.
        for task in core.backlog.tasks():
            waiting.sleep_until_done(task, left_until(deadline))
        return True
    except (queue.Empty, TimeoutError):
        return False
    finally:
        try:
            core.state.update(await_quiet_no_more, waiter)
        finally:
            core.state.update(await_quiet_no_more, waiter)  # once more: see interrupts
        core.state.raise_interrupt()


def _await_quiet(
    core: Core, waiter: Callable[[], None], woken: "Inbox[None]", deadline: float | None
) -> None:
    while not core.abandoned and core.state.update(await_quiet, waiter) is not None:
        core.state.raise_interrupt()
        if not core.abandoned:  # forked in the middle of that
            woken.get(timeout=left_until(deadline))
