"""``Signal.connect`` and ``Signal.disconnect``: check, then enter or remove a connection.

Nothing changes before all is checked. Most receivers are plain functions, for which nothing is
asked: these have a short way, with as few calls as there can be.
"""

from collections.abc import Callable, Hashable
from types import FunctionType
from typing import Protocol

from tsignals._base.definition import as_method, behind_partials, in_bases, name_of
from tsignals._base.identity import IdentityKey
from tsignals._base.retry import Retry, check_retry
from tsignals._calling.tracking import Gate
from tsignals._calling.types import Ordered, Receiver, check_ordered
from tsignals._calling.waits import check_wait, refuse_on_its_loop, wait_for
from tsignals._registry.connection import PLAIN, Connection, Options, Wait
from tsignals._registry.once import Once
from tsignals._registry.receiver import SYNC, Kind, check, connection_key, own_options, unwrap
from tsignals._registry.references import Hold, KeyedRef, hold_receiver, hold_sender, keyed_ref
from tsignals._registry.registry import Registry


class HasRegistry(Protocol):
    """A signal."""

    _registry: Registry


sends: dict[str, list[object]] = {}
"""Methods that are no receivers, by name: those that send, of signals and of their views."""


before_async: list[Callable[[], object]] = []
"""Called before an async receiver is connected: to import what its sends need. A handler, or a
finalizer, that came in the middle of an import and sent would find half of a module."""


def connect(
    self: HasRegistry,
    receiver: Receiver,
    sender: object = None,
    weak: bool = True,
    dispatch_uid: Hashable = None,
    *,
    priority: int = 0,
    ordered: Ordered = False,
    tracked: bool = False,
    once: bool = False,
    retry: Retry | None = None,
) -> Connection:
    """Have ``receiver`` called as ``receiver(signal=..., sender=..., **named)`` at each send.

    receiver: what is called, a function or an object; it must take ``**kwargs``.
    sender: hear only this one, by identity; held weakly if it can be. ``None``: every sender.
    weak: hold the receiver weakly. When the receiver or the sender dies, the connection goes.
    dispatch_uid: what identifies the connection in place of the receiver, if truthy.
    priority: higher is called first; equal ones in order of connection.
    ordered: in ``send_async``, run this receiver's deliveries one at a time, in send order; a
        function, called as ``key(sender=sender, **named)``: those for equal values.
    tracked: let ``disconnect(wait=...)`` wait until the receiver no longer runs.
    once: have one send call it, of any kind, whichever comes first; this disconnects it first.
    retry: in ``send_async``, run a delivery again whose receiver raises what this names.

    Returns the ``Connection``. If one has the same key (receiver or ``dispatch_uid``, and sender),
    it is returned unchanged. Sends that start after this returns call the receiver.

    Raises ``TypeError`` for what is not callable, cannot be held weakly or would be dead at once,
    and for an option of the wrong type; ``ValueError`` for a receiver without ``**kwargs``, and
    where one with the same key has other options. The signal is then unchanged. Nothing of the
    receiver's is called or evaluated. What is callable and ``**kwargs`` are Django's rules.
    """
    registry = self._registry
    kind = check(receiver)
    hold: Hold
    if (
        (kind is SYNC and type(receiver) is FunctionType and receiver.__closure__ is None)
        and (weak is True and sender is None and dispatch_uid is None and type(priority) is int)
        and (tracked is once is ordered is False and not priority and retry is None)
    ):
        key: Hashable = id(receiver)
        hold = KeyedRef(receiver, registry.on_death)
        hold.key, options = key, PLAIN
    else:
        asked = priority, ordered, tracked, once, retry
        key, hold, options = _general(registry, receiver, kind, weak, sender, dispatch_uid, asked)
    found = registry.add(connection := Connection(registry.ref, key, hold, options))
    return found if found is connection else _the_same(receiver, options, found)


def _general(
    registry: Registry,
    receiver: Receiver,
    kind: Kind,
    weak: bool,
    sender: object,
    dispatch_uid: Hashable,
    asked: tuple[int, Ordered, bool, bool, Retry | None],
) -> tuple[Hashable, Hold, Options]:
    """The key, the hold and the options of a connection of any kind."""
    priority, ordered, tracked, once, retry = asked
    is_async, on_loop, wrapped = kind
    if not type(weak) is type(tracked) is type(once) is bool:
        _check_flags(weak=weak, tracked=tracked, once=once)
    if not (is_function := type(receiver) is FunctionType) or registry.refuses_async:
        _refuse(receiver, is_async and registry.refuses_async)
    if wrapped or ordered is not False or retry is not None or type(priority) is not int:
        ordered, retry = _checked(receiver, wrapped, priority, ordered, retry)
    key = connection_key(receiver, sender, dispatch_uid)
    hold: Hold
    if is_function and weak and receiver.__closure__ is None:
        hold = keyed_ref(receiver, key, registry.on_death)
    else:
        hold = hold_receiver(receiver, weak, key, registry.on_death)
    if not (on_loop or priority or tracked or once or retry or ordered is not False) and not (
        sender is not None or dispatch_uid or wrapped
    ):
        return key, hold, PLAIN
    if on_loop:
        for prepare in before_async:
            prepare()
    one = Once(registry.ref, IdentityKey(key)) if once else None
    options = Options(
        sender=None if sender is None else hold_sender(sender, key, registry.on_death),
        sender_id=0 if sender is None else id(sender),
        dispatch_uid=dispatch_uid or None,
        priority=priority,
        ordered=ordered,
        once=one,
        retry=retry,
        is_async=is_async,
        gate=Gate(registry.gates, key, one) if tracked else None,
        on_loop=on_loop,
        wrapped=wrapped,
    )
    return key, hold, options


def _check_flags(**flags: object) -> None:
    """Raises for what was perhaps meant for another option; 0 and 1 are as good as a bool."""
    for name, flag in flags.items():
        if not isinstance(flag, int):
            raise TypeError(f"{name} must be True or False, not {flag!r}")


def _checked(
    receiver: Receiver, wrapped: bool, priority: int, ordered: Ordered, retry: Retry | None
) -> tuple[Ordered, Retry | None]:
    """How deliveries to ``receiver`` run; raises for what is of the wrong type."""
    if wrapped:
        ordered, retry = own_options(receiver, ordered, retry)
    if ordered is not False:
        ordered = check_ordered(ordered)
    if retry is not None:
        retry = check_retry(retry)
    if not isinstance(priority, int):
        raise TypeError(f"priority must be an int, not {type(priority).__name__!r}")
    return ordered, retry


def disconnect(
    self: HasRegistry,
    receiver: Receiver | None = None,
    sender: object = None,
    dispatch_uid: Hashable = None,
    *,
    wait: Wait = False,
) -> bool:
    """Remove the connection with this key; return whether this call did.

    Sends that start after it has returned do not call the receiver. What still may, ``wait`` and
    errors are as in ``Connection.disconnect``; this also waits for what still runs of a connection
    that somebody else has removed. ``TypeError`` for an unhashable ``dispatch_uid``.
    """
    registry = self._registry
    plain = type(receiver) is FunctionType and sender is None and dispatch_uid is None
    # As connection_key has it, in which a call takes longer.
    key = id(receiver) if plain else connection_key(receiver, sender, dispatch_uid)
    # Looked up before the removal: whatever is found then is gone by then. And held until
    # then, or it could die in between, and nobody would have removed it.
    found = registry.get(key) if dispatch_uid or wait is not False else None
    pin = None if found is None else found._pin()
    if wait is False:
        removed = registry.pop(key)
        if removed is None or pin is not None:
            return removed is not None
        return removed._hold() is not None if plain else removed._alive  # plain: of any sender
    gates = registry.gates_under(key)
    check_wait(wait, tracked=found is None or found._options.gate is not None)
    for gate in gates:
        refuse_on_its_loop(gate)
    removed = registry.pop(key)
    last = None if removed is None else removed._options.gate
    if last is not None and last not in gates:
        gates.append(last)  # connected since
    for gate in gates:
        if gate.once is not None and gate.once.settle_if_claimed():
            gate.close()  # removed by a send: to be passed by one delivery, and now by none
    was_live = removed is not None and removed._alive
    del removed, found, pin
    wait_for(gates, wait)
    return was_live


def _refuse(receiver: Receiver, as_async: bool) -> None:
    """Raise for what would never hear anything: the send of a signal, or what nobody awaits."""
    if _is_send(receiver):
        raise TypeError(
            f"cannot connect {name_of(receiver)}: it takes no value named 'signal', which "
            "every receiver gets; to forward, connect a function: "
            "def forward(signal, sender, **named): other.send(sender, **named)"
        )
    if as_async:
        raise TypeError(
            f"receiver_failed cannot await the async receiver {name_of(receiver)}: "
            "it is sent wherever a failure happens; connect background(receiver) instead"
        )


def _the_same(receiver: Receiver, options: Options, standing: Connection) -> Connection:
    """What stands under the key already; raises where it is not what was asked for."""
    if (other := options.difference(standing._options)) is not None:
        what = "it" if standing.dispatch_uid is None else "its dispatch_uid"
        stands = standing._options.difference(options)
        if stands == other:  # two keys of one name
            stands = f"another {stands}"
        raise ValueError(
            f"cannot connect {name_of(receiver)} with {other}: {what} is connected with {stands} "
            "already; disconnect it first, or connect it with another dispatch_uid"
        )
    return standing


def _is_send(receiver: Receiver) -> bool:
    method = as_method(receiver) or as_method(behind_partials(unwrap(receiver)))
    if method is None:
        return False
    function = method.__func__
    if type(function) is not FunctionType:
        return any(function is send for some in sends.values() for send in some)
    name = function.__name__
    # One of a subclass's own stands for that which it overrides.
    return name in sends and in_bases(type(method.__self__), name, sends[name])
