"""``send`` and ``send_robust`` the general way: to any receivers that are connected now.

What a plan calls until it is known what kind it is, and what compiled code falls back on. It is
given the plan, as all that a plan calls is, and does without.
"""

from tsignals._base import observers
from tsignals._calling.general import call_each, call_each_robust, check_names
from tsignals._calling.outcomes import Outcomes
from tsignals._calling.types import Live, Named, Pairs, Sends
from tsignals._calling.watched import followed


def begin(signal: Sends, sender: object, named: Named, mode: str) -> Live:
    """The connections that a send calls which starts now; who observes is told that it does.

    One for an executor is told of where that is given it, unless there is nobody to call.
    """
    check_names(named)
    live = signal._registry.hearing(sender)
    if not (observers.active or observers.own) or (live and mode == "send_async"):
        return live
    if not observers.who_observes(signal):
        return live
    return followed(live, signal, sender, named, mode)


def send_general(plan: object, signal: Sends, sender: object, named: Named) -> Pairs:
    """Do what ``send`` does."""
    live = begin(signal, sender, named, "send")
    for connection, _ in live:
        if connection._options.is_async:
            from tsignals._calling.asynchronous import send  # imports asyncio

            return send(live, signal, sender, named)
    return call_each(live, signal, sender, named)


def send_robust_general(plan: object, signal: Sends, sender: object, named: Named) -> Outcomes:
    """Do what ``send_robust`` does."""
    live = begin(signal, sender, named, "send_robust")
    for connection, _ in live:
        if connection._options.is_async:
            from tsignals._calling.asynchronous import send_robust

            return send_robust(live, signal, sender, named)
    return call_each_robust(live, signal, sender, named, "send_robust")
