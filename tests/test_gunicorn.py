"""gunicorn, the way it is run in production: loaded once, forked, with threads in each worker."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import processes
import pytest
from helpers import TIMEOUT

pytest.importorskip("gunicorn")

REQUESTS = 40


def get(port: int, n: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", f"/?{n}")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_preloaded_application_sends_in_the_background_of_every_worker(tmp_path: Path) -> None:
    notes, log = tmp_path / "notes", tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as server, log.open("w") as output:
        arguments = ["--preload", "--workers=2", "--worker-class=gthread", "--threads=2"]
        master = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "gunicorn_app:application", *arguments),
                *("--chdir", str(Path(__file__).parent), "--bind", f"fd://{server.fileno()}"),
            ],
            env=processes.environment(NOTES=str(notes), HOME=str(tmp_path)),
            pass_fds=[server.fileno()],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            with ThreadPoolExecutor(8) as clients:
                port = server.getsockname()[1]
                answers = list(clients.map(lambda n: get(port, n), range(REQUESTS)))
            master.send_signal(signal.SIGTERM)
            assert master.wait(TIMEOUT) == 0, log.read_text()
        finally:
            if master.poll() is None:
                os.killpg(master.pid, signal.SIGKILL)
                master.wait(TIMEOUT)
    noted = [line.split() for line in notes.read_text().splitlines()]
    ran = sorted(f"{n} {pid}" for n, pid, _ in noted)
    # Once, in the process that sent it; of what the master had under way, nothing elsewhere.
    assert ran == sorted([*answers, f"first {master.pid}", f"second {master.pid}"])
    assert {thread.split("_")[0] for _, _, thread in noted} == {"tsignals"}
    assert "Traceback" not in log.read_text()
