"""A WSGI application that sends in the background; ``test_gunicorn`` serves it."""

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from tsignals import Signal, get_default_executor, receiver

visited = Signal(name="visited")
forked = threading.Event()
os.register_at_fork(after_in_parent=forked.set)


@receiver(visited)
def note(n: str, wait: bool = False, **named: Any) -> None:
    if wait:
        forked.wait(20)
    line = f"{n} {os.getpid()} {threading.current_thread().name}\n"
    with open(os.environ["NOTES"], "a") as file:
        file.write(line)


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    n = environ["QUERY_STRING"]
    visited.send_async(None, n=n)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{n} {os.getpid()}".encode()]


# With --preload, this is the master: its pool is busy when it forks its workers.
visited.send_async(None, n="first", wait=True)
visited.send_async(None, n="second")
get_default_executor().submit(int).result(20)
