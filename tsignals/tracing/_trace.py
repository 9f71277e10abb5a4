"""A trace, as its users see it: a block, and what was recorded of it."""

import itertools
import os
import queue
from time import perf_counter_ns
from typing import Self

from tsignals._base.inbox import Inbox
from tsignals._base.timeouts import deadline_in, left_until, seconds
from tsignals.observing import Observation, observe
from tsignals.tracing._chrome import write
from tsignals.tracing._recording import Recording, forget_tasks, here
from tsignals.tracing._records import Send
from tsignals.tracing._tree import tree

_numbers = itertools.count(1)
_going_on: "dict[int, Trace]" = {}


class Trace:
    """What ``trace()`` returns: a context manager, and what it has recorded.

    ``str()`` of it is a tree. It keeps the signals alive that were sent, and nothing else. It
    records one block: ``RuntimeError`` at a second one.

    Thread safety: everything from any thread, also while it goes on.
    """

    def __init__(self) -> None:
        self._number = next(_numbers)
        self._recording = Recording(self._number, self.close)
        self._observation: Observation | None = None
        self._closed = False
        self._over: Inbox[bool] = Inbox()  # which signal handlers may use
        self._started_ns = perf_counter_ns()

    def __enter__(self) -> Self:
        if self._observation is not None:
            raise RuntimeError("a trace records one block; call trace() once more for another")
        self._started_ns = perf_counter_ns()
        self._observation = observe(self._recording)
        _going_on[self._number] = self
        traces, send, place = here.get()
        here.set(((*traces, self._number), send, place))
        return self

    def __exit__(self, *error: object) -> None:
        # Not a reset: the block may end in another context, as those of generators do.
        traces, send, place = here.get()
        here.set((tuple(n for n in traces if n != self._number), send, place))
        self._recording.exit()

    # -- What was recorded --

    @property
    def sends(self) -> list[Send]:
        """All sends, in the order in which they began; a new list."""
        return list(self._recording.sends.values())

    @property
    def roots(self) -> list[Send]:
        """Those of them that no recorded call has made."""
        return [send for send in self.sends if send.parent is None]

    @property
    def unheard(self) -> list[str]:
        """The names of the signals that were sent and that nobody heard, each once."""
        signals = {id(send.signal): send for send in self.sends if not send.heard}
        return [send.name for send in signals.values()]

    def to_chrome(self, path: "str | os.PathLike[str]") -> None:
        """Write it in the Trace Event Format, which Perfetto (ui.perfetto.dev) opens.

        What is under way is drawn as if it ended now. Raises ``OSError`` where that fails.
        """
        with open(path, "w", encoding="utf-8") as file:
            write(self.sends, self._started_ns, file)

    def __str__(self) -> str:
        recording = self._recording
        return tree(self.roots, recording.exited and not recording.under_way)

    def __repr__(self) -> str:
        count = len(self._recording.sends)
        return f"<Trace of {count} sends, {'over' if self.over else 'going on'}>"

    # -- Its end --

    @property
    def over(self) -> bool:
        """Whether the block has ended, and all that it has caused."""
        return self._closed

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the trace is over; whether it is. ``timeout``: seconds; ``None`` for ever.

        Not in the block, nor in a receiver that is traced: those are what it waits for. Raises
        ``TypeError`` for what is no number, and ``ValueError`` for NaN.
        """
        left = left_until(deadline_in(seconds(timeout)))
        try:
            said = self._over.get(timeout=left)
        except queue.Empty:
            return False
        self._over.put(said)  # for the next who asks
        return True

    def close(self) -> None:
        """Record nothing more, also of what is under way; twice does no harm."""
        _going_on.pop(self._number, None)
        if self._observation is not None:
            self._observation.close()
        self._recording.forget()
        self._closed = True
        self._over.put(True)


def _end_in_child() -> None:
    """After a fork: what goes on, goes on in the parent."""
    for trace in list(_going_on.values()):
        trace.close()
    forget_tasks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_in_child)
