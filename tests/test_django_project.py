"""A whole project: served, and under load. The database server says how many are connected."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django_project
import processes
import pytest
import servers
from helpers import TIMEOUT, VOLUME

pytest.importorskip("django")

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and sockets")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    if request.param == "sqlite":
        yield django_project.sqlite(tmp_path / "db")
    else:
        with servers.postgresql() as server:
            yield django_project.postgresql(server)


class Served:
    """The project, served by uvicorn."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read().decode()
            assert response.status == 200, body
            return json.loads(body)
        finally:
            connection.close()


@contextlib.contextmanager
def served(directory: Path, database: dict[str, Any]) -> Iterator[Served]:
    log = directory / "log"
    given = django_project.environment(directory, database, TSIGNALS={"MAX_WORKERS": 2})
    with socket.create_server(("127.0.0.1", 0)) as listening, log.open("w") as output:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "django_project.asgi:application"),
                *("--fd", str(listening.fileno()), "--lifespan", "off"),
            ],
            cwd=directory,
            env={**os.environ, **given, "HOME": str(directory)},
            pass_fds=[listening.fileno()],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield Served(listening.getsockname()[1])
            server.send_signal(signal.SIGTERM)
            server.wait(TIMEOUT)
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait(TIMEOUT)
    assert "Traceback" not in log.read_text(), log.read_text()


@posix
def test_asgi_view_sends_on_its_own_thread_and_in_its_transaction(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    pytest.importorskip("uvicorn")
    well = {"same thread": True, "seen": 1, "mails": 1}
    with served(tmp_path, database) as server:
        assert server.get("/async/?name=a") == well
        assert server.get("/sync/?name=b&language=fr") == well
        assert server.get("/sync/?name=c&fail=1") == {**well, "left": 0}
        names = [f"n{number}" for number in range(24)]
        with ThreadPoolExecutor(6) as clients:
            paths = [
                f"/{'a' if number % 3 == 0 else ''}sync/?name={name}{'&fail=1' * (number % 3 == 1)}"
                for number, name in enumerate(names)
            ]
            answers = list(clients.map(server.get, paths))
        assert all({**answer, **well} == answer for answer in answers)
        told = server.get("/heard/")
    kept = [name for number, name in enumerate(names) if number % 3 != 1]
    whole = [name for number, name in enumerate(names) if number % 3 == 2]
    index = ["index a en", "index b fr", *(f"index {name} en" for name in kept)]
    report = ["report b fr", *(f"report {name} en" for name in whole)]
    assert told == {"quiet": True, "heard": sorted(index + report), "dropped": 2 * (1 + 8)}


MANY_SAVES = """
import contextlib
import django
django.setup()
from django.db import connections, transaction
from django.db.backends.signals import connection_created
from django.db.models.signals import post_save
from tsignals import get_default_executor
from tsignals.django import on_commit
from django_project import make_tables
from django_project.models import Mail, Order

make_tables()
COUNT, THREADS = int(sys.argv[1]), 4
pool = get_default_executor()
heard = []

@on_commit
def slow(instance, **named):
    if instance.pk % 10 == 0:
        Mail.objects.create(order=instance.name)
        assert Order.objects.filter(pk=instance.pk).exists()  # on a connection of its own
    time.sleep(0.001)
    heard.append(instance.name)

post_save.connect(slow, sender=Order)

made = []
connection_created.connect(lambda connection, **named: made.append(connection), weak=False)

def connected():
    # What the server says; with SQLite, which has none, what Django says.
    if connections["default"].vendor != "postgresql":
        return sum(each.connection is not None for each in set(made))
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return cursor.fetchone()[0]

def work(start):
    for number in range(start, COUNT, THREADS):
        with contextlib.suppress(LookupError), transaction.atomic():
            Order.objects.create(name=str(number))
            if number % 10 == 9:
                raise LookupError
    connections.close_all()

connections.close_all()
connections["default"].ensure_connection()
before = connected()
threads = [threading.Thread(target=work, args=(start,)) for start in range(THREADS)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert pool.drain(240)
deadline = time.monotonic() + 60
while connected() != before and time.monotonic() < deadline:  # workers are about to be idle
    time.sleep(0.01)
assert connected() == before, (connected(), before)
kept = sorted(str(number) for number in range(COUNT) if number % 10 != 9)
assert sorted(heard) == kept
saved = list(Order.objects.values_list("pk", flat=True))
assert (len(saved), Mail.objects.count()) == (len(kept), sum(pk % 10 == 0 for pk in saved))
stats = pool.stats()
assert (stats.submitted, stats.completed, stats.dropped) == (COUNT, len(kept), COUNT - len(kept))
print("well")
"""


def test_many_saves_lose_nothing_and_leave_as_many_connections_as_before(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    """Four threads save; of ten transactions one is rolled back, and nothing of it delivered."""
    given = django_project.environment(tmp_path, database)
    done = processes.run(MANY_SAVES.replace("sys.argv[1]", str(VOLUME)), **given)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "well\n"
