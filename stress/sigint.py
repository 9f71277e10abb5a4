"""Real SIGINTs at random moments during every kind of call; afterwards all must be consistent.

Another process sends the signals, so they come at moments that no lock of the interpreter
chooses. The handler raises, as Ctrl-C does, but only during the calls under test. An interrupted
call has taken effect or has not; what it accepted is resolved; no lock is held, no room lost.
"""

import argparse
import contextlib
import os
import random
import signal as signals
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from stress._run import (
    Breach,
    add_hang,
    add_json,
    add_seed,
    hang_detector,
    progress,
    python,
    seed_of,
    write_report,
)
from tsignals import Connection, Deliveries, PoolClosed, QueueFull, Signal, WorkerPool

# Sends SIGINT to its parent at random moments until its standard input is closed.
KILLER = """
import os, random, select, signal, sys, time
chance = random.Random(int(sys.argv[1]))
parent = os.getppid()
signal.signal(signal.SIGINT, signal.SIG_IGN)
while not select.select([sys.stdin], [], [], 0)[0]:
    time.sleep(chance.uniform(0, 4e-4))
    try:
        os.kill(parent, signal.SIGINT)
    except ProcessLookupError:
        break
"""
BETWEEN_CHECKS = 200  # interrupts
ROOM = 40


class Interrupts:
    """Raises KeyboardInterrupt on SIGINT while armed, once each time."""

    def __init__(self) -> None:
        self.armed = False
        self.raised = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            self.armed = False
            self.raised += 1
            raise KeyboardInterrupt


class Ticket:
    """One send_async: who ran, and whether the call returned."""

    def __init__(self, receivers: int) -> None:
        self.receivers = receivers
        self.ran: list[None] = []
        self.deliveries: Deliveries | None = None


class Trial:
    """One signal, one pool, and calls on them that may be interrupted anywhere."""

    def __init__(self, seed: int, interrupts: Interrupts, patience: float = 10.0) -> None:
        self.random = random.Random(seed)
        self.interrupts = interrupts
        self.patience = patience  # seconds that anything may take afterwards
        self.calls: dict[str, int] = {}
        self.problems: list[str] = []
        self.strangers = set(threading.enumerate())
        self.renew()

    def renew(self) -> None:
        self.pool = WorkerPool(2, max_pending=ROOM, overflow="block", block_timeout=30)
        self.signal = Signal(name="interrupted", executor=self.pool)
        self.tickets: list[Ticket] = []
        self.submitted: list[list[None]] = []
        self.receivers = [_receiver() for _ in range(3)]
        self.lasting = [_receiver() for _ in range(2)]
        self.deliveries = Signal(name="deliveries", executor=self.pool)
        for receiver in self.lasting:
            self.deliveries.connect(receiver)
        self.handles: list[Connection] = []

    # -- Calls under test; each may end anywhere --

    def connect(self) -> None:
        receiver = self.random.choice(self.receivers)
        uid = self.random.choice((None, None, "uid"))
        sender = self.random.choice((None, self.pool))
        tracked = self.random.random() < 0.3
        with contextlib.suppress(ValueError):  # it is connected, and tracked otherwise
            self.handles[5:] = [self.signal.connect(receiver, sender, True, uid, tracked=tracked)]

    def disconnect(self) -> None:
        self.signal.disconnect(self.random.choice(self.receivers))

    def disconnect_handle(self) -> None:
        if self.handles:
            handle = self.random.choice(self.handles)
            try:
                handle.disconnect(wait=True)
            except ValueError:  # it is not tracked
                handle.disconnect()

    def ask(self) -> None:
        self.signal.has_listeners(self.random.choice((None, self.pool)))
        [connection.connected for connection in self.signal.receivers]

    def send(self) -> None:
        self.signal.send(self.pool, ran=[], value=1)

    def send_robust(self) -> None:
        self.signal.send_robust(None, ran=[])

    def send_async(self) -> None:
        ticket = Ticket(len(self.lasting))
        self.tickets.append(ticket)
        ticket.deliveries = self.deliveries.send_async(None, ran=ticket.ran)

    def results(self) -> None:
        sent = [ticket.deliveries for ticket in self.tickets[-5:] if ticket.deliveries]
        if sent:
            self.random.choice(sent).results(timeout=30)

    def wait(self) -> None:
        sent = [ticket.deliveries for ticket in self.tickets[-5:] if ticket.deliveries]
        if sent:
            deliveries = self.random.choice(sent)
            deliveries.wait(timeout=30)
            [delivery.done() for _, delivery in deliveries.as_completed(timeout=30)]

    def submit(self) -> None:
        ran: list[None] = []
        self.submitted.append(ran)
        self.pool.submit(ran.append, None)

    def drain(self) -> None:
        self.pool.drain(timeout=30)

    def stats(self) -> None:
        self.pool.stats()

    def weak(self) -> None:
        """A receiver and a sender that die in the middle of things."""
        receiver = _receiver()
        self.signal.connect(receiver, sender=_Sender())
        self.signal.connect(receiver)

    def whole_pool(self) -> None:
        pool = WorkerPool(1, max_pending=1)
        pool.submit(int)
        pool.shutdown(wait=False)

    # -- The driver --

    def attempt(self, call: Callable[[], None]) -> bool:
        """Make one call that may be interrupted; return whether it was."""
        try:
            self.interrupts.armed = True
            call()
            self.interrupts.armed = False
        except (KeyboardInterrupt, RuntimeError) as error:
            # Interrupted in Thread.start, a Condition may complain of its own lock instead.
            if isinstance(error, RuntimeError) and "unlocked lock" not in str(error):
                raise
            name = call.__name__
            self.calls[name] = self.calls.get(name, 0) + 1
            return True
        return False

    @property
    def under_test(self) -> list[Callable[[], None]]:
        return [
            self.connect,
            self.disconnect,
            self.disconnect_handle,
            self.ask,
            self.send,
            self.send_robust,
            self.send_async,
            self.results,
            self.wait,
            self.submit,
            self.drain,
            self.stats,
            self.weak,
            self.whole_pool,
        ]

    def go_on_until(self, interrupts: int) -> None:
        calls = self.under_test
        deadline = time.monotonic() + 60
        while self.interrupts.raised < interrupts:
            self.attempt(self.random.choice(calls))
            if time.monotonic() > deadline:
                raise Breach("the signals no longer come")

    # -- What must hold afterwards --

    def check(self, closed: bool = False) -> None:
        self.check_signal()
        self.check_deliveries()
        if not closed:
            self.check_room()
        self.check_shutdown()

    def check_signal(self) -> None:
        """List, sends and disconnects agree; nothing of the dead is left."""
        listed = [connection.receiver for connection in self.signal.receivers]
        if None in listed:
            raise Breach("a dead receiver is listed")
        if len(listed) > 3 * len(self.receivers):
            raise Breach(f"more connections than keys: {listed}")
        heard = [receiver for receiver, _ in self.signal.send(self.pool, ran=[])]
        if heard != listed:
            raise Breach(f"send reached {heard}, listed are {listed}")
        for connection in self.signal.receivers:
            if not connection.connected or not connection.disconnect():
                raise Breach(f"{connection} is listed and not connected")
        if self.signal.has_listeners(self.pool) or self.signal.receivers:
            raise Breach("listeners are left after all were disconnected")
        for handle in self.handles:
            if handle.disconnect():
                raise Breach(f"{handle} was connected and not listed")
        for receiver in self.receivers:
            self.signal.connect(receiver)
        if len(self.signal.send(None, ran=[])) != len(self.receivers):
            raise Breach("not every receiver could be connected again")

    def check_deliveries(self) -> None:
        """What was accepted ran once; what was not, not at all; nothing half."""
        if not self.pool.drain(timeout=self.patience):
            raise Breach(f"the pool does not come to rest: {self.pool.stats()}")
        for ticket in self.tickets:
            whole = len(ticket.ran) == ticket.receivers
            if not whole and (ticket.ran or ticket.deliveries is not None):
                raise Breach(f"{len(ticket.ran)} of {ticket.receivers} deliveries of one send ran")
            if ticket.deliveries and not all(d.done() for _, d in ticket.deliveries):
                raise Breach("a delivery ran and its future is not resolved")
        ran = sum(len(ticket.ran) for ticket in self.tickets) + sum(map(len, self.submitted))
        if any(len(ran) > 1 for ran in self.submitted):
            raise Breach("a task ran twice")
        stats = self.pool.stats()
        if stats.submitted != ran or stats.completed != ran or stats.pending or stats.running:
            raise Breach(f"{ran} deliveries ran, and {stats}")

    def check_room(self) -> None:
        """The queue takes exactly as many as it promised."""
        gate, inside = threading.Event(), threading.Semaphore(0)

        def block() -> None:
            inside.release()
            gate.wait(timeout=60)

        try:
            for _ in range(2):
                self.pool.submit(block)
            for _ in range(2):
                if not inside.acquire(timeout=self.patience):
                    raise Breach(f"a worker is missing: {self.pool.stats()}")
            futures = [self.pool.submit(int) for _ in range(ROOM)]
            if self.pool.stats().pending != ROOM:
                raise Breach(f"room was lost or won: {self.pool.stats()}")
        finally:
            gate.set()
        for future in futures:
            future.result(timeout=self.patience)

    def check_shutdown(self) -> None:
        """An interrupted shutdown can be made again and ends the threads."""
        before = [thread for thread in threading.enumerate() if thread not in self.strangers]
        for _ in range(3):
            self.attempt(self.shutdown)
        self.pool.shutdown()
        # Those of pools that nobody refers to end in their own time.
        deadline = time.monotonic() + self.patience
        while (alive := [t.name for t in before if t.is_alive()]) and time.monotonic() < deadline:
            time.sleep(1e-3)
        if alive:
            raise Breach(f"after shutdown these threads are left: {alive}")
        for refused in (lambda: self.pool.submit(int), lambda: self.deliveries.send_async(None)):
            try:
                refused()
            except PoolClosed:
                continue
            raise Breach("a closed pool takes work")
        self.renew()

    def shutdown(self) -> None:
        self.pool.shutdown()


class _Sender:
    pass


def _receiver() -> Callable[..., None]:
    def receiver(signal: Signal, sender: object, ran: list[None], **named: Any) -> None:
        ran.append(None)

    return receiver


@contextlib.contextmanager
def sigints(seed: int, interrupts: Interrupts) -> Iterator[None]:
    """Another process sends SIGINT to this one all the time."""
    before = signals.signal(signals.SIGINT, interrupts)
    killer = subprocess.Popen([sys.executable, "-c", KILLER, str(seed)], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        assert killer.stdin is not None
        killer.stdin.close()
        killer.wait(timeout=30)
        signals.signal(signals.SIGINT, before)


@contextlib.contextmanager
def ignored_interrupts(problems: list[str]) -> Iterator[None]:
    """Where CPython cannot raise an interrupt it reports and goes on; anything else is wrong."""
    before = sys.unraisablehook

    def hook(info: Any) -> None:
        error = info.exc_value
        context = error.__context__
        # A thread whose start was interrupted may find its Condition's lock as above, and complain
        # on the way out that it is not yet among the active ones.
        if isinstance(error, KeyError) and "unlocked lock" in str(context):
            return
        if not isinstance(error, KeyboardInterrupt):
            problems.append(f"ignored in {info.object!r}: {error!r} after {context!r}")

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def run(arguments: argparse.Namespace) -> int:
    seed = seed_of(arguments)
    print(f"sigint: {python()}, seed {seed}, process {os.getpid()}", flush=True)
    interrupts = Interrupts()
    trial = Trial(seed, interrupts)
    breach = None
    started = time.monotonic()
    with (
        hang_detector(arguments.hang) as alive,
        ignored_interrupts(trial.problems),
        sigints(seed, interrupts),
        progress(arguments.count, "interrupt", "sigint") as bar,
    ):
        try:
            while interrupts.raised < arguments.count:
                alive()
                before = interrupts.raised
                trial.go_on_until(before + BETWEEN_CHECKS)
                trial.check()
                if trial.problems:
                    raise Breach("; ".join(trial.problems))
                bar.update(interrupts.raised - before)
        except (Breach, QueueFull, TimeoutError, RuntimeError) as error:
            breach = f"{type(error).__name__}: {error}"
    calls = dict(sorted(trial.calls.items()))
    print(f"{interrupts.raised} interrupts: {calls}")
    print(f"BREACH (seed {seed}): {breach}" if breach else "all consistent")
    report = {
        "python": python(),
        "seed": seed,
        "interrupts": interrupts.raised,
        "by_call": calls,
        "seconds": round(time.monotonic() - started, 1),
        "breach": breach,
    }
    write_report(arguments.json, report)
    return 1 if breach else 0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("sigint", help="real SIGINTs in the middle of every call")
    add_seed(parser)
    add_hang(parser, 20.0)
    add_json(parser)
    parser.add_argument("--count", type=int, default=30_000, help="default: %(default)s")
    parser.set_defaults(run=run)
