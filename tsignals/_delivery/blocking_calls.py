"""What blocks, of async receivers: ``asyncio.to_thread``, and names that asyncio looks up.

An event loop makes itself a ``ThreadPoolExecutor`` for that. It takes nothing once the main module
has ended; but that is when pending deliveries are run for a while. So a pool's loop is given this
one: threads as those of a pool, which take work until the process has ended.
"""

import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from tsignals._pool import lifecycle
from tsignals._pool.config import checked
from tsignals._pool.core import Core
from tsignals._pool.overflow import accept
from tsignals._pool.task import Submitted

P = ParamSpec("P")
R = TypeVar("R")


class BlockingCalls(ThreadPoolExecutor):  # asyncio takes no other
    """An executor without a limit, for the event loop of a pool with this name."""

    def __init__(self, name: str) -> None:
        super().__init__()  # it makes a thread when something is submitted, and here nothing is
        self._core = Core(checked(f"{name}_blocking"))
        lifecycle.register(self, at_exit=False)  # the delivery that waits for a call is waited for

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        core = self._core
        task = Submitted(core, functools.partial(fn, *args, **kwargs))
        accept(core, [task])
        return task

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        core = self._core
        core.close()
        if wait:
            lifecycle.await_end(core, core.all_threads(), None)
