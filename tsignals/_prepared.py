"""``Prepared``: a ``send_async`` in two steps. First its deliveries, later their admission.

Until it is submitted it counts nowhere. Whether it is submitted or dropped is decided in a list to
which everybody appends, and in which the first entry counts. Each delivery has one of its own, for
it may be taken back before (``cancel``): see ``_held``.

An interrupted ``submit`` has admitted all or nothing. If nothing, the claims are taken back: it may
be submitted again, or dropped.

What nobody has submitted or resolved is in ``engine.prepared``, where a forked child finds what is
its parent's, and resolves it. That keeps nothing alive. So a ``Prepared`` goes when its user lets
it go, on whatever thread that is, and drops what is left; also where what was sent knows it (a
session that is the sender, and keeps what it is to submit).

For other executors see ``_elsewhere``.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

from tsignals import _state
from tsignals._connection import Terms
from tsignals._critical import refuse_if_deep
from tsignals._delivery import Deliveries, Sending
from tsignals._elsewhere import HeldElsewhere, Live, dropped
from tsignals._engine import Engine
from tsignals._future import Mark, comes_first
from tsignals._held import Held, HeldDelivery, Weakly
from tsignals._pool import WorkerPool
from tsignals._process import notice, page
from tsignals._receiver import Receiver
from tsignals._state import Cell
from tsignals._telling import came_by_signal, unless_own
from tsignals._work import Work


class Prepared:
    """A send that waits to be submitted: what ``Signal.prepare`` returns.

    ``deliveries``: the ``Deliveries``, pending, which count nowhere yet. ``cancel()`` of one takes
    it back.

    Who loses the last reference to it drops it: keep it for as long as it is to wait. In a forked
    child it is lost (``DeliveryLost``): the parent's is the one to submit.

    Thread safety: every method from any thread, finalizer and signal handler. Of several calls the
    first decides, and the others do nothing.
    """

    __slots__ = ("__weakref__", "_claims", "_send", "deliveries")

    deliveries: Deliveries
    _claims: list[object]
    _send: "_Send"

    def __init__(self) -> None:
        raise TypeError("cannot make a Prepared; signal.prepare(sender, ...) does")

    def submit(self) -> None:
        """Have the executor take the deliveries, as ``send_async`` does: all, or none of them.

        What that raises (``QueueFull``, ``PoolClosed``, ``BrokenExecutor``, ``RuntimeError`` when
        no thread can be started) is the failure of each of them, and is told; it is not raised.
        While it waits for room, ``cancel()`` cannot take a sync receiver's delivery back any more.
        """
        refuse_if_deep()
        claims, claim = self._claims, object()
        try:
            if comes_first(claims, claim):
                self._send.submit(claim)
        except BaseException:  # interrupted
            if claims[:1] == [claim] and self._send.is_held():
                self._claims = []
            raise

    def drop(self) -> None:
        """Resolve the deliveries with ``DeliveryDropped``; none of them runs.

        A ``WorkerPool`` counts them as submitted and dropped.
        """
        refuse_if_deep()
        claims, claim = self._claims, object()
        try:
            if comes_first(claims, claim):
                self._send.drop()
        except BaseException:  # interrupted, or by a callback: what is left is done again
            if claims[:1] == [claim]:
                self._send.drop()
            raise
        self._send.raise_interrupt()

    # Nobody else has it any more. Whoever decided has done it, or was interrupted. What waits to be
    # raised goes on waiting: what is raised here goes nowhere.
    def __del__(self, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
        send: _Send | None = getattr(self, "_send", None)
        if send is not None and not _ending():
            try:
                refuse_if_deep()
                send.drop()
            except RecursionError:
                _undropped.append(send)
            except BaseException:
                send.drop()
                raise

    def __repr__(self) -> str:
        return f"<Prepared: {len(self.deliveries)} deliveries>"

    # Another one with the same deliveries would drop them when it goes.

    def __copy__(self) -> "Prepared":
        return self

    def __deepcopy__(self, memo: Any) -> "Prepared":
        return self

    def __reduce__(self) -> str:
        raise TypeError("cannot pickle a Prepared: its deliveries belong to this process")


_undropped: "list[_Send]" = []
"""What was lost so deep in a stack that it could not be dropped; the next ``prepare`` does."""


class _Send(Protocol):
    """The deliveries of one send, held back."""

    def submit(self, claim: object) -> None: ...
    def drop(self) -> None: ...
    def is_held(self) -> bool: ...
    def raise_interrupt(self) -> None: ...


def prepare(executor: Executor, live: Live, sending: Sending) -> Prepared:
    """Hold back what ``_dispatch.deliver`` would hand over."""
    if not page[0]:
        notice()
    while _undropped:
        with contextlib.suppress(IndexError):  # another thread has it
            _undropped.pop().drop()
    prepared = object.__new__(Prepared)
    prepared.deliveries = Deliveries()
    prepared._claims = []
    sending.queued_at = time.perf_counter()
    send: _InPool | HeldElsewhere
    if isinstance(executor, WorkerPool):
        send = prepared._send = _InPool(executor, live, sending, prepared.deliveries)
    else:
        send = prepared._send = HeldElsewhere(executor, live, sending, prepared.deliveries)
    send.hold()  # not before: from here on, losing ``prepared`` undoes it
    return prepared


def prepare_nothing() -> Prepared:
    """What a send to nobody gives."""
    prepared = object.__new__(Prepared)
    prepared.deliveries, prepared._claims, prepared._send = Deliveries(), [], _Nothing()
    return prepared


class _Nothing:
    def submit(self, claim: object) -> None:
        pass

    def drop(self) -> None:
        pass

    def is_held(self) -> bool:
        return False

    def raise_interrupt(self) -> None:
        pass


class _InPool:
    """Held back from a ``WorkerPool``."""

    def __init__(
        self, pool: WorkerPool, live: Live, sending: Sending, deliveries: Deliveries
    ) -> None:
        engine = pool._engine
        self.pool = pool  # which must not close for want of a reference
        self.cell = engine.cell  # a forked child has another
        self.works: list[Held] = []
        self.failed: Mark = ("failed", threading.get_ident())  # what it could not queue
        self.told: list[Held] = []  # of whose failure
        for row, receiver in live:
            work = _hold(engine, row._terms, receiver, sending)
            self.works.append(work)
            deliveries.append((receiver, work))
        self.works.sort(key=lambda work: work._on_loop)  # the engine wants those last

    def hold(self) -> None:
        for work in self.works:
            work._hold()

    def is_held(self) -> bool:
        return any(work._held and not work.done() for work in self.works)

    def submit(self, claim: object) -> None:
        if not page[0]:
            notice()
        engine = self.pool._engine
        works: list[Held] = []
        try:
            works = self._take(claim)
            if works:
                if works[-1]._on_loop:
                    from tsignals._loop import ensure_loop

                    engine.refuse_if_not_open()
                    ensure_loop(engine)
                engine.accept(works, deep=True, admit=self._find_room)
                if engine.cell is not self.cell:
                    engine.disown(works)
                _let_go(works)
        except BaseException as error:
            try:
                self._make_good(engine, works, claim, error)
            except BaseException:  # interrupted once more
                self._make_good(engine, works, claim, error)
                raise
            if _interrupts(error):
                raise

    def _find_room(self, works: Sequence[Work], admitted: int, cell: Cell) -> bool:
        """Admit ``works``, but in a child that was forked meanwhile: they are the parent's."""
        return cell is self.cell and self.pool._engine.find_room(works, admitted, cell)

    def _make_good(
        self, engine: Engine, works: Sequence[Held], claim: object, error: BaseException
    ) -> None:
        """All of ``works`` are queued, or none: then they fail, or may be submitted again."""
        if any(work in engine.unresolved or self._is_run_or_dropped(work) for work in works):
            _let_go(works)
        elif _interrupts(error):
            for work in self.works:
                if work._claims[:1] == [claim]:
                    work._claims = []  # H1
        else:
            self._fail(works, error)

    def _is_run_or_dropped(self, work: Held) -> bool:
        """Whether it was admitted, and is no longer to be found among the unresolved."""
        owner = work._owner
        return owner is not None and owner is not self.failed

    def _fail(self, works: Sequence[Held], error: BaseException) -> None:
        """Tell of each, once, that it could not be queued, and resolve it."""
        # Its frames have the deliveries, which will have it: a cycle. The message says all.
        BaseException.with_traceback(error, None)
        interrupt: BaseException | None = None
        for work in works:
            try:
                if work not in self.told:
                    self.told.append(work)
                    work._tell_unsent(error)
            except BaseException as raised:
                interrupt = unless_own(raised) or interrupt
        _resolve(works, self.failed, error)
        if interrupt is not None:
            raise interrupt

    def drop(self) -> None:
        if not page[0]:
            notice()
        cell = self.pool._engine.cell
        mark: Mark = ("dropped", threading.get_ident())
        works: list[Held] = []
        counted = False
        try:
            works = self._take(mark)
            if works:
                cell.update(_state.drop_new, len(works))
                counted = True
                _resolve(works, mark, dropped())
        except BaseException:  # interrupted, or by a callback: what is left is done again
            if not counted:
                works = self._take(mark)
                if works:
                    cell.update(_state.drop_new, len(works))
            _resolve(works, mark, dropped())
            raise

    def _take(self, claim: object) -> list[Held]:
        """Those that nobody else has taken."""
        return [work for work in self.works if not work.done() and work._decide(claim)]

    def raise_interrupt(self) -> None:
        self.pool._engine.cell.raise_interrupt()


def _hold(engine: Engine, terms: Terms, receiver: Receiver, sending: Sending) -> Held:
    kind: Any = HeldDelivery
    if terms.on_loop:
        from tsignals._loop import HeldAsyncDelivery as kind  # imports asyncio

    work: Held = kind(engine, receiver, sending, terms.ordered, terms.gate)
    work._claims = []
    work._held = True
    work._weakly = Weakly(work)
    return work


def _let_go(works: Sequence[Held]) -> None:
    for work in works:
        work._let_go()


def _resolve(works: Sequence[Held], mark: Mark, error: BaseException) -> None:
    interrupt: BaseException | None = None
    for work in works:
        try:
            work._resolve_uncounted(mark, error)
        except BaseException as raised:  # of a callback: the others are resolved all the same
            interrupt = raised
    if interrupt is not None:
        raise interrupt


def _interrupts(error: BaseException) -> bool:
    """Whether it came from outside, or left no room to tell: it is no failure of the admission."""
    kind = type(error)
    return not issubclass(kind, Exception) or kind is RecursionError or came_by_signal(error)
