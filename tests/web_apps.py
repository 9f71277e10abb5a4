"""Applications that servers serve; what is heard of their requests is appended to a file.

    python web_apps.py SERVER APPLICATION FILE_DESCRIPTOR     for servers without a command

``NOTES`` names the file, a line for each signal: its word, then outcome and status. ``BACKGROUND``
has the receivers run in a pool.
"""

import os
import socket
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from tsignals import WorkerPool, asgi, receiver, wsgi
from tsignals.http import got_request_exception, request_finished, request_started

notes = os.open(os.environ["NOTES"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
background: dict[str, Any] = (
    {"background": True, "executor": WorkerPool(2)} if "BACKGROUND" in os.environ else {}
)
HERE = os.path.abspath(__file__)


def note(line: str) -> None:
    os.write(notes, f"{line}\n".encode())  # appended as a whole, by whatever process


@receiver(request_started)
def note_start(**named: Any) -> None:
    note("started")


@receiver(got_request_exception)
def note_exception(**named: Any) -> None:
    note("exception")


@receiver(request_finished)
def note_end(outcome: str, status: int | None, **named: Any) -> None:
    note(f"{outcome} {status}")


def endless() -> Iterator[bytes]:
    while True:
        yield b"endless" * 10_000


def _plain(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/error":
        raise ValueError("the application's own")
    if path == "/none":
        start_response("204 No Content", [])
        return []
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/stream":
        return (b"chunk" for _ in range(3))
    if path == "/endless":
        return endless()
    if path == "/file":
        return environ["wsgi.file_wrapper"](open(HERE, "rb"))  # type: ignore[no-any-return]
    return [b"ok"]


plain = wsgi.SignalMiddleware(_plain, **background)


def __getattr__(name: str) -> Any:
    """``flask`` or ``starlette``: the application of that name, made when it is asked for."""
    if name not in ("flask", "starlette"):
        raise AttributeError(name)
    globals()[name] = made = {"flask": make_flask, "starlette": make_starlette}[name]()
    return made


def make_flask() -> Any:
    from flask import Flask, Response, send_file

    app = Flask("web_apps")
    app.add_url_rule("/ok", view_func=lambda: "ok", endpoint="ok")
    app.add_url_rule("/none", view_func=lambda: ("", 204), endpoint="none")
    app.add_url_rule("/error", view_func=lambda: 1 // 0, endpoint="error")
    app.add_url_rule(
        "/stream", view_func=lambda: Response(b"chunk" for _ in range(3)), endpoint="stream"
    )
    app.add_url_rule("/endless", view_func=lambda: Response(endless()), endpoint="endless")
    app.add_url_rule("/file", view_func=lambda: send_file(HERE), endpoint="file")
    app.wsgi_app = wsgi.SignalMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, sender=app, **background
    )
    return app


def make_starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    async def ok(request: Any) -> Any:
        return PlainTextResponse("ok", background=BackgroundTask(int))

    async def none(request: Any) -> Any:
        return Response(status_code=204)

    async def error(request: Any) -> Any:
        raise ValueError("the application's own")

    async def stream(request: Any) -> Any:
        return StreamingResponse(chunk async for chunk in chunks(3))

    async def chunks(number: int) -> Any:
        for _ in range(number):
            yield b"chunk"

    async def forever(request: Any) -> Any:
        return StreamingResponse(endless())

    async def file(request: Any) -> Any:
        return FileResponse(HERE)

    views = {"ok": ok, "none": none, "error": error, "stream": stream, "file": file}
    views["endless"] = forever
    app = Starlette(routes=[Route(f"/{name}", view) for name, view in views.items()])
    return asgi.SignalMiddleware(app, **background)


def serve(server: str, app: Any, listening: socket.socket) -> None:
    if server == "waitress":
        from waitress import serve

        serve(app, sockets=[listening], threads=8)
    else:
        from socketserver import ThreadingMixIn
        from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

        class Server(ThreadingMixIn, WSGIServer):
            daemon_threads = True

        class Quiet(WSGIRequestHandler):
            def log_message(self, *arguments: Any) -> None: ...

        threaded = Server(listening.getsockname(), Quiet, bind_and_activate=False)
        threaded.socket.close()
        threaded.socket = listening
        threaded.server_name, threaded.server_port = listening.getsockname()
        threaded.setup_environ()
        threaded.set_app(app)
        threaded.serve_forever()


if __name__ == "__main__":
    _, server, name, descriptor = sys.argv
    app = globals()[name] if name in globals() else __getattr__(name)
    serve(server, app, socket.socket(fileno=int(descriptor)))
