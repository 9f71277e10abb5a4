"""``muted``: receivers that are not called."""

from collections.abc import Callable, Iterable

from tsignals import receiver_failed
from tsignals.testing._scope import Block, OfSignals, Scope, is_same


class _Mute(Scope):
    """Says of receivers whether they are called under it."""

    def __init__(self, signals: OfSignals, receivers: list[object] | None) -> None:
        self._signals = signals
        self._receivers = receivers
        super().__init__()

    def mutes(self, signal: object, receiver: object) -> bool:
        if self._is_over or signal not in self._signals:
            return False
        if self._receivers is None:
            # What has failed is told all the same, unless that is what is to be muted.
            return bool(self._signals.signals) or signal is not receiver_failed
        return any(is_same(receiver, each) for each in self._receivers)


class Muted(Block):
    """What ``muted`` gives."""

    def __init__(self, signals: OfSignals, receivers: list[object] | None) -> None:
        self._signals = signals
        self._receivers = receivers

    def _begin(self) -> Scope:
        return _Mute(self._signals, self._receivers)


def muted(
    *signals: object,
    receivers: "Iterable[Callable[..., object]] | Callable[..., object] | None" = None,
) -> Muted:
    """Have receivers not called in a ``with`` block: of these signals, or without any of all.

    receivers: mute only these, one or several; ``None``: all, without ``signals`` all but those of
        ``receiver_failed``.

    In this context only, and in what it sets off in pools, also what is still under way there when
    the block ends. Sends find nobody there: ``send`` returns ``[]``, ``has_listeners`` is false.
    Blocks nest.

    Raises ``TypeError`` for what is no ``Signal``, and for receivers that cannot be called.

    Thread safety: any number of blocks at once.
    """
    of = OfSignals("muted", signals, only_ours=True)
    some: list[object] | None = None
    if receivers is not None:
        some = list(receivers) if isinstance(receivers, Iterable) else [receivers]
        some = [receivers] if callable(receivers) else some
        for each in some:
            if not callable(each):
                raise TypeError(f"muted needs receivers, not {type(each).__name__!r}")
    return Muted(of, some)
