"""One running call of a tracked receiver, and which calls a piece of code runs inside of."""

import functools
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from tsignals._base.process import here, notice, page
from tsignals._base.steps import Steps

if TYPE_CHECKING:
    import asyncio

R = TypeVar("R")


class Call:
    """One running call of a tracked receiver."""

    __slots__ = ("process", "task", "thread", "void")

    def __init__(
        self, task: "asyncio.Task[object] | None" = None, thread: int | None = None
    ) -> None:
        if not page[0]:
            notice()
        self.thread: int = threading.get_ident() if thread is None else thread  # 0: not known yet
        self.task: asyncio.Task[object] | None = task  # of an async receiver: the task it runs in
        self.process: object = here[0]
        self.void: bool = False  # who made it was interrupted

    def begin(self) -> None:
        """It runs in this thread, as is known only now."""
        self.thread = threading.get_ident()


enclosing: ContextVar[tuple[Call, ...]] = ContextVar("tsignals_enclosing", default=())
"""The async calls that this context runs inside of: ``asyncio.to_thread`` carries it along."""


def enclosed(call: Call, coroutine: Coroutine[object, object, R]) -> Steps[R]:
    """To be awaited: ``coroutine``, with ``call`` among the enclosing ones in its every step.

    Not once and for all: others that share the context are not inside ``call``.
    """
    return Steps(functools.partial(_inside, call), coroutine)


def _inside(call: Call, step: Callable[..., object], *given: object) -> object:
    token = enclosing.set((*enclosing.get(), call))
    try:
        return step(*given)
    finally:
        enclosing.reset(token)
        del step, given  # or the traceback, this frame and an error form a cycle
