"""One WSGI request: what is known of it, what the application says of its response, and its sends.

It refers to no iterable (wsgi W1). What its thread is and who may end it, ``tsignals.wsgi`` says.
Nothing here is recorded before the server has accepted it: the last ``start_response`` that
returned holds.
"""

from collections.abc import Callable, Iterable
from time import perf_counter
from wsgiref.types import WSGIEnvironment

from tsignals.http import got_request_exception, request_finished, request_started
from tsignals.http._sends import Sends

Headers = Iterable[tuple[str, str]]
StartResponse = Callable[..., Callable[[bytes], object]]


def _path(environ: WSGIEnvironment) -> str:
    """The whole path as text. As ASGI servers do, what is no UTF-8 becomes U+FFFD."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    if path.isascii():
        return path
    try:
        return path.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return path  # not as PEP 3333 wants it: this server has decoded it


class Request:
    """What is known of one request and of what the application has said about its response."""

    __slots__ = (
        "_headers",
        "_named",
        "_outcome",
        "_sends",
        "_start_response",
        "_started",
        "_status",
        "_write",
        "gone",
        "unfinished",
        "written",
    )
    _write: Callable[[bytes], object]

    def __init__(
        self, sends: Sends, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._started = perf_counter()
        self._sends = sends
        self._start_response = start_response
        method: str = environ.get("REQUEST_METHOD", "")
        path = _path(environ)
        if sends.background:
            environ = environ.copy()
            environ.pop("wsgi.input", None)  # it is the server's again when the request ends
        self._named = {"environ": environ, "method": method, "path": path}
        self._status: str | None = None
        self._headers: Headers = ()
        self._outcome: str | None = None
        self.unfinished = [None]  # not empty until somebody has claimed to end it
        self.gone = False
        self.written = 0

    def seconds(self) -> float:
        return perf_counter() - self._started

    # -- What is sent --

    def start(self) -> None:
        self._sends.send(request_started, self._named)

    def failed(self, error: BaseException) -> None:
        """The application raised; unless that is because the client has gone away, tell."""
        if self.gone:
            return
        self._outcome = "error"
        self._sends.send(got_request_exception, {**self._named, "exception": error})

    def claim(self) -> bool:
        """Whether the caller, and nobody else, is to end this request (wsgi W2)."""
        try:
            self.unfinished.pop()
        except IndexError:
            return False
        return True

    def finish(self, seconds: float, ended: bool) -> None:
        """Send ``request_finished``; only who has claimed may (wsgi W2)."""
        outcome = self._outcome or ("finished" if ended else "disconnected")
        named = {**self._named, "status": self.status(), "seconds": seconds, "outcome": outcome}
        self._sends.send(request_finished, named)

    # -- What the application calls --

    def start_response(
        self, status: str, headers: Headers, exc_info: object = None
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
        if self._named["method"] == "HEAD":
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
