"""Views of a signal: the same connections, sent in another executor or on another thread."""

from concurrent.futures import Executor
from typing import Any

from tsignals._around import Around
from tsignals._default import get_default_executor, made_default_executor
from tsignals._delivery import Deliveries, Sending
from tsignals._dispatch import deliver
from tsignals._each import Live, Pairs, Tell, check_names
from tsignals._outcomes import Outcomes
from tsignals._pool import WorkerPool, check_executor
from tsignals._prepared import Prepared, prepare, prepare_nothing


class View:
    """A signal that is sent otherwise; whatever is not here is the signal's own.

    Made by ``Signal.via`` and ``Signal.here``, which may be combined. Receivers get the signal.

    Thread safety: as the signal.
    """

    __slots__ = ("_executor", "_here", "_signal", "_tell")

    def __init__(
        self, signal: Any, tell: Tell, executor: Executor | None = None, here: bool = False
    ) -> None:
        self._signal = signal
        self._tell = tell
        self._executor = executor
        self._here = here

    @property
    def executor(self) -> Executor | None:
        """What ``send_async`` and ``prepare`` of this view use; ``None``: the default executor."""
        executor: Executor | None = self._signal.executor
        return executor if self._executor is None else self._executor

    def via(self, executor: Executor | None) -> "View":
        """As ``Signal.via``."""
        check_executor(executor)
        return View(self._signal, self._tell, executor, self._here)

    @property
    def here(self) -> "View":
        """As ``Signal.here``."""
        return View(self._signal, self._tell, self._executor, here=True)

    def send_async(self, /, sender: Any, **named: Any) -> Deliveries:
        """As ``Signal.send_async``."""
        live = self._live(sender, named)
        if not live:
            return Deliveries()
        return deliver(self._usable(), live, Sending(self._signal, sender, named, self._tell))

    def prepare(self, /, sender: Any, **named: Any) -> Prepared:
        """As ``Signal.prepare``."""
        live = self._live(sender, named)
        if not live:
            return prepare_nothing()
        return prepare(self._usable(), live, Sending(self._signal, sender, named, self._tell))

    async def asend(self, /, sender: Any, **named: Any) -> Pairs:
        """As ``Signal.asend``."""
        from tsignals import _aio

        live = self._live(sender, named)
        around = self._around()
        return await _aio.asend(live, self._signal, sender, named, around, self._here)

    async def asend_robust(self, /, sender: Any, **named: Any) -> Outcomes:
        """As ``Signal.asend_robust``."""
        from tsignals import _aio

        live = self._live(sender, named)
        around, tell = self._around(), self._tell
        return await _aio.asend_robust(live, self._signal, sender, named, tell, around, self._here)

    def _live(self, sender: Any, named: dict[str, Any]) -> Live:
        check_names(named)
        registry = self._signal._registry
        plan = registry.plan(sender)
        live: Live = registry.resolve(plan, sender) if plan.rows else []
        return live

    def _usable(self) -> Executor:
        executor = self.executor
        return get_default_executor() if executor is None else executor

    def _around(self) -> Around | None:
        """What ``send_async`` would run receivers inside of; makes no pool to find out."""
        executor = self.executor
        if executor is None:
            executor = made_default_executor()
        return executor._engine.around if isinstance(executor, WorkerPool) else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._signal, name)

    # Else these would be the signal's, as all that is not here.

    def __copy__(self) -> "View":
        return self

    def __deepcopy__(self, memo: Any) -> "View":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return View, (self._signal, self._tell, self._executor, self._here)

    def __repr__(self) -> str:
        how = [] if self._executor is None else [f"via {self._executor!r}"]
        return " ".join([repr(self._signal), *how, *["here"] * self._here])
