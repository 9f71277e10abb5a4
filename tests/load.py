"""Clients by the hundred: each request is answered, and the answers are counted."""

import contextlib
import re
import shutil
import socket
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from helpers import TIMEOUT

Kind = tuple[str, str]
"""Method and path."""

USUAL: Kind = ("GET", "/ok")
RARE: list[Kind] = [
    ("GET", "/error"),
    ("GET", "/stream"),
    ("GET", "/file"),
    ("GET", "/none"),
    ("HEAD", "/ok"),
]


def kind(number: int) -> Kind:
    """Of request ``number``: one in a hundred is of each rare kind."""
    return dict(enumerate(RARE)).get(number % 100, USUAL)


class Client:
    """One connection, kept as long as the server keeps it. Knows just enough HTTP to be fast."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._received = b""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._received = None, b""

    def request(self, method: str, path: str) -> tuple[int, bytes]:
        """Status and body; raises when the server does not answer."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT)
        # A server that sends head and body apart would else wait for our acknowledgement (Nagle).
        if hasattr(socket, "TCP_QUICKACK"):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        while b"\r\n\r\n" not in self._received:
            assert self._receive(), "the server closed the connection"
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, _, headers = head.lower().partition(b"\r\n")
        status = int(first.split()[1])
        body = b""
        if method == "HEAD" or status == 204:
            pass
        elif length := re.search(rb"content-length: *(\d+)", headers):
            while len(self._received) < int(length[1]):
                assert self._receive(), "the body is cut off"
            body, self._received = self._received, b""
        elif b"transfer-encoding: chunked" in headers:
            while not (b"\r\n" + self._received).endswith(b"\r\n0\r\n\r\n"):
                assert self._receive(), "the body is cut off"
            body, self._received = self._received, b""
        else:
            while self._receive():
                pass
            body = self._received
            self.close()
        # After an error uvicorn closes the connection without a word.
        if status == 500 or first.startswith(b"http/1.0") or b"connection: close" in headers:
            self.close()
        return status, body

    def _receive(self) -> bytes:
        assert self._socket is not None
        received = self._socket.recv(65536)
        self._received += received
        return received


def make_requests(port: int, number: int, clients: int = 16) -> "Counter[tuple[str, str, int]]":
    """Make that many requests on kept connections; how many answers of each method, path, status.

    A request that is not answered raises; none is made twice.
    """

    def run(first: int) -> "Counter[tuple[str, str, int]]":
        answers: Counter[tuple[str, str, int]] = Counter()
        with contextlib.closing(Client(port)) as client:
            for each in range(first, number, clients):
                method, path = kind(each)
                status, body = client.request(method, path)
                assert status != 200 or (body == b"") is (method == "HEAD"), (path, body)
                answers[method, path, status] += 1
        return answers

    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(run, range(clients)), Counter())


def go_away(port: int, times: int) -> None:
    """Ask for what never ends, so many times, and go away when it has begun."""
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: here\r\n\r\n")
            received = b""
            while b"endless" not in received:
                received += connection.recv(4096)


def wrk() -> str | None:
    """Where the load generator of that name is, if anywhere."""
    return shutil.which("wrk")


def run_wrk(port: int, connections: int = 50, seconds: int = 2) -> int:
    """How many answers it got. So many more may have been cut off when its time was over."""
    done = subprocess.run(
        [
            *("wrk", "--threads=1", f"--connections={connections}", f"--duration={seconds}s"),
            f"http://127.0.0.1:{port}/ok",
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert "Non-2xx" not in done.stdout, done.stdout
    [line] = [line for line in done.stdout.splitlines() if " requests in " in line]
    return int(line.split()[0])
