"""Views of a signal: the same connections, sent in another executor or on another thread."""

from concurrent.futures import Executor
from typing import Any, Protocol, cast

from tsignals._base.around import Around
from tsignals._base.identity import SameWhenCopied
from tsignals._calling.general import check_names
from tsignals._calling.outcomes import Outcomes
from tsignals._calling.sends import begin
from tsignals._calling.types import Named, Pairs, Sends
from tsignals._default import around_of, default_executor, executor_for
from tsignals._delivery.deliveries import Deliveries
from tsignals._delivery.delivery import GeneralSend
from tsignals._delivery.dispatch import deliver, deliver_plain
from tsignals._delivery.prepared import Prepared, prepare, prepare_nothing
from tsignals._pool.pool import WorkerPool, check_executor, core_of
from tsignals._registry.plan import Live, Plan
from tsignals._registry.receiver import wrapper_of
from tsignals._registry.registry import Registry


class Viewed(Sends, Protocol):
    """A signal, as its views see it."""

    @property
    def _registry(self) -> Registry: ...

    @property
    def executor(self) -> Executor | None: ...


class View(SameWhenCopied):
    """A signal that is sent otherwise; whatever is not here is the signal's own.

    Made by ``Signal.via`` and ``Signal.here``, which may be combined. Receivers get the signal.

    Thread safety: as the signal.
    """

    __slots__ = ("_executor", "_here", "_signal")

    def __init__(
        self, signal: Viewed, executor: Executor | None = None, here: bool = False
    ) -> None:
        self._signal = signal
        self._executor = executor
        self._here = here

    @property
    def executor(self) -> Executor | None:
        """What ``send_async`` and ``prepare`` of this view use; ``None``: the default executor."""
        return self._signal.executor if self._executor is None else self._executor

    def via(self, executor: Executor | None) -> "View":
        """As ``Signal.via``."""
        check_executor(executor)
        return View(self._signal, executor, self._here)

    @property
    def here(self) -> "View":
        """As ``Signal.here``."""
        return View(self._signal, self._executor, here=True)

    def send_async(self, /, sender: object, **named: object) -> Deliveries:
        """As ``Signal.send_async``."""
        return send_async(self._signal, self._executor, sender, named)

    def prepare(self, /, sender: object, **named: object) -> Prepared:
        """As ``Signal.prepare``."""
        live = _begin_aside("prepare", self._signal, sender, named)
        if not live:
            return prepare_nothing()
        return prepare(executor_for(self.executor), live, GeneralSend(self._signal, sender, named))

    async def asend(self, /, sender: object, **named: object) -> Pairs:
        """As ``Signal.asend``."""
        from tsignals._calling.asynchronous import asend

        live = begin(self._signal, sender, named, "asend")
        return await asend(live, self._signal, sender, named, self._around, self._here)

    async def asend_robust(self, /, sender: object, **named: object) -> Outcomes:
        """As ``Signal.asend_robust``."""
        from tsignals._calling.asynchronous import asend_robust

        live = begin(self._signal, sender, named, "asend_robust")
        return await asend_robust(live, self._signal, sender, named, self._around, self._here)

    def _around(self) -> Around | None:
        """What sync receivers of these two run inside of."""
        return around_of(self.executor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._signal, name)

    def __reduce__(self) -> tuple[object, ...]:
        return View, (self._signal, self._executor, self._here)

    def __repr__(self) -> str:
        how = [] if self._executor is None else [f"via {self._executor!r}"]
        return " ".join([repr(self._signal), *how, *["here"] * self._here])


def send_async(signal: Viewed, via: Executor | None, sender: object, named: Named) -> Deliveries:
    """``signal.send_async`` in ``via``; ``None``: in that of the signal, or the default one."""
    if "signal" in named:
        check_names(named)
    registry = signal._registry
    snapshot = registry.snapshot
    plan: Plan = snapshot if snapshot.common else registry.plan(sender)
    if plan.simple:
        if not plan.connections:
            return Deliveries()
        receivers = [r for each in plan.connections if (r := each._hold()) is not None]
        if len(receivers) == plan.count:
            executor = signal.executor if via is None else via
            if executor is None:
                executor = default_executor()
            if isinstance(executor, WorkerPool):
                core = core_of(executor)
                if core.config.around is None:
                    return deliver_plain(core, plan, receivers, signal, sender, named)
    # All other receivers and executors.
    live = _begin_aside("send_async", signal, sender, named)
    if not live:
        return Deliveries()
    executor = signal.executor if via is None else via
    return deliver(executor_for(executor), live, GeneralSend(signal, sender, named))


def _begin_aside(verb: str, signal: Viewed, sender: object, named: Named) -> Live:
    """The connections that a send into an executor calls."""
    # These are connections, and no watches: ``observed`` tells of what goes to an executor.
    live = cast(Live, begin(signal, sender, named, "send_async"))
    for connection, receiver in live:
        if connection._options.wrapped and (wrapper := wrapper_of(receiver)) is not None:
            wrapper.refuse(verb, signal, sender, named)
    return live
