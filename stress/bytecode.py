"""Tells of what a thread executes: before each bytecode, and where frames begin and end.

All that counts steps, interrupts between bytecodes or comes in between them stands on this.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

Step = Callable[[FrameType, int], object]
"""Gets the frame and the offset of the bytecode; what it raises is raised there. It may return
``ENOUGH``: this bytecode need not be told of again, to anybody.
"""
Look = Callable[[FrameType], object]

MONITORING: Any = getattr(sys, "monitoring", None)  # from Python 3.12 on
ENOUGH: Any = MONITORING.DISABLE if MONITORING else None


class _Hooks(NamedTuple):
    step: Step
    start: Look | None = None
    end: Look | None = None


_hooks: dict[int, _Hooks] = {}  # by thread


@contextlib.contextmanager
def watching(files: tuple[str, ...], frames: bool = False) -> Iterator[None]:
    """While inside, threads may be ``hooked``: to the bytecodes of files that start so.

    ``frames``: also to the beginnings and ends of frames, whatever their file.
    """
    if MONITORING is None:
        _Tracer.watched = files
        yield
        return
    # Not settrace: that sees bytecodes only of what was never run before it was switched on.
    events = MONITORING.events
    tool = next(tool for tool in (4, 3, 5) if MONITORING.get_tool(tool) is None)
    ident = threading.get_ident

    def before(code: CodeType, offset: int) -> Any:
        if not code.co_filename.startswith(files):
            return ENOUGH
        hooks = _hooks.get(ident())
        return None if hooks is None else hooks.step(sys._getframe(1), offset)

    def started(code: CodeType, offset: int) -> None:
        hooks = _hooks.get(ident())
        if hooks is not None and hooks.start is not None:
            hooks.start(sys._getframe(1))

    def ended(code: CodeType, offset: int, value: object) -> None:
        hooks = _hooks.get(ident())
        if hooks is not None and hooks.end is not None:
            hooks.end(sys._getframe(1))

    told: dict[int, Callable[..., Any]] = {events.INSTRUCTION: before}
    if frames:
        told |= {events.PY_START: started, events.PY_RETURN: ended, events.PY_UNWIND: ended}
    MONITORING.use_tool_id(tool, "stress")
    try:
        MONITORING.restart_events()
        for event, callback in told.items():
            MONITORING.register_callback(tool, event, callback)
        MONITORING.set_events(tool, sum(told))
        yield
    finally:
        MONITORING.set_events(tool, 0)
        for event in told:
            MONITORING.register_callback(tool, event, None)
        MONITORING.free_tool_id(tool)


@contextlib.contextmanager
def hooked(step: Step, start: Look | None = None, end: Look | None = None) -> Iterator[None]:
    """Have this thread call these, inside ``watching``; not of what they do themselves."""
    hooks = _Hooks(step, start, end)
    if MONITORING is None:
        with _Tracer(hooks, _Tracer.watched):
            yield
        return
    me = threading.get_ident()
    _hooks[me] = hooks
    try:
        yield
    finally:
        _hooks.pop(me, None)


@contextlib.contextmanager
def stepping(step: Step, files: tuple[str, ...]) -> Iterator[None]:
    """Have this thread call ``step`` before each bytecode of these files: frames that begin now.

    It begins and ends in less time than ``watching``, and sees all only from the second time on
    that something runs in it.
    """
    with _Tracer(_Hooks(step), files):
        yield


def count(act: Callable[[], object], files: tuple[str, ...]) -> int:
    """How many bytecodes of these files ``act()`` is; it has run in here before."""
    counted = 0

    def step(frame: FrameType, offset: int) -> None:
        nonlocal counted
        counted += 1

    with stepping(step, files):
        act()
    return counted


class _Tracer:
    """What ``settrace`` calls."""

    watched: tuple[str, ...] = ()

    def __init__(self, hooks: _Hooks, files: tuple[str, ...]) -> None:
        self._hooks, self._files = hooks, files

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self)

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def __call__(self, frame: FrameType, event: str, argument: object) -> "_Tracer | None":
        ours = frame.f_code.co_filename.startswith(self._files)
        step, start, end = self._hooks
        if not ours and start is None:
            return None
        if ours:
            frame.f_trace_opcodes = True  # at each event: CPython may forget it of the first
        if event == "opcode":
            step(frame, frame.f_lasti)
        elif event == "call" and start is not None:
            start(frame)
        elif event == "return" and end is not None:
            end(frame)
        return self


def stand_between(tool_name: str, callback: Callable[[CodeType, int], object]) -> Any:
    """Have ``callback`` told of bytecodes in the place of what another tool has; return that."""
    [tool] = [tool for tool in range(6) if MONITORING.get_tool(tool) == tool_name]
    return MONITORING.register_callback(tool, MONITORING.events.INSTRUCTION, callback)
