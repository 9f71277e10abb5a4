"""Calls a hook before every bytecode that a thread executes of certain files."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any

Hook = Callable[[CodeType, int], None]
"""Gets the code and the offset of the bytecode; what it raises is raised there."""

_hooks: dict[int, Hook] = {}  # by thread


@contextlib.contextmanager
def watching(prefixes: tuple[str, ...]) -> Iterator[None]:
    """While inside, threads may use ``hooked`` for files whose names start with these."""
    if sys.version_info < (3, 12):
        _Tracer.prefixes = prefixes
        yield
        return
    # Not settrace: that sees bytecodes only of what was never run before it was switched on.
    monitoring = sys.monitoring
    tool = next(tool for tool in (4, 3, 5) if monitoring.get_tool(tool) is None)
    instruction = monitoring.events.INSTRUCTION

    def before(code: CodeType, offset: int) -> Any:
        if not code.co_filename.startswith(prefixes):
            return monitoring.DISABLE
        hook = _hooks.get(threading.get_ident())
        if hook is not None:
            hook(code, offset)
        return None

    monitoring.use_tool_id(tool, "stress")
    try:
        monitoring.restart_events()
        monitoring.register_callback(tool, instruction, before)
        monitoring.set_events(tool, instruction)
        yield
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, instruction, None)
        monitoring.free_tool_id(tool)


@contextlib.contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """Call ``hook`` before each bytecode of this thread, inside ``watching``."""
    if sys.version_info < (3, 12):
        sys.settrace(_Tracer(hook))
        try:
            yield
        finally:
            sys.settrace(None)
        return
    me = threading.get_ident()
    _hooks[me] = hook
    try:
        yield
    finally:
        _hooks.pop(me, None)


class _Tracer:
    prefixes: tuple[str, ...] = ()

    def __init__(self, hook: Hook) -> None:
        self._hook = hook

    def __call__(self, frame: FrameType, event: str, argument: object) -> "_Tracer | None":
        if not frame.f_code.co_filename.startswith(self.prefixes):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            self._hook(frame.f_code, frame.f_lasti)
        return self
