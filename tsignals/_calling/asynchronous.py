"""Async receivers, and senders that are coroutines.

A send calls its sync receivers one after the other, then awaits the async ones side by side in one
group. ``asend`` does the former on another thread, ``send`` the latter on an event loop made for
it. Receivers that do not run in the sender's own context share one copy of it; what they set there
is set for the sender at the end.

This module is imported when it is first needed, for it imports asyncio.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import TypeVar

from tsignals._base.around import Around
from tsignals._base.stacks import awaited_here
from tsignals._calling.general import call_each, call_each_robust
from tsignals._calling.group import CollectErrors, Group, RaiseErrors, add, respond
from tsignals._calling.outcomes import Outcomes
from tsignals._calling.runners import async_runner
from tsignals._calling.sync_receivers import SharedContext, call_sync_ones
from tsignals._calling.types import Live, Named, Pairs, Receiver, Sends

R = TypeVar("R")
Settled = tuple[list[R], list[Exception]]
"""What a coroutine gives, in a list, or what it raises."""


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
    runner = async_runner()
    if runner is None:
        with SharedContext() as context:
            return run(Group(each).run, later, context)

    async def in_its_context() -> Settled[Pairs]:
        # Not in ours: the runner may have put into its own where sync code is to run.
        with SharedContext() as context:
            return await _settled(Group(each).run(later, context))

    return _result(*runner.run_async(in_its_context))


def _refuse_running_loop(signal: Sends, verb: str) -> None:
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"cannot {verb} signal {signal._label} here: it has async receivers, and this thread "
            f"runs an event loop; use await signal.a{verb}(...). No receiver was called"
        )


def respond_now(receiver: Receiver, arguments: tuple[object, ...], keywords: Named) -> object:
    """The response of an async receiver; variables that it sets are set here."""
    given = receiver, None, arguments, keywords
    runner = async_runner()
    if runner is not None:

        async def settled() -> Settled[object]:  # as such: a runner may look what it is given
            return await _settled(respond(*given))

        return _result(*runner.run_async(settled))
    with SharedContext() as context:
        return run(respond, *given, context=context, settled=_settled_alone)


def run(
    function: Callable[..., Coroutine[object, object, R]],
    *arguments: object,
    context: contextvars.Context | None = None,
    settled: Callable[[Coroutine[object, object, R]], Coroutine[object, object, Settled[R]]]
    | None = None,
) -> R:
    """Await ``function(...)`` on an event loop of its own; the thread's current one stays."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "cannot run an async receiver on a thread that runs an event loop; "
            "use await signal.asend(...)"
        )
    # With a factory, the runner sets no event loop.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        results = runner.run((settled or _settled)(function(*arguments)), context=context)
    return _result(*results)


async def _settled(coroutine: Coroutine[object, object, R]) -> Settled[R]:
    """What it gives, or raises: the runner asks its task for a ``repr``, which asks an exception.

    That may have none, and the runner would leave its handler of SIGINT behind.
    """
    try:
        return [await coroutine], []
    except Exception as error:
        return [], [error]


async def _settled_alone(coroutine: Coroutine[object, object, R]) -> Settled[R]:
    """The same of one receiver, whose call started in the thread that waits for this."""
    with awaited_here():
        return await _settled(coroutine)


def _result(results: list[R], errors: list[Exception]) -> R:
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
            pairs += await _awaited(later, signal, RaiseErrors(signal, sender, named), context)
    return pairs


async def asend_robust(
    live: Live,
    signal: Sends,
    sender: object,
    named: Named,
    around: Callable[[], Around | None],
    here: bool,
) -> Outcomes:
    """``Signal.asend_robust``, likewise."""
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
            add(outcomes, await _awaited(later, signal, each, context))
    return outcomes


async def _awaited(
    later: Live, signal: Sends, each: RaiseErrors, context: contextvars.Context
) -> Pairs:
    """Await the async receivers: side by side, unless the signal has them take turns."""
    if not signal._in_turn:
        return await Group(each).run(later, context)
    pairs: Pairs = []
    for pair in later:
        pairs += await Group(each).run([pair], context)
    return pairs
