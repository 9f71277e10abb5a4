"""Async receivers, and senders that are coroutines.

A send calls its sync receivers one after the other, then awaits the async ones side by side in one
group. ``asend`` does the former on another thread, ``send`` the latter on an event loop made for
it. Receivers that do not run in the sender's own context share one copy of it; what they set there
is set for the sender at the end.

This module is imported when it is first needed, for it imports asyncio.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import TypeVar

from tsignals._base.around import Around
from tsignals._base.stacks import ThreadWaits
from tsignals._calling.general import call_each, call_each_robust
from tsignals._calling.group import CollectErrors, Group, RaiseErrors, add, respond
from tsignals._calling.outcomes import Outcomes
from tsignals._calling.runners import async_runner
from tsignals._calling.sync_receivers import SharedContext, call_sync_ones
from tsignals._calling.types import Live, Named, Pairs, Receiver, Sends

R = TypeVar("R")


def _async_ones(live: Live) -> Live:
    return [pair for pair in live if pair[0]._options.is_async]


# -- Senders that are none --


def send(live: Live, signal: Sends, sender: object, named: Named) -> Pairs:
    """``Signal.send`` where some receivers are async."""
    _refuse_running_loop(signal, "send")
    pairs = call_each(live, signal, sender, named)
    pairs += _run_together(_async_ones(live), RaiseErrors(signal, sender, named))
    return pairs


def send_robust(live: Live, signal: Sends, sender: object, named: Named) -> Outcomes:
    """``Signal.send_robust`` where some receivers are async."""
    _refuse_running_loop(signal, "send_robust")
    outcomes = call_each_robust(live, signal, sender, named, "send_robust")
    each = CollectErrors(signal, sender, named, "send_robust")
    return add(outcomes, _run_together(_async_ones(live), each))


def _run_together(later: Live, each: RaiseErrors) -> Pairs:
    """Await all of ``later``, in a context whose changes are seen here."""

    async def together() -> Pairs:
        # Not in that of ``run``: a runner may have put into it where sync code is to run.
        with SharedContext() as context:
            return await Group(each).run(later, context)

    return run(together)


def _refuse_running_loop(signal: Sends, verb: str) -> None:
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"cannot {verb} signal {signal._label} here: it has async receivers, and this thread "
            f"runs an event loop; use await signal.a{verb}(...). No receiver was called"
        )


def respond_now(receiver: Receiver, arguments: tuple[object, ...], keywords: Named) -> object:
    """The response of an async receiver; variables that it sets are set here."""
    thread = threading.get_ident()  # its call started here

    async def alone() -> object:
        with ThreadWaits(thread):
            return await respond(receiver, None, arguments, keywords)

    return run(alone)


def run(function: Callable[[], Coroutine[object, object, R]]) -> R:
    """Await ``function()`` on an event loop of its own, or by the runner that a framework has set.

    Variables that it sets are set here; the thread's current event loop stays.
    """

    async def settled() -> tuple[list[R], list[BaseException]]:
        # What it raises is returned: the runner asks its task for a ``repr``, which asks an
        # exception. That may have none, and the runner would leave its handler of SIGINT behind.
        # Of what ends the loop, its task would say that nobody has retrieved it.
        try:
            return [await function()], []
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            return [], [error]

    if (own := async_runner()) is not None:
        return _result(*own.run_async(settled))
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "cannot run an async receiver on a thread that runs an event loop; "
            "use await signal.asend(...)"
        )
    # With a factory, the runner sets no event loop.
    with SharedContext() as context, asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        results = runner.run(settled(), context=context)
    return _result(*results)


def _result(results: list[R], errors: list[BaseException]) -> R:
    if errors:
        # Taken out: the runner's frame keeps the task with this result, and the error that frame.
        raise errors.pop()
    return results[0]


# -- Senders that are coroutines --


async def asend(
    live: Live,
    signal: Sends,
    sender: object,
    named: Named,
    around: Callable[[], Around | None],
    here: bool,
) -> Pairs:
    """``Signal.asend``; the sync receivers run each inside of ``around()``, also ``here``."""
    later = _async_ones(live)
    pairs: Pairs = []
    if len(later) < len(live):
        pairs = await call_sync_ones(here, call_each, live, signal, sender, named, around())
    if later:
        with SharedContext() as context:
            pairs += await _await_all(later, signal, RaiseErrors(signal, sender, named), context)
    return pairs


async def asend_robust(
    live: Live,
    signal: Sends,
    sender: object,
    named: Named,
    around: Callable[[], Around | None],
    here: bool,
) -> Outcomes:
    """``Signal.asend_robust``; around and here as in ``asend``."""
    mode = "asend_robust"
    later = _async_ones(live)
    outcomes = Outcomes()
    if len(later) < len(live):
        # Elsewhere nobody cancels the sender: a CancelledError is a receiver's own.
        catch = (Exception, asyncio.CancelledError)
        outcomes = await call_sync_ones(
            here, call_each_robust, live, signal, sender, named, mode, around(), catch
        )
    if later:
        with SharedContext() as context:
            each = CollectErrors(signal, sender, named, mode)
            add(outcomes, await _await_all(later, signal, each, context))
    return outcomes


async def _await_all(
    later: Live, signal: Sends, each: RaiseErrors, context: contextvars.Context
) -> Pairs:
    """Await the async receivers: side by side, unless the signal has them take turns."""
    if not signal._in_turn:
        return await Group(each).run(later, context)
    pairs: Pairs = []
    for pair in later:
        pairs += await Group(each).run([pair], context)
    return pairs
