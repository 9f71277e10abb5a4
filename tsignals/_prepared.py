"""``Prepared``: a ``send_async`` in two steps. First its deliveries, later their admission.

Until it is submitted it counts nowhere. Whether it is submitted or dropped is decided in a list to
which everybody appends, and in which the first entry counts. Each delivery has one of its own, for
it may be taken back before (``cancel``): see ``_held``.

An interrupted ``submit`` has admitted all or nothing. If nothing, the claims are taken back: it may
be submitted again, or dropped.

What nobody has submitted or resolved is in ``engine.prepared``, where a forked child finds what is
its parent's, and resolves it. Nothing there refers to the ``Prepared``. So that goes when its user
lets it go, on whatever thread that is, and drops what is left.

Other executors make their own futures, but only when they are given the work. Until then, and
after, ``Elsewhere`` stands in for them; once it has one, it does what that does.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any, Protocol, cast

from tsignals import _process, _state
from tsignals._connection import Terms
from tsignals._delivery import Deliveries, Delivery, Sending
from tsignals._dispatch import Live, refuse_ordered, submit_elsewhere
from tsignals._engine import Engine
from tsignals._errors import DeliveryDropped, DeliveryLost
from tsignals._future import Mark
from tsignals._held import Held, HeldDelivery
from tsignals._pool import WorkerPool
from tsignals._process import notice, page
from tsignals._receiver import Receiver
from tsignals._telling import came_by_signal, unless_own


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
        While it waits for room, ``cancel()`` of a delivery returns False.
        """
        claims, claim = self._claims, object()
        try:
            claims.append(claim)
            if claims[0] is claim:
                self._send.submit(claim)
        except BaseException:  # interrupted
            if claims[:1] == [claim] and self._send.is_held():
                self._claims = []
            raise

    def drop(self) -> None:
        """Resolve the deliveries with ``DeliveryDropped``; none of them runs.

        A ``WorkerPool`` counts them as submitted and dropped.
        """
        claims, claim = self._claims, object()
        claims.append(claim)
        if claims[0] is claim:
            self._send.drop()

    # Nobody else has it any more. Whoever decided has done it, or was interrupted.
    def __del__(self, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
        send: _Send | None = getattr(self, "_send", None)
        if send is not None and not _ending():
            try:
                send.drop()
            except BaseException:
                send.drop()
                raise

    def __repr__(self) -> str:
        return f"<Prepared: {len(self.deliveries)} deliveries>"


class _Send(Protocol):
    """The deliveries of one send, held back."""

    def submit(self, claim: object) -> None: ...
    def drop(self) -> None: ...
    def is_held(self) -> bool: ...


def prepare(executor: Executor, live: Live, sending: Sending) -> Prepared:
    """Hold back what ``_dispatch.deliver`` would hand over."""
    if not page[0]:
        notice()
    prepared = object.__new__(Prepared)
    prepared.deliveries = Deliveries()
    prepared._claims = []
    sending.queued_at = time.perf_counter()
    if isinstance(executor, WorkerPool):
        prepared._send = _InPool(executor, live, sending, prepared.deliveries)
    else:
        prepared._send = _Elsewhere(executor, live, sending, prepared.deliveries)
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


class _InPool:
    """Held back from a ``WorkerPool``."""

    def __init__(
        self, pool: WorkerPool, live: Live, sending: Sending, deliveries: Deliveries
    ) -> None:
        engine = pool._engine
        self.pool = pool  # which must not close for want of a reference
        self.works: list[Held] = []
        for row, receiver in live:
            work = _hold(engine, row._terms, receiver, sending)
            self.works.append(work)
            deliveries.append((receiver, work))
        self.works.sort(key=lambda work: work._on_loop)  # the engine wants those last
        for work in self.works:
            engine.prepared[work] = None
            if work._gate is not None:
                work._gate.enqueue(work)

    def is_held(self) -> bool:
        return any(work._held and not work.done() for work in self.works)

    def submit(self, claim: object) -> None:
        if not page[0]:
            notice()
        engine = self.pool._engine
        works: list[Held] = []
        try:
            for work in self.works:
                if not work.done() and work._decide(claim):
                    works.append(work)
            if works:
                if works[-1]._on_loop:
                    from tsignals._loop import ensure_loop

                    engine.refuse_if_not_open()
                    ensure_loop(engine)
                engine.accept(works)
                _let_go(works)
        except BaseException as error:
            try:
                self._make_good(engine, works, claim, error)
            except BaseException:  # interrupted once more
                self._make_good(engine, works, claim, error)
                raise
            if _interrupts(error):
                raise

    def _make_good(
        self, engine: Engine, works: Sequence[Held], claim: object, error: BaseException
    ) -> None:
        """All of ``works`` are queued, or none: then they fail, or may be submitted again."""
        if any(work in engine.unresolved or work._owner is not None for work in works):
            _let_go(works)
        elif _interrupts(error):
            for work in self.works:
                if work._claims[:1] == [claim]:
                    work._claims = []  # H1
        else:
            _fail(works, error)

    def drop(self) -> None:
        if not page[0]:
            notice()
        cell = self.pool._engine.cell
        mark: Mark = ("dropped", threading.get_ident())
        works: list[Held] = []
        counted = False
        try:
            works = [work for work in self.works if not work.done() and work._decide(mark)]
            if works:
                cell.update(_state.drop_new, len(works))
                counted = True
                _resolve(works, mark, _dropped())
        except BaseException:  # interrupted, or by a callback: what is left is done again
            works = [work for work in self.works if work._decide(mark)]
            if works and not counted:
                cell.update(_state.drop_new, len(works))
            _resolve(works, mark, _dropped())
            raise
        cell.raise_interrupt()


def _hold(engine: Engine, terms: Terms, receiver: Receiver, sending: Sending) -> Held:
    kind: Any = HeldDelivery
    if terms.on_loop:
        from tsignals._loop import HeldAsyncDelivery as kind  # imports asyncio

    work: Held = kind(engine, receiver, sending, terms.ordered, terms.gate)
    work._claims = []
    work._held = True
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


def _fail(works: Sequence[Held], error: BaseException) -> None:
    """Tell of each that it could not be queued, and resolve it."""
    # Its frames have the deliveries, which will have it: a cycle. The message says all there is.
    BaseException.with_traceback(error, None)
    mark: Mark = ("failed", threading.get_ident())
    interrupt: BaseException | None = None
    for work in works:
        try:
            if not work.done():
                work._tell_unsent(error)
        except BaseException as raised:
            interrupt = unless_own(raised) or interrupt
    _resolve(works, mark, error)
    if interrupt is not None:
        raise interrupt


def _interrupts(error: BaseException) -> bool:
    """Whether it came from outside, or left no room to tell: it is no failure of the admission."""
    kind = type(error)
    return not issubclass(kind, Exception) or kind is RecursionError or came_by_signal(error)


def _dropped() -> DeliveryDropped:
    return DeliveryDropped("it was prepared, and dropped before anybody submitted it")


class Elsewhere(Future[Any]):
    """Stands in for the future of another executor, which makes that later."""

    def __init__(self) -> None:
        super().__init__()
        self._claims: list[object] = []
        self._own: Future[Any] | None = None  # the executor's

    def decide(self, claim: object) -> bool:
        claims = self._claims
        claims.append(claim)
        return claims[0] is claim

    def cancel(self) -> bool:
        if self.decide(object()):
            return self.become_cancelled()
        own = self._own
        return self.cancelled() or (own is not None and own.cancel())

    def running(self) -> bool:
        return not self.done() and (own := self._own) is not None and own.running()

    def become_cancelled(self) -> bool:
        super().cancel()
        return self.set_running_or_notify_cancel() is False

    def follow(self, own: "Future[Any]") -> None:
        """Be what ``own``, the executor's future, is and will be."""
        self._own = own
        own.add_done_callback(self._end)

    def _end(self, own: "Future[Any]") -> None:
        self._own = None
        if own.cancelled():
            self.become_cancelled()
        elif (error := own.exception(0)) is not None:
            self.set_exception(error)
        else:
            self.set_result(own.result(0))


class _Elsewhere:
    """Held back from another executor."""

    def __init__(
        self, executor: Executor, live: Live, sending: Sending, deliveries: Deliveries
    ) -> None:
        refuse_ordered(executor, live, sending)
        self.executor = executor
        self.sending = sending
        self.process = _process.here[0]
        self.calls: list[tuple[Elsewhere, Terms, Receiver]] = []
        for row, receiver in live:
            future, gate = Elsewhere(), row._terms.gate
            self.calls.append((future, row._terms, receiver))
            deliveries.append((receiver, cast(Delivery, future)))
            if gate is not None:
                gate.enqueue(future)
                future.add_done_callback(gate.dequeue)

    def is_held(self) -> bool:
        return any(future._own is None and not future.done() for future, _, _ in self.calls)

    def submit(self, claim: object) -> None:
        if self.process is not _process.here[0]:
            self.drop(DeliveryLost("it was prepared in the parent of this process"))
            return
        for future, terms, receiver in self.calls:
            try:
                if future.decide(claim):
                    future.follow(submit_elsewhere(self.executor, terms, receiver, self.sending))
            except BaseException:  # interrupted: this one and those after it wait
                if future._own is None and not future.done():
                    future._claims = []
                raise

    def drop(self, error: BaseException | None = None) -> None:
        claim = object()
        for future, _, _ in self.calls:
            if future.decide(claim):
                with contextlib.suppress(Exception):  # done by now, where this is done again
                    future.set_exception(error or _dropped())
