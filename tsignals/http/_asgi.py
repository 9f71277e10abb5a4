"""One ASGI request: what is known of it, what its application says, and what concludes it.

Which task it is in, and who may send what, ``tsignals.asgi`` says.
"""

import asyncio
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias

from tsignals import Signal
from tsignals.http import got_request_exception, request_finished, request_started
from tsignals.http._sends import Sends

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = Message
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

# By their event loops, which are few (asgi A2). A loop's entry is changed on its own thread only,
# but for one that is closed: who comes upon that takes it out, in one step.
_tasks: dict[asyncio.AbstractEventLoop, set[asyncio.Task[None]]] = {}
_waiting: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()  # they have that


class Request:
    """What is known of one request and of what the application has sent of its response."""

    __slots__ = (
        "__weakref__",
        "_ended",
        "_ending",
        "_gone",
        "_last",
        "_named",
        "_receive",
        "_seconds",
        "_send",
        "_sends",
        "_started",
        "_status",
        "_told",
        "_trailers",
    )

    def __init__(self, sends: Sends, scope: Scope, receive: Receive, send: Send) -> None:
        self._started = perf_counter()
        self._sends = sends
        self._receive = receive
        self._send = send
        self._named: dict[str, object] = {
            "scope": dict(scope) if sends.background else scope,
            "method": scope.get("method", ""),
            "path": scope.get("path", ""),  # the root_path is at its beginning
        }
        self._status: int | None = None
        self._trailers = False  # announced, and end the response in place of its body
        self._ended = self._ending = False
        self._gone = self._told = False
        self._seconds = 0.0
        self._last: list[tuple[Signal, dict[str, object]]] = []  # to be sent, backwards (asgi A1)

    # -- What the application calls --

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._ended:
            if self._ending:
                self._told = True  # which of both it means is not known yet
            else:
                self._gone = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if self._is_last(kind, message):
            return await self._send_last(message)
        try:
            await self._send(message)
        except OSError:
            if not self._ended:
                self._gone = True
            raise
        if kind == "http.response.start":
            self._status = int(message["status"])
            self._trailers = message.get("trailers", False)

    def _is_last(self, kind: str, message: Message) -> bool:
        if kind == "http.response.body" or kind == "http.response.zerocopysend":
            return not message.get("more_body", False) and not self._trailers
        if kind == "http.response.pathsend":
            return not self._trailers
        return kind == "http.response.trailers" and not message.get("more_trailers", False)

    async def _send_last(self, message: Message) -> None:
        """A server may say that all is said (asgi A3) before this has returned."""
        self._ending = True
        try:
            await self._send(message)
        except asyncio.CancelledError:
            if self._told:  # and for that reason the application gave up
                self._end()
            raise
        except BaseException as error:
            if not self._ended and (self._told or isinstance(error, OSError)):
                self._gone = True
            raise
        finally:
            self._ending = False
        self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._seconds = perf_counter() - self._started

    # -- What is sent --

    async def start(self) -> None:
        if self._sends.background:
            self._sends.send(request_started, self._named)
        elif self._sends.start_is_heard():
            await self._sends.asend(request_started, self._named)

    def conclude(
        self, outcome: str, exception: BaseException | None = None, here: bool = False
    ) -> "asyncio.Future[None] | None":
        """The application is done: send what follows from that. Returns what is to be awaited.

        To cancel who awaits that does not reach what is sent (asgi A2).

        ``outcome`` holds unless the client has gone away or, without an exception, the response
        has ended. ``here``: call the receivers right here, there may be no event loop.
        """
        if not self._ended:
            self._seconds = perf_counter() - self._started
        if self._gone:
            outcome, exception = "disconnected", None
        elif outcome == "error" and exception is None and self._ended:
            outcome = "finished"
        sender = self._sends.sender
        more = {"status": self._status, "seconds": self._seconds, "outcome": outcome}
        self._last.append((request_finished, {**self._named, **more}))
        if exception is not None:
            self._last.append((got_request_exception, {**self._named, "exception": exception}))
        if (
            here
            or self._sends.background
            or not any(signal.has_listeners(sender) for signal, _ in self._last)
        ):
            self._conclude_here()
            return None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # another library's event loop
            self._conclude_here()
            return None
        if _tasks:
            _forget_closed_loops()
        over: asyncio.Future[None] = loop.create_future()
        task = _Conclusion(self._conclude(over), loop=loop)
        _tasks.setdefault(loop, set()).add(task)
        task.add_done_callback(partial(self._concluded, over))
        return over

    async def _conclude(self, over: "asyncio.Future[None]") -> None:
        loop = asyncio.get_running_loop()
        if loop not in _waiting:
            _waiting.add(loop)
            end = _wait_at_its_end()
            await anext(end)  # with this the loop knows it
            loop.call_later(1e9, end.aclose)  # thirty years: it keeps it until then
        cancelled = False
        while (pair := self._claim()) is not None:
            try:
                await self._sends.asend(*pair)
            except asyncio.CancelledError:
                cancelled = True  # what was to be sent besides is sent all the same
        if cancelled:
            raise asyncio.CancelledError
        if not over.done():
            over.set_result(None)  # here, and not in the callback: that comes a turn later

    def _conclude_here(self) -> None:
        while (pair := self._claim()) is not None:
            self._sends.send(*pair)

    def _claim(self) -> tuple[Signal, dict[str, object]] | None:
        """What the caller, and nobody else, is to send next (asgi A1)."""
        try:
            return self._last.pop()
        except IndexError:
            return None

    def _concluded(self, over: "asyncio.Future[None]", task: "asyncio.Task[None]") -> None:
        tasks = _tasks.get(task.get_loop(), set())
        tasks.discard(task)
        if not tasks:
            _tasks.pop(task.get_loop(), None)
        self._conclude_here()  # nothing, unless the task was cancelled before it began
        if over.done():
            return
        if task.cancelled():
            over.cancel()
        elif (error := task.exception()) is not None:
            over.set_exception(error)

    def __del__(self) -> None:
        self._conclude_here()  # nothing, unless the loop was closed before the task had ended


class _Conclusion(asyncio.Task[None]):
    """The task that concludes a request; the end of its event loop does not cancel it (asgi A2)."""

    def cancel(self, msg: object = None) -> bool:
        # Loops that end are not running while they cancel what is left; time limits' are.
        return self.get_loop().is_running() and super().cancel(msg)


async def _wait_at_its_end() -> AsyncGenerator[None]:
    try:
        yield
    finally:
        while tasks := _tasks.get(asyncio.get_running_loop()):
            await asyncio.wait(tasks)


def _forget_closed_loops() -> None:
    """Let go of tasks that will never run, so that their requests' finalizers do their part."""
    for loop in list(_tasks):
        if loop.is_closed():
            _tasks.pop(loop, None)
