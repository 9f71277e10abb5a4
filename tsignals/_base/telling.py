"""Telling observers: that a send starts, and what becomes of its receivers.

An :class:`ObservedSend` knows who hears of it, from its start on. Where all of these hear that it
starts and nothing else, ``announce`` does what there is to do. So an observer hears the whole of a
send or nothing of it, unless it is closed meanwhile: then it hears nothing more.

An observer is not told of what it does itself while it is called: of its own sends, that is, and
of what they cause in pools.

Whoever tells goes through an iterator of observers (``left``), which knows those who are still to
be told. So no interrupt loses anything: see ``insist``.
"""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from operator import length_hint
from time import perf_counter

from tsignals._base.events import Event, being_sent
from tsignals._base.interrupts import foreign
from tsignals._base.log import came_by_signal
from tsignals._base.observers import Subscription, Subscriptions, active, who_observes

Left = Iterator[Subscription]
"""Those who are still to be told, each once."""
SendFields = tuple[object, type, str, int]
"""What all events of one send begin with: signal, type of the sender, mode, number."""
ReceiverFields = tuple[object, type, str, int, object, int | None, tuple[object, ...]]
"""What all events of one receiver begin with: the same, and receiver, place, receivers."""
OutcomeFields = tuple[int, float | None, float | None, str | None, BaseException | None, object]
"""What they end with, after the thread: attempts, seconds in the queue and seconds that it ran,
outcome, exception, response."""

_new = tuple.__new__  # Event(...) takes twice as long
_STARTS: OutcomeFields = (0, 0.0, None, None, None, None)
numbers = itertools.count(1)
"""Of sends."""


class _Thread:
    """A thread, and what it is doing."""

    __slots__ = ("ident", "inside", "itself")

    def __init__(self) -> None:
        self.itself = threading.current_thread()  # may get another name
        self.ident = threading.get_ident()
        self.inside: tuple[Subscription, ...] = ()  # those whose methods it is in


class _Here(threading.local):
    def __init__(self) -> None:
        self.thread = _Thread()


_here = _Here()


@foreign
def tell(left: Left, name: str, about: ReceiverFields, what: OutcomeFields) -> None:
    """Call that method of all who have it, and are ``left``."""
    thread = _here.thread
    before = thread.inside
    event = _new(Event, about + (thread.itself.name, thread.ident) + what)
    try:
        # No check for signals comes between an observer's turn and its call: it has both, or none.
        for subscription in left:
            if (
                name in subscription.methods
                and (subscription in active or subscription.of_one)
                and not (name == "sent" and subscription in before)  # its own
            ):
                thread.inside = before + (subscription,)
                try:
                    subscription.methods[name](event)
                except Exception as error:
                    if came_by_signal(error):
                        raise
                    subscription.log(name, error)
            thread.inside = before  # also what keeps the jump back inside of this: see interrupts
    finally:
        thread.inside = before


def insist(
    function: Callable[..., object],
    subscriptions: Iterable[Subscription],
    *what: object,
    defer: Callable[[BaseException], object] | None = None,
) -> None:
    """Call ``function(left, ...)``, which tells these; interrupted, it tells the others, too.

    So it is called again, unless it got no further than the last time. What has interrupted it is
    raised in the end, or given to ``defer``.
    """
    left: Left | None = None
    interrupt: BaseException | None = None
    before = None
    try:
        while True:
            try:
                left = iter(subscriptions) if left is None else left
                function(left, *what)
                break
            except BaseException as raised:
                interrupt = raised
                if before == (now := length_hint(left or ())):
                    break
                before = now
        if interrupt is not None:
            if defer is None:
                raise interrupt
            defer(interrupt)
    finally:
        del interrupt, what  # or the traceback, this frame and the interrupt form a cycle


def announce(
    subscriptions: Subscriptions, about: ReceiverFields, sender: object, named: dict[str, object]
) -> None:
    """Tell that a send starts."""
    left = iter(subscriptions)
    number = about[3]
    being_sent[number] = sender, named
    try:
        tell(left, "sent", about, _STARTS)
    except BaseException:
        insist(tell, left, "sent", about, _STARTS)
        raise
    finally:
        del being_sent[number]


class ObservedSend:
    """One send, as those see it who observe."""

    __slots__ = ("heard", "of", "sent_at", "subscriptions")

    def __init__(self, signal: object, sender: object, mode: str) -> None:
        self.of: SendFields = signal, type(sender), mode, next(numbers)
        inside = _here.thread.inside
        self.subscriptions = [each for each in who_observes(signal) if each not in inside]
        self.heard = frozenset().union(*[each.methods for each in self.subscriptions])
        self.sent_at = perf_counter()

    def announce(
        self, sender: object, named: dict[str, object], receivers: Iterable[object]
    ) -> None:
        """Tell that it starts."""
        if "sent" in self.heard:
            announce(self.subscriptions, self.of + (None, None, tuple(receivers)), sender, named)

    @property
    def is_followed(self) -> bool:
        """Whether anybody hears what becomes of its receivers."""
        return bool(self.heard - {"sent"})  # no generator: closing one would swallow an interrupt
