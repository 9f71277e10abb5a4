"""Depth first through all schedules with few preemptions, without those that must be alike.

A schedule is told by where it deviates from the default: go on with the running thread, and when
that blocks or ends with the first one that can run. A preemption *before* a bytecode that touches
nothing but its own frame is left out: nobody can tell it from one before the next bytecode.
"""

import dis
from types import CodeType
from typing import Any

import interleave_test

# They read the thread's own variables and stack, push what is immortal, and drop nothing.
PRIVATE = frozenset(
    {
        "BUILD_LIST",
        "BUILD_TUPLE",
        "COPY",
        "JUMP_BACKWARD",
        "JUMP_FORWARD",
        "KW_NAMES",
        "LOAD_CONST",
        "LOAD_FAST",
        "LOAD_FAST_AND_CLEAR",
        "LOAD_FAST_CHECK",
        "LOAD_FAST_LOAD_FAST",
        "NOP",
        "POP_JUMP_IF_FALSE",
        "POP_JUMP_IF_NONE",
        "POP_JUMP_IF_NOT_NONE",
        "POP_JUMP_IF_TRUE",
        "PUSH_NULL",
        "RESUME",
        "SWAP",
    }
)

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
            if used > self._most or _is_private(getattr(current, "last_location", None)):
                return
        for thread in runnable:
            if thread is not default:
                self._found.append(((*self._deviations, (here, thread.tid)), used))

    def end(self) -> None:
        self._open += self._found
        self.exhausted = not self._open


_private_in: dict[CodeType, frozenset[int]] = {}


def _is_private(location: Any) -> bool:
    """Whether a thread stands before a bytecode that nobody else can notice."""
    if not isinstance(location, tuple) or location[0] != "i":
        return False
    _, code, offset = location
    if code not in _private_in:
        _private_in[code] = frozenset(
            instruction.offset
            for instruction in dis.get_instructions(code)
            if instruction.opname in PRIVATE
        )
    return offset in _private_in[code]
