"""What a pool runs: futures with what resolves them. Knows no signals."""

from collections.abc import Callable, Sequence
from typing import Any

from tsignals import _state
from tsignals._around import drop_frame, surrounded
from tsignals._critical import foreign
from tsignals._future import PoolFuture
from tsignals._lanes import Turn

SKIPPED = BaseException("skipped")
"""In place of a response or an error: the receiver is tracked, was disconnected, and not called."""


class Entry:
    """What stands in a pool's queue: one piece of work, or several."""

    __slots__ = ()

    _ordered_receiver: Any = None  # whose lane it belongs to; None: to no lane
    _turn: Turn | None = None  # in that lane
    _on_loop = False  # it runs on the event loop, not in a worker

    def _work_off(self, worker: Any) -> None:
        """In a worker, which is idle: run what this stands for, unless somebody else does."""
        raise NotImplementedError

    def _remains(self, engine: Any) -> bool:
        """Whether anything is left to be run."""
        raise NotImplementedError

    def _futures(self) -> "list[Work]":
        """What may not have ended yet, the oldest first."""
        raise NotImplementedError

    def _oldest(self) -> "Work | None":
        """The first that nobody runs or has resolved."""
        raise NotImplementedError

    def _mark_queued(self, now: float) -> None:
        """It waits from ``now`` on."""


class Work(PoolFuture, Entry):
    """A future with what resolves it."""

    __slots__ = ()

    def _work_off(self, worker: Any) -> None:
        engine = worker.engine
        try:
            engine.run(self, 1)
        finally:
            del self  # see drop_frame

    def _remains(self, engine: Any) -> bool:
        if self._ended_unrun():
            engine.pass_on(self)
        return self._owner is None

    def _futures(self) -> "list[Work]":
        return [self]

    def _oldest(self) -> "Work | None":
        return self if self._owner is None else None

    def _perform(self) -> tuple[Any, BaseException | None]:
        """Do the work and return its result, or what it raised."""
        raise NotImplementedError

    def _forget(self) -> None:
        """Let go of what is needed only to run; it is about to be resolved."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """It is queued, if it was held back before: see _held."""

    def _leave(self, engine: Any) -> None:
        """It is resolved, and no longer to be found in ``engine``."""
        engine.unresolved.pop(self, None)


class Submitted(Work):
    """A plain function call, as ``Executor.submit`` takes it: failures are not told."""

    __slots__ = ("_fate", "_function")

    def __init__(self, pool: Any, function: Callable[[], Any]) -> None:
        super().__init__(pool)
        self._function: Callable[[], Any] | None = function

    @foreign
    def _perform(self) -> tuple[Any, BaseException | None]:
        function, around = self._function, self._pool.around
        assert function is not None
        try:
            if around is None:
                return function(), None
            # Both take the frame that caught the error out of its traceback.
            return surrounded(around, drop_frame, self._pool.cell.defer, function, (), {})
        except BaseException as error:
            drop_frame(error)
            return None, error
        finally:
            del self  # see drop_frame

    def _forget(self) -> None:
        self._function = None


def growth(works: "Sequence[Work]") -> int:
    """What the numbers grow by when ``works`` are admitted."""
    admitted = len(works) * _state.ADMITTED
    if works[-1]._on_loop:  # where any is, the last one is
        admitted += sum(work._on_loop for work in works) * _state.FOR_LOOP
    return admitted
