"""``SignalMiddleware``: the signals of ``tsignals.http`` for any WSGI application.

Threads
    One request is worked on by one thread at a time, but not always by the same one: a server may
    iterate here and close there, in another context, or twice at once. So nothing here is tied to
    a thread or a context, and there is no lock: a finalizer could come upon one.

    W1  ``_Request`` refers to no iterable, and the application's generator refers only to it (by
        ``start_response``). So a response that an adapter drops unclosed dies with its last
        reference, and its finalizer sends; no cycle has to wait for the collector.
    W2  ``request_finished`` is sent by who pops the request's token (http._sends Q2): the first
        ``close``, else the finalizer, else the ``except`` around the call of the application,
        after which no server calls ``close``. The application's ``close`` is called by the first
        ``close`` only.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from inspect import iscoroutinefunction
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tsignals.http import got_request_exception, request_finished, request_started
from tsignals.http._sends import Sends, check, log_failed_send

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import WSGIApplication

__all__ = ["SignalMiddleware"]

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]


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

    Raises ``TypeError`` for an ``app`` that cannot be called or is async, for a ``background`` that
    is no bool and an ``executor`` that is none; ``ValueError`` for one without ``background``.

    Thread safety: any number of requests at once. One response belongs to one thread at a time, as
    in PEP 3333, but may be closed from any, and more than once.
    """

    def __init__(
        self,
        app: "WSGIApplication",
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

    def __call__(self, environ: Environ, start_response: StartResponse) -> "Iterable[bytes]":
        if not self._sends.heard():
            return self._app(environ, start_response)
        request = _Request(self._sends, environ, start_response)
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


def _path(environ: Environ) -> str:
    """The whole path as text. As ASGI servers do, what is no UTF-8 becomes U+FFFD."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    if path.isascii():
        return path
    try:
        return path.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return path  # not as PEP 3333 wants it: this server has decoded it


class _Request:
    """What is known of one request and of what the application has said about its response."""

    __slots__ = (
        "_headers",
        "_method",
        "_outcome",
        "_path",
        "_sends",
        "_start_response",
        "_started",
        "_status",
        "_token",
        "_values",
        "_write",
        "gone",
        "written",
    )
    _write: Callable[[bytes], object]

    def __init__(self, sends: Sends, environ: Environ, start_response: StartResponse) -> None:
        self._started = perf_counter()
        self._sends = sends
        self._start_response = start_response
        self._method: str = environ.get("REQUEST_METHOD", "")
        self._path = _path(environ)
        if sends.background:
            environ = environ.copy()
            environ.pop("wsgi.input", None)  # it is the server's again when the request ends
        self._values = environ
        self._status: str | None = None
        self._headers: Any = ()
        self._outcome: str | None = None
        self._token = [None]
        self.gone = False
        self.written = 0

    def seconds(self) -> float:
        return perf_counter() - self._started

    # -- What is sent --

    def start(self) -> None:
        sends = self._sends
        try:
            sends.started(sends.sender, environ=self._values, method=self._method, path=self._path)
        except Exception:
            log_failed_send(request_started, self._method, self._path)

    def failed(self, error: BaseException) -> None:
        """The application raised; unless that is because the client has gone away, tell."""
        if self.gone:
            return
        self._outcome = "error"
        sends = self._sends
        try:
            sends.failed(
                sends.sender,
                environ=self._values,
                method=self._method,
                path=self._path,
                exception=error,
            )
        except Exception:
            log_failed_send(got_request_exception, self._method, self._path)

    @property
    def unfinished(self) -> bool:
        return bool(self._token)

    def claim(self) -> bool:
        """Whether the caller, and nobody else, is to end this request (W2)."""
        try:
            self._token.pop()
        except IndexError:
            return False
        return True

    def finish(self, seconds: float, ended: bool) -> None:
        """Send ``request_finished``; only who has claimed may (W2)."""
        sends = self._sends
        try:
            sends.finished(
                sends.sender,
                environ=self._values,
                method=self._method,
                path=self._path,
                status=self.status(),
                seconds=seconds,
                outcome=self._outcome or ("finished" if ended else "disconnected"),
            )
        except Exception:
            log_failed_send(request_finished, self._method, self._path)

    # -- What the application calls --

    def start_response(
        self, status: str, headers: Any, exc_info: Any = None
    ) -> Callable[[bytes], object]:
        if exc_info is None:
            self._write = self._start_response(status, headers)
        else:
            try:
                self._write = self._start_response(status, headers, exc_info)
            finally:
                exc_info = None  # its traceback refers to this frame
        # Where the server raised (the headers were out), what it has sent still holds.
        self._status, self._headers = status, headers
        return self.write

    def write(self, data: bytes) -> object:
        try:
            result = self._write(data)
        except Exception as error:
            # waitress has its own kind. What else a server raises here is a mistake in the call.
            if isinstance(error, OSError) or type(error).__name__ == "ClientDisconnected":
                self.gone = True
                self._outcome = self._outcome or "disconnected"
            raise
        self.written += len(data)
        return result

    # -- What follows from it --

    def status(self) -> int | None:
        try:
            return None if self._status is None else int(self._status[:3])
        except (TypeError, ValueError):
            return None  # the server has refused it

    def is_bodiless(self) -> bool:
        """Whether the client gets no body, whatever the application gives."""
        if self._method == "HEAD":
            return True
        status = self.status()
        return status is not None and (status < 200 or status in (204, 304))

    def is_all_of_it(self, size: int) -> bool:
        """Whether the application has announced no more than ``size`` bytes."""
        try:
            lengths = [int(v) for name, v in self._headers if name.lower() == "content-length"]
        except Exception:
            return False  # no headers; the server has refused them
        return bool(lengths) and size >= lengths[-1]


class _Response:
    """The application's iterable, watched: is it exhausted, does it raise, when is it closed?

    A class, for a generator that was never started runs nothing when it is closed.
    """

    __slots__ = ("__weakref__", "_bytes", "_chunks", "_exhausted", "_iterable", "_next", "_request")

    def __init__(self, request: _Request, iterable: "Iterable[bytes]") -> None:
        self._request = request
        self._iterable = iterable
        self._next: Callable[[], bytes] | None = None
        self._chunks = self._bytes = 0
        self._exhausted = False

    def __iter__(self) -> Iterator[bytes]:
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
        if type(chunk) is bytes:
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
