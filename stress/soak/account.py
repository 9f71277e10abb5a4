"""Keeping account of every call: who was called with what, and what came back."""

import random
import time
from collections import Counter, deque
from concurrent.futures import CancelledError, Future
from typing import Any

from stress._run import Breach
from tsignals import DeliveryDropped, DeliveryLost, PoolStats
from tsignals._pool.state import Mode

PATIENCE = 60.0  # seconds that a delivery may take at the most
Pairs = list[tuple[Any, Any]]


class Boom(Exception):
    """What a receiver raises now and then."""

    def __init__(self, ticket: "Ticket") -> None:
        super().__init__("a receiver failed, as it should")
        self.ticket = ticket
        self.told: list[str] = []  # in which modes receiver_failed told of it


class Passing(Boom):
    """What receivers raise that are to be called again, before they have heard anything."""


class Ticket:
    """Travels with one send; receivers leave their names on it."""

    __slots__ = ("fails", "ran")

    def __init__(self, fails: float = 0.0) -> None:
        self.ran: list[str] = []
        self.fails = fails  # how probable it is that a receiver raises

    def stamp(self, name: str) -> "Ticket":
        """Called by each receiver first; what it returns is the right response."""
        self.ran.append(name)
        if self.fails and random.random() < self.fails:
            raise Boom(self)
        return self


def name_of(receiver: Any) -> str:
    target = getattr(receiver, "__self__", receiver)
    return str(getattr(target, "name", None) or target.__name__)


class Account:
    """One thread's calls. Nobody else writes here, so sums are right without a lock."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()  # of deliveries of the library's own pools
        # The modes of failures that must have been told of. Not counted at once: a finalizer that
        # fails meanwhile would be lost.
        self.failures: list[str] = []
        self.unsettled: deque[Sent] = deque()
        # Settled or refused: nothing more may run.
        self.closed: deque[tuple[Ticket, int]] = deque()

    def check_here(self, ticket: Ticket, pairs: Pairs, mode: str) -> None:
        """A send in this thread has returned ``pairs``."""
        names = [name_of(receiver) for receiver, _ in pairs]
        if Counter(names) != Counter(ticket.ran):
            raise Breach(f"{mode} returned for {names} and called {ticket.ran}")
        for receiver, response in pairs:
            if isinstance(response, Boom):
                self.check_told(response, mode, ticket)
            elif response is not ticket:
                raise Breach(f"{mode}: {receiver} returned {response!r}")
        self.close(ticket)

    def check_raised(self, ticket: Ticket, error: Boom) -> None:
        """A plain send raised."""
        if error.ticket is not ticket or not ticket.ran or error.told:
            raise Breach(f"send raised {error!r} of another, or told {error.told}")
        self.close(ticket)

    def check_told(self, error: Boom, mode: str, ticket: Ticket) -> None:
        if error.told != [mode] or error.ticket is not ticket:
            raise Breach(f"{mode}: the failure was told as {error.told}")
        self.failures.append(mode)

    def close(self, ticket: Ticket) -> None:
        self.closed.append((ticket, len(ticket.ran)))
        if len(self.closed) > 1000:
            self.check_closed(self.closed.popleft())

    def check_closed(self, closed: tuple[Ticket, int]) -> None:
        ticket, ran = closed
        if len(ticket.ran) != ran:
            raise Breach(f"{ticket.ran[ran:]} ran after all was over")

    def sent(self, sent: "Sent") -> None:
        self.unsettled.append(sent)
        while len(self.unsettled) > 50:
            self.settle()

    def settle(self) -> None:
        """Wait for the oldest send's deliveries and check what came of them."""
        try:
            sent = self.unsettled.popleft()
        except IndexError:
            return
        ends = sent.ends(self)
        if sent.counted:
            self.ends.update(ends)
        self.close(sent.ticket)

    def finish(self) -> None:
        while self.unsettled:
            self.settle()
        while self.closed:
            self.check_closed(self.closed.popleft())


class Sent:
    """The deliveries of one send."""

    __slots__ = ("counted", "mode", "pairs", "ticket")

    def __init__(
        self, ticket: Ticket, pairs: Pairs, mode: str = "send_async", counted: bool = True
    ) -> None:
        self.ticket = ticket
        self.pairs = pairs
        self.mode = mode
        self.counted = counted

    def ends(self, account: Account) -> list[str]:
        """How each delivery ended, in the words of PoolStats."""
        ends, ran = [], []
        for receiver, delivery in self.pairs:
            end = end_of(delivery, self.ticket, self.mode, account, prompt=self.counted)
            ends.append(end)
            if end == "completed" or (end == "failed" and not has_passed(delivery)):
                ran.append(name_of(receiver))
        if Counter(ran) != Counter(self.ticket.ran):
            raise Breach(f"{self.mode}: ran {self.ticket.ran}, and the futures say {ran}")
        return ends


def has_passed(delivery: "Future[Any]") -> bool:
    return isinstance(delivery.exception(PATIENCE), Passing)


def is_over(delivery: Any) -> bool:
    """Whether its pool calls nothing again: it cancels what waits, or has given that up."""
    core = delivery._core
    return bool(core.timer.is_closed or core.state.value.mode > Mode.CLOSING)


def end_of(
    delivery: "Future[Any]", ticket: Ticket, mode: str, account: Account, prompt: bool
) -> str:
    """Wait for one delivery; how it ended, in the words of PoolStats.

    ``prompt``: a failure is told of before the future resolves; executors other than ours cannot.
    """
    try:
        response = delivery.result(timeout=PATIENCE)
    except (CancelledError, DeliveryLost):  # a lost one counts as cancelled
        return "cancelled"
    except DeliveryDropped:
        return "dropped"
    except Boom as error:
        deadline = time.monotonic() + PATIENCE
        while not (prompt or error.told) and time.monotonic() < deadline:
            time.sleep(1e-4)
        if isinstance(error, Passing) and not is_over(delivery):
            raise Breach(f"{mode}: {delivery} was not called again") from None
        account.check_told(error, mode, ticket)
        return "failed"
    except TimeoutError:
        raise Breach(f"a delivery has not ended after {PATIENCE} seconds: {delivery}") from None
    if response is not ticket:
        raise Breach(f"{mode}: {delivery} returned {response!r}")
    return "completed"


def check_sum(stats: PoolStats) -> None:
    parts = stats.pending + stats.running + stats.completed + stats.failed
    parts += stats.cancelled + stats.dropped
    if stats.submitted != parts or min(stats) < 0:
        raise Breach(f"a pool's numbers do not add up: {stats}")
