"""Who waits for whom in a pool, and whether a wait could ever end.

Whoever waits for what others run says so in ``waiting`` and then looks for a cycle in the wait-for
graph: of those who wait in a cycle, the last to say so sees it whole, and raises. Of those who say
so at once several may: each looks after it has said so.

What stands in a lane waits, in that graph, for the one that runs there.

A worker that waits for an async delivery runs what that awaits and nobody has begun, or all workers
might wait for what none of them runs (``waiting.Help``). So who awaits on behalf of an async
delivery says so, and then wakes those who wait for that; these are parked there, and then look.
Between their two steps both change ``_order``, a list, which orders them with and without the GIL.
A task of its own may await what it does not need: that is run, too, and is not in the graph.
"""

from collections.abc import Collection
from contextvars import ContextVar

from tsignals._pool.seam import TaskLike

Wait = tuple[Collection[TaskLike], bool]
"""What somebody waits for, and whether every one of them is needed."""

waiting: dict[int, Wait] = {}
"""By thread: what a worker waits for, which others run.

The same of async deliveries that await one, by what stands for a thread in their claims.
"""

_CYCLE = (
    "cannot wait for this delivery here: it can only run after the one that waits "
    "(they share an ordered receiver's lane, or wait for each other); wait outside of the receiver"
)


class Awaited:
    """What is awaited on behalf of an async delivery that runs: by it, and by tasks of its own."""

    __slots__ = ("_many", "_tasks")

    def __init__(self) -> None:
        self._tasks: dict[TaskLike, None] = {}
        self._many = 8  # so many are in there before those that have ended are taken out

    def add(self, tasks: Collection[TaskLike]) -> None:
        if len(self._tasks) > self._many:
            for task in [each for each in list(self._tasks) if each.done()]:
                self._tasks.pop(task, None)
            self._many = 2 * len(self._tasks) + 8
        self._tasks.update(dict.fromkeys(tasks))

    def not_ended(self) -> list[TaskLike]:
        return [task for task in list(self._tasks) if not task.done()]


running: dict[int, TaskLike] = {}
"""By the id of each: the async deliveries that run."""

awaited: dict[int, Awaited] = {}
"""By the same: what is awaited on behalf of those that await anything."""

on_behalf_of: ContextVar[int] = ContextVar("tsignals_on_behalf_of", default=0)
"""In the context of an async delivery, and in copies of that: its id."""

_order: list[None] = []


def begin(delivery: TaskLike) -> None:
    """An async delivery runs, in this context."""
    running[id(delivery)] = delivery
    on_behalf_of.set(id(delivery))


def end(delivery: TaskLike) -> None:
    """It does not run any more."""
    running.pop(id(delivery), None)
    if awaited:
        awaited.pop(id(delivery), None)


def awaited_on_behalf(tasks: Collection[TaskLike]) -> None:
    """Somebody awaits ``tasks``, perhaps on behalf of an async delivery: who waits for it helps."""
    whose = on_behalf_of.get()
    if not whose or (delivery := running.get(whose)) is None:
        return
    (awaited.get(whose) or awaited.setdefault(whose, Awaited())).add(tasks)
    if whose not in running:  # a thread of its own may come late
        awaited.pop(whose, None)
    _order.extend(())
    delivery._wake_waiters()


def awaited_by(delivery: TaskLike) -> list[TaskLike]:
    """What has not ended of what it awaits; to be asked once one is parked there."""
    _order.extend(())
    found = awaited.get(id(delivery))
    return [] if found is None else found.not_ended()


def enter(tasks: Collection[TaskLike], me: int, every: bool) -> Wait | None:
    """Say that ``me`` waits; what is further up the stack, for ``leave``.

    Raises as ``refuse``, and then it does not wait.
    """
    above, entered = waiting.get(me), False
    try:
        waiting[me] = also(above, tasks, every)
        refuse(tasks, me, every)
        entered = True
        return above
    finally:
        if not entered:
            try:
                leave(me, above)
            finally:
                leave(me, above)  # once more: see interrupts


def also(above: Wait | None, tasks: Collection[TaskLike], every: bool) -> Wait:
    """What ``waiting`` has where ``above`` is waited for further up the stack.

    For a wait may be interrupted by a signal handler, or a finalizer, that waits, too.
    """
    if above is None or not (every and above[1]):
        return tasks, every
    return [*above[0], *tasks], True


def leave(me: int, above: Wait | None) -> None:
    """Have ``waiting`` as it was; twice does no harm."""
    if above is None:
        waiting.pop(me, None)
    else:
        waiting[me] = above


def refuse(tasks: Collection[TaskLike], me: int, every: bool) -> None:
    """Raise ``RuntimeError`` if ``tasks``, or all but one, can only end after who waits."""
    if tasks and (any if every else all)(_only_after(task, me) for task in tasks):
        raise RuntimeError(_CYCLE)


class Awaiting:
    """Around an await for ``tasks`` by the async delivery that claims things as ``me``.

    ``every``: it needs all of them, else any.
    """

    def __init__(self, tasks: Collection[TaskLike], me: int, every: bool) -> None:
        self._tasks = tasks
        self._me = me
        self._every = every
        self._above: Wait | None = None

    def __enter__(self) -> None:
        self._above = enter(self._tasks, self._me, self._every)

    def __exit__(self, *raised: object) -> None:
        leave(self._me, self._above)


def _only_after(task: TaskLike, me: int) -> bool:
    """Whether ``task`` can only end after ``me`` goes on: runs there, or waits for what does."""
    start = _runner(task)
    if start is None or start == me:
        return start is not None
    # Each is looked at once, however many wait for it.
    wanted = {start: 0}  # by who waits: of how many more it must be true to be true of that one
    waited_for: dict[int, list[int]] = {}  # by whom
    unseen = [start]
    while unseen:
        one = unseen.pop()
        others, every = waiting.get(one, ((), True))
        wanted[one] = 1 if every else max(1, len(others))
        for runner in map(_runner, list(others)):
            if runner is not None:
                waited_for.setdefault(runner, []).append(one)
                if runner != me and runner not in wanted:
                    wanted[runner] = 0
                    unseen.append(runner)
    true = [me]
    while true:
        for one in waited_for.pop(true.pop(), ()):
            wanted[one] -= 1
            if wanted[one] == 0:
                true.append(one)
    return wanted[start] <= 0


def _runner(task: TaskLike) -> int | None:
    """Who runs ``task``, or what stands before it in its lane; or is to. ``None``: nobody does.

    Whoever waits for it sleeps at the one before it, or awaits it alone.
    """
    for before in [*task._standing_before(), task]:
        claim = before._claimed_by
        if not before.done():
            runner = before._core.sender_of(before) if claim is None else claim[1]
            if runner is not None:
                return runner
    return None


def forget_all() -> None:
    """In a forked child, where those who waited do not run."""
    waiting.clear()
    running.clear()
    awaited.clear()
