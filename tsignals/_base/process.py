"""The process this is: what a fork changes, which interpreter runs here, how its threads start.

A fork made in C runs Python's hooks only where its author saw to that; a web server written in C
may not. Then a pool believes in workers that the child does not have. So ``page`` is memory that
the kernel empties in every child. Who uses what a fork changes looks there first (``notice``),
which takes no system call; whatever is made in the child is thus made after the fork was noticed.
From CPython 3.13 on that is enough only where no thread of the parent waited: the interpreter's own
list of who waits then leads to stacks that are no more.

Lock
    None. Of several threads that notice, the one that entered itself first does what is to be
    done, and the others wait for it. A signal handler on its thread does not: to that, the fork is
    being noticed.
"""

import _thread
import contextvars
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import mmap


class Process:
    """A process, as far as a fork has made it: of which one, in which thread."""

    __slots__ = ("parent", "thread")

    def __init__(self, parent: "Process | None" = None, thread: int = 0) -> None:
        self.parent = parent
        self.thread = thread  # 0: not known


here: list[Process] = [Process()]
"""Not the pid, which takes a system call: another object in each process."""

_in_child: list[Callable[[], object]] = []
_noticing: dict[int, list[int]] = {}  # by process id: the thread that does what is to be done


def _wiped_on_fork() -> "mmap.mmap | bytearray":
    """A byte that is 1, and 0 in a forked child; always 1 where the system has no such memory."""
    if sys.platform == "linux":
        try:
            import mmap

            page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            page.madvise(18)  # MADV_WIPEONFORK, for which Python has no name
            page[0] = 1
            return page
        except (ImportError, AttributeError, OSError, ValueError):  # pragma: no cover
            pass
    return bytearray(b"\x01")


page = _wiped_on_fork()


def in_child(function: Callable[[], object]) -> None:
    """Have ``function()`` called in a forked child, after those that were named before."""
    _in_child.append(function)


def goes_on(thread: int, process: object) -> bool:
    """Whether what ``thread`` was in in ``process`` goes on in this one: each fork copies one."""
    each = here[0]
    while each is not process:
        if each.parent is None or each.thread != thread:
            return False
        each = each.parent
    return True


def notice() -> None:  # pragma: no cover - in children of forks that are made in C
    """Do what a fork asks for, if nobody has; for who finds ``page[0]`` to be 0."""
    process, entry = os.getpid(), [threading.get_ident()]
    while not page[0]:
        try:
            try:
                first = _noticing.setdefault(process, entry)
                if first is entry and not page[0]:
                    _after_fork(0)  # another one may have forked
            finally:
                _withdraw(process, entry)
        finally:
            _withdraw(process, entry)  # once more: that may have been interrupted
        if first is not entry:
            if first == entry:
                return
            time.sleep(0.001)  # another thread is about to have done it


def _withdraw(process: int, entry: list[int]) -> None:  # pragma: no cover - as above
    if _noticing.get(process) is entry:
        del _noticing[process]


def _after_fork(thread: int) -> None:
    here[0] = Process(here[0], thread)
    for function in _in_child:
        function()
    if not page[0]:  # what never changes cannot be written to
        page[0] = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _after_fork(threading.get_ident()))


def in_main_interpreter() -> bool:
    """Whether this is the first of the interpreters that may share the process."""
    asks = getattr(_thread, "_is_main_interpreter", None)  # an import that fails may lose a Ctrl-C
    if asks is not None:
        return bool(asks())
    try:  # CPython 3.11  # pragma: no cover
        interpreters = __import__("_xxsubinterpreters")
    except ImportError:
        return True  # nothing here makes others
    return bool(interpreters.get_current() == interpreters.get_main())


def empty_context() -> dict[str, Any]:
    """What makes a ``Thread`` start in an empty context, which from 3.14 on is no matter of course.

    Some interpreters give it the context of whoever starts it, to keep as long as it lives.
    """
    return {"context": contextvars.Context()} if sys.version_info >= (3, 14) else {}
