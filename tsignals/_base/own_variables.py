"""Context variables that one of several coroutines in one context has for itself.

Async receivers of one send share a context. What an observer sets for one of them, as its span, is
for that one: it is set as long as the receiver runs, from one await to the next, and no other sees
it. All else is shared as if nobody observed.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import ContextVar, Token, copy_context
from typing import TypeVar

from tsignals._base.steps import Steps

R = TypeVar("R")
_NONE = object()


class OwnVariables:
    """What is set in ``context``, a copy of that in which this was made."""

    __slots__ = ("_before", "_values", "context")

    def __init__(self) -> None:
        self._before = copy_context()
        self.context = self._before.copy()
        self._values: dict[ContextVar[object], object] = {}

    def around(self, coroutine: Coroutine[object, object, R]) -> Awaitable[R]:
        """To be awaited in the shared context: ``coroutine``, with these set in its every step.

        It is that itself where none was set until now.
        """
        before = self._before
        for variable, value in self.context.items():
            if before.get(variable, _NONE) is not value:
                self._values[variable] = value
        return Steps(self._step, coroutine) if self._values else coroutine

    def catch_up(self) -> None:
        """Have ``context`` as the shared one is now, but for these."""
        self.context.run(_set, {**copy_context(), **self._values}.items())

    def _step(self, step: Callable[..., object], *given: object) -> object:
        """Call ``step(*given)`` with these set; keep what becomes of them there."""
        tokens: list[tuple[ContextVar[object], Token[object]]] = []
        try:
            for variable, value in self._values.items():
                tokens.append((variable, variable.set(value)))
            return step(*given)
        finally:
            for variable, token in tokens:
                left = variable.get(_NONE)
                variable.reset(token)
                if left is _NONE:  # it was un-set
                    self._values.pop(variable, None)
                else:
                    self._values[variable] = left
            del step, given  # or the traceback, this frame and an error form a cycle


def _set(pairs: Iterable[tuple[ContextVar[object], object]]) -> None:
    for variable, value in pairs:
        if variable.get(_NONE) is not value:
            variable.set(value)
