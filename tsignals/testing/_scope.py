"""What holds in one context, and in the copies of it that deliveries run in.

It holds until its block has ended, and with it all deliveries that were sent under it: sends are
observed for so long, and after that it costs nobody anything, whoever still has such a context.
"""

from collections.abc import Iterable
from typing import Self

from tsignals import Signal
from tsignals._base.events import IN_EXECUTORS
from tsignals._base.identity import identity
from tsignals._base.overrides import Override, here
from tsignals.observing import Event, Observer, observe

_BLOCK = 0
"""Stands for the block among the numbers of sends, which begin at 1."""


class Scope(Override, Observer):
    """An override that sees what is sent under it."""

    def __init__(self) -> None:
        # What is not over: the block, and sends, by number, with what has ended of their
        # deliveries. Whoever takes something out and finds it empty ends the scope.
        self._under_way: dict[int, tuple[int, list[object]]] = {_BLOCK: (0, [])}
        self._is_over = False
        self._observation = observe(self)

    @property
    def is_here(self) -> bool:
        """Whether it holds in this context."""
        return not self._is_over and any(each is self for each in here.get())

    def end(self) -> None:
        """Hold no longer than what is under way."""
        self._leave(_BLOCK)

    def _leave(self, what: int) -> None:
        self._under_way.pop(what, None)
        if not self._under_way.copy():
            self._is_over = True
            self._observation.close()
            self._clear()

    # What it is about:

    def _clear(self) -> None:
        """It is over; a context may keep it."""

    def _sent(self, event: Event) -> None:
        """Something is sent under it."""

    def _ended(self, event: Event) -> None:
        """A receiver has ended, or never will, of whatever send."""

    # What it is told, of all sends:

    def sent(self, event: Event) -> None:
        if self.is_here:
            if event.receivers and event.mode in IN_EXECUTORS:
                self._under_way[event.send] = len(event.receivers), []
            self._sent(event)

    def ended(self, event: Event) -> None:
        try:
            self._ended(event)
        finally:
            if (found := self._under_way.get(event.send)) is not None:
                count, ends = found
                ends.append(event.place)
                if len(ends) == count:
                    self._leave(event.send)

    dropped = refused = ended


class Block:
    """A context manager for a ``with`` block in which a scope holds."""

    _scope: Scope | None = None
    _was_entered = False

    def _begin(self) -> Scope:
        """The scope of a block that begins."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        if self._was_entered:
            name = type(self).__name__.strip("_").lower()
            raise RuntimeError(f"this {name} block was entered before; make another one")
        scope = self._begin()
        try:
            here.set((*here.get(), scope))
            self._scope = scope
            self._was_entered = True
        finally:
            if self._scope is None:  # interrupted
                scope.end()
        return self

    def __exit__(self, *error: object) -> None:
        scope, self._scope = self._scope, None
        here.set(tuple(each for each in here.get() if each is not scope))
        if scope is not None:
            scope.end()


class OfSignals:
    """Which signals something is about; without any, all."""

    def __init__(self, what: str, signals: Iterable[object], only_ours: bool = False) -> None:
        self.signals: list[object] = []
        for signal in signals:
            # That of a view, which has what its signal has.
            of = getattr(getattr(signal, "connect", None), "__self__", None)
            if of is None or (only_ours and not isinstance(of, Signal)):
                raise TypeError(
                    f"{what} needs {'tsignals.Signal objects' if only_ours else 'signals'}, not "
                    f"{type(signal).__name__!r}; nothing was changed"
                )
            self.signals.append(of)

    def __contains__(self, signal: object) -> bool:
        return not self.signals or any(each is signal for each in self.signals)

    def __str__(self) -> str:
        return ", ".join(map(name_of_signal, self.signals)) or "any signal"


def is_same(receiver: object, other: object) -> bool:
    """Whether they are connected as the same: a bound method is made anew each time."""
    return identity(receiver) == identity(other)


def name_of_signal(signal: object) -> str:
    """How messages call a signal."""
    name = getattr(signal, "name", None)
    return repr(name) if isinstance(name, str) else repr(signal)


def name_of_receiver(receiver: object) -> str:
    """How messages call a receiver."""
    return str(getattr(receiver, "__qualname__", None) or repr(receiver))
