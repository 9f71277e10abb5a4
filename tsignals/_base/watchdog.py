"""The thread that looks at receivers which run, and says where those stand that run too long.

A call is noted when it starts and forgotten when it ends. The watchdog sleeps until the first of
them is due. It starts when a call is noted and nobody looks, and ends when it has found none for a
while.

Lock
    None. ``calls`` and ``_claims`` are dictionaries that are changed by single steps.

Invariants
    S1  Who has entered the only claim in ``_claims`` is the watchdog; there is one at most.
    S2  Who notes a call enters it in ``calls`` and then reads ``wake_at``; the watchdog sets
        ``wake_at`` and then copies ``calls``. So one of the two sees the other.
    S3  A call that is in ``calls`` after its stack was read was still running when that was read.
"""

import contextlib
import contextvars
import logging
import queue
import threading
import weakref
from collections.abc import Callable, Hashable
from time import monotonic
from types import MethodType

from tsignals._base import process
from tsignals._base.definition import for_signal, name_of
from tsignals._base.events import Event
from tsignals._base.identity import identity
from tsignals._base.inbox import Inbox
from tsignals._base.interrupts import undisturbed
from tsignals._base.log import log_in_thread
from tsignals._base.stacks import Standing

AGAIN = 60.0
"""Seconds after which a receiver that still runs, or does so again, is told of once more."""
PATIENCE = 1.0
"""Seconds that the watchdog waits for something to look at, before it ends."""
NEVER = float("inf")

Key = tuple[int, int | None]


class Limit:
    """How long calls may run, while that holds."""

    __slots__ = ("is_over", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_over = False


class Call:
    """A receiver that runs."""

    __slots__ = ("context", "due", "event", "limit", "standing", "started_at")

    def __init__(self, event: Event, limit: Limit) -> None:
        self.event = event
        self.limit = limit
        self.started_at = monotonic()
        self.due = self.started_at + limit.seconds
        self.standing = Standing(event.thread_id)
        self.context = contextvars.copy_context()  # for the log: with the request's id


class Warned:
    """That a receiver was warned of; only while it lives: its identity may then be another's."""

    __slots__ = ("_reference", "at")

    def __init__(self, receiver: object, at: float) -> None:
        self.at = at
        thing = receiver.__self__ if type(receiver) is MethodType else receiver
        try:
            self._reference: Callable[[], object] = weakref.ref(thing)
        except TypeError:
            self._reference = lambda: thing

    @property
    def lives(self) -> bool:
        return self._reference() is not None


class Watchdog:
    """Looks at the calls that run, in a thread of its own while there are any."""

    def __init__(self) -> None:
        self.calls: dict[Key, Call] = {}
        self.wake_at = NEVER  # when the thread looks next; never where there is none (S2)
        self._claims: dict[str, object] = {}  # S1
        self._inbox: Inbox[None] = Inbox()
        self._is_used = False  # since it has looked last
        self._warned: dict[Hashable, Warned] = {}  # by receiver

    def note(self, event: Event, limit: Limit) -> None:
        """A call starts."""
        if self.wake_at == NEVER:
            self._ensure_thread()  # before the time runs, for it takes some
        call = Call(event, limit)
        self.calls[event.send, event.place] = call
        self._is_used = True
        if call.due < self.wake_at:
            self._inbox.put(None)
            self._ensure_thread()

    def _ensure_thread(self) -> None:
        claim = object()
        if self._claims.setdefault("thread", claim) is not claim:
            return
        thread = threading.Thread(
            target=self._run,
            args=(claim,),
            name="tsignals-slow",
            daemon=True,
            **process.empty_context(),
        )
        try:
            # Where there can be no thread: the next call tries again.
            with contextlib.suppress(RuntimeError):
                undisturbed(thread.start)
        finally:
            if thread.ident is None:  # also where it was interrupted: a thread without a claim ends
                self._claims.pop("thread", None)

    def _run(self, claim: object) -> None:
        try:
            self._watch(claim)
        finally:
            self.wake_at = NEVER
            if self._claims.get("thread") is claim:  # something has ended it: the next call
                self._claims.pop("thread", None)  # starts another

    def _watch(self, claim: object) -> None:
        while self._claims.get("thread") is claim:
            self._is_used, was_used = False, self._is_used
            until = self.wake_at = monotonic() + PATIENCE
            calls = list(self.calls.items())  # S2
            if calls or was_used:
                self._look(calls)
                self._sleep(until)
            else:
                self._sleep(until)
                if self.calls or self._is_used:
                    continue
                self.wake_at = NEVER
                self._claims.pop("thread", None)
                if list(self.calls):  # S2: one was noted meanwhile, and woke nobody
                    self._claims.setdefault("thread", claim)

    def _sleep(self, until: float) -> None:
        due = min((call.due for call in list(self.calls.values())), default=NEVER)
        # Not read again: who was the watchdog before may say only now that it looks no more.
        until = self.wake_at = min(until, due)
        with contextlib.suppress(queue.Empty):
            self._inbox.get(timeout=max(0.0, until - monotonic()))
            while True:  # all that woke us
                self._inbox.get_nowait()

    def _look(self, calls: list[tuple[Key, Call]]) -> None:
        now = monotonic()
        for receiver, warned in list(self._warned.items()):
            if warned.at + AGAIN <= now or not warned.lives:
                del self._warned[receiver]
        for key, call in calls:
            if call.limit.is_over:
                self.calls.pop(key, None)
            elif call.due <= now:
                receiver = identity(call.event.receiver)
                if receiver not in self._warned and self._tell(key, call):
                    self._warned[receiver] = Warned(call.event.receiver, now)
                warned_at = self._warned[receiver].at if receiver in self._warned else now
                call.due = max(warned_at + AGAIN, now + 0.001)

    def _tell(self, key: Key, call: Call) -> bool:
        """Log where it stands; whether it still runs."""
        stack = call.standing.text() or "  (its stack is not known)\n"
        if self.calls.get(key) is not call:  # S3
            return False
        event = call.event
        call.context.run(
            log_in_thread,
            logging.WARNING,
            "receiver %s%s (%s) has been running for %.1f seconds in thread %r, longer than "
            "slow_after=%g, and stands here:\n%s",
            name_of(event.receiver),
            for_signal(event.signal),
            event.mode,
            monotonic() - call.started_at,
            event.thread_name,
            call.limit.seconds,
            stack.rstrip("\n"),
        )
        return True


_watchdog = Watchdog()


def note(event: Event, limit: Limit) -> None:
    """A call starts. In a subinterpreter nobody looks: one that ends with a thread still there
    aborts the process, and some do that with one which has just ended."""
    if not process.page[0]:
        process.notice()
    if process.in_main_interpreter():
        _watchdog.note(event, limit)


def forget(event: Event) -> None:
    """It has ended."""
    _watchdog.calls.pop((event.send, event.place), None)


def _after_fork() -> None:
    global _watchdog
    _watchdog = Watchdog()


process.in_child(_after_fork)
