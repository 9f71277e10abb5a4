"""Where other threads and tasks stand: their stacks, read while they run."""

import re
import sys
import traceback
from collections.abc import Iterator
from types import FrameType

from tsignals._base.event_loops import current_task
from tsignals._base.log import show

_OWN_LOCKS = getattr(sys, "_is_gil_enabled", lambda: True)() and sys.version_info >= (3, 12)
"""Whether interpreters may hold a GIL each; without any, the threads of all are stopped."""
_THREAD = re.compile(  # a name may stand in between, and have lines of its own
    r"^(?:Current thread|Thread) 0x([0-9a-f]+) [^(]*?\(most recent call first\):\n((?:  .*\n)*)",
    re.MULTILINE,
)
_FRAME = re.compile(r'  File "(.*)", line (\d+) in (.*)')
_waited_for: dict[int, object] = {}
"""By the thread that has an event loop run it, and waits for its end: a coroutine."""


class ThreadWaits:
    """``thread`` waits for the task that runs here: what started there stands where this does.

    The event loop may run in another thread, as those of frameworks do. Meanwhile these may have
    ``thread`` run something else, which waits likewise.
    """

    # No ``contextmanager``: see ``around``.

    def __init__(self, thread: int) -> None:
        self._thread = thread

    def __enter__(self) -> None:
        self._before = _waited_for.get(self._thread)
        self._coroutine = _waited_for[self._thread] = _current_coroutine()

    def __exit__(self, *raised: object) -> None:
        if _waited_for.get(self._thread) is not self._coroutine:
            return  # cancelled: what ``thread`` runs goes on
        if self._before is None:
            _waited_for.pop(self._thread, None)
        else:
            _waited_for[self._thread] = self._before


class Standing:
    """Where that stands which starts here and now: in its thread, or suspended in its task."""

    __slots__ = ("_coroutine", "_thread")

    def __init__(self, thread: int) -> None:
        self._thread = thread
        self._coroutine = _current_coroutine()

    def stack(self) -> list[str]:
        """Where it stands now, as ``traceback`` formats it; the innermost call last."""
        if suspended := _formatted(self._coroutine):
            return suspended
        called = stack_of(self._thread)
        if self._coroutine is None:
            called += _formatted(_waited_for.get(self._thread))
        return called

    def text(self, most: int = 0) -> str:
        """The innermost ``most`` calls of that, 0: all; or why it cannot be read: it goes on."""
        try:
            return "".join(self.stack()[-most:])
        except Exception as error:
            return f"  (its stack cannot be read: {show(error)})\n"


def _formatted(awaited: object) -> list[str]:
    """Where a coroutine waits; empty if it runs just now."""
    pairs = ((frame, frame.f_lineno) for frame in _suspended_in(awaited))
    return traceback.StackSummary.extract(pairs).format()


def _current_coroutine() -> object:
    """That of the task that runs here, if one does."""
    task = current_task()
    return None if task is None else task.get_coro()


def _suspended_in(awaited: object) -> Iterator[FrameType]:
    """The frames of a coroutine that waits, the innermost last; none if it runs just now."""
    frames = []
    while awaited is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(awaited, f"{kind}_frame", None)
            if frame is not None:
                if getattr(awaited, f"{kind}_running", False) and kind != "ag":
                    return
                frames.append(frame)
                awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:  # a future, or what has no frame of its own
            awaited = getattr(awaited, "gi_yieldfrom", None)
    yield from frames


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
