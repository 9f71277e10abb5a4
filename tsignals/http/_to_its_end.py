"""A task that goes on though it is cancelled: the end of an event loop cancels all there are."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import cast


class ToItsEnd:
    """To be awaited: ``coroutine``, which hears nothing of a cancellation of this task."""

    def __init__(self, coroutine: Coroutine[object, None, None]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[object, None, None]:
        try:
            while True:
                awaited = cast("asyncio.Future[object] | None", self._coroutine.send(None))
                while True:
                    try:
                        yield from _wait(awaited)
                        break
                    except asyncio.CancelledError:
                        if (task := asyncio.current_task()) is not None:
                            task.uncancel()
        except StopIteration:
            return
        finally:
            self._coroutine.close()


def _wait(awaited: "asyncio.Future[object] | None") -> Generator[object, None, None]:
    """Wait for it. A cancellation cancels a future of this, and not what the coroutine awaits."""
    if awaited is None:  # it lets others have a turn
        yield None
        return
    waiter: asyncio.Future[None] = awaited.get_loop().create_future()

    def wake(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    awaited.add_done_callback(wake)
    yield from waiter
