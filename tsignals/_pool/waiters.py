"""Who waits for a future: threads that are parked, callbacks, and ``concurrent.futures`` itself.

``concurrent.futures.wait`` and ``as_completed`` reach for ``_condition``, ``_waiters`` and
``_state`` of a future: see :class:`ConditionView`.
"""

import functools
import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from tsignals._base.atomic import comes_first
from tsignals._base.interrupts import apply_to_all, critical, foreign, refuse_if_critical
from tsignals._base.log import log_safely
from tsignals._pool.seam import Parked, PoolLike, TaskLike

_log = logging.getLogger("concurrent.futures")

DONE = frozenset(["CANCELLED_AND_NOTIFIED", "FINISHED"])


class Waited(Protocol):
    """A future, as those see it who wait for it."""

    _phase: str
    _core: PoolLike

    @property
    def _exception(self) -> BaseException | None: ...
    @property
    def _state(self) -> str: ...
    def cancelled(self) -> bool: ...


class Installed(Protocol):
    """Somebody in ``concurrent.futures.wait`` or ``as_completed``."""

    def add_result(self, future: object) -> None: ...
    def add_exception(self, future: object) -> None: ...
    def add_cancelled(self, future: object) -> None: ...


class Listener:
    """Who is told of a future's end, once: by whoever resolves it, or by who came too late."""

    __slots__ = ("_claims", "_tell", "_told")

    def __init__(self, tell: Callable[[Any], object]) -> None:
        self._tell = tell
        self._claims: list[str] = []  # the first counts
        self._told = False

    def told(self, future: object, by: str) -> None:
        """Tell, unless the other does; again, if interrupted before."""
        if comes_first(self._claims, by) and not self._told:
            self._told = True
            self._tell(future)


RESOLVER = "resolver"
LATECOMER = "latecomer"


class Helper:
    """Among those parked at an async delivery: is told, too, when that awaits something else."""

    __slots__ = ("_delivery", "_tell")

    def __init__(self, tell: Callable[[TaskLike], object], delivery: TaskLike) -> None:
        self._tell = tell
        self._delivery = delivery

    def put(self, _: None) -> None:
        self._tell(self._delivery)


class Waiters:
    """Those who wait for one future."""

    __slots__ = ("callbacks", "installed", "parked", "views")

    def __init__(self) -> None:
        self.parked: list[Parked] = []  # in result() and exception()
        self.callbacks: list[Listener] = []
        self.installed: dict[Installed, Listener] = {}
        self.views: dict[int, list[str]] = {}  # by thread: the states it goes by

    def wake(self) -> None:
        """Have those who are parked look again; may be called at any point, and twice."""
        for parked in self.parked.copy():
            parked.put(None)

    @critical
    def announce(self, future: object) -> None:
        """Tell those who wait that ``future`` is done."""
        self.wake()
        for listener in list(self.installed.values()):
            listener.told(future, RESOLVER)

    @foreign
    def call_back(self, future: object) -> None:
        """Call the callbacks that nobody has called yet."""
        apply_to_all(lambda listener: listener.told(future, RESOLVER), self.callbacks)


class Callback:
    """A callback, which may raise."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[Any], object]) -> None:
        self._function = function

    def __call__(self, future: "Future[Any]") -> None:
        try:
            self._function(future)
        except Exception:
            # The convention of concurrent.futures, down to the logger.
            log_safely(
                logging.ERROR,
                "exception calling callback for %r",
                future,
                exc_info=sys.exc_info(),
                logger=_log,
            )


class ConditionView:
    """What ``concurrent.futures.wait`` and ``as_completed`` get as Condition and as waiters.

    They hold the one while they look at the states and install a waiter, so that nothing changes
    meanwhile. Nothing does for them: their thread sees the state as it was when it came. And what
    has changed by the time they install the waiter, that is told at once. So there is no lock here
    that an interrupt could leave held, with a worker standing before it.
    """

    __slots__ = ("_future", "_waiters")

    def __init__(self, future: Waited, waiters: Waiters) -> None:
        self._future = future
        self._waiters = waiters

    def acquire(self) -> bool:
        self._waiters.views.setdefault(threading.get_ident(), []).append(self._future._phase)
        return True

    def release(self) -> None:
        views, me = self._waiters.views, threading.get_ident()
        if len(views.get(me, ())) > 1:
            views[me].pop()
        else:
            views.pop(me, None)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def append(self, waiter: Installed) -> None:
        future = self._future
        if future._state in DONE:
            return  # as this thread has seen it: nobody need tell
        refuse_if_critical("concurrent.futures")
        future._core.refuse_on_loop()
        if future._core.works_here():
            # They sleep, and know nothing of what a worker that waits has to run meanwhile.
            raise RuntimeError(
                "concurrent.futures.wait and as_completed cannot wait in a worker of the pool for "
                "what has not ended there; use Deliveries.wait or Deliveries.as_completed, which "
                "run it, or result()"
            )
        listener = self._waiters.installed[waiter] = Listener(functools.partial(_tell, waiter))
        if future._phase in DONE:
            listener.told(future, LATECOMER)

    def remove(self, waiter: Installed) -> None:
        self._waiters.installed.pop(waiter, None)


def _tell(waiter: Installed, future: Waited) -> None:
    if future.cancelled():
        waiter.add_cancelled(future)
    elif future._exception is not None:
        waiter.add_exception(future)
    else:
        waiter.add_result(future)
