"""``Signal``: the front door. Each verb is a few lines of wiring."""

import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from types import GenericAlias
from typing import Self

from tsignals._base import slow
from tsignals._base.identity import SameWhenCopied
from tsignals._calling.general import check_names
from tsignals._calling.outcomes import Outcomes
from tsignals._calling.sends import send_general, send_robust_general
from tsignals._calling.types import Pairs
from tsignals._declared import checked_name, checked_values, declare
from tsignals._delivery.deliveries import Deliveries
from tsignals._delivery.prepared import Prepared
from tsignals._pool.pool import check_executor
from tsignals._registry import connecting, naming
from tsignals._registry.connection import Connection
from tsignals._registry.plan import Plan
from tsignals._registry.registry import Registry
from tsignals._view import View, send_async


class Signal(SameWhenCopied):
    """Something that senders announce and receivers hear, without knowing each other.

    providing_args: names of the values the signal carries; kept for introspection, not enforced.
    use_caching: accepted for Django's sake; resolution is always cached.
    name: how logs and ``repr`` call the signal; by default the attribute that holds it.
    executor: what ``send_async`` runs receivers in; ``None``: ``get_default_executor()``.
    slow_after: seconds; a receiver that runs longer is named in the log while it still runs.
        ``inf``: none is; ``None``: as ``tsignals.observing.set_slow_after`` has it.

    It is pickled as the place where it is found (``module.attribute``); a copy is the same signal.
    ``TypeError`` for arguments of the wrong type, ``ValueError`` for ``slow_after`` not above 0.

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
        slow_after: float | None = None,
    ) -> None:
        check_executor(executor)
        self.name = checked_name(name)
        self.providing_args = checked_values(providing_args)
        self.use_caching = use_caching
        self._executor = executor
        self._registry = Registry(self)
        self._address = naming.Address(self, sys._getframe().f_back)
        slow.watch_signal(self, slow_after)

    @classmethod
    def declare(cls, stub: Callable[..., None], /) -> Self:
        """Make a signal that has its name, its values and its docstring from a definition.

        stub: ``def order_placed(sender: Shop, *, order: int) -> None: "Sent when ..."``. Never
            called. ``TypeError`` for one with defaults, or with anything that is not annotated.

        Type checkers then check what is sent, and which receivers fit; at run time nothing is.
        """
        return declare(lambda values, name: cls(providing_args=values, name=name), stub)

    @property
    def executor(self) -> Executor | None:
        """What ``send_async`` runs receivers in; ``None``: ``get_default_executor()``.

        May be assigned, for later sends. ``TypeError``, and no change, for what is no ``Executor``.
        """
        return self._executor

    @executor.setter
    def executor(self, executor: Executor | None) -> None:
        check_executor(executor, "signal.executor")
        self._executor = executor

    _in_turn = False  # whether asend awaits its async receivers one after the other
    __class_getitem__: object = classmethod(GenericAlias)  # to be annotated with what it carries

    # Themselves: a method around them would make them a tenth slower.
    connect = connecting.connect
    disconnect = connecting.disconnect

    def has_listeners(self, sender: object = None) -> bool:
        """Whether a send by ``sender`` that starts now would call any receiver."""
        registry = self._registry  # quickly: servers ask for each request
        return not registry.snapshot.empty and registry.listening(sender)

    @property
    def receivers(self) -> list[Connection]:
        """The live connections, in call order; a new list."""
        return self._registry.live

    def send(self, /, sender: object, **named: object) -> Pairs:
        """Call all receivers here and now; return ``(receiver, response)`` pairs in call order.

        The first exception propagates, and the rest are not called. Async receivers are awaited
        last, together; what several of these raise is an ``ExceptionGroup``. ``RuntimeError``,
        before any is called, where this thread runs an event loop.
        """
        plan: Plan = (snapshot := self._registry.snapshot)
        call = snapshot.call  # before the plans: they are there first (Snapshot.show)
        if snapshot.plans is not None and (own := snapshot.plans.get(id(sender))) is not None:
            whose = own.sender
            if whose() is not sender:
                return send_general(own, self, sender, named)
            plan = own
            call = own.call
        if call is not None:
            return call(plan, self, sender, named)
        if "signal" in named:
            check_names(named)
        return []

    def send_robust(self, /, sender: object, **named: object) -> Outcomes:
        """Call all receivers here and now; an ``Exception`` becomes the response.

        Returns ``Outcomes``: ``(receiver, response or exception)`` pairs in call order. Each
        failure is logged and told to ``receiver_failed``. What is no ``Exception`` propagates.
        Async receivers as in ``send``.
        """
        plan: Plan = (snapshot := self._registry.snapshot)
        call = snapshot.call_robust  # before the plans, as in ``send``
        if snapshot.plans is not None and (own := snapshot.plans.get(id(sender))) is not None:
            whose = own.sender
            if whose() is not sender:
                return send_robust_general(own, self, sender, named)
            plan = own
            call = own.call_robust
        if call is not None:
            return call(plan, self, sender, named)
        if "signal" in named:
            check_names(named)
        return Outcomes()

    def send_async(self, /, sender: object, **named: object) -> Deliveries:
        """Have each receiver called in the executor; return their ``Deliveries``.

        It does not wait for them to run. While the queue is full it may wait for room, by default
        without limit, or run them: see ``WorkerPool(overflow=)``. Each runs in its own copy of
        this thread's ``contextvars`` context. A failure is logged and told to ``receiver_failed``.

        Raises ``PoolClosed``, ``BrokenExecutor``, ``QueueFull``; ``RuntimeError`` or ``OSError``
        when no thread or event loop can be started; ``TypeError`` for ``ordered`` or ``retry`` on
        an executor that is no ``WorkerPool``. Also what an ``ordered`` function raises, and
        ``TypeError`` for a value of it that is not hashable. Nothing is queued then.
        """
        # Only a subclass can have another property, which is then asked in there.
        return send_async(self, self._executor if type(self) is Signal else None, sender, named)

    def prepare(self, /, sender: object, **named: object) -> Prepared:
        """The first half of a ``send_async``: the second is ``submit()`` of what this returns.

        Receivers, ``contextvars`` context and executor are those of this moment. The
        ``deliveries`` exist at once and wait: for the commit of a transaction, say. Whether the
        executor accepts them is known only at ``submit()``. Raises what ``send_async`` raises for
        ``ordered`` and ``retry``.
        """
        return View(self).prepare(sender, **named)

    def via(self, executor: Executor | None) -> View:
        """A view of this signal whose ``send_async`` and ``prepare`` use ``executor``.

        ``None``: what the signal would use. Everything else is as in the signal. Raises
        ``TypeError`` for what is no ``concurrent.futures.Executor``.
        """
        check_executor(executor)
        return View(self, executor)

    @property
    def here(self) -> View:
        """A view of this signal whose ``asend`` and ``asend_robust`` stay on the calling thread.

        They call the sync receivers there first, which blocks the event loop meanwhile.
        """
        return View(self, here=True)

    async def asend(self, /, sender: object, **named: object) -> Pairs:
        """As ``send``, from a coroutine, also to ``async def`` receivers.

        The sync receivers run first, one after the other in another thread, each inside the
        ``around`` of the pool that ``send_async`` would use; then the async ones, all at once in
        this event loop. The pairs come in that order. Changes to context variables are seen by the
        sender, as with Django's ``asend``. The first exception propagates, of several async
        receivers as an ``ExceptionGroup``; the others are cancelled and awaited. So are all when
        the caller is cancelled, but for a sync receiver that runs: it ends, and no other is called.
        """
        return await View(self).asend(sender, **named)

    async def asend_robust(self, /, sender: object, **named: object) -> Outcomes:
        """As ``asend``; but an ``Exception`` becomes the response, as in ``send_robust``."""
        return await View(self).asend_robust(sender, **named)

    @property
    def _label(self) -> str:
        """How logs call this signal."""
        return repr(self.name) if self.name is not None else self._address.label(self, Signal)

    def __repr__(self) -> str:
        args = f", providing_args={self.providing_args!r}" if self.providing_args else ""
        label = self._address.exact_label(self) if self.name is None else repr(self.name)
        return f"<{type(self).__name__} {label}{args}>"

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return _load, self._address.to_pickle(self)


for _send in (
    *(Signal.send, Signal.send_robust, Signal.send_async, Signal.asend, Signal.asend_robust),
    *(Signal.prepare, View.send_async, View.prepare, View.asend, View.asend_robust),
):
    connecting.sends.setdefault(_send.__name__, []).append(_send)


def _load(module: str, path: str) -> Signal:
    """The signal at ``path`` in ``module``, imported if need be: what unpickling calls."""
    return naming.load(module, path, Signal)
