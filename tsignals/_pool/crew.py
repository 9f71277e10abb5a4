r"""The worker threads of one pool: how they start and end; what they do meanwhile is ``worker``'s.

    a worker    reserved -> idle <-> busy with an entry
                   |         \-> gone        the pool takes no more, and nothing waits
                   \-> unreserved            no thread could start

Who adds a worker reserves its place in the state, and then starts the thread. The thread may
start although starting it was interrupted: the first entry in ``handshake`` decides whether it is
a worker, or its place is given back.
"""

import threading
from typing import Protocol, TypeGuard

from tsignals._base.atomic import comes_first
from tsignals._base.interrupts import raised_by, undisturbed
from tsignals._base.log import came_by_signal
from tsignals._base.process import empty_context
from tsignals._pool.state import State, reserve, unreserve
from tsignals._pool.worker import Employing, Worker


class Staffed(Employing, Protocol):
    """A pool, as those see it who start its workers."""

    @property
    def crew(self) -> "Crew": ...
    def break_down(self, error: BaseException) -> None:
        """An initializer has failed."""

    def unable_to_start(self, error: RuntimeError) -> None:
        """There is no worker, and none can be started."""


class Crew:
    """The threads of one pool."""

    __slots__ = ("idents", "threads")

    def __init__(self) -> None:
        # Those that have ended stay: who shuts down joins them all.
        self.threads: dict[threading.Thread, None] = {}
        self.idents: dict[int, None] = {}  # of the workers, and of callers that run tasks

    def add_workers(self, core: Staffed) -> None:
        """Start a worker for each task that waits for one, as far as that is allowed.

        Raises what starting a thread raises if there is no worker at all.
        """
        while not core.abandoned:  # in a child forked meanwhile there is nobody to add workers for
            handshake: list[object] = []
            core_in = [core]
            reserved: State | None = None
            thread = None
            try:
                reserved = core.state.update(reserve, core.config.max_workers)
                if reserved is None:
                    return
                thread = threading.Thread(
                    target=_work,
                    args=(core_in, handshake),
                    name=f"{core.config.name}_{len(self.threads)}",
                    daemon=True,
                    **empty_context(),
                )
                self.threads[thread] = None
                undisturbed(thread.start)
            except BaseException as error:  # interrupted, or there are no more threads
                if reserved is not None and comes_first(handshake, _UNRESERVED):
                    core_in.clear()  # an interrupted start leaves the thread in ``threading``
                    self._unreserve(core, thread, error)
                if not _means_no_more_threads(error):
                    self.add_workers(core)  # others may count on that worker
                    raise
                if not core.abandoned and not core.state.value.workers:
                    raise
                return

    def _unreserve(self, core: Staffed, thread: object, error: BaseException) -> None:
        """A thread was to be started and was not."""
        self.threads.pop(thread, None)  # type: ignore[call-overload]
        left = core.state.update(unreserve)
        if left is not None and not left.workers and _means_no_more_threads(error):
            core.unable_to_start(error)


def _means_no_more_threads(error: BaseException) -> TypeGuard[RuntimeError]:
    """Whether starting a thread has raised ``error``, and no signal handler meanwhile."""
    return isinstance(error, RuntimeError) and not came_by_signal(error)


_STARTED, _UNRESERVED = object(), object()


def _work(core_in: list[Staffed], handshake: list[object]) -> None:
    """What a worker thread does."""
    if not comes_first(handshake, _STARTED):
        return
    core = core_in.pop()
    if core.abandoned:
        return  # forked between the two: no worker of this process
    me = threading.get_ident()
    core.crew.idents[me] = None
    try:
        if (initializer := core.config.initializer) is not None:
            if (error := raised_by(initializer, *core.config.initargs)) is not None:
                core.break_down(error)
                core.state.update(unreserve)
                return
        Worker(core, me).work()
    finally:
        core.crew.idents.pop(me, None)
