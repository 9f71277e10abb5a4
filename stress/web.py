"""What the middlewares cost: requests a second of real servers, bare against watched.

Each candidate is served by a process of its own on one core; the client has another one, and keeps
a few connections so busy that the server never waits. In each round every candidate gets some
requests, in a new order, so that what else the machine does falls on all of them; what counts is
the median, over the rounds, of a candidate's rate by that of the bare application in that round.
The server's own processor time is shown beside it: it says the same where the machine is busy.

    python -m stress web                  two servers, four or five candidates each
    python -m stress web --server waitress --rounds 30
"""

import argparse
import contextlib
import importlib.util
import logging
import os
import random
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stress._run import add_hang, add_json, hang_detector, progress, python, write_report
from tsignals import asgi, wsgi
from tsignals.http import request_finished

BARS: dict[str, dict[str, float | None]] = {
    "waitress": {"nobody": 0.97, "sync": 0.94, "background": 0.90, "submit": None},
    "uvicorn": {"nobody": 0.97, "sync": 0.93, "background": 0.90, "async": None},
}
WHAT = {
    "nobody": "nobody connected",
    "sync": "one sync receiver",
    "background": "one receiver in the background",
    "async": "one async receiver",
    "submit": "bare, with a submit() to a pool",  # what waking a thread costs anybody
}
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
CONNECTIONS = 4
BODY = 20  # bytes
IDLE = 3600  # seconds that connections are kept while the others have their turn


# -- The server's process --


def wsgi_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = b"%020.9f" % time.process_time()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    body = b"%020.9f" % time.process_time()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def submitting(app: Any) -> Any:
    """``app``, bare, that also wakes a thread of the standard library's pool."""
    pool = ThreadPoolExecutor(1)

    def call(environ: dict[str, Any], start_response: Any) -> Any:
        pool.submit(int)
        return app(environ, start_response)

    return call


def hear(**named: Any) -> None:
    pass


async def hear_async(**named: Any) -> None:
    pass


def serve(server: str, candidate: str, listening: socket.socket) -> None:
    app: Any = wsgi_app if server == "waitress" else asgi_app
    if candidate == "submit":
        app = submitting(app)
    elif candidate != "bare":
        module: Any = wsgi if server == "waitress" else asgi
        app = module.SignalMiddleware(app, background=candidate == "background")
    if candidate in ("sync", "background"):
        request_finished.connect(hear)
    elif candidate == "async":
        request_finished.connect(hear_async)
    if server == "waitress":
        import waitress

        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it tells of each queue
        waitress.serve(app, sockets=[listening], threads=4, channel_timeout=IDLE)
    else:
        import uvicorn

        config = uvicorn.Config(
            app, lifespan="off", log_level="error", access_log=False, timeout_keep_alive=IDLE
        )
        # Not by fd=: asyncio would take the socket for a local one and leave Nagle's delays on.
        uvicorn.Server(config).run(sockets=[listening])


# -- The client --


class Client:
    """Some kept connections to one server, of which each waits for an answer at any time."""

    def __init__(self, port: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets = [
            socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(CONNECTIONS)
        ]
        for each in self._sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(each, selectors.EVENT_READ)

    def close(self) -> None:
        self._selector.close()
        for each in self._sockets:
            each.close()

    def processor_seconds(self) -> float:
        """What the server's process has used so far."""
        self._sockets[0].sendall(REQUEST)
        answer = b""
        while not is_whole(answer):
            answer += received(self._sockets[0])
        return float(answer[-BODY:])

    def measure(self, requests: int) -> tuple[float, float]:
        """Requests a second, and processor seconds of the server for each."""
        used = self.processor_seconds()
        started = time.perf_counter()
        left = requests
        for each in self._sockets:
            each.sendall(REQUEST)
            left -= 1
        answered = 0
        answers = dict.fromkeys(self._sockets, b"")
        while answered < requests:
            for key, _ in self._selector.select(30):
                connection: Any = key.fileobj
                answer = answers[connection] + received(connection)
                if not is_whole(answer):
                    answers[connection] = answer
                    continue
                answers[connection] = b""
                answered += 1
                if left:
                    left -= 1
                    connection.sendall(REQUEST)
        taken = time.perf_counter() - started
        return requests / taken, (self.processor_seconds() - used) / requests


def received(connection: socket.socket) -> bytes:
    piece = connection.recv(4096)
    if not piece:
        raise RuntimeError("the server has closed a connection that was to be kept")
    return piece


def is_whole(answer: bytes) -> bool:
    return answer[:-BODY].endswith(b"\r\n\r\n")


def pin(core: int) -> None:
    """Keep this process on one of the cores it may use, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


@contextlib.contextmanager
def served(server: str, candidate: str) -> Iterator[Client]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        descriptor = listening.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "stress.web", server, candidate, str(descriptor)],
            pass_fds=[descriptor],
            stdin=subprocess.PIPE,
        )
        try:
            with contextlib.closing(Client(listening.getsockname()[1])) as client:
                yield client
        finally:
            process.terminate()
            process.communicate(timeout=30)


# -- The command --

Figures = dict[str, list[tuple[float, float]]]


def measure(server: str, rounds: int, requests: int, alive: Any) -> Figures:
    figures: Figures = {}
    order = random.Random(1)
    with contextlib.ExitStack() as stack:
        candidates = ["bare", *BARS[server]]
        clients = {each: stack.enter_context(served(server, each)) for each in candidates}
        before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        pin(1)
        try:
            for client in clients.values():
                client.measure(requests)  # to warm up
            with progress(rounds, "round", server) as bar:
                for _ in range(rounds):
                    for each in order.sample(candidates, len(candidates)):
                        figures.setdefault(each, []).append(clients[each].measure(requests))
                        alive()
                    bar.update()
        finally:
            if before is not None:
                os.sched_setaffinity(0, before)
    return figures


def report(server: str, figures: Figures) -> dict[str, dict[str, float]]:
    bare = figures["bare"]
    rate = statistics.median(rate for rate, _ in bare)
    print(f"{server}: bare application, {rate:,.0f} requests/s")
    found = {"bare": {"rate": rate}}
    for candidate, bar in BARS[server].items():
        pairs = list(zip(figures[candidate], bare, strict=True))
        ratio = statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)
        processor = statistics.median(theirs[1] / ours[1] for ours, theirs in pairs)
        added = statistics.median((ours[1] - theirs[1]) * 1e6 for ours, theirs in pairs)
        verdict = "no bar" if bar is None else f"bar {bar:.2f} "
        if bar is not None:
            verdict += "ok" if ratio >= bar else f"short by {bar - ratio:.3f}"
        print(
            f"  {WHAT[candidate]:<32}{ratio:6.3f}  {verdict:<24}"
            f"(by processor time {processor:.3f}, {added:+.0f} us)"
        )
        found[candidate] = {"ratio": ratio, "processor": processor, "added_us": added}
    return found


def run(arguments: argparse.Namespace) -> int:
    missing = [name for name in arguments.server if importlib.util.find_spec(name) is None]
    if missing or sys.platform == "win32":
        print(f"needs {', '.join(missing) or 'a system that can hand sockets to processes'}")
        return 2
    print(
        f"web: {python()}, {arguments.rounds} rounds of {arguments.requests} requests", flush=True
    )
    found = {}
    with hang_detector(arguments.hang) as alive:
        for server in arguments.server:
            figures = measure(server, arguments.rounds, arguments.requests, alive)
            found[server] = report(server, figures)
    write_report(arguments.json, {"python": python(), "figures": found})
    return 0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("web", help="what the signals of requests cost real servers")
    parser.add_argument(
        "--server", nargs="+", choices=[*BARS], default=[*BARS], help="default: all of them"
    )
    parser.add_argument("--rounds", type=int, default=25, help="default: %(default)s")
    parser.add_argument("--requests", type=int, default=1_000, metavar="N", help="in each round")
    add_hang(parser, 60.0)
    add_json(parser)
    parser.set_defaults(run=run)


def end_with_parent() -> None:
    """However it ends: the hang detector cleans up nothing."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    pin(0)
    threading.Thread(target=end_with_parent, daemon=True).start()
    serve(sys.argv[1], sys.argv[2], socket.socket(fileno=int(sys.argv[3])))
