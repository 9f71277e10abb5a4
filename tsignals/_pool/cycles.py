"""Who waits for whom in a pool, and whether a wait could ever end.

Whoever waits for what others run says so in ``waiting`` and then looks for a cycle in the wait-for
graph: of those who wait in a cycle, the last to say so sees it whole, and raises. Of those who say
so at once several may: each looks after it has said so.

What stands in a lane waits, in that graph, for the one that runs there.

A worker that waits for an async delivery runs what that awaits (``helping``). So an async delivery
says what it awaits, and then wakes the workers that help it; these enter themselves there, and then
look what it awaits. Between their two steps both change ``_order``, a list, which orders these with
and without the GIL.
"""

from collections.abc import Collection

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


_order: list[None] = []


def order() -> None:
    """Part what was written before it from what is read after it."""
    _order.extend(())


def awaited_by(delivery: TaskLike) -> list[TaskLike]:
    """What an async delivery awaits; to be asked once a helper is parked there."""
    claim = delivery._claimed_by
    wait = None if claim is None else waiting.get(claim[1])
    return [] if wait is None else list(wait[0])


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
    """Around an await for ``tasks`` by what claims things as ``me``.

    That is an async delivery, ``delivery``, or a worker. ``every``: it needs all of them, else any.
    """

    def __init__(
        self,
        tasks: Collection[TaskLike],
        me: int,
        every: bool,
        delivery: TaskLike | None = None,
    ) -> None:
        self._tasks = tasks
        self._me = me
        self._every = every
        self._delivery = delivery
        self._above: Wait | None = None

    def __enter__(self) -> None:
        self._above = enter(self._tasks, self._me, self._every)
        if self._delivery is not None:
            order()
            self._delivery._wake_helpers()

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
