"""The signals of a web server's requests; no framework is needed to hear them.

``tsignals.wsgi.SignalMiddleware`` and ``tsignals.asgi.SignalMiddleware`` send them. The sender is
the application, or what the middleware was told. Names and meaning of the first three words are
Django's.

request_started: before the application is called. ``environ`` (WSGI) or ``scope`` (ASGI),
    ``method``, ``path``.
got_request_exception: the application raised ``exception``; the values of ``request_started``,
    too. Not sent when the client had gone away, or the request was cancelled.
request_finished: once for each request, after its response was closed, whatever happened. The
    values of ``request_started``; ``status``, an int, or ``None`` if there never was one;
    ``seconds`` from the start to the end of the response; ``outcome``: ``"finished"``,
    ``"disconnected"``, ``"error"`` or ``"cancelled"``.
"""

from tsignals import Signal

__all__ = ["got_request_exception", "request_finished", "request_started"]

_AT_START = ("environ", "scope", "method", "path")

request_started: Signal = Signal(_AT_START)
got_request_exception: Signal = Signal((*_AT_START, "exception"))
request_finished: Signal = Signal((*_AT_START, "status", "seconds", "outcome"))
