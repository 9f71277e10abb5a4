"""What a forked child checks: that it can go on, and what became of its parent's deliveries."""

import os
import signal as signals
import time
import traceback
import warnings
from typing import TYPE_CHECKING

from stress._run import Breach
from stress.soak.account import Sent, Ticket
from tsignals import DeliveryLost, PoolClosed, QueueFull, Signal, WorkerPool

if TYPE_CHECKING:
    from stress.soak.world import World

SECONDS = 20  # for all of it; then the parent has the child show its stacks and end


def fork(world: "World", sent: list[Sent]) -> None:
    """Fork; in the parent, wait for the child and raise if it found anything wrong."""
    done = [delivery.done() for one in sent for _, delivery in one.pairs]
    with warnings.catch_warnings():
        # Of forking with threads: that is what this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        _be_child(world, sent, done)
    deadline = time.monotonic() + SECONDS
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signals.SIGABRT)  # faulthandler shows the stacks
            os.waitpid(pid, 0)
            raise Breach("a forked child hung")
        time.sleep(0.005)
    if status:
        raise Breach(f"a forked child failed: {os.waitstatus_to_exitcode(status)}")


def _be_child(world: "World", sent: list[Sent], done: list[bool]) -> None:
    code = 1
    try:
        # Should the parent be gone; faulthandler's own clock did not survive the fork.
        signals.signal(signals.SIGALRM, signals.SIG_DFL)
        signals.setitimer(signals.ITIMER_REAL, 2 * SECONDS)
        _check(world, sent, done)
        code = 0
    except BaseException:
        os.write(2, f"in a forked child:\n{traceback.format_exc()}".encode())
    finally:
        os._exit(code)


def _check(world: "World", sent: list[Sent], done: list[bool]) -> None:
    deliveries = [delivery for one in sent if one.counted for _, delivery in one.pairs]
    known = [delivery for one in sent for _, delivery in one.pairs]
    for delivery, was_done in zip(known, done, strict=True):
        if delivery in deliveries and not was_done:
            if not delivery.done():
                raise Breach(f"a copied future is not resolved: {delivery}")
            # It may have ended between the look at it and the fork.
            if not delivery.cancelled():
                error = delivery.exception(timeout=0)
                if error is not None and not isinstance(error, (DeliveryLost, Exception)):
                    raise Breach(f"a copied future ended with {error!r}")
    for signal in world.signals:
        ticket = Ticket()
        pairs = signal.send(None, ticket=ticket)
        if len(pairs) != len(ticket.ran):
            raise Breach(f"send returned for {pairs} and called {ticket.ran}")
    _deliver(world.pool, may_be_closed=True)
    with WorkerPool(2) as pool:
        _deliver(pool, may_be_closed=False)


def _deliver(pool: WorkerPool, may_be_closed: bool) -> None:
    before = pool.stats()
    if any(before[1:]) or before.workers:
        raise Breach(f"a pool did not start empty in a forked child: {before}")
    ticket, signal = Ticket(), Signal(executor=pool)

    def hear(signal: Signal, sender: object, ticket: Ticket, **named: object) -> Ticket:
        return ticket.stamp("child")

    signal.connect(hear)
    try:
        for _ in range(3):
            signal.send_async(None, ticket=ticket).outcomes(timeout=10)
    except PoolClosed:
        if not may_be_closed:
            raise
        return
    except QueueFull:
        raise Breach(f"an empty pool was full in a forked child: {pool.stats()}") from None
    if not pool.drain(timeout=10):
        raise Breach(f"a pool does not come to rest in a forked child: {pool.stats()}")
    if len(ticket.ran) != 3:
        raise Breach(f"{len(ticket.ran)} of 3 deliveries ran in a forked child")
