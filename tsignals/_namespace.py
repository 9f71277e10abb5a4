"""``Namespace``: signals by name, for who cannot import them from one place."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from typing import TypedDict, Unpack

from tsignals._declared import checked_values
from tsignals._registry.naming import Address
from tsignals._signal import Signal


class SignalArguments(TypedDict, total=False):
    """What ``Signal`` takes beside the name."""

    providing_args: Iterable[str] | None
    use_caching: bool
    executor: Executor | None
    slow_after: float | None


_DEFAULTS: SignalArguments = {
    "providing_args": (),
    "use_caching": False,
    "executor": None,
    "slow_after": None,
}


class Namespace(Mapping[str, Signal]):
    """Signals by name; each is made when it is first asked for, as in blinker's ``Namespace``.

    A read-only mapping of those that were made, in that order. It keeps them alive.

    Thread safety: every method from any thread; all get the same signal for a name.
    """

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[str, tuple[Signal, SignalArguments]] = {}

    def signal(self, name: str, **arguments: Unpack[SignalArguments]) -> Signal:
        """The signal ``name``, made as ``Signal(name=name, **arguments)`` if there is none yet.

        Without ``arguments``, whatever it was made with. Raises ``TypeError`` for a name that is no
        ``str`` and for arguments that ``Signal`` refuses; ``ValueError`` where it was made with
        others. Nothing changes then.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a signal must be a str, not {type(name).__name__!r}")
        if "providing_args" in arguments:
            arguments["providing_args"] = checked_values(arguments["providing_args"])  # read once
        found = self._made.get(name)
        if found is None:
            made = Signal(name=name, **arguments)
            made._address = Address(made, sys._getframe().f_back)
            # One step: of several threads all get what the first has put there.
            found = self._made.setdefault(name, (made, arguments))
        signal, made_with = found
        if arguments and {**_DEFAULTS, **arguments} != {**_DEFAULTS, **made_with}:
            raise ValueError(
                f"signal {name!r} was made with {_shown(made_with)}, and is asked for with "
                f"{_shown(arguments)}; ask for it by its name alone, or use another name"
            )
        return signal

    def __getitem__(self, name: str) -> Signal:
        return self._made[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._made))

    def __len__(self) -> int:
        return len(self._made)

    def __repr__(self) -> str:
        return f"<Namespace of {len(self)} signals>"


def _shown(arguments: SignalArguments) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "no arguments"
