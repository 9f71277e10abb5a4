"""What is called, and with what: the words that all of this package uses."""

from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence
from typing import Any, Protocol

from tsignals._base.definition import is_async
from tsignals._base.watches import Watch
from tsignals._calling.tracking import Gate

Receiver = Callable[..., Any]
Named = dict[str, object]
"""The values of a send, by name."""
Ordered = bool | Callable[..., Hashable]
"""Whether deliveries run one at a time; or what gives the value whose deliveries do."""
Pairs = list[tuple[Receiver, Any]]
"""What a send returns: receivers, each with its response."""


def check_ordered(ordered: object) -> Ordered:
    """``ordered`` as ``connect`` takes it; raises ``TypeError`` for a value that is no function."""
    if callable(ordered) and not is_async(ordered):
        return ordered
    if isinstance(ordered, int):
        return bool(ordered)
    raise TypeError(
        "ordered must be True, False, or a function (no async one) called as "
        "key(sender=sender, **named) that gives the value whose deliveries are kept in order, not "
        f"{ordered!r}"
    )


class OnceLike(Protocol):
    """What decides which send calls a receiver that is called once."""

    def call(self, gate: Gate | None, function: Receiver, /, **keywords: object) -> object:
        """What ``function(**keywords)`` gives; ``SKIPPED`` where another send calls it."""
        ...

    async def call_async(self, function: Callable[[], Coroutine[object, object, object]]) -> object:
        """What ``await function()`` gives; ``SKIPPED`` where another send calls it."""
        ...


class OptionsLike(Protocol):
    """What was agreed on when a receiver was connected, as far as it says how to call it."""

    @property
    def gate(self) -> Gate | None:
        """What a tracked receiver is called inside of."""
        ...

    @property
    def is_async(self) -> bool: ...

    @property
    def once(self) -> OnceLike | None: ...

    @property
    def wrapped(self) -> bool:
        """Whether it is a ``background`` receiver."""
        ...


class Connected(Protocol):
    """A connection, as those see it who call its receiver."""

    @property
    def _options(self) -> OptionsLike: ...

    @property
    def _watch(self) -> Watch | None:
        """What tells those who observe this send of its call."""
        ...


Each = Iterable[tuple[Connected, Receiver]]
Live = Sequence[tuple[Connected, Receiver]]
"""Connections with their receivers, which live as long as these are held."""


class Resolves(Protocol):
    """The registry of a signal, as sends see it."""

    def hearing(self, sender: object) -> Live:
        """The connections that hear ``sender`` at this moment."""
        ...


class Sends(Protocol):
    """A signal, as sends see it."""

    @property
    def _registry(self) -> Resolves: ...

    @property
    def _in_turn(self) -> bool:
        """Whether ``asend`` awaits its async receivers one after the other."""
        ...

    @property
    def _label(self) -> str:
        """How logs and errors call it."""
        ...
