"""A coroutine each of whose steps, from one await to the next, is called in a way of our own.

What is set around a step is not seen by others that run in the same context meanwhile.
"""

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

R = TypeVar("R")


class Steps(Generator[object, object, R]):
    """To be awaited: ``coroutine``, with ``call(step, *given)`` for each ``step(*given)``."""

    def __init__(
        self, call: Callable[..., object], coroutine: Coroutine[object, object, R]
    ) -> None:
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
        return self._call(self._coroutine.send, value)

    def throw(self, *error: Any) -> object:
        try:
            return self._call(self._coroutine.throw, *error)
        finally:
            del error  # or the traceback, this frame and the error form a cycle
