"""Executors that run deliveries in the thread of the test."""

import functools
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from tsignals._base.event_loops import loop_runs_here
from tsignals._base.overrides import DeliveryInfo, TakesDeliveries
from tsignals.testing._scope import Scope, name_of_receiver, name_of_signal

P = ParamSpec("P")
T = TypeVar("T")


class LocalDelivery(Future[object]):
    """The delivery of one receiver, as ``tsignals.Delivery``; or a call that was submitted."""

    def __init__(self, call: Callable[[], object], info: DeliveryInfo) -> None:
        super().__init__()
        self.signal: object = info.signal
        self.sender: object = info.sender
        self.receiver: object = info.receiver
        self._calls = [call]  # who takes it out runs it, or has cancelled it
        self._is_async = info.is_async
        self.lane: Hashable = info.lane

    def cancel(self) -> bool:
        """Cancel it, unless it runs or has ended."""
        cancelled = super().cancel()
        if cancelled and self._take() is not None:
            self.set_running_or_notify_cancel()  # nobody else will
        return cancelled

    @property
    def waits(self) -> bool:
        """Whether nobody has begun to run it, or cancelled it."""
        return bool(self._calls)

    def run(self) -> bool:
        """Run it in this thread; False where it was cancelled, or another thread runs it.

        Raises Ctrl-C, and nothing else.
        """
        call = self._take()
        if call is None or not self.set_running_or_notify_cancel():
            return False
        try:
            result = _in_own_thread(call) if self._is_async and loop_runs_here() else call()
        except BaseException as error:  # whatever a receiver raises is its delivery's
            self.set_exception(error)
            if isinstance(error, KeyboardInterrupt):
                raise
        else:
            self.set_result(result)
        finally:
            del call, self  # or a traceback, this frame and the delivery form a cycle
        return True

    def _take(self) -> Callable[[], object] | None:
        try:
            return self._calls.pop()
        except IndexError:
            return None

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "finished" if self.done() else "pending"
        state = "running" if self.running() else state
        name = name_of_receiver(self.receiver)
        of = "" if self.signal is None else f" for signal {name_of_signal(self.signal)}"
        return f"<delivery of {name}{of}, {state}>"


def _in_own_thread(call: Callable[[], object]) -> object:
    outcome: Future[object] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="tsignals-inline", daemon=True)
    thread.start()
    thread.join()
    return outcome.result()


class LocalExecutor(TakesDeliveries):
    """What ``inline`` and ``Steps`` have in common: plain calls are taken like deliveries."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """As any executor's."""
        call = functools.partial(fn, *args, **kwargs)
        return self.take(call, DeliveryInfo(None, None, fn, False, None))  # type: ignore[return-value]


class Takes(Scope):
    """An executor takes all deliveries that are sent under it."""

    def __init__(self, taker: TakesDeliveries) -> None:
        self.taker = taker
        super().__init__()

    def _clear(self) -> None:
        self.taker = None
