"""Letting entries into a pool: counted, and then queued; both or neither.

What is admitted is counted in one step, and put into the queue (or into a lane, which does that
when its turn comes) by the thread that admitted it. Interrupted in between, it goes forward: what
is counted is queued once more (E1 in ``backlog``). It goes back only where nothing is queued yet,
and nobody has claimed anything.
"""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import cast

from tsignals._base.interrupts import critical, refuse_if_deep
from tsignals._pool import lanes, state
from tsignals._pool.core import Core
from tsignals._pool.task import Entry, Task

WhenFull = Callable[[Core, Sequence[Entry], int], bool]
"""Finds room for entries, which it then admits; ``False``: they are dealt with otherwise."""


def tasks_of(entries: Sequence[Entry]) -> list[Task]:
    """What has not ended of ``entries``."""
    return [task for entry in entries for task in entry._tasks()]


@critical
def take(
    core: Core,
    entries: Sequence[Entry],
    admitted: int,
    when_full: WhenFull | None,
    undo: Callable[..., state.State] = state.withdraw,
) -> None:
    """Have ``entries`` counted, and then queue them; both or neither.

    admitted: what the numbers grow by.
    when_full: ``None``: they are put back, over the limit, and ``undo`` takes them up again.

    Raises what ``when_full`` raises, and ``RuntimeError`` when no thread can be started.
    """
    counted = False
    # What is put back may come when the pool closes: its workers are gone, and still in there.
    few = when_full is None or len(core.crew.threads) < core.config.max_workers
    if few and core.state.needs_workers(admitted):
        refuse_if_deep()  # to start one, or to take all back, goes deeper than the rest
    try:
        if when_full is None:
            counted = core.state.update(state.put_back, admitted) is not None
        else:
            counted = core.state.admit(admitted, admitted & state.MASK)
            if not counted:
                counted = when_full(core, entries, admitted)
        if counted:
            # No deeper from here on than what has counted them.
            if few and core.state.needs_workers():
                core.add_workers()
            _publish(core, entries)
            if core.terminal_error is not None:
                core.fail_pending()
    except BaseException:  # interrupted, or no thread could start
        if counted:
            _recover(core, entries, admitted, undo)
        raise
    finally:
        if core.abandoned or core.state.interrupts:
            _end(core, entries)


def put_back(core: Core, entries: Sequence[Entry], admitted: int) -> None:
    """Queue, over the limit, what was to run in this thread and is counted as running there."""
    take(core, entries, admitted, None, state.take_up)


def _publish(core: Core, entries: Sequence[Entry]) -> None:
    now = perf_counter()
    backlog = core.backlog
    is_first = not backlog.line  # then nothing stands in front of these
    for_loop: list[Entry] = []
    for entry in entries:
        backlog.unresolved[entry] = now
        if (of := entry._ordered_by) is not None:
            task = cast(Task, entry)  # batches are in no lane
            stands_behind = lanes.join(backlog.lanes, of, task).before is not None
            task._wake_waiters()  # some may have found it, and know only now what it waits for
            if not stands_behind:
                core.pass_over(task)  # it may have been resolved before it had a turn
            elif is_first or entry._on_loop:
                continue  # queued when its turn comes
        if entry._on_loop:
            for_loop.append(entry)
        else:
            backlog.line[entry] = None  # as Backlog.put does
            backlog.tokens.put(True)
            if entry not in backlog.unresolved:
                backlog.withdraw(entry)  # it has ended meanwhile: E7
    if for_loop:
        backlog.loops[0].take(for_loop)


@critical
def _recover(
    core: Core, entries: Sequence[Entry], admitted: int, undo: Callable[..., state.State]
) -> None:
    """After an interruption: all of ``entries`` are queued, or none of them stays admitted."""
    # E3 in backlog, and in this order: between the two looks it may be run, and leave.
    if entries[0] not in core.backlog.unresolved and entries[0]._oldest() is not None:
        core.state.update(undo, admitted, core.config.max_pending)
        return
    _publish(core, entries)  # E1
    for entry in entries:
        left = entry._tasks()
        for task in left:
            if task.done():
                task._leave()
        if not left:  # all of it had run, and it had left
            core.forget(entry)


def _end(core: Core, entries: Sequence[Entry]) -> None:
    if core.abandoned:  # forked in the middle of this, and here is the child
        core.disown(tasks_of(entries))
        for entry in entries:
            core.forget(entry)
    if core.state.interrupts:
        core.state.raise_interrupt()
