"""The receivers and senders of the soak."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from typing import Any

from stress.soak.account import Passing, Ticket

Complain = Callable[[str], None]
Receiver = Callable[..., Any]

_numbers = itertools.count()


def _new_name(kind: str) -> str:
    return f"{kind} {next(_numbers)}"


def _be_busy() -> None:
    """Mostly at once, sometimes with a pause in which other threads go on."""
    if random.random() < 0.02:
        time.sleep(random.random() * 2e-3)


class Thing:
    """Sends, or hears as a method."""

    def __init__(self) -> None:
        self.name = _new_name("thing")

    def hear(self, signal: object, sender: object, ticket: Ticket, **named: Any) -> Ticket:
        _be_busy()
        return ticket.stamp(self.name)


class Ear:
    """Hears as an object that can be called."""

    def __init__(self) -> None:
        self.name = _new_name("ear")

    def __call__(self, signal: object, sender: object, ticket: Ticket, **named: Any) -> Ticket:
        _be_busy()
        return ticket.stamp(self.name)


class Flaky:
    """Fails in every third call, on an average, before it has heard anything."""

    def __init__(self) -> None:
        self.name = _new_name("flaky")

    def __call__(self, signal: object, sender: object, ticket: Ticket, **named: Any) -> Any:
        _be_busy()
        if random.random() < 0.3:
            raise Passing(ticket)
        return ticket.stamp(self.name)


class FlakyAsync(Flaky):
    """The same, async."""

    async def __call__(self, signal: object, sender: object, ticket: Ticket, **named: Any) -> Any:
        await asyncio.sleep(0)
        return Flaky.__call__(self, signal, sender, ticket)


def function() -> Receiver:
    name = _new_name("function")

    def hear(signal: object, sender: object, ticket: Ticket, **named: Any) -> Ticket:
        _be_busy()
        return ticket.stamp(name)

    hear.__name__ = name
    return hear


def coroutine_function() -> Receiver:
    name = _new_name("async")

    async def hear(signal: object, sender: object, ticket: Ticket, **named: Any) -> Ticket:
        await asyncio.sleep(0)
        return ticket.stamp(name)

    hear.__name__ = name
    return hear


def any_receiver() -> Receiver:
    kind = random.choice((function, lambda: Thing().hear, Ear))
    return kind()


class Tracked:
    """Must never run once ``gone``, which its owner sets after ``disconnect(wait=True)``."""

    def __init__(self, complain: Complain, others: "list[tuple[Tracked, Any]]") -> None:
        self.name = _new_name("tracked")
        self.gone = False
        self.runs = 0
        self._complain = complain
        self._others = others

    def __call__(self, signal: object, sender: object, ticket: Ticket, **named: Any) -> Ticket:
        self._look("was called")
        _be_busy()
        if self._others and random.random() < 0.01:
            # A wait from within: circles of these must not hang.
            try:
                _, connection = random.choice(self._others)
                connection.disconnect(wait=True)
            except IndexError:
                pass
        self._look("still ran")
        return ticket.stamp(self.name)

    def _look(self, what: str) -> None:
        if self.gone:
            self._complain(f"{self.name} {what} after disconnect(wait=True) had returned")


class Once:
    """Must run at most once, whoever sends."""

    def __init__(self, complain: Complain) -> None:
        self.name = _new_name("once")
        self.runs: list[None] = []
        self.gone = False  # a disconnect has removed it
        self._complain = complain

    def __call__(self, signal: object, sender: object, ticket: Ticket, **named: Any) -> Ticket:
        self.runs.append(None)
        if len(self.runs) > 1 or self.gone:
            self._complain(f"{self.name} ran {len(self.runs)} times; removed: {self.gone}")
        _be_busy()
        return ticket.stamp(self.name)


class Ordered:
    """Must hear numbers that only grow, one at a time."""

    def __init__(self, complain: Complain) -> None:
        self.name = _new_name("ordered")
        self._complain = complain
        self._inside: list[int] = []
        self._last = -1

    def __call__(
        self, signal: object, sender: object, ticket: Ticket, number: int, **named: Any
    ) -> Ticket:
        self._inside.append(number)
        if len(self._inside) > 1:
            self._complain(f"{self.name} hears {self._inside} at once")
        if number <= self._last:
            self._complain(f"{self.name} hears {number} after {self._last}")
        self._last = number
        _be_busy()
        self._inside.remove(number)
        return ticket.stamp(self.name)


class OrderedByKey:
    """The same of the numbers for each key."""

    def __init__(self, complain: Complain) -> None:
        self.name = _new_name("ordered by key")
        self._of = [Ordered(complain) for _ in range(5)]
        for each in self._of:
            each.name = self.name

    def key(self, sender: object, number: int, **named: Any) -> int:
        return number % len(self._of)

    def __call__(self, signal: object, sender: object, number: int, **named: Any) -> Ticket:
        return self._of[number % len(self._of)](signal, sender, number=number, **named)


class Nest:
    """Sends on its own signal from within a delivery, and waits for what comes of it."""

    def __init__(self, note_end: Callable[[Ticket, Any], None]) -> None:
        self.name = _new_name("nest")
        self._note_end = note_end

    def __call__(
        self, signal: Any, sender: object, ticket: Ticket, depth: int = 0, **named: Any
    ) -> Ticket:
        if depth:
            inner = Ticket()
            try:
                sent = signal.send_async(sender, ticket=inner, depth=depth - 1)
            except RuntimeError:  # the pool was closed meanwhile
                pass
            else:
                self._note_end(inner, sent)
        return ticket.stamp(self.name)


class Litter:
    """Garbage in a cycle that makes a call when it is collected, wherever that happens."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._itself = self

    def __del__(self) -> None:
        self._call()
