"""Where other threads stand: their stacks, read while they run."""

import re
import sys
import traceback
from collections.abc import Callable

from tsignals._base.log import show

_OWN_LOCKS = getattr(sys, "_is_gil_enabled", lambda: True)() and sys.version_info >= (3, 12)
"""Whether interpreters may hold a GIL each; without any, the threads of all are stopped."""
_THREAD = re.compile(  # a name may stand in between, and have lines of its own
    r"^(?:Current thread|Thread) 0x([0-9a-f]+) [^(]*?\(most recent call first\):\n((?:  .*\n)*)",
    re.MULTILINE,
)
_FRAME = re.compile(r'  File "(.*)", line (\d+) in (.*)')


def stack_of(thread: int) -> list[str]:
    """The stack of a thread, by its identifier, as ``traceback`` formats it; empty: not known.

    ``sys._current_frames`` reads the threads of all interpreters. Those that hold another GIL go
    on meanwhile, and the process may crash: then it is read from what ``faulthandler`` writes,
    which looks at this interpreter only, and at no more than a hundred threads.
    """
    if _OWN_LOCKS and _has_other_interpreters():
        return _written(thread)
    frame = sys._current_frames().get(thread)
    return [] if frame is None else traceback.format_stack(frame)


def text_of(read: Callable[[], list[str]]) -> str:
    """The stack that ``read()`` gives, or why it cannot be read: the thread goes on meanwhile."""
    try:
        return "".join(read())
    except Exception as error:
        return f"  (its stack cannot be read: {show(error)})\n"


def _has_other_interpreters() -> bool:
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    try:
        return len(__import__(name).list_all()) > 1
    except ImportError:  # pragma: no cover
        return False  # nothing here makes others


def _written(thread: int) -> list[str]:
    import faulthandler  # which other interpreters cannot import
    import tempfile

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        text = file.read()
    for identifier, lines in _THREAD.findall(text):
        if int(identifier, 16) == thread:
            frames = [(path, int(line), name, None) for path, line, name in _FRAME.findall(lines)]
            return traceback.StackSummary.from_list(frames[::-1]).format()
    return []
