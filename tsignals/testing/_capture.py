"""``capture``: what was sent."""

import contextlib
import queue
import reprlib
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import NamedTuple, Self

from tsignals import Signal
from tsignals._base.definition import is_async
from tsignals._base.events import IN_EXECUTORS
from tsignals._base.inbox import Inbox
from tsignals._base.timeouts import deadline_in, left_until, seconds
from tsignals.observing import Event
from tsignals.testing._scope import Block, OfSignals, Scope, name_of_signal

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 200

Pair = tuple[Callable[..., object], object]


class Sent(NamedTuple):
    """One send.

    ``responses`` has a pair ``(receiver, response)`` for each receiver that has ended, in call
    order, in pools too: there they come as the deliveries end, before their results can be had. An
    exception stands there for what was raised, or for why it was never called.

    Thread safety: other threads add to ``responses`` as deliveries end; nothing else changes.
    """

    signal: object
    sender: object
    named: dict[str, object]
    responses: list[Pair]

    def __str__(self) -> str:
        values = "".join(f", {name}={_short.repr(self.named[name])}" for name in self.named)
        return f"{name_of_signal(self.signal)} by {_short.repr(self.sender)}{values}"


class Captured(Block, list[Sent]):
    """What ``capture`` gives: a list of what was sent, the first first.

    Before the ``with`` block ``assert_once``, ``assert_none`` and ``wait`` raise ``RuntimeError``.

    Thread safety: everything from any thread.
    """

    def __init__(self, signals: OfSignals) -> None:
        super().__init__()
        self._signals = signals
        self._entered = False
        self._others: dict[str, None] = {}  # the names of signals that were sent and not captured
        self._under_way: dict[int, tuple[Sent, int, dict[tuple[bool, int], Pair]]] = {}
        self._waiting: list[Inbox[None]] = []

    def assert_once(self, /, **named: object) -> Sent:
        """Fail unless one send was captured, and has these values; return it.

        It may have others, too. ``sender`` and ``signal`` are compared by identity. Raises
        ``AssertionError``, which says what was sent.
        """
        self._refuse_if_unused()
        values = "".join(f", {name}={_short.repr(named[name])}" for name in named)
        if len(self) != 1 or not _has(self[0], named):
            raise AssertionError(f"{self._signals} was to be sent once{values}; {self._story()}")
        return self[0]

    def assert_none(self) -> None:
        """Fail if anything was captured, by an ``AssertionError`` that says what."""
        self._refuse_if_unused()
        if self:
            raise AssertionError(f"{self._signals} was not to be sent; {self._story()}")

    def wait(self, count: int = 1, timeout: float | None = 10.0) -> Self:
        """Wait until ``count`` sends were captured, by other threads; return this list.

        ``timeout``: seconds; ``None`` waits for ever. Raises ``AssertionError`` when the time is
        up, which says what was sent, and ``TypeError`` for what is no number. On a thread that runs
        an event loop, wait in another (``await asyncio.to_thread(sent.wait, 1, 10)``): this one
        would stop all its tasks.
        """
        self._refuse_if_unused()
        if not isinstance(count, int):
            raise TypeError(f"count must be an int, not {type(count).__name__!r}")
        deadline = deadline_in(seconds(timeout))
        woken: Inbox[None] = Inbox()
        self._waiting.append(woken)  # before the look: one sees the other
        try:
            while len(self) < count:
                left = left_until(deadline)
                if left == 0:
                    raise AssertionError(
                        f"{self._signals} was to be sent {count} times within {timeout} seconds; "
                        f"{self._story()}"
                    )
                with contextlib.suppress(queue.Empty):
                    woken.get(timeout=left)
        finally:
            self._waiting.remove(woken)
        return self

    def _begin(self) -> Scope:
        self._entered = True
        return _Capture(self)

    def _refuse_if_unused(self) -> None:
        if not self._entered:
            raise RuntimeError(
                "nothing was captured yet: use it as 'with capture(...) as sent:', and send in "
                "that block"
            )

    def _story(self) -> str:
        """What was sent."""
        lines = [f"\n  {n}. {sent}" for n, sent in enumerate(list(self), 1)]
        if len(lines) > 20:
            lines[10:-9] = [f"\n  ... {len(lines) - 19} more"]
        others = ", ".join(list(self._others)[:20])
        told = f"sent was:{''.join(lines)}" if lines else "it was not sent"
        return f"{told}\nother signals that were sent: {others}" if others else told

    # Called by all threads that send:

    def _sent(self, event: Event) -> None:
        if event.signal not in self._signals:
            if len(self._others) < 100:
                self._others[name_of_signal(event.signal)] = None
            return
        sender, named = event.contents()
        sent = Sent(event.signal, sender, named, [])
        if event.receivers:
            self._under_way[event.send] = sent, len(event.receivers), {}
        self.append(sent)
        for woken in list(self._waiting):
            woken.put(None)

    def _ended(self, event: Event) -> None:
        found = self._under_way.get(event.send)
        if found is None or event.place is None:
            return
        sent, count, pairs = found
        response = event.response if event.exception is None else event.exception
        if event.outcome == "cancelled" and event.exception is None:
            response = CancelledError()
        # Async ones are called last, but where each has a delivery.
        later = event.mode not in IN_EXECUTORS and is_async(event.receiver)
        pairs[later, event.place] = event.receiver, response
        shown = -1
        while shown != len(pairs):  # another thread may have come in between, and have been faster
            ended = pairs.copy()
            sent.responses[:] = [ended[place] for place in sorted(ended)]
            shown = len(ended)
        if shown == count:
            self._under_way.pop(event.send, None)


class _Capture(Scope):
    """Gives a list what is sent under it."""

    def __init__(self, captured: Captured) -> None:
        self._captured: Captured | None = captured
        super().__init__()

    def _clear(self) -> None:
        self._captured = None

    def _sent(self, event: Event) -> None:
        # What calls a receiver in the background was captured itself, if it is a signal of ours.
        if self._captured is not None:
            if event.mode != "background" or not isinstance(event.signal, Signal):
                self._captured._sent(event)

    def _ended(self, event: Event) -> None:
        if self._captured is not None:
            self._captured._ended(event)

    def captures(self, signal: object) -> bool:
        return self._captured is not None and any(
            each is signal for each in self._captured._signals.signals
        )


def _has(sent: Sent, named: dict[str, object]) -> bool:
    """Whether these are among its values."""
    for name, value in named.items():
        if name in ("signal", "sender"):
            if getattr(sent, name) is not value:
                return False
        elif name not in sent.named or not _is_equal(sent.named[name], value):
            return False
    return True


def _is_equal(one: object, other: object) -> bool:
    if one is other:
        return True
    try:
        return bool(one == other)
    except Exception:  # an array's has no truth value
        return False


def capture(*signals: object) -> Captured:
    """Capture what is sent in a ``with`` block: by these signals, or without any by all.

    ``with capture(order_placed) as sent:`` gives a list of ``Sent``, of what is sent in this
    context and by what it sets off in pools, in every way to send, also where nobody hears it.
    What is under way in a pool when the block ends is captured to its end. A prepared send is
    captured when it is prepared. Signals of other libraries are captured where a ``background``
    receiver hears them. What the library itself sends only where somebody hears it (as
    ``receiver_failed``, and the signals of ``tsignals.sqlalchemy``) is sent to who names it here.

    Raises ``TypeError`` for what is no signal, and for one of blinker: that does not tell its
    receivers which signal they hear.

    Thread safety: any number of blocks at once; each sees the sends of its own context.
    """
    captured = OfSignals("capture", signals)
    for signal in captured.signals:
        if any(each.__module__.partition(".")[0] == "blinker" for each in type(signal).__mro__):
            raise TypeError(
                f"cannot capture {name_of_signal(signal)}: blinker does not tell a background "
                "receiver which signal it hears; capture() without arguments captures all"
            )
    return Captured(captured)
