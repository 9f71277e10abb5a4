"""What an observer is told, and what it may override: the public half of ``observers``."""

from typing import Any, NamedTuple

from tsignals._base.identity import SameWhenCopied
from tsignals._base.log import show

being_sent: dict[int, tuple[object, dict[str, object]]] = {}
"""The sender of a send and its values, by its number, while ``sent`` is called."""


class _Fields(NamedTuple):
    signal: Any
    """The signal; of another library where a ``background`` receiver hears that."""
    sender_type: type
    """The type of the sender; ``type(None)`` where that is ``None``."""
    mode: str
    """The method that sends (a ``prepare`` counts as ``"send_async"``), ``"background"``, or
    ``"receiver_failed"`` where a failure is told."""
    send: int
    """The number of the send in this process: that of all events that it causes."""
    receiver: Any
    """The receiver, as it was connected; ``None`` in ``sent``."""
    place: int | None
    """Which of ``receivers`` it is, by its index; ``None`` in ``sent``."""
    receivers: tuple[Any, ...]
    """In ``sent``: all that the send is about to call, in call order; empty: nobody heard it.
    In all others empty."""
    thread_name: str
    """The name of the thread in which the observer is called."""
    thread_id: int
    """Its ``threading.get_ident()``."""
    attempts: int
    """How often the receiver was called, this time included; 0 if it never was."""
    queued_seconds: float | None
    """How long it waited to be called; 0.0 outside of executors, ``None`` where nobody knows."""
    ran_seconds: float | None
    """In ``ended`` and ``retried``: how long the receiver ran, its ``around`` and the telling of
    its failure included; ``None`` where nobody knows, and in all others."""
    outcome: str | None
    """How it ended. ``ended``: ``"completed"``, ``"failed"``, ``"cancelled"``. ``dropped``:
    ``"dropped"``, ``"cancelled"``, ``"lost"``. ``refused``: ``"refused"``. Else ``None``."""
    exception: BaseException | None
    """What it raised, or why it was dropped or refused; ``None`` where there is no such thing."""
    response: Any
    """In ``ended``: what the receiver returned, if it completed."""


IN_EXECUTORS = frozenset({"send_async", "background"})
"""Modes in which a send does not wait for its receivers: each has a delivery in an executor."""


class Event(SameWhenCopied, _Fields):
    """What an observer is told in one call; compared by identity.

    It never holds the sender, nor what was sent; see ``contents``.

    Thread safety: it does not change.
    """

    # A tuple, for there is one for each step of each receiver: nothing else that is frozen is made
    # as fast.
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return object.__hash__(self)

    def contents(self) -> tuple[Any, dict[str, Any]]:
        """The sender and a copy of the named values: only while ``sent`` is being called.

        Raises ``RuntimeError`` afterwards, and in all other events.
        """
        found = being_sent.get(self.send) if self.place is None else None
        if found is None:
            raise RuntimeError(
                "an event has the sender and what was sent only while sent() is called; keep there "
                "what is needed later"
            )
        return found[0], dict(found[1])

    def __repr__(self) -> str:
        return (
            f"<Event of send {self.send}, {self.mode}, of {show(self.signal)} "
            f"to {show(self.receiver)}: {self.outcome or 'under way'}>"
        )


class Observer:
    """Told what sends and receivers do, once it is given to ``observe``; override what you need.

    Each method is called with one ``Event``, in the thread in which that happens, while no lock is
    held. ``observe`` looks them up, once. What one raises is logged once, and reaches nobody; what
    comes from outside meanwhile (Ctrl-C, a signal handler that raises) does, and so does what it
    raises that is no ``Exception``.

    Thread safety: many threads call an observer at the same time, and what it keeps is its own to
    protect. ``observe`` may be called with it from any thread.
    """

    def sent(self, event: Event) -> None:
        """A send starts, in the context of the sender; ``event.receivers`` are about to hear it."""

    def started(self, event: Event) -> None:
        """A receiver is about to be called, in the context in which it runs."""

    def ended(self, event: Event) -> None:
        """It has ended, in the same context; once for each ``started`` without a ``retried``."""

    def dropped(self, event: Event) -> None:
        """A delivery ends without having run (again), in a copy of the context of the send."""

    def refused(self, event: Event) -> None:
        """The executor has not taken a delivery, or could not run it; in the send's context."""

    def retried(self, event: Event) -> None:
        """A receiver has failed and is to be called again, in the context in which it ran.

        In place of ``ended``: then comes another ``started``, or ``dropped``.
        """
