"""In which lanes the deliveries of a send belong: what ``ordered`` says, asked by the sender.

``ordered=key`` is foreign code, and so are the hash and the equality of what it gives. All of it
runs on the sender's thread, before there is anything to undo: the key and the hash before anybody
is told of the send, the equality (``in_pool``) before anything is admitted.
"""

import functools
from concurrent.futures import Executor
from typing import TypeVar

from tsignals._base.definition import for_signal, name_of
from tsignals._base.identity import identity
from tsignals._base.log import traceback_of
from tsignals._base.overrides import TakesDeliveries
from tsignals._calling.types import Ordered, Receiver
from tsignals._delivery.delivery import GeneralSend, Live
from tsignals._delivery.watched import HandsOver
from tsignals._pool.core import Core
from tsignals._pool.lane_ids import LaneId, find
from tsignals._pool.pool import WorkerPool
from tsignals._registry.receiver import owner_of_lane

R = TypeVar("R")


def asking(function: HandsOver[R]) -> HandsOver[R]:
    """Have each key asked, once, before ``function`` does anything.

    Raises what a key raises, or the hash of what it gives; ``TypeError`` for what is not hashable.
    """

    @functools.wraps(function)
    def hand_over(executor: Executor, live: Live, send: GeneralSend) -> R:
        if isinstance(executor, (WorkerPool, TakesDeliveries)):  # no other keeps an order
            for connection, receiver in live:
                options = connection._options
                if options.ordered is not False:
                    send.lanes[id(options)] = _lane(options.ordered, receiver, send)
        return function(executor, live, send)

    return hand_over


def _lane(ordered: Ordered, receiver: Receiver, send: GeneralSend) -> object:
    if isinstance(ordered, bool):
        return owner_of_lane(receiver)
    try:
        value = ordered(sender=send.sender, **send.values())
    except TypeError as error:
        own = traceback_of(error)
        if type(error) is TypeError and own is not None and own.tb_next is None:  # its arguments
            error.add_note(
                f"ordered={name_of(ordered)} of {name_of(receiver)} is called as "
                f"key({', '.join(f'{name}=...' for name in ('sender', *send.values()))})"
            )
        raise
    try:
        return LaneId(value, hash(value))
    except TypeError as error:
        if type(error) is not TypeError:
            raise
        raise TypeError(
            f"ordered={name_of(ordered)} of {name_of(receiver)}{for_signal(send.signal)} gave a "
            f"{type(value).__name__!r}, which is not hashable ({error}); "
            "let it give what identifies whose deliveries are kept in order, such as an id, a str "
            "or a tuple of these; nothing was queued"
        ) from error


def in_pool(core: Core, options: object, receiver: Receiver, send: GeneralSend) -> object:
    """Whose lane in ``core`` this delivery is in; equal values of one receiver have one id.

    ``None``: in none. Raises what their equality raises.
    """
    lane = send.lanes.get(id(options))
    if type(lane) is not LaneId:
        return lane
    return find(core.backlog.lane_ids, identity(owner_of_lane(receiver)), lane)
