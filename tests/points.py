"""Runs what a signal handler would run, at every point where CPython may run one.

CPython looks for signals where a function begins, where a loop turns back, and after a call of
something that is not written in Python.
"""

import contextlib
import dis
import gc
import os
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Self

import tsignals
from stress.bytecode import ENOUGH, hooked, watching

UNDER_TEST = (tsignals.__path__[0], threading.__file__)


STRIDE = int(os.environ.get("TSIGNALS_TEST_STRIDE", "1"))
"""A test takes one of so many points at which it would come in between."""
FIRST = 1 + sys.version_info.minor % STRIDE
"""So versions that follow each other take different ones, and all of them together all."""


class Handler:
    """Calls ``handle()`` at the ``at``-th point of this thread's code under test."""

    def __init__(self, at: int, handle: Callable[[], object]) -> None:
        self.at = at
        self.handle = handle
        self.points = 0
        self.where = ""
        self._watch = contextlib.ExitStack()
        self._aside: FrameType | None = None
        self._last: dict[FrameType, str] = {}
        self._called: set[FrameType] = set()

    @property
    def reached(self) -> bool:
        return self.where != ""

    def __enter__(self) -> Self:
        gc.disable()  # what an interrupt in a finalizer does is another matter
        self._watch.enter_context(watching(UNDER_TEST, frames=True))
        self._watch.enter_context(hooked(self.step, self.start, self.end))
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> bool | None:
        self._watch.close()
        self._last.clear()  # these frames know what was sent
        self._called.clear()
        gc.enable()
        return None

    def start(self, frame: FrameType) -> None:
        if self._aside is None:
            if frame.f_code.co_name in ("__del__", "_on_death"):
                self._aside = frame  # what is raised in there goes nowhere
            elif frame.f_back is not None and frame.f_code.co_name != "__init__":
                self._called.add(frame.f_back)  # returning from it is no such point
            self._last[frame] = "RESUME"

    def end(self, frame: FrameType) -> None:
        self._last.pop(frame, None)
        if frame is self._aside:
            self._aside = None

    def step(self, frame: FrameType, offset: int) -> object:
        if self.reached:
            return ENOUGH
        if self._aside is not None:
            return None
        last = self._last.get(frame, "")
        name = that_matter(frame.f_code).get(offset)
        if name is None:
            return ENOUGH
        if name == "RESUME":
            return None
        self._last[frame] = name
        called = frame in self._called
        self._called.discard(frame)
        if frame.f_code.co_name == "refuse_if_deep":
            return None
        if name == "PUSH_EXC_INFO":  # the call has raised, and raising here upsets the interpreter
            return None
        if last in ("RESUME", "JUMP_BACKWARD") or (last.startswith("CALL") and not called):
            self.points += 1
            if self.points == self.at:
                self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno} after {last}"
                self.handle()
        return None


class Interrupter(Handler):
    """Raises KeyboardInterrupt there, and keeps it from going further."""

    def __init__(self, at: int) -> None:
        super().__init__(at, self._interrupt)

    def _interrupt(self) -> None:
        raise KeyboardInterrupt

    @property
    def raised(self) -> bool:
        return self.reached

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> bool:
        super().__exit__(kind, *details)
        # The standard library may get into trouble with its own locks, on its way out.
        return kind is KeyboardInterrupt or (self.raised and kind is RuntimeError)


_matter: dict[int, tuple[CodeType, dict[int, str]]] = {}  # by id: code is hashed by its content


def that_matter(code: CodeType) -> dict[int, str]:
    """Those bytecodes of which points are made: where, and the name of each.

    They are what CPython looks for signals after, what comes then, and where handlers begin: who
    is told of these knows of each which one came before it.
    """
    known = _matter.get(id(code))
    if known is None:
        known = _matter[id(code)] = code, _that_matter(code)
    return known[1]


def _that_matter(code: CodeType) -> dict[int, str]:
    matter = dict[int, str]()
    targets = set[int]()
    before = ""
    for each in dis.get_instructions(code):
        name = each.opname
        if name == "NOP":  # it may be out of the ``try`` of the call before it, which no signal is
            continue
        if (
            name in ("RESUME", "JUMP_BACKWARD", "PUSH_EXC_INFO", "EXTENDED_ARG")
            or name.startswith("CALL")
            or before in ("RESUME", "EXTENDED_ARG")
            or before.startswith("CALL")
        ):
            matter[each.offset] = name
        if name == "JUMP_BACKWARD":
            targets.add(each.argval)
        before = name
    return matter | {each: dis.opname[code.co_code[each]] for each in targets}
