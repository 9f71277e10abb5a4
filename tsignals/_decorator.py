"""``receiver``: connects the function below it, to signals of any library."""

from collections.abc import Callable, Iterable
from typing import NoReturn, Protocol, TypeGuard, TypeVar

from tsignals._calling.types import Receiver

R = TypeVar("R", bound=Receiver)


class HasConnect(Protocol):
    """A signal, of tsignals or of another library."""

    @property
    def connect(self) -> Callable[..., object]: ...


def receiver(
    signal: HasConnect | Iterable[HasConnect], **connect_arguments: object
) -> Callable[[R], R]:
    """Decorate a function to connect it to ``signal``, or to each of several.

    signal: whatever has a ``connect``, Django's and blinker's signals too, or an iterable of such.
    connect_arguments: those of that ``connect``.

    Returns the function unchanged. Raises ``TypeError`` for anything else, before it connects.

    Thread safety: as the ``connect`` of each; that of tsignals' signals from any thread.
    Where it comes from: ``django.dispatch.receiver``.
    """
    signals: list[HasConnect] = []
    if _is_signal(signal):
        signals.append(signal)
    elif isinstance(signal, Iterable) and not isinstance(signal, (str, bytes, type)):
        signals.extend(signal)
    else:
        _refuse(signal)
    for one in signals:
        if not _is_signal(one):
            _refuse(one)

    def decorate(function: R) -> R:
        for one in signals:
            one.connect(function, **connect_arguments)
        return function

    return decorate


def _is_signal(thing: object) -> TypeGuard[HasConnect]:
    return not isinstance(thing, type) and callable(getattr(thing, "connect", None))


def _refuse(thing: object) -> NoReturn:
    raise TypeError(
        f"receiver() needs a signal, or an iterable of signals, not {thing!r}; "
        "write @receiver(signal) above the function"
    )
