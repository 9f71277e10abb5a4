"""What became of receivers that may fail: the pairs, the errors among them, and the report."""

import pickle
from dataclasses import dataclass, field, fields
from typing import Any

from tsignals._base.identity import SameWhenCopied
from tsignals._base.log import show
from tsignals._calling.types import Receiver


@dataclass(frozen=True, slots=True)
class Failure(SameWhenCopied):
    """One receiver's failure, as sent with ``receiver_failed``.

    ``mode`` is the name of the method that called the receiver, or ``"background"``.
    ``queued_seconds`` is how long the delivery waited for a worker, 0.0 outside a pool.
    ``ran_seconds`` is how long the receiver ran; in ``send_robust`` and ``asend_robust``, which
    keep no clock while all goes well, it counts from the start of the send or the last failure.
    Executors of other kinds tell no times: both are 0.0, and the thread is the one that tells.
    ``named`` is what was sent: a dict of its own, without ``signal`` and ``sender``.
    ``attempts`` is how often the receiver was called, more than once where ``retry`` has it run
    again; the times are then those of the last attempt, which has waited since it was due.

    Log records carry it as ``record.failure``, and some handlers pickle these: what then cannot be
    pickled comes out as its ``repr``.

    Thread safety: it does not change. ``named`` is one dict for all who get this failure: read it.
    """

    signal: Any
    sender: Any
    receiver: Receiver
    exception: BaseException
    mode: str
    thread_name: str
    queued_seconds: float
    ran_seconds: float
    named: dict[str, Any] = field(default_factory=dict, hash=False)
    attempts: int = 1

    def __repr__(self) -> str:
        values = (f"{each.name}={show(getattr(self, each.name))}" for each in fields(self))
        return f"{type(self).__name__}({', '.join(values)})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), tuple(_portable(getattr(self, each.name)) for each in fields(self))


def _portable(value: object) -> object:
    """``value`` if a pickle of it can be read again, a dict with such values, or a text."""
    if type(value) is dict:
        return {name: _portable(one) for name, one in value.items()}
    try:
        pickle.loads(pickle.dumps(value))
    except Exception:
        return show(value)
    return value


Pair = tuple[Receiver, Any]


class RaisedPair(tuple[Receiver, BaseException]):
    """That of a receiver that has raised: it is told apart wherever it goes."""

    __slots__ = ()


class Outcomes(list[Pair]):
    """A list of ``(receiver, response or exception)`` that knows which exceptions were raised.

    The pairs themselves know it: also in another list of this kind, and in copies.

    Thread safety: as of any list. It belongs to who has sent: nobody else changes it.
    """

    __slots__ = ()

    def _add_error(self, receiver: Receiver, error: BaseException) -> None:
        """Append the pair of a receiver that raised ``error``."""
        self.append(RaisedPair((receiver, error)))

    @property
    def errors(self) -> list[tuple[Receiver, BaseException]]:
        """The pairs whose exception was raised, not returned, and that are in it; a new list."""
        return [pair for pair in self if type(pair) is RaisedPair]

    def raise_errors(self) -> None:
        """Raise what was raised as one group; return ``None`` when nothing was.

        Raises ``ExceptionGroup``, or ``BaseExceptionGroup`` where an error is no ``Exception``.
        """
        errors = [error for _, error in self.errors]
        if errors:
            plural = "receiver" if len(errors) == 1 else "receivers"
            raise BaseExceptionGroup(f"{len(errors)} {plural} failed", errors)
