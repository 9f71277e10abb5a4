"""One running call of a tracked receiver, and which calls a piece of code runs inside of."""

import threading
from collections.abc import Coroutine, Generator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from tsignals._base.process import here, notice, page

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


class Enclosed(Generator[object, object, R]):
    """To be awaited: ``coroutine``, with ``call`` among the enclosing ones in its every step.

    Not once and for all: others that share the context are not inside ``call``.
    """

    def __init__(self, call: Call, coroutine: Coroutine[object, object, R]) -> None:
        self._call = call
        self._coroutine = coroutine

    @property
    def gi_yieldfrom(self) -> Coroutine[object, object, R]:
        """What it waits for, as generators say it: for who shows where a task stands."""
        return self._coroutine

    def __await__(self) -> Generator[object, object, R]:
        return self

    def __next__(self) -> object:
        return self.send(None)

    def send(self, value: object) -> object:
        token = enclosing.set((*enclosing.get(), self._call))
        try:
            return self._coroutine.send(value)
        finally:
            enclosing.reset(token)

    def throw(self, *error: Any) -> object:
        token = enclosing.set((*enclosing.get(), self._call))
        try:
            return self._coroutine.throw(*error)
        finally:
            enclosing.reset(token)
            del error  # or the traceback, this frame and the error form a cycle
