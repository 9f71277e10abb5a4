"""``Signal``: the front door. Each verb is a few lines of wiring."""

import pickle
import sys
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Executor
from types import FunctionType, MethodType
from typing import Any, Protocol, TypeVar

from tsignals import _naming
from tsignals._connection import PLAIN, Connection, Terms, Wait
from tsignals._default import get_default_executor
from tsignals._definition import behind_partials, name_of
from tsignals._delivery import Deliveries, Sending
from tsignals._dispatch import deliver
from tsignals._each import (
    Live,
    Pairs,
    call_each_robust,
    check_names,
    send_anyhow,
    send_robust_anyhow,
)
from tsignals._fan_out import fan_out
from tsignals._gate import Gate, check_wait, wait_for
from tsignals._outcomes import Failure, Outcomes
from tsignals._plan import Plan
from tsignals._pool import WorkerPool, check_executor
from tsignals._prepared import Prepared
from tsignals._receiver import (
    Receiver,
    check,
    connection_key,
    direct,
    hold_receiver,
    hold_sender,
    own_order,
)
from tsignals._registry import Registry
from tsignals._telling import failure, unless_own, write_log
from tsignals._view import View

R = TypeVar("R", bound=Receiver)


class Signal:
    """Something that senders announce and receivers hear, without knowing each other.

    providing_args: names of the values the signal carries; kept for introspection, not enforced.
    use_caching: accepted for Django's sake; resolution is always cached.
    name: how logs and ``repr`` call the signal; by default the attribute that holds it.
    executor: what ``send_async`` runs receivers in; ``None``: ``get_default_executor()``. May be
        assigned later, which holds for later sends.

    Pickling a signal, also for a ``ProcessPoolExecutor``, pickles the place where it is found
    (``module.attribute``); copying gives the same signal.

    Thread safety: every method from any thread, from receivers, finalizers, weakref callbacks and
    signal handlers. No lock is held while a receiver runs.
    """

    def __init__(
        self,
        providing_args: Iterable[str] | None = None,
        use_caching: bool = False,
        *,
        name: str | None = None,
        executor: Executor | None = None,
    ) -> None:
        check_executor(executor)
        if isinstance(providing_args, (str, bytes)):
            raise TypeError(
                f"providing_args must be an iterable of names, not {providing_args!r} itself; "
                f"pass [{providing_args!r}], or name={providing_args!r} to name the signal"
            )
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str or None, not {type(name).__name__!r}")
        self.providing_args = tuple(providing_args or ())
        self.use_caching = use_caching
        self.name = name
        self._executor = executor
        self._registry = Registry(self)
        self._address = _naming.Address(self, sys._getframe().f_back)

    @property
    def executor(self) -> Executor | None:
        """What ``send_async`` runs receivers in; ``None``: ``get_default_executor()``.

        May be assigned, which holds for later sends. Raises ``TypeError`` for what is no
        ``concurrent.futures.Executor``, and then changes nothing.
        """
        return self._executor

    @executor.setter
    def executor(self, executor: Executor | None) -> None:
        check_executor(executor, "signal.executor")
        self._executor = executor

    # -- Connections --

    def connect(
        self,
        receiver: Receiver,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Hashable = None,
        *,
        priority: int = 0,
        ordered: bool = False,
        tracked: bool = False,
    ) -> Connection:
        """Have ``receiver`` called as ``receiver(signal=..., sender=..., **named)`` at each send.

        sender: hear only this one, by identity; ``None``: every sender. Held weakly where it can
            be: when it dies, the connection goes.
        weak: hold the receiver weakly; when it dies, the connection goes.
        dispatch_uid: what identifies the connection in place of the receiver, if truthy.
        priority: higher is called first; equal ones in order of connection.
        ordered: in ``send_async``, run this receiver's deliveries one at a time, in send order.
        tracked: let ``disconnect(wait=...)`` wait until the receiver no longer runs.

        Returns the ``Connection``. One with the same key (receiver or ``dispatch_uid``, and
        sender) changes nothing and is returned as it is.

        Raises ``TypeError`` for what is not callable, cannot be held weakly, or would be dead at
        once if it were; ``ValueError`` for a receiver without ``**kwargs``, and where a connection
        with the same key has another ``priority``, ``ordered`` or ``tracked``. The signal is then
        unchanged. Nothing of the receiver's is called or evaluated. The rules are Django's, but
        for the last two.
        """
        is_async, on_loop, wrapped = check(receiver)
        if type(receiver) is not FunctionType and is_send(receiver):
            raise TypeError(
                f"cannot connect {name_of(receiver)}: it takes no value named 'signal', which "
                "every receiver gets; to forward, connect a function: "
                "def forward(signal, sender, **named): other.send(sender, **named)"
            )
        if is_async and self is receiver_failed:
            # Failures are told where they happen, on event loops too, where nobody can await.
            raise TypeError(
                f"receiver_failed cannot await the async receiver {name_of(receiver)}: "
                "it is sent wherever a failure happens; connect background(receiver) instead"
            )
        if wrapped:
            ordered = own_order(receiver, ordered)
        if type(priority) is not int and not isinstance(priority, int):
            raise TypeError(f"priority must be an int, not {type(priority).__name__!r}")
        registry = self._registry
        key = connection_key(receiver, sender, dispatch_uid)
        hold = hold_receiver(receiver, weak, key, registry.on_death)
        terms = PLAIN
        plain = not (priority or ordered or tracked or on_loop or wrapped)
        if not plain or sender is not None or dispatch_uid:
            terms = Terms(
                None if sender is None else hold_sender(sender, key, registry.on_death),
                0 if sender is None else id(sender),
                dispatch_uid or None,
                priority,
                bool(ordered),
                is_async,
                Gate(registry.gates, key) if tracked else None,
                on_loop,
                wrapped,
            )
        connection = Connection(registry.ref, key, hold, terms)
        found = registry.add(connection)
        if found is not connection and (other := terms.difference(found._terms)):
            raise ValueError(
                f"cannot connect {name_of(receiver)} with {other}: its key is connected with "
                "another; disconnect it first, or connect it with another dispatch_uid"
            )
        return found

    def disconnect(
        self,
        receiver: Receiver | None = None,
        sender: Any = None,
        dispatch_uid: Hashable = None,
        *,
        wait: Wait = False,
    ) -> bool:
        """Remove the connection with this key; return whether this call did.

        ``wait`` as in ``Connection.disconnect``; it also waits for what still runs of a
        connection that somebody else has removed.
        """
        registry = self._registry
        key = connection_key(receiver, sender, dispatch_uid)
        # Looked up before the removal: whatever is found then is gone by then. And held until
        # then, or it could die in between, and nobody would have removed it.
        found = registry.get(key) if dispatch_uid or wait is not False else None
        grip = None if found is None else found._grip()
        if wait is False:
            removed = registry.pop(key)
            return removed is not None and (removed._alive if grip is None else True)
        gates = registry.gates_under(key)
        check_wait(wait, tracked=found is None or found._terms.gate is not None)
        for gate in gates:
            gate.refuse_on_its_loop()
        removed = registry.pop(key)
        last = None if removed is None else removed._terms.gate
        if last is not None and last not in gates:
            gates.append(last)  # connected since
        was_live = removed is not None and removed._alive
        del removed, found, grip
        wait_for(gates, wait)
        return was_live

    def has_listeners(self, sender: Any = None) -> bool:
        """Whether a send by ``sender`` that starts now would call any receiver."""
        registry = self._registry
        plan = registry.plan(sender)
        return bool(plan.rows) and bool(registry.resolve(plan, sender))

    @property
    def receivers(self) -> list[Connection]:
        """The live connections, in call order; a new list."""
        return self._registry.live

    # -- Sending --

    def send(self, /, sender: Any, **named: Any) -> Pairs:
        """Call all receivers here and now; return ``(receiver, response)`` pairs in call order.

        The first exception propagates, and the rest are not called.
        """
        plan: Plan = (epoch := self._registry.epoch)
        call = epoch.call  # before the plans, which are there before it is (Epoch.show)
        if epoch.plans is not None and (own := epoch.plans.get(id(sender))) is not None:
            whose = own.sender
            if whose() is not sender:
                return send_anyhow(own, self, sender, named)
            plan = own
            call = own.call
        if call is not None:
            return call(plan, self, sender, named)
        if "signal" in named:
            check_names(named)
        return []

    def send_robust(self, /, sender: Any, **named: Any) -> Outcomes:
        """Call all receivers here and now; an ``Exception`` becomes the response.

        Returns ``Outcomes``: ``(receiver, response or exception)`` pairs in call order. Each
        failure is logged and told to ``receiver_failed``. What is no ``Exception`` propagates.
        """
        plan: Plan = (epoch := self._registry.epoch)
        call = epoch.call_robust  # before the plans, which are there before it is (Epoch.show)
        if epoch.plans is not None and (own := epoch.plans.get(id(sender))) is not None:
            whose = own.sender
            if whose() is not sender:
                return send_robust_anyhow(own, self, sender, named, tell)
            plan = own
            call = own.call_robust
        if call is not None:
            return call(plan, self, sender, named, tell)
        if "signal" in named:
            check_names(named)
        return Outcomes()

    def send_async(self, /, sender: Any, **named: Any) -> Deliveries:
        """Have each receiver called in the executor; return their ``Deliveries`` at once.

        Each runs in its own copy of this thread's ``contextvars`` context. A failure is logged
        and told to ``receiver_failed``, whether or not anybody looks at the delivery.

        Raises ``PoolClosed``, ``BrokenExecutor``, ``QueueFull``; ``RuntimeError`` or ``OSError``
        when no thread or event loop can be started; ``TypeError`` for an ``ordered`` receiver on
        an executor that is no ``WorkerPool``. Nothing is queued then.
        """
        if "signal" in named:
            check_names(named)
        registry = self._registry
        epoch = registry.epoch
        plan = epoch if epoch.built and epoch.plans is None else registry.plan(sender)
        if not plan.rows:
            return Deliveries()
        if plan.simple:
            receivers = [r for row in plan.rows if (r := row._hold()) is not None]
            if len(receivers) == plan.count:
                # Into a variable: it may be assigned meanwhile. Only a subclass can have another
                # property, and a property takes a call.
                executor = self._executor if type(self) is Signal else self.executor
                if executor is None:
                    executor = get_default_executor()
                if isinstance(executor, WorkerPool) and (engine := executor._engine).around is None:
                    return fan_out(engine, plan, receivers, self, sender, named, tell)
        live = registry.resolve(plan, sender)
        if not live:
            return Deliveries()
        executor = self.executor
        if executor is None:
            executor = get_default_executor()
        return deliver(executor, live, Sending(self, sender, named, tell))

    def prepare(self, /, sender: Any, **named: Any) -> Prepared:
        """The first half of a ``send_async``: the second is ``submit()`` of what this returns.

        Receivers, ``contextvars`` context and executor are those of this moment. The
        ``deliveries`` exist at once and wait. For sends that are to be delivered only when
        something has happened, such as the commit of a transaction.

        Raises ``TypeError`` for an ``ordered`` receiver on an executor that is no ``WorkerPool``.
        Whether the executor takes them shows when they are submitted.
        """
        return View(self, tell).prepare(sender, **named)

    def via(self, executor: Executor | None) -> View:
        """A view of this signal whose ``send_async`` and ``prepare`` use ``executor``.

        ``None``: what the signal would use. Everything else is as in the signal. Raises
        ``TypeError`` for what is no ``concurrent.futures.Executor``.
        """
        check_executor(executor)
        return View(self, tell, executor)

    @property
    def here(self) -> View:
        """A view of this signal whose ``asend`` and ``asend_robust`` stay on the calling thread.

        They call the sync receivers there, which blocks the event loop meanwhile, before the async
        ones are awaited. For senders whose thread matters: an ORM's session, say.
        """
        return View(self, tell, here=True)

    async def asend(self, /, sender: Any, **named: Any) -> Pairs:
        """As ``send``, from a coroutine, also to ``async def`` receivers.

        The sync receivers run first, one after the other in another thread; then the async ones,
        all at once in this event loop. The pairs come in that order. Changes to context variables
        are seen by the sender, as with Django's ``asend``.

        The first exception propagates, of several async receivers as an ``ExceptionGroup``; the
        others are cancelled and awaited. So are all when the caller is cancelled, but for a sync
        receiver that runs: that ends first, and no further one is called.

        Each sync receiver runs inside the ``around`` of the pool that ``send_async`` would use.
        """
        return await View(self, tell).asend(sender, **named)

    async def asend_robust(self, /, sender: Any, **named: Any) -> Outcomes:
        """As ``send_robust``, from a coroutine, also to ``async def`` receivers.

        Threads, order, context variables and cancellation are those of ``asend``; an ``Exception``
        becomes the response, is logged and told, and stops nobody.
        """
        return await View(self, tell).asend_robust(sender, **named)

    def _send_mixed(self, live: Live, sender: Any, named: dict[str, Any]) -> Pairs:
        from tsignals import _aio

        return _aio.send(live, self, sender, named)

    def _send_robust_mixed(self, live: Live, sender: Any, named: dict[str, Any]) -> Outcomes:
        from tsignals import _aio

        return _aio.send_robust(live, self, sender, named, tell)

    # -- Names --

    @property
    def _label(self) -> str:
        """How logs call this signal."""
        return repr(self.name) if self.name is not None else self._address.label(self, Signal)

    def __repr__(self) -> str:
        args = f", providing_args={self.providing_args!r}" if self.providing_args else ""
        label = self._address.exact_label(self) if self.name is None else repr(self.name)
        return f"<{type(self).__name__} {label}{args}>"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        found = self._address.find(self)
        if found is None:
            raise pickle.PicklingError(
                f"cannot pickle signal {self._label}: it is no attribute of a loaded module or of "
                "a class there; make it one"
            )
        return _load, found

    def __copy__(self) -> "Signal":
        return self

    def __deepcopy__(self, memo: Any) -> "Signal":
        return self


_SENDS: frozenset[object] = frozenset(
    (Signal.send, Signal.send_robust, Signal.send_async, Signal.asend, Signal.asend_robust)
    + (Signal.prepare, View.send_async, View.prepare, View.asend, View.asend_robust)
)


def is_send(receiver: Receiver) -> bool:
    """Whether ``receiver`` is a send of some signal."""
    if type(receiver) is MethodType and type(receiver.__func__) is FunctionType:
        return receiver.__func__ in _SENDS
    method = behind_partials(direct(receiver))
    return type(method) is MethodType and any(method.__func__ is send for send in _SENDS)


def _load(module: str, path: str) -> Signal:
    """The signal at ``path`` in ``module``, imported if need be: what unpickling calls."""
    found: Signal = _naming.load(module, path)
    if not issubclass(type(found), Signal):  # not isinstance: that believes a __class__
        raise pickle.UnpicklingError(f"there is no signal {path!r} in {module!r}")
    return found


class HasConnect(Protocol):
    """A signal, of tsignals or of another library."""

    @property
    def connect(self) -> Callable[..., object]: ...


def receiver(
    signal: HasConnect | Iterable[HasConnect], **connect_arguments: Any
) -> Callable[[R], R]:
    """Decorate a function to connect it to ``signal``, or to each of several.

    signal: whatever has a ``connect``, Django's and blinker's signals too, or an iterable of such.
    connect_arguments: those of that ``connect``.

    Returns the function unchanged. Raises ``TypeError`` for anything else, before it connects.
    """
    if _is_signal(signal):
        signals: tuple[Any, ...] = (signal,)
    elif isinstance(signal, Iterable) and not isinstance(signal, (str, bytes, type)):
        signals = tuple(signal)
    else:
        signals = ()
        _refuse(signal)
    for one in signals:
        if not _is_signal(one):
            _refuse(one)

    def decorate(function: R) -> R:
        for one in signals:
            one.connect(function, **connect_arguments)
        return function

    return decorate


def _is_signal(thing: object) -> bool:
    return not isinstance(thing, type) and callable(getattr(thing, "connect", None))


def _refuse(thing: object) -> None:
    raise TypeError(
        f"receiver() needs a signal, or an iterable of signals, not {thing!r}; "
        "write @receiver(signal) above the function"
    )


receiver_failed = Signal(["failure"], name="tsignals.receiver_failed")
"""Sent when a receiver has failed where nobody would see it; the sender is the signal.

Its receivers are called where that happens, and none may be async: ``connect`` refuses these with
``TypeError``. An ``async def`` function under ``background`` is welcome.
"""


def tell(
    signal: Signal,
    sender: Any,
    receiver: Receiver,
    error: BaseException,
    mode: str,
    queued_seconds: float,
    ran_seconds: float,
    named: dict[str, Any],
    attempts: int = 1,
) -> None:
    """Log a receiver's failure and send ``receiver_failed``.

    In two steps: what goes wrong with one, or interrupts it, does not keep the other from being
    taken. Raises only what has interrupted it.
    """
    told = interrupt = later = None
    try:
        told = failure(
            signal,
            sender,
            receiver,
            error,
            mode,
            queued_seconds,
            ran_seconds,
            named,
            attempts,
        )
        write_log(told)
    except BaseException as raised:
        interrupt = unless_own(raised)
    try:
        if told is not None and signal is not receiver_failed:
            _tell_each(told)
    except BaseException as raised:
        if (later := unless_own(raised)) is not None:
            interrupt = later
    if interrupt is not None:
        try:
            raise interrupt
        finally:
            interrupt = later = None  # or the traceback, this frame and it form a cycle


def _tell_each(told: Failure) -> None:
    registry = receiver_failed._registry
    plan = registry.plan(told.signal)
    if not plan.rows:
        return
    live = registry.resolve(plan, told.signal)
    values = {"failure": told}
    call_each_robust(live, receiver_failed, told.signal, values, "receiver_failed", _log_only)


def _log_only(*told: Any) -> None:
    """Log the failure of a receiver of ``receiver_failed``; in place of ``tell``."""
    try:
        write_log(failure(*told))
    except Exception as raised:
        if unless_own(raised) is not None:
            raise
