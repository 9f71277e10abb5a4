"""The data of a trace: sends, the calls of their receivers, and who was not called.

There are many of these, so they are small, and they hold nothing of the program's but signals and
code: whoever is traced lives and dies as it would else.
"""

from types import CodeType
from typing import NamedTuple

from tsignals.inspecting._entries import where_is
from tsignals.observing import Event, signal_name

Here = tuple[tuple[int, ...], int, int]
"""The numbers of the traces that go on; the send, and the place in it, of the call we are in."""

AWAITED = frozenset({"asend", "asend_robust"})
"""Modes in which it waits without holding up its thread."""


class NotCalled(NamedTuple):
    """A receiver that was connected to a signal, and not called by a send.

    Thread safety: it does not change.
    """

    name: str
    where: str | None
    """Its file and line."""
    why: str


class Call:
    """One receiver of a send.

    Times are ``time.perf_counter_ns()``. What is not known yet is ``None``.

    Thread safety: may be read from any thread, also while the trace goes on.
    """

    __slots__ = (
        "attempts",
        "code",
        "ended_ns",
        "error",
        "is_async",
        "name",
        "outcome",
        "place",
        "queued_seconds",
        "send",
        "started_ns",
        "thread_id",
        "thread_name",
    )

    def __init__(self, send: "Send", place: int, name: str, code: CodeType | None) -> None:
        self.send: Send = send
        self.place: int = place
        """Which of the receivers it is, in call order from 0."""
        self.name: str = name
        """The receiver's module and qualified name."""
        self.code: CodeType | None = code
        """What runs when the receiver is called; ``None`` for what is not Python's."""
        self.started_ns: int | None = None
        self.ended_ns: int | None = None
        self.queued_seconds: float | None = None
        """How long it waited for a thread; 0.0 outside of executors."""
        self.thread_name: str | None = None
        self.thread_id: int | None = None
        self.is_async: bool = False
        """Whether it ran as a task on an event loop."""
        self.outcome: str | None = None
        """``"completed"``, ``"failed"``, ``"cancelled"``, ``"dropped"``, ``"lost"``,
        ``"refused"``; ``None``: it runs or waits, or it was not called."""
        self.error: str | None = None
        """What it raised, or why it was dropped or refused, in a line."""
        self.attempts: int = 1
        """How often it was called."""

    @property
    def where(self) -> str | None:
        """The receiver's file and line; ``None`` for what is not Python's."""
        return where_is(self.code)

    @property
    def ran_seconds(self) -> float | None:
        """How long it ran; ``None`` until it has ended, or if it never ran."""
        if self.started_ns is None or self.ended_ns is None:
            return None
        return (self.ended_ns - self.started_ns) / 1e9

    @property
    def sends(self) -> "list[Send]":
        """What it sent; a new list."""
        return list(self.send._book.nested.get((self.send.number, self.place), ()))

    def __repr__(self) -> str:
        state = self.outcome or ("under way" if self.started_ns else "not called")
        return f"<Call of {self.name} for {self.send.name}: {state}>"


class Send:
    """One send.

    Times are ``time.perf_counter_ns()``. ``seconds``, and what becomes of ``calls``, is known as
    far as it has come.

    Thread safety: may be read from any thread, also while the trace goes on.
    """

    __slots__ = (
        "_book",
        "_here",
        "_task",
        "calls",
        "mode",
        "not_called",
        "number",
        "parent",
        "sender",
        "signal",
        "started_ns",
        "thread_id",
        "thread_name",
    )

    def __init__(
        self,
        book: "Book",
        event: Event,
        sender: str | None,
        parent: Call | None,
        here: Here,
        task: int,
    ) -> None:
        self._book = book
        self._here = here  # what was so in its context
        self._task = task
        self.number: int = event.send
        """The number of the send in this process, as in ``Event.send``."""
        self.signal: object = event.signal
        self.sender: str | None = sender
        """The sender in a word; ``None`` for ``None``."""
        self.mode: str = event.mode
        """The method that sends, as in ``Event.mode``."""
        self.parent: Call | None = parent
        """The call in which it was sent, or ``None``."""
        self.started_ns: int = 0
        self.thread_name: str = event.thread_name
        self.thread_id: int = event.thread_id
        self.calls: list[Call] = []
        """Who was to be called, in call order; empty: nobody heard it."""
        self.not_called: tuple[NotCalled, ...] = ()
        """Who was connected and not to be called."""

    @property
    def name(self) -> str:
        """How the signal is called."""
        return self._book.name(self.signal)

    @property
    def heard(self) -> bool:
        """Whether anybody was to be called."""
        return bool(self.calls)

    @property
    def ended_ns(self) -> int:
        """When the last of its receivers had ended."""
        return max((c.ended_ns for c in self.calls if c.ended_ns), default=self.started_ns)

    @property
    def seconds(self) -> float:
        """From its start until the last of its receivers had ended."""
        return (self.ended_ns - self.started_ns) / 1e9

    def __repr__(self) -> str:
        return f"<Send {self.number} of {self.name}, {self.mode}, to {len(self.calls)} receivers>"


class Book:
    """What all sends of a trace share."""

    def __init__(self) -> None:
        self.nested: dict[tuple[int, int], list[Send]] = {}
        """What was sent in a call, by the number of the send and the place of the receiver."""
        self._names: dict[int, str] = {}  # by the ids of signals, which live as long
        self._texts: dict[str, str] = {}

    def name(self, signal: object) -> str:
        """How a signal is called: looked for when somebody asks, not while it is sent."""
        name = self._names.get(id(signal))
        if name is None:
            # blinker tells its receivers of none.
            name = "a signal of another library" if signal is None else signal_name(signal)
            self._names[id(signal)] = name
        return name

    def once(self, text: str) -> str:
        """The same text, as one object."""
        return self._texts.setdefault(text, text)
