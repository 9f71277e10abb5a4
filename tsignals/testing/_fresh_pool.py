"""``fresh_pool``: a default pool for a test, in which nothing may fail or hang."""

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Literal, TypedDict, Unpack

from tsignals import WorkerPool, set_default_executor
from tsignals._base.log import show
from tsignals._base.overrides import here
from tsignals._base.stacks import Standing
from tsignals._base.timeouts import no_less_than_zero
from tsignals._default import default_config
from tsignals.observing import Event
from tsignals.testing._scope import Scope, name_of_receiver, name_of_signal

TOLD = ("send_robust", "asend_robust", "send_async", "background", "receiver_failed")
"""Modes in which what a receiver raises does not reach the sender."""

SURROUNDINGS = ("around", "idle", "initializer", "initargs")
"""What deliveries find in a worker: without it they would not run as in the pool of the program."""

_numbers = itertools.count(1)


class PoolArguments(TypedDict, total=False):
    """What ``WorkerPool`` takes beside ``max_workers``."""

    max_pending: int | None
    overflow: Literal["block", "raise", "drop_newest", "drop_oldest", "caller_runs"]
    block_timeout: float | None
    thread_name_prefix: str
    initializer: Callable[..., object] | None
    initargs: tuple[object, ...]
    around: Callable[[], object] | None
    idle: Callable[[], object] | None


class FreshPool(WorkerPool):
    """The pool of a ``fresh_pool`` block.

    ``failures``: pairs ``(receiver, exception)`` of what has failed so far. A test that expects a
    failure takes it out.
    """

    failures: "list[tuple[object, BaseException | None]]"


class _Fresh(Scope):
    """Sees what fails and what runs, under it and in its pool."""

    def __init__(self, pool: FreshPool, prefix: str) -> None:
        self.default = pool
        self._prefix = prefix
        self._pool = pool  # its list of failures may be replaced
        self._sends: set[int] = set()
        self._running: dict[tuple[int, int | None], tuple[Event, float, Standing]] = {}
        self._paused: dict[tuple[int, int | None], Event] = {}  # until the next attempt
        super().__init__()

    def _clear(self) -> None:
        self.default = None
        self._running.clear()
        self._paused.clear()

    def _is_mine(self, event: Event) -> bool:
        _, mine, thread = event.thread_name.rpartition(self._prefix)
        return event.send in self._sends or bool(mine and (thread.isdigit() or thread == "loop"))

    def _sent(self, event: Event) -> None:
        self._sends.add(event.send)

    def started(self, event: Event) -> None:
        self._paused.pop((event.send, event.place), None)
        if self._is_mine(event):
            standing = Standing(event.thread_id)
            self._running[event.send, event.place] = event, time.monotonic(), standing

    def retried(self, event: Event) -> None:
        if self._running.pop((event.send, event.place), None) is not None:
            self._paused[event.send, event.place] = event

    def _ended(self, event: Event) -> None:
        self._running.pop((event.send, event.place), None)
        self._paused.pop((event.send, event.place), None)
        if event.outcome == "failed" and event.mode in TOLD and self._is_mine(event):
            self._pool.failures.append((event.receiver, event.exception))

    def left(self) -> list[str]:
        """What runs, for how long, and where it stands; and what waits to be tried again."""
        now, found = time.monotonic(), []
        for event, since, standing in list(self._running.values()):
            stack = standing.text(6)
            receiver, signal = name_of_receiver(event.receiver), name_of_signal(event.signal)
            found.append(
                f"receiver {receiver} of signal {signal} has run for {now - since:.1f} seconds in "
                f"thread {event.thread_name!r}:\n{stack}"
            )
        for event in list(self._paused.values()):
            receiver, signal = name_of_receiver(event.receiver), name_of_signal(event.signal)
            found.append(
                f"receiver {receiver} of signal {signal} waits to be tried again after "
                f"{show(event.exception)}"
            )
        return found


class Fresh:
    """What ``fresh_pool`` gives."""

    def __init__(self, max_workers: int | None, timeout: float, arguments: PoolArguments) -> None:
        self._max_workers = max_workers
        self._timeout = timeout
        self._arguments = arguments
        self._pool: FreshPool | None = None
        self._was_entered = False

    def __enter__(self) -> FreshPool:
        if self._was_entered:
            raise RuntimeError("this fresh_pool was entered before; make another one")
        arguments = self._arguments.copy()
        name = arguments.setdefault("thread_name_prefix", f"tsignals-test-{next(_numbers)}")
        replaced = default_config()
        if replaced is not None and not any(name in arguments for name in SURROUNDINGS):
            arguments |= {name: getattr(replaced, name) for name in SURROUNDINGS}  # type: ignore[typeddict-item]
        pool = FreshPool(self._max_workers, **arguments)  # type: ignore[arg-type]
        pool.failures = []
        self._scope = scope = _Fresh(pool, f"{name}_")
        self._pool = pool
        self._was_entered = True
        # Elsewhere another test may run, which would meet a pool that is closed.
        self._is_everybodys = threading.current_thread() is threading.main_thread()
        if self._is_everybodys:
            self._former = set_default_executor(pool)
            _everybodys.append(self)
        here.set((*here.get(), scope))
        return pool

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pool, scope = self._pool, self._scope
        if pool is None:
            return
        self._pool = None
        del self._scope
        told: list[str] = []
        try:
            if not isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
                told = _hanging(pool, scope, self._timeout)
        finally:
            here.set(tuple(each for each in here.get() if each is not scope))
            scope.default = None
            if self._is_everybodys:
                self._give_back()
            if told:  # what hangs is not to be waited for at the end of the process, either
                pool.shutdown(cancel_futures=True, timeout=0)
            else:
                pool.shutdown(wait=False, cancel_futures=True)
            scope.end()
        failures = list(pool.failures)
        told += [
            f"receiver {name_of_receiver(who)} raised {show(raised)}" for who, raised in failures
        ]
        if told:
            _fail("\n".join(told), error, failures)

    def _give_back(self) -> None:
        """Have everybody get the default executor of before; in whatever order blocks end."""
        at = _everybodys.index(self)
        del _everybodys[at]
        if at == len(_everybodys):
            set_default_executor(self._former)
        else:
            _everybodys[at]._former = self._former


_everybodys: list[Fresh] = []
"""The blocks on the main thread, whose pools are the default of all; the last one's is."""


def _hanging(pool: WorkerPool, scope: _Fresh, timeout: float) -> list[str]:
    """What has not ended in time."""
    if pool.drain(timeout):
        return []
    left = f"not all deliveries have ended within {timeout} seconds: {pool!r}"
    return [left, *scope.left()]


def _fail(
    told: str,
    error: BaseException | None,
    failures: "Iterable[tuple[object, BaseException | None]]",
) -> None:
    try:
        if error is not None:
            error.add_note(f"fresh_pool: {told}")
            return
        raise AssertionError(told) from next((raised for _, raised in failures), None)
    finally:
        del error, failures  # or a traceback, this frame and an error form a cycle


def fresh_pool(
    max_workers: int | None = 4, *, timeout: float = 10.0, **arguments: Unpack[PoolArguments]
) -> Fresh:
    """Have a new default pool for a ``with`` block, in which no receiver may fail or hang.

    max_workers, arguments: as ``WorkerPool`` takes them. Without any of ``around``, ``idle``,
        ``initializer`` and ``initargs`` these are those of the default pool that it replaces, if
        there is one: in a Django project what minds database connections and locale.
    timeout: seconds for what is left in the pool at the end of the block.

    The block gets the pool. It is what ``get_default_executor`` gives in this context and in what
    that sets off; and everywhere, threads of the program's own included, where the block is on the
    main thread, as tests are that do not run side by side.

    At the end it is drained and closed. Then ``AssertionError`` is raised if a receiver has failed
    where the sender does not see it (all but ``send`` and ``asend``), in this context, in what that
    sets off, or in this pool; and if not all has ended in time: it says which receiver still runs,
    and where it stands. If the block itself has raised, that is added to its error as a note.
    ``pool.failures`` are those so far, from which a test takes what it expects.

    Raises what ``WorkerPool`` raises, when the block is entered; for a wrong ``timeout``
    ``TypeError`` or ``ValueError``.

    Thread safety: any number of blocks, in any threads; those on the main thread nest.
    """
    if timeout is None:
        raise TypeError("timeout must be a number of seconds, not None: a test is to end")
    no_less_than_zero(timeout, "timeout")
    return Fresh(max_workers, timeout, arguments)
