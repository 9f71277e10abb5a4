"""Depth first through all schedules with few preemptions, in little memory.

A schedule is told by where it deviates from the default: go on with the running thread, and when
that blocks or ends with the first one that can run. The library's own search keeps a list of all
decisions for each schedule that is still to come, which are gigabytes where a pool is at work.
"""

from typing import Any

import interleave_test

Deviations = tuple[tuple[int, int], ...]  # decision and thread, in order


class FewPreemptions(interleave_test.Strategy):  # type: ignore[misc,unused-ignore]
    """Every schedule with at most so many preemptions."""

    def __init__(self, preemptions: int) -> None:
        self._most = preemptions
        self._open: list[tuple[Deviations, int]] = [((), 0)]
        self.exhausted = False

    def more(self) -> bool:
        return bool(self._open)

    def begin(self, iteration: int, seed: int) -> None:
        self._deviations, self._used = self._open.pop()
        self._ahead = dict(self._deviations)
        self._count = 0
        self._found: list[tuple[Deviations, int]] = []

    def pick(self, runnable: list[Any], current: Any, index: int) -> Any:
        here = self._count
        self._count += 1
        wanted = self._ahead.pop(here, None)
        if wanted is not None:
            return next(thread for thread in runnable if thread.tid == wanted)
        default = current or min(runnable, key=lambda thread: thread.tid)
        if not self._ahead:
            self._branch(here, runnable, current, default)
        return default

    def _branch(self, here: int, runnable: list[Any], current: Any, default: Any) -> None:
        used = self._used
        if current is not None:
            used += 1
            if used > self._most:
                return
        for thread in runnable:
            if thread is not default:
                self._found.append(((*self._deviations, (here, thread.tid)), used))

    def end(self) -> None:
        self._open += self._found
        self.exhausted = not self._open
