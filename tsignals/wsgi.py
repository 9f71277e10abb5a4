"""``SignalMiddleware``: the signals of ``tsignals.http`` for any WSGI application.

Have the server run ``SignalMiddleware(app)`` in place of ``app``.
"""

# Threads
#     One request is worked on by one thread at a time, but not always by the same one: a server may
#     iterate here and close there, in another context, or twice at once. So nothing here is tied to
#     a thread or a context, and there is no lock: a finalizer could come upon one.
#
#     W1  ``Request`` (http._wsgi) refers to no iterable, and the application's generator refers to
#         nothing else of ours (by ``start_response``). So a response that an adapter drops unclosed
#         dies with its last reference, and its finalizer sends; no cycle waits for the collector.
#     W2  ``request_finished`` is sent by who pops it from what the request still has to send
#         (http._sends Q2): the first ``close``, else the finalizer, else the ``except`` around the
#         call of the application, after which no server calls ``close``. The application's
#         ``close`` is called by the first ``close`` only.

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from inspect import iscoroutinefunction
from wsgiref.types import WSGIApplication, WSGIEnvironment

from tsignals.http._sends import Sends, check
from tsignals.http._wsgi import Request, StartResponse

__all__ = ["SignalMiddleware"]


class SignalMiddleware:
    """A WSGI application that is ``app``, and tells of its requests by ``tsignals.http``.

    app: the WSGI application.
    sender: what receivers connect to; ``None``: ``app``. A bound method (``app.wsgi_app``) is
        another object each time and could not be connected to: then pass the ``app``.
    background: run receivers with ``send_async``. They get a copy of ``environ``, taken when the
        request starts, without ``wsgi.input``.
    executor: where, instead of the signals' own executor; needs ``background=True``.

    Where nobody listens when a request starts, nothing is sent of it, and the server gets the very
    iterable that ``app`` returned. Errors of receivers, and of sends, are logged and never reach
    the client. What is no ``Exception`` propagates.

    Raises ``TypeError`` for an ``app`` that cannot be called or is async, and for a ``background``
    or ``executor`` of the wrong type; ``ValueError`` for an ``executor`` without ``background``.

    Thread safety: any number of requests at once. One response belongs to one thread at a time, as
    in PEP 3333, but may be closed from any, and more than once.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        sender: object = None,
        background: bool = False,
        executor: Executor | None = None,
    ) -> None:
        check(app, background, executor)
        if iscoroutinefunction(app) or iscoroutinefunction(type(app).__call__):
            raise TypeError(f"{app!r} is async, so no WSGI application; use tsignals.asgi")
        self._app = app
        self._sends = Sends(app if sender is None else sender, background, executor)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not self._sends.heard():
            return self._app(environ, start_response)
        request = Request(self._sends, environ, start_response)
        try:
            request.start()
            iterable = self._app(environ, request.start_response)
        except BaseException as error:
            seconds = request.seconds()
            try:
                request.failed(error)
            finally:
                if request.claim():  # there is nothing that the server could close
                    request.finish(seconds, ended=False)
            raise
        wrapper = environ.get("wsgi.file_wrapper")
        if hasattr(type(iterable), "__len__") and not (
            # The length of a server's file wrapper is no number of chunks (waitress: of bytes).
            isinstance(wrapper, type) and isinstance(iterable, wrapper)
        ):
            return _SizedResponse(request, iterable)
        return _Response(request, iterable)


class _Response:
    """The application's iterable, watched: is it exhausted, does it raise, when is it closed?

    A class, for a generator that was never started runs nothing when it is closed.
    """

    __slots__ = ("__weakref__", "_bytes", "_chunks", "_exhausted", "_iterable", "_next", "_request")

    def __init__(self, request: Request, iterable: Iterable[bytes]) -> None:
        self._request = request
        self._iterable = iterable
        self._next: Callable[[], bytes] | None = None
        self._chunks = self._bytes = 0
        self._exhausted = False

    def __iter__(self) -> Iterator[bytes]:
        if self._next is None:  # asked again, it goes on: one may look at the first chunk
            try:
                self._next = iter(self._iterable).__next__
            except BaseException as error:
                self._request.failed(error)
                raise
        return self

    def __next__(self) -> bytes:
        if self._next is None:
            iter(self)
        try:
            chunk = self._next()  # type: ignore[misc]
        except StopIteration:
            self._exhausted = True
            raise
        except BaseException as error:
            self._request.failed(error)
            raise
        self._chunks += 1
        if issubclass(type(chunk), bytes):
            self._bytes += len(chunk)
        return chunk

    def close(self) -> None:
        """The server is done with the response; only the first call has an effect (W2)."""
        request = self._request
        if not request.claim():
            return
        seconds = request.seconds()
        ended = self._exhausted or self._is_complete()  # asked before close() may empty it
        try:
            # The iterable's, not the iterator's: PEP 3333.
            if (close := getattr(self._iterable, "close", None)) is not None:
                close()
        except BaseException as error:
            request.failed(error)
            raise
        finally:
            request.finish(seconds, ended)

    def __del__(self) -> None:
        # An adapter that never closes. The application's close() is left alone, as without us:
        # a finalizer runs wherever the last reference goes.
        request = self._request
        if request.unfinished and request.claim():
            request.finish(request.seconds(), self._exhausted or self._is_complete())

    def _is_complete(self) -> bool:
        """Whether there is nothing more to ask for, though the iterable was not asked."""
        request = self._request
        return request.is_bodiless() or request.is_all_of_it(self._bytes + request.written)


class _SizedResponse(_Response):
    """Of an iterable that has a length: waitress makes ``Content-Length`` of it."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]

    def _is_complete(self) -> bool:
        try:
            complete = self._chunks >= len(self)
        except Exception:
            complete = False
        return complete or super()._is_complete()
