"""``send`` and ``send_robust`` the general way: to any receivers that are connected now.

What a plan calls until it is known what kind it is, and what compiled code falls back on. It is
given the plan, as all that a plan calls is, and does without.
"""

from tsignals._base import observers
from tsignals._base.interrupts import refuse_if_deep
from tsignals._base.telling import ObservedSend
from tsignals._base.watches import Watch
from tsignals._calling.general import call_each, call_each_robust, check_names
from tsignals._calling.outcomes import Outcomes
from tsignals._calling.types import Live, Named, Pairs, Sends


def begin(signal: Sends, sender: object, named: Named, mode: str) -> Live:
    """The connections that a send calls which starts now; who observes is told that it does.

    Where they hear what becomes of its receivers, a watch stands for each connection. Of a send
    into an executor, unless there is nobody to call, ``_delivery.watched`` tells.
    """
    check_names(named)
    live = signal._registry.hearing(sender)
    if not (observers.active or observers.own) or (live and mode == "send_async"):
        return live
    if not observers.who_observes(signal):
        return live
    send = ObservedSend(signal, sender, mode)
    if follow := send.is_followed:
        refuse_if_deep(60)  # or one might hear that a receiver starts, and not that it ends
    send.announce(sender, named, [receiver for _, receiver in live])
    if not follow:
        return live
    return [
        (Watch(send, place, receiver, connection._options), receiver)
        for place, (connection, receiver) in enumerate(live)
    ]


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
