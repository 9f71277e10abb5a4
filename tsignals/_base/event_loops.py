"""Which event loop and task run here. Where asyncio is not imported, none does."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


def loop_runs_here() -> bool:
    """Whether this thread runs an event loop."""
    # Another thread may just import it, and have it half: then nothing runs a loop yet.
    running = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return running is not None and running() is not None


def current_task() -> "asyncio.Task[object] | None":
    """The task that runs in this thread, if one does."""
    if not loop_runs_here():
        return None
    task: asyncio.Task[object] | None = sys.modules["asyncio"].current_task()
    return task
