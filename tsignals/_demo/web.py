"""The web server of the demo, and the clients that make its requests."""

import threading
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

from tsignals._demo.bookkeeping import Run
from tsignals._demo.screen import Progress

PAUSE_SECONDS = 0.010
"""Between two requests of a client. Without it the clients, which share the server's processor,
would wait for each other more than for the receivers."""
PATIENCE = 10.0
"""Seconds without any progress after which what is missing counts as lost."""


class Server(ThreadingHTTPServer):
    daemon_threads = False  # closing the server waits for its handlers
    request_queue_size = 128
    demo_run: Run


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together
    timeout = PATIENCE

    def do_GET(self) -> None:
        cast(Server, self.server).demo_run.handle(int(self.path.rpartition("/")[2]))
        body = b"thank you\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:
        """Say nothing: the access log is a receiver."""


def client(run: Run, port: int) -> None:
    """Make requests on one connection, one after the other, until none is left to make."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        while not run.stopping:
            try:
                number = run.todo.popleft()
            except IndexError:
                return
            run.asked.append(number)
            started = time.perf_counter()
            try:
                connection.request("GET", f"/order/{number}")
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    raise HTTPException(f"status {response.status}")
            except (OSError, HTTPException) as error:
                run.unanswered.append(f"request {number}: {error!r}")
                return
            run.latencies.append(time.perf_counter() - started)
            time.sleep(PAUSE_SECONDS)


def make_requests(run: Run, threads: int, progress: Progress) -> None:
    """Start the server and the clients, and wait for the last answer."""
    with Server(("127.0.0.1", 0), Handler) as server:
        server.demo_run = run
        serving = threading.Thread(target=server.serve_forever, args=(0.05,), name="demo-server")
        serving.start()
        try:
            started = time.perf_counter()
            clients = [
                threading.Thread(
                    target=client, args=(run, server.server_port), name=f"demo-client-{n}"
                )
                for n in range(threads)
            ]
            for each in clients:
                each.start()
            for each in clients:
                while each.is_alive():
                    each.join(0.1)
                    run.seconds = time.perf_counter() - started
                    answers = len(run.latencies)
                    rate = f"({answers / run.seconds:,.0f}/s)"
                    progress.show(run, "requests answered", answers, run.requests, rate)
            run.note_backlog()
            run.answered_at = time.perf_counter()
        finally:
            run.stopping = True
            server.shutdown()
            serving.join()
