"""``SignalMiddleware``: the signals of ``tsignals.http`` for any ASGI application.

Have the server run ``SignalMiddleware(app)`` in place of ``app``.
"""

# Threads and tasks
#     One request runs in one event loop, in the task of its server and in tasks of its application;
#     different requests may run in loops of different threads. There is no lock.
#
#     A1  What a request still has to send stands in a list; who pops one sends it (http._sends Q2).
#         That is the task that concludes the request; else, where that task was cancelled before it
#         began or its loop was closed, its callback or the request's finalizer, which call the
#         receivers where they are.
#     A2  What concludes a request is a task of its own, which a cancellation of the request's task
#         does not reach: after one, an ``await`` may raise again at once. ``_tasks`` (http._asgi)
#         refers to it until it has ended, for an event loop does not. At its end a loop cancels all
#         tasks, and waits for them: this one goes on. For those that begin as it cancels the
#         requests it waits as it closes its asynchronous generators: ours does that, which a timer
#         of the loop keeps.
#     A3  ``http.disconnect`` is also how servers say that all is said. Some do so while their
#         ``send`` of the last message has not returned (Hypercorn), so from its call on it is no
#         news: if the client has gone, a ``send`` that tells raises ``OSError``.

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import TypeAlias

from tsignals.http._asgi import Receive, Request, Scope, Send
from tsignals.http._sends import Sends, check

__all__ = ["SignalMiddleware"]

Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class SignalMiddleware:
    """An ASGI application that is ``app``, and tells of its requests by ``tsignals.http``.

    app: the ASGI 3 application.
    sender: what receivers connect to; ``None``: ``app``.
    background: run receivers with ``send_async``. They get a copy of ``scope``, taken when the
        request starts. Else ``asend_robust`` runs them: sync ones on another thread.
    executor: where, instead of the signals' own executor; needs ``background=True``.

    Only ``http`` is watched; ``lifespan`` and ``websocket`` pass through untouched. Where nobody
    listens when a request starts, so does that, and nothing is sent of it. Errors of receivers, and
    of sends, are logged and never reach the client or the server. What is no ``Exception``
    propagates.

    ``request_finished`` is sent when ``app`` has returned; its ``seconds`` end with the last
    message of the response.

    Raises ``TypeError`` for an ``app`` that cannot be called, and for a ``background`` or
    ``executor`` of the wrong type; ``ValueError`` for an ``executor`` without ``background``.

    Thread safety: any number of requests at once, in any number of event loops.
    """

    def __init__(
        self,
        app: Application,
        *,
        sender: object = None,
        background: bool = False,
        executor: Executor | None = None,
    ) -> None:
        check(app, background, executor)
        self._app = app
        self._sends = Sends(app if sender is None else sender, background, executor)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._sends.heard():
            return await self._app(scope, receive, send)
        request = Request(self._sends, scope, receive, send)
        try:
            await request.start()
            await self._app(scope, request.receive, request.send)
        except asyncio.CancelledError:
            request.conclude("cancelled")
            raise
        except GeneratorExit:  # the coroutine is thrown away, on whatever thread
            request.conclude("cancelled", here=True)
            raise
        except BaseException as error:
            if (over := request.conclude("error", error)) is not None:
                await over
            raise
        # Without its last message: an error, but for that there is no exception.
        if (over := request.conclude("error")) is not None:
            await over
