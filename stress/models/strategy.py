"""Depth first through all schedules with few preemptions, in little memory and little time.

A schedule is told by where it deviates from the default: go on with the running thread, and when
that blocks or ends with the first one that can run. The library's own search keeps a list of all
decisions for each schedule that is still to come, which are gigabytes where a pool is at work.

Nor is every decision worth asking for. Up to the next deviation the answer is the default, and
after the last preemption it is so before every bytecode; only where a thread blocks or ends there
may be a choice. So there the bytecodes are counted and nothing else, which takes a tenth of the
time.
"""

import gc
from collections.abc import Callable
from types import CodeType
from typing import Any

import interleave_test

from stress.bytecode import ENOUGH, stand_between

# After how many bytecodes a decision stands, and which of those since then it is; 0: before one.
Moment = tuple[int, int]
Deviations = tuple[tuple[Moment, int], ...]  # and the thread, in order

# A schedule that goes on for so many bytecodes after its last preemption is shown to the
# scheduler again: it may be one that never ends, and is to be torn down.
MANY = 100_000
COLLECT_EVERY = 200


class FewPreemptions(interleave_test.Strategy):  # type: ignore[misc,unused-ignore]
    """Every schedule with at most so many preemptions.

    ``interrupted`` says of a file whether its code may be interrupted. With ``only``, that schedule
    alone, in which the scheduler sees every decision and so can report all.
    """

    def __init__(
        self,
        preemptions: int,
        interrupted: Callable[[str], bool],
        only: Deviations | None = None,
    ) -> None:
        self._most = preemptions
        self._interrupted = interrupted
        self._all_shown = only is not None
        self._open: list[tuple[Deviations, int]] = [(only or (), 0)]
        self._files: dict[str, bool] = {}
        self.exhausted = False

    def more(self) -> bool:
        return bool(self._open)

    def begin(self, iteration: int, seed: int) -> None:
        if iteration % COLLECT_EVERY == 0:
            gc.collect()  # not in a run, where finalizers might make it unlike others
        self.deviations, self._used = self._open.pop()
        self._ahead = list(reversed(self.deviations))
        self._found: list[tuple[Deviations, int]] = []
        self._bytecodes = 0  # so far
        self._since = 0  # decisions since the last of them
        self._before_bytecode = False
        self._scheduler: Callable[[CodeType, int], object] | None = None
        self._show()

    def end(self) -> None:
        self._open += self._found
        self.exhausted = not self._open

    @property
    def diverged(self) -> bool:
        """Whether the last run was unlike the one in which its schedule was found."""
        return bool(self._ahead)

    # -- Which bytecodes the scheduler sees --

    def _show(self) -> None:
        """Settle from which bytecode on the scheduler is asked."""
        if self._all_shown:
            self._shown_from = 0
        elif self._ahead:
            (bytecodes, since), _ = self._ahead[-1]
            self._shown_from = bytecodes if since == 0 else bytecodes + 1
        elif self._used < self._most:
            self._shown_from = 0
        else:
            self._shown_from = self._bytecodes + MANY

    def _bytecode(self, code: CodeType, offset: int) -> object:
        """Called before each bytecode, in its thread; in the scheduler's place."""
        interrupted = self._files.get(code.co_filename)
        if interrupted is None:
            interrupted = self._files[code.co_filename] = self._interrupted(code.co_filename)
        if not interrupted:
            return ENOUGH
        self._bytecodes += 1
        self._since = 0
        if self._bytecodes < self._shown_from:
            return None
        self._before_bytecode = True
        assert self._scheduler is not None
        answer = self._scheduler(code, offset)
        self._before_bytecode = False
        return answer

    def _stand_between(self) -> None:
        self._scheduler = stand_between("interleave-test", self._bytecode)

    # -- Decisions --

    def observe(self, chosen: Any, index: int) -> None:
        """There was nothing to choose; so it is when a run begins."""
        if self._scheduler is None:
            self._stand_between()
        self._before_bytecode = False

    def pick(self, runnable: list[Any], current: Any, index: int) -> Any:
        if not self._before_bytecode:
            self._since += 1
        self._before_bytecode = False
        here = self._bytecodes, self._since
        default = current or min(runnable, key=lambda thread: thread.tid)
        if self._ahead:
            if self._ahead[-1][0] != here:
                return default
            _, wanted = self._ahead.pop()
            self._show()
            return next(thread for thread in runnable if thread.tid == wanted)
        used = self._used + (current is not None)
        if used <= self._most and not self._all_shown:
            for thread in runnable:
                if thread is not default:
                    self._found.append(((*self.deviations, (here, thread.tid)), used))
        return default
