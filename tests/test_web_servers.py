"""Real servers and frameworks under load: each request is told of once, from start to end."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import load
import processes
import pytest
from helpers import TIMEOUT, VOLUME, wait_until

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="hands its listening socket to a process"),
    pytest.mark.unmeasured,
]

GONE = 5

# Kept for longer than a busy machine may keep a client waiting.
GUNICORN = "gunicorn --workers=2 --worker-class=gthread --threads=8 --keep-alive=60"
WSGIREF = "web_apps.py wsgiref"
WAITRESS = "web_apps.py waitress"
HTTPTOOLS, H11 = (f"uvicorn --timeout-keep-alive=60 --http={kind}" for kind in ("httptools", "h11"))

SERVED = [
    (WSGIREF, "plain", ""),
    (WAITRESS, "flask", "background"),
    (GUNICORN, "flask", ""),
    (f"{GUNICORN} --preload", "flask", "background"),
    (HTTPTOOLS, "starlette", ""),
    (H11, "starlette", "background"),
]

OF_EACH = VOLUME // 100  # of each kind that is rare: see load.py
ERRORS = {
    "plain": {"error None": OF_EACH, "exception": OF_EACH},
    "flask": {"finished 500": OF_EACH},  # Flask answers errors itself
    "starlette": {"error 500": OF_EACH, "exception": OF_EACH},  # it answers, and raises again
}
"""What is told of the requests for ``/error``, beside their start."""


class Served:
    """A server process, and what it has noted so far."""

    def __init__(self, port: int, notes: Path, log: Path) -> None:
        self.port, self.notes, self.log = port, notes, log

    def noted(self) -> "Counter[str]":
        return Counter(self.notes.read_text().splitlines()) if self.notes.exists() else Counter()

    def wait_for(self, lines: int) -> None:
        """Wait until it has noted so many signals."""
        wait_until(lambda: self.notes.read_bytes().count(b"\n") >= lines)


@contextlib.contextmanager
def serving(tmp_path: Path, server: str, app: str, background: str) -> Iterator[Served]:
    command, *arguments = server.split()
    for needed in {command, app, *(["httptools"] if "httptools" in server else [])}:
        if needed in ("gunicorn", "uvicorn", "httptools", "flask", "starlette"):
            pytest.importorskip(needed)
    if "waitress" in arguments:
        pytest.importorskip("waitress")
    served = Served(0, tmp_path / "notes", tmp_path / "log")
    with (
        socket.create_server(("127.0.0.1", 0), backlog=1024) as listening,
        served.log.open("w") as output,
    ):
        served.port = listening.getsockname()[1]
        descriptor = str(listening.fileno())
        here = Path(__file__).parent
        if command == "web_apps.py":
            full = [str(here / command), *arguments, app, descriptor]
        elif command == "gunicorn":
            full = ["-m", *server.split(), f"--chdir={here}", f"--bind=fd://{descriptor}"]
            full.append(f"web_apps:{app}")
        else:
            full = ["-m", *server.split(), f"--app-dir={here}", f"--fd={descriptor}"]
            full += ["--log-level=warning", f"web_apps:{app}"]
        more = {"BACKGROUND": "1"} if background else {}
        process = subprocess.Popen(
            [sys.executable, *full],
            env=processes.environment(NOTES=str(served.notes), HOME=str(tmp_path), **more),
            pass_fds=[listening.fileno()],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield served
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(TIMEOUT)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait(TIMEOUT)
                print(served.log.read_text()[-4000:])  # shown where the test fails


@pytest.mark.parametrize(("server", "app", "background"), SERVED, ids=lambda value: value)
def test_every_request_to_a_real_server_is_told_of_once(
    tmp_path: Path, server: str, app: str, background: str
) -> None:
    expected = Counter(
        {
            "started": VOLUME + GONE,
            "finished 200": VOLUME - 2 * OF_EACH,
            "finished 204": OF_EACH,
            "disconnected 200": GONE,
            **ERRORS[app],
        }
    )
    with serving(tmp_path, server, app, background) as served:
        answers = load.make_requests(served.port, VOLUME)
        load.go_away(served.port, GONE)
        served.wait_for(expected.total())
    assert answers == {
        ("GET", "/ok", 200): VOLUME - 5 * OF_EACH,
        ("HEAD", "/ok", 200): OF_EACH,
        ("GET", "/stream", 200): OF_EACH,
        ("GET", "/file", 200): OF_EACH,
        ("GET", "/none", 204): OF_EACH,
        ("GET", "/error", 500): OF_EACH,
    }
    assert served.noted() == expected


@pytest.mark.skipif(load.wrk() is None, reason="wrk is not installed")
@pytest.mark.parametrize(("server", "app"), [(GUNICORN, "plain"), (HTTPTOOLS, "starlette")])
def test_requests_of_a_load_generator_are_told_of_once(
    tmp_path: Path, server: str, app: str
) -> None:
    connections = 50
    with serving(tmp_path, server, app, "") as served:
        answers = load.run_wrk(served.port, connections)
        served.wait_for(2 * answers)
    noted = served.noted()  # all of them: the server has ended
    assert answers <= noted["started"] <= answers + connections  # those that its end cut off
    assert answers <= noted["finished 200"] + noted["disconnected 200"] == noted["started"]
    assert noted.keys() <= {"started", "finished 200", "disconnected 200"}
