"""One thread of the soak: one random call after another, each checked."""

import asyncio
import gc
import os
import random
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from stress._run import Breach
from stress.soak.account import Account, Boom, Sent, Ticket, check_sum, name_of
from stress.soak.cast import Litter, Once, Thing, Tracked, any_receiver, function
from stress.soak.child import fork
from stress.soak.world import World
from tsignals import PoolClosed, QueueFull, Signal, background

FAILS = 0.03
CLOSED = (PoolClosed, QueueFull)
Action = Callable[[], None]


class Actor:
    """Makes random calls until told to stop; whatever breaks a promise ends the soak."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.account = Account()
        self.beat = time.monotonic()
        self._inside = threading.local()
        needs: list[tuple[Action, float, str]] = [
            (self.send, 20, ""),
            (self.send_robust, 10, ""),
            (self.send_async, 30, ""),
            (self.send_mixed, 2, "send to async receivers"),
            (self.send_mixed_async, 4, "async deliveries"),
            (self.asend, 2, "asend"),
            (self.send_tracked, 10, "tracked"),
            (self.send_tracked_async, 10, "tracked"),
            (self.send_ordered, 10, "ordered"),
            (self.send_flaky, 5, "retry"),
            (self.send_nested, 3, "nested waits"),
            (self.send_foreign, 2, ""),
            (self.send_background, 5, "background"),
            (self.submit, 5, ""),
            (self.connect, 20, ""),
            (self.connect_once, 10, "once"),
            (self.let_die, 18, ""),
            (self.disconnect, 5, ""),
            (self.track, 5, "tracked"),
            (self.untrack, 5, "tracked"),
            (self.ask, 5, ""),
            (self.cancel, 3, ""),
            (self.wait, 3, ""),
            (self.litter, 3, ""),
            (self.collect, 1, ""),
            (self.look_at_stats, 5, ""),
            (self.drain, 0.3, ""),
            (self.renew_pool, 0.3, ""),
            (self.renew_lane, 0.2, "ordered"),
            (self.renew_nest, 0.1, "nested waits"),
        ]
        there = [need for need in needs if not need[2] or need[2] in world.features]
        self._actions = [action for action, _, _ in there]
        self._weights = [weight for _, weight, _ in there]
        # What may be called in the middle of another call.
        self._short = [self.send, self.send_robust, self.connect, self.disconnect, self.ask]

    def run(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                self.act()
        except BaseException as error:
            self.world.complain(f"{type(error).__name__}: {error}")
            stop.set()
            if not isinstance(error, Breach):
                raise

    def act(self) -> None:
        (action,) = self.random.choices(self._actions, self._weights)
        self.beat = time.monotonic()
        self.account.calls[action.__name__] += 1
        action()

    def meanwhile(self) -> None:
        """A call from a finalizer or signal handler, in the middle of whatever runs here."""
        if self.world.over or getattr(self._inside, "nested", False):
            return
        self._inside.nested = True
        try:
            action = self.random.choice(self._short)
            action()
        except Exception as error:
            self.world.complain(f"{action.__name__}, from a finalizer or handler: {error!r}")
        finally:
            self._inside.nested = False

    # -- Sending --

    def any_signal(self) -> Signal:
        return self.random.choice(self.world.signals)

    def any_sender(self) -> object:
        return self.random.choice((None, self.world, "str", Thing()))

    def send(self) -> None:
        ticket = Ticket(FAILS)
        try:
            pairs = self.any_signal().send(self.any_sender(), ticket=ticket)
        except Boom as error:
            self.account.check_raised(ticket, error)
        else:
            self.account.check_here(ticket, pairs, "send")

    def send_robust(self) -> None:
        ticket = Ticket(FAILS)
        outcomes = self.any_signal().send_robust(self.any_sender(), ticket=ticket)
        self.account.check_here(ticket, outcomes, "send_robust")

    def send_async(self) -> None:
        self._deliver(self.any_signal(), Ticket(FAILS))

    def _deliver(self, signal: Signal, ticket: Ticket, counted: bool = True, **named: Any) -> None:
        try:
            sent = signal.send_async(self.any_sender(), ticket=ticket, **named)
        except CLOSED:
            self.account.close(ticket)
        else:
            self.account.sent(Sent(ticket, sent, counted=counted))

    def send_mixed(self) -> None:
        ticket = Ticket()
        self.account.check_here(ticket, self.world.mixed.send(None, ticket=ticket), "send")

    def send_mixed_async(self) -> None:
        self._deliver(self.world.mixed, Ticket(FAILS))

    def asend(self) -> None:
        tickets = [Ticket() for _ in range(3)]

        async def sends() -> list[Any]:
            return await asyncio.gather(
                *(self.world.mixed.asend(None, ticket=ticket) for ticket in tickets)
            )

        for ticket, pairs in zip(tickets, asyncio.run(sends()), strict=True):
            self.account.check_here(ticket, pairs, "asend")

    def send_tracked(self) -> None:
        ticket = Ticket()
        pairs = self.world.tracked_signal.send(None, ticket=ticket)
        self.account.check_here(ticket, pairs, "send")

    def send_tracked_async(self) -> None:
        self._deliver(self.world.tracked_signal, Ticket(FAILS))

    def send_ordered(self) -> None:
        ticket = Ticket(FAILS)
        try:
            sent = self.world.lane.send(ticket)
        except CLOSED:
            self.account.close(ticket)
        else:
            self.account.sent(Sent(ticket, sent))

    def send_flaky(self) -> None:
        """Its receivers fail often, and are called again."""
        self._deliver(self.world.flaky, Ticket(FAILS))

    def send_nested(self) -> None:
        self._deliver(self.world.nest.signal, Ticket(), depth=self.random.randint(1, 5))

    def send_foreign(self) -> None:
        self._deliver(self.world.foreign, Ticket(FAILS), counted=False)

    def send_background(self) -> None:
        """A background receiver called by send answers with its delivery."""
        ticket = Ticket(FAILS)
        signal, hear = Signal(name="background"), function()
        signal.connect(background(hear), weak=False)
        try:
            ((_, delivery),) = signal.send(None, ticket=ticket)
        except CLOSED:
            self.account.close(ticket)
        else:
            self.account.sent(Sent(ticket, [(hear, delivery)], "background"))

    def submit(self) -> None:
        ticket = Ticket()
        try:
            future = self.world.pool.submit(ticket.stamp, "task")
        except CLOSED:
            self.account.close(ticket)
        else:
            self.account.sent(Sent(ticket, [(_Named("task"), future)]))

    # -- Receivers come and go --

    def connect(self) -> None:
        receiver = any_receiver()
        held = getattr(receiver, "__self__", receiver)
        sender = self.random.choice((None, None, self.world, "str", held))
        uid = self.random.choice((None, None, "uid", ("uid", self.random.randint(0, 5))))
        signal = self.random.choice((*self.world.signals, self.world.foreign))
        try:
            connection = signal.connect(
                receiver, sender, dispatch_uid=uid, priority=self.random.choice((0, 0, 1))
            )
        except ValueError as refused:  # its key stands with another priority
            if "priority" not in str(refused):
                raise
            return
        if connection.receiver is None and uid is None:
            raise Breach(f"{name_of(receiver)} was connected and is dead")
        self.world.held.append(held)

    def connect_once(self) -> None:
        """One send of whichever thread calls it, or the disconnect removes it."""
        receiver = Once(self.world.complain)
        tracked = "tracked" in self.world.features and self.random.random() < 0.3
        signal = self.any_signal()
        connection = signal.connect(receiver, weak=False, once=True, tracked=tracked)
        for _ in range(self.random.randint(0, 2)):
            self.random.choice((self.send, self.send_robust, self.send_async))()
        if self.random.random() < 0.5:
            receiver.gone = connection.disconnect()
            if connection.connected or (receiver.gone and receiver.runs):
                raise Breach(f"{receiver.name} was removed: {receiver.gone}, and had run")

    def let_die(self) -> None:
        """Drop the last reference of the oldest receivers, if enough others are left."""
        while len(self.world.held) > 20:
            try:
                self.world.graves.append(weakref.ref(self.world.held.popleft()))
            except IndexError:
                return

    def disconnect(self) -> None:
        connections = self.any_signal().receivers
        if len(connections) > 5:
            self.random.choice(connections).disconnect()
        self.any_signal().disconnect(dispatch_uid="uid", sender=None)

    def track(self) -> None:
        if len(self.world.tracked) < 8:
            receiver = Tracked(self.world.complain, self.world.tracked)
            connection = self.world.tracked_signal.connect(receiver, tracked=True, weak=False)
            self.world.tracked.append((receiver, connection))

    def untrack(self) -> None:
        try:
            receiver, connection = self.world.tracked.pop(0)
        except IndexError:
            return
        wait = self.random.choice((True, 0, 0.001))
        try:
            connection.disconnect(wait=wait)
        except TimeoutError:
            if wait is True:
                raise Breach("disconnect(wait=True) raised TimeoutError") from None
            connection.disconnect(wait=True)
        receiver.gone = True

    # -- Looking, waiting, tidying up --

    def ask(self) -> None:
        signal = self.any_signal()
        signal.has_listeners(self.any_sender())
        if None in [connection.receiver for connection in signal.receivers if False]:
            raise Breach("a dead receiver is listed")

    def cancel(self) -> None:
        if self.account.unsettled:
            pairs = self.random.choice(self.account.unsettled).pairs
            for _, delivery in pairs:
                delivery.cancel()

    def wait(self) -> None:
        for _ in range(self.random.randint(1, 50)):
            self.account.settle()

    def litter(self) -> None:
        Litter(self.meanwhile)

    def collect(self) -> None:
        gc.collect(self.random.choice((0, 1, 2)))

    def look_at_stats(self) -> None:
        pool = self.random.choice(self.world.pools[-10:])
        check_sum(pool.stats())
        found = pool.unfinished()
        if len(set(found)) != len(found):
            raise Breach(f"unfinished() lists something twice: {found}")

    def drain(self) -> None:
        self.world.pool.drain(timeout=self.random.choice((0.0, 0.01)))

    def renew_pool(self) -> None:
        before = self.world.pool
        self.world.renew_pool()
        self._close(before)

    def renew_lane(self) -> None:
        before = self.world.lane
        self.world.renew_lane()
        self._close(before.pool)

    def renew_nest(self) -> None:
        before = self.world.nest
        self.world.renew_nest()
        self._close(before.pool)

    def _close(self, pool: Any) -> None:
        cancel = self.random.random() < 0.3
        if self.random.random() < 0.3:  # gives up what has not started
            pool.shutdown(cancel_futures=cancel, timeout=self.random.choice((0, 0.001, 0.05)))
        else:
            pool.shutdown(self.random.random() < 0.5, cancel_futures=cancel)

    def fork(self) -> None:
        """Fork while everybody is busy; the child finds a working library."""
        self.account.calls["fork"] += 1
        if hasattr(os, "fork"):
            fork(self.world, list(self.account.unsettled))


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name
