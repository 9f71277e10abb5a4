"""Runs what a signal handler would run, at every point where CPython may run one.

CPython looks for signals where a function begins, where a loop turns back, and after a call of
something that is not written in Python.
"""

import dis
import gc
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Self

import tsignals

PACKAGE = tsignals.__path__[0]
STANDARD = (threading.__file__,)


class Handler:
    """Calls ``handle()`` at the ``at``-th point of this thread's code under test."""

    def __init__(self, at: int, handle: Callable[[], object]) -> None:
        self.at = at
        self.handle = handle
        self.points = 0
        self.where = ""
        self._thread = threading.get_ident()
        self._aside: FrameType | None = None
        self._last: dict[FrameType, str] = {}
        self._called: set[FrameType] = set()

    @property
    def reached(self) -> bool:
        return self.where != ""

    def __enter__(self) -> Self:
        gc.disable()  # what an interrupt in a finalizer does is another matter
        if sys.version_info < (3, 12):
            sys.settrace(self._trace)
        else:  # not settrace, which sees only what was never run before it was switched on
            watch(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> bool | None:
        if sys.version_info < (3, 12):
            sys.settrace(None)
        else:
            watch(None)
        gc.enable()
        return None

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        frame.f_trace_opcodes = True
        if event == "call":
            self.start(frame)
        elif event == "opcode":
            self.step(frame, frame.f_lasti)
        elif event == "return":
            self.end(frame)
        return self._trace

    def start(self, frame: FrameType) -> None:
        if threading.get_ident() == self._thread and self._aside is None:
            if frame.f_code.co_name == "__del__":
                self._aside = frame  # what is raised in there goes nowhere
            elif frame.f_back is not None and frame.f_code.co_name != "__init__":
                self._called.add(frame.f_back)  # returning from it is no such point
            self._last[frame] = "RESUME"

    def end(self, frame: FrameType) -> None:
        self._last.pop(frame, None)
        if frame is self._aside:
            self._aside = None

    def step(self, frame: FrameType, offset: int) -> None:
        if threading.get_ident() != self._thread or self._aside is not None or self.reached:
            return
        last = self._last.get(frame, "")
        name = dis.opname[frame.f_code.co_code[offset]]
        if name == "RESUME":
            return
        self._last[frame] = name
        called = frame in self._called
        self._called.discard(frame)
        if frame.f_code.co_name == "refuse_if_deep" or not under_test(frame.f_code):
            return
        if name == "PUSH_EXC_INFO":  # the call has raised, and raising here upsets the interpreter
            return
        if last in ("RESUME", "JUMP_BACKWARD") or (last.startswith("CALL") and not called):
            self.points += 1
            if self.points == self.at:
                self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno} after {last}"
                self.handle()


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


def under_test(code: CodeType) -> bool:
    return code.co_filename.startswith((PACKAGE, *STANDARD))


def watch(handler: Handler | None) -> None:
    """Have the handler told of what this process executes."""
    monitoring = sys.monitoring
    events, tool = monitoring.events, 4
    if handler is None:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
        return

    def started(code: CodeType, offset: int) -> None:
        handler.start(sys._getframe(1))

    def ended(code: CodeType, offset: int, value: object) -> None:
        handler.end(sys._getframe(1))

    def before(code: CodeType, offset: int) -> Any:
        if not under_test(code):
            return monitoring.DISABLE
        handler.step(sys._getframe(1), offset)
        return None

    monitoring.use_tool_id(tool, "points")
    monitoring.restart_events()
    monitoring.register_callback(tool, events.PY_START, started)
    monitoring.register_callback(tool, events.PY_RETURN, ended)
    monitoring.register_callback(tool, events.PY_UNWIND, ended)
    monitoring.register_callback(tool, events.INSTRUCTION, before)
    wanted = events.PY_START | events.PY_RETURN | events.PY_UNWIND | events.INSTRUCTION
    monitoring.set_events(tool, wanted)
