"""``receiver_failed``: the signal of failures that nobody would see."""

from tsignals._base import overrides
from tsignals._calling.failures import sent_by
from tsignals._calling.general import call_each_robust
from tsignals._calling.outcomes import Failure
from tsignals._calling.sends import begin
from tsignals._calling.types import Named
from tsignals._signal import Signal

receiver_failed = Signal(["failure"], name="tsignals.receiver_failed")
"""Sent when a receiver has failed where nobody would see it; the sender is the signal.

Its receivers are called where that happens, and none may be async: ``connect`` refuses these with
``TypeError``. An ``async def`` function under ``background`` is welcome.
"""
# Failures are reported where they happen, on event loops too, where nobody can await.
receiver_failed._registry.refuses_async = True


@sent_by
def _send(failure: Failure) -> None:
    if failure.signal is receiver_failed:
        return  # of its own receivers, failures are only logged
    heard = receiver_failed.has_listeners(failure.signal)
    if heard or overrides.is_captured(receiver_failed):
        values: Named = {"failure": failure}
        live = begin(receiver_failed, failure.signal, values, "receiver_failed")
        call_each_robust(live, receiver_failed, failure.signal, values, "receiver_failed")
