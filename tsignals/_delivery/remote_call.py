"""A receiver's call for an executor that is no ``WorkerPool``, wherever that runs it, and its end.

The sender's context, and the gate of a tracked receiver, stay in this process. A receiver that runs
here has its failure told before its future shows it; of one that runs in another process, or in
another interpreter, a callback of the future tells.
"""

import contextlib
import contextvars
import functools
import pickle
import sys
import time
import traceback
from concurrent.futures import CancelledError, Future
from typing import cast

from tsignals._base.around import Around, surrounded
from tsignals._base.definition import name_of
from tsignals._base.interrupts import outcome_of, raised_by
from tsignals._base.log import is_interrupt, log_untold, show
from tsignals._calling.general import ignore, target_for
from tsignals._calling.tracked_call import Call, enclosing
from tsignals._calling.tracking import Gate
from tsignals._calling.types import Receiver
from tsignals._delivery.delivery import GeneralSend
from tsignals._registry.receiver import Background, unwrap


class RemoteCall:
    """A receiver's call, which the executor may pickle."""

    def __init__(
        self, receiver: Receiver, send: GeneralSend, call: Call | None, is_async: bool
    ) -> None:
        # Not the function behind ``background``, which is not found under its own name.
        self.target = receiver if send._target is None else send._target
        self.is_async = is_async
        self.arguments = send._arguments
        self.keywords = send._keywords_for(send)
        self.context: contextvars.Context | None = send._context.copy()
        self.failed = FailureReport(receiver, send, self.context)
        self.call = call
        self.watch = send.watch_for(receiver)
        self.queued_at = time.perf_counter()
        self.around: Around | None = None
        self.void = False  # who made it was interrupted, and may do it again
        self.interrupts: list[BaseException] = []  # of the telling

    def __call__(self) -> object:
        if self.context is None:
            return self._call_elsewhere()
        if self.void:
            raise CancelledError
        if self.call is not None:
            self.call.begin()
            if self.call.void:
                raise CancelledError
            if self.is_async:
                self.context.run(enclosing.set, (self.call,))
        target = target_for(self._surrounded, self.watch, None, ignore, self.queued_at)
        response, error = outcome_of(functools.partial(self.context.run, target))
        try:
            if error is None:
                return response
            self.failed.tell(error)  # of who observes, if it was not told of inside
            self._raise_interrupt()
            raise error
        finally:
            del error  # or the traceback, this frame and the error form a cycle

    def _surrounded(self) -> object:
        """Call it inside of ``around``, and have its failure told there: see ``around``."""
        tell = functools.partial(self._tell, time.perf_counter())
        around = self.around or contextlib.nullcontext
        response, error = surrounded(around, tell, self.interrupts.append, self._call, (), {})
        try:
            if error is not None:
                raise error
            return response
        finally:
            del error  # as above

    def _raise_interrupt(self) -> None:
        """Raise what has interrupted the telling; if that is nobody's wish, it is logged."""
        while self.interrupts:
            error = self.interrupts.pop()
            try:
                if is_interrupt(error):
                    raise error
                log_untold(error, BaseException)
            finally:
                del error  # as above

    def _tell(self, began: float, error: BaseException) -> None:
        self.failed.tell(error, time.perf_counter() - began)

    def _call(self) -> object:
        if not self.is_async:
            return unwrap(self.target)(*self.arguments, **self.keywords)
        from tsignals._calling import asynchronous

        return asynchronous.respond_now(unwrap(self.target), self.arguments, self.keywords)

    def _call_elsewhere(self) -> object:
        response, error = outcome_of(self._call)
        try:
            if error is None:
                why = _kept_from_arriving(response)
                if why is None:
                    return response
                raise self._cannot_be_sent(f"returned a {type(response).__qualname__!r}", why)
            if (why := _kept_from_travelling(error)) is not None:
                lines, _ = outcome_of(traceback.format_exception, error)
                error = self._cannot_be_sent(f"raised {show(error)}", why)
                error.add_note("".join(lines or ["(its traceback cannot be shown)"]))
            raise error
        finally:
            del error  # as above

    def _cannot_be_sent(self, what: str, why: str) -> RuntimeError:
        return RuntimeError(
            f"receiver {name_of(self.target)} {what}, which cannot be sent back to the process "
            f"or interpreter of the sender: {why}"
        )

    def __getstate__(self) -> dict[str, object]:
        if self.watch is not None:
            self.watch.is_elsewhere = True
        target = self.target
        if issubclass(type(target), Background):
            target = cast(Background, target).portable
        here_only = {"context": None, "failed": None, "call": None, "watch": None}
        return {**self.__dict__, "target": target, **here_only}


def _kept_from_travelling(error: BaseException) -> str | None:
    """What keeps it from being sent back: the executor would break, for all that it was given.

    It is pickled, unpickled, and executors set its traceback and its cause. Before CPython 3.14
    they take one that is false for none.
    """
    try:
        if sys.version_info < (3, 14) and not error:
            return "it is false, and would be taken for none"
        error.__traceback__ = error.__traceback__
        pickle.loads(pickle.dumps(error)).__cause__ = None
    except Exception as why:
        return show(why)
    return None


def _kept_from_arriving(response: object) -> str | None:
    """What keeps it from being unpickled: again the executor would break, for all.

    Of what cannot be pickled executors say so themselves, and some pickle more than ``pickle``.
    """
    if type(response) in _ARRIVE:
        return None
    try:
        pickled = pickle.dumps(response)
    except Exception:
        return None
    try:
        pickle.loads(pickled)
    except Exception as why:
        return show(why)
    return None


_ARRIVE = frozenset({type(None), bool, int, float, str, bytes})


class FailureReport:
    """Tells that a receiver has failed elsewhere: whoever hears of it first, and nobody else."""

    def __init__(self, receiver: Receiver, send: GeneralSend, context: contextvars.Context) -> None:
        self.receiver = receiver
        self.untold = [(send, context)]  # whoever takes it out tells, in one step

    def forget(self) -> None:
        """There is nothing to tell; the future keeps its callbacks."""
        self.untold.clear()

    def tell(self, error: BaseException, ran: float = 0.0) -> None:
        try:
            send, context = self.untold.pop()
        except IndexError:
            return
        # A copy: an executor may resolve what still runs.
        about = context.copy(), self.receiver, error, ran
        raised = raised_by(send.report_in, *about)
        try:
            if raised is not None:
                if is_interrupt(raised):
                    raise raised
                log_untold(raised, BaseException)  # the future holds the receiver's own
        finally:
            del raised, about, error  # or the traceback, this frame and the error form a cycle


class AfterCall:
    """What follows when a delivery elsewhere has ended: the gate, and the telling."""

    def __init__(self, gate: Gate | None, call: Call | None, failed: FailureReport) -> None:
        self.gate = gate
        self.call = call
        self.failed = failed

    def __call__(self, future: "Future[object]") -> None:
        if self.gate is not None and self.call is not None:
            self.gate.dequeue(future)
            self.gate.leave(self.call)
        error = None if future.cancelled() else future.exception(0)
        try:
            if error is None:
                self.failed.forget()
            else:
                self.failed.tell(error)
        finally:
            del error  # as above
